"""Chat Completions requests: peeked, passed through, read, written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dialects.samples import OPENAI, PDF, PNG, call, check, decode, encode, peek, target, translate
from tieline.dialects import get
from tieline.dialects.base import Quirks
from tieline.providers import registry
from tieline.types.errors import InvalidRequest, Unsupported
from tieline.types.request import Reasoning, Thinking, ToolCall, ToolResult

USER: dict[str, Any] = {"role": "user", "content": "hi"}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": False,
    },
}
TOOL_LOOP: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    USER,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city":"Köln"}'},
            },
            {"id": "call_2", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    {"role": "tool", "tool_call_id": "call_2", "content": "sun"},
    {"role": "user", "content": "thanks"},
]
FULL: dict[str, Any] = {
    "model": "gpt-x",
    "messages": TOOL_LOOP,
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    "parallel_tool_calls": False,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "w", "schema": {"type": "object"}, "strict": True},
    },
    "reasoning_effort": "low",
    "max_tokens": 50,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ["END"],
    "seed": 7,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "top_logprobs": 2,
    "n": 2,
    "user": "u1",
    "metadata": {"a": "b"},
    "service_tier": "flex",
    "stream": True,
    "stream_options": {"include_usage": True},
    "store": False,
    "verbosity": "low",
}


def refused(body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        peek(OPENAI, body)
    return caught.value


@pytest.mark.parametrize(
    ("body", "says", "param"),
    [
        (b"", "empty", None),
        (b'{"model": "m", ', "ends early", None),
        (b'{"model": nope}', "byte 11", None),
        (b"[1]", "JSON object", None),
        (b'{"model":"\xff"}', "UTF-8", None),
        ({"model": "m"}, "`messages` is missing", "messages"),
        ({"model": "m", "messages": []}, "at least one", "messages"),
        ({"model": "m", "messages": "hi"}, "expected `array`", "messages"),
        ({"model": "m", "messages": [{"content": "x"}]}, "`role`", "messages[0]"),
        ({"messages": [USER]}, "`model` is missing", "model"),
        ({"model": 3, "messages": [USER]}, "expected `str`", "model"),
        ({"model": "m", "messages": [USER], "stream": "yes"}, "expected `bool`", "stream"),
        ({"model": "m", "messages": [USER], "max_tokens": "9"}, "expected `int`", "max_tokens"),
        ({"model": "m", "messages": [USER], "max_tokens": 0}, "at least 1", "max_tokens"),
        ({"model": "m", "messages": [USER], "n": 0}, "at least 1", "n"),
        ({"model": "m", "messages": [USER], "tieline": 3}, "expected `object`", "tieline"),
        ({"model": "m", "messages": [USER], "system": "s"}, "/v1/messages", "system"),
        ({"model": "m", "messages": [USER], "anthropic_version": "x"}, "/v1/messages", "anthropic_version"),
        ({"model": "m", "input": "hi"}, "/v1/responses", "messages"),
        ({"model": "m", "contents": []}, "generateContent", "messages"),
        (
            {
                "model": "m",
                "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}],
            },
            "/v1/messages",
            "messages",
        ),
    ],
)
def test_bad_bodies_are_refused_by_field(body: Any, says: str, param: str | None) -> None:
    error = refused(body)
    assert says in error.full_message
    assert error.param == param


def test_deep_nesting_is_refused() -> None:
    deep = b'{"model":"m","messages":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    assert "nested too deeply" in refused(deep).message
    inner = b'{"model":"m","messages":[{"role":"user","content":' + b"[" * 900 + b"]" * 900 + b"}]}"
    with pytest.raises(InvalidRequest):
        decode(OPENAI, inner)


@pytest.mark.parametrize(
    ("more", "feature"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": "required"}, "forced_tool"),
        ({"tools": [{"type": "web_search"}]}, "server_tools"),
        ({"functions": [TOOL["function"]]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "json_object"),
        ({"response_format": FULL["response_format"]}, "json_schema"),
        ({"reasoning_effort": "high"}, "reasoning"),
        ({"reasoning": {"max_tokens": 100}}, "reasoning"),
        ({"logprobs": True}, "logprobs"),
        ({"n": 2}, "n"),
        ({"messages": [USER, {"role": "assistant", "content": "I"}]}, "prefill"),
    ],
)
def test_features_are_seen(more: dict[str, Any], feature: str) -> None:
    assert feature in peek(OPENAI, {"model": "m", "messages": [USER], **more}).features


def test_no_features_in_plain_text_that_mentions_them() -> None:
    text = 'use "image_url" and "input_audio" in {"type": "file"}'
    body = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}
    seen = peek(OPENAI, body | {"reasoning_effort": "none", "tools": [], "logprobs": False})
    assert seen.features == frozenset()


def test_media_are_seen_and_not_counted_as_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 40}, image]}],
    }
    seen = peek(OPENAI, body)
    assert seen.features == {"images"}
    assert seen.input_chars < 10_000


def test_wire_25_routing_fields_are_taken_out_and_unknown_ones_survive() -> None:
    body = {
        "model": "m",
        "messages": [USER],
        "tieline": {"profile": "p"},
        "models": ["a", "b"],
        "provider": {"order": ["x"]},
        "new_vendor_field": {"deep": [1, None]},
        "max_tokens": 5,
    }
    asked = call(OPENAI, body)
    seen = get(OPENAI).peek(asked)
    assert (seen.options, seen.fallbacks, seen.provider_preferences) == (
        {"profile": "p"},
        ("a", "b"),
        {"order": ["x"]},
    )
    sent = json.loads(get(OPENAI).forward(asked, seen, target()).body)
    assert sent == {
        "model": "upstream-model",
        "messages": [USER],
        "new_vendor_field": {"deep": [1, None]},
        "max_tokens": 5,
    }


def test_a_provider_field_that_is_no_object_is_the_vendors_own() -> None:
    seen = peek(OPENAI, {"model": "m", "messages": [USER], "provider": "x"})
    assert seen.provider_preferences is None
    assert "provider" in seen.fields


def test_wire_03_forward_asks_for_usage_and_keeps_other_stream_options() -> None:
    body = {
        "model": "m",
        "messages": [USER],
        "stream": True,
        "stream_options": {"include_obfuscation": False},
    }
    asked = call(OPENAI, body)
    seen = get(OPENAI).peek(asked)
    assert not seen.include_usage
    sent = json.loads(get(OPENAI).forward(asked, seen, target()).body)
    assert sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    plain = json.loads(get(OPENAI).forward(asked, seen, target(quirks=Quirks(stream_usage=False))).body)
    assert plain["stream_options"] == {"include_obfuscation": False}


def test_wire_16_empty_tools_and_wire_17_developer_are_spared_hosts_that_reject_them() -> None:
    body = {"model": "m", "messages": [{"role": "developer", "content": "d"}, USER], "tools": []}
    asked = call(OPENAI, body)
    seen = get(OPENAI).peek(asked)
    sent = json.loads(get(OPENAI).forward(asked, seen, target()).body)
    assert "tools" not in sent
    assert sent["messages"][0] == {"role": "system", "content": "d"}
    able = target(quirks=Quirks(developer_role=True, empty_tools=True))
    assert json.loads(get(OPENAI).forward(asked, seen, able).body)["messages"] == body["messages"]


def test_forward_refuses_what_the_host_rejects_by_name() -> None:
    asked = call(OPENAI, {"model": "m", "messages": [USER], "logit_bias": {"1": 1}})
    with pytest.raises(Unsupported) as caught:
        get(OPENAI).forward(asked, get(OPENAI).peek(asked), target(quirks=Quirks(rejects=("logit_bias",))))
    assert caught.value.param == "logit_bias"


def forwarded(body: dict[str, Any], **quirks: Any) -> dict[str, Any]:
    asked = call(OPENAI, {"model": "m", "messages": [USER], **body})
    sent: dict[str, Any] = json.loads(
        get(OPENAI).forward(asked, get(OPENAI).peek(asked), target(quirks=Quirks(**quirks))).body
    )
    return sent


NEWER = {"max_tokens_field": "max_completion_tokens", "one_limit": True}


@pytest.mark.parametrize(
    ("given", "quirks", "expected"),
    [
        # DeepSeek, Ollama and Z.ai ignore the newer name, so that nothing would limit the answer; Mistral answers 422.
        ({"max_completion_tokens": 9}, {"one_limit": True}, {"max_tokens": 9}),
        ({"max_completion_tokens": 9, "max_tokens": 8}, {"one_limit": True}, {"max_tokens": 9}),
        ({"max_completion_tokens": None, "max_tokens": 8, "n": 2}, {"one_limit": True}, {"max_tokens": 8}),
        ({"max_tokens": 9}, NEWER, {"max_completion_tokens": 9}),
        ({"max_tokens": 8, "max_completion_tokens": 9}, NEWER, {"max_completion_tokens": 9}),
        ({"max_tokens": 9, "n": 2}, {"max_tokens_field": "max_length", "one_limit": True}, {"max_length": 9}),
        ({"max_completion_tokens": 9}, {}, {"max_completion_tokens": 9}),
        (
            {"max_tokens": 9, "tools": [TOOL]},
            {"max_tokens_field": "max_completion_tokens"},
            {"max_tokens": 9},
        ),
    ],
)
def test_the_limit_of_the_output_bears_the_name_that_the_host_reads(
    given: dict[str, Any], quirks: dict[str, Any], expected: dict[str, Any]
) -> None:
    sent = forwarded(given, **quirks)
    assert {name: sent[name] for name in sent if name.startswith("max_")} == expected


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_azures_deployments_know_the_name_that_their_version_knows(name: str) -> None:
    """Of 2024-08-01-preview: `Unrecognized request argument supplied: max_completion_tokens`."""
    row = registry.get("azure-deployments")
    assert row is not None
    asked = call(OPENAI, {"model": "m", "messages": [USER], name: 9})
    sent = get(OPENAI).forward(asked, get(OPENAI).peek(asked), target(quirks=row.quirks)).body
    assert json.loads(sent) == {"model": "upstream-model", "messages": [USER], name: 9}


def test_what_a_host_calls_otherwise_is_renamed_in_what_passes_through() -> None:
    sent = forwarded(
        {"seed": 1, "tools": [TOOL], "tool_choice": "required"}, seed_field="random_seed", required_word="any"
    )
    assert (sent["random_seed"], sent["tool_choice"]) == (1, "any")
    assert "seed" not in sent
    assert forwarded({"seed": 1}, seed_field="random_seed")["random_seed"] == 1


def test_wire_15_ids_of_another_host_fit_this_one_in_what_passes_through() -> None:
    sent = forwarded({"messages": TOOL_LOOP}, tool_id_pattern="[a-zA-Z0-9]{9}")["messages"]
    ids = [each["id"] for each in sent[2]["tool_calls"]]
    assert all(len(each) == 9 and each.isalnum() for each in ids)
    assert ids == [sent[3]["tool_call_id"], sent[4]["tool_call_id"]]
    assert sent[2]["tool_calls"][0]["function"] == TOOL_LOOP[2]["tool_calls"][0]["function"]
    assert forwarded({"messages": TOOL_LOOP}, tool_id_pattern=".{1,40}")["messages"] == TOOL_LOOP


def test_a_host_that_takes_no_user_is_not_told_one() -> None:
    assert "user" not in forwarded({"user": "u1"}, rejects=("user",))


def test_everything_survives_a_round_trip() -> None:
    body = translate(OPENAI, FULL, target())
    check(OPENAI, body)
    assert body == FULL | {"model": "upstream-model"}


def test_content_parts_survive_a_round_trip() -> None:
    content = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    assert peek(OPENAI, body).features == {"images", "pdf", "audio"}
    sent = translate(OPENAI, body, target())
    check(OPENAI, sent)
    assert sent["messages"][0]["content"] == content


@pytest.mark.parametrize(
    ("part", "able"),
    [
        ({"type": "image_url", "image_url": "https://example.com/a.png"}, {"vision": False}),
        ({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}"}}, {"pdf": False}),
        ({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}, {"audio": False}),
    ],
)
def test_wire_19_what_a_target_cannot_take_excludes_it(part: dict[str, Any], able: dict[str, bool]) -> None:
    request = decode(OPENAI, {"model": "m", "messages": [{"role": "user", "content": [part]}]})
    with pytest.raises(Unsupported) as caught:
        encode(request, target(**able))
    assert caught.value.param == "messages"


def test_wire_18_bare_strings_and_empty_texts_in_lists() -> None:
    content = ["bare", {"type": "text", "text": ""}]
    request = decode(OPENAI, {"model": "m", "messages": [{"role": "user", "content": content}]})
    assert [part.text for part in request.messages[0].parts] == ["bare"]  # type: ignore[union-attr]


def test_legacy_functions_become_tools_and_answers_pair_by_name() -> None:
    body = {
        "model": "m",
        "functions": [{"name": "f", "parameters": {"type": "object", "properties": {}}}],
        "function_call": {"name": "f"},
        "messages": [
            USER,
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "done"},
        ],
    }
    request = decode(OPENAI, body)
    assert request.legacy_functions
    assert request.tool_choice is not None
    assert (request.tool_choice.mode, request.tool_choice.name) == ("tool", "f")
    made, result = request.messages[1].parts[0], request.messages[2].parts[0]
    assert isinstance(made, ToolCall)
    assert isinstance(result, ToolResult)
    assert made.id == result.id
    sent = encode(request, target())
    check(OPENAI, sent)
    assert sent["messages"][2]["tool_call_id"] == sent["messages"][1]["tool_calls"][0]["id"]


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([USER, {"role": "tool", "tool_call_id": "x", "content": "r"}], "follows no assistant turn"),
        ([*TOOL_LOOP[:4], USER], "`call_2` (get_weather) has no result"),
        ([*TOOL_LOOP[:5], TOOL_LOOP[4]], "has two results"),
        ([{"role": "tool", "content": "r"}], "tool_call_id"),
        ([{"role": "robot", "content": "r"}], "messages[0].role"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0].image_url"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x,y"}}]}],
            "base64 data URI",
        ),
    ],
)
def test_wire_15_broken_conversations_are_our_own_400(messages: list[Any], says: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(OPENAI, {"model": "m", "messages": messages})
    assert says in caught.value.message


def test_wire_15_results_are_put_behind_their_calls_and_ids_made_unique() -> None:
    turn = {
        "role": "assistant",
        "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    result = {"role": "tool", "tool_call_id": "call_0", "content": "r"}
    request = decode(OPENAI, {"model": "m", "messages": [USER, turn, USER, result, turn, result]})
    sent = encode(request, target())
    assert [message["role"] for message in sent["messages"]] == [
        "user",
        "assistant",
        "tool",
        "user",
        "assistant",
        "tool",
    ]
    assert sent["messages"][4]["tool_calls"][0]["id"] == sent["messages"][5]["tool_call_id"] == "call_0_2"


def test_wire_15_ids_are_rewritten_to_the_hosts_charset_stably() -> None:
    quirks = Quirks(tool_id_pattern="[a-zA-Z0-9]{9}", required_word="any", parallel_tool_calls=False)
    sent = translate(OPENAI, {"model": "m", "messages": TOOL_LOOP}, target(quirks=quirks))
    ids = [each["id"] for each in sent["messages"][2]["tool_calls"]]
    assert all(len(each) == 9 and each.isalnum() for each in ids)
    assert ids == [sent["messages"][3]["tool_call_id"], sent["messages"][4]["tool_call_id"]]


def test_quirks_are_obeyed() -> None:
    quirks = Quirks(
        max_tokens_field="max_completion_tokens",
        developer_role=True,
        required_word="any",
        seed_field="random_seed",
        schema_strips=("$schema",),
    )
    schema = {"$schema": "x", "type": "object", "properties": {"$schema": {"type": "string", "$schema": "y"}}}
    body = {
        "model": "m",
        "messages": TOOL_LOOP,
        "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": schema}}],
        "tool_choice": "required",
        "seed": 1,
        "max_tokens": 9999,
    }
    sent = translate(OPENAI, body, target(quirks=quirks, max_output_tokens=100))
    assert sent["max_completion_tokens"] == 100
    assert sent["messages"][0]["role"] == "developer"
    assert sent["tool_choice"] == "any"
    assert sent["random_seed"] == 1
    assert sent["tools"][0]["function"]["parameters"] == {
        "type": "object",
        "properties": {"$schema": {"type": "string"}},
    }


@pytest.mark.parametrize(
    ("more", "quirks", "param"),
    [
        ({"stop": ["a", "b"]}, Quirks(max_stop=1), "stop"),
        ({"tools": [TOOL]}, Quirks(tools=False), "tools"),
        ({"tools": [TOOL], "tool_choice": "required"}, Quirks(tool_choice_required=False), "tool_choice"),
        ({"reasoning_effort": "low"}, Quirks(reasoning_effort=False), "reasoning_effort"),
        (
            {"response_format": {"type": "json_object"}},
            Quirks(json_object=False, tools=False),
            "response_format",
        ),
        ({"seed": 1}, Quirks(rejects=("seed",)), "seed"),
    ],
)
def test_what_a_host_cannot_do_is_named(more: dict[str, Any], quirks: Quirks, param: str) -> None:
    request = decode(OPENAI, {"model": "m", "messages": [USER], **more})
    with pytest.raises(Unsupported) as caught:
        encode(request, target(quirks=quirks))
    assert caught.value.param == param


def test_wire_23_structured_output_by_forced_tool_where_there_is_no_native_one() -> None:
    body = {"model": "m", "messages": [USER], "response_format": FULL["response_format"]}
    sent = translate(OPENAI, body, target(quirks=Quirks(json_schema=False)))
    check(OPENAI, sent)
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "tieline_structured_output"}}
    assert sent["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert "response_format" not in sent


def test_wire_21_reasoning_goes_back_only_to_hosts_that_want_it() -> None:
    details = [
        {
            "type": "reasoning.text",
            "text": "hm",
            "signature": "s",
            "format": "anthropic-claude-v1",
            "index": 0,
        },
        {"type": "reasoning.encrypted", "data": "d", "format": "anthropic-claude-v1", "index": 1},
    ]
    replayed = {"role": "assistant", "content": "a", "reasoning_details": details}
    request = decode(OPENAI, {"model": "m", "messages": [USER, replayed, USER]})
    thoughts = [part for part in request.messages[1].parts if isinstance(part, Thinking)]
    assert [(part.text, part.signature, part.redacted, part.origin) for part in thoughts] == [
        ("hm", "s", None, "anthropic_messages"),
        ("", None, "d", "anthropic_messages"),
    ]
    assert encode(request, target())["messages"][1] == {"role": "assistant", "content": "a"}
    openrouter = target(quirks=Quirks(replay_reasoning=True, reasoning_field="reasoning"))
    assert encode(request, openrouter)["messages"][1]["reasoning_details"] == details
    plain = {"role": "assistant", "content": "a", "reasoning_content": "hm"}
    deepseek = target(quirks=Quirks(replay_reasoning=True))
    sent = translate(OPENAI, {"model": "m", "messages": [USER, plain, USER]}, deepseek)
    assert sent["messages"][1] == plain


def test_wire_22_openrouter_reasoning_is_read() -> None:
    body = {"model": "m", "messages": [USER], "reasoning": {"max_tokens": 9000, "exclude": True}}
    request = decode(OPENAI, body)
    assert request.reasoning == Reasoning(budget_tokens=9000, summary="omitted")
    assert encode(request, target())["reasoning_effort"] == "medium"


def test_cache_marks_go_only_to_hosts_that_know_them() -> None:
    part = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = {"model": "m", "messages": [{"role": "system", "content": [part]}, USER]}
    assert translate(OPENAI, body, target())["messages"][0]["content"] == "long"
    marked = translate(OPENAI, body, target(quirks=Quirks(cache_marks=True)))
    assert marked["messages"][0]["content"] == [part]


def test_unknown_tool_choice_and_parts_survive_for_the_same_dialect() -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function"}]}}
    video = {"type": "video_url", "video_url": {"url": "https://example.com/v.mp4"}}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": [video]}],
        "tools": [TOOL],
        "tool_choice": choice,
    }
    sent = translate(OPENAI, body, target())
    assert sent["tool_choice"] == choice
    assert sent["messages"][0]["content"] == [video]
