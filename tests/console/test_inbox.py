"""The inbox over real HTTP: who gets a conversation, what each side sees, what is kept, who may."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from fairlead.assistant.handoff import Operator
from fairlead.records import Action, Conversation, new_id, now_us
from fairlead.store import Store
from tests.console.scene import HOSTILE, Scene, events_of, serve
from tests.console.test_chat_api import API, RETURNS, Talk

ANYWAY = "Can I have a discount for thirty lanterns?"


class Colleague:
    """Someone with a key of their own, logged in."""

    def __init__(self, scene: Scene, name: str, *scopes: str) -> None:
        key, secret = scene.store.keys.create(name, scopes or ("operator",))
        self.name, self.key, self.scene = name, key.id, scene
        self.web = httpx.Client(base_url=scene.url, timeout=60)
        # Straight to the sessions: logins are limited per minute, and are tested elsewhere.
        answer = self.web.post("/console/login", data={"key": secret})
        while answer.status_code == 429:
            time.sleep(2)
            answer = self.web.post("/console/login", data={"key": secret})
        assert answer.status_code == 303, answer.text
        found = re.search(r'name="csrf" value="([^"]+)"', self.web.get("/console/inbox").text)
        assert found
        self.csrf = found[1]

    def do(self, handoff: str, step: str, *, plain: bool = False, **fields: str) -> httpx.Response:
        headers = {} if plain else {"accept": "application/json"}
        return self.web.post(f"/console/inbox/{handoff}/{step}", data={"csrf": self.csrf, **fields}, headers=headers)

    def page(self, handoff: str = "") -> str:
        return self.web.get(f"/console/inbox/{handoff}" if handoff else "/console/inbox").text


@pytest.fixture(scope="module")
def people(scene: Scene) -> Iterator[tuple[Colleague, Colleague]]:
    """Two operators."""
    both = Colleague(scene, "Ada"), Colleague(scene, "Jonas")
    yield both
    for one in both:
        one.web.close()


@pytest.fixture
def talk(web: httpx.Client) -> Talk:
    return Talk(web)


def called(talk: Talk, scene: Scene) -> str:
    """A conversation whose customer has asked for a person: the hand-off's id."""
    talk.say(RETURNS)
    talk.say(ANYWAY)
    assert talk.post("handoff", {"reason": "wants a discount"}).status_code == 200
    handoff = scene.store.handoffs.of(talk.id)
    assert handoff is not None
    return handoff.id


def texts(talk: Talk, role: str) -> list[str]:
    return [message["text"] for message in talk.state()["messages"] if message["role"] == role]


# --- taking -----------------------------------------------------------------------------------------------------


def test_the_queue_shows_reason_summary_transcript_and_what_is_due(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague]
) -> None:
    handoff = called(talk, scene)
    listing, page = people[0].page(), people[0].page(handoff)
    assert "wants a discount" in listing
    assert f"/console/inbox/{handoff}/take" in listing
    assert re.search(r'data-due="\d+"', listing)
    assert "Asked:" in page
    assert RETURNS in page
    assert ANYWAY in page
    assert "30 days" in page


def test_a_message_of_nothing_readable_still_has_a_link_and_disturbs_no_page(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague], desk: httpx.Client
) -> None:
    talk.say("\u202e\x00\u200b")
    assert talk.post("handoff", {"reason": "now \u202e please"}).status_code == 200
    handoff = scene.store.handoffs.of(talk.id)
    assert handoff is not None
    listing, page = people[0].page(), people[0].page(handoff.id)
    assert f'<a href="/console/inbox/{handoff.id}">(no readable text)</a>' in listing
    assert "<h1>(no readable text)</h1>" in page
    assert "<bdi>now  please</bdi>" in page
    assert "Asked: <bdi>(no readable text)</bdi>" in page
    elsewhere = [desk.get(path).text for path in ("/console", "/console/conversations")]
    assert f'<a href="/console/conversations/{talk.id}">(no readable text)</a>' in elsewhere[1]
    whole = people[0].web.get(f"/console/conversations/{talk.id}").text
    for text in (listing, page, whole, *elsewhere):
        assert not any(each in text for each in "\u202e\x00")


