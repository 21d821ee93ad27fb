"""Whether two questions ask the same, or two answers say the same: what must agree, then how alike they are.

Numbers, identifiers, names, "not", may and must, the question word, opposites and the language must agree
(`agreement`); then the embedder's judge of pairs gives the odds (`engines.embed.likeness`). Pure, deterministic.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fairlead.engines.embed.embedder import Embedder, shared
from fairlead.engines.embed.likeness import Likeness, Prepared
from fairlead.guard.agreement import Facts, disagreement, facts_of

SAME_ANSWER: Final = 0.9
"""Odds from which two answers in other words count as one; the stricter, the more often a right answer is called wrong,
which costs hits and never a customer."""


class Text(msgspec.Struct, frozen=True):
    """A text, ready to be compared."""

    facts: Facts
    prepared: Prepared

    @property
    def vector(self) -> Any:
        """Its vector (d,), of length one."""
        return self.prepared.vector


class Sameness:
    """The judge of pairs."""

    def __init__(self, embedder: Embedder | None = None) -> None:
        self._likeness = Likeness(embedder or shared())

    def prepare(self, text: str) -> Text:
        """What is needed of a text to compare it with many."""
        return Text(facts_of(text), self._likeness.prepare(text))

    def odds(self, one: Text, other: Text) -> float:
        """How likely two texts say the same; 0 where something differs that must agree."""
        if disagreement(one.facts, other.facts):
            return 0.0
        return self._likeness.of_prepared(one.prepared, other.prepared)

    def agree(self, one: str, other: str) -> bool:
        """Whether two answers say the same: in the same words, or with odds of at least ``SAME_ANSWER``."""
        if one.split() == other.split():
            return True
        return self.odds(self.prepare(one), self.prepare(other)) >= SAME_ANSWER
