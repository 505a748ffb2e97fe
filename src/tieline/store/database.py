"""One database, SQLite or PostgreSQL: opened, brought to the present schema, handed out as connections.

Drivers are synchronous (docs/decisions/0002): call from a thread, not from the event loop.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, finalize

from tieline.store.schema import prepare
from tieline.types.errors import ConfigError, DatabaseAway

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

log = logging.getLogger("tieline")

_LOCK = 0x7469656C696E65
"""PostgreSQL advisory lock under which the schema changes: "tieline" as a number."""
Execute = Callable[[str, Any], Any]
_BUSY_TIMEOUT_MS = 5_000
_LOG_BYTES = 64 * 1024 * 1024
_NO_FILE = (0, 0)
"""In place of one that was replaced by what cannot be used."""
_STATEMENT_TIMEOUT_MS = 15_000
"""A statement that takes longer fails, and the records stay in the journal until the database recovers."""
_CONNECT_TIMEOUT_S = 5
_MAX_PORT = 65_535
_SILENT_S = 20
"""A connection whose other end acknowledges nothing for this long is given up."""
_DRIVERS_OWN = frozenset({"autocommit", "context", "cursor_factory", "prepare_threshold", "row_factory"})
"""What psycopg takes itself; every other parameter is libpq's."""
_WRITING = {"tieline_begin": "BEGIN IMMEDIATE"}
_READING = {"isolation_level": "REPEATABLE READ"}
"""Of PostgreSQL, whose default shows each query another moment. SQLite's transactions are one moment anyway."""


_HELD_SQLITE = ("locked", "busy")
_TRANSIENT_SQLITE = (*_HELD_SQLITE, "full", "disk I/O")
_REFUSED = re.compile(r"FATAL:|password|does not exist|pg_hba|no pg_hba|SSL|invalid \S+ value")
_STARTING = re.compile(r"starting up|shutting down|recovery|too many|connection slots|terminat")
"""Of what a server says instead of letting us in, these pass by themselves; the rest is for a person to put right."""


class Unreachable(ConfigError):
    """The database does not answer now: it may come by itself, and what does not need it may be served until then."""


