"""The relay, without sockets: streams of every dialect, cut anywhere, chunked anyhow, to callers of every dialect.

What callers hear is read with the drills' own eyes (``drills.caller``), not with Tieline's decoders.
"""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tieline import resume
from tieline.dialects import get, get_upstream
from tieline.dialects.base import Garbled, Peek, StreamFault, Truncated
from tieline.dialects.transcript import Transcript
from tieline.drills.caller import DIALECTS, Heard, _Reader
from tieline.relay import Relay
from tieline.types.errors import Fault
from tieline.types.events import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Event,
    Finish,
    Start,
    TextDelta,
    UsageReport,
)
from tieline.types.request import Message, Request, Text
from tieline.types.response import Choice, Response
from tieline.types.usage import Usage

REQUEST = Request(model="m", messages=[Message("user", [Text("x")])], stream=True)
PEEK = Peek(model="m", stream=True, include_usage=True)
PAIRS = list(product(DIALECTS, DIALECTS))
TEXT = 'Ships carry bells — «naïve» 鐘 🔔\n\nand "quotes",  two  spaces; ' * 4
chunkings = st.lists(st.integers(1, 60), min_size=1, max_size=12)
words = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "Zs", "S")), min_size=50, max_size=300
).filter(lambda text: len("".join(text.split())) > 40)


class Caller:
    """A Sink that keeps what it is given."""

    def __init__(self) -> None:
        self.sent = b""
        self.commits = self.ends = self.holds = 0

    def name(self, start: Start) -> None:
        start.id, start.model = start.id or "r", start.model or "m"

    def commit(self) -> None:
        self.commits += 1

    def hold(self) -> None:
        self.holds += 1

    def skip(self) -> None: ...

    def write(self, data: bytes) -> None:
        assert self.commits, "bytes before the head"
        assert not self.ends, "bytes after the end"
        self.sent += data

    def end(self) -> None:
        self.ends += 1

    def spliced(self) -> bytes:
        return b""

    def closing_comment(self) -> bytes:
        return b""

    def heard(self, dialect: str) -> Heard:
        found = Heard(status=200)
        reader = _Reader(dialect, found, lambda: 0.0)
        reader.feed(self.sent)
        reader.end()
        return found


def said(text: str, size: int = 9) -> list[Event]:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return [
        Start("r1", "m", 1),
        BlockStart(0, "text"),
        *(TextDelta(0, piece) for piece in pieces),
        BlockStop(0),
        UsageReport(Usage(input_tokens=9, output_tokens=7)),
        Finish("stop"),
    ]


def stream(dialect: str, events: list[Event]) -> bytes:
    encoder = get(dialect).stream_encoder(REQUEST)
    return b"".join(encoder.encode(event) for event in events) + encoder.finish()


def relay(upstream: str, downstream: str, caller: Caller, **more: object) -> Relay:
    same = upstream == downstream and "splicer" not in more
    return Relay(
        dialect=get_upstream(upstream),
        through=get(downstream) if same else None,
        peek=PEEK,
        encoder=None if same else more.pop("encoder", None) or get(downstream).stream_encoder(REQUEST),  # type: ignore[arg-type]
        sink=caller,
        transcript=more.pop("transcript", None) or Transcript(),  # type: ignore[arg-type]
        clock=lambda: 0.0,
        **more,  # type: ignore[arg-type]
    )


def pour(into: Relay, data: bytes, sizes: list[int]) -> None:
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        into.feed(data[at : at + size])
        at, turn = at + size, turn + 1


@pytest.mark.parametrize(("upstream", "downstream"), PAIRS)
@settings(max_examples=6, deadline=None)
@given(text=words, size=st.integers(1, 40), sizes=chunkings)
def test_any_text_in_any_chunks_arrives_whole(
    upstream: str, downstream: str, text: str, size: int, sizes: list[int]
) -> None:
    caller = Caller()
    one = relay(upstream, downstream, caller)
    data = stream(upstream, said(text, size))
    pour(one, data, sizes)
    one.finish()
    heard = caller.heard(downstream)
    assert (heard.text, heard.complete, heard.error) == (text, True, None)
    assert (caller.commits, caller.ends) == (1, 1)
    if upstream == downstream:
        assert caller.sent == data, "bytes pass through as they came"


