"""A task played from the first word to the verdict, through the real application: gateway, assistant, tools, store.

One application serves all tasks; each begins with a fresh conversation and a fresh copy of the shop. The verdict
compares the shop with the state the rules give for the task's own actions, and looks for what had to be said.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from benchmarks.tau2_retail import tools
from benchmarks.tau2_retail.database import Database
from benchmarks.tau2_retail.tasks import IDENTIFIES, PLANS, Data, Task, owner, replay
from benchmarks.tau2_retail.users import Heard, User
from fairlead.app import Fairlead, build
from fairlead.assistant.events import Confirm, Delta, Done, Event, Failed, HandedOff
from fairlead.errors import ServiceError
from fairlead.settings import Settings

MAX_TURNS: Final = 40
"""Messages of the customer after which a conversation is cut."""
CONTEXT: Final = 16_384
"""Tokens an embedded engine keeps: policy and tools alone are 3,000."""
ROOT: Final = Path(__file__).resolve().parents[2]
SEEDED: Final = ("openai", "http", "https")
"""Kinds of models that take a seed."""
QUOTING: Final = ("extractive", "cascade")
"""Models that quote passages; they are calibrated for sixteen."""
KEYS: Final = {"openai": "env:OPENAI_API_KEY", "anthropic": "env:ANTHROPIC_API_KEY"}


_AGREES: Final = re.compile(
    r"\W*(?:yes|yeah|yep|sure|okay|ok|go ahead|do it|please do|confirm|i (?:do|agree|confirm)|absolutely|definitely"
    r"|certainly|of course)\b",
    re.IGNORECASE,
)
"""How a message begins that may have been meant as a yes: judged apart from the assistant, and more generously."""


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a task.

    ``passed``: the shop is as it should be, everything was said that had to be, and nothing broke. ``differs`` says
    where the shop is not, ``unsaid`` what was not said. ``unconfirmed`` counts changes made without a yes to their
    question, ``twice`` changes made more than once, ``foreign`` changes for another customer than the task's,
    ``unproved`` how often a customer was recognised by facts that the customer had not written. ``unseen``: changes a
    scripted model asked for although what they need did not stand in the request. ``cpu_seconds`` are this process's.
    """

    task: str
    passed: bool
    differs: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    broken: str = ""
    turns: int = 0
    calls: int = 0
    refused: tuple[str, ...] = ()
    writes: int = 0
    unconfirmed: int = 0
    twice: int = 0
    foreign: int = 0
    unproved: int = 0
    unseen: int = 0
    transferred: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    talk: tuple[tuple[str, str], ...] = ()

    @property
    def reason(self) -> str:
        """Why it failed, in a few words; empty when it passed."""
        if self.passed:
            return ""
        if self.broken:
            return f"broken: {self.broken}"
        parts = [f"shop differs ({'; '.join(self.differs)})"] if self.differs else []
        return ", ".join([*parts, *([f"unsaid: {', '.join(self.unsaid)}"] if self.unsaid else [])])


class Stage:
    """The application with the tools of the shop, and the shop before each task."""

    def __init__(self, app: Fairlead, live: Path, pristine: Path, right: Path) -> None:
        self.app = app
        self._live, self._pristine, self._right = live, pristine, right

    @contextmanager
    def shop(self) -> Iterator[Database]:
        """The shop as it is before any task, to read in."""
        database = Database(self._pristine)
        try:
            yield database
        finally:
            database.close()

    async def play(self, task: Task, user: User, *, variant: str = "agent") -> Played:
        """One conversation about ``task``, and the verdict on it."""
        Database.restore(self._live, self._pristine)
        conversation, _ = self.app.assistant.open_conversation(channel="benchmark")
        talk: list[tuple[str, str]] = []
        agreed: set[str] = set()
        broken, transferred = "", False
        asked: Confirm | None = None
        heard: Heard | None = None
        began, spent = time.perf_counter(), time.process_time()
        for _ in range(MAX_TURNS):
            try:
                said = await user.open() if heard is None else await user.reply(heard)
            except ServiceError as error:
                broken = f"customer: {error.code}"
                break
            if said is None:
                break
            talk.append(("customer", said))
            if asked is not None and _AGREES.match(said):
                agreed.add(asked.action_id)
            before = self._count()
            try:
                events = [event async for event in self.app.assistant.reply(conversation.id, said, variant=variant)]
            except ServiceError as error:
                broken = error.code
                break
            heard, asked = _heard(events, progress=self._count() > before)
            talk.append(("assistant", heard.text))
            broken = next((event.code for event in events if isinstance(event, Failed)), "")
            transferred = any(isinstance(event, HandedOff) for event in events)
            if broken or transferred:
                break
        took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - spent}
        played = self._judge(task, talk, agreed, broken=broken, transferred=transferred)
        return msgspec.structs.replace(played, **took)

    def _count(self) -> int:
        database = Database(self._live)
        try:
            return len(database.calls())
        finally:
            database.close()

    def _judge(
        self, task: Task, talk: list[tuple[str, str]], agreed: set[str], *, broken: str, transferred: bool
    ) -> Played:
        Database.restore(self._right, self._pristine)
        live, right = Database(self._live), Database(self._right)
        try:
            replay(task, right)
            differs = () if live.digest() == right.digest() else tuple(live.differences(right))
            whose = owner(task, right)
            calls = live.calls()
        finally:
            live.close()
            right.close()
        words = " ".join(text for who, text in talk if who == "assistant").lower().replace(",", "")
        unsaid = tuple(each for each in task.communicate if each.lower().replace(",", "") not in words)
        writes = [call for call in calls if call["tool"] in PLANS and call["refused"] is None]
        keys = Counter(call["key"] for call in writes)
        return Played(
            task=task.id, passed=not (differs or unsaid or broken), differs=differs, unsaid=unsaid, broken=broken,
            turns=sum(who == "customer" for who, _ in talk), calls=len(calls),
            refused=tuple(f"{call['tool']}: {call['refused']}" for call in calls if call["refused"] is not None),
            writes=len(writes), unconfirmed=sum(call["key"] not in agreed for call in writes),
            twice=sum(often - 1 for often in keys.values()),
            foreign=sum(whose is None or call["customer"] != whose["user_id"] for call in writes),
            unproved=sum(not _written(call, talk) for call in calls if call["tool"] in IDENTIFIES),
            transferred=transferred or any(call["tool"] == "transfer_to_human_agents" for call in calls),
            talk=tuple(talk),
        )  # fmt: skip


