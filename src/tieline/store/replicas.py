"""Who serves from this database: a row for each process, renewed every few seconds, and the configuration they share.

Call from a thread.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import asdict, replace

from tieline.store import audit

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tieline.store.database import Database

LIVE_MS = 10_000
"""Five beats: a process that was not seen for this long is taken for gone."""
_FORGET_MS = 86_400_000


class Replica(Struct, frozen=True, kw_only=True):
    """One process. The columns are explained in ``tables``."""

    writer: str
    host: str
    pid: int
    version: str
    started_ms: int
    seen_ms: int = 0
    shared: str = ""
    config: str = ""
    trouble: str = ""


class Version(Struct, frozen=True, kw_only=True):
    """A configuration that was put through the admin API."""

    id: int
    common: str
    replaced: str
    origin: str


def beat(database: Database, mine: Replica) -> list[Replica]:
    """Says that this process lives; gives back all that do, itself included."""
    from tieline.store.tables import replicas as table

    with database.write() as connection:
        now = _now_ms(database, connection)
        row = asdict(replace(mine, seen_ms=now))
        changed = connection.execute(table.update().where(table.c.writer == mine.writer).values(**row))
        if not changed.rowcount:
            connection.execute(table.insert().values(**row))
            connection.execute(table.delete().where(table.c.seen_ms < now - _FORGET_MS))
        return _living(connection, now)


def living(database: Database) -> list[Replica]:
    with database.read() as connection:
        return _living(connection, _now_ms(database, connection))


def leave(database: Database, writer: str) -> None:
    from tieline.store.tables import replicas as table

    with database.write() as connection:
        connection.execute(table.delete().where(table.c.writer == writer))


def note(database: Database, actor: str, action: str, subject: str, text: str) -> None:
    """Into the audit log."""
    with database.write() as connection:
        audit.note(connection, actor, action, subject, {"text": text})


def newest(connection: Connection) -> Version | None:
    """The configuration that every host should have."""
    from tieline.store.tables import config_history as table

    query = table.select().where(table.c.common.is_not(None)).order_by(table.c.id.desc()).limit(1)
    row = connection.execute(query).first()
    if row is None:
        return None
    return Version(id=row.id, common=row.common, replaced=row.replaced, origin=row.origin)


def text_of(database: Database, version: int) -> str:
    from tieline.store.tables import config_history as table

    with database.read() as connection:
        return str(connection.execute(table.select().where(table.c.id == version)).one().text)


def is_outdated(connection: Connection, common: str) -> bool:
    """Whether a text was a version, or was replaced by one: whoever has it was away when that happened."""
    from tieline.store.tables import config_history as table

    query = table.select().where((table.c.common == common) | (table.c.replaced == common)).limit(1)
    return connection.execute(query).first() is not None


def _living(connection: Connection, now: int) -> list[Replica]:
    from tieline.store.tables import replicas as table

    rows = connection.execute(
        table.select().where(table.c.seen_ms > now - LIVE_MS).order_by(table.c.host, table.c.started_ms)
    )
    return [Replica(**row._asdict()) for row in rows]


def _now_ms(database: Database, connection: Connection) -> int:
    """The database's own clock, since the hosts' may differ."""
    if database.is_sqlite:
        return time.time_ns() // 1_000_000
    query = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
    return int(connection.exec_driver_sql(query).scalar_one())
