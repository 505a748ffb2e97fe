"""Where the frameworks of tests/agents live: apart from the development environment, in the user's cache, by the hash of their lock.

``python -m tests.agents`` makes what is missing.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

FOLDER = Path(__file__).parent
INSTALL_S = 600
"""An installation that takes longer is given up."""
PROBE_S = 30
UNUSED_DAYS = 30
"""An environment that no test has used for longer is removed when another is made."""


class Environment(Struct, frozen=True):
    """One tool's world; ``part`` is what a test needs of it."""

    name: str
    lock: Path
    """Exact versions; what it was made of is beside it."""
    part: str
    needs: tuple[str, ...]
    """Programs without which it cannot be."""
    install: Callable[[Path, Path], str]
    """Fills a folder by the lock; why not, if it could not."""
    probe: tuple[str, ...]
    """Succeeds if the registry answers."""

    @property
    def home(self) -> Path:
        facts = f"{sysconfig.get_platform()} {platform.python_version()}"
        key = hashlib.sha256(self.lock.read_bytes() + facts.encode()).hexdigest()[:16]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "tieline" / "agents" / f"{self.name}-{key}"

    def find(self) -> Path | None:
        found = self.home / self.part
        if not found.exists():
            return None
        os.utime(self.home)
        return found

    def missing(self) -> str:
        """The program that has to be there first."""
        return next((program for program in self.needs if shutil.which(program) is None), "")

    def make(self) -> str:
        """Beside its place first, so that a broken installation is never found; why not, if it could not."""
        home = self.home
        beside = home.with_name(f"{home.name}.{os.getpid()}")
        beside.mkdir(parents=True)
        try:
            reason = self.install(beside, self.lock)
            if not reason and self.find() is None:
                beside.rename(home)
            return reason
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            _forget_unused(home.parent)

    def reachable(self) -> bool:
        return _ran([*self.probe], PROBE_S) == ""


def _forget_unused(folder: Path) -> None:
    limit = time.time() - UNUSED_DAYS * 86_400
    for home in folder.iterdir():
        if home.stat().st_mtime < limit:
            shutil.rmtree(home, ignore_errors=True)


def _ran(command: list[str], seconds: float = INSTALL_S) -> str:
    """Nothing, or why it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not end within {seconds} s"
    return (
        "" if done.returncode == 0 else (done.stderr or done.stdout)[:1500].strip() or f"{command[0]} failed"
    )


def _install_python(home: Path, lock: Path) -> str:
    uv = [sys.executable, "-m", "uv", "-q"]
    made = _ran([*uv, "venv", "--allow-existing", "--relocatable", "--python", sys.executable, str(home)])
    interpreter = str(home / "bin" / "python")
    return made or _ran([*uv, "pip", "sync", "--python", interpreter, "--require-hashes", str(lock)])


def _install_node(home: Path, lock: Path) -> str:
    for path in (lock, lock.with_name("package.json")):
        shutil.copy(path, home)
    return _ran(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(home)])


def _install_programs(home: Path, wanted: Path) -> str:
    """With the packages' own scripts, which put the program for this platform in its place."""
    shutil.copy(wanted, home)
    return _ran(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home)])


_PYPI = (sys.executable, "-m", "pip", "index", "versions", "--retries", "0", "uv")
_NPM = ("npm", "ping")
PYTHON = Environment("python", FOLDER / "requirements.lock", "bin/python", (), _install_python, _PYPI)
NODE = Environment("node", FOLDER / "package-lock.json", "node_modules", ("node", "npm"), _install_node, _NPM)
AIDER = Environment("aider", FOLDER / "coding" / "requirements.lock", "bin/aider", (), _install_python, _PYPI)
PROGRAMS = Environment(
    "programs",
    FOLDER / "coding" / "package.json",
    "node_modules/.bin",
    ("node", "npm"),
    _install_programs,
    _NPM,
)
