"""The database is slow, silent, full, read-only or not there at the start: a real gateway on real sockets goes on, keeps
what it accepted, writes it once, and tells."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import sqlalchemy as sa
import yaml

from tests.admit.faults import (
    asked,
    chat,
    degraded,
    dependency,
    gauge,
    readiness,
    ready,
    served,
    until,
    well,
    written,
)
from tests.pipe import Pipe
from tests.processes import cli, serving, write_config
from tests.programs import running
from tests.services import Postgres, pooled, running_postgres
from tieline.gateway import Gateway
from tieline.simulator import SimulatorServer
from tieline.store import replicas
from tieline.store.database import Database
from tieline.types.money import parse_usd

ANSWER_S = 1.0
"""What an answer of the simulated provider may take on a loaded machine; the database is many times slower here."""


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """One that may be stopped."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def pipe(postgres: Postgres) -> Iterator[Pipe]:
    with Pipe(postgres.port) as pipe:
        yield pipe


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB, room for what waits to be written three times: only root may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here: full disks are LEFT OUT")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Until the disk is full; what to delete."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65_536, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


def through(url: str, port: int) -> str:
    return sa.make_url(url).set(port=port).render_as_string(hide_password=False)


def execute(url: str, *statements: str) -> None:
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


async def timed(gateway: object, secret: str, count: int) -> tuple[list[str], float]:
    """Ids, and the slowest answer."""
    ids, slowest = [], 0.0
    for _ in range(count):
        began = time.monotonic()
        ids += await served(gateway, secret, 1)  # type: ignore[arg-type]
        slowest = max(slowest, time.monotonic() - began)
    return ids, slowest


@pytest.mark.services
async def test_a_slow_database_slows_no_request(tmp_path: Path, postgres: Postgres, pipe: Pipe) -> None:
    url = postgres.new_database()
    async with SimulatorServer() as simulator:
        config = write_config(
            tmp_path, simulator.url, database=through(url, pipe.port), spool=tmp_path / "spool"
        )
        secret = (await asyncio.to_thread(cli, config, "keys", "create", "ci", "--budget", "5/day"))["secret"]
        with serving(tmp_path, config) as gateway:
            ids, _ = await timed(gateway, secret, 5)
            pipe.delay_s = 0.5
            more, slowest = await timed(gateway, secret, 40)
            ids += more
            assert slowest < ANSWER_S
            await until(gateway, degraded("slow"))
            assert await dependency(gateway, "database") == 0
            assert await gauge(gateway, "tieline_records_waiting") > 0
            pipe.delay_s = 0.0
            await until(gateway, well, within=30)
            assert await dependency(gateway, "database") == 1
            ids += await served(gateway, secret, 5)
            assert await asyncio.to_thread(gateway.stop) == 0
    assert sorted(written(url)) == sorted(ids)


@pytest.mark.services
async def test_a_silent_database_holds_up_neither_requests_nor_the_end(
    tmp_path: Path, postgres: Postgres, pipe: Pipe
) -> None:
    """Its connections stand and nothing comes back: no error ever says so."""
    url = postgres.new_database()
    async with SimulatorServer() as simulator:
        config = write_config(
            tmp_path, simulator.url, database=through(url, pipe.port), spool=tmp_path / "spool"
        )
        secret = (await asyncio.to_thread(cli, config, "keys", "create", "ci"))["secret"]
        with serving(tmp_path, config) as gateway:
            ids = await served(gateway, secret, 5)
            await until(gateway, well)
            pipe.silence()
            more, slowest = await timed(gateway, secret, 20)
            ids += more
            assert slowest < ANSWER_S
            await until(gateway, degraded("database"))
            await until(gateway, degraded("keys"))
            began = time.monotonic()
            await asyncio.to_thread(gateway.stop)
            assert time.monotonic() - began < 20
        pipe.let_flow()
        with serving(tmp_path, config) as again:
            assert await asyncio.to_thread(again.stop) == 0
    assert sorted(written(url)) == sorted(ids)


