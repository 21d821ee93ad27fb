"""What answering from memory costs, what it is right about, and what it never mixes up.

    make bench NAME=cache              needs gcc; FAIRLEAD_DATA for the public questions, named as missing without
    python -m benchmarks.cache --runs 5 --seconds 2 --pairs 1000000

Exact hits are measured over HTTP as `benchmarks.gateway` measures: processor time of the whole serving process a
request, with keys, masking and recording, from a load generator in C. Paraphrases are real pairs asked in a stream: a
question is drawn, and either answered from memory or asked of a model that is right by the labels; only what the cache
learnt from its own checks opens a band. The best static threshold on the same embedder is chosen in hindsight for the
same share of wrong answers, an advantage no deployment has.

GPTCache's pairs label only a pair's own partner as right, but many of its sentences stand there twice in nearly the
same words. `SAME` names those that a reader found to say the same; the strict labels are reported beside. Nothing was
tuned on either set: the judge was fitted on other texts.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks import gateway, near_misses
from benchmarks.report import Report
from fairlead.app.rulers import largest_share
from fairlead.gateway import Route
from fairlead.gateway.cache.bands import Bands
from fairlead.gateway.cache.neighbours import Neighbours
from fairlead.gateway.cache.question import question_of
from fairlead.gateway.cache.rules import Verified
from fairlead.guard.sameness import Sameness

DELTA = 0.01
DRAWS = 40_000
SEED = 20261129
SAME = (
    (310, 45), (599, 655), (120, 250), (611, 655), (519, 118), (661, 605), (515, 321), (672, 708), (606, 662),
    (630, 669), (146, 733), (227, 104), (329, 993), (278, 958), (600, 656), (839, 765), (967, 524), (814, 37),
    (83, 37), (378, 37), (788, 781), (411, 353), (440, 351), (24, 309), (716, 309), (991, 328), (659, 603),
    (458, 561), (439, 349), (710, 674), (292, 561), (657, 613),
)  # fmt: skip
"""Rows of GPTCache's benchmark whose two `origin` sentences say the same, by one reader, doubtful ones left out."""


class Stream:
    """Questions with the group of each (equal groups have the same answer) and, of those kept from the start, which."""

    def __init__(self, kept: Sequence[tuple[str, int]], asked: Sequence[tuple[str, int]]) -> None:
        self.kept, self.asked = kept, asked


