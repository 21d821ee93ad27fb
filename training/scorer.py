"""Trains the scorer `src/fairlead/engines/scorer/weights/scorer.npz` and measures it.

    FAIRLEAD_DATA=... python -m training.scorer --work DIR            # about an hour on one core; needs torch
    FAIRLEAD_DATA=... python -m training.scorer --work DIR --without 3 --out /tmp/try   # leaves out every third shop

Three stages. First, word vectors: the teacher's vector of each word alone, its 128 strongest directions, and n-grams
fitted to them. Second, the encoder learns the teacher's vectors of short texts. Third, the whole learns from questions
over the units of a shop which unit answers, against the odds that none does (a softmax with an empty option), with a
little of the teacher's likeness kept; its rate falls and rises again, a round each. Every stage is kept in DIR and
taken up again where it stopped. Seeds are fixed; another processor may differ in the last digits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from fairlead.engines.scorer.pieces import BUCKETS, question_pieces, unit_pieces
from training import scorer_data as data_of
from training.embed_data import slip
from training.scorer_data import Library, gather
from training.scorer_draw import SLIPS, TAKEN_OUT, Drawer, likeness_of
from training.scorer_eval import Figures, held_libraries, measure
from training.scorer_export import rater, write
from training.scorer_labels import Read, read_labels
from training.scorer_model import CONTEXT, QUESTION, TEXT, WIDTH, Batch, Scorer, fit_grams
from training.scorer_teacher import encoded

Floats = npt.NDArray[np.float32]
SEED = 20260301
TEXTS, VOCABULARY, SHOPS = 60_000, 16_000, 200
DISTIL_STEPS, ROUNDS = 5_000, (900, 1_600, 800)
DISTIL_BATCH, QUESTIONS, CANDIDATES = 64, 8, 12
TRAIN_PIECES = 44  # of a unit that are looked at in training; few are longer
LIKENESS = 0.15  # share of the teacher's likeness in the loss of the third stage
EACH = 0.5  # share of every unit judged by itself
GOLD = 0.5  # share of the hand-made label where the tuned teacher has spoken too
SHARES = {"natural": 0.4, "pairs": 0.33, "invented": 0.13, "faq": 0.06, "clapnq": 0.04, "mtrag": 0.04}
READ = 0.75  # share of the batches that the tuned teacher has read, where there are any
Text = tuple[list[str], list[int]]


class Drawing(NamedTuple):
    """Questions, units, the units of each question, which answer, the tuned teacher's log-odds, its likeness."""

    questions: list[Text]
    units: list[Text]
    chosen: list[list[int]]
    golds: list[Tensor | None]
    scores: list[Tensor | None]
    likes: list[Tensor]


def asked_text(text: str) -> Text:
    """The pieces of a question and their kinds."""
    pieces = question_pieces(text)
    return pieces, [QUESTION] * len(pieces)


def told_text(unit: str) -> Text:
    """The pieces of a unit and their kinds."""
    pieces, hung = unit_pieces(unit)
    return pieces, [CONTEXT] * hung + [TEXT] * (len(pieces) - hung)


def shortened(text: Text) -> Text:
    """The first TRAIN_PIECES pieces."""
    return text[0][:TRAIN_PIECES], text[1][:TRAIN_PIECES]


# ---------------------------------------------------------------- stages one and two
def word_vectors(words: Sequence[str], texts: Floats, work: Path) -> tuple[Floats, Floats]:
    """(start vectors (V, d), basis (384, d)): the directions in which texts differ most."""
    _, _, directions = np.linalg.svd(texts[:20_000], full_matrices=False)
    basis = directions[:WIDTH].T.astype(np.float32)
    alone = encoded(words, work, "words")
    alone = (alone - alone.mean(axis=0)) @ basis
    alone /= np.linalg.norm(alone, axis=1, keepdims=True) + 1e-6
    return (alone * math.sqrt(WIDTH)).astype(np.float32), basis


