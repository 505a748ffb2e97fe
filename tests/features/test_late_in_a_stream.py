"""What comes late in a stream, or at the wrong moment: upstreams that write just what and when the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tieline import AsyncTieline
from tieline.config.schema import Config, ModelConfig, ProviderConfig, Routing, StoreConfig, Timeouts
from tieline.in_process import begin

Upstream = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
ANCHOR = "and so the anchor went down at the quay, "
"""Long enough for a seam."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def raw(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "r", "model": "m", "choices": [choice]}).encode() + b"\n\n"


def frame(text: str) -> bytes:
    return chunk(raw({"content": text}))


def end(finish: str = "stop") -> bytes:
    return chunk(raw({}, finish)) + chunk(b"data: [DONE]\n\n") + LAST


async def asked(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))


@asynccontextmanager
async def between(
    first: Upstream, second: Upstream, dialect: str = "openai_chat", **routing: Any
) -> AsyncIterator[AsyncTieline]:
    """Model ``m``: ``first`` serves it, and ``second`` where that fails."""
    writers: list[asyncio.StreamWriter] = []

    def kept(upstream: Upstream) -> Upstream:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            with suppress(ConnectionError):  # Tieline hung up
                await upstream(reader, writer)

        return serve

    servers = [await asyncio.start_server(kept(each), "127.0.0.1", 0) for each in (first, second)]
    version = "/v1" if dialect == "openai_chat" else ""
    providers = {
        name: ProviderConfig(
            base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{version}",
            dialect=dialect,
            api_key="k",
        )
        for name, server in zip(("one", "two"), servers, strict=True)
    }
    config = Config(
        discover=False,
        store=StoreConfig(database="none"),
        routing=Routing(**routing),
        providers=providers,
        models={"m": ModelConfig(deployments=["one/m"], fallbacks=["two/m"])},
    )
    try:
        async with AsyncTieline(config) as line:
            yield line
    finally:
        for each in (*servers, *writers):
            each.close()


async def events(line: AsyncTieline, path: str, **body: Any) -> list[dict[str, Any]]:
    """All that a caller of that API is sent for one question."""
    asking = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}], **body}
    headers = [(b"content-type", b"application/json"), (b"anthropic-version", b"2023-06-01")]
    reply = begin(line.gateway, path, "", headers, json.dumps(asking).encode())
    await reply.head()
    sent = b"".join([piece async for piece in reply.pieces()])
    return [json.loads(line[6:]) for line in sent.split(b"\n") if line.startswith(b"data: {")]


@pytest.mark.parametrize("closing", ["whole", "reset"])
@pytest.mark.parametrize(
    "late",
    [b'data: {"error":{"message":"late","code":500}}', raw({"content": ""})[:85]],
    ids=["error", "half"],
)
async def test_what_follows_a_complete_answer_does_not_make_it_less_complete(
    late: bytes, closing: str
) -> None:
    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(HEAD)
        for piece in (frame("Hi there."), chunk(raw({}, "stop")), chunk(late)):
            writer.write(piece)
            await asyncio.sleep(0.05)
        if closing == "whole":
            writer.write(LAST)
        writer.close()

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(HEAD + frame("Hi there.") + frame(" And something else.") + end())

    async with between(upstream, other) as line:
        assert "".join([piece async for piece in line.stream("m", "x")]) == "Hi there."


async def test_a_caller_who_catches_up_between_two_attempts_hears_the_second() -> None:
    """Nobody listened when it had read what was queued, so the second attempt would have waited for it for ever."""

    async def first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(HEAD + frame("Begin. "))
        await asyncio.sleep(0.3)  # the caller sleeps by now
        for _ in range(103):
            writer.write(frame("x" * 10_000))
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.2)
        writer.write(frame("y" * 20_000) + frame(ANCHOR) + LAST)  # more than is queued, and then no finish

    async def second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        await asyncio.sleep(2)  # the caller has read everything by then
        writer.write(HEAD + frame(ANCHOR))
        for number in range(20):
            writer.write(frame(f"word {number} "))
            await asyncio.sleep(0.02)
        writer.write(end())

    async with between(first, second, timeouts=Timeouts(total_s=20, stall_s=5)) as line:
        text = ""
        async for piece in line.stream("m", "x"):
            if not text:
                await asyncio.sleep(1.2)
            text += piece
        assert text.count("word ") == 20


