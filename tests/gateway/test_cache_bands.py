"""Paraphrases: a band answers only once its bound is low enough, closes when it is wrong, and forgets with time."""

from __future__ import annotations

import math
import random
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.app.rulers import largest_share
from fairlead.gateway.cache import Bands, Cache, Rules, Verified
from fairlead.gateway.cache.bands import EDGES
from fairlead.gateway.cache.neighbours import Neighbours
from fairlead.guard.sameness import Sameness
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script, Scripted
from tests.gateway.gateway_harness import CHAT, House, build, serving

JUDGE = Sameness()
LOOSE = Verified(max_error=0.3, confidence=0.8, verify=0.2)
DAY = 86_400_000_000


def learn(bands: Bands, right: int, wrong: int = 0, now: int = 0, odds: float = 0.95) -> bool:
    band = bands.of("t", "r", odds, now)
    assert band is not None
    for number in range(right + wrong):
        bands.learn(band, wrong=number >= right, now=now)
    return bands.is_open(band)


def test_a_band_opens_with_evidence_and_closes_when_it_is_wrong() -> None:
    bands = Bands(Verified(), largest_share)
    assert not learn(bands, 100)
    assert learn(bands, 900)
    assert not learn(bands, 0, wrong=8)
    other = bands.of("t", "r", 0.91, 0)
    assert other is not None
    assert not bands.is_open(other)  # what one band learnt says nothing of another
    assert bands.of("t", "r", 0.1, 0) is None
    assert bands.of("u", "r", 0.95, 0) is not bands.of("t", "r", 0.95, 0)


def test_no_band_opens_before_the_smallest_sample_that_could_show_it() -> None:
    bands = Bands(Verified(), largest_share)
    fewest = math.log(0.05 / len(EDGES)) / math.log(1 - 0.01)  # exact binomial, no error, all bands at once
    assert not learn(bands, math.floor(fewest))


def test_evidence_gets_old() -> None:
    bands = Bands(Verified(evidence_s=7 * 86_400), largest_share)
    assert learn(bands, 1_000)
    band = bands.of("t", "r", 0.95, 3 * DAY)
    assert band is not None
    assert bands.is_open(band)
    band = bands.of("t", "r", 0.95, 8 * DAY)
    assert band is not None
    assert not bands.is_open(band)
    # What was learnt in its second half goes on counting.
    bands = Bands(Verified(evidence_s=7 * 86_400), largest_share)
    learn(bands, 10)
    assert learn(bands, 1_000, now=5 * DAY)
    band = bands.of("t", "r", 0.95, 8 * DAY)
    assert band is not None
    assert (bands.is_open(band), band.counted.checked) == (True, 1_000)


def test_what_was_learnt_outlives_the_process_and_is_judged_by_the_rules_of_the_day() -> None:
    bands = Bands(Verified(max_error=0.02), largest_share)
    learn(bands, 500)
    same, stricter = Bands(Verified(max_error=0.02), largest_share), Bands(Verified(max_error=0.001), largest_share)
    for other, is_open in ((same, True), (stricter, False)):
        other.load(bands.dump())
        assert [line["open"] for line in other.show()] == [is_open]
    same.load(b"not what it wrote")
    same.clear("u")
    assert len(same.show()) == 1
    same.clear()
    assert same.show() == []


@pytest.mark.parametrize("error", [0.02, 0.05])
def test_a_band_that_is_too_often_wrong_hardly_ever_opens(error: float) -> None:
    opened = 0
    for seed in range(40):
        draw = random.Random(seed)
        bands = Bands(Verified(confidence=0.9), largest_share)
        for _ in range(600):
            band = bands.of("t", "r", 0.95, 0)
            assert band is not None
            bands.learn(band, wrong=draw.random() < error, now=0)
            if bands.is_open(band):
                opened += 1
                break
    assert opened <= 4  # at most 10 % of 40, and in truth a quarter of that: all bands hold at once


class Point:
    def __init__(self, *vector: float) -> None:
        self.vector = np.array(vector, np.float32)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 9)), max_size=60))
@settings(max_examples=60)
def test_neighbours_know_just_what_was_put_in_and_not_taken_out(steps: list[tuple[int, bool, int]]) -> None:
    neighbours, slow = Neighbours(), dict[bytes, Point]()
    for key, put, at in steps:
        name = bytes([key])
        if put:
            slow[name] = Point(math.cos(at), math.sin(at))
            neighbours.add(b"f", name, slow[name])
        else:
            slow.pop(name, None)
            neighbours.drop(b"f", name)
    assert len(neighbours) == len(slow)
    asked = Point(math.cos(0.4), math.sin(0.4))
    found = neighbours.nearest(b"f", asked)
    assert (found is None) == (not slow)
    if found is not None:
        best = max(float(point.vector @ asked.vector) for point in slow.values())
        assert float(slow[found[0]].vector @ asked.vector) == pytest.approx(best)
        assert found[1] is slow[found[0]]
    assert neighbours.nearest(b"g", asked) is None


def shop(answer: Any, draw: Any) -> House:
    cache = Cache(Rules(verified=LOOSE), secret=b"k" * 32, judge=JUDGE, bound=largest_share, draw=draw)
    return build(Scripted(script=lambda call: Script(text=answer(call))), cache=cache)


def ask(client: httpx.Client, text: str, **more: Any) -> str:
    body = {**CHAT, "temperature": 0, "messages": [{"role": "user", "content": text}], **more}
    return str(client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"])


def variants(count: int) -> list[str]:
    """The same question, each time written a little otherwise."""
    return ["where is my parcel" + "!" * (number + 1) for number in range(count)]


def test_a_paraphrase_is_answered_once_its_band_has_earned_it() -> None:
    draws = iter([0.9] * 3 + [0.1] + [0.9] * 100)
    house = shop(lambda call: "It left on Monday.", lambda: next(draws))
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        for text in variants(60):
            assert ask(client, text) == "It left on Monday."
        learnt = len(house.upstream.calls)
        assert 10 < learnt < 45
        assert ask(client, "Where is my parcel??") == "It left on Monday."  # and every fifth is checked all the same
        before = len(house.upstream.calls)
        for text in ("where is my parcel 4711", "where isn't my parcel", "when is my parcel"):
            ask(client, text)
        assert len(house.upstream.calls) == before + 3
        ask(client, "Where is my parcel???", max_tokens=9)  # another frame
        assert len(house.upstream.calls) == before + 4
        cache = house.gateway.cache
        assert cache is not None
        assert [line["open"] for line in cache.show_bands()] == [True]
    assert "semantic" in {record.tags.get("cache") for record in house.records}


def test_a_band_whose_answers_begin_to_differ_closes() -> None:
    said = ["It left on Monday."]
    house = shop(lambda call: said[0], lambda: 0.0)  # every one is checked
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        for text in variants(40):
            ask(client, text)
        cache = house.gateway.cache
        assert cache is not None
        assert cache.show_bands()[0]["open"]
        for number, text in enumerate(variants(80)[40:]):
            said[0] = f"It will arrive on the {number}th."
            ask(client, text)
        assert not cache.show_bands()[0]["open"]


def test_likeness_stays_within_a_tenants_frame() -> None:
    calls: list[Call] = []

    def answer(call: Call) -> str:
        calls.append(call)
        return f"answer for {call.body.get('user', 'nobody')}"

    house = shop(answer, lambda: 0.9)
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        for text in variants(45):
            ask(client, text)
        assert "answer for user:" in ask(client, "where is my parcel?!", user="anna")
        assert ask(client, "where is my parcel ?!") == "answer for nobody"
