"""A host of a test's own, for answers that the simulator does not give."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tieline.config.schema import ProviderConfig

PAUSE_S = 0.03
"""After each event, so that they arrive one by one."""
_HOSTS: dict[str, tuple[str, str, str]] = {
    "chat": ("/v1", "openai_chat", "bearer"),
    "claude": ("", "anthropic_messages", "x-api-key"),
    "gemini": ("", "gemini", "x-goog-api-key"),
}


class Upstream:
    """Speaks every API at one address: each request gets the one answer that was put there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.heard: list[Any] = []
        """Bodies, as they arrived."""
        self._answer: tuple[int, str, list[bytes]] = (404, "application/json", [b"{}"])

    def put(self, body: Any, status: int = 200) -> None:
        self._answer = (status, "application/json", [json.dumps(body).encode()])

    def stream(self, *events: Any) -> None:
        """Each an event's lines as they are, or what its `data` is."""
        lines = (one if isinstance(one, str) else f"data: {json.dumps(one)}\n\n" for one in events)
        self._answer = (200, "text/event-stream", [line.encode() for line in lines])

    def answer(self, body: bytes) -> tuple[int, str, list[bytes]]:
        self.heard.append(json.loads(body))
        return self._answer

    @property
    def providers(self) -> dict[str, ProviderConfig]:
        price: Any = {"input": "1", "output": "4"}
        return {
            name: ProviderConfig(
                base_url=self.url + path,
                dialect=dialect,  # type: ignore[arg-type]
                auth=auth,  # type: ignore[arg-type]
                api_key="k",
                prices={"m": price},
            )
            for name, (path, dialect, auth) in _HOSTS.items()
        }


@contextmanager
def upstream() -> Iterator[Upstream]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status, kind, pieces = host.answer(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(sum(map(len, pieces))))
            self.end_headers()
            for piece in pieces:
                self.wfile.write(piece)
                time.sleep(PAUSE_S)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        host = Upstream(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, name="host", daemon=True)
        thread.start()
        try:
            yield host
        finally:
            server.shutdown()
            thread.join(10)
