"""How results look in a terminal; with ``--json`` they are one JSON document on stdout."""

from __future__ import annotations

import os
import sys
from typing import Any

import msgspec
from rich import markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tieline.types.money import PICO_PER_USD, Pico

_ENDLESS = 10_000


def _width() -> int | None:
    """What goes into a pipe or a file is not cut, unless COLUMNS says how wide it is to be. None: as wide as the terminal."""
    if sys.stdout is None:  # closed by whoever started this
        return None
    return None if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit() else _ENDLESS


console = Console(highlight=False, width=_width())
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


class _Lines(Table):
    """A cell is one line. Where there is no room the columns in ``giving`` are cut, then the others; figures are folded."""

    giving: frozenset[int] = frozenset()
    figures: frozenset[int] = frozenset()

    def add_row(self, *cells: Any, **more: Any) -> None:
        super().add_row(*map(self.cell, range(len(cells)), cells), **more)

    def cell(self, place: int, said: Any) -> Any:
        if place not in self.giving and place not in self.figures:
            return said
        text = Text.from_markup(said)
        text.no_wrap = place in self.giving
        text.overflow = "ellipsis" if text.no_wrap else "fold"
        return text


def table(
    *columns: str, right: tuple[str, ...] = (), wide: dict[str, int] | None = None, title: str | None = None
) -> Table:
    """A cell is one line. ``wide`` columns have about that many characters at ``NARROW``; what is longer is cut."""
    made = _Lines(
        title=title, header_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left"
    )
    wide = wide or {}
    made.giving = frozenset(place for place, column in enumerate(columns) if column in wide)
    made.figures = frozenset(place for place, column in enumerate(columns) if column in right)
    spare = (console.width - NARROW) / max(1, sum(wide.values()))
    for place, column in enumerate(columns):
        made.add_column(
            made.cell(place, column),
            justify="right" if column in right else "left",
            no_wrap=column not in wide,  # rich takes room from those first that may wrap
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
