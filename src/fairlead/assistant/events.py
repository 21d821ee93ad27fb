"""What a turn of a conversation consists of, in the order a client sees it. Each event encodes to JSON with a ``type``.

``started`` comes first, ``done`` or ``error`` last; texts of the ``delta`` events, joined, are the answer.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from fairlead.records import Source

Act: TypeAlias = Literal[
    "answer", "unknown", "small_talk", "ask", "tool", "handoff", "complaint", "disclosure", "waiting", "confirm",
    "action",
]  # fmt: skip
"""What an answer does: ``unknown`` says that the pages do not tell, ``ask`` asks for what a tool needs, ``disclosure``
says that an AI answers, ``waiting`` says that a person will, ``confirm`` asks for a yes before something is changed,
``action`` says what came of it. The others are what they say."""


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started", tag_field="type"):
    """An answer begins."""

    type: ClassVar[Literal["started"]] = "started"
    message_id: str


class Delta(msgspec.Struct, frozen=True, kw_only=True, tag="delta", tag_field="type"):
    """A piece of the answer's text."""

    type: ClassVar[Literal["delta"]] = "delta"
    text: str


class Sources(msgspec.Struct, frozen=True, kw_only=True, tag="sources", tag_field="type"):
    """The passages the answer rests on, most important first."""

    type: ClassVar[Literal["sources"]] = "sources"
    sources: tuple[Source, ...]


class Facts(msgspec.Struct, frozen=True, kw_only=True, tag="facts", tag_field="type"):
    """A card: what a tool found, as rows of (label, value)."""

    type: ClassVar[Literal["facts"]] = "facts"
    title: str
    rows: tuple[tuple[str, str], ...]


class Confirm(msgspec.Struct, frozen=True, kw_only=True, tag="confirm", tag_field="type"):
    """What would be done, for the customer to say yes or no to. ``yes`` and ``no`` are the words of the two buttons."""

    type: ClassVar[Literal["confirm"]] = "confirm"
    action_id: str
    title: str
    rows: tuple[tuple[str, str], ...]
    yes: str = "Yes, do it"
    no: str = "No, leave it"


class HandedOff(msgspec.Struct, frozen=True, kw_only=True, tag="handoff", tag_field="type"):
    """Where the request for a person stands. ``position`` is the place in line, 0 when nobody waits any more.

    ``hours`` are the office hours in words, ``message`` what the customer is told. ``operator`` is the person who is
    there. ``away`` says that nobody is there now, so that an e-mail address may be left; ``contact`` that one was.
    """

    type: ClassVar[Literal["handoff"]] = "handoff"
    state: Literal["waiting", "with_person", "open", "unavailable"]
    position: int = 0
    hours: str = ""
    message: str = ""
    operator: str = ""
    away: bool = False
    contact: bool = False


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done", tag_field="type"):
    """The answer is complete and stored."""

    type: ClassVar[Literal["done"]] = "done"
    message_id: str
    inference_id: str = ""
    act: Act = "answer"
    total_us: int = 0


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="error", tag_field="type"):
    """The answer could not be given. ``retry_after`` is in seconds."""

    type: ClassVar[Literal["error"]] = "error"
    code: str
    message: str
    retry_after: float | None = None


Event: TypeAlias = Started | Delta | Sources | Facts | Confirm | HandedOff | Done | Failed


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, for callers that do not stream. ``inference`` is the id of its trace.

    ``answered`` is the variant whose model answered: the one a router chose, else ``variant``.
    """

    text: str
    act: Act = "answer"
    confidence: float | None = None
    sources: tuple[Source, ...] = ()
    facts: tuple[Facts, ...] = ()
    variant: str = ""
    release: str = ""
    answered: str = ""
    inference: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    total_us: int = 0

    def extras(self) -> dict[str, Any]:
        """What goes under ``fairlead`` in an OpenAI-shaped answer."""
        return {
            "act": self.act,
            "confidence": self.confidence,
            "sources": [msgspec.to_builtins(source) for source in self.sources],
            "facts": [{"title": card.title, "rows": card.rows} for card in self.facts],
            "inference": self.inference,
            "variant": self.variant,
        }
