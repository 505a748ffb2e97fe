"""Text that passes through a stream without being decoded: the caller, the books and a resume must not notice."""

from __future__ import annotations

import json
import re
import tracemalloc
from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_relay import REQUEST, Caller
from tieline.dialects import get, get_upstream
from tieline.dialects.anthropic_messages.stream import mould as mould_of_message
from tieline.dialects.base import Peek
from tieline.dialects.openai_chat.stream import mould
from tieline.dialects.transcript import Transcript
from tieline.relay import Relay

PEEK = Peek(model="m", stream=True, include_usage=True)
nasty = st.text(max_size=30) | st.sampled_from(
    ['"finish_reason":null', '"tool_calls"', 'data: {"x"}\n\n', "[DONE]", '"usage":{', '"error"', "", "\\"]
)


def frame(delta: dict[str, Any], *, finish: str | None = None, spaced: bool = False, **more: Any) -> bytes:
    chunk = {
        "id": "r1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        **more,
    }
    separators = (", ", ": ") if spaced else (",", ":")
    return (
        b"data: "
        + json.dumps(chunk, separators=separators, ensure_ascii=False).encode("utf-8", "replace")
        + b"\n\n"
    )


FIRST = frame({"role": "assistant", "content": "", "refusal": None}) + frame({"content": "Hello"})
USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
TOOL = {
    "tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
}
of_logprobs = st.sampled_from([b'"logprobs":{}', b'"logprobs":[]', b'"logprobs":{"content":[]}'])
pieces = st.lists(
    st.builds(lambda text, spaced: frame({"content": text}, spaced=spaced), nasty, st.booleans())
    | st.builds(lambda text: frame({"content": text}) + frame({"content": text}), nasty)
    | st.builds(
        lambda text, padding: frame({"content": text}, obfuscation=padding),
        nasty,
        st.sampled_from(["", "x7", "a" * 9, "a b", '"']),
    )
    | st.builds(lambda text: frame({"reasoning_content": text}), nasty)
    | st.builds(lambda text: frame({"content": text}).replace(b"\n\n", b"\r: x}\n\n"), nasty)
    | st.builds(
        lambda text, end: frame({"content": text}).replace(b'"logprobs":null', end), nasty, of_logprobs
    )
    | st.just(frame({}, usage=None))
    | st.just(b": comment\n\n"),
    max_size=12,
)
endings = st.sampled_from(
    [
        [
            frame({}, finish="stop"),
            b'data: {"choices":[],"usage":%b}\n\n' % json.dumps(USAGE).encode(),
            b"data: [DONE]\n\n",
        ],
        [frame({}, finish="stop", usage=USAGE) + b"data: [DONE]\n\n"],
        [frame({"content": "bye"}, finish="stop"), b"data: [DONE]\n\n"],
        [frame({}, finish="length"), b"data: [DONE]\n\n"],
        [frame(TOOL), frame({}, finish="tool_calls", usage=USAGE)],
        [],
    ]
)


class Reading:
    """The same dialect, which decodes everything."""

    def __init__(self, name: str = "openai_chat") -> None:
        self._dialect = get(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)

    def mould(self, frame: bytes) -> None:
        return None


def relayed(dialect: Any, chunks: list[bytes], to: str = "") -> tuple[Relay, Caller, str | None]:
    caller = Caller()
    relay = Relay(
        dialect=dialect,
        through=None if to else dialect,
        peek=PEEK,
        encoder=get(to).stream_encoder(REQUEST) if to else None,
        sink=caller,
        transcript=Transcript(),
        clock=lambda: 0.0,
    )
    error = None
    try:
        for chunk in chunks:
            relay.feed(chunk)
        relay.finish()
    except Exception as raised:
        error = type(raised).__name__
    return relay, caller, error


@settings(max_examples=150, deadline=None)
@given(middle=pieces, ending=endings)
def test_nobody_can_tell(middle: list[bytes], ending: list[bytes]) -> None:
    assert_nobody_can_tell([FIRST, *middle, *ending])


