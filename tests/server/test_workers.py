"""The parent of several workers, with other programs in their places."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tieline.gateway import RECOVERY_S
from tieline.server import workers
from tieline.server.serve import bind
from tieline.server.workers import Workers
from tieline.types.errors import ConfigError

_SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.mark.parametrize("at", [1, 2])
def test_a_signal_during_the_start_reaches_all(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It came after one was started and before the parent knew of it, or before the next."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(_command: Any, **options: Any) -> subprocess.Popen[bytes]:
        begun.append(real(_SLEEP, **options))
        if len(begun) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return begun[-1]

    real = subprocess.Popen
    monkeypatch.setattr(workers.subprocess, "Popen", start)
    with closing(bind("127.0.0.1", 0)) as sock:
        assert Workers(sock, (), 2, drain_s=10).run() == 0
    assert {process.returncode for process in begun} <= {-signal.SIGTERM}


def test_the_database_is_up_to_date_before_there_are_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker has 90 seconds to be ready; the migration of a large database may take more."""
    file, seen = tmp_path / "ledger.db", []

    def start(_command: Any, **options: Any) -> subprocess.Popen[bytes]:
        with closing(sqlite3.connect(file)) as database:
            seen.append(database.execute("SELECT count(*) FROM records").fetchone())
        os.kill(os.getpid(), signal.SIGTERM)
        return real(_SLEEP, **options)

    real = subprocess.Popen
    monkeypatch.setattr(workers.subprocess, "Popen", start)
    config = tmp_path / "tieline.yaml"
    config.write_text(f"server: {{port: 0}}\nstore: {{database: 'sqlite:///{file}'}}\n")
    assert workers.run(config, count=2) == 0
    assert seen[0] == (0,)


def test_a_database_that_does_not_answer_is_the_workers_to_wait_for() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as nobody:
        port = nobody.getsockname()[1]
    workers._bring_up_to_date(f"postgresql://tieline@127.0.0.1:{port}/tieline")


def test_a_start_may_wait_for_the_journals_of_the_dead() -> None:
    assert workers.START_S > 2 * RECOVERY_S


def test_a_system_without_ipv6_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(ConfigError, match="Address family not supported"):
        bind("::1", 0)


_READY_THEN_HUNG_UP = """
import os, signal, sys, time
signal.signal(signal.SIGHUP, lambda *_: (os.kill(os.getppid(), signal.SIGTERM), sys.exit()))
time.sleep(0.5)
os.write(int(sys.argv[1]), b"1")
time.sleep(60)
"""


def test_a_worker_that_starts_reads_again_when_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, the signal would end it, or be lost."""

    def start(command: Any, **options: Any) -> subprocess.Popen[bytes]:
        os.kill(os.getpid(), signal.SIGHUP)
        told = command[command.index("--ready-fd") + 1]
        return real([sys.executable, "-c", _READY_THEN_HUNG_UP, told], **options)

    real = subprocess.Popen
    monkeypatch.setattr(workers.subprocess, "Popen", start)
    with closing(bind("127.0.0.1", 0)) as sock:
        parent = Workers(sock, (), 1, drain_s=10)
        assert parent.run() == 0
    assert parent.workers[0].deaths == 1