@pytest.mark.parametrize(("upstream", "downstream"), PAIRS)
@settings(max_examples=10, deadline=None)
@given(cut=st.floats(0, 0.999), sizes=chunkings)
def test_a_stream_cut_anywhere_never_ends_like_a_complete_one(
    upstream: str, downstream: str, cut: float, sizes: list[int]
) -> None:
    caller, data = Caller(), stream(upstream, said(TEXT))
    one = relay(upstream, downstream, caller)
    pour(one, data[: int(len(data) * cut)], sizes)
    try:
        one.finish()
    except (Truncated, Garbled):
        heard = caller.heard(downstream)
        assert not heard.complete
        assert not caller.ends
        assert TEXT.startswith(heard.text)
        assert one.transcript.text == heard.text or not caller.commits, "what is resumed is what was heard"
    else:  # the cut came after everything that matters (WIRE_FACTS 10)
        heard = caller.heard(downstream)
        assert (heard.text, heard.complete) == (TEXT, True)
    if int(len(data) * cut) < len(data) * 0.6:
        assert not heard.complete


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=10, deadline=None)
@given(cut=st.integers(0, 100_000))
def test_a_whole_answer_cut_anywhere_is_no_answer(dialect: str, cut: int) -> None:

    answer = Response(
        id="r", model="m", created=1, choices=[Choice(parts=[Text(TEXT)], finish_reason="stop")]
    )
    body = get(dialect).encode_response(answer, REQUEST)
    assert get_upstream(dialect).decode_response(body).text == TEXT
    part = body[: cut % len(body)]
    with pytest.raises((Garbled, Truncated)):
        get_upstream(dialect).decode_response(part)


@pytest.mark.parametrize(("upstream", "downstream"), PAIRS)
@pytest.mark.parametrize("manner", ["anchor", "restart", "white space", "one more word before"])
@settings(max_examples=3, deadline=None)
@given(text=words, cut=st.floats(0.05, 0.95), sizes=chunkings, again=chunkings)
def test_a_broken_stream_is_spliced_without_a_seam(
    upstream: str, downstream: str, manner: str, text: str, cut: float, sizes: list[int], again: list[int]
) -> None:
    """Cut in the middle of ``upstream``'s bytes; another dialect goes on, in its own manner, in chunks of its own."""
    caller, data = Caller(), stream(upstream, said(text, 5))
    first = relay(upstream, downstream, caller)
    pour(first, data[: int(len(data) * cut)], sizes)
    transcript = first.transcript
    assume(first.committed and transcript.text.strip() and transcript.text != text)
    sent = transcript.text
    tail = sent[-resume.ANCHOR_CHARS :]
    rest = text[len(sent) :]
    new = {
        "anchor": tail + rest,
        "restart": text,
        "white space": "\n" + tail.replace(" ", "  ") + rest,
        "one more word before": "… " + tail + rest,
    }[manner]
    encoder = first.encoder
    if encoder is None:
        encoder = get(downstream).stream_encoder(REQUEST)
        for event in transcript.events():
            encoder.encode(event)
    other = DIALECTS[DIALECTS.index(upstream) - 1]
    second = relay(
        other,
        downstream,
        caller,
        encoder=encoder,
        transcript=transcript,
        committed=True,
        splicer=resume.Splicer(sent, transcript.open_text_block, transcript.last_index),
    )
    pour(second, stream(other, said(new, 7)), again)
    second.finish()
    heard = caller.heard(downstream)
    assert heard.complete
    assert heard.text.startswith(sent)
    assert _flat(heard.text) == _flat(text)
    if manner == "restart":
        assert heard.text == text


@pytest.mark.parametrize("downstream", DIALECTS)
@pytest.mark.parametrize("upstream", DIALECTS)
def test_another_answer_is_never_joined(upstream: str, downstream: str) -> None:
    caller, sent = Caller(), TEXT[:90]
    transcript, encoder = Transcript(), get(downstream).stream_encoder(REQUEST)
    caller.commit()
    for event in (Start("r", "m", 1), BlockStart(0, "text"), TextDelta(0, sent)):
        transcript.add(event)
        caller.write(encoder.encode(event))
    one = relay(
        upstream,
        downstream,
        caller,
        encoder=encoder,
        transcript=transcript,
        committed=True,
        splicer=resume.Splicer(sent, transcript.open_text_block, transcript.last_index),
    )
    with pytest.raises(resume.SpliceFailed):
        one.feed(stream(upstream, said("Something else altogether, said by somebody else. " * 8)))
        one.finish()
    heard = caller.heard(downstream)
    assert (heard.text, heard.complete, caller.ends) == (sent, False, 0)


