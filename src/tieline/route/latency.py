"""How fast a deployment is: peak-EWMA of the time to first token, output speed, and quantiles for deadlines.

Whole answers have no first token. What they took is divided by what was generated, so that a long one is no slow one.
"""

from __future__ import annotations

from math import exp, log

TAU_S = 60.0
SIZE_TOKENS = 8000.0
"""Input of this many tokens doubles the time to first token that is expected."""
OUTPUT_TOKENS = 30.0
"""A whole answer of this many tokens takes twice as long as its first token would: half a second of it at 60 tokens a second."""
MIN_PENALTY_S = 5.0
MAX_PENALTY_S = 300.0
COLD_SAMPLES = 10
"""Below this many samples a deployment is cold."""

_FIRST = 0.005
_GROWTH = 1.25
_LOG_GROWTH = log(_GROWTH)
_BUCKETS = 56
"""5 ms × 1.25^55 is over 1,000 s."""
_HALVE_AT = 2048
_REFRESH = 16


def size_factor(input_tokens: int) -> float:
    return 1.0 + input_tokens / SIZE_TOKENS


class Histogram:
    """Log-bucketed, and it forgets: counts are halved every 2,048 samples. Errs upwards by at most 25 %."""

    __slots__ = ("_counts", "_p95", "_p99", "_since", "count")

    def __init__(self) -> None:
        self.count = 0
        self._counts = [0] * _BUCKETS
        self._p95: float | None = None
        self._p99: float | None = None
        self._since = 0

    def add(self, seconds: float) -> None:
        index = int(log(seconds / _FIRST) / _LOG_GROWTH) + 1 if seconds > _FIRST else 0
        self._counts[index if index < _BUCKETS else _BUCKETS - 1] += 1
        self.count += 1
        self._since += 1
        if self.count >= _HALVE_AT:
            self._counts = [count >> 1 for count in self._counts]
            self.count = sum(self._counts)

    @property
    def p95(self) -> float | None:
        """None before the first sample. Recomputed every 16 samples."""
        self._refresh()
        return self._p95

    @property
    def p99(self) -> float | None:
        self._refresh()
        return self._p99

    def _refresh(self) -> None:
        if self._since and (self._p99 is None or self.count < 64 or self._since >= _REFRESH):
            self._p95, self._p99 = self._at(0.95), self._at(0.99)
            self._since = 0

    def _at(self, share: float) -> float:
        left = self.count * share
        for index, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return float(_FIRST * _GROWTH**index)
        return float(_FIRST * _GROWTH ** (_BUCKETS - 1))


class Latency:
    """All times are of a request with little input: samples are divided by ``size_factor``."""

    __slots__ = ("first_token", "gap", "peak", "samples", "speed", "typical", "updated", "whole")

    def __init__(self) -> None:
        self.peak = 0.0
        self.typical = 0.0
        """A slow average, which penalties do not touch: what ``peak`` decays towards."""
        self.updated = 0.0
        self.samples = 0
        self.speed = 0.0
        """Output tokens per second after the first; 0: unknown."""
        self.first_token = Histogram()
        self.gap = Histogram()
        self.whole = Histogram()
        """Whole answers, with all that was generated."""

    @property
    def known(self) -> bool:
        return self.samples > 0

    def observe(self, seconds: float, input_tokens: int, now: float) -> None:
        sample = seconds / size_factor(input_tokens)
        self._learn(sample, now)
        self.first_token.add(sample)

    def observe_whole(self, seconds: float, input_tokens: int, output_tokens: int, now: float) -> None:
        sample = seconds / size_factor(input_tokens)
        self._learn(sample / (1.0 + output_tokens / OUTPUT_TOKENS), now)
        self.whole.add(sample)

    def penalise(self, retry_after_s: float | None, now: float) -> None:
        """A failure counts as a first token after max(Retry-After, 5 s)."""
        self._peak(max(min(retry_after_s or 0.0, MAX_PENALTY_S), MIN_PENALTY_S), now)

    def observe_speed(self, tokens: int, seconds: float) -> None:
        if tokens >= 8 and seconds > 0.0:
            sample = tokens / seconds
            self.speed = sample if not self.speed else self.speed + 0.2 * (sample - self.speed)

    def cost(self, now: float) -> float:
        """Expected seconds to first token; a peak fades while nothing is measured, down to what is typical."""
        elapsed = now - self.updated
        if elapsed <= 0.0 or self.peak <= self.typical:
            return self.peak
        return self.typical + (self.peak - self.typical) * exp(-elapsed / TAU_S)

    def _learn(self, sample: float, now: float) -> None:
        self._peak(sample, now)
        weight = 1.0 / (self.samples + 1) if self.samples < 20 else 0.05
        self.typical += (sample - self.typical) * weight
        self.samples += 1

    def _peak(self, sample: float, now: float) -> None:
        current = self.cost(now)
        if sample >= current or not self.updated:
            self.peak = sample
        else:
            weight = exp(-max(now - self.updated, 0.0) / TAU_S)
            self.peak = current * weight + sample * (1.0 - weight)
        self.updated = now
