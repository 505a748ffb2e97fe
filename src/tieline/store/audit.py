"""Who changed what: one row for each change, chained so that edits, insertions and deletions show.

``hash(n) = SHA-256(hash(n-1) + the row's MessagePack)``; the head is kept apart (``meta.audit_head``), so that cutting off
the end shows too. A row is written in the transaction of its change: neither is there without the other.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tieline.store.database import Database

_GENESIS = bytes(32)
MAX_PROBLEMS = 100
MAX_ROWS = 1_000


class Change(Struct, frozen=True, kw_only=True):
    seq: int
    at_ms: int
    actor: str
    """``cli:NAME``, ``admin`` or ``admin:local``."""
    action: str
    subject: str
    detail: dict[str, Any]
    """What was set; never a secret."""


def note(
    connection: Connection, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None
) -> None:
    """Adds a row. Call within the transaction of the change."""
    from tieline.store.tables import audit

    seq, head = _head(connection, lock=True)
    at_ms = time.time_ns() // 1_000_000
    text = msgspec.json.encode(detail or {}, enc_hook=str, order="sorted").decode()
    value = _link(head, at_ms, actor, action, subject, text)
    connection.execute(
        audit.insert().values(
            seq=seq + 1, at_ms=at_ms, actor=actor, action=action, subject=subject, detail=text, hash=value
        )
    )
    _set_head(connection, seq + 1, value)


def changes(database: Database, *, limit: int = 100, before: int | None = None) -> list[Change]:
    """The newest first; ``before`` is the ``seq`` of the last one seen."""
    import sqlalchemy as sa

    from tieline.store.tables import audit

    query = sa.select(audit).order_by(audit.c.seq.desc()).limit(min(limit, MAX_ROWS))
    if before is not None:
        query = query.where(audit.c.seq < before)
    with database.read() as connection:
        return [
            Change(
                seq=row.seq,
                at_ms=row.at_ms,
                actor=row.actor,
                action=row.action,
                subject=row.subject,
                detail=msgspec.json.decode(row.detail),
            )
            for row in connection.execute(query)
        ]


def verify(database: Database) -> tuple[int, list[str]]:
    """How many changes there are, and what is wrong with their chain."""
    import sqlalchemy as sa

    from tieline.store.tables import audit

    problems: list[str] = []
    seq, value = 0, _GENESIS
    with database.read() as connection:
        stated = _head(connection, lock=False)
        for row in connection.execute(sa.select(audit).order_by(audit.c.seq)):
            if row.seq != seq + 1:
                problems.append(f"audit {row.seq}: follows {seq}: changes are missing")
            elif _link(value, row.at_ms, row.actor, row.action, row.subject, row.detail) != bytes(row.hash):
                problems.append(f"audit {row.seq}: does not match its hash")
            seq, value = row.seq, bytes(row.hash)
    if (seq, value) != stated:
        problems.append(f"audit: ends at {seq}, its head says {stated[0]}")
    return seq, problems[:MAX_PROBLEMS]


def _link(head: bytes, *fields: Any) -> bytes:
    return hashlib.sha256(head + msgspec.msgpack.encode(fields)).digest()


def _head(connection: Connection, *, lock: bool) -> tuple[int, bytes]:
    """``lock``: PostgreSQL must not let two changes follow the same one; SQLite has its write lock by now."""
    import sqlalchemy as sa

    from tieline.store.tables import meta

    query = sa.select(meta.c.value).where(meta.c.name == "audit_head")
    if lock:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        query = query.with_for_update()
    stated = connection.execute(query).scalar()
    if stated is None:
        return 0, _GENESIS
    seq, _, value = stated.partition(":")
    return int(seq), bytes.fromhex(value)


def _set_head(connection: Connection, seq: int, value: bytes) -> None:
    import sqlalchemy as sa

    connection.execute(
        sa.text(
            "INSERT INTO meta (name, value) VALUES ('audit_head', :value) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        ),
        {"value": f"{seq}:{value.hex()}"},
    )


_LOCK = 0x7469656C6175
"""PostgreSQL advisory lock of the chain: the head has no row to lock before the first change."""
