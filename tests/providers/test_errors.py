"""Real error bodies -> class. ``fixtures/errors.json`` is the table; a vendor's new form is a new row there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from tieline.providers.errors import MESSAGES, classify, classify_transport
from tieline.providers.limits import MAX_WAIT_S
from tieline.transport.base import TransportError
from tieline.types.errors import ErrorInfo, FailureClass

ROWS = json.loads((Path(__file__).parent / "fixtures" / "errors.json").read_text())
NOW = 1_790_000_000.0


def info_of(body: Any) -> ErrorInfo:
    """Reads a body as the dialects do."""
    if isinstance(body, str):
        return ErrorInfo(message=body[:200], html="<html" in body.lower())
    if isinstance(body, list):
        body = body[0]
    error = body.get("error", body)
    if isinstance(error, str):
        return ErrorInfo(message=error, code=body.get("code"))
    code, kind = error.get("code"), error.get("status") or error.get("type") or error.get("__type")
    reasons = [one.get("reason") for one in error.get("details", [])]
    if reasons and reasons[0]:
        code = reasons[0]
    return ErrorInfo(
        message=error.get("message") or "",
        code=None if code is None else str(code),
        type=None if kind is None else str(kind),
        param=error.get("param"),
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['provider']}-{row['status']}-{row['class']}")
def test_real_bodies(row: dict[str, Any]) -> None:
    headers = [(name.encode(), value.encode()) for name, value in row.get("headers", {}).items()]
    failure = classify(row["provider"], row["dialect"], row["status"], info_of(row["body"]), headers, NOW)
    assert failure.kind == row["class"], failure
    assert failure.message
    assert len(failure.message) <= 1000


def test_a_proxy_that_wants_a_password_is_not_the_callers_fault() -> None:
    assert classify("acme", "openai_chat", 407, ErrorInfo(), []).kind is FailureClass.CONNECT


def test_every_class_of_an_upstream_is_reached() -> None:
    ours = {"connect", "first_token_timeout", "stall", "truncated", "garbled", "caller_gone", "superseded"}
    ours |= {"internal_error", "shut_down"}
    assert {row["class"] for row in ROWS} == {kind.value for kind in FailureClass} - ours


def test_no_pattern_reads_digits() -> None:
    for row in MESSAGES:
        assert not re.search(r"\d", re.sub(r"\{\d+,\d+\}", "", row.pattern.pattern)), row.pattern.pattern
        assert row.why


@pytest.mark.parametrize("kind", get_args(get_type_hints(TransportError.__init__)["kind"]))
def test_every_transport_error_has_a_class(kind: Any) -> None:
    assert classify_transport(TransportError(kind, "no", sent=False)).kind in FailureClass


def test_a_wait_is_taken_from_the_headers_never_from_the_message() -> None:
    info = ErrorInfo(message="Please retry in 40.403s", type="RESOURCE_EXHAUSTED")
    assert classify("gemini", "gemini", 429, info, [], NOW).retry_after_s is None
    waiting = classify(
        "gemini", "gemini", 429, info, [(b"retry-after-ms", b"1400"), (b"retry-after", b"2")], NOW
    )
    assert waiting.retry_after_s == pytest.approx(1.4)


@pytest.mark.parametrize(("said", "seconds"), [(12.5, 12.5), (999_999.0, MAX_WAIT_S), (None, None)])
def test_a_wait_that_the_body_has_a_field_for_counts_where_no_header_says_one(
    said: float | None, seconds: float | None
) -> None:
    info = ErrorInfo(message="Exhausted", type="RESOURCE_EXHAUSTED", retry_after_s=said)
    assert classify("gemini", "gemini", 429, info, [], NOW).retry_after_s == seconds
    assert classify("gemini", "gemini", 429, info, [(b"retry-after", b"2")], NOW).retry_after_s == 2.0


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abcdEFGH1234567890",
        "bad key xai-abcdefghijklmnop and AIzaSyA1234567890abcdef",
        "Authorization: Bearer abcdefghijklmnop is wrong",
    ],
)
def test_keys_do_not_leak_through_messages(text: str) -> None:
    shown = classify("openai", "openai_chat", 401, ErrorInfo(message=text), [], NOW).message
    assert "[key]" in shown
    for secret in ("abcdEFGH", "abcdefghijklmnop", "AIzaSy"):
        assert secret not in shown


def test_status_of_an_error_inside_a_200_comes_from_its_code() -> None:
    failure = classify("openrouter", "openai_chat", 200, ErrorInfo(message="x", code="402"), [], NOW)
    assert (failure.kind, failure.status) == (FailureClass.QUOTA_EXHAUSTED, 402)
