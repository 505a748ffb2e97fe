"""How results look in a terminal; with ``--json`` they are one JSON document on stdout."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from rich import markup
from rich.console import Console
from rich.table import Table

from tieline.types.money import PICO_PER_USD, Pico

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def escape(text: str, *, lines: bool = False) -> str:
    """Text of others, which may hold markup, and sequences that a terminal obeys. ``lines``: several are meant."""
    kept = (
        text
        if text.isprintable()
        else "".join(char if char.isprintable() or (lines and char == "\n") else "\ufffd" for char in text)
    )
    return markup.escape(kept)


def write_json(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2) + b"\n")
    sys.stdout.buffer.flush()


NARROW = 100
"""What every table fits; what a terminal has beyond it goes to the columns of ``wide``, what it lacks is theirs to lack."""
_LEAST = 6


def table(
    *columns: str, right: tuple[str, ...] = (), wide: dict[str, int] | None = None, title: str | None = None
) -> Table:
    """A cell is one line. ``wide`` columns have about that many characters at ``NARROW``; what is longer is cut."""
    made = Table(
        title=title, header_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left"
    )
    wide = wide or {}
    spare = (console.width - NARROW) / max(1, sum(wide.values()))
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=True,
            overflow="ellipsis",
            max_width=max(_LEAST, int(wide[column] * (1 + spare))) if column in wide else None,
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
