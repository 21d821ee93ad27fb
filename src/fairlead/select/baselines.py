"""Candidates without a language model, in every selection: whoever is no better than these is not needed.

Of labels: TF-IDF with logistic regression, a classifier on the vectors of ``embed``, the label of the nearest example.
Of texts: the answer of the nearest example, and the passage that is found first, as it stands. They learn from data of
the purpose ``train``; without any from the samples themselves, each answered by one that has not seen its fifth: no
sample of the same person or conversation, and none with nearly the same text.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from fairlead.assistant import Knowledge
from fairlead.engines.embed import intents
from fairlead.engines.embed.embedder import Embedder, shared
from fairlead.engines.embed.intents import Intents
from fairlead.evaluate.candidates import Ask, Candidate
from fairlead.evaluate.measures import are_labels
from fairlead.evaluate.scorers import Answer
from fairlead.evaluate.splits import groups
from fairlead.records import Sample
from fairlead.select import tfidf
from fairlead.select.tfidf import TfIdf
from fairlead.spec.canonical import digest

FOLDS = 5
FEWEST = 10
"""Examples below which nothing is learnt."""
PREFIX = "baseline:"
"""No variant of a file can be called so."""
_FREE = (0.0, 0.0)


class Learner(Protocol):
    """Something fitted that turns a text into an answer."""

    def answer(self, text: str) -> str:
        """What it says to ``text``."""
        ...

    @property
    def nbytes(self) -> int:
        """What it takes of memory."""
        ...


Fit = Callable[[Sequence[str], Sequence[str]], Learner]
"""(texts, right answers) to a learner."""


def make_baselines(samples: Sequence[Sample], train: Sequence[Sample], knowledge: Knowledge | None) -> list[Candidate]:
    """All that can be had for these samples."""
    found: list[Candidate] = []
    examples = [each for each in train if _answer_of(each)] or [each for each in samples if _answer_of(each)]
    learnt = "" if any(_answer_of(each) for each in train) else f"learnt from the other {FOLDS - 1} fifths of the data"
    folds = _folds(samples) if learnt else {}
    learners: list[tuple[str, str, Fit]] = [("nearest", "nearest example", _NearestLearner)]
    if are_labels(examples or samples):
        learners[:0] = [
            ("tf-idf", "TF-IDF + logistic regression", _TfIdfLearner),
            ("embed", "classifier on embed", _EmbedLearner),
        ]
    if _enough(examples, folds):
        found += [_learning(name, model, fit, examples, folds, learnt) for name, model, fit in learners]
    if knowledge is not None and knowledge.passages:
        found.append(_retrieving(knowledge))
    return found


def _enough(examples: Sequence[Sample], folds: Mapping[str, int]) -> bool:
    """Whether there is something to learn from, also when a fifth is left out."""
    left = [{_answer_of(each) for each in examples if folds.get(each.id) != fold} for fold in range(FOLDS)]
    return len(examples) >= FEWEST and min(map(len, left)) > 1


def _answer_of(sample: Sample) -> str:
    """The one right answer of an example; a list of facts is none that could be given."""
    return sample.reference if isinstance(sample.reference, str) else ""


class _TfIdfLearner:
    def __init__(self, texts: Sequence[str], answers: Sequence[str]) -> None:
        self._model = TfIdf.fit(texts, answers)

    def answer(self, text: str) -> str:
        return self._model.label(text)

    @property
    def nbytes(self) -> int:
        return self._model.nbytes


class _EmbedLearner:
    def __init__(self, texts: Sequence[str], answers: Sequence[str]) -> None:
        self._model = Intents.fit(texts, answers, shared(), kept=1)

    def answer(self, text: str) -> str:
        return self._model.guess(text, shared()).intent

    @property
    def nbytes(self) -> int:
        return self._model.nbytes + _bytes_of(shared())


class _NearestLearner:
    def __init__(self, texts: Sequence[str], answers: Sequence[str]) -> None:
        self._vectors = shared().encode(list(texts))
        self._answers = list(answers)

    def answer(self, text: str) -> str:
        return self._answers[int((self._vectors @ shared().encode([text])[0]).argmax())]

    @property
    def nbytes(self) -> int:
        return int(self._vectors.nbytes) + _bytes_of(shared())


def _bytes_of(embedder: Embedder) -> int:
    return int(embedder.nbytes)


class _Folded:
    """Learners, each for a fifth of the samples it has not seen; fitted when first asked, in a thread."""

    def __init__(self, fit: Fit, examples: Sequence[Sample], folds: Mapping[str, int]) -> None:
        self._fit = fit
        self._examples = list(examples)
        self._folds = folds
        self._learners: dict[int, asyncio.Future[Learner]] = {}

    async def learner(self, sample: Sample) -> Learner:
        fold = self._folds.get(sample.id, -1)
        if fold not in self._learners:
            chosen = [each for each in self._examples if fold < 0 or self._folds.get(each.id) != fold]
            texts, answers = [each.input for each in chosen], [_answer_of(each) for each in chosen]
            self._learners[fold] = asyncio.ensure_future(asyncio.to_thread(self._fit, texts, answers))
        return await self._learners[fold]

    def bytes(self) -> int | None:
        done = [each.result().nbytes for each in self._learners.values() if each.done() and not each.exception()]
        return max(done, default=None)


def _folds(samples: Sequence[Sample]) -> dict[str, int]:
    """Sample to its fifth; what belongs together is in one, so that no learner has seen anything of what it answers."""
    named = zip(samples, groups(samples), strict=True)
    return {each.id: hashlib.sha256(group.encode("utf-8", "replace")).digest()[0] % FOLDS for each, group in named}


def _learning(
    name: str, model: str, fit: Fit, examples: Sequence[Sample], folds: Mapping[str, int], note: str
) -> Candidate:
    folded = _Folded(fit, examples, folds)

    async def ask(sample: Sample, epoch: int) -> Answer:
        learner = await folded.learner(sample)
        return _timed(lambda: learner.answer(sample.input))

    learnt = hashlib.sha256()
    for each in examples:
        learnt.update(repr((each.input, _answer_of(each), folds.get(each.id))).encode("utf-8", "surrogatepass"))
    return _candidate(name, model, ask, [learnt.hexdigest(), note, shared().digest], folded.bytes, note)


def _retrieving(knowledge: Knowledge) -> Candidate:
    async def ask(sample: Sample, epoch: int) -> Answer:
        began = time.perf_counter()
        passages = knowledge.search(sample.input, 1)
        total = time.perf_counter() - began
        texts, places = tuple(each.text for each in passages), tuple(each.location for each in passages)
        return Answer(
            text=" ".join(texts), documents=texts, retrieved=places, act="answer" if texts else "unknown",
            first_token_s=total, total_s=total, input_tokens=0, output_tokens=0, cost_nanos=0,
        )  # fmt: skip

    return _candidate("retrieval", "first passage found", ask, [knowledge.snapshot], lambda: None, "")


def _timed(say: Callable[[], str]) -> Answer:
    began = time.perf_counter()
    text = say()
    total = time.perf_counter() - began
    return Answer(text=text, first_token_s=total, total_s=total, input_tokens=0, output_tokens=0, cost_nanos=0)


def _candidate(
    name: str, model: str, ask: Ask, parts: list[str], memory: Callable[[], int | None], note: str
) -> Candidate:
    identity = digest([name, _code(), *parts])
    return Candidate(
        id=PREFIX + name, release=identity, identity=identity, ask=ask, model=model, price=_FREE, longest=0,
        own=True, light=True, baseline=True, memory=memory, note=note,
    )  # fmt: skip


@functools.cache
def _code() -> str:
    """A hash of the code that learns: when it changes, its answers are others."""
    modules = (sys.modules[__name__], tfidf, intents)
    return hashlib.sha256("".join(map(inspect.getsource, modules)).encode()).hexdigest()
