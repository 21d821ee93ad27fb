"""A question on one direction of a parcel is not taken for the other."""

from __future__ import annotations

import pytest

from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.evidence import prepare, shared
from fairlead.engines.extractive.features import FEATURES
from fairlead.engines.extractive.question import query_of
from fairlead.engines.extractive.text import concepts_of
from fairlead.engines.extractive.units import cut

DOCUMENTS = [
    {"id": "d", "title": "Delivery", "text": "Delivery to France costs €7.90.", "location": ""},
    {"id": "r", "title": "Returns", "text": "For returns from France we deduct €4.90.", "location": ""},
    {"id": "p", "title": "Payment", "text": "We take cards and PayPal.", "location": ""},
]


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        ("What does it cost to send something back from France?", ["d"]),
        ("what is delivery to France?", ["r"]),
        ("if I return it, do I get the delivery costs back?", []),
        ("can I pay with a card?", []),
    ],
)
def test_units_on_the_other_direction_alone_are_marked(asked: str, wrong: list[str]) -> None:
    embedder = shared().embedder
    compared = prepare(query_of(asked), cut(DOCUMENTS, embedder), embedder)
    marked = compared.rows[:, FEATURES.index("wrong way")]
    assert [passage.id for (passage, _), mark in zip(compared.units, marked, strict=True) if mark] == wrong


@pytest.mark.parametrize(
    "text", ["my parcel got lost", "If a parcel is not found we send it again", "it never turned up"]
)
def test_a_lost_parcel_is_an_idea(text: str) -> None:
    assert "lost_parcel" in concepts_of(words_of(text))
