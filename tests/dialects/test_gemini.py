"""Gemini: judged by google-genai's own models (extra fields forbidden) and its parser."""

from __future__ import annotations

import base64
import json
import warnings
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import errors, types
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

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
from tieline.dialects.base import Frame, Garbled, Quirks, StreamFault, Truncated
from tieline.dialects.gemini import GEMINI, GEMINI_ARRAY, decode_count, encode_count
from tieline.dialects.gemini.request_out import UNSIGNED
from tieline.types.errors import Fault, InvalidRequest, Unsupported
from tieline.types.events import ArgumentsDelta, BlockStart, BlockStop, Event, Finish, SignatureDelta, Start
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
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tieline.types.response import Choice, Response
from tieline.types.usage import Usage

SIGNATURE = base64.b64encode(b"opaque thought").decode()


def incoming(body: Any, stream: bool = False, **more: Any) -> Any:
    return call("gemini", body, model="gemini-3-flash", stream=stream, **more)


def decoded(body: dict[str, Any]) -> Request:
    made = incoming(body)
    return GEMINI.decode_request(made, GEMINI.peek(made))


def hello(**more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], **more}


def ask(text: str = "Hi", **more: Any) -> Request:
    return Request(model="g", messages=[Message("user", [Text(text)])], **more)


TOP = {
    "contents",
    "systemInstruction",
    "generationConfig",
    "tools",
    "toolConfig",
    "safetySettings",
    "serviceTier",
}
TOP |= {"cachedContent", "labels"}


def sent(request: Request, model: str = "gemini-3-flash", **more: Any) -> dict[str, Any]:
    """The request as the provider gets it, valid by the vendor's own models."""
    body: dict[str, Any] = json.loads(GEMINI.encode_request(request, target("gemini", model, **more)).body)
    assert set(body) <= TOP
    for content in body["contents"]:
        types.Content.model_validate(content)
    if "systemInstruction" in body:
        types.Content.model_validate(body["systemInstruction"])
    if "generationConfig" in body:
        types.GenerationConfig.model_validate(body["generationConfig"])
    for tool in body.get("tools", []):
        types.Tool.model_validate(tool)
    if "toolConfig" in body:
        types.ToolConfig.model_validate(body["toolConfig"])
    return body


def client(
    body: bytes, status: int = 200, media_type: str = "text/event-stream"
) -> tuple[genai.Client, list[Any]]:
    http, seen = serving(body, status, media_type)
    options = types.HttpOptions(httpx_client=http, base_url="http://sdk.test")  # type: ignore[arg-type]
    return genai.Client(api_key="k", http_options=options), seen


# downstream: requests -------------------------------------------------------------------------------------------------


def test_both_spellings_mean_the_same() -> None:
    camel = {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": PIXEL}}]},
            {"role": "model", "parts": [{"functionCall": {"name": "my_tool", "args": {"some_key": 1}}}]},
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": "my_tool", "response": {"output": "x"}}}],
            },
        ],
        "generationConfig": {"maxOutputTokens": 5, "topP": 0.5, "thinkingConfig": {"thinkingBudget": 100}},
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["my_tool"]}},
        "tools": [
            {"functionDeclarations": [{"name": "my_tool", "parametersJsonSchema": {"type": "object"}}]}
        ],
    }
    snake = {
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": PIXEL}}]},
            {"role": "model", "parts": [{"function_call": {"name": "my_tool", "args": {"some_key": 1}}}]},
            {
                "role": "user",
                "parts": [{"function_response": {"name": "my_tool", "response": {"output": "x"}}}],
            },
        ],
        "generation_config": {
            "max_output_tokens": 5,
            "top_p": 0.5,
            "thinking_config": {"thinking_budget": 100},
        },
        "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["my_tool"]}},
        "tools": [
            {"function_declarations": [{"name": "my_tool", "parameters_json_schema": {"type": "object"}}]}
        ],
    }
    assert decoded(camel) == decoded(snake)
    request = decoded(camel)
    assert request.max_output_tokens == 5
    assert request.tool_choice == ToolChoice("tool", "my_tool")
    called = request.messages[2].parts[0]
    assert isinstance(called, ToolCall)
    assert called.arguments == '{"some_key":1}'
    assert GEMINI.peek(incoming(snake)).features == GEMINI.peek(incoming(camel)).features
    assert GEMINI.peek(incoming(camel)).features == {"images", "tools", "forced_tool", "reasoning"}


def test_results_without_ids_answer_by_name_and_order() -> None:
    request = decoded(
        {
            "contents": [
                {"role": "user", "parts": [{"text": "go"}]},
                {
                    "role": "model",
                    "parts": [
                        {"functionCall": {"name": "a", "args": {"n": 1}}},
                        {"functionCall": {"name": "b", "args": {}}},
                        {"functionCall": {"name": "a", "args": {"n": 2}}},
                    ],
                },
                {
                    "role": "user",
                    "parts": [
                        {"functionResponse": {"name": "b", "response": {"output": "rb"}}},
                        {"functionResponse": {"name": "a", "response": {"output": "r1"}}},
                        {"functionResponse": {"name": "a", "response": {"error": "r2"}}},
                    ],
                },
            ]
        }
    )
    calls = [part for part in request.messages[1].parts if isinstance(part, ToolCall)]
    results = [part for part in request.messages[2].parts if isinstance(part, ToolResult)]
    assert len({one.id for one in calls}) == 3
    by_id = {one.id: one for one in calls}
    assert [json.loads(by_id[one.id].arguments).get("n") for one in results] == [None, 1, 2]
    assert [one.is_error for one in results] == [False, False, True]


