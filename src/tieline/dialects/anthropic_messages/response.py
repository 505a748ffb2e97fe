"""Whole Messages answers, token counts and errors, read from hosts and written to callers."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from msgspec import Raw, Struct

from tieline.dialects.anthropic_messages.wire import (
    MESSAGE,
    NAME,
    WireBlock,
    WireMessage,
    finish_of,
    read_block,
    sealed,
    stop_reason_of,
    unsealed,
    usage_of,
    wire_usage,
)
from tieline.dialects.base import Garbled, Glance, StreamFault
from tieline.dialects.error_bodies import info_of_value, status_of
from tieline.dialects.fields import BROKEN_JSON, answer_body, loosely
from tieline.dialects.signatures import OF_CALL
from tieline.dialects.structured_tool import NAME as STRUCTURED
from tieline.types.errors import Fault
from tieline.types.request import Opaque, Refusal, Text, Thinking, ToolCall
from tieline.types.response import Choice, FinishReason, OutputPart, Response

_TOO_LONG = "prompt is too long"
_TYPE_OF_STATUS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class _Count(Struct):
    input_tokens: int


_COUNT = msgspec.json.Decoder(_Count)


# upstream -------------------------------------------------------------------------------------------------------


def decode_response(body: bytes) -> Response:
    message = _read_whole(body)
    if message.stop_reason is None:
        raise Garbled("the answer has no stop_reason")
    parts = [part_of(raw) for raw in message.content or ()]
    structured = any(isinstance(part, ToolCall) and part.name == STRUCTURED for part in parts)
    if structured:
        parts = _as_content(parts)
    called = any(isinstance(part, ToolCall) for part in parts)
    reason = finish_reason(message.stop_reason, structured=structured, called=called)
    tier = message.usage.get("service_tier") if isinstance(message.usage, dict) else None
    return Response(
        id=message.id or "",
        model=message.model or "",
        # This API tells no time; now is when it was made.
        created=int(time.time()),
        choices=[Choice(parts, reason, message.stop_reason, message.stop_sequence)],
        usage=usage_of(message.usage),
        service_tier=tier if isinstance(tier, str) else None,
    )


def finish_reason(native: str, *, structured: bool, called: bool) -> FinishReason:
    """The structured-output tool is ours, not a call of the model's (WIRE_FACTS 23)."""
    reason = finish_of(native)
    return "stop" if structured and not called and reason == "tool_calls" else reason


def glance(body: bytes) -> Glance:
    message = _read_whole(body)
    blocks = [read_block(raw) for raw in message.content or ()]
    return Glance(
        id=message.id,
        model=message.model,
        usage=usage_of(message.usage),
        finish_reason=message.stop_reason,
        output_chars=sum(_chars(block) for block in blocks),
    )


def decode_count(body: bytes) -> int:
    """The answer of count_tokens. Raises Garbled."""
    try:
        return _COUNT.decode(body).input_tokens
    except BROKEN_JSON as error:
        raise Garbled(f"not a token count: {error}") from None


def part_of(raw: Raw) -> OutputPart:
    block = read_block(raw)
    if block.type == "text":
        return Text(
            block.text or "", citations=block.citations or None, origin=NAME if block.citations else None
        )
    if block.type == "thinking":
        signature, origin, item_id = unsealed(block.signature or "")
        return Thinking(block.thinking or "", signature or None, id=item_id, origin=origin)
    if block.type == "redacted_thinking":
        data, origin, item_id = unsealed(block.data or "")
        return Thinking("", redacted=data, id=item_id, origin=origin)
    if block.type == "tool_use" and block.id and block.name:
        return ToolCall(block.id, block.name, bytes(block.input).decode())
    return Opaque(NAME, answer_body(raw))


def _read_whole(body: bytes) -> WireMessage:
    try:
        message = MESSAGE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbled(f"not a message: {error}") from None
    if message.type == "error" or message.error:
        info = info_of_value(loosely(body))
        raise StreamFault(info, status_of(info))
    if message.content is None:
        raise Garbled("the answer has no content")
    return message


