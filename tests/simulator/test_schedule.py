from __future__ import annotations

from typing import Any

import openai
import pytest

from tieline.simulator import Schedule, ScheduleError, SimulatorServer
from tieline.simulator.behaviour import UnknownBehaviour, of_model, parse
from tieline.simulator.text import seeded


def at(
    schedule: Schedule,
    at_s: float,
    model: str = "gpt-4o",
    key: str = "k",
    provider: str = "openai",
    n: int = 0,
) -> Any:
    return schedule.behaviour(
        of_model(model), at_s=at_s, provider=provider, model=model, key=key, random=seeded(n)
    )


def share(schedule: Schedule, at_s: float) -> float:
    return sum(at(schedule, at_s, n=n, key=f"k{n}").name != "echo" for n in range(1000)) / 1000


def test_phases_come_and_go_by_provider_and_model() -> None:
    schedule = Schedule.of(
        [{"at_s": 10, "for_s": 5, "provider": "open*", "model": "gpt-*", "behaviour": "fail-503"}]
    )
    assert [at(schedule, s).name for s in (9.9, 10, 14.9, 15)] == ["echo", "fail-503", "fail-503", "echo"]
    assert at(schedule, 12, provider="acme").name == "echo"
    assert at(schedule, 12, model="claude").name == "echo"
    assert schedule.ends_s == 15


def test_share_ramp_and_oscillation() -> None:
    base: dict[str, Any] = {"at_s": 0, "for_s": 100, "behaviour": "fail-500"}
    assert share(Schedule.of([base | {"share": 0.25}]), 5) == pytest.approx(0.25, abs=0.05)
    ramp = Schedule.of([base | {"share": 0, "share_to": 1}])
    assert share(ramp, 80) == pytest.approx(0.8, abs=0.05)
    waves = Schedule.of([base | {"period_s": 10, "duty": 0.3}])
    assert [at(waves, s).name for s in (2, 4, 12, 14)] == ["fail-500", "echo", "fail-500", "echo"]


def test_sticky_hits_the_same_keys() -> None:
    schedule = Schedule.of([{"at_s": 0, "for_s": 9, "behaviour": "degraded", "share": 0.5, "sticky": True}])
    for key in ("a", "b", "c"):
        assert len({at(schedule, s, key=key, n=s).name for s in range(8)}) == 1
    assert share(schedule, 1) == pytest.approx(0.5, abs=0.06)


def test_latency_adds_up_and_content_stays() -> None:
    schedule = Schedule.of(
        [
            {"at_s": 0, "for_s": 9, "add_ms": 100},
            {"at_s": 0, "for_s": 9, "add_ms": 50, "tps_scale": 0.5},
            {"at_s": 0, "for_s": 9, "behaviour": "cut:after=3"},
        ]
    )
    found = at(schedule, 1, model="sim-think:ttft_ms=10")
    assert (found.name, found.content) == ("cut", "think")
    assert (found.number("ttft_ms"), found.number("tps"), found.number("after")) == (160, 40, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("phases: [{at_s: -1, for_s: 2, behaviour: reset}]", "phases[0].at_s: -1 is not between"),
        ("phases: [{at_s: 1, for_s: 0, behaviour: reset}]", "phases[0].for_s: must be more than 0"),
        ("phases: [{at_s: 1, for_s: 2, behaviour: fail-504x}]", "did you mean 'fail-504'?"),
        ("phases: [{at_s: 1, for_s: 2, behaviour: 'cut:aftr=2'}]", "did you mean 'after'?"),
        ("phases: [{at_s: 1, for_s: 2}]", "does nothing"),
        ("phases: [{at_s: 1, for_s: 2, behaviour: reset, share: 2}]", "phases[0].share"),
        ("phases: [{at_s: x, for_s: 2}]", "phases[0].at_s"),
        ("phases: [{at_s: 1, for_s: 2, shar: 1}]", "did you mean 'share'?"),
        (
            "phases: [{at_s: 0, for_s: 9, behaviour: reset}, {at_s: 3, for_s: 1, behaviour: silent}]",
            "phases[1] overlaps phases[0]",
        ),
        ("phases: [", "not YAML"),
        ("phase: []", "did you mean 'phases'?"),
    ],
)
def test_mistakes_name_their_place_and_the_fix(text: str, words: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        Schedule.loads(text, place="drill.yaml")
    assert str(caught.value).startswith("drill.yaml:1: ")
    assert words in str(caught.value)


def test_mistakes_name_their_line() -> None:
    good = "phases:\n  - at_s: 0\n    for_s: 5\n    behaviour: reset\n  - at_s: 5\n    for_s: 9\n    behaviour: silent\n"
    assert len(Schedule.loads(good).phases) == 2
    for wrong, line in (
        (good.replace("for_s: 9", "for_s: -9"), 6),
        (good.replace("at_s: 5", "at_s: 2"), 5),
        (good.replace("behaviour: silent", "behavior: silent"), 7),
        (good.replace("behaviour: silent", "behaviour: silence"), 7),
        (good.replace("at_s: 0", "at_s: now"), 2),
        (good.replace("phases:", "phases: ["), None),
        (good.partition("\n")[2].replace("for_s: 9", "for_s: -9"), 5),
    ):
        with pytest.raises(ScheduleError) as caught:
            Schedule.loads(wrong, place="drill.yaml")
        assert str(caught.value).startswith("drill.yaml:" + ("" if line is None else f"{line}: ")), wrong
    with pytest.raises(ScheduleError, match="is empty"):
        Schedule.loads("# nothing")


@pytest.mark.parametrize(
    "text", ["flop", "cut:after=x", "cut:after", "first:then=first", "echo:text=none", "echo:tps=-1"]
)
def test_behaviours_are_checked(text: str) -> None:
    with pytest.raises(UnknownBehaviour):
        parse(text)


async def test_the_clock_is_injected() -> None:
    now = [0.0]
    schedule = Schedule.of([{"at_s": 3600, "for_s": 60, "behaviour": "fail-503"}])
    async with (
        SimulatorServer(schedule=schedule, clock=lambda: now[0], speed=60) as server,
        openai.AsyncOpenAI(base_url=f"{server.url}/p/v1", api_key="k", max_retries=0) as client,
    ):
        messages: Any = [{"role": "user", "content": "x"}]
        await client.chat.completions.create(model="m", messages=messages)
        now[0] = 60.5
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="m", messages=messages)
        assert server.log[-1].at == pytest.approx(3630)
