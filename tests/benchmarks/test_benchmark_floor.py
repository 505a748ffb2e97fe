"""The floor and the load generators on loopback, a few hundred requests: what they count must be what happened."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import process
from benchmarks.alone import measure_alone
from benchmarks.cells import Cell
from benchmarks.contenders import DIRECT, FLOOR
from benchmarks.load import wrk
from benchmarks.load.connection import Connection
from benchmarks.load.content import FirstContent
from benchmarks.load.generators import Tally
from benchmarks.measure import finish_generator, generate, measure, spawn_generator, target
from benchmarks.stage import Bench, Running, started, upstreams

WHOLE = Cell(name="whole", kind="stream", concurrency=4, requests=300)
STREAM = Cell(name="stream", kind="stream", route="stream-50-1", concurrency=8, requests=40)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Running]]:
    work = tmp_path_factory.mktemp("bench")
    with ExitStack() as stack:
        sse_port, rows = stack.enter_context(upstreams(work, with_nginx=False))
        running = stack.enter_context(started(FLOOR, work, rows))
        yield Bench(work, {row.public: row for row in rows}, sse_port, 5.0, 1.0, {}), running


def _post(port: int, body: dict[str, object]) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        response = connection.getresponse()
        return response.status, response.read()


def test_the_floor_swaps_the_model_and_forwards(bench: tuple[Bench, Running]) -> None:
    status, body = _post(bench[1].port, {"model": "whole-10k", "messages": []})
    answer = json.loads(body)
    assert status == 200
    assert answer["model"] == "whole-10240"
    assert abs(len(body) - 10240) < 16


def test_the_floor_forwards_streams_unchanged(bench: tuple[Bench, Running]) -> None:
    through = _post(bench[1].port, {"model": "stream-50-0", "stream": True})
    direct = _post(bench[0].sse_port, {"model": "sse-50-0", "stream": True})
    assert through == direct
    assert through[1].count(b"\n\n") == 54
    assert through[1].endswith(b"data: [DONE]\n\n")


def test_closed_loop_counts_whole_answers(bench: tuple[Bench, Running]) -> None:
    result = measure(*_with(bench, WHOLE))
    assert result["requests"] >= 300  # wrk only knows whole seconds
    assert result["errors"] == 0
    assert 5 < result["cpu_us_per_request"] < 5000


def test_streams_are_counted_chunk_by_chunk(bench: tuple[Bench, Running]) -> None:
    result = measure(*_with(bench, STREAM))
    assert (result["requests"], result["errors"]) == (40, 0)
    assert result["chunks"] == 40 * 52
    assert result["events"] == 40 * 54
    assert 40 * 2 <= result["reads"] <= 40 * 55
    assert result["first_token_us"]["p50"] < result["latency_us"]["p50"]


def test_anthropic_streams_end_with_message_stop(bench: tuple[Bench, Running]) -> None:
    cell = Cell(name="messages", kind="stream", route="stream-50-1", dialect="anthropic", concurrency=4)
    job = {"mode": "closed", "requests": 8, "concurrency": 4}
    result = generate(job | {"target": target(bench[0], cell, Running(DIRECT, 0, None))})
    assert (result["requests"], result["errors"], result["events"]) == (8, 0, 8 * 55)


def test_the_open_loop_keeps_its_rate(bench: tuple[Bench, Running]) -> None:
    asked = target(bench[0], WHOLE, bench[1])
    result = generate({"mode": "open", "rate": 400.0, "requests": 200, "target": asked, "concurrency": 2})
    assert (result["requests"], result["errors"], result["unanswered"]) == (200, 0, 0)
    assert 0.45 < result["elapsed_s"] < 3


def test_paired_differences_are_those_of_the_gateway(bench: tuple[Bench, Running]) -> None:
    direct = target(bench[0], STREAM, Running(DIRECT, 0, None))
    job = {
        "mode": "paired",
        "requests": 8,
        "gaps": True,
        "direct": direct,
        "target": target(bench[0], STREAM, bench[1]),
    }
    result = generate(job)
    assert result["pairs"] == 8
    assert result["through"]["errors"] == result["direct"]["errors"] == 0
    assert "p99" in result["added_us"]
    assert result["through"]["gap_us"]["p50"] > 500


def test_held_streams_stay_open_until_told(bench: tuple[Bench, Running]) -> None:
    asked = target(bench[0], Cell(name="hold", kind="hold", route="stream-2-600000"), bench[1])
    generator = spawn_generator({"mode": "hold", "concurrency": 50, "limit_s": 20, "target": asked})
    assert generator.stdout is not None
    assert generator.stdout.readline() == "holding 50\n"
    assert finish_generator(generator)["lost"] == 0


def test_memory_is_that_of_a_process_that_served_nothing_before(bench: tuple[Bench, Running]) -> None:
    cell = Cell(name="memory", kind="memory", route="stream-50-1", concurrency=8, requests=40)
    result = measure_alone(bench[0], cell, FLOOR)
    assert (result["requests"], result["errors"]) == (40, 0)
    assert all(2 < result[name] < 200 for name in ("idle_mb", "load_mb", "after_mb"))


def test_a_refusal_with_a_time_to_come_back_is_told_from_other_errors() -> None:
    answers = [
        b"HTTP/1.1 503 X\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 503 X\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 429 X\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}",
    ]
    tally = Tally()
    for answer in answers:
        connection = Connection(tally.add)
        connection.transport = NoTransport()
        connection.send(b"")
        connection.data_received(answer)
    assert tally.result(1.0)["refused"] == 1
    assert tally.errors == 3


class NoTransport:
    def write(self, data: bytes) -> None:
        pass


def test_a_refused_request_is_an_error_not_a_fast_success(bench: tuple[Bench, Running]) -> None:
    asked = target(bench[0], WHOLE, bench[1]) | {"body": '{"model": "no-such-model"}'}
    result = generate({"mode": "closed", "requests": 3, "target": asked})
    assert result["errors"] == result["requests"] > 0
    assert result["latency_us"] == {}


def test_cpu_of_a_process_tree_counts_children(tmp_path: Path) -> None:
    code = "import subprocess, sys, time; subprocess.run([sys.executable, '-c', "
    code += '\'import time\\nend = time.process_time() + 0.1\\nwhile time.process_time() < end: pass\\nopen("done", "w")\'])'
    argv = [sys.executable, "-c", code + "; time.sleep(30)"]
    with process.running(argv, lambda: True, log=tmp_path / "log", cwd=tmp_path) as pid:
        before = process.cpu(pid)
        deadline = time.monotonic() + 5
        while not (tmp_path / "done").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.1)
        assert process.cpu(pid).since(before) >= 0.08
        assert process.memory(pid).pss_bytes > 1_000_000


def _with(bench: tuple[Bench, Running], cell: Cell) -> tuple[Bench, Cell, Running]:
    return bench[0], cell, bench[1]


EVENTS = [
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    b": waiting\n\n",
    b'event: content_block_start\ndata: {"type":"content_block_start","content_block":{"type":"text","text":""}}\n\n',
    b'data: {"choices":[]}\n\n',
]
SAYING = [
    b'data: {"choices":[{"delta":{"content":"the"}}]}\n\n',
    b'event: content_block_delta\r\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}\r\n\r\n',
]


@pytest.mark.parametrize("saying", SAYING)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_first_token_is_the_first_event_that_says_something(saying: bytes, size: int) -> None:
    before, looking = b"".join(EVENTS), FirstContent()
    assert not any(looking.found_in(before[at : at + size]) for at in range(0, len(before), size))
    found = [looking.found_in(saying[at : at + size]) for at in range(0, len(saying), size)]
    assert found == [False] * (len(found) - 1) + [True]


def test_time_to_first_token_counts_to_the_content_not_to_the_role(bench: tuple[Bench, Running]) -> None:
    """The upstream sends the role at once, the first token 16 ms later."""
    paced = Cell(name="paced", kind="paired", route="stream-50-16", concurrency=1, requests=3)
    result = measure(bench[0], paced, bench[1])
    assert result["direct"]["first_token_us"]["p50"] > 14_000
    assert result["through"]["first_token_us"]["p50"] > 14_000


class Moody(BaseHTTPRequestHandler):
    """Answers 200, 503 with Retry-After, 503 without, in turns."""

    protocol_version = "HTTP/1.1"
    answered = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        turn, Moody.answered = Moody.answered % 3, Moody.answered + 1
        self.send_response(503 if turn else 200)
        if turn == 1:
            self.send_header("Retry-After", "1")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.mark.skipif(not wrk.available(), reason="needs wrk")
def test_a_flood_is_counted_by_status(tmp_path: Path) -> None:
    lua = wrk.script(tmp_path, {"authorization": "Bearer k"}, b"{}", statuses=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), Moody) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with wrk.flood(f"http://127.0.0.1:{server.server_port}/v1", lua, 1, 1) as ended:
            counts = ended()
        server.shutdown()
    seen = [counts[name] for name in ("taken", "refused", "others")]
    assert max(seen) - min(seen) <= 1
    assert Moody.answered - 2 <= sum(seen) <= Moody.answered
    assert counts["broken"] == counts["timeouts"] == 0
