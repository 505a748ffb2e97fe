"""From measurements to the table, the ratios and the stored result."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import process
from benchmarks.measure import Result

RESULTS = Path(__file__).resolve().parent / "results"
Rounds = dict[str, dict[str, list[Result]]]
"""Cell name -> contender name -> one result for each round."""

TARGETS = {
    "nonstream_cpu_vs_floor": ("at most", 3.0),
    "stream_chunk_cpu_vs_floor": ("at most", 2.0),
    "translated_chunk_cpu_vs_floor": ("at most", 6.0),
    "litellm_cpu_vs_tieline": ("at least", 100.0),
    "portkey_cpu_vs_tieline": ("at least", 12.0),
    "litellm_stream_cpu_vs_tieline": ("at least", 50.0),
}


def median_result(results: list[Result]) -> Result:
    """Field by field the median of the rounds; counts are summed, whatever is not a number is of the last round."""
    merged: Result = {}
    for name, last in results[-1].items():
        values = [result[name] for result in results if name in result]
        if name in ("requests", "errors", "chunks", "pairs", "events", "reads"):
            merged[name] = sum(values)
        elif isinstance(last, dict):
            merged[name] = median_result([value for value in values if isinstance(value, dict)])
        elif isinstance(last, int | float) and not isinstance(last, bool):
            merged[name] = statistics.median(value for value in values if value is not None)
        else:
            merged[name] = last
    return merged


def ratio(numerators: list[float], denominators: list[float]) -> float | None:
    """Median of the ratios of each round: what drifts with the machine's state cancels within a round."""
    ratios = [over / under for over, under in zip(numerators, denominators, strict=False) if under > 0]
    return round(statistics.median(ratios), 3) if ratios else None


def marginal(
    rounds: Mapping[str, Mapping[str, list[Result]]], prefix: str, suffix: str, name: str
) -> list[float]:
    """CPU of one more chunk, in us, for each round: (CPU of a 500-token stream - CPU of a 50-token stream) / 450. Where
    only the 50-token cell was measured: its CPU / chunks, the request's own cost included."""
    short = rounds.get(f"{prefix}-50-{suffix}", {}).get(name, [])
    long = rounds.get(f"{prefix}-500-{suffix}", {}).get(name, [])
    if long and short:
        pairs = zip(long, short, strict=False)
        return [
            (b["cpu_us_per_request"] - a["cpu_us_per_request"]) / 450
            for b, a in pairs
            if _clean(a) and _clean(b)
        ]
    return [result["cpu_us_per_chunk"] for result in short if _clean(result)]


def _clean(result: Result) -> bool:
    """Errors are cheap or dear, never representative: a round with more than one in a hundred does not count."""
    return "cpu_us_per_request" in result and result["errors"] * 100 <= result["requests"]


def _per_request(rounds: Rounds, cell: str, name: str) -> list[float]:
    return [result["cpu_us_per_request"] for result in rounds.get(cell, {}).get(name, []) if _clean(result)]


def ratios(rounds: Rounds) -> dict[str, float | None]:
    """The keys that the targets are stated in; None where something was not measured."""
    whole = {
        name: _per_request(rounds, "request-1k", name) for name in ("floor", "tieline", "litellm", "portkey")
    }
    streamed = {
        name: _per_request(rounds, "stream-50-c32", name) for name in ("tieline", "litellm", "portkey")
    }
    return {
        "nonstream_cpu_vs_floor": ratio(whole["tieline"], whole["floor"]),
        "stream_chunk_cpu_vs_floor": ratio(
            *(marginal(rounds, "stream", "c32", n) for n in ("tieline", "floor"))
        ),
        "translated_chunk_cpu_vs_floor": ratio(
            *(marginal(rounds, "translated", "c32", n) for n in ("tieline", "floor"))
        ),
        "litellm_cpu_vs_tieline": ratio(whole["litellm"], whole["tieline"]),
        "portkey_cpu_vs_tieline": ratio(whole["portkey"], whole["tieline"]),
        "litellm_stream_cpu_vs_tieline": ratio(streamed["litellm"], streamed["tieline"]),
        "portkey_stream_cpu_vs_tieline": ratio(streamed["portkey"], streamed["tieline"]),
        "litellm_cpu_vs_floor": ratio(whole["litellm"], whole["floor"]),
        "portkey_cpu_vs_floor": ratio(whole["portkey"], whole["floor"]),
    }


