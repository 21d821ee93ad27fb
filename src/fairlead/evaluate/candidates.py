"""Candidates: ways to answer, as the runner sees them: a name, a price, and a function from a sample to an answer.

``through_gateway`` asks a model as any client of the gateway would, ``through_assistant`` asks the whole assistant with
its pages and tools. Both ask in process and take the very path live traffic takes. Knows no scorer and no objective.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any

import msgspec

from fairlead.assistant import Answer as Reply
from fairlead.assistant import Assistant, Delta
from fairlead.errors import UpstreamBroken
from fairlead.evaluate.purse import FREE, Costs, Price, cost_of
from fairlead.evaluate.scorers import Answer, Call
from fairlead.gateway import Exchange, Gateway, Principal
from fairlead.gateway.usage import tokens_of
from fairlead.providers.base import CallContext
from fairlead.records import Sample, new_id
from fairlead.spec import Variant
from fairlead.spec.canonical import digest

CHANNEL = "evaluation"
LONGEST = 1_024
"""Tokens an answer may have where nothing says so, for what a call may cost."""
PASSAGE_BYTES = 1_200
"""What a passage may add to what a model reads."""

Ask = Callable[[Sample, int], Awaitable[Answer]]
"""(sample, epoch) to an answer. Raises ServiceError where there is none."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One way to answer.

    ``release`` is the release that would go live, ``identity`` the hash of everything that decides an answer here: the
    release and the way it is asked. ``price`` is None when it is unknown, ``prompt`` the bytes that go with every
    sample and ``longest`` the tokens an answer may have: what a call may cost is told from them. ``calls`` tells how
    many calls a sample may take, ``beside`` what each costs that is not the candidate's: the model that plays the user.
    ``own`` runs on this machine, so its calls do not overlap with anything that is timed; ``light`` costs next to
    nothing to ask. ``memory`` tells the bytes it takes, None when that is not known. ``note`` is for people.
    """

    id: str
    release: str
    identity: str
    ask: Ask
    model: str = ""
    price: Price | None = None
    prompt: int = 0
    longest: int = LONGEST
    calls: Callable[[Sample], int] = lambda _: 1
    beside: Costs | None = None
    own: bool = True
    light: bool = False
    baseline: bool = False
    memory: Callable[[], int | None] = lambda: None
    note: str = ""

    @property
    def free(self) -> bool:
        """Whether asking it costs no money."""
        return self.price == FREE

    @property
    def costs(self) -> Costs:
        """What its calls may cost."""
        return Costs(price=self.price, prompt=self.prompt, longest=self.longest)


def through_gateway(
    gateway: Gateway,
    variant: Variant,
    release: str,
    *,
    price: Price | None,
    among: Mapping[str, tuple[Variant, Price | None]] | None = None,
    memory: Callable[[], int | None] | None = None,
) -> Candidate:
    """The variant's model with its prompt and sampling, nothing else: for labels, rewriting, extraction.

    ``among`` are the variants a router chooses from, by id, with their prices: its own is the most they may cost.
    """
    able = among or {variant.id: (variant, price)}
    prompts = {name: each.prompt_text() for name, (each, _) in able.items()}

    async def ask(sample: Sample, epoch: int) -> Answer:
        said = [{"role": turn.role, "content": turn.text} for turn in sample.earlier]
        messages = [*said, {"role": "user", "content": sample.input}]
        split = gateway.routes[variant.id].split if among else None
        chosen = split.choose({"messages": messages})[0] if split is not None else variant.id
        opening = [{"role": "system", "content": prompts[chosen]}] if prompts[chosen] else []
        body: dict[str, Any] = {"model": variant.id, "messages": [*opening, *messages]}
        seed = able[chosen][0].sampling.seed
        if epoch and seed is not None:
            body["seed"] = seed + epoch  # the same seed again would be the same answer again
        return await _streamed(gateway, body, sample, price)

    return Candidate(
        id=variant.id,
        release=release,
        identity=digest({"release": release, "through": "gateway"}),
        ask=ask,
        model=variant.model,
        price=price,
        prompt=max(len(prompt.encode()) for prompt in prompts.values()),
        longest=_longest(able),
        own=_own(able),
        memory=memory or (lambda: None),
    )


def _longest(able: Mapping[str, tuple[Variant, Price | None]]) -> int:
    return max(each.sampling.max_tokens or LONGEST for each, _ in able.values())


def _own(able: Mapping[str, tuple[Variant, Price | None]]) -> bool:
    return not all(each.target.remote for each, _ in able.values())


async def _streamed(gateway: Gateway, body: dict[str, Any], sample: Sample, price: Price | None) -> Answer:
    """As a stream, because only that tells when the first token came."""
    began = time.perf_counter()
    first: float | None = None
    said = _Said()
    body["stream_options"] = {"include_usage": True}
    ways: list[Exchange] = []
    stream = gateway.stream(body, principal=principal(sample), context=context(sample), ended=ways.append)
    async with aclosing(stream) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            said.take(chunk)
            if first is None and said.begun:
                first = time.perf_counter() - began
    total = time.perf_counter() - began
    tokens = tokens_of(said.usage)
    route = ways[0].route if ways else None
    answered = ""
    if route is not None and route.name != body["model"]:  # a router or `weights:` chose it
        answered, price = route.name, route.price
    return Answer(
        text="".join(said.pieces),
        answered=answered,
        calls=tuple(map(_call, said.calls_in_order)),
        first_token_s=first,
        total_s=total,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        cost_nanos=cost_of(price, tokens),
    )


class _Said:
    """What the chunks of a stream come to."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.usage: Mapping[str, Any] = {}
        self._calls: dict[int, dict[str, str]] = {}

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has come."""
        return bool(self.pieces or self._calls)

    @property
    def calls_in_order(self) -> list[dict[str, str]]:
        """Name and arguments of each tool call."""
        return [self._calls[place] for place in sorted(self._calls)]

    def take(self, chunk: Mapping[str, Any]) -> None:
        """The next chunk."""
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if text := delta.get("content"):
                self.pieces.append(text)
            for made in delta.get("tool_calls") or ():
                self._add(made)

    def _add(self, made: Mapping[str, Any]) -> None:
        known = self._calls.setdefault(int(made.get("index") or 0), {"name": "", "arguments": ""})
        function = made.get("function") or {}
        known["name"] += function.get("name") or ""
        known["arguments"] += function.get("arguments") or ""


def _call(made: Mapping[str, str]) -> Call:
    try:
        arguments = msgspec.json.decode(made["arguments"] or "{}", type=dict[str, Any])
    except msgspec.DecodeError:  # a model may write anything; what it wrote is kept for whoever reads it
        arguments = {"": made["arguments"]}
    return Call(name=made["name"], arguments=arguments)


def through_assistant(
    assistant: Assistant,
    variant: Variant,
    release: str,
    *,
    price: Price | None,
    among: Mapping[str, tuple[Variant, Price | None]] | None = None,
    memory: Callable[[], int | None] | None = None,
) -> Candidate:
    """The assistant as customers meet it, with ``variant`` behind it; ``among`` as for ``through_gateway``."""
    able = among or {variant.id: (variant, price)}
    prices = {name: cost for name, (_, cost) in able.items()}

    async def ask(sample: Sample, epoch: int) -> Answer:
        said = [{"role": turn.role, "content": turn.text} for turn in sample.earlier]
        messages = [*said, {"role": "user", "content": sample.input}]
        return await reply(assistant, variant.id, messages, sample, price, prices)

    return Candidate(
        id=variant.id,
        release=release,
        identity=digest({"release": release, "through": "assistant"}),
        ask=ask,
        model=variant.model,
        price=price,
        prompt=max(
            len(each.prompt_text().encode()) + each.retrieval.passages * PASSAGE_BYTES for each, _ in able.values()
        ),
        longest=_longest(able),
        own=_own(able),
        memory=memory or (lambda: None),
    )


async def reply(
    assistant: Assistant,
    variant: str,
    messages: list[dict[str, Any]],
    sample: Sample,
    price: Price | None,
    prices: Mapping[str, Price | None] = MappingProxyType({}),
) -> Answer:
    """One answer of the assistant to a history of messages, at the price of who gave it. Raises ServiceError.

    ``prices`` are of those a router chooses from, ``price`` of who else may answer.
    """
    began = time.perf_counter()
    first: float | None = None
    whole: Reply | None = None
    parts = assistant.stream(messages, variant=variant, principal=principal(sample), context=context(sample))
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, Delta) and first is None and part.text:
                first = time.perf_counter() - began
            elif isinstance(part, Reply):
                whole = part
    if whole is None:
        raise UpstreamBroken(name=variant, detail="the assistant gave no whole answer")
    tokens = whole.input_tokens, whole.output_tokens
    facts = tuple("; ".join(f"{label}: {value}" for label, value in card.rows) for card in whole.facts)
    return Answer(
        text=whole.text,
        documents=tuple(source.text for source in whole.sources) + facts,
        retrieved=tuple(source.location for source in whole.sources),
        act=whole.act,
        first_token_s=first,
        total_s=time.perf_counter() - began,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        cost_nanos=cost_of(prices.get(whole.answered, price), tokens),
        answered=whole.answered if whole.answered != variant else "",
    )


def principal(sample: Sample) -> Principal:
    """Who asks: a customer of an evaluation, never a real one."""
    return Principal(tenant=sample.tenant, subject=CHANNEL)


def context(sample: Sample) -> CallContext:
    """On behalf of what: a model that fails has failed, whoever would stand in for it where it is live."""
    return CallContext(request=new_id(), tenant=sample.tenant, subject=CHANNEL, channel=CHANNEL, alone=True)
