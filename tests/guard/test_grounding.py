from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.guard import Claim, grounded

POLICY = (
    "Orders over 1,000 EUR ship free. Returns within 30 days of 23 November 2026. Open 9 am to 5:30 pm; call "
    "+49 30 1234567 or write help@shop.example. Code SAVE-10 gives 10 %. See https://shop.example/returns. "
    "Shipping is 4.90 €."
)
TABLE = '{"order": "10423", "total": 49.9, "currency": "EUR", "placed": "2026-11-20T09:15:00Z"}'

STANDS = [
    "It is 1.000 euros, or 1 000 EUR, or €1000.00.",
    "You have a 30-day return window (30 days).",
    "Until 2026-11-23, 11/23/2026, 23.11.2026, Nov 23, 23rd of November or November 23rd, 2026. In November 2026.",
    "Open until 17:30, from 9:00.",
    "Call +49 (30) 123-4567 or 0049 30 1234567.",
    "Write to HELP@shop.example, see shop's page https://shop.example/returns/.",
    "Use save10 for 10% off, that is 10 percent.",
    "Shipping costs €4.90, or 4,90 EUR. Your order #10423 came to 49.90 EUR.",
    "1. Open the page\n2) Return it within 30 days [1][12]",
    "You may march on: nothing here is a figure.",
    "",
]


@pytest.mark.parametrize("answer", STANDS)
def test_stands_on_its_sources(answer: str) -> None:
    assert grounded(answer, [POLICY, TABLE]) == []


FALLS = {
    "within 31 days": ("number", "31"),
    "until 24 November": ("date", "24 November"),
    "on 2026-11-24": ("date", "2026-11-24"),
    "open at 18:00": ("time", "18:00"),
    "until 5 pm": ("time", "5 pm"),
    "call +49 30 1234568": ("phone", "+49 30 1234568"),
    "write to help@shop.exmaple": ("email", "help@shop.exmaple"),
    "code SAVE-20": ("code", "SAVE-20"),
    "gives 20 %": ("percent", "20 %"),
    "gives 30 %": ("percent", "30 %"),
    "see https://shop.example/refunds": ("url", "https://shop.example/refunds"),
    "costs $4.90": ("price", "$4.90"),
    "costs 5.90 €": ("price", "5.90 €"),
    "order 10424": ("number", "10424"),
    "order \u0661\u0660\u0664\u0662\u0664": ("number", "\u0661\u0660\u0664\u0662\u0664"),
}


@pytest.mark.parametrize("answer", FALLS)
def test_does_not_stand(answer: str) -> None:
    claims = grounded(answer, [POLICY, TABLE])
    assert [(claim.kind, claim.text) for claim in claims] == [FALLS[answer]]


def test_says_where() -> None:
    answer = "Bring it back in 14 days, it costs 7 USD."
    claims = grounded(answer, [])
    assert claims == [Claim("number", "14", 17, 19), Claim("price", "7 USD", 35, 40)]
    assert all(answer[claim.start : claim.end] == claim.text for claim in claims)


SCRAPS = [
    "1,000", "1.000", "1 000", "30", "49.90", "€", "$", " EUR", "%", " percent", "5 pm", "17:30", ":", "-", "/", ".",
    ",", " ", "(", "23 November 2026", "Nov 23", "May", "2026-11-23", "11/12/2026", "+49 30 1234567", "030 123",
    "SAVE-10", "#", "help@shop.example", "https://shop.example/a", "www.", "\n1. ", "[1]", "days", "\u0661", "00",
    "99", "pm", "of", "\0",
]  # fmt: skip
texts = st.one_of(st.lists(st.sampled_from(SCRAPS), max_size=25).map("".join), st.text(max_size=80))


@settings(max_examples=1000, deadline=None)
@given(text=texts, more=st.lists(texts, max_size=2))
def test_a_text_stands_on_itself(text: str, more: list[str]) -> None:
    assert grounded(text, [*more, text]) == []


@settings(max_examples=400, deadline=None)
@given(answer=texts, sources=st.lists(texts, max_size=3), more=texts)
def test_more_sources_never_make_more_claims(answer: str, sources: list[str], more: str) -> None:
    claims = grounded(answer, sources)
    assert set(grounded(answer, [*sources, more])) <= set(claims)
    assert grounded(answer, sources[::-1]) == claims
    assert [claim.start for claim in claims] == sorted(claim.start for claim in claims)
    assert all(answer[claim.start : claim.end] == claim.text for claim in claims)


@given(
    value=st.integers(0, 10**9),
    other=st.integers(0, 10**9),
    shape=st.sampled_from(["{}", "{:,}", "{} days", "€{}", "{} %"]),
)
def test_another_number_does_not_stand(value: int, other: int, shape: str) -> None:
    claims = grounded("It is " + shape.format(value), ["It is " + shape.format(other)])
    if value == other:
        assert claims == []
    elif "," not in shape:
        assert len(claims) == 1


@pytest.mark.parametrize(
    "piece", ["1", "1 ", "1,", "1.000 ", "(1", "+1 ", "a-", "a1-", "@a.", "$", "May ", "12:", "www.", "1/", "(1)"]
)
def test_long_hostile_text_is_read_at_all(piece: str) -> None:
    text = piece * (20_000 // len(piece))
    assert grounded(text, [text]) == []


def test_a_price_or_a_percentage_makes_no_other_number_known() -> None:
    assert [claim.text for claim in grounded("You have 45 days.", ["It costs €45 and saves 45 %."])] == ["45"]
    assert grounded("It costs 45 EUR.", ["Price: €45"]) == []
    assert grounded("It costs €45.", ["Price in EUR: 45"]) == []
