"""Chat Completions streams, read from hosts and written to callers."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from tieline.dialects.base import Frame, Garbled, Mould, Peek, Truncated
from tieline.dialects.mould import cut
from tieline.dialects.openai_chat.reading import (
    arguments_of,
    chunk_usage,
    created_of,
    finish_of,
    read_chunk,
    text_of,
    thinking_of,
    thought_signature,
    wire_usage,
)
from tieline.dialects.openai_chat.response import (
    annotation,
    broken,
    error_object,
    fault_in,
    images_of,
    is_web,
)
from tieline.dialects.openai_chat.wire import (
    BROKEN_REASONS,
    FORMATS,
    NAME,
    ORIGINS,
    Chunk,
    WireChoice,
    WireMessage,
    WireToolCall,
)
from tieline.dialects.sse import DONE, comment, frame
from tieline.dialects.structured_tool import NAME as STRUCTURED
from tieline.dialects.turns import made_id
from tieline.types.errors import Fault
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
from tieline.types.request import Request
from tieline.types.usage import Usage

_encode: Final = msgspec.json.Encoder().encode
MAX_BLOCKS: Final = 10_000
"""Blocks of one stream; parallel calls beyond a hundred have not been seen."""


def is_bare_usage(data: bytes) -> bool:
    """Whether a frame is the usage chunk: usage and no choices."""
    if b'"usage"' not in data or b'"prompt_tokens"' not in data:
        return False
    chunk = read_chunk(data)
    return not chunk.choices and bool(chunk.usage) and not chunk.error


_CONTENT = re.compile(rb'"content": ?"([^"\\]*+(?:\\.[^"\\]*+)*+)"')
_PADDING = re.compile(rb'"obfuscation": ?"([A-Za-z0-9]*)"')
"""OpenAI's, of another length in every frame, unless ``stream_options.include_obfuscation`` is false."""


def mould(raw: bytes) -> Mould | None:
    """Of a frame that is only a piece of text."""
    return cut(raw, b"data: {", _CONTENT, _PADDING, _said)


def _said(data: bytes) -> str | None:
    chunk = read_chunk(data)
    text = _text_alone(chunk)
    if text is None or chunk.x_groq or chunk.choices[0].logprobs is not None:  # type: ignore[index]
        return None
    return text


def _text_alone(chunk: Chunk) -> str | None:
    """What the usual chunk says, perhaps "": a piece of text, which may have its log probabilities, and nothing else."""
    choices = chunk.choices
    if choices is None or len(choices) != 1 or chunk.usage is not None or chunk.error:
        return None
    choice = choices[0]
    delta = choice.delta
    if (
        delta is None
        or choice.finish_reason is not None
        or (delta.tool_calls or delta.reasoning_content or delta.reasoning or delta.refusal)
        or (delta.reasoning_details or delta.function_call or choice.usage)
    ):
        return None
    return delta.content if type(delta.content) is str else None


def hides(frame: Frame, peek: Peek) -> bool:
    """WIRE_FACTS 3: usage was asked for by us; callers who did not ask are not shown it."""
    if peek.include_usage or b'"usage"' not in frame.data:
        return False
    try:
        return is_bare_usage(frame.data)
    except Garbled:
        return False


# upstream -------------------------------------------------------------------------------------------------------


class _Call:
    """A tool call while it arrives: announced once its name is whole, which is when its arguments come, or a later call's."""

    __slots__ = ("arguments", "block", "id", "name", "signature")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.block = -1
        self.arguments = False
        self.signature: str | None = None

    def add_name(self, piece: str) -> None:
        # Hosts send the name whole, in pieces (WIRE_FACTS 1), again in every delta, or growing.
        if piece == self.name:
            return
        self.name = piece if self.name and piece.startswith(self.name) else self.name + piece


class _ChoiceState:
    __slots__ = ("calls", "native", "order", "refusal", "structured", "text", "thinking", "thought")

    def __init__(self) -> None:
        self.text = -1
        self.thinking = -1
        self.refusal = -1
        self.thought: list[str] = []
        self.calls: dict[int, _Call] = {}
        self.order: list[_Call] = []
        self.structured = False
        self.native: str | None = None


