"""Any way of cutting a valid response into segments gives the same body, and the connection is used again."""

from __future__ import annotations

import asyncio
import gzip
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.transport.connection import Connection
from tieline.transport.limits import PoolLimits
from tieline.transport.outbox import Outbox
from tieline.transport.pool import Pool


class Wire(asyncio.Transport):
    """The least of a transport that a Connection needs; the bytes come from the test."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Owner:
    def __init__(self) -> None:
        self.outbox = Outbox()
        self.free = 0

    def freed(self, connection: Connection) -> None:
        self.free += 1

    def doomed(self, connection: Connection) -> None: ...

    def gone(self, connection: Connection) -> None: ...


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, bytes]:
    body = draw(st.binary(max_size=400))
    zipped = draw(st.booleans())
    sent = gzip.compress(body, mtime=0) if zipped else body
    head = b"HTTP/1.1 200 OK\r\nX-Any: thing\r\n" + (b"content-encoding: gzip\r\n" if zipped else b"")
    if draw(st.booleans()):
        return head + b"Content-Length: %d\r\n\r\n" % len(sent) + sent, body
    raw = head + b"Transfer-Encoding: chunked\r\n\r\n"
    while sent:
        size = draw(st.integers(1, len(sent)))
        raw += b"%x" % size + draw(st.sampled_from([b"", b";a=b"])) + b"\r\n" + sent[:size] + b"\r\n"
        sent = sent[size:]
    return raw + b"0\r\n" + draw(st.sampled_from([b"", b"t: 1\r\n"])) + b"\r\n", body


@settings(max_examples=100, deadline=None)
@given(st.lists(responses(), min_size=1, max_size=3), st.data(), st.booleans())
def test_any_segments(several: list[tuple[bytes, bytes]], data: st.DataObject, piped: bool) -> None:
    async def play() -> None:
        owner = Owner()
        connection = Connection(owner, Pool("http://test:80", PoolLimits()), asyncio.get_running_loop())
        connection.connection_made(Wire())
        for count, (raw, body) in enumerate(several, 1):
            exchange = connection.start(b"GET / HTTP/1.1\r\n\r\n", b"", False)
            connection.flush()
            cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=12)))
            for start, end in itertools.pairwise([0, *cuts, len(raw)]):
                connection.data_received(raw[start:end])
            assert exchange.complete
            assert owner.free == count
            assert exchange.status == 200
            if piped:
                pieces: list[bytes] = []
                await exchange.pipe(pieces.append)
                assert b"".join(pieces) == body
            else:
                assert await exchange.read(1000) == body

    asyncio.run(play())
