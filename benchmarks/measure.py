"""Measuring one contender in one cell: drive it, and read what its process tree used meanwhile.

CPU per request = CPU of the whole tree, from rest to rest, / requests answered. CPU per chunk = the same CPU / segments
that the upstream wrote in that time (each one event, the last three of a stream together). The part of a chunk alone,
free of the request's own cost, is computed from two cells: see ``figures.marginal``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from benchmarks import process
from benchmarks.cells import Cell
from benchmarks.contenders import DIRECT, python_environment
from benchmarks.load import wrk
from benchmarks.stage import Bench, Running
from benchmarks.upstream.bodies import anthropic_request, chat_request

Result = dict[str, Any]
MAX_RATE = 8000.0
"""Requests a second that the open-loop generator offers at most: beyond it, it would be what is measured."""
PAIR_PAUSE_S = 0.002
"""Between the pairs that are measured beside a load."""
WARM_S, PEER_WARM_S = 1.0, 3.0
"""Before each turn; peers are given longer, as theirs compile what is used often, or have seen little of it so far."""
SATURATION_S = WARM_S + 2.0
"""What finding out the saturation takes."""
LEAST_S = 3.0
"""A turn of ``wrk`` is no shorter."""


def measure(bench: Bench, cell: Cell, running: Running) -> Result:
    return _KINDS[cell.kind](bench, cell, running)


def requests_of(bench: Bench, cell: Cell, running: Running) -> int:
    asked = cell.peer_requests if running.contender.peer else cell.requests
    return max(cell.concurrency, 20, int(asked * bench.share))


def limit_of(bench: Bench, cell: Cell, running: Running) -> float:
    return min(bench.limit_s, cell.peer_seconds if running.contender.peer else cell.seconds)


def _throughput(bench: Bench, cell: Cell, running: Running) -> Result:
    requests, limit_s = requests_of(bench, cell, running), limit_of(bench, cell, running)
    rate = warm(bench, cell, running)
    before_chunks = chunks_written(bench.sse_port)
    before = process.at_rest(running.pid) if running.pid else None
    result = drive(bench, cell, running, requests, limit_s, rate)
    if running.pid and before:
        result |= _cpu(result, process.at_rest(running.pid).since(before))
        if cell.stream:
            chunks = chunks_written(bench.sse_port) - before_chunks
            result |= {
                "chunks": chunks,
                "cpu_us_per_chunk": round(result["cpu_s"] / max(1, chunks) * 1e6, 3),
            }
    return result


def _cpu(result: Result, used_s: float) -> Result:
    """What ``wrk`` left behind when its time was over counts as answered: somebody worked on it."""
    served = max(1, result["requests"] - result["errors"] + result.get("left_behind", 0))
    return {
        "cpu_s": round(used_s, 4),
        "cpu_us_per_request": round(used_s / served * 1e6, 2),
        "requests_per_s_per_core": round(served / used_s, 1) if used_s else None,
    }


def warm(bench: Bench, cell: Cell, running: Running) -> float:
    """Some of the same load, after the others had their turns; requests a second. Streams take as many as run at a
    time."""
    warm_s = min(bench.limit_s, PEER_WARM_S if running.contender.peer else WARM_S)
    requests = 10**9 if cell.kind == "whole" else cell.concurrency
    if not warmed(cell):
        return 0.0
    return float(drive(bench, cell, running, requests, warm_s, 0.0)["requests_per_s"])


def warmed(cell: Cell) -> bool:
    """Streams that last longer than warming up would are long enough to be warm for most of their time."""
    return not cell.stream or cell.stream_s <= WARM_S


def drive(
    bench: Bench, cell: Cell, running: Running, requests: int, limit_s: float, rate: float = 0.0
) -> Result:
    """Closed loop: ``wrk`` for whole answers where it is installed, else our generator. ``rate`` is what to expect."""
    if not cell.stream and wrk.available():
        asked = target(bench, cell, running)
        lua = wrk.script(bench.work, asked["headers"], asked["body"].encode())
        url = f"http://{asked['host']}:{asked['port']}{asked['path']}"
        least_s = min(LEAST_S, limit_s)
        return wrk.run(
            url,
            lua,
            connections=cell.concurrency,
            requests=requests,
            least_s=least_s,
            limit_s=limit_s,
            rate=rate,
        )
    job = {"mode": "closed", "concurrency": cell.concurrency, "requests": requests, "limit_s": limit_s}
    return generate(job | {"gaps": cell.gaps, "target": target(bench, cell, running)})


def target(bench: Bench, cell: Cell, running: Running) -> dict[str, Any]:
    """A ``generators.Target`` as JSON."""
    dialect = running.dialect(cell)
    asking = running.contender.ask(running.port, bench.routes[cell.route], dialect)
    body = {"openai": chat_request, "anthropic": anthropic_request}[dialect]
    url = urlsplit(asking.url)
    return {
        "host": url.hostname,
        "port": url.port or 80,
        "path": url.path,
        "headers": asking.headers,
        "body": body(asking.model, cell.request_bytes, stream=cell.stream).decode(),
        "stream": cell.stream,
    }


def spawn_generator(job: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.load.generators"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    generator = subprocess.Popen(command, text=True, env=python_environment(), **pipes)  # type: ignore[call-overload]
    generator.stdin.write(json.dumps(job) + "\n")
    generator.stdin.flush()
    return generator  # type: ignore[no-any-return]


def finish_generator(generator: subprocess.Popen[str]) -> Result:
    output, errors = generator.communicate()
    if generator.returncode != 0:
        raise RuntimeError(f"load generator failed: {errors[-1500:]}")
    result: Result = json.loads(output.splitlines()[-1])
    return result


def generate(job: dict[str, Any]) -> Result:
    return finish_generator(spawn_generator(job))


def chunks_written(sse_port: int) -> int:
    """How many stream segments the upstream has written since it started."""
    connection = http.client.HTTPConnection("127.0.0.1", sse_port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/counts")
        return int(json.loads(connection.getresponse().read())["events"])


def saturation(bench: Bench, cell: Cell, running: Running) -> float:
    """Requests a second that 32 closed-loop connections get out of it; found once in a run."""
    key = (running.contender.name, cell.dialect)
    if key not in bench.saturations:
        loaded = Cell(name="saturation", kind="whole", route=cell.route, dialect=cell.dialect)
        drive(bench, loaded, running, 10**9, WARM_S)
        bench.saturations[key] = float(
            drive(bench, loaded, running, 10**9, SATURATION_S - WARM_S)["requests_per_s"]
        )
    return bench.saturations[key]


def _offered(bench: Bench, cell: Cell, running: Running) -> float:
    return max(1.0, min(MAX_RATE, cell.load * saturation(bench, cell, running)))


def _paired(bench: Bench, cell: Cell, running: Running) -> Result:
    job = {
        "mode": "paired",
        "requests": requests_of(bench, cell, running),
        "limit_s": limit_of(bench, cell, running),
        "direct": target(bench, cell, Running(DIRECT, 0, None)),
        "target": target(bench, cell, running),
    }
    if not cell.load:
        return generate(job)
    # The pairs are part of the load; as fast as they can they would be a quarter of it and more.
    job["pause_s"] = PAIR_PAUSE_S
    rate = max(1.0, _offered(bench, cell, running) - 1 / PAIR_PAUSE_S)
    with _background(bench, cell, running, rate):
        return generate(job) | {"background_rate": round(rate, 1)}


@contextlib.contextmanager
def _background(bench: Bench, cell: Cell, running: Running, rate: float) -> Iterator[None]:
    """A constant arrival rate beside what is measured."""
    limit_s = limit_of(bench, cell, running) + 60
    job = {"mode": "open", "rate": rate, "requests": 10**9, "limit_s": limit_s, "concurrency": 32}
    generator = spawn_generator(job | {"target": target(bench, cell, running)})
    try:
        time.sleep(WARM_S)
        yield
    finally:
        generator.terminate()
        generator.communicate()


def _open(bench: Bench, cell: Cell, running: Running) -> Result:
    rate = _offered(bench, cell, running)
    job = {
        "mode": "open",
        "rate": rate,
        "requests": requests_of(bench, cell, running),
        "limit_s": limit_of(bench, cell, running),
        "concurrency": 32,
    }
    through = generate(job | {"target": target(bench, cell, running)})
    direct = generate(job | {"target": target(bench, cell, Running(DIRECT, 0, None))})
    added = {
        name: round(value - direct["latency_us"][name], 1)
        for name, value in through["latency_us"].items()
        if name in direct["latency_us"]
    }
    return through | {"direct": direct, "added_us": added}


_KINDS = {"whole": _throughput, "stream": _throughput, "paired": _paired, "open": _open}