def qqp(path: Path, *, strict: bool) -> Stream:
    """As GPTCache's benchmark has it: all origins are kept, all their partners asked."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    group = list(range(len(rows)))

    def root(row: int) -> int:
        while group[row] != row:
            row = group[row]
        return row

    def join(one: int, other: int) -> None:
        group[root(one)] = root(other)

    seen: dict[str, int] = {}
    for row, pair in enumerate(rows):
        for text in (pair["origin"], pair["similar"]):
            join(row, seen.setdefault(_plain(text), row))  # the very same sentence in two rows
    if not strict:
        for one, other in SAME:
            join(one, other)
    kept = [(pair["origin"], root(row)) for row, pair in enumerate(rows)]
    return Stream(kept, [(pair["similar"], root(row)) for row, pair in enumerate(rows)])


def support(path: Path | None, seed: int = SEED) -> Stream:
    """Near misses: questions, the same in other words, and what only looks alike; and, where there is one, a public set
    of customers' questions about other things, which are all wrong to answer from these.
    """
    groups: dict[str, int] = {}
    kept, asked = [], []
    for triple in [*near_misses.by_hand(), *near_misses.by_rule()]:
        known = _plain(triple.question) in groups
        group = groups.setdefault(_plain(triple.question), len(groups))
        if not known:
            kept.append((triple.question, group))
            asked += [(triple.same, group), (triple.question.capitalize() + "?", group)]
        asked.append((triple.other, groups.setdefault(_plain(triple.other), len(groups))))
    if path is not None:
        with path.open(encoding="utf-8") as file:
            rows = [row["text"] for row in csv.DictReader(file)]
        asked += [(text, -1 - n) for n, text in enumerate(random.Random(seed).sample(rows, 300))]
    return Stream(kept, asked)


def _plain(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


class Result:
    """What a stream showed: of ``draws``, how many were answered from memory and how many of those wrongly."""

    def __init__(self) -> None:
        self.draws = self.hits = self.wrong = self.checked = 0
        self.late_draws = self.late_hits = 0
        self.static_hits = self.static_equal = self.static_proved = 0.0
        self.distinct: dict[int, bool] = {}
        self.bounds: list[dict[str, Any]] = []


def play(stream: Stream, judge: Sameness, draws: int = DRAWS, seed: int = SEED) -> Result:
    """Ask ``draws`` questions of the stream, drawn evenly, as the gateway would answer them."""
    rules = Verified(max_error=DELTA)
    bands, neighbours, draw = Bands(rules, largest_share), Neighbours(), random.Random(seed)
    groups = {}
    for number, (text, group) in enumerate(stream.kept):
        key = number.to_bytes(4, "big")
        neighbours.add(b"frame", key, judge.prepare(text))
        groups[key] = group
    prepared = [judge.prepare(text) for text, _ in stream.asked]
    near = [neighbours.nearest(b"frame", each) for each in prepared]
    odds = [judge.odds(each, found[1]) if found else 0.0 for each, found in zip(prepared, near, strict=True)]
    result = Result()
    for number in range(draws):
        asked = draw.randrange(len(stream.asked))
        found, late = near[asked], number >= draws // 2
        result.draws += 1
        result.late_draws += late
        band = bands.of("t", "model", odds[asked], number)
        if found is None or band is None:
            continue
        wrong = groups[found[0]] != stream.asked[asked][1]
        if bands.is_open(band) and draw.random() >= rules.verify:
            result.hits += 1
            result.late_hits += late
            result.wrong += wrong
            result.distinct[asked] = wrong
        else:
            result.checked += 1
            bands.learn(band, wrong=wrong, now=number)
    result.bounds = bands.show()
    result.static_hits = best_static(stream, prepared, near, groups, DELTA)
    result.static_proved = best_proved(stream, prepared, near, groups, draws)
    result.static_equal = best_static(stream, prepared, near, groups, result.wrong / max(1, result.hits))
    return result


def best_static(stream: Stream, prepared: Any, near: Any, groups: dict[bytes, int], error: float) -> float:
    """The largest share of questions one threshold on the cosine answers with at most this share wrong."""
    wrong = wrong_by_cosine(stream, prepared, near, groups)
    return _largest(np.cumsum(wrong) / np.arange(1, len(wrong) + 1) <= error)


def best_proved(stream: Stream, prepared: Any, near: Any, groups: dict[bytes, int], draws: int) -> float:
    """The same of a threshold that must prove it: its 95 % bound is at most DELTA when ``draws`` questions are drawn
    and all it answers are checked. For one threshold named beforehand; whoever looks for the best one needs more.
    """
    wrong = wrong_by_cosine(stream, prepared, near, groups)
    answered = np.arange(1, len(wrong) + 1) * draws / len(wrong)
    mistakes = np.cumsum(wrong) * draws / len(wrong)
    bounds = stats.beta.ppf(0.95, mistakes + 1, np.maximum(answered - mistakes, 0.5))
    return _largest(np.where(mistakes < answered, bounds, 1.0) <= DELTA)


def wrong_by_cosine(stream: Stream, prepared: Any, near: Any, groups: dict[bytes, int]) -> npt.NDArray[np.bool_]:
    """Whether the likest kept question's answer is wrong, of all questions, the likest pairs first."""
    cosines = np.array([float(each.vector @ found[1].vector) for each, found in zip(prepared, near, strict=True)])
    wrong = np.array([groups[found[0]] != group for found, (_, group) in zip(near, stream.asked, strict=True)])
    found: npt.NDArray[np.bool_] = wrong[np.argsort(-cosines, kind="stable")]
    return found


def _largest(fits: npt.NDArray[np.bool_]) -> float:
    """The share of all up to the last place that fits."""
    within = np.nonzero(fits)[0]
    return (int(within.max()) + 1) / len(fits) if len(within) else 0.0


