"""Ratios, medians and the guard's verdict, from made-up measurements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import document, figures, page, peers, plan
from benchmarks.cells import CELLS, CHUNK_CELLS
from benchmarks.contenders import DIRECT, FLOOR, TIELINE, TIELINE_BARE, Route, by_url, tieline_config
from benchmarks.instructions import total
from benchmarks.measure import Result
from benchmarks.quick import COUNTED_MAY_GROW, TIMED_MAY_GROW, compare
from benchmarks.upstream.bodies import anthropic_request, chat_request, completion


def _rounds(*cpu: float, errors: int = 0) -> list[Result]:
    return [
        {"requests": 100, "errors": errors, "cpu_us_per_request": us, "cpu_us_per_chunk": us / 52}
        for us in cpu
    ]


def test_ratios_are_medians_over_rounds() -> None:
    rounds = {
        "request-1k": {"floor": _rounds(20, 25, 40), "tieline": _rounds(50, 50, 60), "litellm": _rounds(9000)}
    }
    found = figures.ratios(rounds)
    assert found["nonstream_cpu_vs_floor"] == 2.0
    assert found["litellm_cpu_vs_tieline"] == 180.0
    assert found["portkey_cpu_vs_tieline"] is None
    assert found["stream_chunk_cpu_vs_floor"] is None


def test_a_chunk_costs_what_the_longer_stream_costs_more() -> None:
    rounds = {
        "stream-50-c32": {"floor": _rounds(600), "tieline": _rounds(1000)},
        "stream-500-c32": {"floor": _rounds(600 + 4500), "tieline": _rounds(1000 + 6750)},
    }
    assert figures.marginal(rounds, "stream-c32", "floor") == [10.0]
    assert figures.ratios(rounds)["stream_chunk_cpu_vs_floor"] == 1.5
    assert figures.chunk_costs(rounds) == {"stream-c32": {"floor": 10.0, "tieline": 15.0}}


def test_rounds_with_errors_do_not_count() -> None:
    rounds = {"request-1k": {"floor": _rounds(20), "tieline": _rounds(5, errors=50)}}
    assert figures.ratios(rounds)["nonstream_cpu_vs_floor"] is None


def test_median_result_sums_counts_and_takes_medians() -> None:
    rounds = [{"requests": 10, "rate": rate, "latency_us": {"p50": rate}} for rate in (1.0, 5.0, 2.0)]
    assert figures.median_result(rounds) == {"requests": 30, "rate": 2.0, "latency_us": {"p50": 2.0}}


@pytest.mark.parametrize(
    ("name", "may_grow"), [("a_cpu_vs_floor", TIMED_MAY_GROW), ("a_instructions_vs_floor", COUNTED_MAY_GROW)]
)
def test_the_guard_fails_only_far_beyond_noise(name: str, may_grow: float) -> None:
    def failed(found: float | None) -> bool:
        return compare({name: 2.0}, {name: found})[0].failed

    assert not failed(1.0)
    assert not failed(2.0 * may_grow - 0.01)
    assert failed(2.0 * may_grow + 0.01)
    assert failed(None)


def test_what_was_never_stored_cannot_fail() -> None:
    assert not any(change.failed for change in compare({}, {"nonstream_cpu_vs_floor": 99.0}))


@pytest.mark.parametrize("size", [1024, 10_240, 1 << 20])
def test_bodies_have_the_size_they_claim(size: int) -> None:
    assert abs(len(completion(size)) - size) <= 16
    assert abs(len(chat_request("m", size)) - size) < 0.05 * size + 64
    assert json.loads(anthropic_request("m", size))["messages"][0]["role"] == "user"


def test_a_gateway_elsewhere_is_described_by_url() -> None:
    contender = by_url("mine=http://10.0.0.1:80/v1,key=k,pid=12")
    asking = contender.ask(0, Route("whole-1k", "http://u/v1", "m"), "openai")
    assert (contender.pid, asking.url) == (12, "http://10.0.0.1:80/v1/chat/completions")
    assert (asking.headers["authorization"], asking.model) == ("Bearer k", "whole-1k")
    with pytest.raises(ValueError, match="expected name=http"):
        by_url("mine=10.0.0.1")


def test_every_route_is_in_the_configuration(tmp_path: object) -> None:
    rows = [Route("a", "http://u/1/v1", "m1"), Route("b", "http://u/2/v1", "m2")]
    config = tieline_config(rows, tmp_path, features=True)  # type: ignore[arg-type]
    assert config["models"] == {"a": {"deployments": ["bench0/m1"]}, "b": {"deployments": ["bench1/m2"]}}


EVERYBODY = [DIRECT, FLOOR, TIELINE, TIELINE_BARE, peers.LITELLM, peers.PORTKEY]


def test_a_whole_run_with_both_peers_ends_within_three_quarters_of_an_hour() -> None:
    assert plan.total_s(CELLS, EVERYBODY, rounds=3) + plan.STARTUP_S <= 45 * 60


def test_every_cell_has_its_contenders() -> None:
    taking_part = {cell.name: {one.name for one in EVERYBODY if plan.applies(cell, one)} for cell in CELLS}
    assert taking_part["request-1k"] == {one.name for one in EVERYBODY}
    assert taking_part["stream-50-c32"] >= {"floor", "tieline", "litellm", "portkey"}
    assert taking_part["translated-50-c32"] == {"floor", "tieline"}
    assert taking_part["million"] == {"tieline"}
    assert all("tieline" in names for names in taking_part.values())
    assert all(cell in taking_part for pair in CHUNK_CELLS.values() for cell in pair)


def test_a_finished_cell_is_stored_and_measured_again_it_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    first = document.Runs(path, "full")
    first.run["date"] = "2026-01-01T00:00:00+00:00"
    first.runs = {first.run["date"]: first.run}
    first.add("request-1k", {"floor": _rounds(20), "tieline": _rounds(60), "litellm": _rounds(6000)})
    first.add("stream-50-c32", {"floor": _rounds(600)})
    first.add("stream-500-c32", {"floor": _rounds(600 + 4500)})
    stored = document.read(path)
    assert stored is not None
    assert stored["ratios"]["nonstream_cpu_vs_floor"] == 3.0
    assert stored["chunk_cpu_us"] == {"stream-c32": {"floor": 10.0}}
    second = document.Runs(path, "full", stored)
    second.add("stream-50-c32", {"floor": _rounds(700)})
    second.add("request-1k", {"floor": _rounds(20), "tieline": _rounds(40)})
    stored = document.read(path)
    assert stored is not None
    assert stored["ratios"]["nonstream_cpu_vs_floor"] == 2.0
    assert stored["ratios"]["litellm_cpu_vs_tieline"] is None
    assert stored["chunk_cpu_us"] == {}  # its two cells are of different runs
    assert len(stored["runs"]) == 2


def test_the_page_says_what_latest_json_says() -> None:
    text = page.PAGE.read_text("utf-8")
    assert page.up_to_date(text) == text, "run `make bench-docs`"


def test_the_page_tells_ratios_with_their_goals(tmp_path: Path) -> None:
    runs = document.Runs(tmp_path / "latest.json", "full")
    runs.add("request-1k", {"floor": _rounds(20), "tieline": _rounds(50)})
    text = page.render(runs.document())
    assert "| a whole answer, to the floor | 2.5 | at most 3 | met |" in text


def test_instructions_are_read_from_the_profile() -> None:
    assert total("events: Ir\nfn=(1) a\n1 5\n\ntotals: 1234\n") == 1234
    with pytest.raises(RuntimeError, match="no totals"):
        total("events: Ir\n")