@settings(max_examples=100, deadline=None)
@given(middle=pieces, ending=endings, steps=st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_nobody_can_tell_wherever_it_is_cut(
    middle: list[bytes], ending: list[bytes], steps: list[int]
) -> None:
    rest = b"".join([*middle, *ending])
    chunks = [FIRST, frame({"content": "x"})]
    for step in cycle(steps):
        if not rest:
            break
        chunks.append(rest[:step])
        rest = rest[step:]
    assert_nobody_can_tell(chunks)


def assert_nobody_can_tell(chunks: list[bytes], name: str = "openai_chat") -> None:
    lazy, heard, error = relayed(get(name), chunks)
    eager, expected, wrong = relayed(Reading(name), chunks)
    assert (heard.sent, heard.ends, error) == (expected.sent, expected.ends, wrong)
    assert (lazy.usage, lazy.finish_reason, lazy.done) == (eager.usage, eager.finish_reason, eager.done)
    assert (lazy.chars_out, lazy.thinking) == (eager.chars_out, eager.thinking)
    assert lazy.transcript.events() == eager.transcript.events()


others = st.sampled_from(["anthropic_messages", "openai_responses", "gemini", "openai_chat"])
tools = st.sampled_from([frame(TOOL), frame({}, finish="stop"), frame({"refusal": "no"})])


@settings(max_examples=150, deadline=None)
@given(middle=st.lists(pieces | tools.map(lambda one: [one]), max_size=4), ending=endings, to=others)
def test_no_other_dialect_can_tell(middle: list[list[bytes]], ending: list[bytes], to: str) -> None:
    chunks = [FIRST, *[piece for part in middle for piece in part], *ending]
    short, heard, error = relayed(get("openai_chat"), chunks, to)
    long, expected, wrong = relayed(Reading(), chunks, to)
    assert (heard.sent, heard.ends, error) == (expected.sent, expected.ends, wrong)
    assert (short.chars_out, short.usage, short.first_at) == (long.chars_out, long.usage, long.first_at)
    assert short.transcript.events() == long.transcript.events()


def message_event(kind: str, padding: int = 0, *, spaced: bool = False, **fields: Any) -> bytes:
    separators = (", ", ": ") if spaced else (",", ":")
    data = json.dumps({"type": kind, **fields}, separators=separators, ensure_ascii=False)
    line = data[:-1] + " " * padding + data[-1:]
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), line.encode("utf-8", "replace"))


def text_delta(text: str, padding: int = 0, index: int = 0, *, spaced: bool = False, **more: Any) -> bytes:
    delta = {"type": "text_delta", "text": text, **more}
    return message_event("content_block_delta", padding, spaced=spaced, index=index, delta=delta)


def block(index: int, kind: str = "text", **fields: Any) -> bytes:
    return message_event("content_block_start", index=index, content_block={"type": kind, **fields})


MESSAGE = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": []}
FIRST_OF_MESSAGE = message_event(
    "message_start", message={**MESSAGE, "usage": {"input_tokens": 9, "output_tokens": 1}}
) + block(0, text="")
inner = st.sampled_from([b"", b"x", b"y"])
events = st.lists(
    st.builds(text_delta, nasty, st.integers(0, 3), st.sampled_from([0, 0, 0, 1]), spaced=st.booleans())
    | st.builds(lambda text: text_delta(text) + text_delta(text, 2), nasty)
    | st.builds(
        lambda text: text_delta("x").replace(b'"text_delta",', b'"text_delta","text":"%b",' % text), inner
    )
    | st.builds(lambda text: text_delta("x", citation={"text": text}), nasty)
    | st.just(message_event("ping"))
    | st.just(message_event("content_block_stop", index=0))
    | st.just(block(0, text="") + text_delta("y"))
    | st.just(block(1, "thinking", thinking="hm", signature=""))
    | st.just(block(1, "tool_use", id="t1", name="f", input={}))
    | st.just(
        message_event(
            "content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": "{}"}
        )
    )
    | st.just(text_delta("x")[:-3] + b"\n}\n\n")
    | st.just(text_delta("x")[:-3] + b"abc}\n\n")
    | st.just(text_delta("x")[:-2] + b"\r: x\n\n"),
    max_size=12,
)
ends_of_message = st.sampled_from(
    [
        [
            message_event("content_block_stop", index=0),
            message_event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7}),
            message_event("message_stop"),
        ],
        [message_event("error", error={"type": "overloaded_error", "message": "busy"})],
        [],
    ]
)


