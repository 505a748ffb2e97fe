"""How many connections there may be, and are."""

from __future__ import annotations

from msgspec import Struct


class PoolLimits(Struct, frozen=True, kw_only=True):
    max_connections: int = 1000
    """Per origin, those being opened and those kept for the next request included. A gateway opens as many as it lets requests
    in (``server.max_concurrency``)."""
    max_waiting: int = 1000
    """Requests that may wait for a connection; one more is refused at once."""
    wait_s: float = 10.0
    idle_s: float = 55.0
    """Below the 60 s after which the load balancers in front of most providers drop an idle connection."""
