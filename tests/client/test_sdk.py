"""Tieline and AsyncTieline: whole answers, streams, errors, leaving early, threads."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.client.conftest import until
from tieline import AsyncTieline, Config, RequestFailed, Tieline, TielineError
from tieline.admit.rules import Limits, Rules
from tieline.config.schema import ModelConfig, ProviderConfig
from tieline.simulator import SimulatorServer
from tieline.types.errors import ConfigError, InvalidRequest, NotFound

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def test_a_whole_answer(line: Tieline) -> None:
    answer = line.chat("demo", "Hello", max_tokens=30)
    assert answer.text
    assert (answer.provider, answer.deployment, answer.attempts) == ("sim-openai", "sim-openai/gpt-sim", 1)
    assert float(answer.cost_usd) > 0
    assert answer.request_id.startswith("req_")
    assert answer.finish_reason in ("stop", "length")
    assert answer.record.usage is not None


def test_a_stream_and_its_answer(line: Tieline) -> None:
    stream = line.stream("demo", [{"role": "user", "content": "Hello"}], max_tokens=30)
    pieces = list(stream)
    assert len(pieces) > 3
    assert stream.answer is not None
    assert stream.answer.text == "".join(pieces) == line.chat("demo", "Hello", max_tokens=30).text
    assert float(stream.answer.cost_usd) > 0


def test_tools_and_options(line: Tieline) -> None:
    answer = line.chat(
        "demo", "Weather?", tools=[TOOL], tool_choice="required", tieline={"tags": {"team": "blue"}}
    )
    assert [call.name for call in answer.tool_calls] == ["get_weather"]
    assert answer.record.tags == {"team": "blue"}


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [("nonsense", 404, "model_not_found"), ("down", 502, "transient"), ("limited", 429, "rate_limited")],
)
def test_errors_say_what_a_server_would(line: Tieline, model: str, status: int, code: str) -> None:
    with pytest.raises(RequestFailed) as raised:
        line.chat(model, "Hello")
    assert raised.value.http_status in (status, 503)
    assert raised.value.error_code in (code, "overloaded")
    with pytest.raises(RequestFailed):
        list(line.stream(model, "Hello"))
    assert isinstance(raised.value, TielineError)


def test_a_broken_stream_raises_after_its_pieces(line: Tieline) -> None:
    got: list[str] = []
    with pytest.raises(RequestFailed) as raised:
        got.extend(line.stream("broken", "Hello"))
    assert got == [] or all(got)
    assert raised.value.record.outcome == "truncated" or raised.value.record.outcome == "connect"


def test_leaving_a_stream_early_cancels_it_upstream(line: Tieline, simulator: SimulatorServer) -> None:
    for number, _piece in enumerate(line.stream("slow", "Hello")):
        if number == 2:
            break
    deadline = time.monotonic() + 5
    while not simulator.log[-1].cancelled_by_client:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert line.gateway.in_flight == 0


async def test_leaving_an_async_stream_early_cancels_it_upstream(
    aline: AsyncTieline, simulator: SimulatorServer
) -> None:
    async for _piece in aline.stream("slow", "Hello"):
        break
    await until(lambda: simulator.log[-1].cancelled_by_client)
    await until(lambda: aline.gateway.in_flight == 0)


async def test_a_stream_as_context(aline: AsyncTieline, simulator: SimulatorServer) -> None:
    async with aline.stream("slow", "Hello") as stream:
        async for _piece in stream:
            break
    assert aline.gateway.in_flight == 0
    await until(lambda: simulator.log[-1].cancelled_by_client)
    with pytest.raises(RuntimeError, match="once"):
        async for _piece in stream:
            pass


async def test_a_stream_that_is_never_read_sends_nothing(
    aline: AsyncTieline, simulator: SimulatorServer
) -> None:
    aline.stream("demo", "Hello")
    await asyncio.sleep(0.1)
    assert simulator.log == []


async def test_cancelling_the_caller_cancels_the_request(
    aline: AsyncTieline, simulator: SimulatorServer
) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(aline.chat("late", "Hello"), 0.3)
    await until(lambda: simulator.log[-1].cancelled_by_client)
    await until(lambda: aline.gateway.in_flight == 0)


async def test_a_reader_that_pauses_does_not_pile_up(aline: AsyncTieline, simulator: SimulatorServer) -> None:
    count = 0
    async for _piece in aline.stream("long", "Hello"):
        count += 1
        if count == 10:
            await asyncio.sleep(0.5)
    assert count >= 20_000


async def test_many_at_once(aline: AsyncTieline) -> None:
    answers = await asyncio.gather(*(aline.chat("demo", f"Hello {number}") for number in range(40)))
    assert len({answer.request_id for answer in answers}) == 40


def test_threads_share_one(line: Tieline) -> None:
    def work(number: int) -> Any:
        if number % 2:
            return line.chat("demo", f"Hello {number}").text
        return "".join(line.stream("demo", f"Hello {number}"))

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(work, range(40)))
    assert all(texts)
    assert line.gateway.in_flight == 0


def test_closing_while_a_stream_is_read_ends_it(config: Config) -> None:
    line = Tieline(config, environ={})
    stream = iter(line.stream("demo", "Hello"))
    next(stream)
    line.close()
    with pytest.raises((RequestFailed, RuntimeError)):
        list(stream)
        line.chat("demo", "Hello")


async def test_what_outlasts_closing_is_cut_and_nobody_is_blamed(
    config: Config, simulator: SimulatorServer
) -> None:
    short = replace(config, server=replace(config.server, drain_s=0.3))
    line = await AsyncTieline(short, environ={}).start()
    asked = asyncio.create_task(line.chat("late", "Hello"))
    await until(lambda: simulator.log)
    began = time.monotonic()
    await line.close()
    assert time.monotonic() - began < 3
    with pytest.raises(RequestFailed, match="shut down") as raised:
        await asked
    assert (raised.value.http_status, raised.value.error_code) == (503, "overloaded")
    record = raised.value.record
    assert [attempt.outcome for attempt in record.attempts] == ["shut_down"]
    assert record.cost, "what was sent is estimated"
    assert all(view.success_rate == 1.0 for view in line.gateway.health.snapshot(line.gateway.clock()))
    assert len(simulator.log) == 1


def _in_a_fork(act: Callable[[], None]) -> None:
    """Fails when ``act`` does, or takes too long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is the point
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_child_is_told_that_it_was_made_before_the_fork(config: Config, line: Tieline) -> None:
    unstarted = AsyncTieline(config, environ={})

    async def asked() -> None:
        client = line.async_openai()
        await client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello"}])

    def in_the_child() -> None:
        calls: list[Callable[[], Any]] = [
            lambda: line.chat("demo", "Hello"),
            lambda: next(iter(line.stream("demo", "Hello"))),
            lambda: line.explain("demo"),
            lambda: asyncio.run(asked()),
            lambda: asyncio.run(unstarted.start()),
            lambda: asyncio.run(unstarted.chat("demo", "Hello")),
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match="before a fork"):
                call()
        line.close()
        asyncio.run(unstarted.close())

    _in_a_fork(in_the_child)
    assert line.chat("demo", "Hello").text


