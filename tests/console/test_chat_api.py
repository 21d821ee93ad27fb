"""The chat's JSON API over real HTTP, against the real assistant of the shop."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.console.scene import BROKEN, HOSTILE, UNREACHABLE, Scene, events_of, serve

API = "/chat/api/conversations"
RETURNS = "How many days do I have to return an item?"


class Talk:
    """One conversation of one client."""

    def __init__(self, web: httpx.Client) -> None:
        self.web = web
        opened = web.post(API, json={"language": "en"})
        assert opened.status_code == 201, opened.text
        self.opened: dict[str, Any] = opened.json()
        self.id = self.opened["id"]
        self.headers = {"x-conversation-secret": self.opened["secret"]}

    def ask(self, text: str, identifier: str = "") -> httpx.Response:
        body = {"id": identifier or uuid.uuid4().hex, "text": text}
        return self.web.post(f"{API}/{self.id}/messages", json=body, headers=self.headers)

    def say(self, text: str, identifier: str = "") -> list[dict[str, Any]]:
        answer = self.ask(text, identifier)
        assert answer.status_code == 200, answer.text
        return events_of(answer.text)

    def state(self) -> dict[str, Any]:
        answer = self.web.get(f"{API}/{self.id}", headers=self.headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def post(self, what: str, body: dict[str, Any]) -> httpx.Response:
        return self.web.post(f"{API}/{self.id}/{what}", json=body, headers=self.headers)


@pytest.fixture
def talk(web: httpx.Client) -> Talk:
    return Talk(web)


def test_opening_gives_an_id_a_secret_and_the_disclosure_but_no_cookie(talk: Talk, scene: Scene) -> None:
    assert talk.opened["greeting"] == scene.fairlead.usecase.policy.disclosure.greeting
    assert "AI" in talk.opened["greeting"]
    assert len(talk.opened["secret"]) >= 32
    stored = scene.store.conversations.get(talk.id)
    assert stored is not None
    assert talk.opened["secret"] not in repr(stored)
    assert not talk.web.cookies


def test_an_answer_streams_and_is_kept_with_its_sources(talk: Talk) -> None:
    events = talk.say(RETURNS)
    assert events[0]["type"] == "started"
    assert events[-1]["type"] == "done"
    answer = "".join(event["text"] for event in events if event["type"] == "delta")
    assert "30 days" in answer
    sources = next(event["sources"] for event in events if event["type"] == "sources")
    assert "30 days" in sources[0]["text"]
    said = talk.state()["messages"]
    assert [message["role"] for message in said] == ["assistant", "user", "assistant"]
    assert said[2]["text"] == answer
    assert said[2]["id"] == events[-1]["message_id"]
    assert said[2]["sources"][0]["text"] == sources[0]["text"]


def test_a_stream_arrives_piece_by_piece(talk: Talk, scene: Scene) -> None:
    with scene.scripted("One. ", "Two. ", 30.0):
        body = {"id": uuid.uuid4().hex, "text": "count"}
        url = f"{API}/{talk.id}/messages"
        with talk.web.stream("POST", url, json=body, headers=talk.headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            seen = ""
            for piece in answer.iter_text():
                seen += piece
                if "One." in seen:
                    break
            assert '"done"' not in seen


def test_the_same_client_id_is_asked_once_however_often_it_comes(talk: Talk, scene: Scene) -> None:
    with scene.scripted("Answer number one.") as model:
        first = talk.say("once", "client-id-1")
        second = talk.say("once", "client-id-1")
    assert first == second
    assert len(model.calls) == 1
    assert [message["role"] for message in talk.state()["messages"]] == ["assistant", "user", "assistant"]


def test_a_lost_connection_attaches_again_to_the_running_answer(talk: Talk, scene: Scene) -> None:
    with scene.scripted("Part one, ", "part two.") as model:
        model.gate.clear()
        body = {"id": "attach-me-1", "text": "slowly please"}
        url = f"{API}/{talk.id}/messages"
        with talk.web.stream("POST", url, json=body, headers=talk.headers) as answer:
            assert next(answer.iter_text()).startswith("data:")
        threading.Timer(0.1, model.gate.set).start()
        events = talk.say("slowly please", "attach-me-1")
    assert "".join(event.get("text", "") for event in events) == "Part one, part two."
    assert len(model.calls) == 1


def test_a_second_message_during_an_answer_is_told_to_wait(talk: Talk, scene: Scene) -> None:
    with scene.scripted("Slow.") as model:
        model.gate.clear()
        url = f"{API}/{talk.id}/messages"
        body = {"id": "first-message", "text": "one"}
        with talk.web.stream("POST", url, json=body, headers=talk.headers) as answer:
            assert answer.status_code == 200
            busy = talk.ask("two")
            assert busy.status_code == 409
            assert busy.json()["error"]["code"] == "turn_running"
            assert busy.headers["retry-after"] == "2"


@pytest.mark.parametrize("script", [(UNREACHABLE,), ("Half an answer that ", BROKEN)])
def test_a_failing_model_is_told_in_a_sentence_without_internals(
    talk: Talk, scene: Scene, script: tuple[str | Exception, ...]
) -> None:
    with scene.scripted(*script):
        events = talk.say("hello there, what about parcels")
    assert events[-1]["type"] in ("error", "done")
    assert "10.0.0.7" not in str(events)
    assert "scripted" not in str(events)
    if events[-1]["type"] == "error":
        assert "try again" in events[-1]["message"]


@pytest.mark.parametrize("secret", ["", "wrong", "x" * 5_000, "\u00e9"])
def test_without_the_secret_a_conversation_does_not_exist(talk: Talk, secret: str) -> None:
    headers = {b"x-conversation-secret": secret.encode()}
    for method, path in (("GET", ""), ("POST", "/messages"), ("POST", "/feedback"), ("GET", "/events")):
        answer = talk.web.request(method, f"{API}/{talk.id}{path}", headers=headers, json={"id": "a" * 8, "text": "x"})
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "conversation_unknown"


@pytest.mark.parametrize(
    "identifier", ["nope", "../../etc/passwd", "%00", "0" * 400, "01a205dc-ac98-7359-89bf-a5c778c4b2c1"]
)
def test_unknown_conversations_answer_like_those_of_others(web: httpx.Client, identifier: str) -> None:
    answer = web.get(f"{API}/{identifier}", headers={"x-conversation-secret": "s"})
    assert answer.status_code == 404


def test_thumb_and_comment_are_kept_about_the_answer(talk: Talk, scene: Scene) -> None:
    message = talk.say(RETURNS)[-1]["message_id"]
    assert talk.post("feedback", {"message": message, "kind": "thumb", "value": 0}).status_code == 201
    comment = "It is 60 days, write to me at ada@example.com " + HOSTILE
    answer = talk.post("feedback", {"message": message, "kind": "comment", "text": comment})
    assert answer.status_code == 201
    kept = {entry.kind: entry for entry in scene.store.feedback.of(message)}
    assert kept["thumb"].value == 0
    assert kept["comment"].text.startswith("It is 60 days")
    assert "ada@example.com" not in kept["comment"].text
    assert talk.state()["messages"][-1]["thumb"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {"message": "nope", "kind": "thumb", "value": 1},
        {"message": "", "kind": "thumb", "value": 1},
        {"message": "MINE", "kind": "thumb", "value": 7},
        {"message": "MINE", "kind": "thumb"},
        {"message": "MINE", "kind": "comment", "text": "  "},
        {"message": "MINE", "kind": "comment", "text": "x" * 2_001},
        {"message": "MINE", "kind": "demonstration", "text": "x"},
        {"message": "MINE", "kind": "thumb", "value": 1, "admin": True},
        {"message": "QUESTION", "kind": "thumb", "value": 1},
        [],
    ],
)
def test_feedback_that_makes_no_sense_is_refused(talk: Talk, scene: Scene, body: Any) -> None:
    talk.say(RETURNS)
    said = talk.state()["messages"]
    if isinstance(body, dict):
        names = {"MINE": said[2]["id"], "QUESTION": said[1]["id"]}
        body = {**body, "message": names.get(body["message"], body["message"])}
    answer = talk.post("feedback", body)
    assert answer.status_code in (400, 404, 413)
    assert answer.json()["error"]["message"]
    assert scene.store.feedback.of(said[2]["id"]) == []


def test_feedback_about_somebody_elses_answer_is_refused(talk: Talk, web: httpx.Client) -> None:
    other = Talk(web)
    message = other.say(RETURNS)[-1]["message_id"]
    assert talk.post("feedback", {"message": message, "kind": "thumb", "value": 1}).status_code == 400


def test_asking_for_a_person_gives_a_place_in_line_and_hours(talk: Talk, scene: Scene) -> None:
    answer = talk.post("handoff", {"reason": "the stove leaks"})
    assert answer.status_code == 200
    assert answer.json()["state"] == "waiting"
    assert answer.json()["position"] >= 1
    assert "Europe/Berlin" in answer.json()["notice"]
    shown = talk.web.get(f"{API}/{talk.id}", headers=talk.headers).json()["handoff"]
    assert shown["position"] >= 1
    assert "You are number" in shown["notice"]
    again = talk.post("handoff", {})
    assert again.json()["position"] == answer.json()["position"]
    mine = [entry for entry in scene.store.handoffs.waiting() if entry.conversation == talk.id]
    assert [entry.reason for entry in mine] == ["the stove leaks"]


def test_what_a_person_writes_arrives_while_the_browser_listens(talk: Talk, scene: Scene) -> None:
    talk.post("handoff", {})
    conversation = scene.store.conversations.get(talk.id)
    assert conversation is not None
    with talk.web.stream("GET", f"{API}/{talk.id}/events", headers=talk.headers) as stream:
        pieces = stream.iter_text()
        seen = next(pieces)
        assert '"waiting"' in seen
        scene.say_as_person(talk.id, "Ada here.")
        scene.store.conversations.update(talk.id, state="closed")
        seen += "".join(pieces)
    events = events_of(seen)
    assert "closed" in [event.get("state") for event in events]
    assert [event["message"]["text"] for event in events if event["type"] == "message"] == ["Ada here."]
    refused = talk.ask("hello again")
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "conversation_closed"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"id": "abcdefgh", "text": 7}', "application/json", 400),
        (b'{"id": "abcdefgh", "text": "x", "role": "system"}', "application/json", 400),
        (b'{"id": "a b", "text": "x"}', "application/json", 400),
        (b'{"id": "abcdefgh", "text": "   "}', "application/json", 400),
        (b"[" * 30_000, "application/json", 400),
        (b'{"id": "abcdefgh", "text": "x"}', "text/plain", 415),
        (b'{"id": "abcdefgh", "text": "' + b"x" * 4_001 + b'"}', "application/json", 413),
        (b'{"id": "abcdefgh", "text": "' + b"x" * 80_000 + b'"}', "application/json", 413),
    ],
)
def test_bad_bodies_get_a_clear_error(talk: Talk, content: bytes, kind: str, status: int) -> None:
    headers = {**talk.headers, "content-type": kind}
    answer = talk.web.post(f"{API}/{talk.id}/messages", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["message"]
    assert "Traceback" not in answer.text


def test_too_many_messages_from_one_address_are_slowed_down_with_words(tmp_path: Path) -> None:
    with serve(tmp_path, chat_per_minute=10) as scene, httpx.Client(base_url=scene.url, timeout=60) as web:
        talk = Talk(web)
        with scene.scripted("Fine."):
            answers = [talk.ask("again") for _ in range(8)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert answers[0].status_code == 200
        assert 1 <= int(refused[0].headers["retry-after"]) <= 60
        seconds = int(refused[0].headers["retry-after"])
        assert f"wait {seconds} second{'s' * (seconds > 1)} and" in refused[0].json()["error"]["message"]


def test_too_many_open_streams_from_one_address_are_refused_and_given_back(tmp_path: Path) -> None:
    with (
        serve(tmp_path, chat_per_minute=1_000, chat_streams=2) as scene,
        httpx.Client(base_url=scene.url, timeout=60) as web,
        scene.scripted("Fine.") as model,
    ):
        model.gate.clear()
        talks = [Talk(web) for _ in range(3)]
        body = {"id": "stream-open", "text": "x"}
        urls = [f"{API}/{talk.id}/messages" for talk in talks]
        with (
            web.stream("POST", urls[0], json=body, headers=talks[0].headers),
            web.stream("POST", urls[1], json=body, headers=talks[1].headers),
        ):
            refused = web.post(urls[2], json=body, headers=talks[2].headers)
            assert refused.status_code == 429
            assert refused.headers["retry-after"]
        model.gate.set()
        deadline = time.monotonic() + 60
        while (answer := web.post(urls[2], json=body, headers=talks[2].headers)).status_code == 429:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert answer.status_code == 200


# --- who is signed in on the embedding site -------------------------------------------------------------------------


def test_a_signed_token_makes_the_customer_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = b"a secret of at least thirty-two bytes"
    monkeypatch.setenv("SHOP_IDENTITY", secret.decode())
    claims = {"sub": "1", "aud": "shop-support", "exp": time.time() + 3600}
    with serve(tmp_path, policy={"identity": {"secret": "env:SHOP_IDENTITY"}}) as shop:
        token = jwt.encode(claims, secret, algorithm="HS256")
        forged = jwt.encode(claims, b"x" * 32, algorithm="HS256")
        with httpx.Client(base_url=shop.url, timeout=60) as client:
            talk = Talk(client)
            refused = talk.post("identity", {"token": forged})
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "identity_refused")
            assert forged not in refused.text
            foreign = client.post(f"{API}/{talk.id}/identity", json={"token": token}, headers={})
            assert foreign.status_code == 404
            assert not any(event["type"] == "facts" for event in talk.say("Where is my order TT-482913?"))
            assert talk.post("identity", {"token": token}).json() == {"signed_in": True}
            cards = [event for event in talk.say("Where is my order TT-482913?") if event["type"] == "facts"]
            assert cards[0]["title"] == "Order TT-482913"


def test_without_the_policy_no_token_is_taken(talk: Talk) -> None:
    refused = talk.post("identity", {"token": "x.y.z"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "identity_refused")
    assert talk.post("identity", {"tokens": 1}).status_code == 400


def test_a_locked_database_costs_an_answer_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.store.database.BUSY_MS", 300)
    with serve(tmp_path) as shop, httpx.Client(base_url=shop.url, timeout=60) as client:
        talk = Talk(client)
        other = sqlite3.connect(shop.store.directory / "fairlead.db", isolation_level=None)
        with contextlib.closing(other):
            other.execute("BEGIN IMMEDIATE")
            refused = talk.say(RETURNS)
            assert refused[-1]["type"] == "error"
            assert "try again" in refused[-1]["message"]
            assert "fairlead.db" not in str(refused)
            other.execute("ROLLBACK")
        assert talk.say(RETURNS)[-1]["type"] == "done"
        assert [message["role"] for message in talk.state()["messages"]] == ["assistant", "user", "assistant"]
