"""More than the process can do: a growing share of new requests is refused at once, before latency explodes.

``server.max_concurrency`` bounds what is under way, not what waits unread in the sockets of a loop that is behind. So the
lag of the loop is watched: while a turn takes longer than ``server.max_lag_ms`` although it is requests that fill it, the
refused share rises; while it does not, the share falls. What is refused costs a fraction of what is served, so that the
process settles where it keeps up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import random

PROBE_S = 0.05
PERCENT_A_SECOND = 150
"""By how much the share changes."""
SLACK = 50.0
"""Percent below nothing: a pause (a snapshot, a busy host) refuses nobody, the lag must last a third of a second."""
MOST = 95.0
MAX_LAG_S = 0.2
"""What one probe counts at most: a process that was stopped for a minute is not behind by a minute of requests."""
BUSY = 32
"""Requests ended between two probes; with fewer the lag is somebody else's doing, and to refuse them would not help."""


class Overload:
    """``refuses()`` says of each new request whether it is one too many. Belongs to one event loop once started."""

    def __init__(self, max_lag_s: float, ended: Callable[[], int]) -> None:
        self.max_lag_s = max_lag_s
        self.lag_s = 0.0
        """Of the last probe."""
        self.share = 0.0
        """Of new requests: what is refused now."""
        self._ended = ended
        self._counted = 0
        self._level: float = -SLACK
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self.max_lag_s and self._timer is None:
            self._counted = self._ended()
            self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def refuses(self) -> bool:
        return self.share > 0.0 and random() < self.share  # a share of traffic, not a secret

    def observe(self, lag_s: float, ended: int) -> None:
        """One probe: it came ``lag_s`` late, and ``ended`` requests ended since the one before."""
        self.lag_s = lag_s
        behind = lag_s > self.max_lag_s and ended >= BUSY
        change = PERCENT_A_SECOND * (PROBE_S + min(lag_s, MAX_LAG_S))
        self._level = min(MOST, max(-SLACK, self._level + (change if behind else -change)))
        self.share = max(0.0, self._level) / 100

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(PROBE_S, self._probe, loop, loop.time() + PROBE_S)

    def _probe(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        ended = self._ended()
        self.observe(max(0.0, loop.time() - due), ended - self._counted)
        self._counted = ended
        self._arm(loop)
