"""Sets the constants of the extractive engine (`calibration.json`) on wordings nothing was trained on.

    FAIRLEAD_DATA=... python -m benchmarks.calibrate_answers [--without SHOP --out FILE]

Three sorts of questions: invented shops with the wordings of the split CALIBRATE, the frequently asked questions of
public venues that the embedder did not see (FAIRLEAD_DATA), and hand-written ones, which count most: four invented
shops (`benchmarks/data/answers_shops`) and the reference shop (`answers_dev.json` and its `data/questions.jsonl`).
The units are ordered by a multinomial logistic model, the confidence is a binary one on the first unit. The threshold
to answer recognises the share RECOGNISED of the hand-written questions that the pages do not answer. The tests of
`benchmarks/answers.py` use none of these wordings.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.assistant.knowledge import Knowledge
from fairlead.assistant.retrieve import Index
from fairlead.engines.embed.embedder import Embedder, shared
from fairlead.engines.extractive import answer, evidence, question
from fairlead.engines.extractive.units import cut
from training.embed_data import Split, is_held, load_topics, make_shop, read_faq

SHOPS = 60
RECOGNISED = 0.74  # share of the hand-written questions without an answer that the threshold must recognise
DRAW = 0.002  # how strongly the weights are drawn to PRIOR
PASSAGES = 8
NATURAL = 4.0  # weight of a hand-written question, one of an invented wording counting 1
UNANSWERABLE = 8.0  # of a hand-written one that the pages do not answer: there are few
SEED = 7
# Where the weights are drawn to.
PRIOR = {
    "cosine": 2.0, "cosine with context": 2.0, "words": 1.0, "words with context": 1.0, "soft words": 1.0,
    "ideas": 1.5, "ideas with context": 1.0, "fit": 0.6, "rank": 0.5, "own words": 2.0, "things": 1.5,
    "row meant": 1.0, "row not meant": -1.0,
}  # fmt: skip
TAKEN_OUT = 1.0
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
            yield Asked("shops", asked.text, (), documents, asked.values)


def from_faq(data: Path, embedder: Embedder) -> Iterator[Asked]:
    """Questions on public venues held out of training: the answer among four others, or four others only."""
    rng = random.Random(SEED)
    venues: dict[str, list[tuple[str, str]]] = {}
    for venue, asked, told in read_faq(data):
        if is_held(venue):
            venues.setdefault(venue, []).append((asked, told))
    for pairs in venues.values():
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


def fit_order(asked: list[Asked], embedder: Embedder) -> Floats:
    """Weights (features,) that put a right unit first: softmax over the units of a question."""
    blocks, golds, weights = [], [], []
    for one in asked:
        if not one.right:
            continue
        query = question.standalone(one.text, one.earlier)
        matches = evidence.match(query, cut(one.documents, embedder), embedder)
        gold = np.array([holds(m.unit.text, one.right) and m.unit.kind != "list" for m in matches], bool)
        if gold.any() and not gold.all():
            blocks.append(np.stack([m.features for m in matches]).astype(np.float64))
            golds.append(gold)
            weights.append(one.weight)
    rows, gold, weight = np.concatenate(blocks), np.concatenate(golds), np.array(weights)
    sizes = [len(block) for block in blocks]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    group = np.repeat(np.arange(len(blocks)), sizes)
    start = np.array([PRIOR.get(name, 0.0) for name in evidence.FEATURES])

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

    return descend(loss, start).astype(np.float32)


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


def observe(asked: list[Asked], embedder: Embedder) -> tuple[Floats, Floats, Floats, list[str]]:
    """(features, whether the quote is right, weights, source) of every question with any match."""
    rows, labels, weights, sources = [], [], [], []
    for one in asked:
        query = question.standalone(one.text, one.earlier)
        matches = [
            m for m in evidence.match(query, cut(one.documents, embedder), embedder) if not answer.is_lead(m.unit)
        ]
        if matches:
            rows.append(evidence.sureness(query, matches, embedder))
            labels.append(bool(one.right) and holds(answer.compose(query, matches)[0], one.right))
            weights.append(one.weight)
            sources.append(one.source + ("" if one.right else " without an answer"))
    return np.stack(rows), np.array(labels, np.float32), np.array(weights, np.float32), sources


def fit_sureness(rows: Floats, labels: Floats, weights: Floats) -> tuple[Floats, float]:
    """Logistic regression: weights (SURENESS,) and bias."""
    middle, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    scaled = np.concatenate([(rows - middle) / spread, np.ones((len(rows), 1))], axis=1).astype(np.float64)
    draw = np.append(np.full(rows.shape[1], 0.005), 0.0)
    total = float(weights.sum())

    def loss(w: Doubles) -> tuple[float, Doubles, Doubles]:
        odds = 1 / (1 + np.exp(-np.clip(scaled @ w, -30, 30)))
        value = -(weights * (labels * np.log(odds + 1e-12) + (1 - labels) * np.log(1 - odds + 1e-12))).sum() / total
        slope = scaled.T @ (weights * (odds - labels)) / total + 2 * draw * w
        bend = (scaled * (weights * odds * (1 - odds))[:, None]).T @ scaled / total + 2 * np.diag(draw)
        return float(value + (draw * w) @ w), slope, bend

    found = descend(loss, np.zeros(scaled.shape[1]))
    plain = found[:-1] / spread
    return plain.astype(np.float32), float(found[-1] - plain @ middle)


def main() -> None:
    """Fit, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FAIRLEAD_DATA", "data")))
    parser.add_argument("--out", type=Path, default=evidence.CALIBRATION)
    parser.add_argument("--without", default="", help="a shop that is only measured, with --out elsewhere")
    options = parser.parse_args()
    embedder = shared()
    asked = [
        *from_shops(Split.CALIBRATE, SHOPS, embedder),
        *from_faq(options.data, embedder),
        *from_hand(),
    ]
    order = fit_order([one for one in asked if not options.without or options.without not in one.source], embedder)
    constants = {
        "about": "Written by benchmarks/calibrate_answers.py; do not edit.",
        "order": {k: round(float(v), 4) for k, v in zip(evidence.FEATURES, order, strict=True)},
        "sure": dict.fromkeys(evidence.SURENESS, 0.0),
        "bias": 0.0,
        "answer_from": 0.5,
        "sure_from": 0.8,
    }
    options.out.write_text(json.dumps(constants, indent=2) + "\n", encoding="utf-8")
    evidence.CALIBRATION = options.out
    evidence.calibration.cache_clear()
    rows, labels, weights, sources = observe(asked, embedder)
    used = np.array([not options.without or options.without not in s for s in sources])
    sure, bias = fit_sureness(rows[used], labels[used], weights[used])
    odds = 1 / (1 + np.exp(-(rows @ sure + bias)))
    constants["sure"] = {k: round(float(v), 4) for k, v in zip(evidence.SURENESS, sure, strict=True)}
    constants["bias"] = round(bias, 4)
    hand = used & np.array([not s.startswith(("shops", "faq")) and "taken out" not in s for s in sources])
    absent = odds[hand & np.array([s.endswith("without an answer") for s in sources])]
    constants["answer_from"] = threshold = round(float(np.quantile(absent, RECOGNISED)), 3)
    constants["sure_from"] = round(sure_threshold(odds[hand], labels[hand]), 3)
    options.out.write_text(json.dumps(constants, indent=2) + "\n", encoding="utf-8")
    for source in sorted(set(sources)):
        mask = np.array([s == source for s in sources])
        said = odds[mask] >= threshold
        good, right = (said * labels[mask]).mean(), labels[mask].mean()
        print(f"{source}: n {mask.sum()}, right first {right:.3f}, answered {said.mean():.3f}, and right {good:.3f}")
    print({k: constants[k] for k in ("answer_from", "sure_from", "bias")})


def sure_threshold(odds: Floats, labels: Floats, precision: float = 0.93) -> float:
    """The lowest confidence from which on the given share of answers is right."""
    order = np.argsort(-odds)
    shares = np.cumsum(labels[order]) / np.arange(1, len(order) + 1)
    good = np.nonzero(shares >= precision)[0]
    return float(odds[order[good[-1]]]) if len(good) else 0.95


if __name__ == "__main__":
    main()
