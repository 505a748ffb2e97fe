"""Every (failure sequence × policy × world) up to a length, and what must hold in all of them."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

import pytest

from tieline.config.schema import Config, ModelConfig, Routing, Timeouts
from tieline.providers.deployment import Deployment
from tieline.route.plan import Plan
from tieline.route.steps import GiveUp, Needs, Outcome, Try
from tieline.types.errors import Failure, FailureClass

ENDS: dict[str, Failure | None] = {
    "success": None,
    "limited_soon": Failure(kind=FailureClass.RATE_LIMITED, message="x", status=429, retry_after_s=1.0),
    "limited_long": Failure(kind=FailureClass.RATE_LIMITED, message="x", status=429, retry_after_s=60.0),
    "limited": Failure(kind=FailureClass.RATE_LIMITED, message="x", status=429),
    "doubtful": Failure(kind=FailureClass.CALLER_FAULT, message="x", status=400, doubtful=True),
    **{
        kind.value: Failure(kind=kind, message="x", status=400 if kind is FailureClass.CALLER_FAULT else None)
        for kind in FailureClass
        if kind is not FailureClass.RATE_LIMITED
    },
}
FINAL = {
    FailureClass.CALLER_FAULT,
    FailureClass.CALLER_GONE,
    FailureClass.SHUT_DOWN,
    FailureClass.CONTENT_FILTERED,
    FailureClass.INTERNAL,
}
ONCE_MORE = {FailureClass.CONNECT, FailureClass.TRANSIENT}
KEY = {FailureClass.CREDENTIAL, FailureClass.QUOTA_EXHAUSTED}
SECONDS = 0.3


def world(make: Any) -> list[Deployment]:
    return [
        make("alpha", "m", keys=2, context=1000),
        make("beta", "m", context=1000),
        make("gamma", "better", quality=90, context=8000),
        make("delta", "dear", quality=95, price=(9000, 9000), context=9000),
        make("epsilon", "worse", quality=40),
        make("zeta", "listed", quality=10, context=None, price=(3000, 3000)),
    ]


POLICIES = {
    "equivalent": Routing(),
    "listed": Routing(fallback="listed"),
    "none": Routing(fallback="none"),
    "two attempts": Routing(max_attempts=2),
    "short": Routing(timeouts=Timeouts(total_s=0.5)),
    "ceiling": Routing(max_cost_usd="0.000002"),
    "error": Routing(on_broken_stream="error"),
    "impatient": Routing(patience_s=0.0),
}
NEEDS = Needs(input_tokens=100, max_output_tokens=100, stream=True)
CEILING = 2_000_000


def run(
    router: Any, name: str, routing: Routing, ends: tuple[str, ...], *, committed_from: int | None = None
) -> Any:
    """Plays a sequence of ends; what comes after its last one is a success. Health is told, as the pipeline does."""
    plan = router.plan(router.match(name), NEEDS, 0.0)
    step, now, trail = plan.start(), 0.0, []
    while isinstance(step, Try):
        end = ends[len(trail)] if len(trail) < len(ends) else "success"
        failure = ENDS[end]
        trail.append((step, failure))
        now += step.wait_s
        router.health.begin(step.deployment, step.credential, now)
        now += SECONDS
        router.health.observe(step.deployment, step.credential, now, failure=failure)
        if failure is None:
            return trail, None, now, plan
        committed = committed_from is not None and len(trail) > committed_from
        step = plan.send(Outcome(failure, now, committed, cost=100_000))
    assert isinstance(step, GiveUp)
    return trail, step, now, plan


def check(
    trail: list[tuple[Try, Failure | None]], routing: Routing, now: float, gave_up: GiveUp | None, plan: Plan
) -> None:
    assert 1 <= len(trail) <= routing.max_attempts
    waits = sum(step.wait_s for step, _ in trail if step.reason == "wait")
    assert waits <= routing.patience_s + 1e-9
    begun = now - SECONDS
    assert begun < routing.timeouts.total_s + 1e-9
    for at, (step, failure) in enumerate(trail):
        later = trail[at + 1 :]
        assert step.deadlines.total_s <= routing.timeouts.total_s
        assert step.deadlines.first_token_s <= step.deadlines.total_s
        if failure is None:
            assert not later
            continue
        again = [one for one, _ in later if one.deployment is step.deployment]
        if failure.doubtful:
            lanes = {(one.deployment.id, one.credential.label) for one, _ in later}
            assert not again
            assert len(lanes) == len(later), "each once"
            verdicts = [one for _, one in later if one is None or one.kind is FailureClass.CALLER_FAULT]
            assert len(verdicts) <= 1, "one answer settles whose fault it was"
        elif failure.kind in FINAL:
            assert not later, "a fault of the caller never fails over"
        elif failure.kind in ONCE_MORE:
            same = [one for one, _ in trail if one.deployment is step.deployment and one.reason == "retry"]
            assert len(same) <= 1
        elif failure.kind in KEY:
            assert all(one.credential is not step.credential for one in again)
        elif failure.kind is FailureClass.RATE_LIMITED:
            mine = [one for one in again if one.credential is step.credential]
            assert not mine or mine[0].reason == "wait"
        elif not any(one.plain for one in again):
            assert not again, f"{step.deployment.id} was tried again after {failure.kind}"
        if failure.kind is FailureClass.CONTEXT_LENGTH:
            small = step.deployment.card.context  # type: ignore[union-attr]
            for one, _ in later:
                window = one.deployment.card.context  # type: ignore[union-attr]
                assert window is None or small is None or window > small or one.deployment is step.deployment
    if routing.max_cost_usd is not None:
        last, _ = trail[-1]
        bound = (plan.ceiling.worst(last.deployment) or 0) + 100_000 * (len(trail) - 1)
        assert bound <= CEILING
    names = [step.deployment.name for step, _ in trail]
    assert "worse" not in names
    assert "dear" not in names, "above max_price_ratio"
    if routing.fallback != "equivalent":
        assert "better" not in names
    if gave_up is not None:
        assert gave_up.failure is not None, "something is always answered"
        assert {step.deployment.id for step, _ in trail} <= set(gave_up.excluded) | {
            trail[-1][0].deployment.id
        } | {step.deployment.id for step, failure in trail if failure is not None}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["alpha/m", "m", "both"])
def test_every_sequence(policy: str, name: str, deployment: Any, router: Any) -> None:
    config = Config(
        routing=POLICIES[policy],
        models={
            "both": ModelConfig(
                deployments=["alpha/m"], fallbacks=[] if policy == "none" else ["zeta/listed"]
            )
        },
    )
    # Three failures in a row where most can happen; two suffice where a policy only takes something away.
    for ends in product(ENDS, repeat=3 if (policy, name) == ("equivalent", "m") else 2):
        trail, gave_up, now, plan = run(router(world(deployment), config), name, config.routing, ends)
        try:
            check(trail, config.routing, now, gave_up, plan)
        except AssertionError as error:
            raise AssertionError(
                f"{ends}: {[(s.deployment.id, s.reason) for s, _ in trail]}: {error}"
            ) from error


@pytest.mark.parametrize("policy", ["equivalent", "error", "listed"])
@pytest.mark.parametrize("from_", [0, 1])
def test_every_broken_stream(policy: str, from_: int, deployment: Any, router: Any) -> None:
    config = Config(routing=POLICIES[policy])
    for ends in product(ENDS, repeat=3 if (policy, from_) == ("equivalent", 0) else 2):
        trail, _, now, _ = run(
            router(world(deployment), config), "m", config.routing, ends, committed_from=from_
        )
        resumes = [step for step, _ in trail if step.reason == "resume" and not step.plain]
        broken = [at for at, (_, failure) in enumerate(trail) if failure is not None and at >= from_]
        if policy == "error" and broken:
            assert len(trail) == broken[0] + 1
        assert len(resumes) <= 2, ends
        for step in resumes:
            at = next(n for n, (one, _) in enumerate(trail) if one is step)
            assert all(one.deployment is not step.deployment for one, _ in trail[:at]), (ends, step)
        assert now <= config.routing.timeouts.total_s


def test_random_long_sequences(deployment: Any, router: Any) -> None:
    """One world through 400 requests: breakers, cooling and dead keys accumulate, and still every invariant holds."""
    random = Random(3)
    routers = router(world(deployment))
    for _ in range(400):
        ends = tuple(random.choice(list(ENDS)) for _ in range(8))
        plan = routers.plan(routers.match("m"), NEEDS, 0.0)
        step, count = plan.start(), 0
        while isinstance(step, Try) and count < 10:
            failure = ENDS[ends[count % 8]]
            count += 1
            routers.health.begin(step.deployment, step.credential, 0.0)
            routers.health.observe(step.deployment, step.credential, 0.1 * count, failure=failure)
            if failure is None:
                break
            step = plan.send(Outcome(failure, 0.1 * count))
        assert count <= 6
        assert count >= 1 or (isinstance(step, GiveUp) and step.failure is not None)
