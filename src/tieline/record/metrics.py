"""Prometheus metrics, added up from finished records off the hot path.

Labels are bounded: of what a caller typed they take only the name of a model that some provider was asked for, and when a
metric has ``MAX_SERIES`` label sets, what comes after goes under the model ``other``.

Of several workers on one port each shows what all of them have counted (``together``).
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from tieline.record.together import Figures, Kind, Labels, Together
from tieline.types.money import PICO_PER_USD
from tieline.types.record import Attempt, Record

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

log = logging.getLogger("tieline")

MAX_SERIES = 500
_TOGETHER = 32
"""Records are counted so many at a time: one by one each takes four times as long."""
OTHER = "other"
NOBODY = "none"
"""The provider and model of a request that nobody served."""

_OVERHEAD_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25)
_LATENCY_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_FIRST_TOKEN_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)


class Gauge(NamedTuple):
    """A figure that another room states when asked, such as a breaker's state or what is in flight."""

    name: str
    help: str
    labels: dict[str, str]
    value: float
    of_all: Kind = "sum"
    """What several workers come to."""


class Counter:
    """Sums by labels. Values are integers, so that money stays exact until it is shown."""

    def __init__(self, name: str, text: str, labels: Labels, scale: int = 1) -> None:
        self.name, self.text, self.labels, self.scale = name, text, labels, scale
        self.values: dict[Labels, int] = {}

    def add(self, labels: Labels, amount: int = 1) -> None:
        labels = _bounded(self.values, self.labels, labels)
        self.values[labels] = self.values.get(labels, 0) + amount

    def copy(self) -> Counter:
        copied = Counter(self.name, self.text, self.labels, self.scale)
        copied.values = self.values.copy()
        return copied

    def merge(self, values: Iterable[tuple[Labels, str]]) -> None:
        for labels, value in values:
            self.values[labels] = self.values.get(labels, 0) + int(value)


class Histogram:
    def __init__(self, name: str, text: str, labels: Labels, bounds: tuple[float, ...]) -> None:
        self.name, self.text, self.labels, self.bounds = name, text, labels, bounds
        self.values: dict[Labels, tuple[list[int], list[float]]] = {}

    def add(self, labels: Labels, values: list[float]) -> None:
        """Sorts ``values``: to look the bounds up among them is less than to look each of them up among the bounds."""
        if not values:
            return
        labels = _bounded(self.values, self.labels, labels)
        series = self.values.get(labels)
        if series is None:
            series = self.values[labels] = ([0] * (len(self.bounds) + 1), [0.0])
        counts, total = series
        values.sort()
        below = 0
        for place, bound in enumerate(self.bounds):
            reached = bisect_right(values, bound, below)
            counts[place] += reached - below
            below = reached
        counts[-1] += len(values) - below
        total[0] += sum(values)

    def copy(self) -> Histogram:
        copied = Histogram(self.name, self.text, self.labels, self.bounds)
        copied.values = {labels: (counts[:], total[:]) for labels, (counts, total) in self.values.items()}
        return copied

    def merge(self, values: Iterable[tuple[Labels, list[int], float]]) -> None:
        for labels, counts, total in values:
            if len(counts) != len(self.bounds) + 1:
                continue  # of another version, which was installed while the parent ran
            mine, sums = self.values.setdefault(labels, ([0] * len(counts), [0.0]))
            mine[:] = map(sum, zip(mine, counts, strict=True))
            sums[0] += total


Counts = list[tuple[Counter, Labels, int]]
Spreads = list[tuple[Histogram, Labels, list[float]]]
"""What is to be added where."""


