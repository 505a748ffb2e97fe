"""``tieline serve`` as a process: signals, drain, reload, what is wrong at the start, several workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.programs import Running, running, tieline, tieline_json
from tests.served import HELLO
from tieline.simulator import SimulatorServer

SLOW = "sim-echo:tokens=60,tps=40"


@pytest.fixture
def simulator() -> Iterator[SimulatorServer]:
    server = SimulatorServer()
    with server.run_in_thread():
        yield server


def write_config(folder: Path, simulator: SimulatorServer, **models: str) -> Path:
    names = {"fast": "gpt-sim", "slow": SLOW, **models}
    lines = [
        "discover: false",
        "server: {port: 0, drain_s: 10}",
        "store: {database: 'sqlite:///tieline.db'}",
        "providers:",
        f"  sim: {{base_url: '{simulator.url}/sim/v1', api_key: k-1234}}",
        "models:",
        *(f"  {name}: 'sim/{model}'" for name, model in names.items()),
    ]
    path = folder / "tieline.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def ask(url: str, model: str = "fast", *, stream: bool = False) -> bytes:
    body = json.dumps({"model": model, "messages": HELLO, "stream": stream}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


class Streaming:
    """A stream in flight, begun when made."""

    def __init__(self, server: Running, model: str = "slow") -> None:
        body = json.dumps({"model": model, "messages": HELLO, "stream": True}).encode()
        self._socket = socket.create_connection(("127.0.0.1", server.port), 10)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        self.received = b""
        while self.received.count(b"data: ") < 3:
            self.received += self._socket.recv(65536)

    def rest(self) -> bytes:
        with self._socket:
            try:
                while piece := self._socket.recv(65536):
                    self.received += piece
            except ConnectionError:
                pass
        return self.received

    @property
    def whole(self) -> bool:
        return self.received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_sigterm_lets_a_stream_end_and_flushes(tmp_path: Path, simulator: SimulatorServer) -> None:
    write_config(tmp_path, simulator)
    with running("serve", cwd=tmp_path) as server:
        ask(server.url)
        stream = Streaming(server)
        server.signal(signal.SIGTERM)
        time.sleep(0.4)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), 2)
        assert b"[DONE]" not in stream.received
        stream.rest()
        assert stream.whole
        assert server.wait() == 0
        assert "Traceback" not in server.said
    found = tieline_json("logs", cwd=tmp_path)
    assert [record["outcome"] for record in found] == ["success", "success"]
    assert found[0]["model_asked"] == "slow"


def test_what_outlasts_the_drain_is_told_and_nobody_is_blamed(
    tmp_path: Path, simulator: SimulatorServer
) -> None:
    write_config(tmp_path, simulator, slow="sim-echo:tokens=1000,tps=20", late="sim-echo:ttft_ms=20000")
    with (
        running("serve", cwd=tmp_path, TIELINE_SERVER__DRAIN_S="3") as server,
        ThreadPoolExecutor(1) as caller,
    ):
        stream = Streaming(server)
        asked = caller.submit(ask, server.url, "late")
        _until(lambda: len(simulator.log) == 2)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        with pytest.raises(urllib.error.HTTPError) as raised:
            asked.result(20)
        assert server.wait() == 0
        assert 3 <= time.monotonic() - began < 5.5
        assert "Traceback" not in server.said
    with raised.value as refusal:
        said = json.load(refusal)["error"]
    assert (refusal.status, said["code"], refusal.headers["retry-after"]) == (503, "overloaded", "1")
    assert "shut down" in said["message"]
    last = stream.rest().rpartition(b"data: ")[2]
    assert json.loads(last.partition(b"\n")[0])["error"]["code"] == "overloaded"
    assert len(simulator.log) == 2, "nothing was tried again"
    for record in tieline_json("logs", cwd=tmp_path):
        (attempt,) = tieline_json("show", record["id"], cwd=tmp_path)["attempts"]
        assert (record["outcome"], attempt["outcome"]) == ("shut_down", "shut_down")
        assert attempt["usage"]["estimated"]
        assert attempt["cost_usd"] == "unknown", "its price is not known; 0 would say that it was free"


def test_what_a_load_balancer_sees_of_the_end(tmp_path: Path, simulator: SimulatorServer) -> None:
    write_config(tmp_path, simulator)
    probe = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"
    with (
        running("serve", cwd=tmp_path) as server,
        socket.create_connection(("127.0.0.1", server.port), 10) as idle,
        socket.create_connection(("127.0.0.1", server.port), 10) as coming,
    ):
        idle.sendall(probe)
        assert idle.recv(4096).startswith(b"HTTP/1.1 200 ")
        body = json.dumps({"model": "fast", "messages": HELLO}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        coming.sendall(head.encode() + body[:10])
        time.sleep(0.2)
        server.signal(signal.SIGTERM)
        assert idle.recv(4096) == b"", "an idle connection is closed"
        assert _is_refused(server.port)
        coming.sendall(body[10:])
        answer = coming.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer
        assert server.wait() == 0


def test_a_second_sigint_does_not_wait(tmp_path: Path, simulator: SimulatorServer) -> None:
    write_config(tmp_path, simulator, slow="sim-echo:tokens=1000,tps=40")
    with running("serve", cwd=tmp_path) as server:
        stream = Streaming(server)
        server.signal(signal.SIGINT)
        time.sleep(0.4)
        assert server.process.poll() is None
        began = time.monotonic()
        server.signal(signal.SIGINT)
        assert server.wait() == 130
        assert time.monotonic() - began < 4
        stream.rest()
        assert not stream.whole
        assert "Traceback" not in server.said
    (record,) = tieline_json("logs", cwd=tmp_path)
    assert record["outcome"] == "shut_down"
    assert record["usage"]["output_tokens"] > 0


def test_an_edit_takes_effect_under_a_stream(tmp_path: Path, simulator: SimulatorServer) -> None:
    write_config(tmp_path, simulator)
    with running("serve", cwd=tmp_path) as server:
        stream = Streaming(server, "slow")
        write_config(tmp_path, simulator, added="gpt-sim")
        _until(lambda: "configuration reloaded" in server.said)
        ask(server.url, "added")
        stream.rest()
        assert stream.whole
        (tmp_path / "tieline.yaml").write_text("modles: {}\nserver: {prot: 1}\n")
        _until(lambda: "stays as it was" in server.said)
        lines = [line for line in server.said.splitlines() if "stays as it was" in line]
        assert len(lines) == 1
        assert "models" in lines[0]
        assert "tieline.yaml:2" in lines[0]
        ask(server.url, "added")


def test_an_edit_that_waits_for_the_next_start_is_told(tmp_path: Path) -> None:
    file = tmp_path / "tieline.yaml"
    file.write_text("discover: false\n")
    with running("serve", "--port", "0", cwd=tmp_path) as server:
        file.write_text("discover: false\nstore: {retention_days: 5}\n")
        _until(lambda: "configuration reloaded" in server.said)
        assert "next start" not in server.said
        file.write_text("discover: false\nserver: {drain_s: 7}\nstore: {database: 'sqlite:///other.db'}\n")
        _until(lambda: "next start" in server.said)
        [line] = [line for line in server.said.splitlines() if "next start" in line]
        assert line.endswith("only: server.drain_s: 30.0 -> 7.0; store.database: changed")


@pytest.mark.parametrize("given", [(), ("--workers", "2"), ("--workers", "1")])
def test_every_edit_of_the_server_that_waits_is_told(tmp_path: Path, given: tuple[str, ...]) -> None:
    """But for what was said at the start and stays above any file; and at each reload, while it waits."""
    file, base = tmp_path / "tieline.yaml", "discover: false\n"
    count = "" if given else "workers: 2, "
    file.write_text(f"{base}server: {{{count}port: 0}}\n")
    edited = "server: {workers: 3, port: 1, host: localhost}\nstore: {database: 'sqlite:///other.db'}\n"
    told = "" if given else "server.workers: 2 -> 3; "
    port, host = "server.port: 0 -> 1", 'server.host: "127.0.0.1" -> "localhost"'
    with running("serve", *given, cwd=tmp_path) as server:
        for number, more in enumerate(("", "routing: {max_attempts: 3}\n"), 1):
            file.write_text(base + edited + more)
            _until(lambda so_far=number: server.said.count("next start") >= so_far)
        lines = [line.partition("only: ")[2] for line in server.said.splitlines() if "next start" in line]
    expected = {one for one in (host, port, told.removesuffix("; "), "store.database: changed") if one}
    assert all(set(line.split("; ")) == expected for line in lines), lines


def _until(true: object, timeout: float = 8) -> None:
    deadline = time.monotonic() + timeout
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _refused(done: subprocess.CompletedProcess[str], *says: str) -> None:
    """One line with the fix, exit code 2."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    for word in says:
        assert word in lines[0]


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        _refused(tieline("serve", "--port", str(port), cwd=tmp_path), f"Port {port}", "taken", "--port")