class Database:
    """``url`` is the setting ``store.database``. ``open()`` before use.

    After an ``open`` that ended with Unreachable every use raises DatabaseAway until one succeeds: what is written to
    a schema that was not looked at could be lost.
    """

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine: Engine = _engine(self.url, self.is_sqlite)
        self._lines = None if self.is_sqlite else _Lines(self.engine)
        self.is_away = False
        self._at = self.path.absolute() if self.path else None
        """As SQLAlchemy takes it: a program may change its folder."""
        self._file: tuple[int, int] | None = None
        """Which one was opened, for SQLite."""
        self._log: tuple[int, int] | None = None
        """The one beside it that SQLite writes first."""
        self._told = ""
        self._changing = threading.Lock()

    def __repr__(self) -> str:
        return f"<Database {self.url.render_as_string(hide_password=True)}>"

    def open(self) -> None:
        """Connects and brings the schema up to date; several replicas may do so at once. Raises ConfigError, and
        Unreachable where waiting may help."""
        import sqlalchemy as sa

        try:
            if self.is_sqlite:
                self._check_folder()
            with self._transaction(_WRITING) as connection:
                if not self.is_sqlite:
                    connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                prepare(connection)
        except (sa.exc.DBAPIError, sqlite3.Error, OSError) as error:
            # Not chained: the driver's frames hold the password, and crash reporters show frames' variables.
            explained = self._explained(error)
            self.is_away = self.is_away or isinstance(explained, Unreachable)
            raise explained from None
        self.is_away = False
        self._file, self._log = _identity(self._at), _identity(self._beside("-wal"))

    def close(self) -> None:
        """Ends at once what other threads still wait for: they get an error, and their transactions are rolled back."""
        if self._lines is not None:
            self._lines.cut()
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view for several queries."""
        self._check_opened()
        with self._transaction({} if self.is_sqlite else _READING) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back on an exception. SQLite: takes the write lock at once,
        since a transaction that reads first and writes later would fail when another wrote in between."""
        self._check_opened()
        with self._transaction(_WRITING) as connection:
            yield connection

    @contextmanager
    def statements(self) -> Iterator[Execute]:
        """As ``write``, for statements as text: the driver's ``execute``.

        SQLite's is its own, without SQLAlchemy's frame, which takes 0.5 ms for a transaction and 40 us for a statement.
        """
        self._check_opened()
        if not self.is_sqlite:
            with self._transaction(_WRITING) as connection:
                yield connection.exec_driver_sql
            return
        pooled = self.engine.raw_connection()
        try:
            sqlite: Any = pooled.driver_connection
            sqlite.execute("BEGIN IMMEDIATE")
            try:
                yield sqlite.execute
            except BaseException:
                sqlite.rollback()
                raise
            sqlite.commit()
        finally:
            pooled.close()

    @contextmanager
    def _transaction(self, options: Mapping[str, Any]) -> Iterator[Connection]:
        with self.engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    def _check_opened(self) -> None:
        if self.is_away:
            raise DatabaseAway("The database has not answered since the start.", retry_after_s=5.0)
        if self._file is not None and _identity(self._at) != self._file:
            self._find_file()

    def _find_file(self) -> None:
        """SQLite would go on in a file that was deleted or replaced, and all of it would be lost with the process."""
        with self._changing:
            found = _identity(self._at)
            if found is None:
                self._tell(
                    f"the database file {self.path} is gone: put it back, or start again for a new one"
                )
                raise DatabaseAway("The database file is gone.", retry_after_s=5.0)
            if found != self._file:
                known = self._file != _NO_FILE
                self._finish_log()
                self.engine.dispose()
                try:
                    self.open()
                except ConfigError as error:
                    self.is_away = False
                    self._file, self._log = _NO_FILE, None
                    self._tell(f"the database file was replaced: {error}")
                    raise DatabaseAway(
                        "The database file was replaced by one that cannot be used.", retry_after_s=5.0
                    ) from None
                news = "was replaced; the new one is used" if known else "can be used again"
                log.warning("the database file %s %s", self.path, news)
            self._told = ""

    def _finish_log(self) -> None:
        """What it holds goes into the old file, and it goes itself: SQLite would leave it, and read it into the new one."""
        import fcntl  # where a file that is open can be replaced

        written, shared = self._beside("-wal"), self._beside("-shm")
        assert written
        assert shared
        folder = os.open(written.parent, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(folder, fcntl.LOCK_EX)
            if self._log is None or _identity(written) != self._log:
                return  # another process was first
            if not self._is_written_out():
                self._tell(
                    "the database file was replaced, and what the log of the old one holds is not written yet"
                )
                raise DatabaseAway("The database file was replaced.", retry_after_s=5.0)
            written.unlink(missing_ok=True)
            shared.unlink(missing_ok=True)
        finally:
            os.close(folder)

    def _is_written_out(self) -> bool:
        """Asks a connection to the old file: a new one would open the new file."""
        if not self.engine.pool.checkedin():  # type: ignore[attr-defined]
            return False
        pooled = self.engine.raw_connection()
        try:
            sqlite: Any = pooled.driver_connection
            busy = sqlite.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error:
            return False
        finally:
            pooled.close()
        return not busy

    def _beside(self, ending: str) -> Path | None:
        """Of a link SQLite takes what it leads to."""
        return Path(os.path.realpath(self._at) + ending) if self._at else None

    def _tell(self, trouble: str) -> None:
        if trouble != self._told:
            log.error("%s", trouble)
        self._told = trouble

    @property
    def path(self) -> Path | None:
        """The file, for SQLite that has one."""
        name = self.url.database
        return Path(name) if self.is_sqlite and name and name != ":memory:" else None

    def _check_folder(self) -> None:
        if self.path and not self.path.parent.is_dir():
            raise ConfigError(
                f"the folder of the database does not exist: {self.path.parent}",
                place="store.database",
                hint="Create it, or name another path.",
            )

    def _explained(self, error: Exception) -> ConfigError:
        text = str(getattr(error, "orig", None) or error).strip()
        reason = text.splitlines()[0]
        if self.is_sqlite:
            message, hint = (
                f"cannot use the database file {self.path}: {reason}.",
                "Name a path that can be written",
            )
            if any(word in reason for word in _HELD_SQLITE):
                return Unreachable(
                    f"another process holds the database file {self.path}: {reason}.",
                    place="store.database",
                    hint="Try again once it has let go of it.",
                )
            if "not a database" in reason:
                hint = "Name another path: this file is something else"
        else:
            place = f"{self.url.host}:{self.url.port or 5432}"
            message, hint = f"cannot use PostgreSQL at {place}: {reason}.", "Start it, or correct the URL"
        kind = Unreachable if self._may_pass(error, text) else ConfigError
        return kind(message, place="store.database", hint=f"{hint}; `store.database: none` keeps nothing.")

    def _may_pass(self, error: Exception, text: str) -> bool:
        """By its text: neither driver gives a code for a connection that was not made."""
        import sqlalchemy as sa

        if self.is_sqlite:
            return any(word in text for word in _TRANSIENT_SQLITE)
        if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.InternalError):
            return bool(_STARTING.search(text)) or not _REFUSED.search(text)
        return isinstance(error, OSError)


def _identity(path: Path | None) -> tuple[int, int] | None:
    """None where there is no file."""
    try:
        found = os.stat(path) if path is not None else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None


def database_away(error: Exception) -> bool:
    """Whether ``error``, raised by any use of a database, says that it does not answer (now)."""
    from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError, TimeoutError

    if isinstance(error, IntegrityError | ProgrammingError):
        return False
    return isinstance(error, Unreachable | DatabaseAway | DBAPIError | TimeoutError | OSError)


def noted(connection: Connection, name: str) -> str | None:
    """A value of the table ``meta``; None for one that is not there.

    Gateways ask every second, and SQLAlchemy takes 0.12 ms to build such a statement.
    """
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    row = connection.exec_driver_sql(f"SELECT value FROM meta WHERE name = {mark}", (name,)).first()  # noqa: S608
    return str(row[0]) if row else None