def distil(model: Scorer, texts: list[str], target: Floats, work: Path, steps: int) -> None:
    """The encoder learns the teacher's vectors (n, d) of texts, and how alike they are to each other."""
    optimiser, schedule = optimiser_of(model, 2e-3, 5e-4, steps)
    wanted = torch.tensor(target)
    rng = random.Random(SEED)
    pieces = [question_pieces(text) for text in texts]
    order = sorted(range(len(texts)), key=lambda i: len(pieces[i]))
    start = resume(model, optimiser, schedule, work / "distil.pt")
    rng.seed(SEED + start)
    torch.manual_seed(SEED + start)
    model.train()
    model.to_grams, model.word_drop, model.drop = 0.1, 0.05, 0.0
    mean, began = 0.0, time.process_time()
    for step in range(start, steps):
        at = rng.randrange(len(order) - 4 * DISTIL_BATCH)
        chosen = rng.sample(order[at : at + 4 * DISTIL_BATCH], DISTIL_BATCH)
        kind = rng.choice((QUESTION, TEXT))
        batch = model.batch([(pieces[i], [kind] * len(pieces[i])) for i in chosen], {})
        _, sense, _ = model.encode(batch)
        goal = wanted[chosen]
        loss = 4 * (1 - (sense * goal).sum(-1)).mean()
        loss = loss + functional.kl_div(
            (sense @ sense.T / 0.05).fill_diagonal_(-1e4).log_softmax(-1),
            (goal @ goal.T / 0.05).fill_diagonal_(-1e4).log_softmax(-1),
            log_target=True,
            reduction="batchmean",
        )
        climb(model, optimiser, schedule, loss)
        mean += 0.01 * ((1 - (sense * goal).sum(-1).mean()).item() - mean) if step > start else 0.3
        if step % 250 == 249:
            print(f"distil {step + 1}: 1 - cosine {mean:.3f}, {time.process_time() - began:.0f} s of CPU", flush=True)
        if step % 1000 == 999 or step + 1 == steps:
            keep(model, optimiser, schedule, step + 1, work / "distil.pt")


# ---------------------------------------------------------------- stage three
class Batcher:
    """Draws questions and units to tell apart: labelled by hand, or read by the tuned teacher."""

    def __init__(self, drawer: Drawer, read: Sequence[Read]) -> None:
        self._drawer = drawer
        self._told: dict[str, Text] = {}
        by_shelf: dict[int, list[Read]] = {}
        for one in (some for some in read if some.units):
            by_shelf.setdefault(one.shelf, []).append(one)
        self._read = list(by_shelf.values())
        self._weights = [len(group) for group in self._read]

    def draw(self, rng: random.Random) -> Drawing:
        """A batch of either kind."""
        if self._read and rng.random() < READ:
            return self._read_batch(rng)
        drawn = [one for one in self._drawer.draw(rng) if one.units]
        vector = self._drawer.likeness
        likes = [torch.tensor(np.stack([vector[u] for u in one.units]) @ vector[one.one.text]) for one in drawn]
        kept = [(one.asked, one.units, torch.tensor(one.gold), None) for one in drawn]
        return self._together(kept, likes)

    def _read_batch(self, rng: random.Random) -> Drawing:
        groups = rng.choices(self._read, self._weights, k=2)
        some = [one for group in groups for one in rng.sample(group, min(len(group), QUESTIONS))]
        kept = []
        for one in rng.sample(some, min(len(some), QUESTIONS)):
            places = list(range(len(one.units)))
            if one.gold is not None and rng.random() < TAKEN_OUT:
                places = [i for i in places if not one.gold[i]] or places
            asked = slip(rng, one.asked) if rng.random() < SLIPS else one.asked
            gold = None if one.gold is None else torch.tensor([one.gold[i] for i in places])
            scores = torch.tensor([one.scores[i] for i in places])
            kept.append((asked, [one.units[i] for i in places], gold, scores))
        return self._together(kept, [])

    def _together(
        self, kept: Sequence[tuple[str, list[str], Tensor | None, Tensor | None]], likes: list[Tensor]
    ) -> Drawing:
        number: dict[str, int] = {}
        chosen = [[number.setdefault(unit, len(number)) for unit in units] for _, units, _, _ in kept]
        return Drawing(
            [asked_text(asked) for asked, _, _, _ in kept],
            [self._pieces(unit) for unit in number],
            chosen,
            [gold for _, _, gold, _ in kept],
            [scores for _, _, _, scores in kept],
            likes,
        )

    def _pieces(self, unit: str) -> Text:
        if unit not in self._told:
            self._told[unit] = shortened(told_text(unit))
        return self._told[unit]


def learn(model: Scorer, batcher: Batcher, work: Path, steps: int, name: str) -> None:
    """Questions and units: which answers, if any. The tables stay: a word never seen here must not fall behind."""
    model.words.requires_grad_(False)
    model.grams.requires_grad_(False)
    optimiser, schedule = optimiser_of(model, 1e-3, 2e-4, steps)
    start = resume(model, optimiser, schedule, work / f"{name}.pt")
    rng = random.Random(SEED + start)
    torch.manual_seed(SEED + start)
    model.train()
    model.to_grams, model.word_drop, model.drop = 0.1, 0.08, 0.1
    mean, began = 2.0, time.process_time()
    for step in range(start, steps):
        loss = loss_of(model, batcher, rng)
        climb(model, optimiser, schedule, loss)
        mean += 0.02 * (loss.item() - mean)
        if step % 50 == 49:
            print(f"learn {step + 1}: loss {mean:.3f}, {time.process_time() - began:.0f} s of CPU", flush=True)
        if step % 200 == 199 or step + 1 == steps:
            keep(model, optimiser, schedule, step + 1, work / f"{name}.pt")


