"""100,000 jobs in the server: the page asks for pages, never for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from jobqueue import Client, NewJob
from jobqueue.testing import server_in_thread

from .conftest import Open, expect
from .test_overview import row

if TYPE_CHECKING:
    from playwright.async_api import Response

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

JOBS = 100_000
ANSWER_BYTES_MAX = 100_000
"""What one answer may have: a page of jobs, and not the list."""


@pytest.fixture(scope="module")
def crowded() -> Iterator[str]:
    """With the jobs that matter in the middle and at the bottom of all."""
    with server_in_thread() as url, Client(url) as client:
        client.enqueue("first", id="first", queue="crowd", type="rare")
        job = client.dequeue("crowd", worker="digger")
        assert job is not None
        for start in range(0, JOBS, 1_000):
            client.enqueue_batch(NewJob(number, queue="crowd") for number in range(start, start + 1_000))
        yield url


async def test_the_page_stays_small_with_many_jobs(crowded: str, open_page: Open) -> None:
    """Overview, queue and workers are shown, and no answer they ask for is larger than a page of jobs."""
    sizes: dict[str, int] = {}
    page = await open_page("about:", "blank", path="")

    async def note(response: Response) -> None:
        if response.request.resource_type == "fetch" and "/events" not in response.url:
            sizes[response.url] = int((await response.all_headers())["content-length"])

    page.on("response", note)
    await page.goto(crowded)
    await expect(row(page, "crowd").locator("[data-label=Queued]")).to_have_text("100,000")
    await row(page, "crowd").get_by_role("link").click()
    names = page.get_by_role("table", name="Jobs").get_by_role("rowheader")
    await expect(names).to_have_count(25)
    assert await page.locator("*").count() < 1_500
    await page.get_by_role("link", name="Workers").click()
    await expect(page.get_by_role("table", name="At work")).to_contain_text("digger")

    assert len(sizes) > 4
    assert max(sizes.values()) < ANSWER_BYTES_MAX


async def test_what_is_rare_is_found_behind_all_others(crowded: str, open_page: Open) -> None:
    """The server looks at 10,000 jobs a request; the page goes on from there, and lets its user go on further."""
    page = await open_page(crowded, "#/queues/crowd?type=rare")
    names = page.get_by_role("table", name="Jobs").get_by_role("rowheader")
    await expect(page.get_by_role("button", name="Look further")).to_be_visible()
    await page.get_by_role("button", name="Look further").click()
    await expect(names).to_have_text(["first"])


async def test_many_jobs_are_followed_live(crowded: str, open_page: Open) -> None:
    """A change among a hundred thousand is on the page as among three."""
    page = await open_page(crowded)
    await expect(row(page, "crowd")).to_be_visible()
    with Client(crowded) as client:
        client.enqueue("last", queue="late")
    await expect(row(page, "late").locator("[data-label=Queued]")).to_have_text("1")


async def test_rows_hold_still_and_are_chosen_among_many(crowded: str, open_page: Open) -> None:
    """A page of them is changed at once, and what another client did meanwhile is shown after that."""
    page = await open_page(crowded, "#/queues/crowd")
    names = page.get_by_role("table", name="Jobs").get_by_role("rowheader")
    await expect(names).to_have_count(25)
    await page.get_by_role("checkbox", name="Choose all shown").check()
    chosen = page.get_by_role("group", name="Chosen jobs")
    await expect(chosen).to_contain_text("25 chosen")
    with Client(crowded) as client:
        client.edit(await names.first.inner_text(), tags=["looked-at"])
    # No event tells of an edit: it is seen when the page looks by itself.
    await expect(chosen).to_contain_text("Paused: 1 change", timeout=60_000)
    await expect(page.get_by_role("link", name="looked-at")).to_have_count(0)
    await chosen.get_by_role("button", name="Edit…").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Priority").fill("6")
    await dialog.get_by_role("button", name="Change 25 jobs").click()
    await expect(chosen).to_contain_text("25 jobs changed")
    await expect(page.get_by_role("link", name="looked-at")).to_be_visible()
