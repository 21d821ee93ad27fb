"""Sets the constants of the extractive engine (`calibration.json`) on wordings nothing was trained on.

    FAIRLEAD_DATA=... python -m benchmarks.calibrate_answers [--each-left-out]

Questions: invented shops with the wordings of the split CALIBRATE, the frequently asked questions of public venues that
neither embedder nor scorer saw (FAIRLEAD_DATA), and hand-written ones, which count most: six older invented shops, the
reference shop, the shops of `training/natural` of the split "calibration", and `training/pairs/calibration`. Some are
asked once more after another question of their shop, so that the engine learns when a message does not lean on the one
before.

Four models: a multinomial logistic one that picks the units to read, a second that orders these with what the scorer
says of them, and two binary ones, for the confidence in the quote and for the choice of a tool. The threshold to be
sure is set on confidences fitted without the shop in question, the threshold to
answer is where the shares of right answers and of recognised unanswerable questions add up to most. The tests of
`benchmarks/shop.py` use none of these wordings.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.tool_requests import from_file, from_generator
from benchmarks.tool_requests import from_natural as natural_requests
from fairlead.assistant.knowledge import Knowledge
from fairlead.assistant.retrieve import Index
from fairlead.engines.embed.embedder import Embedder
from fairlead.engines.extractive import answer, evidence, question, toolmatch
from fairlead.engines.extractive.evidence import FEATURES, READ, SURENESS, Compared, Readers, Scores, shared
from fairlead.engines.extractive.odds import Odds
from fairlead.engines.extractive.question import Query
from fairlead.engines.extractive.tools import read_tools
from fairlead.engines.extractive.units import Unit, cut
from fairlead.engines.scorer import LEAST, Opinion
from fairlead.engines.scorer.pieces import apart
from training.embed_data import Split, is_held, load_topics, make_shop, read_faq
from training.scorer_data import from_pairs

SHOPS, VENUES = 40, 40
GENERATED = 3.0  # weight of a question of an invented wording
NEARLY = 0.03
NETS, UNITS, STEPS, DECAY = 2, 10, 300, 0.005
AFTER_ANOTHER = 0.2  # share of the hand-written questions that are asked once more after another
CONVERSATIONS = 1_500  # generated ones that the choice of tools is fitted on
BY_HAND = 8.0  # weight of a hand-written request for a tool, a generated one counting 1
NO_REQUEST = 1.5  # of a question on the pages with tools on offer that it does not want
DRAW = 0.002  # how strongly the weights are drawn to PRIOR
LOGISTIC_DRAW = 0.02  # how strongly those of the confidence are drawn to nought
PASSAGES = 16
NATURAL = 4.0  # weight of a hand-written question
UNANSWERABLE = 8.0  # of a hand-written one that the pages do not answer: there are few
SEED = 7
# Where the weights are drawn to.
PRIOR = {
    "cosine": 2.0, "cosine with context": 2.0, "words": 1.0, "words with context": 1.0, "soft words": 1.0,
    "ideas": 1.5, "ideas with context": 1.0, "fit": 0.6, "rank": 0.5, "own words": 2.0, "things": 1.5,
    "row meant": 1.0, "row not meant": -1.0,
}  # fmt: skip
READ_PRIOR = {"answers": 3.0, "answers below best": 1.0}
TAKEN_OUT = 1.0
LIKELY = 0.7  # confidence from which a quote is said with a light reservation; what it holds: `benchmarks/tones.py`
RECOGNISED = 0.75  # share of unanswerable questions at which figures are compared
Matches = list[evidence.Match]
NATURAL_SHOPS = Path(__file__).parents[1] / "training" / "natural"
BLOCKS = Path(__file__).parents[1] / "training" / "pairs" / "calibration"
TOOLS_DEV = tuple(Path(__file__).parent / "data" / name for name in ("tools_dev.json", "tools_dev_more.json"))
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """A question with the documents retrieval gave. ``right``: texts an answer must hold, empty if there is none."""

    source: str
    text: str
    earlier: tuple[str, ...]
    documents: list[dict[str, str]]
    right: tuple[str, ...]
    weight: float = 1.0
    tools: tuple[dict[str, Any], ...] = ()


def holds(text: str, right: tuple[str, ...]) -> bool:
    """Whether a text holds everything a right answer must; "a|b" asks for either."""
    return all(any(form.lower() in text.lower() for form in part.split("|")) for part in right)


def from_shops(split: Split, count: int, embedder: Embedder) -> Iterator[Asked]:
    """Questions on invented shops, with the passages that retrieval ranks first."""
    topics = load_topics()
    for seed in range(count):
        shop = make_shop(seed, split, topics)
        index = Index([(p.title, p.text) for p in shop.passages], embedder)
        for asked in shop.questions:
            documents = [shop.passages[i].document() for i in index.rank(asked.text)[:PASSAGES]]
            yield Asked("shops", asked.text, (), documents, asked.values, GENERATED)


def from_faq(data: Path, embedder: Embedder) -> Iterator[Asked]:
    """Questions on public venues held out of training: the answer among four others, or four others only."""
    rng = random.Random(SEED)
    venues: dict[str, list[tuple[str, str]]] = {}
    for venue, asked, told in read_faq(data):
        if is_held(venue):
            venues.setdefault(venue, []).append((asked, told))
    for pairs in list(venues.values())[:VENUES]:
        vectors = embedder.encode([f"{q} {a}" for q, a in pairs])
        alike = vectors @ vectors.T
        for i in rng.sample(range(len(pairs)), min(12, len(pairs))):
            others = [j for j in range(len(pairs)) if alike[i, j] < 0.45]
            if len(others) < 8:
                continue
            chosen = rng.sample(others, 5)
            answerable = rng.random() < 0.6
            texts = [pairs[j][1] for j in chosen[: 4 if answerable else 5]] + ([pairs[i][1]] if answerable else [])
            rng.shuffle(texts)
            documents = [{"id": str(k), "title": "", "text": text, "location": ""} for k, text in enumerate(texts)]
            first = question_sentence(pairs[i][1])
            yield Asked("faq", pairs[i][0], (), documents, (first,) if answerable else ())


def question_sentence(told: str) -> str:
    """The first sentence of an answer, without its last mark: what a quote of it must hold."""
    return told.strip().split(". ")[0].rstrip(".!? ")


def from_pages(source: str, rows: Iterable[dict[str, Any]], pages: Path, *, take_out: bool = False) -> Iterator[Asked]:
    """Hand-written questions on pages, with the passages that the assistant would find.

    With ``take_out`` each answerable one is asked once more without the sections that answer it: a question that the
    documents do not answer although they speak of its subject. Only for pages that say nothing twice.
    """
    knowledge = Knowledge.load([pages])
    for row in rows:
        earlier, right = tuple(row.get("earlier", ())), tuple(row["right"])
        order = knowledge.index.rank(row["q"], previous=earlier[-1] if earlier else "")
        found = [knowledge.passages[i] for i in order]
        yield Asked(
            source,
            row["q"],
            earlier,
            [p.document() for p in found[:PASSAGES]],
            right,
            NATURAL if right else UNANSWERABLE,
        )
        if right and take_out:
            telling = {p.location for p in found if any(holds(p.text, (part,)) for part in right)}
            left = [p.document() for p in found if p.location not in telling]
            yield Asked(f"{source}, taken out", row["q"], earlier, left[:PASSAGES], (), TAKEN_OUT)


def from_folder(folder: Path, *splits: str, take_out: bool = False) -> Iterator[Asked]:
    """The natural questions of a folder of shops (`<shop>.md`, `<shop>.json`), of the named splits or of all.

    A shop with `<shop>.tools.json` is asked with its tools on offer, as it would be in use.
    """
    for path in sorted(folder.glob("*.json")):
        if path.name.endswith(".tools.json"):
            continue
        shop = json.loads(path.read_text(encoding="utf-8"))
        if not splits or shop["split"] in splits:
            pages = path.with_suffix(".md")
            for asked in from_pages(path.stem, shop["questions"], pages, take_out=take_out):
                yield replace(asked, tools=tuple(tools_of(path)))


def tools_of(shop: Path) -> list[dict[str, Any]]:
    """The tools beside a shop's questions; empty when it has none."""
    beside = shop.with_suffix(".tools.json")
    if not beside.is_file():
        return []
    tools: list[dict[str, Any]] = json.loads(beside.read_text(encoding="utf-8"))["tools"]
    return tools


