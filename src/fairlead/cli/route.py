"""``fairlead route``: whether a small model can answer most questions, learnt from results a question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from fairlead.app import makes_of
from fairlead.cli.output import JsonFlag, err, out, print_json, print_table, with_settings
from fairlead.errors import RoutingRefused, UsageError
from fairlead.evaluate.intervals import Interval
from fairlead.evaluate.reading import Faults, read
from fairlead.evaluate.samples import COLUMNS
from fairlead.select.makes import Make, Stale
from fairlead.select.results import Results, results_of
from fairlead.select.routing import FEWEST, KEEP, Learnt, Tried, doubt_of, from_file, learn, stale_since, to_file
from fairlead.settings import Settings
from fairlead.spec import SpecError, load
from fairlead.store import Store

NOT_YET = 3
"""Exit status of a router that is not worth enabling."""
_WORDS = {"true": 1.0, "yes": 1.0, "pass": 1.0, "false": 0.0, "no": 0.0, "fail": 0.0}


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="A small model first, a big one where it is needed: learn, show.")
    group.command("learn")(learn_router)
    group.command("show")(show)
    app.add_typer(group, name="route")


@with_settings("project", "data_dir")
def learn_router(
    *,
    settings: Settings,
    results: Annotated[
        Path | None, typer.Argument(help="Rows with a question and what each model's answer was worth.")
    ] = None,
    run: Annotated[
        list[str] | None, typer.Option(help="Learn from a run of fairlead select instead; may be given several times.")
    ] = None,
    small: Annotated[str, typer.Option(help="Candidate of the run, or column with scores (0..1, true, false).")],
    big: Annotated[str, typer.Option(help="The same of the big model.")],
    small_cost: Annotated[
        float | None, typer.Option(min=0, help="What one answer of the small model costs, in any unit; a run knows.")
    ] = None,
    big_cost: Annotated[
        float | None, typer.Option(min=0, help="What one answer of the big model costs, in the same unit.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Column with the question.")] = None,
    keep: Annotated[float, typer.Option(min=0, max=1, help="Share of the big model's quality to keep.")] = KEEP,
    output: Annotated[Path | None, typer.Option(help="Write the router to this file, if it may be enabled.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Learn which questions need the big model, and say what that saves on questions it never saw.

    From the answers that runs of fairlead select have paid for, or from a file. Exits 0 when the router may be enabled,
    3 when not; then nothing is written.
    """
    if (results is None) == (not run):
        raise UsageError(detail="Give a file of results, or --run with a run of fairlead select (fairlead runs list)")
    if small == big:
        raise UsageError(detail=f"--small and --big are both {small!r}; name two different candidates or columns")
    known = _known(settings, small, big)
    told = {small: small_cost, big: big_cost}
    if results is None:
        found = _of_runs(settings, run or [], small, big, known)
    else:
        found = Results(tried=_tried(results, text, small, big), makes=known)
    costs = [found.costs.get(name) if cost is None else cost for name, cost in told.items()]
    makes = {name: _priced(make, counted=told[name] is None) for name, make in found.makes.items()}
    small_cost, big_cost = _known_costs(*costs)
    learnt = learn(
        found.tried, small, big, small_cost=small_cost, big_cost=big_cost, keep=keep, runs=found.runs, makes=makes
    )
    allowed = not learnt.report.reasons
    written = output if allowed else None
    if written is not None:
        _write(written, learnt)
    if as_json:
        print_json({"enabled": allowed, "file": str(written) if written else None, **_plain(learnt)})
    else:
        _tell(learnt)
        _tell_doubt(learnt, known, output)
        if written is not None:
            out.print(f"written to {written}", markup=False)
    if not allowed:
        raise typer.Exit(NOT_YET)


def _known(settings: Settings, *names: str) -> dict[str, Make]:
    """What fairlead.yaml says today of those of the two that are variants of it; nothing where it cannot be read."""
    if not settings.spec_path.is_file():
        return {}
    try:
        return makes_of(load(settings.spec_path), names)
    except SpecError as error:  # it may name the very router that is to be learnt
        err.print(f"  Prices are not taken from the use case, and whether the two changed is not known: {error}",
                  markup=False)  # fmt: skip
        return {}


def _of_runs(settings: Settings, runs: list[str], small: str, big: str, known: dict[str, Make]) -> Results:
    with Store.open(settings.data_path) as store:
        found = results_of(store, runs, small, big, {name: make.price for name, make in known.items()})
    if found.left_out:
        err.print(f"  {found.left_out} questions are left out: one of the two has no score for them", markup=False)
    return found


def _priced(make: Make, *, counted: bool) -> Make:
    """The make; without its price where what an answer costs was told and not counted by it."""
    return make if counted else msgspec.structs.replace(make, price=None)


def _known_costs(small: float | None, big: float | None) -> tuple[float, float]:
    if small is None or big is None:
        missing = [name for name, cost in (("--small-cost", small), ("--big-cost", big)) if cost is None]
        raise UsageError(detail=f"What an answer costs is not known; say it with {' and '.join(missing)}")
    return small, big


