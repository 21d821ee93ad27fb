"""``fairlead select``: step 2, measure candidates on one's own samples and let the objectives decide."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from fairlead.app import Fairlead, build, credentials, price_of
from fairlead.app.rulers import candidates, judge_of, judge_standings
from fairlead.cli.output import (
    JsonFlag,
    advise,
    check_writable,
    err,
    out,
    print_json,
    print_table,
    with_settings,
    write_report,
)
from fairlead.errors import (
    ChoiceUnknown,
    DatasetServed,
    DatasetUnknown,
    MachineError,
    SamplesLearnt,
    SelectionImpossible,
    UsageError,
)
from fairlead.evaluate import datasets, measures, sequences
from fairlead.evaluate.candidates import LONGEST, Candidate
from fairlead.evaluate.dialogue import GOAL, THEN, calls_of, conversing, costs_of_playing, played, scripted
from fairlead.evaluate.judges import calibrated_hashes
from fairlead.evaluate.judges import scorer_of as judge_scorer
from fairlead.evaluate.measures import Plan
from fairlead.evaluate.purse import NANOS
from fairlead.evaluate.reading import Faults, read
from fairlead.evaluate.samples import make_samples
from fairlead.records import DatasetVersion, Sample
from fairlead.select import page, race
from fairlead.select.baselines import make_baselines
from fairlead.select.forecast import forecast
from fairlead.select.report import Report, Standing
from fairlead.select.selection import Options, Selection, stays
from fairlead.select.words import bounds, of_judge, percent
from fairlead.settings import Settings
from fairlead.spec import UseCase, Variant, power
from fairlead.spec.plan import DISCORDANCE
from fairlead.spec.target import HOSTED
from fairlead.store import Store

Through = Literal["assistant", "gateway"]
REFRESH_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("select")(select)


@with_settings("project", "data_dir", "engine_threads")
def select(
    *,
    settings: Settings,
    data: Annotated[
        str | None, typer.Option(help="Data set to measure on, NAME or NAME@2; that of `datasets:` if left out.")
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(help="Data set the baselines learn from; the `train` part of its split if left out."),
    ] = None,
    candidates: Annotated[
        str | None, typer.Option(help="Only these, with commas between; all variants if left out.")
    ] = None,
    scorer: Annotated[
        str, typer.Option(help="What to rank by; the weightiest goal, or what fits the references.")
    ] = "",
    through: Annotated[
        str,
        typer.Option(help="assistant (with pages and tools) or gateway (the model alone); by the data if left out."),
    ] = "",
    samples: Annotated[int | None, typer.Option(min=1, help="At most this many samples.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Ask everyone everything: no race.")] = False,
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="Difference that does not matter, as a share.")] = 0.02,
    epochs: Annotated[int, typer.Option(min=1, max=100, help="How often each sample is asked.")] = 1,
    budget: Annotated[
        float | None, typer.Option(min=0, help="USD this run may cost; budget.evaluation_usd if left out.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Calls of one remote candidate at once.")] = 8,
    user: Annotated[str, typer.Option(help="Variant that plays the user where samples have a goal.")] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask again what earlier runs have paid for.")] = False,
    no_baselines: Annotated[bool, typer.Option("--no-baselines", help="Only variants of fairlead.yaml.")] = False,
    seed: Annotated[int, typer.Option(help="Another number gives another order of the samples.")] = 0,
    html: Annotated[Path | None, typer.Option(help="Write the report here, one file that needs no other.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the report here as Markdown.")] = None,
    no_texts: Annotated[
        bool, typer.Option("--no-texts", help="Leave samples and answers out of --html and --markdown.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say who would be asked how much, ask nobody.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure the variants and say which to use.

    Needs no server. Samples are added until the choice is clear or the budget is spent; answers are kept, so a run that
    was stopped goes on where it was. Exit status: 0 chosen, 1 no candidate holds the objectives, 3 the data cannot tell
    yet, 2 a mistake in the call.
    """
    if through not in ("", "assistant", "gateway"):
        raise UsageError(detail=f"--through {through!r}; expected assistant or gateway")
    wanted = [each.strip() for each in (candidates or "").split(",") if each.strip()]
    if candidates is not None and not wanted:
        raise UsageError(detail="--candidates names nobody; give ids with commas between, or leave it out for all")
    check_writable(html, markdown)
    report = asyncio.run(
        _select(
            settings, data, train, wanted, scorer, through, samples, user,
            baselines=not no_baselines, dry_run=dry_run, as_json=as_json,
            options=Options(
                tolerance=tolerance, racing=not everything, epochs=epochs, concurrency=concurrency, fresh=fresh,
                seed=seed, budget_usd=budget,
            ),
        )
    )  # fmt: skip
    if report is None:
        return
    for path, text in ((html, page.html), (markdown, page.markdown)):
        if path is not None:
            write_report(path, text(msgspec.structs.replace(report, cases=()) if no_texts else report))
    print_json(report) if as_json else show(report)
    raise typer.Exit(report.choice.status)


