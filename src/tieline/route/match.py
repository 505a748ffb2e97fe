"""A public name -> what serves it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from tieline.config.schema import Config, ModelConfig, Routing
from tieline.providers import registry
from tieline.providers.deployment import Deployment
from tieline.route.preferences import NO_PREFERENCES, Preferences, Sort, names_provider
from tieline.route.routing import override
from tieline.types.errors import UnknownModel

Deploy = Callable[[str, str], Deployment | None]
"""(provider name, upstream model id) -> a deployment of a model that the catalog does not know, if the provider is usable."""

MAX_MADE = 1024
"""Deployments made up from callers' names that are kept."""
MAX_NAME_CHARS = 512
"""Of a name that a caller makes up. It goes into headers, metrics and records."""
MAX_NEAR = 256
"""Unknown names whose nearest ones are kept."""
Find = Callable[[str], list[Deployment]]
"""A name that no listed deployment has, such as a dated snapshot -> what serves it; empty when nothing does."""

Variables = Callable[[str], Sequence[str]]
"""A model that no usable provider has -> the environment names whose keys would set one up, the best first."""
_MOST_VARIABLES = 3
_SURE = 0.8
"""How alike a provider's name and a misspelt one are."""

_SUFFIXES: dict[str, Sort] = {":nitro": "throughput", ":floor": "price"}
"""OpenRouter's shorthands for ``provider.sort``."""


class Route:
    """What a name resolves to. ``tiers`` are tried in order; the deployments of one are equal. Never changed."""

    __slots__ = ("asked_tiers", "bare", "name", "pools", "preferences", "routing", "sort", "tiers")

    def __init__(
        self,
        *,
        name: str,
        tiers: tuple[tuple[Deployment, ...], ...],
        asked_tiers: int = 1,
        routing: Routing,
        preferences: Preferences = NO_PREFERENCES,
        bare: bool = False,
        sort: Sort | None = None,
    ) -> None:
        self.name = name
        self.tiers = tiers
        self.asked_tiers = asked_tiers
        """How many of ``tiers`` are what was asked for; the rest are listed fallbacks."""
        self.routing = routing
        self.preferences = preferences
        self.bare = bare
        """A catalog name: its hosts were chosen by us, so the price ratio holds among them too."""
        self.sort = sort
        self.pools: dict[Any, Any] = {}
        """Candidates per kind of request; belongs to ``router``."""

    @property
    def reference(self) -> Deployment:
        """M: the first choice."""
        return self.tiers[0][0]