def test_of_two_who_take_at_once_one_gets_it_and_the_other_is_told_who(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague]
) -> None:
    handoff = called(talk, scene)
    gate = threading.Barrier(8)

    def take(number: int) -> tuple[str, httpx.Response]:
        gate.wait()
        return people[number % 2].name, people[number % 2].do(handoff, "take")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(take, range(8)))
    winners = {name for name, answer in answers if answer.status_code == 200}
    assert len(winners) == 1
    winner = winners.pop()
    for name, answer in answers:
        if name != winner:
            assert answer.status_code == 409
            assert winner in answer.json()["error"]["message"]
    taken = scene.store.handoffs.get(handoff)
    assert taken is not None
    assert (taken.state, taken.operator) == ("taken", winner)
    assert texts(talk, "system") == [f"{winner}, a person of our team, is here now."]
    loser = next(each for each in people if each.name != winner)
    shown = loser.do(handoff, "take", plain=True)
    assert shown.status_code == 409
    assert f"{winner} has" in shown.text


def test_two_processes_give_it_to_one(talk: Talk, scene: Scene) -> None:
    handoff = called(talk, scene)
    with Store.open(scene.store.directory) as other:
        gate = threading.Barrier(2)

        def take(store: Store, name: str) -> bool:
            gate.wait()
            return store.handoffs.take(handoff, operator=name, key=name, lease=now_us() + 60_000_000)[1]

        with ThreadPoolExecutor(2) as pool:
            won = list(pool.map(take, (scene.store, other), ("Ada", "Jonas")))
    assert sorted(won) == [False, True]


# --- answering ----------------------------------------------------------------------------------------------------


def test_a_reply_is_shown_as_a_persons_and_becomes_a_demonstration(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague]
) -> None:
    ada, jonas = people
    handoff = called(talk, scene)
    assert ada.do(handoff, "take").status_code == 200
    assert jonas.do(handoff, "reply", text="Me too!").status_code == 409
    identifier = new_id()
    for _ in range(3):
        assert ada.do(handoff, "reply", text="Ten percent from 20 on.", id=identifier).status_code == 200
    assert ada.do(handoff, "reply", text="Just say so when you order.", id=new_id()).status_code == 200
    message = next(each for each in talk.state()["messages"] if each["role"] == "operator")
    assert (message["text"], message["operator"]) == ("Ten percent from 20 on.", "Ada")
    assert texts(talk, "operator") == ["Ten percent from 20 on.", "Just say so when you order."]
    assert talk.state()["handoff"]["operator"] == "Ada"
    said = [entry for entry in scene.store.feedback.of_conversation(talk.id) if entry.kind == "demonstration"]
    assert len(said) == 1, "several replies to one question are one example"
    assert said[0].question == ANYWAY
    assert said[0].text == "Ten percent from 20 on.\nJust say so when you order."
    assert said[0].target_kind == "inference"
    assert ada.do(handoff, "reply", text="  ").status_code == 400
    assert ada.do(handoff, "reply", text="x" * 9_000).status_code == 413


def test_while_a_person_is_there_the_assistant_is_silent_and_afterwards_knows_what_was_said(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague]
) -> None:
    ada, _ = people
    handoff = called(talk, scene)
    ada.do(handoff, "take")
    events = talk.say("Thank you. And gift wrapping?")
    assert [event["type"] for event in events] == ["started", "handoff", "done"]
    ada.do(handoff, "reply", text="Gift wrapping costs 3 euros.")
    assert ada.do(handoff, "return").status_code == 200
    assert talk.state()["state"] == "open"
    with scene.scripted("Yes.") as model:
        talk.say(RETURNS)
    sent = [str(message.get("content")) for message in model.calls[0].body["messages"]]
    assert "Gift wrapping costs 3 euros." in sent
    assert "AI assistant answers again" in texts(talk, "system")[-1]


def test_a_suggestion_comes_with_its_sources_and_says_so(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague]
) -> None:
    ada, _ = people
    talk.say(RETURNS)
    talk.post("handoff", {})
    handoff = scene.store.handoffs.of(talk.id)
    assert handoff is not None
    ada.do(handoff.id, "take")
    assert ada.do(handoff.id, "suggest").status_code == 200
    page = ada.page(handoff.id)
    assert re.search(r"Suggestion by the assistant.*not sent", page)
    assert re.search(r'<blockquote id="proposed">[^<]*30 days', page)
    assert "Source 1" in page
    kept = scene.store.handoffs.get(handoff.id)
    assert kept is not None
    text = kept.suggestion["text"]
    assert texts(talk, "operator") == [], "a suggestion is not an answer"
    edited = ada.page(f"{handoff.id}?use=1")
    assert text in re.findall(r"<textarea[^>]*>([^<]*)</textarea>", edited)[0].replace("&#39;", "'")
    ada.do(handoff.id, "reply", text=f"{text} Keep the box.", suggested="1")
    assert scene.store.conversations.messages(talk.id)[-1].facts["suggested"] == "edited"


