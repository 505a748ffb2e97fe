"""What cannot work is refused in the caller's dialect, naming the field, the provider and the fix (issue A2)."""

from __future__ import annotations

import base64
import json
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

from tests.conformance.seen import PDF
from tests.conformance.world import World
from tests.features.asking import PROMPT, chat, contents, messages, post, responses

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def message_of(heard: Any) -> str:
    error = heard.error
    return str(error["message"])


# a feature the upstream cannot do -----------------------------------------------------------------------------------

_PDF_PART = {
    "type": "file",
    "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
}
_CANNOT: list[tuple[str, dict[str, Any], str]] = [
    ("responses", {"stop": ["x"]}, "stop"),
    ("responses", {"logit_bias": {"1": 5}}, "logit_bias"),
    ("responses", {"n": 2}, "n"),
    ("claude", {"logprobs": True}, "logprobs"),
    ("claude", {"n": 2}, "n"),
    ("claude", {"seed": 3}, "seed"),
    ("claude", {"frequency_penalty": 1.0}, "frequency_penalty"),
    ("bedrock", {"n": 2}, "n"),
    ("bedrock", {"seed": 1}, "seed"),
    ("cohere", {"n": 2}, "n"),
    ("cohere", {"logit_bias": {"1": 5}}, "logit_bias"),
    ("gemini", {"logit_bias": {"1": 5}}, "logit_bias"),
]


@pytest.mark.parametrize(
    ("host", "extra", "field"), _CANNOT, ids=[f"{host}-{field}" for host, _, field in _CANNOT]
)
def test_a_field_that_the_upstream_cannot_do(
    world: World, host: str, extra: dict[str, Any], field: str
) -> None:
    world.begin()
    heard = post(world, "/v1/chat/completions", chat(f"{host}/sim-echo", **extra))
    assert (heard.status, heard.error["param"]) == (400, field), heard.text
    assert field in message_of(heard)
    assert host in message_of(heard), "it names who cannot"
    assert "Leave" in message_of(heard), "and what to do"
    assert not world.upstream(), "nothing was sent"


def test_what_no_model_of_the_name_can_do_is_the_callers_to_change(world: World) -> None:
    """Not a 503, which every SDK would send again."""
    body = chat("claude/sim-echo", web_search_options={})
    heard = post(world, "/v1/chat/completions", body)
    assert (heard.status, heard.error["code"]) == (400, "unsupported_parameter"), heard.text
    assert "claude/sim-echo: server tools of openai_chat" in message_of(heard)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/chat/completions", chat, "web_search_options"),
        ("/v1/responses", responses, "tools"),
        ("/v1/messages", messages, "tools"),
    ],
)
def test_a_refusal_for_the_model_names_the_callers_field(
    world: World, path: str, body: Any, field: str
) -> None:
    kinds = {"/v1/responses": "web_search", "/v1/messages": "web_search_20250305"}
    asked = {field: {}} if field != "tools" else {field: [{"type": kinds[path], "name": "web_search"}]}
    heard = post(world, path, body("cohere/sim-echo", **asked))
    assert (heard.status, heard.error["param"]) == (400, field), heard.text
    assert f"`{field}`" in message_of(heard)


def test_too_small_a_limit_is_raised_where_the_vendor_has_a_least(world: World) -> None:
    """Claude Code asks for one token to see whether a model answers."""
    world.begin()
    body = messages("responses/sim-echo") | {"max_tokens": 1}
    heard = post(world, "/v1/messages", body)
    assert heard.status == 200, heard.text
    assert world.upstream()[-1].body["max_output_tokens"] == 16
    heard = post(world, "/v1/responses", responses("responses/sim-echo", max_output_tokens=1))
    assert heard.status == 400, "a caller of that API is told what the API says"


def test_a_provider_that_is_not_set_up_says_how(world: World) -> None:
    heard = post(world, "/v1/chat/completions", chat("deepseek/deepseek-chat"))
    assert heard.status == 404
    assert "set DEEPSEEK_API_KEY" in message_of(heard)
    assert "perhaps deepseek" in message_of(
        post(world, "/v1/chat/completions", chat("deepsek/deepseek-chat"))
    )


