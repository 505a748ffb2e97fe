"""A wrong type at any place of a rich answer, from every dialect to every other: an answer, or a failure that is known as one.

What is raised here besides those would be a 500 to the caller.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests import odd, odd_answers
from tests.dialects.wire import call, target
from tieline.dialects import get, get_upstream
from tieline.dialects.base import Garbled, Peek, StreamFault, Truncated
from tieline.dialects.operations import operation_of
from tieline.dialects.transcript import Transcript
from tieline.providers.errors import classify
from tieline.relay import Relay
from tieline.types.errors import Fault
from tieline.types.events import Start
from tieline.types.request import Message, Request, Text

CALLERS = ("openai_chat", "openai_responses", "anthropic_messages", "gemini")
ASKED = Request(model="m", messages=[Message("user", [Text("x")])], stream=True)
PEEK = Peek(model="m", stream=True, include_usage=True)
FAULT = Fault(status=502, code="garbled", message="It broke.")
UPSTREAM = pytest.mark.parametrize("upstream", sorted(odd_answers.WHOLE))
_JUNK = (None, 10**18, "x", [None], {}, odd.GONE)
_PLACES_IN_ONE = 23
"""Streams repeat themselves: of their places only some are spoiled with all of ``odd.JUNK``."""


@UPSTREAM
def test_whole_answers(upstream: str) -> None:
    speaker = get_upstream(upstream)
    for name, raw in odd.every(odd_answers.WHOLE[upstream]):
        try:
            answer = speaker.decode_response(raw)
        except (Garbled, StreamFault):
            continue
        answer.id, answer.model = answer.id or "r", answer.model or "m"
        for caller in CALLERS:
            try:
                json.loads(get(caller).encode_response(answer, ASKED))
            except Exception as error:
                raise AssertionError(f"{upstream} to {caller} {name}: {error!r}") from error


@pytest.mark.parametrize("dialect", CALLERS)
def test_glances(dialect: str) -> None:
    for name, raw in odd.every(odd_answers.WHOLE[dialect]):
        try:
            seen = get(dialect).glance(raw)
        except (Garbled, StreamFault):
            continue
        assert all(
            word is None or isinstance(word, str) for word in (seen.id, seen.model, seen.finish_reason)
        ), name
        assert msgspec.json.encode(seen.usage)


@pytest.mark.parametrize("upstream", ["openai_chat", "openai_responses"])
def test_log_probabilities_that_are_none(upstream: str) -> None:
    """They were the one part that was handed on as it came."""
    whole = odd_answers.WHOLE[upstream]
    at: odd.Path = (
        ("choices", 0, "logprobs", "content")
        if upstream == "openai_chat"
        else ("output", 1, "content", 0, "logprobs")
    )
    good = {"token": "Hi", "logprob": -0.1, "bytes": [72, None, "x"], "top_logprobs": [None, {"token": 7}]}
    for junk in ([None, good], [[], good], ["x", good]):
        answer = get_upstream(upstream).decode_response(json.dumps(odd.spoiled(whole, at, junk)).encode())
        made = json.loads(get("gemini").encode_response(answer, ASKED))["candidates"][0]["logprobsResult"]
        assert made["chosenCandidates"] == [{"token": "Hi", "logProbability": -0.1}]
        none = {"token": "", "logProbability": 0.0}
        assert made["topCandidates"] == [{"candidates": [none, none]}]
        items = json.loads(get("openai_responses").encode_response(answer, ASKED))["output"]
        (text,) = [item for item in items if item["type"] == "message"]
        assert text["content"][0]["logprobs"][0]["bytes"] == [72]


# streams --------------------------------------------------------------------------------------------------------------


class _Caller:
    """A Sink."""

    def __init__(self) -> None:
        self.sent = b""
        self.ended = False

    def name(self, start: Start) -> None:
        start.id, start.model = start.id or "r", start.model or "m"

    def commit(self) -> None: ...

    def hold(self) -> None: ...

    def skip(self) -> None: ...

    def write(self, data: bytes) -> None:
        self.sent += data

    def end(self) -> None:
        self.ended = True

    def spliced(self) -> bytes:
        return b""

    def closing_comment(self) -> bytes:
        return b""


def _play(upstream: str, caller: str, pieces: list[bytes]) -> tuple[bool, _Caller, Relay]:
    """Whether it came to a good end; else it ends in an error, as the pipeline would write it."""
    sink, speaker = _Caller(), get(caller)
    passes = upstream == caller
    relay = Relay(
        dialect=get_upstream(upstream),
        through=speaker if passes else None,
        peek=PEEK,
        encoder=None if passes else speaker.stream_encoder(ASKED),
        sink=sink,
        transcript=Transcript(),
        clock=lambda: 0.0,
    )
    try:
        for piece in pieces:
            relay.feed(piece)
        relay.finish()
    except (Garbled, StreamFault, Truncated):
        encoder = relay.encoder or speaker.stream_encoder(ASKED)
        if relay.encoder is None:
            for event in relay.transcript.events():
                encoder.encode(event)
        sink.sent += encoder.error(FAULT, "r")
        return False, sink, relay
    return True, sink, relay


def _check(upstream: str, name: str, pieces: list[bytes]) -> None:
    for caller in CALLERS:
        try:
            good, sink, relay = _play(upstream, caller, pieces)
            if upstream != caller:
                _readable(sink.sent)
        except Exception as error:
            raise AssertionError(f"{upstream} to {caller} {name}: {error!r}") from error
        # The end is the caller's only where the upstream has said that there is one.
        assert good == sink.ended, (upstream, caller, name)
        assert not good or relay.finish_reason is not None, (upstream, caller, name)


def _readable(stream: bytes) -> None:
    for line in stream.splitlines():
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            msgspec.json.decode(line[6:])


def _pieces(upstream: str) -> tuple[list[bytes], bytes]:
    done = odd_answers.framed(upstream, [])
    return [_framed(upstream, one, done) for one in odd_answers.STREAMS[upstream]], done


def _framed(upstream: str, event: Any, done: bytes) -> bytes:
    return odd_answers.framed(upstream, [event]).removesuffix(done)


@UPSTREAM
def test_streams(upstream: str) -> None:
    pieces, done = _pieces(upstream)
    for caller in CALLERS:
        assert _play(upstream, caller, [*pieces, done])[0], f"{upstream} to {caller}: it is no good stream"
    count = 0
    for place, event in enumerate(odd_answers.STREAMS[upstream]):
        for path in odd.places(event):
            count += 1
            for junk in _JUNK if count % _PLACES_IN_ONE else odd.JUNK:
                spoiled = _framed(upstream, odd.spoiled(event, path, junk), done)
                name = f"{place}: {path} = {str(junk)[:20]}"
                _check(upstream, name, [*pieces[:place], spoiled, *pieces[place + 1 :], done])


@UPSTREAM
def test_events_lost_doubled_and_out_of_order(upstream: str) -> None:
    pieces, done = _pieces(upstream)
    for place, piece in enumerate(pieces):
        before, after = pieces[:place], pieces[place + 1 :]
        for name, made in (
            ("lost", [*before, *after, done]),
            ("doubled", [*before, piece, piece, *after, done]),
            ("late", [*before, *after[:1], piece, *after[1:], done]),
            ("begun again", [*before, *pieces, done]),
            ("cut", before),
            ("ended", [*before, done]),
        ):
            _check(upstream, f"{place} {name}", made)


_LINES = (
    "null", "7", "[]", '"x"', "{}", '{"error": null}', '{"error": "x"}', '{"error": {}}', '{"error": []}',
    '{"error": {"message": 7, "code": []}}', '{"type": "error"}', '{"type": "error", "error": 7}', '{"type": 7}',
    '{"type": "response.failed", "response": {"error": 7}}', '{"type": "response.incomplete", "response": 7}',
    '{"choices": 7}', '{"candidates": [7]}', '{"promptFeedback": {"blockReason": 7}}', '{"usage": 7}', "\udcff",
    "[" * 5000,
)  # fmt: skip


@pytest.mark.parametrize("upstream", sorted(set(odd_answers.STREAMS) - {"bedrock_converse"}))
def test_strange_events_in_between(upstream: str) -> None:
    pieces, done = _pieces(upstream)
    for place in range(0, len(pieces) + 1, 3):
        for line in _LINES:
            for head in ("", "event: error\n"):
                strange = f"{head}data: {line}\n\n".encode(errors="surrogateescape")
                _check(upstream, f"{place} {line[:40]}", [*pieces[:place], strange, *pieces[place:], done])


# errors, embeddings, counts -------------------------------------------------------------------------------------------

_ERROR: dict[str, Any] = {
    "type": "error",
    "code": 5,
    "message": "m",
    "request_id": "r",
    "detail": [{"loc": ["a"], "msg": "b", "type": "c"}],
    "error": {
        "message": "m",
        "type": "t",
        "param": "p",
        "code": "c",
        "status": "INVALID_ARGUMENT",
        "metadata": {"raw": "x"},
        "details": [
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"},
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "r"},
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "x"}]},
        ],
    },
}
_HEADERS = ("retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "x-amzn-errortype", "content-type")
_VALUES = (
    b"",
    b"nan",
    b"inf",
    b"-1",
    b"1e400",
    b"9" * 400,
    b"\xff",
    b"9" * 30 + b"h",
    "\u00b2".encode(),
    b"Wed, 99 Foo 2026",
)


def _errors() -> Iterator[tuple[str, bytes, list[tuple[bytes, bytes]]]]:
    for error in (_ERROR, [_ERROR], _ERROR | {"error": "text"}, {"errors": [_ERROR["error"]]}):
        for name, raw in odd.every(error):
            yield name, raw, []
    for name in _HEADERS:
        for value in _VALUES:
            yield f"{name}: {value!r}", json.dumps(_ERROR).encode(), [(name.encode(), value)]


@UPSTREAM
def test_errors(upstream: str) -> None:
    for name, raw, headers in _errors():
        try:
            info = get_upstream(upstream).decode_error(429, headers, raw)
            failure = classify("openai", upstream, 429, info, headers)
            wait_s = failure.retry_after_s
            assert wait_s is None or 0 <= wait_s < 1e12
            fault = Fault(status=502, code=failure.kind.value, message=failure.message)
            for caller in CALLERS:
                json.loads(get(caller).encode_error(fault, "r"))
        except Exception as error:
            raise AssertionError(f"{upstream} {name}: {error!r}") from error


@pytest.mark.parametrize("upstream", sorted(odd_answers.EMBEDDED))
@pytest.mark.parametrize("caller", ["openai_chat", "gemini"])
def test_embeddings(upstream: str, caller: str) -> None:
    if caller == "gemini":
        part = {"content": {"parts": [{"text": "one"}]}}
        asked = call(caller, {"requests": [part, part]}, operation="embeddings", model="m")
        asked.path = "/v1beta/models/m:batchEmbedContents"
    else:
        asked = call(caller, odd.EMBEDDINGS | {"encoding_format": "base64"}, operation="embeddings")
    found = operation_of(asked)
    assert found is not None
    for name, raw in odd.every(odd_answers.EMBEDDED[upstream]):
        try:
            body = json.loads(found.decode(asked, found.peek(asked), target(upstream), [raw]).body)
        except (Garbled, StreamFault):
            continue
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}") from error
        if upstream != caller:
            assert len(body.get("data") or body["embeddings"]) == 2, f"{name}: one for each input, or none"
