"""Several processes share a budget and never overspend it, whatever dies, stops answering or forgets."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis as AsyncRedis

from tests.admit.samples import SECRET, Time, budget, facts, limits, snapshot
from tests.services import Postgres, Redis, running_redis
from tieline.admit.accounts import Accounts
from tieline.admit.admission import Admission, Permit
from tieline.admit.budgets import BudgetBusy
from tieline.admit.leases import Leases
from tieline.admit.rules import BudgetRule, Rules
from tieline.store.database import Database
from tieline.store.queries import spend
from tieline.store.shared import (
    GRACE_S,
    Answer,
    Claim,
    MemoryShared,
    RedisShared,
    SharedState,
    SharedUnavailable,
)
from tieline.store.tables import spend as spend_table
from tieline.types.errors import BudgetExceeded, DatabaseAway, LimitExceeded

METER = "key:key_1"


class SlowShared(MemoryShared):
    """Answers after others had their turn, and sometimes not at all."""

    def __init__(self, rng: random.Random, time: Time, failing: float = 0.0) -> None:
        super().__init__(time.clock)
        self._rng, self._failing = rng, failing

    async def exchange(self, process: str, claims: Sequence[Claim]) -> list[Answer]:
        for _ in range(self._rng.randrange(3)):
            await asyncio.sleep(0)
        if self._rng.random() < self._failing:
            raise SharedUnavailable("no way there")
        answers = await super().exchange(process, claims)
        for _ in range(self._rng.randrange(3)):
            await asyncio.sleep(0)
        if self._rng.random() < self._failing:
            raise SharedUnavailable("no way back")
        return answers


def gateway(
    shared: SharedState, time: Time, name: str, rules: Rules, *, patience_s: float = 0.0
) -> tuple[Admission, Leases]:
    admission = Admission(shared=True, clock=time.clock, wall=time.wall)
    admission.refresh(snapshot(rules))
    return admission, Leases(admission, shared, name, patience_s=patience_s)


async def reserve(leases: Leases, permit: Permit, amount: int) -> None:
    await leases.patiently(lambda: permit.reserve(amount))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2_000), st.integers(1, 5), st.sampled_from([0.0, 0.3]))
def test_no_interleaving_overspends(seed: int, limit: int, processes: int, failing: float) -> None:
    asyncio.run(_interleave(seed, limit, processes, failing))


async def _interleave(seed: int, limit: int, processes: int, failing: float) -> None:
    rng, time = random.Random(seed), Time()
    shared = SlowShared(rng, time, failing)
    gateways = [gateway(shared, time, f"w{number}", budget(limit)) for number in range(processes)]
    spent = 0

    def total() -> int:
        return sum(admission._meters[METER].total for admission, _ in gateways)

    async def caller(admission: Admission, leases: Leases) -> None:
        nonlocal spent
        for _ in range(6):
            try:
                permit = await leases.admit(SECRET, facts())
            except BudgetExceeded:
                continue
            try:
                bound = rng.randrange(1, max(2, limit // 4))
                await reserve(leases, permit, bound)
                await asyncio.sleep(0)
                spent += permit.settle(rng.randrange(bound + 1)) or 0
            except BudgetExceeded:
                pass
            finally:
                permit.release()
            assert total() <= limit

    async def exchanger(leases: Leases) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
            try:
                await leases.exchange()
            except SharedUnavailable:
                pass
            assert total() <= limit

    await asyncio.gather(
        *(caller(*one) for one in gateways for _ in range(3)), *(exchanger(leases) for _, leases in gateways)
    )
    assert spent == total() <= limit
    for _, leases in gateways:
        await leases.stop()


@pytest.fixture(params=["memory", "redis"])
async def shared(request: pytest.FixtureRequest) -> AsyncIterator[SharedState]:
    if request.param == "memory":
        yield MemoryShared()
        return
    server: Redis = request.getfixturevalue("redis_server")
    state = RedisShared(server.url, prefix=f"t{random.randrange(2**40)}")
    # The first word to a new server starts its time of grace.
    await state.exchange("nobody", [Claim("x", 1, 0, 0)])
    await asyncio.sleep(GRACE_S + 0.05)
    yield state
    await state.close()


def reserve_all(admission: Admission, amount: int) -> int:
    """How often ``amount`` could be held."""
    held = 0
    while True:
        try:
            permit = admission.admit(SECRET, facts())
            permit.reserve(amount)
            held += 1
        except BudgetExceeded:
            return held


async def test_a_share_is_lent_spent_and_given_back(shared: SharedState) -> None:
    time = Time()
    one, its = gateway(shared, time, "w1", budget(1_000))
    other, others = gateway(shared, time, "w2", budget(1_000))
    await its.load()
    await others.load()
    assert 0 < reserve_all(one, 10) <= 50
    await others.exchange()
    assert 0 < reserve_all(other, 10) <= 50
    for _ in range(20):
        await its.exchange()
        await others.exchange()
        reserve_all(one, 10)
    total = one._meters[METER].total + other._meters[METER].total
    assert 900 <= total <= 1_000
    third, thirds = gateway(shared, time, "w3", budget(1_000))
    await thirds.load()
    assert reserve_all(third, 101) == 0
    await its.stop()
    await others.stop()
    await thirds.stop()


async def test_what_a_leaving_process_did_not_spend_is_free_at_once(shared: SharedState) -> None:
    time = Time()
    one, its = gateway(shared, time, "w1", budget(1_000))
    await its.load()
    permit = one.admit(SECRET, facts())
    await reserve(its, permit, 900)
    permit.settle(100)
    permit.release()
    await its.stop()
    _, others = gateway(shared, time, "w2", budget(1_000))
    await others.load()
    permit = await others.admit(SECRET, facts())
    await reserve(others, permit, 900)
    with pytest.raises(BudgetExceeded):
        await reserve(others, permit, 901)


async def test_large_amounts_stay_exact(shared: SharedState) -> None:
    huge = 5 * 10**18 + 1
    admission, leases = gateway(shared, Time(), "w1", budget(huge))
    await leases.load()
    permit = await leases.admit(SECRET, facts())
    await reserve(leases, permit, huge)
    with pytest.raises(BudgetExceeded):
        await reserve(leases, permit, huge + 1)
    assert await shared.grants(admission._meters[METER].budgets[0].window_name) == {"w1": huge}


async def test_after_a_loss_nothing_grows_until_all_have_spoken() -> None:
    time = Time()
    shared = MemoryShared(time.clock)
    one, its = gateway(shared, time, "w1", budget(1_000))
    other, others = gateway(shared, time, "w2", budget(1_000))
    for leases in (its, others):
        await leases.load()
    permit = one.admit(SECRET, facts())
    await reserve(its, permit, 400)
    late = other.admit(SECRET, facts())
    await reserve(others, late, 400)
    shared.lose_everything()
    with pytest.raises(BudgetExceeded):
        await reserve(its, permit, 900)
    await others.exchange()
    time.pass_(GRACE_S + 0.1)
    with pytest.raises(BudgetExceeded):
        await reserve(its, permit, 601)
    late.release()
    # What it had asked for it keeps for a moment: a request may still take it.
    await asyncio.sleep(0.35)
    for _ in range(12):
        await others.exchange()
    await reserve(its, permit, 700)


class Ledger:
    """The database as ``Leases`` sees it: what a process that is gone had spent."""

    def __init__(self) -> None:
        self.is_away = True

    def spent_by_writer(self, scope: str, start: int, end: int) -> dict[str, int]:
        if self.is_away:
            raise DatabaseAway("away")
        return {"gone": 400}


async def test_after_a_loss_nothing_grows_while_the_database_is_away_too() -> None:
    """Then nobody knows what the dead had spent: what is held stays held, and the exchange goes on."""
    time, ledger = Time(), Ledger()
    shared = MemoryShared(time.clock)
    admission, leases = gateway(shared, time, "w1", budget(1_000))
    await leases.load()
    permit = admission.admit(SECRET, facts())
    await reserve(leases, permit, 100)
    lease = admission._meters[METER].budgets[0].lease
    leases._accounts = ledger  # type: ignore[assignment]
    shared.lose_everything()
    time.pass_(GRACE_S + 0.1)
    for _ in range(5):
        with pytest.raises(BudgetExceeded):
            await reserve(leases, permit, lease + 1)
        # Half of what was left was on offer when the loss was noticed; from then on nothing moves.
        assert admission._meters[METER].budgets[0].lease == 100 + (lease - 100) // 2
    ledger.is_away = False
    with pytest.raises(BudgetExceeded):
        await reserve(leases, permit, 601)
    await reserve(leases, permit, 600)
    assert leases.last_error is None


async def test_leases_last_while_the_shared_state_is_away() -> None:
    rng, time = random.Random(1), Time()
    shared = SlowShared(rng, time)
    admission, leases = gateway(shared, time, "w1", budget(10_000))
    await leases.load()
    await leases.exchange()
    lease = admission._meters[METER].budgets[0].lease
    assert lease
    shared._failing = 1.0
    for _ in range(50):
        with pytest.raises(SharedUnavailable):
            await leases.exchange()
    assert leases.last_error
    permit = admission.admit(SECRET, facts())
    permit.reserve(lease // 2)
    permit.release()
    shared._failing = 0.0
    await leases.exchange()
    assert leases.last_error is None


async def test_limits_are_shared_too(shared: SharedState) -> None:
    time = Time()
    rules = limits(requests_per_minute=20, concurrency=3)
    gateways = [gateway(shared, time, f"w{number}", rules) for number in range(3)]
    admitted = []
    for _ in range(30):
        for _, leases in gateways:
            await leases.exchange()
            try:
                permit = await leases.admit(SECRET, facts())
            except LimitExceeded:
                continue
            admitted.append(permit)
            if len(admitted) % 3 == 0:
                for held in admitted[-3:]:
                    held.release()
        assert sum(admission.inflight for admission, _ in gateways) <= 3
    assert 15 <= len(admitted) <= 20


async def test_the_end_of_a_budget_goes_to_whoever_needs_it(shared: SharedState) -> None:
    """Four processes hold spare; a request that needs nearly all that is left gets it, and the next is told the truth."""
    time, begun = Time(), asyncio.get_running_loop().time
    gateways = [gateway(shared, time, f"w{n}", budget(1_030), patience_s=0.75) for n in range(4)]
    for _, leases in gateways:
        await leases.load()
        leases.start()
    for turn in range(5):
        _, leases = gateways[turn % 4]
        before = begun()
        permit = await leases.admit(SECRET, facts())
        await reserve(leases, permit, 201)
        assert begun() - before < 1.5
        permit.settle(200)
        permit.release()
    # 30 are left. The first may hear that somebody just held the rest; within an exchange all know that it is spent.
    await asyncio.sleep(0.6)
    for admission, leases in gateways:
        permit = await leases.admit(SECRET, facts())
        with pytest.raises(BudgetExceeded) as caught:
            await reserve(leases, permit, 31)
        assert caught.value.status == 402
        assert caught.value.details["spent_usd"] == "0.000000001"
        permit.release()
        assert admission.inflight == 0
    permit = await gateways[3][1].admit(SECRET, facts())
    await reserve(gateways[3][1], permit, 30)
    before = begun()
    with pytest.raises(BudgetBusy):
        await gateways[0][1].admit(SECRET, facts())
    assert begun() - before < 2
    permit.release()
    (await gateways[1][1].admit(SECRET, facts())).release()
    for _, leases in gateways:
        await leases.stop()


async def test_two_that_need_more_than_is_left_for_both(shared: SharedState) -> None:
    """One gets it whole, of its key and of its project, and neither waits for ever."""
    time = Time()
    rules = budget(100)
    gateways = []
    for name in ("w1", "w2", "w3"):
        admission = Admission(shared=True, clock=time.clock, wall=time.wall)
        admission.refresh(snapshot(rules, rules))
        gateways.append((admission, Leases(admission, shared, name, patience_s=0.75)))
    for _, leases in gateways:
        await leases.load()
        leases.start()

    async def one(leases: Leases) -> int:
        try:
            permit = await leases.admit(SECRET, facts())
        except BudgetExceeded:
            return 0
        try:
            await reserve(leases, permit, 60)
            return permit.settle(60) or 0
        except BudgetExceeded:
            return 0
        finally:
            permit.release()

    spent = await asyncio.gather(*(one(leases) for _, leases in gateways[:2]))
    assert sorted(spent) == [0, 60]
    for _, leases in gateways:
        await leases.stop()


async def test_the_end_of_a_limit_goes_to_whoever_needs_it(shared: SharedState) -> None:
    time = Time()
    rules = limits(requests_per_minute=6, tokens_per_minute=1_000)
    gateways = [gateway(shared, time, f"w{n}", rules, patience_s=0.75) for n in range(4)]
    for _, leases in gateways:
        leases.start()
    for turn in range(3):
        permit = await gateways[turn % 4][1].admit(SECRET, facts(input_tokens=700))
        permit.count_tokens(100)
        permit.release()
    for turn in range(3):
        (await gateways[turn % 4][1].admit(SECRET, facts(input_tokens=1))).release()
    await asyncio.sleep(0.6)
    time.pass_(20)
    for _, leases in gateways:
        await leases.exchange()
    for _, leases in gateways:
        with pytest.raises(LimitExceeded) as caught:
            await leases.admit(SECRET, facts(input_tokens=1))
        assert caught.value.details["used"] == 6
        # The minute is over when it is, up to five seconds late for what another process counted.
        assert 35 <= (caught.value.retry_after_s or 0) <= 46
    for _, leases in gateways:
        await leases.stop()


async def test_a_killed_process_s_share_of_a_minute_is_not_its_successor_s(shared: SharedState) -> None:
    """What it used of a minute counts on, whoever comes in its place; requests that ran in it are over."""
    time = Time()
    rules = limits(requests_per_minute=6, concurrency=6)
    _, its = gateway(shared, time, "w1", rules)
    await its.load()
    for _ in range(6):
        await its.admit(SECRET, facts())
    await its.exchange()
    # Killed. Its place, and so its name, is taken at once.
    one, ours = gateway(shared, time, "w1", rules)
    await ours.load()
    for _ in range(3):
        with pytest.raises(LimitExceeded, match="per minute"):
            await ours.admit(SECRET, facts())
    assert one.inflight == 0


async def test_a_host_that_never_returns_is_forgiven(redis_server: Redis, tmp_path: Path) -> None:
    """What it spent stays spent, by the database; what it only held is free again. Runs end in Redis by themselves."""
    time, prefix = Time(), f"t{random.randrange(2**40)}"
    database, _, _ = prepared(f"sqlite:///{tmp_path / 'tieline.db'}", 1_000)
    shared = RedisShared(redis_server.url, prefix=prefix)
    await shared.exchange("nobody", [Claim("x", 1, 0, 0)])
    await asyncio.sleep(GRACE_S + 0.05)
    _, its = gateway(shared, time, "w_dead", budget(1_000))
    await its.load()
    await reserve(its, await its.admit(SECRET, facts()), 900)
    slot = int(time.wall()) // 900
    with database.write() as connection:
        row = {"scope": METER, "slot": slot, "writer": "w_dead", "requests": 1, "unknown": 0}
        connection.execute(spend_table.insert().values(**row, micros=0, rest=250))
    one, ours = gateway(shared, time, "w_one", budget(1_000))
    ours._accounts = Accounts(database)
    await ours.load()
    permit = await ours.admit(SECRET, facts())
    with pytest.raises(BudgetExceeded):
        await reserve(ours, permit, 200)
    await ours.forgive("w_dead")
    await reserve(ours, permit, 750)
    with pytest.raises(BudgetExceeded):
        await reserve(ours, permit, 751)
    name = one._meters[METER].budgets[0].window_name
    assert await shared.grants(name) == {"w_dead": 250, "w_one": 750}
    permit.settle(0)
    permit.release()
    await ours.admit(SECRET, facts(run="r", run_budget=500))
    await ours.exchange()
    redis = AsyncRedis.from_url(redis_server.url)
    [key] = [key async for key in redis.scan_iter(f"{prefix}:lease:run:*")]
    assert 0 < await redis.ttl(key) <= 8 * 86_400
    assert 8 * 86_400 < await redis.ttl(f"{prefix}:lease:{name}") <= 40 * 86_400
    await redis.aclose()
    await shared.close()
    database.close()


@pytest.fixture(scope="module")
def redis_of_ones_own() -> Iterator[Redis]:
    with running_redis() as server:
        yield server


async def test_redis_goes_and_comes_back_empty(redis_of_ones_own: Redis) -> None:
    time = Time()
    shared = RedisShared(redis_of_ones_own.url)
    one, its = gateway(shared, time, "w1", budget(1_000))
    other, others = gateway(shared, time, "w2", budget(1_000))
    await its.load()
    await others.load()
    await asyncio.sleep(GRACE_S + 0.1)
    permit = await its.admit(SECRET, facts())
    await reserve(its, permit, 500)
    late = await others.admit(SECRET, facts())
    await reserve(others, late, 300)
    redis_of_ones_own.stop()
    with pytest.raises(SharedUnavailable):
        await its.exchange()
    held = one._meters[METER].total
    more = reserve_all(one, 5)
    assert one._meters[METER].total == held + more * 5
    redis_of_ones_own.start()
    await its.exchange()
    await others.exchange()
    await asyncio.sleep(GRACE_S + 0.1)
    for _ in range(20):
        await its.exchange()
        reserve_all(one, 5)
        await others.exchange()
        reserve_all(other, 5)
    total = one._meters[METER].total + other._meters[METER].total
    assert 900 <= total <= 1_000
    await its.stop()
    await others.stop()
    await shared.close()


WORKER = """
import asyncio, json, random, sys, time
from pathlib import Path
from tests.admit.samples import facts
from tests.record.samples import record
from tieline.admit.accounts import Accounts
from tieline.admit.admission import Admission
from tieline.admit.budgets import BudgetBusy
from tieline.admit.leases import Leases
from tieline.admit.watch import Watch
from tieline.record.items import Begun
from tieline.record.recorder import Recorder
from tieline.store.database import Database
from tieline.store.shared import RedisShared
from tieline.types.errors import BudgetExceeded

