"""Whole answers, errors and transcripts, read by the official SDKs where callers would use them."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pydantic
import pytest

from tests.dialects.samples import (
    ANTHROPIC,
    ANTHROPIC_STREAM,
    OPENAI,
    OPENAI_STREAM,
    STREAMS,
    anthropic_client,
    check,
    events,
    openai_client,
    read_anthropic_stream,
    read_openai_stream,
    written,
)
from tieline.dialects import DIALECT_NAMES, get
from tieline.dialects.base import Garbled, StreamFault, Truncated
from tieline.dialects.error_bodies import status_of
from tieline.dialects.transcript import Transcript
from tieline.types.errors import ErrorInfo, Fault
from tieline.types.events import BlockStart, Finish, Start, TextDelta
from tieline.types.request import Message, Opaque, Request, Text, Thinking, ToolCall
from tieline.types.response import Choice, Response
from tieline.types.usage import Usage

ASKED = Request(model="m", messages=[Message("user", [Text("hi")])])
USER: Any = [{"role": "user", "content": "x"}]
BOTH = pytest.mark.parametrize("name", [OPENAI, ANTHROPIC])
ANSWER = Response(
    id="id_1",
    model="m",
    created=1700000000,
    choices=[
        Choice(
            [
                Thinking("hm", "c2ln", origin=ANTHROPIC),
                Thinking("", redacted="ZGF0YQ==", origin=ANTHROPIC),
                Text("Grüße"),
                ToolCall("call_1", "f", '{"x": 1}'),
            ],
            "tool_calls",
        )
    ],
    usage=Usage(
        input_tokens=100,
        cache_read_tokens=60,
        cache_write_5m_tokens=10,
        cache_write_1h_tokens=5,
        output_tokens=20,
        reasoning_tokens=7,
    ),
)


def test_openai_answers_are_read_by_the_official_client() -> None:
    with openai_client(get(OPENAI).encode_response(ANSWER, ASKED)) as client:
        read = client.chat.completions.create(model="m", messages=USER)
    message = read.choices[0].message
    assert (message.content, read.choices[0].finish_reason) == ("Grüße", "tool_calls")
    assert message.tool_calls is not None
    assert message.tool_calls[0].to_dict()["function"] == {"name": "f", "arguments": '{"x": 1}'}
    assert message.reasoning_content == "hm"  # type: ignore[attr-defined]
    assert read.usage is not None
    assert (read.usage.prompt_tokens, read.usage.total_tokens) == (100, 120)
    assert read.usage.prompt_tokens_details is not None
    assert read.usage.prompt_tokens_details.cached_tokens == 60


def test_anthropic_answers_are_read_by_the_official_client() -> None:
    with anthropic_client(get(ANTHROPIC).encode_response(ANSWER, ASKED)) as client:
        read = client.messages.create(model="m", max_tokens=9, messages=USER)
    assert [block.type for block in read.content] == ["thinking", "redacted_thinking", "text", "tool_use"]
    assert read.stop_reason == "tool_use"
    assert (read.usage.input_tokens, read.usage.cache_read_input_tokens) == (25, 60)
    assert read.usage.cache_creation_input_tokens == 15


def test_openai_streams_are_read_by_the_official_client() -> None:
    for source, stream in STREAMS.items():
        chunks = read_openai_stream(written(OPENAI, events(source, stream)))
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Grüße 🎉"
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-1].usage is not None
        assert chunks[-2].choices[0].finish_reason == "tool_calls"
        assert len({each.id for each in chunks}) == 1


def test_wire_03_usage_only_for_callers_who_asked() -> None:
    chunks = read_openai_stream(written(OPENAI, events(OPENAI, OPENAI_STREAM), ASKED))
    assert all(each.usage is None and each.choices for each in chunks)


def test_anthropic_streams_are_read_by_the_official_client() -> None:
    for source, stream in STREAMS.items():
        message = read_anthropic_stream(written(ANTHROPIC, events(source, stream)))
        texts = [each.text for each in message.content if each.type == "text"]
        calls = [each.input for each in message.content if each.type == "tool_use"]
        assert texts == ["Grüße 🎉"]
        assert calls[0] == {"city": "Köln"}
        assert message.stop_reason == "tool_use"
        assert message.usage.output_tokens in (5, 9)


def test_wire_21_what_the_official_client_replays_keeps_thinking_alive() -> None:
    message = read_anthropic_stream(written(ANTHROPIC, events(ANTHROPIC, ANTHROPIC_STREAM)))
    assert message.content[0].to_dict() == {"type": "thinking", "thinking": "hmm … ", "signature": "c2ln"}
    assert message.content[1].to_dict() == {"type": "redacted_thinking", "data": "ZGF0YQ=="}


def test_legacy_callers_get_function_call() -> None:
    legacy = Request(model="m", messages=[], legacy_functions=True)
    body = json.loads(get(OPENAI).encode_response(ANSWER, legacy))
    assert body["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": '{"x": 1}'}
    assert body["choices"][0]["finish_reason"] == "function_call"
    chunks = read_openai_stream(written(OPENAI, events(ANTHROPIC, ANTHROPIC_STREAM), legacy))
    calls = [c.choices[0].delta.function_call for c in chunks if c.choices[0].delta.function_call]
    assert calls[0].name == "get_weather"
    assert json.loads("".join(call.arguments for call in calls)) == {"city": "Köln"}
    assert chunks[-1].choices[0].finish_reason == "function_call"


@BOTH
def test_answers_survive_a_round_trip(name: str) -> None:
    speaker = get(name)
    read = speaker.decode_response(speaker.encode_response(ANSWER, ASKED))
    assert [part for part in read.choices[0].parts if not isinstance(part, ToolCall)] == ANSWER.choices[
        0
    ].parts[:3]
    assert json.loads(read.tool_calls[0].arguments) == {"x": 1}
    assert read.choices[0].finish_reason == "tool_calls"
    assert read.usage is not None
    assert (read.usage.input_tokens, read.usage.cache_read_tokens) == (100, 60)
    if name == ANTHROPIC:
        assert read.usage == ANSWER.usage


def test_wire_29_anthropic_input_excludes_and_openai_input_includes_the_cache() -> None:
    claude = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": [{"type": "text", "text": "a"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1},
    }
    answer = get(ANTHROPIC).decode_response(json.dumps(claude).encode())
    assert answer.usage == Usage(input_tokens=100, cache_read_tokens=90, output_tokens=1)
    usage = json.loads(get(OPENAI).encode_response(answer, ASKED))["usage"]
    assert (usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]) == (100, 90)


@BOTH
def test_glances(name: str) -> None:
    seen = get(name).glance(get(name).encode_response(ANSWER, ASKED))
    assert (seen.id, seen.model) == ("id_1", "m")
    assert seen.usage is not None
    assert seen.usage.input_tokens == 100
    assert seen.finish_reason == ("tool_calls" if name == OPENAI else "tool_use")
    assert seen.output_chars >= len("Grüße") + len("hm") + len('{"x": 1}')


@pytest.mark.parametrize(
    ("name", "body", "error"),
    [
        (OPENAI, b'{"error":{"message":"m","type":"server_error"}}', StreamFault),
        (OPENAI, b'{"object":"error","message":"m","code":400}', StreamFault),
        (OPENAI, b'{"choices":[]}', Garbled),
        (OPENAI, b'{"choices":[{"message":{"content":"a"}}]}', Garbled),
        (OPENAI, b'{"choices":[{"message":{"content":"a"},"finish_reason":"error"}]}', StreamFault),
        (OPENAI, b"<html>", Garbled),
        (OPENAI, b"", Garbled),
        (ANTHROPIC, b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}', StreamFault),
        (ANTHROPIC, b'{"content":[{"type":"text","text":"a"}],"stop_reason":null}', Garbled),
        (ANTHROPIC, b"{}", Garbled),
        (ANTHROPIC, b'{"content":[3],"stop_reason":"end_turn"}', Garbled),
        (ANTHROPIC, b"\xff", Garbled),
    ],
)
def test_answers_that_are_none(name: str, body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        get(name).decode_response(body)


def test_glance_of_an_unfinished_answer_has_no_reason() -> None:
    assert get(OPENAI).glance(b'{"choices":[{"message":{"content":"a"}}]}').finish_reason is None


def test_vendor_oddities_in_whole_answers() -> None:
    message = {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            {"type": "text", "text": "a"},
        ],
        "tool_calls": [
            {
                "function": {"name": "f", "arguments": {"x": 1}},
                "extra_content": {"google": {"thought_signature": "s"}},
            }
        ],
    }
    body = {
        "id": "x",
        "created": 1.7e12,
        "model": "m",
        "choices": [{"message": message, "finish_reason": "stop"}],
    }
    answer = get(OPENAI).decode_response(json.dumps(body).encode())
    assert answer.created == 1_700_000_000
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].parts[:2] == [Thinking("hm", origin=OPENAI), Text("a")]
    assert (answer.tool_calls[0].arguments, answer.tool_calls[0].signature) == ('{"x":1}', "s")


def test_web_citations_become_annotations() -> None:
    cited = Text("abc", citations=[{"url": "https://example.com", "title": "t"}], origin=ANTHROPIC)
    answer = Response(id="i", model="m", created=1, choices=[Choice([Text("xy"), cited], "stop")])
    with openai_client(get(OPENAI).encode_response(answer, ASKED)) as client:
        read = client.chat.completions.create(model="m", messages=USER)
    assert read.choices[0].message.annotations is not None
    place = read.choices[0].message.annotations[0].url_citation
    assert (place.url, place.start_index, place.end_index) == ("https://example.com", 2, 5)


def test_text_without_citations_does_not_name_them() -> None:
    """@ai-sdk/anthropic refuses ``null`` there."""
    answer = Response(
        id="r", model="m", created=1, choices=[Choice(parts=[Text("Hi")], finish_reason="stop")]
    )
    body = json.loads(get(ANTHROPIC).encode_response(answer, Request(model="m", messages=[])))
    assert body["content"] == [{"type": "text", "text": "Hi"}]


@pytest.mark.parametrize(
    "message", ["The input token count (9) exceeds 8.", "prompt is too long: 9 tokens > 8 maximum"]
)
def test_a_full_context_is_said_in_the_words_that_anthropic_callers_look_for(message: str) -> None:
    """LangChain and LiteLLM know it by them, as Anthropic's errors have no code."""
    fault = Fault(status=400, code="context_length_exceeded", message=message)
    said = json.loads(get(ANTHROPIC).encode_error(fault, "req_1"))["error"]["message"]
    assert said.count("prompt is too long: ") == 1
    assert said.endswith(message)


