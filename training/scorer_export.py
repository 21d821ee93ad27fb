"""Writes a trained scorer as what `Scorer.load` reads: signed bytes with a scale each row, and a card.

Knows no training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.engines.scorer import scorer as runtime
from training.scorer_model import Scorer

Floats = npt.NDArray[np.float32]
SMALL = 2_000  # numbers up to which an array is kept as float32


def packed(model: Scorer) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the weights file."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "vocabulary": np.frombuffer("\n".join(model.row_of).encode("utf-8"), np.uint8)
    }
    for name, value in model.state_dict().items():
        array = value.detach().numpy().astype(np.float32)
        if array.ndim < 2 or array.size <= SMALL:
            arrays[name] = array
            continue
        scale = np.maximum(np.abs(array).max(axis=1) / 127, 1e-8).astype(np.float32)
        arrays[name] = np.clip(np.rint(array / scale[:, None]), -127, 127).astype(np.int8)
        arrays[f"{name}.scale"] = scale
    return arrays


def rater(model: Scorer) -> Callable[[str, Sequence[str]], Floats]:
    """The scores the shipped form of a model gives: rounded to bytes, in numpy."""
    return runtime.Scorer(list(model.row_of), runtime.unpacked(packed(model))).score


def write(model: Scorer, out: Path | None, card: dict[str, Any]) -> None:
    """Write the weights and their card; ``out`` is a path without suffix, the package's own without it."""
    path = (out or runtime.WEIGHTS).with_suffix(".npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **packed(model))
    data = path.read_bytes()
    card = {**card, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    path.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(f"{path}: {len(data) / 1e6:.2f} MB")
