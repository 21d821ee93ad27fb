"""What was measured for one objective: a number for each sample, and which samples belong together.

Knows no metric and no bound. Bad numbers are refused here, so that nothing behind has to look again.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import msgspec
import numpy as np

from fairlead.errors import EvidenceInvalid
from fairlead.evaluate.numbers import Codes, Numbers, codes_of


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Values in the order they were seen; make it with ``gather``.

    ``values`` (n,) are numbers, shares as 0 or 1; of a ratio the parts above the line, with those below in
    ``denominators``. ``clusters`` are codes of what belongs together, None where every value is independent.
    ``groups`` is the tag's value of each sample, for a gap. ``excluded`` samples have no value: their call failed, or
    their judge did. ``judge`` is the hash of the judge that gave the values, empty where code did.
    """

    values: Numbers
    denominators: Numbers | None = None
    clusters: Codes | None = None
    groups: tuple[str, ...] = ()
    excluded: int = 0
    judge: str = ""

    def __len__(self) -> int:
        return len(self.values)


def gather(
    values: Sequence[float] | Numbers,
    *,
    denominators: Sequence[float] | Numbers | None = None,
    clusters: Sequence[Hashable] | None = None,
    groups: Sequence[str] | None = None,
    excluded: int = 0,
    judge: str = "",
) -> Evidence:
    """Evidence from plain lists. ``clusters`` are labels, such as conversation ids; an empty one stands for itself.

    Raises EvidenceInvalid for NaN, for parts of different lengths and for what is no number. Infinite values are
    allowed (a call that never came back has an infinite latency); a mean of them is refused by who takes it.
    """
    array = _numbers("values", values)
    below = None if denominators is None else _numbers("denominators", denominators)
    for name, part in (("denominators", below), ("clusters", clusters), ("groups", groups)):
        if part is not None and len(part) != len(array):
            raise EvidenceInvalid(detail=f"{len(array)} values, but {len(part)} {name}; expected as many")
    codes = None
    if clusters is not None and len(array):
        codes = codes_of([label or ("", row) for row, label in enumerate(clusters)])
        codes = codes if int(codes.max()) + 1 < len(array) else None
    return Evidence(
        values=array, denominators=below, clusters=codes, groups=tuple(groups or ()), excluded=excluded, judge=judge
    )  # fmt: skip


def _numbers(name: str, values: Sequence[Any] | Numbers) -> Numbers:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise EvidenceInvalid(detail=f"{name} that are no numbers ({error})") from error
    if array.ndim != 1:
        raise EvidenceInvalid(detail=f"{name} in {array.ndim} dimensions; expected a plain list")
    missing = int(np.isnan(array).sum())
    if missing:
        raise EvidenceInvalid(
            detail=f"{missing} of {len(array)} {name} are NaN; leave those samples out and count them as excluded"
        )
    return array
