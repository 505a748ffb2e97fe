"""One HTTP/1.1 connection: bytes out, parsed responses in, one exchange at a time."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, Protocol

import httptools

from tieline.transport.base import TransportError
from tieline.transport.exchange import Exchange
from tieline.transport.outbox import Outbox, Sender

if TYPE_CHECKING:
    from tieline.transport.pool import Pool

MAX_HEAD: Final = 65_536
"""Bytes of headers, and of anything else between two pieces of body: trailers, chunk extensions, 1xx responses."""
_JOIN_BELOW: Final = 65_536
"""A body this small is copied behind its head, so that one segment carries both."""
_SLICE: Final = 65_536
"""Larger bodies are handed over in pieces, as the socket takes them."""
_EARLY_S: Final = 0.001
"""uvloop's clock has milliseconds, and a timer may come that much before its time."""


class Owner(Protocol):
    outbox: Outbox

    def freed(self, connection: Connection) -> None:
        """The response is complete and the connection can carry another request."""

    def doomed(self, connection: Connection) -> None:
        """Called once, as soon as it cannot be used again."""

    def gone(self, connection: Connection) -> None:
        """Called once, when the socket is closed."""


class Connection(Sender):
    """An ``asyncio.Protocol``."""

    __slots__ = (
        "_barren",
        "_deadline",
        "_done",
        "_exchange",
        "_head",
        "_interim",
        "_loop",
        "_message",
        "_owner",
        "_parser",
        "_paused",
        "_surplus",
        "_switched",
        "_timer",
        "_timer_at",
        "_transport",
        "_unsent",
        "_unusable",
        "_write_paused",
        "expires_at",
        "keep_alive",
        "pool",
        "untouched",
    )

    def __init__(self, owner: Owner, pool: Pool[Connection], loop: asyncio.AbstractEventLoop) -> None:
        self.pool = pool
        self.expires_at = 0.0
        self.keep_alive = True
        self.untouched = True
        """No byte of the current response has come."""
        self._owner = owner
        self._loop = loop
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        """Stays from request to request: one for each of them would be as dear as all that is parsed."""
        self._timer_at = math.inf
        self._head = b""
        """What has come of the response while its headers were not all in."""
        self._barren = 0
        self._done = False
        self._interim = False
        self._switched = False
        self._surplus = False
        self._unusable = False
        self._message = b""
        """A whole request, until the end of the turn."""
        self._unsent: memoryview | None = None
        self._paused = False
        self._write_paused = False

    def start(self, head: bytes, body: bytes, bodiless: bool, deadline: float = math.inf) -> Exchange:
        """Sends a request. Its future ``arrived`` tells when the headers are in; failures are in its ``error``, and that
        they did not come by ``deadline`` is one."""
        exchange = self._exchange = Exchange(self, self._loop, bodiless)
        self._head = b""
        self._barren = 0
        self._done = False
        self.untouched = True
        if self._unusable or self._transport.is_closing():
            self.fail(_reset("the connection was closed before the request"))
        elif len(body) < _JOIN_BELOW:
            self._message = head + body
            self._owner.outbox.add(self)
        else:
            self._transport.write(head)
            self._unsent = memoryview(body)
            self._send_more()
        self._deadline = deadline
        if deadline < self._timer_at and not self._unusable:
            self._arm()
        return exchange

    def _arm(self) -> None:
        self._disarm()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._look)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = math.inf

    def _look(self) -> None:
        """Whether the headers that are waited for now are late; the timer may be that of an earlier request."""
        self._timer = None
        self._timer_at = math.inf
        if self._exchange is None or self._exchange.status:
            return
        if self._deadline > self._loop.time() + _EARLY_S:
            self._arm()
        else:
            self.fail(TransportError("timeout", "no response within the time given", sent=True))

    def flush(self) -> None:
        message, self._message = self._message, b""
        if not self._unusable and not self._transport.is_closing():
            self._transport.write(message)

    def fail(self, error: BaseException) -> None:
        """Ends the exchange with ``error`` and closes the connection at once."""
        exchange, self._exchange = self._exchange, None
        self._drop()
        self._transport.abort()
        if exchange is not None:
            exchange.settle(error)

    def close(self) -> None:
        """Closes an idle connection in good order; one in use fails with ``closed``."""
        if self._exchange is not None:
            self.fail(TransportError("closed", "the transport was closed", sent=True))
            return
        self._drop()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    @property
    def is_usable(self) -> bool:
        return not self._unusable

    def hold(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def unhold(self) -> None:
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            # Nobody asked: an idle connection that speaks (a 408, say) cannot be trusted with a request.
            self.close()
            return
        if self._message:
            # Nor is it the answer to a request that is not out yet: that one may go elsewhere.
            self.fail(_reset("the server spoke before it was asked"))
            return
        self.untouched = False
        self._barren += len(data)
        if not exchange.status:
            self._head = self._head + data if self._head else data
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._surplus = True
            if not self._done:
                self._fail_unless_over(TransportError("protocol", f"not HTTP: {error}", sent=True))
        if self._done:
            self._finish()
        elif self._barren > MAX_HEAD:
            self._fail_unless_over(_head_too_large())

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        self._unsent = None
        # The parser holds our bound methods; without this every connection waits for the cycle collector.
        self._parser = None
        self._owner.gone(self)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._send_more()

    # httptools

    def on_message_begin(self) -> None:
        if self._done:
            self._surplus = True

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        if exchange is None or self._done:
            return
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        head = self._head
        if head[0] < 32:  # empty lines in front
            head = head.lstrip(b"\r\n")
        end = head.find(b"\r\n\r\n")
        if status < 200:
            self._switched = status == 101
            self._interim = True
            self._head = head[end + 4 :]
            return
        if end > MAX_HEAD:
            self.fail(_head_too_large())
            return
        self._barren = 0
        self.keep_alive = parser.should_keep_alive()
        self._head = b""
        exchange.on_head(status, head[:end])
        if exchange.bodiless:
            self._done = True

    def on_body(self, data: bytes) -> None:
        self._barren = 0
        exchange = self._exchange
        if exchange is None:
            return
        if self._done:
            self._surplus = True
            return
        try:
            exchange.on_body(data)
        except BaseException as error:
            self.fail(error)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            if self._switched:
                self._fail_unless_over(
                    TransportError("protocol", "the server changed the protocol", sent=True)
                )
            return
        self._done = True

    # How an exchange ends

    def _finish(self) -> None:
        """The response is complete, and what came with its last bytes has been looked at."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        reusable = self.keep_alive and not self._surplus and self._unsent is None and not self._unusable
        if exchange.bodiless:
            self._parser = httptools.HttpResponseParser(self)
        if reusable and not self._transport.is_closing():
            self.unhold()
            self._owner.freed(self)
        else:
            self._drop()
            self._transport.abort()
        exchange.settle(None)

    def _end(self, exc: Exception | None) -> None:
        exchange = self._exchange
        if exchange is None:
            self._drop()
        elif exc is None and not self._interim and exchange.status and exchange.is_until_eof:
            self.keep_alive = False
            self._finish()
        else:
            when = "before the response's headers" if exchange.status == 0 else "within the response's body"
            self.fail(_reset(f"the connection was closed {when}"))

    def _fail_unless_over(self, error: TransportError) -> None:
        if self._exchange is not None:
            self.fail(error)

    def _drop(self) -> None:
        if not self._unusable:
            self._unusable = True
            self._unsent = None
            self._disarm()
            self._owner.doomed(self)

    def _send_more(self) -> None:
        while self._unsent is not None and not self._write_paused:
            piece, rest = self._unsent[:_SLICE], self._unsent[_SLICE:]
            self._unsent = rest if rest else None
            self._transport.write(piece)


def _reset(message: str) -> TransportError:
    return TransportError("reset", message, sent=True)


def _head_too_large() -> TransportError:
    return TransportError("too_large", f"the response's headers are larger than {MAX_HEAD} bytes", sent=True)
