"""``fairlead knowledge``: pages added, listed, searched, checked, by a person and by a script."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fairlead.cli import main

SHOP = Path(__file__).parents[2] / "examples" / "shop"
PAGE = "# Opening party\n\nThe party ends on 3 March 2024. See [menu](menu.md).\n"


@pytest.fixture(name="shop")
def shop_fixture(tmp_path: Path) -> Path:
    target = tmp_path / "shop"
    shutil.copytree(SHOP, target, ignore=shutil.ignore_patterns(".fairlead", "__pycache__"))
    return target


def run(capfd: pytest.CaptureFixture[str], shop: Path, *arguments: str | Path) -> tuple[int, str, str]:
    capfd.readouterr()
    with pytest.raises(SystemExit) as left:
        main(["knowledge", *(str(each) for each in arguments), "--project", str(shop)])
    shown = capfd.readouterr()
    return int(left.value.code or 0), shown.out, shown.err


def test_list_and_only_changed_pages_are_read_again(capfd: pytest.CaptureFixture[str], shop: Path) -> None:
    code, out, _ = run(capfd, shop, "list", "--json")
    first = json.loads(out)
    assert code == 0
    assert len(first["pages"]) == len(first["read_again"]) == len(list((shop / "knowledge").glob("*.md")))
    with (shop / "knowledge" / "returns.md").open("a") as page:
        page.write("\nOne more sentence stands here.\n")
    second = json.loads(run(capfd, shop, "list", "--json")[1])
    assert second["read_again"] == ["knowledge/returns.md"]
    assert second["snapshot"] != first["snapshot"]
    code, out, err = run(capfd, shop, "list")
    assert "Returns" in out
    assert "read again because changed: 0 pages" in err


def test_add_says_what_it_would_do_does_it_and_refuses_to_overwrite(
    capfd: pytest.CaptureFixture[str], shop: Path, tmp_path: Path
) -> None:
    page = tmp_path / "party.md"
    page.write_text(PAGE)
    target = shop / "knowledge" / "party.md"
    code, out, _ = run(capfd, shop, "add", page, "--dry-run")
    assert (code, target.exists()) == (0, False)
    assert "would be added: party.md (Opening party), 1 passage" in out
    code, out, err = run(capfd, shop, "add", page)
    assert (code, target.read_text()) == (0, PAGE)
    assert "added: party.md" in out
    assert f"Undo: rm {target}" in err
    page.write_text("# Party\n\nIt is over.\n")
    code, _, err = run(capfd, shop, "add", page)
    assert (code, target.read_text()) == (2, PAGE)
    assert "has party.md already. Add --replace" in err
    _, _, err = run(capfd, shop, "add", page, "--replace")
    assert "Undo" not in err  # to remove the page would not bring the old one back
    code, out, _ = run(capfd, shop, "add", page, "--replace", "--json")
    assert json.loads(out)["added"] == [{"page": "party.md", "title": "Party", "passages": 1, "replaced": True}]
    assert "over" in target.read_text()
    assert not list((shop / "knowledge").glob(".adding-*"))


def test_add_is_all_or_nothing_and_names_what_is_wrong(
    capfd: pytest.CaptureFixture[str], shop: Path, tmp_path: Path
) -> None:
    (tmp_path / "good.md").write_text(PAGE)
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    code, _, err = run(capfd, shop, "add", tmp_path / "good.md", tmp_path / "broken.pdf")
    assert code == 2
    assert "broken.pdf: cannot be read as a PDF" in err
    assert not (shop / "knowledge" / "good.md").exists()
    for bad, said in ((tmp_path / "none.md", "is no file"), (tmp_path, "is no file")):
        code, _, err = run(capfd, shop, "add", bad)
        assert (code, said in err) == (2, True), err
    (tmp_path / "page.docx").write_bytes(b"x")
    assert "is not a page" in run(capfd, shop, "add", tmp_path / "page.docx")[2]
    assert "no folder of `knowledge:`" in run(capfd, shop, "add", tmp_path / "good.md", "--into", "../..")[2]


def test_search_shows_what_the_assistant_would_find(capfd: pytest.CaptureFixture[str], shop: Path) -> None:
    code, out, _ = run(capfd, shop, "search", "how much is delivery to Austria", "--count", "2", "--json")
    found = json.loads(out)
    assert code == 0
    assert [each["rank"] for each in found] == [1, 2]
    assert "Country: Austria" in found[0]["text"]
    assert "1. " in run(capfd, shop, "search", "delivery to Austria")[1]


def test_check_exits_1_and_says_where(capfd: pytest.CaptureFixture[str], shop: Path) -> None:
    code, _, err = run(capfd, shop, "check")
    assert (code, "0 findings" in err) == (0, True)
    (shop / "knowledge" / "party.md").write_text(PAGE)
    code, out, _ = run(capfd, shop, "check")
    assert code == 1
    assert "knowledge/party.md: dead link: menu.md (there is no page knowledge/menu.md)" in out
    assert "2024-03-03 is over" in out
    assert [each["kind"] for each in json.loads(run(capfd, shop, "check", "--json")[1])["findings"]] == ["link", "date"]


def test_a_snapshot_of_a_release_can_be_read_again(capfd: pytest.CaptureFixture[str], shop: Path) -> None:
    with pytest.raises(SystemExit):
        main(["ask", "Do you deliver to Austria?", "--project", str(shop)])
    snapshot = json.loads(run(capfd, shop, "list", "--json")[1])["snapshot"]
    (shop / "knowledge" / "returns.md").unlink()
    code, out, _ = run(capfd, shop, "list", "--snapshot", snapshot[:12], "--json")
    assert code == 0
    assert any(each["location"].startswith("knowledge/returns.md") for each in json.loads(out)["passages"])
    assert run(capfd, shop, "list", "--snapshot", "ffff")[0] == 1