# --- ending ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["resolved", "not_resolved", "no_answer", "spam"])
def test_closing_keeps_outcome_and_note_and_ends_the_conversation(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague], outcome: str
) -> None:
    ada, jonas = people
    handoff = called(talk, scene)
    ada.do(handoff, "take")
    assert jonas.do(handoff, "close", outcome=outcome).status_code == 409
    assert ada.do(handoff, "close", outcome=outcome, note="call mira@example.com").status_code == 200
    closed = scene.store.handoffs.get(handoff)
    assert closed is not None
    assert (closed.state, closed.outcome, closed.note) == ("closed", outcome, "call [email]")
    assert talk.state()["state"] == "closed"
    assert talk.ask("hello?").status_code == 409
    assert ada.do(handoff, "reply", text="One more thing").status_code == 409


def test_every_step_is_in_the_audit_log_without_what_was_said(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague]
) -> None:
    ada, _ = people
    handoff = called(talk, scene)
    ada.do(handoff, "take")
    ada.do(handoff, "reply", text="A secret word: aubergine.")
    ada.do(handoff, "release")
    ada.do(handoff, "take")
    ada.do(handoff, "close", outcome="resolved", note="aubergine")
    entries = [
        entry for entry in scene.store.audit.list(since=0, until=now_us(), limit=1_000)
        if entry.resource == f"handoff:{handoff}"
    ]  # fmt: skip
    assert [entry.action for entry in reversed(entries)] == [
        "handoff.take", "handoff.reply", "handoff.release", "handoff.take", "handoff.close"
    ]  # fmt: skip
    assert {entry.actor for entry in entries} == {"Ada"}
    assert "aubergine" not in repr(entries)
    assert scene.store.audit.verify()


def test_who_disappears_gives_it_back_and_loses_nothing_typed(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague]
) -> None:
    ada, jonas = people
    handoff = called(talk, scene)
    ada.do(handoff, "take")
    assert ada.do(handoff, "hold", draft="Dear customer, I").status_code == 200
    assert jonas.do(handoff, "hold", draft="mine").status_code == 409
    held = scene.store.handoffs.get(handoff)
    assert held is not None
    assert 30e6 < held.lease - now_us() < 60e6
    assert ada.do(handoff, "leave", draft="Dear customer, I was").status_code == 200
    held = scene.store.handoffs.get(handoff)
    assert held is not None
    assert held.lease - now_us() < 20e6, "a closed tab gives it back soon, a reload is quicker"
    scene.store.handoffs.hold(handoff, key=ada.key, lease=now_us() - 1)
    assert "wants a discount" in jonas.page()
    free = scene.store.handoffs.get(handoff)
    assert free is not None
    assert (free.state, free.operator, free.draft) == ("waiting", "", "Dear customer, I was")
    assert ada.do(handoff, "reply", text="Dear customer").json()["error"]["code"] == "handoff_returned"
    assert texts(talk, "system")[-1].startswith("Ada has left")
    assert jonas.do(handoff, "take").status_code == 200
    assert "Dear customer, I was" in jonas.page(handoff)
    assert talk.state()["handoff"]["operator"] == "Jonas"


# --- hours --------------------------------------------------------------------------------------------------------


def _shop(tmp_path: Path, hours: str, **more: Any) -> Any:
    return serve(
        tmp_path, policy={"handoff": {"hours": hours, "timezone": "UTC", **more}},
        chat_per_minute=10_000, chat_streams=100,
    )  # fmt: skip


def _day(offset: int) -> str:
    return time.strftime("%a", time.gmtime(time.time() + 86_400 * offset))


def test_outside_the_hours_an_address_may_be_left(tmp_path: Path) -> None:
    with _shop(tmp_path, f"{_day(3)} 09:00-17:00") as scene, httpx.Client(base_url=scene.url) as web:
        talk = Talk(web)
        talk.say(RETURNS)
        state = talk.post("handoff", {}).json()
        assert state["away"]
        assert "Our team is back on" in state["message"]
        for wrong in ("", "mira", "mira@", "a b@c.de", "mira@example.com, x@y.de", "x@y.de\nBcc: all@example.com"):
            answer = talk.post("contact", {"email": wrong})
            assert answer.status_code == 400, wrong
            assert "name@example.com" in answer.json()["error"]["message"]
        state = talk.post("contact", {"email": " mira.holm@example.com "}).json()
        assert state["contact"]
        assert "answer there" in state["notice"]
        handoff = scene.store.handoffs.of(talk.id)
        assert handoff is not None
        assert handoff.contact == "mira.holm@example.com"
        ada = Colleague(scene, "Ada")
        assert "mira.holm@example.com" in ada.page(handoff.id)
        ada.web.close()
        assert scene.fairlead.assistant.desk.due(handoff) > now_us() + 86_400e6, "the clock stands outside the hours"


