"""The second implementation and the choice between both, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import socket
from importlib.util import find_spec
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from tests.transport.certificates import server_context
from tests.transport.proxyserver import proxying
from tests.transport.rawserver import Peer, always, answer, serving
from tieline.transport.base import TransportError, UpstreamRequest
from tieline.transport.http1 import Http1Transport
from tieline.transport.origin import Origin, split_url
from tieline.transport.proxied import ProxiedTransport
from tieline.transport.routing import RoutingTransport, open_transport, proxy_for

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_a_forward_proxy_for_http() -> None:
    async with serving(always(answer(b"plain"))) as server, proxying(server.port) as proxy:
        transport = RoutingTransport(environ={"HTTP_PROXY": proxy.url})
        response = await transport.send(server.request(url="http://up.test/v1"))
        assert await response.read(10) == b"plain"
        assert proxy.seen[0].startswith(b"POST http://up.test/v1 HTTP/1.1\r\n")
        await transport.aclose()


async def test_a_tunnel_for_https(tmp_path: Path) -> None:
    context, ca_file = server_context(tmp_path)
    async with serving(always(answer(b"secret")), tls=context) as server, proxying(server.port) as proxy:
        transport = RoutingTransport(environ={"all_proxy": proxy.url}, ca_file=ca_file)
        for _ in range(2):
            response = await transport.send(server.request(b'{"a":1}', url="https://up.test/v1"))
            pieces: list[bytes] = []
            await response.pipe(pieces.append)
            assert b"".join(pieces) == b"secret"
        assert [head.split(b"\r\n")[0] for head in proxy.seen] == [b"CONNECT up.test:443 HTTP/1.1"]
        assert b"accept-encoding: identity" in server.requests[0].lower()
        assert server.requests[0].endswith(b'{"a":1}')
        await transport.aclose()
        await server.until_closed()


async def test_a_proxy_that_refuses() -> None:
    async with serving(always(answer())) as server, proxying(server.port) as proxy:
        proxy.refuse = True
        transport = ProxiedTransport(proxy=proxy.url)
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request(url="https://up.test/"))
        assert (caught.value.kind, caught.value.sent) == ("connect", False)
        assert "proxy" in caught.value.message
        await transport.aclose()


async def test_a_proxy_that_is_not_there_is_named() -> None:
    transport = ProxiedTransport(proxy="http://user:secret@127.0.0.1:1")
    with pytest.raises(TransportError) as caught:
        await transport.send(UpstreamRequest(url="https://up.test/", headers=[]))
    assert caught.value.kind == "connect"
    assert "proxy" in caught.value.message
    assert "secret" not in caught.value.message


async def test_what_socks_needs_is_named() -> None:
    """It is no part of ``tieline[proxy]``, so that installing that again would not help."""
    if find_spec("socksio") is not None:
        pytest.skip("socksio is installed")
    transport = ProxiedTransport(proxy="socks5://user:secret@127.0.0.1:1")
    with pytest.raises(TransportError) as caught:
        await transport.send(UpstreamRequest(url="https://up.test/", headers=[]))
    assert "httpx2[socks]" in caught.value.message
    assert "None" not in caught.value.message


async def test_a_proxy_address_that_makes_no_sense() -> None:
    transport = ProxiedTransport(proxy="gopher://x:secret@y")
    with pytest.raises(TransportError) as caught:
        await transport.send(UpstreamRequest(url="http://up.test/", headers=[]))
    assert caught.value.kind == "connect"
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", "reset"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "protocol"),
        (answer(b"12345")[:-2], "reset"),
        (CHUNKED + b"5\r\nhel", "reset"),
        (CHUNKED + b"zz\r\nhello\r\n", "protocol"),
        (answer(gzip.compress(b"x" * 99, mtime=0)[:-8], b"content-encoding: gzip"), "reset"),
        (answer(b"x" * 100), "too_large"),
    ],
)
async def test_damage_has_the_same_kinds_as_in_http1(raw: bytes, kind: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(raw)

    async with serving(script) as server:
        for transport in (Http1Transport(), ProxiedTransport()):
            with pytest.raises(TransportError) as caught:
                await (await transport.send(server.request())).read(99)
            assert (caught.value.kind, caught.value.sent) == (kind, True)
            assert transport.in_flight == 0
            await transport.aclose()


async def test_failures_to_connect_have_the_same_kinds(tmp_path: Path) -> None:
    transport = ProxiedTransport()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/"
        context, _ = server_context(tmp_path)
        async with serving(always(answer()), tls=context) as server:
            cases = {closed: "connect", "http://no-such-host.invalid/": "dns", f"{server.url}/": "tls"}
            for url, kind in cases.items():
                with pytest.raises(TransportError) as caught:
                    await transport.send(UpstreamRequest(url=url, headers=[]))
                assert (caught.value.kind, caught.value.sent) == (kind, False)
    await transport.aclose()


async def test_the_response_timeout() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    transport = ProxiedTransport()
    async with serving(script) as server:
        with pytest.raises(TransportError) as caught:
            await transport.send(server.request(response_timeout_s=0.1))
        assert (caught.value.kind, caught.value.sent) == ("timeout", True)
        await server.until_closed()
    await transport.aclose()


@pytest.mark.parametrize("how", ["abort", "cancel", "close", "raise"])
async def test_ending_within_the_body_closes(how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED, b"1\r\na\r\n")
        await peer.closed()

    transport = ProxiedTransport()

    def on_data(data: bytes) -> None:
        if how == "raise":
            raise ZeroDivisionError

    async with serving(script) as server:
        response = await transport.send(server.request())
        task = asyncio.create_task(response.pipe(on_data))
        await asyncio.sleep(0.05)
        if how == "abort":
            response.abort(KeyError())
        elif how == "close":
            response.close()
        elif how == "cancel":
            task.cancel()
        expected = {"abort": KeyError, "cancel": asyncio.CancelledError, "raise": ZeroDivisionError}
        with pytest.raises(expected.get(how, TransportError)):
            await task
        await server.until_closed()
        assert transport.in_flight == 0
    await transport.aclose()


async def test_a_paused_response_holds_the_next_piece() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED, b"1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\n", delay_s=0.01)
        await peer.closed()

    transport = ProxiedTransport()
    pieces: list[bytes] = []
    async with serving(script) as server:
        response = await transport.send(server.request())
        response.pause()
        task = asyncio.create_task(response.pipe(pieces.append))
        await asyncio.sleep(0.05)
        assert pieces == []
        response.resume()
        await task
        assert b"".join(pieces) == b"ab"
    await transport.aclose()


async def test_http2(tmp_path: Path) -> None:
    """Ten requests at once on one connection."""
    context, ca_file = server_context(tmp_path, alpn=["h2", "http/1.1"])

    async def script(peer: Peer) -> None:
        http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        http2.initiate_connection()
        await peer.say(http2.data_to_send())
        while data := await peer.reader.read(65536):
            for event in http2.receive_data(data):
                if isinstance(event, h2.events.StreamEnded):
                    http2.send_headers(event.stream_id, [(":status", "200"), ("X-Stream", "1")][:1])
                    http2.send_data(event.stream_id, b"two", end_stream=True)
            await peer.say(http2.data_to_send())

    async with serving(script, tls=context) as server:
        transport = open_transport(http2=True, environ={}, ca_file=ca_file)
        await (await transport.send(server.request())).read(10)
        responses = await asyncio.gather(*[transport.send(server.request()) for _ in range(10)])
        assert [await response.read(10) for response in responses] == [b"two"] * 10
        assert server.accepted == 1
        await transport.aclose()


async def test_the_usual_path_has_no_detour() -> None:
    assert isinstance(open_transport(environ={}), Http1Transport)
    assert isinstance(open_transport(environ={"NO_PROXY": "*"}), Http1Transport)
    assert isinstance(open_transport(environ={"HTTPS_PROXY": "http://p:1"}), RoutingTransport)


async def test_origins_without_proxy_go_direct() -> None:
    async with serving(always(answer(b"direct"))) as server:
        transport = RoutingTransport(environ={"HTTP_PROXY": "http://127.0.0.1:1"})
        for _ in range(2):
            response = await transport.send(server.request())
            assert await response.read(10) == b"direct"
        assert server.accepted == 1
        await transport.aclose()
        await server.until_closed()


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("https://a.test", {}, None),
        ("https://a.test", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.test", {"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:1"}, "http://low:1"),
        ("https://a.test", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://a.test", {"HTTP_PROXY": "p:1"}, "http://p:1"),
        ("http://a.test", {"ALL_PROXY": "socks5://p:1"}, "socks5://p:1"),
        ("https://a.test", {"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("https://a.test", {"ALL_PROXY": "http://p:1", "NO_PROXY": "b.test, a.test"}, None),
        ("https://x.a.test", {"ALL_PROXY": "http://p:1", "no_proxy": "a.test"}, None),
        ("https://x.a.test", {"ALL_PROXY": "http://p:1", "no_proxy": "*.a.test"}, None),
        ("https://xa.test", {"ALL_PROXY": "http://p:1", "NO_PROXY": ".a.test"}, "http://p:1"),
        ("https://a.test:8443", {"ALL_PROXY": "http://p:1", "NO_PROXY": "a.test:443"}, "http://p:1"),
        ("https://a.test:443", {"ALL_PROXY": "http://p:1", "NO_PROXY": "A.TEST:443"}, None),
        ("https://10.1.2.3", {"ALL_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, None),
        ("https://11.1.2.3", {"ALL_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8,,"}, "http://p:1"),
        ("https://[fd00::1]", {"ALL_PROXY": "http://p:1", "NO_PROXY": "[fd00::1]:443"}, None),
        ("http://localhost:11434", {"ALL_PROXY": "http://p:1"}, None),
        ("http://127.0.0.1:8000", {"ALL_PROXY": "http://p:1"}, None),
        ("http://169.254.169.254", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://169.254.170.2", {"HTTP_PROXY": "http://p:1"}, None),
    ],
)
def test_which_proxy(url: str, environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(split_url(url)[0], environ) == proxy


def test_an_origin_reads_as_a_url() -> None:
    assert str(Origin("https", "::1", 443)) == "https://[::1]:443"
