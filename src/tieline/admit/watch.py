"""Keeps a running gateway's keys and rules no more than two seconds behind the database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from tieline.admit.accounts import Accounts
from tieline.admit.admission import Admission
from tieline.admit.kept import KeptKeys
from tieline.admit.snapshot import Snapshot
from tieline.record.redact import redact

log = logging.getLogger("tieline")

INTERVAL_S = 1.0
"""Half of the two seconds within which a revoked key must be refused."""


class Watch:
    """``await load()`` before serving, ``start()`` after, ``await stop()`` at the end.

    While the database is away the last keys stay in force; ``stale_s`` says for how long.
    """

    def __init__(
        self,
        admission: Admission,
        accounts: Accounts,
        *,
        interval_s: float = INTERVAL_S,
        also: Callable[[], Awaitable[None]] | None = None,
        kept: KeptKeys | None = None,
    ) -> None:
        """``also`` is awaited at each look: what else of the database a running gateway follows. ``kept`` remembers
        the keys over a restart."""
        self._also = also
        self._kept = kept
        self._admission = admission
        self._accounts = accounts
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None
        self._looked_at = 0.0
        self.last_error: str | None = None
        self.unreadable: dict[str, str] = {}
        """Keys and projects that are refused as their rules cannot be read: id -> why."""

    async def load(self, writer: str | None = None) -> None:
        """Reads keys, rules and what was spent (by this recorder's ``writer`` and by others). Raises what the
        database raises. Call when the recorder has recovered: what a killed process left is spent too."""
        self._admission.remember(await asyncio.to_thread(self._accounts.spent, writer=writer))
        await self._refresh()
        self._looked_at = time.monotonic()

    async def recall(self) -> bool:
        """Without the database: the keys last known, if they are. Hard budgets let nothing in until ``load``."""
        kept = await asyncio.to_thread(self._kept.recall) if self._kept is not None else None
        if kept is not None:
            self._admission.recall(kept.snapshot, kept.credits)
        return kept is not None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="tieline-keys")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def look(self) -> None:
        """Now: after a change that this process made."""
        revision = await asyncio.to_thread(self._accounts.revision)
        if revision != self._admission.revision:
            await self._refresh()
        elif self._kept is not None:
            await asyncio.to_thread(self._kept.still, revision)
        if self._also is not None:
            await self._also()
        self._looked_at = time.monotonic()

    @property
    def stale_s(self) -> float:
        return time.monotonic() - self._looked_at

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.look()
                self.last_error = None
            except Exception as error:
                # Whatever the driver raises: the keys known so far stay in force until it answers again.
                self.last_error = redact(f"{type(error).__name__}: {error}", limit=200)

    async def _refresh(self) -> None:
        snapshot = await asyncio.to_thread(self._accounts.snapshot)
        credits = await asyncio.to_thread(self._accounts.credits)
        self._admission.refresh(snapshot, credits)
        self._tell(snapshot)
        if self._kept is not None:
            await asyncio.to_thread(self._kept.keep, snapshot, credits)

    def _tell(self, snapshot: Snapshot) -> None:
        """Once for each."""
        found = snapshot.unreadable()
        for one in found:
            if self.unreadable.get(one.id) != one.unreadable:
                log.error(
                    "%s (%r) is refused: its rules cannot be read: %s", one.id, one.name, one.unreadable
                )
        self.unreadable = {one.id: one.unreadable or "" for one in found}
