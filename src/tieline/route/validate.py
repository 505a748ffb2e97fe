"""Routes that make no sense are refused when they are loaded, with the place and the fix."""

from __future__ import annotations

from collections.abc import Iterator

from tieline.config.schema import Config, ModelConfig, Routing
from tieline.providers import registry
from tieline.providers.deployment import Deployment
from tieline.route.candidates import policy_reason
from tieline.route.ceiling import USUAL_INPUT, USUAL_OUTPUT
from tieline.route.match import Route, plain
from tieline.route.router import Router
from tieline.route.routing import check, override
from tieline.types.errors import ConfigError, UnknownModel
from tieline.types.money import Pico, format_usd, parse_usd


def validate_routes(config: Config, router: Router) -> list[ConfigError]:
    """Everything that is wrong, not only the first."""
    errors = list(_settings("routing", config.routing))
    for name, model in config.models.items():
        place = f"models.{name}"
        found = list(_names(place, model, router))
        found += _cycle(place, name, config)
        found += _overrides(place, config.routing, model)
        if not found:
            found += _candidates(place, name, config, router)
        errors += found
    return [*errors, *_policy(config)]


def notes(config: Config, router: Router) -> list[ConfigError]:
    """Of routes that make sense: each ``x/y`` that something else serves than a provider x, which may not be meant."""
    found = []
    for name, model in config.models.items():
        for place, wanted in _wanted(f"models.{name}", model, config):
            serving = router.names.astray(wanted)
            if serving is not None:
                found.append(ConfigError(_astray(wanted, serving), place=place))
    return found


def _astray(wanted: str, serving: Deployment) -> str:
    if _is_its_id(wanted, serving):
        return (
            f"{wanted!r} is the id of a model at {serving.provider.name}: {serving.id} serves it, "
            f"not a provider {wanted.partition('/')[0]}."
        )
    return f"{wanted!r} is not to be had here: {serving.id} serves it, the same model elsewhere."


def _is_its_id(wanted: str, serving: Deployment) -> bool:
    """As at aggregators, whose ids have the author before the model."""
    return plain(serving.model) == plain(wanted)


def _policy(config: Config) -> Iterator[ConfigError]:
    for place, provider, near in registry.strangers(config.policy, config.providers):
        hint = f"Did you mean {near}?" if near else "`tieline check` lists those that are set up."
        yield ConfigError(f"there is no provider {provider!r}.", place=place, hint=hint)


def _settings(place: str, routing: Routing) -> Iterator[ConfigError]:
    try:
        check(routing)
    except ValueError as error:
        yield ConfigError(str(error), place=place)
    yield from _ceiling(place, routing)


def _ceiling(place: str, routing: Routing) -> Iterator[ConfigError]:
    if routing.max_cost_usd is None:
        return
    hint = 'Write it as a decimal string such as "0.05".'
    try:
        if parse_usd(routing.max_cost_usd) <= 0:
            yield ConfigError("must be above 0.", place=f"{place}.max_cost_usd", hint=hint)
    except ValueError as error:
        yield ConfigError(str(error), place=f"{place}.max_cost_usd", hint=hint)


def _overrides(place: str, base: Routing, model: ModelConfig) -> Iterator[ConfigError]:
    try:
        routing = override(base, model.routing)
    except ValueError as error:
        yield ConfigError(
            str(error), place=f"{place}.routing", hint=f"Known are: {', '.join(Routing.__struct_fields__)}."
        )
        return
    yield from _ceiling(f"{place}.routing", routing)
    if routing.fallback == "none" and model.fallbacks:
        hint = 'Remove the fallbacks, or set fallback to "listed".'
        yield ConfigError(
            'fallback is "none", so its fallbacks are never tried.', place=f"{place}.fallbacks", hint=hint
        )


def _names(place: str, model: ModelConfig, router: Router) -> Iterator[ConfigError]:
    for where, name in _wanted(place, model, router.config):
        try:
            router.names.resolve(name)
            serving = router.names.astray(name)
        except UnknownModel as error:
            yield ConfigError(error.message, place=where, hint=error.hint)
        else:
            if serving is not None and not _is_its_id(name, serving):
                yield from _no_provider(where, name, serving, router.config)
    if len(set(model.deployments)) < len(model.deployments):
        yield ConfigError(
            "names a deployment twice.", place=f"{place}.deployments", hint="Remove the repetition."
        )


