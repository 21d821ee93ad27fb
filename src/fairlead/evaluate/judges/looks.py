"""A judge's look at a case: one answer by a rubric, or two answers in both orders. Knows no model and no statistics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from fairlead.errors import JudgementInvalid
from fairlead.evaluate.purse import Costs
from fairlead.evaluate.scorers import Answer, Priced, Scorer
from fairlead.records import Sample
from fairlead.spec.canonical import digest

Kind = Literal["rubric", "pairwise"]
PROTOCOL = 1
"""Of what is asked and how it is read; goes into every judge's hash."""
VERDICTS: dict[Kind, tuple[str, ...]] = {"rubric": ("yes", "no"), "pairwise": ("first", "second", "tie")}
"""What a judge of a kind can say. Of a pair, ``first`` and ``second`` are the answers as they were shown."""
_TURNED = {"first": "second", "second": "first"}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked at: a question and one answer, or two in the order in which they are shown."""

    question: str
    answers: tuple[str, ...]
    sources: tuple[str, ...] = ()
    reference: str = ""

    def turned(self) -> Case:
        """The same pair in the other order."""
        return msgspec.structs.replace(self, answers=self.answers[::-1])


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What one look gave. ``verdict`` is empty where there was none (``reason`` says why): invalid, not a score.

    ``failed``: the model did not answer at all, which says nothing of it as a judge. ``calls`` counts requests to the
    model. Tokens and ``cost_nanos`` are None where they are not known.
    """

    verdict: str = ""
    reason: str = ""
    failed: bool = False
    calls: int = 1
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_nanos: int | None = None

    @property
    def valid(self) -> bool:
        """Whether there is a verdict."""
        return bool(self.verdict)


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A pair judged in both orders. ``verdict`` speaks of the pair as it was given; empty when either look is invalid.

    A judge that changes its mind with the order says nothing about the pair: a tie, and ``flipped``.
    """

    given: Judgement
    turned: Judgement

    @property
    def verdict(self) -> str:
        """``first``, ``second``, ``tie``, or empty."""
        if not (self.given.valid and self.turned.valid):
            return ""
        back = _TURNED.get(self.turned.verdict, self.turned.verdict)
        return self.given.verdict if self.given.verdict == back else "tie"

    @property
    def flipped(self) -> bool:
        """Whether the two orders gave different verdicts on the pair."""
        return self.given.valid and self.turned.valid and self.given.verdict != _TURNED.get(
            self.turned.verdict, self.turned.verdict
        )  # fmt: skip


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """What a judge is. ``model`` identifies what answers, ``options`` is everything else that decides a verdict."""

    id: str
    kind: Kind
    rubric: str
    model: str
    options: dict[str, Any] = {}

    @property
    def hash(self) -> str:
        """Changes with the model, the rubric, the options and the protocol; not with the name."""
        return digest({
            "judge": PROTOCOL, "kind": self.kind, "rubric": self.rubric, "model": self.model, "options": self.options,
        })  # fmt: skip


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """A judge that can be used. ``look`` gets a case and the number of the repetition, 0 for the first time.

    ``costs`` are those of one call to its model; None where it calls none.
    """

    definition: Definition
    look: Callable[[Case, int], Awaitable[Judgement]]
    costs: Costs | None = None


async def rate(judge: Instrument, case: Case, repetition: int = 0) -> Judgement:
    """The verdict on one answer. A verdict the kind does not have is invalid."""
    return _checked(judge, await judge.look(case, repetition))


async def compare(judge: Instrument, case: Case, repetition: int = 0) -> Compared:
    """The verdict on two answers, each shown first once."""
    given = _checked(judge, await judge.look(case, repetition))
    turned = _checked(judge, await judge.look(case.turned(), repetition))
    return Compared(given=given, turned=turned)


def _checked(judge: Instrument, judgement: Judgement) -> Judgement:
    if not judgement.valid or judgement.verdict in VERDICTS[judge.definition.kind]:
        return judgement
    reason = f"the verdict {judgement.verdict[:60]!r}; expected {' or '.join(VERDICTS[judge.definition.kind])}"
    return msgspec.structs.replace(judgement, verdict="", reason=reason)


def scorer_of(judge: Instrument) -> Scorer:
    """A rubric judge as a scorer that ``score_later`` awaits; a sample without a verdict is excluded and counted."""

    async def function(sample: Sample, answer: Answer) -> Priced:
        judgement = await rate(judge, case_of(sample, answer))
        cost = judgement.cost_nanos
        if not judgement.valid:
            raise JudgementInvalid(name=judge.definition.id, detail=judgement.reason, cost_nanos=cost)
        return Priced(value=judgement.verdict == "yes", cost_nanos=cost)

    if judge.definition.kind != "rubric":
        raise ValueError(f"{judge.definition.id} compares two answers; a scorer sees one")
    definition = judge.definition
    return Scorer(
        name=f"judge:{definition.id}", kind="assertion", hash=definition.hash, function=function, judge=definition.hash,
        costs=judge.costs,
    )  # fmt: skip


def case_of(sample: Sample, *answers: Answer) -> Case:
    """What a judge is shown of a sample: the messages before it, the question, the answers and what they rest on."""
    before = [f"{turn.role}: {turn.text}" for turn in sample.earlier]
    question = "\n".join([*before, f"user: {sample.input}"]) if before else sample.input
    return Case(
        question=question,
        answers=tuple(answer.text for answer in answers),
        sources=tuple(dict.fromkeys(text for answer in answers for text in answer.documents)),
        reference=sample.reference if isinstance(sample.reference, str) else "",
    )
