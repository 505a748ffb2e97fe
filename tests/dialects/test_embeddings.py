"""Embeddings through every kind of provider; answers parse with the official SDK."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import openai
import pytest
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.wire import call, serving, target
from tieline.dialects import embeddings
from tieline.dialects.base import Garbled, StreamFault, Target
from tieline.dialects.embeddings import Embeddings, EmbeddingsRequest
from tieline.types.errors import InvalidRequest, Unsupported
from tieline.types.usage import Usage


def decoded(**body: Any) -> EmbeddingsRequest:
    incoming = call("openai_chat", {"model": "e", **body}, operation="embeddings")
    return embeddings.decode_request(incoming, embeddings.peek(incoming))


def sent(request: EmbeddingsRequest, where: Target) -> list[tuple[str, Any]]:
    return [(out.path, json.loads(out.body)) for out in embeddings.encode_request(request, where)]


TITAN = target("bedrock_converse", "amazon.titan-embed-text-v2:0")


def test_input_forms() -> None:
    assert decoded(input="a").texts == ["a"]
    assert decoded(input=["a", "b"]).texts == ["a", "b"]
    assert decoded(input=[1, 2]).tokens == [[1, 2]]
    assert decoded(input=[[1], [2]]).tokens == [[1], [2]]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": 3}, "input"),
        ({"input": ["a", 3]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "model": 3}, "model"),
    ],
)
def test_bad_input_names_its_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decoded(**body)
    assert caught.value.param == param


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_answers_parse_with_the_official_sdk(encoding: Any) -> None:
    made = Embeddings(vectors=[[0.5, -0.25], [1.0, 2.0]], usage=Usage(input_tokens=7))
    raw = embeddings.encode_response(made, decoded(input=["a", "b"], encoding_format=encoding), "e")
    http, _ = serving(raw, media_type="application/json")
    client = openai.OpenAI(api_key="k", base_url="http://sdk.test/v1", http_client=http)
    parsed = client.embeddings.create(model="e", input=["a", "b"], encoding_format=encoding)
    got = parsed.data[0].embedding
    if isinstance(got, str):  # asked for base64 by name, the SDK leaves it to the caller
        got = list(struct.unpack("<2f", base64.b64decode(got)))
    assert got == [0.5, -0.25]
    assert parsed.usage.prompt_tokens == 7
    assert embeddings.decode_responses([raw], target("openai_chat")) == made


def test_wire_25_forward_changes_the_model_only() -> None:
    body = {"model": "a", "input": "Hi", "brand_new": 1, "tieline": {"profile": "p"}}
    peek = embeddings.peek(call("openai_chat", body))
    assert peek.options == {"profile": "p"}
    out = embeddings.forward(peek, target("openai_chat", "b"))
    assert (out.path, json.loads(out.body)) == ("/embeddings", {"model": "b", "input": "Hi", "brand_new": 1})


def test_gemini() -> None:
    where = target("gemini", "gemini-embedding-001")
    made = sent(decoded(input=["a"] * 150, dimensions=256, input_type="search_query"), where)
    assert [len(body["requests"]) for _, body in made] == [100, 50]
    assert made[0][0] == "/v1beta/models/gemini-embedding-001:batchEmbedContents"
    one = made[0][1]["requests"][0]
    assert (one["taskType"], one["outputDimensionality"]) == ("RETRIEVAL_QUERY", 256)
    types.Content.model_validate(one["content"])
    bodies = [b'{"embeddings":[{"values":[1.0,2]}]}', b'{"embeddings":[{"values":[3.0]}]}']
    assert embeddings.decode_responses(bodies, where) == Embeddings(vectors=[[1.0, 2], [3.0]], usage=None)


def test_cohere() -> None:
    import cohere
    import httpx

    where = target("cohere", "embed-v4.0")
    made = sent(decoded(input=["a"] * 100, dimensions=256), where)
    assert [(path, len(body["texts"])) for path, body in made] == [("/v2/embed", 96), ("/v2/embed", 4)]
    answer = b'{"id":"x","embeddings":{"float":[[1.0,2.0]]},"meta":{"billed_units":{"input_tokens":3}}}'
    seen: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=answer, headers={"content-type": "application/json"})

    client = cohere.ClientV2(api_key="k", httpx_client=httpx.Client(transport=httpx.MockTransport(serve)))
    client.embed(**made[1][1])
    assert json.loads(seen[0].content) == made[1][1]
    assert embeddings.decode_responses([answer], where) == Embeddings(
        vectors=[[1.0, 2.0]], usage=Usage(input_tokens=3)
    )


def test_bedrock_titan_takes_one_text_at_a_time() -> None:
    made = sent(decoded(input=["a", "b"], dimensions=512), TITAN)
    assert made == [
        ("/model/amazon.titan-embed-text-v2%3A0/invoke", {"inputText": "a", "dimensions": 512}),
        ("/model/amazon.titan-embed-text-v2%3A0/invoke", {"inputText": "b", "dimensions": 512}),
    ]
    bodies = [b'{"embedding":[1.0],"inputTextTokenCount":2}', b'{"embedding":[2.0],"inputTextTokenCount":3}']
    assert embeddings.decode_responses(bodies, TITAN) == Embeddings(
        vectors=[[1.0], [2.0]], usage=Usage(input_tokens=5)
    )


def test_bedrock_cohere() -> None:
    where = target("bedrock_converse", "cohere.embed-english-v3")
    ((path, body),) = sent(decoded(input=["a"], input_type="clustering"), where)
    assert path == "/model/cohere.embed-english-v3/invoke"
    assert body == {"texts": ["a"], "input_type": "clustering", "embedding_types": ["float"]}
    assert embeddings.decode_responses([b'{"embeddings":[[1.0]]}'], where).vectors == [[1.0]]


@pytest.mark.parametrize(
    ("body", "where", "param"),
    [
        ({"input": [1, 2]}, TITAN, "input"),
        ({"input": "a", "brand_new": 1}, target("cohere", "e"), "brand_new"),
        ({"input": "a", "input_type": "x"}, target("cohere", "e"), "input_type"),
        ({"input": "a", "input_type": "clustering"}, TITAN, "input_type"),
        (
            {"input": "a", "dimensions": 5},
            target("bedrock_converse", "amazon.titan-embed-text-v1"),
            "dimensions",
        ),
        (
            {"input": "a", "dimensions": 5},
            target("bedrock_converse", "cohere.embed-english-v3"),
            "dimensions",
        ),
        ({"input": "a"}, target("bedrock_converse", "anthropic.claude"), "model"),
        ({"input": "a"}, target("anthropic_messages", "claude"), "model"),
    ],
)
def test_what_it_cannot_do_is_named(body: dict[str, Any], where: Target, param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        sent(decoded(**body), where)
    assert caught.value.param == param


def test_wire_9_an_error_inside_a_200() -> None:
    with pytest.raises(StreamFault):
        embeddings.decode_responses([b'{"error":{"message":"no"}}'], target("openai_chat"))


NAMES = ["data", "embedding", "embeddings", "values", "float", "usage", "meta", "billed_units", "index"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(JSON, st.sampled_from(["openai_chat", "gemini", "cohere", "bedrock_converse"]))
def test_answers_of_any_shape_raise_nothing_else(body: Any, dialect: str) -> None:
    try:
        embeddings.decode_responses([json.dumps(body).encode()], target(dialect))
    except (Garbled, StreamFault):
        pass
