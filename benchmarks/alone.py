"""Cells for which a contender is started anew, so that nothing it served before counts: memory, streams that are held,
overload, several workers."""

from __future__ import annotations

import math
import os
import resource
import statistics
import threading
import time
from collections.abc import Sequence

from benchmarks import process
from benchmarks.cells import Cell
from benchmarks.contenders import Contender
from benchmarks.load import wrk
from benchmarks.measure import (
    MAX_RATE,
    Result,
    drive,
    finish_generator,
    generate,
    limit_of,
    requests_of,
    saturation,
    spawn_generator,
    target,
)
from benchmarks.stage import Bench, Running, started

_MEMORY_EVERY_S = 0.25
_QUIET_S = 1.0
"""After the first answer, before idle memory is read."""
_OTHER_FILES = 300
"""Open files of a gateway that are not held streams."""
NORMAL_S = 4.0
_NORMAL = 0.4
"""Overload: what is offered before and after, as a share of saturation."""
_STEPS = ("before", "overload", "after")
_FLOOD_S = 1.5
"""From the flood's start to the first probe, and from the last to its end."""
_PROBES_PER_S = 200.0
_SCALE_ROUNDS = 3


def measure_alone(bench: Bench, cell: Cell, contender: Contender) -> Result:
    if cell.kind == "scale":
        return _scale(bench, cell, contender)
    if cell.kind == "hold":
        return _hold(bench, cell, contender)
    with started(contender, bench.work, bench.rows) as running:
        time.sleep(_QUIET_S)
        return _KINDS[cell.kind](bench, cell, running)


def _memory(bench: Bench, cell: Cell, running: Running) -> Result:
    pid = running.pid or 0
    idle = process.memory(pid)
    samples: list[process.Memory] = []
    over = threading.Event()
    sampler = threading.Thread(target=_sample, args=(pid, samples, over))
    sampler.start()
    try:
        steps = [_loaded(bench, cell, running, part) for part in _parts(requests_of(bench, cell, running))]
    finally:
        over.set()
        sampler.join()
    after = process.memory(pid)
    loaded = max([*samples, after], key=lambda memory: memory.pss_bytes)
    return {
        "requests": sum(step["requests"] for step in steps),
        "errors": sum(step["errors"] for step in steps),
        "idle_mb": _mb(idle.pss_bytes),
        "load_mb": _mb(loaded.pss_bytes),
        "after_mb": _mb(after.pss_bytes),
        "after_rss_mb": _mb(after.rss_bytes),
        "steps_mb": [step["after_mb"] for step in steps],
    }


