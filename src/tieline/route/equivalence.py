"""Equally capable (DESIGN section 9): which models are at least as good as the one that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from tieline.providers.card import ModelCard, Price
from tieline.providers.deployment import Deployment
from tieline.types.money import Pico

PRIOR_WEIGHT = 50
"""How many of the user's own observations weigh as much as the public prior."""
AVERAGE_SLACK = 1.0
AVERAGE = "average"
ANOTHER_SPACE = "a different model, and embeddings of different models do not compare"

Evaluations = Callable[[str, str], tuple[float, int] | None]
"""(model name, category) -> the user's own evaluation: observed quality 0..100 and the number of observations."""
UpperBound = Callable[[Price | None, int, int, str | None, dict[str, int] | None, bool], Pico | None]
"""(price, input tokens, output tokens, service tier and extras asked for, plain) -> the most it can cost, or ``plain`` text;
None: unknown."""


def no_evaluations(name: str, category: str) -> tuple[float, int] | None:
    return None


class Quality(Struct, frozen=True):
    category: float
    average: float


def shrink(observed: float, n: int, prior: float) -> float:
    return (n * observed + PRIOR_WEIGHT * prior) / (n + PRIOR_WEIGHT)


def quality_of(
    card: ModelCard | None, name: str, intent: str | None, evaluations: Evaluations
) -> Quality | None:
    """On the intent's category (the average where it has none) and on average. None: unknown."""
    prior = card.quality if card is not None else {}
    average = _judged(name, AVERAGE, prior.get(AVERAGE), evaluations)
    if average is None:
        return None
    if intent is None or intent == AVERAGE:
        return Quality(average, average)
    category = _judged(name, intent, prior.get(intent), evaluations)
    return Quality(average if category is None else category, average)


def _judged(name: str, category: str, prior: float | None, evaluations: Evaluations) -> float | None:
    own = evaluations(name, category)
    if own is None or own[1] <= 0:
        return prior
    observed, n = own
    return shrink(observed, n, observed if prior is None else prior)


def shortfall(asked: Quality, other: Quality) -> float:
    """How many points ``other`` lacks to dominate ``asked``; 0: it does."""
    return max(asked.category - other.category, asked.average - AVERAGE_SLACK - other.average, 0.0)


class Alternative(Struct, frozen=True, eq=False):
    deployment: Deployment
    kind: str
    """same_model | equivalent | lesser"""
    shortfall: float = 0.0


def alternatives(
    asked: Deployment,
    others: Iterable[Deployment],
    *,
    intent: str | None,
    lesser_band: float | None,
    same_model_only: bool,
    evaluations: Evaluations,
) -> tuple[list[Alternative], dict[str, str]]:
    """Those that qualify by name or quality, same model first, and why the others do not. Price is a matter of the request."""
    found: list[Alternative] = []
    excluded: dict[str, str] = {}
    quality = quality_of(asked.card, asked.name, intent, evaluations)
    for other in others:
        if other.name == asked.name:
            found.append(Alternative(other, "same_model"))
            continue
        verdict = _judge(asked, quality, other, intent, lesser_band, same_model_only, evaluations)
        if isinstance(verdict, str):
            excluded[other.id] = verdict
        else:
            found.append(verdict)
    ranks = {"same_model": 0, "equivalent": 1, "lesser": 2}
    found.sort(key=lambda one: (ranks[one.kind], one.shortfall))
    return found, excluded


def _judge(
    asked: Deployment,
    quality: Quality | None,
    other: Deployment,
    intent: str | None,
    lesser_band: float | None,
    same_model_only: bool,
    evaluations: Evaluations,
) -> Alternative | str:
    if same_model_only:
        return ANOTHER_SPACE
    if quality is None:
        return f"a different model, and the quality of {asked.name} is unknown"
    theirs = quality_of(other.card, other.name, intent, evaluations)
    if theirs is None:
        return "its quality is unknown"
    lacking = shortfall(quality, theirs)
    if lacking == 0.0:
        return Alternative(other, "equivalent")
    if lesser_band is not None and lacking <= lesser_band:
        return Alternative(other, "lesser", lacking)
    figures = f"average {theirs.average:.1f} against {quality.average:.1f}"
    if intent is not None and intent != AVERAGE:
        figures = f"{intent} {theirs.category:.1f} against {quality.category:.1f}, {figures}"
    return f"not as good as {asked.name}: {figures}"
