"""Configuration, environment and catalog -> deployments, each made when it is first asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from tieline.config.schema import Config, ProviderConfig
from tieline.dialects.base import Target
from tieline.providers import names, registry
from tieline.providers.aws_sources import AwsSource, region_of_profile
from tieline.providers.card import ModelCard, Price, PriceTier
from tieline.providers.checked import check_address, check_ca_file, noted_quirks
from tieline.providers.credentials import credentials_of
from tieline.providers.deployment import Deployment, Endpoint
from tieline.providers.row import Credential, Provider
from tieline.types.errors import ConfigError, UnknownModel
from tieline.types.money import PER_MILLION, parse_usd

MAX_ON_DEMAND = 10_000
"""Deployments kept for ids nobody listed, so that callers cannot fill the memory with invented names."""

NOT_SERVED = frozenset({"gone", "unlisted"})
"""Statuses of cards that are known but not offered on our own account: only who asks for provider/model gets them."""

CAUTION = re.compile(r":(free|extended|nitro|floor|exacto|beta)$|^TEE/")
"""Ids that are the same weights on other terms: other limits, another price, another use of the prompts."""

_PROFILE = re.compile(r"^(us-gov|us|eu|apac|jp|au|global)\.")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Cards(Protocol):
    """What building needs of a catalog."""

    def card(self, provider: str, model: str) -> ModelCard | None: ...
    def ids_of(self, provider: str) -> tuple[str, ...]: ...
    def hosts_of(self, name: str) -> tuple[tuple[str, str], ...]: ...
    def name_of(self, model_id: str) -> str: ...
    def about(self, name: str) -> ModelCard | None: ...
    def rated_names(self) -> Iterable[str]: ...


class Host(Struct, frozen=True, eq=False, kw_only=True):
    """A provider that can be used: its place is known and it has credentials (or wants none)."""

    provider: Provider
    credentials: tuple[Credential, ...]
    config: ProviderConfig

    @property
    def catalog_name(self) -> str:
        return self.provider.name.partition("@")[0]

    def meant(self, model: str) -> str:
        """The model behind an id that says nothing by itself, as configured: Azure's deployments have any name."""
        models = self.config.models
        return models.get(model, model) if isinstance(models, dict) else model


