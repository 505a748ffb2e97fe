from __future__ import annotations

import base64
import json
from typing import Any

import openai
import pytest

from tieline.simulator import SimulatorServer, expected_text
from tieline.simulator.vectors import embed

from .conftest import SEED

PROMPT = "Tell me about harbours"
TEXT = expected_text(PROMPT, 48, SEED)
USER: Any = [{"role": "user", "content": PROMPT}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK: Any = {
    "type": "function",
    "function": {"name": "read_clock", "parameters": {"type": "object", "properties": {}}},
}


async def streamed(client: openai.AsyncOpenAI, model: str, **extra: Any) -> tuple[str, list[Any]]:
    stream = await client.chat.completions.create(model=model, messages=USER, stream=True, **extra)
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    return text, chunks


async def test_answers_with_the_expected_text_and_usage(
    chat: openai.AsyncOpenAI, simulator: SimulatorServer
) -> None:
    raw = await chat.chat.completions.with_raw_response.create(model="gpt-4o", messages=USER)
    answer = raw.parse()
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 48
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["x-ratelimit-reset-tokens"] == "12ms"
    (entry,) = simulator.log
    assert (entry.provider, entry.dialect, entry.status, entry.completed) == (
        "openai",
        "openai_chat",
        200,
        True,
    )
    assert (entry.input_tokens, entry.output_tokens) == (answer.usage.prompt_tokens, 48)


@pytest.mark.parametrize("model", ["gpt-4o", "sim-echo:chunk=1", "sim-crlf", "sim-comments", "sim-dup-ids"])
async def test_streams_the_same_text(chat: openai.AsyncOpenAI, model: str) -> None:
    text, chunks = await streamed(chat, model, stream_options={"include_usage": True})
    assert text == TEXT
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 48
    assert len({chunk.id for chunk in chunks}) == (len(chunks) if model == "sim-dup-ids" else 1)


async def test_usage_is_shown_only_to_who_asks(chat: openai.AsyncOpenAI) -> None:
    _, chunks = await streamed(chat, "gpt-4o")
    assert all(chunk.usage is None for chunk in chunks)


async def test_tools_are_called_in_parallel_and_answered(chat: openai.AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "How is the weather in Lisbon?"}]
    async with chat.chat.completions.stream(
        model="sim-tools", messages=messages, tools=[WEATHER, CLOCK]
    ) as stream:
        message = (await stream.get_final_completion()).choices[0].message
    calls = message.tool_calls or []
    assert [call.function.name for call in calls] == ["get_weather", "read_clock"]
    assert json.loads(calls[0].function.arguments) == {"city": "Lisbon"}
    messages.append(
        message.model_dump(exclude_none=True, exclude={"parsed"})
        | {
            "tool_calls": [
                {
                    "id": c.id,
                    "type": "function",
                    "function": {"name": c.function.name, "arguments": c.function.arguments},
                }
                for c in calls
            ]
        }
    )
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": f"result of {call.function.name}"}
        for call in calls
    ]
    final = await chat.chat.completions.create(model="sim-tools", messages=messages, tools=[WEATHER, CLOCK])
    assert "result of get_weather; result of read_clock" in (final.choices[0].message.content or "")


@pytest.mark.parametrize(
    ("choice", "parallel", "names"),
    [
        ("none", None, []),
        ("required", None, ["get_weather", "read_clock"]),
        ({"type": "function", "function": {"name": "read_clock"}}, None, ["read_clock"]),
        ("auto", False, ["get_weather"]),
    ],
)
async def test_tool_choice_is_honoured(
    chat: openai.AsyncOpenAI, choice: Any, parallel: Any, names: list[str]
) -> None:
    extra = {} if parallel is None else {"parallel_tool_calls": parallel}
    answer = await chat.chat.completions.create(
        model="sim-tools", messages=USER, tools=[WEATHER, CLOCK], tool_choice=choice, **extra
    )
    calls = answer.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls if call.type == "function"] == names


async def test_an_ordinary_model_calls_a_tool_only_when_the_prompt_asks(chat: openai.AsyncOpenAI) -> None:
    asked = await chat.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "the weather in Oslo?"}], tools=[WEATHER]
    )
    assert asked.choices[0].finish_reason == "tool_calls"
    other = await chat.chat.completions.create(model="gpt-4o", messages=USER, tools=[WEATHER])
    assert other.choices[0].message.content == TEXT


