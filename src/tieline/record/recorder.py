"""From the hot path to the sinks: accepted once, kept once, whatever dies in between.

``put`` encodes the record, reads it into its row and the metrics, copies it into the journal and queues it: no lock held
long, no system call, nothing awaited. A thread takes batches to the sinks. What the database cannot take stays in the journal
and is written later, also by the next process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import astuple

from tieline.record.database import ROWS_AT_ONCE, DatabaseSink
from tieline.record.items import Begun, RecorderHealth
from tieline.record.journal import Journal, Segment, Slot, read_segment
from tieline.record.metrics import Metrics
from tieline.record.queued import Item, Queued
from tieline.record.rows import plain_row
from tieline.record.sinks import Away, Sink
from tieline.store.body import Bodies, decode
from tieline.types.record import Record, as_dict

if TYPE_CHECKING:
    from tieline.store.database import Database

log = logging.getLogger("tieline")

FLUSH_INTERVAL_S = 0.1
"""A record reaches the database this long after it was put, when none was for a while."""
_REST = 5
"""Flush intervals from one batch to the next: a transaction costs as much as writing fifty records."""
MAX_QUEUE = 20_000
"""Beyond it records are only in the journal until the queue is empty again: 15 MB, 30 where all have tags."""
BATCH = 1_024
_WAKE_AT = BATCH // 2
_LEISURE = 10_000
"""Records a second; with fewer there is time to write them with pauses."""
REFUSED = "refused.jsonl"
"""Beside the journal: what the database can never take."""
_RETRY_S = (0.25, 0.5, 1.0, 2.0, 5.0)
_MAX_INFLIGHT = 50_000


class Recorder:
    """``start()`` before the first ``put``, ``close()`` at the end. ``put`` and ``begin`` may be called from any thread.

    ``database`` None keeps nothing but metrics and further sinks; ``spool`` None has no journal: a kill then loses what
    was put since the last batch.
    """

    def __init__(
        self,
        database: Database | None = None,
        *,
        spool: Path | None = None,
        sinks: Sequence[Sink] = (),
        metrics: Metrics | None = None,
        flush_interval_s: float = FLUSH_INTERVAL_S,
        max_queue: int = MAX_QUEUE,
        alone: bool = True,
    ) -> None:
        """``alone`` False: other processes write all the time to the same SQLite file, which only one can do at once."""
        self.metrics = metrics or Metrics()
        self._spool = spool if database else None
        self._journal = Journal(self._spool) if self._spool else None
        self.writer = self._writer_id()
        """Whose chain and whose spend this process writes."""
        self._store = DatabaseSink(database, self.writer) if database else None
        self._sinks = list(sinks)
        self._interval = flush_interval_s
        self._may_pause = alone or not (database and database.is_sqlite)
        self._max_queue = max_queue
        self._encode = Bodies().encode
        self._encode_begun = msgspec.msgpack.Encoder().encode
        self._queue: deque[Queued] = deque()
        self._inflight: dict[str, Segment] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        """There is something to do at once."""
        self._stir = threading.Event()
        self._rests = False
        """The thread has just written: what comes now may wait for more."""
        self._asleep = False
        """The thread waits for ``_stir``, however long: nothing is queued."""
        self._idle = threading.Condition()
        self._worker: threading.Thread | None = None
        self._unrecovered = self._journal is not None
        self._recover_at = 0.0
        self._closing_at: float | None = None
        self._closed = False
        self._room = max_queue
        """How many may be queued now: none from an overflow until what it spooled is known, and after the end."""
        self._journal_failing = False
        self._accepted = self._written = self._spooled = self._recovered = self._refused = self._lost = 0
        self._moved_at = self._kept_at = time.monotonic()
        self._failing_since: float | None = None
        self._last_error: str | None = None
        self.recovered = threading.Event()
        """Set when what dead processes left has been taken over (or cannot be now)."""

    @property
    def recovering(self) -> bool:
        """Whether journals of dead processes have not been looked through yet: wait for ``recovered``."""
        return self._unrecovered

    @property
    def notes_begun(self) -> bool:
        """Whether ``begin`` does anything."""
        return self._journal is not None

    def start(self) -> None:
        """Idempotent."""
        if self._worker is not None:
            return
        self._hurry()
        self._worker = threading.Thread(target=self._run, name="tieline-recorder", daemon=True)
        self._worker.start()

    def begin(self, begun: Begun) -> None:
        """Notes an admitted request, so that a kill in the middle of it leaves a record that bears what was held.

        Again after a top-up: the last word counts. Costs about 1 us; without a journal nothing.
        """
        inflight = self._inflight
        if self._journal is None or len(inflight) >= _MAX_INFLIGHT:
            return
        note = self._encode_begun(begun)
        with self._lock:
            if segment := self._append(note):
                earlier = inflight.get(begun.id)
                if earlier is not None:
                    earlier.done += 1
                inflight[begun.id] = segment

    def put(self, record: Record) -> None:
        """Accepts a finished record. It must not be changed afterwards."""
        try:
            body = self._encode(record)
        except (UnicodeError, OverflowError, TypeError, ValueError, RecursionError):
            body = self._encoded_without(record)
        try:
            self.metrics.note(record)
            # Made here, where all of it is in the nearest cache; of nearly every record nothing else is kept.
            row = plain_row(astuple(record))
        except Exception as error:  # a fault of ours is not the caller's problem
            row = None
            self._last_error = f"record {record.id}: {type(error).__name__}"
        kept = record if row is None or self._sinks else None
        queue = self._queue
        with self._lock:
            self._accepted += 1
            begun = self._inflight.pop(record.id, None)
            segment = self._append(body)
            if len(queue) < self._room:
                queue.append(Queued(body, kept, row, segment, begun))
            else:
                self._overflow(segment, begun)
        if self._asleep:
            self._moved_at = time.monotonic()
            self._asleep = False
            self._stir.set()
        if len(queue) >= _WAKE_AT and not self._wake.is_set():
            self._wake.set()

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Waits until all that was put is in the database; False when that takes longer."""
        self.metrics.settle()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._settled():
                return True
            self._hurry()
            with self._idle:
                self._idle.wait(0.02)
        return self._settled()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Writes what is left within the time; True when nothing stays behind in the journal."""
        if self._worker is None:
            if self._closing_at is None and self._journal:  # it was never started
                self._journal.close()
                self._journal = None
            return True
        self._closing_at = time.monotonic() + timeout_s
        self._hurry()
        # The grace beyond the deadline is for a statement that is under way.
        self._worker.join(timeout_s + 1.0)
        clean = self._settled()
        if not self._worker.is_alive():
            for sink in self._sinks:
                sink.close()
            with self._lock:
                self._closed = True
                self._room = 0
                if self._journal:
                    self._journal.close()
                    self._journal = None
                elif not clean:
                    self._lost += len(self._queue)
        self._worker = None
        return clean

    def health(self) -> RecorderHealth:
        return RecorderHealth(
            accepted=self._accepted,
            written=self._written,
            queued=len(self._queue),
            spooled=self._spooled,
            recovered=self._recovered,
            refused=self._refused,
            uncounted=self.metrics.uncounted,
            lost=self._lost,
            journal_failing=self._journal_failing,
            waiting_s=round(self._waiting_s(), 1),
            failing_since=self._failing_since,
            last_error=self._last_error,
        )

    def _waiting_s(self) -> float:
        # Asleep it has no record to write, but one that is being put.
        return time.monotonic() - self._moved_at if self._queue and not self._asleep else 0.0

    # The hot path, under the lock.

    def _append(self, body: bytes) -> Segment | None:
        if self._journal is None:
            return None
        try:
            segment = self._journal.append(body)
        except (OSError, ValueError) as error:
            self._journal_failing = True
            self._last_error = f"journal: {type(error).__name__}"
            return None
        self._journal_failing = False
        return segment

    def _overflow(self, segment: Segment | None, begun: Segment | None) -> None:
        if segment is None or self._closed:
            self._lost += 1
            return
        self._room = 0
        self._spooled += 1
        segment.spooled = True
        if begun:
            begun.spooled = True

    def _encoded_without(self, record: Record) -> bytes:
        """Never the caller's problem: what cannot be written down is left out, and the record says so."""
        record.decision = {}
        record.tags = {_printable(name): _printable(value) for name, value in record.tags.items()}
        for name in ("model_asked", "user", "session", "run", "error_message", "profile"):
            value = getattr(record, name)
            setattr(record, name, _printable(value) if value else value)
        record.flags = [*record.flags, "unencodable"]
        for attempt in record.attempts:
            attempt.message = _printable(attempt.message or "")
        try:
            return self._encode(record)
        except OverflowError:  # numbers beyond 64 bits
            record.usage = record.cost = record.wasted = record.charged = None
            for attempt in record.attempts:
                attempt.usage = attempt.cost = None
            return self._encode(record)

    # The writer thread.

    def _run(self) -> None:
        failures = 0
        while True:
            if failures:
                self._wake.wait(_RETRY_S[min(failures, 5) - 1])
            else:
                self._await_records()
            self._wake.clear()
            if not self._queue:
                self._moved_at = time.monotonic()
            try:
                self._try_to_recover()
                self._drain()
                failures = 0
                self._written_again()
            except Exception as error:  # whatever it is: this thread lives as long as records come
                failures += 1
                self._survive(error)
            with self._idle:
                self._idle.notify_all()
            if self._closing_at is not None and (self._settled() or time.monotonic() >= self._closing_at):
                return
            if self._closing_at is not None and failures:
                # Waking up at once would make this a busy loop.
                time.sleep(min(0.2, max(0.0, self._closing_at - time.monotonic())))
                self._wake.set()

    def _try_to_recover(self) -> None:
        """What dead processes left and cannot be read holds up nothing that comes."""
        if time.monotonic() < self._recover_at:
            return
        try:
            self._recover()
        except Away:
            raise
        except Exception as error:
            self._recover_at = time.monotonic() + _RETRY_S[-1]
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            if self._last_error != (said := f"spool of a dead process: {why}"):
                self._last_error = said
                log.error("what a dead process left in the spool cannot be taken over (%s)", why)

    def _survive(self, error: Exception) -> None:
        try:
            self._failed(error)
        except Exception as fault:
            self._last_error = f"recorder: {type(fault).__name__}"

    def _await_records(self) -> None:
        """Until a batch is worth its transaction; while nothing comes, nothing runs."""
        rests = self._rests
        self._rests = False
        if rests and self._closing_at is None and self._wake.wait(_REST * self._interval):
            return
        if self._unrecovered:
            if self._settled() and time.monotonic() < self._recover_at:
                self._wake.wait(self._interval)  # it could not be read, and is tried again then
        elif self._settled():
            self._stir.clear()
            self._asleep = True
            # Looked at once more: who puts or hurries asks or tells this thread afterwards.
            if self._settled() and not self._wake.is_set():
                self._stir.wait()
            self._asleep = False
            self._wake.wait(self._interval)

    def _hurry(self) -> None:
        self._wake.set()
        self._stir.set()

    def _drain(self) -> None:
        while batch := self._next_batch():
            gently = self._at_leisure()
            self._kept_at = time.monotonic()
            if self._store:
                self._keep(batch, gently)
            self._done(batch)
            self._tend_journal()
            self._rests = True
            if len(self._queue) < _WAKE_AT:
                # What came meanwhile waits for more: each turn of this thread costs the event loop some of its own.
                break
        if self._spooled and not self._queue:
            self._replay_own()
        self._tend_journal()

    def _tend_journal(self) -> None:
        """What waits for the disk is done without the lock, for which ``put`` would wait."""
        journal = self._journal
        if journal is None:
            return
        with self._lock:
            swept = journal.sweep()
            path = journal.wants_spare() if self._closing_at is None else None
        for segment in swept:
            with contextlib.suppress(OSError):  # then the next start finds that the database has it all
                segment.remove()
        if path is not None:
            try:
                spare = journal.make_spare(path)
            except OSError:
                return  # then the next one is made when it is needed, and says why it cannot be
            with self._lock:
                journal.keep_spare(spare)

    def _peek(self, most: int) -> list[Queued]:
        """The head of the queue stays there until it is safe: a failure changes nothing."""
        queue = self._queue
        # Not by an iterator: what is put meanwhile would end it with an error.
        return [queue[index] for index in range(min(most, len(queue)))]

    def _next_batch(self) -> list[Queued]:
        """Full statements where there are enough for one: each takes several turns with the event loop, which are dear."""
        waiting = min(len(self._queue), BATCH)
        if self._closing_at is not None:  # there may be no time for a second one
            return self._peek(waiting)
        return self._peek(waiting - waiting % ROWS_AT_ONCE or waiting)

    def _at_leisure(self) -> bool:
        """Whether so many since the last batch leave time for pauses, in which the event loop has the interpreter.

        All that waits counts, not only one batch: beside a busy event loop a pause takes as long as that likes.
        """
        return (
            self._closing_at is None
            and self._failing_since is None
            and len(self._queue) < _LEISURE * (time.monotonic() - self._kept_at)
        )

    def _keep(self, batch: Sequence[Queued], gently: bool) -> None:
        assert self._store
        refused = self._store.write(batch, replay=False, gently=gently and self._may_pause)
        self._written_again()
        self._refuse(refused)
        self._written += len(batch) - len(refused)

    def _refuse(self, items: Sequence[Item]) -> None:
        """What the database can never take is kept as a line of JSON beside the journal."""
        if not items or self._store is None:
            return
        if not self._refused:
            kept = (
                f"in {self._journal.slot.folder / REFUSED}" if self._journal else "nowhere, without a spool"
            )
            log.error("a record cannot be written (%s) and is kept %s", self._store.refused_for, kept)
        self._refused += len(items)
        encode = msgspec.json.Encoder(enc_hook=str).encode
        for item in items if self._journal else ():
            assert self._journal
            try:
                line = encode(as_dict(item.record)) + b"\n"
                with (self._journal.slot.folder / REFUSED).open("ab") as file:
                    file.write(line)
            except Exception as error:  # no room, or not even a line can be made of it
                self._lost += 1
                why = error.strerror if isinstance(error, OSError) else type(error).__name__
                self._last_error = f"journal: {why}"

    def _done(self, batch: Sequence[Queued]) -> None:
        for sink in self._sinks:
            try:
                sink.write(batch, replay=False)
            except Exception as error:  # a sink may be somebody else's
                why = error if isinstance(error, Away) else type(error).__name__
                self._last_error = f"{type(sink).__name__}: {why}"
        counts = Counter(_segments(batch))
        with self._lock:
            for segment, count in counts.items():
                segment.done += count
        # Outside: only this thread takes from the left, and ``put`` must not wait for a thousand turns.
        popleft = self._queue.popleft
        for _ in range(len(batch)):
            popleft()
        self._moved_at = time.monotonic()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Away):
            self._last_error = str(error)
            if self._failing_since is None:
                where = "the spool" if self._journal else "memory"
                log.warning("the database takes no records (%s); they wait in %s", error, where)
        elif isinstance(error, OSError):  # of our own folder
            self._last_error = f"journal: {error.strerror}"
        else:
            self._last_error = f"recorder: {type(error).__name__}"
            if self._failing_since is None:
                log.error("records cannot be written and wait in the journal (%s)", type(error).__name__)
        if self._failing_since is None:
            self._failing_since = time.time()
        self._tend_journal()
        if self._journal:
            with self._lock:
                segments = list(self._journal.segments)
            for segment in segments:
                if not segment.finished:
                    with contextlib.suppress(OSError):  # it is as safe as it can be
                        segment.sync()

    def _written_again(self) -> None:
        if self._failing_since is not None:
            self._failing_since = None
            log.info("records are written again")

    def _replay_own(self) -> None:
        """Writes what overflowed; the queue is empty. New records queue again as soon as the files are known."""
        assert self._journal
        with self._lock:
            self._journal.rotate()
            self._room = self._max_queue
            spooled = [segment for segment in self._journal.segments if segment.spooled]
            running = set(self._inflight)
            behind = self._spooled
            unfinished = Counter([*self._inflight.values(), *_segments(self._peek(len(self._queue)))])
        for segment in spooled:
            self._replay(segment.path, running)
            segment.spooled = False
            with self._lock:
                segment.done += segment.frames - segment.done - unfinished[segment]
        with self._lock:
            self._written += behind
            self._spooled -= behind

    def _recover(self) -> None:
        """Takes over what dead processes left: their segments are written and removed. Raises Away."""
        if self._unrecovered and self._spool and self._journal:
            try:
                self._recover_slot(self._journal.slot)
                for slot in Slot.orphans(self._spool):
                    self._recover_slot(slot)
                self._unrecovered = False
            finally:
                self.recovered.set()
        self.recovered.set()

    def _recover_slot(self, slot: Slot) -> None:
        paths = slot.segments()
        if self._journal and slot.folder == self._journal.slot.folder:
            # What ``put`` makes and removes meanwhile must not look like a dead process's.
            paths = [path for path in paths if int(path.stem) <= self._journal.inherited]
        begun: dict[str, Begun] = {}
        damaged: dict[Path, str] = {}
        for path in paths:
            damage: list[str] = []
            begun.update(self._replay(path, set(), begun=begun, damage=damage))
            if damage:
                damaged[path] = damage[0]
        self._write_items([self._item(_died(left)) for left in begun.values()])
        for path in paths:
            if path in damaged:
                aside = slot.set_aside(path)
                log.error(
                    "a file of the spool could not be read whole (%s); records may be missing. It is kept as %s",
                    damaged[path],
                    aside,
                )
            else:
                path.unlink(missing_ok=True)

    def _replay(
        self,
        path: Path,
        running: set[str],
        *,
        begun: dict[str, Begun] | None = None,
        damage: list[str] | None = None,
    ) -> dict[str, Begun]:
        """Writes the finished records of a segment; gives back the requests that only began in it."""
        damage = [] if damage is None else damage
        left: dict[str, Begun] = {}
        items: list[Item] = []
        for body in read_segment(path, damage):
            entry = _decoded(body)
            if isinstance(entry, Begun):
                left[entry.id] = entry
                continue
            if entry is None:
                self._refused += 1
                damage.append("a record is of another version")
                continue
            left.pop(entry.id, None)
            if begun is not None:
                begun.pop(entry.id, None)
            items.append(Item(body, entry))
            if len(items) >= BATCH:
                self._write_items(items, count=begun is not None)
                items = []
        self._write_items(items, count=begun is not None)
        return {name: entry for name, entry in left.items() if name not in running}

    def _write_items(self, items: Sequence[Item], *, count: bool = True) -> None:
        if items and self._store:
            refused = self._store.write(items, replay=True)
            self._written_again()
            self._refuse(refused)
            if count:
                self._recovered += len(items) - len(refused)

    def _item(self, record: Record) -> Item:
        return Item(self._encode(record), record)

    def _settled(self) -> bool:
        return not self._queue and not self._spooled

    def _writer_id(self) -> str:
        """Lives with the slot, so that a chain goes on over restarts; without a slot, one for each process."""
        if self._journal is None:
            return f"w_{os.urandom(8).hex()}"
        path = self._journal.slot.folder / "writer"
        if not path.exists():
            path.write_text(f"w_{os.urandom(8).hex()}")
        return path.read_text().strip()


def _segments(batch: Sequence[Queued]) -> Iterable[Segment]:
    for item in batch:
        if item.segment:
            yield item.segment
        if item.begun:
            yield item.begun


_decode_begun = msgspec.msgpack.Decoder(Begun).decode


def _decoded(body: bytes) -> Record | Begun | None:
    try:
        # A Begun is a MessagePack array of ten (fixarray: 0x9 in the high half of its first byte), a record is never.
        return _decode_begun(body) if body[0] >> 4 == 0x9 else decode(body)
    except msgspec.MsgspecError:
        return None


def _died(begun: Begun) -> Record:
    """A request whose process was killed: it bears what was held, since what the provider billed is unknown."""
    return Record(
        id=begun.id,
        at_ms=begun.at_ms,
        operation=begun.operation,
        dialect=begun.dialect,
        model_asked=begun.model_asked,
        key_id=begun.key_id,
        project=begun.project,
        run=begun.run,
        tags=begun.tags,
        status=0,
        outcome="process_died",
        error_code="process_died",
        error_message="The gateway's process ended before the request did.",
        cost=None,
        wasted=None,
        charged=begun.held or None,
    )


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