def test_closed_is_closed(config: Config) -> None:
    line = Tieline(config, environ={})
    line.close()
    line.close()
    with pytest.raises(RuntimeError, match="This Tieline is closed"):
        line.chat("demo", "Hello")


@pytest.mark.parametrize("end", ["data: [DONE]\n\n", ""])
async def test_a_complete_answer_is_no_failure_when_the_end_does_not_wait_for_its_upstream(
    config: Config, end: str
) -> None:
    """The host keeps its connection open behind the answer, for longer than the end of the program waits."""
    is_sent, is_over = asyncio.Event(), asyncio.Event()

    async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        said: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "All of it."}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}},
        ]
        frames = [{"id": "x", "object": "chat.completion.chunk", "model": "m", **one} for one in said]
        text = "".join(f"data: {json.dumps(one)}\n\n" for one in frames) + end
        writer.write(f"HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\n\r\n{text}".encode())
        is_sent.set()
        await is_over.wait()
        writer.close()

    async with await asyncio.start_server(host, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        own = replace(
            config,
            providers={"own": ProviderConfig(base_url=url, models=["m"])},
            models={"m": ModelConfig(deployments=["own/m"], routing={"fallback": "none"})},
            server=replace(config.server, drain_s=0.0),
        )
        line = await AsyncTieline(own, environ={}).start()
        stream = line.stream("m", "Hello")

        async def read() -> str:
            return "".join([piece async for piece in stream])

        reading = asyncio.create_task(read())
        await is_sent.wait()
        await asyncio.sleep(0.1)
        assert line.gateway.in_flight
        await line.close()
        assert await reading == "All of it."
        is_over.set()
    assert stream.answer is not None
    record = stream.answer.record
    assert [attempt.outcome for attempt in record.attempts] == ["success"]
    assert (record.outcome, record.finish_reason) == ("success", "stop")
    assert record.usage is not None
    assert record.usage.output_tokens == 4


async def test_a_closed_line_explains_nothing_and_does_not_start_again(config: Config) -> None:
    async with AsyncTieline(config, environ={}) as line:
        past = (await line.chat("demo", "Hello")).request_id
    for model in ("demo", past):
        with pytest.raises(RuntimeError, match="This Tieline is closed; make a new one"):
            await line.explain(model)
    with pytest.raises(RuntimeError, match="This Tieline is closed; make a new one"):
        await line.start()
    with pytest.raises(RuntimeError, match="This Tieline is closed; make a new one"):
        await line.async_openai().models.list()


async def test_closed_is_closed_on_a_loop_too(config: Config) -> None:
    async with AsyncTieline(config, environ={}) as line:
        pass
    with pytest.raises(RuntimeError, match="This Tieline is closed"):
        await line.chat("demo", "Hello")
    with pytest.raises(RuntimeError, match="This Tieline is closed"):
        async for _piece in line.stream("demo", "Hello"):
            pass


@pytest.mark.parametrize("params", [{"stream": True}, {"stream_options": {"include_usage": True}}])
def test_chat_names_stream_before_anything_is_sent(
    line: Tieline, simulator: SimulatorServer, params: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest, match=r"line\.stream") as raised:
        line.chat("demo", "Hello", **params)
    assert raised.value.param in params
    assert simulator.log == []
    assert line.chat("demo", "Hello", stream=False, stream_options=None).text
    stream = line.stream("demo", "Hello", stream_options={"include_usage": False})
    assert list(stream)
    assert stream.answer is not None
    assert stream.answer.response.usage is not None


def test_a_bad_configuration_is_raised_and_leaves_no_thread(tmp_path: Any) -> None:
    import threading

    path = tmp_path / "tieline.yaml"
    path.write_text("nonsense: 1\n")
    with pytest.raises(TielineError, match="nonsense"):
        Tieline(path, environ={})
    assert not [thread for thread in threading.enumerate() if thread.name == "tieline"]


def test_explain_sends_nothing_and_replays_the_past(line: Tieline, simulator: SimulatorServer) -> None:
    name = "sim-openai/sim-echo"
    dry = line.explain(name, input_tokens=500)
    assert dry["candidates"][0]["order"] == 1
    assert simulator.log == []
    answer = line.chat(name, "Why do ships carry bells?")
    past = line.explain(answer.request_id)
    assert past["request"]["id"] == answer.request_id
    assert [one["deployment"] for one in past["attempts"]] == [
        one.deployment for one in answer.record.attempts
    ]
    with pytest.raises(NotFound):
        line.explain("req_NOBODY")
    with pytest.raises(InvalidRequest, match="mathematic'") as caught:
        line.explain(name, intent="mathematic")
    assert (caught.value.param, str(caught.value.hint)[:24]) == ("intent", "Did you mean mathematics")


async def test_a_start_that_fails_leaves_nothing(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    line = AsyncTieline(config, environ={})

    def refuse() -> None:
        raise ConfigError("No.")

    monkeypatch.setattr(line.gateway, "_check_sharing", refuse)
    before = asyncio.all_tasks()
    with pytest.raises(ConfigError, match="No"):
        await line.start()
    assert asyncio.all_tasks() == before
    assert not [thread for thread in threading.enumerate() if thread.name == "tieline-recorder"]
    await AsyncTieline(config, environ={}).close()
    assert len(list(Path(config.store.spool).iterdir())) == 1


async def test_many_that_are_never_started_are_one_folder(config: Config) -> None:
    for _ in range(3):
        AsyncTieline(config, environ={})
        gc.collect()
    assert len(list(Path(config.store.spool).iterdir())) == 1


async def test_it_is_one_process_whatever_the_server_has(config: Config) -> None:
    """A key with a limit, several workers and no Redis is nothing that a server would start with."""
    config = replace(config, server=replace(config.server, workers=4))
    async with AsyncTieline(config, environ={}) as line:
        assert line.gateway.accounts is not None
        line.gateway.accounts.create_key("default", "ci", Rules(limits=Limits(requests_per_minute=5)))
    async with AsyncTieline(config, environ={}) as line:
        assert (await line.chat("demo", "Hello")).text


def test_several_threads_close_it(config: Config) -> None:
    line = Tieline(config, environ={})
    with ThreadPoolExecutor(4) as threads:
        for closing in [threads.submit(line.close) for _ in range(4)]:
            closing.result(30)
