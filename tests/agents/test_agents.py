"""Frameworks that agents are built with, each with its own documented way to set a base URL, against every upstream dialect.

They live in environments of their own, which `make agents` makes and `make test` makes first.
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

from tests.agents.environments import NODE, PYTHON
from tests.conformance.world import HOSTS, World, running
from tieline.config.schema import ModelConfig
from tieline.simulator.text import expected_text

SCRIPTS = Path(__file__).parent / "scripts"
PROMPT = "Why do ships carry bells?"
TOKENS = 48
TIMEOUT_S = 280
_ALONE = {"fallback": "none", "on_broken_stream": "error", "patience_s": 0}
_FAILING = {
    "down": "chat-broken/sim-fail-500",
    "busy": "claude-broken/sim-fail-429",
    "full": "gemini-broken/sim-fail-context",
    "cut": "chat-broken/sim-cut:after=5",
}
MODELS = [f"by-{host.name}" for host in HOSTS]
"""Names of our own: LiteLLM takes `responses/` inside a name for a wish of its own."""
NAMED = {f"by-{host.name}": ModelConfig(deployments=[f"{host.name}/sim-echo"]) for host in HOSTS} | {
    name: ModelConfig(deployments=[deployment], routing=_ALONE) for name, deployment in _FAILING.items()
}
STATUS = {"unknown": 404, "down": 502, "busy": 429, "full": 400, "wrong-key": 401}
_OPENAI = {
    "unknown": "NotFoundError",
    "down": "InternalServerError",
    "busy": "RateLimitError",
    "full": "BadRequestError",
    "wrong-key": "AuthenticationError",
    "cut": "APIError",
}
_LITELLM = _OPENAI | {
    "down": "BadGatewayError",
    "full": "ContextWindowExceededError",
    "cut": "MidStreamFallbackError",
}
_PYDANTIC_AI = dict.fromkeys(STATUS, "ModelHTTPError")
_AI_SDK = dict.fromkeys(STATUS, "AI_APICallError")


def _langchain(vendor: str, **more: str) -> dict[str, str]:
    own = {
        "unknown": "ModelNotFound",
        "down": "API",
        "busy": "RateLimit",
        "full": "ContextOverflow",
        "wrong-key": "Authentication",
    }
    return {name: f"{vendor}{kind}Error" for name, kind in own.items()} | more


RAISED: dict[str, dict[str, dict[str, str]]] = {
    "langchain_openai": {
        "chat": _langchain("OpenAI", cut="APIError"),
        "responses": _langchain("OpenAI", cut="ValueError"),
    },
    "langchain_anthropic": {"anthropic": _langchain("Anthropic", cut="APIStatusError")},
    "llama_index": {"chat": _OPENAI},
    "pydantic_ai": dict.fromkeys(("chat", "responses", "anthropic", "gemini"), _PYDANTIC_AI),
    "instructor": {"chat": dict.fromkeys([*STATUS, "cut"], "InstructorRetryException")},
    "litellm": {"openai": _LITELLM, "anthropic": _LITELLM},
    "vercel": dict.fromkeys(("compatible", "chat", "responses", "anthropic", "gemini"), _AI_SDK),
}
"""By framework, API and failure: the class that its users catch, where it has one of its own."""
_WITHOUT = {"ANTHROPIC_", "OPENAI_", "GEMINI_", "GOOGLE_", "AWS_", "LITELLM_", "LANGCHAIN_", "LANGSMITH_"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("agents"), more=("-broken",), models=NAMED) as made:
        yield made


def absent(what: str) -> NoReturn:
    """Skips, saying so on the terminal too: pytest -q hides why."""
    missing = f"NOT TESTED: {what}. `make agents` installs it, or says why it cannot."
    sys.__stderr__.write(f"\n{missing}\n")  # type: ignore[union-attr]
    pytest.skip(missing)


def said(command: list[str], world: World, cwd: Path) -> Any:
    kept = {
        name: value for name, value in os.environ.items() if not any(name.startswith(one) for one in _WITHOUT)
    }
    ours = {
        "TIELINE_URL": world.url,
        "TIELINE_MODELS": " ".join(MODELS),
        "TIELINE_FAILURES": json.dumps(["unknown", "down", "busy", "full"]),
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
    whole = expected_text(PROMPT, TOKENS)
    for name, value in seen.items():
        if name in ("text", "stream", "async"):
            assert value == whole, f"{name}: {value}"
        elif name in ("tool", "streamed_tool"):
            assert value == ["get_weather"], value
        elif name == "loop":
            assert "sun in " in value, value
        elif name in ("structured", "streamed_structured"):
            flat = value.values() if all(isinstance(one, dict) for one in value.values()) else [value]
            for one in flat:
                assert isinstance(one["name"], str)
                assert isinstance(one["depth_m"], int)
        elif name == "embedding":
            assert value == 64
        elif name == "usage":
            assert value == TOKENS
        elif name == "counted":
            assert value is True
        else:
            check(value)


def check_errors(seen: dict[str, dict[str, Any]], classes: dict[str, dict[str, str]]) -> None:
    """Every failure reaches the framework's user as the framework's own exception; a cut answer too."""
    assert seen.keys() == classes.keys()
    for kind, raised in seen.items():
        assert {name: raised[name][1] for name in STATUS} == STATUS, kind
        assert raised["cut"][0] != "nothing", kind
        assert {name: raised[name][0] for name in classes[kind]} == classes[kind], kind


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "framework",
    ["langchain_openai", "langchain_anthropic", "llama_index", "pydantic_ai", "instructor", "litellm"],
)
def test_python_framework(world: World, framework: str, tmp_path: Path) -> None:
    interpreter = PYTHON.find() or absent(f"{framework}, as there is no {PYTHON.home}")
    seen = said([str(interpreter), str(SCRIPTS / f"{framework}_client.py")], world, tmp_path)
    check_errors(seen.pop("errors"), RAISED[framework])
    assert seen.keys() >= set(MODELS)
    check(seen)


@pytest.mark.timeout(300)
def test_vercel_ai_sdk(world: World, tmp_path: Path) -> None:
    node = shutil.which("node") or absent("the Vercel AI SDK, as there is no node")
    modules = NODE.find() or absent(f"the Vercel AI SDK, as there is no {NODE.home}")
    (tmp_path / "node_modules").symlink_to(modules)
    shutil.copy(SCRIPTS / "vercel_ai.mjs", tmp_path)
    seen = said([node, "vercel_ai.mjs"], world, tmp_path)
    check_errors(seen.pop("errors"), RAISED["vercel"])
    assert seen.keys() == set(MODELS)
    check(seen)
