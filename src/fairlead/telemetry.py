"""Counters and durations of the process in Prometheus' text format, named after OpenTelemetry's GenAI conventions.

The one place that knows those names, and which version of them (CONVENTION). Labels have few values by construction:
served model names, operations and error codes, never keys, tenants, users or texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

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


disable_created_metrics()  # type: ignore[no-untyped-call]  # a start time beside every series doubles the output and helps nobody


class Telemetry:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = [prometheus_name(ATTRIBUTES[name]) for name in ("operation", "provider", "model", "error")]
        self._duration = Histogram(
            prometheus_name(METRICS["duration"]) + "_seconds",
            "Time from the first header of a request to the last byte of its answer.",
            labels,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._first = Histogram(
            prometheus_name(METRICS["first_token"]) + "_seconds",
            "Time to the first words or tool call of a stream.",
            labels,
            buckets=_FIRST_SECONDS,
            registry=self.registry,
        )
        self._tokens = Histogram(
            prometheus_name(METRICS["tokens"]),
            "Tokens of one request.",
            [*labels[:3], prometheus_name(ATTRIBUTES["token_type"])],
            buckets=_TOKENS,
            registry=self.registry,
        )
        self._refused = Counter(
            "fairlead_requests_refused",
            "Requests turned away before it was known who asked, by error code.",
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
        self._children: dict[tuple[str, ...], tuple[Histogram, Histogram, Histogram, Histogram]] = {}

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
        children = self._children.get(key)
        if children is None:
            named = (OPERATIONS.get(operation, operation), provider, model)
            children = self._children[key] = (
                self._duration.labels(*named, error),
                self._first.labels(*named, error),
                self._tokens.labels(*named, "input"),
                self._tokens.labels(*named, "output"),
            )
        children[0].observe(seconds)
        if first_seconds is not None:
            children[1].observe(first_seconds)
        if input_tokens:
            children[2].observe(input_tokens)
        if output_tokens:
            children[3].observe(output_tokens)

    def count_refused(self, code: str) -> None:
        """Count a request of nobody known."""
        self._refused.labels(code).inc()

    def count_dropped(self, records: int = 1) -> None:
        """Count records that were lost."""
        self._dropped.inc(records)

    def watch_in_flight(self, count: Callable[[], float]) -> None:
        """Take the number of requests in flight from ``count`` whenever someone looks."""
        self._in_flight.set_function(count)

    def expose(self) -> bytes:
        """All metrics in Prometheus' text format (CONTENT_TYPE)."""
        return generate_latest(self.registry)
