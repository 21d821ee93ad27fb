"""Counters and durations of the process in Prometheus' text format, named after OpenTelemetry's GenAI conventions.

The one place that knows those names, and which version of them (CONVENTION). Labels have few values by construction:
served model names, operations and error codes, never keys, tenants, users or texts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from types import MappingProxyType

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

CONVENTION = "1.37.0"
"""Version of the OpenTelemetry semantic conventions the names below are taken from (status there: development)."""

OPERATIONS: Mapping[str, str] = MappingProxyType(
    {
        "chat": "chat",
        "completion": "text_completion",
        "embedding": "embeddings",
        "assistant": "invoke_agent",
        "request": "invoke_agent",
    }
)
"""Our operation to ``gen_ai.operation.name``."""

ATTRIBUTES: Mapping[str, str] = MappingProxyType(
    {
        "operation": "gen_ai.operation.name",
        "provider": "gen_ai.provider.name",
        "model": "gen_ai.request.model",
        "answered_by": "gen_ai.response.model",
        "conversation": "gen_ai.conversation.id",
        "finish": "gen_ai.response.finish_reasons",
        "input_tokens": "gen_ai.usage.input_tokens",
        "output_tokens": "gen_ai.usage.output_tokens",
        "token_type": "gen_ai.token.type",
        "error": "error.type",
    }
)
"""What a record calls a thing, to what the conventions call it."""

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "duration": "gen_ai.server.request.duration",
        "first_token": "gen_ai.server.time_to_first_token",
        "tokens": "gen_ai.client.token.usage",
    }
)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TOKENS = tuple(4**power for power in range(14))


def prometheus_name(name: str) -> str:
    """A dotted name of the conventions as Prometheus allows it."""
    return name.replace(".", "_")


Readings = Iterable[tuple[tuple[str, ...], float]]

disable_created_metrics()  # type: ignore[no-untyped-call]  # a start time beside every series doubles the output and helps nobody


class _Series:
    """One histogram's counts for one set of label values."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, how many values up to it), the last bound +Inf."""
        bounds = [*(str(float(bound)) for bound in self.bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))


