"""``tieline prices``: our figures beside those of ``genai-prices``, which computes on its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Struct

from tieline.cli.terminal import console, escape, table, write_json
from tieline.cli.types import JsonOption
from tieline.ledger import pricing
from tieline.providers import catalog
from tieline.providers.card import ModelCard, Price
from tieline.types.errors import ConfigError
from tieline.types.money import PICO_PER_USD, Pico, format_usd
from tieline.types.usage import CALLS, Usage

app = typer.Typer(no_args_is_help=True, help="Whether our figures agree with another's.")

THEIRS = {
    "bedrock": "aws",
    "azure-deployments": "azure",
    "moonshot": "moonshotai",
    "vertex": "google",
    "vertex-anthropic": "google",
    "xai": "x-ai",
    "zhipu": "zhipuai",
}
"""Our provider -> its name in genai-prices, where it differs."""
ROUNDING = 10
"""Pico-dollars: we round each of ten kinds of token once."""


class Difference(Struct, frozen=True, kw_only=True):
    model: str
    usage: Usage
    ours_usd: str
    theirs_usd: str
    price_source: str


@app.callback()
def root() -> None:
    pass


@app.command()
def check(
    samples: Annotated[int, typer.Option(help="Generated usages for each model.")] = 20,
    seed: Annotated[int, typer.Option(help="Decides the usages.")] = 0,
    source: Annotated[str, typer.Option(help="Only prices from this source; '' for all.")] = "genai-prices",
    as_json: JsonOption = False,
) -> None:
    """Compare our cost with that of genai-prices on generated usages, for every model both price. Exit code 1: differ."""
    calculate = _calculator()
    rng, compared, unknown = Random(seed), 0, 0
    differing: list[Difference] = []
    for card in catalog.packaged().search(""):
        if card.price is None or not card.price.source.startswith(source):
            continue
        found = _first_difference(card, card.price, calculate, rng, samples)
        if found is None:
            unknown += 1
            continue
        compared += 1
        differing += found
    if as_json:
        write_json(
            {
                "compared": compared,
                "not_there": unknown,
                "usages": compared * samples,
                "differences": msgspec.to_builtins(differing),
            }
        )
    else:
        _print(differing, compared, unknown, samples)
    raise typer.Exit(1 if differing else 0)


def _first_difference(
    card: ModelCard, price: Price, calculate: Any, rng: Random, samples: int
) -> list[Difference] | None:
    """At most one for each model; None when genai-prices does not have it."""
    at = _weekday(datetime.now(UTC))
    provider = THEIRS.get(card.provider, card.provider)
    for usage in usages(price, rng, samples):
        theirs = calculate(usage, card.id, provider, at)
        if theirs is None:
            return None
        ours = pricing.cost(price, usage, at_unix=at.timestamp())
        if ours is None or abs(ours - theirs) > ROUNDING:
            return [
                Difference(
                    model=f"{card.provider}/{card.id}",
                    usage=usage,
                    ours_usd=format_usd(ours),
                    theirs_usd=format_usd(theirs),
                    price_source=f"{price.source} {price.date}".strip(),
                )
            ]
    return []


def _weekday(moment: datetime) -> datetime:
    """The same hour of the last weekday: genai-prices knows hours of the day, we also know free weekends."""
    return moment - timedelta(days=max(0, moment.weekday() - 4))


def usages(price: Price, rng: Random, count: int) -> Iterator[Usage]:
    """Small and large ones on both sides of each tier, with whatever else has a price: caches, audio, images, searches, fast
    mode. What genai-prices does not know (``us``) is left out."""
    tops = [1_000, *(tier.above_input_tokens for tier in price.tiers if tier.above_input_tokens)]
    for _ in range(count):
        top = rng.choice(tops)
        total = max(1, top + rng.choice((-1, 0, 1, rng.randrange(-top, 2 * top))))
        read = rng.randrange(total + 1) if _stated(price, "cache_read") and rng.random() < 0.5 else 0
        write = (
            rng.randrange(total - read + 1) if _stated(price, "cache_write_5m") and rng.random() < 0.5 else 0
        )
        output = rng.choice((0, 1, rng.randrange(10_000)))
        usage = Usage(
            input_tokens=total, cache_read_tokens=read, cache_write_5m_tokens=write, output_tokens=output
        )
        _add_extras(usage, price, rng)
        yield usage


def _add_extras(usage: Usage, price: Price, rng: Random) -> None:
    extras: dict[str, int] = {}
    if _stated(price, "input_audio") and rng.random() < 0.5:
        rest = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_5m_tokens
        usage.input_audio_tokens = rng.randrange(rest + 1)
        if _stated(price, "cache_read_audio"):
            extras["cache_read_audio"] = rng.randrange(usage.cache_read_tokens + 1)
            usage.input_audio_tokens += extras["cache_read_audio"]
    if _stated(price, "output_image") and rng.random() < 0.5:
        extras["output_image"] = rng.randrange(usage.output_tokens + 1)
    for name in sorted(CALLS):
        if getattr(price, name) is not None and rng.random() < 0.5:
            extras[name] = rng.randrange(1, 20)
    if price.fast_percent is not None and rng.random() < 0.3:
        extras["fast"] = 1
    usage.extras = {name: count for name, count in extras.items() if count} or None


def _stated(price: Price, kind: str) -> bool:
    return all(getattr(tier, kind) is not None for tier in price.tiers)


def _calculator() -> Any:
    try:
        from genai_prices import Usage as Theirs
        from genai_prices import calc_price
    except ModuleNotFoundError:
        raise ConfigError("This needs the package genai-prices.", hint="pip install genai-prices") from None

    def calculate(usage: Usage, model: str, provider: str, at: datetime) -> Pico | None:
        given: dict[str, int] = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
        if usage.cache_read_tokens:
            given["cache_read_tokens"] = usage.cache_read_tokens
        if usage.cache_write_5m_tokens:
            given["cache_write_tokens"] = usage.cache_write_5m_tokens
        if usage.input_audio_tokens:
            # It asks for what of the audio was cached, also where that is nothing.
            given |= {"input_audio_tokens": usage.input_audio_tokens, "cache_audio_read_tokens": 0}
        extras = usage.extras or {}
        given |= {theirs: extras[ours] for ours, theirs in _UNITS.items() if ours in extras}
        context = (
            {"speed" if provider == "anthropic" else "service_tier": "fast"} if "fast" in extras else None
        )
        try:
            found = calc_price(
                Theirs(**given),
                model,
                provider_id=provider,
                genai_request_timestamp=at,
                price_context=context,
            )
        except LookupError:
            return None
        exact: Decimal = found.total_price * PICO_PER_USD
        return int(exact.to_integral_value())

    return calculate


_UNITS = {
    "cache_read_audio": "cache_audio_read_tokens",
    "output_image": "output_image_tokens",
    "web_search": "web_searches",
    "file_search": "storage_searches",
}
"""Of ours, to genai-prices' names."""


def _print(differing: list[Difference], compared: int, unknown: int, samples: int) -> None:
    rows = table("model", "in", "cached", "out", "ours $", "theirs $", right=("in", "cached", "out"))
    for one in differing:
        rows.add_row(
            escape(one.model),
            f"{one.usage.input_tokens:,}",
            f"{one.usage.cache_read_tokens + one.usage.cache_write_5m_tokens:,}",
            f"{one.usage.output_tokens:,}",
            one.ours_usd,
            one.theirs_usd,
        )
    if differing:
        console.print(rows)
    console.print(
        f"{compared} models compared on {samples} usages each, {unknown} not in genai-prices, {len(differing)} differ"
    )
