"""A steady mixed load with random faults: nothing may leak, and the ledger must agree with what the providers produced.

``python -m tieline.drills.soak --minutes 3``
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from time import monotonic

import msgspec
from msgspec import Struct, field

from tieline.admit.accounts import Accounts
from tieline.admit.rules import BudgetRule, Limits, Rules
from tieline.config.schema import Config, ModelConfig, Routing, Timeouts
from tieline.drills.caller import DIALECTS, Ask, Heard
from tieline.drills.fleet import PRICE, provider
from tieline.drills.stage import Stage
from tieline.simulator.ledger import Entry
from tieline.simulator.schedule import Phase, Schedule
from tieline.store import queries
from tieline.store.database import Database
from tieline.types.errors import FailureClass
from tieline.types.money import Pico, format_usd, parse_usd
from tieline.types.record import SUCCESS, Attempt

SEGMENT_S = 10.0
"""Faults change this often."""
FAULTS = (
    "fail-500",
    "fail-503:retry_after=1",
    "fail-429:retry_after=1",
    "fail-529",
    "fail-502-html",
    "reset",
    "cut:after=6",
    "cut-clean:after=6",
    "stream-error:after=6",
    "malformed:at=5",
    "malformed:at=9,content=1",
    "no-done",
    "garbled",
    "truncate-body",
    "usage-missing",
    "stall:after=6,for_ms=3000",
    "fail-401",
    "fail-quota",
    "fail-400-vague",
)
PROVIDERS = ("alpha", "beta", "gamma", "delta")
MOST_TOKENS = 300
"""What one answer and its question can come to: the load asks for at most 200."""
FILES_KEPT = 4
"""What a process opens once and keeps: its selector's, the standard streams' duplicates."""
GROWTH_MB = 24.0
"""What memory may grow between the first third and the end: caches fill, the simulator's log is cleared."""


class Purse(Struct, kw_only=True):
    """A project whose key is used: what it may spend, and how large its part of the load is."""

    name: str
    usd_per_minute: str
    """Of the soak's length: so a short one exhausts it as well."""
    hard: bool
    share: float
    project_id: str = ""
    secret: str = ""
    amount: Pico = 0
    charged: Pico = 0
    """By the records."""


def purses() -> list[Purse]:
    """One that lasts, one that is exhausted, one that warns."""
    return [
        Purse(name="steady", usd_per_minute="100", hard=True, share=0.6),
        Purse(name="tight", usd_per_minute="0.05", hard=True, share=0.2),
        Purse(name="soft", usd_per_minute="0.01", hard=False, share=0.18),
    ]


STRANGER = "tl-nobody-knows-this-key"


class Report(Struct, kw_only=True):
    minutes: float
    requests: int = 0
    served: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """By us, before anything was sent."""
    failed: int = 0
    """Told so in a clean error, because every way was struck."""
    left: int = 0
    """Callers that hung up on purpose."""
    unsent: int = 0
    """Of them, those whose request never came."""
    attempts: int = 0
    splices: int = 0
    rss_mb: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    compared_attempts: int = 0
    """Whose tokens the simulator and the ledger both know exactly."""
    compared_tokens: int = 0
    estimated_attempts: int = 0
    charged_usd: dict[str, str] = field(default_factory=dict)
    """By project, the same in records, in memory and in the database."""
    most_held: Pico = 0
    """Pico-dollars at one moment."""
    open_connections: list[int] = field(default_factory=list)
    """To the simulated providers, after each segment."""
    open_files: list[int] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tieline.drills.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=40.0, help="requests per second")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.minutes <= 0 or given.rate <= 0:
        parser.error("--minutes and --rate must be more than 0")
    logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="tieline-soak-") as folder:
        report = asyncio.run(soak(given.minutes, given.rate, given.seed, Path(folder)))
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    sys.exit(1 if report.problems else 0)


