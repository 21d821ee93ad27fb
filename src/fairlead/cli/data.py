"""``fairlead data``: the samples that are measured on and learnt from: add, list, show, split, diff."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer

from fairlead.cli.output import JsonFlag, advise, err, out, print_json, print_table, with_settings
from fairlead.cli.times import moment, parse_moment
from fairlead.errors import RangeReversed, UsageError
from fairlead.evaluate import datasets
from fairlead.evaluate.datasets import Added, Purpose
from fairlead.evaluate.production import from_conversations
from fairlead.evaluate.reading import READERS, Faults, read
from fairlead.evaluate.samples import COLUMNS, fits, make_samples
from fairlead.evaluate.splits import split as split_samples
from fairlead.records import DatasetVersion, Sample, now_us
from fairlead.settings import Settings
from fairlead.spec import UseCase, load
from fairlead.spec.datasets import PRESENT
from fairlead.spec.model import Dataset
from fairlead.spec.problems import nearest
from fairlead.store import Store

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
WIDTH = 90

Version = Annotated[str, typer.Argument(help="Name of the data set, with @ and a number for an older version.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, keep nothing.")]
Drop = Annotated[bool, typer.Option("--drop", help="Leave out what would be refused: duplicates and leaks.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        no_args_is_help=True, help="Samples to measure on and learn from: add, list, show, split, diff."
    )
    group.command("add")(add)
    group.command("list")(list_sets)
    group.command("show")(show)
    group.command("split")(split)
    group.command("diff")(diff)
    app.add_typer(group, name="data")


@with_settings("project", "data_dir")
def add(
    *,
    settings: Settings,
    name: Annotated[str, typer.Argument(help="Name of the data set; one of `datasets:` needs no more.")],
    path: Annotated[
        Path | None, typer.Argument(help=f"File ({', '.join(sorted(READERS))}) or datasets folder.")
    ] = None,
    purpose: Annotated[str | None, typer.Option(help=f"What it is for: {', '.join(PURPOSES)}.")] = None,
    licence: Annotated[str | None, typer.Option(help="Under which terms it may be used, as an SPDX name.")] = None,
    source: Annotated[str, typer.Option(help="Where it comes from.")] = "",
    part: Annotated[str, typer.Option(help="Of a folder with several parts the one to read, such as train.")] = "",
    mapping: Annotated[
        list[str], typer.Option("--map", help=f"PART=COLUMN for a part ({', '.join(COLUMNS)}). Repeat for several.")
    ] = [],  # noqa: B006  typer reads the default; nobody changes it
    production: Annotated[
        bool, typer.Option("--from-production", help="Take answered messages of conversations.")
    ] = False,
    since: Annotated[str, typer.Option(help="Of production, from when: a duration before now or a time.")] = "7d",
    until: Annotated[str | None, typer.Option(help="Of production, until when; now if left out.")] = None,
    demonstrations: Annotated[
        bool, typer.Option("--demonstrations", help="Only those a person answered instead.")
    ] = False,
    drop: Drop = False,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Read samples, look them through, and keep them as a new version.

    Refused are duplicates, questions with two different references, and samples of which something is both learnt and
    measured: by text, by person or by conversation.
    """
    if production:
        _check_production(settings, purpose, path)
        found = _from_production(settings, since, until, demonstrations)
    else:
        found = _from_file(settings, name, path, part, mapping)
    with Store.open(settings.data_path) as store:
        added = _add(
            store, name, found.samples, purpose or found.purpose, licence or found.licence, source or found.source,
            found.lineage, drop, dry_run,
        )  # fmt: skip
    _report(added, dry_run=dry_run, as_json=as_json)


