"""The words of Anthropic's Messages API."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from tieline.dialects.base import Garbled, Target, segment
from tieline.dialects.fields import count_of
from tieline.types.response import FinishReason
from tieline.types.usage import Usage

NAME = "anthropic_messages"
PATH = "/v1/messages"
COUNT_PATH = "/v1/messages/count_tokens"
VERSION = b"2023-06-01"
"""Sent when the caller named none: 2026-10-21 refuses temperature, top_p and top_k, and not every host that speaks
this API knows it (platform.claude.com/docs/en/api/versioning, November 2026)."""


_SPEEDS = (None, "", "standard", "fast")
_PLACES = (None, "", "global", "not_available", "us")
"""What is known of how they are billed."""


def path_of(target: Target, *, stream: bool, operation: str = "chat") -> str:
    """Below the base URL. A host that has the version in the body has the method in the path: Vertex
    (platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai, November 2026)."""
    template = target.quirks.path
    counts = operation == "count_tokens"
    if not template or (counts and "{method}" not in template):
        return COUNT_PATH if counts else PATH
    method = "streamRawPredict" if stream and not counts else "rawPredict"
    model = "count-tokens" if counts else segment(target.model)
    return template.replace("{model}", model).replace("{method}", method)


class WireBlock(Struct):
    type: str
    text: str | None = None
    citations: list[Any] | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw(b"{}")


class WireMessage(Struct):
    """A whole answer, or the one in `message_start`."""

    id: str | None = None
    model: str | None = None
    type: str | None = None
    content: list[Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Any = None
    error: Any = None


class WireDelta(Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class WireEvent(Struct):
    type: str | None = None
    index: int | None = None
    delta: WireDelta | None = None
    content_block: Raw = Raw(b"null")
    message: WireMessage | None = None
    usage: Any = None
    error: Any = None


EVENT = msgspec.json.Decoder(WireEvent)
MESSAGE = msgspec.json.Decoder(WireMessage)
BLOCK = msgspec.json.Decoder(WireBlock)
_CONTENT_MARKS = (b"content_block", b"_delta", b'"text"', b"message_", b'"delta"', b'"stop_reason"')

_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "stop",
    "model_context_window_exceeded": "length",
}
_NATIVE: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_SEAL = "tieline:"


def read_event(data: bytes) -> WireEvent:
    """Raises Garbled, with ``carries_content`` by what the bytes look like."""
    try:
        return EVENT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        carries = any(mark in data for mark in _CONTENT_MARKS)
        raise Garbled(f"not a Messages event: {error}", carries_content=carries) from None


def read_block(raw: Raw) -> WireBlock:
    try:
        return BLOCK.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"not a content block: {error}") from None


def finish_of(native: str) -> FinishReason:
    """WIRE_FACTS 27; a reason not known yet is a stop, with the native word kept."""
    return _REASONS.get(native, "stop")


def stop_reason_of(reason: FinishReason, native: str | None, stop_sequence: str | None) -> str:
    """The vendor's own word where it was one of this API's and still says the same."""
    if native is not None and _REASONS.get(native) == reason:
        return native
    if reason == "stop" and stop_sequence is not None:
        return "stop_sequence"
    return _NATIVE[reason]


def merged_usage(before: dict[str, Any], after: Any) -> dict[str, Any]:
    """`message_start` then `message_delta`: cumulative, the last figure wins, nulls say nothing (WIRE_FACTS 29)."""
    if not isinstance(after, dict):
        return before
    return before | {name: value for name, value in after.items() if value is not None}


def usage_of(value: Any) -> Usage | None:
    """Here `input_tokens` excludes what the cache served or stored: added back (WIRE_FACTS 29)."""
    if not isinstance(value, dict) or not value:
        return None
    usage = _tokens(value)
    if value.get("iterations"):
        usage = _with_iterations(usage, value["iterations"])
    if value.get("speed") not in _SPEEDS or value.get("inference_geo") not in _PLACES:
        usage.unpriced = True
    usage.extras = _extras(value)
    return usage


def _with_iterations(usage: Usage, iterations: Any) -> Usage:
    """The totals hold those of type `message`. Compaction is billed beside them, by the same model
    (platform.claude.com/docs/en/build-with-claude/compaction, read 2026-11-23); an advisor and a fallback are another model."""
    for entry in iterations if isinstance(iterations, list) else ():
        kind = entry.get("type") if isinstance(entry, dict) else None
        if kind == "compaction":
            usage = usage + _tokens(entry)
        elif kind != "message":
            usage.unpriced = True
    return usage


def _tokens(value: dict[str, Any]) -> Usage:
    read = count_of(value.get("cache_read_input_tokens"))
    written = count_of(value.get("cache_creation_input_tokens"))
    split = value.get("cache_creation")
    hour = count_of(split.get("ephemeral_1h_input_tokens")) if isinstance(split, dict) else 0
    short = count_of(split.get("ephemeral_5m_input_tokens")) if isinstance(split, dict) else 0
    if hour + short < written:
        short = written - hour
    details = value.get("output_tokens_details")
    thought = count_of(details.get("thinking_tokens")) if isinstance(details, dict) else 0
    output = count_of(value.get("output_tokens"))
    return Usage(
        input_tokens=count_of(value.get("input_tokens")) + read + short + hour,
        cache_read_tokens=read,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=hour,
        output_tokens=output,
        reasoning_tokens=min(thought, output),
    )


def _extras(usage: dict[str, Any]) -> dict[str, int] | None:
    """Web searches, fast mode and inference in one country are billed beyond the list price; fetches of pages are not
    (platform.claude.com/docs/en/about-claude/pricing, read 2026-11-23)."""
    found = rates_of(usage.get("speed"), usage.get("inference_geo"))
    ran = usage.get("server_tool_use")
    searches = count_of(ran.get("web_search_requests")) if isinstance(ran, dict) else 0
    if searches:
        found = {**(found or {}), "web_search": searches}
    return found


def rates_of(speed: Any, place: Any) -> dict[str, int] | None:
    """Of EXTRAS in ``types.usage``, those that a request asks for and its usage tells."""
    if speed == "fast":
        return {"fast": 1, "us": 1} if place == "us" else {"fast": 1}
    return {"us": 1} if place == "us" else None


def wire_usage(usage: Usage | None) -> dict[str, Any]:
    usage = usage or Usage()
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    wire: dict[str, Any] = {
        "input_tokens": max(0, usage.input_tokens - usage.cache_read_tokens - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }
    if written:
        wire["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        }
    if usage.reasoning_tokens:
        wire["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return wire


def sealed(value: str, origin: str | None, item_id: str | None = None) -> str:
    """Another vendor's signature in this API's field, marked so that it never reaches Anthropic (WIRE_FACTS 21)."""
    return value if origin in (None, NAME) else f"{_SEAL}{origin}:{item_id or ''}:{value}"


def unsealed(value: str) -> tuple[str, str, str | None]:
    """The value, whose it is, and the item's id."""
    if not value.startswith(_SEAL):
        return value, NAME, None
    origin, _, rest = value.removeprefix(_SEAL).partition(":")
    item_id, _, inner = rest.partition(":")
    return inner, origin, item_id or None


def is_foreign(block: WireBlock) -> bool:
    """Thinking that Anthropic did not sign: it would answer 400."""
    if block.type == "thinking":
        return not block.signature or block.signature.startswith(_SEAL)
    return block.type == "redacted_thinking" and (block.data or "").startswith(_SEAL)
