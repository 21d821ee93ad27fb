"""promptfoo's YAML: tests with variables and assertions become samples with checks, and back.

Read are prompts, tests (in the file, or a YAML, JSON, JSON lines or CSV file beside it), `defaultTest` and the
assertions that our scorers can say. Code in assertions (javascript, python, webhook) is never run.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from fairlead.errors import InterchangeInvalid
from fairlead.evaluate.interchange import CHECKS, Check, Imported, checks_of
from fairlead.evaluate.reading import READERS, Row, read
from fairlead.records import Sample

MAX_BYTES = 16 * 1024 * 1024
MAX_ROWS = 1_000_000
_VARIABLE = re.compile(r"\{\{-?\s*([A-Za-z_][\w.]*)\s*-?\}\}")
_TEMPLATE = re.compile(r"\{\{|\{%")
_META = re.compile(r"([\\.+*?()|\[\]{}^$#&~-])")
EXPECTED = re.compile(r"^__expected\d*$")
_TYPED = re.compile(r"^(not-)?([a-z]+(?:-[a-z]+)*)(?:\(([\d.]+)\))?:\s*(.*)$", re.DOTALL)
UNDERSTOOD = (
    "equals", "contains", "icontains", "contains-any", "icontains-any", "contains-all", "icontains-all", "regex",
    "starts-with", "is-json", "similar", "latency", "cost",
)  # fmt: skip
"""Assertions that become checks, each also with `not-` before it."""
JUDGED = frozenset(("llm-rubric", "factuality", "model-graded-closedqa", "g-eval", "select-best"))
"""Assertions that a model decides."""


def read_promptfoo(path: Path, *, prompt: int = 1) -> Imported:
    """The tests of a promptfoo file as rows, with its ``prompt`` (from 1) filled in. Raises InterchangeInvalid."""
    document = _load(path)
    unmapped: Counter[str] = Counter()
    prompts = _prompts(document, path, unmapped)
    if not 1 <= prompt <= len(prompts):
        raise InterchangeInvalid(file=path, detail=f"there is no prompt {prompt}; it has {len(prompts)}")
    for number in range(1, len(prompts) + 1):
        if number != prompt:
            unmapped[f"prompt {number} (import it by itself: --prompt {number})"] += 1
    for key in ("providers", "targets"):
        if document.get(key):
            unmapped[f"{key} (declare them in `variants:`)"] += 1
    common = document.get("defaultTest")
    common = common if isinstance(common, dict) else {}
    rows: list[Row] = []
    for number, test in enumerate(_tests(document, path), 1):
        if not isinstance(test, dict):
            raise InterchangeInvalid(file=path, detail=f"test {number} is {type(test).__name__}; expected a mapping")
        for filled in _filled(test, common):
            if len(rows) >= MAX_ROWS:
                raise InterchangeInvalid(file=path, detail=f"more than {MAX_ROWS:,} combinations of variables")
            rows.append(_row(len(rows) + 1, filled, test, common, prompts[prompt - 1], unmapped))
    if not rows:
        raise InterchangeInvalid(file=path, detail="it has no tests")
    return Imported(rows=rows, unmapped=dict(unmapped))


def write_promptfoo(samples: Iterable[Sample], *, scorer: str = "") -> tuple[str, dict[str, int]]:
    """(YAML, what could not be said). A sample without checks of its own gets one by ``scorer`` from its reference."""
    lost: Counter[str] = Counter()
    tests = []
    for sample in samples:
        checks = checks_of(sample) or _by_reference(sample, scorer, lost)
        asserts = [found for check in checks if (found := _assertion(check, lost)) is not None]
        test: dict[str, Any] = {"description": sample.id, "vars": {"input": sample.input}}
        if sample.tags:
            test["metadata"] = dict(sample.tags)
        if sample.earlier:
            lost["messages before the question"] += 1
        tests.append(test | ({"assert": asserts} if asserts else {}))
    document = {"prompts": ["{{input}}"], "providers": [], "tests": tests}
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
    return text, dict(lost)


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InterchangeInvalid(file=path, detail=f"more than {MAX_BYTES:,} bytes")
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InterchangeInvalid(file=path, detail=f"it cannot be read as YAML ({reason})") from error
    if not isinstance(document, dict) or not {"tests", "prompts"} & document.keys():
        raise InterchangeInvalid(file=path, detail="it has neither `prompts:` nor `tests:`; expected promptfoo's file")
    return document


def _prompts(document: dict[str, Any], path: Path, unmapped: Counter[str]) -> list[str]:
    given = document.get("prompts", "{{input}}")
    texts = []
    for each in given if isinstance(given, list) else [given]:
        text = each.get("raw") or each.get("id") or "" if isinstance(each, dict) else str(each)
        if text.startswith("file://"):
            beside = _beside(path, text)
            if beside.suffix.lower() not in {".txt", ".md"}:
                unmapped[f"a prompt in {beside.suffix or 'a file'}"] += 1
                text = "{{input}}"
            else:
                text = _text_of(beside, path)
        texts.append(text)
    return texts or ["{{input}}"]


def _beside(path: Path, reference: str) -> Path:
    """A file the document names. Raises InterchangeInvalid for one outside its folder."""
    beside = (path.parent / reference.removeprefix("file://")).resolve()
    if not beside.is_relative_to(path.parent.resolve()):
        raise InterchangeInvalid(file=path, detail=f"{reference!r} lies outside its folder")
    return beside


def _text_of(beside: Path, path: Path) -> str:
    try:
        return beside.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InterchangeInvalid(file=path, detail=f"{beside.name} cannot be read ({error})") from error


def _tests(document: dict[str, Any], path: Path) -> Iterator[Any]:
    given = document.get("tests", [])
    for each in given if isinstance(given, list) else [given]:
        if not isinstance(each, str):
            yield each
            continue
        beside = _beside(path, each)
        if beside.suffix.lower() in {".yaml", ".yml"}:
            try:
                yield from yaml.safe_load(_text_of(beside, path)) or []
            except (yaml.YAMLError, TypeError) as error:
                raise InterchangeInvalid(file=path, detail=f"{beside.name} is no list of tests") from error
        elif beside.suffix.lower() in READERS:
            yield from (_from_table(row.values) for row in read(beside).rows)
        else:
            raise InterchangeInvalid(file=path, detail=f"tests in {each!r} cannot be read without running them")


def _from_table(values: dict[str, Any]) -> dict[str, Any]:
    """A row of a table: variables, and assertions in the columns called __expected."""
    if "vars" in values:
        return values
    asserts = [_typed(str(value)) for name, value in values.items() if EXPECTED.match(name) and value]
    return {"vars": {name: value for name, value in values.items() if not name.startswith("__")}, "assert": asserts}


def _typed(text: str) -> dict[str, Any]:
    found = _TYPED.match(text)
    if found is None or found[2] not in UNDERSTOOD:
        return {"type": found[2], "value": found[4]} if found else {"type": "equals", "value": text}
    value: Any = found[4]
    if found[2].endswith(("-any", "-all")):
        value = [part.strip() for part in value.split(",")]
    return {"type": (found[1] or "") + found[2], "value": value} | (
        {"threshold": float(found[3])} if found[3] else {}
    )  # fmt: skip


def _filled(test: dict[str, Any], common: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The variables of a test, each list of values taken apart: every combination is a test, as promptfoo has it."""
    variables = {**_mapping(common.get("vars")), **_mapping(test.get("vars"))}
    choices = [[(name, each) for each in (value if isinstance(value, list) else [value])]
               for name, value in variables.items()]  # fmt: skip
    for combination in itertools.product(*choices):
        yield dict(combination)


