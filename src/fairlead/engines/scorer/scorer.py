"""How likely a sentence answers a question: a small cross-encoder of a few layers, numpy alone.

Question and unit are read by the same encoder; then the question's pieces look into the unit and the result becomes one
number, log-odds. The weights are signed bytes with a scale each row; training is `training/scorer.py`, what it is good
for and what not is docs/models/scorer.md. Knows no retrieval, no features and no thresholds.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from fairlead.engines.scorer.pieces import buckets_of, match_key, question_pieces, unit_pieces
from fairlead.errors import WeightsDamaged, WeightsMissing

WEIGHTS = Path(__file__).with_name("weights") / "scorer.npz"
Floats = npt.NDArray[np.float32]
LEAST, MOST = -12.0, 12.0
"""Bounds of a score. A question or a unit without any piece scores LEAST."""
_CACHED_UNITS = 640  # about 15 kB each
_STEP = 8  # lengths of texts are rounded up to a multiple of it
_HIDDEN = -1e4  # the logit of a place without a piece
_QUESTION, _CONTEXT, _TEXT = 0, 1, 2


class Read(NamedTuple):
    """A text as the encoder has read it: its pieces (n, d), its sense (d,) of length one, what its pieces match by."""

    pieces: Floats
    sense: Floats
    keys: tuple[str, ...]


class Opinion(NamedTuple):
    """What the scorer makes of units: log-odds (units,), and the traits (units, n >= 0) that these are a sum of.

    A trait is a unit of the last layer. Its values say why a score is what it is (the subject agrees, the very thing is
    missing), which one number does not.
    """

    odds: Floats
    traits: Floats


class Scorer:
    """Scores units for a question. Deterministic; the cache of units read before changes no result."""

    def __init__(self, vocabulary: Sequence[str], weights: Mapping[str, Floats]) -> None:
        """``weights`` by the names that `training/scorer_model.py` gives them, as float32."""
        self._row = {word: i for i, word in enumerate(vocabulary)}
        self._w = dict(weights)
        self._width = int(self._w["words"].shape[1])
        self._heads = int(self._w["cross.0.attention.slot"].shape[0])
        self._sharp = np.float32((self._width // self._heads) ** -0.5)
        self._encoder = _count(self._w, "encoder")
        self._cross = _count(self._w, "cross")
        for name in [n for n in self._w if n.endswith(".weight")]:
            self._w[name] = np.ascontiguousarray(self._w[name].T)
        for block in range(self._encoder):
            name = f"encoder.{block}.attention"
            self._w[f"{name}.qkv"] = np.concatenate([self._w[f"{name}.{p}.weight"] for p in "qkv"], axis=1)
        self.traits = int(self._w["hidden.bias"].shape[0])
        self.digest = ""
        self._cache: dict[str, Read] = {}

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Self:
        """Read the weights, checked against the SHA-256 of their card. Raises WeightsMissing or WeightsDamaged."""
        card_path = path.with_suffix(".json")
        if not path.is_file() or not card_path.is_file():
            raise WeightsMissing(path=path if card_path.is_file() else card_path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            card: dict[str, Any] = json.loads(card_path.read_bytes())
            if card.get("sha256") != digest:
                raise WeightsDamaged(path=path, detail=f"its SHA-256 is {digest}, the card says {card.get('sha256')}")
            with np.load(path, allow_pickle=False) as arrays:
                vocabulary = arrays["vocabulary"].tobytes().decode("utf-8").split("\n")
                scorer = cls(vocabulary, unpacked(arrays))
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise WeightsDamaged(path=path, detail=str(error) or type(error).__name__) from error
        if len(vocabulary) != len(scorer._w["words"]):
            raise WeightsDamaged(path=path, detail="its tables do not fit each other")
        scorer.digest = digest
        return scorer

    def score(self, question: str, units: Sequence[str]) -> Floats:
        """Log-odds (units,) that each unit answers the question, LEAST to MOST; the highest says whether any does.

        A unit is a sentence, a list item or a table row, with what it hangs on in front (`pieces.with_context`). The
        order of the units and what was asked before change nothing.
        """
        return self.consider(question, units).odds

    def consider(self, question: str, units: Sequence[str]) -> Opinion:
        """As ``score``, with the traits that led to it; these are 0 where a question or a unit has no piece."""
        asked = question_pieces(question)
        distinct = sorted(set(units))
        read = self._read_units(distinct)
        known = [unit for unit in distinct if read[unit].keys]
        odds, traits = np.full(len(units), LEAST, np.float32), np.zeros((len(units), self.traits), np.float32)
        if not asked or not known:
            return Opinion(odds, traits)
        query = self._read([(asked, [_QUESTION] * len(asked))])[0]
        found = self._compare(query, [read[unit] for unit in known])
        place = {unit: i for i, unit in enumerate(known)}
        there = [i for i, unit in enumerate(units) if unit in place]
        chosen = [place[units[i]] for i in there]
        odds[there], traits[there] = np.clip(found.odds[chosen], LEAST, MOST), found.traits[chosen]
        return Opinion(odds, traits)

    def alike(self, message: str, units: Sequence[str]) -> Floats:
        """How alike a message and each unit are as wholes (units,), -1 to 1; 0 where either has no piece."""
        asked = question_pieces(message)
        read = self._read_units(sorted(set(units)))
        if not asked:
            return np.zeros(len(units), np.float32)
        query = self._read([(asked, [_QUESTION] * len(asked))])[0]
        return np.array([float(query.sense @ read[unit].sense) for unit in units], np.float32)

    def _read_units(self, units: list[str]) -> dict[str, Read]:
        """Every unit as read, from the cache where it was read before."""
        cached = {unit: found for unit in units if (found := self._cache.get(unit)) is not None}
        steps: dict[int, list[tuple[str, list[str], list[int]]]] = {}
        for unit in units:
            if unit not in cached:
                pieces, hung = unit_pieces(unit)
                kinds = [_CONTEXT] * hung + [_TEXT] * (len(pieces) - hung)
                steps.setdefault(-(-len(pieces) // _STEP), []).append((unit, pieces, kinds))
        for group in steps.values():
            read = self._read([(pieces, kinds) for _, pieces, kinds in group])
            cached.update((unit, found) for (unit, _, _), found in zip(group, read, strict=True))
        if len(self._cache) > _CACHED_UNITS:
            self._cache.clear()
        self._cache.update(cached)
        return cached

    def _read(self, texts: list[tuple[list[str], list[int]]]) -> list[Read]:
        """Texts of (pieces, kinds), all within one step of length, padded to its end.

        Every product has the same shape whatever else is read, so that a text's numbers do not depend on the others.
        """
        w = self._w
        longest = max(len(pieces) for pieces, _ in texts)
        if not longest:
            return [Read(np.zeros((0, self._width), np.float32), np.zeros(self._width, np.float32), ())] * len(texts)
        width = -(-longest // _STEP) * _STEP
        x = np.zeros((len(texts), width, self._width), np.float32)
        hidden = np.full((len(texts), 1, 1, width), _HIDDEN, np.float32)
        for i, (pieces, kinds) in enumerate(texts):
            n = len(pieces)
            x[i, :n] = self._vectors(pieces) + w["kind"][kinds] + w["place"][:n]
            hidden[i, ..., :n] = 0
        for block in range(self._encoder):
            name = f"encoder.{block}"
            y = _norm(x, w[f"{name}.norm.gain"]) @ w[f"{name}.attention.qkv"]
            q, k, v = y.reshape(len(texts), width, 3, self._heads, -1).transpose(2, 0, 3, 1, 4)
            odds = _softmax(q @ k.swapaxes(-1, -2) * self._sharp + hidden)
            x += _joined(odds @ v) @ w[f"{name}.attention.o.weight"]
            x += self._feed(x, name)
        x = _norm(x, w["encoded.gain"])
        weight = 1 / (1 + np.exp(-(x @ w["weigh.weight"] + w["weigh.bias"])))
        weight *= (hidden == 0)[:, 0, 0, :, None]
        pooled = (x * weight).sum(axis=1) / (weight.sum(axis=1) + np.float32(1e-3))
        sense = (pooled[:, None, :] @ w["sense.weight"])[:, 0]
        sense /= np.maximum(np.sqrt(np.einsum("ij,ij->i", sense, sense))[:, None], np.float32(1e-6))
        return [
            Read(x[i, : len(pieces)].copy(), sense[i], tuple(map(match_key, pieces)))
            for i, (pieces, _) in enumerate(texts)
        ]

    def _compare(self, query: Read, units: list[Read]) -> Opinion:
        """All units at once, padded to the longest."""
        w = self._w
        longest = max(len(unit.keys) for unit in units)
        told = np.zeros((len(units), longest, self._width), np.float32)
        hidden = np.full((len(units), 1, 1, longest), _HIDDEN, np.float32)
        equal = np.zeros((len(units), 1, len(query.keys), longest), np.float32)
        places: dict[str, list[int]] = {}
        for i, key in enumerate(query.keys):
            places.setdefault(key, []).append(i)
        for i, unit in enumerate(units):
            told[i, : len(unit.keys)] = unit.pieces
            hidden[i, ..., : len(unit.keys)] = 0
            for j, key in enumerate(unit.keys):
                for place in places.get(key, ()):
                    equal[i, 0, place, j] = 1
        x = np.repeat(query.pieces[None], len(units), axis=0)
        for block in range(self._cross):
            name = f"cross.{block}"
            part = f"{name}.attention"
            q = self._split(_norm(x, w[f"{name}.norm.gain"]) @ w[f"{part}.q.weight"])
            k, v = self._split(told @ w[f"{part}.k.weight"]), self._split(told @ w[f"{part}.v.weight"])
            logits = q @ k.swapaxes(-1, -2) * self._sharp + w[f"{part}.same"][:, None, None] * equal + hidden
            odds = _softmax(logits, w[f"{part}.slot"][:, None, None])
            x = x + _joined(odds @ v) @ w[f"{part}.o.weight"]
            part = f"{name}.self_attention"
            y = _norm(x, w[f"{name}.self_norm.gain"])
            q, k, v = (self._split(y @ w[f"{part}.{p}.weight"]) for p in "qkv")
            x = x + _joined(_softmax(q @ k.swapaxes(-1, -2) * self._sharp) @ v) @ w[f"{part}.o.weight"]
            x = x + self._feed(x, name)
        x = _norm(x, w["crossed.gain"])
        weight = _softmax((x @ w["pool.weight"] + w["pool.bias"])[..., 0])
        mean = (x * weight[..., None]).sum(axis=1)
        both = query.sense * np.stack([unit.sense for unit in units])
        likeness = both.sum(axis=-1, keepdims=True)
        most = np.maximum(x.max(axis=1), np.float32(-20))
        joint = np.concatenate([mean, most, both * np.float32(self._width**0.5), likeness], axis=-1)
        inner = np.maximum(joint @ w["hidden.weight"] + w["hidden.bias"], 0)
        return Opinion((inner @ w["out.weight"] + w["out.bias"])[:, 0] + w["likeness"] * likeness[:, 0], inner)

    def _vectors(self, pieces: list[str]) -> Floats:
        """(n, d): the row of each piece, or the mean of its n-grams."""
        rows = [self._row.get(piece, -1) for piece in pieces]
        found: Floats = self._w["words"][rows]
        for i, row in enumerate(rows):
            if row < 0:
                found[i] = self._w["grams"][list(buckets_of(pieces[i]))].mean(axis=0)
        return found

    def _feed(self, x: Floats, name: str) -> Floats:
        w = self._w
        inner = _norm(x, w[f"{name}.feed_norm.gain"]) @ w[f"{name}.feed.up.weight"] + w[f"{name}.feed.up.bias"]
        out: Floats = np.maximum(inner, 0, out=inner) @ w[f"{name}.feed.down.weight"]
        return out

    def _split(self, x: Floats) -> Floats:
        return x.reshape(*x.shape[:-1], self._heads, -1).swapaxes(-2, -3)


def unpacked(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Floats]:
    """Stored arrays as float32: those with a scale beside them are signed bytes, a scale each row."""
    names = [n for n in arrays if n != "vocabulary" and not n.endswith(".scale")]
    scaled = {n: arrays[f"{n}.scale"].astype(np.float32)[:, None] for n in names if f"{n}.scale" in arrays}
    return {n: arrays[n].astype(np.float32) * scaled.get(n, np.float32(1)) for n in names}


def _count(weights: Mapping[str, Floats], kind: str) -> int:
    return len({name.split(".")[1] for name in weights if name.startswith(f"{kind}.")})


def _norm(x: Floats, gain: Floats) -> Floats:
    squares = np.einsum("...i,...i->...", x, x)[..., None]
    scaled: Floats = x * (gain / np.sqrt(squares / np.float32(x.shape[-1]) + np.float32(1e-6)))
    return scaled


def _softmax(logits: Floats, empty: Floats | None = None) -> Floats:
    """Shares over the last axis; ``empty`` is the logit of a slot that takes its share and is dropped."""
    top = logits.max(axis=-1, keepdims=True)
    if empty is not None:
        top = np.maximum(top, empty)
    raised: Floats = logits - top
    np.exp(raised, out=raised)
    total = raised.sum(axis=-1, keepdims=True)
    if empty is not None:
        total += np.exp(empty - top)
    raised /= total
    return raised


def _joined(x: Floats) -> Floats:
    """Heads (..., h, n, d / h) side by side: (..., n, d)."""
    x = x.swapaxes(-2, -3)
    return x.reshape(*x.shape[:-2], -1)


@cache
def shared() -> Scorer:
    """The scorer of this process, loaded once."""
    return Scorer.load()
