"""OpenAI Responses: judged by the official SDK's types and parsers."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response as SdkResponse
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import BaseModel, TypeAdapter

from tests.dialects.wire import (
    PDF,
    PIXEL,
    answer_events,
    call,
    encoded,
    read,
    read_pieces,
    serving,
    summary,
    target,
    text_events,
    tool_loop,
    weather_tool,
)
from tieline.dialects import get_upstream
from tieline.dialects.base import Frame, Garbled, Quirks, StreamFault, Truncated
from tieline.dialects.openai_responses import OPENAI_RESPONSES as DIALECT
from tieline.types.errors import Fault, InvalidRequest, Unsupported
from tieline.types.events import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Finish,
    SignatureDelta,
    Start,
    TextDelta,
)
from tieline.types.request import (
    Audio,
    Document,
    Image,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    Request,
    ResponseFormat,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tieline.types.response import Choice, Response
from tieline.types.usage import Usage

NAME = "openai_responses"
SENT = TypeAdapter(ResponseCreateParamsNonStreaming)


def decoded(body: dict[str, Any]) -> Request:
    incoming = call(NAME, {"model": "gpt-5", **body})
    return DIALECT.decode_request(incoming, DIALECT.peek(incoming))


def sent(request: Request, **more: Any) -> dict[str, Any]:
    """The request as the provider gets it, valid by the vendor's own types."""
    body: dict[str, Any] = json.loads(DIALECT.encode_request(request, target(NAME, "gpt-5", **more)).body)
    checked = {name: value for name, value in body.items() if name != "stream"}
    SENT.validate_python(checked)
    return body


def ask(text: str = "Hi", **more: Any) -> Request:
    return Request(model="gpt-5", messages=[Message("user", [Text(text)])], **more)


def client(body: bytes, status: int = 200, media_type: str = "text/event-stream") -> openai.OpenAI:
    http, _ = serving(body, status, media_type)
    return openai.OpenAI(api_key="k", base_url="http://sdk.test/v1", http_client=http, max_retries=0)


# downstream: requests -------------------------------------------------------------------------------------------------


def test_input_as_a_string() -> None:
    request = decoded({"input": "Hi", "instructions": "Be brief."})
    assert request.messages == [Message("system", [Text("Be brief.")]), Message("user", [Text("Hi")])]


def test_items_of_one_turn_become_one_message_wire_13() -> None:
    request = decoded(
        {
            "input": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"},
                {
                    "type": "message",
                    "role": "assistant",
                    "id": "msg_1",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "Looking.", "annotations": []}],
                },
                {
                    "type": "function_call",
                    "id": "fc_1",
                    "call_id": "call_1",
                    "name": "weather",
                    "arguments": "{}",
                },
                {
                    "type": "function_call",
                    "id": "fc_2",
                    "call_id": "call_2",
                    "name": "weather",
                    "arguments": "{}",
                },
                {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
                {
                    "type": "function_call_output",
                    "call_id": "call_2",
                    "output": [{"type": "input_text", "text": "rain"}],
                },
                {"role": "user", "content": "Go on."},
            ]
        }
    )
    assert request.messages == [
        Message("system", [Text("Be brief.")]),
        Message("user", [Text("Weather?")]),
        Message(
            "assistant",
            [
                Thinking("", "sealed", None, "rs_1", NAME),
                Text("Looking."),
                ToolCall("call_1", "weather", "{}"),
                ToolCall("call_2", "weather", "{}"),
            ],
        ),
        Message(
            "user",
            [ToolResult("call_1", [Text("sunny")]), ToolResult("call_2", [Text("rain")]), Text("Go on.")],
        ),
    ]


