"""Embeddings at every vendor: what we send is what the vendor's own SDK sends, and its answer is what that SDK reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
import cohere
import httpx
import openai
import pytest
from google import genai
from google.genai import types
from google.oauth2 import credentials as google_credentials

from tieline.simulator import SimulatorServer
from tieline.simulator.text import count_tokens
from tieline.simulator.vectors import embed

from .conftest import CLOUDS, Served, environment, serving
from .test_the_simulator import google_token

TEXTS = ["a steady harbour", "a narrow window"]
CONFIG = (
    CLOUDS
    + """
  google: {base_url: "${SIM}/gemini", api_key: g-key}
"""
)

Ask = Callable[[SimulatorServer, str, list[str], int, str], list[list[float]]]


def of_google(
    simulator: SimulatorServer, model: str, texts: list[str], size: int, token: str
) -> list[list[float]]:
    http = types.HttpOptions(base_url=f"{simulator.url}/gemini")
    return _of_genai(genai.Client(api_key="g-key", http_options=http), model, texts, size)


def of_vertex(
    simulator: SimulatorServer, model: str, texts: list[str], size: int, token: str
) -> list[list[float]]:
    client = genai.Client(
        vertexai=True,
        project="simulated-project",
        location="global",
        credentials=google_credentials.Credentials(token),  # type: ignore[no-untyped-call]
        http_options=types.HttpOptions(base_url=f"{simulator.url}/vertex"),
    )
    return _of_genai(client, model, texts, size)


def _of_genai(client: genai.Client, model: str, texts: list[str], size: int) -> list[list[float]]:
    settings = types.EmbedContentConfig(task_type="RETRIEVAL_QUERY", output_dimensionality=size)
    made = client.models.embed_content(model=model, contents=texts, config=settings)
    client.close()
    return [list(one.values or []) for one in made.embeddings or []]


def of_cohere(
    simulator: SimulatorServer, model: str, texts: list[str], size: int, token: str
) -> list[list[float]]:
    with httpx.Client() as http:
        client = cohere.ClientV2(api_key="cohere-key", base_url=f"{simulator.url}/cohere", httpx_client=http)
        made = client.embed(
            model=model,
            texts=texts,
            input_type="search_query",
            embedding_types=["float"],
            output_dimension=size,
        )
    assert made.meta is not None
    assert made.meta.billed_units is not None
    assert made.meta.billed_units.input_tokens == sum(map(count_tokens, texts))
    return made.embeddings.float_ or []


def of_bedrock(
    simulator: SimulatorServer, model: str, texts: list[str], size: int, token: str
) -> list[list[float]]:
    client = botocore.session.get_session().create_client(
        "bedrock-runtime",
        region_name="eu-west-1",
        endpoint_url=f"{simulator.url}/bedrock@eu-west-1",
        aws_access_key_id="AKIASIMULATED",
        aws_secret_access_key="simulated-secret",
    )

    def invoke(body: dict[str, Any]) -> Any:
        return json.loads(client.invoke_model(modelId=model, body=json.dumps(body))["body"].read())

    if "titan" in model:
        return [invoke({"inputText": text, "dimensions": size})["embedding"] for text in texts]
    asked = {"texts": texts, "input_type": "search_query", "embedding_types": ["float"]}
    return invoke(asked | {"output_dimension": size})["embeddings"]["float"]  # type: ignore[no-any-return]


VENDORS: dict[str, tuple[Ask, str]] = {
    "google": (of_google, "google/gemini-embedding-001"),
    "vertex": (of_vertex, "vertex/gemini-embedding-001"),
    "vertex-predict": (of_vertex, "vertex/text-embedding-005"),
    "cohere": (of_cohere, "cohere/embed-v4.0"),
    "titan": (of_bedrock, "bedrock@eu-west-1/amazon.titan-embed-text-v2:0"),
    "bedrock-cohere": (of_bedrock, "bedrock@eu-west-1/cohere.embed-v4:0"),
}


def alike(body: Any) -> Any:
    """Without what only says again what is so: who speaks."""
    if isinstance(body, dict):
        return {key: alike(value) for key, value in body.items() if (key, value) != ("role", "user")}
    return [alike(one) for one in body] if isinstance(body, list) else body


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("vendor", VENDORS)
async def test_as_the_vendors_own_sdk_asks(
    simulator: SimulatorServer, tmp_path: Path, vendor: str, count: int
) -> None:
    ask, model = VENDORS[vendor]
    texts, size = TEXTS[:count], 256
    token = await google_token(simulator)
    theirs = await asyncio.to_thread(ask, simulator, model.partition("/")[2], texts, size, token)
    sent_by_them = [entry.body for entry in simulator.log]
    asks: dict[str, Any] = {"dimensions": size}
    if vendor != "titan":  # it makes one kind of vector and says so
        asks["extra_body"] = {"input_type": "search_query"}
    async with serving(simulator, environment(simulator, tmp_path), CONFIG) as served:
        made = await of_openai(served, model, texts, **asks)
        record = served.gateway
        assert record is not None
    assert [one.embedding for one in made.data] == [pytest.approx(one, abs=1e-6) for one in theirs]
    assert [one.embedding for one in made.data] == [
        pytest.approx(embed(text, size), abs=1e-6) for text in texts
    ]
    sent_by_us = [entry.body for entry in simulator.log][len(sent_by_them) :]
    assert [alike(body) for body in sent_by_us] == [alike(body) for body in sent_by_them]
    assert made.usage.prompt_tokens == sum(map(count_tokens, texts))


async def of_openai(served: Served, model: str, texts: list[str], **asks: Any) -> Any:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="k", max_retries=0) as client:
        return await client.embeddings.create(model=model, input=texts, **asks)


@pytest.mark.parametrize(
    "model", ["vertex/gemini-embedding-001", "vertex/text-embedding-005", "google/gemini-embedding-001"]
)
async def test_a_gemini_caller_reaches_vertex(simulator: SimulatorServer, tmp_path: Path, model: str) -> None:
    """Also with a task that only Gemini knows; whatever way Vertex embeds, the caller gets Gemini's answer."""
    async with serving(simulator, environment(simulator, tmp_path), CONFIG) as served:

        def ask() -> Any:
            client = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=served.url))
            settings = types.EmbedContentConfig(task_type="SEMANTIC_SIMILARITY", output_dimensionality=8)
            made = client.models.embed_content(model=model, contents=TEXTS, config=settings)
            client.close()
            return made

        made = await asyncio.to_thread(ask)
    assert [one.values for one in made.embeddings] == [
        pytest.approx(embed(text, 8), abs=1e-6) for text in TEXTS
    ]
    assert "SEMANTIC_SIMILARITY" in json.dumps(simulator.log[-1].body)


