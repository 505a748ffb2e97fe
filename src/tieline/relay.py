"""Step 8 of the pipeline: from an upstream's stream to the caller's, event by event, synchronously from the socket.

Nothing is written before the first content (the caller sees no trace of an attempt that dies before it), nothing that
looks like an end is written unless the answer is complete, and only whole frames are written, so that an error can
still follow in-band.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from tieline.dialects.base import (
    Dialect,
    Frame,
    Garbled,
    Mould,
    Peek,
    StreamDecoder,
    StreamEncoder,
    StreamFault,
    UpstreamDialect,
)
from tieline.dialects.mould import text_of, texts_of
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

MAX_MOULDS: Final = 8
"""Frames of one stream that are looked at as a mould for others."""
_CONTENT = (TextDelta, ThinkingDelta, ArgumentsDelta)


class Sink(Protocol):
    """Where a relay writes: the request under way."""

    def name(self, start: Start) -> None:
        """Fills in the id and the model where the upstream states none (Converse, Cohere)."""

    def commit(self) -> None:
        """The first content is here: the answer's head goes out."""

    def hold(self) -> None:
        """Content is held back from here on; asks for ``Relay.release`` when that has lasted long enough."""

    def write(self, data: bytes) -> None: ...

    def skip(self) -> None:
        """An event that cannot be read is left out; it carried no content."""

    def end(self) -> None:
        """The answer is complete and all of it is written."""

    def spliced(self) -> bytes:
        """Another upstream's text begins here: a comment that says so."""

    def closing_comment(self) -> bytes:
        """The final figures as a comment of the caller's dialect, before the terminator."""


class Splicer(Protocol):
    """Filters the events of a resumed stream (``resume.py``)."""

    @property
    def joined(self) -> bool: ...

    def feed(self, event: Event) -> list[Event]: ...

    def finish(self) -> list[Event]: ...


