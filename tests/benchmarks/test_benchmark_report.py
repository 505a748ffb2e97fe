"""Ratios, medians and the guard's verdict, from made-up measurements."""

from __future__ import annotations

import json

import pytest

from benchmarks import report
from benchmarks.contenders import Route, by_url, tieline_config
from benchmarks.measure import Result
from benchmarks.quick import compare
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
    found = report.ratios(rounds)
    assert found["nonstream_cpu_vs_floor"] == 2.0
    assert found["litellm_cpu_vs_tieline"] == 180.0
    assert found["portkey_cpu_vs_tieline"] is None
    assert found["stream_chunk_cpu_vs_floor"] is None


def test_a_chunk_costs_what_the_longer_stream_costs_more() -> None:
    rounds = {
        "stream-50-c32": {"floor": _rounds(600), "tieline": _rounds(1000)},
        "stream-500-c32": {"floor": _rounds(600 + 4500), "tieline": _rounds(1000 + 6750)},
    }
    assert report.marginal(rounds, "stream", "c32", "floor") == [10.0]
    assert report.ratios(rounds)["stream_chunk_cpu_vs_floor"] == 1.5
    assert report.chunk_costs(rounds) == {"stream-c32": {"floor": 10.0, "tieline": 15.0}}


def test_rounds_with_errors_do_not_count() -> None:
    rounds = {"request-1k": {"floor": _rounds(20), "tieline": _rounds(5, errors=50)}}
    assert report.ratios(rounds)["nonstream_cpu_vs_floor"] is None


def test_median_result_sums_counts_and_takes_medians() -> None:
    rounds = [{"requests": 10, "rate": rate, "latency_us": {"p50": rate}} for rate in (1.0, 5.0, 2.0)]
    assert report.median_result(rounds) == {"requests": 30, "rate": 2.0, "latency_us": {"p50": 2.0}}


@pytest.mark.parametrize(("found", "failed"), [(2.0, False), (3.1, False), (3.3, True), (None, True)])
def test_the_guard_fails_only_far_beyond_noise(found: float | None, failed: bool) -> None:
    change = compare({"nonstream_cpu_vs_floor": 2.0}, {"nonstream_cpu_vs_floor": found})[0]
    assert change.failed is failed


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
