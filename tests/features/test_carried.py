"""What a host says must reach an official SDK of another API, and what the SDK sends back must reach the host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

from tests.conformance.world import World, running
from tests.features.asking import chat, post, record_of
from tests.features.hosts import Upstream, upstream
from tieline.dialects.tool_names import made_name

USER: Any = [{"role": "user", "content": "x"}]


@pytest.fixture(scope="module")
def host() -> Iterator[Upstream]:
    with upstream() as made:
        yield made


@pytest.fixture(scope="module")
def world(host: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("carried"), providers=host.providers) as made:
        yield made


@pytest.fixture
def openai_sdk(world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_sdk(world: World) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=world.url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def gemini_sdk(world: World) -> genai.Client:
    return genai.Client(api_key="k", http_options={"base_url": world.url})


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def numbered(number: int, event: Any) -> str:
    return f"id: {number}\ndata: {json.dumps(event)}\n\n"


def test_wire_12_figures_behind_numbered_events_are_no_event(
    host: Upstream, openai_sdk: openai.OpenAI
) -> None:
    """openai-python takes each blank line for an event once it has seen an `id:`."""
    host.stream(numbered(1, chunk({"content": "hi"})), numbered(2, chunk({}, "stop")), "data: [DONE]\n\n")
    heard = openai_sdk.chat.completions.create(model="chat/m", messages=USER, stream=True)
    assert [one.choices[0].delta.content for one in heard] == ["hi", None]


def test_a_comment_has_no_blank_line_of_its_own(host: Upstream, world: World) -> None:
    host.stream(chunk({"content": "hi"}), chunk({}, "stop"), "data: [DONE]\n\n")
    text = post(world, "/v1/chat/completions", chat("chat/m", stream=True)).text
    assert text.split("\n")[-4].startswith(": tieline {")
    assert text.endswith("}\ndata: [DONE]\n\n")
    assert text.count("\n\n") == text.count("data: ")


def message(*content: dict[str, Any], stop: str = "tool_use") -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [*content],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def events_of(answer: dict[str, Any]) -> Iterator[str]:
    """A Messages answer as its stream; blocks without deltas."""

    def event(kind: str, **more: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"

    yield event("message_start", message=answer | {"content": [], "stop_reason": None})
    for index, block in enumerate(answer["content"]):
        yield event("content_block_start", index=index, content_block=block)
        yield event("content_block_stop", index=index)
    delta = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=delta, usage=answer["usage"])
    yield event("message_stop")


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("streamed", [False, True])
def test_wire_21_redacted_thinking_comes_back_from_a_gemini_caller(
    host: Upstream, gemini_sdk: genai.Client, streamed: bool, shown: bool
) -> None:
    redacted = {"type": "redacted_thinking", "data": "RED=="}
    answer = message(redacted, {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}})
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[types.FunctionDeclaration(name="f")])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        thinking_config=types.ThinkingConfig(include_thoughts=shown, thinking_budget=1024),
    )
    said: list[types.Part] = []
    if streamed:
        host.stream(*events_of(answer))
        for heard in gemini_sdk.models.generate_content_stream(model="claude/m", contents="x", config=config):
            said += heard.candidates[0].content.parts or []  # type: ignore[index, union-attr]
    else:
        host.put(answer)
        whole = gemini_sdk.models.generate_content(model="claude/m", contents="x", config=config)
        said += whole.candidates[0].content.parts or []  # type: ignore[index, union-attr]
    result = types.FunctionResponse(id="toolu_1", name="f", response={"result": "r"})
    host.put(message({"type": "text", "text": "done"}, stop="end_turn"))
    gemini_sdk.models.generate_content(
        model="claude/m",
        config=config,
        contents=[
            types.Content(role="user", parts=[types.Part(text="x")]),
            types.Content(role="model", parts=said),
            types.Content(role="user", parts=[types.Part(function_response=result)]),
        ],
    )
    assert host.heard[-1]["messages"][1]["content"][0] == redacted
    assert host.heard[-1]["thinking"]["type"] == "enabled"


@pytest.mark.parametrize("streamed", [False, True])
def test_wire_21_the_signature_of_a_gemini_call_comes_back_from_an_anthropic_caller(
    host: Upstream, anthropic_sdk: anthropic.Anthropic, streamed: bool
) -> None:
    calls = [
        {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "U0lHMQ=="},
        {"functionCall": {"name": "g", "args": {"x": 1}}},
    ]
    answer = {
        "candidates": [{"content": {"role": "model", "parts": calls}, "finishReason": "STOP", "index": 0}],
        "modelVersion": "m",
        "responseId": "r",
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
    }
    asked: Any = {
        "model": "gemini/m",
        "max_tokens": 50,
        "tools": [{"name": name, "input_schema": {"type": "object"}} for name in "fg"],
    }
    if streamed:
        host.stream(answer)
        with anthropic_sdk.messages.stream(messages=USER, **asked) as heard:
            said = heard.get_final_message()
    else:
        host.put(answer)
        said = anthropic_sdk.messages.create(messages=USER, **asked)
    assert [block.type for block in said.content] == ["thinking", "tool_use", "tool_use"]
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "r"}
        for block in said.content
        if block.type == "tool_use"
    ]
    replayed: Any = [
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in said.content]},
        {"role": "user", "content": results},
    ]
    host.put(answer)
    anthropic_sdk.messages.create(messages=USER + replayed, **asked)
    sent = host.heard[-1]["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in sent] == ["U0lHMQ==", None]
    assert [part["functionCall"]["name"] for part in sent] == ["f", "g"]

    host.put(message({"type": "text", "text": "done"}, stop="end_turn"))
    anthropic_sdk.messages.create(messages=USER + replayed, **(asked | {"model": "claude/m"}))
    assert [block["type"] for block in host.heard[-1]["messages"][1]["content"]] == ["tool_use", "tool_use"]


@pytest.mark.parametrize("streamed", [False, True])
def test_wire_33_the_wait_in_geminis_refusal_is_kept_and_told(
    host: Upstream, tmp_path: Path, streamed: bool
) -> None:
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}
    error = {"code": 429, "message": "Exhausted.", "status": "RESOURCE_EXHAUSTED", "details": [wait]}
    host.put({"error": error}, 429)
    with running(tmp_path, providers=host.providers) as world:
        before = len(host.heard)
        first = post(world, "/v1/chat/completions", chat("gemini/m", stream=streamed))
        assert (first.status, first.headers["retry-after"]) == (429, "13")
        second = post(world, "/v1/chat/completions", chat("gemini/m", stream=streamed))
        assert second.status == 429
        assert 10 <= int(second.headers["retry-after"]) <= 13
        assert len(host.heard) == before + 1
        assert [one.outcome for one in record_of(world, first).attempts] == ["rate_limited"]
        assert record_of(world, second).attempts == []


def test_an_overload_is_one_to_an_anthropic_caller(host: Upstream, tmp_path: Path) -> None:
    """The status stays 503: 529 is known to Anthropic's clients alone, and they try both again."""
    host.put({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529)
    with running(tmp_path, providers=host.providers) as world:
        before = len(host.heard)
        with (
            anthropic.Anthropic(base_url=world.url, api_key="k", max_retries=1) as client,
            pytest.raises(anthropic.InternalServerError) as raised,
        ):
            client.messages.create(model="claude/m", max_tokens=5, messages=USER)
        assert isinstance(raised.value, anthropic.APIStatusError)
        assert (raised.value.status_code, raised.value.type) == (503, "overloaded_error")
        assert len(host.heard) == before + 2


def test_an_overload_within_a_stream_is_one_to_an_anthropic_caller(
    host: Upstream, anthropic_sdk: anthropic.Anthropic
) -> None:
    fault = {"error": {"message": "Overloaded", "type": "overloaded_error", "code": "overloaded"}}
    host.stream(chunk({"content": "hi"}), fault)
    with (
        anthropic_sdk.messages.stream(model="chat/m", max_tokens=5, messages=USER) as heard,
        pytest.raises(anthropic.APIStatusError) as raised,
    ):
        heard.get_final_message()
    assert raised.value.type == "overloaded_error"


def calls(*deltas: dict[str, Any]) -> dict[str, Any]:
    return chunk({"tool_calls": [*deltas]})


def begun(index: int, name: str) -> dict[str, Any]:
    function = {"name": name, "arguments": ""}
    return {"index": index, "id": f"call_{index}", "type": "function", "function": function}


def arguments(index: int) -> dict[str, Any]:
    return {"index": index, "function": {"arguments": f'{{"x":{index}}}'}}


@pytest.mark.parametrize("api", ["messages", "responses"])
def test_wire_01_parallel_calls_keep_the_order_in_which_they_began(
    host: Upstream, anthropic_sdk: anthropic.Anthropic, openai_sdk: openai.OpenAI, api: str
) -> None:
    host.stream(
        calls(begun(0, "f"), begun(1, "g"), begun(2, "h")),
        calls(arguments(1)),
        calls(arguments(0)),
        calls(arguments(2)),
        chunk({}, "tool_calls"),
        "data: [DONE]\n\n",
    )
    heard: list[tuple[str, Any]]
    if api == "messages":
        tools: Any = [{"name": name, "input_schema": {"type": "object"}} for name in "fgh"]
        with anthropic_sdk.messages.stream(
            model="chat/m", max_tokens=50, messages=USER, tools=tools
        ) as messages:
            said = messages.get_final_message().content
        heard = [(block.name, block.input) for block in said if block.type == "tool_use"]
    else:
        tools = [{"type": "function", "name": name, "parameters": {"type": "object"}} for name in "fgh"]
        with openai_sdk.responses.stream(model="chat/m", input="x", tools=tools) as responses:
            items = responses.get_final_response().output
        heard = [(item.name, json.loads(item.arguments)) for item in items if item.type == "function_call"]
    assert heard == [("f", {"x": 0}), ("g", {"x": 1}), ("h", {"x": 2})]


def test_log_probabilities_reach_a_stream_that_the_host_answered_whole(
    host: Upstream, openai_sdk: openai.OpenAI
) -> None:
    probable = {"content": [{"token": "hi", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
    said = {"role": "assistant", "content": "hi"}
    choices = [{"index": number, "finish_reason": "stop", "message": said} for number in (0, 1)]
    choices[1]["logprobs"] = probable
    host.put({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices})
    heard = openai_sdk.chat.completions.create(model="chat/m", messages=USER, stream=True, n=2, logprobs=True)
    told = [
        (choice.index, choice.logprobs.content[0].token)
        for one in heard
        for choice in one.choices
        if choice.logprobs and choice.logprobs.content
    ]
    assert told == [(1, "hi")]


def test_citations_reach_a_stream_that_the_host_answered_whole(
    host: Upstream, anthropic_sdk: anthropic.Anthropic
) -> None:
    place = {"type": "char_location", "cited_text": "hi", "document_index": 0, "document_title": "t"}
    cited = {**place, "start_char_index": 0, "end_char_index": 2}
    host.put(message({"type": "text", "text": "hi", "citations": [cited]}, stop="end_turn"))
    with anthropic_sdk.messages.stream(model="claude/m", max_tokens=50, messages=USER) as heard:
        (block,) = heard.get_final_message().content
    assert block.type == "text"
    assert block.text == "hi"
    assert [one.model_dump(exclude_none=True) for one in block.citations or ()] == [cited]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_with_a_name_too_long_for_openai_is_called_by_it(
    host: Upstream, anthropic_sdk: anthropic.Anthropic, streamed: bool
) -> None:
    """Claude Code's names of MCP servers' tools."""
    name = "mcp__plugin_ymir-privileged_server__get_failed_pipeline_jobs_from_merge_request"
    function = {"name": made_name(name), "arguments": "{}"}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    delta = {"role": "assistant", "content": None, "tool_calls": [call]}
    if streamed:
        host.stream(chunk(delta), chunk({}, "tool_calls"), "data: [DONE]\n\n")
    else:
        choice = {"index": 0, "message": delta, "finish_reason": "tool_calls"}
        host.put({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
    asked: Any = {
        "model": "chat/m",
        "max_tokens": 9,
        "messages": USER,
        "tools": [{"name": name, "input_schema": {"type": "object"}}],
    }
    if streamed:
        with anthropic_sdk.messages.stream(**asked) as stream:
            answer: Any = stream.get_final_message()
    else:
        answer = anthropic_sdk.messages.create(**asked)
    assert answer.content[0].name == name
    offered = host.heard[-1]["tools"][0]["function"]
    assert offered == {"name": made_name(name), "parameters": {"type": "object", "properties": {}}}
