"""Trains the static subword embedder `src/fairlead/engines/embed/weights/embed.npz` and measures it.

    FAIRLEAD_DATA=... python -m training.embed            # about four minutes on one core; needs torch
    FAIRLEAD_DATA=... python -m training.embed --steps 200 --out /tmp/try

Two stages. First, word vectors from counts: positive pointwise mutual information of words within five places
(Levy and Goldberg 2014) in permissively licensed dialogue, reduced by a truncated singular value decomposition.
Second, contrastive (InfoNCE) training on pairs that belong together: question and passage or question and question of
invented shops, utterances of one intent, question and answer, a turn and its reply. The vector of a word is its own
row plus the mean of its character n-grams; words lose their own row now and then, so that the n-grams learn to stand
alone. Whole intents (two fifths), question wordings and venues are held out for the figures on the card, which
`python -m benchmarks.embed --card` fills in.

Knows nothing of the engine that uses the vectors; writes what `Embedder.load` reads.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from fairlead.engines.embed.words import BUCKETS, buckets_of, words_of
from training.embed_data import (
    OFF_TOPIC,
    Shop,
    Split,
    is_held,
    load_topics,
    make_shop,
    read_faq,
    read_intents,
    read_shard,
    roughen,
)

SEED = 20240229
VOCABULARY, DIMENSION, WINDOW = 20000, 128, 5
SMOOTHING = 1e-3  # a of the start weights a / (a + p(word)), Arora et al. 2017
WORD_DROP, TEMPERATURE, LONGEST = 0.15, 0.05, 48
TEXT_DROP = 0.2  # odds that a word of a text is left out in training, so that no wording is learnt by heart
ANCHOR = 0.1  # pull of the word vectors towards those of stage one
RATE = 2e-3
# Permissive shards only: no share-alike text goes into the weights.
DIALOGUE = [
    "self-dialogue",
    "star",
    "multiwoz21-devtest",
    "taskmaster4",
    "ms-chitchat",
    "dstc9-faq",
    "multidogo-customer",
]
PROSE = ["clapnq-dev", "mtrag-un", "gutenberg-children", "gsm8k-train"]
DATA_LICENCES = {
    "bitext": "CDLA-Sharing-1.0",
    "banking77": "CC BY 4.0",
    "clinc_oos": "CC BY 3.0",
    "dstc9-faq": "Apache-2.0",
    "star": "MIT",
    "multiwoz21-devtest": "MIT",
    "taskmaster4": "CC BY 4.0",
    "ms-chitchat": "MIT",
    "multidogo-customer": "CDLA-Permissive-1.0",
    "self-dialogue": "BSD-3-Clause",
    "clapnq-dev": "Apache-2.0",
    "mtrag-un": "Apache-2.0",
    "gsm8k-train": "MIT",
    "gutenberg-children": "public domain",
    "training/embed_topics.txt": "Apache-2.0 (own)",
    "engines/extractive/concepts.txt": "Apache-2.0 (own)",
}
IDEAS = Path(__file__).parent.parent / "src" / "fairlead" / "engines" / "extractive" / "concepts.txt"
Labelled = list[tuple[str, str]]


@dataclass(frozen=True)
class Pairs:
    """One source of pairs: texts that belong together; equal labels in a batch are no negatives (empty: none equal)."""

    name: str
    left: list[str]
    right: list[str]
    labels: list[str]
    share: float


# ---------------------------------------------------------------- reading
def read_texts(data: Path) -> list[list[str]]:
    """Every text of the permissive corpus as folded words, for counting."""
    texts: list[list[str]] = []
    for source in DIALOGUE + PROSE:
        for record in read_shard(data, source):
            if source == "dstc9-faq" and is_held(record["context"]):
                continue
            parts = [record["text"]] if "text" in record else [t for _, t in record["turns"]]
            texts += [words_of(part) for part in parts]
            if record.get("context"):
                texts.append(words_of(record["context"][:4000]))
    with (data / "bitext" / "bitext_responses_dev.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            texts += [words_of(row["instruction"]), words_of(row["response"])]
    for rows in read_intents(data).values():
        texts += [words_of(text) for text, intent in rows if not is_held(intent)]
    return texts


def invented(count: int) -> list[Shop]:
    """Shops with training wordings only."""
    topics = load_topics()
    return [make_shop(i, Split.TRAIN, topics) for i in range(count)]


def shop_pairs(shops: list[Shop]) -> tuple[Pairs, Pairs]:
    """(question, sentence with its heading), (question, another wording of it)."""
    rng = random.Random(SEED)
    topics = load_topics()
    left: list[str] = []
    right: list[str] = []
    labels: list[str] = []
    for shop in shops:
        title = {p.id: p.title for p in shop.passages}
        for q in shop.questions:
            if q.sentence:
                left.append(q.text)
                right.append(f"{title[q.passage]}. {q.sentence}" if rng.random() < 0.5 else q.sentence)
                labels.append(q.topic)
    again: tuple[list[str], list[str], list[str]] = ([], [], [])
    for _ in range(len(left)):
        topic = rng.choice(topics)
        a, b = rng.sample(topic.questions_of(Split.TRAIN), 2)
        for side, text in zip(again, (a, b), strict=False):
            side.append(roughen(rng, text.replace("{prod}", "one").replace("{", "").replace("}", ""), 0.2))
        again[2].append(topic.name)
    return Pairs("shops", left, right, labels, 1.0), Pairs("shop-questions", *again, 0.5)


def intent_pairs(name: str, rows: Labelled, share: float) -> Pairs:
    """Two utterances of one intent, of the intents not held out."""
    rng = random.Random(SEED)
    by_intent: dict[str, list[str]] = {}
    for text, intent in rows:
        if not is_held(intent):
            by_intent.setdefault(intent, []).append(text)
    left: list[str] = []
    right: list[str] = []
    labels: list[str] = []
    for intent, texts in by_intent.items():
        for text in texts:
            left.append(roughen(rng, text, 0.1))
            right.append(rng.choice(texts))
            labels.append(intent)
    return Pairs(name, left, right, labels, share)


def turn_pairs(data: Path, source: str, most: int, share: float) -> Pairs:
    """A turn and the reply to it, both of three words or more."""
    left: list[str] = []
    right: list[str] = []
    for record in read_shard(data, source):
        turns = [t for _, t in record["turns"]]
        for a, b in itertools.pairwise(turns):
            if len(a.split()) > 2 and len(b.split()) > 2:
                left.append(a)
                right.append(b)
    chosen = random.Random(SEED).sample(range(len(left)), min(most, len(left)))
    return Pairs(source, [left[i] for i in chosen], [right[i] for i in chosen], [], share)


def idea_pairs(path: Path, share: float) -> Pairs:
    """Two wordings of one idea of the extractive engine, in a short frame or bare."""
    rng = random.Random(SEED)
    frames = ["{}", "{}", "what about {}", "tell me about {}", "is there {}", "question about {}"]
    left: list[str] = []
    right: list[str] = []
    labels: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, wordings = line.partition(": ")
            listed = [w.strip() for w in wordings.split(",")]
            for wording in listed * 4:
                left.append(rng.choice(frames).format(wording))
                right.append(rng.choice(listed))
                labels.append(name)
    return Pairs("ideas", left, right, labels, share)


def read_pairs(data: Path) -> list[Pairs]:
    """Every source of pairs with its share of the batches."""
    intents = read_intents(data)
    faq = [(q, a) for venue, q, a in read_faq(data) if not is_held(venue)]
    with (data / "bitext" / "bitext_responses_dev.csv").open(encoding="utf-8") as file:
        replies = [row for row in csv.DictReader(file) if not is_held(row["intent"])]
    return [
        *shop_pairs(invented(1500)),
        intent_pairs("banking77", intents["banking77"], 1.0),
        intent_pairs("clinc", intents["clinc"], 1.0),
        intent_pairs("bitext", intents["bitext"], 0.5),
        Pairs(
            "bitext-replies",
            [row["instruction"] for row in replies],
            [row["response"] for row in replies],
            [row["intent"] for row in replies],
            0.5,
        ),
        Pairs("dstc9-faq", [q for q, _ in faq], [a for _, a in faq], [], 1.5),
        idea_pairs(IDEAS, 1.0),
        turn_pairs(data, "star", 60000, 0.5),
        turn_pairs(data, "self-dialogue", 150000, 1.5),
        turn_pairs(data, "multiwoz21-devtest", 30000, 0.5),
        turn_pairs(data, "clapnq-dev", 1000, 0.2),
    ]


# ---------------------------------------------------------------- stage one: counts
def count_words(texts: list[list[str]], pairs: list[Pairs]) -> Counter[str]:
    """How often each word occurs, the words of the pairs included."""
    counts: Counter[str] = Counter()
    for words in texts:
        counts.update(words)
    for source in pairs:
        for text in {*source.left, *source.right}:
            counts.update(words_of(text))
    return counts


def cooccurrence(texts: list[list[str]], row: dict[str, int]) -> npt.NDArray[np.float32]:
    """Weighted counts (V, V) of words within WINDOW places, weight 1 / distance."""
    size = len(row)
    matrix = np.zeros((size, size), np.float32)
    flat: list[int] = []
    for words in texts:
        flat += [row.get(w, -1) for w in words]
        flat += [-1] * WINDOW
    ids = np.array(flat, np.int64)
    for distance in range(1, WINDOW + 1):
        a, b = ids[:-distance], ids[distance:]
        keep = (a >= 0) & (b >= 0)
        keys, counts = np.unique(a[keep] * size + b[keep], return_counts=True)
        np.add.at(matrix.reshape(-1), keys, (counts / distance).astype(np.float32))
    matrix += matrix.T
    return matrix


def reduce_counts(matrix: npt.NDArray[np.float32], dimension: int) -> npt.NDArray[np.float32]:
    """Word vectors (V, d) of length about one: randomised SVD of the positive PMI (context distribution to the .75)."""
    total = matrix.sum()
    rows = matrix.sum(axis=1)
    columns = rows**0.75
    columns /= columns.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        matrix /= rows[:, None] / 1.0
        matrix /= columns[None, :]
        np.log(matrix, out=matrix)
    matrix[~np.isfinite(matrix) | (matrix < 0)] = 0
    del total
    generator = np.random.default_rng(SEED)
    basis = matrix @ generator.standard_normal((matrix.shape[1], dimension + 16), dtype=np.float32)
    for _ in range(3):
        basis, _ = np.linalg.qr(matrix @ (matrix.T @ basis))
    small = basis.T @ matrix
    u, s, _ = np.linalg.svd(small, full_matrices=False)
    vectors = (basis @ u[:, :dimension]) * np.sqrt(s[:dimension])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-6
    return np.asarray(vectors, np.float32)


# ---------------------------------------------------------------- stage two: pairs
class Table(torch.nn.Module):  # type: ignore[misc,unused-ignore]  # torch is not in every environment
    """The trainable tables. The last row weight is the weight of words outside the vocabulary."""

    def __init__(self, vocabulary: list[str], start: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> None:
        super().__init__()
        self.row = {w: i for i, w in enumerate(vocabulary)}
        self.words = torch.nn.Parameter(torch.from_numpy(start.copy()))
        grams = np.zeros((BUCKETS, start.shape[1]), np.float32)
        seen = np.zeros(BUCKETS, np.float32)
        for i, word in enumerate(vocabulary):
            for bucket in buckets_of(word):
                grams[bucket] += start[i]
                seen[bucket] += 1
        self.grams = torch.nn.Parameter(torch.from_numpy(grams / np.maximum(seen, 1)[:, None]))
        self.log_weights = torch.nn.Parameter(torch.from_numpy(np.log(weights)))

    def compose(self, words: list[str], drop: float) -> Tensor:
        """Vectors (n, d) of words: own row (unless dropped or unknown) plus n-grams."""
        flat: list[int] = []
        starts: list[int] = []
        for word in words:
            starts.append(len(flat))
            flat += buckets_of(word)
        grams = functional.embedding_bag(torch.tensor(flat), self.grams, torch.tensor(starts), mode="mean")
        rows = torch.tensor([self.row.get(w, -1) for w in words])
        known = (rows >= 0) & (torch.rand(len(words)) >= drop)
        return grams + self.words[rows.clamp(min=0)] * known[:, None]

    def forward(self, texts: list[list[str]], drop: float = 0.0) -> Tensor:
        """Normalised vectors (n, d) of texts given as words."""
        distinct: dict[str, int] = {}
        flat: list[int] = []
        starts: list[int] = []
        for words in texts:
            starts.append(len(flat))
            flat += [distinct.setdefault(w, len(distinct)) for w in words[:LONGEST]]
        names = list(distinct)
        rows = torch.tensor([self.row.get(w, len(self.row)) for w in names])
        weights = self.log_weights[rows].exp()[torch.tensor(flat)]
        sums = functional.embedding_bag(
            torch.tensor(flat), self.compose(names, drop), torch.tensor(starts), mode="sum", per_sample_weights=weights
        )
        return functional.normalize(sums, dim=1)


def train(table: Table, pairs: list[Pairs], steps: int, batch: int) -> None:
    """InfoNCE both ways; a batch comes from one source, so that its negatives are hard."""
    rng = random.Random(SEED)
    torch.manual_seed(SEED)
    optimiser = torch.optim.Adam(
        [{"params": [table.words, table.grams], "lr": RATE}, {"params": [table.log_weights], "lr": 1e-2}],
        betas=(0.9, 0.99),
    )
    anchor = table.words.detach().clone()
    prepared = [([words_of(t) for t in p.left], [words_of(t) for t in p.right], p) for p in pairs]
    began, running = time.monotonic(), {p.name: 0.0 for p in pairs}
    for step in range(steps):
        for group, top in zip(optimiser.param_groups, (RATE, 1e-2), strict=True):
            group["lr"] = top * min(1.0, step / 100) * (1 - 0.95 * step / steps)
        left, right, source = rng.choices(prepared, [p.share for p in pairs])[0]
        chosen = [i for i in rng.sample(range(len(left)), min(batch, len(left))) if left[i] and right[i]]
        a = table([_thin(rng, left[i]) for i in chosen], WORD_DROP)
        b = table([_thin(rng, right[i]) for i in chosen], WORD_DROP)
        scores = a @ b.T / TEMPERATURE
        if source.labels:
            ids = {label: k for k, label in enumerate(sorted({source.labels[i] for i in chosen}))}
            label = torch.tensor([ids[source.labels[i]] for i in chosen])
            same = (label[:, None] == label[None, :]) & ~torch.eye(len(chosen), dtype=torch.bool)
            scores = scores.masked_fill(same, -1e4)
        truth = torch.arange(len(chosen))
        loss = (functional.cross_entropy(scores, truth) + functional.cross_entropy(scores.T, truth)) / 2
        loss = loss + ANCHOR * ((table.words - anchor) ** 2).sum(1).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        running[source.name] = 0.9 * running[source.name] + 0.1 * float(loss.detach())
        if step % 250 == 249:
            print(
                f"step {step + 1} {time.monotonic() - began:.0f} s",
                {k: round(v, 2) for k, v in running.items()},
                flush=True,
            )


def _thin(rng: random.Random, words: list[str]) -> list[str]:
    return [w for w in words if rng.random() >= TEXT_DROP] or words


# ---------------------------------------------------------------- writing
def quantise(rows: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """Signed bytes and one scale a row."""
    scale = (np.abs(rows).max(axis=1) / 127 + 1e-12).astype(np.float16)
    safe = np.maximum(scale.astype(np.float32), 1e-7)
    return np.clip(np.round(rows / safe[:, None]), -127, 127).astype(np.int8), scale


def export(table: Table, vocabulary: list[str], folder: Path, steps: int) -> Path:
    """Write embed.npz and embed.json (the card) into ``folder``."""
    with torch.no_grad():
        words, word_scale = quantise(table.compose(vocabulary, 0.0).numpy())
        grams, gram_scale = quantise(table.grams.numpy())
        weights = table.log_weights.exp().numpy().astype(np.float16)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "embed.npz"
    np.savez(
        path,
        vocabulary=np.frombuffer("\n".join(vocabulary).encode(), np.uint8),
        words=words,
        word_scale=word_scale,
        grams=grams,
        gram_scale=gram_scale,
        weights=weights,
    )
    card = {
        "name": "fairlead-embed",
        "made": datetime.now(UTC).date().isoformat(),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "dimension": DIMENSION,
        "vocabulary": len(vocabulary),
        "buckets": BUCKETS,
        "licence": "Apache-2.0",
        "made_by": f"python -m training.embed --steps {steps}",
        "seed": SEED,
        "data": DATA_LICENCES,
        "held_out": "two fifths of the intents and venues (by SHA-256), two fifths of the shops' wordings",
        "figures": {},
    }
    (folder / "embed.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FAIRLEAD_DATA", "data")))
    parser.add_argument("--out", type=Path, default=Path("src/fairlead/engines/embed/weights"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=384)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.monotonic()
    texts = read_texts(options.data)
    pairs = read_pairs(options.data)
    counts = count_words(texts, pairs)
    counts.update(word for text in OFF_TOPIC for word in words_of(text))
    vocabulary = [w for w, n in counts.most_common(VOCABULARY) if n > 2]
    row = {w: i for i, w in enumerate(vocabulary)}
    print(f"{time.monotonic() - began:.0f} s: {sum(map(len, texts)):,} words, {len(vocabulary):,} kept", flush=True)
    start = reduce_counts(cooccurrence(texts, row), DIMENSION)
    total = sum(counts.values())
    weights = np.array([SMOOTHING / (SMOOTHING + counts[w] / total) for w in vocabulary] + [1.0], np.float32)
    print(f"{time.monotonic() - began:.0f} s: counts reduced", flush=True)
    table = Table(vocabulary, start, weights)
    train(table, pairs, options.steps, options.batch)
    path = export(table, vocabulary, options.out, options.steps)
    print(f"{time.monotonic() - began:.0f} s: wrote {path}", flush=True)


if __name__ == "__main__":
    main()
