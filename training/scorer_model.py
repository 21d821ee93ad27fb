"""The scorer as a torch module: the same arithmetic as `fairlead.engines.scorer`, with gradients.

Question and unit are read by the same small encoder; then the question's pieces look into the unit (two blocks of
attention with an empty slot, and a bonus for equal words) and the result becomes one number, the log-odds. Knows no
data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from fairlead.engines.scorer.pieces import BUCKETS, UNIT_PIECES, buckets_of, match_key

Floats = npt.NDArray[np.float32]
WIDTH, HEADS, ENCODER_BLOCKS, CROSS_BLOCKS, INNER, HIDDEN = 128, 4, 2, 2, 2, 96
QUESTION, CONTEXT, TEXT = 0, 1, 2


class Batch:
    """Pieces of several texts as padded tensors: rows of the vocabulary (-1 for none), buckets, kinds, mask, keys."""

    def __init__(
        self, texts: Sequence[tuple[list[str], list[int]]], row_of: dict[str, int], keys: dict[str, int]
    ) -> None:
        width = max(1, max((len(pieces) for pieces, _ in texts), default=1))
        shape = (len(texts), width)
        self.rows = torch.full(shape, -1, dtype=torch.long)
        self.kinds = torch.zeros(shape, dtype=torch.long)
        self.mask = torch.zeros(shape, dtype=torch.bool)
        self.keys = torch.full(shape, -1, dtype=torch.long)
        self.pieces = [pieces for pieces, _ in texts]
        for i, (pieces, kinds) in enumerate(texts):
            if pieces:
                n = len(pieces)
                self.rows[i, :n] = torch.tensor([row_of.get(p, -1) for p in pieces])
                self.kinds[i, :n] = torch.tensor(kinds)
                self.mask[i, :n] = True
                self.keys[i, :n] = torch.tensor([keys.setdefault(match_key(p), len(keys)) for p in pieces])


class Attention(nn.Module):  # type: ignore[misc,unused-ignore]  # torch is not in every environment
    """Multi-head attention of x over y, with an empty slot when ``empty`` is set."""

    def __init__(self, *, empty: bool) -> None:
        super().__init__()
        self.q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.k = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v = nn.Linear(WIDTH, WIDTH, bias=False)
        self.o = nn.Linear(WIDTH, WIDTH, bias=False)
        nn.init.zeros_(self.o.weight)
        self.slot = nn.Parameter(torch.zeros(HEADS)) if empty else None
        self.same = nn.Parameter(torch.full((HEADS,), 1.0)) if empty else None

    def forward(
        self, x: Tensor, y: Tensor, mask: Tensor, equal: Tensor | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """x (..., n, d), y (..., m, d), mask (..., m), equal (..., n, m) where words are the same.

        With ``rows`` the k-th x looks into the ``rows[k]``-th y, whose mask is already drawn that way.
        """
        q, k, v = _heads(self.q(x)), self.k(y), self.v(y)
        k, v = (_heads(z if rows is None else z[rows]) for z in (k, v))
        logits = q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        if self.same is not None and equal is not None:
            logits = logits + self.same[:, None, None] * equal[..., None, :, :]
        logits = logits.masked_fill(~mask[..., None, None, :], -1e4)
        if self.slot is not None:
            slot = self.slot[:, None, None].expand(*logits.shape[:-1], 1)
            odds = torch.cat([logits, slot], -1).softmax(-1)[..., :-1]
        else:
            odds = logits.softmax(-1)
        mixed: Tensor = self.o((odds @ v).transpose(-2, -3).flatten(-2))
        return mixed


def _heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(-2, -3)


class Norm(nn.Module):  # type: ignore[misc,unused-ignore]  # torch is not in every environment
    """Root mean square norm with a gain."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d), scaled."""
        scaled: Tensor = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.gain
        return scaled


class Feed(nn.Module):  # type: ignore[misc,unused-ignore]  # torch is not in every environment
    """Two matrices with a ReLU between."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, INNER * WIDTH)
        self.down = nn.Linear(INNER * WIDTH, WIDTH, bias=False)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d)."""
        out: Tensor = self.down(functional.relu(self.up(x)))
        return out


class EncoderBlock(nn.Module):  # type: ignore[misc,unused-ignore]  # torch is not in every environment
    """Pieces of one text look at each other."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = Norm(), Attention(empty=False)
        self.feed_norm, self.feed = Norm(), Feed()

    def forward(self, x: Tensor, mask: Tensor, drop: float) -> Tensor:
        """x (batch, n, d), mask (batch, n)."""
        y = self.norm(x)
        x = x + functional.dropout(self.attention(y, y, mask), drop, self.training)
        out: Tensor = x + functional.dropout(self.feed(self.feed_norm(x)), drop, self.training)
        return out


class CrossBlock(nn.Module):  # type: ignore[misc,unused-ignore]  # torch is not in every environment
    """A question's pieces look into a unit, then at each other."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = Norm(), Attention(empty=True)
        self.self_norm, self.self_attention = Norm(), Attention(empty=False)
        self.feed_norm, self.feed = Norm(), Feed()

    def forward(
        self, x: Tensor, unit: tuple[Tensor, Tensor], masks: tuple[Tensor, Tensor], equal: Tensor, drop: float
    ) -> Tensor:
        """x (pairs, n, d), unit: (units, m, d) and the row of each pair, masks of pairs, equal (pairs, n, m)."""
        looked = self.attention(self.norm(x), unit[0], masks[1], equal, unit[1])
        x = x + functional.dropout(looked, drop, self.training)
        y = self.self_norm(x)
        x = x + functional.dropout(self.self_attention(y, y, masks[0]), drop, self.training)
        out: Tensor = x + functional.dropout(self.feed(self.feed_norm(x)), drop, self.training)
        return out


