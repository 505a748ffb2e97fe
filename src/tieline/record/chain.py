"""The hash chain of each writer: edits show.

hash(n) = SHA-256(hash(n-1) + the record's MessagePack); a writer's first record follows 32 zero bytes. Pruning old
records moves the writer's base along the chain, so what is left still verifies.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from tieline.record.rows import entry_rows, record_row
from tieline.store.body import decode

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tieline.store.database import Database

GENESIS = bytes(32)
MAX_PROBLEMS = 100


def link(head: bytes, body: bytes) -> bytes:
    """The next hash of a chain."""
    return hashlib.sha256(head + body).digest()


class Verdict(Struct, frozen=True):
    """What ``verify`` found. ``problems`` holds at most ``MAX_PROBLEMS``."""

    records: int
    writers: int
    problems: list[str]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(database: Database) -> Verdict:
    """Walks every writer's chain; finds changed, inserted and deleted records, changed columns and entries."""
    import sqlalchemy as sa

    from tieline.store.tables import records, writers

    problems: list[str] = []
    count = 0
    with database.read() as connection:
        heads = {row.id: row for row in connection.execute(sa.select(writers))}
        strangers = connection.execute(sa.select(records.c.writer).distinct()).scalars()
        problems += [f"writer {name} has records but no head" for name in strangers if name not in heads]
        for name, head in sorted(heads.items()):
            seq, value = head.base_seq, bytes(head.base_hash)
            query = sa.select(records).where(records.c.writer == name).order_by(records.c.seq)
            for row in connection.execution_options(yield_per=1_000).execute(query).mappings():
                count += 1
                seq, value = _follow(row, seq, value, problems)
                problems += _entry_problems(connection, row)
            if seq != head.seq:
                problems.append(f"writer {name}: the chain ends at {seq}, the head says {head.seq}")
            elif value != bytes(head.hash):
                problems.append(f"writer {name}: the last hash is not the head's")
    return Verdict(count, len(heads), problems[:MAX_PROBLEMS])


def _follow(row: Any, seq: int, value: bytes, problems: list[str]) -> tuple[int, bytes]:
    body, stated = bytes(row["body"]), bytes(row["hash"])
    if row["seq"] != seq + 1:
        problems.append(f"{row['id']}: follows {seq} as {row['seq']}: records are missing")
    elif link(value, body) != stated:
        problems.append(f"{row['id']}: does not match its hash")
    try:
        expected = record_row(astuple(decode(body)), row["writer"], row["seq"], stated, body)
    except msgspec.MsgspecError:
        problems.append(f"{row['id']}: cannot be read")
    else:
        changed = [name for (name, found), was in zip(row.items(), expected, strict=True) if found != was]
        if changed:
            problems.append(f"{row['id']}: changed columns: {', '.join(changed)}")
    return row["seq"], stated


def _entry_problems(connection: Connection, row: Any) -> list[str]:
    import sqlalchemy as sa

    from tieline.store.tables import entries

    query = sa.select(entries).where(entries.c.record_id == row["id"]).order_by(entries.c.number)
    found = [tuple(entry) for entry in connection.execute(query)]
    try:
        expected = sorted(entry_rows(decode(bytes(row["body"]))), key=lambda entry: entry[1])
    except msgspec.MsgspecError:
        return []
    return [] if found == expected else [f"{row['id']}: changed entries"]


def prune(database: Database, before_ms: int, *, limit: int = 5_000) -> int:
    """Deletes the oldest records of each writer's chain up to a date, at most ``limit`` of each. Returns how many."""
    import sqlalchemy as sa

    from tieline.store.tables import entries, record_tags, records, writers

    gone = 0
    with database.write() as connection:
        for head in connection.execute(sa.select(writers)).all():
            chain = records.c.writer == head.id
            # Only a prefix may go: the chain is kept whole from the base on.
            keep = connection.execute(
                sa.select(sa.func.min(records.c.seq)).where(chain, records.c.at_ms >= before_ms)
            ).scalar()
            last = min(head.seq if keep is None else keep - 1, head.base_seq + limit)
            value = connection.execute(sa.select(records.c.hash).where(chain, records.c.seq == last)).scalar()
            if value is None:
                continue
            doomed = sa.select(records.c.id).where(chain, records.c.seq <= last)
            for table in (entries, record_tags):
                connection.execute(sa.delete(table).where(table.c.record_id.in_(doomed)))
            gone += connection.execute(sa.delete(records).where(chain, records.c.seq <= last)).rowcount
            connection.execute(
                sa.update(writers).where(writers.c.id == head.id).values(base_seq=last, base_hash=value)
            )
    return gone
