"""The console and the page around the chat over real HTTP: who gets in, what is shown, what is never shown."""

from __future__ import annotations

import csv
import io
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from fairlead.console.sessions import AGE_S, IDLE_S, Sessions
from fairlead.gateway.cache.tally import Tallied
from fairlead.records import AuditEntry, Conversation, Inference, Key, new_id, now_us
from fairlead.store import Store
from tests.console.scene import HOSTILE, UNREACHABLE, Scene, serve
from tests.console.test_chat_api import RETURNS, Talk

STEPS = ["/define", "/choose", "/deploy", "/tune", "/improve", "/govern", "/scale"]
PAGES = ["", *STEPS, "/inbox", "/conversations", "/traces"]
OPEN = [
    "/chat",
    "/widget",
    "/widget.js",
    "/console/login",
    "/static/base.css",
    "/nothing-here",
    "/chat/api/conversations/x",
]


class Strict(HTMLParser):
    """Collects what a strict content security policy would block, and every id."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked: list[str] = []
        self.ids: list[str] = []
        self.hosts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.blocked.append(tag)
        self.blocked += [name for name in given if name == "style" or name.startswith("on")]
        if "id" in given:
            self.ids.append(str(given["id"]))
        for name in ("src", "href", "action"):
            if "//" in (given.get(name) or "").partition("?")[0]:
                self.hosts.append(str(given[name]))


def read(text: str) -> Strict:
    page = Strict()
    page.feed(text)
    return page


# --- headers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*OPEN, "/console", "/console/traces/nope"])
def test_every_answer_carries_the_security_headers(desk: httpx.Client, path: str) -> None:
    headers = desk.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    if path == "/widget":
        assert policy.endswith("frame-ancestors *")
        assert "x-frame-options" not in headers
    else:
        assert "frame-ancestors 'none'" in policy
        assert headers["x-frame-options"] == "DENY"


def test_who_may_frame_the_widget_is_a_setting(tmp_path: Path) -> None:
    with serve(tmp_path, widget_origins="https://shop.example") as scene:
        policy = httpx.get(f"{scene.url}/widget", timeout=60).headers["content-security-policy"]
        assert policy.endswith("frame-ancestors https://shop.example")


def test_pages_have_no_inline_code_and_nothing_from_another_host(desk: httpx.Client, scene: Scene) -> None:
    Talk(desk).say(RETURNS)
    for path in ["/chat", "/widget", "/console/login", *(f"/console{page}" for page in PAGES)]:
        answer = desk.get(path)
        assert answer.status_code in (200, 303), path
        page = read(answer.text)
        assert page.blocked == [], path
        assert page.hosts == [], path
        assert len(page.ids) == len(set(page.ids)), path


@pytest.mark.parametrize("path", OPEN)
def test_nothing_open_sets_a_cookie(web: httpx.Client, path: str) -> None:
    assert "set-cookie" not in web.get(path).headers


def test_static_files_are_kept_for_ever_by_their_hash_only(web: httpx.Client) -> None:
    address = re.search(r'href="(/static/base\.css\?v=[0-9a-f]+)"', web.get("/chat").text)
    assert address
    assert "immutable" in web.get(address[1]).headers["cache-control"]
    assert web.get("/static/base.css").headers["cache-control"] == "no-cache"
    for path in ("/static/../site.py", "/static/%2e%2e/site.py", "/static/..%2fsite.py"):
        assert web.get(path).status_code == 404


def test_large_bodies_are_refused_before_they_are_read(web: httpx.Client) -> None:
    answer = web.post(
        "/chat", content=b"text=" + b"x" * 70_000, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 413

    def drip() -> Any:
        for _ in range(100):
            yield b"x" * 1_000

    answer = web.post("/chat", content=drip(), headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 413
    assert "64 KiB" in answer.text


def test_a_store_that_fails_is_said_without_its_inside(tmp_path: Path) -> None:
    with serve(tmp_path) as scene, httpx.Client(base_url=scene.url, timeout=60) as web:
        assert web.post("/console/login", data={"key": scene.key}).status_code == 303
        scene.store.close()
        for file in scene.store.directory.glob("fairlead.db*"):
            file.write_bytes(b"this is no database " * 500)
        for answer in (web.get("/console/conversations"), web.post("/chat/api/conversations", json={})):
            assert answer.status_code == 503
            assert "fairlead doctor" in answer.text
            assert str(tmp_path) not in answer.text
            assert "Traceback" not in answer.text
            assert "default-src 'self'" in answer.headers["content-security-policy"]


# --- login ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, "/conversations/x", "/traces/x", "/conversations?format=csv"])
def test_every_console_page_needs_a_login(web: httpx.Client, page: str) -> None:
    answer = web.get(f"/console{page}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console/login?next=" + quote(f"/console{page}", safe="")


def test_an_admin_key_opens_the_console_with_a_strict_cookie_and_logout_closes_it(
    web: httpx.Client, scene: Scene
) -> None:
    answer = web.post("/console/login", data={"key": f" {scene.key} ", "next": "/console/inbox"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/inbox")
    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/console"))
    assert scene.key not in cookie
    page = web.get("/console").text
    assert web.post("/console/logout", data={"csrf": "wrong"}).status_code == 403
    assert web.get("/console").status_code == 200
    csrf = re.search(r'name="csrf" value="([^"]+)"', page)
    assert csrf
    other = {"origin": "https://evil.example"}
    assert web.post("/console/logout", data={"csrf": csrf[1]}, headers=other).status_code == 403
    token = web.cookies["fairlead_session"]
    assert web.post("/console/logout", data={"csrf": csrf[1]}).status_code == 303
    web.cookies.set("fairlead_session", token)
    assert web.get("/console").status_code == 303


@pytest.mark.parametrize("key", ["", "fl-wrong", "PLAIN", "x" * 10_000, "\u0000"])
def test_other_keys_do_not_open_it(scene: Scene, key: str, tmp_path: Path) -> None:
    sessions = Sessions(scene.store)
    assert sessions.login(scene.plain_key if key == "PLAIN" else key) is None


def test_a_wrong_key_is_told_what_is_needed_and_guessing_is_slowed_down(tmp_path: Path) -> None:
    with serve(tmp_path) as scene, httpx.Client(base_url=scene.url, timeout=60) as web:
        answers = [web.post("/console/login", data={"key": f"fl-{number}"}) for number in range(9)]
        assert answers[0].status_code == 401
        assert "scope admin" in answers[0].text
        assert "fl-0" not in answers[0].text
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert web.post("/console/login", data={"key": scene.key}).status_code == 429


def test_a_login_form_of_another_site_is_refused(web: httpx.Client, scene: Scene) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert web.post("/console/login", data={"key": scene.key}, headers=headers).status_code == 403


@pytest.mark.parametrize(
    "after",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/console/../chat\n", "javascript:alert(1)", "/chat",
     "/consolex", "", "/console//evil", "/console/logout"],
)  # fmt: skip
def test_a_login_never_leads_out_of_the_console(scene: Scene, after: str) -> None:
    from fairlead.console.desk import _safe_next

    where = _safe_next(after)
    assert where == "/console" or where.startswith("/console/")
    assert "evil" not in where or where.startswith("/console//evil")


def test_a_session_ends_with_its_key_its_idleness_and_its_age(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store, Store.open(tmp_path) as elsewhere:
        now = 0.0
        sessions = Sessions(store, clock=lambda: now)
        key, secret = store.keys.create("a", ("admin",))
        logins = [sessions.login(secret) for _ in range(4)]
        tokens = [login[0] for login in logins if login]
        assert len(set(tokens)) == 4
        assert sessions.get(tokens[0])
        now += IDLE_S - 1
        assert sessions.get(tokens[0])
        now += 2
        assert sessions.get(tokens[1]) is None, "idle"
        for _ in range(20):
            now += IDLE_S / 2
            alive = sessions.get(tokens[0])
        assert now > AGE_S
        assert alive is None, "old"
        fresh = sessions.login(secret)
        assert fresh
        assert sessions.get(fresh[0])
        elsewhere.keys.revoke(key.id)
        assert sessions.get(fresh[0]) is None, "revoked"
        assert sessions.login(secret) is None


def test_a_session_ends_when_its_key_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(tmp_path) as store:
        now = 0.0
        sessions = Sessions(store, clock=lambda: now)
        _, secret = store.keys.create("a", ("admin",), expires=now_us() + 600_000_000)
        login = sessions.login(secret)
        assert login
        assert sessions.get(login[0])
        real = time.time_ns
        monkeypatch.setattr("fairlead.records.time.time_ns", lambda: real() + 601 * 10**9)
        assert not any(isinstance(key, Key) for key in store.keys.active())
        now += 61
        assert sessions.get(login[0]) is None


# --- what is shown ----------------------------------------------------------------------------------------------


def test_the_overview_says_in_words_what_goes_on_and_names_failures(desk: httpx.Client, scene: Scene) -> None:
    talk = Talk(desk)
    talk.say(RETURNS)
    scene.recorded(talk.id, 2)
    page = desk.get("/console").text
    headline = re.search(r"<h1>(.*?)</h1>", page)
    assert headline
    assert re.search(r"\d+ answers in the last 24 hours, (\d+|none) failed", headline[1])
    assert re.search(r"<dt>records dropped</dt><dd>none</dd>", page)
    assert re.search(r"not evaluated yet<span class=\"soft\">: \d+ objectives", page)
    assert RETURNS in page
    assert page.count("<svg") >= 2
    assert "<figcaption>" in page


def test_a_conversation_shows_what_was_said_its_sources_feedback_and_where_the_time_went(
    desk: httpx.Client, scene: Scene
) -> None:
    talk = Talk(desk)
    done = talk.say(RETURNS)[-1]
    talk.post("feedback", {"message": done["message_id"], "kind": "comment", "text": "too " + HOSTILE})
    scene.recorded(talk.id, 2)
    page = desk.get(f"/console/conversations/{talk.id}").text
    assert "30 days" in page
    assert "Source 1" in page
    assert "too &lt;img" in page
    assert "<img" not in page
    for step in ("retrieve", "authenticate", "call", "deliver"):
        assert f">{step}</th>" in page, step
    assert f"/console/traces/{done['inference_id']}" in page
    listed = desk.get("/console/traces").text
    assert re.search(
        r"assistant</td>.*?<td class=\"number extra\">–</td>\s*<td class=\"extra\"><a href=\"/console/conv",
        listed,
        re.DOTALL,
    )
    trace = desk.get(f"/console/traces/{done['inference_id']}").text
    assert scene.fairlead.usecase.spec_hash[:8] in trace
    assert "Input (masked)" in trace
    assert ">retrieve</th>" in trace


def test_personal_data_is_masked_before_anyone_can_look_at_it(desk: httpx.Client, scene: Scene) -> None:
    talk = Talk(desk)
    talk.say("My e-mail is jane.roe@example.org and my card 4111 1111 1111 1111, how long do returns take?")
    scene.recorded(talk.id, 2)
    for path in (f"/console/conversations/{talk.id}", "/console", "/console/conversations?format=json"):
        text = desk.get(path).text
        assert "jane.roe" not in text
        assert "4111 1111" not in text


@pytest.mark.parametrize(("name", "odd"), [("status", "abc"), ("status", "20"), ("status", "999"), ("variant", "zz")])
def test_a_filter_that_cannot_be_is_told_and_never_exported(desk: httpx.Client, name: str, odd: str) -> None:
    for path in (f"/console/traces?{name}={odd}", f"/console/traces?{name}={odd}&format=csv"):
        shown = desk.get(path)
        assert shown.headers["content-type"].startswith("text/html")
        (notice,) = re.findall(r'<p class="notice" role="status">(.*?)</p>', shown.text)
        assert odd in notice
        assert "showing all" in notice
    assert 'class="notice"' not in desk.get("/console/traces?status=200&variant=").text


def test_failures_are_marked_and_lead_to_their_trace(desk: httpx.Client, scene: Scene) -> None:
    talk = Talk(desk)
    with scene.scripted(UNREACHABLE):
        talk.say("what about parcels to Norway")
    scene.recorded(talk.id, 2)
    page = desk.get("/console/traces?status=502").text
    assert re.search("▲ 502<span[^>]*> upstream_unreachable", page)
    found = re.search(r'href="(/console/traces/[0-9a-f-]{36})"', page)
    assert found
    assert "failed with 502" in desk.get(found[1]).text


def test_the_list_searches_pages_and_keeps_its_state_in_the_address(desk: httpx.Client, scene: Scene) -> None:
    word = f"zyzzyva{new_id()[-6:]}"
    base = scene.store.conversations.get(Talk(desk).id)
    assert base is not None
    titles = [f"{word} {number}" for number in range(60)]
    newest = now_us() - 1
    for number, title in enumerate(titles):
        _add(scene, title=title, time=newest - number)
    seen: list[str] = []
    address = f"/console/conversations?q={word}&state=open"
    while address:
        page = desk.get(address).text
        seen += re.findall(rf"{word} \d+", re.sub(r"<h1>.*?</h1>", "", page))
        older = re.search(r'href="([^"]+)" rel="next"', page)
        address = older[1].replace("&amp;", "&") if older else ""
        if address:
            assert f"q={word}" in address
            assert "state=open" in address
    assert seen == titles
    assert "60 conversations" in desk.get(f"/console/conversations?q={word}").text
    assert "Nothing matches" in desk.get("/console/conversations?q=nobodysaidthis").text
    assert desk.get(f"/console/conversations?q={word}&before=nope").status_code == 200


def test_exports_hold_every_row_and_no_formula(desk: httpx.Client, scene: Scene) -> None:
    word = f"export{new_id()[-6:]}"
    for number in range(3):
        _add(scene, title=f'=HYPERLINK("http://evil.example";"{word} {number}")', time=now_us() - number)
    answer = desk.get(f"/console/conversations?q={word}&format=csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="conversations.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 3
    assert all(row["title"].startswith("'=HYPERLINK") for row in rows)
    data = desk.get(f"/console/conversations?q={word}&format=json").json()
    assert [row["id"] for row in data] == [row["id"] for row in rows]
    assert data[0]["title"].startswith("=HYPERLINK")
    talk = Talk(desk)
    talk.say(RETURNS)
    scene.recorded(talk.id, 2)
    traces = desk.get("/console/traces?format=csv").text
    assert traces.splitlines()[0].startswith("id,time,conversation,parent")
    assert len(traces.splitlines()) > 1


def test_another_tenants_data_is_not_there(desk: httpx.Client, scene: Scene) -> None:
    title = f"foreign {new_id()}"
    foreign = _add(scene, title=title, time=now_us(), tenant="acme")
    trace = Inference(
        id=new_id(), time=now_us(), tenant="acme", subject="", usecase="shop-support", spec_hash="s", release="r",
        conversation=foreign.id, variant="extractive",
    )  # fmt: skip
    scene.store.traces.append(trace)
    scene.recorded(foreign.id, 1)
    assert desk.get(f"/console/conversations/{foreign.id}").status_code == 404
    assert desk.get(f"/console/traces/{trace.id}").status_code == 404
    for path in ("", "/conversations", "/conversations?format=json", "/traces", "/traces?format=csv", "/inbox"):
        text = desk.get(f"/console{path}").text
        assert title not in text
        assert trace.id not in text
    acme = scene.store.keys.create("acme", ("admin",), tenant="acme")[1]
    with httpx.Client(base_url=scene.url, timeout=60) as web:
        assert web.post("/console/login", data={"key": acme}).status_code == 303
        assert title in web.get("/console/conversations").text
        assert web.get(f"/console/traces/{trace.id}").status_code == 200


def test_the_inbox_lists_who_waits_oldest_first(desk: httpx.Client, scene: Scene) -> None:
    first, second = Talk(desk), Talk(desk)
    first.post("handoff", {"reason": "first in line"})
    second.post("handoff", {"reason": "second in line"})
    page = desk.get("/console/inbox").text
    assert page.index("first in line") < page.index("second in line")
    assert "Europe/Berlin" in page
    assert re.search(r'class="badge">\d+', page)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("define", ["Answer customers", "resolution", "groundedness", "not enough data", "fairlead check"]),
        ("choose", ["extractive", "fairlead select"]),
        (
            "deploy",
            [
                "Everything that answers is ready",
                "the use case<",
                "embed",
                "● ready",
                "in process",
                "fairlead keys create",
            ],
        ),
        ("tune", ["Nothing has been tuned"]),
        ("improve", ["called not helpful", " helpful, "]),
        ("govern", ["email, phone, card, iban", "90 days"]),
        ("scale", ["Busiest in", " answers in the 30 minutes from ", "answers</th>", "model calls <", "make bench"]),
    ],
)
def test_each_step_says_what_exists_and_how_to_go_on(
    desk: httpx.Client, scene: Scene, page: str, words: list[str]
) -> None:
    talk = Talk(desk)
    answer = talk.say(RETURNS)[-1]["message_id"]
    assert talk.post("feedback", {"message": answer, "kind": "thumb", "value": 1}).status_code == 201
    scene.recorded(talk.id, 2)
    text = desk.get(f"/console/{page}").text
    for word in words:
        assert word in text, word


def test_what_answering_from_memory_saved_is_shown_to_its_own_tenant(desk: httpx.Client, scene: Scene) -> None:
    lines = [
        Tallied(tenant=tenant, route=name, outcome=outcome, requests=number, nanos=nanos, saved_us=0)
        for tenant, name, outcome, number, nanos in (
            ("default", "extractive", "exact", 30, 45_000_000), ("default", "extractive", "miss", 10, 0),
            ("other", "theirs", "exact", 7, 5),
        )
    ]  # fmt: skip
    scene.store.answers.exchange([], lines, b"", after=0, generation=1)
    page = desk.get("/console/deploy").text
    assert "30 (75 %)" in page
    assert "0.0450" in page
    assert "theirs" not in page


def test_the_audit_log_is_shown_and_checked(desk: httpx.Client, scene: Scene) -> None:
    entry = AuditEntry(
        id=new_id(), time=now_us(), tenant="default", subject="", usecase="shop-support", spec_hash="s", release="r",
        actor="ada " + HOSTILE, action="keys.create", resource="key:client",
    )  # fmt: skip
    scene.store.audit.append(entry)
    page = desk.get("/console/govern").text
    assert "is whole" in page
    assert "ada &lt;img" in page


@pytest.mark.parametrize("path", ["/conversations/nope", "/traces/nope", "/traces/" + "f" * 36, "/conversations/%00"])
def test_what_is_not_there_is_said(desk: httpx.Client, path: str) -> None:
    answer = desk.get(f"/console{path}")
    assert answer.status_code == 404
    assert "There is no" in answer.text


def test_hostile_addresses_are_only_text(desk: httpx.Client) -> None:
    attack = quote('"><script>alert(1)</script>')
    for path in (
        f"/conversations/{attack}",
        f"/conversations?q={attack}",
        f"/conversations?range={attack}",
        f"/traces?variant={attack}&status={attack}&before={attack}",
    ):
        text = desk.get(f"/console{path}").text
        assert "<script>alert" not in text
        assert "Traceback" not in text


# --- without JavaScript -----------------------------------------------------------------------------------------


def fields(page: str) -> dict[str, str]:
    """The hidden fields of the chat's main form."""
    form = page[page.index('id="ask"') :]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form[: form.index("</form>")]))


