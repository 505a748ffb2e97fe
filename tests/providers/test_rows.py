from __future__ import annotations

import re
from datetime import date
from urllib.parse import urlsplit

import pytest

from tieline.config.load import parse
from tieline.dialects.base import Quirks
from tieline.providers import registry
from tieline.providers.row import DataPolicy, Provider
from tieline.providers.rows import ROWS, local, routers
from tieline.types.errors import ConfigError

NAMED_IN_A2 = [
    "openai",
    "anthropic",
    "google",
    "vertex",
    "bedrock",
    "azure",
    "deepseek",
    "qwen",
    "qwen-cn",
    "mistral",
    "cohere",
    "ai21",
    "xai",
    "groq",
    "together",
    "fireworks",
    "cerebras",
    "sambanova",
    "perplexity",
    "openrouter",
    "moonshot",
    "zhipu",
    "minimax",
    "nvidia",
    "deepinfra",
    "nebius",
    "hyperbolic",
    "novita",
    "siliconflow",
    "huggingface",
    "github",
    "databricks",
    "cloudflare",
    "vercel",
    "scaleway",
    "ovhcloud",
    "ionos",
    "ollama",
    "lmstudio",
    "vllm",
    "sglang",
    "llamacpp",
    "tgi",
]

DIALECTS = {"openai_chat", "openai_responses", "anthropic_messages", "gemini", "bedrock_converse", "cohere"}
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def test_there_are_enough() -> None:
    assert len(ROWS) >= 45
    assert set(NAMED_IN_A2) <= {row.name for row in ROWS}
    assert len({row.name for row in ROWS}) == len(ROWS)


@every_row
def test_addresses(row: Provider) -> None:
    assert registry.NAME.match(row.name)
    assert row.endpoints
    assert set(row.endpoints) <= DIALECTS
    for url in row.endpoints.values():
        parts = urlsplit(re.sub(r"\{\w+\}", "x", url))
        assert parts.hostname
        assert parts.scheme == ("http" if row in local.ROWS else "https")
        assert not parts.query
        assert not url.endswith("/")
        assert set(re.findall(r"\{(\w+)\}", url)) <= set(row.params_env)
    assert set(re.findall(r"\{(\w+)\}", row.quirks.path)) <= {*row.params_env, "model", "method"}
    assert row.docs
    assert row.docs.startswith("https://")


@every_row
def test_credential_names(row: Provider) -> None:
    for name in (*row.env, *" ".join(row.params_env.values()).split(), row.base_url_env or "X"):
        assert re.fullmatch(r"[A-Z0-9][A-Z0-9_]*", name)
    if row.auth in ("bearer", "x-api-key", "x-goog-api-key", "api-key"):
        assert row.env
    if row.auth == "none":
        assert row.base_url_env


@every_row
def test_every_policy_claim_has_source_and_date(row: Provider) -> None:
    if row in local.ROWS:
        assert row.policy == DataPolicy(jurisdictions=("local",), retention_days=0, trains=False)
        return
    policy = row.policy
    claims = (policy.jurisdictions, policy.retention_days, policy.trains)
    if any(claim is not None for claim in claims):
        assert policy.source
    else:
        assert policy.note, "an unknown policy says what was looked for"
    if policy.source:
        assert policy.source.startswith("https://")
        read = date.fromisoformat(policy.date or "")
        assert read <= date.today()
        assert policy.page_date is None or date.fromisoformat(policy.page_date) <= read


def test_who_passes_prompts_on_makes_no_claim_for_others() -> None:
    for row in routers.ROWS:
        assert (row.policy.jurisdictions, row.policy.retention_days, row.policy.trains) == (None, None, None)


def test_enough_policies_were_read() -> None:
    read = [row.name for row in ROWS if row not in local.ROWS and row.policy.source]
    assert len(read) >= 35


def test_no_key_is_tried_at_two_hosts() -> None:
    names = [name for row in ROWS if not row.name.startswith("azure") for name in row.env]
    assert len(names) == len(set(names))


def test_quirk_patterns_compile() -> None:
    for row in ROWS:
        re.compile(row.quirks.tool_id_pattern)


# the registry ---------------------------------------------------------------------------------------------------------


def test_a_custom_provider_is_five_lines() -> None:
    text = """
providers:
  acme:
    base_url: https://llm.acme.example/v1/
    api_key: sk-1
"""
    assert len(text.strip().splitlines()) <= 5
    row = registry.resolve("acme", parse(text, {}).config.providers["acme"])
    assert row.endpoints == {"openai_chat": "https://llm.acme.example/v1"}
    assert row.auth == "bearer"
    assert row.policy == DataPolicy()


def change(name: str, text: str) -> Provider:
    return registry.resolve(name, parse(f"providers: {{'{name}': {text}}}", {}).config.providers[name])


def test_a_custom_provider_may_speak_another_dialect() -> None:
    row = change("acme", "{base_url: 'https://x', dialect: anthropic_messages, api_key: k}")
    assert (row.endpoints, row.auth) == ({"anthropic_messages": "https://x"}, "x-api-key")
    assert change("acme", "{base_url: 'https://x'}").auth == "none"


def test_a_known_provider_is_changed() -> None:
    row = change(
        "groq", "{headers: {a: b}, quirks: {max_stop: 1}, no_training: true, zero_retention: true, edge: e}"
    )
    assert row.headers == {"a": "b"}
    assert row.quirks.max_stop == 1
    assert row.quirks.reasoning_field == "reasoning"
    assert (row.policy.trains, row.policy.retention_days, row.edge) == (False, 0, "e")


def test_what_the_vendor_says_does_not_hold_elsewhere() -> None:
    assert change("openai", "{base_url: 'https://proxy.example/v1'}").policy == DataPolicy()
    assert change("openai", "{base_url: 'http://127.0.0.1:9/v1'}").policy.jurisdictions == ("local",)
    assert change(
        "openai", "{base_url: 'https://proxy.example/v1', jurisdictions: [DE]}"
    ).policy.jurisdictions == ("DE",)


def test_one_more_region() -> None:
    row = registry.get("bedrock@eu-west-1")
    assert row is not None
    assert row.params["region"] == "eu-west-1"
    assert registry.get("openai@x") is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("opnai", "{}", "unknown provider `opnai`; did you mean `openai`?"),
        ("acme", "{}", "a new provider needs `base_url`"),
        ("A b", "{base_url: 'https://x'}", "is no provider name"),
        ("groq", "{dialect: gemini}", "is known to speak openai_chat, not gemini"),
        ("groq", "{quirks: {max_stp: 1}}", "did you mean `max_stop`?"),
        ("groq", "{quirks: {max_stop: many}}", "Expected `int`"),
    ],
)
def test_what_is_refused(name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        change(name, text)
    assert said in str(caught.value)
    assert (caught.value.place or "").startswith(f"providers.{name}")


def test_quirks_of_the_seam_are_all_settable() -> None:
    assert {"max_tokens_field", "path"} <= set(Quirks.__struct_fields__)
