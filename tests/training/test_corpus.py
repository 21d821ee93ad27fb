"""Reading public corpora: what is there is used, what is missing is said."""

from __future__ import annotations

import csv
import gzip
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from training.corpus import SOURCES, find_data, missing_sources, read_extra
from training.mixture import draw_document
from training.prompt import render


def write_shard(root: Path, name: str, records: list[dict[str, Any]]) -> None:
    folder = root / "corpus" / "shards"
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / f"{name}-000.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of the right form with a few records of our own."""
    fields = ["utterance", "intent", "entity_type", "entity_value"]
    rows = [
        ("where is my parcel", "track_order", "", ""),
        ("where is purchase 4711", "track_order", "order_id", "4711"),
        ("get me a human", "contact_human_agent", "", ""),
        ("damn, a human", "contact_human_agent", "", ""),
        ("I paid 30", "complaint", "", ""),
        ("open an account", "create_account", "", ""),
    ]
    folder = tmp_path / "bitext"
    folder.mkdir()
    with (folder / "Bitext_Sample_Customer_Service_Training_Dataset.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([fields, *rows])
    (tmp_path / "cucom_ecommerce").mkdir()
    first = [{"role": "user", "content": "My new kettle arrived in pieces, what now?"}]
    with zipfile.ZipFile(tmp_path / "cucom_ecommerce" / "ecommerce_v_0_1.jsonl.zip", "w") as archive:
        archive.writestr("merged.jsonl", json.dumps({"id": "1", "turns": first}) + "\n")
    faq = [["user", "Is there wifi?"], ["agent", "Wifi is free."], ["user", "Parking?"], ["agent", "Parking costs 4."]]
    write_shard(tmp_path, "dstc9-faq", [{"turns": faq}])
    write_shard(tmp_path, "star", [{"turns": [*faq]}])
    write_shard(tmp_path, "ms-chitchat", [{"turns": [["user", "hi"], ["agent", "hello"]]}])
    prose = "Alice ran down the\nlong road to the sea. Short one. “Talk,” said the cat and the dog and the bird."
    write_shard(tmp_path, "gutenberg-children", [{"text": prose}] * 4)
    return tmp_path


def test_without_data_the_generator_works_alone_and_says_so() -> None:
    said: list[str] = []
    extra = read_extra(None, said.append)
    assert len(said) == 1
    assert "FAIRLEAD_DATA is not set" in said[0]
    assert all(source.name in said[0] for source in SOURCES)
    assert render(draw_document(random.Random(1), "train", extra))


def test_what_is_missing_is_named(data: Path) -> None:
    assert [source.name for source in missing_sources(data)] == ["taskmaster4", "self-dialogue"]
    said: list[str] = []
    read_extra(data, said.append)
    counted = f"corpus: 2 of {len(SOURCES)} sources missing under {data}: taskmaster4, self-dialogue."
    assert said == [f"{counted} The generator does without."]


def test_texts_find_their_use(data: Path) -> None:
    extra = read_extra(data, lambda text: None)
    assert extra.messages == {
        "order status": ["where is my parcel"],
        "order status complete": ["where is purchase {order}"],
        "hand_off": ["get me a human"],
        "complaint": ["My new kettle arrived in pieces, what now?"],
    }
    assert extra.questions == [[("Is there wifi?", "Wifi is free."), ("Parking?", "Parking costs 4.")]]
    assert extra.small_talk == [("hi", "hello")]
    assert len(extra.dialogues) == 1
    assert set(extra.sentences) == {"Alice ran down the long road to the sea."}


def test_documents_are_drawn_from_the_corpora(data: Path) -> None:
    extra = read_extra(data, lambda text: None)
    rng = random.Random(2)
    text = "".join(render(draw_document(rng, "train", extra)) for _ in range(2000))
    for part in ("where is my parcel", "Wifi is free.", "get me a human", "My new kettle arrived in pieces"):
        assert part in text


def test_the_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FAIRLEAD_DATA", str(tmp_path))
    assert find_data() == tmp_path
    monkeypatch.delenv("FAIRLEAD_DATA")
    assert find_data() is None


def test_share_alike_and_benchmark_corpora_are_not_read() -> None:
    names = {source.name for source in SOURCES}
    assert not names & {"sgd", "smcalflow-valid", "xquad-en", "qed-dev", "wow-plus-plus", "wikitext2-devtest", "bfcl"}
    assert not any("SA" in source.licence for source in SOURCES)
