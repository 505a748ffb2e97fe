"""A stream compacted while it passes: for resuming it, caching it, and answering callers who wanted no stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tieline.dialects.base import Truncated
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
from tieline.types.request import Opaque, Refusal, Text, Thinking, ToolCall
from tieline.types.response import Choice, OutputPart, Response
from tieline.types.usage import Usage


class _Block:
    __slots__ = ("citations", "logprobs", "origin", "pieces", "signature", "start", "stopped")

    def __init__(self, start: BlockStart) -> None:
        self.start = start
        self.origin = start.origin
        self.pieces: list[str] = []
        self.signature: list[str] = []
        self.citations: list[CitationDelta] = []
        self.logprobs: list[Any] = []
        self.stopped = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Transcript:
    """Everything a stream has said so far, one string per block. ``structured`` is the asker's note to itself."""

    __slots__ = ("_blocks", "_finishes", "_start", "structured", "usage")

    def __init__(self, *, structured: bool = False) -> None:
        self.structured = structured
        self.usage: Usage | None = None
        self._start: Start | None = None
        self._blocks: dict[int, _Block] = {}
        self._finishes: dict[int, Finish] = {}

    def add(self, event: Event) -> None:
        kind = type(event)
        if kind is TextDelta or kind is ThinkingDelta:
            block = self._blocks[event.index]  # type: ignore[union-attr]
            block.pieces.append(event.text)  # type: ignore[union-attr]
            if kind is TextDelta:
                logprobs = event.logprobs  # type: ignore[union-attr]
                if logprobs is not None:
                    block.logprobs.append(logprobs)
        elif type(event) is ArgumentsDelta:
            self._blocks[event.index].pieces.append(event.json)
        elif type(event) is BlockStart:
            self._blocks[event.index] = _Block(event)
        elif type(event) is BlockStop:
            self._blocks[event.index].stopped = True
        elif type(event) is SignatureDelta:
            block = self._blocks[event.index]
            block.signature.append(event.signature)
            block.origin = event.origin or block.origin
        elif type(event) is CitationDelta:
            self._blocks[event.index].citations.append(event)
        elif type(event) is UsageReport:
            self.usage = event.usage
        elif type(event) is Finish:
            self._finishes[event.choice] = event
        elif type(event) is Start:
            self._start = event

    def pieces(self, index: int) -> list[str]:
        """Of a block's text, for who adds to it what is a ``TextDelta`` and nothing else."""
        return self._blocks[index].pieces

    @property
    def chars(self) -> int:
        """Characters of output so far, of all kinds."""
        return sum(len(piece) for block in self._blocks.values() for piece in block.pieces)

    @property
    def text(self) -> str:
        """The first choice's text so far."""
        return "".join(
            block.text
            for block in self._blocks.values()
            if block.start.kind == "text" and block.start.choice == 0
        )

    @property
    def complete(self) -> bool:
        """Whether every choice that was begun has ended with a reason."""
        choices = {block.start.choice for block in self._blocks.values()}
        return bool(self._finishes) and choices <= self._finishes.keys()

    @property
    def several(self) -> bool:
        """Whether more than one choice was begun."""
        return any(block.start.choice for block in self._blocks.values())

    @property
    def open_text_block(self) -> int | None:
        """The index of the first choice's text block that is still open."""
        for index, block in self._blocks.items():
            if block.start.kind == "text" and block.start.choice == 0 and not block.stopped:
                return index
        return None

    @property
    def last_index(self) -> int:
        """The index of the newest block, -1 before the first."""
        return max(self._blocks, default=-1)

    @property
    def kinds(self) -> set[str]:
        """Of the blocks begun so far."""
        return {block.start.kind for block in self._blocks.values()}

    @property
    def in_thinking(self) -> bool:
        return any(block.start.kind == "thinking" and not block.stopped for block in self._blocks.values())

    def response(self, *, id: str | None = None, model: str | None = None) -> Response:
        """The whole answer. Raises Truncated when it is not ``complete``."""
        if not self.complete:
            raise Truncated("the stream ended without a finish reason")
        start = self._start or Start("", "", 0)
        return Response(
            id=start.id if id is None else id,
            model=start.model if model is None else model,
            created=start.created,
            choices=[self._choice(number) for number in sorted(self._finishes)],
            usage=self.usage,
            service_tier=start.service_tier,
            system_fingerprint=start.system_fingerprint,
        )

    def events(self) -> list[Event]:
        """The shortest stream that brings a fresh encoder to the same state."""
        events: list[Event] = [self._start] if self._start else []
        for block in self._blocks.values():
            events.extend(_replay(block))
        if self.usage is not None:
            events.append(UsageReport(self.usage))
        events.extend(self._finishes.values())
        return events

    def _choice(self, number: int) -> Choice:
        blocks = [block for block in self._blocks.values() if block.start.choice == number]
        end = self._finishes[number]
        return Choice(
            [part for block in blocks for part in _part(block)],
            end.reason,
            end.native_reason,
            end.stop_sequence,
            _joined_logprobs([each for block in blocks for each in block.logprobs]),
        )


