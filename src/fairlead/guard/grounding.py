"""Whether what an answer states by figure stands in its sources: numbers, prices, dates, times, codes, addresses.

A fact is recognised by its form and compared by its value: 1,000 is 1.000 and 1 000, 5 pm is 17:00, 23 November 2026 is
2026-11-23. Where a form can mean two things (1.000, 11/12/2026) either will do. Linear in the length of the texts.

Knows nothing of meaning: a right number in a wrong sentence passes, a number in words ("two weeks") is not looked at.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

import msgspec

Kind = Literal["url", "email", "date", "time", "percent", "price", "phone", "code", "number"]


class Claim(msgspec.Struct, frozen=True):
    """A fact an answer states, ``answer[start:end] == text``."""

    kind: Kind
    text: str
    start: int
    end: int


def grounded(answer: str, sources: Iterable[str]) -> list[Claim]:
    """The facts of ``answer`` that stand in none of ``sources``, in order; empty when all do.

    More sources never make more claims, and a text is always grounded in itself.
    """
    facts = list(_facts(answer))
    if not facts:
        return []
    known: set[str] = set()
    for source in sources:
        for fact in _facts(source):
            known |= fact.offers
    return [fact.claim for fact in facts if known.isdisjoint(fact.needs)]


class _Fact(msgspec.Struct, frozen=True):
    """A claim, the keys of which one must be known for it to hold, and the keys it makes known when in a source."""

    claim: Claim
    needs: frozenset[str]
    offers: frozenset[str]


_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        ("january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
         "september sep sept", "october oct", "november nov", "december dec"),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_CURRENCIES: Final = {
    "$": "usd", "us$": "usd", "usd": "usd", "dollar": "usd", "dollars": "usd", "€": "eur", "eur": "eur",
    "euro": "eur", "euros": "eur", "£": "gbp", "gbp": "gbp", "pound": "gbp", "pounds": "gbp", "¥": "jpy",
    "jpy": "jpy", "yen": "jpy", "₹": "inr", "inr": "inr", "rupees": "inr", "chf": "chf", "francs": "chf",
}  # fmt: skip

# "may" and "march" are months only when written with a capital.
_SURE: Final = "|".join(sorted((name for name in _MONTHS if name not in ("may", "march")), key=len, reverse=True))
_MONTH: Final = rf"\b(?P<month>{_SURE}|(?-i:May|MAY|March|MARCH))\b\.?"
_ORDINAL: Final = r"(?:st|nd|rd|th)?\b"
_YEAR: Final = r"(?P<year>\d{4})(?!\d)"
_NUMBER: Final = r"(?:\d{1,3}(?:[ \u00a0\u202f'’]\d{3})++(?!\d)(?:[.,]\d++)?+|\d++(?:[.,]\d++)*+)"
_SYMBOL: Final = r"(?:us\$|[$€£¥₹]|\b(?:usd|eur|gbp|jpy|inr|chf)\b)"
_WORD: Final = r"(?:us\$|[$€£¥₹]|(?:usd|eur|gbp|jpy|inr|chf|dollars?|euros?|pounds?|yen|rupees|francs)\b)"

_DIGITS: Final = re.compile(r"\d+")
# The number of a list item, or of a source that is cited: no fact.
_MARKER: Final = re.compile(r"(?m)^[ \t]{0,8}\d{1,2}[.)](?=\s)|\[\d{1,2}\]")
_UNIT: Final = re.compile(r"\d++(?:[.,]\d++)*+-?[^\W\d_]++(?:-[^\W\d_]++)*+")


def _values(text: str) -> frozenset[str]:
    """What the digits of a number can mean, each written without leading or trailing zeros: 1.000 is 1000 or 1."""
    groups = [_ascii(group) for group in _DIGITS.findall(text)]
    marks = [mark for mark in _DIGITS.split(text)[1:-1] if mark]
    whole, fraction = "".join(groups), groups[-1]
    if not marks:
        return frozenset({_trim(whole)})
    decimal = _trim("".join(groups[:-1]), fraction)
    thousands = all(len(group) == 3 for group in groups[1:]) and len(groups[0]) <= 3
    if len(set(marks)) == 1 and thousands:
        one_point = len(marks) == 1 and marks[0] in ".,"
        return frozenset({_trim(whole), decimal} if one_point else {_trim(whole)})
    if len(marks) == 1 or len(set(marks[:-1])) == 1:
        return frozenset({decimal})
    return frozenset({".".join(groups)})


def _trim(whole: str, fraction: str = "") -> str:
    fraction = fraction.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")


def _ascii(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(unicodedata.decimal(digit)) for digit in digits)


def _keys(prefix: str, values: Iterable[str]) -> frozenset[str]:
    return frozenset(f"{prefix}:{value}" for value in values)


class _Keys(msgspec.Struct, frozen=True):
    """What a reading of a fact has of its own: other keys that will do, and other keys it makes known."""

    own: frozenset[str]
    or_else: frozenset[str] = frozenset()
    parts: frozenset[str] = frozenset()


def _url(match: re.Match[str]) -> _Keys:
    address = re.sub(r"^https?://", "", match[0].casefold())
    return _Keys(frozenset({f"url:{address.rstrip('/')}"}))


def _email(match: re.Match[str]) -> _Keys:
    return _Keys(frozenset({f"email:{match[0].casefold()}"}))


def _named_date(match: re.Match[str]) -> _Keys | None:
    found = match.groupdict()
    day, year = found.get("day"), found.get("year")
    return _date([(int(year or 0), _MONTHS[found["month"].casefold()], int(day or 0))])


def _numeric_date(match: re.Match[str]) -> _Keys | None:
    first, second, third = (int(match[name]) for name in ("first", "second", "third"))
    if len(match["first"]) == 4:
        return _date([(first, second, third)])
    year = third if third > 99 else 2000 + third
    return _date([(year, second, first), (year, first, second)])


def _date(readings: list[tuple[int, int, int]]) -> _Keys | None:
    """Keys of a date in each of its readings: year, month, day, 0 for none. It makes its parts known, too."""
    right = [(year, month, day) for year, month, day in readings if 1 <= month <= 12 and day <= 31]
    if not right:
        return None
    parts = {part for year, month, day in right for part in ((0, month, day), (year, month, 0))}
    return _Keys(_keys("date", map(str, right)), parts=_keys("date", map(str, parts)))


def _time(match: re.Match[str]) -> _Keys | None:
    hour, minute, half = int(match["hour"]), int(match["minute"] or 0), match["half"]
    if hour > 24 or minute > 59 or (half and not 1 <= hour <= 12):
        return None
    hours = {hour % 12 + (12 if half in "pP" else 0)} if half else {hour % 24}
    if not half and hour <= 12:
        hours.add(hour % 12 + 12)  # 5:00 may mean 5 pm
    return _Keys(_keys("time", (f"{one}:{minute}" for one in hours)))


def _percent(match: re.Match[str]) -> _Keys:
    values = _values(match["number"])
    return _Keys(_keys("percent", values))


def _price(match: re.Match[str]) -> _Keys:
    values = _values(match["number"])
    own = _keys("price:" + _CURRENCIES[match["currency"].casefold()], values)
    # A table or a tool's result names the currency elsewhere: there the plain number will do.
    return _Keys(own, or_else=_keys("plain", values))


def _phone(match: re.Match[str]) -> _Keys | None:
    digits = "".join(_ascii(group) for group in _DIGITS.findall(match[0]))
    return _Keys(_keys("phone", [digits.removeprefix("00")])) if len(digits) >= 8 else None


def _code(match: re.Match[str]) -> _Keys | None:
    text = match[0]
    if not any(character.isalpha() for character in text) or _UNIT.fullmatch(text):
        return None
    return _Keys(_keys("code", [re.sub(r"[-_/.]", "", text.casefold())]))


def _number(match: re.Match[str]) -> _Keys:
    values = _values(match[0])
    return _Keys(_keys("number", values), parts=_keys("plain", values))


class _Rule(msgspec.Struct, frozen=True):
    """How facts of a kind look and are read; without one of the ``gate`` texts (lower case) there are none."""

    kind: Kind
    pattern: re.Pattern[str]
    read: Callable[[re.Match[str]], _Keys | None]
    gate: tuple[str, ...] = ()


_SHORT_MONTHS: Final = tuple(name for name in _MONTHS if len(name) == 3)
_MONEY: Final = tuple(_CURRENCIES)
_FLAGS: Final = re.IGNORECASE
_RULES: Final = (
    _Rule(
        "url",
        re.compile(r"(?:https?://|\bwww\.)[^\s<>\"'\])}]*[^\s<>\"'\])}.,;:!?]", _FLAGS),
        _url,
        ("://", "www."),
    ),
    _Rule("email", re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]++(?:\.[\w-]++)++"), _email, ("@",)),
    _Rule(
        "date",
        re.compile(r"(?<![\w.,-])(?P<first>\d{4})-(?P<second>\d{1,2})-(?P<third>\d{1,2})(?!\w|-\d)"),
        _numeric_date,
        ("-",),
    ),
    _Rule(
        "date",
        re.compile(r"(?<![\w.,/-])(?P<first>\d{1,2})([./-])(?P<second>\d{1,2})\2(?P<third>\d{4}|\d{2})(?![\w/-]|\.\d)"),
        _numeric_date,
    ),
    _Rule(
        "date",
        re.compile(rf"(?<![\w.,])(?P<day>\d{{1,2}})(?:{_ORDINAL}|\.) (?:of )?{_MONTH}(?:,? {_YEAR})?", _FLAGS),
        _named_date,
        _SHORT_MONTHS,
    ),
    _Rule(
        "date",
        re.compile(rf"{_MONTH} (?P<day>\d{{1,2}})(?!\d){_ORDINAL}(?:,? {_YEAR})?", _FLAGS),
        _named_date,
        _SHORT_MONTHS,
    ),
    _Rule("date", re.compile(rf"{_MONTH},? {_YEAR}", _FLAGS), _named_date, _SHORT_MONTHS),
    _Rule(
        "time",
        re.compile(
            r"(?<![\w.,:])(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::\d{2})?(?![\d:])(?: ?(?P<half>[ap])\.?m\b\.?)?", _FLAGS
        ),
        _time,
        (":",),
    ),
    _Rule(
        "time",
        re.compile(r"(?<![\w.,:])(?P<hour>\d{1,2})(?P<minute>) ?(?P<half>[ap])\.?m\b\.?", _FLAGS),
        _time,
        ("am", "pm", "a.m", "p.m"),
    ),
    _Rule(
        "percent",
        re.compile(rf"(?<![\w.,])(?P<number>{_NUMBER}) ?(?:%|percent\b|per cent\b)", _FLAGS),
        _percent,
        ("%", "percent", "per cent"),
    ),
    _Rule("price", re.compile(rf"(?P<currency>{_SYMBOL}) ?(?P<number>{_NUMBER})(?!\w)", _FLAGS), _price, _MONEY),
    _Rule("price", re.compile(rf"(?<![\w.,])(?P<number>{_NUMBER}) ?(?P<currency>{_WORD})", _FLAGS), _price, _MONEY),
    _Rule(
        "phone",
        re.compile(r"(?:\+|(?<![\w.,])(?=0)|(?<!\w)\((?=\d+\)))\d++(?:[ ()./-]{1,2}+\d++){0,14}+(?!\w)"),
        _phone,
    ),
    _Rule("phone", re.compile(r"(?<![\w.,-])\d{3}[-.]\d{3}[-.]\d{4}(?!\w|[-.]\d)"), _phone),
    _Rule(
        "code",
        re.compile(r"(?<![\w./-])[^\W\d_]*+(?:[-_/.][^\W\d_]++)*+[-_/.]?\d[^\W_]*+(?:[-_/.][^\W_]++)*+"),
        _code,
    ),
    _Rule("number", re.compile(_NUMBER), _number),
)


def _facts(text: str) -> Iterator[_Fact]:
    """Every fact in ``text``, in order. What one rule has taken is blanked for those after it."""
    if not _DIGITS.search(text) and "@" not in text and "://" not in text and "www." not in text:
        return
    rest = _MARKER.sub(lambda match: "\0" * len(match[0]), text)
    lowered = rest.casefold()
    found: list[_Fact] = []
    for rule in _RULES:
        if rule.gate and not any(literal in lowered for literal in rule.gate):
            continue
        taken: list[tuple[int, int]] = []
        for match in rule.pattern.finditer(rest):
            keys = rule.read(match)
            if keys is not None:
                start, end = match.span()
                taken.append((start, end))
                claim = Claim(rule.kind, text[start:end], start, end)
                # A price or a percentage vouches for no other thing of that number: €45 says nothing of 45 days.
                digits = () if rule.kind in ("price", "percent") else _DIGITS.findall(match[0])
                groups = _keys("number", (_trim(_ascii(group)) for group in digits))
                found.append(_Fact(claim, keys.own | keys.or_else, keys.own | keys.parts | groups))
        rest = _blank(rest, taken)
    yield from sorted(found, key=lambda fact: fact.claim.start)


def _blank(text: str, spans: list[tuple[int, int]]) -> str:
    if not spans:
        return text
    pieces: list[str] = []
    at = 0
    for start, end in spans:
        pieces += (text[at:start], "\0" * (end - start))
        at = end
    return "".join((*pieces, text[at:]))
