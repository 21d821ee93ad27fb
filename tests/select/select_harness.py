"""Selections among scripted models: who is right how often is the script's, everything else is real."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairlead.evaluate import measures
from fairlead.evaluate.candidates import Candidate
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script
from fairlead.records import DatasetVersion, Sample, new_id
from fairlead.select.report import Report
from fairlead.select.routing import Tried
from fairlead.select.selection import Options, Selection
from fairlead.spec import UseCase, parse
from fairlead.store import Store
from tests.evaluate.runner_harness import Models

FILE = """
fairlead: 1
name: bank
purpose: Say what a message is about.
users: {who: customers}
risk: limited
traffic: {conversations_per_day: 100, turns_per_conversation: 2}
metrics:
  accuracy:
    {definition: Right labels., level: inference, type: bool, direction: max, source: "code:right_label"}
OBJECTIVES
min_samples: 30
variants:
VARIANTS
live: LIVE
"""
EASY = ["When do you open on day {n}?", "Where is parcel number {n}?", "How do I return item {n}?"]
HARD = ["Prove that {n} is the sum of two primes.", "Integrate x to the power {n} times the sine of x."]
ACCURATE = 'objectives: [{id: accurate, metric: accuracy, bound: ">= 0.80"}]'


def usecase(names: Sequence[str], objectives: str = ACCURATE, live: str = "") -> UseCase:
    variants = "\n".join(f'  - {{id: {name}, model: "http://127.0.0.1:9/v1#{name}"}}' for name in names)
    text = FILE.replace("OBJECTIVES", objectives).replace("VARIANTS", variants)
    return parse(text.replace("LIVE", live or names[0]))


def labelled(count: int) -> list[Sample]:
    return [
        Sample(id=f"s{n}", input=f"message {n}", reference=("card", "loan")[n % 2], tags={"part": "ab"[n % 3 == 0]})
        for n in range(count)
    ]


def right_for(share: float, salt: str = "") -> Callable[[Call], Script]:
    """Right for this share of the messages, the same ones every time."""

    def say(call: Call) -> Script:
        text = str(call.body["messages"][-1]["content"])
        truth = ("card", "loan")[int(text.split()[-1]) % 2]
        luck = int.from_bytes(hashlib.sha256(f"{salt}{text}".encode()).digest()[:4], "big") / 2**32
        return Script(text=truth if luck < share else "other")

    return say


def version(samples: Sequence[Sample]) -> DatasetVersion:
    return DatasetVersion(
        id=new_id(), time=1, tenant="default", subject="", usecase="", spec_hash="", release="", name="d", version=1,
        purpose="eval", content="c" * 64, rows=len(samples), licence="CC0-1.0",
    )  # fmt: skip


async def run(
    folder: Path,
    models: Models,
    prices: Mapping[str, Any],
    samples: Sequence[Sample],
    *,
    objectives: str = ACCURATE,
    live: str = "",
    more: Sequence[Candidate] = (),
    scorer: str = "",
    **options: Any,
) -> tuple[Report, Selection]:
    """Select among the models that have a price; what was decided is in the selection."""
    case = usecase(list(prices), objectives, live)
    candidates = [*(models.candidate(name, price=price) for name, price in prices.items()), *more]
    with Store.open(folder) as store:
        plan = measures.plan(case, samples, scorer)
        selection = Selection(store, case, version(samples), samples, candidates, plan, Options(**options))
        return await selection.run(), selection


def questions(n: int, *, told: bool = True, seed: int = 0) -> list[Tried]:
    """The big model is right in 90 %; the small one in 90 % of the easy questions and 20 % of the hard ones."""
    chance = random.Random(seed)
    tried = []
    for place in range(n):
        hard = chance.random() < 0.4
        pattern = chance.choice(HARD if hard else EASY) if told else "Question {n}?"
        right = chance.random() < (0.2 if hard else 0.9)
        tried.append(
            Tried(text=pattern.format(n=place), small=float(right), big=float(chance.random() < 0.9))
        )  # fmt: skip
    return tried
