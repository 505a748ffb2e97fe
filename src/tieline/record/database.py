"""Records and entries into the database: chained, each once, in one transaction for a batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from tieline.record.chain import GENESIS, link
from tieline.record.rows import entry_rows, record_row, spend_rows, tag_rows
from tieline.record.sinks import Away, Item
from tieline.types.errors import DatabaseAway

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

    from tieline.store.database import Database

_ID_CHUNK = 500
ROWS_AT_ONCE = 64
"""Rows in one statement: below the drivers' bounds for parameters, and built in half a millisecond."""


class DatabaseSink:
    """Writes for one writer id, which no other process uses at the same time."""

    def __init__(self, database: Database, writer: str) -> None:
        from tieline.store.tables import entries, record_tags, records

        self._database = database
        self._writer = writer
        mark = "?" if database.is_sqlite else "%s"
        self._records = Rows(records, mark)
        self._entries = Rows(entries, mark)
        self._tags = Rows(record_tags, mark)
        self._add_spend = (
            f"INSERT INTO spend (scope, slot, micros, rest, requests, unknown, writer) "  # noqa: S608
            f"VALUES ({_marks(7, mark)}) ON CONFLICT (scope, slot, writer) DO UPDATE SET micros = spend.micros + excluded.micros, "
            "rest = spend.rest + excluded.rest, requests = spend.requests + excluded.requests, "
            "unknown = spend.unknown + excluded.unknown"
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

    def write(self, batch: Sequence[Item], *, replay: bool) -> list[Item]:
        """One transaction; gives back what the database can never take, found by halving."""
        import sqlalchemy as sa

        replay = replay or self._in_doubt
        try:
            self._write(batch, replay)
            self._in_doubt = False
            return []
        except (sa.exc.IntegrityError, sa.exc.DataError, OverflowError, UnicodeError):
            if not replay:
                return self.write(batch, replay=True)
            if len(batch) == 1:
                return list(batch)
            middle = len(batch) // 2
            return self.write(batch[:middle], replay=True) + self.write(batch[middle:], replay=True)
        except (sa.exc.SQLAlchemyError, OSError, DatabaseAway) as error:
            # A connection that broke during COMMIT may have committed.
            self._in_doubt = True
            raise Away(_reason(error)) from error

    def close(self) -> None:
        return

    def _write(self, batch: Sequence[Item], replay: bool) -> None:
        with self._database.write() as connection:
            items = self._unknown(connection, batch) if replay else batch
            if items:
                self._insert(connection, items)

    def _unknown(self, connection: Connection, batch: Sequence[Item]) -> list[Item]:
        """Those of the batch that the database does not have, each once."""
        items = {item.record.id: item for item in batch}
        ids = list(items)
        for start in range(0, len(ids), _ID_CHUNK):
            chunk = tuple(ids[start : start + _ID_CHUNK])
            query = f"SELECT id FROM records WHERE id IN ({_marks(len(chunk), self._mark)})"  # noqa: S608
            for (known,) in connection.exec_driver_sql(query, chunk):
                del items[known]
        return list(items.values())

    def _insert(self, connection: Connection, items: Sequence[Item]) -> None:
        # The head is read each time: a batch that failed must not leave a gap in the chain.
        row = connection.exec_driver_sql(self._get_head, (self._writer,)).first()
        seq, head = (row[0], bytes(row[1])) if row else (0, GENESIS)
        for start in range(0, len(items), ROWS_AT_ONCE):
            chunk = items[start : start + ROWS_AT_ONCE]
            rows: list[tuple[Any, ...]] = []
            for item in chunk:
                seq += 1
                head = link(head, item.body)
                rows.append(record_row(item.record, self._writer, seq, head, item.body))
            self._records.insert(connection, rows)
            self._entries.insert(connection, [row for item in chunk for row in entry_rows(item.record)])
            if tags := [row for item in chunk if item.record.tags for row in tag_rows(item.record)]:
                self._tags.insert(connection, tags)
        if spend := spend_rows(item.record for item in items):
            connection.exec_driver_sql(self._add_spend, [(*row, self._writer) for row in spend])
        now = time.time_ns() // 1_000_000
        connection.exec_driver_sql(self._set_head, (self._writer, seq, head, 0, GENESIS, now))


class Rows:
    """Inserts into one table, many rows in a statement: the driver lets the event loop run while a statement runs, and to
    take turns with it for each row cost both of them more than the rows. Powers of two, so that few statements are made."""

    def __init__(self, table: Table, mark: str) -> None:
        names = ", ".join(table.columns.keys())
        row = f"({_marks(len(table.columns), mark)})"
        insert = f"INSERT INTO {table.name} ({names}) VALUES "  # noqa: S608
        self._statements = {
            count: insert + ", ".join([row] * count)
            for count in (1 << power for power in range(ROWS_AT_ONCE.bit_length()))
        }

    def insert(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        start, left = 0, len(rows)
        while left:
            count = min(ROWS_AT_ONCE, 1 << left.bit_length() - 1)
            values = tuple(chain.from_iterable(rows[start : start + count]))
            connection.exec_driver_sql(self._statements[count], values)
            start += count
            left -= count


def _marks(count: int, mark: str) -> str:
    return ", ".join([mark] * count)


def _reason(error: Exception) -> str:
    return type(getattr(error, "orig", None) or error).__name__
