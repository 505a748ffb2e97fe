from __future__ import annotations

import time

import pytest

from tieline.config.load import parse
from tieline.providers import build as building
from tieline.providers.build import Fleet, build
from tieline.providers.catalog import packaged
from tieline.types.errors import ConfigError, UnknownModel


def fleet(text: str = "", environ: dict[str, str] | None = None) -> Fleet:
    environ = environ or {}
    return build(parse(text, environ).config, environ, packaged())


KEYS = {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2", "OPENROUTER_API_KEY": "sk-3"}


def test_keys_in_the_environment_are_enough() -> None:
    made = fleet(environ=KEYS)
    assert list(made.hosts) == ["openai", "anthropic", "openrouter"]
    ids = [deployment.id for deployment in made.by_name("claude-sonnet-4-5")]
    assert ids == ["anthropic/claude-sonnet-4-5", "openrouter/anthropic/claude-sonnet-4.5"]
    deployment = made.find("openai/gpt-5")
    assert deployment.name == "gpt-5"
    assert list(deployment.endpoints) == ["openai_chat", "openai_responses"]
    assert deployment.credentials[0].label == "OPENAI_API_KEY"
    target = deployment.endpoint_for("openai_responses").target
    assert (target.model, target.vision, target.reasoning) == ("gpt-5", True, True)
    assert made.find("openai/gpt-5") is deployment


def test_nothing_found_nothing_built() -> None:
    assert fleet().hosts == {}
    assert fleet("discover: false", KEYS).hosts == {}
    assert list(fleet("discover: false\nproviders: {openai: {}}", KEYS).hosts) == ["openai"]
    assert list(fleet("providers: {openai: {enabled: false}}", KEYS).hosts) == ["anthropic", "openrouter"]


def test_a_pinned_snapshot_is_taken_where_it_is_offered() -> None:
    made = fleet(environ=KEYS)
    assert [item.id for item in made.by_name("claude-sonnet-4-5-20250929")] == [
        "anthropic/claude-sonnet-4-5-20250929",
        "openrouter/anthropic/claude-sonnet-4.5",
    ]
    assert [item.id for item in made.by_name("gpt-5-2025-08-07")] == [
        "openai/gpt-5",
        "openrouter/openai/gpt-5",
    ]
    assert [item.id for item in made.by_name("gpt-4o")] == ["openai/gpt-4o", "openrouter/openai/gpt-4o"]


def test_offers_with_a_catch_only_when_asked_for() -> None:
    made = fleet(environ=KEYS)
    name = "openai/gpt-oss-120b:free"
    assert name in made.ids("openrouter")
    assert "openrouter/openai/gpt-oss-120b" in [item.id for item in made.by_name("gpt-oss-120b")]
    assert f"openrouter/{name}" in [item.id for item in made.by_name(name)]


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("us-east-1", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("eu-central-1", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("ap-northeast-1", "jp.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("ap-southeast-2", "au.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("sa-east-1", "global.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ],
)
def test_bedrock_takes_the_regions_own_profile(region: str, expected: str) -> None:
    made = fleet(environ={"AWS_BEARER_TOKEN_BEDROCK": "k", "AWS_REGION": region})
    (deployment,) = made.by_name("claude-sonnet-4-5")
    assert deployment.model == expected
    assert (
        deployment.endpoints["bedrock_converse"].base_url == f"https://bedrock-runtime.{region}.amazonaws.com"
    )
    assert deployment.provider.edge == f"aws:{region}"


def test_several_regions_side_by_side() -> None:
    text = "providers: {bedrock@eu-west-1: {}, bedrock@us-west-2: {}}"
    made = fleet(text, {"AWS_BEARER_TOKEN_BEDROCK": "k", "AWS_REGION": "us-east-1"})
    assert [item.id.partition(".")[0] for item in made.by_name("claude-sonnet-4-5")] == [
        "bedrock@eu-west-1/eu",
        "bedrock@us-west-2/us",
        "bedrock/us",
    ]


def test_aws_keys_alone_switch_nothing_on() -> None:
    made = fleet(environ={"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
    assert made.hosts == {}
    assert "AWS_REGION" in str(made.problems[0])


def test_vertex_paths() -> None:
    key = '{"type": "service_account", "client_email": "a@b", "private_key": "k", "project_id": "proj"}'
    made = fleet(
        "providers: {vertex: {api_key: '${KEY}'}, vertex@europe-west4: {api_key: '${KEY}'}}", {"KEY": key}
    )
    one = made.find("vertex/gemini-2.5-pro").endpoints["gemini"]
    assert one.base_url == "https://aiplatform.googleapis.com"
    assert one.target.quirks.path == (
        "/v1/projects/proj/locations/global/publishers/google/models/{model}:{method}"
    )
    two = made.find("vertex@europe-west4/gemini-2.5-pro").endpoints["gemini"]
    assert two.base_url == "https://europe-west4-aiplatform.googleapis.com"
    assert made.find("vertex@europe-west4/gemini-2.5-pro").card is not None


def test_azure_lists_nothing_of_its_own_accord() -> None:
    environ = {"AZURE_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com/"}
    made = fleet(environ=environ)
    assert made.by_name("gpt-5") == []
    deployment = made.find("azure/my-gpt-5")
    assert deployment.endpoints["openai_chat"].base_url == "https://res.openai.azure.com/openai/v1"
    assert deployment.provider.edge == "azure"
    classic = made.find("azure-deployments/gpt-4o").endpoints["openai_chat"]
    assert classic.base_url == "https://res.openai.azure.com/openai"
    assert classic.target.quirks.path == "/deployments/{model}/chat/completions?api-version=2024-10-21"
    named = fleet("providers: {azure: {models: [gpt-5]}}", environ)
    assert [item.id for item in named.by_name("gpt-5")] == ["azure/gpt-5"]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:11500", "http://127.0.0.1:11500/v1"),
        ("0.0.0.0", "http://127.0.0.1/v1"),
        ("https://ollama.example/api/", "https://ollama.example/api"),
    ],
)
def test_ollama_host(host: str, url: str) -> None:
    deployment = fleet(environ={"OLLAMA_HOST": host}).find("ollama/anything:7b")
    assert deployment.endpoints["openai_chat"].base_url == url
    assert (deployment.provider.policy.jurisdictions == ("local",)) is url.startswith("http://127")
    assert deployment.credentials[0].headers == ()


def test_a_custom_provider_in_five_lines() -> None:
    text = "providers:\n  acme:\n    base_url: https://llm.acme.example/v1\n    api_key: ${ACME_KEY}\n"
    made = fleet(text, {"ACME_KEY": "k"})
    deployment = made.find("acme/meta-llama/Llama-3.3-70B-Instruct")
    assert deployment.name == "llama-3.3-70b-instruct"
    assert deployment.card is not None
    assert deployment.card.price is None
    assert deployment.card.context is None
    assert made.find("acme/own-model").card is None


def test_configured_models_and_prices() -> None:
    text = """
providers:
  acme:
    base_url: https://x
    models: [Llama-3.3-70B-Instruct, own]
    prices: {own: {input: "0.15", output: "0.6", cache_read: "0.000001"}}
"""
    made = fleet(text)
    assert [item.id for item in made.by_name("llama-3.3-70b-instruct")] == ["acme/Llama-3.3-70B-Instruct"]
    card = made.find("acme/own").card
    assert card is not None
    assert card.price is not None
    assert (card.price.tiers[0].input, card.price.tiers[0].output, card.price.tiers[0].cache_read) == (
        150_000,
        600_000,
        1,
    )
    assert sorted({one.name for one in made.all()}) == ["llama-3.3-70b-instruct", "own"]
    with pytest.raises(UnknownModel, match="configured without"):
        made.find("acme/other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("providers: {groq: {}}", "providers.groq: no credential. Set GROQ_API_KEY"),
        (
            "providers: {bedrock: {api_key: a:b}}",
            "its region is not known. Set AWS_REGION or AWS_DEFAULT_REGION",
        ),
        ("providers: {opnai: {}}", "did you mean `openai`?"),
    ],
)
def test_a_configured_provider_that_cannot_work_is_an_error(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fleet(text)
    assert said in str(caught.value)


def test_configured_prices_of_what_is_billed_beyond_tokens() -> None:
    text = """
providers:
  acme:
    base_url: https://x
    prices:
      all: {input: "1", output: "2", input_audio: "3", cache_read_audio: "0.5", output_image: "30", web_search: "0.01",
            file_search: "0.0025", fast_percent: "200", us_percent: "110"}
      plain: {input: "1", output: "2"}
"""
    made = fleet(text)
    whole, plain = (made.find(f"acme/{name}").card.price for name in ("all", "plain"))  # type: ignore[union-attr]
    assert whole is not None
    assert plain is not None
    assert (whole.tiers[0].cache_read_audio, whole.tiers[0].output_image) == (500_000, 30_000_000)
    assert (whole.web_search, whole.file_search) == (10**10, 25 * 10**8)
    assert (whole.fast_percent, whole.us_percent) == (200, 110)
    assert (plain.web_search, plain.file_search, plain.fast_percent, plain.us_percent) == (None,) * 4


@pytest.mark.parametrize("price", ["{input: '1'}", "{input: '0.0000001', output: '1'}"])
def test_unusable_prices(price: str) -> None:
    made = fleet(f"providers: {{acme: {{base_url: 'https://x', prices: {{m: {price}}}}}}}")
    with pytest.raises(ConfigError, match=r"providers.acme.prices.m"):
        made.find("acme/m")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("opnai/gpt-5", "Did you mean `openai/gpt-5`?"),
        ("zzz/gpt-5", "Add it under `providers`"),
        ("groq/x", "Set GROQ_API_KEY or add `groq`"),
        ("ollama/x", "Set OLLAMA_HOST or add `ollama`"),
        ("nothing", "is not provider/model"),
    ],
)
def test_unknown_says_the_fix(asked: str, said: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        fleet(environ=KEYS).find(asked)
    assert said in caught.value.full_message


def test_invented_names_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "MAX_ON_DEMAND", 5)
    made = fleet(environ=KEYS)
    for number in range(20):
        assert made.find(f"openai/invented-{number}").card is None
    assert len(made._made) == 5


def test_unlisted_models_are_not_proposed_but_can_be_asked_for() -> None:
    made = fleet(environ={"TOGETHER_API_KEY": "k"})
    catalog = packaged()
    hidden = [
        model
        for model in catalog.ids_of("together")
        if (card := catalog.card("together", model)) is not None and card.status == "unlisted"
    ]
    assert hidden
    proposed = {deployment.model for deployment in made.all()}
    assert not proposed.intersection(hidden)
    assert made.find(f"together/{hidden[0]}").card is not None


def test_all_has_each_model_once_at_each_host() -> None:
    made = fleet("providers: {acme: {base_url: 'https://x', models: [own]}}", KEYS)
    pool = list(made.all())
    pairs = [(item.provider.name, item.name) for item in pool]
    assert len(pairs) == len(set(pairs))
    assert ("openai", "gpt-4o") in pairs
    assert ("acme", "own") in pairs
    assert len(pool) < sum(len(list(made.ids(host))) for host in made.hosts), "many have several ids there"
    rated = list(made.rated())
    assert {item.id for item in rated} <= {item.id for item in pool}
    assert rated
    assert all(item.card is not None and item.card.quality for item in rated)


def test_everything_is_quick() -> None:
    environ = {name: "k" for row in building.registry.all_rows() for name in row.env[:1]}
    environ |= {"AWS_REGION": "us-east-1", "CLOUDFLARE_ACCOUNT_ID": "a", "DATABRICKS_HOST": "d"}
    packaged()
    started = time.perf_counter()
    made = fleet(environ=environ)
    ready = time.perf_counter() - started
    started = time.perf_counter()
    made.by_name("claude-sonnet-4-5")
    first = time.perf_counter() - started
    assert len(made.hosts) > 60
    assert ready < 0.25  # about 4 ms on an idle core; this machine is shared
    assert first < 0.25
    everything = list(made.all())
    assert len(everything) > 2000
    assert len({item.id for item in everything}) == len(everything)


def test_what_would_set_up_a_model() -> None:
    made = fleet("", {"OPENROUTER_API_KEY": "sk-x"})
    names = made.variables("gpt-5-mini")
    assert names[0] == "OPENAI_API_KEY"
    assert "OPENROUTER_API_KEY" not in names
    assert len(names) == len(set(names))
    assert made.variables("claude-haiku-4-5-20251001")[0] == "ANTHROPIC_API_KEY"
    assert made.variables("no-such-model") == []
