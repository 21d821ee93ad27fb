"""Variants: the ways to answer that a use case declares, each with what decides its answers and what it costs."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator
from pydantic_core import PydanticCustomError

from fairlead.secret import REFERENCE
from fairlead.spec import release
from fairlead.spec.part import Name, Part, RelativePath
from fairlead.spec.target import Target, TargetError, read_target


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


class DynamicBatching(Part):
    """Embeddings for several callers in one request to their server."""

    max_batch_size: int = Field(default=32, ge=2, le=256, description="Most texts in one request to the server.")
    max_queue_delay_ms: float = Field(
        default=0,
        ge=0,
        le=1000,
        description="Milliseconds a request waits for others, at most. 0: only what has just arrived goes together.",
    )


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
    task: Literal["generate", "embed"] = Field(
        default="generate",
        description="embed: a GGUF file or vllm-serve:NAME that makes embeddings, and nothing else.",
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
    dynamic_batching: DynamicBatching | None = Field(
        default=None,
        description="Of a model over HTTP that makes embeddings: several callers' texts go in one request.",
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
    def answers(self) -> bool:
        """Whether it can answer a message; an embedder cannot."""
        return self.task == "generate" and self.target.kind != "embed"

    @property
    def embeds_over_http(self) -> bool:
        """Whether its embeddings come from a server, ours or another's."""
        return self.task == "embed" or self.target.embeds_over_http

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
            model=(self.target.kind if self.weights_path() else self.model)
            + (" embed" if self.task == "embed" else ""),
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
        return self._path(self.target.path) if self.target.kind in ("gguf", "openvino", "vllm") else None

    def adapter_path(self) -> Path | None:
        """Its LoRA adapter, absolute; None where there is none."""
        return self._path(self.adapter)

    def router_path(self) -> Path | None:
        """The file of a ``router:`` model, absolute; None for others."""
        return self._path(self.target.path) if self.target.routes else None

    def _path(self, relative: str | None) -> Path | None:
        return ((self._base or Path()) / relative).resolve() if relative else None