@settings(max_examples=200, deadline=None)
@given(middle=events, ending=ends_of_message)
def test_nobody_can_tell_of_messages(middle: list[bytes], ending: list[bytes]) -> None:
    assert_nobody_can_tell([FIRST_OF_MESSAGE, *middle, *ending], "anthropic_messages")


@settings(max_examples=100, deadline=None)
@given(middle=events, ending=ends_of_message, to=st.sampled_from(["openai_chat", "gemini"]))
def test_no_other_dialect_can_tell_of_messages(middle: list[bytes], ending: list[bytes], to: str) -> None:
    chunks = [FIRST_OF_MESSAGE, *middle, *ending]
    short, heard, error = relayed(get("anthropic_messages"), chunks, to)
    long, expected, wrong = relayed(Reading("anthropic_messages"), chunks, to)
    assert (without_time(heard.sent), heard.ends, error) == (
        without_time(expected.sent),
        expected.ends,
        wrong,
    )
    assert (short.chars_out, short.usage) == (long.chars_out, long.usage)


def without_time(sent: bytes) -> bytes:
    return re.sub(rb'"created":\d+', b"", sent)


def test_pieces_of_messages_that_fit_are_not_decoded() -> None:
    relay, caller, _ = relayed(get("anthropic_messages"), [FIRST_OF_MESSAGE, text_delta("Hello")])
    relay.feed(text_delta(" there", 3))
    relay.decoder = None  # type: ignore[assignment]
    pieces = [text_delta(f"word {number} ", number % 4) for number in range(9)]
    relay.feed(pieces[0])
    relay.feed(b"".join(pieces[1:]))
    assert caller.sent.endswith(b"".join(pieces))
    assert relay.transcript.text == "Hello there" + "".join(f"word {number} " for number in range(9))


def test_pieces_for_another_dialect_are_not_decoded_when_they_fit() -> None:
    relay, _, _ = relayed(get("openai_chat"), [FIRST], "anthropic_messages")
    relay.feed(frame({"content": "x"}))
    relay.decoder = None  # type: ignore[assignment]
    relay.feed(frame({"content": "y"}))
    assert relay.transcript.text == "Helloxy"


def test_pieces_that_fit_are_not_decoded() -> None:
    relay, caller, _ = relayed(get("openai_chat"), [FIRST])
    relay.feed(frame({"content": "x"}))
    relay.decoder = None  # type: ignore[assignment]
    pieces = [frame({"content": f"word {number} "}) for number in range(9)]
    relay.feed(pieces[0])
    relay.feed(b"".join(pieces[1:]))
    assert caller.sent.endswith(b"".join(pieces))
    assert relay.transcript.text == "Hellox" + "".join(f"word {number} " for number in range(9))
    assert relay.chars_out == len(relay.transcript.text)


def test_padding_of_any_length_is_no_part_of_the_mould() -> None:
    text = [frame({"content": "word "}, obfuscation="k9Fz"[:number]) for number in range(5)]
    relay, caller, _ = relayed(
        get("openai_chat"), [FIRST, text[2], *text, *text, frame({}, finish="stop", usage=USAGE)]
    )
    assert relay.moulds == 2, "of the first word, which has none, and of one that has"
    assert caller.sent.endswith(b"".join([*text, *text, frame({}, finish="stop", usage=USAGE)]) + DONE)


def test_what_only_looks_like_the_mould_is_read() -> None:
    text = frame({"content": "x"})
    before, after = (part + quote for part, quote in zip(text.split(b'"x"'), (b'"', b""), strict=True))
    after = b'"' + after
    for odd in (before + after[1:], before + b"x\\" + after, before + b'"}}],"error":{"message":"' + after):
        _, caller, error = relayed(get("openai_chat"), [FIRST, text, text, odd])
        _, expected, wrong = relayed(Reading(), [FIRST, text, text, odd])
        assert (caller.sent, error) == (expected.sent, wrong)