def test_wire_19_media_parts() -> None:
    content = [
        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
        {"type": "input_image", "image_url": "https://a.test/b.png", "detail": "auto"},
        {"type": "input_image", "file_id": "file-1", "detail": "auto"},
        {"type": "input_file", "file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"},
        {"type": "input_file", "file_url": "https://a.test/b.pdf"},
        {"type": "input_audio", "input_audio": {"format": "wav", "data": "AAAA"}},
    ]
    request = decoded({"input": [{"role": "user", "content": content}]})
    assert request.messages[0].parts == [
        Image(media_type="image/png", data=PIXEL, detail="low"),
        Image(url="https://a.test/b.png", detail="auto"),
        Image(file_id="file-1", detail="auto"),
        Document(media_type="application/pdf", data=PDF, name="a.pdf"),
        Document(url="https://a.test/b.pdf"),
        Audio("wav", "AAAA"),
    ]
    incoming = call(NAME, {"model": "m", "input": [{"role": "user", "content": content}]})
    peek = DIALECT.peek(incoming)
    assert peek.features == {"images", "pdf", "audio"}
    assert 36_000 < peek.input_chars < 36_400  # the image's base64 is not text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("store", True),
        ("previous_response_id", "resp_1"),
        ("conversation", {"id": "conv_1"}),
        ("background", True),
    ],
)
def test_state_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.peek(call(NAME, {"model": "m", "input": "Hi", field: value}))
    assert caught.value.param == field
    assert field in caught.value.message


@pytest.mark.parametrize("field", ["store", "background", "previous_response_id"])
def test_state_that_is_not_asked_for_is_fine(field: str) -> None:
    value = None if field == "previous_response_id" else False
    assert decoded({"input": "Hi", field: value}).unmapped == {}


def test_reference_to_a_stored_item_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        decoded({"input": [{"type": "item_reference", "id": "msg_1"}]})
    assert caught.value.param == "input[0]"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": "a", "stream": "yes"}, "stream"),
        ({"input": [3]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"type": "function_call", "call_id": "a"}]}, "input[0].name"),
        ({"input": "a", "tools": [{"type": "function", "function": {"name": "x"}}]}, "tools[0].function"),
        ({"input": "a", "temperature": "hot"}, "temperature"),
        ({"input": "a", "text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"input": "a", "text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
        ({"input": "a", "tool_choice": "sometimes"}, "tool_choice"),
        ({"input": "a", "metadata": {"a": 1}}, "metadata"),
        ({"messages": [{"role": "user", "content": "a"}]}, "input"),
    ],
)
def test_bad_input_names_its_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decoded(body)
    assert caught.value.param == param


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": "\xff"}', b"[" * 100_000, b'{"a":' * 50_000])
def test_bytes_that_are_not_a_request(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        DIALECT.peek(call(NAME, body))


def test_options() -> None:
    request = decoded(
        {
            "input": "Hi",
            "tools": [
                {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
            ],
            "tool_choice": {"type": "function", "name": "weather"},
            "parallel_tool_calls": False,
            "reasoning": {"effort": "high", "summary": "auto"},
            "text": {
                "format": {"type": "json_schema", "name": "out", "schema": {"type": "object"}, "strict": True}
            },
            "max_output_tokens": 50,
            "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
            "top_logprobs": 2,
            "metadata": {"a": "b"},
            "service_tier": "flex",
            "safety_identifier": "u1",
            "prompt_cache_key": "k",
            "truncation": "disabled",
        }
    )
    assert request.tool_choice == ToolChoice("tool", "weather", False)
    assert request.reasoning == Reasoning(effort="high", summary="auto")
    assert request.response_format == ResponseFormat("json_schema", "out", {"type": "object"}, True)
    assert (request.logprobs, request.top_logprobs, request.user) == (True, 2, "u1")
    assert request.unmapped == {}
    assert request.origin == NAME


def test_what_has_no_common_meaning_is_kept_by_name() -> None:
    request = decoded(
        {
            "input": "Hi",
            "truncation": "auto",
            "max_tool_calls": 3,
            "text": {"verbosity": "low"},
            "include": ["file_search_call.results"],
            "brand_new": 1,
            "tool_choice": {"type": "mcp", "server_label": "x"},
        }
    )
    assert set(request.unmapped) == {
        "truncation",
        "max_tool_calls",
        "text.verbosity",
        "include",
        "brand_new",
        "tool_choice",
    }


def test_allowed_tools_are_the_only_ones_offered() -> None:
    tools = [{"type": "function", "name": name, "parameters": {}} for name in ("a", "b")]
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "b"}]}
    request = decoded({"input": "Hi", "tools": tools, "tool_choice": choice})
    assert [tool.name for tool in request.tools if not isinstance(tool, ServerTool)] == ["b"]
    assert request.tool_choice == ToolChoice("required")


def test_built_in_tools_belong_to_the_vendor() -> None:
    request = decoded({"input": "Hi", "tools": [{"type": "web_search"}]})
    assert request.tools == [ServerTool(NAME, {"type": "web_search"})]


