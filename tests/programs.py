"""``python -m tieline …`` as real processes."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


CALM = {"TIELINE_SERVER__MAX_LAG_MS": "0"}
"""No request is refused because the machine has other work; tests of overload say otherwise."""


def environment(**extra: str) -> dict[str, str]:
    """Without provider keys, and with nothing of the developer's own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    own = {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100", "PYTHONWARNINGS": "error", **CALM}
    return {**kept, **own, **extra}


def tieline(
    *arguments: str, cwd: Path, timeout: float = 60, **extra: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tieline", *arguments],
        cwd=cwd,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def tieline_json(*arguments: str, cwd: Path) -> Any:
    done = tieline(*arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Running:
    def __init__(self, process: subprocess.Popen[str], url: str, errors: Path) -> None:
        self.process = process
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self._errors = errors

    @property
    def said(self) -> str:
        return self._errors.read_text()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 20) -> int:
        return self.process.wait(timeout)


@contextmanager
def running(
    *arguments: str, cwd: Path, open_files: tuple[int, int] | None = None, **extra: str
) -> Iterator[Running]:
    """Stays up until the end of the block, once its ready line was there. ``open_files``: soft and hard limit."""

    def limit() -> None:
        if open_files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, open_files)

    errors = cwd / "stderr.txt"
    with errors.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "tieline", *arguments],
            cwd=cwd,
            env=environment(**extra),
            stdout=sink,
            stderr=sink,
            stdin=subprocess.DEVNULL,
            text=True,
            preexec_fn=limit,
        )
    try:
        yield Running(process, _ready(process, errors), errors)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(process: subprocess.Popen[str], errors: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for line in errors.read_text().splitlines():
            if "Tieline listens on " in line:
                return line.split("Tieline listens on ")[1].split()[0]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"not ready: {errors.read_text()}")
