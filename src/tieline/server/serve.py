"""Runs the gateway as a process: bind, start, serve, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import uvicorn

from tieline.config.schema import Config
from tieline.gateway import Gateway
from tieline.server.control import ControlPlane
from tieline.server.door import Door, door_for
from tieline.types.errors import ConfigError

log = logging.getLogger("tieline")

BACKLOG = 2048
SWEEP_S = 1.0


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError in one line: the port is taken, the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        if error.errno == 98:
            raise ConfigError(
                f"Port {port} on {host} is taken.", place="server.port", hint=f"Try `tieline serve --port {port + 1}`."
            ) from None
        raise ConfigError(f"Cannot listen on {host}:{port}: {error.strerror}.", place="server.host") from None
    sock.listen(BACKLOG)
    sock.set_inheritable(True)
    return sock


class Service:
    """One process's server. ``ready`` is called with the URL once it answers."""

    def __init__(self, gateway: Gateway, sock: socket.socket, ready: Callable[[str], Any] | None = None) -> None:
        self.gateway = gateway
        self.sock = sock
        self.ready = ready
        host, port = sock.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        settings = gateway.config.server
        self.server = uvicorn.Server(
            uvicorn.Config(
                ControlPlane(gateway, self._started),
                http=door_for(gateway),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=int(settings.drain_s),
                timeout_keep_alive=75,
            )
        )
        self._sweeper: asyncio.TimerHandle | None = None

    async def serve(self) -> None:
        """Until SIGTERM or SIGINT, then drains: answers under way are finished, records written."""
        await self.server.serve(sockets=[self.sock])

    def stop(self) -> None:
        self.server.should_exit = True

    def _started(self) -> None:
        self._sweep()
        if self.ready is not None:
            self.ready(self.url)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.server.server_state.connections):
            if isinstance(connection, Door):
                connection.sweep(now)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)


def run(
    config: Config | Path | str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    host: str | None = None,
    port: int | None = None,
    sock: socket.socket | None = None,
    ready: Callable[[str], Any] | None = None,
) -> None:
    """Serves until told to stop. Raises ConfigError before anything is served."""
    environ = os.environ if environ is None else environ
    gateway = Gateway(config, environ=environ, host=host, port=port)
    settings = gateway.config.server
    own = sock or bind(settings.host, settings.port)
    try:
        service = Service(gateway, own, ready)
        run_loop(service.serve())
    finally:
        own.close()
    if gateway.failed is not None:
        raise gateway.failed


def run_loop(work: Any) -> None:
    """On uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def log_to_terminal(level: str = "info") -> None:
    """One line an event, to stderr."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr, force=True
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