async def _select(
    settings: Settings, data: str | None, train: str | None, wanted: Sequence[str], scorer: str, through: str,
    most: int | None, user: str, *, baselines: bool, dry_run: bool, as_json: bool, options: Options,
) -> Report | None:  # fmt: skip
    fairlead = build(settings, observed=False)
    try:
        usecase, store = fairlead.usecase, fairlead.store
        if user:
            usecase.variant(user)
        version, samples = find_data(store, usecase, data)
        learnt, examples = _train(store, version, train) if baselines else (None, [])
        if learnt is not None:
            samples, left_out = _unlearnt(version, samples, learnt, examples)
            options = msgspec.structs.replace(
                options, learnt_from=f"{learnt.name}@{learnt.version}", left_out=left_out
            )  # fmt: skip
        samples = samples[:most] if most else samples
        judges = [judge_scorer(judge_of(fairlead, each.id)) for each in usecase.judges if each.kind == "rubric"]
        standings = judge_standings(usecase, store)
        plan = measures.plan(usecase, samples, scorer, judges, calibrated_hashes(standings))
        way = _way(through, usecase, samples)
        found = await _candidates(fairlead, wanted, way, samples, examples if baselines else None)
        if options.budget_usd is None:
            options = msgspec.structs.replace(options, budget_usd=usecase.budget.evaluation_usd)
        found = [_conversing(fairlead, each, samples, user) for each in found]
        if dry_run:
            _forecast(usecase, version, samples, found, plan, options, as_json=as_json)
            return None
        quiet = as_json or not sys.stderr.isatty()
        selection = Selection(
            store, usecase, version, samples, found, plan, options,
            judges=standings,
            tell=lambda text: err.print(f"  {text}", markup=False, highlight=False),
        )  # fmt: skip
        watch = asyncio.create_task(_watch(selection)) if not quiet else None
        try:
            return await selection.run()
        except asyncio.CancelledError:
            kept = sum(each.answered for each in selection.runner.tallies.values())
            err.print(f"Stopped. {kept} answers are kept; the same command goes on from there.", markup=False)
            raise
        finally:
            if watch is not None:
                watch.cancel()
    finally:
        await fairlead.stop()


def find_data(store: Store, usecase: UseCase, name: str | None) -> tuple[DatasetVersion, list[Sample]]:
    """The data set asked for, or the one that is declared; what is declared and not kept yet is added. Raises."""
    if name:
        version = _kept(store, name)
        _refuse_served(store, version)
        return version, store.datasets.samples(version)
    declared = [each for each in usecase.datasets if each.purpose == "eval"]
    if not declared:
        kept = [each for each in datasets.in_use(store) if each.purpose == "eval"]
        if len(kept) != 1:
            known = ", ".join(each.name for each in kept) or "none; fairlead data add NAME FILE --purpose eval"
            raise SelectionImpossible(detail=f"no data set was named with --data (known: {known})")
        return kept[0], store.datasets.samples(kept[0])
    first = declared[0]
    try:
        version = _standing_for(store, store.datasets.get(first.id))
    except DatasetUnknown:
        source = read(usecase.path(first.path))
        faults = Faults(first.path)
        samples = make_samples(source.rows, faults)
        faults.raise_any()
        version = datasets.add(
            store, first.id, samples, purpose="eval", licence=first.licence, source=first.source,
            lineage={"file": Path(first.path).name, "format": source.format},
        ).version  # fmt: skip
    return version, store.datasets.samples(version)


