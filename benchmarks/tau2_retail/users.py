"""The customer's side of a task: scripted, or any model that is given the scenario.

Whoever plays the customer sees only what a customer sees: the text of the answers and the cards of questions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

from benchmarks.tau2_retail.tasks import Task
from fairlead.gateway import Gateway, Principal

END: Final = "###END###"
"""What a model that plays the customer writes when there is nothing left to say."""
GO_ON: Final = "Please go on."
PATIENCE: Final = 2
"""Answers without any progress after which the scripted customer gives up."""


@dataclass(frozen=True)
class Heard:
    """An answer: its words, whether they ask for a yes, whether they ask for details, whether anything was done.

    ``shown`` are the lines of the card above the two buttons of a question.
    """

    text: str
    shown: tuple[str, ...] = ()
    confirm: bool = False
    asks: bool = False
    progress: bool = False


class User(Protocol):
    """Plays the customer of one task."""

    async def open(self) -> str:
        """The first message."""
        ...

    async def reply(self, heard: Heard) -> str | None:
        """The next message; None to end the conversation."""
        ...


class ScriptedUser:
    """Tells the whole scenario at once, agrees to everything (or, ``agrees`` False, to nothing), and urges on."""

    def __init__(self, task: Task, *, agrees: bool = True) -> None:
        self._task = task
        self._agrees = agrees
        self._idle = 0
        self._facts = [task.as_customer(task.known), task.as_customer(task.unknown)]

    async def open(self) -> str:
        """Who calls, and what about."""
        task = self._task
        parts = ["Hello!", task.as_customer(task.known), self._name(), task.as_customer(task.reason)]
        return " ".join(filter(None, parts))

    def _name(self) -> str:
        """The name by which the customer is to be recognised, where the scenario names only a user id."""
        for action in self._task.actions:
            if "last_name" in action.arguments:
                first, last = action.arguments["first_name"], action.arguments["last_name"]
                told = re.findall(r"[a-z]+", self._task.known.lower().replace(f"{first}_{last}_".lower(), ""))
                return "" if {first.lower(), last.lower()} <= set(told) else f"My name is {first} {last}."
        return ""

    async def reply(self, heard: Heard) -> str | None:
        """Yes where a yes is asked for; who it is where details are asked for."""
        if heard.confirm:
            self._idle = 0
            return "Yes" if self._agrees else "No"
        self._idle = 0 if heard.progress else self._idle + 1
        if self._idle >= PATIENCE:
            return None
        if heard.asks and self._facts:
            return self._facts.pop(0) or GO_ON
        return GO_ON


_INSTRUCTION: Final = """\
You play a customer who writes to the support chat of an online shop. Stay in this role and write only the customer's
next message, in one to three short sentences. Never say that you play a role, and invent no facts.

Why you write: {reason}
What you know: {known}
What you do not know: {unknown}
How you are: {manner}

Do not tell everything at once; answer what you are asked. When you are asked to answer yes or no, write only Yes or No.
When everything you wanted is done or has been refused for good, or you were passed on to a person, write only {end}
"""


class ModelUser:
    """A variant of the gateway plays the customer."""

    def __init__(self, task: Task, gateway: Gateway, variant: str) -> None:
        self._gateway = gateway
        self._variant = variant
        instruction = _INSTRUCTION.format(
            reason=task.reason, known=task.known or "-", unknown=task.unknown or "-", manner=task.manner, end=END
        )
        self._messages = [{"role": "system", "content": instruction}]

    async def open(self) -> str:
        """The model's first message."""
        self._messages.append({"role": "user", "content": "Hello! How can I help you?"})
        return await self._write() or GO_ON

    async def reply(self, heard: Heard) -> str | None:
        """The model's next message; None when it ends the conversation."""
        said = "\n".join([*heard.shown, heard.text]).strip()
        self._messages.append({"role": "user", "content": said or "..."})
        return await self._write()

    async def _write(self) -> str | None:
        body = {"model": self._variant, "messages": self._messages}
        answer = await self._gateway.complete(body, principal=Principal(subject="customer"))
        text = str(answer["choices"][0]["message"].get("content") or "").strip()
        self._messages.append({"role": "assistant", "content": text})
        return None if not text or END in text else text
