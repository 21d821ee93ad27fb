"""``fairlead judge`` as a person meets it, against a real server whose model is a script."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fairlead.evaluate import datasets
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script, Scripted
from fairlead.records import Answered, Result, Run, Sample, new_id, now_us
from fairlead.store import Store
from tests.cli.ran import Command, Ran
from tests.gateway.gateway_harness import build, route, serving

SPEC = """\
fairlead: 1
name: shop
purpose: Answer questions.
users: {{who: customers}}
risk: limited
metrics:
  politeness: {{definition: Polite answers., level: inference, type: bool, direction: max, source: "judge:polite"}}
judges:
  - {{id: polite, variant: hosted, rubric: Is the answer polite and helpful}}
  - {{id: better, kind: pairwise, variant: hosted, rubric: Which answer helps more, needs: {{labels: 20}}}}
variants:
  - {{id: extractive, model: extractive}}
  - {{id: hosted, model: "{url}/v1#support", price: {{input_usd_per_million: 1, output_usd_per_million: 1}}}}
live: extractive
"""


def _says(call: Call) -> Script:
    """Right about politeness nine times in ten and always the same; of a pair the one that thanks."""
    shown = call.body["messages"][1]["content"]
    if "answer A" in shown:
        first = shown.split(" answer A>")[1]
        return Script(text="Because.\nVERDICT: " + ("A" if "Thank you" in first else "B"))
    number = int(re.findall(r"case (\d+)", shown)[0])
    if number == 7:
        return Script(text="Hard to say.")
    polite = "Thank you" in shown
    return Script(text="VERDICT: " + ("YES" if polite != (number % 25 == 0) else "NO"))


@pytest.fixture(name="model")
def model_fixture() -> Iterator[tuple[Scripted, str]]:
    upstream = Scripted(script=_says)
    with serving(build(upstream, routes={"support": route(upstream)}).gateway) as url:
        yield upstream, url


@pytest.fixture(name="judge")
def judge_fixture(
    model: tuple[Scripted, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Command
) -> Command:
    """Runs `fairlead judge ...` where two judges are declared."""
    (tmp_path / "fairlead.yaml").write_text(SPEC.format(url=model[1]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return partial(run, "judge")


def _labels(n: int = 160) -> Path:
    rows = [
        {
            "question": f"case {place}",
            "answer": "Thank you, it comes tomorrow." if place % 2 else "Wait for it.",
            "label": "yes" if place % 2 else "no",
        }
        for place in range(n)
    ]
    path = Path("labels.jsonl")
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def _json(ran: Ran) -> Any:
    return json.loads(ran.out)


def test_a_judge_from_uncalibrated_to_trusted(judge: Command, model: tuple[Scripted, str]) -> None:
    assert [each["state"] for each in _json(judge("list", "--json"))] == ["uncalibrated"] * 2
    assert "it was never calibrated" in judge("show", "polite").out
    labels = _labels()
    tried = _json(judge("calibrate", "polite", "--labels", labels, "--dry-run", "--json"))
    assert (tried["looks"], len(model[0].calls)) == (210, 0)
    ran = judge("calibrate", "polite", "--labels", labels, "--json")
    assert ran.code == 0, ran.said
    found = _json(ran)
    figures = found["calibration"]["figures"]
    assert found["state"] == "calibrated"
    assert figures["n"] == 159
    assert figures["invalid"]["value"] == pytest.approx(1 / 160)
    assert figures["accuracy"]["value"] == pytest.approx(1 - 7 / 159)
    assert figures["kappa"]["low"] > 0.6
    assert figures["cost_nanos"] > 0
    assert len(model[0].calls) == figures["calls"] >= 211, "each case once, 50 twice, nonsense once more"
    assert all(call.body["temperature"] == 0 for call in model[0].calls)
    assert _json(judge("list", "--json"))[0]["badge"].startswith("calibrated: kappa 0.9")
    assert "Cohen's kappa" in judge("show", "polite").out
    asked = len(model[0].calls)
    again = _json(judge("calibrate", "polite", "--labels", labels, "--json"))["calibration"]["figures"]
    assert (again["calls"], len(model[0].calls)) == (0, asked), "what was looked at once is known"
    assert len(_json(judge("show", "polite", "--json"))["calibrations"]) == 2


def test_another_rubric_is_another_judge(judge: Command) -> None:
    judge("calibrate", "polite", "--labels", _labels(), "--repeat", "60")
    file = Path("fairlead.yaml")
    file.write_text(file.read_text().replace("polite and helpful", "polite"))
    [polite, _] = _json(judge("list", "--json"))
    assert (polite["state"], polite["badge"]) == ("changed", "changed since its calibration")


def test_pairs_are_shown_in_both_orders(judge: Command, model: tuple[Scripted, str]) -> None:
    rows = [
        {"question": f"case {n}", "first": "Thank you." if n % 2 else "No.", "second": "No." if n % 2 else "Thank you.",
         "label": 1 if n % 2 else 2} for n in range(30)
    ]  # fmt: skip
    Path("pairs.json").write_text(json.dumps(rows), encoding="utf-8")
    ran = judge("calibrate", "better", "--labels", "pairs.json", "--repeat", "30", "--json")
    figures = _json(ran)["calibration"]["figures"]
    assert (figures["flips"]["value"], figures["accuracy"]["value"]) == (0.0, 1.0)
    assert set(figures["peers"]) == {"longer", "alike", "chance"}
    assert len(model[0].calls) == 30 * 2 + 30
    assert ran.code == 3, "thirty labels cannot show that so few are wrong"
    assert any("no verdict" in reason for reason in _json(ran)["reasons"])


def test_what_cannot_be_used_is_told(judge: Command, model: tuple[Scripted, str]) -> None:
    ran = judge("calibrate", "kind", "--labels", _labels())
    assert (ran.code, "Known: polite, better" in ran.said) == (2, True)
    ran = judge("calibrate", "polite", "--labels", "nowhere.jsonl")
    assert (ran.code, "nowhere.jsonl" in ran.said) == (2, True)
    Path("bad.csv").write_text("question,answer\nq,a\n")
    ran = judge("calibrate", "polite", "--labels", "bad.csv")
    assert (ran.code, "no label" in ran.said, "--map label=COLUMN" in ran.said) == (2, True, True)
    ran = judge("calibrate", "polite", "--labels", _labels(), "--map", "label")
    assert "no PART=COLUMN" in ran.said
    ran = judge("calibrate", "polite", "--labels", _labels(), "--budget", "0", "--json")
    assert (ran.code, _json(ran)["calibration"]["n"], len(model[0].calls)) == (3, 0, 0)
    file = Path("fairlead.yaml")
    file.write_text(file.read_text().replace(", price: {input_usd_per_million: 1, output_usd_per_million: 1}", ""))
    ran = judge("calibrate", "polite", "--labels", _labels(), "--budget", "1")
    assert (ran.code, "has no `price:`" in ran.said) == (2, True)


def test_a_project_without_judges_says_how_to_declare_one(judge: Command) -> None:
    file = Path("fairlead.yaml")
    text = file.read_text()
    file.write_text(text[: text.index("metrics:")] + text[text.index("variants:") :])
    assert "No judge is declared" in judge("list").out
    assert _json(judge("list", "--json")) == []
    assert "fairlead.yaml declares them in `judges:`" in judge("show", "polite").said


def _run_of_two(answers: dict[str, list[str]]) -> str:
    """A run by store calls: what each candidate answered to sample s0, s1 and so on; an empty text is a failed call."""
    base: dict[str, Any] = {
        "time": now_us(), "tenant": "default", "subject": "", "usecase": "shop", "spec_hash": "h", "release": "",
    }  # fmt: skip
    with Store.open(Path(".fairlead")) as store:
        samples = [Sample(id=f"s{n}", input=f"What of {n}?") for n in range(len(next(iter(answers.values()))))]
        kept = datasets.add(store, "asked", samples, purpose="eval", licence="CC0-1.0").version
        run = Run(
            **base, id=new_id(), step="select", dataset=f"asked@{kept.version}", content=kept.content, state="done",
            plan={"quality": "right"},
        )  # fmt: skip
        store.runs.begin(run)
        for name, texts in answers.items():
            for number, text in enumerate(texts):
                named: dict[str, Any] = {"variant": name, "sample": f"s{number}"}
                error = "" if text else "busy"
                answered = Answered(**base, **named, id=new_id(), key=new_id(), error=error, answer={"text": text})
                result = Result(**base, **named, id=new_id(), run=run.id, answered=answered.id, scores={})
                store.runs.add([answered], [result])
    return run.id


def test_two_candidates_are_compared_by_a_pairwise_judge(judge: Command, model: tuple[Scripted, str]) -> None:
    polite, curt = "Thank you, it comes tomorrow.", "Wait for it."
    run = _run_of_two({"one": [curt] * 12 + [polite] * 5 + [""], "two": [polite] * 12 + [polite] * 4 + [curt, polite]})
    told = judge("compare", "better", f"{run}:one", f"{run}:two")
    assert told.code == 0, told.said
    assert "30 calls, 4 looks known from before, cost 0.00" in told.out
    assert "better: uncalibrated" in told.out
    found = _json(judge("compare", "better", f"{run}:one", f"{run}:two", "--json"))
    assert (found["better"], found["worse"], found["ties"], found["flips"]) == (12, 1, 4, 4), (
        "both thank: order decides"
    )
    assert (found["pairs"], found["calls"], found["known"]) == (17, 0, 34), "a call that failed is no answer to judge"
    assert found["p_value"] < 0.01
    assert found["preferred"]["value"] == pytest.approx(12 / 13)
    turned = _json(judge("compare", "better", f"{run}:two", f"{run}:one", "--json"))
    assert (turned["better"], turned["worse"]) == (1, 12)
    asked = len(model[0].calls)
    stopped = judge("compare", "better", f"{_run_of_two({'one': ['a'] * 9, 'two': ['b'] * 9})}:one", f"{run}:two",
                    "--budget", "0")  # fmt: skip
    assert "the budget of 0 USD" in stopped.said
    assert len(model[0].calls) == asked


def test_what_a_pairwise_judge_cannot_compare_is_told(judge: Command) -> None:
    run = _run_of_two({"one": ["a"], "two": [""]})
    for words, told in (
        (("polite", f"{run}:one", f"{run}:two"), "expected one of kind: pairwise"),
        (("better", f"{run}:one", f"{run}:one"), "twice. Compare two"),
        (("better", f"{run}:one", f"{run}:two"), "no answered sample in common"),
        (("better", f"{run}:one", f"{run}:nobody"), "measured no 'nobody'"),
        (("nobody", f"{run}:one", f"{run}:two"), "nobody"),
    ):
        ran = judge("compare", *words)
        assert (ran.code, told in ran.said) == (2, True), ran.said
