"""Plays an answer out on the wire, at the behaviour's speed and with its mischief."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain

from tieline.simulator.answer import Answer, Ask, Usage
from tieline.simulator.exchange import Dialect, Exchange, Headers, Piece
from tieline.simulator.ledger import Entry
from tieline.simulator.wire import Wire

_COMMENT_EVERY_S = 0.05
_STRIKES = ("cut", "cut-clean", "stall", "stream-error")


class Playback:
    """One answer on one connection; writes what it really sent into ``entry``."""

    def __init__(self, dialect: Dialect, exchange: Exchange, wire: Wire, entry: Entry) -> None:
        self._dialect = dialect
        self._exchange = exchange
        self._behaviour = exchange.behaviour
        self._wire = wire
        self._entry = entry
        wire.split = self._behaviour.count("chunk")
        tps = self._behaviour.number("tps")
        self._token_s = 1 / tps if tps else 0.0
        self._debt_s = 0.0

    async def whole(self, ask: Ask, answers: list[Answer], usage: Usage) -> None:
        """A body in one piece; faults of streams cut it, too."""
        await self._pause(self._behaviour.ttft_s(self._exchange.random) + usage.output * self._token_s)
        body = self._dialect.whole(self._exchange, ask, answers, usage)
        headers = self._headers("application/json")
        name = self._behaviour.name
        self._entry.output_tokens = usage.output
        if name in ("truncate-body", "cut", "stall"):
            await self._wire.start(200, headers, len(body))
            await self._wire.write(body[: len(body) // 2])
            await self._break_off(name)
        elif name == "cut-clean":
            self._entry.cut = True
            await self._send(headers, body[: len(body) // 2])
        else:
            await self._send(headers, body)
            self._entry.completed = True

    async def _send(self, headers: Headers, body: bytes) -> None:
        await self._wire.start(200, headers, len(body))
        await self._wire.write(body)
        await self._wire.end()

    async def _break_off(self, name: str) -> None:
        self._entry.cut = True
        if name == "stall":
            await self._stall()
        elif self._behaviour.count("reset"):
            await asyncio.sleep(0.01)
            self._wire.abort()
        else:
            self._wire.close()

    async def stream(self, ask: Ask, answers: list[Answer], usage: Usage) -> None:
        headers = [*self._headers(self._dialect.media_type(self._exchange)), ("cache-control", "no-cache")]
        wait_s = self._behaviour.ttft_s(self._exchange.random)
        pieces = self._dialect.stream(self._exchange, ask, answers, usage)
        if self._behaviour.count("early"):
            await self._wire.start(200, headers, None)
            first = next(pieces)
            await self._wire.write(first.data)
            await self._pause_with_comments(wait_s)
        else:
            await self._pause(wait_s)
            await self._wire.start(200, headers, None)
        await self._play(self._shaped(pieces))

    async def _play(self, pieces: Iterator[Piece]) -> None:
        strikes = self._behaviour.name in _STRIKES
        after = self._behaviour.count("after", 5)
        for piece in pieces:
            if strikes and (piece.kind == "finish" or (piece.tokens and self._entry.output_tokens >= after)):
                await self._strike(piece)
                return
            await self._pause(piece.tokens * self._token_s)
            await self._wire.write(piece.data)
            self._entry.output_tokens += piece.tokens
            if piece.kind == "finish":
                self._entry.completed = True
        if self._behaviour.name == "no-done":
            await self._wire.hold()
        await self._wire.end()

    def _shaped(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        name = self._behaviour.name
        if name == "malformed":
            return self._with_malformed(pieces)
        if name == "no-done":
            return (piece for piece in pieces if piece.kind != "done")
        if not self._dialect.media_type(self._exchange).startswith("text/event-stream"):
            return pieces
        if name == "crlf":
            return (Piece(piece.data.replace(b"\n", b"\r\n"), piece.kind, piece.tokens) for piece in pieces)
        if name == "comments":
            extra = Piece(self._dialect.comment, "extra")
            return (shown for piece in pieces for shown in (extra, piece))
        if name == "bare-event":
            return chain([Piece(b"event: heartbeat\n\nid: 7\nretry: 3000\n\n", "extra")], pieces)
        return pieces

    def _with_malformed(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        at, content = self._behaviour.count("at", 3), bool(self._behaviour.count("content"))
        for number, piece in enumerate(pieces):
            if number == at:
                yield Piece(self._dialect.malformed(content), "extra")
            yield piece

    async def _strike(self, piece: Piece) -> None:
        name = self._behaviour.name
        if name == "stream-error":
            self._entry.cut = True
            kind = self._behaviour.word("kind", "overloaded_error")
            await self._wire.write(self._dialect.stream_error(self._exchange, kind))
            await self._wire.end()
            return
        if self._behaviour.count("mid"):
            await self._wire.write(piece.data[: len(piece.data) // 2])
        if name == "cut-clean":
            self._entry.cut = True
            await self._wire.end()
            return
        await self._break_off(name)

    async def _stall(self) -> None:
        for_ms = self._behaviour.number("for_ms")
        seconds = for_ms / 1000 if for_ms else 3600.0
        if not self._behaviour.count("comments"):
            await self._wire.hold(seconds)
        else:
            await self._pause_with_comments(seconds, always=True)
        self._wire.close()

    async def _pause_with_comments(self, seconds: float, always: bool = False) -> None:
        if not self._dialect.comment or not (always or self._behaviour.count("comments")):
            await self._pause(seconds)
            return
        while seconds > 0:
            await self._wire.write(self._dialect.comment)
            await asyncio.sleep(min(_COMMENT_EVERY_S, seconds))
            seconds -= _COMMENT_EVERY_S

    async def _pause(self, seconds: float) -> None:
        """Sleeps when at least a millisecond is owed, so that the token rate is kept without a timer for each token."""
        self._debt_s += seconds
        if self._debt_s >= 0.001:
            owed, self._debt_s = self._debt_s, 0.0
            await asyncio.sleep(owed)

    def _headers(self, media_type: str) -> Headers:
        return [("content-type", media_type), ("server", "simulator"), *self._dialect.headers(self._exchange)]
