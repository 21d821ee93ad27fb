"""The chat as customers meet it: in a browser, with a keyboard, offline, on a phone, attacked, without JavaScript."""

from __future__ import annotations

import http.server
import re
import threading
import time
from collections.abc import Iterator

import jwt
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Watched
from tests.console.scene import HOSTILE, UNREACHABLE, Scene
from tests.gateway.gateway_harness import await_true

pytestmark = pytest.mark.browser

ORDER = "Where is my order TT-482913? I ordered with mira.holm@example.com"
SECRET = "a secret of at least thirty-two bytes"
RETURNS = "How many days do I have to return an item?"
COMMENTED = "Thank you. People of our team read this."
"""What is said once a comment is kept; a thumb gets other words."""


def ready(page: Page, path: str = "/chat") -> None:
    page.goto(path)
    page.wait_for_selector("html[data-ready]")


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")


def answers(page: Page) -> list[str]:
    return page.locator(".message.assistant:not(.greeting) .text").all_inner_texts()


def done(page: Page, number: int = 1) -> None:
    """Wait until so many answers are complete."""
    expect(page.locator(".message.assistant:not(.greeting) .judge:visible")).to_have_count(number)
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_enabled()


def test_it_says_that_it_is_an_ai_before_anything_is_asked(page: Page, scene: Scene) -> None:
    ready(page)
    expect(page.locator("header")).to_contain_text("You are talking to an AI")
    expect(page.get_by_role("log")).to_contain_text(scene.fairlead.usecase.policy.disclosure.greeting)


def test_an_answer_streams_in_with_a_source_that_opens(page: Page, scene: Scene) -> None:
    ready(page)
    with scene.scripted("You can return it ", "within 30 days.") as model:
        model.gate.clear()
        ask(page, RETURNS)
        expect(page.get_by_role("status").filter(has_text="writing")).to_be_visible()
        expect(page.get_by_role("log")).to_have_attribute("aria-busy", "true")
        model.gate.set()
        done(page)
    ask(page, RETURNS)
    done(page, 2)
    assert "30 days" in answers(page)[1]
    source = page.locator(".message").last.locator(".sources details").first
    expect(source.locator("blockquote")).to_be_hidden()
    source.locator("summary").click()
    expect(source.locator("blockquote")).to_be_visible()
    expect(source.locator("blockquote")).to_contain_text("30 days")
    expect(page.get_by_role("log")).to_have_attribute("aria-busy", "false")


def test_an_order_is_shown_as_a_card_that_survives_a_reload(page: Page) -> None:
    ready(page)
    ask(page, ORDER)
    done(page)
    card = page.locator(".message.assistant .facts").first
    expect(card.get_by_role("heading")).to_contain_text(re.compile("Order|Parcel"))
    assert card.locator("dt").count() >= 3
    shown = page.locator(".message.assistant .facts").all_inner_texts()
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.locator(".message.assistant .facts").all_inner_texts() == shown
    assert "mira.holm" not in page.locator(".message.user").inner_text(), "masked before it is stored"


def test_thumbs_and_a_comment_are_kept(page: Page, scene: Scene) -> None:
    ready(page)
    ask(page, RETURNS)
    done(page)
    message = page.locator(".message.assistant").last
    message.get_by_role("button", name="Not helpful").click()
    expect(message.get_by_role("button", name="Not helpful")).to_have_attribute("aria-pressed", "true")
    comment = message.get_by_label("What was wrong?")
    expect(comment).to_be_focused()
    comment.fill("It is 60 days for members")
    message.get_by_role("button", name="Send comment").click()
    expect(message.get_by_role("status")).to_have_text(COMMENTED)
    identifier = message.get_attribute("data-message") or ""
    kept = {entry.kind: entry for entry in scene.store.feedback.of(identifier)}
    assert kept["thumb"].value == 0
    assert kept["comment"].text == "It is 60 days for members"
    page.reload()
    page.wait_for_selector("html[data-ready]")
    again = page.locator(".message.assistant").last
    expect(again.get_by_role("button", name="Not helpful")).to_have_attribute("aria-pressed", "true")


