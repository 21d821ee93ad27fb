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

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from fairlead.errors import ChoiceUnknown
from fairlead.secret import REFERENCE
from fairlead.spec import release
from fairlead.spec.bounds import BoundText, Quantity, QuantityText
from fairlead.spec.canonical import digest
from fairlead.spec.hours import Hours, HoursError
from fairlead.spec.metrics import Aggregation, Metric, MetricEntry, effective
from fairlead.spec.prices import PriceTable, table_for
from fairlead.spec.target import Target, TargetError, read_target

Channel = Literal["chat", "widget", "api"]
Risk = Literal["minimal", "limited", "high"]
Unit = Literal["inference", "conversation"]
ObjectiveKind = Literal["goal", "guardrail"]
MaskKind = Literal["email", "phone", "card", "iban"]
Purpose = Literal["train", "eval", "calibration"]

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Sentence = Annotated[str, Field(min_length=1, max_length=2000)]
RelativePath = Annotated[str, Field(min_length=1, max_length=500)]
Usd = Annotated[float, Field(ge=0, le=1e9)]


class Part(BaseModel):
    """What all parts share: frozen, typed strictly, no unknown keys, texts without outer white space."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, str_strip_whitespace=True)


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


class Sampling(Part):
    """How a model writes. Left out means the model's own default."""

    temperature: float | None = Field(default=None, ge=0, le=2, description="0 is the most predictable.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="Share of probability that is sampled from.")
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000, description="Longest answer, in tokens.")
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1, description="Makes sampling repeatable where supported.")
    stop: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        default=(), max_length=4, description="Texts at which the answer ends."
    )


class Retrieval(Part):
    """What a model is given to read."""

    passages: int = Field(default=3, ge=0, le=50, description="Passages from the knowledge that go with a question.")


class Price(Part):
    """What a model costs. Without it the price table says, or the cost is unknown, never 0."""

    input_usd_per_million: float = Field(ge=0, le=1e6, description="USD for a million tokens read.")
    output_usd_per_million: float = Field(ge=0, le=1e6, description="USD for a million tokens written.")

    @property
    def nanos_per_token(self) -> tuple[float, float]:
        """(input, output) in nano-dollars per token; a price per million tokens in USD, times 1,000."""
        return round(self.input_usd_per_million * 1000, 6), round(self.output_usd_per_million * 1000, 6)


class Between(Part):
    """The two that a router chooses from."""

    small: Name = Field(description="Variant that answers what is easy.")
    big: Name = Field(description="Variant that answers what needs it.")