def _wanted(place: str, model: ModelConfig, config: Config) -> Iterator[tuple[str, str]]:
    """What it names, but for fallbacks that are configured names: those are checked under their own."""
    for number, name in enumerate(model.deployments):
        yield f"{place}.deployments[{number}]", name
    for number, name in enumerate(model.fallbacks):
        if name not in config.models:
            yield f"{place}.fallbacks[{number}]", name


def _no_provider(place: str, name: str, serving: Deployment, config: Config) -> Iterator[ConfigError]:
    """A misspelt provider would leave the choice of the host to us; one that is only not set up is a matter of notes."""
    provider, _, model = name.partition("/")
    if registry.is_known(provider, config.providers):
        return
    near = registry.nearest(provider, config.providers)
    yield ConfigError(
        f"there is no provider {provider!r}, and none here has a model with the id {name!r}.",
        place=place,
        hint=f"Did you mean {near}/{model}?" if near else f"Write {serving.id} to have the model from there.",
    )


def _cycle(place: str, start: str, config: Config) -> Iterator[ConfigError]:
    path = _path_back(start, start, config, (start,))
    if path:
        shown = " -> ".join(path)
        hint = f"Remove {path[-1]!r} from the fallbacks of {path[-2]!r}."
        yield ConfigError(f"its fallbacks lead back to it: {shown}.", place=f"{place}.fallbacks", hint=hint)


def _path_back(start: str, at: str, config: Config, path: tuple[str, ...]) -> tuple[str, ...]:
    model = config.models.get(at)
    for name in model.fallbacks if model else ():
        if name == start:
            return (*path, name)
        if name not in path:
            found = _path_back(start, name, config, (*path, name))
            if found:
                return found
    return ()


def _candidates(place: str, name: str, config: Config, router: Router) -> Iterator[ConfigError]:
    try:
        route = router.match(name)
    except UnknownModel as error:
        if config.models[name].deployments:
            yield ConfigError(error.message, place=place, hint=error.hint)
        else:
            hint = "List some under deployments, such as openai/gpt-5-mini."
            yield ConfigError(
                "no candidate: it names no deployment and is no model we know.", place=place, hint=hint
            )
        return
    everyone = [deployment for tier in route.tiers for deployment in tier]
    reasons = {one.id: policy_reason(one, (config.policy,)) for one in everyone}
    if all(reasons.values()):
        shown = "; ".join(f"{one}: {reason}" for one, reason in reasons.items())
        yield ConfigError(
            f"no candidate is left: {shown}.", place=place, hint="Loosen policy, or add a deployment."
        )
    else:
        yield from _too_dear(place, name, route, [one for one in everyone if not reasons[one.id]], router)


def _too_dear(
    place: str, name: str, route: Route, candidates: list[Deployment], router: Router
) -> Iterator[ConfigError]:
    """A ceiling that not even a short request at the cheapest candidate stays under."""
    if route.routing.max_cost_usd is None:
        return
    ceiling = parse_usd(route.routing.max_cost_usd)
    own = "max_cost_usd" in router.config.models[name].routing
    where = f"{place}.routing.max_cost_usd" if own else "routing.max_cost_usd"
    prices = {one.id: _typical(one, router) for one in candidates}
    known = {one: price for one, price in prices.items() if price is not None}
    if not known:
        yield ConfigError(
            "no candidate has a known price, so all are refused under a ceiling.",
            place=where,
            hint="State prices under providers.<name>.prices, or remove the ceiling.",
        )
    elif min(known.values()) > ceiling:
        cheapest = min(known, key=lambda one: known[one])
        yield ConfigError(
            f"{format_usd(ceiling)} USD is below the cheapest candidate: {cheapest} costs {format_usd(known[cheapest])} USD"
            f" for {USUAL_INPUT} tokens in and {USUAL_OUTPUT} out.",
            place=where,
            hint=f"Set it to {format_usd(known[cheapest])} or more.",
        )


def _typical(deployment: Deployment, router: Router) -> Pico | None:
    price = deployment.card.price if deployment.card else None
    return router.upper_bound(price, USUAL_INPUT, USUAL_OUTPUT, None, None, False)
