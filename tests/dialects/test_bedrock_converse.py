"""Bedrock Converse: requests judged by botocore's service model, answers made and read through its parsers."""

from __future__ import annotations

import base64
import json
from typing import Any

import botocore.session
import pytest
from botocore.parsers import create_parser
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.wire import PDF, PIXEL, read, read_pieces, summary, target, tool_loop, weather_tool
from tieline.dialects import eventstream, get_upstream, structured_tool
from tieline.dialects.base import Frame, Garbled, Quirks, StreamFault, Truncated
from tieline.dialects.bedrock_converse import BEDROCK_CONVERSE as DIALECT
from tieline.types.errors import InvalidRequest, Unsupported
from tieline.types.events import BlockStart, Event, Finish, SignatureDelta, UsageReport
from tieline.types.request import (
    Audio,
    CacheMark,
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
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tieline.types.usage import Usage

MODEL = botocore.session.get_session().get_service_model("bedrock-runtime")
CONVERSE = MODEL.operation_model("Converse")
CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"


def ask(text: str = "Hi", **more: Any) -> Request:
    return Request(model="c", messages=[Message("user", [Text(text)])], **more)


def sent(request: Request, model: str = CLAUDE, **more: Any) -> dict[str, Any]:
    """The request as Bedrock gets it, valid by botocore's model, unknown members forbidden."""
    body: dict[str, Any] = json.loads(
        DIALECT.encode_request(request, target("bedrock_converse", model, **more)).body
    )
    assert CONVERSE.input_shape is not None
    _no_unknown_members(body, CONVERSE.input_shape)
    report = ParamValidator().validate({"modelId": model, **body}, CONVERSE.input_shape)
    assert not report.has_errors(), report.generate_report()
    return body


def _no_unknown_members(value: Any, shape: Any) -> None:
    """botocore's validator passes over members it does not know; the service does not."""
    if shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
        assert set(value) <= set(shape.members), (shape.name, set(value) - set(shape.members))
        for name, inner in value.items():
            _no_unknown_members(inner, shape.members[name])
    elif shape.type_name == "list":
        for inner in value:
            _no_unknown_members(inner, shape.member)


def test_upstream_only_dialects_are_found() -> None:
    assert get_upstream("bedrock_converse") is DIALECT


# requests -------------------------------------------------------------------------------------------------------------


def test_encoded_tool_loop_is_valid() -> None:
    body = sent(tool_loop())
    assert body["system"] == [{"text": "Be brief."}]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    results = body["messages"][2]["content"]
    assert results[0]["toolResult"] == {"toolUseId": "call_1", "content": [{"text": "sunny"}]}
    assert results[1]["toolResult"]["status"] == "error"
    assert results[2] == {"text": "Go on."}
    assert body["inferenceConfig"] == {"maxTokens": 100, "temperature": 0.5, "topP": 0.9}


def test_paths() -> None:
    assert (
        DIALECT.encode_request(ask(), target("bedrock_converse", "a.b-v1:0")).path
        == "/model/a.b-v1%3A0/converse"
    )
    streamed = DIALECT.encode_request(ask(stream=True), target("bedrock_converse", "a"))
    assert streamed.path == "/model/a/converse-stream"


def test_wire_14_tool_choice_forms() -> None:
    def choice(wanted: ToolChoice) -> Any:
        return sent(ask(tools=[weather_tool()], tool_choice=wanted)).get("toolConfig", {}).get("toolChoice")

    assert choice(ToolChoice("auto")) == {"auto": {}}
    assert choice(ToolChoice("required")) == {"any": {}}
    assert choice(ToolChoice("tool", "weather")) == {"tool": {"name": "weather"}}
    assert "toolConfig" not in sent(ask(tools=[weather_tool()], tool_choice=ToolChoice("none")))


def test_wire_15_ids_are_made_to_fit_and_orphans_refused() -> None:
    request = tool_loop()
    long = "call/" + "x" * 80
    request.messages[2].parts[1] = ToolCall(long, "weather", "{}")
    request.messages[3].parts[0] = ToolResult(long, [Text("a")])
    body = sent(request)
    made = body["messages"][1]["content"][1]["toolUse"]["toolUseId"]
    assert made == body["messages"][2]["content"][0]["toolResult"]["toolUseId"]
    with pytest.raises(InvalidRequest):
        sent(Request(model="c", messages=[Message("user", [ToolResult("nobody", [Text("a")])])]))


def test_wire_17_cache_marks() -> None:
    request = ask()
    request.messages.insert(0, Message("system", [Text("Long.", CacheMark("1h"))]))
    request.messages[1].parts[0] = Text("Hi", CacheMark())
    body = sent(request)
    assert body["system"][1] == {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert body["messages"][0]["content"][1] == {"cachePoint": {"type": "default"}}
    assert len(sent(request, "meta.llama3-3-70b-instruct-v1:0")["system"]) == 1


def test_wire_18_blank_texts_prefills_and_document_only_messages() -> None:
    request = ask()
    request.messages[0].parts = [Text(" "), Document(data=PDF, name="my_report.v2.pdf")]
    request.messages.append(Message("assistant", [Text("It says \n")]))
    body = sent(request)
    document, text = body["messages"][0]["content"]
    assert document["document"]["name"] == "my report v2 1"
    assert text == {"text": "my report v2 1"}
    assert body["messages"][1]["content"] == [{"text": "It says"}]


def test_wire_19_media_parts() -> None:
    request = ask()
    request.messages[0].parts += [
        Image(media_type="image/png", data=PIXEL),
        Document(media_type="text/plain", data="plain", name="a.txt"),
        Audio("wav", "AAAA"),
    ]
    content = sent(request)["messages"][0]["content"]
    assert content[1]["image"] == {"format": "png", "source": {"bytes": PIXEL}}
    assert base64.b64decode(content[2]["document"]["source"]["bytes"]) == b"plain"
    assert content[3]["audio"]["format"] == "wav"


def test_wire_20_a_prefill_where_it_is_refused() -> None:
    request = ask()
    request.messages.append(Message("assistant", [Text("So")]))
    with pytest.raises(Unsupported) as caught:
        sent(request, prefill=False)
    assert caught.value.param == "messages"


def test_wire_21_signed_thinking_of_the_same_family() -> None:
    request = ask()
    request.messages += [
        Message(
            "assistant",
            [
                Thinking("Hm.", "sig", None, None, "anthropic_messages"),
                Thinking("", None, "cmVk", None, "bedrock_converse"),
                Thinking("Hm.", "sig", None, None, "gemini"),
                Text("Yes."),
            ],
        ),
        Message("user", [Text("Sure?")]),
    ]
    content = sent(request)["messages"][1]["content"]
    assert content[0] == {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}}
    assert content[1] == {"reasoningContent": {"redactedContent": "cmVk"}}
    assert content[2] == {"text": "Yes."}
    assert sent(request, "amazon.nova-pro-v1:0")["messages"][1]["content"] == [{"text": "Yes."}]


def test_wire_22_effort_and_budget() -> None:
    def fields(reasoning: Reasoning, model: str = CLAUDE, **more: Any) -> Any:
        return sent(ask(reasoning=reasoning), model, **more).get("additionalModelRequestFields")

    assert fields(Reasoning(effort="medium")) == {"thinking": {"type": "enabled", "budget_tokens": 8192}}
    assert fields(Reasoning(budget_tokens=500)) == {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    assert fields(Reasoning(enabled=False)) is None
    nova = fields(Reasoning(effort="high"), "us.amazon.nova-2-lite-v1:0")
    assert nova == {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}
    assert fields(Reasoning(effort="low"), "openai.gpt-oss-120b-1:0") == {"reasoning_effort": "low"}
    body = sent(ask(reasoning=Reasoning(effort="xhigh")), adaptive_thinking=True)
    assert body["additionalModelRequestFields"] == {"thinking": {"type": "adaptive"}}
    assert body["outputConfig"] == {"effort": "xhigh"}


def test_wire_22_the_budget_stays_below_the_limit() -> None:
    body = sent(ask(reasoning=Reasoning(effort="high"), max_output_tokens=4000))
    assert body["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 3999
    with pytest.raises(Unsupported):
        sent(ask(reasoning=Reasoning(effort="high"), max_output_tokens=500))
    with pytest.raises(Unsupported) as caught:
        sent(ask(reasoning=Reasoning(effort="high"), temperature=0.3))
    assert caught.value.param == "temperature"


def test_wire_23_structured_output_native_and_as_a_forced_tool() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    wanted = ResponseFormat("json_schema", "city", schema)
    native = sent(ask(response_format=wanted))["outputConfig"]["textFormat"]
    assert json.loads(native["structure"]["jsonSchema"]["schema"]) == schema | {"additionalProperties": False}
    forced = sent(ask(response_format=wanted), quirks=Quirks(json_schema=False))["toolConfig"]
    assert forced["toolChoice"] == {"tool": {"name": structured_tool.NAME}}
    assert forced["tools"][0]["toolSpec"]["inputSchema"]["json"] == schema
    assert "toolConfig" in sent(ask(response_format=ResponseFormat("json_object")))


def test_top_k_by_family() -> None:
    assert sent(ask(top_k=5))["additionalModelRequestFields"] == {"top_k": 5}
    nova = sent(ask(top_k=5), "amazon.nova-pro-v1:0")
    assert nova["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 5}}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"seed": 1}, "seed"),
        ({"n": 2}, "n"),
        ({"frequency_penalty": 1.0}, "frequency_penalty"),
        ({"presence_penalty": 1.0}, "presence_penalty"),
        ({"logit_bias": {"1": 1.0}}, "logit_bias"),
        ({"logprobs": True}, "logprobs"),
        ({"min_p": 0.1}, "min_p"),
        ({"service_tier": "gold"}, "service_tier"),
        ({"unmapped": {"web_search_options": {}}}, "web_search_options"),
        ({"tools": [ServerTool("openai_responses", {"type": "web_search"})]}, "tools"),
        ({"messages": [Message("user", [Image(url="https://a.test/b.png")])]}, "messages"),
        ({"messages": [Message("user", [Document(url="https://a.test/b.pdf")])]}, "messages"),
        ({"messages": [Message("user", [Opaque("gemini", {})])]}, "messages"),
    ],
)
def test_what_it_cannot_do_is_named(change: dict[str, Any], param: str) -> None:
    request = ask()
    for name, value in change.items():
        setattr(request, name, value)
    with pytest.raises(Unsupported) as caught:
        sent(request)
    assert caught.value.param == param


def test_a_conversation_with_calls_goes_without_its_tools_in_words() -> None:
    request = tool_loop()
    request.tools = []
    said = json.dumps(sent(request)["messages"])
    assert "toolUse" not in said
    assert "toolResult" not in said
    assert "[Result of the call of weather failed:]" in said


def test_reasoning_that_a_family_does_not_offer() -> None:
    with pytest.raises(Unsupported):
        sent(ask(reasoning=Reasoning(effort="high")), "meta.llama3-3-70b-instruct-v1:0")
    with pytest.raises(Unsupported):
        sent(ask(top_k=3), "meta.llama3-3-70b-instruct-v1:0")


# answers --------------------------------------------------------------------------------------------------------------

ANSWER = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}},
                {"reasoningContent": {"redactedContent": "cmVk"}},
                {"text": "Hello"},
                {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Rome"}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": {
        "inputTokens": 10,
        "outputTokens": 5,
        "totalTokens": 55,
        "cacheReadInputTokens": 30,
        "cacheWriteInputTokens": 10,
        "cacheDetails": [{"ttl": "1h", "inputTokens": 4}, {"ttl": "5m", "inputTokens": 6}],
    },
    "metrics": {"latencyMs": 5},
}


