"""A record as callers and scripts get it."""

from __future__ import annotations

from typing import Any

import msgspec

from tieline.types.money import format_usd
from tieline.types.record import Record


def plain(record: Record) -> dict[str, Any]:
    """For JSON: money as decimal strings of US dollars."""
    found: dict[str, Any] = msgspec.to_builtins(record, enc_hook=str)
    for name in ("cost", "wasted", "charged"):
        found[f"{name}_usd"] = format_usd(getattr(record, name))
        found.pop(name, None)
    for line, entry in zip(found.get("attempts", []), record.attempts, strict=True):
        line.pop("cost", None)
        line["cost_usd"] = format_usd(entry.cost)
    return found