def test_wire_15_a_result_without_its_call_is_refused() -> None:
    body = {"contents": [{"role": "user", "parts": [{"functionResponse": {"name": "a", "response": {}}}]}]}
    with pytest.raises(InvalidRequest) as caught:
        decoded(body)
    assert caught.value.param == "contents[0].parts[0].functionResponse"


def test_wire_16_gemini_schemas_become_json_schema() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "type": {"type": "STRING", "enum": ["A"]},
            "when": {"type": "STRING", "nullable": True},
            "list": {"type": "ARRAY", "items": {"type": "INTEGER"}, "minItems": "1"},
            "either": {"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]},
        },
        "propertyOrdering": ["type"],
    }
    body = hello(tools=[{"functionDeclarations": [{"name": "a", "parameters": schema}]}])
    tool = decoded(body).tools[0]
    assert not isinstance(tool, ServerTool)
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": ["A"]},
            "when": {"type": ["string", "null"]},
            "list": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            "either": {"anyOf": [{"type": "string"}, {"type": "number"}]},
        },
    }


def test_generation_config() -> None:
    request = decoded(
        hello(
            generationConfig={
                "temperature": 0.1,
                "topP": 0.2,
                "topK": 3,
                "candidateCount": 2,
                "maxOutputTokens": 4,
                "stopSequences": ["x"],
                "seed": 5,
                "presencePenalty": 0.6,
                "frequencyPenalty": 0.7,
                "responseLogprobs": True,
                "logprobs": 2,
                "responseMimeType": "application/json",
                "responseJsonSchema": {"type": "object"},
                "thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True},
                "mediaResolution": "MEDIA_RESOLUTION_LOW",
            },
            safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
            cachedContent="cachedContents/1",
        )
    )
    assert (request.temperature, request.top_p, request.top_k, request.n) == (0.1, 0.2, 3, 2)
    assert (request.max_output_tokens, request.stop, request.seed) == (4, ["x"], 5)
    assert (request.presence_penalty, request.frequency_penalty) == (0.6, 0.7)
    assert (request.logprobs, request.top_logprobs) == (True, 2)
    assert request.response_format == ResponseFormat("json_schema", schema={"type": "object"})
    assert request.reasoning == Reasoning(effort="high", summary="auto")
    assert set(request.unmapped) == {"safetySettings", "cachedContent", "generationConfig.mediaResolution"}


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        ({"thinkingBudget": 0}, Reasoning(enabled=False, summary="omitted")),
        ({"thinkingBudget": 500}, Reasoning(budget_tokens=500, summary="omitted")),
        ({"thinkingBudget": -1, "includeThoughts": True}, Reasoning(adaptive=True, summary="auto")),
        ({"thinkingLevel": "LOW"}, Reasoning(effort="low", summary="omitted")),
    ],
)
def test_wire_22_thinking_config(thinking: Any, expected: Reasoning) -> None:
    assert decoded(hello(generationConfig={"thinkingConfig": thinking})).reasoning == expected


def test_wire_19_media_parts() -> None:
    parts = [
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        {"inlineData": {"mimeType": "application/pdf", "data": PDF}},
        {"inlineData": {"mimeType": "audio/mpeg", "data": "AAAA"}},
        {"inlineData": {"mimeType": "text/plain", "data": base64.b64encode(b"plain").decode()}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://a.test/b.jpg"}},
        {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://bucket/a"}},
    ]
    request = decoded({"contents": [{"parts": parts}]})
    assert request.messages[0].parts == [
        Image(media_type="image/png", data=PIXEL),
        Document(media_type="application/pdf", data=PDF),
        Audio("mp3", "AAAA"),
        Document(media_type="text/plain", data="plain"),
        Image(media_type="image/jpeg", url="https://a.test/b.jpg"),
        Opaque("gemini", parts[5]),
    ]


def test_wire_21_signatures_of_calls_and_thoughts() -> None:
    request = decoded(
        {
            "contents": [
                {"parts": [{"text": "go"}]},
                {
                    "role": "model",
                    "parts": [
                        {"text": "Hm.", "thought": True, "thoughtSignature": SIGNATURE},
                        {"functionCall": {"name": "a", "args": {}, "id": "1"}, "thoughtSignature": SIGNATURE},
                        {"functionCall": {"name": "a", "args": {}, "id": "2"}},
                    ],
                },
            ]
        }
    )
    thinking, first, second = request.messages[1].parts
    assert thinking == Thinking("Hm.", SIGNATURE, None, None, "gemini")
    assert first == ToolCall("1", "a", "{}", SIGNATURE, "gemini")
    assert second == ToolCall("2", "a", "{}")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "contents"),
        ({"contents": []}, "contents"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "contents"),
        ({"contents": [{"role": "robot", "parts": []}]}, "contents[0].role"),
        ({"contents": [3]}, "contents[0]"),
        ({"contents": [{"parts": [3]}]}, "contents[0].parts[0]"),
        ({"contents": [{"parts": [{"functionCall": {}}]}]}, "contents[0].parts[0].functionCall.name"),
        (hello(generationConfig={"temperature": "hot"}), "generationConfig.temperature"),
        (hello(generationConfig=3), "generationConfig"),
        (hello(toolConfig={"functionCallingConfig": {"mode": "X"}}), "toolConfig.functionCallingConfig.mode"),
        (hello(systemInstruction={"parts": [{"inlineData": {}}]}), "systemInstruction.parts[0].text"),
    ],
)
def test_bad_input_names_its_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decoded(body)
    assert caught.value.param == param


