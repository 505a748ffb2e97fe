"""Names in rules that nothing has. A provider's is refused: who denies `opnai` denies nobody. A model's is told: it may be
ahead of the configuration, and until then it allows nothing. Profiles are the callers' own words, and any will do."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import chain

from tieline.admit.rules import Rules
from tieline.config.schema import Config, PolicyRules
from tieline.providers import registry
from tieline.providers.catalog import Catalog, packaged
from tieline.types.errors import InvalidRequest

MAX_WARNINGS = 20
"""Each is looked up among some thousand names for the nearest."""
_SHOWN_CHARS = 100


def check_providers(policy: PolicyRules, config: Config, *, within: str = "") -> None:
    """Raises InvalidRequest with the nearest name. ``within``: where the policy stands, in front of the place."""
    for place, name, near in registry.strangers(policy, config.providers):
        raise InvalidRequest(
            f"there is no provider {name[:_SHOWN_CHARS]!r}",
            param=within + place,
            hint=f"Did you mean {near}?" if near else "One of your own is configured first.",
        )


def strange_names(rules: Rules, config: Config) -> list[str]:
    """A line for each name of a model that neither the catalog nor the configuration has, ``MAX_WARNINGS`` at most.
    ``rules`` are checked already."""
    known = _Known(config, packaged())
    found = (
        f"{place}: no model is called {name!r} here, so it {does} nothing.{known.perhaps(name)}"
        for place, name, does in _named(rules)
        if not (known.starts(name[:-1]) if does == "allows" and name.endswith("*") else known.has(name))
    )
    return [line for line, _ in zip(found, range(MAX_WARNINGS), strict=False)]


def _named(rules: Rules) -> Iterator[tuple[str, str, str]]:
    for number, name in enumerate(rules.models or ()):
        yield f"models[{number}]", name, "allows"
    for number, budget in enumerate(rules.budgets):
        if budget.model is not None:
            yield f"budgets[{number}].model", budget.model, "counts"


class _Known:
    """What callers may call a model, whether or not its provider is set up now."""

    def __init__(self, config: Config, catalog: Catalog) -> None:
        self._catalog = catalog
        self._providers = config.providers
        configured = config.providers.values()
        own = [model for one in configured for model in (*(one.models or ()), *one.prices)]
        meant = [model for one in configured if isinstance(one.models, dict) for model in one.models.values()]
        self._own = dict.fromkeys([*config.models, *own, *meant])

    def has(self, name: str) -> bool:
        if name in self._own:
            return True
        hosts = self._catalog.hosts_of(name)
        if "/" not in name:
            return bool(hosts)
        return self._has_provider(name) or any(model == name for _, model in hosts)

    def starts(self, start: str) -> bool:
        """Whether any name does."""
        if "/" in start and self._has_provider(start):
            return True
        providers = (*self._providers, *(row.name for row in registry.all_rows()))
        every = chain(self._own, providers, self._catalog.names(), self._catalog.ids())
        return any(name.startswith(start) for name in every)

    def _has_provider(self, name: str) -> bool:
        """Any model may be asked of a provider."""
        return registry.is_known(name.partition("/")[0], self._providers)

    def perhaps(self, name: str) -> str:
        if "*" in name[:-1]:
            return " `*` stands for the rest of a name, at its end only."
        provider, slash, model = name.partition("/")
        near = registry.nearest(provider, self._providers) if slash else None
        if near is not None:
            return f" Did you mean {near}/{model}?"
        ending = "*" if name.endswith("*") else ""
        found = get_close_matches(name.removesuffix("*"), [*self._own, *self._catalog.names()], n=1)
        return f" Did you mean {found[0]}{ending}?" if found else ""
