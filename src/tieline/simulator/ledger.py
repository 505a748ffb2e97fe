"""What the simulator did, so that a gateway's accounts can be checked from the other side."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec import Struct

MAX_ENTRIES = 100_000
MAX_BODY_BYTES = 64 * 1024
"""Larger request bodies are not kept."""
MAX_BODIES = 1_000
"""Only the latest requests keep their bodies: at most 64 MB in all."""


class Entry(Struct, kw_only=True):
    """One request. Output tokens are those that were sent, not those that were meant."""

    id: int
    at: float
    provider: str
    dialect: str = ""
    model: str = ""
    key: str = ""
    """A label of the credential: its last four characters."""
    behaviour: str = ""
    status: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    stream: bool = False
    completed: bool = False
    cut: bool = False
    """Ended short by the simulator's own doing."""
    cancelled_by_client: bool = False
    body: Any = None


class Ledger:
    def __init__(self, maxlen: int = MAX_ENTRIES) -> None:
        self.entries: deque[Entry] = deque(maxlen=maxlen)
        self.opened = 0

    def open(self, at: float, provider: str) -> Entry:
        """A row is there from the start, so that what never ends shows too."""
        self.opened += 1
        entry = Entry(id=self.opened, at=at, provider=provider)
        self.entries.append(entry)
        if len(self.entries) > MAX_BODIES:
            self.entries[-MAX_BODIES - 1].body = None
        return entry

    def clear(self) -> None:
        self.entries.clear()

    def sums(self) -> dict[str, dict[str, int]]:
        """By provider: requests, answers completed, cut, cancelled, refused, tokens."""
        found: dict[str, dict[str, int]] = {}
        for entry in self.entries:
            row = found.setdefault(
                entry.provider,
                dict.fromkeys(
                    ("requests", "completed", "cut", "cancelled", "refused", "input_tokens", "output_tokens"),
                    0,
                ),
            )
            row["requests"] += 1
            row["completed"] += entry.completed
            row["cut"] += entry.cut
            row["cancelled"] += entry.cancelled_by_client
            row["refused"] += entry.status >= 400
            row["input_tokens"] += entry.input_tokens
            row["output_tokens"] += entry.output_tokens
        return found
