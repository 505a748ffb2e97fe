"""Every connection is an open file, and most programs are started with a limit of 1,024 of them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.programs import Running, running
from tests.served import HELLO
from tieline.server.files import KEPT
from tieline.simulator import SimulatorServer

STREAMS = 150


@pytest.fixture
def simulator() -> Iterator[SimulatorServer]:
    server = SimulatorServer()
    with server.run_in_thread():
        yield server


def write_config(folder: Path, simulator: SimulatorServer) -> None:
    (folder / "tieline.yaml").write_text(
        "discover: false\n"
        "server: {port: 0, drain_s: 0}\n"
        "store: {database: 'sqlite:///tieline.db'}\n"
        f"providers: {{sim: {{base_url: '{simulator.url}/sim/v1', api_key: k-1234}}}}\n"
        "models: {slow: 'sim/sim-echo:tokens=600,tps=20'}\n"
    )


def begin_streams(server: Running, count: int, held: ExitStack) -> list[bytes]:
    """The head of each answer, and what came with it; the streams stay."""
    body = json.dumps({"model": "slow", "messages": HELLO, "stream": True}).encode()
    message = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )
    sockets = [
        held.enter_context(socket.create_connection(("127.0.0.1", server.port), 20)) for _ in range(count)
    ]
    for one in sockets:
        one.sendall(message)
    return [one.recv(65_536) for one in sockets]


def statuses(answers: list[bytes]) -> list[bytes]:
    return [answer.split(b" ", 2)[1] for answer in answers]


def test_a_low_limit_is_raised_as_far_as_it_may_be(tmp_path: Path, simulator: SimulatorServer) -> None:
    write_config(tmp_path, simulator)
    with (
        ExitStack() as held,
        running("serve", cwd=tmp_path, open_files=(STREAMS, KEPT + 2 * 2000)) as server,
    ):
        assert statuses(begin_streams(server, STREAMS, held)) == [b"200"] * STREAMS
        assert "limit of open files" not in server.said


def test_what_a_limit_leaves_no_room_for_is_refused_and_told(
    tmp_path: Path, simulator: SimulatorServer
) -> None:
    write_config(tmp_path, simulator)
    room = 20
    with (
        ExitStack() as held,
        running("serve", cwd=tmp_path, open_files=(KEPT, KEPT + 2 * room)) as server,
    ):
        answers = begin_streams(server, STREAMS, held)
        assert statuses(answers).count(b"200") == room
        refused = [answer for answer in answers if not answer.startswith(b"HTTP/1.1 200")]
        assert all(answer.startswith(b"HTTP/1.1 503") and b"open files" in answer for answer in refused)
        assert all(b"retry-after: " in answer.lower() for answer in refused)
        assert f"room for {room} requests at a time instead of 2000" in server.said
        assert "raise it to 4256" in server.said


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_the_table_of_files_is_made_before_anybody_comes(tmp_path: Path, simulator: SimulatorServer) -> None:
    write_config(tmp_path, simulator)
    with running("serve", cwd=tmp_path) as server:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        size = int(status.partition("FDSize:")[2].split()[0])
        assert size >= KEPT + 2 * 2000
        assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 100
