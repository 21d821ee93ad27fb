"""A table row as a person would say it: its first cell as the subject, then what the wanted columns hold.

Knows no shop and no question. Every cell is copied as it stands; what is added are small words, and a column's name
loses its capital. Where the form of name and cell tells nothing, a colon stands between them, which is never wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.places import places_of

Cells = tuple[tuple[str, str], ...]
FEW = 2  # columns up to which a row is said in clauses, not as a list
LONGEST_LABEL = 80
MOST_ROWS, SOME_ROWS = 7, 5  # how many are told where they all may be meant, and how many of more than that
_NAME = re.compile(r"([^:;.\n]{1,60}): (\S.*)")
_ABSENT = frozenset(("", "–", "-", "—", "/", "n/a", "N/A"))
_MONEY = re.compile(
    r"(?:[€$£¥]\s?\d|(?:CHF|EUR|USD|GBP)\s\d|\d[\d.,]*\s?(?:[€$£¥]|(?:p|c|eur|euros?|cents?)\b))", re.IGNORECASE
)
_ABOUT = r"(?:about|around|approx\.?|up to|from|over|under|at least|at most|max\.?|only|within)"
_MEASURE = re.compile(rf"(?:{_ABOUT} ){{0,2}}(?:[€$£¥]\s?|(?:CHF|EUR|USD|GBP)\s)?\d", re.IGNORECASE)
_SPAN = re.compile(
    r"\d (?:[a-z]+ )?(?:day|week|month|hour|minute)s?\b|\b(?:next|same) (?:working )?day\b", re.IGNORECASE
)
_STATE = re.compile(r"(?:not \w+|never|always|closed|open|included|unlimited|free)\b", re.IGNORECASE)
_NEVER_HAD = re.compile(r"(?:none|nil)", re.IGNORECASE)
_ENDS_OPEN = re.compile(r"\b(?:from|for|to|until|by|at|above|over|within)$", re.IGNORECASE)
_BEGINS_OPEN = re.compile(
    r"(?:from|for|to|until|by|at|above|over|within|under|below|up to|more than|less than)\b ?", re.IGNORECASE
)
_IT_IS = re.compile(r"(?:when|where|how|how often) ((?:it|they) (?:is|are) \w+)", re.IGNORECASE)
_FREE_FROM = re.compile(r"free (.+) (?:from|above|over)", re.IGNORECASE)
_AFTER_NOUN = re.compile(r" (?:after|of|in|for|per|until|a|an|at|to|from|with|on|before)\b.*| \(.*")
# Names that say no more than the cell does.
_NEEDLESS = frozenset(
    """meaning|description|details|notes|note|extra|extras|information|comment|remarks|explanation|answer|when|where
    |how fast|how long|how often|how soon|what it means""".replace("\n    ", "").split("|")
)
_PRICES = frozenset("price prices cost costs charge charges fee fees".split())
# What a measure can be the value of: "the weight is 3 kg".
_NOUNS = frozenset(
    """price cost charge fee time weight size height length width depth diameter guarantee warranty discount period
    limit value age deposit minimum maximum rate duration capacity term quantity volume temperature load""".split()
)
_SERVICES = frozenset("delivery shipping postage express standard priority courier".split())
# What is counted by a column: "6 kinds of veg", not "kinds of veg 6".
_COUNTED = frozenset(
    """person player people guest seat user bed room night day week month year hour minute bottle piece item pack print
    page portion serving pair set kind colour color point box bag litre can card""".split()
)
_HOLIDAYS = frozenset("Christmas Easter Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
_OPENS_QUESTION = re.compile(r"(?:what|where|when|which|who|how|why)\b", re.IGNORECASE)
_TAKES_ARTICLE = re.compile(
    r"(?:netherlands|united |uk\b|usa?\b|eu\b|european |czech |republic |channel |isle )", re.IGNORECASE
)
# A cell that does not go on where its column's name ends: "kept for: not recorded".
_BREAKS = re.compile(r"(?:not|no|none|until|only|always|never|as|while|when|if|see|the|–)\b", re.IGNORECASE)
_SAYS = frozenset("open opens closed closes takes costs lasts fits feeds suits includes covers needs holds".split())
_TWO_CAPITALS = re.compile(r"\w+,? (?:(?:and|or|&) )?[A-Z]")
_PLURAL = re.compile(r"[^sui\W]s$")
_BARE_NUMBER = re.compile(r"\d+(?:\s?[–-]\s?\d+)?\+?")
_FIRST_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


class Row(NamedTuple):
    """``key`` names the first column (empty where it has no name), ``label`` is its cell, ``cells`` are the others."""

    key: str
    label: str
    cells: Cells

    @property
    def subject(self) -> str:
        """What the row is about; a label that is a mere number or letter has the name of its column before it."""
        bare = len(self.label) <= 3 or not self.label[0].isalpha() or _BEGINS_OPEN.match(self.label)
        if self.key and bare:
            return f"{self.key} {self.label}"
        return _capital(self.label) if self.label.split(" ")[0].islower() else self.label


def read_row(text: str, *, glued: bool, whole: bool) -> Row | None:
    """The row that a quotable text is, or None.

    ``glued``: it is written "Austria – Cost: €5, Time: 3 days", else "Country: Austria; Cost: €5; Time: 3 days".
    ``whole``: nothing else stands in its passage, so that the first cell may go without a name.
    """
    text = text.strip().removesuffix(".")
    if "\n" in text:
        return None
    head, *parts = [text.partition(" – ")[0], *text.partition(" – ")[2].split(", ")] if glued else text.split("; ")
    cells = _cells(parts, ", " if glued else "; ")
    if not cells or not head:
        return None
    named = None if glued else _NAME.fullmatch(head)
    if named:
        return Row(named[1], named[2], cells)
    short = len(head) <= LONGEST_LABEL and not head.endswith((".", "!", "?"))
    return Row("", head, cells) if glued or (whole and short) else None


def _cells(parts: Sequence[str], glue: str) -> Cells:
    """(name, value) of every cell; a part without a name goes on with the cell before it. Empty if none is named."""
    cells: list[tuple[str, str]] = []
    for part in parts:
        named = _NAME.fullmatch(part)
        if named:
            cells.append((named[1], named[2]))
        elif cells:
            cells[-1] = (cells[-1][0], f"{cells[-1][1]}{glue}{part}")
        else:
            return ()
    return tuple(cells)


def tell(row: Row, wanted: Sequence[int] = ()) -> str:
    """A row as a sentence: the columns whose numbers are ``wanted``, or all of them."""
    told = _there(row, wanted) or _there(row, ())
    clauses = [_clause(name, value) for name, value in told]
    if told and len(told) <= FEW and all(clauses):
        return f"{_led(row)} {' and '.join(clauses)}."
    return f"{_line(row.subject, told, bare=len(told) == 1)}."


def tell_all(rows: Sequence[Row], wanted: Sequence[Sequence[int]] = ()) -> tuple[str, list[int]]:
    """Rows of one table as a list under a line that says on what it depends, and the numbers of those that it holds.

    ``wanted`` are the columns asked for, of each row. Of many rows only some are told, and which is meant is asked.
    """
    asked = sorted({i for some in wanted for i in some}) if all(wanted) else []
    columns = asked or list(range(len(rows[0].cells)))
    columns = [i for i in columns if not is_condition(rows[0].cells[i][0])] or columns
    order = _in_order(rows, columns)
    told = order[:SOME_ROWS] if len(order) > MOST_ROWS else order
    key, name = lowered(rows[0].key), rows[0].cells[columns[0]][0]
    keyed = bool(key) and not _ENDS_OPEN.search(key) and not _OPENS_QUESTION.match(key) and " by" not in key
    one = len(columns) == 1 and not _OPENS_QUESTION.match(name) and not _ENDS_OPEN.search(name)
    whole = _capital(_with_article(name)) if one else "That"
    on = "the case" if not keyed else key if key.startswith("your ") else f"the {key}"
    lines = [f"{whole} {'depend' if _PLURAL.search(whole) else 'depends'} on {on}, for example:"]
    for row in (rows[i] for i in told):
        cells = _there(row, columns) or _there(row, ())
        subject = _capital(row.label) if keyed and row.label.split(" ")[0].islower() else row.label
        lines.append(f"- {subject}: {cells[0][1]}" if one and cells else f"- {_line(subject, cells)}")
    if keyed and len(told) < len(rows):
        lines.append(f"Which {key.removeprefix('your ')} is it?")
    return "\n".join(lines), told


def is_condition(name: str) -> bool:
    """Whether a column says from when on something holds ("Free delivery from"), not what something is."""
    return bool(_ENDS_OPEN.search(name))


def lowered(name: str) -> str:
    """A name without the capital it has for standing first, unless that is its own: "PayPal fee", "Hamburg store"."""
    first = re.match(r"[^\W\d_]+", name)
    if (
        not first
        or first[0] in _HOLIDAYS
        or _TWO_CAPITALS.match(name)
        or not (first[0][1:].islower() or first[0] == "A")
    ):
        return name
    places = places_of(first[0], words_of(first[0]))
    return name if places.countries or places.cities else name[0].lower() + name[1:]


def _there(row: Row, wanted: Sequence[int]) -> list[tuple[str, str]]:
    """The cells of the wanted columns, or of all, that hold anything."""
    cells = [row.cells[i] for i in wanted if i < len(row.cells)] if wanted else row.cells
    return [(name, value) for name, value in cells if value not in _ABSENT]


def _in_order(rows: Sequence[Row], columns: Sequence[int]) -> list[int]:
    """The numbers of rows, by the number in label or first cell told; as they came where a row has none."""
    for texts in (
        [row.label for row in rows],
        [row.cells[columns[0]][1] for row in rows if columns[0] < len(row.cells)],
    ):
        found = [_MEASURE.match(text) and _FIRST_NUMBER.search(text) for text in texts]
        if len(found) == len(rows) and all(found):
            values = [float(re.sub(r"[.,](?=\d{3}\b)", "", one[0]).replace(",", ".")) if one else 0.0 for one in found]
            return sorted(range(len(rows)), key=lambda i: values[i])
    return list(range(len(rows)))


def _led(row: Row) -> str:
    """The subject before clauses: "For Austria," or "Tarn Otter:"."""
    places = places_of(row.label, words_of(row.label))
    if "," in row.label or not (places.countries or places.union) or row.subject != row.label:
        return f"{row.subject}:"
    article = "the " if _TAKES_ARTICLE.match(row.label) else ""
    return f"For {article}{row.label if places.countries else lowered(row.label)},"


def _line(subject: str, cells: Sequence[tuple[str, str]], *, bare: bool = False) -> str:
    """The subject and the cells after it; with ``bare`` a price needs no name."""
    if not cells:
        return subject
    if bare and cells[0][0].lower() in _PRICES:
        return f"{subject}: {cells[0][1]}"
    listed = _listed(cells)
    return f"{subject}{' –' if re.match(r'[^,;]*: ', listed) else ':'} {listed}"


def _listed(cells: Sequence[tuple[str, str]]) -> str:
    """Cells one after the other; one whose name only adds to the name before it stands in brackets behind that."""
    told: list[str] = []
    before = ""
    for name, value in cells:
        if before and name.startswith(f"{before} ") and (_MEASURE.match(value) or _SPAN.search(value)):
            told[-1] += f" ({value})"
        else:
            told.append(_phrase(name, value))
            before = name
    return ("; " if any(re.search(r",(?!\d)|;|: ", one) for one in told) else ", ").join(told)


def _phrase(name: str, value: str) -> str:
    """A cell in a list: "weight 3 kg"."""
    low = lowered(name)
    if name.lower() in _NEEDLESS or (name.lower() in _PRICES and value.lower() == "free"):
        return value
    if found := _IT_IS.fullmatch(name):
        return f"{found[1]} {value}"
    if _NEVER_HAD.fullmatch(value):
        return f"no {low}"
    if _ENDS_OPEN.search(name):
        stem = _ENDS_OPEN.sub("", low).rstrip() if _BEGINS_OPEN.match(value) else low
        return f"{low}: {value}" if _BREAKS.match(value) else f"{stem} {value}"
    counted = _AFTER_NOUN.sub("", low).split()[-1:]
    if counted and counted[0].removesuffix("s") in _COUNTED and _BARE_NUMBER.fullmatch(value):
        return f"{value} {re.sub(r's$', '', low) if value == '1' else low}"
    if _MEASURE.match(value) or _STATE.match(value) or low in _SAYS:
        return f"{_without_price(low) if value.lower() == 'free' else low} {value}"
    return f"{low}: {value}"


def _clause(name: str, value: str) -> str:
    """A cell as a clause, "the weight is 3 kg"; empty where the form of name and value does not allow one for sure."""
    low = lowered(name)
    noun = (_AFTER_NOUN.sub("", low).lower().split() or [""])[-1]
    free_from = _FREE_FROM.fullmatch(name)
    if free_from and _MEASURE.match(value):
        return f"{free_from[1]} is free from {_BEGINS_OPEN.sub('', value)}"
    if re.search(r"[,;:]", re.sub(r"\d[,:]\d", "", value)) or _ENDS_OPEN.search(name) or low.lower() in _PRICES:
        return ""
    if noun in _SERVICES and low.lower().endswith(noun):
        if value.lower().startswith("not "):
            return f"{low} is {value}"
        if _MONEY.match(value):
            return f"{low} costs {value}"
        return f"{low} takes {value}" if _MEASURE.match(value) and _SPAN.search(value) else ""
    if value.lower() == "free" and noun in _PRICES:
        return f"the {_without_price(low)} is free"
    return f"{_with_article(name)} is {value}" if noun in _NOUNS and _MEASURE.match(value) else ""


def _without_price(name: str) -> str:
    """A name without the word for what it costs at its end, if anything is left."""
    *before, last = name.split()
    return " ".join(before) if before and last.lower() in _PRICES else name


def _with_article(name: str) -> str:
    low = lowered(name)
    noun = _AFTER_NOUN.sub("", low).lower().split()[-1:]
    return low if noun and noun[0] in _SERVICES else f"the {low}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
