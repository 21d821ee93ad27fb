"""A tool's result, put into sentences by its fields; every value is written exactly as the tool gave it.

Knows no tool by name and reads no instruction: text from a tool is shown, never obeyed.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive import phrases
from fairlead.engines.extractive.question import Kind, kind_of
from fairlead.engines.extractive.text import STOP, stem
from fairlead.engines.extractive.units import addresses_machine

MOST_FIELDS, MOST_ITEMS, MOST_DEPTH, LONGEST = 14, 10, 4, 1500
_SENTENCE_FIELDS = ("message", "answer", "summary", "text", "result", "detail", "description", "note")
_ERROR_FIELDS = ("error", "errors", "failure", "problem")
_HIDDEN = frozenset(
    "ok success found code http_status status_code trace request_id internal type object version".split()
)
_ID = re.compile(r"(?:order|ticket|return|booking|invoice|reservation)?_?(?:id|number|no|ref|reference)$|^order$")
_FALSE_MARKS = ("ok", "success", "found")
_DONE_MARKS = ("ok", "success")
_NOT_FOUND = re.compile(r"not[\s_-]?found|no (?:such|match|order|result)|unknown|does not exist|404", re.IGNORECASE)
_MACHINE_WORD = re.compile(r"^[a-z0-9]+(?:_[a-z0-9]+)+$")
_WANTED: dict[Kind, tuple[str, ...]] = {
    "duration": ("date", "eta", "expected", "estimated", "arriv", "deliver", "when", "until", "day", "time"),
    "time": ("time", "hour", "open", "close", "date"),
    "money": ("total", "price", "amount", "cost", "refund", "fee"),
    "place": ("address", "location", "city", "where"),
    "who": ("carrier", "company", "courier"),
}


def word_results(contents: list[str], question: str) -> tuple[str, bool]:
    """(sentences for the customer, whether the tools did what was asked), of tool contents in order."""
    stems = frozenset(stem(w) for w in words_of(question) if w not in STOP)
    asked = _Asked(kind_of(question), stems, bool(_ITEMS.search(question)), bool(_WHEN.search(question)))
    parts: list[str] = []
    fine = True
    for content in contents:
        text, good = _word(content, asked)
        fine = fine and good
        if text and text not in parts:
            parts.append(text)
    return "\n\n".join(parts)[: 3 * LONGEST], fine


class _Asked(NamedTuple):
    """What is wanted of a result: the kind of answer, the stems of the question's telling words, whether the items, and
    whether (also) how it stands.
    """

    kind: Kind
    stems: frozenset[str]
    items: bool
    when: bool


def _word(content: str, asked: _Asked) -> tuple[str, bool]:
    try:
        value: Any = json.loads(content)
    except (ValueError, RecursionError):
        text = content.strip()[:LONGEST]
        if addresses_machine(text):
            return phrases.TOOL_UNSAID, False
        return text or phrases.TOOL_DONE, True
    return _say(value, asked, MOST_DEPTH)


def _say(value: Any, asked: _Asked, depth: int) -> tuple[str, bool]:
    if value in (None, [], {}, "", False):
        return phrases.NOTHING_FOUND, False
    if isinstance(value, dict):
        return _object(value, asked, depth)
    if isinstance(value, list):
        lines = [_line(item, asked.kind) for item in value[:MOST_ITEMS]]
        return "\n".join(f"- {line}" for line in lines if line)[:LONGEST] or phrases.NOTHING_FOUND, True
    return (str(value) if isinstance(value, str) else json.dumps(value))[:LONGEST], True


def _object(value: dict[str, Any], asked: _Asked, depth: int) -> tuple[str, bool]:
    failure = next((value[f] for f in _ERROR_FIELDS if value.get(f)), None)
    if failure is None and any(value.get(mark) is False for mark in _FALSE_MARKS):
        failure = next((value[f] for f in (*_SENTENCE_FIELDS, "reason") if isinstance(value.get(f), str)), "not found")
    if failure is not None:
        reason = failure.get("message") if isinstance(failure, dict) else failure
        return _refusal(reason if isinstance(reason, str) else ""), False
    if depth and len(value) == 1 and isinstance(inner := next(iter(value.values())), dict | list) and inner:
        return _say(inner, asked, depth - 1)
    sentence = next(
        (value[f] for f in _SENTENCE_FIELDS if isinstance(value.get(f), str) and " " in value[f].strip()), ""
    )
    if rows := _rows_asked_for(value.get("card"), asked, sentence):
        return rows, True
    if sentence and not addresses_machine(sentence):
        rest = {k: v for k, v in value.items() if v != sentence and _ID.search(k) and str(v) not in sentence}
        return " ".join([_sentence(sentence), *_fields(rest, asked.kind)])[:LONGEST], True
    line = _line(value, asked.kind)[:LONGEST]
    if line:
        return line, True
    done = any(value.get(mark) is True for mark in _DONE_MARKS)
    return phrases.TOOL_DONE if done else phrases.TOOL_UNSAID, done


def _rows_asked_for(card: Any, asked: _Asked, sentence: str) -> str:
    """The rows of a card that a question asks for and the result's sentence does not tell: "what did I pay?"."""
    rows = card.get("rows") if isinstance(card, dict) else None
    pairs = [
        (row[0], row[1]) for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, list) and len(row) == 2 and all(isinstance(cell, str) for cell in row)
        and row[1].casefold() not in sentence.casefold()
    ]  # fmt: skip
    found = [pair for pair in pairs if asked.items and _COUNTED.match(pair[0])]
    found = found or [pair for pair in pairs if asked.stems & {stem(w) for w in words_of(pair[0])}]
    if not found and (asked.stems & _PAYING or asked.kind == "money"):
        found = [pair for pair in pairs if _TOTAL.search(pair[0])][-1:]
    told = "; ".join(f"{label}: {value}" for label, value in found[:MOST_ITEMS])
    if not told or addresses_machine(told):
        return ""
    title = card.get("title")
    rows_told = _sentence(f"{title}, {told}" if isinstance(title, str) and title else told)
    also = f" {_sentence(sentence)}" if asked.when and sentence else ""
    return f"{rows_told}{'' if addresses_machine(sentence) else also}"[:LONGEST]


