"""Deletes records older than ``store.retention_days``, a little at a time, in the background."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tieline.record.chain import prune

if TYPE_CHECKING:
    from tieline.store.database import Database

log = logging.getLogger("tieline")

INTERVAL_S = 3_600.0
BATCH = 2_000
"""Of each writer in one transaction: the recorder must not wait long for the write lock of SQLite."""
PAUSE_S = 0.2
_DAY_MS = 86_400_000


class Retention:
    """``start()``, and ``await stop()``. Several processes may do this at the same time."""

    def __init__(
        self, database: Database, days: Callable[[], int], *, wall: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._days = days
        self._wall = wall
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="tieline-retention")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def sweep(self) -> int:
        """Deletes all that is too old now; how many. Raises what the database raises."""
        before_ms = int(self._wall() * 1_000) - self._days() * _DAY_MS
        gone = 0
        while batch := await asyncio.to_thread(prune, self._database, before_ms, limit=BATCH):
            gone += batch
            await asyncio.sleep(PAUSE_S)
        return gone

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                if gone := await self.sweep():
                    log.info("%d records were older than %d days and are deleted", gone, self._days())
            except Exception as error:
                # Whatever the driver raises: the next round will find them too.
                log.warning("old records could not be deleted: %s", type(error).__name__)
