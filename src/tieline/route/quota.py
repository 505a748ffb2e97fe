"""What a provider still allows us: its own figures, what we spent since, and what its 429s teach."""

from __future__ import annotations

from tieline.providers.limits import RateLimits

COOL_FIRST_S = 1.0
COOL_MAX_S = 300.0
DECREASE = 0.7
UNLIMITED_ABOVE = 512.0
"""An AIMD limit that has grown beyond this is lifted."""


class Quota:
    """Of one (deployment, credential). ``clear`` means that nothing has ever been close to its end."""

    __slots__ = (
        "clear",
        "cool_until",
        "limit",
        "refusals",
        "requests_left",
        "requests_reset",
        "tokens_left",
        "tokens_reset",
        "told_until",
    )

    def __init__(self) -> None:
        self.clear = True
        self.cool_until = 0.0
        self.limit: float | None = None
        """Requests in flight that are wise; None: no 429 seen lately."""
        self.refusals = 0
        self.told_until = 0.0
        """Until when the provider itself asked us to stay away."""
        self.requests_left: float | None = None
        self.requests_reset = 0.0
        self.tokens_left: float | None = None
        self.tokens_reset = 0.0

    def allows(self, inflight: int, tokens: int, now: float) -> bool:
        """Whether a request of this many tokens is likely to be admitted."""
        if self.clear:
            return True
        if now < self.cool_until or (self.limit is not None and inflight >= self.limit):
            return False
        if self.requests_left is not None:
            if now >= self.requests_reset:
                self.requests_left = None
            elif self.requests_left < 1:
                return False
        if self.tokens_left is not None:
            if now >= self.tokens_reset:
                self.tokens_left = None
            elif self.tokens_left < tokens:
                return False
        self._settle(now)
        return True

    def begin(self, tokens: int) -> None:
        if self.requests_left is not None:
            self.requests_left -= 1
        if self.tokens_left is not None:
            self.tokens_left -= tokens

    def observe(self, limits: RateLimits, inflight: int, now: float) -> None:
        """The provider's figures replace the forecast; what is in flight may not be in them yet."""
        if limits.requests_left is not None:
            self.requests_left = float(limits.requests_left - max(inflight - 1, 0))
            self.requests_reset = now + (limits.requests_reset_s or 60.0)
            self.clear = False
        if limits.tokens_left is not None:
            self.tokens_left = float(limits.tokens_left)
            self.tokens_reset = now + (limits.tokens_reset_s or 60.0)
            self.clear = False

    def refused(self, inflight: int, retry_after_s: float | None, now: float) -> None:
        """A 429."""
        self.clear = False
        self.refusals += 1
        backoff = min(COOL_FIRST_S * 2.0 ** min(self.refusals - 1, 5), 30.0)
        self.cool_until = now + min(retry_after_s if retry_after_s is not None else backoff, COOL_MAX_S)
        self.told(retry_after_s, now)
        self.limit = max(1.0, DECREASE * (self.limit if self.limit is not None else max(inflight, 1)))

    def told(self, retry_after_s: float | None, now: float) -> None:
        """A Retry-After, on whatever status."""
        if retry_after_s is not None and retry_after_s > 0.0:
            self.clear = False
            self.told_until = max(self.told_until, now + min(retry_after_s, COOL_MAX_S))
            self.cool_until = max(self.cool_until, self.told_until)

    def accepted(self) -> None:
        self.refusals = 0
        if self.limit is not None:
            self.limit += 1.0 / self.limit
            if self.limit > UNLIMITED_ABOVE:
                self.limit = None

    def ready_in(self, now: float) -> float:
        """Seconds until the next request may be admitted, as far as is known."""
        wait = max(self.cool_until - now, 0.0)
        if self.requests_left is not None and self.requests_left < 1:
            wait = max(wait, self.requests_reset - now)
        return wait

    def _settle(self, now: float) -> None:
        if self.limit is None and self.requests_left is None and self.tokens_left is None:
            self.clear = now >= self.cool_until