def test_whole_answer_wire_29_cached_tokens_are_added_back() -> None:
    raw = json.dumps(ANSWER).encode()
    parsed = create_parser("rest-json").parse(
        {"status_code": 200, "headers": {}, "body": raw}, CONVERSE.output_shape
    )
    assert parsed["stopReason"] == "tool_use"  # the fixture is botocore's idea of an answer
    answer = DIALECT.decode_response(raw)
    assert answer.choices[0].parts == [
        Thinking("Hm.", "sig", None, None, "anthropic_messages"),
        Thinking("", None, "cmVk", None, "bedrock_converse"),
        Text("Hello"),
        ToolCall("t1", "weather", '{"city":"Rome"}'),
    ]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage == Usage(
        input_tokens=50,
        cache_read_tokens=30,
        cache_write_5m_tokens=6,
        cache_write_1h_tokens=4,
        output_tokens=5,
    )


def frame(kind: str, **fields: Any) -> bytes:
    return eventstream.event(kind, json.dumps(fields).encode())


STREAM = b"".join(
    [
        frame("messageStart", role="assistant"),
        frame("contentBlockDelta", contentBlockIndex=0, delta={"reasoningContent": {"text": "Hm."}}),
        frame("contentBlockDelta", contentBlockIndex=0, delta={"reasoningContent": {"signature": "sig"}}),
        frame("contentBlockStop", contentBlockIndex=0),
        frame("contentBlockDelta", contentBlockIndex=1, delta={"text": "Hé"}),
        frame("contentBlockDelta", contentBlockIndex=1, delta={"text": "llo"}),
        frame("contentBlockStop", contentBlockIndex=1),
        frame(
            "contentBlockStart",
            contentBlockIndex=2,
            start={"toolUse": {"toolUseId": "t1", "name": "weather"}},
        ),
        frame("contentBlockDelta", contentBlockIndex=2, delta={"toolUse": {"input": '{"city":'}}),
        frame("contentBlockDelta", contentBlockIndex=2, delta={"toolUse": {"input": '"Rome"}'}}),
        frame("contentBlockStop", contentBlockIndex=2),
        frame("messageStop", stopReason="tool_use"),
        frame(
            "metadata",
            usage={"inputTokens": 10, "outputTokens": 5, "totalTokens": 45, "cacheReadInputTokens": 30},
            metrics={"latencyMs": 3},
        ),
    ]
)


