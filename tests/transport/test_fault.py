"""Faults over a scripted transport, and over real sockets where closing matters."""

from __future__ import annotations

import asyncio

import pytest

from tests.transport.rawserver import Peer, always, answer, serving
from tieline.transport.base import TransportError, UpstreamRequest
from tieline.transport.fault import Fault, FaultTransport
from tieline.transport.http1 import Http1Transport
from tieline.transport.scripted import Scripted, ScriptedTransport

REQUEST = UpstreamRequest(url="https://a.test/v1", headers=[], body=b"{}", response_timeout_s=60)


class Clock:
    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


def broken(fault: Fault | None, clock: Clock | None = None) -> tuple[FaultTransport, ScriptedTransport]:
    inner = ScriptedTransport(lambda request: Scripted(chunks=[b"hello ", b"big ", b"world"]))
    return FaultTransport(inner, lambda request: fault, sleep=(clock or Clock()).sleep), inner


async def test_no_fault_changes_nothing() -> None:
    transport, _ = broken(None)
    assert await (await transport.send(REQUEST)).read(100) == b"hello big world"


@pytest.mark.parametrize(
    ("fault", "kind", "sent", "slept"),
    [
        (Fault(kind="connect"), "connect", False, []),
        (Fault(kind="dns", delay_s=2), "dns", False, [2]),
        (Fault(kind="tls"), "tls", False, []),
        (Fault(kind="reset"), "reset", True, []),
        (Fault(kind="silence"), "timeout", True, [60]),
        (Fault(kind="latency", delay_s=60), "timeout", True, [60]),
    ],
)
async def test_faults_before_the_headers(fault: Fault, kind: str, sent: bool, slept: list[float]) -> None:
    clock = Clock()
    transport, inner = broken(fault, clock)
    with pytest.raises(TransportError) as caught:
        await transport.send(REQUEST)
    assert (caught.value.kind, caught.value.sent) == (kind, sent)
    assert clock.slept == slept
    assert inner.requests == []


async def test_latency_then_the_answer() -> None:
    clock = Clock()
    transport, _ = broken(Fault(kind="latency", delay_s=20), clock)
    assert await (await transport.send(REQUEST)).read(100) == b"hello big world"
    assert clock.slept == [20]


@pytest.mark.parametrize("count", range(16))
async def test_cut_after_any_byte(count: int) -> None:
    transport, inner = broken(Fault(kind="cut", after_bytes=count))
    pieces: list[bytes] = []
    response = await transport.send(REQUEST)
    with pytest.raises(TransportError) as caught:
        await response.pipe(pieces.append)
    assert caught.value.kind == "reset"
    assert b"".join(pieces) == b"hello big world"[:count]
    assert inner.in_flight == 0


async def test_a_cut_beyond_the_end_does_nothing() -> None:
    transport, _ = broken(Fault(kind="cut", after_bytes=16))
    assert await (await transport.send(REQUEST)).read(100) == b"hello big world"


@pytest.mark.parametrize("count", range(16))
async def test_a_stall_that_ends(count: int) -> None:
    clock = Clock()
    transport, _ = broken(Fault(kind="stall", after_bytes=count, delay_s=30), clock)
    assert await (await transport.send(REQUEST)).read(100) == b"hello big world"
    assert clock.slept == [30]


@pytest.mark.parametrize("how", ["abort", "cancel", "close"])
async def test_a_stall_for_ever(how: str) -> None:
    transport, inner = broken(Fault(kind="stall", after_bytes=7))
    response = await transport.send(REQUEST)
    pieces: list[bytes] = []
    task = asyncio.create_task(response.pipe(pieces.append))
    await asyncio.sleep(0.02)
    assert b"".join(pieces) == b"hello b"
    assert not task.done()
    if how == "abort":
        response.abort(KeyError())
    elif how == "close":
        response.close()
    else:
        task.cancel()
    with pytest.raises({"abort": KeyError, "cancel": asyncio.CancelledError}.get(how, TransportError)):
        await task
    assert inner.in_flight == 0


async def test_garbled_bytes_keep_their_number() -> None:
    transport, _ = broken(Fault(kind="garble", after_bytes=8))
    body = await (await transport.send(REQUEST)).read(100)
    assert body[:8] == b"hello bi"
    assert len(body) == 15
    assert body[8:] != b"g world"


async def test_what_the_callback_raises_after_a_stall() -> None:
    transport, inner = broken(Fault(kind="stall", after_bytes=3, delay_s=1))

    def on_data(data: bytes) -> None:
        if data != b"hel":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await (await transport.send(REQUEST)).pipe(on_data)
    assert inner.in_flight == 0


@pytest.mark.parametrize("kind", ["cut", "stall"])
async def test_over_sockets_the_connection_is_closed(kind: str) -> None:
    inner = Http1Transport()
    fault = Fault(kind="cut", after_bytes=10) if kind == "cut" else Fault(kind="stall", after_bytes=10)
    transport = FaultTransport(inner, lambda request: fault)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer(b"x" * 1000)[:-500])
        await peer.closed()

    async with serving(script) as server:
        response = await transport.send(server.request())
        asyncio.get_running_loop().call_later(0.05, response.abort, TransportError("timeout", "", sent=True))
        with pytest.raises(TransportError) as caught:
            await response.read(1000)
        assert caught.value.kind == {"cut": "reset", "stall": "timeout"}[kind]
        await server.until_closed()
        assert inner.in_flight == 0
    await transport.aclose()


async def test_a_stall_over_sockets_that_ends() -> None:
    transport = FaultTransport(Http1Transport(), lambda r: Fault(kind="stall", after_bytes=1, delay_s=0.02))
    async with serving(always(answer(b"x" * 300_000))) as server:
        for _ in range(3):
            assert len(await (await transport.send(server.request())).read(300_000)) == 300_000
    await transport.aclose()
