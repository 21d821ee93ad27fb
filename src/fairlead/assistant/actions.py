"""Actions: what a tool would change is proposed, agreed to by the customer, and done once.

A model can only propose. The question is worded here from checked arguments, the yes is read here from the customer's
own next message or button, and what is over a cap waits for a person. An action begun and not ended is never tried
again: it goes to a person. Methods that touch the store block; call them in a thread from asynchronous code.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

import msgspec
from cryptography.fernet import Fernet, InvalidToken

from fairlead.assistant.events import Confirm, Facts
from fairlead.assistant.tools import Prepared, ToolResult, Tools
from fairlead.errors import ActionSettled, ActionUnknown
from fairlead.records import Action, ActionState, AuditEntry, Conversation, new_id, now_us
from fairlead.store import Store
from fairlead.tools import Context, Customer

VALID_US: Final = 15 * 60 * 1_000_000
"""How long a question waits for its yes."""
BEGUN_US: Final = 45 * 1_000_000
"""After so long an action that was begun is not under way any more: a tool gets 10 seconds, so its process has died."""
MAX_SHOWN: Final = 200

ANSWER_IT: Final = "Please answer yes or no."
DECLINED: Final = "All right, I have not done that."
EXPIRED: Final = "That question is no longer open, and I have changed nothing. Please ask me again."
TAKE_TIME: Final = "Take your time."
OPEN_STILL: Final = "I have changed nothing so far."
AWAITING: Final = (
    "Thank you. A colleague has to agree to this first. Nothing has been changed yet; we will tell you here."
)
UNKNOWN: Final = (
    "I am sorry, I cannot tell whether that worked, so I do not try it again. A colleague will check it and tell you."
)
UNDER_WAY: Final = (
    "That was begun, and I do not know yet whether it is done. I do not start it again; as soon as it is known, or a "
    "colleague has looked, you will hear it here."
)
NOT_DONE: Final = "I am sorry, that did not work."
REJECTED: Final = "I am sorry, a colleague has looked at it and we cannot do that: {title}."

_UNDER_WAY: Final = ("confirmed", "running")

_YES = re.compile(
    r"(?:(?:ok|okay|alright|all right|great|perfect)[ ,.!]+)?(?:yes|yes i do|yep|yeah|yup|y|ja|oui|si|sí|sì"
    r"|please do|go ahead|do it|i confirm|confirm(?:ed)?|i agree"
    r"|of course|absolutely|definitely|certainly|sure)"
    r"(?:[ ,.!;-]+(?:yes|please|do|do it|do that|go ahead|i do|i confirm|i agree|that is (?:right|correct|fine)"
    r"|that'?s (?:right|correct|fine)|correct|right|sure|thanks?|thank you|thanks a lot|bitte|danke"
    r"|cancel it|refund it|return it|change it|i am sure|i'm sure))*[ .!]*"
)
_NO = re.compile(
    r"(?:(?:actually|oh|hmm?|sorry|well|wait|please)[ ,.!]+)*"
    r"(?:no|nope|nah|n|nein|non|no thanks?|no thank you|never ?mind|stop|don'?t|do not|don'?t do (?:it|that)"
    r"|please don'?t|not now|leave it|forget it|better not|i (?:don'?t|do not) want (?:that|it|this)"
    r"|i changed my mind|cancel that|nothing)"
    r"(?:[ ,.!;-]+(?:no|please|thanks?|thank you|don'?t|do not|do (?:it|that)|not now|leave it|forget it|wait|stop"
    r"|i changed my mind|i'?ve changed my mind|keep it|keep the order))*[ .!]*"
)
_AWAY = re.compile(
    r"(?:(?:actually|oh|hmm?|sorry|well|wait|please|ok|okay|and|but|on second thoughts?)[ ,.!]+)*"
    r"(?:no|nope|nah|don'?t|do not|stop|never ?mind|rather not|i'?d rather not|better not|not that|nein|non)\b"
)
_WAIT = re.compile(
    r"(?:(?:ok|okay|oh|hmm?|please|no)[ ,.!]+)*(?:(?:please )?wait|hang on|hold on|one (?:moment|second|minute)"
    r"|(?:just )?a (?:moment|second|sec|minute)|moment|give me a (?:moment|second|sec|minute)"
    r"|let me (?:think|check|look|see)|not so fast)"
    r"(?:[ ,.!]+(?:please|wait|a (?:moment|second|sec|minute)|for a (?:moment|second|minute)"
    r"|about (?:it|that)))*[ .!…]*"
)
_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

log = logging.getLogger(__name__)


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a step of an action ended: what the customer is told, and why a person has to look, if one has to."""

    action: Action | None
    text: str
    card: Facts | None = None
    reason: str = ""


