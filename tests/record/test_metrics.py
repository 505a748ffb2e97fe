"""The exposition parses, adds up, and its size is bounded whatever is thrown at it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.record.samples import attempt, record
from tieline.record.metrics import MAX_SERIES, Gauge, Metrics
from tieline.types.record import Record
from tieline.types.usage import Usage


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text, content_type = metrics.exposition()
    assert content_type.startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def total(metrics: Metrics, name: str, **labels: str) -> float:
    found = samples(metrics)
    return sum(value for (sample, have), value in found.items() if sample == name and labels.items() <= have)


def test_what_was_observed_is_shown() -> None:
    metrics = Metrics()
    failed = attempt(1, provider="azure", outcome="stall", reason="first", cost=None, usage=None, skipped=2)
    metrics.note(record())
    metrics.note(record(attempts=[failed, attempt(2, reason="failover")], first_token_ms=300.0, wasted=None))
    metrics.note(record(attempts=[], provider=None, model=None, outcome="refused", status=429))
    assert total(metrics, "tieline_requests_total") == 3
    assert total(metrics, "tieline_requests_total", outcome="refused", provider="none", status="429") == 1
    assert total(metrics, "tieline_attempts_total", provider="azure", outcome="stall") == 1
    assert total(metrics, "tieline_attempts_total", reason="failover") == 1
    assert total(metrics, "tieline_cost_unknown_total", provider="azure") == 1
    assert total(metrics, "tieline_skipped_events_total", provider="azure") == 2
    assert total(metrics, "tieline_skipped_events_total") == 2
    assert total(metrics, "tieline_cost_usd_total") == 2 * 1_234_567 / 10**12
    assert total(metrics, "tieline_tokens_total", kind="input") == 200
    assert total(metrics, "tieline_request_seconds_count") == 2
    assert total(metrics, "tieline_first_token_seconds_bucket", le="0.3") == 1
    assert total(metrics, "tieline_first_token_seconds_bucket", le="0.2") == 0
    assert total(metrics, "tieline_overhead_seconds_count") == 3


def test_a_batch_adds_up_as_its_records_do() -> None:
    made = [
        record(
            provider=("openai", None)[number % 5 == 4],
            status=(200, 499)[number % 7 == 6],
            cache=("off", "miss", "hit")[number % 3],
            wasted=(0, 3, None)[number % 3],
            splices=number % 2,
            flags=["budget_warning"] if number % 11 == 0 else [],
            first_token_ms=(None, 50.0, 50.1)[number % 3],
            total_ms=(13.0, 50.0, 700_000.0)[number % 3],
            overhead_ms=(0.1, 0.2, 300.0)[number % 3],
            attempts=[
                attempt(
                    tried + 1,
                    reason=("first", "failover")[tried],
                    cost=(None, 0, 12)[number % 3],
                    usage=(
                        None,
                        Usage(input_tokens=number, cache_read_tokens=number % 4, reasoning_tokens=2),
                    )[number % 4 > 0],
                )
                for tried in range(number % 3)
            ],
        )
        for number in range(200)
    ]
    together, apart = Metrics(), Metrics()
    for one in made:
        together.note(one)
        apart.note(one)
        apart.settle()
    assert samples(together).keys() == samples(apart).keys()
    for name, value in samples(together).items():
        assert value == pytest.approx(samples(apart)[name]), name
    assert total(together, "tieline_request_seconds_bucket", le="0.05") == sum(
        1 for one in made if one.provider and one.total_ms <= 50.0
    )
    assert total(together, "tieline_request_seconds_bucket", le="+Inf") == sum(
        1 for one in made if one.provider
    )


def test_each_record_is_counted_once_from_many_threads() -> None:
    metrics = Metrics()
    one = record()

    def work() -> None:
        for _ in range(3_000):
            metrics.note(one)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert total(metrics, "tieline_requests_total") <= 12_000
    for thread in threads:
        thread.join()
    assert total(metrics, "tieline_requests_total") == 12_000
    assert total(metrics, "tieline_overhead_seconds_count") == 12_000
    assert not metrics._noted


def test_few_records_wait_to_be_counted() -> None:
    metrics = Metrics()
    waiting = []
    for _ in range(100):
        metrics.note(record())
        waiting.append(len(metrics._noted))
    assert max(waiting) == 31


def test_labels_are_bounded() -> None:
    metrics = Metrics()
    for index in range(MAX_SERIES * 3):
        metrics.note(record(model=f"m{index}", deployment="x", attempts=[]))
    text, _ = metrics.exposition()
    assert len(text) < 4_000_000
    assert total(metrics, "tieline_requests_total") == MAX_SERIES * 3
    assert total(metrics, "tieline_requests_total", model="other") == MAX_SERIES * 2


def test_who_asks_for_ever_new_models_hides_nobody_else() -> None:
    """Everything that was not seen before used to be ``other`` from then on: its provider, outcome and status too."""
    metrics = Metrics()
    for index in range(MAX_SERIES + 10):
        metrics.note(record(model=f"m{index}", attempts=[attempt(model=f"m{index}", outcome="bad_request")]))
    failed = attempt(provider="azure", outcome="server_error", usage=None, cost=None)
    metrics.note(record(provider="azure", outcome="server_error", status=502, attempts=[failed]))
    for name in ("tieline_requests_total", "tieline_attempts_total"):
        assert total(metrics, name, provider="azure", outcome="server_error", model="other") == 1
    assert total(metrics, "tieline_requests_total", provider="other") == 0
    # And that is bounded as well.
    for index in range(MAX_SERIES * 2):
        metrics.note(record(provider=f"p{index}"))
    assert len(metrics.requests.values) <= 2 * MAX_SERIES + 1
    assert total(metrics, "tieline_requests_total") == MAX_SERIES * 3 + 11


def test_a_deployment_with_two_keys_is_one_series() -> None:
    """Prometheus takes no two of the same name and labels."""
    metrics = Metrics()
    twice = Gauge("tieline_state", "States.", {"deployment": "a/b"}, 1.0, "max")
    metrics.add_source(lambda: [twice, twice])
    text, _ = metrics.exposition()
    assert text.decode().count('tieline_state{deployment="a/b"} 1.0') == 1


def test_other_rooms_add_gauges() -> None:
    def breakers() -> Iterator[Gauge]:
        for state, value in (("open", 1.0), ("closed", 0.0)):
            yield Gauge("tieline_breaker", "Breaker states.", {"deployment": "a/b", "state": state}, value)

    metrics = Metrics()
    metrics.add_source(breakers)
    assert total(metrics, "tieline_breaker", state="open") == 1


@pytest.mark.parametrize(
    "broken",
    [
        record(overhead_ms=None),
        record(total_ms="long"),
        record(cache=[]),
        record(attempts=[attempt(1), attempt(2, provider=[])]),
        record(attempts=[attempt(usage=Usage(input_tokens=None))]),  # type: ignore[arg-type]
        record(wasted="all"),
    ],
)
def test_a_record_that_cannot_be_counted_costs_only_itself(
    broken: Record, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    for number in range(40):
        metrics.note(broken if number == 7 else record(wasted=1))
    assert total(metrics, "tieline_requests_total") == 39
    assert total(metrics, "tieline_attempts_total") == 39
    assert total(metrics, "tieline_overhead_seconds_count") == 39
    assert total(metrics, "tieline_cost_usd_total") == pytest.approx(39 * 1_234_567 / 10**12)
    assert metrics.uncounted == 1
    assert "a record cannot be counted" in caplog.text
