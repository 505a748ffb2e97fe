from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
import uvloop

from tieline.simulator import SimulatorServer, expected_text

from .conftest import SEED

PROMPT = "Tell me about harbours"
TEXT = expected_text(PROMPT, 48, SEED)
HEADERS = {
    "authorization": "Bearer k",
    "x-api-key": "k",
    "x-goog-api-key": "k",
    "anthropic-version": "2023-06-01",
}
TURN: Any = {"messages": [{"role": "user", "content": PROMPT}]}
GEMINI: Any = {"contents": [{"parts": [{"text": PROMPT}]}]}
CONVERSE: Any = {"messages": [{"role": "user", "content": [{"text": PROMPT}]}]}


def request(dialect: str, model: str, stream: bool = True) -> tuple[str, Any]:
    body = TURN | {"model": model, "stream": stream}
    if dialect == "openai":
        return "/p/v1/chat/completions", body
    if dialect == "responses":
        return "/p/v1/responses", {"model": model, "stream": stream, "input": PROMPT}
    if dialect == "anthropic":
        return "/p/v1/messages", body | {"max_tokens": 500}
    if dialect == "gemini":
        return (
            f"/p/v1beta/models/{model}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}",
            GEMINI,
        )
    if dialect == "bedrock":
        return f"/p/model/{model}/converse{'-stream' if stream else ''}", CONVERSE
    return "/p/v2/chat", body


DIALECTS = ["openai", "responses", "anthropic", "gemini", "bedrock", "cohere"]


async def receive(
    simulator: SimulatorServer, dialect: str, model: str, stream: bool = True
) -> tuple[bytes, Exception | None]:
    """What came, and how it broke."""
    path, body = request(dialect, model, stream)
    data = b""
    async with httpx2.AsyncClient(timeout=httpx2.Timeout(10, read=0.5), headers=HEADERS) as client:
        try:
            async with client.stream("POST", f"{simulator.url}{path}", json=body) as answer:
                async for part in answer.aiter_raw():
                    data += part
        except httpx2.TransportError as error:
            return data, error
    return data, None


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_breaks_on_the_wire(simulator: SimulatorServer, dialect: str) -> None:
    full, error = await receive(simulator, dialect, "m")
    assert error is None
    for model, kind in (
        ("sim-cut:after=5", httpx2.RemoteProtocolError),
        ("sim-cut:after=5,mid=1", httpx2.RemoteProtocolError),
        ("sim-cut:after=5,reset=1", httpx2.ReadError),
        ("sim-cut:after=9999", httpx2.RemoteProtocolError),
        ("sim-cut-clean:after=5", type(None)),
        ("sim-stall:after=5", httpx2.ReadTimeout),
        ("sim-no-done", httpx2.ReadTimeout),
        ("sim-reset", (httpx2.ReadError, httpx2.RemoteProtocolError)),
        ("sim-silent", httpx2.ReadTimeout),
    ):
        data, error = await receive(simulator, dialect, model)
        assert isinstance(error, kind), (model, error)
        assert model not in ("sim-cut:after=5", "sim-stall:after=5") or len(data) < len(full) / 2 + 2500
    rows = {entry.behaviour: entry for entry in simulator.log}
    assert rows["cut:after=5"].output_tokens == 5
    assert rows["cut:after=5"].cut
    assert not rows["cut-clean:after=5"].completed
    assert rows["no-done"].completed


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_whole_answers_break_too(simulator: SimulatorServer, dialect: str) -> None:
    for model in ("sim-truncate-body", "sim-cut"):
        _, error = await receive(simulator, dialect, model, stream=False)
        assert isinstance(error, httpx2.RemoteProtocolError)
    garbled, error = await receive(simulator, dialect, "sim-garbled", stream=False)
    assert error is None
    assert b"\x00" in garbled
    failed, error = await receive(simulator, dialect, "sim-error-200", stream=False)
    assert error is None
    assert b"error" in failed


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "behaviour",
    ["malformed:at=3", "malformed:at=3,content=1", "stream-error:after=2", "usage-missing", "null-usage", "wrong-index",
     "finish-filter", "finish-with-content", "content-after-finish", "empty-choices-first", "degraded", "comments", "cache"],
)  # fmt: skip
async def test_shapes_arrive_whole(simulator: SimulatorServer, dialect: str, behaviour: str) -> None:
    data, error = await receive(simulator, dialect, f"sim-{behaviour}")
    assert error is None
    assert data


