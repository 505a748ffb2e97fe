"""Messages requests: peeked, passed through, read, written; and translated from and to Chat Completions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dialects.samples import (
    ANTHROPIC,
    OPENAI,
    PDF,
    PNG,
    call,
    check,
    decode,
    encode,
    peek,
    target,
    translate,
)
from tests.dialects.test_openai_chat_requests import FULL, TOOL, TOOL_LOOP
from tieline.dialects import get, get_upstream
from tieline.dialects.anthropic_messages import decode_count, encode_count, estimate_tokens
from tieline.dialects.base import Quirks
from tieline.dialects.schemas import closed
from tieline.simulator.anthropic_checks import check_closed
from tieline.types.errors import InvalidRequest, Unsupported
from tieline.types.request import Audio, Message, Opaque, Request

USER: dict[str, Any] = {"role": "user", "content": "hi"}
CLAUDE = target(ANTHROPIC, structured_output=True, reasoning=True)
TOOL_USE = {
    "name": "get_weather",
    "description": "Weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TOOL_TURNS: list[dict[str, Any]] = [
    USER,
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "ZGF0YQ=="},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Köln"}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain", "is_error": True},
            {"type": "text", "text": "and?"},
        ],
    },
]
MARK = {"type": "ephemeral", "ttl": "1h"}
RICH: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 5000,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": MARK}],
    "messages": TOOL_TURNS,
    "tools": [{**TOOL_USE, "cache_control": {"type": "ephemeral"}}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2048},
    "stop_sequences": ["END"],
    "metadata": {"user_id": "u1"},
    "service_tier": "auto",
    "stream": True,
}


@pytest.mark.parametrize(
    ("body", "says", "param"),
    [
        ({"model": "m", "max_tokens": 1}, "`messages` is missing", "messages"),
        ({"model": "m", "max_tokens": 1, "messages": []}, "at least one", "messages"),
        (
            {"model": "m", "messages": [{"role": "tool", "content": "x"}]},
            "/v1/chat/completions",
            "messages[0].role",
        ),
        ({"model": "m", "messages": [USER], "max_tokens": "x"}, "expected `int`", "max_tokens"),
        (
            {"model": "m", "messages": [USER], "response_format": {"type": "text"}},
            "/v1/chat/completions",
            None,
        ),
        ({"model": "m", "messages": [USER], "tools": [TOOL]}, "input_schema", "tools"),
        ({"model": "m", "contents": []}, "generateContent", "messages"),
        (
            {"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "/v1/chat/completions",
            "messages",
        ),
        (b"{", "ends early", None),
    ],
)
def test_bad_bodies_are_refused_by_field(body: Any, says: str, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        peek(ANTHROPIC, body)
    assert says in caught.value.full_message
    assert param is None or caught.value.param == param


@pytest.mark.parametrize(
    ("more", "feature"),
    [
        ({"tools": [TOOL_USE]}, "tools"),
        ({"tools": [TOOL_USE], "tool_choice": {"type": "any"}}, "forced_tool"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "server_tools"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "reasoning"),
        ({"thinking": {"type": "adaptive"}}, "may_reason"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "json_schema"),
        ({"messages": [USER, {"role": "assistant", "content": "I"}]}, "prefill"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "url", "url": "https://x"}}],
                    }
                ]
            },
            "images",
        ),
    ],
)
def test_features_are_seen(more: dict[str, Any], feature: str) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": [USER], **more}
    assert feature in peek(ANTHROPIC, body).features


def test_pass_through_keeps_body_version_and_wire_26_filters_betas() -> None:
    body = {**RICH, "context_management": {"edits": []}, "tieline": {"tags": {}}}
    headers = [
        (b"anthropic-version", b"2026-10-21"),
        (b"anthropic-beta", b"a-1, b-2"),
        (b"anthropic-beta", b"c-3"),
    ]
    asked = call(ANTHROPIC, body, headers)
    speaker = get(ANTHROPIC)
    out = speaker.forward(asked, speaker.peek(asked), target(ANTHROPIC, Quirks(betas=("b-2", "c-3"))))
    assert json.loads(out.body) == {**RICH, "context_management": {"edits": []}, "model": "upstream-model"}
    assert out.headers == [(b"anthropic-version", b"2026-10-21"), (b"anthropic-beta", b"b-2,c-3")]
    assert out.path == "/v1/messages"
    plain = speaker.forward(call(ANTHROPIC, RICH), peek(ANTHROPIC, RICH), target(ANTHROPIC))
    assert plain.headers == [(b"anthropic-version", b"2023-06-01")]


def test_wire_21_thinking_of_other_vendors_is_taken_out_of_pass_through() -> None:
    blocks = [
        {"type": "thinking", "thinking": "a", "signature": ""},
        {"type": "thinking", "thinking": "b", "signature": "tieline:gemini::x"},
        {"type": "text", "text": "c"},
    ]
    body = {"model": "m", "max_tokens": 5, "messages": [USER, {"role": "assistant", "content": blocks}, USER]}
    asked = call(ANTHROPIC, body)
    out = get(ANTHROPIC).forward(asked, get(ANTHROPIC).peek(asked), target(ANTHROPIC))
    assert json.loads(out.body)["messages"][1]["content"] == [{"type": "text", "text": "c"}]


def test_count_tokens_has_its_own_path_answer_and_estimate() -> None:
    asked = call(
        ANTHROPIC, {"model": "m", "messages": [{"role": "user", "content": "x" * 3600}]}, None, "count_tokens"
    )
    seen = get(ANTHROPIC).peek(asked)
    assert get(ANTHROPIC).forward(asked, seen, target(ANTHROPIC)).path == "/v1/messages/count_tokens"
    assert decode_count(encode_count(12)) == 12
    assert 900 <= estimate_tokens(seen) <= 1100


def test_everything_survives_a_round_trip() -> None:
    body = translate(ANTHROPIC, RICH, CLAUDE)
    check(ANTHROPIC, body)
    assert body == {**RICH, "model": "upstream-model"}


def test_media_citations_and_server_tools_survive_a_round_trip_wire_24() -> None:
    content = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
            "title": "t",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
        {
            "type": "document",
            "source": {"type": "url", "url": "https://example.com/a.pdf"},
            "citations": {"enabled": True},
        },
    ]
    searched = [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        {
            "type": "text",
            "text": "found",
            "citations": [
                {
                    "type": "web_search_result_location",
                    "url": "https://example.com",
                    "title": "t",
                    "encrypted_index": "e",
                    "cited_text": "c",
                }
            ],
        },
    ]
    tools = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": searched}, USER]
    body = {"model": "m", "max_tokens": 9, "messages": messages, "tools": tools}
    sent = translate(ANTHROPIC, body, CLAUDE)
    check(ANTHROPIC, sent)
    assert sent == {**body, "model": "upstream-model"}
    with pytest.raises(Unsupported):
        translate(ANTHROPIC, body, target())


def test_wire_13_one_user_turn_holds_results_and_text() -> None:
    sent = translate(OPENAI, {"model": "m", "messages": TOOL_LOOP, "tools": [TOOL]}, CLAUDE)
    check(ANTHROPIC, sent)
    assert sent["system"] == "Be brief."
    assert sent["max_tokens"] == 4096
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["messages"][1]["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Köln"}},
        {"type": "tool_use", "id": "call_2", "name": "get_weather", "input": {}},
    ]
    assert sent["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": "rain"},
        {"type": "tool_result", "tool_use_id": "call_2", "content": "sun"},
        {"type": "text", "text": "thanks"},
    ]


def test_wire_13_and_back_to_chat_completions() -> None:
    body = {name: value for name, value in RICH.items() if name not in ("thinking", "stream", "metadata")}
    sent = translate(ANTHROPIC, body, target())
    check(OPENAI, sent)
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        USER,
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {
                    "id": "toolu_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city":"Köln"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "Error: rain"},
        {"role": "user", "content": "and?"},
    ]
    assert sent["parallel_tool_calls"] is False
    assert sent["tool_choice"] == "auto"


@pytest.mark.parametrize(
    ("openai", "anthropic"),
    [
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
            {"type": "tool", "name": "get_weather"},
        ),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": True}, {"type": "auto", "disable_parallel_tool_use": False}),
    ],
)
def test_wire_14_tool_choice(openai: dict[str, Any], anthropic: dict[str, Any]) -> None:
    sent = translate(OPENAI, {"model": "m", "messages": [USER], "tools": [TOOL], **openai}, CLAUDE)
    check(ANTHROPIC, sent)
    assert sent["tool_choice"] == anthropic
    back = translate(ANTHROPIC, {**sent, "model": "m"}, target())
    check(OPENAI, back)
    for name, value in openai.items():
        assert back[name] == value


@pytest.mark.parametrize("name", ["seed", "logprobs", "n", "frequency_penalty", "logit_bias", "verbosity"])
def test_what_anthropic_has_not_is_refused_by_the_callers_name(name: str) -> None:
    with pytest.raises(Unsupported) as caught:
        translate(OPENAI, {"model": "m", "messages": [USER], name: FULL[name]}, CLAUDE)
    assert caught.value.param == name


def test_harmless_fields_are_left_out() -> None:
    harmless = {
        "store": False,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "verbosity": "medium",
        "frequency_penalty": 0,
        "temperature": 1,
        "top_p": 1,
        "metadata": {"a": "b"},
        "n": 1,
        "logprobs": False,
        "stream_options": None,
    }
    sent = translate(OPENAI, {"model": "m", "messages": [USER], **harmless}, CLAUDE)
    assert sent == {"model": "upstream-model", "max_tokens": 4096, "messages": [USER]}
    for risky in ({"store": True}, {"inference_geo": "eu"}, {"web_search_options": {}}):
        with pytest.raises(Unsupported):
            translate(OPENAI, {"model": "m", "messages": [USER], **risky}, CLAUDE)


def test_wire_17_system_messages_are_hoisted_with_their_marks() -> None:
    marked = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    messages = [
        {"role": "system", "content": [marked]},
        USER,
        {"role": "assistant", "content": "ok"},
        {"role": "developer", "content": "b"},
        USER,
    ]
    sent = translate(OPENAI, {"model": "m", "messages": messages}, CLAUDE)
    check(ANTHROPIC, sent)
    assert sent["system"] == [marked, {"type": "text", "text": "b"}]
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    only = translate(OPENAI, {"model": "m", "messages": messages[:1]}, CLAUDE)
    assert only["messages"] == [{"role": "user", "content": [marked]}]


def test_wire_18_empty_blocks_go_and_the_prefill_is_trimmed() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": " "}, "hi"]},
        {"role": "assistant", "content": "So: \n"},
    ]
    sent = translate(ANTHROPIC, {"model": "m", "max_tokens": 5, "messages": messages}, CLAUDE)
    assert sent["messages"] == [USER, {"role": "assistant", "content": "So:"}]
    with pytest.raises(InvalidRequest):
        translate(OPENAI, {"model": "m", "messages": [{"role": "user", "content": ""}]}, CLAUDE)


def test_wire_20_prefill_is_refused_where_the_model_does() -> None:
    body = {"model": "m", "messages": [USER, {"role": "assistant", "content": "So"}]}
    with pytest.raises(Unsupported) as caught:
        translate(OPENAI, body, target(ANTHROPIC, prefill=False))
    assert caught.value.param == "messages"


def test_wire_19_media_cross_dialects() -> None:
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
    ]
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    sent = translate(OPENAI, body, CLAUDE)
    check(ANTHROPIC, sent)
    assert sent["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
            "title": "a.pdf",
        },
    ]
    back = translate(ANTHROPIC, {**sent, "model": "m"}, target())
    check(OPENAI, back)
    assert back["messages"][0]["content"] == content
    audio = Request(model="m", messages=[Message("user", [Audio("wav", "AA")])])
    with pytest.raises(Unsupported):
        encode(audio, CLAUDE)


def test_images_in_tool_results_reach_chat_completions_behind_the_result() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    turns = [
        *TOOL_TURNS[:2],
        {"role": "user", "content": [{**TOOL_TURNS[2]["content"][0], "content": [image]}]},
    ]
    sent = translate(
        ANTHROPIC, {"model": "m", "max_tokens": 9, "messages": turns, "tools": [TOOL_USE]}, target()
    )
    check(OPENAI, sent)
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool", "user"]
    assert sent["messages"][3]["content"][1]["image_url"]["url"].endswith(PNG)


@pytest.mark.parametrize(
    ("given", "able", "thinking", "effort"),
    [
        ({"reasoning_effort": "low"}, {}, {"type": "enabled", "budget_tokens": 2048}, None),
        ({"reasoning_effort": "high"}, {"adaptive_thinking": True}, {"type": "adaptive"}, "high"),
        ({"reasoning_effort": "minimal"}, {"adaptive_thinking": True}, {"type": "adaptive"}, "low"),
        ({"reasoning": {"max_tokens": 20000}}, {"adaptive_thinking": True}, {"type": "adaptive"}, "high"),
        ({"reasoning": {"max_tokens": 3000}}, {}, {"type": "enabled", "budget_tokens": 3000}, None),
        ({"reasoning_effort": "none"}, {}, {"type": "disabled"}, None),
        (
            {"reasoning_effort": "high", "max_tokens": 3000},
            {},
            {"type": "enabled", "budget_tokens": 1976},
            None,
        ),
        ({"reasoning_effort": "high", "max_tokens": 900}, {}, None, None),
        ({"reasoning_effort": "none"}, {"reasoning": False}, None, None),
    ],
)
def test_wire_22_effort_and_budget(
    given: dict[str, Any], able: dict[str, Any], thinking: dict[str, Any] | None, effort: str | None
) -> None:
    sent = translate(OPENAI, {"model": "m", "messages": [USER], **given}, target(ANTHROPIC, **able))
    check(ANTHROPIC, sent)
    assert sent.get("thinking") == thinking
    assert sent.get("output_config", {}).get("effort") == effort


@pytest.mark.parametrize(
    ("given", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 30000}, "max_tokens": 40000}, "high"),
        ({"thinking": {"type": "disabled"}}, "none"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "max"),
        ({"thinking": {"type": "adaptive"}}, None),
    ],
)
def test_wire_22_thinking_becomes_effort(given: dict[str, Any], effort: str | None) -> None:
    sent = translate(ANTHROPIC, {"model": "m", "max_tokens": 5000, "messages": [USER], **given}, target())
    check(OPENAI, sent)
    assert sent.get("reasoning_effort") == effort


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"temperature": 0.3}, "temperature"),
        ({"top_k": 5}, "top_k"),
        ({"top_p": 0.5}, "top_p"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
    ],
)
def test_wire_22_what_thinking_forbids_is_named(more: dict[str, Any], param: str) -> None:
    body = {"model": "m", "messages": [USER], "reasoning_effort": "low", **more}
    with pytest.raises(Unsupported) as caught:
        translate(OPENAI, body, CLAUDE)
    assert caught.value.param == param


def test_wire_21_signed_thinking_is_verbatim_and_a_foreign_tool_loop_goes_on_without() -> None:
    sent = translate(ANTHROPIC, RICH, CLAUDE)
    assert sent["messages"][1]["content"][:2] == TOOL_TURNS[1]["content"][:2]
    body = {"model": "m", "messages": TOOL_LOOP[:5], "tools": [TOOL], "reasoning_effort": "low"}
    assert "thinking" not in translate(OPENAI, body, CLAUDE)
    assert translate(OPENAI, body, target(ANTHROPIC, adaptive_thinking=True))["thinking"] == {
        "type": "adaptive"
    }


def test_wire_23_structured_output() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "w", "schema": schema, "strict": True}}
    body = {"model": "m", "messages": [USER], "response_format": wanted}
    native = translate(OPENAI, body, CLAUDE)
    check(ANTHROPIC, native)
    assert native["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    forced = translate(OPENAI, body, target(ANTHROPIC, structured_output=False))
    check(ANTHROPIC, forced)
    name = "tieline_structured_output"
    assert forced["tools"][0]["name"] == name
    assert forced["tools"][0]["input_schema"] == schema
    assert forced["tool_choice"] == {"type": "tool", "name": name, "disable_parallel_tool_use": True}
    loose = translate(OPENAI, {**body, "response_format": {"type": "json_object"}}, CLAUDE)
    check(ANTHROPIC, loose)
    assert loose["tools"][0]["name"] == name
    beside = translate(OPENAI, {**body, "tools": [TOOL]}, target(ANTHROPIC, structured_output=False))
    assert [tool["name"] for tool in beside["tools"]] == ["get_weather", name]
    assert beside["tool_choice"]["type"] == "any"
    back = translate(ANTHROPIC, {**native, "model": "m"}, target())
    assert back["response_format"]["json_schema"]["schema"] == schema


_AGE = {"type": "integer", "minimum": 0, "maximum": 5}
_OPEN = {
    "type": "object",
    "properties": {
        "age": {**_AGE, "description": "Years."},
        "when": {"type": "string", "format": "date"},
        "tag": {"type": ["string", "null"], "format": "regex", "minLength": 2},
        "pets": {"type": "array", "minItems": 3, "items": {"$ref": "#/$defs/Pet", "description": "one"}},
        "kind": {"oneOf": [{"type": "object", "properties": {"minimum": _AGE}}, {"type": "null"}]},
        "size": {"allOf": [{"enum": ["s", "m"]}], "description": "of it"},
    },
    "required": ["age"],
    "$defs": {"Pet": {"type": "object", "properties": {}}},
    "$schema": "https://json-schema.org/draft/2020-12/schema",
}
_A = {"properties": {"a": {"type": "string"}}, "required": ["a"]}
_B = {"properties": {"b": {"type": "string"}}, "required": ["b"]}
_BASE = {"$defs": {"Base": {"type": "object", **_B}}}
_DEEP: dict[str, Any] = {"type": "string"}
for _ in range(900):
    _DEEP = {"type": "object", "properties": {"x": _DEEP}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", **_A, "allOf": [_B]},
        {"type": "object", **_A, **_BASE, "allOf": [{"$ref": "#/$defs/Base"}]},
        {**_A, **_BASE, "$ref": "#/$defs/Base"},
        {"type": "object", **_A, "anyOf": [{"type": "object", **_B}]},
        _DEEP,
    ],
    ids=["joined", "inherited", "beside", "branches", "deep"],
)
def test_a_schema_that_would_lose_something_is_not_closed(schema: dict[str, Any]) -> None:
    assert closed(schema) is None


_TREE = {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}
_MAP = {"type": "object", "additionalProperties": {"type": "string"}}


def test_wire_16_schemas_are_closed_for_constrained_output() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "w", "schema": _OPEN}}
    sent = translate(OPENAI, {"model": "m", "messages": [USER], "response_format": wanted}, CLAUDE)
    schema = sent["output_config"]["format"]["schema"]
    age = 'It must fit {"minimum":0,"maximum":5}'
    assert schema == {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "description": f"Years.\n\n{age}"},
            "when": {"type": "string", "format": "date"},
            "tag": {
                "type": ["string", "null"],
                "description": 'It must fit {"format":"regex","minLength":2}',
            },
            "pets": {
                "type": "array",
                "items": {"$ref": "#/$defs/Pet"},
                "description": 'It must fit {"minItems":3}',
            },
            "kind": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {"minimum": {"type": "integer", "description": age}},
                        "additionalProperties": False,
                    },
                    {"type": "null"},
                ]
            },
            "size": {"enum": ["s", "m"], "description": "of it"},
        },
        "additionalProperties": False,
        "required": ["age"],
        "$defs": {"Pet": {"type": "object", "properties": {}, "additionalProperties": False}},
    }
    check_closed(schema, "schema")
    with pytest.raises(Exception, match="additionalProperties"):
        check_closed(_OPEN, "schema")
    asked = {"format": {"type": "json_schema", "schema": _OPEN}}
    own = {"model": "m", "max_tokens": 5, "messages": [USER], "output_config": asked}
    assert translate(ANTHROPIC, own, CLAUDE)["output_config"] == asked


@pytest.mark.parametrize("schema", [_TREE, _MAP, {"type": "object", "properties": {"a": _MAP}}])
def test_wire_23_what_cannot_be_constrained_is_a_forced_tool(schema: dict[str, Any]) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "w", "schema": schema}}
    sent = translate(OPENAI, {"model": "m", "messages": [USER], "response_format": wanted}, CLAUDE)
    assert "output_config" not in sent and sent["tools"][0]["input_schema"] == schema


def test_wire_16_strict_tools_are_closed_too() -> None:
    def tool(schema: Any) -> dict[str, Any]:
        function = {"name": "f", "parameters": schema, "strict": True}
        return {"model": "m", "messages": [USER], "tools": [{"type": "function", "function": function}]}

    sent = translate(OPENAI, tool({"type": "object", "properties": {"age": _AGE}}), CLAUDE)
    check_closed(sent["tools"][0]["input_schema"], "tools.0.custom")
    with pytest.raises(Unsupported, match="strict"):
        translate(OPENAI, tool(_MAP), CLAUDE)


@pytest.mark.parametrize(
    ("more", "strict"),
    [
        ({"required": ["a", "b"]}, True),
        ({"required": ["a"]}, None),
        ({"required": ["a", "b"], "additionalProperties": True}, None),
        ({"required": ["a", "b"], "properties": {"a": {"type": "object"}, "b": {}}}, None),
    ],
)
def test_wire_16_strict_at_openai_needs_all_keys(more: dict[str, Any], strict: bool | None) -> None:
    b = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": b},
        "additionalProperties": False,
    }
    schema |= more
    asked = {
        "model": "m",
        "max_tokens": 5,
        "messages": [USER],
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
        "tools": [{"name": "f", "input_schema": schema, "strict": True}],
    }
    sent = translate(ANTHROPIC, asked, target())
    assert sent["response_format"]["json_schema"].get("strict") is strict
    assert sent["tools"][0]["function"].get("strict") is strict
    responses = translate(ANTHROPIC, asked, target("openai_responses"))
    assert responses["text"]["format"].get("strict") is strict
    assert responses["tools"][0]["strict"] is bool(strict)


def test_arguments_that_are_no_object_are_kept() -> None:
    broken = json.loads(json.dumps(TOOL_LOOP))
    broken[2]["tool_calls"][0]["function"]["arguments"] = '{"city": '
    sent = translate(OPENAI, {"model": "m", "messages": broken}, CLAUDE)
    assert sent["messages"][1]["content"][0]["input"] == {"invalid_arguments": '{"city": '}


def test_opaque_blocks_of_others_make_the_target_ineligible() -> None:
    request = Request(model="m", messages=[Message("user", [Opaque("openai_chat", {"type": "video_url"})])])
    with pytest.raises(Unsupported, match="video_url"):
        encode(request, CLAUDE)


def test_mid_conversation_system_turns_of_this_api_are_read() -> None:
    body = {"model": "m", "max_tokens": 5, "messages": [USER, {"role": "system", "content": "note"}]}
    assert [message.role for message in decode(ANTHROPIC, body).messages] == ["user", "system"]


@pytest.mark.parametrize(("tier", "sent"), [("default", "standard_only"), ("auto", "auto"), ("flex", None)])
def test_service_tiers(tier: str, sent: str | None) -> None:
    body = {"model": "m", "messages": [USER], "service_tier": tier}
    if sent is None:
        with pytest.raises(Unsupported):
            translate(OPENAI, body, CLAUDE)
    else:
        assert translate(OPENAI, body, CLAUDE)["service_tier"] == sent


@pytest.mark.parametrize("name", ["openai_chat", "openai_responses", "gemini", "bedrock_converse", "cohere"])
def test_a_wish_for_speed_is_no_reason_to_refuse_a_tool(name: str) -> None:
    """@ai-sdk/anthropic wishes for it in every streamed request."""
    tool = {**TOOL_USE, "eager_input_streaming": True}
    body = {"model": "m", "max_tokens": 99, "messages": [USER], "tools": [tool], "stream": True}
    assert get_upstream(name).encode_request(decode(ANTHROPIC, body), target(name))


@pytest.mark.parametrize("name", ["openai_chat", "openai_responses", "gemini", "bedrock_converse", "cohere"])
def test_a_tool_that_only_anthropic_understands_is_refused_by_name(name: str) -> None:
    tool = {**TOOL_USE, "defer_loading": True}
    body = {"model": "m", "max_tokens": 99, "messages": [USER], "tools": [tool]}
    with pytest.raises(Unsupported, match=r"get_weather \(defer_loading\)"):
        get_upstream(name).encode_request(decode(ANTHROPIC, body), target(name))


CLAUDE_CODE: dict[str, Any] = {
    "model": "m",
    "max_tokens": 99,
    "messages": [USER, {"role": "system", "content": "Be brief."}],
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
}
"""What Claude Code 2.1.197 sends with every request, whatever the model."""


@pytest.mark.parametrize("name", ["openai_chat", "openai_responses", "gemini", "bedrock_converse", "cohere"])
def test_claude_code_is_served_by_a_model_that_does_not_think(name: str) -> None:
    asked = decode(ANTHROPIC, CLAUDE_CODE)
    body = get_upstream(name).encode_request(asked, target(name, reasoning=False)).body
    assert b"high" not in body
    assert b"clear_thinking" not in body


def test_compaction_is_anthropics_own() -> None:
    body = {**CLAUDE_CODE, "context_management": {"edits": [{"type": "compact_20260112"}]}}
    with pytest.raises(Unsupported, match="context_management"):
        get_upstream(OPENAI).encode_request(decode(ANTHROPIC, body), target(OPENAI))
