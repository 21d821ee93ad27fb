"""The use case as frozen data: what ``fairlead.yaml`` declares, typed, with every default filled in.

The field descriptions are the reference documentation and the help an editor shows. Says nothing about what happened
(``records``) and contacts nothing. How a file becomes a UseCase is ``load.py``'s work, rules across fields are
``checks.py``'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator
from pydantic_core import PydanticCustomError

from fairlead.errors import ChoiceUnknown
from fairlead.spec.bounds import BoundText, Quantity, QuantityText
from fairlead.spec.canonical import digest
from fairlead.spec.metrics import Aggregation, Metric, MetricEntry, effective
from fairlead.spec.part import MetricName, Name, Part, RelativePath, Sentence, Usd
from fairlead.spec.policy import Policy
from fairlead.spec.prices import PriceTable, table_for
from fairlead.spec.tools import Tools
from fairlead.spec.variant import Price, Variant

Channel = Literal["chat", "widget", "api"]
Risk = Literal["minimal", "limited", "high"]
Unit = Literal["inference", "conversation"]
ObjectiveKind = Literal["goal", "guardrail"]
Purpose = Literal["train", "eval", "calibration"]


class Owner(Part):
    """Someone who answers for the use case."""

    name: Annotated[str, Field(min_length=1, max_length=200)] = Field(description="The person's or team's name.")
    role: str = Field(default="", max_length=200, description="What they are in charge of.")
    email: str = Field(
        default="",
        pattern=r"^$|^[^@\s]+@[^@\s]+\.[^@\s]+$",
        max_length=320,
        description="Where alerts and requests go.",
    )


class Users(Part):
    """Who is served."""

    who: Sentence = Field(description="The people who will use it, in words.")
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2})?$")], ...] = Field(
        default=("en",), min_length=1, max_length=100, description="Language codes (BCP 47), the main one first."
    )


class Traffic(Part):
    """What is expected to come in; costs and waiting times for evidence are projected from it."""

    conversations_per_day: int = Field(gt=0, le=1_000_000_000, description="Conversations on an average day.")
    turns_per_conversation: float = Field(
        default=3.0, ge=1, le=1000, description="Messages of the user in one conversation."
    )
    input_tokens: int = Field(
        default=900, ge=0, le=10_000_000, description="Tokens a model reads for one turn, with prompt and passages."
    )
    output_tokens: int = Field(default=80, ge=0, le=1_000_000, description="Tokens a model writes in one turn.")


class Objective(Part):
    """A bound that a metric must hold. Goals are traded by weight, only after every guardrail holds."""

    id: Name = Field(description="Name of the objective, unique in the file.")
    metric: MetricName = Field(description="A built-in metric or one of `metrics:`.")
    aggregation: Aggregation = Field(
        default="mean", description="How values are summarised; the metric's usual way if left out."
    )
    bound: BoundText = Field(description='What must hold, with its unit, as in ">= 0.60", "<= 1.5 s" or "<= 0.20 USD".')
    kind: ObjectiveKind = Field(default="goal", description="goal (traded by weight) or guardrail (must hold).")
    weight: float = Field(default=1.0, gt=0, le=1000, description="How much a goal counts among the goals.")
    margin: QuantityText = Field(
        default=Quantity(value=0.0),
        description="How much worse than what is live a candidate may be (non-inferiority), in the metric's unit.",
        json_schema_extra={"default": 0},
        validate_default=False,
    )
    slice: dict[Name, Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default={}, description="Only rows with these tags count, as in {intent: refund}; empty means all."
    )
    by: str = Field(default="", max_length=63, description="Of fairness_gap: the tag whose groups are compared.")
    of: str = Field(default="", max_length=63, description="Of fairness_gap: the metric that is compared.")


class Budget(Part):
    """What may be spent. Left out means no limit is set here."""

    evaluation_usd: Usd | None = Field(default=None, description="Limit for one selection or evaluation run.")
    per_day_usd: Usd | None = Field(default=None, description="Limit for the live traffic of a day.")
    per_month_usd: Usd | None = Field(default=None, description="Limit for the live traffic of a month.")
    answer_tokens: int = Field(
        default=4096, ge=1, le=1_000_000, description="Longest answer where a budget is kept and nobody states one."
    )


class Limit(Part):
    """The most one key, user, tenant or model may ask for. Where several hold, the tightest counts."""

    per: Literal["key", "user", "tenant", "model"] = Field(description="Whose requests are counted together.")
    only: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=(), max_length=1000, description="Tenants or models it holds for; left out: each."
    )
    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000_000, description="Requests a minute.")
    tokens_per_minute: int | None = Field(
        default=None, ge=1, le=1_000_000_000_000, description="Tokens a minute, read and written."
    )
    concurrent: int | None = Field(default=None, ge=1, le=1_000_000, description="Requests at the same time.")
    usd_per_day: Usd | None = Field(default=None, description="What may be spent on a day (UTC).")
    usd_per_month: Usd | None = Field(default=None, description="What may be spent in a month (UTC).")
    weight: float | None = Field(
        default=None, gt=0, le=1000, description="Of a tenant: its share while a model is busy; others have 1."
    )

    def fits(self, name: str) -> bool:
        """Whether it holds for the key, user, tenant or model of this name."""
        return not self.only or name in self.only


class Paraphrases(Part):
    """Giving a kept answer to a question in other words, once its likeness has earned it."""

    max_error: float = Field(default=0.01, gt=0, lt=1, description="Share of these answers that may be wrong, at most.")
    confidence: float = Field(default=0.95, ge=0.5, le=0.999, description="How sure that must be.")
    verify: float = Field(
        default=0.02, gt=0, le=1, description="Share of these answers that the model is asked for all the same."
    )
    evidence_days: float = Field(default=7.0, gt=0, le=365, description="How long what was learnt counts, in days.")


class Cache(Part):
    """Answers given before that are given again instead of calling a model."""

    enabled: bool = Field(default=True, description="The very same question is answered from memory.")
    ttl: QuantityText = Field(
        default=Quantity(value=3600.0, unit="s"),
        description="How long an answer is kept, as in 10 min or 24 h.",
        json_schema_extra={"default": "1 h"},
        validate_default=False,
    )
    sampled: bool = Field(default=False, description="Keep answers drawn at a temperature above 0, too.")
    size_mib: int = Field(default=64, ge=1, le=65_536, description="Memory for kept answers, and as much disk, in MiB.")
    paraphrases: Paraphrases | None = Field(
        default=None, description="Answer questions in other words, too; left out means no."
    )

    @field_validator("ttl")
    @classmethod
    def _check_ttl(cls, given: Quantity) -> Quantity:
        if given.unit != "s" or not 1 <= given.value <= 30 * 86_400:
            near = f"{given.value:g} s" if not given.unit and 1 <= given.value <= 3600 else "1 h"
            raise PydanticCustomError("ttl", "{expected}", {"expected": "a time from 1 s to 720 h", "near": near})
        return given


class Dataset(Part):
    """Examples for one purpose, a JSON object per line."""

    id: Name = Field(description="Name of the data set, unique in the file.")
    path: RelativePath = Field(description="The .jsonl file.")
    purpose: Purpose = Field(description="train, eval or calibration; a set serves one purpose only.")
    licence: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        description="Under which terms it may be used, as an SPDX name where there is one."
    )
    source: str = Field(default="", max_length=500, description="Where it comes from.")


class Knowledge(Part):
    """Pages the assistant answers from."""

    path: RelativePath = Field(description="A folder of Markdown pages, or one page.")


class Routing(Part):
    """What messages are about, learnt from examples: for slices by intent, and for what a person should take."""

    examples: RelativePath = Field(description="A .jsonl file of {text, intent}, five or more examples an intent.")
    to_person: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=(), max_length=100, description="Intents that are handed to a person at once."
    )


class JudgeBar(Part):
    """What a calibration must show before a judge's scores may decide anything, by the bounds of its intervals."""

    kappa: float = Field(default=0.6, gt=0, le=1, description="Cohen's kappa with people's labels is at least this.")
    labels: int = Field(default=100, ge=2, le=1_000_000, description="Fewest labels it is calibrated on.")
    flips: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Pairs judged otherwise in the other order are at most this share.",
    )
    repeats: float = Field(
        default=0.9, ge=0, le=1, description="Cases judged the same when asked again are at least this share."
    )
    invalid: float = Field(default=0.05, ge=0, le=1, description="Cases without a verdict are at most this share.")


