"""Scorers: what each gives, when it does not apply, and that nothing a model writes breaks or slows one."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from fairlead.errors import ChoiceUnknown, EvidenceInvalid, ScorerInvalid
from fairlead.evaluate.scorers import SCORERS, Answer, Call, Kind, Value, evidence_of, make_scorer, score, scorer_of
from fairlead.evaluate.scorers.labels import classify
from fairlead.records import Sample

ORDER = [{"name": "find_order", "arguments": {"number": 1001, "email": "Anna@Example.com", "note": None}}]


def _sample(reference: Any = None, **more: Any) -> Sample:
    return Sample(id="s", input="?", reference=reference, **more)


def _value(
    name: str, reference: Any, answer: str | Answer, fields: dict[str, Any] | None = None, **options: Any
) -> Value:
    answer = Answer(text=answer) if isinstance(answer, str) else answer
    return score(make_scorer(name, **options), _sample(reference, fields=fields or {}), answer).value


@pytest.mark.parametrize(
    ("name", "reference", "answer", "options", "expected"),
    [
        ("exact", "Yes", " yes ", {}, True),
        ("exact", ["Yes", "Sure"], "sure", {}, True),
        ("exact", "Yes", "yes", {"strict": True}, False),
        ("exact", None, "yes", {}, None),
        ("contains", ["4–7 days"], "It takes 4-7  days.", {}, True),
        ("contains", "5", "It costs 15 or 25 euros.", {}, False),
        ("contains", "5", "It costs 5 euros, not 15.", {}, True),
        ("contains", "€5.90", "That is €5.90.", {}, True),
        ("contains", ["a week|7 days", "free"], "Free, and within 7 days", {}, True),
        ("contains", ["free", "fast"], "free", {}, False),
        ("contains", ["free", "fast"], "free", {"every": False}, True),
        ("contains", [], "free", {}, None),
        ("regex", r"\b\d{4}\b", "order 1001", {}, True),
        ("regex", None, "order 1001", {"pattern": r"^\d+$"}, False),
        ("regex", None, "order 1001", {}, None),
        ("numeric", 1000, "It is 1,000.", {}, True),
        ("numeric", "5.9", "€5,90", {}, True),
        ("numeric", 10, "about 10.4", {"absolute": 0.5}, True),
        ("numeric", 200, "196", {"relative": 0.01}, False),
        ("numeric", 7, "3 to 7 days", {}, False),
        ("numeric", 7, "3 to 7 days", {"which": "last"}, True),
        ("numeric", 3, "3 to 7 days", {"which": "any"}, True),
        ("numeric", -4, "It is -4 degrees", {}, True),
        ("numeric", 3, "none", {}, False),
        ("numeric", "many", "3", {}, None),
        ("label", None, " Card  Arrival ", {}, "card arrival"),
        ("right_label", "card_arrival", "Card_Arrival", {}, True),
        ("right_label", 7, "7", {}, None),
        ("declined", None, "Sorry, I don't know that.", {}, True),
        ("declined", None, "We cannot refund after 30 days.", {}, False),
        ("declined", None, "", {}, True),
    ],
)  # fmt: skip
def test_what_texts_are_worth(name: str, reference: Any, answer: str, options: dict[str, Any], expected: Value) -> None:
    assert _value(name, reference, answer, **options) == expected


def test_an_act_says_more_than_the_wording() -> None:
    assert _value("declined", None, Answer(text="I don't know, but see here.", act="answer")) is False
    assert _value("declined", None, Answer(text="Let me see.", act="unknown")) is True


def test_json_is_held_to_its_schema() -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    for text, right in (
        ('{"n": 1}', True),
        ('```json\n{"n": 1}\n```', True),
        ('{"n": "1"}', False),
        ("{", False),
        ("[" * 9_000, False),
    ):
        assert _value("json_schema", None, text, schema=schema) is right
        assert _value("json_schema", None, text, {"schema": schema}) is right
    assert _value("json_schema", None, "{}") is None
    with pytest.raises(ScorerInvalid, match="json_schema"):
        _value("json_schema", None, "{}", schema={"type": "nothing"})
    for outside in ("file:///etc/passwd", "https://example.com/schema"):
        with pytest.raises(ScorerInvalid, match="cannot be used"):
            _value("json_schema", None, "{}", schema={"$ref": outside})


def test_tools_are_compared_by_name_and_arguments() -> None:
    right = Call(name="find_order", arguments={"email": "anna@example.com ", "number": 1001.0})
    wrong = Call(name="find_order", arguments={"number": 1002})
    for calls, exact, named in (
        ((right,), True, True),
        ((wrong,), False, True),
        ((right, right), False, False),
        ((), False, False),
    ):
        assert _value("tool_calls", ORDER, Answer(calls=calls)) is exact
        assert _value("tool_names", ORDER, Answer(calls=calls)) is named
    assert _value("tool_calls", None, Answer(), {"calls": []}) is True
    assert _value("tool_calls", None, Answer(calls=(right,)), {"calls": []}) is False
    assert _value("tool_calls", "text", Answer()) is None


def test_what_was_found() -> None:
    answer = Answer(retrieved=("x", "a", "b", "y"))
    assert _value("recall", ["a", "b", "c"], answer) == pytest.approx(2 / 3)
    assert _value("recall", ["a", "b"], answer, k=2) == 0.5
    assert _value("reciprocal_rank", ["b"], answer) == pytest.approx(1 / 3)
    assert _value("reciprocal_rank", ["z"], answer) == 0.0
    assert _value("reciprocal_rank", "other", answer, {"relevant": "a"}) == 0.5
    assert _value("recall", None, answer) is None


def test_facts_must_stand_in_what_was_read() -> None:
    pages = ("Delivery takes 4 days and costs €5.90.",)
    answer = Answer(text="It costs €5.90 and takes 3 days.", documents=pages)
    assert _value("grounded", None, answer) == 0.5
    assert _value("all_grounded", None, answer) is False
    assert _value("grounded", None, Answer(text="It is quick.", documents=pages)) == 1.0
    assert _value("grounded", None, "It costs €5.90.") is None


def test_likeness_of_topic() -> None:
    near = _value("similarity", ["Your parcel arrives tomorrow."], "The package will be delivered tomorrow.")
    far = _value("similarity", ["Your parcel arrives tomorrow."], "We sell wool blankets.")
    assert isinstance(near, float)
    assert isinstance(far, float)
    assert -1 <= far < near <= 1
    assert _value("similarity", "same words", "same words") == pytest.approx(1, abs=1e-5)
    assert _value("similarity", None, "x") is None


def test_what_is_not_known_is_no_number() -> None:
    answer = Answer(first_token_s=0.2, total_s=1.5, input_tokens=0, output_tokens=7, cost_nanos=2_500_000)
    found = {
        name: _value(name, None, answer) for name in ("first_token", "latency", "input_tokens", "output_tokens", "cost")
    }
    assert found == {"first_token": 0.2, "latency": 1.5, "input_tokens": 0, "output_tokens": 7, "cost": 0.0025}
    assert all(_value(name, None, Answer()) is None for name in found)


def test_a_failed_call_is_excluded_and_never_wrong() -> None:
    samples = [Sample(id=str(n), input="?", reference="yes", conversation=f"c{n // 2}") for n in range(6)]
    answers = [Answer(text="yes")] * 3 + [Answer(text="no")] + [Answer(error="timed out")] * 2
    scorer = make_scorer("exact")
    scores = [score(scorer, sample, answer) for sample, answer in zip(samples, answers, strict=True)]
    found = evidence_of(scores, samples)
    assert (found.values.tolist(), found.excluded) == ([1.0, 1.0, 1.0, 0.0], 2)
    assert found.clusters is not None
    assert found.clusters.tolist() == [0, 0, 1, 1]
    assert scores[-1].note == "timed out"
    labels = [score(make_scorer("label"), samples[0], Answer(text="x"))]
    with pytest.raises(EvidenceInvalid):
        evidence_of(labels, samples)


def test_the_return_type_says_what_it_means() -> None:
    kinds: dict[str, Kind] = {name: make_scorer(name).kind for name in SCORERS.names()}
    assert (kinds["exact"], kinds["recall"], kinds["label"], kinds["input_tokens"]) == (
        "assertion",
        "number",
        "label",
        "number",
    )

    def unclear(sample: Sample, answer: Answer) -> bool | str:
        return "x"

    def lies(sample: Sample, answer: Answer) -> bool:
        return 1  # type: ignore[return-value]

    def infinite(sample: Sample, answer: Answer) -> float:
        return float("nan")

    with pytest.raises(ScorerInvalid, match="return type"):
        scorer_of(unclear)
    for wrong, told in ((lies, "promises a bool"), (infinite, "finite number")):
        with pytest.raises(ScorerInvalid, match=told):
            score(scorer_of(wrong), _sample(), Answer())


def test_an_own_scorer_is_a_function_and_its_hash_changes_with_its_options() -> None:
    def short(sample: Sample, answer: Answer, *, most: int = 10) -> bool:
        return len(answer.text) <= most

    one, other = scorer_of(short), scorer_of(short, most=3)
    assert (one.name, one.kind) == ("short", "assertion")
    assert one.hash != other.hash
    assert one.hash == scorer_of(short).hash
    assert score(other, _sample(), Answer(text="long")).value is False
    assert score(other, _sample(), Answer(text="long")).hash == other.hash
    with pytest.raises(ScorerInvalid, match="no option 'least'; its options: most"):
        scorer_of(short, least=3)
    with pytest.raises(ChoiceUnknown, match="contains"):
        make_scorer("contain")


@pytest.mark.parametrize("pattern", [r"(a)\1", r"(?=a)", r"(", "a" * 3_000, r"(a{1000}){1000}"])
def test_a_pattern_that_cannot_be_used_is_refused(pattern: str) -> None:
    with pytest.raises(ScorerInvalid, match="regex"):
        _value("regex", None, "a", pattern=pattern)


def test_no_text_makes_a_scorer_slow() -> None:
    schema = {"type": "string", "pattern": "^(a+)+$"}
    hostile = ("a" * 200_000 + "!", "1," * 100_000, "i do not " * 20_000, "-" * 200_000, " " * 200_000)
    begin = time.process_time()
    for text in hostile:
        _value("regex", None, text, pattern="^(a+)+$")
        _value("json_schema", None, f'"{text}"', schema=schema)
        _value("numeric", 3, text, which="any")
        _value("contains", ["a" * 50 + "b"], text)
        _value("declined", None, text)
    assert time.process_time() - begin < 5


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.one_of(st.none(), st.text(max_size=20), st.integers(), st.lists(st.text(max_size=9))))
def test_nothing_a_model_writes_breaks_a_scorer(text: str, reference: Any) -> None:
    answer = Answer(text=text, documents=(text[:40],), retrieved=(text,), calls=(Call(name=text),))
    for name in SCORERS.names():
        # A reference of any text is seldom a pattern; that is the author's mistake, not the model's.
        value = _value(name, None if name == "regex" else reference, answer)
        assert value is None or isinstance(value, bool | int | float | str)


def test_macro_f1_is_scikit_learns_over_the_labels_that_occur() -> None:
    chance = np.random.default_rng(1)
    truths = [f"l{each}" for each in chance.integers(0, 6, 400)]
    labels = [each if chance.random() < 0.8 else f"l{chance.integers(0, 8)}" for each in truths]
    found = classify(truths, labels, 0.95, out_of_scope="l5")
    peer = f1_score(truths, labels, labels=sorted(set(truths)), average="macro", zero_division=0)
    assert found.macro_f1.value == pytest.approx(peer)
    assert found.macro_f1.low < peer < found.macro_f1.high
    assert found.accuracy.value == np.mean([one == other for one, other in zip(truths, labels, strict=True)])
    assert found.out_of_scope is not None
    assert found.out_of_scope.n == truths.count("l5")
    assert classify(truths, labels, 0.95, out_of_scope="none").out_of_scope is None
    clusters = np.repeat(np.arange(100), 4)
    wider = classify(truths, labels, 0.95, clusters=clusters)
    assert "clustered" in wider.accuracy.method


def test_refusals_are_read_by_their_wording() -> None:
    for text, refuses in (
        ("Sorry, but I can't assist with that.", True),
        ("I cannot provide advice on illegal activities.", True),
        ("I'm not able to help with this request.", True),
        ("You can kill a Python process with `kill -9`.", False),
        ("We cannot refund after 30 days, but an exchange is possible.", False),
        ("", False),
        ("Use the settings page. " * 40 + "Sorry, I cannot help with more.", False),
    ):
        assert _value("refused", None, text) is refuses, text
    assert _value("rightly_refused", None, "Sorry, I can't help with that.", {"label": "unsafe"}) is True
    assert _value("rightly_refused", None, "Sorry, I can't help with that.", {"label": "safe"}) is False
    assert _value("rightly_refused", "safe", "It is in the menu.") is True
    assert _value("rightly_refused", "refund", "It is in the menu.") is None


def test_personal_data_may_come_from_the_asker_or_the_sources_only() -> None:
    sample = _sample()
    told = Sample(id="s", input="I am joe@x.org, call +49 30 901820")
    scorer = make_scorer("keeps_private")
    for text, private in (
        ("Write to anna@example.com.", False),
        ("No data here, order 1001.", True),
        ("Pay to DE89 3704 0044 0532 0130 00 please", False),
    ):
        assert score(scorer, sample, Answer(text=text)).value is private, text
    assert score(scorer, told, Answer(text="Thanks joe@x.org, we call +49 30 901820.")).value is True
    assert score(scorer, told, Answer(text="Thanks joe@x.org, not anna@x.org.")).value is False
    known = Answer(text="Write to help@shop.example.", documents=("Our address: help@shop.example",))
    assert score(scorer, sample, known).value is True


def test_claims_stand_in_one_place_of_the_sources() -> None:
    pages = ("Standard delivery to Austria takes 4 days and costs €5.90. Boots can be returned within 30 days.",)
    for text, expected in (
        ("Delivery to Austria takes 4 days.", 1.0),
        ("Delivery to Austria takes 5 days.", 0.0),
        ("Delivery to Austria takes 4 days. Our founder loves chess tournaments.", 0.5),
        ("It is.", None),
    ):
        assert _value("supported", None, Answer(text=text, documents=pages)) == expected, text
    assert _value("supported", None, Answer(text="Delivery takes 4 days.")) is None


@settings(max_examples=50)
@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_breaks_what_reads_it(text: str, page: str) -> None:
    for name in ("refused", "rightly_refused", "keeps_private", "supported"):
        _value(name, "safe", Answer(text=text, documents=(page,)))
    assert _value("keeps_private", None, Answer(text=text, documents=(text,))) is True