def test_blocks_of_other_vendors_stay_with_them() -> None:
    foreign = Response(
        id="i", model="m", created=1, choices=[Choice([Opaque("gemini", {"x": 1}), Text("a")], "stop")]
    )
    assert len(json.loads(get(ANTHROPIC).encode_response(foreign, ASKED))["content"]) == 1


# Errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 429, 499, 500, 502, 503, 504, 529])
def test_wire_36_official_clients_raise_their_own_class_for_the_status(status: int) -> None:
    fault = Fault(status=status, code="some_code", message="It broke.", param="model", details={"a": [1]})
    body = get(OPENAI).encode_error(fault, "req_1")
    with openai_client(body, status) as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="m", messages=USER)
    assert caught.value.status_code == status
    assert (caught.value.code, caught.value.param) == ("some_code", "model")
    assert "It broke." in caught.value.message
    expected = {400: "BadRequestError", 429: "RateLimitError", 503: "InternalServerError"}.get(status)
    assert expected in (None, type(caught.value).__name__)
    body = get(ANTHROPIC).encode_error(fault, "req_1")
    with anthropic_client(body, status) as client2, pytest.raises(anthropic.APIStatusError) as theirs:
        client2.messages.create(model="m", max_tokens=9, messages=USER)
    assert theirs.value.status_code == status
    assert "It broke." in theirs.value.message
    named = {429: "RateLimitError", 529: "OverloadedError", 404: "NotFoundError"}.get(status)
    assert named in (None, type(theirs.value).__name__)


