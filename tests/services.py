"""Private PostgreSQL and Redis servers for tests: on loopback, any free port, in a folder that goes away.

Where the programs are missing the tests are skipped, with the reason; ``TIELINE_REQUIRE_SERVICES=1`` makes that a failure.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def missing(what: str) -> None:
    """Skips, or fails where services are required."""
    message = f"{what} is not installed: its tests are LEFT OUT"
    if os.environ.get("TIELINE_REQUIRE_SERVICES"):
        pytest.fail(message)
    pytest.skip(message)


def postgres_binaries() -> Path | None:
    """The folder with initdb and postgres; Debian keeps it off the PATH."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


class Postgres:
    """A server that can be stopped and started again."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder, self.port = binaries, folder, free_port()
        self._made = 0
        # PostgreSQL refuses to run as root.
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "tieline", "--no-sync")

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self._folder} -c fsync=off -c shared_buffers=16MB"
        self._run(
            "pg_ctl", "-D", f"{self._folder}/data", "-w", "-l", f"{self._folder}/log", "-o", options, "start"
        )

    def stop(self) -> None:
        self._run("pg_ctl", "-D", f"{self._folder}/data", "-m", "immediate", "-w", "stop", check=False)

    def files(self) -> list[Path]:
        """All that it keeps on disk, its log included."""
        return [one for one in self._folder.rglob("*") if one.is_file()]

    def new_database(self) -> str:
        """Its URL."""
        self._made += 1
        name = f"t{self._made}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "tieline", name)
        return f"postgresql://tieline@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        done = subprocess.run(
            [*self._as, str(self._binaries / program), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            cwd="/",
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{program}: {(done.stderr or b'').decode()}")


class Redis:
    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                "redis-server",
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                self._folder,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _answering(self.port)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def command(self, line: str, *, password: str = "") -> None:
        """As ``redis-cli`` does it; empty: stops the process in its tracks, or has it go on."""
        if not line:
            assert self._process
            self._paused = not self._paused
            self._process.send_signal(signal.SIGSTOP if self._paused else signal.SIGCONT)
            return
        secret = ["-a", password, "--no-auth-warning"] if password else []
        command = ["redis-cli", "-p", str(self.port), *secret, *shlex.split(line)]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        assert not done.stdout.startswith(("ERR", "NOAUTH", "WRONGPASS")), done.stdout


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tieline-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)  # the postgres user must get in
        yield Path(name)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    binaries = postgres_binaries()
    if binaries is None:
        missing("PostgreSQL")
        return
    with _folder() as folder:
        server = Postgres(binaries, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def running_redis() -> Iterator[Redis]:
    if not shutil.which("redis-server"):
        missing("redis-server")
        return
    with _folder() as folder:
        server = Redis(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def pooled(server: Postgres, url: str) -> Iterator[str]:
    """The URL of the same database behind PgBouncer, which gives each transaction another session."""
    if not shutil.which("pgbouncer"):
        missing("pgbouncer")
        return
    name, port = url.rpartition("/")[2], free_port()
    with _folder() as folder:
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n{name} = host=127.0.0.1 port={server.port} user=tieline\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            "pool_mode = transaction\ndefault_pool_size = 3\n"
        )
        # Like the server it refuses to run as root.
        user = ["-u", "postgres"] if os.geteuid() == 0 else []
        process = subprocess.Popen(["pgbouncer", "-q", *user, settings], stderr=subprocess.DEVNULL)
        try:
            _answering(port)
            yield f"postgresql://tieline@127.0.0.1:{port}/{name}"
        finally:
            process.kill()
            process.wait()


def _answering(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing came up on port {port}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    with running_redis() as server:
        yield server
