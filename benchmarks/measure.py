"""Measuring one contender in one cell: drive it, and read what its process tree used meanwhile.

CPU per request = CPU of the whole tree between the cell's first and last request / requests answered. CPU per chunk =
the same CPU / segments that the upstream wrote in that time (each one event, the last three of a stream together).
The part of a chunk alone, free of the request's own cost, is computed from two cells: see ``report.marginal``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from benchmarks import process
from benchmarks.cells import Cell
from benchmarks.contenders import DIRECT, Contender, Route, python_environment
from benchmarks.load import wrk
from benchmarks.upstream.bodies import anthropic_request, chat_request

Result = dict[str, Any]
_MEMORY_EVERY_S = 0.25
_OTHER_FILES = 300
"""Open files of a gateway that are not held streams."""


class Running(NamedTuple):
    """A contender that has been started, or runs elsewhere."""

    contender: Contender
    port: int
    pid: int | None

    def dialect(self, cell: Cell) -> str:
        """The cell's, or for the floor, which translates nothing and stands for the least cost, its own."""
        return cell.dialect if cell.dialect in self.contender.dialects else "openai"


class Bench(NamedTuple):
    """What every measurement needs to know of the run."""

    work: Path
    routes: dict[str, Route]
    sse_port: int
    limit_s: float
    share: float = 1.0
    """Of the cells' requests: quick runs do a part."""


def measure(bench: Bench, cell: Cell, running: Running, *, requests: int, warm: bool) -> Result:
    if warm and cell.kind in ("whole", "stream"):
        _drive(bench, cell, running, min(requests, 4 * cell.concurrency), min(2.0, bench.limit_s))
    return _KINDS[cell.kind](bench, cell, running, requests)


def _throughput(bench: Bench, cell: Cell, running: Running, requests: int) -> Result:
    before_chunks = chunks_written(bench.sse_port)
    before = process.cpu(running.pid) if running.pid else None
    result = _drive(bench, cell, running, requests, bench.limit_s)
    if running.pid and before:
        used_s = process.cpu(running.pid).since(before)
        answered = max(1, result["requests"] - result["errors"])
        result |= {
            "cpu_s": round(used_s, 4),
            "cpu_us_per_request": round(used_s / answered * 1e6, 2),
            "requests_per_s_per_core": round(answered / used_s, 1) if used_s else None,
        }
        if cell.stream:
            chunks = chunks_written(bench.sse_port) - before_chunks
            result |= {"chunks": chunks, "cpu_us_per_chunk": round(used_s / max(1, chunks) * 1e6, 3)}
    return result


def _drive(bench: Bench, cell: Cell, running: Running, requests: int, limit_s: float) -> Result:
    # wrk leaves behind what is under way when its time is over. That is nothing to a contender that answers thousands
    # a second, but would bill a slow one for work that is not counted: peers get the generator that waits for answers.
    if cell.kind == "whole" and wrk.available() and not running.contender.peer:
        return _wrk(bench, cell, running, requests, limit_s)
    job = {"mode": "closed", "concurrency": cell.concurrency, "requests": requests, "limit_s": limit_s}
    return generate(job | {"target": target(bench, cell, running)})


def _wrk(bench: Bench, cell: Cell, running: Running, requests: int, limit_s: float) -> Result:
    asked = target(bench, cell, running)
    lua = wrk.script(bench.work, asked["headers"], asked["body"].encode())
    url = f"http://{asked['host']}:{asked['port']}{asked['path']}"
    return wrk.run(url, lua, connections=cell.concurrency, requests=requests, limit_s=limit_s)


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


