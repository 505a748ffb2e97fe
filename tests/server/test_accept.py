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
    def __init__(self, connections: set[Held], place: Place) -> None:
        self._connections = connections
        self._place = place

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._connections.add(self)
        transport.write(b".")

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._place.lost(len(self._connections))


@asynccontextmanager
async def taking(sock: socket.socket, place: Place | None = None) -> AsyncIterator[set[Held]]:
    held: set[Held] = set()
    place = place or Place()
    acceptor = Acceptor(sock, lambda: Held(held, place), held, place)
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


async def test_who_lost_some_takes_more_at_once(
    board: Board, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were resting, each ahead of what the other had been: nobody took anything until a rest was over."""
    monkeypatch.setattr(accept, "REST_S", 60.0)
    board.tell(1, 0)
    with ExitStack() as stack:
        async with taking(listening, Place(board, 0)) as taken:
            connect(stack, listening, 3 * AHEAD)
            await asyncio.sleep(0.1)
            assert len(taken) == AHEAD + 1
            for connection in list(taken):
                connection.transport.abort()
            await until(5, taken, count=2 * AHEAD - 1)


async def test_one_that_is_stuck_costs_short_connections_no_rest_each(
    board: Board, listening: socket.socket
) -> None:
    board.tell(1, 0)
    loop = asyncio.get_running_loop()
    async with taking(listening, Place(board, 0)):
        address = listening.getsockname()

        async def come_and_go() -> None:
            for _ in range(40):
                reader, writer = await asyncio.open_connection(*address)
                assert await reader.readexactly(1) == b"."
                writer.close()

        began = loop.time()
        await asyncio.gather(*(come_and_go() for _ in range(16)))
        assert loop.time() - began < 640 * accept.REST_S / 2


async def test_who_takes_nothing_now_is_not_waited_for(
    board: Board, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that drains still holds some, and loses them; it is no measure for those that go on."""
    monkeypatch.setattr(accept, "REST_S", 60.0)
    with ExitStack() as stack, closing(listening.dup()) as same:
        async with taking(listening, Place(board, 0)) as taken:
            drains = Place(board, 1)
            acceptor = Acceptor(same, asyncio.Protocol, (), drains)
            acceptor.close()
            drains.lost(3)
            connect(stack, listening, 50)
            await until(5, taken, count=50)


class Full(socket.socket):
    """As when the process may open no more files."""

    def accept(self) -> tuple[socket.socket, Any]:
        self.accept = super().accept  # type: ignore[method-assign]
        raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("ends", [False, True])
async def test_a_system_that_is_full_is_tried_again(
    ends: bool, listening: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accept, "RETRY_S", 60.0 if ends else 0.2)
    caplog.set_level(logging.ERROR, "tieline")
    full, place = Full(fileno=listening.dup().detach()), Place()
    with ExitStack() as stack, closing(full):
        async with taking(full, place) as taken:
            connect(stack, listening, 3)
            await asyncio.sleep(0.1)
            if ends:
                place.lost(0)  # one that was there before: there is room again
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