class _Histogram(Collector):
    """A histogram that is filled from one thread, the event loop's.

    prometheus_client's own takes a lock and walks its buckets: 4 µs a value, and a request has four.
    """

    def __init__(self, name: str, documentation: str, labels: list[str], bounds: tuple[float, ...]) -> None:
        self._family = (name, documentation, labels)
        self._bounds = bounds
        self._series: dict[tuple[str, ...], _Series] = {}

    def series(self, *values: str) -> _Series:
        """The counts for these label values."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = _Series(self._bounds)
        return series

    def collect(self) -> Iterator[Metric]:
        """What Prometheus is told."""
        name, documentation, labels = self._family
        family = HistogramMetricFamily(name, documentation, labels=labels)
        for values, series in sorted(self._series.items()):
            family.add_metric(list(values), series.buckets(), sum_value=series.total)
        yield family


class _Kept(Collector):
    """What answering from memory did."""

    def __init__(self, lines: Callable[[], Iterator[tuple[str, str, int, int, int]]]) -> None:
        self._lines = lines

    def collect(self) -> Iterator[Metric]:
        """What Prometheus is told; tenants are left out, as everywhere."""
        model = prometheus_name(ATTRIBUTES["model"])
        requests = CounterMetricFamily(
            "fairlead_cache_requests", "Requests by how they met the kept answers.", labels=[model, "outcome"]
        )
        saved = CounterMetricFamily(
            "fairlead_cache_saved_dollars", "What calls not made would have cost.", labels=[model]
        )
        time = CounterMetricFamily("fairlead_cache_saved_seconds", "Time not waited for models.", labels=[model])
        counts: dict[tuple[str, str], int] = {}
        sums: dict[str, tuple[int, int]] = {}
        for name, outcome, number, nanos, saved_us in self._lines():
            counts[name, outcome] = counts.get((name, outcome), 0) + number
            before = sums.get(name, (0, 0))
            sums[name] = before[0] + nanos, before[1] + saved_us
        for (name, outcome), number in sorted(counts.items()):
            requests.add_metric([name, outcome], number)
        for name, (nanos, saved_us) in sorted(sums.items()):
            saved.add_metric([name], nanos / 1e9)
            time.add_metric([name], saved_us / 1e6)
        yield from (requests, saved, time)


class _Gauges(Collector):
    """Values that are somewhere else, read when someone looks."""

    def __init__(self, name: str, documentation: str, labels: list[str], read: Callable[[], Readings]) -> None:
        self._family = (name, documentation, labels)
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """What Prometheus is told."""
        name, documentation, labels = self._family
        family = GaugeMetricFamily(name, documentation, labels=labels)
        for values, value in self._read():
            family.add_metric(list(values), value)
        yield family


class Telemetry:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = [prometheus_name(ATTRIBUTES[name]) for name in ("operation", "provider", "model", "error")]
        self._duration = _Histogram(
            prometheus_name(METRICS["duration"]) + "_seconds",
            "Time from the first header of a request to the last byte of its answer.",
            labels,
            _SECONDS,
        )
        self._first = _Histogram(
            prometheus_name(METRICS["first_token"]) + "_seconds",
            "Time to the first words or tool call of a stream.",
            labels,
            _FIRST_SECONDS,
        )
        self._tokens = _Histogram(
            prometheus_name(METRICS["tokens"]),
            "Tokens of one request.",
            [*labels[:3], prometheus_name(ATTRIBUTES["token_type"])],
            _TOKENS,
        )
        for histogram in (self._duration, self._first, self._tokens):
            self.registry.register(histogram)
        self._refused = Counter(
            "fairlead_requests_refused",
            "Requests turned away before it was known who asked, by error code.",
            ["code"],
            registry=self.registry,
        )
        self._turned_away = Counter(
            "fairlead_requests_turned_away",
            "Requests of somebody known that might not start, by error code: limits, budgets, busy models.",
            ["code"],
            registry=self.registry,
        )
        self._dropped = Counter(
            "fairlead_records_dropped", "Records lost because the queue was full.", registry=self.registry
        )
        self._in_flight = Gauge("fairlead_requests_in_flight", "Requests being answered.", registry=self.registry)
        info = Gauge(
            "fairlead_semantic_conventions",
            "OpenTelemetry convention the names follow.",
            ["version"],
            registry=self.registry,
        )
        info.labels(CONVENTION).set(1)
        self._known: dict[tuple[str, ...], tuple[_Series, _Series, _Series, _Series]] = {}

    def observe(
        self,
        *,
        operation: str,
        provider: str,
        model: str,
        error: str,
        seconds: float,
        first_seconds: float | None,
        input_tokens: int,
        output_tokens: int,
    ) -> None:
        """Count one finished request. ``model`` is the name it is served under, ``error`` a code or empty."""
        key = (operation, provider, model, error)
        series = self._known.get(key)
        if series is None:
            named = (OPERATIONS.get(operation, operation), provider, model)
            series = self._known[key] = (
                self._duration.series(*named, error),
                self._first.series(*named, error),
                self._tokens.series(*named, "input"),
                self._tokens.series(*named, "output"),
            )
        series[0].observe(seconds)
        if first_seconds is not None:
            series[1].observe(first_seconds)
        if input_tokens:
            series[2].observe(input_tokens)
        if output_tokens:
            series[3].observe(output_tokens)

    def count_refused(self, code: str) -> None:
        """Count a request of nobody known."""
        self._refused.labels(code).inc()

    def count_dropped(self, records: int = 1) -> None:
        """Count records that were lost."""
        self._dropped.inc(records)

    def count_turned_away(self, code: str) -> None:
        """Count a request of somebody known that may not start now."""
        self._turned_away.labels(code).inc()

    def watch(self, name: str, documentation: str, labels: list[str], read: Callable[[], Readings]) -> None:
        """A gauge whose values are read whenever someone looks: (label values, value) each. Few label values only."""
        self.registry.register(_Gauges(name, documentation, labels, read))

    def watch_in_flight(self, count: Callable[[], float]) -> None:
        """Take the number of requests in flight from ``count`` whenever someone looks."""
        self._in_flight.set_function(count)

    def watch_cache(self, lines: Callable[[], Iterator[tuple[str, str, int, int, int]]]) -> None:
        """Count kept answers whenever someone looks: (model, outcome, requests, nano-dollars, microseconds saved)."""
        self.registry.register(_Kept(lines))

    def expose(self) -> bytes:
        """All metrics in Prometheus' text format (CONTENT_TYPE)."""
        return generate_latest(self.registry)
