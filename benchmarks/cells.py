"""What is measured: the cells of the table.

Full runs give every cell at least 10,000 requests over its rounds, unless the time limit of a round ends it first; the
counts are in the result. Streams are paced so that a relay sees 8,000 to 20,000 chunks a second in all, each alone on its
socket, however many streams carry them: (concurrency, ms between chunks) = (1, 1), (32, 4), (256, 16), (1000, 50).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal["whole", "stream", "paired", "open", "memory", "hold"]
PACE_MS = {1: 1, 32: 4, 256: 16, 1000: 50}
REQUESTS = 10_000


class Cell(Struct, frozen=True, kw_only=True):
    name: str
    kind: Kind
    route: str = "whole-1k"
    request_bytes: int = 1024
    concurrency: int = 32
    dialect: Literal["openai", "anthropic"] = "openai"
    requests: int = REQUESTS
    """For each round; over all rounds for streams, which are slow by design."""
    peers: bool = False
    """Peers and the contender without features are measured here too."""
    once: bool = False
    """One round: what is measured does not vary, or takes its own repetitions."""
    load: float = 0.0
    """Share of saturation that runs in the background (paired) or is offered (open)."""

    @property
    def stream(self) -> bool:
        return self.route.startswith("stream-")

    @property
    def tokens(self) -> int:
        return int(self.route.split("-")[1]) if self.stream else 0


def _whole() -> list[Cell]:
    sizes = {"1k": 1 << 10, "10k": 10 << 10, "100k": 100 << 10, "1m": 1 << 20, "10m": 10 << 20}
    connections = {"1m": 8, "10m": 4}
    asked = [
        Cell(
            name=f"request-{label}",
            kind="whole",
            request_bytes=size,
            concurrency=connections.get(label, 32),
            peers=label in ("1k", "100k"),
        )
        for label, size in sizes.items()
    ]
    answered = [
        Cell(
            name=f"answer-{label}",
            kind="whole",
            route=f"whole-{label}",
            concurrency=connections.get(label, 32),
        )
        for label in ("100k", "1m", "10m")
    ]
    return [*asked, *answered, Cell(name="translated-1k", kind="whole", dialect="anthropic")]


def _streams() -> list[Cell]:
    same = [
        Cell(
            name=f"stream-{tokens}-c{concurrency}",
            kind="stream",
            route=f"stream-{tokens}-{ms}",
            concurrency=concurrency,
            peers=tokens == 50 and concurrency == 32,
        )
        for tokens in (50, 500)
        for concurrency, ms in PACE_MS.items()
    ]
    translated = [
        Cell(
            name=f"translated-{tokens}-c32",
            kind="stream",
            route=f"stream-{tokens}-4",
            dialect="anthropic",
        )
        for tokens in (50, 500)
    ]
    burst = Cell(name="burst-500-c32", kind="stream", route="stream-500-0")
    return [*same, *translated, burst]


def _latency() -> list[Cell]:
    return [
        Cell(name="latency-idle", kind="paired", concurrency=1, peers=True),
        Cell(name="latency-half", kind="paired", concurrency=1, load=0.5),
        Cell(
            name="first-token", kind="paired", route="stream-50-1", concurrency=1, requests=1000, peers=True
        ),
        Cell(name="open-half", kind="open", load=0.5),
    ]


CELLS = [
    *_whole(),
    *_streams(),
    *_latency(),
    Cell(
        name="memory",
        kind="memory",
        route="stream-50-16",
        concurrency=256,
        requests=2000,
        peers=True,
        once=True,
    ),
    Cell(name="idle-streams", kind="hold", route="stream-2-600000", concurrency=10_000, once=True),
]
MILLION = Cell(name="million", kind="memory", requests=1_000_000, once=True)
"""Run on request (``--million``): memory before, during and after 10^6 requests."""
