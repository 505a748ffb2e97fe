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
from tieline.types.usage import Usage

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
ROUNDING = 8
"""Pico-dollars: we round each of eight kinds of token once."""


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
    """Small and large ones on both sides of each tier, with caches where their price is stated."""
    tops = [1_000, *(tier.above_input_tokens for tier in price.tiers if tier.above_input_tokens)]
    for _ in range(count):
        top = rng.choice(tops)
        total = max(1, top + rng.choice((-1, 0, 1, rng.randrange(-top, 2 * top))))
        read = rng.randrange(total + 1) if _stated(price, "cache_read") and rng.random() < 0.5 else 0
        write = (
            rng.randrange(total - read + 1) if _stated(price, "cache_write_5m") and rng.random() < 0.5 else 0
        )
        yield Usage(
            input_tokens=total,
            cache_read_tokens=read,
            cache_write_5m_tokens=write,
            output_tokens=rng.choice((0, 1, rng.randrange(10_000))),
        )


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
        try:
            found = calc_price(Theirs(**given), model, provider_id=provider, genai_request_timestamp=at)
        except LookupError:
            return None
        exact: Decimal = found.total_price * PICO_PER_USD
        return int(exact.to_integral_value())

    return calculate


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