def test_stream_is_what_botocore_reads_too() -> None:
    from botocore.eventstream import EventStream

    class Raw:
        def stream(self) -> Any:
            yield STREAM

        def close(self) -> None: ...

    shape = MODEL.operation_model("ConverseStream").get_event_stream_output()
    events = list(
        EventStream(Raw(), shape, create_parser("rest-json")._event_stream_parser, "ConverseStream")
    )
    assert len(events) == 13
    assert events[-1]["metadata"]["usage"]["inputTokens"] == 10


def test_wire_11_usage_comes_after_the_stop() -> None:
    events = read(DIALECT, STREAM)
    result = summary(events)
    assert [(block["kind"], block["text"]) for block in result["blocks"]] == [
        ("thinking", "Hm."),
        ("text", "Héllo"),
        ("tool_call", '{"city":"Rome"}'),
    ]
    assert SignatureDelta(0, "sig") in events
    assert events[-2:] == [
        Finish("tool_calls", "tool_use"),
        UsageReport(Usage(input_tokens=40, cache_read_tokens=30, output_tokens=5)),
    ]


def test_wire_10_complete_at_messageStop_ended_at_metadata() -> None:
    decoder = DIALECT.stream_decoder()
    states = []
    for one in DIALECT.splitter().feed(STREAM):
        decoder.decode(one)
        states.append((decoder.complete, decoder.ended))
    assert states[-3:] == [(False, False), (True, False), (True, True)]