class Variant(Part):
    """One way to answer: model, prompt, sampling and retrieval together."""

    id: Name = Field(description="Name of the variant, unique in the file.")
    model: Annotated[str, Field(min_length=1, max_length=500)] = Field(
        description="extractive, cascade, mini, embed, ./file.gguf, openai:NAME and other providers, "
        "http(s)://host/v1#NAME, or router:./file.json."
    )
    adapter: RelativePath | None = Field(
        default=None,
        description="LoRA adapter of its model: a folder with vllm-serve:NAME, a .gguf file with a GGUF file.",
    )
    prompt: RelativePath | None = Field(default=None, description="File with the system prompt.")
    sampling: Sampling = Field(default=Sampling(), description="How the model writes.")
    retrieval: Retrieval = Field(default=Retrieval(), description="What the model is given to read.")
    api_key: Annotated[str, Field(pattern=REFERENCE)] | None = Field(
        default=None,
        description="Where the provider's key is: env:NAME, file:PATH or keyring:SERVICE/NAME; never the key.",
    )
    api_keys: tuple[Annotated[str, Field(pattern=REFERENCE)], ...] = Field(
        default=(),
        max_length=32,
        description="Several keys of the provider, instead of api_key: used in turn, one that is refused is set aside.",
    )
    price: Price | None = Field(default=None, description="What the model's tokens cost.")
    fallback: tuple[Name, ...] = Field(
        default=(), max_length=5, description="Variants asked in its place, in this order, while it cannot answer."
    )
    batch: Annotated[str, Field(min_length=1, max_length=1000)] = Field(
        default="gateway",
        description="Who answers its batches: gateway, provider (its own, at half price), or a command line with "
        "{input}, {output} and {model} in it, such as vllm run-batch.",
    )
    weights: dict[Name, Annotated[float, Field(gt=0, le=1_000_000)]] = Field(
        default={},
        max_length=6,
        description="Shares of its requests this variant and its fallbacks are asked first, as in {main: 9, small: 1}.",
    )
    between: Between | None = Field(
        default=None, description="Of a router: the two variants it chooses from, by their ids."
    )
    hedge: bool = Field(
        default=False,
        description="Ask a second time for a whole answer later than 95 % of those before; the first to come counts.",
    )

    _base: Path | None = PrivateAttr(default=None)

    @field_validator("model")
    @classmethod
    def _check_model(cls, text: str) -> str:
        try:
            read_target(text)
        except TargetError as error:
            kind = "secret" if error.secret else "target"
            raise PydanticCustomError(kind, "{expected}", {"expected": error.expected, "near": error.near}) from error
        return text

    @cached_property
    def target(self) -> Target:
        """What ``model`` points at."""
        return read_target(self.model)

    @property
    def references(self) -> tuple[str, ...]:
        """Where its keys are; empty when none is declared."""
        return self.api_keys or ((self.api_key,) if self.api_key is not None else ())

    @property
    def priced(self) -> bool:
        """Whether a budget can be kept for it: its price is declared, or it runs in this network and nobody bills."""
        return self.price is not None or not self.target.external

    def release_content(
        self, *, knowledge: str = "", tools: str = "", routing: str = "", engine: str = ""
    ) -> dict[str, Any]:
        """Everything that decides an answer, as JSON data: ``release_hash`` of it names a release.

        ``knowledge``, ``tools`` and ``routing`` are hashes of what the assistant reads, may call and goes by,
        ``engine`` whatever identifies built-in weights or code. The prompt is read from its file. Raises OSError when
        a file has gone.
        """
        return release.content(
            model=self.target.kind if self.weights_path() else self.model,
            prompt=self._path(self.prompt),
            weights=self.weights_path(),
            adapter=self.adapter_path(),
            settings={
                "sampling": self.sampling.model_dump(mode="json"),
                "retrieval": self.retrieval.model_dump(mode="json"),
            },
            knowledge=knowledge,
            tools=tools,
            routing=routing,
            engine=engine,
        )

    def prompt_text(self) -> str:
        """The system prompt; empty when there is none."""
        path = self._path(self.prompt)
        return path.read_text(encoding="utf-8") if path else ""

    def weights_path(self) -> Path | None:
        """The file or folder of a model that is one, absolute; None for others."""
        return self._path(self.target.path) if self.target.kind in ("gguf", "openvino") else None

    def adapter_path(self) -> Path | None:
        """Its LoRA adapter, absolute; None where there is none."""
        return self._path(self.adapter)

    def router_path(self) -> Path | None:
        """The file of a ``router:`` model, absolute; None for others."""
        return self._path(self.target.path) if self.target.routes else None

    def _path(self, relative: str | None) -> Path | None:
        return ((self._base or Path()) / relative).resolve() if relative else None


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
            raise PydanticCustomError("ttl", "{expected}", {"expected": "a time from 1 s to 720 h", "near": "1 h"})
        return given


class Privacy(Part):
    """What happens to personal data."""

    mask: tuple[MaskKind, ...] = Field(
        default=("email", "phone", "card", "iban"),
        description="Kinds of personal data masked before anything is stored.",
    )
    store_content: bool = Field(default=True, description="Store (masked) message texts, not only figures.")
    training_use: bool = Field(default=False, description="Conversations may be used to train models.")


class Retention(Part):
    """How long things are kept, in days."""

    traces_days: int = Field(default=30, ge=1, le=3650, description="Days a trace is kept.")
    conversations_days: int = Field(default=90, ge=1, le=3650, description="Days a conversation is kept.")


class Residency(Part):
    """Where data may go."""

    regions: tuple[Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z0-9-]{1,30})?$")], ...] = Field(
        default=(),
        max_length=50,
        description="Regions where data may be stored, such as eu, us or eu-central-1; empty: any.",
    )
    external_models: bool = Field(default=True, description="Messages may be sent to models outside your own network.")


