"""Sets the constants of the extractive engine (`calibration.json`) on wordings nothing was trained on.

    FAIRLEAD_DATA=... python -m benchmarks.calibrate_answers

Three sorts of questions: invented shops with the wordings of the split CALIBRATE, the frequently asked questions of
public venues that the embedder did not see (FAIRLEAD_DATA), and a small hand-written set on the reference shop's pages
(`benchmarks/data/answers_dev.json`). The units are ordered by a multinomial logistic model, the confidence is a
binary one on the first unit. The threshold to answer refuses at most REFUSED of the questions that are answered right.
The tests of `benchmarks/answers.py` use none of these wordings.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fairlead.assistant.knowledge import Knowledge
from fairlead.assistant.retrieve import Index
from fairlead.engines.embed.embedder import Embedder, shared
from fairlead.engines.extractive import answer, evidence, question
from fairlead.engines.extractive.units import cut
from training.embed_data import Split, is_held, load_topics, make_shop, read_faq

SHOPS = 150
REFUSED = 0.04
PASSAGES = 5
SEED = 7
# Where the weights are drawn to.
PRIOR = {
    "cosine": 2.0, "cosine with context": 2.0, "words": 1.0, "words with context": 1.0, "soft words": 1.0,
    "ideas": 1.5, "ideas with context": 1.0, "fit": 0.6, "rank": 0.5, "own words": 2.0, "things": 1.5,
    "row meant": 1.0, "row not meant": -1.0,
}  # fmt: skip
# Not fitted: no calibration question is a follow-up, and not every caller sorts its documents as well as we do.
FIXED = ("own words", "rank")
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Asked:
    """A question with the documents retrieval gave. ``right``: texts an answer must hold, empty if there is none."""

    source: str
    text: str
    earlier: tuple[str, ...]
    documents: list[dict[str, str]]
    right: tuple[str, ...]
    weight: float = 1.0


def holds(text: str, right: tuple[str, ...]) -> bool:
    """Whether a text holds everything a right answer must."""
    return all(part in text for part in right)


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


def from_pages(path: Path, folder: Path) -> Iterator[Asked]:
    """The hand-written questions on the reference shop's pages."""
    knowledge = Knowledge.load([folder])
    for row in json.loads(path.read_text(encoding="utf-8"))["questions"]:
        earlier = tuple(row.get("earlier", ()))
        found = knowledge.search(row["q"], PASSAGES, previous=earlier[-1] if earlier else "")
        documents = [{"id": p.id, "title": p.title, "text": p.text, "location": p.location} for p in found]
        yield Asked("pages", row["q"], earlier, documents, tuple(row["right"]), 3.0)


def fit_order(asked: list[Asked], embedder: Embedder) -> Floats:
    """Weights (features,) that put a right unit first: softmax over the units of a question."""
    groups: list[tuple[Floats, Floats, float]] = []
    for one in asked:
        if not one.right:
            continue
        query = question.standalone(one.text, one.earlier)
        matches = evidence.match(query, cut(one.documents, embedder), embedder)
        gold = np.array([holds(m.unit.text, one.right) and m.unit.kind != "list" for m in matches], np.float32)
        if len(matches) > 1 and 0 < gold.sum() < len(matches):
            groups.append((np.stack([m.features for m in matches]), gold / gold.sum(), one.weight))
    start = np.array([PRIOR.get(name, 0.0) for name in evidence.FEATURES])

    free = np.array([name not in FIXED for name in evidence.FEATURES])

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        total, gradient = (
            0.002 * len(groups) * float((weights - start) @ (weights - start)),
            0.004 * len(groups) * (weights - start),
        )
        for rows, gold, weight in groups:
            scores = rows @ weights
            odds = np.exp(scores - scores.max())
            odds /= odds.sum()
            right = odds * (gold > 0)
            right /= max(right.sum(), 1e-12)
            total -= weight * float(np.log(max(odds[gold > 0].sum(), 1e-12)))
            gradient -= weight * ((right - odds) @ rows)
        return total / len(groups), gradient / len(groups) * free

    return descend(loss, start).astype(np.float32)


def descend(
    loss: Callable[[npt.NDArray[np.float64]], tuple[float, npt.NDArray[np.float64]]], start: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Gradient descent with a step that grows while it helps and halves when it does not."""
    weights, step = start.copy(), 1.0
    value, gradient = loss(weights)
    for _ in range(400):
        trial = weights - step * gradient
        new, new_gradient = loss(trial)
        if new < value:
            done = value - new < 1e-7
            weights, value, gradient, step = trial, new, new_gradient, step * 1.3
            if done:
                break
        else:
            step /= 2
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
    scaled = np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1).astype(np.float64)

    def loss(w: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        z = scaled @ w
        odds = 1 / (1 + np.exp(-np.clip(z, -30, 30)))
        value = (
            -(weights * (labels * np.log(odds + 1e-12) + (1 - labels) * np.log(1 - odds + 1e-12))).sum() / weights.sum()
        )
        slope = scaled.T @ (weights * (odds - labels)) / weights.sum()
        return float(value + 0.0005 * w[:-1] @ w[:-1]), slope + 0.001 * np.append(w[:-1], 0)

    found = descend(loss, np.zeros(scaled.shape[1]))
    return found[:-1].astype(np.float32), float(found[-1])


def main() -> None:
    """Fit, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FAIRLEAD_DATA", "data")))
    parser.add_argument("--out", type=Path, default=evidence.CALIBRATION)
    options = parser.parse_args()
    embedder = shared()
    here = Path(__file__).parent
    asked = [
        *from_shops(Split.CALIBRATE, SHOPS, embedder),
        *from_faq(options.data, embedder),
        *from_pages(here / "data" / "answers_dev.json", here.parent / "examples" / "shop" / "knowledge"),
    ]
    order = fit_order(asked, embedder)
    constants = {
        "about": "Written by benchmarks/calibrate_answers.py; do not edit.",
        "order": {k: round(float(v), 4) for k, v in zip(evidence.FEATURES, order, strict=True)},
        "sure": dict.fromkeys(evidence.SURENESS, 0.0),
        "bias": 0.0,
        "answer_from": 0.5,
        "sure_from": 0.8,
    }
    options.out.write_text(json.dumps(constants, indent=2) + "\n", encoding="utf-8")
    evidence.calibration.cache_clear()
    rows, labels, weights, sources = observe(asked, embedder)
    sure, bias = fit_sureness(rows, labels, weights)
    odds = 1 / (1 + np.exp(-(rows @ sure + bias)))
    constants["sure"] = {k: round(float(v), 4) for k, v in zip(evidence.SURENESS, sure, strict=True)}
    constants["bias"] = round(bias, 4)
    right = np.sort(odds[labels > 0])
    constants["answer_from"] = threshold = round(float(right[int(REFUSED * len(right))]), 3)
    constants["sure_from"] = round(sure_threshold(odds, labels), 3)
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