def test_peek() -> None:
    body = {
        "model": "gpt-5",
        "input": "Hi",
        "stream": True,
        "tieline": {"profile": "p"},
        "models": ["b"],
        "provider": {"order": ["x"]},
        "tools": [{"type": "function", "name": "a", "parameters": {}}, {"type": "web_search"}],
        "tool_choice": "required",
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {}}},
    }
    peek = DIALECT.peek(call(NAME, body))
    assert (peek.model, peek.stream, peek.fallbacks) == ("gpt-5", True, ("b",))
    assert peek.options == {"profile": "p"}
    assert peek.provider_preferences == {"order": ["x"]}
    assert peek.features == {"tools", "server_tools", "forced_tool", "reasoning", "json_schema"}
    assert not {"tieline", "models", "provider"} & set(peek.fields)


# downstream: answers --------------------------------------------------------------------------------------------------


def response(*parts: Any, finish: Any = "stop", usage: Usage | None = None) -> Response:
    return Response(id="resp_9", model="m", created=7, choices=[Choice(list(parts), finish)], usage=usage)


def test_encoded_answer_is_the_sdks() -> None:
    answer = response(
        Thinking("Hm.", "c2ln", None, "rs_7", NAME),
        Text("Hello"),
        ToolCall("call_1", "weather", '{"city":"Rome"}'),
        finish="tool_calls",
        usage=Usage(input_tokens=10, cache_read_tokens=4, output_tokens=5, reasoning_tokens=2),
    )
    raw = DIALECT.encode_response(answer, decoded({"input": "Hi", "tools": [tool_json()]}))
    TypeAdapter(SdkResponse).validate_json(raw)
    parsed = client(raw, media_type="application/json").responses.create(model="m", input="Hi")
    assert parsed.output_text == "Hello"
    assert [item.type for item in parsed.output] == ["reasoning", "message", "function_call"]
    assert parsed.usage is not None
    assert parsed.usage.input_tokens_details.cached_tokens == 4
    assert parsed.usage.output_tokens_details.reasoning_tokens == 2
    assert parsed.status == "completed"


def tool_json() -> dict[str, Any]:
    tool = weather_tool()
    return {"type": "function", "name": tool.name, "parameters": tool.parameters, "strict": False}


