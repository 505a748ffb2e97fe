"""What an incident did to the callers, in figures, and whether that is good enough."""

from __future__ import annotations

from fnmatch import fnmatchcase
from statistics import quantiles

from msgspec import Struct

from tieline.drills.incident import Line, Played
from tieline.types.money import format_usd, parse_usd
from tieline.types.record import SUCCESS, Record

WINDOW_S = 10.0
LEFT_SHARE = 0.2
"""A provider is left when fewer requests than this begin there; it is back when as many as BACK_SHARE of before do."""
BACK_SHARE = 0.5
HICCUP_S = 0.5
"""What a busy machine may add to a measured moment; waiting is compressed, computing is not."""


class Score(Struct, kw_only=True):
    name: str
    title: str
    passed: bool
    problems: list[str]
    requests: int
    served: int
    success: float
    whole_success: float
    """Without counting those that ended in a clean error after content."""
    added_first_token_p95_s: float | None
    first_token_p95_before_s: float | None
    first_token_p95_during_s: float | None
    left_after_s: float | None
    back_after_s: float | None
    attempts: int
    attempts_at_failing: int
    failed_at_failing: int
    splices: int
    wasted_usd: str
    cost_usd: str
    wasted_share: float
    wasted_tokens: int
    ceiling_usd: str | None
    """Of every request, all its attempts together; where models differ, the lowest. None: there is none."""
    dearest_usd: str
    """What the dearest request cost."""
    ceilings_exceeded: int
    """Requests that cost more, or nobody knows how much."""
    allowed: list[str] | None
    """The only providers that may see a request; None: the incident is not about that."""
    outside_allowed: int
    """Requests that another provider saw, by its own log."""
    errors: dict[str, int]


def score(played: Played) -> Score:
    scenario, lines, hit = played.scenario, played.lines, played.scenario.hit
    during = [line for line in lines if hit.from_s <= line.at_s < hit.to_s]
    before = [line for line in lines if line.at_s < hit.from_s]
    first_before, first_during = _p95(before), _p95(during)
    added = None if first_before is None or first_during is None else max(0.0, first_during - first_before)
    served = sum(line.ok for line in lines)
    left, back = _left(played), _back(played)
    failing = [
        entry
        for line in lines
        if line.record
        for entry in line.record.attempts
        if _at(played, entry.deployment)
    ]
    records = [line.record for line in lines if line.record is not None]
    entries = [entry for record in records for entry in record.attempts]
    known = not any(entry.cost is None for entry in entries)
    cost = sum(entry.cost or 0 for entry in entries)
    known_costs = [record.cost for record in records if record.cost is not None]
    wasted = sum(record.wasted or 0 for record in records)
    allowed = played.allowed
    outside = sum(allowed is not None and entry.provider not in allowed for entry in played.log)
    success = served / len(lines) if lines else 0.0
    made = Score(
        name=scenario.name,
        title=scenario.title,
        passed=False,
        problems=list(played.leaks),
        requests=len(lines),
        served=served,
        success=round(success, 5),
        whole_success=round(sum(_ends_clean(line) for line in lines) / max(1, len(lines)), 5),
        added_first_token_p95_s=_rounded(added),
        first_token_p95_before_s=_rounded(first_before),
        first_token_p95_during_s=_rounded(first_during),
        left_after_s=_rounded(left),
        back_after_s=_rounded(back),
        attempts=len(entries),
        attempts_at_failing=len(failing),
        failed_at_failing=sum(entry.outcome != SUCCESS for entry in failing),
        splices=sum(record.splices for record in records),
        wasted_usd=format_usd(wasted if known else None),
        cost_usd=format_usd(cost if known else None),
        wasted_share=round(wasted / cost, 4) if cost else 0.0,
        wasted_tokens=sum(map(_wasted, records)),
        ceiling_usd=min(played.ceilings.values(), key=parse_usd, default=None),
        dearest_usd=format_usd(max(known_costs) if known_costs else None),
        ceilings_exceeded=_over_ceiling(played),
        allowed=allowed,
        outside_allowed=outside,
        errors=_errors(lines),
    )
    made.problems += _missed(made, played)
    made.passed = not made.problems
    return made


