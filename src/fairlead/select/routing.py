"""Routing: a small model answers where it will do, a big one where it is needed. Learnt from results; calls nothing.

**A router is worth having only if it saves more than a coin would at the same quality, by a lower bound, on questions
it never saw.** So results are split three ways: one teaches what the big model gains on a question, another sets the
threshold with a bound on the loss of quality, the third says what came of it. Beside it always stand the best single
model, the coin that sends the same share at random, and the oracle that knows every answer beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from fairlead.engines.embed.embedder import shared
from fairlead.errors import RouterUnreadable, RoutingRefused
from fairlead.evaluate import bootstrap, intervals
from fairlead.evaluate.intervals import Interval
from fairlead.evaluate.numbers import Codes, Flags, Numbers
from fairlead.select.gains import Model, features, learn_gains
from fairlead.select.makes import Make, Source, Stale, staleness
from fairlead.spec.canonical import digest

CONFIDENCE = 0.95
FEWEST = 120
"""Questions below which nothing can be learnt, set and tested apart."""
SHARES = (0.5, 0.25, 0.25)
"""Of the questions for learning, for the threshold, and for the test."""
KEEP = 0.95
"""Share of the big model's quality that is kept where nobody says another."""
STEPS = 100
"""Thresholds that are tried: shares of the questions that go to the big model."""
LEAST_COST, MOST_COST = 1e-12, 1e12
"""Of one answer, in any unit: beyond these a ratio of two is no number to decide by."""
FORMAT = 3


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One question, and what each model's answer to it was worth, 0..1."""

    text: str
    small: float
    big: float


class Router(msgspec.Struct, frozen=True, kw_only=True):
    """What was learnt: a question whose expected gain is above ``threshold`` goes to ``big``."""

    small: str
    big: str
    threshold: float
    model: Model
    embedder: str
    format: int = FORMAT

    def gains(self, texts: Sequence[str]) -> Numbers:
        """What the big model is expected to gain on each question, up to scale."""
        return self.model.gains(texts)

    def wants_big(self, text: str) -> bool:
        """Whether a question goes to the big model."""
        return bool(self.gains([text])[0] > self.threshold)


class Routed(msgspec.Struct, frozen=True, kw_only=True):
    """What a router does on the test part. ``calls`` is the share of questions that went to the big model.

    ``coin``: the share a coin would have to send for the same quality; ``oracle``: the fewest that give the quality
    asked for. ``saving`` is of the cost of the best single model that keeps the quality, ``over_coin`` the share of
    big calls saved beyond the coin. ``reasons`` say why it must not be enabled; empty: it may.
    """

    n: int
    keep: float
    small: Interval
    big: Interval
    quality: Interval
    kept: Interval
    calls: Interval
    coin: float
    oracle: float
    best_oracle: float
    saving: Interval
    over_coin: Interval
    reasons: tuple[str, ...] = ()


class Learnt(msgspec.Struct, frozen=True, kw_only=True):
    """A router with what it does and what it was learnt from: the content of a router's file.

    ``content`` is the hash of the questions and scores.
    """

    router: Router
    report: Routed
    content: str
    source: Source = Source()


def learn(
    tried: Sequence[Tried],
    small: str,
    big: str,
    *,
    small_cost: float,
    big_cost: float,
    keep: float = KEEP,
    seed: int = 0,
    runs: Sequence[str] = (),
    makes: Mapping[str, Make] | None = None,
) -> Learnt:
    """A router that keeps ``keep`` of the big model's quality, and what it does on questions it never saw.

    Costs are those of one answer, in any unit. The same question always falls into the same part. ``runs`` and
    ``makes`` say what it is learnt from. Raises RoutingRefused for too few questions, scores outside 0..1, and costs
    that leave nothing to save.
    """
    _allow(tried, small_cost, big_cost, keep)
    texts = [each.text for each in tried]
    parts, table = _parts(texts, seed), features(texts)
    scores = np.array([(each.small, each.big) for each in tried])
    learning, setting, testing = (parts == part for part in range(3))
    known = [text for text, part in zip(texts, parts, strict=True) if part == 0]
    model = learn_gains(known, scores[learning, 1] - scores[learning, 0], table[learning])
    gains = model.gains(texts, table)
    threshold = threshold_for(gains[setting], scores[setting], keep)
    report = judge(gains[testing] > threshold, scores[testing], keep, small_cost, big_cost)
    router = Router(small=small, big=big, threshold=threshold, model=model, embedder=shared().digest)
    source = Source(runs=tuple(runs), makes=dict(makes or {}), costs={small: small_cost, big: big_cost})
    content = digest([msgspec.to_builtins(each) for each in tried])
    return Learnt(router=router, report=report, content=content, source=source)


