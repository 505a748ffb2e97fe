"""Server-sent events: a byte stream cut into frames wherever it was split, and frames written (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tieline.dialects.base import MAX_FRAME_BYTES, Frame, Garbled

MEDIA_TYPE = b"text/event-stream"
DONE = b"data: [DONE]\n\n"
"""What ends a stream of OpenAI's Chat Completions and Completions."""

_FRAME_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LONGEST_END = 4
_BOM = b"\xef\xbb\xbf"


def frame(data: bytes, event: bytes | None = None) -> bytes:
    """One event on the wire; line breaks in ``data`` become several data lines."""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_LINE_END.split(data))
    if event is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + event + b"\ndata: " + data + b"\n\n"


def comment(text: bytes) -> bytes:
    """A line that every client ignores (WIRE_FACTS 12). No blank line of its own: some clients take each for an event
    (openai-go, github.com/openai/openai-go/pull/621; openai-python once the host gave an `id:`, November 2026)."""
    return b": " + text.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


class SseSplitter:
    """Cuts bytes into frames. Frames without data (comments, a bare ``event:``) are not events and yield nothing."""

    __slots__ = ("_held", "_scanned")

    def __init__(self) -> None:
        self._held = bytearray()
        self._scanned = 0

    @property
    def pending(self) -> bool:
        return bool(self._held)

    def feed(self, data: bytes) -> list[Frame]:
        """Raises Garbled for a frame beyond MAX_FRAME_BYTES."""
        if not self._held and data[-2:] == b"\n\n" and len(data) <= MAX_FRAME_BYTES and data.find(b"\r") < 0:
            return _cut_whole(data)
        self._held += data
        return self._cut_held()

    def finish(self) -> list[Frame]:
        """A last frame without its blank line, made whole."""
        block = bytes(self._held)
        self._held.clear()
        self._scanned = 0
        last = _frame_of(block.rstrip(b"\r\n") + b"\n\n", block)
        return [last] if last else []

    def _cut_held(self) -> list[Frame]:
        held = self._held
        frames: list[Frame] = []
        start = 0
        for end in _FRAME_END.finditer(held, self._scanned):
            self._check_size(end.end() - start)
            made = _frame_of(bytes(held[start : end.end()]), bytes(held[start : end.start()]))
            if made:
                frames.append(made)
            start = end.end()
        del held[:start]
        # A blank line may itself be split: its first bytes are looked at again.
        self._scanned = max(0, len(held) - _LONGEST_END)
        self._check_size(len(held))
        return frames

    def _check_size(self, size: int) -> None:
        if size > MAX_FRAME_BYTES:
            self._held = bytearray()
            self._scanned = 0
            raise Garbled(f"a stream event is larger than {MAX_FRAME_BYTES} bytes")


def _cut_whole(data: bytes) -> list[Frame]:
    """The usual chunk: whole events, LF only."""
    if data.find(b"\n") == len(data) - 2 and data[:6] == b"data: " and len(data) > 8:
        return [Frame(data, data[6:-2])]  # one event of one line
    frames: list[Frame] = []
    start = 0
    while (end := data.find(b"\n\n", start)) != -1:
        line_end = data.find(b"\n", start, end)
        if line_end == -1 and end > start + 6 and data.startswith(b"data: ", start):
            frames.append(Frame(data[start : end + 2], data[start + 6 : end]))
        elif _is_named(data, start, line_end, end):
            name = str(data[start + 7 : line_end], "utf-8", "replace")
            frames.append(Frame(data[start : end + 2], data[line_end + 7 : end], name))
        elif made := _frame_of(data[start : end + 2], data[start:end]):
            frames.append(made)
        start = end + 2
    return frames


def _is_named(data: bytes, start: int, line_end: int, end: int) -> bool:
    """Exactly an `event:` line with a name and a `data:` line with something, as Anthropic writes them."""
    return (
        line_end > start + 7
        and line_end + 7 < end
        and data.startswith(b"event: ", start)
        and data.startswith(b"data: ", line_end + 1)
        and data.find(b"\n", line_end + 1, end) == -1
    )


def _frame_of(raw: bytes, block: bytes) -> Frame | None:
    data, event = _fields(_LINE_END.split(block))
    if not data:
        return None
    # A host's comment before its event is no part of that: ours may be put between them.
    while raw[:1] == b":" and (end := raw.find(b"\n")) >= 0:
        raw = raw[end + 1 :]
    return Frame(raw, data, event)


def _fields(lines: Iterable[bytes]) -> tuple[bytes, str | None]:
    data: list[bytes] = []
    event: str | None = None
    for line in lines:
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data" or name == _BOM + b"data":
            data.append(value)
        elif name == b"event" or name == _BOM + b"event":
            event = value.decode("utf-8", "replace") or None
    return b"\n".join(data), event
