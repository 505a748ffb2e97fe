"""One try, over real sockets: its deadlines, what a broken answer is called, and whose time is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.files import no_room_for_files
from tieline.client import AsyncTieline, RequestFailed
from tieline.config.schema import Config, ModelConfig, ProviderConfig, Routing, StoreConfig, Timeouts
from tieline.exchange import names_special_tier
from tieline.ledger.pricing import STANDARD_TIERS
from tieline.simulator import SimulatorServer


@pytest.fixture
async def line() -> AsyncIterator[AsyncTieline]:
    simulator = await SimulatorServer().start()
    config = Config(
        discover=False,
        store=StoreConfig(database="none"),
        providers={
            "sim": ProviderConfig(base_url=f"{simulator.url}/sim/v1", api_key="any"),
            "deaf": ProviderConfig(
                base_url=f"{simulator.url}/deaf/v1",
                api_key="any",
                prices={"sim-echo:resume=ignore,text=own": {"input": "1", "output": "1"}},
            ),
        },
        models={
            "cut": ModelConfig(
                deployments=["sim/sim-cut:after=12"], fallbacks=["deaf/sim-echo:resume=ignore,text=own"]
            ),
            "echo": ModelConfig(deployments=["sim/sim-echo"], fallbacks=["deaf/sim-echo"]),
        },
        routing=Routing(timeouts=Timeouts(total_s=1.0)),
    )
    async with AsyncTieline(config) as tieline:
        yield tieline
    await simulator.stop()


async def _outcome(line: AsyncTieline, model: str, *, stream: bool) -> str:
    with pytest.raises(RequestFailed) as caught:
        if stream:
            async for _ in line.stream(model, "Why do ships carry bells?"):
                pass
        else:
            await line.chat(model, "Why do ships carry bells?")
    return caught.value.record.outcome


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_stops_in_the_middle_ends_as_a_stall(line: AsyncTieline, stream: bool) -> None:
    assert await _outcome(line, "sim/sim-stall", stream=stream) == "stall"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_lost_within_the_answer_is_a_truncation(line: AsyncTieline, stream: bool) -> None:
    assert await _outcome(line, "sim/sim-cut", stream=stream) == "truncated"


async def test_a_connection_lost_before_the_answer_is_a_lost_connection(line: AsyncTieline) -> None:
    assert await _outcome(line, "sim/sim-reset", stream=False) == "connect"


async def test_a_machine_without_room_for_connections_says_nothing_of_the_provider(
    line: AsyncTieline,
) -> None:
    """Six in a row would keep a provider out for seconds; its fallback has no connection either."""
    for _ in range(6):
        with no_room_for_files(), pytest.raises(RequestFailed) as caught:
            await line.chat("echo", "Why do ships carry bells?")
        assert (caught.value.http_status, caught.value.error_code) == (503, "internal_error")
        assert caught.value.record.outcome == "internal_error"
        assert [entry.outcome for entry in caught.value.record.attempts] == ["internal_error"]
    answer = await line.chat("echo", "Why do ships carry bells?")
    assert [entry.deployment for entry in answer.record.attempts] == ["sim/sim-echo"]


@pytest.mark.parametrize("stream", [False, True])
async def test_waiting_for_a_provider_is_not_overhead(line: AsyncTieline, stream: bool) -> None:
    model = "sim/sim-slow:ttft_ms=400,tps=200,tokens=20"
    if stream:
        pieces = line.stream(model, "Why do ships carry bells?")
        assert [piece async for piece in pieces]
        answer = pieces.answer
    else:
        answer = await line.chat(model, "Why do ships carry bells?")
    assert answer is not None
    assert answer.record.total_ms > 400
    assert answer.overhead_ms < 100


async def test_a_failed_attempt_is_not_overhead_either(line: AsyncTieline) -> None:
    with pytest.raises(RequestFailed) as caught:
        await line.chat("sim/sim-silent", "Why do ships carry bells?")
    assert caught.value.record.total_ms > 900
    assert caught.value.record.overhead_ms < 400  # counted whole it is over 900


async def test_an_answer_that_could_not_be_spliced_is_paid_for_all_the_same(line: AsyncTieline) -> None:
    with pytest.raises(RequestFailed) as caught:
        async for _ in line.stream("cut", "Why do ships carry bells?"):
            pass
    first, second = caught.value.record.attempts
    assert (first.outcome, second.outcome, second.reason) == ("truncated", "truncated", "resume")
    assert second.usage is not None
    assert second.usage.estimated
    assert second.cost


@pytest.mark.parametrize("option", ["max_cost_usd", "run_budget_usd"])
async def test_an_amount_that_is_none_is_the_callers_mistake(line: AsyncTieline, option: str) -> None:
    with pytest.raises(RequestFailed) as caught:
        await line.chat("sim/sim-echo", "Hello", tieline={option: "a lot"})
    assert (caught.value.http_status, caught.value.error_code) == (400, "invalid_request")


def test_an_answer_names_the_tiers_that_are_not_the_price_lists() -> None:
    for tier in filter(None, STANDARD_TIERS):
        assert not names_special_tier(b'{"service_tier": "%b"}' % tier.encode()), tier
    for tier in (b"priority", b"flex", b"batch", b"on_demand_flex", b"standardised"):
        assert names_special_tier(b'{"service_tier":"%b"}' % tier), tier
    assert names_special_tier(b'{"a": {"service_tier": "standard"}, "service_tier": "priority"}')
    assert not names_special_tier(b'{"service_tier": null}')


@pytest.mark.parametrize(
    "bad",
    [{"tags": {"x" * 201: ""}}, {"tags": {str(n): "" for n in range(17)}}, {"run": ""}, {"run": "x" * 129}],
)
async def test_labels_are_bounded(line: AsyncTieline, bad: dict[str, object]) -> None:
    with pytest.raises(RequestFailed) as caught:
        await line.chat("sim/sim-echo", "Hello", tieline=bad)
    assert (caught.value.http_status, caught.value.error_code) == (400, "invalid_request")
