"""How long one attempt may take, from what was seen and what is allowed."""

from __future__ import annotations

from tieline.config.schema import Timeouts
from tieline.route.health import Lane
from tieline.route.latency import Histogram, size_factor
from tieline.route.steps import Deadlines, Needs

FIRST_TOKEN_MIN_S = 4.0
FIRST_TOKEN_MAX_S = 10.0
FIRST_TOKEN_REASONING_S = 60.0
FIRST_TOKEN_TIMES = 3.0
STALL_MIN_S = 5.0
STALL_MAX_S = 20.0
STALL_TIMES = 10.0
MIN_SAMPLES = 20
"""Below this many samples a p99 says nothing."""
MAX_SIZE_FACTOR = 4.0
"""Bounds how far a large input stretches the deadline for the first token."""
USUAL_OUTPUT = 2048
"""Tokens that an answer without a stated limit is expected to have at most."""
USUAL_SPEED = 30.0
"""Tokens per second of a slow model; used until a speed is measured."""


def deadlines(
    lane: Lane, needs: Needs, times: Timeouts, elapsed_s: float, *, alternatives: bool
) -> Deadlines:
    rest = max(times.total_s - elapsed_s, 0.001)
    reasoning = _reasons(lane, needs) and not needs.free
    if times.first_token_s is not None:
        first = times.first_token_s
    elif alternatives or needs.free:
        first = first_token_s(lane, needs, reasoning=reasoning)
    else:
        first = rest
    stall = times.stall_s if times.stall_s is not None else stall_s(lane)
    return Deadlines(
        min(times.connect_s, rest),
        min(first, rest),
        min(stall, rest),
        rest,
        min(max(stall, FIRST_TOKEN_REASONING_S), rest) if times.stall_s is None else min(stall, rest),
    )


def first_token_s(lane: Lane, needs: Needs, *, reasoning: bool) -> float:
    """clamp(3 × p99, 4, 10) s; up to 60 s for a model that thinks first; more for large inputs; and without streaming
    the time to generate."""
    factor = min(size_factor(needs.input_tokens), MAX_SIZE_FACTOR)
    most = FIRST_TOKEN_REASONING_S if reasoning else FIRST_TOKEN_MAX_S
    seen = _p99(lane.latency.first_token)
    first = most if seen is None else min(max(FIRST_TOKEN_TIMES * seen, FIRST_TOKEN_MIN_S), most)
    first *= factor
    if not needs.stream and not needs.free and needs.operation != "embeddings":
        speed = lane.latency.speed / 2 if lane.latency.speed else USUAL_SPEED
        first += min(needs.max_output_tokens or USUAL_OUTPUT, 32_768) / max(speed, 1.0)
    return first


def stall_s(lane: Lane) -> float:
    seen = _p99(lane.latency.gap)
    return STALL_MAX_S if seen is None else min(max(STALL_TIMES * seen, STALL_MIN_S), STALL_MAX_S)


def _p99(seen: Histogram) -> float | None:
    return seen.p99 if seen.count >= MIN_SAMPLES else None


def _reasons(lane: Lane, needs: Needs) -> bool:
    return (
        not needs.features.isdisjoint(("reasoning", "may_reason"))
        or lane.deployment.endpoint_for(needs.dialect).target.reasoning is True
    )
