"""The reference shop's files fit together: definition, pages, questions, messages."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from fairlead.assistant import Knowledge, Tools
from fairlead.spec import check, load
from fairlead.tools import Cap

SHOP = Path(__file__).parents[2] / "examples" / "shop"
PHONES = re.compile(r"\+49 (40 66969|89 99998) \d{3}|\+[\d ]{8,}")


def questions() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SHOP / "data" / "questions.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_definition_is_valid_and_complete() -> None:
    usecase = load(SHOP / "fairlead.yaml")
    assert usecase.live.id == "extractive"
    assert [variant.id for variant in usecase.variants] == ["extractive", "cascade", "mini"]
    assert usecase.variant("mini").prompt_text().startswith("You are the AI assistant of Tarn & Tinder")
    assert " AI assistant " in usecase.policy.disclosure.greeting
    assert Knowledge.load([usecase.path(part.path) for part in usecase.knowledge]).passages
    loaded = Tools.of(usecase)
    changes = ["cancel_order", "change_address", "start_return", "refund"]
    assert loaded.names() == ["find_order", "track_parcel", "opening_hours", *changes]
    for name in changes:
        tool = loaded.get(name)
        assert tool is not None
        assert tool.rule.effect == "writes"
        assert tool.rule.customer
        assert loaded.get(tool.rule.check) is not None
    refund = loaded.get("refund")
    assert refund is not None
    assert refund.rule.cap == Cap("amount", 50.0, 24.0)


def test_the_hours_of_the_definition_are_those_of_the_pages() -> None:
    contact = (SHOP / "knowledge" / "contact.md").read_text(encoding="utf-8")
    assert load(SHOP / "fairlead.yaml").policy.handoff.hours == "Mon-Fri 09:00-17:00"
    assert "Chat with a person | Monday to Friday, 09:00–17:00" in contact


def test_retention_is_what_the_privacy_page_promises() -> None:
    page = (SHOP / "knowledge" / "privacy.md").read_text(encoding="utf-8")
    policy = load(SHOP / "fairlead.yaml").policy
    assert f"Chat transcripts | {policy.retention.conversations_days} days" in page
    assert policy.privacy.training_use is ("not used to train" not in page)


def test_every_expected_fact_stands_in_its_source() -> None:
    passages = Knowledge.load([SHOP / "knowledge"]).passages
    texts: dict[str, str] = {}
    for passage in passages:
        texts[passage.location] = f"{texts.get(passage.location, '')} {passage.text}"
    for question in questions():
        if question["expect"] == "answer":
            for fact in question["facts"]:
                first, *others = fact.split("|")
                assert first.lower() in texts[question["source"]].lower(), (question["id"], fact)
                assert all(any(other in text for text in texts.values()) for other in others), (question["id"], fact)


def test_there_are_enough_questions_of_every_kind() -> None:
    rows = questions()
    assert [row["id"] for row in rows] == [f"q{number:03d}" for number in range(1, len(rows) + 1)]
    assert len({(row.get("previous"), row["question"].lower()) for row in rows}) == len(rows)
    kinds = Counter(row["expect"] for row in rows)
    assert kinds["answer"] >= 120
    assert kinds["unanswerable"] >= 25
    assert {"tool", "ask"} <= set(kinds)
    assert sum("previous" in row for row in rows) >= 8
    assert all(row["tags"] for row in rows)


def test_what_is_unanswerable_is_on_no_page() -> None:
    words = {
        "kayak",
        "guided hike",
        "insurance",
        "campsite",
        "wi-fi",
        "vibram",
        "bicycle",
        "babysit",
        "drone",
        "netflix",
    }
    pages = " ".join(path.read_text(encoding="utf-8").lower() for path in (SHOP / "knowledge").glob("*.md"))
    assert not {word for word in words if word in pages}


def test_thirty_different_messages_for_the_demonstration() -> None:
    lines = (SHOP / "data" / "messages.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(set(lines)) == 30


def test_contacts_are_reserved_for_fiction() -> None:
    for path in SHOP.rglob("*.md"):
        text = path.read_text(encoding="utf-8")
        for domain in re.findall(r"@([\w.-]+\w)", text):
            assert domain.endswith((".example", "example.com", "example.org", "example.net")), (path, domain)
        for match in PHONES.finditer(text):
            assert match[1], (path, match[0])


def test_the_hosted_model_in_the_comment_works_as_the_readme_tells(tmp_path: Path) -> None:
    project = tmp_path / "shop"
    shutil.copytree(SHOP, project, ignore=shutil.ignore_patterns(".fairlead", "working-*"))
    file = project / "fairlead.yaml"
    text = file.read_text(encoding="utf-8")
    commented = re.search(r"^#   - \{id: hosted.*\n#.*\n", text, re.MULTILINE)
    assert commented
    lines = commented[0].replace("#  ", " ")
    text = text.replace("live: extractive", f"{lines}live: hosted")
    text = text.replace("external_models: false", "external_models: true")
    file.write_text(text, encoding="utf-8")
    assert check(project).problems == ()