def _parts(requests: int) -> list[int]:
    """Ten for a long run, to see a slope; else one."""
    return [requests // 10] * 10 if requests >= 10_000 else [requests]


def _loaded(bench: Bench, cell: Cell, running: Running, requests: int) -> Result:
    parts = 10 if requests_of(bench, cell, running) >= 10_000 else 1
    result = drive(bench, cell, running, requests, limit_of(bench, cell, running) / parts)
    process.at_rest(running.pid or 0)
    return result | {"after_mb": _mb(process.memory(running.pid or 0).pss_bytes)}


def _sample(pid: int, samples: list[process.Memory], over: threading.Event) -> None:
    while not over.wait(_MEMORY_EVERY_S):
        samples.append(process.memory(pid))


def _mb(size: int) -> float:
    return round(size / 2**20, 1)


def _hold(bench: Bench, cell: Cell, contender: Contender) -> Result:
    """Memory while many streams are open and silent. Each takes two files of the gateway: where a process may not open
    as many, there are more workers. All of them count."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    workers = math.ceil(2 * cell.concurrency / (files - _OTHER_FILES))
    more = ("--workers", str(workers)) if workers > 1 else ()
    wide = {"TIELINE_SERVER__MAX_CONCURRENCY": str(2 * cell.concurrency)}
    with started(contender, bench.work, bench.rows, env=wide, more=more) as running:
        time.sleep(_QUIET_S)
        return _held(bench, cell, running) | {"processes": workers}


def _held(bench: Bench, cell: Cell, running: Running) -> Result:
    pid = running.pid or 0
    idle = process.memory(pid)
    job = {"mode": "hold", "concurrency": cell.concurrency, "limit_s": limit_of(bench, cell, running)}
    generator = spawn_generator(job | {"target": target(bench, cell, running)})
    try:
        held = int((generator.stdout.readline().split() or ["", "0"])[1])  # type: ignore[union-attr]
        process.at_rest(pid)
        loaded = process.memory(pid)
    finally:
        result = finish_generator(generator)
    per_stream = (loaded.pss_bytes - idle.pss_bytes) / 1024 / max(1, held)
    return result | {
        "requests": held,
        "errors": cell.concurrency - held,
        "idle_mb": _mb(idle.pss_bytes),
        "load_mb": _mb(loaded.pss_bytes),
        "load_rss_mb": _mb(loaded.rss_bytes),
        "kb_per_stream": round(per_stream, 2),
    }


def _overload(bench: Bench, cell: Cell, running: Running) -> Result:
    """A load that is normal, far too much, and the same normal load at once after. Too much are ``cell.concurrency``
    connections of ``wrk`` that ask again at once, heeding no Retry-After. ``wrk`` counts; times are those of probes at
    constant intervals meanwhile, by a generator with nothing else to do, from the intended moment."""
    if not wrk.available():
        raise RuntimeError("overload needs wrk")
    full = saturation(bench, cell, running)
    rate = max(1.0, min(MAX_RATE, _NORMAL * full))
    normal_s = min(bench.limit_s, NORMAL_S)
    before = _offer(bench, cell, running, rate, normal_s)
    steps = [before, _flooded(bench, cell, running), _offer(bench, cell, running, rate, normal_s)]
    return {
        "requests": sum(step["answered"] for step in steps),
        "errors": sum(step["failed"] for step in steps),
        "saturation": full,
        "steps": [{"step": name} | step for name, step in zip(_STEPS, steps, strict=True)],
    }


def _offer(bench: Bench, cell: Cell, running: Running, rate: float, limit_s: float) -> Result:
    job = {"mode": "open", "rate": rate, "requests": 10**9, "limit_s": limit_s, "concurrency": 32}
    found = generate(job | {"target": target(bench, cell, running)})
    refused = found["refused"]
    return {
        "offered_per_s": round(rate, 1),
        "answered": found["requests"] - found["errors"],
        "refused": refused,
        "failed": found["errors"] - refused + found["unanswered"],
        "latency_us": found["latency_us"],
        "refused_us": found["refused_us"],
        "generator_lag_us": found["generator_lag_us"],
    }


def _flooded(bench: Bench, cell: Cell, running: Running) -> Result:
    seconds = math.ceil(limit_of(bench, cell, running))
    asked = target(bench, cell, running)
    lua = wrk.script(bench.work, asked["headers"], asked["body"].encode(), statuses=True)
    url = f"http://{asked['host']}:{asked['port']}{asked['path']}"
    with wrk.flood(url, lua, cell.concurrency, seconds) as ended:
        time.sleep(_FLOOD_S)
        probes = _offer(bench, cell, running, _PROBES_PER_S, max(1.0, seconds - 2 * _FLOOD_S))
        counts = ended()
    answers = counts["taken"] + counts["refused"] + counts["others"]
    return {
        "connections": cell.concurrency,
        "offered_per_s": round(answers / counts["duration_us"] * 1e6, 1),
        "answered": counts["taken"],
        "refused": counts["refused"],
        "failed": counts["others"] + counts["broken"] + counts["timeouts"],
        "refused_share": round(counts["refused"] / max(1, answers), 4),
        "latency_us": probes["latency_us"],
        "refused_us": probes["refused_us"],
        "probes": {name: probes[name] for name in ("answered", "refused", "failed", "generator_lag_us")},
    }


def _scale(bench: Bench, cell: Cell, contender: Contender) -> Result:
    """One worker and as many as there are cores, in turns. On a machine whose cores the load generator and the upstream
    share, requests a second cannot double; so *efficiency* is told from CPU: what a request costs with one worker, over
    what it costs with all of them, times how evenly they share the work (mean of the workers / the busiest). Where every
    worker has a core of its own, this is the share of linear. Each worker is given the same load: ``cell.concurrency``
    connections."""
    counts = sorted({1, os.cpu_count() or 1})
    rounds = {
        count: [_scaled(bench, cell, contender, count) for _ in range(_SCALE_ROUNDS)] for count in counts
    }
    best = {count: _middle(found) for count, found in rounds.items()}
    one, most = best[counts[0]], best[counts[-1]]
    cost = one["cpu_us_per_request"] / most["cpu_us_per_request"]
    return {
        "requests": sum(found["requests"] for each in rounds.values() for found in each),
        "errors": sum(found["errors"] for each in rounds.values() for found in each),
        "workers": {str(count): found for count, found in best.items()},
        "efficiency": round(cost * most["evenness"], 3),
    }


def _middle(found: Sequence[Result]) -> Result:
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def _scaled(bench: Bench, cell: Cell, contender: Contender, count: int) -> Result:
    loaded = Cell(name="scaled", kind="whole", concurrency=cell.concurrency * count)
    limit_s = limit_of(bench, cell, Running(contender, 0, None))
    with started(contender, bench.work, bench.rows, more=("--workers", str(count))) as running:
        pid = running.pid or 0
        drive(bench, loaded, running, 10**9, 1.0)
        before = process.each_at_rest(pid)
        found = drive(bench, loaded, running, 10**9, limit_s)
        after = process.each_at_rest(pid)
    used = [after[one].since(before[one]) for one in after if one in before]
    busy = sorted(used)[-count:]
    served = max(1, found["requests"] - found["errors"] + found.get("left_behind", 0))
    return {
        "requests": found["requests"],
        "errors": found["errors"],
        "requests_per_s": found["requests_per_s"],
        "cpu_us_per_request": round(sum(used) / served * 1e6, 2),
        "evenness": round(sum(busy) / len(busy) / max(busy), 3),
    }


_KINDS = {"memory": _memory, "overload": _overload}
