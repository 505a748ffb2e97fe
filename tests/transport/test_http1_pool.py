"""Which connection serves whom: reuse, expiry, limits, stale connections."""

from __future__ import annotations

import asyncio

import pytest

from tests.transport.rawserver import Peer, always, answer, serving
from tieline.transport.base import TransportError
from tieline.transport.http1 import Http1Transport
from tieline.transport.limits import PoolLimits


async def test_200_requests_share_20_connections() -> None:
    transport = Http1Transport(limits=PoolLimits(max_connections=20))

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(0.002)
            await peer.say(answer())

    async with serving(script) as server:

        async def one() -> bytes:
            return await (await transport.send(server.request())).read(10)

        assert await asyncio.gather(*[one() for _ in range(200)]) == [b"ok"] * 200
        assert server.most_open == server.accepted == 20
        assert transport.in_flight == 0
        assert transport.idle_connections == 20
        await transport.aclose()
        await server.until_closed()


async def test_the_connection_used_last_is_used_first(transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        number = server.accepted
        while True:
            await peer.request()
            await asyncio.sleep(0.02)
            await peer.say(answer(b"%d" % number))

    async with serving(script) as server:

        async def one() -> bytes:
            return await (await transport.send(server.request())).read(10)

        await asyncio.gather(one(), one())
        last = await one()
        assert [await one() for _ in range(3)] == [last] * 3


async def test_an_idle_connection_expires() -> None:
    transport = Http1Transport(limits=PoolLimits(idle_s=0.1))
    async with serving(always(answer())) as server:
        await (await transport.send(server.request())).read(10)
        await server.until_closed()
        assert transport.open_connections == 0
        assert (await transport.send(server.request())).status == 200
    await transport.aclose()


async def test_what_a_burst_opened_is_there_for_the_next() -> None:
    transport = Http1Transport()
    async with serving(always(answer())) as server:
        for _ in range(2):
            responses = await asyncio.gather(*[transport.send(server.request()) for _ in range(150)])
            for response in responses:
                await response.read(10)
        assert transport.idle_connections == transport.open_connections == server.accepted == 150
        await transport.aclose()


async def test_expired_connections_make_room() -> None:
    """Those that the sweep has not come to yet must not keep a new request waiting."""
    transport = Http1Transport(limits=PoolLimits(max_connections=2, idle_s=1.0))
    async with serving(always(answer())) as server:
        for response in await asyncio.gather(*[transport.send(server.request()) for _ in range(2)]):
            await response.read(10)
        for pool in transport._pools.values():
            for connection in pool.idle:
                connection.expires_at = 0.0
        async with asyncio.timeout(0.5):
            assert (await transport.send(server.request())).status == 200
        await transport.aclose()


async def test_waiting_is_bounded_in_number_and_time() -> None:
    transport = Http1Transport(limits=PoolLimits(max_connections=1, max_waiting=1, wait_s=0.05))

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async with serving(script) as server:
        first = asyncio.create_task(transport.send(server.request()))
        await asyncio.sleep(0)
        second = asyncio.create_task(transport.send(server.request()))
        await asyncio.sleep(0)
        assert transport.in_flight == 2
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request())
        assert (caught.value.kind, caught.value.sent) == ("connect", False)
        with pytest.raises(TransportError) as caught:
            await second
        assert (caught.value.kind, caught.value.sent) == ("timeout", False)
        waiting = asyncio.create_task(transport.send(server.request()))
        await asyncio.sleep(0)
        await transport.aclose()
        for task in (first, waiting):
            with pytest.raises(TransportError) as caught:
                await task
            assert caught.value.kind == "closed"


async def test_a_failed_connection_gives_its_place_to_the_next() -> None:
    transport = Http1Transport(limits=PoolLimits(max_connections=1))

    async def script(peer: Peer) -> None:
        await peer.request()
        if server.accepted > 1:
            await peer.say(answer())

    async with serving(script) as server:
        results = await asyncio.gather(
            *[transport.send(server.request()) for _ in range(3)], return_exceptions=True
        )
        kinds = [getattr(result, "kind", "answered") for result in results]
        assert kinds == ["reset", "answered", "answered"]
        await transport.aclose()


async def test_a_server_that_closes_an_idle_connection_is_noticed(transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer())

    async with serving(script) as server:
        for _ in range(3):
            await (await transport.send(server.request())).read(10)
            await server.until_closed()
            await asyncio.sleep(0.02)
            assert transport.open_connections == transport.idle_connections == 0


async def test_an_idle_connection_that_speaks_is_dropped(transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer())
        await asyncio.sleep(0.02)
        await peer.say(answer(b"", status=b"408 Request Timeout"))
        await peer.closed()

    async with serving(script) as server:
        await (await transport.send(server.request())).read(10)
        await server.until_closed()
        assert transport.open_connections == 0


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_stale_connection_is_replaced_once(how: str, transport: Http1Transport) -> None:
    """The server reads the second request of a connection and closes instead of answering."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer())
        await peer.request()
        if how == "rst":
            peer.reset()

    async with serving(script) as server:
        await (await transport.send(server.request())).read(10)
        response = await transport.send(server.request(b"again"))
        assert await response.read(10) == b"ok"
        assert server.accepted == 2
        assert [request[-5:] for request in server.requests[1:]] == [b"again", b"again"]


async def test_work_that_broke_off_is_not_done_again_unseen(transport: Http1Transport) -> None:
    """Only what crosses the end of an idle connection is sent again here; who was silent for long may have worked, and been
    paid."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer())
        await peer.request()
        await asyncio.sleep(1.2)

    async with serving(script) as server:
        await (await transport.send(server.request())).read(10)
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request(b"again"))
        assert (caught.value.kind, caught.value.sent) == ("reset", True)
        assert len(server.requests) == 2


async def test_a_fresh_connection_is_not_retried(transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    async with serving(script) as server:
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request())
        assert caught.value.kind == "reset"
        assert server.accepted == len(server.requests) == 1


async def test_no_retry_once_a_byte_came_back(transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer())
        await peer.request()
        await peer.say(b"H")

    async with serving(script) as server:
        await (await transport.send(server.request())).read(10)
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request())
        assert (caught.value.kind, caught.value.sent) == ("reset", True)
        assert len(server.requests) == 2


async def test_a_retry_that_cannot_connect_says_that_bytes_were_sent(transport: Http1Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer())
        await peer.request()
        server.stop_listening()

    async with serving(script) as server:
        await (await transport.send(server.request())).read(10)
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request())
        assert (caught.value.kind, caught.value.sent) == ("connect", True)


async def test_origins_have_their_own_pools(transport: Http1Transport) -> None:
    async with serving(always(answer(b"one"))) as one, serving(always(answer(b"two"))) as two:
        assert await (await transport.send(one.request())).read(10) == b"one"
        assert await (await transport.send(two.request())).read(10) == b"two"
        assert {pool.origin: (pool.open, len(pool.idle)) for pool in transport._pools.values()} == {
            one.url: (1, 1),
            two.url: (1, 1),
        }


async def test_the_caches_by_url_and_origin_are_bounded(transport: Http1Transport) -> None:
    async with serving(always(answer())) as server:
        for number in range(1100):
            transport._locate(f"{server.url}/v1/{number}")
            transport._locate(f"http://host-{number}.test/")
        assert len(transport._targets) <= 1024
        assert len(transport._pools) <= 1024
        assert (await transport.send(server.request())).status == 200