async def test_threads_that_wait_for_ever_hold_up_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing the database would end them, and comes last."""
    (tmp_path / "tieline.yaml").write_text("discover: false\nstore: {database: 'sqlite:///t.db', spool: s}\n")
    monkeypatch.chdir(tmp_path)
    answers = Event()

    def wait(*_: object) -> None:
        answers.wait()

    with ThreadPoolExecutor(2) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        gateway = Gateway("tieline.yaml", environ={})
        await gateway.start()
        monkeypatch.setattr(replicas, "leave", wait)
        for _ in range(2):
            threads.submit(wait)
        try:
            async with asyncio.timeout(30):
                await gateway.stop()
        finally:
            answers.set()


@pytest.mark.services
def test_workers_end_while_the_database_is_silent(tmp_path: Path, postgres: Postgres, pipe: Pipe) -> None:
    """The parent used to kill them while they still waited for it."""
    url = through(postgres.new_database(), pipe.port)
    (tmp_path / "tieline.yaml").write_text(
        f"discover: false\nserver: {{port: 0, drain_s: 0, open: true}}\nstore: {{database: '{url}'}}\n"
    )
    with running("serve", "--workers", "2", cwd=tmp_path) as server:
        pipe.silence()
        with pytest.raises(HTTPError):  # there is no provider, and that is a record too
            urlopen(f"{server.url}/v1/chat/completions", b"{}")
        server.signal(signal.SIGTERM)
        assert server.wait(60) == 0
    pipe.let_flow()


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$
"""
TRIGGER = "CREATE TRIGGER full_disk BEFORE INSERT ON records EXECUTE FUNCTION full_disk()"


@pytest.mark.services
@pytest.mark.parametrize("how", ["full", "read-only"])
async def test_a_database_that_takes_nothing(tmp_path: Path, postgres: Postgres, how: str) -> None:
    """PostgreSQL says what it says when its disk is full; or it became a standby."""
    url = postgres.new_database()
    name = sa.make_url(url).database
    spoil, mend = [FULL, TRIGGER], ["DROP TRIGGER full_disk ON records"]
    if how == "read-only":
        end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        spoil = [f"ALTER DATABASE {name} SET default_transaction_read_only = on", end]
        mend = [
            "SET default_transaction_read_only = off",
            f"ALTER DATABASE {name} RESET default_transaction_read_only",
            end,
        ]
    async with SimulatorServer() as simulator:
        config = write_config(tmp_path, simulator.url, database=url, spool=tmp_path / "spool")
        secret = cli(config, "keys", "create", "ci", "--budget", "5/day")["secret"]
        free = cli(config, "keys", "create", "free", "--rpm", "1000")["secret"]
        with serving(tmp_path, config) as gateway:
            ids = await served(gateway, secret, 5)
            await until(gateway, well)
            await asyncio.to_thread(execute, url, *spoil)
            more, slowest = await timed(gateway, secret, 20)
            ids += more
            assert slowest < ANSWER_S
            await until(gateway, degraded("database"))
            assert await dependency(gateway, "database") == 0
            gateway.kill()
        with serving(tmp_path, config) as again:
            # What the killed process spent is in its spool only: keys without a hard budget are served.
            status, refused, text = await asked(again, secret)
            assert status == 503
            assert "budget" in text
            ids += [refused, *await served(again, free, 3)]
            await until(again, degraded("hard budgets"))
            await asyncio.to_thread(execute, url, *mend)
            await until(again, well)
            ids += await served(again, secret, 3)
            assert (await ready(again))["recorder"]["lost"] == 0
            assert await asyncio.to_thread(again.stop) == 0
    assert sorted(written(url)) == sorted(ids)


