"""Cancelling, deadlines and backpressure: what was opened is closed, and the server sees it."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.files import no_room_for_files
from tests.transport.certificates import server_context
from tests.transport.rawserver import Peer, always, answer, serving
from tieline.transport.base import Transport, TransportError, UpstreamRequest
from tieline.transport.dial import _first_to_connect
from tieline.transport.http1 import Http1Transport
from tieline.transport.limits import PoolLimits
from tieline.transport.proxied import ProxiedTransport

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.closed()


async def starts(peer: Peer) -> None:
    await peer.request()
    await peer.say(CHUNKED + b"1\r\na\r\n")
    await peer.closed()


async def cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancel_while_waiting_for_headers(transport: Http1Transport) -> None:
    async with serving(silent) as server:
        task = asyncio.create_task(transport.send(server.request()))
        while not server.requests:
            await asyncio.sleep(0.005)
        assert transport.in_flight == 1
        await cancel(task)
        assert transport.in_flight == 0
        await server.until_closed()
        assert transport.open_connections == 0


@pytest.mark.parametrize("how", ["read", "pipe"])
async def test_cancel_within_the_body(how: str, transport: Http1Transport) -> None:
    async with serving(starts) as server:
        response = await transport.send(server.request())
        work = response.read(100) if how == "read" else response.pipe(lambda data: None)
        task = asyncio.create_task(work)
        await asyncio.sleep(0.02)
        await cancel(task)
        assert transport.in_flight == 0
        await server.until_closed()
        assert transport.open_connections == 0


@contextmanager
def unanswered() -> Iterator[int]:
    """A port of 127.0.0.1 whose backlog is full, so that connecting to it takes for ever."""
    with socket.socket() as listener, ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_cancel_while_connecting(transport: Http1Transport) -> None:
    with unanswered() as port:
        request = UpstreamRequest(url=f"http://127.0.0.1:{port}/", headers=[], connect_timeout_s=0.1)
        task = asyncio.create_task(transport.send(request))
        await asyncio.sleep(0.02)
        assert transport.in_flight == 1
        await cancel(task)
        assert transport.in_flight == transport.open_connections == 0
        with pytest.raises(TransportError) as caught:
            await transport.send(request)
        assert (caught.value.kind, caught.value.sent) == ("timeout", False)


async def test_a_dead_address_costs_only_its_head_start() -> None:
    """As with an IPv6 path that swallows packets: the second address wins, the first attempt is given up."""
    loop = asyncio.get_running_loop()
    async with serving(always(answer())) as server:
        with unanswered() as port:
            where = [
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", p)) for p in (port, server.port)
            ]
            started = loop.time()
            sock = await _first_to_connect(loop, where)
            assert sock.getpeername()[1] == server.port
            assert 0.2 < loop.time() - started < 2
            sock.close()
            await asyncio.sleep(0)


async def test_the_last_failure_of_several_addresses_is_raised() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = (socket.AF_INET, socket.SOCK_STREAM, 0, "", free.getsockname())
        with pytest.raises(ConnectionRefusedError):
            await _first_to_connect(loop, [where, where])


async def test_giving_up_leaves_nothing_behind_a_stuck_origin() -> None:
    transport = Http1Transport(limits=PoolLimits(max_connections=1, wait_s=0.001))
    async with serving(starts) as server:
        held = await transport.send(server.request())
        for _ in range(20):
            with pytest.raises(TransportError):
                await transport.send(server.request())
        assert [len(pool.waiters) for pool in transport._pools.values()] == [0]
        held.close()
        await transport.aclose()


@pytest.mark.parametrize("ends", ["cancel", "timeout", "aclose"])
async def test_the_tls_handshake_can_be_given_up(ends: str, transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.closed()

    async with serving(script) as server:
        url = server.url.replace("http:", "https:")
        timeout_s = 0.5 if ends == "timeout" else 5.0
        request = UpstreamRequest(url=url, headers=[], connect_timeout_s=timeout_s)
        task = asyncio.create_task(transport.send(request))
        while not server.accepted:
            await asyncio.sleep(0.005)
        if ends == "cancel":
            await cancel(task)
        elif ends == "aclose":
            await transport.aclose()
        if ends != "cancel":
            with pytest.raises(TransportError) as caught:
                await task
            assert caught.value.kind == {"timeout": "timeout", "aclose": "closed"}[ends]
        await server.until_closed()
        assert transport.in_flight == 0


async def test_cancel_while_waiting_for_the_pool() -> None:
    transport = Http1Transport(limits=PoolLimits(max_connections=1))
    async with serving(starts) as server:
        held = await transport.send(server.request())
        waiting = asyncio.create_task(transport.send(server.request()))
        await asyncio.sleep(0.01)
        await cancel(waiting)
        assert transport.in_flight == 1
        # Granted the place and cancelled within the same step: the place must not be lost.
        waiting = asyncio.create_task(transport.send(server.request()))
        await asyncio.sleep(0.01)
        held.close()
        await cancel(waiting)
        assert transport.in_flight == 0
        last = await transport.send(server.request())
        assert last.status == 200
        await transport.aclose()
        await server.until_closed()


async def test_a_connection_handed_to_a_cancelled_request_goes_on() -> None:
    """The second request is cancelled after it was given the connection and before it could run."""
    transport = Http1Transport(limits=PoolLimits(max_connections=1))
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(answer()[:-2])
            await release.wait()
            await peer.say(b"ok")

    async with serving(script) as server:
        first = await transport.send(server.request())
        second = asyncio.create_task(transport.send(server.request()))
        third = asyncio.create_task(transport.send(server.request()))
        await asyncio.sleep(0.01)
        release.set()
        await first.pipe(lambda data: asyncio.get_running_loop().call_soon(second.cancel) and None)
        assert await (await third).read(10) == b"ok"
        assert second.cancelled()
        assert server.accepted == 1
        assert len(server.requests) == 2
        assert transport.in_flight == 0
        await transport.aclose()


async def test_the_response_timeout_closes(transport: Http1Transport) -> None:
    async with serving(silent) as server:
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request(response_timeout_s=0.05))
        assert (caught.value.kind, caught.value.sent) == ("timeout", True)
        await server.until_closed()


async def test_the_response_timeout_ends_with_the_headers(transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer(b"abc")[:-3])
        await asyncio.sleep(0.15)
        await peer.say(b"abc")
        await peer.closed()

    async with serving(script) as server:
        response = await transport.send(server.request(response_timeout_s=0.1))
        assert await response.read(10) == b"abc"


@pytest.mark.parametrize("first_s", [0.2, 30.0])
async def test_each_request_of_a_connection_has_its_own_timeout(
    transport: Http1Transport, first_s: float
) -> None:
    """Shorter than the one before it, or longer."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer())
        await peer.request()
        await peer.closed()

    async with serving(script) as server:
        await (await transport.send(server.request(response_timeout_s=first_s))).read(10)
        began = asyncio.get_running_loop().time()
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request(response_timeout_s=0.4))
        took = asyncio.get_running_loop().time() - began
        assert (caught.value.kind, caught.value.sent) == ("timeout", True)
        assert 0.39 <= took < 2
        assert server.accepted == 1
        await server.until_closed()


