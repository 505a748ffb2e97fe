"""The pool's brain alone: no socket, no clock."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tieline.transport.base import TransportError
from tieline.transport.limits import PoolLimits
from tieline.transport.pool import Pool


class Fake:
    def __init__(self, expires_at: float = 100.0) -> None:
        self.expires_at = expires_at


def test_expired_connections_are_passed_over() -> None:
    pool: Pool[Fake] = Pool("http://a:80", PoolLimits())
    old, new = Fake(5.0), Fake(50.0)
    for connection in (old, new):
        assert pool.reserve()
        pool.release(connection)
    assert pool.expired(10.0) == [old]
    assert pool.take(10.0) is new
    assert pool.take(10.0) is None
    assert pool.expired(10.0) == [old]


class PoolMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, places are neither lost nor invented."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.pool: Pool[Fake] = Pool("http://a:80", PoolLimits(max_connections=3, max_waiting=4))
        self.busy: list[Fake] = []
        self.opening = 0
        self.waiters: list[asyncio.Future[Fake | None]] = []

    def teardown(self) -> None:
        self.loop.close()

    @rule()
    def send(self) -> None:
        if (connection := self.pool.take(0.0)) is not None:
            self.busy.append(connection)
        elif self.pool.reserve():
            self.opening += 1
        elif self.pool.waiting < 4:
            self.waiters.append(self.pool.wait(self.loop))
        else:
            with pytest.raises(TransportError):
                self.pool.wait(self.loop)

    @precondition(lambda self: self.opening)
    @rule(works=st.booleans())
    def opened(self, works: bool) -> None:
        self.opening -= 1
        if works:
            self.busy.append(Fake())
        else:
            self.pool.forget()
        self.collect()

    @precondition(lambda self: self.busy)
    @rule(survives=st.booleans())
    def ends(self, survives: bool) -> None:
        connection = self.busy.pop(0)
        if survives:
            self.pool.release(connection)
        else:
            self.pool.forget(connection)
        self.collect()

    @precondition(lambda self: self.pool.idle)
    @rule()
    def idle_one_dies(self) -> None:
        self.pool.forget(next(iter(self.pool.idle)))
        self.collect()

    @precondition(lambda self: self.waiters)
    @rule()
    def gives_up(self) -> None:
        self.pool.withdraw(self.waiters.pop())

    def collect(self) -> None:
        for waiter in [waiter for waiter in self.waiters if waiter.done()]:
            self.waiters.remove(waiter)
            if (connection := waiter.result()) is None:
                self.opening += 1
            else:
                self.busy.append(connection)

    @invariant()
    def counts_agree(self) -> None:
        assert self.pool.open == len(self.busy) + self.opening + len(self.pool.idle) <= 3
        assert self.pool.waiting == len(self.waiters)
        assert not (self.waiters and (self.pool.idle or self.pool.open < 3))


PoolMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestPool = PoolMachine.TestCase
