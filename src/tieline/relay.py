"""Step 8 of the pipeline: from an upstream's stream to the caller's, event by event, synchronously from the socket.

Nothing is written before the first content (the caller sees no trace of an attempt that dies before it), nothing that
looks like an end is written unless the answer is complete, and only whole frames are written, so that an error can
still follow in-band.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from tieline.dialects.base import Dialect, Frame, Garbled, Peek, StreamDecoder, StreamEncoder, UpstreamDialect
from tieline.dialects.transcript import Transcript
from tieline.types.events import (
    ArgumentsDelta,
    BlockStart,
    Event,
    Finish,
    Start,
    TextDelta,
    ThinkingDelta,
    UsageReport,
)
from tieline.types.usage import Usage

_CONTENT = (TextDelta, ThinkingDelta, ArgumentsDelta)


class Sink(Protocol):
    """Where a relay writes: the request under way."""

    def commit(self) -> None:
        """The first content is here: the answer's head goes out."""

    def write(self, data: bytes) -> None: ...

    def end(self) -> None:
        """The answer is complete and all of it is written."""

    def closing_comment(self) -> bytes:
        """The final figures as a comment of the caller's dialect, before the terminator."""


class Splicer(Protocol):
    """Filters the events of a resumed stream (``resume.py``)."""

    def feed(self, event: Event) -> list[Event]: ...

    def finish(self) -> list[Event]: ...


