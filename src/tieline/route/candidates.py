"""Who may serve a request at all: the hard filters. Each answers None (may) or a reason that a person understands."""

from __future__ import annotations

from collections.abc import Sequence

from tieline.config.schema import PolicyRules
from tieline.providers import registry
from tieline.providers.deployment import Deployment
from tieline.providers.row import is_inside
from tieline.route.preferences import Preferences, names_provider
from tieline.route.steps import Needs

NO_EMBEDDINGS = "it makes no embeddings"
ONLY_EMBEDDINGS = "it only makes embeddings"
SURELY_TOO_LONG = 1.5
"""Our count of tokens is an estimate: the model that was asked for is skipped only when it is far too small."""


def static_reason(
    deployment: Deployment,
    needs: Needs,
    preferences: Preferences,
    *,
    asked: bool,
    trust_catalog: bool = True,
) -> str | None:
    """Everything that does not depend on the size of the request. ``asked``: named by the caller or the user.

    Without ``trust_catalog`` a host that speaks the caller's dialect is asked although the catalog doubts it.
    """
    doubted = trust_catalog or preferences.require_parameters or needs.dialect not in deployment.endpoints
    return (
        (needs.excluded.get(deployment.id) if needs.excluded else None)
        or (None if asked else _access(deployment, needs))
        or _preferred(deployment, preferences)
        or policy_reason(deployment, (*needs.rules, *preferences.rules))
        or _operation(deployment, needs, asked=asked)
        or (capability_reason(deployment, needs, strict=preferences.require_parameters) if doubted else None)
    )


def policy_reason(deployment: Deployment, rules: Sequence[PolicyRules]) -> str | None:
    """Unknown policy is not allowed under a rule (DESIGN section 11)."""
    for rule in rules:
        reason = _policy(deployment, rule)
        if reason:
            return reason
    return None


def _policy(deployment: Deployment, rule: PolicyRules) -> str | None:
    provider = deployment.provider
    if rule.allow_providers is not None and provider.name not in rule.allow_providers:
        return f"policy: provider {provider.name} is not among allow_providers"
    if rule.deny_providers and registry.is_among(provider.name, rule.deny_providers):
        return f"policy: provider {provider.name} is denied"
    policy = provider.policy
    if rule.jurisdictions is not None:
        if not policy.jurisdictions:
            return "policy: where it processes prompts is unknown, and a rule asks for jurisdictions"
        outside = [place for place in policy.jurisdictions if not is_inside(place, rule.jurisdictions)]
        if outside:
            return f"policy: it processes prompts in {', '.join(outside)}, outside {', '.join(rule.jurisdictions)}"
    if rule.no_training and policy.trains is not False:
        return f"policy: {'it trains on prompts' if policy.trains else 'whether it trains on prompts is unknown'}"
    if rule.zero_retention and policy.retention_days != 0:
        known = policy.retention_days
        return (
            f"policy: {'its retention is unknown' if known is None else f'it keeps prompts for {known} days'}"
        )
    return None


def _access(deployment: Deployment, needs: Needs) -> str | None:
    """Of what we found ourselves; what the caller named was looked at when it was let in."""
    for patterns in needs.allowed:
        if not any(_covers(pattern, deployment) for pattern in patterns):
            return "the key may not use this model"
    return None


def _covers(pattern: str, deployment: Deployment) -> bool:
    names = (deployment.id, deployment.name)
    return any(name.startswith(pattern[:-1]) for name in names) if pattern.endswith("*") else pattern in names


def _preferred(deployment: Deployment, preferences: Preferences) -> str | None:
    name = deployment.provider.name
    if preferences.only and not any(names_provider(slug, name) for slug in preferences.only):
        return "provider.only does not name it"
    if any(names_provider(slug, name) for slug in preferences.ignore):
        return "provider.ignore names it"
    closed = bool(preferences.order) and not preferences.allow_fallbacks
    if closed and not any(names_provider(slug, name) for slug in preferences.order):
        return "provider.order does not name it, and allow_fallbacks is false"
    return _max_price(deployment, preferences)


