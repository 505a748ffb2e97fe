"""Instructions of a request, which repeat where microseconds do not: by callgrind, since virtual machines mostly have no
hardware counter for ``perf stat``.

The process starts uncounted, is told to count by ``vgdb``, serves some requests to warm up and then those that are
counted. User space only: the kernel's part is not in the figure. Other load on the machine does not change it.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks import process
from benchmarks.cells import Cell
from benchmarks.contenders import Contender
from benchmarks.measure import generate, target
from benchmarks.stage import Bench, Running, started

_SLOWER = 8.0
"""Times as long may a start take."""
_IDLE_S = 4.0
"""Each second a gateway looks for changed keys, every other one it tells other processes that it lives."""
_BATCH_S = 1.0
"""Records are written in batches, half a second after they were put: they belong to what came before."""


class Work(NamedTuple):
    """``warm`` requests that are not counted, then ``counted`` that are, so many ``at_a_time``."""

    cell: Cell
    warm: int
    counted: int
    at_a_time: int = 8


def available() -> bool:
    return shutil.which("valgrind") is not None and shutil.which("vgdb") is not None


def count(bench: Bench, contender: Contender, works: list[Work]) -> dict[str, float]:
    """User-space instructions of a request, by the name of the cell."""
    counts = bench.work / f"{contender.name}.callgrind"
    before = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={counts}")
    with started(contender, bench.work, bench.rows, before=before, slower=_SLOWER) as running:
        process.at_rest(running.pid or 0, polls=10 * process.REST_POLLS)
        _tell(running, "instrumentation", "on")
        found: dict[str, float] = {}
        idle_s = 0.0
        for work in works:
            _serve(bench, running, work, work.warm)
            idle_s = _idle(running, counts) if not found else idle_s
            found[work.cell.name] = _counted(bench, running, work, counts, idle_s)
        return found


def _idle(running: Running, counts: Path) -> float:
    """Instructions a second of what runs by the clock: they would count the more the slower the machine is."""
    time.sleep(_BATCH_S)
    process.at_rest(running.pid or 0, polls=10 * process.REST_POLLS)
    _tell(running, "zero")
    time.sleep(_IDLE_S)
    return _dumped(running, counts) / _IDLE_S


def _counted(bench: Bench, running: Running, work: Work, counts: Path, idle_s: float) -> float:
    _tell(running, "zero")
    begun = time.monotonic()
    _serve(bench, running, work, work.counted)
    time.sleep(_BATCH_S)
    elapsed_s = time.monotonic() - begun
    counted = _dumped(running, counts)
    if idle_s * elapsed_s > counted / 2:
        raise RuntimeError(f"{running.contender.name} is kept too busy to count what {work.cell.name} takes")
    return round((counted - idle_s * elapsed_s) / work.counted, 1)


def _dumped(running: Running, counts: Path) -> int:
    _tell(running, "dump")
    newest = max(counts.parent.glob(f"{counts.name}.*"), key=lambda path: int(path.suffix[1:]))
    return total(newest.read_text())


def _serve(bench: Bench, running: Running, work: Work, requests: int) -> None:
    job = {"mode": "closed", "concurrency": work.at_a_time, "requests": requests, "limit_s": 120}
    result = generate(job | {"target": target(bench, work.cell, running)})
    if result["errors"] or result["requests"] != requests:
        name, wrong = running.contender.name, result["error_statuses"]
        raise RuntimeError(f"{name}: {wrong} of {result['requests']} failed under callgrind")


def _tell(running: Running, *command: str) -> None:
    done = subprocess.run(
        ["vgdb", f"--pid={running.pid}", *command], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"vgdb {' '.join(command)}: {(done.stderr or done.stdout)[-300:]}")


def total(profile: str) -> int:
    """Instructions in a callgrind profile."""
    for line in profile.splitlines():
        if line.startswith("totals:"):
            return int(line.split()[1])
    raise RuntimeError("the profile holds no totals")
