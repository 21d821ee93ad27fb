"""``fairlead plan``: how many samples a difference takes, and the smallest difference a number of samples shows."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from fairlead.cli.output import JsonFlag, out, print_json, print_table
from fairlead.errors import UsageError
from fairlead.evaluate import planning
from fairlead.evaluate.planning import Case, Planned
from fairlead.spec import power
from fairlead.spec.plan import DISCORDANCE

SIZES = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
"""What is shown where nobody says how many samples there are, or what difference is looked for."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plan")(plan)


def plan(
    *,
    difference: Annotated[float | None, typer.Option(help="Difference to show, as a share: 0.03.")] = None,
    samples: Annotated[int | None, typer.Option(help="Samples there are, or could be.")] = None,
    share: Annotated[float, typer.Option(help="About how many answers are right; or the bound to be kept.")] = 0.8,
    discordance: Annotated[
        float | None,
        typer.Option(
            help=f"Share of samples on which exactly one of two variants is right; {DISCORDANCE:g} if it can be."
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Two-sided confidence of the interval.")] = 0.95,
    together: Annotated[float, typer.Option(help="Samples that belong together, as those of a conversation.")] = 1.0,
    alike: Annotated[float, typer.Option(help="How alike these are: 0 not at all, 1 all the same.")] = 0.1,
    deviation: Annotated[
        float | None, typer.Option(help="Standard deviation, to plan a mean (a cost, a time) instead of shares.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say how many samples a difference takes, and what a number of samples shows.

    Give --difference, --samples or both; without either the smallest difference is shown for several sizes. Differences
    are shown in 4 of 5 cases (power 80 %), if what is assumed holds.
    """
    apart = _apart(share, difference or 0.0, discordance) if deviation is None else DISCORDANCE
    case = Case(
        share=share, discordance=apart, confidence=confidence, cluster=together, alike=alike, deviation=deviation
    )
    if difference is None and samples is None:
        _sizes(case, as_json=as_json)
        return
    found = planning.plan(case, difference=difference, samples=samples)
    if as_json:
        assumed = {**msgspec.to_builtins(case), "power": power.POWER}
        print_json({"difference": difference, "samples": samples, "assumed": assumed, "ways": found})
        return
    columns, right = ["what is compared"], []
    if difference is not None:
        right.append(f"samples for {_gap(difference, case)}")
    if samples is not None:
        right.append(f"{_samples(samples)} {'shows' if samples == 1 else 'show'}")
    rows = [[each.way, *_cells(each, case, difference, samples)] for each in found]
    print_table([*columns, *right], rows, right=right)
    for sentence in _sentences(found[0], case, difference, samples):
        out.print(sentence, markup=False)


def _apart(share: float, difference: float, given: float | None) -> float:
    """The discordance to plan with. Raises UsageError for shares that cannot be, alone or together."""
    if not (0 < share < 1 and 0 <= difference < 1):
        return DISCORDANCE if given is None else given  # refused with the rest of the case
    if share + difference > 1:
        detail = (
            f"{_words(share)} right and {_words(difference)} more are above 100 %: --share is that of the worse one"
        )
        raise UsageError(detail=detail)
    most = min(2 * share + difference, 2 - 2 * share - difference)
    if given is None:
        return min(DISCORDANCE, most)
    if not given <= most + 1e-12:
        shares = (
            f"With {_words(share)} and {_words(share + difference)} right"
            if difference
            else f"With {_words(share)} right"
        )
        detail = (
            f"{shares} exactly one is right on at most {_words(most)} of the samples: --discordance {most:.3g} or less"
        )
        raise UsageError(detail=detail)
    return given


def _words(share: float) -> str:
    return f"{100 * share:.4g} %"


def _sizes(case: Case, *, as_json: bool) -> None:
    by_size = {size: planning.plan(case, samples=size) for size in SIZES}
    if as_json:
        print_json({
            "assumed": {**msgspec.to_builtins(case), "power": power.POWER},
            "sizes": [{"samples": size, "ways": found} for size, found in by_size.items()],
        })  # fmt: skip
        return
    ways = [each.way for each in by_size[SIZES[0]]]
    rows = [
        [f"{size:,}", *("–" if each.detectable is None else _gap(each.detectable, case) for each in found)]
        for size, found in by_size.items()
    ]
    out.print("The smallest difference that shows in 4 of 5 cases:", markup=False)
    print_table(["samples", *ways], rows, right=ways)
    out.print(_assumed(case), markup=False)


def _cells(each: Planned, case: Case, difference: float | None, samples: int | None) -> list[str]:
    cells: list[str] = []
    if difference is not None:
        more = "none would" if each.impossible else f"over {planning.MOST:,}"
        cells.append(more if each.needed is None else f"{each.needed:,}")
    if samples is not None:
        cells.append("nothing" if each.detectable is None else _gap(each.detectable, case))
    return cells


def _sentences(first: Planned, case: Case, difference: float | None, samples: int | None) -> list[str]:
    """The first way in words, and what was assumed."""
    found = []
    if difference is not None:
        gap = _gap(difference, case)
        if first.impossible:
            apart = f"exactly one is right on {_words(case.discordance)} of the samples (--discordance)"
            found.append(
                f"No number of samples shows {gap} ({first.way}): there cannot be such a difference, as {apart}."
            )
        elif first.needed is None:
            found.append(f"To show {gap} ({first.way}) takes more than {planning.MOST:,} samples; no more are counted.")
        else:
            found.append(f"To show a difference of {gap} ({first.way}) take {_samples(first.needed)}.")
    if samples is not None:
        found.append(
            f"{_samples(samples)} {'is' if samples == 1 else 'are'} too few to show any difference that way."
            if first.detectable is None
            else f"A difference below {_gap(first.detectable, case)} will probably not show with {_samples(samples)}."
        )
    return [*found, _assumed(case)]


def _assumed(case: Case) -> str:
    parts: list[Any] = [f"confidence {case.confidence:.3g}", f"power {power.POWER:g}"]
    if case.deviation is not None:
        parts.append(f"a standard deviation of {case.deviation:g}")
    else:
        parts += [f"{100 * case.share:g} % right", f"exactly one right on {100 * case.discordance:g} % of the samples"]
    if case.cluster > 1:
        parts.append(f"{case.cluster:g} samples together, alike by {case.alike:g}")
    return f"Assumed: {', '.join(parts)}."


def _samples(count: int) -> str:
    return f"{count:,} sample{'' if count == 1 else 's'}"


def _gap(value: float, case: Case) -> str:
    return f"{value:.3g}" if case.deviation is not None else f"{100 * value:.3g} points"
