"""Going on with an answer that broke off: ask another deployment to continue, and splice without a seam (DESIGN 8).

Pure. The partial answer goes back as an assistant turn, followed by an instruction to repeat its last characters (the
*anchor*). The new text is joined where it repeats the anchor, or, when the target starts all over, where it has
reproduced everything that was sent. If it does neither, ``SpliceFailed``: two answers are never concatenated.
"""

from __future__ import annotations

from msgspec.structs import replace

from tieline.dialects.transcript import Transcript
from tieline.types.events import BlockStart, BlockStop, Event, Finish, Start, TextDelta, UsageReport
from tieline.types.request import Message, Part, Request, Text
from tieline.types.usage import CHARS_PER_TOKEN

ANCHOR_CHARS = 40
MAX_HELD_CHARS = 240
"""How far into a new text the anchor is looked for; beyond it the text neither continues nor starts over."""
MIN_FOUND_CHARS = 16
"""A shorter anchor only counts at the very beginning: further on it could be there by chance."""

_QUOTES = frozenset("\"'`“”‘’«»")
_LEADING = _QUOTES | frozenset("….")
_AROUND = "".join(_QUOTES) + " \t\r\n\u00a0"

_INSTRUCTION = (
    "Your previous message was cut off by a connection failure after these last characters:\n\n{anchor}\n\n"
    "Continue it. Begin your reply by repeating exactly those last characters, then go on directly with what comes "
    "next, as one uninterrupted text. Do not start over, do not apologise, do not comment on the interruption."
)


class SpliceFailed(Exception):
    """The new stream neither continues nor reproduces what the caller already has."""


def resumable(transcript: Transcript) -> bool:
    """Only plain text can be continued: never inside tool arguments, structured output or thinking, nor once a tool was
    called, nor one of several answers."""
    others = transcript.kinds - {"text", "thinking"}
    if others or transcript.in_thinking or transcript.structured or transcript.several:
        return False
    return bool(transcript.text.strip())


def continuation(request: Request, sent: str, *, plain: bool = False) -> Request:
    """The request that asks for the rest of ``sent``, the text that the caller already has.

    ``plain``: the request as it was, for a target that refuses the longer shape; spliced by reproduction.
    """
    if plain:
        return replace(request, stream=True)
    turns = list(request.messages)
    partial: list[Part] = [Text(sent)]
    if turns and turns[-1].role == "assistant":
        partial = [*turns.pop().parts, *partial]  # a prefill and what followed it are one turn
    turns.append(Message(role="assistant", parts=partial))
    turns.append(Message(role="user", parts=[Text(_INSTRUCTION.format(anchor=sent[-ANCHOR_CHARS:]))]))
    limit = request.max_output_tokens
    if limit is not None:
        said, again = len(sent) // CHARS_PER_TOKEN, ANCHOR_CHARS // 2
        limit = max(limit - said, 1) + again
    return replace(request, messages=turns, stream=True, max_output_tokens=limit)


class Splicer:
    """Turns the events of the new stream into those that continue the caller's stream."""

    def __init__(self, sent: str, block: int | None, last: int) -> None:
        """``block`` is the text block that is still open at the caller, if one is; ``last`` the newest block there."""
        self._join = _Join(sent)
        self._block = block
        self._last = last
        self._opened: dict[int, int] = {}
        self._text: int | None = None
        """The new stream's block that continues the old text."""

    @property
    def joined(self) -> bool:
        return self._join.done

    def feed(self, event: Event) -> list[Event]:
        """Raises SpliceFailed."""
        if isinstance(event, Start):
            return []
        if isinstance(event, UsageReport):
            return [event]
        if isinstance(event, BlockStart):
            return self._begin(event)
        if isinstance(event, BlockStop):
            return self._stop(event)
        if isinstance(event, Finish):
            return [*self.finish(), event]
        if isinstance(event, TextDelta) and event.index == self._text:
            return self._say(self._join.feed(event.text))
        index = self._opened.get(event.index)
        if index is None:
            return []  # thinking of the new target: the caller is in the middle of a text
        return [replace(event, index=index)]

    def finish(self) -> list[Event]:
        """At the new stream's end: what is still held. Raises SpliceFailed when the seam was never found."""
        return self._say(self._join.finish())

    def _say(self, text: str) -> list[Event]:
        if not text:
            return []
        if self._block is not None:
            return [TextDelta(index=self._block, text=text)]
        self._last += 1
        self._block = self._last
        return [BlockStart(index=self._block, kind="text"), TextDelta(index=self._block, text=text)]

    def _begin(self, event: BlockStart) -> list[Event]:
        if event.kind == "text" and self._text is None:
            self._text = event.index
            return []
        if event.kind == "thinking" and not self._join.done:
            return []
        before = self._close()
        self._last += 1
        self._opened[event.index] = self._last
        return [*before, replace(event, index=self._last)]

    def _stop(self, event: BlockStop) -> list[Event]:
        if event.index == self._text:
            return self._close()
        index = self._opened.get(event.index)
        return [] if index is None else [BlockStop(index=index)]

    def _close(self) -> list[Event]:
        """Ends the continued text: whatever comes next is a block of its own."""
        rest = self.finish()
        if self._block is not None:
            rest.append(BlockStop(index=self._block))
            self._block = None
        return rest


