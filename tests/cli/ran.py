"""What a command left behind, and the shop that commands are run on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SHOP = Path(__file__).parents[2] / "examples" / "shop"


class Ran(NamedTuple):
    """The exit status of a command and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Standard error in one line."""
        return " ".join(self.err.split())

    def json(self, *codes: int) -> Any:
        """Standard output as JSON, of a command that ended with one of ``codes``, or 0."""
        assert self.code in (codes or (0,)), self.err
        return json.loads(self.out)


Command = Callable[..., Ran]
"""Runs one command line, given as words."""


def copy_shop(folder: Path) -> Path:
    """The reference shop as a folder of its own, without what is written into it."""
    target = folder / "shop"
    shutil.copytree(SHOP, target, ignore=shutil.ignore_patterns(".fairlead", "__pycache__", "working-*"))
    return target
