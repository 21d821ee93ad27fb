"""What people said: a question with one answer or two, and the label of each person who looked.

Columns may have many names, those of PandaLM and LLMBar among them; a mapping says the rest. Several people make a
majority and a ceiling: no judge can be asked to agree with people more than they agree with each other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from fairlead.errors import LabelsInvalid
from fairlead.evaluate.judges.looks import VERDICTS, Case, Kind
from fairlead.evaluate.reading import Faults, Row
from fairlead.spec.canonical import digest
from fairlead.spec.problems import listed

COLUMNS: dict[str, tuple[str, ...]] = {
    "question": ("question", "instruction", "prompt", "input", "query"),
    "context": ("context", "input"),
    "answer": ("answer", "response", "output", "text"),
    "first": ("first", "answer_a", "answer_1", "response1", "response_a", "output_1"),
    "second": ("second", "answer_b", "answer_2", "response2", "response_b", "output_2"),
    "reference": ("reference", "expected"),
    "sources": ("sources", "documents"),
}
"""Part of a case to the columns it is taken from: the first that is not empty."""
LABEL = re.compile(r"^(?:label|verdict|preference|human|annotator|rater)[_ ]?\d*$", re.IGNORECASE)
"""Columns with what a person said; ``--map label=COLUMN`` names another."""
_WORDS: dict[Kind, dict[str, str]] = {
    "rubric": dict.fromkeys(("yes", "true", "1", "good", "pass", "1.0"), "yes")
    | dict.fromkeys(("no", "false", "0", "bad", "fail", "0.0"), "no"),
    "pairwise": dict.fromkeys(("first", "a", "1", "model_a", "1.0"), "first")
    | dict.fromkeys(("second", "b", "2", "model_b", "2.0"), "second")
    | dict.fromkeys(("tie", "0", "both", "equal", "same", "0.0"), "tie"),
}


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """A case with what each person said of it; ``truth`` is what most said, empty when no label leads."""

    case: Case
    people: tuple[str, ...]

    @property
    def truth(self) -> str:
        """The verdict of the majority; empty where two verdicts have as many people."""
        ranked = Counter(self.people).most_common(2)
        return ranked[0][0] if len(ranked) == 1 or ranked[0][1] > ranked[1][1] else ""


def read_labels(rows: Iterable[Row], kind: Kind, file: str, mapping: Mapping[str, str] | None = None) -> list[Labelled]:
    """Cases with labels. Raises DatasetInvalid with every row to mend, LabelsInvalid when there is no row at all."""
    chosen = dict(mapping or {})
    unknown = [part for part in chosen if part not in {*COLUMNS, "label"}]
    if unknown:
        raise LabelsInvalid(detail=f"a mapping of {unknown[0]!r}; expected {listed([*COLUMNS, 'label'])}")
    faults, labelled = Faults(file), []
    for row in rows:
        found = _labelled(row, kind, chosen, faults)
        if found is not None:
            labelled.append(found)
    faults.raise_any()
    if not labelled:
        raise LabelsInvalid(detail=f"{file} has no rows")
    return labelled


def content_of(labelled: Sequence[Labelled]) -> str:
    """SHA-256 of cases and labels: what a calibration was measured on."""
    return digest([msgspec.to_builtins(each) for each in labelled])


def _labelled(row: Row, kind: Kind, mapping: Mapping[str, str], faults: Faults) -> Labelled | None:
    values = {str(name): value for name, value in row.values.items()}
    parts = {
        part: next((text for name in _names(part, mapping) if (text := _text(values.get(name))).strip()), "")
        for part in COLUMNS
    }
    wanted = ("first", "second") if kind == "pairwise" else ("answer",)
    absent = [part for part in wanted if not any(name in values for name in _names(part, mapping))]
    missing = "question" if not parts["question"] else next(iter(absent), "")
    if missing:
        columns = " or ".join(_names(missing, mapping))
        faults.add(row.line, f"no {missing}", f"a text in {columns}, or --map {missing}=COLUMN")
        return None
    people = _people(row, values, kind, mapping, faults)
    if people is None:
        return None
    asked = dict.fromkeys((parts["question"], parts["context"] or parts["question"]))  # one may repeat the other
    case = Case(
        question="\n\n".join(asked),
        answers=tuple(parts[part] for part in wanted),
        sources=_sources(values, mapping),
        reference=parts["reference"],
    )
    return Labelled(case=case, people=people)


def _sources(values: Mapping[str, Any], mapping: Mapping[str, str]) -> tuple[str, ...]:
    found = next((values[name] for name in _names("sources", mapping) if name in values), None)
    if isinstance(found, list):
        return tuple(map(str, found))
    return (str(found),) if found else ()


def _names(part: str, mapping: Mapping[str, str]) -> tuple[str, ...]:
    return (mapping[part],) if part in mapping else COLUMNS[part]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _people(
    row: Row, values: Mapping[str, Any], kind: Kind, mapping: Mapping[str, str], faults: Faults
) -> tuple[str, ...] | None:
    columns = [mapping["label"]] if "label" in mapping else [name for name in values if LABEL.match(name)]
    given = [(name, values[name]) for name in columns if values.get(name) not in (None, "")]
    if not given:
        where = f"in {mapping['label']}" if "label" in mapping else "in label, label_1, label_2, ... or annotator1, ..."
        faults.add(row.line, "no label", f"what a person said, {where}, or --map label=COLUMN")
        return None
    people = []
    for name, value in given:
        word = _WORDS[kind].get(str(value).strip().casefold())
        if word is None:
            expected = f"{listed(VERDICTS[kind])} ({', '.join(_WORDS[kind])})"
            faults.add(row.line, f"the label {str(value)[:60]!r} in {name}", expected)
            return None
        people.append(word)
    return tuple(people)
