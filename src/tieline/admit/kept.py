"""The keys last known, in a file beside the spool: with them a start without the database goes on serving keys.

It holds digests and rules, no secret, and is for its owner only. Whoever was revoked since it was written cannot be known
from it, so that it is not used when it is older than a day.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from tieline.admit.snapshot import Snapshot
from tieline.types.money import Pico

if TYPE_CHECKING:
    from tieline.store.database import Database

NAME = "keys"
MAX_AGE_S = 86_400
FRESH_S = 60.0
"""How often the file is marked as still true."""


class Kept(Struct, frozen=True):
    database: str
    """Which: a spool may have served another before."""
    snapshot: Snapshot
    credits: dict[str, Pico]


class KeptKeys:
    """Call from a thread. Processes with one spool write the same file; each replaces it whole."""

    def __init__(self, spool: Path, database: Database) -> None:
        self._path = spool / NAME
        self._database = hashlib.sha256(
            database.url.render_as_string(hide_password=True).encode()
        ).hexdigest()
        self._revision: int | None = None
        self._marked = 0.0

    def keep(self, snapshot: Snapshot, credits: dict[str, Pico]) -> None:
        """Never raises: without the file a start waits for the database."""
        beside = self._path.with_name(f"{NAME}.{os.getpid()}")
        body = msgspec.msgpack.encode(Kept(self._database, snapshot, credits))
        try:
            descriptor = os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
            os.replace(beside, self._path)
            self._revision, self._marked = snapshot.revision, time.monotonic()
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink()

    def still(self, revision: int) -> None:
        """The database was looked at, and says what it said."""
        if revision == self._revision and time.monotonic() - self._marked > FRESH_S:
            self._marked = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def recall(self) -> Kept | None:
        """None: there is no file, or it is damaged, too old, of another database, or of another version."""
        try:
            if time.time() - self._path.stat().st_mtime > MAX_AGE_S:
                return None
            kept = _decode(self._path.read_bytes())
        except (OSError, msgspec.MsgspecError):
            return None
        return kept if kept.database == self._database else None


_decode = msgspec.msgpack.Decoder(Kept).decode
