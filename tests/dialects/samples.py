"""Requests, streams and the official SDKs as judges, shared by the dialects' tests."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
from anthropic.types import message_create_params as anthropic_params
from openai.types.chat import completion_create_params as openai_params
from pydantic import TypeAdapter
from typing_extensions import is_typeddict

from tieline.dialects import get
from tieline.dialects.base import Dialect, Frame, Peek, Quirks, Target
from tieline.types.call import Call, Headers
from tieline.types.events import Event
from tieline.types.request import Request

OPENAI, ANTHROPIC = "openai_chat", "anthropic_messages"
PNG = "iVBORw0KGgoAAAANSUhEUg=="
PDF = "JVBERi0xLjQK"


def call(dialect: str, body: Any, headers: Headers | None = None, operation: str = "chat") -> Call:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Call(dialect=dialect, operation=operation, path="", headers=headers or [], body=raw)


def peek(dialect: str, body: Any) -> Peek:
    return get(dialect).peek(call(dialect, body))


def decode(dialect: str, body: Any, headers: Headers | None = None) -> Request:
    asked = call(dialect, body, headers)
    speaker = get(dialect)
    return speaker.decode_request(asked, speaker.peek(asked))


def target(dialect: str = OPENAI, quirks: Quirks | None = None, **more: Any) -> Target:
    return Target(provider="host", model="upstream-model", dialect=dialect, quirks=quirks or Quirks(), **more)


def encode(request: Request, to: Target) -> dict[str, Any]:
    """Encoded, checked against the vendor's own request types, and read back."""
    body: dict[str, Any] = json.loads(get(to.dialect).encode_request(request, to).body)
    return body


def translate(source: str, body: Any, to: Target) -> dict[str, Any]:
    return encode(decode(source, body), to)


# The vendors' own request types, with unknown fields forbidden ------------------------------------------------


def _forbid_unknown_fields(package: str) -> None:
    for name, module in list(sys.modules.items()):
        if not name.startswith(package) or not isinstance(module, types.ModuleType):
            continue
        for value in vars(module).values():
            if is_typeddict(value) and "__pydantic_config__" not in vars(value):
                value.__pydantic_config__ = {"extra": "forbid"}


_forbid_unknown_fields("openai.types")
_forbid_unknown_fields("anthropic.types")
_ADAPTERS = {
    OPENAI: TypeAdapter(openai_params.CompletionCreateParams),
    ANTHROPIC: TypeAdapter(anthropic_params.MessageCreateParams),
}
_NOT_IN_TYPES = {OPENAI: {"top_k", "min_p"}, ANTHROPIC: {"temperature", "top_p", "top_k"}}
"""What hosts take although the SDK's types leave it out: 2026-10-21 of Anthropic dropped the sampling parameters."""


def check(dialect: str, body: dict[str, Any]) -> None:
    """Raises where the vendor's SDK would not accept the request."""
    known = {name: value for name, value in body.items() if name not in _NOT_IN_TYPES[dialect]}
    _consume(_ADAPTERS[dialect].validate_python(known))


def _consume(value: Any) -> None:
    # pydantic checks an Iterable only while it is read.
    if isinstance(value, dict):
        for each in value.values():
            _consume(each)
    elif not isinstance(value, str | bytes | int | float | bool | None):
        for each in value:
            _consume(each)


# Streams ------------------------------------------------------------------------------------------------------


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "gpt-x",
        "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}],
    }
    body.update(more)
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


def message_start(**usage: Any) -> bytes:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 1, **usage},
    }
    return event("message_start", message=message)


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    out = event("content_block_start", index=index, content_block=start)
    for delta in deltas:
        out += event("content_block_delta", index=index, delta=delta)
    return out + event("content_block_stop", index=index)


def message_end(reason: str = "end_turn", **usage: Any) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return event("message_delta", delta=delta, usage={"output_tokens": 5, **usage}) + event("message_stop")