_PAYING = frozenset(stem(w) for w in ("pay", "paid", "cost", "price", "charge", "charged", "total", "bill"))
_ITEMS = re.compile(
    r"\bwhat (?:exactly )?(?:did|have) (?:i|we) (?:order|buy|bought|get)"
    r"|\b(?:what|which)(?: \w+)?(?:'s| is| are| was| were)"
    r" (?:all )?in (?:it|there|(?:my|the|this) (?:order|parcel|package|box))"
    r"|\b(?:which|what) (?:items|articles|products)",
    re.IGNORECASE,
)


def asks_for_rows(question: str) -> bool:
    """Whether a question on something that was shown is for what it held: "what was in it?"."""
    return _ITEMS.search(question) is not None


_WHEN = re.compile(r"\b(?:when|where|arrives?|status)\b", re.IGNORECASE)
_TOTAL = re.compile(r"\b(?:total|sum|amount|paid)\b", re.IGNORECASE)
_COUNTED = re.compile(r"\d+ ?[x×] ")


def _refusal(reason: str) -> str:
    text = reason.strip()
    if not text or _MACHINE_WORD.match(text) or addresses_machine(text) or len(text) > 300:
        return phrases.NOTHING_FOUND if _NOT_FOUND.search(text) else phrases.TOOL_FAILED
    if _NOT_FOUND.search(text) and len(text.split()) < 4:
        return phrases.NOTHING_FOUND
    return phrases.TOOL_REFUSED.format(reason=_sentence(text))


def _line(value: Any, kind: Kind) -> str:
    """One object in sentences: what and its status first, then the field asked for, then the others."""
    if not isinstance(value, dict):
        return _plain(value)
    fields = dict(value)
    status = fields.get("status", fields.get("state"))
    name = next((k for k in fields if _ID.search(k) and _is_plain(fields[k])), "")
    parts: list[str] = []
    if isinstance(status, str) and name:
        what = _label(re.sub(r"_?(?:id|number|no|ref|reference)$", "", name)) or "Order"
        parts.append(f"{what} {_plain(fields[name])}: {_human(status)}.")
        fields = {k: v for k, v in fields.items() if k not in (name, "status", "state")}
    return " ".join([*parts, *_fields(fields, kind)])


def _fields(fields: dict[str, Any], kind: Kind) -> list[str]:
    wanted = _WANTED.get(kind, ())
    shown = [
        (k, v) for k, v in fields.items()
        if isinstance(k, str) and k not in _HIDDEN and not k.startswith("_") and v not in (None, "", [], {})
    ]  # fmt: skip
    shown.sort(key=lambda field: not any(mark in field[0].lower() for mark in wanted))
    lines = []
    for key, value in shown[:MOST_FIELDS]:
        text = _plain(value)
        if text and not addresses_machine(text):
            lines.append(_sentence(f"{_label(key)}: {text}"))
    return lines


def _plain(value: Any, depth: int = MOST_DEPTH) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return _human(value.strip())
    if isinstance(value, list):
        return ", ".join(text for item in value[:MOST_ITEMS] if depth and (text := _plain(item, depth - 1)))
    if isinstance(value, dict):
        return _item(value)
    return json.dumps(value)


def _item(value: dict[str, Any]) -> str:
    """A nested object: its values in order, a quantity as "2 x"; labels only where a number would be unclear."""
    fields = {k: v for k, v in value.items() if v not in (None, "", [], {}) and _is_plain(v)}
    count = next((k for k in fields if k.lower() in ("quantity", "qty", "count")), "")
    name = next((k for k in fields if k.lower() in ("name", "title", "product", "item", "description")), "")
    if not name:
        return ", ".join(f"{_label(k).lower()} {_plain(v)}" for k, v in list(fields.items())[:6])
    front = f"{_plain(fields[count])} x " if count else ""
    rest = [
        f"{_label(k).lower()} {_plain(v)}" for k, v in fields.items() if k not in (count, name) and not _ID.search(k)
    ]
    return f"{front}{_plain(fields[name])}" + (f" ({', '.join(rest[:4])})" if rest else "")


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _human(text: str) -> str:
    """`in_transit` as people write it; everything else untouched."""
    return text.replace("_", " ") if _MACHINE_WORD.match(text) else text


def _label(key: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_\-.]+", " ", key).strip()
    label = " ".join(w if w.isupper() else w.lower() for w in words.split()[:6])
    return {"eta": "expected"}.get(label, label).capitalize() if words_of(label) else ""


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."
