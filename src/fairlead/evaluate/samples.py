"""From a row of any file to a Sample: which column is the question, which the right answer, whose it is.

Columns may have many names; ``COLUMNS`` lists those that are understood by themselves, and a mapping says the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fairlead.evaluate.reading import Faults, Row
from fairlead.records import Sample, Turn
from fairlead.spec.datasets import PRESENT
from fairlead.spec.problems import listed

COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id",),
    "input": ("input", "question", "q", "query", "utterance", "prompt", "message", "text"),
    "reference": ("reference", "expected", "answer", "output", "response", "facts", "right", "label"),
    "conversation": ("conversation", "conversation_id", "session", "thread"),
    "subject": ("subject", "user", "user_id", "customer", "customer_id"),
    "tenant": ("tenant",),
    "tags": ("tags",),
    "earlier": ("earlier", "history", "previous"),
}
"""Part of a Sample to the columns it is taken from: the first that a row has."""
MESSAGES = "messages"
"""A column with a whole conversation, as chat models are trained on: the last answer is the reference."""
PLAIN_TAG = "yes"
"""Value of a tag that is only named, as in ``["refund", "angry"]``."""
MAX_TEXT = 100_000


def make_samples(rows: Iterable[Row], faults: Faults, mapping: Mapping[str, str] | None = None) -> list[Sample]:
    """Samples of rows; what cannot be one is told to ``faults``.

    ``mapping``: part of a sample to the column that holds it. A row without an id is named by its line.
    """
    chosen = mapping or {}
    unknown = [part for part in chosen if part not in COLUMNS]
    if unknown:
        faults.add(0, f"a mapping of {unknown[0]!r}", listed(sorted(COLUMNS)))
        return []
    columns = {part: (chosen[part],) if part in chosen else names for part, names in COLUMNS.items()}
    seen: dict[str, int] = {}
    samples = []
    for row in rows:
        try:
            sample = _sample(row, columns)
        except _RowFault as fault:
            faults.add(row.line, fault.found, fault.expected)
            continue
        if sample.id in seen:
            faults.add(
                row.line, f"the id {sample.id[:60]!r} a second time", f"an id of its own; line {seen[sample.id]} has it"
            )
            continue
        seen[sample.id] = row.line
        samples.append(sample)
    return samples


def fits(sample: Sample, wanted: Mapping[str, str]) -> bool:
    """Whether it carries each tag with that value, among its tags or its other fields; ``*`` is any value."""
    return all(
        name in carried and (value == PRESENT or str(carried[name]) == value)
        for carried in ({**sample.fields, **sample.tags},)
        for name, value in wanted.items()
    )


def count_tags(samples: Iterable[Sample]) -> dict[str, dict[str, int]]:
    """Samples by tag and value."""
    counts: dict[str, dict[str, int]] = {}
    for sample in samples:
        for name, value in sample.tags.items():
            values = counts.setdefault(name, {})
            values[value] = values.get(value, 0) + 1
    return counts


class _RowFault(ValueError):
    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found)
        self.found, self.expected = found, expected


def _sample(row: Row, columns: Mapping[str, tuple[str, ...]]) -> Sample:
    values = dict(row.values)
    earlier: tuple[Turn, ...] = ()
    if isinstance(values.get(MESSAGES), list) and not any(name in values for name in columns["input"]):
        earlier, text, answer = _conversation(values.pop(MESSAGES))
        values[columns["input"][0]] = text
        if answer is not None:
            values.setdefault(columns["reference"][0], answer)
    found = {part: _take(values, names) for part, names in columns.items()}
    text = found["input"]
    if not isinstance(text, str) or not text.strip():
        raise _RowFault(
            "no question", f"a text in one of the columns {', '.join(columns['input'])}, or --map input=COLUMN"
        )
    if len(text) > MAX_TEXT:
        raise _RowFault(f"a question of {len(text):,} characters", f"at most {MAX_TEXT:,}")
    return Sample(
        id=_label(found["id"]) or str(row.line),
        input=text.strip(),
        earlier=earlier or _turns(found["earlier"]),
        reference=found["reference"],
        tags=_tags(found["tags"]),
        conversation=_label(found["conversation"]),
        subject=_label(found["subject"]),
        tenant=_label(found["tenant"]) or "default",
        fields=values,
    )


def _take(values: dict[str, Any], names: Iterable[str]) -> Any:
    return next((values.pop(name) for name in names if name in values), None)


def _label(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value).strip()
    raise _RowFault(f"an id that is {type(value).__name__}", "a text or a whole number")


def _tags(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return dict.fromkeys(value, PLAIN_TAG)
    if isinstance(value, dict):
        return {str(name): str(each) for name, each in value.items()}
    raise _RowFault("tags of another form", 'tags as {"intent": "refund"} or ["refund"]')


def _turns(value: Any) -> tuple[Turn, ...]:
    """Earlier messages: texts of the user, or objects with role and text."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise _RowFault("earlier messages that are no list", "a text, or a list of texts or of {role, content}")
    return tuple(Turn(role="user", text=each) if isinstance(each, str) else _turn(each) for each in value)


def _turn(value: Any) -> Turn:
    expected = 'messages as {"role": "user", "content": "..."}'
    if not isinstance(value, dict):
        raise _RowFault("a message that is no object", expected)
    role, text = value.get("role"), value.get("content", value.get("text"))
    if not isinstance(role, str) or not isinstance(text, str):
        raise _RowFault("a message without role or text", expected)
    return Turn(role=role, text=text)


def _conversation(value: list[Any]) -> tuple[tuple[Turn, ...], str, str | None]:
    """(what was said before, the last message of the user, the answer that follows it if there is one)."""
    turns = [_turn(each) for each in value]
    answer = turns.pop().text if turns and turns[-1].role == "assistant" else None
    if not turns or turns[-1].role != "user":
        raise _RowFault("messages that end with no question", "messages that end with the user, or with its answer")
    return tuple(turns[:-1]), turns[-1].text, answer
