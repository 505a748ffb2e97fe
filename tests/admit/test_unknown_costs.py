"""What is held where an attempt failed whose cost nobody knows: all that it may have cost, once, and nothing for the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tieline import AsyncTieline, bill
from tieline.config.load import parse
from tieline.in_process import MemoryReply, begin
from tieline.pipeline import Flight
from tieline.route.steps import Try
from tieline.types.call import Call

UNKNOWN = {"usage": {"input_tokens": 5, "output_tokens": 1, "server_tool_use": {"web_search_requests": 2}}}
"""A search is billed beyond tokens, and without a stop_reason the answer is no answer."""
WHOLE = {"usage": {"input_tokens": 5, "output_tokens": 1}, "stop_reason": "end_turn"}
BODY = msgspec.json.encode(
    {
        "model": "m",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "Hello"}],
        "tieline": {"run": "r", "run_budget_usd": "1"},
    }
)


class Host:
    """``a`` breaks off at an unknown cost, ``b`` is overloaded, ``c`` answers. ``arrived`` is told of each."""

    def __init__(self) -> None:
        self.arrived: Callable[[], None] = lambda: None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.arrived()
        status, more = {b"a": (200, UNKNOWN), b"b": (529, {}), b"c": (200, WHOLE)}[head.split(b"/", 2)[1]]
        answer = {"id": "x", "type": "message", "role": "assistant", "model": "m", "content": [], **more}
        body = msgspec.json.encode(answer)
        writer.write(
            b"HTTP/1.1 %d x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
            % (status, len(body), body)
        )
        writer.close()


@asynccontextmanager
async def line(host: Host, folder: Path, markup: str) -> AsyncIterator[AsyncTieline]:
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    hosts = "".join(
        f"  {name}: {{base_url: 'http://127.0.0.1:{port}/{name}', dialect: anthropic_messages, models: [m], "
        "prices: {m: {input: '1', output: '2'}}}\n"
        for name in "abc"
    )
    text = (
        f"discover: false\nproviders:\n{hosts}models: {{m: {{deployments: [a/m], fallbacks: [b/m, c/m]}}}}\n"
        f"routing: {{fallback: listed}}\nledger: {{markup_usd: '{markup}'}}\n"
        f"store: {{database: 'sqlite:///{folder}/t.db', spool: '{folder}/spool'}}\n"
    )
    async with AsyncTieline(parse(text, {}).config, environ={}) as made:
        yield made
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("markup", ["0", "0.01"])
async def test_what_may_have_been_spent_is_held_once(tmp_path: Path, markup: str) -> None:
    host, held = Host(), list[int]()
    async with line(host, tmp_path, markup) as made:
        host.arrived = lambda: held.append(sum(meter.held for meter in made.gateway.admission.meters()))
        reply = begin(made.gateway, "/v1/messages", "", [], BODY)
        assert reply.task is not None
        record = await reply.task
        fixed = made.gateway.line.markup.fixed
        assert sum(meter.held for meter in made.gateway.admission.meters()) == 0
    assert [entry.outcome for entry in record.attempts] == ["truncated", "overloaded", "success"]
    assert [entry.cost for entry in record.attempts] == [None, 0, 7_000_000]
    once = held[0] - fixed
    assert once > 0
    assert [amount - fixed for amount in held] == [once, 2 * once, 2 * once]


async def test_a_second_try_beside_another_holds_for_all_three(tmp_path: Path) -> None:
    async with line(Host(), tmp_path, "0") as made:
        call = Call(
            dialect="anthropic_messages",
            operation="chat",
            path="/v1/messages",
            headers=[],
            body=BODY,
            received_at=made.gateway.clock(),
            in_process=True,
        )
        flight = Flight(made.gateway.line, call, MemoryReply())
        flight.receive()
        await flight.admit()
        flight.match()
        assert flight.permit is not None
        first = flight.plan.start()
        assert isinstance(first, Try)
        assert bill.hold(flight, first) is None
        once = flight.permit.held
        second = flight.plan.send(await flight._exchange(first).run())
        assert isinstance(second, Try)
        assert bill.hold(flight, second) is None
        assert flight.permit.held == 2 * once
        third = Try(
            second.deployment, second.credential, second.endpoint, second.lane, "hedge", second.deadlines
        )
        assert bill.hold(flight, third, beside=second) is None
        assert flight.permit.held == 3 * once
        flight.permit.release()
