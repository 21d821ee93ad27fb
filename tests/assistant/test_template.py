"""The project `fairlead init` writes, asked what the product suggests to ask: its pages must carry the answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import fairlead.spec
from fairlead.assistant import Assistant, Knowledge, Tools
from fairlead.engines.extractive.phrases import RESERVED
from fairlead.gateway import Gateway, Identity, Route
from fairlead.guard import Masker
from fairlead.settings import Settings
from fairlead.spec import load
from fairlead.store import Store
from tests.assistant.assistant_harness import quoting

TEMPLATE = Path(fairlead.spec.__file__).parent / "templates" / "shop_support"
QUESTIONS = [json.loads(line) for line in (TEMPLATE / "data" / "questions.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def lantern_lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Assistant]:
    """The template's assistant with the real extractive engine."""
    usecase = load(TEMPLATE / "fairlead.yaml")
    directory = tmp_path_factory.mktemp("template")
    with Store.open(directory, flush_ms=5) as store:
        gateway = Gateway(
            routes={"extractive": Route(name="extractive", upstream=quoting(), model="extractive")},
            keys=store.keys,
            record=store.traces.append,
            settings=Settings(project=TEMPLATE, data_dir=directory),
            mask=Masker(),
            identity=Identity(usecase=usecase.name, spec_hash=usecase.spec_hash),
        )
        yield Assistant(
            gateway=gateway,
            usecase=usecase,
            store=store,
            knowledge=Knowledge.load([TEMPLATE / "knowledge"]),
            tools=Tools.load([TEMPLATE / "tools.py"]),
            mask=Masker(),
            releases={"extractive": "release-extractive"},
        )


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("How long does delivery take?", "2 to 3 working days"),
        ("what's the delivery time to germany", "2 to 3 working days"),
        ("what does delivery cost", "€3.90"),
        ("How much is shipping to Austria?", "€6.90"),
        ("How much does delivery to Austria cost?", "€6.90"),
        ("Can I return sale items?", "sale"),
        ("Can I return something I bought on sale?", "sale"),
    ],
)
async def test_suggested_questions_get_a_sure_and_right_answer(
    lantern_lane: Assistant, question: str, fact: str
) -> None:
    answer = await lantern_lane.ask(question)
    assert answer.act == "answer", answer.text
    assert fact in answer.text
    assert not answer.text.startswith(RESERVED), answer.text


@pytest.mark.parametrize("row", QUESTIONS, ids=lambda row: str(row["id"]))
async def test_the_example_questions_get_what_they_expect(lantern_lane: Assistant, row: dict[str, object]) -> None:
    answer = await lantern_lane.ask(str(row["question"]))
    facts = row.get("facts")
    if isinstance(facts, list):
        assert all(fact in answer.text for fact in facts), answer.text
    else:
        assert answer.act != "answer" or answer.text.startswith(RESERVED), answer.text