class Relay:
    """One upstream stream on its way to the caller. ``spent`` is what earlier attempts of a resumed answer used.

    ``encoder`` None: same dialect, frames pass through as they came. Raises what the decoder raises (StreamFault, Garbled,
    Truncated) out of ``feed`` and ``finish``; the attempt turns it into a failure class.
    """

    __slots__ = (
        "block",
        "chars_out",
        "clock",
        "committed",
        "cut",
        "decoder",
        "dialect",
        "done",
        "encoder",
        "finish_reason",
        "first_at",
        "held",
        "hold_until_chars",
        "holding",
        "idle_since",
        "last_at",
        "max_gap_s",
        "mould",
        "moulds",
        "peek",
        "pieces",
        "sample",
        "service_tier",
        "sink",
        "spent",
        "spliced",
        "splicer",
        "splitter",
        "thinking",
        "through",
        "transcript",
        "upstream_id",
        "upstream_model",
        "usage",
        "waited_s",
        "write",
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
        spent: Usage | None = None,
    ) -> None:
        self.through = through
        self.peek = peek
        self.encoder = encoder
        self.sink = sink
        self.write: Callable[[bytes], None] = sink.write
        self.transcript = transcript
        self.clock = clock
        self.splicer = splicer
        self.spliced = False
        self.spent = spent
        self.dialect = dialect
        self.splitter = dialect.splitter()
        self.cut = False
        """Whether the splitter holds the beginning of a frame."""
        self.decoder: StreamDecoder = dialect.stream_decoder()
        self.held: list[bytes] = []
        self.sample: bytes | None = None
        """A frame of text that the next piece is to be compared with; cut into a mould when that is here, which may be never."""
        self.mould: Mould | None = None
        self.moulds = 0
        self.block = 0
        """Whose text the mould is of."""
        self.pieces: list[str] = []
        """Of that block in the transcript."""
        self.hold_until_chars = hold_until_chars
        self.holding = False
        self.committed = committed
        self.done = False
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.upstream_id: str | None = None
        self.upstream_model: str | None = None
        self.service_tier: str | None = None
        self.first_at: float | None = None
        self.last_at = 0.0
        self.max_gap_s = 0.0
        self.chars_out = 0
        self.thinking = False
        self.waited_s = 0.0
        """Spent waiting for the upstream and not taken yet; the rest of a stream's time is ours."""
        self.idle_since = self.clock()

    def feed(self, data: bytes) -> bool:
        """Bytes of the upstream, cut anywhere. Whether the answer is complete now, as far as can be seen."""
        now = self.clock()
        self.waited_s += now - self.idle_since
        if self.sample is not None:
            self.mould = self.dialect.mould(self.sample)
            self.sample = None
            if self.encoder is None:
                self.pieces = self.transcript.pieces(self.block)
        passed = not self.done and self._pass(data, now)
        if not passed and not self.done:
            untouched = not self.cut
            frames = self.splitter.feed(data)
            self.cut = self.splitter.pending
            out = self._forward(data, frames, untouched) if self.encoder is None else self._translate(frames)
            if out:
                self._send(out)
            if self.decoder.complete:
                self.mould = self.sample = None  # what may follow is read
        self.idle_since = self.clock()
        return not passed and (self.done or self.decoder.complete)

    def finish(self, *, broken: bool = False) -> None:
        """The upstream's EOF: completes the caller's stream, or raises Truncated.

        ``broken``: the connection died after a complete answer, so half a frame that is left means nothing.
        """
        if self.done:
            return
        out = b"" if broken else self._last()
        if not self.done:
            out = self._whole(out, lambda: self._encode(self.decoder.finish()))
            self._end(out, self.through.terminator if self.through is not None else b"")
        elif out:
            self._send(out)

    def _last(self) -> bytes:
        """What stands at the end without its blank line. After a complete answer no fault counts any more (WIRE_FACTS 10)."""
        try:
            frames = self.splitter.finish()
            return self._forward(b"", frames, False) if self.encoder is None else self._translate(frames)
        except (StreamFault, Garbled):
            if not self.decoder.complete:
                raise
            return b""

    @property
    def unsaid(self) -> bool:
        """Whether the caller has seen the beginning of something that the transcript does not know of."""
        return self.committed and self.encoder is None and self.decoder.unsaid

    def woke(self) -> None:
        """The upstream said something, or is through."""
        now = self.clock()
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

    def _pass(self, data: bytes, now: float) -> bool:
        """Whole frames with a piece of text each and nothing else need no decoding."""
        if self.mould is None or self.cut or not self.committed:
            return False
        text = text_of(data, self.mould)
        if text and self.encoder is None:  # nearly always
            self.chars_out += len(text)
            self.pieces.append(text)
        else:
            texts = [text] if text else texts_of(data, self.mould)
            if not texts:
                return False
            out: list[bytes] = []
            for text in texts:
                self.chars_out += len(text)
                self._tell(TextDelta(self.block, text), out)
            if self.encoder is not None:
                data = out[0] if len(out) == 1 else b"".join(out)
        self._time(now)
        self.thinking = False
        if data:
            self.write(data)
        return True

    def _time(self, now: float) -> None:
        if now - self.last_at > self.max_gap_s:
            self.max_gap_s = now - self.last_at
        self.last_at = now

    def _learn(self, events: list[Event], frame: Frame) -> None:
        """A frame with a piece of text shows how the next ones will look. Some hosts make each one different."""
        event = events[-1] if 0 < len(events) < 3 else None
        if isinstance(event, TextDelta) and (len(events) == 1 or isinstance(events[0], BlockStart)):
            if self.moulds < MAX_MOULDS:
                self.moulds += 1
                self.sample = frame.raw
                self.block = event.index
        elif events:
            # That block may be over.
            self.mould = self.sample = None

    def _forward(self, data: bytes, frames: list[Frame], untouched: bool) -> bytes:
        kept: list[bytes] = []
        try:
            for frame in frames:
                events = self._decode(frame)
                if events is None:
                    untouched = False
                    continue
                report = False
                self._learn(events, frame)
                for event in events:
                    self._see(event)
                    self.transcript.add(event)
                    report = report or type(event) is UsageReport
                if self.decoder.ended:
                    self._end(b"".join(kept), frame.raw)
                    return b""
                if report and self.through is not None and self.through.hides(frame, self.peek):
                    untouched = False
                else:
                    kept.append(frame.raw)
        except Exception:
            self._hand_over(kept)
            raise
        if untouched and not self.cut:
            return data if kept else b""
        return b"".join(kept)

    def _translate(self, frames: list[Frame]) -> bytes:
        out: list[bytes] = []
        try:
            for frame in frames:
                events = self._decode(frame)
                if events is None:
                    continue
                self._learn(events, frame)
                for event in events:
                    self._see(event)
                    self._tell(event, out)
                if self.decoder.ended:
                    self._end(b"".join(out), b"")
                    return b""
        except Exception:
            self._hand_over(out)
            raise
        return b"".join(out)

    def _encode(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            self._see(event)
            self._tell(event, out)
        return b"".join(out)

    def _tell(self, event: Event, out: list[bytes]) -> None:
        """What ``event`` means to the caller goes to ``out`` and into the transcript."""
        splicer = self.splicer
        if splicer is None:
            self._to_caller(event, out)
            return
        spliced = splicer.feed(event)
        if not self.spliced and splicer.joined:
            self.spliced = True
            out.append(self.sink.spliced())
        for one in spliced:
            self._to_caller(one, out)

    def _to_caller(self, event: Event, out: list[bytes]) -> None:
        self.transcript.add(event)
        if self.encoder is None:
            return
        if self.spent is not None and type(event) is UsageReport:
            event = UsageReport(self.spent + event.usage)
        out.append(self.encoder.encode(event))

    def _hand_over(self, out: list[bytes]) -> None:
        """What came in front of a fault is the caller's, as the transcript has it too; held until it has seen anything."""
        if out and not self.done:
            if self.committed:
                self.write(b"".join(out))
            else:
                self.held += out

    def _whole(self, out: bytes, rest: Callable[[], bytes]) -> bytes:
        """``out`` and what ``rest`` makes; ``out`` alone is handed over when that raises."""
        try:
            return out + rest()
        except Exception:
            self._hand_over([out])
            raise

    def _decode(self, frame: Frame) -> list[Event] | None:
        try:
            return self.decoder.decode(frame)
        except Garbled as garbled:
            if garbled.carries_content:
                raise
            self.sink.skip()
            return None

    def _see(self, event: Event) -> None:
        """Times and counts what the upstream said, whether or not it is for the caller."""
        kind = type(event)
        if kind in _CONTENT:
            now = self.clock()
            if self.first_at is None:
                self.first_at = self.last_at = now
            self._time(now)
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
            self.sink.name(event)  # type: ignore[arg-type]
            self.service_tier = event.service_tier  # type: ignore[union-attr]

    def _send(self, out: bytes) -> None:
        if not self.committed:
            self.held.append(out)
            if self.first_at is None:
                return
            if self.chars_out < self.hold_until_chars:
                if not self.holding:
                    self.holding = True
                    self.sink.hold()
                return
            self.commit()
            return
        self.write(out)

    def release(self) -> None:
        """What is held back goes out now, even if nothing follows for a while."""
        if not self.committed and not self.done:
            self.commit()

    def commit(self) -> None:
        """From here on the caller has seen something of this attempt."""
        self.sink.commit()  # another may have been first
        self.committed = True
        held, self.held = b"".join(self.held), []
        if held:
            self.write(held)

    def _end(self, before: bytes, terminator: bytes) -> None:
        """Everything is here: held frames, the figures, the terminator; in this order."""
        if self.splicer is not None:
            before = self._whole(before, self._spliced_rest)
        self.done = True
        if self.encoder is not None:
            terminator = self.encoder.finish()
        if not self.committed:
            self.held.append(before)
            self.commit()
            before = b""
        self.write(before + self.sink.closing_comment() + terminator)
        self.sink.end()

    def _spliced_rest(self) -> bytes:
        out: list[bytes] = []
        for event in self.splicer.finish() if self.splicer is not None else ():
            self._to_caller(event, out)
        return b"".join(out)
