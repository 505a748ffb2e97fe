"""Callers who wait hear something in time, each by its own clock, and nothing runs when nobody waits."""

from __future__ import annotations

import asyncio

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
