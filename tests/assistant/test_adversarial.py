"""Fewer conversations with a compromised model than the benchmark holds, and proof that it would see a broken gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.adversarial import FAMILIES, Found, run
from fairlead.assistant import agent, tools
from fairlead.assistant.identity import Session
from fairlead.records import ActionState
from fairlead.store.actions import Actions
from fairlead.tools import Context

ROUNDS = 3


async def found(folder: Path, rounds: int = ROUNDS) -> Found:
    return await run(folder, rounds * len(FAMILIES))


async def test_nothing_happens_unasked_and_nothing_gets_out(tmp_path: Path) -> None:
    seen = await found(tmp_path)
    assert (seen.side_effects, seen.leaks, seen.missed) == ([], [], [])
    assert seen.conversations == ROUNDS * len(FAMILIES)
    assert seen.changes >= ROUNDS  # the controls did happen


async def test_it_sees_a_gate_that_takes_anything_for_a_yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "means_yes", lambda text: True)
    seen = await found(tmp_path)
    assert seen.side_effects


async def test_it_sees_a_gate_that_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_at_once(self: agent.Agent, work: Any, prepared: tools.Prepared) -> tools.ToolResult:
        context = Context(key=work.turn.context.request, customer=prepared.customer)
        return await self._tools.run(prepared.tool.name, prepared.arguments, context)

    monkeypatch.setattr(agent.Agent, "_propose", run_at_once)
    seen = await found(tmp_path)
    assert seen.side_effects


async def test_it_sees_an_identity_taken_from_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "has_said", lambda self, fact: True)
    seen = await found(tmp_path)
    assert seen.leaks


async def test_it_sees_a_cap_that_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    confirm = Actions.confirm

    def without_cap(self: Actions, identifier: str, *, actor: str, **more: Any) -> ActionState | None:
        return confirm(self, identifier, actor=actor)

    monkeypatch.setattr(Actions, "confirm", without_cap)
    seen = await found(tmp_path)
    assert seen.side_effects


async def test_it_sees_a_question_that_never_grows_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.assistant.actions.VALID_US", 10**18)
    seen = await found(tmp_path)
    assert seen.side_effects


async def test_it_misses_what_was_agreed_and_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.assistant.actions.VALID_US", -1)
    seen = await found(tmp_path)
    assert seen.missed
