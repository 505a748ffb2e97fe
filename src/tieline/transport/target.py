"""Where a URL leads, and the first bytes of a request to it."""

from __future__ import annotations

import re
from typing import Final

from tieline.transport.base import TransportError, UpstreamRequest

_TOKEN: Final = re.compile(r"[A-Za-z]{1,20}")
FRAMING: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection"))
_MAX_KEPT: Final = 16
_IDENTITY: Final = b"accept-encoding: identity\r\n"


class Heads:
    """The heads of requests to one URL. Of headers that are one and the same tuple every time, all but the length is kept."""

    __slots__ = ("_kept", "_rest")

    def __init__(self, rest: bytes) -> None:
        self._rest = rest
        self._kept: dict[int, tuple[object, bytes]] = {}
        """By the identity of the headers, which are kept too so that it stays theirs."""

    def of(self, request: UpstreamRequest) -> bytes:
        """Everything before the body. Raises TransportError."""
        headers = request.headers
        if type(headers) is not tuple or request.method != "POST":
            return request_head(self._rest, request)
        kept = self._kept.get(id(headers))
        if kept is None:
            head = request_head(self._rest, request)
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            kept = self._kept[id(headers)] = (headers, head[: head.rindex(b" ")])
        return b"%b %d\r\n\r\n" % (kept[1], len(request.body))


def request_head(rest: bytes, request: UpstreamRequest) -> bytes:
    """Everything before the body. ``rest`` is from ``split_url``. Framing headers are ours, whatever the caller set.

    Raises TransportError when a header would smuggle in another line.
    """
    method, body = request.method, request.body
    if method != "POST" and not _TOKEN.fullmatch(method):
        raise TransportError("protocol", "the method is not a word", sent=False)
    parts = [method.encode(), rest]
    coding = _IDENTITY
    for name, value in request.headers:
        if name in FRAMING:
            continue
        if name == b"accept-encoding":
            coding = b""
        parts.append(b"%b: %b\r\n" % (name, value))
    lines = len(parts) + 1
    if coding:
        lines += 1
    if body or method not in ("GET", "HEAD"):
        lines += 1
        parts.append(b"%bcontent-length: %d\r\n\r\n" % (coding, len(body)))
    else:
        parts.append(b"%b\r\n" % coding)
    head = b"".join(parts)
    # One count over the whole head is cheaper than a look at each header: every line has exactly one CR and one LF.
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise TransportError("protocol", "a header holds a line break or NUL", sent=False)
    return head
