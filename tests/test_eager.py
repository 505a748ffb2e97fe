"""A task that begins at once behaves as a Task does from its first wait on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tieline.eager import EagerTask, in_task


def begin(work: Coroutine[Any, Any, Any]) -> EagerTask:
    return EagerTask(work, asyncio.get_running_loop())


async def test_runs_until_it_waits_before_the_next_turn() -> None:
    seen: list[str] = []
    gate = asyncio.get_running_loop().create_future()

    async def work() -> None:
        seen.append("begun")
        seen.append(await gate)

    task = begin(work())
    assert seen == ["begun"] and not task.over
    gate.set_result("there")
    await task.ended()
    assert seen == ["begun", "there"] and task.over


async def test_what_never_waits_is_over_at_once() -> None:
    async def work() -> None:
        return

    task = begin(work())
    assert task.over
    await task.ended()
    task.cancel()  # as with a Task that is done: nothing


@pytest.mark.parametrize("gone", [False, True], ids=["taken up", "cancelled before"])
async def test_one_that_is_not_to_begin_at_once_begins_with_the_next_turn(gone: bool) -> None:
    seen: list[str] = []

    async def work() -> None:
        seen.append("begun")

    task = EagerTask(work(), asyncio.get_running_loop(), at_once=False)
    assert not seen and not task.over
    if gone:
        task.cancel()
    await task.ended()
    assert seen == ([] if gone else ["begun"])


async def test_an_error_of_what_it_waits_for_is_raised_in_it() -> None:
    gate = asyncio.get_running_loop().create_future()
    caught: list[str] = []

    async def work() -> None:
        try:
            await gate
        except ValueError as error:
            caught.append(str(error))

    task = begin(work())
    gate.set_exception(ValueError("no"))
    await task.ended()
    assert caught == ["no"]


@pytest.mark.parametrize("there", [False, True], ids=["waiting", "about to go on"])
async def test_cancelled_where_it_waits(there: bool) -> None:
    gate = asyncio.get_running_loop().create_future()
    left: list[str] = []

    async def work() -> None:
        try:
            await gate
        except asyncio.CancelledError:
            left.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0.001)
            left.append("tidied up")

    task = begin(work())
    if there:
        gate.set_result(None)
    task.cancel()
    await task.ended()
    assert left == ["cancelled", "tidied up"]
    assert gate.cancelled() is not there


async def test_the_cancellation_of_one_wait_does_not_reach_the_next() -> None:
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    seen: list[str] = []

    async def work() -> None:
        try:
            await first
        except asyncio.CancelledError:
            seen.append("went on")
        seen.append(await second)

    task = begin(work())
    task.cancel()
    await asyncio.sleep(0)
    second.set_result("to the end")
    await task.ended()
    assert seen == ["went on", "to the end"]


async def test_begun_outside_of_a_task_it_becomes_one_and_can_be_cancelled_then() -> None:
    loop = asyncio.get_running_loop()
    made: asyncio.Future[EagerTask] = loop.create_future()
    found: list[object] = []

    async def work() -> None:
        assert asyncio.current_task() is None
        await in_task()
        found.append(asyncio.current_task())
        try:
            async with asyncio.timeout(10):
                await asyncio.sleep(30)
        except asyncio.CancelledError:
            found.append("cancelled")
            raise

    loop.call_soon(lambda: made.set_result(EagerTask(work(), loop)))
    task = await made
    await asyncio.sleep(0.01)
    task.cancel()
    await task.ended()
    assert isinstance(found[0], asyncio.Task) and found[1] == "cancelled"


@pytest.mark.parametrize("late", [False, True], ids=["at once", "in a task"])
async def test_an_error_that_escapes_is_told_to_the_loop(late: bool) -> None:
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: told.append(context))
    made: asyncio.Future[EagerTask] = loop.create_future()

    async def work() -> None:
        if late:
            await in_task()
        raise ValueError("broken")

    loop.call_soon(lambda: made.set_result(EagerTask(work(), loop)))
    await (await made).ended()
    loop.set_exception_handler(None)
    assert [str(context["exception"]) for context in told] == ["broken"]
