"""The splicer: whatever the new upstream does, the caller gets the expected text or an error, never two answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.dialects.transcript import Transcript
from tieline.resume import ANCHOR_CHARS, SpliceFailed, Splicer, continuation, resumable
from tieline.simulator.text import expected_text, resumed
from tieline.types.events import (
    BlockStart,
    BlockStop,
    Event,
    Finish,
    Start,
    TextDelta,
    ThinkingDelta,
    UsageReport,
)
from tieline.types.request import Message, Request, Text
from tieline.types.usage import Usage

texts = st.builds(
    lambda prompt, tokens: expected_text(prompt, tokens),
    st.text("abcdefgh ", min_size=1, max_size=8),
    st.integers(12, 160),
)
cuts = st.floats(0.02, 0.98)
chunks = st.integers(1, 50)


def stream(text: str, size: int) -> list[Event]:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return [
        Start("r2", "other", 1),
        BlockStart(0, "text"),
        *(TextDelta(0, piece) for piece in pieces),
        BlockStop(0),
        UsageReport(Usage(input_tokens=9, output_tokens=9)),
        Finish("stop"),
    ]


def joined(sent: str, events: list[Event], block: int | None = 0) -> str:
    splicer = Splicer(sent, block, 0)
    said = [one for event in events for one in splicer.feed(event)]
    said += splicer.finish()
    assert sum(isinstance(event, Finish) for event in said) == 1
    assert not any(isinstance(event, Start) for event in said)
    return sent + "".join(event.text for event in said if isinstance(event, TextDelta))


def anchor_instruction(sent: str) -> str:
    request = Request(model="m", messages=[Message("user", [Text("x")])])
    last = continuation(request, sent).messages[-1].parts[0]
    assert isinstance(last, Text)
    return last.text


def squeezed(text: str) -> str:
    return "".join(text.split())


@settings(max_examples=80, deadline=None)
@given(texts, cuts, chunks)
def test_an_exact_repetition_of_the_anchor(full: str, cut: float, size: int) -> None:
    sent = full[: max(1, int(len(full) * cut))]
    if not sent.strip():
        return
    new = resumed(full, sent, anchor_instruction(sent), "anchor")
    assert joined(sent, stream(new, size)) == full


@settings(max_examples=80, deadline=None)
@given(texts, cuts, chunks)
def test_a_restart(full: str, cut: float, size: int) -> None:
    sent = full[: max(1, int(len(full) * cut))]
    assert joined(sent, stream(full, size)) == full


@settings(max_examples=80, deadline=None)
@given(texts, cuts, chunks)
def test_changed_white_space_and_quotes(full: str, cut: float, size: int) -> None:
    sent = full[: max(1, int(len(full) * cut))]
    if not sent.strip():
        return
    new = resumed(full, sent, anchor_instruction(sent), "ws")
    got = joined(sent, stream(new, size))
    assert got.startswith(sent)
    assert squeezed(got) == squeezed(full)


@settings(max_examples=80, deadline=None)
@given(texts, cuts, chunks, st.sampled_from(["Sure, here is the rest:\n\n", "Continuing from “", "… "]))
def test_a_preamble_before_the_anchor(full: str, cut: float, size: int, preamble: str) -> None:
    sent = full[: max(60, int(len(full) * cut))]
    if len(sent) >= len(full):
        return
    new = preamble + sent[-ANCHOR_CHARS:] + full[len(sent) :]
    try:
        assert squeezed(joined(sent, stream(new, size))) == squeezed(full)
    except SpliceFailed:
        pass


@settings(max_examples=120, deadline=None)
@given(texts, cuts, chunks, st.text(min_size=1, max_size=400))
def test_another_answer_is_never_appended(full: str, cut: float, size: int, other: str) -> None:
    """It is joined only where it really continues or reproduces what was sent, judged without the splicer's code."""
    sent = full[: max(1, int(len(full) * cut))]
    try:
        got = joined(sent, stream(other, size))
    except SpliceFailed:
        return
    blind = str.maketrans("", "", "\"'`“”‘’«»")
    flat = squeezed(other).translate(blind).lstrip("….")
    anchor = squeezed(sent[-ANCHOR_CHARS:]).translate(blind)
    assert got.startswith(sent)
    assert anchor in flat or not anchor