@pytest.mark.parametrize("provider", ["azure", "azure-deployments"])
async def test_azure_deployments_embed(simulator: SimulatorServer, tmp_path: Path, provider: str) -> None:
    text = CLOUDS.replace("chat-prod: gpt-4o,", "chat-prod: gpt-4o, vectors: text-embedding-3-small,")
    async with serving(simulator, environment(simulator, tmp_path), text) as served:
        made = await of_openai(served, f"{provider}/vectors", TEXTS)
    assert [one.embedding for one in made.data] == [pytest.approx(embed(one), abs=1e-6) for one in TEXTS]
    client = openai.AsyncAzureOpenAI(
        azure_endpoint=f"{simulator.url}/azure", api_version="2024-10-21", api_key="azure-key", max_retries=0
    )
    async with client:
        theirs = await client.embeddings.create(model="vectors", input=TEXTS)
    assert [one.embedding for one in theirs.data] == [one.embedding for one in made.data]


async def test_bedrocks_header_is_the_usage(served: Served) -> None:
    """Cohere's answers on Bedrock count nothing; AWS does, in a header."""
    made = await of_openai(served, "bedrock@eu-west-1/cohere.embed-english-v3", TEXTS)
    assert made.usage.prompt_tokens == sum(map(count_tokens, TEXTS))
