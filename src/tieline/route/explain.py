"""Every candidate with what decides about it. Dry."""

from __future__ import annotations

from random import Random
from typing import Any

from tieline.config.schema import Routing
from tieline.route.ceiling import Ceiling
from tieline.route.decision import Decision
from tieline.route.equivalence import Evaluations, UpperBound, quality_of
from tieline.route.health import Health, Lane, view
from tieline.route.hedge import HedgeBudget
from tieline.route.plan import Plan
from tieline.route.pool import Pool, Tier
from tieline.route.steps import Needs
from tieline.types.money import format_usd


def explain(
    pool: Pool, needs: Needs, routing: Routing, upper_bound: UpperBound, evaluations: Evaluations, now: float
) -> Decision:
    """The order is that of the tiers; within one, of expected latency, which is what balancing prefers."""
    plan = Plan(pool, needs, routing, upper_bound, Health(Random(0)), HedgeBudget(), Random(0), now)
    rows: list[dict[str, Any]] = []
    for tier in plan.tiers():
        lanes = [lane for lane in tier.lanes if plan.eligible(tier, lane)]
        lanes.sort(key=lambda lane: (not lane.ready(needs.input_tokens, now), lane.latency.cost(now)))
        rows += [
            _row(len(rows) + at, tier, lane, plan.ceiling, needs, evaluations, now)
            for at, lane in enumerate(lanes, 1)
        ]
    for tier in (*pool.named, *pool.alternatives):
        for lane in tier.lanes:
            plan.eligible(tier, lane)
    return Decision(pool, needs, routing, [], plan.why_not, tuple(rows))


def _row(
    order: int, tier: Tier, lane: Lane, ceiling: Ceiling, needs: Needs, evaluations: Evaluations, now: float
) -> dict[str, Any]:
    deployment = lane.deployment
    seen = view(lane, now)
    quality = quality_of(deployment.card, deployment.name, needs.intent, evaluations)
    return {
        "order": order,
        "deployment": deployment.id,
        "credential": lane.credential.label,
        "provider": deployment.provider.name,
        "model": deployment.name,
        "kind": tier.kind,
        "quality": None if quality is None else round(quality.category, 2),
        "quality_average": None if quality is None else round(quality.average, 2),
        "price_usd": format_usd(ceiling.price(deployment)),
        "state": seen.state,
        "success_rate": seen.success_rate,
        "latency_s": seen.latency_s,
        "tokens_per_s": seen.tokens_per_s,
        "inflight": seen.inflight,
    }