def loss_of(model: Scorer, batcher: Batcher, rng: random.Random) -> Tensor:
    """The loss of one draw: the right unit or none, every unit by itself, and what a teacher says of them."""
    drawing = batcher.draw(rng)
    keys: dict[str, int] = {}
    asked, told = model.batch(drawing.questions, keys), model.batch(drawing.units, keys)
    rows = [i for i, group in enumerate(drawing.chosen) for _ in group]
    columns = [j for group in drawing.chosen for j in group]
    with torch.autocast("cpu", torch.bfloat16):
        scores = pair_scores(model, asked, told, rows, columns)
    found = scores.float().split([len(group) for group in drawing.chosen])
    total = torch.zeros(())
    for i, log_odds in enumerate(found):
        gold, taught = drawing.golds[i], drawing.scores[i]
        if gold is not None:
            total = total + (1.0 if taught is None else GOLD) * gold_loss(log_odds, gold)
        if taught is not None:
            total = total + taught_loss(log_odds, taught)
        else:
            like = (drawing.likes[i] / 0.07).log_softmax(-1)
            total = total + LIKENESS * functional.kl_div(
                log_odds.log_softmax(-1), like, log_target=True, reduction="sum"
            )
    return total / len(found)


def gold_loss(found: Tensor, gold: Tensor) -> Tensor:
    """The right unit or none (a softmax with an empty option), and every unit by itself."""
    wanted = torch.cat([gold, (1 - gold.max())[None]])
    odds = torch.cat([found, torch.zeros(1)]).log_softmax(-1)
    listed = -torch.logsumexp(odds.masked_fill(wanted == 0, -1e4), -1)
    each = functional.binary_cross_entropy_with_logits(found, gold, pos_weight=torch.tensor(3.0), reduction="sum")
    return listed + EACH * each / 4


def taught_loss(found: Tensor, taught: Tensor) -> Tensor:
    """As the tuned teacher has it: which unit or none, and every unit by itself."""
    empty = torch.zeros(1)
    wanted = torch.cat([taught, empty]).log_softmax(-1)
    listed = functional.kl_div(torch.cat([found, empty]).log_softmax(-1), wanted, log_target=True, reduction="sum")
    near = functional.smooth_l1_loss(found, taught.clamp(-6, 6), reduction="sum")
    return listed + EACH * near / 8


