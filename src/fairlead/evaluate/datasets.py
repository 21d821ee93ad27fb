"""Data sets as they come in: looked through, refused when they would mislead, and kept as versions.

What misleads is refused, not mended in silence: the same sample twice (it counts twice), a question with two different
references, and a sample that something else is learnt from and measured on. ``drop`` leaves those samples out, says how
many, and the lineage keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from fairlead.errors import DatasetRefused
from fairlead.evaluate.likeness import Likeness, normal
from fairlead.evaluate.samples import count_tags
from fairlead.records import DatasetVersion, Sample, new_id, now_us
from fairlead.store import Store

Purpose = Literal["train", "eval", "calibration"]
SHOWN = 5
SPLIT_OF = "split of"
"""Key of the lineage that names the content a part was split from: with it that set has served its purpose."""


class Leak(msgspec.Struct, frozen=True, kw_only=True):
    """A sample that belongs with one of a data set of another purpose. ``by``: text, subject or conversation."""

    id: str
    other: str
    other_id: str
    by: Literal["text", "subject", "conversation"]


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in samples. Pairs are (id, id of the earlier one)."""

    rows: int
    duplicates: tuple[tuple[str, str], ...] = ()
    contradictions: tuple[tuple[str, str], ...] = ()
    near: tuple[tuple[str, str], ...] = ()
    leaks: tuple[Leak, ...] = ()
    unreferenced: int = 0

    @property
    def refused(self) -> frozenset[str]:
        """Ids of samples that must not stay."""
        return frozenset(
            [pair[0] for pair in (*self.duplicates, *self.contradictions)] + [leak.id for leak in self.leaks]
        )

    def complaint(self) -> str:
        """Why it is refused, in words; empty when nothing is wrong."""
        pairs = {
            "the same as another": [f"{one} and {other}" for one, other in self.duplicates],
            "like another with a different reference": [f"{one} and {other}" for one, other in self.contradictions],
            "also in data of another purpose": [
                f"{leak.id} by its {leak.by} with {leak.other_id} of {leak.other}" for leak in self.leaks
            ],
        }
        parts = []
        for what, found in pairs.items():
            if found:
                count = "1 sample is" if len(found) == 1 else f"{len(found)} samples are"
                parts.append(f"{count} {what} ({', '.join(found[:SHOWN])})")
        return "; ".join(parts)


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """``version`` is what is kept (or would be), ``new``: it was not there before, ``dropped``: samples left out."""

    version: DatasetVersion
    review: Review
    new: bool
    dropped: int


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Ids that one version has and the other lacks, and those whose sample changed, sorted."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    same: int


def review(samples: Sequence[Sample], others: Iterable[tuple[DatasetVersion, Sequence[Sample]]] = ()) -> Review:
    """Look through samples, and compare them with ``others``: data sets of another purpose."""
    seen = Likeness()
    known: dict[tuple[str, str, str], Sample] = {}
    duplicates: list[tuple[str, str]] = []
    contradictions: list[tuple[str, str]] = []
    near: list[tuple[str, str]] = []
    for sample in samples:
        text = _text(sample)
        # Two customers may ask the same, in production they do; what belongs to nobody or to one must differ.
        twin = known.setdefault((normal(text), sample.conversation, sample.subject), sample)
        if twin is not sample:
            (duplicates if twin.reference == sample.reference else contradictions).append((sample.id, twin.id))
            continue
        like = seen.near(text)
        if like is not None:
            near.append((sample.id, like[0]))
        seen.add(sample.id, text)
    return Review(
        rows=len(samples),
        duplicates=tuple(duplicates),
        contradictions=tuple(contradictions),
        near=tuple(near),
        leaks=tuple(leak for version, theirs in others for leak in leaks(samples, version, theirs)),
        unreferenced=sum(sample.reference is None for sample in samples),
    )


