"""A customer and operators in real browsers: taking over, answering, closed tabs, two windows, ratings, actions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect

from fairlead.console.view import plain
from fairlead.records import Action, new_id, now_us
from tests.browser.conftest import Watched
from tests.console.scene import HOSTILE, Scene, serve
from tests.gateway.gateway_harness import await_true

pytestmark = pytest.mark.browser

RETURNS = "How many days do I have to return an item?"
REPLY = "Answer as"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A shop whose people are always there, and which asks for a rating soon."""
    folder: Path = tmp_path_factory.mktemp("people")
    hours = {"handoff": {"hours": "24/7", "timezone": "UTC"}}
    with serve(folder, policy=hours, chat_per_minute=100_000, chat_streams=1_000, chat_rating_after_s=1.5) as running:
        yield running


@pytest.fixture(scope="module")
def logins(browser: Browser, scene: Scene) -> dict[str, list[Any]]:
    """The cookies of two operators."""
    found = {}
    for name in ("Ada", "Jonas"):
        secret = scene.store.keys.create(name, ("operator",))[1]
        context = browser.new_context(base_url=scene.url)
        page = context.new_page()
        page.goto("/console/login?next=/console/inbox")
        page.get_by_label("API key").fill(secret)
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-following]")
        found[name] = list(context.cookies())
        context.close()
    return found


def person(
    watched: Watched, logins: dict[str, list[Any]], name: str, path: str = "/console/inbox", *, news: bool = True
) -> Page:
    """A page of an operator; without ``news`` it never learns of what others do."""
    page = watched.page(viewport={"width": 1280, "height": 800})
    page.context.add_cookies(logins[name])
    if not news:
        page.route("**/inbox/events*", lambda route: route.fulfill(content_type="text/event-stream", body=""))
    page.goto(path)
    page.wait_for_selector("[data-following]")
    return page


@pytest.fixture
def customer(watched: Watched) -> Page:
    """A customer on a phone."""
    page = watched.page(viewport={"width": 375, "height": 700})
    ready(page)
    return page


def ready(page: Page) -> None:
    page.goto("/chat")
    page.wait_for_selector("html[data-ready]")


def ask(page: Page, text: str) -> None:
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_enabled()  # not while an answer comes
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")


def said(page: Page, text: str) -> Locator:
    return page.locator(".message .text", has_text=text)


def call(page: Page, question: str) -> None:
    """Ask, get an answer, ask for a person."""
    ask(page, question)
    expect(page.locator(".judge:visible")).to_have_count(1)
    page.get_by_role("button", name="Talk to a person").click()
    expect(page.locator("#state")).to_contain_text("in line")


def conversation(page: Page) -> str:
    return str(page.evaluate("JSON.parse(localStorage.getItem('fairlead-chat')).id"))


def take(desk: Page, question: str) -> None:
    desk.locator("tr", has_text=question).get_by_role("button", name="Take").click()
    holds(desk)


def holds(desk: Page) -> None:
    """Wait until the operator can answer, and the page listens to the keyboard."""
    expect(desk.get_by_label(REPLY)).to_be_visible()  # so this is the page after the step
    desk.wait_for_selector("[data-following]")


def say(desk: Page, text: str) -> None:
    """Answer, and wait until the server has it."""
    desk.get_by_label(REPLY).fill(text)
    desk.keyboard.press("Control+Enter")
    expect(desk.get_by_label(REPLY)).to_have_value("")


def free(scene: Scene, identifier: str) -> None:
    """As if the operator had not been heard of in time, before they are heard of again."""

    def freed() -> bool:
        held = scene.store.handoffs.get(identifier)
        assert held is not None
        if held.state == "waiting":
            return True
        scene.store.handoffs.hold(identifier, key=held.operator_key, lease=now_us() - 1)
        scene.fairlead.assistant.desk.free()
        return False

    await_true(freed, "it is given back")


