"""Fleets whose providers are simulated: small ones for single faults, and twins of somebody's own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from tieline.config.schema import Config, ModelConfig, ProviderConfig, Routing
from tieline.providers import build, catalog
from tieline.providers.build import Fleet, Host

PRICE = {"input": "1", "output": "4"}
"""USD per million tokens of every simulated model that the catalog does not price."""
_SIMULATED_AUTH = {"anthropic_messages": "x-api-key", "gemini": "x-goog-api-key"}


def provider(url: str, name: str, dialect: str = "openai_chat", **more: Any) -> ProviderConfig:
    """A provider called ``name`` at the simulator's ``url``."""
    keys = more.pop("keys", ["simulated-key-1"])
    return ProviderConfig(
        base_url=f"{url}/{name}{_PATHS.get(dialect, '')}",
        dialect=dialect,  # type: ignore[arg-type]
        api_key=keys if len(keys) > 1 else keys[0],
        auth=more.pop("auth", _SIMULATED_AUTH.get(dialect, "bearer")),
        **more,
    )


_PATHS = {"openai_chat": "/v1", "openai_responses": "/v1"}


def fleet(url: str, *ways: str, routing: Routing | None = None, **providers: dict[str, Any]) -> Config:
    """One public model, ``m``: the first of ``ways`` (``provider/model``) serves it, the others are its fallbacks.

    ``providers`` says what is special about some: ``alpha={"dialect": "anthropic_messages"}``.
    """
    models: dict[str, set[str]] = {}
    for way in ways:
        name, _, model = way.partition("/")
        models.setdefault(name, set()).add(model)
    made = {
        name: provider(
            url, name, **{"prices": dict.fromkeys(sorted(known), PRICE), **providers.get(name, {})}
        )
        for name, known in models.items()
    }
    return Config(
        providers=made,
        models={"m": ModelConfig(deployments=[ways[0]], fallbacks=list(ways[1:]))},
        routing=routing or Routing(fallback="listed"),
        discover=False,
    )


def twin(config: Config, environ: Mapping[str, str], url: str) -> Config:
    """``config`` with every provider it can use replaced by a simulated one of the same name, models, prices, data
    policy and edge. Only shapes are taken over, no secret. Raises ConfigError."""
    found = build.build(config, environ, catalog.packaged())
    return replace(
        config,
        providers={name: _twin(host, url) for name, host in found.hosts.items()},
        discover=False,
    )


def _twin(host: Host, url: str) -> ProviderConfig:
    row, policy = host.provider, host.provider.policy
    dialect, address = next(iter(row.endpoints.items()))
    path = (
        "" if "{" in row.quirks.path or row.quirks.path.startswith("/v1/projects") else urlsplit(address).path
    )
    keys = [f"simulated-key-{number}" for number in range(1, len(host.credentials) + 1)]
    return replace(
        host.config,
        base_url=f"{url}/{row.name}{path}",
        dialect=dialect,
        api_key=keys if len(keys) > 1 else keys[0],
        auth=_SIMULATED_AUTH.get(dialect, "bearer"),
        headers={},
        quirks={**host.config.quirks, **({"path": ""} if row.quirks.path else {})},
        jurisdictions=list(policy.jurisdictions) if policy.jurisdictions is not None else None,
        no_training=None if policy.trains is None else not policy.trains,
        zero_retention=None if policy.retention_days is None else policy.retention_days == 0,
        edge=row.edge,
        ca_file=None,
        http2=False,
    )


_PLACES = {"region": "us-east-1"}
"""Where a cloud is used when its row does not say."""


def keyed(*providers: str) -> dict[str, str]:
    """An environment in which these providers have a key; what a user with just those keys has."""
    from tieline.providers import registry

    environ: dict[str, str] = {}
    for name in providers:
        row = registry.get(name)
        if row is None or not row.env:
            raise ValueError(f"unknown provider {name!r}")
        environ[row.env[0]] = "simulated-key-1"
        for param, variables in row.params_env.items():
            environ[variables.split()[0]] = row.params.get(param) or _PLACES.get(param, "drill")
    return environ


__all__ = ["Fleet", "fleet", "keyed", "provider", "twin"]
