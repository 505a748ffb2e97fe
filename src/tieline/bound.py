"""Transports for the HTTP clients of the official SDKs that end in the pipeline instead of a socket.

The SDKs are built on httpx2, before openai 3 and anthropic 1 on httpx; what is used here is the same in both.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

import msgspec

from tieline.dialects import paths
from tieline.gateway import Gateway
from tieline.in_process import MemoryReply, begin
from tieline.types.call import Headers
from tieline.types.errors import InvalidRequest, TielineError, fault_of

if TYPE_CHECKING:
    import httpx2

_LISTING = "/v1/models"
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Submit = Callable[[Coroutine[Any, Any, Any]], Future[Any]]
_JSON: Headers = [(b"content-type", b"application/json")]


def http_of(sdk: Any) -> Any:
    """The HTTP library that this version of an official SDK is built on."""
    new = sys.modules.get("httpx2")
    return new if new is not None and sdk.Timeout is new.Timeout else import_module("httpx")


def http_client(http: Any, gateway: Gateway, run: Run) -> Any:
    """For a gateway on a loop in another thread; ``run`` runs a coroutine there and waits."""
    return http.Client(transport=_Bound(http, gateway, run), timeout=600.0)


def async_http_client(http: Any, gateway: Gateway) -> Any:
    """For a gateway on the caller's own event loop."""
    return http.AsyncClient(transport=_AsyncBound(http, gateway), timeout=600.0)


def bridge_http_client(http: Any, gateway: Gateway, submit: Submit) -> Any:
    """For a gateway on another loop, used from the caller's; ``submit`` runs a coroutine there."""
    return http.AsyncClient(transport=_Bridge(http, gateway, submit), timeout=600.0)


def _headers_of(request: httpx2.Request) -> Headers:
    """Without the SDK's placeholder credential: in-process callers are trusted."""
    return [
        (name.lower(), value)
        for name, value in request.headers.raw
        if name.lower() not in (b"authorization", b"x-api-key")
    ]


async def _begin(http: Any, gateway: Gateway, request: httpx2.Request, body: bytes) -> MemoryReply:
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
        raise http.ReadTimeout("No answer in time.", request=request) from None
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


async def _pieces(http: Any, reply: MemoryReply, request: httpx2.Request) -> AsyncIterator[bytes]:
    try:
        async for piece in reply.pieces(_patience(request)):
            yield piece
    except TimeoutError:
        raise http.ReadTimeout("The stream fell silent.", request=request) from None


@cache
def _stream(body: type, base: type) -> Callable[..., Any]:
    """``body`` as a stream of one of the HTTP libraries, which check what they are given."""
    return type(body.__name__, (body, base), {})


class _Transport:
    def __init__(self, http: Any, gateway: Gateway) -> None:
        self._http = http
        self._gateway = gateway

    def _response(self, request: httpx2.Request, reply: MemoryReply, stream: Any) -> httpx2.Response:
        answer: httpx2.Response = self._http.Response(
            reply.status, headers=reply.headers, stream=stream, request=request
        )
        return answer


class _AsyncBody:
    def __init__(self, http: Any, reply: MemoryReply, request: httpx2.Request) -> None:
        self._http = http
        self._reply = reply
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in _pieces(self._http, self._reply, self._request):
            yield piece

    async def aclose(self) -> None:
        self._reply.leave()


class _AsyncBound(_Transport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        reply = await _begin(self._http, self._gateway, request, await request.aread())
        made = _stream(_AsyncBody, self._http.AsyncByteStream)
        return self._response(request, reply, made(self._http, reply, request))

    async def aclose(self) -> None:
        """The pipeline is the ``Tieline``'s."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """As ``aclose``."""


class _Body:
    def __init__(self, http: Any, reply: MemoryReply, request: httpx2.Request, run: Run) -> None:
        self._http = http
        self._reply = reply
        self._request = request
        self._run = run

    def __iter__(self) -> Iterator[bytes]:
        pieces = _pieces(self._http, self._reply, self._request)

        async def following() -> bytes | None:
            return await anext(pieces, None)

        while (piece := self._run(following())) is not None:
            yield piece

    def close(self) -> None:
        self._reply.leave()


class _Bound(_Transport):
    def __init__(self, http: Any, gateway: Gateway, run: Run) -> None:
        super().__init__(http, gateway)
        self._run = run

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        reply = self._run(_begin(self._http, self._gateway, request, request.read()))
        made = _stream(_Body, self._http.SyncByteStream)
        return self._response(request, reply, made(self._http, reply, request, self._run))

    def close(self) -> None:
        """The pipeline is the ``Tieline``'s."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """As ``close``."""


class _BridgeBody:
    def __init__(self, http: Any, reply: MemoryReply, request: httpx2.Request, submit: Submit) -> None:
        self._http = http
        self._reply = reply
        self._request = request
        self._submit = submit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = _pieces(self._http, self._reply, self._request)

        async def following() -> bytes | None:
            return await anext(pieces, None)

        while (piece := await _over(following(), self._submit)) is not None:
            yield piece

    async def aclose(self) -> None:
        self._reply.leave()


class _Bridge(_AsyncBound):
    def __init__(self, http: Any, gateway: Gateway, submit: Submit) -> None:
        super().__init__(http, gateway)
        self._submit = submit

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        begun = _begin(self._http, self._gateway, request, await request.aread())
        reply = await _over(begun, self._submit)
        made = _stream(_BridgeBody, self._http.AsyncByteStream)
        return self._response(request, reply, made(self._http, reply, request, self._submit))


async def _over(work: Coroutine[Any, Any, Any], submit: Submit) -> Any:
    return await asyncio.wrap_future(submit(work))
