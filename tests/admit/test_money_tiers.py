"""What a provider's answer says was used, at which tier, down to what the caller is charged: a real gateway, a provider
on a real socket that says what the test wants, whole answers and streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.admin.client import TOKEN, Admin
from tieline.gateway import Gateway
from tieline.server.serve import Service, bind
from tieline.simulator import SimulatorServer
from tieline.store import queries
from tieline.types.money import format_usd, parse_usd
from tieline.types.record import Record

PRICE = {
    "input": "1",
    "output": "10",
    "cache_read": "0.1",
    "input_audio": "4",
    "output_audio": "40",
    "per_request": "0.005",
    "batch_percent": "50",
    "priority_percent": "200",
    "flex_percent": "50",
}
USAGE: dict[str, Any] = {
    "prompt_tokens": 1_000,
    "completion_tokens": 100,
    "total_tokens": 1_100,
    "prompt_tokens_details": {"cached_tokens": 200, "audio_tokens": 300},
    "completion_tokens_details": {"audio_tokens": 40},
}
STANDARD = parse_usd("0.00392")
"""500 plain in, 200 cached, 300 audio in, 60 out, 40 audio out: 0.0005 + 0.00002 + 0.0012 + 0.0006 + 0.0016."""
FEE = parse_usd("0.005")


class Provider:
    """An OpenAI Chat upstream whose ``tier`` and ``usage`` are set by the test; ``failing``: it answers 500."""

    def __init__(self) -> None:
        self.tier: str | None = "default"
        self.usage = USAGE
        self.failing = False

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        [length] = [line.split(":")[1] for line in head.lower().split("\r\n") if "content-length" in line]
        body = json.loads(await reader.readexactly(int(length)))
        status, kind, said = 200, "application/json", self._whole()
        if self.failing:
            status, said = 500, json.dumps({"error": {"message": "no", "type": "server_error"}})
        elif body.get("stream"):
            kind, said = "text/event-stream", self._stream()
        writer.write(
            f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n"
            f"content-length: {len(said.encode())}\r\n\r\n{said}".encode()
        )
        await writer.drain()
        writer.close()

    def _shell(self, kind: str) -> dict[str, Any]:
        shell = {"id": "c1", "object": kind, "created": 1, "model": "m"}
        return shell if self.tier is None else {**shell, "service_tier": self.tier}

    def _whole(self) -> str:
        # The text names a tier as well: only the answer's own field counts.
        message = {"role": "assistant", "content": 'say "service_tier": "batch"', "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return json.dumps({**self._shell("chat.completion"), "choices": [choice], "usage": self.usage})

    def _stream(self) -> str:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return {**self._shell("chat.completion.chunk"), "choices": [choice], "usage": None}

        last = {**self._shell("chat.completion.chunk"), "choices": [], "usage": self.usage}
        chunks = [chunk({"role": "assistant", "content": "Hello"}), chunk({}, "stop"), last]
        return "".join(f"data: {json.dumps(one)}\n\n" for one in chunks) + "data: [DONE]\n\n"


class Shop(Admin):
    provider: Provider

    async def charged(self) -> Record:
        """The newest record."""
        assert self.gateway.database is not None
        assert await asyncio.to_thread(self.gateway.recorder.flush)
        return (await asyncio.to_thread(queries.logs, self.gateway.database, limit=1))[0]


@asynccontextmanager
async def shop(folder: Path, *, database: str = "", **more: Any) -> AsyncIterator[Shop]:
    provider = Provider()
    with closing(await asyncio.start_server(provider.answer, "127.0.0.1", 0)) as upstream:
        port = upstream.sockets[0].getsockname()[1]
        own = {
            "base_url": f"http://127.0.0.1:{port}/v1",
            "api_key": "k",
            "prices": {"m": PRICE, "other": PRICE},
        }
        tree = {
            "discover": False,
            "store": {
                "database": database or f"sqlite:///{folder / 'tieline.db'}",
                "spool": str(folder / "spool"),
            },
            "providers": {"own": own},
            "routing": {"fallback": "none"},
            **more,
        }
        path = folder / "tieline.yaml"
        path.write_text(yaml.safe_dump(tree))
        async with SimulatorServer() as simulator:
            gateway = Gateway(path, environ={"TIELINE_ADMIN_TOKEN": TOKEN})
            sock = bind("127.0.0.1", 0)
            ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            service = Service(gateway, sock, ready.set_result)
            task = asyncio.create_task(service.serve())
            await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
            if task.done():
                await task
            try:
                made = Shop(gateway, ready.result(), simulator)
                made.provider = provider
                yield made
            finally:
                service.stop()
                async with asyncio.timeout(30):
                    await task
                sock.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_costs_what_the_tier_of_the_answer_costs(tmp_path: Path, stream: bool) -> None:
    async with shop(tmp_path) as it:
        for asked, answered, percent in (
            (None, "default", 100),
            (None, None, 100),
            ("auto", "priority", 200),
            (None, "priority", 200),
            (None, "flex", 50),
            ("priority", "default", 100),
            ("flex", "flex", 50),
            ("priority", None, 200),
            ("batch", "batch", 50),
        ):
            it.provider.tier = answered
            extra = {} if asked is None else {"service_tier": asked}
            heard = await it.chat(None, "own/m", stream=stream, **extra)
            assert heard.status == 200, heard.body
            record = await it.charged()
            expected = STANDARD * percent // 100 + FEE
            assert record.cost == expected, (asked, answered, format_usd(record.cost))
            assert record.charged == expected
            if not stream:
                assert heard.headers["tieline-cost-usd"] == format_usd(expected)
        # A tier without a known price makes the cost unknown, never the standard price.
        it.provider.tier = "scale"
        await it.chat(None, "own/m", stream=stream)
        assert (await it.charged()).cost is None


async def test_a_ceiling_is_one_of_the_tier_that_is_asked_for(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        # 20 tokens out at 40 USD per million, a few in and the fee: 0.00584 at most; at twice the price 0.00668.
        limit = {"max_cost_usd": "0.006"}
        assert (await it.chat(None, "own/m", tieline=limit)).status == 200
        assert (await it.chat(None, "own/m", tieline=limit, service_tier=None)).status == 200
        assert (await it.chat(None, "own/m", tieline=limit, service_tier="flex")).status == 200
        for tier in ("priority", "scale"):
            heard = await it.chat(None, "own/m", tieline=limit, service_tier=tier)
            assert heard.status == 404, heard.body
            assert b"ceiling" in heard.body
        body = {
            "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
            "generationConfig": {"maxOutputTokens": 20},
            "tieline": limit,
        }
        path = "/v1beta/models/own/m:generateContent"
        assert (await it.raw("POST", path, body, token=None)).status == 200
        heard = await it.raw("POST", path, {**body, "serviceTier": "PRIORITY"}, token=None)
        assert heard.status == 404, heard.body


async def test_markup_is_for_the_caller_and_failures_are_not(tmp_path: Path) -> None:
    ledger = {"markup_percent": "12.5", "markup_usd": "0.001"}
    async with shop(tmp_path, ledger=ledger) as it:
        _, made = await it.ask("POST", "/keys", {"name": "customer"})
        assert (await it.chat(made["secret"], "own/m")).status == 200
        record = await it.charged()
        cost = STANDARD + FEE
        assert record.cost == cost
        assert record.charged == cost + cost // 8 + parse_usd("0.001")
        it.provider.failing = True
        assert (await it.chat(made["secret"], "own/m")).status == 502
        assert (await it.charged()).charged == 0
        _, [shown] = await it.ask("GET", "/keys")
        assert shown["spent_usd"] == format_usd(record.charged)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_a_prepaid_project_ends_with_its_credit(
    tmp_path: Path, backend: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres").new_database() if backend == "postgresql" else ""
    async with shop(tmp_path, database=url) as it:
        await it.ask("POST", "/projects", {"name": "web"})
        _, made = await it.ask("POST", "/keys", {"name": "ci", "project": "web"})
        _, other = await it.ask("POST", "/keys", {"name": "free"})
        assert (await it.chat(made["secret"], "own/m")).status == 200, "not prepaid yet"
        _, project = await it.ask("POST", "/projects/web/credits", {"amount_usd": "0.04"})
        statuses = [(await it.chat(made["secret"], "own/m")).status for _ in range(8)]
        assert statuses[0] == 200
        assert statuses[-1] == 402
        assert await asyncio.to_thread(it.gateway.recorder.flush)
        _, project = await it.ask("GET", "/projects/web")
        assert 0 <= parse_usd(project["credit_left_usd"]) < parse_usd("0.04") - STANDARD
        assert parse_usd(project["spent_usd"]) == (STANDARD + FEE) * (1 + statuses.count(200))
        assert (await it.chat(other["secret"], "own/m")).status == 200
        await it.ask("POST", "/projects/web/credits", {"amount_usd": "1"})
        assert (await it.chat(made["secret"], "own/m")).status == 200
        _, project = await it.ask("POST", "/projects/web/credits", {"amount_usd": "-1"})
        assert (await it.chat(made["secret"], "own/m")).status == 402


async def test_budgets_for_a_tag_and_for_a_model(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        rules = {
            "budgets": [
                {"amount_usd": "0.02", "period": "day", "tag": "team=a"},
                {"amount_usd": "0.02", "period": "day", "model": "own/other"},
            ]
        }
        _, problem = await it.ask("POST", "/projects", {"name": "web", "rules": rules})
        assert "error" not in problem, problem
        _, made = await it.ask("POST", "/keys", {"name": "ci", "project": "web"})

        async def asked(model: str, team: str) -> int:
            return (await it.chat(made["secret"], model, tieline={"tags": {"team": team}})).status

        assert [await asked("own/m", "a") for _ in range(5)][-1] == 402
        assert await asked("own/m", "b") == 200
        assert [await asked("own/other", "b") for _ in range(5)][-1] == 402
        assert await asked("own/m", "b") == 200
        assert await asyncio.to_thread(it.gateway.recorder.flush)
        _, budgets = await it.ask("GET", "/budgets")
        spent = {one["scope"].partition("/")[2]: parse_usd(one["spent_usd"]) for one in budgets}
        assert set(spent) == {"tag:team=a", "model:own/other"}
        assert all(0 < amount <= parse_usd("0.02") for amount in spent.values())


async def test_a_soft_budget_that_is_not_passed_says_nothing(tmp_path: Path) -> None:
    """Also while far more than it is held: for the longest answer, and for requests beside this one."""
    async with shop(tmp_path) as it:
        rules = {"budgets": [{"amount_usd": "0.5", "period": "day", "hard": False}]}
        _, made = await it.ask("POST", "/keys", {"name": "ci", "rules": rules})
        heard = await asyncio.gather(*(it.chat(made["secret"], "own/m", max_tokens=30_000) for _ in range(4)))
        assert [one.status for one in heard] == [200] * 4
        assert not any("tieline-budget-warning" in one.headers for one in heard)
        assert (await it.charged()).flags == []
        told = (await it.raw("GET", "/metrics")).body.decode().splitlines()
        assert [
            one for one in told if one.startswith("tieline_budget_warnings_total") and one[-4:] != " 0.0"
        ] == []


async def test_a_rotated_key_overlaps_and_then_ends(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        _, made = await it.ask("POST", "/keys", {"name": "ci"})
        _, rotated = await it.ask("POST", "/keys/ci/rotate", {"overlap_s": 2})
        assert len(rotated["key"]["hints"]) == 2
        began = asyncio.get_running_loop().time()
        assert (await it.chat(made["secret"], "own/m")).status == 200
        assert (await it.chat(rotated["secret"], "own/m")).status == 200
        while (status := (await it.chat(made["secret"], "own/m")).status) == 200:
            assert asyncio.get_running_loop().time() - began < 10
            await asyncio.sleep(0.1)
        assert status == 401
        assert asyncio.get_running_loop().time() - began > 1.5
        assert (await it.chat(rotated["secret"], "own/m")).status == 200
        assert await asyncio.to_thread(it.gateway.recorder.flush)
        _, [shown] = await it.ask("GET", "/keys")
        assert shown["hints"] == [rotated["secret"][-4:]]
        assert parse_usd(shown["spent_usd"]) >= 3 * (STANDARD + FEE), "both secrets are one key"


async def test_what_is_refused_is_the_keys_that_asked(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        await it.ask("POST", "/projects", {"name": "web"})
        rules = {"limits": {"requests_per_minute": 1}, "models": ["own/m"], "tags": {"team": "a"}}
        _, made = await it.ask("POST", "/keys", {"name": "ci", "project": "web", "rules": rules})
        _, other = await it.ask("POST", "/keys", {"name": "other"})
        secret = made["secret"]
        heard = [
            await it.chat(secret, "own/m"),
            await it.chat(secret, "own/m", tieline={"tags": {"step": "2"}}),
            await it.chat(secret, "own/other"),
            await it.chat(secret, "own/m", max_tokens="many"),
            await it.chat("tl-stranger", "own/m"),
        ]
        assert [one.status for one in heard] == [200, 429, 403, 400, 401]
        assert await asyncio.to_thread(it.gateway.recorder.flush)
        for one in heard[:4]:
            path = f"/v1/requests/{one.headers['tieline-request-id']}"
            shown = await it.raw("GET", path, token=secret)
            assert shown.status == 200, shown.body
            assert shown.json["status"] == one.status
            assert shown.json["project"] == made["key"]["project_id"]
            assert (await it.raw("GET", path, token=other["secret"])).status == 404
        assert it.gateway.database is not None
        found = await asyncio.to_thread(
            queries.logs, it.gateway.database, queries.Filters(key_id=made["key"]["id"])
        )
        assert sorted(one.status for one in found) == [200, 400, 403, 429]
        [limited] = [one for one in found if one.status == 429]
        assert limited.tags == {"team": "a", "step": "2"}
        assert sum(one.charged or 0 for one in found if one.status != 200) == 0
        spent = await asyncio.to_thread(queries.spend, it.gateway.database, by="key")
        assert {one.group: one.requests for one in spent} == {made["key"]["id"]: 4, None: 1}


async def test_a_soft_budget_is_an_event_too(tmp_path: Path) -> None:
    """The first time it is passed in its period: one line in the log, one in the audit log, and the metric counts."""
    async with shop(tmp_path) as it:
        rules = {"budgets": [{"amount_usd": "0.001", "period": "day", "hard": False}]}
        _, made = await it.ask("POST", "/keys", {"name": "ci", "rules": rules})
        heard = [await it.chat(made["secret"], "own/m") for _ in range(4)]
        assert [one.status for one in heard] == [200] * 4
        assert "daily budget" in heard[-1].headers["tieline-budget-warning"]
        assert (await it.charged()).flags == ["budget_warning"]
        body = (await it.raw("GET", "/metrics")).body.decode()
        [line] = [one for one in body.splitlines() if one.startswith("tieline_budget_warnings_total")]
        assert float(line.split()[-1]) >= 3
        async with asyncio.timeout(10):
            while True:
                _, changes = await it.ask("GET", "/audit")
                passed = [one for one in changes if one["action"] == "budget.passed"]
                if passed:
                    break
                await asyncio.sleep(0.2)
        assert len(passed) == 1
        assert passed[0]["subject"] == f"key:{made['key']['id']}"
        assert "daily budget" in passed[0]["detail"]["text"]