class Fleet:
    """Every deployment there is. A new configuration makes a new fleet; nothing in it changes but its cache."""

    def __init__(self, hosts: dict[str, Host], problems: list[ConfigError], catalog: Cards) -> None:
        self.hosts = hosts
        self.problems = problems
        """Why providers that were found are not used; for the log and ``tieline check``."""
        self._catalog = catalog
        self._made: dict[str, Deployment] = {}

    def __contains__(self, provider: object) -> bool:
        return provider in self.hosts

    def ids(self, provider: str) -> tuple[str, ...]:
        """The upstream model ids known at a provider: as configured, else as the catalog has them."""
        host = self.hosts[provider]
        if host.config.models is not None:
            return tuple(host.config.models)
        known = () if host.provider.account_models else self._catalog.ids_of(host.catalog_name)
        return (*known, *(model for model in host.config.prices if model not in known))

    def build_one(self, provider: str, model: str) -> Deployment:
        """Any model at a usable provider, in the catalog or not. Raises UnknownModel."""
        made = self._made.get(f"{provider}/{model}")
        if made is not None:
            return made
        host = self.hosts.get(provider)
        if host is None:
            raise self._no_host(provider, model)
        if host.config.models is not None and model not in host.config.models:
            raise UnknownModel(
                f"`{provider}` is configured without the model `{model}`.",
                param="model",
                hint=f"Add it to providers.{provider}.models.",
            )
        name = self._catalog.name_of(host.meant(model))
        deployment = _deployment(host, model, self._card(host, model), name)
        if len(self._made) < MAX_ON_DEMAND:
            self._made[deployment.id] = deployment
        return deployment

    def find(self, deployment_id: str) -> Deployment:
        """By ``provider/model``. Raises UnknownModel."""
        provider, slash, model = deployment_id.partition("/")
        if not slash or not model:
            raise UnknownModel(f"`{deployment_id}` is not provider/model.", param="model")
        return self.build_one(provider, model)

    def by_name(self, name: str) -> list[Deployment]:
        """The same model wherever it can be used, once for each host; also by an alias or a host's own id.

        The id asked for is taken where a host has it, so that who pins ``claude-sonnet-4-5-20250929`` gets just that. May be empty.
        """
        wanted = self._catalog.name_of(name)
        ids: dict[str, list[str]] = {}
        for provider, model in self._catalog.hosts_of(wanted):
            ids.setdefault(provider, []).append(model)
        found = []
        for provider, models in ids.items():
            for host in self._at(provider):
                offered = [
                    model for model in models if self._offers(host, model) and host.meant(model) == model
                ]
                chosen = preferred(host, offered, name)
                if chosen is not None:
                    found.append(self.build_one(host.provider.name, chosen))
        return found + self._configured(wanted, {deployment.id for deployment in found})

    def variables(self, name: str) -> list[str]:
        """What would set up a host that is known to have this model, one for each, its maker's first; without hosts that are."""
        found: dict[str, None] = {}
        for provider, model in self._catalog.hosts_of(name):
            row = registry.get(provider)
            if row is None or not row.env or row.account_models or self._at(provider):
                continue
            card = self._catalog.card(provider, model)
            if card is None or card.status not in NOT_SERVED:
                found[row.env[0]] = None
        return list(found)

    def _at(self, catalog_name: str) -> list[Host]:
        return [host for host in self.hosts.values() if host.catalog_name == catalog_name]

    def _offers(self, host: Host, model: str) -> bool:
        if host.config.models is not None or host.provider.account_models:
            return model in (host.config.models or ())
        card = self._catalog.card(host.catalog_name, model)
        return card is None or card.status not in NOT_SERVED

    def _configured(self, name: str, have: set[str]) -> list[Deployment]:
        listed = [
            (provider, model)
            for provider, host in self.hosts.items()
            for model in (*(host.config.models or ()), *host.config.prices)
            if self._catalog.name_of(self.hosts[provider].meant(model)) == name
            and f"{provider}/{model}" not in have
        ]
        return [self.build_one(provider, model) for provider, model in dict.fromkeys(listed)]

    def all(self) -> Iterator[Deployment]:
        """What routing may choose from of its own accord: each model once at each host, but every deployment that was
        configured there (Azure has several of one model). Decodes every card."""
        for provider, host in self.hosts.items():
            by_name: dict[str, list[str]] = {}
            for model in self.ids(provider):
                if self._offers(host, model) or model in host.config.prices:
                    by_name.setdefault(self._name(host, model), []).append(model)
            for name, models in by_name.items():
                chosen = preferred(host, models, name)
                listed = models if host.config.models is not None else [chosen] if chosen else []
                for model in listed:
                    yield self.build_one(provider, model)

    def rated(self) -> Iterator[Deployment]:
        """The part of ``all`` whose quality the catalog knows: where equally capable models are looked for."""
        for name in self._catalog.rated_names():
            yield from self.by_name(name)

    def _name(self, host: Host, model: str) -> str:
        meant = host.meant(model)
        card = self._catalog.card(host.catalog_name, meant)
        return card.name if card is not None else self._catalog.name_of(meant)

    def _card(self, host: Host, model: str) -> ModelCard | None:
        """The catalog's, else what is true of the model anywhere; with the configured price over either."""
        provider, meant = host.provider.name, host.meant(model)
        card = self._catalog.card(host.catalog_name, meant)
        if card is None:
            card = _elsewhere(self._catalog.about(self._catalog.name_of(meant)), provider, model)
        elif meant != model:
            card = replace(card, id=model)
        price = host.config.prices.get(model)
        if price is None:
            return card
        name = self._catalog.name_of(meant)
        card = card or ModelCard(id=model, provider=provider, name=name, embedding=None)
        return replace(card, price=_price(dict(price), f"providers.{provider}.prices.{model}"))

    def _no_host(self, provider: str, model: str) -> UnknownModel:
        row = registry.get(provider)
        if row is None:
            near = registry.nearest(provider)
            hint = f"Did you mean `{near}/{model}`?" if near else "Add it under `providers` with a base_url."
            return UnknownModel(f"unknown provider `{provider}`.", param="model", hint=hint)
        hint = f"Set {_switch(row)} or add `{provider}` under `providers`."
        return UnknownModel(f"the provider `{provider}` is not set up.", param="model", hint=hint)


def preferred(host: Host, models: list[str], asked: str) -> str | None:
    """Of a host's ids for one model the one to use. Offers with a catch (`:free`, `:extended`) only if asked for."""
    if asked in models:
        return asked
    plain = [model for model in models if not CAUTION.search(model)]
    if not plain:
        return None
    order = _profiles(host.provider)
    return min(plain, key=lambda model: (_profile_rank(model, order), _is_dated(model), len(model)))