def _max_price(deployment: Deployment, preferences: Preferences) -> str | None:
    limits = preferences.price_limits() if preferences.max_price else (None, None, None)
    if limits == (None, None, None):
        return None
    price = deployment.card.price if deployment.card else None
    if price is None:
        return "its price is unknown, and provider.max_price is set"
    asked = (price.tiers[0].input, price.tiers[0].output, price.per_request)
    for name, amount, limit in zip(("prompt", "completion", "request"), asked, limits, strict=True):
        if limit is not None and amount > limit:
            return f"its {name} price is above provider.max_price.{name}"
    return None


def _operation(deployment: Deployment, needs: Needs, *, asked: bool) -> str | None:
    card = deployment.card
    if card is not None:
        if needs.operation == "embeddings" and card.embedding is False:
            return NO_EMBEDDINGS
        if needs.operation != "embeddings" and card.embedding:
            return ONLY_EMBEDDINGS
        if card.status == "gone":
            return "its provider has retired it"
        if card.status == "deprecated" and not asked:
            return "it is deprecated"
    return None


FEATURES = (
    "tools",
    "forced_tool",
    "images",
    "pdf",
    "audio",
    "reasoning",
    "prefill",
    "json_schema",
    "json_object",
    "server_tools",
)
"""What a request can need that not every model has."""


def capability_reason(deployment: Deployment, needs: Needs, *, strict: bool = False) -> str | None:
    """None is unknown and counts as able, unless ``strict``."""
    found = lacking(deployment, needs, strict=strict)
    if found is None:
        return None
    feature, able = found
    if feature == "server_tools":
        return f"server tools of {needs.dialect} run only where that dialect is spoken"
    return f"{'it is not known to support' if able is None else 'it does not support'} {feature}"


def lacking(deployment: Deployment, needs: Needs, *, strict: bool = False) -> tuple[str, bool | None] | None:
    """The first feature asked for that it cannot give, and whether that is known (False) or not (None)."""
    if not needs.features:
        return None
    if "server_tools" in needs.features and needs.dialect not in deployment.endpoints:
        return "server_tools", False
    target = deployment.endpoint_for(needs.dialect).target
    quirks = target.quirks
    modalities = deployment.card.input_modalities if deployment.card else None
    tools = _both(target.tools, quirks.tools)
    able: dict[str, bool | None] = {
        "tools": tools,
        "forced_tool": tools,
        "images": _modality(target.vision, modalities, "image"),
        "pdf": _modality(target.pdf, modalities, "pdf"),
        "audio": _modality(target.audio, modalities, "audio"),
        "reasoning": target.reasoning,
        "prefill": target.prefill,
        # Where structured output is missing a forced tool stands in (WIRE_FACTS 23).
        "json_schema": _either(_both(target.structured_output, quirks.json_schema), tools),
        "json_object": _either(_both(target.structured_output, quirks.json_object), tools),
    }
    for feature, can in able.items():
        if feature in needs.features and (can is False or (strict and can is None)):
            return feature, can
    return None


def size_reason(deployment: Deployment, needs: Needs, *, asked: bool) -> str | None:
    """Whether the request fits. An unknown window counts as large enough."""
    card = deployment.card
    if card is None or needs.free:
        return None
    window = window_of(deployment)
    if window is not None and needs.input_tokens > (window * SURELY_TOO_LONG if asked else window):
        return f"about {needs.input_tokens} tokens do not fit its window of {window}"
    wanted = needs.max_output_tokens
    if not asked and wanted is not None and card.max_output is not None and wanted > card.max_output:
        return f"it writes at most {card.max_output} tokens, {wanted} are asked"
    return None


def window_of(deployment: Deployment) -> int | None:
    card = deployment.card
    return None if card is None else (card.max_input or card.context)


def _modality(capable: bool | None, modalities: tuple[str, ...] | None, name: str) -> bool | None:
    if capable is not None or modalities is None:
        return capable
    return name in modalities


def _both(model: bool | None, host: bool) -> bool | None:
    return model if host else False


def _either(first: bool | None, second: bool | None) -> bool | None:
    if first or second:
        return True
    return None if first is None or second is None else False