def _written(call: dict[str, Any], talk: list[tuple[str, str]]) -> bool:
    """Whether the facts by which someone was recognised, if someone was, stand in the customer's messages."""
    said = " ".join(text for who, text in talk if who == "customer").casefold()
    return call["refused"] is not None or all(str(fact).casefold() in said for fact in call["arguments"].values())


def _heard(events: list[Event], *, progress: bool) -> tuple[Heard, Confirm | None]:
    text = "".join(event.text for event in events if isinstance(event, Delta))
    asked = next((event for event in reversed(events) if isinstance(event, Confirm)), None)
    act = next((event.act for event in events if isinstance(event, Done)), "")
    shown = tuple(f"{label}: {value}" for label, value in asked.rows) if asked is not None else ()
    return Heard(
        text=text, shown=shown, confirm=asked is not None, asks=act == "ask", progress=progress or act == "action"
    ), asked


@asynccontextmanager
async def stage(data: Data, folder: Path, *, agent: str, user: str = "", seed: int = 0) -> AsyncIterator[Stage]:
    """The application in ``folder`` with ``agent`` and, where one is given, ``user`` as its models."""
    live, pristine, right = (folder / f"{name}.sqlite" for name in ("live", "pristine", "right"))
    Database.create(pristine, data.content)
    Database.restore(live, pristine)
    (folder / "policy.md").write_text(data.policy, encoding="utf-8")
    agent, user = _within(folder, agent, "agent"), _within(folder, user, "user")
    (folder / "fairlead.yaml").write_text(yaml.safe_dump(definition(agent, user, seed)), encoding="utf-8")
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    restore = _set({tools.FILE: str(live), "PYTHONPATH": paths})
    try:
        settings = Settings(project=folder, require_key=False, engine_context=CONTEXT, engine_slots=1)
        app = build(settings)
        try:
            await app.start_variant("agent")
            if user:
                await app.start_variant("user")
            yield Stage(app, live, pristine, right)
        finally:
            await app.stop()
    finally:
        restore()


def definition(agent: str, user: str = "", seed: int = 0) -> dict[str, Any]:
    """The use case, as fairlead.yaml holds it."""
    variants = [{"id": "agent", "prompt": "policy.md", **_model(agent, seed)}]
    if user:
        variants.append({"id": "user", **_model(user, seed)})
    return {
        "fairlead": 1,
        "name": "tau2-retail",
        "purpose": "Help customers of an online shop with their orders, as its policy allows.",
        "users": {"who": "customers of the shop", "languages": ["en"]},
        "risk": "limited",
        "variants": variants,
        "live": "agent",
        "knowledge": [{"path": "policy.md"}],
        "tools": [
            {
                "command": ["python", "-m", "fairlead.tools", str(Path(tools.__file__).resolve())],
                "trusted": True,
                "secrets": {name: f"env:{name}" for name in (tools.FILE, "PYTHONPATH")},
            }
        ],
    }


def _within(folder: Path, line: str, name: str) -> str:
    """A model line that holds in ``folder``: weights of a file are linked into it."""
    if not line.endswith(".gguf"):
        return line
    (folder / f"{name}.gguf").symlink_to(Path(line).resolve(strict=True))
    return f"./{name}.gguf"


def _model(line: str, seed: int) -> dict[str, Any]:
    kind = line.partition(":")[0]
    found: dict[str, Any] = {"model": line}
    if kind in QUOTING:
        found["retrieval"] = {"passages": 16}
    if kind in KEYS:
        found["api_key"] = KEYS[kind]
    if kind in SEEDED:
        found["sampling"] = {"seed": seed}
    return found


def _set(values: dict[str, str]) -> Callable[[], None]:
    """Set environment variables, which the tools' process reads; returns what puts them back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)

    def restore() -> None:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    return restore
