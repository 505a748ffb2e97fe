"""Requests and tokens per minute, and concurrency, of one key or project. Times are monotonic seconds."""

from __future__ import annotations

from tieline.admit.rules import Limits, Starved
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


class Share:
    """One limit of a gate: all of it, or with several processes the part that this one was given."""

    __slots__ = ("lease", "limit", "need", "unit")

    def __init__(self, unit: str, *, shared: bool) -> None:
        self.unit = unit
        self.limit: int | None = None
        self.lease: int | None = 0 if shared else None
        self.need = 0

    def starve(self, name: str, amount: int, used: int) -> None:
        """Raises when only this process's part is used up."""
        if self.lease is not None and self.limit is not None and self.lease < used + amount <= self.limit:
            self.need = max(self.need, used + amount)
            raise LimitStarved(
                f"{name} may use {self.limit} {self.unit}, shared out to several processes; this one's part is used up.",
                retry_after_s=1.0,
                details={"limit": self.limit, "used": used, "unit": self.unit},
            )


class LimitStarved(LimitExceeded, Starved):
    """Only this process's share is used up: another may have room."""


class Gate:
    """The limits of one key or project and what counts against them. ``limits`` may be replaced at any time."""

    __slots__ = (
        "_at_a_time",
        "_limits",
        "_requests",
        "_requests_a_minute",
        "_tokens",
        "_tokens_a_minute",
        "inflight",
        "name",
        "scope",
        "shares",
    )

    def __init__(self, scope: str, name: str, limits: Limits, *, shared: bool = False) -> None:
        self.scope = scope
        self.name = name
        self.inflight = 0
        self._requests = Window()
        self._tokens = Window()
        units = ("requests at a time", "requests per minute", "tokens per minute")
        self.shares = tuple(Share(unit, shared=shared) for unit in units)
        self.limits = limits

    @property
    def limits(self) -> Limits:
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self._at_a_time = limits.concurrency
        self._requests_a_minute = limits.requests_per_minute
        self._tokens_a_minute = limits.tokens_per_minute
        values = (self._at_a_time, self._requests_a_minute, self._tokens_a_minute)
        for share, value in zip(self.shares, values, strict=True):
            share.limit = value

    def used(self, now: float) -> tuple[int, int, int]:
        """In the order of ``shares``."""
        # Waiting for nothing brings the windows up to now.
        self._requests.wait(0, 1, now)
        self._tokens.wait(0, 1, now)
        return self.inflight, self._requests.total, self._tokens.total

    def check(self, tokens: int, now: float) -> None:
        """Raises LimitExceeded with the figures and when to come again; changes nothing."""
        shares, most = self.shares, self._at_a_time
        if most is not None:
            if shares[0].lease is not None:
                shares[0].starve(self.name, 1, self.inflight)
            if self.inflight >= most:
                raise _exceeded(self.name, "requests at a time", most, self.inflight, 1.0)
        most = self._requests_a_minute
        if most is not None:
            wait = self._requests.wait(1, most, now)
            if shares[1].lease is not None:
                shares[1].starve(self.name, 1, self._requests.total)
            if wait > 0:
                raise _exceeded(self.name, "requests per minute", most, self._requests.total, wait)
        if self._tokens_a_minute is not None:
            self._check_tokens(self._tokens_a_minute, tokens, now)

    def enter(self, tokens: int, now: float) -> None:
        """After ``check`` of all gates."""
        self.inflight += 1
        if self._requests_a_minute is not None:
            self._requests.add(1, now, now)
        if self._tokens_a_minute is not None and tokens:
            self._tokens.add(tokens, now, now)

    def correct(self, tokens: int, entered: float, now: float) -> None:
        """Counts what was used beyond the estimate now, and takes off what was not where it was counted."""
        if self._tokens_a_minute is not None and tokens:
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
        if self.shares[2].lease is not None:
            self.shares[2].starve(self.name, max(1, tokens), self._tokens.total)
        if wait > 0:
            raise _exceeded(self.name, "tokens per minute", limit, self._tokens.total, wait)


def _exceeded(name: str, unit: str, limit: int, used: int, wait: float) -> LimitExceeded:
    return LimitExceeded(
        f"{name} may use {limit} {unit}; {used} are in use.",
        retry_after_s=wait,
        details={"limit": limit, "used": used, "unit": unit},
    )