def _is_dated(model: str) -> bool:
    return names.undated(names.key(model)) is not None


def _profiles(provider: Provider) -> tuple[str, ...]:
    """Bedrock's inference profiles that a region may call, the nearest first; a newer model has no other id."""
    url = provider.endpoints.get("bedrock_converse")
    if url is None:
        return ()
    region = (urlsplit(url).hostname or "").split(".")[1:2]
    area = region[0] if region else ""
    if area.startswith("us-gov"):
        return ("us-gov",)
    first = _PROFILES_OF_REGION.get(area) or _PROFILES_OF_REGION.get(area[:2], ())
    return (*first, "global", "")


_PROFILES_OF_REGION: dict[str, tuple[str, ...]] = {
    "us": ("us",),
    "ca": ("us",),
    "eu": ("eu",),
    "ap": ("apac",),
    "ap-northeast-1": ("jp", "apac"),
    "ap-northeast-3": ("jp", "apac"),
    "ap-southeast-2": ("au", "apac"),
    "ap-southeast-4": ("au", "apac"),
}


def _profile_rank(model: str, order: tuple[str, ...]) -> int:
    if not order:
        return 0
    match = _PROFILE.match(model)
    prefix = match.group(1) if match else ""
    return order.index(prefix) if prefix in order else len(order)


def _switch(row: Provider) -> str:
    return row.base_url_env if row.auth == "none" and row.base_url_env else " or ".join(row.env) or "its key"


Stored = Mapping[str, Sequence[tuple[str, str]]]
"""Provider -> (label, secret) of the credentials in the database."""


def build(config: Config, environ: Mapping[str, str], catalog: Cards, stored: Stored | None = None) -> Fleet:
    """Raises ConfigError for a configured provider that cannot work; a discovered one is left out and noted."""
    hosts: dict[str, Host] = {}
    host: Host | None
    problems: list[ConfigError] = []
    kept = stored or {}
    for name, settings in config.providers.items():
        if settings.enabled:
            host = hosts[name] = _configured_host(name, settings, environ, kept.get(name, ()))
            if (note := noted_quirks(host.provider.quirks, f"providers.{name}.quirks")) is not None:
                problems.append(note)
    for row in registry.all_rows():
        if row.name in config.providers or not (config.discover or row.name in kept):
            continue
        try:
            host = _discovered_host(row, environ if config.discover else {}, kept.get(row.name, ()))
        except ConfigError as error:
            problems.append(error)
            continue
        if host is not None:
            hosts[row.name] = host
    return Fleet(hosts, problems, catalog)


def _configured_host(
    name: str, config: ProviderConfig, environ: Mapping[str, str], stored: Sequence[tuple[str, str]]
) -> Host:
    provider = registry.resolve(name, config)
    credentials = credentials_of(provider, config, environ, stored=stored)
    if not credentials:
        wanted = " or ".join(provider.env) or "a key"
        hint = f"Set {wanted} in the environment, or `api_key`."
        raise ConfigError("no credential.", place=f"providers.{name}", hint=hint)
    provider = placed(_with_place(provider, credentials, environ), environ, override=config.base_url is None)
    if config.ca_file is not None:
        check_ca_file(config.ca_file, f"providers.{name}.ca_file")
    return Host(provider=provider, credentials=credentials, config=config)


def _with_place(
    provider: Provider, credentials: tuple[Credential, ...], environ: Mapping[str, str]
) -> Provider:
    """A service account names its project, a profile its region. Only for a configured provider: the key file alone may be
    for other uses."""
    secret = credentials[0].secret
    if isinstance(secret, AwsSource) and "region" not in provider.params:
        region = region_of_profile(environ)
        return replace(provider, params={**provider.params, "region": region}) if region else provider
    project = getattr(secret, "project_id", None) or getattr(secret, "quota_project_id", None)
    if not project or "project" in provider.params:
        return provider
    return replace(provider, params={**provider.params, "project": project})


def _discovered_host(
    row: Provider, environ: Mapping[str, str], stored: Sequence[tuple[str, str]]
) -> Host | None:
    if row.auth == "none" and not (row.base_url_env and environ.get(row.base_url_env)):
        return None
    credentials = credentials_of(row, None, environ, stored=stored)
    if not credentials:
        return None
    return Host(provider=placed(row, environ), credentials=credentials, config=ProviderConfig())