def pair_scores(model: Scorer, asked: Batch, told: Batch, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """Log-odds of the pairs (question row, unit column)."""
    q, u = model.encode(asked), model.encode(told)
    a, b = torch.tensor(rows), torch.tensor(columns)
    equal = (asked.keys[a][:, :, None] == told.keys[b][:, None, :]) & (asked.keys[a][:, :, None] >= 0)
    return model.compare(q, u, (a, b), equal.float())


# ---------------------------------------------------------------- training in general
def optimiser_of(
    model: Scorer, rate: float, table_rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW, the tables slower; a short rise, then a cosine fall."""
    tables = [p for p in (model.words, model.grams) if p.requires_grad]
    names = {id(model.words), id(model.grams)}
    groups = [{"params": [p for p in model.parameters() if id(p) not in names], "lr": rate, "weight_decay": 0.02}]
    if tables:
        groups.append({"params": tables, "lr": table_rate, "weight_decay": 0.0})
    optimiser = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min(1.0, (s + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1, s / steps))))
    )
    return optimiser, schedule


def climb(
    model: Scorer,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    loss: Tensor,
) -> None:
    """One step down the slope."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    schedule.step()


def keep(
    model: Scorer,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    step: int,
    path: Path,
) -> None:
    """Write a state that `resume` takes up; a half-written one never replaces a whole."""
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
    torch.save({**state, "step": step}, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def resume(
    model: Scorer, optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LambdaLR, path: Path
) -> int:
    """The step to go on from; 0 without a kept state."""
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    return int(state["step"])


def started(model: Scorer, path: Path) -> None:
    """Take the weights of an earlier run; a block it did not have stays as it is made, and adds nothing yet."""
    found = torch.load(path, weights_only=True)["model"]
    missing, strange = model.load_state_dict(found, strict=False)
    if strange or any(not name.startswith(("encoder.", "cross.")) for name in missing):
        raise ValueError(f"{path} is of another shape: lacks {missing}, has {strange}")


# ---------------------------------------------------------------- everything
def main() -> None:
    """Prepare, train, measure, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FAIRLEAD_DATA", "data")))
    parser.add_argument("--work", type=Path, required=True, help="a folder for the teacher's vectors and the states")
    parser.add_argument("--out", type=Path, default=None, help="where to write; the package's weights without it")
    parser.add_argument("--without", type=int, default=0, help="leave out every n-th natural shop")
    parser.add_argument("--name", default="learn", help="of the third stage's state")
    parser.add_argument("--rounds", type=int, nargs="+", default=ROUNDS, help="steps of each round of stage three")
    parser.add_argument("--read", type=Path, default=None, help="the folder of training.scorer_labels")
    parser.add_argument("--distil-steps", type=int, default=DISTIL_STEPS)
    parser.add_argument("--start", type=Path, default=None, help="a state of an earlier third stage to start from")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    options.work.mkdir(parents=True, exist_ok=True)
    names = [name for name, _, _ in data_of.natural_shops("train")]
    left_out = set(names[:: options.without]) if options.without else set()
    library = gather(options.data, left_out, invented=SHOPS)
    counts = {s: sum(a.source == s for a in library.asked) for s in SHARES}
    print(f"questions: {counts}; left out: {sorted(left_out)}", flush=True)

    kept = options.work / "texts.json"
    if not kept.is_file():
        kept.write_text(json.dumps(data_of.plain_texts(options.data, TEXTS)), encoding="utf-8")
    texts: list[str] = json.loads(kept.read_text(encoding="utf-8"))
    vectors = encoded(texts, options.work, "texts")
    model = start_model(texts, vectors, library, options.work, options.start or options.distil_steps)
    drawer = Drawer(library, likeness_of(library, options.work), SHARES, QUESTIONS, CANDIDATES)
    read = read_labels(options.read) if options.read else []
    print(f"{len(read)} questions read by the tuned teacher", flush=True)
    batcher = Batcher(drawer, read)
    for number, steps in enumerate(options.rounds):
        learn(model, batcher, options.work, steps, f"{options.name}-{number}")

    model.eval()
    rate = rater(model)
    left = [data_of.from_pages(n, rows, page) for n, rows, page in data_of.natural_shops("train") if n in left_out]
    for label, libraries in (*held_libraries(), ("left out", left)):
        figures = Figures()
        for held in libraries:
            figures.add(measure(rate, held))
        if figures.first:
            print(f"{label}: {figures.row()}", flush=True)
    own = [one.text for one in library.asked] + [unit for shelf in library.shelves for unit in shelf.units]
    digest = hashlib.sha256("".join(own).encode()).hexdigest()[:16]
    card = {
        "name": "fairlead-scorer",
        "made": datetime.now(UTC).date().isoformat(),
        "made_by": f"python -m training.scorer --rounds {' '.join(map(str, options.rounds))}, after scorer_reader",
        "licence": "Apache-2.0",
        "seed": SEED,
        "questions": counts,
        "questions_digest": digest,
        "read_by_the_tuned_teacher": len(read),
        "natural_shops": [name for name in names if name not in left_out],
        "teacher": "all-MiniLM-L6-v2 (Apache-2.0): its vectors, and its judgement of pairs once tuned to them",
        "data": data_of.LICENCES,
    }
    write(model, options.out, card)


def start_model(texts: list[str], vectors: Floats, library: Library, work: Path, steps: int | Path) -> Scorer:
    """A scorer after stages one and two, or an earlier run's. Its vocabulary is kept, so that it may see new shops."""
    kept = work / "vocabulary.txt"
    if not kept.is_file():
        own = [a.text for a in library.asked] + [u for s in library.shelves for u in s.units]
        kept.write_text("\n".join(data_of.vocabulary(texts, own, VOCABULARY)), encoding="utf-8")
    words = kept.read_text(encoding="utf-8").split("\n")
    start, basis = word_vectors(words, vectors, work)
    begun = isinstance(steps, Path) or (work / "distil.pt").is_file()  # which hold the n-grams too
    model = Scorer(words, start, np.zeros((BUCKETS, WIDTH), np.float32) if begun else fit_grams(words, start))
    if isinstance(steps, Path):
        started(model, steps)
        return model
    target = vectors @ basis
    kept_share = float(np.square(target).sum(-1).mean())
    print(f"the basis keeps {kept_share:.3f} of the teacher's vectors; {len(words)} words", flush=True)
    distil(model, texts, target / (np.linalg.norm(target, axis=1, keepdims=True) + 1e-6), work, steps)
    return model


if __name__ == "__main__":
    main()