async def test_nobody_listens(transport: Http1Transport) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        with pytest.raises(TransportError) as caught:
            await transport.send(UpstreamRequest(url=url, headers=[]))
    assert (caught.value.kind, caught.value.sent) == ("connect", False)
    assert transport.in_flight == 0


@pytest.mark.parametrize("make", [Http1Transport, ProxiedTransport])
async def test_no_room_for_another_connection(make: Callable[[], Transport]) -> None:
    transport = make()
    async with serving(always(answer())) as server, serving(always(answer())) as other:
        assert await (await transport.send(other.request())).read(10) == b"ok"
        with no_room_for_files(), pytest.raises(TransportError) as caught:
            await transport.send(server.request())
        assert (caught.value.kind, caught.value.sent) == ("local", False)
        assert "Too many open files" in caught.value.message
        assert await (await transport.send(server.request())).read(10) == b"ok"
    await transport.aclose()


async def test_a_name_that_does_not_exist(transport: Http1Transport) -> None:
    with pytest.raises(TransportError) as caught:
        await transport.send(UpstreamRequest(url="http://no-such-host.invalid/", headers=[]))
    assert (caught.value.kind, caught.value.sent) == ("dns", False)


async def test_the_second_address_is_tried(transport: Http1Transport) -> None:
    """``localhost`` may be ::1 first, where nobody listens."""
    async with serving(always(answer())) as server:
        url = f"http://localhost:{server.port}/"
        assert (await transport.send(server.request(url=url))).status == 200