async def soak(minutes: float, rate: float, seed: int, folder: Path) -> Report:
    """Runs for ``minutes`` of real time; ``problems`` is empty when all was well."""
    report = Report(minutes=minutes)
    stage = Stage(_config, seed=seed, database=f"sqlite:///{folder}/soak.db", spool=f"{folder}/spool")
    tasks_before = len(asyncio.all_tasks())
    files_before = _open_files()
    async with stage:
        soaking = _Soak(stage, report, rate, Random(seed))
        await soaking.run(minutes * 60)
        database = stage.gateway.database
    if database is not None:
        database.open()
        report.problems += soaking.stored(database)
        database.close()
    await asyncio.sleep(0.2)
    if (files := _open_files()) > files_before + FILES_KEPT:
        report.problems.append(f"{files - files_before} files or connections are left open")
    if (tasks := len(asyncio.all_tasks())) > tasks_before:
        report.problems.append(f"{tasks - tasks_before} tasks are left")
    return report


def _config(url: str) -> Config:
    dialects = dict(zip(PROVIDERS, DIALECTS, strict=True))
    providers = {
        name: provider(url, name, dialect, prices={"gpt-sim": PRICE}, keys=["simulated-1", "simulated-2"])
        for name, dialect in dialects.items()
    }
    ways = [f"{name}/gpt-sim" for name in PROVIDERS]
    models = {
        f"m{number}": ModelConfig(deployments=[ways[number]], fallbacks=ways[number + 1 :] + ways[:number])
        for number in range(len(ways))
    }
    models["balanced"] = ModelConfig(deployments=ways)
    routing = Routing(fallback="listed", hedge=True, timeouts=Timeouts(stall_s=1.0, first_token_s=3.0))
    return Config(providers=providers, models=models, routing=routing)


