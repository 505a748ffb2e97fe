"""Callers who wait hear something in time, each by its own clock, and nothing runs when nobody waits."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from tieline.keepalive import Keepalive


class Caller:
    def __init__(self) -> None:
        self.heard: list[float] = []

    def ping(self) -> None:
        self.heard.append(asyncio.get_running_loop().time())


async def test_each_is_pinged_at_its_own_times_until_it_is_dropped() -> None:
    loop = asyncio.get_running_loop()
    keepalive = Keepalive(0.1)
    first, second = Caller(), Caller()
    began = loop.time()
    keepalive.add(first)
    await asyncio.sleep(0.05)
    keepalive.add(second)
    await asyncio.sleep(0.18)  # 0.23
    keepalive.drop(first)
    await asyncio.sleep(0.1)  # 0.33
    keepalive.drop(second)
    heard = len(second.heard)
    await asyncio.sleep(0.15)
    assert first.heard and heard == len(second.heard) >= 1
    assert first.heard[0] - began >= 0.099
    assert second.heard[0] - began >= 0.149


class Broken(Caller):
    def ping(self) -> None:
        super().ping()
        raise ValueError


async def test_one_that_fails_silences_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """All of them are due at the same moment."""
    caplog.set_level("ERROR", "tieline")
    keepalive = Keepalive(0.05)
    callers = [Caller(), Broken(), Caller(), Caller()]
    for caller in callers:
        keepalive.add(caller)
    await asyncio.sleep(0.22)
    for caller in callers:
        keepalive.drop(caller)
    first, broken, *others = [len(caller.heard) for caller in callers]
    assert others == [first, first]
    assert first > 1
    assert broken == 1
    assert caplog.text.count("could not be pinged") == 1


@pytest.mark.parametrize("every_s", [0.0503, 0.1])
def test_a_timer_that_comes_early_is_not_set_again_and_again(every_s: float) -> None:
    """uvloop's clock has milliseconds."""
    looks = 0

    class Counted(Keepalive):
        def _look(self) -> None:
            nonlocal looks
            looks += 1
            super()._look()

    async def main() -> None:
        keepalive, callers = Counted(every_s), [Caller() for _ in range(20)]
        for caller in callers:
            keepalive.add(caller)
            await asyncio.sleep(0.0017)
        await asyncio.sleep(0.6)
        for caller in callers:
            keepalive.drop(caller)
        assert sum(len(caller.heard) for caller in callers) >= 20 * 4

    uvloop.run(main())
    assert looks < 20 * 0.7 / every_s


async def test_nothing_runs_when_nobody_waits() -> None:
    keepalive = Keepalive(0.02)
    caller = Caller()
    for _ in range(3):
        keepalive.add(caller)
        keepalive.drop(caller)
        keepalive.drop(caller)
    await asyncio.sleep(0.05)
    assert not caller.heard
    assert keepalive._timer is None
    keepalive.add(caller)
    await asyncio.sleep(0.03)
    assert caller.heard
    keepalive.drop(caller)