def test_from_the_call_to_the_rating(
    customer: Page, watched: Watched, logins: dict[str, list[Any]], scene: Scene
) -> None:
    ada, jonas = person(watched, logins, "Ada"), person(watched, logins, "Jonas")
    call(customer, RETURNS)
    row = ada.locator("tr", has_text=RETURNS)
    expect(row).to_be_visible()  # by itself, without a reload
    expect(row.locator("[data-due]")).to_contain_text("left")
    expect(ada.get_by_role("link", name=re.compile("Inbox"))).to_contain_text("1")
    take(ada, RETURNS)
    expect(jonas.get_by_role("heading", name="With colleagues")).to_be_visible()
    expect(jonas.locator("tr", has_text=RETURNS)).to_contain_text("Ada")
    expect(customer.locator("#who")).to_have_text("You are talking with Ada, a person of our team.")
    expect(said(customer, "Ada, a person of our team, is here now.")).to_have_count(1)
    expect(ada.locator("#proposed")).to_contain_text("30 days")  # proposed without asking, and not sent
    expect(customer.locator(".message.operator")).to_have_count(0)
    ada.get_by_role("link", name="Use and edit").click()
    field = ada.get_by_label(REPLY)
    expect(field).to_be_focused()
    expect(field).to_have_value(re.compile("30 days"))
    field.fill("Within 30 days, and I can make it 40 for you. " + HOSTILE)
    ada.keyboard.press("Control+Enter")
    expect(customer.locator(".message.operator .text")).to_have_text(
        "Within 30 days, and I can make it 40 for you. " + HOSTILE
    )
    expect(customer.locator(".message.operator .author")).to_have_text("Ada, a person of our team")
    ask(customer, "Wonderful, how do I start?")
    expect(ada.locator("#transcript")).to_contain_text("Wonderful, how do I start?")
    expect(ada.locator("#transcript .said.user")).to_have_count(2)
    ada.get_by_label("Outcome").select_option("resolved")
    ada.get_by_label("Note").fill("Forty days, as an exception")
    ada.get_by_role("button", name="Close the conversation").click()
    ada.wait_for_url("**/console/inbox")
    expect(ada.get_by_role("heading", name="Ended in the last 24 hours")).to_be_visible()
    expect(customer.get_by_text("This conversation is closed.")).to_be_visible()
    expect(customer.get_by_label("Your message")).to_be_hidden()
    rating = customer.get_by_role("region", name="Your rating")
    expect(rating).to_be_visible()
    rating.get_by_role("radio", name="4 of 5").check(force=True)
    rating.get_by_role("radio", name="Yes").check()
    rating.get_by_role("button", name="Send rating").click()
    expect(customer.get_by_role("status").filter(has_text="Thank you")).to_be_visible()
    customer.reload()
    customer.wait_for_selector("html[data-ready]")
    customer.wait_for_timeout(2_000)
    expect(rating).to_be_hidden()
    scene.fairlead.assistant.outcomes.refresh()
    outcome = scene.store.outcomes.get(conversation(customer))
    assert outcome is not None
    assert (outcome.csat, outcome.confirmed, outcome.ending, outcome.reached_person) == (
        4,
        "customer",
        "resolved",
        True,
    )
    customer.get_by_role("button", name="Start a new one").click()
    expect(customer.get_by_label("Your message")).to_be_focused()
    assert customer.evaluate("window.hacked") is None
    assert ada.evaluate("window.hacked") is None


def test_two_press_take_at_once(customer: Page, watched: Watched, logins: dict[str, list[Any]]) -> None:
    watched.expected.append("409")
    call(customer, "What are your opening hours?")
    ada, jonas = (person(watched, logins, name, news=False) for name in ("Ada", "Jonas"))
    buttons = [page.locator("tr", has_text="opening hours").get_by_role("button", name="Take") for page in (ada, jonas)]
    for button in buttons:
        button.evaluate("button => setTimeout(() => button.click(), 100)")
    for page in (ada, jonas):
        page.wait_for_url(re.compile("/console/inbox/[0-9a-f-]{36}"))
    holders = [page for page in (ada, jonas) if page.get_by_label(REPLY).is_visible()]
    assert len(holders) == 1
    other = jonas if holders[0] is ada else ada
    name = "Ada" if holders[0] is ada else "Jonas"
    expect(other.get_by_role("alert")).to_contain_text(f"{name} has this conversation")


