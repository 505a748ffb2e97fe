"""Hold before sending, settle after, exactly once: whatever happens in between.

::

    idle --reserve--> held --top_up--> held --settle--> settled
      \\___________________settle_____________________/

A hold draws on several purses (the key's day, the project's month, …): on all of them or on none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tieline.types.money import Pico


class Purse(Protocol):
    """An allowance. Methods are synchronous and are called from one thread."""

    def hold(self, amount: Pico, window: int) -> None:
        """Sets ``amount`` aside. Raises BudgetExceeded, and holds nothing, when it does not fit."""

    def settle(self, held: Pico, spent: Pico, window: int) -> None:
        """Ends a hold of ``held``: ``spent`` of it is gone, the rest is free again."""

    def window(self, now: float) -> int:
        """Which period ``now`` falls into; given back with ``hold`` and ``settle`` so that both meet the same one."""


class Hold:
    """What one request has set aside. Not for several threads."""

    __slots__ = ("_purses", "_windows", "held", "settled", "spent")

    def __init__(self, purses: Sequence[Purse], now: float) -> None:
        self._purses = purses
        self._windows = [purse.window(now) for purse in purses]
        self.held: Pico = 0
        self.spent: Pico = 0
        self.settled = False

    def __repr__(self) -> str:
        state = "settled" if self.settled else "held" if self.held else "idle"
        return f"<Hold {state} held={self.held} spent={self.spent}>"

    def reserve(self, amount: Pico) -> None:
        """Raises the hold to ``amount`` in all. Raises BudgetExceeded and changes nothing when a purse lacks it."""
        if amount > self.held:
            self.top_up(amount - self.held)

    def top_up(self, extra: Pico) -> None:
        """Adds to the hold, all purses or none."""
        if self.settled:
            raise RuntimeError("a settled hold cannot grow")
        taken = 0
        try:
            for purse in self._purses:
                purse.hold(extra, self._windows[taken])
                taken += 1
        except BaseException:
            for purse, window in zip(self._purses[:taken], self._windows, strict=False):
                purse.settle(extra, 0, window)
            raise
        self.held += extra

    def settle(self, actual: Pico | None) -> Pico:
        """Ends the hold and returns what was spent; later calls change nothing and return the same.

        None is an unknown cost: all that was held counts as spent, so that an unknown never widens a budget. More
        than was held is counted in full: the ledger states what happened.
        """
        if self.settled:
            return self.spent
        self.settled = True
        self.spent = self.held if actual is None else actual
        for number, purse in enumerate(self._purses):
            purse.settle(self.held, self.spent, self._windows[number])
        return self.spent
