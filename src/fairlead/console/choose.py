"""Choose: the runs of ``fairlead select``, one run with its evidence, and two candidates sample by sample.

Shows what was stored and decides nothing. The address holds the whole state: what is listed, sorted and compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fairlead.app.rulers import judge_standings
from fairlead.console import export, ranges
from fairlead.console.desk import HOME, Desk
from fairlead.console.sessions import Session
from fairlead.console.view import machine_time
from fairlead.errors import RecordUnknown, UsageError
from fairlead.records import Release, Run, Sample, now_us
from fairlead.select import page as written
from fairlead.select import race
from fairlead.select.plot import pareto
from fairlead.select.report import Report, Standing
from fairlead.select.results import by_sample
from fairlead.select.stored import (
    Change,
    Comparison,
    came_to,
    compare,
    report_of,
    samples_of,
    side_of,
    state_of,
    text_of,
)
from fairlead.select.words import percent, points, quality_name, score
from fairlead.spec import Variant
from fairlead.store.runs import Mark, Measured

PATH = HOME + "/choose"
MOST_RUNS = 2_000
PAGE = 50
ANSWERS = 20
"""Answers on a page; each is shown whole."""
RUN_COLUMNS = ["id", "time", "dataset", "state", "came_to", "verdict", "ranked_by", "samples", "calls", "cost_nano_usd"]
STANDING_COLUMNS = [
    "rank", "id", "model", "baseline", "live", "n", "failed", "quality", "quality_low", "quality_high", "first_p50_s",
    "first_p95_s", "total_p50_s", "total_p95_s", "usd_per_1000", "usd_per_resolution", "memory_bytes", "objectives",
    "frontier", "left",
]  # fmt: skip
CHANGE_COLUMNS = ["sample", "epoch", "kind", "input", "before_answer", "before_value", "after_answer", "after_value"]
KINDS = {
    "changed": "better or worse",
    "better": "better",
    "worse": "worse",
    "unscored": "scored on one side only",
    "reworded": "other words, same score",
    "all": "all",
}
"""What the comparison can be narrowed to, in words."""
WORTH = {
    "all": "all",
    "wrong": "wrong, or less than the best score",
    "failed": "failed calls",
    "unscored": "without a score",
}
"""What a candidate's answers can be narrowed to, in words."""
OUTCOMES = {0: "pass", 1: "fail", 3: "not_enough_data"}
Key = Callable[[Any], Any]
RUN_ORDERS: dict[str, Key] = {
    "time": lambda row: row["time"],
    "dataset": lambda row: row["dataset"],
    "came_to": lambda row: row["came_to"],
    "calls": lambda row: row["calls"],
    "cost": lambda row: row["cost_nano_usd"],
}
STANDING_ORDERS: dict[str, Key] = {
    "rank": lambda row: row["rank"],
    "candidate": lambda row: row["id"],
    "quality": lambda row: row["quality"],
    "n": lambda row: row["n"],
    "time": lambda row: row["total_p95_s"],
    "cost": lambda row: row["usd_per_1000"],
    "memory": lambda row: row["memory_bytes"],
}
ANSWER_COLUMNS = ["sample", "epoch", "kind", "input", "reference", "answer", "error", "value", "scores"]
CHANGE_ORDERS: dict[str, Key] = {
    "sample": lambda row: row["sample"],
    "difference": lambda row: row["difference"],
}


