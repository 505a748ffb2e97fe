"""A database of every released version is brought to the present one with all it holds, and goes on from there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any, get_args

import msgspec
import pytest
import sqlalchemy as sa
from msgspec.structs import astuple

from tests.record.samples import attempt, record
from tests.services import Postgres
from tieline.record.chain import GENESIS, link, prune, verify
from tieline.record.recorder import Recorder
from tieline.record.rows import Charges
from tieline.store import queries, schema
from tieline.store.database import Database
from tieline.store.tables import entries, records
from tieline.types.record import Record, as_dict
from tieline.types.usage import Usage

DAY = 86_400_000
MADE = [
    record(at_ms=DAY, tags={"team": "x"}, session="s", run="r", decision={"model": "gpt-5", "tried": [1]}),
    record(at_ms=DAY + 1, key_id=None, project=None, wasted=3),
    record(
        at_ms=2 * DAY,
        cost=None,
        charged=None,
        wasted=None,
        attempts=[attempt(1, provider="azure", outcome="stall", cost=None, usage=None), attempt(2)],
    ),
    record(at_ms=3 * DAY, status=429, outcome="refused", attempts=[], usage=None, provider=None, cost=0),
    record(
        at_ms=3 * DAY + 1,
        status=502,
        outcome="server_error",
        provider=None,
        model=None,
        deployment=None,
        attempts=[attempt(1, outcome="server_error", usage=None, cost=0)],
        usage=None,
        cost=0,
        charged=0,
    ),
    record(at_ms=3 * DAY + 2, attempts=[attempt(usage=Usage(input_tokens=1))]),
    record(at_ms=3 * DAY + 3, model_asked="nul\0", error_message="\0"),
]
_NULLABLE_TOKENS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)


def tokens(usage: Usage | None) -> dict[str, int | None]:
    return {name: getattr(usage, name, None) for name in _NULLABLE_TOKENS}


def rows_0001(
    one: Record, seq: int, value: bytes, body: bytes
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What version 0001 wrote of a record."""
    names = (
        "id at_ms operation dialect key_id project session run profile intent provider model deployment status "
        "outcome error_code cost wasted charged cache first_token_ms total_ms overhead_ms"
    )
    row = {
        **{name: getattr(one, name) for name in names.split()},
        **tokens(one.usage),
        "writer": "w_1",
        "seq": seq,
        "hash": value,
        "model_asked": one.model_asked.replace("\0", "\ufffd"),
        "stream": int(one.stream),
        "end_user": one.user,
        "attempts": len(one.attempts),
        "body": body,
    }
    names = (
        "number provider model deployment credential reason outcome status started_ms first_token_ms ended_ms "
        "cost upstream_id"
    )
    shared = {"record_id": one.id, "at_ms": one.at_ms, "key_id": one.key_id, "project": one.project}
    return row, [
        {
            **{name: getattr(tried, name) for name in names.split()},
            **shared,
            **tokens(tried.usage),
            "estimated": 0,
        }
        for tried in one.attempts
    ]