@BOTH
def test_official_clients_raise_on_an_error_in_the_stream(name: str) -> None:
    encoder = get(name).stream_encoder(ASKED)
    out = encoder.encode(Start("i", "m", 1)) + encoder.encode(BlockStart(0, "text"))
    out += encoder.encode(TextDelta(0, "half"))
    out += encoder.error(Fault(status=502, code="truncated", message="It broke."), "req_1")
    if name == OPENAI:
        with pytest.raises(openai.APIError, match=r"It broke\.") as caught:
            read_openai_stream(out)
        assert caught.value.code == "truncated"
    else:
        with pytest.raises(anthropic.APIStatusError, match=r"It broke\."):
            read_anthropic_stream(out)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"error":{"message":"m","type":"t","param":"p","code":"c"}}',
            ErrorInfo(message="m", type="t", param="p", code="c"),
        ),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}', ErrorInfo(message="m", type="overloaded_error")),
        (b'{"error":"words","code":7}', ErrorInfo(message="words", code="7")),
        (b'{"message":"m","code":400}', ErrorInfo(message="m", code="400")),
        (b'{"detail":[{"loc":["body"],"msg":"bad"}]}', ErrorInfo(message="bad")),
        (b'[{"error":{"message":"m","code":503,"status":"UNAVAILABLE"}}]', ErrorInfo(message="m", code="503", type="UNAVAILABLE")),
        (b'{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"slow"}}}', ErrorInfo(message="Provider returned error: slow", code="429")),
        (b"<html><head><title>502 Bad Gateway</title>", ErrorInfo(message="502 Bad Gateway", html=True)),
        (b"upstream connect error", ErrorInfo(message="upstream connect error")),
        (b"", ErrorInfo()),
        (b"null", ErrorInfo()),
        (b"\xff\x00", ErrorInfo(message="\ufffd\x00")),
        (b"[" * 5000, ErrorInfo(message="[" * 1000)),
    ],
)  # fmt: skip
def test_wire_35_error_bodies_of_every_shape(body: bytes, expected: ErrorInfo) -> None:
    for name in (OPENAI, ANTHROPIC):
        assert get(name).decode_error(500, [(b"content-type", b"application/json")], body) == expected


