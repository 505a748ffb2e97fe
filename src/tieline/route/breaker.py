"""A circuit breaker on an injected clock. ``closed`` = traffic flows."""

from __future__ import annotations

from enum import IntEnum
from math import exp
from random import Random

WINDOW_S = 30.0
MIN_REQUESTS = 5
MIN_SUCCESS = 0.8
CONSECUTIVE = 5
FIRST_OPEN_S = 5.0
MAX_OPEN_S = 30.0
MAX_DEAD_S = 300.0
"""A dead credential or an exhausted quota is asked again at least this often."""
PROBE_LOST_S = 60.0
"""A probe that never reported back frees its place after this."""
RAMP = (0.10, 0.25, 0.50)
RAMP_SUCCESSES = 3
RAMP_STAGE_S = 10.0
"""A stage of the ramp ends after this many successes or, with little traffic, seconds without a failure."""


class State(IntEnum):
    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2


class Breaker:
    """Asked before a request with ``state`` and ``share``, told after it with ``success`` or ``failure``."""

    __slots__ = (
        "_max_open_s",
        "_random",
        "_successes",
        "_total",
        "_updated",
        "clear",
        "consecutive",
        "forced",
        "open_for_s",
        "open_until",
        "probe_since",
        "stage",
        "stage_since",
        "stage_successes",
        "tripped",
    )

    def __init__(self, random: Random, *, max_open_s: float = MAX_OPEN_S) -> None:
        self._random = random
        self._max_open_s = max_open_s
        self._successes = 0.0
        self._total = 0.0
        self._updated = 0.0
        self.clear = True
        """Closed, and at full traffic: nothing to ask."""
        self.consecutive = 0
        self.tripped = False
        self.forced = False
        """A request was sent although it is open, because nothing was better."""
        self.open_for_s = 0.0
        self.open_until = 0.0
        self.probe_since: float | None = None
        self.stage = len(RAMP)
        self.stage_since = 0.0
        self.stage_successes = 0

    def state(self, now: float) -> State:
        if not self.tripped:
            return State.CLOSED
        return State.OPEN if now < self.open_until else State.HALF_OPEN

    def share(self, now: float) -> float:
        """The share of its traffic that a recovering target gets; 1 when it never failed."""
        if self.clear or self.tripped:
            return 1.0
        while self.stage < len(RAMP) and now - self.stage_since >= RAMP_STAGE_S:
            self._advance(self.stage_since + RAMP_STAGE_S)
        return RAMP[self.stage] if self.stage < len(RAMP) else 1.0

    def may_probe(self, now: float) -> bool:
        if self.state(now) is not State.HALF_OPEN:
            return False
        return self.probe_since is None or now - self.probe_since >= PROBE_LOST_S

    def begin(self, now: float) -> None:
        """A request goes out; in the half-open state it is the probe."""
        if not self.tripped:
            return
        if now < self.open_until:
            self.forced = True
        elif self.may_probe(now):
            self.probe_since = now

    def abandon(self) -> None:
        """A request ended without telling anything (the caller went away)."""
        self.probe_since = None

    def success(self, now: float) -> None:
        self._decay(now)
        self._successes += 1.0
        self._total += 1.0
        self.consecutive = 0
        if self.clear:
            return
        if self.tripped:
            # While it is open, successes are of requests sent before; but one that was sent since is as good as a probe.
            if now >= self.open_until or self.forced:
                self._close(now)
            return
        self.stage_successes += 1
        if self.stage_successes >= RAMP_SUCCESSES:
            self._advance(now)

    def failure(self, now: float) -> None:
        self._decay(now)
        self._total += 1.0
        self.consecutive += 1
        if self.tripped:
            # Late failures of requests sent before it opened prove nothing new; a failed probe does.
            if now >= self.open_until and self.probe_since is not None:
                self.trip(now)
        elif self._broken() or (not self.clear and (self.stage == 0 or self.consecutive >= 2)):
            self.trip(now)

    def trip(self, now: float, *, at_least_s: float = 0.0) -> None:
        """Open for 5 s, doubled each time until it has recovered fully, jittered so that replicas do not march."""
        if self.tripped and now < self.open_until:
            return
        self.open_for_s = min(self._max_open_s, self.open_for_s * 2 if self.open_for_s else FIRST_OPEN_S)
        held = max(self.open_for_s * self._random.uniform(0.8, 1.2), min(at_least_s, MAX_DEAD_S))
        self.open_until = now + held
        self.tripped = True
        self.forced = False
        self.clear = False
        self.probe_since = None

    def rate(self, now: float) -> float:
        """Success rate over the decayed window; 1 when nothing is known."""
        self._decay(now)
        return self._successes / self._total if self._total >= 0.5 else 1.0

    def _broken(self) -> bool:
        if self.consecutive >= CONSECUTIVE:
            return True
        # Half a request of slack: five requests within the window weigh a little less than five.
        return self._total >= MIN_REQUESTS - 0.5 and self._successes < MIN_SUCCESS * self._total

    def _close(self, now: float) -> None:
        self.tripped = False
        self.forced = False
        self.probe_since = None
        self.stage = 0
        self.stage_since = now
        self.stage_successes = 0
        # The window of the outage must not open it again at the first hiccup of the recovery.
        self._successes, self._total = 1.0, 1.0

    def _advance(self, now: float) -> None:
        self.stage += 1
        self.stage_since = now
        self.stage_successes = 0
        if self.stage >= len(RAMP):
            self.clear = True
            self.open_for_s = 0.0

    def _decay(self, now: float) -> None:
        elapsed = now - self._updated
        if elapsed > 0.0:
            self._updated = now
            if self._total > 0.0:
                factor = exp(-elapsed / WINDOW_S)
                self._successes *= factor
                self._total *= factor
