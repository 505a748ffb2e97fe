"""Runs the gateway as a process: bind, start, serve, drain, stop."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from tieline.config.schema import Config
from tieline.gateway import CUT_S, Gateway
from tieline.record.together import Together
from tieline.server import files
from tieline.server.accept import Acceptor, Place
from tieline.server.control import ControlPlane
from tieline.server.door import Door, door_for
from tieline.types.errors import ConfigError

log = logging.getLogger("tieline")

BACKLOG = 2048
SWEEP_S = 1.0


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError in one line: the port is taken, the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as undo:
        try:
            sock = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.listen(BACKLOG)
        except OSError as error:
            raise _cannot_listen(host, port, error) from None
        undo.pop_all()
        return sock


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        following = port + 1 if port < 65_535 else 8787
        return ConfigError(
            f"Port {port} on {host} is taken.",
            place="server.port",
            hint=f"Try `tieline serve --port {following}`.",
        )
    if error.errno == errno.EACCES:
        return ConfigError(
            f"Port {port} needs privileges.",
            place="server.port",
            hint="Try a port above 1023, or a proxy in front.",
        )
    return ConfigError(
        f"Cannot listen on {host}:{port}: {error.strerror}.",
        place="server.host",
        hint="Use 127.0.0.1, 0.0.0.0 or an address of this machine.",
    )


class _Uvicorn(uvicorn.Server):
    """Takes connections by our rules."""

    def __init__(self, config: uvicorn.Config, place: Place) -> None:
        super().__init__(config)
        self._place = place

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        state = self.server_state

        def door() -> asyncio.Protocol:
            made: Any = self.config.http_protocol_class
            return made(config=self.config, server_state=state, app_state=self.lifespan.state)  # type: ignore[no-any-return]

        self.servers = [Acceptor(sock, door, state.connections, self._place) for sock in sockets or ()]  # type: ignore[misc]

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again after a clean stop, which would be an exit by signal instead of 0.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


class Service:
    """One process's server. ``ready`` is called with the URL once it answers."""

    def __init__(
        self,
        gateway: Gateway,
        sock: socket.socket,
        ready: Callable[[str], Any] | None = None,
        place: Place | None = None,
    ) -> None:
        place = place or Place()
        self.gateway = gateway
        self.sock = sock
        self.ready = ready
        self.url = url_of(sock)
        self.door = door_for(gateway, place)
        self.server = _Uvicorn(
            uvicorn.Config(
                ControlPlane(gateway, self._started),
                http=self.door,  # type: ignore[arg-type]
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=math.ceil(gateway.config.server.drain_s),
            ),
            place,
        )
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def forced(self) -> bool:
        """A second SIGINT did not wait for the answers under way."""
        return self.server.force_exit

    async def serve(self) -> None:
        """Until SIGTERM or SIGINT, then drains: answers under way are finished, records written. Raises ConfigError."""
        try:
            await self.server.serve(sockets=[self.sock])
        except SystemExit:  # uvicorn's way to say that the lifespan did not start
            raise self.gateway.failed or ConfigError("The server did not start.") from None
        finally:
            if self._sweeper is not None:
                self._sweeper.cancel()
            self.gateway.intake.overload.stop()
        try:
            await self._cut()
        finally:
            await self.gateway.stop()

    def stop(self) -> None:
        self.server.should_exit = True

    async def _cut(self) -> None:
        """What outlasted the drain, or was not waited for, is cancelled: its callers are told, it settles and is recorded."""
        self.gateway.intake.cut()
        loop, state = asyncio.get_running_loop(), self.server.server_state
        deadline = loop.time() + CUT_S
        tasks = set(state.tasks)
        for task in tasks:
            task.cancel()
        for connection in state.connections:
            if isinstance(connection, Door):
                tasks.update(connection.cut())
        if tasks:
            await asyncio.wait(tasks, timeout=CUT_S)
        self._abort(only_idle=True)
        while state.connections and loop.time() < deadline:
            await asyncio.sleep(0.02)  # what was said last is on its way
        self._abort()

    def _abort(self, *, only_idle: bool = False) -> None:
        for connection in list(self.server.server_state.connections):
            if isinstance(connection, Door) and not (only_idle and connection.is_answering):
                connection.transport.abort()

    def _started(self) -> None:
        self._sweep()
        self.gateway.intake.overload.start()
        if self.ready is not None:
            self.ready(self.url)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.server.server_state.connections):
            if isinstance(connection, Door):
                connection.sweep(now)
        # First: figures that cannot be published must not end the sweeping.
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)
        self.gateway.metrics.publish()


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(
    config: Config | Path | str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    host: str | None = None,
    port: int | None = None,
    pinned: Mapping[str, Any] | None = None,
    sock: socket.socket | None = None,
    place: Place | None = None,
    ready: Callable[[str], Any] | None = None,
    together: Together | None = None,
    begun: Config | None = None,
) -> None:
    """Serves until told to stop. Raises ConfigError before anything is served, KeyboardInterrupt when forced."""
    environ = os.environ if environ is None else environ
    gateway = Gateway(config, environ=environ, host=host, port=port, pinned=pinned, begun=begun)
    if together is not None:
        gateway.metrics.join(together)
    settings = gateway.config.server
    own = sock or bind(settings.host, settings.port)
    make_room(gateway)
    try:

        def started(url: str) -> None:
            _spare_the_collector()
            if ready is not None:
                ready(url)

        service = Service(gateway, own, started, place)
        run_loop(service.serve())
    finally:
        own.close()
    if service.forced:
        raise KeyboardInterrupt


def make_room(gateway: Gateway) -> None:
    """A request that can no longer open a connection would fail as if its provider had; it is refused before."""
    room, wanted = files.room_for_requests(), gateway.config.server.max_concurrency
    gateway.intake.room = room
    files.make_table(min(room, wanted))
    if room < wanted:
        log.warning(
            "the limit of open files leaves room for %d requests at a time instead of %d (server.max_concurrency): "
            "raise it to %d (ulimit -Hn, LimitNOFILE=, docker --ulimit nofile)",
            room,
            wanted,
            files.needed(wanted),
        )


def _spare_the_collector() -> None:
    """What is here by now stays, and a request leaves no cycles: looking at all of it again and again took a tenth of the
    time of each request. Only in a process of our own."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


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
        level=level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )
    logging.getLogger("uvicorn.error").setLevel(
        logging.CRITICAL
    )  # what it says of a failed start, we say better
    logging.getLogger("alembic").setLevel(logging.WARNING)
