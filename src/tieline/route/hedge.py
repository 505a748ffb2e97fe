"""When a second attempt may run beside the first: rarely, and never past a ceiling."""

from __future__ import annotations

from tieline.route.deadlines import MIN_SAMPLES
from tieline.route.health import Lane
from tieline.route.latency import size_factor

SHARE = 0.02
"""Of requests."""
BURST = 5.0
PROBE_AFTER_S = 1.0
"""A half-open probe is hedged after this at the latest, so that it risks nothing."""


class HedgeBudget:
    """At most 2 % of requests, at most 5 at once."""

    __slots__ = ("tokens",)

    def __init__(self) -> None:
        self.tokens = 1.0

    def request(self) -> None:
        if self.tokens < BURST:
            self.tokens += SHARE

    def take(self) -> bool:
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def put_back(self) -> None:
        """Of a hedge that was not sent."""
        self.tokens += 1.0


def after_s(lane: Lane, input_tokens: int, *, stream: bool, probe: bool) -> float | None:
    """The p95 of the time to first token, or to a whole answer, for this size of input. None: too little was seen to tell."""
    seen = lane.latency.first_token if stream else lane.latency.whole
    p95 = seen.p95 if seen.count >= MIN_SAMPLES else None
    usual = None if p95 is None else p95 * size_factor(input_tokens)
    if not probe:
        return usual
    return PROBE_AFTER_S if usual is None else min(usual, PROBE_AFTER_S)
