"""One request as it came in, and the way back: what the server's door and the in-process SDK hand to the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""
SECRET_HEADERS: Final = (b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key")
"""Where SDKs put a key. Of two the first counts: Anthropic's sends both where it was given a gateway's token and a key."""


def secret_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key that the caller presents. A header without one is none."""
    given = [pair for pair in headers if pair[0] in SECRET_HEADERS]
    for name in SECRET_HEADERS:
        for header, value in given:
            if header == name:
                scheme, _, rest = value.strip().partition(b" ")
                # Of another scheme (Basic) it is for a proxy on the way: no key has a blank in it.
                secret = rest.strip() if scheme.lower() == b"bearer" else scheme if not rest else b""
                if secret:
                    return secret.decode("latin-1")
    return None


class Call:
    __slots__ = (
        "body",
        "dialect",
        "headers",
        "in_process",
        "model",
        "operation",
        "path",
        "query",
        "received_at",
        "secret",
        "stream",
    )

    def __init__(
        self,
        *,
        dialect: str,
        operation: str,
        path: str,
        headers: Headers,
        body: bytes,
        query: str = "",
        model: str | None = None,
        stream: bool | None = None,
        received_at: float = 0.0,
        secret: str | None = None,
        in_process: bool = False,
    ) -> None:
        self.dialect = dialect
        self.operation = operation
        """chat | count_tokens | embeddings | completions | models"""
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.model = model
        """From the path (Gemini); elsewhere the body names it."""
        self.stream = stream
        """From the path (Gemini); elsewhere the body says so."""
        self.received_at = received_at
        """Monotonic seconds at the last byte of the request."""
        self.secret = secret
        """The virtual key that the caller presented, from whichever header its SDK uses."""
        self.in_process = in_process
        """From the SDK: trusted, needs no virtual key."""

    def header(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Reply(Protocol):
    """The way back to the caller. All methods are synchronous and never block; bytes queue in the transport.

    The caller going away is delivered as cancellation of the task that runs the pipeline; so is the end of the process.
    """

    started: bool

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """Once. ``length`` None means streamed."""

    def write(self, data: bytes) -> bool:
        """Returns False when the caller reads too slowly: stop, and go on when ``on_drain`` is called."""

    def on_drain(self, callback: Callable[[], None] | None) -> None: ...

    def end(self) -> None:
        """Once, after the last write."""
