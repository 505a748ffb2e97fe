"""200 callers on one key against real servers: a hard budget is never overspent, by not even one unit.

The figures are printed (``pytest -s``): attempted, admitted, spent, budget.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.admit import faults
from tests.processes import Callers, Process, cli, serving, write_config
from tests.services import Postgres, Redis
from tieline.admit.accounts import Accounts
from tieline.simulator import SimulatorServer
from tieline.store import queries
from tieline.store.database import Database
from tieline.types.money import format_usd, parse_usd

BUDGET = "0.006000000001"
"""Some 500 requests; the odd unit shows rounding."""
MODELS = ("demo", "demo", "demo", "failing", "silent-usage", "slow")


def spent_in(url: str) -> tuple[int, dict[str, int]]:
    """What all records charge, and how many there are by outcome."""
    database = Database(url)
    database.open()
    try:
        lines = queries.spend(database, by="outcome")
        scopes = Accounts(database).spent()
        [key] = [scope for scope in scopes if scope.startswith("key:") and "/" not in scope]
        charged = sum(line.charged or 0 for line in lines)
        assert charged == scopes[key].before + sum(scopes[key].slots.values())
        return charged, {str(line.group): line.requests for line in lines}
    finally:
        database.close()


def report(name: str, callers: Callers, charged: int, outcomes: dict[str, int]) -> None:
    figures: dict[str, Any] = {
        **callers.figures,
        "refused": sum(count for status, count in callers.statuses.items() if status in (402, 429)),
        "spent_usd": format_usd(charged),
        "budget_usd": BUDGET,
        "outcomes": outcomes,
    }
    print(f"\n{name}: {figures}")


async def attack(callers: Callers, seconds: float) -> None:
    await callers.run(200, seconds)
    assert not callers.figures["broken"], callers.figures
    assert set(callers.statuses) <= {200, 402, 429}, callers.statuses
    assert callers.statuses[200] > 50
    assert callers.statuses[402] + callers.statuses[429] > 50


def settle(charged: int, outcomes: dict[str, int], callers: Callers) -> None:
    budget = parse_usd(BUDGET)
    assert charged <= budget
    # What aborted streams held came back: else far less could have been spent.
    assert charged > budget * 0.8
    assert outcomes["caller_gone"]
    assert sum(outcomes.values()) == callers.figures["attempted"]


async def test_one_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tieline.db'}"
    async with SimulatorServer() as simulator:
        config = write_config(tmp_path, simulator.url, database=url, spool=tmp_path / "spool")
        key = cli(config, "keys", "create", "ci", "--budget", f"{BUDGET}/lifetime")
        with serving(tmp_path, config) as gateway:
            callers = Callers([gateway.port], key["secret"], models=MODELS)
            await attack(callers, 5)
            assert await asyncio.to_thread(gateway.stop) == 0
    charged, outcomes = spent_in(url)
    report("one process", callers, charged, outcomes)
    settle(charged, outcomes, callers)


@pytest.mark.services
async def test_four_workers(tmp_path: Path, postgres: Postgres, redis_server: Redis) -> None:
    url = postgres.new_database()
    async with SimulatorServer() as simulator:
        store = {"database": url, "redis": redis_server.url, "spool": tmp_path / "spool"}
        config = write_config(tmp_path, simulator.url, **store)
        key = cli(config, "keys", "create", "ci", "--budget", f"{BUDGET}/lifetime")
        with serving(tmp_path, config, "--workers", "4") as gateway:
            callers = Callers([gateway.port], key["secret"], models=MODELS)
            await attack(callers, 6)
            assert await asyncio.to_thread(gateway.stop) == 0
    charged, outcomes = spent_in(url)
    report("four workers", callers, charged, outcomes)
    settle(charged, outcomes, callers)


@pytest.mark.services
async def test_two_hosts(tmp_path: Path, postgres: Postgres, redis_server: Redis) -> None:
    url = postgres.new_database()
    async with SimulatorServer() as simulator:
        configs = []
        for name in ("host1", "host2"):
            (tmp_path / name).mkdir()
            spool = tmp_path / name / "spool"
            store = {"database": url, "redis": redis_server.url, "spool": spool}
            configs.append(write_config(tmp_path / name, simulator.url, **store))
        key = cli(configs[0], "keys", "create", "ci", "--budget", f"{BUDGET}/lifetime")
        with serving(configs[0].parent, configs[0]) as one, serving(configs[1].parent, configs[1]) as two:
            callers = Callers([one.port, two.port], key["secret"], models=MODELS)
            await attack(callers, 6)
            assert await asyncio.to_thread(one.stop) == 0
            assert await asyncio.to_thread(two.stop) == 0
    charged, outcomes = spent_in(url)
    report("two hosts", callers, charged, outcomes)
    settle(charged, outcomes, callers)


async def test_aborted_streams_give_back_what_they_held(tmp_path: Path) -> None:
    """The budget bears one hold at a time and a little: twenty callers who hang up all get in, one after another."""
    url = f"sqlite:///{tmp_path / 'tieline.db'}"
    async with SimulatorServer() as simulator:
        config = write_config(tmp_path, simulator.url, database=url, spool=tmp_path / "spool")
        key = cli(config, "keys", "create", "ci", "--budget", "0.0025/lifetime")
        with serving(tmp_path, config) as gateway:
            for _ in range(20):
                await hang_up(gateway.port, key["secret"])
            assert await asyncio.to_thread(gateway.stop) == 0
    charged, outcomes = spent_in(url)
    assert outcomes.pop("caller_gone") == 20
    assert set(outcomes) <= {"refused"}  # who came before the one ahead had been settled
    assert 0 < charged <= parse_usd("0.0025")


async def hang_up(port: int, secret: str) -> None:
    """Streams up to the first bytes; waits for admission as a client that obeys Retry-After would."""
    body = b'{"model":"slow","stream":true,"max_tokens":3500,"messages":[{"role":"user","content":"Hi"}]}'
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " in answer.partition(b"\r\n")[0]:
            await reader.read(100)
            writer.transport.abort()
            return
        writer.close()
        await asyncio.sleep(0.02)
    raise AssertionError(answer)


@pytest.mark.services
async def test_killed_in_the_middle_of_streams(
    tmp_path: Path, postgres: Postgres, redis_server: Redis
) -> None:
    """kill -9 of a gateway under load: each request that was begun has one record, and no ceiling was passed."""
    url = postgres.new_database()
    async with SimulatorServer() as simulator:
        store = {"database": url, "redis": redis_server.url, "spool": tmp_path / "spool"}
        config = write_config(tmp_path, simulator.url, **store)
        key = cli(config, "keys", "create", "ci", "--budget", "5/lifetime")
        with serving(tmp_path, config) as gateway:
            callers = Callers([gateway.port], key["secret"], models=("demo", "slow", "slow"))
            load = asyncio.create_task(callers.run(60, 2.5))
            await asyncio.sleep(2.0)
            gateway.kill()
            await load
        with serving(tmp_path, config) as again:
            assert await asyncio.to_thread(again.stop) == 0
    database = Database(url)
    database.open()
    found = queries.logs(database, limit=10_000)
    database.close()
    ids = [record.id for record in found]
    died = [record for record in found if record.outcome == "process_died"]
    lost, duplicated = callers.begun - set(ids), len(ids) - len(set(ids))
    print(
        f"\nkill -9: accepted={len(callers.begun)} recorded={len(ids)} of which cut={len(died)} "
        f"lost={len(lost)} duplicated={duplicated}"
    )
    assert not lost
    assert not duplicated
    assert died
    assert all(record.charged for record in died)


@pytest.mark.services
async def test_a_host_that_never_returns(tmp_path: Path, postgres: Postgres, redis_server: Redis) -> None:
    """Killed with its spool gone: its share stays taken until it is forgiven; what it had written stays spent."""
    url = postgres.new_database()
    token = "an-admin-token-of-32-characters!"
    async with SimulatorServer() as simulator:
        configs = []
        for name in ("stays", "dies"):
            (tmp_path / name).mkdir()
            store = {"database": url, "redis": redis_server.url, "spool": tmp_path / name / "spool"}
            configs.append(write_config(tmp_path / name, simulator.url, **store))
        secret = cli(configs[0], "keys", "create", "ci", "--budget", "0.01/lifetime")["secret"]
        with serving(configs[1].parent, configs[1]) as dies:
            await first_share(dies, secret)
            await faults.served(dies, secret, 4)
            await faults.until(dies, faults.well)
            dies.kill()
        writer = (tmp_path / "dies" / "spool" / "0" / "writer").read_text().strip()
        with serving(configs[0].parent, configs[0], TIELINE_ADMIN_TOKEN=token) as stays:
            nearly_all = {"max_tokens": 14_000}
            await first_share(stays, secret)
            assert (await faults.asked(stays, secret, **nearly_all))[0] == 429
            path = f"{stays.url}/admin/api/writers/{writer}/forgive"
            status, _, text = await asyncio.to_thread(faults.fetch, path, {}, token)
            assert status == 204, text
            deadline = time.monotonic() + 10
            while (found := await faults.asked(stays, secret, **nearly_all))[0] != 200:
                assert time.monotonic() < deadline, found
                await asyncio.sleep(0.2)
            too_much = {"max_tokens": 17_000}
            assert (await faults.asked(stays, secret, **too_much))[0] in (402, 429)
            assert await asyncio.to_thread(stays.stop) == 0
    charged, outcomes = spent_in(url)
    assert outcomes["success"] == 7
    assert 0 < charged <= parse_usd("0.01")


async def first_share(gateway: Process, secret: str) -> None:
    """A Redis that was not spoken to grants nothing for its first second; one answer is served when it does."""
    deadline = time.monotonic() + 20
    while (found := await faults.asked(gateway, secret))[0] != 200:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.2)