def _parse(url: str) -> URL:
    """Raises ConfigError, which is not chained: what SQLAlchemy says may show a part of the URL."""
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
    except ValueError:
        raise _bad_url("its port is not a number") from None
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError):
        raise _bad_url() from None
    if (parsed.port or 0) > _MAX_PORT:
        raise _bad_url(f"its port is above {_MAX_PORT}")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        return parsed
    raise _bad_url()


def _bad_url(why: str = "") -> ConfigError:
    return ConfigError(
        f"not the URL of a database that Tieline can use{': ' if why else ''}{why}.",
        place="store.database",
        hint="Use sqlite:///tieline.db, postgresql://user:password@host/name, or none.",
    )


def _engine(url: URL, is_sqlite: bool) -> Engine:
    import sqlalchemy as sa

    if is_sqlite:
        try:
            engine = sa.create_engine(url)
        except (sa.exc.ArgumentError, ValueError):  # a host, a parameter that means nothing
            raise _bad_url() from None
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    # It warns about every connection that breaks in a batch; the recorder's health says so already.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    try:
        engine = sa.create_engine(
            url,
            pool_size=4,
            max_overflow=4,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": _CONNECT_TIMEOUT_S,
                "tcp_user_timeout": _SILENT_S * 1_000,
                "keepalives_idle": _SILENT_S // 2,
                "keepalives_interval": 3,
                "keepalives_count": 3,
                # A pooler (PgBouncer) gives each transaction another session, which does not know them.
                "prepare_threshold": None,
            },
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            "PostgreSQL needs the package psycopg.",
            place="store.database",
            hint='pip install "tieline[postgres]"',
        ) from error
    _check_parameters(engine, url)
    sa.event.listen(engine, "begin", _begin_postgres)
    return engine


def _check_parameters(engine: Engine, url: URL) -> None:
    """The driver would name one that it does not know at the first connection only."""
    import psycopg
    from psycopg.conninfo import make_conninfo

    _, given = engine.dialect.create_connect_args(url)
    try:
        make_conninfo(**{name: value for name, value in given.items() if name not in _DRIVERS_OWN})
    except psycopg.Error:
        raise _bad_url("PostgreSQL does not know one of its parameters") from None


class _Lines:
    """What leads to PostgreSQL: ``cut()``, and nothing waits for it any more.

    A server, or a proxy before it, that acknowledges and never answers holds a thread for ever, and an interpreter does
    not end before its threads. A driver's connection must not be closed under a thread that uses it; its socket may be
    shut down. Each is held by a descriptor of our own, as the driver's may be another file by then.
    """

    def __init__(self, engine: Engine) -> None:
        import sqlalchemy as sa

        self._sockets: WeakKeyDictionary[Any, socket.socket] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._is_cut = False
        sa.event.listen(engine, "do_connect", self._check)
        # Before SQLAlchemy's own, which ask the server; nobody is told when they fail.
        sa.event.listen(engine, "connect", self._hold, insert=True)
        sa.event.listen(engine, "close", self._let_go)

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            for held in self._sockets.values():
                _shut_down(held)

    def _check(self, *_: Any) -> None:
        if self._is_cut:
            raise DatabaseAway("The database is closed.", retry_after_s=5.0)

    def _hold(self, connection: Any, _record: Any) -> None:
        held = socket.socket(fileno=os.dup(connection.fileno()))
        finalize(connection, held.close)
        with self._lock:
            self._sockets[connection] = held
            if self._is_cut:
                _shut_down(held)

    def _let_go(self, connection: Any, _record: Any) -> None:
        with self._lock:
            held = self._sockets.pop(connection, None)
            if held is not None:
                held.close()


def _shut_down(held: socket.socket) -> None:
    with suppress(OSError):  # its other end was faster
        held.shutdown(socket.SHUT_RDWR)


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # Transactions are begun by us (_begin_sqlite); Python's own way would commit before DDL.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
        # Of a new file. A record is about 0.6 KB: fewer, larger writes into the log, and it is copied into
        # the file less often (16 MB).
        "page_size=8192",
        "wal_autocheckpoint=2000",
        "journal_mode=WAL",
        # Beside a long look at it (a backup, `audit verify`) the log grows, and would stay so large for good.
        f"journal_size_limit={_LOG_BYTES}",
        # With WAL, NORMAL may lose the last transactions in a power cut, never consistency; a kill loses nothing.
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        _set_pragma(connection, pragma)


def _set_pragma(connection: Any, pragma: str) -> None:
    """SQLite itself does not wait for the lock under which a new file gets its log: of several processes that start at
    once some would fail."""
    until = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute(f"PRAGMA {pragma}").close()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(0.01)


def _begin_postgres(connection: Connection) -> None:
    # Not as a parameter of the session, which a pooler refuses at the start or leaves to its next user.
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {_STATEMENT_TIMEOUT_MS}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("tieline_begin", "BEGIN"))
