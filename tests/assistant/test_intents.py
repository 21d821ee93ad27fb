"""Routing by intent: the file of examples, who takes a message, and what the records say."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from fairlead.assistant import HandedOff, Router
from fairlead.assistant.agent import FOR_A_PERSON
from fairlead.assistant.intents import FEWEST, OTHER
from fairlead.errors import IntentsInvalid
from fairlead.spec import Routing
from tests.assistant.assistant_harness import SHOP, act_of, spoken
from tests.assistant.conftest import MakeShop

EXAMPLES = SHOP / "data" / "intents.jsonl"
ROUTING = Routing(examples="data/intents.jsonl", to_person=("injury", "legal"))


class Kept(dict[str, bytes]):
    """A cache that counts what was taken out."""

    hits = 0

    def get(self, key: str, default: object = None) -> bytes | None:  # type: ignore[override]
        """What was put."""
        found = super().get(key)
        self.hits += found is not None
        return found

    def put(self, key: str, data: bytes) -> None:
        """Keep."""
        self[key] = data


@pytest.fixture(scope="module")
def router() -> Router:
    return Router.load(ROUTING, EXAMPLES)


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("the gas stove exploded and my arm is burnt", "injury"),
        ("My lawyer will write to you next week.", "legal"),
        ("where is my parcel", "tracking"),
        ("is this jacket waterproof?", "products"),
    ],
)
def test_unseen_wordings_find_their_intent(router: Router, text: str, intent: str) -> None:
    assert router.guess(text) == (intent, intent in ROUTING.to_person)


@pytest.mark.parametrize("text", ["", "   ", "🙂" * 500, "مرحبا", "x" * 100_000, "<script>"])
def test_strange_messages_are_never_handed_over(router: Router, text: str) -> None:
    assert router.guess(text)[1] is False


def test_none_of_the_shops_answerable_questions_is_taken_from_the_assistant(router: Router) -> None:
    lines = (SHOP / "data" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line)["question"] for line in lines]
    assert [text for text in asked if router.guess(text)[1]] == []


def test_a_fitted_router_is_kept_and_a_damaged_one_made_anew() -> None:
    cache = Kept()
    text = "My lawyer will write to you next week."
    first = Router.load(ROUTING, EXAMPLES, cache)
    assert not first.ready
    assert first.guess(text) == ("legal", True)
    assert (first.ready, len(cache), cache.hits) == (True, 1, 0)
    assert Router.load(ROUTING, EXAMPLES, cache).guess(text) == ("legal", True)
    assert cache.hits == 1
    for key in cache:
        cache[key] = b"damaged"
    assert Router.load(ROUTING, EXAMPLES, cache).guess(text) == ("legal", True)


def test_what_decides_is_in_the_digest(tmp_path: Path) -> None:
    other = tmp_path / "intents.jsonl"
    other.write_bytes(EXAMPLES.read_bytes() + b'{"text": "a new wording", "intent": "legal"}\n')
    digests = {
        Router.load(ROUTING, EXAMPLES).digest,
        Router.load(ROUTING, other).digest,
        Router.load(Routing(examples="x", to_person=("legal",)), EXAMPLES).digest,
        Router.load(None, None).digest,
    }
    assert len(digests) == 4


FEW = "".join(f'{{"text": "{word} {n}", "intent": "{word}"}}\n' for word in ("tea", "milk") for n in range(FEWEST))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "0 intent"),
        ('{"text": "a", "intent": "b"}\n', "1 intent"),
        ("{broken\n", "line 1"),
        ('{"text": "a"}\n', "line 1"),
        ('{"text": " ", "intent": "b"}\n', "line 1 has an empty"),
        (FEW + '{"text": "juice", "intent": "juice"}\n', "juice has fewer than 5"),
        (FEW, "`to_person` names injury, legal"),
    ],
)
def test_examples_that_cannot_be_used_are_refused_with_the_reason(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "intents.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(IntentsInvalid, match=r"intents\.jsonl") as refused:
        Router.load(ROUTING, path)
    assert words in str(refused.value)
    with pytest.raises(IntentsInvalid, match="cannot be read"):
        Router.load(ROUTING, tmp_path / "none.jsonl")


async def test_what_a_person_must_see_goes_to_a_person_whatever_the_model(make_shop: MakeShop) -> None:
    shop = make_shop()
    for variant in ("extractive", "mini"):
        conversation, _ = await asyncio.to_thread(shop.assistant.open_conversation)
        events = await shop.say(conversation.id, "your stove exploded and burnt my hand", variant=variant)
        assert spoken(events) == FOR_A_PERSON
        assert act_of(events) == "handoff"
        assert any(isinstance(event, HandedOff) for event in events)
        handoff = shop.store.handoffs.of(conversation.id)
        assert handoff is not None
        assert handoff.reason == "about injury"
    assert shop.model.calls == []


async def test_the_record_says_what_it_was_about(make_shop: MakeShop) -> None:
    shop = make_shop()
    await shop.assistant.ask("How much is delivery to Austria?")
    parent = next(trace for trace in await shop.traces() if trace.operation == "assistant")
    assert parent.tags["intent"] == "delivery"
    plain = make_shop(change={"routing: {examples: data/intents.jsonl, to_person: [injury, legal]}": ""})
    await plain.assistant.ask("your stove exploded and burnt my hand")
    parent = next(trace for trace in await plain.traces() if trace.operation == "assistant")
    assert "intent" not in parent.tags


async def test_without_people_nothing_is_handed_over(make_shop: MakeShop) -> None:
    shop = make_shop(change={"    enabled: true\n": "    enabled: false\n"})
    answer = await shop.assistant.ask("your stove exploded and burnt my hand")
    assert answer.text != FOR_A_PERSON
    assert OTHER not in answer.text
