"""Everything that is not the data plane: health, metrics, listings, records, the admin API. An ASGI application whose
framework is imported once the data plane is ready, in a thread, so that neither the start nor a stream waits for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

import tieline
from tieline.record.redact import redact
from tieline.types.errors import ConfigError

if TYPE_CHECKING:
    from tieline.gateway import Gateway

log = logging.getLogger("tieline")


class ControlPlane:
    """The process's ASGI application; its lifespan starts the gateway. ``Service`` stops it, when the last request is over."""

    def __init__(self, gateway: Gateway, started: Callable[[], Any]) -> None:
        self._gateway = gateway
        self._started = started
        self._building: asyncio.Future[Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        probe = self._probe(scope["path"])
        if probe is not None:
            await _answer(send, *probe)
            return
        app = await self._build()
        await app(scope, receive, send)

    def _probe(self, path: str) -> tuple[int, Any] | None:
        """Health is asked for before the framework is there, and often."""
        if path == "/health/live":
            return 200, {"status": "alive", "version": tieline.__version__}
        if path == "/health/ready":
            state = self._gateway.readiness()
            return 200 if state["ready"] else 503, state
        return None

    def _build(self) -> asyncio.Future[Any]:
        if self._building is None:
            self._building = asyncio.get_running_loop().run_in_executor(None, _built, self._gateway)
        return self._building

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            await self._gateway.start()
        except ConfigError as error:
            self._gateway.failed = error
            await send({"type": "lifespan.startup.failed"})
            return
        except Exception as error:
            # Also what nobody thought of: the server would end without a word.
            log.debug("the start failed", exc_info=error)
            self._gateway.failed = ConfigError(f"Cannot start: {_said(error)}.")
            await send({"type": "lifespan.startup.failed"})
            return
        await send({"type": "lifespan.startup.complete"})
        self._started()
        self._build()
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def _answer(send: Any, status: int, value: Any) -> None:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(value)})


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return str(error)
    first = str(error).strip().partition("\n")[0].rstrip(".")
    return redact(f"{type(error).__name__}: {first}", limit=300)


_one_at_a_time = threading.Lock()
"""Litestar looks for modules that are not installed: a second thread would get hold of one half imported."""


def _built(gateway: Gateway) -> Any:
    with _one_at_a_time:
        from tieline.server.control.app import build

        return build(gateway)