def _replay(block: _Block) -> Iterator[Event]:
    start = block.start
    yield start
    text = block.text
    logprobs = _joined_logprobs(block.logprobs)
    if start.kind == "tool_call":
        if text:
            yield ArgumentsDelta(start.index, text)
    elif start.kind == "thinking":
        if text:
            yield ThinkingDelta(start.index, text)
        if block.signature:
            yield SignatureDelta(start.index, "".join(block.signature), block.origin)
    elif text or logprobs is not None:
        yield TextDelta(start.index, text, logprobs)
    yield from block.citations
    if block.stopped:
        yield BlockStop(start.index)


def _part(block: _Block) -> Iterator[OutputPart]:
    start, text = block.start, block.text
    if start.kind == "text":
        if text:
            cited = [each.value for each in block.citations]
            yield Text(text, citations=cited or None, origin=block.citations[0].origin if cited else None)
    elif start.kind == "refusal":
        yield Refusal(text)
    elif start.kind == "tool_call":
        yield ToolCall(start.id or "", start.name or "", text or "{}", start.signature, start.origin)
    elif start.kind == "thinking":
        redacted = start.value if isinstance(start.value, str) else None
        signature = "".join([start.signature or "", *block.signature]) or None
        yield Thinking(text, signature, redacted, start.id, block.origin)
    else:
        yield Opaque(start.origin or "", start.value)


def _joined_logprobs(objects: list[Any]) -> Any | None:
    """OpenAI's objects of lists, one per chunk, as the one of a whole answer."""
    if not objects:
        return None
    joined: dict[str, Any] = {}
    for each in objects:
        for name, value in each.items() if isinstance(each, dict) else ():
            if isinstance(value, list):
                joined[name] = [*(joined.get(name) or ()), *value]
            else:
                joined.setdefault(name, value)
    return joined


def events_of(response: Response) -> list[Event]:
    """A whole answer as the stream it might have been."""
    events: list[Event] = [
        Start(
            response.id,
            response.model,
            response.created,
            service_tier=response.service_tier,
            system_fingerprint=response.system_fingerprint,
        )
    ]
    index = 0
    for number, choice in enumerate(response.choices):
        logprobs = choice.logprobs
        for part in choice.parts:
            events += _answered(index, number, part, logprobs)
            if isinstance(part, Text | Refusal):
                logprobs = None  # the first text has those of all
            index += 1
    if response.usage is not None:
        events.append(UsageReport(response.usage))
    for number, choice in enumerate(response.choices):
        events.append(Finish(choice.finish_reason, choice.native_reason, choice.stop_sequence, number))
    return events


def _answered(index: int, choice: int, part: OutputPart, logprobs: Any | None) -> list[Event]:
    match part:
        case ToolCall():
            start = BlockStart(
                index, "tool_call", part.id, part.name, choice, part.signature, origin=part.origin
            )
            return [start, ArgumentsDelta(index, part.arguments), BlockStop(index)]
        case Thinking():
            start = BlockStart(
                index, "thinking", part.id, choice=choice, value=part.redacted, origin=part.origin
            )
            signature: list[Event] = [SignatureDelta(index, part.signature)] if part.signature else []
            return [start, ThinkingDelta(index, part.text), *signature, BlockStop(index)]
        case Opaque():
            return [
                BlockStart(index, "opaque", choice=choice, value=part.value, origin=part.origin),
                BlockStop(index),
            ]
        case Refusal():
            return [
                BlockStart(index, "refusal", choice=choice),
                TextDelta(index, part.text, logprobs),
                BlockStop(index),
            ]
        case Text():
            cited = [CitationDelta(index, one, part.origin or "") for one in part.citations or ()]
            text = TextDelta(index, part.text, logprobs)
            return [BlockStart(index, "text", choice=choice), text, *cited, BlockStop(index)]
