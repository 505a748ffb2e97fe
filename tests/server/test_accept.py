"""New connections are shared evenly by those who take from one socket, and nobody who is stuck or gone keeps them waiting."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from typing import Any

import pytest

from tieline.server import accept
from tieline.server.accept import AHEAD, Acceptor, Board, Place
from tieline.server.serve import bind


@pytest.fixture
def board() -> Iterator[Board]:
    with closing(Board.new(2)) as made:
        yield made


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with closing(bind("127.0.0.1", 0)) as sock:
        yield sock


class Held(asyncio.Protocol):
    def __init__(self, connections: set[Held]) -> None:
        self._connections = connections

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)


@asynccontextmanager
async def taking(sock: socket.socket, place: Place | None = None) -> AsyncIterator[set[Held]]:
    held: set[Held] = set()
    acceptor = Acceptor(sock, lambda: Held(held), lambda: len(held), place)
    try:
        yield held
    finally:
        acceptor.close()
        for connection in held:
            connection.transport.abort()
        await asyncio.sleep(0.01)


async def until(seconds: float, *held: set[Held], count: int) -> None:
    async with asyncio.timeout(seconds):
        while sum(len(each) for each in held) < count:
            await asyncio.sleep(0.001)


def connect(stack: ExitStack, sock: socket.socket, count: int) -> None:
    for _ in range(count):
        stack.enter_context(socket.create_connection(sock.getsockname()))


async def test_two_share_what_comes_at_once(board: Board, listening: socket.socket) -> None:
    with ExitStack() as stack, closing(listening.dup()) as same:
        async with taking(listening, Place(board, 0)) as one, taking(same, Place(board, 1)) as other:
            for count in (64, 128, 192):
                connect(stack, listening, 64)
                await until(10, one, other, count=count)
            assert abs(len(one) - len(other)) <= 2 * (AHEAD + 192 // 16)


@pytest.mark.parametrize("held", [0, 5])
async def test_who_is_stuck_keeps_nobody_waiting(board: Board, listening: socket.socket, held: int) -> None:
    board.tell(1, held)
    with ExitStack() as stack:
        async with taking(listening, Place(board, 0)) as taken:
            connect(stack, listening, 200)
            await until(5, taken, count=200)


async def test_who_is_gone_is_not_waited_for(
    board: Board, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "REST_S", 60.0)
    board.tell(1, 0)
    board.leave(1)
    with ExitStack() as stack:
        async with taking(listening, Place(board, 0)) as taken:
            connect(stack, listening, 50)
            await until(5, taken, count=50)


async def test_a_rest_leaves_nothing_unlooked_at_later(board: Board, listening: socket.socket) -> None:
    """One that waited in vain for something to be left to it is no reason to take more than a share of what comes later."""
    board.tell(1, 0)
    with ExitStack() as stack, closing(listening.dup()) as same:
        async with taking(listening, Place(board, 0)) as taken:
            connect(stack, listening, AHEAD + 2)
            await until(5, taken, count=AHEAD + 2)
            await asyncio.sleep(0.05)
            before = len(taken)
            async with taking(same, Place(board, 1)) as other:
                connect(stack, listening, 8)
                await until(5, taken, other, count=before + 8)
                assert len(other) > len(taken) - before


class Full(socket.socket):
    """As when the process may open no more files."""

    def accept(self) -> tuple[socket.socket, Any]:
        self.accept = super().accept  # type: ignore[method-assign]
        raise OSError(errno.EMFILE, "Too many open files")


async def test_a_system_that_is_full_is_tried_again(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accept, "RETRY_S", 0.2)
    caplog.set_level(logging.ERROR, "tieline")
    full = Full(fileno=listening.dup().detach())
    with ExitStack() as stack, closing(full):
        async with taking(full) as taken:
            connect(stack, listening, 3)
            await until(5, taken, count=3)
    assert caplog.messages == ["no new connection can be taken: Too many open files"]


async def test_a_closed_one_takes_nothing(board: Board, listening: socket.socket) -> None:
    with ExitStack() as stack:
        async with taking(listening, Place(board, 0)) as taken:
            pass
        connect(stack, listening, 3)
        await asyncio.sleep(0.05)
        assert not taken


async def test_callers_that_are_gone_before_they_are_taken_harm_nobody(listening: socket.socket) -> None:
    with ExitStack() as gone:
        connect(gone, listening, 20)
    with ExitStack() as stack:
        connect(stack, listening, 5)
        async with taking(listening) as taken:
            async with asyncio.timeout(5):
                while len(taken) != 5:
                    await asyncio.sleep(0.001)