def from_blocks(folder: Path = BLOCKS) -> Iterator[Asked]:
    """The hand-written blocks that train no weight, each as a page of its own."""
    for path in sorted(folder.glob("*.txt")):
        library = from_pairs(path)
        for number, shelf in enumerate(library.shelves):
            units = [apart(unit) for unit in shelf.units]
            rows = [
                {"q": one.text, "right": [units[i][1].rstrip(".") for i in one.right]}
                for one in library.asked
                if one.shelf == number
            ]
            lines = [f"# {shelf.name}"]
            for heading, group in groupby(units, key=lambda unit: unit[0].partition(" › ")[2]):
                lines.append(f"## {heading}\n\n" + " ".join(text for _, text in group))
            with TemporaryDirectory() as kept:
                page = Path(kept) / "help.md"
                page.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
                yield from from_pages(shelf.name, rows, page)


def from_natural() -> Iterator[Asked]:
    """The questions of `answers_natural.json`: two shops, with the tools they offer."""
    data = json.loads((Path(__file__).parent / "data" / "answers_natural.json").read_text(encoding="utf-8"))
    for shop in data["shops"]:
        documents = [{**d, "location": ""} for d in shop["documents"]]
        index = Index([(d["title"], d["text"]) for d in documents])
        for row in shop["questions"]:
            earlier, right = tuple(row.get("earlier", ())), tuple(row["right"])
            order = index.rank(row["q"], previous=earlier[-1] if earlier else "")[:PASSAGES]
            weight = NATURAL if right else UNANSWERABLE
            found = [documents[i] for i in order]
            yield Asked(shop["name"].split(",")[0], row["q"], earlier, found, right, weight, tuple(data["tools"]))


