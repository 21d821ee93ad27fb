"""How good the embedder is beside TF-IDF and character n-grams, on what its training never saw; and what it costs.

    FAIRLEAD_DATA=... make bench NAME=embed        # with --card the figures are also written into the weights' card

Intents: five examples of each held-out intent make a centroid, the other utterances are sorted to the nearest one.
Retrieval: the right answer among the venue's answers, held-out venues; the right passage sentence of an invented shop,
held-out wordings. Near misses: pairs that differ in one decisive word must not be called the same.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.answers import wilson
from benchmarks.report import Report
from fairlead.engines.embed.embedder import WEIGHTS, Embedder, shared
from fairlead.engines.embed.words import words_of
from training.embed_data import Split, is_held, load_topics, make_shop, read_faq, read_intents

Floats = npt.NDArray[np.float32]
Encoder = Callable[[Sequence[str], Sequence[str]], tuple[Floats, Floats]]
EXAMPLES, MOST, MOST_ANSWERS, SHOPS = 5, 40, 60, 40
# (a question, the same in other words, a near miss that means something else)
TRIPLES = [
    ("refund within 30 days", "money back up to 30 days", "refund after 30 days"),
    ("can I return it", "is it possible to send it back", "can I not return it"),
    ("cancel my subscription", "end my monthly plan", "cancel my order"),
    ("where is order 10423", "status of my order 10423", "where is order 10432"),
    ("turn on two-factor login", "enable 2FA", "turn off two-factor login"),
    ("deliver to my home", "bring it to my door", "collect at the store"),
    ("the parcel arrived", "I got the package", "the parcel did not arrive"),
    ("pay before delivery", "payment in advance", "pay after delivery"),
    ("the size is too small", "it is too tight", "the size is too big"),
    ("you charged me twice", "the money was taken two times", "you refunded me twice"),
]


def words_vectors(base: Sequence[str], queries: Sequence[str], *, size: int = 0) -> tuple[Floats, Floats]:
    """TF-IDF vectors of words and pairs of words, or (size > 0) of character n-grams up to that length."""
    bags = [_grams(text, size) for text in [*base, *queries]]
    spread = Counter(term for bag in bags[: len(base)] for term in bag)
    column = {term: i for i, term in enumerate(spread)}
    out = np.zeros((len(bags), len(column)), np.float32)
    for i, bag in enumerate(bags):
        for term, count in bag.items():
            if term in column:
                out[i, column[term]] = (1 + math.log(count)) * (1 + math.log((1 + len(base)) / (1 + spread[term])))
    out /= np.linalg.norm(out, axis=1, keepdims=True) + 1e-9
    return out[: len(base)], out[len(base) :]


def _grams(text: str, size: int) -> Counter[str]:
    words = words_of(text)
    if not size:
        return Counter([*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))])
    padded = f" {' '.join(words)} "
    return Counter(padded[i : i + n] for n in range(3, size + 1) for i in range(len(padded) - n + 1))


def char_vectors(base: Sequence[str], queries: Sequence[str]) -> tuple[Floats, Floats]:
    """TF-IDF vectors of 3- to 5-grams of characters."""
    return words_vectors(base, queries, size=5)


def our_vectors(base: Sequence[str], queries: Sequence[str]) -> tuple[Floats, Floats]:
    """The embedder's."""
    return shared().encode(base), shared().encode(queries)


ENCODERS: dict[str, Encoder] = {"embed": our_vectors, "TF-IDF": words_vectors, "char n-grams": char_vectors}


def intents(rows: list[tuple[str, str]], encoder: Encoder) -> tuple[int, int]:
    """(right, of) held-out intents told apart by the nearest centroid of EXAMPLES examples."""
    rows = [row for row in rows if is_held(row[1])]
    random.Random(1).shuffle(rows)
    by_intent: dict[str, list[str]] = {}
    for text, intent in rows:
        by_intent.setdefault(intent, []).append(text)
    names = sorted(by_intent)
    base = [text for name in names for text in by_intent[name][:EXAMPLES]]
    queries = [(k, text) for k, name in enumerate(names) for text in by_intent[name][EXAMPLES : EXAMPLES + MOST]]
    known, asked = encoder(base, [text for _, text in queries])
    centres = known.reshape(len(names), EXAMPLES, -1).mean(axis=1)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True) + 1e-9
    guesses = (asked @ centres.T).argmax(axis=1)
    return int(sum(guess == k for guess, (k, _) in zip(guesses, queries, strict=True))), len(queries)


