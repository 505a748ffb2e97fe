"""Scenario files are checked with line and fix; one incident is played; the report is one file."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tieline.cli.drill import app
from tieline.config.load import ConfigErrors, parse
from tieline.config.schema import Config
from tieline.drills import clock, incident, report, scenario
from tieline.drills.fleet import keyed
from tieline.drills.rehearsal import impossible
from tieline.drills.score import score
from tieline.types.money import parse_usd


def short(name: str) -> scenario.Scenario:
    """The same incident in a third of its time; after it all the time to come back, as breakers stay open no shorter."""
    found = scenario.load(name)
    phases = [replace(one, at_s=one.at_s / 3, for_s=one.for_s / 3) for one in found.phases]
    hit = replace(found.hit, from_s=found.hit.from_s / 3, to_s=found.hit.to_s / 3)
    after_s = found.length_s - found.hit.to_s
    return replace(found, length_s=hit.to_s + after_s, phases=phases, hit=hit)


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


def test_a_ceiling_is_really_checked() -> None:
    found = replace(short("D12"), length_s=40.0)
    played = clock.run(lambda: incident.play(replace(found, hit=replace(found.hit, to_s=39.0))), 150.0)
    result = score(played)
    assert (result.ceiling_usd, result.ceilings_exceeded) == ("0.01", 0)
    assert parse_usd(result.dearest_usd) > 0
    tight = dict.fromkeys(played.ceilings, "0.0000001")
    played.ceilings = tight
    over = score(played)
    assert over.ceilings_exceeded == over.requests
    assert not over.passed
    played.ceilings, played.lines[0].record.cost = dict.fromkeys(tight, "1"), None  # type: ignore[union-attr]
    assert score(played).ceilings_exceeded == 1, "what nobody knows the cost of"


def test_every_incident_has_a_ceiling_and_asks_for_all() -> None:
    for one in scenario.packaged():
        assert one.load.max_cost_usd is not None
        assert one.goals.success == 1.0, "an allowed alternative is healthy in all of them"
    assert scenario.load("D13").goals.only == ["azure-sweden", "azure-france"]


def test_the_storm_of_400s_reaches_nobody() -> None:
    goals = replace(short("D12").goals, leave_s=None, back_s=None)
    result = score(clock.run(lambda: incident.play(replace(short("D12"), goals=goals)), 150.0))
    assert result.passed, result.problems
    assert result.success == 1.0
    assert result.failed_at_failing > 0


def test_a_goal_that_is_never_reached_is_told_as_such() -> None:
    """Without any other provider it cannot be left."""
    found = short("D07")
    phases = [replace(one, behaviour="fail-503") if one.behaviour else one for one in found.phases]
    alone = replace(
        found, keys=["anthropic"], phases=phases, length_s=60.0, hit=replace(found.hit, from_s=20, to_s=60)
    )
    told = score(clock.run(lambda: incident.play(alone), 150.0)).problems
    assert any(one.startswith("the failing provider was never left, ") for one in told), told
    assert not any("None" in one for one in told)


def test_what_ones_own_policy_and_ceilings_say_is_scored() -> None:
    text = """
models: {chat: {deployments: [anthropic/claude-haiku-4-5], routing: {max_cost_usd: "0.05"}}}
policy: {deny_providers: [openrouter]}
"""
    found = replace(short("D06"), length_s=45.0, hit=replace(short("D06").hit, to_s=44.0))
    environ = keyed("anthropic", "openrouter")
    played = clock.run(lambda: incident.play(found, base=parse(text, {}).config, environ=environ), 150.0)
    assert played.ceilings == {"chat": "0.05"}
    assert played.allowed is not None
    assert "openrouter" not in played.allowed
    assert score(played).outside_allowed == 0


def test_an_incident_that_strikes_nobody_of_ones_own_is_told() -> None:
    environ = keyed("openai")
    assert incident.hits(scenario.load("D01"), Config(), environ)
    assert not incident.hits(scenario.load("D16"), Config(), environ)
    assert not incident.hits(scenario.load("D12"), Config(), environ)


ROUTED = GOOD.replace(
    "load:",
    """config:
  providers:
    acme: {base_url: "https://acme.example/v1", api_key: x, prices: {m: {input: "1", output: "4"}}}
  models:
    one: {deployments: [acme/m]}
load:""",
)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (GOOD.replace("[openai]", "[opnai]"), 6, "opnai"),
        (GOOD.replace("openai/gpt-4o", "nobody/else"), 7, "not known"),
        (
            GOOD.replace("openai/gpt-4o", "openai/gtp-4o"),
            7,
            "`openai/gtp-4o` is no model that the catalog knows",
        ),
        (GOOD.replace("hit: {provider: openai", "hit: {provider: azure"), 8, "no provider is called `azure`"),
        (GOOD.replace("for_s: 30, provider: openai", "for_s: 30, provider: opnai"), 10, "`opnai`"),
        (GOOD.replace("gpt-4o]}", 'gpt-4o], max_cost_usd: "0.00001"}'), 7, "below the cheapest candidate"),
        (GOOD.replace("gpt-4o]}", 'gpt-4o], max_cost_usd: "-1"}'), 7, "max_cost_usd"),
        (GOOD + "goals: {only: [azure]}\n", 11, "`azure`"),
        (GOOD + "goals: {leave_s: -1}\n", 11, "leave_s"),
        (GOOD.replace("length_s: 60", "length_s: -60"), 5, "length_s"),
        (ROUTED.replace("[acme/m]", "[acme/m], fallbacks: [one]"), 11, "lead back"),
        (ROUTED.replace("[acme/m]", "[acme/m], routing: {max_attempts: -1}"), 11, "max_attempts"),
        (
            GOOD + "  - {at_s: 12, for_s: 3, provider: openai, behaviour: reset}\n",
            11,
            "overlaps phases[0]",
        ),
    ],
)
def test_a_scenario_is_checked_against_its_fleet(text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        scenario.parse(text, "mine.yaml", whole=True)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"mine.yaml:{line}: ")


def test_what_comes_with_tieline_passes_the_same_check() -> None:
    assert scenario.parse(GOOD, "mine.yaml", whole=True).name == "mine"
    for one in scenario.packaged():
        assert impossible(one) == []


def test_the_picture_says_what_happened() -> None:
    found = replace(short("D12"), length_s=60.0)
    played = clock.run(lambda: incident.play(replace(found, hit=replace(found.hit, to_s=59.0))), 150.0)
    page = report.incidents([(played, score(played))])
    assert "azure-sweden/gpt-4o fail-400" in page
    assert "failed tries" in page
    assert "over the ceiling" in page
    assert page.count("<svg") == 1
    assert "<script" not in page