def add_paraphrases(report: Report, name: str, stream: Stream, judge: Sameness, *, target: bool) -> None:
    found = play(stream, judge)
    most = float(stats.beta.ppf(0.95, found.wrong + 1, found.hits - found.wrong)) if found.hits > found.wrong else 1.0
    share = 100 * found.wrong / found.hits if found.hits else 0.0
    report.add(
        f"{name}: wrong of those answered, with the 95 % bound",
        share,
        "%",
        n=found.hits,
        low=0.0,
        high=100 * most,
        target=f"<= {100 * DELTA:g}" if target else "",
    )
    report.add(f"{name}: the bound itself", 100 * most, "%", n=found.hits, target="<= 1" if target else "")
    right, pairs = sum(not wrong for wrong in found.distinct.values()), len(found.distinct)
    if right:
        most_distinct = 100 * float(stats.beta.ppf(0.95, pairs - right + 1, right))
        report.add(
            f"{name}: wrong of the different questions answered, with the 95 % bound",
            100 * (pairs - right) / pairs, "%", n=pairs, low=0.0, high=most_distinct,
        )  # fmt: skip
    for band in found.bounds:
        report.add(
            f"{name}: band from {band['from']:g}, at most wrong ({'open' if band['open'] else 'closed'})",
            100 * band["at_most"],
            "%",
            n=band["checked"],
        )
    hit = 100 * found.hits / found.draws
    late = 100 * found.late_hits / found.late_draws
    static = 100 * found.static_equal
    report.add(f"{name}: answered from memory, learning included", hit, "%", n=found.draws)
    report.add(
        f"{name}: answered from memory once learnt",
        late,
        "%",
        n=found.late_draws,
        peer="best static threshold in hindsight, as seldom wrong",
        peer_value=static,
        target=f">= {static:.4g}",
    )
    report.add(f"{name}: best static threshold at {100 * DELTA:g} % wrong, in hindsight", 100 * found.static_hits, "%")
    report.add(
        f"{name}: best static threshold that draws could prove within {100 * DELTA:g} %", 100 * found.static_proved,
        "%", n=found.draws,
    )  # fmt: skip


def adversarial(pairs: int, seed: int = SEED) -> tuple[int, int]:
    """(hits across tenants, hits of an old release) in ``pairs`` questions made to collide: the same words with parts
    moved between tenant, user, name of the release and message.
    """
    draw = random.Random(seed)
    words = ["a", "b", "ab", "t", "ta", "", "r1", "r", "1", '"', "\0", "\\", '","', "\ud7ff", "tenant", "acme", "acme "]
    seen: dict[bytes, tuple[str, str]] = {}
    crossed = stale = 0
    routes: dict[str, Route] = {}
    for _ in range(pairs):
        tenant, release = draw.choice(words) + draw.choice(words), draw.choice(words) + draw.choice(words)
        route = routes.get(release)
        if route is None:
            route = routes[release] = Route(name="m", upstream=_NOBODY, model="m", release=release)
        body = {"model": "m", "temperature": 0, "messages": [{"role": "user", "content": draw.choice(words)}]}
        key = question_of(
            body, operation="chat", tenant=tenant, scopes=frozenset({"inference"}), subject=draw.choice(words),
            route=route, secret=b"k" * 32,
        ).key  # fmt: skip
        known = seen.setdefault(key, (tenant, release))
        crossed += known[0] != tenant
        stale += known[1] != release
    return crossed, stale


class _Nobody:
    name = "nobody"

    async def open(self, call: Any) -> Any:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass


_NOBODY: Any = _Nobody()


def look_up(judge: Sameness, texts: Sequence[str], kept: int = 1_000) -> list[float]:
    """Processor microseconds of one look for a paraphrase among ``kept`` questions, embedding included."""
    neighbours = Neighbours()
    for number in range(kept):
        neighbours.add(b"f", number.to_bytes(4, "big"), judge.prepare(texts[number % len(texts)] + f" {number}"))
    rounds = []
    for _ in range(7):
        began = time.process_time_ns()
        for text in texts[:300]:
            prepared = judge.prepare(text)
            near = neighbours.nearest(b"f", prepared)
            if near is not None:
                judge.odds(prepared, near[1])
        rounds.append((time.process_time_ns() - began) / 1_000 / min(300, len(texts)))
    return rounds


