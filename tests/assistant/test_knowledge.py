"""Pages to passages: headings, tables, lists, sizes, and pages that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.assistant.knowledge import MAX_PASSAGE_CHARS, Knowledge
from fairlead.assistant.pages import MAX_TEXT_BYTES
from fairlead.errors import KnowledgeInvalid
from tests.assistant.assistant_harness import SHOP

PAGE = """---
title: Delivery
updated: 2026-10-05
---

# Delivery

We ship from Monday to Friday. Parcels leave at 17:00.

## Costs

| Country | Standard | Express |
|---|---|---|
| Austria | €5.90 | **€14.90** |
| Italy | €8.90 | |

## What we do not send

The following cannot be sent:

- gas canisters
- liquid fuel. Really not.
  1. lamp oil

### To islands

See [the list](https://example.com/x) of `islands`.
<div onclick="x()">hidden block</div>
"""


def load(tmp_path: Path, text: str | bytes, name: str = "page.md") -> Knowledge:
    folder = tmp_path / "pages"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return Knowledge.load([folder])


def test_headings_become_titles_and_anchors(tmp_path: Path) -> None:
    knowledge = load(tmp_path, PAGE)
    assert [(p.title, p.location) for p in knowledge.passages] == [
        ("Delivery", "pages/page.md"),
        ("Delivery › Costs", "pages/page.md#costs"),
        ("Delivery › Costs", "pages/page.md#costs"),
        ("Delivery › What we do not send", "pages/page.md#what-we-do-not-send"),
        ("Delivery › What we do not send › To islands", "pages/page.md#to-islands"),
    ]
    assert {p.updated for p in knowledge.passages} == {"2026-10-05"}


def test_table_rows_lists_and_markup_become_plain_sentences(tmp_path: Path) -> None:
    texts = [p.text for p in load(tmp_path, PAGE).passages]
    assert texts == [
        "We ship from Monday to Friday. Parcels leave at 17:00.",
        "Country: Austria; Standard: €5.90; Express: €14.90",
        "Country: Italy; Standard: €8.90",
        "The following cannot be sent: gas canisters. liquid fuel. Really not. lamp oil.",
        "See the list of islands.",
    ]


def test_ids_do_not_change_when_another_section_changes(tmp_path: Path) -> None:
    before = load(tmp_path, PAGE)
    after = load(tmp_path, PAGE.replace("Parcels leave at 17:00.", "Parcels leave at 18:00."))
    assert [p.id for p in before.passages][1:] == [p.id for p in after.passages][1:]
    assert before.passages[0].id != after.passages[0].id
    assert before.snapshot != after.snapshot
    assert load(tmp_path, PAGE).snapshot == before.snapshot


def test_equal_passages_have_different_ids(tmp_path: Path) -> None:
    knowledge = load(tmp_path, "# A\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 1 | 2 |\n")
    assert len({p.id for p in knowledge.passages}) == len(knowledge.passages) == 2


def test_two_headings_of_one_name_get_two_anchors(tmp_path: Path) -> None:
    knowledge = load(tmp_path, "# A\n\n## Cost\n\nOne.\n\n## Cost\n\nTwo.\n")
    assert [p.location for p in knowledge.passages] == ["pages/page.md#cost", "pages/page.md#cost-1"]


def test_invisible_characters_cannot_hide_text(tmp_path: Path) -> None:
    (passage,) = load(tmp_path, "# A\n\nReturns take 30\u200b days\u202e.\x07 Fine.\n").passages
    assert passage.text == "Returns take 30 days. Fine."


def test_the_shops_pages_are_read_whole() -> None:
    knowledge = Knowledge.load([SHOP / "knowledge"])
    assert len(knowledge.passages) > 250
    assert max(len(p.text) for p in knowledge.passages) <= MAX_PASSAGE_CHARS
    assert len({p.id for p in knowledge.passages}) == len(knowledge.passages)
    assert any(p.text.startswith("Country: Austria; Standard delivery: €5.90") for p in knowledge.passages)


def test_no_paths_give_an_empty_knowledge() -> None:
    assert Knowledge.load([]).search("anything") == []


def test_every_bad_page_is_named_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    (tmp_path / "secret.md").write_text("# Secret\n\nNot for customers.\n")
    (folder / "latin.md").write_bytes("Grüße".encode("latin-1"))
    (folder / "empty.md").write_text("\n\n")
    (folder / "only-heading.md").write_text("# Nothing below\n")
    (folder / "nul.md").write_bytes(b"a\x00b")
    (folder / "huge.md").write_bytes(b"a " * (MAX_TEXT_BYTES // 2 + 1))
    (folder / "front.md").write_text("---\ntitle: [\n---\nText.\n")
    (folder / "list.md").write_text("---\n- a\n---\nText.\n")
    (folder / "linked.md").symlink_to(tmp_path / "secret.md")
    (folder / "fine.md").write_text("Fine.\n")
    with pytest.raises(KnowledgeInvalid) as caught:
        Knowledge.load([folder, tmp_path / "nowhere"])
    text = str(caught.value)
    for part in (
        "latin.md: byte 2 is not UTF-8",
        "empty.md: has no text",
        "only-heading.md: has no text",
        "nul.md: contains NUL",
        "huge.md: has 2,000,002 bytes",
        "front.md: its front matter is not YAML",
        "list.md: its front matter is not `key: value`",
        "linked.md: is a link that leads out",
        "nowhere: there is no such file or folder",
    ):
        assert part in text
    assert "fine.md" not in text
    assert caught.value.details["count"] == 9


def test_a_folder_without_pages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KnowledgeInvalid, match="no page found"):
        Knowledge.load([tmp_path])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_page_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text.")
    page.chmod(0)
    with pytest.raises(KnowledgeInvalid, match="cannot be read"):
        Knowledge.load([page])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=600))
def test_any_page_is_cut_or_refused(tmp_path: Path, text: str) -> None:
    try:
        knowledge = load(tmp_path, text)
    except KnowledgeInvalid:
        return
    for passage in knowledge.passages:
        assert 0 < len(passage.text) <= MAX_PASSAGE_CHARS
        assert passage.text == " ".join(passage.text.split())
