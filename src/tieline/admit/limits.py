"""Requests and tokens per minute, and concurrency, of one key or project. Times are monotonic seconds."""

from __future__ import annotations

from tieline.admit.rules import Limits
from tieline.types.errors import LimitExceeded

WINDOW_S = 60
_SLOTS = WINDOW_S + 1
"""Whole seconds that any 60 seconds can touch: with all of them counted, no 60 seconds ever hold more than the limit,
wherever they begin. The price is that room returns up to a second late."""


class Window:
    """A sliding sum over the last minute in buckets of a second."""

    __slots__ = ("_buckets", "_second", "total")

    def __init__(self) -> None:
        self._buckets = [0] * _SLOTS
        self._second = 0
        self.total = 0

    def wait(self, amount: int, limit: int, now: float) -> float:
        """0.0 when ``amount`` fits, else the seconds until it would if nothing else came."""
        self._advance(int(now))
        excess = self.total + amount - limit
        if excess <= 0:
            return 0.0
        for age in range(_SLOTS - 1, -1, -1):
            excess -= self._buckets[(self._second - age) % _SLOTS]
            if excess <= 0:
                return self._second - age + _SLOTS - now
        return float(_SLOTS)

    def add(self, amount: int, at: float, now: float) -> None:
        """Counts ``amount`` (negative to correct) where ``at`` falls; what is older than the window is ignored."""
        self._advance(int(now))
        second = int(at)
        if self._second - _SLOTS < second <= self._second:
            self._buckets[second % _SLOTS] += amount
            self.total += amount

    def _advance(self, second: int) -> None:
        gone = second - self._second
        if gone <= 0:
            return
        if gone >= _SLOTS:
            self._buckets = [0] * _SLOTS
            self.total = 0
        else:
            for index in range(self._second + 1, second + 1):
                self.total -= self._buckets[index % _SLOTS]
                self._buckets[index % _SLOTS] = 0
        self._second = second


class Gate:
    """The limits of one key or project and what counts against them. ``limits`` may be replaced at any time."""

    __slots__ = ("_requests", "_tokens", "inflight", "limits", "name")

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        self.limits = limits
        self.inflight = 0
        self._requests = Window()
        self._tokens = Window()

    def check(self, tokens: int, now: float) -> None:
        """Raises LimitExceeded with the figures and when to come again; changes nothing."""
        limits = self.limits
        if limits.concurrency is not None and self.inflight >= limits.concurrency:
            raise _exceeded(self.name, "requests at a time", limits.concurrency, self.inflight, 1.0)
        if limits.requests_per_minute is not None:
            wait = self._requests.wait(1, limits.requests_per_minute, now)
            if wait > 0:
                raise _exceeded(
                    self.name, "requests per minute", limits.requests_per_minute, self._requests.total, wait
                )
        if limits.tokens_per_minute is not None:
            self._check_tokens(limits.tokens_per_minute, tokens, now)

    def enter(self, tokens: int, now: float) -> None:
        """After ``check`` of all gates."""
        self.inflight += 1
        if self.limits.requests_per_minute is not None:
            self._requests.add(1, now, now)
        if self.limits.tokens_per_minute is not None and tokens:
            self._tokens.add(tokens, now, now)

    def correct(self, tokens: int, entered: float, now: float) -> None:
        """Counts what was used beyond the estimate now, and takes off what was not where it was counted."""
        if self.limits.tokens_per_minute is not None and tokens:
            self._tokens.add(tokens, entered if tokens < 0 else now, now)

    def leave(self) -> None:
        self.inflight -= 1

    def _check_tokens(self, limit: int, tokens: int, now: float) -> None:
        if tokens > limit:
            raise LimitExceeded(
                f"{self.name} may use {limit} tokens per minute; this request alone needs about {tokens}.",
                hint="Send less, or raise the limit.",
                details={"limit": limit, "needed": tokens, "unit": "tokens per minute"},
            )
        # One token at least: a window that is full lets nothing in, whatever the estimate is.
        wait = self._tokens.wait(max(1, tokens), limit, now)
        if wait > 0:
            raise _exceeded(self.name, "tokens per minute", limit, self._tokens.total, wait)


def _exceeded(name: str, unit: str, limit: int, used: int, wait: float) -> LimitExceeded:
    return LimitExceeded(
        f"{name} may use {limit} {unit}; {used} are in use.",
        retry_after_s=wait,
        details={"limit": limit, "used": used, "unit": unit},
    )
