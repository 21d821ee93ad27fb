"""Other tools' files: what they say comes over, what cannot be said is named, and nothing in them is run or trusted."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import msgspec
import pytest
import yaml
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fairlead.cli import main
from fairlead.errors import InterchangeInvalid
from fairlead.evaluate.interchange import CHECKS, Check, checks_of, holds
from fairlead.evaluate.interchange.inspect_log import HEADER, MAX_MEMBER, read_log, write_log
from fairlead.evaluate.interchange.junit import write_junit
from fairlead.evaluate.interchange.promptfoo import UNDERSTOOD, read_promptfoo, write_promptfoo
from fairlead.evaluate.reading import Faults
from fairlead.evaluate.samples import make_samples
from fairlead.evaluate.scorers import Answer, Call, Score
from fairlead.records import Sample, Turn, Verdict, now_us
from fairlead.store import Store

PROMPTFOO = """
prompts: ["Answer {{name}}: {{ question }}", "Second: {{question}}"]
providers: [openai:gpt-4.1-mini]
defaultTest:
  vars: {name: Ada}
  assert: [{type: latency, threshold: 2000}]
tests:
  - description: delivery
    vars: {question: ["Where is my parcel?", "When does it come?"]}
    metadata: {topic: delivery}
    assert:
      - {type: contains, value: "5.90 (EUR)"}
      - {type: not-icontains, value: sorry}
      - {type: llm-rubric, value: "Is it polite?"}
      - {type: javascript, value: "process.exit(1)"}
  - vars: {question: "Capital of France?"}
    assert:
      - {type: equals, value: Paris}
      - {type: icontains-all, value: [par, ris]}
      - {type: similar, value: Paris, threshold: 0.5}
  - vars: {question: "As JSON?"}
    assert: [{type: is-json, value: {type: object, required: [a]}}]
