"""Table rows said as sentences, for the tables of any shop; every figure of a row stands in what is said of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.assistant.knowledge import Knowledge
from fairlead.engines.extractive.rows import Row, read_row, tell, tell_all
from fairlead.guard import grounded

ROOT = Path(__file__).parents[2]
DELIVERY = Row(
    "Country",
    "Austria",
    (
        ("Standard delivery", "€5.90"),
        ("Standard delivery time", "3–4 working days"),
        ("Express delivery", "not offered"),
        ("Express delivery time", "–"),
        ("Free standard delivery from", "€80"),
    ),
)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ([0], "For Austria, standard delivery costs €5.90."),
        ([1], "For Austria, the standard delivery time is 3–4 working days."),
        ([0, 4], "For Austria, standard delivery costs €5.90 and standard delivery is free from €80."),
        ([2, 3], "For Austria, express delivery is not offered."),
        (
            [],
            (
                "Austria: standard delivery €5.90 (3–4 working days), express delivery not offered, "
                "free standard delivery from €80."
            ),
        ),
    ],
)
def test_the_columns_that_are_wanted_are_said_as_a_sentence(wanted: list[int], told: str) -> None:
    assert tell(DELIVERY, wanted) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Repair: Resole hiking boots; Price: €79.00.", "Resole hiking boots: €79.00."),
        ("EU size: 42; UK size: 8.", "EU size 42: the UK size is 8."),
        ("Net order value: from €500; Discount: 5 %.", "Net order value from €500: the discount is 5 %."),
        (
            "Tent: Tarn Heron 1; Persons: 1; Weight: 1.3 kg; Price: €219.",
            "Tarn Heron 1: 1 person, weight 1.3 kg, price €219.",
        ),
        (
            "Payment method: PayPal; Where: everywhere; Limits: none; When it is charged: at once.",
            "PayPal: everywhere, no limits, it is charged at once.",
        ),
        (
            "Status: Received; Meaning: we have your order; What you can do: change or cancel it.",
            "Received: we have your order; what you can do: change or cancel it.",
        ),
        (
            "Day: Sunday; Hamburg store: closed; Munich store: closed.",
            "Sunday: Hamburg store closed, Munich store closed.",
        ),
        ("Skin: Dry; Cleanser: Almond Milk.", "Skin Dry – cleanser: Almond Milk."),
        ("Where to: Netherlands; Express: €6.", "For the Netherlands, express costs €6."),
        ("Data: Phone calls; Kept for: 90 days.", "Phone calls: kept for 90 days."),
        (
            "Product: Boots; Guarantee: 2 years; What is covered: seams; not worn tread.",
            "Boots: guarantee 2 years; what is covered: seams; not worn tread.",
        ),
        ("Digital pianos; UK mainland: £39; EU: £75.", "Digital pianos: UK mainland £39, EU £75."),
    ],
)
def test_rows_of_any_table_read_like_a_note_by_a_person(text: str, told: str) -> None:
    row = read_row(text, glued=False, whole=True)
    assert row is not None
    assert tell(row) == told


def test_a_row_of_a_markdown_table_is_read_too() -> None:
    row = read_row("Norway – Cost: €24.00, Time: 6-8 days", glued=True, whole=False)
    assert row == Row("", "Norway", (("Cost", "€24.00"), ("Time", "6-8 days")))


@pytest.mark.parametrize(
    "text", ["We close at noon; come earlier.", "You need:\n- a label; Size: 3", "Open daily.", "", "; ", ": ; : "]
)
def test_a_sentence_is_no_row(text: str) -> None:
    assert read_row(text, glued=False, whole=True) is None


def test_a_first_cell_without_a_name_counts_only_where_nothing_else_stands_beside_it() -> None:
    assert read_row("Drum kits; UK: £25; EU: no", glued=False, whole=False) is None


def test_rows_of_which_any_may_be_meant_are_listed_with_what_they_depend_on() -> None:
    rows = [
        Row("Payment method", label, (("Time after we start the refund", time),))
        for label, time in (("PayPal", "1–2 working days"), ("Gift card", "the same day"))
    ]
    told, which = tell_all(rows, [[], []])
    assert told == (
        "The time after we start the refund depends on the payment method, for example:\n"
        "- PayPal: 1–2 working days\n- Gift card: the same day"
    )
    assert which == [0, 1]


def test_of_many_rows_some_are_told_in_order_and_which_is_meant_is_asked() -> None:
    rows = [
        Row("Country", name, (("Delivery", f"€{9 - i}.50"), ("Time", "2 days"))) for i, name in enumerate("ABCDEFGH")
    ]
    told, which = tell_all(rows, [[0]] * len(rows))
    assert told.splitlines()[:2] == ["Delivery depends on the country, for example:", "- H: €2.50"]
    assert told.endswith("Which country is it?")
    assert which == [7, 6, 5, 4, 3]


def shop_rows() -> list[tuple[str, Row]]:
    """Every table row of the shops that come with the project."""
    folders = [ROOT / "examples/shop/knowledge", ROOT / "benchmarks/data/answers_shops"]
    pages = [*folders, *sorted(p for p in (ROOT / "training/natural").glob("*.md") if p.name != "README.md")]
    texts = [passage.text for page in pages for passage in Knowledge.load([page]).passages]
    return [(text, row) for text in texts if (row := read_row(text, glued=False, whole=True))]


def test_no_figure_of_any_row_is_lost_changed_or_added() -> None:
    rows = shop_rows()
    assert len(rows) > 250
    for text, row in rows:
        told = tell(row)
        assert re.findall(r"\d+", told) == re.findall(r"\d+", text), told
        assert grounded(told, [text]) == []
        for number, (_, value) in enumerate(row.cells):
            if value not in ("–", "no", "none"):
                assert value.removeprefix("from ") in tell(row, [number]), (row, number)


cells = st.text(alphabet="ab €5–:;.,- ", min_size=1, max_size=12)


@given(
    st.text(max_size=8),
    st.text(min_size=1, max_size=8) | st.just(" "),
    st.lists(st.tuples(cells, cells), min_size=1, max_size=4),
)
def test_any_row_is_told_in_one_line_that_ends_like_a_sentence(
    key: str, label: str, columns: list[tuple[str, str]]
) -> None:
    row = Row(key.replace("\n", " "), label.replace("\n", " "), tuple(columns))
    for wanted in ([], [0], list(range(len(columns)))):
        assert tell(row, wanted).endswith(".")
    assert len(tell_all([row, row], [[], []])[1]) == 2