def test_wire_10_end_before_messageStop_is_a_truncation() -> None:
    with pytest.raises(Truncated):
        read(DIALECT, STREAM[: STREAM.index(b"messageStop") - 40])


def test_wire_23_a_forced_tool_is_the_content() -> None:
    raw = b"".join(
        [
            frame("messageStart", role="assistant"),
            frame(
                "contentBlockStart",
                contentBlockIndex=0,
                start={"toolUse": {"toolUseId": "t", "name": structured_tool.NAME}},
            ),
            frame("contentBlockDelta", contentBlockIndex=0, delta={"toolUse": {"input": '{"a":1}'}}),
            frame("contentBlockStop", contentBlockIndex=0),
            frame("messageStop", stopReason="tool_use"),
        ]
    )
    result = summary(read(DIALECT, raw))
    assert result["blocks"][0]["kind"] == "text"
    assert result["blocks"][0]["text"] == '{"a":1}'
    assert result["finish"] == "stop"
    content = [{"toolUse": {"toolUseId": "t", "name": structured_tool.NAME, "input": {"a": 1}}}]
    whole = {"output": {"message": {"content": content}}, "stopReason": "tool_use"}
    choice = DIALECT.decode_response(json.dumps(whole).encode()).choices[0]
    assert (choice.parts, choice.finish_reason) == ([Text('{"a":1}')], "stop")