def test_count_tokens() -> None:
    whole = {"model": "models/g", **hello(systemInstruction={"parts": [{"text": "Be brief."}]})}
    made = incoming({"generateContentRequest": whole}, operation="count_tokens")
    request = GEMINI.decode_request(made, GEMINI.peek(made))
    assert [message.role for message in request.messages] == ["system", "user"]
    sdk, _ = client(encode_count(42), media_type="application/json")
    assert sdk.models.count_tokens(model="g", contents="Hi").total_tokens == 42
    assert decode_count(encode_count(42)) == 42


def test_peek() -> None:
    peek = GEMINI.peek(incoming(hello(tieline={"profile": "p"}, tools=[{"googleSearch": {}}]), stream=True))
    assert (peek.model, peek.stream, peek.options) == ("gemini-3-flash", True, {"profile": "p"})
    assert peek.features == {"server_tools"}
    assert "tieline" not in peek.fields


def test_what_the_official_client_sends_is_understood() -> None:
    sdk, seen = client(GEMINI.encode_response(response(Text("ok")), ask()), media_type="application/json")
    sdk.models.generate_content(
        model="gemini-3-flash",
        contents=[
            types.Content(
                role="user", parts=[types.Part.from_bytes(data=b"\xfb\xff", mime_type="image/png")]
            ),
            "Hi",
        ],
        config=types.GenerateContentConfig(
            system_instruction="Be brief.",
            tools=[
                types.Tool(
                    function_declarations=[types.FunctionDeclaration(name="a", parameters_json_schema={})]
                )
            ],
            response_schema=City,
            response_mime_type="application/json",
            thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW),
            safety_settings=[
                types.SafetySetting(
                    category=types.HarmCategory.HARM_CATEGORY_HARASSMENT,
                    threshold=types.HarmBlockThreshold.OFF,
                )
            ],
        ),
    )
    request = decoded(json.loads(seen[0].content))
    assert request.messages[1].parts[0] == Image(media_type="image/png", data="+/8=")
    assert request.response_format is not None
    assert request.response_format.schema is not None
    assert request.response_format.schema["properties"]["city"]["type"] == "string"
    assert set(request.unmapped) == {"safetySettings"}


# downstream: answers --------------------------------------------------------------------------------------------------


class City(BaseModel):
    city: str


def response(
    *parts: Any, finish: Any = "stop", native: str | None = None, usage: Usage | None = None
) -> Response:
    return Response(id="r1", model="m", created=7, choices=[Choice(list(parts), finish, native)], usage=usage)


