"""Four official SDKs against every cloud door, each through the gateway's socket to the simulated cloud's."""

from __future__ import annotations

import pytest

from tieline.simulator import expected_text

from .callers import CALLERS, FEATURES, PROMPT
from .conftest import Served

UPSTREAMS = {
    "vertex": ("vertex/gemini-2.5-flash", "gemini-2.5-flash", "gemini"),
    "vertex-anthropic": (
        "vertex-anthropic/claude-sonnet-4-5@20250929",
        "claude-sonnet-4-5@20250929",
        "anthropic_messages",
    ),
    "azure": ("azure/chat-prod", "gpt-4o", None),
    "azure-deployments": ("azure-deployments/chat-prod", "gpt-4o", "openai_chat"),
    "bedrock": (
        "bedrock@eu-west-1/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "bedrock_converse",
    ),
    "cohere": ("cohere/command-a-03-2025", "command-a-03-2025", "cohere"),
}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("caller", CALLERS)
async def test_asks_and_understands(served: Served, caller: str, upstream: str, feature: str) -> None:
    served.clouds.azure_deployments = {"chat-prod": "gpt-4o"}
    model, seen_model, dialect = UPSTREAMS[upstream]
    said = await CALLERS[caller](served.url, model, feature)
    (entry,) = served.simulator.log
    assert (entry.status, entry.completed, entry.model) == (200, True, seen_model)
    assert entry.dialect == dialect or (dialect is None and entry.dialect.startswith("openai"))
    assert entry.stream is feature.endswith("stream")
    assert (said.input_tokens, said.output_tokens) == (entry.input_tokens, entry.output_tokens) or (
        feature.startswith("tools") and said.output_tokens > 0
    )
    if feature.startswith("tools"):
        assert said.calls
        assert {name for name, _ in said.calls} == {"get_weather"}
        assert all(isinstance(arguments["city"], str) for _, arguments in said.calls)
        assert said.finish == "tool_calls"
    else:
        assert said.text == expected_text(PROMPT, 48, served.simulator.seed)
        assert said.finish == "stop"
    assert "tieline" not in (entry.body or {})


async def test_azure_is_asked_in_the_callers_own_dialect(served: Served) -> None:
    for caller, dialect in (("openai_chat", "openai_chat"), ("openai_responses", "openai_responses")):
        await CALLERS[caller](served.url, "azure/chat-prod", "text")
        assert served.simulator.log[-1].dialect == dialect
