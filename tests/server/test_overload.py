"""More than a process can do: it refuses a share, says when to come back, and takes everything again afterwards."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from pathlib import Path

from tests.served import chat, post, serving
from tieline.admit.overload import BUSY, MOST, PERCENT_A_SECOND, PROBE_S, SLACK, Overload
from tieline.config.schema import Config, ServerConfig, StoreConfig
from tieline.gateway import Gateway
from tieline.server.accept import ACCEPTED_A_TURN
from tieline.transport.http1 import Http1Transport

CHAT = "/v1/chat/completions"
LATE, MANY = 0.15, BUSY * 4


def steps(overload: Overload, count: int, lag_s: float, ended: int = MANY) -> list[float]:
    shares = []
    for _ in range(count):
        overload.observe(lag_s, ended)
        shares.append(overload.share)
    return shares


def test_the_share_rises_while_the_loop_is_behind_and_falls_again() -> None:
    overload = Overload(0.1, lambda: 0)
    patience = int(SLACK / (PERCENT_A_SECOND * (PROBE_S + LATE)))
    assert steps(overload, patience, LATE) == [0.0] * patience
    rising = steps(overload, 20, LATE)
    assert rising == sorted(rising)
    assert rising[-1] == MOST / 100
    falling = steps(overload, 60, 0.0)
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == 0.0
    assert not overload.refuses()


def test_a_pause_that_requests_did_not_make_refuses_nobody() -> None:
    assert not any(steps(Overload(0.1, lambda: 0), 50, LATE, ended=BUSY - 1))
    assert not any(steps(Overload(0.1, lambda: 0), 50, 0.1))


async def test_many_new_callers_are_taken_in_few_turns(tmp_path: Path) -> None:
    """Under full load a turn takes long: one connection a turn would keep new callers waiting for seconds."""
    count, turns = 4 * ACCEPTED_A_TURN, 0
    async with serving(tmp_path) as served:
        connections = served.service.server.server_state.connections
        with ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            while len(connections) < count and turns < count:
                await asyncio.sleep(0)
                turns += 1
            assert len(connections) == count
        assert turns < 3 * count / ACCEPTED_A_TURN


async def test_a_loop_that_is_behind_sheds_and_recovers(tmp_path: Path) -> None:
    async with serving(tmp_path, max_lag_ms=20) as served:
        loop = asyncio.get_running_loop()
        served.gateway.intake.overload.start()
        until = loop.time() + 3
        statuses: list[int] = []

        def busy() -> None:
            """What a thousand requests in one turn would do to the loop that serves."""
            time.sleep(0.1)
            served.gateway.intake.ended += MANY
            if loop.time() < until:
                loop.call_soon(busy)

        async def call() -> None:
            while loop.time() < until:
                async with await served.connect() as raw:
                    raw.send(post(CHAT, chat()))
                    heard = await raw.hear()
                    statuses.append(heard.status)
                    if heard.status == 503:
                        assert int(heard.headers["retry-after"]) >= 1
                        assert b"max_lag_ms" in heard.body

        busy()
        await asyncio.gather(*(call() for _ in range(8)))
        assert 503 in statuses
        async with asyncio.timeout(10):
            while served.gateway.intake.overload.share:
                await asyncio.sleep(0.05)
        async with await served.connect() as raw:
            raw.send(post(CHAT, chat()))
            assert (await raw.hear()).status == 200


async def test_all_that_are_let_in_may_be_at_one_host() -> None:
    """The bound of the pool is the server's: none waits for another's connection."""
    server = ServerConfig(max_concurrency=3210)
    gateway = Gateway(Config(discover=False, server=server, store=StoreConfig(database="none")), environ={})
    for transport in (gateway.transports.default, gateway.transports.of(False, "/etc/ca.pem")):
        assert isinstance(transport, Http1Transport)
        assert transport._limits.max_connections == 3210
    await gateway.transports.aclose()