@pytest.mark.parametrize(
    ("reason", "detail"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_wire_27_incomplete_answers_say_why(reason: str, detail: str) -> None:
    raw = DIALECT.encode_response(response(Text("Hel"), finish=reason), ask())
    parsed = TypeAdapter(SdkResponse).validate_json(raw)
    assert parsed.status == "incomplete"
    assert parsed.incomplete_details is not None
    assert parsed.incomplete_details.reason == detail
    assert DIALECT.decode_response(raw).choices[0].finish_reason == reason


class City(BaseModel):
    city: str


def test_parse_helper() -> None:
    raw = DIALECT.encode_response(response(Text('{"city": "Rome"}')), ask())
    parsed = client(raw, media_type="application/json").responses.parse(
        model="m", input="Hi", text_format=City
    )
    assert parsed.output_parsed == City(city="Rome")


def test_stream_helper_accepts_the_stream() -> None:
    request = ask(stream=True, tools=[weather_tool()])
    raw = encoded(DIALECT.stream_encoder(request), answer_events(NAME))
    with client(raw).responses.stream(model="m", input="Hi") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call", "function_call"]
    assert final.output_text == "Héllo"
    calls = [item for item in final.output if item.type == "function_call"]
    assert [json.loads(item.arguments) for item in calls] == [{"city": "Rome"}, {"city": "Oslo"}]
    assert final.usage is not None
    assert final.usage.total_tokens == 130
    numbers = [event.sequence_number for event in events if hasattr(event, "sequence_number")]
    assert numbers == list(range(len(numbers)))
    kinds = [event.type for event in events]
    for kind in (
        "response.created",
        "response.in_progress",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.done",
        "response.content_part.done",
        "response.function_call_arguments.done",
        "response.completed",
    ):
        assert kind in kinds


def test_every_event_of_the_stream_is_valid_by_the_sdks_types() -> None:
    from openai.types.responses import ResponseStreamEvent

    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    events = answer_events(NAME)
    events[-2:-2] = [BlockStart(4, "refusal"), TextDelta(4, "No."), BlockStop(4)]
    raw = encoded(DIALECT.stream_encoder(ask(tools=[weather_tool()])), events)
    frames = DIALECT.splitter().feed(raw)
    for frame in frames:
        assert adapter.validate_json(frame.data).type == frame.event


def test_stream_helper_parses_structured_output() -> None:
    raw = encoded(DIALECT.stream_encoder(ask()), text_events())
    with client(raw).responses.stream(model="m", input="Hi", text_format=City) as stream:
        assert stream.get_final_response().output_parsed == City(city="Rome")


def test_wire_6_one_id_in_the_whole_stream() -> None:
    frames = DIALECT.splitter().feed(encoded(DIALECT.stream_encoder(ask()), text_events()))
    ids = {body["response"]["id"] for frame in frames if "response" in (body := json.loads(frame.data))}
    assert ids == {"resp_1"}


def test_stream_round_trip() -> None:
    raw = encoded(DIALECT.stream_encoder(ask()), answer_events(NAME))
    result = summary(read(DIALECT, raw))
    assert [block["kind"] for block in result["blocks"]] == ["thinking", "text", "tool_call", "tool_call"]
    assert [block["text"] for block in result["blocks"]] == [
        "Let me see.",
        "Héllo",
        '{"city": "Rome"}',
        '{"city": "Oslo"}',
    ]
    assert result["blocks"][0]["signature"] == "c2ln"
    assert result["finish"] == "tool_calls"
    assert result["usage"].cache_read_tokens == 40


def test_error_in_the_stream_raises_in_the_sdk() -> None:
    encoder = DIALECT.stream_encoder(ask())
    raw = b"".join(encoder.encode(event) for event in text_events()[:3])
    raw += encoder.error(Fault(status=502, code="truncated", message="It broke."), "req_1")
    with pytest.raises(openai.APIError, match=r"It broke\."):
        list(client(raw).responses.create(model="m", input="Hi", stream=True))
    with pytest.raises(StreamFault):
        read(DIALECT, raw)


def test_finish_without_a_reason_is_never_a_complete_answer() -> None:
    encoder = DIALECT.stream_encoder(ask())
    raw = b"".join(encoder.encode(event) for event in text_events()[:3]) + encoder.finish()
    assert b"response.completed" not in raw
    with pytest.raises(StreamFault):
        read(DIALECT, raw)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (503, openai.InternalServerError),
    ],
)
def test_errors_raise_the_sdks_own_class(status: int, kind: type[openai.APIStatusError]) -> None:
    body = DIALECT.encode_error(Fault(status=status, code="some_code", message="No.", param="input"), "req_1")
    with pytest.raises(kind) as caught:
        client(body, status, "application/json").responses.create(model="m", input="Hi")
    assert caught.value.code == "some_code"
    assert caught.value.param == "input"


def test_wire_12_keep_alives_are_ignored() -> None:
    encoder = DIALECT.stream_encoder(ask())
    raw = encoder.ping() + encoded(encoder, text_events())
    with client(raw).responses.stream(model="m", input="Hi") as stream:
        assert stream.get_final_response().status == "completed"


# upstream: requests ---------------------------------------------------------------------------------------------------


def test_encoded_tool_loop_is_valid() -> None:
    body = sent(tool_loop())
    assert body["store"] is False
    assert body["instructions"] == "Be brief."
    assert [item.get("type", item.get("role")) for item in body["input"]] == [
        "user",
        "assistant",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
        "user",
    ]
    assert body["input"][5]["output"] == "Error: no such city"


def test_request_round_trip() -> None:
    request = tool_loop()
    request.messages[3].parts[1].is_error = False  # type: ignore[union-attr]
    again = decoded(sent(request))
    assert again.messages[1].parts == [
        Text("Weather in Rome and Oslo?"),
        Image(media_type="image/png", data=PIXEL, detail="auto"),
    ]
    assert again.messages[2:] == request.messages[2:]