async def test_structured_output_limits_stops_and_media(chat: openai.AsyncOpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    format_: Any = {"type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": schema}}
    answer = await chat.chat.completions.create(model="gpt-4o", messages=USER, response_format=format_)
    assert isinstance(json.loads(answer.choices[0].message.content or "")["n"], int)
    short = await chat.chat.completions.create(model="gpt-4o", messages=USER, max_completion_tokens=3, n=2)
    assert [choice.finish_reason for choice in short.choices] == ["length", "length"]
    assert short.choices[0].message.content == expected_text(PROMPT, 3, SEED)
    word = TEXT.split()[4]
    stopped = await chat.chat.completions.create(model="gpt-4o", messages=USER, stop=word)
    assert word not in (stopped.choices[0].message.content or "")
    image: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    pdf: Any = {
        "type": "file",
        "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"},
    }
    seen = await chat.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": [{"type": "text", "text": "see"}, image, pdf]}]
    )
    assert (seen.choices[0].message.content or "").startswith("I see 1 image and 1 document. ")
    likely = await chat.chat.completions.create(model="gpt-4o", messages=USER, logprobs=True, top_logprobs=2)
    assert likely.choices[0].logprobs is not None


REFUSALS: list[tuple[str, type[openai.APIStatusError], int, str | None]] = [
    ("fail-429:retry_after=2", openai.RateLimitError, 429, "rate_limit_exceeded"),
    ("fail-quota", openai.RateLimitError, 429, "insufficient_quota"),
    ("fail-500", openai.InternalServerError, 500, None),
    ("fail-502-html", openai.InternalServerError, 502, None),
    ("fail-503", openai.InternalServerError, 503, None),
    ("fail-529", openai.InternalServerError, 529, "server_is_overloaded"),
    ("fail-401", openai.AuthenticationError, 401, "invalid_api_key"),
    ("fail-403", openai.PermissionDeniedError, 403, "model_not_found"),
    ("fail-404", openai.NotFoundError, 404, "model_not_found"),
    ("fail-410", openai.APIStatusError, 410, "model_deprecated"),
    ("fail-geo", openai.PermissionDeniedError, 403, "unsupported_country_region_territory"),
    ("fail-context", openai.BadRequestError, 400, "context_length_exceeded"),
    ("fail-filter", openai.BadRequestError, 400, "content_policy_violation"),
    ("fail-400", openai.BadRequestError, 400, "unsupported_parameter"),
    ("fail-413", openai.APIStatusError, 413, None),
    ("fail-422", openai.UnprocessableEntityError, 422, None),
    ("fial-422", openai.NotFoundError, 404, "model_not_found"),
]


@pytest.mark.parametrize(("behaviour", "kind", "status", "code"), REFUSALS)
@pytest.mark.parametrize("stream", [False, True])
async def test_refusals_raise_the_sdks_own_classes(
    chat: openai.AsyncOpenAI,
    behaviour: str,
    kind: type[openai.APIStatusError],
    status: int,
    code: str | None,
    stream: bool,
) -> None:
    with pytest.raises(kind) as caught:
        await chat.chat.completions.create(model=f"sim-{behaviour}", messages=USER, stream=stream)
    assert caught.value.status_code == status
    assert caught.value.code == code
    if "retry_after" in behaviour:
        assert caught.value.response.headers["retry-after"] == "2"
        assert caught.value.response.headers["x-ratelimit-remaining-tokens"] == "0"
    if behaviour == "fial-422":
        assert "did you mean 'fail-422'?" in str(caught.value)


async def test_keys(simulator: SimulatorServer) -> None:
    for key, kind in (
        ("k-invalid", openai.AuthenticationError),
        ("k-broke", openai.RateLimitError),
        ("k-expired", openai.AuthenticationError),
        ("k-forbidden", openai.PermissionDeniedError),
    ):
        async with openai.AsyncOpenAI(base_url=f"{simulator.url}/x/v1", api_key=key, max_retries=0) as client:
            with pytest.raises(kind):
                await client.chat.completions.create(model="m", messages=USER)