class Handoff(Part):
    """Talking to a person."""

    enabled: bool = Field(default=True, description="Users can ask for a person.")
    hours: str = Field(
        default="24/7", max_length=300, description='When people answer: "Mon-Fri 09:00-17:00" or "24/7".'
    )
    timezone: str = Field(default="UTC", max_length=64, description="IANA time zone of the hours.")
    message: Annotated[str, Field(max_length=2000)] = Field(
        default="A person of our team will answer here.",
        description="What the user reads when handed over.",
    )
    sla: QuantityText = Field(
        default=Quantity(value=600.0, unit="s"),
        description="How soon a person should have taken over, counted within the hours, as in 10 min.",
        json_schema_extra={"default": "10 min"},
        validate_default=False,
    )

    @field_validator("sla")
    @classmethod
    def _check_sla(cls, given: Quantity) -> Quantity:
        if given.unit != "s" or not 0 < given.value <= 7 * 86_400:
            raise PydanticCustomError("sla", "{expected}", {"expected": "a time up to 168 h", "near": "10 min"})
        return given

    @field_validator("hours")
    @classmethod
    def _check_hours(cls, text: str) -> str:
        try:
            return str(Hours.read(text))
        except HoursError as error:
            raise PydanticCustomError("hours", "{expected}", {"expected": str(error), "near": ""}) from error

    @cached_property
    def opening(self) -> Hours:
        """``hours``, parsed."""
        return Hours.read(self.hours)


class Disclosure(Part):
    """What users are told before the first answer."""

    greeting: Annotated[str, Field(min_length=1, max_length=2000)] = Field(
        default="Hello! I am an AI assistant. You can ask for a person at any time.",
        description="First message of a conversation; says that an AI answers (EU AI Act, Article 50(1)).",
    )


class Identity(Part):
    """How the site that embeds the chat says who is signed in: by a token it signs (JWT, HS256)."""

    secret: Annotated[str, Field(pattern=REFERENCE)] = Field(
        description="Where the shared secret is, at least 32 bytes: env:NAME, file:PATH or keyring:SERVICE/NAME."
    )


class Policy(Part):
    """What must hold whatever is answered."""

    privacy: Privacy = Field(default=Privacy(), description="What happens to personal data.")
    retention: Retention = Field(default=Retention(), description="How long things are kept.")
    residency: Residency = Field(default=Residency(), description="Where data may go.")
    handoff: Handoff = Field(default=Handoff(), description="Talking to a person.")
    disclosure: Disclosure = Field(default=Disclosure(), description="What users are told before the first answer.")
    identity: Identity | None = Field(default=None, description="Taking over who is signed in from the site.")


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


class ToolCap(Part):
    """The most a tool may do by itself."""

    argument: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="The argument that counts.")
    max: float = Field(
        ge=0, description="The most it may come to for one customer; more waits for a person's approval."
    )
    hours: float = Field(default=24.0, gt=0, le=8_760, description="Within how many hours it is added up.")


class ToolRule(Part):
    """What a tool does, and what must come before it. What is not said here is as the tool declares it."""

    effect: Literal["reads", "writes"] | None = Field(
        default=None, description="Whether it only reads, or changes something and needs the customer's yes."
    )
    ask: str = Field(
        default="", max_length=300, description="The question before it runs, with arguments in braces: {order_id}."
    )
    check: str = Field(default="", max_length=64, description="A reading tool that is called before the question.")
    cap: ToolCap | None = Field(default=None, description="The most it may do without a person's approval.")
    customer: bool = Field(default=False, description="Only for a known customer.")
    identifies: bool = Field(default=False, description="Its result may say who the customer is.")
    hidden: bool = Field(default=False, description="Not offered to models.")
    bind: dict[Annotated[str, Field(min_length=1, max_length=64)], Literal["id", "email", "name"]] = Field(
        default={}, description="Arguments taken from the known customer instead of from the model."
    )


class Tools(Part):
    """What the assistant may call: a file of functions, or an MCP server. One of path, command and url."""

    path: RelativePath | None = Field(default=None, description="A Python file with typed functions.")
    command: tuple[Annotated[str, Field(min_length=1, max_length=1_000)], ...] = Field(
        default=(), max_length=50, description="An MCP server to start: program and arguments, without a shell."
    )
    url: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=2_000)] | None = Field(
        default=None, description="An MCP server at an address (streamable HTTP)."
    )
    trusted: bool = Field(
        default=False,
        description="Whether what the MCP server says of its tools counts, and it is told who the customer is.",
    )
    secrets: dict[
        Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=100)],
        Annotated[str, Field(pattern=REFERENCE, max_length=500)],
    ] = Field(
        default={},
        description="Environment of the command or headers of the url, as env:NAME, file:PATH or keyring:SERVICE/NAME.",
    )
    rules: dict[Annotated[str, Field(min_length=1, max_length=64)], ToolRule] = Field(
        default={}, max_length=128, description="Rules for tools, by name."
    )

    @model_validator(mode="after")
    def _check_one(self) -> Tools:
        if sum(map(bool, (self.path, self.command, self.url))) != 1:
            raise PydanticCustomError("target", "{expected}", {"expected": "one of path, command and url", "near": ""})
        return self


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
