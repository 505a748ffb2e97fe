"""AWS's binary event stream, checked against botocore's own parser (WIRE_FACTS 11)."""

from __future__ import annotations

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.dialects import eventstream
from tieline.dialects.base import MAX_FRAME_BYTES, Frame, Garbled
from tieline.dialects.eventstream import EventStreamSplitter

ONE = eventstream.event("messageStart", b'{"role":"assistant"}')
TWO = eventstream.event("contentBlockDelta", '{"delta":{"text":"é"}}'.encode())
LAST = eventstream.exception("throttlingException", b'{"message":"slow"}')
STREAM = ONE + TWO + LAST


def frames(pieces: list[bytes]) -> list[tuple[str | None, bytes]]:
    splitter = EventStreamSplitter()
    out: list[Frame] = []
    for piece in pieces:
        out += splitter.feed(piece)
    out += splitter.finish()
    return [(frame.event, frame.data) for frame in out]


EXPECTED = [
    ("messageStart", b'{"role":"assistant"}'),
    ("contentBlockDelta", '{"delta":{"text":"é"}}'.encode()),
    ("exception:throttlingException", b'{"message":"slow"}'),
]


def test_wire_11_what_we_write_botocore_reads() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(STREAM)
    events = [(event.headers, event.payload) for event in buffer]
    assert [headers.get(":event-type") for headers, _ in events] == [
        "messageStart",
        "contentBlockDelta",
        None,
    ]
    assert events[2][0][":exception-type"] == "throttlingException"
    assert [payload for _, payload in events] == [payload for _, payload in EXPECTED]


def test_wire_11_split_at_every_byte() -> None:
    for cut in range(len(STREAM) + 1):
        assert frames([STREAM[:cut], STREAM[cut:]]) == EXPECTED
    assert frames([STREAM[i : i + 1] for i in range(len(STREAM))]) == EXPECTED


def test_frames_keep_their_bytes() -> None:
    assert [frame.raw for frame in EventStreamSplitter().feed(STREAM)] == [ONE, TWO, LAST]


@pytest.mark.parametrize("at", range(0, len(ONE), 3))
def test_wire_11_a_flipped_byte_fails_the_checksum(at: int) -> None:
    broken = bytearray(ONE)
    broken[at] ^= 0x40
    splitter = EventStreamSplitter()
    with pytest.raises(Garbled):
        splitter.feed(bytes(broken))
    assert not splitter.pending


def test_a_message_cut_short_is_none() -> None:
    splitter = EventStreamSplitter()
    assert splitter.feed(ONE[:-1]) == []
    assert splitter.pending
    assert splitter.finish() == []
    assert not splitter.pending


def test_too_large_a_message_is_refused_before_it_is_held() -> None:
    import struct
    from zlib import crc32

    lengths = struct.pack(">II", MAX_FRAME_BYTES + 1, 0)
    with pytest.raises(Garbled, match="larger"):
        EventStreamSplitter().feed(lengths + struct.pack(">I", crc32(lengths)))


def test_unmodelled_errors_say_what_their_headers_say() -> None:
    raw = eventstream.message(
        {":message-type": "error", ":error-code": "InternalError", ":error-message": "oh"}, b""
    )
    assert frames([raw]) == [("exception:InternalError", b'{"message":"oh"}')]


def test_headers_of_every_type_are_walked_over() -> None:
    """true, false, byte, short, int, long, bytes, string, timestamp, uuid."""
    typed = b"".join(
        b"\x01" + bytes((ord("a") + kind,)) + bytes((kind,)) + value
        for kind, value in [
            (0, b""),
            (1, b""),
            (2, b"x"),
            (3, b"xx"),
            (4, b"xxxx"),
            (5, b"x" * 8),
            (6, b"\x00\x02ab"),
            (7, b"\x00\x02ab"),
            (8, b"x" * 8),
            (9, b"x" * 16),
        ]
    )
    assert eventstream._headers(typed) == {"h": "ab"}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_headers_of_any_bytes_raise_garbled_only(raw: bytes) -> None:
    try:
        eventstream._headers(raw)
    except Garbled:
        pass


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=80), st.integers(min_value=0, max_value=len(STREAM)))
def test_garbage_anywhere_is_garbled_and_never_a_wrong_frame(garbage: bytes, at: int) -> None:
    try:
        found = frames([STREAM[:at] + garbage + STREAM[at:]])
    except Garbled:
        return
    assert found == EXPECTED[: len(found)]
