"""Counting tokens, embeddings, legacy completions and the list of models, through a running gateway with official SDKs."""

from __future__ import annotations

import json
from time import monotonic
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types
from msgspec.structs import replace

from tests.conformance.vendor_types import problems
from tests.conformance.world import HOSTS, World, providers
from tests.features.asking import PROMPT, chat, contents, messages, post, record_of
from tests.features.conftest import Start
from tieline.config.schema import Config, ModelConfig
from tieline.dialects import get
from tieline.simulator.text import count_tokens, expected_text
from tieline.simulator.vectors import embed
from tieline.types.call import Call

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def claude(world: World) -> Any:
    with anthropic.Anthropic(base_url=world.url, api_key="caller", max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def gpt(world: World) -> Any:
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="caller", max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def google(world: World) -> Any:
    sdk = genai.Client(api_key="caller", http_options=types.HttpOptions(base_url=world.url))
    yield sdk
    sdk.close()


# count_tokens ---------------------------------------------------------------------------------------------------------


def test_count_tokens_asks_an_upstream_of_the_same_dialect(world: World, claude: Any) -> None:
    world.begin()
    turns = [{"role": "user", "content": PROMPT}]
    raw = claude.messages.with_raw_response.count_tokens(model="claude/claude-sim", messages=turns)
    assert raw.parse().input_tokens == world.upstream()[-1].input_tokens or raw.parse().input_tokens > 0
    assert "tieline-estimated" not in raw.headers
    assert raw.headers["tieline-provider"] == "claude"


@pytest.mark.parametrize("host", [host.name for host in HOSTS if host.name != "claude"])
def test_count_tokens_is_an_estimate_elsewhere(world: World, claude: Any, host: str) -> None:
    world.begin()
    turns = [{"role": "user", "content": "word " * 400}]
    raw = claude.messages.with_raw_response.count_tokens(model=f"{host}/sim-echo", messages=turns)
    assert raw.headers["tieline-estimated"] == "true"
    assert 300 < raw.parse().input_tokens < 700
    assert not world.upstream(), "an estimate asks nobody"


def test_count_tokens_of_gemini(world: World, google: Any) -> None:
    world.begin()
    assert google.models.count_tokens(model="gemini/sim-echo", contents=PROMPT).total_tokens > 0
    assert len(world.upstream()) == 1
    assert google.models.count_tokens(model="claude/sim-echo", contents=PROMPT).total_tokens > 0
    assert len(world.upstream()) == 1


def test_count_tokens_is_never_billed_and_never_fails_for_the_providers_sake(world: World) -> None:
    for model in ("claude/claude-sim", "claude-down/sim-fail-503", "chat/sim-echo"):
        body = {"model": model, "messages": messages(model)["messages"]}
        heard = post(world, "/v1/messages/count_tokens", body)
        assert heard.status == 200, heard.text
        record = record_of(world, heard)
        assert (record.operation, record.cost, record.outcome) == ("count_tokens", 0, "success")
        assert (heard.headers.get("tieline-estimated") == "true") is (model != "claude/claude-sim")
    for _ in range(6):
        post(world, "/v1/messages/count_tokens", body | {"model": "claude-down/sim-fail-503"})
    states = {
        view.state for view in world.gateway.health.snapshot(monotonic()) if "claude-down" in view.deployment
    }
    assert states <= {"closed"}, "a count says nothing about a deployment's health"


def test_count_tokens_says_what_is_wrong_with_the_request(world: World) -> None:
    heard = post(world, "/v1/messages/count_tokens", {"model": "claude/claude-sim"})
    assert (heard.status, heard.error["param"]) == (400, "messages")


# embeddings -----------------------------------------------------------------------------------------------------------

_EMBEDDERS = {
    "chat": "chat/text-embedding-3-small",
    "gemini": "gemini/gemini-embedding-001",
    "cohere": "cohere/embed-v4.0",
    "bedrock": "bedrock/amazon.titan-embed-text-v2:0",
}


@pytest.mark.parametrize("host", _EMBEDDERS)
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_from_every_kind_of_host(world: World, gpt: Any, host: str, encoding: str) -> None:
    texts = ["a steady harbour", "a narrow window"]
    world.begin()
    made = gpt.embeddings.create(model=_EMBEDDERS[host], input=texts, encoding_format=encoding)
    vectors = [one.embedding for one in made.data]
    if encoding == "float":
        for text, vector in zip(texts, vectors, strict=True):
            assert vector == pytest.approx(embed(text), abs=1e-6)
    else:
        assert all(isinstance(vector, str) for vector in vectors), "base64 was asked for"
    assert made.usage.prompt_tokens == sum(map(count_tokens, texts))
    if host == "chat":
        assert not problems("openai_embeddings", world.upstream()[-1].body)


@pytest.mark.parametrize("host", ["gemini", "chat", "cohere"])
def test_embeddings_for_gemini_callers(world: World, google: Any, host: str) -> None:
    made = google.models.embed_content(
        model=_EMBEDDERS[host], contents=["a steady harbour", "a narrow window"]
    )
    assert [one.values for one in made.embeddings] == [
        pytest.approx(embed("a steady harbour"), abs=1e-6),
        pytest.approx(embed("a narrow window"), abs=1e-6),
    ]


def test_a_single_embedding_for_a_gemini_caller(world: World) -> None:
    body = {"content": {"parts": [{"text": "a bell"}]}, "outputDimensionality": 8}
    for host in ("gemini", "cohere"):
        heard = post(world, f"/v1beta/models/{_EMBEDDERS[host]}:embedContent", body)
        assert heard.json["embedding"]["values"] == pytest.approx(embed("a bell", 8), abs=1e-6), heard.text


def test_embeddings_are_billed_and_recorded(world: World) -> None:
    heard = post(world, "/v1/embeddings", {"model": "chat/sim-echo", "input": "a bell"})
    record = record_of(world, heard)
    (entry,) = record.attempts
    assert (record.operation, entry.usage.input_tokens, entry.usage.output_tokens) == (  # type: ignore[union-attr]
        "embeddings",
        count_tokens("a bell"),
        0,
    )
    assert record.cost == entry.cost == count_tokens("a bell") * 150_000
    assert heard.headers["tieline-cost-usd"] != "unknown"


def test_what_an_embedder_cannot_do_is_refused_by_name(world: World) -> None:
    heard = post(world, "/v1/embeddings", {"model": "cohere/embed-v4.0", "input": [1, 2, 3]})
    assert (heard.status, heard.error["param"]) == (400, "input")
    assert "cohere" in heard.error["message"]


def test_a_model_that_does_something_else_is_the_callers_to_change(world: World) -> None:
    """Not a 503, which every SDK would send again."""
    heard = post(world, "/v1/embeddings", {"model": "claude/claude-sonnet-4-5", "input": "a bell"})
    assert (heard.status, heard.error["param"]) == (400, "model"), heard.text
    assert "claude/claude-sonnet-4-5: it makes no embeddings" in heard.error["message"]
    heard = post(world, "/v1/chat/completions", chat("chat/text-embedding-3-small"))
    assert (heard.status, heard.error["param"]) == (400, "model"), heard.text
    assert "it only makes embeddings" in heard.error["message"]


def test_embeddings_never_fail_over_to_another_model(start: Start) -> None:
    models = {
        "vectors": ModelConfig(
            deployments=["chat-down/sim-fail-503"], fallbacks=["gemini/gemini-embedding-001"]
        ),
        "chats": ModelConfig(deployments=["chat-down/sim-fail-503"], fallbacks=["gemini/sim-echo"]),
    }
    world = start("-down", models=models, routing=Config().routing)
    heard = post(world, "/v1/embeddings", {"model": "vectors", "input": "a bell"})
    assert heard.status == 502, heard.text
    assert {entry.provider for entry in world.upstream()} == {"chat-down"}
    assert post(world, "/v1/chat/completions", chat("chats")).status == 200, "chat does"


def test_embeddings_fail_over_to_the_same_model_elsewhere(start: Start) -> None:
    model = "sim-first:n=1"
    models = {"vectors": ModelConfig(deployments=[f"chat-down/{model}"], fallbacks=[f"chat/{model}"])}
    world = start("-down", models=models, routing=Config().routing)
    heard = post(world, "/v1/embeddings", {"model": "vectors", "input": "a bell"})
    assert heard.status == 200, heard.text


# completions ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def legacy(start: Start) -> Any:
    """Every host, and ``old``, which offers /completions itself."""
    world = start()
    config = world.gateway.config
    made = providers(world.simulator.url)
    made["old"] = replace(made["chat"], base_url=f"{world.simulator.url}/old/v1", quirks={"completions": "."})
    world.gateway.reload(replace(config, providers=made))
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="caller", max_retries=0) as sdk:
        yield world, sdk


