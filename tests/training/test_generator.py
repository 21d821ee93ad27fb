"""The invented shops: reproducible, truthful to their passages, training and evaluation kept apart."""

from __future__ import annotations

import random
import re

import pytest

from training.generator import (
    SKILLS,
    Extra,
    draw_cases,
    grounded_document,
    load_wordings,
    question_document,
    roughen,
    shared_slots,
    tool_document,
    unseen_result_document,
    wordings_for,
)
from training.judging import is_refusal, is_right
from training.lexicon import (
    Split,
    draw_number,
    draw_shop,
    fill_slot,
    hashed,
    is_held_out_number,
    pick_wording,
    split_wordings,
)
from training.mixture import (
    MIXTURE,
    ask_document,
    draw_document,
    fields_document,
    page_document,
    quote_document,
    result_document,
)
from training.natural_shops import read_shops
from training.prompt import parse_call, render

SPLITS: tuple[Split, ...] = ("train", "shops", "wordings")
EXTRA = Extra(
    messages={"complaint": ["this is bad", "so bad", "very bad"]},
    questions=[[("Is there parking?", "Parking is free."), ("Is there wifi?", "Wifi costs 5 euros.")]],
    small_talk=[("hi", "hello")],
    dialogues=[[("user", "a"), ("agent", "b"), ("user", "c"), ("agent", "d")]],
    sentences=["one two three four five six", "seven eight nine ten eleven twelve", "a b c d e f", "g h i j k l"],
)


@pytest.mark.parametrize("extra", [Extra(), EXTRA], ids=["alone", "with corpora"])
@pytest.mark.parametrize("split", SPLITS)
def test_the_same_seed_gives_the_same_documents(split: Split, extra: Extra) -> None:
    first, second, other = (
        [render(draw_document(rng, split, extra)) for _ in range(100)]
        for rng in (random.Random(5), random.Random(5), random.Random(6))
    )
    assert first == second
    assert first != other


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("passages", [1, 2, 3])
def test_every_grounded_answer_stands_in_its_passages(split: Split, passages: int) -> None:
    rng = random.Random(1)
    for _ in range(150):
        document = grounded_document(rng, split, passages)
        assert len(document.passages) == passages
        for turn in document.turns:
            if turn.skill.startswith("grounded"):
                assert turn.facts
                assert any(turn.source in passage for passage in document.passages)
                assert all(fact in turn.source for fact in turn.facts)
                assert is_right(turn, turn.text)


def test_the_generator_judges_its_own_answers_right_and_other_skills_wrong() -> None:
    for skill in SKILLS:
        for document, place in draw_cases(skill, 60, "wordings", 3, EXTRA):
            turn = document.turns[place]
            assert turn.skill == skill
            assert is_right(turn, turn.text), (skill, turn)
            assert not is_right(turn, "The answer is 987654321.")
            assert not is_right(turn, "")


def test_cases_depend_on_their_seed_alone() -> None:
    assert draw_cases("tool_call", 5, "shops", 1, Extra()) == draw_cases("tool_call", 5, "shops", 1, Extra())
    assert draw_cases("tool_call", 5, "shops", 1, Extra()) != draw_cases("tool_call", 5, "shops", 2, Extra())


def test_shops_of_training_and_evaluation_are_disjoint() -> None:
    rng = random.Random(2)
    trained = {draw_shop(rng, "train") for _ in range(2000)}
    assert not trained & {draw_shop(rng, "shops") for _ in range(500)}
    assert not any(hashed(name) % 8 == 0 for name in trained)


def test_numbers_of_training_and_evaluation_are_disjoint() -> None:
    rng = random.Random(2)
    assert not any(is_held_out_number(draw_number(rng, 1, 100, "train")) for _ in range(300))
    assert all(is_held_out_number(draw_number(rng, 1, 100, "wordings")) for _ in range(300))


def test_held_out_wordings_never_occur_in_training() -> None:
    rng = random.Random(4)
    for topic in load_wordings("policies")["topic"]:
        for part in ("passages", "questions"):
            trained, held_out = split_wordings(topic[part])
            assert held_out
            assert trained
            assert set(trained) | set(held_out) == set(topic[part])
            assert {pick_wording(rng, topic[part], "train") for _ in range(60)} <= set(trained)
            assert {pick_wording(rng, topic[part], "wordings") for _ in range(60)} <= set(held_out)


def test_tool_names_of_evaluation_never_occur_in_training() -> None:
    rng = random.Random(4)
    trained = {tool.name for _ in range(600) for tool in tool_document(rng, "train", Extra()).tools}
    assert not trained & {tool.name for _ in range(300) for tool in tool_document(rng, "shops", Extra()).tools}


def test_every_tool_call_is_one_of_the_listed_tools_with_its_arguments() -> None:
    rng = random.Random(8)
    calls = 0
    for _ in range(300):
        document = tool_document(rng, "train", EXTRA)
        listed = {tool.name: {argument.name for argument in tool.arguments} for tool in document.tools}
        for place, turn in enumerate(document.turns):
            if turn.skill != "tool_call":
                continue
            call = parse_call(turn.text)
            assert call is not None
            assert set(call[1]) == listed[call[0]]
            said = " ".join(before.text for before in document.turns[:place] if before.role == "user")
            assert all(value in said for value in call[1].values())
            calls += 1
    assert calls > 200


def test_every_wording_uses_known_slots_and_every_topic_has_facts() -> None:
    rng = random.Random(0)
    for topic in load_wordings("policies")["topic"]:
        for wording in (*topic["passages"], *topic["questions"], *topic["answers"]):
            for slot in re.findall(r"\{(\w+)\}", wording):
                assert fill_slot(rng, slot, "train")
        facts = shared_slots(topic["answers"])
        assert facts, topic["name"]
        assert all(facts <= shared_slots([passage]) for passage in topic["passages"]), topic["name"]


