"""The peers, each in an environment of its own below ``~/.cache/tieline-bench``, asked for the same upstream.

``python -m benchmarks.peers install`` installs both; a run measures those it finds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.contenders import UPSTREAM_KEY, Asking, Contender, Launch, Route, clean_environment, local

CACHE = Path(os.environ.get("TIELINE_BENCH_CACHE", "~/.cache/tieline-bench")).expanduser()
_LITELLM = CACHE / "litellm"
_PORTKEY = CACHE / "npm" / "node_modules" / "@portkey-ai" / "gateway"
_MASTER_KEY = "sk-benchmark-master"
_NPM = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "*"},
    # Gateway 1.15.2 answers every stream with 500 ("TypeError: immutable") on newer versions of this server, which its
    # range admits: they keep fetch's immutable headers. 1.3.3 is the lowest it asks for, and works (November 2026).
    "overrides": {"@hono/node-server": "1.3.3"},
}


def _launch_litellm(port: int, work: Path, rows: list[Route]) -> Launch:
    """Its defaults, with what its own guide advises for production: no debug output, log level ERROR."""
    models = [
        {
            "model_name": row.public,
            "litellm_params": {
                "model": f"openai/{row.model}",
                "api_base": row.base_url,
                "api_key": UPSTREAM_KEY,
            },
        }
        for row in rows
    ]
    config = {"model_list": models, "general_settings": {"master_key": _MASTER_KEY}}
    path = work / "litellm.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    argv = [
        str(_LITELLM / "bin" / "litellm"),
        "--config",
        str(path),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
    ]
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Launch(argv, clean_environment(**quiet), timeout_s=180)


def _launch_portkey(port: int, work: Path, rows: list[Route]) -> Launch:
    argv = [
        shutil.which("node") or "node",
        str(_PORTKEY / "build" / "start-server.js"),
        f"--port={port}",
        "--headless",
    ]
    return Launch(argv, clean_environment(NODE_ENV="production"), timeout_s=60)


def _ask_portkey(port: int, route: Route, dialect: str) -> Asking:
    """The open-source gateway has no models of its own: the caller names provider and host, and the model passes."""
    headers = {
        "authorization": f"Bearer {UPSTREAM_KEY}",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": route.base_url,
    }
    return Asking(f"http://127.0.0.1:{port}/v1/chat/completions", headers, route.model)


LITELLM = Contender(
    "litellm", local(_MASTER_KEY), _launch_litellm, frozenset({"openai", "anthropic"}), peer=True
)
PORTKEY = Contender("portkey", _ask_portkey, _launch_portkey, peer=True)


def installed() -> list[Contender]:
    found = [LITELLM] if (_LITELLM / "bin" / "litellm").exists() else []
    return [*found, PORTKEY] if (_PORTKEY / "build").exists() and shutil.which("node") else found


def folders() -> dict[str, Path]:
    """What the installed ones take on disk."""
    packages = next(_LITELLM.glob("lib/python*/site-packages"), None)
    found = {"litellm": packages, "portkey": _PORTKEY.parents[1]}
    return {one.name: folder for one in installed() if (folder := found[one.name]) is not None}


def versions() -> dict[str, str]:
    """Of the installed peers, for the result file."""
    found = {}
    if LITELLM in installed():
        code = "import importlib.metadata as m; print(m.version('litellm'))"
        found["litellm"] = subprocess.check_output(
            [_LITELLM / "bin" / "python", "-c", code], text=True
        ).strip()
    if PORTKEY in installed():
        found["portkey"] = json.loads((_PORTKEY / "package.json").read_text())["version"]
    return found


def install() -> None:
    """Both from their registries; an existing environment is upgraded."""
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(_LITELLM)], check=True)
    subprocess.run(
        [_LITELLM / "bin" / "pip", "install", "--quiet", "--upgrade", "litellm[proxy]"], check=True
    )
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not installed: Portkey gateway left out")
        return
    prefix = CACHE / "npm"
    prefix.mkdir(exist_ok=True)
    (prefix / "package.json").write_text(json.dumps(_NPM))
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "--prefix", str(prefix)], check=True)


if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        sys.exit("usage: python -m benchmarks.peers install")
    install()
    print(versions())
