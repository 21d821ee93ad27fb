"""The documentation of the file lists every key and metric, and its examples work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fairlead.spec import json_schema, parse
from fairlead.spec.metrics import BUILT_IN
from fairlead.spec.reference import main, render, replace
from tests.spec.samples import FULL

PAGE = Path(__file__).parents[2] / "docs" / "use-case-file.md"


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert replace(page) == page, "run: python -m fairlead.spec.reference docs/use-case-file.md"


def test_lists_every_key_and_metric() -> None:
    text = render()
    schema = json_schema()
    for part in [schema, *schema["$defs"].values()]:
        for key in part["properties"]:
            assert f"| `{key}` |" in text
    for part in schema["$defs"].values():
        assert part["description"] in text
    for name in BUILT_IN:
        assert f"| `{name}` |" in text


def test_the_examples_work() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    assert parse(blocks[0]).live.id == "extractive"
    own = FULL[FULL.index("metrics:") : FULL.index("objectives:")]
    text = FULL.replace(own, blocks[1]).replace("metric: politeness", "metric: csat")
    metrics = parse(text).effective_metrics
    assert metrics["politeness"].definition == "Share of answers that a judge finds polite."
    assert metrics["resolution"].window_hours == 48


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin: use-case-file -->\nold\n<!-- end: use-case-file -->\nafter\n")
    assert main(["--check", str(page)]) == 1
    assert "not up to date" in capsys.readouterr().err
    assert main([str(page)]) == 0
    assert main(["--check", str(page)]) == 0
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")