def test_closing_the_tab_gives_it_back_and_keeps_what_was_typed(
    customer: Page, watched: Watched, logins: dict[str, list[Any]], scene: Scene
) -> None:
    ada = person(watched, logins, "Ada")
    call(customer, "Do you ship to Norway?")
    take(ada, "Norway")
    ada.get_by_label(REPLY).fill("We do, for 12 euros and")
    expect(ada.locator("#kept")).to_contain_text("Draft kept")
    ada.reload()  # quicker than the grace time: still hers, and still typed
    holds(ada)
    expect(ada.get_by_label(REPLY)).to_have_value("We do, for 12 euros and")
    ada.get_by_label(REPLY).press_sequentially(" it takes")
    ada.close()
    handoff = scene.store.handoffs.of(conversation(customer))
    assert handoff is not None
    jonas = person(watched, logins, "Jonas")

    def left() -> bool:
        kept = scene.store.handoffs.get(handoff.id)
        assert kept is not None
        return kept.draft == "We do, for 12 euros and it takes" and kept.lease - now_us() < 16e6

    await_true(left, "what a page says when it is closed arrives")
    free(scene, handoff.id)
    take(jonas, "Norway")
    expect(jonas.get_by_label(REPLY)).to_have_value("We do, for 12 euros and it takes")
    expect(said(customer, "Ada has left. You keep your place in line")).to_have_count(1)
    expect(customer.locator("#who")).to_contain_text("Jonas")


def test_an_operator_whose_hold_is_gone_is_told_and_loses_no_word(
    customer: Page, watched: Watched, logins: dict[str, list[Any]], scene: Scene
) -> None:
    watched.expected.append("409")
    ada = person(watched, logins, "Ada")
    call(customer, "Do you repair tents?")
    take(ada, "repair tents")
    handoff = scene.store.handoffs.of(conversation(customer))
    assert handoff is not None
    ada.get_by_label(REPLY).fill("Yes, all of them, in Hamburg")
    expect(ada.locator("#kept")).to_contain_text("Draft kept")
    free(scene, handoff.id)
    expect(ada.get_by_role("button", name="Take over")).to_be_visible()
    expect(ada.get_by_role("alert")).to_contain_text("You typed, but did not send: Yes, all of them, in Hamburg")
    ada.get_by_role("button", name="Take over").click()
    holds(ada)
    expect(ada.get_by_label(REPLY)).to_have_value("Yes, all of them, in Hamburg")


def test_two_windows_of_one_conversation_see_the_same_in_the_same_order(
    customer: Page, watched: Watched, logins: dict[str, list[Any]], scene: Scene
) -> None:
    ask(customer, RETURNS)
    expect(customer.locator(".judge:visible")).to_have_count(1)
    second = customer.context.new_page()
    ready(second)
    expect(said(second, RETURNS)).to_have_count(1)
    for number, page in enumerate((customer, second, customer)):
        ask(page, f"Question {number}: do you sell tents?")
        for window in (customer, second):
            expect(window.locator(".judge:visible")).to_have_count(number + 2)
    customer.get_by_role("button", name="Talk to a person").click()
    expect(second.locator("#state")).to_contain_text("in line")
    expect(second.get_by_role("button", name="Talk to a person")).to_be_disabled()
    ada = person(watched, logins, "Ada")
    take(ada, RETURNS)
    say(ada, "Hello both windows")
    for window in (customer, second):
        expect(said(window, "Hello both windows")).to_have_count(1)
    both = [window.locator(".message .text").all_inner_texts() for window in (customer, second)]
    assert both[0] == both[1]
    customer.reload()
    customer.wait_for_selector("html[data-ready]")
    assert customer.locator(".message .text").all_inner_texts() == both[0]
    stored = [each.text for each in scene.store.conversations.messages(conversation(customer)) if each.text]
    assert [text.replace("\xa0", " ") for text in both[0]] == stored


