"""Budgets and limits over several processes: keeps this one supplied with leases, in the background.

Requests spend what was leased and never wait, except for one that would be refused only because this process's part is
used up (``Starved``): ``patiently`` refills and tries again, for as long as the others need to give back what they do not
use.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Callable, Mapping
from typing import TypeVar

from tieline.admit.accounts import Accounts
from tieline.admit.admission import Admission, Permit
from tieline.admit.budgets import Budget, Meter
from tieline.admit.facts import Facts
from tieline.admit.limits import AT_A_TIME, Gate
from tieline.admit.rules import Starved
from tieline.store.database import database_away
from tieline.store.shared import Answer, Claim, SharedState, SharedUnavailable
from tieline.types.money import Pico

log = logging.getLogger("tieline")

INTERVAL_S = 0.25
_LIMIT_EXPIRES_S = 65
"""A grant of requests or tokens per minute ends when all it allowed is older than the window."""
_FORGET_LIMIT_S = 86_400
_FORGET_BUDGET_S = 40 * 86_400
"""Longer than any month."""
_FORGET_RUN_S = 8 * 86_400
"""A run that was not heard of for longer begins anew, as it does in the database (``accounts``)."""
_REFILLS = 3
"""How often one request asks again at once: others may be faster."""
_PATIENCE_S = 0.75
"""How long it then waits: all others have two exchanges of the usual interval in this time."""
_PAUSE_S = 0.05
_MAX_WAITING = 64
"""Requests that wait; beyond, one is refused at once, so that a key at its limit does not fill the gateway."""
_ASKED_S = 0.3
"""What a request asked for and got is not offered to others for this long: it may need a share of a second allowance."""

_T = TypeVar("_T")
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
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._admission = admission
        self._shared = shared
        self._writer = writer
        self._accounts = accounts
        self._interval_s = interval_s
        self._patience_s = patience_s
        self._life = f"{writer}.{secrets.token_hex(4)}"
        """Holds what is used of a minute: one that takes this process's place must not take that for its own."""
        self._asks: dict[str, dict[int, float]] = {}
        """What requests would bring this process to, by allowance, and when they asked."""
        self._scarce: set[str] = set()
        """Allowances of which a request somewhere needs more than is free."""
        self._waiting = 0
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
        return await self.patiently(lambda: self._admission.admit(secret, facts))

    async def patiently(self, attempt: Callable[[], _T]) -> _T:
        """What ``attempt`` returns, trying again while it raises Starved. Raises that in the end."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._patience_s
        for _ in range(_REFILLS):
            try:
                return attempt()
            except Starved:
                await self.refill()
        while True:
            try:
                return attempt()
            except Starved:
                if clock() >= until or self.last_error is not None or self._waiting >= _MAX_WAITING:
                    raise
            self._waiting += 1
            try:
                # Not all processes at the same moment.
                await asyncio.sleep(_PAUSE_S * (0.5 + random.random()))
                await self.refill()
            finally:
                self._waiting -= 1

    async def refill(self) -> None:
        """One exchange for all who ask at the same time."""
        if self._refilling is None or self._refilling.done():
            self._refilling = asyncio.get_running_loop().create_task(self._refill())
        await asyncio.shield(self._refilling)

    async def exchange(self, *, keep: bool = True) -> None:
        """Says what was used, takes what is given. Raises SharedUnavailable; then what is held stays valid."""
        async with self._turn:
            try:
                scarce = set(self._scarce)
                self._unsettled |= await self._exchange(keep, None)
                unsettled = self._unsettled
                if unsettled and keep and await self._settle_others(unsettled):
                    self._unsettled = set()
                    await self._exchange(keep, unsettled)
                if keep and (news := self._scarce - scarce):
                    # Somebody waits for what was kept back in the round that told it.
                    self._unsettled |= await self._exchange(keep, news)
                self._tell(None)
            except SharedUnavailable as error:
                self._tell(str(error))
                raise

    def _tell(self, trouble: str | None) -> None:
        """Once for each."""
        if trouble is not None and trouble != self.last_error:
            log.warning("redis: %s; budgets and limits are spent out of the shares that are left", trouble)
        elif trouble is None and self.last_error is not None:
            log.info("redis answers again")
        self.last_error = trouble

    async def _exchange(self, keep: bool, only: set[str] | None) -> set[str]:
        """One round; returns the allowances that did not know this process."""
        outstanding = self._outstanding(keep, only)
        if only is None:
            # Windows that are over ask for nothing any more.
            names = {claim.name for claim, _ in outstanding}
            self._scarce &= names
            self._asks = {name: asks for name, asks in self._asks.items() if name in names}
        self._in_doubt = True
        answers = await self._shared.exchange(self._writer, [claim for claim, _ in outstanding])
        self._in_doubt = False
        for (_, apply), answer in zip(outstanding, answers, strict=True):
            apply(answer)
        return {
            claim.name for (claim, _), answer in zip(outstanding, answers, strict=True) if not answer.known
        }

    def _floor(self, name: str, used: int, lease: int, keep: bool) -> int:
        """What this process may come to while its claim is under way: half of what is left goes on offer, and all where
        somebody needs more than is free.

        When it is not known whether the last claim arrived nothing more is offered: each silent round would halve
        what is left, and the leases must last while the shared state is away.
        """
        if not keep:
            return used
        if self._in_doubt:
            return max(used, lease)
        # What a request here was given and has not yet taken stays.
        used = max([used, *(ask for ask in self._asks.get(name, ()) if ask <= lease)])
        return used if name in self._scarce else used + max(0, lease - used) // 2

    def _asked(self, name: str, asks: list[int]) -> tuple[int, ...]:
        """Those of late with the new ones, which are taken off the list."""
        now = asyncio.get_running_loop().time()
        known = self._asks.pop(name, {})
        late = {ask: at for ask, at in known.items() if now - at < _ASKED_S} | dict.fromkeys(asks, now)
        asks.clear()
        if late:
            self._asks[name] = late
        return tuple(sorted(late))

    def _note_scarce(self, name: str, answer: Answer) -> None:
        if answer.is_scarce:
            self._scarce.add(name)
        else:
            self._scarce.discard(name)

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
            for meter, budget in self._budgets()
            if only is None or budget.window_name in only
        ]
        now = self._admission.clock()
        for gate in self._admission.gates():
            for number, share in enumerate(gate.shares):
                if share.limit is not None and (only is None or f"{gate.scope}|{share.unit}" in only):
                    found.append(self._of_share(gate, number, now, keep))
        return found

    def _of_budget(self, budget: Budget, keep: bool) -> Outstanding:
        name, granted = budget.window_name, budget.lease or 0
        is_fixed = keep and name in self._unsettled
        asks = self._asked(name, budget.asks)
        floor = max(budget.mine, granted) if is_fixed else self._floor(name, budget.mine, granted, keep)
        claim = Claim(
            name,
            # What is held stays held and does not grow.
            floor if is_fixed else budget.amount,
            floor,
            granted,
            asks,
            in_use=budget.mine,
            held=max(0, min(budget.mine, budget.held)),
            forget_s=_forgotten_after(budget),
            keep=keep,
        )

        def apply(answer: Answer) -> None:
            # The window may have ended while the answer was under way.
            if budget.window_name == name:
                budget.lease = answer.granted
                budget.others, budget.others_held = answer.others, answer.others_held
                if not is_fixed:
                    self._note_scarce(name, answer)

        # What is on offer may be another's before the answer is here.
        budget.lease = floor
        return claim, apply

    def _of_share(self, gate: Gate, number: int, now: float, keep: bool) -> Outstanding:
        share, used = gate.shares[number], gate.used(now)[number]
        name, granted = f"{gate.scope}|{share.unit}", share.lease or 0
        asks = self._asked(name, share.asks)
        floor = self._floor(name, used, granted, keep)
        claim = Claim(
            name,
            share.limit or 0,
            floor,
            granted,
            asks,
            in_use=used,
            held=gate.held(number, used),
            leaving=gate.leaving(number, now),
            # Requests that ran in a process end with it; what it used of a minute does not.
            holder=self._writer if number == AT_A_TIME else self._life,
            expire_s=_LIMIT_EXPIRES_S,
            forget_s=_FORGET_LIMIT_S,
            keep=keep,
        )

        def apply(answer: Answer) -> None:
            share.lease = answer.granted
            share.others, share.others_held = answer.others, answer.others_held
            share.leaving = [(now + in_s, amount) for in_s, amount in answer.leaving]
            self._note_scarce(name, answer)

        share.lease = floor
        return claim, apply

    async def _refill(self) -> None:
        with contextlib.suppress(SharedUnavailable):
            await self.exchange()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.refill()
            except Exception as error:  # whatever it is: shares are renewed as long as this process lives
                self._tell(type(error).__name__)


def _forgotten_after(budget: Budget) -> int:
    if budget.window_name.startswith("run:"):
        return _FORGET_RUN_S
    return 0 if budget.period == "lifetime" else _FORGET_BUDGET_S