@pytest.mark.parametrize("manner", ["ignore"])
def test_a_target_that_ignores_the_instruction(manner: str) -> None:
    full = expected_text("ships", 80)
    sent = full[:150]
    with pytest.raises(SpliceFailed):
        joined(sent, stream(resumed(full, sent, anchor_instruction(sent), manner), 7))


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=200), cuts, chunks)
def test_any_unicode(full: str, cut: float, size: int) -> None:
    sent = full[: max(1, int(len(full) * cut))]
    new = sent[-ANCHOR_CHARS:] + full[len(sent) :]
    try:
        got = joined(sent, stream(new, size))
    except SpliceFailed:
        assert not squeezed(new)
        return
    assert got.startswith(sent)
    assert squeezed(got) == squeezed(full) or got == full


def test_two_hops_compose() -> None:
    full = expected_text("two hops", 120)
    first, second = full[:200], full[:420]
    middle = joined(first, stream(full[len(first) - ANCHOR_CHARS : len(second)], 11))
    assert joined(middle, stream(full[len(second) - ANCHOR_CHARS :], 3)) == full


def test_thinking_of_the_new_target_is_dropped_and_blocks_stay_contiguous() -> None:
    full = expected_text("thinking", 60)
    sent = full[:100]
    events: list[Event] = [
        Start("r", "m", 1),
        BlockStart(0, "thinking"),
        ThinkingDelta(0, "hm"),
        BlockStop(0),
        BlockStart(1, "text"),
        TextDelta(1, full[60:]),
        BlockStop(1),
        BlockStart(2, "tool_call", "c", "f"),
        BlockStop(2),
        Finish("tool_calls"),
    ]
    splicer = Splicer(sent, 1, 1)
    said = [one for event in events for one in splicer.feed(event)]
    assert [one.index for one in said if isinstance(one, BlockStart)] == [2]
    assert [one.index for one in said if isinstance(one, BlockStop)] == [1, 2]
    assert sent + "".join(one.text for one in said if isinstance(one, TextDelta)) == full


def test_a_tool_call_instead_of_the_rest_is_no_splice() -> None:
    splicer = Splicer("Once upon a time there was", 0, 0)
    splicer.feed(Start("r", "m", 1))
    with pytest.raises(SpliceFailed):
        splicer.feed(BlockStart(0, "tool_call", "c", "f"))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([BlockStart(0, "text"), TextDelta(0, "Hello there")], True),
        ([BlockStart(0, "text"), TextDelta(0, "  \n")], False),
        ([BlockStart(0, "thinking"), ThinkingDelta(0, "hm")], False),
        ([BlockStart(0, "thinking"), BlockStop(0), BlockStart(1, "text"), TextDelta(1, "So")], True),
        (
            [
                BlockStart(0, "text"),
                TextDelta(0, "Let me"),
                BlockStop(0),
                BlockStart(1, "tool_call", "c", "f"),
            ],
            False,
        ),
        ([BlockStart(0, "text"), TextDelta(0, "a"), BlockStart(1, "text", choice=1)], False),
        ([BlockStart(0, "opaque"), BlockStop(0), BlockStart(1, "text"), TextDelta(1, "a")], False),
    ],
)
def test_what_can_be_resumed(events: list[Event], expected: bool) -> None:
    transcript = Transcript()
    for event in events:
        transcript.add(event)
    assert resumable(transcript) is expected


def test_structured_output_is_not_resumed() -> None:
    transcript = Transcript(structured=True)
    for event in (BlockStart(0, "text"), TextDelta(0, '{"a":')):
        transcript.add(event)
    assert not resumable(transcript)


def test_the_continuation_keeps_within_the_limit_and_joins_a_prefill() -> None:
    request = Request(
        model="m",
        messages=[Message("user", [Text("x")]), Message("assistant", [Text("Once ")])],
        max_output_tokens=100,
    )
    made = continuation(request, "upon a time " * 10)
    assert [turn.role for turn in made.messages] == ["user", "assistant", "user"]
    assert len(made.messages[1].parts) == 2
    assert made.max_output_tokens is not None
    assert 70 <= made.max_output_tokens <= 95
    assert request.messages[-1].role == "assistant"
    assert len(request.messages[-1].parts) == 1
    assert continuation(request, "upon", plain=True).messages == request.messages
