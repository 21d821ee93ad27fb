"""The full use case as data, as an object, and a project on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.spec import UseCase, init, parse
from tests.spec.samples import FULL


@pytest.fixture
def full() -> dict[str, Any]:
    """The full use case as plain data, free to change."""
    data: dict[str, Any] = yaml.safe_load(FULL)
    data["users"]["languages"] = ["en", "no"]  # YAML 1.1 reads `no` as false, Fairlead does not
    return data


@pytest.fixture
def usecase() -> UseCase:
    """The full use case, parsed."""
    return parse(FULL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the shop-support template."""
    init("shop-support", tmp_path / "shop")
    return tmp_path / "shop"