def test_what_a_person_says_while_the_connection_is_gone_comes_later_and_once(
    customer: Page, watched: Watched, logins: dict[str, list[Any]], scene: Scene
) -> None:
    watched.expected.append("ERR_INTERNET_DISCONNECTED")
    ada = person(watched, logins, "Ada")
    call(customer, "Is there a shop in Munich?")
    take(ada, "Munich")
    expect(customer.locator("#who")).to_contain_text("Ada")
    customer.context.set_offline(True)
    for number in range(3):
        say(ada, f"part {number}")
        expect(ada.locator("#transcript")).to_contain_text(f"part {number}")
    customer.context.set_offline(False)
    for number in range(3):
        expect(said(customer, f"part {number}")).to_have_count(1)
    assert customer.locator(".message.operator .text").all_inner_texts() == ["part 0", "part 1", "part 2"]
    ada.context.set_offline(True)
    ada.get_by_label(REPLY).fill("not yet")
    ada.keyboard.press("Control+Enter")
    expect(ada.get_by_role("alert")).to_contain_text("Not sent")
    ada.context.set_offline(False)
    ada.get_by_role("button", name="Send", exact=True).click()
    expect(said(customer, "not yet")).to_have_count(1)


def test_an_operator_who_types_on_while_it_is_sent_says_all_of_it_once(
    customer: Page, watched: Watched, logins: dict[str, list[Any]], scene: Scene
) -> None:
    """The next answer is sent before the last one has arrived; then one arrives and its receipt is lost."""
    watched.expected.append("ERR_FAILED")
    ada = person(watched, logins, "Ada")
    call(customer, "Do you sell canoes?")
    take(ada, "canoes")
    held: list[Route] = []
    ada.route("**/reply", lambda route: held.append(route))
    field = ada.get_by_label(REPLY)

    def press(text: str) -> None:
        field.fill(text)
        ada.keyboard.press("Control+Enter")

    def sent(number: int) -> Route:
        while len(held) < number:
            ada.wait_for_timeout(20)
        return held[number - 1]

    press("one")
    first = sent(1)
    press("two")
    first.continue_()
    sent(2).continue_()
    expect(field).to_have_value("")
    press("three")
    third = sent(3)
    third.fetch()
    third.abort()
    expect(ada.get_by_role("alert")).to_contain_text("Not sent")
    field.press("Control+Enter")  # the same again: it is known already
    sent(4).continue_()
    expect(field).to_have_value("")
    press("four")
    fifth = sent(5)
    fifth.fetch()
    fifth.abort()
    expect(ada.get_by_role("alert")).to_contain_text("Not sent")
    press("four, and a half")  # other words: they are said as well
    sent(6).continue_()
    expect(field).to_have_value("")
    stored = scene.store.conversations.messages(conversation(customer))
    said_so = [each.text for each in stored if each.role == "operator"]
    assert said_so == ["one", "two", "three", "four", "four, and a half"]
    expect(customer.locator(".message.operator .text")).to_have_text(said_so)


def _propose(scene: Scene, identifier: str, state: Any = "proposed") -> Action:
    found = scene.store.conversations.get(identifier)
    assert found is not None
    action = scene.store.actions.create(
        Action(
            id=new_id(), time=now_us(), tenant=found.tenant, subject=found.subject, usecase=found.usecase,
            spec_hash=found.spec_hash, release=found.release, conversation=identifier, tool="cancel_order",
            title="Cancel order TT-1", rows=(("Order", "TT-1"), ("Why", HOSTILE)), state=state, updated=now_us(),
        )
    )  # fmt: skip
    scene.store.conversations.update(identifier, state="open")
    return action


