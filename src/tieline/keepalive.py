"""Signs of life for callers who wait for the first byte of a stream: idle proxies cut one that says nothing (WIRE_FACTS
12)."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

log = logging.getLogger("tieline")

_EARLY_S: Final = 0.001
"""uvloop's clock has milliseconds, and a timer may come that much before its time: it would be set again and again."""


class Waiting(Protocol):
    def ping(self) -> None: ...


class Keepalive:
    """Pings each who waits, every ``every_s`` seconds. All wait equally long, so who came first is due first: one timer for
    all of them, which runs only while somebody waits."""

    __slots__ = ("_due", "_every_s", "_loop", "_timer")

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._due: dict[Waiting, float] = {}
        """When, by the loop's clock; in this order."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, caller: Waiting) -> None:
        loop = asyncio.get_running_loop()
        due = self._due[caller] = loop.time() + self._every_s
        if self._timer is None or loop is not self._loop:
            self._loop = loop
            self._timer = loop.call_at(due, self._look)

    def drop(self, caller: Waiting) -> None:
        """Also of one that was not added."""
        self._due.pop(caller, None)

    def _look(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        late = []
        for caller, due in self._due.items():
            if due > now + _EARLY_S:
                break
            late.append(caller)
        for caller in late:
            del self._due[caller]
            self._due[caller] = now + self._every_s
        first = next(iter(self._due.values()), None)
        self._timer = None if first is None else self._loop.call_at(first, self._look)
        for caller in late:
            try:
                caller.ping()
            except Exception:
                # The others wait for theirs.
                self.drop(caller)
                log.exception("a waiting stream could not be pinged")
