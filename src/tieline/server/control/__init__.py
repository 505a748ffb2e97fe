"""Everything that is not the data plane: health, metrics, listings, records, the admin API. An ASGI application whose
framework is imported once the data plane is ready, in a thread, so that neither the start nor a stream waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tieline.types.errors import ConfigError

if TYPE_CHECKING:
    from tieline.gateway import Gateway

log = logging.getLogger("tieline")


class ControlPlane:
    """The process's ASGI application; its lifespan is the gateway's."""

    def __init__(self, gateway: Gateway, started: Callable[[], Any]) -> None:
        self._gateway = gateway
        self._started = started
        self._building: asyncio.Future[Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        app = await self._build()
        await app(scope, receive, send)

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
        await send({"type": "lifespan.startup.complete"})
        self._started()
        self._build()
        await receive()
        await self._gateway.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _built(gateway: Gateway) -> Any:
    from tieline.server.control.app import build

    return build(gateway)
