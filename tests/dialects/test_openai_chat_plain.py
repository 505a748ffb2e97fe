"""A plain Chat Completions body takes a short way; it must be seen and forwarded exactly as on the long one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline.dialects.base import Quirks, Target
from tieline.dialects.openai_chat import peek as room
from tieline.types.call import Call

texts = st.text(max_size=40) | st.sampled_from(
    ["max_tokens", '"max_tokens": 1', '"model"', 'say \\"model": "x"', "model", "\u2028", "\\", "developer"]
)
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "developer", "assistant"]), "content": texts}
)


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": draw(texts.filter(bool)),
        "messages": draw(st.lists(turns, min_size=1, max_size=3)),
    }
    optional = {
        "stream": st.booleans(),
        "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
        "max_tokens": st.integers(1, 9),
        "max_completion_tokens": st.integers(1, 9),
        "temperature": st.floats(0, 2),
        "user": texts,
        "stop": texts | st.lists(texts, max_size=2),
        "seed": st.integers(-5, 5),
        "n": st.integers(1, 2),
        "service_tier": st.sampled_from(["auto", "flex"]),
        "tools": st.just([]),
    }
    for name, values in optional.items():
        if draw(st.booleans()):
            body[name] = draw(values)
    return body


def call(body: bytes) -> Call:
    return Call(dialect="openai_chat", operation="chat", path="/v1/chat/completions", headers=[], body=body)


@given(
    bodies(),
    st.booleans(),
    st.fixed_dictionaries(
        {
            "developer_role": st.booleans(),
            "stream_usage": st.booleans(),
            "one_limit": st.booleans(),
            "max_tokens_field": st.sampled_from(["max_tokens", "max_completion_tokens"]),
            "seed_field": st.sampled_from(["seed", "random_seed"]),
        }
    ),
    st.sampled_from(["gpt-x", "max_tokens", 'odd "name"', "ü/1"]),
)
def test_the_short_way_is_the_long_way(
    body: dict[str, Any], spaced: bool, quirks: dict[str, Any], model: str
) -> None:
    separators = (", ", " : ") if spaced else (",", ":")
    raw = json.dumps(body, ensure_ascii=False, separators=separators).encode("utf-8", "surrogatepass")
    short, long = room.peek(call(raw)), room._look_closely(call(raw))
    for name in (
        "model",
        "stream",
        "include_usage",
        "max_output_tokens",
        "n",
        "user",
        "features",
        "input_chars",
    ):
        assert getattr(short, name) == getattr(long, name), name
    target = Target(
        provider="p",
        model=model,
        dialect="openai_chat",
        quirks=Quirks(**quirks),
    )
    sent, expected = (room.forward(call(raw), seen, target) for seen in (short, long))
    assert sent.path == expected.path
    assert json.loads(sent.body) == json.loads(expected.body)
    assert {name: bytes(value) for name, value in room.fields_of(short).items()} == {
        name: bytes(value) for name, value in long.fields.items()
    }


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b","messages":[{"role":"user","content":"x"}]}',
        b'{"\\u006dodel":"a","messages":[{"role":"user","content":"x"}]}',
        b'{"model":"a","messages":[{"role":"user","content":"x","name":"n"}]}',
        b'{"model":"a","messages":[{"role":"user","content":"x"}],"tieline":{"models":["b"]}}',
        b'{"model":"a","messages":[{"role":"user","content":"x"}],"stream_options":{"model":1}}',
        b'{"model":"a","messages":[{"role":"user","content":"x"}],"stream":null}',
    ],
)
def test_whatever_is_not_plain_is_looked_at_closely(body: bytes) -> None:
    assert room._plain(body) is None


def test_what_passes_unchanged_is_the_very_bytes_of_the_caller() -> None:
    raw = b'{ "messages":[{"role":"user","content":"\xc3\xbc \\u00fc"}],\n "model" : "mine", "top_p": 1.0 }'
    target = Target(provider="p", model="theirs", dialect="openai_chat")
    sent = room.forward(call(raw), room.peek(call(raw)), target).body
    assert sent == raw.replace(b'"model" : "mine"', b'"model":"theirs"')


@pytest.mark.parametrize("second", [r"mod\u0065l", r"\u006dodel", r"\u006D\u006F\u0064\u0065\u006C"])
def test_a_second_model_in_other_letters_does_not_go_along(second: str) -> None:
    """A host would take the last: what the caller wrote instead of what was chosen for it."""
    body = f'{{"model":"dear","messages":[{{"role":"user","content":"x"}}],"{second}":"dear"}}'
    seen = room.peek(call(body.encode()))
    assert seen.model == "dear"
    sent = room.forward(
        call(body.encode()), seen, Target(provider="acme", model="cheap", dialect="openai_chat")
    )
    assert json.loads(sent.body)["model"] == "cheap"
    assert b"dear" not in sent.body


def test_the_limit_is_renamed_in_the_very_bytes_of_the_caller() -> None:
    raw = b'{"model":"mine", "messages":[{"role":"user","content":"\\u00fc"}], "max_tokens" : 5}'
    quirks = Quirks(one_limit=True, max_tokens_field="max_completion_tokens")
    target = Target(provider="p", model="theirs", dialect="openai_chat", quirks=quirks)
    sent = room.forward(call(raw), room.peek(call(raw)), target).body
    assert sent == raw.replace(b'"mine"', b'"theirs"').replace(b"max_tokens", b"max_completion_tokens")
