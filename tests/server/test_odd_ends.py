"""Upstreams that end strangely and bodies that not everybody can read: each caller hears one answer, each request has one
record, and nothing is our fault. The upstream says exactly what a test wants."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from msgspec.structs import replace

from tests.served import HELLO, Served, chat, get, post, serving
from tieline.config.schema import ModelConfig, ProviderConfig, Routing

CHAT = "/v1/chat/completions"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
Script = list[bytes | float | str]
"""Bytes to send, seconds to wait, or ``reset``; after the last the connection is closed."""


def piece(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def said(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def whole(body: Any) -> Script:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(raw) + raw
    ]


HI = said({"role": "assistant", "content": "Hi"})
FINISH = said({}, "stop")
USAGE = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\n'
ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}


@asynccontextmanager
async def hosts(
    folder: Path, script: Callable[[str], Script], **models: ModelConfig
) -> AsyncIterator[tuple[Served, list[str]]]:
    """Served with ``one`` and ``two`` (OpenAI's dialect), ``claude`` and ``gem``, all of them one upstream; and who was asked."""
    asked: list[str] = []
    answering: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(answer(reader, writer))
        answering.add(task)
        try:
            await asyncio.wait([task])
        finally:
            writer.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        asked.append(head.split(b"/")[1].decode())
        for part in script(asked[-1]):
            if isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
            elif part == "reset":
                writer.transport.abort()
                return
            else:
                await asyncio.sleep(float(part))

    upstream = await asyncio.start_server(accept, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
    dialects = {"one": "openai_chat", "two": "openai_chat", "claude": "anthropic_messages", "gem": "gemini"}
    prices: Any = {"m": {"input": "1", "output": "4"}}
    try:
        async with serving(folder) as served:
            config = served.gateway.config
            more = {
                name: ProviderConfig(base_url=f"{url}/{name}", dialect=dialect, api_key="k", prices=prices)  # type: ignore[arg-type]
                for name, dialect in dialects.items()
            }
            routing = Routing(fallback="listed", patience_s=0.2)
            served.gateway.reload(
                replace(
                    config, providers=config.providers | more, models=config.models | models, routing=routing
                )
            )
            yield served, asked
    finally:
        upstream.close()
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)
        await asyncio.sleep(0)


BOTH = ModelConfig(deployments=["one/m"], fallbacks=["two/m"])


@pytest.mark.parametrize("after", [[], ["reset"], [b"zz\r\n"]], ids=["no last chunk", "reset", "no chunk"])
async def test_what_follows_a_complete_answer_changes_nothing(tmp_path: Path, after: Script) -> None:
    """It used to be tried again at the fallback, and an error was written behind the answer's end."""
    script: Script = [SSE, piece(HI), 0.05, piece(FINISH + USAGE), 0.05, piece(DONE), 0.05, *after]
    async with hosts(tmp_path, lambda _: script, both=BOTH) as (served, asked):
        async with await served.connect() as raw:
            raw.send(post(CHAT, chat("both", stream=True)))
            heard = await raw.hear()
            assert heard.body.count(DONE) == 1
            assert heard.body.endswith(DONE)
            assert b'"error"' not in heard.body
            await served.settled()
            raw.send(get("/health/live"))
            assert (await raw.hear()).status == 200, "the connection is in step"
        assert asked == ["one"]
        (record,) = await served.records()
        assert (record.outcome, record.status, len(record.attempts)) == ("success", 200, 1)
        assert record.charged


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses"])
async def test_an_end_without_a_finish_reason_is_a_truncation(tmp_path: Path, path: str) -> None:
    """WIRE_FACTS 10, whatever the upstream calls it."""
    body = {"model": "one/m", "stream": True, "max_tokens": 9, "messages": HELLO}
    if path == "/v1/responses":
        body = {"model": "one/m", "stream": True, "input": "Hello"}
    script: Script = [SSE, piece(HI), 0.05, piece(DONE), b"0\r\n\r\n"]
    async with hosts(tmp_path, lambda _: script) as (served, _), await served.connect() as raw:
        raw.send(post(path, json.dumps(body).encode()))
        heard = await raw.hear()
        assert b"error" in heard.body
        assert not any(end in heard.body for end in (b"[DONE]", b"message_stop", b"response.completed"))
        (record,) = await served.records()
        assert record.outcome == "truncated"


CLAUDE_SAYS = (
    b'{"id":"m1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Hi"}],'
    b'"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":%b}}'
)
GPT_SAYS = (
    b'{"id":"m1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"Hi"}}],'
    b'"usage":{"prompt_tokens":0,"completion_tokens":%b,"total_tokens":%b}}'
)
SAID = {
    "claude": ("/v1/messages", lambda count: CLAUDE_SAYS % count),
    "one": (CHAT, lambda count: GPT_SAYS % (count, count)),
}


@pytest.mark.parametrize("host", SAID)
@pytest.mark.parametrize(
    "count",
    ["-1000000", "4294967296", "9223372036854775807", "9223372036854775808", "1" + "0" * 30, "9" * 400],
)
async def test_counts_beyond_all_reason_are_no_counts(tmp_path: Path, host: str, count: str) -> None:
    path, said = SAID[host]
    answer = said(count.encode())
    async with hosts(tmp_path, lambda _: whole(answer)) as (served, _), await served.connect() as raw:
        body = {"model": f"{host}/m", "max_tokens": 9, "messages": HELLO}
        raw.send(post(path, json.dumps(body).encode()))
        assert (await raw.hear()).status == 200
        (record,) = await served.records()
        assert (record.outcome, record.flags) == ("success", [])
        assert record.usage is not None
        assert 0 <= record.usage.output_tokens < 2**32
        assert 0 <= record.charged < 10**12


HUGE = b'"zzz":1e999'
UNREADABLE = {
    "completions": ("/v1/completions", b'{"model":"one/m","prompt":"x",%b}' % HUGE),
    "messages to openai": (
        "/v1/messages",
        b'{"model":"one/m","max_tokens":9,"messages":[{"role":"user","content":"x"}],%b}' % HUGE,
    ),
    "chat to anthropic": (CHAT, b'{"model":"claude/m","messages":[{"role":"user","content":"x"}],%b}' % HUGE),
    "gemini": (
        "/v1beta/models/gem/m:generateContent",
        b'{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f","args":{"a":1e999}}}]}]}',
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
async def test_what_nobody_can_read_is_the_callers_fault(tmp_path: Path, case: str) -> None:
    path, body = UNREADABLE[case]
    async with hosts(tmp_path, lambda _: whole(ANSWER)) as (served, asked), await served.connect() as raw:
        raw.send(post(path, body))
        heard = await raw.hear()
        assert heard.status == 400, heard.body
        assert b"out of range" in heard.body
        (record,) = await served.records()
        assert record.outcome == "refused"
        assert asked == []


async def test_a_header_nested_without_end_is_the_callers_fault(served: Served) -> None:
    async with await served.connect() as raw:
        nested = '{"a":' * 3000 + "1" + "}" * 3000
        raw.send(post(CHAT, chat(), f"tieline-policy: {nested}"))
        heard = await raw.hear()
        assert heard.status == 400
        assert b"tieline-policy" in heard.body


async def test_who_can_read_it_is_asked_after_who_cannot(tmp_path: Path) -> None:
    """``one`` fails, ``claude`` would need it said in another dialect, ``two`` takes it as it is."""

    def script(host: str) -> Script:
        return [b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}"] if host == "one" else whole(ANSWER)

    three = ModelConfig(deployments=["one/m"], fallbacks=["claude/m", "two/m"])
    async with hosts(tmp_path, script, three=three) as (served, asked), await served.connect() as raw:
        raw.send(post(CHAT, chat("three", tool_choice="zzz")))
        heard = await raw.hear()
        assert heard.status == 200, heard.body
        assert heard.headers["tieline-provider"] == "two"
        assert set(asked) == {"one", "two"}
        (record,) = await served.records()
        assert record.attempts[-1].outcome == "success"
        assert "success" not in [attempt.outcome for attempt in record.attempts[:-1]]


async def test_a_whole_answer_reaches_who_asked_for_a_stream_in_words_that_only_its_host_reads(
    tmp_path: Path,
) -> None:
    async with hosts(tmp_path, lambda _: whole(ANSWER)) as (served, _), await served.connect() as raw:
        raw.send(post(CHAT, chat("one/m", stream=True, tool_choice="zzz")))
        heard = await raw.hear()
        assert heard.status == 200
        assert b'"content":"Hi"' in heard.body
        assert heard.body.endswith(DONE)
        (record,) = await served.records()
        assert record.outcome == "success"
        assert record.charged


IMPATIENT = ("tieline-first-token-timeout-s: 1", "tieline-stall-timeout-s: 0.3")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/embeddings", {"model": "one/m", "input": "x"}, 504),
        ("/v1beta/models/gem/m:embedContent", {"content": {"parts": [{"text": "x"}]}}, 504),
        ("/v1/messages/count_tokens", {"model": "claude/m", "messages": HELLO}, 200),
    ],
)
async def test_an_answer_without_an_end_is_not_waited_for(
    tmp_path: Path, path: str, body: dict[str, Any], status: int
) -> None:
    """Embeddings and token counts used to wait for it for ever."""
    script: Script = [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
        20.0,
    ]
    async with hosts(tmp_path, lambda _: script) as (served, _), await served.connect() as raw:
        raw.send(post(path, json.dumps(body).encode(), *IMPATIENT))
        heard = await raw.hear(timeout=5)
        assert heard.status == status, heard.body
        assert heard.headers.get("tieline-estimated") == ("true" if status == 200 else None)
        (record,) = await served.records()
        assert {attempt.outcome for attempt in record.attempts} == {"stall"}


@pytest.mark.parametrize(
    "end", ["\r\nX-More: 1", "\r\n\r\nHTTP/1.1 200 OK", "\nX-More: 1", "\0", "\x7f", "n" * 600]
)
@pytest.mark.parametrize("path", [CHAT, "/v1beta/models/{}:generateContent"])
async def test_a_name_that_a_caller_makes_up_ends_no_header(tmp_path: Path, path: str, end: str) -> None:
    """Any name may be asked for at a provider, and the headers of the answer name it."""
    name = f"one/m{end}"
    sent = chat(name) if path == CHAT else b'{"contents":[{"parts":[{"text":"x"}]}]}'
    async with hosts(tmp_path, lambda _: whole(ANSWER)) as (served, asked), await served.connect() as raw:
        raw.send(post(path.format(quote(name, safe="")), sent))
        heard = await raw.hear()
        assert heard.status == 404, heard
        assert "x-more" not in heard.headers
        assert len(heard.body) < 2_000
        assert asked == []


async def test_a_redirect_is_not_followed_and_named(tmp_path: Path) -> None:
    """The key would go along."""
    script: Script = [b"HTTP/1.1 308 X\r\nlocation: http://127.0.0.1:1/else\r\ncontent-length: 0\r\n\r\n"]
    async with hosts(tmp_path, lambda _: script) as (served, asked), await served.connect() as raw:
        raw.send(post(CHAT, chat("one/m")))
        heard = await raw.hear()
        assert heard.status == 502
        assert "one answered with a redirect (308)" in heard.json["error"]["message"]
        assert "base_url" in heard.json["error"]["message"]
        assert asked == ["one"]


KEY = "correct-horse-battery"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 401, 200])
async def test_a_key_of_any_looks_that_its_host_repeats_is_not_passed_on(
    tmp_path: Path, status: int, stream: bool
) -> None:
    said = b'{"error":{"message":"This key is wrong: %b!","code":%d}}' % (
        KEY.encode(),
        status if status > 200 else 400,
    )
    script: Script = whole(said)
    if status != 200:
        script = [b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(said)) + said]
    elif stream:
        script = [SSE, piece(HI), 0.05, piece(b"data: " + said + b"\n\n")]
    async with hosts(tmp_path, lambda _: script) as (served, _), await served.connect() as raw:
        config = served.gateway.config
        one = replace(config.providers["one"], api_key=KEY)
        served.gateway.reload(replace(config, providers=config.providers | {"one": one}))
        raw.send(post(CHAT, chat("one/m", stream=stream)))
        heard = await raw.hear()
        assert KEY.encode() not in heard.body
        assert b"[key]" in heard.body
        (record,) = await served.records()
        assert KEY not in repr(record)