url, redis, spool, secret, seconds, callers = sys.argv[1:]
figures = {"attempted": 0, "admitted": 0, "spent": 0}
rng = random.Random()

async def one(admission, leases, recorder, permit):
    one = record(key_id=permit.key_id, project=permit.project, attempts=[])
    bound = rng.randrange(1, 3_000)
    await leases.patiently(lambda: permit.reserve(bound))
    recorder.begin(
        Begun(one.id, one.at_ms, "chat", "openai_chat", "gpt-5", permit.key_id, permit.project, None, {}, bound)
    )
    figures["admitted"] += 1
    await asyncio.sleep(rng.random() / 50)
    aborted = rng.random() < 0.2
    one.charged = permit.settle(0 if aborted else rng.randrange(bound + 1))
    figures["spent"] += one.charged
    recorder.put(one)

async def caller(admission, leases, recorder, until):
    while time.monotonic() < until:
        figures["attempted"] += 1
        try:
            permit = await leases.admit(secret, facts())
        except BudgetExceeded:
            await asyncio.sleep(0.02)
            continue
        try:
            await one(admission, leases, recorder, permit)
        except BudgetExceeded:
            await asyncio.sleep(0.02)
        finally:
            permit.release()

async def main():
    database = Database(url)
    database.open()
    recorder = Recorder(database, spool=Path(spool))
    recorder.start()
    recorder.recovered.wait(20)
    admission, accounts, shared = Admission(shared=True), Accounts(database), RedisShared(redis)
    await Watch(admission, accounts).load(recorder.writer)
    leases = Leases(admission, shared, recorder.writer, accounts)
    await leases.load()
    leases.start()
    print("ready", flush=True)
    until = time.monotonic() + float(seconds)
    await asyncio.gather(*(caller(admission, leases, recorder, until) for _ in range(int(callers))))
    await leases.stop()
    await shared.close()
    assert recorder.close(20)
    print(json.dumps(figures), flush=True)

