"""The room's door: names to routes, routes to plans, and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tieline.config.schema import Config, Routing
from tieline.providers.deployment import Deployment
from tieline.route import explain as explaining
from tieline.route import pool as pools
from tieline.route.decision import Decision
from tieline.route.equivalence import Evaluations, UpperBound, no_evaluations
from tieline.route.health import Health
from tieline.route.hedge import HedgeBudget
from tieline.route.match import Deploy, Find, Names, Route, Variables
from tieline.route.plan import Plan
from tieline.route.pool import Pool
from tieline.route.preferences import read
from tieline.route.steps import Needs

MAX_ROUTES = 4096
"""Routes kept: names and, with preferences or fallbacks of the request, their combinations."""
MAX_POOLS = 128
"""Kinds of request kept for each route."""


class Router:
    """Built once for a configuration. One thread."""

    def __init__(
        self,
        deployments: Sequence[Deployment],
        config: Config,
        health: Health,
        *,
        upper_bound: UpperBound,
        random: Random,
        clock: Callable[[], float] | None = None,
        evaluations: Evaluations = no_evaluations,
        deploy: Deploy | None = None,
        find: Find | None = None,
        variables: Variables | None = None,
    ) -> None:
        self.deployments = list(deployments)
        self.config = config
        self.health = health
        self.names = Names(self.deployments, config, deploy, find, variables)
        self.upper_bound = upper_bound
        self._random = random
        self._clock = clock
        self._evaluations = evaluations
        self._hedges = HedgeBudget()
        self._routes: dict[object, Route] = {}
        self._generation = health.generation

    def match(
        self,
        name: str,
        fallbacks: Sequence[str] = (),
        provider_preferences: dict[str, Any] | None = None,
    ) -> Route:
        """Raises UnknownModel with the nearest names, InvalidRequest for preferences that make no sense."""
        if self.health.generation != self._generation:
            self.forget()
        key: object = name
        if fallbacks or provider_preferences:
            key = (name, tuple(fallbacks), json.dumps(provider_preferences, sort_keys=True, default=str))
        route = self._routes.get(key)
        if route is None:
            route = self.names.resolve(name, fallbacks, read(provider_preferences))
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            self._routes[key] = route
        return route

    def plan(self, route: Route, needs: Needs, now: float | None = None) -> Plan:
        """``now`` is in the clock that health is told, too."""
        routing = needs.routing or route.routing
        at = self._now() if now is None else now
        self._hedges.request()
        pool = self.pool(route, needs, routing)
        return Plan(pool, needs, routing, self.upper_bound, self.health, self._hedges, self._random, at)

    def explain(self, route: Route, needs: Needs, now: float | None = None) -> Decision:
        """Every candidate with what decides about it. Dry: nothing is sent, nothing is counted."""
        at = self._now() if now is None else now
        routing = needs.routing or route.routing
        pool = self.pool(route, needs, routing)
        return explaining.explain(
            pool, needs, routing, self.upper_bound, self._evaluations, self.deployments, at
        )

    def pool(self, route: Route, needs: Needs, routing: Routing) -> Pool:
        """The candidates for this kind of request; kept, because few kinds make up all traffic."""
        rules = needs.rules
        key = (
            needs.operation,
            needs.dialect,
            needs.features,
            needs.intent,
            needs.allowed,
            routing.fallback,
            routing.lesser_band if routing.fallback == "lesser" else None,
            tuple(map(id, rules)) if rules else None,
        )
        kept = route.pools.get(key)
        if kept is not None and not needs.excluded:
            found: Pool = kept[0]
            return found
        pool = pools.build(route, needs, routing, self.deployments, self.health, self._evaluations)
        if not needs.excluded:
            if len(route.pools) >= MAX_POOLS:
                route.pools.clear()
            # The rules are kept with the pool, so that their ids stay theirs.
            route.pools[key] = (pool, rules)
        return pool

    def forget(self) -> None:
        """Evaluations or policies changed: compute the candidates anew."""
        self._routes.clear()
        self._generation = self.health.generation

    def _now(self) -> float:
        if self._clock is None:
            raise ValueError("now is needed: the router was built without a clock")
        return self._clock()
