"""The quote: which unit answers a question, joined or trimmed by rules, with its sources and a confidence.

Every character of a quote comes from a document. Knows no tools and no small talk.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.evidence import FEATURES, Match, Readers, calibration, confidence, match
from fairlead.engines.extractive.features import fit, name_likeness
from fairlead.engines.extractive.question import Query
from fairlead.engines.extractive.rows import Row, is_condition, read_row, tell, tell_all
from fairlead.engines.extractive.units import Passage, Unit, is_lead
from fairlead.engines.extractive.verdict import Verdict, verdict

LONGEST = 600  # characters of a joined quote
_DIGITS, _NUMBER = re.compile(r"\d+"), re.compile(r"\d+(?:[.,]\d+)*")
_NEEDS_BEFORE = re.compile(
    r"^(?:It|They|This|That|These|Those|Both|Otherwise|However|But|In that case|In this case|After that|Then|Such)\b"
)
_GOES_ON = re.compile(
    r"^(?:However|Otherwise|But|Except|Unless|In that case|After that|Then|Please note|Note that|Only|Below that"
    r"|Above that|Exceptions?|This (?:does|is|also|applies)|They|It)\b"
)
Tone = Literal["sure", "likely", "doubtful"]
_FIT, _ROW_MEANT, _WRONG_WAY, _PLACE = map(FEATURES.index, ("fit", "row meant", "wrong way", "place agrees"))
READING_LEAD = 0.05  # how much surer another reading of a follow-up must be
CLOSE = 2.0  # how far below the best another row of its table may score to be meant as well
SECOND = 3.0  # how far below the first another possibility may score to be said beside it
RIVAL = 1.5  # the same to make the first a guess, however likely it is
BESIDE = 2.5  # how far below the best sentence others of its section may score to be quoted with it
BESIDE_LENGTH = 320  # characters up to which they are
MOST_BESIDE = 3
NEXT = 5  # units among which a second possibility is looked for
_OF_VALUES = frozenset(("duration", "money", "time", "number"))  # kinds of question that tell a cell by its form
_SERVICE = frozenset(("delivery", "shipping", "postage"))
_NEAR_SCORE = 0.8  # how far below the first a second sentence may score to be joined


class Quote(NamedTuple):
    """An answer out of the documents. ``text`` is empty when nothing was found; ``confidence`` 0 to 1.

    ``verdict`` is Yes or No where arithmetic decides the question by the quoted rule, else empty. ``other`` is what
    else may be meant, of another section, where the quote is a guess and this scores nearly as well. ``listed`` is
    whether ``text`` is a list of rows, which a line of ours leads.
    """

    text: str
    sources: tuple[str, ...]
    confidence: float
    verdict: Verdict = ""
    other: str = ""
    tone: Tone = "doubtful"
    listed: bool = False

    @property
    def said(self) -> str:
        """The quote with its verdict before it."""
        return f"{self.verdict}: {self.text}" if self.verdict else self.text

    @property
    def known(self) -> bool:
        """Whether it is worth saying at all."""
        return bool(self.text) and self.confidence >= calibration().answer_from


class Composed(NamedTuple):
    """A quote with the ids of the documents it stands in, best first, and the units it tells.

    ``listed`` is whether it is a list of rows, which a line of ours leads.
    """

    text: str
    sources: tuple[str, ...]
    units: tuple[Unit, ...]
    listed: bool = False


def find_best(readings: Sequence[Query], passages: Sequence[Passage], readers: Readers) -> Quote:
    """The quote of the reading of a question that we are surest of; the first reading has the lead."""
    quotes = [find(query, passages, readers) for query in readings]
    return max(quotes, key=lambda quote: quote.confidence + (READING_LEAD if quote is quotes[0] else 0.0))


def find(query: Query, passages: Sequence[Passage], readers: Readers) -> Quote:
    """The best quote for a question and how sure we are of it."""
    matches = match(query, passages, readers)
    return quote(query, matches, confidence(query, matches, readers.embedder))


def quote(query: Query, matches: Sequence[Match], sure: float) -> Quote:
    """What the matches, best first, say to a question, at a given confidence."""
    if not matches:
        return Quote("", (), 0.0)
    told = compose(query, matches)
    other = another(query, matches, told)
    tone = _tone(matches[0], other, sure)
    rule = matches[0].unit
    same = query.concepts & (rule.concepts | rule.context_concepts)
    decided = verdict(query.text, rule.text) if same and not rule.label else ""
    if other is None or tone != "doubtful" or matches[0].score - other.score > SECOND:
        return Quote(told.text, told.sources, sure, decided, tone=tone, listed=told.listed)
    beside = _tell_rows(query, _rows_alike(query, other, matches)) or Composed(
        told_of(query, other), (other.passage.id,), (other.unit,)
    )
    sources = tuple(dict.fromkeys((*told.sources, *beside.sources)))
    return Quote(told.text, sources, sure, decided, beside.text, tone, told.listed)


def _tone(best: Match, other: Match | None, sure: float) -> Tone:
    """How a quote may be said: without a reservation, with a light one, or as a guess."""
    if sure >= calibration().sure_from:
        return "sure"
    rivalled = other is not None and best.score - other.score < RIVAL and best.features[_ROW_MEANT] < 1.0
    return "likely" if sure >= calibration().likely_from and not rivalled else "doubtful"


def compose(query: Query, matches: Sequence[Match]) -> Composed:
    """The quote: the best unit with what belongs to it, or the rows of a table where none of them is meant alone."""
    best = matches[0]
    alike = _tell_rows(query, _rows_alike(query, best, matches))
    if alike:
        return alike
    texts = _beside(best, matches)
    if _row_of(best):
        texts[0] = told_of(query, best)
    found = [best]
    second = _second(query, matches)
    if second and len(texts) < 3 and not any(second.unit.text in t or t in second.unit.text for t in texts):
        texts.append(told_of(query, second))
        found.append(second)
    kept: list[str] = []
    for text in texts:
        if not kept or sum(map(len, kept)) + len(text) <= LONGEST:
            kept.append(_closed(text))
    sources = [one.passage.id for one in found[: len(kept)]]
    return Composed(_glue(kept), tuple(dict.fromkeys(sources)), tuple(one.unit for one in found))


def another(query: Query, matches: Sequence[Match], told: Composed) -> Match | None:
    """The best unit of another section or row, unless the quote holds it already."""
    best = matches[0].unit
    for found in matches[1:NEXT]:
        if found.features[_WRONG_WAY]:  # of sending back where the delivery is asked for, or the other way round
            continue
        elsewhere = found.unit.context != best.context or bool(found.unit.label)
        known = any(found.unit is unit for unit in told.units) or _named_less(query, found.unit, best)
        if elsewhere and not known and found.unit.kind != "list" and len(found.unit.text) <= BESIDE_LENGTH:
            return None if told_of(query, found).rstrip(".") in told.text else found
    return None


def _named_less(query: Query, unit: Unit, best: Unit) -> bool:
    """Whether a unit is another row of the best one's table, of which the question holds less."""
    return bool(unit.label) and unit.table == best.table and _named(query, unit) < _named(query, best)


