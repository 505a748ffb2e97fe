from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tieline.simulator import count_tokens, expected_text
from tieline.simulator.samples import sample
from tieline.simulator.text import pieces, resumed, seeded


@given(st.text(max_size=200), st.integers(0, 300), st.integers(0, 3))
def test_text_is_a_pure_function_whose_shorter_form_is_a_prefix(prompt: str, tokens: int, seed: int) -> None:
    text = expected_text(prompt, tokens, seed)
    assert text == expected_text(f"  {prompt}\n", tokens, seed)
    assert count_tokens(text) == tokens
    assert expected_text(prompt, tokens + 20, seed).startswith(text)


@given(st.text())
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text


@given(st.integers(1, 60), st.sampled_from(["anchor", "ws"]))
def test_a_resumed_answer_repeats_the_end_of_the_partial(tokens: int, manner: str) -> None:
    full, partial = expected_text("Why?", 64), expected_text("Why?", tokens)
    answer = resumed(full, partial, "You were cut off. Repeat the last 40 characters and continue.", manner)
    assert answer.endswith(full[len(partial) :])
    if manner == "anchor":
        assert answer == partial[-40:] + full[len(partial) :]


def test_the_anchor_is_what_the_instruction_quotes() -> None:
    full, partial = expected_text("Why?", 64), expected_text("Why?", 40)
    assert (
        resumed(full, partial, f"Continue after “{partial[-25:]}”, repeat it.") == full[len(partial) - 25 :]
    )


def test_samples_satisfy_their_schema() -> None:
    schema = {
        "type": "object",
        "$defs": {"unit": {"enum": ["c", "f"]}},
        "properties": {
            "unit": {"$ref": "#/$defs/unit"},
            "days": {"type": "integer", "minimum": 1, "maximum": 3},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "when": {"type": ["string", "null"], "format": "date"},
            "place": {
                "anyOf": [{"type": "null"}, {"type": "object", "properties": {"x": {"type": "number"}}}]
            },
        },
        "required": ["unit"],
    }
    value = sample(schema, seeded(1))
    assert value["unit"] in ("c", "f")
    assert 1 <= value["days"] <= 3
    assert len(value["tags"]) == 2
    assert value["when"] == "2026-05-04"
    assert isinstance(value["place"]["x"], float)