"""


def _promptfoo(folder: Path, text: str = PROMPTFOO) -> Path:
    path = folder / "promptfooconfig.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _samples(path: Path) -> list[Sample]:
    faults = Faults("f")
    samples = make_samples(read_promptfoo(path).rows, faults)
    faults.raise_any()
    return samples


def test_promptfoo_tests_become_samples_with_checks(tmp_path: Path) -> None:
    path = _promptfoo(tmp_path)
    samples = _samples(path)
    assert [sample.input for sample in samples] == [
        "Answer Ada: Where is my parcel?", "Answer Ada: When does it come?", "Answer Ada: Capital of France?",
        "Answer Ada: As JSON?",
    ]  # fmt: skip
    assert (samples[0].tags, samples[2].reference) == ({"topic": "delivery"}, "Paris")
    said: dict[int, list[tuple[str, list[bool | None]]]] = {
        0: [("It costs 5.90 (EUR).", [True, True, True]), ("Sorry, 5x90 (EUR)", [True, False, False])],
        2: [("Paris", [True, True, True, True, True]), ("Lyon", [True, False, False, False, None])],
        3: [('{"a": 1}', [True, True]), ("{}", [True, False])],
    }
    for place, cases in said.items():
        for text, expected in cases:
            answer = Answer(text=text, total_s=1.5)
            found = [holds(check, samples[place], answer) for check in checks_of(samples[place])]
            known = [each if wanted is not None else None for each, wanted in zip(found, expected, strict=True)]
            assert known == expected, (place, text)
    assert holds(checks_of(samples[0])[0], samples[0], Answer(total_s=2.1)) is False
    assert holds(checks_of(samples[0])[0], samples[0], Answer()) is None, "what was not measured cannot fail"


def test_what_promptfoo_says_and_we_cannot_is_named(tmp_path: Path) -> None:
    unmapped = read_promptfoo(_promptfoo(tmp_path)).unmapped
    assert unmapped == {
        "prompt 2 (import it by itself: --prompt 2)": 1,
        "providers (declare them in `variants:`)": 1,
        "assertion llm-rubric (declare a judge: docs/judges.md)": 2,
        "assertion javascript": 2,
    }
    assert read_promptfoo(_promptfoo(tmp_path), prompt=2).rows[0].values["input"] == "Second: Where is my parcel?"


def test_tests_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "tests.csv").write_text("input,__expected\nhi,contains: hello\nbye,Goodbye\nx,python: f.py\n")
    path = _promptfoo(tmp_path, "prompts: ['{{input}}']\ntests: file://tests.csv\n")
    imported = read_promptfoo(path)
    assert [row.values.get(CHECKS, [{}])[0].get("scorer") for row in imported.rows] == ["regex", "exact", None]
    assert imported.unmapped == {"assertion python": 1}
    for wrong in ("file://../outside.csv", "file://tests.py", "file://missing.yaml"):
        with pytest.raises(InterchangeInvalid):
            read_promptfoo(_promptfoo(tmp_path, f"prompts: [a]\ntests: {wrong}\n"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "cannot be read as YAML"),
        ("- 1", "neither"),
        ("prompts: [a]", "no tests"),
        ("prompts: [a]\ntests: [1]", "test 1 is int"),
        ("prompts: [a]\ntests: [{vars: {a: !!python/object/apply:os.getcwd []}}]", "cannot be read as YAML"),
    ],
)
def test_promptfoo_files_that_are_none(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InterchangeInvalid, match=told):
        read_promptfoo(_promptfoo(tmp_path, text))
    with pytest.raises(InterchangeInvalid):
        read_promptfoo(tmp_path / "missing.yaml")


@given(st.text(min_size=1, max_size=40), st.text(max_size=60))
def test_an_assertion_on_texts_means_what_promptfoo_means(part: str, text: str) -> None:
    document = {"prompts": ["p"], "tests": [{"assert": [{"type": "contains", "value": part.replace("{", "(")}]}]}
    part = part.replace("{", "(")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.yaml"
        path.write_text(yaml.safe_dump(document, allow_unicode=False), encoding="utf-8")
        [row] = read_promptfoo(path).rows
    check = msgspec.convert(row.values[CHECKS][0], Check)
    sample = Sample(id="s", input="p")
    assert holds(check, sample, Answer(text=text + part)) is True
    assert holds(check, sample, Answer(text=text)) is (part in text)


def test_there_and_back_again(tmp_path: Path) -> None:
    first = _samples(_promptfoo(tmp_path))
    text, lost = write_promptfoo(first)
    assert lost == {}
    back = _samples(_promptfoo(tmp_path, text))
    assert [sample.input for sample in back] == [sample.input for sample in first]
    assert [sample.tags for sample in back] == [sample.tags for sample in first]
    for one, other in zip(first, back, strict=True):
        assert checks_of(one) == checks_of(other)


def test_references_become_assertions(tmp_path: Path) -> None:
    samples = [
        Sample(id="a", input="?", reference=["free", "fast"], earlier=(Turn(role="user", text="Hi"),)),
        Sample(id="b", input="?", reference={"name": "call"}),
        Sample(id="c", input="?", reference="x|y"),
    ]
    text, lost = write_promptfoo(samples, scorer="contains")
    assert yaml.safe_load(text)["tests"][0]["assert"] == [{"type": "icontains-all", "value": ["free", "fast"]}]
    assert set(lost) == {"messages before the question", "references that are objects", "the scorer contains"}


def _log(path: Path, samples: list[dict[str, Any]], *, zstd: bool = False, header: bool = True) -> Path:
    """A log as Inspect writes it; with ``zstd`` packed as its newer versions do."""
    members = {f"samples/{s['id']}_epoch_{s.get('epoch', 1)}.json": s for s in samples}
    if header:
        members[HEADER] = {"version": 2, "status": "success", "eval": {"task": "sums", "model": "mockllm/model"}}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            data = json.dumps(content).encode()
            archive.writestr(name, zstandard.compress(data) if zstd else data)
    if zstd:  # Python's zipfile packs no Zstandard before 3.14: the packed bytes are stored, then called what they are.
        raw = bytearray(path.read_bytes())
        for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
            at = raw.find(mark)
            while at >= 0:
                raw[at + place : at + place + 2] = (93).to_bytes(2, "little")
                at = raw.find(mark, at + 1)
        path.write_bytes(raw)
    return path


ASKED: dict[str, Any] = {
    "id": "q1", "epoch": 1, "target": ["4", "four"], "metadata": {"topic": "sums"}, "total_time": 0.5,
    "input": [{"role": "system", "content": "Be brief."},
              {"role": "user", "content": [{"type": "text", "text": "2+2?"}, {"type": "image", "image": "x"}]}],
    "output": {"model": "m", "choices": [{"message": {"role": "assistant", "content": "It is 4",
               "tool_calls": [{"function": "add", "arguments": {"a": 2}}]}}],
               "usage": {"input_tokens": 9, "output_tokens": 3}},
    "scores": {"match": {"value": "C", "explanation": "yes"}, "tone": {"value": "dry"}, "many": {"value": [1, 2]},
               "sure": {"value": True}},
}  # fmt: skip


@pytest.mark.parametrize("zstd", [False, True])
def test_an_inspect_log_is_read(tmp_path: Path, zstd: bool) -> None:
    second = {**ASKED, "id": 7, "input": "3+3?", "output": {}, "error": {"message": "no route"}, "scores": None}
    path = _log(tmp_path / "l.eval", [ASKED, second, {**ASKED, "epoch": 2}], zstd=zstd)
    log = read_log(path)
    samples = make_samples(log.imported.rows, Faults("f"))
    assert (log.task, log.model, [s.id for s in samples]) == ("sums", "mockllm/model", ["q1", "7"])
    assert (samples[0].input, samples[0].earlier) == ("2+2?", (Turn(role="system", text="Be brief."),))
    assert samples[0].reference == ["4", "four"]
    assert log.answers["q1"] == Answer(
        text="It is 4", calls=(Call(name="add", arguments={"a": 2}),), total_s=0.5, input_tokens=9, output_tokens=3
    )
    assert log.answers["7"].error == "no route"
    assert {each.scorer: each.value for each in log.scores} == {
        "inspect:match": 1.0, "inspect:tone": "dry", "inspect:sure": True
    }  # fmt: skip
    assert {"content of type image", "scores of many that are list", "epoch 2 (import it by itself: --epoch)"} == set(
        log.imported.unmapped
    )
    assert len(read_log(path, epoch=2).answers) == 1


def test_our_own_log_is_read_back(tmp_path: Path) -> None:
    samples = [
        Sample(id="a/1", input="2+2?", earlier=(Turn(role="user", text="Hi"),), reference="4", fields={"topic": "x"}),
        Sample(id="b", input="3+3?", reference={"n": 6}),
    ]
    answers = {"a/1": Answer(text="4", input_tokens=3, output_tokens=1, total_s=0.1), "b": Answer(error="down")}
    scores = [Score(sample="a/1", scorer="exact", hash="h", kind="assertion", value=True)]
    write_log(tmp_path / "o.eval", "sums", "m", samples, answers, scores)
    log = read_log(tmp_path / "o.eval")
    back = make_samples(log.imported.rows, Faults("f"))
    assert [(s.id, s.input, s.earlier) for s in back] == [(s.id, s.input, s.earlier) for s in samples]
    assert log.answers == answers
    assert [(each.scorer, each.value) for each in log.scores] == [("inspect:exact", True)]
    assert list(tmp_path.iterdir()) == [tmp_path / "o.eval"]


def test_logs_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.eval").write_text("no zip")
    _log(tmp_path / "broken_off.eval", [ASKED], header=False)
    _log(tmp_path / "empty.eval", [])
    with zipfile.ZipFile(tmp_path / "bomb.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(HEADER, b" " * (MAX_MEMBER + 2))
    with zipfile.ZipFile(tmp_path / "list.eval", "w") as archive:
        archive.writestr(HEADER, b"[1]")
    for name, told in (
        ("text", "no `.eval` log"), ("broken_off", "broken off"), ("empty", "no finished sample"),
        ("bomb", "more than"), ("list", "expected an object"), ("missing", "no `.eval` log"),
    ):  # fmt: skip
        with pytest.raises(InterchangeInvalid, match=told):
            read_log(tmp_path / f"{name}.eval")


def _verdict(objective: str, outcome: Any, **more: Any) -> Verdict:
    values: dict[str, Any] = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100, "bound": "mean >= 0.60"}
    return Verdict(
        id=objective, time=now_us(), tenant="default", subject="", usecase="shop", spec_hash="", release="",
        objective=objective, step="select", outcome=outcome, **{**values, **more},
    )  # fmt: skip


def test_verdicts_become_junit() -> None:
    verdicts = [
        _verdict("a", "pass"),
        _verdict("b", "fail", kind="guardrail", slice={"intent": "refund"}, note="bad \x00 & <worse>"),
        _verdict("c", "not_enough_data", value=None, low=None, high=None, needed=70),
    ]
    suite = Xml.fromstring(write_junit(verdicts, "shop"))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    assert [[part.tag for part in case] for case in suite] == [
        ["system-out"], ["failure", "system-out"], ["skipped", "system-out"],
    ]  # fmt: skip
    assert "bad � & <worse>" in (suite[1][0].get("message") or "")
    assert "70 samples more would decide" in (suite[2][0].get("message") or "")


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fairlead.yaml").write_text(
        "{fairlead: 1, name: shop, purpose: b, users: {who: c}, risk: minimal, "
        "variants: [{id: e, model: extractive}], live: e}"
    )

    def run(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main(["interchange", *words])
        shown = capfd.readouterr()
        return int(left.value.code or 0), shown.out, " ".join(shown.err.split())

    _promptfoo(tmp_path)
    _log(tmp_path / "l.eval", [ASKED])
    code, out, _ = run("import", "promptfooconfig.yaml", "foo", "--licence", "MIT", "--dry-run", "--json")
    assert (code, json.loads(out)["kept"]) == (0, False)
    code, _, err = run("import", "promptfooconfig.yaml", "foo", "--licence", "MIT")
    assert (code, "not taken over: assertion javascript, 2 times" in err) == (0, True)
    assert run("import", "l.eval", "sums", "--licence", "MIT")[0] == 0
    assert run("import", "promptfooconfig.yaml", "x")[0] == 2, "no licence"
    assert run("import", "fairlead.toml", "x", "--licence", "MIT")[0] == 2
    assert run("export", "foo", "out.yaml")[0] == 0
    assert len(read_promptfoo(tmp_path / "out.yaml").rows) == 4
    assert (run("export", "foo", "out.yaml")[0], run("export", "foo", "out.yaml", "--overwrite")[0]) == (2, 0)
    assert run("export", "sums@1", "out.eval")[0] == 0
    assert len(read_log(tmp_path / "out.eval").imported.rows) == 1
    assert run("export", "sums", "out.txt")[0] == 2
    assert run("junit", "v.xml")[0] == 0
    with Store.open(tmp_path / ".fairlead") as store:
        store.verdicts.add([_verdict("a", "pass"), _verdict("b", "fail")])
    code, out, _ = run("junit", "-")
    assert (code, Xml.fromstring(out)[0].get("failures")) == (1, "1")


def test_the_page_names_every_assertion() -> None:
    page = (Path(__file__).parents[2] / "docs" / "interchange.md").read_text(encoding="utf-8")
    assert [kind for kind in UNDERSTOOD if f"`{kind}`" not in page] == []
