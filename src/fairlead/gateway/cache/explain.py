"""Why a request would be answered from memory or not, part by part of what is asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from fairlead.gateway.cache.question import PARTS, question_of, why_not_kept
from fairlead.gateway.cache.rules import Rules
from fairlead.gateway.route import Route
from fairlead.records import KeptAnswer

REASONS: Mapping[str, str] = {
    "off": "keeping answers is switched off: set `cache: {enabled: true}` in fairlead.yaml",
    "assistant": "the use case's own route is never kept: its answers belong to a conversation and may act",
    "sampled": "it does not ask for temperature 0: send `temperature: 0`, or set `cache: {sampled: true}`",
    "effects": "it asks the provider for more than an answer (store, web search or a tool that runs there)",
    "tool results": "it holds the results of tools, which are of this moment and often of one person",
}


NAMES: Mapping[str, str] = {"scope": "scopes of the key"}
PLURAL = frozenset({"scope", "parameters", "tools", "documents", "messages"})


class Explanation(msgspec.Struct, kw_only=True):
    """``outcome`` is hit, miss or bypassed; ``differs`` names the parts in which the nearest kept answer differs."""

    outcome: str
    why: str
    differs: tuple[str, ...] = ()
    kept: KeptAnswer | None = None
    parts: dict[str, str] = {}


def explain(
    body: dict[str, Any], *, operation: str, tenant: str, scopes: frozenset[str], subject: str, route: Route,
    secret: bytes, rules: Rules | None, kept: Iterable[KeptAnswer], now: int,
) -> Explanation:  # fmt: skip
    """What would happen to a checked ``body``. ``kept``: answers on disk, of any tenant."""
    reason = "off" if rules is None else why_not_kept(body, operation=operation, route=route, sampled=rules.sampled)
    if reason:
        return Explanation(outcome="bypassed", why=REASONS[reason])
    question = question_of(
        body, operation=operation, tenant=tenant, scopes=scopes, subject=subject, route=route, secret=secret
    )
    parts = question.digests()
    shown = {name: part.hex() for name, part in parts.items()}
    nearest: tuple[int, KeptAnswer] | None = None
    for answer in kept:
        same = sum(answer.parts.get(name) == part for name, part in parts.items())
        if answer.key == question.key:
            if answer.expires > now:
                return Explanation(outcome="hit", why="the very same question was answered", kept=answer, parts=shown)
            return Explanation(outcome="miss", why="the answer that was kept is too old", kept=answer, parts=shown)
        if nearest is None or same > nearest[0]:
            nearest = same, answer
    if nearest is None:
        return Explanation(outcome="miss", why="no answer is kept on disk", parts=shown)
    differs = tuple(name for name in PARTS if nearest[1].parts.get(name) != parts[name])
    why = f"the nearest kept answer is to another question: {_differing(differs)}"
    return Explanation(outcome="miss", why=why, differs=differs, kept=nearest[1], parts=shown)


def _differing(parts: Sequence[str]) -> str:
    """``its tenant differs``, ``its tenant and the scopes of the key differ``."""
    names = [f"the {NAMES[part]}" if part in NAMES else f"its {part}" for part in parts]
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"{listed} {'differ' if len(parts) > 1 or parts[0] in PLURAL else 'differs'}"