def test_encoded_answer_is_the_sdks() -> None:
    answer = response(
        Thinking("Hm.", SIGNATURE, None, None, "gemini"),
        Text("Hello"),
        ToolCall("1", "weather", '{"city":"Rome"}', SIGNATURE, "gemini"),
        finish="tool_calls",
        usage=Usage(input_tokens=10, cache_read_tokens=4, output_tokens=9, reasoning_tokens=2),
    )
    raw = GEMINI.encode_response(answer, ask(reasoning=Reasoning(summary="auto")))
    types.GenerateContentResponse.model_validate_json(raw)
    sdk, _ = client(raw, media_type="application/json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parsed = sdk.models.generate_content(model="g", contents="Hi")
    assert parsed.candidates is not None
    content = parsed.candidates[0].content
    assert content is not None
    assert content.parts is not None
    assert content.parts[0].thought
    assert content.parts[0].thought_signature == b"opaque thought"
    assert content.parts[1].text == "Hello"
    assert parsed.function_calls is not None
    assert parsed.function_calls[0].args == {"city": "Rome"}
    assert parsed.candidates[0].finish_reason == types.FinishReason.STOP
    usage = parsed.usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (10, 4)
    assert (usage.candidates_token_count, usage.thoughts_token_count, usage.total_token_count) == (7, 2, 19)


def test_thoughts_are_shown_only_to_who_asked() -> None:
    answer = response(Thinking("Hm."), Text("Hello"))
    assert b"Hm." not in GEMINI.encode_response(answer, ask())
    assert b"Hm." not in GEMINI.encode_response(answer, ask(reasoning=Reasoning(summary="omitted")))
    assert b"Hm." in GEMINI.encode_response(answer, ask(reasoning=Reasoning(summary="auto")))


def test_parse_helper() -> None:
    raw = GEMINI.encode_response(response(Text('{"city": "Rome"}')), ask())
    sdk, _ = client(raw, media_type="application/json")
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    assert sdk.models.generate_content(model="g", contents="Hi", config=config).parsed == City(city="Rome")


def test_stream_parses_in_the_sdk() -> None:
    raw = encoded(GEMINI.stream_encoder(ask(reasoning=Reasoning(summary="auto"))), answer_events("gemini"))
    sdk, seen = client(raw)
    chunks = list(sdk.models.generate_content_stream(model="g", contents="Hi"))
    assert "alt=sse" in str(seen[0].url)
    parts = [
        part
        for chunk in chunks
        for candidate in chunk.candidates or []
        for part in (candidate.content.parts or [] if candidate.content else [])
    ]
    assert "".join(part.text or "" for part in parts if part.thought) == "Let me see."
    assert "".join(part.text or "" for part in parts if not part.thought) == "Héllo"
    calls = [part.function_call for part in parts if part.function_call]
    assert [one.args for one in calls] == [{"city": "Rome"}, {"city": "Oslo"}]
    last = chunks[-1]
    assert last.candidates is not None
    assert last.candidates[0].finish_reason == types.FinishReason.STOP
    assert last.usage_metadata is not None
    assert last.usage_metadata.total_token_count == 130
    assert {chunk.response_id for chunk in chunks} == {"resp_1"}


def test_stream_round_trip() -> None:
    raw = encoded(GEMINI.stream_encoder(ask(reasoning=Reasoning(summary="auto"))), answer_events("gemini"))
    result = summary(read(GEMINI, raw))
    kinds = [block["kind"] for block in result["blocks"] if block["text"]]
    assert kinds == ["thinking", "text", "tool_call", "tool_call"]
    assert result["finish"] == "tool_calls"
    assert result["usage"] == Usage(
        input_tokens=100, cache_read_tokens=40, output_tokens=30, reasoning_tokens=10
    )


def test_array_form_is_one_json_document() -> None:
    encoder = GEMINI_ARRAY.stream_encoder(ask())
    raw = encoder.ping() + encoded(encoder, answer_events())
    chunks = json.loads(raw)
    for chunk in chunks:
        types.GenerateContentResponse.model_validate(chunk)
    assert GEMINI_ARRAY.media_type == b"application/json"
    broken = GEMINI_ARRAY.stream_encoder(ask())
    raw = b"".join(broken.encode(event) for event in text_events()[:3])
    raw += broken.error(Fault(status=502, code="truncated", message="It broke."), "req_1")
    assert json.loads(raw)[-1]["error"]["message"] == "It broke."
    assert json.loads(GEMINI_ARRAY.stream_encoder(ask()).finish())[0]["error"]["code"] == 502


def test_error_in_the_stream_raises_in_the_sdk() -> None:
    encoder = GEMINI.stream_encoder(ask())
    raw = b"".join(encoder.encode(event) for event in text_events()[:3])
    raw += encoder.error(Fault(status=503, code="overloaded", message="It broke."), "req_1")
    sdk, _ = client(raw)
    with pytest.raises(errors.APIError, match=r"It broke\."):
        list(sdk.models.generate_content_stream(model="g", contents="Hi"))
    with pytest.raises(StreamFault) as caught:
        read(GEMINI, raw)
    assert caught.value.status == 503


@pytest.mark.parametrize(
    ("status", "kind", "word"),
    [
        (400, errors.ClientError, "INVALID_ARGUMENT"),
        (404, errors.ClientError, "NOT_FOUND"),
        (429, errors.ClientError, "RESOURCE_EXHAUSTED"),
        (502, errors.ServerError, "UNAVAILABLE"),
        (503, errors.ServerError, "UNAVAILABLE"),
        (504, errors.ServerError, "DEADLINE_EXCEEDED"),
    ],
)
def test_errors_raise_the_sdks_own_class(status: int, kind: type[errors.APIError], word: str) -> None:
    body = GEMINI.encode_error(
        Fault(status=status, code="some_code", message="No.", retry_after_s=2.5), "req_1"
    )
    http = httpx2.Client(
        transport=httpx2.MockTransport(lambda request: httpx2.Response(status, content=body))
    )
    options = types.HttpOptions(
        httpx_client=http,  # type: ignore[arg-type]
        base_url="http://sdk.test",
        retry_options=types.HttpRetryOptions(attempts=1),
    )
    sdk = genai.Client(api_key="k", http_options=options)
    with pytest.raises(kind) as caught:
        sdk.models.generate_content(model="g", contents="Hi")
    assert (caught.value.code, caught.value.status, caught.value.message) == (status, word, "No.")
    assert GEMINI.decode_error(status, [], body).retry_after_s == 2.5


# upstream: requests ---------------------------------------------------------------------------------------------------


def test_encoded_tool_loop_is_valid() -> None:
    body = sent(tool_loop())
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user", "user"]
    answers = body["contents"][2]["parts"]
    assert answers[0]["functionResponse"] == {
        "id": "call_1",
        "name": "weather",
        "response": {"result": "sunny"},
    }
    assert answers[1]["functionResponse"]["response"] == {"error": "no such city"}
    assert body["contents"][3]["parts"] == [{"text": "Go on."}]
    assert body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"]["required"] == ["city"]


def test_request_round_trip() -> None:
    request = tool_loop()
    again = decoded(sent(request, "gemini-2.5-flash"))
    assert again.messages[0] == request.messages[0]
    assert again.messages[1] == request.messages[1]
    assert [part.id for part in again.messages[2].parts if isinstance(part, ToolCall)] == ["call_1", "call_2"]
    results = [part for part in again.messages[3].parts if isinstance(part, ToolResult)]
    assert [(one.id, one.is_error) for one in results] == [("call_1", False), ("call_2", True)]
    assert (again.temperature, again.top_p, again.max_output_tokens) == (0.5, 0.9, 100)


def test_paths() -> None:
    assert GEMINI.encode_request(ask(), target("gemini", "g")).path == "/v1beta/models/g:generateContent"
    streamed = GEMINI.encode_request(ask(stream=True), target("gemini", "g"))
    assert streamed.path == "/v1beta/models/g:streamGenerateContent?alt=sse"


def test_wire_8_no_signature_but_the_documented_stand_in_for_foreign_calls() -> None:
    calls = [part for part in sent(tool_loop())["contents"][1]["parts"] if "functionCall" in part]
    assert [part.get("thoughtSignature") for part in calls] == [UNSIGNED, None]
    calls = [
        part for part in sent(tool_loop(), "gemini-2.5-pro")["contents"][1]["parts"] if "functionCall" in part
    ]
    assert [part.get("thoughtSignature") for part in calls] == [None, None]


def test_wire_17_system_messages_are_hoisted() -> None:
    request = ask()
    request.messages += [Message("system", [Text("Be kind.")]), Message("user", [Text("Again")])]
    body = sent(request)
    assert body["systemInstruction"] == {"parts": [{"text": "Be kind."}]}
    assert [part["text"] for part in body["contents"][0]["parts"]] == ["Hi", "Again"]


def test_wire_18_empty_texts_are_left_out() -> None:
    request = ask()
    request.messages[0].parts.insert(0, Text(""))
    assert sent(request)["contents"][0]["parts"] == [{"text": "Hi"}]


def test_wire_21_signatures_are_verbatim_for_their_own_vendor_and_dropped_for_another() -> None:
    request = ask()
    request.messages += [
        Message(
            "assistant",
            [
                Thinking("Hm.", SIGNATURE, None, None, "gemini"),
                Thinking("Hm.", "sig", None, None, "anthropic_messages"),
                ToolCall("1", "weather", "{}", SIGNATURE, "gemini"),
                ToolCall("2", "weather", "{}"),
            ],
        ),
        Message("user", [ToolResult("1", [Text("a")]), ToolResult("2", [Text("b")])]),
    ]
    parts = sent(request)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [SIGNATURE, SIGNATURE, None]
    assert len(parts) == 3


def test_wire_21_a_foreign_signature_survives_the_turn_through_the_caller() -> None:
    answer = response(
        Thinking("Hm.", "sig_of-anthropic==", None, None, "anthropic_messages"),
        ToolCall("1", "weather", "{}"),
        finish="tool_calls",
    )
    raw = GEMINI.encode_response(answer, ask(reasoning=Reasoning(summary="auto")))
    # Through the SDK's own models, which decode and encode the signature as base64.
    parsed = types.GenerateContentResponse.model_validate_json(raw)
    assert parsed.candidates is not None
    assert parsed.candidates[0].content is not None
    content = parsed.candidates[0].content.model_dump(mode="json", by_alias=True, exclude_none=True)
    again = decoded({"contents": [{"parts": [{"text": "Hi"}]}, content]})
    assert again.messages[1].parts[0] == Thinking(
        "Hm.", "sig_of-anthropic==", None, None, "anthropic_messages"
    )


@pytest.mark.parametrize(
    ("model", "reasoning", "expected"),
    [
        ("gemini-3-flash", Reasoning(effort="high"), {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ("gemini-3-flash", Reasoning(effort="max"), {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ("gemini-3-flash", Reasoning(budget_tokens=2000), {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-3-flash", Reasoning(enabled=False), {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-pro", Reasoning(adaptive=True, summary="omitted"), {"includeThoughts": False}),
        ("gemini-2.5-flash", Reasoning(effort="medium"), {"thinkingBudget": 8192, "includeThoughts": True}),
        ("gemini-2.5-flash", Reasoning(effort="max"), {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-2.5-flash", Reasoning(budget_tokens=700), {"thinkingBudget": 700, "includeThoughts": True}),
        ("gemini-2.5-flash", Reasoning(enabled=False), {"thinkingBudget": 0}),
    ],
)
def test_wire_22_effort_and_budget(model: str, reasoning: Reasoning, expected: Any) -> None:
    assert sent(ask(reasoning=reasoning), model)["generationConfig"]["thinkingConfig"] == expected


SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "$defs": {
        "Place": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "in": {"$ref": "#/$defs/Place"}},
        },
        "Kind": {"enum": ["a", "b", ""]},
    },
    "properties": {
        "place": {"$ref": "#/$defs/Place"},
        "maybe": {"type": ["string", "null"], "format": "email"},
        "either": {"type": ["string", "integer"]},
        "option": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "kind": {"$ref": "#/$defs/Kind"},
        "fixed": {"const": "x"},
        "none": {"type": "string", "enum": []},
        "num": {"type": "integer", "enum": [1, 2], "exclusiveMinimum": 0},
        "format": {"type": "string"},
        "all": {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}]},
    },
    "required": ["place"],
}


def test_wire_16_json_schema_goes_as_it_is_where_that_is_taken() -> None:
    tool = weather_tool()
    tool.parameters = SCHEMA
    body = sent(ask(tools=[tool], response_format=ResponseFormat("json_schema", schema=SCHEMA)))
    kept = {name: value for name, value in SCHEMA.items() if name != "$schema"}
    assert body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == kept
    assert body["generationConfig"]["responseJsonSchema"] == kept
    assert body["generationConfig"]["responseMimeType"] == "application/json"


def test_wire_16_the_openapi_subset_for_hosts_without_it() -> None:
    tool = weather_tool()
    tool.parameters = SCHEMA
    empty = weather_tool()
    empty.parameters = {"type": "object", "properties": {}}
    quirks = Quirks(rejects=("parametersJsonSchema", "responseJsonSchema"))
    body = sent(
        ask(tools=[tool, empty], response_format=ResponseFormat("json_schema", schema=SCHEMA)), quirks=quirks
    )
    declared, bare = body["tools"][0]["functionDeclarations"]
    assert "parameters" not in bare
    types.Schema.model_validate(declared["parameters"])
    properties = declared["parameters"]["properties"]
    assert properties["place"]["properties"]["in"] == {"type": "OBJECT"}  # a schema that contains itself ends
    assert properties["maybe"] == {"type": "STRING", "nullable": True}
    assert properties["either"] == {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]}
    assert properties["option"] == {"type": "NUMBER", "nullable": True}
    assert properties["kind"] == {"type": "STRING", "enum": ["a", "b"]}
    assert properties["fixed"] == {"type": "STRING", "enum": ["x"]}
    assert properties["none"] == {"type": "STRING"}
    assert properties["num"]["minimum"] == 0
    assert "enum" not in properties["num"]
    assert properties["format"] == {"type": "STRING"}
    assert properties["all"] == {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "required": ["a"]}
    assert body["generationConfig"]["responseSchema"] == declared["parameters"]


def test_wire_14_tool_choice_forms() -> None:
    def config(choice: ToolChoice) -> Any:
        return sent(ask(tools=[weather_tool()], tool_choice=choice))["toolConfig"]["functionCallingConfig"]

    assert config(ToolChoice("auto")) == {"mode": "AUTO"}
    assert config(ToolChoice("required")) == {"mode": "ANY"}
    assert config(ToolChoice("none")) == {"mode": "NONE"}
    assert config(ToolChoice("tool", "weather")) == {"mode": "ANY", "allowedFunctionNames": ["weather"]}


def test_safety_settings_are_the_vendors_own() -> None:
    from tieline.dialects.openai_responses import OPENAI_RESPONSES

    def given(threshold: str) -> Request:
        return decoded(
            hello(safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": threshold}])
        )

    strict = given("BLOCK_LOW_AND_ABOVE")
    assert sent(strict)["safetySettings"][0]["threshold"] == "BLOCK_LOW_AND_ABOVE"
    with pytest.raises(Unsupported) as caught:
        OPENAI_RESPONSES.encode_request(strict, target("openai_responses"))
    assert caught.value.param == "safetySettings"
    for off in ("OFF", "BLOCK_NONE"):  # another vendor has no such filters
        assert OPENAI_RESPONSES.encode_request(given(off), target("openai_responses"))


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"min_p": 0.1}, "min_p"),
        ({"logit_bias": {"1": 1.0}}, "logit_bias"),
        ({"stop": list("abcdef")}, "stop"),
        ({"unmapped": {"web_search_options": {}}}, "web_search_options"),
        ({"tools": [ServerTool("anthropic_messages", {"type": "web_search_20250305"})]}, "tools"),
        ({"messages": [Message("user", [Opaque("anthropic_messages", {})])]}, "messages"),
        ({"messages": [Message("user", [Image(file_id="file-1")])]}, "messages"),
        ({"messages": [Message("user", [Image(media_type="image/tiff", data="AA")])]}, "messages"),
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


def test_thinking_that_cannot_be_switched_off() -> None:
    with pytest.raises(Unsupported):
        sent(ask(reasoning=Reasoning(enabled=False)), "gemini-2.5-pro")


def test_wire_25_forward_leaves_the_body_alone() -> None:
    body = json.dumps(hello(brand_new={"x": [1]})).encode()
    made = incoming(body, stream=True)
    outgoing = GEMINI.forward(made, GEMINI.peek(made), target("gemini", "other"))
    assert outgoing.body == body
    assert outgoing.path == "/v1beta/models/other:streamGenerateContent?alt=sse"
    made = incoming(hello(tieline={"profile": "p"}, brand_new=1))
    assert json.loads(GEMINI.forward(made, GEMINI.peek(made), target("gemini", "o")).body) == hello(
        brand_new=1
    )


# upstream: answers ----------------------------------------------------------------------------------------------------


def sse(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks)


def chunk(*parts: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": index}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "responseId": "r1", "modelVersion": "g", **more}


def test_wire_8_stop_with_calls_in_separate_chunks_is_tool_calls() -> None:
    raw = sse(
        chunk({"functionCall": {"name": "a", "args": {"n": 1}}, "thoughtSignature": SIGNATURE}),
        chunk({"functionCall": {"name": "a", "args": {"n": 2}}}),
        chunk({"text": ""}, finish="STOP", usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 4}),
    )
    events = read(GEMINI, raw)
    starts = [event for event in events if isinstance(event, BlockStart)]
    assert [event.index for event in starts] == [0, 1]
    assert len({event.id for event in starts}) == 2
    assert [event.signature for event in starts] == [SIGNATURE, None]
    assert summary(events)["finish"] == "tool_calls"
    whole = json.dumps(chunk({"functionCall": {"name": "a", "args": {}}}, finish="STOP")).encode()
    assert GEMINI.decode_response(whole).choices[0].finish_reason == "tool_calls"
    assert GEMINI.glance(whole).finish_reason == "tool_calls"


def test_wire_7_content_after_and_in_the_finish_chunk() -> None:
    raw = sse(chunk({"text": "He"}, finish="STOP"), chunk({"text": "llo"}))
    result = summary(read(GEMINI, raw))
    assert [block["text"] for block in result["blocks"]] == ["Hello"]


def test_wire_6_one_id_although_the_provider_changes_it() -> None:
    second = chunk({"text": "b"}, finish="STOP") | {"responseId": "r2"}
    events = read(GEMINI, sse(chunk({"text": "a"}), second))
    assert [event.id for event in events if isinstance(event, Start)] == ["r1"]


def test_wire_5_thoughts_first_then_text() -> None:
    raw = sse(
        chunk({"text": "Hm", "thought": True}),
        chunk({"text": ".", "thought": True}),
        chunk({"text": "Hello"}),
        chunk({"text": "", "thoughtSignature": SIGNATURE}, finish="STOP"),
    )
    events = read(GEMINI, raw)
    result = summary(events)
    assert [(block["kind"], block["text"]) for block in result["blocks"]] == [
        ("thinking", "Hm."),
        ("text", "Hello"),
        ("thinking", ""),
    ]
    assert SignatureDelta(2, SIGNATURE) in events


@pytest.mark.parametrize("word", ["SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII", "BLOCKLIST"])
def test_wire_27_filtered(word: str) -> None:
    events = read(GEMINI, sse(chunk({"text": "a"}, finish=word)))
    assert Finish("content_filter", word) in events
    raw = GEMINI.encode_response(response(Text("a"), finish="content_filter", native=word), ask())
    assert json.loads(raw)["candidates"][0]["finishReason"] == word


@pytest.mark.parametrize(
    ("word", "reason"),
    [("MAX_TOKENS", "length"), ("MALFORMED_FUNCTION_CALL", "stop"), ("OTHER", "stop"), ("BRAND_NEW", "stop")],
)
def test_wire_27_the_native_word_is_kept(word: str, reason: Any) -> None:
    assert Finish(reason, word) in read(GEMINI, sse(chunk({"text": "a"}, finish=word)))


def test_a_refused_prompt_is_a_filtered_answer() -> None:
    blocked = {"promptFeedback": {"blockReason": "OTHER"}, "usageMetadata": {"promptTokenCount": 3}}
    assert summary(read(GEMINI, sse(blocked)))["finish"] == "content_filter"
    choice = GEMINI.decode_response(json.dumps(blocked).encode()).choices[0]
    assert (choice.finish_reason, choice.native_reason) == ("content_filter", "OTHER")
    assert GEMINI.glance(json.dumps(blocked).encode()).finish_reason == "content_filter"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}, 503),
        ({"message": "x", "status": "RESOURCE_EXHAUSTED"}, 429),
        ("broken", 500),
    ],
)
def test_wire_9_errors_inside_a_200_stream(error: Any, status: int) -> None:
    with pytest.raises(StreamFault) as caught:
        read(GEMINI, sse(chunk({"text": "a"}), {"error": error}))
    assert caught.value.status == status


