"""What Http1Transport does with responses of every shape, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from tests.transport.rawserver import Peer, always, answer, serving
from tieline.transport.base import TransportError
from tieline.transport.http1 import Http1Transport

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_a_small_post_and_its_answer(transport: Http1Transport) -> None:
    async with serving(always(answer(b'{"a":1}', b"X-Thing: 7"))) as server:
        response = await transport.send(server.request(b'{"q":2}'))
        assert response.status == 200
        assert response.header(b"x-thing") == b"7"
        assert await response.read(1000) == b'{"a":1}'
        assert server.requests == [
            b"POST /v1/chat HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nx-test: 1\r\n" % server.port
            + b'accept-encoding: identity\r\ncontent-length: 7\r\n\r\n{"q":2}'
        ]


async def test_a_connection_is_used_again(transport: Http1Transport) -> None:
    async with serving(always(answer())) as server:
        for _ in range(5):
            assert await (await transport.send(server.request())).read(10) == b"ok"
        assert server.accepted == 1
        assert transport.open_connections == transport.idle_connections == 1
        assert transport.in_flight == 0


async def test_read_does_not_suspend_when_all_came_at_once(transport: Http1Transport) -> None:
    async with serving(always(answer(b"abc"))) as server:
        response = await transport.send(server.request())
        steps = response.read(10)
        with pytest.raises(StopIteration) as stop:
            steps.send(None)
        assert stop.value.value == b"abc"


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (answer(b"hello"), b"hello"),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (CHUNKED + b'2;ext="a b"\r\nhe\r\n3;x\r\nllo\r\n0\r\nx-trailer: 1\r\n\r\n', b"hello"),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + answer(b"late"),
            b"late",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n", b""),
        (answer(gzip.compress(b"zipped", mtime=0), b"content-encoding: gzip"), b"zipped"),
        (answer(zlib.compress(b"zlib"), b"content-encoding: deflate"), b"zlib"),
        (answer(zlib.compress(b"raw")[2:-4], b"content-encoding: deflate"), b"raw"),
        (answer(gzip.compress(b"a", mtime=0) + gzip.compress(b"b"), b"content-encoding: gzip"), b"ab"),
    ],
)
async def test_split_at_every_byte(raw: bytes, body: bytes, transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for index in range(len(raw)):
                await peer.say(raw[index : index + 1])
                await asyncio.sleep(0)

    async with serving(script) as server:
        for _ in range(2):
            response = await transport.send(server.request())
            assert response.status in (200, 204, 304)
            assert await response.read(1000) == body
        pieces: list[bytes] = []
        await (await transport.send(server.request())).pipe(pieces.append)
        assert b"".join(pieces) == body
        assert server.accepted == 1
        names = [name for name, _ in response.headers]
        assert b"x-trailer" not in names
        assert b"content-encoding" not in names


async def test_a_head_request_has_no_body(transport: Http1Transport) -> None:
    async with serving(always(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n")) as server:
        for _ in range(3):
            response = await transport.send(server.request(b"", method="HEAD"))
            assert await response.read(10) == b""
        assert server.accepted == 1
        assert b"content-length" not in server.requests[0]


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
async def test_a_body_without_length_ends_with_the_connection(head: bytes, transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(head, b"one", b"two", delay_s=0.01)

    async with serving(script) as server:
        response = await transport.send(server.request())
        assert await response.read(100) == b"onetwo"
        assert transport.idle_connections == 0


@pytest.mark.parametrize("header", [b"connection: close", b"Connection: Close"])
async def test_connection_close_is_respected(header: bytes, transport: Http1Transport) -> None:
    async with serving(always(answer(b"x", header))) as server:
        assert await (await transport.send(server.request())).read(10) == b"x"
        assert transport.idle_connections == 0
        await server.until_closed()


@pytest.mark.parametrize("surplus", [b"garbage", answer(b"second"), b"H"])
async def test_bytes_after_a_response_spoil_the_connection(surplus: bytes, transport: Http1Transport) -> None:
    async with serving(always(answer(b"first") + surplus)) as server:
        for _ in range(2):
            assert await (await transport.send(server.request())).read(10) == b"first"
            assert transport.idle_connections == 0
        assert server.accepted == 2


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (answer(b"12345")[:-2], "reset"),
        (CHUNKED + b"5\r\nhel", "reset"),
        (CHUNKED + b"5\r\nhello\r\n", "reset"),
        (CHUNKED + b"zz\r\nhello\r\n", "protocol"),
        (CHUNKED + b"5\r\nhelloXX", "protocol"),
        (answer(gzip.compress(b"x" * 99, mtime=0)[:-8], b"content-encoding: gzip"), "reset"),
        (answer(b"not gzip", b"content-encoding: gzip"), "protocol"),
        (answer(b"x", b"content-encoding: br"), "protocol"),
    ],
)
@pytest.mark.parametrize("piped", [True, False])
async def test_a_damaged_body(raw: bytes, kind: str, piped: bool, transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(raw)

    async with serving(script) as server:
        response = await transport.send(server.request())
        with pytest.raises(TransportError) as caught:
            await (response.pipe(lambda data: None) if piped else response.read(1000))
        assert (caught.value.kind, caught.value.sent) == (kind, True)
        await server.until_closed()


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", "reset"),
        (b"HTTP/1.1 20", "reset"),
        (b"HTTP/1.1 200 OK\r\nx: y\r\n", "reset"),
        (b"SSH-2.0-OpenSSH\r\n", "protocol"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "protocol"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000 + b"\r\n", "too_large"),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 500_000 + b"\r\n\r\n", "too_large"),
        (b"HTTP/1.1 103 Hints\r\n\r\n" * 10_000, "too_large"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nx", "protocol"),
    ],
)
async def test_a_damaged_head(raw: bytes, kind: str, transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(raw)

    async with serving(script) as server:
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request())
        assert (caught.value.kind, caught.value.sent) == (kind, True)
        await server.until_closed()
        assert transport.in_flight == 0


@pytest.mark.parametrize(
    "flood",
    [
        b"1;" + b"e" * 300_000,
        b"1\r\nx\r\n0\r\n" + b"t: r\r\n" * 50_000,
        b"1\r\nx\r\n0\r\nt: " + b"r" * 300_000,
    ],
)
async def test_extensions_and_trailers_are_bounded(flood: bytes, transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED, flood)
        await peer.closed()

    async with serving(script) as server:
        response = await transport.send(server.request())
        with pytest.raises(TransportError) as caught:
            await response.read(1000)
        assert caught.value.kind == "too_large"
        await server.until_closed()


@pytest.mark.parametrize("raw", [answer(b"x" * 5000), CHUNKED + b"1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n"])
@pytest.mark.parametrize("delay_s", [0, 0.01])
async def test_a_body_beyond_the_limit(raw: bytes, delay_s: float, transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(raw[:2000], raw[2000:], delay_s=delay_s)

    async with serving(script) as server:
        response = await transport.send(server.request())
        with pytest.raises(TransportError) as caught:
            await response.read(4999)
        assert caught.value.kind == "too_large"
        response = await transport.send(server.request())
        assert len(await response.read(5000)) == 5000


async def test_a_decompression_bomb_stops_at_the_limit(transport: Http1Transport) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000, mtime=0)
    async with serving(always(answer(bomb, b"content-encoding: gzip"))) as server:
        with pytest.raises(TransportError) as caught:
            await (await transport.send(server.request())).read(1_000_000)
        assert caught.value.kind == "too_large"
        with pytest.raises(TransportError) as caught:
            await (await transport.send(server.request())).pipe(lambda data: None)
        assert caught.value.kind == "too_large"


async def test_a_reset_within_the_body_still_gives_what_came(transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED + b"5\r\nhello\r\n")
        await asyncio.sleep(0.05)
        peer.reset()

    async with serving(script) as server:
        response = await transport.send(server.request())
        await asyncio.sleep(0.1)
        pieces: list[bytes] = []
        with pytest.raises(TransportError) as caught:
            await response.pipe(pieces.append)
        assert caught.value.kind == "reset"
        assert pieces == [b"hello"]


async def test_what_on_data_raises_closes_and_is_raised(transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED, b"1\r\na\r\n", b"1\r\nb\r\n", b"1\r\nc\r\n", delay_s=0.02)
        await peer.closed()

    seen: list[bytes] = []

    def on_data(data: bytes) -> None:
        seen.append(data)
        if data == b"b":
            raise ZeroDivisionError

    async with serving(script) as server:
        response = await transport.send(server.request())
        with pytest.raises(ZeroDivisionError):
            await response.pipe(on_data)
        assert seen == [b"a", b"b"]
        await server.until_closed()
        assert transport.open_connections == 0


async def test_abort_wakes_the_reader_with_its_error(transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED)
        await peer.closed()

    async with serving(script) as server:
        response = await transport.send(server.request())
        asyncio.get_running_loop().call_later(0.02, response.abort, KeyError("stall"))
        with pytest.raises(KeyError, match="stall"):
            await response.pipe(lambda data: None)
        await server.until_closed()
        response.close()
        response.abort(ValueError())


async def test_close_before_the_end_closes_the_connection(transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED)
        await peer.closed()

    async with serving(script) as server:
        response = await transport.send(server.request())
        response.close()
        response.close()
        await server.until_closed()
        with pytest.raises(TransportError) as caught:
            await response.read(10)
        assert caught.value.kind == "closed"


async def test_a_body_is_given_once(transport: Http1Transport) -> None:
    async with serving(always(answer())) as server:
        response = await transport.send(server.request())
        await response.read(10)
        with pytest.raises(RuntimeError):
            await response.read(10)


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "ftp://127.0.0.1/"},
        {"url": "http://127.0.0.1/a b"},
        {"url": "http://user:pass@127.0.0.1/"},
        {"url": "http://127.0.0.1:99999/"},
        {"url": "http:///x"},
        {"headers": [(b"a", b"b\r\nhost: evil")]},
        {"headers": [(b"a", b"b\n")]},
        {"headers": [(b"a\r", b"b")]},
        {"headers": [(b"a", b"b\0")]},
        {"method": "GET / HTTP/1.1\r\n"},
    ],
)
async def test_requests_that_would_smuggle_are_refused(
    changes: dict[str, object], transport: Http1Transport
) -> None:
    async with serving(always(answer())) as server:
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request(**changes))
        assert (caught.value.kind, caught.value.sent) == ("protocol", False)
        assert server.accepted == 0


async def test_framing_headers_are_ours(transport: Http1Transport) -> None:
    async with serving(always(answer())) as server:
        headers = [(b"content-length", b"99"), (b"transfer-encoding", b"chunked"), (b"host", b"x")]
        await (await transport.send(server.request(b"abc", headers=headers))).read(9)
        assert server.requests[0].endswith(b"content-length: 3\r\n\r\nabc")
        assert b"chunked" not in server.requests[0]


async def test_an_accept_encoding_of_the_caller_is_kept(transport: Http1Transport) -> None:
    async with serving(always(answer())) as server:
        await (await transport.send(server.request(headers=[(b"accept-encoding", b"gzip")]))).read(9)
        assert server.requests[0].count(b"accept-encoding") == 1
        assert b"accept-encoding: gzip\r\n" in server.requests[0]


async def test_after_aclose_nothing_is_sent() -> None:
    transport = Http1Transport()
    async with serving(always(answer())) as server:
        await (await transport.send(server.request())).read(9)
        await transport.aclose()
        assert transport.open_connections == 0
        await server.until_closed()
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request())
        assert (caught.value.kind, caught.value.sent) == ("closed", False)


async def test_aclose_ends_what_is_under_way() -> None:
    transport = Http1Transport()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async with serving(script) as server:
        task = asyncio.create_task(transport.send(server.request()))
        while not server.requests:
            await asyncio.sleep(0.01)
        await transport.aclose()
        with pytest.raises(TransportError) as caught:
            await task
        assert caught.value.kind == "closed"
        await server.until_closed()
