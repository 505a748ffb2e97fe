"""Cohere v2: requests and answers judged by the official SDK."""

from __future__ import annotations

import json
from typing import Any

import cohere
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.dialects.wire import PIXEL, read, read_pieces, summary, target, tool_loop, weather_tool
from tieline.dialects import get, get_upstream
from tieline.dialects.base import Frame, Garbled, StreamFault, Truncated
from tieline.dialects.cohere import COHERE as DIALECT
from tieline.types.errors import InvalidRequest, Unsupported
from tieline.types.events import BlockStart, CitationDelta, Finish
from tieline.types.request import (
    Audio,
    Document,
    Image,
    Message,
    Opaque,
    Reasoning,
    Request,
    ResponseFormat,
    ServerTool,
    Text,
    Thinking,
    ToolChoice,
    ToolResult,
)
from tieline.types.usage import Usage

ROLES = {
    "user": cohere.UserChatMessageV2,
    "assistant": cohere.AssistantChatMessageV2,
    "system": cohere.SystemChatMessageV2,
    "tool": cohere.ToolChatMessageV2,
}


def ask(text: str = "Hi", **more: Any) -> Request:
    return Request(model="c", messages=[Message("user", [Text(text)])], **more)


def sdk(body: bytes, seen: list[httpx.Request] | None = None) -> cohere.ClientV2:
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return httpx.Response(200, content=body, headers={"content-type": "application/json"})

    return cohere.ClientV2(api_key="k", httpx_client=httpx.Client(transport=httpx.MockTransport(answer)))


def sent(request: Request, **more: Any) -> dict[str, Any]:
    """The request as Cohere gets it: what the official client sends when told the same."""
    body: dict[str, Any] = json.loads(
        DIALECT.encode_request(request, target("cohere", "command-a", **more)).body
    )
    for message in body["messages"]:
        _no_extras(ROLES[message["role"]].model_validate(message))
    for tool in body.get("tools", []):
        _no_extras(cohere.ToolV2.model_validate(tool))
    seen: list[httpx.Request] = []
    arguments = {name: value for name, value in body.items() if name != "stream"}
    answer = json.dumps(ANSWER).encode()
    sdk(answer, seen).chat(**arguments)
    assert json.loads(seen[0].content) == {**body, "stream": False}
    return body


def _no_extras(model: Any) -> None:
    if isinstance(model, BaseModel):
        assert not model.model_extra, (type(model), model.model_extra)
        for name in type(model).model_fields:
            _no_extras(getattr(model, name))
    elif isinstance(model, list):
        for one in model:
            _no_extras(one)