async def test_the_disk_of_the_database_is_full(tmp_path: Path, small_disk: Path) -> None:
    url = f"sqlite:///{small_disk / 'tieline.db'}"
    async with SimulatorServer() as simulator:
        config = write_config(tmp_path, simulator.url, database=url, spool=tmp_path / "spool")
        secret = cli(config, "keys", "create", "ci", "--budget", "5/day")["secret"]
        with serving(tmp_path, config) as gateway:
            ids = await served(gateway, secret, 5)
            await until(gateway, well)
            ballast = fill(small_disk)
            more, slowest = await timed(gateway, secret, 200)
            ids += more
            assert slowest < ANSWER_S
            await until(gateway, degraded("database"))
            assert await dependency(gateway, "database") == 0
            ballast.unlink()
            await until(gateway, well)
            ids += await served(gateway, secret, 5)
            assert await asyncio.to_thread(gateway.stop) == 0
    assert sorted(written(url)) == sorted(ids)
    assert sqlite3.connect(small_disk / "tieline.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.services
async def test_behind_a_pooler_in_transaction_mode(tmp_path: Path, postgres: Postgres) -> None:
    """Each transaction may run in another session: nothing of one may be relied upon, nor asked for at the start."""
    direct = postgres.new_database()
    with pooled(postgres, direct) as url:
        async with SimulatorServer() as simulator:
            config = write_config(tmp_path, simulator.url, database=url, spool=tmp_path / "spool")
            secret = cli(config, "keys", "create", "ci")["secret"]
            with serving(tmp_path, config) as one, serving(tmp_path, config) as other:
                ids = []
                for _ in range(30):
                    ids += await served(one, secret, 1) + await served(other, secret, 1)
                    await asyncio.sleep(0.15)
                for gateway in (one, other):
                    await until(gateway, well)
                    assert (await ready(gateway))["recorder"]["last_error"] is None
                    assert await asyncio.to_thread(gateway.stop) == 0
    assert sorted(written(direct)) == sorted(ids)


def test_a_statement_that_takes_too_long_is_ended(postgres: Postgres) -> None:
    database = Database(postgres.new_database())
    database.open()
    with database.write() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "15s"
    with database.read() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "15s"
    with database.statements() as execute:
        assert execute("SHOW statement_timeout", ()).scalar_one() == "15s"
    database.close()


@pytest.mark.parametrize("how", ["moved", "replaced", "garbage"])
async def test_the_file_of_the_database_is_taken_away(tmp_path: Path, how: str) -> None:
    """SQLite goes on writing into a file that has no name any more, and all of it would be lost."""
    path, backup, aside = tmp_path / "tieline.db", tmp_path / "backup.db", tmp_path / "aside.db"
    url = f"sqlite:///{path}"
    async with SimulatorServer() as simulator:
        config = write_config(tmp_path, simulator.url, database=url, spool=tmp_path / "spool")
        secret = cli(config, "keys", "create", "ci", "--budget", "5/day")["secret"]
        with serving(tmp_path, config) as gateway:
            ids = await served(gateway, secret, 5)
            await until(gateway, well)
            with sqlite3.connect(path) as connection, sqlite3.connect(backup) as copy:
                connection.backup(copy)
            connection.close()
            copy.close()
            path.rename(aside)
            if how == "garbage":
                path.write_bytes(b"something else" * 1_000)
            if how == "replaced":
                backup.rename(path)
            else:
                ids += await served(gateway, secret, 5)
                await until(gateway, degraded("database"))
                assert await dependency(gateway, "database") == 0
                assert str(path) in gateway.output
                aside.rename(path)
            ids += await served(gateway, secret, 5)
            await until(gateway, well)
            other = cli(config, "keys", "create", "other")["secret"]
            await asyncio.sleep(2)
            ids += await served(gateway, other, 1)
            assert gateway.output.count("was replaced") == (how != "moved")
            assert await asyncio.to_thread(gateway.stop) == 0
    assert sorted(written(url)) == sorted(ids)
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_database_and_spool_are_on_one_disk_that_is_full(tmp_path: Path, small_disk: Path) -> None:
    """Then records live in memory only, which is told; with room again all of them are written."""
    url = f"sqlite:///{small_disk / 'tieline.db'}"
    async with SimulatorServer() as simulator:
        config = write_config(tmp_path, simulator.url, database=url, spool=small_disk / "spool")
        secret = cli(config, "keys", "create", "ci")["secret"]
        with serving(tmp_path, config) as gateway:
            ids = await served(gateway, secret, 5)
            await until(gateway, well)
            ballast = fill(small_disk)
            # Past the segment of 2 MB for which there was room.
            tags = {"tieline": {"tags": {f"t{number}": "x" * 190 for number in range(16)}}}
            failing = 0
            while failing < 3:  # the room of segments that are done with is used first
                done = await asyncio.gather(*(asked(gateway, secret, **tags) for _ in range(10)))
                assert {status for status, _, _ in done} == {200}, done[0][2]
                ids += [request_id for _, request_id, _ in done]
                failing = failing + 1 if degraded("spool: the disk")((await readiness(gateway))[1]) else 0
            assert await dependency(gateway, "spool") == 0
            await until(gateway, degraded("database"))
            assert await dependency(gateway, "database") == 0
            ids += await served(gateway, secret, 20)
            ballast.unlink()
            await until(gateway, lambda state: not degraded("database")(state), within=30)
            ids += await served(gateway, secret, 5)
            await until(gateway, well)
            assert await gauge(gateway, "tieline_records_lost") == 0
            assert await asyncio.to_thread(gateway.stop) == 0
    assert sorted(written(url)) == sorted(ids)


@pytest.mark.services
async def test_a_start_without_the_database(tmp_path: Path, own_postgres: Postgres) -> None:
    """Keys are those last known; what must be counted waits for the database, and says so; then everything is as if it
    had been there."""
    url = own_postgres.new_database()
    async with SimulatorServer() as simulator:
        config = write_config(tmp_path, simulator.url, database=url, spool=tmp_path / "spool")
        keys = ("keys", "create", "ci", "--budget", "0.0001/lifetime")
        secret = cli(config, *keys)["secret"]
        free = cli(config, "keys", "create", "free", "--rpm", "100")["secret"]
        with serving(tmp_path, config) as gateway:
            ids = await served(gateway, secret, 3)
            await asyncio.to_thread(own_postgres.stop)
            gateway.kill()
        with serving(tmp_path, config) as again:
            for given in (secret, "tl-unknown", ""):
                status, refused, text = await asked(again, given)
                assert status == 503, text
                assert "database_away" in text
                assert "could not be used" in text
                ids.append(refused)
            ids += await served(again, free, 3)
            status, state = await readiness(again)
            assert status == 200
            assert state["ready"]
            assert degraded("known from before")(state)
            assert await dependency(again, "database") == 0
            await asyncio.to_thread(own_postgres.start)
            await until(again, lambda state: state["ready"] and well(state))
            assert (await chat(again, ""))[0] == 401
            ids += await served(again, free, 1)
            # What the killed process had spent counts.
            statuses = [(await chat(again, secret))[0] for _ in range(12)]
            assert 1 <= statuses.count(200) < 12, statuses
            assert set(statuses) <= {200, 402, 429}
            assert await asyncio.to_thread(again.stop) == 0
    found = written(url)
    assert len(found) == len(set(found))
    assert set(ids) <= set(found)
    key = next(one for one in cli(config, "keys", "list") if one["name"] == "ci")
    assert parse_usd("0.00005") < parse_usd(key["spent_usd"]) <= parse_usd("0.0001")


@pytest.mark.services
async def test_an_open_gateway_starts_and_serves_without_the_database(
    tmp_path: Path, own_postgres: Postgres
) -> None:
    """Nobody needs a key here; records are spooled, over a kill as well, and written once."""
    url = own_postgres.new_database()
    async with SimulatorServer() as simulator:
        config = write_config(tmp_path, simulator.url, database=url, spool=tmp_path / "spool")
        tree = yaml.safe_load(config.read_text())
        tree["server"]["open"] = True
        config.write_text(yaml.safe_dump(tree))
        await asyncio.to_thread(own_postgres.stop)
        with serving(tmp_path, config) as gateway:
            assert "127.0.0.1" in gateway.output
            assert "Traceback" not in gateway.output
            ids = await served(gateway, "", 10)
            state = await ready(gateway)
            assert degraded("not reached")(state)
            assert (await asked(gateway, "tl-some"))[0] == 503
            run = {"tieline": {"run": "r", "run_budget_usd": "1"}}
            status, _, text = await asked(gateway, "", **run)
            assert status == 503
            assert "run" in text
            gateway.kill()
        with serving(tmp_path, config) as again:
            ids += await served(again, "", 10)
            await asyncio.to_thread(own_postgres.start)
            await until(again, well)
            assert (await asked(again, "", **run))[0] == 200
            assert (await asked(again, "tl-some"))[0] == 401
            assert await asyncio.to_thread(again.stop) == 0
    found = written(url)
    assert len(found) == len(set(found))
    assert set(ids) <= set(found)


@pytest.mark.services
async def test_a_start_that_a_person_has_to_mend_is_refused(tmp_path: Path, postgres: Postgres) -> None:
    """The server answers and says no: waiting would not help."""
    url = postgres.new_database().rpartition("/")[0] + "/nowhere"
    config = write_config(tmp_path, "http://127.0.0.1:9", database=url, spool=tmp_path / "spool")
    with pytest.raises(AssertionError, match="does not exist"), serving(tmp_path, config):
        pass