def test_all_options_are_valid() -> None:
    body = sent(
        ask(
            stream=True,
            tools=[weather_tool(), ServerTool(NAME, {"type": "web_search"})],
            tool_choice=ToolChoice("tool", "weather", False),
            reasoning=Reasoning(effort="high", summary="auto"),
            response_format=ResponseFormat("json_schema", "out", {"type": "object"}, True),
            max_output_tokens=64,
            logprobs=True,
            top_logprobs=2,
            user="u",
            metadata={"a": "b"},
            service_tier="flex",
            origin=NAME,
            unmapped={"truncation": "auto", "text.verbosity": "low"},
        )
    )
    assert body["tool_choice"] == {"type": "function", "name": "weather"}
    assert body["text"]["verbosity"] == "low"
    assert body["text"]["format"]["type"] == "json_schema"
    assert set(body["include"]) == {"message.output_text.logprobs", "reasoning.encrypted_content"}
    assert body["stream"] is True


def test_wire_14_tool_choice_forms() -> None:
    for mode in ("required", "none"):
        assert sent(ask(tools=[weather_tool()], tool_choice=ToolChoice(mode)))["tool_choice"] == mode  # type: ignore[arg-type]
    assert "tool_choice" not in sent(ask(tools=[weather_tool()], tool_choice=ToolChoice("auto")))
    assert "tools" not in sent(ask())


def test_wire_15_orphans_and_duplicates_are_refused() -> None:
    orphan = Request(model="m", messages=[Message("user", [ToolResult("nobody", [Text("x")])])])
    with pytest.raises(InvalidRequest):
        sent(orphan)
    twice = tool_loop()
    twice.messages[2].parts[2] = ToolCall("call_1", "weather", "{}")
    with pytest.raises(InvalidRequest):
        sent(twice)


def test_wire_16_keywords_a_host_rejects_are_left_out() -> None:
    tool = weather_tool()
    tool.parameters = {
        "$schema": "x",
        "type": "object",
        "properties": {"$schema": {"type": "string", "format": "x"}},
    }
    body = sent(ask(tools=[tool]), quirks=Quirks(schema_strips=("$schema", "format")))
    assert body["tools"][0]["parameters"] == {"type": "object", "properties": {"$schema": {"type": "string"}}}


def test_wire_21_reasoning_is_verbatim_for_its_own_vendor_and_dropped_for_another() -> None:
    own = Thinking("Hm.", "sealed", None, "rs_1", NAME)
    foreign = Thinking("Hm.", "signature", None, None, "anthropic_messages")
    request = ask()
    request.messages += [Message("assistant", [own, foreign, Text("Yes.")]), Message("user", [Text("Sure?")])]
    items = sent(request)["input"]
    assert [item.get("type") for item in items] == [None, "reasoning", None, None]
    assert items[1]["encrypted_content"] == "sealed"
    assert items[1]["id"] == "rs_1"


def test_wire_21_a_foreign_signature_survives_the_turn_through_the_caller() -> None:
    """Another vendor's signature travels sealed in encrypted_content and comes back as its vendor's own."""
    parts = [
        Thinking("Hm.", "sig", None, None, "anthropic_messages"),
        Thinking("", None, "redacted!", None, "anthropic_messages"),
        ToolCall("call_1", "weather", "{}", "gsig", "gemini"),
    ]
    output = json.loads(DIALECT.encode_response(response(*parts, finish="tool_calls"), ask()))["output"]
    again = decoded({"input": [{"role": "user", "content": "Hi"}, *output]})
    thinking, redacted, called = again.messages[1].parts
    assert isinstance(thinking, Thinking)
    assert (thinking.signature, thinking.origin) == ("sig", "anthropic_messages")
    assert isinstance(redacted, Thinking)
    assert (redacted.signature, redacted.redacted, redacted.origin) == (
        None,
        "redacted!",
        "anthropic_messages",
    )
    assert called == parts[2]


def test_wire_21_the_same_through_a_stream() -> None:
    events = [
        Start("resp_1", "m", 1),
        BlockStart(0, "thinking", origin="anthropic_messages"),
        SignatureDelta(0, "si"),
        SignatureDelta(0, "g"),
        BlockStop(0),
        BlockStart(1, "tool_call", "call_1", "weather", signature="gsig", origin="gemini"),
        ArgumentsDelta(1, "{}"),
        BlockStop(1),
        Finish("tool_calls"),
    ]
    raw = encoded(DIALECT.stream_encoder(ask()), events)
    with client(raw).responses.stream(model="m", input="Hi") as stream:
        output = [item.to_dict() for item in stream.get_final_response().output]
    again = decoded({"input": [{"role": "user", "content": "Hi"}, *output]})
    thinking, called = again.messages[1].parts
    assert isinstance(thinking, Thinking)
    assert (thinking.signature, thinking.origin) == ("sig", "anthropic_messages")
    assert isinstance(called, ToolCall)
    assert (called.signature, called.origin) == ("gsig", "gemini")


