"""The intent classifier: it learns, says when nothing fits, keeps as bytes, and refuses what cannot be learnt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.engines.embed.embedder import shared
from fairlead.engines.embed.intents import BUCKETS, Intents, bag_of
from training.embed_data import OFF_TOPIC, Split, load_topics

TOPICS = [topic for topic in load_topics() if len(topic.questions_of(Split.TRAIN)) >= 5]
TEXTS = [text for topic in TOPICS for text in topic.questions_of(Split.TRAIN)]
LABELS = [topic.name for topic in TOPICS for _ in topic.questions_of(Split.TRAIN)]


@pytest.fixture(scope="module")
def model() -> Intents:
    return Intents.fit(TEXTS, LABELS, shared())


def test_unseen_wordings_find_their_intent(model: Intents) -> None:
    asked = [(text, topic.name) for topic in TOPICS for text in topic.questions_of(Split.CALIBRATE)]
    guesses = model.guesses([text for text, _ in asked], shared())
    right = sum(guess.intent == name for guess, (_, name) in zip(guesses, asked, strict=True))
    assert len(TOPICS) >= 20
    assert right / len(asked) > 0.6


def test_what_belongs_to_no_intent_is_called_unknown_more_often(model: Intents) -> None:
    known = [guess.known for guess in model.guesses(TEXTS, shared())]
    strange = [guess.known for guess in model.guesses(OFF_TOPIC, shared())]
    assert sum(known) / len(known) > 0.9
    assert sum(strange) / len(strange) < 0.5


def test_a_message_alone_gets_what_it_gets_in_a_batch(model: Intents) -> None:
    together = model.guesses(TEXTS[:20], shared())
    for text, guess in zip(TEXTS[:20], together, strict=True):
        alone = model.guess(text, shared())
        assert alone.intent == guess.intent
        assert alone.fit == pytest.approx(guess.fit, abs=1e-5)


def test_fitting_again_gives_the_same(model: Intents) -> None:
    again = Intents.fit(TEXTS, LABELS, shared())
    assert again.threshold == model.threshold
    assert again.guesses(TEXTS[:50], shared()) == model.guesses(TEXTS[:50], shared())


def test_it_keeps_as_bytes(model: Intents) -> None:
    kept = Intents.decode(model.encode())
    assert kept.labels == model.labels
    for one, other in zip(kept.guesses(TEXTS, shared()), model.guesses(TEXTS, shared()), strict=True):
        assert one.intent == other.intent
        assert one.fit == pytest.approx(other.fit, abs=1e-2)


@pytest.mark.parametrize("most", [0, 3, 200, -1])
def test_damaged_bytes_are_refused(model: Intents, most: int) -> None:
    with pytest.raises(ValueError, match=r"classifier|pickled"):
        Intents.decode(model.encode()[:most] if most >= 0 else b"not a classifier")


def test_too_little_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="1 intents"):
        Intents.fit(["hello", "hi"], ["greeting", "greeting"], shared())
    with pytest.raises(ValueError, match="1 labels"):
        Intents.fit(["hello", "hi"], ["greeting"], shared())


@settings(deadline=None)
@given(st.text(max_size=400))
def test_any_text_has_buckets_and_a_guess(text: str) -> None:
    bag = bag_of(text)
    assert (np.diff(bag) > 0).all()
    assert bag.size == 0 or (bag.min() >= 0 and bag.max() < BUCKETS)


@pytest.mark.parametrize("text", ["", "   ", "?!", "😀", "\ud800", "a" * 100_000])
def test_strange_messages_get_a_guess(model: Intents, text: str) -> None:
    guess = model.guess(text, shared())
    assert guess.intent in model.labels
    assert np.isfinite([guess.odds, guess.fit]).all()
