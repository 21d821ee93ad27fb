"""``fairlead conversations``: what customers asked and how it ended, from the terminal."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from fairlead.assistant.outcomes import Outcomes, Share
from fairlead.cli.output import JsonFlag, advise, print_json, print_table, same, with_settings
from fairlead.cli.times import moment, parse_moment
from fairlead.errors import UsageError
from fairlead.records import Conversation, ConversationOutcome, now_us
from fairlead.settings import Settings
from fairlead.spec import load
from fairlead.store import Store

LONGEST_S = 60.0
Since = Annotated[str, typer.Option(help="From when: a duration before now (24h) or a time (2026-11-22T10:00).")]
Until = Annotated[str | None, typer.Option(help="Until when; now if left out.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="List conversations with their outcomes, or sum these up.")
    group.command("list")(list_conversations)
    group.command("outcomes")(outcomes)
    app.add_typer(group, name="conversations")


@with_settings("project", "data_dir")
def list_conversations(
    *,
    settings: Settings,
    since: Since = "24h",
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many, newest first.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List conversations with how each ended; a question that cannot be answered yet is left open."""
    begin, end = _range(since, until)
    with Store.open(settings.data_path) as store:
        Outcomes(store, load(settings.spec_path)).refresh(budget_s=LONGEST_S)
        found = store.conversations.list(since=begin, until=end, limit=limit)
        ends = store.outcomes.of([each.id for each in found])
    rows = [(each, ends[each.id]) for each in found if each.id in ends]
    if as_json:
        print_json([_plain(*row) for row in rows])
        return
    if not rows:
        advise(f"No conversation since {since}. Open the chat: fairlead serve{same(settings)}")
        return
    columns = ["begun UTC", "begins with", "turns", "state", "resolved", "abandoned", "person", "rating"]
    print_table(columns, [_cells(*row) for row in rows], right=["turns", "rating"])


@with_settings("project", "data_dir")
def outcomes(*, settings: Settings, since: Since = "30d", until: Until = None, as_json: JsonFlag = False) -> None:
    """Resolution, containment, deflection, recontact, abandonment and ratings of a range, each with its interval."""
    begin, end = _range(since, until)
    with Store.open(settings.data_path) as store:
        usecase = load(settings.spec_path)
        judged = Outcomes(store, usecase)
        judged.refresh(budget_s=LONGEST_S)
        shares = judged.summary(begin, end)
    if as_json:
        print_json([{**msgspec.to_builtins(share), "value": share.value} for share in shares])
        return
    percent = f"{usecase.confidence * 100:g} % interval"
    columns = ["outcome", "share", percent, "n", "open", "what is counted"]
    print_table(columns, [_line(share) for share in shares], right=["share", percent, "n", "open"])


def _line(share: Share) -> list[Any]:
    if share.value is None or share.low is None or share.high is None:
        return [share.name, "–", "–", 0, share.open, share.words]
    interval = f"{share.low * 100:.1f}–{share.high * 100:.1f} %"
    return [share.name, f"{share.value * 100:.1f} %", interval, share.whole, share.open, share.words]


def _cells(conversation: Conversation, outcome: ConversationOutcome) -> list[Any]:
    person = "yes" if outcome.reached_person else "asked" if outcome.handed_over else "no"
    rating = "" if outcome.csat is None else f"{outcome.csat:g}"
    return [
        moment(conversation.time)[5:16], (conversation.title or "(no message)")[:48], outcome.turns, conversation.state,
        _answer(outcome.resolved), _answer(outcome.abandoned), person, rating,
    ]  # fmt: skip


def _answer(value: bool | None) -> str:
    return "open" if value is None else "yes" if value else "no"


def _plain(conversation: Conversation, outcome: ConversationOutcome) -> dict[str, Any]:
    shown = {"id", "time", "updated", "tenant", "channel", "language", "state", "title", "release", "spec_hash"}
    plain = {name: value for name, value in msgspec.to_builtins(conversation).items() if name in shown}
    hidden = {"id", "time", "tenant", "visitor", "due", "computed"}
    plain["outcome"] = {name: value for name, value in msgspec.to_builtins(outcome).items() if name not in hidden}
    return plain


def _range(since: str, until: str | None) -> tuple[int, int]:
    begin, end = parse_moment(since), parse_moment(until) if until else now_us() + 1
    if begin >= end:
        raise UsageError(detail=f"--since {since} is not before --until {until or 'now'}: swap them.")
    return begin, end
