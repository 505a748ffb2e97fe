"""What tests of failing dependencies do: ask a gateway's process, wait for what it tells, read what it wrote."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.processes import Process
from tieline.store import queries
from tieline.store.database import Database


def fetch(url: str, body: Any = None, secret: str = "") -> tuple[int, str, str]:
    """Status, request id, text."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers.get("tieline-request-id", ""), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("tieline-request-id", ""), error.read().decode()


async def asked(gateway: Process, secret: str, **more: Any) -> tuple[int, str, str]:
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20, **more}
    return await asyncio.to_thread(fetch, f"{gateway.url}/v1/chat/completions", body, secret)


async def chat(gateway: Process, secret: str) -> tuple[int, str]:
    return (await asked(gateway, secret))[:2]


async def served(gateway: Process, secret: str, count: int) -> list[str]:
    ids = []
    for _ in range(count):
        status, request_id = await chat(gateway, secret)
        assert status == 200
        ids.append(request_id)
    return ids


async def readiness(gateway: Process) -> tuple[int, dict[str, Any]]:
    status, _, text = await asyncio.to_thread(fetch, f"{gateway.url}/health/ready")
    return status, json.loads(text)


async def ready(gateway: Process) -> dict[str, Any]:
    status, found = await readiness(gateway)
    assert status == 200
    return found


async def until(gateway: Process, holds: Callable[[dict[str, Any]], bool], within: float = 15) -> None:
    deadline = time.monotonic() + within
    while not holds(state := (await readiness(gateway))[1]):
        assert time.monotonic() < deadline, state
        await asyncio.sleep(0.1)


def degraded(word: str) -> Callable[[dict[str, Any]], bool]:
    return lambda state: any(word in line for line in state["degraded"])


def well(state: dict[str, Any]) -> bool:
    recorder = state["recorder"]
    return state["degraded"] == [] and not recorder["queued"] and not recorder["spooled"]


async def dependency(gateway: Process, name: str) -> float:
    return await gauge(gateway, f'tieline_dependency_up{{dependency="{name}"}}')


async def gauge(gateway: Process, series: str) -> float:
    _, _, text = await asyncio.to_thread(fetch, f"{gateway.url}/metrics")
    [line] = [one for one in text.splitlines() if one.startswith(series)]
    return float(line.split()[-1])


def written(url: str) -> list[str]:
    database = Database(url)
    database.open()
    try:
        return [record.id for record in queries.logs(database, limit=10_000)]
    finally:
        database.close()
