"""Why it was decided so: compact while the request runs, a plain mapping for records and ``explain`` afterwards."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from tieline.config.schema import Routing
from tieline.route.health import Lane
from tieline.route.pool import Pool
from tieline.route.steps import Needs


class Decision(Struct, frozen=True, eq=False):
    pool: Pool
    needs: Needs
    routing: Routing
    choices: list[tuple[Lane, str, float]]
    why_not: dict[str, str]
    candidates: tuple[dict[str, Any], ...] = ()
    """Filled by ``explain``: every candidate in order, with everything that decides about it."""

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
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
            "excluded": excluded_of(self.pool, self.why_not),
        }
        if self.candidates:
            found["candidates"] = list(self.candidates)
        return found


def excluded_of(pool: Pool, why_not: dict[str, str]) -> dict[str, str]:
    return {**pool.excluded, **why_not}
