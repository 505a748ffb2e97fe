from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline.providers import names

SAME = [
    ("claude-sonnet-4-5", "anthropic/claude-sonnet-4.5"),
    ("claude-sonnet-4-5", "databricks-claude-sonnet-4-5"),
    ("claude-sonnet-4-5", "anthropic-claude-4.5-sonnet"),
    ("claude-3-5-haiku", "claude-3-5-haiku-latest"),
    ("claude-opus-4-6", "eu.anthropic.claude-opus-4-6-v1"),
    ("claude-opus-4-6", "claude-opus-4-6@default"),
    ("claude-sonnet-4-5-20250929", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5@20250929"),
    ("gpt-4o-2024-08-06", "openai/gpt-4o-20240806"),
    ("llama-3.3-70b-instruct", "meta-llama/Llama-3.3-70B-Instruct"),
    ("llama-3.3-70b-instruct", "meta.llama3-3-70b-instruct-v1:0"),
    ("llama-3.3-70b-instruct", "meta-llama/llama-3.3-70b-instruct:free"),
    ("llama-3.3-70b-instruct", "meta/llama-3.3-70b-instruct-maas"),
    ("llama-3.3-70b-instruct", "Meta-Llama-3_3-70B-Instruct"),
    ("gpt-oss-120b", "@cf/openai/gpt-oss-120b"),
    ("gpt-oss-120b", "accounts/fireworks/models/gpt-oss-120b"),
    ("deepseek-v3.1", "accounts/fireworks/models/deepseek-v3p1"),
    ("deepseek-r1", "us.deepseek.r1-v1:0"),
    ("mistral-7b-instruct-v0.2", "mistral.mistral-7b-instruct-v0:2"),
    ("gemma-3-27b-it", "google/gemma-3-27b-it"),
    ("grok-4", "x-ai/grok-4"),
]

DIFFERENT = [
    ("deepseek-r1", "deepseek-r1-0528"),
    ("kimi-k2", "kimi-k2-0905"),
    ("qwen3-235b-a22b", "qwen3-235b-a22b-instruct-2507"),
    ("gpt-4o", "gpt-4o-2024-05-13"),  # which snapshot an alias means is the catalog's to say
    ("gpt-4o", "gpt-4o-mini"),
    ("gpt-4o", "chatgpt-4o-latest"),
    ("mistral-large", "mistral-large-latest"),
    ("llama-3.3-70b-instruct", "llama-3.3-70b-instruct-turbo"),
    ("llama-3.1-8b-instruct", "@cf/meta/llama-3.1-8b-instruct-fp8"),
    ("claude-3.7-sonnet", "anthropic/claude-3.7-sonnet:thinking"),
    ("claude-opus-4-1-thinking:1024", "claude-opus-4-1-thinking:8192"),
    ("llama3.2", "llama3.2:1b"),
    ("mixtral-8x7b-instruct-v0.1", "mistral-7b-instruct-v0.1"),
    ("gemini-2.5-flash", "gemini-2.5-flash-preview-09-2025"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_same(one: str, other: str) -> None:
    assert names.key(one) == names.key(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different(one: str, other: str) -> None:
    assert names.key(one) != names.key(other)


def test_undated() -> None:
    assert names.undated(names.clean("gpt-4o-2024-08-06")) == "gpt-4o"
    assert names.undated("deepseek-r1-0528") is None
    assert names.undated("gpt-4o-20240806-ft") is None


@given(st.text(max_size=60))
def test_cleaning_ends_and_keys_are_stable(text: str) -> None:
    key = names.key(text)
    assert key == key.lower()
    if text.strip() and "/" not in text:
        assert names.key(f"vendor/{text}") == key
