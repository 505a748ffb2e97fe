"""Going on with an answer that broke off: ask another deployment to continue, and splice without a seam (DESIGN 8).

Pure. The partial answer goes back as an assistant turn, followed by an instruction to repeat its last characters (the
*anchor*). The new text is joined where it repeats the anchor, or, when the target starts all over, where it has
reproduced everything that was sent. If it does neither, ``SpliceFailed``: two answers are never concatenated.
"""

from __future__ import annotations

import msgspec

from tieline.dialects.transcript import Transcript
from tieline.types.events import BlockStart, BlockStop, Event, Finish, Start, TextDelta, UsageReport
from tieline.types.request import Message, Request, Text

ANCHOR_CHARS = 40
MAX_HELD_CHARS = 240
"""A new text that has not begun to repeat the anchor by then does neither."""
MAX_HOPS = 2

_QUOTES = frozenset("\"'`“”‘’«»")
_LEADING = _QUOTES | frozenset("….")

_INSTRUCTION = (
    "Your previous message was cut off by a connection failure after these last characters:\n\n{anchor}\n\n"
    "Continue it. Begin your reply by repeating exactly those last characters, then go on directly with what comes "
    "next, as one uninterrupted text. Do not start over, do not apologise, do not comment on the interruption."
)


class SpliceFailed(Exception):
    """The new stream neither continues nor reproduces what the caller already has."""


def continuation(request: Request, sent: str, *, plain: bool = False) -> Request:
    """The request that asks for the rest of ``sent``, the text that the caller already has.

    ``plain``: the request as it was, for a target that refuses the longer shape; spliced by reproduction.
    """
    if plain:
        return msgspec.structs.replace(request, stream=True)
    turns = [
        *request.messages,
        Message(role="assistant", parts=[Text(sent)]),
        Message(role="user", parts=[Text(_INSTRUCTION.format(anchor=sent[-ANCHOR_CHARS:]))]),
    ]
    return msgspec.structs.replace(request, messages=turns, stream=True)


class Splicer:
    """Turns the events of the new stream into those that continue the caller's stream."""

    def __init__(self, sent: str, block: int | None) -> None:
        """``block`` is the index of the text block that is still open at the caller, None when none is."""
        self._sent = sent
        self._join = _Join(sent)
        self._block = block
        self._offset = (block if block is not None else -1) + 1
        self._opened: dict[int, int] = {}
        self._texts: set[int] = set()

    @property
    def joined(self) -> bool:
        return self._join.done

    def feed(self, event: Event) -> list[Event]:
        if isinstance(event, Start):
            return []
        if isinstance(event, UsageReport):
            return [event]
        if isinstance(event, TextDelta):
            return self._text(event)
        if isinstance(event, BlockStart):
            return self._begin(event)
        if isinstance(event, BlockStop):
            return self._stop(event)
        if isinstance(event, Finish):
            return [*self.finish(), event]
        index = self._opened.get(event.index)
        if index is None:
            return []  # thinking of the new target: the caller is in the middle of a text
        event.index = index
        return [event]

    def finish(self) -> list[Event]:
        """At the new stream's end: what is still held, or SpliceFailed when the seam was never found."""
        rest = self._join.finish()
        return self._to_caller(rest)

    def _text(self, event: TextDelta) -> list[Event]:
        if event.index in self._opened:
            event.index = self._opened[event.index]
            return [event]
        return self._to_caller(self._join.feed(event.text))

    def _to_caller(self, text: str) -> list[Event]:
        if not text:
            return []
        if self._block is None:
            self._block = self._offset
            self._offset += 1
            return [BlockStart(index=self._block, kind="text"), TextDelta(index=self._block, text=text)]
        return [TextDelta(index=self._block, text=text)]

    def _begin(self, event: BlockStart) -> list[Event]:
        if event.kind == "text" and not self._texts:
            self._texts.add(event.index)
            return []
        if event.kind == "thinking" and not self._join.done:
            return []
        before = self._close()
        self._opened[event.index] = event.index + self._offset
        event.index += self._offset
        return [*before, event]

    def _stop(self, event: BlockStop) -> list[Event]:
        if event.index in self._texts:
            return self._close()
        index = self._opened.get(event.index)
        return [] if index is None else [BlockStop(index=index)]

    def _close(self) -> list[Event]:
        rest = self.finish()
        if self._block is not None and self._texts:
            rest.append(BlockStop(index=self._block))
            self._texts = set()
            self._block = None
            self._join.closed = True
        return rest


