"""The stored form of a run: ``results/latest.json``, written after every cell.

A cell is one run's, with all its contenders: measuring it again replaces it whole. Figures of two cells (a chunk alone)
are told only where both are of the same run. ``each_round`` keeps what ratios are made of.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import contenders, figures, process
from benchmarks.cells import CELLS, CHUNK_CELLS, REQUESTS
from benchmarks.measure import Result

RESULTS = Path(__file__).resolve().parent / "results"
LATEST = RESULTS / "latest.json"
Document = dict[str, Any]
_KEPT = ("requests", "errors", "cpu_us_per_request", "cpu_us_per_chunk")
_ORDER = {cell.name: number for number, cell in enumerate(CELLS)}


class Runs:
    """The document as it grows. ``kept`` is an earlier one whose other cells stay, if there still are such cells."""

    def __init__(self, path: Path, mode: str, kept: Document | None = None) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.path = path
        self.tieline = contenders.build()
        self.run: dict[str, Any] = {"date": now, "mode": mode, "commit": commit(), "tieline": self.tieline}
        kept = kept or {}
        self.cells: dict[str, dict[str, Any]] = {
            name: cell for name, cell in kept.get("cells", {}).items() if name in _ORDER
        }
        self.extra: dict[str, Any] = {
            name: kept[name] for name in ("startup", "versions", "upstream") if name in kept
        }
        self.machine = process.machine()
        self.runs: dict[str, dict[str, Any]] = dict(kept.get("runs", {})) | {now: self.run}

    def add(self, cell: str, found: dict[str, list[Result]]) -> None:
        """A finished cell; stored at once."""
        rows = {
            name: figures.median_result(results)
            | {"rounds": len(results), "each_round": [_essence(result) for result in results]}
            for name, results in found.items()
        }
        self.cells[cell] = {"run": self.run["date"], "fewer_than_10000": _few(rows), "contenders": rows}
        self.store()

    def note(self, **extra: Any) -> None:
        self.extra |= extra
        self.store()

    def document(self) -> Document:
        used = {cell["run"] for cell in self.cells.values()} | {self.run["date"]}
        cells = dict(sorted(self.cells.items(), key=lambda item: _ORDER.get(item[0], len(_ORDER))))
        rounds = rounds_of(cells)
        return {
            "date": self.run["date"],
            "mode": self.run["mode"],
            "commit": self.run["commit"],
            "machine": self.machine,
            "tieline": self.tieline,
            "ratios": figures.ratios(rounds),
            "ratios_interpreted": figures.interpreted_ratios(rounds),
            "targets": {
                name: {"bound": bound, "value": value} for name, (bound, value) in figures.TARGETS.items()
            },
            "chunk_cpu_us": figures.chunk_costs(rounds),
            **self.extra,
            "runs": {date: run for date, run in self.runs.items() if date in used},
            "cells": cells,
        }

    def store(self) -> None:
        store(self.document(), self.path)


def _few(rows: dict[str, Result]) -> dict[str, int]:
    """Who made fewer requests (of pairs: pairs) in all rounds than a cell is meant to have, and how many."""
    made = {
        name: int(row["requests"] if "requests" in row else row.get("pairs", 0)) for name, row in rows.items()
    }
    return {name: count for name, count in made.items() if count < REQUESTS}


def _essence(result: Result) -> Result:
    return {name: result[name] for name in _KEPT if name in result}


def rounds_of(cells: dict[str, Any]) -> figures.Rounds:
    """What ratios are computed from. Of two cells whose difference is a figure, the longer is left out where it is of
    another run than the shorter: there is no figure then."""
    rounds = {
        cell: {name: row.get("each_round", []) for name, row in found["contenders"].items()}
        for cell, found in cells.items()
    }
    for short, long in CHUNK_CELLS.values():
        if short in cells and long in cells and cells[short]["run"] != cells[long]["run"]:
            rounds.pop(long, None)
    return rounds


def read(path: Path) -> Document | None:
    try:
        found: Document = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found if all("contenders" in cell for cell in found.get("cells", {}).values()) else None


def store(document: Document, path: Path) -> None:
    """Whole or not at all: a killed run leaves what it had."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".writing")
    draft.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(draft, path)


def commit() -> str:
    """What was measured; ``+`` where files were changed since."""
    folder = Path(__file__).resolve().parent.parent
    ask = ["git", "-C", str(folder)]
    try:
        head = subprocess.check_output([*ask, "rev-parse", "--short", "HEAD"], text=True).strip()
        changed = subprocess.check_output([*ask, "status", "--porcelain", "-uno", "--", "src"], text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed.strip() else "")
