"""Requests and tokens per minute, and concurrency, of one key or project. Times are monotonic seconds."""

from __future__ import annotations

from math import ceil

from tieline.admit.rules import MAX_ASKS, Limits, Starved
from tieline.types.errors import LimitExceeded

WINDOW_S = 60
_SLOTS = WINDOW_S + 1
"""Whole seconds that any 60 seconds can touch: with all of them counted, no 60 seconds ever hold more than the limit,
wherever they begin. The price is that room returns up to a second late."""
_STEP_S = 5
"""Other processes are told to so many seconds when room returns."""
AT_A_TIME, REQUESTS, TOKENS = range(3)
"""The shares of a gate."""
UNITS = ("requests at a time", "requests per minute", "tokens per minute")
"""In that order."""


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

    def leaving(self, now: float) -> list[tuple[int, int]]:
        """In how many seconds, at the most, how much becomes free."""
        self._advance(int(now))
        found: dict[int, int] = {}
        for age in range(_SLOTS - 1, -1, -1) if self.total else ():
            amount = self._buckets[(self._second - age) % _SLOTS]
            if amount:
                in_s = ceil((_SLOTS - age) / _STEP_S) * _STEP_S
                found[in_s] = found.get(in_s, 0) + amount
        return list(found.items())

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

    __slots__ = ("asks", "lease", "leaving", "limit", "others", "others_held", "unit")

    def __init__(self, unit: str, *, shared: bool) -> None:
        self.unit = unit
        self.limit: int | None = None
        self.lease: int | None = 0 if shared else None
        self.asks: list[int] = []
        """What each request that lacked a share would have brought this process to."""
        self.others = 0
        """What other processes use, as they told with the leases."""
        self.others_held = 0
        """The part of it that may return at any moment."""
        self.leaving: list[tuple[float, int]] = []
        """When how much of it becomes free."""

    def starve(self, name: str, amount: int, used: int, now: float, window: Window | None = None) -> None:
        """Raises when this process's part is used up: LimitStarved where another may have room."""
        if self.lease is None or self.limit is None or used + amount <= self.lease:
            return
        excess = used + self.others + amount - self.limit
        wait = 1.0 if window is None or excess <= 0 else self._wait(excess, now, window)
        if used + amount > self.limit or excess > self.others_held:
            raise _exceeded(name, self.unit, self.limit, used + self.others, wait)
        if len(self.asks) < MAX_ASKS:
            self.asks.append(used + amount)
        raise LimitStarved(
            f"{name} may use {self.limit} {self.unit}, shared out to several processes; this one's part is used up.",
            retry_after_s=wait,
            details={"limit": self.limit, "used": used + self.others, "unit": self.unit},
        )

    def _wait(self, excess: int, now: float, window: Window) -> float:
        """The seconds until so much is free, here and elsewhere."""
        for at, amount in sorted(
            [*self.leaving, *((now + in_s, amount) for in_s, amount in window.leaving(now))]
        ):
            excess -= amount
            if excess <= 0:
                return max(1.0, at - now)
        return float(_SLOTS)


class LimitStarved(LimitExceeded, Starved):
    """Only this process's share is used up: another may have room."""


class Gate:
    """The limits of one key or project and what counts against them. ``limits`` may be replaced at any time."""

    __slots__ = (
        "_limits",
        "_requests",
        "_tokens",
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
        self.shares = tuple(Share(unit, shared=shared) for unit in UNITS)
        self.limits = limits

    @property
    def limits(self) -> Limits:
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        values = (limits.concurrency, limits.requests_per_minute, limits.tokens_per_minute)
        for share, value in zip(self.shares, values, strict=True):
            share.limit = value

    def used(self, now: float) -> tuple[int, int, int]:
        """In the order of ``shares``."""
        # Waiting for nothing brings the windows up to now.
        self._requests.wait(0, 1, now)
        self._tokens.wait(0, 1, now)
        return self.inflight, self._requests.total, self._tokens.total

    def held(self, number: int, used: int) -> int:
        """The part of a share's ``used`` that may return before its time: tokens are an estimate until a request ends."""
        return used if number == AT_A_TIME or (number == TOKENS and self.inflight) else 0

    def leaving(self, number: int, now: float) -> tuple[tuple[int, int], ...]:
        """In how many seconds how much of a share becomes free by itself."""
        if number == AT_A_TIME:
            return ()
        return tuple((self._requests if number == REQUESTS else self._tokens).leaving(now))

    def check(self, tokens: int, now: float) -> None:
        """Raises LimitExceeded with the figures and when to come again; changes nothing."""
        share = self.shares[AT_A_TIME]
        if share.limit is not None:
            share.starve(self.name, 1, self.inflight, now)
            if self.inflight >= share.limit:
                raise _exceeded(self.name, share.unit, share.limit, self.inflight, 1.0)
        share = self.shares[REQUESTS]
        if share.limit is not None:
            wait = self._requests.wait(1, share.limit, now)
            share.starve(self.name, 1, self._requests.total, now, self._requests)
            if wait > 0:
                raise _exceeded(self.name, share.unit, share.limit, self._requests.total, wait)
        share = self.shares[TOKENS]
        if share.limit is not None:
            self._check_tokens(share, share.limit, tokens, now)

    def enter(self, tokens: int, now: float) -> None:
        """After ``check`` of all gates."""
        self.inflight += 1
        if self.shares[REQUESTS].limit is not None:
            self._requests.add(1, now, now)
        if self.shares[TOKENS].limit is not None and tokens:
            self._tokens.add(tokens, now, now)

    def correct(self, tokens: int, entered: float, now: float) -> None:
        """Counts what was used beyond the estimate now, and takes off what was not where it was counted."""
        if self.shares[TOKENS].limit is not None and tokens:
            self._tokens.add(tokens, entered if tokens < 0 else now, now)

    def leave(self) -> None:
        self.inflight -= 1

    def _check_tokens(self, share: Share, limit: int, tokens: int, now: float) -> None:
        if tokens > limit:
            raise LimitExceeded(
                f"{self.name} may use {limit} {share.unit}; this request alone needs about {tokens}.",
                hint="Send less, or raise the limit.",
                details={"limit": limit, "needed": tokens, "unit": share.unit},
            )
        # One token at least: a window that is full lets nothing in, whatever the estimate is.
        wait = self._tokens.wait(max(1, tokens), limit, now)
        share.starve(self.name, max(1, tokens), self._tokens.total, now, self._tokens)
        if wait > 0:
            raise _exceeded(self.name, share.unit, limit, self._tokens.total, wait)


def _exceeded(name: str, unit: str, limit: int, used: int, wait: float) -> LimitExceeded:
    return LimitExceeded(
        f"{name} may use {limit} {unit}; {used} are in use.",
        retry_after_s=wait,
        details={"limit": limit, "used": used, "unit": unit},
    )
