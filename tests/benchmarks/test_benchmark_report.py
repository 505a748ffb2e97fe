"""Ratios, medians and the guard's verdict, from made-up measurements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import contenders, document, figures, page, peers, plan
from benchmarks.cells import CELLS, CHUNK_CELLS
from benchmarks.contenders import (
    DIRECT,
    FLOOR,
    TIELINE,
    TIELINE_BARE,
    TIELINE_INTERPRETED,
    Route,
    by_url,
    tieline_config,
)
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


EVERYBODY = [DIRECT, FLOOR, TIELINE, TIELINE_INTERPRETED, TIELINE_BARE, peers.LITELLM, peers.PORTKEY]


def test_a_whole_run_with_both_peers_ends_within_35_minutes() -> None:
    assert plan.total_s(CELLS, EVERYBODY, rounds=3) + plan.STARTUP_S <= 35 * 60


def test_every_cell_has_its_contenders() -> None:
    taking_part = {cell.name: {one.name for one in EVERYBODY if plan.applies(cell, one)} for cell in CELLS}
    assert taking_part["request-1k"] == {one.name for one in EVERYBODY}
    assert taking_part["stream-50-c32"] >= {"floor", "tieline", "litellm", "portkey"}
    assert taking_part["translated-50-c32"] == {"floor", "tieline", "tieline-interpreted"}
    beside = {name for name, names in taking_part.items() if "tieline-interpreted" in names}
    assert beside == {"request-1k", *CHUNK_CELLS["stream-c32"], *CHUNK_CELLS["translated-c32"]}
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


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An unpacked wheel with one compiled module, of a source with two."""
    for name in ("relay", "price"):
        for root in ("src", "compiled"):
            path = tmp_path / root / "tieline" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"NAME = '{name}'\n")
    (tmp_path / "compiled" / "tieline" / "relay.cpython-311-x86_64-linux-gnu.so").touch()
    monkeypatch.setattr(contenders, "SOURCE", tmp_path / "src")
    monkeypatch.setattr(contenders, "COMPILED", tmp_path / "compiled")
    return tmp_path / "compiled" / "tieline"


def _home(contender: contenders.Contender, work: Path) -> str:
    """The first folder that a contender's modules are looked for in."""
    assert contender.launch is not None
    launch = contender.launch(1, work, [Route("a", "http://u/v1", "m")])
    return launch.env["PYTHONPATH"].split(":")[0]


def test_tieline_is_the_compiled_one_where_it_was_built(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contenders, "_virtual_key", lambda config: "key")
    homes = [_home(one, tmp_path) for one in (TIELINE, TIELINE_BARE, TIELINE_INTERPRETED)]
    assert homes == [str(wheel.parent), str(wheel.parent), str(tmp_path / "src")]
    assert contenders.build() == {"build": "compiled", "compiled_modules": 1, "of_this_source": True}
    assert TIELINE_INTERPRETED in plan.choose_contenders(None, [])


def test_without_a_compiled_one_tieline_is_its_source(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next(wheel.glob("*.so")).unlink()
    monkeypatch.setattr(contenders, "_virtual_key", lambda config: "key")
    assert _home(TIELINE, tmp_path) == str(tmp_path / "src")
    assert contenders.build() == {"build": "interpreted"}
    assert TIELINE_INTERPRETED not in plan.choose_contenders(None, [])


def test_a_wheel_of_other_sources_is_told(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "src" / "tieline" / "price.py").write_text("NAME = 'newer'\n")
    assert contenders.build()["of_this_source"] is False
    text = page.render(document.Runs(tmp_path / "latest.json", "full").document())
    assert "of other source files than this commit's" in text


def test_ratios_of_the_source_stand_beside_those_of_the_compiled(wheel: Path, tmp_path: Path) -> None:
    runs = document.Runs(tmp_path / "latest.json", "full")
    rows = {"floor": _rounds(20), "tieline": _rounds(50), "tieline-interpreted": _rounds(80)}
    runs.add("request-1k", rows | {"litellm": _rounds(8000)})
    found = runs.document()
    assert found["ratios_interpreted"] == {"nonstream_cpu_vs_floor": 4.0, "litellm_cpu_vs_tieline": 100.0}
    text = page.render(found)
    assert "| ratio of CPU | compiled | goal |  | interpreted |" in text
    assert "| a whole answer, to the floor | 2.5 | at most 3 | met | 4 |" in text
    assert "1 modules of it compiled" in text


def test_who_made_fewer_requests_than_ten_thousand_is_told(tmp_path: Path) -> None:
    runs = document.Runs(tmp_path / "latest.json", "full")
    many = [row | {"requests": 4000} for row in _rounds(20, 20, 20)]
    runs.add("request-1k", {"floor": many, "litellm": _rounds(6000, 6000)})
    runs.add("first-token", {"floor": [{"pairs": 900, "added_us": {}}]})
    cells = runs.document()["cells"]
    assert cells["request-1k"]["fewer_than_10000"] == {"litellm": 200}
    assert cells["first-token"]["fewer_than_10000"] == {"floor": 900}


def test_cells_that_no_longer_exist_are_not_kept(tmp_path: Path) -> None:
    kept = {
        "cells": {"request-1k": {"run": "then", "contenders": {}}, "gone": {"run": "then", "contenders": {}}}
    }
    assert list(document.Runs(tmp_path / "latest.json", "full", kept).document()["cells"]) == ["request-1k"]


def test_the_page_tells_what_overload_was_answered(tmp_path: Path) -> None:
    calm = {"step": "before", "offered_per_s": 100.0, "answered": 400, "refused": 0, "failed": 0}
    calm |= {"latency_us": {"p50": 900.0, "p99": 2000.0}, "refused_us": {}}
    flood = {"step": "overload", "connections": 3000, "offered_per_s": 9000.0, "answered": 10, "refused": 90}
    flood |= {"failed": 0, "latency_us": {"p50": 1e5, "p99": 2e5}, "refused_us": {"p50": 3e3, "p99": 4e3}}
    runs = document.Runs(tmp_path / "latest.json", "full")
    runs.add("overload", {"tieline": [{"requests": 410, "saturation": 250.0, "steps": [calm, flood]}]})
    text = page.render(runs.document())
    assert "| before | 100 | 400 | 0 | 0 | 1 / 2 |  |" in text
    assert "| overload, 3,000 connections | 9,000 | 10 | 90 | 0 | 100 / 200 | 3 / 4 |" in text


def test_instructions_are_read_from_the_profile() -> None:
    assert total("events: Ir\nfn=(1) a\n1 5\n\ntotals: 1234\n") == 1234
    with pytest.raises(RuntimeError, match="no totals"):
        total("events: Ir\n")