def test_wire_10_end_without_a_finish_reason_is_a_truncation() -> None:
    with pytest.raises(Truncated):
        read(GEMINI, sse(chunk({"text": "a"})))
    with pytest.raises(Truncated):
        read(GEMINI, b"")
    # every candidate needs its own
    with pytest.raises(Truncated):
        read(GEMINI, sse(chunk({"text": "a"}, finish="STOP"), chunk({"text": "b"}, index=1)))


def test_wire_30_thoughts_are_output_and_cache_is_input() -> None:
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 60,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 80},
            {"modality": "IMAGE", "tokenCount": 20},
        ],
    }
    raw = json.dumps(chunk({"text": "a"}, finish="STOP", usageMetadata=usage)).encode()
    expected = Usage(
        input_tokens=105, cache_read_tokens=60, input_image_tokens=20, output_tokens=50, reasoning_tokens=30
    )
    assert GEMINI.decode_response(raw).usage == expected
    assert GEMINI.glance(raw).usage == expected
    nulls = {"promptTokenCount": None, "promptTokensDetails": None, "thoughtsTokenCount": None}
    raw = json.dumps(chunk({"text": "a"}, finish="STOP", usageMetadata=nulls)).encode()
    assert GEMINI.decode_response(raw).usage == Usage()


def test_wire_32_the_reason_is_read_not_the_digits() -> None:
    body = json.dumps(
        {
            "error": {
                "code": 429,
                "message": "Please retry in 40.3s.",
                "status": "RESOURCE_EXHAUSTED",
                "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "40.3s"}],
            }
        }
    ).encode()
    info = GEMINI.decode_error(429, [], body)
    assert (info.type, info.retry_after_s) == ("RESOURCE_EXHAUSTED", 40.3)
    key = json.dumps(
        [
            {
                "error": {
                    "code": 400,
                    "message": "API key not valid.",
                    "status": "INVALID_ARGUMENT",
                    "details": [
                        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
                    ],
                }
            }
        ]
    ).encode()
    info = GEMINI.decode_error(400, [], key)
    assert (info.code, info.type, info.message) == (
        "API_KEY_INVALID",
        "INVALID_ARGUMENT",
        "API key not valid.",
    )


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b'{"error": null}', b'{"error": "no"}', b"\xff\xfe", b"[[]]"]
)
def test_errors_of_any_shape_never_raise(body: bytes) -> None:
    GEMINI.decode_error(500, [], body)