async def test_the_loser_of_a_race_leaves_the_winner_its_caller() -> None:
    """Both had content in one turn of the loop; then the caller was slow once."""
    late = False
    waiting: list[asyncio.StreamWriter] = []

    async def rest(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        for _ in range(200):
            writer.write(frame("x" * 10_000))
            await writer.drain()
        writer.write(end())

    async def first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                await asked(reader)
            except asyncio.IncompleteReadError:
                return
            if late:
                waiting.append(writer)
                return
            await asyncio.sleep(0.01)
            writer.write(HEAD + frame("Hi") + end())

    async def second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        await asyncio.sleep(0.2)
        other = waiting.pop()
        writer.write(HEAD)
        other.write(HEAD)
        await asyncio.sleep(0.2)
        writer.write(frame("Begin. "))
        other.write(frame("Begin. "))
        await asyncio.gather(rest(writer), rest(other), return_exceptions=True)

    times = Timeouts(total_s=15, first_token_s=10, stall_s=5)
    async with between(first, second, fallback="listed", hedge=True, explore=0.0, timeouts=times) as line:
        for _ in range(25):
            async for _piece in line.stream("m", "x"):
                pass
        late = True
        count = 0
        async for piece in line.stream("m", "x"):
            if not count:
                await asyncio.sleep(1)
            count += len(piece)
        assert count == len("Begin. ") + 200 * 10_000


CALL = {"index": 0, "id": "call_a", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
SAID = "Let me look up the weather for you now. "


async def test_no_answer_is_continued_once_the_caller_has_seen_a_call_begin() -> None:
    """OpenAI's first piece of a call has no arguments yet; another's call would be added to it."""

    async def first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(HEAD + frame(SAID) + chunk(raw({"tool_calls": [CALL]})))
        await asyncio.sleep(0.2)
        writer.close()

    async def second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        call = {**CALL, "id": "call_b"}
        writer.write(HEAD + frame(SAID) + chunk(raw({"tool_calls": [call]})) + end("tool_calls"))

    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    async with between(first, second) as line:
        seen = await events(line, "/v1/chat/completions", tools=tools)
    deltas = [choice["delta"] for event in seen for choice in event.get("choices", ())]
    assert [call["id"] for delta in deltas for call in delta.get("tool_calls") or ()] == ["call_a"]
    assert "error" in seen[-1]


def event(kind: str, **fields: Any) -> bytes:
    return chunk(b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode()))


async def test_nor_a_block_of_which_only_the_caller_knows() -> None:
    begun = event(
        "message_start",
        message={
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "usage": {"input_tokens": 9, "output_tokens": 1},
        },
    )

    def text(said: str) -> bytes:
        return (
            event("content_block_start", index=0, content_block={"type": "text", "text": ""})
            + event("content_block_delta", index=0, delta={"type": "text_delta", "text": said})
            + event("content_block_stop", index=0)
        )

    async def first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        search = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
        asking = {"type": "input_json_delta", "partial_json": '{"query":'}
        writer.write(HEAD + begun + text(SAID))
        writer.write(event("content_block_start", index=1, content_block=search))
        writer.write(event("content_block_delta", index=1, delta=asking))
        await asyncio.sleep(0.2)
        writer.close()

    async def second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        ended = {"stop_reason": "end_turn", "stop_sequence": None}
        writer.write(HEAD + begun + text(SAID + "It rains in Kiel."))
        writer.write(event("message_delta", delta=ended, usage={"output_tokens": 7}))
        writer.write(event("message_stop") + LAST)

    async with between(first, second, "anthropic_messages") as line:
        seen = await events(line, "/v1/messages", max_tokens=500)
    assert [one["index"] for one in seen if one["type"] == "content_block_start"] == [0, 1]
    assert seen[-1]["type"] == "error"
