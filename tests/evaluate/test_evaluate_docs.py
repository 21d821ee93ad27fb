"""The pages on evaluating say what is so: their code runs, their tables name every scorer and every column."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fairlead.evaluate.judges.labels import COLUMNS as LABEL_COLUMNS
from fairlead.evaluate.reading import READERS
from fairlead.evaluate.samples import COLUMNS
from fairlead.evaluate.scorers import SCORERS
from fairlead.spec.model import JudgeBar

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "evaluate.md").read_text(encoding="utf-8")
JUDGES = (DOCS / "judges.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE + JUDGES, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("place", range(len(BLOCKS)))
def test_the_code_runs(place: int, tmp_path: Path) -> None:
    # From a file, so that a scorer's source can be read as it is where people write one.
    path = tmp_path / "example.py"
    path.write_text(BLOCKS[place], encoding="utf-8")
    exec(compile(BLOCKS[place], str(path), "exec"), {"__name__": "builtins"})


def test_every_name_is_there() -> None:
    columns = {column for names in COLUMNS.values() for column in names if column != "tenant"}
    missing = [name for name in {*SCORERS.names(), *columns, *READERS} if f"`{name}`" not in PAGE]
    assert missing == []


def test_every_label_column_is_there() -> None:
    columns = {column for part, names in LABEL_COLUMNS.items() for column in names if part != "second"}
    assert [name for name in columns if f"`{name}`" not in JUDGES] == []
    assert [name for name in JudgeBar.model_fields if f"`{name}`" not in JUDGES] == []