def threshold_for(gains: Numbers, scores: Numbers, keep: float, confidence: float = CONFIDENCE) -> float:
    """The gain above which questions go to the big model, so that ``keep`` of its quality is kept by a lower bound.

    Begins with the big model alone and sends it less and less; the first share whose bound fails ends the walk. Going
    in one fixed order needs no correction for the many thresholds that are tried. ``-inf``: all go to the big model.
    """
    chosen = -math.inf
    for step in range(1, STEPS + 1):
        threshold = float(np.quantile(gains, step / STEPS, method="inverted_cdf"))
        worth = np.where(gains > threshold, scores[:, 1], scores[:, 0]) - keep * scores[:, 1]
        if not intervals.mean(worth, confidence).low >= 0:
            break
        chosen = threshold
    return chosen


def judge(to_big: Flags, scores: Numbers, keep: float, small_cost: float, big_cost: float) -> Routed:
    """What sending these questions to the big model comes to, with everything it has to be compared with."""
    small, big, n = scores[:, 0], scores[:, 1], len(scores)
    worth = np.where(to_big, big, small)
    calls = to_big.astype(np.float64)
    # A cascade is not meant: whoever is not asked costs nothing.
    cost = np.where(to_big, big_cost, small_cost)
    alone = intervals.mean(small - keep * big, CONFIDENCE)
    best = small_cost if alone.low >= 0 else big_cost
    parts = np.column_stack([np.ones(n), worth, small, big, calls])
    report = Routed(
        n=n,
        keep=keep,
        small=intervals.mean(small, CONFIDENCE),
        big=intervals.mean(big, CONFIDENCE),
        quality=intervals.mean(worth, CONFIDENCE),
        kept=bootstrap.bootstrap_ratio(worth, big, CONFIDENCE),
        calls=intervals.share(int(calls.sum()), n, CONFIDENCE),
        coin=float(_coin(parts.sum(axis=0)[None])[0]),
        oracle=_oracle(small, big, keep),
        best_oracle=float(np.maximum(small, big).mean()),
        saving=bootstrap.bootstrap_ratio(best - cost, np.full(n, best), CONFIDENCE),
        over_coin=bootstrap.bootstrap_totals(lambda sums: _coin(sums) - sums[:, 4] / sums[:, 0], parts, CONFIDENCE),
    )
    return msgspec.structs.replace(report, reasons=_reasons(report, alone))


def refusals(report: Routed) -> tuple[str, ...]:
    """Why a router must not be enabled; none: it may. What the bounds say counts, whatever its file says."""
    return tuple(dict.fromkeys((*report.reasons, *_by_bounds(report))))


def stale_since(learnt: Learnt, now: Mapping[str, Make]) -> Stale | None:
    """What changed since a router was learnt, with the makes of its two as they are; None: nothing."""
    return staleness(learnt.source, learnt.router.small, learnt.router.big, now)


def doubt_of(learnt: Learnt, stale: Stale, file: str) -> str:
    """What changed, what follows, and the commands that mend it, in words; ``file`` is where the router stands."""
    router, runs = learnt.router, learnt.source.runs
    again = [f"fairlead select --candidates {router.small},{router.big} --all"] if stale.measured and runs else []
    source = "--run RUN" if again else " ".join(f"--run {run[-8:]}" for run in runs) or "RESULTS"
    keep = "" if learnt.report.keep == KEEP else f" --keep {learnt.report.keep:g}"
    mend = f"fairlead route learn {source} --small {router.small} --big {router.big}{keep} --output {file}"
    follows = (
        f"until it is learnt again, everything goes to {router.big}" if stale.shut else "what it saves is not known"
    )
    changes = "; ".join(stale.changes)
    return f"its router is out of date: {changes}. So {follows}. Learn it again: {' && '.join([*again, mend])}"


def _reasons(report: Routed, alone: Interval) -> tuple[str, ...]:
    kept = ["the small model alone keeps the quality: use it"] if alone.low >= 0 else []
    return (*kept, *_by_bounds(report))


