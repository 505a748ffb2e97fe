"""One HTTP request to a gateway, as any client would send it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tieline.transport.base import UpstreamRequest
from tieline.transport.http1 import Http1Transport


class Seen(Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


async def ask(url: str, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Seen:
    """POSTs ``body``; the answer's body is read to its end. Raises TransportError."""
    transport = Http1Transport()
    sent = [(b"content-type", b"application/json")]
    sent += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    try:
        response = await transport.send(
            UpstreamRequest(url=url + path, headers=sent, body=msgspec.json.encode(body))
        )
        received = await response.read(16 * 1024 * 1024)
        response.close()
    finally:
        await transport.aclose()
    known = {name.decode(): value.decode("latin-1") for name, value in response.headers}
    return Seen(response.status, known, received)
