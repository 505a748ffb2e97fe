"""What comes after what: one test for each rule of DESIGN sections 6 to 9 that the enumeration does not name."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tieline.config.schema import Config, ModelConfig, PolicyRules, Routing, Timeouts
from tieline.providers.row import DataPolicy
from tieline.route import no_candidate
from tieline.route.breaker import State
from tieline.route.candidates import policy_reason
from tieline.route.decision import MAX_SHOWN
from tieline.route.steps import GiveUp, Needs, Outcome, Try
from tieline.types.errors import ErrorInfo, Failure, FailureClass, NoCandidate

NEEDS = Needs(input_tokens=100, max_output_tokens=100, stream=True)


def failed(kind: FailureClass, **more: Any) -> Outcome:
    committed, elapsed = more.pop("committed", False), more.pop("elapsed_s", 0.5)
    return Outcome(Failure(kind=kind, message="x", **more), elapsed, committed)


def path(plan: Any, *outcomes: Outcome) -> list[tuple[str, str]]:
    step, taken = plan.start(), []
    for outcome in (*outcomes, None):
        if not isinstance(step, Try):
            break
        taken.append((f"{step.deployment.id}:{step.credential.label}", step.reason))
        if outcome is not None:
            step = plan.send(outcome)
    return taken


def test_a_credential_is_left_for_another_and_then_for_another_provider(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m", keys=2), deployment("b", "m")])
    plan = made.plan(made.match("a/m"), NEEDS, 0.0)
    taken = path(plan, failed(FailureClass.CREDENTIAL), failed(FailureClass.QUOTA_EXHAUSTED))
    assert [reason for _, reason in taken] == ["first", "other_credential", "failover"]
    assert {name for name, _ in taken[:2]} == {"a/m:A_KEY", "a/m:A_KEY_2"}
    assert taken[2][0] == "b/m:B_KEY"


def test_a_rate_limit_prefers_credential_then_host_then_waiting_then_another_model(
    deployment: Any, router: Any
) -> None:
    made = router([deployment("a", "m", keys=2), deployment("b", "m"), deployment("c", "n", quality=90)])
    limited = failed(FailureClass.RATE_LIMITED, retry_after_s=2.0)
    plan = made.plan(made.match("a/m"), NEEDS, 0.0)
    taken = path(plan, limited, limited, limited, failed(FailureClass.RATE_LIMITED, retry_after_s=30.0))
    assert [reason for _, reason in taken] == ["first", "other_credential", "failover", "wait", "failover"]
    assert taken[2][0] == "b/m:B_KEY"
    assert taken[4][0] == "c/n:C_KEY"


def test_a_rate_limit_without_a_time_goes_elsewhere_and_waits_only_when_alone(
    deployment: Any, router: Any
) -> None:
    made = router([deployment("a", "m"), deployment("c", "n", quality=90)])
    assert (
        path(made.plan(made.match("a/m"), NEEDS, 0.0), failed(FailureClass.RATE_LIMITED))[1][1] == "failover"
    )
    alone = router([deployment("a", "m")])
    plan = alone.plan(alone.match("a/m"), NEEDS, 0.0)
    plan.start()
    step = plan.send(failed(FailureClass.RATE_LIMITED))
    assert isinstance(step, Try)
    assert step.reason == "wait"
    assert 0.5 <= step.wait_s <= 1.0


def test_a_told_pause_is_honoured_by_the_next_request(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m")])
    one = made.deployments[0]
    made.health.begin(one, one.credentials[0], 0.0)
    failure = Failure(kind=FailureClass.RATE_LIMITED, message="x", status=429, retry_after_s=30.0)
    made.health.observe(one, one.credentials[0], 0.0, failure=failure)
    early = made.plan(made.match("m"), NEEDS, 1.0).start()
    assert isinstance(early, GiveUp)
    assert early.failure is not None
    assert early.failure.kind is FailureClass.RATE_LIMITED
    assert early.failure.retry_after_s == pytest.approx(29.0)
    soon = made.plan(made.match("m"), NEEDS, 28.0).start()
    assert isinstance(soon, Try)
    assert soon.wait_s == pytest.approx(2.0)
    assert isinstance(made.plan(made.match("m"), NEEDS, 31.0).start(), Try)


def test_a_pause_of_the_only_alternative_is_waited_for_too(deployment: Any, router: Any) -> None:
    """Whom a policy leaves is only away for now, so the caller is told when to come again."""
    made = router([deployment("a", "m"), deployment("c", "n", quality=90)])
    (other,) = [one for one in made.deployments if one.id == "c/n"]
    made.health.begin(other, other.credentials[0], 0.0)
    failure = Failure(kind=FailureClass.RATE_LIMITED, message="x", status=429, retry_after_s=30.0)
    made.health.observe(other, other.credentials[0], 0.0, failure=failure)
    needs = Needs(rules=(PolicyRules(deny_providers=["a"]),))
    early = made.plan(made.match("a/m"), needs, 1.0).start()
    assert isinstance(early, GiveUp)
    assert early.failure is not None
    assert early.failure.retry_after_s == pytest.approx(29.0)
    late = made.plan(made.match("a/m"), needs, 31.0).start()
    assert isinstance(late, Try)
    assert late.deployment.id == "c/n"


def test_context_length_goes_only_to_larger_windows_or_listed_unknown_ones(
    deployment: Any, router: Any
) -> None:
    config = Config(models={"x": ModelConfig(deployments=["a/m"], fallbacks=["d/unknown", "b/m"])})
    made = router(
        [
            deployment("a", "m", context=1000),
            deployment("b", "m", context=1000),
            deployment("c", "big", context=9000, quality=90),
            deployment("d", "unknown", context=None),
            deployment("e", "vague", context=None, quality=90),
        ],
        config,
    )
    again = failed(FailureClass.CONTEXT_LENGTH)
    taken = path(made.plan(made.match("x"), NEEDS, 0.0), again, again, again)
    assert [name.partition(":")[0] for name, _ in taken] == ["a/m", "d/unknown", "c/big"]


def test_a_request_too_long_for_all_is_the_callers(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m", context=1000)])
    step = made.plan(made.match("m"), Needs(input_tokens=5000), 0.0).start()
    assert isinstance(step, GiveUp)
    assert step.failure is not None
    assert step.failure.kind is FailureClass.CONTEXT_LENGTH


def test_a_field_that_cannot_be_encoded_costs_no_attempt(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")])
    plan = made.plan(made.match("m"), NEEDS, 0.0)
    plan.start()
    step = plan.send(Outcome(unsupported="logit_bias"))
    assert isinstance(step, Try)
    assert (step.reason, plan.attempts) == ("first", 1)
    last = plan.send(Outcome(unsupported="logit_bias"))
    assert isinstance(last, GiveUp)
    assert last.failure is not None
    assert last.failure.kind is FailureClass.UNSUPPORTED_PARAMETER
    assert last.failure.info == ErrorInfo(param="logit_bias")


def test_a_fussy_alternative_is_passed_over_but_the_first_choice_is_believed(
    deployment: Any, router: Any
) -> None:
    made = router([deployment("a", "m"), deployment("b", "n", quality=90), deployment("c", "o", quality=90)])
    fussy = failed(FailureClass.UNSUPPORTED_PARAMETER, status=400)
    plan = made.plan(made.match("a/m"), NEEDS, 0.0)
    taken = path(plan, failed(FailureClass.OVERLOADED), fussy)
    assert [name[0] for name, _ in taken] == ["a", "b", "c"]
    assert path(made.plan(made.match("a/m"), NEEDS, 0.0), fussy) == [("a/m:A_KEY", "first")]


def test_resume_refused_for_its_shape_is_tried_once_plainly(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")])
    plan = made.plan(made.match("a/m"), NEEDS, 0.0)
    plan.start()
    resume = plan.send(failed(FailureClass.STALL, committed=True))
    assert (resume.reason, resume.deployment.id, resume.plain) == ("resume", "b/m", False)
    plain = plan.send(failed(FailureClass.UNSUPPORTED_PARAMETER, committed=True, status=400))
    assert (plain.reason, plain.deployment.id, plain.plain) == ("resume", "b/m", True)
    assert isinstance(plan.send(failed(FailureClass.CALLER_FAULT, committed=True, status=400)), GiveUp)


def test_the_retry_budget_ends_retries_at_the_same_provider(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")])
    budget = made.health.budget("a")
    budget.tokens = 4.9
    taken = path(made.plan(made.match("a/m"), NEEDS, 0.0), failed(FailureClass.TRANSIENT))
    assert taken[1] == ("b/m:B_KEY", "failover")
    budget.tokens = 5.0
    taken = path(made.plan(made.match("a/m"), NEEDS, 0.0), failed(FailureClass.TRANSIENT))
    assert taken[1] == ("a/m:A_KEY", "retry")


def test_a_storm_of_400s_fails_over_only_while_siblings_accept(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")])
    a, b = made.deployments
    shape = NEEDS.features
    refused = Failure(kind=FailureClass.CALLER_FAULT, message="x", status=400)

    def tell(one: Any, now: float, failure: Failure | None) -> None:
        made.health.begin(one, one.credentials[0], now)
        made.health.observe(one, one.credentials[0], now, failure=failure, shape=shape)

    tell(a, 0.0, None)
    first = made.plan(made.match("a/m"), NEEDS, 5.0)
    assert path(first, Outcome(refused, 0.1)) == [("a/m:A_KEY", "first")], "one 400 is the caller's"
    for n in range(8):
        tell(a, 100.0 + n * 0.1, refused)
    trial = made.plan(made.match("a/m"), NEEDS, 101.0)
    assert path(trial, Outcome(refused, 0.1))[1] == ("b/m:B_KEY", "failover")
    tell(b, 101.2, None)
    sure = made.plan(made.match("a/m"), NEEDS, 101.3)
    assert path(sure, Outcome(refused, 0.1))[1] == ("b/m:B_KEY", "failover")
    assert made.health.lanes(a)[0].breaker.state(101.5) is State.OPEN


def test_a_storm_that_siblings_share_is_the_callers_fault(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")])
    a, shape = made.deployments[0], NEEDS.features
    refused = Failure(kind=FailureClass.CALLER_FAULT, message="x", status=400)
    made.health.observe(a, a.credentials[0], 0.0, shape=shape)
    for n in range(8):
        made.health.observe(a, a.credentials[0], 100.0 + n * 0.1, failure=refused, shape=shape)
    plan = made.plan(made.match("a/m"), NEEDS, 101.0)
    plan.start()
    assert isinstance(plan.send(Outcome(refused, 0.1)), Try)
    assert isinstance(plan.send(Outcome(refused, 0.2)), GiveUp)
    after = made.plan(made.match("a/m"), NEEDS, 102.0)
    assert path(after, Outcome(refused, 0.1)) == [("a/m:A_KEY", "first")]


DOUBTFUL = Failure(kind=FailureClass.CALLER_FAULT, message="first", status=400, doubtful=True)


def test_a_refusal_in_doubt_is_tried_once_elsewhere(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m"), deployment("c", "m")])
    plan = made.plan(made.match("a/m"), NEEDS, 0.0)
    first, second = plan.start(), plan.send(Outcome(DOUBTFUL, 0.1))
    assert isinstance(second, Try)
    assert (first.deployment.id, second.reason) == ("a/m", "failover")
    assert second.deployment is not first.deployment
    end = plan.send(Outcome(Failure(kind=FailureClass.CALLER_FAULT, message="second", status=400), 0.2))
    assert isinstance(end, GiveUp), "two refusals: it is the caller"
    assert end.failure is DOUBTFUL, "the caller hears what the first said"
    assert plan.attempts == 2


def test_a_known_fault_of_the_caller_asks_nobody_else(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")])
    for status in (400, 413, 422):
        known = failed(FailureClass.CALLER_FAULT, status=status)
        assert path(made.plan(made.match("a/m"), NEEDS, 0.0), known) == [("a/m:A_KEY", "first")]


def test_a_doubt_passes_by_who_is_down_and_waits_for_nobody(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m"), deployment("c", "m")])
    down = failed(FailureClass.TRANSIENT, status=500)
    plan = made.plan(made.match("a/m"), NEEDS, 0.0)
    taken = path(plan, Outcome(DOUBTFUL, 0.1), down)
    assert [reason for _, reason in taken] == ["first", "failover", "failover"]
    assert len({name for name, _ in taken}) == 3
    end = plan.send(failed(FailureClass.RATE_LIMITED, retry_after_s=0.5))
    assert isinstance(end, GiveUp)
    assert end.failure is DOUBTFUL


def test_a_doubt_with_nobody_else_is_the_answer(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m")])
    plan = made.plan(made.match("a/m"), NEEDS, 0.0)
    plan.start()
    end = plan.send(Outcome(DOUBTFUL, 0.1))
    assert isinstance(end, GiveUp)
    assert end.failure is DOUBTFUL


def test_wrong_doubts_are_bounded_and_come_back_with_time(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")])

    def attempts(now: float) -> int:
        plan = made.plan(made.match("a/m"), NEEDS, now)
        return len(path(plan, Outcome(DOUBTFUL, 0.0), Outcome(DOUBTFUL, 0.0)))

    assert [attempts(100.0) for _ in range(13)] == [2] * 10 + [1] * 3
    assert attempts(103.1) == 2
    assert attempts(103.1) == 1


def test_doubts_that_prove_right_are_free_and_open_the_breaker(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")])
    a, b = made.deployments

    def tell(one: Any, now: float, failure: Failure | None) -> None:
        made.health.begin(one, one.credentials[0], now)
        made.health.observe(one, one.credentials[0], now, failure=failure, shape=NEEDS.features)

    tell(a, 0.0, None)
    for n in range(3):
        now = 100.0 + n
        plan = made.plan(made.match("a/m"), NEEDS, now)
        first = plan.start()
        assert first.deployment is a
        tell(a, now, DOUBTFUL)
        assert plan.send(Outcome(DOUBTFUL, 0.1)).deployment is b
        tell(b, now + 0.2, None)
    assert made.health.lanes(a)[0].breaker.state(102.5) is State.OPEN
    assert made.plan(made.match("a/m"), NEEDS, 102.5).start().deployment is b


def test_what_never_accepted_anything_is_left_only_if_nobody_can_say_why(
    deployment: Any, router: Any
) -> None:
    for refusal, left in ((DOUBTFUL, True), (Failure(kind=FailureClass.CALLER_FAULT, message="x"), False)):
        made = router([deployment("a", "m"), deployment("b", "m")])
        a, b = made.deployments
        for n in range(4):
            made.health.observe(a, a.credentials[0], n / 10, failure=refusal, shape=NEEDS.features)
        made.health.observe(b, b.credentials[0], 0.5, shape=NEEDS.features)
        plan = made.plan(made.match("a/m"), NEEDS, 0.6)
        plan.start()
        plan.send(Outcome(refusal, 0.1))
        assert (made.health.lanes(a)[0].breaker.state(0.7) is State.OPEN) is left


def test_a_broken_stream_after_a_doubt_is_reported_as_broken(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")])
    plan = made.plan(made.match("a/m"), NEEDS, 0.0)
    plan.start()
    plan.send(Outcome(DOUBTFUL, 0.1))
    end = plan.send(failed(FailureClass.TRUNCATED, committed=True))
    assert isinstance(end, GiveUp)
    assert end.failure is not None
    assert end.failure.kind is FailureClass.TRUNCATED


def test_when_all_are_open_the_least_bad_is_used(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")])
    for one in made.deployments:
        for n in range(5):
            failure = Failure(kind=FailureClass.TRANSIENT, message="x")
            made.health.observe(one, one.credentials[0], n * 0.1, failure=failure)
    assert {view.state for view in made.health.snapshot(0.5)} == {"open"}
    assert isinstance(made.plan(made.match("m"), NEEDS, 0.5).start(), Try)


def test_policy_and_unknown_policy_exclude_with_reasons(deployment: Any, router: Any) -> None:
    eu = DataPolicy(jurisdictions=("DE",), trains=False, retention_days=0)
    made = router(
        [
            deployment("a", "m"),
            deployment("b", "m", policy=DataPolicy(jurisdictions=("US",), trains=False)),
            deployment("c", "m", policy=eu),
        ]
    )
    rules = (PolicyRules(jurisdictions=["EU"]), PolicyRules(no_training=True, zero_retention=True))
    plan = made.plan(made.match("m"), Needs(rules=rules), 0.0)
    first = plan.start()
    assert isinstance(first, Try)
    assert first.deployment.id == "c/m"
    end = plan.send(failed(FailureClass.OVERLOADED))
    assert isinstance(end, GiveUp)
    assert "unknown" in end.excluded["a/m"]
    assert "US" in end.excluded["b/m"]
    denied = made.plan(made.match("a/m"), Needs(rules=(PolicyRules(allow_providers=["z"]),)), 0.0).start()
    assert isinstance(denied, GiveUp)
    assert denied.failure is None
    error = no_candidate.error("a/m", denied.excluded)
    assert isinstance(error, NoCandidate)
    assert set(error.details["excluded"]) == {"a/m", "b/m", "c/m"}


def test_who_is_excluded_is_told_in_few_words() -> None:
    excluded = {f"p{number}/m": "policy: EU only" for number in range(200)}
    excluded |= {"q/m": "overloaded"} | {f"r{number}/m": f"reason {number}" for number in range(20)}
    error = no_candidate.error("anything", excluded)
    assert error.hint is not None
    assert error.hint.startswith(
        "p0/m, p1/m, p2/m and 197 more: policy: EU only; q/m: overloaded; r0/m: reason 0; "
    )
    assert error.hint.endswith("; r5/m: reason 5; 14 more reasons")
    assert error.details["excluded_count"] == 221
    assert len(error.details["excluded"]) == MAX_SHOWN
    assert no_candidate.error("nothing", {}).hint == "Configure a provider that has it."


@pytest.mark.parametrize(
    ("rules", "policy", "reason"),
    [
        (PolicyRules(), DataPolicy(), None),
        (PolicyRules(deny_providers=["p@eu"]), DataPolicy(), "provider p@eu is denied"),
        (PolicyRules(deny_providers=["p"]), DataPolicy(), "provider p@eu is denied"),
        (PolicyRules(deny_providers=["p@us", "q"]), DataPolicy(), None),
        (PolicyRules(allow_providers=["q"]), DataPolicy(), "not among allow_providers"),
        (PolicyRules(allow_providers=["p"]), DataPolicy(), "not among allow_providers"),
        (PolicyRules(allow_providers=["p@eu"]), DataPolicy(), None),
        (PolicyRules(no_training=True), DataPolicy(), "is unknown"),
        (PolicyRules(no_training=True), DataPolicy(trains=True), "it trains on prompts"),
        (PolicyRules(no_training=True), DataPolicy(trains=False), None),
        (PolicyRules(zero_retention=True), DataPolicy(), "retention is unknown"),
        (PolicyRules(zero_retention=True), DataPolicy(retention_days=30), "for 30 days"),
        (PolicyRules(zero_retention=True), DataPolicy(retention_days=0), None),
        (PolicyRules(jurisdictions=["EU"]), DataPolicy(), "unknown"),
        (PolicyRules(jurisdictions=["EU"]), DataPolicy(jurisdictions=()), "unknown"),
        (PolicyRules(jurisdictions=["EU"]), DataPolicy(jurisdictions=("FR",)), None),
        (PolicyRules(jurisdictions=["FR"]), DataPolicy(jurisdictions=("EU",)), "in EU, outside FR"),
        (PolicyRules(jurisdictions=["EU"]), DataPolicy(jurisdictions=("FR", "US")), "in US, outside EU"),
        (PolicyRules(jurisdictions=["EU"]), DataPolicy(jurisdictions=("local",)), None),
    ],
)
def test_a_rule_of_a_data_policy(
    deployment: Any, rules: PolicyRules, policy: DataPolicy, reason: str | None
) -> None:
    found = policy_reason(deployment("p@eu", "m", policy=policy), (rules,))
    assert found is None if reason is None else reason in (found or "")


def test_ceilings_count_earlier_attempts_and_refuse_unknown_prices(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m"), deployment("c", "m", price=None)])
    worst = 100 * 1000 + 100 * 2000
    needs = Needs(input_tokens=100, max_output_tokens=100, max_cost=worst + 10)
    plan = made.plan(made.match("a/m"), needs, 0.0)
    first = plan.start()
    assert isinstance(first, Try)
    assert plan.ceiling.worst(first.deployment) == worst
    free = plan.send(Outcome(failed(FailureClass.OVERLOADED).failure, 0.1, cost=0))
    assert isinstance(free, Try)
    end = plan.send(Outcome(failed(FailureClass.OVERLOADED).failure, 0.2, cost=None))
    assert isinstance(end, GiveUp)
    assert "ceiling" in end.excluded["c/m"] or "unknown" in end.excluded["c/m"]
    spent = made.plan(made.match("a/m"), needs, 0.0)
    spent.start()
    assert isinstance(spent.send(Outcome(failed(FailureClass.STALL).failure, 0.1, cost=20)), GiveUp)


def test_deadlines_adapt_and_give_the_rest_to_the_last(deployment: Any, router: Any) -> None:
    made = router(
        [deployment("a", "m"), deployment("b", "m"), deployment("r", "think", reasoning=True, quality=10)]
    )
    a = made.deployments[0]
    plan = made.plan(made.match("a/m"), NEEDS, 0.0)
    assert plan.start().deadlines.first_token_s == pytest.approx(10.0, rel=0.05)
    last = plan.send(failed(FailureClass.FIRST_TOKEN_TIMEOUT, elapsed_s=10.0))
    assert last.deadlines.first_token_s == last.deadlines.total_s == pytest.approx(590.0)
    for n in range(40):
        made.health.observe(a, a.credentials[0], n * 1.0, first_token_s=0.2, gap_s=0.05)
    seen = made.plan(made.match("a/m"), NEEDS, 50.0).start().deadlines
    assert seen.first_token_s == pytest.approx(4.0, rel=0.05)
    assert seen.stall_s == 5.0
    thinking = made.plan(made.match("r/think"), NEEDS, 0.0).start().deadlines
    assert thinking.first_token_s == pytest.approx(60.0, rel=0.05)
    fixed = Routing(timeouts=Timeouts(first_token_s=1.5, stall_s=0.5, connect_s=0.2, total_s=9))
    given = made.plan(made.match("a/m"), Needs(routing=fixed), 0.0).start().deadlines
    assert (given.first_token_s, given.stall_s, given.connect_s, given.total_s) == (1.5, 0.5, 0.2, 9)


def test_hedging_has_a_time_a_budget_and_a_ceiling(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")], Config(routing=Routing(hedge=True)))
    a = made.deployments[0]
    for n in range(40):
        made.health.observe(a, a.credentials[0], n * 0.1, first_token_s=0.2)

    def hedged(**more: Any) -> Try | None:
        needs = Needs(input_tokens=100, max_output_tokens=100, stream=True, **more)
        plan = made.plan(made.match("a/m"), needs, 5.0)
        plan.start()
        after = plan.hedge_after()
        assert after is not None
        assert 0.2 <= after <= 0.3
        found = plan.hedge(after)
        if found is not None:
            assert found.deployment.id == "b/m"
            assert plan.hedge(after) is None, "one hedge a request"
        return found

    assert hedged() is not None
    taken = sum(hedged() is not None for _ in range(500))
    assert 9 <= taken <= 11
    for _ in range(100):
        made.plan(made.match("a/m"), NEEDS, 5.0)
    assert hedged(max_cost=400_000) is None, "both together would be above it"
    made.health.budget("b").tokens = 1.0
    assert hedged() is None


def test_a_whole_answer_is_late_after_what_whole_answers_take(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")], Config(routing=Routing(hedge=True)))
    a = made.deployments[0]
    needs = Needs(input_tokens=100, max_output_tokens=100)

    def after() -> float | None:
        plan = made.plan(made.match("a/m"), needs, 5.0)
        plan.start()
        found: float | None = plan.hedge_after()
        return found

    for n in range(40):
        made.health.observe(a, a.credentials[0], n * 0.1, first_token_s=0.2)
    assert after() is None, "first tokens say nothing about it"
    for n in range(40):
        made.health.observe(a, a.credentials[0], n * 0.1, whole_s=6.0, output_tokens=300)
    seen = after()
    assert seen is not None
    assert 6.0 <= seen <= 8.0


def test_a_count_may_be_of_what_is_too_long_or_too_dear(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m", context=1000)])
    for free in (False, True):
        needs = Needs(operation="count_tokens", input_tokens=10_000, max_cost=1, free=free)
        assert isinstance(made.plan(made.match("m"), needs, 0.0).start(), Try) is free


def test_of_two_racing_tries_the_last_one_decides(deployment: Any, router: Any) -> None:
    made = router(
        [deployment("a", "m"), deployment("b", "m"), deployment("c", "m")],
        Config(routing=Routing(hedge=True)),
    )
    plan = made.plan(made.match("a/m"), NEEDS, 0.0)
    first = plan.start()
    hedge = plan.hedge(0.5)
    assert isinstance(first, Try)
    assert isinstance(hedge, Try)
    plan.note(first, failed(FailureClass.STALL))
    third = plan.send(failed(FailureClass.STALL, elapsed_s=1.0))
    assert isinstance(third, Try)
    assert third.deployment not in (first.deployment, hedge.deployment)
    assert plan.attempts == 3


@pytest.mark.parametrize("refusal", ["no budget", "no price", "cannot do tools"])
def test_a_hedge_that_was_not_sent_is_no_attempt(deployment: Any, router: Any, refusal: str) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")], Config(routing=Routing(hedge=True)))
    for _ in range(3):  # the allowance is for one hedge, and it is put back
        plan = made.plan(made.match("a/m"), NEEDS, 0.0)
        first, hedge = plan.start(), plan.hedge(0.5)
        assert isinstance(first, Try)
        assert isinstance(hedge, Try)
        if refusal == "cannot do tools":
            plan.note(hedge, Outcome(unsupported="tools"))
        else:
            plan.withdraw_hedge(None if refusal == "no budget" else refusal)
        assert plan.attempts == 1
        assert [row["deployment"] for row in plan.told()["tried"]] == ["a/m"]
        after = plan.send(failed(FailureClass.TRUNCATED))
        if refusal == "no budget":
            assert isinstance(after, Try)
            assert (after.deployment.id, plan.attempts) == ("b/m", 2), "alone it may fit"
        else:
            assert isinstance(after, GiveUp)
            assert plan.attempts == 1
            assert refusal in after.excluded["b/m"]


def test_a_probe_of_a_half_open_breaker_is_hedged_even_when_hedging_is_off(
    deployment: Any, router: Any
) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")])
    a = made.deployments[0]
    for n in range(5):
        made.health.observe(a, a.credentials[0], n * 0.1, failure=failed(FailureClass.TRANSIENT).failure)
    plan = made.plan(made.match("a/m"), NEEDS, 20.0)
    probe = plan.start()
    assert isinstance(probe, Try)
    assert probe.probe
    assert plan.hedge_after() == 1.0
    made.health.begin(probe.deployment, probe.credential, 20.0)
    other = made.plan(made.match("a/m"), NEEDS, 20.1).start()
    assert isinstance(other, Try)
    assert other.deployment.id == "b/m", "one live request only"


def test_a_count_sorted_by_price_passes_over_a_half_open_host_not_over_the_model(
    deployment: Any, router: Any
) -> None:
    made = router(
        [
            deployment("a", "m", price=(1, 1)),
            deployment("b", "m", price=(100, 100)),
            deployment("c", "n", price=(1, 1), quality=99.0),
        ]
    )
    a = made.deployments[0]
    for n in range(5):
        made.health.observe(a, a.credentials[0], n * 0.1, failure=failed(FailureClass.TRANSIENT).failure)
    needs = Needs(operation="count_tokens", free=True)
    assert made.plan(made.match("m:floor"), needs, 20.0).start().deployment.id == "b/m"


def test_a_count_is_rather_asked_of_a_half_open_host_than_of_another_model(
    deployment: Any, router: Any
) -> None:
    made = router([deployment("a", "m"), deployment("c", "n", quality=99.0)])
    a = made.deployments[0]
    for n in range(5):
        made.health.observe(a, a.credentials[0], n * 0.1, failure=failed(FailureClass.TRANSIENT).failure)
    needs = Needs(operation="count_tokens", free=True)
    assert made.plan(made.match("m"), needs, 1.0).start().deployment.id == "c/n", "still open"
    assert made.plan(made.match("m"), needs, 20.0).start().deployment.id == "a/m"


def test_a_session_stays_where_it_was(deployment: Any, router: Any) -> None:
    made = router([deployment(name, "m") for name in "abcd"])
    served = {
        session: {
            made.plan(made.match("m"), Needs(session=session), float(n)).start().deployment.id
            for n in range(20)
        }
        for session in map(str, range(30))
    }
    assert all(len(ids) == 1 for ids in served.values())
    assert len(set.union(*served.values())) > 2


def test_recovery_is_tried_by_a_session_that_belongs_there(deployment: Any, router: Any) -> None:
    made = router([deployment(name, "m") for name in "abcd"])

    def served(session: str | None, at: float) -> Try:
        step = made.plan(made.match("m"), Needs(session=session), at).start()
        assert isinstance(step, Try)
        return step

    sessions = list(map(str, range(20)))
    before = {session: served(session, 0.0).deployment.id for session in sessions}
    (a, *_) = made.deployments
    for n in range(5):
        made.health.observe(a, a.credentials[0], n * 0.1, failure=failed(FailureClass.TRANSIENT).failure)
    assert "a/m" not in {served(session, 1.0).deployment.id for session in sessions}
    after = {session: served(session, 20.0) for session in sessions}
    assert {session: step.deployment.id for session, step in after.items()} == before
    assert {step.probe for step in after.values() if step.deployment is a} == {True}
    assert not any(step.probe for step in after.values() if step.deployment is not a)
    assert served(None, 20.0).probe


def test_explain_gives_the_order_of_now(deployment: Any, router: Any) -> None:
    made = router(
        [
            deployment("a", "m", price=(2000, 4000)),
            deployment("b", "m", price=(1000, 2000)),
            deployment("c", "m", price=(1500, 3000)),
        ]
    )
    a, b, c = made.deployments

    def order(name: str, at: float = 2.0) -> list[str]:
        told = made.explain(made.match(name), Needs(max_price_ratio=9), at).as_dict()["candidates"]
        return [row["deployment"] for row in told if row["order"]]

    made.health.observe(b, b.credentials[0], 1.0, first_token_s=5.0)
    made.health.observe(c, c.credentials[0], 1.0, first_token_s=0.2)
    assert order("m:floor") == ["b/m", "c/m", "a/m"]
    assert order("m")[-1] == "b/m", "the slowest"
    for n in range(5):
        made.health.observe(a, a.credentials[0], n * 0.1, failure=failed(FailureClass.TRANSIENT).failure)
    assert order("a/m") == ["c/m", "b/m", "a/m"], "what is asked for is open"
    step = made.plan(made.match("a/m"), Needs(max_price_ratio=9), 2.0).start()
    assert isinstance(step, Try)
    assert step.deployment is not a
    assert order("a/m", 20.0)[0] == "a/m", "it is probed"


def test_explain_is_dry_and_tells_everything(deployment: Any, router: Any) -> None:
    made = router(
        [deployment("a", "m"), deployment("b", "n", quality=90), deployment("c", "bad", quality=10)]
    )
    before = made.health.snapshot(0.0)
    told = made.explain(made.match("a/m"), NEEDS, 0.0).as_dict()
    assert [(row["order"], row["deployment"]) for row in told["candidates"]] == [
        (1, "a/m"),
        (2, "b/n"),
        (None, "c/bad"),
    ]
    assert (
        told["candidates"][1] | {"kind": "equivalent", "quality": 90, "price_usd": "0.0000003"}
        == told["candidates"][1]
    )
    assert "not as good as m" in told["excluded"]["c/bad"]
    assert len(made.health.snapshot(0.0)) >= len(before)
    assert all(view.inflight == 0 for view in made.health.snapshot(0.0))


def test_the_decision_of_a_plan_names_what_was_tried(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")], seed=Random(1).randint(0, 9))
    plan = made.plan(made.match("a/m"), NEEDS, 0.0)
    path(plan, failed(FailureClass.OVERLOADED))
    told = plan.decision().as_dict()
    assert [one["deployment"] for one in told["tried"]] == ["a/m", "b/m"]
    assert told["excluded"]["a/m"] == "overloaded"
    assert {one["deployment"]: one["price_usd"] for one in told["candidates"]} == {
        "a/m": "0.0000003",
        "b/m": "0.0000003",
    }


def test_a_stream_that_nobody_can_continue_ends(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m")])
    plan = made.plan(made.match("a/m"), NEEDS, 0.0)
    plan.start()
    broken = failed(FailureClass.TRUNCATED, committed=True)
    broken.resumable = False
    assert isinstance(plan.send(broken), GiveUp)


def test_what_was_asked_for_is_first_among_what_was_excluded(deployment: Any, router: Any) -> None:
    smart = {"smart": ModelConfig(deployments=["a/m"], fallbacks=["c/plan-b"])}
    others = [deployment("b", f"riddle-{n}", quality=None) for n in range(60)]
    asked = deployment("a", "m", max_output=64_000, price=(3_000_000, 15_000_000))
    made = router([*others, asked, deployment("c", "plan-b", price=None)], Config(models=smart))
    end = made.plan(made.match("smart"), Needs(input_tokens=10, max_cost=50_000_000_000), 0.0).start()
    assert isinstance(end, GiveUp)
    assert list(end.excluded)[:2] == ["a/m", "c/plan-b"]
    assert "max_tokens would shorten it" in end.excluded["a/m"]
    shorter = Needs(input_tokens=10, max_output_tokens=60_000, max_cost=50_000_000_000)
    end = made.plan(made.match("smart"), shorter, 0.0).start()
    assert isinstance(end, GiveUp)
    assert "max_tokens" not in end.excluded["a/m"]


def test_every_answer_asked_for_counts_against_the_ceiling(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m")])
    for n, expected in ((1, Try), (3, GiveUp)):
        needs = Needs(input_tokens=100, max_output_tokens=100, n=n, max_cost=400_000)
        assert isinstance(made.plan(made.match("m"), needs, 0.0).start(), expected)


def test_a_service_tier_counts_against_the_ceiling(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m", percents={"priority_percent": 1000}), deployment("b", "m")])
    usual = 100 * 1000 + 100 * 2000
    for tier, ceiling, expected in (
        (None, usual, ["a", "b"]),
        ("default", usual, ["a", "b"]),
        ("priority", usual * 10 + 4, []),
        ("priority", usual * 10 + 5, ["a"]),  # five for rounding
        ("flex", usual * 100, []),
    ):
        needs = Needs(input_tokens=100, max_output_tokens=100, max_cost=ceiling, service_tier=tier)
        plan = made.plan(made.match("m"), needs, 0.0)
        step = plan.start()
        assert (step.deployment.provider.name in expected) if isinstance(step, Try) else not expected
        if tier == "priority" and isinstance(step, Try):
            assert plan.ceiling.worst(step.deployment) == ceiling


@pytest.mark.parametrize(
    ("asked", "other", "goes_on"),
    [
        (200, 200, True),
        (200, 1000, False),
        (200, None, False),
        (None, None, True),
        (None, 110, True),
        (None, 1000, False),
    ],
)
def test_a_service_tier_counts_within_the_price_ratio(
    deployment: Any, router: Any, asked: int | None, other: int | None, goes_on: bool
) -> None:
    """Where no price of the tier is known of the model asked for, its standard price stands in."""
    percents = [{} if one is None else {"priority_percent": one} for one in (asked, other)]
    made = router([deployment("a", "m", percents=percents[0]), deployment("b", "m", percents=percents[1])])
    needs = Needs(input_tokens=100, max_output_tokens=100, service_tier="priority")
    plan = made.plan(made.match("a/m"), needs, 0.0)
    assert isinstance(plan.start(), Try)
    step = plan.send(failed(FailureClass.OVERLOADED))
    assert isinstance(step, Try) is goes_on
    if isinstance(step, GiveUp):
        assert "max_price_ratio" in step.excluded["b/m"]


def test_an_overloaded_provider_is_left_alone_as_long_as_it_asked_but_not_for_ever(
    deployment: Any, router: Any
) -> None:
    made = router([deployment("a", "m")])
    one = made.deployments[0]
    failure = Failure(kind=FailureClass.OVERLOADED, message="x", status=503, retry_after_s=3600.0)
    made.health.observe(one, one.credentials[0], 0.0, failure=failure)
    early = made.plan(made.match("m"), NEEDS, 10.0).start()
    assert isinstance(early, GiveUp)
    assert early.failure is not None
    assert (early.failure.kind, early.failure.retry_after_s) == (FailureClass.OVERLOADED, 20.0)
    assert isinstance(made.plan(made.match("m"), NEEDS, 31.0).start(), Try)


def test_with_listed_fallbacks_their_order_holds_and_found_ones_come_last(
    deployment: Any, router: Any
) -> None:
    models = {
        "x": ModelConfig(deployments=["a/m"], fallbacks=["y", "d/p"]),
        "y": ModelConfig(deployments=["c/o"], fallbacks=["x"]),
    }
    worlds = [
        deployment("a", "m"),
        deployment("b", "m"),
        deployment("c", "o", price=(9, 9)),
        deployment("d", "p", price=None),
    ]
    made = router(worlds, Config(models=models))
    down = failed(FailureClass.OVERLOADED)
    taken = path(made.plan(made.match("x"), NEEDS, 0.0), *[down] * 5)
    assert [name.partition(":")[0] for name, _ in taken] == ["a/m", "c/o", "d/p", "b/m"]


def test_where_two_failed_the_rest_comes_last(deployment: Any, router: Any) -> None:
    """Incident D14: one host of many models must not use up the attempts while another is well."""
    names = ("m", "m2", "m3", "m4")
    made = router(
        [*(deployment("a", name) for name in names), deployment("b", "m5")],
        Config(
            models={
                "x": ModelConfig(deployments=["a/m"], fallbacks=["a/m2", "a/m3", "a/m4", "b/m5"]),
            }
        ),
    )
    overloaded = failed(FailureClass.OVERLOADED)
    taken = path(made.plan(made.match("x"), NEEDS, 0.0), *[overloaded] * 4)
    assert [name.partition(":")[0] for name, _ in taken] == ["a/m", "a/m2", "b/m5", "a/m3", "a/m4"]