def test_within_the_hours_lateness_is_shown_and_counted(tmp_path: Path) -> None:
    with _shop(tmp_path, "24/7", sla="1 s") as scene, httpx.Client(base_url=scene.url) as web:
        talk = Talk(web)
        talk.say(RETURNS)
        state = talk.post("handoff", {}).json()
        assert not state["away"]
        ada = Colleague(scene, "Ada")
        time.sleep(1.1)
        page = ada.page()
        assert re.search(r"1 customer waits for a person.*1 longer than 1", page)
        assert "overdue since" in page
        ada.web.close()


# --- live -----------------------------------------------------------------------------------------------------------


def collect(stream: httpx.Response, messages: int) -> str:
    """What a stream says until it has told so many messages."""
    seen = ""
    for piece in stream.iter_text():
        seen += piece
        if seen.count('"type":"message"') >= messages:
            break
    return seen


def test_every_window_hears_everything_once_and_in_order_over_broken_connections(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague]
) -> None:
    ada, _ = people
    handoff = called(talk, scene)
    cursor = talk.state()["cursor"]
    ada.do(handoff, "take")
    heard: dict[int, list[str]] = {0: [], 1: []}
    for number in range(6):
        ada.do(handoff, "reply", text=f"number {number}")
    said = [message["text"] for message in talk.state()["messages"]]
    expected = said[said.index("Ada, a person of our team, is here now.") :]
    for window, size in ((0, 1), (1, 3)):
        last = str(cursor)
        while len(heard[window]) < len(expected):
            headers = {**talk.headers, "last-event-id": last}
            with talk.web.stream("GET", f"{API}/{talk.id}/events", headers=headers) as stream:
                # The connection breaks after ``size`` messages; what was cut off is not counted as heard.
                body = collect(stream, min(size, len(expected) - len(heard[window])))
            whole = body[: body.rindex("\n\n") + 2]
            for block in whole.split("\n\n"):
                found = re.search(r"^id: (\d+)$", block, re.MULTILINE)
                for event in events_of(block):
                    if event["type"] == "message":
                        heard[window].append(event["message"]["text"])
                        assert found
                if found:
                    last = found[1]
    assert heard[0] == heard[1] == expected


def test_another_process_is_heard_within_a_second(talk: Talk, scene: Scene) -> None:
    handoff = called(talk, scene)
    with (
        Store.open(scene.store.directory) as other,
        talk.web.stream("GET", f"{API}/{talk.id}/events", headers=talk.headers) as stream,
    ):
        pieces = stream.iter_text()
        assert '"waiting"' in next(pieces)
        elsewhere = type(scene.fairlead.assistant.desk)(other, scene.fairlead.usecase.policy.handoff)
        began = time.monotonic()
        elsewhere.take(handoff, Operator(key="k", name="Mo", tenant="default"))
        seen = ""
        for piece in pieces:
            seen += piece
            if "with_person" in seen:
                break
        assert time.monotonic() - began < 30, "looked for every 0.3 s; the rest is a busy machine"
    assert '"operator":"Mo"' in seen


def test_the_inbox_is_told_of_changes_and_only_of_changes(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague]
) -> None:
    ada, jonas = people
    handoff = called(talk, scene)
    for other in scene.store.handoffs.open_ones(tenant="default"):  # none may become late or free meanwhile
        if other.id != handoff and not scene.store.handoffs.withdraw(other.id):
            scene.store.handoffs.close(other.id, key=other.operator_key, outcome="resolved")
    mark = re.search(r'data-mark="([0-9a-f]+)"', ada.page())
    assert mark
    with ada.web.stream("GET", f"/console/inbox/events?mark={mark[1]}") as stream:
        pieces = stream.iter_text()
        assert "changed" not in next(pieces), "the page is as it was drawn"
        jonas.do(handoff, "take")
        seen = ""
        for piece in pieces:
            seen += piece
            if "event: changed" in seen:
                break
    new = re.search(r"id: ([0-9a-f]+)", seen)
    assert new
    headers = {"last-event-id": new[1]}
    with ada.web.stream("GET", "/console/inbox/events?mark=old", headers=headers) as stream:
        assert "changed" not in next(stream.iter_text())


# --- who may ------------------------------------------------------------------------------------------------------


