"""Makes the pictures of docs/console.md: a shop is served, customers ask, an operator answers. Needs Chromium.

Run it from the repository: ``.venv/bin/python docs/screenshots.py``. Nothing is fetched; the shop is a copy.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright, expect

from fairlead.cli.serve import running
from fairlead.settings import load

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "pictures"
MOST_BYTES = 150_000
ORDER = "Where is my order TT-482913? I ordered with mira.holm@example.com"
QUESTIONS = (
    "How many days do I have to return an item?",
    ORDER,
    "What are your opening hours?",
    "Who is the president of France?",
)
ARGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


async def ask(page: Page, questions: tuple[str, ...]) -> None:
    """Ask one after the other and wait for each answer."""
    for number, question in enumerate(questions, 1):
        await page.get_by_label("Your message").fill(question)
        await page.keyboard.press("Enter")
        await expect(page.locator(".judge:visible")).to_have_count(number)


async def take(browser: Browser, url: str, key: str) -> None:
    """Every picture."""
    phone = await browser.new_page(viewport={"width": 360, "height": 640}, color_scheme="dark")
    await phone.goto(f"{url}/chat")
    await phone.wait_for_selector("html[data-ready]")
    await ask(phone, (ORDER,))
    await phone.screenshot(path=TARGET / "chat.png")
    desk = await browser.new_page(viewport={"width": 1120, "height": 700}, base_url=url)
    for _ in range(3):
        await desk.goto("/chat")
        await desk.wait_for_selector("html[data-ready]")
        await ask(desk, QUESTIONS)
        await desk.get_by_role("button", name="Not helpful").last.click()
        await expect(desk.locator(".message").last.get_by_role("status")).to_contain_text("Thank you")
        await desk.get_by_role("link", name="Start again").click()
    await desk.goto("/console/login")
    await desk.get_by_label("API key").fill(key)
    await desk.keyboard.press("Enter")
    await desk.wait_for_url("**/console")
    await desk.goto("/console?range=1h")
    await desk.screenshot(path=TARGET / "overview.png")
    await desk.locator("section[aria-labelledby=latest] .rows a").last.click()
    await desk.screenshot(path=TARGET / "conversation.png")


async def hand_over(browser: Browser, url: str, key: str) -> None:
    """The inbox, taking over, and what the customer sees of it."""
    customers = []
    for question in (QUESTIONS[0], "Can I get a discount for 30 lanterns for our wedding?", "Do you ship to Norway?"):
        page = await (await browser.new_context(viewport={"width": 360, "height": 640})).new_page()
        await page.goto(f"{url}/chat")
        await page.wait_for_selector("html[data-ready]")
        await ask(page, (question,))
        await page.get_by_role("button", name="Talk to a person").click()
        await expect(page.locator("#state")).to_contain_text("in line")
        customers.append(page)
    desk = await (await browser.new_context(viewport={"width": 1040, "height": 620}, base_url=url)).new_page()
    await desk.goto("/console/login?next=/console/inbox")
    await desk.get_by_label("API key").fill(key)
    await desk.keyboard.press("Enter")
    await desk.wait_for_selector("[data-following]")
    await desk.screenshot(path=TARGET / "inbox.png")
    await desk.get_by_role("button", name="Take").first.click()
    await expect(desk.locator("#proposed")).to_be_visible()
    await desk.get_by_role("link", name="Use and edit").click()
    await desk.screenshot(path=TARGET / "handoff.png")
    await desk.get_by_label("Answer as").fill(
        "30 days from delivery. For gifts we make it 60: just tell us the order number."
    )
    await desk.get_by_role("button", name="Send", exact=True).click()
    await expect(customers[0].locator(".message.operator")).to_have_count(1)
    await customers[0].screenshot(path=TARGET / "chat-person.png")


async def main() -> int:
    """0 when every picture is there and small."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("There is no Chromium. Install one: apt-get install chromium", file=sys.stderr)
        return 1
    TARGET.mkdir(exist_ok=True)
    expect.set_options(timeout=30_000)
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "shop"
        shutil.copytree(ROOT / "examples" / "shop", project, ignore=shutil.ignore_patterns(".fairlead", "__pycache__"))
        spec = project / "fairlead.yaml"  # whenever the pictures are made, someone is there
        spec.write_text(spec.read_text(encoding="utf-8").replace("Mon-Fri 09:00-17:00", "24/7"), encoding="utf-8")
        settings = load({"project": project, "port": 0, "chat_per_minute": 1_000}, {})
        async with running(settings) as (fairlead, url), async_playwright() as playwright:
            key = fairlead.store.keys.create("ada", ("admin",))[1]
            browser = await playwright.chromium.launch(executable_path=chromium, args=list(ARGS))
            await take(browser, url, key)
            await hand_over(browser, url, fairlead.store.keys.create("Ada", ("operator",))[1])
            await browser.close()
    large = [path.name for path in TARGET.glob("*.png") if path.stat().st_size > MOST_BYTES]
    for name in large:
        print(f"{name} is larger than {MOST_BYTES} bytes", file=sys.stderr)
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
