"""What a request leaves behind before it is over, and how the recorder says that it is."""

from __future__ import annotations

from msgspec import Struct

from tieline.types.money import Pico


class Begun(Struct, array_like=True, frozen=True, gc=False):
    """A request that was admitted and is not over: what a killed process leaves of it."""

    id: str
    at_ms: int
    operation: str
    dialect: str
    model_asked: str
    key_id: str | None
    project: str | None
    run: str | None
    tags: dict[str, str]
    held: Pico


class RecorderHealth(Struct, frozen=True, kw_only=True):
    accepted: int
    written: int
    queued: int
    spooled: int
    """Only in the journal, to be replayed."""
    recovered: int
    """Taken over from a process that had died."""
    refused: int
    """The database can never take them (not counted as written)."""
    uncounted: int
    """Not in the metrics, by a fault of ours."""
    lost: int
    """No journal and no room: these are gone."""
    journal_failing: bool
    """The disk is full or gone: records are only in memory."""
    waiting_s: float
    """How long the oldest record in memory has waited for the database, at least."""
    failing_since: float | None
    """Unix time since when the database takes nothing."""
    last_error: str | None

    @property
    def ok(self) -> bool:
        return self.failing_since is None and not self.journal_failing and not self.lost