def _spawn_generator(job: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.load.generators"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    generator = subprocess.Popen(command, text=True, env=python_environment(), **pipes)  # type: ignore[call-overload]
    generator.stdin.write(json.dumps(job) + "\n")
    generator.stdin.flush()
    return generator  # type: ignore[no-any-return]


def _finish_generator(generator: subprocess.Popen[str]) -> Result:
    output, errors = generator.communicate()
    if generator.returncode != 0:
        raise RuntimeError(f"load generator failed: {errors[-1500:]}")
    result: Result = json.loads(output.splitlines()[-1])
    return result


def generate(job: dict[str, Any]) -> Result:
    return _finish_generator(_spawn_generator(job))


def chunks_written(sse_port: int) -> int:
    """How many stream segments the upstream has written since it started."""
    connection = http.client.HTTPConnection("127.0.0.1", sse_port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/counts")
        return int(json.loads(connection.getresponse().read())["events"])


def answers(asking_url: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether a POST is answered with 200: what *started* means here."""
    url = urlsplit(asking_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("POST", url.path, body, headers | {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status == 200
    return False


def saturation(bench: Bench, cell: Cell, running: Running) -> float:
    """Requests a second that 32 closed-loop connections get out of it."""
    loaded = Cell(name="saturation", kind="whole", route=cell.route, dialect=cell.dialect)
    return float(_drive(bench, loaded, running, 1_000_000, 2.0)["requests_per_s"])


def _paired(bench: Bench, cell: Cell, running: Running, requests: int) -> Result:
    direct = target(bench, cell, Running(DIRECT, 0, None))
    job = {
        "mode": "paired",
        "requests": requests,
        "limit_s": bench.limit_s,
        "gaps": cell.stream,
        "direct": direct,
    }
    job["target"] = target(bench, cell, running)
    if not cell.load:
        return generate(job)
    rate = cell.load * saturation(bench, cell, running)
    with _background(bench, cell, running, rate):
        return generate(job) | {"background_rate": round(rate, 1)}


@contextlib.contextmanager
def _background(bench: Bench, cell: Cell, running: Running, rate: float) -> Iterator[None]:
    """A constant arrival rate beside what is measured."""
    job = {"mode": "open", "rate": rate, "requests": 10**9, "limit_s": bench.limit_s + 60, "concurrency": 32}
    generator = _spawn_generator(job | {"target": target(bench, cell, running)})
    try:
        time.sleep(1)
        yield
    finally:
        generator.terminate()
        generator.communicate()


def _open(bench: Bench, cell: Cell, running: Running, requests: int) -> Result:
    rate = cell.load * saturation(bench, cell, running)
    job = {"mode": "open", "rate": rate, "requests": requests, "limit_s": bench.limit_s, "concurrency": 32}
    through = generate(job | {"target": target(bench, cell, running)})
    direct = generate(job | {"target": target(bench, cell, Running(DIRECT, 0, None))})
    added = {
        name: round(value - direct["latency_us"][name], 1)
        for name, value in through["latency_us"].items()
        if name in direct["latency_us"]
    }
    return through | {"direct": direct, "added_us": added}


def _memory(bench: Bench, cell: Cell, running: Running, requests: int) -> Result:
    if running.pid is None:
        return {"requests": 0, "errors": 0}
    samples: list[int] = []
    over = threading.Event()
    sampler = threading.Thread(target=_sample, args=(running.pid, samples, over))
    idle = process.memory(running.pid)
    sampler.start()
    try:
        steps = [_loaded_memory(bench, cell, running, part) for part in _parts(requests)]
    finally:
        over.set()
        sampler.join()
    after = process.memory(running.pid)
    return {
        "requests": sum(step["requests"] for step in steps),
        "errors": sum(step["errors"] for step in steps),
        "idle_mb": _mb(idle.pss_bytes),
        "load_mb": _mb(max([*samples, after.pss_bytes])),
        "after_mb": _mb(after.pss_bytes),
        "steps": [{"requests": step["requests"], "after_mb": step["after_mb"]} for step in steps],
    }


def _parts(requests: int) -> list[int]:
    """Ten for a long run, to see a slope; else one."""
    return [requests // 10] * 10 if requests >= 100_000 else [requests]


def _loaded_memory(bench: Bench, cell: Cell, running: Running, requests: int) -> Result:
    limit_s = max(bench.limit_s, requests / 500)
    if cell.stream:
        job = {"mode": "closed", "concurrency": cell.concurrency, "requests": requests, "limit_s": limit_s}
        result = generate(job | {"target": target(bench, cell, running)})
    else:
        result = _wrk(bench, cell, running, requests, limit_s)
    return result | {"after_mb": _mb(process.memory(running.pid or 0).pss_bytes)}


def _sample(pid: int, samples: list[int], over: threading.Event) -> None:
    while not over.wait(_MEMORY_EVERY_S):
        samples.append(process.memory(pid).pss_bytes)


def _mb(size: int) -> float:
    return round(size / 2**20, 1)


def _hold(bench: Bench, cell: Cell, running: Running, requests: int) -> Result:
    """Memory while many streams are open and silent. Each takes two files of the gateway: where the system's limit is
    too low for all, as many as it allows."""
    allowed = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES) // 2
    wanted = min(cell.concurrency, requests, allowed)
    idle = process.memory(running.pid) if running.pid else None
    job = {"mode": "hold", "concurrency": wanted, "limit_s": bench.limit_s}
    generator = _spawn_generator(job | {"target": target(bench, cell, running)})
    try:
        held = int((generator.stdout.readline().split() or ["", "0"])[1])  # type: ignore[union-attr]
        loaded = process.memory(running.pid) if running.pid else None
    finally:
        result = _finish_generator(generator)
    result |= {"requests": held, "errors": wanted - held}
    if idle and loaded:
        result |= {"idle_mb": _mb(idle.pss_bytes), "load_mb": _mb(loaded.pss_bytes)}
        result["kb_per_stream"] = round((loaded.pss_bytes - idle.pss_bytes) / 1024 / max(1, held), 2)
    return result


_KINDS = {
    "whole": _throughput,
    "stream": _throughput,
    "paired": _paired,
    "open": _open,
    "memory": _memory,
    "hold": _hold,
}