def test_wire_35_an_html_page_is_a_cdn_speaking() -> None:
    assert GEMINI.decode_error(502, [], b"<html><title>502</title>").html


def test_logprobs_both_ways() -> None:
    result = {
        "chosenCandidates": [{"token": "Hi", "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "Hi", "logProbability": -0.5}]}],
    }
    given_chunk = chunk({"text": "Hi"}, finish="STOP")
    given_chunk["candidates"][0]["logprobsResult"] = result
    answer = GEMINI.decode_response(json.dumps(given_chunk).encode())
    assert answer.choices[0].logprobs["content"][0]["logprob"] == -0.5  # type: ignore[index]
    again = json.loads(GEMINI.encode_response(answer, ask()))
    assert again["candidates"][0]["logprobsResult"] == result


def test_candidates_interleave() -> None:
    raw = sse(
        chunk({"text": "a"}),
        chunk({"text": "x"}, index=1),
        chunk({"text": "b"}, finish="STOP"),
        chunk({"text": "y"}, finish="MAX_TOKENS", index=1),
    )
    events = read(GEMINI, raw)
    assert [block["text"] for block in summary(events)["blocks"]] == ["ab", "xy"]
    assert [event.choice for event in events if isinstance(event, BlockStart)] == [0, 1]
    assert events[-2:] == [Finish("stop", "STOP"), Finish("length", "MAX_TOKENS", None, 1)]
    streamed = encoded(GEMINI.stream_encoder(ask()), events)
    assert [block["text"] for block in summary(read(GEMINI, streamed))["blocks"]] == ["ab", "xy"]


def test_whole_answer_round_trip() -> None:
    answer = response(
        Thinking("Hm.", SIGNATURE, None, None, "gemini"),
        Text("Hello"),
        ToolCall("1", "weather", '{"city":"Rome"}', SIGNATURE, "gemini"),
        finish="tool_calls",
        usage=Usage(input_tokens=10, cache_read_tokens=4, output_tokens=5, reasoning_tokens=2),
    )
    again = GEMINI.decode_response(GEMINI.encode_response(answer, ask(reasoning=Reasoning(summary="auto"))))
    assert again.choices[0].parts == answer.choices[0].parts
    assert (again.usage, again.choices[0].finish_reason) == (answer.usage, "tool_calls")


# split, cut, garbled --------------------------------------------------------------------------------------------------

WHOLE = encoded(GEMINI.stream_encoder(ask(reasoning=Reasoning(summary="auto"))), answer_events("gemini"))


def test_wire_2_split_at_every_byte() -> None:
    expected = summary(read(GEMINI, WHOLE))
    for cut in range(0, len(WHOLE), 3):
        assert summary(read(GEMINI, WHOLE, cut)) == expected
    assert summary(read_pieces(GEMINI, [WHOLE[i : i + 1] for i in range(len(WHOLE))])) == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0, max_value=len(WHOLE) - 3))
