"""Runs, service tiers, soft budgets, unknown prices: through a real gateway, down to the record."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.admin.client import Admin, administered
from tieline.ledger import pricing
from tieline.store import queries
from tieline.types.money import parse_usd
from tieline.types.record import Record


async def records(admin: Admin) -> list[Record]:
    assert admin.gateway.database is not None
    assert await asyncio.to_thread(admin.gateway.recorder.flush)
    return await asyncio.to_thread(queries.logs, admin.gateway.database, limit=500)


async def test_a_run_has_a_budget_of_its_own(tmp_path: Path) -> None:
    budget = "0.00005"
    async with administered(tmp_path) as admin:
        _, made = await admin.ask("POST", "/keys", {"name": "ci"})
        run: Any = {"run": "agent-7", "run_budget_usd": budget}
        statuses = [(await admin.chat(made["secret"], tieline=run)).status for _ in range(40)]
        assert statuses[0] == 200
        assert statuses[-1] in (402, 429)
        other = {"run": "agent-8", "run_budget_usd": budget}
        assert (await admin.chat(made["secret"], tieline=other)).status == 200
        assert (await admin.chat(made["secret"])).status == 200
        as_headers = ("tieline-run: agent-7", f"tieline-run-budget-usd: {budget}")
        body = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}
        heard = await admin.raw("POST", "/v1/chat/completions", body, *as_headers, token=made["secret"])
        assert heard.status in (402, 429)
        spent = sum(one.charged or 0 for one in await records(admin) if one.run == "agent-7")
        assert 0 < spent <= parse_usd(budget)
    async with administered(tmp_path) as admin:
        assert (await admin.chat(made["secret"], tieline=run)).status in (402, 429)


async def test_bad_amounts_name_the_option(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        for name in ("run_budget_usd", "max_cost_usd"):
            for amount in ("-1", "1e999999999", "much", "0.0000000000001"):
                heard = await admin.chat(None, tieline={"run": "r", name: amount})
                assert heard.status == 400, (name, amount)
                assert heard.json["error"]["param"] == f"tieline.{name}"


async def test_a_tier_is_priced_as_what_it_is(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        fleet = admin.gateway.fleet
        deployment = fleet.build_one("sim-openai", "gpt-sim")
        assert deployment.card is not None
        assert deployment.card.price is not None
        _, made = await admin.ask("POST", "/keys", {"name": "ci"})
        assert (await admin.chat(made["secret"])).status == 200
        # This provider states no price for the tier, so its cost is unknown: never the standard price.
        heard = await admin.chat(made["secret"], service_tier="priority")
        assert heard.status == 200, heard.body
        special, plain = await records(admin)
        assert plain.cost == pricing.cost(deployment.card.price, plain.usage, at_unix=0)
        assert special.cost is None or special.cost == plain.cost
        stated = heard.json.get("service_tier")
        assert (special.cost is None) == (stated not in pricing.STANDARD_TIERS or stated is None)
        rules = {"budgets": [{"amount_usd": "1", "period": "day"}]}
        await admin.ask("PATCH", "/keys/ci", {"rules": rules})
        heard = await admin.chat(made["secret"], service_tier="priority")
        assert (heard.status, heard.json["error"]["code"]) == (404, "no_candidate")
        assert "at the service tier 'priority' is unknown" in heard.json["error"]["message"]


async def test_a_budget_of_no_run_is_refused(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        inside = await admin.chat(None, tieline={"run_budget_usd": "0.000001"})
        body = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}
        path, header = "/v1/chat/completions", "tieline-run-budget-usd: 0.000001"
        for heard in (inside, await admin.raw("POST", path, body, header, token=None)):
            assert heard.status == 400, heard.body
            assert heard.json["error"]["param"] == "tieline.run_budget_usd"
            assert "needs `run`" in heard.json["error"]["message"]
        with_run = {"tieline": {"run": "r"}}
        assert (await admin.raw("POST", path, {**body, **with_run}, header, token=None)).status == 402


async def test_a_soft_budget_warns(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        rules = {"budgets": [{"amount_usd": "0.00001", "period": "month", "hard": False}]}
        _, made = await admin.ask("POST", "/keys", {"name": "ci", "rules": rules})
        first = await admin.chat(made["secret"])
        for _ in range(4):
            last = await admin.chat(made["secret"])
        assert first.status == last.status == 200
        assert "monthly budget" in last.headers["tieline-budget-warning"]
        assert (await records(admin))[0].flags == ["budget_warning"]


async def test_an_unknown_price_is_refused_under_a_hard_budget_only(tmp_path: Path) -> None:
    async with administered(tmp_path) as admin:
        _, made = await admin.ask("POST", "/keys", {"name": "ci"})
        heard = await admin.chat(made["secret"], "sim-openai/sim-echo")
        assert heard.status == 200
        assert heard.headers["tieline-cost-usd"] == "unknown"
        await admin.ask("PATCH", "/keys/ci", {"rules": {"budgets": [{"amount_usd": "1"}]}})
        heard = await admin.chat(made["secret"], "sim-openai/sim-echo")
        assert (heard.status, heard.json["error"]["code"]) == (404, "no_candidate")
        reason = heard.json["error"]["details"]["excluded"]["sim-openai/sim-echo"]
        assert reason.startswith("its price is unknown, and a hard budget needs one")
        assert [one.charged for one in await records(admin)] == [0, None]
