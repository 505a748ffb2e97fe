"""Coding agents themselves, each set up as docs/clients.md shows, against every upstream dialect.

They are large, so that `make test` leaves them out; `make coding-agents` installs and runs them. Every home is a folder
of the test's own: nothing of a developer's own agent is read or written.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.environments import AIDER, PROGRAMS
from tests.conformance.world import HOSTS, World, running
from tieline.config.schema import ModelConfig

NAMED = {f"by-{host.name}": ModelConfig(deployments=[f"{host.name}/sim-echo"]) for host in HOSTS}
PROMPT = "Why do ships carry bells?"
TIMEOUT_S = 100
pytestmark = [
    pytest.mark.timeout(2 * TIMEOUT_S),
    pytest.mark.skipif(
        not os.environ.get("TIELINE_CODING_AGENTS"), reason="large: `make coding-agents` runs it"
    ),
    pytest.mark.parametrize("model", NAMED),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("coding"), models=NAMED) as made:
        yield made


def ran(program: str, *arguments: str, home: Path, **environ: str) -> str:
    folder = AIDER.home / "bin" if program == "aider" else PROGRAMS.home / PROGRAMS.part
    work = home / "work"
    work.mkdir(exist_ok=True)
    done = subprocess.run(
        [str(folder / program), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environ},
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def served(world: World) -> list[Any]:
    """What the upstream was asked, all of it answered in full."""
    entries = [entry for entry in world.upstream() if entry.status == 200]
    assert entries
    assert all(entry.completed for entry in entries)
    return entries


@pytest.mark.parametrize("prompt", [PROMPT, "Use the Read tool."])
def test_claude_code(world: World, model: str, prompt: str, tmp_path: Path) -> None:
    world.begin()
    said = ran(
        "claude",
        "-p",
        prompt,
        "--output-format",
        "json",
        home=tmp_path,
        ANTHROPIC_BASE_URL=world.url,
        ANTHROPIC_AUTH_TOKEN="caller",
        ANTHROPIC_MODEL=model,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
    )
    answer = json.loads(said)
    assert not answer["is_error"], answer["result"]
    assert answer["result"]
    assert len(served(world)) >= answer["num_turns"] > 0 or "tool" in answer["result"]


@pytest.mark.parametrize("prompt", [PROMPT, "Use the get_goal tool."])
def test_codex(world: World, model: str, prompt: str, tmp_path: Path) -> None:
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "config.toml").write_text(
        f"""
model = "{model}"
model_provider = "tieline"
web_search = "disabled"

[model_providers.tieline]
name = "Tieline"
base_url = "{world.url}/v1"
env_key = "TIELINE_API_KEY"
wire_api = "responses"
"""
    )
    if model == "by-responses" and prompt != PROMPT:
        pytest.skip("Codex answers calls that were never made, which the simulated vendor refuses")
    world.begin()
    said = ran(
        "codex", "exec", "--skip-git-repo-check", "--json", prompt, home=tmp_path, TIELINE_API_KEY="caller"
    )
    kinds = [json.loads(line)["type"] for line in said.splitlines()]
    assert kinds[-1] == "turn.completed"
    assert len(served(world)) >= (1 if prompt == PROMPT else 2)


@pytest.mark.parametrize("prompt", [PROMPT, "Use the glob tool."])
def test_opencode(world: World, model: str, prompt: str, tmp_path: Path) -> None:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Tieline",
        "options": {"baseURL": f"{world.url}/v1", "apiKey": "{env:TIELINE_API_KEY}"},
        "models": {model: {"name": model}},
    }
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "opencode.json").write_text(
        json.dumps({"provider": {"tieline": provider}, "model": f"tieline/{model}", "autoupdate": False})
    )
    world.begin()
    assert ran("opencode", "run", prompt, home=tmp_path, TIELINE_API_KEY="caller").strip()
    assert len(served(world)) >= (1 if prompt == PROMPT else 2)


def test_continue(world: World, model: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f"""
name: Tieline
version: 0.0.1
schema: v1
models:
  - {{name: ours, provider: openai, model: {model}, apiBase: "{world.url}/v1", apiKey: caller}}
"""
    )
    world.begin()
    assert ran("cn", "--config", str(config), "-p", PROMPT, home=tmp_path).strip()
    served(world)


def test_aider(world: World, model: str, tmp_path: Path) -> None:
    world.begin()
    said = ran(
        "aider",
        "--model",
        f"openai/{model}",
        "--message",
        PROMPT,
        *("--no-git", "--yes-always", "--no-check-update", "--no-show-model-warnings", "--no-pretty"),
        home=tmp_path,
        OPENAI_API_BASE=f"{world.url}/v1",
        OPENAI_API_KEY="caller",
        AIDER_ANALYTICS="false",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    assert "received" in said
    served(world)
