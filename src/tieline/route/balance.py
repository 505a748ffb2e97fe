"""Among lanes that are equal in order: which one now. Power of two choices on expected latency and load."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from random import Random
from statistics import median
from zlib import crc32

from tieline.route.breaker import State
from tieline.route.health import Lane
from tieline.route.latency import COLD_SAMPLES

COLD_SHARE = 0.1
UNSEEN_S = 1.0
"""The latency assumed where no peer was ever measured."""


class Stand(IntEnum):
    """How a lane stands right now, the best first."""

    READY = 0
    PROBE = 1
    HELD = 2
    """Recovering, and this request is not in its share."""
    SUSPECT = 3
    """Its provider or edge is failing as a whole."""
    FULL = 4
    """Cooling after a 429, at its concurrency, or out of quota."""
    OPEN = 5
    DEAD = 6
    """Its credential is set aside."""


def stand(lane: Lane, tokens: int, now: float, draw: float) -> Stand:
    """``draw`` is the request's own random number: it is in the same share of every recovering lane."""
    if lane.ready(tokens, now):
        return Stand.READY
    if lane.key.state(now) is State.OPEN:
        return Stand.DEAD
    if lane.breaker.state(now) is State.OPEN:
        return Stand.OPEN
    if not lane.quota.allows(lane.inflight, tokens, now):
        return Stand.FULL
    if lane.breaker.tripped or lane.key.tripped:
        return Stand.PROBE if _may_probe(lane, now) else Stand.OPEN
    if lane.provider.speaks(now) or (lane.edge is not None and lane.edge.speaks(now)):
        return Stand.SUSPECT
    return Stand.READY if draw < min(lane.breaker.share(now), lane.key.share(now)) else Stand.HELD


def choose(
    lanes: Sequence[Lane],
    *,
    tokens: int,
    now: float,
    random: Random,
    draw: float,
    explore: float = 0.0,
    session: str | None = None,
) -> tuple[Lane, bool] | None:
    """The lane to use, and whether it is a probe. None: none of them should be used now."""
    if len(lanes) == 1:
        lane = lanes[0]
        if lane.ready(tokens, now):
            return lane, False
        standing = stand(lane, tokens, now, draw)
        return (lane, standing is Stand.PROBE) if standing <= Stand.PROBE else None
    ready: list[Lane] = []
    for lane in lanes:
        if lane.ready(tokens, now):
            ready.append(lane)
            continue
        standing = stand(lane, tokens, now, draw)
        if standing is Stand.PROBE and session is None:
            return lane, True
        if standing <= Stand.PROBE:
            ready.append(lane)
    if not ready:
        return None
    if session is not None:
        # Somebody's recovery is no reason to leave a prompt cache: who belongs there is the one to try it.
        nearest = max(ready, key=lambda lane: _affinity(session, lane))
        return nearest, stand(nearest, tokens, now, draw) is Stand.PROBE
    if len(ready) == 1:
        return ready[0], False
    return two_choices(ready, now, random, explore), False


def two_choices(ready: Sequence[Lane], now: float, random: Random, explore: float) -> Lane:
    """At least two lanes. The less loaded and faster of two drawn at random; sometimes the longest unmeasured."""
    if explore and random.random() < explore:
        return min(ready, key=lambda lane: lane.last_used)
    pool = _past_slow_start(ready, random)
    count = len(pool)
    if count == 1:
        return pool[0]
    if count == 2:
        first, second = pool
        if random.random() < 0.5:
            first, second = second, first
    else:
        index = int(random.random() * count)
        other = int(random.random() * (count - 1))
        first, second = pool[index], pool[other if other < index else other + 1]
    return first if load(first, pool, now) <= load(second, pool, now) else second


def load(lane: Lane, peers: Sequence[Lane], now: float) -> float:
    """Expected seconds to first token, times the queue that this request would join."""
    return expected(lane, peers, now) * (lane.inflight + 1)


def expected(lane: Lane, peers: Sequence[Lane], now: float) -> float:
    """A lane that was never measured counts as its peers' median, not as zero."""
    if lane.latency.updated:
        return lane.latency.cost(now)
    known = [peer.latency.cost(now) for peer in peers if peer.latency.updated]
    return median(known) if known else UNSEEN_S


def least_bad(lanes: Sequence[Lane], tokens: int, now: float) -> Lane | None:
    """When none is ready: the one that is most likely to answer."""
    if not lanes:
        return None
    return min(lanes, key=lambda lane: badness(lane, tokens, now))


def badness(lane: Lane, tokens: int, now: float) -> tuple[int, float, float, int]:
    """The lower, the more likely it is to answer."""
    wait = max(lane.breaker.open_until - now, lane.key.open_until - now, lane.quota.ready_in(now), 0.0)
    return stand(lane, tokens, now, 0.0), -round(lane.breaker.rate(now), 1), wait, lane.inflight


def _may_probe(lane: Lane, now: float) -> bool:
    return (not lane.breaker.tripped or lane.breaker.may_probe(now)) and (
        not lane.key.tripped or lane.key.may_probe(now)
    )


def _past_slow_start(ready: Sequence[Lane], random: Random) -> Sequence[Lane]:
    """A cold lane among warm ones takes part in a share of the draws that grows with its samples."""
    for lane in ready:
        if lane.latency.samples < COLD_SAMPLES:
            break
    else:
        return ready
    if all(lane.cold for lane in ready):
        return ready
    return [
        lane
        for lane in ready
        if not lane.cold
        or random.random() < COLD_SHARE + (1 - COLD_SHARE) * lane.latency.samples / COLD_SAMPLES
    ]


def _affinity(session: str, lane: Lane) -> int:
    """Rendezvous hashing: when a lane leaves, only its own sessions move."""
    return crc32(f"{session}\0{lane.deployment.id}\0{lane.credential.label}".encode())
