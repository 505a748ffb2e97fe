"""The door under any cut of good requests, and under garbage: always an answer or a close, never a hang."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.served import chat, chunked, get, post, serving

_REQUESTS = (
    (post("/v1/chat/completions", chat()), 200),
    (chunked("/v1/chat/completions", chat(), 11), 200),
    (post("/v1/messages", chat(max_tokens=5)), 200),
    (post("/v1/chat/completions", b"{"), 400),
    (get("/health/live"), 200),
    (get("/nowhere"), 404),
    (get("/v1/messages"), 405),
    (post("/nowhere", b"x" * 100), 404),
)
_ROUNDS = 40

cuts = st.lists(st.integers(1, 200), max_size=12)
orders = st.lists(st.sampled_from(range(len(_REQUESTS))), min_size=1, max_size=8)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(orders, cuts), min_size=1, max_size=_ROUNDS // 5))
def test_any_order_cut_anywhere_is_answered_in_order(rounds: list[tuple[list[int], list[int]]]) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with serving(Path(folder)) as served:
                for order, sizes in rounds:
                    async with await served.connect() as raw:
                        sent = b"".join(_REQUESTS[index][0] for index in order)
                        for size in sizes:
                            raw.send(sent[:size])
                            sent = sent[size:]
                            await asyncio.sleep(0.0005)
                        raw.send(sent)
                        for index in order:
                            assert (await raw.hear()).status == _REQUESTS[index][1]

    uvloop.run(play())


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=400),
            st.tuples(
                st.sampled_from([one for one, _ in _REQUESTS]), st.integers(0, 150), st.binary(max_size=3)
            ).map(lambda made: made[0][: made[1]] + made[2] + made[0][made[1] :]),
        ),
        min_size=5,
        max_size=15,
    )
)
def test_garbage_is_answered_or_closed(pieces: list[bytes]) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with serving(Path(folder), receive_timeout_s=0.3) as served:
                await asyncio.gather(*(one(served, piece) for piece in pieces))
                async with await served.connect() as raw:
                    raw.send(post("/v1/chat/completions", chat()))
                    assert (await raw.hear()).status == 200
                await served.settled()

    async def one(served: object, piece: bytes) -> None:
        async with await served.connect() as raw:  # type: ignore[attr-defined]
            raw.send(piece + b"\r\n\r\n")
            raw.writer.write_eof()
            async with asyncio.timeout(10):
                try:
                    answer = await raw.reader.read()
                except ConnectionError:
                    return
            assert not answer or answer.startswith(b"HTTP/1.1 ")
            assert b"Traceback" not in answer

    uvloop.run(play())