class Names:
    """Every name that resolves, indexed."""

    def __init__(
        self,
        deployments: Sequence[Deployment],
        config: Config,
        deploy: Deploy | None,
        find: Find | None = None,
        variables: Variables | None = None,
    ) -> None:
        self._find = find
        self._variables = variables
        self._config = config
        self._deploy = deploy
        self._by_id: dict[str, Deployment] = {}
        self._by_name: dict[str, list[Deployment]] = {}
        self._by_plain: dict[str, list[Deployment]] = {}
        self._made: dict[str, Deployment] = {}
        self._providers: set[str] = set()
        self._near: dict[str, list[str]] = {}
        for deployment in deployments:
            self._index(deployment)

    def _index(self, deployment: Deployment) -> None:
        self._by_id[deployment.id] = deployment
        self._providers.add(deployment.provider.name)
        for key in {deployment.name, deployment.model}:
            self._by_name.setdefault(key, []).append(deployment)
        for key in {plain(deployment.name), plain(deployment.model), plain(deployment.id)}:
            self._by_plain.setdefault(key, []).append(deployment)

    def resolve(
        self, name: str, fallbacks: Sequence[str] = (), preferences: Preferences = NO_PREFERENCES
    ) -> Route:
        """Raises UnknownModel with the nearest names."""
        base, sort = self._without_suffix(name)
        configured = self._config.models.get(base)
        asked, bare = self._asked(base, configured)
        if (
            configured is None
            and len(asked) == 1
            and (preferences.order or preferences.only or preferences.sort or sort)
        ):
            # OpenRouter names models author/model and hosts apart from them: any host of the model is meant.
            asked = [asked[0], *(one for one in self._by_name[asked[0].name] if one is not asked[0])]
            bare = len(asked) > 1
        tiers = [asked]
        if configured is not None:
            tiers += self._listed(base, configured, {base})
        for fallback in fallbacks:
            if fallback != name:
                tiers += self._expand(fallback, {base})
        first = _ordered(asked, preferences)
        return Route(
            name=name,
            tiers=tuple(map(tuple, first + _without_repeats(tiers[1:], asked))),
            asked_tiers=len(first),
            routing=override(self._config.routing, configured.routing)
            if configured
            else self._config.routing,
            preferences=preferences,
            bare=bare,
            sort=preferences.sort or sort,
        )

    def astray(self, name: str) -> Deployment | None:
        """What serves ``x/y`` although it is not the model y of a provider x: another host's id, or the same model elsewhere.
        None: it is just what its name says. Raises UnknownModel."""
        found = self._deployment(name)
        return found if "/" in name and plain(found.id) != plain(name) else None

    def nearest(self, name: str) -> list[str]:
        """At most three. Looked for once: that takes milliseconds, and who has a wrong name sends it again and again."""
        found = self._near.get(name)
        if found is None:
            names = self.all_names()
            close = get_close_matches(plain(name), {plain(one): one for one in names}, n=3, cutoff=0.6)
            by_plain = {plain(one): one for one in reversed(names)}
            if len(self._near) >= MAX_NEAR:
                self._near.clear()
            found = self._near[name] = [by_plain[one] for one in close]
        return found

    def all_names(self) -> list[str]:
        return [*self._config.models, *self._by_name, *self._by_id]

    def _without_suffix(self, name: str) -> tuple[str, Sort | None]:
        for suffix, sort in _SUFFIXES.items():
            if name.endswith(suffix) and name not in self._config.models and name not in self._by_id:
                return name.removesuffix(suffix), sort
        return name, None

    def _asked(self, name: str, configured: ModelConfig | None) -> tuple[list[Deployment], bool]:
        if configured is not None and configured.deployments:
            return [self._deployment(one) for one in configured.deployments], False
        exact = self._by_id.get(name)
        if exact is not None:
            return [exact], False
        found = self._by_name.get(name)
        if found:
            return list(found), len(found) > 1
        if len(name) > MAX_NAME_CHARS:
            raise UnknownModel(f"The model `{name[:60]}…` is not known here.", param="model")
        made = self._make(name)
        if made is not None:
            return [made], False
        found = self._by_plain.get(plain(name)) or (self._find(name) if self._find is not None else None)
        if found:
            return list(found), len(found) > 1
        raise self._unknown(name)

    def _deployment(self, name: str) -> Deployment:
        found, _ = self._asked(name, None)
        return next((one for one in found if one.model == name), found[0])

    def _make(self, name: str) -> Deployment | None:
        provider, slash, model = name.partition("/")
        if not slash or not model or self._deploy is None:
            return None
        if (
            len(name) > MAX_NAME_CHARS or not name.isprintable()
        ):  # a line break would end the header it stands in
            return None
        made = self._made.get(name) or self._deploy(provider, model)
        if made is not None:
            if len(self._made) >= MAX_MADE:
                self._made.clear()
            self._made[name] = made
        return made

    def _listed(self, name: str, configured: ModelConfig, seen: set[str]) -> list[list[Deployment]]:
        return [tier for fallback in configured.fallbacks for tier in self._expand(fallback, seen)]

    def _expand(self, name: str, seen: set[str]) -> list[list[Deployment]]:
        """A listed fallback: its deployments, then its own fallbacks; what was seen already ends a cycle."""
        if name in seen:
            return []
        seen.add(name)
        configured = self._config.models.get(name)
        asked, _ = self._asked(name, configured)
        return [asked, *(self._listed(name, configured, seen) if configured else [])]

    def _unknown(self, name: str) -> UnknownModel:
        provider, slash, _ = name.partition("/")
        host = provider.partition("@")[0]
        # Not where a provider was meant, perhaps misspelt; `meta-llama/` is an author, not `ollama`.
        meant = slash and (registry.get(host) or registry.nearest(host, cutoff=_SURE))
        if self._variables is not None and not meant:
            keys = self._variables(name)[:_MOST_VARIABLES]
            if keys:
                hint = f"Set {' or '.join(keys)}, or add a provider that has it under `providers`."
                return UnknownModel(f"No provider is set up that has {name!r}.", param="model", hint=hint)
        near = self.nearest(name)
        if near:
            hint = f"Did you mean {' or '.join(near)}?"
        elif slash and provider not in self._providers:
            known = ", ".join(sorted(self._providers)) or "none"
            hint = f"{_how_to_set_up(provider)} Usable are: {known}."
        elif slash:
            hint = f"`{provider}` is configured with a list of models: add it to providers.{provider}.models."
        else:
            hint = "GET /v1/models lists the names that work."
        return UnknownModel(f"The model {name!r} is not known here.", param="model", hint=hint)


def _how_to_set_up(provider: str) -> str:
    row = registry.get(provider.partition("@")[0])
    if row is not None:
        ways = [f"set {' or '.join(row.env)}"] if row.env else []
        return f"No credential is set for a provider {provider}: {', or '.join([*ways, 'add it under `providers`'])}."
    near = registry.nearest(provider)
    return f"There is no provider {provider}" + (f", perhaps {near}." if near else ".")


def plain(name: str) -> str:
    """Without case and punctuation that people write differently: ``Claude-Sonnet-4.5`` is ``claude-sonnet-4-5``."""
    return name.casefold().replace(".", "-").replace("_", "-").replace(" ", "-")


def _ordered(asked: list[Deployment], preferences: Preferences) -> list[list[Deployment]]:
    """``provider.order``: one tier for each that is named, then the rest."""
    left = list(asked)
    tiers: list[list[Deployment]] = []
    for slug in preferences.order:
        chosen = [one for one in left if names_provider(slug, one.provider.name)]
        if chosen:
            tiers.append(chosen)
            left = [one for one in left if one not in chosen]
    return [*tiers, left] if left else tiers


def _without_repeats(tiers: Iterable[list[Deployment]], asked: list[Deployment]) -> list[list[Deployment]]:
    seen = {one.id for one in asked}
    kept: list[list[Deployment]] = []
    for tier in tiers:
        fresh = [one for one in tier if one.id not in seen]
        seen.update(one.id for one in fresh)
        if fresh:
            kept.append(fresh)
    return kept
