"""What stands on the stage: the upstreams, and the contenders that are started beside them."""

from __future__ import annotations

import contextlib
import http.client
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from rich.console import Console

from benchmarks import process
from benchmarks.cells import Cell
from benchmarks.contenders import SIZES, Contender, Route, python_environment, routes
from benchmarks.upstream import nginx
from benchmarks.upstream.bodies import chat_request

_FILES_NEEDED = 40_000
"""Open files for 10,000 streams held through a gateway, in one process, with room."""


class Running(NamedTuple):
    """A contender that has been started, or runs elsewhere."""

    contender: Contender
    port: int
    pid: int | None
    began: float = 0.0
    """When it was spawned, by ``time.perf_counter``."""

    def dialect(self, cell: Cell) -> str:
        """The cell's, or for the floor, which translates nothing and stands for the least cost, its own."""
        return cell.dialect if cell.dialect in self.contender.dialects else "openai"


class Bench(NamedTuple):
    """What every measurement needs to know of the run."""

    work: Path
    routes: dict[str, Route]
    sse_port: int
    limit_s: float
    """No turn is longer."""
    share: float = 1.0
    """Of the cells' requests: short runs do a part."""
    saturations: dict[tuple[str, str], float] = {}  # noqa: RUF012 - what was found so far, shared by all turns

    @property
    def rows(self) -> list[Route]:
        return list(self.routes.values())


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


@contextlib.contextmanager
def started(
    contender: Contender,
    work: Path,
    rows: list[Route],
    *,
    before: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    slower: float = 1.0,
) -> Iterator[Running]:
    """A contender from its start until it answers a request, to its end. ``before`` is a program that runs it, ``more``
    are further arguments; its own folder below ``work`` is kept from one start to the next."""
    if contender.launch is None:
        yield Running(contender, 0, contender.pid)
        return
    own = work / contender.name
    own.mkdir(exist_ok=True)
    port = process.free_port()
    launch = contender.launch(port, own, rows)
    asking = contender.ask(port, rows[0], "openai")
    body = chat_request(asking.model, 1024)
    began = time.perf_counter()
    with process.running(
        [*before, *launch.argv, *more],
        lambda: answers(asking.url, asking.headers, body),
        log=own / "output.log",
        env=launch.env | (env or {}),
        cwd=own,
        timeout_s=launch.timeout_s * slower,
    ) as pid:
        yield Running(contender, port, pid, began)


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


def start_all(
    stack: contextlib.ExitStack, contenders: list[Contender], work: Path, rows: list[Route], console: Console
) -> tuple[list[Running], dict[str, str]]:
    """Those that start, at the second try if need be, and why the others did not."""
    found: list[Running] = []
    failed: dict[str, str] = {}
    for contender in [*contenders, *contenders]:
        if any(running.contender is contender for running in found):
            continue
        try:
            found.append(stack.enter_context(started(contender, work, rows)))
            failed.pop(contender.name, None)
        except (process.NotReady, OSError) as error:
            failed[contender.name] = str(error)[-600:]
            console.print(
                f"[red]{contender.name} did not start[/red]: {failed[contender.name]}", highlight=False
            )
    return found, failed
