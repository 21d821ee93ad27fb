"""What may be wrong with the pages: figures that contradict each other, dead links, stale dates.

Findings are hints for the people who write the pages; nothing is changed. Contradictions are looked for where two
sentences speak of the same thing with different figures; two wordings that share no words are not recognised, and two
rules that differ only by a condition in a heading may be reported although both are right.
"""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
import numpy as np

from fairlead.assistant.knowledge import Knowledge, Passage
from fairlead.assistant.pages.blocks import slug_of
from fairlead.engines.embed.embedder import shared
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.places import places_of
from fairlead.engines.extractive.text import STOP, concepts_of, names_thing, split_sentences, stem

MIN_COSINE = 0.25
"""How near two sentences without their figures must be to be compared word by word."""
SAME_WORD = 0.62
"""From which cosine two words count as two words for one thing."""
STALE_DAYS = 365
NO_DATE = "`updated` is no date, so its age is unknown; write it like 2026-11-30"

Kind = Literal["contradiction", "link", "date"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to look at: where, what, and for a contradiction the other place."""

    kind: Kind
    location: str
    text: str
    detail: str
    other: str = ""
    other_text: str = ""


def review(knowledge: Knowledge, *, today: datetime.date) -> list[Finding]:
    """Everything found, in the order of the pages."""
    return [*contradictions(knowledge.passages), *dead_links(knowledge), *stale_dates(knowledge, today=today)]


# --- contradictions ------------------------------------------------------------------------------------------------


class _Fact(NamedTuple):
    passage: Passage
    sentence: str
    figures: Mapping[str, frozenset[float]]  # dimension (a time in hours, money in EUR, ...) to values
    words: tuple[str, ...]  # content words, figures and units left out
    places: frozenset[str]
    row: bool


_SMALL = {
    name: value
    for value, name in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen".split()
    )
} | {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "ninety": 90, "a": 1, "an": 1}
_TIMES = {"minute": 1 / 60, "hour": 1, "day": 24, "week": 168, "fortnight": 336, "month": 730, "year": 8766}
_MEASURES = {
    "%": ("share", 1.0), "percent": ("share", 1.0), "per cent": ("share", 1.0), "kg": ("kg", 1.0),
    "kilo": ("kg", 1.0), "g": ("kg", 0.001), "cm": ("cm", 1.0), "mm": ("cm", 0.1), "m": ("cm", 100.0), "l": ("l", 1.0),
    "litre": ("l", 1.0), "ml": ("l", 0.001), "point": ("points", 1.0), "degree": ("degrees", 1.0),
}  # fmt: skip
_NUMBER = r"(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?)"
_MONEY = re.compile(
    rf"([€£$])\s?{_NUMBER}|{_NUMBER}\s?(€|£|\$|euros?|eur|gbp|usd|pounds?|dollars?)(?!\w)", re.IGNORECASE
)
_MEASURE = re.compile(
    rf"(?<![\w.,€£$]){_NUMBER}[\s-]?(%|per ?cent|kilos?|kg|g|cm|mm|m|litres?|l|ml|points?|degrees?)(?!\w)",
    re.IGNORECASE,
)
_TIME = re.compile(
    rf"(?<![\w.,€£$])(?:{_NUMBER}|({'|'.join(_SMALL)}))[\s-]?(?:(working|business|calendar)[\s-])?"
    rf"({'|'.join(_TIMES)})s?(?!\w)",
    re.IGNORECASE,
)
_LOOSE = frozenset(("time_limit", "cost", "hours"))
"""Ideas that any two figures share."""
_ANY = frozenset(
    stem(word)
    for word in "item order product purchase customer thing goods article accept take get give want make need possible "
    "allow apply receive always usually normally only".split()
)
"""Words that fit any matter."""
_CURRENCY = {"€": "EUR", "eur": "EUR", "euro": "EUR", "£": "GBP", "gbp": "GBP", "pound": "GBP"}


def contradictions(passages: Sequence[Passage]) -> list[Finding]:
    """Pairs of sentences that say the same with different figures."""
    facts = [fact for passage in passages for fact in _facts(passage)]
    if len(facts) < 2:
        return []
    vectors = shared().encode([" ".join(fact.words) for fact in facts])
    found: list[Finding] = []
    for i, fact in enumerate(facts):
        near = np.nonzero(vectors[i + 1 :] @ vectors[i] >= MIN_COSINE)[0] + i + 1
        for j in near.tolist():
            clash = _clash(fact, facts[j])
            if clash:
                other = facts[j]
                found.append(
                    Finding(
                        kind="contradiction", location=fact.passage.location, text=fact.sentence, detail=clash,
                        other=other.passage.location, other_text=other.sentence,
                    )
                )  # fmt: skip
    return found


def _facts(passage: Passage) -> Iterator[_Fact]:
    """The sentences of a passage that state figures. A row of a table is one sentence."""
    row = "; " in passage.text and ": " in passage.text.split("; ")[0] and not passage.text.endswith(".")
    for sentence in [passage.text] if row else split_sentences(passage.text):
        figures, rest = _figures(sentence)
        if figures:
            words = tuple(word for word in words_of(rest) if word not in STOP and not word.isdigit())
            if words:
                yield _Fact(passage, sentence, figures, words, places_of(sentence, words_of(sentence)).countries, row)


def _figures(sentence: str) -> tuple[dict[str, frozenset[float]], str]:
    """Figures by dimension, and the sentence without them."""
    found: dict[str, set[float]] = {}
    rest = sentence
    for sign, amount, other, unit in _MONEY.findall(sentence):
        name = (sign or unit).lower()
        currency = _CURRENCY.get(name) or _CURRENCY.get(name.removesuffix("s"), "USD")
        found.setdefault(currency, set()).add(_value(amount or other))
    rest = _MONEY.sub(" ", rest)
    for number, word, sort, unit in _TIME.findall(rest):
        amount = _value(number) if number else float(_SMALL[word.lower()])
        dimension = "working time" if sort.lower() in {"working", "business"} else "time"
        found.setdefault(dimension, set()).add(round(amount * _TIMES[unit.lower()], 3))
    rest = _TIME.sub(" ", rest)
    for number, unit in _MEASURE.findall(rest):
        dimension, factor = _MEASURES.get(unit.lower()) or _MEASURES[unit.lower().removesuffix("s")]
        found.setdefault(dimension, set()).add(round(_value(number) * factor, 6))
    return {name: frozenset(values) for name, values in found.items()}, _MEASURE.sub(" ", rest)


def _value(number: str) -> float:
    plain = number.replace(",", "") if re.search(r",\d{3}(?!\d)", number) else number.replace(",", ".")
    return float(plain)


def _clash(one: _Fact, two: _Fact) -> str:
    """What contradicts, in words; empty when nothing does."""
    if one.passage.location == two.passage.location and (one.row or two.row or one.passage.id == two.passage.id):
        return ""  # rows of one table differ by design, neighbouring sentences go on from each other
    if one.row and two.row:
        return ""
    dimensions = [name for name in one.figures if name in two.figures]
    if len(dimensions) != 1 or ((one.places or two.places) and one.places != two.places):
        return ""
    (dimension,) = dimensions
    first, second = one.figures[dimension], two.figures[dimension]
    if len(first) != 1 or len(second) != 1 or first == second:
        return ""
    if not _same_subject(one, two):
        return ""
    values = (_say(next(iter(first)), dimension), _say(next(iter(second)), dimension))
    return f"{values[0]} here, {values[1]} there"


def _same_subject(one: _Fact, two: _Fact) -> bool:
    """Whether both speak of the same thing: by the same words, or by the same ideas and nothing besides."""
    if min(len(one.words), len(two.words)) < 2:
        return False
    left, right = _unmatched(one, two), _unmatched(two, one)
    shorter, longer = sorted((left, right), key=len)
    ideas = [concepts_of(words_of(fact.sentence)) - _LOOSE for fact in (one, two)]
    few = len(longer) <= max(1, min(len(one.words), len(two.words)) // 3)
    if not shorter and few and not concepts_of(longer) - (ideas[0] & ideas[1]):
        return True  # what only one of them says is no idea of its own, as "express" would be
    things = [word for word in (*left, *right) if names_thing(word) and stem(word) not in _ANY]
    return bool(ideas[0]) and ideas[0] == ideas[1] and not things


def _unmatched(fact: _Fact, other: _Fact) -> list[str]:
    """Words of a fact that have no like in the other one or the heading above it."""
    mine = list(dict.fromkeys(fact.words))
    around = [word for word in words_of(other.passage.title) if word not in STOP]
    theirs = list(dict.fromkeys((*other.words, *around)))
    stems = {stem(word) for word in theirs}
    alike = shared().encode_words(mine) @ shared().encode_words(theirs).T
    return [word for i, word in enumerate(mine) if stem(word) not in stems and float(alike[i].max()) < SAME_WORD]


def _say(value: float, dimension: str) -> str:
    if dimension.endswith("time"):
        for name, hours in (("years", 8766), ("weeks", 168), ("days", 24), ("hours", 1)):
            if value >= hours and (value / hours).is_integer():
                sort = "working " if dimension.startswith("working") else ""
                return f"{value / hours:g} {sort}{name}"
        return f"{value:g} hours"
    return f"{value:g} {'%' if dimension == 'share' else dimension}"


# --- links ---------------------------------------------------------------------------------------------------------


def dead_links(knowledge: Knowledge) -> list[Finding]:
    """Links within the pages that lead nowhere: to a page that is not there, or to a heading it does not have."""
    anchors: dict[str, set[str]] = {page.name: {slug_of(page.title)} for page in knowledge.pages}
    for passage in knowledge.passages:
        name, _, anchor = passage.location.partition("#")
        anchors.setdefault(name, set()).add(anchor)
    found = []
    for page in knowledge.pages:
        for link in page.links:
            detail = _dead(page.name, link, anchors)
            if detail:
                found.append(Finding(kind="link", location=page.name, text=link, detail=detail))
    return found


def outside_links(knowledge: Knowledge) -> list[tuple[str, str]]:
    """(page, address) of every http link, for who wants to try them."""
    return [(page.name, link) for page in knowledge.pages for link in page.links if urlsplit(link).scheme in _WEB]


_WEB = frozenset(("http", "https"))


def _dead(page: str, link: str, anchors: Mapping[str, set[str]]) -> str:
    try:
        parts = urlsplit(link)
    except ValueError:
        return "is no address"
    if parts.scheme or parts.netloc or parts.path.startswith("/"):
        return ""  # elsewhere: not ours to judge without asking
    target = page
    if parts.path:
        folder = PurePosixPath(page).parent
        steps: list[str] = []
        for step in (folder / unquote(parts.path)).parts:
            if step == "..":
                steps = steps[:-1]
            elif step != ".":
                steps.append(step)
        target = "/".join(steps)
        if target not in anchors:
            return f"there is no page {target}"
    if parts.fragment and unquote(parts.fragment).lower() not in {anchor.lower() for anchor in anchors[target]}:
        return f"{target} has no heading #{parts.fragment} with text below it"
    return ""


# --- dates ---------------------------------------------------------------------------------------------------------

_MONTHS = "january february march april may june july august september october november december".split()
_SHORT = [name[:3] for name in _MONTHS]
_NAMED = rf"(?:{'|'.join(_MONTHS)}|(?:{'|'.join(_SHORT)}|sept)\b\.?)"
_DATE = re.compile(
    r"\b(?P<iso>20\d\d-\d\d-\d\d)\b"
    rf"|\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month>{_NAMED})\s*(?P<year>20\d\d)\b"
    rf"|\b(?P<month2>{_NAMED})\s*(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year2>20\d\d)\b"
    r"|\b(?P<day3>\d{1,2})(?P<sign>[./])(?P<month3>\d{1,2})(?P=sign)(?P<year3>20\d\d)\b",
    re.IGNORECASE,
)
_AHEAD = re.compile(
    r"\b(?:until|till|by|from|on|before|starting|ends?|valid|as of|through|to|up to)\W*$", re.IGNORECASE
)
_BEHIND = re.compile(r"\b(?:since|founded|opened|established|updated|was|were|has|have|had|did)\b", re.IGNORECASE)


def stale_dates(knowledge: Knowledge, *, today: datetime.date) -> list[Finding]:
    """Dates in the past that a sentence speaks of as to come, and pages last changed over a year ago."""
    found = []
    for page in knowledge.pages:
        changed = _iso(page.updated[:10])
        if page.updated and changed is None:
            found.append(Finding(kind="date", location=page.name, text=page.updated, detail=NO_DATE))
        if changed is not None and (today - changed).days > STALE_DAYS:
            days = (today - changed).days
            found.append(Finding(kind="date", location=page.name, text=page.updated, detail=f"changed {days} days ago"))
    for passage in knowledge.passages:
        for sentence in split_sentences(passage.text):
            for match in _DATE.finditer(sentence):
                date = _date(match)
                ahead = _AHEAD.search(sentence[: match.start()]) is not None
                if date is not None and date < today and ahead and not _BEHIND.search(sentence):
                    found.append(
                        Finding(
                            kind="date", location=passage.location, text=sentence, detail=f"{date.isoformat()} is over"
                        )
                    )
    return found


def _date(match: re.Match[str]) -> datetime.date | None:
    if match["iso"]:
        return _iso(match["iso"])
    year, month, day = (match[name] or match[f"{name}2"] or match[f"{name}3"] for name in ("year", "month", "day"))
    first, second = int(day), int(month) if month.isdigit() else 1 + _SHORT.index(month[:3].lower())
    orders = [(second, first), (first, second)] if match["sign"] == "/" else [(second, first)]
    dates = []
    for number, within in orders:
        with contextlib.suppress(ValueError):
            dates.append(datetime.date(int(year), number, within))
    return max(dates, default=None)  # 03/04/2026 is read in two ways: only over when both are


def _iso(text: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return None
