"""The embedder and its `/v1/embeddings`: shapes, determinism, meaning, damaged weights, refusals."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.engines.embed import Embed, Embedder
from fairlead.engines.embed.embedder import WEIGHTS
from fairlead.engines.embed.words import BUCKETS, buckets_of, fold, words_of
from fairlead.errors import WeightsDamaged, WeightsMissing
from fairlead.providers.base import Call, CallContext

EMBEDDER = Embedder.load()


def similarity(a: str, b: str) -> float:
    one, two = EMBEDDER.encode([a, b])
    return float(one @ two)


def embed(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    call = Call(operation="embedding", body=body, stream=False, deadline=0.0, context=CallContext())
    reply = asyncio.run(Embed().upstream().open(call))
    assert reply.body is not None
    return reply.status, json.loads(reply.body)


def test_vectors_have_length_one_and_texts_without_words_are_zero() -> None:
    vectors = EMBEDDER.encode(["how long do returns take?", "Übergröße straße", "10423", "", "?!"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, EMBEDDER.dimension)
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("question", "near", "far"),
    [
        ("when will my parcel get here?", "Standard delivery takes three working days.", "We accept Visa and PayPal."),
        ("I want my money back", "Refunds are paid within a week.", "Our shop is in Ghent."),
        ("is there a guarantee", "All products come with a two-year warranty.", "Gift wrapping costs extra."),
        ("how can i pay", "We take credit cards and bank transfer.", "Wash the jacket by hand."),
    ],
)
def test_what_belongs_together_is_closer(question: str, near: str, far: str) -> None:
    assert similarity(question, near) > similarity(question, far) + 0.1


@pytest.mark.parametrize(
    ("right", "slipped"), [("delivery", "delivrey"), ("guarantee", "garantee"), ("refund", "refundd")]
)
def test_a_slip_of_the_finger_stays_closer_than_another_word(right: str, slipped: str) -> None:
    assert similarity(right, slipped) > similarity("address", slipped)


@settings(deadline=None)
@given(st.lists(st.text(max_size=300), max_size=6))
def test_any_text_encodes_alone_as_in_a_batch(texts: list[str]) -> None:
    together = EMBEDDER.encode(texts)
    assert together.shape == (len(texts), EMBEDDER.dimension)
    assert np.isfinite(together).all()
    for i, text in enumerate(texts):
        assert np.array_equal(together[i], Embedder.encode(EMBEDDER, [text])[0])


@settings(deadline=None)
@given(st.text(min_size=1, max_size=60))
def test_every_word_has_buckets_in_range(text: str) -> None:
    for word in words_of(text):
        assert word == fold(word) or not word.isascii()
        assert buckets_of(word)
        assert all(0 <= bucket < BUCKETS for bucket in buckets_of(word))


def test_the_card_tells_the_truth_about_the_file() -> None:
    card = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert card["sha256"] == EMBEDDER.digest
    assert card["bytes"] == WEIGHTS.stat().st_size <= 8_000_000
    assert card["dimension"] == EMBEDDER.dimension
    assert card["licence"] == "Apache-2.0"
    assert not [name for name, licence in card["data"].items() if "SA" in licence.split()]


def copy_weights(folder: Path) -> Path:
    shutil.copy(WEIGHTS.with_suffix(".json"), folder / "embed.json")
    return Path(shutil.copy(WEIGHTS, folder / "embed.npz"))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="nothing"):
        Embedder.load(tmp_path / "nothing.npz")


@pytest.mark.parametrize("keep", [0, 100, 1_000_000])
def test_truncated_weights_are_refused(tmp_path: Path, keep: int) -> None:
    path = copy_weights(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsDamaged, match="SHA-256"):
        Embedder.load(path)


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = copy_weights(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(WeightsDamaged):
        asyncio.run(Embed(weights=path).start())


def test_embeddings_as_floats_and_as_base64_agree() -> None:
    status, floats = embed({"model": "embed", "input": ["how do I pay?", "hello"]})
    assert status == 200
    assert floats["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert [entry["index"] for entry in floats["data"]] == [0, 1]
    _, packed = embed({"model": "embed", "input": "how do I pay?", "encoding_format": "base64"})
    vector = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    assert np.allclose(vector, floats["data"][0]["embedding"])
    assert floats["model"] == "embed"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": ["a", None]}, "input"),
        ({"input": ""}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"input": "a", "dimensions": 64}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": ["a"] * 3000}, "input"),
    ],
)
def test_what_cannot_be_embedded_is_refused(body: dict[str, Any], param: str) -> None:
    status, answer = embed(body)
    assert status == 400
    assert answer["error"]["param"] == param
    assert answer["error"]["type"] == "invalid_request_error"


def test_another_operation_is_refused() -> None:
    call = Call(operation="chat", body={"messages": []}, stream=False, deadline=0.0, context=CallContext())
    reply = asyncio.run(Embed().upstream().open(call))
    assert reply.status == 400


async def test_the_engine_starts_and_stops() -> None:
    engine = Embed()
    assert engine.health().state == "stopped"
    await engine.start()
    assert engine.health().state == "ready"
    await engine.stop()
    await engine.stop()
    assert engine.health().state == "stopped"
