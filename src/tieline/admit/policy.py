"""Data policy: rules from several places make one that is at least as strict as each."""

from __future__ import annotations

from tieline.config.schema import PolicyRules
from tieline.providers.row import DataPolicy

_EUROPE = frozenset(
    "AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE".split()  # noqa: SIM905
)
"""Members of the European Union: each is inside a rule that allows ``EU``."""


def combine(*rules: PolicyRules | None) -> PolicyRules:
    """Only ever tightens: what any rule forbids stays forbidden."""
    given = [rule for rule in rules if rule is not None]
    if len(given) == 1:
        return given[0]
    return PolicyRules(
        allow_providers=_both([rule.allow_providers for rule in given]),
        deny_providers=sorted({name for rule in given for name in rule.deny_providers}),
        jurisdictions=_places([rule.jurisdictions for rule in given]),
        no_training=any(rule.no_training for rule in given),
        zero_retention=any(rule.zero_retention for rule in given),
    )


def objection(rules: PolicyRules, provider: str, policy: DataPolicy) -> str | None:
    """Why a provider may not see the prompt, or None. What is unknown counts as not allowed."""
    if provider in rules.deny_providers:
        return "denied by policy"
    if rules.allow_providers is not None and provider not in rules.allow_providers:
        return "not among the allowed providers"
    if rules.no_training and policy.trains is not False:
        return "may train on prompts" if policy.trains else "training policy unknown"
    if rules.zero_retention and policy.retention_days != 0:
        return "keeps prompts" if policy.retention_days else "retention unknown"
    if rules.jurisdictions is not None:
        return _misplaced(rules.jurisdictions, policy.jurisdictions)
    return None


def _misplaced(allowed: list[str], places: tuple[str, ...] | None) -> str | None:
    if places is None:
        return "jurisdiction unknown"
    outside = [place for place in places if not _inside(place, allowed)]
    return f"processes prompts in {', '.join(outside)}" if outside or not places else None


def _inside(place: str, allowed: list[str]) -> bool:
    return place == "local" or place in allowed or ("EU" in allowed and place in _EUROPE)


def _both(lists: list[list[str] | None]) -> list[str] | None:
    """What all of them allow; None allows everything."""
    given = [set(names) for names in lists if names is not None]
    return sorted(set.intersection(*given)) if given else None


def _places(lists: list[list[str] | None]) -> list[str] | None:
    given = [names for names in lists if names is not None]
    if not given:
        return None
    named = {place for names in given for place in names}
    return sorted(place for place in named if all(_inside(place, names) for names in given))
