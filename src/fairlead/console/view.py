"""Turning what happened into what people read: numbers, times, money, and the templates that show them.

Knows the templates' folder and nothing of requests' meaning. Every template autoescapes and an undefined name is an
error, so that a page is either right or visibly broken.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from fairlead.assistant.handoff import ASKED, PARTS, TEXTS
from fairlead.console.ranges import link
from fairlead.readable import UNREADABLE, legible, readable
from fairlead.records import Feedback, Outcome, time_of
from fairlead.spec.bounds import Quantity

HERE = Path(__file__).parent
STATIC = HERE / "static"

NARROW = "\N{NARROW NO-BREAK SPACE}"


def moment(time: int) -> str:
    """``2026-11-22 14:05:09``, UTC."""
    return _utc(time).strftime("%Y-%m-%d %H:%M:%S")


def clock(time: int) -> str:
    """``2026-11-22 14:05``, UTC."""
    return _utc(time).strftime("%Y-%m-%d %H:%M")


def machine_time(time: int) -> str:
    """RFC 3339, for the ``datetime`` attribute and exports."""
    return _utc(time).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _utc(time: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time / 1e6, datetime.UTC)


def ago(time: int, now: int) -> str:
    """``just now``, ``5 min ago``, ``3 h ago``, ``12 d ago``."""
    seconds = max(0, (now - time) // 1_000_000)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size * (2 if unit == "d" else 1):
            return f"{seconds // size}{NARROW}{unit} ago"
    return "just now"


def within(time: int, now: int) -> str:
    """How long until a time: ``8 min``, ``40 s``."""
    seconds = max(0, (time - now) // 1_000_000)
    for unit, size, least in (("h", 3_600, 7_200), ("min", 60, 60)):
        if seconds >= least:
            return f"{seconds // size}{NARROW}{unit}"
    return f"{seconds}{NARROW}s"


def spoken(duration: Quantity) -> str:
    """A declared duration: ``10 min``, ``2 h``."""
    return within(round(duration.value * 1e6), 0)


def span(microseconds: float | None) -> str:
    """A duration with its unit: ``840 µs``, ``12.3 ms``, ``1.20 s``; ``unknown`` when there is none."""
    if microseconds is None:
        return "unknown"
    if microseconds < 999.5:
        return f"{microseconds:.0f}{NARROW}µs"
    if microseconds < 999_500:
        return f"{microseconds / 1e3:.3g}{NARROW}ms"
    return f"{microseconds / 1e6:.3g}{NARROW}s"


def milliseconds(microseconds: float | None) -> str:
    """A duration in ms without the unit, for columns: ``0.84``, ``12.3``, ``1 204``."""
    if microseconds is None:
        return "–"
    value = microseconds / 1e3
    return count(round(value)) if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2f}"


def dollars(nano: int | None) -> str:
    """Money in dollars without the unit; an unknown price is said, never shown as 0."""
    if nano is None:
        return "unknown"
    value = nano / 1e9
    return f"{value:,.2f}".replace(",", NARROW) if value >= 1 or value == 0 else f"{value:.3g}"


def count(number: int) -> str:
    """A whole number, thousands parted by a narrow space."""
    return f"{number:,}".replace(",", NARROW)


def share(part: int, whole: int) -> str:
    """``1.5 %``; ``–`` of nothing."""
    return f"{100 * part / whole:.3g}{NARROW}%" if whole else "–"


def short(identifier: str) -> str:
    """The last characters of an id: the part of a UUIDv7 that differs between neighbours."""
    return identifier[-8:]


def brief(digest: str) -> str:
    """The first characters of a hash."""
    return digest[:8]


def pretty_json(text: str) -> str:
    """Indented JSON, or the text as it is when it is none."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def parts(text: str, sources: int) -> list[tuple[str, str]]:
    """An answer cut at its citations: ("text", ...) and ("cite", "2") for a ``[2]`` that names one of the sources."""
    pieces: list[tuple[str, str]] = []
    for position, piece in enumerate(re.split(r"\[(\d{1,2})\]", text)):
        if position % 2 and 1 <= int(piece) <= sources:
            pieces.append(("cite", piece))
        elif position % 2:
            pieces.append(("text", f"[{piece}]"))
        elif piece:
            pieces.append(("text", piece))
    return pieces


def plain(value: Any) -> Any:
    """What a template shows, without the characters that disturb the page around it; markup and others as they are."""
    return readable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def told(text: str, empty: str = "") -> Markup:
    """What somebody outside wrote, isolated from the text around it; words in brackets where nothing can be read.

    ``empty`` stands for a text that is not there.
    """
    if not legible(text):
        return escape(UNREADABLE if text else empty)
    return Markup("<bdi>{}</bdi>").format(readable(text))


def apart(summary: str) -> Markup:
    """A summary of a hand-off, with what the customer wrote isolated from our words around it and from each other."""
    asked, *more = summary.split(PARTS)
    if asked.startswith(ASKED):
        texts = asked.removeprefix(ASKED).split(TEXTS)
        first = escape(ASKED) + escape(TEXTS).join(map(told, texts))
    else:
        first = told(asked)
    return escape(PARTS).join([first, *map(told, more)])


VERDICTS: dict[Outcome, tuple[str, str]] = {
    "pass": ("●", "pass"),
    "fail": ("▲", "fail"),
    "not_enough_data": ("◌", "not enough data"),
}
"""Each verdict differs by shape and word, not by colour alone."""

STATES = {"open": "open", "waiting": "waiting for a person", "with_person": "with a person", "closed": "closed"}
"""The states of a conversation, in words."""

ACTS = {
    "answer": "answered",
    "unknown": "did not know",
    "small_talk": "small talk",
    "ask": "asked back",
    "tool": "looked it up",
    "handoff": "handed over",
    "complaint": "took a complaint",
    "disclosure": "said that it is an AI",
    "waiting": "said that the team has the message",
    "confirm": "asked for a yes",
    "action": "said what came of an action",
    "joined": "a person came",
    "left": "a person left",
}
"""What an answer does, in words."""


def said(feedback: Feedback) -> str:
    """What someone said about an answer, in one line."""
    if feedback.kind == "thumb":
        return "Helpful" if feedback.value else "Not helpful"
    if feedback.kind == "csat":
        rating = f"Satisfaction {feedback.value:g} of 5" if feedback.value is not None else "Satisfaction"
        return f"{rating}: “{feedback.text}”" if feedback.text else rating
    if feedback.kind == "solved":
        return "Solved, says the customer" if feedback.value else "Not solved, says the customer"
    text = feedback.text or "(no text)"
    return f"“{text}”" if feedback.kind == "comment" else f"Better answer: {text}"


class Pages:
    """The templates, and the names every one of them may use."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=plain,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(
            moment=moment,
            clock=clock,
            machine_time=machine_time,
            ago=ago,
            within=within,
            spoken=spoken,
            span=span,
            ms=milliseconds,
            usd=dollars,
            count=count,
            short=short,
            brief=brief,
            pretty_json=pretty_json,
            time_of=time_of,
            told=told,
            apart=apart,
        )
        self._environment.globals.update(
            static=static, parts=parts, share=share, said=said, link=link, acts=ACTS, verdicts=VERDICTS, dict=dict
        )

    def text(self, template: str, **values: Any) -> str:
        """A template as text."""
        return self._environment.get_template(template).render(**values)

    def render(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A template as a response."""
        return HTMLResponse(self.text(template, request=request, **values), status_code=status)


@functools.cache
def static(name: str) -> str:
    """The address of a static file, with its content's hash so that it may be cached for ever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"