def _kept(store: Store, name: str) -> DatasetVersion:
    """What NAME or NAME@2 names. Raises UsageError, DatasetUnknown."""
    title, _, number = name.partition("@")
    if number and not number.isdecimal():
        raise UsageError(detail=f"{name!r} is no version. Expected a name and a number, as in {title}@2")
    return store.datasets.get(title, int(number) if number else None)


def _refuse_served(store: Store, version: DatasetVersion) -> None:
    """A set that was split has served its purpose: half of it is what the baselines learn from."""
    parts = datasets.parts_of(store, version.content)
    if parts:
        held = next((each.name for each in parts if each.purpose == "eval"), "")
        mend = f"Measure on the part held back: --data {held}" if held else "None of them is for eval; name another set"
        raise DatasetServed(name=f"{version.name}@{version.version}", mend=mend, parts=", ".join(p.name for p in parts))


def _standing_for(store: Store, version: DatasetVersion) -> DatasetVersion:
    """The set itself, or the part for eval of one that was split, however often. Raises DatasetServed."""
    while parts := datasets.parts_of(store, version.content):
        held = [each for each in parts if each.purpose == "eval"]
        if len(held) != 1:
            _refuse_served(store, version)
        version = held[0]
    return version


def _train(store: Store, version: DatasetVersion, name: str | None) -> tuple[DatasetVersion | None, list[Sample]]:
    """What the baselines learn from: what was named, the sibling of a part, a set called so, or the only one."""
    if name:
        chosen: DatasetVersion | None = _kept(store, name)
    else:
        kept = [each for each in datasets.in_use(store) if each.purpose == "train" and each.name != version.name]
        parent = version.lineage.get(datasets.SPLIT_OF)
        siblings = [each for each in kept if parent and each.lineage.get(datasets.SPLIT_OF) == parent]
        called = [each for each in kept if each.name == version.name.removesuffix("-eval") + "-train"]
        chosen = next(iter(siblings or called or (kept if len(kept) == 1 else [])), None)
    return chosen, store.datasets.samples(chosen) if chosen else []


def _unlearnt(
    version: DatasetVersion, samples: list[Sample], learnt: DatasetVersion, examples: Sequence[Sample]
) -> tuple[list[Sample], int]:
    """The samples that do not belong with what is learnt from, and how many do. Raises SamplesLearnt."""
    name = f"{learnt.name}@{learnt.version}"
    leaking = {leak.id: leak for leak in datasets.leaks(samples, learnt, examples)}
    left = [each for each in samples if each.id not in leaking]
    if samples and not left:
        raise SamplesLearnt(count=len(samples), name=f"{version.name}@{version.version}", train=name)
    if leaking:
        first = next(iter(leaking.values()))
        err.print(
            f"  {len(leaking)} of {len(samples)} samples are left out: they belong with samples of {name}, which the "
            f"baselines learn from ({first.id} by its {first.by} with {first.other_id})",
            markup=False,
        )
    return left, len(leaking)


def _way(through: str, usecase: UseCase, samples: Sequence[Sample]) -> Through:
    if through == "assistant" or through == "gateway":
        return through  # type: ignore[return-value]  # one of the two literals
    return "gateway" if measures.are_labels(samples) or not usecase.knowledge else "assistant"


