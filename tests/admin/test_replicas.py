"""Several hosts on one database: they notice one another, and a configuration put on one reaches all."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.admin.client import TOKEN
from tests.admit.faults import asked, degraded, dependency, gauge, readiness, until
from tests.processes import Process, cli, serving, write_config
from tests.services import Postgres, Redis
from tieline.config.common import common_digest, on_this_host
from tieline.simulator import SimulatorServer
from tieline.types.errors import ConfigError

ADMIN = {"TIELINE_ADMIN_TOKEN": TOKEN}


def call(gateway: Process, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{gateway.url}/admin/api{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


async def admin(gateway: Process, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    return await asyncio.to_thread(call, gateway, method, path, body)


def host(folder: Path, name: str, simulator: str, **store: Any) -> Path:
    (folder / name).mkdir()
    return write_config(folder / name, simulator, spool=folder / name / "spool", **store)


async def within(seconds: float, holds: Callable[[], bool]) -> float:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds
        await asyncio.sleep(0.1)
    return time.monotonic() - began


def with_model(text: str, name: str) -> str:
    tree = yaml.safe_load(text)
    tree["models"][name] = {"deployments": ["sim-openai/gpt-sim"]}
    return yaml.safe_dump(tree)


async def replicas(gateway: Process, configurations: int) -> list[dict[str, Any]]:
    """Once so many are in force among them: each tells at its next beat what it took over."""
    began = time.monotonic()
    while True:
        _, living = await admin(gateway, "GET", "/replicas")
        if len({one["config"] for one in living}) == configurations:
            return list(living)
        assert time.monotonic() - began < 20, living
        await asyncio.sleep(0.1)


async def both_workers(gateway: Process, model: str) -> None:
    """Ten answers in a row come from both of them."""
    deadline, row = time.monotonic() + 20, 0
    while row < 10:
        row = row + 1 if (await asked(gateway, "", model=model))[0] == 200 else 0
        assert time.monotonic() < deadline


@pytest.mark.services
async def test_hosts_that_share_no_redis_are_noticed(
    tmp_path: Path, postgres: Postgres, redis_server: Redis
) -> None:
    url = postgres.new_database()
    async with SimulatorServer() as simulator:
        one, two = (host(tmp_path, name, simulator.url, database=url) for name in ("one", "two"))
        shared = host(tmp_path, "shared", simulator.url, database=url, redis=redis_server.url)
        cli(one, "keys", "create", "free")
        with serving(one.parent, one, **ADMIN) as first, serving(two.parent, two, **ADMIN) as second:
            await asyncio.sleep(5)
            for gateway in (first, second):
                state = (await readiness(gateway))[1]
                assert state["degraded"] == [], "there is no ceiling to pass"
                assert await gauge(gateway, "tieline_replicas") == 2
            cli(one, "keys", "create", "ci", "--budget", "1/day")
            for gateway in (first, second):
                await until(gateway, degraded("sharing"))
                assert await dependency(gateway, "sharing") == 0
                assert "store.redis" in gateway.output
            status, changes = await admin(first, "GET", "/audit")
            assert status == 200
            assert [one["action"] for one in changes].count("replicas.unshared") == 2
            _, living = await admin(first, "GET", "/replicas")
            assert sorted(one["answering"] for one in living) == [False, True]
            assert {one["redis"] for one in living} == {None}
            await asyncio.to_thread(second.stop)
            await until(first, lambda state: state["degraded"] == [])
            with serving(shared.parent, shared) as third:
                await until(third, degraded("sharing"))
        again = host(tmp_path, "again", simulator.url, database=url, redis=redis_server.url)
        with serving(shared.parent, shared) as first, serving(again.parent, again) as second:
            await asyncio.sleep(5)
            for gateway in (first, second):
                assert not degraded("sharing")((await readiness(gateway))[1])


@pytest.mark.services
async def test_a_configuration_reaches_every_host(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.new_database()
    async with SimulatorServer() as simulator:
        one, two, late, edited = (
            host(tmp_path, name, simulator.url, database=url) for name in ("one", "two", "late", "edited")
        )
        edited.write_text(with_model(edited.read_text(), "local"))
        text = one.read_text().replace("api_key: simulated", "api_key: ${SIM_KEY}")
        for path in (one, two, late):
            path.write_text(path.read_text().replace("api_key: simulated", "api_key: ${SIM_KEY}"))
        key = {**ADMIN, "SIM_KEY": "simulated"}
        new = with_model(text, "fresh")
        with (
            serving(one.parent, one, **key) as first,
            serving(two.parent, two, "--workers", "2", **key) as second,
            serving(edited.parent, edited, **ADMIN) as third,
        ):
            assert (await asked(second, "", model="fresh"))[0] == 404
            assert (await admin(first, "PUT", "/config", {"text": new}))[0] == 200
            assert (await asked(first, "", model="fresh"))[0] == 200
            took = await within(20, lambda: "fresh" in two.read_text())
            print(f"\na configuration reached the other host within {took:.1f} s")
            await both_workers(second, "fresh")
            kept = yaml.safe_load(two.read_text())["store"]
            assert kept["spool"] == str(tmp_path / "two" / "spool"), "store is each host's own"
            # A file that was edited on its host stays as it is, and that is told.
            await until(third, degraded("configuration: version 1 is not in force"))
            assert await dependency(third, "configuration") == 0
            assert (await asked(third, "", model="fresh"))[0] == 404
            living = await replicas(first, configurations=2)
            assert len(living) == 4
            assert sorted(one["trouble"] is None for one in living) == [False, True, True, True]
            # What cannot be validated on another host is not in force there.
            broken = with_model(text.replace("${SIM_KEY}", "${ONLY_ON_ONE}"), "third")
            _, verdict = await admin(first, "PUT", "/config", {"text": broken})
            assert verdict["error"]["param"] == "text"
            newest = with_model(two.read_text(), "newest")
            assert (await admin(second, "PUT", "/config", {"text": newest}))[0] == 200
            await within(20, lambda: "newest" in one.read_text())
            assert (await asked(first, "", model="newest"))[0] == 200
        # One that was away meanwhile takes the newest before it serves.
        with serving(late.parent, late, **key) as fourth:
            assert (await asked(fourth, "", model="newest"))[0] == 200
            assert (await asked(fourth, "", model="fresh"))[0] == 200


@pytest.mark.services
async def test_a_configuration_that_is_faulty_elsewhere(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.new_database()
    async with SimulatorServer() as simulator:
        one, two = (host(tmp_path, name, simulator.url, database=url) for name in ("one", "two"))
        for path in (one, two):
            path.write_text(path.read_text().replace("api_key: simulated", "api_key: ${SIM_KEY}"))
        first_env = {**ADMIN, "SIM_KEY": "simulated", "ONLY_ON_ONE": "simulated"}
        with (
            serving(one.parent, one, **first_env) as first,
            serving(two.parent, two, **ADMIN, SIM_KEY="simulated") as second,
        ):
            before = two.read_text()
            text = with_model(one.read_text().replace("${SIM_KEY}", "${ONLY_ON_ONE}"), "fresh")
            assert (await admin(first, "PUT", "/config", {"text": text}))[0] == 200
            await until(second, degraded("could not be taken over"))
            assert degraded("ONLY_ON_ONE")((await readiness(second))[1])
            assert (await asked(second, ""))[0] == 200
            assert two.read_text() == before
            # Who does not have it yet may not replace it unseen.
            status, refused = await admin(second, "PUT", "/config", {"text": with_model(before, "other")})
            assert status == 409
            assert "another host" in refused["error"]["message"]
            with_key = one.read_text().replace("https://", "").replace("http://", "http://user:hunter22@")
            status, refused = await admin(first, "PUT", "/config", {"text": with_key})
            assert status == 400
            assert "hunter22" not in str(refused)


OWN = "# mine\nserver:\n  port: 1\n\nmodels: {a: {deployments: [x/y]}}\nstore: {spool: /own}\n"


def test_a_host_keeps_its_own_part() -> None:
    text = "# of all\nserver: {port: 2}\nmodels:\n  b: {deployments: [x/z]}  # why\nstore:\n  spool: /other"
    whole = on_this_host(text, OWN)
    assert yaml.safe_load(whole) == {
        "server": {"port": 1},
        "models": {"b": {"deployments": ["x/z"]}},
        "store": {"spool": "/own"},
    }
    assert "# of all" in whole
    assert "# why" in whole
    assert common_digest(whole) == common_digest(text) != common_digest(OWN)
    assert on_this_host("", OWN) == "server:\n  port: 1\n\nstore: {spool: /own}\n"
    assert on_this_host(text, "") == "# of all\nmodels:\n  b: {deployments: [x/z]}  # why\n"
    with pytest.raises(ConfigError, match="braces"):
        on_this_host("{models: {}}", OWN)