class Decoder:
    """``Finish`` is held until the end, because content may follow a finish reason (WIRE_FACTS 7)."""

    __slots__ = ("_blocks", "_choices", "_done", "_id", "_started", "complete", "ended")

    def __init__(self) -> None:
        self.complete = False
        self.ended = False
        self._started = False
        self._done = False
        self._blocks = 0
        self._id = ""
        self._choices: dict[int, _ChoiceState] = {}

    @property
    def unsaid(self) -> bool:
        return any(call.block < 0 for state in self._choices.values() for call in state.order)

    def decode(self, frame: Frame) -> list[Event]:
        data = frame.data
        if not data or self._done:
            return []
        if data[:6] == b"[DONE]":
            if not self.complete:
                raise Truncated("its stream ended without a finish reason")
            self.ended = True
            return self._close()
        chunk = read_chunk(data)
        said = _text_alone(chunk) if self._started else None
        if said is not None:
            choice = chunk.choices[0]  # type: ignore[index]
            state = self._choices.get(choice.index or 0)
            if state is not None and state.text >= 0:
                return [TextDelta(state.text, said, choice.logprobs)] if said or choice.logprobs else []
        return self._decode(chunk, data)

    def _decode(self, chunk: Chunk, data: bytes) -> list[Event]:
        fault = fault_in(chunk, data)
        if fault:
            raise fault
        events: list[Event] = []
        if chunk.choices:
            self._start(chunk, events)
            for choice in chunk.choices:
                self._choice(choice, events)
            self.complete = all(state.native is not None for state in self._choices.values())
        usage = chunk_usage(chunk)
        if usage is not None:
            self._start(chunk, events)
            events.append(UsageReport(usage))
        return events

    def finish(self) -> list[Event]:
        if not self.complete:
            raise Truncated("the stream ended without a finish reason")
        return self._close()

    def _start(self, chunk: Chunk, events: list[Event]) -> None:
        if self._started:
            return
        self._started = True
        self._id = str(chunk.id or "")
        events.append(
            Start(
                self._id,
                chunk.model or "",
                created_of(chunk.created),
                chunk.service_tier,
                chunk.system_fingerprint,
            )
        )

    def _choice(self, choice: WireChoice, events: list[Event]) -> None:
        number = choice.index or 0
        state = self._choices.get(number)
        if state is None:
            state = self._choices[number] = _ChoiceState()
        delta = choice.delta or choice.message
        if delta is not None:
            self._think(delta, state, number, events)
            self._say(delta, choice.logprobs, state, number, events)
            for call in delta.tool_calls or ():
                self._call(call, state, number, events)
            if delta.function_call is not None and not delta.tool_calls:
                self._call(WireToolCall(index=0, function=delta.function_call), state, number, events)
        if choice.finish_reason:
            if choice.finish_reason in BROKEN_REASONS:
                raise broken(choice.finish_reason)
            state.native = choice.finish_reason

    # blocks

    def _open(self, kind: BlockKind, number: int, events: list[Event], **more: Any) -> int:
        index = self._blocks
        self._blocks += 1
        events.append(BlockStart(index, kind, choice=number, **more))
        return index

    def _stop_prose(self, state: _ChoiceState, events: list[Event]) -> None:
        for name in ("thinking", "text", "refusal"):
            index = getattr(state, name)
            if index >= 0:
                events.append(BlockStop(index))
                setattr(state, name, -1)
                if name == "thinking":
                    state.thought = []

    def _say(
        self, delta: WireMessage, logprobs: Any, state: _ChoiceState, number: int, events: list[Event]
    ) -> None:
        text = text_of(delta.content)
        if text or (logprobs and state.text >= 0):
            if state.text < 0:
                self._stop_prose(state, events)
                state.text = self._open("text", number, events)
            events.append(TextDelta(state.text, text, logprobs))
        if delta.refusal:
            if state.refusal < 0:
                self._stop_prose(state, events)
                state.refusal = self._open("refusal", number, events)
            events.append(TextDelta(state.refusal, delta.refusal))

    def _think(self, delta: WireMessage, state: _ChoiceState, number: int, events: list[Event]) -> None:
        told = False
        for detail in delta.reasoning_details or ():
            if isinstance(detail, dict):
                told |= self._detail(detail, state, number, events)
        if told:
            return  # OpenRouter sends the same text as `reasoning` too
        thought = delta.reasoning_content or (delta.reasoning if isinstance(delta.reasoning, str) else "")
        thought = thought or thinking_of(delta.content)
        if thought:
            self._thought(thought, NAME, state, number, events)

    def _thought(self, text: str, origin: str, state: _ChoiceState, number: int, events: list[Event]) -> None:
        if state.thinking < 0:
            self._stop_prose(state, events)
            state.thinking = self._open("thinking", number, events, origin=origin)
        state.thought.append(text)
        events.append(ThinkingDelta(state.thinking, text))

    def _detail(self, detail: dict[str, Any], state: _ChoiceState, number: int, events: list[Event]) -> bool:
        """Whether it carried text."""
        origin = ORIGINS.get(str(detail.get("format")), NAME)
        data, signature = detail.get("data"), detail.get("signature")
        if isinstance(data, str):
            self._stop_prose(state, events)
            events.append(BlockStop(self._open("thinking", number, events, value=data, origin=origin)))
            return False
        text = detail.get("text") or detail.get("summary")
        # A detail with its signature may repeat what was streamed already: then only the signature is new.
        if isinstance(text, str) and text and not (signature and text == "".join(state.thought)):
            self._thought(text, origin, state, number, events)
        if isinstance(signature, str) and signature:
            if state.thinking < 0:
                state.thinking = self._open("thinking", number, events, origin=origin)
            events.append(SignatureDelta(state.thinking, signature, origin))
            self._stop_prose(state, events)
        return isinstance(text, str)

    # tool calls

    def _call(self, delta: WireToolCall, state: _ChoiceState, number: int, events: list[Event]) -> None:
        call = self._find(delta, state)
        if call is None:
            return
        function = delta.function
        if delta.id and not call.id:
            call.id = delta.id
        call.signature = call.signature or thought_signature(delta.extra_content)
        if function is None:
            return
        if function.name and call.block < 0:
            call.add_name(function.name)
        arguments = arguments_of(function.arguments)
        if arguments:
            self._announce(call, state, number, events)
            call.arguments = True
            if call.name == STRUCTURED:
                events.append(TextDelta(call.block, arguments))
            else:
                events.append(ArgumentsDelta(call.block, arguments))

    def _find(self, delta: WireToolCall, state: _ChoiceState) -> _Call | None:
        known = state.calls.get(delta.index) if delta.index is not None else None
        if delta.index is None:
            known = next((call for call in state.order if delta.id and call.id == delta.id), None)
            if (
                known is None
                and not delta.id
                and state.order
                and not (delta.function and delta.function.name)
            ):
                known = state.order[-1]
        # Some hosts give every parallel call index 0: another id with a name is another call.
        named = delta.function is not None and bool(delta.function.name)
        if known is not None and named and delta.id and known.id and delta.id != known.id:
            known = next((call for call in state.order if call.id == delta.id), None)
        if known is None:
            if self._blocks + len(state.order) >= MAX_BLOCKS:
                return None
            known = _Call()
            state.order.append(known)
        if delta.index is not None:
            state.calls[delta.index] = known
        return known

    def _announce(self, call: _Call, state: _ChoiceState, number: int, events: list[Event]) -> None:
        """In the order in which the host began them, whichever has arguments first. One that has no name yet is not
        waited for: it may never get one, and nothing tells how long the arguments of the others are."""
        if call.block >= 0:
            return
        for earlier in state.order:
            if earlier is call:
                break
            if earlier.block < 0 and earlier.name:
                self._open_call(earlier, state, number, events)
        self._open_call(call, state, number, events)

    def _open_call(self, call: _Call, state: _ChoiceState, number: int, events: list[Event]) -> None:
        self._stop_prose(state, events)
        if call.name == STRUCTURED:
            state.structured = True
            call.block = self._open("text", number, events)
            return
        call.id = call.id or made_id("call_", self._id, number, state.order.index(call))
        signature = call.signature
        call.block = self._open(
            "tool_call",
            number,
            events,
            id=call.id,
            name=call.name,
            signature=signature,
            origin="gemini" if signature else None,
        )

    def _close(self) -> list[Event]:
        if self._done:
            return []
        self._done = True
        events: list[Event] = []
        for number, state in self._choices.items():
            for call in state.order:
                if call.block < 0 and not call.name:
                    continue
                self._announce(call, state, number, events)
                if not call.arguments and call.name != STRUCTURED:
                    events.append(ArgumentsDelta(call.block, "{}"))
                events.append(BlockStop(call.block))
            self._stop_prose(state, events)
            events.append(_finish(state, number))
        return events