class Choose:
    """``/console/choose``, its comparison, a run (``/console/choose/{run}``) and the answers in it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._fairlead = desk.fairlead
        self._store = desk.fairlead.store

    def routes(self) -> list[Route]:
        """Their paths."""
        return [
            self._desk.route("/choose", self.listing),
            self._desk.route("/choose/compare", self.comparison),
            self._desk.route("/choose/{run}", self.one),
            self._desk.route("/choose/{run}/answers", self.answers),
        ]

    def listing(self, request: Request, session: Session) -> Response:
        """The runs, newest first, and the ways to answer with what was seen of each."""
        query = request.query_params
        runs = self._store.runs.list(
            since=0, until=now_us() + 1, usecase=self._fairlead.usecase.name, tenant=session.tenant, limit=MOST_RUNS,
            brief=True,
        )  # fmt: skip
        datasets = sorted({run.dataset for run in runs})
        chosen = {"data": _one_of(query, "data", datasets), "verdict": _one_of(query, "verdict", OUTCOMES.values())}
        order = Order(query, RUN_ORDERS, "-time", chosen)
        rows = order.sort([row for row in map(_run_row, runs) if _fits(row, chosen)])
        if query.get("format") in ("csv", "json"):
            exported = [{**row, "time": machine_time(row["time"])} for row in rows]
            return export.respond(query["format"], "runs", RUN_COLUMNS, exported)
        period = ranges.parse(query, now_us())
        latest = self._latest(runs)
        return self._desk.render(
            request, session, "choose.html", page="choose", title="Choose", span=period,
            variants=self._variants(period, session), part=_part(rows, query, order, PATH),
            latest=latest, outcome=_outcome(latest) if latest else None, order=order,
            any_runs=bool(runs), full=len(runs) == MOST_RUNS, datasets=datasets, data=chosen["data"],
            verdict=chosen["verdict"],
            judges=judge_standings(self._fairlead.usecase, self._store), exports=order.exports(PATH), path=PATH,
        )  # fmt: skip

    def _variants(self, period: ranges.Range, session: Session) -> list[tuple[Variant, Any, Release | None]]:
        """Each way to answer, what was seen of it in a range, and its newest release."""
        usecase, summaries = self._fairlead.usecase, self._desk.summaries
        newest = {release.variant: release for release in self._store.releases.list(usecase.name)}
        return [
            (variant, summaries.total(period, session.tenant, variant=variant.id), newest.get(variant.id))
            for variant in usecase.variants
        ]

    def _latest(self, runs: Sequence[Run]) -> Run | None:
        """The newest run whose report can be read."""
        return next((run for run in runs if run.report and report_of(self._store.runs.get(run.id)) is not None), None)

    def one(self, request: Request, session: Session) -> Response:
        """What one run came to, and on what evidence."""
        query, identifier = request.query_params, request.path_params["run"]
        run = self._run(identifier, session)
        if run is None:
            return self._desk.missing(request, session, f"There is no run {identifier[:40]!r}: fairlead runs list")
        report = report_of(run)
        path = f"{PATH}/{run.id}"
        order = Order(query, STANDING_ORDERS, "rank", {})
        standings = {each.id: each for each in report.standings} if report else {}
        rows = order.sort([_standing_row(rank, each) for rank, each in enumerate(standings.values(), start=1)])
        if query.get("format") in ("csv", "json"):
            return export.respond(query["format"], f"run-{run.id[-8:]}", STANDING_COLUMNS, rows)
        others = self._store.runs.list(
            since=0, until=now_us() + 1, usecase=run.usecase, tenant=session.tenant, limit=PAGE, brief=True
        )
        return self._desk.render(
            request, session, "run.html", page="choose", title="Run", run=run, report=report, path=path, order=order,
            rows=[(row["rank"], standings[row["id"]], written.cells(standings[row["id"]])) for row in rows],
            columns=written.COLUMNS, names=list(standings),
            outcome=OUTCOMES.get(report.choice.status) if report else None,
            plot=_plot(report), described=written.described(report) if report else [], state=state_of(run),
            measured=self._store.runs.count(run.id), percent=percent, quality_name=quality_name, reference=_reference,
            judges=self._judges(run), exports=order.exports(path),
            others=[(each, came_to(each)) for each in others if each.id != run.id],
        )  # fmt: skip

    def comparison(self, request: Request, session: Session) -> Response:
        """Two candidates, of one run or of two, on every sample that both answered."""
        query = request.query_params
        before, after = query.get("before", ""), query.get("after", "")
        # Whose run it is comes first: what is wrong with the rest would already tell of another tenant's.
        unknown = [text for text in (before, after) if self._run(text.partition(":")[0], session) is None]
        if unknown:
            return self._desk.missing(request, session, f"There is no run {unknown[0][:40]!r}: fairlead runs list")
        try:
            sides = [side_of(self._store, text) for text in (before, after)]
        except UsageError as error:
            return self._desk.missing(request, session, f"These two cannot be compared. {error}")
        found = compare(sides[0], sides[1])
        show = _one_of(query, "show", KINDS) or "changed"
        order = Order(query, CHANGE_ORDERS, "difference", {"before": before, "after": after, "show": show})
        samples = samples_of(self._store, sides[0].run)
        rows = order.sort([_change_row(each, samples) for each in found.changes if _wanted(each, show)])
        path = PATH + "/compare"
        if query.get("format") in ("csv", "json"):
            return export.respond(query["format"], "comparison", CHANGE_COLUMNS, rows)
        return self._desk.render(
            request, session, "compare.html", page="choose", title="Comparison", found=found, order=order, path=path,
            part=_part(rows, query, order, path), kinds=KINDS, show=show,
            before=before, after=after, quality=quality_name(found.before.scorer), chance=_chance(found),
            reference=_reference, exports=order.exports(path), run_path=PATH,
        )  # fmt: skip

    def answers(self, request: Request, session: Session) -> Response:
        """What one candidate of a run said, whole, to every sample or to those it got wrong."""
        query, identifier = request.query_params, request.path_params["run"]
        run = self._run(identifier, session)
        if run is None:
            return self._desk.missing(request, session, f"There is no run {identifier[:40]!r}: fairlead runs list")
        counts = self._store.runs.count(run.id)
        candidate = query.get("candidate", "")
        if candidate not in counts:
            known = ", ".join(counts) or "nobody"
            told = f"This run asked no {candidate[:60]!r}. It asked {known}."
            return self._desk.missing(request, session, told)
        scorer, best = str(run.plan.get("quality", "")), 1.0
        marks = self._store.runs.marks(run.id, candidate)
        kinds = [_worth(mark, scorer, best) for mark in marks]
        show = _one_of(query, "show", WORTH) or "all"
        chosen = [mark for mark, kind in zip(marks, kinds, strict=True) if show in ("all", kind)]
        order = Order(query, {"order": lambda row: row}, "order", {"candidate": candidate, "show": show})
        path = f"{PATH}/{run.id}/answers"
        samples = samples_of(self._store, run)
        if query.get("format") in ("csv", "json"):
            exported = self._answers(run, candidate, scorer, chosen, samples)
            return export.respond(query["format"], f"answers-{run.id[-8:]}", ANSWER_COLUMNS, exported)
        part = _part(chosen, query, order, path, ANSWERS)
        return self._desk.render(
            request, session, "answers.html", page="choose", title="Answers", run=run, candidate=candidate, path=path,
            rows=self._answers(run, candidate, scorer, part.rows, samples), part=part,
            counts={kind: kinds.count(kind) for kind in WORTH if kind != "all"} | {"all": len(marks)}, show=show,
            candidates=list(counts), worth=WORTH, quality=quality_name(scorer), reference=_reference, score=score,
            exports=order.exports(path),
        )  # fmt: skip

    def _answers(
        self, run: Run, candidate: str, scorer: str, marks: Sequence[Mark], samples: Mapping[str, Sample]
    ) -> list[dict[str, Any]]:
        """The answers behind some marks, in their order."""
        wanted = list(dict.fromkeys(mark.sample for mark in marks))
        found = {}
        for place in range(0, len(wanted), PAGE * 10):
            some = self._store.runs.results(run.id, variant=candidate, samples=wanted[place : place + PAGE * 10])
            found.update({(each.result.sample, each.result.epoch): each for each in some})
        return [_answer_row(found[mark.sample, mark.epoch], mark, scorer, samples.get(mark.sample)) for mark in marks]

    def _run(self, identifier: str, session: Session) -> Run | None:
        try:
            run = self._store.runs.get(identifier)
        except (RecordUnknown, UsageError):
            return None
        return run if run.tenant == session.tenant else None

    def _judges(self, run: Run) -> list[tuple[Any, bool]]:
        """Each declared judge as it stands today, and whether this run asked it."""
        asked = run.plan.get("scorers") or {}
        return [(each, each.judge in asked) for each in judge_standings(self._fairlead.usecase, self._store)]


class Order:
    """How an address wants a table sorted: ``sort=cost``, downwards ``sort=-cost``; what is not known comes last."""

    def __init__(
        self, query: Mapping[str, str], orders: Mapping[str, Key], usual: str, params: Mapping[str, str]
    ) -> None:
        wanted = query.get("sort", usual)
        self.by = wanted if wanted.removeprefix("-") in orders else usual
        self.params: dict[str, Any] = {**params, "sort": "" if self.by == usual else self.by}
        self._orders = orders

    def sort(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows in that order."""
        key = self._orders[self.by.removeprefix("-")]
        known = [row for row in rows if key(row) is not None]
        known.sort(key=key, reverse=self.by.startswith("-"))
        return known + [row for row in rows if key(row) is None]

    def link(self, path: str, name: str) -> str:
        """The address sorted by this; downwards where it is so upwards already."""
        return ranges.link(path, {**self.params, "sort": f"-{name}" if self.by == name else name})

    def aria(self, name: str) -> str:
        """``aria-sort`` of a column."""
        return {name: "ascending", f"-{name}": "descending"}.get(self.by, "none")

    def exports(self, path: str) -> dict[str, str]:
        """The same rows as files."""
        return {kind: ranges.link(path, {**self.params, "format": kind}) for kind in ("csv", "json")}


