"""What waits for the end of a turn: nobody's failure costs another its bytes, and nothing unasked is an answer."""

from __future__ import annotations

import asyncio
import contextlib

from tests.transport.test_chunking import Owner, Wire
from tieline.transport.base import TransportError
from tieline.transport.connection import Connection
from tieline.transport.limits import PoolLimits
from tieline.transport.outbox import Outbox, Sender
from tieline.transport.pool import Pool


class Flushed(Sender):
    def __init__(self, done: list[str], name: str, error: Exception | None = None) -> None:
        self.done, self.name, self.error = done, name, error

    def flush(self) -> None:
        self.done.append(self.name)
        if self.error is not None:
            raise self.error


async def test_a_sender_that_fails_takes_no_other_along() -> None:
    done: list[str] = []
    said: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    outbox = Outbox()
    for sender in (Flushed(done, "a"), Flushed(done, "b", OSError()), Flushed(done, "c"), Flushed(done, "d")):
        outbox.add(sender)
    for _ in range(3):
        await asyncio.sleep(0)
    assert done == ["a", "b", "c", "d"]
    assert len(said) == 1
    outbox.add(Flushed(done, "e"))
    await asyncio.sleep(0)
    assert done[-1] == "e"


async def test_what_comes_before_the_request_is_out_does_not_answer_it() -> None:
    """A 408 for an idle connection that arrives in the turn in which the connection is taken again."""
    owner, wire = Owner(), Wire()
    connection = Connection(owner, Pool("x", PoolLimits()), asyncio.get_running_loop())
    connection.connection_made(wire)
    exchange = connection.start(b"POST / HTTP/1.1\r\n\r\n", b"", False)
    connection.data_received(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
    await asyncio.wait_for(exchange.arrived, 1)
    assert exchange.status == 0
    assert isinstance(exchange.error, TransportError)
    assert exchange.error.kind == "reset"
    assert connection.untouched, "so that it is sent again elsewhere"
    with contextlib.suppress(RuntimeError):
        await asyncio.sleep(0)
    assert wire.closed