def _mapping(value: Any) -> dict[str, Any]:
    return {str(name): each for name, each in value.items()} if isinstance(value, dict) else {}


def _row(
    number: int, variables: dict[str, Any], test: dict[str, Any], common: dict[str, Any], prompt: str,
    unmapped: Counter[str],
) -> Row:  # fmt: skip
    def fill(text: str) -> str:
        def value(match: re.Match[str]) -> str:
            found: Any = variables
            for part in match[1].split("."):
                found = found.get(part) if isinstance(found, dict) else None
            return "" if found is None else str(found)

        return _VARIABLE.sub(value, text)

    if _TEMPLATE.search(_VARIABLE.sub("", prompt)):
        unmapped["template code in a prompt ({% %} or filters)"] += 1
    checks: list[dict[str, Any]] = []
    for each in [*_asserts(common), *_asserts(test)]:
        checks += map(msgspec.to_builtins, _checks(each, fill, unmapped))
    reference = next((each["reference"] for each in checks if isinstance(each.get("reference"), str)), None)
    metadata = {**_mapping(common.get("metadata")), **_mapping(test.get("metadata"))}
    tags = {name: str(value) for name, value in metadata.items() if isinstance(value, str | int | float | bool)}
    values = {"id": str(number), "input": fill(prompt), "reference": reference, "tags": tags, "vars": variables}
    if description := test.get("description"):
        values["description"] = str(description)
    return Row(number, values | ({CHECKS: checks} if checks else {}))


