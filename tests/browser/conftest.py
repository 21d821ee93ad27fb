"""A real headless Chromium in front of a really running shop. Every page is watched: an error in its console, an
exception, or a breach of its content security policy fails the test that caused it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Frame, Page, expect, sync_playwright

from tests.console.scene import Scene, serve

expect.set_options(timeout=60_000)  # its own are five seconds, and this is a busy machine

ARGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW = "There is no Chromium for the browser tests. Install one: apt-get install chromium"
WATCH = """
window.breaches = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.breaches.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
});
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A shop that is served."""
    folder: Path = tmp_path_factory.mktemp("scene")
    policy = {"identity": {"secret": "env:SHOP_IDENTITY"}}
    with serve(folder, policy=policy, chat_per_minute=100_000, chat_streams=1_000) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a file; playwright keeps a loop running that other tests must not meet."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(HOW)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(ARGS))
        yield running
        running.close()


class Watched:
    """Opens contexts whose pages report what went wrong in them."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url
        self.contexts: list[BrowserContext] = []
        self.wrong: list[str] = []
        self.expected: list[str] = []

    def context(self, **options: Any) -> BrowserContext:
        """A fresh browser profile."""
        context = self._browser.new_context(base_url=self._url, **options)
        context.set_default_timeout(60_000)
        context.add_init_script(WATCH)
        context.on("page", self._watch)
        self.contexts.append(context)
        return context

    def page(self, **options: Any) -> Page:
        """A page in a fresh profile."""
        return self.context(**options).new_page()

    def _watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.wrong.append(f"exception: {error}"))
        page.on("console", lambda line: self.wrong.append(line.text) if line.type in ("error", "warning") else None)

    def verdict(self) -> list[str]:
        """What went wrong and was not expected."""
        for context in self.contexts:
            for page in context.pages:
                for frame in page.frames:
                    if frame.url.startswith("http"):
                        self.wrong += _breaches(frame)
        return [line for line in self.wrong if not any(words in line for words in self.expected)]


def _breaches(frame: Frame) -> list[str]:
    """What a frame has noted; asked again where it is on its way to another page."""
    while True:
        try:
            return list(frame.evaluate("window.breaches || []"))
        except Error as error:
            if "because of a navigation" not in str(error):
                raise


@pytest.fixture
def watched(browser: Browser, scene: Scene) -> Iterator[Watched]:
    """Pages that must stay without errors."""
    opened = Watched(browser, scene.url)
    yield opened
    wrong = opened.verdict()
    for context in opened.contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def page(watched: Watched) -> Page:
    """A page of ordinary size."""
    return watched.page(viewport={"width": 1280, "height": 800})


@pytest.fixture(scope="module")
def login(browser: Browser, scene: Scene) -> list[Any]:
    """The cookies of one login, for all tests: logins are limited per minute, as they should be."""
    context = browser.new_context(base_url=scene.url)
    page = context.new_page()
    page.goto("/console/login")
    page.get_by_label("API key").fill(scene.key)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/console")
    cookies = context.cookies()
    context.close()
    return list(cookies)


@pytest.fixture
def desk(watched: Watched, login: list[Any]) -> Page:
    """A page of a logged-in operator."""
    page = watched.page(viewport={"width": 1280, "height": 800})
    page.context.add_cookies(login)
    page.goto("/console")
    return page
