"""The hash chain of each writer: edits show.

hash(n) = SHA-256(hash(n-1) + the record's MessagePack); a writer's first record follows 32 zero bytes. Pruning old
records moves the writer's base along the chain, so what is left still verifies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from tieline.record.rows import SLOT_S, Charges, entry_rows, record_row
from tieline.store.body import decode
from tieline.store.database import noted
from tieline.types.money import format_usd

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tieline.store.database import Database

GENESIS = bytes(32)
MAX_PROBLEMS = 100
_PRUNED = "pruned_before_ms"
"""In the table ``meta``: records from before then may be deleted."""
_AT_ONCE = 1_000
"""Records in memory at a time."""
_MICRO = 10**6
_DAY_MS = 86_400_000


def link(head: bytes, body: bytes) -> bytes:
    """The next hash of a chain."""
    return hashlib.sha256(head + body).digest()


class Verdict(Struct, frozen=True):
    """What ``verify`` found. ``problems`` holds at most ``MAX_PROBLEMS``."""

    records: int
    writers: int
    problems: list[str]
    unknown: list[str] = []
    """What could not be compared."""

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(database: Database) -> Verdict:
    """Walks every writer's chain; finds changed, inserted and deleted records, changed columns and entries, and spend that is
    not what the records were charged."""
    import sqlalchemy as sa

    from tieline.store.tables import records, spend, writers

    problems: list[str] = []
    unknown: list[str] = []
    count = 0
    with database.read() as connection:
        pruned = int(noted(connection, _PRUNED) or 0)
        heads = {row.id: row for row in connection.execute(sa.select(writers))}
        strangers = connection.execute(sa.select(records.c.writer).distinct()).scalars()
        problems += [f"writer {name} has records but no head" for name in strangers if name not in heads]
        strangers = connection.execute(sa.select(spend.c.writer).distinct()).scalars()
        problems += [f"writer {name} has spend but no head" for name in strangers if name not in heads]
        for name, head in sorted(heads.items()):
            seq, value = head.base_seq, bytes(head.base_hash)
            charges = Charges()
            since = None if head.base_seq else 0
            query = sa.select(records).where(records.c.writer == name).order_by(records.c.seq)
            streamed = {"yield_per": _AT_ONCE}
            for rows in connection.execute(query, execution_options=streamed).partitions():
                count += len(rows)
                since = _first_whole_slot(rows[0].at_ms, pruned) if since is None else since
                found = _entries_of(connection, [row.id for row in rows])
                for row in rows:
                    problems += _problems(row, seq, value, found.get(row.id, []), charges)
                    seq, value = row.seq, bytes(row.hash)
                del problems[MAX_PROBLEMS:]
            if seq != head.seq:
                problems.append(f"writer {name}: the chain ends at {seq}, the head says {head.seq}")
            elif value != bytes(head.hash):
                problems.append(f"writer {name}: the last hash is not the head's")
            if since is not None:
                problems += _spend_problems(connection, name, charges, since)
            if since != 0:
                when = "" if since is None else f" up to {_moment(since)}"
                unknown.append(f"spend of writer {name}{when}: its records are deleted")
    return Verdict(count, len(heads), problems[:MAX_PROBLEMS], unknown[:MAX_PROBLEMS])


def _first_whole_slot(at_ms: int, pruned_ms: int) -> int:
    """Of a pruned chain whose oldest record is this one: from here on none is missing. Records are in the order of their
    ends, and a request takes a day at most; but what was taken over from a dead process may be older than what is before
    it, which is pruned first where a sweep is under way."""
    return max(at_ms + _DAY_MS, pruned_ms) // (SLOT_S * 1_000) + 1


def _spend_problems(connection: Connection, writer: str, charges: Charges, since: int) -> list[str]:
    """One for each scope. Where nothing was charged a row may be there or not."""
    import sqlalchemy as sa

    from tieline.store.tables import spend

    values = iter(charges.values())
    charged: dict[tuple[Any, Any], int] = {}
    for scope, slot, micros, rest, _requests, _unknown in zip(*[values] * 6, strict=True):
        charged[scope, slot] = int(micros) * _MICRO + int(rest)
    found: dict[tuple[Any, Any], int] = {}
    for row in connection.execute(sa.select(spend).where(spend.c.writer == writer)):
        found[row.scope, row.slot] = row.micros * _MICRO + row.rest
    wrong: dict[str, list[tuple[int, int, int]]] = {}
    for scope, slot in sorted(charged.keys() | found.keys()):
        was, now = charged.get((scope, slot), 0), found.get((scope, slot), 0)
        if was != now and slot >= since:
            wrong.setdefault(scope, []).append((slot, was, now))
    return [
        f"spend of {scope} from {_moment(slots[0][0])} on, by writer {writer}: "
        f"{format_usd(sum(now for _, _, now in slots))} USD, "
        f"its records were charged {format_usd(sum(was for _, was, _ in slots))}"
        for scope, slots in wrong.items()
    ]


def _moment(slot: int) -> str:
    return datetime.fromtimestamp(slot * SLOT_S, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _problems(
    row: Any, seq: int, value: bytes, entries: list[tuple[Any, ...]], charges: Charges
) -> Iterator[str]:
    """Of a record with these entries that follows ``seq``, whose hash is ``value``; adds what it was charged."""
    body, stated = bytes(row.body), bytes(row.hash)
    if row.seq != seq + 1:
        yield f"{row.id}: follows {seq} as {row.seq}: records are missing"
    elif link(value, body) != stated:
        yield f"{row.id}: does not match its hash"
    try:
        record = decode(body)
    except msgspec.MsgspecError:
        yield f"{row.id}: cannot be read"
        return
    fields = astuple(record)
    charges.add(fields)
    expected = record_row(fields, row.writer, row.seq, stated, body)
    if tuple(row) != expected:
        columns = zip(row._fields, row, expected, strict=True)
        changed = [name for name, found, was in columns if found != was]
        yield f"{row.id}: changed columns: {', '.join(changed)}"
    if entries != sorted(entry_rows(record), key=lambda entry: entry[1]):
        yield f"{row.id}: changed entries"


def _entries_of(connection: Connection, ids: list[str]) -> dict[str, list[tuple[Any, ...]]]:
    """By the id of their record. A query for each of them would take most of the time."""
    import sqlalchemy as sa

    from tieline.store.tables import entries

    found: dict[str, list[tuple[Any, ...]]] = {}
    query = sa.select(entries).where(entries.c.record_id.in_(ids)).order_by(entries.c.number)
    for entry in connection.execute(query):
        found.setdefault(entry.record_id, []).append(tuple(entry))
    return found


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
            # Another process may have pruned further by now.
            behind = (writers.c.id == head.id) & (writers.c.base_seq < last)
            connection.execute(sa.update(writers).where(behind).values(base_seq=last, base_hash=value))
        if gone:
            _note_pruned(connection, before_ms)
    return gone


def _note_pruned(connection: Connection, before_ms: int) -> None:
    import sqlalchemy as sa

    connection.execute(
        sa.text(
            "INSERT INTO meta (name, value) VALUES (:name, :value) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value "
            "WHERE CAST(meta.value AS BIGINT) < CAST(excluded.value AS BIGINT)"
        ),
        {"name": _PRUNED, "value": str(before_ms)},
    )