def placed(row: Provider, environ: Mapping[str, str], *, override: bool = True) -> Provider:
    """The row with its base URLs complete. Raises ConfigError naming the environment variable that is missing."""
    endpoints = row.endpoints
    given = environ.get(row.base_url_env, "").strip() if override and row.base_url_env else ""
    if given:
        dialect = next(iter(endpoints))
        url = _address(given, endpoints[dialect], row.base_url_env or "")
        moved = {name: url for name in endpoints if endpoints[name] == endpoints[dialect]}
        if not _same_site(url, endpoints[dialect]):
            row = replace(row, policy=registry.policy_at(url), edge=None)
        endpoints = moved
    filled = {dialect: _fill(url, row, environ) for dialect, url in endpoints.items()}
    for url in filled.values():
        check_address(url, f"providers.{row.name}")
    quirks = row.quirks
    if "{" in quirks.path:
        quirks = replace(quirks, path=_fill(quirks.path, row, environ, keep=("model", "method")))
    edge = _fill(row.edge, row, environ) if row.edge else None
    return replace(row, endpoints=filled, quirks=quirks, edge=edge, params=_params(row, environ))


def _params(row: Provider, environ: Mapping[str, str]) -> dict[str, str]:
    """All that are known, also those that no address needs: signatures name the region. Raises ConfigError for a wrong one."""
    known = {name: value for name in row.params_env if (value := _known(name, row, environ))}
    for name, value in known.items():
        shape = _SHAPES.get(name)
        if shape is not None and not shape[0].fullmatch(value):
            variables = " or ".join(row.params_env[name].split())
            raise ConfigError(
                f"`{value}` is no {name}: {shape[1]}.",
                place=f"providers.{row.name}",
                hint=f"Set {variables}, or name the provider `{row.name.partition('@')[0]}@{name.upper()}`.",
            )
    return {**row.params, **known}


_SHAPES = {
    "region": (re.compile(r"[a-z]{2,3}(-[a-z]+)+-\d{1,2}"), "AWS regions look like eu-west-1"),
    "location": (
        re.compile(r"global|us|eu|[a-z]+-[a-z]+\d{1,2}"),
        "Vertex locations look like europe-west1, or are global, us, eu",
    ),
}
"""So that a wrong region is said at start, not by a host name that is not found."""


def _address(given: str, usual: str, place: str) -> str:
    """OLLAMA_HOST is written `host:port`, and `0.0.0.0` where it says what to listen on; the path may be left out."""
    url = given if "://" in given else f"http://{given}"
    url = url.rstrip("/").replace("//0.0.0.0", "//127.0.0.1")
    check_address(url, place)
    return url if urlsplit(url).path else url + urlsplit(usual).path


def _same_site(url: str, usual: str) -> bool:
    """AZURE_OPENAI_ENDPOINT names the vendor's own host: what the vendor says still holds."""
    ours, theirs = (urlsplit(item).hostname or "" for item in (url, usual))
    return ours.split(".")[-2:] == theirs.split(".")[-2:]


def _fill(url: str, row: Provider, environ: Mapping[str, str], keep: tuple[str, ...] = ()) -> str:
    for name in _PLACEHOLDER.findall(url):
        if name not in keep:
            url = url.replace(f"{{{name}}}", _parameter(name, row, environ))
    return _VERTEX_HOST.sub(_vertex_host, url)


_VERTEX_HOST = re.compile(r"://(global|us|eu)-aiplatform\.")


def _vertex_host(match: re.Match[str]) -> str:
    """Not regions but areas, whose hosts are named otherwise (docs.cloud.google.com/vertex-ai, "Locations", 2026)."""
    return "://aiplatform." if match[1] == "global" else f"://aiplatform.{match[1]}.rep."


def _parameter(name: str, row: Provider, environ: Mapping[str, str]) -> str:
    value = _known(name, row, environ)
    if not value:
        variables = row.params_env.get(name, "").split()
        hint = f"Set {' or '.join(variables)}." if variables else None
        raise ConfigError(f"its {name} is not known.", place=f"providers.{row.name}", hint=hint)
    return value