def test_cut_anywhere_is_never_a_success(cut: int) -> None:
    with pytest.raises((Truncated, Garbled, StreamFault)):
        read(GEMINI, WHOLE[:cut])


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60), st.integers(min_value=0, max_value=len(WHOLE)))
def test_garbage_anywhere_raises_nothing_else(garbage: bytes, at: int) -> None:
    try:
        read(GEMINI, WHOLE[:at] + garbage + WHOLE[at:])
    except (Truncated, Garbled, StreamFault):
        pass


NAMES = [
    "candidates",
    "content",
    "parts",
    "text",
    "functionCall",
    "args",
    "name",
    "finishReason",
    "usageMetadata",
]
NAMES += [
    "index",
    "error",
    "details",
    "thoughtSignature",
    "promptFeedback",
    "logprobsResult",
    "chosenCandidates",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=14,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4), max_size=4))
def test_chunks_and_answers_of_any_shape_raise_nothing_else(chunks: list[dict[str, Any]]) -> None:
    decoder = GEMINI.stream_decoder()
    for body in chunks:
        raw = json.dumps(body).encode()
        for reader in (
            lambda raw=raw: decoder.decode(Frame(raw, raw)),
            lambda raw=raw: GEMINI.decode_response(raw),
        ):
            try:
                reader()
            except (Garbled, StreamFault):
                pass
        try:
            GEMINI.glance(raw)
        except (Garbled, StreamFault):
            pass
        GEMINI.decode_error(400, [], raw)