class Scorer(nn.Module):  # type: ignore[misc,unused-ignore]  # torch is not in every environment
    """Questions and units to log-odds. ``vocabulary`` (V) and its start vectors (V, d), and those of n-grams."""

    def __init__(self, vocabulary: Sequence[str], words: Floats, grams: Floats) -> None:
        super().__init__()
        self.row_of = {word: i for i, word in enumerate(vocabulary)}
        self.words = nn.Parameter(torch.tensor(words))
        self.grams = nn.Parameter(torch.tensor(grams))
        self.kind = nn.Parameter(torch.zeros(3, WIDTH))
        self.place = nn.Parameter(torch.zeros(UNIT_PIECES, WIDTH))
        self.encoder = nn.ModuleList(EncoderBlock() for _ in range(ENCODER_BLOCKS))
        self.encoded = Norm()
        self.weigh = nn.Linear(WIDTH, 1)
        self.sense = nn.Linear(WIDTH, WIDTH, bias=False)
        self.cross = nn.ModuleList(CrossBlock() for _ in range(CROSS_BLOCKS))
        self.crossed = Norm()
        self.pool = nn.Linear(WIDTH, 1)
        self.hidden = nn.Linear(3 * WIDTH + 1, HIDDEN)
        self.out = nn.Linear(HIDDEN, 1)
        self.likeness = nn.Parameter(torch.tensor(4.0))
        nn.init.eye_(self.sense.weight)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.normal_(self.place, std=0.05)
        nn.init.normal_(self.kind, std=0.05)
        nn.init.constant_(self.out.bias, -3.0)
        self.drop = 0.0
        self.word_drop = 0.0
        self.to_grams = 0.0

    def batch(self, texts: Sequence[tuple[list[str], list[int]]], keys: dict[str, int]) -> Batch:
        """Texts as (pieces, kind of each) made to tensors."""
        return Batch(texts, self.row_of, keys)

    def embed(self, batch: Batch) -> Tensor:
        """(batch, n, d): the row of each piece, or the mean of its n-grams."""
        rows = batch.rows
        if self.training and self.to_grams:
            rows = rows.masked_fill(torch.rand(rows.shape) < self.to_grams, -1)
        x = self.words[rows.clamp(min=0)]
        rare = (rows < 0) & batch.mask
        if rare.any():
            where = rare.nonzero().tolist()
            buckets = [buckets_of(batch.pieces[i][j]) for i, j in where]
            flat = torch.tensor([b for group in buckets for b in group])
            starts = torch.tensor(np.concatenate([[0], np.cumsum([len(g) for g in buckets])[:-1]]))
            x = x.masked_scatter(rare[..., None], functional.embedding_bag(flat, self.grams, starts, mode="mean"))
        return x + self.kind[batch.kinds] + self.place[: rows.shape[1]]

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(pieces (batch, n, d), sense (batch, d) of length one, mask): what a text says, alone."""
        mask = batch.mask
        if self.training and self.word_drop:
            mask = mask & (torch.rand(mask.shape) >= self.word_drop)
        x = self.embed(batch)
        for block in self.encoder:
            x = block(x, mask, self.drop)
        x = self.encoded(x)
        weight = torch.sigmoid(self.weigh(x).squeeze(-1)) * mask
        pooled = (x * weight[..., None]).sum(1) / (weight.sum(1, keepdim=True) + 1e-3)
        return x, functional.normalize(self.sense(pooled), dim=-1, eps=1e-6), mask

    def compare(
        self,
        asked: tuple[Tensor, Tensor, Tensor],
        told: tuple[Tensor, Tensor, Tensor],
        pairs: tuple[Tensor, Tensor],
        equal: Tensor,
    ) -> Tensor:
        """Log-odds (pairs,) of encoded questions and units; pairs: their rows; equal (pairs, n, m)."""
        rows, columns = pairs
        x, sense, mask = (part[rows] for part in asked)
        unit_sense, unit_mask = told[1][columns], told[2][columns]
        for block in self.cross:
            x = block(x, (told[0], columns), (mask, unit_mask), equal, self.drop)
        x = self.crossed(x)
        weight = self.pool(x).squeeze(-1).masked_fill(~mask, -1e4).softmax(-1)
        mean = (x * weight[..., None]).sum(1)
        most = x.masked_fill(~mask[..., None], -1e4).amax(1).clamp(min=-20)
        likeness = (sense * unit_sense).sum(-1, keepdim=True)
        both = torch.cat([mean, most, sense * unit_sense * WIDTH**0.5, likeness], -1)
        score: Tensor = self.out(functional.relu(self.hidden(both))).squeeze(-1) + self.likeness * likeness.squeeze(-1)
        return score


def fit_grams(vocabulary: Sequence[str], words: Floats, steps: int = 400) -> Floats:
    """N-gram vectors (BUCKETS, d) whose mean over a word comes near the word's own vector."""
    groups = [buckets_of(word) for word in vocabulary]
    flat = torch.tensor([b for group in groups for b in group])
    starts = torch.tensor(np.concatenate([[0], np.cumsum([len(g) for g in groups])[:-1]]))
    grams = torch.zeros(BUCKETS, words.shape[1], requires_grad=True)
    target = torch.tensor(words)
    optimiser = torch.optim.Adam([grams], lr=0.1)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 0.1 * (1 - step / steps)
        loss = (functional.embedding_bag(flat, grams, starts, mode="mean") - target).square().mean()
        loss = loss + 1e-4 * grams.square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
        optimiser.step()
    found: Floats = grams.detach().numpy()
    return found
