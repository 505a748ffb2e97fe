"""How results look in a terminal; with ``--json`` they are one JSON document on stdout."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def write_json(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2) + b"\n")
    sys.stdout.buffer.flush()


def table(*columns: str, right: tuple[str, ...] = (), title: str | None = None) -> Table:
    made = Table(title=title, header_style="bold", box=None, pad_edge=False, title_justify="left")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.1f} ms"


def outcome_style(outcome: str) -> str:
    if outcome == "success":
        return f"[green]{outcome}[/]"
    return f"[yellow]{outcome}[/]" if outcome in ("refused", "caller_gone") else f"[red]{outcome}[/]"