class _Join:
    """Finds where new text continues old text; blind to white space and quotes, which models change when they repeat."""

    def __init__(self, sent: str) -> None:
        self.done = False
        self.closed = False
        self._all = [char for char in sent if not _blank(char)]
        self._anchor = [char for char in sent[-ANCHOR_CHARS:] if not _blank(char)]
        self._tail = sent[len(sent.rstrip("".join(_QUOTES) + " \t\r\n\u00a0")) :]
        self._held = ""
        self._read = 0
        self._matched = 0
        self._on_anchor = bool(self._anchor)
        self._on_restart = bool(self._all)
        self._cut: int | None = None
        """Where in ``_held`` the text goes on, if the anchor turns out to be the seam."""
        self._trimming = True
        if not self._all:
            self._seam(0)

    def feed(self, text: str) -> str:
        if self.done and not self._trimming:
            return text
        self._held += text
        if not self.done:
            self._scan()
        return self._trim(final=False) if self.done else ""

    def finish(self) -> str:
        if not self.done:
            if self._cut is None:
                raise SpliceFailed("the new answer ended before it continued the old one")
            self._seam(self._cut)
        return self._trim(final=True)

    def _scan(self) -> None:
        """Advances both hypotheses, "repeats the anchor" and "starts over", over what is new in ``_held``."""
        while self._read < len(self._held) and not self.done:
            char = self._held[self._read]
            self._read += 1
            if _blank(char) or (not self._matched and char in _LEADING and not self._expects(char)):
                continue
            self._advance(char)

    def _expects(self, char: str) -> bool:
        return self._anchor[:1] == [char] or self._all[:1] == [char]

    def _advance(self, char: str) -> None:
        at = self._matched
        self._matched += 1
        if self._on_anchor and self._cut is None:
            self._on_anchor = self._anchor[at] == char
            if self._on_anchor and at + 1 == len(self._anchor):
                self._cut = self._read
        if self._on_restart:
            self._on_restart = self._all[at] == char
            if self._on_restart and at + 1 == len(self._all):
                self._seam(self._read)
                return
        if not self._on_restart:
            if self._cut is not None:
                self._seam(self._cut)
            elif not self._on_anchor:
                raise SpliceFailed("the new answer neither repeats the last characters nor starts over")

    def _seam(self, at: int) -> None:
        self.done = True
        self._held = self._held[at:]

    def _trim(self, *, final: bool) -> str:
        """The blanks and quotes at the end of the old text may come once more after the seam: they are dropped once."""
        if not self._trimming:
            return ""
        rest = self._held
        if not final and len(rest) <= len(self._tail) and all(_blank(char) for char in rest):
            return ""
        self._trimming = False
        common = 0
        while common < min(len(rest), len(self._tail)) and rest[common] == self._tail[common]:
            common += 1
        if common < len(self._tail) and self._tail.isspace():
            rest = rest.lstrip()
        else:
            rest = rest[common:]
        self._held = ""
        return rest


def _blank(char: str) -> bool:
    return char.isspace() or char in _QUOTES


def resumable(transcript: Transcript) -> bool:
    """Only plain text can be continued: never inside tool arguments, structured output or thinking."""
    return not (transcript.in_tool_call or transcript.in_thinking or transcript.structured) and bool(
        transcript.text
    )
