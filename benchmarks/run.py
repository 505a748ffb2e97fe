"""``python -m benchmarks.run``: upstreams, floor, Tieline and the installed peers, driven in turns in one run.

Every cell is measured in rounds; within a round each contender has its turn, in an order that rotates, so that what
drifts on the machine meets all of them alike. The result is the median of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import peers, process, report, startup
from benchmarks.cells import CELLS, MILLION, Cell
from benchmarks.contenders import (
    DIRECT,
    FLOOR,
    SIZES,
    TIELINE,
    TIELINE_BARE,
    Contender,
    Route,
    by_url,
    python_environment,
    routes,
)
from benchmarks.measure import Bench, Running, answers, measure
from benchmarks.upstream import nginx
from benchmarks.upstream.bodies import chat_request

QUICK_SHARE = 0.05
QUICK_LIMIT_S = 2.0
_FILES_NEEDED = 40_000
"""Open files for 10,000 streams held through a gateway, in one process, with room."""


def raise_file_limit() -> None:
    """As far as the system allows, beyond the hard limit where we may; the processes that are started inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard) or soft >= _FILES_NEEDED:
        return
    for limits in ((_FILES_NEEDED, max(hard, _FILES_NEEDED)), (hard, hard)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            return


@contextlib.contextmanager
def upstreams(work: Path, *, with_nginx: bool = True) -> Iterator[tuple[int, list[Route]]]:
    """Starts the streaming upstream and, where installed, nginx; yields the former's port and the routes."""
    with contextlib.ExitStack() as stack:
        sse_port = process.free_port()
        argv = [sys.executable, "-m", "benchmarks.upstream.sse", "--port", str(sse_port)]
        _start(stack, argv, sse_port, work / "sse.log")
        nginx_port = None
        if with_nginx and nginx.available():
            nginx_port = process.free_port()
            _start(stack, nginx.prepare(work, nginx_port, SIZES), nginx_port, work / "nginx-output.log")
        yield sse_port, routes(nginx_port, sse_port)


def _start(stack: contextlib.ExitStack, argv: list[str], port: int, log: Path) -> int:
    environment = python_environment()
    return stack.enter_context(process.running(argv, lambda: process.accepts(port), log=log, env=environment))


def start(stack: contextlib.ExitStack, contender: Contender, work: Path, rows: list[Route]) -> Running:
    """Starts a contender and waits until it answers a request; ends with the stack."""
    if contender.launch is None:
        return Running(contender, 0, contender.pid)
    own = work / contender.name
    own.mkdir(exist_ok=True)
    port = process.free_port()
    launch = contender.launch(port, own, rows)
    asking = contender.ask(port, rows[0], "openai")
    body = chat_request(asking.model, 1024)
    pid = stack.enter_context(
        process.running(
            launch.argv,
            lambda: answers(asking.url, asking.headers, body),
            log=own / "output.log",
            env=launch.env,
            cwd=own,
            timeout_s=launch.timeout_s,
        )
    )
    return Running(contender, port, pid)


def start_all(
    stack: contextlib.ExitStack, contenders: list[Contender], work: Path, rows: list[Route], console: Console
) -> tuple[list[Running], dict[str, str]]:
    """Those that start, and why the others did not."""
    started, failed = [], {}
    for contender in contenders:
        try:
            started.append(start(stack, contender, work, rows))
        except (process.NotReady, OSError) as error:
            failed[contender.name] = str(error)[-600:]
            console.print(
                f"[red]{contender.name} did not start[/red]: {failed[contender.name]}", highlight=False
            )
    return started, failed


def applies(cell: Cell, running: Running) -> bool:
    """Whether a contender takes part in a cell. Direct has no process of its own: it is the other half of the paired
    and open cells already."""
    contender = running.contender
    if contender is DIRECT:
        return cell.kind in ("whole", "stream") and cell.peers
    if cell.kind in ("memory", "hold"):
        return running.pid is not None and (cell.peers or not contender.peer)
    translates = cell.dialect in contender.dialects or contender is FLOOR
    return translates and (cell.peers or not (contender.peer or contender is TIELINE_BARE))


def measure_all(
    bench: Bench,
    cells: list[Cell],
    started: list[Running],
    *,
    rounds: int,
    console: Console,
    checkpoint: Callable[[report.Rounds], None],
) -> tuple[report.Rounds, list[str]]:
    """Every cell, in rounds, in turns. What fails is told and left out; the rest goes on. ``checkpoint`` gets what there
    is after each round."""
    found: report.Rounds = {}
    problems: list[str] = []
    turns = [(cell, number) for cell in cells for number in range(1 if cell.once else rounds)]
    bar = Progress(TextColumn("{task.description:<40}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
                   TimeElapsedColumn(), console=console)  # fmt: skip
    with bar:
        task = bar.add_task("", total=sum(applies(cell, running) for cell, _ in turns for running in started))
        for cell, number in turns:
            taking_part = [running for running in started if applies(cell, running)]
            shift = number % max(1, len(taking_part))
            for running in taking_part[shift:] + taking_part[:shift]:
                name = running.contender.name
                bar.update(task, description=f"{cell.name} {name} {number + 1}")
                try:
                    result = measure(
                        bench, cell, running, requests=_requests(bench, cell, rounds), warm=number == 0
                    )
                    found.setdefault(cell.name, {}).setdefault(name, []).append(result)
                except (RuntimeError, OSError) as error:
                    problems.append(f"{cell.name} {name}: {str(error)[-300:]}")
                    bar.console.print(f"[red]{problems[-1]}[/red]", highlight=False)
                bar.advance(task)
            checkpoint(found)
    return found, problems


def _requests(bench: Bench, cell: Cell, rounds: int) -> int:
    """Of one round. A stream cell's requests are spread over the rounds."""
    spread = rounds if cell.kind == "stream" else 1
    return max(cell.concurrency, 20, int(cell.requests * bench.share / spread))


def start_costs(started: list[Running], work: Path, rows: list[Route], venv: Path | None) -> dict[str, Any]:
    """Start, import and size."""
    times = {}
    for running in started:
        if running.contender.launch is not None:
            own = work / running.contender.name
            repeat = 1 if running.contender.peer else 5
            with contextlib.suppress(process.NotReady):
                times[running.contender.name] = startup.start_s(running.contender, own, rows, repeat)
    size_mb = startup.install_size_mb(venv)
    return {"start_s": times, "import_ms": startup.import_ms(), "install_mb": size_mb}


def choose_contenders(names: list[str] | None, urls: list[str]) -> list[Contender]:
    known = [DIRECT, FLOOR, TIELINE, TIELINE_BARE, *peers.installed()]
    chosen = [contender for contender in known if names is None or contender.name in names]
    missing = set(names or ()) - {contender.name for contender in known}
    if missing:
        raise SystemExit(f"unknown or not installed: {', '.join(sorted(missing))}")
    return chosen + [by_url(url) for url in urls]


def choose_cells(only: list[str] | None, million: bool) -> list[Cell]:
    """By name or beginning of a name."""
    cells = [*CELLS, MILLION] if million or (only and MILLION.name in only) else CELLS
    chosen = [cell for cell in cells if only is None or cell.name.startswith(tuple(only))]
    if not chosen:
        raise SystemExit(f"no such cell; there are: {', '.join(cell.name for cell in [*CELLS, MILLION])}")
    return chosen


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a twentieth of the requests, 2 s a turn, one round"
    )
    parser.add_argument(
        "--only", action="append", metavar="CELL", help="cells whose name begins so; repeatable"
    )
    parser.add_argument(
        "--contender", action="append", metavar="NAME", help="repeatable; default: all installed"
    )
    parser.add_argument("--url", action="append", default=[], metavar="NAME=URL[,key=K][,model=M][,pid=P]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--limit", type=float, default=30.0, metavar="S", help="longest turn of a cell, in seconds"
    )
    parser.add_argument("--million", action="store_true", help="also memory over 10^6 requests")
    parser.add_argument("--no-startup", action="store_true", help="leave out start, import and size")
    parser.add_argument("--venv", type=Path, help="environment that holds only tieline, for the install size")
    parser.add_argument("--output", type=Path, default=report.RESULTS / "latest.json")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    console = Console(width=None if os.isatty(1) else 160)
    raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended too
    cells = choose_cells(options.only, options.million)
    if options.quick and not options.only:
        cells = [cell for cell in cells if cell.tokens < 500 or cell.concurrency == 32]
    contenders = choose_contenders(options.contender, options.url)
    quick: bool = options.quick
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tieline-bench-") as folder, contextlib.ExitStack() as stack:
        work = Path(folder)
        sse_port, rows = stack.enter_context(upstreams(work))
        started, failed = start_all(stack, contenders, work, rows, console)
        limit_s = min(QUICK_LIMIT_S, options.limit) if quick else options.limit
        bench = Bench(
            work, {row.public: row for row in rows}, sse_port, limit_s, QUICK_SHARE if quick else 1.0
        )
        rounds = 1 if quick else options.rounds
        partial = options.output.with_suffix(".partial.json")

        def checkpoint(so_far: report.Rounds) -> None:
            report.store(report.document(so_far, mode="partial", extra={}), partial)

        found, problems = measure_all(
            bench, cells, started, rounds=rounds, console=console, checkpoint=checkpoint
        )
        costs = {} if options.no_startup or quick else start_costs(started, work, rows, options.venv)
    extra = {
        "upstream": "nginx" if nginx.available() else "benchmarks.upstream.sse",
        "versions": peers.versions(),
        "failed": failed,
        "problems": problems,
        "startup": costs,
        "took_s": round(time.monotonic() - begun, 1),
    }
    result = report.document(found, mode="quick" if quick else "full", extra=extra)
    report.store(result, options.output)
    partial.unlink(missing_ok=True)
    report.print_result(result, console)
    console.print(f"Stored in {options.output}")


if __name__ == "__main__":
    main()