def test_padding_without_its_end_is_no_padding() -> None:
    text = frame({"content": "x"}, obfuscation="")
    odd = text.replace(b'"obfuscation":""', b'"obfuscation":"')
    _, heard, error = relayed(get("openai_chat"), [FIRST, text, text, odd])
    _, expected, wrong = relayed(Reading(), [FIRST, text, text, odd])
    assert (heard.sent, error) == (expected.sent, wrong)
    assert error == "Garbled"


HEAD, TAIL = frame({"content": "@"}).split(b"@")


@pytest.mark.parametrize(
    "inside",
    [
        b"\xff",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\\u12",
        b"\\x",
        b"\x00",
        b"a\rb",
        b"a\nb",
        b"x\\",
        b'"',
        b'a","b":"c',
    ],
    ids=repr,
)
def test_what_no_caller_can_decode_is_not_passed_on_as_text(inside: bytes) -> None:
    chunks = [FIRST, HEAD + b"x" + TAIL, HEAD + inside + TAIL, HEAD + b"y" + TAIL]
    _, heard, error = relayed(get("openai_chat"), chunks)
    _, expected, wrong = relayed(Reading(), chunks)
    assert (heard.sent, error) == (expected.sent, wrong)


def test_what_follows_a_complete_answer_is_read() -> None:
    """It may be all that is still to come, and who waits for it has to be told again that it is complete."""
    relay, _, _ = relayed(get("openai_chat"), [FIRST])
    text = frame({"content": "x"})
    assert [relay.feed(text), relay.feed(text)] == [False, False]
    assert relay.feed(frame({}, finish="stop"))
    assert relay.feed(text)
    assert relay.transcript.text == "Helloxxx"


def test_to_cut_a_long_text_takes_no_memory_for_each_of_its_letters() -> None:
    for long, cut in ((made("x" * 1_000_000), mould), (text_delta('\\"' * 300_000), mould_of_message)):
        tracemalloc.start()
        assert cut(long) is not None
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 10 * len(long)


def test_an_upstream_that_says_nothing_again_and_again_has_stalled() -> None:
    now = 0.0
    relay = Relay(
        dialect=get_upstream("openai_chat"),
        through=get("openai_chat"),
        peek=PEEK,
        encoder=None,
        sink=Caller(),
        transcript=Transcript(),
        clock=lambda: now,
    )
    relay.feed(FIRST)
    relay.feed(frame({"content": "x"}))
    for second in range(1, 5):
        now = float(second)
        relay.feed(frame({"content": ""}))
    assert relay.last_at == 0.0


ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "ending",
    [
        [frame({}, finish="stop", usage=ZEROS), DONE],
        [frame({}, finish="stop", usage=ZEROS) + DONE],
        [frame({}, finish="stop", usage=ZEROS)],
        [frame({}, finish="stop", usage=None) + DONE],
        [frame({}, finish="stop", usage={"prompt_tokens": 9}, spaced=True) + DONE],
    ],
    ids=["zeros", "zeros at once", "zeros and no [DONE]", "null at once", "counted"],
)
def test_text_is_counted_where_the_upstream_counts_nothing(ending: list[bytes]) -> None:
    chunks = [FIRST, *[frame({"content": "four"})] * 100, *ending]
    lazy, _, error = relayed(get("openai_chat"), chunks)
    eager, _, _ = relayed(Reading(), chunks)
    assert error is None
    assert lazy.chars_out == eager.chars_out == 405


def test_usage_beside_every_piece_is_read_to_the_last() -> None:
    pieces = [
        frame({"content": "x"}, spaced=True, usage={**USAGE, "completion_tokens": min(n, 5)})
        for n in range(9)
    ]
    chunks = [FIRST, *pieces, frame({}, finish="stop"), DONE]
    lazy, _, _ = relayed(get("openai_chat"), chunks)
    eager, _, _ = relayed(Reading(), chunks)
    assert lazy.usage == eager.usage
    assert lazy.usage is not None
    assert lazy.usage.output_tokens == 5


