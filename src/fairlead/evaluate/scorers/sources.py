"""Scorers of an answer against what it was given to read: its facts by form and value, its sentences by their words.

Code sees whether the words of a claim stand together in a source, not whether the source says the same of them: a right
set of words with the wrong sense passes. `benchmarks/judges.py` measures how often; meaning is a judge's matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fairlead.engines.extractive.text import split_sentences
from fairlead.evaluate.scorers import Answer
from fairlead.evaluate.scorers.texts import plain
from fairlead.guard.grounding import grounded as unsupported
from fairlead.records import Sample


def grounded(sample: Sample, answer: Answer) -> float | None:
    """Share of the facts of the answer that stand in its documents; 1 where it states none.

    Facts are numbers, prices, dates, times, codes and addresses; meaning is a judge's matter. None without documents.
    """
    if not answer.documents:
        return None
    claims = len(unsupported(answer.text, ()))
    return 1 - len(unsupported(answer.text, answer.documents)) / claims if claims else 1.0


def all_grounded(sample: Sample, answer: Answer) -> bool | None:
    """Whether every fact of the answer stands in its documents."""
    return not unsupported(answer.text, answer.documents) if answer.documents else None


LEAST = 0.6
"""Share of the words of a claim that must stand in one place of a source."""
_WORD = re.compile(r"[^\W_]+")
_LITTLE = frozenset(
    "a an and are as at be been but by can could did do does for from had has have he her his i if in is it its may me "
    "might my no nor not of on or our she should so some such than that the their them then there these they this to "
    "was we were what when which who will with would you your".split()
)
_STEM = 5


def supported(sample: Sample, answer: Answer, *, least: float = LEAST) -> float | None:
    """Share of the sentences of the answer whose words and facts stand together in one of its documents."""
    sentences = [sentence for sentence in split_sentences(answer.text) if _words(sentence)]
    if not answer.documents or not sentences:
        return None
    return sum(support(sentence, answer.documents) >= least for sentence in sentences) / len(sentences)


def support(claim: str, sources: Sequence[str]) -> float:
    """How much of a claim stands in the best place of its sources (two sentences), 0..1; 0 for a new fact."""
    wanted = _words(claim)
    if not wanted or unsupported(claim, sources):
        return 0.0 if wanted else 1.0
    best = 0.0
    for source in sources:
        places = [_words(sentence) for sentence in split_sentences(source)] or [_words(source)]
        for one, other in zip(places, [*places[1:], frozenset()], strict=True):
            best = max(best, len(wanted & (one | other)) / len(wanted))
    return best


def _words(text: str) -> frozenset[str]:
    """The words that carry meaning, by their beginnings, so that two forms of one are the same."""
    return frozenset(word[:_STEM] for word in _WORD.findall(plain(text)) if word not in _LITTLE)
