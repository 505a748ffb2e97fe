"""``python -m benchmarks.quick``: the guard. In under a minute it compares what Tieline does for a request, as a ratio to
the floor, with ``results/baseline.json``; it fails only on a change far beyond noise. Tieline is that of ``src``, not the
compiled one: what changes there changes what is compiled.

Where valgrind is installed it counts instructions (see ``instructions``): they repeat to a few percent however busy the
machine is. Elsewhere, or with ``--times``, it measures CPU time of both in turns, which on a busy machine says little.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import document, figures, instructions
from benchmarks.cells import Cell
from benchmarks.contenders import FLOOR, TIELINE_INTERPRETED
from benchmarks.instructions import Work
from benchmarks.measure import measure
from benchmarks.stage import Bench, raise_file_limit, start_all, upstreams

BASELINE = document.RESULTS / "baseline.json"
COUNTED_MAY_GROW, TIMED_MAY_GROW = 1.8, 2.0
"""A ratio this many times the stored one fails. Counts of one commit differ by some percent, those of
streams by a third, as pieces that come together are worked on together; times by more."""
TIMED_ROUNDS = 3
_TIMED_S = 1.0
_PACED = "stream-50-50"
"""So slow that under callgrind too every chunk is read alone."""
_STREAMS = 16
"""At a time: of few what runs by the clock would be more than half of what is counted."""
COUNTED = [
    Work(Cell(name="nonstream", kind="whole"), 200, 400),
    Work(Cell(name="stream", kind="stream", route=_PACED), _STREAMS, 2 * _STREAMS, _STREAMS),
    Work(Cell(name="translated", kind="stream", route=_PACED, dialect="anthropic"), _STREAMS, 2 * _STREAMS, _STREAMS),
]  # fmt: skip
TIMED = [
    Cell(name="nonstream", kind="whole", requests=1),
    Cell(name="stream", kind="stream", route="stream-50-4", requests=10**6),
    Cell(name="translated", kind="stream", route="stream-50-4", dialect="anthropic", requests=10**6),
]
Ratios = dict[str, float | None]


class Change(NamedTuple):
    name: str
    stored: float | None
    found: float | None
    may_grow: float

    @property
    def factor(self) -> float | None:
        return self.found / self.stored if self.found is not None and self.stored else None

    @property
    def failed(self) -> bool:
        """Worse by far, or no longer measurable although it once was."""
        return self.stored is not None and (self.factor is None or self.factor > self.may_grow)


def compare(stored: Ratios, found: Ratios) -> list[Change]:
    """Every ratio that was measured now."""
    return [
        Change(name, stored.get(name), value, COUNTED_MAY_GROW if "instructions" in name else TIMED_MAY_GROW)
        for name, value in found.items()
    ]


@contextlib.contextmanager
def _bench() -> Iterator[Bench]:
    with (
        tempfile.TemporaryDirectory(prefix="tieline-quick-") as folder,
        upstreams(Path(folder)) as (port, rows),
    ):
        yield Bench(Path(folder), {row.public: row for row in rows}, port, _TIMED_S, 1.0, {})


def count_ratios(console: Console) -> Ratios:
    """Of instructions; both at a time, as neither disturbs the other's count."""
    with _bench() as bench, ThreadPoolExecutor(2) as pool:
        floor, tieline = pool.map(
            lambda one: instructions.count(bench, one, COUNTED), (FLOOR, TIELINE_INTERPRETED)
        )
    console.print(f"instructions a request or stream: floor {floor}, tieline {tieline}", highlight=False)
    return {f"{name}_instructions_vs_floor": round(tieline[name] / floor[name], 3) for name in floor}


def time_ratios(console: Console) -> Ratios:
    """Of CPU time, medians of rounds in turns."""
    found: dict[str, dict[str, list[float]]] = {cell.name: {} for cell in TIMED}
    with _bench() as bench, contextlib.ExitStack() as stack:
        running, failed = start_all(stack, [FLOOR, TIELINE_INTERPRETED], bench.work, bench.rows, console)
        if failed:
            raise SystemExit(2)
        for number in range(TIMED_ROUNDS * len(TIMED)):
            cell = TIMED[number % len(TIMED)]
            for one in running:
                cost = measure(bench, cell, one)["cpu_us_per_request"]
                found[cell.name].setdefault(one.contender.name, []).append(cost)
    console.print(f"CPU us a request or stream: {found}", highlight=False)
    return {
        f"{name}_cpu_vs_floor": figures.ratio(by[TIELINE_INTERPRETED.name], by["floor"])
        for name, by in found.items()
    }


def print_changes(changes: list[Change], console: Console) -> None:
    table = Table(
        "ratio to the floor", "stored", "now", "change", "may be", title="Against the stored ratios"
    )
    for change in changes:
        factor = "-" if change.factor is None else f"{(change.factor - 1) * 100:+.1f} %"
        values = ["-" if value is None else f"{value:.2f}" for value in (change.stored, change.found)]
        verdict = f"{(change.may_grow - 1) * 100:+.0f} %" + (" FAILED" if change.failed else "")
        table.add_row(change.name, *values, factor, verdict)
    console.print(table)


def python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quick", description=__doc__)
    parser.add_argument("--store", action="store_true", help="store what is found as the new baseline")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--times", action="store_true", help="CPU time although instructions could be counted")
    how.add_argument("--counts", action="store_true", help="nothing where instructions cannot be counted")
    options = parser.parse_args()
    console = Console()
    counts = instructions.available() and not options.times
    if options.counts and not counts:
        console.print("LEFT OUT: the guard of speed needs valgrind.")
        return
    raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended too
    begun = time.monotonic()
    try:
        found = count_ratios(console) if counts else time_ratios(console)
    except (RuntimeError, OSError) as error:
        # A gateway runs fifty times slower under callgrind: on a busy machine deadlines pass. That says nothing of speed.
        console.print(f"LEFT OUT: nothing could be measured: {error}", highlight=False)
        sys.exit(0 if options.counts else 2)
    kept = document.read(BASELINE) or {}
    if options.store:
        ratios = {**kept.get("ratios", {}), **found}
        stamp = {"commit": document.commit(), "python": python()}
        document.store({**stamp, "ratios": ratios}, BASELINE)
        console.print(f"Stored as the baseline: {found}")
        return
    changes = compare(kept.get("ratios", {}), found)
    print_changes(changes, console)
    console.print(f"{time.monotonic() - begun:.0f} s")
    if kept.get("python") not in (None, python()):
        console.print(f"The stored ratios are those of Python {kept['python']}: nothing fails.")
        return
    sys.exit(any(change.failed for change in changes))


if __name__ == "__main__":
    main()
