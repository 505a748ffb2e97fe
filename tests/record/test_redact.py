"""Nothing like a key stays in a text; ordinary words do."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline.record.redact import MAX_CHARS, redact

SECRETS = [
    "sk-proj-abcdefghijklmnop1234567890",
    "sk-ant-api03-AbCdEf_-0123456789abcdef",
    "tl-0123456789abcdefghijklmnopqrstuvwxyz",
    "gsk_0123456789abcdefghijklmnop",
    "xai-0123456789abcdefghijklmnop",
    "AIzaSyA0123456789abcdefghijklmnopqrstuv",
    "AKIAIOSFODNN7EXAMPLE",
    "hf_abcdefghijklmnopqrstuvwxyz012345",
    "0123456789abcdef0123456789abcdef",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY00",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "text",
    ["Incorrect API key provided: {}.", "'{}'", "header x-api-key: {}\n", "https://host/?key={}&x=1", "{}"],
)
def test_keys_go(secret: str, text: str) -> None:
    cleaned = redact(text.format(secret))
    assert secret not in cleaned
    assert secret[6:] not in cleaned
    assert "[redacted]" in cleaned


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("Authorization: Bearer abc.def-ghi_jkl", "abc.def-ghi_jkl"),
        ('{"api_key": "very-own-format-1"}', "very-own-format-1"),
        ("postgresql://tieline:hunter22@db/x", "hunter22"),
        ("password=correct-horse", "correct-horse"),
    ],
)
def test_what_is_named_a_secret_goes(text: str, gone: str) -> None:
    assert gone not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "The model `gpt-5` does not exist or you do not have access to it.",
        "Rate limit reached for requests per min (RPM): Limit 500, Used 500, Requested 1.",
        "This model's maximum context length is 128000 tokens.",
        "task-based routing of req_01M7ZZRJ3MVTZTWQ134WT9M4YE",
        "http://127.0.0.1:8787/v1/chat/completions",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert redact(text) == text


@given(st.text(max_size=3_000))
def test_the_length_is_bounded(text: str) -> None:
    assert len(redact(text)) <= MAX_CHARS


@pytest.mark.parametrize("unit", ["a", "sk-", "Aa1/", "eyJ", "key=", "://a:", "bearer ", "0a"])
def test_hostile_texts_take_bounded_time(unit: str) -> None:
    start = time.perf_counter()
    redact(unit * 100_000)
    assert time.perf_counter() - start < 2
