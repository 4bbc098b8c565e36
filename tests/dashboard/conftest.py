"""A real browser on real servers: Debian's Chromium, driven by Playwright, which must not bring a browser of its own.

The browser lives for the whole session on a loop of its own scope; servers live in threads, so that neither waits for the other. Whatever
a page says in its console, and every violation of its Content-Security-Policy, fails the test, unless the test said that it would come.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import jobqueue
from jobqueue.testing import server_in_thread

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

HERE = Path(__file__).parent

try:
    from playwright.async_api import Browser, Page, async_playwright, expect
except ImportError:
    expect = None  # type: ignore[assignment] # nothing that uses it is run then
    MISSING = "Playwright is not installed; `pip install -e '.[test]'` brings it"
else:
    MISSING = "" if Path(CHROMIUM).exists() else "there is no Chromium; `apt-get install chromium` brings it"
    expect.set_options(timeout=15_000)

Open = Callable[..., Awaitable["Page"]]

WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where there is no browser, the tests that need one are skipped, and say what is missing."""
    for item in items:
        if item.path.is_relative_to(HERE) and MISSING and "open_page" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=MISSING))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests."""
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        await found.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server for a module's tests; each uses queues of its own."""
    with server_in_thread() as url:
        yield url


@pytest.fixture
def own_url() -> Iterator[str]:
    """A server for one test. It must be asked for before `open_page`, so that it outlives the pages."""
    with server_in_thread() as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[jobqueue.Client]:
    """Another client of the same server."""
    with jobqueue.Client(url, token="") as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser) -> AsyncIterator[Open]:
    """Opens pages, each in a context of its own; afterwards no page may have complained.

    open_page(url, path="/", view="#/", width=1200, expected=("401",), **options of the context): expected are texts that the console may
    say, since the browser itself reports every refused request there.
    """
    contexts = []
    complaints: list[str] = []

    async def opened(
        url: str, view: str = "#/", *, path: str = "/", width: int = 1200, expected: tuple[str, ...] = (), script: str = "", **options: Any
    ) -> Page:
        context = await browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        await context.add_init_script(WATCH)
        if script:
            await context.add_init_script(script)
        page = await context.new_page()

        def complain(kind: str, text: str) -> None:
            if not any(part in text for part in expected):
                complaints.append(f"{kind}: {text}")

        page.on("console", lambda message: complain(message.type, message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complain("exception", str(error)))
        page.on("dialog", lambda dialog: complain("dialog", dialog.message))
        await page.goto(f"{url}{path}{view}")
        return page

    yield opened
    for context in contexts:
        for page in context.pages:
            complaints += await page.evaluate("window.violations")
        await context.close()
    assert complaints == []