ANSWER = {
    "id": "a1",
    "finish_reason": "TOOL_CALL",
    "message": {
        "role": "assistant",
        "tool_plan": "I look.",
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hello"}],
        "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    },
    "usage": {
        "billed_units": {"input_tokens": 10.0, "output_tokens": 5.0},
        "tokens": {"input_tokens": 400.0, "output_tokens": 7.0},
        "cached_tokens": 4,
    },
}


def test_registry() -> None:
    assert get_upstream("cohere") is DIALECT
    with pytest.raises(KeyError):
        get("cohere")  # nobody calls us in it


# requests -------------------------------------------------------------------------------------------------------------


def test_encoded_tool_loop_is_valid() -> None:
    request = tool_loop()
    body = sent(request)
    assert [message["role"] for message in body["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
    ]
    assert body["messages"][2]["tool_plan"] == "Looking."
    assert body["messages"][4]["content"] == "Error: no such city"
    assert (body["p"], body["max_tokens"]) == (0.9, 100)


def test_all_options_are_valid() -> None:
    body = sent(
        ask(
            top_k=3,
            stop=["x"],
            seed=1,
            frequency_penalty=0.1,
            presence_penalty=0.2,
            logprobs=True,
            reasoning=Reasoning(budget_tokens=500),
            response_format=ResponseFormat("json_schema", schema={"type": "object"}),
        )
    )
    assert body["thinking"] == {"type": "enabled", "token_budget": 500}
    assert body["response_format"] == {"type": "json_object", "json_schema": {"type": "object"}}
    assert sent(ask(reasoning=Reasoning(enabled=False)))["thinking"] == {"type": "disabled"}


def test_wire_14_tool_choice_forms() -> None:
    def tools(choice: ToolChoice) -> dict[str, Any]:
        other = weather_tool()
        other.name = "other"
        return sent(ask(tools=[weather_tool(), other], tool_choice=choice))

    assert tools(ToolChoice("required"))["tool_choice"] == "REQUIRED"
    assert tools(ToolChoice("none"))["tool_choice"] == "NONE"
    assert "tool_choice" not in tools(ToolChoice("auto"))
    one = tools(ToolChoice("tool", "other"))
    assert (one["tool_choice"], [tool["function"]["name"] for tool in one["tools"]]) == (
        "REQUIRED",
        ["other"],
    )


def test_wire_15_orphans_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        sent(Request(model="c", messages=[Message("user", [ToolResult("nobody", [Text("a")])])]))


def test_a_forced_tool_leaves_no_text_to_format() -> None:
    """instructor's Responses mode asks for both."""
    for choice in (ToolChoice("required"), ToolChoice("tool", weather_tool().name)):
        wanted = ResponseFormat("json_schema", schema={"type": "object"})
        body = sent(ask(tools=[weather_tool()], tool_choice=choice, response_format=wanted))
        assert "response_format" not in body
        assert body["tool_choice"] == "REQUIRED"


def test_wire_16_no_tools_no_field() -> None:
    assert "tools" not in sent(ask())


def test_wire_19_images() -> None:
    request = ask()
    request.messages[0].parts.append(Image(media_type="image/png", data=PIXEL, detail="low"))
    image = sent(request)["messages"][0]["content"][1]["image_url"]
    assert image == {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}


def test_wire_21_own_thoughts_are_sent_back_foreign_ones_not() -> None:
    request = ask()
    own = Thinking("Hm.", None, None, None, "cohere")
    foreign = Thinking("Secret", "sig", None, None, "anthropic_messages")
    request.messages += [Message("assistant", [own, foreign, Text("Yes.")]), Message("user", [Text("Sure?")])]
    content = sent(request)["messages"][1]["content"]
    assert content == [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes."}]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"n": 2}, "n"),
        ({"min_p": 0.1}, "min_p"),
        ({"logit_bias": {"1": 1.0}}, "logit_bias"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stop": list("abcdef")}, "stop"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"tools": [weather_tool()], "response_format": ResponseFormat("json_object")}, "response_format"),
        ({"tools": [ServerTool("gemini", {"googleSearch": {}})]}, "tools"),
        ({"messages": [Message("user", [Document(data="AA")])]}, "messages"),
        ({"messages": [Message("user", [Audio("wav", "AA")])]}, "messages"),
        ({"messages": [Message("user", [Opaque("gemini", {})])]}, "messages"),
        ({"messages": [Message("user", [Text("a")]), Message("assistant", [Text("b")])]}, "messages"),
        ({"unmapped": {"safetySettings": [{"threshold": "BLOCK_ONLY_HIGH"}]}}, "safetySettings"),
    ],
)
def test_what_it_cannot_do_is_named(change: dict[str, Any], param: str) -> None:
    request = ask()
    for name, value in change.items():
        setattr(request, name, value)
    with pytest.raises(Unsupported) as caught:
        sent(request)
    assert caught.value.param == param


# answers --------------------------------------------------------------------------------------------------------------


def test_whole_answer() -> None:
    raw = json.dumps(ANSWER).encode()
    assert sdk(raw).chat(model="c", messages=[]).finish_reason == "TOOL_CALL"  # the SDK takes it for its own
    answer = DIALECT.decode_response(raw)
    parts = answer.choices[0].parts
    assert [type(part).__name__ for part in parts] == ["Thinking", "Thinking", "Text", "ToolCall"]
    assert (answer.id, answer.choices[0].finish_reason) == ("a1", "tool_calls")


def test_wire_30_billed_units_are_what_is_charged() -> None:
    assert DIALECT.decode_response(json.dumps(ANSWER).encode()).usage == Usage(
        input_tokens=10, cache_read_tokens=4, output_tokens=5
    )
    for usage in (None, {}, {"tokens": None, "billed_units": None}):
        raw = json.dumps({**ANSWER, "usage": usage}).encode()
        assert DIALECT.decode_response(raw).usage in (None, Usage())


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def delta(kind: str, index: int | None = None, **message: Any) -> dict[str, Any]:
    event: dict[str, Any] = {"type": kind, "delta": {"message": message}}
    return event if index is None else {**event, "index": index}


START = {"type": "message-start", "id": "a1", "delta": {"message": {"role": "assistant"}}}


def end(reason: str, **more: Any) -> dict[str, Any]:
    usage = {"billed_units": {"input_tokens": 3, "output_tokens": 4}}
    return {"type": "message-end", "delta": {"finish_reason": reason, "usage": usage, **more}}


def call_start(index: int, call_id: str) -> dict[str, Any]:
    function = {"name": "weather", "arguments": ""}
    return delta(
        "tool-call-start", index, tool_calls={"id": call_id, "type": "function", "function": function}
    )


def call_delta(index: int, text: str) -> dict[str, Any]:
    return delta("tool-call-delta", index, tool_calls={"function": {"arguments": text}})


STREAM = sse(
    START,
    delta("tool-plan-delta", tool_plan="I "),
    delta("tool-plan-delta", tool_plan="look."),
    call_start(0, "t1"),
    call_delta(0, '{"city":'),
    call_delta(0, '"Rome"}'),
    {"type": "tool-call-end", "index": 0},
    call_start(1, "t2"),
    call_delta(1, "{}"),
    {"type": "tool-call-end", "index": 1},
    end("TOOL_CALL"),
)
SAID = sse(
    START,
    delta("content-start", 0, content={"type": "thinking", "thinking": ""}),
    delta("content-delta", 0, content={"thinking": "Hm."}),
    {"type": "content-end", "index": 0},
    delta("content-start", 1, content={"type": "text", "text": ""}),
    delta("content-delta", 1, content={"text": "Hé"}),
    delta(
        "citation-start", 0, citations={"start": 0, "end": 1, "text": "H", "sources": [], "content_index": 1}
    ),
    {"type": "citation-end", "index": 0},
    delta("content-delta", 1, content={"text": "llo"}),
    {"type": "content-end", "index": 1},
    end("COMPLETE"),
)


@pytest.mark.parametrize(("raw", "count"), [(STREAM, 11), (SAID, 11)])
def test_the_fixtures_are_the_sdks_idea_of_a_stream(raw: bytes, count: int) -> None:
    http = httpx.Client(
        transport=httpx.MockTransport(
            lambda request: httpx.Response(200, content=raw, headers={"content-type": "text/event-stream"})
        )
    )
    events = list(cohere.ClientV2(api_key="k", httpx_client=http).chat_stream(model="c", messages=[]))
    assert len(events) == count
    for event in events:
        _no_extras(event)


def test_wire_1_parallel_calls() -> None:
    events = read(DIALECT, STREAM)
    result = summary(events)
    assert [(block["kind"], block["text"]) for block in result["blocks"]] == [
        ("thinking", "I look."),
        ("tool_call", '{"city":"Rome"}'),
        ("tool_call", "{}"),
    ]
    assert [event.id for event in events if isinstance(event, BlockStart)] == [None, "t1", "t2"]
    assert result["finish"] == "tool_calls"
    assert result["usage"] == Usage(input_tokens=3, output_tokens=4)


def test_wire_5_thinking_then_text_with_citations() -> None:
    events = read(DIALECT, SAID)
    result = summary(events)
    assert [(block["kind"], block["text"]) for block in result["blocks"]] == [
        ("thinking", "Hm."),
        ("text", "Héllo"),
    ]
    assert [event.origin for event in events if isinstance(event, CitationDelta)] == ["cohere"]


@pytest.mark.parametrize(
    ("native", "reason"),
    [("COMPLETE", "stop"), ("STOP_SEQUENCE", "stop"), ("MAX_TOKENS", "length"), ("BRAND_NEW", "stop")],
)
def test_wire_27_reasons(native: str, reason: Any) -> None:
    assert Finish(reason, native) in read(DIALECT, sse(START, end(native)))


@pytest.mark.parametrize(("native", "status"), [("ERROR", 500), ("TIMEOUT", 504)])
def test_wire_9_an_answer_that_ended_in_an_error_is_none(native: str, status: int) -> None:
    with pytest.raises(StreamFault) as caught:
        read(DIALECT, sse(START, end(native, error="boom")))
    assert (caught.value.status, caught.value.info.message) == (status, "boom")
    with pytest.raises(StreamFault):
        DIALECT.decode_response(json.dumps({**ANSWER, "finish_reason": native}).encode())


def test_wire_10_end_without_message_end_is_a_truncation() -> None:
    with pytest.raises(Truncated):
        read(DIALECT, STREAM[: STREAM.index(b"event: message-end")])


def test_errors() -> None:
    info = DIALECT.decode_error(429, [], b'{"id": "x", "message": "trial key limit"}')
    assert info.message == "trial key limit"
    for body in (b"", b"null", b"[]", b"\xff", b'{"message": 3}'):
        DIALECT.decode_error(500, [], body)


# split, cut, garbled --------------------------------------------------------------------------------------------------


def test_wire_2_split_at_every_byte() -> None:
    for raw in (STREAM, SAID):
        expected = summary(read(DIALECT, raw))
        for cut in range(0, len(raw), 3):
            assert summary(read(DIALECT, raw, cut)) == expected
        assert summary(read_pieces(DIALECT, [raw[i : i + 1] for i in range(len(raw))])) == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0, max_value=len(STREAM) - 3))
