"""Export: llama.cpp computes from the file what the training code computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install '.[tune]'")
gguf = pytest.importorskip("gguf", reason="the export needs gguf: pip install '.[tune]'")
pytest.importorskip("tokenizers", reason="training needs tokenizers: pip install '.[tune]'")

from training.evaluate import start_engine  # noqa: E402
from training.export import interleave, split_weights, write_gguf, write_hf  # noqa: E402
from training.generator import Extra, draw_cases  # noqa: E402
from training.model import Shape, build_weights, encode, rope_tables  # noqa: E402
from training.prompt import TURN_START, render  # noqa: E402
from training.tokenizer import train_tokenizer  # noqa: E402

TEXT = "Returns are possible for 14 days. Returns are"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Shape, Any, Path]:
    """An untrained model with the copy circuit, exported in f16."""
    tokenizer = train_tokenizer(Extra(), count=300, size=1024)
    shape = Shape(vocabulary=tokenizer.get_vocab_size(), layers=2)
    weights = {
        name: weight.detach() for name, weight in build_weights(shape, 1, tokenizer.token_to_id(TURN_START)).items()
    }
    path = tmp_path_factory.mktemp("export") / "tiny.gguf"
    write_gguf(path, weights, shape, tokenizer, "f16", "9.9")
    return weights, shape, tokenizer, path


def test_the_engine_continues_as_the_training_code_does(model: tuple[Any, Shape, Any, Path]) -> None:
    weights, shape, tokenizer, path = model
    ids: list[int] = tokenizer.encode(TEXT).ids
    tables, length = rope_tables(shape, 256), len(ids)
    for _ in range(8):
        mask = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()[None, None]
        with torch.no_grad():
            states = encode(weights, shape, torch.tensor([ids]), mask, tables)
        ids.append(int((states[0, -1] @ weights["embedding"].T).argmax()))
    with start_engine(path) as engine:
        answer = engine.post("/completion", {"prompt": TEXT, "n_predict": 8, "temperature": 0})
        assert engine.post("/tokenize", {"content": TEXT})["tokens"] == ids[:length]
    assert answer["content"] == tokenizer.decode(ids[length:])
    assert answer["content"].startswith(" possible for 14")


def test_the_engine_builds_and_cuts_the_trained_prompt(model: tuple[Any, Shape, Any, Path]) -> None:
    _, _, tokenizer, path = model
    with start_engine(path) as engine:
        for skill in ("grounded_few", "tool_call", "tool_result"):
            for document, place in draw_cases(skill, 8, "wordings", 1, Extra()):
                assert engine.has_shape(document, place)
                prompt = render(document, place)
                cut = engine.post("/tokenize", {"content": prompt, "parse_special": True, "add_special": False})
                assert cut["tokens"] == tokenizer.encode(prompt).ids


def test_quantising_keeps_names_and_shapes(model: tuple[Any, Shape, Any, Path], tmp_path: Path) -> None:
    weights, shape, tokenizer, path = model
    small = tmp_path / "small.gguf"
    write_gguf(small, weights, shape, tokenizer, "q8_0", "9.9")
    exact, packed = (
        {tensor.name: tensor.shape.tolist() for tensor in gguf.GGUFReader(str(file)).tensors} for file in (path, small)
    )
    assert exact == packed
    assert small.stat().st_size < 0.65 * path.stat().st_size
    again = tmp_path / "again.gguf"
    write_gguf(again, weights, shape, tokenizer, "q8_0", "9.9")
    assert again.read_bytes() == small.read_bytes()


def test_interleaving_pairs_the_halves_of_each_head() -> None:
    import numpy as np

    rows = np.arange(8, dtype=np.float32)[:, None]
    assert interleave(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_a_hugging_face_folder_is_complete(model: tuple[Any, Shape, Any, Path], tmp_path: Path) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy", reason="pip install '.[tune]'")
    weights, shape, tokenizer, _ = model
    write_hf(tmp_path, weights, shape, tokenizer)
    tensors = numpy_files.load_file(str(tmp_path / "model.safetensors"))
    assert set(tensors) == set(split_weights(weights, shape))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["hidden_size"] == shape.hidden
    assert config["head_dim"] * config["num_attention_heads"] == config["hidden_size"]
    assert (tmp_path / "tokenizer.json").exists()
    assert "chat_template" in json.loads((tmp_path / "tokenizer_config.json").read_text())
