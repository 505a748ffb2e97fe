from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.providers.limits import MAX_WAIT_S, rate_limits, retry_after, seconds_until

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"12", 12.0),
        (b" 1.5 ", 1.5),
        (b"0", 0.0),
        (b"-1", None),
        (b"", None),
        (b"soon", None),
        (b"nan", None),
        (b"inf", None),
        (b"6m0s", 360.0),
        (b"12ms", 0.012),
        (b"1h2m3.5s", 3723.5),
        (b"1d", 86_400.0),
        (b"9999999", MAX_WAIT_S),
        (b"1790000030", 30.0),
        (b"1790000030000", 30.0),
        (b"1690000000", 0.0),
        (b"Mon, 21 Sep 2026 14:13:50 GMT", 30.0),
        (b"Mon, 21 Sep 2020 14:13:50 GMT", 0.0),
        (b"2026-09-21T14:13:50Z", 30.0),
        (b"2026-09-21T16:13:50+02:00", 30.0),
        (b"2026-13-99T00:00:00Z", None),
    ],
)
def test_every_form_of_a_time(value: bytes, seconds: float | None) -> None:
    assert seconds_until(value, NOW) == (None if seconds is None else pytest.approx(seconds))


def test_milliseconds_win() -> None:
    assert retry_after([(b"retry-after", b"9"), (b"retry-after-ms", b"250")], NOW) == 0.25
    assert retry_after([(b"retry-after", b"9"), (b"retry-after-ms", b"-1")], NOW) == 9.0
    assert retry_after([(b"retry-after", b"-1")], NOW) is None
    assert retry_after([], NOW) is None


def test_openai() -> None:
    found = rate_limits(
        [
            (b"x-ratelimit-limit-requests", b"5000"),
            (b"x-ratelimit-remaining-requests", b"4999"),
            (b"x-ratelimit-reset-requests", b"12ms"),
            (b"x-ratelimit-limit-tokens", b"800000"),
            (b"x-ratelimit-remaining-tokens", b"799000"),
            (b"x-ratelimit-reset-tokens", b"6m0s"),
        ],
        NOW,
    )
    assert found is not None
    assert (found.requests_left, found.requests_limit, found.requests_reset_s) == (4999, 5000, 0.012)
    assert (found.tokens_left, found.tokens_limit, found.tokens_reset_s) == (799_000, 800_000, 360.0)


def test_anthropic() -> None:
    found = rate_limits(
        [
            (b"anthropic-ratelimit-requests-remaining", b"49"),
            (b"anthropic-ratelimit-requests-reset", b"2026-09-21T14:13:21Z"),
            (b"anthropic-ratelimit-tokens-remaining", b"40000"),
        ],
        NOW,
    )
    assert found is not None
    assert (found.requests_left, found.requests_reset_s, found.tokens_left) == (49, 1.0, 40_000)


def test_nothing_usable_is_unknown() -> None:
    assert rate_limits([(b"x-ratelimit-remaining-requests", b"-1")], NOW) is None
    assert rate_limits([(b"content-type", b"text/html")], NOW) is None


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_survived(value: bytes) -> None:
    seconds = seconds_until(value, NOW)
    assert seconds is None or 0.0 <= seconds <= MAX_WAIT_S
    names = (
        b"retry-after",
        b"retry-after-ms",
        b"x-ratelimit-remaining-tokens",
        b"anthropic-ratelimit-tokens-reset",
    )
    for name in names:
        retry_after([(name, value)], NOW)
        rate_limits([(name, value)], NOW)