def _write(path: Path, learnt: Learnt) -> None:
    try:
        path.write_bytes(to_file(learnt))
    except OSError as error:
        raise UsageError(detail=f"{path} cannot be written: {error.strerror}") from error


@with_settings("project")
def show(
    *, settings: Settings, path: Annotated[Path, typer.Argument(help="A router's file.")], as_json: JsonFlag = False
) -> None:
    """Show what a router was found to do, what it was learnt from, and what has changed since."""
    try:
        data = path.read_bytes()
    except OSError as error:
        detail = f"{path} cannot be read: {error.strerror}. Make one: fairlead route learn ... --output {path}"
        raise UsageError(detail=detail) from error
    learnt = from_file(data)
    known = _known(settings, learnt.router.small, learnt.router.big)
    if as_json:
        print_json({"enabled": not learnt.report.reasons, **_plain(learnt), "stale": _stale(learnt, known)})
        return
    _tell(learnt)
    _tell_source(learnt)
    _tell_doubt(learnt, known, path)


def _tried(path: Path, text: str | None, small: str, big: str) -> list[Tried]:
    names = (text,) if text else COLUMNS["input"]
    faults, tried = Faults(str(path)), []
    rows = read(path).rows
    columns = dict.fromkeys(name for row in rows for name in row.values)
    for option, name in (("--small", small), ("--big", big)):
        if rows and name not in columns:
            raise UsageError(detail=f"{path} has no column {name!r} ({option}). There are: {', '.join(columns)}.")
    for row in rows:
        question = next((row.values[name] for name in names if isinstance(row.values.get(name), str)), "")
        scores = [_score(row.values.get(name)) for name in (small, big)]
        if not question.strip():
            faults.add(row.line, "no question", f"a text in {' or '.join(names)}, or --text COLUMN")
            continue
        for name, value in zip((small, big), scores, strict=True):
            if value is None:
                faults.add(row.line, f"{row.values.get(name)!r} in {name}", "a number from 0 to 1, or true or false")
        if None not in scores:
            tried.append(Tried(text=question, small=scores[0] or 0.0, big=scores[1] or 0.0))
    faults.raise_any()
    if not tried:
        raise RoutingRefused(detail=f"{path} has no rows; expected one for each question, at least {FEWEST}")
    return tried


def _score(value: Any) -> float | None:
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in _WORDS:
            return _WORDS[word]
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number <= 1 else None


def _tell(learnt: Learnt) -> None:
    report, router = learnt.report, learnt.router
    rows = [
        ["best single: " + router.big, _share(report.big), "100 %", ""],
        ["small alone: " + router.small, _share(report.small), "0 %", ""],
        [
            f"router, to keep {100 * report.keep:g} %",
            _share(report.quality),
            _share(report.calls),
            _share(report.saving),
        ],
        ["a coin (random mix)", "as the router", f"{100 * report.coin:.1f} %", ""],
        ["an oracle", f"{100 * report.best_oracle:.1f} % at best", f"{100 * report.oracle:.1f} %", ""],
    ]
    print_table([f"on {report.n} unseen questions", "quality", "big calls", "saving"], rows)
    if not report.reasons:
        between = f"{{small: {router.small}, big: {router.big}}}"
        out.print(f"to use it, in `variants:`: {{model: router:./FILE.json, between: {between}}}", markup=False)
    out.print(f"big calls saved beyond the coin: {_share(report.over_coin)}", markup=False)
    for reason in report.reasons:
        err.print(f"It must not be enabled: {reason}.", markup=False)


def _tell_source(learnt: Learnt) -> None:
    source = learnt.source
    runs = f"from {' and '.join(run[-8:] for run in source.runs)}, " if source.runs else ""
    costs = " and ".join(f"{cost:.3g} of {name}" for name, cost in source.costs.items())
    out.print(f"learnt {runs}with answers at {costs}", markup=False)


def _tell_doubt(learnt: Learnt, known: dict[str, Make], path: Path | None) -> None:
    stale = _stale(learnt, known)
    if stale is not None:
        err.print(f"Attention: {doubt_of(learnt, stale, str(path or 'router.json'))}", markup=False)


def _stale(learnt: Learnt, known: dict[str, Make]) -> Stale | None:
    """What changed since; None also where this folder's use case has no such variants."""
    return stale_since(learnt, known) if {learnt.router.small, learnt.router.big} <= known.keys() else None


def _share(found: Interval) -> str:
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _plain(learnt: Learnt) -> dict[str, Any]:
    report: dict[str, Any] = msgspec.to_builtins(learnt.report)
    kept = {"small": learnt.router.small, "big": learnt.router.big, "threshold": learnt.router.threshold}
    source: dict[str, Any] = msgspec.to_builtins(learnt.source)
    return {"router": kept, "report": report, "content": learnt.content, "source": source}
