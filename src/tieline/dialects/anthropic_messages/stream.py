"""Messages streams, read from hosts and written to callers."""

from __future__ import annotations

import re
import time
from typing import Any, Final

import msgspec
from msgspec import Raw

from tieline.dialects.anthropic_messages.response import carrier_of, error_object, finish_reason
from tieline.dialects.anthropic_messages.wire import (
    NAME,
    WireBlock,
    WireDelta,
    WireEvent,
    merged_usage,
    read_block,
    read_event,
    sealed,
    stop_reason_of,
    unsealed,
    usage_of,
    wire_usage,
)
from tieline.dialects.base import Frame, Garbled, Mould, StreamFault, Truncated
from tieline.dialects.error_bodies import info_of_body, info_of_value, status_of
from tieline.dialects.fields import answer_body, loosely
from tieline.dialects.mould import cut
from tieline.dialects.sse import frame
from tieline.dialects.structured_tool import NAME as STRUCTURED
from tieline.dialects.turns import made_id
from tieline.types.errors import Fault
from tieline.types.events import (
    ArgumentsDelta,
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
from tieline.types.usage import Usage

_encode: Final = msgspec.json.Encoder().encode
MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_TEXT = re.compile(rb'"text": ?"([^"\\]*+(?:\\.[^"\\]*+)*+)"')
_PADDING = re.compile(rb"\}( *)\}\n\n")
"""Blanks of another number in every frame, as some hosts send them."""


def mould(raw: bytes) -> Mould | None:
    """Of a frame that is only a piece of a text block."""
    return cut(raw, b"event: content_block_delta\ndata: {", _TEXT, _PADDING, _said)


def _said(data: bytes) -> str | None:
    event = read_event(data)
    delta = event.delta
    if event.type != "content_block_delta" or delta is None or delta.type != "text_delta":
        return None
    return delta.text


# upstream -------------------------------------------------------------------------------------------------------


_DELTAS = {
    "text": ("text_delta", "citations_delta"),
    "thinking": ("thinking_delta", "signature_delta"),
    "tool_use": ("input_json_delta",),
    "structured": ("input_json_delta",),
    "opaque": ("input_json_delta",),
}
_OURS = frozenset(("text", "thinking", "redacted_thinking", "tool_use"))
_KNOWN_DELTAS = frozenset(kind for kinds in _DELTAS.values() for kind in kinds)


class _Block:
    """A block while it is open."""

    __slots__ = ("arguments", "index", "input", "kind", "pieces", "value")

    def __init__(self, index: int, kind: str) -> None:
        self.index = index
        self.kind = kind
        self.arguments = False
        self.input = b""
        self.pieces: list[str] = []
        self.value: Any = None


class Decoder:
    __slots__ = (
        "_blocks",
        "_called",
        "_finished",
        "_id",
        "_next",
        "_started",
        "_structured",
        "_usage",
        "complete",
        "ended",
    )

    def __init__(self) -> None:
        self.complete = False
        self.ended = False
        self._id = ""
        self._started = False
        self._blocks: dict[int, _Block] = {}
        self._next = 0
        self._usage: dict[str, Any] = {}
        self._called = False
        self._structured = False
        self._finished = False

    @property
    def unsaid(self) -> bool:
        return any(block.kind == "opaque" for block in self._blocks.values())

    def decode(self, frame: Frame) -> list[Event]:
        if not frame.data:
            return []
        if frame.event == "error":
            info = info_of_body([], frame.data)
            raise StreamFault(info, status_of(info))
        event = read_event(frame.data)
        kind = event.type
        if kind == "content_block_delta":
            return self._delta(event)
        if kind == "content_block_start":
            return self._block_start(event)
        if kind == "content_block_stop":
            block = self._blocks.pop(event.index or 0, None)
            return self._block_stop(block) if block else []
        if kind == "message_start":
            return self._message_start(event)
        if kind == "message_delta":
            return self._message_delta(event)
        if kind == "message_stop":
            self.ended = self.complete = True
            return self._close("tool_use" if self._called else "end_turn", None)
        if kind == "error" or event.error:
            info = info_of_value({"error": event.error} if event.error else loosely(frame.data))
            raise StreamFault(info, status_of(info))
        # Pings, and event types to come, which the API's versioning policy says to ignore.
        return []

    def finish(self) -> list[Event]:
        if not self.complete:
            raise Truncated("the stream ended without a stop_reason or message_stop")
        return self._close("end_turn", None)

    def _message_start(self, event: WireEvent) -> list[Event]:
        message = event.message
        if message is None:
            return []
        self._id = message.id or ""
        self._usage = merged_usage(self._usage, message.usage)
        tier = self._usage.get("service_tier")
        events = [] if self._started else self._start(self._id, message.model or "", tier)
        usage = usage_of(self._usage)
        if usage is not None:
            events.append(UsageReport(usage))
        return events

    def _start(self, message_id: str, model: str, tier: Any) -> list[Event]:
        self._started = True
        # This API tells no time; now is when it was made.
        return [Start(message_id, model, int(time.time()), tier if isinstance(tier, str) else None)]

    def _message_delta(self, event: WireEvent) -> list[Event]:
        events: list[Event] = []
        delta = event.delta
        if delta is not None and delta.stop_reason is not None:
            self.complete = True
            events += self._close(delta.stop_reason, delta.stop_sequence)
        if event.usage:
            self._usage = merged_usage(self._usage, event.usage)
            usage = usage_of(self._usage)
            if usage is not None and self._started:
                events.append(UsageReport(usage))
        return events

    def _block_start(self, event: WireEvent) -> list[Event]:
        if self._finished:
            raise Garbled("a content block after the end of the message")
        wire = read_block(event.content_block)
        before: list[Event] = []
        if not self._started:
            before += self._start("", "", None)
        unstopped = self._blocks.pop(event.index or 0, None)
        if unstopped is not None:
            before += self._block_stop(unstopped)
        block = self._blocks[event.index or 0] = _Block(self._next, wire.type)
        if wire.type in _OURS:
            self._next += 1
        return before + self._opened(block, wire, event.content_block)

    def _opened(self, block: _Block, wire: WireBlock, raw: Raw) -> list[Event]:
        index = block.index
        if wire.type == "text":
            started: list[Event] = [BlockStart(index, "text")]
            if wire.text:
                started.append(TextDelta(index, wire.text))
            started += [CitationDelta(index, each, NAME) for each in wire.citations or ()]
            return started
        if wire.type == "thinking":
            return _thinking_start(index, wire)
        if wire.type == "redacted_thinking":
            data, origin, item_id = unsealed(wire.data or "")
            return [BlockStart(index, "thinking", id=item_id, value=data, origin=origin)]
        if wire.type == "tool_use":
            return self._tool_start(block, wire)
        block.kind = "opaque"
        block.value = answer_body(raw)
        return []

    def _tool_start(self, block: _Block, wire: WireBlock) -> list[Event]:
        if bytes(wire.input).strip() not in (b"{}", b"null"):
            block.input = bytes(wire.input)
        if wire.name == STRUCTURED:
            block.kind = "structured"
            self._structured = True
            return [BlockStart(block.index, "text")]
        self._called = True
        tool_id = wire.id or made_id("toolu_", self._id, block.index)
        return [BlockStart(block.index, "tool_call", id=tool_id, name=wire.name or "")]

    def _delta(self, event: WireEvent) -> list[Event]:
        delta = event.delta
        block = self._blocks.get(event.index or 0)
        if delta is None or block is None:
            return []
        kind = delta.type
        if kind not in _DELTAS.get(block.kind, ()):
            if block.kind == "opaque" or kind not in _KNOWN_DELTAS:
                return []
            raise Garbled(f"a {kind} inside a block of {block.kind}")
        if kind == "text_delta":
            return [TextDelta(block.index, delta.text)] if delta.text else []
        if kind == "input_json_delta":
            return self._arguments(block, delta)
        if kind == "thinking_delta":
            return [ThinkingDelta(block.index, delta.thinking)] if delta.thinking else []
        if kind == "signature_delta":
            if not delta.signature:
                return []
            return [SignatureDelta(block.index, unsealed(delta.signature)[0])]
        if kind == "citations_delta":
            return [CitationDelta(block.index, delta.citation, NAME)]
        return []

    def _arguments(self, block: _Block, delta: WireDelta) -> list[Event]:
        if not delta.partial_json:
            return []
        if block.kind == "opaque":
            block.pieces.append(delta.partial_json)
            return []
        block.arguments = True
        if block.kind == "structured":
            return [TextDelta(block.index, delta.partial_json)]
        return [ArgumentsDelta(block.index, delta.partial_json)]

    def _block_stop(self, block: _Block) -> list[Event]:
        if block.kind == "opaque":
            if block.pieces:
                block.value["input"] = _json("".join(block.pieces))
            # Announced only now that its value is whole, so its place in the order is now.
            index = self._next
            self._next += 1
            return [BlockStart(index, "opaque", value=block.value, origin=NAME), BlockStop(index)]
        events: list[Event] = []
        if block.kind in ("tool_use", "structured") and not block.arguments:
            # A host that sends the input whole with the start, or a call without arguments.
            whole = (block.input or b"{}").decode()
            more = TextDelta if block.kind == "structured" else ArgumentsDelta
            events.append(more(block.index, whole))
        events.append(BlockStop(block.index))
        return events

    def _close(self, native: str, stop_sequence: str | None) -> list[Event]:
        if self._finished:
            return []
        self._finished = True
        events = [] if self._started else self._start("", "", None)
        events += [event for block in self._blocks.values() for event in self._block_stop(block)]
        self._blocks.clear()
        reason = finish_reason(native, structured=self._structured, called=self._called)
        events.append(Finish(reason, native, stop_sequence))
        return events


def _thinking_start(index: int, wire: WireBlock) -> list[Event]:
    signature, origin, item_id = unsealed(wire.signature or "")
    events: list[Event] = [BlockStart(index, "thinking", id=item_id, origin=origin)]
    if wire.thinking:
        events.append(ThinkingDelta(index, wire.thinking))
    if signature:
        events.append(SignatureDelta(index, signature))
    return events


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {"invalid_arguments": text}


# downstream -----------------------------------------------------------------------------------------------------


class _Held:
    """A block that waits for its turn, or the one on the wire."""

    __slots__ = ("origin", "pieces", "signature", "start", "stopped")

    def __init__(self, start: BlockStart) -> None:
        self.start = start
        self.origin = start.origin
        self.pieces: list[bytes] = []
        self.signature = [start.signature] if start.kind == "thinking" and start.signature else []
        self.stopped = False


class Encoder:
    """Blocks go out one after the other; what belongs to a later one waits (WIRE_FACTS 1, 5)."""

    __slots__ = ("_finish_event", "_held", "_index", "_start_event", "_text_head", "_usage", "_wire_index")

    def __init__(self) -> None:
        self._start_event: Start | None = None
        self._held: dict[int, _Held] = {}
        self._index = -1
        """Of the block on the wire."""
        self._wire_index = -1
        self._text_head = b""
        """Of an event with a piece of its text."""
        self._usage: Usage | None = None
        self._finish_event: Finish | None = None

    def encode(self, event: Event) -> bytes:
        kind = type(event)
        if kind is TextDelta:
            return self._text(event)  # type: ignore[arg-type]
        if isinstance(event, UsageReport):
            self._usage = event.usage
            return b""
        if isinstance(event, Start):
            # Held until something follows, so that it can carry the input usage that comes with it.
            self._start_event = event
            return b""
        head = self._message_start() if self._start_event else b""
        if isinstance(event, BlockStart):
            return head + self._block_start(event)
        if isinstance(event, BlockStop):
            return head + self._block_stop(event)
        if isinstance(event, Finish):
            self._finish_event = event
            return head
        if isinstance(event, SignatureDelta):
            held = self._held[event.index]
            held.signature.append(event.signature)
            held.origin = event.origin or held.origin
            return head
        if isinstance(event, CitationDelta) and event.origin != NAME:
            return head
        return head + self._delta(event.index, _wire_delta(event))

    def finish(self) -> bytes:
        head = self._message_start() if self._start_event else b""
        end = self._finish_event or Finish("stop")
        delta = {
            "stop_reason": stop_reason_of(end.reason, end.native_reason, end.stop_sequence),
            "stop_sequence": end.stop_sequence,
        }
        usage = wire_usage(self._usage)
        usage.pop("cache_creation", None)
        body = _encode({"type": "message_delta", "delta": delta, "usage": usage})
        return head + frame(body, b"message_delta") + MESSAGE_STOP

    def error(self, fault: Fault, request_id: str) -> bytes:
        return frame(_encode(error_object(fault, request_id)), b"error")

    def ping(self) -> bytes:
        return PING

    def _message_start(self) -> bytes:
        start = self._start_event
        if start is None:
            return b""
        self._start_event = None
        usage = wire_usage(self._usage)
        if start.service_tier in ("standard", "priority", "batch"):
            usage["service_tier"] = start.service_tier
        message: dict[str, Any] = {
            "id": start.id,
            "type": "message",
            "role": "assistant",
            "model": start.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        return frame(_encode({"type": "message_start", "message": message}), b"message_start")

    # blocks

    def _block_start(self, event: BlockStart) -> bytes:
        if event.kind == "opaque" and event.origin != NAME:
            return b""
        held = self._held[event.index] = _Held(event)
        return self._open(held) if next(iter(self._held)) == event.index else b""

    def _open(self, held: _Held) -> bytes:
        start = held.start
        carrier = carrier_of(start.signature, start.origin) if start.kind == "tool_call" else None
        carried = self._whole(carrier) if carrier else b""
        self._index = start.index
        self._wire_index += 1
        self._text_head = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"text_delta","text":' % self._wire_index
        )
        body = {
            "type": "content_block_start",
            "index": self._wire_index,
            "content_block": _wire_start(start),
        }
        return carried + frame(_encode(body), b"content_block_start")

    def _whole(self, thinking: dict[str, Any]) -> bytes:
        """A block of nothing but a signature."""
        self._wire_index += 1
        start = {
            "type": "content_block_start",
            "index": self._wire_index,
            "content_block": thinking | {"signature": ""},
        }
        delta = b'{"type":"signature_delta","signature":%b}' % _encode(thinking["signature"])
        return frame(_encode(start), b"content_block_start") + self._on_wire(delta) + self._stopped()

    def _stopped(self) -> bytes:
        return frame(b'{"type":"content_block_stop","index":%d}' % self._wire_index, b"content_block_stop")

    def _text(self, event: TextDelta) -> bytes:
        index: int = event.index
        text = _encode(event.text)
        if index == self._index:
            return b"%b%b}}\n\n" % (self._text_head, text)
        return self._delta(index, b'{"type":"text_delta","text":%b}' % text)

    def _delta(self, index: int, delta: bytes) -> bytes:
        if index == self._index:
            return self._on_wire(delta)
        held = self._held.get(index)
        if held is not None:
            held.pieces.append(delta)
        return b""

    def _on_wire(self, delta: bytes) -> bytes:
        return (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b}\n\n'
            % (self._wire_index, delta)
        )

    def _block_stop(self, event: BlockStop) -> bytes:
        held = self._held.get(event.index)
        if held is None:
            return b""
        held.stopped = True
        out = b""
        while self._held:
            index, first = next(iter(self._held.items()))
            if not first.stopped:
                break
            out += self._close(first)
            del self._held[index]
            self._index = -1
            out += self._open_next()
        return out

    def _open_next(self) -> bytes:
        following = next(iter(self._held.values()), None)
        if following is None:
            return b""
        out = self._open(following) + b"".join(map(self._on_wire, following.pieces))
        following.pieces.clear()
        return out

    def _close(self, held: _Held) -> bytes:
        out = b""
        if held.signature:
            whole = sealed("".join(held.signature), held.origin, held.start.id)
            out = self._on_wire(b'{"type":"signature_delta","signature":%b}' % _encode(whole))
        return out + self._stopped()


def _wire_start(event: BlockStart) -> Any:
    if event.kind == "tool_call":
        return {"type": "tool_use", "id": event.id, "name": event.name, "input": {}}
    if event.kind == "thinking":
        if isinstance(event.value, str):
            return {"type": "redacted_thinking", "data": sealed(event.value, event.origin, event.id)}
        return {"type": "thinking", "thinking": "", "signature": ""}
    if event.kind == "opaque":
        return event.value
    return {"type": "text", "text": ""}


def _wire_delta(event: Event) -> bytes:
    if isinstance(event, ThinkingDelta):
        return b'{"type":"thinking_delta","thinking":%b}' % _encode(event.text)
    if isinstance(event, ArgumentsDelta):
        return b'{"type":"input_json_delta","partial_json":%b}' % _encode(event.json)
    if isinstance(event, CitationDelta):
        return _encode({"type": "citations_delta", "citation": event.value})
    raise TypeError(f"{type(event).__name__} is no delta")