WORDS = [
    "role",
    "parts",
    "text",
    "functionCall",
    "functionResponse",
    "name",
    "response",
    "inlineData",
    "mimeType",
]
WORDS += ["data", "thoughtSignature", "fileData", "fileUri", "id", "args"]
CONTENT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["user", "model", "a", "image/png", "AAAA"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=14,
)


@settings(max_examples=100, deadline=None)
@given(CONTENT, CONTENT, CONTENT)
def test_requests_of_any_shape_raise_invalid_request_only(contents: Any, tools: Any, system: Any) -> None:
    try:
        decoded({"contents": contents, "tools": tools, "systemInstruction": system})
    except InvalidRequest:
        pass


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_schemas_of_any_shape_are_converted(schema: Any) -> None:
    from tieline.dialects.gemini.schema import from_gemini, to_gemini

    words = ["type", "properties", "items", "anyOf", "enum", "$ref", "$defs", "allOf", "required", "nullable"]
    shaped = dict.fromkeys(words, schema)
    to_gemini(shaped)
    from_gemini(shaped)


def test_events_pass_through_every_encoder_without_their_optional_parts() -> None:
    events: list[Event] = [
        Start("a", "m", 1),
        BlockStart(0, "tool_call", "1", "weather"),
        BlockStop(0),
        BlockStart(1, "tool_call", "2", "weather"),
        ArgumentsDelta(1, "{broken"),
        BlockStop(1),
        Finish("tool_calls"),
    ]
    chunks = [
        json.loads(frame.data)
        for frame in GEMINI.splitter().feed(encoded(GEMINI.stream_encoder(ask()), events))
    ]
    calls = [one["candidates"][0]["content"]["parts"][0].get("functionCall") for one in chunks]
    assert [one["args"] for one in calls if one] == [{}, {"_raw": "{broken"}]
