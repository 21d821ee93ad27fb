"""The quote: which unit answers a question, joined or trimmed by rules, with its sources and a confidence.

Every character of a quote comes from a document. Knows no tools and no small talk.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from fairlead.engines.extractive.evidence import FEATURES, Match, Readers, calibration, confidence, match
from fairlead.engines.extractive.features import fit, name_likeness
from fairlead.engines.extractive.question import Query
from fairlead.engines.extractive.units import Passage, Unit, is_lead
from fairlead.engines.extractive.verdict import Verdict, verdict

LONGEST = 600  # characters of a joined quote
_NEEDS_BEFORE = re.compile(
    r"^(?:It|They|This|That|These|Those|Both|Otherwise|However|But|In that case|In this case|After that|Then|Such)\b"
)
_GOES_ON = re.compile(
    r"^(?:However|Otherwise|But|Except|Unless|In that case|After that|Then|Please note|Note that|Only|Below that"
    r"|Above that|Exceptions?|This (?:does|is|also|applies)|They|It)\b"
)
_FIT = FEATURES.index("fit")
READING_LEAD = 0.05  # how much surer another reading of a follow-up must be
WIDE = 3  # columns beside its label from which on a table row is cut to what was asked
BESIDE = 2.5  # how far below the best sentence others of its section may score to be quoted with it
BESIDE_LENGTH = 320  # characters up to which they are
MOST_BESIDE = 3
NEXT = 5  # units among which a second possibility is looked for
_NEAR_SCORE = 0.8  # how far below the first a second sentence may score to be joined


class Quote(NamedTuple):
    """An answer out of the documents. ``text`` is empty when nothing was found; ``confidence`` 0 to 1.

    ``verdict`` is Yes or No where arithmetic decides the question by the quoted rule, else empty. ``other`` is what
    else may be meant, of another section, while we are not sure.
    """

    text: str
    sources: tuple[str, ...]
    confidence: float
    verdict: Verdict = ""
    other: str = ""

    @property
    def said(self) -> str:
        """The quote with its verdict before it."""
        return f"{self.verdict}: {self.text}" if self.verdict else self.text

    @property
    def known(self) -> bool:
        """Whether it is worth saying at all."""
        return bool(self.text) and self.confidence >= calibration().answer_from

    @property
    def sure(self) -> bool:
        """Whether it can be said without a reservation."""
        return self.confidence >= calibration().sure_from


def find_best(readings: Sequence[Query], passages: Sequence[Passage], readers: Readers) -> Quote:
    """The quote of the reading of a question that we are surest of; the first reading has the lead."""
    quotes = [find(query, passages, readers) for query in readings]
    return max(quotes, key=lambda quote: quote.confidence + (READING_LEAD if quote is quotes[0] else 0.0))


def find(query: Query, passages: Sequence[Passage], readers: Readers) -> Quote:
    """The best quote for a question and how sure we are of it."""
    matches = match(query, passages, readers)
    if not matches:
        return Quote("", (), 0.0)
    sure = confidence(query, matches, readers.embedder)
    text, sources = compose(query, matches)
    other = another(query, matches, text) if sure < calibration().sure_from else None
    rule = matches[0].unit
    same = query.concepts & (rule.concepts | rule.context_concepts)
    decided = verdict(query.text, rule.text) if same and not rule.label else ""
    if other is None:
        return Quote(text, sources, sure, decided)
    return Quote(text, tuple(dict.fromkeys((*sources, other.passage.id))), sure, decided, told_of(query, other))


def compose(query: Query, matches: Sequence[Match]) -> tuple[str, tuple[str, ...]]:
    """The quote and the ids of the documents it stands in, best first."""
    best = matches[0]
    texts = _beside(best, matches)
    sources = [best.passage.id]
    second = _second(query, matches)
    if second and len(texts) < 3 and not any(second.unit.text in t or t in second.unit.text for t in texts):
        texts.append(_row(query, second) if second.unit.label else _with_lead(second))
        sources.append(second.passage.id)
    if best.unit.label:
        texts[0] = _row(query, best)
    kept: list[str] = []
    for text in texts:
        if not kept or sum(map(len, kept)) + len(text) <= LONGEST:
            kept.append(_closed(text))
    return _glue(kept), tuple(dict.fromkeys(sources[: len(kept)] or sources[:1]))


def another(query: Query, matches: Sequence[Match], text: str) -> Match | None:
    """The best unit of another section or row, unless the quote holds it already."""
    best = matches[0].unit
    for found in matches[1:NEXT]:
        elsewhere = found.unit.context != best.context or bool(found.unit.label)
        if elsewhere and found.unit.kind != "list" and len(found.unit.text) <= BESIDE_LENGTH:
            return None if told_of(query, found).rstrip(".") in text else found
    return None


def told_of(query: Query, found: Match) -> str:
    """A unit as it is quoted by itself."""
    return _closed(_row(query, found) if found.unit.label else _with_lead(found))


def _beside(best: Match, matches: Sequence[Match]) -> list[str]:
    """The best unit with the sentences of its section that say nearly as well what was asked, as the page has them."""
    if best.unit.kind not in ("sentence", "item") or best.unit.label:
        return [best.unit.text]
    chosen = {best.unit.position: best}
    before, after = _neighbour(best, -1), _neighbour(best, 1)
    rest = [m for m in matches[1:] if m.passage is best.passage and m.unit.kind in ("sentence", "item")]
    rest = [m for m in rest if m.unit.context == best.unit.context and not m.unit.label]
    forced = {u.position for u in (before, after) if u}
    if not (before and _NEEDS_BEFORE.match(best.unit.text)):
        forced.discard(best.unit.position - 1)
    if not (after and _GOES_ON.match(after.text)):
        forced.discard(best.unit.position + 1)
    length = len(best.unit.text)
    for other in sorted(rest, key=lambda m: (m.unit.position not in forced, -m.score)):
        near = best.score - other.score <= BESIDE or other.unit.position in forced
        if near and len(chosen) < MOST_BESIDE and length + len(other.unit.text) <= BESIDE_LENGTH:
            chosen[other.unit.position] = other
            length += len(other.unit.text)
    first = min(chosen)
    return [_with_lead(chosen[at]) if at == first else chosen[at].unit.text for at in sorted(chosen)]


def _second(query: Query, matches: Sequence[Match]) -> Match | None:
    """A sentence of another section worth adding: close in score, with an idea or kind of value the first lacks."""
    best = matches[0]
    lacking = query.concepts - best.unit.concepts - best.unit.context_concepts
    for other in [m for m in matches[1:6] if m.passage is not best.passage or m.unit.label][:3]:
        if best.score - other.score > _NEAR_SCORE or other.unit.kind == "list" or best.unit.kind == "list":
            break
        if other.features[_FIT] > best.features[_FIT] or lacking & other.unit.concepts:
            return other
    return None


def _neighbour(found: Match, step: int) -> Unit | None:
    units = found.passage.units
    index = next((i for i, unit in enumerate(units) if unit is found.unit), -1)
    other = index + step
    if index < 0 or not 0 <= other < len(units) or found.unit.kind != "sentence" or units[other].kind != "sentence":
        return None
    return units[other] if units[other].context == found.unit.context else None


def _with_lead(found: Match) -> str:
    """A short list item with the line that leads the list, if there is one; any other unit as it is."""
    if found.unit.kind != "item" or len(found.unit.text.split()) > 6:
        return found.unit.text
    leads = [u for u in found.passage.units if u.position < found.unit.position and is_lead(u)]
    return f"{leads[-1].text} {found.unit.text}" if leads else found.unit.text


def _row(query: Query, found: Match) -> str:
    """A wide table row cut to its label and the columns that were asked for; else the whole row."""
    columns = found.unit.columns
    glue, rest = (" – ", ", ") if found.unit.kind == "row" else ("; ", "; ")
    label = found.unit.text.rstrip(".").partition(glue)[0]
    if len(columns) < WIDE or query.kind not in ("duration", "money", "time", "number"):
        return found.unit.text
    kept = [column for column in columns if fit(query.kind, column[1]) > 0]
    named = [name_likeness(query, name) for name, _ in kept]
    if kept and max(named) > min(named):
        kept = [column for column, likeness in zip(kept, named, strict=True) if likeness == max(named)]
    return label + glue + rest.join(f"{name}: {value}" for name, value in kept) if kept else found.unit.text


def _closed(text: str) -> str:
    return text if text.endswith((".", "!", "?", ":", "…", ")", "”", '"')) or "\n" in text else f"{text}."


def _glue(texts: list[str]) -> str:
    out = ""
    for text in texts:
        out += ("" if not out else "\n" if "\n" in out or "\n" in text else " ") + text
    return out
