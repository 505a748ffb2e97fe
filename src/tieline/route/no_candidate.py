"""Why nobody could be asked, where one reason stands for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tieline.route.asked import field_of
from tieline.route.candidates import (
    NO_EMBEDDINGS,
    ONLY_EMBEDDINGS,
    capability_reason,
    lacking,
    size_reason,
)
from tieline.route.decision import MAX_SHOWN
from tieline.route.health import Lane
from tieline.route.pool import Pool
from tieline.route.steps import Needs
from tieline.types.errors import ErrorInfo, Failure, FailureClass, NoCandidate

MAX_REASONS = 8
_OF_A_REASON = 3
"""Names that stand for all that one reason excluded."""


def error(asked: str, excluded: dict[str, str]) -> NoCandidate:
    """For more reasons than one; in full for the first ones."""
    return NoCandidate(
        f"No deployment can serve {asked!r} as asked.",
        hint=_said(excluded) or "Configure a provider that has it.",
        details={
            "excluded": dict(list(excluded.items())[:MAX_SHOWN]),
            "excluded_count": len(excluded),
        },
    )


def failure_of(
    pool: Pool, needs: Needs, waiting: Sequence[tuple[Lane, float]], unsupported: str | None
) -> Failure | None:
    """None: there is no candidate, for more reasons than one.

    ``waiting``: who may serve it, and for how many seconds it asked to be left alone; ``unsupported``: the parameter
    that somebody's dialect could not express.
    """
    if unsupported is not None:
        return _cannot(f"None of the models that may serve this can do {unsupported}.", unsupported)
    waits = [wait for _, wait in waiting if wait > 0.0]
    if waits:
        limited = any(lane.quota.refusals for lane, _ in waiting)
        return Failure(
            kind=FailureClass.RATE_LIMITED if limited else FailureClass.OVERLOADED,
            message="Every deployment that may serve this asked for a pause.",
            status=429 if limited else 503,
            retry_after_s=min(waits),
        )
    if pool.deployments and all(size_reason(one, needs, asked=True) is not None for one in pool.deployments):
        return Failure(
            kind=FailureClass.CONTEXT_LENGTH,
            message=f"About {needs.input_tokens} tokens fit no model that may serve this.",
            status=400,
        )
    return _other_operation(pool) or _incapable(pool, needs)


def _other_operation(pool: Pool) -> Failure | None:
    """A chat is asked of models that only embed, or vectors of models that only talk."""
    reasons = {one.id: pool.excluded.get(one.id) for one in pool.deployments}
    if not reasons or any(reason not in (NO_EMBEDDINGS, ONLY_EMBEDDINGS) for reason in reasons.values()):
        return None
    return _cannot(f"`model`: {_said(reasons)}. Choose a model that does what is asked.", "model")


def _incapable(pool: Pool, needs: Needs) -> Failure | None:
    """What was asked for is beyond every model that the name stands for: the caller's to change, not to try again."""
    strict = pool.route.preferences.require_parameters
    reasons = {one.id: capability_reason(one, needs, strict=strict) for one in pool.deployments}
    if any(reason is None or pool.excluded.get(name) != reason for name, reason in reasons.items()):
        return None
    first = next(filter(None, (lacking(one, needs, strict=strict) for one in pool.deployments)))
    field = field_of(first[0], needs.dialect)
    return _cannot(f"`{field}`: {_said(reasons)}. Leave it out, or choose a model that can.", field)


def _said(reasons: Mapping[str, str | None]) -> str:
    """Each reason once, with the first of those whom it excludes: a profile may have hundreds of candidates."""
    names: dict[str | None, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    said = [f"{_some(of_it)}: {reason}" for reason, of_it in names.items()]
    more = f"; {len(said) - MAX_REASONS} more reasons" if len(said) > MAX_REASONS else ""
    return "; ".join(said[:MAX_REASONS]) + more


def _some(names: list[str]) -> str:
    more = len(names) - _OF_A_REASON
    return ", ".join(names[:_OF_A_REASON]) + (f" and {more} more" if more > 0 else "")


def _cannot(message: str, field: str) -> Failure:
    return Failure(
        kind=FailureClass.UNSUPPORTED_PARAMETER, message=message, status=400, info=ErrorInfo(param=field)
    )