@contextlib.contextmanager
def cached(upstream: int, folder: Path) -> Iterator[gateway.Peer]:
    """Fairlead with its cache, as `benchmarks.gateway` serves it without."""
    from fairlead.store import Store

    port = gateway.free_port()
    log = folder / "cached.out"
    with Store.open(folder / "cached") as store:
        _, secret = store.keys.create("benchmark", ["inference"])
    headers = (f"authorization: Bearer {secret}",)
    command = [sys.executable, "-m", "benchmarks.cache", "--serve", str(port), str(upstream), str(folder / "cached")]
    with gateway.running(command, log) as pid:
        gateway.await_answer(port, headers, log)
        yield gateway.Peer("Fairlead", port, pid, headers)


def serve(port: int, upstream: int, data: Path) -> None:
    from fairlead.gateway import Gateway, Identity, fronting, settle
    from fairlead.gateway.cache import Cache, Rules
    from fairlead.guard import KINDS, Masker
    from fairlead.providers.openai_compatible import OpenAICompatible
    from fairlead.settings import Settings
    from fairlead.store import Store

    with Store.open(data) as store:
        mask = Masker(KINDS)
        routes = {
            name: Route(
                name=name, upstream=OpenAICompatible(name, f"http://127.0.0.1:{upstream}/v1", name), model=name,
                variant=name, price=(400, 1600),
            )
            for name in ("plain", "paced")
        }  # fmt: skip
        app = Gateway(
            routes=routes, keys=store.keys, record=store.traces.append, settings=Settings(), mask=mask,
            identity=Identity("benchmark", "0" * 64),
            cache=Cache(Rules(), secret=store.secret("answers"), mask=mask, backing=store.answers),
        )  # fmt: skip
        settle()
        gateway.run_server(app, port, fronting(app))


def add_hits(report: Report, runs: int, seconds: float) -> None:
    """Exact hits over HTTP, one-shot and as a stream."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server, tool = gateway.build(folder)
        upstream = gateway.free_port()
        with gateway.running([str(server), str(upstream)], folder / "upstream.out"), cached(upstream, folder) as peer:
            for kind, figure, target in (
                (gateway.ONE_SHOT, "exact hit over HTTP: CPU", "<= 60"),
                (gateway.BURST, "exact hit as a stream over HTTP: CPU", ""),
            ):
                mode = dataclasses.replace(kind, repeated=True)
                values = gateway.cpu_per_thousand(tool, peer, mode, runs, seconds, folder)
                report.add(figure, min(values), "us", n=len(values), low=min(values), high=max(values), target=target)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one run")
    parser.add_argument("--pairs", type=int, default=1_000_000, help="questions made to collide")
    parser.add_argument("--serve", nargs=3, metavar=("PORT", "UPSTREAM", "DATA"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(int(chosen.serve[0]), int(chosen.serve[1]), Path(chosen.serve[2]))
        return 0
    data = os.environ.get("FAIRLEAD_DATA")
    public = Path(data) if data else None
    judge = Sameness()
    note = "Aim of an exact hit: 25 us. " + (
        "Public questions: GPTCache's pairs, Banking77."
        if public
        else "Without FAIRLEAD_DATA: our own near misses only."
    )
    report = Report("cache", note=note)
    add_hits(report, chosen.runs, chosen.seconds)
    texts = [triple.question for triple in [*near_misses.by_hand(), *near_misses.by_rule()]]
    rounds = look_up(judge, texts)
    report.add(
        "look for a paraphrase among 1,000: CPU", min(rounds), "us", n=300 * len(rounds), low=min(rounds),
        high=max(rounds), target="<= 300",
    )  # fmt: skip
    add_paraphrases(
        report, "support", support(public / "banking77" / "train.csv" if public else None), judge, target=True
    )
    if public is not None:
        rows = public / "qqp" / "mock_data.json"
        add_paraphrases(report, "GPTCache's pairs, read again", qqp(rows, strict=False), judge, target=True)
        add_paraphrases(report, "GPTCache's pairs, own partner only", qqp(rows, strict=True), judge, target=False)
    crossed, stale = adversarial(chosen.pairs)
    report.add("hits across tenants, questions made to collide", crossed, "hits", n=chosen.pairs, target="== 0")
    report.add("hits of another release, questions made to collide", stale, "hits", n=chosen.pairs, target="== 0")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