async def test_tls_with_a_known_authority(tmp_path: Path) -> None:
    context, ca_file = server_context(tmp_path)
    transport = Http1Transport(ca_file=ca_file)
    async with serving(always(answer(b"x" * 100_000)), tls=context) as server:
        for _ in range(3):
            assert len(await (await transport.send(server.request(b"y" * 300_000))).read(100_000)) == 100_000
        assert server.accepted == 1
        assert len(server.requests[2]) > 300_000
        await transport.aclose()
        assert transport.open_connections == 0
        await server.until_closed()


async def test_tls_with_an_unknown_authority(tmp_path: Path, transport: Http1Transport) -> None:
    context, _ = server_context(tmp_path)
    async with serving(always(answer()), tls=context) as server:
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request())
        assert (caught.value.kind, caught.value.sent) == ("tls", False)
        assert "certificate" in caught.value.message
        assert transport.in_flight == 0


async def test_tls_with_another_name(tmp_path: Path) -> None:
    context, ca_file = server_context(tmp_path)
    transport = Http1Transport(ca_file=ca_file)
    async with serving(always(answer()), tls=context) as server:
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request(url=f"https://127.0.0.1:{server.port}/"))
        assert caught.value.kind == "tls"


async def test_tls_to_a_server_without_it(transport: Http1Transport) -> None:
    async with serving(always(answer())) as server:
        with pytest.raises(TransportError) as caught:
            url = server.url.replace("http:", "https:")
            await transport.send(server.request(url=url, connect_timeout_s=0.3))
        assert caught.value.kind in ("tls", "timeout")
        assert caught.value.sent is False


async def test_a_ca_file_that_is_not_there() -> None:
    with pytest.raises(TransportError) as caught:
        await Http1Transport(ca_file="/nowhere/ca.pem").send(
            UpstreamRequest(url="https://a.test/", headers=[])
        )
    assert caught.value.kind == "tls"


@pytest.mark.parametrize("claimed", [True, False])
async def test_a_slow_caller_slows_the_server(claimed: bool, transport: Http1Transport) -> None:
    """64 MiB are offered; neither a paused response nor one nobody reads takes more than the buffers of the socket."""
    piece = b"x" * 65_536
    written = 0

    async def script(peer: Peer) -> None:
        nonlocal written
        await peer.request()
        await peer.say(CHUNKED)
        for _ in range(1024):
            await peer.say(b"10000\r\n" + piece + b"\r\n")
            written += len(piece)
        await peer.say(b"0\r\n\r\n")
        await peer.closed()

    total = 0

    def on_data(data: bytes) -> None:
        nonlocal total
        total += len(data)

    async with serving(script) as server:
        tracemalloc.start()
        response = await transport.send(server.request())
        if claimed:
            response.pause()
            piping = asyncio.create_task(response.pipe(on_data))
        await asyncio.sleep(0.3)
        stalled = written
        await asyncio.sleep(0.1)
        assert written == stalled < 32 * 1024 * 1024
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
        tracemalloc.stop()
        if claimed:
            response.resume()
            await piping
        else:
            await response.pipe(on_data)
        assert total == 1024 * 65_536


async def test_pausing_within_the_callback(transport: Http1Transport) -> None:
    loop = asyncio.get_running_loop()
    async with serving(always(CHUNKED + b"400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n")) as server:
        response = await transport.send(server.request())

        def on_data(data: bytes) -> None:
            response.pause()
            loop.call_later(0.01, response.resume)

        await response.pipe(on_data)
        for _ in range(2):
            assert len(await (await transport.send(server.request())).read(1024)) == 1024
        assert server.accepted == 1


async def test_a_large_body_waits_for_the_server(transport: Http1Transport) -> None:
    body = bytes(range(256)) * 65_536
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await go.wait()
        while True:
            request = await peer.request()
            await peer.say(answer(b"%d" % len(request)))

    async with serving(script) as server:
        task = asyncio.create_task(transport.send(server.request(body)))
        await asyncio.sleep(0.1)
        connection = next(iter(transport._connections))
        assert connection._transport.get_write_buffer_size() < 1024 * 1024
        go.set()
        response = await task
        assert int(await response.read(100)) > len(body)
        assert server.requests[0].endswith(body)
        await (await transport.send(server.request())).read(100)
        assert server.accepted == 1


async def test_an_answer_before_the_body_is_sent(transport: Http1Transport) -> None:
    """The server refuses a large body by its headers; its answer counts and the connection is not used again."""

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(answer(b"too long", status=b"413 Content Too Large"))
        await peer.closed()

    async with serving(script) as server:
        response = await transport.send(server.request(b"x" * 50_000_000))
        assert response.status == 413
        assert await response.read(100) == b"too long"
        assert transport.idle_connections == 0
        await server.until_closed()
