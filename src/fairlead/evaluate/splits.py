"""Parts of a data set that share no conversation, no person and no text, always the same for the same samples.

Samples that belong together form one group; the hash of the group decides its part, so a split needs no memory and
later samples of a person join the part the earlier ones are in.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

from fairlead.errors import DatasetRefused
from fairlead.evaluate.likeness import Likeness
from fairlead.records import Sample


def split(
    samples: Sequence[Sample], shares: Mapping[str, float], *, salt: str = "", name: str = ""
) -> dict[str, list[Sample]]:
    """Part to its samples, in their order. ``shares`` add up to 1; another ``salt`` gives another split.

    Groups are whole, so parts have about their share, not exactly. Raises DatasetRefused for shares that do not add up
    and for a part that stays empty.
    """
    told = " and ".join(f"{part}={share:g}" for part, share in shares.items())
    if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6) or any(not 0 < each < 1 for each in shares.values()):
        raise DatasetRefused(name=name, detail=f"{told} are no shares above 0 with a sum of 1")
    parts: dict[str, list[Sample]] = {part: [] for part in shares}
    for sample, group in zip(samples, groups(samples), strict=True):
        parts[_part(group, shares, salt)].append(sample)
    empty = [part for part, chosen in parts.items() if not chosen]
    if empty:
        detail = (
            f"its {len(samples)} samples form {len(set(groups(samples)))} groups, and none falls to {', '.join(empty)}"
        )
        raise DatasetRefused(name=name, detail=f"{detail}; change the shares or the salt")
    return parts


def groups(samples: Sequence[Sample]) -> list[str]:
    """For each sample the name of its group: what shares a conversation, a subject or nearly the same text."""
    leaders: dict[str, str] = {}

    def find(label: str) -> str:
        path = []
        while leaders.setdefault(label, label) != label:
            path.append(label)
            label = leaders[label]
        for step in path:
            leaders[step] = label
        return label

    likeness = Likeness()
    own = []
    for sample in samples:
        labels = _labels(sample, likeness)
        own.append(labels[0])
        roots = sorted(find(label) for label in labels)
        # The smallest name leads, so that the order of the samples does not matter.
        for root in roots[1:]:
            leaders[root] = roots[0]
    return [find(label) for label in own]


def _labels(sample: Sample, likeness: Likeness) -> list[str]:
    key = f"text:{hashlib.sha256(sample.input.encode('utf-8', 'replace')).hexdigest()}"
    near = likeness.all_near(sample.input)
    likeness.add(key, sample.input)
    labels = [f"subject:{sample.tenant}:{sample.subject}"] if sample.subject else []
    labels += [f"conversation:{sample.conversation}"] if sample.conversation else []
    return [*labels, key, *near]


def _part(group: str, shares: Mapping[str, float], salt: str) -> str:
    digest = hashlib.sha256(f"{salt}\0{group}".encode("utf-8", "replace")).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    for part, share in shares.items():
        place -= share
        if place < 0:
            return part
    return part
