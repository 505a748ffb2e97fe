"""A selection of the faults drill; ``tieline drill run faults`` plays all of it."""

from __future__ import annotations

import pytest

from tieline.drills import cases, clock, faults

SELECTED = (
    "500-once",
    "503-alone",
    "429-retry-after",
    "429-wait",
    "401-second-key",
    "quota-alone",
    "content-filter",
    "reset",
    "silence",
    "refused",
    "error-in-200",
    "cut-anthropic_messages",
    "cut-alone",
    "stall-openai_responses",
    "prefill",
    "ignores",
    "malformed",
    "caller-gone",
)


def test_a_selection_passes() -> None:
    chosen = [case for case in cases.CASES if case.name in SELECTED]
    assert len(chosen) == len(SELECTED)
    verdicts = clock.run(lambda: faults.play_all(chosen), 10.0)
    assert not [(one.case, one.mode, one.problems) for one in verdicts if not one.passed]


def test_every_case_is_distinct_and_says_what_it_is() -> None:
    names = [case.name for case in cases.CASES]
    assert len(set(names)) == len(names)
    assert all(case.title for case in cases.CASES)


@pytest.mark.parametrize("expected", ["by", "ends"])
def test_the_judge_objects(expected: str) -> None:
    """A drill that cannot fail proves nothing."""
    from msgspec.structs import replace

    case = cases.case_named("500")
    assert case is not None
    wrong = replace(case, by="alpha") if expected == "by" else replace(case, ends="error", by=None)
    verdict = clock.run(lambda: faults.play(wrong, "whole"), 10.0)
    assert not verdict.passed