def told_of(query: Query, found: Match) -> str:
    """A unit as it is quoted by itself."""
    row = _row_of(found)
    return tell(row, _wanted(query, row)) if row else _closed(_with_lead(found))


def _tell_rows(query: Query, alike: Sequence[Match]) -> Composed | None:
    """Rows of one table as a list; None where there are none."""
    rows = [row for found in alike if (row := _row_of(found))]
    if not rows:
        return None
    text, told = tell_all(rows, [_wanted(query, row) for row in rows])
    return Composed(
        text, tuple(dict.fromkeys(alike[i].passage.id for i in told)), tuple(m.unit for m in alike), listed=True
    )


def _rows_alike(query: Query, best: Match, matches: Sequence[Match]) -> list[Match]:
    """The rows of a row's table among which the question does not choose, best first; empty if it does."""
    if not best.unit.label or best.features[_ROW_MEANT] >= 1.0 or not _row_of(best):
        return []
    alike = [
        m
        for m in matches
        if m.unit.label
        and m.unit.table == best.unit.table
        and m.passage.title == best.passage.title
        and _named(query, m.unit) == _named(query, best.unit)
        and m.features[_PLACE] == best.features[_PLACE]
        and _row_of(m)
    ]
    near = [m for m in alike if best.score - m.score <= CLOSE]
    return alike if len(near) > 1 else []


def _named(query: Query, unit: Unit) -> int:
    """How much of a row a question holds: words of its label, and a number that is a value of it ("which is UK 8?")."""
    numbers = set(_NUMBER.findall(query.text))
    if len(numbers) != 1 or query.kind == "money":
        numbers = set()
    asked = [value for name, value in unit.columns if name_likeness(query, _DIGITS.sub("", name))]
    told = asked or [value for _, value in unit.columns]
    values = {number for value in told for number in _NUMBER.findall(value)}
    return len(unit.label & set(query.stems)) + len(numbers & values)


def _row_of(found: Match) -> Row | None:
    whole = len(found.passage.units) == 1
    return read_row(found.unit.text, glued=found.unit.kind == "row", whole=whole) if found.unit.label or whole else None


def _wanted(query: Query, row: Row) -> list[int]:
    """The numbers of the columns that a question asks for; empty when it does not say which."""
    fits = list(range(len(row.cells)))
    if query.kind in _OF_VALUES:
        fits = [i for i in fits if fit(query.kind, row.cells[i][1]) > 0] or fits
    # A condition ("free delivery from") is meant only where the question speaks of that; a number names no column, nor
    # does what the whole row is about: "postage to Norway?" asks for "delivery time" no more than for "cost".
    about = frozenset[str]() if query.kind in _OF_VALUES else _SERVICE
    named = {
        i: name_likeness(query, " ".join(w for w in words_of(row.cells[i][0]) if w not in about and not w.isdigit()))
        for i in fits
        if "free" in query.concepts or not is_condition(row.cells[i][0])
    }
    most = max(named.values(), default=0)
    kept = [i for i in named if named[i] == most] if named and most > min(named.values()) else fits
    return kept if len(kept) < len(row.cells) else []


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


def _closed(text: str) -> str:
    return text if text.endswith((".", "!", "?", ":", "…", ")", "”", '"')) or "\n" in text else f"{text}."


def _glue(texts: list[str]) -> str:
    out = ""
    for text in texts:
        out += ("" if not out else "\n" if "\n" in out or "\n" in text else " ") + text
    return out