def made(content: str = "x", *, finish: str | None = None, **more: Any) -> bytes:
    return frame({"content": content}, finish=finish, **more)


@pytest.mark.parametrize(
    "data",
    [
        made(),
        frame({"content": "x"}, spaced=True),
        made('say "finish_reason":"stop"'),
        made(usage=None),
        made(obfuscation="k9F"),
        frame({"content": "x", "tool_calls": None, "refusal": None, "role": "assistant"}),
    ],
)
def test_a_piece_of_text_is_a_mould(data: bytes) -> None:
    cut = mould(data)
    assert cut is not None
    assert data.startswith(cut[0])
    assert data.endswith(cut[2] or cut[1])


@pytest.mark.parametrize(
    "data",
    [
        made() * 3,
        made(finish="stop"),
        made(usage=USAGE),
        made(x_groq={"usage": USAGE}),
        made(error={"message": "x"}),
        made().replace(b'"choices"', b'"also":{"content":"x"},"choices"'),
        made().replace(b'"delta":{', b'"delta":{"content":"y",'),
        made()
        .replace(b'{"content"', b'{"\\u0063ontent"')
        .replace(b'"choices"', b'"also":{"content":"x"},"choices"'),
        made().replace(b"\n\n", b"\r: x}\n\n"),
        made().replace(b'"choices"', b'\rdata: "choices"'),
        made().replace(b'"logprobs":null', b'"logprobs":{}'),
        made()[:-1],
        made()[:-9] + b"\n\n",
        b": comment\n" + made(),
        made().replace(b'"logprobs":null', b'"logprobs":{"content":[{"token":"x"}]}'),
        made().replace(b"]}", b',{"index":1,"delta":{}}]}'),
        frame({"content": None}),
        frame({"content": [{"type": "text", "text": "x"}]}),
        frame({"content": "x", **TOOL}),
        frame({"content": "x", "reasoning_content": "hm"}),
        frame({"reasoning_content": "hm"}),
        frame({}, finish="stop"),
        b"data: [DONE]\n\n",
        b'data: {"error":{"message":"x"}}\n\n',
        b"<html>\n\n",
    ],
)
def test_what_says_more_is_none(data: bytes) -> None:
    assert mould(data) is None


@pytest.mark.parametrize("data", [text_delta("x"), text_delta("x", 3), text_delta("{}", spaced=True)])
def test_a_piece_of_a_message_is_a_mould(data: bytes) -> None:
    cut = mould_of_message(data)
    assert cut is not None
    assert data.startswith(cut[0])
    assert data.endswith(cut[2] or cut[1])


@pytest.mark.parametrize(
    "data",
    [
        text_delta("x") * 2,
        text_delta("x").replace(b'"delta"', b'"of":{"text":"y"},"delta"'),
        text_delta("x").replace(b"\n\n", b"\r: ping\n\n"),
        text_delta("x").replace(b"\n\n", b"\rid: 5\n\n"),
        text_delta("x").replace(b'"text_delta",', b'"text_delta","text":"x",'),
        text_delta("x").replace(b'"text_delta"', b'"text_delta_2"'),
        text_delta("x").replace(b"event: content_block_delta", b"event: error"),
        text_delta("x")[:-1],
        text_delta("x")[:-3] + b"\n}\n\n",
        message_event(
            "content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": "x"}
        ),
        message_event("ping"),
        block(0, text="x"),
    ],
)
def test_what_says_more_of_a_message_is_none(data: bytes) -> None:
    assert mould_of_message(data) is None


def test_a_mould_is_cut_around_the_text_that_is_read_whatever_it_says() -> None:
    """Another field of the same name, and a model that says what a mould might be tried with."""

    def chunk(also: str, text: str) -> bytes:
        choice = {"index": 0, "message": {"content": also}, "delta": {"content": text}, "finish_reason": None}
        return b"data: " + json.dumps({"id": "r", "choices": [choice]}).encode() + b"\n\n"

    chunks = [chunk("", "The "), chunk("The ", "tieline"), chunk("The tieline", "tieline")]
    one = relayed(get("openai_chat"), chunks, "")[0]
    assert one.transcript.text == "The tielinetieline"
