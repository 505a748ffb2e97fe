"""What response headers say about waiting and about what is left (WIRE_FACTS 33)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from time import time
from typing import NamedTuple

from tieline.types.call import Headers

MAX_WAIT_S = 86_400.0
"""Longer waits are cut to a day: no decision of ours reaches further."""
_EPOCH_S = 1_000_000_000.0
"""A number above this is a point in time (2001 or later), not a duration."""
_EPOCH_MS = 1_000_000_000_000.0
_UNITS = {
    "d": 86_400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 0.001,
    "us": 0.000_001,
    "µs": 0.000_001,
    "ns": 1e-9,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|d|h|m|s))+")


class RateLimits(NamedTuple):
    """None is unknown. Times are seconds from now."""

    requests_left: int | None = None
    requests_limit: int | None = None
    requests_reset_s: float | None = None
    tokens_left: int | None = None
    tokens_limit: int | None = None
    tokens_reset_s: float | None = None


_FIELDS: dict[bytes, str] = {
    b"x-ratelimit-remaining-requests": "requests_left",
    b"x-ratelimit-limit-requests": "requests_limit",
    b"x-ratelimit-reset-requests": "requests_reset_s",
    b"x-ratelimit-remaining-tokens": "tokens_left",
    b"x-ratelimit-limit-tokens": "tokens_limit",
    b"x-ratelimit-reset-tokens": "tokens_reset_s",
    # OpenRouter, Together and others count requests only.
    b"x-ratelimit-remaining": "requests_left",
    b"x-ratelimit-limit": "requests_limit",
    b"x-ratelimit-reset": "requests_reset_s",
    # Mistral: the minute's allowance.
    b"x-ratelimit-remaining-tokens-minute": "tokens_left",
    b"x-ratelimit-limit-tokens-minute": "tokens_limit",
    b"x-ratelimit-remaining-req-minute": "requests_left",
    b"x-ratelimit-limit-req-minute": "requests_limit",
    b"anthropic-ratelimit-requests-remaining": "requests_left",
    b"anthropic-ratelimit-requests-limit": "requests_limit",
    b"anthropic-ratelimit-requests-reset": "requests_reset_s",
    b"anthropic-ratelimit-tokens-remaining": "tokens_left",
    b"anthropic-ratelimit-tokens-limit": "tokens_limit",
    b"anthropic-ratelimit-tokens-reset": "tokens_reset_s",
}
_NAMES = frozenset(_FIELDS)


def retry_after(headers: Headers, now_unix: float) -> float | None:
    """Seconds to wait, by ``retry-after-ms``, else ``retry-after``. None: not said, or nonsense (negative, not a time)."""
    found: bytes | None = None
    for name, value in headers:
        if name == b"retry-after-ms":
            milliseconds = _number(value.decode("latin-1").strip())
            if milliseconds is not None and milliseconds >= 0.0:
                return min(milliseconds / 1000.0, MAX_WAIT_S)
        elif name == b"retry-after" and found is None:
            found = value
    return None if found is None else seconds_until(found, now_unix)


def seconds_until(value: bytes, now_unix: float) -> float | None:
    """Any of ``12``, ``1.5``, ``6m0s``, ``12ms``, an epoch (s or ms), an HTTP date, RFC 3339 -> seconds from now.

    A time that has passed is 0; a negative number is unknown (Azure has sent -1); more than a day is a day.
    """
    text = value.decode("latin-1").strip()
    number = _number(text)
    if number is not None:
        if number < 0.0:
            return None
        if number >= _EPOCH_MS:
            number = number / 1000.0 - now_unix
        elif number >= _EPOCH_S:
            number -= now_unix
        return min(max(number, 0.0), MAX_WAIT_S)
    if _DURATION.fullmatch(text):
        total = sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))
        return min(total, MAX_WAIT_S)
    moment = _moment(text)
    return None if moment is None else min(max(moment - now_unix, 0.0), MAX_WAIT_S)


def rate_limits(headers: Headers, now_unix: float | None = None) -> RateLimits | None:
    """What is left of requests and tokens. None when the headers say nothing usable; negatives mean unknown.

    Without ``now_unix`` the wall clock is read, and only when a header is about it.
    """
    found: dict[str, int | float] = {}
    for name, value in headers:
        if name not in _NAMES:
            continue
        field = _FIELDS[name]
        if field in found:
            continue
        if now_unix is None:
            now_unix = time()
        amount = seconds_until(value, now_unix) if field.endswith("reset_s") else _count(value)
        if amount is not None:
            found[field] = amount
    if "requests_left" not in found and "tokens_left" not in found:
        return None
    return RateLimits(**found)  # type: ignore[arg-type]


def _count(value: bytes) -> int | None:
    number = _number(value.decode("latin-1").strip())
    return int(number) if number is not None and number >= 0.0 else None


def _number(text: str) -> float | None:
    if len(text) > 32:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _moment(text: str) -> float | None:
    if len(text) > 64:
        return None
    try:
        if text[:4].isdigit() and "T" in text:
            moment = datetime.fromisoformat(text)
        else:
            moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
