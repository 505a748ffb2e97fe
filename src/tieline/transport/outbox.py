"""What is written in one turn of the event loop goes out together, at its end.

To write is cheap where the reader is awake, and dear where the write has to wake it: each alone, two writes cost more than
everything else a request takes. One behind the other, the first wakes the reader for all of them. Nothing waits for more to
come: a turn ends when what had arrived has been worked on, so a lone request is written as soon as it would have been.
"""

from __future__ import annotations

import asyncio


class Sender:
    __slots__ = ()

    def flush(self) -> None:
        """Hands what waits over to the socket; nothing when that is closed by now."""
        raise NotImplementedError


class Outbox:
    """Senders with something to write; used from one event loop."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[Sender] = []

    def add(self, sender: Sender) -> None:
        """``sender.flush`` is called at the end of this turn. Once for each turn is enough."""
        if not self._waiting:
            loop = self._loop or self._bind()
            loop.call_soon(self._flush)
        self._waiting.append(sender)

    def _bind(self) -> asyncio.AbstractEventLoop:
        # Once: to be told which loop is running costs a system call.
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        done = 0
        try:
            for sender in waiting:
                done += 1
                sender.flush()
        except BaseException:
            for sender in waiting[done:]:  # one that fails takes nobody else along
                self.add(sender)
            raise