def test_wire_22_effort_and_budget() -> None:
    assert sent(ask(reasoning=Reasoning(budget_tokens=30000)))["reasoning"] == {
        "effort": "high",
        "summary": "auto",
    }
    assert sent(ask(reasoning=Reasoning(budget_tokens=2000)))["reasoning"]["effort"] == "low"
    assert sent(ask(reasoning=Reasoning(enabled=False)))["reasoning"] == {"effort": "none"}
    assert sent(ask(reasoning=Reasoning(effort="medium")))["reasoning"] == {"effort": "medium"}


def test_wire_24_own_server_tool_items_are_replayed() -> None:
    item = {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "a"},
    }
    request = ask()
    request.messages += [
        Message("assistant", [Opaque(NAME, item), Text("Found.")]),
        Message("user", [Text("And?")]),
    ]
    assert sent(request)["input"][1] == item


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"stop": ["a"]}, "stop"),
        ({"seed": 1}, "seed"),
        ({"frequency_penalty": 1.0}, "frequency_penalty"),
        ({"logit_bias": {"1": 1.0}}, "logit_bias"),
        ({"top_k": 5}, "top_k"),
        ({"n": 2}, "n"),
        ({"unmapped": {"web_search_options": {}}}, "web_search_options"),
        ({"tools": [ServerTool("anthropic_messages", {"type": "web_search_20250305"})]}, "tools"),
        ({"messages": [Message("user", [Audio("wav", "AA")])]}, "messages"),
        ({"messages": [Message("user", [Opaque("gemini", {})])]}, "messages"),
        ({"messages": [Message("user", [Text("a")]), Message("assistant", [Text("b")])]}, "messages"),
        ({"service_tier": "gold"}, "service_tier"),
    ],
)
def test_what_it_cannot_do_is_named(change: dict[str, Any], param: str) -> None:
    request = ask()
    for name, value in change.items():
        setattr(request, name, value)
    with pytest.raises(Unsupported) as caught:
        sent(request)
    assert caught.value.param == param


def test_capabilities_of_the_model_are_obeyed() -> None:
    with pytest.raises(Unsupported):
        sent(tool_loop(), vision=False)
    with pytest.raises(Unsupported):
        sent(tool_loop(), tools=False)
    with pytest.raises(Unsupported):
        sent(ask(reasoning=Reasoning(effort="high")), reasoning=False)


def test_refusals_name_the_field_of_the_callers_dialect() -> None:
    request = ask(stop=["a"], origin="anthropic_messages")
    with pytest.raises(Unsupported) as caught:
        sent(request)
    assert caught.value.param == "stop_sequences"


def test_wire_25_forward_changes_the_model_only() -> None:
    body = {"model": "a", "input": "Hi", "brand_new": {"x": [1]}, "tieline": {"profile": "p"}}
    incoming = call(NAME, body)
    outgoing = DIALECT.forward(incoming, DIALECT.peek(incoming), target(NAME, "b"))
    assert outgoing.path == "/responses"
    assert json.loads(outgoing.body) == {"model": "b", "input": "Hi", "brand_new": {"x": [1]}}


# upstream: answers ----------------------------------------------------------------------------------------------------


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


CREATED = {
    "type": "response.created",
    "response": {"id": "resp_1", "model": "gpt-5", "created_at": 5, "output": []},
}
DELTA = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hi"}


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "Slow down"}, 429),
        ({"type": "error", "error": {"type": "server_error", "code": None, "message": "x"}}, 500),
        (
            {
                "type": "response.failed",
                "response": {"error": {"code": "server_is_overloaded", "message": "x"}},
            },
            503,
        ),
        ({"type": "", "error": {"message": "x", "code": "context_length_exceeded"}}, 400),
        ({"type": "", "object": "error", "message": "x"}, 500),
    ],
)
def test_wire_9_errors_inside_a_200_stream(event: dict[str, Any], status: int) -> None:
    with pytest.raises(StreamFault) as caught:
        read(DIALECT, sse(CREATED, DELTA, event))
    assert caught.value.status == status
    assert caught.value.info.message


