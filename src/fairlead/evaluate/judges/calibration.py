"""Calibrating a judge: look at every labelled case, measure, keep the record, and say what it allows.

Cases are looked at in an order of our own, so that a run that is stopped early has seen a fair part of them. Every look
is kept under the judge's hash: a run that was broken off goes on where it was, and costs nothing twice.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from fairlead.evaluate.intervals import Interval, unknown
from fairlead.evaluate.judges import agreement
from fairlead.evaluate.judges.labels import Labelled, content_of
from fairlead.evaluate.judges.looks import Case, Compared, Instrument, Judgement, compare, rate
from fairlead.evaluate.judges.peers import PEERS
from fairlead.evaluate.judges.till import Kept, Till, each_within, total
from fairlead.evaluate.numbers import codes_of
from fairlead.records import JudgeCalibration, new_id, now_us
from fairlead.spec import UseCase
from fairlead.spec.model import JudgeBar

CONFIDENCE = 0.95
REPEATED = 50
"""Cases that are asked about a second time."""
State = Literal["calibrated", "failed", "changed", "uncalibrated"]


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. Shares are intervals; None where the kind of judge has no such figure.

    ``n`` cases have a verdict and a label that most people gave; ``undecided`` have no such label, ``failed`` got no
    answer from the model, ``invalid`` is the share of the answered cases without a verdict. ``one_order`` is the
    accuracy as pairs were given, without looking at them turned; ``prefers_first`` the share of untied looks that chose
    what was shown first. ``longer`` is how often the longer answer was preferred, ``longer_people`` how often people
    did. ``ceiling`` is people's kappa with each other. ``peers`` are the kappas of judges without a model.
    """

    n: int
    undecided: int = 0
    failed: int = 0
    stopped: str = ""
    invalid: Interval
    accuracy: Interval
    kappa: Interval
    flips: Interval | None = None
    one_order: Interval | None = None
    prefers_first: Interval | None = None
    longer: Interval | None = None
    longer_people: Interval | None = None
    repeats: Interval | None = None
    ceiling: float | None = None
    peers: dict[str, Interval] = {}
    calls: int = 0
    kept: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_nanos: int | None = None
    seconds: float = 0.0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a judge may do today. ``reasons`` say why it may not decide; ``record`` is the newest calibration of it."""

    judge: str
    hash: str
    state: State
    reasons: tuple[str, ...] = ()
    record: JudgeCalibration | None = None

    @property
    def badge(self) -> str:
        """One line for reports: the state, and the figures behind it."""
        if self.record is None:
            return {"changed": "changed since its calibration"}.get(self.state, self.state)
        found = findings_of(self.record)
        return f"{self.state}: kappa {shown(found.kappa)}, {found.n} labels"


Progress = Callable[[int, int], None]


async def calibrate(
    judge: Instrument,
    labelled: Sequence[Labelled],
    *,
    repeats: int = REPEATED,
    concurrency: int = 4,
    budget_nanos: int | None = None,
    kept: Kept | None = None,
    progress: Progress = lambda done, total: None,
    seed: int = 0,
) -> Findings:
    """Let the judge look at every case, pairs in both orders, some a second time. Peers look too; they cost nothing."""
    order = list(range(len(labelled)))
    random.Random(seed).shuffle(order)
    cases = [labelled[place] for place in order]
    begun, till = time.monotonic(), Till(judge, kept, budget_nanos, (each.case for each in cases))
    pairwise = judge.definition.kind == "pairwise"
    count, done = len(cases) + min(repeats, len(cases)), 0
    looks: list[Judgement | Compared | None] = [None] * len(cases)
    again: list[Judgement | None] = [None] * min(repeats, len(cases))

    async def look(place: int) -> None:
        nonlocal done
        if place < len(cases):
            case = cases[place].case
            looks[place] = await (compare(till.instrument, case) if pairwise else rate(till.instrument, case))
        else:
            again[place - len(cases)] = await rate(till.instrument, cases[place - len(cases)].case, 1)
        done += 1
        progress(done, count)

    await each_within(look, count, concurrency, till)
    found = _measure(cases, looks, again)
    return msgspec.structs.replace(
        found,
        peers=await _peers(cases) if pairwise else {},
        stopped=till.stopped,
        calls=till.calls,
        kept=till.found,
        input_tokens=total(till.judgements, "input_tokens"),
        output_tokens=total(till.judgements, "output_tokens"),
        cost_nanos=total(till.judgements, "cost_nanos"),
        seconds=round(time.monotonic() - begun, 3),
    )


def record_of(
    judge: Instrument, found: Findings, labelled: Sequence[Labelled], labels: str, usecase: UseCase | None = None
) -> JudgeCalibration:
    """The fact to store."""
    figures: dict[str, Any] = msgspec.to_builtins(found)
    return JudgeCalibration(
        id=new_id(), time=now_us(), tenant="default", subject="", usecase=usecase.name if usecase else "",
        spec_hash=usecase.spec_hash if usecase else "", release="", judge=judge.definition.id,
        hash=judge.definition.hash, kind=judge.definition.kind, labels=labels, content=content_of(labelled), n=found.n,
        figures=figures,
    )  # fmt: skip


def findings_of(record: JudgeCalibration) -> Findings:
    """The findings of a record."""
    return msgspec.convert(_unbounded(record.figures), Findings)


def shortcomings(found: Findings, needs: JudgeBar) -> tuple[str, ...]:
    """Why these findings do not let a judge decide; empty when they do. By the bounds of the intervals."""
    reasons = []
    if found.n < needs.labels:
        reasons.append(f"{found.n} labelled cases with a verdict; at least {needs.labels} are needed")
    if math.isnan(found.kappa.value):
        reasons.append("kappa is undefined: people gave one verdict only, so there is nothing to agree on but chance"
                       if found.n else "kappa is undefined: no case has both a verdict and a label")  # fmt: skip
    elif not found.kappa.low >= needs.kappa:
        reasons.append(f"kappa {shown(found.kappa)}; its lower bound must be at least {needs.kappa:g}")
    if not found.invalid.high <= needs.invalid:
        reasons.append(f"no verdict in {shown(found.invalid)} of the cases; at most {needs.invalid:g}")
    if found.flips is not None and not found.flips.high <= needs.flips:
        reasons.append(f"the order decided {shown(found.flips)} of the pairs; at most {needs.flips:g}")
    if found.repeats is None:
        reasons.append("nothing was asked twice, so how steady it is is not known")
    elif not found.repeats.low >= needs.repeats:
        reasons.append(f"the same verdict again in {shown(found.repeats)} of the cases; at least {needs.repeats:g}")
    return tuple(reasons)


def standing_of(judge: str, digest_: str, needs: JudgeBar, records: Sequence[JudgeCalibration]) -> Standing:
    """What a judge may do. ``records`` are those of its name, newest first; the newest of it as it is decides."""
    record = next((each for each in records if each.hash == digest_), None)
    if record is None:
        state: State = "changed" if records else "uncalibrated"
        why = "its model, rubric or options are not those calibrated" if records else "it was never calibrated"
        return Standing(judge=judge, hash=digest_, state=state, reasons=(why,))
    reasons = shortcomings(findings_of(record), needs)
    return Standing(
        judge=judge, hash=digest_, state="failed" if reasons else "calibrated", reasons=reasons, record=record
    )


def calibrated_hashes(standings: Iterable[Standing]) -> frozenset[str]:
    """Hashes of the judges that may decide something: what ``verdicts_on`` takes."""
    return frozenset(each.hash for each in standings if each.state == "calibrated")


def shown(interval: Interval) -> str:
    """An interval for people: value and bounds."""
    if math.isnan(interval.value):
        return "undefined"
    if math.isinf(interval.low) or math.isinf(interval.high):
        return f"{interval.value:.2f} (no interval)"
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _measure(
    cases: Sequence[Labelled], looks: Sequence[Judgement | Compared | None], again: Sequence[Judgement | None]
) -> Findings:
    seen = [(case, look) for case, look in zip(cases, looks, strict=True) if look is not None]
    answered = [(case, look) for case, look in seen if not _failed(look)]
    valid = [(case, look) for case, look in answered if look.verdict]
    known = [(case, look) for case, look in valid if case.truth]
    ours, theirs = [look.verdict for _, look in known], [case.truth for case, _ in known]
    clusters = codes_of([case.case.question for case, _ in known]) if known else None
    accuracy, kappa = agreement.agreement(ours, theirs, CONFIDENCE, clusters)
    found = Findings(
        n=len(known),
        undecided=sum(not case.truth for case, _ in valid),
        failed=len(seen) - len(answered),
        invalid=agreement.share(len(answered) - len(valid), len(answered), CONFIDENCE),
        accuracy=accuracy,
        kappa=kappa,
        repeats=_repeats(looks, again),
        ceiling=agreement.ceiling([case.people for case in cases]),
    )
    pairs = [(case, look) for case, look in valid if isinstance(look, Compared)]
    return _of_pairs(found, pairs) if pairs else found


def _repeats(looks: Sequence[Judgement | Compared | None], again: Sequence[Judgement | None]) -> Interval | None:
    """How often a second look at the same says the same; None where nothing was looked at twice."""
    firsts = [look.given if isinstance(look, Compared) else look for look in looks[: len(again)] if look is not None]
    twice = [(one, other) for one, other in zip(firsts, again, strict=False) if other is not None]
    same = [one.verdict == other.verdict for one, other in twice if one.valid and other.valid]
    return agreement.share(sum(same), len(same), CONFIDENCE) if same else None


def _of_pairs(found: Findings, pairs: Sequence[tuple[Labelled, Compared]]) -> Findings:
    """What only pairs show: whether the order decides, and whether length does."""
    untied = [look.verdict for _, pair in pairs for look in (pair.given, pair.turned) if look.verdict != "tie"]
    known = [(case, pair) for case, pair in pairs if case.truth]
    as_given = sum(pair.given.verdict == case.truth for case, pair in known)
    ours = [(case.case, pair.verdict) for case, pair in pairs if pair.verdict != "tie"]
    theirs = [(case.case, case.truth) for case, _ in pairs if case.truth not in ("", "tie")]
    return msgspec.structs.replace(
        found,
        flips=agreement.share(sum(pair.flipped for _, pair in pairs), len(pairs), CONFIDENCE),
        one_order=agreement.share(as_given, len(known), CONFIDENCE),
        prefers_first=agreement.share(untied.count("first"), len(untied), CONFIDENCE),
        longer=_longer(ours),
        longer_people=_longer(theirs),
    )


def _longer(verdicts: Sequence[tuple[Case, str]]) -> Interval:
    differ = [(case, verdict) for case, verdict in verdicts if len(case.answers[0]) != len(case.answers[1])]
    hits = sum((len(case.answers[0]) > len(case.answers[1])) == (verdict == "first") for case, verdict in differ)
    return agreement.share(hits, len(differ), CONFIDENCE)


async def _peers(cases: Sequence[Labelled]) -> dict[str, Interval]:
    known = [case for case in cases if case.truth]
    kappas = {}
    for make in PEERS:
        peer = make()
        verdicts = [(await compare(peer, case.case)).verdict for case in known]
        clusters = codes_of([case.case.question for case in known]) if known else None
        kappas[peer.definition.id] = agreement.agreement(
            verdicts, [case.truth for case in known], CONFIDENCE, clusters
        )[1]
    return kappas


def _failed(look: Judgement | Compared) -> bool:
    return look.given.failed or look.turned.failed if isinstance(look, Compared) else look.failed


def _unbounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures as stored, with unknown values and bounds put back: JSON has no infinity and no NaN."""

    def back(value: Any) -> Any:
        if isinstance(value, dict) and {"value", "low", "high", "n", "method"} <= value.keys():
            blank = unknown(int(value["n"]), str(value["method"]))
            return {name: getattr(blank, name) if each is None else each for name, each in value.items()}
        return {name: back(each) for name, each in value.items()} if isinstance(value, dict) else value

    return {name: back(value) for name, value in figures.items()}
