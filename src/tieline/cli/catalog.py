"""``tieline models``: what the catalog knows, and what of it your providers can serve."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
from rich.markup import escape

from tieline.cli.terminal import console, table, write_json
from tieline.config.load import find, load
from tieline.providers import build, catalog
from tieline.providers.card import ModelCard
from tieline.types.errors import UnknownModel
from tieline.types.money import PER_MILLION, format_usd


def models(query: list[str], path: Path | None, as_json: bool, configured: bool, limit: int) -> None:
    known = catalog.packaged()
    fleet = build.build(load(path or find(os.environ), os.environ).config, os.environ, known)
    if query[:1] == ["show"] and len(query) > 1:
        _show(known, fleet, query[1], as_json)
        return
    found = known.search(" ".join(query))
    if configured:
        found = [card for card in found if card.provider in fleet.hosts]
    total = len(found)
    found.sort(key=lambda card: (card.provider not in fleet.hosts, card.name, card.provider))
    if limit:
        found = found[:limit]
    if as_json:
        write_json(
            {
                "count": total,
                "names": len({card.name for card in found}),
                "providers_configured": sorted(fleet.hosts),
                "models": [line(card, card.provider in fleet.hosts) for card in found],
            }
        )
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
    for card in found:
        rows.add_row(
            escape(f"{card.provider}/{card.id}"),
            f"{card.context:,}" if card.context else "?",
            _price(card, "input"),
            _price(card, "output"),
            _abilities(card),
            f"{card.quality['average']:.1f}" if "average" in card.quality else "",
            "[green]configured[/]" if card.provider in fleet.hosts else "",
        )
    console.print(rows)
    console.print(f"\n[dim]{len(found)} of {total} shown (--limit 0 for all) · tieline models show NAME[/]")


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
    }


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
    cards = [one] if one is not None else known.by_name(known.name_of(name))
    if not cards:
        near = ", ".join(f"{card.provider}/{card.id}" for card in known.search(name)[:3])
        raise UnknownModel(
            f"The catalog has no {name!r}.",
            hint=f"Perhaps {near}." if near else "`tieline models WORD` searches.",
        )
    if as_json:
        write_json(
            [{**msgspec.to_builtins(card), "configured": card.provider in fleet.hosts} for card in cards]
        )
        return
    for card in cards:
        console.print(
            f"[bold]{escape(card.provider)}/{escape(card.id)}[/]  {escape(card.title)}"
            + ("  [green]configured[/]" if card.provider in fleet.hosts else "")
        )
        rows = table("", "")
        rows.show_header = False
        for key, value in msgspec.to_builtins(card).items():
            if key not in ("id", "provider", "title", "price") and value not in (None, [], {}):
                rows.add_row(f"[dim]{key}[/]", escape(str(value)))
        if card.price is not None:
            for tier in card.price.tiers:
                above = f" above {tier.above_input_tokens:,} input tokens" if tier.above_input_tokens else ""
                parts = {
                    field: format_usd(amount * PER_MILLION)
                    for field in tier.__struct_fields__
                    if field != "above_input_tokens" and (amount := getattr(tier, field)) is not None
                }
                rows.add_row(
                    f"[dim]$ per million{above}[/]",
                    ", ".join(f"{field} {amount}" for field, amount in parts.items()),
                )
            rows.add_row("[dim]price source[/]", escape(f"{card.price.source} {card.price.date}"))
        console.print(rows)
        console.print()
