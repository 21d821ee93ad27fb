"""The console as operators meet it: login, keys, tables, charts, phones; and axe-core over every kind of page."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from fairlead.cli import main
from tests.browser.conftest import Watched
from tests.browser.test_chat_page import COMMENTED, RETURNS, ask, done, ready
from tests.console.scene import HOSTILE, UNREACHABLE, Scene
from tests.console.test_choose import QUESTIONS

pytestmark = pytest.mark.browser

STEPS = ["/define", "/choose", "/deploy", "/tune", "/improve", "/govern", "/scale"]
PAGES = ["", *STEPS, "/conversations", "/inbox", "/traces"]


@pytest.fixture(scope="module")
def busy(scene: Scene, browser: object) -> str:
    """Some life in the shop; returns the id of a conversation with an answer, feedback and a failure."""
    watched = Watched(browser, scene.url)  # type: ignore[arg-type]
    page = watched.page()
    ready(page)
    ask(page, RETURNS)
    done(page)
    message = page.locator(".message.assistant").last
    message.get_by_role("button", name="Not helpful").click()
    message.get_by_label("What was wrong?").fill("wrong " + HOSTILE)
    message.get_by_role("button", name="Send comment").click()
    expect(message.get_by_role("status")).to_have_text(COMMENTED)
    with scene.scripted(UNREACHABLE):
        ask(page, "and parcels?")
        expect(page.get_by_role("button", name="Send", exact=True)).to_be_enabled()
    page.get_by_role("button", name="Talk to a person").click()
    expect(page.locator("#state")).to_contain_text("in line")
    identifier = str(page.evaluate("JSON.parse(localStorage.getItem('fairlead-chat')).id"))
    scene.recorded(identifier, 3)
    watched.contexts[0].close()
    return identifier


def test_login_wrong_key_logout(page: Page, scene: Scene, watched: Watched) -> None:
    watched.expected.append("401")
    page.goto("/console/conversations?range=7d")
    page.get_by_label("API key").fill("fl-wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("needs the scope admin")
    page.get_by_label("API key").fill(scene.key)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/conversations?range=7d")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/console/login")
    page.goto("/console")
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_revoked_key_ends_its_session_at_once(page: Page, scene: Scene) -> None:
    key, secret = scene.store.keys.create("leaver", ("admin",))
    page.goto("/console/login")
    page.get_by_label("API key").fill(secret)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console")
    scene.store.keys.revoke(key.id)
    page.goto("/console/conversations")
    expect(page.get_by_label("API key")).to_be_visible()


def test_from_the_overview_to_a_conversation_to_its_trace(desk: Page, busy: str) -> None:
    expect(desk.get_by_role("heading", level=1)).to_contain_text("answers in the last 24 hours")
    expect(desk.locator("figure.chart > svg")).to_have_count(2)
    desk.get_by_text("The numbers behind the charts").click()
    expect(desk.get_by_role("region", name="Numbers behind the charts")).to_be_visible()
    desk.locator(".rows").get_by_role("link", name=RETURNS).first.click()
    expect(desk.get_by_role("heading", level=1)).to_have_text(RETURNS)
    expect(desk.locator(".judgement").filter(has_text="wrong <img")).to_be_visible()
    desk.goto(f"/console/conversations/{busy}")
    desk.locator("details.trace summary").first.click() if not desk.locator(
        "table.waterfall"
    ).first.is_visible() else None
    expect(desk.locator("table.waterfall").first).to_contain_text("authenticate")
    desk.get_by_role("link", name="This trace on its own page").first.click()
    expect(desk.get_by_role("heading", level=1)).to_contain_text("assistant by shop-support")
    desk.get_by_text("Output (masked)").click()
    expect(desk.locator("details[open] pre")).to_contain_text('"sources"')
    assert desk.evaluate("window.hacked") is None


def test_keys_move_search_and_help(desk: Page, busy: str) -> None:
    desk.goto("/console/conversations")
    desk.keyboard.press("?")
    expect(desk.get_by_role("dialog", name="Keys")).to_be_visible()
    desk.keyboard.press("Escape")
    expect(desk.get_by_role("dialog", name="Keys")).to_be_hidden()
    desk.keyboard.press("j")
    desk.keyboard.press("j")
    desk.keyboard.press("k")
    first = desk.locator("tr[data-row]").first
    expect(first).to_have_class(re.compile("at"))
    expect(first.get_by_role("link")).to_be_focused()
    desk.keyboard.press("/")
    search = desk.get_by_role("searchbox")
    expect(search).to_be_focused()
    desk.keyboard.type("return an item")
    desk.keyboard.press("Enter")
    desk.wait_for_url("**q=return*")
    expect(desk.get_by_role("heading", level=1)).to_contain_text("with “return an item”")
    desk.keyboard.press("j")
    desk.keyboard.press("Enter")
    desk.wait_for_url("**/console/conversations/0*")


def test_tables_sort_by_number_and_by_word(desk: Page, busy: str) -> None:
    desk.goto("/console/traces")
    head = desk.get_by_role("columnheader", name="Total, ms")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    column = desk.locator("tbody td:nth-child(6)")
    numbers = [float(text.replace("\u202f", "")) for text in column.all_inner_texts() if text != "–"]
    assert numbers == sorted(numbers)
    assert len(numbers) > 1
    head.get_by_role("button").click()
    numbers = [float(text.replace("\u202f", "")) for text in column.all_inner_texts() if text != "–"]
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.parametrize("width", [320, 375])
def test_traces_fit_a_phone(watched: Watched, login: list[Any], busy: str, width: int) -> None:
    page = watched.page(viewport={"width": width, "height": 700})
    page.context.add_cookies(login)
    page.goto("/console/traces")
    table = page.get_by_role("region", name="Traces")
    wide, room = table.evaluate("(region) => [region.scrollWidth, region.clientWidth]")
    assert wide <= room, "what stands in a row can be read without moving the table"
    heads = [head for head in page.locator("thead th").all() if head.is_visible()]
    assert [head.inner_text() for head in heads] == ["Time (UTC)", "Variant", "Status", "Total, ms"]
    heights = page.locator("tbody td:nth-child(3)").evaluate_all(
        "(cells) => cells.map((cell) => { const text = document.createRange(); text.selectNodeContents(cell);"
        " return text.getClientRects().length })"
    )
    assert set(heights) == {1}, "no name is broken over lines"


def test_the_console_works_without_javascript(watched: Watched, login: list[Any], busy: str) -> None:
    page = watched.page(java_script_enabled=False)
    page.context.add_cookies(login)
    page.goto("/console/conversations?q=return")
    page.get_by_role("link", name=RETURNS).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(RETURNS)
    watched.contexts.pop().close()


@pytest.fixture(scope="module")
def measured(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The pages of a real selection: its run, a comparison, and the answers of one candidate."""
    file = tmp_path_factory.mktemp("measured") / "questions.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in QUESTIONS), encoding="utf-8")
    project = ("--project", str(scene.fairlead.settings.project))
    wanted = ("--candidates", "extractive,baseline:retrieval", "--data", "asked", "--scorer", "similarity")
    adding = ("data", "add", "asked", str(file), "--purpose", "eval", "--licence", "CC0-1.0")
    with ThreadPoolExecutor(1) as beside:  # the browser's own loop runs in this thread
        for words in (adding, ("select", *wanted)):
            with pytest.raises(SystemExit):
                beside.submit(main, [*words, *project]).result()
    run = scene.store.runs.list(since=0, until=1 << 60)[0].id
    sides = f"before={run}:extractive&after={run}:baseline:retrieval"
    return [
        f"/choose/{run}", f"/choose/compare?{sides}&show=all", f"/choose/{run}/answers?candidate=extractive",
        f"/choose/{run}/answers?candidate=extractive&show=failed", "/choose?data=asked@1",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [320, 768])
