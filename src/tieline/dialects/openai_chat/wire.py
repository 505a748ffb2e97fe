"""The words of OpenAI's Chat Completions API as sent by OpenAI and by the many who speak it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tieline.dialects.base import Garbled, Target, segment
from tieline.dialects.fields import count_of
from tieline.types.response import FinishReason
from tieline.types.usage import Usage

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
_CONTENT_MARKS = (
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

_REASONS: dict[str, FinishReason] = {
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


def read_chunk(data: bytes) -> Chunk:
    """Raises Garbled, with ``carries_content`` by what the bytes look like."""
    try:
        return CHUNK.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        carries = any(mark in data for mark in _CONTENT_MARKS)
        raise Garbled(f"not a chat completion: {error}", carries_content=carries) from None


def finish_of(native: str, called_tools: bool) -> FinishReason:
    """WIRE_FACTS 27; a stop after tool calls is `tool_calls` (several hosts say `stop`, WIRE_FACTS 8)."""
    reason = _REASONS.get(native.lower(), "stop")
    return "tool_calls" if reason == "stop" and called_tools else reason


def usage_of(value: Any) -> Usage | None:
    """None when there is none. The input figure includes cached tokens here (WIRE_FACTS 29)."""
    if not isinstance(value, dict) or not value:
        return None
    into = _object(value.get("prompt_tokens_details") or value.get("input_tokens_details"))
    out = _object(value.get("completion_tokens_details") or value.get("output_tokens_details"))
    prompt = count_of(value.get("prompt_tokens", value.get("input_tokens")))
    completion = count_of(value.get("completion_tokens", value.get("output_tokens")))
    reasoning = count_of(out.get("reasoning_tokens")) or count_of(value.get("reasoning_tokens"))
    # xAI counts reasoning beside completion_tokens, so that only the total tells (docs.x.ai, "Reasoning").
    if reasoning and count_of(value.get("total_tokens")) == prompt + completion + reasoning:
        completion += reasoning
    cached = _first(
        into.get("cached_tokens"),
        value.get("prompt_cache_hit_tokens"),  # DeepSeek
        value.get("cached_tokens"),  # Moonshot
        value.get("cache_read_input_tokens"),
    )
    written = _first(into.get("cache_write_tokens"), value.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=prompt,
        cache_read_tokens=min(cached, prompt),
        cache_write_5m_tokens=min(written, max(0, prompt - cached)),
        input_audio_tokens=count_of(into.get("audio_tokens")),
        input_image_tokens=count_of(into.get("image_tokens")),
        output_tokens=completion,
        reasoning_tokens=min(reasoning, completion),
        output_audio_tokens=count_of(out.get("audio_tokens")),
    )


def chunk_usage(chunk: Chunk) -> Usage | None:
    """Wherever the vendor put it: top level, Groq's `x_groq`, Moonshot's choice."""
    if chunk.usage:
        return usage_of(chunk.usage)
    if isinstance(chunk.x_groq, dict) and chunk.x_groq.get("usage"):
        return usage_of(chunk.x_groq["usage"])
    for choice in chunk.choices or ():
        if choice.usage:
            return usage_of(choice.usage)
    return None


def wire_usage(usage: Usage) -> dict[str, Any]:
    into = {"cached_tokens": usage.cache_read_tokens, "audio_tokens": usage.input_audio_tokens}
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    if written:
        into["cache_write_tokens"] = written
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": into,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.output_audio_tokens,
        },
    }


def created_of(value: Any) -> int:
    """Unix seconds; hosts send floats, strings and milliseconds too."""
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 16 else 0
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e15:
        return 0
    return int(value // 1000 if value > 10_000_000_000 else value)


def text_of(content: str | list[Any] | None) -> str:
    """A list of parts (Mistral) joined; thinking parts are not text."""
    if isinstance(content, str):
        return content
    texts = (part if isinstance(part, str) else _part_text(part) for part in content or ())
    return "".join(texts)


def thinking_of(content: str | list[Any] | None) -> str:
    """The text of Mistral's thinking parts."""
    if not isinstance(content, list):
        return ""
    inner = (part.get("thinking") for part in content if isinstance(part, dict))
    return "".join(text_of(each) for each in inner if isinstance(each, str | list))


def arguments_of(value: str | dict[str, Any] | None) -> str:
    """JSON text; some hosts send the object itself."""
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return value or ""


def thought_signature(extra: Any) -> str | None:
    """Gemini's, where its OpenAI-compatible endpoint puts it: `extra_content.google.thought_signature`."""
    google = extra.get("google") if isinstance(extra, dict) else None
    found = google.get("thought_signature") if isinstance(google, dict) else None
    return found if isinstance(found, str) and found else None


def _part_text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(*values: Any) -> int:
    return next((found for found in map(count_of, values) if found), 0)