def test_a_card_asks_in_both_windows_and_one_answer_counts(customer: Page, scene: Scene) -> None:
    ask(customer, "Please cancel my order TT-730158. My e-mail address is theo.calloway@example.org")
    name = re.compile("Shall I cancel your order TT-730158")
    expect(customer.get_by_role("group", name=name)).to_be_visible()
    second = customer.context.new_page()
    ready(second)
    expect(second.get_by_role("group", name=name)).to_be_visible()
    customer.reload()
    customer.wait_for_selector("html[data-ready]")
    press = "() => { const [yes] = document.querySelectorAll('.confirm button'); yes.click(); yes.click(); }"
    customer.evaluate(press)
    expect(said(second, "is cancelled")).to_have_count(1)
    second.evaluate("() => document.querySelector('.confirm button')?.click()")
    for window in (customer, second):
        expect(window.locator(".confirm")).to_have_count(0)
        expect(said(window, "is cancelled")).to_have_count(1)
    actions = scene.store.actions.list(conversation=conversation(customer))
    assert [(action.state, action.actor) for action in actions] == [("done", "customer")]


def test_an_action_over_its_cap_is_rejected_from_the_inbox(
    customer: Page, scene: Scene, watched: Watched, logins: dict[str, list[Any]]
) -> None:
    ask(customer, RETURNS)
    expect(customer.locator(".judge:visible")).to_have_count(1)
    ada = person(watched, logins, "Ada")
    action = _propose(scene, conversation(customer), "awaiting_approval")
    card = ada.get_by_role("article", name="Cancel order TT-1")
    expect(card).to_be_visible()
    card.get_by_label("Note").fill("not in time")
    card.get_by_role("button", name="Reject").click()
    expect(card).to_have_count(0)
    moved = scene.store.actions.get(action.id)
    assert moved is not None
    assert moved.state == "rejected"


def test_the_rating_is_asked_for_when_nothing_is_said_and_never_again(customer: Page, scene: Scene) -> None:
    ask(customer, RETURNS)
    rating = customer.get_by_role("region", name="Your rating")
    expect(rating).to_be_visible()
    expect(customer.get_by_label("Your message")).to_be_focused()  # it takes nobody's keyboard away
    rating.get_by_role("button", name="Not now").click()
    expect(rating).to_be_hidden()
    ask(customer, "Do you sell tents?")
    expect(customer.locator(".judge:visible")).to_have_count(2)
    customer.wait_for_timeout(2_500)
    expect(rating).to_be_hidden()
    second = customer.context.new_page()
    ready(second)
    second.wait_for_timeout(2_500)
    expect(second.get_by_role("region", name="Your rating")).to_be_hidden()


@pytest.mark.parametrize(
    "text",
    [
        "👩‍👩‍👧‍👦🏳️‍🌈 " * 50,
        "שלום, מתי המשלוח שלי מגיע?",
        "متى يصل طلبي؟ 123",
        "<b>bold</b> & &amp; " + HOSTILE,
        "a\u202eb\u0000c",
    ],
)
def test_strange_messages_arrive_as_they_are(
    customer: Page, watched: Watched, logins: dict[str, list[Any]], scene: Scene, text: str
) -> None:
    ask(customer, text)
    expect(customer.locator(".judge:visible")).to_have_count(1)
    customer.get_by_role("button", name="Talk to a person").click()
    expect(customer.locator("#state")).to_contain_text("in line")
    handoff = scene.store.handoffs.of(conversation(customer))
    assert handoff is not None
    ada = person(watched, logins, "Ada", f"/console/inbox/{handoff.id}")
    shown = ada.locator("#transcript .said.user .text").first.inner_text().strip()
    written = customer.locator(".message.user .text").inner_text()
    assert shown == plain(written).strip()  # but for what turns pages around
    ada.get_by_role("button", name="Take over").click()
    holds(ada)
    say(ada, text)
    expect(customer.locator(".message.operator")).to_have_count(1)
    for page in (ada, customer):
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_100_kilobytes_are_refused_in_a_sentence_and_stay_in_the_field(customer: Page) -> None:
    field = customer.get_by_label("Your message")
    field.fill("x" * 100_000)
    expect(customer.locator("#state")).to_contain_text("100,000 characters; 4,000 are possible")
    customer.keyboard.press("Enter")
    expect(customer.locator(".message.user")).to_have_count(0)
    assert len(field.input_value()) == 100_000
    assert customer.evaluate("document.documentElement.scrollWidth <= innerWidth")
    field.fill(RETURNS)
    expect(customer.locator("#state")).to_have_text("")
    customer.keyboard.press("Enter")
    expect(customer.locator(".judge:visible")).to_have_count(1)


