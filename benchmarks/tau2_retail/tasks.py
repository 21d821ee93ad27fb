"""The tasks: what the customer wants, which actions are right, and the state of the shop after these.

Read from tasks_train.json of the tau2 benchmark as it is. The right end state comes from the rules alone, without
tools, assistant or model, so that it can judge all of these. Knows no models.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.tau2_retail import rules
from benchmarks.tau2_retail.database import Database
from benchmarks.tau2_retail.rules import Change, Document, Refused, Shop

FOLDER: Final = "tau2_retail"
MISSING: Final = (
    "The tasks of tau2 are not here. Set FAIRLEAD_DATA to a folder that holds tau2_retail/ with db.json, policy.md and "
    "tasks_train.json, the train split of its retail tasks (github.com/sierra-research/tau2-bench, MIT licence)."
)

_SHE_TO_ME: Final = (
    (r"\byou are\b", "I am"), (r"\byou're\b", "I'm"), (r"\byou name\b", "my name"), (r"\byou were\b", "I was"),
    (r"\byou'd\b", "I'd"), (r"\byou'll\b", "I'll"), (r"\byour\b", "my"), (r"\byourself\b", "myself"), (r"\byou\b", "I"),
)  # fmt: skip
IDENTIFIES: Final = ("find_user_id_by_email", "find_user_id_by_name_zip")
"""The tools by whose results a customer is recognised."""


class DataMissing(Exception):
    """The shared data is not there."""


@dataclass(frozen=True)
class Action:
    """A call that is right: the name of a tool and its arguments."""

    name: str
    arguments: dict[str, Any]

    @property
    def writes(self) -> bool:
        """Whether it changes the shop."""
        return self.name in PLANS


@dataclass(frozen=True)
class Task:
    """One conversation: who calls about what, and what must have happened and been said at its end."""

    id: str
    reason: str
    known: str
    unknown: str
    manner: str
    actions: tuple[Action, ...]
    communicate: tuple[str, ...]

    def as_customer(self, text: str) -> str:
        """A sentence of the scenario, which speaks to the customer, as the customer would say it."""
        for pattern, spoken in _SHE_TO_ME:
            text = re.sub(pattern, spoken, text, flags=re.IGNORECASE)
        return " ".join(text.split()).strip(" .") + "." if text.strip(" .") else ""


@dataclass(frozen=True)
class Data:
    """The benchmark's data."""

    content: dict[str, dict[str, Document]]
    policy: str
    tasks: tuple[Task, ...]


def load(folder: Path | None = None) -> Data:
    """The data under ``folder``, or where FAIRLEAD_DATA says. Raises DataMissing."""
    if folder is None:
        shared = os.environ.get("FAIRLEAD_DATA", "")
        if not shared:
            raise DataMissing(MISSING)
        folder = Path(shared) / FOLDER
    try:
        content = json.loads((folder / "db.json").read_text(encoding="utf-8"))
        policy = (folder / "policy.md").read_text(encoding="utf-8")
        tasks = json.loads((folder / "tasks_train.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataMissing(f"{MISSING} Not found: {error.filename}") from error
    return Data(content, policy, tuple(_task(each) for each in tasks))


def _task(entry: Mapping[str, Any]) -> Task:
    said, judged = entry["user_scenario"]["instructions"], entry["evaluation_criteria"]
    return Task(
        id=str(entry["id"]),
        reason=said["reason_for_call"],
        known=said.get("known_info") or "",
        unknown=said.get("unknown_info") or "",
        manner=said.get("task_instructions") or "",
        actions=tuple(Action(each["name"], each["arguments"]) for each in judged["actions"]),
        communicate=tuple(judged.get("communicate_info") or ()),
    )


def owner(task: Task, shop: Database) -> Document | None:
    """The profile of the customer a task is about: whom its actions or what the customer knows name."""
    for action in task.actions:
        order = shop.order(str(action.arguments.get("order_id", "")))
        found = shop.user(str(action.arguments.get("user_id", ""))) or (order and shop.user(order["user_id"]))
        if found:
            return found
    words = {word.strip(".") for word in re.findall(r"[\w.@]+", task.known.lower())}
    for user in shop.all("users"):
        first, last = user["name"]["first_name"].lower(), user["name"]["last_name"].lower()
        named = {first, last} <= words and user["address"]["zip"] in words
        if user["user_id"].lower() in words or user["email"].lower() in words or named:
            return user
    return None


# --- the right end ----------------------------------------------------------------------------------------------------

Plan = Callable[[Shop, str, Mapping[str, Any]], Change]


def _where(given: Mapping[str, Any]) -> Document:
    return {name: given[name] for name in rules.ADDRESS}


PLANS: Final[Mapping[str, Plan]] = {
    "cancel_pending_order": lambda shop, who, a: rules.cancel(shop, who, a["order_id"], a["reason"]),
    "modify_pending_order_address": lambda shop, who, a: rules.modify_address(shop, who, a["order_id"], _where(a)),
    "modify_pending_order_payment": lambda shop, who, a: rules.modify_payment(
        shop, who, a["order_id"], a["payment_method_id"]
    ),
    "modify_pending_order_items": lambda shop, who, a: rules.modify_items(
        shop, who, a["order_id"], a["item_ids"], a["new_item_ids"], a["payment_method_id"]
    ),
    "modify_user_address": lambda shop, who, a: rules.modify_user(shop, who, a["user_id"], _where(a)),
    "return_delivered_order_items": lambda shop, who, a: rules.return_items(
        shop, who, a["order_id"], a["item_ids"], a["payment_method_id"]
    ),
    "exchange_delivered_order_items": lambda shop, who, a: rules.exchange_items(
        shop, who, a["order_id"], a["item_ids"], a["new_item_ids"], a["payment_method_id"]
    ),
}
"""The tools that change something, each as the rules have it for a customer."""


def replay(task: Task, shop: Database) -> list[str]:
    """Make the task's changes in ``shop``; returns what the rules refused."""
    who = owner(task, shop)
    refused = []
    for action in task.actions:
        plan = PLANS.get(action.name)
        if plan is None:
            continue
        try:
            shop.change("", lambda database, plan=plan, action=action: plan(  # type: ignore[misc]
                database, who["user_id"] if who else "", action.arguments
            ))  # fmt: skip
        except Refused as refusal:
            refused.append(f"{action.name}: {refusal}")
    return refused
