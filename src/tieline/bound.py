"""Transports for httpx2, the HTTP client of the official SDKs, that end in the pipeline instead of a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

import httpx2
import msgspec

from tieline.dialects import paths
from tieline.gateway import Gateway
from tieline.in_process import MemoryReply, begin
from tieline.types.call import Headers
from tieline.types.errors import InvalidRequest, TielineError, fault_of

_LISTING = "/v1/models"
Submit = Callable[[Coroutine[Any, Any, Any]], Future[Any]]
_JSON: Headers = [(b"content-type", b"application/json")]


def http_client(transport: httpx2.BaseTransport) -> httpx2.Client:
    return httpx2.Client(transport=transport, timeout=600.0)


def async_http_client(transport: httpx2.AsyncBaseTransport) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=transport, timeout=600.0)


def _headers_of(request: httpx2.Request) -> Headers:
    """Without the SDK's placeholder credential: in-process callers are trusted."""
    return [
        (name.lower(), value)
        for name, value in request.headers.raw
        if name.lower() not in (b"authorization", b"x-api-key")
    ]


async def _begin(gateway: Gateway, request: httpx2.Request, body: bytes) -> MemoryReply:
    """The answer's head is there. What a server would refuse is an answer here too, so that the SDK raises its class."""
    path = request.url.path
    try:
        gateway.check_open()
        if request.method == "GET" and path.startswith(_LISTING):
            return _said(200, _JSON, _listing(gateway, request, path))
        if request.method != "POST" and paths.find(path) is not None:
            raise InvalidRequest(f"{request.method} is not served at {path}; send a POST.")
        reply = begin(gateway, path, request.url.query.decode(), _headers_of(request), body)
    except TielineError as error:
        fault = fault_of(error)
        refusal, headers = gateway.error_answer(_dialect_of(request), fault)
        return _said(fault.status, headers, refusal)
    try:
        async with asyncio.timeout(_patience(request)):
            await reply.head()
    except TimeoutError:
        raise httpx2.ReadTimeout("No answer in time.", request=request) from None
    return reply


def _patience(request: httpx2.Request) -> float | None:
    """The SDK's read timeout, also between two pieces of a stream."""
    found: float | None = (request.extensions.get("timeout") or {}).get("read")
    return found


def _dialect_of(request: httpx2.Request) -> str:
    return (
        "anthropic_messages"
        if "anthropic-version" in request.headers
        else paths.dialect_of_path(request.url.path)
    )


def _listing(gateway: Gateway, request: httpx2.Request, path: str) -> bytes:
    dialect = "anthropic_messages" if "anthropic-version" in request.headers else "openai_chat"
    name = path[len(_LISTING) :].lstrip("/")
    found = gateway.model_entry(name, dialect) if name else gateway.models_listing(dialect)
    return msgspec.json.encode(found)


def _said(status: int, headers: Headers, body: bytes) -> MemoryReply:
    reply = MemoryReply()
    reply.start(status, headers, len(body))
    reply.write(body)
    reply.end()
    return reply


async def _pieces(reply: MemoryReply, request: httpx2.Request) -> AsyncIterator[bytes]:
    try:
        async for piece in reply.pieces(_patience(request)):
            yield piece
    except TimeoutError:
        raise httpx2.ReadTimeout("The stream fell silent.", request=request) from None


class _AsyncBody(httpx2.AsyncByteStream):
    def __init__(self, reply: MemoryReply, request: httpx2.Request) -> None:
        self._reply = reply
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in _pieces(self._reply, self._request):
            yield piece

    async def aclose(self) -> None:
        if not self._reply.ended:
            self._reply.cancel()


class AsyncBound(httpx2.AsyncBaseTransport):
    """For a gateway on the caller's own event loop."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        reply = await _begin(self._gateway, request, await request.aread())
        return httpx2.Response(
            reply.status, headers=reply.headers, stream=_AsyncBody(reply, request), request=request
        )


class _Body(httpx2.SyncByteStream):
    def __init__(
        self, reply: MemoryReply, request: httpx2.Request, run: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self._reply = reply
        self._request = request
        self._run = run

    def __iter__(self) -> Iterator[bytes]:
        pieces = _pieces(self._reply, self._request)

        async def following() -> bytes | None:
            return await anext(pieces, None)

        while (piece := self._run(following())) is not None:
            yield piece

    def close(self) -> None:
        async def leave() -> None:
            if not self._reply.ended:
                self._reply.cancel()

        self._run(leave())


class Bound(httpx2.BaseTransport):
    """For a gateway on a loop in another thread; ``run`` runs a coroutine there and waits."""

    def __init__(self, gateway: Gateway, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._gateway = gateway
        self._run = run

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        reply: MemoryReply = self._run(_begin(self._gateway, request, request.read()))
        return httpx2.Response(
            reply.status, headers=reply.headers, stream=_Body(reply, request, self._run), request=request
        )


class _BridgeBody(httpx2.AsyncByteStream):
    def __init__(self, reply: MemoryReply, request: httpx2.Request, submit: Submit) -> None:
        self._reply = reply
        self._request = request
        self._submit = submit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = _pieces(self._reply, self._request)

        async def following() -> bytes | None:
            return await anext(pieces, None)

        while (piece := await _over(following(), self._submit)) is not None:
            yield piece

    async def aclose(self) -> None:
        if not self._reply.ended:
            await _over(_cancel(self._reply), self._submit)


class AsyncBridge(httpx2.AsyncBaseTransport):
    """For a gateway on another loop, used from the caller's; ``submit`` runs a coroutine there."""

    def __init__(self, gateway: Gateway, submit: Submit) -> None:
        self._gateway = gateway
        self._submit = submit

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        reply = await _over(_begin(self._gateway, request, await request.aread()), self._submit)
        return httpx2.Response(
            reply.status,
            headers=reply.headers,
            stream=_BridgeBody(reply, request, self._submit),
            request=request,
        )


async def _cancel(reply: MemoryReply) -> None:
    reply.cancel()


async def _over(work: Coroutine[Any, Any, Any], submit: Submit) -> Any:
    return await asyncio.wrap_future(submit(work))