def _missed(made: Score, played: Played) -> list[str]:
    goals = played.scenario.goals
    found = []
    if made.success < goals.success:
        found.append(f"{made.success:.2%} of the requests were served, {goals.success:.2%} is the goal")
    if made.whole_success < 1.0:
        found.append("some answer had neither a clean end nor a clean error")
    if goals.leave_s is not None and (made.left_after_s is None or made.left_after_s > goals.leave_s):
        found.append(
            f"the failing provider was {_late('left', made.left_after_s)}, {goals.leave_s:g} s is the goal"
        )
    if goals.back_s is not None and (made.back_after_s is None or made.back_after_s > goals.back_s):
        found.append(
            f"the failing provider {_late('served again', made.back_after_s)}, {goals.back_s:g} s is the goal"
        )
    limit = goals.added_first_token_s
    if limit is not None and (made.added_first_token_p95_s or 0.0) > limit + HICCUP_S:
        found.append(
            f"the first token came {made.added_first_token_p95_s} s later at p95, {limit:g} is the goal"
        )
    if made.ceilings_exceeded:
        found.append(f"{made.ceilings_exceeded} requests cost more than their ceiling")
    if made.outside_allowed:
        found.append(f"{made.outside_allowed} requests left the allowed places")
    return found


def _late(what: str, after_s: float | None) -> str:
    return f"never {what}" if after_s is None else f"{what} only after {after_s:g} s"


def _p95(lines: list[Line]) -> float | None:
    seen = [line.heard.first_s for line in lines if line.ok and line.heard.first_s is not None]
    return quantiles(seen, n=20)[-1] if len(seen) >= 20 else None


def _at(played: Played, deployment: str) -> bool:
    hit = played.scenario.hit
    provider, _, model = deployment.partition("/")
    return fnmatchcase(provider, hit.provider) and fnmatchcase(model, hit.model)


def _begun_there(played: Played, since_s: float, until_s: float) -> float | None:
    """The share of requests whose first attempt was at the failing provider, of those that might have gone there."""
    began = [
        _at(played, line.record.attempts[0].deployment)
        for line in played.lines
        if since_s <= line.at_s < until_s and line.record is not None and line.record.attempts
    ]
    return sum(began) / len(began) if len(began) >= 4 else None


def _left(played: Played) -> float | None:
    """Seconds from the beginning of the worst until few requests begin at the failing provider."""
    hit = played.scenario.hit
    usual = _begun_there(played, 0.0, hit.from_s)
    if not usual:
        return 0.0
    at = hit.from_s
    while at + WINDOW_S <= hit.to_s:
        share = _begun_there(played, at, at + WINDOW_S)
        if share is not None and share < LEFT_SHARE * usual:
            return at - hit.from_s
        at += 1.0
    return None


def _back(played: Played) -> float | None:
    """Seconds from the end until it has again half the share it had before; 0 when it was never left."""
    hit = played.scenario.hit
    usual = _begun_there(played, 0.0, hit.from_s)
    if not usual:
        return 0.0
    at = hit.to_s
    while at + WINDOW_S <= played.scenario.length_s:
        share = _begun_there(played, at, at + WINDOW_S)
        if share is not None and share >= BACK_SHARE * usual:
            return at - hit.to_s
        at += 1.0
    return None


def _over_ceiling(played: Played) -> int:
    """A cost that is unknown is over every ceiling."""
    most = {model: parse_usd(limit) for model, limit in played.ceilings.items()}
    return sum(_costs_more(line, most) for line in played.lines)


def _costs_more(line: Line, most: dict[str, int]) -> bool:
    limit = most.get(line.heard.asked.model) if line.heard.asked else None
    if limit is None or line.record is None:
        return False
    return line.record.cost is None or line.record.cost > limit


def _wasted(record: Record) -> int:
    """Tokens of attempts that were of no use to a caller; every part of a spliced answer is."""
    spliced = record.splices and record.outcome == SUCCESS
    return sum(
        entry.usage.input_tokens + entry.usage.output_tokens
        for entry in record.attempts
        if entry.usage is not None and entry.outcome != SUCCESS and not (spliced and entry.chars_out)
    )


def _ends_clean(line: Line) -> bool:
    heard = line.heard
    if heard.error in ("connection", "unreadable", "left"):
        return False
    return heard.ok or (heard.error is not None and not heard.complete)


def _errors(lines: list[Line]) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        if not line.ok:
            name = f"{line.heard.status} {line.heard.error}"
            found[name] = found.get(name, 0) + 1
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
