"""Who is measured: a table of contenders, how each is started, and how it is asked.

A contender is given the same *routes*: public names, each leading to a model of one of the benchmark's upstreams. One
that is already running elsewhere is described by URL (``--url name=http://host:port/v1,key=…,model=…,pid=…``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src"
COMPILED = REPOSITORY / "build" / "compiled"
"""Where ``make wheel`` unpacks the wheel that is published."""
UPSTREAM_KEY = "upstream-key"
SIZES = {"1k": 1024, "10k": 10 * 1024, "100k": 100 * 1024, "1m": 1024**2, "10m": 10 * 1024**2}
STREAMS = [(tokens, ms) for tokens in (50, 200, 500) for ms in (0, 1, 4, 16, 50)]
STREAMS += [(2, 1), (2, 600_000)]


class Route(NamedTuple):
    public: str
    """What the caller sends as the model."""
    base_url: str
    model: str
    """What the upstream must be sent."""


def routes(nginx_port: int | None, sse_port: int) -> list[Route]:
    """``whole-1k`` … ``whole-10m`` (size of the answer) and ``stream-50-4`` (tokens, ms between them) …; without nginx
    the streaming upstream answers whole too."""
    sse = f"http://127.0.0.1:{sse_port}/v1"
    whole = f"http://127.0.0.1:{nginx_port}" if nginx_port else None
    rows = [
        Route(f"whole-{label}", f"{whole}/{label}/v1" if whole else sse, f"whole-{size}")
        for label, size in SIZES.items()
    ]
    return rows + [Route(f"stream-{tokens}-{ms}", sse, f"sse-{tokens}-{ms}") for tokens, ms in STREAMS]


class Launch(NamedTuple):
    argv: list[str]
    env: dict[str, str]
    timeout_s: float = 30.0


class Asking(NamedTuple):
    """How a route is asked for: where, with which headers, under which model name."""

    url: str
    headers: dict[str, str]
    model: str


class Contender(NamedTuple):
    name: str
    ask: Callable[[int, Route, str], Asking]
    """(port, route, dialect) -> Asking; dialect is ``openai`` or ``anthropic``."""
    launch: Callable[[int, Path, list[Route]], Launch] | None = None
    """(port, work folder, routes) -> how to start it; None: it runs already, or is the upstream itself."""
    dialects: frozenset[str] = frozenset({"openai"})
    peer: bool = False
    """Somebody else's gateway: measured on fewer cells, within the time limit."""
    pid: int | None = None


_PATHS = {"openai": "/chat/completions", "anthropic": "/messages"}
_BOTH = frozenset(_PATHS)


