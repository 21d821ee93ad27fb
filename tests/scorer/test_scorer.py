"""The scorer's arithmetic against a slow obvious version, and what it promises on odd input."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.engines.scorer import LEAST, MOST, Scorer, shared, with_context
from fairlead.engines.scorer.pieces import buckets_of, match_key, question_pieces, unit_pieces
from fairlead.engines.scorer.scorer import WEIGHTS, Floats, unpacked
from fairlead.errors import WeightsDamaged, WeightsMissing

UNITS = [
    with_context("Returns", "You have 30 days to send back anything unused."),
    with_context("Delivery", "Parcels arrive within three working days."),
    with_context("Delivery abroad Country Price", "Austria – Price: €9.50, Days: 4"),
    "Our workshop smells of linseed oil, thymequat and blorpish varnish.",
    with_context("Returns", "Who pays for the way back? We do, if the fault is ours."),
]
QUESTIONS = ["how long do I have to return it?", "postage to Austria", "Is delivery of the blorpish one quick?"]


# ---------------------------------------------------------------- the slow obvious version
def norm(row: list[float], gain: Floats) -> list[float]:
    size = math.sqrt(sum(x * x for x in row) / len(row) + 1e-6)
    return [x / size * float(g) for x, g in zip(row, gain, strict=True)]


def times(matrix: Floats, row: list[float]) -> list[float]:
    return [float(np.dot(line.astype(np.float64), row)) for line in matrix]


def added(left: list[float], right: list[float]) -> list[float]:
    return [a + b for a, b in zip(left, right, strict=True)]


class Slow:
    """The model as training/scorer_model.py describes it, one number after the other."""

    def __init__(self, vocabulary: list[str], weights: dict[str, Floats]) -> None:
        self.row_of = {word: i for i, word in enumerate(vocabulary)}
        self.w = weights
        self.heads = len(weights["cross.0.attention.slot"])

    def vector(self, piece: str) -> Floats:
        if piece in self.row_of:
            known: Floats = self.w["words"][self.row_of[piece]]
            return known
        mean: Floats = np.mean([self.w["grams"][b] for b in buckets_of(piece)], axis=0)
        return mean

    def attend(
        self, name: str, xs: list[list[float]], ys: list[list[float]], equal: list[list[bool]] | None = None
    ) -> list[list[float]]:
        q = [times(self.w[f"{name}.q.weight"], x) for x in xs]
        k = [times(self.w[f"{name}.k.weight"], y) for y in ys]
        v = [times(self.w[f"{name}.v.weight"], y) for y in ys]
        size = len(xs[0]) // self.heads
        out = []
        for i in range(len(xs)):
            mixed: list[float] = []
            for head in range(self.heads):
                part = slice(head * size, (head + 1) * size)
                logits = [float(np.dot(q[i][part], k[j][part])) / math.sqrt(size) for j in range(len(ys))]
                if equal is not None:
                    same = float(self.w[f"{name}.same"][head])
                    logits = [x + same * equal[i][j] for j, x in enumerate(logits)]
                total = sum(map(math.exp, logits))
                if equal is not None:
                    total += math.exp(float(self.w[f"{name}.slot"][head]))
                shares = [math.exp(x) / total for x in logits]
                mixed += [sum(shares[j] * v[j][part][d] for j in range(len(ys))) for d in range(size)]
            out.append(times(self.w[f"{name}.o.weight"], mixed))
        return out

    def feed(self, name: str, x: list[float]) -> list[float]:
        inner = times(self.w[f"{name}.feed.up.weight"], norm(x, self.w[f"{name}.feed_norm.gain"]))
        inner = [max(0.0, a + float(b)) for a, b in zip(inner, self.w[f"{name}.feed.up.bias"], strict=True)]
        return times(self.w[f"{name}.feed.down.weight"], inner)

    def read(self, pieces: list[str], kinds: list[int]) -> tuple[list[list[float]], list[float]]:
        xs = [
            [float(x) for x in self.vector(p) + self.w["kind"][kind] + self.w["place"][i]]
            for i, (p, kind) in enumerate(zip(pieces, kinds, strict=True))
        ]
        block = 0
        while f"encoder.{block}.norm.gain" in self.w:
            name = f"encoder.{block}"
            ys = [norm(x, self.w[f"{name}.norm.gain"]) for x in xs]
            xs = [added(x, y) for x, y in zip(xs, self.attend(f"{name}.attention", ys, ys), strict=True)]
            xs = [added(x, self.feed(name, x)) for x in xs]
            block += 1
        xs = [norm(x, self.w["encoded.gain"]) for x in xs]
        weights = [
            1 / (1 + math.exp(-times(self.w["weigh.weight"], x)[0] - float(self.w["weigh.bias"][0]))) for x in xs
        ]
        pooled = [
            sum(w * x[d] for w, x in zip(weights, xs, strict=True)) / (sum(weights) + 1e-3) for d in range(len(xs[0]))
        ]
        sense = times(self.w["sense.weight"], pooled)
        length = math.sqrt(sum(s * s for s in sense))
        return xs, [s / length for s in sense]

    def score(self, question: str, unit: str) -> float:
        asked = question_pieces(question)
        told, hung = unit_pieces(unit)
        xs, sense = self.read(asked, [0] * len(asked))
        ys, unit_sense = self.read(told, [1] * hung + [2] * (len(told) - hung))
        equal = [[match_key(a) == match_key(b) for b in told] for a in asked]
        block = 0
        while f"cross.{block}.norm.gain" in self.w:
            name = f"cross.{block}"
            zs = [norm(x, self.w[f"{name}.norm.gain"]) for x in xs]
            xs = [added(x, y) for x, y in zip(xs, self.attend(f"{name}.attention", zs, ys, equal), strict=True)]
            zs = [norm(x, self.w[f"{name}.self_norm.gain"]) for x in xs]
            xs = [added(x, y) for x, y in zip(xs, self.attend(f"{name}.self_attention", zs, zs), strict=True)]
            xs = [added(x, self.feed(name, x)) for x in xs]
            block += 1
        xs = [norm(x, self.w["crossed.gain"]) for x in xs]
        raised = [math.exp(times(self.w["pool.weight"], x)[0]) for x in xs]
        width = range(len(xs[0]))
        mean = [sum(r * x[d] for r, x in zip(raised, xs, strict=True)) / sum(raised) for d in width]
        most = [max(-20.0, max(x[d] for x in xs)) for d in width]
        both = [a * b for a, b in zip(sense, unit_sense, strict=True)]
        joint = [*mean, *most, *(b * math.sqrt(len(both)) for b in both), sum(both)]
        inner = times(self.w["hidden.weight"], joint)
        inner = [max(0.0, a + float(b)) for a, b in zip(inner, self.w["hidden.bias"], strict=True)]
        found = times(self.w["out.weight"], inner)[0] + float(self.w["out.bias"][0])
        return min(MOST, max(LEAST, found + float(self.w["likeness"]) * sum(both)))


def test_alike_is_the_cosine_of_what_two_texts_say() -> None:
    with np.load(WEIGHTS) as arrays:
        slow = Slow(arrays["vocabulary"].tobytes().decode("utf-8").split("\n"), unpacked(arrays))
    told, hung = unit_pieces(UNITS[0])
    asked = question_pieces(QUESTIONS[0])
    unit = slow.read(told, [1] * hung + [2] * (len(told) - hung))[1]
    found = shared().alike(QUESTIONS[0], [UNITS[0], "", UNITS[0]])
    assert found[0] == pytest.approx(float(np.dot(slow.read(asked, [0] * len(asked))[1], unit)), abs=1e-4)
    assert (found[1], found[2]) == (0.0, found[0])
    assert shared().alike("", UNITS).tolist() == [0.0] * len(UNITS)


def test_it_computes_what_the_slow_version_computes() -> None:
    with np.load(WEIGHTS) as arrays:
        slow = Slow(arrays["vocabulary"].tobytes().decode("utf-8").split("\n"), unpacked(arrays))
    scorer = Scorer.load()
    for question, units in ((QUESTIONS[1], UNITS[:3]), (QUESTIONS[2], UNITS[3:])):
        wanted = [slow.score(question, unit) for unit in units]
        np.testing.assert_allclose(scorer.score(question, units), wanted, atol=2e-3)


# ---------------------------------------------------------------- promises
def test_a_plain_question_finds_its_sentence() -> None:
    assert int(shared().score(QUESTIONS[0], UNITS).argmax()) == 0
    assert int(shared().score(QUESTIONS[1], UNITS).argmax()) == 2


def test_neither_order_nor_what_was_asked_before_changes_a_score() -> None:
    fresh, used = Scorer.load(), Scorer.load()
    for question in QUESTIONS:
        used.score(question, UNITS[2:])
    first = fresh.score(QUESTIONS[0], UNITS)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(used.score(QUESTIONS[0], UNITS), first)
    np.testing.assert_array_equal(used.score(QUESTIONS[0], UNITS[::-1]), first[::-1])
    np.testing.assert_array_equal(used.score(QUESTIONS[0], [*UNITS, UNITS[1]])[[1, -1]], first[[1, 1]])


def test_scores_hardly_depend_on_the_other_units() -> None:
    together = shared().score(QUESTIONS[1], UNITS)
    alone = [float(shared().score(QUESTIONS[1], [unit])[0]) for unit in UNITS]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_nothing_to_compare_is_the_least() -> None:
    scorer = shared()
    assert scorer.score("when?", []).shape == (0,)
    assert scorer.score("", UNITS).tolist() == [LEAST] * len(UNITS)
    assert scorer.score("when?", ["", "…", with_context("", "")]).tolist() == [LEAST] * 3
    mixed = scorer.score("when do parcels arrive?", ["", UNITS[1]])
    assert mixed[0] == LEAST < mixed[1]


@pytest.mark.parametrize("text", ["a" * 100_000, "why " * 50_000, "🙂" * 5_000, "\x00\ud800\u202e", "1234567890" * 900])
def test_huge_and_odd_texts_stay_in_bounds(text: str) -> None:
    found = shared().score(text, [text, with_context(text, text), UNITS[0]])
    assert ((found >= LEAST) & (found <= MOST)).all()


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=80), st.lists(st.text(max_size=120), max_size=5))
def test_any_text_gets_a_bounded_score(question: str, units: list[str]) -> None:
    found = shared().score(question, units)
    assert found.shape == (len(units),)
    assert np.isfinite(found).all()


def test_damaged_or_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing):
        Scorer.load(tmp_path / "scorer.npz")
    shutil.copy(WEIGHTS, tmp_path / "scorer.npz")
    card = json.loads(WEIGHTS.with_suffix(".json").read_text())
    (tmp_path / "scorer.json").write_text(json.dumps({**card, "sha256": "0" * 64}))
    with pytest.raises(WeightsDamaged):
        Scorer.load(tmp_path / "scorer.npz")


def test_the_weights_are_small_and_described() -> None:
    card = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert WEIGHTS.stat().st_size == card["bytes"] <= 8_000_000
    assert card["licence"] == "Apache-2.0"
    assert not any("SA" in licence for licence in card["data"].values())


def test_pieces_keep_what_matters() -> None:
    assert question_pieces("Hm. " * 100 + "free at €50?")[-4:] == ["at", "€", "50", "?"]
    pieces, hung = unit_pieces(with_context("Café › Delivery  costs", "It's 5 % of the €50."))
    assert (pieces, hung) == (["cafe", "delivery", "costs", "it's", "5", "%", "of", "the", "€", "50"], 3)
    assert unit_pieces("no heading") == (["no", "heading"], 0)
    assert match_key("returned") == match_key("return") == match_key("returns")


# ---------------------------------------------------------------- why a score is what it is
def test_traits_are_what_a_score_is_a_sum_of() -> None:
    with np.load(WEIGHTS) as arrays:
        weights = unpacked(arrays)
    told = shared().consider(QUESTIONS[0], [*UNITS, ""])
    np.testing.assert_array_equal(told.odds, shared().score(QUESTIONS[0], [*UNITS, ""]))
    assert told.traits.shape == (len(UNITS) + 1, shared().traits)
    assert (told.traits >= 0).all()
    assert not told.traits[-1].any()
    likeness = shared().alike(QUESTIONS[0], UNITS) * weights["likeness"]
    summed = told.traits[:-1] @ weights["out.weight"][0] + weights["out.bias"][0] + likeness
    np.testing.assert_allclose(np.clip(summed, LEAST, MOST), told.odds[:-1], atol=1e-3)
    assert not shared().consider("", UNITS).traits.any()
