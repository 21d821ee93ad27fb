"""What can be measured: the built-in metrics for support, and the shape of a project's own.

A metric says what a number means (definition, level, unit, direction, range); computing it is the ruler's work, not
this module's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fairlead.spec.bounds import Direction, Unit

Level = Literal["inference", "conversation", "user"]
MetricType = Literal["bool", "float", "ratio"]
Aggregation = Literal["mean", "ratio", "p50", "p75", "p90", "p95", "p99", "gap"]
PERCENTILES: dict[str, float] = {"p50": 0.50, "p75": 0.75, "p90": 0.90, "p95": 0.95, "p99": 0.99}
SOURCE = r"^(trace|outcome|feedback|judge|code|person)(:\S+)?$"
_FITTING: dict[MetricType, tuple[Aggregation, ...]] = {
    "bool": ("mean",),
    "float": ("mean", "p50", "p75", "p90", "p95", "p99"),
    "ratio": ("ratio",),
}


class Metric(BaseModel):
    """How a number is to be understood. ``low`` and ``high`` limit what a single value can be; None = no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, str_strip_whitespace=True)

    definition: str = Field(min_length=1, max_length=1000, description="One sentence that says what is counted.")
    level: Level = Field(description="What one value belongs to: an inference, a conversation or a user.")
    type: MetricType = Field(description="bool (a share), float (a measured value) or ratio (numerator / denominator).")
    unit: Unit = Field(default="", description='Base unit of a value: "" for shares and scores, s, USD, tokens, ...')
    direction: Direction = Field(description="max when more is better, min when less is better.")
    aggregations: tuple[Aggregation, ...] = Field(
        default=(), description="Ways to summarise values, the usual one first; empty means all that fit the type."
    )
    low: float | None = Field(default=None, description="Smallest possible value, if there is one.")
    high: float | None = Field(default=None, description="Largest possible value, if there is one.")
    source: str = Field(
        pattern=SOURCE,
        description="Where values come from: trace, outcome, feedback, judge, code or person; a detail after a colon.",
    )
    numerator: str = Field(default="", description="Of a ratio: what is summed above the line.")
    denominator: str = Field(default="", description="Of a ratio: what is summed below the line.")
    window_hours: float | None = Field(
        default=None, gt=0, le=8760, description="How long an outcome may still change before it counts, in hours."
    )
    sample: float = Field(
        default=1.0, gt=0, le=1, description="Share of the traffic that is scored (judges cost money)."
    )
    rows: dict[str, str] = Field(
        default={}, description="Rows of labelled data that count, by tag; * stands for any value."
    )
    reported_with: tuple[str, ...] = Field(default=(), description="Metrics that must be shown beside this one.")

    @property
    def allowed(self) -> tuple[Aggregation, ...]:
        """The aggregations an objective may use; the first is the default."""
        if self.aggregations:
            return self.aggregations
        return _FITTING[self.type]

    @property
    def range(self) -> tuple[float | None, float | None]:
        """The smallest and largest possible value; a share lies in 0..1, a time or amount is never negative."""
        if self.type == "bool":
            return 0.0, 1.0
        low = self.low if self.low is not None or self.unit == "" else 0.0
        return low, self.high

    @property
    def is_share(self) -> bool:
        """Whether each value is a bool or a number from 0 to 1, so that the mean is a share."""
        return self.range == (0.0, 1.0)


def _optional(name: str, **limits: Any) -> Any:
    return Field(default=None, description=Metric.model_fields[name].description, **limits)


class MetricEntry(BaseModel):
    """A metric of your own, or settings of a built-in one (only source, window_hours, sample and rows).

    A metric of your own needs definition, level, type, direction and source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, str_strip_whitespace=True)

    definition: str | None = _optional("definition", min_length=1, max_length=1000)
    level: Level | None = _optional("level")
    type: MetricType | None = _optional("type")
    unit: Unit | None = _optional("unit")
    direction: Direction | None = _optional("direction")
    aggregations: tuple[Aggregation, ...] | None = _optional("aggregations")
    low: float | None = _optional("low")
    high: float | None = _optional("high")
    source: str | None = _optional("source", pattern=SOURCE)
    numerator: str | None = _optional("numerator", min_length=1, max_length=200)
    denominator: str | None = _optional("denominator", min_length=1, max_length=200)
    window_hours: float | None = _optional("window_hours", gt=0, le=8760)
    sample: float | None = _optional("sample", gt=0, le=1)
    rows: dict[str, str] | None = _optional("rows")
    reported_with: tuple[str, ...] | None = _optional("reported_with")

    def given(self) -> dict[str, Any]:
        """The fields that were written."""
        return self.model_dump(exclude_none=True)


REQUIRED = ("definition", "level", "type", "direction", "source")
"""What a metric of one's own must say."""
OVERRIDABLE = ("source", "window_hours", "sample", "rows")
"""What may be changed of a built-in metric."""


