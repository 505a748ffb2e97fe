"""Where a URL leads."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from tieline.transport.base import TransportError

_VISIBLE = re.compile(r"[\x21-\x7e]+")


class Origin(Struct, frozen=True):
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def split_url(url: str) -> tuple[Origin, bytes]:
    """The origin, and the request line from the target on with the Host header. Raises TransportError."""
    try:
        if not _VISIBLE.fullmatch(url):
            raise ValueError("it holds spaces or characters beyond ASCII")
        parts = _parts(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it is not http://host or https://host")
        if parts.username is not None:
            raise ValueError("it holds credentials")
        usual = 443 if parts.scheme == "https" else 80
        origin = Origin(parts.scheme, parts.hostname, _port(parts) or usual)
    except ValueError as error:
        raise TransportError("protocol", f"the URL cannot be used: {error}", sent=False) from None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    name = f"[{origin.host}]" if ":" in origin.host else origin.host
    host = name if origin.port == usual else f"{name}:{origin.port}"
    return origin, f" {path} HTTP/1.1\r\nhost: {host}\r\n".encode()


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # which shows what may be a password
        raise ValueError("it names no host") from None


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        raise ValueError("its port is no number up to 65535") from None
