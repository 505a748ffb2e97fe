"""Plays one incident: constant load on the real server while simulated providers fail as the real ones did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from random import Random

from msgspec import Struct, field
from msgspec.structs import replace

from tieline.config.schema import Config, PolicyRules
from tieline.drills.caller import Ask, Heard
from tieline.drills.clock import speed_of
from tieline.drills.fleet import keyed, twin
from tieline.drills.scenario import Scenario
from tieline.drills.stage import Stage
from tieline.providers import build, catalog
from tieline.providers.deployment import Deployment
from tieline.route.candidates import policy_reason
from tieline.simulator.ledger import Entry
from tieline.types.errors import ConfigError
from tieline.types.money import parse_usd
from tieline.types.record import Record

SETTLE_S = 90.0
"""After the load, for the last answers."""
WATCH_S = 2.0
"""Between two looks at the breakers."""
_TOPICS = ("bells", "harbours", "tides", "lanterns", "ledgers", "signals", "rivers", "maps")


class Line(Struct):
    """One request of the load, from all sides."""

    at_s: float
    heard: Heard
    record: Record | None

    @property
    def ok(self) -> bool:
        return self.heard.ok

    @property
    def provider(self) -> str | None:
        return self.record.provider if self.record else None


class Look(Struct):
    """The state of every lane at one moment."""

    at_s: float
    states: dict[str, str]


class Played(Struct):
    """All that was seen. ``lines`` are in the order of asking; the schedule's time begins at 0."""

    scenario: Scenario
    lines: list[Line]
    looks: list[Look]
    log: list[Entry]
    speed: float
    leaks: list[str]
    allowed: list[str] | None = None
    """The only providers that may see a request; None: all."""
    ceilings: dict[str, str] = field(default_factory=dict)
    """Model asked -> the most that one request for it may cost."""


Told = Callable[[float, int, int], None]
"""(simulated seconds, asked, not served)"""


async def play(
    scenario: Scenario,
    *,
    base: Config | None = None,
    environ: Mapping[str, str] | None = None,
    told: Told | None = None,
    seed: int = 0,
) -> Played:
    """``base`` is the user's own configuration instead of the scenario's. Raises ConfigError when nothing can be served."""
    if base is None:
        base, environ = scenario.config, keyed(*scenario.keys)
    own = base is not scenario.config
    if own:
        # Its ceiling fits its own models; theirs have what their configuration says.
        scenario = replace(scenario, load=replace(scenario.load, max_cost_usd=None))
    async with Stage(
        lambda url: twin(base, environ or {}, url), seed=seed, schedule=scenario.schedule
    ) as stage:
        models = models_of(stage, scenario.hit.provider) if own else scenario.load.models
        scenario = replace(scenario, load=replace(scenario.load, models=models))
        played = await _Drive(stage, scenario, seed, told).run()
        played.allowed = _allowed(stage) if own else scenario.goals.only
        played.ceilings = _ceilings(stage, scenario)
        return played


def hits(scenario: Scenario, config: Config, environ: Mapping[str, str]) -> bool:
    """Whether it strikes any provider that ``config`` uses. Raises ConfigError."""
    hosts = build.build(config, environ, catalog.packaged()).hosts
    return any(
        fnmatchcase(name, phase.provider) for name in hosts for phase in scenario.phases if phase.behaviour
    )


def _allowed(stage: Stage) -> list[str] | None:
    """Whom the configuration's own data policy lets see prompts."""
    rules = stage.gateway.config.policy
    if rules == PolicyRules():
        return None
    return sorted(
        {one.provider.name for one in stage.gateway.fleet.all() if not policy_reason(one, (rules,))}
    )


def _ceilings(stage: Stage, scenario: Scenario) -> dict[str, str]:
    match, load = stage.gateway.line.router.match, scenario.load
    own = {name: match(name).routing.max_cost_usd for name in load.models}
    both = {
        name: [one for one in (limit, load.max_cost_usd) if one is not None] for name, limit in own.items()
    }
    return {name: min(limits, key=parse_usd) for name, limits in both.items() if limits}


