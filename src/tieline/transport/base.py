"""The seam between the pipeline and the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from tieline.types.call import Headers


class UpstreamRequest:
    __slots__ = ("body", "connect_timeout_s", "headers", "method", "response_timeout_s", "url")

    def __init__(
        self,
        *,
        url: str,
        headers: Headers | tuple[tuple[bytes, bytes], ...],
        method: str = "POST",
        body: bytes = b"",
        connect_timeout_s: float = 3.0,
        response_timeout_s: float = 600.0,
    ) -> None:
        self.method = method
        self.url = url
        """Absolute, ``https://host[:port]/path?query``; the origin is looked up in a cache, not parsed each time."""
        self.headers = headers
        """Complete but for Host and Content-Length, which the transport adds. A tuple says: the same object again and
        again."""
        self.body = body
        self.connect_timeout_s = connect_timeout_s
        self.response_timeout_s = response_timeout_s
        """Until the response's headers are in, counted from the call."""


class TransportError(Exception):
    """The network failed. ``sent`` tells whether the upstream may have begun to work on the request.
    ``local``: this machine has no room for another connection."""

    def __init__(
        self,
        kind: Literal[
            "connect", "tls", "dns", "reset", "timeout", "protocol", "too_large", "closed", "local"
        ],
        message: str,
        *,
        sent: bool,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.sent = sent


class UpstreamResponse(Protocol):
    status: int
    complete: bool
    """All of the body is here: ``read`` does not wait."""

    @property
    def headers(self) -> Headers:
        """Names in lower case."""

    def mentions(self, text: bytes) -> bool:
        """Whether ``text``, in lower case, stands anywhere in the headers: to ask is cheaper than to read them."""

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises TransportError: ``reset`` when it ends early, ``too_large`` beyond ``limit`` bytes."""

    async def pipe(self, on_data: Callable[[bytes], None]) -> None:
        """Calls ``on_data`` with each piece of the body as it comes, synchronously from the socket's callback where
        the implementation can; returns at its end. What ``on_data`` raises closes the connection and is raised here."""

    def pause(self) -> None:
        """Stop reading from the socket (the caller is slow); pieces already read may still come."""

    def resume(self) -> None: ...

    def abort(self, error: BaseException) -> None:
        """Close the connection now; a waiting ``read`` or ``pipe`` raises ``error``."""

    def close(self) -> None:
        """Idempotent. Gives the connection back to the pool when the body was read to its end, else closes it."""

    def header(self, name: bytes) -> bytes | None: ...


class Transport(Protocol):
    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Sends, waits for the headers. Cancelling closes the connection. Raises TransportError."""

    async def aclose(self) -> None:
        """Closes every connection; what is under way fails with ``closed``."""