@pytest.mark.parametrize("path", ["/chat", "/widget"])
def test_the_chat_works_without_javascript(web: httpx.Client, scene: Scene, path: str) -> None:
    page = web.get(path).text
    assert "AI assistant" in page
    first = web.post(path, data={**fields(page), "text": RETURNS, "action": "send"})
    assert first.status_code == 200
    assert "30 days" in first.text
    assert "<blockquote" in first.text
    hidden = fields(first.text)
    assert hidden["conversation"]
    second = web.post(path, data={**hidden, "text": "And for swimwear? " + HOSTILE, "action": "send"})
    assert second.text.count('class="message user"') == 2
    assert "<img" not in second.text
    again = web.post(path, data={**hidden, "text": "And for swimwear? " + HOSTILE, "action": "send"})
    assert again.text.count('class="message user"') == 2, "a resubmitted form asks nothing twice"
    message = re.findall(r'<article class="message assistant" data-message="([^"]+)"', first.text)[-1]
    judged = web.post(
        path,
        data={
            "conversation": hidden["conversation"],
            "secret": hidden["secret"],
            "action": "feedback",
            "message": message,
            "thumb": "1",
        },
    )
    assert "Thank you" in judged.text
    assert [entry.value for entry in scene.store.feedback.of(message)] == [1.0]
    person = web.post(path, data={**fields(judged.text), "text": "", "action": "handoff"})
    assert "in line" in person.text
    transcript = web.post("/chat/transcript", data={name: hidden[name] for name in ("conversation", "secret")})
    assert transcript.headers["content-type"].startswith("text/plain")
    assert "attachment" in transcript.headers["content-disposition"]
    assert RETURNS in transcript.text
    conversation = scene.store.conversations.get(hidden["conversation"])
    assert conversation is not None
    assert conversation.channel == path[1:]


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        ({"text": "", "id": "a" * 8}, 400, "Write a message first"),
        ({"text": "hi", "id": "!"}, 400, "needs an id"),
        ({"text": "x" * 4_001, "id": "a" * 8}, 413, "Shorten it"),
        ({"text": "hi", "id": "a" * 8, "conversation": "01a205dc-ac98-7359-89bf-a5c778c4b2c1", "secret": "x"}, 404, ""),
        ({"action": "feedback", "thumb": "1"}, 404, "no conversation"),
    ],
)
def test_a_form_that_makes_no_sense_gets_the_page_back_with_words(
    web: httpx.Client, data: dict[str, str], status: int, words: str
) -> None:
    answer = web.post("/chat", data={"action": "send", **data})
    assert answer.status_code == status
    assert words in answer.text
    if len(data.get("text", "")) > 10:
        assert data["text"] in answer.text, "what was typed is not lost"


def test_no_secret_is_ever_part_of_an_address(web: httpx.Client) -> None:
    page = web.post("/chat", data={**fields(web.get("/chat").text), "text": RETURNS, "action": "send"})
    secret = fields(page.text)["secret"]
    assert all(secret not in address for address in re.findall(r'(?:href|src|action)="([^"]*)"', page.text))
    assert page.headers["cache-control"] == "no-store"


def _add(scene: Scene, *, title: str, time: int, tenant: str = "default") -> Conversation:
    usecase = scene.fairlead.usecase
    return scene.store.conversations.create(
        Conversation(
            id=new_id(),
            time=time,
            tenant=tenant,
            subject="s",
            usecase=usecase.name,
            spec_hash=usecase.spec_hash,
            release="r",
            updated=time,
            turns=1,
            title=title,
        )
    )