def insert(connection: sa.Connection, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join(f":{name}" for name in row)
    connection.execute(sa.text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"), row)


def fill_0001(connection: sa.Connection) -> None:
    value = GENESIS
    charges = Charges()
    for seq, one in enumerate(MADE, 1):
        charges.add(astuple(one))
        body = msgspec.msgpack.encode(as_dict(one))
        value = link(value, body)
        row, lines = rows_0001(one, seq, value, body)
        insert(connection, "records", row)
        for line in lines:
            insert(connection, "entries", line)
        for name, tag in one.tags.items():
            insert(connection, "record_tags", {"record_id": one.id, "name": name, "value": tag})
    head = {"id": "w_1", "seq": len(MADE), "hash": value, "base_seq": 0, "base_hash": GENESIS, "at_ms": 1}
    insert(connection, "writers", head)
    sums = iter(charges.values())
    for row in zip(*[sums] * 6, strict=True):
        names = ("scope", "slot", "micros", "rest", "requests", "unknown")
        insert(connection, "spend", {"writer": "w_1", **dict(zip(names, row, strict=True))})


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tieline.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(params=["0001", "0002"])
def database(url: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """Of a version whose records were as those of 0001, opened by the present one."""
    opened = Database(url)
    with opened.write() as connection:
        schema.upgrade(connection, request.param)
        fill_0001(connection)
    opened.open()
    yield opened
    opened.close()


def count(database: Database, table: sa.Table) -> int:
    with database.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_records_of_0001_are_all_there_and_verify(database: Database) -> None:
    assert sorted(queries.logs(database), key=lambda one: one.id) == MADE
    assert queries.show(database, MADE[2].id) == MADE[2]
    verdict = verify(database)
    assert (verdict.problems, verdict.records) == ([], len(MADE))
    assert count(database, entries) == 2 + 1 + 1, "of what failed over, what failed, and what differs"


@pytest.mark.parametrize("by", get_args(queries.By))
def test_sums_of_0001_are_those_of_a_new_database(database: Database, by: queries.By, tmp_path: Path) -> None:
    new = Database(f"sqlite:///{tmp_path / 'new.db'}")
    new.open()
    recorder = Recorder(new)
    recorder.start()
    for one in MADE:
        recorder.put(one)
    assert recorder.close()
    tag = "team" if by == "tag" else None
    for filters in (queries.Filters(), queries.Filters(key_id="key_1"), queries.Filters(outcome="failed")):
        expected = queries.spend(new, by=by, filters=filters, tag=tag)
        assert queries.spend(database, by=by, filters=filters, tag=tag) == expected
    new.close()


def test_it_is_told(url: str, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        opened = Database(url)
        if not caplog.messages:
            with opened.write() as connection:
                schema.upgrade(connection, "0002")
                fill_0001(connection)
        opened.open()
        opened.close()
        told, done = [line for line in caplog.messages if "schema" in line]
    assert told.startswith(
        f"the database is brought from schema 0002 to {schema.HEAD}, once: for its 7 records"
    )
    assert done == f"the database has schema {schema.HEAD}"


def test_it_may_take_longer_than_any_other_statement(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_database()
    old = Database(url)
    with old.write() as connection:
        schema.upgrade(connection, "0002")
        fill_0001(connection)
        for text in (
            "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); END'",
            "CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION slow()",
        ):
            connection.execute(sa.text(text))
    old.close()
    monkeypatch.setattr("tieline.store.database._STATEMENT_TIMEOUT_MS", 500)
    database = Database(url)
    database.open()
    with database.read() as connection:
        assert connection.execute(sa.text("SHOW statement_timeout")).scalar() == "500ms"
    assert sorted(queries.logs(database), key=lambda one: one.id) == MADE
    database.close()


def test_to_count_the_records_may_take_longer_as_well(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fail at each start, and the migration never come."""
    url = postgres.new_database()
    old = Database(url)
    with old.write() as connection:
        schema.upgrade(connection, "0002")
    monkeypatch.setattr("tieline.store.database._STATEMENT_TIMEOUT_MS", 500)
    locked, database = Event(), Database(url)

    def hold() -> None:
        with old.write() as connection:
            connection.execute(sa.text("LOCK TABLE records"))
            locked.set()
            time.sleep(1)

    with ThreadPoolExecutor() as pool:
        held = pool.submit(hold)
        assert locked.wait(5)
        database.open()
        held.result()
    old.close()
    database.close()


def test_edits_of_what_0001_wrote_show(database: Database) -> None:
    with database.write() as connection:
        connection.execute(sa.update(records).where(records.c.seq == 2).values(cost=0))
        connection.execute(sa.update(entries).where(entries.c.record_id == MADE[2].id).values(cost=0))
    assert verify(database).problems == [
        f"{MADE[1].id}: changed columns: cost",
        f"{MADE[2].id}: changed entries",
    ]


def test_a_chain_of_0001_goes_on_and_is_pruned(database: Database, tmp_path: Path) -> None:
    slot = tmp_path / "spool" / "0"
    slot.mkdir(parents=True)
    (slot / "writer").write_text("w_1")
    recorder = Recorder(database, spool=tmp_path / "spool")
    recorder.start()
    recorder.put(record(at_ms=time.time_ns() // 10**6))
    assert recorder.close()
    assert (verify(database).problems, verify(database).writers) == ([], 1)
    assert prune(database, 4 * DAY) == len(MADE)
    assert verify(database).ok
    assert (count(database, records), count(database, entries)) == (1, 0)


def test_a_journal_that_0001_left_is_taken_over(database: Database, tmp_path: Path) -> None:
    """A process of the version before was killed, then Tieline was upgraded."""
    spool = tmp_path / "spool"
    left = Recorder(database, spool=spool)
    one = record()
    assert left._journal is not None
    left._journal.append(msgspec.msgpack.encode(as_dict(one)))
    left._journal.slot.release()
    recorder = Recorder(database, spool=spool)
    recorder.start()
    assert recorder.recovered.wait(20)
    assert recorder.close()
    assert queries.show(database, one.id) == one
    assert verify(database).ok


def test_each_index_is_used(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL reads so few rows without one")
    for filters, index in (
        (queries.Filters(key_id="key_1"), "ix_records_key_id_at_ms"),
        (queries.Filters(project="prj_1", since_ms=DAY), "ix_records_project_at_ms"),
        (queries.Filters(), "ix_records_at_ms"),
    ):
        ordered = sa.select(records.c.body).order_by(records.c.at_ms.desc(), records.c.id.desc())
        query = queries._filtered(ordered, filters)
        with database.read() as connection:
            text = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
            plan = str(connection.execute(sa.text(f"EXPLAIN QUERY PLAN {text}")).all())
        assert index in plan
