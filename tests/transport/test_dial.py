"""How a connection is opened: a host's addresses, and reaching one of them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.transport.rawserver import always, answer, serving
from tieline.transport import dial
from tieline.transport.base import TransportError, UpstreamRequest
from tieline.transport.dial import Address, Lookups
from tieline.transport.http1 import Http1Transport
from tieline.transport.origin import Origin

HOST = Origin("http", "localhost", 80)


class Resolver:
    """The system's, counted, and held until told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = self.left = 0
        self.go = asyncio.Event()
        self._real = dial._look_up
        monkeypatch.setattr(dial, "_look_up", self)

    async def __call__(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> Sequence[Address]:
        self.asked += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        return await self._real(loop, host, port)


async def test_who_asks_meanwhile_shares_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, lookups, loop = Resolver(monkeypatch), Lookups(), asyncio.get_running_loop()
    asking = [asyncio.create_task(lookups.addresses(loop, HOST)) for _ in range(50)]
    asking.append(asyncio.create_task(lookups.addresses(loop, Origin("http", "localhost", 81))))
    await asyncio.sleep(0)
    resolver.go.set()
    found = await asyncio.gather(*asking)
    assert resolver.asked == 2
    assert all(answer is found[0] for answer in found[:50])
    assert {address[4][1] for address in found[0]} == {80}
    assert {address[4][1] for address in found[50]} == {81}
    await lookups.addresses(loop, HOST)
    assert resolver.asked == 3, "nothing is kept"


async def test_who_gives_up_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, lookups, loop = Resolver(monkeypatch), Lookups(), asyncio.get_running_loop()
    stays = asyncio.create_task(lookups.addresses(loop, HOST))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await lookups.addresses(loop, HOST)
    resolver.go.set()
    assert await stays
    assert (resolver.asked, resolver.left) == (1, 0)


async def test_a_lookup_that_nobody_waits_for_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, lookups, loop = Resolver(monkeypatch), Lookups(), asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.gather(*(lookups.addresses(loop, HOST) for _ in range(3)))
    await asyncio.sleep(0)
    assert (resolver.asked, resolver.left) == (1, 1)
    resolver.go.set()
    assert await lookups.addresses(loop, HOST)
    assert resolver.asked == 2


async def test_an_unknown_host_is_told_to_all_who_ask(transport: Http1Transport) -> None:
    ask = UpstreamRequest(url="http://no-such-host.invalid/v1", headers=[], body=b"{}")
    failures = await asyncio.gather(*(transport.send(ask) for _ in range(20)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [TransportError] * 20
    assert {failure.kind for failure in failures if isinstance(failure, TransportError)} == {"dns"}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_is_not_looked_up(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, loop = Resolver(monkeypatch), asyncio.get_running_loop()
    found = await Lookups().addresses(loop, Origin("http", host, 8080))
    assert found == socket.getaddrinfo(host, 8080, type=socket.SOCK_STREAM)
    assert resolver.asked == 0


async def test_a_host_by_name_is_reached(transport: Http1Transport) -> None:
    async with serving(always(answer())) as server:
        request = server.request()
        request.url = request.url.replace("127.0.0.1", "localhost")
        assert await (await transport.send(request)).read(10) == b"ok"


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_reaching_an_address_takes_no_thread() -> None:
    script = """
import asyncio, os, socket, uvloop
from tieline.transport.dial import Lookups, _connect
from tieline.transport.origin import Origin

async def main():
    loop = asyncio.get_running_loop()
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    (address,) = await Lookups().addresses(loop, Origin("http", "127.0.0.1", port))
    sock = await _connect(loop, address)
    print(sock.getpeername()[1] == port, len(os.listdir("/proc/self/task")))
    sock.close()
    server.close()

uvloop.run(main())
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert said.stdout.split() == ["True", "1"], said.stderr
