"""`init`: a project that works at once and never costs anyone a file."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from fairlead.errors import ChoiceUnknown, TargetInUse, TargetUnwritable
from fairlead.spec import check, init, templates


@pytest.mark.parametrize("template", ["shop-support", "blank"])
def test_writes_a_project_that_passes_its_check(tmp_path: Path, template: str) -> None:
    written = init(template, tmp_path / "new" / "folder")
    assert all(path.is_file() for path in written)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(written)
    report = check(tmp_path / "new" / "folder")
    assert report.ok, report.problems
    assert report.objectives
    assert "# yaml-language-server: $schema=fairlead.schema.json" in (tmp_path / "new/folder/fairlead.yaml").read_text()


def test_every_template_has_a_description() -> None:
    assert set(templates()) == {"shop-support", "blank"}
    assert all(text.endswith(".") for text in templates().values())


def test_unknown_template(tmp_path: Path) -> None:
    with pytest.raises(ChoiceUnknown, match="shop-support, blank"):
        init("../../etc", tmp_path)


def test_never_overwrites_without_force(tmp_path: Path) -> None:
    init("blank", tmp_path)
    mine = tmp_path / "fairlead.yaml"
    mine.write_text("mine")
    (tmp_path / "other.txt").write_text("untouched")
    with pytest.raises(TargetInUse, match=r"fairlead\.yaml") as caught:
        init("blank", tmp_path)
    assert "--force" in str(caught.value)
    assert mine.read_text() == "mine"
    init("blank", tmp_path, force=True)
    assert mine.read_text() != "mine"
    assert (tmp_path / "other.txt").read_text() == "untouched"


def test_one_existing_file_stops_all(tmp_path: Path) -> None:
    (tmp_path / "knowledge").mkdir()
    (tmp_path / "knowledge" / "about.md").write_text("mine")
    with pytest.raises(TargetInUse, match=r"1 of the files .* knowledge/about.md"):
        init("blank", tmp_path)
    assert not (tmp_path / "fairlead.yaml").exists()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "new"
    assert len(init("shop-support", target, dry_run=True)) > 10
    assert not target.exists()


def test_force_replaces_a_link_and_not_what_it_points_at(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    target = tmp_path / "project"
    target.mkdir()
    (target / "fairlead.yaml").symlink_to(outside)
    init("blank", target, force=True)
    assert outside.read_text() == "mine"
    assert not (target / "fairlead.yaml").is_symlink()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(TargetUnwritable):
            init("blank", target)


def test_the_facts_of_the_questions_stand_in_the_pages(tmp_path: Path) -> None:
    """The starter's evaluation must be answerable from its own knowledge."""
    init("shop-support", tmp_path)
    for line in (tmp_path / "data" / "questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["expect"] != "answer":
            continue
        page, _, anchor = row["source"].partition("#")
        text = (tmp_path / page).read_text()
        for fact in row["facts"]:
            assert fact in text, row
        headings = {part.strip("# ").lower().replace(" ", "-") for part in text.splitlines() if part.startswith("#")}
        assert not anchor or anchor in headings, row


def test_the_starter_tool_decides_who_may_see_an_order(tmp_path: Path) -> None:
    init("shop-support", tmp_path)
    described = importlib.util.spec_from_file_location("starter_tools", tmp_path / "tools.py")
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    found = module.find_order("ll 10427", "Mia.Berg@example.com ")
    assert found["found"]
    assert "24 November 2026" in found["summary"]
    assert ["Tracking number", "PW5512704"] in found["card"]["rows"]
    wrong_address = module.find_order("LL-10427", "tom.adeyemi@example.org")
    wrong_number = module.find_order("LL-99999", "mia.berg@example.com")
    assert wrong_address == wrong_number
    assert not wrong_address["found"]
