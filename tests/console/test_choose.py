"""Choose over real HTTP: a real selection on hostile samples in a served shop, and pages that show what it stored."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from fairlead.app.rulers import judge_definition
from fairlead.cli import main
from fairlead.evaluate.judges import Case, Instrument, Judgement, Labelled, calibrate
from fairlead.evaluate.judges.calibration import record_of
from fairlead.records import Answered, Result, Run, new_id, now_us
from tests.console.scene import HOSTILE, Scene, serve
from tests.console.test_pages import read

QUESTIONS: list[dict[str, Any]] = [
    {"id": "zeppelin", "input": f"How long is a zeppelin ride {HOSTILE}?", "fields": {"expect": "answer"}},
    {"id": "formula", "input": "=HYPERLINK(1)", "reference": f"no {HOSTILE}"},
    {"id": "returns", "input": "How many days do I have to return an item?", "reference": "30 days"},
    {"id": "hours", "input": "What are your opening hours?", "reference": "nine to five"},
]


class Chosen(NamedTuple):
    scene: Scene
    web: httpx.Client
    empty: str
    run: Run


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chosen]:
    """A served shop where four questions were put to two candidates, and its page from before that."""
    folder = tmp_path_factory.mktemp("choose")
    judges = [{"id": "polite", "variant": "judge", "rubric": f"Is it polite {HOSTILE}?"}]
    with serve(folder, judges=judges) as scene, httpx.Client(base_url=scene.url, timeout=60) as web:
        assert web.post("/console/login", data={"key": scene.key}).status_code == 303
        empty = web.get("/console/choose").text
        file = folder / "questions.jsonl"
        file.write_text("".join(json.dumps(each) + "\n" for each in QUESTIONS), encoding="utf-8")
        project = ("--project", str(scene.fairlead.settings.project))
        assert _run("data", "add", "asked", str(file), "--purpose", "eval", "--licence", "CC0-1.0", *project) == 0
        wanted = ("--candidates", "extractive,baseline:retrieval", "--data", "asked", "--scorer", "similarity")
        assert _run("select", *wanted, *project) == 3  # four samples are no evidence
        run = scene.store.runs.list(since=0, until=now_us() + 1)[0]
        yield Chosen(scene, web, empty, run)


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main([*arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


def _stored(scene: Scene, marks: dict[str, list[tuple[str, Any]]], **more: Any) -> Run:
    """A run by store calls: candidate to (answer, score) of sample s0, s1 and so on."""
    base: dict[str, Any] = {
        "time": now_us(), "tenant": "default", "subject": "", "usecase": scene.fairlead.usecase.name, "spec_hash": "h",
        "release": "",
    }  # fmt: skip
    run = Run(
        **{
            **base, "id": new_id(), "step": "select", "dataset": "gone@7", "content": "x" * 64, "state": "stopped",
            "plan": {"quality": "right"}, **more,
        }
    )  # fmt: skip
    scene.store.runs.begin(run)
    answers, results = [], []
    for candidate, each in marks.items():
        for number, (text, value) in enumerate(each):
            answer = Answered(
                **base, id=new_id(), key=new_id(), variant=candidate, sample=f"s{number}", answer={"text": text}
            )
            answers.append(answer)
            results.append(
                Result(
                    **base, id=new_id(), run=run.id, variant=candidate, sample=f"s{number}", answered=answer.id,
                    scores={"right": {"value": value}},
                )
            )  # fmt: skip
    scene.store.runs.add(answers, results)
    return run


def _words(text: str) -> str:
    """What is read on a page."""
    main_part = text[text.index("<main") : text.index("</main>")]
    return " ".join(re.sub(r"<[^>]+>", " ", main_part).split())


def _rows(text: str, label: str) -> list[str]:
    """The rows of one table, as read."""
    table = text[text.index(f'aria-label="{label}"') :]
    body = table[table.index("<tbody") : table.index("</tbody>")]
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in body.split("<tr")[1:]]


def test_before_anything_was_measured_the_command_is_said(chosen: Chosen) -> None:
    assert "Nothing was measured yet" in _words(chosen.empty)
    assert "<code>fairlead select</code>" in chosen.empty


def test_the_first_line_is_the_verdict_and_every_run_is_listed(chosen: Chosen) -> None:
    page = chosen.web.get("/console/choose", params={"data": "asked@1"}).text
    headline = chosen.run.report["choice"]["headline"]
    assert _words(page).startswith(f"◌ not enough data: {headline}")
    rows = _rows(page, "Runs")
    assert len(rows) == 1
    assert chosen.run.id[-8:] in rows[0]
    assert "◌ not enough data" in rows[0]


def test_runs_are_filtered_sorted_and_exported_by_the_address(chosen: Chosen) -> None:
    other = _stored(chosen.scene, {"one": [("a", True)]}, dataset="aaa@1", cost=None)
    page = chosen.web.get("/console/choose?sort=dataset").text
    assert other.id[-8:] in _rows(page, "Runs")[0]
    assert "stopped" in _rows(page, "Runs")[0]
    assert "unknown" in _rows(page, "Runs")[0]  # the cost: some price was not known
    assert 'aria-sort="ascending"' in page
    assert other.id[-8:] in _rows(chosen.web.get("/console/choose?sort=-dataset").text, "Runs")[-1]
    found = chosen.web.get("/console/choose?verdict=not_enough_data&format=json").json()
    assert [each["id"] for each in found] == [chosen.run.id]
    lines = list(csv.DictReader(io.StringIO(chosen.web.get("/console/choose?data=aaa@1&format=csv").text)))
    assert [line["id"] for line in lines] == [other.id]
    assert "Nothing matches" in chosen.web.get("/console/choose?data=aaa@1&verdict=pass").text
    assert chosen.web.get("/console/choose?sort=nonsense&data=nobody").status_code == 200


def test_a_run_shows_its_evidence_and_texts_stay_texts(chosen: Chosen) -> None:
    page = chosen.web.get(f"/console/choose/{chosen.run.id}").text
    assert (
        _words(page).split("Choose ", 1)[1].startswith("◌ not enough data: " + chosen.run.report["choice"]["headline"])
    )
    names = [each["id"] for each in chosen.run.report["standings"]]
    assert sorted(names) == ["baseline:retrieval", "extractive"]
    assert all(name in row for name, row in zip(names, _rows(page, "Candidates"), strict=True))
    assert "<svg viewBox" in page
    assert chosen.run.report["cases"], "nothing was wrong, so nothing hostile would be shown"
    assert "&lt;script&gt;window.hacked" in page
    assert "<script>window" not in page
    assert "<img" not in page
    assert read(page).blocked == []
    assert read(page).hosts == []


def test_candidates_are_sorted_and_exported_by_the_address(chosen: Chosen) -> None:
    path = f"/console/choose/{chosen.run.id}"
    up = [each["quality"] for each in chosen.web.get(f"{path}?sort=quality&format=json").json()]
    down = [each["quality"] for each in chosen.web.get(f"{path}?sort=-quality&format=json").json()]
    assert up == sorted(up)
    assert down == up[::-1]
    stored = {each["id"]: each["quality"]["value"] for each in chosen.run.report["standings"]}
    exported = chosen.web.get(f"{path}?format=csv")
    assert "attachment" in exported.headers["content-disposition"]
    lines = list(csv.DictReader(io.StringIO(exported.text)))
    assert {line["id"]: float(line["quality"]) for line in lines} == stored


def test_a_run_without_a_report_says_so_and_the_command(chosen: Chosen) -> None:
    run = _stored(chosen.scene, {"one": [("a", True)]})
    page = _words(chosen.web.get(f"/console/choose/{run.id}").text)
    assert "This run is stopped and has no report" in page
    assert "fairlead select" in page
    foreign = _stored(chosen.scene, {}, report={"choice": {"status": 0}, "made": "by another version"})
    assert "written by another version" in chosen.web.get(f"/console/choose/{foreign.id}").text
    assert chosen.web.get("/console/choose").status_code == 200


@pytest.mark.parametrize("path", ["nobody", "%25", "compare", "compare?before=nobody&after=nobody:x"])
def test_what_does_not_exist_is_said(chosen: Chosen, path: str) -> None:
    answer = chosen.web.get(f"/console/choose/{path}")
    assert answer.status_code == 404
    assert "run" in _words(answer.text)


def test_another_tenants_runs_do_not_exist(chosen: Chosen) -> None:
    run = _stored(chosen.scene, {"one": [("theirs", True)]}, tenant="other", dataset="theirs@1")
    assert "theirs@1" not in chosen.web.get("/console/choose").text
    assert chosen.web.get(f"/console/choose/{run.id}").status_code == 404
    sides = {"before": run.id, "after": f"{chosen.run.id}:extractive"}
    answer = chosen.web.get("/console/choose/compare", params=sides)
    assert answer.status_code == 404
    assert run.id not in chosen.web.get(f"/console/choose/{chosen.run.id}").text
    guessed = chosen.web.get("/console/choose/compare", params={**sides, "before": f"{run.id}:nobody"})
    assert guessed.status_code == 404
    assert "measured" not in _words(guessed.text)  # not even what it was asked


def test_a_candidate_nobody_measured_is_said_with_those_that_were(chosen: Chosen) -> None:
    sides = {"before": f"{chosen.run.id}:nobody", "after": chosen.run.id}
    answer = chosen.web.get("/console/choose/compare", params=sides)
    assert answer.status_code == 404
    assert "extractive" in _words(answer.text)


def test_two_candidates_of_a_race_are_told_apart_as_the_race_does(chosen: Chosen) -> None:
    """Nine to one would be more than chance for who looks once; the race looked many times."""
    for count, told in ((10, "the two cannot be told apart yet"), (120, "the difference is shown")):
        marks = {"one": [("a", n % 10 == 0) for n in range(count)], "two": [("b", n % 10 != 0) for n in range(count)]}
        plan = {"quality": "right", "options": {"racing": True}}
        run = _stored(chosen.scene, marks, plan=plan)
        sides = {"before": f"{run.id}:one", "after": f"{run.id}:two"}
        said = _words(chosen.web.get("/console/choose/compare", params=sides).text)
        assert f"{told} (" in said
        assert "sign test" not in said


def test_two_candidates_are_compared_sample_by_sample(chosen: Chosen) -> None:
    before = [(f"no {HOSTILE}", False), ("yes", True), ("a", True), ("same", True), ("@cmd", None), ("x", False)]
    after = [("=1+1", True), ("no", False), ("b", True), ("same", True), ("y", True), ("y", True)]
    run = _stored(chosen.scene, {"one": before, "two": after})
    sides = {"before": f"{run.id}:one", "after": f"{run.id}:two"}
    page = chosen.web.get("/console/choose/compare", params=sides).text
    said = _words(page)
    assert "two is better than one on 2 of 6 answers and worse on 1: chance alone may differ as much" in said
    assert "1 differ in words and not in score, 1 not at all, 1 have a score on one side only" in said
    rows = _rows(page, "Samples")
    assert [re.findall(r"\bs\d\b", row)[0] for row in rows] == ["s1", "s0", "s5"]  # what got worse comes first
    assert "▲ worse" in rows[0]
    assert "● better" in rows[1]
    assert "<img" not in page
    assert read(page).blocked == []
    kinds = {
        show: [each["sample"] for each in _export(chosen, sides, show)]
        for show in ("better", "worse", "unscored", "reworded", "changed", "all")
    }
    assert kinds["better"] == ["s0", "s5"]
    assert kinds["worse"] == ["s1"]
    assert kinds["unscored"] == ["s4"]
    assert kinds["reworded"] == ["s2"]
    assert sorted(kinds["all"]) == [f"s{number}" for number in range(6)]
    downwards = _export(chosen, {**sides, "sort": "-difference"}, "changed")
    assert [each["sample"] for each in downwards] == ["s0", "s5", "s1"]
    table = chosen.web.get("/console/choose/compare", params={**sides, "show": "better", "format": "csv"}).text
    assert next(csv.DictReader(io.StringIO(table)))["after_answer"] == "'=1+1"  # no spreadsheet runs it
    turned = chosen.web.get("/console/choose/compare", params={"before": sides["after"], "after": sides["before"]}).text
    assert "one is better than two on 1 of 6 answers and worse on 2" in _words(turned)


def _export(chosen: Chosen, sides: dict[str, str], show: str) -> list[dict[str, Any]]:
    found = chosen.web.get("/console/choose/compare", params={**sides, "show": show, "format": "json"})
    return [dict(each) for each in found.json()]


def test_a_real_run_is_compared_with_its_samples_beside_it(chosen: Chosen) -> None:
    sides = {"before": f"{chosen.run.id}:baseline:retrieval", "after": f"{chosen.run.id}:extractive", "show": "all"}
    page = chosen.web.get("/console/choose/compare", params=sides).text
    assert "How many days do I have to return an item?" in page
    assert "&lt;img src=x" in page
    assert "<img" not in page
    assert {each["input"] for each in _export(chosen, sides, "all")} == {each["input"] for each in QUESTIONS}


def test_candidates_with_nothing_in_common_say_what_to_do(chosen: Chosen) -> None:
    run = _stored(chosen.scene, {"one": [("a", True)]})
    sides = {"before": run.id, "after": f"{chosen.run.id}:extractive"}
    page = _words(chosen.web.get("/console/choose/compare", params=sides).text)
    assert "have no sample in common" in page
    assert "fairlead select --data gone@7" in page


def test_long_comparisons_come_in_pages_and_export_whole(chosen: Chosen) -> None:
    run = _stored(chosen.scene, {"one": [("a", False)] * 120, "two": [("b", True)] * 120})
    sides = {"before": f"{run.id}:one", "after": f"{run.id}:two"}
    first = chosen.web.get("/console/choose/compare", params=sides).text
    assert len(_rows(first, "Samples")) == 50
    assert "more than chance explains" in _words(first)
    following = re.search(r'href="([^"]+)" rel="next"', first)
    assert following
    second = chosen.web.get(following[1].replace("&amp;", "&")).text
    assert "51 to 100 of 120" in _words(second)
    assert len(_export(chosen, sides, "all")) == 120


@pytest.mark.parametrize("path", ["", "/{run}"])
def test_judges_carry_their_badge(chosen: Chosen, path: str) -> None:
    page = _words(chosen.web.get("/console/choose" + path.format(run=chosen.run.id)).text)
    assert re.search(
        r"polite ( \(asked in this run\) )?: ◌ uncalibrated – may not decide: it was never calibrated", page
    )


@pytest.mark.parametrize(
    ("right", "told"), [(60, "▲ failed: kappa 0."), (100, "● calibrated: kappa 1.00")], ids=["failed", "calibrated"]
)
def test_a_calibration_changes_the_badge(chosen: Chosen, right: int, told: str) -> None:
    """As ``fairlead judge calibrate`` would have kept it, for the judge as it is declared."""
    definition = judge_definition(chosen.scene.fairlead.usecase, "polite")
    said = [("yes" if number % 2 else "no",) for number in range(240)]
    cases = [Labelled(case=Case(question=str(n), answers=("a",)), people=people) for n, people in enumerate(said)]

    async def look(case: Case, repetition: int) -> Judgement:
        number = int(case.question)
        return Judgement(verdict="yes" if (number % 2 == 1) == (number // 2 % 100 < right) else "no")

    judge = Instrument(definition=definition, look=look)
    found = asyncio.run(calibrate(judge, cases))
    chosen.scene.store.calibrations.add(record_of(judge, found, cases, "labels.jsonl"))
    for path in ("", f"/{chosen.run.id}"):
        page = _words(chosen.web.get(f"/console/choose{path}").text)
        assert told in page
        assert ("may not decide: kappa" in page) == (right == 60)


def _answers(chosen: Chosen, run: Run, **query: str) -> httpx.Response:
    return chosen.web.get(f"/console/choose/{run.id}/answers", params=query)


def test_the_answers_of_a_candidate_are_shown_whole_and_escaped(chosen: Chosen) -> None:
    page = _answers(chosen, chosen.run, candidate="baseline:retrieval").text
    assert "baseline:retrieval: 4 answers" in _words(page)
    rows = _rows(page, "Answers")
    assert len(rows) == 4
    assert any("What it rests on" in row for row in rows)
    assert all(re.search(r"\bdeclined (yes|no) first_token [\d.]+ m?s latency [\d.]+ m?s ", row) for row in rows)
    assert all("cost 0 USD" in row for row in rows)
    assert "<img" not in page
    assert "&lt;img src=x" in page
    linked = chosen.web.get(f"/console/choose/{chosen.run.id}").text
    assert f'href="/console/choose/{chosen.run.id}/answers?candidate=baseline%3Aretrieval"' in linked


def test_answers_come_in_pages_and_are_narrowed_to_wrong_and_failed_ones(chosen: Chosen) -> None:
    marks: list[tuple[str, Any]] = [(f"answer {n} " + "long " * 400, n % 3 != 0) for n in range(90)]
    marks += [("no score", None)] * 5
    run = _stored(chosen.scene, {"one": marks, "two": [("b", True)]})
    base = {name: getattr(run, name) for name in ("time", "tenant", "subject", "usecase", "spec_hash", "release")}
    failed = Answered(
        **base, id=new_id(), key=new_id(), variant="one", sample="s95", error="busy: try again", answer={}
    )
    named: dict[str, Any] = {"variant": "one", "sample": "s95"}
    result = Result(**base, **named, id=new_id(), run=run.id, answered=failed.id, scores={})
    chosen.scene.store.runs.add([failed], [result])
    first = _answers(chosen, run, candidate="one").text
    assert "one: 96 answers, 30 wrong, 1 failed" in _words(first)
    assert "answer 0 " + ("long " * 400).strip() in _words(first), "whole, not cut"
    seen, page = 0, first
    while True:
        seen += len(_rows(page, "Answers"))
        following = re.search(r'href="([^"]+)" rel="next"', page)
        if following is None:
            break
        page = chosen.web.get(following[1].replace("&amp;", "&")).text
    assert seen == 96
    for show, count in (("wrong", 30), ("failed", 1), ("unscored", 5), ("nonsense", 96)):
        page = _answers(chosen, run, candidate="one", show=show).text
        assert f"of {count}." in _words(page), show
        exported = _answers(chosen, run, candidate="one", show=show, format="json").json()
        assert len(exported) == count
    assert "busy: try again" in _answers(chosen, run, candidate="one", show="failed").text
    assert "No answer is of this kind" in _answers(chosen, run, candidate="two", show="wrong").text
    written = list(csv.DictReader(io.StringIO(_answers(chosen, run, candidate="one", format="csv").text)))
    assert len(written) == 96
    beyond = _answers(chosen, run, candidate="one", **{"from": "5000"})
    assert "81 to 96 of 96." in _words(beyond.text), "an address of rows that are gone leads to the last"


def test_answers_of_nobody_and_of_other_tenants_are_missing(chosen: Chosen) -> None:
    assert _answers(chosen, chosen.run, candidate="nobody").status_code == 404
    assert _answers(chosen, chosen.run).status_code == 404
    other = _stored(chosen.scene, {"one": [("secret", True)]}, tenant="rival")
    reply = _answers(chosen, other, candidate="one")
    assert (reply.status_code, "secret" in reply.text) == (404, False)


def test_three_hundred_runs_come_in_pages_and_only_one_report_is_read(chosen: Chosen) -> None:
    run, store = chosen.run, chosen.scene.store
    for number in range(300):
        copy = msgspec.structs.replace(run, id=new_id(), time=run.time - 1_000 * (number + 1), dataset="many@1")
        store.runs.begin(copy)
        store.runs.end(msgspec.structs.replace(copy, state="done", ended=run.ended, report=run.report))
    page = chosen.web.get("/console/choose", params={"data": "many@1"}).text
    assert "1 to 50 of 300" in _words(page)
    assert len(_rows(page, "Runs")) == 50
    following = re.search(r'href="([^"]+)" rel="next"', page)
    assert following
    assert "51 to 100 of 300" in _words(chosen.web.get(following[1].replace("&amp;", "&")).text)
    assert len(chosen.web.get("/console/choose", params={"data": "many@1", "format": "json"}).json()) == 300
    brief = store.runs.list(since=0, until=now_us() + 1, limit=1_000, brief=True)
    whole = {each.id: each for each in store.runs.list(since=0, until=now_us() + 1, limit=1_000)}
    assert [each.id for each in brief] == list(whole)
    for each in brief:
        report = whole[each.id].report
        assert each.report.get("choice", {}) == (report.get("choice") or {})
        assert each.report.get("samples") == report.get("samples")