def test_redacted_reasoning_in_a_stream() -> None:
    raw = b"".join(
        [
            frame("messageStart", role="assistant"),
            frame(
                "contentBlockDelta",
                contentBlockIndex=0,
                delta={"reasoningContent": {"redactedContent": "cmVk"}},
            ),
            frame("contentBlockStop", contentBlockIndex=0),
            frame("messageStop", stopReason="end_turn"),
        ]
    )
    starts = [event for event in read(DIALECT, raw) if isinstance(event, BlockStart)]
    assert (starts[0].kind, starts[0].value, starts[0].origin) == ("thinking", "cmVk", "bedrock_converse")


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("throttlingException", {"message": "slow"}, 429),
        ("validationException", {"message": "bad"}, 400),
        ("internalServerException", {"message": "oh"}, 500),
        ("serviceUnavailableException", {"message": "oh"}, 503),
        ("modelStreamErrorException", {"originalStatusCode": 503, "originalMessage": "oh"}, 503),
        ("modelStreamErrorException", {"message": "oh"}, 500),
    ],
)
def test_wire_9_exceptions_inside_the_stream(kind: str, body: dict[str, Any], status: int) -> None:
    raw = frame("messageStart", role="assistant")
    raw += eventstream.exception(kind, json.dumps(body).encode())
    with pytest.raises(StreamFault) as caught:
        read(DIALECT, raw)
    assert caught.value.status == status
    assert caught.value.info.code == kind
    assert caught.value.info.message in ("slow", "bad", "oh")


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("brand_new", "stop"),
    ],
)
def test_wire_27_reasons(native: str, reason: Any) -> None:
    raw = frame("messageStart", role="assistant") + frame("messageStop", stopReason=native)
    assert Finish(reason, native) in read(DIALECT, raw)


def test_errors_name_the_exception() -> None:
    headers = [(b"x-amzn-errortype", b"ThrottlingException:http://internal.amazon.com/coral/")]
    info = DIALECT.decode_error(429, headers, b'{"message":"Too many requests"}')
    assert (info.code, info.message) == ("ThrottlingException", "Too many requests")
    info = DIALECT.decode_error(400, [], b'{"__type":"com.amazon#ValidationException","Message":"bad"}')
    assert (info.code, info.message) == ("ValidationException", "bad")
    assert DIALECT.decode_error(503, [], b"<html><title>x</title>").html


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b"\xff", b'{"message": 3}'])
def test_errors_of_any_shape_never_raise(body: bytes) -> None:
    DIALECT.decode_error(500, [], body)


# split, cut, garbled --------------------------------------------------------------------------------------------------


def test_wire_2_split_at_every_byte() -> None:
    expected = summary(read(DIALECT, STREAM))
    for cut in range(0, len(STREAM), 5):
        assert summary(read(DIALECT, STREAM, cut)) == expected
    assert summary(read_pieces(DIALECT, [STREAM[i : i + 1] for i in range(len(STREAM))])) == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0, max_value=STREAM.index(b"messageStop") - 1))
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
    "messageStart",
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockStop",
    "messageStop",
    "metadata",
]
NAMES = ["delta", "start", "toolUse", "text", "contentBlockIndex", "name", "toolUseId", "stopReason", "usage"]
NAMES += [
    "reasoningContent",
    "redactedContent",
    "signature",
    "input",
    "inputTokens",
    "cacheDetails",
    "output",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), JSON), max_size=6))
def test_events_of_any_shape_raise_nothing_else(given_events: list[tuple[str, Any]]) -> None:
    decoder = DIALECT.stream_decoder()
    events: list[Event] = []
    for kind, body in given_events:
        raw = json.dumps(body).encode()
        try:
            events += decoder.decode(Frame(raw, raw, kind))
        except (Garbled, StreamFault):
            return
        try:
            DIALECT.decode_response(raw)
        except (Garbled, StreamFault):
            pass
    if decoder.complete:
        summary(events + decoder.finish())