def models_of(stage: Stage, hit: str = "*") -> list[str]:
    """What a load on the user's own configuration asks for: its public names, or else models of who is hit."""
    named = list(stage.gateway.config.models)
    if named:
        return named
    hosts = stage.gateway.fleet.hosts
    names = [name for name in hosts if fnmatchcase(name, hit)] or list(hosts)
    found = [one.id for name in names for one in _rated(stage, name)][:4]
    if not found:
        raise ConfigError(
            "There is no model to ask for.", hint="Set a provider's key, or name models in tieline.yaml."
        )
    return found


def _rated(stage: Stage, provider: str) -> list[Deployment]:
    """Its models that are in use today: rated, priced, and not on their way out."""
    return [
        one
        for one in stage.gateway.fleet.rated()
        if one.provider.name == provider
        and one.card
        and one.card.price is not None
        and one.card.status == "active"
    ]


class _Drive:
    def __init__(self, stage: Stage, scenario: Scenario, seed: int, told: Told | None) -> None:
        self.stage = stage
        self.scenario = scenario
        self.random = Random(seed)
        self.told = told
        self.lines: list[tuple[float, Heard]] = []
        self.looks: list[Look] = []
        self.failed = 0

    async def run(self) -> Played:
        stage, scenario, loop = self.stage, self.scenario, asyncio.get_running_loop()
        await self._warm_up()
        stage.simulator.set_schedule(scenario.schedule)
        stage.simulator.ledger.clear()
        began = loop.time()
        watching = loop.create_task(self._watch(began))
        asked: set[asyncio.Task[None]] = set()
        try:
            for number in range(scenario.requests):
                due = began + number / scenario.load.rate
                if (wait := due - loop.time()) > 0:
                    await asyncio.sleep(wait)
                task = loop.create_task(self._ask(loop.time() - began, number))
                asked.add(task)
                task.add_done_callback(asked.discard)
            if asked:
                await asyncio.wait(asked, timeout=SETTLE_S)
        finally:
            watching.cancel()
            for task in asked:
                task.cancel()
        await stage.quiet()
        return self._played()

    async def _warm_up(self) -> None:
        """What is imported and decoded at first use is not the incident's doing."""
        count = len(self.scenario.load.dialects) * len(self.scenario.load.models)
        for number in range(count):
            await self.stage.caller.ask(self._made(number))

    async def _ask(self, at_s: float, number: int) -> None:
        heard = await self.stage.caller.ask(self._made(number))
        self.failed += not heard.ok
        self.lines.append((at_s, heard))

    def _made(self, number: int) -> Ask:
        load, random = self.scenario.load, self.random
        return Ask(
            dialect=load.dialects[number % len(load.dialects)],
            model=load.models[number // len(load.dialects) % len(load.models)],
            prompt=f"Tell me about {random.choice(_TOPICS)}, please ({number % 97}).",
            stream=random.random() < load.stream,
            max_tokens=load.max_tokens,
            options={"max_cost_usd": load.max_cost_usd} if load.max_cost_usd else {},
        )

    async def _watch(self, began: float) -> None:
        loop, health = asyncio.get_running_loop(), self.stage.gateway.health
        while True:
            states: dict[str, str] = {}
            for view in health.snapshot(loop.time()):
                states[view.deployment] = view.state
            self.looks.append(Look(loop.time() - began, states))
            if self.told is not None:
                self.told(loop.time() - began, len(self.lines), self.failed)
            await asyncio.sleep(WATCH_S)

    def _played(self) -> Played:
        stage = self.stage
        self.lines.sort(key=lambda line: line[0])
        lines = [Line(at, heard, stage.records.get(heard.request_id)) for at, heard in self.lines]
        leaks = []
        if len(lines) != self.scenario.requests:
            leaks.append(f"{self.scenario.requests - len(lines)} requests were never answered")
        if stage.gateway.in_flight or stage.gateway.admission.inflight:
            leaks.append(
                f"{stage.gateway.in_flight} requests and {stage.gateway.admission.inflight} permits are left"
            )
        return Played(
            self.scenario, lines, self.looks, stage.simulator.log, speed_of(asyncio.get_running_loop()), leaks
        )
