"""Budgets: held before, settled after, never overspent.

A ``Meter`` counts what one scope (a key, a project, a run, …) has spent and holds, by quarter hours of the requests'
arrival. A ``Budget`` is a ceiling over some of them: a day or a month in its time zone, or all. A request that is still
running when the day ends counts in the day it came in. The wall clock may step either way: a window is found by the
request's own time, and what was counted in it is still there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from tieline.admit.rules import MAX_ASKS, BudgetRule, Period, Starved, zone
from tieline.record.rows import SLOT_S
from tieline.types.errors import BudgetExceeded
from tieline.types.money import Pico, format_usd

_FOREVER = 2**62
_SOON_S = 60.0
KEPT_SLOTS = 40 * 96
"""Forty days of quarter hours: a month in any time zone."""


class BudgetBusy(BudgetExceeded):
    """Room returns soon: running requests hold it, or the period is about to end."""

    status = 429


class BudgetStarved(BudgetBusy, Starved):
    """Only this process's share is used up: another may have room."""


class Budget:
    """A ceiling of one meter. ``used`` is what its current window has spent and holds."""

    __slots__ = (
        "_end",
        "_meter",
        "_start",
        "amount",
        "asks",
        "elsewhere",
        "foreign",
        "hard",
        "held",
        "lease",
        "others",
        "others_held",
        "period",
        "timezone",
        "used",
    )

    def __init__(self, meter: Meter, amount: Pico, period: Period, *, hard: bool, timezone: str) -> None:
        self._meter = meter
        self.amount = amount
        self.period = period
        self.hard = hard
        self.timezone = timezone
        self._start = self._end = 0
        self.used: Pico = 0
        self.held: Pico = 0
        """The part of ``used`` that running requests hold."""
        self.foreign: Pico = 0
        """The part of ``used`` that other processes had spent before this one began."""
        self.elsewhere: Pico = 0
        """What others have spent of the window since, as last looked up: for soft budgets, which are not leased."""
        self.lease: Pico | None = 0 if meter.shared else None
        """With several processes: what this one may use of the window (``leases``); None: all of ``amount``."""
        self.asks: list[Pico] = []
        """How far ``mine`` would have gone with each request that lacked a share."""
        self.others: Pico = 0
        """What other processes have spent and hold of the window, as they told with the leases."""
        self.others_held: Pico = 0

    def __repr__(self) -> str:
        return f"<Budget {self._meter.scope} {self.period} {format_usd(self.used)}/{format_usd(self.amount)}>"

    def used_at(self, slot: int) -> Pico:
        """What the window of ``slot`` has spent and holds."""
        if self._start <= slot < self._end:
            return self.used
        start, end = self.bounds(slot)
        used = self._meter.between(start, end)
        if slot >= self._end:
            self._start, self._end, self.used = start, end, used
            self.held = self._meter.held_between(start, end)
            self.foreign = self._meter.foreign_between(start, end)
            self.elsewhere = 0
            self.lease = None if self.lease is None else 0
            self.asks = []
            self.others = self.others_held = 0
        return used

    def spent_at(self, slot: int) -> Pico:
        """What the window of ``slot`` has spent, here and as far as known elsewhere. What is held may yet come back."""
        used = self.used_at(slot)
        return used - self.held + self.elsewhere if self._start <= slot < self._end else used

    def count(self, spent: Pico, held: Pico, slot: int) -> None:
        """What more was spent and held of the window of ``slot``; less, where negative."""
        if self._start <= slot < self._end:
            self.used += spent + held
            self.held += held

    def bounds(self, slot: int) -> tuple[int, int]:
        """First slot of the window and first after it."""
        if self.period == "lifetime":
            return 0, _FOREVER
        day = datetime.fromtimestamp(slot * SLOT_S, zone(self.timezone)).replace(
            hour=0, minute=0, second=0, microsecond=0, fold=0
        )
        if self.period == "month":
            day = day.replace(day=1)
            after = (day + timedelta(days=32)).replace(day=1)
        else:
            after = day + timedelta(days=1)
        # A day that begins or ends within a quarter hour (none today) would be cut at the slot.
        return int(day.timestamp()) // SLOT_S, int(after.timestamp()) // SLOT_S

    def check(self, amount: Pico, slot: int) -> None:
        """Raises when a hard budget has no room for ``amount`` more."""
        if not self.hard:
            return
        used = self.used_at(slot)
        if self.lease is not None:
            self._check_lease(amount, slot, used)
        elif used + amount > self.amount:
            raise self._exceeded(amount, slot, used)

    @property
    def mine(self) -> Pico:
        """What this process has spent and holds in the current window."""
        return self.used - self.foreign

    @property
    def window_name(self) -> str:
        """What all processes call the current window."""
        return f"{self._meter.scope}|{self.period}|{self.timezone}|{self._start}"

    @property
    def window_bounds(self) -> tuple[int, int]:
        return self._start, self._end

    def warning(self, slot: int) -> str:
        return (
            f"{_ADJECTIVE[self.period]} budget of {self._meter.name} exceeded: "
            f"{format_usd(self.spent_at(slot))} of {format_usd(self.amount)} USD"
        )

    def _check_lease(self, amount: Pico, slot: int, used: Pico) -> None:
        assert self.lease is not None
        # A window that is over gets no further leases: what a late request holds there may not grow.
        room = self.lease if slot >= self._start else 0
        if self.mine + amount <= room and slot >= self._start:
            return
        if slot < self._start:
            raise self._exceeded(amount, slot, used)
        known = self.mine + max(self.foreign, self.others)
        if known - self.others_held + amount > self.amount:
            raise self._exceeded(amount, slot, known)
        if len(self.asks) < MAX_ASKS:
            self.asks.append(self.mine + amount)
        raise BudgetStarved(
            f"The {_ADJECTIVE[self.period]} budget of {self._meter.name} is shared out to several processes, and "
            "this one's part is used up.",
            retry_after_s=1.0,
            details={
                "scope": self._meter.scope,
                "period": self.period,
                "budget_usd": format_usd(self.amount),
            },
        )

    def _exceeded(self, amount: Pico, slot: int, used: Pico) -> BudgetExceeded:
        _, end = self.bounds(slot)
        held = min(used, self.held + self.others_held)
        renews = None if end == _FOREVER else max(1.0, end * SLOT_S - self._meter.wall())
        busy = used - held + amount <= self.amount and amount <= self.amount and held > 0
        soon = renews is not None and renews <= _SOON_S and amount <= self.amount
        details = {
            "scope": self._meter.scope,
            "period": self.period,
            "budget_usd": format_usd(self.amount),
            "spent_usd": format_usd(used - held),
            "held_usd": format_usd(held),
            "needed_usd": format_usd(amount),
        }
        text = (
            f"The {_ADJECTIVE[self.period]} budget of {self._meter.name} is {details['budget_usd']} USD; "
            f"{details['spent_usd']} are spent and {details['held_usd']} held by running requests; this request "
            f"may need {details['needed_usd']}."
        )
        kind = BudgetBusy if busy or soon else BudgetExceeded
        wait = 1.0 if kind is BudgetBusy and not soon else renews
        return kind(text, retry_after_s=wait, details=details, hint="Raise the budget, or lower max_tokens.")