def test_opinions_that_overlap_are_all_kept_and_the_last_one_counts(page: Page, scene: Scene, watched: Watched) -> None:
    """Thumb, other thumb and comment while no request is answered yet; what is typed meanwhile stays as it is."""
    ready(page)
    ask(page, RETURNS)
    done(page)
    message = page.locator(".message.assistant").last
    held: list[Route] = []
    page.route("**/feedback", lambda route: held.append(route))
    message.get_by_role("button", name="Helpful", exact=True).click()
    message.get_by_role("button", name="Not helpful").click()
    # The field appears with the answer to the thumb; whoever has it open from before may be quicker.
    message.evaluate("""(shown) => {
      const [comment, send] = shown.querySelectorAll(".wrong textarea, .wrong button");
      comment.value = "first words";
      send.click();
    }""")
    page.get_by_label("Your message").fill("And now")
    for number in range(3):
        while len(held) <= number:
            page.wait_for_timeout(20)
        assert len(held) == number + 1, "one after another"
        if number == 2:
            message.evaluate("(shown) => { shown.querySelector('.wrong textarea').value += ' and more' }")
        held[number].continue_()
    expect(message.get_by_role("status")).to_have_text(COMMENTED)
    kept = {entry.kind: entry for entry in scene.store.feedback.of(message.get_attribute("data-message") or "")}
    assert (kept["thumb"].value, kept["comment"].text) == (0, "first words")
    expect(message.get_by_role("button", name="Not helpful")).to_have_attribute("aria-pressed", "true")
    assert message.locator(".wrong textarea").input_value() == "first words and more"
    expect(page.get_by_label("Your message")).to_be_focused()


def test_a_first_message_and_a_call_for_a_person_at_once_are_one_conversation(page: Page, scene: Scene) -> None:
    ready(page)
    opened: list[Route] = []
    page.route("**/chat/api/conversations", lambda route: opened.append(route))
    ask(page, RETURNS)
    page.get_by_role("button", name="Talk to a person").click()
    while not opened:
        page.wait_for_timeout(20)
    page.wait_for_timeout(100)  # a second one would have been asked for by now
    assert len(opened) == 1
    opened[0].continue_()
    expect(page.locator("#state")).to_contain_text("in line")
    identifier = page.evaluate("JSON.parse(localStorage.getItem('fairlead-chat')).id")
    expect(page.locator(".message.user")).to_have_count(1)
    await_true(lambda: scene.store.handoffs.of(identifier), "the person is called in the conversation that is kept")
    await_true(
        lambda: [each for each in scene.store.conversations.messages(identifier) if each.role == "user"],
        "the message is in it, too",
    )


def test_a_person_can_be_asked_for_and_answers_in_the_same_window(page: Page, scene: Scene) -> None:
    ready(page)
    ask(page, RETURNS)
    done(page)
    page.get_by_role("button", name="Talk to a person").click()
    status = page.locator("#state")
    expect(status).to_contain_text(re.compile(r"You are number \d+ in line"))
    expect(status).to_contain_text("Mon-Fri 09:00-17:00 (Europe/Berlin)")
    expect(page.get_by_role("button", name="Talk to a person")).to_be_disabled()
    ask(page, "Are you there?")
    expect(page.locator(".message.assistant").last).to_contain_text("with our team")
    expect(page.locator(".message.assistant").last.locator(".judge")).to_have_count(0)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(status).to_contain_text(re.compile(r"You are number \d+ in line.*Hours: Mon-Fri"))
    expect(page.get_by_role("button", name="Talk to a person")).to_be_disabled()
    expect(page.locator(".message.assistant").last.locator(".judge")).to_have_count(0)
    expect(page.locator(".message.assistant .sources + .judge")).to_have_count(1)
    identifier = page.evaluate("JSON.parse(localStorage.getItem('fairlead-chat')).id")
    assert identifier in [entry.conversation for entry in scene.store.handoffs.waiting()]
    scene.say_as_person(identifier, "Ada here, how can I help? " + HOSTILE)
    expect(page.locator(".message.operator .text")).to_have_text("Ada here, how can I help? " + HOSTILE)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(page.locator(".message.operator")).to_have_count(1)


