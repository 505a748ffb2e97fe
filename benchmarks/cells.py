"""What is measured: the cells of the table, and how long each may take.

Whole answers: at least 10,000 requests for each contender over the three rounds, small ones in each round. What takes
tens of milliseconds a request (10 MB; LiteLLM beside the first cell) and streams end by time. 256 and 1,000 streams at a time
make 10,000 streams too; fewer are counted by the chunk, of which every round sees at least 10,000 (one alone, and LiteLLM:
fewer). The counts are in the result, with who made fewer.

Streams are paced so that a relay sees 8,000 to 20,000 chunks a second in all, each alone on its socket, however many
streams carry them: (concurrency, ms between chunks) = (32, 4), (256, 16), (1000, 50); one alone gets 1,000.

The whole plan is at most 35 minutes on two cores with both peers; a test holds it there.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal["whole", "stream", "paired", "open", "memory", "hold", "scale", "overload"]
REQUESTS = 10_000


class Cell(Struct, frozen=True, kw_only=True):
    name: str
    kind: Kind
    route: str = "whole-1k"
    request_bytes: int = 1024
    concurrency: int = 32
    dialect: Literal["openai", "anthropic"] = "openai"
    requests: int = REQUESTS
    """Of a turn."""
    peer_requests: int = 3400
    """Of a peer's turn: as many over three rounds."""
    seconds: float = 4.0
    """A turn ends here even if it had fewer requests; streams that run then are waited for."""
    peer_seconds: float = 10.0
    direct: bool = False
    """The upstream itself has a turn too."""
    floor: bool = True
    bare: bool = False
    """Tieline without features has a turn too."""
    interpreted: bool = False
    """Where a compiled Tieline is measured, its source has a turn too."""
    peers: bool = False
    once: bool = False
    """One round: what is measured does not vary, or takes its own repetitions."""
    gaps: bool = False
    """The time between chunks is kept, whose spread is the jitter."""
    load: float = 0.0
    """Share of saturation that runs in the background (paired) or is offered (open)."""

    @property
    def stream(self) -> bool:
        return self.route.startswith("stream-")

    @property
    def tokens(self) -> int:
        return int(self.route.split("-")[1]) if self.stream else 0

    @property
    def stream_s(self) -> float:
        """What one stream takes if nothing slows it."""
        return self.tokens * int(self.route.split("-")[2]) / 1000 if self.stream else 0.0


WHOLE = [
    Cell(
        name="request-1k",
        kind="whole",
        peer_seconds=43,
        direct=True,
        bare=True,
        interpreted=True,
        peers=True,
    ),
    Cell(name="request-10k", kind="whole", request_bytes=10 << 10),
    Cell(name="request-100k", kind="whole", request_bytes=100 << 10, requests=3400),
    Cell(name="request-1m", kind="whole", request_bytes=1 << 20, concurrency=8, requests=3400, seconds=12),
    Cell(name="request-10m", kind="whole", request_bytes=10 << 20, concurrency=4, requests=3400),
    Cell(name="answer-100k", kind="whole", route="whole-100k", requests=3400),
    Cell(name="answer-10m", kind="whole", route="whole-10m", concurrency=4, requests=3400),
    Cell(name="translated-1k", kind="whole", dialect="anthropic"),
]
_BY_TIME = 1_000_000
"""More than any turn of a stream cell reaches."""


def _stream(
    name: str,
    route: str,
    concurrency: int,
    seconds: float,
    *,
    dialect: Literal["openai", "anthropic"] = "openai",
    interpreted: bool = False,
    peers: bool = False,
) -> Cell:
    return Cell(
        name=name,
        kind="stream",
        route=route,
        concurrency=concurrency,
        requests=_BY_TIME,
        peer_requests=_BY_TIME,
        seconds=seconds,
        peer_seconds=8,
        dialect=dialect,
        interpreted=interpreted,
        peers=peers,
    )


STREAMS = [
    _stream("stream-50-c32", "stream-50-4", 32, 4, interpreted=True, peers=True),
    _stream("stream-500-c32", "stream-500-4", 32, 4, interpreted=True, peers=True),
    _stream("stream-500-c1", "stream-500-1", 1, 5),
    _stream("stream-50-c256", "stream-50-16", 256, 10.5),
    _stream("stream-50-c1000", "stream-50-50", 1000, 9),
    _stream("translated-50-c32", "stream-50-4", 32, 4, dialect="anthropic", interpreted=True),
    _stream("translated-500-c32", "stream-500-4", 32, 4, dialect="anthropic", interpreted=True),
]
LATENCY = [
    Cell(name="latency-idle", kind="paired", concurrency=1, seconds=7, peers=True, peer_seconds=7),
    Cell(name="latency-half", kind="paired", concurrency=1, requests=3400, seconds=11, load=0.5),
    Cell(name="open-half", kind="open", load=0.5, seconds=3.5),
    Cell(
        name="first-token",
        kind="paired",
        route="stream-2-1",
        concurrency=1,
        requests=1000,
        peer_requests=500,
        seconds=6,
        peer_seconds=6,
        peers=True,
    ),
    Cell(
        name="jitter",
        kind="stream",
        route="stream-500-4",
        concurrency=4,
        requests=_BY_TIME,
        peer_requests=_BY_TIME,
        seconds=2,
        peer_seconds=2,
        gaps=True,
        direct=True,
        peers=True,
    ),
]
ALONE = [
    Cell(
        name="memory",
        kind="memory",
        route="stream-50-16",
        concurrency=256,
        requests=2000,
        peer_requests=2000,
        seconds=6,
        peer_seconds=12,
        peers=True,
        once=True,
    ),
    Cell(
        name="idle-streams",
        kind="hold",
        route="stream-2-600000",
        concurrency=10_000,
        seconds=20,
        floor=False,
        once=True,
    ),
    Cell(name="overload", kind="overload", concurrency=3000, seconds=10, floor=False, once=True),
    Cell(name="scale", kind="scale", concurrency=32, floor=False, once=True),
    Cell(name="million", kind="memory", requests=1_000_000, seconds=240, floor=False, once=True),
]
"""Each in a process of its own, that has served nothing before."""
CELLS = [*WHOLE, *STREAMS, *LATENCY, *ALONE]
CHUNK_CELLS = {
    "stream-c32": ("stream-50-c32", "stream-500-c32"),
    "translated-c32": ("translated-50-c32", "translated-500-c32"),
}
"""Pairs of cells whose difference is the cost of a chunk alone."""
