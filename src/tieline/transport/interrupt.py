"""Ends a coroutine that waits for something else: ``abort`` where no socket of ours can be closed from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupt:
    __slots__ = ("_cancelled", "_error", "_task")

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    def fire(self, error: BaseException) -> None:
        """The guarded work, now or later, raises ``error``; the first one counts."""
        if self._error is not None:
            return
        self._error = error
        if self._task is not None and self._task is not asyncio.current_task():
            self._cancelled = self._task.cancel()

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` returns or raises, unless ``fire`` comes first."""
        if self._error is not None:
            work.close()
            raise self._error
        task = self._task = asyncio.current_task()
        assert task is not None
        others = task.cancelling()
        try:
            result = await work
        except asyncio.CancelledError:
            # Ours is taken back; a cancellation by someone else besides it goes on.
            if self._error is None or not self._cancelled or task.uncancel() > others:
                raise
            raise self._error from None
        finally:
            self._task = None
        if self._error is not None:
            raise self._error
        return result
