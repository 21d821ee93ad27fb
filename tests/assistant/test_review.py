"""Contradictions, dead links and stale dates: found where they are, not where two rules only look alike."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from fairlead.assistant.knowledge import Knowledge, Passage
from fairlead.assistant.review import contradictions, dead_links, outside_links, review, stale_dates
from tests.assistant.assistant_harness import SHOP

TODAY = datetime.date(2026, 11, 23)


def passage(title: str, text: str, location: str) -> Passage:
    return Passage(id=location, title=title, location=location, text=text)


@pytest.mark.parametrize(
    ("one", "two", "detail"),
    [
        ("We refund within five working days.", "Your refund is paid within 10 working days.", "5 working days here"),
        ("All lamps have a two-year warranty.", "The warranty on our lamps is 3 years.", "2 years here, 3 years there"),
        ("Standard delivery costs €4.90.", "Standard shipping costs €5.90.", "4.9 EUR here, 5.9 EUR there"),
        ("Return lamps within 30 days.", "Lamps can be returned within 14 days.", "30 days here, 2 weeks there"),
        ("A lamp weighs 2 kg.", "A lamp weighs 2500 g.", "2 kg here, 2.5 kg there"),
    ],
)
def test_the_same_thing_with_another_figure(one: str, two: str, detail: str) -> None:
    (found,) = contradictions([passage("A", one, "a.md"), passage("B", two, "b.md")])
    assert (found.location, found.other, found.kind) == ("a.md", "b.md", "contradiction")
    assert detail in found.detail


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Standard delivery costs €4.90.", "Express delivery costs €9.90."),
        ("Clothes can come back within 45 days.", "Toys can come back within 30 days."),
        ("Delivery to France costs €9.", "Delivery to Italy costs €12."),
        ("We refund within five working days.", "Parcels arrive within three working days."),
        ("You have 30 days to return an item.", "You have 60 days to exchange an item."),
        ("Refunds take 14 days.", "Refunds take two weeks."),
        ("It costs €5.", "It takes 5 days."),
    ],
)
def test_different_things_and_equal_figures_are_none(one: str, two: str) -> None:
    assert contradictions([passage("A", one, "a.md"), passage("B", two, "b.md")]) == []


def test_rows_of_one_table_never_contradict(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Costs\n\n| To | Cost |\n|---|---|\n| Small box | €5 |\n| Big box | €9 |\n")
    assert contradictions(Knowledge.load([tmp_path]).passages) == []


def test_the_reference_shops_pages_are_clean() -> None:
    assert review(Knowledge.load([SHOP / "knowledge"]), today=TODAY) == []


def test_links_within_the_pages(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.md").write_text(
        "# A\n\n[ok](b.md) [ok](b.md#costs) [no](c.md) [no](b.md#times) [ok](#here) [no](#there) [out](https://x.example/a)"
        " [ok](#a) [ok](b.md#b)"
        " [mail](mailto:a@x.example) [ok](sub/d.md) [deep](sub/../b.md)\n\n## Here\n\nText.\n"
    )
    (tmp_path / "b.md").write_text("# B\n\nText.\n\n## Costs\n\nFive.\n")
    (tmp_path / "sub" / "d.md").write_text("# D\n\n[up](../a.md) [no](a.md)\n")
    knowledge = Knowledge.load([tmp_path])
    assert [(Path(each.location).name, each.text) for each in dead_links(knowledge)] == [
        ("a.md", "c.md"),
        ("a.md", "b.md#times"),
        ("a.md", "#there"),
        ("d.md", "a.md"),
    ]
    assert [link for _, link in outside_links(knowledge)] == ["https://x.example/a"]


def test_dates_that_are_over(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "---\nupdated: 2025-01-01\n---\n# A\n\nThe sale ends on 3 March 2026. Free delivery until 2026-11-22. "
        "We opened on 1 May 2020. Christmas orders until December 18, 2026. The offer was valid until 1 May 2024. "
        "Valid until 31 February 2026.\n"
    )
    (tmp_path / "b.md").write_text("---\nupdated: 2026-06-01\n---\n# B\n\nFine.\n")
    found = stale_dates(Knowledge.load([tmp_path]), today=TODAY)
    assert [each.detail for each in found] == ["changed 691 days ago", "2026-03-03 is over", "2026-11-22 is over"]


@pytest.mark.parametrize(
    ("text", "over"),
    [
        ("The sale ends on 1 Feb 2026.", "2026-02-01"),
        ("Valid until 03.03.2026.", "2026-03-03"),
        ("Valid until Sept 5, 2026.", "2026-09-05"),
        ("Valid until 13/11/2026.", "2026-11-13"),
        ("Valid until 11/13/2026.", "2026-11-13"),
        ("Valid until 12/11/2026.", ""),  # the 12th of November or the 11th of December
        ("Valid until 31.12.2026.", ""),
        ("Dial 03.03.20261.", ""),
    ],
)
def test_dates_as_they_are_written(tmp_path: Path, text: str, over: str) -> None:
    (tmp_path / "a.md").write_text(f"# A\n\n{text}\n")
    found = stale_dates(Knowledge.load([tmp_path]), today=TODAY)
    assert [each.detail for each in found] == ([f"{over} is over"] if over else [])


def test_an_updated_that_is_no_date_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\nupdated: 15.01.2024\n---\n# A\n\nText.\n")
    (found,) = stale_dates(Knowledge.load([tmp_path]), today=TODAY)
    assert (found.text, "write it like" in found.detail) == ("15.01.2024", True)
