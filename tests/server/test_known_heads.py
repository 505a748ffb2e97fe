"""A head that comes again is not read again: what the gateway gets is what a connection of its own would have given it."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from tests.served import chunked, post
from tieline.admit.admission import Admission
from tieline.config.schema import ServerConfig
from tieline.server.accept import Place
from tieline.server.door import MAX_UNLIKE, Door, Hall
from tieline.types.call import Call, Reply

CHAT = "/v1/chat/completions"
_REQUESTS = (
    *(post(CHAT, b"x" * size) for size in (1, 9, 10, 11, 100)),
    post(CHAT, b""),
    post(CHAT, b"x" * 10, "Authorization: Bearer one"),
    post(CHAT, b"x" * 11, "Authorization: Bearer one"),
    post(CHAT, b"x" * 10, "Authorization: Bearer two"),
    post(CHAT, b"x" * 10, "X-Note: content-length: 10"),
    post("/v1/messages", b"x" * 10),
    post(CHAT, post(CHAT, b"x" * 10)),
    post(CHAT, b"x" * 10).replace(b"\r\n\r\n", b"\r\nContent-Length: 10\r\n\r\n"),
    post(CHAT, b"x" * 10).lower().replace(b"post ", b"POST ").replace(b"http/1.1", b"HTTP/1.1"),
    post(CHAT, b"x" * 10, "Expect: 100-continue"),
    b"\r\n" + post(CHAT, b"x" * 10),
    chunked(CHAT, b"x" * 10, 3),
)


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.said = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.said += data

    def writelines(self, list_of_data: Any) -> None:
        self.said += b"".join(list_of_data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close
    write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Gateway:
    def __init__(self, **limits: Any) -> None:
        self.config = SimpleNamespace(server=ServerConfig(**limits))
        self.admission = Admission()
        self.calls: list[Call] = []

    async def handle(self, call: Call, reply: Reply) -> None:
        self.calls.append(call)
        reply.start(200, [], 2)
        reply.write(b"ok")
        reply.end()

    def error_answer(self, dialect: str, fault: Any) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        return b"no", []


class Heard:
    """What a parser tells a door; heads are counted."""

    def __init__(self, door: Door) -> None:
        self.heads = 0
        self._door = door

    def __getattr__(self, name: str) -> Any:
        return getattr(self._door, name)

    def on_message_begin(self) -> None:
        self.heads += 1
        self._door.on_message_begin()


async def served(segments: list[bytes], **limits: Any) -> tuple[list[Any], bytes, int]:
    """The calls that one connection makes of ``segments``, what it answers, and how often it read a head."""
    gateway, wire = Gateway(**limits), Wire()
    config: Any = SimpleNamespace(loaded_app=None)
    door = Door(Hall(gateway, Place()), config, ServerState(), {}, asyncio.get_running_loop())  # type: ignore[arg-type]
    heard = Heard(door)
    door.parser.__init__(heard)
    door.connection_made(wire)
    for segment in segments:
        if not wire.closed:
            door.data_received(segment)
        for _ in range(4):
            await asyncio.sleep(0)
    # A pipelined request that waits for its turn has no task yet, but knows how to begin.
    while door.replies and not wire.closed and any(reply.task or reply.begin for reply in door.replies):
        await asyncio.sleep(0)
    calls = [
        (call.dialect, call.operation, call.path, call.headers, call.body, call.secret)
        for call in gateway.calls
    ]
    door.connection_lost(None)
    return calls, wire.said, heard.heads


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(_REQUESTS), min_size=1, max_size=12), st.lists(st.integers(1, 900), max_size=6)
)
def test_what_is_called_does_not_depend_on_what_came_before(order: list[bytes], cuts: list[int]) -> None:
    async def play() -> None:
        apart = [(await served([one])) for one in order]
        bad = next((at for at, one in enumerate(apart) if not one[0]), len(order) - 1)
        expected = [call for one in apart[: bad + 1] for call in one[0]]
        assert (await served(order))[0] == expected
        whole = b"".join(order)
        marks = sorted({0, *(cut for cut in cuts if cut < len(whole)), len(whole)})
        pieces = [whole[at:end] for at, end in itertools.pairwise(marks)]
        assert (await served(pieces))[0] == expected

    asyncio.run(play())


async def test_the_same_head_is_read_once_whatever_the_length() -> None:
    requests = [post(CHAT, b"x" * size, "Authorization: Bearer k") for size in (5, 1000, 5, 12_345)]
    calls, said, heads = await served(requests)
    assert heads == 1
    assert [len(body) for *_, body, _ in calls] == [5, 1000, 5, 12_345]
    said_lengths = [dict(headers)[b"content-length"] for *_, headers, _, _ in calls]
    assert said_lengths == [b"5", b"1000", b"5", b"12345"]
    assert [secret for *_, secret in calls] == ["k"] * 4
    assert said.count(b"HTTP/1.1 200") == 4


async def test_a_body_beyond_the_bound_is_refused_under_a_known_head_too() -> None:
    requests = [post(CHAT, b"x"), post(CHAT, b"x" * (1024 * 1024 + 1))]
    calls, said, _ = await served(requests, max_body_mb=1)
    assert len(calls) == 1
    assert b"HTTP/1.1 413" in said


async def test_heads_that_never_come_again_are_not_kept_for_long() -> None:
    requests = [post(CHAT, b"x", f"X-Trace: {number}") for number in range(2 * MAX_UNLIKE)]
    again = [requests[0], requests[-1], requests[MAX_UNLIKE - 1]]
    assert (await served(requests + again))[2] == len(requests) + 2
