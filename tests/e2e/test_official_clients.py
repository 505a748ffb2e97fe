"""The official SDKs over sockets against a running server; each dialect served by a provider of each dialect."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from tests.programs import Running, running
from tieline.simulator import SimulatorServer

HELLO: Any = [{"role": "user", "content": "Hello"}]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = base64.b64encode(b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n").decode()
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLAUDE_TOOL: Any = {"name": "get_weather", "input_schema": TOOL["function"]["parameters"]}
SERVED_BY = ("chat", "claude")
"""Public names: one served in OpenAI's dialect, one in Anthropic's."""


class City(BaseModel):
    name: str
    population: int


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("official")
    simulator = SimulatorServer()
    with simulator.run_in_thread():
        (folder / "tieline.yaml").write_text(_yaml(simulator.url))
        with running("serve", cwd=folder) as up:
            yield up


def _yaml(url: str) -> str:
    lines = [
        "discover: false",
        "server: {port: 0}",
        "routing: {fallback: none, max_attempts: 1}",
        "providers:",
        f"  o: {{base_url: '{url}/o/v1', api_key: k-1234, prices: {{sim-echo: {{input: '1', output: '2'}}}}}}",
        f"  a: {{base_url: '{url}/a', api_key: k-1234, dialect: anthropic_messages, auth: x-api-key}}",
        "models:",
    ]
    for name, provider in zip(SERVED_BY, "oa", strict=True):
        for behaviour in (
            "echo",
            "json",
            "think",
            "tools",
            "fail-429:retry_after=9",
            "fail-503",
            "fail-context",
        ):
            short = behaviour.partition(":")[0]
            lines.append(f"  {name}-{short}: '{provider}/sim-{behaviour}'")
    return "\n".join(lines) + "\n"


@pytest.fixture
def chat(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(server: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="unused", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("by", SERVED_BY)
class TestOpenAI:
    def test_text_and_usage(self, chat: openai.OpenAI, by: str) -> None:
        answer = chat.chat.completions.create(model=f"{by}-echo", messages=HELLO, max_tokens=50)
        assert answer.choices[0].message.content
        assert answer.usage is not None
        assert answer.usage.prompt_tokens > 0
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens

    def test_stream_with_usage(self, chat: openai.OpenAI, by: str) -> None:
        chunks = list(
            chat.chat.completions.create(
                model=f"{by}-echo",
                messages=HELLO,
                max_tokens=50,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert [chunk.usage for chunk in chunks if chunk.usage]
        assert len({chunk.id for chunk in chunks}) == 1

    def test_stream_without_usage_has_none(self, chat: openai.OpenAI, by: str) -> None:
        chunks = list(chat.chat.completions.create(model=f"{by}-echo", messages=HELLO, stream=True))
        assert not [chunk for chunk in chunks if chunk.usage]
        assert chunks[-1].choices[0].finish_reason

    def test_tools_round_trip(self, chat: openai.OpenAI, by: str) -> None:
        first = chat.chat.completions.create(
            model=f"{by}-tools", messages=HELLO, tools=[TOOL], tool_choice="required"
        )
        call = first.choices[0].message.tool_calls[0]  # type: ignore[index]
        assert call.function.name == "get_weather"  # type: ignore[union-attr]
        turns: Any = [
            *HELLO,
            first.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        ]
        second = chat.chat.completions.create(model=f"{by}-echo", messages=turns, tools=[TOOL])
        assert second.choices[0].finish_reason

    def test_streamed_tool_arguments(self, chat: openai.OpenAI, by: str) -> None:
        with chat.chat.completions.stream(
            model=f"{by}-tools", messages=HELLO, tools=[TOOL], tool_choice="required"
        ) as stream:
            stream.until_done()
            calls = stream.get_final_completion().choices[0].message.tool_calls
        assert calls
        assert calls[0].function.arguments.startswith("{")

    def test_parse(self, chat: openai.OpenAI, by: str) -> None:
        answer = chat.chat.completions.parse(
            model=f"{by}-json", messages=HELLO, response_format=City, max_tokens=200
        )
        assert isinstance(answer.choices[0].message.parsed, City)

    def test_image_and_document(self, chat: openai.OpenAI, by: str) -> None:
        content: Any = [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
            },
        ]
        answer = chat.chat.completions.create(
            model=f"{by}-echo", messages=[{"role": "user", "content": content}], max_tokens=50
        )
        assert answer.choices[0].message.content

    def test_errors(self, chat: openai.OpenAI, by: str) -> None:
        with pytest.raises(openai.RateLimitError) as limited:
            chat.chat.completions.create(model=f"{by}-fail-429", messages=HELLO)
        assert int(limited.value.response.headers["retry-after"]) in range(1, 10)
        with pytest.raises(openai.InternalServerError):
            chat.chat.completions.create(model=f"{by}-fail-503", messages=HELLO)
        with pytest.raises(openai.BadRequestError) as long:
            chat.chat.completions.create(model=f"{by}-fail-context", messages=HELLO)
        assert long.value.code == "context_length_exceeded"
        with pytest.raises(openai.RateLimitError):
            list(chat.chat.completions.create(model=f"{by}-fail-429", messages=HELLO, stream=True))

    def test_responses(self, chat: openai.OpenAI, by: str) -> None:
        assert chat.responses.create(model=f"{by}-echo", input="Hello", max_output_tokens=50).output_text
        with chat.responses.stream(model=f"{by}-echo", input="Hello", max_output_tokens=50) as stream:
            stream.until_done()
            assert stream.get_final_response().output_text


@pytest.mark.parametrize("by", SERVED_BY)
class TestAnthropic:
    def test_text_and_usage(self, claude: anthropic.Anthropic, by: str) -> None:
        answer = claude.messages.create(model=f"{by}-echo", max_tokens=50, messages=HELLO, system="Be brief.")
        assert answer.content[0].type == "text"
        assert answer.usage.input_tokens > 0
        assert answer.usage.output_tokens > 0

    def test_stream(self, claude: anthropic.Anthropic, by: str) -> None:
        with claude.messages.stream(model=f"{by}-echo", max_tokens=50, messages=HELLO) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert text
        assert final.stop_reason in ("end_turn", "max_tokens")
        assert final.usage.output_tokens > 0

    def test_tools_round_trip(self, claude: anthropic.Anthropic, by: str) -> None:
        with claude.messages.stream(
            model=f"{by}-tools",
            max_tokens=200,
            messages=HELLO,
            tools=[CLAUDE_TOOL],
            tool_choice={"type": "any"},
        ) as stream:
            first = stream.get_final_message()
        call = next(block for block in first.content if block.type == "tool_use")
        assert "city" in call.input
        turns: Any = [
            *HELLO,
            {
                "role": "assistant",
                "content": [block.model_dump(exclude_none=True) for block in first.content],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}],
            },
        ]
        second = claude.messages.create(
            model=f"{by}-echo", max_tokens=50, messages=turns, tools=[CLAUDE_TOOL]
        )
        assert second.content

    def test_image_and_document(self, claude: anthropic.Anthropic, by: str) -> None:
        content: Any = [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
            {"type": "text", "text": "What is this?"},
        ]
        assert claude.messages.create(
            model=f"{by}-echo", max_tokens=50, messages=[{"role": "user", "content": content}]
        ).content

    def test_errors(self, claude: anthropic.Anthropic, by: str) -> None:
        with pytest.raises(anthropic.RateLimitError) as limited:
            claude.messages.create(model=f"{by}-fail-429", max_tokens=9, messages=HELLO)
        assert limited.value.status_code == 429
        with pytest.raises(anthropic.InternalServerError):
            claude.messages.create(model=f"{by}-fail-503", max_tokens=9, messages=HELLO)
        with pytest.raises(anthropic.BadRequestError):
            claude.messages.create(model=f"{by}-fail-context", max_tokens=9, messages=HELLO)


def test_thinking_and_its_signature_survive(claude: anthropic.Anthropic) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    with claude.messages.stream(
        model="claude-think", max_tokens=2048, messages=HELLO, thinking=thinking
    ) as stream:
        first = stream.get_final_message()
    assert first.content[0].type == "thinking"
    assert first.content[0].signature
    turns: Any = [
        *HELLO,
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]},
        {"role": "user", "content": "And now?"},
    ]
    assert claude.messages.create(
        model="claude-think", max_tokens=2048, messages=turns, thinking=thinking
    ).content


def test_count_tokens(claude: anthropic.Anthropic) -> None:
    assert claude.messages.count_tokens(model="claude-echo", messages=HELLO).input_tokens > 0


def test_cost_is_exact(chat: openai.OpenAI) -> None:
    raw = chat.chat.completions.with_raw_response.create(model="chat-echo", messages=HELLO, max_tokens=50)
    usage = raw.parse().usage
    assert usage is not None
    micro = usage.prompt_tokens * 1 + usage.completion_tokens * 2
    assert raw.headers["tieline-cost-usd"] == f"0.{micro:06d}".rstrip("0")


async def test_async_clients(server: Running) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as chat:
        answer = await chat.chat.completions.create(model="claude-echo", messages=HELLO, max_tokens=50)
        assert answer.choices[0].message.content
        async with chat.chat.completions.stream(model="chat-echo", messages=HELLO) as stream:
            assert [event async for event in stream]
        with pytest.raises(openai.NotFoundError):
            await chat.chat.completions.create(model="nonsense", messages=HELLO)
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="x", max_retries=0) as claude:
        message = await claude.messages.create(model="chat-echo", max_tokens=50, messages=HELLO)
        assert message.content
        async with claude.messages.stream(model="claude-echo", max_tokens=50, messages=HELLO) as events:
            assert [text async for text in events.text_stream]
        with pytest.raises(anthropic.NotFoundError):
            await claude.messages.create(model="nonsense", max_tokens=9, messages=HELLO)