def test_wire_10_end_without_a_terminal_event_is_a_truncation() -> None:
    with pytest.raises(Truncated):
        read(DIALECT, sse(CREATED, DELTA))


def test_wire_10_the_terminal_event_completes_at_once() -> None:
    decoder = DIALECT.stream_decoder()
    done = {"type": "response.completed", "response": {"status": "completed", "output": []}}
    for frame in DIALECT.splitter().feed(sse(CREATED, DELTA, done)):
        decoder.decode(frame)
    assert decoder.complete
    assert decoder.ended


def test_a_stream_of_states_only_still_gives_the_answer() -> None:
    message = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
    called = {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"}
    done = {"type": "response.completed", "response": {"status": "completed", "output": [message, called]}}
    result = summary(read(DIALECT, sse(CREATED, done)))
    assert [block["text"] for block in result["blocks"]] == ["Hi", "{}"]
    assert result["finish"] == "tool_calls"


def test_unknown_items_survive_as_the_vendors_own() -> None:
    item = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    events = read(
        DIALECT,
        sse(
            CREATED,
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": {"status": "completed"}},
        ),
    )
    assert BlockStart(0, "opaque", value=item, origin=NAME) in events


def test_whole_answer_round_trip() -> None:
    answer = response(
        Thinking("Hm.", "sealed", None, "rs_7", NAME),
        Text(
            "Hello",
            None,
            [{"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}],
            NAME,
        ),
        Refusal("No."),
        ToolCall("call_1", "weather", "{}"),
        finish="tool_calls",
        usage=Usage(
            input_tokens=10, cache_read_tokens=4, cache_write_5m_tokens=1, output_tokens=5, reasoning_tokens=2
        ),
    )
    again = DIALECT.decode_response(DIALECT.encode_response(answer, ask()))
    assert again.choices[0].parts == answer.choices[0].parts
    assert again.usage == answer.usage
    assert (again.id, again.created, again.choices[0].finish_reason) == ("resp_9", 7, "tool_calls")


def test_wire_29_input_includes_what_was_cached() -> None:
    usage = {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 80}, "output_tokens": 5}
    raw = json.dumps({"id": "a", "status": "completed", "output": [], "usage": usage}).encode()
    glance = DIALECT.glance(raw)
    assert glance.usage == Usage(input_tokens=100, cache_read_tokens=80, output_tokens=5)
    assert glance.finish_reason == "stop"


@pytest.mark.parametrize(
    "usage", [None, {}, {"input_tokens": None, "input_tokens_details": None}, {"input_tokens": "x"}]
)
def test_wire_30_nulls_in_usage(usage: Any) -> None:
    raw = json.dumps({"id": "a", "status": "completed", "output": [], "usage": usage}).encode()
    decoded_usage = DIALECT.decode_response(raw).usage
    assert decoded_usage in (None, Usage())


def test_glance_of_an_unfinished_answer_has_no_reason() -> None:
    assert DIALECT.glance(b'{"id":"a","status":"in_progress","output":[]}').finish_reason is None


def test_failed_answer_inside_a_200() -> None:
    raw = b'{"id":"a","status":"failed","error":{"code":"rate_limit_exceeded","message":"x"}}'
    with pytest.raises(StreamFault):
        DIALECT.decode_response(raw)
    with pytest.raises(StreamFault):
        DIALECT.glance(raw)


def test_wire_32_codes_are_read_not_digits() -> None:
    body = b'{"error":{"message":"You exceeded 403","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}'
    info = DIALECT.decode_error(429, [], body)
    assert (info.code, info.type, info.html) == ("insufficient_quota", "insufficient_quota", False)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", b'{"error": null}', b'{"error": "no"}', b"\xff\xfe", b'[{"error":{}}]'],
)
def test_errors_of_any_shape_never_raise(body: bytes) -> None:
    DIALECT.decode_error(500, [], body)


def test_wire_35_an_html_page_is_a_cdn_speaking() -> None:
    info = DIALECT.decode_error(503, [], b"<!DOCTYPE html><html><head><title>503 Service</title></head>")
    assert info.html
    assert info.message == "503 Service"


# split, cut, garbled --------------------------------------------------------------------------------------------------

WHOLE = encoded(DIALECT.stream_encoder(ask()), answer_events(NAME))


def test_wire_2_split_at_every_byte() -> None:
    expected = summary(read(DIALECT, WHOLE))
    for cut in range(0, len(WHOLE), 7):
        assert summary(read(DIALECT, WHOLE, cut)) == expected
    assert summary(read_pieces(DIALECT, [WHOLE[i : i + 1] for i in range(len(WHOLE))])) == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0, max_value=len(WHOLE) - 3))