DONE = b"data: [DONE]\n\n"
OPENAI_STREAM = (
    chunk(None, choices=[], prompt_filter_results=[{"prompt_index": 0}])
    + b": keep-alive\n\n"
    + chunk({"role": "assistant", "content": "", "reasoning_content": "hm"})
    + chunk({"reasoning_content": "m … "})
    + chunk({"content": "Grüße "})
    + chunk({"content": "🎉"})
    + chunk({"tool_calls": [{"index": 0, "id": "call_a", "type": "function", "function": {"name": "get_"}}]})
    + chunk({"tool_calls": [{"index": 0, "function": {"name": "weather", "arguments": ""}}]})
    + chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]})
    + chunk({"tool_calls": [{"index": 1, "id": "call_b", "function": {"name": "clock", "arguments": "{"}}]})
    + chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Köln"}'}}]})
    + chunk({"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]}, "tool_calls")
    + chunk(None, choices=[], usage={"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29})
    + DONE
)
ANTHROPIC_STREAM = (
    message_start(cache_read_input_tokens=90, cache_creation_input_tokens=0)
    + event("ping")
    + block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "hmm … "},
        {"type": "signature_delta", "signature": "c2ln"},
    )
    + block(1, {"type": "redacted_thinking", "data": "ZGF0YQ=="})
    + block(2, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Grüße 🎉"})
    + block(
        3,
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"city": '},
        {"type": "input_json_delta", "partial_json": '"Köln"}'},
    )
    + message_end("tool_use", input_tokens=10, cache_read_input_tokens=90)
)
STREAMS = {OPENAI: OPENAI_STREAM, ANTHROPIC: ANTHROPIC_STREAM}


def frames(dialect: Dialect, *chunks: bytes) -> Iterator[Frame]:
    splitter = dialect.splitter()
    for each in chunks:
        yield from splitter.feed(each)
    yield from splitter.finish()


def events(name: str, *chunks: bytes) -> list[Event]:
    """All events of a whole stream. Raises what the decoder raises."""
    dialect = get(name)
    decoder = dialect.stream_decoder()
    seen = [each for frame in frames(dialect, *chunks) for each in decoder.decode(frame)]
    return seen + decoder.finish()


def written(name: str, seen: list[Event], request: Request | None = None) -> bytes:
    encoder = get(name).stream_encoder(request or Request(model="m", messages=[], include_usage=True))
    return b"".join([encoder.encode(each) for each in seen]) + encoder.finish()


# The official SDKs as readers ---------------------------------------------------------------------------------


def _answering(status: int, body: bytes, media_type: str) -> httpx2.Client:
    def handler(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, content=body, headers={"content-type": media_type})

    return httpx2.Client(transport=httpx2.MockTransport(handler))


def openai_client(body: bytes, status: int = 200, media_type: str = "application/json") -> openai.OpenAI:
    return openai.OpenAI(
        api_key="k",
        base_url="http://127.0.0.1/v1",
        max_retries=0,
        http_client=_answering(status, body, media_type),
    )


def anthropic_client(
    body: bytes, status: int = 200, media_type: str = "application/json"
) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        api_key="k",
        base_url="http://127.0.0.1",
        max_retries=0,
        http_client=_answering(status, body, media_type),
    )


def read_openai_stream(body: bytes) -> list[Any]:
    with openai_client(body, media_type="text/event-stream") as client:
        messages: Any = [{"role": "user", "content": "x"}]
        return list(client.chat.completions.create(model="m", messages=messages, stream=True))


def read_anthropic_stream(body: bytes) -> Any:
    """The message that the SDK's own accumulator makes of it."""
    messages: Any = [{"role": "user", "content": "x"}]
    with (
        anthropic_client(body, media_type="text/event-stream") as client,
        client.messages.stream(model="m", max_tokens=9, messages=messages) as stream,
    ):
        return stream.get_final_message()