def test_an_operator_sees_inbox_and_conversations_only(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague]
) -> None:
    ada, _ = people
    talk.say(RETURNS)
    scene.recorded(talk.id, least=1)
    for path in ("", "/define", "/deploy", "/govern", "/traces", "/improve"):
        answer = ada.web.get(f"/console{path}")
        assert (answer.status_code, answer.headers.get("location")) == (303, "/console/inbox"), path
    page = ada.web.get(f"/console/conversations/{talk.id}")
    assert page.status_code == 200
    assert RETURNS in page.text
    assert "/console/traces/" not in page.text
    assert "waterfall" not in page.text
    assert "text/csv" not in ada.web.get("/console/conversations?format=csv").headers["content-type"]


def test_steps_need_a_login_a_token_and_the_same_origin(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague], web: httpx.Client
) -> None:
    ada, _ = people
    handoff = called(talk, scene)
    assert web.post(f"/console/inbox/{handoff}/take", data={"csrf": "x"}).status_code == 303
    assert web.post(f"/console/inbox/{handoff}/take", headers={"accept": "application/json"}).status_code == 401
    ada_without = ada.web.post(f"/console/inbox/{handoff}/take", data={"csrf": "wrong"})
    assert ada_without.status_code == 403
    elsewhere = ada.web.post(
        f"/console/inbox/{handoff}/take", data={"csrf": ada.csrf}, headers={"origin": "https://evil.example"}
    )
    assert elsewhere.status_code == 403
    assert ada.do(handoff, "explode").status_code == 404
    assert ada.do(new_id(), "take").status_code == 409
    still = scene.store.handoffs.get(handoff)
    assert still is not None
    assert still.state == "waiting"


def test_one_tenants_operator_sees_nothing_of_another(talk: Talk, scene: Scene) -> None:
    handoff = called(talk, scene)
    _, secret = scene.store.keys.create("Eve", ("operator",), tenant="other")
    eve = Colleague.__new__(Colleague)
    eve.web = httpx.Client(base_url=scene.url, timeout=60)
    while eve.web.post("/console/login", data={"key": secret}).status_code == 429:
        time.sleep(2)
    found = re.search(r'name="csrf" value="([^"]+)"', eve.web.get("/console/inbox").text)
    assert found
    eve.csrf = found[1]
    assert "wants a discount" not in eve.page()
    assert eve.web.get(f"/console/inbox/{handoff}").status_code == 404
    for step in ("take", "hold", "reply", "release", "return", "close", "leave", "suggest"):
        assert eve.do(handoff, step, text="x").status_code in (404, 409), step
    assert texts(talk, "operator") == []
    eve.web.close()


def test_hostile_texts_stay_texts(talk: Talk, scene: Scene, people: tuple[Colleague, Colleague]) -> None:
    ada, _ = people
    talk.say(HOSTILE)
    talk.post("handoff", {"reason": HOSTILE})
    handoff = scene.store.handoffs.of(talk.id)
    assert handoff is not None
    ada.do(handoff.id, "take")
    ada.do(handoff.id, "hold", draft="</textarea>" + HOSTILE)
    for page in (ada.page(), ada.page(handoff.id)):
        assert "<script>window" not in page
        assert "<img" not in page


# --- approvals ----------------------------------------------------------------------------------------------------


def _awaiting(scene: Scene, conversation: Conversation, title: str) -> Action:
    return scene.store.actions.create(
        Action(
            id=new_id(), time=now_us(), tenant=conversation.tenant, subject="", usecase=conversation.usecase,
            spec_hash=conversation.spec_hash, release=conversation.release, conversation=conversation.id,
            tool="refund", title=title, rows=(("Order", "TT-1"), ("Why", HOSTILE)), amount=120.0,
            state="awaiting_approval", updated=now_us(),
        )
    )  # fmt: skip


def test_an_action_over_its_cap_waits_in_the_inbox_and_is_decided_once(
    talk: Talk, scene: Scene, people: tuple[Colleague, Colleague]
) -> None:
    ada, jonas = people
    conversation = scene.store.conversations.get(talk.id)
    assert conversation is not None
    action = _awaiting(scene, conversation, "Refund order TT-1")
    page = ada.page()
    assert "Refund order TT-1" in page
    assert "120.00" in page
    assert "<img" not in page
    body = {"csrf": ada.csrf, "decision": "reject", "note": "too much"}
    headers = {"accept": "application/json"}
    assert ada.web.post(f"/console/inbox/actions/{action.id}", data=body, headers=headers).status_code == 200
    again = {**body, "csrf": jonas.csrf, "decision": "approve"}
    answer = jonas.web.post(f"/console/inbox/actions/{action.id}", data=again, headers=headers)
    assert answer.status_code == 409
    decided = scene.store.actions.get(action.id)
    assert decided is not None
    assert decided.state == "rejected"
    assert "Refund order TT-1" not in ada.page()
