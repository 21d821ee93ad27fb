"""Near misses: pairs of questions that share their words but not their meaning, beside pairs that mean the same.

Those written by hand stand in `data/near_misses.txt`; the others are made here by rule from pairs of wordings: another
number, place or thing, the opposite time, or a "not". Held out: the wordings of training are others, and nothing was
tuned on either set. Knows no model.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("data") / "near_misses.txt"
PER_PAIR = 3
# (a question, the same in other words); slots: {n} a number, {c} a place, {p} a thing.
_PAIRS = [
    ("can I return the {p} within {n} days", "may the {p} go back up to {n} days from when I got it"),
    ("I want to cancel order {n}", "please call off the purchase with the number {n}"),
    ("does postage to {c} cost {n} euros", "is it {n} euros to get a parcel sent to {c}"),
    ("the {p} from order {n} is broken", "there is a defect on the {p} I got with order {n}"),
    ("can you deliver the {p} to {c} before Monday", "is it possible that the {p} reaches {c} earlier than Monday"),
    ("is the {p} covered for {n} months", "does the guarantee of the {p} last {n} months"),
    ("I was charged {n} euros for the {p}", "you took {n} euros from me for the {p}"),
    ("do you have a branch in {c}", "is there a shop of yours in {c}"),
    ("my {p} has not arrived after {n} days", "{n} days have passed and there is no sign of my {p}"),
    ("is the discount of {n} percent valid in {c}", "do people in {c} get the {n} percent reduction"),
    ("the {p} is too small for {n} people", "{n} persons have not enough room with the {p}"),
    ("may I change the address to {c}", "can the place of delivery become {c}"),
    ("is there a repair service for the {p} in {c}", "can somebody in {c} mend my {p}"),
    ("I need {n} more of the {p}", "another {n} pieces of the {p} please"),
    ("does it take {n} hours to charge the {p}", "is the {p} full again when {n} hours are over"),
    ("can I pay for the {p} in {n} instalments", "may the price of the {p} be split into {n} parts"),
    ("is the {p} in stock with {n} litres", "is there a {n} litre version of the {p} at hand"),
    ("do you refund the {p} without a receipt", "is there money back for the {p} if I have no proof of purchase"),
]
_NUMBERS = [2, 3, 5, 6, 7, 10, 12, 14, 15, 20, 21, 24, 28, 30, 36, 45, 48, 60, 90, 100]
_PLACES = ["Malta", "Iceland", "Vienna", "Cardiff", "Warsaw", "Oslo", "Madrid", "Athens", "Quebec", "Nicosia"]
_THINGS = ["grinder", "hammock", "projector", "wetsuit", "stapler", "tripod", "cot", "ukulele", "anvil", "duvet"]
_OPPOSITES = [("within", "after"), ("before", "after"), ("too small", "too big"), ("without", "with")]
# Statements only: "isn't there a shop" asks the same as "is there a shop".
_NEGATIONS = [("I want", "I don't want"), ("I need", "I don't need"), ("I was charged", "I was not charged")]
_NEGATIONS += [("has not", "has"), ("is broken", "is not broken"), ("is too small", "is not too small")]


@dataclass(frozen=True)
class Triple:
    """``same`` says what ``question`` says; ``other`` looks more like it and does not."""

    kind: str
    question: str
    same: str
    other: str


def by_hand(path: Path = FILE) -> list[Triple]:
    """The hand-written triples."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Triple(*(part.strip() for part in line.split("|"))) for line in lines if line and line[0] != "#"]


def by_rule(seed: int = 7) -> list[Triple]:
    """Triples made by rule: PER_PAIR fillings of each pair, of each every edit that can be made of its question."""
    rng = random.Random(seed)
    made: dict[Triple, None] = {}
    for question, same in _PAIRS:
        for _ in range(PER_PAIR):
            n, m = rng.sample(_NUMBERS, 2)
            c, d = rng.sample(_PLACES, 2)
            p, q = rng.sample(_THINGS, 2)
            values: dict[str, object] = {"n": n, "c": c, "p": p}
            asked, again = question.format_map(values), same.format_map(values)
            for kind, slot, value in (("number", "n", m), ("place", "c", d), ("object", "p", q)):
                if "{" + slot + "}" in question:
                    made[Triple(kind, asked, again, question.format_map(values | {slot: value}))] = None
            for kind, edits in (("opposite", _OPPOSITES), ("negation", _NEGATIONS)):
                changed = [asked.replace(a, b, 1) for a, b in edits if a in asked]
                if changed:
                    made[Triple(kind, asked, again, changed[0])] = None
    return list(made)