def test_cut_anywhere_is_never_a_success(cut: int) -> None:
    with pytest.raises((Truncated, Garbled, StreamFault)):
        read(DIALECT, WHOLE[:cut])


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60), st.integers(min_value=0, max_value=len(WHOLE)))
def test_garbage_anywhere_raises_nothing_else(garbage: bytes, at: int) -> None:
    try:
        read(DIALECT, WHOLE[:at] + garbage + WHOLE[at:])
    except (Truncated, Garbled, StreamFault):
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "item", "delta", "response", "output", "name", "output_index", "usage", "part"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KINDS = st.sampled_from(
    [
        "response.created",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_text.delta",
        "response.function_call_arguments.delta",
        "response.completed",
        "response.failed",
        "response.content_part.done",
    ]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(KINDS, JSON), max_size=5))
def test_events_of_any_shape_raise_nothing_else(events: list[tuple[str, Any]]) -> None:
    decoder = DIALECT.stream_decoder()
    for kind, fields in events:
        body = {**(fields if isinstance(fields, dict) else {}), "type": kind}
        raw = json.dumps(body).encode()
        try:
            decoder.decode(Frame(raw, raw, kind))
        except (Garbled, StreamFault):
            pass


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_answers_of_any_shape_raise_nothing_else(body: Any) -> None:
    for reader in (DIALECT.decode_response, DIALECT.glance):
        try:
            reader(json.dumps(body).encode())
        except (Garbled, StreamFault):
            pass


ITEM = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "role",
                    "content",
                    "text",
                    "call_id",
                    "name",
                    "arguments",
                    "output",
                    "summary",
                    "image_url",
                ]
            ),
            inner
            | st.sampled_from(["message", "user", "input_text", "function_call", "reasoning", "input_image"]),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(ITEM, ITEM)
def test_requests_of_any_shape_raise_invalid_request_only(items: Any, tools: Any) -> None:
    try:
        decoded({"input": items, "tools": tools})
    except InvalidRequest:
        pass


CODEX: dict[str, Any] = {
    "model": "m",
    "reasoning": {"summary": "auto"},
    "client_metadata": {"turn_id": "t"},
    "tools": [
        {"type": "function", "name": "exec", "parameters": {"type": "object", "properties": {}}},
        {"type": "namespace", "name": "agents", "tools": [{"type": "function", "name": "exec"}]},
    ],
    "input": [
        {"type": "message", "role": "user", "content": "Hi"},
        {"type": "function_call", "call_id": "c1", "name": "exec", "namespace": "agents", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
        {"type": "function_call_output", "name": "goal", "namespace": "agent", "output": "relay"},
    ],
}
"""In the way of Codex CLI 0.169."""


@pytest.mark.parametrize(
    "name", ["openai_chat", "anthropic_messages", "gemini", "bedrock_converse", "cohere"]
)
def test_codex_is_served_by_any_vendor(name: str) -> None:
    request = decoded(CODEX)
    assert [tool.name for tool in request.tools if isinstance(tool, Tool)] == ["exec", "agents__exec"]
    assert "server_tools" not in DIALECT.peek(call(NAME, CODEX)).features
    body = get_upstream(name).encode_request(request, target(name, "m", reasoning=False)).body
    assert b"agents__exec" in body
    assert b"agent.goal:" in body
    assert b"turn_id" not in body


def test_a_call_goes_back_to_its_namespace() -> None:
    request = decoded(CODEX)
    answer = response(ToolCall("c2", "agents__exec", "{}"), ToolCall("c3", "exec", "{}"), finish="tool_calls")
    items = json.loads(DIALECT.encode_response(answer, request))["output"]
    assert [(item["name"], item.get("namespace")) for item in items] == [("exec", "agents"), ("exec", None)]
