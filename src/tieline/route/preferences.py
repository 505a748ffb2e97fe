"""OpenRouter's ``provider`` object, so that its users move by changing the base URL."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from tieline.config.schema import PolicyRules
from tieline.providers import registry
from tieline.types.errors import InvalidRequest
from tieline.types.money import PER_MILLION, Pico, parse_usd

Sort = Literal["price", "throughput", "latency"]

_ALIASES = {
    "amazon-bedrock": "bedrock",
    "google-vertex": "vertex",
    "google-ai-studio": "gemini",
    "google": "gemini",
    "x-ai": "xai",
    "moonshotai": "moonshot",
    "z-ai": "zai",
    "mistralai": "mistral",
    "deepseek-ai": "deepseek",
}
"""OpenRouter's slug -> the usual name; used when no provider row has the slug itself."""


class MaxPrice(Struct, frozen=True, forbid_unknown_fields=True):
    """US dollars per million tokens."""

    prompt: float | str | None = None
    completion: float | str | None = None
    request: float | str | None = None


class Preferences(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    require_parameters: bool = False
    data_collection: Literal["allow", "deny"] = "allow"
    zdr: bool = False
    sort: Sort | None = None
    max_price: MaxPrice = field(default_factory=MaxPrice)

    @property
    def rules(self) -> tuple[PolicyRules, ...]:
        """What they say about data, as policy rules."""
        if self.data_collection == "allow" and not self.zdr:
            return ()
        return (PolicyRules(no_training=self.data_collection == "deny", zero_retention=self.zdr),)

    def price_limits(self) -> tuple[Pico | None, Pico | None, Pico | None]:
        """Input and output per token, and per request, in pico-dollars."""
        found = self.max_price
        return (
            _pico(found.prompt, "prompt", PER_MILLION),
            _pico(found.completion, "completion", PER_MILLION),
            _pico(found.request, "request", 1),
        )


NO_PREFERENCES = Preferences()


def read(preferences: dict[str, Any] | None) -> Preferences:
    """Raises InvalidRequest for unknown fields and wrong types: a preference is never dropped silently."""
    if not preferences:
        return NO_PREFERENCES
    given = {name: value for name, value in preferences.items() if value is not None}
    sort = given.get("sort")
    if isinstance(sort, dict):
        given["sort"] = sort.get("by")
    try:
        found = msgspec.convert(given, Preferences)
    except msgspec.ValidationError as error:
        known = ", ".join(Preferences.__struct_fields__)
        raise InvalidRequest(f"provider: {error}", param="provider", hint=f"Known are: {known}.") from error
    found.price_limits()
    return found


def names_provider(slug: str, provider: str) -> bool:
    """Whether OpenRouter's ``slug`` (``Together``, ``deepinfra/turbo``, ``google-vertex``) means this provider, which may be
    one more region of a host."""
    base = _dashed(slug.partition("/")[0])
    host, at, region = base.partition("@")
    return registry.is_among(_dashed(provider), (base, _ALIASES.get(host, host) + at + region))


def _dashed(name: str) -> str:
    return name.casefold().replace(" ", "-").replace("_", "-")


def _pico(amount: float | str | None, name: str, per: int) -> Pico | None:
    if amount is None:
        return None
    try:
        return parse_usd(str(amount)) // per
    except ValueError as error:
        raise InvalidRequest(f"provider.max_price.{name}: {error}", param="provider.max_price") from error