class Relay:
    """One upstream stream on its way to the caller.

    ``encoder`` None: same dialect, frames pass through as they came. Raises what the decoder raises (StreamFault, Garbled,
    Truncated) out of ``feed`` and ``finish``; the attempt turns it into a failure class.
    """

    __slots__ = (
        "chars_out",
        "clock",
        "committed",
        "decoder",
        "done",
        "encoder",
        "finish_reason",
        "first_at",
        "held",
        "hold_until_chars",
        "idle_since",
        "last_at",
        "last_gap_s",
        "max_gap_s",
        "peek",
        "sink",
        "skipped",
        "splicer",
        "splitter",
        "thinking",
        "through",
        "transcript",
        "upstream_id",
        "upstream_model",
        "usage",
        "waited_s",
    )

    def __init__(
        self,
        *,
        dialect: UpstreamDialect,
        through: Dialect | None,
        peek: Peek,
        encoder: StreamEncoder | None,
        sink: Sink,
        transcript: Transcript,
        clock: Callable[[], float],
        committed: bool = False,
        splicer: Splicer | None = None,
        hold_until_chars: int = 0,
    ) -> None:
        self.through = through
        self.peek = peek
        self.encoder = encoder
        self.sink = sink
        self.transcript = transcript
        self.clock = clock
        self.splicer = splicer
        self.splitter = dialect.splitter()
        self.decoder: StreamDecoder = dialect.stream_decoder()
        self.held: list[bytes] = []
        self.hold_until_chars = hold_until_chars
        self.committed = committed
        self.done = False
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.upstream_id: str | None = None
        self.upstream_model: str | None = None
        self.first_at: float | None = None
        self.last_at = 0.0
        self.max_gap_s = 0.0
        self.chars_out = 0
        self.skipped = 0
        self.thinking = False
        self.waited_s = 0.0
        """Spent waiting for the upstream and not taken yet; the rest of a stream's time is ours."""
        self.idle_since = perf_counter()

    def feed(self, data: bytes) -> None:
        """Bytes of the upstream, cut anywhere."""
        self.woke()
        if not self.done:
            untouched = not self.splitter.pending
            frames = self.splitter.feed(data)
            out = self._forward(data, frames, untouched) if self.encoder is None else self._translate(frames)
            if out:
                self._send(out)
        self.idle_since = perf_counter()

    def finish(self) -> None:
        """The upstream's EOF: completes the caller's stream, or raises Truncated."""
        if self.done:
            return
        frames = self.splitter.finish()
        out = self._forward(b"", frames, False) if self.encoder is None else self._translate(frames)
        if not self.done:
            tail = self._encode(self.decoder.finish())
            self._end(out + tail, self.through.terminator if self.through is not None else b"")
        elif out:
            self._send(out)

    def woke(self) -> None:
        """The upstream said something, or is through."""
        now = perf_counter()
        self.waited_s += now - self.idle_since
        self.idle_since = now

    def take_wait(self) -> float:
        """Seconds waited for the upstream since this was last asked."""
        waited, self.waited_s = self.waited_s, 0.0
        return waited

    def replay(self, events: list[Event]) -> None:
        """An answer that came whole although a stream was asked for."""
        self._end(self._encode(events), b"")

    @property
    def nothing_missing(self) -> bool:
        """The answer is complete and its usage known, though the upstream has not said so (WIRE_FACTS 10)."""
        return self.decoder.complete and self.usage is not None

    # ------------------------------------------------------------------------------------------------------------

    def _forward(self, data: bytes, frames: list[Frame], untouched: bool) -> bytes:
        kept: list[bytes] = []
        for frame in frames:
            events = self._decode(frame)
            if events is None:
                untouched = False
                continue
            report = False
            for event in events:
                self._see(event)
                report = report or type(event) is UsageReport
            if self.decoder.ended:
                self._end(b"".join(kept), frame.raw)
                return b""
            if report and self.through is not None and self.through.hides(frame, self.peek):
                untouched = False
            else:
                kept.append(frame.raw)
        if untouched and not self.splitter.pending:
            return data if kept else b""
        return b"".join(kept)

    def _translate(self, frames: list[Frame]) -> bytes:
        out = b""
        for frame in frames:
            out += self._encode(self._decode(frame) or ())
            if self.decoder.ended:
                self._end(out, b"")
                return b""
        return out

    def _encode(self, events: list[Event] | tuple[()]) -> bytes:
        encoder = self.encoder
        out = b""
        for event in events:
            if self.splicer is None:
                self._see(event)
                if encoder is not None:
                    out += encoder.encode(event)
            else:
                for spliced in self.splicer.feed(event):
                    self._see(spliced)
                    if encoder is not None:
                        out += encoder.encode(spliced)
        return out

    def _decode(self, frame: Frame) -> list[Event] | None:
        try:
            return self.decoder.decode(frame)
        except Garbled as garbled:
            if garbled.carries_content:
                raise
            self.skipped += 1
            return None

    def _see(self, event: Event) -> None:
        kind = type(event)
        if kind in _CONTENT:
            now = self.clock()
            if self.first_at is None:
                self.first_at = now
            elif now - self.last_at > self.max_gap_s:
                self.max_gap_s = now - self.last_at
            self.last_at = now
            self.thinking = kind is ThinkingDelta
            self.chars_out += len(event.json if kind is ArgumentsDelta else event.text)  # type: ignore[union-attr]
        elif kind is BlockStart:
            if self.first_at is None and event.kind != "text":  # type: ignore[union-attr]
                self.first_at = self.last_at = self.clock()
        elif kind is UsageReport:
            self.usage = event.usage  # type: ignore[union-attr]
        elif kind is Finish:
            self.finish_reason = event.reason  # type: ignore[union-attr]
        elif kind is Start:
            self.upstream_id, self.upstream_model = event.id, event.model  # type: ignore[union-attr]
        self.transcript.add(event)

    def _send(self, out: bytes) -> None:
        if not self.committed:
            self.held.append(out)
            if self.first_at is None or (self.chars_out < self.hold_until_chars and not self.done):
                return
            self.commit()
            return
        self.sink.write(out)

    def commit(self) -> None:
        """From here on the caller has seen something of this attempt."""
        self.committed = True
        self.sink.commit()
        held, self.held = b"".join(self.held), []
        if held:
            self.sink.write(held)

    def _end(self, before: bytes, terminator: bytes) -> None:
        """Everything is here: held frames, the figures, the terminator; in this order."""
        if self.splicer is not None:
            for event in self.splicer.finish():
                self._see(event)
                before += self.encoder.encode(event) if self.encoder is not None else b""
        self.done = True
        if self.encoder is not None:
            terminator = self.encoder.finish()
        if not self.committed:
            self.held.append(before)
            self.commit()
            before = b""
        self.sink.write(before + self.sink.closing_comment() + terminator)
        self.sink.end()
