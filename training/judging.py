"""Is an answer right? Pure functions on text, the same for every engine that gave the answer.

The judge is strict on what can harm a customer: a number that is not in the source makes an answer wrong, whatever
else it says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from fairlead.spec.power import share_interval
from training.prompt import CALL_START, Turn, parse_call

Verdict = Literal["pass", "fail", "not enough data"]
AT_LEAST = 0.9
"""Share of right answers that a skill must hold, judged by the lower bound of its interval."""
CONFIDENCE = 0.95
_Z = 1.959963984540054
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_REFUSAL = re.compile(r"don't know|no information|do not say", re.IGNORECASE)


@dataclass(frozen=True)
class Count:
    """Right answers out of `n`, with the Wilson interval."""

    skill: str
    n: int
    right: int

    @property
    def interval(self) -> tuple[float, float]:
        return share_interval(self.right, self.n)

    @property
    def verdict(self) -> Verdict:
        low, high = self.interval
        if low >= AT_LEAST:
            return "pass"
        return "fail" if high < AT_LEAST else "not enough data"

    def as_dict(self) -> dict[str, Any]:
        low, high = self.interval
        rounded = {"low": round(low, 4), "high": round(high, 4)}
        return {"skill": self.skill, "n": self.n, "right": self.right, **rounded, "verdict": self.verdict}


def find_numbers(text: str) -> set[str]:
    return set(_NUMBER.findall(text))


def invents_number(answer: str, prompt: str) -> bool:
    """Whether the answer holds a number that stands nowhere in the prompt."""
    return not find_numbers(answer) <= find_numbers(prompt)


def is_refusal(answer: str) -> bool:
    return bool(_REFUSAL.search(answer))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def is_right(turn: Turn, answer: str) -> bool:
    """Whether `answer` may stand in the place of `turn`; `turn.skill` chooses the rule."""
    if turn.skill == "tool_call":
        expected, found = parse_call(turn.text), parse_call(answer)
        return expected is not None and expected == found
    if CALL_START in answer or not answer.strip():
        return False
    if turn.skill in ("grounded_one", "grounded_few", "tool_result"):
        if turn.accept:
            return bool(re.search(turn.accept, answer, re.IGNORECASE))
        allowed = find_numbers(turn.source).union(*map(find_numbers, turn.facts))
        complete = all(_plain(fact) in _plain(answer) for fact in turn.facts)
        return complete and find_numbers(answer) <= allowed and not is_refusal(answer)
    if turn.skill == "ask_missing" and "?" not in answer:
        return False
    if turn.skill in ("hand_off", "small_talk") and is_refusal(answer):
        return False
    return not find_numbers(answer) and bool(re.search(turn.accept, answer, re.IGNORECASE))