def test_the_conversation_survives_a_reload_and_can_be_started_again(page: Page) -> None:
    ready(page)
    ask(page, RETURNS)
    done(page)
    before = page.locator(".message .text").all_inner_texts()
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.locator(".message .text").all_inner_texts() == before
    assert page.context.cookies() == []
    page.get_by_role("link", name="Start again").click()
    expect(page.locator(".message")).to_have_count(1)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(page.locator(".message")).to_have_count(1)


def test_a_reload_in_the_middle_of_an_answer_brings_the_rest(page: Page, scene: Scene) -> None:
    ready(page)
    with scene.scripted("The beginning ", "and the end of it.") as model:
        model.gate.clear()
        ask(page, "tell me slowly")
        expect(page.get_by_role("status").filter(has_text="writing")).to_be_visible()
        while not model.calls:
            page.wait_for_timeout(20)
        page.reload()
        model.gate.set()
        done(page)
    assert answers(page) == ["The beginning and the end of it."]
    expect(page.locator(".message.user")).to_have_count(1)
    assert len(model.calls) == 1


def test_who_starts_again_in_the_middle_of_an_answer_hears_no_more_of_it(page: Page, scene: Scene) -> None:
    """As signing out does: the next to sit here must not read on, and has a conversation of their own."""
    ready(page)
    with scene.scripted("The beginning ", "and the end of it.") as model:
        model.gate.clear()
        ask(page, "tell me slowly")
        while not model.calls:
            page.wait_for_timeout(20)
        before = page.evaluate("JSON.parse(localStorage.getItem('fairlead-chat')).id")
        page.get_by_role("link", name="Start again").click()
        expect(page.locator(".message")).to_have_count(1)
        model.gate.set()
        scene.recorded(before, 1)
        assert page.evaluate("localStorage.getItem('fairlead-chat')") is None
        expect(page.locator(".message")).to_have_count(1)
        ask(page, "And for me?")
        done(page)
    assert answers(page) == ["The beginning and the end of it."]
    expect(page.locator(".message.user .text")).to_have_text("And for me?")
    assert page.evaluate("JSON.parse(localStorage.getItem('fairlead-chat')).id") != before


def test_a_lost_connection_is_said_and_the_message_is_sent_once(page: Page, scene: Scene, watched: Watched) -> None:
    watched.expected.append("ERR_INTERNET_DISCONNECTED")
    ready(page)
    with scene.scripted("Got it.") as model:
        page.context.set_offline(True)
        ask(page, "are you there")
        expect(page.locator("#state")).to_contain_text("Trying again")
        page.context.set_offline(False)
        done(page)
    assert answers(page) == ["Got it."]
    expect(page.locator(".message.user")).to_have_count(1)
    assert len(model.calls) == 1


def test_a_message_that_cannot_be_sent_can_be_tried_again(page: Page, scene: Scene, watched: Watched) -> None:
    watched.expected += ["ERR_INTERNET_DISCONNECTED", "ERR_FAILED"]
    ready(page)
    page.evaluate("() => { const wait = setTimeout; window.setTimeout = (what) => wait(what, 20); }")
    page.context.set_offline(True)
    ask(page, RETURNS)
    expect(page.get_by_text("Not sent: there is no connection.")).to_be_visible()
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    done(page)
    expect(page.locator(".message.user")).to_have_count(1)
    expect(page.locator(".failure")).to_have_count(0)


def test_a_failing_model_gets_a_sentence_and_a_second_try(page: Page, scene: Scene) -> None:
    ready(page)
    with scene.scripted(UNREACHABLE):
        ask(page, "hello there")
        expect(page.get_by_role("button", name="Try again").or_(page.locator(".judge:visible")).first).to_be_visible()
        assert "10.0.0.7" not in page.content()


