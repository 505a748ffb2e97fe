"""What is paid before the first request: time to start, time to import, size on disk."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import process
from benchmarks.contenders import Contender, Route, python_environment
from benchmarks.measure import answers
from benchmarks.upstream.bodies import chat_request


def start_s(contender: Contender, work: Path, rows: list[Route], repeat: int = 5) -> float | None:
    """Median seconds from spawning the process to its first request answered with 200, configuration warm on disk."""
    if contender.launch is None:
        return None
    times = []
    for _ in range(repeat):
        port = process.free_port()
        launch = contender.launch(port, work, rows)
        asking = contender.ask(port, rows[0], "openai")
        body = chat_request(asking.model, 1024)
        begun = time.perf_counter()
        with process.running(
            launch.argv,
            lambda asking=asking, body=body: answers(asking.url, asking.headers, body),  # type: ignore[misc]
            log=work / f"{contender.name}-start.log",
            env=launch.env,
            cwd=work,
            timeout_s=launch.timeout_s,
        ):
            times.append(time.perf_counter() - begun)
    return round(statistics.median(times), 4)


def import_ms(module: str = "tieline", repeat: int = 9) -> float | None:
    """Median time of ``import module`` in a fresh interpreter, measured inside it; bytecode is cached by the first."""
    code = f"import time; t=time.perf_counter(); import {module}; print(time.perf_counter()-t)"
    times = []
    for _ in range(repeat):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=python_environment(),
            check=False,
        )
        if done.returncode != 0:
            return None
        times.append(float(done.stdout))
    return round(statistics.median(times) * 1000, 2)


def install_size_mb(environment: Path | None = None) -> float | None:
    """Megabytes of everything in the site-packages of a virtual environment (``--venv``); one made only for the
    package gives the honest figure, pip itself left out."""
    if environment is None:
        return None
    packages = next(environment.glob("lib/python*/site-packages"), None)
    if packages is None:
        return None
    left_out = ("pip", "pip-", "setuptools", "_distutils_hack", "pkg_resources")
    kept = [entry for entry in packages.iterdir() if not entry.name.startswith(left_out)]
    size = sum(
        file.lstat().st_size for entry in kept for file in [entry, *entry.rglob("*")] if file.is_file()
    )
    return round(size / 2**20, 1)


def runnable(module: str) -> bool:
    """Whether ``python -m module`` exists yet."""
    try:
        return importlib.util.find_spec(f"{module}.__main__") is not None
    except ModuleNotFoundError:
        return False
