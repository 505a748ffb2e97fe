"""A database is made, migrated, shared by starters, and refused with the fix when it cannot be used."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier, Semaphore, Thread
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tests.pipe import Pipe
from tests.services import Postgres
from tieline.store import schema
from tieline.store.database import Database, Unreachable, database_away
from tieline.store.shared import RedisShared
from tieline.store.tables import metadata
from tieline.types.errors import ConfigError


def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tieline.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


def _plain(index: Mapping[str, Any]) -> str:
    """Conditions of partial indexes as text: each inspection makes new objects of them."""
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return repr({**index, "dialect_options": options})


def described(database: Database) -> dict[str, object]:
    """Everything the database says about its schema."""
    with database.read() as connection:
        inspector = sa.inspect(connection)
        return {
            table: (
                [
                    (column["name"], str(column["type"]), column["nullable"])
                    for column in inspector.get_columns(table)
                ],
                inspector.get_pk_constraint(table),
                sorted(map(_plain, inspector.get_indexes(table))),
                sorted(map(repr, inspector.get_unique_constraints(table))),
                sorted(map(repr, inspector.get_foreign_keys(table))),
            )
            for table in sorted(inspector.get_table_names())
        }


def test_versions_are_the_scripts() -> None:
    config = Config()
    config.set_main_option("script_location", "tieline.store:migrations")
    scripts = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(scripts)) == schema.VERSIONS


def test_a_new_database_equals_a_migrated_one(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    made = Database(url)
    made.open()
    other = f"sqlite:///{tmp_path / 'other.db'}"
    if not made.is_sqlite:
        other = request.getfixturevalue("postgres").new_database()
    migrated = Database(other)
    with migrated.write() as connection:
        schema.upgrade(connection)
    assert described(made) == described(migrated)
    with made.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    with migrated.read() as connection:
        assert schema.version_of(connection) == schema.HEAD
    made.close()
    migrated.close()


@pytest.mark.parametrize("version", schema.VERSIONS)
def test_every_released_schema_is_upgraded_with_what_is_in_it(url: str, version: str) -> None:
    """By several starters at once, as when replicas of a new version start together."""
    old = Database(url)
    with old.write() as connection:
        schema.upgrade(connection, version)
        values = {"at": 1, "actor": "me", "digest": "d", "text": "models: {}"}
        connection.execute(
            sa.text(
                "INSERT INTO config_history (at_ms, actor, digest, text) VALUES (:at, :actor, :digest, :text)"
            ),
            values,
        )
    old.close()

    def start(_: int) -> tuple[str | None, list[str]]:
        database = Database(url)
        database.open()
        with database.read() as connection:
            texts = [row.text for row in connection.execute(metadata.tables["config_history"].select())]
            found = schema.version_of(connection)
        database.close()
        return found, texts

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, range(4))) == [(schema.HEAD, ["models: {}"])] * 4


def test_opening_again_changes_nothing(url: str) -> None:
    for _ in range(2):
        database = Database(url)
        database.open()
        database.close()


def test_starters_at_the_same_time(url: str) -> None:
    def start(_: int) -> str | None:
        database = Database(url)
        database.open()
        with database.read() as connection:
            version = schema.version_of(connection)
        database.close()
        return version

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(start, range(6))) == {schema.HEAD}


def test_starters_on_a_new_file_wait_for_each_other(tmp_path: Path) -> None:
    """Not for the lock alone that SQLite waits for by itself: this failed in one of 40 rounds."""

    def start(url: str) -> None:
        barrier.wait()
        database = Database(url)
        database.open()
        database.close()

    with ThreadPoolExecutor(6) as pool:
        for number in range(80):
            barrier = Barrier(6)
            list(pool.map(start, [f"sqlite:///{tmp_path}/{number}.db"] * 6))


def test_starting_processes_at_the_same_time(tmp_path: Path) -> None:
    program = "import sys; from tieline.store.database import Database; Database(sys.argv[1]).open()"
    environment = {**os.environ, "PYTHONPATH": "src"}
    started = [
        subprocess.Popen([sys.executable, "-c", program, sqlite_url(tmp_path)], env=environment)
        for _ in range(3)
    ]
    assert [process.wait(60) for process in started] == [0, 0, 0]


def test_the_usual_start_imports_no_alembic(tmp_path: Path) -> None:
    program = (
        "import sys; from tieline.store.database import Database; Database(sys.argv[1]).open();"
        "assert 'alembic' not in sys.modules"
    )
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", program, sqlite_url(tmp_path)],
            env={**os.environ, "PYTHONPATH": "src"},
            check=True,
        )


def test_a_database_of_a_newer_version(url: str) -> None:
    database = Database(url)
    database.open()
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match=r"schema 9999.*newer Tieline.*Install"):
        database.open()
    database.close()


def test_a_failed_open_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tieline.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE records (x)")
    connection.close()
    database = Database(f"sqlite:///{path}")
    with pytest.raises(ConfigError, match="not Tieline's"):
        database.open()
    with database.read() as reader:
        assert sa.inspect(reader).get_table_names() == ["records"]
    database.close()


def test_what_cannot_be_used_says_the_fix(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at" * 10)
    (tmp_path / "folder.db").mkdir()
    for url, words in {
        f"sqlite:///{tmp_path}/text.db": "not a database",
        f"sqlite:///{tmp_path}/folder.db": "unable to open",
        f"sqlite:///{tmp_path}/nowhere/tieline.db": "folder of the database does not exist",
    }.items():
        database = Database(url)
        with pytest.raises(ConfigError, match=words) as caught:
            database.open()
        database.close()
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("store.database: ")
        assert caught.value.hint
    for url in (
        "mysql://u:secretpw@x",
        "tieline.db",
        "",
        "sqlite://secretpw/x",
        "sqlite+aiosqlite:///x",
        "sqlite:///x?timeout=secretpw",
        "postgresql://u@h:secretpw/z",
        "postgresql://u:secretpw@[::1/z",
        "postgresql://u:secretpw@h:99999/z",
        "postgresql://u:secretpw@h/z?sslmod=require",
    ):
        with pytest.raises(ConfigError, match="not the URL") as refused:
            Database(url)
        assert "secretpw" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pw@h:secretpw/0",
        "redis://:secretpw@h:99999/0",
        "redis://[::secretpw",
        "redis://:pw@h:1/secretpw",
        "redis://h/1/2",
        "rediss://:secretpw@h/-1",
        "redis://:123/secretpw@h/0",
        "redis://h:1/0?db=secretpw",
        "redis://h:1/0?secretpw=1",
        "redis://h h:1/0",
        "unix://secretpw",
    ],
)
def test_a_redis_that_cannot_be_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(ConfigError, match="not the URL of a Redis") as refused:
        RedisShared(url)
    assert "secretpw" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:1/",
        "redis://:pw@h:1/15",
        "rediss://u:pw@[::1]:1/0?ssl_cert_reqs=none",
        "redis://h?db=3&health_check_interval=5",
        "unix:///run/redis.sock?db=2",
        "postgresql://",
        "postgresql:///z?host=/run/postgresql",
        "postgresql://u:pw@h:1/z?sslmode=require&application_name=t&prepare_threshold=0",
        "postgresql+psycopg://u@/z?host=h1:1&host=h2:2&target_session_attrs=read-write",
    ],
)
def test_urls_that_can_be(url: str) -> None:
    made = Database(url) if url.startswith("postgresql") else RedisShared(url)
    assert made


def test_the_log_of_sqlite_shrinks_after_a_long_look(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path))
    database.open()
    log, size = tmp_path / "tieline.db-wal", 1024 * 1024

    def write(count: int) -> None:
        for _ in range(count):
            with database.write() as connection:
                connection.exec_driver_sql(
                    "INSERT OR REPLACE INTO meta (name, value) VALUES ('x', ?)", ("x" * size,)
                )

    with database.read() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM meta").scalar_one()
        write(80)
        assert log.stat().st_size > 70 * size
    write(3)
    assert log.stat().st_size <= 65 * size
    database.close()


def test_a_file_that_another_holds_is_to_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tieline.store.database._BUSY_TIMEOUT_MS", 100)
    path = tmp_path / "tieline.db"
    Database(f"sqlite:///{path}").open()
    holder = sqlite3.connect(path)
    holder.execute("BEGIN EXCLUSIVE")
    database = Database(f"sqlite:///{path}")
    with pytest.raises(Unreachable) as caught:
        database.open()
    database.close()
    holder.close()
    assert "another process holds the database file" in str(caught.value)
    assert "Try again" in str(caught.value)
    assert "none" not in str(caught.value)


def test_an_absent_server_is_one_line_without_the_password() -> None:
    database = Database("postgresql://tieline:hunter22@127.0.0.1:1/x")
    with pytest.raises(ConfigError, match=r"cannot use PostgreSQL at 127\.0\.0\.1:1") as caught:
        database.open()
    assert "hunter22" not in f"{caught.value} {database!r}"
    assert "\n" not in str(caught.value)
    database.close()


@pytest.mark.services
def test_closing_ends_what_waits_for_a_silent_server(postgres: Postgres) -> None:
    """More threads than the pool has connections: those under way, and those that wait for a connection."""
    with Pipe(postgres.port) as pipe:
        url = sa.make_url(postgres.new_database()).set(port=pipe.port)
        database = Database(url.render_as_string(hide_password=False))
        database.open()
        begun, ended = Semaphore(0), Barrier(11)
        errors: list[Exception] = []

        def read() -> None:
            begun.release()
            try:
                with database.read() as connection:
                    connection.execute(sa.text("SELECT 1"))
            except Exception as error:
                errors.append(error)
            ended.wait(30)

        pipe.silence()
        for _ in range(10):
            Thread(target=read, daemon=True).start()
        for _ in range(10):
            assert begun.acquire(timeout=10)
        time.sleep(0.5)
        assert not errors
        database.close()
        ended.wait(15)
        assert len(errors) == 10
        assert all(map(database_away, errors)), errors
        pipe.let_flow()


@pytest.mark.services
def test_closing_ends_a_first_connection_that_is_still_set_up(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLAlchemy asks the first one for the server's version before it shows it to anybody."""
    import psycopg

    made = Semaphore(0)
    errors: list[Exception] = []

    def connect(*args: Any, **options: Any) -> Any:
        connection = real(*args, **options)
        pipe.silence()
        while pipe.flowing.is_set():
            time.sleep(0.01)
        made.release()
        return connection

    def open_it() -> None:
        try:
            database.open()
        except ConfigError as error:
            errors.append(error)

    real = psycopg.connect
    monkeypatch.setattr(psycopg, "connect", connect)
    with Pipe(postgres.port) as pipe:
        url = sa.make_url(postgres.new_database()).set(port=pipe.port)
        database = Database(url.render_as_string(hide_password=False))
        opening = Thread(target=open_it, daemon=True)
        opening.start()
        assert made.acquire(timeout=15)
        database.close()
        opening.join(15)
        assert not opening.is_alive()
        assert len(errors) == 1
        pipe.let_flow()


