"""A wrong type at any place of a rich request, from every dialect to every other: a request, or a refusal that names a field."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests import odd
from tests.dialects.wire import call, target
from tieline.dialects import get, get_upstream
from tieline.dialects.operations import operation_of
from tieline.types.call import Call
from tieline.types.errors import InvalidRequest, TielineError
from tieline.types.request import Request

UPSTREAM = ("openai_chat", "openai_responses", "anthropic_messages", "gemini", "bedrock_converse", "cohere")
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("openai_chat", odd.CHAT),
    ("openai_chat", odd.CHAT_FORMAT | odd.STREAM),
    ("openai_completions", odd.COMPLETIONS),
    ("openai_responses", odd.RESPONSES),
    ("anthropic_messages", odd.MESSAGES),
    ("anthropic_messages", odd.MESSAGES_FORMAT),
    ("gemini", odd.CONTENTS),
    ("gemini", odd.CONTENTS_FORMAT),
]
_FILES = ("file", "input_file", "document")
_HALVES = (b"\\ud83d", b"\\ud83dx", b"\\ude00", b"\\ud83d\\ud83d")


def _call(dialect: str, raw: bytes, operation: str = "chat") -> Call:
    return call(dialect, raw, operation=operation, **({"model": "m"} if dialect == "gemini" else {}))


def _read(dialect: str, raw: bytes) -> Request:
    asked, speaker = _call(dialect, raw), get(dialect)
    seen = speaker.peek(asked)
    speaker.forward(asked, seen, target(dialect))
    return speaker.decode_request(asked, seen)


def _without_files(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_files(inner) for name, inner in value.items()}
    if not isinstance(value, list):
        return value
    files = [
        one for one in value if isinstance(one, dict) and (one.get("type") in _FILES or "fileData" in one)
    ]
    return [_without_files(one) for one in value if one not in files]


def _taken(dialect: str, body: dict[str, Any], upstream: str) -> dict[str, Any] | None:
    """``body`` without what ``upstream`` cannot do, so that the rest of it is translated."""
    for _ in range(12):
        try:
            get_upstream(upstream).encode_request(_read(dialect, json.dumps(body).encode()), target(upstream))
        except TielineError as error:
            path = tuple((error.param or "").split("."))
            if path[0] in ("messages", "input", "contents"):
                body = _without_files(body)
            elif path == ("prompt",):
                body = body | {"prompt": "Once"}
            elif path in odd.places(body):
                body = odd.spoiled(body, path, odd.GONE)
            else:
                return None
        else:
            return body
    return None


@pytest.mark.parametrize("upstream", UPSTREAM)
def test_a_wrong_type_is_translated_or_refused_by_name(upstream: str) -> None:
    sent, read_back = 0, msgspec.json.Decoder()
    for dialect, whole in BODIES:
        body = _taken(dialect, whole, upstream)
        if body is None:
            continue
        for name, raw in odd.every(body):
            try:
                request = _read(dialect, raw)
            except InvalidRequest as error:
                no_json = any(name.endswith(text) for text in odd.RAW)
                assert error.param or no_json, (dialect, name, error.message)
                continue
            except Exception as error:
                raise AssertionError(f"{dialect} {name}: {error!r}") from error
            try:
                outgoing = get_upstream(upstream).encode_request(request, target(upstream))
                read_back.decode(outgoing.body)
            except TielineError:
                continue
            except Exception as error:
                raise AssertionError(f"{dialect} to {upstream} {name}: {error!r}") from error
            sent += 1
    assert sent > 1000


@pytest.mark.parametrize(
    ("dialect", "operation", "path", "body"),
    [
        ("openai_chat", "embeddings", "/v1/embeddings", odd.EMBEDDINGS),
        ("gemini", "embeddings", "/v1beta/models/m:embedContent", odd.EMBED_GEMINI),
        ("gemini", "embeddings", "/v1beta/models/m:batchEmbedContents", odd.BATCH_GEMINI),
        ("gemini", "count_tokens", "/v1beta/models/m:countTokens", odd.COUNT_GEMINI),
    ],
)
def test_a_wrong_type_in_other_operations(dialect: str, operation: str, path: str, body: Any) -> None:
    for name, raw in odd.every(body):
        asked = _call(dialect, raw, operation)
        asked.path = path
        found = operation_of(asked)
        assert found is not None
        for upstream in UPSTREAM:
            try:
                found.encode(asked, found.peek(asked), target(upstream))
            except TielineError:
                continue
            except Exception as error:
                raise AssertionError(f"{upstream} {name}: {error!r}") from error


_TEXTS = [
    ("openai_chat", "chat", b'{"model": "m", "messages": [{"role": "user", "content": "@"}]}'),
    ("openai_chat", "embeddings", b'{"model": "m", "input": "@"}'),
    ("openai_completions", "chat", b'{"model": "m", "prompt": "@"}'),
    ("openai_responses", "chat", b'{"model": "m", "input": "@"}'),
    ("anthropic_messages", "chat", b'{"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "@"}]}'),
    ("gemini", "chat", b'{"contents": [{"parts": [{"text": "@"}]}]}'),
    ("gemini", "embeddings", b'{"content": {"parts": [{"text": "@"}]}}'),
    ("gemini", "count_tokens", b'{"contents": [{"parts": [{"text": "@"}]}]}'),
]  # fmt: skip


def _refusal(dialect: str, operation: str, raw: bytes) -> str:
    asked = _call(dialect, raw, operation)
    with pytest.raises(InvalidRequest) as caught:
        (operation_of(asked) or get(dialect)).peek(asked)
    return caught.value.message


@pytest.mark.parametrize(("dialect", "operation", "body"), _TEXTS)
def test_what_is_not_utf8_is_refused_before_anybody_is_asked(
    dialect: str, operation: str, body: bytes
) -> None:
    """Also where nothing of it is read: a vendor's answer to it is a riddle, and some take it."""
    at = body.index(b"@")
    for wrong in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf"):
        said = _refusal(dialect, operation, body.replace(b"@", b"ab" + wrong))
        assert said == f"The body is not valid UTF-8 (byte {at + 2})."


@pytest.mark.parametrize(("dialect", "operation", "body"), _TEXTS)
def test_half_an_emoji_is_called_that(dialect: str, operation: str, body: bytes) -> None:
    """What JavaScript makes of a text that it cuts: no truncated body, nor a wrong escape."""
    at = body.index(b"@")
    for half in _HALVES:
        said = _refusal(dialect, operation, body.replace(b"@", half))
        assert said.startswith(f"The body has half a character (byte {at})"), said
    whole = _call(dialect, body.replace(b"@", b"\\ud83d\\ude00"), operation)
    (operation_of(whole) or get(dialect)).peek(whole)
    assert "ends early" in _refusal(dialect, operation, body.replace(b"@", b"\\ud83d\\ude00")[:-2])