@pytest.mark.parametrize(
    ("database", "says"),
    [
        ("sqlite:////proc/nowhere/tieline.db", "/proc/nowhere"),
        ("sqlite:////proc/tieline.db", "Name a path that can be written"),
        ("sqlite:////bin/sh", "not a database"),
    ],
)
def test_an_unusable_database_is_one_line(tmp_path: Path, database: str, says: str) -> None:
    (tmp_path / "tieline.yaml").write_text(f"server: {{port: 0}}\nstore: {{database: '{database}'}}\n")
    done = tieline("serve", cwd=tmp_path)
    _refused(done, says, "store.database")
    assert "secret" not in done.stderr


@pytest.mark.parametrize("command", [("serve",), ("up", "--once")])
def test_a_start_that_fails_as_nobody_thought_of_is_one_line(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "tieline.yaml").write_text("discover: false\nserver: {port: 0}\n")
    assert tieline("keys", "create", "ci", cwd=tmp_path).returncode == 0
    with sqlite3.connect(tmp_path / "tieline.db") as database:
        database.execute("UPDATE meta SET value = 'odd' WHERE name = 'accounts_revision'")
    database.close()
    _refused(tieline(*command, cwd=tmp_path), "Cannot start: ValueError", "'odd'")


def test_an_unusable_spool_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    (tmp_path / "tieline.yaml").write_text("server: {port: 0}\nstore: {spool: spool}\n")
    _refused(tieline("serve", cwd=tmp_path), "spool")


