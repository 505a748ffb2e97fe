"""The order in which deployments are tried, decided lazily: like a generator it gives tries and is sent outcomes.

No clock and no I/O, so that every sequence of failures can be enumerated in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from tieline.config.schema import Routing
from tieline.providers.deployment import Deployment
from tieline.route import no_candidate
from tieline.route.balance import Stand, choose, least_bad, stand
from tieline.route.candidates import size_reason, window_of
from tieline.route.ceiling import Ceiling
from tieline.route.deadlines import deadlines
from tieline.route.decision import Decision, excluded_of
from tieline.route.equivalence import UpperBound
from tieline.route.health import AGAINST_HEALTH, GONE, Health, Lane
from tieline.route.hedge import HedgeBudget, after_s
from tieline.route.past import FINAL, Past
from tieline.route.pool import Pool, Tier
from tieline.route.steps import Deadlines, GiveUp, Needs, Outcome, Step, Try
from tieline.types.errors import Failure, FailureClass

RETRY_ONCE = frozenset({FailureClass.CONNECT, FailureClass.TRANSIENT})
BAD_KEY = frozenset({FailureClass.CREDENTIAL, FailureClass.QUOTA_EXHAUSTED})
REFUSED = frozenset({FailureClass.CALLER_FAULT, FailureClass.UNSUPPORTED_PARAMETER})
MAX_HOPS = 2
"""Resumes of one broken stream."""
RETRY_JITTER_S = (0.05, 0.25)
UNTOLD_WAIT_S = 1.0
"""How long a 429 without Retry-After is waited out when there is nothing else to do."""

MAX_KEPT = 1024
KEPT_S = 0.25

Accept = Callable[[Deployment], bool]


class Plan:
    """``step = plan.start()``; while it is a ``Try``: make the attempt, ``step = plan.send(outcome)``."""

    __slots__ = (
        "_began",
        "_ceiling",
        "_draw",
        "_health",
        "_hedge",
        "_hedges",
        "_now",
        "_past",
        "_random",
        "_upper_bound",
        "attempts",
        "choices",
        "current",
        "needs",
        "pool",
        "routing",
        "why_not",
    )

    def __init__(
        self,
        pool: Pool,
        needs: Needs,
        routing: Routing,
        upper_bound: UpperBound,
        health: Health,
        hedges: HedgeBudget,
        random: Random,
        now: float,
    ) -> None:
        self.pool = pool
        self.needs = needs
        self.routing = routing
        self.attempts = 0
        """Sent so far, hedges included."""
        self.current: Try | None = None
        self.why_not: dict[str, str] = {}
        """Deployment id -> why it is out for this request."""
        self.choices: list[tuple[Lane, str, float]] = []
        """(lane, reason, expected seconds to first token) of each try, for the record."""
        self._upper_bound = upper_bound
        self._ceiling: Ceiling | None = None
        self._past: Past | None = None
        self._health = health
        self._hedges = hedges
        self._hedge: Try | None = None
        self._random = random
        self._draw = random.random()
        self._began = now
        self._now = now

    # the pipeline's side ----------------------------------------------------------------------------------------

    def start(self) -> Step:
        return self._first() or self._next("first")

    def send(self, outcome: Outcome) -> Step:
        """What comes after the current try ended like this. Not needed after a success."""
        step = self.current
        if step is None:
            raise RuntimeError("send() without a try under way")
        lane = step.lane
        self._now = max(self._now, self._began + outcome.elapsed_s)
        self._hedge = None
        if outcome.unsupported is not None:
            return self._instead(step, f"cannot do {outcome.unsupported}", unsupported=outcome.unsupported)
        self._settle(lane.deployment, outcome)
        failure = outcome.failure
        if failure is None:
            return GiveUp(None, {})
        self.past.failures.append(failure)
        if failure.kind in FINAL or not self._time_left():
            return self._give_up(failure)
        if outcome.committed:
            self.past.doubt = self.past.trial = None
            return self._resume(step, lane, failure) if outcome.resumable else self._give_up(failure)
        if failure.kind in REFUSED:
            return self._refused(lane, failure)
        if self.past.trial is not None:
            return self._ask_another(lane, failure)
        if failure.kind is FailureClass.RATE_LIMITED:
            return self._limited(lane, failure)
        if failure.kind in RETRY_ONCE and self._may_retry(lane):
            self.past.retried.add(lane.deployment.id)
            connect = failure.kind is FailureClass.CONNECT
            return self._send_to(lane, "retry", 0.0 if connect else self._random.uniform(*RETRY_JITTER_S))
        self._exclude(lane, failure)
        if failure.kind in BAD_KEY:
            sibling = self._sibling(lane)
            if sibling is not None:
                return self._send_to(sibling, "other_credential")
        return self._next("failover")

    def pass_over(self, reason: str) -> Step:
        """What comes instead of the current try, to which nothing was sent because of ``reason``."""
        step = self.current
        if step is None:
            raise RuntimeError("pass_over() without a try under way")
        return self._instead(step, reason)

    def hedge_after(self) -> float | None:
        """Seconds of silence after which ``hedge`` should be asked. None: this try is not hedged."""
        step = self.current
        if step is None or self._hedge is not None or (self._past is not None and self._past.hops):
            return None
        if not (self.routing.hedge or step.probe) or not self._others(step.lane):
            return None
        return after_s(step.lane, self.needs.input_tokens, stream=self.needs.stream, probe=step.probe)

    def hedge(self, elapsed_s: float) -> Try | None:
        """A second try to run beside the current one, at a different deployment. None: not now.

        Both are then awaited: the one that ends badly first goes to ``note``, the last to ``send``.
        """
        step = self.current
        if step is None or self._hedge is not None or not self._may_send():
            return None
        self._now = self._began + elapsed_s
        first = step.lane
        reserved = self.ceiling.worst(first.deployment) if self._hard else 0
        lane = self._ready_elsewhere(first, reserved or 0)
        if lane is None or not (first.budget.allows and lane.budget.allows):
            return None
        if not step.probe and not self._hedges.take():
            return None
        self._hedge = self._try(lane, "hedge")
        self.current = step
        return self._hedge

    def withdraw_hedge(self, reason: str | None = None) -> None:
        """Nothing was sent for the hedge: for ``reason``, or as no budget bears both, which is not its deployment's fault."""
        hedge = self._hedge
        if hedge is None:
            return
        self._unsend(hedge)
        self._hedge = None
        if self.current is not None and not self.current.probe:
            self._hedges.put_back()
        if reason is not None:
            self._rule_out(hedge.deployment, reason)

    def note(self, step: Try, outcome: Outcome) -> None:
        """Of two tries under way this one failed; the other goes on and becomes the current one."""
        self._now = max(self._now, self._began + outcome.elapsed_s)
        if step is self._hedge and outcome.unsupported is not None:
            self.withdraw_hedge(f"cannot do {outcome.unsupported}")
            return
        self._settle(step.deployment, outcome)
        if outcome.failure is not None:
            self.past.failures.append(outcome.failure)
            self._exclude(step.lane, outcome.failure)
        if step is self.current and self._hedge is not None:
            self.current = self._hedge

    @property
    def elapsed_s(self) -> float:
        return self._now - self._began

    def is_another_model(self, deployment: Deployment) -> bool:
        """Than any that the name stands for."""
        return all(one.name != deployment.name for one in self.pool.deployments)

    def decision(self) -> Decision:
        """What was decided so far, compact; its ``as_dict`` is for later, off the hot path."""
        return Decision(self.pool, self.needs, self.routing, self.ceiling, self.choices, self.why_not)

    def told(self) -> dict[str, Any]:
        """The decision as the record has it. Where the first try was the only one it was nearly always made before."""
        if not self.why_not and len(self.choices) == 1:
            lane, reason, _ = self.choices[0]
            known = self.pool.known((lane, reason, self.needs.intent, self.routing.fallback))
            if known is not None:
                return known
        return self.decision().as_dict()

    # how --------------------------------------------------------------------------------------------------------

    @property
    def past(self) -> Past:
        if self._past is None:
            self._past = Past()
        return self._past

    @property
    def ceiling(self) -> Ceiling:
        if self._ceiling is None:
            self._ceiling = Ceiling(self.needs, self.routing, self._upper_bound, self.pool.deployments)
        return self._ceiling

    @property
    def _hard(self) -> bool:
        """Whether a ceiling on cost is set."""
        needs = self.needs
        return (needs.max_cost is not None or self.routing.max_cost_usd is not None) and not needs.free

    def _first(self) -> Try | None:
        """The common case in one step: the first tier fits whole, no ceiling is set, and it has a ready lane."""
        pool, needs = self.pool, self.needs
        if not pool.named or pool.price_spread or self._hard:
            return None
        tier = pool.named[0]
        if needs.input_tokens > tier.window:
            return None
        chosen = self._choose(tier.lanes)
        return None if chosen is None else self._try(chosen[0], "first", probe=chosen[1])

    def _instead(self, step: Try, reason: str, *, unsupported: str | None = None) -> Step:
        self._unsend(step)
        self._rule_out(step.deployment, reason)
        return self._next("first" if not self.past.failures else "failover", unsupported=unsupported)

    def _unsend(self, step: Try) -> None:
        """It was no attempt, and is not told as one."""
        self.attempts -= 1
        for at in range(len(self.choices) - 1, -1, -1):
            if self.choices[at][0] is step.lane:
                del self.choices[at]
                break

    def _settle(self, deployment: Deployment, outcome: Outcome) -> None:
        if self._hard:
            self.ceiling.settle(deployment, outcome.cost)

    # after each class -------------------------------------------------------------------------------------------

    def _exclude(self, lane: Lane, failure: Failure) -> None:
        """What this failure takes out for the rest of this request."""
        deployment = lane.deployment
        if failure.kind in BAD_KEY:
            self.past.rule_out_key(lane)
            self.why_not[deployment.id] = f"{failure.kind.value} on {lane.credential.label}"
            return
        if failure.kind is FailureClass.RATE_LIMITED:
            wait = failure.retry_after_s
            self.past.rule_out_lane(lane, None if wait is None else self._now + wait)
            self.why_not[deployment.id] = failure.kind.value
            return
        if failure.kind in AGAINST_HEALTH and failure.kind not in GONE:
            self.past.strike(deployment)
        if failure.kind is FailureClass.CONTEXT_LENGTH:
            self.past.window = max(self.past.window, window_of(deployment) or self.needs.input_tokens)
        self._rule_out(deployment, failure.kind.value)

    def _rule_out(self, deployment: Deployment, reason: str) -> None:
        self.past.rule_out(deployment)
        self.why_not[deployment.id] = reason

    def _refused(self, lane: Lane, failure: Failure) -> Step:
        """A 400 is the caller's, unless it is an outage, which others tell; or an alternative is merely fussier than M."""
        past, deployment, shape = self.past, lane.deployment, self.needs.features
        if failure.kind is FailureClass.UNSUPPORTED_PARAMETER and self._fussy(lane, failure):
            self._rule_out(deployment, failure.kind.value)
            return self._next("failover") if past.trial is None else self._ask_another(lane, failure)
        if past.doubt is not None or past.stormed:
            if past.trial is not None:
                self._health.storm_refuted(past.trial, shape, self._now)
            return self._give_up(failure)
        if failure.status not in (None, 400):
            return self._give_up(failure)
        suspected = lane.storms.suspected(shape, self._now)
        if suspected and any(one.storms.accepts(shape, self._now) for one in self._siblings(deployment)):
            past.stormed = True
            self._health.storm_confirmed(deployment, self._now)
            self._rule_out(deployment, "refuses what it and others accept")
            return self._next("failover")
        if suspected or (failure.doubtful and lane.storms.may_doubt(self._now)):
            past.doubt, past.trial = failure, deployment
            return self._ask_another(lane, failure)
        return self._give_up(failure)

    def _fussy(self, lane: Lane, failure: Failure) -> bool:
        """Whether an alternative cannot do what M can, which says nothing of the request."""
        return self._is_alternative(lane) and not failure.doubtful

    def _ask_another(self, lane: Lane, failure: Failure) -> Step:
        """Who is healthy and at hand, each once; nobody is tried again or waited for on behalf of a doubt."""
        self._exclude(lane, failure)
        picked = self._pick(last_resort=False) if self._may_send() else None
        return (
            self._give_up(failure)
            if picked is None
            else self._send_to(picked[0], "failover", probe=picked[1])
        )

    def _limited(self, lane: Lane, failure: Failure) -> Step:
        """Another credential, the same model elsewhere, a short wait, a different model: in this order."""
        self._exclude(lane, failure)
        if not self._may_send():
            return self._give_up(failure)
        sibling = self._sibling(lane)
        if sibling is not None:
            return self._send_to(sibling, "other_credential")
        name = lane.deployment.name
        asked = {one.id for one in self.pool.deployments}
        same = self._pick(lambda one: one.name == name or one.id in asked, last_resort=False)
        if same is not None:
            return self._send_to(same[0], "failover", probe=same[1])
        waiting = self._soonest()
        if waiting is not None:
            return self._wait(*waiting)
        step = self._next("failover")
        if isinstance(step, GiveUp) and self.past.is_limited_untold(lane) and self._patient(UNTOLD_WAIT_S):
            return self._wait(lane, self._random.uniform(0.5, 1.0) * UNTOLD_WAIT_S)
        return step

    def _wait(self, lane: Lane, seconds: float) -> Step:
        self.past.waited += seconds
        self.past.readmit(lane)
        return self._send_to(lane, "wait", seconds)

    def _soonest(self) -> tuple[Lane, float] | None:
        """The rate-limited lane that said it is ready first, if that is within patience."""
        soonest = self.past.soonest()
        if soonest is None:
            return None
        lane, at = soonest
        seconds = max(at - self._now, 0.0)
        return (lane, seconds) if self._patient(seconds) else None

    def _patient(self, seconds: float) -> bool:
        left = self.routing.timeouts.total_s - self.elapsed_s
        return self.past.waited + seconds <= self.routing.patience_s and seconds < left

    def _resume(self, step: Try, lane: Lane, failure: Failure) -> Step:
        """The caller has part of the answer: at most two others may continue it."""
        if self.routing.on_broken_stream != "resume":
            return self._give_up(failure)
        if failure.kind in REFUSED:
            if not self.past.hops:
                return self._give_up(failure)
            if not step.plain and lane not in self.past.reshaped and self._may_send():
                self.past.reshaped.add(lane)
                again = self._send_to(lane, "resume")
                if isinstance(again, Try):
                    again.plain = True
                return again
        self._exclude(lane, failure)
        self.past.rule_out(lane.deployment)
        if self.past.hops >= MAX_HOPS or not self._may_send():
            return self._give_up(failure)
        name = self.pool.reference.name
        picked = self._pick(lambda one: one.name == name, last_resort=False) or self._pick()
        if picked is None:
            return self._give_up(failure)
        self.past.hops += 1
        return self._send_to(picked[0], "resume", probe=picked[1])

    # choosing ---------------------------------------------------------------------------------------------------

    def _next(self, reason: str, *, unsupported: str | None = None) -> Step:
        if not self._may_send():
            return self._give_up(self.past.last)
        picked = self._pick()
        if picked is not None:
            wait = self._told_wait(picked[0])
            self.past.waited += wait
            return self._send_to(picked[0], reason, wait, probe=picked[1])
        return self._give_up(self.past.last or self._nothing_sent(unsupported))

    def _pick(self, accept: Accept | None = None, *, last_resort: bool = True) -> tuple[Lane, bool] | None:
        """As ``_pick_of``; where two have failed in this request, the rest of that provider or edge comes last."""
        if self.past.has_struck:
            spared = self._pick_of(
                lambda one: (accept is None or accept(one)) and not self.past.is_struck(one),
                last_resort=False,
            )
            if spared is not None:
                return spared
        return self._pick_of(accept, last_resort=last_resort)

    def _pick_of(self, accept: Accept | None, *, last_resort: bool) -> tuple[Lane, bool] | None:
        """The next lane and whether it is a probe: the first tier that has a ready one, else the least bad of all."""
        passed: list[Lane] = []
        tokens = self.needs.input_tokens
        for tier in self.tiers():
            if self.needs.free and all(self.is_another_model(lane.deployment) for lane in tier.lanes):
                # Another model counts otherwise: rather one that is half-open.
                half_open = [lane for lane in passed if self.stand(lane) is Stand.PROBE]
                if half_open:
                    return half_open[0], False
            lanes = [lane for lane in tier.lanes if self.eligible(tier, lane)]
            if accept is not None:
                lanes = [lane for lane in lanes if accept(lane.deployment)]
            if not lanes:
                continue
            chosen = self._choose(lanes)
            if chosen is not None:
                return chosen
            passed += lanes
        if not last_resort:
            return None
        lane = least_bad(
            [lane for lane in passed if self._told_wait(lane) <= self._patience_left()], tokens, self._now
        )
        return None if lane is None else (lane, False)

    def _choose(self, lanes: Sequence[Lane]) -> tuple[Lane, bool] | None:
        if self.needs.free:
            # Health is not told how it went, so each would be the one probe, and wait where nobody answers.
            lanes = [lane for lane in lanes if self.stand(lane) is not Stand.PROBE]
        sort = self.pool.route.sort
        if sort is not None and len(lanes) > 1:
            lanes = self.best_sorted(lanes, sort)
        return choose(
            lanes,
            tokens=self.needs.input_tokens,
            now=self._now,
            random=self._random,
            draw=self._draw,
            explore=self.routing.explore,
            session=self.needs.session,
        )

    def best_sorted(self, lanes: Sequence[Lane], sort: str) -> list[Lane]:
        """``provider.sort`` ends balancing: the best of those that are ready."""
        ready = [lane for lane in lanes if self.stand(lane) <= Stand.PROBE] or lanes
        if sort == "price":
            unknown = 1 << 200
            prices = {lane: self.ceiling.price(lane.deployment) for lane in ready}
            return [min(ready, key=lambda lane: unknown if (known := prices[lane]) is None else known)]
        if sort == "throughput":
            return [max(ready, key=lambda lane: lane.latency.speed)]
        return [min(ready, key=lambda lane: lane.latency.cost(self._now) if lane.latency.updated else 1.0)]

    def stand(self, lane: Lane) -> Stand:
        return stand(lane, self.needs.input_tokens, self._now, self._draw)

    def tiers(self) -> Iterator[Tier]:
        yield from self.pool.named
        yield from self._found_tiers()

    def _found_tiers(self) -> list[Tier]:
        """What we found ourselves, in this request's order: the same model balanced, then the cheapest dominating one
        first, then the nearest lesser one."""
        if self.past.found is None:
            fitting = [
                tier for tier in self.pool.alternatives if self._fitting(tier, tier.lanes[0].deployment)
            ]
            same = tuple(lane for tier in fitting if tier.kind == "same_model" for lane in tier.lanes)
            equivalent = [tier for tier in fitting if tier.kind == "equivalent"]
            equivalent.sort(key=lambda tier: self.ceiling.price(tier.lanes[0].deployment) or 0)
            lesser = [tier for tier in fitting if tier.kind == "lesser"]
            self.past.found = [*([Tier("same_model", same)] if same else []), *equivalent, *lesser]
        return self.past.found

    def eligible(self, tier: Tier, lane: Lane) -> bool:
        deployment = lane.deployment
        if self.past.is_out(lane):
            return False
        fits = self.past.fits.get(deployment.id)
        if fits is None:
            fits = self._fitting(tier, deployment)
            self.past.fits[deployment.id] = fits
        if not fits or (self.past.window and not self._larger(tier, deployment)):
            return False
        return not self._hard or self._affordable(deployment)

    def _fitting(self, tier: Tier, deployment: Deployment) -> bool:
        """Size and price ratio, which do not change during the request."""
        reason = size_reason(deployment, self.needs, asked=tier.kind == "asked")
        if reason is None and self._held_to_ratio(tier):
            reason = self.ceiling.ratio_reason(deployment, self._reference_price())
        if reason is not None:
            self.why_not[deployment.id] = reason
        return reason is None

    def _held_to_ratio(self, tier: Tier) -> bool:
        if tier.kind == "asked":
            return self.pool.price_spread
        return tier.found or self.needs.max_price_ratio is not None

    def _reference_price(self) -> int | None:
        """Of M for this request; of a bare name, its cheapest host's."""
        if not self.pool.price_spread:
            price = self.ceiling.price(self.pool.reference)
            return self._price_of_namesake() if price is None else price
        asked = [lane.deployment for one in self.pool.named if one.kind == "asked" for lane in one.lanes]
        known = [self.ceiling.price(deployment) for deployment in asked or self.pool.deployments]
        return min((price for price in known if price is not None), default=None)

    def _price_of_namesake(self) -> int | None:
        """Of the same model at the same provider, where M's own is unknown: a dated snapshot that the catalog does not price
        would have no alternatives. Only for comparing; what it costs stays unknown."""
        reference = self.pool.reference
        namesakes = []
        for tier in self.pool.alternatives:
            deployment = tier.lanes[0].deployment
            if tier.kind != "same_model":  # they come first
                break
            if deployment.provider.name == reference.provider.name:
                namesakes.append(self.ceiling.price(deployment))
        return min((price for price in namesakes if price is not None), default=None)

    def _affordable(self, deployment: Deployment, reserved: int = 0) -> bool:
        reason = self.ceiling.cost_reason(deployment, reserved=reserved)
        if reason is not None:
            self.why_not[deployment.id] = reason
        return reason is None

    def _larger(self, tier: Tier, deployment: Deployment) -> bool:
        window = window_of(deployment)
        larger = not tier.found if window is None else window > self.past.window
        if not larger:
            self.why_not[deployment.id] = f"context_length: no larger window than {self.past.window}"
        return larger

    # asking -----------------------------------------------------------------------------------------------------

    def _siblings(self, deployment: Deployment) -> Iterator[Lane]:
        for tier in (*self.pool.named, *self.pool.alternatives):
            for lane in tier.lanes:
                if lane.deployment is not deployment:
                    yield lane

    def _sibling(self, lane: Lane) -> Lane | None:
        """Another credential of the same deployment that is ready."""
        for tier in self.tiers():
            mates = [one for one in tier.lanes if one.deployment is lane.deployment and one is not lane]
            ready = [one for one in mates if self.eligible(tier, one) and self.stand(one) <= Stand.HELD]
            if ready:
                return min(ready, key=lambda one: one.inflight)
        return None

    def _is_alternative(self, lane: Lane) -> bool:
        asked = self.pool.reference
        return lane.deployment.name != asked.name or self.needs.dialect not in lane.deployment.endpoints

    def _ready_elsewhere(self, than: Lane, reserved: int) -> Lane | None:
        for tier in self.tiers():
            for lane in tier.lanes:
                if lane.deployment is than.deployment or not self.eligible(tier, lane):
                    continue
                if lane.ready(self.needs.input_tokens, self._now) and self._affordable(
                    lane.deployment, reserved
                ):
                    return lane
        return None

    def _others(self, than: Lane) -> bool:
        """Whether another deployment could take over now."""
        # Alternatives are worked out only where nothing that was named will do.
        return self._any_ready(self.pool.named, than) or self._any_ready(self.pool.alternatives, than)

    def _any_ready(self, tiers: Sequence[Tier], than: Lane) -> bool:
        deployment, tokens, now = than.deployment, self.needs.input_tokens, self._now
        for tier in tiers:
            for lane in tier.lanes:
                if (
                    lane.deployment is not deployment
                    and lane.ready(tokens, now)
                    and self.eligible(tier, lane)
                ):
                    return True
        return False

    def _deadlines(self, lane: Lane, wait_s: float) -> Deadlines:
        """Of a first try, remembered for a quarter of a second for requests of about the same size."""
        times, needs = self.routing.timeouts, self.needs
        if self._past is not None or wait_s:
            more = self.attempts < self.routing.max_attempts and self._others(lane)
            return deadlines(lane, needs, times, self.elapsed_s + wait_s, alternatives=more)
        kept = self.pool.deadlines
        key = (lane, needs.input_tokens >> 8, needs.max_output_tokens, needs.stream)
        known = kept.get(key)
        if known is not None and self._now < known[0] and known[1] is self.routing:
            return known[2]
        more = self.routing.max_attempts > 1 and self._others(lane)
        made = deadlines(lane, needs, times, 0.0, alternatives=more)
        if len(kept) >= MAX_KEPT:
            kept.clear()
        kept[key] = (self._now + KEPT_S, self.routing, made)
        return made

    def _may_retry(self, lane: Lane) -> bool:
        if lane.deployment.id in self.past.retried or not lane.budget.allows or lane.breaker.tripped:
            return False
        left = self.routing.max_attempts - self.attempts
        return left > 1 or (left == 1 and not self._others(lane))

    def _may_send(self) -> bool:
        return self.attempts < self.routing.max_attempts and self._time_left()

    def _time_left(self) -> bool:
        return self.elapsed_s < self.routing.timeouts.total_s

    def _told_wait(self, lane: Lane) -> float:
        """Seconds that the provider told us to stay away."""
        return 0.0 if lane.quota.clear else max(lane.quota.told_until - self._now, 0.0)

    def _patience_left(self) -> float:
        left = self.routing.timeouts.total_s - self.elapsed_s
        return min(self.routing.patience_s - self.past.waited, left)

    # answering --------------------------------------------------------------------------------------------------

    def _send_to(self, lane: Lane, reason: str, wait_s: float = 0.0, *, probe: bool = False) -> Step:
        if not self._may_send():
            return self._give_up(self.past.last)
        if self._hard and not self._affordable(lane.deployment):
            return self._next("failover")
        return self._try(lane, reason, wait_s, probe=probe)

    def _try(self, lane: Lane, reason: str, wait_s: float = 0.0, *, probe: bool = False) -> Try:
        self.attempts += 1
        self.choices.append((lane, reason, lane.latency.cost(self._now)))
        step = Try(
            lane.deployment,
            lane.credential,
            lane.deployment.endpoint_for(self.needs.dialect),
            lane,
            reason,
            self._deadlines(lane, wait_s),
            wait_s,
            False,
            probe,
        )
        self.current = step
        return step

    def _give_up(self, failure: Failure | None) -> GiveUp:
        return GiveUp(self.past.telling(failure), excluded_of(self.pool, self.why_not))

    def _nothing_sent(self, unsupported: str | None) -> Failure | None:
        waiting = [
            (lane, self._told_wait(lane))
            for tier in self.tiers()
            for lane in tier.lanes
            if self.eligible(tier, lane)
        ]
        return no_candidate.failure_of(self.pool, self.needs, waiting, unsupported)