class Metrics:
    """``note`` and ``exposition`` from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Held for some 0.1 ms: an event loop may wait for it."""
        self._noted: deque[Record] = deque()
        self.uncounted = 0
        """Records that could not be read, by a fault of ours."""
        self._sources: list[Callable[[], Iterable[Gauge]]] = []
        self._together: Together | None = None
        served = ("provider", "model")
        self.requests = Counter(
            "tieline_requests",
            "Requests that ended.",
            ("operation", "dialect", "provider", "model", "outcome", "status"),
        )
        self.attempts = Counter(
            "tieline_attempts", "Attempts at deployments.", ("provider", "model", "reason", "outcome")
        )
        self.tokens = Counter("tieline_tokens", "Tokens of answers.", ("provider", "model", "kind"))
        self.cost = Counter("tieline_cost_usd", "Known cost in US dollars.", served, PICO_PER_USD)
        self.wasted = Counter(
            "tieline_wasted_usd", "Cost that bought nothing for the caller.", ("provider",), PICO_PER_USD
        )
        self.unknown = Counter("tieline_cost_unknown", "Attempts whose cost is unknown.", served)
        self.cache = Counter("tieline_cache", "Cache lookups.", ("result",))
        self.splices = Counter("tieline_splices", "Streams resumed elsewhere after a break.", ("provider",))
        self.skipped = Counter(
            "tieline_skipped_events", "Events of streams that could not be read and were left out.", served
        )
        self.warnings = Counter("tieline_budget_warnings", "Requests under a soft budget that is passed.", ())
        self.overhead = Histogram(
            "tieline_overhead_seconds", "Time added by the gateway.", ("operation",), _OVERHEAD_S
        )
        self.latency = Histogram(
            "tieline_request_seconds", "Time from receipt to the end.", served, _LATENCY_S
        )
        self.first_token = Histogram(
            "tieline_first_token_seconds", "Time from receipt to the first content.", served, _FIRST_TOKEN_S
        )

        self.counters = (
            self.requests,
            self.attempts,
            self.tokens,
            self.cost,
            self.wasted,
            self.unknown,
            self.cache,
            self.splices,
            self.skipped,
            self.warnings,
        )
        self.histograms = (self.overhead, self.latency, self.first_token)

    def add_source(self, source: Callable[[], Iterable[Gauge]]) -> None:
        """``source`` is asked at each exposition; it must be quick and must bound its labels."""
        self._sources.append(source)

    def join(self, together: Together) -> None:
        """From now on what other workers have counted is shown too, and goes on where a dead one in this place ended."""
        with self._lock:
            self._merge(together.before(), self.counters, self.histograms)
            self._together = together

    def publish(self) -> None:
        """Shows the other workers what was counted here. Not from two threads at once."""
        if self._together is not None:
            self.settle()
            self._publish(*self._copied(), self._gauges())

    def note(self, record: Record) -> None:
        """Counts a finished record, with the next ones or when somebody looks."""
        noted = self._noted
        noted.append(record)
        if len(noted) >= _TOGETHER:
            self.settle()

    def settle(self) -> None:
        """Counts what was noted. Never raises: a record that cannot be counted costs only itself."""
        noted = self._noted
        with self._lock:
            if noted:
                records = [noted.popleft() for _ in range(len(noted))]
                try:
                    self._observe(records)
                except Exception:
                    for record in records:
                        self._observe_alone(record)

    def _observe_alone(self, record: Record) -> None:
        try:
            self._observe([record])
        except Exception as error:  # a fault of ours
            if not self.uncounted:
                log.error("a record cannot be counted (%s: %s)", record.id, type(error).__name__)
            self.uncounted += 1

    def _observe(self, records: Iterable[Record]) -> None:
        """Records that say the same but for their figures are added up first: most of a batch do.

        All are read before anything is counted: one that cannot be read leaves no trace of the others.
        """
        alike: dict[tuple[Any, ...], list[Record]] = {}
        for record in records:
            attempts = record.attempts
            if len(attempts) == 1:
                attempt = attempts[0]
                tried = (attempt.provider, attempt.model, attempt.reason, attempt.outcome)
            else:
                tried = None
            key = (
                record.operation,
                record.dialect,
                record.provider,
                record.model,
                record.outcome,
                record.status,
                record.cache,
                tried,
            )
            found = alike.get(key)
            if found is None:
                alike[key] = [record]
            else:
                found.append(record)
        counts: Counts = []
        spreads: Spreads = []
        for group in alike.values():
            self._read_alike(group, counts, spreads)
        for counter, labels, amount in counts:
            counter.add(labels, amount)
        for histogram, labels, values in spreads:
            histogram.add(labels, values)

    def registry(self) -> CollectorRegistry:
        """For use with prometheus-client directly."""
        from prometheus_client import CollectorRegistry

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry

    def exposition(self) -> tuple[bytes, str]:
        """The text that ``/metrics`` answers, and its content type."""
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self.registry()), CONTENT_TYPE_LATEST

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        self.settle()
        counters, histograms = self._copied()
        gauges = self._gauges()
        if self._together is not None:
            # First, so that whoever is asked next knows of all that is told here.
            self._publish(counters, histograms, gauges)
            for figures, lives in self._together.others():
                self._merge(figures, counters, histograms)
                gauges += [Gauge(*gauge) for gauge in figures.gauges] if lives else []
        yield from map(_counter_family, counters)
        yield from map(_histogram_family, histograms)
        yield from _gauge_families(_of_all(gauges))

    def _copied(self) -> tuple[list[Counter], list[Histogram]]:
        with self._lock:
            return [one.copy() for one in self.counters], [one.copy() for one in self.histograms]

    def _gauges(self) -> list[Gauge]:
        return [gauge for source in self._sources for gauge in source()]

    def _publish(
        self, counters: Iterable[Counter], histograms: Iterable[Histogram], gauges: list[Gauge]
    ) -> None:
        assert self._together
        figures = Figures(
            {one.name: [(labels, str(value)) for labels, value in one.values.items()] for one in counters},
            {
                one.name: [(labels, counts, total[0]) for labels, (counts, total) in one.values.items()]
                for one in histograms
            },
            [(one.name, one.help, one.labels, one.value, one.of_all) for one in gauges],
        )
        self._together.publish(figures)

    def _merge(self, figures: Figures, counters: Iterable[Counter], histograms: Iterable[Histogram]) -> None:
        for counter in counters:
            counter.merge(figures.counters.get(counter.name, ()))
        for histogram in histograms:
            histogram.merge(figures.histograms.get(histogram.name, ()))

    def _read_alike(self, group: list[Record], counts: Counts, spreads: Spreads) -> None:
        one = group[0]
        provider, model = one.provider or NOBODY, one.model or NOBODY
        served = (provider, model)
        labels = (one.operation, one.dialect, provider, model, one.outcome, str(one.status))
        counts.append((self.requests, labels, len(group)))
        if len(one.attempts) == 1:
            self._read_attempts([record.attempts[0] for record in group], counts)
        else:
            for record in group:
                for attempt in record.attempts:
                    hash((attempt.provider, attempt.model, attempt.reason, attempt.outcome))
                    self._read_attempts([attempt], counts)
        for record in group:
            if record.wasted:
                first = record.attempts[0].provider if record.attempts else NOBODY
                counts.append((self.wasted, (first,), int(record.wasted)))
            if record.splices:
                counts.append((self.splices, (provider,), int(record.splices)))
            if "budget_warning" in record.flags:
                counts.append((self.warnings, (), 1))
        if one.cache != "off":
            counts.append((self.cache, (one.cache,), len(group)))
        spreads.append((self.overhead, (one.operation,), [record.overhead_ms / 1_000 for record in group]))
        if one.provider:
            firsts = [at / 1_000 for record in group if (at := record.first_token_ms) is not None]
            spreads.append((self.latency, served, [record.total_ms / 1_000 for record in group]))
            spreads.append((self.first_token, served, firsts))

    def _read_attempts(self, group: list[Attempt], counts: Counts) -> None:
        """Of one provider, model, reason and outcome."""
        one = group[0]
        served = (one.provider, one.model)
        counts.append((self.attempts, (*served, one.reason, one.outcome), len(group)))
        costs = [attempt.cost for attempt in group]
        if unknown := costs.count(None):
            counts.append((self.unknown, served, unknown))
        if cost := sum(filter(None, costs)):
            counts.append((self.cost, served, cost))
        if skipped := sum([attempt.skipped for attempt in group]):
            counts.append((self.skipped, served, skipped))
        if usages := [usage for attempt in group if (usage := attempt.usage) is not None]:
            counts.append((self.tokens, (*served, "input"), sum([usage.input_tokens for usage in usages])))
            counts.append((self.tokens, (*served, "output"), sum([usage.output_tokens for usage in usages])))
            if cached := sum([usage.cache_read_tokens for usage in usages]):
                counts.append((self.tokens, (*served, "cache_read"), cached))
            if reasoning := sum([usage.reasoning_tokens for usage in usages]):
                counts.append((self.tokens, (*served, "reasoning"), reasoning))


