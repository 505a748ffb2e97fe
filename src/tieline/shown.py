"""Records as they are shown, for JSON."""

from __future__ import annotations

from typing import Any

from tieline.types.money import format_usd
from tieline.types.record import Record, as_dict


def shown(record: Record) -> dict[str, Any]:
    """For JSON: money as decimal strings of US dollars."""
    found = as_dict(record)
    for name in ("cost", "wasted", "charged"):
        found.pop(name, None)
        found[f"{name}_usd"] = format_usd(getattr(record, name))
    for line, entry in zip(found["attempts"], record.attempts, strict=True):
        line.pop("cost", None)
        line["cost_usd"] = format_usd(entry.cost)
    return found


def replayed(record: dict[str, Any]) -> dict[str, Any]:
    """The decision of a record as ``shown`` makes it, with what came of each try."""
    kept = ("id", "at_ms", "model_asked", "outcome", "status", "deployment", "cost_usd", "intent", "profile")
    tries = ("number", "deployment", "credential", "reason", "outcome", "message", "started_ms", "ended_ms")
    return {
        "request": {name: record.get(name) for name in kept},
        **record["decision"],
        "attempts": [{name: line.get(name) for name in tries} for line in record["attempts"]],
    }