def _known(name: str, row: Provider, environ: Mapping[str, str]) -> str | None:
    if "@" in row.name and name == next(iter(row.params_env)):
        return row.params[name]
    variables = row.params_env.get(name, "").split()
    value = next((environ[item] for item in variables if environ.get(item)), None) or row.params.get(name)
    return value.removeprefix("https://").strip("/") if value else None


def _deployment(host: Host, model: str, card: ModelCard | None, name: str) -> Deployment:
    provider = host.provider
    endpoints = {
        dialect: Endpoint(base_url, _target(provider, model, dialect, card))
        for dialect, base_url in provider.endpoints.items()
    }
    completes = provider.quirks.completions
    if completes and "openai_chat" in endpoints and re.search(completes, model):
        legacy = "openai_completions"
        base_url = provider.endpoints["openai_chat"]
        endpoints[legacy] = Endpoint(base_url, _target(provider, model, legacy, card))
    return Deployment(
        id=f"{provider.name}/{model}",
        provider=provider,
        model=model,
        name=card.name if card else name,
        endpoints=endpoints,
        credentials=host.credentials,
        card=card,
        http2=host.config.http2,
        ca_file=host.config.ca_file,
        static_headers=[(key.lower().encode(), value.encode()) for key, value in provider.headers.items()],
    )


def _target(provider: Provider, model: str, dialect: str, card: ModelCard | None) -> Target:
    target = Target(provider=provider.name, model=model, dialect=dialect, quirks=provider.quirks)
    if card is None:
        return target
    taken = card.input_modalities
    return replace(
        target,
        vision=None if taken is None else "image" in taken,
        pdf=None if taken is None else "pdf" in taken,
        audio=None if taken is None else "audio" in taken,
        tools=card.tools,
        structured_output=card.structured_output,
        reasoning=card.reasoning,
        prefill=card.prefill,
        max_output_tokens=card.max_output,
        adaptive_thinking=card.adaptive_thinking,
    )


def _elsewhere(card: ModelCard | None, provider: str, model: str) -> ModelCard | None:
    """What holds for the same weights at any host: not price, limits, status or what the host's server supports."""
    if card is None:
        return None
    return ModelCard(
        id=model,
        provider=provider,
        name=card.name,
        title=card.title,
        family=card.family,
        reasoning=card.reasoning,
        prefill=card.prefill,
        adaptive_thinking=card.adaptive_thinking,
        embedding=card.embedding,
        released=card.released,
        quality=card.quality,
        quality_source=card.quality_source,
        source=card.source,
        date=card.date,
    )


def _price(written: dict[Any, str], place: str) -> Price:
    """As configured: USD per million tokens, per request and call, and percents of the price."""
    if "input" not in written or "output" not in written:
        raise ConfigError("a price needs `input` and `output`.", place=place)
    try:
        percents = {name: int(text) for name, text in written.items() if name.endswith("_percent")}
        fees = {name: parse_usd(written[name]) for name in _FEES if name in written}
        others = {*percents, *_FEES}
        amounts = {name: _per_token(text) for name, text in written.items() if name not in others}
    except ValueError as error:
        raise ConfigError(str(error), place=place) from error
    tier = PriceTier(
        input=amounts["input"],
        output=amounts["output"],
        cache_read=amounts.get("cache_read"),
        cache_read_audio=amounts.get("cache_read_audio"),
        cache_write_5m=amounts.get("cache_write"),
        cache_write_1h=amounts.get("cache_write_1h", amounts.get("cache_write")),
        input_audio=amounts.get("input_audio"),
        output_audio=amounts.get("output_audio"),
        output_image=amounts.get("output_image"),
        input_image=amounts.get("input_image"),
    )
    if any(amount < 0 for amount in (*fees.values(), *percents.values())):
        raise ConfigError("a price is 0 or more.", place=place)
    return Price(
        tiers=(tier,),
        per_request=fees.get("per_request", 0),
        web_search=fees.get("web_search"),
        file_search=fees.get("file_search"),
        batch_percent=percents.get("batch_percent"),
        priority_percent=percents.get("priority_percent"),
        flex_percent=percents.get("flex_percent"),
        fast_percent=percents.get("fast_percent"),
        us_percent=percents.get("us_percent"),
        source="configuration",
    )


_FEES = ("per_request", "web_search", "file_search")


def _per_token(per_million: str) -> int:
    amount, rest = divmod(parse_usd(per_million), PER_MILLION)
    if rest:
        raise ValueError(f"{per_million} USD per million tokens is finer than we count (6 decimals at most)")
    return amount
