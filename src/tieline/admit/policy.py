"""Data policy: rules from several places make one that is at least as strict as each."""

from __future__ import annotations

from tieline.config.schema import PolicyRules
from tieline.providers.row import is_inside


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


def _both(lists: list[list[str] | None]) -> list[str] | None:
    """What all of them allow; None allows everything."""
    given = [set(names) for names in lists if names is not None]
    return sorted(set.intersection(*given)) if given else None


def _places(lists: list[list[str] | None]) -> list[str] | None:
    given = [names for names in lists if names is not None]
    if not given:
        return None
    named = {place for names in given for place in names}
    return sorted(place for place in named if all(is_inside(place, names) for names in given))