def test_completions_go_on_as_they_came_where_the_host_has_them(legacy: Any) -> None:
    world, sdk = legacy
    made = sdk.completions.create(
        model="old/sim-echo", prompt=PROMPT, max_tokens=20, logit_bias={"50256": -100}
    )
    assert made.choices[0].text == expected_text(PROMPT, 20)
    (entry,) = world.upstream()
    assert entry.dialect == "openai_completions"
    assert entry.body == {
        "model": "sim-echo",
        "prompt": PROMPT,
        "max_tokens": 20,
        "logit_bias": {"50256": -100},
    }
    assert not problems("openai_completions", entry.body)


@pytest.mark.parametrize("host", [host.name for host in HOSTS])
def test_completions_are_translated_elsewhere(legacy: Any, host: str) -> None:
    world, sdk = legacy
    made = sdk.completions.create(model=f"{host}/sim-echo", prompt=PROMPT, max_tokens=20)
    assert made.object == "text_completion"
    assert (made.choices[0].text, made.choices[0].finish_reason) == (expected_text(PROMPT, 20), "length")
    assert made.usage.completion_tokens == 20
    assert not problems(world.upstream()[-1].dialect, world.upstream()[-1].body)


@pytest.mark.parametrize("host", ["old", "chat", "claude", "bedrock"])
def test_completions_stream(legacy: Any, host: str) -> None:
    _, sdk = legacy
    usage = {"include_usage": True}
    chunks = list(
        sdk.completions.create(
            model=f"{host}/sim-echo", prompt=[PROMPT], max_tokens=30, stream=True, stream_options=usage
        )
    )
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == expected_text(PROMPT, 30)
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["length"]
    assert chunks[-1].usage.completion_tokens == 30
    hidden = list(sdk.completions.create(model=f"{host}/sim-echo", prompt=PROMPT, stream=True))
    assert all(chunk.usage is None for chunk in hidden), "usage only for those who asked (WIRE_FACTS 3)"
    assert "".join(c.text for chunk in hidden for c in chunk.choices) == expected_text(PROMPT, 16), (
        "16 is the default"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("prompt", ["a", "b"]), ("echo", True), ("suffix", "end"), ("best_of", 3), ("logprobs", 2)],
)
def test_what_only_completions_can_do_is_refused_by_name(legacy: Any, field: str, value: Any) -> None:
    world, sdk = legacy
    asked = {"prompt": PROMPT, field: value}
    with pytest.raises(openai.BadRequestError) as raised:
        sdk.completions.create(model="claude/sim-echo", **asked)
    assert raised.value.param == field  # type: ignore[attr-defined]
    assert not world.upstream()


