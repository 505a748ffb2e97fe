"""Regions, deployments, versions, profiles: what is named wrongly is said clearly, in each caller's dialect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google.genai import errors as gemini_errors

from tieline.config.load import parse
from tieline.dialects import get_upstream
from tieline.gateway import Gateway
from tieline.providers import build, catalog
from tieline.simulator import SimulatorServer
from tieline.types.errors import ConfigError
from tieline.types.request import Message, Request, Text

from .callers import CALLERS, ask_anthropic, ask_chat
from .conftest import CLOUDS, Served, environment, serving

ERRORS = (openai.APIStatusError, anthropic.APIStatusError, gemini_errors.APIError)


async def told(served: Served, caller: str, model: str, feature: str = "text") -> tuple[int, str]:
    with pytest.raises(ERRORS) as caught:
        await CALLERS[caller](served.url, model, feature)
    error: Any = caught.value
    return getattr(error, "status_code", None) or error.code, str(error.message)


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_model_that_the_region_has_not(served: Served, caller: str) -> None:
    status, said = await told(served, caller, "bedrock@eu-west-1/us.amazon.nova-lite-v1:0")
    assert status == 404
    assert "bedrock@eu-west-1: The provided model identifier is invalid." in said
    assert "may not be offered in eu-west-1" in said


async def test_a_model_that_wants_an_inference_profile(served: Served) -> None:
    model = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    status, said = await told(served, "openai_chat", f"bedrock@eu-west-1/{model}")
    assert status == 404
    assert f"Ask for an inference profile: `eu.{model}` or `global.{model}`." in said
    assert (await ask_chat(served.url, f"bedrock@eu-west-1/global.{model}", "text")).text


async def test_signed_for_another_region(simulator: SimulatorServer, tmp_path: Path) -> None:
    """The address is of one region, the signature of the one that was set."""
    text = CLOUDS.replace(
        'bedrock@eu-west-1: {base_url: "${SIM}/bedrock@eu-west-1"}',
        'bedrock: {base_url: "${SIM}/bedrock@eu-west-1"}',
    )
    environ = environment(simulator, tmp_path) | {"AWS_REGION": "us-west-2"}
    async with serving(simulator, environ, text) as served:
        status, said = await told(served, "anthropic_messages", "bedrock/amazon.nova-lite-v1:0")
        assert status == 502
        assert "Credential should be scoped to a valid region." in said
        assert "signed for us-west-2" in said
        assert "set AWS_REGION" in said
    async with serving(simulator, environ | {"AWS_REGION": "eu-west-1"}, text) as served:
        assert (await ask_anthropic(served.url, "bedrock/amazon.nova-lite-v1:0", "stream")).text


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_vertex_location_without_the_model(
    simulator: SimulatorServer, tmp_path: Path, caller: str
) -> None:
    environ = environment(simulator, tmp_path) | {"GOOGLE_CLOUD_LOCATION": "asia-south1"}
    async with serving(simulator, environ) as served:
        status, said = await told(served, caller, "vertex/gemini-2.5-flash", "stream")
    assert status == 404
    assert "vertex: Publisher Model `projects/simulated-project/locations/asia-south1/" in said
    assert "may not be offered in asia-south1" in said
    assert "vertex@LOCATION" in said


async def test_one_more_location(simulator: SimulatorServer, tmp_path: Path) -> None:
    text = CLOUDS + '  vertex@europe-west1: {base_url: "${SIM}/vertex"}\n'
    async with serving(simulator, environment(simulator, tmp_path), text) as served:
        assert (await ask_chat(served.url, "vertex@europe-west1/gemini-2.5-flash", "stream")).text


@pytest.mark.parametrize("provider", ["azure", "azure-deployments"])
@pytest.mark.parametrize("caller", CALLERS)
async def test_an_unknown_deployment(served: Served, caller: str, provider: str) -> None:
    served.clouds.azure_deployments = {"chat-prod": "gpt-4o"}
    status, said = await told(served, caller, f"{provider}/not-there", "stream")
    assert status == 404
    assert f"{provider}: The API deployment for this resource does not exist." in said
    assert f"providers.{provider}.models as `deployment: model`" in said


async def test_a_deployment_nobody_configured(served: Served) -> None:
    status, said = await told(served, "openai_chat", "azure/surprise")
    assert status == 404
    assert "add it to providers.azure.models" in said


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_wrong_api_version(simulator: SimulatorServer, tmp_path: Path, caller: str) -> None:
    environ = environment(simulator, tmp_path) | {"AZURE_OPENAI_API_VERSION": "2023-01-01"}
    async with serving(simulator, environ) as served:
        status, said = await told(served, caller, "azure-deployments/chat-prod")
        assert status == 404
        assert "azure-deployments: API version not supported. Set AZURE_OPENAI_API_VERSION" in said
        assert (await ask_chat(served.url, "azure/chat-prod", "text")).text  # the v1 API needs none


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("provider", ["azure", "azure-deployments"])
async def test_azures_content_filter(served: Served, caller: str, provider: str) -> None:
    status, said = await told(served, caller, f"{provider}/sim-fail-filter")
    assert status == 400
    assert "content management policy" in said


async def test_azures_first_chunk_is_no_answer(served: Served) -> None:
    """``prompt_filter_results`` without choices comes first (WIRE_FACTS 4), and passes through to OpenAI's own callers."""
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="k", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="azure/chat-prod", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[0].choices == []
    assert chunks[0].model_extra is not None
    assert "prompt_filter_results" in chunks[0].model_extra
    assert chunks[-1].choices[0].finish_reason == "stop"


