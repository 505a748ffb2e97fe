"""Small worlds of deployments, as fixtures."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tieline.config.schema import Config
from tieline.dialects.base import Target
from tieline.ledger.pricing import bound_asked
from tieline.providers.card import ModelCard, Price, PriceTier
from tieline.providers.deployment import Deployment, Endpoint
from tieline.providers.row import Credential, DataPolicy, Provider
from tieline.route.health import Health
from tieline.route.router import Router
from tieline.types.money import Pico


def upper_bound(
    price: Price | None,
    input_tokens: int,
    output_tokens: int,
    service_tier: str | None,
    extras: dict[str, int] | None,
    plain: bool,
) -> Pico | None:
    if price is None:
        return None
    if service_tier is not None or extras:
        return bound_asked(price, input_tokens, output_tokens, service_tier, extras, plain)
    tier = [
        one for one in price.tiers if input_tokens > one.above_input_tokens or not one.above_input_tokens
    ][-1]
    return tier.input * input_tokens + tier.output * output_tokens + price.per_request


def make_deployment(
    provider: str,
    model: str,
    *,
    name: str | None = None,
    price: tuple[int, int] | None = (1000, 2000),
    quality: float | dict[str, float] | None = 80.0,
    context: int | None = 100_000,
    max_output: int | None = 4096,
    keys: int = 1,
    edge: str | None = None,
    policy: DataPolicy | None = None,
    percents: dict[str, int] | None = None,
    dialect: str = "openai_chat",
    card: dict[str, Any] | None = None,
    **target: Any,
) -> Deployment:
    known = quality if isinstance(quality, dict) else ({} if quality is None else {"average": quality})
    tiers = () if price is None else (PriceTier(input=price[0], output=price[1]),)
    return Deployment(
        id=f"{provider}/{model}",
        provider=Provider(
            name=provider, title=provider.title(), endpoints={}, edge=edge, policy=policy or DataPolicy()
        ),
        model=model,
        name=name or model,
        endpoints={
            dialect: Endpoint(
                "https://host.test", Target(provider=provider, model=model, dialect=dialect, **target)
            )
        },
        credentials=tuple(
            Credential(f"{provider.upper()}_KEY" + (f"_{n + 1}" if n else ""), "s") for n in range(keys)
        ),
        card=ModelCard(
            id=model,
            provider=provider,
            name=name or model,
            context=context,
            max_output=max_output,
            price=Price(tiers=tiers, **(percents or {})) if tiers else None,
            quality=known,
            **(card or {}),
        ),
    )


def make_router(deployments: list[Deployment], config: Config | None = None, **more: Any) -> Router:
    seed = more.pop("seed", 7)
    health = more.pop("health", None) or Health(Random(seed))
    return Router(
        deployments, config or Config(), health, upper_bound=upper_bound, random=Random(seed), **more
    )


@pytest.fixture
def deployment() -> Callable[..., Deployment]:
    return make_deployment


@pytest.fixture
def router() -> Callable[..., Router]:
    return make_router