class _Soak:
    def __init__(self, stage: Stage, report: Report, rate: float, random: Random) -> None:
        self.stage = stage
        self.report = report
        self.rate = rate
        self.random = random
        self.running: set[asyncio.Task[None]] = set()
        self.purses = purses()
        self.known = 0
        """Requests whose records were looked at."""
        self.tried: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        """Attempts by provider, as our records and as the provider have them."""
        self.used: Counter[str] = Counter()
        self.made: Counter[str] = Counter()
        """Tokens of complete answers, likewise."""
        self.abandoned = 0
        """Attempts that we ended: the provider may see them later, or never."""
        self.resets = 0
        """Requests that a connection was reset under; one that had served before makes the transport ask once more."""
        self.unused_tokens = 0
        """What answers can come to that did not satisfy us, or that nobody waited for: the provider may have completed them."""
        self.tokens: Counter[str] = Counter()
        self.costs: Counter[str] = Counter()
        """By provider, as the records have them."""

    async def run(self, seconds: float) -> None:
        await self._open_purses(seconds / 60)
        deadline = monotonic() + seconds
        while monotonic() < deadline:
            self.stage.simulator.set_schedule(self._faults())
            await self._load(min(SEGMENT_S, deadline - monotonic()))
            await self._settle()
            self._compare()
            self._leaks()
        self._budgets()
        rss = self.report.rss_mb
        if len(rss) >= 6 and rss[-1] - rss[len(rss) // 3] > GROWTH_MB:
            self.report.problems.append(f"memory grew from {rss[len(rss) // 3]:.0f} to {rss[-1]:.0f} MB")

    async def _open_purses(self, minutes: float) -> None:
        """Projects and keys are made as an operator makes them."""
        gateway = self.stage.gateway
        if gateway.accounts is None or gateway.watch is None:
            raise RuntimeError("a soak needs a database")
        for purse in self.purses:
            purse.amount = parse_usd(purse.usd_per_minute) * max(1, round(minutes * 60)) // 60
            rule = BudgetRule(amount_usd=format_usd(purse.amount), period="lifetime", hard=purse.hard)
            project = gateway.accounts.create_project(purse.name, Rules(budgets=[rule]))
            limits = Limits(concurrency=1_000, requests_per_minute=1_000_000)
            _, purse.secret = gateway.accounts.create_key(project.id, purse.name, Rules(limits=limits))
            purse.project_id = project.id
        await gateway.watch.look()

    def _secret(self) -> str:
        draw = self.random.random()
        for purse in self.purses:
            draw -= purse.share
            if draw < 0:
                return purse.secret
        return STRANGER

    def _faults(self) -> Schedule:
        """One or two of the four providers misbehave for a part of their requests."""
        phases = [
            Phase(
                at_s=0,
                for_s=1e6,
                provider=name,
                behaviour=self.random.choice(FAULTS),
                share=self.random.choice((0.2, 0.6, 1.0)),
            )
            for name in self.random.sample(PROVIDERS, self.random.randint(1, 2))
        ]
        return Schedule(phases=phases)

    async def _load(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(int(seconds * self.rate)):
            if (wait := began + number / self.rate - loop.time()) > 0:
                await asyncio.sleep(wait)
            task = loop.create_task(self._ask(number))
            self.running.add(task)
            task.add_done_callback(self.running.discard)

    async def _ask(self, number: int) -> None:
        random = self.random
        leaves = random.random() < 0.03
        ask = Ask(
            dialect=DIALECTS[number % 4],
            model=random.choice([*(f"m{one}" for one in range(4)), "balanced"]),
            prompt=f"Soak {random.randrange(1000)}: tell me about bells.",
            stream=random.random() < 0.6,
            max_tokens=200,
            leave_after_s=random.uniform(0.001, 0.01) if leaves else None,
            headers={"authorization": f"Bearer {self._secret()}"},
        )
        heard = await self.stage.caller.ask(ask)
        report = self.report
        report.requests += 1
        report.served += heard.ok
        report.left += heard.error == "left"
        if heard.error is not None and heard.error not in ("left", "connection", "unreadable"):
            self._count_refusal(heard)
        held = sum(meter.held for meter in self.stage.gateway.admission.meters())
        report.most_held = max(report.most_held, held)
        if heard.error in ("connection", "unreadable"):
            report.problems.append(f"no clean end: {heard.error_message}")
        if not heard.ok and heard.error is None:
            report.problems.append("neither an answer nor an error")

    def _count_refusal(self, heard: Heard) -> None:
        code = _OURS.get(heard.status)
        if code is None:
            self.report.failed += 1
        else:
            self.report.refused[code] = self.report.refused.get(code, 0) + 1

    async def _settle(self) -> None:
        if self.running:
            await asyncio.wait(self.running, timeout=60)
        await self.stage.quiet()
        await asyncio.sleep(0.1)

    def _compare(self) -> None:
        """One segment's accounts, from both sides; then both are forgotten, so that memory shows what leaks."""
        stage, report = self.stage, self.report
        records = list(stage.records.values())
        self.known += len(records)
        handled = stage.gateway.handled
        if self.known != handled:
            report.problems.append(f"{handled} requests came, {self.known} have a record of their own")
        # Who hangs up at once may not have sent anything.
        report.unsent = report.requests - handled
        if not 0 <= report.unsent <= report.left:
            report.problems.append(f"{report.requests} requests were made, {handled} came")
        attempts = [entry for record in records for entry in record.attempts]
        log = stage.simulator.log
        report.attempts += len(attempts)
        report.splices += sum(record.splices for record in records)
        self._compare_providers(attempts, log)
        for record in records:
            cost = sum(entry.cost or 0 for entry in record.attempts)
            if record.cost is not None and record.cost != cost:
                report.problems.append(f"{record.id} costs {record.cost}, its attempts {cost}")
            for purse in self.purses:
                purse.charged += (record.charged or 0) if record.project == purse.project_id else 0
        for entry in attempts:
            self.costs[entry.provider] += entry.cost or 0
            self.tokens[entry.provider] += _tokens(entry)
        stage.records.clear()
        stage.simulator.ledger.clear()
        gc.collect()
        report.rss_mb.append(round(_rss_mb(), 1))
        report.open_files.append(_open_files())
        report.open_connections.append(stage.upstream.open_connections)

    def _compare_providers(self, attempts: list[Attempt], log: list[Entry]) -> None:
        """The same attempts, and of complete answers with usage the same sums, provider by provider. From the beginning
        on, as what we gave up may come to its end at the provider in a later segment."""
        report = self.report
        self.tried.update(entry.provider for entry in attempts)
        self.seen.update(one.provider for one in log)
        self.resets += sum(one.behaviour == "reset" for one in log)
        for entry in attempts:
            self.abandoned += entry.outcome in _ABANDONED
            if entry.outcome != SUCCESS:
                self.unused_tokens += MOST_TOKENS if entry.status in (None, 200) else 0
                continue
            if entry.usage is None or entry.usage.estimated:
                report.estimated_attempts += 1
                continue
            report.compared_attempts += 1
            self.used[entry.provider] += _tokens(entry)
            report.compared_tokens += _tokens(entry)
        complete = [one for one in log if one.completed and not one.behaviour.startswith("usage-missing")]
        for made in complete:
            self.made[made.provider] += made.input_tokens + made.output_tokens
        for name in PROVIDERS:
            tried, seen, used, produced = self.tried[name], self.seen[name], self.used[name], self.made[name]
            if not -self.resets <= tried - seen <= self.abandoned:
                report.problems.append(f"{name} saw {seen} requests, the ledger has {tried}")
            if not 0 <= produced - used <= self.unused_tokens:
                report.problems.append(f"{name} produced {produced} tokens, the ledger has {used}")

    def _leaks(self) -> None:
        """With nothing under way nothing is held, counted or connected on anybody's behalf."""
        gateway, problems = self.stage.gateway, self.report.problems
        if gateway.in_flight:
            problems.append(f"{gateway.in_flight} requests are still under way")
        if gateway.admission.inflight:
            problems.append(f"{gateway.admission.inflight} permits were not given back")
        if counted := sum(gate.inflight for gate in gateway.admission.gates()):
            problems.append(f"{counted} requests are still counted against a limit")
        if held := sum(meter.held for meter in gateway.admission.meters()):
            problems.append(f"{held} pico-dollars are still held")
        if left := sum(view.inflight for view in gateway.health.snapshot(gateway.clock())):
            problems.append(f"{left} attempts are still counted as under way")
        if busy := self.stage.upstream.in_flight:
            problems.append(f"{busy} connections to providers are still in use")

    def _budgets(self) -> None:
        """What budgets bear is what the records charge, once each; a hard one is never overspent."""
        meters = {meter.scope: meter for meter in self.stage.gateway.admission.meters()}
        for purse in self.purses:
            spent = meters[f"project:{purse.project_id}"].total
            self.report.charged_usd[purse.name] = f"{format_usd(purse.charged)} of {format_usd(purse.amount)}"
            if spent != purse.charged:
                self.report.problems.append(
                    f"{purse.name} has spent {spent}, its records say {purse.charged}"
                )
            if purse.hard and spent > purse.amount:
                self.report.problems.append(f"{purse.name} has spent {spent}, its budget is {purse.amount}")

    def stored(self, database: Database) -> list[str]:
        """What the database says after everything is written: the same records, the same sums."""
        total = sum(row.requests for row in queries.spend(database, by="total"))
        found = []
        if total != self.known:
            found.append(f"{total} records are stored, {self.known} requests came")
        for row in queries.spend(database, by="provider"):
            name = row.group or ""
            if row.cost != self.costs[name]:
                found.append(f"{name} cost {self.costs[name]}, {row.cost} is stored")
            if (tokens := row.input_tokens + row.output_tokens) != self.tokens[name]:
                found.append(f"{name} used {self.tokens[name]} tokens, {tokens} are stored")
        spent = Accounts(database).spent()
        for purse in self.purses:
            kept = spent.get(f"project:{purse.project_id}")
            amount = kept.before + sum(kept.slots.values()) if kept else 0
            if amount != purse.charged:
                found.append(f"{purse.name} was charged {purse.charged}, {amount} is stored as spent")
        return found


_ABANDONED = frozenset(
    kind.value
    for kind in (
        FailureClass.CALLER_GONE,
        FailureClass.SUPERSEDED,
        FailureClass.SHUT_DOWN,
        FailureClass.FIRST_TOKEN_TIMEOUT,
        FailureClass.STALL,
    )
)
_OURS = {401: "stranger", 402: "budget"}
"""Statuses that are never a provider's."""


def _tokens(attempt: Attempt) -> int:
    return attempt.usage.input_tokens + attempt.usage.output_tokens if attempt.usage is not None else 0


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _rss_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
