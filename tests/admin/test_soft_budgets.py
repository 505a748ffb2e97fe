"""A soft budget warns of what all processes spend together, without Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.admin.client import administered
from tieline import gateway


async def test_what_another_process_spends_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "LEARN_S", 0.2)
    database = f"sqlite:///{tmp_path / 'shared.db'}"
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    async with (
        administered(folders[0], database=database) as one,
        administered(folders[1], database=database) as two,
    ):
        budget = {"amount_usd": "0.00003", "period": "day", "hard": False}
        _, made = await one.ask("POST", "/keys", {"name": "ci", "rules": {"budgets": [budget]}})
        for _ in range(5):
            heard = await one.chat(made["secret"])
        assert "daily budget" in heard.headers["tieline-budget-warning"]
        assert await asyncio.to_thread(one.gateway.recorder.flush)
        async with asyncio.timeout(20):
            while (heard := await two.chat(made["secret"], "nothing")).status == 401:
                await asyncio.sleep(0.1)
            while not two.gateway.admission.passed():
                await asyncio.sleep(0.1)
        heard = await two.chat(made["secret"])
        assert "daily budget" in heard.headers["tieline-budget-warning"], (
            "its first request that cost anything"
        )
        _, changes = await two.ask("GET", "/audit")
        assert [change["action"] for change in changes].count("budget.passed") == 1
