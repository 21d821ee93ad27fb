"""The hand-written blocks the scorer learns from, and that those which set thresholds stay apart from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.calibrate_answers import BLOCKS, from_blocks, holds
from fairlead.engines.extractive.evidence import shared
from fairlead.engines.extractive.units import cut
from training.scorer_data import PAGES, PAIRS, from_pairs

TRAINED = [PAIRS, *sorted(PAGES.glob("*.txt"))]
APART = sorted(BLOCKS.glob("*.txt"))


def test_a_block_becomes_units_with_their_questions(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    path.write_text(
        "# note\n\n== Kites\nU Sale | A kite is £9.\nQ how much | price?\nN in red?\nU Post | Free.\nQ postage\n"
    )
    library = from_pairs(path)
    assert [shelf.units for shelf in library.shelves] == [("Kites › Sale\n\nA kite is £9.", "Kites › Post\n\nFree.")]
    assert [(one.text, one.right) for one in library.asked] == [
        ("how much", (0,)), ("price?", (0,)), ("in red?", ()), ("postage", (1,)),
    ]  # fmt: skip


def test_a_line_that_cannot_be_placed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    path.write_text("== Kites\nX what is this\n")
    with pytest.raises(ValueError, match="cannot place 'X what is this'"):
        from_pairs(path)


@pytest.mark.parametrize("path", [*TRAINED, *APART], ids=lambda path: path.stem)
def test_every_block_has_questions_with_and_without_an_answer(path: Path) -> None:
    library = from_pairs(path)
    for number, shelf in enumerate(library.shelves):
        asked = [one for one in library.asked if one.shelf == number]
        assert {bool(one.right) for one in asked} == {True, False}, shelf.name
        assert len({one.text for one in asked}) == len(asked), shelf.name


def test_what_sets_thresholds_trains_nothing() -> None:
    trained = [from_pairs(path) for path in TRAINED]
    apart = [from_pairs(path) for path in APART]
    assert sum(len(library.asked) for library in apart) > 400
    for told in (
        lambda library: {shelf.name for shelf in library.shelves},
        lambda library: {unit for shelf in library.shelves for unit in shelf.units},
    ):
        assert not set().union(*map(told, trained)) & set().union(*map(told, apart))


def test_the_answers_of_the_blocks_that_set_thresholds_stand_in_one_unit_each() -> None:
    embedder = shared().embedder
    for one in from_blocks():
        if one.right:
            units = [unit.text for passage in cut(one.documents, embedder) for unit in passage.units]
            assert any(holds(text, one.right) for text in units), (one.source, one.text)