CALL: Any = {
    "role": "assistant",
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tieline": {}}, "Unknown parameter: 'tieline'"),
        ({"tools": []}, "Invalid 'tools': empty array"),
        ({"tool_choice": "auto"}, "only allowed when 'tools' are specified"),
        ({"stream_options": {"include_usage": True}}, "only allowed when 'stream'"),
        ({"messages": []}, "empty array"),
        (
            {"messages": [*USER, {"role": "tool", "tool_call_id": "c1", "content": "x"}]},
            "must be a response to a preceeding",
        ),
        ({"messages": [*USER, CALL, *USER]}, "did not have response messages: c1"),
        (
            {"messages": [*USER, CALL | {"tool_calls": [CALL["tool_calls"][0] | {"id": "c" * 41}]}]},
            "string too long",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "Invalid value: 'image'"),
        ({"messages": [{"role": "user", "content": "x", "cache_control": {}}]}, "messages[0].cache_control"),
        ({"max_tokens": 0}, "integer below minimum value"),
        ({"temperature": 3}, "above maximum value"),
        ({"stop": ["a"] * 5}, "array too long"),
        ({"response_format": {"type": "json_object"}}, "must contain the word 'json'"),
    ],
)
async def test_what_openai_rejects_is_rejected(
    chat: openai.AsyncOpenAI, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await chat.chat.completions.create(model="gpt-4o", messages=USER, extra_body=change)
    assert words in str(caught.value)


async def test_responses(chat: openai.AsyncOpenAI) -> None:
    whole = await chat.responses.create(model="gpt-5", input=PROMPT)
    assert whole.output_text == TEXT
    assert whole.usage is not None
    assert whole.usage.output_tokens == 48
    async with chat.responses.stream(
        model="sim-think", input=PROMPT, include=["reasoning.encrypted_content"]
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text == TEXT
    item: Any = final.output[0]
    assert item.summary[0].text
    reasoning = item.model_dump(exclude_none=True)
    replay = [
        *USER,
        reasoning,
        final.output[1].model_dump(exclude_none=True, exclude={"parsed"}),
        {"role": "user", "content": "And?"},
    ]
    assert (await chat.responses.create(model="sim-think", input=_cleaned(replay))).output_text == TEXT
    with pytest.raises(openai.BadRequestError) as caught:
        await chat.responses.create(
            model="sim-think", input=_cleaned([*USER, reasoning | {"encrypted_content": "Zm9v.YmFy"}, *USER])
        )
    assert caught.value.code == "invalid_encrypted_content"


def _cleaned(items: list[Any]) -> Any:
    """The SDK's helper adds ``parsed`` to text parts, which the API would refuse in a request only on newer fields."""
    return json.loads(json.dumps(items).replace('"parsed": null, ', ""))


async def test_responses_tools_limits_and_memory(chat: openai.AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "name": "get_weather", "parameters": WEATHER["function"]["parameters"]}
    first = await chat.responses.create(model="sim-tools", input=PROMPT, tools=[tool])
    call: Any = first.output[0]
    assert call.type == "function_call"
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    second = await chat.responses.create(
        model="sim-tools", input=[output], previous_response_id=first.id, tools=[tool]
    )
    assert "rain" in second.output_text
    with pytest.raises(openai.BadRequestError, match="No tool call found"):
        await chat.responses.create(model="sim-tools", input=[output], tools=[tool])
    short = await chat.responses.create(model="gpt-5", input=PROMPT, max_output_tokens=16)
    assert short.status == "incomplete"
    with pytest.raises(openai.BadRequestError, match="Previous response"):
        await chat.responses.create(model="gpt-5", input="x", previous_response_id="resp_none")
    with pytest.raises(openai.BadRequestError, match="tieline"):
        await chat.responses.create(model="gpt-5", input="x", extra_body={"tieline": 1})


async def test_small_endpoints(chat: openai.AsyncOpenAI) -> None:
    legacy = await chat.completions.create(model="m", prompt=PROMPT, max_tokens=100)
    assert legacy.choices[0].text == TEXT
    stream = await chat.completions.create(model="m", prompt=PROMPT, max_tokens=100, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == TEXT
    vectors = await chat.embeddings.create(model="e", input=["one two", "two one", "three"], dimensions=8)
    assert vectors.data[0].embedding == pytest.approx(embed("one two", 8), rel=1e-5)
    assert vectors.data[0].embedding == pytest.approx(vectors.data[1].embedding)
    packed = await chat.embeddings.with_raw_response.create(model="e", input="one", encoding_format="base64")
    assert len(base64.b64decode(packed.http_response.json()["data"][0]["embedding"])) == 64 * 4
    assert "sim-echo" in [model.id async for model in await chat.models.list()]


def test_sync_clients_use_it_from_a_thread() -> None:
    with (
        SimulatorServer(seed=SEED).run_in_thread() as server,
        openai.OpenAI(base_url=f"{server.url}/acme/v1", api_key="k", max_retries=0) as client,
    ):
        stream = client.chat.completions.create(model="m", messages=USER, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == TEXT
        assert server.log[0].provider == "acme"