@pytest.mark.parametrize("host", ["responses", "cohere"])
def test_the_field_has_the_callers_name(world: World, host: str) -> None:
    """The same thing is called otherwise in each dialect."""
    if host == "responses":
        heard = post(world, "/v1/messages", messages("responses/sim-echo", stop_sequences=["x"]))
        assert heard.error["param"] == "stop_sequences"
        heard = post(
            world,
            "/v1beta/models/responses/sim-echo:generateContent",
            contents(generationConfig={"stopSequences": ["x"]}),
        )
        assert "generationConfig.stopSequences" in heard.text
    else:
        source = {"type": "base64", "media_type": "application/pdf", "data": PDF}
        body = messages("cohere/sim-echo")
        body["messages"][0]["content"] = [{"type": "document", "source": source}]
        heard = post(world, "/v1/messages", body)
        assert heard.status == 400
        assert "cohere" in message_of(heard)
        assert "messages" in heard.error["param"]


def test_a_document_where_there_are_none(world: World) -> None:
    body = chat("cohere/sim-echo")
    body["messages"][0]["content"] = [{"type": "text", "text": "Sum it up."}, _PDF_PART]
    heard = post(world, "/v1/chat/completions", body)
    assert heard.status == 400
    assert "cohere" in message_of(heard)


