"""One try of an embedding or a token count, over real sockets: half-open hosts, deadlines, what is recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tieline.config.schema import (
    Config,
    LedgerConfig,
    ModelConfig,
    ProviderConfig,
    Routing,
    ServerConfig,
    StoreConfig,
    Timeouts,
)
from tieline.gateway import Gateway
from tieline.in_process import begin
from tieline.route.deadlines import FIRST_TOKEN_MAX_S
from tieline.route.health import Lane, state_of
from tieline.route.steps import Needs, Try
from tieline.types.money import parse_usd
from tieline.types.record import Record

EMBED, COUNT, COHERE = "/v1/embeddings", "/v1/messages/count_tokens", "/v2/embed"
BODIES: dict[str, dict[str, Any]] = {
    EMBED: {"model": "m", "input": "x"},
    COUNT: {"model": "m", "messages": [{"role": "user", "content": "x"}]},
}
WHOLE: dict[str, dict[str, Any]] = {
    EMBED: {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    },
    COUNT: {"input_tokens": 7},
    COHERE: {"embeddings": {"float": [[0.5]] * 96}},
}
MANY = {"model": "m", "input": ["x" * 40] * 288}
"""Three requests of Cohere."""
DOWN = (500, {"error": {"type": "api_error", "message": "down"}})


class Host:
    """Answers each path whole, or as ``says`` wants."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.says: tuple[int, Any] | None = None
        self.well = 0
        """How many more requests are answered before it says that."""
        self.delay_s = 0.0
        self.stalls = False
        self.heads = b""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                path = head.split(b" ")[1].decode()
                self.asked.append(path)
                await asyncio.sleep(self.delay_s)
                self.well -= 1
                status, said = (200, WHOLE[path]) if self.says is None or self.well >= 0 else self.says
                body = json.dumps(said).encode()
                writer.write(b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n" % status)
                writer.write(self.heads + b"content-length: %d\r\n\r\n" % len(body))
                writer.write(body[:5] if self.stalls else body)
                await asyncio.sleep(30 if self.stalls else 0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Pair:
    def __init__(self, gateway: Gateway, first: Host, second: Host) -> None:
        self.gateway, self.first, self.second = gateway, first, second
        self.heard: dict[bytes, bytes] = {}
        """The headers of the last answer."""

    async def ask(self, path: str, body: Any = None, **more: Any) -> tuple[int, Record]:
        reply = begin(self.gateway, path, "", [], json.dumps((body or BODIES[path]) | more).encode())
        async with asyncio.timeout(10):
            await reply.head()
            async for _ in reply.pieces():
                pass
            self.heard = dict(reply.headers)
            assert reply.task is not None
            return reply.status, await reply.task

    @property
    def lane(self) -> Lane:
        """Of the first host."""
        (found,) = (
            lane
            for one in self.gateway.line.router.deployments
            if one.id == "first/m"
            for lane in self.gateway.health.lanes(one)
        )
        return found

    def open(self) -> None:
        """It has failed."""
        self.lane.breaker.trip(self.gateway.clock())

    def half_open(self) -> None:
        """It has failed, and may be asked once again."""
        self.open()
        self.lane.breaker.open_until = self.gateway.clock()

    @property
    def state(self) -> str:
        return state_of(self.lane, self.gateway.clock())


@asynccontextmanager
async def pair(dialect: str, fallback: str = "m", **timeouts: float) -> AsyncIterator[Pair]:
    """``m`` at the first of two hosts, which is asked first, and ``fallback`` at the second."""
    hosts = Host(), Host()
    servers = [await asyncio.start_server(host.serve, "127.0.0.1", 0) for host in hosts]
    path = "/v1" if dialect == "openai_chat" else ""
    config = Config(
        discover=False,
        store=StoreConfig(database="none"),
        providers={
            name: ProviderConfig(
                base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}",
                dialect=dialect,  # type: ignore[arg-type]
                api_key="k",
                models=[model],
                prices={model: {"input": "1", "output": "1"}},  # type: ignore[dict-item]
            )
            for name, model, server in zip(("first", "second"), ("m", fallback), servers, strict=True)
        },
        models={"m": ModelConfig(deployments=["first/m"], fallbacks=[f"second/{fallback}"])},
        routing=Routing(timeouts=Timeouts(**timeouts)),
        server=ServerConfig(keepalive_s=0.1),
        ledger=LedgerConfig(markup_usd="0.01"),
    )
    gateway = Gateway(config, environ={}, in_process=True)
    await gateway.start()
    try:
        yield Pair(gateway, *hosts)
    finally:
        await gateway.stop()
        for server in servers:
            server.close()


def tries(record: Record) -> list[tuple[str, str]]:
    return [(entry.deployment, entry.outcome) for entry in record.attempts]


async def test_embeddings_probe_a_half_open_host() -> None:
    async with pair("openai_chat") as made:
        assert (await made.ask(EMBED))[0] == 200
        made.half_open()
        status, record = await made.ask(EMBED)
        assert (status, tries(record)) == (200, [("first/m", "success")])
        assert made.state == "ramp"
        assert made.first.asked == [EMBED, EMBED]


async def test_embeddings_fail_over_when_the_probe_fails() -> None:
    async with pair("openai_chat") as made:
        made.half_open()
        made.first.says = DOWN
        status, record = await made.ask(EMBED)
        assert (status, tries(record)[-1]) == (200, ("second/m", "success"))
        assert made.state == "open"


async def test_embeddings_that_stall_go_elsewhere() -> None:
    async with pair("openai_chat", first_token_s=0.3, stall_s=0.3) as made:
        made.first.stalls = True
        status, record = await made.ask(EMBED)
        assert (status, tries(record)) == (200, [("first/m", "stall"), ("second/m", "success")])
        assert record.overhead_ms < 300, "waiting for a host is no time of ours"


async def test_a_count_that_stalls_is_estimated() -> None:
    async with pair("anthropic_messages", first_token_s=0.3, stall_s=0.3) as made:
        made.first.stalls = True
        status, record = await made.ask(COUNT)
        assert (status, tries(record)) == (200, [("first/m", "stall")])
        assert record.cost == 0, "nobody bills a count"


async def test_a_count_leaves_a_half_open_host_alone_or_asks_it_as_a_count() -> None:
    async with pair("anthropic_messages") as made:
        made.half_open()
        status, record = await made.ask(COUNT)
        assert (status, tries(record)) == (200, [("second/m", "success")])
        status, record = await made.ask(COUNT, model="first/m", tieline={"fallback": "none"})
        assert (status, tries(record)) == (200, [("first/m", "success")])
        assert made.state == "half_open", "a count says nothing about it"
        assert record.cost == 0


async def test_embeddings_in_several_requests_end_in_time() -> None:
    """Each would have had the whole time of the request."""
    async with pair("cohere", total_s=1.0) as made:
        assert (await made.ask(EMBED, MANY))[0] == 200
        made.first.delay_s = 0.6
        status, record = await made.ask(EMBED, MANY)
        assert (status, tries(record)) == (504, [("first/m", "stall")])
        assert 900 < record.total_ms < 1300


async def test_what_was_accepted_before_a_failure_is_paid_for() -> None:
    async with pair("cohere") as made:
        made.first.says, made.first.well = DOWN, 2
        status, record = await made.ask(EMBED, MANY)
        entry, whole = record.attempts[0], record.attempts[-1].usage
        assert status == 200
        assert entry.outcome == "transient"
        assert entry.usage is not None
        assert whole is not None
        assert entry.usage.estimated
        assert entry.usage.input_tokens == pytest.approx(whole.input_tokens * 2 / 3, abs=1)
        assert entry.cost == entry.usage.input_tokens * 1_000_000
        assert record.wasted == sum(one.cost or 0 for one in record.attempts if one.outcome != "success")


@pytest.mark.parametrize(("fallback", "marked"), [("m", None), ("n", b"true")])
async def test_a_count_of_another_model_is_an_estimate(fallback: str, marked: bytes | None) -> None:
    async with pair("anthropic_messages", fallback) as made:
        assert tries((await made.ask(COUNT))[1]) == [("first/m", "success")]
        assert b"tieline-estimated" not in made.heard
        made.open()
        status, record = await made.ask(COUNT)
        assert (status, tries(record)) == (200, [(f"second/{fallback}", "success")])
        assert made.heard.get(b"tieline-estimated") == marked
        assert made.heard[b"tieline-model"] == fallback.encode()


async def test_a_count_is_rather_asked_of_a_half_open_host_than_of_a_fallback_that_counts_otherwise() -> None:
    async with pair("anthropic_messages", "n") as made:
        made.half_open()
        assert tries((await made.ask(COUNT))[1]) == [("first/m", "success")]
        assert b"tieline-estimated" not in made.heard


async def test_a_count_bears_no_markup() -> None:
    async with pair("anthropic_messages") as made:
        _, record = await made.ask(COUNT)
        assert (tries(record), record.cost, record.charged) == ([("first/m", "success")], 0, 0)
    async with pair("openai_chat") as made:
        _, record = await made.ask(EMBED)
        assert record.charged == (record.cost or 0) + parse_usd("0.01")


async def test_a_count_is_held_to_no_ceiling() -> None:
    async with pair("anthropic_messages") as made:
        status, record = await made.ask(COUNT, tieline={"max_cost_usd": "0.0000001"})
        assert (status, tries(record), record.cost) == (200, [("first/m", "success")], 0)


async def test_a_count_of_a_host_that_hangs_is_estimated_soon() -> None:
    """An estimate can take over where no other host can: no need to wait for as long as for an answer."""
    async with pair("anthropic_messages") as made:
        router = made.gateway.line.router
        needs = Needs(operation="count_tokens", dialect="anthropic_messages", input_tokens=10, free=True)
        step = router.plan(router.match("second/m"), needs, made.gateway.clock()).start()
        assert isinstance(step, Try)
        assert step.deadlines.first_token_s == pytest.approx(FIRST_TOKEN_MAX_S, rel=0.01)


async def test_a_count_while_every_host_asks_for_a_pause_is_estimated() -> None:
    async with pair("anthropic_messages") as made:
        for one in made.gateway.line.router.deployments:
            for lane in made.gateway.health.lanes(one):
                lane.quota.told(60.0, made.gateway.clock())
        status, record = await made.ask(COUNT)
        assert (status, tries(record), record.outcome) == (200, [], "success")
        assert made.heard[b"tieline-estimated"] == b"true"
        assert not made.first.asked


async def test_a_count_of_what_will_be_streamed_comes_whole() -> None:
    async with pair("anthropic_messages") as made:
        made.first.delay_s = 0.5
        status, record = await made.ask(COUNT, stream=True)
        assert (status, record.stream) == (200, False)
        assert made.heard[b"content-type"] == b"application/json"


async def test_limits_of_counts_are_not_those_of_answers() -> None:
    spent = b"anthropic-ratelimit-requests-limit: 50\r\nanthropic-ratelimit-requests-remaining: 0\r\n"
    spent += b"anthropic-ratelimit-requests-reset: 2099-01-01T00:00:00Z\r\n"
    async with pair("anthropic_messages") as made:
        made.first.heads = spent
        for _ in range(2):
            assert tries((await made.ask(COUNT))[1]) == [("first/m", "success")]
        assert made.state == "closed"