asyncio.run(main())
"""


def start_workers(count: int, *arguments: str) -> list[subprocess.Popen[bytes]]:
    return [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"src{os.pathsep}."},
        )
        for _ in range(count)
    ]


def figures_of(workers: Sequence[subprocess.Popen[bytes]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for worker in workers:
        out, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        found: Mapping[str, int] = json.loads(out.splitlines()[-1])
        for name, value in found.items():
            total[name] = total.get(name, 0) + value
    return total


def prepared(url: str, limit: int) -> tuple[Database, str, str]:
    database = Database(url)
    database.open()
    accounts = Accounts(database)
    rule = BudgetRule(amount_usd=f"0.{limit:012d}", period="lifetime")
    project = accounts.create_project("web", Rules(budgets=[rule]))
    _, secret = accounts.create_key("web", "ci", Rules(budgets=[rule]))
    return database, secret, f"project:{project.id}"


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_four_workers_and_200_callers(
    backend: str, redis_server: Redis, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    limit = 600_001
    url = f"sqlite:///{tmp_path / 'tieline.db'}"
    if backend == "postgresql":
        url = request.getfixturevalue("postgres").new_database()
    database, secret, scope = prepared(url, limit)
    workers = start_workers(4, url, redis_server.url, str(tmp_path / "spool"), secret, "4", "50")
    figures = figures_of(workers)
    recorded = sum(line.charged or 0 for line in spend(database, by="outcome"))
    print({**figures, "budget": limit, "recorded": recorded})
    assert figures["spent"] == recorded <= limit
    assert sum(Accounts(database).spent()[scope].slots.values()) == recorded
    assert figures["admitted"] < figures["attempted"]
    assert recorded > limit * 0.9
    database.close()


def test_two_hosts_and_a_kill(postgres: Postgres, redis_server: Redis, tmp_path: Path) -> None:
    """Two hosts with spools of their own; one is killed in the middle, and comes back."""
    limit = 9_000_001
    url = postgres.new_database()
    database, secret, scope = prepared(url, limit)
    spools = [str(tmp_path / name) for name in ("host1", "host2")]
    [stays] = start_workers(1, url, redis_server.url, spools[0], secret, "7", "50")
    [dies] = start_workers(1, url, redis_server.url, spools[1], secret, "7", "50")
    assert dies.stdout
    assert dies.stdout.readline() == b"ready\n"
    with pytest.raises(subprocess.TimeoutExpired):
        dies.wait(GRACE_S + 0.8)
    dies.send_signal(signal.SIGKILL)
    dies.wait()
    dies.stdout.close()
    [back] = start_workers(1, url, redis_server.url, spools[1], secret, "3", "50")
    figures = figures_of([stays, back])
    found = {line.group: line for line in spend(database, by="outcome")}
    recorded = sum(line.charged or 0 for line in found.values())
    cut = found["process_died"].requests
    print({"spent_by_those_alive": figures["spent"], "recorded": recorded, "cut": cut, "budget": limit})
    assert 0 < cut <= 50
    assert figures["spent"] <= recorded <= limit
    assert sum(Accounts(database).spent()[scope].slots.values()) == recorded
    assert recorded > limit * 0.8
    database.close()