def from_hand() -> Iterator[Asked]:
    """The hand-written questions on four invented shops and, twice, on the reference shop."""
    here = Path(__file__).parent
    shop = here.parent / "examples" / "shop"
    folder = here / "data" / "answers_shops"
    for name, rows in json.loads((folder / "questions.json").read_text(encoding="utf-8"))["shops"].items():
        yield from from_pages(name, rows, folder / f"{name}.md", take_out=True)
    dev = json.loads((here / "data" / "answers_dev.json").read_text(encoding="utf-8"))["questions"]
    yield from from_pages("reference", dev, shop / "knowledge")
    lines = (shop / "data" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [
        {"q": row["question"], "right": row.get("facts", []), "earlier": [row["previous"]] if "previous" in row else []}
        for row in map(json.loads, lines)
        if row["expect"] in ("answer", "unanswerable")
    ]
    yield from from_pages("reference", rows, shop / "knowledge")


def questions(data: Path, embedder: Embedder) -> list[Asked]:
    """All that the constants are set on."""
    by_hand = [*from_hand(), *from_natural(), *from_folder(NATURAL_SHOPS, "calibration"), *from_blocks()]
    generated = [*from_shops(Split.CALIBRATE, SHOPS, embedder), *from_faq(data, embedder)]
    whole = [one for one in by_hand if "taken out" not in one.source]
    return [*by_hand, *after_another(whole), *generated]


def is_by_hand(source: str) -> bool:
    """Whether questions of a source were written by hand and are asked as they were."""
    return not source.startswith(("shops", "faq")) and "," not in source


class Seen(NamedTuple):
    """A question as it is read, its units best first, and which of those the scorer read are right."""

    asked: Asked
    query: Query
    matches: Matches
    right: npt.NDArray[np.bool_]

    @property
    def read(self) -> Matches:
        """The units that the scorer read."""
        return [m for m in self.matches if m.answers > LEAST]


def after_another(asked: Sequence[Asked]) -> Iterator[Asked]:
    """Some questions once more, after another one of their shop that they do not lean on."""
    rng = random.Random(SEED)
    by_shop: dict[str, list[Asked]] = {}
    for one in asked:
        by_shop.setdefault(one.source, []).append(one)
    for source, some in by_shop.items():
        for one in some:
            other = rng.choice(some)
            if not one.earlier and other is not one and rng.random() < AFTER_ANOTHER:
                yield replace(one, source=f"{source}, after another", earlier=(other.text,), weight=one.weight / 2)


def reading(one: Asked) -> Query:
    """A question together with the one before it, if there is one."""
    return question.joined(one.text, one.earlier) if one.earlier else question.query_of(one.text)


class Prepared(NamedTuple):
    """A question as it is read, with the features of the units that may be quoted; they depend on no constant."""

    asked: Asked
    query: Query
    compared: Compared


def prepare(asked: Iterable[Asked], embedder: Embedder) -> list[Prepared]:
    """Every question with its units."""
    found = []
    for one in asked:
        query = reading(one)
        found.append(Prepared(one, query, evidence.prepare(query, cut(one.documents, embedder), embedder)))
    return found


def first_rows(prepared: Sequence[Prepared]) -> Iterator[tuple[Floats, npt.NDArray[np.bool_], float]]:
    """(features, which units are right, weight) of every answerable question, over all units of its passages."""
    for one in prepared:
        if one.asked.right and one.compared.units:
            gold = which_right([unit for _, unit in one.compared.units], one.asked.right)
            yield one.compared.rows, gold, one.asked.weight


def which_right(units: Sequence[Unit], right: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Which units hold all that a right answer must hold, or, where none holds all, a part of it."""
    for wanted in ([right], [(part,) for part in right]):
        found = [unit.kind != "list" and any(holds(unit.text, some) for some in wanted) for unit in units]
        if right and any(found):
            return np.array(found, bool)
    return np.zeros(len(units), bool)


class Remembering:
    """The scorer, each pair of question and unit read once: only the constants change between the passes."""

    def __init__(self, scorer: Scores) -> None:
        self.digest = scorer.digest
        self._scorer = scorer
        self._known: dict[tuple[str, str], tuple[float, Floats]] = {}

    def consider(self, question: str, units: Sequence[str]) -> Opinion:
        """As the scorer's."""
        new = [unit for unit in dict.fromkeys(units) if (question, unit) not in self._known]
        if new:
            told = self._scorer.consider(question, new)
            pairs = zip(told.odds.tolist(), told.traits, strict=True)
            self._known.update(zip(((question, u) for u in new), pairs, strict=True))
        found = [self._known[question, unit] for unit in units]
        return Opinion(np.array([odds for odds, _ in found], np.float32), np.array([traits for _, traits in found]))

    def score(self, question: str, units: Sequence[str]) -> Floats:
        """As the scorer's."""
        return self.consider(question, units).odds

    def alike(self, message: str, units: Sequence[str]) -> Floats:
        """As the scorer's."""
        return self._scorer.alike(message, units)


def see(prepared: Sequence[Prepared], readers: Readers) -> list[Seen]:
    """Every question with its units as the engine orders them now."""
    seen = []
    for one in prepared:
        matches = evidence.order(one.query, one.compared, readers)
        read = [m.unit for m in matches if m.answers > LEAST]
        seen.append(Seen(one.asked, one.query, matches, which_right(read, one.asked.right)))
    return seen


def fit_order(blocks: Iterable[tuple[Floats, npt.NDArray[np.bool_], float]], start: Doubles) -> Doubles:
    """Weights that put a right unit first, drawn to ``start``: softmax over the units of a question."""
    kept = [(rows.astype(np.float64), gold, w) for rows, gold, w in blocks if gold.any() and not gold.all()]
    rows, gold = np.concatenate([b[0] for b in kept]), np.concatenate([b[1] for b in kept])
    weight = np.array([b[2] for b in kept])
    sizes = [len(b[0]) for b in kept]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    group = np.repeat(np.arange(len(kept)), sizes)

    def loss(w: Doubles) -> tuple[float, Doubles, Doubles]:
        scores = rows @ w
        odds = np.exp(scores - np.maximum.reduceat(scores, starts)[group])
        odds /= np.add.reduceat(odds, starts)[group]
        right = np.maximum(np.add.reduceat(odds * gold, starts), 1e-12)
        value = -(weight * np.log(right)).sum() / weight.sum() + DRAW * (w - start) @ (w - start)
        slope = (((odds - odds * gold / right[group]) * weight[group]) @ rows) / weight.sum() + 2 * DRAW * (w - start)
        mean = np.add.reduceat(rows * odds[:, None], starts, axis=0)
        bend = (rows * (odds * weight[group])[:, None]).T @ rows - (mean * weight[:, None]).T @ mean
        return float(value), slope, bend / weight.sum() + 2 * DRAW * np.eye(len(w))

    return descend(loss, start)


def descend(loss: Callable[[Doubles], tuple[float, Doubles, Doubles]], start: Doubles) -> Doubles:
    """Newton's method; ``loss`` gives value, gradient and a positive curvature. A step that does not help is halved."""
    weights = start.copy()
    value, slope, bend = loss(weights)
    for _ in range(60):
        step = np.linalg.solve(bend + 1e-9 * np.eye(len(weights)), slope)
        for half in range(12):
            trial = weights - step / 2**half
            new = loss(trial)
            if new[0] < value:
                break
        else:
            break
        done = value - new[0] < 1e-9
        weights, (value, slope, bend) = trial, new
        if done:
            break
    return weights


def read_rows(seen: Seen) -> Floats:
    """The features of the units read, with what the scorer says of them."""
    read = seen.read
    odds = np.array([m.answers for m in read], np.float32)
    return np.concatenate([np.stack([m.features for m in read]), evidence.read_features(odds)], axis=1)


class Observed(NamedTuple):
    """Of every question with any match: features, whether the quote is right, alone or with the second, weights."""

    rows: Floats
    alone: Floats
    either: Floats
    weights: Floats
    sources: list[str]
    answerable: npt.NDArray[np.bool_]


def observe(seen: Sequence[Seen], readers: Readers) -> Observed:
    """What the confidence is fitted on."""
    rows, alone, either, weights, sources, answerable = [], [], [], [], [], []
    for one in seen:
        if not one.matches:
            continue
        told = answer.compose(one.query, one.matches)
        other = answer.another(one.query, one.matches, told)
        both = f"{told.text} {answer.told_of(one.query, other)}" if other else told.text
        right = one.asked.right
        rows.append(evidence.sureness(one.query, one.matches, readers.embedder))
        alone.append(bool(right) and holds(told.text, right))
        either.append(bool(right) and holds(both, right))
        weights.append(one.asked.weight)
        sources.append(one.asked.source)
        answerable.append(bool(right))
    one_by_one, with_second, counts = (np.array(values, np.float32) for values in (alone, either, weights))
    return Observed(np.stack(rows), one_by_one, with_second, counts, sources, np.array(answerable))


def chances(odds: Odds, rows: Floats) -> Floats:
    """The chances (n,) that a model gives to rows."""
    return (1 / (1 + np.exp(-odds.of(rows)))).astype(np.float32)


def each_left_out(told: Observed, odds: Floats) -> Floats:
    """The chances (n,) that a model fitted without the shop in question gives; ``odds`` of those of no shop by hand."""
    shops = np.array([source.split(",")[0] for source in told.sources])
    unseen = odds.copy()
    for shop in sorted(set(shops) - {"shops", "faq"}):
        rest = shops != shop
        others = fit_odds(told.rows[rest], told.either[rest], told.weights[rest])
        unseen[~rest] = chances(others, told.rows[~rest])
    return unseen


def best_threshold(odds: Floats, right: Floats, answerable: npt.NDArray[np.bool_]) -> float:
    """The confidence from which on right answers and recognised unanswerable questions, as shares, add up to most.

    The lowest of those within NEARLY of the most: an uncertain quote is said to be one, a refusal helps nobody.
    """
    candidates = np.unique(np.round(odds, 3))
    sums = [
        right[answerable & (odds >= t)].sum() / answerable.sum() + (odds[~answerable] < t).mean() for t in candidates
    ]
    return float(candidates[np.array(sums) >= max(sums) - NEARLY].min())


def fit_tools(readers: Readers) -> Odds:
    """The odds that a message asks for a tool rather than for none: a softmax over the tools on offer and none."""
    rng = random.Random(SEED)
    by_hand = [*(one for path in TOOLS_DEV for one in from_file(path)), *natural_requests()]
    generated = list(from_generator("train", CONVERSATIONS))
    blocks: list[tuple[Floats, npt.NDArray[np.bool_], float]] = []

    def add(text: str, tools: tuple[dict[str, Any], ...], wanted: str, weight: float) -> None:
        offered = read_tools(tools)
        found = toolmatch.tool_features(offered, text, readers)
        rows = np.zeros((len(found) + 1, found.shape[1] + 1), np.float32)  # last row: none
        rows[:-1, :-1], rows[:-1, -1] = found, 1
        names = [*(tool.name for tool in offered), ""]
        blocks.append((rows, np.array([name == wanted for name in names]), weight))

    for one in (*generated, *by_hand):
        if one.source != "generated" or len(one.turns) == 1:
            add(one.turns[0], one.tools, one.tool, 1.0 if one.source == "generated" else BY_HAND)
    sets = [one.tools for one in by_hand] + [one.tools for one in generated[:60]]
    for asked in from_folder(NATURAL_SHOPS, "train"):
        if not asked.earlier:
            add(asked.text, rng.choice(sets), "", NO_REQUEST)
    *linear, bias = fit_order(blocks, np.zeros(len(toolmatch.TOOL_FEATURES) + 1))
    none = np.zeros(0, np.float32)
    return Odds(np.array(linear, np.float32), float(bias), np.zeros((len(linear), 0), np.float32), none, none)


def fit_odds(rows: Floats, labels: Floats, weights: Floats) -> Odds:
    """The mean of a logistic regression and of some small nets, as one model."""
    linear, bias = fit_logistic(rows, labels, weights)
    nets = [fit_net(rows, labels, weights, seed) for seed in range(NETS)]
    return Odds(
        (linear / 2 + sum(net.linear for net in nets) / NETS / 2).astype(np.float32),
        bias / 2 + sum(net.bias for net in nets) / NETS / 2,
        np.concatenate([net.into for net in nets], axis=1),
        np.concatenate([net.shift for net in nets]),
        (np.concatenate([net.out for net in nets]) / NETS / 2).astype(np.float32),
    )


def fit_logistic(rows: Floats, labels: Floats, weights: Floats) -> tuple[Doubles, float]:
    """Logistic regression: weights (features,) and bias."""
    middle, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    scaled = np.concatenate([(rows - middle) / spread, np.ones((len(rows), 1))], axis=1).astype(np.float64)
    draw = np.append(np.full(rows.shape[1], LOGISTIC_DRAW), 0.0)
    total = float(weights.sum())

    def loss(w: Doubles) -> tuple[float, Doubles, Doubles]:
        odds = 1 / (1 + np.exp(-np.clip(scaled @ w, -30, 30)))
        value = -(weights * (labels * np.log(odds + 1e-12) + (1 - labels) * np.log(1 - odds + 1e-12))).sum() / total
        slope = scaled.T @ (weights * (odds - labels)) / total + 2 * draw * w
        bend = (scaled * (weights * odds * (1 - odds))[:, None]).T @ scaled / total + 2 * np.diag(draw)
        return float(value + (draw * w) @ w), slope, bend

    found = descend(loss, np.zeros(scaled.shape[1]))
    plain = found[:-1] / spread
    return plain, float(found[-1] - plain @ middle)


def fit_net(rows: Floats, labels: Floats, weights: Floats, seed: int) -> Odds:
    """A net of UNITS bent units and a linear path, by Adam over all rows at once, its weights drawn to nought."""
    rng = np.random.default_rng(seed)
    middle, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    scaled = ((rows - middle) / spread).astype(np.float64)
    share, features = weights / weights.sum(), rows.shape[1]
    parts = [
        rng.normal(0, features**-0.5, (features, UNITS)),
        np.zeros(UNITS),
        rng.normal(0, UNITS**-0.5, UNITS),
        np.zeros(features),
        np.zeros(1),
    ]
    first, second = [np.zeros_like(part) for part in parts], [np.zeros_like(part) for part in parts]
    for step in range(1, STEPS + 1):
        into, shift, out, linear, bias = parts
        bent = np.tanh(scaled @ into + shift)
        odds = 1 / (1 + np.exp(-np.clip(bent @ out + scaled @ linear + bias, -30, 30)))
        slip = share * (odds - labels)
        back = np.outer(slip, out) * (1 - bent * bent)
        slopes = [
            scaled.T @ back + DECAY * into,
            back.sum(axis=0),
            bent.T @ slip + DECAY * out,
            scaled.T @ slip + 0.3 * DECAY * linear,
            slip.sum(keepdims=True),
        ]
        rate = 0.01 * (1 + math.cos(math.pi * step / STEPS))
        for i, slope in enumerate(slopes):
            first[i] = 0.9 * first[i] + 0.1 * slope
            second[i] = 0.99 * second[i] + 0.01 * slope * slope
            change = first[i] / (1 - 0.9**step) / (np.sqrt(second[i] / (1 - 0.99**step)) + 1e-9)
            parts[i] = parts[i] - rate * change
    into, shift, out, linear, bias = parts
    plain, steps = linear / spread, into / spread[:, None]
    single = [np.asarray(part, np.float32) for part in (plain, steps, shift - middle @ steps, out)]
    return Odds(single[0], float(bias[0] - middle @ plain), single[1], single[2], single[3])


def named(names: Sequence[str], weights: Sequence[float] | Doubles | Floats) -> dict[str, float]:
    """Weights by name, rounded."""
    return {name: round(float(weight), 4) for name, weight in zip(names, weights, strict=True)}


def write(constants: dict[str, Any]) -> None:
    """Store the constants and let the engine use them."""
    evidence.CALIBRATION.write_text(json.dumps(constants, indent=2) + "\n", encoding="utf-8")
    evidence.calibration.cache_clear()
    toolmatch.tool_odds.cache_clear()


def main() -> None:
    """Fit, write, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FAIRLEAD_DATA", "data")))
    parser.add_argument("--each-left-out", action="store_true", help="also show what it does without each shop")
    parser.add_argument("--keep", type=Path, help="with --each-left-out: where to keep it for compare_scorers")
    parser.add_argument("--tools-only", action="store_true", help="fit the choice of tools alone; the rest stays")
    options = parser.parse_args()
    if options.tools_only:
        kept = json.loads(evidence.CALIBRATION.read_text(encoding="utf-8"))
        write({**kept, "tool": fit_tools(shared()).stored(toolmatch.TOOL_FEATURES)})
        return
    readers = Readers(shared().embedder, Remembering(shared().scorer))
    asked = questions(options.data, readers.embedder)
    constants: dict[str, Any] = json.loads(evidence.CALIBRATION.read_text(encoding="utf-8"))
    constants["about"] = "Written by benchmarks/calibrate_answers.py; do not edit."
    constants["scorer"] = readers.scorer.digest
    prior = np.array([PRIOR.get(name, 0.0) for name in FEATURES])
    prepared = prepare(asked, readers.embedder)
    order = fit_order(first_rows(prepared), prior)
    constants["order"] = named(FEATURES, order)
    start = np.concatenate([order / 2, [READ_PRIOR.get(name, 0.0) for name in READ]])
    constants["choose"] = named((*FEATURES, *READ), start)
    write(constants)
    seen = see(prepared, readers)
    choose = fit_order(((read_rows(one), one.right, one.asked.weight) for one in seen if one.read), start)
    constants["choose"] = named((*FEATURES, *READ), choose)
    write(constants)
    seen = see(prepared, readers)
    told = observe(seen, readers)
    sure = fit_odds(told.rows, told.either, told.weights)
    constants["sure"] = sure.stored(SURENESS)
    odds = chances(sure, told.rows)
    hand = np.array([is_by_hand(source) for source in told.sources])
    some = hand | np.array([s == "shops" for s in told.sources])
    constants["answer_from"] = round(best_threshold(odds[some], told.either[some], told.answerable[some]), 3)
    unseen = each_left_out(told, odds)
    constants["sure_from"] = round(sure_threshold(unseen[hand], told.alone[hand]), 3)
    constants["likely_from"] = LIKELY
    constants["tool"] = fit_tools(shared()).stored(toolmatch.TOOL_FEATURES)
    write(constants)
    print({name: constants[name] for name in ("answer_from", "sure_from")})
    show("fitted", odds, told, constants["answer_from"])
    if options.each_left_out:
        show("confidence fitted without the shop", unseen, told, constants["answer_from"])
        apart = {one.source for one in (*from_folder(NATURAL_SHOPS, "calibration"), *from_blocks())}
        chosen = np.array([source in apart for source in told.sources])
        show_together(unseen, told, chosen)
        if options.keep:
            kept = {"odds": unseen[chosen], "right": told.either[chosen], "answerable": told.answerable[chosen]}
            np.savez(options.keep, allow_pickle=False, **kept)


def show(title: str, odds: Floats, told: Observed, threshold: float) -> None:
    """What becomes of the questions of each source."""
    print(f"{title}: source, n, right first, right with the second, answered rightly, refused, recognised")
    sources = np.array(told.sources)
    for source in sorted(set(told.sources)):
        here = sources == source
        there, absent = here & told.answerable, here & ~told.answerable
        said = odds >= threshold
        figures = [
            told.alone[there].mean() if there.any() else float("nan"),
            told.either[there].mean() if there.any() else float("nan"),
            (told.either * said)[there].mean() if there.any() else float("nan"),
            1 - said[there].mean() if there.any() else float("nan"),
            1 - said[absent].mean() if absent.any() else float("nan"),
        ]
        print(f"  {source:36s} {here.sum():5d} " + " ".join(f"{figure:6.3f}" for figure in figures))


def show_together(odds: Floats, told: Observed, chosen: npt.NDArray[np.bool_]) -> None:
    """How well right answers and unanswerable questions of some sources are told apart, at any threshold and at one."""
    there, absent = chosen & told.answerable, chosen & ~told.answerable
    above = np.subtract.outer(odds[there & (told.either > 0)], odds[absent])
    area = (above > 0).mean() + (above == 0).mean() / 2
    threshold = float(np.quantile(odds[absent], RECOGNISED))
    said = odds[there] >= threshold
    print(
        f"natural shops together, {there.sum()} + {absent.sum()}: area {area:.3f}; at {RECOGNISED:.0%} recognised "
        f"{(told.either[there] * said).mean():.3f} answered rightly, {1 - said.mean():.3f} refused"
    )


def sure_threshold(odds: Floats, labels: Floats, precision: float = 0.93) -> float:
    """The lowest confidence from which on the given share of answers is right."""
    order = np.argsort(-odds)
    shares = np.cumsum(labels[order]) / np.arange(1, len(order) + 1)
    good = np.nonzero(shares >= precision)[0]
    return float(odds[order[good[-1]]]) if len(good) else 0.95


if __name__ == "__main__":
    main()