def _run_row(run: Run) -> dict[str, Any]:
    status = (run.report.get("choice") or {}).get("status")
    return {
        "id": run.id, "time": run.time, "dataset": run.dataset, "state": state_of(run), "came_to": came_to(run),
        "verdict": OUTCOMES.get(status, "") if isinstance(status, int) else "",
        "ranked_by": str(run.plan.get("quality", "")), "samples": run.report.get("samples"),
        "calls": run.report.get("calls"), "cost_nano_usd": run.cost,
    }  # fmt: skip


def _standing_row(rank: int, each: Standing) -> dict[str, Any]:
    return {
        "rank": rank, "id": each.id, "model": each.model, "baseline": each.baseline, "live": each.live, "n": each.n,
        "failed": each.failed, "quality": each.quality.value, "quality_low": each.quality.low,
        "quality_high": each.quality.high, "first_p50_s": each.first_p50, "first_p95_s": each.first_p95,
        "total_p50_s": each.total_p50, "total_p95_s": each.total_p95, "usd_per_1000": each.cost_per_1000.value,
        "usd_per_resolution": each.cost_per_resolution, "memory_bytes": each.memory,
        "objectives": each.outcome if each.verdicts else "", "frontier": each.frontier, "left": each.left,
    }  # fmt: skip


