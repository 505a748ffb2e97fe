"""The official clients, bound to the pipeline without a socket: text, streams, tools, listings, their own errors."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.client.conftest import MODELS, until
from tests.client.test_sdk import TOOL
from tests.served import configuration
from tieline import AsyncTieline, Tieline
from tieline.simulator import SimulatorServer

HELLO: Any = [{"role": "user", "content": "Hello"}]
CLAUDE_TOOL: Any = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def test_openai(line: Tieline) -> None:
    with line.openai() as client:
        answer = client.chat.completions.create(model="demo", messages=HELLO)
        assert answer.choices[0].message.content
        chunks = list(client.chat.completions.create(model="demo", messages=HELLO, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == answer.choices[0].message.content
        called = client.chat.completions.create(
            model="demo", messages=HELLO, tools=[TOOL], tool_choice="required"
        )  # type: ignore[list-item]
        assert called.choices[0].message.tool_calls
        assert "demo" in [model.id for model in client.models.list()]
        assert client.models.retrieve("demo").id == "demo"
        raw = client.chat.completions.with_raw_response.create(model="demo", messages=HELLO)
        assert raw.headers["tieline-provider"] == "sim-openai"
        assert client.responses.create(model="demo", input="Hello").output_text


def test_openai_errors_are_its_own(line: Tieline) -> None:
    with line.openai() as client:
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(model="nonsense", messages=HELLO)
        assert (missing.value.status_code, missing.value.code) == (404, "model_not_found")
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="demo", messages=[])
        with pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(model="limited", messages=HELLO)
        assert int(limited.value.response.headers["retry-after"]) > 0
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="down", messages=HELLO)
        with pytest.raises(openai.APIError):
            list(client.chat.completions.create(model="broken", messages=HELLO, stream=True))
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nonsense")
        with pytest.raises(openai.APIStatusError):
            client.files.list()
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.3).chat.completions.create(model="late", messages=HELLO)


def test_anthropic(line: Tieline) -> None:
    with line.anthropic() as client:
        answer = client.messages.create(model="demo", max_tokens=30, messages=HELLO)
        assert answer.content[0].text  # type: ignore[union-attr]
        with client.messages.stream(model="demo", max_tokens=30, messages=HELLO) as stream:
            text = "".join(stream.text_stream)
            assert stream.get_final_message().usage.output_tokens > 0
        assert text == answer.content[0].text  # type: ignore[union-attr]
        called = client.messages.create(
            model="demo", max_tokens=99, messages=HELLO, tools=[CLAUDE_TOOL], tool_choice={"type": "any"}
        )
        assert called.content[-1].type == "tool_use"
        assert "demo" in [model.id for model in client.models.list()]
        assert client.messages.count_tokens(model="sim-anthropic/claude-sim", messages=HELLO).input_tokens > 0


def test_anthropic_errors_are_its_own(line: Tieline) -> None:
    with line.anthropic() as client:
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(model="nonsense", max_tokens=9, messages=HELLO)
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(model="demo", max_tokens=9, messages=[])
        with pytest.raises(anthropic.RateLimitError):
            client.messages.create(model="limited", max_tokens=9, messages=HELLO)
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve("nonsense")


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_leaving_a_stream_cancels_it(line: Tieline, simulator: SimulatorServer, dialect: str) -> None:
    if dialect == "openai":
        with (
            line.openai() as client,
            client.chat.completions.create(model="slow", messages=HELLO, stream=True) as stream,
        ):
            next(iter(stream))
    else:
        with (
            line.anthropic() as claude,
            claude.messages.stream(model="slow", max_tokens=500, messages=HELLO) as events,
        ):
            next(iter(events))
    deadline = time.monotonic() + 5
    while not simulator.log[-1].cancelled_by_client:
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def check_async(
    chat: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic, simulator: SimulatorServer
) -> None:
    async with chat, claude:
        answer = await chat.chat.completions.create(model="demo", messages=HELLO)
        assert answer.choices[0].message.content
        stream = await chat.chat.completions.create(model="demo", messages=HELLO, stream=True)
        assert len([chunk async for chunk in stream]) > 3
        message = await claude.messages.create(model="demo", max_tokens=30, messages=HELLO)
        assert message.content
        async with claude.messages.stream(model="demo", max_tokens=30, messages=HELLO) as events:
            assert [text async for text in events.text_stream]
        assert [model.id async for model in chat.models.list()]
        with pytest.raises(openai.NotFoundError):
            await chat.chat.completions.create(model="nonsense", messages=HELLO)
        with pytest.raises(anthropic.NotFoundError):
            await claude.messages.create(model="nonsense", max_tokens=9, messages=HELLO)
        leaving = await chat.chat.completions.create(model="slow", messages=HELLO, stream=True)
        async with leaving:
            await anext(aiter(leaving))
        await until(lambda: simulator.log[-1].cancelled_by_client)


async def test_async_clients_on_this_loop(aline: AsyncTieline, simulator: SimulatorServer) -> None:
    await check_async(aline.async_openai(), aline.async_anthropic(), simulator)


async def test_async_clients_of_a_tieline_in_its_own_thread(
    line: Tieline, simulator: SimulatorServer
) -> None:
    await check_async(line.async_openai(), line.async_anthropic(), simulator)


async def failures(line: Tieline, aline: AsyncTieline, model: str, **options: Any) -> dict[str, Any]:
    """What each kind of client raises."""
    made: dict[str, Any] = {
        "sync": (line.openai(**options), line.anthropic(**options)),
        "async": (aline.async_openai(**options), aline.async_anthropic(**options)),
        "bridged": (line.async_openai(**options), line.async_anthropic(**options)),
    }
    raised = {}
    for kind, (gpt, claude) in made.items():
        for client, ask in (
            (gpt, lambda one: one.chat.completions.create(model=model, messages=HELLO)),
            (claude, lambda one: one.messages.create(model=model, max_tokens=9, messages=HELLO)),
        ):
            with pytest.raises((openai.APIError, anthropic.APIError)) as error:
                await (asyncio.to_thread(ask, client) if kind == "sync" else ask(client))
            raised[f"{kind} {type(client).__name__}"] = error.value
    return raised


async def test_who_retries_is_tieline(line: Tieline, aline: AsyncTieline, simulator: SimulatorServer) -> None:
    raised = await failures(line, aline, "down")
    told = [int(error.response.headers["tieline-attempts"]) for error in raised.values()]
    assert len(simulator.log) == sum(told), "no client sent it again"
    asked = len(simulator.log)
    raised = await failures(line, aline, "late", timeout=0.3)
    assert {type(error) for error in raised.values()} == {openai.APITimeoutError, anthropic.APITimeoutError}
    # Of one that was given up before it was out none arrives.
    assert 0 < len(simulator.log) - asked <= len(raised)


async def test_retries_that_are_asked_for_wait_as_they_are_told(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    config = configuration(simulator.url, tmp_path, MODELS, max_concurrency=1)
    async with AsyncTieline(config, environ={}) as line:
        one = line.async_openai()
        async with line.stream("slow", "Hello") as busy:
            pieces = aiter(busy)
            await anext(pieces)
            with pytest.raises(openai.InternalServerError) as refused:
                await one.chat.completions.create(model="demo", messages=HELLO)
            assert refused.value.response.headers["retry-after"] == "1"
            patient = one.with_options(max_retries=1).chat.completions.create(model="demo", messages=HELLO)
            waiting = asyncio.create_task(patient)
            await asyncio.sleep(0.2)
        assert (await waiting).choices[0].message.content
        asked = len(simulator.log)
        with pytest.raises(openai.InternalServerError) as failed:
            await line.async_openai(max_retries=1).chat.completions.create(model="down", messages=HELLO)
        assert len(simulator.log) - asked > int(failed.value.response.headers["tieline-attempts"])
