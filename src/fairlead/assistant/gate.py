"""The gate between a generative model and a customer: sentence by sentence, only what stands on the evidence gets out.

It looks at figures, at words and at form, not at meaning: a right number in a wrong sentence passes. What it stops is
replaced by a quotation, so a false alarm costs fluency, not correctness.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from fairlead.assistant.prompt import claims_to_be_human, drop_citations
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.text import content
from fairlead.guard import grounded

REPEATABLE: Final = frozenset({"code", "email", "phone"})
"""Kinds of facts a customer may be told again because the customer wrote them."""
FEW_WORDS: Final = 3
"""A sentence with fewer words of its own ("You're welcome!") states nothing about the shop."""
SUPPORT: Final = 0.4
"""Share of a sentence's own words that must occur in the evidence, in the question or in the instruction."""
SAME_SUBJECT: Final = 0.6
"""Share of their words that two sentences have in common when they are about the same."""
LONGEST_SENTENCE: Final = 1_200
SUSPICIOUS: Final = 200
"""Characters without an end of a sentence after which each further piece is looked at at once."""
LONGEST_WORD: Final = 80
MOST_REPEATS: Final = 5
"""How often a sentence may say the same two words one after the other."""

_CHANGED = (
    r"(?:cancell?ed|refunded|changed|updated|booked|issued|processed|arranged|initiated|started|registered|redirected"
    r"|deleted|placed|created|credited|reversed|approved|sent|submitted)"
)
_SOFTENER = r"(?:now |just |also |already |successfully |gladly )*"
_I_DID = re.compile(rf"\b(?:i|i've|i have) {_SOFTENER}{_CHANGED}\b|^done\b", re.IGNORECASE)
_WAS_DONE = re.compile(
    rf"\b(?:we|we've|we have) {_SOFTENER}(?P<we>{_CHANGED})\b"
    rf"|\byour (?:[\w-]+ ){{1,4}}?(?:has|have|is|was|were) {_SOFTENER}(?:been )?{_SOFTENER}(?P<it>{_CHANGED})\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|never|no|none|without|neither|nor|cannot|can't|don't|doesn't|isn't|aren't|won't|didn't|excluded|except)\b",
    re.IGNORECASE,
)
_POLICY = re.compile(
    r"\b(?:free|refundable|returnable|possible|allowed|included|available|accepted|required|guaranteed|exchangeable"
    r"|cancell?able|waterproof|eligible|covered|charged?|refunded|returned|cancelled|exchanged|resealed|shipped)\b",
    re.IGNORECASE,
)

_CONDITION = re.compile(
    r"\b(?:if|unless|except|only|until|below|under|above|over|before|after)\b|\bfrom (?=[€$£\d])", re.IGNORECASE
)

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
_EMPHASIS = re.compile(r"\*\*|^#{1,6}[ \t]+", re.MULTILINE)
_MARKER = re.compile(r"<\|[^|<>]{1,40}\|>|</?tool_call>")


