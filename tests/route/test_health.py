from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.providers.limits import RateLimits
from tieline.route.balance import choose, two_choices
from tieline.route.health import Health
from tieline.route.latency import Histogram, Latency
from tieline.route.quota import Quota
from tieline.route.rollup import RollUp
from tieline.types.errors import Failure, FailureClass


def failure(kind: FailureClass = FailureClass.TRANSIENT, retry_after_s: float | None = None) -> Failure:
    return Failure(kind=kind, message="x", retry_after_s=retry_after_s)


# latency --------------------------------------------------------------------------------------------------------


def test_a_slower_sample_replaces_at_once_faster_ones_decay_it() -> None:
    one = Latency()
    for n in range(20):
        one.observe(0.2, 0, n * 1.0)
    one.observe(2.0, 0, 20.0)
    assert one.cost(20.0) == 2.0
    one.observe(0.2, 0, 20.1)
    assert one.cost(20.1) > 1.9
    for n in range(240):
        one.observe(0.2, 0, 21.0 + n)
    assert one.cost(261.0) < 0.3


def test_input_size_is_taken_out() -> None:
    small, large = Latency(), Latency()
    small.observe(0.5, 0, 0.0)
    large.observe(5.0, 72_000, 0.0)
    assert small.cost(0.0) == pytest.approx(large.cost(0.0))


def test_a_long_whole_answer_is_no_slow_one() -> None:
    short, long, slow = Latency(), Latency(), Latency()
    for n in range(20):
        short.observe_whole(0.5 + 10 / 60, 0, 10, float(n))
        long.observe_whole(0.5 + 600 / 60, 0, 600, float(n))
        slow.observe_whole(2.0 + 600 / 20, 0, 600, float(n))
    assert short.cost(20.0) == pytest.approx(0.5, rel=0.01)
    assert long.cost(20.0) == pytest.approx(0.5, rel=0.01)
    assert slow.cost(20.0) > 2 * long.cost(20.0)
    assert (long.first_token.count, long.whole.count) == (0, 20), "deadlines of streams are not theirs"


@pytest.mark.parametrize(("told", "penalty"), [(None, 5.0), (2.0, 5.0), (60.0, 60.0), (9999.0, 300.0)])
def test_a_failure_costs_its_wait_within_bounds(told: float | None, penalty: float) -> None:
    one = Latency()
    one.observe(0.2, 0, 0.0)
    one.penalise(told, 1.0)
    assert one.cost(1.0) == penalty
    assert 0.2 <= one.cost(1000.0) < 0.3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.001, 200), min_size=1, max_size=200))