def test_stored_conversations_are_not_kept_here(world: World) -> None:
    for extra in ({"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"background": True}):
        heard = post(world, "/v1/responses", {"model": "claude/sim-echo", "input": PROMPT, **extra})
        assert heard.status == 400, heard.text
        assert heard.error["param"] == next(iter(extra))


# mixed-up dialects ----------------------------------------------------------------------------------------------------

_MIXED: list[tuple[str, Any, str, str]] = [
    ("/v1/chat/completions", messages("chat/sim-echo", system="Be brief."), "system", "/v1/messages"),
    ("/v1/chat/completions", contents(model="chat/sim-echo"), "messages", "generateContent"),
    ("/v1/chat/completions", responses("chat/sim-echo"), "messages", "/v1/responses"),
    (
        "/v1/messages",
        chat("claude/sim-echo", max_completion_tokens=9),
        "max_completion_tokens",
        "/v1/chat/completions",
    ),
    ("/v1/messages", responses("claude/sim-echo"), "messages", "/v1/responses"),
    ("/v1/messages", contents(model="claude/sim-echo"), "messages", "generateContent"),
    (
        "/v1/messages",
        messages("claude/sim-echo", tools=[{"type": "function", "function": {"name": "x"}}]),
        "tools",
        "/v1/chat/completions",
    ),
    ("/v1/responses", chat("responses/sim-echo"), "input", "/v1/chat/completions"),
    (
        "/v1/responses",
        responses("responses/sim-echo", response_format={"type": "json_object"}),
        "response_format",
        "text.format",
    ),
    (
        "/v1/responses",
        responses("responses/sim-echo", tools=[{"type": "function", "function": {"name": "x"}}]),
        "tools[0].function",
        "/v1/chat/completions",
    ),
    (
        "/v1/responses",
        responses("responses/sim-echo", tools=[{"name": "x", "input_schema": {"type": "object"}}]),
        "tools[0].input_schema",
        "/v1/messages",
    ),
    (
        "/v1/chat/completions",
        chat("chat/sim-echo", tools=[{"name": "x", "input_schema": {"type": "object"}}]),
        "tools[0].input_schema",
        "/v1/messages",
    ),
    (
        "/v1/chat/completions",
        chat("chat/sim-echo", tools=[{"type": "function", "name": "x", "parameters": {}}]),
        "tools[0].name",
        "/v1/responses",
    ),
    (
        "/v1beta/models/gemini/sim-echo:generateContent",
        chat("gemini/sim-echo"),
        "contents",
        "/v1/chat/completions",
    ),
]


@pytest.mark.parametrize(("path", "body", "field", "fix"), _MIXED, ids=[f"{p}-{f}" for p, _, f, _ in _MIXED])
def test_a_body_of_another_api(world: World, path: str, body: Any, field: str, fix: str) -> None:
    world.begin()
    heard = post(world, path, body)
    assert heard.status == 400, heard.text
    assert field in heard.text
    assert fix in heard.text, f"it does not say where it belongs: {heard.text}"
    assert not world.upstream()


def test_content_blocks_of_another_api(world: World) -> None:
    body = chat("chat/sim-echo")
    body["messages"][0]["content"] = [{"type": "tool_result", "tool_use_id": "x", "content": "y"}]
    heard = post(world, "/v1/chat/completions", body)
    assert heard.status == 400
    assert "/v1/messages" in message_of(heard)
    source = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    body["messages"][0]["content"] = [{"type": "image", "source": source}]
    heard = post(world, "/v1/chat/completions", body)
    assert heard.status == 400
    assert "`image_url`" in message_of(heard)
    body["messages"][0]["content"] = [{"type": "input_text", "text": "x"}]
    heard = post(world, "/v1/chat/completions", body)
    assert heard.status == 400
    assert "/v1/responses" in message_of(heard)
    body = messages("claude/sim-echo")
    body["messages"][0]["content"] = [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
    heard = post(world, "/v1/messages", body)
    assert heard.status == 400
    assert "/v1/chat/completions" in message_of(heard)


# foreign thinking -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["chat", "responses", "gemini", "bedrock", "cohere"])
def test_thinking_signed_by_another_vendor_does_not_break_a_conversation(world: World, host: str) -> None:
    """A conversation begun at Claude goes on elsewhere: what another cannot read is left out (WIRE_FACTS 21)."""
    with anthropic.Anthropic(base_url=world.url, api_key="k", max_retries=0) as sdk:
        thinking: Any = {"type": "enabled", "budget_tokens": 1024}
        turns: list[Any] = [{"role": "user", "content": PROMPT}]
        first = sdk.messages.create(
            model="claude/sim-echo", max_tokens=3000, thinking=thinking, messages=turns
        )
        assert any(block.type == "thinking" for block in first.content)
        turns += [
            {
                "role": "assistant",
                "content": [block.model_dump(exclude_none=True) for block in first.content],
            },
            {"role": "user", "content": "Go on."},
        ]
        second = sdk.messages.create(model=f"{host}/sim-echo", max_tokens=3000, messages=turns)
    assert any(block.type == "text" for block in second.content)


@pytest.mark.parametrize("host", ["chat", "responses", "claude", "cohere"])
def test_a_gemini_caller_goes_on_at_gemini(world: World, host: str) -> None:
    """What others signed, or did not, is not what Gemini is given; its own client sends back what it got."""
    declared = {
        "name": "weather",
        "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}},
    }
    body = contents(
        tools=[{"functionDeclarations": [declared]}],
        generationConfig={"thinkingConfig": {"includeThoughts": True, "thinkingBudget": 1024}},
    )
    model = {"cohere": "sim-tools"}.get(host, "sim-think")
    first = post(world, f"/v1beta/models/{host}/{model}:generateContent", body)
    assert first.status == 200, first.text
    said = json.loads(first.text)["candidates"][0]["content"]
    calls = [part["functionCall"] for part in said["parts"] if "functionCall" in part]
    results = [
        {"functionResponse": {"id": one["id"], "name": one["name"], "response": {"a": 1}}} for one in calls
    ]
    body["contents"] += [said, {"role": "user", "parts": results or [{"text": "Go on."}]}]
    world.begin()
    second = post(world, "/v1beta/models/gemini/sim-echo:generateContent", body)
    assert second.status == 200, second.text
    assert "dGllbGluZS" not in json.dumps(world.upstream()[-1].body)


def test_a_responses_caller_goes_on_at_openai(world: World) -> None:
    asked = {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}
    first = post(world, "/v1/responses", responses("claude/sim-think", store=False, **asked))
    items = json.loads(first.text)["output"]
    assert items[0]["encrypted_content"].startswith("tieline.")
    turns = [{"role": "user", "content": PROMPT}, *items, {"role": "user", "content": "Go on."}]
    world.begin()
    second = post(world, "/v1/responses", responses("responses/sim-think", input=turns, store=False))
    assert second.status == 200, second.text
    assert "tieline." not in json.dumps(world.upstream()[-1].body)


def test_a_forged_signature_is_the_providers_to_refuse(world: World) -> None:
    body = messages("claude/sim-echo", thinking={"type": "enabled", "budget_tokens": 1024})
    body["max_tokens"] = 3000
    body["messages"] += [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I never thought this.", "signature": "Zm9yZ2Vk"},
                {"type": "text", "text": "So be it."},
            ],
        },
        {"role": "user", "content": "Go on."},
    ]
    heard = post(world, "/v1/messages", body)
    assert heard.status == 400
    assert "signature" in message_of(heard)
    assert "claude" in message_of(heard), "it says who refused"
    assert "leave it out of the conversation" in message_of(heard), "and what to do"
    items = responses("responses/sim-echo", input=[{"role": "user", "content": PROMPT}])
    items["input"] += [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "forged"},
        {"role": "user", "content": "Go on."},
    ]
    heard = post(world, "/v1/responses", items)
    assert heard.status == 400
    assert "leave it out of the conversation" in message_of(heard)
    translated = post(world, "/v1beta/models/claude/sim-echo:generateContent", _forged())
    assert translated.status in (200, 400), translated.text


