"""Frames are the same wherever the bytes were split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.dialects.base import MAX_FRAME_BYTES, Frame, Garbled
from tieline.dialects.sse import SseSplitter, comment, frame


def split(*chunks: bytes) -> list[tuple[bytes, str | None]]:
    splitter = SseSplitter()
    frames = [each for chunk in chunks for each in splitter.feed(chunk)]
    return [(each.data, each.event) for each in frames + splitter.finish()]


def test_a_whole_chunk_of_events_is_cut_without_copying_twice() -> None:
    assert SseSplitter().feed(b"data: a\n\ndata: b\n\n") == [
        Frame(b"data: a\n\n", b"a"),
        Frame(b"data: b\n\n", b"b"),
    ]


def test_named_events_keep_their_name() -> None:
    raw = b'event: ping\ndata: {"type":"ping"}\n\n'
    assert SseSplitter().feed(raw) == [Frame(raw, b'{"type":"ping"}', "ping")]


STREAM = (
    ": hello\n\n"
    'data: {"text":"grüße 🎉"}\n\n'
    "event: x\r\ndata: one\r\ndata:two\r\n\r\n"
    "event: nothing\n\n"
    "data: old mac\r\r"
    ": keep-alive\r\n\r\n"
    "id: 7\nretry: 10\ndata: three\n\n\n"
    "data: last"
).encode()
EVENTS = [
    ('{"text":"grüße 🎉"}'.encode(), None),
    (b"one\ntwo", "x"),
    (b"old mac", None),
    (b"three", None),
    (b"last", None),
]


def test_wire_02_split_at_every_byte() -> None:
    assert split(STREAM) == EVENTS
    for cut in range(len(STREAM) + 1):
        assert split(STREAM[:cut], STREAM[cut:]) == EVENTS, cut
    assert split(*(STREAM[i : i + 1] for i in range(len(STREAM)))) == EVENTS


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_wire_02_split_anywhere(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert split(*(STREAM[a:b] for a, b in pairwise(edges))) == EVENTS


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=8))
def test_garbage_never_raises(chunks: list[bytes]) -> None:
    joined = split(b"".join(chunks))
    assert split(*chunks) == joined


def test_last_event_without_blank_line_is_made_whole_for_forwarding() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b"data: x") == []
    assert splitter.pending
    assert splitter.finish() == [Frame(b"data: x\n\n", b"x")]
    assert not splitter.pending
    assert splitter.finish() == []


def test_a_frame_beyond_the_cap_is_garbled() -> None:
    splitter = SseSplitter()
    splitter.feed(b"data: " + b"x" * (MAX_FRAME_BYTES - 10))
    with pytest.raises(Garbled, match="larger than"):
        splitter.feed(b"x" * 20)
    with pytest.raises(Garbled):
        SseSplitter().feed(b"data: " + b"x" * MAX_FRAME_BYTES + b"\n\n")


def test_byte_order_mark_is_skipped() -> None:
    assert split(b"\xef\xbb\xbfdata: x\n\n") == [(b"x", None)]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=50))
def test_frame_is_read_back(data: bytes) -> None:
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    expected = [(lines, "e")] if lines else []
    assert split(frame(data, b"e")) == expected


def test_comment_is_no_event() -> None:
    assert comment(b"a\nb") == b": a b\n"
    assert split(comment(b"keep-alive")) == []
    assert split(comment(b"before"), b"data: x\n\n") == [(b"x", None)]
    for event in (b"data: [DONE]\n\n", b"event: e\r\ndata: x\r\n\r\n"):
        (one,) = SseSplitter().feed(comment(b"a") + comment(b"b") + event)
        assert one.raw == event, "another comment may be put before it"
