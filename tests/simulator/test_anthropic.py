from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tieline.simulator import SimulatorServer, expected_text

from .conftest import SEED

PROMPT = "Tell me about harbours"
TEXT = expected_text(PROMPT, 48, SEED)
USER: Any = [{"role": "user", "content": PROMPT}]
WEATHER: Any = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


async def test_answers_whole_and_streamed(claude: anthropic.AsyncAnthropic) -> None:
    raw = await claude.messages.with_raw_response.create(model="claude", max_tokens=100, messages=USER)
    message = await raw.parse()
    block: Any = message.content[0]
    assert block.text == TEXT
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 48)
    assert raw.headers["anthropic-ratelimit-tokens-reset"].endswith("Z")
    async with claude.messages.stream(model="sim-echo:chunk=1", max_tokens=100, messages=USER) as stream:
        assert "".join([text async for text in stream.text_stream]) == TEXT
        final = await stream.get_final_message()
    assert final.usage == message.usage or final.usage.output_tokens == message.usage.output_tokens


async def test_cached_tokens_are_outside_of_the_input_figure(claude: anthropic.AsyncAnthropic) -> None:
    plain = await claude.messages.count_tokens(model="claude", messages=USER)
    message = await claude.messages.create(
        model="sim-cache:cached_tokens=4,cache_write_tokens=2", max_tokens=9, messages=USER
    )
    usage = message.usage
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (4, 2)
    assert usage.input_tokens + 6 == plain.input_tokens
    assert message.stop_reason == "max_tokens"


