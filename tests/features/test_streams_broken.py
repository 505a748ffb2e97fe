"""Streams that break, as every kind of caller sees them: spliced, failed over, or ended in a clean error."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tieline.config.schema import Routing, Timeouts
from tieline.drills import clock
from tieline.drills.caller import DIALECTS, PROMPT, Ask, Heard
from tieline.drills.fleet import fleet
from tieline.drills.stage import Stage
from tieline.simulator.text import expected_text
from tieline.types.record import Record

TOKENS = 60
WHOLE = expected_text(PROMPT, TOKENS)
SPEED = 40.0


def play(
    *ways: str,
    asks: list[Ask] | None = None,
    policy: str = "resume",
    hold_ms: int = 2000,
    **special: dict[str, Any],
) -> list[tuple[Heard, Record]]:
    """Every caller asks once; what each heard, and its record."""

    async def run() -> list[tuple[Heard, Record]]:
        routing = Routing(
            fallback="listed",
            on_broken_stream=policy,  # type: ignore[arg-type]
            hold_tokens=1000 if policy == "hold" else 40,
            hold_ms=hold_ms,
            timeouts=Timeouts(connect_s=30, stall_s=4, first_token_s=8),
        )
        async with Stage(lambda url: fleet(url, *ways, routing=routing, **special)) as stage:
            wanted = asks or [Ask(dialect=dialect, model="m") for dialect in DIALECTS]
            heard = await asyncio.gather(*(stage.caller.ask(ask) for ask in wanted))
            await asyncio.sleep(1)
            return [(one, stage.records[one.request_id]) for one in heard]

    return clock.run(run, SPEED)


@pytest.mark.parametrize("upstream", DIALECTS)
@pytest.mark.parametrize(
    "fault",
    [
        "cut:after=8",
        "cut:after=8,mid=1",
        "cut-clean:after=8",
        "stall:after=8",
        "stream-error:after=8",
        "malformed:at=9,content=1",
    ],
)
def test_a_broken_stream_is_resumed_elsewhere(upstream: str, fault: str) -> None:
    other = DIALECTS[DIALECTS.index(upstream) - 1]
    found = play(
        f"alpha/sim-{fault},tokens={TOKENS}",
        f"beta/sim-echo:tokens={TOKENS}",
        alpha={"dialect": upstream},
        beta={"dialect": other},
    )
    for heard, record in found:
        assert heard.ok, heard
        assert heard.text == WHOLE
        assert record.splices == 1
        assert [entry.reason for entry in record.attempts] == ["first", "resume"]
        assert record.attempts[0].cost
        assert record.attempts[1].cost
        assert record.cost == record.attempts[0].cost + record.attempts[1].cost
        assert record.wasted == 0
        assert record.usage is not None
        assert record.usage.output_tokens >= record.attempts[1].usage.output_tokens
        if heard.asked is not None and heard.asked.dialect != "gemini":  # whose SDK cannot take comments
            said = {"spliced": f"beta/sim-echo:tokens={TOKENS}", "after": record.attempts[0].deployment}
            assert said in heard.comments
            assert heard.comments[-1]["splices"] == 1


@pytest.mark.parametrize("manner", ["anchor", "restart", "ws", "refuse"])
def test_manners_of_going_on(manner: str) -> None:
    found = play(
        f"alpha/sim-cut:after=20,tokens={TOKENS}",
        f"beta/sim-echo:resume={manner},tokens={TOKENS}",
        alpha={"dialect": "anthropic_messages"},
    )
    for heard, record in found:
        assert (heard.ok, heard.text) == (True, WHOLE), heard
        assert record.splices == 1


def test_an_answer_that_does_not_go_on_is_not_appended() -> None:
    found = play(f"alpha/sim-cut:after=20,tokens={TOKENS}", f"beta/sim-echo:resume=ignore,tokens={TOKENS}")
    for heard, record in found:
        assert heard.status == 200
        assert not heard.complete
        assert heard.error
        assert WHOLE.startswith(heard.text)
        assert record.outcome == "truncated"
        assert record.wasted == record.cost


def test_two_hops_and_no_more() -> None:
    ways = [
        f"{name}/sim-cut:after={after},tokens={TOKENS}"
        for name, after in (("a1", 8), ("b1", 20), ("c1", 20), ("d1", 20))
    ]
    for heard, record in play(*ways):
        assert not heard.complete
        assert heard.error
        assert WHOLE.startswith(heard.text)
        assert len(record.attempts) == 3
    for heard, record in play(*ways[:2], f"c1/sim-echo:tokens={TOKENS}"):
        assert heard.ok
        assert heard.text == WHOLE
        assert record.splices == 2


@pytest.mark.parametrize(
    "fault", ["cut:after=8", "stall:after=8", "stream-error:after=8", "cut-clean:after=8"]
)
def test_policy_error_ends_in_band(fault: str) -> None:
    for heard, record in play(f"alpha/sim-{fault},tokens={TOKENS}", "beta/sim-echo", policy="error"):
        assert heard.status == 200
        assert not heard.complete
        assert heard.error
        assert heard.error != "connection"
        assert heard.text
        assert WHOLE.startswith(heard.text)
        assert len(record.attempts) == 1


def test_policy_hold_fails_over_unseen() -> None:
    for heard, record in play(
        f"alpha/sim-cut:after=8,tokens={TOKENS}", f"beta/sim-echo:tokens={TOKENS}", policy="hold"
    ):
        assert heard.ok
        assert heard.text == WHOLE
        assert record.splices == 0
        assert record.provider == "beta"


@pytest.mark.parametrize("upstream", DIALECTS)
def test_policy_hold_ends_after_its_time_though_nothing_follows(upstream: str) -> None:
    """``hold`` makes good what breaks while it holds; what was sent after ``hold_ms`` cannot be taken back."""
    ways = (f"alpha/sim-stall:after=8,tokens={TOKENS}", f"beta/sim-echo:tokens={TOKENS}")
    for heard, record in play(*ways, policy="hold", hold_ms=500, alpha={"dialect": upstream}):
        assert heard.first_s is not None
        assert 0.4 < heard.first_s < 2.5, "not at the next piece, which never comes"
        assert heard.error
        assert not heard.complete
        assert heard.text
        assert WHOLE.startswith(heard.text)
        assert len(record.attempts) == 1
    for heard, record in play(*ways, policy="hold", hold_ms=0, alpha={"dialect": upstream}):
        assert (heard.ok, heard.text) == (True, WHOLE), "without a time the tokens alone count"
        assert (record.provider, record.splices) == ("beta", 0)


@pytest.mark.parametrize("upstream", DIALECTS)
def test_never_inside_a_tool_call(upstream: str) -> None:
    asks = [Ask(dialect=dialect, model="m", tools=True) for dialect in DIALECTS]
    for heard, record in play(
        "alpha/sim-cut:after=1,mid=1,base=tools", "beta/sim-tools", asks=asks, alpha={"dialect": upstream}
    ):
        if len(record.attempts) == 1:
            assert not heard.complete
            assert heard.error
        else:
            assert heard.ok, heard


def test_never_inside_structured_output() -> None:
    asks = [Ask(model="m", json_mode=True)]
    for heard, record in play("alpha/sim-cut:after=2", "beta/sim-json", asks=asks):
        assert not heard.complete
        assert heard.error
        assert len(record.attempts) == 1


def test_never_inside_thinking() -> None:
    for heard, record in play(
        "alpha/sim-cut:after=5,base=think",
        "beta/sim-echo",
        alpha={"dialect": "anthropic_messages"},
        asks=[Ask(dialect="anthropic_messages", model="m")],
    ):
        assert not heard.complete
        assert heard.error
        assert len(record.attempts) == 1


@pytest.mark.parametrize("upstream", DIALECTS)
def test_whole_answers_that_break_off_fail_over(upstream: str) -> None:
    asks = [Ask(dialect=dialect, model="m", stream=False) for dialect in DIALECTS]
    for fault in ("cut", "cut-clean", "truncate-body", "garbled"):
        for heard, record in play(
            f"alpha/sim-{fault}", f"beta/sim-echo:tokens={TOKENS}", asks=asks, alpha={"dialect": upstream}
        ):
            assert (heard.ok, heard.text) == (True, WHOLE), (fault, heard)
            assert record.provider == "beta"


@pytest.mark.parametrize("upstream", DIALECTS)
def test_harmless_oddities_do_not_break_a_stream(upstream: str) -> None:
    for oddity in ("no-done", "malformed:at=4", "comments", "crlf"):
        if upstream == "openai_responses" and oddity.startswith("malformed"):
            continue  # every event of it may carry content, so its decoder takes none for harmless
        for heard, record in play(
            f"alpha/sim-{oddity}" + ("," if ":" in oddity else ":") + f"tokens={TOKENS}",
            "beta/sim-echo",
            alpha={"dialect": upstream},
        ):
            assert (heard.ok, heard.text) == (True, WHOLE), (oddity, heard)
            assert record.provider == "alpha"
            (attempt,) = record.attempts
            assert attempt.skipped == oddity.startswith("malformed")
