"""No minute ever holds more than the limit, wherever it begins, and Retry-After is the truth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.admit.samples import SECRET, Time, door, facts, limits
from tieline.admit.limits import Window
from tieline.types.errors import LimitExceeded

gaps = st.lists(st.floats(0, 40, allow_nan=False), min_size=1, max_size=120)


@given(gaps, st.integers(1, 20))
def test_any_sixty_seconds_hold_the_limit(steps: list[float], limit: int) -> None:
    window, now, admitted = Window(), 0.0, []
    for step in steps:
        now += step
        for _ in range(3):
            if window.wait(1, limit, now) == 0.0:
                window.add(1, now, now)
                admitted.append(now)
    for index, start in enumerate(admitted):
        assert sum(start <= at < start + 60 for at in admitted[index:]) <= limit


@given(gaps, st.integers(1, 5))
def test_after_the_wait_there_is_room_and_not_a_second_before(steps: list[float], limit: int) -> None:
    window, now = Window(), 0.0
    for step in steps:
        now += step
        wait = window.wait(1, limit, now)
        if wait == 0.0:
            window.add(1, now, now)
        else:
            assert 0 < wait <= 61
            assert window.wait(1, limit, now) == wait
            later = Window()
            later._buckets, later._second, later.total = list(window._buckets), window._second, window.total
            assert later.wait(1, limit, now + wait + 1e-6) == 0.0


def test_no_double_burst_at_the_edge() -> None:
    time = Time()
    admission = door(limits(requests_per_minute=10), time=time)
    time.mono = 1_019.9
    for _ in range(10):
        admission.admit(SECRET, facts()).release()
    time.pass_(0.2)
    with pytest.raises(LimitExceeded) as caught:
        admission.admit(SECRET, facts())
    assert caught.value.retry_after_s == pytest.approx(59.9, abs=1)
    assert caught.value.details == {"limit": 10, "used": 10, "unit": "requests per minute"}
    time.pass_(caught.value.retry_after_s + 0.01)
    admission.admit(SECRET, facts()).release()


def test_concurrency_returns_at_release_once() -> None:
    admission = door(limits(concurrency=2))
    first, second = admission.admit(SECRET, facts()), admission.admit(SECRET, facts())
    with pytest.raises(LimitExceeded, match="2 requests at a time"):
        admission.admit(SECRET, facts())
    first.release()
    first.release()
    third = admission.admit(SECRET, facts())
    with pytest.raises(LimitExceeded):
        admission.admit(SECRET, facts())
    second.release()
    third.release()
    assert admission.inflight == 0


def test_the_projects_limits_hold_for_all_its_keys() -> None:
    admission = door(None, limits(concurrency=1))
    admission.admit(SECRET, facts())
    with pytest.raises(LimitExceeded, match="Project 'one'"):
        admission.admit(SECRET, facts())


def test_tokens_are_estimated_then_corrected() -> None:
    time = Time()
    admission = door(limits(tokens_per_minute=1_000), time=time)
    permit = admission.admit(SECRET, facts(input_tokens=600))
    with pytest.raises(LimitExceeded, match="1000 tokens per minute; 600 are in use"):
        admission.admit(SECRET, facts(input_tokens=500))
    permit.count_tokens(100)
    permit.release()
    permit = admission.admit(SECRET, facts(input_tokens=500))
    permit.count_tokens(950)
    with pytest.raises(LimitExceeded) as caught:
        admission.admit(SECRET, facts())
    assert caught.value.retry_after_s
    time.pass_(caught.value.retry_after_s)
    admission.admit(SECRET, facts())


def test_what_can_never_fit_says_so() -> None:
    with pytest.raises(LimitExceeded, match="alone needs about 2000") as caught:
        door(limits(tokens_per_minute=1_000)).admit(SECRET, facts(input_tokens=2_000))
    assert caught.value.retry_after_s is None


def test_a_refused_request_counts_nowhere() -> None:
    admission = door(limits(requests_per_minute=5), limits(concurrency=1))
    held = admission.admit(SECRET, facts())
    for _ in range(20):
        with pytest.raises(LimitExceeded, match="at a time"):
            admission.admit(SECRET, facts())
    held.release()
    for _ in range(4):
        admission.admit(SECRET, facts()).release()
    with pytest.raises(LimitExceeded, match="per minute"):
        admission.admit(SECRET, facts())