@pytest.mark.parametrize(
    "arguments", [("--port", "65536"), ("--port", "-1"), ("--workers", "0"), ("--workers", "257")]
)
def test_numbers_that_cannot_be_are_refused(tmp_path: Path, arguments: tuple[str, str]) -> None:
    done = tieline("serve", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
    assert "Traceback" not in done.stderr


def test_one_worker_instead_of_several_shares_with_nobody(tmp_path: Path) -> None:
    """Ceilings need Redis only where there are several."""
    (tmp_path / "tieline.yaml").write_text("discover: false\nserver: {port: 0, workers: 4}\n")
    assert tieline("keys", "create", "ci", "--rpm", "5", cwd=tmp_path).returncode == 0
    with running("serve", "--workers", "1", cwd=tmp_path) as server:
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_public_address_without_a_key_is_one_line(tmp_path: Path) -> None:
    _refused(tieline("serve", "--host", "0.0.0.0", "--port", "0", cwd=tmp_path), "tieline keys create")


def test_a_bad_configuration_says_where(tmp_path: Path) -> None:
    (tmp_path / "tieline.yaml").write_text("server:\n  prot: 1\n")
    _refused(tieline("serve", cwd=tmp_path), "tieline.yaml:2", "port")
    _refused(tieline("serve", "--config", "missing.yaml", cwd=tmp_path), "missing.yaml")


def test_ready_soon(tmp_path: Path) -> None:
    """Processor time, as the machine that runs this may be busy; on an idle one it is the time to ready."""
    before = os.times()
    with running("serve", "--port", "0", cwd=tmp_path) as server:
        stat = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(stat[11]) + int(stat[12])
        assert ticks / os.sysconf("SC_CLK_TCK") < 2.0
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert os.times().elapsed - before.elapsed < 30


def test_two_workers_survive_a_kill(tmp_path: Path, simulator: SimulatorServer) -> None:
    write_config(tmp_path, simulator)
    with running("serve", "--workers", "2", cwd=tmp_path) as server:
        assert server.said.count("listens on") == 1
        children = _children(server.process.pid)
        assert len(children) == 2
        for _ in range(5):
            ask(server.url)
        os.kill(children[0], signal.SIGKILL)
        for _ in range(20):
            _patient(lambda: ask(server.url))
        _until(lambda: len(_children(server.process.pid)) == 2)
        assert set(_children(server.process.pid)) != set(children)
        assert "worker" in server.said
        assert "replaced" in server.said
        # What the killed one had accepted but not written is in its journal, which the replacement takes over.
        _until(lambda: len(tieline_json("logs", "-n", "100", cwd=tmp_path)) >= 25, timeout=20)
        stream = Streaming(server)
        server.signal(signal.SIGHUP)
        server.signal(signal.SIGTERM)
        stream.rest()
        assert stream.whole
        assert server.wait() == 0
        assert "Traceback" not in server.said
    assert len(tieline_json("logs", "-n", "100", cwd=tmp_path)) >= 26


def test_a_worker_that_is_replaced_has_the_database_of_the_others(
    tmp_path: Path, simulator: SimulatorServer
) -> None:
    """An edit of `store` is for the next start. The one in its place took it at once, and knew none of the keys."""
    path = write_config(tmp_path, simulator)
    with running("serve", "--workers", "2", cwd=tmp_path) as server:
        path.write_text(path.read_text().replace("tieline.db", "other.db").replace("fast:", "quick:"))
        _until(lambda: server.said.count("next start only: store.database") == 2)
        victim, other = _children(server.process.pid)
        # Only the new one can answer.
        os.kill(other, signal.SIGSTOP)
        os.kill(victim, signal.SIGKILL)
        for _ in range(20):
            _patient(lambda: ask(server.url, "quick"))
        os.kill(other, signal.SIGCONT)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert not (tmp_path / "other.db").exists()
    path.write_text(path.read_text().replace("other.db", "tieline.db"))
    assert len(tieline_json("logs", "-n", "100", cwd=tmp_path)) == 20


def test_a_worker_that_is_replaced_has_the_settings_of_the_others_and_tells_the_same(
    tmp_path: Path, simulator: SimulatorServer
) -> None:
    """It took what the file said by then, here whom it serves; and when that was taken back, it told of a change."""
    path = write_config(tmp_path, simulator)
    before = path.read_text()
    edited = "server: {port: 1, open: true, drain_s: 10}"
    line = "next start only: server.port: 0 -> 1; server.open: false -> true\n"
    with running("serve", "--workers", "2", cwd=tmp_path) as server:
        path.write_text(before.replace("server: {port: 0, drain_s: 10}", edited))
        _until(lambda: server.said.count(line) == 2)
        victim, other = _children(server.process.pid)
        os.kill(other, signal.SIGSTOP)
        os.kill(victim, signal.SIGKILL)
        _patient(lambda: ask(server.url))
        os.kill(other, signal.SIGCONT)
        path.write_text(path.read_text().replace("fast:", "quick:"))
        _until(lambda: server.said.count(line) == 4)
        path.write_text(before)
        _until(lambda: server.said.count("configuration reloaded") == 6)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.said.count("next start only") == 4


def test_a_scrape_tells_of_all_workers(tmp_path: Path, simulator: SimulatorServer) -> None:
    """Each used to tell of itself alone: counters went up and down with whom a scrape reached."""
    write_config(tmp_path, simulator)
    with running("serve", "--workers", "3", cwd=tmp_path) as server:
        for number in range(1, 31):
            ask(server.url)
            if number % 10 == 0:
                # Each scrape is a connection of its own, which any of them takes.
                _until(lambda number=number: {_counted(server) for _ in range(9)} == {number}, timeout=10)
        assert {_scraped(server, "tieline_request_seconds_count") for _ in range(6)} == {30}
        assert {_scraped(server, "tieline_dependency_up") for _ in range(6)} == {6}
        victim = _children(server.process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        counts = []
        while victim in _children(server.process.pid) or len(_children(server.process.pid)) < 3:
            _patient(lambda: counts.append(_counted(server)))
        for _ in range(10):
            _patient(lambda: ask(server.url))
        _until(lambda: {_counted(server) for _ in range(9)} == {40}, timeout=20)
        assert set(counts) == {30}


def _counted(server: Running) -> float:
    return _scraped(server, "tieline_requests_total")


def _scraped(server: Running, name: str) -> float:
    """The sum over all labels."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return sum(one.value for family in families for one in family.samples if one.name == name)


def test_workers_without_a_configuration_file_have_nothing_to_read_again(tmp_path: Path) -> None:
    with running("serve", "--workers", "2", "--port", "0", cwd=tmp_path) as server:
        before = _children(server.process.pid)
        with socket.create_connection(("127.0.0.1", server.port), 10) as caller:
            for child in before:
                os.kill(child, signal.SIGHUP)
            caller.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert caller.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert _children(server.process.pid) == before
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert "replaced" not in server.said


def test_workers_do_not_outlive_their_parent(tmp_path: Path, simulator: SimulatorServer) -> None:
    write_config(tmp_path, simulator)
    with running("serve", "--workers", "2", cwd=tmp_path) as server:
        stream = Streaming(server)
        server.signal(signal.SIGKILL)
        _until(lambda: _is_refused(server.port), timeout=20)
        stream.rest()
        assert stream.whole
    _until(lambda: [record["outcome"] for record in tieline_json("logs", cwd=tmp_path)] == ["success"])


def _is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except ConnectionError:
        return True
    return False


def test_two_workers_share_the_connections(tmp_path: Path, simulator: SimulatorServer) -> None:
    """Who is awake first used to take most of them, often all, and they stay: one worker then served everybody."""
    write_config(tmp_path, simulator)
    with running("serve", "--workers", "2", cwd=tmp_path) as server, ExitStack() as stack:
        callers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10)) for _ in range(60)
        ]
        for caller in callers:
            caller.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        for caller in callers:
            assert caller.recv(4096).startswith(b"HTTP/1.1 200 ")
        os.kill(_children(server.process.pid)[0], signal.SIGKILL)
        _until(lambda: "replaced" in server.said)
        assert 15 <= sum(_is_cut(caller) for caller in callers) <= 45


def _is_cut(caller: socket.socket) -> bool:
    caller.settimeout(0.05)
    try:
        return caller.recv(4096) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def _patient(act: object) -> None:
    """A connection that the killed worker had accepted is lost with it: once more."""
    try:
        act()  # type: ignore[operator]
    except OSError:
        act()  # type: ignore[operator]


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in found if "--fd" in _command(each)]


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:  # it has ended since it was listed
        return ""


def test_workers_that_cannot_start_end_the_parent(tmp_path: Path) -> None:
    (tmp_path / "tieline.yaml").write_text(
        "server: {port: 0}\nstore: {database: 'sqlite:////proc/nowhere/x.db'}\n"
    )
    done = tieline("serve", "--workers", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "store.database" in done.stderr
