"""Tests of a difference, and what to do with many of them at once. Pure functions; nothing of models is known."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.evaluate.numbers import Flags, Numbers, binomial_cdf


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """Two variants on the same samples: only where they differ is anything to be learnt."""

    n: int
    only_first: int
    only_second: int
    p_value: float

    @property
    def difference(self) -> float:
        """Share right of the first minus that of the second."""
        return (self.only_first - self.only_second) / self.n


def mcnemar(first: Flags, second: Flags) -> Paired:
    """The exact test of McNemar, two-sided. ``first`` and ``second`` say which samples were right; not empty.

    Source: Q. McNemar, Psychometrika 12 (1947), 153-157; exact by the binomial distribution of the differing ones.
    """
    ahead, behind = int(np.count_nonzero(first & ~second)), int(np.count_nonzero(second & ~first))
    return Paired(n=len(first), only_first=ahead, only_second=behind, p_value=sign_test(ahead, behind))


def sign_test(ahead: int, behind: int) -> float:
    """The two-sided p-value of this many against that many, where either is equally likely."""
    differing = ahead + behind
    return 1.0 if differing == 0 else min(1.0, 2 * binomial_cdf(min(ahead, behind), differing, 0.5))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values that hold together: below 5 %, the chance of even one false finding among all is below 5 %.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    climbing = np.maximum.accumulate(np.asarray(p_values, np.float64)[order] * factors)
    return _back(order, climbing)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """P-values of which, taking those below 5 %, at most 5 % of the findings are false on average.

    For slices that are shown to people, not for what blocks a release. Source: Y. Benjamini and Y. Hochberg, JRSS B 57
    (1995), 289-300.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, np.float64)[order] * len(order) / np.arange(1, len(order) + 1)
    return _back(order, np.minimum.accumulate(scaled[::-1])[::-1])


def _back(order: npt.NDArray[np.intp], adjusted: Numbers) -> list[float]:
    result = np.empty(len(order))
    result[order] = np.minimum(1.0, adjusted)
    return [float(value) for value in result]
