"""What is billed beyond tokens at their list price is counted or makes the cost unknown, however the answer was read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dialects.samples import events, message_end, message_start, peek
from tieline.dialects import get
from tieline.ledger.pricing import cost
from tieline.providers.card import Price, PriceTier
from tieline.types.events import UsageReport
from tieline.types.usage import Usage

PRICE = Price(tiers=(PriceTier(input=3, output=5),))
WHOLE = Price(
    tiers=(PriceTier(input=3, output=5, output_image=7, input_audio=9, cache_read_audio=1),),
    web_search=100,
    file_search=10,
    fast_percent=200,
    us_percent=110,
)
Extras = dict[str, int] | None
ANTHROPIC, GEMINI, RESPONSES = "anthropic_messages", "gemini", "openai_responses"
UNKNOWN: Extras = {"": 0}
"""Whatever the prices are."""
USAGES: list[tuple[dict[str, Any], Extras]] = [
    ({"service_tier": "standard", "speed": "standard", "inference_geo": "not_available"}, None),
    ({"server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 3}}, None),
    ({"server_tool_use": {"web_search_requests": 3}}, {"web_search": 3}),
    ({"speed": "fast"}, {"fast": 1}),
    ({"inference_geo": "us", "speed": "fast"}, {"fast": 1, "us": 1}),
    ({"inference_geo": "us", "server_tool_use": {"web_search_requests": 1}}, {"us": 1, "web_search": 1}),
    ({"inference_geo": "mars"}, UNKNOWN),
    ({"speed": "faster"}, UNKNOWN),
    ({"speed": ["fast"]}, UNKNOWN),
    ({"iterations": [{"type": "message", "input_tokens": 9, "output_tokens": 5}]}, None),
    ({"iterations": None}, None),
    ({"iterations": [{"type": "advisor_message", "model": "m2", "output_tokens": 5}]}, UNKNOWN),
    ({"iterations": [{"type": "fallback_message", "model": "m2", "output_tokens": 5}]}, UNKNOWN),
    ({"iterations": ["?"]}, UNKNOWN),
]
CANDIDATES: list[tuple[dict[str, Any], dict[str, Any], Extras]] = [
    ({}, {"candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 5}]}, None),
    ({}, {"candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 4}]}, {"output_image": 4}),
    ({}, {"candidatesTokensDetails": [{"modality": "VIDEO", "tokenCount": 5}]}, UNKNOWN),
    (
        {},
        {"cachedContentTokenCount": 8, "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}]},
        {"cache_read_audio": 5},
    ),
    ({"groundingMetadata": {"webSearchQueries": ["x"]}}, {}, UNKNOWN),
    ({"groundingMetadata": {"groundingChunks": [{"maps": {"uri": "x"}}]}}, {}, UNKNOWN),
    ({"groundingMetadata": {"groundingChunks": [{"retrievedContext": {}}]}}, {}, None),
]
DONE = {"status": "completed"}
SEARCH = {"type": "web_search_call", **DONE, "action": {"type": "search", "query": "x"}}
OPENED = {"type": "web_search_call", **DONE, "action": {"type": "open_page", "url": "x"}}
FILES = {"type": "file_search_call", **DONE, "queries": ["x", "y"]}
ITEMS: list[tuple[list[dict[str, Any]], str, Extras]] = [
    ([{"type": "reasoning"}], "web_search", None),
    ([{"type": "mcp_call"}], "web_search", None),
    ([SEARCH, OPENED, SEARCH], "web_search", {"web_search": 2}),
    ([OPENED], "web_search", {"web_search": 0}),
    ([FILES, SEARCH], "web_search_2025_08_26", {"web_search": 1, "file_search": 1}),
    ([FILES], "file_search", {"file_search": 1}),
    ([SEARCH], "web_search_preview", UNKNOWN),
    ([OPENED], "web_search_preview_2025_03_11", UNKNOWN),
    ([SEARCH], "function", UNKNOWN),
    ([{**SEARCH, "status": "failed"}], "web_search", UNKNOWN),
    ([{**SEARCH, "action": None}], "web_search", UNKNOWN),
    ([{**FILES, "status": "incomplete"}], "file_search", UNKNOWN),
    ([{"type": "code_interpreter_call"}], "code_interpreter", UNKNOWN),
    ([{"type": "image_generation_call"}], "image_generation", UNKNOWN),
    ([{"type": "shell_call", "environment": {"type": "local"}}, {"type": "shell_call"}], "shell", None),
    ([{"type": "shell_call", "environment": {"type": "container_reference"}}], "shell", UNKNOWN),
]


def check(dialect: str, extras: Extras, answer: dict[str, Any], *stream: bytes) -> None:
    """Of the answer decoded, glanced at, and streamed."""
    body, reader = json.dumps(answer).encode(), get(dialect)
    reports = [event.usage for event in events(dialect, *stream) if isinstance(event, UsageReport)]
    for usage in (reader.decode_response(body).usage, reader.glance(body).usage, reports[-1]):
        assert usage is not None
        assert usage.output_tokens == 5
        assert (cost(WHOLE, usage, at_unix=0) is None) == (extras is UNKNOWN)
        if extras is not UNKNOWN:
            assert usage.extras == extras
            assert (cost(PRICE, usage, at_unix=0) is None) == (extras not in (None, {"cache_read_audio": 5}))


@pytest.mark.parametrize(("more", "extras"), USAGES)
def test_messages(more: dict[str, Any], extras: Extras) -> None:
    usage = {"input_tokens": 9, "output_tokens": 5, **more}
    answer = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    answer |= {"content": [{"type": "text", "text": "hi"}], "usage": usage}  # type: ignore[dict-item]
    check(ANTHROPIC, extras, answer, message_start(), message_end(**usage))


@pytest.mark.parametrize(("candidate", "usage", "extras"), CANDIDATES)
def test_gemini(candidate: dict[str, Any], usage: dict[str, Any], extras: Extras) -> None:
    content = {"role": "model", "parts": [{"text": "hi"}]}
    counts = {"promptTokenCount": 9, "candidatesTokenCount": 5}
    answer = {
        "candidates": [{"content": content, "finishReason": "STOP", **candidate}],
        "usageMetadata": counts | usage,
    }
    early = {"candidates": [{"content": content, **candidate}], "usageMetadata": counts}
    last = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": counts | usage}
    stream = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in (early, last)]
    check(GEMINI, extras, answer, *stream)


@pytest.mark.parametrize(("items", "tool", "extras"), ITEMS)
def test_responses(items: list[dict[str, Any]], tool: str, extras: Extras) -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
    answer = {
        "id": "r",
        "object": "response",
        "model": "m",
        "status": "completed",
        "tools": [{"type": tool}],
        "output": [*({"id": "i", "summary": [], **item} for item in items), said],
        "usage": {"input_tokens": 9, "output_tokens": 5},
    }
    last = {"type": "response.completed", "response": answer}
    check(RESPONSES, extras, answer, f"data: {json.dumps(last)}\n\n".encode())


def test_what_compaction_read_and_wrote_counts() -> None:
    """The totals leave it out."""
    compaction = {
        "type": "compaction",
        "input_tokens": 180,
        "cache_read_input_tokens": 20,
        "output_tokens": 35,
    }
    message = {"type": "message", "input_tokens": 23, "output_tokens": 10}
    usage = {"input_tokens": 23, "output_tokens": 10, "speed": "fast", "iterations": [compaction, message]}
    answer = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    body = json.dumps({**answer, "content": [], "usage": usage}).encode()
    streamed = events(ANTHROPIC, message_start(), message_end(**usage))
    reports = [event.usage for event in streamed if isinstance(event, UsageReport)]
    reader = get(ANTHROPIC)
    for found in (reader.decode_response(body).usage, reader.glance(body).usage, reports[-1]):
        assert found == Usage(input_tokens=223, cache_read_tokens=20, output_tokens=45, extras={"fast": 1})
        assert cost(WHOLE, found, at_unix=0) == 2 * (223 * 3 + 45 * 5)


@pytest.mark.parametrize(
    ("more", "usage", "extras"),
    [
        ({"tool_usage": {"web_search": {"num_requests": 1}}}, {}, {"web_search": 1}),
        ({"tool_usage": {"web_search": {"num_requests": 0}}}, {}, {"web_search": 0}),
        ({"tool_usage": None}, {}, {"web_search": 2}),
        ({}, {"num_server_side_tools_used": 0}, {"web_search": 2}),
        ({}, {"num_server_side_tools_used": 2}, UNKNOWN),
        (
            {},
            {"input_tokens_details": {"cache_write_tokens_details": {"ttl_12h_tokens": 0}}},
            {"web_search": 2},
        ),
        ({}, {"input_tokens_details": {"cache_write_tokens_details": {"ttl_12h_tokens": 7}}}, UNKNOWN),
    ],
)
def test_what_responses_tell_beside_their_items(
    more: dict[str, Any], usage: dict[str, Any], extras: Extras
) -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
    answer = {
        "id": "r",
        "object": "response",
        "model": "m",
        "status": "completed",
        "tools": [{"type": "web_search"}],
        "output": [SEARCH, SEARCH, said],
        "usage": {"input_tokens": 9, "output_tokens": 5, **usage},
        **more,
    }
    last = {"type": "response.completed", "response": answer}
    check(RESPONSES, extras, answer, f"data: {json.dumps(last)}\n\n".encode())


def tool(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "name": kind, **more}


ASKED: list[tuple[str, dict[str, Any], Extras]] = [
    (ANTHROPIC, {}, None),
    (ANTHROPIC, {"speed": "standard", "inference_geo": "global"}, None),
    (ANTHROPIC, {"speed": "fast"}, {"fast": 1}),
    (ANTHROPIC, {"speed": "fast", "inference_geo": "us"}, {"fast": 1, "us": 1}),
    (ANTHROPIC, {"speed": 7, "inference_geo": ["us"]}, None),
    (ANTHROPIC, {"tools": [tool("web_search_20250305", max_uses=5)]}, {"web_search": 5}),
    (ANTHROPIC, {"tools": [tool("web_search_20250305")], "speed": "fast"}, {"fast": 1}),
    (ANTHROPIC, {"tools": [tool("web_search_20250305", max_uses="5")]}, None),
    (ANTHROPIC, {"tools": [tool("web_search_20250305", max_uses=-5)]}, None),
    (ANTHROPIC, {"tools": [tool("web_search_20250305", max_uses=10**30)]}, None),
    (ANTHROPIC, {"tools": [tool("web_fetch_20250910", max_uses=5)]}, None),
    (RESPONSES, {"max_tool_calls": 3}, None),
    (RESPONSES, {"tools": [tool("web_search")]}, None),
    (RESPONSES, {"tools": [tool("web_search")], "max_tool_calls": 3}, {"web_search": 3}),
    (RESPONSES, {"tools": [tool("web_search")], "max_tool_calls": "3"}, None),
    (
        RESPONSES,
        {"tools": [tool("web_search"), tool("file_search")], "max_tool_calls": 3},
        {"web_search": 3, "file_search": 3},
    ),
    (RESPONSES, {"tools": [tool("code_interpreter")], "max_tool_calls": 3}, None),
]


@pytest.mark.parametrize(("dialect", "more", "extras"), ASKED)
def test_what_a_request_asks_for(dialect: str, more: dict[str, Any], extras: Extras) -> None:
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "m", "input": "hi"} if dialect == RESPONSES else {"model": "m", "messages": messages}
    assert peek(dialect, {**body, **more}).extras == extras


def test_one_part_that_is_unknown_makes_the_sum_unknown() -> None:
    both = Usage(input_tokens=1) + Usage(input_tokens=1, unpriced=True)
    assert cost(WHOLE, both, at_unix=0) is None
    # Which of the tokens were fast is not known any more.
    both = Usage(input_tokens=1) + Usage(input_tokens=1, extras={"fast": 1})
    assert cost(WHOLE, both, at_unix=0) is None


def test_what_two_parts_have_is_added_up() -> None:
    one = Usage(input_tokens=1, extras={"fast": 1, "web_search": 2})
    both = one + Usage(input_tokens=1, extras={"fast": 1, "web_search": 1, "file_search": 1})
    assert both.extras == {"fast": 1, "web_search": 3, "file_search": 1}
    assert cost(WHOLE, both, at_unix=0) == 2 * 3 * 2 + 310
