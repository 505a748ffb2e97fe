"""``tieline drill`` as a process: on its own fleets, and on somebody's configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.programs import tieline
from tieline.config.load import ConfigErrors
from tieline.drills import scenario

KEYS = {"OPENAI_API_KEY": "sk-own-secret", "OPENROUTER_API_KEY": "or-own-secret"}
OWN = """
models:
  chat: {deployments: [openai/gpt-4o], fallbacks: [openrouter/openai/gpt-4o]}
  lonely: {deployments: [openai/gpt-5-mini], routing: {fallback: none}}
"""
FRIDAY = """
name: friday
title: A bad Friday
about: All of OpenAI refuses for half a minute.
length_s: 60
load: {models: [openai/gpt-4o], rate: 2}
keys: [openai, openrouter]
hit: {provider: openai, from_s: 20, to_s: 50}
phases: [{at_s: 20, for_s: 30, provider: openai, behaviour: fail-503}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.yaml").write_text(OWN)
    (tmp_path / "friday.yaml").write_text(FRIDAY)
    return tmp_path


def drilled(folder: Path, *arguments: str, code: int) -> Any:
    done = tieline("drill", "run", *arguments, "--json", "-", cwd=folder, timeout=120, **KEYS)
    assert done.returncode == code, done.stdout + done.stderr
    assert "secret" not in done.stdout + done.stderr
    return json.loads(done.stdout)


def test_an_incident_of_ones_own(folder: Path) -> None:
    (found,) = drilled(folder, "friday.yaml", "--html", "friday.html", code=0)["incidents"]
    assert (found["requests"], found["success"]) == (120, 1.0)
    assert (folder / "friday.html").read_text().startswith("<!doctype html>")


def test_an_incident_on_ones_own_configuration_names_what_it_would_have_cost(folder: Path) -> None:
    (found,) = drilled(folder, "friday.yaml", "--config", "own.yaml", code=1)["incidents"]
    assert 0.5 < found["success"] < 1.0, "chat is served, lonely is not"
    assert any("were served" in what for what in found["problems"])


def test_faults_on_ones_own_configuration(folder: Path) -> None:
    for fault in ("503", "cut-mid-event", "400-storm"):
        found = drilled(folder, fault, "--config", "own.yaml", code=0)["faults"]
        assert {one["upstream"] for one in found} == {"openai"}
        assert all(one["requests"] == 2 and one["answered"] >= 1 for one in found)
        assert {name for one in found for name in one["unprotected"]} == {"lonely"}


def test_a_configuration_that_tries_nobody_else_fails_the_fault(folder: Path) -> None:
    (folder / "own.yaml").write_text(OWN + "routing: {max_attempts: 1}\n")
    found = drilled(folder, "503", "--config", "own.yaml", code=1)["faults"]
    assert any("chat" in what and "no answer but 502" in what for one in found for what in one["problems"])


def test_what_cannot_be_drilled_says_why(folder: Path) -> None:
    (folder / "noise.yaml").write_bytes(b"\x96\xff")
    for arguments, said in (
        (("D16", "--config", "own.yaml"), "strikes deepseek, which this configuration does not use"),
        (("401-second-key", "--config", "own.yaml"), "more than one provider"),
        (("D99",), "there is no drill `D99`"),
        (("friday.yaml", "--speed", "0"), "--speed 0 is not between"),
        (("saturday.yaml",), "cannot be read"),
        (("friday.yaml", "--config", "none.yaml"), "none.yaml"),
        (("noise.yaml",), "noise.yaml:1: is not UTF-8 text"),
        (("friday.yaml", "--html", "."), "is a folder"),
        (("friday.yaml", "--json", "no/such/folder.json"), "There is no folder"),
    ):
        done = tieline("drill", "run", *arguments, cwd=folder, **KEYS)
        assert done.returncode == 2, done.stdout
        assert said in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr


def test_a_scenario_that_makes_no_sense_is_refused_with_its_line(folder: Path) -> None:
    (folder / "friday.yaml").write_text(FRIDAY.replace("at_s: 20", "at_s: -20"))
    done = tieline("drill", "run", "friday.yaml", cwd=folder)
    assert done.returncode == 2
    assert "friday.yaml:9: " in done.stderr


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        (
            "phases: [{at_s: 20, for_s: 30, provider: openai, behaviour: fail-503}]\n",
            ":1: `phases` is missing",
        ),
        ("models: [openai/gpt-4o], ", ":6: `load.models` is missing"),
        ("for_s: 30, ", ":9: `phases[0].for_s` is missing"),
    ],
)
def test_what_is_missing_is_named(left_out: str, said: str) -> None:
    with pytest.raises(ConfigErrors, match=re.escape(said)):
        scenario.parse(FRIDAY.replace(left_out, ""), "friday.yaml")


def test_a_schedule_that_makes_no_sense_is_refused_with_its_line(folder: Path) -> None:
    (folder / "bad.yaml").write_text("phases:\n  - {at_s: 0, for_s: -1}\n")
    (folder / "noise.yaml").write_bytes(b"\x96\xff")
    for name, said in (
        ("bad.yaml", "bad.yaml:2: "),
        ("noise.yaml", "not UTF-8"),
        ("none.yaml", "cannot be read"),
    ):
        done = tieline("simulate", "--schedule", name, "--port", "0", cwd=folder)
        assert done.returncode == 2
        assert said in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr


def test_the_terminal_shows_every_score(folder: Path) -> None:
    done = tieline("drill", "run", "friday.yaml", cwd=folder, timeout=120)
    assert done.returncode == 0
    head = done.stdout.splitlines()[1] if not done.stdout.splitlines()[0] else done.stdout.splitlines()[0]
    assert head.split() == (
        [
            "drill",
            "served",
            "first",
            "token",
            "p95",
            "added",
            "left",
            "back",
            "tries",
            "wasted",
            "over",
            "outside",
        ]
    )
    assert "1 of 1 survived as they should" in done.stdout
    done = tieline("drill", "run", "500-once", cwd=folder)
    assert "2 of 2 passed" in done.stdout


def test_the_list_has_whole_names_in_a_narrow_terminal(folder: Path) -> None:
    shown = tieline("drill", "list", cwd=folder, COLUMNS="80").stdout
    listed = json.loads(tieline("drill", "list", "--json", cwd=folder).stdout)
    for one in (*listed["incidents"], *listed["faults"]):
        assert f"\n{one['name']} " in shown
