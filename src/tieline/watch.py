"""The one timer of a stream under way (DESIGN section 7, deadlines)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tieline.relay import Relay
from tieline.route.steps import Try
from tieline.transport.base import UpstreamResponse
from tieline.types.errors import Failure, FailureClass

if TYPE_CHECKING:
    from tieline.pipeline import Flight

USAGE_GRACE_S = 1.0
"""How long a complete answer waits for the usage event that we asked for."""
LINGER_S = 0.25
"""How long an upstream may take to close a body whose end was announced; then its connection is not reused."""


class Died(Exception):
    """This try is over; carries how."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Enough(Exception):
    """The answer is complete although the upstream keeps the connection open."""


class Watch:
    """One stream: its pieces on their way to the relay, and one timer: first token, then stall, then a short grace at its
    end. Re-armed lazily, never per chunk, but at least once in every stall deadline. While the caller is what holds
    things up, the upstream is not blamed."""

    __slots__ = (
        "began",
        "clock",
        "deadlines",
        "flight",
        "handle",
        "loop",
        "name",
        "patience_s",
        "relay",
        "response",
    )

    def __init__(
        self, flight: Flight, relay: Relay, response: UpstreamResponse, step: Try, began: float
    ) -> None:
        self.flight = flight
        self.relay = relay
        self.response = response
        self.deadlines = step.deadlines
        self.name = step.deployment.id
        self.began = began
        self.clock = relay.clock
        self.patience_s: float | None = None
        """Once the answer is complete: how long its end may still take."""
        self.loop = asyncio.get_running_loop()
        self._arm(self.clock())

    def take(self, data: bytes) -> None:
        """The next piece."""
        relay = self.relay
        if relay.feed(data):
            self.ending(LINGER_S if relay.done or relay.nothing_missing else USAGE_GRACE_S)
        elif self.flight.congested and relay.committed:
            self.response.pause()

    def _arm(self, now: float) -> None:
        wait = min(max(0.0, self._due() - now) + 0.001, self.deadlines.stall_s)
        self.handle = self.loop.call_later(wait, self._look)

    def _due(self) -> float:
        relay, deadlines = self.relay, self.deadlines
        total = self.began + deadlines.total_s
        if relay.first_at is None:
            return min(total, self.began + deadlines.first_token_s)
        if relay.decoder.complete:
            return relay.last_at + USAGE_GRACE_S
        return min(
            total, relay.last_at + (deadlines.thinking_stall_s if relay.thinking else deadlines.stall_s)
        )

    def _look(self) -> None:
        now = self.clock()
        if self.flight.congested:
            self.relay.last_at = now
        if now < self._due():
            self._arm(now)
        else:
            self.response.abort(self._verdict(now))

    def _verdict(self, now: float) -> Exception:
        relay = self.relay
        if relay.decoder.complete:
            return Enough()
        if now >= self.began + self.deadlines.total_s:
            kind, what = FailureClass.STALL, f"not done after {self.deadlines.total_s:g} s"
        elif relay.first_at is None:
            kind, what = (
                FailureClass.FIRST_TOKEN_TIMEOUT,
                f"no first token after {self.deadlines.first_token_s:.1f} s",
            )
        else:
            kind, what = (
                FailureClass.STALL,
                f"silent for {now - relay.last_at:.1f} s in the middle of its answer",
            )
        return Died(Failure(kind=kind, message=f"{self.name}: {what}."))

    def ending(self, within_s: float) -> None:
        """Complete: most upstreams close the body in the same segment, so this only bounds the wait."""
        if self.patience_s is None or within_s < self.patience_s:
            self.patience_s = within_s
            self.handle.cancel()
            self.handle = self.loop.call_later(within_s, self.response.abort, Enough())

    def cancel(self) -> None:
        self.handle.cancel()
