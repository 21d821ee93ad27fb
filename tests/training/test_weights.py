"""The shipped `mini`: the card belongs to the file, the file to the prompt shape, and llama.cpp serves it."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.corpus import SOURCES
from training.evaluate import Engine, start_engine
from training.generator import SKILLS, Extra, draw_cases
from training.judging import AT_LEAST, Count
from training.prompt import CHAT_TEMPLATE, MARKERS, as_messages

WEIGHTS = Path(__file__).parents[2] / "src" / "fairlead" / "engines" / "weights"
LARGEST = 32 * 2**20  # docs and design promise: all weights in the repository together
CARD: dict[str, Any] = json.loads((WEIGHTS / "mini.json").read_text(encoding="utf-8"))
MODEL = WEIGHTS / CARD["file"]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with start_engine(MODEL) as engine:
        yield engine


def test_the_card_belongs_to_the_file() -> None:
    data = MODEL.read_bytes()
    assert hashlib.sha256(data).hexdigest() == CARD["sha256"]
    assert len(data) == CARD["bytes"]


def test_all_weights_together_stay_small() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) <= LARGEST


@pytest.mark.parametrize("part", ["skills", "skills_in_trained_wordings"])
def test_intervals_and_verdicts_follow_from_the_counts(part: str) -> None:
    assert [line["skill"] for line in CARD[part]] == list(SKILLS)
    for line in CARD[part]:
        expected = Count(line["skill"], line["n"], line["right"]).as_dict()
        assert {key: line[key] for key in expected} == expected


def test_only_skills_that_are_no_worse_through_the_cascade_are_called_held() -> None:
    assert CARD["objective"]["at_least"] == AT_LEAST
    measured = {line["skill"]: line for line in CARD["through_the_cascade"]["skills"]}
    margin = CARD["through_the_cascade"]["margin"]
    assert 0 < margin <= 0.02
    further = {"grounded_one": "natural", "tool_result": "unseen_result"}
    for skill in ("grounded_one", "tool_result", "ask_missing"):
        line, beyond = measured[skill], measured[further.get(skill, skill)]
        assert line["cascade"] - line["extractive"] == line["gained"] - line["lost"]
        good = line["low"] >= -margin and beyond["low"] >= -margin and 10 * line["worded"] >= line["shown"]
        assert (skill in CARD["holds"]) is good
    assert set(CARD["holds"]) <= set(measured) - set(further.values())


def test_every_source_is_named_with_its_licence() -> None:
    named = {source["name"]: source["licence"] for source in CARD["data"]}
    assert named.pop("generator") == "Apache-2.0"
    assert named == {source.name: source.licence for source in SOURCES}


def test_the_file_describes_itself() -> None:
    gguf = pytest.importorskip("gguf", reason="reading the header needs gguf: pip install '.[dev]'")
    reader = gguf.GGUFReader(str(MODEL))
    fields = {name: reader.fields[name].contents() for name in reader.fields if not name.startswith("tokenizer.ggml.t")}
    assert fields["general.architecture"] == "llama"
    assert fields["general.author"] == "Fairlead"
    assert fields["general.license"] == CARD["licence"]
    assert fields["general.version"] == CARD["version"]
    assert fields["llama.context_length"] == CARD["context"]
    assert fields["llama.embedding_length"] == CARD["shape"]["hidden"]
    assert fields["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert sum(int(tensor.n_elements) for tensor in reader.tensors) == CARD["parameters"]
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert tokens[: len(MARKERS)] == list(MARKERS)


def test_the_engine_builds_the_trained_prompt(engine: Engine) -> None:
    for skill in SKILLS:
        for document, place in draw_cases(skill, 5, "wordings", 11, Extra()):
            assert engine.has_shape(document, place)


def test_greedy_answers_are_words_that_end_and_repeat(engine: Engine) -> None:
    document, place = draw_cases("small_talk", 1, "shops", 5, Extra())[0]
    answers = {engine.answer(document, place) for _ in range(3)}
    assert len(answers) == 1
    assert len(answers.pop().split()) >= 2


def test_it_streams(engine: Engine) -> None:
    document, place = draw_cases("hand_off", 1, "shops", 5, Extra())[0]
    body = {"messages": as_messages(document, place), "temperature": 0, "max_tokens": 64, "stream": True}
    whole, parts = engine.answer(document, place), []
    for line in engine.stream("/v1/chat/completions", body):
        parts += [choice["delta"].get("content") or "" for choice in line["choices"]]
    assert len(parts) > 3
    assert "".join(parts) == whole


def test_requests_at_the_same_time_are_all_answered(engine: Engine) -> None:
    cases = draw_cases("small_talk", 6, "shops", 6, Extra())
    expected = [engine.answer(*case) for case in cases]
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        found[number] = engine.answer(*cases[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [found[number] for number in range(len(cases))] == expected


def write_adapter(path: Path, strength: float) -> None:
    """A LoRA adapter of rank 4 on one matrix of every layer, with random weights."""
    import gguf

    random, shape = np.random.default_rng(1), CARD["shape"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    for layer in range(shape["layers"]):
        name = f"blk.{layer}.ffn_down.weight"
        writer.add_tensor(f"{name}.lora_a", random.normal(0, 1, (4, shape["inner"])).astype(np.float32))
        change = strength * random.normal(0, 1, (shape["hidden"], 4))
        writer.add_tensor(f"{name}.lora_b", change.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(("strength", "same"), [(0.0, True), (0.05, False)])
def test_it_takes_an_adapter(engine: Engine, tmp_path: Path, strength: float, same: bool) -> None:
    pytest.importorskip("gguf", reason="writing an adapter needs gguf: pip install '.[dev]'")
    adapter = tmp_path / "adapter.gguf"
    write_adapter(adapter, strength)
    cases = draw_cases("small_talk", 4, "shops", 5, Extra())
    with start_engine(MODEL, adapter) as adapted:
        answers = [adapted.answer(*case) for case in cases]
    assert (answers == [engine.answer(*case) for case in cases]) is same


def test_a_broken_request_is_refused_and_the_engine_lives(engine: Engine) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        engine.post("/v1/chat/completions", {"messages": "nothing"})
    caught.value.close()
    assert 400 <= caught.value.code < 600
    document, place = draw_cases("small_talk", 1, "shops", 5, Extra())[0]
    assert engine.answer(document, place)
