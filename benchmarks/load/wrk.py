"""wrk, the closed-loop generator for whole answers: fast enough in C not to be what is measured."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_ASKING = """\
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
{headers}
local file = io.open({body}, "rb")
wrk.body = file:read("*a")
file:close()
"""
_TIMES = """\
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {{"requests": %d, "duration_us": %d, "bytes": %d, "errors": %d, "p50": %d, "p99": %d, "p999": %d, "max": %d}}\\n',
    summary.requests, summary.duration, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))
end
"""
_STATUSES = """\
local thread
function setup(one) thread = one end
taken, refused, others = 0, 0, 0
function response(status, headers)
  if status == 200 then taken = taken + 1
  elseif status == 503 and (headers["retry-after"] or headers["Retry-After"]) then refused = refused + 1
  else others = others + 1 end
end
function done(summary)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {{"taken": %d, "refused": %d, "others": %d, "broken": %d, "timeouts": %d, "duration_us": %d}}\\n',
    thread:get("taken"), thread:get("refused"), thread:get("others"), e.connect + e.read + e.write, e.timeout,
    summary.duration))
end
"""
_LONGEST_S = 120


def available() -> bool:
    return shutil.which("wrk") is not None


def script(work: Path, headers: dict[str, str], body: bytes, *, statuses: bool = False) -> Path:
    """Writes the Lua script that posts ``body``; wrk builds the request from it once. With ``statuses`` every answer's
    status is looked at, which costs the generator some microseconds: what it then tells are counts, no times."""
    (work / "body.json").write_bytes(body)
    lines = "\n".join(
        f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()
    )
    path = work / "post.lua"
    told = _ASKING + (_STATUSES if statuses else _TIMES)
    path.write_text(told.format(headers=lines, body=json.dumps(str(work / "body.json"))))
    return path


def run(
    url: str,
    lua: Path,
    *,
    connections: int,
    requests: int,
    limit_s: float,
    least_s: float = 1.0,
    rate: float = 0.0,
) -> dict[str, Any]:
    """Runs until ``requests`` were answered or ``limit_s`` is over, at least ``least_s``, in pieces of whole seconds: wrk
    only knows durations. With a ``rate`` to expect, one piece is mostly enough. Quantiles are those of the longest piece;
    ``left_behind`` is what was under way when pieces ended, one request for each connection at most."""
    answered = errors = received = pieces = 0
    elapsed_s = longest_s = 0.0
    begun = time.monotonic()
    seconds = _whole_seconds(max(least_s, 1.03 * requests / rate if rate else 1.0), limit_s)
    while True:
        piece = _piece(url, lua, connections, seconds)
        pieces += 1
        answered += piece["requests"]
        errors += piece["errors"]
        received += piece["bytes"]
        elapsed_s += piece["duration_us"] / 1e6
        if seconds > longest_s:
            longest_s, longest = seconds, piece
        left_s = limit_s - (time.monotonic() - begun)
        if answered >= requests or left_s < 1 or (answered == 0 and elapsed_s > 10):
            break
        seconds = _whole_seconds(1.03 * (requests - answered) / max(1.0, answered / elapsed_s), left_s)
    piece = longest
    latency = {name: float(piece[key]) for name, key in (("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"))}
    return {
        "requests": answered,
        "errors": errors,
        "body_bytes": received,
        "elapsed_s": round(elapsed_s, 4),
        "requests_per_s": round(answered / elapsed_s, 1) if elapsed_s else 0.0,
        "left_behind": pieces * connections,
        "latency_us": latency | {"max": float(piece["max"])},
    }


def _whole_seconds(wanted_s: float, limit_s: float) -> int:
    return max(1, math.ceil(min(wanted_s, limit_s, _LONGEST_S)))


def _piece(url: str, lua: Path, connections: int, seconds: int) -> dict[str, int]:
    done = subprocess.run(
        _command(url, lua, connections, seconds),
        capture_output=True,
        text=True,
        timeout=seconds + 90,
        check=False,
    )
    return _result(done.stdout, done.stderr)


def _command(url: str, lua: Path, connections: int, seconds: int) -> list[str]:
    return ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", str(lua), url]


def _result(output: str, errors: str) -> dict[str, int]:
    _, found, result = output.partition("RESULT ")
    if not found:
        raise RuntimeError(f"wrk failed: {errors or output}")
    return dict(json.loads(result))


@contextlib.contextmanager
def flood(url: str, lua: Path, connections: int, seconds: int) -> Iterator[Callable[[], dict[str, int]]]:
    """As many connections, each asking again at once whatever the answer was, while the block runs; it yields what
    waits for the end and tells the counts of a script with ``statuses``."""
    command = _command(url, lua, connections, seconds)
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield lambda: _result(*running.communicate(timeout=seconds + 90))
    finally:
        running.kill()
        running.communicate()