class Meter:
    """What a scope has spent and holds: the ``Purse`` that requests draw on."""

    __slots__ = (
        "_before",
        "_foreign",
        "_foreign_before",
        "_holds",
        "_named",
        "_slots",
        "budgets",
        "held",
        "scope",
        "shared",
        "total",
        "wall",
    )

    def __init__(
        self,
        scope: str,
        slots: dict[int, Pico] | None = None,
        before: Pico = 0,
        *,
        wall: Callable[[], float] = time.time,
        foreign: dict[int, Pico] | None = None,
        foreign_before: Pico = 0,
        shared: bool = False,
        named: Callable[[str], str] = str,
    ) -> None:
        """``named``: what people call a scope."""
        self.scope = scope
        self._named = named
        self.shared = shared
        self._foreign = foreign or {}
        self._foreign_before = foreign_before
        self.wall = wall
        self._slots: dict[int, Pico] = slots or {}
        self._before = before
        """Of slots that are not kept any more."""
        self.total: Pico = before + sum(self._slots.values())
        self.held: Pico = 0
        self._holds: dict[int, Pico] = {}
        """The parts of ``held`` by the slot that they count in."""
        self.budgets: tuple[Budget, ...] = ()

    def __repr__(self) -> str:
        return f"<Meter {self.scope} total={format_usd(self.total)} held={format_usd(self.held)}>"

    @property
    def name(self) -> str:
        return self._named(self.scope)

    def window(self, now: float) -> int:
        return int(now) // SLOT_S

    def hold(self, amount: Pico, window: int) -> None:
        for budget in self.budgets:
            budget.check(amount, window)
        self._add(0, amount, window)

    def settle(self, held: Pico, spent: Pico, window: int) -> None:
        self._add(spent, -held, window)

    def between(self, start: int, end: int) -> Pico:
        if start == 0:
            return self.total
        return sum(amount for slot, amount in self._slots.items() if start <= slot < end)

    def held_between(self, start: int, end: int) -> Pico:
        return sum(amount for slot, amount in self._holds.items() if start <= slot < end)

    def foreign_between(self, start: int, end: int) -> Pico:
        """What other processes had spent when this one began."""
        before = self._foreign_before if start == 0 else 0
        return before + sum(amount for slot, amount in self._foreign.items() if start <= slot < end)

    def set_budgets(self, rules: Iterable[tuple[Pico, Period, bool, str]]) -> None:
        """Replaces the ceilings; what is spent and held stays counted. Existing ones keep their lease."""
        old = {(budget.period, budget.hard, budget.timezone): budget for budget in self.budgets}
        budgets = []
        for amount, period, hard, timezone in rules:
            budget = old.get((period, hard, timezone))
            if budget is None:
                budget = Budget(self, amount, period, hard=hard, timezone=timezone)
            budget.amount = amount
            budgets.append(budget)
        self.budgets = tuple(budgets)

    def warnings(self, slot: int) -> list[str]:
        """One line for each soft budget that is overspent."""
        return [
            budget.warning(slot)
            for budget in self.budgets
            if not budget.hard and budget.spent_at(slot) > budget.amount
        ]

    def _add(self, spent: Pico, held: Pico, slot: int) -> None:
        for budget in self.budgets:
            # Rolls the window on first, so that the amount is not counted twice.
            budget.used_at(slot)
            budget.count(spent, held, slot)
        self.held += held
        holds = self._holds.get(slot, 0) + held
        if holds:
            self._holds[slot] = holds
        else:
            self._holds.pop(slot, None)
        amount = spent + held
        self.total += amount
        self._slots[slot] = self._slots.get(slot, 0) + amount
        if len(self._slots) > KEPT_SLOTS:
            self._forget()

    def _forget(self) -> None:
        for slot in sorted(self._slots)[: len(self._slots) - KEPT_SLOTS + 96]:
            self._before += self._slots.pop(slot)


_ADJECTIVE = {"day": "daily", "month": "monthly", "lifetime": "lifetime"}


def ceilings(rules: Iterable[BudgetRule]) -> list[tuple[Pico, Period, bool, str]]:
    return [(rule.amount, rule.period, rule.hard, rule.timezone) for rule in rules]
