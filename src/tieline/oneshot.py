"""One try of an operation that is asked once and answered whole: token counts, embeddings (``dialects.operations``)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tieline.dialects.base import Outgoing
from tieline.dialects.operations import Operation
from tieline.exchange import MAX_ANSWER_BYTES, Exchange
from tieline.route.steps import Outcome, Try
from tieline.transport.base import UpstreamResponse
from tieline.types.call import Headers
from tieline.types.errors import Failure, FailureClass
from tieline.types.record import SUCCESS
from tieline.types.usage import Usage
from tieline.watch import Died

if TYPE_CHECKING:
    from tieline.pipeline import Flight

ESTIMATED: Headers = [(b"tieline-estimated", b"true")]
"""Our own count, or that of a model which took over: another tokenizer makes another number."""
_BEDROCK_COUNT = b"x-amzn-bedrock-input-token-count"
CALLERS_OWN = frozenset((FailureClass.CALLER_FAULT, FailureClass.UNSUPPORTED_PARAMETER))
"""What is wrong with the request is said, not estimated."""


class OneShot(Exchange):
    """An Exchange whose answer is made by an operation instead of a dialect."""

    __slots__ = ("counted", "operation", "requests")

    def __init__(self, flight: Flight, step: Try, operation: Operation) -> None:
        super().__init__(flight, step)
        self.operation = operation
        self.counted: list[bytes | None] = []
        """Of each request that was accepted, what its answer's head says of usage."""
        self.requests = 0

    async def run(self) -> Outcome:
        """As ``Exchange.run``; where nobody can tell but an estimate helps, the estimate is the answer."""
        flight, target = self.flight, self.step.endpoint.target
        estimate = self.operation.estimate(flight.peek)
        if estimate is None:
            return await super().run()
        outcome = None
        if self.operation.encode(flight.call, flight.peek, target):
            outcome = await super().run()
            if outcome.failure is None or outcome.failure.kind in CALLERS_OWN:
                return outcome
        flight.send_whole(estimate, ESTIMATED)
        return Outcome(elapsed_s=flight.elapsed_s())

    def _encode(self) -> list[Outgoing]:
        return self.operation.encode(self.flight.call, self.flight.peek, self.step.endpoint.target)

    async def _send(self, outgoing: list[Outgoing]) -> None:
        flight, entry, target = self.flight, self.entry, self.step.endpoint.target
        self.requests = len(outgoing)
        bodies = await self._bodies(outgoing)
        answered = self.operation.decode(flight.call, flight.peek, target, bodies, self._counted())
        entry.outcome = SUCCESS
        if not self.operation.free:
            entry.usage = answered.usage or Usage(input_tokens=flight.tokens, estimated=True)
            self._price()
        guess = self.operation.free and flight.plan.is_another_model(self.step.deployment)
        flight.deliver(self.step, entry, answered.body, ESTIMATED if guess else None)

    async def _bodies(self, outgoing: list[Outgoing]) -> list[bytes]:
        """One after another, all of them within the time that a single one would have."""
        total_s = self.step.deadlines.total_s
        try:
            async with asyncio.timeout(total_s):
                return [await self._body_of(one) for one in outgoing]
        except TimeoutError:
            message = f"{self.step.deployment.id}: not done after {total_s:g} s."
            raise Died(Failure(kind=FailureClass.STALL, message=message)) from None

    async def _body_of(self, outgoing: Outgoing) -> bytes:
        response = await self._ask(outgoing)
        self.counted.append(response.header(_BEDROCK_COUNT))
        return await self._body(response, MAX_ANSWER_BYTES)

    def _counted(self) -> Usage | None:
        """What Bedrock says in a header, for models whose answers do not (Cohere's)."""
        counts = [int(count) for count in self.counted if count is not None and count.isdigit()]
        return Usage(input_tokens=sum(counts)) if counts and len(counts) == len(self.counted) else None

    def _price(self) -> None:
        """A try that fails has cost what its accepted requests have, if not all that was asked."""
        if self.operation.free:
            return
        entry = self.entry
        if entry.usage is None and 0 < len(self.counted) < self.requests:
            tokens = -(-self.flight.tokens * len(self.counted) // self.requests)
            entry.usage = Usage(input_tokens=tokens, estimated=True)
        super()._price()

    def _tell_begun(self) -> None:
        if not self.operation.free:
            super()._tell_begun()

    def _tell_limits(self, response: UpstreamResponse) -> None:
        """Counts have limits of their own (docs.anthropic.com, token counting: separate and independent)."""
        if not self.operation.free:
            super()._tell_limits(response)

    def _tell_health(self, now: float) -> None:
        if not self.operation.free:
            super()._tell_health(now)
