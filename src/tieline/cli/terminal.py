"""How results look in a terminal; with ``--json`` they are one JSON document on stdout."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from tieline.types.money import PICO_PER_USD, Pico

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def write_json(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2) + b"\n")
    sys.stdout.buffer.flush()


_WHOLE = {"request": 14, "when": 8, "tries": 5, "first": 8, "total": 8, "cost $": 8, "outcome": 7}
"""Columns that keep at least this width; the others give way."""


def table(*columns: str, right: tuple[str, ...] = (), title: str | None = None) -> Table:
    """A cell is one line, cut with an ellipsis where the terminal is narrow."""
    made = Table(title=title, header_style="bold", box=None, pad_edge=False, title_justify="left")
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=_WHOLE.get(column),
        )
    return made


def rounded_usd(amount: Pico | None) -> str:
    """For the eye: six decimals. Exact figures are in ``show`` and ``--json``."""
    if amount is None:
        return "unknown"
    if 0 < amount < PICO_PER_USD // 1_000_000:
        return "<0.000001"
    micro = (amount + 500_000) // 1_000_000
    return f"{micro // 1_000_000}.{micro % 1_000_000:06d}"


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.1f} ms"


def outcome_style(outcome: str) -> str:
    if outcome == "success":
        return f"[green]{outcome}[/]"
    return f"[yellow]{outcome}[/]" if outcome in ("refused", "caller_gone") else f"[red]{outcome}[/]"
