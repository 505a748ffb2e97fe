"""What happened lately, per (deployment, credential), with roll-ups to provider and shared edge. No clock: ``now`` is given.

A *lane* is one deployment through one credential. Everything here runs in one thread and never waits; ``snapshot``
gives frozen values for those who look from outside.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest
from random import Random

from tieline.providers.deployment import Deployment
from tieline.providers.limits import RateLimits
from tieline.providers.row import Credential
from tieline.route.breaker import MAX_DEAD_S, MAX_OPEN_S, Breaker, State
from tieline.route.latency import COLD_SAMPLES, Latency
from tieline.route.quota import Quota
from tieline.route.rollup import RollUp
from tieline.route.storm import Storms
from tieline.route.view import LaneView
from tieline.types.errors import Failure, FailureClass

ANONYMOUS = Credential("none", None)
"""Of a deployment that needs no key."""

MAX_LANES = 20_000
"""Names that callers make up (``provider/anything``) must not fill memory: the longest unused lanes go."""
GONE_S = 30.0
RETRY_TOKENS = 10.0
RETRY_REFILL = 0.1

AGAINST_HEALTH = frozenset(
    {
        FailureClass.CONNECT,
        FailureClass.TRANSIENT,
        FailureClass.OVERLOADED,
        FailureClass.MODEL_GONE,
        FailureClass.REGION_BLOCKED,
        FailureClass.FIRST_TOKEN_TIMEOUT,
        FailureClass.STALL,
        FailureClass.TRUNCATED,
        FailureClass.GARBLED,
    }
)
AGAINST_CREDENTIAL = frozenset({FailureClass.CREDENTIAL, FailureClass.QUOTA_EXHAUSTED})
AGAINST_CALLER = frozenset({FailureClass.CALLER_FAULT, FailureClass.UNSUPPORTED_PARAMETER})
GONE = frozenset({FailureClass.MODEL_GONE, FailureClass.REGION_BLOCKED})


class RetryBudget:
    """Of a provider: an outage must not double its own load."""

    __slots__ = ("tokens",)

    def __init__(self) -> None:
        self.tokens = RETRY_TOKENS

    def success(self) -> None:
        if self.tokens < RETRY_TOKENS:
            self.tokens = min(RETRY_TOKENS, self.tokens + RETRY_REFILL)

    def failure(self) -> None:
        self.tokens = max(0.0, self.tokens - 1.0)

    @property
    def allows(self) -> bool:
        return self.tokens >= RETRY_TOKENS / 2 - 1e-9


class Lane:
    """One deployment through one credential, and all that is known of it."""

    __slots__ = (
        "breaker",
        "budget",
        "credential",
        "deployment",
        "edge",
        "inflight",
        "key",
        "last_used",
        "latency",
        "provider",
        "quota",
        "storms",
    )

    def __init__(
        self,
        deployment: Deployment,
        credential: Credential,
        *,
        breaker: Breaker,
        key: Breaker,
        provider: RollUp,
        edge: RollUp | None,
        budget: RetryBudget,
        latency: Latency,
        storms: Storms,
    ) -> None:
        self.deployment = deployment
        self.credential = credential
        self.breaker = breaker
        self.key = key
        """The credential's own breaker, shared by all lanes of the provider that use it."""
        self.provider = provider
        self.edge = edge
        self.budget = budget
        self.latency = latency
        self.storms = storms
        """Shared by the lanes of a deployment."""
        self.quota = Quota()
        self.inflight = 0
        self.last_used = 0.0

    def __repr__(self) -> str:
        return f"Lane({self.deployment.id!r}, {self.credential.label!r})"

    @property
    def cold(self) -> bool:
        return self.latency.samples < COLD_SAMPLES

    def ready(self, tokens: int, now: float) -> bool:
        """Healthy, at full traffic, and with room: the hot path's only question."""
        return (
            self.breaker.clear
            and self.key.clear
            and self.provider.quiet
            and (self.edge is None or self.edge.quiet)
            and (self.quota.clear or self.quota.allows(self.inflight, tokens, now))
        )