def answers(data: Path, encoder: Encoder) -> tuple[int, int]:
    """(right first, of) questions whose answer is sought among those of the same held-out venue."""
    venues: dict[str, list[tuple[str, str]]] = {}
    for venue, asked, told in read_faq(data):
        if is_held(venue):
            venues.setdefault(venue, []).append((asked, told))
    hits = total = 0
    for rows in venues.values():
        distinct = list(dict.fromkeys(rows))[:MOST_ANSWERS]
        known, asked_vectors = encoder([told for _, told in distinct], [asked for asked, _ in distinct])
        hits += int(((asked_vectors @ known.T).argmax(axis=1) == np.arange(len(distinct))).sum())
        total += len(distinct)
    return hits, total


def sentences(encoder: Encoder) -> tuple[int, int]:
    """(right first, of) questions on invented shops, all sentences of the shop competing, held-out wordings."""
    topics = load_topics()
    hits = total = 0
    for seed in range(SHOPS):
        shop = make_shop(seed, Split.TEST, topics)
        facts = [(topic, f"{p.title}. {fact}") for p in shop.passages for topic, fact in p.facts.items()]
        questions = [q for q in shop.questions if q.sentence]
        known, asked = encoder([text for _, text in facts], [q.text for q in questions])
        guesses = (asked @ known.T).argmax(axis=1)
        hits += sum(facts[g][0] == q.topic for g, q in zip(guesses, questions, strict=True))
        total += len(questions)
    return hits, total


def near_misses(encoder: Encoder) -> tuple[int, int]:
    """(paraphrase closer than the near miss, of) the hand-written triples."""
    flat = [text for triple in TRIPLES for text in triple]
    vectors, _ = encoder(flat, [])
    hits = sum(float(vectors[i] @ vectors[i + 1]) > float(vectors[i] @ vectors[i + 2]) for i in range(0, len(flat), 3))
    return hits, len(TRIPLES)


def cost(embedder: Embedder, texts: Sequence[str]) -> float:
    """CPU microseconds to encode one message alone."""
    start = time.process_time_ns()
    for text in texts:
        embedder.encode([text])
    return (time.process_time_ns() - start) / 1000 / len(texts)


def main() -> int:
    """Measure, print, and with --card write the figures into the card."""
    data = Path(os.environ.get("FAIRLEAD_DATA", "data"))
    have = (data / "banking77").is_dir()
    report = Report("embed", note="" if have else "FAIRLEAD_DATA is not set: only our own sets were measured.")
    tasks: list[tuple[str, Callable[[Encoder], tuple[int, int]]]] = [
        ("invented shops: right sentence first", sentences),
        ("near misses: paraphrase closer", near_misses),
    ]
    if have:
        rows = read_intents(data)
        tasks += [(f"{name}: held-out intent", lambda e, name=name: intents(rows[name], e)) for name in rows]  # type: ignore[misc]
        tasks.append(("dstc9-faq: right answer first", lambda e: answers(data, e)))
    card: dict[str, dict[str, float]] = {}
    for name, task in tasks:
        found = {label: task(encoder) for label, encoder in ENCODERS.items()}
        card[name] = {label: round(100 * hits / n, 1) for label, (hits, n) in found.items()} | {"n": found["embed"][1]}
        hits, n = found["embed"]
        low, high = wilson(hits, n)
        for peer in ("TF-IDF", "char n-grams"):
            report.add(name, 100 * hits / n, "%", n=n, low=low, high=high, peer=peer, peer_value=card[name][peer])
    topics = load_topics()
    messages = [q.text for seed in range(20) for q in make_shop(seed, Split.TEST, topics).questions]
    report.add("CPU of a message", cost(shared(), messages), "µs", n=len(messages), target="<= 100")
    report.add("weights", WEIGHTS.stat().st_size / 1e6, "MB", target="<= 8")
    if "--card" in sys.argv and have:
        path = WEIGHTS.with_suffix(".json")
        path.write_text(
            json.dumps({**json.loads(path.read_text()), "figures": card}, indent=2) + "\n", encoding="utf-8"
        )
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
