"""The candidates of a route for one kind of request, computed once and kept: what the hot path reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tieline.config.schema import Routing
from tieline.providers.deployment import Deployment
from tieline.route.candidates import static_reason, window_of
from tieline.route.equivalence import ANOTHER_SPACE, Alternative, Evaluations, alternatives
from tieline.route.health import Health, Lane
from tieline.route.match import Route
from tieline.route.steps import Deadlines, Needs


class Tier:
    """Lanes that are equal in order."""

    __slots__ = ("kind", "lanes", "window")

    def __init__(self, kind: str, lanes: tuple[Lane, ...], window: float = 0.0) -> None:
        self.kind = kind
        """asked | listed | same_model | equivalent | lesser"""
        self.lanes = lanes
        self.window = window
        """The smallest of the windows: what fits it fits every lane."""

    @property
    def found(self) -> bool:
        """Computed by us rather than named by somebody."""
        return self.kind not in ("asked", "listed")


MAX_USUAL = 64
"""Uneventful decisions kept for each pool."""


class Pool:
    """Everything about the candidates that does not depend on the size of a request, its ceiling, or health."""

    __slots__ = (
        "_alternatives",
        "_find",
        "_usual",
        "deadlines",
        "deployments",
        "excluded",
        "named",
        "price_spread",
        "reference",
        "route",
    )

    def __init__(
        self,
        route: Route,
        named: tuple[Tier, ...],
        excluded: dict[str, str],
        reference: Deployment,
        find: Callable[[], tuple[tuple[Tier, ...], dict[str, str]]],
    ) -> None:
        self._usual: dict[tuple[object, ...], dict[str, Any]] = {}
        self.route = route
        self.named = named
        """What the caller and the user named, in order."""
        self.reference = reference
        """M: what alternatives are measured against."""
        self.deployments = [one for group in route.tiers[: route.asked_tiers] for one in group]
        """What the name stands for."""
        chosen = route.preferences.order or route.preferences.only or route.sort
        self.price_spread = route.bare and not chosen and _spread(self.deployments)
        """A catalog name whose hosts differ in price: then the ratio holds among them."""
        self.excluded = excluded
        self._find = find
        self._alternatives: tuple[Tier, ...] | None = None
        self.deadlines: dict[tuple[Lane, int, int | None, bool], tuple[float, Routing, Deadlines]] = {}
        """Of first tries: (lane, about how many tokens, output limit, stream) -> (holds until, made for, deadlines)."""

    @property
    def looked_at(self) -> tuple[Tier, ...]:
        """The alternatives, if they were needed so far."""
        return self._alternatives or ()

    def known(self, key: tuple[object, ...]) -> dict[str, Any] | None:
        """What ``usual`` made for it, if it did."""
        return self._usual.get(key)

    def usual(self, key: tuple[object, ...], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The record of a decision that went as it nearly always goes: made once. It is shared, so never changed."""
        found = self._usual.get(key)
        if found is None:
            if len(self._usual) >= MAX_USUAL:
                self._usual.clear()
            found = self._usual[key] = make()
        return found

    @property
    def alternatives(self) -> tuple[Tier, ...]:
        """One tier for each deployment that we found, found when it is first needed."""
        if self._alternatives is None:
            self._alternatives, excluded = self._find()
            self.excluded = {**excluded, **self.excluded}
        return self._alternatives


def _spread(deployments: Sequence[Deployment]) -> bool:
    first, *others = [one.card.price.tiers if one.card and one.card.price else None for one in deployments]
    return any(price != first for price in others)


def build(
    route: Route,
    needs: Needs,
    routing: Routing,
    everything: Sequence[Deployment],
    health: Health,
    evaluations: Evaluations,
) -> Pool:
    excluded: dict[str, str] = {}
    named: list[Tier] = []
    for number, group in enumerate(route.tiers):
        if number and routing.fallback == "none":
            break
        kind = "asked" if number < route.asked_tiers else "listed"
        allowed = _allowed(group, route, needs, excluded, doubt=kind == "asked")
        if allowed:
            lanes = tuple(lane for deployment in allowed for lane in health.lanes(deployment))
            named.append(Tier(kind, lanes, min(window_of(one) or float("inf") for one in allowed)))

    def find() -> tuple[tuple[Tier, ...], dict[str, str]]:
        return _find(route, needs, routing, everything, health, evaluations)

    return Pool(route, tuple(named), excluded, route.reference, find)


def _allowed(
    group: Sequence[Deployment], route: Route, needs: Needs, excluded: dict[str, str], *, doubt: bool
) -> list[Deployment]:
    reasons = {
        one.id: static_reason(
            one, needs, route.preferences, asked=True, trust_catalog=not doubt or len(group) > 1
        )
        for one in group
    }
    if not doubt and needs.operation == "embeddings":
        others = (one for one in group if one.name != route.reference.name)
        reasons |= {one.id: ANOTHER_SPACE for one in others}
    excluded.update({name: reason for name, reason in reasons.items() if reason})
    return [one for one in group if not reasons[one.id]]


def _find(
    route: Route,
    needs: Needs,
    routing: Routing,
    everything: Sequence[Deployment],
    health: Health,
    evaluations: Evaluations,
) -> tuple[tuple[Tier, ...], dict[str, str]]:
    if routing.fallback in ("none", "listed") or not route.preferences.allow_fallbacks:
        return (), {}
    named = {deployment.id for group in route.tiers for deployment in group}
    found, excluded = alternatives(
        route.reference,
        [one for one in everything if one.id not in named],
        intent=needs.intent,
        lesser_band=routing.lesser_band if routing.fallback == "lesser" else None,
        same_model_only=needs.operation == "embeddings",
        evaluations=evaluations,
    )
    return tuple(_tiers(found, route, needs, health, excluded)), excluded


def _tiers(
    found: Sequence[Alternative], route: Route, needs: Needs, health: Health, excluded: dict[str, str]
) -> list[Tier]:
    tiers: list[Tier] = []
    for one in found:
        reason = static_reason(one.deployment, needs, route.preferences, asked=False)
        if reason:
            excluded[one.deployment.id] = reason
        else:
            tiers.append(Tier(one.kind, health.lanes(one.deployment)))
    return tiers