# Vertex and Claude ----------------------------------------------------------------------------------------------------------


async def test_betas_are_filtered(served: Served) -> None:
    """Claude Code sends betas that Vertex answers with 400 (WIRE_FACTS 26); what it takes goes on."""
    async with anthropic.AsyncAnthropic(base_url=served.url, api_key="k", max_retries=0) as client:
        whole = await client.beta.messages.create(
            model="vertex-anthropic/claude-sonnet-4-6",
            max_tokens=100,
            messages=[{"role": "user", "content": "Hi"}],
            betas=[
                "context-1m-2025-08-07",
                "web-search-2025-03-05",
                "effort-2025-11-24",
                "files-api-2025-04-14",
            ],
        )
    assert whole.stop_reason == "end_turn"
    body = served.simulator.log[0].body
    assert body["anthropic_version"] == "vertex-2023-10-16"
    assert "model" not in body


async def test_tokens_are_counted_on_vertex(served: Served) -> None:
    async with anthropic.AsyncAnthropic(base_url=served.url, api_key="k", max_retries=0) as client:
        counted = await client.messages.count_tokens(
            model="vertex-anthropic/claude-sonnet-4-6", messages=[{"role": "user", "content": "Hi there"}]
        )
    assert counted.input_tokens > 0
    (entry,) = served.simulator.log
    assert (entry.status, entry.model) == (200, "claude-sonnet-4-6")


@pytest.mark.parametrize(
    "provider", ["vertex", "vertex-anthropic", "azure-deployments@res", "bedrock@eu-west-1"]
)
def test_a_name_cannot_leave_its_place_in_the_path(provider: str) -> None:
    """Callers may name any model at a provider: what they write stays one segment of the address."""
    made = fleet(
        f"discover: false\nproviders: {{'{provider}': {{api_key: k}}}}", {"GOOGLE_CLOUD_PROJECT": "p"}
    )
    (endpoint,) = made.find(f"{provider}/x:predict?a=b#c/../../google/models/y").endpoints.values()
    request = Request(model="x", messages=[Message(role="user", parts=[Text(text="Hi")])])
    path = get_upstream(endpoint.target.dialect).encode_request(request, endpoint.target).path
    assert "#" not in path
    assert "/.." not in path
    assert path.partition("?")[2] in ("", "api-version=2024-10-21")
    assert "a=b" not in path.partition("?")[2]


# configuration --------------------------------------------------------------------------------------------------------------


def fleet(text: str, environ: dict[str, str]) -> build.Fleet:
    return build.build(parse(text, environ).config, environ, catalog.packaged())


