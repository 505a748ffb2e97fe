"""``python -m benchmarks.quick``: the guard. In under a minute it measures the ratios to the floor that matter and
compares them with ``results/baseline.json``; it fails only on a change far beyond noise.

Ratios, not microseconds: both sides run in turns on the same machine, so its speed cancels. With ``--instructions`` the
instructions of a whole answer are counted too, which repeat to a percent; that takes longer (see ``instructions``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import instructions, report
from benchmarks.cells import Cell
from benchmarks.contenders import FLOOR, TIELINE, Contender
from benchmarks.measure import Bench, measure
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
INSTRUCTIONS_FAIL_ABOVE = 1.25
"""Instruction counts repeat far better than times."""
_COUNTED = "nonstream_instructions_vs_floor"
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
        bound = INSTRUCTIONS_FAIL_ABOVE if self.name == _COUNTED else FAIL_ABOVE
        return self.factor is None or self.factor > bound


def compare(stored: dict[str, float | None], found: dict[str, float | None]) -> list[Change]:
    """The guarded ratios; that of instructions only where they were counted now."""
    names = (*GUARDED, _COUNTED) if found.get(_COUNTED) is not None else GUARDED
    return [Change(name, stored.get(name), found.get(name)) for name in names]


def measure_ratios(
    contenders: list[Contender], console: Console, *, count: bool = False
) -> tuple[report.Rounds, dict[str, float]]:
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
        if count:
            counted = {one.name: instructions.per_request(bench, CELLS[0], one, rows) for one in contenders}
            return found, {name: value for name, value in counted.items() if value is not None}
    return found, {}


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
    parser.add_argument("--instructions", action="store_true", help="also count instructions, by callgrind")
    options = parser.parse_args()
    console = Console()
    raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended too
    rounds, counts = measure_ratios([FLOOR, TIELINE], console, count=options.instructions)
    found = report.ratios(rounds)
    if counts.keys() >= {"floor", "tieline"}:
        found[_COUNTED] = round(counts["tieline"] / counts["floor"], 3)
    costs = {
        cell: {n: report.median_result(r)["cpu_us_per_request"] for n, r in of.items()}
        for cell, of in rounds.items()
    }
    console.print(f"CPU us per request or stream: {costs}")
    if counts:
        console.print(f"instructions per request: {counts}")
    if options.store or not BASELINE.exists():
        guarded = {name: found.get(name) for name in (*GUARDED, _COUNTED)}
        report.store({"ratios": guarded, "cpu_us_per_request": costs, "instructions": counts}, BASELINE)
        console.print(f"Stored as the baseline: {guarded}")
        return
    changes = compare(json.loads(BASELINE.read_text())["ratios"], found)
    print_changes(changes, console)
    sys.exit(any(change.failed for change in changes))


if __name__ == "__main__":
    main()
