"""Streams at the door: callers that do not read, read slowly, or go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.served import Raw, Served, behaving, chat, get, post, serving
from tieline.config.schema import ModelConfig, ProviderConfig
from tieline.server.door import Door

CHAT = "/v1/chat/completions"
LONG = "sim-echo:tokens=200000"
SLOW = "sim-echo:tokens=400,tps=40"


async def first_piece(raw: Raw) -> bytes:
    async with asyncio.timeout(10):
        await raw.reader.readuntil(b"\r\n\r\n")
        return await raw.reader.readuntil(b"\n\n")


async def test_a_stream_ends_with_its_figures(served: Served) -> None:
    async with await served.connect() as raw:
        raw.send(post(CHAT, chat(stream=True)))
        heard = await raw.hear()
    lines = heard.body.decode().splitlines()
    comment = next(line for line in lines if line.startswith(": tieline "))
    figures = json.loads(comment.removeprefix(": tieline "))
    assert figures["request_id"] == heard.headers["tieline-request-id"]
    assert figures["provider"] == "sim-openai"
    assert float(figures["cost_usd"]) > 0


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
async def test_a_caller_that_leaves_a_stream_ends_it_upstream(tmp_path: Path, how: str, path: str) -> None:
    async with serving(tmp_path, {"slow": behaving(SLOW)}) as served:
        raw = await served.connect()
        raw.send(post(path, chat("slow", stream=True, max_tokens=400)))
        await first_piece(raw)
        await asyncio.sleep(0.2)
        getattr(raw, how)()
        await served.settled()
        async with asyncio.timeout(5):
            while not served.simulator.log[-1].cancelled_by_client:
                await asyncio.sleep(0.02)
        (record,) = await served.records()
        assert (record.outcome, record.status) == ("caller_gone", 499)
        (attempt,) = record.attempts
        assert attempt.outcome == "caller_gone"
        assert attempt.usage is not None
        assert attempt.usage.estimated
        assert attempt.usage.output_tokens > 0
        assert attempt.cost
        assert record.wasted == 0  # what was sent until then is the caller's


async def test_a_caller_that_leaves_before_the_answer_is_recorded(tmp_path: Path) -> None:
    async with serving(tmp_path, {"late": behaving("sim-slow:ttft_ms=5000")}) as served:
        raw = await served.connect()
        raw.send(post(CHAT, chat("late")))
        await asyncio.sleep(0.2)
        raw.abort()
        await served.settled()
        (record,) = await served.records()
        assert record.outcome == "caller_gone"
        assert served.gateway.in_flight == 0


async def test_a_caller_that_does_not_read_pauses_the_upstream_and_hurts_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Door, "stuck_write_s", 6.0)
    async with serving(tmp_path, {"long": behaving(LONG)}) as served:
        stuck = await served.connect()
        stuck.writer.transport.pause_reading()
        stuck.send(post(CHAT, chat("long", stream=True)))
        (door,) = served.service.server.server_state.connections
        async with asyncio.timeout(20):
            while not door.paused:  # type: ignore[union-attr]
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        (entry,) = served.simulator.log
        assert not entry.completed
        assert 0 < door.transport.get_write_buffer_size() < 1024 * 1024  # type: ignore[union-attr]
        async with await served.connect() as other:
            for _ in range(20):
                other.send(post(CHAT, chat()))
                assert (await other.hear()).status == 200
        assert not entry.completed
        assert served.gateway.in_flight == 1, "they did not have to wait until it was cut"
        async with asyncio.timeout(20):
            while served.gateway.in_flight:
                await asyncio.sleep(0.05)
        record = next(one for one in await served.records() if one.model_asked == "long")
        assert record.outcome == "caller_gone"
        stuck.abort()


async def test_a_slow_reader_gets_all_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path, {"long": behaving("sim-echo:tokens=30000")}) as served:
        raw = await served.connect()
        raw.writer.transport.pause_reading()
        raw.send(post(CHAT, chat("long", stream=True, stream_options={"include_usage": True})))
        await asyncio.sleep(1)
        raw.writer.transport.resume_reading()
        heard = await raw.hear(timeout=30)
        assert heard.body.endswith(b"data: [DONE]\n\n")
        assert heard.body.count(b'"content":"') >= 30_000
        raw.close()
        (record,) = await served.records()
        assert record.outcome == "success"
        assert len(record.attempts) == 1


async def test_a_reader_slower_than_the_stall_deadline_is_not_the_providers_fault(tmp_path: Path) -> None:
    model = behaving("sim-echo:tokens=80000", timeouts={"stall_s": 0.5})
    async with serving(tmp_path, {"long": model}) as served:
        raw = await served.connect()
        raw.writer.transport.pause_reading()
        raw.send(post(CHAT, chat("long", stream=True)))
        await asyncio.sleep(2)
        assert not served.simulator.log[-1].completed
        raw.writer.transport.resume_reading()
        heard = await raw.hear(timeout=30)
        assert heard.body.endswith(b"data: [DONE]\n\n"), heard.body[-300:]
        raw.close()
        (record,) = await served.records()
        assert [one.outcome for one in record.attempts] == ["success"]


async def test_a_stall_is_noticed_when_its_own_deadline_is_over(tmp_path: Path) -> None:
    model = behaving("sim-stall:after=5", timeouts={"stall_s": 0.5}, on_broken_stream="error")
    async with serving(tmp_path, {"stalls": model}) as served, await served.connect() as raw:
        raw.send(post(CHAT, chat("stalls", stream=True)))
        heard = await raw.hear(timeout=5)
        assert b"silent for" in heard.body
        (record,) = await served.records()
        assert record.outcome == "stall"


async def test_overhead_of_a_stream_leaves_out_the_upstreams_time(tmp_path: Path) -> None:
    async with serving(tmp_path, {"slow": behaving("sim-echo:tokens=40,tps=40")}) as served:
        async with await served.connect() as raw:
            raw.send(post(CHAT, chat("slow", stream=True)))
            await raw.hear()
        (record,) = await served.records()
        assert record.total_ms > 700
        assert record.overhead_ms < 200


async def test_a_broken_stream_ends_in_an_error_and_the_connection_lives(tmp_path: Path) -> None:
    model = behaving("sim-cut:after=5", on_broken_stream="error")
    async with serving(tmp_path, {"cut": model}) as served, await served.connect() as raw:
        raw.send(post(CHAT, chat("cut", stream=True)) + get("/health/live"))
        heard = await raw.hear()
        assert heard.status == 200
        assert b'"error"' in heard.body
        assert b"[DONE]" not in heard.body.split(b'"error"')[0]
        assert (await raw.hear()).status == 200


UNTYPED = {"model": "broken", "stream": True, "messages": [{"role": "function", "name": "f", "content": "1"}]}
"""OpenAI's chat of old: its hosts take it, and it passes through as it is; in no other dialect could it be said."""


