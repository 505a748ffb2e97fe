"""A task that begins at once.

A ``Task`` begins with the next turn of the event loop. What a request needs until it waits for the first time, from the key
to the bytes for the provider, can be done as soon as its last byte is here; the turn in between, and the making of a
``Task`` in front of it, cost a lone request 50 us of the 250 until it was sent on (docs/performance.md). ``asyncio`` has the
same from Python 3.12 on (``eager_start``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class EagerTask:
    """Runs ``work`` until it waits, and from then on whenever what it waits for is there. What it returns is dropped. Not
    ``at_once``: from the loop's next turn on, as a ``Task``.

    Work that calls what only a ``Task`` has (``asyncio.timeout``, ``current_task``) awaits ``in_task`` before.
    """

    __slots__ = ("_ended", "_loop", "_revoked", "_task", "_waits", "_work", "over")

    def __init__(
        self, work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, at_once: bool = True
    ) -> None:
        self.over = False
        self._work = work
        self._loop = loop
        self._waits: asyncio.Future[Any] | None = None
        self._revoked = False
        self._task: asyncio.Task[Any] | None = None
        self._ended: asyncio.Future[None] | None = None
        if at_once:
            self._go_on(None)
        else:
            loop.call_soon(self._go_on, None)

    def cancel(self) -> None:
        """As a ``Task``'s: CancelledError is raised where the work waits."""
        if self._task is not None:
            self._task.cancel()
        elif not self.over:
            self._revoked = True
            if self._waits is not None:
                self._waits.cancel()

    def ended(self) -> asyncio.Future[None]:
        """Done when the work is."""
        if self._ended is None:
            self._ended = self._loop.create_future()
            if self.over:
                self._ended.set_result(None)
        return self._ended

    def _go_on(self, _there: asyncio.Future[Any] | None) -> None:
        try:
            if self._revoked:
                self._revoked = False
                waits = self._work.throw(asyncio.CancelledError())
            else:
                waits = self._work.send(None)
        except (StopIteration, asyncio.CancelledError):
            self._end()
            return
        except Exception as error:
            self._end()
            self._loop.call_exception_handler({"message": "a request failed", "exception": error})
            return
        if waits is None:
            self._waits = None
            self._task = asyncio.Task(self._work, loop=self._loop)
            self._task.add_done_callback(self._task_ended)
            return
        # What tells a Task that the future was awaited, and not just yielded.
        waits._asyncio_future_blocking = False
        self._waits = waits
        waits.add_done_callback(self._go_on)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._end()
        if not task.cancelled() and task.exception() is not None:
            context = {"message": "a request failed", "exception": task.exception()}
            self._loop.call_exception_handler(context)

    def _end(self) -> None:
        self.over = True
        self._waits = self._task = None
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


async def in_task() -> None:
    """From here on there is a current ``Task``."""
    if asyncio.current_task() is None:
        await asyncio.sleep(0)
