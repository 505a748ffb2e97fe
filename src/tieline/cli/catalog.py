"""``tieline models``: what the catalog knows, and what of it your providers can serve."""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from tieline.cli.terminal import console, escape, table, write_json
from tieline.config.load import find, load
from tieline.providers import build, catalog, registry
from tieline.providers.card import ModelCard, OffPeak, Price
from tieline.providers.row import DataPolicy
from tieline.types.errors import UnknownModel
from tieline.types.money import PER_MILLION, format_usd


def models(query: list[str], path: Path | None, as_json: bool, configured: bool, limit: int) -> None:
    known = catalog.packaged()
    fleet = build.build(load(path or find(os.environ), os.environ).config, os.environ, known)
    if query[:1] == ["show"] and len(query) > 1:
        _show(known, fleet, query[1], as_json)
        return
    own = [card for card in _own(known, fleet) if _matches(card, query)]
    found = own + known.search(" ".join(query))
    if configured:
        found = [card for card in found if _served(card, fleet)]
    total, names = len(found), len({card.name for card in found})
    found.sort(key=lambda card: (not _served(card, fleet), card.name, card.provider))
    if limit:
        found = found[:limit]
    if as_json:
        write_json(
            {
                "count": total,
                "names": names,
                "providers_configured": sorted(fleet.hosts),
                "models": [line(card, _served(card, fleet)) for card in found],
            }
        )
        return
    if not found:
        console.print(f"No model of the catalog or the configuration holds {escape(' '.join(query))!r}.")
        return
    rows = table(
        "model",
        "context",
        "in $/M",
        "out $/M",
        "can",
        "quality",
        "",
        right=("context", "in $/M", "out $/M", "quality"),
    )
    for column in rows.columns:
        # A narrow terminal folds names and abilities; a figure is never cut.
        column.no_wrap = column.header not in ("model", "can")
        column.overflow = "fold"
    for card in found:
        rows.add_row(
            escape(f"{card.provider}/{card.id}"),
            _short(card.context),
            _price(card, "input"),
            _price(card, "output"),
            _abilities(card),
            f"{card.quality['average']:.1f}" if "average" in card.quality else "",
            "[green]configured[/]" if _served(card, fleet) else "",
        )
    console.print(rows)
    console.print(f"\n[dim]{len(found)} of {total} shown (--limit 0 for all) · tieline models show NAME[/]")


def _own(known: catalog.Catalog, fleet: build.Fleet) -> list[ModelCard]:
    """Configured models that are not in the catalog under their provider: a user's own hosts, deployments, fine-tunes."""
    found = []
    for provider, host in fleet.hosts.items():
        have = set(known.ids_of(host.catalog_name))
        for model in dict.fromkeys((*(host.config.models or ()), *host.config.prices)):
            if model not in have:
                made = fleet.build_one(provider, model)
                card = made.card or ModelCard(id=model, provider=provider, name=made.name, embedding=None)
                found.append(replace(card, id=model, provider=provider))
    return found


def _matches(card: ModelCard, query: list[str]) -> bool:
    said = f"{card.provider}/{card.id} {card.name}".lower()
    return all(word.lower() in said for word in query)


def _served(card: ModelCard, fleet: build.Fleet) -> bool:
    """By a configured host, in whatever region, whose list of models has it."""
    return any(
        card.provider in (host.provider.name, host.catalog_name) and _offers(host, card.id)
        for host in fleet.hosts.values()
    )


def _offers(host: build.Host, model: str) -> bool:
    if host.config.models is None and not host.provider.account_models:
        return True
    return model in (*(host.config.models or ()), *host.config.prices)


def line(card: ModelCard, configured: bool) -> dict[str, Any]:
    return {
        "id": f"{card.provider}/{card.id}",
        "name": card.name,
        "configured": configured,
        "context": card.context,
        "max_output": card.max_output,
        "input_usd_per_million": _price(card, "input", None),
        "output_usd_per_million": _price(card, "output", None),
        "tools": card.tools,
        "structured_output": card.structured_output,
        "reasoning": card.reasoning,
        "input_modalities": card.input_modalities,
        "status": card.status,
        "quality": card.quality,
        "source": _source(card),
        "price_source": f"{card.price.source} {card.price.date}" if card.price else None,
    }


def _source(card: ModelCard) -> str:
    return f"{card.source} {card.date}".strip() or "configuration"


def _short(tokens: int | None) -> str:
    if not tokens:
        return "?"
    for unit, size in (("M", 1_000_000), ("K", 1_000)):
        if tokens >= size:
            return f"{tokens / size:.3g}{unit}"
    return str(tokens)


def _price(card: ModelCard, kind: str, unknown: Any = "?") -> Any:
    if card.price is None or not card.price.tiers:
        return unknown
    return format_usd(getattr(card.price.tiers[0], kind) * PER_MILLION)


def _abilities(card: ModelCard) -> str:
    able = [name for name in ("tools", "structured_output", "reasoning") if getattr(card, name)]
    inputs = [kind for kind in card.input_modalities or () if kind != "text"]
    return ", ".join([*(name.replace("structured_output", "json") for name in able), *inputs])


