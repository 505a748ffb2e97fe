"""Request ids that sort by time."""

from __future__ import annotations

import itertools
import os
import time
from typing import Final

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: in ASCII order, so that text order is numeric order."""
_PAIRS: Final = [a + b for a in _ALPHABET for b in _ALPHABET]
_COUNTER_BITS = 40


def _digits(value: int, pairs: int) -> str:
    return "".join(_PAIRS[value >> 10 * place & 1023] for place in reversed(range(pairs)))


class _Ids:
    """Ten characters of milliseconds, eight of the process, eight that count up from a random start.

    The process's part is drawn anew after a fork, so two processes meet only if 40 random bits agree.
    """

    def __init__(self) -> None:
        self.reseed()

    def reseed(self) -> None:
        seed = int.from_bytes(os.urandom(10), "big")
        self._process = _digits(seed >> _COUNTER_BITS, 4)
        # The top bit stays free: half a million million ids until the counter could wrap.
        self._counter = itertools.count(seed & (1 << _COUNTER_BITS - 1) - 1)
        self._ms = 0
        # The digits of a request's id that are those of the one before it, mostly.
        self._era = ""
        self._prefix = ""
        self._high = (-1, "")

    def new(self) -> str:
        ms = time.time_ns() // 1_000_000
        if ms > self._ms:
            # A clock that steps back must not break the order: the last prefix is kept until it catches up.
            if ms >> 20 != self._ms >> 20:
                self._era = f"req_{_digits(ms >> 20, 3)}"
            self._ms = ms
            self._prefix = f"{self._era}{_PAIRS[ms >> 10 & 1023]}{_PAIRS[ms & 1023]}{self._process}"
        value: int = next(self._counter)
        high, digits = self._high
        if value >> 20 != high:
            high, digits = self._high = (value >> 20, _digits(value >> 20, 2))
        return f"{self._prefix}{digits}{_PAIRS[value >> 10 & 1023]}{_PAIRS[value & 1023]}"


_ids = _Ids()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.reseed)

new_id = _ids.new
"""``req_`` and 26 characters: ascending within a process, unique across processes."""
