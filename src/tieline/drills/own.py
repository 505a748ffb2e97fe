"""Single faults on somebody's own configuration: each strikes the provider that serves a model first.

A model that another provider could have served must be answered; one that has no alternative must end in a clean error,
and is named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from tieline.config.schema import Config
from tieline.drills.caller import DIALECTS, PATIENCE_S, Ask, Heard
from tieline.drills.cases import CASES, Case
from tieline.drills.faults import FOREVER_S, Verdict
from tieline.drills.fleet import twin
from tieline.drills.incident import models_of
from tieline.drills.judge import Judge
from tieline.drills.stage import Stage
from tieline.simulator.schedule import Phase, Schedule

MAX_MODELS = 8


class Way(Struct, frozen=True):
    """A public name, who serves it first, and who else could."""

    model: str
    provider: str
    others: tuple[str, ...]


_ANY = frozenset({"context"})
"""Whether somebody else can help is a question of windows."""


def applicable(case: Case) -> bool:
    """Whether it is only about what one provider does; its dialect is the configuration's."""
    if any(case.name.endswith(f"-{dialect}") for dialect in DIALECTS[1:]):
        return False
    plain = not (case.special or case.tools or case.sends or case.leave_after_s)
    return bool(case.behaviour) and plain and case.fallback and case.keys == 1 and case.beta == "sim-echo"


async def play_all(
    config: Config,
    environ: Mapping[str, str],
    cases: Iterable[Case] = CASES,
    told: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """One verdict for each case, mode and provider that is first for some model. Raises ConfigError."""
    async with Stage(lambda url: twin(config, environ, url)) as stage:
        ways = ways_of(stage)
    gate = asyncio.Semaphore(4)

    async def one(case: Case, mode: str, provider: str) -> Verdict:
        hit = [way for way in ways if way.provider == provider]
        async with gate, Stage(lambda url: twin(config, environ, url)) as stage:
            verdict = await _play(stage, case, mode, hit)
        if told is not None:
            told(verdict)
        return verdict

    providers = sorted({way.provider for way in ways})
    return list(
        await asyncio.gather(
            *(
                one(case, mode, provider)
                for case in cases
                if applicable(case)
                for mode in case.modes
                for provider in providers
            )
        )
    )


def ways_of(stage: Stage) -> list[Way]:
    """Of the configuration's public names, or of some models where it has none."""
    found = []
    for model in models_of(stage)[:MAX_MODELS]:
        told = stage.gateway.explain(model)["candidates"]
        providers = [one["deployment"].partition("/")[0] for one in told if one.get("order") is not None]
        if providers:
            others = dict.fromkeys(name for name in providers if name != providers[0])
            found.append(Way(model, providers[0], tuple(others)))
    return found


async def _play(stage: Stage, case: Case, mode: str, ways: list[Way]) -> Verdict:
    provider = ways[0].provider
    # What is imported and decoded at first use is not the fault's doing, and would count many times over.
    for way in ways:
        await stage.caller.ask(Ask(model=way.model, stream=mode == "stream"))
    await stage.quiet()
    stage.records.clear()
    stage.simulator.ledger.clear()
    phase = Phase(at_s=0, for_s=FOREVER_S, provider=provider, behaviour=case.behaviour)
    stage.simulator.set_schedule(Schedule(phases=[phase]))
    heard, problems = [], []
    for way in ways:
        one = await stage.caller.ask(Ask(model=way.model, stream=mode == "stream"))
        await stage.quiet()
        heard.append(one)
        judge = Judge(_expected(case, way), mode, own=True)
        judge.heard.append(one)
        problems += [f"{way.model}: {what}" for what in judge.problems(stage.simulator.log, stage.records)]
    return _verdict(case, mode, ways, heard, problems, stage)


def _expected(case: Case, way: Way) -> Case:
    """Who serves, and in how many attempts, is the configuration's own affair."""
    free = replace(case, by=None, at_alpha=1000, attempts=1000, total_at_alpha=None, pause_s=0.0)
    if not way.others:
        # With nobody to turn to, waiting as long as the configuration says is all that can be done.
        return replace(free, ends=case.ends if case.ends.endswith("error") else "either", within_s=PATIENCE_S)
    return replace(free, ends="either") if case.name in _ANY else free


def _verdict(
    case: Case, mode: str, ways: list[Way], heard: list[Heard], problems: list[str], stage: Stage
) -> Verdict:
    served: dict[str, int] = {}
    records = [stage.records[one.request_id] for one in heard if one.request_id in stage.records]
    for record in records:
        served[record.provider or "nobody"] = served.get(record.provider or "nobody", 0) + 1
    return Verdict(
        case=case.name,
        title=case.title,
        mode=mode,
        upstream=ways[0].provider,
        problems=problems,
        requests=len(heard),
        answered=sum(one.ok for one in heard),
        attempts=sum(len(record.attempts) for record in records),
        slowest_s=round(max(one.total_s for one in heard), 3),
        served_by=served,
        unprotected=[
            way.model for way, one in zip(ways, heard, strict=True) if not way.others and not one.ok
        ],
    )
