"""What quantising costs is measured on the weights as the file gives them back."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install '.[tune]'")
pytest.importorskip("tokenizers", reason="training needs tokenizers: pip install '.[tune]'")
pytest.importorskip("gguf", reason="packing weights needs gguf: pip install '.[tune]'")

from training.generator import Extra  # noqa: E402
from training.model import Shape, build_weights  # noqa: E402
from training.packing import Encoder, make_block  # noqa: E402
from training.prompt import TURN_START  # noqa: E402
from training.quantised import held_out_loss, rounded  # noqa: E402
from training.tokenizer import train_tokenizer  # noqa: E402


def test_rounding_moves_the_loss_a_little_and_vectors_not_at_all(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(Extra(), count=200, size=800)
    shape = Shape(vocabulary=tokenizer.get_vocab_size(), layers=2)
    weights = {
        name: tensor.detach() for name, tensor in build_weights(shape, 1, tokenizer.token_to_id(TURN_START)).items()
    }
    rows = make_block(Encoder(tokenizer), Extra(), 0, 4, 192, 1, "wordings")
    packed = rounded(weights, "q8_0")
    assert rounded(weights, "f32") is weights
    for name, tensor in weights.items():
        assert torch.equal(packed[name], tensor) is (tensor.ndim == 1)
        assert torch.allclose(packed[name], tensor, atol=float(tensor.abs().max()) / 120)
    (exact, count), (coarse, again) = held_out_loss(weights, shape, rows), held_out_loss(packed, shape, rows)
    assert count == again > 50
    assert coarse != exact
    assert abs(coarse - exact) < 0.02 * exact