def _as_content(parts: list[OutputPart]) -> list[OutputPart]:
    kept: list[OutputPart] = []
    for part in parts:
        if isinstance(part, ToolCall) and part.name == STRUCTURED:
            kept.append(Text(part.arguments))
        elif not isinstance(part, Text):
            kept.append(part)
    return kept


def _chars(block: WireBlock) -> int:
    given = len(bytes(block.input)) if block.type == "tool_use" else 0
    return len(block.text or "") + len(block.thinking or "") + given


# downstream -----------------------------------------------------------------------------------------------------


def encode_response(response: Response) -> bytes:
    choice = response.choices[0] if response.choices else Choice([], "stop")
    blocks: list[dict[str, Any]] = []
    for part in choice.parts:
        if isinstance(part, ToolCall) and (carrier := carrier_of(part.signature, part.origin)):
            blocks.append(carrier)
        block = wire_block(part)
        if block is not None:
            blocks.append(block)
    usage = wire_usage(response.usage)
    if response.service_tier in ("standard", "priority", "batch"):
        usage["service_tier"] = response.service_tier
    body: dict[str, Any] = {
        "id": response.id,
        "type": "message",
        "role": "assistant",
        "model": response.model,
        "content": blocks,
        "stop_reason": stop_reason_of(choice.finish_reason, choice.native_reason, choice.stop_sequence),
        "stop_sequence": choice.stop_sequence,
        "usage": usage,
    }
    return msgspec.json.encode(body)


def wire_block(part: OutputPart) -> dict[str, Any] | None:
    if isinstance(part, Text):
        # Left out where there are none, as by the vendor: @ai-sdk/anthropic 3.0.137 refuses null.
        cited = {"citations": part.citations} if part.citations and part.origin == NAME else {}
        return {"type": "text", "text": part.text, **cited} if part.text else None
    if isinstance(part, Refusal):
        return {"type": "text", "text": part.text} if part.text else None
    if isinstance(part, Thinking):
        if part.redacted is not None:
            return {"type": "redacted_thinking", "data": sealed(part.redacted, part.origin, part.id)}
        signature = sealed(part.signature, part.origin, part.id) if part.signature else ""
        return {"type": "thinking", "thinking": part.text, "signature": signature}
    if isinstance(part, ToolCall):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": _input(part.arguments)}
    return part.value if part.origin == NAME else None


def carrier_of(signature: str | None, origin: str | None) -> dict[str, Any] | None:
    """A tool call has no field for a signature: a thinking block before it carries it back to us (WIRE_FACTS 21)."""
    if not signature or origin is None:
        return None
    return {"type": "thinking", "thinking": "", "signature": sealed(signature, f"{origin}{OF_CALL}")}


def _input(arguments: str) -> Any:
    try:
        msgspec.json.decode(arguments or "{}", type=dict[str, Raw])
    except (msgspec.DecodeError, RecursionError):
        return {"invalid_arguments": arguments}
    return Raw((arguments or "{}").encode())


def encode_count(tokens: int) -> bytes:
    """The answer to count_tokens."""
    return msgspec.json.encode({"input_tokens": tokens})


def error_object(fault: Fault, request_id: str) -> dict[str, Any]:
    kind = _TYPE_OF_STATUS.get(fault.status) or (
        "api_error" if fault.status >= 500 else "invalid_request_error"
    )
    error: dict[str, Any] = {"type": kind, "message": _message(fault), "code": fault.code}
    if fault.param is not None:
        error["param"] = fault.param
    if fault.details:
        error["details"] = fault.details
    return {"type": "error", "error": error, "request_id": request_id}


def _message(fault: Fault) -> str:
    """With the words that callers know a full context by, as this API has no code for it: LangChain, LiteLLM, Claude Code."""
    if fault.code != "context_length_exceeded" or _TOO_LONG in fault.message:
        return fault.message
    return f"{_TOO_LONG}: {fault.message}"


def encode_error(fault: Fault, request_id: str) -> bytes:
    return msgspec.json.encode(error_object(fault, request_id))
