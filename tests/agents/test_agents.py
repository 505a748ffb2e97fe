"""Frameworks that agents are built with, each with its own documented way to set a base URL, against every upstream dialect.

They live in an environment of their own: `make agents` makes it, TIELINE_AGENTS_PYTHON names another.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.conformance.world import HOSTS, World, running
from tieline.config.schema import ModelConfig
from tieline.simulator.text import expected_text

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
PROMPT = "Why do ships carry bells?"
TIMEOUT_S = 280
MODELS = {f"by-{host.name}": ModelConfig(deployments=[f"{host.name}/sim-echo"]) for host in HOSTS}
"""Names of our own: LiteLLM takes `responses/` inside a name for a wish of its own."""
_PYTHON = ("langchain_openai", "langchain_anthropic", "llama_index", "pydantic_ai", "instructor", "litellm")
_WITHOUT = {"ANTHROPIC_", "OPENAI_", "GEMINI_", "GOOGLE_", "AWS_", "LITELLM_", "LANGCHAIN_", "LANGSMITH_"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("agents"), models=MODELS) as made:
        yield made


def absent(what: str) -> NoReturn:
    """Skips, saying so on the terminal too: pytest -q hides why."""
    missing = f"NOT TESTED: {what}. `make agents` installs it."
    sys.__stderr__.write(f"\n{missing}\n")  # type: ignore[union-attr]
    pytest.skip(missing)


def interpreter() -> str:
    named = os.environ.get("TIELINE_AGENTS_PYTHON")
    found = Path(named) if named else ROOT / ".agents-venv" / "bin" / "python"
    if not found.exists():
        absent(f"agent frameworks, as there is no {found}")
    return str(found)


def said(command: list[str], world: World, cwd: Path) -> Any:
    kept = {
        name: value for name, value in os.environ.items() if not any(name.startswith(one) for one in _WITHOUT)
    }
    ours = {
        "TIELINE_URL": world.url,
        "TIELINE_MODELS": " ".join(MODELS),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LANGSMITH_TRACING": "false",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        command, env=kept | ours, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def check(seen: dict[str, Any]) -> None:
    whole = expected_text(PROMPT, 48)
    for name, value in seen.items():
        if name in ("text", "stream"):
            assert value == whole, f"{name}: {value}"
        elif name == "tool":
            assert value == ["get_weather"], value
        elif name == "loop":
            assert "sun in " in value, value
        elif name == "structured":
            flat = value.values() if all(isinstance(one, dict) for one in value.values()) else [value]
            for one in flat:
                assert isinstance(one["name"], str)
                assert isinstance(one["depth_m"], int)
        elif name == "embedding":
            assert value == 64
        elif name == "usage":
            assert value == 48
        else:
            check(value)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("framework", _PYTHON)
def test_python_framework(world: World, framework: str, tmp_path: Path) -> None:
    seen = said([interpreter(), str(SCRIPTS / f"{framework}_client.py")], world, tmp_path)
    assert MODELS.keys() <= seen.keys()
    check(seen)


@pytest.mark.timeout(300)
def test_vercel_ai_sdk(world: World, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        absent("the Vercel AI SDK, as there is no node")
    modules = Path(os.environ.get("TIELINE_AGENTS_NODE", ROOT / ".agents-node")) / "node_modules"
    if not (modules / "ai").exists():
        absent(f"the Vercel AI SDK, as it is not in {modules}")
    (tmp_path / "node_modules").symlink_to(modules)
    shutil.copy(SCRIPTS / "vercel_ai.mjs", tmp_path)
    seen = said([str(node), "vercel_ai.mjs"], world, tmp_path)
    assert MODELS.keys() == seen.keys()
    check(seen)