async def test_choices_are_seeded(simulator: SimulatorServer) -> None:
    async def statuses(model: str, count: int) -> list[int]:
        path, body = request("openai", model, False)
        async with httpx2.AsyncClient(headers=HEADERS) as client:
            return [
                (await client.post(f"{simulator.url}{path}", json=body)).status_code for _ in range(count)
            ]

    assert await statuses("sim-first:n=2,then=echo,fail=fail-503", 4) == [503, 503, 200, 200]
    simulator.reset()
    first = await statuses("sim-flaky:p=0.5,fail=fail-529", 20)
    simulator.reset()
    assert await statuses("sim-flaky:p=0.5,fail=fail-529", 20) == first
    assert set(first) == {200, 529}


async def test_pace(simulator: SimulatorServer) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await receive(simulator, "openai", "sim-echo:ttft_ms=100,tps=200,tokens=20")
    assert 0.19 < loop.time() - began < 1


async def test_comments_while_waiting_and_stalling(simulator: SimulatorServer) -> None:
    data, _ = await receive(simulator, "openai", "sim-echo:early=1,ttft_ms=120")
    assert data.endswith(b"[DONE]\n\n")
    data, error = await receive(simulator, "openai", "sim-stall:after=2,comments=1,for_ms=200")
    assert data.count(b": keep-alive") >= 3
    assert isinstance(error, httpx2.RemoteProtocolError)


async def test_a_caller_that_leaves_is_noticed(simulator: SimulatorServer) -> None:
    path, body = request("openai", "sim-long:tps=100")
    async with (
        httpx2.AsyncClient(headers=HEADERS) as client,
        client.stream("POST", f"{simulator.url}{path}", json=body) as answer,
    ):
        async for _ in answer.aiter_raw():
            break
    async with asyncio.timeout(2):
        while not simulator.log[0].cancelled_by_client:
            await asyncio.sleep(0.01)
    assert not simulator.log[0].completed
    assert simulator.log[0].output_tokens < 100


def test_it_runs_on_uvloop() -> None:
    async def ask() -> None:
        async with SimulatorServer(seed=SEED) as server:
            for model in ("m", "sim-cut:after=2,reset=1", "sim-reset"):
                await receive(server, "openai", model)
            assert [entry.output_tokens for entry in server.log] == [48, 2, 0]

    uvloop.run(ask())


async def test_log_reset_and_schedule_over_http(simulator: SimulatorServer) -> None:
    await receive(simulator, "openai", "m")
    async with httpx2.AsyncClient(base_url=simulator.url) as client:
        log = (await client.get("/_simulator/log")).json()
        assert log["sums"]["p"]["output_tokens"] == 48
        assert log["entries"][0]["body"]["model"] == "m"
        wrong = await client.post(
            "/_simulator/schedule", content="phases: [{at_s: 0, for_s: 9, behavior: x}]"
        )
        assert "did you mean 'behaviour'?" in wrong.json()["error"]
        await client.post(
            "/_simulator/schedule", content="phases: [{at_s: 0, for_s: 9, behaviour: fail-503}]"
        )
        path, body = request("openai", "m")
        assert (await client.post(path, json=body, headers=HEADERS)).status_code == 503
        await client.post("/_simulator/reset")
        assert (await client.get("/_simulator/log")).json()["entries"] == []
