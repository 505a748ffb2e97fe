"""What of a scenario can only be told from its fleet: unknown providers and models, routes and ceilings that let nothing through."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from tieline.config.load import ConfigErrors
from tieline.config.schema import Config
from tieline.drills.fleet import keyed, twin
from tieline.drills.scenario import Scenario
from tieline.gateway import Gateway
from tieline.ledger.pricing import upper_bound
from tieline.providers import catalog
from tieline.providers.deployment import Deployment
from tieline.types.errors import ConfigError, UnknownModel
from tieline.types.money import format_usd, parse_usd

_NOWHERE = "http://127.0.0.1:9"
PROMPT_TOKENS = 50
"""Of the load's requests, at least."""


def impossible(scenario: Scenario) -> list[ConfigError]:
    """Each with the setting's path as its place; nothing is started."""
    try:
        gateway = _gateway(scenario)
    except ValueError as error:
        return [ConfigError(f"{error}.", place="keys", hint="`tieline providers` lists those there are.")]
    except ConfigErrors as errors:
        return [_below(one) for one in errors.errors]
    except ConfigError as error:
        return [_below(error)]
    return [*_absent(scenario, gateway), *_unserved(scenario, gateway)]


def _gateway(scenario: Scenario) -> Gateway:
    config: Config = twin(scenario.config, keyed(*scenario.keys), _NOWHERE)
    return Gateway(config, environ={}, dry=True)


def _below(error: ConfigError) -> ConfigError:
    return ConfigError(
        error.message, place=f"config.{error.place}" if error.place else "config", hint=error.hint
    )


def _absent(scenario: Scenario, gateway: Gateway) -> Iterator[ConfigError]:
    """Providers that are spoken of and not there: nothing would happen to them."""
    hosts = sorted(gateway.fleet.hosts)
    hint = f"There are: {', '.join(hosts) or 'none'}. Add it to keys or to config.providers."
    if not any(fnmatchcase(name, scenario.hit.provider) for name in hosts):
        yield ConfigError(
            f"no provider is called `{scenario.hit.provider}`.", place="hit.provider", hint=hint
        )
    for number, phase in enumerate(scenario.phases):
        if not any(fnmatchcase(name, phase.provider) for name in hosts):
            place = f"phases[{number}].provider"
            yield ConfigError(f"no provider is called `{phase.provider}`.", place=place, hint=hint)
    for number, name in enumerate(scenario.goals.only or ()):
        if name not in hosts:
            yield ConfigError(f"no provider is called `{name}`.", place=f"goals.only[{number}]", hint=hint)


def _is_made_up(deployment: Deployment, gateway: Gateway) -> bool:
    """Any name is asked of a provider, as its models may be newer than the catalog; here, it is a misspelt one."""
    host = gateway.fleet.hosts[deployment.provider.name]
    listed = catalog.packaged().ids_of(host.catalog_name)
    return deployment.card is None and host.config.models is None and bool(listed)


def _unserved(scenario: Scenario, gateway: Gateway) -> Iterator[ConfigError]:
    """Models nobody serves, and a ceiling below what the cheapest of them costs."""
    for number, name in enumerate(scenario.load.models):
        try:
            route = gateway.line.router.match(name)
        except UnknownModel as error:
            yield ConfigError(error.message, place=f"load.models[{number}]", hint=error.hint)
            continue
        if _is_made_up(route.reference, gateway):
            near = gateway.line.router.names.nearest(name)
            yield ConfigError(
                f"`{name}` is no model that the catalog knows.",
                place=f"load.models[{number}]",
                hint=f"Did you mean {' or '.join(near)}?"
                if near
                else "`tieline models` lists those there are.",
            )
            continue
        limit = scenario.load.max_cost_usd
        if limit is None:
            continue
        cards = [one.card for tier in route.tiers for one in tier if one.card]
        prices = [upper_bound(card.price, PROMPT_TOKENS, scenario.load.max_tokens) for card in cards]
        cheapest = min((one for one in prices if one is not None), default=None)
        if cheapest is None or cheapest > parse_usd(limit):
            costs = "has no known price" if cheapest is None else f"costs up to {format_usd(cheapest)} USD"
            yield ConfigError(
                f"{limit} USD is below the cheapest candidate: a request for {name} {costs}.",
                place="load.max_cost_usd",
                hint="Raise it, or lower load.max_tokens.",
            )
