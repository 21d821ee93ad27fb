"""Documents to rows of tokens: several documents share a row and never see each other.

A *block* is a fixed number of rows that depends on nothing but the seed and its number. So a run is resumed from two
integers, and on a GPU blocks can be made ahead by other processes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from training.corpus import read_extra
from training.generator import Extra
from training.lexicon import Split
from training.mixture import draw_document
from training.prompt import TURN_END, TURN_START, Document, split_turns
from training.tokenizer import load_tokenizer

Ids = npt.NDArray[np.int64]
OTHER_WEIGHT = 0.1
"""Weight of a token that the model reads, against 1 for one that it writes."""
_OPEN_ROWS = 24


@dataclass(frozen=True)
class Rows:
    """`tokens` and `documents` (rows, length + 1); `positions`, `weights` (rows, k) say where the loss is taken."""

    tokens: Ids
    documents: Ids
    positions: Ids
    weights: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.tokens)

    def pick(self, rows: slice) -> Rows:
        return Rows(self.tokens[rows], self.documents[rows], self.positions[rows], self.weights[rows])


class Encoder:
    """Text of a document to token ids with the weight of each."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._start: int = tokenizer.token_to_id(TURN_START)
        self._end: int = tokenizer.token_to_id(TURN_END)
        self._newline: list[int] = tokenizer.encode("\n").ids
        self._heads = {role: tokenizer.encode(f"{role}\n").ids for role in ("system", "user", "assistant", "tool")}

    def encode(self, document: Document, longest: int) -> tuple[list[int], list[float]]:
        """Ids and weights of the turns that fit into `longest` tokens, cut after an assistant turn."""
        ids: list[int] = []
        weights: list[float] = []
        fitting = 0
        for role, text in split_turns(document):
            head = [self._start, *self._heads[role]]
            body = [*self._tokenizer.encode(text).ids, self._end]
            ids += [*head, *body, *self._newline]
            weight = 1.0 if role == "assistant" else OTHER_WEIGHT
            weights += [0.0] * len(head) + [weight] * len(body) + [0.0] * len(self._newline)
            if len(ids) > longest:
                break
            if role == "assistant":
                fitting = len(ids)
        return ids[:fitting], weights[:fitting]


def pack(encoder: Encoder, documents: Iterator[Document], rows: int, length: int, rng: random.Random) -> Rows:
    """Best fit into up to 24 open rows until `rows` of them are begun and full."""
    tokens = np.zeros((rows, length + 1), np.int64)
    owners = np.zeros((rows, length + 1), np.int64)
    weights = np.zeros((rows, length + 1), np.float32)
    used: dict[int, int] = {}
    begun = 0
    count = 0
    while True:
        ids, weight = encoder.encode(next(documents), length + 1)
        size = len(ids)
        if not size:
            continue
        fitting = [row for row, taken in used.items() if taken + size <= length + 1]
        if fitting:
            row = max(fitting, key=lambda candidate: used[candidate])
        else:
            if len(used) >= _OPEN_ROWS or begun == rows:
                if begun == rows:
                    break
                used.pop(max(used, key=lambda candidate: used[candidate]))
            row, begun = begun, begun + 1
            used[row] = 0
        start = used[row]
        count += 1
        tokens[row, start : start + size] = ids
        owners[row, start : start + size] = count
        weights[row, start : start + size] = weight
        used[row] = start + size
    positions, chosen = _choose_positions(weights, length // 2, rng)
    return Rows(tokens, owners, positions, chosen)


def _choose_positions(
    weights: npt.NDArray[np.float32], count: int, rng: random.Random
) -> tuple[Ids, npt.NDArray[np.float32]]:
    """`count` places a row whose next token is predicted: what the model writes first, then a sample of the rest."""
    noise = np.random.default_rng(rng.getrandbits(64)).random(weights[:, 1:].shape)
    order = np.argsort(-(weights[:, 1:] + 0.01 * noise), axis=1)[:, :count]
    order.sort(axis=1)
    return order.astype(np.int64), np.take_along_axis(weights[:, 1:], order, axis=1)


def make_block(
    encoder: Encoder, extra: Extra, number: int, rows: int, length: int, seed: int, split: Split = "train"
) -> Rows:
    rng = random.Random(f"block {split} {seed} {number}")

    def documents() -> Iterator[Document]:
        while True:
            yield draw_document(rng, split, extra)

    return pack(encoder, documents(), rows, length, rng)


_state: tuple[Encoder, Extra] | None = None


def _start_worker(tokenizer: Path, data: Path | None) -> None:
    global _state
    _state = (Encoder(load_tokenizer(tokenizer)), read_extra(data, lambda text: None))


def _work(number: int, rows: int, length: int, seed: int) -> Rows:
    if _state is None:
        raise RuntimeError("the worker was not started")
    return make_block(_state[0], _state[1], number, rows, length, seed)


def stream_blocks(
    tokenizer: Path, data: Path | None, first: int, rows: int, length: int, seed: int, workers: int
) -> Iterator[tuple[int, Rows]]:
    """Blocks from number `first` on; with `workers`, made ahead by as many processes."""
    if workers == 0:
        encoder, extra = Encoder(load_tokenizer(tokenizer)), read_extra(data)
        while True:
            yield first, make_block(encoder, extra, first, rows, length, seed)
            first += 1
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(tokenizer, data)) as pool:
        ahead: list[Future[Rows]] = []
        while True:
            while len(ahead) < 2 * workers:
                ahead.append(pool.submit(_work, first + len(ahead), rows, length, seed))
            yield first, ahead.pop(0).result()
            first += 1
