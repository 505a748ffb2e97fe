"""Every candidate with what decides about it. Dry."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

from tieline.config.schema import Routing
from tieline.providers.deployment import Deployment
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
    """The order is that of the tiers; within one, of expected latency, which is what balancing prefers."""
    plan = Plan(pool, needs, routing, upper_bound, Health(Random(0)), HedgeBudget(), Random(0), now)
    rows: list[dict[str, Any]] = []
    for tier in plan.tiers():
        lanes = [lane for lane in tier.lanes if plan.eligible(tier, lane)]
        lanes.sort(key=lambda lane: (not lane.ready(needs.input_tokens, now), lane.latency.cost(now)))
        for lane in lanes:
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