@asynccontextmanager
async def that_breaks(goes_on: asyncio.Event) -> AsyncIterator[str]:
    """An upstream that waits for ``goes_on``, sends one piece of a stream and closes; its URL."""
    chunk = {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}],
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            await goes_on.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            writer.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            await writer.drain()

    # Closed whatever happens: uvloop's loop waits for ever for a server that was left open.
    with closing(await asyncio.start_server(answer, "127.0.0.1", 0)) as upstream:
        yield f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}/v1"


async def test_what_cannot_be_read_is_pinged_and_told_of_a_break_all_the_same(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    async with that_breaks(goes_on) as url, serving(tmp_path, keepalive_s=0.1) as served:
        config = served.gateway.config
        providers = config.providers | {"breaks": ProviderConfig(base_url=url, api_key="k")}
        broken = {"broken": ModelConfig(deployments=["breaks/m"])}
        served.gateway.reload(replace(config, providers=providers, models=config.models | broken))
        async with await served.connect() as raw:
            raw.send(post(CHAT, json.dumps(UNTYPED).encode()))
            async with asyncio.timeout(10):
                head = await raw.reader.readuntil(b"\r\n\r\n")
                for _ in range(2):
                    await raw.reader.readuntil(b": keep-alive\n")
            goes_on.set()
            async with asyncio.timeout(10):
                rest = await raw.reader.readuntil(b"\r\n0\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b'"content": "hi"' in rest
        assert b'"error"' in rest
        assert b"[DONE]" not in rest
        (record,) = await served.records()
        assert record.status == 200
        assert record.outcome != "success"


async def test_a_waiting_stream_hears_keepalives(tmp_path: Path) -> None:
    models = {"late": behaving("sim-slow:ttft_ms=2500")}
    async with serving(tmp_path, models, keepalive_s=0.2) as served, await served.connect() as raw:
        raw.send(post(CHAT, chat("late", stream=True)))
        heard = await raw.hear()
        assert heard.body.split(b"data:")[0].count(b": keep-alive\n") >= 3
        assert heard.body.endswith(b"data: [DONE]\n\n")


async def test_too_many_at_once_are_shed_with_a_time_to_come_back(tmp_path: Path) -> None:
    models = {"slow": behaving(SLOW)}
    async with serving(tmp_path, models, max_concurrency=1) as served:  # noqa: SIM117
        async with await served.connect() as busy, await served.connect() as raw:
            busy.send(post(CHAT, chat("slow", stream=True)))
            await first_piece(busy)
            raw.send(post(CHAT, chat()))
            heard = await raw.hear()
            assert heard.status == 503
            assert int(heard.headers["retry-after"]) >= 1