class Health:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._keys: dict[tuple[str, str], tuple[object, Breaker]] = {}
        """(provider, label) -> the secret it is about, and its breaker."""
        self.generation = 0
        """Grows when lanes are dropped; who keeps lanes must then ask for them anew."""
        self._providers: dict[str, RollUp] = {}
        self._edges: dict[str, RollUp] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self._storms: dict[str, Storms] = {}

    # asked ------------------------------------------------------------------------------------------------------

    def lanes(self, deployment: Deployment) -> tuple[Lane, ...]:
        """One for each credential."""
        return tuple(self._adopt(deployment, key) for key in deployment.credentials or (ANONYMOUS,))

    def lane(self, deployment: Deployment, credential: Credential) -> Lane:
        found = self._lanes.get((deployment.id, credential.label))
        return found if found is not None else self._add(deployment, credential)

    def budget(self, provider: str) -> RetryBudget:
        return self._budgets.setdefault(provider, RetryBudget())

    def storms(self, deployment: Deployment) -> Storms:
        return self._storms.setdefault(deployment.id, Storms())

    # told -------------------------------------------------------------------------------------------------------

    def begin(self, deployment: Deployment, credential: Credential, now: float, *, tokens: int = 0) -> Lane:
        lane = self.lane(deployment, credential)
        lane.inflight += 1
        lane.last_used = now
        if not lane.breaker.clear:
            lane.breaker.begin(now)
        if not lane.key.clear:
            lane.key.begin(now)
        if not lane.quota.clear:
            lane.quota.begin(tokens)
        return lane

    def observe(
        self,
        deployment: Deployment,
        credential: Credential,
        now: float,
        *,
        failure: Failure | None = None,
        first_token_s: float | None = None,
        whole_s: float | None = None,
        input_tokens: int = 0,
        output_tokens: int = 0,
        output_s: float = 0.0,
        gap_s: float | None = None,
        shape: frozenset[str] | None = None,
    ) -> None:
        """An attempt that ``begin`` announced is over. ``whole_s``: what an answer in one piece took; ``gap_s``: the longest pause
        between pieces of content."""
        lane = self.lane(deployment, credential)
        if lane.inflight > 0:
            lane.inflight -= 1
        if first_token_s is not None:
            lane.latency.observe(first_token_s, input_tokens, now)
        elif whole_s is not None:
            lane.latency.observe_whole(whole_s, input_tokens, output_tokens, now)
        if failure is None:
            self._success(lane, now, shape)
            if output_s > 0.0:
                lane.latency.observe_speed(output_tokens, output_s)
            if gap_s is not None and gap_s > 0.0:
                lane.latency.gap.add(gap_s)
        else:
            self._failure(lane, failure, now, shape)

    def observe_limits(
        self, deployment: Deployment, credential: Credential, limits: RateLimits | None, now: float
    ) -> None:
        """What the answer's headers said is left."""
        if limits is not None:
            lane = self.lane(deployment, credential)
            lane.quota.observe(limits, lane.inflight, now)

    def storm_confirmed(self, deployment: Deployment, now: float) -> None:
        """Its siblings accept what it refuses: an outage that says 400."""
        for lane in self.lanes(deployment):
            lane.breaker.trip(now)
            lane.latency.penalise(None, now)

    def storm_refuted(self, deployment: Deployment, shape: frozenset[str], now: float) -> None:
        """A sibling refused the request as well: the callers' fault."""
        self.storms(deployment).refuted(shape, now)

    # seen -------------------------------------------------------------------------------------------------------

    def snapshot(self, now: float, most: int = MAX_LANES) -> tuple[LaneView, ...]:
        """Beyond ``most`` those in trouble, and then those used last."""
        lanes: Iterable[Lane] = self._lanes.values()
        if len(self._lanes) > most:
            lanes = nlargest(most, lanes, key=lambda lane: (not lane.breaker.clear, lane.last_used))
        return tuple([view(lane, now) for lane in lanes])

    # how --------------------------------------------------------------------------------------------------------

    def _adopt(self, deployment: Deployment, credential: Credential) -> Lane:
        """A reloaded configuration has new objects for the same things; what was learned stays."""
        lane = self.lane(deployment, credential)
        lane.deployment = deployment
        lane.credential = credential
        lane.key = self._key(deployment.provider.name, credential)
        return lane

    def _key(self, provider: str, credential: Credential) -> Breaker:
        """One for each secret: a key that was replaced under its old name starts with a clean record."""
        known = self._keys.get((provider, credential.label))
        if known is None or known[0] != credential.secret:
            known = (credential.secret, Breaker(self._random, max_open_s=MAX_DEAD_S))
            self._keys[(provider, credential.label)] = known
        return known[1]

    def _add(self, deployment: Deployment, credential: Credential) -> Lane:
        provider = deployment.provider
        edge = (
            self._edges.setdefault(provider.edge, RollUp(several_providers=True)) if provider.edge else None
        )
        if len(self._lanes) >= MAX_LANES:
            self._prune()
        lane = Lane(
            deployment,
            credential,
            breaker=Breaker(self._random),
            key=self._key(provider.name, credential),
            provider=self._providers.setdefault(provider.name, RollUp()),
            edge=edge,
            budget=self.budget(provider.name),
            latency=Latency(),
            storms=self.storms(deployment),
        )
        self._lanes[(deployment.id, credential.label)] = lane
        return lane

    def _prune(self) -> None:
        idle = sorted((lane.last_used, key) for key, lane in self._lanes.items() if not lane.inflight)
        self.generation += 1
        for _, key in idle[: MAX_LANES // 4]:
            del self._lanes[key]
            self._storms.pop(key[0], None)

    def _success(self, lane: Lane, now: float, shape: frozenset[str] | None) -> None:
        lane.breaker.success(now)
        if not lane.key.clear:
            lane.key.success(now)
        lane.budget.success()
        if lane.quota.limit is not None or lane.quota.refusals:
            lane.quota.accepted()
        if lane.provider.watching:
            lane.provider.success(lane.deployment.id, now)
        if lane.edge is not None and lane.edge.watching:
            lane.edge.success(lane.deployment.id, now)
        if shape is not None:
            lane.storms.success(shape, now)

    def _failure(self, lane: Lane, failure: Failure, now: float, shape: frozenset[str] | None) -> None:
        kind = failure.kind
        if kind in AGAINST_HEALTH:
            lane.breaker.failure(now)
            if kind in GONE and lane.breaker.consecutive >= 2:
                # Once may be one caller's odd request; twice in a row, the model is not there.
                lane.breaker.trip(now, at_least_s=GONE_S)
            lane.latency.penalise(failure.retry_after_s, now)
            if failure.retry_after_s is not None:
                lane.quota.told(min(failure.retry_after_s, MAX_OPEN_S), now)
            lane.budget.failure()
            if lane.breaker.consecutive >= 2:
                for roll in (lane.provider, lane.edge):
                    if roll is not None and kind not in GONE:
                        roll.failure(lane.deployment.id, lane.deployment.provider.name, now)
        elif kind in AGAINST_CREDENTIAL:
            lane.breaker.abandon()
            lane.key.trip(now, at_least_s=failure.retry_after_s or 0.0)
        elif kind is FailureClass.RATE_LIMITED:
            lane.breaker.abandon()
            lane.key.abandon()
            lane.quota.refused(lane.inflight + 1, failure.retry_after_s, now)
        else:
            lane.breaker.abandon()
            lane.key.abandon()
            if kind in AGAINST_CALLER and shape is not None:
                lane.storms.refusal(shape, now, doubtful=failure.doubtful)


def state_of(lane: Lane, now: float) -> str:
    """In one word, the worst first."""
    state = lane.breaker.state(now)
    if state is State.OPEN:
        return "open"
    if lane.key.state(now) is State.OPEN:
        return "credential"
    if state is State.HALF_OPEN or lane.key.state(now) is State.HALF_OPEN:
        return "half_open"
    if now < lane.quota.cool_until:
        return "cooling"
    if not lane.quota.allows(lane.inflight, 0, now):
        return "busy"
    if lane.provider.speaks(now) or (lane.edge is not None and lane.edge.speaks(now)):
        return "suspect"
    return "ramp" if lane.breaker.share(now) < 1.0 else "closed"


def view(lane: Lane, now: float) -> LaneView:
    left = lane.quota
    return LaneView(
        deployment=lane.deployment.id,
        credential=lane.credential.label,
        provider=lane.deployment.provider.name,
        edge=lane.deployment.provider.edge,
        state=state_of(lane, now),
        success_rate=round(lane.breaker.rate(now), 4),
        latency_s=round(lane.latency.cost(now), 4) if lane.latency.known else None,
        tokens_per_s=round(lane.latency.speed, 2) or None,
        inflight=lane.inflight,
        limit=left.limit,
        requests_left=None if left.requests_left is None else int(left.requests_left),
        tokens_left=None if left.tokens_left is None else int(left.tokens_left),
        open_for_s=round(max(lane.breaker.open_until, lane.key.open_until, left.cool_until, now) - now, 3),
        retry_tokens=lane.budget.tokens,
    )
