"""Why it was decided so: compact while the request runs, a plain mapping for records and ``explain`` afterwards."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from tieline.config.schema import Routing
from tieline.providers.deployment import Deployment
from tieline.route.ceiling import Ceiling
from tieline.route.equivalence import Evaluations, no_evaluations, quality_of
from tieline.route.health import Lane
from tieline.route.pool import Pool
from tieline.route.steps import Needs
from tieline.types.money import format_usd

MAX_SHOWN = 50
"""Candidates and exclusions that go into a record; ``explain`` shows all."""


class Decision(Struct, frozen=True, eq=False):
    pool: Pool
    needs: Needs
    routing: Routing
    ceiling: Ceiling
    choices: list[tuple[Lane, str, float]]
    why_not: dict[str, str]
    candidates: tuple[dict[str, Any], ...] | None = None
    """Filled by ``explain``: every candidate in order, with everything that decides about it."""

    def as_dict(self) -> dict[str, Any]:
        """For the record. When the first try was the only one it is the same for every request of its kind, so it is made
        once and shared; figures of the single request are in the record itself."""
        if self.candidates is None and not self.why_not and len(self.choices) == 1:
            lane, reason, _ = self.choices[0]
            key = (lane, reason, self.needs.intent, self.routing.fallback)
            return self.pool.usual(key, self._usual)
        return self._whole()

    def _usual(self) -> dict[str, Any]:
        made = self._whole()
        del made["input_tokens"]
        for row in (*made["tried"], *made["candidates"]):
            row.pop("expected_s", None)
            row.pop("price_usd", None)
        return made

    def _whole(self) -> dict[str, Any]:
        """Takes tens of microseconds."""
        excluded = excluded_of(self.pool, self.why_not)
        return {
            "model": self.pool.route.name,
            "reference": self.pool.reference.id,
            "fallback": self.routing.fallback,
            "intent": self.needs.intent,
            "input_tokens": self.needs.input_tokens,
            "tried": [
                {
                    "deployment": lane.deployment.id,
                    "credential": lane.credential.label,
                    "reason": reason,
                    "expected_s": round(seconds, 4),
                }
                for lane, reason, seconds in self.choices
            ],
            "candidates": self._considered() if self.candidates is None else list(self.candidates),
            "excluded": excluded if self.candidates is not None else dict(list(excluded.items())[:MAX_SHOWN]),
        }

    def _considered(self) -> list[dict[str, Any]]:
        """Those that the plan looked at; alternatives only if it came so far."""
        tiers = (*self.pool.named, *self.pool.looked_at)
        rows = {
            lane.deployment.id: describe(lane.deployment, tier.kind, self.needs, self.ceiling)
            for tier in tiers
            for lane in tier.lanes
        }
        return list(rows.values())[:MAX_SHOWN]


def describe(
    deployment: Deployment,
    kind: str,
    needs: Needs,
    ceiling: Ceiling,
    evaluations: Evaluations = no_evaluations,
) -> dict[str, Any]:
    """What is true of a candidate for this request, whatever its health."""
    quality = quality_of(deployment.card, deployment.name, needs.intent, evaluations)
    return {
        "deployment": deployment.id,
        "provider": deployment.provider.name,
        "model": deployment.name,
        "kind": kind,
        "quality": None if quality is None else round(quality.category, 2),
        "quality_average": None if quality is None else round(quality.average, 2),
        "price_usd": format_usd(ceiling.price(deployment)),
    }


def excluded_of(pool: Pool, why_not: dict[str, str]) -> dict[str, str]:
    """What was named first, then what this request was too much for, then the rest: messages and records cut the end off."""
    listed = {one.id: "" for tier in pool.route.tiers for one in tier}
    whole = {**pool.excluded, **why_not}
    return {name: whole[name] for name in {**listed, **why_not, **whole} if name in whole}
