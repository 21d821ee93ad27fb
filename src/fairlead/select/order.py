"""The order in which samples are gone through: by chance, every slice spread evenly, the same for all candidates.

So the first hundred are already like the whole, and candidates are compared on the same samples at every moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fairlead.evaluate.measures import are_labels
from fairlead.records import Sample


def in_order(samples: Sequence[Sample], seed: int = 0) -> list[Sample]:
    """All samples in an order that depends on nothing but their ids and ``seed``."""
    labelled = are_labels(samples)
    strata: dict[tuple[str, ...], list[tuple[float, Sample]]] = {}
    for sample in samples:
        strata.setdefault(_stratum(sample, labelled), []).append((_chance(seed, sample.id), sample))
    placed = []
    for members in strata.values():
        members.sort(key=lambda pair: pair[0])
        # Within its stratum each sample has a stretch of 1 / size; where in it is chance.
        placed += [((number + chance) / len(members), sample) for number, (chance, sample) in enumerate(members)]
    return [sample for _, sample in sorted(placed, key=lambda pair: (pair[0], pair[1].id))]


def _stratum(sample: Sample, labelled: bool) -> tuple[str, ...]:
    if labelled:
        return (str(sample.reference),)
    return str(sample.fields.get("expect", "")), *(f"{name}={value}" for name, value in sorted(sample.tags.items()))


def _chance(seed: int, identifier: str) -> float:
    """A number in 0..1 that is always the same for this id."""
    digest = hashlib.sha256(f"{seed}\0{identifier}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
