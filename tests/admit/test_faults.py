"""Our own dependencies fail under a real gateway: traffic goes on, nothing is lost, and it is told."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.admin.client import Admin, administered
from tests.admit.faults import chat, dependency, ready, served, until, written
from tests.processes import Process, cli, serving, write_config
from tests.services import Postgres, Redis, running_postgres, running_redis
from tieline.simulator import SimulatorServer


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """One that may be stopped."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    with running_redis() as server:
        yield server


@pytest.mark.services
async def test_the_database_goes_and_comes_back(tmp_path: Path, own_postgres: Postgres) -> None:
    url = own_postgres.new_database()
    async with SimulatorServer() as simulator:
        config = write_config(tmp_path, simulator.url, database=url, spool=tmp_path / "spool")
        secret = cli(config, "keys", "create", "ci", "--budget", "5/day")["secret"]
        with serving(tmp_path, config) as gateway:
            ids = await served(gateway, secret, 5)
            assert (await ready(gateway))["degraded"] == []
            await asyncio.to_thread(own_postgres.stop)
            ids += await served(gateway, secret, 30)
            await until(gateway, lambda state: any("database" in one for one in state["degraded"]))
            assert await dependency(gateway, "database") == 0
            await asyncio.to_thread(own_postgres.start)
            await until(gateway, lambda state: state["degraded"] == [] and not state["recorder"]["queued"])
            assert await dependency(gateway, "database") == 1
            assert gateway.output.count("the database takes no records (OperationalError)") == 1
            assert gateway.output.count("records are written again") == 1
            ids += await served(gateway, secret, 5)
            assert await asyncio.to_thread(gateway.stop) == 0
    assert sorted(written(url)) == sorted(ids)


@pytest.mark.services
async def test_killed_while_the_database_is_away(tmp_path: Path, own_postgres: Postgres) -> None:
    """The spool outlives the process, and is replayed once."""
    url = own_postgres.new_database()
    async with SimulatorServer() as simulator:
        config = write_config(tmp_path, simulator.url, database=url, spool=tmp_path / "spool")
        secret = cli(config, "keys", "create", "ci")["secret"]
        with serving(tmp_path, config) as gateway:
            ids = await served(gateway, secret, 5)
            await asyncio.to_thread(own_postgres.stop)
            ids += await served(gateway, secret, 20)
            gateway.kill()
        await asyncio.to_thread(own_postgres.start)
        for _ in range(2):
            with serving(tmp_path, config) as again:
                assert await asyncio.to_thread(again.stop) == 0
    assert sorted(written(url)) == sorted(ids)