AWS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        ("bedrock: {}", AWS, "providers.bedrock: its region is not known. Set AWS_REGION"),
        ("bedrock: {}", AWS | {"AWS_REGION": "Ireland"}, "`Ireland` is no region: AWS regions look like eu-west-1. Set AWS_REGION or AWS_DEFAULT_REGION, or name the provider `bedrock@REGION`."),
        ("bedrock@ireland: {}", AWS, "providers.bedrock@ireland: `ireland` is no region"),
        ("vertex: {api_key: t}", {"GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": "Belgium"}, "`Belgium` is no location: Vertex locations look like europe-west1"),
        ("vertex: {api_key: t}", {}, "providers.vertex: its project is not known. Set GOOGLE_VERTEX_PROJECT"),
        ("vertex: {}", {}, "providers.vertex: no credential."),
        ("azure: {api_key: k}", {}, "providers.azure: its resource is not known. Set AZURE_OPENAI_RESOURCE"),
    ],
)  # fmt: skip
def test_what_start_refuses(text: str, environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Gateway(parse(f"discover: false\nproviders: {{{text}}}", environ).config, environ=environ)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("vertex@global", "https://aiplatform.googleapis.com"),
        ("vertex@us", "https://aiplatform.us.rep.googleapis.com"),
        ("vertex@eu", "https://aiplatform.eu.rep.googleapis.com"),
        ("vertex@europe-west4", "https://europe-west4-aiplatform.googleapis.com"),
        ("bedrock@eu-central-1", "https://bedrock-runtime.eu-central-1.amazonaws.com"),
        ("azure@my-resource", "https://my-resource.openai.azure.com/openai/v1"),
    ],
)
def test_addresses(name: str, url: str) -> None:
    made = fleet(f"discover: false\nproviders: {{{name}: {{api_key: k}}}}", {"GOOGLE_CLOUD_PROJECT": "p"})
    assert next(iter(made.hosts[name].provider.endpoints.values())) == url


def test_a_deployment_has_its_models_name_and_price() -> None:
    text = """
discover: false
providers:
  azure@res: {api_key: k, models: {chat-prod: gpt-4o, gpt-4.1: gpt-4o-mini}}
  azure-deployments@res: {api_key: k, models: [gpt-4o]}
"""
    made = fleet(text, {})
    prod = made.find("azure@res/chat-prod")
    assert (prod.name, prod.model) == ("gpt-4o", "chat-prod")
    assert prod.card is not None
    assert prod.card.price is not None
    assert {one.id for one in made.by_name("gpt-4o")} == {
        "azure@res/chat-prod",
        "azure-deployments@res/gpt-4o",
    }
    assert {one.id for one in made.by_name("gpt-4o-mini")} == {"azure@res/gpt-4.1"}
    assert made.by_name("gpt-4.1") == []


def test_every_deployment_of_a_model_may_be_chosen() -> None:
    """Two of one model have two quotas, and may be in two regions: none is dropped for the other."""
    made = fleet(
        "discover: false\nproviders: {azure@res: {api_key: k, models: {prod: gpt-4o, spare: gpt-4o, small: gpt-4o-mini}}}",
        {},
    )
    ids = {"azure@res/prod", "azure@res/spare", "azure@res/small"}
    assert {one.id for one in made.all()} == ids
    assert {one.id for one in made.by_name("gpt-4o")} == ids - {"azure@res/small"}
    assert {one.id for one in made.rated() if one.name == "gpt-4o"} <= ids


async def test_a_model_name_finds_the_deployment(served: Served) -> None:
    """A caller asks for the model; which deployment that is, is the configuration's business."""
    served.clouds.azure_deployments = {
        "chat-prod": "gpt-4o",
        "not-there": "gpt-4o",
        "sim-fail-filter": "gpt-4o",
    }
    async with httpx2.AsyncClient() as client:
        answer = await client.post(
            f"{served.url}/v1/chat/completions",
            json={"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]},
        )
    assert answer.status_code == 200
    assert answer.headers["tieline-provider"].startswith("azure")
    assert answer.headers["tieline-cost-usd"] not in ("unknown", "0")


def test_five_lines_point_a_cloud_elsewhere() -> None:
    """The scheme stays: a private endpoint of Vertex still wants Google's tokens, a VPC endpoint AWS' signatures."""
    text = """providers:
  bedrock@eu-west-1:
    base_url: https://vpce-1.bedrock-runtime.eu-west-1.vpce.amazonaws.com
  vertex:
    base_url: https://private.example
"""
    assert len(text.strip().splitlines()) == 5
    made = fleet(f"discover: false\n{text}", AWS | {"GOOGLE_CLOUD_PROJECT": "p", "GCE_METADATA_HOST": "h"})
    bedrock, vertex = made.hosts["bedrock@eu-west-1"].provider, made.hosts["vertex"].provider
    assert (bedrock.auth, vertex.auth) == ("sigv4", "google_oauth")
    assert vertex.quirks.path.startswith("/v1/projects/p/locations/global/publishers/google/models/{model}")
