"""The second implementation: through proxies and over HTTP/2, on httpx2 (``tieline[proxy]``). Slower than ``http1``."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from tieline.transport.base import TransportError, UpstreamRequest
from tieline.transport.body import Inflater, Piped
from tieline.transport.dial import NO_ROOM
from tieline.transport.interrupt import Interrupt
from tieline.transport.limits import PoolLimits
from tieline.transport.origin import split_url
from tieline.transport.target import FRAMING

if TYPE_CHECKING:
    import httpx2


_GONE = ("closed", "disconnect", "StreamReset", "ConnectionTerminated")


class ProxiedTransport:
    """``proxy`` is ``http://``, ``https://`` or ``socks5://``, user and password included; None goes direct."""

    def __init__(
        self,
        *,
        proxy: str | None = None,
        http2: bool = False,
        limits: PoolLimits | None = None,
        ca_file: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._proxy = proxy
        self._http2 = http2
        self._limits = limits or PoolLimits()
        self._ca_file = ca_file
        self._tls = tls
        self._client: httpx2.AsyncClient | None = None
        self._closed = False
        self._live: set[ProxiedResponse] = set()
        self._closing: set[asyncio.Task[None]] = set()

    async def send(self, request: UpstreamRequest) -> ProxiedResponse:
        if self._closed:
            raise TransportError("closed", "the transport is closed", sent=False)
        client = self._client or self._open()
        outgoing = _outgoing(request, self._limits.wait_s)
        try:
            async with asyncio.timeout(request.response_timeout_s):
                received = await client.send(outgoing, stream=True)
        except TimeoutError:
            raise TransportError("timeout", "no response within the time given", sent=True) from None
        except Exception as error:
            mapped = _mapped(error)
            if self._proxy is not None and mapped.kind == "connect":
                mapped.message = f"{mapped.message} (through the proxy that the environment names)"
            raise mapped from error
        response = ProxiedResponse(received, self._ended, self._in_background)
        self._live.add(response)
        return response

    async def aclose(self) -> None:
        self._closed = True
        for response in list(self._live):
            response.abort(TransportError("closed", "the transport was closed", sent=True))
        if self._closing:
            await asyncio.wait(self._closing)
        if self._client is not None:
            await self._client.aclose()

    @property
    def in_flight(self) -> int:
        return len(self._live)

    def _open(self) -> httpx2.AsyncClient:
        try:
            import httpx2

            limits = httpx2.Limits(
                max_connections=self._limits.max_connections,
                max_keepalive_connections=self._limits.max_connections,
                keepalive_expiry=self._limits.idle_s,
            )
            tls = self._tls or ssl.create_default_context(cafile=self._ca_file)
            self._client = httpx2.AsyncClient(
                verify=tls, http2=self._http2, proxy=self._proxy, trust_env=False, limits=limits
            )
        except ImportError as error:
            wanted = "a proxy or HTTP/2 needs 'pip install tieline[proxy]'"
            if error.name is None:  # httpx2's own, of what it needs for SOCKS and has only as an extra
                wanted = "a SOCKS proxy needs 'pip install httpx2[socks]'"
            message = f"{wanted} ({error.name or 'socksio'} is missing)"
            raise TransportError("connect", message, sent=False) from error
        except OSError as error:  # the file of certificates, or any that is imported
            raise _unconnected(error, str(error)) from error
        except (ValueError, httpx2.InvalidURL):
            raise TransportError("connect", "the address of the proxy cannot be used", sent=False) from None
        return self._client

    def _ended(self, response: ProxiedResponse) -> None:
        self._live.discard(response)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class ProxiedResponse(Piped):
    def __init__(
        self,
        received: httpx2.Response,
        ended: Callable[[ProxiedResponse], None],
        in_background: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._received = received
        self._ended = ended
        self._in_background = in_background
        self._interrupt = Interrupt()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._over = False
        self.status: int = received.status_code
        self.headers = [(name.lower(), value) for name, value in received.headers.raw]
        self._coding = self.header(b"content-encoding")
        if self._coding in (b"identity", None):
            self._coding = None
        else:
            coded = (b"content-encoding", b"content-length")
            self.headers = [pair for pair in self.headers if pair[0] not in coded]

    async def pipe(self, on_data: Callable[[bytes], None]) -> None:
        try:
            await self._interrupt.guard(self._pipe(on_data))
        finally:
            self.close()

    def pause(self) -> None:
        self._resumed.clear()

    def resume(self) -> None:
        self._resumed.set()

    def abort(self, error: BaseException) -> None:
        self._interrupt.fire(error)
        self.close()

    def close(self) -> None:
        if not self._over:
            self._over = True
            self._ended(self)
            self._interrupt.fire(TransportError("closed", "the response was closed", sent=True))
            self._in_background(_closing(self._received))

    async def _pipe(self, on_data: Callable[[bytes], None]) -> None:
        inflater = None if self._coding is None else Inflater(self._coding, on_data)
        sink = on_data if inflater is None else inflater.feed
        pieces = self._received.aiter_raw()
        while (data := await _next(pieces)) is not None:
            await self._resumed.wait()
            sink(data)
        if inflater is not None:
            inflater.finish()


async def _next(pieces: Any) -> bytes | None:
    """The next piece of body, with the failures of the network, and only those, as TransportError."""
    try:
        piece: bytes | None = await anext(pieces, None)
    except Exception as error:
        raise _mapped(error) from error
    return piece


async def _closing(received: httpx2.Response) -> None:
    import httpx2

    try:
        await received.aclose()
    except (httpx2.HTTPError, httpx2.StreamError, OSError, RuntimeError):
        pass


def _outgoing(request: UpstreamRequest, wait_s: float) -> httpx2.Request:
    import httpx2

    split_url(request.url)
    headers = [pair for pair in request.headers if pair[0] not in FRAMING]
    if not any(name == b"accept-encoding" for name, _ in headers):
        headers.append((b"accept-encoding", b"identity"))
    timeout = {"connect": request.connect_timeout_s, "pool": wait_s, "read": None, "write": None}
    body = request.body or (None if request.method in ("GET", "HEAD") else b"")
    return httpx2.Request(
        request.method, request.url, headers=headers, content=body, extensions={"timeout": timeout}
    )


def _mapped(error: Exception) -> TransportError:
    import httpx2

    text = str(error) or type(error).__name__
    if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return TransportError("timeout", f"no connection within the time given ({text})", sent=False)
    if isinstance(error, httpx2.ConnectError):
        return _unconnected(error, text)
    if isinstance(error, httpx2.ProxyError):
        return TransportError("connect", f"the proxy refused: {text}", sent=False)
    if isinstance(error, httpx2.LocalProtocolError | httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        return TransportError("protocol", text, sent=False)
    if isinstance(error, httpx2.TimeoutException):
        return TransportError("timeout", text, sent=True)
    # One class holds both a peer that went away and a peer that does not speak HTTP; only the text differs.
    if isinstance(error, httpx2.RemoteProtocolError) and not any(word in text for word in _GONE):
        return TransportError("protocol", text, sent=True)
    if isinstance(error, httpx2.TransportError | httpx2.StreamError | OSError):
        return TransportError("reset", text, sent=True)
    return TransportError("protocol", f"{type(error).__name__}: {text}", sent=True)


def _unconnected(error: BaseException, text: str) -> TransportError:
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in NO_ROOM:
            return TransportError("local", f"no connection: {cause.strerror}", sent=False)
        if isinstance(cause, socket.gaierror):
            return TransportError("dns", text, sent=False)
        if isinstance(cause, ssl.SSLError):
            return TransportError("tls", text, sent=False)
    return TransportError("connect", text, sent=False)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
