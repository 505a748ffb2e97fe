"""What is shown of health."""

from __future__ import annotations

from msgspec import Struct


class LaneView(Struct, frozen=True, kw_only=True):
    """A lane at one moment, for people and for replicas."""

    deployment: str
    credential: str
    provider: str
    edge: str | None
    state: str
    """closed | ramp | open | half_open | credential | cooling | busy | suspect"""
    success_rate: float
    latency_s: float | None
    tokens_per_s: float | None
    inflight: int
    limit: float | None
    requests_left: int | None
    tokens_left: int | None
    open_for_s: float
    """Until it is asked again; 0 when it may be."""
    retry_tokens: float