def test_cut_anywhere_is_never_a_success(cut: int) -> None:
    with pytest.raises((Truncated, Garbled)):
        read(DIALECT, STREAM[:cut])


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60), st.integers(min_value=0, max_value=len(STREAM)))
def test_garbage_anywhere_raises_nothing_else(garbage: bytes, at: int) -> None:
    try:
        read(DIALECT, STREAM[:at] + garbage + STREAM[at:])
    except (Truncated, Garbled, StreamFault):
        pass


KINDS = [
    "message-start",
    "content-start",
    "content-delta",
    "content-end",
    "tool-plan-delta",
    "tool-call-start",
]
KINDS += ["tool-call-delta", "tool-call-end", "citation-start", "message-end"]
NAMES = [
    "delta",
    "message",
    "content",
    "type",
    "text",
    "thinking",
    "tool_calls",
    "function",
    "name",
    "arguments",
]
NAMES += ["index", "finish_reason", "usage", "billed_units", "tokens", "logprobs", "id"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(NAMES), JSON)), max_size=6))
def test_events_of_any_shape_raise_nothing_else(events: list[tuple[str, dict[str, Any]]]) -> None:
    decoder = DIALECT.stream_decoder()
    out = []
    for kind, body in events:
        raw = json.dumps({**body, "type": kind}).encode()
        try:
            DIALECT.decode_response(json.dumps({**body, "finish_reason": "COMPLETE"}).encode())
        except (Garbled, StreamFault):
            pass
        try:
            out += decoder.decode(Frame(raw, raw, kind))
        except (Garbled, StreamFault):
            return
    if decoder.complete:
        summary(out + decoder.finish())
