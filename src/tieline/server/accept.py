"""New connections: many in one turn of the loop, and shared evenly where several processes take from one socket."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import socket
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any, Final

log = logging.getLogger("tieline")

ACCEPTED_A_TURN: Final = 64
"""An event loop's own server (libuv's) takes one. Under full load a turn takes a tenth of a second, and new callers waited
for seconds behind thousands of others, unseen by everything that sheds load. With 16 the kernel's queue still ran over at
times, and who knocked then came again a second later."""
AHEAD: Final = 2
"""Connections that a worker may hold beyond the one that holds the fewest, and a sixteenth of those."""
REST_S: Final = 0.005
"""How long a worker that is ahead leaves new connections to the others. They may be stuck: of those that are left it takes
one all the same, after the next rest two, and so on up to a turn's worth."""
RETRY_S: Final = 1.0
"""Until the next try when the system has no room for another connection."""
_NOBODY: Final = 2**64 - 1


class Board:
    """How many connections each worker holds, for all of them to see: eight bytes each in a file that they map."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._figures = memoryview(mmap.mmap(fd, 0)).cast("Q")

    @classmethod
    def new(cls, count: int) -> Board:
        """For so many workers, none of which is there yet. They inherit ``fd``."""
        with tempfile.TemporaryFile() as file:
            file.truncate(8 * count)
            board = cls(os.dup(file.fileno()))
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


class Place:
    """One worker's on the board."""

    def __init__(self, board: Board, number: int) -> None:
        self._board = board
        self._number = number

    def tell(self, held: int) -> None:
        self._board.tell(self._number, held)

    def is_ahead(self, held: int) -> bool:
        self.tell(held)
        least = self._board.least(self._number)
        return held > least + AHEAD + least // 16


class Acceptor:
    """Takes the connections of a listening socket, and is closed as an asyncio server is."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        held: Callable[[], int],
        place: Place | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._protocol = protocol
        self._held = held
        """Connections there are by now."""
        self._place = place
        self._opening: set[Coroutine[Any, Any, Any]] = set()
        self._left_over = 1
        self._timer: asyncio.TimerHandle | None = None
        if place is not None:
            place.tell(held())
        sock.setblocking(False)
        self._loop.add_reader(sock, self._ready)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._sock)

    async def wait_closed(self) -> None:
        """At once: a connection that was taken is another's business."""

    def _ready(self) -> None:
        for _ in range(ACCEPTED_A_TURN):
            if self._place is not None and self._place.is_ahead(self._held() + len(self._opening)):
                self._rest(REST_S)
                return
            self._left_over = 1
            if not self._take():
                return

    def _take(self) -> bool:
        """Whether there may be more."""
        try:
            connection, _address = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            log.error("no new connection can be taken: %s", error.strerror)
            self._rest(RETRY_S)
            return False
        self._begin(connection)
        return True

    def _begin(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        opening = self._loop.connect_accepted_socket(self._protocol, connection)
        # By hand: a task would begin with it a turn of the loop later, which under full load is a tenth of a second.
        try:
            opened = opening.send(None)
        except OSError:
            connection.close()
        else:
            self._opening.add(opening)
            opened.add_done_callback(lambda _: self._go_on(opening))

    def _go_on(self, opening: Coroutine[Any, Any, Any]) -> None:
        self._opening.discard(opening)
        try:
            opening.send(None)
        except StopIteration:
            pass
        except OSError:
            pass  # its caller is gone already: nobody is left to be told

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock)
        self._timer = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self._loop.add_reader(self._sock, self._ready)
        if self._place is not None:
            for _ in range(self._left_over):
                if not self._take():
                    return
            self._left_over = min(self._left_over + 1, ACCEPTED_A_TURN)