async def test_the_database_is_locked_by_somebody(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tieline.db'}"
    async with SimulatorServer() as simulator:
        config = write_config(tmp_path, simulator.url, database=url, spool=tmp_path / "spool")
        secret = cli(config, "keys", "create", "ci")["secret"]
        with serving(tmp_path, config) as gateway:
            other = sqlite3.connect(tmp_path / "tieline.db", isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            began = time.monotonic()
            ids = await served(gateway, secret, 20)
            assert time.monotonic() - began < 5
            await until(gateway, lambda state: any("database" in one for one in state["degraded"]))
            other.execute("ROLLBACK")
            other.close()
            await until(gateway, lambda state: state["degraded"] == [])
            assert await asyncio.to_thread(gateway.stop) == 0
    assert sorted(written(url)) == sorted(ids)


@pytest.mark.services
async def test_redis_goes_and_comes_back_empty(tmp_path: Path, postgres: Postgres, own_redis: Redis) -> None:
    url = postgres.new_database()
    async with SimulatorServer() as simulator:
        store = {"database": url, "redis": own_redis.url, "spool": tmp_path / "spool"}
        config = write_config(tmp_path, simulator.url, **store)
        secret = cli(config, "keys", "create", "ci", "--budget", "0.05/lifetime", "--rpm", "1000")["secret"]
        with serving(tmp_path, config) as gateway:
            await served_when_shares_are_there(gateway, secret)
            await asyncio.sleep(1)
            own_redis.stop()
            await served(gateway, secret, 20)
            await until(gateway, lambda state: any("redis" in one for one in state["degraded"]))
            assert await dependency(gateway, "redis") == 0
            own_redis.start()
            await until(gateway, lambda state: state["degraded"] == [])
            await served_when_shares_are_there(gateway, secret)
            assert await asyncio.to_thread(gateway.stop) == 0
    assert len(written(url)) >= 22


@pytest.mark.services
@pytest.mark.parametrize("how", ["read-only", "full", "password", "garbage", "paused"])
async def test_redis_refuses(how: str, tmp_path: Path, postgres: Postgres, own_redis: Redis) -> None:
    """What is held is spent, why is told, and it goes on by itself once that is put right."""
    wrong, right, says = {
        "read-only": ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "ReadOnlyError"),
        "full": ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OutOfMemoryError"),
        "password": ("CONFIG SET requirepass other", 'CONFIG SET requirepass ""', "AuthenticationError"),
        "garbage": ("SET tieline:epoch garbage", "DEL tieline:epoch", "cannot be read"),
        "paused": ("", "", "TimeoutError"),
    }[how]
    async with SimulatorServer() as simulator:
        store = {"database": postgres.new_database(), "redis": own_redis.url, "spool": tmp_path / "spool"}
        config = write_config(tmp_path, simulator.url, **store)
        secret = cli(config, "keys", "create", "ci", "--budget", "0.05/lifetime", "--rpm", "1000")["secret"]
        with serving(tmp_path, config) as gateway:
            await served_when_shares_are_there(gateway, secret)
            await asyncio.sleep(1)
            own_redis.command(wrong)
            if how == "password":
                own_redis.command("CLIENT KILL TYPE normal", password="other")
            await until(gateway, lambda state: any(says in one for one in state["degraded"]))
            await served(gateway, secret, 20)
            assert await dependency(gateway, "redis") == 0
            assert f"redis: {says}" in gateway.output or says in gateway.output
            own_redis.command(right, password="other" if how == "password" else "")
            await until(gateway, lambda state: state["degraded"] == [])
            assert "redis answers again" in gateway.output
            await served_when_shares_are_there(gateway, secret)
            assert await asyncio.to_thread(gateway.stop) == 0
            assert "Traceback" not in gateway.output


async def served_when_shares_are_there(gateway: Process, secret: str) -> None:
    """A fresh Redis grants nothing for its first second (docs/decisions/0003)."""
    deadline = time.monotonic() + 6
    while (found := (await chat(gateway, secret))[0]) != 200:
        assert found == 429
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


async def test_the_clock_steps(tmp_path: Path) -> None:
    """Either way: requests go on, a day's budget stays a day's, a minute's limit is none of the wall clock's business."""
    async with administered(tmp_path) as admin:
        rules = {
            "budgets": [{"amount_usd": "0.00003", "period": "day"}],
            "limits": {"requests_per_minute": 100},
        }
        _, made = await admin.ask("POST", "/keys", {"name": "ci", "rules": rules})
        offset = [0.0]
        admin.gateway.admission.wall = lambda: time.time() + offset[0]
        for meter in admin.gateway.admission.meters():
            meter.wall = admin.gateway.admission.wall
        assert await spend_all(admin, made["secret"]) > 0
        offset[0] = -7_200.0 if time.gmtime().tm_hour >= 2 else 3_600.0
        assert (await admin.chat(made["secret"])).status in (402, 429)
        offset[0] = 86_400.0
        assert await spend_all(admin, made["secret"]) > 0
        offset[0] = 0.0
        assert (await admin.chat(made["secret"])).status in (402, 429)


async def spend_all(admin: Admin, secret: str) -> int:
    for count in range(100):
        status = (await admin.chat(secret)).status
        if status != 200:
            assert status in (402, 429)
            return count
    raise AssertionError("the budget has no end")