def test_it_can_be_used_with_the_keyboard_alone(page: Page) -> None:
    ready(page)
    page.keyboard.press("Tab")
    for _ in range(8):
        if page.evaluate("document.activeElement.id") == "text":
            break
        page.keyboard.press("Tab")
    page.keyboard.type(RETURNS)
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("Please tell me.")
    expect(page.get_by_label("Your message")).to_have_value(f"{RETURNS}\nPlease tell me.")
    page.keyboard.press("Enter")
    done(page)
    expect(page.get_by_label("Your message")).to_be_focused()
    expect(page.get_by_label("Your message")).to_have_value("")
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "Helpful":
            break
    page.keyboard.press("Enter")
    expect(page.locator(".message").last.get_by_role("button", name="Helpful", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )


def test_hostile_text_stays_text_wherever_it_comes_from(page: Page, scene: Scene) -> None:
    ready(page)
    with scene.scripted("From the model: ", HOSTILE, " [1]"):
        ask(page, "From the customer: " + HOSTILE)
        done(page)
    ask(page, "How long does a zeppelin ride take?")
    done(page, 2)
    for source in page.locator(".sources summary").all():
        source.click()
    message = page.locator(".message.assistant").last
    message.get_by_role("button", name="Not helpful").click()
    message.get_by_label("What was wrong?").fill(HOSTILE)
    message.get_by_role("button", name="Send comment").click()
    expect(message.get_by_role("status")).to_have_text(COMMENTED)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    texts = page.locator(".message").all_inner_texts()
    assert any("From the customer: <img" in text for text in texts)
    assert any("From the model: <img" in text for text in texts)
    assert page.evaluate("window.hacked") is None
    assert page.locator("#log img, #log script").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/chat", "/widget"])
def test_a_small_phone_needs_no_sideways_scrolling(watched: Watched, path: str, scheme: str) -> None:
    page = watched.page(viewport={"width": 320, "height": 568}, color_scheme=scheme)
    ready(page, path)
    ask(page, "x" * 200 + " " + RETURNS)
    done(page)
    for source in page.locator(".sources summary").all():
        source.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.evaluate("document.getElementById('log').scrollWidth <= document.getElementById('log').clientWidth")
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_in_viewport()


def test_only_the_log_scrolls_however_much_is_said(watched: Watched) -> None:
    page = watched.page(viewport={"width": 375, "height": 500})
    ready(page)
    for number in range(1, 5):
        ask(page, f"{RETURNS} ({number})")
        done(page, number)
    assert page.evaluate("document.getElementById('log').scrollHeight > document.getElementById('log').clientHeight")
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")  # no empty page below the form


def test_the_transcript_can_be_downloaded(page: Page) -> None:
    ready(page)
    expect(page.get_by_role("button", name="Download")).to_be_hidden()
    ask(page, RETURNS)
    done(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    text = download.value.path().read_text(encoding="utf-8")
    assert RETURNS in text
    assert "AI assistant" in text


def test_a_browser_without_javascript_can_ask_judge_and_call_a_person(watched: Watched) -> None:
    page = watched.page(java_script_enabled=False)
    page.goto("/chat")
    page.get_by_label("Your message").fill(RETURNS)
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".message.assistant").last).to_contain_text("30 days")
    page.locator(".message").last.get_by_role("button", name="Helpful", exact=True).click()
    expect(page.locator("#state")).to_contain_text("Thank you")
    page.get_by_role("button", name="Talk to a person").click()
    expect(page.locator("#state")).to_contain_text("in line")
    watched.contexts.pop().close()  # without JavaScript there is nothing to ask about breaches


# --- the widget on somebody else's page -------------------------------------------------------------------------

HOST_PAGE = """<!doctype html><html lang="en"><title>Shop</title>
<style>button {{ color: red !important; font-size: 40px }}</style>
<body><h1>Our shop</h1>
<script src="{url}/widget.js" data-label="Help" data-position="left" async></script></body></html>"""