async def _candidates(
    fairlead: Fairlead, wanted: Sequence[str], way: Through, samples: Sequence[Sample], train: Sequence[Sample] | None
) -> list[Candidate]:
    """Started variants and the baselines; a variant whose engine cannot run is left out and said."""
    baselines = make_baselines(samples, train, fairlead.knowledge) if train is not None else []
    able = _able(fairlead.usecase, way)
    names = [*(each.id for each in able), *(each.id for each in baselines)]
    unknown = next((name for name in wanted if name not in names), None)
    if unknown is not None:
        raise ChoiceUnknown(kind="candidate", name=unknown, choices=", ".join(names))
    chosen = set(wanted or names)
    started = [each for each in able if each.id in chosen and await _start(fairlead, each)]
    found = [*candidates(fairlead, started, through=way), *(each for each in baselines if each.id in chosen)]
    if not found:
        raise SelectionImpossible(detail="no candidate is left; fairlead.yaml declares the variants")
    return found


def _able(usecase: UseCase, way: Through) -> list[Variant]:
    """The variants that may be asked in this way: what quotes needs the assistant's pages."""
    able = [each for each in usecase.variants if each.answers and usecase.allows(each)]
    if way == "assistant":
        return able
    return [each for each in able if not any(other.target.quotes for other in usecase.answering(each))]


async def _start(fairlead: Fairlead, variant: Variant) -> bool:
    """Whether a variant can be asked now; says why not."""
    usecase = fairlead.usecase
    keyless = next((each.id for each in usecase.answering(variant) if _lacks_key(usecase, each)), None)
    if keyless is not None:
        err.print(
            f"  {variant.id} is left out: the key of {keyless} is not there ({_key(usecase, keyless)})", markup=False
        )
        return False
    try:
        await fairlead.start_variant(variant.id)
    except MachineError as error:
        err.print(f"  {variant.id} is left out: {error}", markup=False)
        return False
    return True


def _lacks_key(usecase: UseCase, variant: Variant) -> bool:
    """Whether a provider would refuse it: what stands for its key is empty, or it names none and needs one."""
    host = HOSTED.get(variant.target.provider)
    needed = bool(variant.references) or (host is not None and bool(host.key) and variant.target.external)
    return needed and not any(credentials(variant, usecase))


def _key(usecase: UseCase, identifier: str) -> str:
    variant = usecase.variant(identifier)
    host = HOSTED.get(variant.target.provider)
    return ", ".join(variant.references) or f"api_key: env:{host.key if host is not None else 'NAME'}"


def _conversing(fairlead: Fairlead, candidate: Candidate, samples: Sequence[Sample], user: str) -> Candidate:
    """Whole conversations where samples say what the user says next, or what the user wants."""
    if user and any(GOAL in each.fields for each in samples):
        variant = fairlead.usecase.variant(user)
        price = price_of(fairlead.usecase, variant)
        simulator = played(fairlead.gateway, user, price)
        beside = costs_of_playing(price, variant.sampling.max_tokens or LONGEST)
    elif any(isinstance(each.fields.get(THEN), list) for each in samples):
        simulator, beside = scripted, None
    else:
        return candidate
    return msgspec.structs.replace(
        candidate, ask=conversing(candidate.ask, simulator), identity=f"{candidate.identity} {user or THEN}",
        calls=calls_of, beside=beside,
    )  # fmt: skip


# --- what people see ------------------------------------------------------------------------------------------------


