"""Ranking: BM25 against its definition, fusion, follow-ups, and the shop's questions as a floor."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.assistant.knowledge import Knowledge
from fairlead.assistant.retrieve import Bm25, Index, expand, is_follow_up, terms_of
from tests.assistant.assistant_harness import SHOP

Words = st.lists(st.sampled_from("abcdefg"), max_size=12)


def plain_bm25(documents: list[list[str]], query: list[str], k1: float, b: float) -> list[float]:
    """Okapi BM25 written out as in Robertson and Zaragoza (2009), for comparison."""
    mean = max(sum(map(len, documents)) / max(len(documents), 1), 1)
    scores = []
    for document in documents:
        counts, score = Counter(document), 0.0
        for term in query:
            holding = sum(term in other for other in documents)
            rarity = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
            often = counts[term]
            score += rarity * often * (k1 + 1) / (often + k1 * (1 - b + b * len(document) / mean))
        scores.append(score)
    return scores


@settings(max_examples=100, deadline=None)
@given(documents=st.lists(Words, min_size=1, max_size=8), query=Words)
def test_bm25_is_bm25(documents: list[list[str]], query: list[str]) -> None:
    found = Bm25(documents, k1=1.2, b=0.6).scores(query)
    np.testing.assert_allclose(found, plain_bm25(documents, query, 1.2, 0.6), rtol=1e-4, atol=1e-5)


def test_an_empty_index_finds_nothing() -> None:
    assert Index([]).rank("anything") == []


def test_ranking_is_repeatable_and_bounded() -> None:
    knowledge = Knowledge.load([SHOP / "knowledge"])
    first = [p.id for p in knowledge.search("how much is delivery to Austria", 5)]
    again = [p.id for p in Knowledge.load([SHOP / "knowledge"]).search("how much is delivery to Austria", 5)]
    assert first == again
    assert len(first) == 5
    assert knowledge.search("", 5) == []
    assert len(knowledge.search("return " * 50_000, 3)) == 3


@pytest.mark.parametrize(
    ("text", "leans"),
    [
        ("And to Italy?", True),
        ("what about Sundays", True),
        ("How long does it take?", True),
        ("and how much does a new zip for my old rain jacket cost in your workshop?", False),
        ("How much is delivery to Austria?", False),
        ("My parcel has been stuck for a week", False),
    ],
)
def test_follow_ups_are_told_from_new_questions(text: str, leans: bool) -> None:
    assert is_follow_up(text) is leans
    assert expand(text, "What does delivery cost?").startswith("What does delivery cost?") is leans


def test_a_follow_up_finds_what_the_question_before_was_about() -> None:
    knowledge = Knowledge.load([SHOP / "knowledge"])
    alone = [p.text for p in knowledge.search("And to Italy?", 4)]
    led = [p.text for p in knowledge.search("And to Italy?", 4, previous="How much is standard delivery to Austria?")]
    row = "Country: Italy; Standard delivery: €8.90"
    assert any(text.startswith(row) for text in led)
    assert alone != led


def test_a_slip_of_the_finger_is_mended_in_questions_only() -> None:
    assert terms_of("refnud", asked=True) == terms_of("refund", asked=True)
    assert terms_of("refnud") != terms_of("refund")