class Gate:
    """Lets an answer out as long as each sentence stands.

    ``evidence`` are passages and tool results, ``said`` the customer's messages in order, ``instruction`` the system
    prompt. Of what the customer wrote only codes, addresses and phone numbers count as known: "45 days, right?" is no
    evidence for 45 days. Marks of Markdown that a page of text would show as they are (bold, headings) are left out.

    The first sentence that does not stand closes the gate, and ``rejected`` says why: ``ungrounded`` (a figure
    that stands nowhere), ``unsupported`` (words that stand nowhere), ``contradicts`` (the sources say the opposite),
    ``claims_action`` (something is said to be done that no tool has done), ``claims_human``, ``markers`` or ``babble``.
    """

    def __init__(self, evidence: Sequence[str], said: Sequence[str] = (), instruction: str = "") -> None:
        self._evidence = evidence
        self._said = said
        self._known = set(content(words_of(" ".join([*evidence, *said, instruction]))))
        self._waiting = ""
        self.rejected = ""

    def pass_on(self, piece: str) -> Iterator[str]:
        """Take a piece in; yields the sentences it completes."""
        self._waiting += piece
        while not self.rejected and (match := _SENTENCE_END.search(self._waiting)):
            sentence, self._waiting = self._waiting[: match.end()], self._waiting[match.end() :]
            yield from self._check(sentence)
        late = len(self._waiting) > LONGEST_SENTENCE
        if late or (len(self._waiting) > SUSPICIOUS and _babbles(self._waiting, words_of(self._waiting))):
            self.rejected = self.rejected or "babble"

    def finish(self, *, whole: bool) -> Iterator[str]:
        """The last sentence. ``whole`` is False when the answer goes on with tool calls: then it is dropped."""
        if whole and not self.rejected and self._waiting.strip():
            yield from self._check(self._waiting)
        self._waiting = ""

    def _check(self, sentence: str) -> Iterator[str]:
        shown = _EMPHASIS.sub("", drop_citations(sentence))
        self.rejected = self._fault(sentence, shown)
        if not self.rejected:
            yield shown

    def _fault(self, sentence: str, shown: str) -> str:
        if _MARKER.search(sentence):
            return "markers"
        if claims_to_be_human(shown, self._said[-1] if self._said else ""):
            return "claims_human"
        words = words_of(shown)
        if _babbles(shown, words):
            return "babble"
        if self._invents(shown):
            return "ungrounded"
        if self._claims_action(shown):
            return "claims_action"
        if contradicts(shown, self._evidence):
            return "contradicts"
        own = set(content(words))
        if len(own) >= FEW_WORDS and len(own & self._known) < SUPPORT * len(own):
            return "unsupported"
        return ""

    def _claims_action(self, sentence: str) -> bool:
        """Whether it says that something was changed, which no evidence says. A model itself changes nothing."""
        text = sentence.replace("’", "'").strip()
        if _I_DID.search(text):
            return True
        found = _WAS_DONE.search(text)
        if found is None:
            return False
        done = (found["we"] or found["it"]).casefold()
        return not any(done in source.casefold() for source in self._evidence)

    def _invents(self, sentence: str) -> bool:
        claims = grounded(sentence, self._evidence)
        return any(claim.kind not in REPEATABLE or grounded(claim.text, self._said) for claim in claims)


def contradicts(sentence: str, evidence: Sequence[str]) -> bool:
    """Whether a sentence affirms what the nearest sentence of the sources denies, or denies what that affirms.

    Looks at words of policy only ("free", "refundable", "possible"), and only where a sentence of the sources is about
    the same: it shares the word and most of the others. Two sentences that say both make it no contradiction.
    """
    terms = {each.casefold() for each in _POLICY.findall(sentence)}
    if not terms:
        return False
    conditional = bool(_CONDITION.search(sentence))
    own = set(content(words_of(sentence)))
    denied: dict[str, set[bool]] = {}
    for source in evidence:
        for said in _SENTENCE_END.split(source):
            if conditional and _CONDITION.search(said):
                continue  # "not unless faulty" and "if faulty" say the same
            shared = terms & {each.casefold() for each in _POLICY.findall(said)}
            there = set(content(words_of(said))) if shared else set()
            if there and len(own & there) >= SAME_SUBJECT * min(len(own), len(there)) and len(own & there) > 1:
                for term in shared:
                    denied.setdefault(term, set()).add(_denies(said, term))
    return any(_denies(sentence, term) not in found for term, found in denied.items() if found)


def _denies(sentence: str, term: str) -> bool:
    """Whether a word of policy is denied: an odd number of negations stands before it in its clause."""
    before = re.split(rf"\b{re.escape(term)}\b", sentence, maxsplit=1, flags=re.IGNORECASE)[0]
    clause = re.split(r"[,;:]|\bbut\b|\bunless\b|\bif\b", before)[-1]
    return len(_NEGATION.findall(clause.replace("’", "'"))) % 2 == 1


def _babbles(text: str, words: Sequence[str]) -> bool:
    """Whether a sentence is broken: bytes that are no letters, an endless word, or the same words over and over."""
    if "\ufffd" in text or any(len(word) > LONGEST_WORD for word in words):
        return True
    pairs = Counter(itertools.pairwise(words))
    return bool(pairs) and max(pairs.values()) > MOST_REPEATS
