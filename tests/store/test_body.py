"""What is stored of a record is small, comes back equal, and what earlier versions stored is still read."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.record.samples import attempt, record
from tieline.store.body import Bodies, decode
from tieline.types.record import Attempt, Record, as_dict
from tieline.types.usage import Usage

DECISION = {
    "model": "fast",
    "reference": "openai/gpt-5",
    "fallback": "equal",
    "intent": None,
    "tried": [{"deployment": "openai/gpt-5", "credential": "OPENAI_API_KEY", "reason": "first"}],
    "candidates": [
        {
            "deployment": f"{provider}/gpt-5",
            "provider": provider,
            "model": "gpt-5",
            "kind": "asked",
            "quality": 31.5,
            "quality_average": None,
        }
        for provider in ("openai", "azure", "openrouter")
    ],
    "excluded": {"azure/gpt-5": "circuit_open"},
}


def test_the_body_of_a_plain_request_is_small() -> None:
    bodies = Bodies()
    made = [record(decision=DECISION, finish_reason="stop") for _ in range(3)]
    stored = [bodies.encode(one) for one in made]
    assert [decode(body) for body in stored] == made
    assert all(one.decision is DECISION for one in made)
    assert len(stored[0]) > 700, "a decision that is met once is not packed"
    assert len(stored[2]) < 400


def test_shared_decisions_are_few() -> None:
    bodies = Bodies()
    made = [record(decision={**DECISION, "model": f"m{number}"}) for number in range(1_200)]
    for _ in range(3):
        for one in made:
            for _ in range(2):
                assert decode(bodies.encode(one)) == one
    assert len(bodies._packed) <= 1_000
    assert len(bodies._seen) <= 64


def test_an_object_that_takes_the_place_of_another_is_not_mistaken_for_it() -> None:
    bodies = Bodies()
    for number in range(2_000):
        one = record(decision={"model": number})
        for _ in range(number % 4):
            assert decode(bodies.encode(one)).decision == {"model": number}


@given(
    st.builds(
        Record,
        id=st.text(),
        at_ms=st.integers(0, 2**53),
        operation=st.text(),
        dialect=st.text(),
        tags=st.dictionaries(st.text(), st.text(), max_size=3),
        usage=st.none()
        | st.builds(
            Usage,
            input_tokens=st.integers(0, 2**53),
            estimated=st.booleans(),
            extras=st.none() | st.dictionaries(st.text(), st.integers(0, 2**53), min_size=1, max_size=2),
        ),
        attempts=st.lists(
            st.builds(Attempt, number=st.integers(1, 9), cost=st.none() | st.integers(0, 2**62)), max_size=3
        ),
        decision=st.dictionaries(
            st.text(min_size=1), st.integers().filter(lambda n: abs(n) < 2**63) | st.text(), max_size=3
        ),
        cost=st.none() | st.integers(0, 2**62),
    )
)
def test_what_is_stored_comes_back(one: Record) -> None:
    bodies = Bodies()
    for _ in range(3):
        assert decode(bodies.encode(one)) == one
    assert decode(msgspec.msgpack.encode(as_dict(one))) == one, "as Tieline wrote it at first"


def test_a_body_of_a_version_that_knew_fewer_fields() -> None:
    named = as_dict(record())
    del named["splices"], named["attempts"][0]["chars_out"]
    assert decode(msgspec.msgpack.encode(named)) == record(id=named["id"], at_ms=named["at_ms"])
    whole = msgspec.msgpack.decode(msgspec.msgpack.encode(record(id="req_x", at_ms=1)))
    assert decode(msgspec.msgpack.encode(whole[:-3])) == record(
        id="req_x", at_ms=1, overhead_ms=0.0, request_bytes=0, response_bytes=0
    )


def test_usage_of_a_version_that_knew_no_extras() -> None:
    """And what is written now is read by it: an array that is too long is no fault."""
    made = record(id="req_x", at_ms=1, usage=Usage(input_tokens=7, unpriced=True))
    whole = msgspec.msgpack.decode(msgspec.msgpack.encode(made))
    place = Record.__struct_fields__.index("usage") + 1
    for usage in (whole[place][:11], [*whole[place], "of a later version"]):
        whole[place] = usage
        assert decode(msgspec.msgpack.encode(whole)) == made


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xdc",
        b"\xc1",
        msgspec.msgpack.encode({"id": "x"}),
        msgspec.msgpack.encode({**as_dict(record()), "attempts": 3}),
        msgspec.msgpack.encode({**as_dict(record()), "attempts": ["x"]}),
        msgspec.msgpack.encode({**as_dict(record()), "at_ms": "x"}),
        msgspec.msgpack.encode([3, *list(as_dict(record()).values())]),
        msgspec.msgpack.encode(record(decision={"": msgspec.msgpack.Ext(1, b"damage")})),
        msgspec.msgpack.encode(record(decision={"": msgspec.msgpack.Ext(2, b"")})),
        msgspec.msgpack.encode(record(decision={"": 3})),
    ],
)
def test_what_is_no_body_says_so(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode(body)


def test_every_field_is_named() -> None:
    one = as_dict(record(attempts=[attempt()]))
    assert tuple(one) == Record.__struct_fields__
    assert tuple(one["attempts"][0]) == Attempt.__struct_fields__
    assert one["usage"] == {"input_tokens": 100, "cache_read_tokens": 40, "output_tokens": 20}


def test_the_order_of_the_fields_is_what_is_stored() -> None:
    """Never change these: add to their ends."""
    assert Record.__struct_fields__[:37] == (
        "id", "at_ms", "operation", "dialect", "model_asked", "stream", "key_id", "project", "user", "session", "run",
        "tags", "profile", "intent", "provider", "model", "deployment", "status", "outcome", "error_code",
        "error_message", "finish_reason", "attempts", "decision", "usage", "cost", "wasted", "charged", "cache",
        "splices", "flags", "first_token_ms", "total_ms", "overhead_ms", "request_bytes", "response_bytes",
    )  # fmt: skip
    assert Attempt.__struct_fields__[:18] == (
        "number", "deployment", "provider", "model", "credential", "dialect", "reason", "started_ms",
        "first_token_ms", "ended_ms", "outcome", "status", "message", "usage", "cost", "upstream_id",
        "upstream_model", "chars_out",
    )  # fmt: skip
    assert Usage.__struct_fields__[:12] == (
        "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "input_audio_tokens",
        "input_image_tokens", "output_tokens", "reasoning_tokens", "output_audio_tokens", "estimated", "unpriced",
        "extras",
    )  # fmt: skip