def test_wire_32_status_comes_from_codes_not_from_digits_in_words() -> None:
    assert status_of(ErrorInfo(message="retry in 403 s")) is None
    assert status_of(ErrorInfo(code="insufficient_quota", type="invalid_request_error")) == 429
    assert status_of(ErrorInfo(code="503")) == 503
    assert status_of(ErrorInfo(code="99")) is None


# Transcripts --------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("caller", [OPENAI, ANTHROPIC])
def test_a_replayed_transcript_brings_an_encoder_to_the_same_state(name: str, caller: str) -> None:
    seen = events(name, STREAMS[name])
    for cut in range(1, len(seen)):
        transcript = Transcript()
        live, fresh = get(caller).stream_encoder(ASKED), get(caller).stream_encoder(ASKED)
        for each in seen[:cut]:
            transcript.add(each)
            live.encode(each)
        for each in transcript.events():
            fresh.encode(each)
        rest = [live.encode(each) for each in seen[cut:]] + [live.finish()]
        again = [fresh.encode(each) for each in seen[cut:]] + [fresh.finish()]
        if name == OPENAI and caller == ANTHROPIC:
            # Held deltas of a later call are joined in a replay.
            joined = b"".join(again)
            assert joined.count(b"content_block_stop") == b"".join(rest).count(b"content_block_stop")
        else:
            assert again == rest


def test_transcripts_know_where_they_are() -> None:
    transcript = Transcript(structured=True)
    assert not transcript.kinds
    states = []
    for each in events(ANTHROPIC, ANTHROPIC_STREAM):
        transcript.add(each)
        states.append((transcript.in_thinking, transcript.complete))
    assert states[2] == (True, False)
    assert states[-1] == (False, True)
    assert transcript.structured
    assert "tool_call" in transcript.kinds
    assert transcript.text == "Grüße 🎉"
    assert transcript.chars == len("hmm … ") + len("Grüße 🎉") + len('{"city": "Köln"}')


def test_an_unfinished_transcript_is_no_answer() -> None:
    transcript = Transcript()
    for event in (Start("i", "m", 1), BlockStart(0, "text"), TextDelta(0, "half")):
        transcript.add(event)
    with pytest.raises(Truncated):
        transcript.response()
    transcript.add(Finish("stop"))
    assert transcript.response(id="x", model="y").text == "half"


# The registry, and the judges of these tests ------------------------------------------------------------------


def test_the_registry_knows_its_names() -> None:
    assert {OPENAI, ANTHROPIC} <= set(DIALECT_NAMES)
    assert get(OPENAI) is get(OPENAI)
    with pytest.raises(KeyError):
        get("morse")


@BOTH
def test_the_judge_refuses_unknown_fields_everywhere(name: str) -> None:
    good = {"model": "m", "messages": USER, "max_tokens": 5}
    check(name, good)
    for bad in ({**good, "unheard": 1}, {**good, "messages": [{**USER[0], "unheard": 1}]}):
        with pytest.raises(pydantic.ValidationError):
            check(name, bad)
