"""Imports the example's own Python files, which belong to no package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

SHOP = Path(__file__).parents[2] / "examples" / "shop"


def shop_module(name: str) -> Any:
    """``examples/shop/<name>.py``, freshly run."""
    spec = importlib.util.spec_from_file_location(f"shop_{name}", SHOP / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
