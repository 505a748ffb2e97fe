"""``python -m benchmarks.run``: upstreams, floor, Tieline and the installed peers, driven in turns in one run.

Every cell is measured in rounds; within a round each contender has its turn, in an order that rotates, so that what
drifts on the machine meets all of them alike. The result is the median of the rounds. What is finished is stored at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from benchmarks import document, peers, plan, process, report, startup
from benchmarks.alone import measure_alone
from benchmarks.cells import ALONE, Cell
from benchmarks.contenders import TIELINE, TIELINE_INTERPRETED, Contender, build
from benchmarks.measure import Result, measure
from benchmarks.stage import Bench, Running, raise_file_limit, start_all, upstreams
from benchmarks.upstream import nginx

SHORT_SHARE, SHORT_LIMIT_S = 0.02, 1.5


class Turn:
    """One contender in one round of a cell."""

    def __init__(self, cell: Cell, number: int, running: Running, limit_s: float) -> None:
        self.cell, self.number, self.running = cell, number, running
        self.name = running.contender.name
        self.expected_s = plan.expected_s(cell, running.contender, limit_s)

    def take(self, bench: Bench) -> Result:
        if self.cell in ALONE:
            return measure_alone(bench, self.cell, self.running.contender)
        return measure(bench, self.cell, self.running)


def turns(cell: Cell, running: list[Running], rounds: int, limit_s: float) -> list[Turn]:
    """In each round all of them, each time another first."""
    part = [one for one in running if plan.applies(cell, one.contender)]
    found = []
    for number in range(1 if cell.once else rounds):
        shift = number % max(1, len(part))
        found += [Turn(cell, number, one, limit_s) for one in part[shift:] + part[:shift]]
    return found


class Run:
    """All cells one after another, told on ``console``, stored in ``runs``."""

    def __init__(self, bench: Bench, runs: document.Runs, console: Console, planned_s: float) -> None:
        self.bench, self.runs, self.console = bench, runs, console
        self.clock = plan.Clock(planned_s)
        self.problems: list[str] = []

    def cells(self, planned: dict[str, list[Turn]]) -> None:
        self.console.print(f"At most {plan.minutes(self.clock.planned_s)} minutes, {len(planned)} cells.")
        with _bar(self.console) as bar:
            task = bar.add_task("", total=self.clock.planned_s, left="")
            for name, each in planned.items():
                found: dict[str, list[Result]] = {}
                for turn in each:
                    left = plan.minutes(self.clock.left_s)
                    bar.update(task, description=f"{name} {turn.name} {turn.number + 1}", left=left)
                    self._take(turn, found)
                    self.clock.done_s += turn.expected_s
                    bar.update(task, completed=self.clock.done_s)
                self._finish(name, found, bar)

    def _take(self, turn: Turn, found: dict[str, list[Result]]) -> None:
        """What fails is told and left out; the rest goes on."""
        try:
            found.setdefault(turn.name, []).append(turn.take(self.bench))
        except (RuntimeError, OSError) as error:
            self.problems.append(f"{turn.cell.name} {turn.name}: {str(error)[-300:]}")
            self.console.print(f"[red]{self.problems[-1]}[/red]", highlight=False)

    def _finish(self, name: str, found: dict[str, list[Result]], bar: Progress) -> None:
        done = {contender: results for contender, results in found.items() if results}
        if done:
            self.runs.add(name, done)
        if not bar.console.is_terminal:
            gone, left = plan.minutes(self.clock.gone_s), plan.minutes(self.clock.left_s)
            self.console.print(f"{gone} gone, about {left} left: {name} done", highlight=False)


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description:<36}"),
        BarColumn(),
        TextColumn("about {task.fields[left]} left"),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def start_costs(contenders: list[Contender], bench: Bench) -> dict[str, Any]:
    """Start, import and size."""
    times = {}
    for contender in contenders:
        if contender.launch is not None:
            with contextlib.suppress(process.NotReady):
                times[contender.name] = startup.start_s(contender, bench, 1 if contender.peer else 5)
    found = {"start_s": times, "import_ms": startup.import_ms(), "install_mb": startup.install_sizes_mb()}
    if TIELINE_INTERPRETED.name in times:
        found[f"import_ms_{TIELINE_INTERPRETED.name}"] = startup.import_ms(interpreted=True)
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__,
        epilog=f"With what is installed here, at most {plan.minutes(plan.whole_s())} minutes.",
    )
    parser.add_argument(
        "--only", action="append", metavar="CELL", help="cells whose name begins so, or 'startup'; repeatable"
    )
    parser.add_argument(
        "--contender", action="append", metavar="NAME", help="repeatable; default: all that are installed"
    )
    parser.add_argument("--url", action="append", default=[], metavar="NAME=URL[,key=K][,model=M][,pid=P]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1e9, metavar="S", help="no turn is longer")
    parser.add_argument("--short", action="store_true", help="to try the suite: turns of 1.5 s, one round")
    parser.add_argument(
        "--plan",
        "--list",
        dest="list",
        action="store_true",
        help="the cells, who takes part and how many minutes each takes at most; measures nothing",
    )
    parser.add_argument("--output", type=Path, help="default: results/latest.json; a part of the contenders: "
                        "results/part.json")  # fmt: skip
    return parser.parse_args()


def output(options: argparse.Namespace) -> Path:
    """A run without all contenders, or a short one, does not replace cells of one that had them."""
    if options.output is not None:
        return Path(options.output)
    part = options.contender or options.short
    return document.RESULTS / "part.json" if part else document.LATEST


def print_plan(
    cells: list[Cell], contenders: list[Contender], rounds: int, limit_s: float, console: Console
) -> None:
    for cell in cells:
        names = " ".join(contender.name for contender in contenders if plan.applies(cell, contender))
        seconds = plan.total_s([cell], contenders, rounds, limit_s)
        times = 1 if cell.once else rounds
        console.print(f"{cell.name:<20} {plan.minutes(seconds):>6}  {times} x {names}", highlight=False)
    total_s = plan.total_s(cells, contenders, rounds, limit_s)
    console.print(
        f"{'all':<20} {plan.minutes(total_s):>6}, start and size {plan.minutes(plan.STARTUP_S)}: at most "
        f"{plan.minutes(total_s + plan.STARTUP_S)} minutes"
    )


def print_build(console: Console) -> None:
    """Which Tieline is measured."""
    tieline = build()
    console.print(f"tieline is {tieline['build']}.")
    if not tieline.get("of_this_source", True):
        console.print("[red]build/compiled is not of these sources: run `make wheel`.[/red]")


def main() -> None:
    options = arguments()
    console = Console(width=None if os.isatty(1) else 160)
    rounds, limit_s = (1, SHORT_LIMIT_S) if options.short else (options.rounds, options.limit)
    only = [name for name in options.only or () if name != "startup"]
    cells = plan.choose_cells(only or None) if only or not options.only else []
    contenders = plan.choose_contenders(options.contender, options.url)
    if options.list:
        print_plan(cells, contenders, rounds, limit_s, console)
        return
    if TIELINE in contenders:
        print_build(console)
    with_startup = not options.short and (not options.only or "startup" in options.only)
    raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended too
    path = output(options)
    runs = document.Runs(
        path, "short" if options.short else "full", document.read(path) if options.only else None
    )
    with tempfile.TemporaryDirectory(prefix="tieline-bench-") as folder, contextlib.ExitStack() as stack:
        work = Path(folder)
        sse_port, rows = stack.enter_context(upstreams(work))
        wanted = [one for one in contenders if any(plan.applies(c, one) and c not in ALONE for c in cells)]
        console.print(f"Starting {', '.join(contender.name for contender in wanted) or 'nothing'} …")
        began, failed = start_all(stack, wanted, work, rows, console)
        began += [Running(one, 0, None) for one in contenders if one not in wanted]
        share = SHORT_SHARE if options.short else 1.0
        bench = Bench(work, {row.public: row for row in rows}, sse_port, limit_s, share, {})
        planned = {cell.name: turns(cell, began, rounds, limit_s) for cell in cells}
        planned_s = sum(turn.expected_s for each in planned.values() for turn in each)
        run = Run(bench, runs, console, planned_s + (plan.STARTUP_S if with_startup else 0.0))
        runs.note(
            upstream="nginx" if nginx.available() else "benchmarks.upstream.sse", versions=peers.versions()
        )
        run.cells(planned)
        if with_startup:
            runs.note(startup=start_costs(contenders, bench))
    runs.run |= {"failed": failed, "problems": run.problems, "took_s": round(run.clock.gone_s, 1)}
    runs.store()
    report.print_document(runs.document(), console)
    console.print(f"Stored in {path} after {plan.minutes(run.clock.gone_s)} minutes")


if __name__ == "__main__":
    main()
