"""Finding a row: built in, changed by the configuration, or made by it."""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Iterator
from difflib import get_close_matches
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from tieline.config.schema import PolicyRules, ProviderConfig
from tieline.dialects.base import Quirks
from tieline.providers.checked import check_address, check_headers, check_quirks
from tieline.providers.row import Auth, DataPolicy, Provider
from tieline.providers.rows import ROWS
from tieline.types.errors import ConfigError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(@[A-Za-z0-9._-]+)?\Z")

_BY_NAME = {row.name: row for row in ROWS}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "host.docker.internal"})


def all_rows() -> tuple[Provider, ...]:
    return ROWS


def get(name: str) -> Provider | None:
    """A built-in row. ``bedrock@eu-west-1`` is the row with its first parameter set: one more region of the host."""
    row = _BY_NAME.get(name)
    if row is not None or "@" not in name:
        return row
    base, _, value = name.partition("@")
    row = _BY_NAME.get(base)
    if row is None or not row.params_env:
        return None
    return replace(row, name=name, params={**row.params, next(iter(row.params_env)): value})


def is_known(name: str, configured: Container[str] = ()) -> bool:
    """Built in, or among those that are configured."""
    return name in configured or get(name) is not None


def is_among(name: str, names: Collection[str]) -> bool:
    """Whether one of them means this provider: by its own name or, as it is one more region of a host, by the host's."""
    return name in names or name.partition("@")[0] in names


def strangers(rules: PolicyRules, configured: Collection[str]) -> Iterator[tuple[str, str, str | None]]:
    """Of the providers that rules name, those that are none: the place, the name, and the nearest that is one. Who denies
    `opnai` denies nobody."""
    for rule in ("allow_providers", "deny_providers"):
        for number, name in enumerate(getattr(rules, rule) or ()):
            if not is_known(name, configured):
                yield f"policy.{rule}[{number}]", name, nearest(name, configured)


def nearest(name: str, configured: Iterable[str] = (), *, cutoff: float = 0.6) -> str | None:
    found = get_close_matches(name, dict.fromkeys([*configured, *_BY_NAME]), n=1, cutoff=cutoff)
    return found[0] if found else None


def resolve(name: str, config: ProviderConfig | None) -> Provider:
    """The row that a configuration means. Raises ConfigError with the setting's path as its place."""
    row = get(name)
    if row is None:
        row = _custom(name, config or ProviderConfig())
    return row if config is None else _changed(row, config)


def _custom(name: str, config: ProviderConfig) -> Provider:
    place = f"providers.{name}"
    if not NAME.match(name):
        raise ConfigError(f"`{name}` is no provider name: use a-z, 0-9, `.`, `_`, `-`.", place=place)
    if config.base_url is None:
        near = nearest(name)
        hint = f"did you mean `{near}`?" if near else "a new provider needs `base_url`."
        raise ConfigError(f"unknown provider `{name}`;", place=place, hint=hint)
    auth: Auth = _auth_of(config.dialect) if config.api_key is not None else "none"
    return Provider(
        name=name, title=name, endpoints={config.dialect or "openai_chat": config.base_url}, auth=auth
    )


def _auth_of(dialect: str | None) -> Auth:
    if dialect == "anthropic_messages":
        return "x-api-key"
    return "x-goog-api-key" if dialect == "gemini" else "bearer"


def _changed(row: Provider, config: ProviderConfig) -> Provider:
    if config.base_url is not None:
        check_address(config.base_url, f"providers.{row.name}.base_url")
    check_headers(config.headers, f"providers.{row.name}.headers")
    return replace(
        row,
        endpoints=_endpoints(row, config),
        auth=config.auth or _keyed(row, config),
        headers={**row.headers, **config.headers},
        quirks=_quirks(row, config),
        edge=config.edge or (row.edge if config.base_url is None else None),
        policy=_policy(row, config),
    )


def _keyed(row: Provider, config: ProviderConfig) -> Auth:
    """A local host that was given a key wants it as a bearer token."""
    return "bearer" if row.auth == "none" and config.api_key is not None else row.auth


def _endpoints(row: Provider, config: ProviderConfig) -> dict[str, str]:
    if config.dialect is None and config.base_url is None:
        return row.endpoints
    dialect: str = config.dialect or next(iter(row.endpoints))
    base_url = config.base_url or row.endpoints.get(dialect)
    if base_url is None:
        spoken = ", ".join(row.endpoints)
        raise ConfigError(
            f"`{row.name}` is known to speak {spoken}, not {dialect};",
            place=f"providers.{row.name}.dialect",
            hint="set `base_url` too if it does.",
        )
    base_url = base_url.rstrip("/")
    if config.dialect is not None:
        return {dialect: base_url}
    # What is at one address (OpenAI's two APIs, at OpenAI and Azure) moves together.
    return {name: base_url for name, url in row.endpoints.items() if url == row.endpoints[dialect]}


def _quirks(row: Provider, config: ProviderConfig) -> Quirks:
    if not config.quirks:
        return row.quirks
    place = f"providers.{row.name}.quirks"
    known = Quirks.__struct_fields__
    for key in config.quirks:
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.6)
            hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"unknown quirk `{key}`;", place=f"{place}.{key}", hint=hint)
    try:
        changes = msgspec.convert(config.quirks, Quirks)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error), place=place) from error
    quirks = replace(row.quirks, **{key: getattr(changes, key) for key in config.quirks})
    check_quirks(quirks, place)
    return quirks


def _policy(row: Provider, config: ProviderConfig) -> DataPolicy:
    policy = row.policy if config.base_url is None else policy_at(config.base_url)
    if config.jurisdictions is not None:
        policy = replace(policy, jurisdictions=tuple(config.jurisdictions))
    if config.no_training is not None:
        policy = replace(policy, trains=not config.no_training)
    if config.zero_retention is not None:
        policy = replace(policy, retention_days=0 if config.zero_retention else None)
    return policy


def policy_at(url: str) -> DataPolicy:
    """What holds at an address that is not the vendor's: nothing is known, unless it is this machine."""
    if (urlsplit(url).hostname or "") not in _LOOPBACK:
        return DataPolicy()
    return DataPolicy(jurisdictions=("local",), retention_days=0, trains=False)
