"""Verdicts as JUnit XML, which every CI system shows: an objective is a test case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as Xml

from fairlead.records import Verdict

_REFUSED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(verdicts: Sequence[Verdict], name: str) -> str:
    """The XML: what fails is a failure, what has not enough data is skipped and says how much more it needs."""
    counts = {outcome: sum(each.outcome == outcome for each in verdicts) for outcome in ("fail", "not_enough_data")}
    suites = Xml.Element("testsuites")
    suite = Xml.SubElement(
        suites, "testsuite", name=_text(name), tests=str(len(verdicts)), failures=str(counts["fail"]),
        skipped=str(counts["not_enough_data"]), errors="0",
    )  # fmt: skip
    for each in verdicts:
        case = Xml.SubElement(
            suite, "testcase", classname=_text(f"{name}.{each.step}.{each.kind}"), name=_text(each.objective), time="0"
        )
        said = _text(say(each))
        if each.outcome == "fail":
            Xml.SubElement(case, "failure", message=said, type=each.kind).text = said
        elif each.outcome == "not_enough_data":
            Xml.SubElement(case, "skipped", message=said)
        Xml.SubElement(case, "system-out").text = said
    Xml.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(suites, encoding="unicode") + "\n"


def say(verdict: Verdict) -> str:
    """A verdict in one line: bound, value with interval, n, and what is missing."""
    value = "no value" if verdict.value is None else f"{verdict.value:.4g}"
    low, high = ("?" if each is None else f"{each:.4g}" for each in (verdict.low, verdict.high))
    parts = [f"{verdict.bound}: {value} ({low} to {high}, n {verdict.n})"]
    if verdict.slice:
        parts.append(", ".join(f"{tag}={each}" for tag, each in verdict.slice.items()))
    if verdict.outcome == "not_enough_data" and verdict.needed is not None:
        parts.append(f"{verdict.needed} samples more would decide")
    return "; ".join([*parts, verdict.note] if verdict.note else parts)


def _text(text: str) -> str:
    """Without the characters that XML 1.0 does not allow."""
    return _REFUSED.sub("\ufffd", text)
