"""Every single fault, judged from both sides: what the callers got, and what the providers saw.

Each case plays twice on a fresh stage, with streaming and with whole answers: one caller of every dialect asks at the
same moment while ``alpha`` misbehaves; then ``alpha`` is well again and one more request must be served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from tieline.config.schema import Config, Routing, Timeouts
from tieline.drills.caller import DIALECTS, Ask
from tieline.drills.cases import CASES, Case
from tieline.drills.fleet import fleet, provider
from tieline.drills.judge import Judge
from tieline.drills.stage import Stage
from tieline.simulator.schedule import Phase, Schedule

FOREVER_S = 1e6


class Verdict(Struct, kw_only=True):
    """A case in one mode. ``problems`` empty: passed."""

    case: str
    title: str
    mode: str
    upstream: str
    problems: list[str]
    requests: int
    answered: int
    attempts: int
    slowest_s: float
    served_by: dict[str, int]
    unprotected: list[str] = []
    """Models of one's own configuration that ended in an error because nobody else could serve them."""

    @property
    def passed(self) -> bool:
        return not self.problems


async def play_all(
    cases: Iterable[Case] = CASES, told: Callable[[Verdict], None] | None = None
) -> list[Verdict]:
    """Each case in each of its modes, eight stages at a time."""
    gate = asyncio.Semaphore(8)

    async def one(case: Case, mode: str) -> Verdict:
        async with gate:
            verdict = await play(case, mode)
        if told is not None:
            told(verdict)
        return verdict

    return list(await asyncio.gather(*(one(case, mode) for case in cases for mode in case.modes)))


async def play(case: Case, mode: str) -> Verdict:
    """One case in one mode."""
    upstream = case.upstreams[mode == "whole"]
    phases = (
        [Phase(at_s=0, for_s=FOREVER_S, provider="alpha", behaviour=case.behaviour)] if case.behaviour else []
    )
    judge = Judge(case, mode)
    async with Stage(lambda url: _config(case, url, upstream), schedule=Schedule(phases=phases)) as stage:
        for _ in range(case.rounds):
            asks = [_ask(case, dialect, mode) for dialect in DIALECTS]
            judge.heard += await asyncio.gather(*(stage.caller.ask(ask) for ask in asks))
        await stage.quiet()
        log = stage.simulator.log
        stage.simulator.set_schedule(None)
        await asyncio.sleep(case.rest_s)
        after = await stage.caller.ask(Ask(model="m", stream=mode == "stream", tools=case.tools))
        await stage.quiet()
        records = list(stage.records.values())
        problems = judge.problems(log, stage.records) + _leaks(stage)
        if not after.ok and "alpha" not in case.special:
            problems.append(f"the next healthy request was not served: {after.error} {after.error_message}")
    ours = [record for record in records if record.id != after.request_id]
    served: dict[str, int] = {}
    for record in ours:
        served[record.provider or "nobody"] = served.get(record.provider or "nobody", 0) + 1
    return Verdict(
        case=case.name,
        title=case.title,
        mode=mode,
        upstream=upstream,
        problems=problems,
        requests=len(judge.heard),
        answered=sum(one.ok for one in judge.heard),
        attempts=sum(len(record.attempts) for record in ours),
        slowest_s=round(max(one.total_s for one in judge.heard), 3),
        served_by=served,
    )


def _config(case: Case, url: str, upstream: str) -> Config:
    beta = {"openai_chat": "anthropic_messages"}.get(upstream, "openai_chat")
    ways = ["alpha/gpt-sim", *([f"beta/{case.beta}"] if case.fallback else [])]
    keys = [f"simulated-{number}" for number in range(case.keys)]
    if case.special.get("refuse") == "dead":
        keys[0] = "invalid-0"
    elif case.special.get("refuse") == "limited":
        keys[0] = "broke-0"
    routing = Routing(fallback="listed" if case.fallback else "none", timeouts=Timeouts(connect_s=20))
    made = fleet(
        url, *ways, routing=routing, alpha={"dialect": upstream, "keys": keys}, beta={"dialect": beta}
    )
    if "alpha" in case.special:
        there = case.special["alpha"]
        there = url.replace("http:", "https:") + "/alpha/v1" if there == "tls" else there
        elsewhere = replace(provider(url, "alpha"), base_url=there)
        made = replace(made, providers={**made.providers, "alpha": elsewhere})
    return made


def _ask(case: Case, dialect: str, mode: str) -> Ask:
    return Ask(
        dialect=dialect,
        model="m",
        stream=mode == "stream",
        leave_after_s=case.leave_after_s,
        tools=case.tools,
        extra=case.sends.get(dialect, {}),
    )


def _leaks(stage: Stage) -> list[str]:
    gateway = stage.gateway
    problems = []
    if gateway.in_flight:
        problems.append(f"{gateway.in_flight} requests are still under way")
    if gateway.admission.inflight:
        problems.append(f"{gateway.admission.inflight} permits were not given back")
    left = sum(view.inflight for view in gateway.health.snapshot(gateway.clock()))
    if left:
        problems.append(f"{left} attempts are still counted as under way")
    return problems