@with_settings("project", "data_dir")
def list_sets(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """List the newest version of every data set."""
    with Store.open(settings.data_path) as store:
        newest = store.datasets.newest()
    if as_json:
        print_json([_plain(each) for each in newest])
    elif not newest:
        advise("No data set is kept yet: fairlead data add NAME FILE --purpose eval --licence NAME")
    else:
        columns = ["name", "version", "purpose", "rows", "licence", "since UTC", "content"]
        rows = [[e.name, e.version, e.purpose, e.rows, e.licence, moment(e.time)[:16], e.content[:12]] for e in newest]
        print_table(columns, rows, right=["version", "rows"])


@with_settings("project", "data_dir")
def show(
    *,
    settings: Settings,
    dataset: Version,
    slices: Annotated[
        list[str], typer.Option("--slice", help="TAG=VALUE, or TAG for any value; only samples that carry it.")
    ] = [],  # noqa: B006  typer reads the default; nobody changes it
    limit: Annotated[int, typer.Option(min=0, max=100_000, help="At most this many samples.")] = 5,
    as_json: JsonFlag = False,
) -> None:
    """Show a data set: where it is from, its tags, and its first samples."""
    wanted = dict(_pair(each, "--slice", alone=PRESENT) for each in slices)
    with Store.open(settings.data_path) as store:
        version = _version(store, dataset)
        chosen = [sample for sample in store.datasets.samples(version) if fits(sample, wanted)]
    if as_json:
        print_json({**_plain(version), "matching": len(chosen), "samples": [_plain(each) for each in chosen[:limit]]})
        return
    for key in ("name", "version", "purpose", "rows", "licence", "source", "content", "parent", "lineage"):
        if value := getattr(version, key):
            out.print(f"{key:>8}  {_lineage(value) if isinstance(value, dict) else value}", markup=False)
    for tag, values in version.tags.items():
        out.print(
            f"{'tag':>8}  {tag}: " + ", ".join(f"{value} {count}" for value, count in values.items()), markup=False
        )
    if wanted:
        out.print(f"{'matching':>8}  {len(chosen)}", markup=False)
    if chosen[:limit]:
        out.print()
        print_table(
            ["id", "question", "reference"], [[e.id, _short(e.input), _short(e.reference)] for e in chosen[:limit]]
        )


@with_settings("project", "data_dir")
def split(
    *,
    settings: Settings,
    dataset: Version,
    into: Annotated[list[str], typer.Option(help="PURPOSE=SHARE, such as train=0.8; repeat. The sum is 1.")],
    salt: Annotated[str, typer.Option(help="Another text gives another split.")] = "",
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Split a data set into parts of other purposes that share no person, no conversation and no text.

    The parts are data sets of their own, called NAME-PURPOSE, and stand for it from then on. The same samples always
    fall into the same parts.
    """
    shares = {part: _share(value) for part, value in (_pair(each, "--into") for each in into)}
    unknown = [part for part in shares if part not in PURPOSES]
    if unknown or len(shares) < 2:
        found = repr(unknown[0]) if unknown else "one part"
        raise UsageError(
            detail=f"--into gives {found}; expected two or three of {', '.join(PURPOSES)}, as in train=0.8"
        )
    with Store.open(settings.data_path) as store:
        version = _version(store, dataset)
        parts = split_samples(store.datasets.samples(version), shares, salt=salt, name=version.name)
        lineage = {datasets.SPLIT_OF: version.content, "shares": shares, "salt": salt}
        added = [
            _add(
                store, f"{version.name}-{part}", samples, part, version.licence, version.source, lineage, True, dry_run
            )
            for part, samples in parts.items()
        ]
    if as_json:
        print_json([_result(each, dry_run=dry_run) for each in added])
        return
    for each in added:
        _say(each, dry_run=dry_run)


@with_settings("project", "data_dir")
def diff(
    *,
    settings: Settings,
    before: Version,
    after: Annotated[str | None, typer.Argument(help="What to compare with; the newest version if left out.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say which samples were added, removed or changed between two versions."""
    with Store.open(settings.data_path) as store:
        old = _version(store, before)
        new = _version(store, after or before.partition("@")[0])
        found = datasets.compare(store.datasets.samples(old), store.datasets.samples(new))
    if as_json:
        print_json({"before": f"{old.name}@{old.version}", "after": f"{new.name}@{new.version}", **_plain(found)})
        return
    out.print(f"{old.name}@{old.version} to {new.name}@{new.version}: {found.same} the same", markup=False)
    for word, ids in (("added", found.added), ("removed", found.removed), ("changed", found.changed)):
        more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
        out.print(f"{word:>8}  {len(ids)}" + (f": {', '.join(ids[:10])}{more}" if ids else ""), markup=False)


def _add(
    store: Store,
    name: str,
    samples: Sequence[Sample],
    purpose: str | None,
    licence: str,
    source: str,
    lineage: dict[str, Any],
    drop: bool,
    dry_run: bool,
) -> Added:
    chosen = next((each for each in PURPOSES if each == purpose), None)
    if chosen is None:
        found = f"--purpose is {purpose!r}" if purpose else "nobody said what it is for"
        raise UsageError(detail=f"{name}: {found}; expected --purpose with one of {', '.join(PURPOSES)}")
    return datasets.add(
        store, name, samples, purpose=chosen, licence=licence, source=source, lineage=lineage, drop=drop,
        dry_run=dry_run,
    )  # fmt: skip


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """Samples to keep, and what is said of them where the command does not."""

    samples: list[Sample]
    lineage: dict[str, Any]
    purpose: str | None = None
    licence: str
    source: str


def _from_production(settings: Settings, since: str, until: str | None, demonstrations: bool) -> _Found:
    begin, end = parse_moment(since), parse_moment(until) if until else now_us()
    if begin >= end:
        raise RangeReversed(since=since, until=until or "now")
    with Store.open(settings.data_path) as store:
        samples = list(from_conversations(store, since=begin, until=end, only_demonstrations=demonstrations))
    lineage = {"from": "production", "since": begin, "until": end, "demonstrations": demonstrations}
    return _Found(samples=samples, lineage=lineage, licence="own", source="production")


def _from_file(settings: Settings, name: str, path: Path | None, part: str, mapping: Sequence[str]) -> _Found:
    """What a file holds; without one, that of the data set ``name`` as it is declared."""
    if path is not None:
        samples, lineage, licence = _read(path, part, mapping)
        return _Found(samples=samples, lineage=lineage, licence=licence, source=lineage["file"])
    usecase = load(settings.spec_path)
    declared = _declared(usecase, name)
    samples, lineage, _ = _read(usecase.path(declared.path), part, mapping)
    return _Found(
        samples=samples, lineage=lineage, purpose=declared.purpose, licence=declared.licence,
        source=declared.source or lineage["file"],
    )  # fmt: skip


def _read(path: Path, part: str, mapping: Sequence[str]) -> tuple[list[Sample], dict[str, Any], str]:
    """(samples, lineage, the licence the data itself names)."""
    chosen = dict(_pair(each, "--map") for each in mapping)
    if not path.exists():
        kinds = ", ".join(sorted(READERS))
        raise UsageError(detail=f"There is no file {path}. Give one that ends in {kinds}, or a folder of data files.")
    source = read(path, part=part)
    faults = Faults(str(path))
    samples = make_samples(source.rows, faults, chosen)
    faults.raise_any()
    lineage = {"file": path.name, "format": source.format, "part": part, "map": chosen}
    return samples, {key: value for key, value in lineage.items() if value}, source.licence


def _declared(usecase: UseCase, name: str) -> Dataset:
    known = {each.id: each for each in usecase.datasets}
    if name not in known:
        near = nearest(name, known) or ", ".join(known) or "none"
        raise UsageError(
            detail=f"`datasets:` declares no {name!r} (nearest: {near}). Give a file: fairlead data add {name} FILE"
        )
    return known[name]


def _check_production(settings: Settings, purpose: str | None, path: Path | None) -> None:
    if path is not None:
        raise UsageError(detail="--from-production reads what is stored; leave the file out, or the flag.")
    if purpose == "train" and not load(settings.spec_path).policy.privacy.training_use:
        detail = "policy.privacy.training_use is false in fairlead.yaml, so conversations may not be used to train."
        raise UsageError(detail=f"{detail} Set it to true if your customers agreed, or add with --purpose eval.")


def _version(store: Store, text: str) -> DatasetVersion:
    name, _, number = text.partition("@")
    if number and not number.isdecimal():
        raise UsageError(detail=f"{text!r} is no version. Expected a name and a number, as in {name}@2")
    return store.datasets.get(name, int(number) if number else None)


def _pair(text: str, option: str, *, alone: str = "") -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not name or not (value if sign else alone):
        raise UsageError(detail=f"{option} {text!r} is no NAME=VALUE.")
    return name, value if sign else alone


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(detail=f"{text!r} is no share. Expected a number between 0 and 1, as in train=0.8") from None


def _report(added: Added, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json(_result(added, dry_run=dry_run))
    else:
        _say(added, dry_run=dry_run)


def _result(added: Added, *, dry_run: bool) -> dict[str, Any]:
    review = {**_plain(added.review), "refused": sorted(added.review.refused)}
    return {
        "kept": not dry_run,
        "new": added.new,
        "dropped": added.dropped,
        "version": _plain(added.version),
        "review": review,
    }


def _say(added: Added, *, dry_run: bool) -> None:
    version, review = added.version, added.review
    verb = "would keep" if dry_run else "kept" if added.new else "has already"
    out.print(
        f"{verb} {version.name}@{version.version}: {version.rows} samples for {version.purpose} ({version.licence})",
        markup=False,
    )
    if added.dropped:
        err.print(f"  left out {added.dropped}: {review.complaint()}", markup=False)
    if review.near:
        shown = ", ".join(f"{one} and {other}" for one, other in review.near[:3])
        out.print(f"  {len(review.near)} are nearly the same as another ({shown})", markup=False)
    if review.unreferenced:
        out.print(f"  {review.unreferenced} have no reference", markup=False)


def _plain(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain


def _lineage(values: dict[str, Any]) -> str:
    """Where a version comes from, in one line."""
    told = []
    for key, value in values.items():
        if isinstance(value, dict):
            value = " ".join(f"{name}={each}" for name, each in value.items())
        elif key in ("since", "until"):
            value = f"{moment(value)} UTC"
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        told.append(f"{key.replace('_', ' ')} {value or 'none'}")
    return ", ".join(told)


def _short(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