def _change_row(each: Change, samples: Mapping[str, Sample]) -> dict[str, Any]:
    sample = samples.get(each.sample)
    return {
        "sample": each.sample, "epoch": each.epoch, "kind": each.kind, "difference": each.difference,
        "input": sample.input if sample else "", "reference": sample.reference if sample else None,
        "before_answer": each.answers[0], "before_value": each.values[0],
        "after_answer": each.answers[1], "after_value": each.values[1],
    }  # fmt: skip


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a table that stand on one page: from which of how many, and the addresses of the first and the next.

    An address is empty where there is nothing to go to.
    """

    rows: Sequence[Any]
    start: int
    count: int
    first: str
    more: str


def _part(rows: Sequence[Any], query: Mapping[str, str], order: Order, path: str, size: int = PAGE) -> Part:
    """The part of the rows that an address asks for."""
    wanted = int(query["from"]) if query.get("from", "").isdecimal() and len(query["from"]) < 9 else 0
    start = min(wanted, max(0, len(rows) - 1) // size * size)  # rows may have gone since the address was made
    end = start + size
    return Part(
        rows=rows[start:end],
        start=start,
        count=len(rows),
        first=ranges.link(path, order.params) if start else "",
        more=ranges.link(path, {**order.params, "from": end}) if end < len(rows) else "",
    )


def _one_of(query: Mapping[str, str], name: str, known: Collection[str]) -> str:
    """What an address says of ``name`` where that is known; else nothing."""
    value = query.get(name, "")
    return value if value in known else ""


def _fits(row: Mapping[str, Any], chosen: Mapping[str, str]) -> bool:
    return chosen["data"] in ("", row["dataset"]) and chosen["verdict"] in ("", row["verdict"])


def _outcome(run: Run) -> str | None:
    status = run.report["choice"].get("status")
    return OUTCOMES.get(status) if isinstance(status, int) else None


def _worth(mark: Mark, scorer: str, best: float) -> str:
    """Whether a call failed, has no score, or was not worth all it could be."""
    value = mark.values.get(scorer)
    if mark.error:
        return "failed"
    if not isinstance(value, int | float):
        return "unscored"
    return "wrong" if value < best else "right"


def _answer_row(each: Measured, mark: Mark, scorer: str, sample: Sample | None) -> dict[str, Any]:
    scores = {name: found for name, found in each.result.scores.items() if found.get("value") is not None}
    notes = {name: found["note"] for name, found in each.result.scores.items() if found.get("note")}
    answer = each.answered.answer
    return {
        "sample": mark.sample, "epoch": mark.epoch, "kind": _worth(mark, scorer, 1.0),
        "input": sample.input if sample else "", "reference": sample.reference if sample else None,
        "earlier": [{"role": turn.role, "text": turn.text} for turn in sample.earlier] if sample else [],
        "answer": text_of(each) if not mark.error else "", "error": mark.error, "value": mark.values.get(scorer),
        "scores": {name: found["value"] for name, found in scores.items()}, "notes": notes,
        "answered": answer.get("answered", ""), "act": answer.get("act", ""),
        "documents": list(answer.get("documents") or ()), "cached": each.result.cached,
    }  # fmt: skip


def _wanted(each: Change, show: str) -> bool:
    return show == "all" or each.kind == show or (show == "changed" and each.kind in ("better", "worse"))


def _chance(found: Comparison) -> str:
    """What the counts say, in words: more than 5 % of the time chance alone differs as much.

    Two candidates of one race are compared as the race did, which looked many times: by an interval that holds for it.
    """
    options = found.before.run.plan.get("options") or {}
    if found.before.run.id == found.after.run.id and options.get("racing"):
        return _raced(found)
    if found.p_value is None or not found.count("better") + found.count("worse"):
        return ""
    words = "chance alone may differ as much" if found.p_value > 0.05 else "more than chance explains"
    return f"{words} (sign test, p = {found.p_value:.2g})"


def _raced(found: Comparison) -> str:
    one, other = by_sample(found.before), by_sample(found.after)
    if not one.keys() & other.keys():
        return ""
    report = report_of(found.before.run)
    limits = (-1.0, 1.0) if found.before.scorer == "similarity" else (0.0, 1.0)
    rules = race.Rules(limits=limits) if report is None else race.Rules(limits=limits, confidence=report.confidence)
    gap = race.difference(other, one, rules)
    shown = gap.low > 0 or gap.high < 0
    words = "the difference is shown" if shown else "the two cannot be told apart yet"
    return f"{words} ({points(gap.low)} to {points(gap.high)}, however often one looks, as in the run)"


def _plot(report: Report | None) -> Markup:
    return Markup(pareto(report.standings, report.choice.candidate)) if report else Markup()  # noqa: S704  escaped there


def _reference(value: Any) -> str:
    """A reference or a score, as it is read."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "right" if value else "wrong"
    if isinstance(value, float):
        return f"{value:.3g}" if math.isfinite(value) else "–"
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return " · ".join(value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