def _show(known: catalog.Catalog, fleet: build.Fleet, name: str, as_json: bool) -> None:
    provider, _, model = name.partition("/")
    one = known.card(provider, model) if model else None
    own = [card for card in _own(known, fleet) if name in (f"{card.provider}/{card.id}", card.id, card.name)]
    if one is not None:
        cards = [one]
    elif any(f"{card.provider}/{card.id}" == name for card in own):
        cards = own
    else:
        cards = own + known.by_name(known.name_of(name))
    if not cards:
        raise UnknownModel(f"The catalog has no {name!r}.", hint=_perhaps(known, name))
    if as_json:
        write_json([{**msgspec.to_builtins(card), "configured": _served(card, fleet)} for card in cards])
        return
    for card in cards:
        _print_card(card, fleet)


def _perhaps(known: catalog.Catalog, name: str) -> str:
    near = [f"{card.provider}/{card.id}" for card in known.search(name)[:3]]
    near = near or get_close_matches(
        name.rpartition("/")[2].lower(), {card.name for card in known.search("")}, n=3
    )
    return f"Perhaps {', '.join(near)}." if near else "`tieline models WORD` searches."


def _print_card(card: ModelCard, fleet: build.Fleet) -> None:
    console.print(
        f"[bold]{escape(card.provider)}/{escape(card.id)}[/]  {escape(card.title)}"
        + ("  [green]configured[/]" if _served(card, fleet) else "")
    )
    rows = table("", "")
    rows.show_header = False
    known = list(facts(card))
    rows.columns[0].min_width = max(len(label) for label, _ in known)
    rows.columns[1].no_wrap, rows.columns[1].overflow = False, "fold"
    for label, value in known:
        rows.add_row(f"[dim]{label}[/]", escape(value))
    console.print(rows)
    console.print()


def facts(card: ModelCard) -> Iterator[tuple[str, str]]:
    """Everything known, as a person reads it: (what, value)."""
    yield "the same model", card.name
    yield "status", card.status + (f", released {card.released}" if card.released else "")
    limits = (
        ("context", card.context),
        ("input at most", card.max_input),
        ("output at most", card.max_output),
    )
    yield from ((label, f"{tokens:,} tokens") for label, tokens in limits if tokens)
    yield "takes", ", ".join(card.input_modalities or ()) or "unknown"
    yield "gives", "embeddings" if card.embedding else ", ".join(card.output_modalities or ()) or "unknown"
    for field, label in _ABILITIES.items():
        value = getattr(card, field)
        if value is not None:
            yield label, "yes" if value else "no"
    if card.quality:
        figures = sorted(card.quality.items(), key=lambda item: (item[0] != "average", item[0]))
        yield "quality", ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in figures)
        yield "  from", card.quality_source or "unknown"
    if card.price is not None:
        yield from _prices(card.price)
    yield "facts from", _source(card)
    row = registry.get(card.provider)
    if row is not None:
        yield "data policy", policy(row.policy)


_ABILITIES = {
    "tools": "tools",
    "structured_output": "JSON schema",
    "reasoning": "reasoning",
    "temperature": "temperature",
    "prefill": "assistant prefill",
    "adaptive_thinking": "adaptive thinking",
}


def _prices(price: Price) -> Iterator[tuple[str, str]]:
    for tier in price.tiers:
        above = f", over {tier.above_input_tokens:,} in" if tier.above_input_tokens else ""
        parts = [
            f"{field.replace('_', ' ')} {format_usd(amount * PER_MILLION)}"
            for field in tier.__struct_fields__
            if field != "above_input_tokens" and (amount := getattr(tier, field)) is not None
        ]
        yield f"$/M tokens{above}", ", ".join(parts)
    if price.per_request:
        yield "$ per request", format_usd(price.per_request)
    for name, label in (("web_search", "web search"), ("file_search", "file search")):
        fee = getattr(price, name)
        if fee is not None:
            yield f"$ per {label}", format_usd(fee)
    for label in ("batch", "priority", "flex", "fast", "us"):
        percent = getattr(price, f"{label}_percent")
        if percent is not None:
            yield f"  {label}", f"{percent} % of it"
    for span in price.off_peak:
        yield (
            f"  {_clock(span.start)}-{_clock(span.end)}",
            f"{span.percent} % of it, {_days(span)}, {_zone(price)}",
        )
    yield "  from", f"{price.source} {price.date}".strip()


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _days(span: OffPeak) -> str:
    names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    return "every day" if len(span.days) == len(names) else " ".join(names[day] for day in span.days)


def _zone(price: Price) -> str:
    if not price.zone_minutes:
        return "UTC"
    sign = "-" if price.zone_minutes < 0 else "+"
    return f"UTC{sign}{_clock(abs(price.zone_minutes))}"


def policy(given: DataPolicy) -> str:
    """What the vendor says, or why it is not known."""
    place = ", ".join(given.jurisdictions) if given.jurisdictions else "unknown"
    kept = "unknown" if given.retention_days is None else f"{given.retention_days} days"
    trained = {None: "unknown", True: "yes", False: "no"}[given.trains]
    source = f" ({given.source}, read {given.date})" if given.source else ""
    note = f"; {given.note}" if given.note else ""
    return f"place {place}; kept {kept}; trained on {trained}{note}{source}"
