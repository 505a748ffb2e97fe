"""Everything that is not the data plane: health, metrics, listings, records, the admin API. An ASGI application whose
framework is imported at the first request, so that the data plane is ready before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tieline.types.errors import ConfigError

if TYPE_CHECKING:
    from tieline.gateway import Gateway


class ControlPlane:
    """The process's ASGI application; its lifespan is the gateway's."""

    def __init__(self, gateway: Gateway, started: Callable[[], Any]) -> None:
        self._gateway = gateway
        self._started = started
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if self._app is None:
            from tieline.server.control.app import build

            self._app = build(self._gateway)
        await self._app(scope, receive, send)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            await self._gateway.start()
        except ConfigError as error:
            self._gateway.failed = error
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        self._started()
        await receive()
        await self._gateway.stop()
        await send({"type": "lifespan.shutdown.complete"})
