"""What a selection will take at most, before anybody is asked: calls and money, of candidates, judges and users."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from fairlead.evaluate.candidates import Candidate
from fairlead.evaluate.purse import Expectation
from fairlead.evaluate.runner import judging_costs, text_of
from fairlead.evaluate.scorers import Scorer
from fairlead.records import Sample


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who is asked. ``nanos`` are nano-dollars, None where the price is unknown."""

    id: str
    model: str
    calls: int
    nanos: int | None


def forecast(
    candidates: Sequence[Candidate], scorers: Sequence[Scorer], samples: Sequence[Sample], epochs: int = 1
) -> list[Line]:
    """A line for each candidate, then for each judge and for whoever plays users. At most: who leaves is asked less."""
    lines = [
        _line(each.id, each.model, samples, epochs, each.calls, Expectation(each.costs)) for each in candidates
    ]  # fmt: skip
    for scorer in scorers:
        if scorer.costs is not None:
            parts = [
                _line("", "", samples, epochs, None, Expectation(judging_costs(each, scorer.costs)), scorer.costs.calls)
                for each in candidates
            ]
            lines.append(_sum(scorer.name, "judge", parts))
    playing = [
        _line("", "", samples, epochs, each.calls, Expectation(each.beside)) for each in candidates if each.beside
    ]
    return [*lines, _sum("users", "played", playing)] if playing else lines


def _line(
    name: str, model: str, samples: Sequence[Sample], epochs: int, calls: Callable[[Sample], int] | None,
    costs: Expectation, always: int = 1,
) -> Line:  # fmt: skip
    counts = [calls(each) if calls is not None else always for each in samples]
    nanos = [costs.of(text_of(sample), count) for sample, count in zip(samples, counts, strict=True)]
    return Line(id=name, model=model, calls=epochs * sum(counts), nanos=_total(nanos, epochs))


def _sum(name: str, model: str, parts: Sequence[Line]) -> Line:
    return Line(
        id=name, model=model, calls=sum(each.calls for each in parts), nanos=_total([each.nanos for each in parts])
    )


def _total(nanos: Sequence[int | None], times: int = 1) -> int | None:
    known = [each for each in nanos if each is not None]
    return times * sum(known) if len(known) == len(nanos) else None
