"""Every upstream dialect to every caller's dialect, requests and answers: what was meant arrives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dialects import test_bedrock_converse, test_cohere
from tests.dialects.wire import PIXEL, answer_events, call, encoded, read, summary, target, weather_tool
from tieline.dialects import get, get_upstream
from tieline.types.request import Message, Reasoning, Request, Text, Thinking, ToolCall, ToolResult

CALLERS = ["openai_chat", "openai_responses", "anthropic_messages", "gemini"]
UPSTREAMS = [*CALLERS, "bedrock_converse", "cohere"]


def asked(**more: Any) -> Request:
    return Request(
        model="m",
        messages=[Message("user", [Text("Hi")])],
        tools=[weather_tool()],
        reasoning=Reasoning(effort="low", summary="auto"),
        stream=True,
        include_usage=True,
        **more,
    )


def upstream_stream(name: str) -> bytes:
    if name == "bedrock_converse":
        return test_bedrock_converse.STREAM
    if name == "cohere":
        return test_cohere.STREAM
    return encoded(get(name).stream_encoder(asked()), answer_events(name))


def meaning(result: dict[str, Any]) -> Any:
    """Texts by kind, calls with their arguments decoded, the end and its figures."""
    texts = {
        kind: "".join(block["text"] for block in result["blocks"] if block["kind"] == kind)
        for kind in ("text", "thinking")
    }
    calls = [
        (block["name"], json.loads(block["text"]))
        for block in result["blocks"]
        if block["kind"] == "tool_call"
    ]
    usage = result["usage"]
    return texts, calls, result["finish"], usage.input_tokens, usage.cache_read_tokens, usage.output_tokens


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("caller", CALLERS)
def test_streams(upstream: str, caller: str) -> None:
    events = read(get_upstream(upstream), upstream_stream(upstream))
    raw = encoded(get(caller).stream_encoder(asked()), events)
    assert meaning(summary(read(get(caller), raw))) == meaning(summary(events))


TOOL = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
REQUESTS: dict[str, Any] = {
    "openai_chat": {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Weather?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                ],
            },
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"a"}'},
                    },
                    {
                        "id": "call_2",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"b"}'},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            {"role": "tool", "tool_call_id": "call_2", "content": "rain"},
            {"role": "user", "content": "Go on."},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": TOOL}}],
        "max_tokens": 64,
    },
    "openai_responses": {
        "model": "m",
        "instructions": "Be brief.",
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Weather?"},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
                ],
            },
            {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":"a"}'},
            {"type": "function_call", "call_id": "call_2", "name": "weather", "arguments": '{"city":"b"}'},
            {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
            {"type": "function_call_output", "call_id": "call_2", "output": "rain"},
            {"role": "user", "content": "Go on."},
        ],
        "tools": [{"type": "function", "name": "weather", "parameters": TOOL, "strict": False}],
        "max_output_tokens": 64,
        "include": ["reasoning.encrypted_content"],
        "store": False,
        "prompt_cache_key": "k",
    },
    "anthropic_messages": {
        "model": "m",
        "system": "Be brief.",
        "max_tokens": 64,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Weather?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "a"}},
                    {"type": "tool_use", "id": "call_2", "name": "weather", "input": {"city": "b"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": "rain"},
                    {"type": "text", "text": "Go on."},
                ],
            },
        ],
        "tools": [{"name": "weather", "input_schema": TOOL}],
    },
    "gemini": {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {
                "role": "user",
                "parts": [{"text": "Weather?"}, {"inlineData": {"mimeType": "image/png", "data": PIXEL}}],
            },
            {
                "role": "model",
                "parts": [
                    {"functionCall": {"name": "weather", "args": {"city": "a"}}},
                    {"functionCall": {"name": "weather", "args": {"city": "b"}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "weather", "response": {"result": "sunny"}}},
                    {"functionResponse": {"name": "weather", "response": {"result": "rain"}}},
                    {"text": "Go on."},
                ],
            },
        ],
        "tools": [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": TOOL}]}],
        "generationConfig": {"maxOutputTokens": 64},
    },
}


def request_from(caller: str, body: Any) -> Request:
    path = {"model": "m", "stream": False} if caller == "gemini" else {}
    incoming = call(caller, body, **path)
    return get(caller).decode_request(incoming, get(caller).peek(incoming))


def gist(request: Request) -> Any:
    """What a request says, whoever's words it uses."""
    said: list[Any] = []
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Text):
                said.append((message.role, part.text))
            elif isinstance(part, ToolCall):
                said.append(("call", part.name, json.loads(part.arguments)))
            elif isinstance(part, ToolResult):
                said.append(
                    ("result", "".join(inner.text for inner in part.content if isinstance(inner, Text)))
                )
            elif not isinstance(part, Thinking):
                said.append((message.role, type(part).__name__))
    names = [getattr(tool, "name", None) for tool in request.tools]
    return said, names, request.max_output_tokens


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("caller", CALLERS)
def test_requests(caller: str, upstream: str) -> None:
    request = request_from(caller, REQUESTS[caller])
    outgoing = get_upstream(upstream).encode_request(request, target(upstream, "claude-m"))
    if upstream in CALLERS:
        again = request_from(upstream, json.loads(outgoing.body))
        assert gist(again) == gist(request)
    assert gist(request) == gist(request_from("openai_chat", REQUESTS["openai_chat"]))
