"""Figures made of other figures: medians over the rounds, ratios within a round, the cost of a chunk alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from benchmarks.cells import CELLS, CHUNK_CELLS
from benchmarks.measure import Result

Rounds = dict[str, dict[str, list[Result]]]
"""Cell name -> contender name -> one result for each round."""
_COUNTS = ("requests", "errors", "chunks", "pairs", "events", "reads", "refused", "left_behind")
_TOKENS = {cell.name: cell.tokens for cell in CELLS}

TARGETS = {
    "nonstream_cpu_vs_floor": ("at most", 3.0),
    "stream_chunk_cpu_vs_floor": ("at most", 2.0),
    "translated_chunk_cpu_vs_floor": ("at most", 6.0),
    "litellm_cpu_vs_tieline": ("at least", 100.0),
    "portkey_cpu_vs_tieline": ("at least", 12.0),
    "litellm_stream_cpu_vs_tieline": ("at least", 50.0),
}

_OF_TIELINE = (
    *TARGETS,
    "portkey_stream_cpu_vs_tieline",
    "litellm_chunk_cpu_vs_tieline",
    "portkey_chunk_cpu_vs_tieline",
)


def median_result(results: list[Result]) -> Result:
    """Field by field the median of the rounds; counts are summed, whatever is not a number is of the last round."""
    merged: Result = {}
    for name, last in results[-1].items():
        values = [result[name] for result in results if name in result]
        if name in _COUNTS:
            merged[name] = sum(values)
        elif isinstance(last, dict):
            merged[name] = median_result([value for value in values if isinstance(value, dict)])
        elif isinstance(last, int | float) and not isinstance(last, bool):
            merged[name] = round(statistics.median(value for value in values if value is not None), 4)
        else:
            merged[name] = last
    return merged


def ratio(numerators: list[float], denominators: list[float]) -> float | None:
    """Median of the ratios of each round: what drifts with the machine's state cancels within a round."""
    ratios = [over / under for over, under in zip(numerators, denominators, strict=False) if under > 0]
    return round(statistics.median(ratios), 3) if ratios else None


def marginal(rounds: Mapping[str, Mapping[str, list[Result]]], pair: str, name: str) -> list[float]:
    """CPU of one more chunk, in us, for each round: (CPU of a long stream - CPU of a short one) / the tokens between."""
    short_cell, long_cell = CHUNK_CELLS[pair]
    short, long = (rounds.get(cell, {}).get(name, []) for cell in (short_cell, long_cell))
    more = _TOKENS[long_cell] - _TOKENS[short_cell]
    return [
        (b["cpu_us_per_request"] - a["cpu_us_per_request"]) / more
        for b, a in zip(long, short, strict=False)
        if _clean(a) and _clean(b)
    ]


def _clean(result: Result) -> bool:
    """Errors are cheap or dear, never representative: a round with more than one in a hundred does not count."""
    return "cpu_us_per_request" in result and result["errors"] * 100 <= result["requests"]


def _per_request(rounds: Rounds, cell: str, name: str) -> list[float]:
    return [result["cpu_us_per_request"] for result in rounds.get(cell, {}).get(name, []) if _clean(result)]


def ratios(rounds: Rounds, tieline: str = "tieline") -> dict[str, float | None]:
    """The keys that the targets are stated in, and some beside; None where something was not measured. ``tieline`` is
    the contender that they are of."""

    def request(over: str, under: str, cell: str = "request-1k") -> float | None:
        return ratio(_per_request(rounds, cell, over), _per_request(rounds, cell, under))

    def chunk(over: str, under: str, pair: str = "stream-c32") -> float | None:
        return ratio(marginal(rounds, pair, over), marginal(rounds, pair, under))

    return {
        "nonstream_cpu_vs_floor": request(tieline, "floor"),
        "stream_chunk_cpu_vs_floor": chunk(tieline, "floor"),
        "translated_chunk_cpu_vs_floor": chunk(tieline, "floor", "translated-c32"),
        "litellm_cpu_vs_tieline": request("litellm", tieline),
        "portkey_cpu_vs_tieline": request("portkey", tieline),
        "litellm_stream_cpu_vs_tieline": request("litellm", tieline, "stream-50-c32"),
        "portkey_stream_cpu_vs_tieline": request("portkey", tieline, "stream-50-c32"),
        "litellm_chunk_cpu_vs_tieline": chunk("litellm", tieline),
        "portkey_chunk_cpu_vs_tieline": chunk("portkey", tieline),
        "bare_nonstream_cpu_vs_floor": request("tieline-bare", "floor"),
        "litellm_cpu_vs_floor": request("litellm", "floor"),
        "portkey_cpu_vs_floor": request("portkey", "floor"),
    }


def interpreted_ratios(rounds: Rounds) -> dict[str, float]:
    """The same of Tieline's source as it stands, where it was measured beside the compiled one."""
    found = ratios(rounds, "tieline-interpreted")
    return {name: found[name] or 0.0 for name in _OF_TIELINE if found[name] is not None}


def chunk_costs(rounds: Rounds) -> dict[str, dict[str, float]]:
    """CPU per chunk alone in us, by kind of stream and contender."""
    found: dict[str, dict[str, float]] = {}
    for pair, (short, _) in CHUNK_CELLS.items():
        costs = {name: marginal(rounds, pair, name) for name in rounds.get(short, {})}
        known = {name: round(statistics.median(values), 3) for name, values in costs.items() if values}
        if known:
            found[pair] = known
    return found


def reached(name: str, value: float | None) -> bool | None:
    """Whether a ratio meets its target; None where there is no target or no value."""
    if value is None or name not in TARGETS:
        return None
    bound, target = TARGETS[name]
    return value <= target if bound == "at most" else value >= target
