"""Several processes on one port: the parent binds it, starts them, replaces the dead, passes signals on."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import msgspec

from tieline.config.load import find, load
from tieline.config.schema import Config
from tieline.record import together
from tieline.server.accept import Board, shared_memory
from tieline.server.serve import bind, url_of
from tieline.store.database import Database, Unreachable
from tieline.types.errors import ConfigError

log = logging.getLogger("tieline")

BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Before a dead worker is replaced, by how often its place has died in a row."""
STEADY_S = 30.0
"""A worker that lived this long died for a reason of its own: its place starts from no backoff."""
START_S = 90.0
"""A worker that is not ready by then is killed and replaced. It may wait for journals (``gateway.RECOVERY_S``) before."""
KILL_GRACE_S = 15.0
"""Beyond ``server.drain_s``: then a worker that still lives is killed. With a silent database it ends ten seconds after it."""
MISCONFIGURED = 2
"""The exit code of a start that no restart can help."""
TICK_S = 0.25


def run(
    config: Path | None,
    *,
    host: str | None = None,
    port: int | None = None,
    count: int,
    counted: bool = False,
    quiet: bool = False,
) -> int:
    """Serves with ``count`` processes until told to stop; the exit code. Raises ConfigError before anything is served.

    ``counted``: somebody said how many, whatever a configuration says.
    """
    loaded = load(config or find(os.environ), os.environ).config
    # What was said at the start stays above any file; of the rest the workers tell that an edit waits.
    given = {"host": host, "port": port, "workers": count if counted else None}
    said = {name: value for name, value in given.items() if value is not None}
    settings = msgspec.structs.replace(loaded.server, **said)
    sock = bind(settings.host, settings.port)
    address = sock.getsockname()
    arguments = ["serve", "--host", str(address[0]), "--port", str(address[1])]
    arguments += ["--config", str(config)] if config is not None else []
    arguments += ["--quiet"] if quiet else []
    arguments += ["--workers", str(count)]
    environ = {f"TIELINE_SERVER__{name.upper()}": str(value) for name, value in said.items()}
    begun = Config(server=settings, store=loaded.store)
    try:
        _bring_up_to_date(loaded.store.database)
        return Workers(
            sock, arguments, count, settings.drain_s, environ=environ, begun=begun, quiet=quiet
        ).run()
    finally:
        sock.close()


def _bring_up_to_date(url: str) -> None:
    """Once, before there are workers: of a large database this may take longer than a worker has to be ready."""
    if url == "none":
        return
    database = Database(url)
    try:
        with suppress(Unreachable):  # the workers wait for it, and serve meanwhile
            database.open()
    finally:
        database.close()


