from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.route.breaker import MAX_OPEN_S, Breaker, State


def breaker(seed: int = 1) -> Breaker:
    return Breaker(Random(seed))


def test_five_failures_in_a_row_open_it_four_do_not() -> None:
    one = breaker()
    for n in range(20):
        one.success(n * 0.1)
    for n in range(4):
        one.failure(2.0 + n * 0.01)
    assert one.state(2.1) is State.CLOSED
    one.failure(2.1)
    assert one.state(2.2) is State.OPEN
    assert one.state(2.1 + 3.9) is State.OPEN
    assert one.state(2.1 + 6.1) is State.HALF_OPEN


def test_a_quarter_of_errors_opens_it_a_twentieth_does_not() -> None:
    """D1: 5 % for hours, then 25 %."""
    random = Random(5)
    one, opened = breaker(), 0
    for n in range(36_000):
        (one.failure if random.random() < 0.05 else one.success)(n * 0.1)
        opened += one.tripped
    assert opened == 0
    for n in range(600):
        (one.failure if random.random() < 0.25 else one.success)(3600 + n * 0.1)
        if one.tripped:
            break
    assert one.tripped
    assert n < 400


def test_too_few_requests_say_nothing() -> None:
    one = breaker()
    one.success(0.0)
    for n in range(3):
        one.failure(n * 0.1)
    assert one.state(0.5) is State.CLOSED


def test_open_doubles_to_its_bound_with_jitter_and_one_probe_at_a_time() -> None:
    one, now, held = breaker(), 0.0, []
    for _ in range(5):
        one.failure(now)
    for _ in range(6):
        held.append(one.open_until - now)
        now = one.open_until
        assert one.may_probe(now)
        one.begin(now)
        assert not one.may_probe(now)
        one.failure(now)
    bases = [5, 10, 20, 30, 30, 30]
    assert all(0.8 * base <= seconds <= 1.2 * base for base, seconds in zip(bases, held, strict=True))
    assert max(held) <= 1.2 * MAX_OPEN_S
    assert len(set(held)) == 6


def test_recovery_ramps() -> None:
    one = breaker()
    for _ in range(5):
        one.failure(0.0)
    now = one.open_until
    one.begin(now)
    one.success(now)
    shares = [one.share(now)]
    for _ in range(9):
        one.success(now)
        shares.append(one.share(now))
    assert sorted(set(shares)) == [0.10, 0.25, 0.50, 1.0]
    assert shares == sorted(shares)
    assert one.clear


def test_recovery_needs_no_traffic_only_time() -> None:
    one = breaker()
    for _ in range(5):
        one.failure(0.0)
    one.begin(one.open_until)
    one.success(one.open_until)
    assert one.share(one.open_until + 31.0) == 1.0


def test_a_failure_at_the_start_of_the_ramp_opens_it_again() -> None:
    one = breaker()
    for _ in range(5):
        one.failure(0.0)
    one.begin(10.0)
    one.success(10.0)
    one.failure(10.1)
    assert one.state(10.2) is State.OPEN


def test_late_news_of_an_open_breaker_proves_nothing() -> None:
    one = breaker()
    for _ in range(5):
        one.failure(0.0)
    until = one.open_until
    one.success(1.0)
    assert one.state(1.1) is State.OPEN
    one.failure(until + 1.0)
    assert one.open_until == until
    assert one.state(until + 1.1) is State.HALF_OPEN


def test_a_success_of_a_request_sent_while_open_closes_it() -> None:
    one = breaker()
    for _ in range(5):
        one.failure(0.0)
    one.begin(1.0)
    one.success(1.5)
    assert one.state(1.6) is State.CLOSED


def test_a_lost_probe_frees_its_place() -> None:
    one = breaker()
    for _ in range(5):
        one.failure(0.0)
    one.begin(10.0)
    assert not one.may_probe(60.0)
    assert one.may_probe(71.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("sfbat"), st.floats(0, 40)), max_size=60))
def test_any_history(steps: list[tuple[str, float]]) -> None:
    one, now = breaker(), 0.0
    for what, after in steps:
        now += after
        {"s": one.success, "f": one.failure, "b": one.begin, "t": one.trip, "a": lambda _: one.abandon()}[
            what
        ](now)
        assert 0.0 <= one.rate(now) <= 1.0
        assert 0.0 < one.share(now) <= 1.0
        assert one.open_until - now <= 36.0 + 1e-6
        assert one.clear == (one.state(now) is State.CLOSED and one.share(now) == 1.0)


def test_an_hour_of_a_flapping_primary_is_mostly_avoided() -> None:
    """Down 5 minutes, up 5 minutes: what is sent into the outage stays a small share."""
    one, sent, lost = breaker(), 0, 0
    random = Random(2)
    for tick in range(36_000):
        now = tick * 0.1
        state = one.state(now)
        if state is State.OPEN or (state is State.HALF_OPEN and not one.may_probe(now)):
            continue
        if state is State.CLOSED and random.random() >= one.share(now):
            continue
        one.begin(now)
        sent += 1
        if int(now // 300) % 2:
            lost += 1
            one.failure(now)
        else:
            one.success(now)
    assert lost < 120
    assert sent > 16_000


@pytest.mark.parametrize("seconds", [30.0, 200.0])
def test_held_at_least_as_long_as_told(seconds: float) -> None:
    one = breaker()
    one.trip(0.0, at_least_s=seconds)
    assert one.open_until >= seconds