def _by_bounds(report: Routed) -> tuple[str, ...]:
    reasons = []
    if not report.saving.low > 0:
        low = f"{100 * report.saving.low:.1f} %" if math.isfinite(report.saving.low) else "unknown"
        reasons.append(f"the lower bound of the saving is {low}, not above zero")
    if not report.over_coin.low > 0:
        reasons.append("a coin with the same quality may save as much: the questions do not tell which are hard")
    if report.kept.high < report.keep:
        reasons.append(f"on the test it keeps at most {100 * report.kept.high:.1f} % of the quality")
    return tuple(reasons)


def _coin(sums: Numbers) -> Numbers:
    """The share a coin would send for the routed quality; of sums (draws, [n, routed, small, big, calls])."""
    apart = sums[:, 3] - sums[:, 2]
    return np.asarray(np.where(apart > 0, (sums[:, 1] - sums[:, 2]) / np.where(apart > 0, apart, 1.0), 0.0), np.float64)


def _oracle(small: Numbers, big: Numbers, keep: float) -> float:
    """The smallest share of big calls that keeps the quality, for one who knows what each call gains."""
    gains = np.sort(big - small)[::-1]
    reached = small.sum() + np.concatenate([[0.0], np.cumsum(gains)])
    enough = np.flatnonzero(reached >= keep * big.sum() - 1e-9)
    return float(enough[0]) / len(small) if len(enough) else 1.0


def _parts(texts: Sequence[str], seed: int) -> Codes:
    """The part of each question; equal texts stay together."""
    places = [int(digest([seed, text])[:8], 16) / 2**32 for text in texts]
    bounds = np.cumsum(SHARES)[:-1]
    return np.searchsorted(bounds, np.array(places), side="right").astype(np.int64)


def _allow(tried: Sequence[Tried], small_cost: float, big_cost: float, keep: float) -> None:
    if len(tried) < FEWEST:
        raise RoutingRefused(detail=f"{len(tried)} questions; at least {FEWEST} are needed, hundreds are better")
    different = len({each.text for each in tried})
    if different < FEWEST:
        detail = f"too few different questions: {different} among {len(tried)}; at least {FEWEST} are needed"
        raise RoutingRefused(detail=detail)
    wrong = next((each for each in tried if not (0 <= each.small <= 1 and 0 <= each.big <= 1)), None)
    if wrong is not None:
        detail = f"the scores {wrong.small:g} and {wrong.big:g} of {wrong.text[:60]!r}; expected numbers from 0 to 1"
        raise RoutingRefused(detail=detail)
    for name, cost in (("small", small_cost), ("big", big_cost)):
        if not (cost == 0 or LEAST_COST <= cost <= MOST_COST):
            detail = f"an answer of the {name} model costs {cost:g}; expected 0 or {LEAST_COST:g} to {MOST_COST:g}"
            raise RoutingRefused(detail=f"{detail}, in a unit that fits: --small-cost, --big-cost")
    if not small_cost < big_cost:
        raise RoutingRefused(detail=f"the small model costs {small_cost:g} and the big {big_cost:g}: nothing to save")
    if not 0 < keep <= 1:
        raise RoutingRefused(
            detail=f"{keep:g} of the quality to keep; expected a share above 0, at most 1: --keep 0.95"
        )
    if sum(each.big for each in tried) <= sum(each.small for each in tried):
        raise RoutingRefused(detail="the big model is no better than the small one: use the small one")


def to_file(learnt: Learnt) -> bytes:
    """A router as JSON. Unknown bounds are null."""
    return msgspec.json.format(msgspec.json.encode(learnt), indent=1)


def from_file(data: bytes) -> Learnt:
    """A router read back. Raises RouterUnreadable for what is none, or was made with another version of ``embed``."""
    try:
        plain = msgspec.json.decode(data)
        for name, value in plain["report"].items():
            if isinstance(value, dict):
                limits = {"value": math.nan, "low": -math.inf, "high": math.inf}
                plain["report"][name] = value | {key: limits[key] for key in limits if value.get(key) is None}
        if plain["router"].get("threshold") is None:
            plain["router"]["threshold"] = -math.inf
        learnt = msgspec.convert(plain, Learnt)
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError, UnicodeDecodeError, RecursionError) as error:
        detail = f"that is no router's file ({error}); make one: fairlead route learn ... --output FILE"
        raise RouterUnreadable(detail=detail) from error
    if learnt.router.format != FORMAT or learnt.router.embedder != shared().digest:
        detail = "it was made with another version of Fairlead; learn it again: fairlead route learn"
        raise RouterUnreadable(detail=detail)
    return learnt
