"""Most frames of a stream differ only in a piece of text: cut around it once, the others need no decoding."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

import msgspec

from tieline.dialects.base import Garbled, Mould

_read_string: Final = msgspec.json.Decoder(str).decode
_PROBE: Final = f"tieline {os.urandom(8).hex()}"
"""A text that is tried in a mould, to see whether it is read there; none that a model could say."""


def cut(
    raw: bytes,
    head: bytes,
    text: re.Pattern[bytes],
    padding: re.Pattern[bytes],
    read: Callable[[bytes], str | None],
) -> Mould | None:
    """``raw`` around its text, if it is one frame that begins with ``head`` (whose last byte begins the JSON) and in which
    ``read`` finds a text and nothing else.

    ``text`` and ``padding`` have one group each: the text within its quotes, and what hosts let differ behind it.
    """
    found = text.search(raw)
    if (
        found is None
        or not raw.startswith(head)
        or not raw.endswith(b"}\n\n")
        or raw.count(b"\n") != head.count(b"\n") + 2
        or b"\r" in raw
    ):
        return None
    begin, end = found.span(1)
    before, after, rest = raw[:begin], raw[end:], b""
    padded = padding.search(raw, end)
    if padded is not None:
        after, rest = raw[end : padded.start(1)], raw[padded.end(1) :]
    try:
        said = read((before + _PROBE.encode() + after + rest)[len(head) - 1 : -2])
    except Garbled:
        return None
    return (before, after, rest) if said == _PROBE else None


def text_of(data: bytes, mould: Mould) -> str:
    """What the decoder would read in ``data``; empty where that is no single frame of the mould, or nothing that the decoder
    could read: a caller may be given what it can decode and nothing else, and who says nothing has stalled."""
    before, after, end = mould
    begin = len(before)
    if data[:begin] != before:
        return ""
    if not end:
        stop = len(data) - len(after)
        if stop < begin or data[stop:] != after:
            return ""
    else:
        # Within the text the quote that it begins with would be escaped.
        stop = data.find(after, begin)
        padding, rest = stop + len(after), len(data) - len(end)
        if stop < begin or padding > rest or data[rest:] != end:
            return ""
        if padding < rest and not _is_padding(data[padding:rest], end):
            return ""
    try:
        return _read_string(data[begin - 1 : stop + 1])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _is_padding(data: bytes, end: bytes) -> bool:
    return data.isalnum() if end[:1] == b'"' else not data.strip(b" ")


def texts_of(data: bytes, mould: Mould) -> list[str]:
    """The same of several frames that came together; nothing where one of them is none."""
    before, after, end = mould
    last = end or after
    least = len(before) + (len(after) if end else 0)
    texts: list[str] = []
    at = 0
    while at < len(data):
        found = data.find(last, at + least)
        text = text_of(data[at : found + len(last)], mould) if found >= 0 else ""
        if not text:
            return []
        texts.append(text)
        at = found + len(last)
    return texts
