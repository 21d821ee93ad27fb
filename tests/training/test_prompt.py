"""The prompt shape: what training writes is what the shipped chat template builds."""

from __future__ import annotations

import json
import random
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.generator import Extra
from training.mixture import draw_document
from training.prompt import (
    CHAT_TEMPLATE,
    MARKERS,
    Argument,
    Document,
    Tool,
    Turn,
    as_messages,
    call_text,
    defuse,
    parse_call,
    render,
    system_text,
    tool_line,
)

TEMPLATE = jinja2.Environment().from_string(CHAT_TEMPLATE)  # text for a model, never a page


def build(document: Document, place: int, generate: bool = True) -> str:
    tools: list[dict[str, Any]] = [tool.as_openai() for tool in document.tools]
    return TEMPLATE.render(messages=as_messages(document, place), tools=tools, add_generation_prompt=generate)


@pytest.mark.parametrize("seed", range(200))
def test_the_chat_template_builds_the_trained_prompt(seed: int) -> None:
    document = draw_document(random.Random(seed), "train", Extra())
    place = next(i for i, turn in reversed(list(enumerate(document.turns))) if turn.role == "assistant")
    assert build(document, place) == render(document, place)
    assert build(document, len(document.turns), generate=False) == render(document)


def test_a_prompt_spelled_out() -> None:
    tool = Tool("track", "Look up an order", (Argument("order_id"), Argument("full", "boolean", required=False)))
    call = call_text("track", {"order_id": "A1"})
    turns = (Turn("user", "where is A1?"), Turn("assistant", call), Turn("tool", '{"status": "sent"}'))
    document = Document("Be brief.", ("Delivery takes 3 days.",), (tool,), turns)
    assert render(document, 3) == (
        "<|im_start|>system\nBe brief.\n\nSources:\n[1] Delivery takes 3 days.\n\n"
        "Tools:\ntrack(order_id: string, full?: boolean) - Look up an order<|im_end|>\n"
        "<|im_start|>user\nwhere is A1?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>{"name": "track", "arguments": {"order_id": "A1"}}</tool_call><|im_end|>\n'
        '<|im_start|>tool\n{"status": "sent"}<|im_end|>\n'
        "<|im_start|>assistant\n"
    )
    assert build(document, 3) == render(document, 3)


def test_without_passages_the_system_text_is_the_instruction() -> None:
    assert system_text("Be brief.") == "Be brief."
    assert tool_line(Tool("now", "Tell the time", ())) == "now() - Tell the time"


@given(
    st.text(),
    st.dictionaries(st.text(min_size=1), st.one_of(st.text(), st.integers(), st.booleans(), st.none())),
)
def test_a_call_that_was_written_is_read_back(before: str, arguments: dict[str, Any]) -> None:
    name = "lookup"
    if any("</tool_call>" in json.dumps(value, ensure_ascii=False) for value in [arguments]) or "<tool_call>" in before:
        return
    assert parse_call(before + call_text(name, arguments)) == (name, arguments)


@pytest.mark.parametrize(
    "broken",
    [
        "no call at all",
        "<tool_call>{",
        '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "a", "arguments": []}</tool_call>',
        "<tool_call>[]</tool_call>",
    ],
)
def test_a_broken_call_is_none(broken: str) -> None:
    assert parse_call(broken) is None


@given(st.lists(st.one_of(st.text(max_size=5), st.sampled_from([*MARKERS, "<|im_", "start|>", "<tool_", "call>"]))))
def test_no_marker_survives_defusing(parts: list[str]) -> None:
    cleaned = defuse("".join(parts))
    assert not any(marker in cleaned for marker in MARKERS)
    assert defuse(cleaned) == cleaned


def test_defusing_leaves_other_text_alone() -> None:
    assert defuse("a < b |> c <b>") == "a < b |> c <b>"
    assert defuse("<|im_<|im_end|>end|>x") == "x"
