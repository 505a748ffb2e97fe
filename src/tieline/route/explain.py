"""Every candidate with what decides about it. Dry."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

from tieline.config.schema import Routing
from tieline.providers.deployment import Deployment
from tieline.route.balance import Stand, badness, expected
from tieline.route.decision import Decision, describe, excluded_of
from tieline.route.equivalence import Evaluations, UpperBound
from tieline.route.health import Health, Lane, view
from tieline.route.hedge import HedgeBudget
from tieline.route.plan import Plan
from tieline.route.pool import Pool, Tier
from tieline.route.steps import Needs


def explain(
    pool: Pool,
    needs: Needs,
    routing: Routing,
    upper_bound: UpperBound,
    evaluations: Evaluations,
    everything: Iterable[Deployment],
    now: float,
) -> Decision:
    """In the order in which they would be asked now: tier by tier those that are ready, by ``sort`` or else by expected
    latency, which is what balancing prefers; then the others, the least bad first."""
    plan = Plan(pool, needs, routing, upper_bound, Health(Random(0)), HedgeBudget(), Random(0), now)
    rows: list[dict[str, Any]] = []
    for tier, lane in _in_order(plan, needs.input_tokens, now):
        told = describe(lane.deployment, tier.kind, needs, plan.ceiling, evaluations)
        rows.append({"order": len(rows) + 1, **told, **_health(lane, now)})
    for tier in (*pool.named, *pool.alternatives):
        _note_exclusions(plan, tier)
    excluded = excluded_of(pool, plan.why_not)
    for deployment in everything:
        if deployment.id in excluded:
            told = describe(deployment, "excluded", needs, plan.ceiling, evaluations)
            rows.append({"order": None, **told, "excluded": excluded[deployment.id]})
    return Decision(pool, needs, routing, plan.ceiling, [], plan.why_not, tuple(rows))


def _in_order(plan: Plan, tokens: int, now: float) -> list[tuple[Tier, Lane]]:
    usable: list[tuple[Tier, Lane]] = []
    others: list[tuple[Tier, Lane]] = []
    for tier in plan.tiers():
        lanes = [lane for lane in tier.lanes if plan.eligible(tier, lane)]
        for lane in _preferred(plan, lanes, now):
            (usable if plan.stand(lane) <= Stand.PROBE else others).append((tier, lane))
    others.sort(key=lambda one: badness(one[1], tokens, now))
    return usable + others


def _preferred(plan: Plan, lanes: list[Lane], now: float) -> list[Lane]:
    sort = plan.pool.route.sort
    if sort is None:
        # A probe is sent before anything else.
        return sorted(
            lanes, key=lambda lane: (plan.stand(lane) is not Stand.PROBE, expected(lane, lanes, now))
        )
    found: list[Lane] = []
    while len(found) < len(lanes):
        found += plan.best_sorted([lane for lane in lanes if lane not in found], sort)
    return found


def _note_exclusions(plan: Plan, tier: Tier) -> None:
    for lane in tier.lanes:
        plan.eligible(tier, lane)


def _health(lane: Lane, now: float) -> dict[str, Any]:
    seen = view(lane, now)
    return {
        "credential": lane.credential.label,
        "state": seen.state,
        "success_rate": seen.success_rate,
        "latency_s": seen.latency_s,
        "tokens_per_s": seen.tokens_per_s,
        "inflight": seen.inflight,
    }
