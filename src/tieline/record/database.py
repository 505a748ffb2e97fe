"""Records and entries into the database: chained, each once, in one transaction for a batch."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import astuple

from tieline.record.chain import GENESIS, link
from tieline.record.queued import Item
from tieline.record.rows import (
    CHAINED,
    PLAIN,
    TAGS,
    Charges,
    bound,
    entry_rows,
    record_row,
    tag_rows,
)
from tieline.record.sinks import Away
from tieline.types.errors import DatabaseAway

if TYPE_CHECKING:
    from sqlalchemy import Table

    from tieline.store.database import Database, Execute


class Unwritable(Exception):
    """A record that no row can be made of, by a fault of ours."""


_ID_CHUNK = 500
_TAKEN = (int, float, str, bytes, bytearray, type(None))
_ODD = (sqlite3.InterfaceError, sqlite3.ProgrammingError)
"""A driver's word for a value that no column takes, and for other things: looked at once more, one by one."""
_NEVER = (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeError, Unwritable)
ROWS_AT_ONCE = 128
"""Rows in one statement: below the drivers' bounds for parameters, and built in half a millisecond."""
GENTLE_ROWS, PAUSE_S = 32, 0.0003
"""Where there is time: so many, then this long nothing. A batch written in one go keeps a processor for 5 to 10 ms, and what
comes meanwhile waits for one."""
GENTLE_S = 0.06
"""Then the rest is written in one go: the transaction keeps others from writing to the same file (a key that is made or revoked)."""


class DatabaseSink:
    """Writes for one writer id, which no other process uses at the same time."""

    def __init__(self, database: Database, writer: str) -> None:
        from tieline.store.tables import entries, record_tags, records, spend

        self._database = database
        self._writer = writer
        mark = "?" if database.is_sqlite else "%s"
        self._records = Rows(records, mark)
        self._plain = Rows(records, mark, {**PLAIN, "writer": writer}, first=CHAINED)
        self._entries = Rows(entries, mark)
        self._tags = Rows(record_tags, mark)
        self._spend = Rows(
            spend,
            mark,
            {"writer": writer},
            clash=" ON CONFLICT (scope, slot, writer) DO UPDATE SET micros = spend.micros + excluded.micros, "
            "rest = spend.rest + excluded.rest, requests = spend.requests + excluded.requests, "
            "unknown = spend.unknown + excluded.unknown",
        )
        self._set_head = (
            f"INSERT INTO writers (id, seq, hash, base_seq, base_hash, at_ms) VALUES ({_marks(6, mark)}) "  # noqa: S608
            "ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, at_ms = excluded.at_ms"
        )
        # SQLite has the write lock by now; PostgreSQL must not let a second writer of the same id read in between.
        lock = "" if database.is_sqlite else " FOR UPDATE"
        self._get_head = f"SELECT seq, hash FROM writers WHERE id = {mark}{lock}"  # noqa: S608
        self._mark = mark
        self._in_doubt = False
        self.refused_for = ""
        """Why the last record was given back."""

    def write(self, batch: Sequence[Item], *, replay: bool, gently: bool = False) -> list[Item]:
        """One transaction; gives back what can never be written, found by halving. ``gently``: with pauses."""
        import sqlalchemy as sa

        replay = replay or self._in_doubt
        try:
            self._write(batch, replay, gently)
            self._in_doubt = False
            return []
        except (*_NEVER, sa.exc.IntegrityError, sa.exc.DataError) as error:
            if not replay:
                return self.write(batch, replay=True)
            if len(batch) == 1:
                self.refused_for = _reason(error)
                return list(batch)
        except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError, DatabaseAway) as error:
            if not replay and isinstance(error, (*_ODD, sa.exc.InterfaceError, sa.exc.ProgrammingError)):
                return self.write(batch, replay=True)
            # A connection that broke during COMMIT may have committed.
            self._in_doubt = True
            raise Away(_reason(error)) from error
        middle = len(batch) // 2
        return self.write(batch[:middle], replay=True) + self.write(batch[middle:], replay=True)

    def close(self) -> None:
        return

    def _write(self, batch: Sequence[Item], replay: bool, gently: bool) -> None:
        with self._database.statements() as execute:
            items = self._unknown(execute, batch) if replay else batch
            if items:
                self._insert(execute, items, gently, checked=replay)

    def _unknown(self, execute: Execute, batch: Sequence[Item]) -> list[Item]:
        """Those of the batch that the database does not have, each once."""
        items = {item.id: item for item in batch}
        ids = list(items)
        for start in range(0, len(ids), _ID_CHUNK):
            chunk = tuple(ids[start : start + _ID_CHUNK])
            query = f"SELECT id FROM records WHERE id IN ({_marks(len(chunk), self._mark)})"  # noqa: S608
            for (known,) in execute(query, chunk).fetchall():
                del items[known]
        return list(items.values())

    def _insert(self, execute: Execute, items: Sequence[Item], gently: bool, *, checked: bool) -> None:
        # The head is read each time: a batch that failed must not leave a gap in the chain.
        row = execute(self._get_head, (self._writer,)).fetchone()
        seq, head = (row[0], bytes(row[1])) if row else (0, GENESIS)
        charges = Charges()
        at_once = GENTLE_ROWS if gently else ROWS_AT_ONCE
        until = time.monotonic() + GENTLE_S
        start = 0
        while start < len(items):
            if gently and start:
                if time.monotonic() < until:
                    time.sleep(PAUSE_S)
                else:
                    gently, at_once = False, ROWS_AT_ONCE
            plain: list[Any] = []
            others: list[Any] = []
            entries: list[Any] = []
            tags: list[Any] = []
            for item in items[start : start + at_once]:
                body, row = item.body, item.row
                seq += 1
                head = link(head, body)
                try:
                    if row is not None:
                        if checked:
                            _check(row)
                        charges.add_plain(row)
                        plain += (seq, bound(head), bound(body))
                        plain += row
                        continue
                    record = item.record
                    fields = astuple(record)
                    told = record_row(fields, self._writer, seq, head, body)
                    lines = entry_rows(record)
                    if checked:
                        for values in (told, *lines):
                            _check(values)
                    others += told
                    for entry in lines:
                        entries += entry
                    if fields[TAGS]:
                        for tag in tag_rows(record):
                            tags += tag
                    charges.add(fields)
                except Exception as error:
                    raise Unwritable(type(error).__name__) from error
            start += at_once
            self._plain.insert(execute, plain)
            self._records.insert(execute, others)
            self._entries.insert(execute, entries)
            self._tags.insert(execute, tags)
        self._spend.insert(execute, charges.values())
        now = time.time_ns() // 1_000_000
        execute(self._set_head, (self._writer, seq, head, 0, GENESIS, now))