def _bearer(key: str, dialect: str) -> dict[str, str]:
    if dialect == "anthropic":
        return {"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
    return {"authorization": f"Bearer {key}"}


def local(key: str) -> Callable[[int, Route, str], Asking]:
    """A gateway on loopback that knows the public names under ``/v1``."""

    def ask(port: int, route: Route, dialect: str) -> Asking:
        return Asking(f"http://127.0.0.1:{port}/v1{_PATHS[dialect]}", _bearer(key, dialect), route.public)

    return ask


def _ask_direct(port: int, route: Route, dialect: str) -> Asking:
    return Asking(route.base_url + _PATHS[dialect], _bearer(UPSTREAM_KEY, dialect), route.model)


def _launch_floor(port: int, work: Path, rows: list[Route]) -> Launch:
    path = work / "routes.json"
    path.write_text(json.dumps([row._asdict() for row in rows]))
    argv = [sys.executable, "-m", "benchmarks.floor.relay", "--port", str(port), "--routes", str(path)]
    return Launch(argv, python_environment())


def clean_environment(**more: str) -> dict[str, str]:
    """Ours without provider keys, which a gateway would discover, and without a module path of the caller's."""
    left_out = ("_API_KEY", "_TOKEN", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.endswith(left_out)} | more


def python_environment() -> dict[str, str]:
    """Of processes that run this repository's code."""
    return clean_environment(PYTHONPATH=f"{SOURCE}:{REPOSITORY}")


def compiled_modules() -> int:
    """How many modules of the unpacked wheel are native; 0 where there is none."""
    return sum(1 for _ in (COMPILED / "tieline").rglob("*.so"))


def build() -> dict[str, object]:
    """What the contender ``tieline`` is in this run; ``of_this_source`` tells whether the wheel was built of the files
    that stand in ``src`` now."""
    modules = compiled_modules()
    if not modules:
        return {"build": "interpreted"}
    return {"build": "compiled", "compiled_modules": modules, "of_this_source": _of_this_source()}


def _of_this_source() -> bool:
    """The wheel holds the source of each compiled module too."""
    built = COMPILED.joinpath("tieline").rglob("*.py")
    here = {path.relative_to(SOURCE): path for path in SOURCE.joinpath("tieline").rglob("*.py")}
    found = [(path, here.get(path.relative_to(COMPILED))) for path in built]
    return bool(found) and all(one and one.read_bytes() == path.read_bytes() for path, one in found)


def tieline_environment(*, interpreted: bool = False) -> dict[str, str]:
    """Of Tieline's processes: the compiled package where it was built, as that is what an installation gets; the source
    otherwise, or where it is asked for."""
    home = SOURCE if interpreted or not compiled_modules() else COMPILED
    return clean_environment(PYTHONPATH=f"{home}:{REPOSITORY}")


_KEYS: dict[int, str] = {}
"""Virtual keys by the port of the gateway that knows them."""


def _ask_tieline(port: int, route: Route, dialect: str) -> Asking:
    headers = _bearer(_KEYS.get(port, "none"), dialect)
    return Asking(f"http://127.0.0.1:{port}/v1{_PATHS[dialect]}", headers, route.public)


def _virtual_key(config: Path) -> str:
    """Makes one, so that every request is one of a known caller; once for each folder."""
    kept = config.parent / "key.json"
    if not kept.exists():
        argv = [sys.executable, "-m", "tieline", "keys", "create", "bench", "--json", "--config", str(config)]
        kept.write_bytes(subprocess.check_output(argv, env=python_environment(), cwd=config.parent))
    return str(json.loads(kept.read_text())["secret"])


def tieline_config(rows: list[Route], work: Path, *, features: bool) -> dict[str, object]:
    """The configuration that Tieline is measured with, as it would stand in ``tieline.yaml``. With ``features`` it is
    a default install that asks its callers for a key; without, it keeps no records and knows no keys."""
    names: dict[str, str] = {}
    for row in rows:
        names.setdefault(row.base_url, f"bench{len(names)}")
    used = {name: sorted({row.model for row in rows if row.base_url == url}) for url, name in names.items()}
    providers = {
        name: {
            "base_url": url,
            "api_key": UPSTREAM_KEY,
            "models": used[name],
            "prices": {model: {"input": "0.15", "output": "0.60"} for model in used[name]},
        }
        for url, name in names.items()
    }
    return {
        "discover": False,
        "server": {"max_body_mb": 32},
        "providers": providers,
        "models": {row.public: {"deployments": [f"{names[row.base_url]}/{row.model}"]} for row in rows},
        "store": {
            "database": f"sqlite:///{work / 'tieline.db'}" if features else "none",
            "spool": str(work / "spool"),
        },
    }


def _launch_tieline(
    features: bool, *, interpreted: bool = False
) -> Callable[[int, Path, list[Route]], Launch]:
    def launch(port: int, work: Path, rows: list[Route]) -> Launch:
        path = work / "tieline.yaml"
        path.write_text(json.dumps(tieline_config(rows, work, features=features), indent=2))  # JSON is YAML
        if features:
            _KEYS[port] = _virtual_key(path)
        argv = [sys.executable, "-m", "tieline", "serve", "--config", str(path), "--port", str(port)]
        return Launch(argv, tieline_environment(interpreted=interpreted))

    return launch


DIRECT = Contender("direct", _ask_direct, dialects=_BOTH)
FLOOR = Contender("floor", local("any"), _launch_floor)
TIELINE = Contender("tieline", _ask_tieline, _launch_tieline(True), _BOTH)
TIELINE_INTERPRETED = Contender(
    "tieline-interpreted", _ask_tieline, _launch_tieline(True, interpreted=True), _BOTH
)
"""Of ``src``, beside a compiled one."""
TIELINE_BARE = Contender("tieline-bare", _ask_tieline, _launch_tieline(False), _BOTH)


def by_url(text: str) -> Contender:
    """``name=http://host:port/v1[,key=K][,model=M][,pid=P]``; without a pid its CPU and memory are not known, without
    a model it is asked for the public names."""
    name, _, rest = text.partition("=")
    url, *options = rest.split(",")
    settings = dict(option.split("=", 1) for option in options)
    if not name or urlsplit(url).scheme != "http" or settings.keys() - {"key", "model", "pid"}:
        raise ValueError(f"--url {text}: expected name=http://host:port/v1[,key=K][,model=M][,pid=P]")

    def ask(port: int, route: Route, dialect: str) -> Asking:
        headers = _bearer(settings.get("key", "any"), dialect)
        return Asking(url.rstrip("/") + _PATHS[dialect], headers, settings.get("model", route.public))

    pid = int(settings["pid"]) if "pid" in settings else None
    return Contender(name, ask, dialects=_BOTH, peer=True, pid=pid)
