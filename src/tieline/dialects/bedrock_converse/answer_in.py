"""What Bedrock's Converse sends: whole answers, binary event streams, errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from tieline.dialects import structured_tool
from tieline.dialects.base import Frame, Garbled, StreamFault, Truncated
from tieline.dialects.bedrock_converse.request_out import CLAUDE, NAME
from tieline.dialects.error_bodies import info_of_body, info_of_value
from tieline.dialects.eventstream import EXCEPTION
from tieline.dialects.fields import (
    BROKEN_JSON,
    Json,
    answer_body,
    count_of,
    list_of,
    object_of,
    optional_text,
    text_of,
    to_text,
)
from tieline.types.call import Headers
from tieline.types.errors import ErrorInfo
from tieline.types.events import (
    ArgumentsDelta,
    BlockKind,
    BlockStart,
    BlockStop,
    CitationDelta,
    Event,
    Finish,
    SignatureDelta,
    Start,
    TextDelta,
    ThinkingDelta,
    UsageReport,
)
from tieline.types.request import Opaque, Text, Thinking, ToolCall
from tieline.types.response import Choice, FinishReason, OutputPart, Response
from tieline.types.usage import Usage

_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_STATUS = {
    "validationexception": 400,
    "accessdeniedexception": 403,
    "resourcenotfoundexception": 404,
    "modeltimeoutexception": 504,
    "throttlingexception": 429,
    "servicequotaexceededexception": 429,
    "modelnotreadyexception": 503,
    "internalserverexception": 500,
    "modelerrorexception": 500,
    "modelstreamerrorexception": 500,
    "serviceunavailableexception": 503,
}


def decode_error(status: int, headers: Headers, body: bytes) -> ErrorInfo:
    """The exception's name stands in a header, sometimes in `__type`."""
    info = info_of_body(headers, body)
    if info.html:
        return info
    name = next((value.decode("latin-1") for key, value in headers if key == b"x-amzn-errortype"), "")
    try:
        decoded = object_of(msgspec.json.decode(body))
    except BROKEN_JSON:
        decoded = {}
    name = name or text_of(decoded.get("__type"))
    name = name.partition(":")[0].rpartition("#")[2]
    message = info.message or text_of(decoded.get("Message"))
    return msgspec.structs.replace(info, message=message, code=name or info.code, type=name or info.type)


def decode_response(body: bytes) -> Response:
    answer = answer_body(body)
    native = optional_text(answer.get("stopReason"))
    if native is None:
        raise Garbled("an answer without stopReason")
    message = object_of(object_of(answer.get("output")).get("message"))
    parts = [_part(object_of(block)) for block in list_of(message.get("content"))]
    structured = any(_is_structured(object_of(block)) for block in list_of(message.get("content")))
    called = any(isinstance(part, ToolCall) for part in parts)
    return Response(
        id="",
        model="",
        created=int(time.time()),
        choices=[Choice(parts, reason_of(native, structured and not called), native)],
        usage=usage_of(answer.get("usage")),
        service_tier=optional_text(object_of(answer.get("serviceTier")).get("type")),
    )


def reason_of(native: str, structured: bool) -> FinishReason:
    reason = _REASONS.get(native, "stop")
    return "stop" if structured and reason == "tool_calls" else reason


def _is_structured(block: Json) -> bool:
    return object_of(block.get("toolUse")).get("name") == structured_tool.NAME


def _part(block: Json) -> OutputPart:
    if isinstance(block.get("text"), str):
        return Text(block["text"])
    if isinstance(block.get("toolUse"), dict):
        use = block["toolUse"]
        arguments = to_text(object_of(use.get("input")))
        if _is_structured(block):
            return Text(arguments)
        return ToolCall(_needed(use, "toolUseId"), _needed(use, "name"), arguments)
    if isinstance(block.get("reasoningContent"), dict):
        return _thinking(block["reasoningContent"])
    cited = object_of(block.get("citationsContent"))
    if cited:
        text = "".join(text_of(object_of(one).get("text")) for one in list_of(cited.get("content")))
        return Text(text, None, list_of(cited.get("citations")), NAME)
    return Opaque(NAME, block)


def _thinking(content: Json) -> Thinking:
    if isinstance(content.get("redactedContent"), str):
        return Thinking("", None, content["redactedContent"], None, NAME)
    said = object_of(content.get("reasoningText"))
    return Thinking(text_of(said.get("text")), optional_text(said.get("signature")), None, None, CLAUDE)


def _needed(source: Json, name: str) -> str:
    value = text_of(source.get(name))
    if not value:
        raise Garbled(f"a tool use without {name}")
    return value


def usage_of(given: Any) -> Usage | None:
    """`inputTokens` leaves out what was read from and written to the cache: added back (WIRE_FACTS 29)."""
    if not isinstance(given, dict):
        return None
    read = count_of(given.get("cacheReadInputTokens"))
    written = count_of(given.get("cacheWriteInputTokens"))
    hour = sum(
        count_of(one.get("inputTokens"))
        for one in list_of(given.get("cacheDetails"))
        if isinstance(one, dict) and one.get("ttl") == "1h"
    )
    hour = min(hour, written)
    return Usage(
        input_tokens=count_of(given.get("inputTokens")) + read + written,
        cache_read_tokens=read,
        cache_write_5m_tokens=written - hour,
        cache_write_1h_tokens=hour,
        output_tokens=count_of(given.get("outputTokens")),
    )


class _Block(Struct):
    index: int
    kind: BlockKind
    structured: bool = False