class Judge(Part):
    """A model that judges answers. It decides nothing until it is calibrated: `fairlead judge calibrate`."""

    id: Name = Field(description="Name of the judge, unique in the file; a metric's source names it: judge:NAME.")
    kind: Literal["rubric", "pairwise"] = Field(
        default="rubric",
        description="rubric (yes or no to one answer) or pairwise (the better of two).",
    )
    variant: Name = Field(description="Id of the variant whose model judges.")
    rubric: Annotated[str, Field(min_length=1, max_length=8_000)] = Field(
        description="What is judged, as a question that a person could answer with yes or no (or: which is better)."
    )
    needs: JudgeBar = Field(default=JudgeBar(), description="What a calibration must show.")


class UseCase(Part):
    """A use case: what good means, who may answer, and what must hold. One file, one page."""

    fairlead: Literal[1] = Field(description="Version of this file's format: 1.")
    name: Name = Field(description="Short name; clients may send it as the model.")
    purpose: Sentence = Field(description="What it is for, in one or two sentences.")
    owners: tuple[Owner, ...] = Field(default=(), max_length=100, description="Who answers for it.")
    users: Users = Field(description="Who is served.")
    channels: tuple[Channel, ...] = Field(default=("chat", "api"), description="Where conversations come from.")
    risk: Risk = Field(description="Risk class under the EU AI Act: minimal, limited or high.")
    unit: Unit = Field(default="conversation", description="What is counted as one case: inference or conversation.")
    traffic: Traffic | None = Field(default=None, description="What is expected to come in.")
    slices: dict[Name, tuple[Annotated[str, Field(min_length=1, max_length=200)], ...]] = Field(
        default={}, description="Own tags for slices with the values they can have, as in {intent: [refund, delivery]}."
    )
    metrics: dict[MetricName, MetricEntry] = Field(
        default={}, description="Own metrics, and settings of built-in ones, by name."
    )
    objectives: tuple[Objective, ...] = Field(default=(), max_length=200, description="What good means.")
    judges: tuple[Judge, ...] = Field(default=(), max_length=50, description="Models that judge answers.")
    confidence: float = Field(default=0.95, ge=0.5, le=0.999, description="Confidence of every interval and verdict.")
    min_samples: int = Field(default=200, ge=1, le=10_000_000, description="Fewest samples a verdict may rest on.")
    budget: Budget = Field(default=Budget(), description="What may be spent.")
    limits: tuple[Limit, ...] = Field(
        default=(), max_length=200, description="What one key, user, tenant or model may ask for."
    )
    variants: tuple[Variant, ...] = Field(min_length=1, max_length=100, description="The ways to answer.")
    live_id: Name = Field(alias="live", description="Id of the variant that answers.")
    policy: Policy = Field(default=Policy(), description="What must hold whatever is answered.")
    cache: Cache = Field(default=Cache(), description="Giving answers again.")
    datasets: tuple[Dataset, ...] = Field(
        default=(), max_length=200, description="Examples for evaluation and training."
    )
    knowledge: tuple[Knowledge, ...] = Field(default=(), max_length=200, description="What it answers from.")
    tools: tuple[Tools, ...] = Field(default=(), max_length=50, description="What it may look up and do.")
    routing: Routing | None = Field(default=None, description="What messages are about, and who takes them.")

    _base: Path = PrivateAttr(default=Path())

    def bind(self, base: Path) -> None:
        """Says which folder the paths of this file are relative to; called once, by the loader."""
        self._base = base
        for variant in self.variants:
            variant._base = base  # noqa: SLF001  (a part of this very object)

    @property
    def base(self) -> Path:
        """The folder that holds the file."""
        return self._base

    def path(self, relative: str) -> Path:
        """A path of the file, absolute."""
        return (self._base / relative).resolve()

    @cached_property
    def spec_hash(self) -> str:
        """SHA-256 (hex) of the canonical form: independent of comments, key order, quoting and units as written."""
        return digest(self.content())

    def content(self) -> dict[str, Any]:
        """The canonical form as JSON data, defaults filled, units normalised; what ``spec_hash`` is computed over.

        It is itself a valid file: parsing its JSON gives this use case again.
        """
        return self.model_dump(mode="json", by_alias=True)

    @cached_property
    def effective_metrics(self) -> Mapping[str, Metric]:
        """The built-in metrics as overridden here, and the own ones."""
        return effective(self.metrics)

    @cached_property
    def price_table(self) -> PriceTable:
        """Prices of hosted models: the project's own table, or Fairlead's. Raises PricesInvalid."""
        return table_for(self._base)

    def answering(self, variant: Variant) -> tuple[Variant, ...]:
        """Who may answer for a variant: itself, or the small and the big one of a router. Raises ChoiceUnknown."""
        if variant.between is None:
            return (variant,)
        return self.variant(variant.between.small), self.variant(variant.between.big)

    def unpriced(self, variant: Variant) -> list[str]:
        """Whose price is missing where ``price_of`` tells none: the variant's, or those of a router's two."""
        return [each.id for each in self.answering(variant) if each.target.remote and self.price_of(each) is None]

    def price_of(self, variant: Variant) -> Price | None:
        """What a variant's tokens cost: as it declares, else as the table says; None, unknown, where neither does.

        Of a router it is the most they can cost: the dearer of its two, whoever is on this machine costing nothing.
        """
        if variant.between is not None:
            free = Price(input_usd_per_million=0.0, output_usd_per_million=0.0)
            both = [self.price_of(each) or (None if each.target.remote else free) for each in self.answering(variant)]
            known = [price for price in both if price is not None]
            if len(known) < len(both):
                return None
            return Price(
                input_usd_per_million=max(each.input_usd_per_million for each in known),
                output_usd_per_million=max(each.output_usd_per_million for each in known),
            )
        if variant.price is not None:
            return variant.price
        found = self.price_table.find(variant.target)
        if found is None:
            return None
        return Price(
            input_usd_per_million=found.input_usd_per_million, output_usd_per_million=found.output_usd_per_million
        )

    def variant(self, identifier: str) -> Variant:
        """The variant called ``identifier``. Raises ChoiceUnknown."""
        for variant in self.variants:
            if variant.id == identifier:
                return variant
        raise ChoiceUnknown(kind="variant", name=identifier, choices=", ".join(each.id for each in self.variants))

    def judge(self, identifier: str) -> Judge:
        """The judge called ``identifier``. Raises ChoiceUnknown."""
        for judge in self.judges:
            if judge.id == identifier:
                return judge
        known = ", ".join(each.id for each in self.judges) or "none; fairlead.yaml declares them in `judges:`"
        raise ChoiceUnknown(kind="judge", name=identifier, choices=known)

    def allows(self, variant: Variant) -> bool:
        """Whether the policy lets messages go to ``variant``: outside the network only if it allows external models."""
        if self.policy.residency.external_models:
            return True
        return not any(each.target.external for each in self.answering(variant))

    @property
    def live(self) -> Variant:
        """The variant that answers."""
        return self.variant(self.live_id)
