"""New connections: many in one turn of the loop, and shared evenly where several processes take from one socket."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import socket
import tempfile
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final

from tieline.transport.dial import NO_ROOM

log = logging.getLogger("tieline")

ACCEPTED_A_TURN: Final = 64
"""An event loop's own server (libuv's) takes one. Under full load a turn takes a tenth of a second, and new callers waited
for seconds behind thousands of others, unseen by everything that sheds load. With 16 the kernel's queue still ran over at
times, and who knocked then came again a second later."""
AHEAD: Final = 2
"""Connections that a worker may hold beyond the one that holds the fewest, and a sixteenth of those."""
REST_S: Final = 0.005
"""How long a worker that is ahead leaves new connections to the others, if it does not lose its own before. Where they hold no
more afterwards they may be stuck: of the connections that are left it takes one all the same, after the next rest two, and so
on up to a turn's worth."""
RETRY_S: Final = 1.0
"""Until the next try when the system has no room for another connection, unless one ends before."""
_NOBODY: Final = 2**64 - 1


class Board:
    """How many connections each worker holds, for all of them to see: eight bytes each in a file that they map."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._figures = memoryview(mmap.mmap(fd, 0)).cast("Q")

    @classmethod
    def new(cls, count: int) -> Board:
        """For so many workers, none of which is there yet. They inherit ``fd``."""
        board = cls(shared_memory(8 * count))
        for place in range(count):
            board.leave(place)
        return board

    def close(self) -> None:
        os.close(self.fd)

    def tell(self, place: int, held: int) -> None:
        self._figures[place] = held

    def leave(self, place: int) -> None:
        """Nobody is there: the others are not compared with it."""
        self._figures[place] = _NOBODY

    def least(self, place: int) -> int:
        """What the worker holds that holds the fewest, of those at other places."""
        return min((held for at, held in enumerate(self._figures) if at != place), default=_NOBODY)


def shared_memory(size: int) -> int:
    """The descriptor of a file without a name."""
    if hasattr(os, "memfd_create"):  # Linux, where a container may have no folder that can be written
        fd = os.memfd_create("tieline-board")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


class Place:
    """One worker's among those that take from the same socket: what it holds, and whether that is too much. Without a
    board it is alone."""

    def __init__(self, board: Board | None = None, number: int = 0) -> None:
        self._board = board
        self._number = number
        self._taking = False
        self.fewer: Callable[[], None] | None = None
        """Called when a connection has ended."""

    def take_part(self, held: int) -> None:
        self._taking = True
        self.tell(held)

    def leave(self) -> None:
        """No connection is taken here now: the others are not compared with this one."""
        self._taking = False
        if self._board is not None:
            self._board.leave(self._number)

    def tell(self, held: int) -> None:
        if self._taking and self._board is not None:
            self._board.tell(self._number, held)

    def lost(self, held: int) -> None:
        """A connection has ended; ``held`` are left."""
        self.tell(held)
        if self.fewer is not None:
            self.fewer()

    def least(self) -> int:
        """What that one of the others holds that holds the fewest."""
        return _NOBODY if self._board is None else self._board.least(self._number)

    def is_ahead(self, held: int) -> bool:
        self.tell(held)
        least = self.least()
        return held > least + AHEAD + least // 16


class Acceptor:
    """Takes the connections of a listening socket, and is closed as an asyncio server is."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        connections: Collection[object],
        place: Place,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._protocol = protocol
        self._connections = connections
        """Those that were made and not lost."""
        self._place = place
        self._opening: dict[Coroutine[Any, Any, Any], asyncio.Protocol] = {}
        self._left_over = 1
        self._least = 0
        """What the others held when the rest began."""
        self._timer: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        self._wake()

    def close(self) -> None:
        self._sleep()
        self._place.leave()

    async def wait_closed(self) -> None:
        """At once: a connection that was taken is another's business."""

    def _held(self) -> int:
        return len(self._connections) + sum(
            connection not in self._connections for connection in self._opening.values()
        )

    def _ready(self) -> None:
        held = self._held()
        for taken in range(ACCEPTED_A_TURN):
            if self._place.is_ahead(held + taken):
                self._rest(REST_S, self._look)
                return
            if not self._take():
                return

    def _take(self) -> bool:
        """Whether there may be more."""
        try:
            connection, _address = self._sock.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno not in NO_ROOM:
                return True  # of one connection, which is gone
            log.error("no new connection can be taken: %s", error.strerror)
            self._rest(RETRY_S, self._wake)
            self._place.leave()
            return False
        self._begin(connection)
        return True

    def _begin(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        made = self._protocol()
        opening = self._loop.connect_accepted_socket(lambda: made, connection)
        # By hand: a task would begin with it a turn of the loop later, which under full load is a tenth of a second.
        try:
            opened = opening.send(None)
        except OSError:
            connection.close()
        else:
            self._opening[opening] = made
            opened.add_done_callback(lambda _: self._go_on(opening))

    def _go_on(self, opening: Coroutine[Any, Any, Any]) -> None:
        del self._opening[opening]
        try:
            opening.send(None)
        except StopIteration:
            pass
        except OSError:
            pass  # its caller is gone already: nobody is left to be told

    def _rest(self, seconds: float, fewer: Callable[[], None]) -> None:
        """``fewer`` is called when a connection ends before."""
        self._sleep()
        self._timer = self._loop.call_later(seconds, self._resume)
        self._place.fewer = fewer
        self._least = self._place.least()

    def _look(self) -> None:
        if not self._place.is_ahead(self._held()):
            self._wake()

    def _resume(self) -> None:
        self._wake()
        if not self._place.is_ahead(self._held()):
            return
        if self._place.least() != self._least:
            self._left_over = 1
            self._rest(REST_S, self._look)
            return
        for taken in range(self._left_over):
            if not self._take():
                if not taken:
                    self._left_over = 1
                return
        self._left_over = min(self._left_over + 1, ACCEPTED_A_TURN)

    def _sleep(self) -> None:
        self._loop.remove_reader(self._sock)
        self._place.fewer = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._sleep()
        self._place.take_part(self._held())
        self._loop.add_reader(self._sock, self._ready)