def chunk_costs(rounds: Rounds) -> dict[str, dict[str, float]]:
    """Marginal CPU per chunk in us, by kind of stream and contender."""
    found: dict[str, dict[str, float]] = {}
    for prefix in ("stream", "translated"):
        for suffix in ("c1", "c32", "c256", "c1000"):
            names = rounds.get(f"{prefix}-50-{suffix}", {})
            costs = {name: marginal(rounds, prefix, suffix, name) for name in names}
            known = {name: round(statistics.median(values), 3) for name, values in costs.items() if values}
            if known:
                found[f"{prefix}-{suffix}"] = known
    return found


def document(rounds: Rounds, *, mode: str, extra: dict[str, Any]) -> dict[str, Any]:
    """The stored form of a run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "mode": mode,
        "machine": process.machine(),
        "ratios": ratios(rounds),
        "targets": {name: {"bound": bound, "value": value} for name, (bound, value) in TARGETS.items()},
        "chunk_cpu_us": chunk_costs(rounds),
        "cells": {
            cell: {name: median_result(results) | {"rounds": len(results)} for name, results in found.items()}
            for cell, found in rounds.items()
        },
        **extra,
    }


def store(result: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def _figure(value: object, unit: str = "") -> str:
    return "-" if value is None else f"{value:,.1f}{unit}" if isinstance(value, float) else f"{value:,}{unit}"


def print_result(result: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{result['machine']['cpu']}, {result['machine']['cores']} cores, {result['date']}")
    for heading in (
        "cell",
        "contender",
        "requests",
        "errors",
        "CPU us/req",
        "CPU us/chunk",
        "req/s/core",
        "figures",
    ):
        table.add_column(heading, justify="left" if heading in ("cell", "contender", "figures") else "right")
    for cell, found in result["cells"].items():
        for name, row in found.items():
            per_chunk, per_core = row.get("cpu_us_per_chunk"), row.get("requests_per_s_per_core")
            table.add_row(
                *(cell, name, _figure(row.get("requests", row.get("pairs"))), _figure(row.get("errors", 0))),
                *(
                    _figure(row.get("cpu_us_per_request")),
                    _figure(per_chunk),
                    _figure(per_core),
                    _summary(row),
                ),
            )
        table.add_section()
    console.print(table)
    print_ratios(result["ratios"], console)


def _summary(row: Result) -> str:
    if "added_us" in row:
        parts = [f"added {_quantiles(row['added_us'])} us"]
        if "added_first_token_us" in row:
            parts.append(f"first token {_quantiles(row['added_first_token_us'])} us")
            jitters = [row[side]["gap_us"].get("jitter_p99", 0.0) for side in ("through", "direct")]
            parts.append(f"jitter p99 {jitters[0]:,.0f} (direct {jitters[1]:,.0f}) us")
        return ", ".join(parts)
    if "load_mb" in row:
        return f"idle {row['idle_mb']} MB, load {row['load_mb']} MB, after {row.get('after_mb', '-')} MB"
    return f"latency {_quantiles(row['latency_us'])} us" if row.get("latency_us") else ""


def _quantiles(values: dict[str, float]) -> str:
    return " / ".join(f"{values[name]:,.0f}" for name in ("p50", "p99", "p99.9") if name in values)


def print_ratios(found: dict[str, float | None], console: Console) -> None:
    table = Table("ratio", "value", "target", title="Ratios")
    for name, value in found.items():
        bound, target = TARGETS.get(name, ("", None))
        reached = (
            value is not None
            and target is not None
            and (value <= target if bound == "at most" else value >= target)
        )
        mark = (
            ""
            if target is None
            else f"{bound} {target:g}" + ("" if value is None else " ✓" if reached else " ✗")
        )
        table.add_row(name, "-" if value is None else f"{value:.2f}", mark)
    console.print(table)
