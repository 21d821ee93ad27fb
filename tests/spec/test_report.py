"""`check`: one report for people and programs."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from fairlead.spec import CheckReport, check
from fairlead.spec.datasets import MAX_PROBLEMS, scan

QUESTIONS = "data/questions.jsonl"


def edit(project: Path, old: str, new: str) -> None:
    spec = project / "fairlead.yaml"
    text = spec.read_text()
    assert old in text
    spec.write_text(text.replace(old, new))


def test_a_whole_project(project: Path) -> None:
    report = check(project)
    assert report.ok
    assert report.problems == ()
    assert report == check(project / "fairlead.yaml")
    assert [(each.id, each.rows) for each in report.datasets] == [("questions", 33)]
    rows = {plan.objective: plan.evaluation.n if plan.evaluation else None for plan in report.objectives}
    assert rows == {"resolution": None, "grounded": 33, "out-of-scope": 4, "first-token": 33, "cost": None}
    again = msgspec.json.decode(msgspec.json.encode(report), type=CheckReport)
    assert again == report


def test_a_broken_file_gives_a_report_not_an_exception(tmp_path: Path) -> None:
    (tmp_path / "fairlead.yaml").write_text("a: 1\n")
    report = check(tmp_path)
    assert not report.ok
    assert report.problems[0].line == 1
    assert json.loads(msgspec.json.encode(report))["problems"][0]["file"].endswith("fairlead.yaml")
    assert not check(tmp_path / "nowhere").ok


def test_names_each_line_of_a_data_set_that_cannot_be_read(project: Path) -> None:
    lines = ['{"id": "a"}', "", "not json", "[1]", '{"id": "a"}', '{"id": "b"', "{}", "1", '{"x": "\\ud800"}']
    (project / QUESTIONS).write_bytes("\n".join(lines).encode() + b'\n{"id": "\xff"}\n' + b"[" * 100_000)
    report = check(project)
    assert not report.ok
    assert [problem.line for problem in report.problems] == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert all(problem.file.endswith("questions.jsonl") for problem in report.problems)
    assert "line 1 has it" in report.problems[2].expected
    assert report.datasets[0].rows == 2


def test_does_not_drown_in_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("broken\n" * 1000)
    assert len(scan(path, {}, shown="rows.jsonl").problems) == MAX_PROBLEMS
    path.write_bytes(b'{"id": "' + b"x" * 2_000_000 + b'"}\n')
    assert "bytes" in scan(path, {}, shown="rows.jsonl").problems[0].found


def test_takes_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a"}\r\n{"id": "b"}\r\n\r\n')
    found = scan(path, {}, shown="rows.jsonl")
    assert (found.rows, found.problems) == (2, [])


def test_counts_the_rows_of_a_slice(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"id": "a", "intent": "refund"}, {"id": "b", "tags": {"intent": "refund"}}, {"id": "c", "tags": ["refund"]}]
    path.write_text("\n".join(map(json.dumps, rows)))
    filters = {
        "all": {},
        "refund": {"intent": "refund"},
        "any": {"intent": "*"},
        "both": {"intent": "refund", "id": "b"},
    }
    assert scan(path, filters, shown="").matches == {"all": 3, "refund": 2, "any": 2, "both": 1}


def test_a_slice_counts_only_its_rows(project: Path) -> None:
    edit(project, "kind: guardrail, margin: 0.02}", "kind: guardrail, margin: 0.02, slice: {intent: delivery}}")
    plan = next(plan for plan in check(project).objectives if plan.objective == "grounded")
    assert plan.evaluation is not None
    assert plan.evaluation.n == 7


def test_the_template_gives_one_warning(project: Path) -> None:
    assert check(project).warnings == (
        (
            "Objective out-of-scope: 4 evaluation rows count for it, fewer than min_samples (30). Add such rows to "
            "data/questions.jsonl, or lower `min_samples:`."
        ),
    )


HOSTED = '\n  - {id: hosted, model: "openai:gpt-4.1-mini"}\nlive:'


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        (", email: ada@example.com", "", "No owner has an e-mail address"),
        ("kind: guardrail", "kind: goal", "No objective is a guardrail"),
        ("traffic: ", "# traffic: ", "`traffic:` is not declared"),
        ("risk: limited", "risk: high", "Articles 8 to 15"),
        ("min_samples: 30 ", "min_samples: 300 ", "has 33 rows, fewer than min_samples (300)"),
        ('">= 0.95"', '">= 1.0"', "no sample confirms it"),
        ('">= 0.60"', '">= 0.0"', "holds whatever happens"),
        (
            'metric: resolution, aggregation: mean, bound: ">= 0.60"',
            'metric: csat, bound: ">= 0.8"',
            "csat_response_rate",
        ),
        ("\nlive:", HOSTED, "external_models is false"),
        ("\nlive:", HOSTED, "no `api_key:`"),
        ("\nlive:", HOSTED, "no `prompt:`"),
        ("\nlive:", HOSTED.replace("gpt-4.1-mini", "nobody-knows-this-one"), "no `price:`"),
        ("knowledge:\n  - {path: knowledge}\n", "", "there is none"),
        ("mask: [email, phone, card, iban]", "mask: [email]", "card, iban, phone unmasked"),
        ("training_use: false", "training_use: true", "GDPR, Article 6"),
        ("enabled: true", "enabled: false", "cannot reach a person"),
        ("Hello! I am the AI assistant of", "Hello from", "Article 50(1)"),
        ("metric: out_of_scope_recall, aggregation", "metric: correct_escalation, aggregation", "none of the 33"),
    ],
)
def test_warns(project: Path, old: str, new: str, warning: str) -> None:
    edit(project, old, new)
    report = check(project)
    assert report.ok, report.problems
    assert any(warning in each for each in report.warnings), report.warnings


def test_warns_of_a_broken_budget_and_an_unknown_region(project: Path) -> None:
    dear = HOSTED.replace(
        "}",
        ", prompt: prompts/system.md, api_key: env:X,"
        " price: {input_usd_per_million: 100, output_usd_per_million: 100}}",
    )
    edit(project, "\nlive:", dear)
    edit(project, "external_models: false", "external_models: true")
    warnings = check(project).warnings
    assert any("breaks the budget at the declared traffic: evaluation, per_day, per_month" in each for each in warnings)
    assert any("stays within eu is not known" in each for each in warnings)
    # 980 tokens a turn, 3 turns, 100 USD a million: 0.294 USD a conversation, of which 60 % are resolved.
    assert any("0.49 USD per resolution" in each and "0.2 USD" in each for each in warnings)


def test_without_objectives(project: Path) -> None:
    text = (project / "fairlead.yaml").read_text()
    start, end = text.index("objectives:"), text.index("confidence:")
    (project / "fairlead.yaml").write_text(text[:start] + text[end:])
    assert any("no objectives" in each for each in check(project).warnings)


def test_only_evaluation_data_counts_as_evidence(project: Path) -> None:
    edit(project, "purpose: eval", "purpose: train")
    report = check(project)
    assert [each.rows for each in report.datasets] == [33]
    assert all(plan.evaluation is None for plan in report.objectives)
    assert any("The evaluation data has 0 rows" in each for each in report.warnings)