def _of_all(gauges: Iterable[Gauge]) -> list[Gauge]:
    """One for each name and label set."""
    alike: dict[tuple[str, Labels], list[Gauge]] = {}
    for gauge in gauges:
        alike.setdefault((gauge.name, (*gauge.labels.values(),)), []).append(gauge)
    return [
        group[0]._replace(value=_COME_TO[group[0].of_all](gauge.value for gauge in group))
        for group in alike.values()
    ]


_COME_TO: dict[str, Callable[[Iterable[float]], float]] = {"sum": sum, "max": max, "min": min}


def _bounded(values: dict[Labels, Any], names: Labels, labels: Labels) -> Labels:
    if labels in values or len(values) < MAX_SERIES:
        return labels
    # Whoever asks for ever new models hides no provider's failures.
    labels = tuple([OTHER if name == "model" else label for name, label in zip(names, labels, strict=True)])
    if labels in values or len(values) < 2 * MAX_SERIES:
        return labels
    return (OTHER,) * len(labels)


def _counter_family(counter: Counter) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(counter.name, counter.text, labels=counter.labels)
    for labels, value in counter.values.items():
        family.add_metric(labels, value / counter.scale)
    return family


def _histogram_family(histogram: Histogram) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(histogram.name, histogram.text, labels=histogram.labels)
    for labels, (counts, total) in histogram.values.items():
        running, buckets = 0, []
        for bound, count in zip((*map(str, histogram.bounds), "+Inf"), counts, strict=True):
            running += count
            buckets.append((bound, running))
        family.add_metric(labels, buckets, total[0])
    return family


def _gauge_families(gauges: Iterable[Gauge]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    families: dict[str, GaugeMetricFamily] = {}
    for gauge in gauges:
        family = families.get(gauge.name)
        if family is None:
            family = families[gauge.name] = GaugeMetricFamily(
                gauge.name, gauge.help, labels=sorted(gauge.labels)
            )
        family.add_metric([gauge.labels[name] for name in sorted(gauge.labels)], gauge.value)
    return iter(families.values())