@pytest.mark.parametrize(("upstream", "downstream"), PAIRS)
def test_nothing_is_sent_before_there_is_content(upstream: str, downstream: str) -> None:
    caller, encoder = Caller(), get(upstream).stream_encoder(REQUEST)
    one = relay(upstream, downstream, caller)
    one.feed(b"".join(encoder.encode(event) for event in said(TEXT)[:2]))
    assert (caller.commits, caller.sent) == (0, b"")
    one.feed(encoder.encode(TextDelta(0, "Ships")))
    assert caller.commits == 1


@pytest.mark.parametrize(("upstream", "downstream"), PAIRS)
def test_what_is_held_goes_out_with_enough_of_it_at_the_end_or_on_release(
    upstream: str, downstream: str
) -> None:
    data = stream(upstream, said(TEXT))
    half = len(data) // 2
    for hold, released in ((10, False), (10_000, False), (10_000, True)):
        caller = Caller()
        one = relay(upstream, downstream, caller, hold_until_chars=hold)
        for at in range(0, half, 16):
            one.feed(data[at : min(at + 16, half)])
        if released:
            assert caller.sent == b""
            one.release()
            one.release()
        assert bool(caller.sent) is (hold == 10 or released)
        assert caller.holds == 1, "the time is asked for once"
        one.feed(data[half:])
        one.finish()
        one.release()
        assert (caller.heard(downstream).text, caller.commits, caller.ends) == (TEXT, 1, 1)


def test_what_dies_while_it_is_held_leaves_no_trace() -> None:
    caller, data = Caller(), stream("anthropic_messages", said(TEXT))
    one = relay("anthropic_messages", "openai_chat", caller, hold_until_chars=10_000)
    one.feed(data[: len(data) // 2])
    with pytest.raises((Truncated, Garbled)):
        one.finish()
    assert (caller.commits, caller.sent) == (0, b"")


@pytest.mark.parametrize("hold", [0, 1000])
@pytest.mark.parametrize("downstream", DIALECTS)
def test_what_came_with_a_late_error_in_one_read_is_not_lost(downstream: str, hold: int) -> None:
    """Nothing was sent yet; the answer is complete, so what follows it does not count, but what came before it does."""
    caller = Caller()
    one = relay("openai_chat", downstream, caller, hold_until_chars=hold)
    data = stream("openai_chat", said(TEXT)).removesuffix(b"data: [DONE]\n\n")
    with pytest.raises(StreamFault):
        one.feed(data + b'data: {"error":{"message":"late","code":500}}\n\n')
    one.finish(broken=True)
    heard = caller.heard(downstream)
    assert (heard.text, heard.complete, heard.error) == (TEXT, True, None)


@pytest.mark.parametrize("downstream", DIALECTS)
@pytest.mark.parametrize("upstream", DIALECTS)
def test_an_error_in_the_stream_ends_it_without_an_end(upstream: str, downstream: str) -> None:

    encoder = get(upstream).stream_encoder(REQUEST)
    begun = b"".join(encoder.encode(event) for event in said(TEXT)[:8])
    broken = encoder.error(Fault(status=503, code="overloaded", message="Full."), "r1")
    caller = Caller()
    one = relay(upstream, downstream, caller)
    one.feed(begun)
    with pytest.raises((StreamFault, Truncated)):
        one.feed(broken)
        one.finish()
    heard = caller.heard(downstream)
    assert heard.text == TEXT[: 6 * 9]
    assert not heard.complete
    assert not caller.ends


@pytest.mark.parametrize(("upstream", "downstream"), PAIRS)
@settings(max_examples=6, deadline=None)
@given(cut=st.floats(0.3, 0.99), sizes=chunkings)
def test_a_tool_call_cut_anywhere_is_never_whole(
    upstream: str, downstream: str, cut: float, sizes: list[int]
) -> None:
    call: list[Event] = [
        Start("r1", "m", 1),
        BlockStart(0, "tool_call", "call_1", "f"),
        *(ArgumentsDelta(0, piece) for piece in ('{"a": [1, ', '"b"], "c": ', '{"d": "é"}}')),
        BlockStop(0),
        Finish("tool_calls"),
    ]
    data, caller = stream(upstream, call), Caller()
    one = relay(upstream, downstream, caller)
    pour(one, data[: int(len(data) * cut)], sizes)
    try:
        one.finish()
    except (Truncated, Garbled):
        assert not caller.heard(downstream).complete
        if one.committed and one.transcript.kinds:
            assert not resume.resumable(one.transcript)


def _flat(text: str) -> str:
    return "".join(char for char in text if not char.isspace() and char not in "\"'`“”‘’«»")
