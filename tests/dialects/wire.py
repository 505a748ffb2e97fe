"""Calls, streams and SDK clients for the dialect tests."""

from __future__ import annotations

import json
from typing import Any

import httpx2

from tieline.dialects.base import Frame, StreamDecoder, Target, UpstreamDialect
from tieline.types.call import Call
from tieline.types.events import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Event,
    Finish,
    SignatureDelta,
    Start,
    TextDelta,
    ThinkingDelta,
    UsageReport,
)
from tieline.types.request import Image, Message, Request, Text, Tool, ToolCall, ToolResult
from tieline.types.usage import Usage

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKJSVFT0YK"


def call(dialect: str, body: Any, **path: Any) -> Call:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Call(
        dialect=dialect, operation=path.pop("operation", "chat"), path="/", headers=[], body=raw, **path
    )


def target(dialect: str, model: str = "m-1", **more: Any) -> Target:
    return Target(provider="test", model=model, dialect=dialect, **more)


def weather_tool() -> Tool:
    return Tool(
        "weather",
        {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "The weather in a city",
    )


def tool_loop() -> Request:
    """Two parallel calls, answered in one turn together with text (WIRE_FACTS 13)."""
    return Request(
        model="x",
        messages=[
            Message("system", [Text("Be brief.")]),
            Message("user", [Text("Weather in Rome and Oslo?"), Image(media_type="image/png", data=PIXEL)]),
            Message(
                "assistant",
                [
                    Text("Looking."),
                    ToolCall("call_1", "weather", '{"city": "Rome"}'),
                    ToolCall("call_2", "weather", '{"city": "Oslo"}'),
                ],
            ),
            Message(
                "user",
                [
                    ToolResult("call_1", [Text("sunny")]),
                    ToolResult("call_2", [Text("no such city")], is_error=True),
                    Text("Go on."),
                ],
            ),
        ],
        tools=[weather_tool()],
        max_output_tokens=100,
        temperature=0.5,
        top_p=0.9,
    )


def answer_events(origin: str | None = None) -> list[Event]:
    """Thinking, text, two tool calls whose arguments interleave, usage."""
    return [
        Start("resp_1", "m", 1_700_000_000),
        BlockStart(0, "thinking", origin=origin),
        ThinkingDelta(0, "Let me "),
        ThinkingDelta(0, "see."),
        SignatureDelta(0, "c2ln"),
        BlockStop(0),
        BlockStart(1, "text"),
        TextDelta(1, "Hé"),
        TextDelta(1, "llo"),
        BlockStop(1),
        BlockStart(2, "tool_call", "call_1", "weather"),
        BlockStart(3, "tool_call", "call_2", "weather"),
        ArgumentsDelta(2, '{"city"'),
        ArgumentsDelta(3, '{"city": "Os'),
        ArgumentsDelta(2, ': "Rome"}'),
        ArgumentsDelta(3, 'lo"}'),
        BlockStop(2),
        BlockStop(3),
        UsageReport(Usage(input_tokens=100, cache_read_tokens=40, output_tokens=30, reasoning_tokens=10)),
        Finish("tool_calls"),
    ]


def text_events() -> list[Event]:
    return [
        Start("resp_1", "m", 1_700_000_000),
        BlockStart(0, "text"),
        TextDelta(0, '{"city": '),
        TextDelta(0, '"Rome"}'),
        BlockStop(0),
        UsageReport(Usage(input_tokens=5, output_tokens=3)),
        Finish("stop"),
    ]


def encoded(encoder: Any, events: list[Event]) -> bytes:
    return b"".join([encoder.encode(event) for event in events]) + encoder.finish()


def read(dialect: UpstreamDialect, raw: bytes, cut: int | None = None) -> list[Event]:
    """A whole stream through splitter and decoder, split in two at ``cut``."""
    pieces = [raw] if cut is None else [raw[:cut], raw[cut:]]
    return read_pieces(dialect, pieces)


def read_pieces(dialect: UpstreamDialect, pieces: list[bytes]) -> list[Event]:
    splitter = dialect.splitter()
    decoder = dialect.stream_decoder()
    events: list[Event] = []
    for piece in pieces:
        for frame in splitter.feed(piece):
            events += decode_one(decoder, frame)
    for frame in splitter.finish():
        events += decode_one(decoder, frame)
    return events + decoder.finish()


def decode_one(decoder: StreamDecoder, frame: Frame) -> list[Event]:
    return decoder.decode(frame)


def summary(events: list[Event]) -> dict[str, Any]:
    """What an answer amounts to, however it was cut into events. Checks the order that types/events.py states."""
    check_order(events)
    blocks: dict[int, dict[str, Any]] = {}
    out: dict[str, Any] = {"blocks": blocks}
    for event in events:
        if isinstance(event, BlockStart):
            blocks[event.index] = {
                "kind": event.kind,
                "name": event.name,
                "text": "",
                "signature": event.signature,
            }
        elif isinstance(event, TextDelta | ThinkingDelta):
            blocks[event.index]["text"] += event.text
        elif isinstance(event, ArgumentsDelta):
            blocks[event.index]["text"] += event.json
        elif isinstance(event, SignatureDelta):
            blocks[event.index]["signature"] = (blocks[event.index]["signature"] or "") + event.signature
        elif isinstance(event, UsageReport):
            out["usage"] = event.usage
        elif isinstance(event, Finish):
            out["finish"] = event.reason
        elif isinstance(event, Start):
            out["id"] = event.id
    out["blocks"] = list(blocks.values())
    return out


def check_order(events: list[Event]) -> None:
    assert isinstance(events[0], Start), events[:2]
    assert sum(isinstance(event, Start) for event in events) == 1
    open_blocks: set[int] = set()
    last = -1
    for event in events:
        if isinstance(event, BlockStart):
            assert event.index > last
            last = event.index
            open_blocks.add(event.index)
        elif isinstance(event, BlockStop):
            open_blocks.remove(event.index)
        elif isinstance(event, TextDelta | ThinkingDelta | ArgumentsDelta | SignatureDelta):
            assert event.index in open_blocks
        elif isinstance(event, Finish):
            assert not open_blocks
    assert not open_blocks
    assert any(isinstance(event, Finish) for event in events)


def serving(
    body: bytes, status: int = 200, media_type: str = "text/event-stream"
) -> tuple[httpx2.Client, list[httpx2.Request]]:
    """An HTTP client whose every request is answered with ``body``; the requests are kept."""
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(status, content=body, headers={"content-type": media_type})

    return httpx2.Client(transport=httpx2.MockTransport(answer)), seen