def _asserts(test: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    for each in test.get("assert") or []:
        found += each.get("assert") or [] if isinstance(each, dict) and each.get("type") == "assert-set" else [each]
    return found


def _checks(given: Any, fill: Callable[[str], str], unmapped: Counter[str]) -> list[Check]:
    given = given if isinstance(given, dict) else {}
    kind, value = str(given.get("type", "")), given.get("value")
    negated, name = kind.startswith("not-"), kind.removeprefix("not-")
    if name not in UNDERSTOOD or (isinstance(value, str) and value.startswith("file://")):
        hint = " (declare a judge: docs/judges.md)" if name in JUDGED else ""
        unmapped[f"assertion {kind or 'without a type'}{hint}"] += 1
        return []
    filled = fill(value) if isinstance(value, str) else value
    texts = [fill(str(each)) for each in value] if isinstance(value, list) else [str(filled)]
    bound = _number(given.get("threshold", value if name in {"latency", "cost"} else None))
    if (check := _plain_check(name, value, filled, texts, bound)) is not None:
        return [msgspec.structs.replace(check, negated=negated)]
    patterns = [_pattern(name, [text]) for text in texts] if name.endswith("-all") else [_pattern(name, texts)]
    if negated and len(patterns) > 1:
        unmapped[f"assertion {kind} of several texts"] += 1
        return []
    return [Check(scorer="regex", options={"pattern": pattern}, negated=negated) for pattern in patterns]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _plain_check(name: str, value: Any, filled: Any, texts: list[str], bound: float | None) -> Check | None:
    """What an assertion is that one scorer of ours measures; None for those on patterns."""
    match name:
        case "equals":
            return Check(scorer="exact", options={"strict": True}, reference=str(filled))
        case "is-json":
            return Check(scorer="json_schema", options={"schema": value if isinstance(value, dict) else {}})
        case "similar":
            return Check(scorer="similarity", reference=texts, least=0.75 if bound is None else bound)
        case "latency":
            return Check(scorer="latency", most=None if bound is None else bound / 1000)
        case "cost":
            return Check(scorer="cost", most=bound)
    return None


def _pattern(name: str, texts: Sequence[str]) -> str:
    """The regular expression that says what an assertion on texts says, to the letter."""
    if name == "regex":
        return texts[0]
    parts = [_META.sub(r"\\\1", text) for text in texts]
    start = "(?si)" if name.startswith("icontains") else "(?s)"
    if name == "starts-with":
        return f"{start}\\A{parts[0]}"
    return start + "|".join(parts)


def _by_reference(sample: Sample, scorer: str, lost: Counter[str]) -> list[Check]:
    if sample.reference is None or not scorer:
        return []
    if isinstance(sample.reference, str | int | float | list):
        return [Check(scorer=scorer, reference=sample.reference)]
    lost["references that are objects"] += 1
    return []


def _assertion(check: Check, lost: Counter[str]) -> dict[str, Any] | None:
    sign, reference = "not-" if check.negated else "", check.reference
    texts = [str(each) for each in reference] if isinstance(reference, list) else [str(reference)]
    match check.scorer:
        case "exact" | "right_label" if len(texts) == 1:
            return {"type": f"{sign}equals", "value": texts[0]}
        case "contains" if not any("|" in text for text in texts):
            every = check.options.get("every", True)
            return {"type": f"{sign}icontains-{'all' if every else 'any'}", "value": texts}
        case "regex" if "pattern" in check.options or isinstance(reference, str):
            return {"type": f"{sign}regex", "value": check.options.get("pattern", reference)}
        case "json_schema":
            return {"type": f"{sign}is-json", "value": check.options.get("schema", {})}
        case "similarity":
            return {"type": f"{sign}similar", "value": texts[0], "threshold": check.least or 0.75}
        case "latency" if check.most is not None:
            return {"type": f"{sign}latency", "threshold": check.most * 1000}
        case "cost" if check.most is not None:
            return {"type": f"{sign}cost", "threshold": check.most}
    lost[f"the scorer {check.scorer}"] += 1
    return None
