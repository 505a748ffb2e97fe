"""What is billed beyond tokens at their list price makes the cost unknown, however the answer was read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dialects.samples import events, message_end, message_start
from tieline.dialects import get
from tieline.ledger.pricing import cost
from tieline.providers.card import Price, PriceTier
from tieline.types.events import UsageReport
from tieline.types.usage import Usage

PRICE = Price(tiers=(PriceTier(input=3, output=5),))
ANTHROPIC, GEMINI, RESPONSES = "anthropic_messages", "gemini", "openai_responses"
USAGES: list[tuple[dict[str, Any], bool]] = [
    ({"service_tier": "standard", "speed": "standard", "inference_geo": "not_available"}, True),
    ({"server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 3}}, True),
    ({"server_tool_use": {"web_search_requests": 1}}, False),
    ({"speed": "fast"}, False),
    ({"inference_geo": "us"}, False),
]
CANDIDATES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({}, {"candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 5}]}, True),
    ({}, {"candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 5}]}, False),
    ({}, {"cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}]}, False),
    ({"groundingMetadata": {"webSearchQueries": ["x"]}}, {}, False),
    ({"groundingMetadata": {"groundingChunks": [{"maps": {"uri": "x"}}]}}, {}, False),
    ({"groundingMetadata": {"groundingChunks": [{"retrievedContext": {}}]}}, {}, True),
]
ITEMS = [
    ("reasoning", True),
    ("mcp_call", True),
    ("web_search_call", False),
    ("file_search_call", False),
    ("code_interpreter_call", False),
    ("image_generation_call", False),
]


def known(dialect: str, answer: dict[str, Any], *stream: bytes) -> set[bool]:
    """Whether the cost is, of the answer decoded, glanced at, and streamed."""
    body, reader = json.dumps(answer).encode(), get(dialect)
    reports = [event.usage for event in events(dialect, *stream) if isinstance(event, UsageReport)]
    usages = [reader.decode_response(body).usage, reader.glance(body).usage, reports[-1]]
    assert all(usage is not None and usage.output_tokens == 5 for usage in usages)
    return {cost(PRICE, usage, at_unix=0) is not None for usage in usages}


@pytest.mark.parametrize(("more", "priced"), USAGES)
def test_messages(more: dict[str, Any], priced: bool) -> None:
    usage = {"input_tokens": 9, "output_tokens": 5, **more}
    answer = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    answer |= {"content": [{"type": "text", "text": "hi"}], "usage": usage}  # type: ignore[dict-item]
    assert known(ANTHROPIC, answer, message_start(), message_end(**usage)) == {priced}


@pytest.mark.parametrize(("candidate", "usage", "priced"), CANDIDATES)
def test_gemini(candidate: dict[str, Any], usage: dict[str, Any], priced: bool) -> None:
    content = {"role": "model", "parts": [{"text": "hi"}]}
    counts = {"promptTokenCount": 9, "candidatesTokenCount": 5}
    answer = {
        "candidates": [{"content": content, "finishReason": "STOP", **candidate}],
        "usageMetadata": counts | usage,
    }
    early = {"candidates": [{"content": content, **candidate}], "usageMetadata": counts}
    last = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": counts | usage}
    stream = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in (early, last)]
    assert known(GEMINI, answer, *stream) == {priced}


@pytest.mark.parametrize(("kind", "priced"), ITEMS)
def test_responses(kind: str, priced: bool) -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
    answer = {
        "id": "r",
        "object": "response",
        "model": "m",
        "status": "completed",
        "output": [{"type": kind, "id": "i", "summary": []}, said],
        "usage": {"input_tokens": 9, "output_tokens": 5},
    }
    last = {"type": "response.completed", "response": answer}
    assert known(RESPONSES, answer, f"data: {json.dumps(last)}\n\n".encode()) == {priced}


def test_one_part_that_is_unknown_makes_the_sum_unknown() -> None:
    both = Usage(input_tokens=1) + Usage(input_tokens=1, unpriced=True)
    assert cost(PRICE, both, at_unix=0) is None
