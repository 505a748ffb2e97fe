"""A hard budget is never overspent by a single unit, whatever callers do and clocks say."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.admit.samples import SECRET, USD, Time, budget, door, facts, snapshot
from tieline.admit.accounts import Spent
from tieline.admit.admission import Admission, Permit
from tieline.admit.budgets import BudgetBusy, Meter
from tieline.admit.rules import BudgetRule, Rules
from tieline.types.errors import BudgetExceeded


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def spend(admission: Admission, amount: int, **changes: object) -> None:
    permit = admission.admit(SECRET, facts(**changes))
    permit.reserve(amount)
    permit.settle(amount)
    permit.release()


async def test_200_callers_never_overspend() -> None:
    """Callers that hold, top up, abort, fail, cost less and end at any moment, on one key."""
    limit = 1_000_003
    admission = door(budget(limit), budget(2 * limit, period="day"))
    meter = admission._meters["key:key_1"]
    figures = {"attempted": 0, "admitted": 0, "spent": 0}
    rng = random.Random(7)

    async def caller() -> None:
        for _ in range(40):
            figures["attempted"] += 1
            try:
                permit = admission.admit(SECRET, facts())
            except BudgetExceeded:
                await asyncio.sleep(0)
                continue
            try:
                await one(permit)
            except BudgetExceeded:
                pass
            finally:
                permit.release()
                permit.release()

    async def one(permit: Permit) -> None:
        bound = rng.randrange(1, 5_000)
        permit.reserve(bound)
        figures["admitted"] += 1
        await asyncio.sleep(rng.random() / 500)
        if rng.random() < 0.2:
            extra = rng.randrange(1, 5_000)
            permit.reserve(permit.held + extra)
            bound += extra
        await asyncio.sleep(0)
        if rng.random() < 0.2:
            return
        cost = rng.randrange(bound + 1)
        figures["spent"] += cost
        assert permit.settle(cost) == cost
        assert permit.settle(cost * 2) == cost

    async def watcher() -> None:
        while True:
            assert meter.total <= limit
            await asyncio.sleep(0)

    watching = asyncio.create_task(watcher())
    await asyncio.gather(*(caller() for _ in range(200)))
    watching.cancel()
    print({**figures, "budget": limit})
    assert figures["spent"] == meter.total <= limit
    assert meter.held == 0
    assert figures["admitted"] < figures["attempted"]
    # It is also used up: what is left is less than the dearest request.
    assert limit - meter.total < 10_000


@settings(max_examples=80)
@given(
    st.integers(0, 500),
    st.lists(
        st.tuples(
            st.sampled_from(["admit", "reserve", "top_up", "settle", "release", "tick"]), st.integers(0, 300)
        ),
        max_size=60,
    ),
)
def test_any_order_of_events(limit: int, events: list[tuple[str, int]]) -> None:
    time = Time()
    admission = door(budget(limit, period="lifetime"), time=time)
    permits: list[Permit] = []
    spent = 0
    for name, amount in events:
        permit = permits[amount % len(permits)] if permits else None
        try:
            if name == "admit":
                permits.append(admission.admit(SECRET, facts()))
            elif name == "tick":
                time.pass_(amount * 60)
            elif permit is None:
                continue
            elif name in ("reserve", "top_up"):
                permit.reserve(amount if name == "reserve" else permit.held + amount)
            elif name == "settle" and not permit._hold.settled:
                charged = min(amount, permit.held)
                permit.settle(charged)
                spent += charged
            elif name == "release":
                permit.release()
        except (BudgetExceeded, RuntimeError):
            pass
        meter = admission._meters["key:key_1"]
        assert spent + sum(one.held for one in permits if not one._hold.settled) == meter.total <= limit
    for permit in permits:
        permit.release()
    assert admission._meters["key:key_1"].total == spent
    assert admission.inflight == 0


def test_the_refusal_has_the_figures() -> None:
    time = Time(at("2026-11-21T12:00"))
    admission = door(budget(10 * USD, period="day"), time=time)
    spend(admission, 4 * USD)
    permit = admission.admit(SECRET, facts())
    with pytest.raises(BudgetExceeded, match=r"daily budget of key 'mine' is 10 USD; 4 are spent") as caught:
        permit.reserve(7 * USD)
    assert caught.value.status == 402
    assert caught.value.retry_after_s == 12 * 3_600
    assert caught.value.details["needed_usd"] == "7"
    permit.reserve(6 * USD)
    with pytest.raises(BudgetBusy) as busy:
        admission.admit(SECRET, facts())
    assert (busy.value.status, busy.value.retry_after_s) == (429, 1.0)
    permit.release()
    time.now = at("2026-11-21T23:59:30")
    spend(admission, 6 * USD)
    with pytest.raises(BudgetBusy) as soon:
        admission.admit(SECRET, facts())
    assert soon.value.retry_after_s == 30


def test_a_lifetime_does_not_renew() -> None:
    admission = door(budget(USD, period="lifetime"))
    spend(admission, USD)
    with pytest.raises(BudgetExceeded) as caught:
        admission.admit(SECRET, facts())
    assert (caught.value.status, caught.value.retry_after_s) == (402, None)


@pytest.mark.parametrize(
    ("period", "zone", "before", "after"),
    [
        ("day", "UTC", "2026-03-01T23:59:59", "2026-03-02T00:00:00"),
        ("day", "Asia/Kathmandu", "2026-03-01T23:59:59", "2026-03-02T00:00:00"),
        ("day", "Europe/Berlin", "2026-03-29T23:59:59", "2026-03-30T00:00:00"),
        ("day", "America/New_York", "2026-11-01T23:59:59", "2026-11-02T00:00:00"),
        ("month", "Australia/Lord_Howe", "2026-04-30T23:59:59", "2026-05-01T00:00:00"),
        ("month", "UTC", "2026-12-31T23:59:59", "2027-01-01T00:00:00"),
    ],
)
def test_periods_begin_in_their_zone(period: str, zone: str, before: str, after: str) -> None:
    time = Time(at(before, zone))
    admission = door(budget(10, period=period, timezone=zone), time=time)
    spend(admission, 10)
    with pytest.raises(BudgetExceeded):
        admission.admit(SECRET, facts())
    time.now = at(after, zone)
    spend(admission, 10)


def test_a_request_counts_when_it_came_in() -> None:
    time = Time(at("2026-11-21T23:59"))
    admission = door(budget(10, period="day"), time=time)
    old = admission.admit(SECRET, facts())
    old.reserve(8)
    time.pass_(120)
    new = admission.admit(SECRET, facts())
    new.reserve(10)
    old.reserve(10)
    with pytest.raises(BudgetExceeded):
        old.reserve(11)
    old.settle(10)
    new.settle(3)
    other = admission.admit(SECRET, facts())
    other.reserve(7)
    with pytest.raises(BudgetExceeded):
        other.reserve(8)


def test_a_clock_that_steps_opens_no_second_budget() -> None:
    time = Time(at("2026-11-21T12:00"))
    admission = door(budget(10, period="day"), time=time)
    spend(admission, 10)
    time.now += 86_400
    spend(admission, 10)
    time.now -= 86_400
    with pytest.raises(BudgetExceeded):
        admission.admit(SECRET, facts())
    time.now += 86_400
    with pytest.raises(BudgetExceeded):
        admission.admit(SECRET, facts())


def test_an_edited_budget_keeps_what_was_spent_and_is_held() -> None:
    admission = door(budget(100, period="day"))
    spend(admission, 30)
    running = admission.admit(SECRET, facts())
    running.reserve(40)
    admission.refresh(snapshot(budget(75, period="month", timezone="Asia/Tokyo"), revision=2))
    permit = admission.admit(SECRET, facts())
    with pytest.raises(BudgetExceeded):
        permit.reserve(6)
    permit.reserve(5)
    running.settle(10)
    permit.reserve(35)
    with pytest.raises(BudgetExceeded):
        permit.reserve(36)


def test_what_was_spent_before_the_start_counts() -> None:
    time = Time(at("2026-11-21T12:00"))
    admission = Admission(clock=time.clock, wall=time.wall)
    slot = int(time.now) // 900
    admission.remember({"key:key_1": Spent({slot - 1: 60, slot - 96: 500}, 10_000)})
    admission.refresh(snapshot(budget(100, period="day")))
    permit = admission.admit(SECRET, facts())
    permit.reserve(40)
    with pytest.raises(BudgetExceeded):
        permit.reserve(41)
    permit.release()
    admission.refresh(snapshot(budget(10_600, period="lifetime"), revision=2))
    spend(admission, 40)
    with pytest.raises(BudgetExceeded):
        admission.admit(SECRET, facts())


def test_soft_budgets_let_through_and_say_so() -> None:
    admission = door(budget(USD, hard=False))
    permit = admission.admit(SECRET, facts())
    assert permit.warnings() == []
    assert not permit.has_hard_budget
    permit.reserve(5 * USD)
    assert permit.warnings() == [], "what is held is not spent"
    permit.settle(2 * USD)
    permit.release()
    later = admission.admit(SECRET, facts())
    later.reserve(5 * USD)
    assert later.warnings() == ["monthly budget of key 'mine' exceeded: 2 of 1 USD"]
    assert [text for _, _, text in admission.passed()] == later.warnings()


def test_what_is_held_of_yesterday_is_not_taken_from_today() -> None:
    time = Time(at("2026-11-23 23:59"))
    admission = door(budget(100, period="day", hard=False), time=time)
    late = admission.admit(SECRET, facts())
    late.reserve(1_000)
    time.now = at("2026-11-24 00:01")
    spend(admission, 150)
    (told,) = admission.admit(SECRET, facts()).warnings()
    assert "0.00000000015 of 0.0000000001 USD" in told
    late.settle(5)
    late.release()
    assert admission._meters["key:key_1"].held == 0


def test_what_is_unknown_is_charged_as_held_under_a_budget_only() -> None:
    for budgets, charged in (((), None), ((budget(USD),), 700), ((budget(USD, hard=False),), 700)):
        permit = door(*budgets).admit(SECRET, facts())
        permit.reserve(700)
        assert permit.settle(None) == charged
        permit.release()


def test_budgets_for_a_model_and_a_tag() -> None:
    rules = Rules(
        budgets=[
            BudgetRule(amount_usd="0.000000000010", model="opus"),
            BudgetRule(amount_usd="0.000000000020", tag="team=a"),
        ]
    )
    admission = door(None, rules)
    spend(admission, 10, model="opus")
    with pytest.raises(BudgetExceeded, match="project 'one' for the model 'opus'"):
        admission.admit(SECRET, facts(model="opus"))
    spend(admission, 20, model="haiku", tags={"team": "a"})
    with pytest.raises(BudgetExceeded, match="for the tag 'team=a'"):
        admission.admit(SECRET, facts(tags={"team": "a"}))
    spend(admission, 1_000, tags={"team": "b"})


def test_a_runs_own_budget() -> None:
    admission = door()
    spend(admission, 10, run="r1", run_budget=10)
    with pytest.raises(BudgetExceeded, match="run 'r1'"):
        admission.admit(SECRET, facts(run="r1", run_budget=10))
    spend(admission, 10, run="r2", run_budget=10)
    spend(admission, 5, run="r1", run_budget=15)


def test_prepaid_credit() -> None:
    admission = door()
    admission.refresh(snapshot(revision=2), {"prj_1": 10})
    spend(admission, 10)
    with pytest.raises(BudgetExceeded):
        admission.admit(SECRET, facts())
    admission.refresh(snapshot(revision=3), {"prj_1": 15})
    spend(admission, 5)


def test_an_unknown_cost_costs_what_was_held() -> None:
    admission = door(budget(10))
    permit = admission.admit(SECRET, facts())
    permit.reserve(6)
    assert permit.settle(None) == 6
    permit.release()
    assert admission._meters["key:key_1"].total == 6
    free = admission.admit(SECRET, facts())
    assert free.settle(None) is None


def test_old_slots_are_folded_together() -> None:
    meter = Meter("x")
    for slot in range(10_000):
        meter.settle(0, 1, slot)
    assert meter.total == 10_000
    assert len(meter._slots) < 4_100
    assert meter.between(9_000, 10_000) == 1_000


def test_a_key_is_named_with_its_id_where_another_has_its_name() -> None:
    admission = door(budget(0))
    with pytest.raises(BudgetExceeded, match=r"monthly budget of key 'mine' is") as refused:
        admission.admit(SECRET, facts())
    assert refused.value.details["scope"] == "key:key_1"
    known = snapshot(budget(0))
    twin = replace(known.keys["key_1"], id="key_2")
    admission.refresh(replace(known, keys={**known.keys, "key_2": twin}))
    with pytest.raises(BudgetExceeded, match=r"monthly budget of key 'mine' \(key_1\) is"):
        admission.admit(SECRET, facts())
    renamed = replace(twin, name="other")
    admission.refresh(replace(known, keys={**known.keys, "key_2": renamed}))
    with pytest.raises(BudgetExceeded, match=r"monthly budget of key 'mine' is"):
        admission.admit(SECRET, facts())