def test_a_rating_in_one_window_closes_the_question_in_the_other(customer: Page) -> None:
    ask(customer, RETURNS)
    question = "Your rating"
    expect(customer.get_by_role("region", name=question)).to_be_visible()
    second = customer.context.new_page()
    ready(second)
    expect(second.get_by_role("region", name=question)).to_be_visible()
    second.get_by_role("region", name=question).get_by_label("5 of 5, very").check(force=True)
    second.get_by_role("button", name="Send rating").click()
    expect(customer.get_by_role("region", name=question)).to_be_hidden()


def test_whoever_waits_reads_that_a_person_comes_and_not_an_ai(customer: Page) -> None:
    ask(customer, RETURNS)
    customer.get_by_role("button", name="Talk to a person").click()
    expect(customer.locator("#who")).to_have_text("You are waiting for a person of our team.")
    ask(customer, "never mind")
    expect(customer.locator("#who")).to_contain_text("You are talking to an AI")


def test_without_javascript_a_person_can_be_called_and_can_answer(
    watched: Watched, logins: dict[str, list[Any]], scene: Scene
) -> None:
    customer, ada = watched.page(java_script_enabled=False), watched.page(java_script_enabled=False)
    customer.goto("/chat")
    customer.get_by_label("Your message").fill("How much is gift wrapping?")
    customer.get_by_role("button", name="Send", exact=True).click()
    customer.get_by_role("button", name="Talk to a person").click()
    ada.context.add_cookies(logins["Ada"])
    ada.goto("/console/inbox")
    ada.locator("tr", has_text="gift wrapping").get_by_role("button", name="Take").click()
    ada.get_by_label(REPLY).fill("Three euros.")
    ada.get_by_role("button", name="Send", exact=True).click()
    customer.get_by_label("Your message").fill("Thanks")
    customer.get_by_role("button", name="Send", exact=True).click()
    expect(said(customer, "Three euros.")).to_have_count(1)
    expect(customer.locator("#who")).to_contain_text("Ada, a person of our team")
    ada.get_by_role("button", name="Close the conversation").click()
    ada.wait_for_url("**/console/inbox")
    for _ in range(2):
        watched.contexts.pop().close()


@pytest.mark.parametrize("width", [320, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phones_show_it_without_sideways_scrolling_and_axe_finds_nothing(
    watched: Watched, logins: dict[str, list[Any]], scene: Scene, width: int, scheme: Any
) -> None:
    size: Any = {"width": width, "height": 640}
    customer = watched.page(viewport=size, color_scheme=scheme, bypass_csp=True)
    ready(customer)
    call(customer, RETURNS)
    ada = watched.page(viewport=size, color_scheme=scheme, bypass_csp=True)
    ada.context.add_cookies(logins["Ada"])
    ada.goto("/console/inbox")
    found: dict[str, list[str]] = {}

    def check(name: str, page: Page) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        violations = Axe().run(page).response["violations"]
        if violations:
            found[name] = [f"{each['id']}: {node['html'][:120]}" for each in violations for node in each["nodes"]]

    check("inbox", ada)
    handoff = scene.store.handoffs.of(conversation(customer))
    assert handoff is not None
    ada.goto(f"/console/inbox/{handoff.id}")
    ada.get_by_role("button", name="Take over").click()
    holds(ada)
    expect(ada.locator("#proposed")).to_be_visible()
    check("taken", ada)
    ada.get_by_label(REPLY).fill("Hello")
    ada.get_by_role("button", name="Send", exact=True).click()
    expect(customer.locator(".message.operator")).to_have_count(1)
    check("with a person", customer)
    ada.get_by_role("button", name="Close the conversation").click()
    expect(customer.get_by_role("region", name="Your rating")).to_be_visible()
    check("rating", customer)
    assert found == {}
