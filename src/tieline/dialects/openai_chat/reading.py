"""What a chunk or an answer of OpenAI's Chat Completions API says, in whatever way its host writes it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tieline.dialects.base import Garbled
from tieline.dialects.fields import count_of
from tieline.dialects.openai_chat.wire import CHUNK, CONTENT_MARKS, REASONS, Chunk
from tieline.types.response import FinishReason
from tieline.types.usage import Usage

_decode: Final = CHUNK.decode


def read_chunk(data: bytes) -> Chunk:
    """Raises Garbled, with ``carries_content`` by what the bytes look like."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        carries = any(mark in data for mark in CONTENT_MARKS)
        raise Garbled(f"not a chat completion: {error}", carries_content=carries) from None


def finish_of(native: str, called_tools: bool) -> FinishReason:
    """WIRE_FACTS 27; a stop after tool calls is `tool_calls` (several hosts say `stop`, WIRE_FACTS 8)."""
    reason = REASONS.get(native.lower(), "stop")
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
    for value in values:
        if found := count_of(value):
            return found
    return 0
