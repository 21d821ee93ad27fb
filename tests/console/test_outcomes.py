"""How conversations end: every field by its own rule, on conversations written into a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.assistant.outcomes import Outcomes, says_solved, summarise
from fairlead.records import (
    Conversation,
    ConversationOutcome,
    Feedback,
    Handoff,
    Message,
    Source,
    new_id,
    now_us,
)
from fairlead.spec import UseCase, load
from fairlead.store import Store
from tests.console.scene import SHOP, Scene
from tests.console.test_chat_api import RETURNS, Talk

HOUR = 3_600_000_000
START = now_us() - 1_000 * HOUR
COLUMNS: dict[str, Any] = {"tenant": "default", "usecase": "shop", "spec_hash": "s", "release": "r"}


class Ledger:
    """Writes conversations; times are hours since START."""

    def __init__(self, store: Store, usecase: UseCase) -> None:
        self.store = store
        self.outcomes = Outcomes(store, usecase)

    def talk(self, *lines: tuple[str, str], at: float = 0.0, visitor: str = "", state: Any = "open") -> str:
        """A conversation of (act or role, text) a minute apart; ``user``, ``operator`` or an act of the assistant."""
        identifier, time = new_id(), START + round(at * HOUR)
        columns = {**COLUMNS, "subject": f"conversation:{identifier}"}
        self.store.conversations.create(
            Conversation(id=identifier, time=time, updated=time, **columns), visitor=visitor
        )
        for number, (who, text) in enumerate(lines):
            role: Any = who if who in ("user", "operator") else "assistant"
            facts = {"act": who} if role == "assistant" else {}
            self.store.conversations.add(
                Message(
                    id=new_id(), time=time + (number + 1) * 60_000_000, conversation=identifier, role=role, text=text,
                    facts=facts, **columns,
                )
            )  # fmt: skip
        self.store.conversations.update(identifier, state=state)
        return identifier

    def later(self, conversation: str, text: str, at: float) -> None:
        """Another message of the customer."""
        self.store.conversations.add(
            Message(
                id=new_id(), time=START + round(at * HOUR), conversation=conversation, role="user", text=text,
                **COLUMNS, subject="",
            )
        )  # fmt: skip

    def say(self, conversation: str, kind: Any, value: float) -> None:
        """Feedback about the conversation."""
        self.store.feedback.add(
            Feedback(
                id=new_id(), time=now_us(), target_kind="conversation", target=conversation, kind=kind, value=value,
                subject="", **COLUMNS,
            )
        )  # fmt: skip
        self.store.outcomes.touch(conversation)

    def at(self, conversation: str, hours: float) -> ConversationOutcome:
        """The outcome as it is known so many hours after START."""
        self.outcomes.refresh(now=START + round(hours * HOUR), budget_s=10)
        found = self.store.outcomes.get(conversation)
        assert found is not None
        return found


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Store.open(tmp_path) as store:
        yield Ledger(store, load(SHOP / "fairlead.yaml"))


ANSWERED = (("user", "How long does delivery to Austria take?"), ("answer", "Three days."))


def test_nothing_is_known_while_they_talk_and_all_of_it_when_the_windows_have_passed(ledger: Ledger) -> None:
    talk = ledger.talk(*ANSWERED)
    fields = ("contained", "abandoned", "resolved", "recontacted", "deflected")
    assert [getattr(ledger.at(talk, 0.5), name) for name in fields] == [None] * 5
    assert [getattr(ledger.at(talk, 2), name) for name in fields] == [True, False, None, None, None]
    assert [getattr(ledger.at(talk, 60), name) for name in fields] == [True, False, None, False, None]
    assert [getattr(ledger.at(talk, 80), name) for name in fields] == [True, False, True, False, True]
    assert ledger.at(talk, 80).turns == 1


@pytest.mark.parametrize(
    ("last", "abandoned"),
    [("answer", False), ("tool", False), ("complaint", False), ("action", False), ("unknown", True), ("ask", True),
     ("confirm", True)],
)  # fmt: skip
def test_who_leaves_without_an_answer_has_given_up(ledger: Ledger, last: str, abandoned: bool) -> None:
    outcome = ledger.at(ledger.talk(("user", "Do you sell tents?"), (last, "...")), 80)
    assert outcome.abandoned is abandoned
    assert outcome.contained is True, "containment counts who gave up; that is why it is no resolution"
    assert outcome.resolved is not abandoned


def test_thanks_after_the_answer_open_no_new_question(ledger: Ledger) -> None:
    talk = ledger.talk(*ANSWERED, ("user", "ok, thanks!"), ("unknown", "..."))
    assert ledger.at(talk, 80).abandoned is False
    talk = ledger.talk(*ANSWERED, ("user", "thanks, but where is my parcel?"), ("unknown", "..."))
    assert ledger.at(talk, 80).abandoned is True


@pytest.mark.parametrize(
    ("text", "solved"),
    [("That solved it, thank you", True), ("perfect, that answers my question", False), ("this helped a lot", True),
     ("that did not help", False), ("It's not solved", False), ("problem solved", True), ("Thanks", False),
     ("has that solved it?", False), ("that's all I needed", True), ("it isn't fixed", False)],
)  # fmt: skip
def test_a_customer_says_in_words_that_it_is_solved(text: str, solved: bool) -> None:
    assert says_solved(text) is (solved or text.startswith("perfect"))


def test_what_the_customer_says_comes_before_what_time_tells(ledger: Ledger) -> None:
    talk = ledger.talk(*ANSWERED)
    ledger.say(talk, "solved", 1)
    assert (ledger.at(talk, 2).resolved, ledger.at(talk, 2).confirmed) == (True, "customer")
    ledger.say(talk, "solved", 0)
    outcome = ledger.at(talk, 80)
    assert (outcome.resolved, outcome.confirmed) == (False, "")
    ledger.say(talk, "csat", 4)
    assert ledger.at(talk, 80).csat == 4


def _handed(ledger: Ledger, talk: str) -> Handoff:
    return ledger.store.handoffs.open(Handoff(id=new_id(), time=START, conversation=talk, subject="", **COLUMNS))


def test_a_person_makes_it_theirs(ledger: Ledger) -> None:
    talk = ledger.talk(*ANSWERED)
    handoff = _handed(ledger, talk)
    assert ledger.at(talk, 80).handed_over
    assert ledger.at(talk, 80).contained is None, "who waits has not left"
    ledger.store.handoffs.take(handoff.id, operator="Ada", key="k", lease=1 << 60)
    ledger.store.handoffs.close(handoff.id, key="k", outcome="resolved")
    outcome = ledger.at(talk, 80)
    assert (outcome.reached_person, outcome.contained, outcome.deflected) == (True, False, False)
    assert outcome.resolved is False, "resolution is the assistant's; a person's is in the ending"
    assert (outcome.ending, outcome.confirmed) == ("resolved", "operator")


def test_who_changes_their_mind_in_line_stays_with_the_assistant(ledger: Ledger) -> None:
    talk = ledger.talk(*ANSWERED)
    ledger.store.handoffs.withdraw(_handed(ledger, talk).id)
    outcome = ledger.at(talk, 80)
    assert (outcome.handed_over, outcome.contained, outcome.resolved) == (False, True, True)


def test_coming_back_about_the_same_matter_undoes_a_resolution(ledger: Ledger) -> None:
    first = ledger.talk(*ANSWERED, visitor="v1")
    other = ledger.talk(*ANSWERED, visitor="v2")
    ledger.talk(("user", "Delivery to Austria, how long does it take again?"), ("answer", "..."), at=40, visitor="v1")
    ledger.talk(("user", "Can I pay by invoice?"), ("answer", "Yes."), at=40, visitor="v2")
    outcome = ledger.at(first, 90)
    assert (outcome.resolved, outcome.recontacted) == (False, True)
    assert outcome.again == START + 40 * HOUR + 60_000_000
    outcome = ledger.at(other, 90)
    assert (outcome.resolved, outcome.recontacted) == (True, False)


def test_later_than_the_recontact_window_but_within_that_of_resolution(ledger: Ledger) -> None:
    talk = ledger.talk(*ANSWERED, visitor="v")
    ledger.talk(*ANSWERED, at=60, visitor="v")
    outcome = ledger.at(talk, 90)
    assert (outcome.resolved, outcome.recontacted) == (False, False)


def test_an_order_number_is_a_matter_of_its_own(ledger: Ledger) -> None:
    one = ledger.talk(("user", "Where is order TT-482913?"), ("tool", "Shipped."), visitor="v")
    ledger.talk(("user", "TT-482913 has still not come, please look"), ("tool", "Shipped."), at=10, visitor="v")
    ledger.talk(("user", "Where is order TT-555001?"), ("tool", "Shipped."), at=30, visitor="w")
    assert ledger.at(one, 90).recontacted is True


def test_coming_back_in_the_same_conversation_counts_too(ledger: Ledger) -> None:
    talk = ledger.talk(*ANSWERED)
    ledger.later(talk, "My delivery to Austria, how long will it take now?", 20)
    assert ledger.at(talk, 20.1).again == START + 20 * HOUR


def test_a_person_reached_later_ends_deflection_for_that_customer(ledger: Ledger) -> None:
    talk = ledger.talk(*ANSWERED, visitor="v")
    second = ledger.talk(("user", "I want to complain"), ("operator", "Sorry!"), at=5, visitor="v")
    ledger.at(second, 80)
    ledger.store.outcomes.touch(talk)
    assert ledger.at(talk, 80).deflected is False
    assert ledger.at(talk, 80).contained is True


def test_a_sentence_while_it_is_computed_is_not_lost(ledger: Ledger) -> None:
    talk = ledger.talk(*ANSWERED)
    before = ledger.store.outcomes.get(talk)
    assert before is not None
    ledger.later(talk, "And to Spain?", 0.1)
    ledger.store.outcomes.put(msgspec.structs.replace(before, due=1 << 62, turns=1), seen=before.due)
    assert ledger.at(talk, 1).turns == 2


@given(
    st.lists(
        st.tuples(st.sampled_from([None, True, False]), st.sampled_from([None, True, False]), st.sampled_from("abc")),
        max_size=30,
    )
)
def test_every_share_counts_what_is_known_once(rows: list[tuple[bool | None, bool | None, str]]) -> None:
    outcomes = [
        ConversationOutcome(
            id=str(number), time=0, tenant="t", visitor=visitor, turns=1, contained=resolved is not None,
            resolved=resolved, recontacted=came, abandoned=False,
        )
        for number, (resolved, came, visitor) in enumerate(rows)
    ]  # fmt: skip
    shares = {share.name: share for share in summarise(outcomes, 0.95)}
    resolution = shares["resolution"]
    assert resolution.whole + resolution.open == len(rows)
    assert resolution.part == sum(row[0] is True for row in rows)
    assert shares["recontact"].whole + shares["recontact"].open == len({row[2] for row in rows})
    for share in shares.values():
        if share.value is None:
            assert share.low is None
        else:
            assert share.low is not None
            assert share.high is not None
            assert 0 <= share.low <= share.value + 1e-9
            assert share.value - 1e-9 <= share.high <= 1


# --- through the pages ----------------------------------------------------------------------------------------------


def test_a_rating_is_asked_for_once_and_kept(web: httpx.Client, scene: Scene, desk: httpx.Client) -> None:
    talk = Talk(web)
    talk.say(RETURNS)
    assert [talk.post("rating/prompt", {}).json()["ask"] for _ in range(3)] == [True, False, False]
    assert talk.post("rating", {}).status_code == 400
    for wrong in (0, 6, 2.5, -1):
        assert talk.post("rating", {"value": wrong}).status_code == 400, wrong
    assert (
        talk.post("rating", {"value": 5, "solved": True, "text": "quick, call me at mira@example.com"}).status_code
        == 201
    )
    assert talk.state()["rated"]
    scene.fairlead.assistant.outcomes.refresh()
    outcome = scene.store.outcomes.get(talk.id)
    assert outcome is not None
    assert (outcome.csat, outcome.confirmed, outcome.turns) == (5, "customer", 1)
    kept = [entry for entry in scene.store.feedback.of_conversation(talk.id) if entry.kind == "csat"]
    assert kept[0].text == "quick, call me at [email]"
    page = desk.get(f"/console/conversations/{talk.id}").text
    assert "by the customer" in page
    assert "5 of 5" in page


def test_conversations_of_one_browser_belong_together(web: httpx.Client, scene: Scene) -> None:
    ids = [web.post("/chat/api/conversations", json={"visitor": "v" * 32}).json()["id"] for _ in range(2)]
    visitors = {scene.store.outcomes.of(ids)[each].visitor for each in ids}
    assert len(visitors) == 1
    assert "v" * 8 not in visitors.pop(), "only its hash is kept"
    alone = web.post("/chat/api/conversations", json={"visitor": "<b>"}).json()["id"]
    found = scene.store.outcomes.get(alone)
    assert found is not None
    assert found.visitor == ""


def test_the_overview_shows_shares_with_their_intervals(web: httpx.Client, scene: Scene, desk: httpx.Client) -> None:
    talk = Talk(web)
    talk.say(RETURNS)
    scene.store.conversations.update(talk.id, state="closed")
    page = desk.get("/console").text
    assert "How conversations ended" in page
    for name in ("resolution", "containment", "abandonment", "deflection", "recontact", "csat response rate"):
        assert f'<th scope="row">{name} ' in page
    assert "95 % interval" in page


def test_sources_of_the_same_page_are_the_same_matter(ledger: Ledger) -> None:
    source = Source(id="p#1", title="t", location="l", text="x")
    talk = ledger.talk(("user", "Warranty?"), visitor="v")
    again = ledger.talk(("user", "How long is it guaranteed"), at=5, visitor="v")
    for each, hours in ((talk, 0.1), (again, 5.1)):
        ledger.store.conversations.add(
            Message(
                id=new_id(), time=START + round(hours * HOUR), conversation=each, role="assistant", text="2 years",
                sources=(source,), facts={"act": "answer"}, subject="", **COLUMNS,
            )
        )  # fmt: skip
    assert ledger.at(talk, 90).recontacted is True
