"""``python -m benchmarks.quick``: the guard. In under a minute it measures the ratios to the floor that matter and
compares them with ``results/baseline.json``; it fails only on a change far beyond noise.

Ratios, not microseconds: both sides run in turns on the same machine, so its speed cancels. Instruction counts would
repeat better; they are printed where ``perf`` has a hardware counter, which virtual machines mostly lack. Callgrind
counts without one, but runs Python some fifty times slower: ``--callgrind`` counts the floor's only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.cells import Cell
from benchmarks.contenders import FLOOR, TIELINE, Contender
from benchmarks.measure import Bench, Running, drive, measure
from benchmarks.run import raise_file_limit, start_all, upstreams

BASELINE = report.RESULTS / "baseline.json"
FAIL_ABOVE = 1.6
"""A ratio this many times the stored one fails. Runs of one commit differ by up to a fifth on a shared machine."""
ROUNDS = 3
TURN_S = 1.5
CELLS = [
    Cell(name="request-1k", kind="whole"),
    Cell(name="stream-50-c32", kind="stream", route="stream-50-4"),
    Cell(name="translated-50-c32", kind="stream", route="stream-50-4", dialect="anthropic"),
]
GUARDED = ("nonstream_cpu_vs_floor", "stream_chunk_cpu_vs_floor", "translated_chunk_cpu_vs_floor")


class Change(NamedTuple):
    name: str
    stored: float | None
    found: float | None

    @property
    def factor(self) -> float | None:
        return self.found / self.stored if self.found is not None and self.stored else None

    @property
    def failed(self) -> bool:
        """Worse by far, or no longer measurable although it once was."""
        if self.stored is None:
            return False
        return self.factor is None or self.factor > FAIL_ABOVE


def compare(stored: dict[str, float | None], found: dict[str, float | None]) -> list[Change]:
    return [Change(name, stored.get(name), found.get(name)) for name in GUARDED]


def measure_ratios(contenders: list[Contender], console: Console) -> tuple[report.Rounds, dict[str, float]]:
    """The quick cells, and instructions per request where they can be counted."""
    with tempfile.TemporaryDirectory(prefix="tieline-quick-") as folder, contextlib.ExitStack() as stack:
        work = Path(folder)
        sse_port, rows = stack.enter_context(upstreams(work))
        started, failed = start_all(stack, contenders, work, rows, console)
        if failed:
            raise SystemExit(2)
        bench = Bench(work, {row.public: row for row in rows}, sse_port, TURN_S)
        found: report.Rounds = {}
        for cell in CELLS:
            for number in range(ROUNDS):
                for running in started:
                    result = measure(bench, cell, running, requests=2000, warm=number == 0)
                    found.setdefault(cell.name, {}).setdefault(running.contender.name, []).append(result)
        counts = {running.contender.name: instructions(bench, running) for running in started}
    return found, {name: count for name, count in counts.items() if count is not None}


def instructions(bench: Bench, running: Running) -> float | None:
    """User-space instructions per request, by ``perf stat``; None where the processor does not tell."""
    if shutil.which("perf") is None or running.pid is None:
        return None
    command = ["perf", "stat", "-x,", "-e", "instructions:u", "-p", str(running.pid)]
    perf = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(0.1)
        driven = None
        if perf.poll() is None:
            driven = drive(bench, CELLS[0], running, 2000, 1.0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            perf.send_signal(2)
        _, output = perf.communicate(timeout=10)
    counted = output.partition(",")[0].strip()
    if driven is None or not counted.isdigit() or int(counted) == 0:
        return None
    return round(int(counted) / max(1, int(driven["requests"])), 1)


def print_changes(changes: list[Change], console: Console) -> None:
    table = Table("ratio", "stored", "now", "change", title="Against the stored ratios")
    for change in changes:
        factor = "-" if change.factor is None else f"{(change.factor - 1) * 100:+.0f} %"
        cells = ["-" if value is None else f"{value:.2f}" for value in (change.stored, change.found)]
        table.add_row(change.name, *cells, factor + (" FAILED" if change.failed else ""))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quick", description=__doc__)
    parser.add_argument("--store", action="store_true", help="store what is found as the new baseline")
    options = parser.parse_args()
    console = Console()
    raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended too
    rounds, counts = measure_ratios([FLOOR, TIELINE], console)
    found = report.ratios(rounds)
    costs = {
        cell: {n: report.median_result(r)["cpu_us_per_request"] for n, r in of.items()}
        for cell, of in rounds.items()
    }
    console.print(f"CPU us per request or stream: {costs}")
    console.print(f"instructions per request: {counts or 'this machine has no counter'}")
    if options.store or not BASELINE.exists():
        guarded = {name: found[name] for name in GUARDED}
        report.store({"ratios": guarded, "cpu_us_per_request": costs, "instructions": counts}, BASELINE)
        console.print(f"Stored as the baseline: {guarded}")
        return
    changes = compare(json.loads(BASELINE.read_text())["ratios"], found)
    print_changes(changes, console)
    sys.exit(any(change.failed for change in changes))


if __name__ == "__main__":
    main()