def _finish(state: _ChoiceState, number: int) -> Finish:
    native = state.native or ""
    called = any(call.name and call.name != STRUCTURED for call in state.order)
    reason = finish_of(native, called)
    if state.structured and not called and reason == "tool_calls":
        reason = "stop"
    return Finish(reason, native, choice=number)


# downstream -----------------------------------------------------------------------------------------------------


class _Thought:
    """A thinking block while it is written."""

    __slots__ = ("origin", "signature", "text")

    def __init__(self, start: BlockStart) -> None:
        self.text: list[str] = []
        self.signature = [start.signature] if start.signature else []
        self.origin = start.origin


class Encoder:
    """One id, created and model for all chunks (WIRE_FACTS 6)."""

    __slots__ = (
        "_blocks",
        "_calls",
        "_head",
        "_include_usage",
        "_legacy",
        "_roles",
        "_silent",
        "_tail",
        "_text_ends",
        "_thoughts",
        "_usage",
    )

    def __init__(self, request: Request) -> None:
        self._include_usage = request.include_usage
        self._legacy = request.legacy_functions
        # OpenAI sends `"usage":null` on every chunk but the last of a stream with usage.
        self._tail = b',"usage":null}\n\n' if request.include_usage else b"}\n\n"
        self._head = b""
        self._roles: set[int] = set()
        self._blocks: dict[int, BlockStart] = {}
        self._calls: dict[int, int] = {}
        self._silent: set[int] = set()
        """Calls of which no arguments have come."""
        self._thoughts: dict[int, _Thought] = {}
        self._text_ends: dict[int, int] = {}
        self._usage: Usage | None = None

    def encode(self, event: Event) -> bytes:
        kind = type(event)
        if kind is TextDelta:
            return self._text(event)  # type: ignore[arg-type]
        if kind is ArgumentsDelta:
            return self._arguments(event)  # type: ignore[arg-type]
        if kind is ThinkingDelta:
            return self._thinking(event)  # type: ignore[arg-type]
        if isinstance(event, Start):
            return self._start(event)
        if isinstance(event, BlockStart):
            return self._block_start(event)
        if isinstance(event, SignatureDelta):
            thought = self._thoughts[event.index]
            thought.signature.append(event.signature)
            thought.origin = event.origin or thought.origin
        elif isinstance(event, BlockStop):
            return self._block_stop(event)
        elif isinstance(event, CitationDelta):
            return self._citation(event)
        elif isinstance(event, UsageReport):
            self._usage = event.usage
        elif isinstance(event, Finish):
            return self._finish(event)
        return b""

    def finish(self) -> bytes:
        if not self._include_usage or self._usage is None:
            return DONE
        usage = _encode(wire_usage(self._usage))
        return self._head + b'"choices":[],"usage":' + usage + b"}\n\n" + DONE

    def error(self, fault: Fault, request_id: str) -> bytes:
        """The official SDK raises APIError on a data frame with `error`; no `[DONE]` follows."""
        return frame(_encode({"error": error_object(fault, request_id)}))

    def ping(self) -> bytes:
        return comment(b"keep-alive")

    def _start(self, event: Start) -> bytes:
        head: dict[str, Any] = {
            "id": event.id,
            "object": "chat.completion.chunk",
            "created": event.created,
            "model": event.model,
        }
        if event.service_tier is not None:
            head["service_tier"] = event.service_tier
        if event.system_fingerprint is not None:
            head["system_fingerprint"] = event.system_fingerprint
        self._head = b"data: " + _encode(head)[:-1] + b","
        return self._role(0)

    def _role(self, choice: int) -> bytes:
        if choice in self._roles:
            return b""
        self._roles.add(choice)
        return self._chunk(choice, b'{"role":"assistant","content":""}')

    def _chunk(self, choice: int, delta: bytes, logprobs: bytes = b"null", reason: bytes = b"null") -> bytes:
        return b'%b"choices":[{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}]%b' % (
            self._head,
            choice,
            delta,
            logprobs,
            reason,
            self._tail,
        )

    def _block_start(self, event: BlockStart) -> bytes:
        self._blocks[event.index] = event
        role = self._role(event.choice)
        if event.kind == "tool_call":
            return role + self._call_start(event)
        if event.kind == "thinking":
            self._thoughts[event.index] = _Thought(event)
        if event.kind == "opaque" and (images := images_of(event.value)):
            return role + self._chunk(event.choice, _encode({"images": images}))
        return role

    def _call_start(self, event: BlockStart) -> bytes:
        place = sum(1 for index in self._calls if self._blocks[index].choice == event.choice)
        self._calls[event.index] = place
        self._silent.add(event.index)
        function = {"name": event.name, "arguments": ""}
        if self._legacy:
            return self._chunk(event.choice, _encode({"function_call": function}))
        call: dict[str, Any] = {"index": place, "id": event.id, "type": "function", "function": function}
        if event.signature:
            call["extra_content"] = {"google": {"thought_signature": event.signature}}
        return self._chunk(event.choice, _encode({"tool_calls": [call]}))

    def _text(self, event: TextDelta) -> bytes:
        block = self._blocks[event.index]
        choice: int = block.choice
        text: str = event.text
        name = b"refusal" if block.kind == "refusal" else b"content"
        logprobs = b"null" if event.logprobs is None else _encode(event.logprobs)
        self._text_ends[choice] = self._text_ends.get(choice, 0) + len(text)
        return self._chunk(choice, b'{"%b":%b}' % (name, _encode(text)), logprobs)

    def _arguments(self, event: ArgumentsDelta) -> bytes:
        piece = _encode(event.json)
        if event.json:
            self._silent.discard(event.index)
        choice = self._blocks[event.index].choice
        if self._legacy:
            return self._chunk(choice, b'{"function_call":{"arguments":%b}}' % piece)
        place = self._calls[event.index]
        return self._chunk(
            choice, b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (place, piece)
        )

    def _thinking(self, event: ThinkingDelta) -> bytes:
        self._thoughts[event.index].text.append(event.text)
        return self._chunk(
            self._blocks[event.index].choice, b'{"reasoning_content":%b}' % _encode(event.text)
        )

    def _block_stop(self, event: BlockStop) -> bytes:
        """A thinking block's signature goes out whole with its text, so that callers can replay it by appending. A call
        without arguments (Converse sends none) is one of an empty object: callers parse what there is."""
        block = self._blocks[event.index]
        if event.index in self._silent:
            return self._arguments(ArgumentsDelta(event.index, "{}"))
        if block.kind != "thinking":
            return b""
        thought = self._thoughts.pop(event.index)
        shared = {"format": FORMATS.get(thought.origin or NAME, "unknown"), "index": event.index}
        if isinstance(block.value, str):
            detail: dict[str, Any] = {"type": "reasoning.encrypted", "data": block.value, **shared}
        elif thought.signature:
            text, signature = "".join(thought.text), "".join(thought.signature)
            detail = {"type": "reasoning.text", "text": text, "signature": signature, **shared}
        else:
            return b""
        return self._chunk(block.choice, _encode({"reasoning_details": [detail]}))

    def _citation(self, event: CitationDelta) -> bytes:
        if not is_web(event.value):
            return b""
        choice = self._blocks[event.index].choice
        end = self._text_ends.get(choice, 0)
        return self._chunk(choice, _encode({"annotations": [annotation(event.value, 0, end)]}))

    def _finish(self, event: Finish) -> bytes:
        reason: str = event.reason
        if self._legacy and reason == "tool_calls":
            reason = "function_call"
        return self._role(event.choice) + self._chunk(event.choice, b"{}", reason=_encode(reason))