async def test_tools_and_thinking_replay(claude: anthropic.AsyncAnthropic) -> None:
    messages: Any = [{"role": "user", "content": "The weather in Porto?"}]
    options: Any = {
        "model": "sim-think:base=tools,redacted=1",
        "max_tokens": 4000,
        "tools": [WEATHER],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    async with claude.messages.stream(messages=messages, **options) as stream:
        first = await stream.get_final_message()
    assert [block.type for block in first.content] == ["thinking", "redacted_thinking", "tool_use"]
    assert first.stop_reason == "tool_use"
    blocks = [block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in first.content]
    result = {"type": "tool_result", "tool_use_id": blocks[2]["id"], "content": "sunny"}
    replay = [*messages, {"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]
    final = await claude.messages.create(messages=replay, **options)
    assert "sunny" in str(final.content)
    forged = [blocks[0] | {"signature": "AAAA"}, *blocks[1:]]
    with pytest.raises(anthropic.BadRequestError, match="Invalid `signature` in `thinking` block"):
        await claude.messages.create(
            messages=[replay[0], {"role": "assistant", "content": forged}, replay[2]], **options
        )


async def test_a_forced_tool_is_called(claude: anthropic.AsyncAnthropic) -> None:
    message = await claude.messages.create(
        model="claude",
        max_tokens=500,
        messages=USER,
        tools=[WEATHER],
        tool_choice={"type": "tool", "name": "get_weather"},
    )
    assert [block.type for block in message.content] == ["tool_use"]


async def test_prefill_goes_on_where_it_is_allowed(claude: anthropic.AsyncAnthropic) -> None:
    partial = expected_text(PROMPT, 20, SEED).rstrip()
    messages: Any = [*USER, {"role": "assistant", "content": partial}]
    message = await claude.messages.create(model="claude-haiku-4-5-x", max_tokens=100, messages=messages)
    block: Any = message.content[0]
    assert partial + block.text == TEXT
    for model in ("claude-opus-4-6-x", "claude-sonnet-5-0", "sim-no-prefill"):
        with pytest.raises((anthropic.BadRequestError, anthropic.NotFoundError)):
            await claude.messages.create(model=model, max_tokens=100, messages=messages)


async def test_a_cut_answer_is_resumed(claude: anthropic.AsyncAnthropic) -> None:
    partial = expected_text(PROMPT, 20, SEED)
    ask = "Your answer was cut off. Repeat its last 40 characters exactly, then continue."
    messages: Any = [*USER, {"role": "assistant", "content": partial}, {"role": "user", "content": ask}]
    answers = {}
    for manner in ("anchor", "restart", "ignore", "ws"):
        model = f"sim-echo:resume={manner}"
        message = await claude.messages.create(model=model, max_tokens=100, messages=messages)
        answers[manner] = message.content[0].text  # type: ignore[union-attr]
    assert answers["anchor"] == partial[-40:] + TEXT[len(partial) :]
    assert answers["restart"] == TEXT
    assert TEXT[len(partial) :] not in answers["ignore"]
    assert answers["ws"].endswith(TEXT[len(partial) :])
    with pytest.raises(anthropic.BadRequestError):
        await claude.messages.create(model="sim-echo:resume=refuse", max_tokens=100, messages=messages)


@pytest.mark.parametrize(
    ("behaviour", "kind", "status"),
    [
        ("fail-429:retry_after=2", anthropic.RateLimitError, 429),
        ("fail-quota", anthropic.BadRequestError, 400),
        ("fail-500", anthropic.InternalServerError, 500),
        ("fail-502-html", anthropic.InternalServerError, 502),
        ("fail-529", anthropic.InternalServerError, 529),
        ("fail-401", anthropic.AuthenticationError, 401),
        ("fail-403", anthropic.PermissionDeniedError, 403),
        ("fail-404", anthropic.NotFoundError, 404),
        ("fail-context", anthropic.BadRequestError, 400),
        ("fail-413", anthropic.APIStatusError, 413),
    ],
)
async def test_refusals(
    claude: anthropic.AsyncAnthropic, behaviour: str, kind: type[anthropic.APIStatusError], status: int
) -> None:
    with pytest.raises(kind) as caught:
        await claude.messages.create(model=f"sim-{behaviour}", max_tokens=9, messages=USER)
    assert caught.value.status_code == status
    if "html" not in behaviour:
        assert caught.value.body["type"] == "error"  # type: ignore[index]
        assert caught.value.request_id


async def test_an_error_inside_the_stream(
    claude: anthropic.AsyncAnthropic, simulator: SimulatorServer
) -> None:
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        async with claude.messages.stream(
            model="sim-stream-error:after=3", max_tokens=99, messages=USER
        ) as stream:
            await stream.get_final_message()
    assert (simulator.log[0].output_tokens, simulator.log[0].cut) == (3, True)


USE: Any = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]}
RESULT: Any = {"type": "tool_result", "tool_use_id": "t1", "content": "x"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tieline": {}}, "tieline: Extra inputs are not permitted"),
        ({"max_tokens": None}, "max_tokens: Input should be a valid integer"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "must be non-empty"),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "valid dictionary"),
        ({"messages": [{"role": "user", "content": 5}]}, "valid list"),
        ({"messages": [{"role": "system", "content": "x"}]}, 'Unexpected role "system"'),
        ({"messages": [*USER, {"role": "user", "content": [RESULT]}]}, "unexpected `tool_use_id`"),
        ({"messages": [*USER, USE, *USER]}, "without `tool_result` blocks immediately after"),
        ({"messages": [*USER, USE, {"role": "user", "content": [RESULT, RESULT]}]}, "single result"),
        ({"messages": [*USER, {"role": "assistant", "content": "So "}]}, "trailing whitespace"),
        ({"tools": [WEATHER | {"strictness": 1}]}, "tools.0.custom.strictness"),
        ({"tool_choice": {"type": "any"}}, "while providing tools"),
        ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "greater than or equal to 1024"),
        ({"thinking": {"type": "adaptive"}, "temperature": 0.5}, "may only be set to 1"),
        ({"temperature": 1.5}, "temperature: range: 0..1"),
    ],
)
async def test_what_anthropic_rejects_is_rejected(
    claude: anthropic.AsyncAnthropic, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        await claude.messages.create(model="claude", max_tokens=99, messages=USER, extra_body=change)
    assert words in str(caught.value)
