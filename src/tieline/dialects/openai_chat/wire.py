"""The words of OpenAI's Chat Completions API as sent by OpenAI and by the many who speak it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tieline.dialects.base import Target, segment
from tieline.types.response import FinishReason

NAME = "openai_chat"
PATH = "/chat/completions"


def path_of(target: Target) -> str:
    return target.quirks.path.replace("{model}", segment(target.model)) or PATH


FORMATS = {
    "anthropic_messages": "anthropic-claude-v1",
    "gemini": "google-gemini-v1",
    "openai_responses": "openai-responses-v1",
}
"""OpenRouter's names for whose reasoning it is, in `reasoning_details` (openrouter.ai/docs, "Reasoning tokens")."""
ORIGINS = {wire: origin for origin, wire in FORMATS.items()}


class WireFunction(Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class WireToolCall(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: WireFunction | None = None
    custom: Any = None
    extra_content: Any = None


class WireMessage(Struct, gc=False):
    """An answer's message, or a delta of one."""

    role: str | None = None
    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    reasoning_details: list[Any] | None = None
    refusal: str | None = None
    tool_calls: list[WireToolCall] | None = None
    function_call: WireFunction | None = None


class WireChoice(Struct, gc=False):
    index: int | None = None
    delta: WireMessage | None = None
    message: WireMessage | None = None
    finish_reason: str | None = None
    logprobs: Any = None
    usage: Any = None


class Chunk(Struct, gc=False):
    """A chunk of a stream, or a whole answer."""

    id: str | int | None = None
    created: Any = None
    model: str | None = None
    choices: list[WireChoice] | None = None
    usage: Any = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    x_groq: Any = None
    error: Any = None
    object: str | None = None
    message: Any = None
    code: Any = None
    detail: Any = None


CHUNK = msgspec.json.Decoder(Chunk)
CONTENT_MARKS = (
    b'"content"',
    b'"delta"',
    b'"arguments"',
    b'"tool_calls"',
    b'"reasoning"',
    b'"reasoning_content"',
    b'"reasoning_details"',
    b'"finish_reason"',
    b'"refusal"',
    b'"text"',
)

REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "max_tokens": "length",
    "model_length": "length",
    "tool_use": "tool_calls",
    "safety": "content_filter",
    "refusal": "content_filter",
}
BROKEN_REASONS = {"error", "insufficient_system_resource", "network_error", "abort"}
"""Finish reasons that mean "cut short by us": OpenRouter and Mistral, DeepSeek, Zhipu, vLLM."""
