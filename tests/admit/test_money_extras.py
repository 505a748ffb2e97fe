"""What is billed beside tokens (searches, rates), and what failed attempts cost: a real gateway, providers on real sockets, down
to the record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.admit.test_money_tiers import Shop, shop
from tieline.cli.ledger import print_record
from tieline.types.money import format_usd, parse_usd
from tieline.types.record import shown

TOKENS = {"input": "1", "output": "10"}
PRICE = {**TOKENS, "web_search": "0.01", "fast_percent": "200", "us_percent": "110"}
SEARCHES: dict[str, Any] = {"type": "web_search_20250305", "name": "web_search"}


class Claude:
    """A Messages upstream that says what was used; ``broken``: its answers end before their end."""

    def __init__(self) -> None:
        self.usage: dict[str, Any] = {}
        self.broken = False

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        [length] = [line.split(":")[1] for line in head.lower().split("\r\n") if "content-length" in line]
        body = json.loads(await reader.readexactly(int(length)))
        kind, said = "application/json", self._whole()
        if body.get("stream"):
            kind, said = "text/event-stream", self._stream()
        if self.broken:
            said = said[:40]
        writer.write(
            f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n"
            f"content-length: {len(said.encode())}\r\n\r\n{said}".encode()
        )
        await writer.drain()
        writer.close()

    def _message(self, **more: Any) -> dict[str, Any]:
        return {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": [], **more}

    def _whole(self) -> str:
        content = [{"type": "text", "text": "Hello"}]
        usage = {"input_tokens": 1_000, "output_tokens": 100, **self.usage}
        return json.dumps(self._message(content=content, stop_reason="end_turn", usage=usage))

    def _stream(self) -> str:
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        delta = {"type": "text_delta", "text": "Hello"}
        usage = {"input_tokens": 1_000, "output_tokens": 100, **self.usage}
        events = [
            {
                "type": "message_start",
                "message": self._message(usage={"input_tokens": 1_000, "output_tokens": 1}),
            },
            block,
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
            {"type": "message_stop"},
        ]
        return "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)


@asynccontextmanager
async def claudes(folder: Path, *prices: dict[str, str] | None) -> AsyncIterator[tuple[Shop, list[Claude]]]:
    """A host for each of ``prices`` (None: without), called ``h0``, ``h1``, …"""
    hosts, providers = [Claude() for _ in prices], {}
    servers = [await asyncio.start_server(host.answer, "127.0.0.1", 0) for host in hosts]
    for number, (server, price) in enumerate(zip(servers, prices, strict=True)):
        providers[f"h{number}"] = {
            "base_url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            "dialect": "anthropic_messages",
            "api_key": "k",
            "models": ["m"],
            **({"prices": {"m": price}} if price else {}),
        }
    try:
        async with shop(folder, providers=providers, routing={"fallback": "listed"}) as it:
            yield it, hosts
    finally:
        for server in servers:
            server.close()


async def ask(it: Shop, secret: str | None = None, model: str = "h0/m", **more: Any) -> Any:
    body = {"model": model, "max_tokens": 20, "messages": [{"role": "user", "content": "Hello"}], **more}
    return await it.raw("POST", "/v1/messages", body, token=secret)


@pytest.mark.parametrize("stream", [False, True])
async def test_searches_and_rates_are_part_of_the_cost(
    tmp_path: Path, stream: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    async with claudes(tmp_path, PRICE, TOKENS) as (it, [claude, without]):
        for said, cost in (
            ({}, "0.002"),
            ({"server_tool_use": {"web_search_requests": 3}}, "0.032"),
            ({"speed": "fast"}, "0.004"),
            (
                {"speed": "fast", "inference_geo": "us", "server_tool_use": {"web_search_requests": 1}},
                "0.0144",
            ),
        ):
            claude.usage = without.usage = said
            heard = await ask(it, stream=stream)
            assert heard.status == 200, heard.body
            record = await it.charged()
            assert format_usd(record.cost) == cost
            if not stream:
                assert heard.headers["tieline-cost-usd"] == cost
            assert (await ask(it, model="h1/m", stream=stream)).status == 200
            assert ((await it.charged()).cost is None) == bool(said)
        print_record(record)
        printed = " ".join(capsys.readouterr().out.split())
        assert "fast mode, processing in the United States alone, web searches: 1" in printed
        assert shown(record)["usage"]["extras"] == {"fast": 1, "us": 1, "web_search": 1}


async def test_a_ceiling_counts_the_searches_that_a_request_allows(tmp_path: Path) -> None:
    async with claudes(tmp_path, PRICE) as (it, _):
        limit = {"max_cost_usd": "0.04"}
        assert (await ask(it, tieline=limit, tools=[{**SEARCHES, "max_uses": 3}])).status == 200
        heard = await ask(it, tieline=limit, tools=[{**SEARCHES, "max_uses": 4}])
        assert heard.status == 404, heard.body
        assert b"ceiling" in heard.body
        # Without a limit nothing says how many there will be.
        assert (await ask(it, tieline=limit, tools=[SEARCHES])).status == 200
        assert (await ask(it, tieline={"max_cost_usd": "0.0003"})).status == 200
        assert (await ask(it, tieline={"max_cost_usd": "0.0003"}, speed="fast")).status == 404


async def test_a_hard_budget_holds_for_searches_and_bears_what_they_cost(tmp_path: Path) -> None:
    async with claudes(tmp_path, PRICE, TOKENS) as (it, [claude, _]):
        rules = {"budgets": [{"amount_usd": "0.03", "period": "day"}]}
        _, made = await it.ask("POST", "/keys", {"name": "ci", "rules": rules})
        secret = made["secret"]
        assert (await ask(it, secret, tools=[{**SEARCHES, "max_uses": 3}])).status == 402
        heard = await ask(it, secret, model="h1/m", speed="fast")
        assert heard.status == 404, heard.body
        assert b"its price with `speed: fast` is unknown, and a hard budget needs one" in heard.body
        # Without a limit more may be spent than was held; it is counted, and nothing more is let through.
        claude.usage = {"server_tool_use": {"web_search_requests": 5}}
        assert (await ask(it, secret, tools=[SEARCHES])).status == 200
        record = await it.charged()
        assert record.charged == record.cost == parse_usd("0.052")
        assert (await ask(it, secret)).status == 402


async def test_the_known_part_of_what_was_wasted_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with claudes(tmp_path, TOKENS, None, TOKENS) as (it, [first, second, _]):
        first.broken = second.broken = True
        heard = await ask(it, models=["h1/m", "h2/m"])
        assert heard.status == 200, heard.body
        record = await it.charged()
        known, unknown, bought = [entry.cost for entry in record.attempts]
        assert known
        assert unknown is None
        assert bought == parse_usd("0.002")
        assert (record.cost, record.wasted) == (None, known)
        print_record(record)
        said = " ".join(capsys.readouterr().out.split())
        assert f"unknown, of which wasted ${format_usd(known)} or more" in said
        # Where nothing is known, nothing is said to be.
        heard = await ask(it, model="h1/m", models=["h2/m"])
        assert heard.status == 200, heard.body
        assert (await it.charged()).wasted is None
