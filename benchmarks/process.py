"""Starting what is measured, and reading what its whole process tree used from /proc."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_REST_EVERY_S, _REST_SHARE, REST_POLLS = 0.1, 0.1, 40
"""At rest: under a tenth of a core for a tenth of a second; waited for four seconds at most."""


class Cpu(NamedTuple):
    """CPU of a process tree since it began, from two books. ``ticks_s`` (utime + stime + those of reaped children) is
    complete but counts in hundredths of a second; ``exact_s`` (schedstat of every live thread) has nanoseconds but
    forgets threads that ended."""

    ticks_s: float
    exact_s: float
    processes: int

    def since(self, earlier: Cpu) -> float:
        """Seconds used: the exact figure, unless threads ended in between and it misses more than rounding can."""
        exact, ticks = self.exact_s - earlier.exact_s, self.ticks_s - earlier.ticks_s
        rounding = 2 * _TICK_S * max(self.processes, earlier.processes)
        return exact if exact >= ticks - rounding else ticks


class Memory(NamedTuple):
    pss_bytes: int
    """Shared pages divided among those who share them; falls back to RSS where the kernel refuses smaps_rollup."""
    rss_bytes: int


def tree(pid: int) -> list[int]:
    """``pid`` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, ()))
    return found


def _stat(pid: int) -> list[str]:
    """Fields of /proc/pid/stat from the state on: the name before them may hold spaces and parentheses."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu(pid: int) -> Cpu:
    return _cpu_of(tree(pid))


def _cpu_of(pids: list[int]) -> Cpu:
    ticks = exact = 0
    for member in pids:
        with contextlib.suppress(OSError):
            ticks += sum(int(field) for field in _stat(member)[11:15])
        for thread in _threads(member):
            with contextlib.suppress(OSError):
                exact += int(Path(f"/proc/{member}/task/{thread}/schedstat").read_text().split()[0])
    return Cpu(ticks * _TICK_S, exact / 1e9, len(pids))


def at_rest(pid: int, polls: int = REST_POLLS) -> Cpu:
    """CPU so far, once the tree has done what it put off: imports, a queue of records, answers whose callers are gone."""
    found = cpu(pid)
    for _ in range(polls):
        time.sleep(_REST_EVERY_S)
        earlier, found = found, cpu(pid)
        if found.since(earlier) < _REST_EVERY_S * _REST_SHARE:
            break
    return found


def each_at_rest(pid: int) -> dict[int, Cpu]:
    """By process of the tree, each without its children."""
    at_rest(pid)
    return {member: _cpu_of([member]) for member in tree(pid)}


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def memory(pid: int) -> Memory:
    pss = rss = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            resident = int(Path(f"/proc/{member}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            rss += resident
            try:
                rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
                pss += int(rollup.partition("\nPss:")[2].split()[0]) * 1024
            except (OSError, IndexError):
                pss += resident
    return Memory(pss, rss)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NotReady(RuntimeError):
    """A process ended, or said nothing in time; the message holds the end of its output."""


@contextlib.contextmanager
def running(
    argv: list[str],
    ready: Callable[[], bool],
    *,
    log: Path,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 30.0,
) -> Iterator[int]:
    """Runs ``argv`` in a session of its own, yields its pid once ``ready()``; ends the whole tree afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + timeout_s
        while not ready():
            code = process.poll()
            if code is not None or time.monotonic() > deadline:
                why = f"not ready after {timeout_s:.0f} s" if code is None else f"ended with {code}"
                raise NotReady(f"{argv[0]}: {why}\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.005)
        yield process.pid
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def machine() -> dict[str, object]:
    """What a reader needs to compare two results: processor, cores, memory, kernel, Python, load at the start."""
    info = (
        Path("/proc/cpuinfo")
        .read_text()
        .partition("model name")[2]
        .partition(":")[2]
        .partition("\n")[0]
        .strip()
    )
    total_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": info or platform.processor() or "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(total_kb / 2**20, 1),
        "kernel": platform.release(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
