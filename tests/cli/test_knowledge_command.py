"""``fairlead knowledge``: pages added, listed, searched, checked, by a person and by a script."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairlead.cli import main
from tests.cli.ran import Command

SHOP = Path(__file__).parents[2] / "examples" / "shop"
PAGE = "# Opening party\n\nThe party ends on 3 March 2024. See [menu](menu.md).\n"


@pytest.fixture(name="pages")
def pages_fixture(shop: Path, run: Command) -> Command:
    """Runs `fairlead knowledge ...` on the shop."""
    return lambda *words: run("knowledge", *words, "--project", shop)


def test_list_and_only_changed_pages_are_read_again(pages: Command, shop: Path) -> None:
    code, out, _ = pages("list", "--json")
    first = json.loads(out)
    assert code == 0
    assert len(first["pages"]) == len(first["read_again"]) == len(list((shop / "knowledge").glob("*.md")))
    with (shop / "knowledge" / "returns.md").open("a") as page:
        page.write("\nOne more sentence stands here.\n")
    second = json.loads(pages("list", "--json")[1])
    assert second["read_again"] == ["knowledge/returns.md"]
    assert second["snapshot"] != first["snapshot"]
    code, out, err = pages("list")
    assert "Returns" in out
    assert "read again because changed: 0 pages" in err


def test_add_says_what_it_would_do_does_it_and_refuses_to_overwrite(pages: Command, shop: Path, tmp_path: Path) -> None:
    page = tmp_path / "party.md"
    page.write_text(PAGE)
    target = shop / "knowledge" / "party.md"
    code, out, _ = pages("add", page, "--dry-run")
    assert (code, target.exists()) == (0, False)
    assert "would be added: party.md (Opening party), 1 passage" in out
    code, out, err = pages("add", page)
    assert (code, target.read_text()) == (0, PAGE)
    assert "added: party.md" in out
    assert f"Undo: rm {target}" in err
    page.write_text("# Party\n\nIt is over.\n")
    code, _, err = pages("add", page)
    assert (code, target.read_text()) == (2, PAGE)
    assert "has party.md already. Add --replace" in err
    _, _, err = pages("add", page, "--replace")
    assert "Undo" not in err  # to remove the page would not bring the old one back
    code, out, _ = pages("add", page, "--replace", "--json")
    assert json.loads(out)["added"] == [{"page": "party.md", "title": "Party", "passages": 1, "replaced": True}]
    assert "over" in target.read_text()
    assert not list((shop / "knowledge").glob(".adding-*"))


def test_add_is_all_or_nothing_and_names_what_is_wrong(pages: Command, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "good.md").write_text(PAGE)
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    code, _, err = pages("add", tmp_path / "good.md", tmp_path / "broken.pdf")
    assert code == 2
    assert "broken.pdf: cannot be read as a PDF" in err
    assert not (shop / "knowledge" / "good.md").exists()
    for bad, said in ((tmp_path / "none.md", "is no file"), (tmp_path, "is no file")):
        code, _, err = pages("add", bad)
        assert (code, said in err) == (2, True), err
    (tmp_path / "page.docx").write_bytes(b"x")
    assert "is not a page" in pages("add", tmp_path / "page.docx")[2]
    assert "no folder of `knowledge:`" in pages("add", tmp_path / "good.md", "--into", "../..")[2]


def test_search_shows_what_the_assistant_would_find(pages: Command, shop: Path) -> None:
    code, out, _ = pages("search", "how much is delivery to Austria", "--count", "2", "--json")
    found = json.loads(out)
    assert code == 0
    assert [each["rank"] for each in found] == [1, 2]
    assert "Country: Austria" in found[0]["text"]
    assert "1. " in pages("search", "delivery to Austria")[1]


def test_check_exits_1_and_says_where(pages: Command, shop: Path) -> None:
    code, _, err = pages("check")
    assert (code, "0 findings" in err) == (0, True)
    (shop / "knowledge" / "party.md").write_text(PAGE)
    code, out, _ = pages("check")
    assert code == 1
    assert "knowledge/party.md: dead link: menu.md (there is no page knowledge/menu.md)" in out
    assert "2024-03-03 is over" in out
    assert [each["kind"] for each in json.loads(pages("check", "--json")[1])["findings"]] == ["link", "date"]


def test_a_snapshot_of_a_release_can_be_read_again(pages: Command, shop: Path) -> None:
    with pytest.raises(SystemExit):
        main(["ask", "Do you deliver to Austria?", "--project", str(shop)])
    snapshot = json.loads(pages("list", "--json")[1])["snapshot"]
    (shop / "knowledge" / "returns.md").unlink()
    code, out, _ = pages("list", "--snapshot", snapshot[:12], "--json")
    assert code == 0
    assert any(each["location"].startswith("knowledge/returns.md") for each in json.loads(out)["passages"])
    assert pages("list", "--snapshot", "ffff")[0] == 1