def test_no_topic_and_no_talk_is_named_twice() -> None:
    for entries in (load_wordings("policies")["topic"], load_wordings("talk")["talk"]):
        names = [entry["name"] for entry in entries]
        assert len(names) == len(set(names))


def test_a_refusal_refuses_and_a_grounded_answer_does_not() -> None:
    talk = load_wordings("talk")
    assert all(is_refusal(text) for text in talk["refusals"])
    rng = random.Random(3)
    turns = [turn for _ in range(200) for turn in grounded_document(rng, "train").turns if turn.role == "assistant"]
    assert {turn.skill for turn in turns if is_refusal(turn.text)} == {"refuse"}


def test_roughening_keeps_slots() -> None:
    rng = random.Random(1)
    for _ in range(500):
        assert re.findall(r"\{\w+\}", roughen(rng, "Where is {order}, and who has {product2}?")) == [
            "{order}",
            "{product2}",
        ]


def test_real_questions_are_answered_from_the_passages() -> None:
    document = question_document(random.Random(1), "train", EXTRA)
    answers = [turn.text for turn in document.turns if turn.role == "assistant"]
    assert answers
    assert all(any(answer in passage for passage in document.passages) for answer in answers)


def test_the_mixture_is_a_whole() -> None:
    assert sum(MIXTURE.values()) == pytest.approx(1.0)


def held_out_lines() -> set[str]:
    """Every held-out wording of the evaluation."""
    tools, talk = load_wordings("tools"), load_wordings("talk")
    lists = [topic[part] for topic in load_wordings("policies")["topic"] for part in ("passages", "questions")]
    lists += [kind[part] for kind in tools["tool"] for part in ("complete", "missing")]
    lists += [*tools["given"].values(), talk["instructions"]]
    return {line for wordings in lists for line in split_wordings(wordings)[1]}


def trained_lines() -> list[str]:
    """Every wording that training may draw where some are held out."""
    policies, tools = wordings_for("policies", "train"), wordings_for("tools", "train")
    lists = [topic[part] for topic in policies["topic"] for part in ("passages", "questions")]
    lists += [kind[part] for kind in tools["tool"] for part in ("complete", "missing")]
    lists += [*tools["given"].values(), wordings_for("talk", "train")["instructions"]]
    return [line for wordings in lists for line in wordings]


def test_no_held_out_wording_is_among_those_added_for_training() -> None:
    def plain(line: str) -> str:
        return line.casefold().rstrip("?.! ")

    held_out = {plain(line) for line in held_out_lines()}
    assert len(trained_lines()) > 1000
    assert not [line for line in trained_lines() if plain(line) in held_out]


@pytest.mark.parametrize("split", ["shops", "wordings"])
def test_evaluation_draws_from_its_own_wordings_alone(split: Split) -> None:
    for name in ("policies", "talk", "tools"):
        assert wordings_for(name, split) is load_wordings(name)


def test_added_topics_and_results_have_their_facts() -> None:
    rng = random.Random(2)
    for topic in wordings_for("policies", "train")["topic"]:
        facts = shared_slots(topic["answers"])
        assert facts, topic["name"]
        assert all(facts <= shared_slots([passage]) for passage in topic["passages"]), topic["name"]
    for _ in range(400):
        for document in (quote_document(rng, "train"), result_document(rng), fields_document(rng)):
            (reply,) = (turn for turn in document.turns if turn.role == "assistant")
            assert all(fact in document.passages[0] for fact in reply.facts)
            assert is_right(reply, reply.text), reply


def test_hand_written_shops_for_evaluation_are_not_read_for_training() -> None:
    trained, others = read_shops("train"), read_shops("calibration")
    assert len(trained) >= 10
    assert others
    assert not {shop.name for shop in trained} & {shop.name for shop in others}
    held_out = {one.question for shop in others for one in shop.asked}
    rng = random.Random(1)
    asked = {page_document(rng, trained).turns[0].text for _ in range(500)}
    assert len(asked) > 200
    assert not asked & held_out


def test_an_answer_from_a_page_stands_in_its_source() -> None:
    rng = random.Random(3)
    shops = read_shops("train")
    refused = 0
    for _ in range(400):
        document = page_document(rng, shops)
        refused += document.turns[1].skill == "refuse"
        assert document.turns[1].skill == "refuse" or document.turns[1].text in document.passages[0]
    assert 40 < refused < 160
    assert all(
        any(form in one.unit for form in part.split("|")) for s in shops for one in s.asked for part in one.right
    )


def test_an_ask_document_ends_with_the_question() -> None:
    rng = random.Random(4)
    for _ in range(100):
        document = ask_document(rng, "train", EXTRA)
        assert document.turns[-1].skill == "ask_missing"
        assert is_right(document.turns[-1], document.turns[-1].text)
        assert not any(turn.skill == "ask_missing" for turn in document.turns[:-1])


def test_unseen_results_are_unseen() -> None:
    tools = wordings_for("tools", "train")
    trained = [result["json"] for kind in tools["tool"] for result in kind["results"]]
    trained += [result["json"] for result in tools["results"]]
    for result in load_wordings("results_held_out")["result"]:
        assert result["json"] not in trained
    rng = random.Random(1)
    for _ in range(100):
        document = unseen_result_document(rng)
        reply = document.turns[3]
        assert reply.facts
        assert is_right(reply, " ".join(reply.facts))
        assert not is_right(reply, "It is on its way.")
