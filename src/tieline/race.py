"""Hedging: a second try beside a first that is late; the first with content answers, the other is cancelled (DESIGN 7)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from tieline import bill
from tieline.exchange import OURS, Exchange, Lost
from tieline.route.steps import Outcome, Try
from tieline.types.errors import BudgetExceeded

if TYPE_CHECKING:
    from tieline.pipeline import Flight

log = logging.getLogger("tieline")

Run = asyncio.Task[Outcome]


class Race:
    """At most two tries of one request. Only one of them ever writes to the caller."""

    def __init__(self, flight: Flight) -> None:
        self.flight = flight
        self.winner: Exchange | None = None
        self._runs: dict[Run, Exchange] = {}
        self._began = flight.line.clock()

    async def run(self, step: Try, after_s: float) -> Outcome:
        """How the race ended. Both tries are over then, and the plan has been told of the one that lost."""
        try:
            first = self._start(step)
            await asyncio.wait({first}, timeout=after_s)
            if not first.done() and self.winner is None:
                self._hedge(step)
            return await self._settled()
        except asyncio.CancelledError:
            await self._stop_all()
            if (complete := self._complete()) is None:
                raise
            return complete
        finally:
            await self._stop_all()
            if self.winner is None:
                self.flight.upstream_s += self.flight.line.clock() - self._began

    def win(self, exchange: Exchange) -> None:
        """``exchange`` has content. Raises Lost when the other had it before."""
        if self.winner is not None:
            if self.winner is not exchange:
                raise Lost
            return
        self.winner = exchange
        self.flight.upstream_s += self.flight.line.clock() - self._began
        for run, other in self._runs.items():
            if other is not exchange and not run.done():
                other.lose()
                run.cancel()

    def _complete(self) -> Outcome | None:
        """Of the winner, where the caller has its whole answer."""
        for run, exchange in self._runs.items():
            if exchange is self.winner and not run.cancelled() and run.exception() is None:
                return run.result() if run.result().failure is None else None
        return None

    def _start(self, step: Try) -> Run:
        exchange = Exchange(self.flight, step, self)
        run = asyncio.get_running_loop().create_task(exchange.run())
        self._runs[run] = exchange
        return run

    def _hedge(self, beside: Try) -> None:
        """Nothing happens when the plan has nobody else, or no budget bears both."""
        hedge = self.flight.plan.hedge(self.flight.elapsed_s())
        if hedge is None:
            return
        try:
            refused = bill.hold(self.flight, hedge, beside=beside)
        except BudgetExceeded:
            self.flight.plan.withdraw_hedge()
            return
        if refused is None:
            self._start(hedge)
        else:
            self.flight.plan.withdraw_hedge(refused)

    async def _settled(self) -> Outcome:
        """The winner's outcome, or of two that failed the later one's."""
        while True:
            done, pending = await asyncio.wait(
                [run for run in self._runs if not run.done()] or self._runs,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self.winner is not None:
                return await self._won(self.winner)
            ended = [run for run in self._runs if run in done]
            last = None if pending else ended.pop()
            for run in ended:
                self.flight.plan.note(self._runs.pop(run).step, self._beside(run))
            if last is not None:
                return last.result()

    def _beside(self, run: Run) -> Outcome:
        """How the one of two that failed first ended; a fault of ours in it is not the other's either."""
        error = run.exception()
        if error is None:
            return run.result()
        log.error(
            "request %s: one of two attempts failed inside Tieline", self.flight.record.id, exc_info=error
        )
        return Outcome(failure=OURS, elapsed_s=self.flight.elapsed_s())

    async def _won(self, winner: Exchange) -> Outcome:
        await asyncio.wait(self._runs)
        for run, exchange in self._runs.items():
            if exchange is winner:
                won = run
            else:  # it lost, which is no failure of its deployment: only its cost matters
                self.flight.plan.note(exchange.step, Outcome(cost=exchange.cost))
        return won.result()

    async def _stop_all(self) -> None:
        left = [run for run in self._runs if not run.done()]
        for run in left:
            run.cancel()
        if left:
            await asyncio.wait(left)
