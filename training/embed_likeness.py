"""Fits `Likeness`, the judge of whether two messages say the same: `src/fairlead/engines/embed/weights/likeness.json`.

    python -m training.embed_likeness            # seconds; needs no torch. Run it again after new embedder weights

Learns from the training wordings of the invented shops' questions and facts (`embed_topics.txt`): two wordings of one
say the same; a wording with another number, place or thing, with the opposite word, or with a "not" does not, and
neither does a question on another topic of the same group. A logistic model on the numbers of `likeness.compare`,
fitted by Newton's method; no number may count towards "the same", since each tells a difference. The threshold is where
most more of the same than of the others pass. Knows nothing of the benchmark's near misses.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fairlead.engines.embed.embedder import Embedder, shared
from fairlead.engines.embed.likeness import FITTED, NAMES, compare
from training.embed_data import PRODUCTS, Split, Topic, load_topics

SEED, DRAW = 11, 0.01
EDITED, FOREIGN = 1.0, 0.5
Doubles = npt.NDArray[np.float64]
_PLACES = "Lisbon Hamburg Leeds Turin Lyon Norway Austria Spain Poland Ireland".split()
_SWAPS = [
    ("within", "after"), ("before", "after"), ("until", "after"), ("on", "off"), ("with", "without"), ("open", "close"),
    ("add", "remove"), ("cancel", "confirm"), ("return", "keep"), ("big", "small"), ("too", "not too"),
    ("early", "late"), ("send", "receive"), ("new", "used"), ("free", "paid"), ("to", "from"), ("can i", "can you"),
    ("me", "you"), ("my", "your"), ("do you", "do i"), ("long", "short"), ("in", "out of"), ("online", "in store"),
    ("over", "under"), ("more", "less"), ("cheap", "expensive"), ("activate", "deactivate"), ("buy", "sell"),
]  # fmt: skip
_FRAMES = [
    "{}",
    "{}",
    "{} before {n} days",
    "{} within {n} days",
    "{} for {n} euros",
    "{} for {n} people",
    "{} in {c}",
    "{} from {c} to {d}",
]
_STATEMENTS = [("i want", "i don't want"), ("i need", "i don't need"), ("is broken", "is not broken")]
_STATEMENTS += [
    ("i have", "i have not"),
    ("it is", "it is not"),
    ("i was", "i was not"),
    ("has arrived", "has not arrived"),
]

_STATEMENTS += [("does not", "does"), ("doesn't", "does"), ("can't", "can"), ("cannot", "can"), ("don't", "do")]
_STATEMENTS += [
    ("are", "are not"),
    ("will", "will not"),
    ("we", "we never"),
    ("is", "is not"),
    ("you can", "you cannot"),
]
_STATEMENTS += [("hasn't", "has"), ("didn't", "did"), ("not", "really"), ("i am", "i am not"), ("never", "always")]
_EXCHANGE = {"i": "you", "my": "your", "me": "you", "you": "i", "your": "my"}


def examples(topics: list[Topic], rng: random.Random) -> list[tuple[str, str, bool, float]]:
    """(one text, another, whether they say the same, weight), about as much weight on either side."""
    found: list[tuple[str, str, bool, float]] = []
    for topic in topics:
        others = [t for t in topics if t.group == topic.group and t.name != topic.name]
        for asked in (True, False):
            wordings = topic.questions_of(Split.TRAIN) if asked else topic.facts_of(Split.TRAIN)
            foreign = [w for t in others for w in (t.questions_of(Split.TRAIN) if asked else t.facts_of(Split.TRAIN))]
            for wording in wordings:
                for again in rng.sample(wordings, min(3, len(wordings))):
                    if again != wording:
                        frame, values = rng.choice(_FRAMES) if asked else "{}", _values(rng)
                        one, two = (frame.replace("{}", text.rstrip("?. ")) for text in (wording, again))
                        found.append((_fill(one, values), _fill(two, values), True, 1.0))
                        edited = _edits(rng, one, values)
                        found += [(_fill(one, values), text, False, EDITED / len(edited)) for text in edited]
                if foreign:
                    values = _values(rng)
                    found.append((_fill(wording, values), _fill(rng.choice(foreign), values), False, FOREIGN))
    return found


def _values(rng: random.Random) -> dict[str, str]:
    here, there = rng.sample(_PLACES, 2)
    return {
        "n": str(rng.choice([2, 3, 5, 7, 10, 14, 20, 30, 45, 60])),
        "c": here,
        "d": there,
        "prod": rng.choice(PRODUCTS),
    }


def _fill(text: str, values: dict[str, str]) -> str:
    filled = re.sub(r"\{([a-z]+)\d*\}", lambda m: values.get(m.group(1), values["n"]), text)
    return re.sub(r"\s+", " ", filled)


def _edits(rng: random.Random, text: str, values: dict[str, str]) -> list[str]:
    """The text with one thing changed, in every way the rules know."""
    filled = _fill(text, values)
    made = [_fill(text, values | {slot: _other(rng, slot, values)}) for slot in values if "{" + slot + "}" in text]
    lower = f" {filled.lower()} "
    for a, b in [*_SWAPS, *((b, a) for a, b in _SWAPS), *_STATEMENTS]:
        if f" {a} " in lower:
            made.append(lower.replace(f" {a} ", f" {b} ", 1).strip())
    exchanged = " ".join(_EXCHANGE.get(word, word) for word in filled.lower().split())
    if {"i", "my", "me"} & set(lower.split()) and {"you", "your"} & set(lower.split()):
        made.append(exchanged)
    if "{d}" in text:
        made.append(_fill(text, values | {"c": values["d"], "d": values["c"]}))
    return [m for m in made if m != filled]


def _other(rng: random.Random, slot: str, values: dict[str, str]) -> str:
    while (value := _values(rng)[slot]) == values[slot]:
        pass
    return value


def fit(features: Doubles, same: Doubles, weights: Doubles) -> tuple[Doubles, float]:
    """Weights (names,), none above 0, and the bias of a logistic model drawn to 0."""
    free = np.ones(features.shape[1], bool)
    while True:
        solved = _newton(features[:, free], same, weights)
        if (solved[:-1] <= 0).all():
            full = np.zeros(features.shape[1])
            full[free] = solved[:-1]
            return full, float(solved[-1])
        kept = np.flatnonzero(free)
        free[kept[int(solved[:-1].argmax())]] = False


def _newton(features: Doubles, same: Doubles, weights: Doubles) -> Doubles:
    x = np.hstack([features, np.ones((len(features), 1))])
    solved = np.zeros(x.shape[1])
    ridge = DRAW * len(x) / 100 * np.diag([*np.ones(features.shape[1]), 0.0])
    for _ in range(30):
        odds = 1 / (1 + np.exp(-x @ solved))
        slope = x.T @ (weights * (same - odds)) - ridge @ solved
        bend = (x * (weights * odds * (1 - odds))[:, None]).T @ x + ridge
        solved = solved + np.linalg.solve(bend + 1e-9 * np.eye(len(bend)), slope)
    return solved


def best_threshold(odds: Doubles, same: Doubles, weights: Doubles) -> tuple[float, float, float]:
    """The threshold with the widest gap between the shares of the same and of the others that reach it, and both."""
    order = np.argsort(-odds, kind="stable")
    yes = np.cumsum((weights * same)[order]) / (weights * same).sum()
    no = np.cumsum((weights * (1 - same))[order]) / (weights * (1 - same)).sum()
    best = int((yes - no).argmax())
    return float(odds[order[best]]), float(yes[best]), float(no[best])


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=FITTED)
    options = parser.parse_args()
    embedder: Embedder = shared()
    pairs = examples(load_topics(), random.Random(SEED))
    features = np.array([compare(one, other, embedder) for one, other, _, _ in pairs])
    same = np.array([float(is_same) for _, _, is_same, _ in pairs])
    weights = np.array([weight for *_, weight in pairs])
    solved, bias = fit(features, same, weights)
    odds = 1 / (1 + np.exp(-(features @ solved + bias)))
    threshold, passed, let_in = best_threshold(odds, same, weights)
    document = {
        "embedder": embedder.digest,
        "made_by": "python -m training.embed_likeness",
        "pairs": len(pairs),
        "bias": round(bias, 4),
        "threshold": round(threshold, 4),
        "weights": {name: round(float(weight), 4) for name, weight in zip(NAMES, solved, strict=True)},
    }
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=2))
    print(f"taken for the same: {passed:.3f} of the same, {let_in:.3f} of the others")


if __name__ == "__main__":
    main()
