"""Instructions per request, which repeat where microseconds do not: by callgrind, since virtual machines mostly have no
hardware counter for ``perf stat``.

A gateway runs some fifty times slower under it, so few requests are made, and twice: the difference of the two runs
leaves out start and import. It sees user space only, and one process: the kernel's part is not in the figure.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks import process
from benchmarks.cells import Cell
from benchmarks.contenders import Contender, Route
from benchmarks.measure import Bench, Running, answers, generate, target
from benchmarks.upstream.bodies import chat_request

FEW, MANY = 200, 1200
_STARTS_WITHIN_S = 240.0


def available() -> bool:
    return shutil.which("valgrind") is not None


def per_request(bench: Bench, cell: Cell, contender: Contender, rows: list[Route]) -> float | None:
    """User-space instructions of one request of ``cell``; None where valgrind is missing or the contender is not ours
    to start."""
    if not available() or contender.launch is None:
        return None
    few, many = (_counted(bench, cell, contender, rows, requests) for requests in (FEW, MANY))
    return round((many - few) / (MANY - FEW), 1)


def _counted(bench: Bench, cell: Cell, contender: Contender, rows: list[Route], requests: int) -> int:
    work = bench.work / f"{contender.name}-callgrind"
    work.mkdir(exist_ok=True)
    counts = work / f"{requests}.out"
    port = process.free_port()
    assert contender.launch is not None
    launch = contender.launch(port, work, rows)
    asking = contender.ask(port, rows[0], "openai")
    body = chat_request(asking.model, 1024)
    with process.running(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}", *launch.argv],
        lambda: answers(asking.url, asking.headers, body),
        log=work / "output.log",
        env=launch.env,
        cwd=work,
        timeout_s=_STARTS_WITHIN_S,
    ) as pid:
        asked = target(bench, cell, Running(contender, port, pid))
        job = {"mode": "closed", "concurrency": 8, "requests": requests, "limit_s": 120}
        result = generate(job | {"target": asked})
    if result["errors"] or result["requests"] != requests:
        raise RuntimeError(
            f"{contender.name}: {result['errors']} of {result['requests']} failed under callgrind"
        )
    return _totals(counts)


def _totals(path: Path) -> int:
    for line in path.read_text().splitlines():
        if line.startswith("totals:"):
            return int(line.split()[1])
    raise RuntimeError(f"{path.name} holds no totals: the process was killed before it could write them")
