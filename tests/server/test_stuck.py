"""One client that is stuck, one provider that is stuck, more than can be served: the others do not notice."""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.served import Heard, Raw, Served, behaving, chat, post, serving
from tieline.record.together import Together, bytes_for
from tieline.server.door import Door

CHAT = "/v1/chat/completions"
LONG = "sim-echo:tokens=200000"
SILENT = "sim-slow:ttft_ms=60000"
MODELS = {"long": behaving(LONG), "silent": behaving(SILENT, timeouts={"first_token_s": 60, "connect_s": 5})}
ROUNDS = 60
"""Requests from which a median and a 95th percentile are told."""


async def ask(raw: Raw, model: str = "demo", *, stream: bool = False) -> Heard:
    raw.send(post(CHAT, chat(model, stream=stream)))
    return await raw.hear(timeout=20)


async def timed(served: Served, *, stream: bool = False) -> list[float]:
    """Seconds of each of a series of requests on one connection, all answered."""
    loop, found = asyncio.get_running_loop(), []
    async with await served.connect() as raw:
        for _ in range(ROUNDS):
            begun = loop.time()
            heard = await ask(raw, stream=stream)
            found.append(loop.time() - begun)
            assert heard.status == 200
    return found


async def stuck_client(served: Served) -> Raw:
    """Asks for a long stream and never reads it."""
    raw = await served.connect()
    raw.writer.transport.pause_reading()
    raw.send(post(CHAT, chat("long", stream=True)))
    return raw


async def stuck_provider(served: Served) -> Raw:
    """Waits for a provider that took the request and says nothing."""
    raw = await served.connect()
    raw.send(post(CHAT, chat("silent", stream=True)))
    return raw


async def half_a_request(served: Served) -> Raw:
    """Sends the beginning of a body, and no more."""
    raw = await served.connect()
    raw.send(post(CHAT, chat(), length=10_000))
    return raw


@pytest.mark.parametrize("stuck", [stuck_client, stuck_provider, half_a_request])
@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_is_stuck_slows_nobody(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stuck: Callable[[Served], Awaitable[Raw]],
    stream: bool,
) -> None:
    monkeypatch.setattr(Door, "stuck_write_s", 60.0)
    async with serving(tmp_path, MODELS) as served:
        await timed(served, stream=stream)
        before = await timed(served, stream=stream)
        one = await stuck(served)
        await asyncio.sleep(1)  # until all buffers between the two are full
        beside = await timed(served, stream=stream)
        one.abort()
    # The median forgives a machine that others use; 50 ms is far below any deadline, far above a turn of the loop.
    assert statistics.median(beside) < 3 * statistics.median(before) + 0.05
    assert max(beside) < 5


async def test_a_stuck_client_and_a_stuck_provider_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Door, "stuck_write_s", 60.0)
    async with serving(tmp_path, MODELS) as served:
        stuck = [
            await make(served) for make in (stuck_client, stuck_provider, half_a_request) for _ in range(5)
        ]
        await asyncio.sleep(1)
        assert served.gateway.in_flight >= 10
        found = await asyncio.gather(*(timed(served, stream=bool(number % 2)) for number in range(4)))
        assert statistics.median([one for series in found for one in series]) < 1
        for raw in stuck:
            raw.abort()
        await served.settled()


async def test_the_provider_that_is_stuck_holds_only_its_own_connections(tmp_path: Path) -> None:
    """Its host is also that of the model that answers: they share nothing that can be used up by 40 of them."""
    async with serving(tmp_path, MODELS) as served:
        waiting = [await stuck_provider(served) for _ in range(40)]
        await asyncio.sleep(0.5)
        assert served.gateway.in_flight == 40
        assert statistics.median(await timed(served)) < 1
        for raw in waiting:
            raw.abort()
        await served.settled()


async def test_what_is_too_much_is_refused_at_once_and_it_recovers(tmp_path: Path) -> None:
    models = {"slow": behaving("sim-slow:ttft_ms=700")}
    async with serving(tmp_path, models, max_concurrency=8) as served:
        callers = [await served.connect() for _ in range(40)]
        heard: list[Heard] = []

        async def one(raw: Raw) -> None:
            heard.append(await ask(raw, "slow"))

        await asyncio.gather(*(one(raw) for raw in callers))
        # In the order of the answers: none that was refused waited for one that was served.
        assert [answer.status for answer in heard] == [503] * 32 + [200] * 8
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in heard[:32])
        again = await asyncio.gather(*(ask(raw, "slow") for raw in callers[:8]))
        assert [answer.status for answer in again] == [200] * 8
        for raw in callers:
            raw.close()


async def test_figures_that_cannot_be_published_do_not_end_the_sweeping(tmp_path: Path) -> None:
    """Connections that hang would hang for good."""
    shared = tmp_path / "figures"
    shared.touch()
    os.truncate(shared, bytes_for(1))
    cannot_be_written = os.open(shared, os.O_RDONLY)
    async with serving(tmp_path, MODELS) as served:
        served.gateway.metrics.join(Together(cannot_be_written, 0, 1))
        await asyncio.sleep(2.2)
        assert served.service._sweeper is not None
        assert served.service._sweeper.when() > asyncio.get_running_loop().time()
    os.close(cannot_be_written)
