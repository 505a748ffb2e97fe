"""The load generators, run in a process of their own: a JSON job on stdin, a JSON result on stdout.

- ``closed``: ``concurrency`` connections, each sends its next request when the last is answered.
- ``open``: ``rate`` requests a second at constant intervals, whether earlier ones were answered or not; latency counts
  from the intended moment, so that a stall of the target shows in every request it delayed (no coordinated omission).
- ``paired``: one request direct, one through the gateway, one by one in turns; the differences of each pair. ``pause_s``
  between pairs, so that beside another load they add little to it.
- ``hold``: opens ``concurrency`` streams, says ``holding`` when each has its first bytes, ends when stdin is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from array import array
from collections import deque
from typing import Any

import msgspec
import uvloop

from benchmarks.load.connection import Connection, Ticker, connect, http_request, now, quantiles

MAX_OPEN_CONNECTIONS = 4096
"""The open loop stops opening connections here; later requests wait, and their latency tells it."""
_OPENING = 64
"""Connections being opened at the same time."""
DRAIN_S = 10.0
"""How long answers are awaited after the last request was sent."""


class Target(msgspec.Struct):
    """Whom to ask and what: ``body`` is sent as it is."""

    host: str
    port: int
    path: str
    headers: dict[str, str]
    body: str
    stream: bool = False

    def request(self) -> bytes:
        return http_request(self.host, self.port, self.path, self.headers, self.body.encode())


class Job(msgspec.Struct, forbid_unknown_fields=True):
    mode: str
    target: Target
    direct: Target | None = None
    concurrency: int = 1
    requests: int = 1000
    limit_s: float = 60.0
    rate: float = 0.0
    gaps: bool = False
    pause_s: float = 0.0


class Tally:
    """What a run counted. Latencies in seconds, in the order of completion."""

    def __init__(self) -> None:
        self.requests = self.errors = self.events = self.reads = self.body_bytes = 0
        self.latency = array("d")
        self.first = array("d")
        self.gaps = array("d")
        self.refused = array("d")
        self.statuses: dict[int, int] = {}

    def add(self, connection: Connection) -> None:
        self.requests += 1
        self.events += connection.events
        self.reads += connection.reads
        self.body_bytes += connection.body_bytes
        if not connection.ok:
            self.errors += 1
            self.statuses[connection.status] = self.statuses.get(connection.status, 0) + 1
            if connection.status == 503 and connection.retry_after:
                self.refused.append(connection.finished - connection.intended)
            return
        self.latency.append(connection.finished - connection.intended)
        if connection.stream:
            self.first.append(connection.first_content - connection.intended)

    def result(self, elapsed_s: float) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "errors": self.errors,
            "refused": len(self.refused),
            "refused_us": quantiles(self.refused),
            "error_statuses": {str(status): count for status, count in self.statuses.items()},
            "events": self.events,
            "reads": self.reads,
            "body_bytes": self.body_bytes,
            "elapsed_s": round(elapsed_s, 4),
            "requests_per_s": round(self.requests / elapsed_s, 1) if elapsed_s else 0.0,
            "latency_us": quantiles(self.latency),
            "first_token_us": quantiles(self.first),
            "gap_us": _jitter(self.gaps),
        }


def _jitter(gaps: array[float]) -> dict[str, float]:
    """Quantiles of the gap between pieces, and of its distance from the median gap: the jitter."""
    if not gaps:
        return {}
    median = sorted(gaps)[len(gaps) // 2]
    jitter = quantiles([abs(gap - median) for gap in gaps])
    return quantiles(gaps) | {f"jitter_{name}": value for name, value in jitter.items()}


async def open_connections(job: Job, connections: list[Connection]) -> None:
    for start in range(0, len(connections), _OPENING):
        batch = connections[start : start + _OPENING]
        await asyncio.gather(*(connect(job.target.host, job.target.port, connection) for connection in batch))


async def closed(job: Job) -> dict[str, Any]:
    tally, request = Tally(), job.target.request()
    finished = asyncio.get_running_loop().create_future()
    started = 0
    active = job.concurrency

    def next_request(connection: Connection) -> None:
        nonlocal started
        started += 1
        connection.send(request, stream=job.target.stream)

    def done(connection: Connection) -> None:
        nonlocal active
        tally.add(connection)
        more = started < job.requests and now() < deadline
        if more and not connection.transport.is_closing() and connection.ok:
            next_request(connection)
            return
        active -= 1
        connection.transport.close()
        if active == 0 and not finished.done():
            finished.set_result(None)

    connections = [
        Connection(done, gaps=tally.gaps if job.gaps else None)
        for _ in range(min(job.concurrency, job.requests))
    ]
    active = len(connections)
    await open_connections(job, connections)
    begun = now()
    deadline = begun + job.limit_s
    for connection in connections:
        next_request(connection)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(finished, job.limit_s + 60)
    return tally.result(now() - begun) | {"unfinished": started - tally.requests}


async def open_loop(job: Job) -> dict[str, Any]:
    tally, request, loop = Tally(), job.target.request(), asyncio.get_running_loop()
    idle: list[Connection] = []
    waiting: deque[float] = deque()
    lag = array("d")
    interval = 1 / job.rate
    total = min(job.requests, int(job.rate * job.limit_s))
    sent = opened = answered = 0
    finished = loop.create_future()
    opening: set[asyncio.Task[Connection]] = set()

    def send(connection: Connection, intended: float) -> None:
        connection.send(request, intended=intended, stream=job.target.stream)
        lag.append(connection.sent - intended)

    def done(connection: Connection) -> None:
        nonlocal answered, opened
        answered += 1
        tally.add(connection)
        if answered == total and not finished.done():
            finished.set_result(None)
        if connection.transport.is_closing():
            opened -= 1
        elif waiting:
            send(connection, waiting.popleft())
        else:
            idle.append(connection)

    def ready(task: asyncio.Task[Connection]) -> None:
        opening.discard(task)
        if not task.cancelled() and task.exception() is None and waiting:
            send(task.result(), waiting.popleft())
        elif not task.cancelled() and task.exception() is None:
            idle.append(task.result())

    def dispatch(intended: float) -> None:
        nonlocal opened
        while idle:
            connection = idle.pop()
            if not connection.transport.is_closing():
                send(connection, intended)
                return
        waiting.append(intended)
        if opened < MAX_OPEN_CONNECTIONS:
            opened += 1
            task = loop.create_task(connect(job.target.host, job.target.port, Connection(done)))
            opening.add(task)
            task.add_done_callback(ready)

    def tick() -> None:
        nonlocal sent
        due = min(total, int((now() - begun) / interval) + 1)
        while sent < due:
            dispatch(begun + sent * interval)
            sent += 1

    warm = [Connection(done) for _ in range(max(1, job.concurrency))]
    await open_connections(job, warm)
    opened = len(warm)
    idle.extend(warm)
    begun = now()
    ticker = Ticker(loop, min(interval, 0.001), tick)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(finished, total * interval + DRAIN_S)
    ticker.stop()
    result = tally.result(now() - begun)
    lag_us = quantiles(lag)
    return result | {"offered_rate": job.rate, "unanswered": total - answered, "generator_lag_us": lag_us}


async def paired(job: Job) -> dict[str, Any]:
    if job.direct is None:
        raise ValueError("a paired job needs a direct target")
    through, direct = await _Serial.open(job.target, job.gaps), await _Serial.open(job.direct, job.gaps)
    for _ in range(min(200, job.requests // 5)):
        await direct.ask()
        await through.ask()
    added, added_first = array("d"), array("d")
    through.reset()
    direct.reset()
    begun = now()
    while len(added) < job.requests and now() - begun < job.limit_s:
        base, measured = await direct.ask(), await through.ask()
        added.append(measured[0] - base[0])
        added_first.append(measured[1] - base[1])
        if job.pause_s:
            await asyncio.sleep(job.pause_s)
    elapsed = now() - begun
    found: dict[str, Any] = {"pairs": len(added), "added_us": quantiles(added)}
    if job.target.stream:
        found["added_first_token_us"] = quantiles(added_first)
    return found | {"direct": direct.tally.result(elapsed), "through": through.tally.result(elapsed)}


class _Serial:
    """One connection on which one request at a time is awaited."""

    def __init__(self, target: Target, gaps: bool) -> None:
        self.tally = Tally()
        self.target = target
        self.request = target.request()
        self.wake: asyncio.Future[None] | None = None
        self.gaps = array("d")
        self.connection = Connection(self._done, gaps=self.gaps if gaps else None)

    @classmethod
    async def open(cls, target: Target, gaps: bool) -> _Serial:
        serial = cls(target, gaps)
        await connect(target.host, target.port, serial.connection)
        return serial

    def reset(self) -> None:
        del self.gaps[:]
        self.tally = Tally()
        self.tally.gaps = self.gaps

    def _done(self, connection: Connection) -> None:
        self.tally.add(connection)
        if self.wake is not None and not self.wake.done():
            self.wake.set_result(None)

    async def ask(self) -> tuple[float, float]:
        """Seconds until the whole answer, and until the first event of a stream that says something."""
        if self.connection.transport.is_closing():
            self.connection = await connect(
                self.target.host, self.target.port, Connection(self._done, gaps=self.connection.gaps)
            )
        self.wake = asyncio.get_running_loop().create_future()
        connection = self.connection
        connection.send(self.request, stream=self.target.stream)
        await self.wake
        if not connection.ok:
            raise RuntimeError(f"{self.target.host}:{self.target.port} answered {connection.status}")
        return connection.finished - connection.sent, connection.first_content - connection.sent


async def hold(job: Job) -> dict[str, Any]:
    tally, request, loop = Tally(), job.target.request(), asyncio.get_running_loop()
    started = 0
    all_started = loop.create_future()

    def first_piece(connection: Connection) -> None:
        nonlocal started
        if connection.parser.get_status_code() != 200:
            return
        started += 1
        if started == job.concurrency and not all_started.done():
            all_started.set_result(None)

    connections = [Connection(tally.add) for _ in range(job.concurrency)]
    begun = now()
    for start in range(0, len(connections), _OPENING):
        batch = connections[start : start + _OPENING]
        await asyncio.gather(*(connect(job.target.host, job.target.port, connection) for connection in batch))
        for connection in batch:
            connection.first_piece = first_piece
            connection.send(request, stream=True)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(all_started, job.limit_s)
    print(f"holding {started}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    return {"held": started, "lost": tally.requests, "opening_s": round(now() - begun, 3)}


MODES = {"closed": closed, "open": open_loop, "paired": paired, "hold": hold}


def main() -> None:
    job = msgspec.json.decode(sys.stdin.readline(), type=Job)
    print(msgspec.json.encode(uvloop.run(MODES[job.mode](job))).decode(), flush=True)


if __name__ == "__main__":
    main()
