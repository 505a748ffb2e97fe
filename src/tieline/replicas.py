"""What processes on one database know of one another: whether their ceilings are counted together, and which
configuration is to be in force on all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import tieline
from tieline.config.common import common_digest, on_this_host, write_beside
from tieline.config.document import Signature, signature
from tieline.config.load import parse
from tieline.config.schema import Config
from tieline.record.redact import redact
from tieline.store import replicas as store
from tieline.store.replicas import Replica, Version
from tieline.types.errors import ConfigError

if TYPE_CHECKING:
    from tieline.store.database import Database

log = logging.getLogger("tieline")

LEAVE_S = 1.0
"""How long the end of a process waits to be taken off the list."""
BEAT_S = 2.0
"""A configuration that was put elsewhere is in force here within this and a little."""
OWN_FILE_S = 5.0
"""Who shares the file with the process that replaces it waits this long for the file before taking the text."""
AGAIN_S = 30.0
"""After a configuration could not be taken over: a secret's file may have come since."""


class Replicas:
    """``await look()`` before serving, ``start()``, ``await stop()``.

    ``shared`` says which Redis counts the ceilings (empty: none, ``?``: it has not answered yet), ``has_ceilings``
    whether there are any; ``take`` puts a configuration in force and raises ConfigError.
    """

    def __init__(
        self,
        database: Database,
        writer: str,
        path: Path | None,
        environ: Mapping[str, str],
        *,
        shared: Callable[[], str],
        has_ceilings: Callable[[], bool],
        take: Callable[[Config], None],
    ) -> None:
        self._database = database
        self._writer = writer
        self._path = path
        self._environ = environ
        self._shared = shared
        self._has_ceilings = has_ceilings
        self._take = take
        self._task: asyncio.Task[None] | None = None
        self._host = socket.gethostname()
        self._started_ms = time.time_ns() // 1_000_000
        self._seen: dict[str, Replica] = {}
        self._file: Signature = None
        self._common = ""
        self._version = 0
        """The newest version that was in force here."""
        self._noticed: tuple[int, float] = (0, 0.0)
        self._tried: tuple[int, float] = (0, 0.0)
        self.living: list[Replica] = []
        self.unshared = 0
        """How many others count the same ceilings on their own."""
        self.trouble = ""
        """Why the newest configuration is not in force here."""
        self.last_error: str | None = None

    @property
    def origin(self) -> str:
        """The file that a configuration put here replaces."""
        return f"{self._host}:{self._path.resolve() if self._path else ''}"

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="tieline-replicas")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            if self.last_error is None:
                with contextlib.suppress(Exception):  # the row ends by itself
                    async with asyncio.timeout(LEAVE_S):
                        await asyncio.to_thread(store.leave, self._database, self._writer)

    async def look(self) -> None:
        """One beat. Raises what the database raises."""
        version, outdated = await asyncio.to_thread(self._read)
        await self._follow(version, outdated)
        living = await asyncio.to_thread(store.beat, self._database, self._mine())
        await self._compare(living)

    def _mine(self) -> Replica:
        return Replica(
            writer=self._writer,
            host=self._host,
            pid=os.getpid(),
            version=tieline.__version__,
            started_ms=self._started_ms,
            shared=self._shared(),
            config=self._common,
            trouble=self.trouble,
        )

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self.look()
                self.last_error = None
            except Exception as error:
                # Whatever the driver raises; what the keys and the recorder say of it is enough for people.
                self.last_error = type(error).__name__

    # Ceilings.

    async def _compare(self, living: list[Replica]) -> None:
        """A row may outlive its process: only one that was renewed since the last look counts."""
        mine, before = self._shared(), self._seen
        others = [one for one in living if one.writer != self._writer]
        apart = [
            one
            for one in others
            if one.writer in before
            and one.seen_ms > before[one.writer].seen_ms
            and _counts_apart(mine, one.shared)
            and _counts_apart(mine, before[one.writer].shared)
        ]
        self.living, self._seen = living, {one.writer: one for one in others}
        unshared = len(apart) if self._has_ceilings() else 0
        if unshared and not self.unshared:
            hosts = ", ".join(sorted({one.host for one in apart})[:5])
            text = f"{unshared} other processes (on {hosts}) use this database and count budgets and limits by themselves"
            log.error("%s: set store.redis to one Redis for all. Until then ceilings can be passed.", text)
            await asyncio.to_thread(
                store.note, self._database, "gateway", "replicas.unshared", self._writer, text
            )
        self.unshared = unshared

    # The configuration.

    def _read(self) -> tuple[Version | None, bool]:
        """The newest version, and whether what is in force here is one that was replaced."""
        if self._path is not None and (found := signature(self._path)) != self._file and found is not None:
            self._file = found
            self._common = common_digest(self._path.read_text("utf-8-sig"))
        elif self._path is None and not self._common:
            self._common = common_digest("")
        with self._database.read() as connection:
            version = store.newest(connection)
            if version is None or version.common == self._common:
                return version, False
            return version, store.is_outdated(connection, self._common)

    async def _follow(self, version: Version | None, outdated: bool) -> None:
        if version is None or version.common == self._common:
            self._version = version.id if version else 0
            self.trouble = ""
            return
        if version.id == self._version or not outdated:
            self._tell(f"version {version.id} is not in force here: the file was changed on this host")
            return
        now = time.monotonic()
        if self._noticed[0] != version.id:
            self._noticed = (version.id, now)
        if version.origin == self.origin and now - self._noticed[1] < OWN_FILE_S:
            return
        if self._tried[0] == version.id and now - self._tried[1] < AGAIN_S:
            return
        self._tried = (version.id, now)
        try:
            await self._take_over(version)
        except (ConfigError, OSError, UnicodeError) as error:
            reason = redact(str(error).replace("\n", "; "), limit=300)
            self._tell(f"version {version.id} could not be taken over: {reason}")

    async def _take_over(self, version: Version) -> None:
        text = await asyncio.to_thread(store.text_of, self._database, version.id)
        own = self._path.read_text("utf-8-sig") if self._path is not None else ""
        whole = on_this_host(text, own)
        self._take((await asyncio.to_thread(parse, whole, self._environ, self._path)).config)
        self._common, self._version, self.trouble = version.common, version.id, ""
        log.info(
            "configuration version %d, put on %s, is in force", version.id, version.origin.partition(":")[0]
        )
        if self._path is not None:
            try:
                os.replace(await asyncio.to_thread(write_beside, self._path, whole), self._path)
                self._file = signature(self._path)
            except OSError as error:
                # Mounted read-only, for one: it is in force, and the next start takes it from the database again.
                log.warning("%s stays as it was: %s", self._path, error.strerror)

    def _tell(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.error("configuration: %s", trouble)
        self.trouble = trouble


def _counts_apart(one: str, other: str) -> bool:
    return not one or not other or (one != other and "?" not in (one, other))