def test_no_page_scrolls_sideways(
    watched: Watched, login: list[Any], busy: str, measured: list[str], width: int
) -> None:
    page = watched.page(viewport={"width": width, "height": 700})
    page.context.add_cookies(login)
    for path in [*PAGES, *measured, f"/conversations/{busy}"]:
        page.goto(f"/console{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_a_phone_breaks_no_name_and_hides_no_button(
    watched: Watched, login: list[Any], busy: str, measured: list[str]
) -> None:
    page = watched.page(viewport={"width": 375, "height": 700})
    page.context.add_cookies(login)
    lines = (
        "(each) => { const text = document.createRange(); text.selectNodeContents(each);"
        " return new Set([...text.getClientRects()].map((box) => Math.round(box.top))).size }"
    )
    page.goto("/console/choose")
    runs = page.get_by_role("region", name="Runs")
    assert runs.locator("tbody a").first.evaluate(lines) == 1
    inside = "(region) => region.scrollWidth <= region.clientWidth"
    assert runs.evaluate(inside), "the verdict is seen without scrolling"
    page.goto(f"/console{measured[2]}")
    label = page.locator(".filters label", has_text="Answers")
    assert label.evaluate(f"(each) => ({lines})(each.firstChild)") == 1
    page.goto(f"/console{measured[0]}")
    for name in ("Candidates", "Objectives"):
        assert page.get_by_role("region", name=name, exact=True).evaluate(inside), name
    assert page.locator(".pareto svg").evaluate("(drawn) => drawn.getBoundingClientRect().width") >= 640
    page.goto("/console/inbox")
    region = page.get_by_role("region", name="Waiting customers")
    box, room = region.get_by_role("button", name="Take").first.bounding_box(), region.bounding_box()
    assert box is not None
    assert room is not None
    assert box["x"] + box["width"] <= room["x"] + room["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    watched: Watched, scene: Scene, login: list[Any], busy: str, measured: list[str], scheme: str, axe: Axe
) -> None:
    # axe-core itself needs to write into the page, which the pages' own policy forbids.
    page = watched.page(color_scheme=scheme, bypass_csp=True, viewport={"width": 1280, "height": 800})
    found: dict[str, list[str]] = {}

    def check(name: str) -> None:
        results = axe.run(page)
        if results.violations_count:
            found[name] = [
                f"{violation['id']}: {node['html'][:120]}"
                for violation in results.response["violations"]
                for node in violation["nodes"]
            ]

    for path in ("/chat", "/widget"):
        ready(page, path)
        ask(page, RETURNS)
        done(page)
        page.locator(".sources summary").first.click()
        page.get_by_role("button", name="Not helpful").click()
        check(path)
        page.get_by_role("link", name="Start again").click()
    page.goto("/console/login")
    check("login")
    page.context.add_cookies(login)
    trace = scene.store.traces.query(since=0, until=1 << 60, conversation=busy, limit=1)[0].id
    for path in [
        *PAGES,
        *measured,
        f"/conversations/{busy}",
        f"/traces/{trace}",
        "/traces/nope",
        "/conversations?q=nothing-like-it",
    ]:
        page.goto(f"/console{path}")
        check(path)
    assert found == {}
    watched.expected.append("404")


@pytest.fixture
def axe() -> Axe:
    """axe-core, from the package (nothing is fetched)."""
    return Axe()