class _Join:
    """Finds where new text continues old text; blind to white space and quotes, which models change when they repeat."""

    def __init__(self, sent: str) -> None:
        self.done = False
        self._all = _significant(sent)
        self._anchor = _significant(sent[-ANCHOR_CHARS:])
        self._tail = sent[len(sent.rstrip(_AROUND)) :]
        self._held = ""
        self._flat: list[str] = []
        """The significant characters of ``_held``."""
        self._ends: list[int] = []
        """Where each of them ends in ``_held``."""
        self._read = 0
        self._restarts = True
        """So far it says again what was sent."""
        self._trimming = True
        if not self._all:
            self._seam(0)

    def feed(self, text: str) -> str:
        """What of the new text goes on from the old, once that is clear. Raises SpliceFailed."""
        if not self._trimming:
            return text
        self._held += text
        if not self.done:
            self._look()
        return self._trim(final=False) if self.done else ""

    def finish(self) -> str:
        if not self.done:
            self._seam_at_anchor("the new answer ended before it continued the old one")
        return self._trim(final=True)

    def _look(self) -> None:
        self._scan()
        if self._restarts:
            if len(self._flat) == len(self._all):
                self._seam(self._ends[-1])
            return
        size = len(self._anchor)
        if self._flat[:size] == self._anchor:
            self._seam(self._ends[size - 1])
            return
        beginning = self._anchor[: len(self._flat)] == self._flat
        if not beginning and (size < MIN_FOUND_CHARS or len(self._held) >= MAX_HELD_CHARS):
            self._seam_at_anchor("the new answer neither repeats the last characters nor starts over")

    def _scan(self) -> None:
        """Up to the end of ``_held``, or to where all that was sent has been said again."""
        while self._read < len(self._held):
            if self._restarts and len(self._flat) == len(self._all):
                return
            char = self._held[self._read]
            self._read += 1
            if _blank(char) or (not self._flat and char in _LEADING and not self._expects(char)):
                continue
            at = len(self._flat)
            self._flat.append(char)
            self._ends.append(self._read)
            self._restarts = self._restarts and self._all[at] == char

    def _expects(self, char: str) -> bool:
        return self._anchor[:1] == [char] or self._all[:1] == [char]

    def _seam_at_anchor(self, otherwise: str) -> None:
        """At the beginning, or at its last place in what is held; else SpliceFailed."""
        size = len(self._anchor)
        last = len(self._flat) - size if size >= MIN_FOUND_CHARS else 0
        for at in (0, *range(last, 0, -1)):
            if self._flat[at : at + size] == self._anchor:
                self._seam(self._ends[at + size - 1])
                return
        raise SpliceFailed(otherwise)

    def _seam(self, at: int) -> None:
        self.done = True
        self._held = self._held[at:]

    def _trim(self, *, final: bool) -> str:
        """The blanks and quotes at the end of the old text may come once more after the seam: they are dropped once."""
        if not self._trimming:
            return ""
        rest, tail = self._held, self._tail
        if not final and len(rest) <= len(tail) + (4 if tail else 0) and all(_blank(char) for char in rest):
            return ""
        self._trimming = False
        self._held = ""
        return rest[_said_again(rest, tail) :]


def _said_again(rest: str, tail: str) -> int:
    """How much of ``rest`` is ``tail`` once more; other white space in it is passed over, one quote is like another."""
    at = cut = matched = 0
    for char in tail:
        look = at
        while look < len(rest) and rest[look] != char and rest[look].isspace() and not char.isspace():
            look += 1
        if look < len(rest) and (rest[look] == char or (rest[look] in _QUOTES and char in _QUOTES)):
            at = cut = look + 1
            matched += 1
    if tail and tail.isspace() and matched < len(tail):
        return len(rest) - len(rest.lstrip())
    return cut


def _blank(char: str) -> bool:
    return char.isspace() or char in _QUOTES


def _significant(text: str) -> list[str]:
    return [char for char in text if not _blank(char)]
