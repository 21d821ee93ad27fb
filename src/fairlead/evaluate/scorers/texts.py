"""Scorers of the text of an answer: equal, holds, matches, is like, declines. Linear in its length."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

from fairlead.engines.embed.embedder import shared
from fairlead.errors import ScorerInvalid
from fairlead.evaluate.scorers import Answer
from fairlead.records import Sample

MAX_PATTERN = 2_000
DECLINING = ("unknown", "handoff", "complaint")
"""Acts of the assistant with which it does not answer."""
# "We cannot refund after 30 days" is an answer, so beyond not knowing only the first person singular declines.
_DECLINES = re.compile(
    r"\bi (?:cannot|can't|could not|couldn't|am not able to|am unable to)"
    r" (?:say|tell|help|answer|find|assist|provide)\b"
    r"|\bi'm (?:not able|unable) to (?:say|tell|help|answer|find|assist|provide)\b"
    r"|\b(?:i|we) (?:do not|don't) (?:know|have (?:any |that |this )?information)\b"
    r"|\b(?:i am|i'm) not sure\b|\bno information (?:on|about)\b|\bnot (?:mentioned|covered) (?:in|by)\b"
)
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-") | {"’": "'", "‘": "'", "“": '"', "”": '"'})


def plain(text: str) -> str:
    """Lower case, one kind of dash and quote, single spaces: what is compared."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(_DASHES).casefold().split())


def texts_of(reference: Any) -> list[str]:
    """A reference as texts; empty where it is neither a text, a number nor a list of them."""
    parts = reference if isinstance(reference, list | tuple) else [reference]
    return [str(part) for part in parts if isinstance(part, str | int | float) and not isinstance(part, bool)]


def exact(sample: Sample, answer: Answer, *, strict: bool = False) -> bool | None:
    """Whether the answer is one of the references; ``strict`` down to case and spaces."""
    references = texts_of(sample.reference)
    if not references:
        return None
    if strict:
        return answer.text in references
    return plain(answer.text) in {plain(reference) for reference in references}


def contains(sample: Sample, answer: Answer, *, every: bool = True) -> bool | None:
    """Whether the references stand in the answer as whole words; ``a|b`` in a reference: either will do."""
    references = texts_of(sample.reference)
    if not references:
        return None
    text = plain(answer.text)
    found = (any(_stands(plain(part), text) for part in reference.split("|")) for reference in references)
    return all(found) if every else any(found)


def _stands(part: str, text: str) -> bool:
    """Whether ``part`` is in ``text`` and not the inside of a longer word or number: 5 does not stand in 15."""
    return bool(part) and any(
        not (part[0].isalnum() and place and text[place - 1].isalnum())
        and not (part[-1].isalnum() and text[place + len(part) : place + len(part) + 1].isalnum())
        for place in _places(part, text)
    )


def _places(part: str, text: str) -> Iterator[int]:
    place = text.find(part)
    while place >= 0:
        yield place
        place = text.find(part, place + 1)


def regex(sample: Sample, answer: Answer, *, pattern: str = "") -> bool | None:
    """Whether a regular expression is found: ``pattern``, or the sample's reference.

    The engine is Rust's ``regex``, which is linear in the text whatever the pattern; look-around and back-references
    do not exist there. Raises ScorerInvalid for a pattern it cannot read.
    """
    wanted = pattern or (sample.reference if isinstance(sample.reference, str) else "")
    if not wanted:
        return None
    try:
        _compiled(wanted).validate_python(answer.text)
    except ValidationError:
        return False
    return True


@functools.lru_cache(maxsize=512)
def _compiled(pattern: str) -> SchemaValidator:
    if len(pattern) > MAX_PATTERN:
        raise ScorerInvalid(name="regex", detail=f"a pattern of {len(pattern):,} characters; at most {MAX_PATTERN:,}")
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ScorerInvalid(name="regex", detail=f"the pattern {pattern[:80]!r} cannot be used: {reason}") from error


def similarity(sample: Sample, answer: Answer) -> float | None:
    """Cosine of the answer's and the nearest reference's vectors by ``embed``, -1..1: alike in topic, not in truth."""
    references = texts_of(sample.reference)
    if not references or not answer.text.strip():
        return None if not references else 0.0
    vectors = np.asarray(shared().encode([answer.text, *references]), np.float64)
    return float(np.clip((vectors[1:] @ vectors[0]).max(), -1.0, 1.0))


def declined(sample: Sample, answer: Answer) -> bool:
    """Whether the answer declines: the assistant says so by its act; of a plain model the English wording is read."""
    if answer.act:
        return answer.act in DECLINING
    return not answer.calls and (not answer.text.strip() or bool(_DECLINES.search(plain(answer.text))))