def _forged() -> dict[str, Any]:
    sealed = base64.b64encode(b"forged").decode()
    turns = contents()["contents"]
    turns += [
        {
            "role": "model",
            "parts": [{"text": "hm", "thought": True, "thoughtSignature": sealed}, {"text": "Yes."}],
        },
        {"role": "user", "parts": [{"text": "Go on."}]},
    ]
    return {"contents": turns}


# clouds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "gemini"])
def test_expired_cloud_credentials_say_whose_and_what_to_do(world: World, door: str) -> None:
    from tieline.simulator.clouds import AwsIdentity

    world.simulator.clouds.aws["AKIASIMULATED"] = AwsIdentity("simulated-secret", expired=True)
    try:
        bodies: dict[str, Any] = {
            "/v1/chat/completions": chat,
            "/v1/messages": messages,
            "/v1/responses": responses,
        }
        if door == "gemini":
            heard = post(world, "/v1beta/models/bedrock/sim-echo:generateContent", contents())
        else:
            heard = post(world, door, bodies[door]("bedrock/sim-echo"))
    finally:
        world.simulator.clouds.aws["AKIASIMULATED"] = AwsIdentity("simulated-secret")
    assert heard.status == 502, "the caller's own key is fine"
    said = message_of(heard)
    assert "bedrock" in said
    assert "expired" in said.lower()
    assert "AWS_" in said, f"it does not say what to renew: {said}"
    assert "simulated-secret" not in heard.text


def test_a_region_that_does_not_serve_the_caller(world: World) -> None:
    with (
        openai.OpenAI(base_url=f"{world.url}/v1", api_key="k", max_retries=0) as sdk,
        pytest.raises(openai.InternalServerError) as raised,
    ):
        sdk.chat.completions.create(**chat("chat-down/sim-fail-geo"))
    assert "chat-down" in str(raised.value)
    assert raised.value.code == "region_blocked"


# not JSON at all ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"model": 1}', b'{"model":"chat/sim-echo","messages":7}'],
)
@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/responses",
        "/v1/completions",
        "/v1/embeddings",
        "/v1beta/models/gemini/sim-echo:generateContent",
        "/v1beta/models/gemini/sim-echo:embedContent",
        "/v1/messages/count_tokens",
    ],
)
def test_a_body_that_is_none(world: World, path: str, body: bytes) -> None:
    heard = post(world, path, body)
    assert heard.status == 400, heard.text
    error = heard.error
    assert error["message"]
    if path.startswith("/v1/messages"):
        assert json.loads(heard.text)["type"] == "error"


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 9}),
        ("/v1/responses", {"input": PROMPT}),
        ("/v1/completions", {"prompt": PROMPT}),
        ("/v1/embeddings", {"input": PROMPT}),
    ],
)
def test_a_model_in_other_case_is_refused(world: World, path: str, rest: dict[str, Any]) -> None:
    """Go's decoder takes it for the model, and the last one counts: hosts would serve what no key allows."""
    heard = post(world, path, json.dumps({"model": "chat/sim-echo", **rest, "Model": "chat/dear"}).encode())
    assert heard.status == 400, heard.text
    assert "`Model`" in heard.text


def test_the_sdks_raise_their_own_class_for_it(world: World) -> None:
    with (
        openai.OpenAI(base_url=f"{world.url}/v1", api_key="k", max_retries=0) as gpt,
        pytest.raises(openai.BadRequestError) as raised,
    ):
        gpt.chat.completions.create(model="chat/sim-echo", messages=[])
    assert raised.value.param == "messages"
    google = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=world.url))
    with pytest.raises(genai.errors.ClientError, match="nobody"):
        google.models.generate_content(model="nobody/nothing", contents=PROMPT)
    google.close()
