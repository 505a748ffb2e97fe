"""A second try beside a late first: one answers, the other is cancelled and paid for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tieline.config.schema import Routing, Timeouts
from tieline.dialects import get_upstream
from tieline.drills import clock
from tieline.drills.caller import DIALECTS, PROMPT, Ask, Heard
from tieline.drills.fleet import fleet
from tieline.drills.stage import Stage
from tieline.simulator.answer import DEFAULT_TOKENS
from tieline.simulator.schedule import Phase, Schedule
from tieline.simulator.text import expected_text
from tieline.types.money import format_usd
from tieline.types.record import Record

WHOLE = expected_text(PROMPT, DEFAULT_TOKENS)
WARM = 20
"""Just enough to know how quick alpha is: of later ones some would be hedged already and use the budget up."""


def late(
    *phases: Phase,
    stream: bool = True,
    hedge: bool = True,
    dialect: str = "openai_chat",
    beta: str = "anthropic_messages",
) -> tuple[Heard, Record, list[Any]]:
    """Alpha is known and quick; then ``phases`` begin and one more request is sent."""

    async def run() -> tuple[Heard, Record, list[Any]]:
        routing = Routing(
            fallback="listed", hedge=hedge, explore=0.0, timeouts=Timeouts(connect_s=30, first_token_s=60)
        )
        async with Stage(
            lambda url: fleet(url, "alpha/gpt-sim", "beta/gpt-sim", routing=routing, beta={"dialect": beta})
        ) as stage:
            ask = Ask(model="m", stream=stream, dialect=dialect)
            for _ in range(WARM):
                assert (await stage.caller.ask(ask)).ok
            stage.simulator.set_schedule(Schedule(phases=list(phases)))
            stage.simulator.ledger.clear()
            heard = await stage.caller.ask(ask)
            for _ in range(100):
                if not stage.gateway.in_flight:
                    break
                await asyncio.sleep(0.1)
            assert not stage.gateway.admission.inflight
            assert not sum(view.inflight for view in stage.gateway.health.snapshot(stage.gateway.clock()))
            await asyncio.sleep(1)
            return heard, stage.records[heard.request_id], stage.simulator.log

    return clock.run(run, 60.0)


SLOW = Phase(at_s=0, for_s=1e6, provider="alpha", add_ms=20_000)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_faster_answers_and_the_slower_is_cancelled(stream: bool, dialect: str) -> None:
    heard, record, log = late(SLOW, stream=stream, dialect=dialect)
    assert heard.ok
    assert heard.text == WHOLE
    assert heard.total_s < 15
    assert record.provider == "beta"
    assert [(entry.reason, entry.outcome) for entry in record.attempts] == [
        ("first", "superseded"),
        ("hedge", "success"),
    ]
    assert all(entry.cost for entry in record.attempts)
    assert record.cost == sum(entry.cost or 0 for entry in record.attempts)
    assert record.wasted == record.attempts[0].cost
    assert record.usage == record.attempts[1].usage
    # What the caller is told at the end of the answer counts the loser's cost already.
    told = (
        heard.comments[-1]["cost_usd"] if stream and heard.comments else heard.headers.get("tieline-cost-usd")
    )
    if not stream or heard.comments:
        assert told == format_usd(record.cost)
    assert [entry.cancelled_by_client for entry in log if entry.provider == "alpha"] == [True]


def test_off_by_default() -> None:
    heard, record, _ = late(SLOW, hedge=False)
    assert heard.ok
    assert record.provider == "alpha"
    assert len(record.attempts) == 1


def test_a_quick_first_is_not_hedged() -> None:
    heard, record, log = late()
    assert heard.ok
    assert len(record.attempts) == 1
    assert {entry.provider for entry in log} == {"alpha"}


def test_a_hedge_that_fails_leaves_the_first_running() -> None:
    broken = Phase(at_s=0, for_s=1e6, provider="beta", behaviour="fail-500")
    heard, record, _ = late(Phase(at_s=0, for_s=1e6, provider="alpha", add_ms=8_000), broken)
    assert heard.ok
    assert heard.text == WHOLE
    assert record.provider == "alpha"
    assert [entry.outcome for entry in record.attempts] == ["success", "transient"]


def test_a_hedge_that_fails_inside_tieline_leaves_the_first_running(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR", "tieline")

    def broken(*_: Any) -> None:
        raise KeyError("messages")

    monkeypatch.setattr(type(get_upstream("anthropic_messages")), "encode_request", broken)
    heard, record, _ = late(Phase(at_s=0, for_s=1e6, provider="alpha", add_ms=8_000))
    assert heard.ok
    assert heard.text == WHOLE
    assert record.provider == "alpha"
    assert "one of two attempts failed inside Tieline" in caplog.text


def test_both_fail() -> None:
    slow_failure = Phase(at_s=0, for_s=1e6, provider="alpha", behaviour="fail-500:after_ms=8000")
    heard, record, _ = late(slow_failure, Phase(at_s=0, for_s=1e6, provider="beta", behaviour="fail-503"))
    assert not heard.complete
    assert heard.error
    assert len(record.attempts) <= 6
    assert {entry.outcome for entry in record.attempts} <= {"transient", "overloaded"}


def test_the_winner_breaks_and_is_resumed() -> None:
    """The loser was cancelled; the broken answer goes on with whoever is left, never with two at once."""
    heard, _record, _ = late(SLOW, Phase(at_s=0, for_s=1e6, provider="beta", behaviour="cut:after=10"))
    assert WHOLE.startswith(heard.text)
    assert heard.ok == (heard.text == WHOLE)
    assert heard.ok or heard.error