class Rows:
    """Inserts into one table, many rows in a statement: the driver lets the event loop run while a statement runs, and to
    take turns with it for each row cost both of them more than the rows. Powers of two, so that few statements are made.

    ``fixed`` are columns that have the same value in all rows: it stands in the statement, the rows leave it out.
    """

    def __init__(
        self,
        table: Table,
        mark: str,
        fixed: Mapping[str, int | str | None] | None = None,
        *,
        first: Sequence[str] = (),
        clash: str = "",
    ) -> None:
        """``first``: columns that come before the others; ``clash``: what is done with a row that the table has already."""
        fixed = fixed or {}
        names = [*first, *(name for name in table.columns.keys() if name not in first)]  # noqa: SIM118
        values = [_literal(fixed[name]) if name in fixed else mark for name in names]
        row = f"({', '.join(values)})"
        insert = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES "  # noqa: S608
        self._width = values.count(mark)
        self._statements = {
            count: insert + ", ".join([row] * count) + clash
            for count in (1 << power for power in range(ROWS_AT_ONCE.bit_length()))
        }

    def insert(self, execute: Execute, values: list[Any]) -> None:
        """``values`` of one row after another."""
        start, left = 0, len(values) // self._width
        while left:
            count = min(ROWS_AT_ONCE, 1 << left.bit_length() - 1)
            end = start + count * self._width
            execute(self._statements[count], tuple(values[start:end]))
            start = end
            left -= count


def _check(row: Sequence[object]) -> None:
    """Raises TypeError for a value that no driver takes."""
    for value in row:
        if not isinstance(value, _TAKEN):
            raise TypeError(type(value).__name__)


def _literal(value: int | str | None) -> str:
    """Of our own values only, none of which has a quote or a percent sign."""
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else str(value)


def _marks(count: int, mark: str) -> str:
    return ", ".join([mark] * count)


def _reason(error: Exception) -> str:
    if isinstance(error, Unwritable):
        return str(error)
    return type(getattr(error, "orig", None) or error).__name__