@pytest.mark.parametrize("stream", [False, True])
def test_several_prompts_where_the_host_has_completions(legacy: Any, stream: bool) -> None:
    """Each is answered under its own index, in the order asked; all of them together are the usage."""
    world, sdk = legacy
    prompts = [PROMPT, "What is a bell?", "Where is the harbour?"]
    made = sdk.completions.create(model="old/sim-echo", prompt=prompts, max_tokens=9, stream=stream)
    texts, ends = dict.fromkeys(range(3), ""), {}
    for chunk in made if stream else [made]:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            ends[choice.index] = choice.finish_reason or ends.get(choice.index)
    assert list(texts.values()) == [expected_text(prompt, 9) for prompt in prompts]
    assert ends == dict.fromkeys(range(3), "length")
    (entry,) = world.upstream()
    assert entry.body["prompt"] == prompts
    assert entry.output_tokens == 27


def test_several_prompts_are_held_for_together() -> None:
    """A hold is the most that a request can cost, and each prompt is answered."""
    for prompt, n, answers in (
        (["a", "b", "c"], 2, 6),
        ("a", 2, 2),
        ([1, 2, 3], None, 1),
        ([[1], [2]], None, 2),
    ):
        body = {"model": "m", "prompt": prompt, "max_tokens": 5} | ({"n": n} if n else {})
        call = Call(
            dialect="openai_completions",
            operation="completions",
            path="/v1/completions",
            headers=[],
            body=json.dumps(body).encode(),
        )
        assert get("openai_completions").peek(call).n == answers


def test_a_chat_body_on_the_completions_path(legacy: Any) -> None:
    world, _ = legacy
    heard = post(world, "/v1/completions", chat("chat/sim-echo"))
    assert (heard.status, heard.error["param"]) == (400, "prompt")
    assert "/v1/chat/completions" in heard.error["message"]


# models ---------------------------------------------------------------------------------------------------------------


def test_models_in_the_shape_of_each_sdk(world: World, gpt: Any, claude: Any, google: Any) -> None:
    wanted = "chat/sim-echo"
    assert wanted in [one.id for one in gpt.models.list()]
    assert gpt.models.retrieve(wanted).owned_by == "chat"
    assert wanted in [one.id for one in claude.models.list()]
    assert claude.models.retrieve(wanted).type == "model"
    assert f"models/{wanted}" in [one.name for one in google.models.list()]
    assert google.models.get(model=wanted).name == f"models/{wanted}"


def test_a_model_that_is_not_there(gpt: Any, claude: Any, google: Any) -> None:
    with pytest.raises(openai.NotFoundError):
        gpt.models.retrieve("nobody/nothing")
    with pytest.raises(anthropic.NotFoundError):
        claude.models.retrieve("nobody/nothing")
    with pytest.raises(genai.errors.ClientError, match="404"):
        google.models.get(model="nobody/nothing")


# gemini's stream without alt=sse --------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["gemini", "claude", "chat"])
def test_a_gemini_stream_without_sse_is_one_json_array(world: World, host: str) -> None:
    heard = post(world, f"/v1beta/models/{host}/sim-echo:streamGenerateContent", contents())
    assert heard.headers["content-type"] == "application/json"
    texts = [
        part.get("text", "")
        for chunk in heard.json
        for candidate in chunk["candidates"]
        for part in candidate["content"].get("parts", [])
    ]
    assert "".join(texts) == expected_text(PROMPT, 48)
