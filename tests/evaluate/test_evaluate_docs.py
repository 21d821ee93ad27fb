"""The page on evaluating says what is so: its code runs, its tables name every scorer and every column."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fairlead.evaluate.reading import READERS
from fairlead.evaluate.samples import COLUMNS
from fairlead.evaluate.scorers import SCORERS

PAGE = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


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
