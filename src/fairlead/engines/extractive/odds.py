"""Log-odds from named features: a linear model with a few bent units beside it, as calibration.json stores it.

Knows no features by name and no thresholds; `benchmarks/calibrate_answers.py` fits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fairlead.engines.embed.embedder import Vectors


class Odds(NamedTuple):
    """``linear`` (features,), ``bias``, and units tanh(x @ ``into`` + ``shift``) that count ``out`` each."""

    linear: Vectors
    bias: float
    into: Vectors
    shift: Vectors
    out: Vectors

    @classmethod
    def read(cls, stored: dict[str, Any], names: Sequence[str]) -> Odds:
        """From its JSON form: weights by feature, a feature that is not there counting nothing."""
        units = len(stored["out"])
        return cls(
            np.array([stored["linear"].get(name, 0.0) for name in names], np.float32),
            float(stored["bias"]),
            np.array([stored["into"].get(name, [0.0] * units) for name in names], np.float32),
            np.array(stored["shift"], np.float32),
            np.array(stored["out"], np.float32),
        )

    def stored(self, names: Sequence[str]) -> dict[str, Any]:
        """Its JSON form, rounded."""
        return {
            "linear": {name: round(float(w), 4) for name, w in zip(names, self.linear, strict=True)},
            "bias": round(self.bias, 4),
            "into": {name: [round(float(w), 3) for w in row] for name, row in zip(names, self.into, strict=True)},
            "shift": [round(float(w), 3) for w in self.shift],
            "out": [round(float(w), 3) for w in self.out],
        }

    def of(self, rows: Vectors) -> Vectors:
        """Log-odds (n,) of rows (n, features)."""
        bent = np.tanh(rows @ self.into + self.shift) @ self.out
        found: Vectors = np.clip(rows @ self.linear + bent + self.bias, -30, 30)
        return found