class Appraisal(msgspec.Struct, frozen=True, kw_only=True):
    """What a person needs to decide about an action. Texts are masked.

    ``question`` is what the customer said yes to; ``argument`` is what the cap counts, ``most`` how much of it, within
    ``hours``, ``before`` what the same customer had in that time; ``known`` whether the customer was recognised.
    """

    action: Action
    question: str
    known: bool
    argument: str = ""
    most: float | None = None
    hours: float = 0.0
    before: float = 0.0


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an action for nobody's eyes but the tool's."""

    arguments: dict[str, Any]
    customer: Customer | None
    question: str


class Acting:
    """Proposes, confirms and runs actions of one use case. ``columns`` gives the columns every record has."""

    def __init__(
        self,
        *,
        store: Store,
        tools: Tools,
        mask: Callable[[str], str],
        columns: Callable[[str, int, str, str], dict[str, Any]],
        yes: str = "Yes",
        no: str = "No",
    ) -> None:
        self._store = store
        self._tools = tools
        self._mask = mask
        self._columns = columns
        self._labels = (yes, no)
        self._box = Fernet(base64.urlsafe_b64encode(store.secret("actions")))
        self._pseudonyms = store.secret("pseudonyms")
        self._running: set[asyncio.Task[Ended]] = set()

    # --- proposing --------------------------------------------------------------------------------------------------

    def propose(self, prepared: Prepared, conversation: Conversation, checked: ToolResult | None) -> Confirm:
        """Keep the action and give the question for the customer. An earlier question is closed by it. Blocks."""
        tool, identifier, now = prepared.tool, new_id(), now_us()
        arguments = {name: _tidy(value) for name, value in prepared.arguments.items()}
        rows = checked.card.rows if checked is not None and checked.card is not None else _rows(tool, arguments)
        question = _question(tool, arguments, checked.data if checked is not None else {})
        sealed = _Sealed(arguments=arguments, customer=prepared.customer, question=question)
        action = Action(
            **self._columns(identifier, now, conversation.tenant, conversation.subject),
            conversation=conversation.id,
            tool=tool.name,
            title=self._mask(tool.title),
            rows=tuple((label, self._mask(value)) for label, value in rows),
            arguments=self._box.encrypt(msgspec.json.encode(sealed)).decode(),
            customer=self._pseudonym(prepared.customer),
            amount=_amount(tool, arguments),
            updated=now,
        )
        self._store.actions.create(action)
        self._audit(action, "action.proposed", "assistant")
        yes, no = self._labels
        return Confirm(action_id=identifier, title=question, rows=tuple(rows), yes=yes, no=no)

    def pending(self, conversation: str) -> Action | None:
        """The action of a conversation that waits for its yes, if its time is not over. Blocks."""
        found = self._store.actions.list(conversation=conversation, states=("proposed",), limit=1)
        if not found:
            return None
        if now_us() - found[0].time > VALID_US:
            if self._store.actions.move(found[0].id, "proposed", "expired", actor="time"):
                self._audit(found[0], "action.expired", "time")
            return None
        return found[0]

    def open_question(self, conversation: str) -> tuple[Action | None, bool]:
        """(the newest action of a conversation, whether the last thing said to the customer was its question).

        An action that waits no more is given only while its own end has not been told. Blocks.
        """
        newest = self._store.actions.list(conversation=conversation, limit=1)
        if not newest:
            return None, False
        said = [each for each in self._store.conversations.messages(conversation) if each.role != "user"]
        asked = bool(said) and said[-1].facts.get("action") == newest[0].id and said[-1].facts.get("act") != "action"
        if newest[0].state == "proposed":
            return self.pending(conversation) or (newest[0] if asked else None), asked
        return (newest[0], True) if asked else (None, False)

    def recall(self, action: Action) -> Ended:
        """What the customer was told of an action that has gone on, or would have been."""
        said: dict[ActionState, str] = {
            "declined": DECLINED, "awaiting_approval": AWAITING, "unknown": UNKNOWN, "failed": NOT_DONE,
            "rejected": REJECTED.format(title=action.title.lower()),
        }  # fmt: skip
        text = action.result or said.get(action.state) or (UNDER_WAY if action.state in _UNDER_WAY else EXPIRED)
        return Ended(action=action, text=text)

    def ask_again(self, action: Action) -> Confirm:
        """The question of a pending action once more. Blocks."""
        yes, no = self._labels
        return Confirm(action_id=action.id, title=self._open(action).question, rows=action.rows, yes=yes, no=no)

    # --- deciding ---------------------------------------------------------------------------------------------------

    async def answer(self, action: Action, *, yes: bool, actor: str = "customer") -> Ended:
        """What the customer's yes or no leads to."""
        if not yes:
            moved = await asyncio.to_thread(self._store.actions.move, action.id, "proposed", "declined", actor=actor)
            if not moved:
                return self.recall(await self._now(action))
            await asyncio.to_thread(self._audit, action, "action.declined", actor)
            return Ended(action=await self._now(action), text=DECLINED)
        if now_us() - action.time > VALID_US:
            await asyncio.to_thread(self.pending, action.conversation)
            return self.recall(await self._now(action))
        tool = self._tools.get(action.tool)
        cap = tool.rule.cap if tool is not None else None
        since = now_us() - int(cap.hours * 3_600_000_000) if cap is not None else 0
        state = await asyncio.to_thread(
            self._store.actions.confirm, action.id, actor=actor, cap=cap.max if cap is not None else None, since=since
        )
        if state is None:
            return self.recall(await self._now(action))
        await asyncio.to_thread(self._audit, action, f"action.{state}", actor)
        if state == "awaiting_approval":
            return Ended(action=await self._now(action), text=AWAITING)
        return await self._run_apart(action, actor)

    async def decide(self, identifier: str, *, approve: bool, operator: str, note: str = "") -> Ended:
        """A person's decision on an action over its cap. Raises ActionUnknown, ActionSettled."""
        action = await asyncio.to_thread(self._store.actions.get, identifier)
        if action is None:
            raise ActionUnknown
        after: ActionState = "confirmed" if approve else "rejected"
        moved = action.state == "awaiting_approval" and await asyncio.to_thread(
            self._store.actions.move, identifier, "awaiting_approval", after, actor=operator
        )
        if not moved:
            raise ActionSettled(state=(await self._now(action)).state)
        name = "action.approved" if approve else "action.rejected"
        await asyncio.to_thread(self._audit, action, name, operator, note)
        if not approve:
            return Ended(action=await self._now(action), text=REJECTED.format(title=action.title.lower()))
        return await self._run_apart(action, operator)

    def appraise(self, action: Action) -> Appraisal:
        """What a person should see before deciding; no question when another store sealed it. Blocks."""
        tool = self._tools.get(action.tool)
        cap = tool.rule.cap if tool is not None else None
        try:
            question = self._mask(self._open(action).question)
        except ActionUnknown:
            question = ""
        known = bool(action.customer)
        if cap is None:
            return Appraisal(action=action, question=question, known=known)
        before = self._store.actions.spent(action, action.time - int(cap.hours * 3_600_000_000))
        return Appraisal(
            action=action, question=question, known=known, argument=cap.argument, most=cap.max, hours=cap.hours,
            before=before,
        )  # fmt: skip

    async def settle(self, identifier: str, *, done: bool, operator: str, note: str = "") -> Action:
        """A person has found out how an unknown action ended. Raises ActionUnknown, ActionSettled."""
        action = await asyncio.to_thread(self._store.actions.get, identifier)
        if action is None:
            raise ActionUnknown
        after: ActionState = "done" if done else "failed"
        moved = action.state == "unknown" and await asyncio.to_thread(
            self._store.actions.move, identifier, "unknown", after, actor=operator
        )
        if not moved:
            raise ActionSettled(state=(await self._now(action)).state)
        await asyncio.to_thread(self._audit, action, f"action.found_{after}", operator, note)
        return await self._now(action)

    def sweep(self) -> list[Action]:
        """End what nobody will end any more; returns what became unknown, which a person has to see. Blocks."""
        now = now_us()
        ended = self._store.actions.settle(proposed_before=now - VALID_US, begun_before=now - BEGUN_US)
        for action in ended:
            self._audit(action, f"action.{action.state}", "time")
        return [action for action in ended if action.state == "unknown"]

    # --- running ----------------------------------------------------------------------------------------------------

    async def _run_apart(self, action: Action, actor: str) -> Ended:
        """Run a confirmed action to its end, even if whoever waits for it goes away."""
        task = asyncio.create_task(self._run(action, actor))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _run(self, action: Action, actor: str) -> Ended:
        sealed = self._open(action)
        context = Context(key=action.id, customer=sealed.customer, conversation=action.conversation)
        begun = await asyncio.to_thread(self._store.actions.move, action.id, "confirmed", "running", actor=actor)
        if not begun:
            return self.recall(await self._now(action))
        await asyncio.to_thread(self._audit, action, "action.running", actor)
        result = await self._tools.run(action.tool, sealed.arguments, context)
        said = _ending(action, result)
        await asyncio.to_thread(
            self._store.actions.move, action.id, "running", result.state, actor=actor, result=self._mask(said)
        )
        await asyncio.to_thread(self._audit, action, f"action.{result.state}", actor)
        reason = f"nobody knows whether this was done: {action.title}" if result.state == "unknown" else ""
        return Ended(action=await self._now(action), text=said, card=result.card, reason=reason)

    async def aclose(self, patience_s: float = 5.0) -> None:
        """Let what is under way come to its end, for a while."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=patience_s)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _open(self, action: Action) -> _Sealed:
        try:
            return msgspec.json.decode(self._box.decrypt(action.arguments.encode()), type=_Sealed)
        except (InvalidToken, msgspec.DecodeError) as error:
            raise ActionUnknown from error

    async def _now(self, action: Action) -> Action:
        return await asyncio.to_thread(self._store.actions.get, action.id) or action

    def _pseudonym(self, customer: Customer | None) -> str:
        if customer is None:
            return ""
        return hmac.new(self._pseudonyms, f"customer:{customer.id}".encode(), hashlib.sha256).hexdigest()[:32]

    def _audit(self, action: Action, name: str, actor: str, note: str = "") -> None:
        columns = self._columns(new_id(), now_us(), action.tenant, action.subject)
        self._store.audit.append(
            AuditEntry(
                **columns, actor=actor, action=name, resource=f"action:{action.id}", reason=note[:500],
                detail={"tool": action.tool, "conversation": action.conversation, "amount": action.amount},
            )
        )  # fmt: skip


def means_yes(text: str) -> bool:
    """Whether a whole message is an unmistakable yes. "Yes, but ..." and "yes?" are none."""
    return _YES.fullmatch(_spoken(text)) is not None


def means_no(text: str) -> bool:
    """Whether a whole message is a plain no."""
    return _NO.fullmatch(_spoken(text)) is not None


def asks_to_wait(text: str) -> bool:
    """Whether a whole message asks for time to think."""
    return _WAIT.fullmatch(_spoken(text)) is not None


def turns_away(text: str) -> bool:
    """Whether a message begins with a no, whatever follows it: "actually no, cancel the other one"."""
    return _AWAY.match(_spoken(text)) is not None


def _spoken(text: str) -> str:
    # Invisible characters are dropped, look-alikes from other alphabets stay what they are and so are no yes.
    folded = unicodedata.normalize("NFKC", text[:200])
    visible = "".join(each for each in folded if unicodedata.category(each) != "Cf")
    return " ".join(visible.replace("’", "'").casefold().split())


def _tidy(value: Any) -> Any:
    """An argument as it is shown and run: no control, bidirectional or invisible characters in any text."""
    if isinstance(value, str):
        plain = unicodedata.normalize("NFC", value)
        kept = (" " if each in "\t\r\n" else each for each in plain if each in "\t\r\n" or _visible(each))
        return " ".join("".join(kept).split())
    if isinstance(value, list):
        return [_tidy(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _tidy(part) for name, part in value.items()}
    return value


def _visible(character: str) -> bool:
    return unicodedata.category(character) not in {"Cc", "Cf", "Co", "Cn", "Zl", "Zp"}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.10g}" if isinstance(value, float) else value
    text = text if isinstance(text, str) else msgspec.json.encode(text).decode()
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _rows(tool: Any, arguments: dict[str, Any]) -> list[tuple[str, str]]:
    return [(_label(name), _shown(value)) for name, value in arguments.items()]


def _label(name: str) -> str:
    """``order_id`` as people say it: Order."""
    words = name.replace("_", " ").strip()
    return (words.removesuffix(" id").removesuffix(" number") or words).capitalize()[:80]


def _question(tool: Any, arguments: dict[str, Any], facts: dict[str, Any]) -> str:
    """The question before an action: the words of its rule with checked values put in, never a model's words."""
    values = {name: value for name, value in facts.items() if isinstance(value, str | int | float)} | arguments
    asked: str = tool.rule.ask
    if not asked or any(name not in values for name in _FIELD.findall(asked)):
        told = ", ".join(f"{label.lower()} {value}" for label, value in _rows(tool, arguments))
        return f"Shall I do this: {tool.title}{f' ({told})' if told else ''}?"
    return _FIELD.sub(lambda field: _shown(values[field[1]]), asked)


def _amount(tool: Any, arguments: dict[str, Any]) -> float | None:
    """What counts against the cap; None when there is no cap, or the argument is no amount and so needs a person."""
    if tool.rule.cap is None:
        return None
    value = arguments.get(tool.rule.cap.argument)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return float(value)


def _ending(action: Action, result: ToolResult) -> str:
    if result.state == "unknown":
        return UNKNOWN
    if result.state == "failed":
        return f"{NOT_DONE} {result.sentence}".strip()
    return result.sentence or f"Done: {action.title}."
