"""Every example of the documentation does what it shows."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.docs.pages import ROOT, Block, blocks
from tests.docs.test_reference import _commands
from tests.programs import environment, running
from tieline.config.load import parse
from tieline.config.schema import StoreConfig
from tieline.drills import scenario
from tieline.gateway import Gateway
from tieline.simulator.schedule import Schedule

WRITTEN = "http://127.0.0.1:8787"
"""The address that the documentation writes."""
KEYS = {"ACME_KEY": "any"}


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.id)
def test_python(block: Block, config_file: Path, gateway_url: str) -> None:
    if block.mark.startswith("not run: "):
        pytest.skip(block.mark)
    assert block.mark in ("run: server", "run: in-process"), (
        "say before the block how it runs (CONTRIBUTING.md)"
    )
    code = block.body.replace(WRITTEN, gateway_url)
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TIELINE_CONFIG": str(config_file)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        cwd=config_file.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_first_start_answers_to_the_readme(tmp_path: Path) -> None:
    """Without any account, as README says: each of its requests to a server, to what ``make run`` starts."""
    commands = [
        ["bash", "-c", line.replace("curl ", "curl -sS --fail-with-body ", 1)]
        for block in blocks("bash")
        for line in _lines(block)
        if block.page == "README.md" and line.startswith("curl http")
    ]
    programs = [
        [sys.executable, "-c", block.body]
        for block in blocks("python")
        if block.page == "README.md" and block.mark == "run: server"
    ]
    assert commands
    assert programs
    with running("up", "--port", "0", cwd=tmp_path) as server:
        for command in (*commands, *programs):
            asking = [word.replace(WRITTEN, server.url) for word in command]
            done = subprocess.run(asking, env=environment(), capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.stdout.strip()


def test_the_failover_of_the_readme_serves_requests_without_max_tokens() -> None:
    """As those above it are."""
    written = next(
        block.body for block in blocks("yaml") if block.page == "README.md" and "smart:" in block.body
    )
    keys = {"OPENAI_API_KEY": "any", "ANTHROPIC_API_KEY": "any"}
    config = replace(parse(written, keys).config, store=StoreConfig(database="none"))
    made = Gateway(config, environ=keys, dry=True)
    told = made.explain("smart", max_output_tokens=64_000)  # all that the first can write
    chosen = [one["deployment"] for one in told["candidates"] if one["order"] is not None]
    assert chosen[:2] == ["anthropic/claude-sonnet-4-6", "openai/gpt-5-mini"]


def _lines(block: Block) -> list[str]:
    """The commands of a block, continued lines joined, comments left out."""
    joined = block.body.replace("\\\n", " ")
    return [line for line in map(str.strip, joined.splitlines()) if line and not line.startswith("#")]


COMMANDS = [
    (block.id, line) for language in ("bash", "") for block in blocks(language) for line in _lines(block)
]


@pytest.mark.parametrize(
    "line", [pytest.param(line, id=where) for where, line in COMMANDS if line.startswith("curl ")]
)
def test_curl(line: str, gateway_url: str) -> None:
    command = line.replace(WRITTEN, gateway_url).replace(
        "curl ", "curl -sS --fail-with-body --max-time 20 ", 1
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"choices"' in done.stdout


@pytest.mark.parametrize(
    "line", [pytest.param(line, id=where) for where, line in COMMANDS if line.startswith("tieline ")]
)
def test_tieline_commands_exist(line: str) -> None:
    known = _commands()
    for part in line.split("&&"):
        words = shlex.split(part, comments=True)
        command = next((name for name in (" ".join(words[:3]), " ".join(words[:2])) if name in known), None)
        assert command is not None
        options = {word for word in words if word.startswith("--")}
        assert options <= known[command] | {"--json", "--config", "--help"}


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    used = {shlex.split(line)[1] for _, line in COMMANDS if line.startswith("make ")}
    assert used
    assert used <= targets


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.id)
def test_yaml_is_valid(block: Block) -> None:
    if block.mark == "schedule":
        assert Schedule.loads(block.body).phases
    elif block.mark == "drill":
        assert scenario.parse(block.body, "drill.yaml").phases
    else:
        parse(block.body, KEYS)
