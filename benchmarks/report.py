"""The stored document as tables in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import figures
from benchmarks.document import Document
from benchmarks.measure import Result

_RIGHT: Any = "right"


def print_document(document: Document, console: Console) -> None:
    """The cells of its last run, and what is computed from all."""
    machine = document["machine"]
    title = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {document['date']}"
    measured = {name: cell for name, cell in document["cells"].items() if cell["run"] == document["date"]}
    if measured:
        console.print(cells_table(measured, title))
    if document["chunk_cpu_us"]:
        console.print(chunks_table(document["chunk_cpu_us"]))
    if document.get("startup"):
        console.print(startup_table(document["startup"]))
    console.print(ratios_table(document["ratios"]))
    if beside := document.get("ratios_interpreted"):
        console.print(ratios_table(beside, "Ratios of CPU, Tieline interpreted"))


def cells_table(cells: dict[str, Any], title: str = "") -> Table:
    table = Table(title=title)
    for heading in ("cell", "contender"):
        table.add_column(heading)
    for heading in ("requests", "errors", "CPU µs/request", "CPU µs/chunk", "requests/s/core"):
        table.add_column(heading, justify=_RIGHT)
    table.add_column("figures")
    for cell, found in cells.items():
        for name, row in found["contenders"].items():
            counts = [_figure(row.get("requests", row.get("pairs"))), _figure(row.get("errors", 0))]
            costs = ("cpu_us_per_request", "cpu_us_per_chunk", "requests_per_s_per_core")
            table.add_row(cell, name, *counts, *(_figure(row.get(cost)) for cost in costs), summary(row))
        table.add_section()
    return table


def chunks_table(costs: dict[str, dict[str, float]]) -> Table:
    names = list(dict.fromkeys(name for found in costs.values() for name in found))
    table = Table("streams", *names, title="CPU µs of a chunk alone")
    for pair, found in costs.items():
        table.add_row(pair, *(_figure(found.get(name)) for name in names))
    return table


def startup_table(startup: dict[str, Any]) -> Table:
    table = Table("contender", "start s", "import ms", "installed MB", title="Before the first request")
    sizes = startup["install_mb"]
    for name, seconds in startup["start_s"].items():
        imported = startup["import_ms"] if name == "tieline" else None
        table.add_row(name, f"{seconds:.2f}", _figure(imported), _figure(sizes.get(name)))
    return table


def ratios_table(found: Mapping[str, float | None], title: str = "Ratios of CPU") -> Table:
    table = Table("ratio", "value", "target", title=title)
    for name, value in found.items():
        table.add_row(name, "-" if value is None else f"{value:.2f}", target(name, value))
    return table


def target(name: str, value: float | None) -> str:
    if name not in figures.TARGETS:
        return ""
    bound, wanted = figures.TARGETS[name]
    met = figures.reached(name, value)
    return f"{bound} {wanted:g}" + ("" if met is None else " ✓" if met else " ✗")


def summary(row: Result) -> str:
    """What else a turn found, in a line."""
    return next((tell(row) for known, tell in _SUMMARIES.items() if known in row), "")


def _added(row: Result) -> str:
    parts = [f"added {quantiles(row['added_us'])} µs"]
    if "added_first_token_us" in row:
        parts.append(f"to the first token {quantiles(row['added_first_token_us'])} µs")
    return ", ".join(parts)


def _memory(row: Result) -> str:
    after = f", after {row['after_mb']:.0f}" if "after_mb" in row else ""
    per_stream = f", {row['kb_per_stream']:.1f} KB a stream" if "kb_per_stream" in row else ""
    return f"idle {row['idle_mb']:.0f} MB, load {row['load_mb']:.0f}{after}{per_stream}"


def _overload(row: Result) -> str:
    return "\n".join(
        f"{step_name(step)}: {step['answered']:,} answered (p50 / p99 / p99.9 {milliseconds(step['latency_us'])} ms), "
        f"{step['refused']:,} refused ({milliseconds(step['refused_us']) or '-'} ms), {step['failed']:,} failed"
        for step in row["steps"]
    )


def step_name(step: Result) -> str:
    """Of an overload's step; results from before November 2026 offered shares of saturation instead."""
    name = str(step.get("step") or f"x{step['share']:g}")
    return f"{name}, {step['connections']:,} connections" if "connections" in step else name


def milliseconds(us: dict[str, float]) -> str:
    return quantiles({name: value / 1000 for name, value in us.items()})


def _workers(row: Result) -> str:
    each = (
        f"{count}: {found['requests_per_s']:,.0f}/s at {found['cpu_us_per_request']:.0f} µs"
        for count, found in row["workers"].items()
    )
    return f"workers {', '.join(each)}; {row['efficiency']:.0%} of linear"


def _streams(row: Result) -> str:
    jitter = row["gap_us"]
    spread = {
        name: jitter[f"jitter_{name}"] for name in ("p50", "p99", "p99.9") if f"jitter_{name}" in jitter
    }
    return (
        f"jitter {quantiles(spread)} µs" if spread else f"first token {quantiles(row['first_token_us'])} µs"
    )


_SUMMARIES: dict[str, Callable[[Result], str]] = {
    "added_us": _added,
    "idle_mb": _memory,
    "steps": _overload,
    "workers": _workers,
    "chunks": _streams,
    "latency_us": lambda row: f"latency {quantiles(row['latency_us'])} µs",
}


def quantiles(values: dict[str, float]) -> str:
    return " / ".join(f"{values[name]:,.0f}" for name in ("p50", "p99", "p99.9") if name in values)


def _figure(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
