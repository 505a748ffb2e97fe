"""Streams of both dialects: the same wherever they are split, never a silent success, never a crash."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.samples import (
    ANTHROPIC,
    ANTHROPIC_STREAM,
    DONE,
    OPENAI,
    OPENAI_STREAM,
    STREAMS,
    block,
    chunk,
    event,
    events,
    frames,
    message_end,
    message_start,
    written,
)
from tieline.dialects import get
from tieline.dialects.base import Frame, Garbled, Peek, StreamFault, Truncated
from tieline.dialects.transcript import Transcript
from tieline.types.events import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    CitationDelta,
    Event,
    Finish,
    SignatureDelta,
    Start,
    TextDelta,
    ThinkingDelta,
    UsageReport,
)
from tieline.types.request import Thinking, ToolCall
from tieline.types.response import Response
from tieline.types.usage import Usage

BOTH = pytest.mark.parametrize("name", [OPENAI, ANTHROPIC])


def timeless(seen: Iterable[Event]) -> list[Event]:
    """Anthropic's streams tell no time, so that ours is the clock's."""
    return [Start(e.id, e.model, 0, e.service_tier) if isinstance(e, Start) else e for e in seen]


def whole(seen: Iterable[Event]) -> Response:
    transcript = Transcript()
    for each in seen:
        transcript.add(each)
    return transcript.response()


def openai(*deltas: bytes) -> list[Event]:
    return events(OPENAI, *deltas)


def finish(seen: list[Event]) -> Finish:
    (found,) = [each for each in seen if isinstance(each, Finish)]
    return found


def last_usage(seen: list[Event]) -> Usage:
    return [each.usage for each in seen if isinstance(each, UsageReport)][-1]


def ordered(seen: list[Event]) -> None:
    """The order that types/events.py promises."""
    opened: set[int] = set()
    highest = -1
    assert isinstance(seen[0], Start)
    finished = False
    for each in seen[1:]:
        assert not isinstance(each, Start)
        if isinstance(each, BlockStart):
            assert each.index > highest
            highest = each.index
            opened.add(each.index)
        elif isinstance(each, BlockStop):
            opened.remove(each.index)
        elif isinstance(each, Finish):
            finished = True
        elif not isinstance(each, UsageReport):
            assert each.index in opened
            assert not finished
    assert not opened
    assert finished


# Chat Completions ---------------------------------------------------------------------------------------------


def test_a_rich_openai_stream() -> None:
    seen = events(OPENAI, OPENAI_STREAM)
    ordered(seen)
    answer = whole(seen)
    assert answer.text == "Grüße 🎉"
    assert answer.choices[0].parts[0] == Thinking("hmm … ", origin=OPENAI)
    assert [(c.id, c.name, c.arguments) for c in answer.tool_calls] == [
        ("call_a", "get_weather", '{"city":"Köln"}'),
        ("call_b", "clock", "{}"),
    ]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage == Usage(input_tokens=20, output_tokens=9)


def test_wire_01_names_in_pieces_repeated_or_growing() -> None:
    def name(*pieces: str) -> str:
        deltas = [
            chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": piece}}]}) for piece in pieces
        ]
        ended = chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, "tool_calls")
        return whole(openai(*deltas, ended)).tool_calls[0].name

    assert (
        name("get_", "weather")
        == name("get_weather", "get_weather")
        == name("get_", "get_weather")
        == "get_weather"
    )


def test_wire_01_a_call_without_a_name_yet_holds_nobody_up() -> None:
    def delta(index: int, **function: str) -> bytes:
        return chunk({"tool_calls": [{"index": index, "id": f"c{index}", "function": function}]})

    seen = openai(
        delta(0, arguments=""),
        delta(1, name="g", arguments='{"x":1}'),
        delta(0, name="get_"),
        delta(0, name="f", arguments="{}"),
        chunk(None, "tool_calls"),
    )
    ordered(seen)
    assert [(call.id, call.name) for call in whole(seen).tool_calls] == [("c1", "g"), ("c0", "get_f")]


def test_wire_01_parallel_calls_that_all_have_index_0_or_none() -> None:
    def two(first: dict[str, Any], second: dict[str, Any]) -> list[tuple[str, str]]:
        calls = [
            {**first, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
            {**second, "id": "b", "function": {"name": "f", "arguments": '{"x":2}'}},
        ]
        seen = openai(
            chunk({"tool_calls": calls[:1]}), chunk({"tool_calls": calls[1:]}), chunk(None, "tool_calls")
        )
        ordered(seen)
        return [(call.id, call.arguments) for call in whole(seen).tool_calls]

    assert two({"index": 0}, {"index": 0}) == two({}, {}) == [("a", '{"x":1}'), ("b", '{"x":2}')]


def test_arguments_as_objects_missing_ids_and_no_arguments_at_all() -> None:
    seen = openai(
        chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": {"x": 1}}}]}),
        chunk({"tool_calls": [{"index": 1, "function": {"name": "g"}}]}),
        chunk(None, "stop"),
    )
    calls = whole(seen).tool_calls
    assert [call.arguments for call in calls] == ['{"x":1}', "{}"]
    assert calls[0].id.startswith("call_")
    assert calls[0].id != calls[1].id
    assert finish(seen).reason == "tool_calls"


def test_wire_04_chunks_without_choices_end_nothing() -> None:
    seen = openai(
        chunk(None, choices=[]), chunk({"content": "a"}), chunk(None, choices=[]), chunk(None, "stop")
    )
    assert whole(seen).text == "a"


def test_wire_05_reasoning_first_is_block_0_and_text_block_1() -> None:
    seen = openai(
        chunk({"role": "assistant", "reasoning": "r"}), chunk({"content": "t"}), chunk(None, "stop")
    )
    starts = [(each.index, each.kind) for each in seen if isinstance(each, BlockStart)]
    assert starts == [(0, "thinking"), (1, "text")]


def test_wire_06_one_id_created_and_model_in_all_chunks() -> None:
    seen = openai(
        chunk({"content": "a"}, id="x1", created=5),
        chunk({"content": "b"}, id="x2", created=6, model="other"),
        chunk(None, "stop", id="x3"),
    )
    lines = [
        json.loads(each.data) for each in frames(get(OPENAI), written(OPENAI, seen)) if each.data != b"[DONE]"
    ]
    assert {(line["id"], line["created"], line["model"]) for line in lines} == {("x1", 5, "gpt-x")}


def test_wire_07_content_in_and_after_the_finish_chunk() -> None:
    seen = openai(chunk({"content": "a"}), chunk({"content": "b"}, "stop"), chunk({"content": "c"}), DONE)
    ordered(seen)
    assert whole(seen).text == "abc"
    late = openai(
        chunk({"content": "a"}, "stop"),
        chunk({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": "{}"}}]}),
    )
    assert finish(late).reason == "tool_calls"


def test_wire_08_stop_after_a_tool_call_is_tool_calls() -> None:
    call = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]}
    ended = finish(openai(chunk(call), chunk(None, "stop")))
    assert (ended.reason, ended.native_reason) == ("tool_calls", "stop")


@pytest.mark.parametrize(
    ("name", "body", "status", "code"),
    [
        (OPENAI, b'data: {"error":{"message":"no","type":"server_error","code":null}}\n\n', 500, None),
        (OPENAI, b'data: {"error":{"message":"slow down","code":429}}\n\n', 429, "429"),
        (OPENAI, b'data: {"error":"plain words"}\n\n', None, None),
        (
            OPENAI,
            b'data: {"object":"error","message":"vllm","type":"BadRequestError","code":400}\n\n',
            400,
            "400",
        ),
        (OPENAI, b'event: error\ndata: {"message":"bare","type":"overloaded_error"}\n\n', 529, None),
        (OPENAI, b'data: {"detail":"gone"}\n\n', None, None),
        (OPENAI, chunk({"content": "x"}, "error"), 502, "error"),
        (OPENAI, chunk(None, "insufficient_system_resource"), 503, "insufficient_system_resource"),
        (ANTHROPIC, event("error", error={"type": "overloaded_error", "message": "Overloaded"}), 529, None),
        (ANTHROPIC, event("error", error={"type": "rate_limit_error", "message": "x"}), 429, None),
        (ANTHROPIC, b'data: {"type":"error","error":{"type":"api_error","message":"x"}}\n\n', 500, None),
        (ANTHROPIC, b"event: error\ndata: not json\n\n", None, None),
    ],
)
def test_wire_09_errors_inside_a_200_stream(
    name: str, body: bytes, status: int | None, code: str | None
) -> None:
    first = chunk({"content": "a"}) if name == OPENAI else message_start()
    with pytest.raises(StreamFault) as caught:
        events(name, first + body)
    assert caught.value.status == status
    assert caught.value.info.code == code
    assert caught.value.info.message


@BOTH
def test_wire_10_eof_without_an_end_is_truncated_and_done_is_not_needed(name: str) -> None:
    stream = STREAMS[name]
    terminator = get(name).terminator
    assert stream.endswith(terminator) or name == ANTHROPIC
    assert finish(events(name, stream.removesuffix(terminator)))
    cut = (
        stream.rindex(b"data: ", 0, stream.index(b'"finish_reason": "tool_calls"'))
        if name == OPENAI
        else stream.index(b"event: message_delta")
    )
    with pytest.raises(Truncated):
        events(name, stream[:cut])
    with pytest.raises(Truncated):
        events(name, b"")
    if name == OPENAI:
        with pytest.raises(Truncated):
            events(name, chunk({"content": "a"}) + DONE)


def test_complete_and_ended_are_told_apart() -> None:
    decoder = get(OPENAI).stream_decoder()
    for frame in frames(get(OPENAI), chunk({"content": "a"}), chunk(None, "stop")):
        decoder.decode(frame)
    assert decoder.complete
    assert not decoder.ended
    decoder.decode(Frame(DONE, b"[DONE]"))
    assert decoder.ended
    assert decoder.finish() == []


def test_n_choices_are_complete_when_all_are() -> None:
    def part(index: int, text: str | None, end: str | None = None) -> bytes:
        return chunk(choices=[{"index": index, "delta": {"content": text}, "finish_reason": end}])

    with pytest.raises(Truncated):
        openai(part(0, "a"), part(1, "b"), part(0, None, "stop"))
    answer = whole(openai(part(0, "a"), part(1, "b"), part(0, None, "stop"), part(1, "c", "length")))
    assert [(choice.finish_reason, choice.parts[0].text) for choice in answer.choices] == [  # type: ignore[union-attr]
        ("stop", "a"),
        ("length", "bc"),
    ]


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("model_length", "length"),
        ("eos", "stop"),
    ],
)
def test_wire_27_finish_reasons(native: str, reason: str) -> None:
    ended = finish(openai(chunk({"content": "a"}), chunk(None, native)))
    assert (ended.reason, ended.native_reason) == (reason, native)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 80}},
            Usage(input_tokens=100, cache_read_tokens=80, output_tokens=5),
        ),
        (
            {"prompt_tokens": 100, "completion_tokens": 5, "prompt_cache_hit_tokens": 64},
            Usage(input_tokens=100, cache_read_tokens=64, output_tokens=5),
        ),
        (
            {"prompt_tokens": 100, "completion_tokens": 5, "cached_tokens": 7},
            Usage(input_tokens=100, cache_read_tokens=7, output_tokens=5),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 45,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(input_tokens=10, output_tokens=35, reasoning_tokens=30),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 35,
                "total_tokens": 45,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(input_tokens=10, output_tokens=35, reasoning_tokens=30),
        ),
        (
            {
                "prompt_tokens": None,
                "completion_tokens": -1,
                "prompt_tokens_details": None,
                "total_tokens": None,
            },
            Usage(),
        ),
    ],
)
def test_wire_30_usage_of_each_vendor(usage: dict[str, Any], expected: Usage) -> None:
    ended = chunk({"content": "a"}, "stop")
    assert last_usage(openai(ended, chunk(None, choices=[], usage=usage))) == expected
    assert last_usage(openai(chunk({"content": "a"}, "stop", x_groq={"usage": usage}))) == expected
    inside = [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage}]
    assert last_usage(openai(chunk({"content": "a"}), chunk(choices=inside))) == expected


def test_nulls_anywhere() -> None:
    delta = dict.fromkeys(
        ("role", "content", "tool_calls", "function_call", "refusal", "reasoning", "reasoning_details")
    )
    seen = openai(
        chunk(delta, usage=None, service_tier=None, system_fingerprint=None),
        chunk(choices=[{"index": None, "delta": None, "finish_reason": None, "logprobs": None}]),
        chunk({"content": "a", "tool_calls": [{"index": 0, "id": None, "function": None}]}),
        chunk({"tool_calls": [{"index": None, "id": None, "function": {"name": None, "arguments": None}}]}),
        chunk(None, "stop", choices=[{"delta": {}, "finish_reason": "stop"}]),
    )
    assert whole(seen).text == "a"
    assert finish(seen).reason == "stop"


def test_mistral_content_lists_with_thinking() -> None:
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
    seen = openai(
        chunk({"content": thought}), chunk({"content": [{"type": "text", "text": "a"}]}), chunk(None, "stop")
    )
    assert [getattr(part, "text", None) for part in whole(seen).choices[0].parts] == ["hm", "a"]


def test_wire_21_openrouter_reasoning_details_keep_signatures() -> None:
    detail = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    seen = openai(
        chunk({"reasoning": "h", "reasoning_details": [{**detail, "text": "h"}]}),
        chunk({"reasoning": "m", "reasoning_details": [{**detail, "text": "m"}]}),
        chunk({"reasoning_details": [{**detail, "signature": "sig"}]}),
        chunk(
            {
                "reasoning_details": [
                    {"type": "reasoning.encrypted", "data": "d", "format": "anthropic-claude-v1"}
                ]
            }
        ),
        chunk({"content": "a"}),
        chunk(None, "stop"),
    )
    ordered(seen)
    assert whole(seen).choices[0].parts[:2] == [
        Thinking("hm", "sig", origin=ANTHROPIC),
        Thinking("", None, "d", origin=ANTHROPIC),
    ]


def test_wire_21_signatures_survive_the_other_dialect() -> None:
    seen = events(ANTHROPIC, ANTHROPIC_STREAM)
    through = events(OPENAI, written(OPENAI, seen))
    signed = [part for part in whole(through).choices[0].parts if isinstance(part, Thinking)]
    assert signed == [
        Thinking("hmm … ", "c2ln", origin=ANTHROPIC),
        Thinking("", None, "ZGF0YQ==", origin=ANTHROPIC),
    ]


def test_wire_21_foreign_signatures_are_sealed_for_messages_callers() -> None:
    seen: list[Event] = [
        Start("i", "m", 1),
        BlockStart(0, "thinking", id="rs_1", origin="openai_responses", value="enc"),
        BlockStop(0),
        BlockStart(1, "thinking", origin="gemini"),
        ThinkingDelta(1, "t"),
        SignatureDelta(1, "sig"),
        BlockStop(1),
        Finish("stop"),
    ]
    out = written(ANTHROPIC, seen)
    assert b'"tieline:openai_responses:rs_1:enc"' in out
    assert b'"tieline:gemini::sig"' in out


def test_wire_23_the_structured_output_tool_becomes_content() -> None:
    name = "tieline_structured_output"
    call = {"index": 0, "id": "c", "function": {"name": name, "arguments": '{"a":'}}
    seen = openai(
        chunk({"tool_calls": [call]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
        chunk(None, "tool_calls"),
    )
    claude = events(
        ANTHROPIC,
        message_start(),
        block(
            0,
            {"type": "tool_use", "id": "t", "name": name, "input": {}},
            {"type": "input_json_delta", "partial_json": '{"a":1}'},
        ),
        message_end("tool_use"),
    )
    for each in (seen, claude):
        ordered(each)
        assert whole(each).text == '{"a":1}'
        assert not whole(each).tool_calls
        assert finish(each).reason == "stop"
    assert b'"end_turn"' in written(ANTHROPIC, claude)


def test_refusals_and_logprobs() -> None:
    logprobs = {
        "content": [{"token": "a", "logprob": -0.1, "bytes": None, "top_logprobs": []}],
        "refusal": None,
    }
    choice = {"index": 0, "delta": {"content": "a"}, "logprobs": logprobs, "finish_reason": None}
    answer = whole(openai(chunk(choices=[choice]), chunk(choices=[choice]), chunk(None, "stop")))
    assert answer.choices[0].logprobs["content"] == logprobs["content"] * 2  # type: ignore[index, operator]
    refused = whole(openai(chunk({"refusal": "I "}), chunk({"refusal": "cannot"}), chunk(None, "stop")))
    assert refused.choices[0].parts[0].text == "I cannot"  # type: ignore[union-attr]


def test_wire_03_the_usage_chunk_is_hidden_from_callers_who_did_not_ask() -> None:
    hidden, shown = Peek(model="m"), Peek(model="m", include_usage=True)
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    (bare,) = frames(get(OPENAI), chunk(None, choices=[], usage=usage))
    (text,) = frames(get(OPENAI), chunk({"content": '"usage" "prompt_tokens"'}, usage=usage))
    (azure,) = frames(get(OPENAI), chunk(None, choices=[], usage=None))
    assert get(OPENAI).hides(bare, hidden)
    assert not get(OPENAI).hides(bare, shown)
    assert not get(OPENAI).hides(text, hidden)
    assert not get(OPENAI).hides(azure, hidden)
    assert not get(OPENAI).hides(Frame(b"", b'{"usage" "prompt_tokens"'), hidden)


# Messages -----------------------------------------------------------------------------------------------------


def test_a_rich_anthropic_stream() -> None:
    seen = events(ANTHROPIC, ANTHROPIC_STREAM)
    ordered(seen)
    answer = whole(seen)
    assert answer.choices[0].parts[:2] == [
        Thinking("hmm … ", "c2ln", origin=ANTHROPIC),
        Thinking("", None, "ZGF0YQ==", origin=ANTHROPIC),
    ]
    assert answer.text == "Grüße 🎉"
    assert answer.tool_calls == [ToolCall("toolu_1", "get_weather", '{"city": "Köln"}')]
    assert (answer.id, answer.model) == ("msg_1", "claude-x")


def test_wire_29_cached_tokens_not_billed_twice() -> None:
    usage = last_usage(events(ANTHROPIC, ANTHROPIC_STREAM))
    assert usage == Usage(input_tokens=100, cache_read_tokens=90, output_tokens=5)


def test_wire_29_message_delta_replaces_and_nulls_keep_message_start() -> None:
    seen = events(
        ANTHROPIC,
        message_start(
            cache_creation_input_tokens=30,
            cache_creation={"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        ),
        message_end("max_tokens", cache_creation_input_tokens=30, input_tokens=None),
    )
    assert last_usage(seen) == Usage(
        input_tokens=40, cache_write_5m_tokens=10, cache_write_1h_tokens=20, output_tokens=5
    )
    assert finish(seen).reason == "length"


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
        ("model_context_window_exceeded", "length"),
        ("something_new", "stop"),
    ],
)
def test_wire_27_stop_reasons_map_and_stay_for_messages_callers(native: str, reason: str) -> None:
    seen = events(ANTHROPIC, message_start(), message_end(native))
    assert (finish(seen).reason, finish(seen).native_reason) == (reason, native)
    expected = "end_turn" if native == "something_new" else native
    assert f'"stop_reason":"{expected}"'.encode() in written(ANTHROPIC, seen)


def test_wire_24_server_tools_and_citations_survive() -> None:
    use = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    result = {
        "type": "web_search_tool_result",
        "tool_use_id": "s",
        "content": [{"type": "web_search_result"}],
    }
    citation = {
        "type": "web_search_result_location",
        "url": "https://example.com",
        "title": "t",
        "cited_text": "c",
    }
    stream = (
        message_start()
        + block(0, use, {"type": "input_json_delta", "partial_json": '{"query":"q"}'})
        + block(1, result)
        + block(
            2,
            {"type": "text", "text": ""},
            {"type": "citations_delta", "citation": citation},
            {"type": "text_delta", "text": "a"},
        )
        + message_end()
    )
    seen = events(ANTHROPIC, stream)
    ordered(seen)
    opaque = [each.value for each in seen if isinstance(each, BlockStart) and each.kind == "opaque"]
    assert opaque == [{**use, "input": {"query": "q"}}, result]
    assert [each.value for each in seen if isinstance(each, CitationDelta)] == [citation]
    assert timeless(events(ANTHROPIC, written(ANTHROPIC, seen))) == timeless(seen)
    assert b'"url_citation"' in written(OPENAI, seen)


def test_hosts_that_send_tool_input_with_the_start() -> None:
    start = {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}
    seen = events(ANTHROPIC, message_start(), block(0, start), message_end("tool_use"))
    assert json.loads(whole(seen).tool_calls[0].arguments) == {"x": 1}


def test_unknown_events_are_ignored() -> None:
    seen = events(ANTHROPIC, message_start() + event("brand_new", x=1) + message_end())
    assert finish(seen).reason == "stop"


def test_wire_01_interleaved_calls_go_out_block_by_block() -> None:
    out = written(ANTHROPIC, events(OPENAI, OPENAI_STREAM))
    current = -1
    order = []
    for frame in frames(get(ANTHROPIC), out):
        body = json.loads(frame.data)
        assert body["type"] == frame.event
        if body["type"] == "content_block_start":
            current += 1
            order.append(body["content_block"]["type"])
        if "index" in body:
            assert body["index"] == current
    assert order == ["thinking", "text", "tool_use", "tool_use"]


def test_message_start_carries_the_input_usage_when_it_is_known() -> None:
    out = written(ANTHROPIC, events(ANTHROPIC, ANTHROPIC_STREAM))
    start = json.loads(next(frames(get(ANTHROPIC), out)).data)
    assert start["message"]["usage"]["cache_read_input_tokens"] == 90
    assert start["message"]["usage"]["input_tokens"] == 10


# Any split, any cut, any garbage ------------------------------------------------------------------------------


@BOTH
def test_wire_02_split_at_every_byte(name: str) -> None:
    stream = STREAMS[name]
    expected = timeless(events(name, stream))
    assert timeless(events(name, *(stream[i : i + 1] for i in range(len(stream))))) == expected
    for cut in range(0, len(stream), 3):
        assert timeless(events(name, stream[:cut], stream[cut:])) == expected
    crlf = stream.replace(b"\n", b"\r\n")
    assert timeless(events(name, crlf)) == expected
    assert timeless(events(name, stream.rstrip(b"\n"))) == expected


@BOTH
def test_truncated_anywhere_is_truncated_or_whole(name: str) -> None:
    stream = STREAMS[name]
    expected = whole(events(name, stream))
    ends = 0
    for cut in range(len(stream)):
        try:
            seen = events(name, stream[:cut])
        except (Truncated, Garbled):
            continue
        ends += 1
        answer = whole(seen)
        assert answer.choices == expected.choices, cut
    assert 0 < ends < len(stream)


_NOISE = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [
            b"data: {}\n\n",
            b"data: null\n\n",
            b"data: []\n\n",
            b'data: {"choices":[{}]}\n\n',
            b'data: {"choices":[{"delta":{"content":7}}]}\n\n',
            b'data: {"choices":[{"delta":{"tool_calls":[{}]}}]}\n\n',
            b'data: {"type":"content_block_start"}\n\n',
            b'data: {"type":"content_block_delta","index":9,"delta":{"type":"text_delta","text":"x"}}\n\n',
            b'data: {"type":"content_block_start","index":0,"content_block":{"type":"odd"}}\n\n',
            b'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":"x"}}\n\n',
            b'data: {"type":"content_block_stop","index":4}\n\n',
            b'data: {"error":{}}\n\n',
            b"data: [DONE]\n\n",
            b"data: " + b"[" * 3000 + b"\n\n",
        ]
    ),
)


@BOTH
@settings(max_examples=200, deadline=None)
@given(noise=_NOISE, more=_NOISE, place=st.integers(0, 4000))
def test_garbage_anywhere_never_raises_anything_else(
    name: str, noise: bytes, more: bytes, place: int
) -> None:
    stream = STREAMS[name]
    at = place % len(stream)
    try:
        seen = events(name, stream[:at] + noise + more + stream[at:])
    except (Garbled, StreamFault, Truncated):
        return
    ordered(seen)
    for dialect in (OPENAI, ANTHROPIC):
        written(dialect, seen)


def test_garbled_frames_say_whether_they_carry_content() -> None:
    decoder = get(OPENAI).stream_decoder()
    with pytest.raises(Garbled) as lost:
        decoder.decode(Frame(b"", b'{"choices":[{"delta":{"content":"x'))
    assert lost.value.carries_content
    with pytest.raises(Garbled) as harmless:
        decoder.decode(Frame(b"", b"{oops"))
    assert not harmless.value.carries_content


@BOTH
@pytest.mark.parametrize("source", [OPENAI, ANTHROPIC])
def test_written_streams_read_back_the_same(name: str, source: str) -> None:
    once = events(name, written(name, events(source, STREAMS[source])))
    ordered(once)
    twice = events(name, written(name, once))
    assert whole(twice).choices == whole(once).choices
    assert whole(once).text == "Grüße 🎉"
    assert last_usage(once) == last_usage(events(source, STREAMS[source]))
    again = written(name, twice)
    assert events(name, again)[1:] == twice[1:]


@BOTH
def test_an_error_in_the_middle_is_never_a_complete_answer(name: str) -> None:
    from tests.dialects.samples import Request
    from tieline.types.errors import Fault

    encoder = get(name).stream_encoder(Request(model="m", messages=[]))
    out = encoder.encode(Start("i", "m", 1)) + encoder.encode(BlockStart(0, "text"))
    out += encoder.encode(TextDelta(0, "half")) + encoder.ping()
    out += encoder.error(Fault(status=502, code="truncated", message="The upstream broke off."), "req_1")
    assert get(name).terminator not in out
    with pytest.raises(StreamFault) as caught:
        events(name, out)
    assert caught.value.info.message == "The upstream broke off."


def test_empty_arguments_and_deltas_write_valid_streams() -> None:
    seen: list[Event] = [
        Start("i", "m", 1),
        BlockStart(0, "tool_call", id="a", name="f"),
        BlockStart(1, "tool_call", id="b", name="g"),
        ArgumentsDelta(1, "{}"),
        BlockStop(1),
        ArgumentsDelta(0, "{}"),
        BlockStop(0),
        Finish("tool_calls"),
    ]
    back = events(ANTHROPIC, written(ANTHROPIC, seen))
    ordered(back)
    assert [call.id for call in whole(back).tool_calls] == ["a", "b"]