def _share(
    definition: str, level: Level, direction: Direction, source: str, **more: float | tuple[str, ...] | dict[str, str]
) -> Metric:
    return Metric.model_validate(
        {"definition": definition, "level": level, "type": "bool", "direction": direction, "source": source, **more}
    )


def _measure(definition: str, unit: Unit, direction: Direction, source: str) -> Metric:
    return Metric(
        definition=definition, level="inference", type="float", unit=unit, direction=direction, low=0.0, source=source
    )


BUILT_IN: Mapping[str, Metric] = {
    "resolution": _share(
        "Share of the assistant's conversations that no person took over, that were not abandoned, and that were "
        "confirmed as solved or not followed by a contact about the same matter within the window.",
        "conversation", "max", "outcome", window_hours=72.0,
    ),
    "containment": _share(
        "Share of conversations that began with the assistant and ended there without a hand-off; counts people who "
        "gave up, so never read it as resolution.",
        "conversation", "max", "outcome",
    ),
    "deflection": _share(
        "Share of people who made contact through any channel and reached no person.", "user", "max", "outcome",
        window_hours=72.0,
    ),
    "escalation": _share("Share of conversations handed to a person.", "conversation", "min", "outcome"),
    "correct_escalation": _share(
        "Share of the conversations that had to be handed to a person that were.", "conversation", "max", "code:label",
        rows={"expect": "handoff"},
    ),
    "recontact": _share(
        "Share of customers who made contact again about the same matter within the window.", "user", "min", "outcome",
        window_hours=48.0,
    ),
    "csat": _share(
        "Share of rated conversations with a good rating (thumb up, or at least 4 of 5); always read with its response "
        "rate.",
        "conversation", "max", "feedback", reported_with=("csat_response_rate",),
    ),
    "csat_response_rate": _share("Share of conversations that were rated at all.", "conversation", "max", "feedback"),
    "groundedness": Metric(
        definition="Share of an answer's claims that its sources support.", level="inference", type="float",
        direction="max", aggregations=("mean",), low=0.0, high=1.0, source="judge:grounded",
    ),
    "intent_accuracy": _share(
        "Share of messages whose recognised intent is exactly the labelled one.", "inference", "max", "code:label",
        rows={"intent": "*"},
    ),
    "out_of_scope_recall": _share(
        "Share of the questions outside the assistant's task that it declined to answer.", "inference", "max",
        "code:label", rows={"expect": "unanswerable"},
    ),
    "first_token_latency": _measure(
        "Time from the request's arrival to the first token of the answer.", "s", "min", "trace"
    ),
    "total_latency": _measure("Time from the request's arrival to the end of the answer.", "s", "min", "trace"),
    "cost_per_request": _measure("What one request cost in model fees.", "USD", "min", "trace"),
    "cost_per_resolution": Metric(
        definition="What all conversations cost in model fees, divided by the number that were resolved.",
        level="conversation", type="ratio", unit="USD", direction="min", source="outcome",
        numerator="cost", denominator="resolution", window_hours=72.0,
    ),
    "fairness_gap": Metric(
        definition="Largest difference of another metric between the groups of a tag (in `by`), such as languages.",
        level="conversation", type="float", direction="min", aggregations=("gap",), low=0.0, high=1.0, source="outcome",
    ),
}  # fmt: skip
"""The metrics every project has, by name. Sources of the definitions: docs/design/use-case.md."""


def effective(own: Mapping[str, MetricEntry]) -> dict[str, Metric]:
    """The built-in metrics with a project's overrides applied and its own ones added; incomplete ones are left out."""
    metrics = dict(BUILT_IN)
    for name, entry in own.items():
        given = entry.given()
        if name in metrics:
            metrics[name] = metrics[name].model_copy(update=given)
        elif all(field in given for field in REQUIRED):
            metrics[name] = Metric.model_construct(**given)
    return metrics
