"""Yes or no before a quoted rule, where arithmetic alone makes it certain: "is 40 days too late?" of "within 30 days".

Says nothing whenever more than one limit, a negation, an exception or units that cannot be compared stand in the way.
Knows spans of time and, for "is it free?", sums of money; no dates and no calendar.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from fairlead.engines.embed.words import fold

Verdict = Literal["Yes", "No", ""]
_WORDS = {
    w: n
    for n, w in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen".split()
    )
} | {"a": 1, "twenty": 20, "thirty": 30, "forty": 40, "sixty": 60, "ninety": 90}
_COUNT = rf"(?:\d{{1,4}}|{'|'.join(_WORDS)})"
_SPAN = re.compile(rf"(?<![\d.,-])\b({_COUNT})[ -](working |business |calendar )?(day|week|month|year)s?\b")
_LIMIT = re.compile(
    rf"\b(?:within|up to|in the first|at most|no later than|not later than|you have|have)(?: the first)? {_COUNT}[ -]"
    rf"(?:\w+ )?(?:day|week|month|year)s?\b"
    rf"|\b{_COUNT}[ -](?:\w+ )?(?:day|week|month|year)s? to (?:return|send|bring|change|cancel|report)"
)
_HEDGED = re.compile(
    r"\b(?:not|no|never|cannot|can't|except|unless|however|but|otherwise|longer|minimum|at least)\b|n't\b"
)
_OURS = re.compile(  # how long we or a carrier need
    r"\bwe (?:check|answer|reply|send|refund|repair|replace|ship|dispatch|deliver|process|start|write)\b|\btakes?\b"
)
_LATE = re.compile(r"\btoo late\b|\btoo long ago\b|\bout of time\b|\bmissed (?:it|the)\b")
_MAY = re.compile(
    r"\b(?:can|could|may) (?:i|we)\b|\bstill\b|\bin time\b|\bam i (?:able|allowed)\b|\bis (?:it|that) (?:ok"
    r"|okay|possible|fine)\b"
)
_MORE = re.compile(r"\b(?:after|more than|over|longer than)\s*$")
_ROUGH = re.compile(r"\b(?:about|around|nearly|almost|roughly|maybe|some)\s*$")
_OLDER = re.compile(r"\b(?:how|when|what|which|who|where|why)\b")
_MONEY = re.compile(
    r"([€£$])\s?(\d{1,5}(?:[.,]\d{1,2})?)(?!\d)|(?<![\d.,])(\d{1,5}(?:[.,]\d{1,2})?)\s?(€|euros?|eur|pounds?"
    r"|dollars?)\b"
)
_FREE_FROM = re.compile(r"\b(above|over|more than|from|at least)\s+(?=[€£$]?\s?\d)")
_FREE = re.compile(r"\bfree\b|\bno (?:charge|postage)\b|\bcosts nothing\b|\bat no cost\b")
_SIGNS = {"euro": "€", "euros": "€", "eur": "€", "pound": "£", "pounds": "£", "dollar": "$", "dollars": "$"}


class _Days(NamedTuple):
    """The fewest and the most days a span can have."""

    least: float
    most: float


def verdict(question: str, rule: str) -> Verdict:
    """Yes or No where the question's one measure and the rule's one limit decide it, else the empty text."""
    asked, told = fold(question), fold(rule)
    if _HEDGED.search(told) or _OURS.search(told):
        return ""
    return _free(asked, told) if _FREE.search(asked) and _FREE.search(told) else _in_time(asked, told)


def _in_time(asked: str, told: str) -> Verdict:
    spans, limits = list(_SPAN.finditer(asked)), list(_SPAN.finditer(told))
    late, may = bool(_LATE.search(asked)), bool(_MAY.search(asked))
    if len(spans) != 1 or len(limits) != 1 or not _LIMIT.search(told) or not (late or may) or _OLDER.search(asked):
        return ""
    before = asked[: spans[0].start()]
    if _ROUGH.search(before) or re.search(r"\d", before + asked[spans[0].end() :]):
        return ""
    passed, limit = _days(spans[0]), _days(limits[0])
    more = bool(_MORE.search(before))
    if passed.least > limit.most or (more and passed.least >= limit.most):
        return "Yes" if late else "No"
    if passed.most <= limit.least and not more:
        return "No" if late else "Yes"
    return ""


def _days(span: re.Match[str]) -> _Days:
    count = float(_WORDS.get(span[1]) or span[1])
    if span[3] == "day" and span[2] in ("working ", "business "):
        return _Days(count, 2 * count + 4)  # weekends and holidays lie between
    least, most = {"day": (1, 1), "week": (7, 7), "month": (28, 31), "year": (365, 366)}[span[3]]
    return _Days(count * least, count * most)


def _free(asked: str, told: str) -> Verdict:
    sums, marks = _sums(asked), list(_FREE_FROM.finditer(told))
    if len(sums) != 1 or len(marks) != 1 or _OLDER.search(asked):
        return ""
    limits = _sums(told[marks[0].end() :])
    if not limits or limits[0][0] != sums[0][0]:
        return ""
    spent, limit = sums[0][1], limits[0][1]
    if spent == limit:
        return "Yes" if marks[0][1] in ("from", "at least") else "No"
    return "Yes" if spent > limit else "No"


def _sums(folded: str) -> list[tuple[str, float]]:
    return [(m[1] or _SIGNS.get(m[4], m[4]), float((m[2] or m[3]).replace(",", "."))) for m in _MONEY.finditer(folded)]