class Worker:
    """One place of several: the process in it, and how its predecessors fared."""

    def __init__(
        self,
        number: int,
        sock: socket.socket,
        arguments: Sequence[str],
        board: Board,
        metrics_fd: int,
        begun_fd: int,
        environ: Mapping[str, str],
    ) -> None:
        self.number = number
        self._environ = environ
        self._sock = sock
        self._board = board
        self._metrics_fd = metrics_fd
        self._begun_fd = begun_fd
        self._arguments = arguments
        self._line: socket.socket | None = None
        """It says there that it is ready, and learns there that its parent is gone."""
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths = 0
        self.started_at = 0.0
        self.start_at = 0.0
        self.is_ready = False
        self._rereads = False
        """Was told to while it started, which would have ended it."""

    def start(self) -> None:
        self._line, its = socket.socketpair()
        fds = {
            "--fd": self._sock.fileno(),
            "--ready-fd": its.fileno(),
            "--board-fd": self._board.fd,
            "--metrics-fd": self._metrics_fd,
            "--begun-fd": self._begun_fd,
        }
        own = [str(part) for option in ({**fds, "--place": self.number}).items() for part in option]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tieline", *self._arguments, *own],
            pass_fds=tuple(fds.values()),
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self._environ},
            # Signals come from the parent alone: a Ctrl-C in the terminal would otherwise reach a worker twice.
            start_new_session=True,
        )
        its.close()
        self.started_at = time.monotonic()
        self.is_ready = self._rereads = False

    def look(self, now: float) -> int | None:
        """Its exit code when it has just died."""
        if self.process is None or self._line is None:
            return None
        code = self.process.poll()
        if code is not None:
            self._bury(now)
            return code
        if not self.is_ready and select.select([self._line], [], [], 0)[0]:
            self.is_ready = bool(self._line.recv(1))
            if self.is_ready and self._rereads:
                self.process.send_signal(signal.SIGHUP)
        if not self.is_ready and now - self.started_at > START_S:
            self.process.kill()
        return None

    def _bury(self, now: float) -> None:
        self._hang_up()
        self.process = None
        self._board.leave(self.number)
        together.left(self._metrics_fd, self.number)
        self.deaths = 0 if now - self.started_at > STEADY_S else self.deaths + 1
        self.start_at = now + BACKOFF_S[min(max(self.deaths - 1, 0), len(BACKOFF_S) - 1)]

    def signal(self, number: int) -> None:
        if number == signal.SIGHUP and not self.is_ready:
            self._rereads = True
        elif self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def end(self) -> None:
        """Nothing of it is left behind."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._hang_up()

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


class Workers:
    """The parent. It serves nothing itself, and holds the port while workers come and go."""

    def __init__(
        self,
        sock: socket.socket,
        arguments: Sequence[str],
        count: int,
        drain_s: float,
        *,
        environ: Mapping[str, str] | None = None,
        begun: Config | None = None,
        quiet: bool = False,
    ) -> None:
        self.url = url_of(sock)
        self._board = Board.new(count)
        self._metrics_fd = shared_memory(together.bytes_for(count))
        # In a file without a name, since it may hold a password: a worker that is replaced after an edit would otherwise
        # have another database than the rest, or serve whom they refuse.
        kept = msgspec.json.encode(begun or Config())
        self._begun_fd = shared_memory(len(kept))
        os.pwrite(self._begun_fd, kept, 0)
        self.workers = [
            Worker(number, sock, arguments, self._board, self._metrics_fd, self._begun_fd, environ or {})
            for number in range(count)
        ]
        self._drain_s = drain_s
        self._quiet = quiet
        self._announced = False
        self._signals: deque[int] = deque()
        """Came, and are to be passed on."""
        self._stopping_at: float | None = None
        self._forced = False
        self._wake, self._poke = os.pipe()
        os.set_blocking(self._poke, False)

    def run(self) -> int:
        """0 after a drain, 1 when a worker had to be killed, 130 when forced. Raises ConfigError as a worker did."""
        old = {number: signal.signal(number, self._signalled) for number in _FORWARDED}
        old[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, self._nudge)
        try:
            while self._stopping_at is None:
                self._watch()
                self._sleep()
                self._pass_on()
            return self._drain()
        finally:
            for worker in self.workers:
                worker.end()
            for number, handler in old.items():
                signal.signal(number, handler)
            self._board.close()
            os.close(self._metrics_fd)
            os.close(self._begun_fd)
            os.close(self._wake)
            os.close(self._poke)

    def _watch(self) -> None:
        now = time.monotonic()
        for worker in self.workers:
            code = worker.look(now)
            if code is not None:
                self._died(worker, code)
            elif worker.process is None and now >= worker.start_at:
                worker.start()
        if not self._announced and all(worker.is_ready for worker in self.workers):
            self._announced = True
            if not self._quiet:
                sys.stderr.write(f"Tieline listens on {self.url} with {len(self.workers)} workers\n")
                sys.stderr.flush()

    def _died(self, worker: Worker, code: int) -> None:
        if code == MISCONFIGURED and not self._announced:
            for other in self.workers:
                other.signal(signal.SIGTERM)
            raise ConfigError("A worker could not start; its line above says why.")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        wait = max(0.0, worker.start_at - time.monotonic())
        log.warning(
            "worker %d ended with %s; it is replaced %s",
            worker.number,
            how,
            f"in {wait:.1f} s" if wait else "now",
        )

    def _drain(self) -> int:
        deadline = time.monotonic() + self._drain_s + KILL_GRACE_S
        killed = False
        while any(worker.process is not None for worker in self.workers):
            now = time.monotonic()
            for worker in self.workers:
                worker.look(now)
                if now > deadline:
                    worker.signal(signal.SIGKILL)
                    killed = True
            self._sleep()
            self._pass_on()
        return 130 if self._forced else 1 if killed else 0

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)
        self._nudge()

    def _pass_on(self) -> None:
        """Not from the handler: a worker that was just being started would never hear of it."""
        while self._signals:
            number = self._signals.popleft()
            if number != signal.SIGHUP:
                if self._stopping_at is not None and number == signal.SIGINT:
                    self._forced = True
                self._stopping_at = self._stopping_at or time.monotonic()
            for worker in self.workers:
                worker.signal(number)

    def _nudge(self, *_: object) -> None:
        try:
            os.write(self._poke, b".")
        except BlockingIOError:
            pass

    def _sleep(self) -> None:
        """Until something is to be looked at; deaths arrive as SIGCHLD."""
        if select.select([self._wake], [], [], TICK_S)[0]:
            os.read(self._wake, 4096)


_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
