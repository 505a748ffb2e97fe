"""Budgets and limits over several processes: keeps this one supplied with leases, in the background.

Requests spend what was leased and never wait, except for one that would be refused only because this process's part is
used up (``Starved``): ``refill`` and try again, which is what ``admit`` and ``reserve`` here do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from tieline.admit.accounts import Accounts
from tieline.admit.admission import Admission, Permit
from tieline.admit.budgets import Budget, Meter
from tieline.admit.facts import Facts
from tieline.admit.limits import Share
from tieline.admit.rules import Starved
from tieline.store.database import database_away
from tieline.store.shared import Answer, Claim, SharedState, SharedUnavailable
from tieline.types.money import Pico

INTERVAL_S = 0.25
_LIMIT_EXPIRES_S = 65
"""A grant of requests or tokens per minute ends when all it allowed is older than the window."""
_FORGET_LIMIT_S = 86_400
_FORGET_BUDGET_S = 40 * 86_400
"""Longer than any month."""
_FORGET_RUN_S = 8 * 86_400
"""A run that was not heard of for longer begins anew, as it does in the database (``accounts``)."""
_REFILLS = 3
"""How often one request asks again: others may be faster."""

Outstanding = tuple[Claim, Callable[[Answer], None]]


class Leases:
    """``await load()`` before serving, ``start()``, and ``await stop()``, which gives back what is not spent.

    ``writer`` is the recorder's: what it wrote to the database is what this process spent.
    """

    def __init__(
        self,
        admission: Admission,
        shared: SharedState,
        writer: str,
        accounts: Accounts | None = None,
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._admission = admission
        self._shared = shared
        self._writer = writer
        self._accounts = accounts
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None
        self._refilling: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._in_doubt = False
        self._unsettled: set[str] = set()
        """Allowances that did not know this process, of which it is not known what others spent."""
        self.last_error: str | None = None
        """None: the shared state answered when it was last asked."""

    async def load(self) -> None:
        """The first leases; without an answer the process starts with none."""
        with contextlib.suppress(SharedUnavailable):
            await self.exchange()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="tieline-leases")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        with contextlib.suppress(SharedUnavailable):
            await self.exchange(keep=False)

    async def admit(self, secret: str | None, facts: Facts) -> Permit:
        """``Admission.admit``, waiting for a lease where that is all that is missing."""
        for _ in range(_REFILLS):
            try:
                return self._admission.admit(secret, facts)
            except Starved:
                await self.refill()
        return self._admission.admit(secret, facts)

    async def reserve(self, permit: Permit, amount: Pico) -> None:
        """``Permit.reserve``, waiting for a lease where that is all that is missing."""
        for _ in range(_REFILLS):
            try:
                return permit.reserve(amount)
            except Starved:
                await self.refill()
        return permit.reserve(amount)

    async def refill(self) -> None:
        """One exchange for all who ask at the same time."""
        if self._refilling is None or self._refilling.done():
            self._refilling = asyncio.get_running_loop().create_task(self._refill())
        await asyncio.shield(self._refilling)

    async def exchange(self, *, keep: bool = True) -> None:
        """Says what was used, takes what is given. Raises SharedUnavailable; then what is held stays valid."""
        async with self._turn:
            try:
                self._unsettled |= await self._exchange(keep, None)
                unsettled = self._unsettled
                if unsettled and keep and await self._settle_others(unsettled):
                    self._unsettled = set()
                    await self._exchange(keep, unsettled)
                self.last_error = None
            except SharedUnavailable as error:
                self.last_error = str(error)
                raise

    async def _exchange(self, keep: bool, only: set[str] | None) -> set[str]:
        """One round; returns the allowances that did not know this process."""
        outstanding = self._outstanding(keep, only)
        self._in_doubt = True
        answers = await self._shared.exchange(self._writer, [claim for claim, _ in outstanding])
        self._in_doubt = False
        for (_, apply), answer in zip(outstanding, answers, strict=True):
            apply(answer)
        return {
            claim.name for (claim, _), answer in zip(outstanding, answers, strict=True) if not answer.known
        }

    def _floor(self, used: int, lease: int, keep: bool) -> int:
        """What this process may come to while its claim is under way: half of what is left goes on offer.

        When it is not known whether the last claim arrived nothing more is offered: each silent round would halve
        what is left, and the leases must last while the shared state is away.
        """
        if not keep:
            return used
        return max(used, lease) if self._in_doubt else used + max(0, lease - used) // 2

    async def _settle_others(self, names: set[str]) -> bool:
        """Processes that are gone have no grant any more, but what they spent of a budget is in the database.

        False: the database is away as well; until it answers nothing more of these budgets is taken.
        """
        if self._accounts is None:
            return True
        try:
            await self._settle_from(self._accounts, names)
        except Exception as error:
            if not database_away(error):
                raise
            return False
        return True

    async def _settle_from(self, accounts: Accounts, names: set[str]) -> None:
        for meter, budget in self._budgets():
            if budget.window_name in names:
                start, end = budget.window_bounds
                spent = await asyncio.to_thread(accounts.spent_by_writer, meter.scope, start, end)
                spent.pop(self._writer, None)
                if spent:
                    await self._shared.settle(budget.window_name, spent, only_missing=True)

    async def forgive(self, writer: str) -> None:
        """After a dead process's journal was taken over: its unspent grants become free again."""
        if self._accounts is None:
            return
        for meter, budget in self._budgets():
            start, end = budget.window_bounds
            spent = await asyncio.to_thread(self._accounts.spent_by_writer, meter.scope, start, end)
            await self._settle_one(budget, {writer: spent.get(writer, 0)})

    async def _settle_one(self, budget: Budget, spent: Mapping[str, Pico]) -> None:
        await self._shared.settle(budget.window_name, spent, only_missing=False)

    def _budgets(self) -> list[tuple[Meter, Budget]]:
        now = self._admission.wall()
        found = []
        for meter in self._admission.meters():
            for budget in meter.budgets:
                if budget.hard:
                    budget.used_at(meter.window(now))
                    found.append((meter, budget))
        return found

    def _outstanding(self, keep: bool, only: set[str] | None) -> list[Outstanding]:
        found = [
            self._of_budget(budget, keep)
            for _, budget in self._budgets()
            if only is None or budget.window_name in only
        ]
        now = self._admission.clock()
        for gate in self._admission.gates():
            for share, used in zip(gate.shares, gate.used(now), strict=True):
                name = f"{gate.scope}|{share.unit}"
                if share.limit is not None and (only is None or name in only):
                    found.append(self._of_share(name, share, used, keep))
        return found

    def _of_budget(self, budget: Budget, keep: bool) -> Outstanding:
        name, granted = budget.window_name, budget.lease or 0
        is_fixed = keep and name in self._unsettled
        floor = max(budget.mine, granted) if is_fixed else self._floor(budget.mine, granted, keep)
        claim = Claim(
            name,
            # What is held stays held and does not grow.
            floor if is_fixed else budget.amount,
            floor,
            granted,
            max(0, budget.need - floor),
            forget_s=_forgotten_after(budget),
            keep=keep,
        )

        def apply(answer: Answer) -> None:
            # The window may have ended while the answer was under way.
            if budget.window_name == name:
                budget.lease = answer.granted
                budget.need = 0

        # What is on offer may be another's before the answer is here.
        budget.lease = floor
        return claim, apply

    def _of_share(self, name: str, share: Share, used: int, keep: bool) -> Outstanding:
        granted = share.lease or 0
        floor = self._floor(used, granted, keep)
        claim = Claim(
            name,
            share.limit or 0,
            floor,
            granted,
            max(0, share.need - floor),
            expire_s=_LIMIT_EXPIRES_S,
            forget_s=_FORGET_LIMIT_S,
            keep=keep,
        )

        def apply(answer: Answer) -> None:
            share.lease = answer.granted
            share.need = 0

        share.lease = floor
        return claim, apply

    async def _refill(self) -> None:
        with contextlib.suppress(SharedUnavailable):
            await self.exchange()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.refill()


def _forgotten_after(budget: Budget) -> int:
    if budget.window_name.startswith("run:"):
        return _FORGET_RUN_S
    return 0 if budget.period == "lifetime" else _FORGET_BUDGET_S
