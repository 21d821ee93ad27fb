"""Write what was measured into the page people read: `python -m training.card`.

The page `docs/models/mini.md` keeps its prose; everything between the two marks comes from the card beside the weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CARD = ROOT / "src" / "fairlead" / "engines" / "weights" / "mini.json"
PAGE = ROOT / "docs" / "models" / "mini.md"
BEGIN, END = "<!-- measured: python -m training.card -->", "<!-- end of measured -->"

_TITLES = {
    "grounded_one": "answers from one passage",
    "grounded_few": "answers from two or three passages",
    "refuse": "says that it does not know",
    "ask_missing": "asks for the missing detail",
    "tool_call": "calls the right tool with the right arguments",
    "tool_result": "puts a tool's result into words",
    "small_talk": "small talk",
    "hand_off": "complaint or wish for a person: offers one",
}


def render_card(card: dict[str, Any]) -> str:
    """The facts of the card as Markdown."""
    training = card["training"]
    made = f"{training['tokens'] / 1e6:.2f} M training tokens in {training['steps']} steps, seed {training['seed']}"
    size = f"{card['parameters'] / 1e6:.2f} M parameters, {card['bytes'] / 1e6:.2f} MB"
    lines = [
        f"Version {card['version']}, {size}, {made}, sha256 `{card['sha256']}`.",
        "",
        "| skill | new wordings | 95 % interval | verdict | invented a number | trained wordings |",
        "| --- | ---: | --- | --- | ---: | ---: |",
    ]
    for line, seen in zip(card["skills"], card["skills_in_trained_wordings"], strict=True):
        interval = f"{100 * line['low']:.0f}–{100 * line['high']:.0f} %"
        lines.append(
            f"| {_TITLES[line['skill']]} (`{line['skill']}`) | {line['right']} of {line['n']} | {interval} "
            f"| {line['verdict']} | {line['invented_numbers']} | {seen['right']} of {seen['n']} |"
        )
    bound = card["objective"]["at_least"]
    count = card["skills"][0]["n"]
    lines += [
        "",
        f"Alone: all of the answer is its own; it passes where the lower bound is at least {100 * bound:.0f} %. The",
        f"same with `{card['command']} --count {count}`",
        "(FAIRLEAD_DATA set, for the same cases).",
        "",
        *_render_cascade(card),
        "",
    ]
    lines += ["| data | licence | use |", "| --- | --- | --- |"]
    lines += [f"| {source['name']} | {source['licence']} | {source['use']} |" for source in card["data"]]
    return "\n".join(lines)


_CASES = {
    "grounded_one": "answers from passages, invented shops (`grounded_one`)",
    "natural": "answers from pages of hand-written shops",
    "tool_result": "results of the kinds of tools it was trained on (`tool_result`)",
    "unseen_result": "results of other kinds of tools",
    "ask_missing": "asks for the missing detail (`ask_missing`)",
}


def _render_cascade(card: dict[str, Any]) -> list[str]:
    """Both paths on the same requests, and which skills the cascade may take over."""
    measured = card["through_the_cascade"]
    lines = [
        "| through the cascade | `extractive` | with its words | difference, 95 % interval | in its words | lost |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for line in measured["skills"]:
        interval = f"{100 * line['low']:+.1f} to {100 * line['high']:+.1f} points"
        lines.append(
            f"| {_CASES[line['skill']]} | {line['extractive']} of {line['n']} | {line['cascade']} of {line['n']} "
            f"| {interval} | {line['worded']} of {line['shown']} | {line['lost']} |"
        )
    held = ", ".join(f"`{skill}`" for skill in card["holds"]) or "none"
    margin = f"{100 * measured['margin']:.0f}"
    return [
        *lines,
        "",
        f"Skills the cascade takes over (interval above -{margin} points, at least a tenth worded): {held}.",
    ]


def place_card(page: str, card: dict[str, Any]) -> str:
    """`page` with the part between the marks renewed; ValueError without the marks."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the page lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{render_card(card)}\n{END}{after}"


def main() -> None:
    card = json.loads(CARD.read_text(encoding="utf-8"))
    PAGE.write_text(place_card(PAGE.read_text(encoding="utf-8"), card), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: version {card['version']}\n")


if __name__ == "__main__":
    main()
