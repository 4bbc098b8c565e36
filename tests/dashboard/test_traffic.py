"""What an open page asks: little while nothing happens, nothing where nothing can change, of many queues only what changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from jobqueue import Client

from .conftest import Open, expect
from .test_overview import row

if TYPE_CHECKING:
    from playwright.async_api import Page, Response

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUEUES = 2_000

CLOCK = """
(() => {
  // Timers that the test lets run out, so that half a minute of a page is no half a minute of a test.
  const real = performance.now.bind(performance);
  let ahead = 0;
  let next = 1_000_000;
  const due = new Map();
  performance.now = () => real() + ahead;
  const begin = window.setTimeout.bind(window);
  window.setTimeout = (then, ms = 0, ...rest) => {
    if (ms < 500) return begin(then, ms, ...rest);
    due.set(++next, { then, at: performance.now() + ms });
    return next;
  };
  const end = window.clearTimeout.bind(window);
  window.clearTimeout = (timer) => due.delete(timer) || end(timer);
  let pending = 0;
  const ask = window.fetch.bind(window);
  window.fetch = async (url, init) => {
    if (String(url).endsWith("events")) return ask(url, init);
    pending++;
    try {
      const answer = await ask(url, init);
      await answer.clone().text();
      return answer;
    } finally {
      pending--;
    }
  };
  window.calm = async () => {
    for (let still = 0; still < 3; still = pending === 0 ? still + 1 : 0) await new Promise((then) => begin(then, 10));
  };
  window.pass = (ms) => {
    ahead += ms;
    for (const [timer, { then, at }] of [...due]) if (at <= performance.now()) due.delete(timer) && then();
  };
})();
"""
"""Timers of half a second and more run out only when the test calls `pass(ms)`; `calm()` waits until no request is under way."""


async def watched(
    open_page: Open, url: str, view: str, settled: Callable[[Page], Any], **options: Any
) -> tuple[Page, list[str], list[int]]:
    """A page on a clock of the test's own once it shows what it is to show; the paths that it asks for, and how many bytes it is sent."""
    asked: list[str] = []
    sizes: list[int] = []
    page = await open_page("about:", "blank", path="", script=CLOCK, **options)

    async def note(response: Response) -> None:
        if response.request.resource_type == "fetch":
            parts = urlsplit(response.url)
            asked.append(parts.path)
            if parts.path != "/events":
                sizes.append(int((await response.all_headers())["content-length"]))

    page.on("response", note)
    await page.goto(f"{url}/{view}")
    await settled(page)
    await expect(page.locator(".lights")).to_contain_text("Live")
    return page, asked, sizes


async def seconds(page: Page, number: int) -> None:
    """Let so many seconds pass for the page, each with all that it asks for."""
    for _ in range(number):
        await page.evaluate("pass(1000)")
        await page.evaluate("calm()")


async def test_an_idle_overview_asks_seldom(own_url: str, open_page: Open) -> None:
    """In half a minute in which nothing happens it looks three times, and each time is told that nothing changed."""
    with Client(own_url) as client:
        client.put_queue("idle")
    page, asked, sizes = await watched(open_page, own_url, "#/", lambda page: expect(row(page, "idle")).to_be_visible())
    await page.evaluate("calm()")
    asked.clear()
    sizes.clear()

    await seconds(page, 30)

    assert 2 <= asked.count("/queues") <= 4
    # The numbers of the next ten seconds, and the state of the server and its disk.
    assert all(asked.count(path) <= 4 for path in ("/history", "/stats"))
    assert set(asked) <= {"/queues", "/readyz", "/history", "/stats"}
    assert sum(sizes) < 20_000

    with Client(own_url) as client:
        client.enqueue(1, queue="idle")
    await page.evaluate("pass(1000)")
    await expect(row(page, "idle").locator("[data-label=Queued]")).to_have_text("1")


async def test_a_concluded_jobs_page_asks_for_nothing(own_url: str, open_page: Open) -> None:
    """Whatever other jobs do, until something happens to it."""
    with Client(own_url) as client:
        client.enqueue(1, id="over", queue="q")
        job = client.dequeue("q")
        assert job is not None
        client.conclude(job.id, job.lease.token, "failed", error="no", retry=False)
    page, asked, _ = await watched(
        open_page, own_url, "#/jobs/over", lambda page: expect(page.locator("main .badge")).to_have_text("failed")
    )
    await page.evaluate("calm()")
    asked.clear()

    with Client(own_url) as client:
        client.enqueue(1, queue="other")
        await seconds(page, 30)
        assert asked == []
        client.retry("over")
    await page.evaluate("pass(1000)")
    await expect(page.locator("main .badge")).to_have_text("queued")


async def test_a_job_that_is_not_known_is_asked_for_once(own_url: str, open_page: Open) -> None:
    """Until there is one of this id."""
    page, asked, _ = await watched(
        open_page,
        own_url,
        "#/jobs/nobody",
        lambda page: expect(page.get_by_text("There is no such job")).to_be_visible(),
        expected=("404",),
    )
    await seconds(page, 30)
    assert asked.count("/jobs/nobody") == 1

    with Client(own_url) as client:
        client.enqueue(1, id="nobody", queue="q")
    await page.evaluate("pass(1000)")
    await expect(page.locator("main .badge")).to_have_text("queued")


async def test_two_thousand_queues_are_sent_once(own_url: str, open_page: Open) -> None:
    """Then those that changed; the table shows them, those that were made and those that are gone."""
    with Client(own_url) as client:
        for number in range(QUEUES):
            client.put_queue(f"q-{number:04d}")
        page, _, sizes = await watched(open_page, own_url, "#/", lambda page: expect(row(page, "q-0000")).to_be_visible())
        await page.evaluate("calm()")
        assert sum(sizes) > QUEUES * 100
        sizes.clear()

        client.enqueue(1, queue="q-0007")
        client.delete_queue("q-0001")
        client.put_queue("a-new")
        # The longer a look took, the longer until the next one.
        await page.evaluate("pass(120_000)")
        await expect(row(page, "a-new")).to_be_visible()
        await expect(row(page, "q-0007").locator("[data-label=Queued]")).to_have_text("1")
        await expect(row(page, "q-0001")).to_have_count(0)
        await expect(page.get_by_text(re.compile(f"of {QUEUES:,}"))).to_be_visible()
        assert max(sizes) < 5_000