async def _watch(selection: Selection) -> None:
    """Running figures on one line, for whoever waits."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(REFRESH_S)
        parts = []
        for name, tally in selection.runner.tallies.items():
            if name in selection.left:
                continue
            values = list(measures.quality_of(selection.plan, selection.runner.items.get(name, {})).values())
            low, high = selection.plan.limits
            found = sequences.betting(_array(values), selection.usecase.confidence, low=low, high=high)
            parts.append(f"{name} {tally.answered + tally.failed}: {100 * found.low:.0f}–{100 * found.high:.0f} %")
        spent = selection.runner.purse.spent / NANOS
        line = f"{time.monotonic() - began:4.0f} s  ${spent:.4f}  " + "  ".join(parts)
        sys.stderr.write(f"\r\x1b[K{line[: err.width - 1]}\r")
        sys.stderr.flush()


def _array(values: Sequence[float]) -> Any:
    import numpy as np

    return np.asarray(values, np.float64)


def _forecast(
    usecase: UseCase, version: DatasetVersion, samples: Sequence[Sample], candidates: Sequence[Candidate], plan: Plan,
    options: Options, *, as_json: bool,
) -> None:  # fmt: skip
    lines = forecast(candidates, list(plan.scorers.values()), samples, options.epochs)
    competing = sum(not stays(each, usecase, plan) for each in candidates)
    spared = race.rungs(competing, len(samples)) if options.racing else []
    shows = power.paired_detectable(len(samples), DISCORDANCE, usecase.confidence)
    if as_json:
        print_json({
            "dataset": f"{version.name}@{version.version}", "samples": len(samples),
            "learnt_from": options.learnt_from, "left_out": options.left_out, "ranked_by": plan.quality,
            "measured": plan.of, "unmeasured": plan.unmeasured, "detectable": shows, "budget_usd": options.budget_usd,
            "rungs": [[each.samples, each.keep] for each in spared],
            "candidates": [{"id": each.id, "calls": each.calls, "at_most_usd": _usd(each.nanos)} for each in lines],
        })  # fmt: skip
        return
    out.print(f"{version.name}@{version.version}: {len(samples)} samples, ranked by {plan.quality}.", markup=False)
    print_table(
        ["candidate", "model", "calls at most", "USD at most"],
        [[each.id, each.model, f"{each.calls:,}", page.dollars(_usd(each.nanos))] for each in lines],
        right=["calls at most", "USD at most"],
    )
    if spared:
        steps = ", ".join(f"the best {each.keep} go on after {each.samples}" for each in spared)
        out.print(f"Screen: {steps}. Then until it is clear.", markup=False)
    difference = "no difference" if shows is None else f"a difference of {100 * shows:.1f} points"
    out.print(f"{len(samples)} samples show {difference} between two candidates in 4 of 5 cases.", markup=False)
    if options.budget_usd is not None:
        out.print(f"Budget: {options.budget_usd:g} USD; it is set aside before each call.", markup=False)
    if plan.unmeasured:
        out.print(f"Not measured here: {', '.join(plan.unmeasured)}.", markup=False)


def _usd(nanos: int | None) -> float | None:
    return None if nanos is None else nanos / NANOS


def show(report: Report) -> None:
    """Print a report for people."""
    out.print()
    print_table(
        ["candidate", "quality", "n", "p95", "USD for 1,000", "objectives"],
        [_row(each) for each in report.standings],
        right=["n", "USD for 1,000"],
    )
    out.print()
    out.print(report.choice.headline, style="bold", markup=False)
    for each in report.choice.reasons:
        out.print(f"  {each}", markup=False)
    if report.choice.changes:
        out.print("What would change it:", markup=False)
        for each in report.choice.changes:
            out.print(f"  {each}", markup=False)
    for judged in report.judges:
        out.print(f"Judge {judged.judge}: {of_judge(judged)}.", markup=False)
    advise(
        f"\n{report.calls:,} of {report.all_calls:,} calls, {report.paid_calls:,} of them now, "
        f"{page.dollars(report.spent_usd)} USD. fairlead runs show {report.run[-8:]}"
    )


def _row(each: Standing) -> list[str]:
    """What fits on 80 columns; --html, --markdown and --json have the rest."""
    quality = percent(each.quality.value) + bounds(each.quality)
    objectives = page.WORDS[each.outcome] if each.verdicts else "–"
    return [
        each.id,
        quality,
        str(each.n),
        page.seconds(each.total_p95),
        page.dollars(each.cost_per_1000.value),
        objectives,
    ]
