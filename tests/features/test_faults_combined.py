"""Plain faults one behind the other in one request, to every kind of caller: whole, or cleanly ended, and all of it booked."""

from __future__ import annotations

import pytest

from tests.features.test_streams_broken import TOKENS, WHOLE, play
from tieline.drills.caller import DIALECTS

GOOD = f"gamma/sim-echo:tokens={TOKENS}"


@pytest.mark.parametrize(
    "broken", ["cut:after=9", "stall:after=9", "stream-error:after=9", "malformed:at=9,content=1"]
)
@pytest.mark.parametrize("upstream", DIALECTS)
def test_a_limit_then_a_broken_stream_then_an_error_then_an_answer(upstream: str, broken: str) -> None:
    found = play(
        "alpha/sim-fail-429:retry_after=60",
        f"beta/sim-{broken},tokens={TOKENS}",
        "delta/sim-fail-500",
        GOOD,
        beta={"dialect": upstream},
        delta={"dialect": DIALECTS[DIALECTS.index(upstream) - 1]},
        gamma={"dialect": DIALECTS[DIALECTS.index(upstream) - 2]},
    )
    for heard, record in found:
        assert (heard.ok, heard.text) == (True, WHOLE), (heard, record.attempts)
        by = [entry.provider for entry in record.attempts]
        assert by[:2] == ["alpha", "beta"], by
        assert by[-1] == "gamma"
        assert by.count("alpha") == by.count("beta") == 1
        assert by.count("delta") <= 2
        assert record.splices == 1
        assert record.wasted == 0
        assert record.cost == sum(entry.cost or 0 for entry in record.attempts)


@pytest.mark.parametrize("upstream", DIALECTS)
def test_a_broken_stream_with_nothing_but_errors_behind_it_ends_cleanly(upstream: str) -> None:
    found = play(
        f"beta/sim-cut:after=9,tokens={TOKENS}",
        "alpha/sim-fail-429:retry_after=60",
        "delta/sim-fail-500",
        beta={"dialect": upstream},
    )
    for heard, record in found:
        assert heard.status == 200
        assert heard.error, heard
        assert not heard.complete
        assert heard.text
        assert WHOLE.startswith(heard.text)
        assert record.outcome != "success"
        assert record.wasted == record.cost
        assert len(record.attempts) <= 5