class ConverseDecoder:
    """Events of ConverseStream to ours. Usage comes in `metadata`, after `messageStop` (WIRE_FACTS 11)."""

    __slots__ = ("_blocks", "_called", "_clock", "_next", "_started", "_structured", "complete", "ended")

    unsaid = False

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.complete = False
        self.ended = False
        self._blocks: dict[int, _Block] = {}
        self._clock = clock
        self._next = 0
        self._started = False
        self._structured = False
        self._called = False

    def decode(self, frame: Frame) -> list[Event]:
        kind = frame.event or ""
        if kind.startswith(EXCEPTION):
            raise _fault(kind.removeprefix(EXCEPTION), frame.data)
        handler = _HANDLERS.get(kind)
        if handler is None or (self.complete and kind != "metadata"):
            return []
        event = answer_body(frame.data, carries_content=kind.startswith("content"))
        out: list[Event] = []
        if not self._started:
            self._started = True
            out.append(Start("", "", int(self._clock())))
        handler(self, event, out)
        return out

    def finish(self) -> list[Event]:
        if not self.complete:
            raise Truncated("the stream ended before messageStop")
        self.ended = True
        return []

    def _message_start(self, event: Json, out: list[Event]) -> None:
        """Says the role only."""

    def _block_start(self, event: Json, out: list[Event]) -> None:
        use = object_of(object_of(event.get("start")).get("toolUse"))
        at = count_of(event.get("contentBlockIndex"))
        if not use:
            return
        if use.get("name") == structured_tool.NAME:
            self._structured = True
            self._open(at, "text", out).structured = True
            return
        self._called = True
        block = self._replace(at, "tool_call", out)
        out.append(BlockStart(block.index, "tool_call", _needed(use, "toolUseId"), _needed(use, "name")))

    def _take(self) -> int:
        self._next += 1
        return self._next - 1

    def _open(self, at: int, kind: BlockKind, out: list[Event]) -> _Block:
        """Text and reasoning begin without a start event."""
        block = self._blocks.get(at)
        if block is None:
            block = self._blocks[at] = _Block(self._take(), kind)
            out.append(BlockStart(block.index, kind, origin=CLAUDE if kind == "thinking" else None))
        elif block.kind != kind:
            raise Garbled(f"a {kind} delta inside a block of kind {block.kind}")
        return block

    def _replace(self, at: int, kind: BlockKind, out: list[Event]) -> _Block:
        before = self._blocks.pop(at, None)
        if before is not None:
            out.append(BlockStop(before.index))
        block = self._blocks[at] = _Block(self._take(), kind)
        return block

    def _delta(self, event: Json, out: list[Event]) -> None:
        at = count_of(event.get("contentBlockIndex"))
        delta = object_of(event.get("delta"))
        if isinstance(delta.get("text"), str):
            out.append(TextDelta(self._open(at, "text", out).index, delta["text"]))
        elif isinstance(delta.get("toolUse"), dict):
            self._arguments(at, text_of(delta["toolUse"].get("input")), out)
        elif isinstance(delta.get("reasoningContent"), dict):
            self._reasoning(at, delta["reasoningContent"], out)
        elif delta.get("citation") is not None:
            out.append(CitationDelta(self._open(at, "text", out).index, delta["citation"], NAME))

    def _arguments(self, at: int, text: str, out: list[Event]) -> None:
        block = self._blocks.get(at)
        if block is None or not (block.structured or block.kind == "tool_call"):
            raise Garbled("input of a tool use that was not announced")
        if block.structured:
            out.append(TextDelta(block.index, text))
        else:
            out.append(ArgumentsDelta(block.index, text))

    def _reasoning(self, at: int, delta: Json, out: list[Event]) -> None:
        if isinstance(delta.get("redactedContent"), str):
            block = self._replace(at, "thinking", out)
            value = delta["redactedContent"]
            out.append(BlockStart(block.index, "thinking", value=value, origin=NAME))
            return
        block = self._open(at, "thinking", out)
        if text := text_of(delta.get("text")):
            out.append(ThinkingDelta(block.index, text))
        if signature := text_of(delta.get("signature")):
            out.append(SignatureDelta(block.index, signature))

    def _block_stop(self, event: Json, out: list[Event]) -> None:
        block = self._blocks.pop(count_of(event.get("contentBlockIndex")), None)
        if block is not None:
            out.append(BlockStop(block.index))

    def _message_stop(self, event: Json, out: list[Event]) -> None:
        native = optional_text(event.get("stopReason"))
        if native is None or self.complete:
            return
        out.extend(BlockStop(block.index) for block in self._blocks.values())
        self._blocks.clear()
        self.complete = True
        out.append(Finish(reason_of(native, self._structured and not self._called), native))

    def _metadata(self, event: Json, out: list[Event]) -> None:
        usage = usage_of(event.get("usage"))
        if usage is not None:
            out.append(UsageReport(usage))
        self.ended = self.complete


def _fault(name: str, data: bytes) -> StreamFault:
    try:
        body = object_of(msgspec.json.decode(data))
    except BROKEN_JSON:
        body = {}
    said = info_of_value(body)
    info = ErrorInfo(
        message=said.message or text_of(body.get("originalMessage")) or name, code=name, type=name
    )
    original = body.get("originalStatusCode")
    if isinstance(original, int) and 400 <= original <= 599:
        return StreamFault(info, original)
    return StreamFault(info, _STATUS.get(name.lower(), 500))


_HANDLERS: dict[str, Any] = {
    "messageStart": ConverseDecoder._message_start,
    "contentBlockStart": ConverseDecoder._block_start,
    "contentBlockDelta": ConverseDecoder._delta,
    "contentBlockStop": ConverseDecoder._block_stop,
    "messageStop": ConverseDecoder._message_stop,
    "metadata": ConverseDecoder._metadata,
}