async def test_a_key_with_a_vendors_within_is_masked_whole(tmp_path: Path) -> None:
    """The part that looks like a key was masked first, so that the whole one was not found any more."""
    key = "our-own-prefix-sk-0123456789abcdef"
    said = b'{"error":{"message":"This key is wrong: %b!"}}' % key.encode()
    script = [b"HTTP/1.1 401 X\r\ncontent-length: %d\r\n\r\n" % len(said) + said]
    async with hosts(tmp_path, lambda _: script) as (served, _), await served.connect() as raw:
        config = served.gateway.config
        one = replace(config.providers["one"], api_key=key)
        served.gateway.reload(replace(config, providers=config.providers | {"one": one}))
        raw.send(post(CHAT, chat("one/m")))
        heard = await raw.hear()
        assert b"This key is wrong: [key]!" in heard.body


async def test_a_record_does_not_keep_a_name_of_a_megabyte(tmp_path: Path) -> None:
    long = "n" * 1_000_000
    async with hosts(tmp_path, lambda _: whole(ANSWER)) as (served, _), await served.connect() as raw:
        raw.send(post(CHAT, chat(long)))
        assert (await raw.hear()).status == 404
        raw.send(post(CHAT, chat("one/m", user=long)))
        assert (await raw.hear()).status == 200
        for option in ("session", "profile"):
            raw.send(post(CHAT, chat("one/m", tieline={option: long})))
            heard = await raw.hear()
            assert (heard.status, heard.json["error"]["param"]) == (400, f"tieline.{option}")
        for record in await served.records():
            assert len(repr(record)) < 10_000