def test_a_program_may_change_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    database = Database("sqlite:///tieline.db")
    database.open()
    monkeypatch.chdir("/")
    put(database, "a")
    database.close()
    assert names_in(tmp_path / "tieline.db") >= {"a"}


@pytest.mark.parametrize("linked", [False, True])
def test_a_backup_put_back_has_nothing_of_what_it_replaces(tmp_path: Path, linked: bool) -> None:
    """What stood in the log of the old file goes into that, not into the new one; of several processes as well."""
    path, backup, aside = tmp_path / "tieline.db", tmp_path / "backup.db", tmp_path / "aside.db"
    other = Database(f"sqlite:///{backup}")
    other.open()
    put(other, "kept")
    other.close()
    named = path
    if linked:
        (tmp_path / "links").mkdir()
        named = tmp_path / "links" / "tieline.db"
        named.symlink_to(path)
    one, two = (Database(f"sqlite:///{named}") for _ in range(2))
    one.open()
    two.open()
    put(one, "old")
    os.link(path, aside)
    backup.replace(path)
    put(one, "one")
    put(two, "two")
    put(one, "three")
    one.close()
    two.close()
    assert names_in(path) >= {"kept", "one", "two", "three"}
    assert "old" not in names_in(path)
    assert "old" in names_in(aside)


def put(database: Database, name: str) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO meta (name, value) VALUES (?, '')", (name,))


def names_in(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {name for (name,) in connection.execute("SELECT name FROM meta")}
