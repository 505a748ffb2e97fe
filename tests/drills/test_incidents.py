"""Scenario files are checked with line and fix; one incident is played; the report is one file."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tieline.cli.drill import app
from tieline.config.load import ConfigErrors
from tieline.config.schema import Config
from tieline.drills import clock, incident, report, scenario
from tieline.drills.fleet import keyed
from tieline.drills.score import score


def short(name: str) -> scenario.Scenario:
    """The same incident in a third of its time."""
    found = scenario.load(name)
    phases = [replace(one, at_s=one.at_s / 3, for_s=one.for_s / 3) for one in found.phases]
    hit = replace(found.hit, from_s=found.hit.from_s / 3, to_s=found.hit.to_s / 3)
    return replace(found, length_s=found.length_s / 3, phases=phases, hit=hit)


def test_all_seventeen_are_there_and_valid() -> None:
    found = scenario.packaged()
    assert [one.name.split("-")[0] for one in found] == [f"D{number:02d}" for number in range(1, 18)]
    assert all(one.about and one.source and one.goals.success >= 0.9 for one in found)


def test_one_incident_with_residency() -> None:
    goals = replace(short("D13").goals, added_first_token_s=None)
    played = clock.run(lambda: incident.play(replace(short("D13"), goals=goals)), 150.0)
    result = score(played)
    assert result.passed, result.problems
    assert result.success == 1.0
    assert result.outside_allowed == 0
    assert {entry.provider for entry in played.log} == {"azure-sweden", "azure-france"}
    assert result.left_after_s is not None
    page = report.incidents([(played, result)])
    assert page.startswith("<!doctype html>")
    assert "<svg" in page
    assert "http" not in page


def test_residency_is_really_checked() -> None:
    """Without the policy, prompts leave the EU when France fails as well, and the score says so."""
    found = short("D13")
    france = replace(found.phases[1], provider="azure-france")
    open_policy = replace(
        found, config=replace(found.config, policy=Config().policy), phases=[*found.phases, france]
    )
    result = score(
        clock.run(
            lambda: incident.play(replace(open_policy, length_s=70, hit=replace(found.hit, to_s=69))), 150.0
        )
    )
    assert result.outside_allowed > 0
    assert not result.passed


def test_somebodys_own_configuration() -> None:
    found = replace(short("D06"), length_s=60.0, load=replace(scenario.load("D06").load, rate=1.0))
    played = clock.run(
        lambda: incident.play(found, base=Config(), environ=keyed("anthropic", "openrouter")), 150.0
    )
    assert len(played.lines) == 60
    assert {entry.provider for entry in played.log} <= {"anthropic", "openrouter"}
    assert score(played).success == 1.0


GOOD = """
name: mine
title: Mine
about: A test
length_s: 60
keys: [openai]
load: {models: [openai/gpt-4o]}
hit: {provider: openai, from_s: 10, to_s: 40}
phases:
  - {at_s: 10, for_s: 30, provider: openai, behaviour: fail-500}
"""


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (("length_s: 60", "lenght_s: 60"), 5, "length_s"),
        (("behaviour: fail-500", "behaviour: fail-50"), 10, "fail-50"),
        (("at_s: 10, for_s", "at_s: -1, for_s"), 10, "between"),
        (("at_s: 10, for_s", "at_s: 100, for_s"), 10, "after the drill has ended"),
        (("from_s: 10, to_s: 40", "from_s: 50, to_s: 40"), 8, "from_s must come before"),
        (("models: [openai/gpt-4o]", "models: []"), 7, "no models"),
        (("{models: [openai/gpt-4o]}", "{models: [a], dialects: [klingon]}"), 7, "klingon"),
        (("{models: [openai/gpt-4o]}", "{models: [a], rate: 1000000}"), 7, "rate"),
        (("phases:", "phases: ["), None, "YAML"),
    ],
)
def test_what_makes_no_sense_is_refused(change: tuple[str, str], line: int | None, said: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        scenario.parse(GOOD.replace(*change), "mine.yaml")
    text = str(caught.value)
    assert said in text
    if line is not None:
        assert f"mine.yaml:{line}" in text


def test_an_unknown_drill_names_the_nearest() -> None:
    with pytest.raises(ConfigErrors, match="D07-anthropic-2026-05-15"):
        scenario.load("D07-anthropic-2026-05-14")


def test_the_command_lists_them() -> None:
    from typer.testing import CliRunner

    done: Any = CliRunner().invoke(app, ["list", "--json"])
    assert done.exit_code == 0
    assert "D17-gemini-diurnal" in done.output
    assert "cut-in-tool-call" in done.output