def add(
    store: Store,
    name: str,
    samples: Sequence[Sample],
    *,
    purpose: Purpose,
    licence: str,
    source: str = "",
    lineage: dict[str, Any] | None = None,
    drop: bool = False,
    dry_run: bool = False,
) -> Added:
    """Keep samples as the newest version of a data set, after ``review``. With ``dry_run`` nothing is kept.

    Raises DatasetRefused for an empty set, without a licence, for another purpose than its versions before, and for
    what ``review`` refuses unless ``drop``.
    """
    others = [each for each in in_use(store, lineage or {}) if each.purpose != purpose and each.name != name]
    found = review(samples, ((each, store.datasets.samples(each)) for each in others))
    if found.refused and not drop:
        raise DatasetRefused(name=name, detail=f"{found.complaint()}. Add --drop to leave them out")
    kept = [sample for sample in samples if sample.id not in found.refused]
    before = store.datasets.versions(name)
    _allow(name, kept, purpose, licence, before)
    dropped = len(samples) - len(kept)
    version = DatasetVersion(
        id=new_id(), time=now_us(), tenant=_only(sample.tenant for sample in kept), subject="", usecase="",
        spec_hash="", release="", name=name, version=len(before) + 1, purpose=purpose, content="", rows=len(kept),
        licence=licence, source=source, parent="", lineage={**(lineage or {}), "dropped": dropped},
        tags=count_tags(kept),
    )  # fmt: skip
    if dry_run:
        return Added(version=version, review=found, new=True, dropped=dropped)
    stored = store.datasets.put(version, kept)
    return Added(version=stored, review=found, new=stored.id == version.id, dropped=dropped)


def compare(before: Sequence[Sample], after: Sequence[Sample]) -> Difference:
    """What changed between two versions, by id."""
    old, new = {each.id: each for each in before}, {each.id: each for each in after}
    shared = old.keys() & new.keys()
    changed = {key for key in shared if old[key] != new[key]}
    return Difference(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(changed)),
        same=len(shared) - len(changed),
    )


def in_use(store: Store, lineage: dict[str, Any] | None = None) -> list[DatasetVersion]:
    """Data sets that are measured on or learnt from: not those that were split, whose parts stand for them."""
    newest = store.datasets.newest()
    pools = {each.lineage.get(SPLIT_OF) for each in newest} | {(lineage or {}).get(SPLIT_OF)}
    return [each for each in newest if each.content not in pools]


def parts_of(store: Store, content: str) -> list[DatasetVersion]:
    """The sets that samples were split into, by name; empty for what was not split."""
    return [each for each in store.datasets.newest() if content and each.lineage.get(SPLIT_OF) == content]


def _allow(name: str, kept: Sequence[Sample], purpose: Purpose, licence: str, before: Sequence[DatasetVersion]) -> None:
    if not kept:
        raise DatasetRefused(name=name, detail="it has no samples")
    if not licence.strip():
        raise DatasetRefused(name=name, detail="nobody said under which licence it may be used; add --licence")
    if before and before[-1].purpose != purpose:
        detail = f"its versions serve {before[-1].purpose}, and a set serves one purpose only; choose another name"
        raise DatasetRefused(name=name, detail=detail)


def _text(sample: Sample) -> str:
    """What makes a sample the same as another: a short follow-up is only the same after the same messages."""
    return "\n".join([*(turn.text for turn in sample.earlier), sample.input])


def leaks(samples: Sequence[Sample], version: DatasetVersion, theirs: Sequence[Sample]) -> Iterable[Leak]:
    """The samples that belong with one of ``theirs``: by text, nearly the same text, person or conversation."""
    known = Likeness()
    subjects: dict[tuple[str, str], str] = {}
    conversations: dict[str, str] = {}
    for sample in theirs:
        known.add(sample.id, _text(sample))
        if sample.subject:
            subjects.setdefault((sample.tenant, sample.subject), sample.id)
        if sample.conversation:
            conversations.setdefault(sample.conversation, sample.id)
    other = f"{version.name}@{version.version}"
    for sample in samples:
        text = _text(sample)
        like = known.same(text) or next(iter(known.near(text) or ()), None)
        if like is not None and normal(text):
            yield Leak(id=sample.id, other=other, other_id=str(like), by="text")
        elif (owner := (sample.tenant, sample.subject)) in subjects:
            yield Leak(id=sample.id, other=other, other_id=subjects[owner], by="subject")
        elif sample.conversation in conversations:
            yield Leak(id=sample.id, other=other, other_id=conversations[sample.conversation], by="conversation")


def _only(tenants: Iterable[str]) -> str:
    """The tenant of all samples; the empty text where there are several."""
    found = set(tenants)
    return found.pop() if len(found) == 1 else ""
