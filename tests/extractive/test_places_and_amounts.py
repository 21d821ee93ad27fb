"""Countries, cities and measures of a question beside those of a text, and the rows that must not be quoted."""

from __future__ import annotations

import pytest

from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.amounts import measures_of, spans_of, within
from fairlead.engines.extractive.evidence import match, shared
from fairlead.engines.extractive.places import Places, agree, places_of
from fairlead.engines.extractive.question import query_of
from fairlead.engines.extractive.units import cut


def _places(text: str) -> Places:
    return places_of(text, words_of(text))


@pytest.mark.parametrize(
    ("asked", "told", "expected"),
    [
        ("How much is it to France?", "France: €7.90", 1.0),
        ("I live in Zürich, who pays?", "Customers in Switzerland pay the postage", 1.0),
        ("What about the UK?", "Great Britain: £5", 1.0),
        ("Do you send to the US?", "We do not deliver to the United States", 1.0),
        ("How much is it to France?", "Returns from other countries in the European Union cost €4.90", 0.6),
        ("How much is it to Norway?", "Other countries in the European Union", -1.0),
        ("Do you send to Canada?", "We cannot post to addresses outside the EU", 0.4),
        ("How much is it to France?", "Returns from Germany and Austria are free", -1.0),
        ("When is the Munich store open?", "Store: Hamburg", -0.5),
        ("When is the Munich store open?", "Store: Munich", 1.0),
        ("How much is it to France?", "Standard parcels cost €5", 0.0),
        ("How much is it?", "Austria: €5.90", 0.0),
        ("Can you help us?", "We ship to the United States", 0.0),
    ],
)
def test_a_text_agrees_with_the_place_asked_for(asked: str, told: str, expected: float) -> None:
    assert agree(_places(asked), _places(told)) == expected


@pytest.mark.parametrize(
    ("asked", "told", "expected"),
    [
        ("I weigh 80 kilos", "Body weight: 60 to 95 kg", 1.0),
        ("I weigh 80 kilos", "Body weight: up to 65 kg", -1.0),
        ("I weigh 99 kg", "from 90 kg", 1.0),
        ("I am 190 cm tall", "Body height: 81–86 cm", -1.0),
        ("my foot is 26.8 cm", "Foot length: 26.8 cm", 1.0),
        ("my foot is 26.8 cm", "Foot length: 27.5 cm", 0.0),
        ("an order of £70", "spend £65 or more", 1.0),
        ("I weigh 80 kilos", "Height: 60 to 95 cm", 0.0),
        ("I ordered 80 things", "60 to 95 kg", 0.0),
    ],
)
def test_a_measure_lies_within_a_range_or_not(asked: str, told: str, expected: float) -> None:
    assert within(measures_of(asked), [*spans_of(told), *measures_of(told)]) == expected


def test_a_row_of_another_country_is_never_quoted() -> None:
    rows = ("Austria; Return cost: free", "Other countries in the European Union; Return cost: €4.90 deducted")
    documents = [{"id": str(i), "title": "Returns", "text": f"Return from: {row}"} for i, row in enumerate(rows)]
    passages = cut(documents, shared().embedder)
    found = match(query_of("What does it cost to send something back from France?"), passages, shared())
    assert [m.passage.id for m in found] == ["1"]
    assert [m.passage.id for m in match(query_of("And from Norway?"), passages, shared())] == []
    assert match(query_of("What does a return from Austria cost?"), passages, shared())[0].passage.id == "0"
