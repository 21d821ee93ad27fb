"""Scorers: what one answer to one sample is worth.

A scorer is a function of a Sample and an Answer, plus a line in ``SCORERS``. Its return type says what it means: a bool
asserts, a number scores, a text labels; None says that it does not apply (there is no reference, nothing was measured).
Options are keyword arguments with defaults. Outsiders add scorers through the entry-point group ``fairlead.scorers``.

A call that failed has no score: it is excluded and counted, never taken for a wrong answer.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import sys
import typing
from collections.abc import Awaitable, Callable, Iterable
from types import UnionType
from typing import Any, Literal

import msgspec

from fairlead.errors import EvidenceInvalid, JudgementInvalid, ScorerInvalid, ServiceError
from fairlead.evaluate.evidence import Evidence, gather
from fairlead.evaluate.purse import Costs
from fairlead.records import Sample
from fairlead.registry import Registry
from fairlead.spec.canonical import digest

Kind = Literal["assertion", "number", "label"]
Value = bool | float | str | None

SCORERS: Registry[Value] = Registry(
    "scorer",
    {
        "exact": "fairlead.evaluate.scorers.texts:exact",
        "contains": "fairlead.evaluate.scorers.texts:contains",
        "regex": "fairlead.evaluate.scorers.texts:regex",
        "similarity": "fairlead.evaluate.scorers.texts:similarity",
        "declined": "fairlead.evaluate.scorers.texts:declined",
        "json_schema": "fairlead.evaluate.scorers.structure:json_schema",
        "numeric": "fairlead.evaluate.scorers.structure:numeric",
        "tool_calls": "fairlead.evaluate.scorers.structure:tool_calls",
        "tool_names": "fairlead.evaluate.scorers.structure:tool_names",
        "label": "fairlead.evaluate.scorers.labels:label",
        "right_label": "fairlead.evaluate.scorers.labels:right_label",
        "right": "fairlead.evaluate.scorers.expected:right",
        "handed_over": "fairlead.evaluate.scorers.expected:handed_over",
        "recall": "fairlead.evaluate.scorers.retrieval:recall",
        "reciprocal_rank": "fairlead.evaluate.scorers.retrieval:reciprocal_rank",
        "grounded": "fairlead.evaluate.scorers.sources:grounded",
        "all_grounded": "fairlead.evaluate.scorers.sources:all_grounded",
        "supported": "fairlead.evaluate.scorers.sources:supported",
        "refused": "fairlead.evaluate.scorers.safety:refused",
        "rightly_refused": "fairlead.evaluate.scorers.safety:rightly_refused",
        "keeps_private": "fairlead.evaluate.scorers.safety:keeps_private",
        "first_token": "fairlead.evaluate.scorers.usage:first_token",
        "latency": "fairlead.evaluate.scorers.usage:latency",
        "input_tokens": "fairlead.evaluate.scorers.usage:input_tokens",
        "output_tokens": "fairlead.evaluate.scorers.usage:output_tokens",
        "cost": "fairlead.evaluate.scorers.usage:cost",
    },
    group="fairlead.scorers",
)
"""Name to the function."""

VERSION = 1
UNPAID = "not judged: the budget did not suffice"
"""Of the protocol between scorers and what stores their values; goes into every hash."""
_KINDS: dict[type, Kind] = {bool: "assertion", int: "number", float: "number", str: "label"}

_WORDS: dict[Kind, str] = {"assertion": "a bool", "number": "a number", "label": "a text"}


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call that was made, or that should be."""

    name: str
    arguments: dict[str, Any] = {}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant made of a sample. None means not measured or not known, never 0.

    ``documents`` are the texts it was given to read, ``retrieved`` their ids, best first. ``act`` is what the assistant
    says it did (answer, unknown, handoff, ...), empty for a plain model. ``answered`` names another that answered: the
    one a router or ``weights`` chose, or what quotes instead of a draft that did not stand. ``user_nanos`` is what the
    model that played the user cost. ``error`` says why there is no answer.
    """

    text: str = ""
    documents: tuple[str, ...] = ()
    retrieved: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    act: str = ""
    first_token_s: float | None = None
    total_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_nanos: int | None = None
    user_nanos: int | None = 0
    answered: str = ""
    error: str = ""


class Priced(msgspec.Struct, frozen=True, kw_only=True):
    """A value that had to be paid for; ``cost_nanos`` None is unknown."""

    value: Value
    cost_nanos: int | None


class Scorer(msgspec.Struct, frozen=True, kw_only=True):
    """A scorer with its options, ready to use. ``hash`` changes with its code, its options and the protocol.

    A function that has to wait, as a judge does, is awaited by ``score_later``. ``judge`` is the judge's hash where one
    gives the values, and empty where code does; ``costs`` is what its calls may cost, None where there are none.
    """

    name: str
    kind: Kind
    hash: str
    function: Callable[[Sample, Answer], Value | Awaitable[Value | Priced]]
    judge: str = ""
    costs: Costs | None = None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """A scorer's value for a sample. ``value`` is None where it does not apply or there is no answer (``excluded``).

    ``cost_nanos`` is what finding it cost, None where nobody knows.
    """

    sample: str
    scorer: str
    hash: str
    kind: Kind
    value: Value
    excluded: bool = False
    note: str = ""
    judge: str = ""
    cost_nanos: int | None = 0


def make_scorer(name: str, **options: Any) -> Scorer:
    """The scorer called ``name``. Raises ChoiceUnknown, or ScorerInvalid for options it does not have."""
    return scorer_of(SCORERS.load(name), name, **options)


def scorer_of(function: Callable[..., Value | Awaitable[Value]], name: str = "", **options: Any) -> Scorer:
    """A scorer from any function of a Sample and an Answer. Raises ScorerInvalid."""
    name = name or function.__name__
    known = [each.name for each in list(inspect.signature(function).parameters.values())[2:]]
    wrong = [option for option in options if option not in known]
    if wrong:
        raise ScorerInvalid(
            name=name, detail=f"it has no option {wrong[0]!r}; its options: {', '.join(known) or 'none'}"
        )
    ready = functools.partial(function, **options) if options else function
    return Scorer(name=name, kind=_kind(name, function), hash=_hash(name, function, options), function=ready)


def score(scorer: Scorer, sample: Sample, answer: Answer) -> Score:
    """What the answer is worth. Raises ScorerInvalid when the scorer gives a value of another kind, NaN or infinity."""
    if answer.error:
        return _score(scorer, sample, None, excluded=answer.error)
    found = scorer.function(sample, answer)
    if inspect.isawaitable(found):
        if inspect.iscoroutine(found):
            found.close()
        raise ScorerInvalid(name=scorer.name, detail="it has to be waited for; call score_later")
    return _score(scorer, sample, found)


def not_paid(scorer: Scorer, sample: Sample) -> Score:
    """The score of a judge that was not asked because the money did not suffice."""
    return _score(scorer, sample, None, excluded=UNPAID)


async def score_later(scorer: Scorer, sample: Sample, answer: Answer) -> Score:
    """``score`` for scorers that may have to wait. A judge that fails or answers nonsense excludes the sample."""
    if answer.error:
        return _score(scorer, sample, None, excluded=answer.error)
    try:
        called = scorer.function(sample, answer)
        found = await called if inspect.isawaitable(called) else called
        if isinstance(found, Priced):
            return _score(scorer, sample, found.value, cost=found.cost_nanos)
        return _score(scorer, sample, found)
    except (JudgementInvalid, ServiceError) as error:
        return _score(scorer, sample, None, excluded=str(error), cost=error.details.get("cost_nanos", 0))


def _score(scorer: Scorer, sample: Sample, found: Value, *, excluded: str = "", cost: int | None = 0) -> Score:
    if found is not None and _KINDS.get(type(found)) != scorer.kind:
        detail = f"it gave {found!r} for sample {sample.id}; its return type promises {_WORDS[scorer.kind]}"
        raise ScorerInvalid(name=scorer.name, detail=detail)
    if isinstance(found, float) and not math.isfinite(found):
        detail = f"it gave {found} for sample {sample.id}; expected a finite number"
        raise ScorerInvalid(name=scorer.name, detail=detail)
    return Score(
        sample=sample.id, scorer=scorer.name, hash=scorer.hash, kind=scorer.kind, value=found,
        excluded=bool(excluded), note=excluded, judge=scorer.judge, cost_nanos=cost,
    )  # fmt: skip


def evidence_of(scores: Iterable[Score], samples: Iterable[Sample]) -> Evidence:
    """Scores of one scorer as evidence for a verdict, samples of one conversation together.

    Labels are no numbers: compare them first, as ``right_label`` does. Raises EvidenceInvalid for them, and where
    several judges gave the values.
    """
    conversations = {sample.id: sample.conversation for sample in samples}
    chosen, excluded, judges = [], 0, set()
    for each in scores:
        judges.add(each.judge)
        excluded += each.excluded
        if each.value is not None:
            chosen.append(each)
    if len(judges) > 1:
        raise EvidenceInvalid(detail=f"its values come from {len(judges)} instruments (judges or code); expected one")
    values: list[Any] = [each.value for each in chosen]
    clusters = [conversations.get(each.sample, "") for each in chosen]
    return gather(values, clusters=clusters, excluded=excluded, judge="".join(judges))


def _kind(name: str, function: Callable[..., Value | Awaitable[Value]]) -> Kind:
    try:
        returned = typing.get_type_hints(function).get("return")
    except NameError as error:
        raise ScorerInvalid(name=name, detail=f"its types cannot be read ({error})") from error
    parts = typing.get_args(returned) if isinstance(returned, UnionType) or typing.get_origin(returned) else (returned,)
    kinds = {_KINDS.get(part) for part in parts if part is not type(None)}
    if len(kinds) != 1 or None in kinds:
        detail = "its return type must say what it gives: bool (asserts), float (scores) or str (labels), or None"
        raise ScorerInvalid(name=name, detail=detail)
    return typing.cast("Kind", kinds.pop())


def _hash(name: str, function: Callable[..., Value | Awaitable[Value]], options: dict[str, Any]) -> str:
    """Of the whole module the function stands in, because its helpers decide as much as it does."""
    module = sys.modules[function.__module__]
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):
        source = function.__code__.co_code.hex() if hasattr(function, "__code__") else repr(function)
    code = hashlib.sha256(source.encode()).hexdigest()
    return digest(
        {"scorer": name, "protocol": VERSION, "options": options, "function": function.__qualname__, "code": code}
    )
