"""What is paid before the first request: time to start, time to import, size on disk."""

from __future__ import annotations

import importlib.metadata
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import peers
from benchmarks.contenders import (
    COMPILED,
    REPOSITORY,
    SOURCE,
    Contender,
    compiled_modules,
    tieline_environment,
)
from benchmarks.stage import Bench, started

_PINNED = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==", re.M)
_BUILDS = {
    "editables",
    "hatchling",
    "pathspec",
    "pip",
    "pluggy",
    "setuptools",
    "tomlkit",
    "trove-classifiers",
    "wheel",
}
"""In the lock to build the package, not to run it."""


def start_s(contender: Contender, bench: Bench, repeat: int = 5) -> float:
    """Median seconds from spawning the process to its first request answered with 200, configuration and database there
    already."""
    times = []
    for number in range(repeat + 1):
        begun = time.perf_counter()
        with started(contender, bench.work, bench.rows) as running:
            ended = time.perf_counter()
        if number or repeat == 1:
            times.append(ended - max(begun, running.began))
    return round(statistics.median(times), 4)


def import_ms(module: str = "tieline", repeat: int = 9, *, interpreted: bool = False) -> float | None:
    """Median time of ``import module`` in a fresh interpreter, measured inside it; bytecode is cached by the first."""
    code = f"import time; t=time.perf_counter(); import {module}; print(time.perf_counter()-t)"
    times = []
    for _ in range(repeat):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=tieline_environment(interpreted=interpreted),
            check=False,
        )
        if done.returncode != 0:
            return None
        times.append(float(done.stdout))
    return round(statistics.median(times) * 1000, 2)


def install_sizes_mb() -> dict[str, float | None]:
    """Megabytes on disk: Tieline with everything that the runtime lock names, bytecode left out; the peers' environments
    without pip, or their node_modules."""
    return {"tieline": _locked_mb()} | {name: _folder_mb(path) for name, path in peers.folders().items()}


def _locked_mb() -> float | None:
    """None where a locked package is not installed."""
    names = set(_PINNED.findall((REPOSITORY / "requirements.lock").read_text())) - _BUILDS
    try:
        size = sum(_distribution_size(name) for name in names)
    except importlib.metadata.PackageNotFoundError:
        return None
    own = COMPILED if compiled_modules() else SOURCE / "tieline"
    return _mb(size + sum(file.stat().st_size for file in own.rglob("*") if _counts(file)))


def _distribution_size(name: str) -> int:
    files = importlib.metadata.distribution(name).files or []
    paths = [Path(str(file.locate())) for file in files]
    return sum(path.stat().st_size for path in paths if _counts(path))


def _counts(path: Path) -> bool:
    return path.is_file() and path.suffix != ".pyc"


def _folder_mb(folder: Path) -> float:
    left_out = ("pip", "pip-", "setuptools", "_distutils_hack", "pkg_resources")
    kept = [entry for entry in folder.iterdir() if not entry.name.startswith(left_out)]
    files = [file for entry in kept for file in ([entry] if entry.is_file() else entry.rglob("*"))]
    return _mb(sum(file.lstat().st_size for file in files if _counts(file)))


def _mb(size: int) -> float:
    return round(size / 2**20, 1)