def test_quantiles_err_upwards_by_a_quarter_at_most(samples: list[float]) -> None:
    seen = Histogram()
    for sample in samples:
        seen.add(sample)
    exact = sorted(samples)[max(0, -(-len(samples) * 99 // 100) - 1)]
    assert seen.p99 is not None
    if len(samples) < 64:
        assert exact * 0.999 <= seen.p99 <= max(exact * 1.2501, 0.0063)


# quota ----------------------------------------------------------------------------------------------------------


def test_aimd() -> None:
    quota = Quota()
    quota.refused(10, None, 0.0)
    assert quota.limit == pytest.approx(7.0)
    quota.refused(7, None, 0.0)
    assert quota.limit == pytest.approx(4.9)
    before = quota.limit
    for _ in range(5):
        quota.accepted()
    assert before + 0.8 < quota.limit < before + 1.2
    for _ in range(200_000):
        quota.accepted()
    assert quota.limit is None


def test_cooling_follows_what_was_told_else_doubles() -> None:
    quota = Quota()
    quota.refused(1, 12.0, 0.0)
    assert not quota.allows(0, 0, 11.9)
    assert quota.allows(0, 0, 12.1)
    other = Quota()
    waits = []
    for _ in range(8):
        other.refused(1, None, 0.0)
        waits.append(other.cool_until)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    long = Quota()
    long.refused(1, 1e9, 0.0)
    assert long.cool_until == 300.0


def test_the_forecast_counts_what_was_sent_since() -> None:
    quota = Quota()
    quota.observe(
        RateLimits(requests_left=3, requests_reset_s=60.0, tokens_left=1000, tokens_reset_s=10.0), 1, 0.0
    )
    assert quota.allows(0, 900, 1.0)
    quota.begin(900)
    assert not quota.allows(0, 200, 1.0)
    assert quota.allows(0, 200, 10.1), "the minute's tokens are back"
    quota.begin(0)
    quota.begin(0)
    assert not quota.allows(0, 0, 20.0)
    assert quota.allows(0, 0, 60.1)
    assert quota.clear


# roll-ups -------------------------------------------------------------------------------------------------------


def test_one_failing_model_never_closes_its_siblings(deployment: Any) -> None:
    """D3."""
    health = Health(Random(1))
    bad, good = deployment("a", "m"), deployment("a", "n")
    for n in range(50):
        health.observe(bad, bad.credentials[0], n * 0.1, failure=failure())
        health.observe(good, good.credentials[0], n * 0.1)
    (lane,) = health.lanes(good)
    assert not lane.provider.speaks(5.0)
    assert lane.ready(0, 5.0)


def test_several_failing_together_speak_for_the_rest_and_a_success_silences_them(deployment: Any) -> None:
    health = Health(Random(1))
    first, second, idle = (deployment("a", name) for name in "mno")
    (lane,) = health.lanes(idle)
    for n in range(6):
        for one in (first, second):
            health.observe(one, one.credentials[0], n * 0.1, failure=failure())
    assert lane.provider.speaks(1.0)
    assert not lane.ready(0, 1.0)
    health.observe(idle, idle.credentials[0], 1.5)
    assert not lane.provider.speaks(1.6)
    assert lane.ready(0, 1.6)


def test_an_edge_speaks_only_for_several_providers(deployment: Any) -> None:
    """D14."""
    health = Health(Random(1))
    one, two = deployment("a", "m", edge="cdn"), deployment("a", "n", edge="cdn")
    other, idle = deployment("b", "m", edge="cdn"), deployment("c", "m", edge="cdn")
    (lane,) = health.lanes(idle)
    assert lane.edge is not None
    for n in range(6):
        for bad in (one, two):
            health.observe(bad, bad.credentials[0], n * 0.1, failure=failure())
    assert not lane.edge.speaks(1.0)
    for n in range(2):
        health.observe(other, other.credentials[0], 1.0 + n * 0.1, failure=failure())
    assert lane.edge.speaks(1.2)
    assert not lane.ready(0, 1.2)
    assert not lane.edge.speaks(12.0), "and not for ever"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcd"), st.floats(0, 6)), max_size=60))
def test_a_roll_up_never_speaks_for_fewer_than_two(news: list[tuple[bool, str, float]]) -> None:
    roll, now = RollUp(), 0.0
    last: dict[str, tuple[float, bool]] = {}
    for good, name, after in news:
        now += after
        if good:
            roll.success(name, now)
        else:
            roll.failure(name, name, now)
        last[name] = (now, good)
        failing = [one for one, (at, well) in last.items() if not well and now - at <= 10.0]
        if roll.speaks(now):
            assert len(failing) >= 2


# credentials ----------------------------------------------------------------------------------------------------


def test_a_dead_credential_is_set_aside_for_all_its_models_and_asked_again_later(deployment: Any) -> None:
    health = Health(Random(1))
    one, two = deployment("a", "m", keys=2), deployment("a", "n", keys=2)
    key = one.credentials[0]
    health.observe(one, key, 0.0, failure=failure(FailureClass.CREDENTIAL))
    assert [lane.ready(0, 1.0) for lane in health.lanes(one)] == [False, True]
    lanes = (health.lane(two, two.credentials[0]), health.lane(two, two.credentials[1]))
    assert [lane.ready(0, 1.0) for lane in lanes] == [False, True]
    held, now = [], 0.0
    for _ in range(9):
        held.append(health.lane(one, key).key.open_until - now)
        now = health.lane(one, key).key.open_until
        health.begin(one, key, now)
        health.observe(one, key, now, failure=failure(FailureClass.CREDENTIAL))
    assert held[-1] > 230
    assert max(held) <= 360
    now = health.lane(one, key).key.open_until
    health.begin(one, key, now)
    health.observe(one, key, now)
    assert health.lane(one, key).key.share(now + 40) == 1.0
    assert health.lanes(one)[0].breaker.clear, "its deployment is not to blame"


def test_a_rate_limit_is_capacity_not_health(deployment: Any) -> None:
    health = Health(Random(1))
    one = deployment("a", "m")
    for n in range(50):
        health.observe(one, one.credentials[0], n * 0.1, failure=failure(FailureClass.RATE_LIMITED, 1.0))
    view = health.snapshot(5.0)[0]
    assert (view.state, view.success_rate) == ("cooling", 1.0)


@pytest.mark.parametrize(
    "kind",
    [
        FailureClass.CALLER_FAULT,
        FailureClass.CONTEXT_LENGTH,
        FailureClass.CONTENT_FILTERED,
        FailureClass.CALLER_GONE,
        FailureClass.SHUT_DOWN,
        FailureClass.UNSUPPORTED_PARAMETER,
    ],
)
def test_what_is_the_callers_does_not_count(kind: FailureClass, deployment: Any) -> None:
    health = Health(Random(1))
    one = deployment("a", "m")
    for n in range(50):
        health.begin(one, one.credentials[0], n * 0.1)
        health.observe(one, one.credentials[0], n * 0.1, failure=failure(kind))
    view = health.snapshot(5.0)[0]
    assert (view.state, view.success_rate, view.inflight, view.retry_tokens) == ("closed", 1.0, 0, 10.0)


def test_the_retry_budget(deployment: Any) -> None:
    budget = Health(Random(1)).budget("a")
    for _ in range(5):
        budget.failure()
    assert budget.allows
    budget.failure()
    assert not budget.allows
    for _ in range(10):
        budget.success()
    assert budget.allows
    for _ in range(100):
        budget.failure()
    assert budget.tokens == 0.0


# balance --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.05, 5.0), st.integers(0, 50)), min_size=2, max_size=8), st.integers(0, 99)
)
def test_two_choices_never_take_the_worst(sizes: list[tuple[float, int]], seed: int) -> None:
    health, lanes = Health(Random(1)), []
    for n, (seconds, inflight) in enumerate(sizes):
        one = make(f"p{n}")
        for sample in range(12):
            health.observe(one, one.credentials[0], sample * 0.01, first_token_s=seconds)
        lanes.append(health.lanes(one)[0])
        lanes[-1].inflight = inflight
    loads = [lane.latency.cost(1.0) * (lane.inflight + 1) for lane in lanes]
    random = Random(seed)
    worst = max(loads)
    for _ in range(30):
        picked = lanes.index(two_choices(lanes, 1.0, random, 0.0))
        assert loads[picked] < worst or loads.count(worst) > 1


def test_load_spreads_and_every_lane_stays_measured() -> None:
    health, random, served = Health(Random(1)), Random(4), {}
    ones = {name: make(name) for name in ("fast", "slow", "cold")}
    speed = {"fast": 0.2, "slow": 1.0, "cold": 0.2}
    for n in range(50):
        for name in ("fast", "slow"):
            health.observe(ones[name], ones[name].credentials[0], n * 0.1, first_token_s=speed[name])
    lanes = [lane for one in ones.values() for lane in health.lanes(one)]
    first_hundred = dict.fromkeys(ones, 0)
    for n in range(2000):
        now = 5.0 + n * 0.1
        picked = choose(lanes, tokens=0, now=now, random=random, draw=random.random(), explore=0.02)
        assert picked is not None
        name = picked[0].deployment.provider.name
        served[name] = served.get(name, 0) + 1
        if n < 30:
            first_hundred[name] += 1
        health.begin(picked[0].deployment, picked[0].credential, now)
        health.observe(picked[0].deployment, picked[0].credential, now, first_token_s=speed[name])
    assert first_hundred["cold"] < 15, "slow start"
    assert served["slow"] >= 10, "exploration"
    assert served["fast"] > served["slow"]
    assert served["cold"] > 500


def test_an_hours_outage_and_the_way_back() -> None:
    """a dies from minute 10 to 40; b serves. How much a gets, in fake time."""
    health, random = Health(Random(1)), Random(9)
    a, b = make("a"), make("b")
    lanes = [*health.lanes(a), *health.lanes(b)]
    lost, back_at = 0, None
    for tick in range(36_000):
        now = tick * 0.1
        down = 600 <= now < 2400
        picked = choose(lanes, tokens=0, now=now, random=random, draw=random.random(), explore=0.02)
        lane = picked[0] if picked else lanes[1]
        health.begin(lane.deployment, lane.credential, now)
        bad = down and lane.deployment is a
        lost += bad
        if not bad and lane.deployment is a and now > 2400 and back_at is None and lane.breaker.clear:
            back_at = now
        news = {"failure": failure()} if bad else {"first_token_s": 0.3}
        health.observe(lane.deployment, lane.credential, now + 0.05, **news)
    assert lost < 90, "5 to notice, then a probe every 30 s"
    assert back_at is not None
    assert back_at < 2400 + 36 + 60


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieline.route.health.MAX_LANES", 40)
    health = Health(Random(1))
    for n in range(200):
        health.lanes(make("p", f"m{n}"))
    assert len(health.snapshot(0.0)) <= 40


def test_what_is_told_of_many_is_bounded_and_has_those_in_trouble() -> None:
    health = Health(Random(1))
    for n in range(100):
        one = make("p", f"m{n}")
        health.begin(one, one.credentials[0], float(n))
        for _ in range(20 if n == 3 else 0):
            health.observe(one, one.credentials[0], float(n), failure=failure())
    told = {view.deployment for view in health.snapshot(100.0, 10)}
    assert told == {"p/m3", *(f"p/m{n}" for n in range(91, 100))}


def make(provider: str, model: str = "m") -> Any:
    from tests.route.conftest import make_deployment

    return make_deployment(provider, model)


def test_what_was_learned_survives_a_reload_and_a_new_secret_starts_clean() -> None:
    from tieline.providers.deployment import Deployment
    from tieline.providers.row import Credential

    health, old = Health(Random(1)), make("a")
    for n in range(5):
        health.observe(old, old.credentials[0], n * 0.1, failure=failure())
    health.observe(old, old.credentials[0], 1.0, failure=failure(FailureClass.CREDENTIAL))

    def again(secret: str) -> Deployment:
        fresh = make("a")
        label = fresh.credentials[0].label
        return Deployment(
            **{
                **{f: getattr(fresh, f) for f in Deployment.__slots__},
                "credentials": (Credential(label, secret),),
            }
        )

    (lane,) = health.lanes(again("s"))
    assert lane.breaker.tripped
    assert lane.key.tripped
    (lane,) = health.lanes(again("new"))
    assert lane.breaker.tripped
    assert not lane.key.tripped
    health.begin(old, old.credentials[0], 2.0)
    assert lane.inflight == 1, "requests from before the reload still count"
