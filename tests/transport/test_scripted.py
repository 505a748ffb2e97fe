from __future__ import annotations

import asyncio

import pytest

from tieline.transport.base import TransportError, UpstreamRequest
from tieline.transport.scripted import Scripted, ScriptedTransport

REQUEST = UpstreamRequest(url="https://a.test/v1", headers=[(b"a", b"b")], body=b"{}", response_timeout_s=10)


async def test_answers_come_in_order_and_requests_are_kept() -> None:
    reset = TransportError("reset", "gone", sent=True)
    transport = ScriptedTransport([Scripted(headers=[(b"x", b"1")], chunks=[b"a", b"b"]), reset])
    response = await transport.send(REQUEST)
    assert (response.status, response.header(b"x")) == (200, b"1")
    assert transport.in_flight == 1
    assert await response.read(2) == b"ab"
    assert transport.in_flight == 0
    with pytest.raises(TransportError) as caught:
        await transport.send(REQUEST)
    assert caught.value is reset
    with pytest.raises(TransportError, match="no more answers"):
        await transport.send(REQUEST)
    assert transport.requests == [REQUEST] * 3


async def test_a_function_of_the_request() -> None:
    transport = ScriptedTransport(lambda request: Scripted(chunks=[request.body]))
    assert await (await transport.send(REQUEST)).read(10) == b"{}"


async def test_time_is_injected() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    transport = ScriptedTransport(
        [Scripted(wait_s=3600, chunks=[b"a"]), Scripted(wait_s=2, chunks=[b"a", 30.0, b"b"])], sleep=sleep
    )
    with pytest.raises(TransportError) as caught:
        await transport.send(REQUEST)
    assert caught.value.kind == "timeout"
    assert await (await transport.send(REQUEST)).read(10) == b"ab"
    assert slept == [10, 2, 30.0]
    assert transport.in_flight == 0


async def test_an_error_between_chunks() -> None:
    transport = ScriptedTransport([Scripted(chunks=[b"a", TransportError("reset", "cut", sent=True), b"b"])])
    pieces: list[bytes] = []
    with pytest.raises(TransportError, match="cut"):
        await (await transport.send(REQUEST)).pipe(pieces.append)
    assert pieces == [b"a"]


@pytest.mark.parametrize("how", ["abort", "close", "aclose", "cancel"])
async def test_silence_can_be_ended(how: str) -> None:
    transport = ScriptedTransport([Scripted(chunks=[b"a", 3600.0])])
    response = await transport.send(REQUEST)
    task = asyncio.create_task(response.read(10))
    await asyncio.sleep(0)
    if how == "abort":
        response.abort(KeyError("stall"))
    elif how == "close":
        response.close()
    elif how == "aclose":
        await transport.aclose()
    else:
        task.cancel()
    expected = {"abort": KeyError, "cancel": asyncio.CancelledError}.get(how, TransportError)
    with pytest.raises(expected):
        await task
    assert transport.in_flight == 0


async def test_pause_holds_the_next_chunk() -> None:
    transport = ScriptedTransport([Scripted(chunks=[b"a", b"b"])])
    response = await transport.send(REQUEST)
    pieces: list[bytes] = []

    def on_data(data: bytes) -> None:
        pieces.append(data)
        response.pause()

    task = asyncio.create_task(response.pipe(on_data))
    await asyncio.sleep(0.01)
    assert pieces == [b"a"]
    response.resume()
    await asyncio.sleep(0.01)
    assert pieces == [b"a", b"b"]
    await task


async def test_an_abort_from_the_callback_is_raised() -> None:
    transport = ScriptedTransport([Scripted(chunks=[b"a", 0.0, b"b"])])
    response = await transport.send(REQUEST)
    with pytest.raises(KeyError):
        await response.pipe(lambda data: response.abort(KeyError()))
    await asyncio.sleep(0)
