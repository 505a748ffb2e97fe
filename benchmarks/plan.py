"""Which turns a run has, and how long it may take: stated before it begins, kept by the limits of the turns."""

from __future__ import annotations

import time

from benchmarks import alone, peers
from benchmarks.cells import ALONE, CELLS, Cell
from benchmarks.contenders import (
    DIRECT,
    FLOOR,
    TIELINE,
    TIELINE_BARE,
    TIELINE_INTERPRETED,
    Contender,
    by_url,
    compiled_modules,
)
from benchmarks.measure import PEER_WARM_S, SATURATION_S, WARM_S, warmed

_AROUND_S = 0.7
"""Beside a turn's load: a process for the generator, coming to rest."""
_START_S, _PEER_START_S = 3.0, 25.0
_SCALE_TURNS = 6
STARTUP_S = 50.0
"""Of starting everybody several times, to time it."""
_SLOWEST_STREAM = 2.0
"""A peer that cannot keep the pace takes this many times as long for its last streams."""


def choose_contenders(names: list[str] | None, urls: list[str]) -> list[Contender]:
    beside = [TIELINE_INTERPRETED] if compiled_modules() else []
    known = [DIRECT, FLOOR, TIELINE, *beside, TIELINE_BARE, *peers.installed()]
    chosen = [contender for contender in known if names is None or contender.name in names]
    missing = set(names or ()) - {contender.name for contender in known}
    if missing:
        raise SystemExit(f"unknown or not installed: {', '.join(sorted(missing))}")
    return chosen + [by_url(url) for url in urls]


def choose_cells(only: list[str] | None) -> list[Cell]:
    """By name or beginning of a name."""
    chosen = [cell for cell in CELLS if only is None or cell.name.startswith(tuple(only))]
    if not chosen:
        raise SystemExit(f"no such cell; there are: {', '.join(cell.name for cell in CELLS)}")
    return chosen


def applies(cell: Cell, contender: Contender) -> bool:
    """Whether a contender takes part in a cell."""
    if contender is DIRECT:
        return cell.direct
    if contender is FLOOR:
        return cell.floor
    if cell in ALONE and contender.launch is None:
        return False
    if cell.dialect not in contender.dialects:
        return False
    if contender is TIELINE_INTERPRETED:
        return cell.interpreted
    return contender is TIELINE or (cell.bare if contender is TIELINE_BARE else cell.peers)


def expected_s(cell: Cell, contender: Contender, limit_s: float = 1e9) -> float:
    """The longest that a turn takes; mostly less."""
    seconds = min(limit_s, cell.peer_seconds if contender.peer else cell.seconds)
    start_s = _PEER_START_S if contender.peer else _START_S
    if cell.kind == "scale":
        return _SCALE_TURNS * (seconds + WARM_S + _AROUND_S + start_s)
    if cell.kind == "overload":
        return seconds + 2 * alone.NORMAL_S + 4 * _AROUND_S + SATURATION_S + start_s
    if cell.kind == "open":
        return 2 * (seconds + _AROUND_S)
    if cell.kind == "stream":
        seconds += cell.stream_s * (_SLOWEST_STREAM if contender.peer else 1.0)
    warmup_s = PEER_WARM_S if contender.peer else WARM_S
    warm_s = warmup_s if cell.kind == "whole" or (cell.kind == "stream" and warmed(cell)) else 0.0
    return seconds + warm_s + _AROUND_S + (start_s if cell in ALONE else 0.0)


def total_s(cells: list[Cell], contenders: list[Contender], rounds: int, limit_s: float = 1e9) -> float:
    """Of a run's turns."""
    return sum(
        expected_s(cell, contender, limit_s) * (1 if cell.once else rounds)
        for cell in cells
        for contender in contenders
        if applies(cell, contender)
    )


def whole_s(rounds: int = 3) -> float:
    """Of a run of everything with everybody who is installed."""
    return total_s(CELLS, choose_contenders(None, []), rounds) + STARTUP_S


class Clock:
    """How far a run is, in planned seconds, and when it will end at the pace so far."""

    def __init__(self, planned_s: float) -> None:
        self.planned_s = planned_s
        self.done_s = 0.0
        self._begun = time.monotonic()

    @property
    def gone_s(self) -> float:
        return time.monotonic() - self._begun

    @property
    def left_s(self) -> float:
        """The plan is an upper bound: the pace tells how far below it this machine stays."""
        pace = self.gone_s / self.done_s if self.done_s > 0.05 * self.planned_s else 1.0
        return max(0.0, (self.planned_s - self.done_s) * min(1.2, pace))


def minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
