"""Whether a measure in a question ("I weigh 80 kilos") lies within a range that a text gives ("60 to 95 kg").

Knows lengths, weights, ages and sums of money; does not convert between units of different systems.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SAME = {
    "cm": "cm", "centimetre": "cm", "centimeter": "cm", "mm": "mm", "m": "m", "metre": "m", "kg": "kg", "kilo": "kg",
    "kilogram": "kg", "g": "g", "gram": "g", "year": "year", "yr": "year", "month": "month", "litre": "l", "l": "l",
    "€": "money", "£": "money", "$": "money", "euro": "money", "eur": "money", "pound": "money", "dollar": "money",
    "%": "%", "person": "person", "people": "person",
}  # fmt: skip
_UNIT = (
    r"(?:centimet(?:re|er)s?|cm|mm|kilo(?:gram)?s?|kg|grams?|g|years?|yrs?|months?|lit(?:re|er)s?|l|euros?|eur|pounds?"
    r"|dollars?|persons?|people|m|[€£$%])"
)
_NUMBER = r"(\d{1,3}(?:,\d{3})+|\d+(?:[.,]\d+)?)"
_MEASURE = re.compile(rf"([€£$]?)\s?{_NUMBER}[\s-]?({_UNIT})?(?![\w.])", re.IGNORECASE)
_RANGE = re.compile(
    rf"([€£$]?)\s?{_NUMBER}\s?(?:{_UNIT})?\s?(?:-|–|—|to|and|until)\s?[€£$]?\s?{_NUMBER}[\s-]?({_UNIT})?(?!\w)",
    re.IGNORECASE,
)
_UP_TO = re.compile(
    rf"\b(?:up to|until|under|below|less than|at most|maximum|max\.?|not more than)"
    rf"\s([€£$]?)\s?{_NUMBER}[\s-]?({_UNIT})?(?!\w)",
    re.IGNORECASE,
)
_FROM = re.compile(
    rf"\b(?:from|over|above|more than|at least|at or above|minimum|min\.?)\s([€£$]?)\s?{_NUMBER}[\s-]?({_UNIT})?(?!\w)"
    rf"|([€£$]?){_NUMBER}[\s-]?({_UNIT})? (?:or more|and more|and over|upwards)\b",
    re.IGNORECASE,
)


class Span(NamedTuple):
    """A range of a unit, both ends included."""

    low: float
    high: float
    unit: str


def measures_of(text: str) -> list[Span]:
    """The measures of a text as ranges of one point; numbers without a unit are left out."""
    return [
        Span(value, value, unit)
        for sign, number, word in _MEASURE.findall(text)
        if (unit := _unit(sign, word)) and (value := _value(number)) is not None
    ]


def spans_of(text: str) -> list[Span]:
    """The ranges of a text: "60 to 95 kg", "up to 165 cm", "from 90 kg"."""
    spans = [
        Span(min(_value(a), _value(b)), max(_value(a), _value(b)), unit)
        for sign, a, b, word in _RANGE.findall(text)
        if (unit := _unit(sign, word))
    ]
    spans += [Span(0.0, _value(n), unit) for sign, n, word in _UP_TO.findall(text) if (unit := _unit(sign, word))]
    spans += [
        Span(_value(n or m), float("inf"), unit)
        for sign, n, word, mark, m, other in _FROM.findall(text)
        if (unit := _unit(sign or mark, word or other))
    ]
    return spans


def within(asked: list[Span], told: list[Span]) -> float:
    """1 when a measure asked about is told or lies in a range told, -1 when no range told holds it, else 0."""
    alike = [(a, t) for a in asked for t in told if a.unit == t.unit]
    if any(t.low <= a.low <= t.high for a, t in alike):
        return 1.0
    return -1.0 if any(t.low < t.high for _, t in alike) else 0.0


def _unit(sign: str, word: str) -> str:
    name = sign or word.lower()
    return _SAME.get(name) or _SAME.get(name.removesuffix("s"), "")


def _value(number: str) -> float:
    plain = number.replace(",", "") if re.search(r",\d{3}\b", number) else number.replace(",", ".")
    return float(plain)
