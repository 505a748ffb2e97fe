"""One request as it came in, and the way back: what the server's door and the in-process SDK hand to the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""


class Call(Struct, kw_only=True, gc=False):
    dialect: str
    operation: str
    """chat | count_tokens | embeddings | completions | models"""
    path: str
    query: str = ""
    headers: Headers
    body: bytes
    model: str | None = None
    """From the path (Gemini); elsewhere the body names it."""
    stream: bool | None = None
    """From the path (Gemini); elsewhere the body says so."""
    received_at: float = 0.0
    """Monotonic seconds at the last byte of the request."""
    peer: str = ""
    secret: str | None = None
    """The virtual key that the caller presented, from whichever header its SDK uses."""
    in_process: bool = False
    """From the SDK: trusted, needs no virtual key."""

    def header(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Reply(Protocol):
    """The way back to the caller. All methods are synchronous and never block; bytes queue in the transport.

    The caller going away is delivered as cancellation of the task that runs the pipeline.
    """

    started: bool

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """Once. ``length`` None means streamed."""

    def write(self, data: bytes) -> bool:
        """Returns False when the caller reads too slowly: stop, and go on when ``on_drain`` is called."""

    def on_drain(self, callback: Callable[[], None] | None) -> None: ...

    def end(self) -> None:
        """Once, after the last write."""