@pytest.fixture
def elsewhere(scene: Scene) -> Iterator[str]:
    """Another site (another port is another origin), with a strict policy of its own and one script tag."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = HOST_PAGE.format(url=scene.url).encode() if self.path == "/" else b""
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8" if body else "image/x-icon")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_script_tag_makes_a_chat_on_another_site(watched: Watched, elsewhere: str, scene: Scene) -> None:
    page = watched.page(viewport={"width": 800, "height": 700})
    page.goto(elsewhere)
    button = page.get_by_role("button", name="Help")
    expect(button).to_have_attribute("aria-expanded", "false")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('div').shadowRoot.querySelector('button')).fontSize")
        == "16px"
    )
    assert page.locator("iframe[src]").count() == 0, "nothing is loaded before it is asked for"
    button.click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_label("Your message")).to_be_focused()
    frame.get_by_label("Your message").fill(RETURNS)
    page.keyboard.press("Enter")
    expect(frame.locator(".message.assistant").last).to_contain_text("30 days")
    expect(frame.locator(".judge:visible")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("iframe")).to_be_hidden()
    expect(page.get_by_role("button", name="Help")).to_be_focused()
    page.reload()
    page.get_by_role("button", name="Help").click()
    expect(frame.locator(".message.user")).to_have_count(1)
    assert page.context.cookies() == []
    newest = scene.store.conversations.list(since=0, until=1 << 60, limit=1)[0]
    assert newest.channel == "widget"


def test_the_site_around_the_widget_says_who_is_signed_in_and_signs_out(
    watched: Watched, elsewhere: str, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_IDENTITY", SECRET)
    claims = {"sub": "1", "aud": scene.fairlead.usecase.name, "exp": time.time() + 3600}
    page = watched.page(viewport={"width": 800, "height": 700})
    page.goto(elsewhere)
    page.evaluate("token => fairleadWidget.identify(token)", jwt.encode(claims, SECRET, algorithm="HS256"))
    page.get_by_role("button", name="Help").click()
    frame = page.frame_locator("iframe")

    def ask(text: str) -> None:
        expect(frame.get_by_role("button", name="Send", exact=True)).to_be_enabled()
        frame.get_by_label("Your message").fill(text)
        page.keyboard.press("Enter")

    expect(frame.get_by_label("Your message")).to_be_focused()  # it has been told who is signed in
    ask("Where is my order TT-482913?")
    expect(frame.locator(".facts")).to_contain_text("Order TT-482913")
    page.evaluate("fairleadWidget.identify('')")
    expect(frame.locator(".message.user")).to_have_count(0)
    ask("Where is my order TT-482913?")
    expect(frame.locator(".message.assistant").last).to_contain_text("e-mail")
    # A token nobody signed: the page hears of it, the customer is answered like anybody.
    page.evaluate(
        "addEventListener('fairlead-identity-refused', (event) => { window.refused = event.detail.message; })"
    )
    watched.expected += ["401", "identity token"]
    frame.get_by_role("button", name="Talk to a person").focus()
    page.evaluate("() => { fairleadWidget.identify('forged'); fairleadWidget.open(); }")
    expect(frame.get_by_label("Your message")).to_be_focused()  # what was told before that has been heard, too
    ask(RETURNS)
    expect(frame.locator(".message.assistant").last).to_contain_text("30 days")
    page.wait_for_function("window.refused")
    assert "not accepted" in page.evaluate("window.refused")


def test_no_other_site_can_frame_the_chat_or_the_console(watched: Watched, elsewhere: str, scene: Scene) -> None:
    watched.expected += ["frame-ancestors", "X-Frame-Options", "Refused to display", "Framing"]
    page = watched.page()
    page.goto(elsewhere)
    for path in ("/chat", "/console/login"):
        page.evaluate(
            "(src) => { const f = document.createElement('iframe'); f.src = src; document.body.append(f); }",
            scene.url + path,
        )
        while (found := page.frames[-1].url) in ("", "about:blank", f"{elsewhere}/"):
            page.wait_for_timeout(20)
        assert found.startswith("chrome-error:")
        page.evaluate("document.querySelectorAll('iframe').forEach((frame) => frame.remove())")
