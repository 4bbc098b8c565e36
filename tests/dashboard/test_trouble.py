"""Trouble is found whatever its age, and every reason for it is shown: failures, attempts, pauses, among thousands of queues."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from jobqueue import Client, NewJob

from .conftest import Open, expect
from .test_overview import row

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

BACKLOG = 40_000
QUEUES = 2_000


def fail(client: Client, queue: str, count: int = 1, **fields: Any) -> None:
    """The next attempts in a queue fail."""
    for _ in range(count):
        job = client.dequeue(queue)
        assert job is not None
        client.conclude(job.id, job.lease.token, "failed", error={"type": "OSError", "message": "disk full"}, **fields)


def add(client: Client, queue: str, count: int) -> None:
    """Jobs without ids of their own."""
    for start in range(0, count, 1_000):
        client.enqueue_batch(NewJob(number, queue=queue) for number in range(start, min(count, start + 1_000)))


async def items(page: Page) -> list[str]:
    """What the health banner lists."""
    return await page.get_by_role("region", name="Health").get_by_role("listitem").all_inner_texts()


async def test_a_backlog_hides_no_failure(own_url: str, open_page: Open) -> None:
    """Jobs that were created before forty thousand others fail today: the banner counts them, and the table below names them."""
    with Client(own_url) as client:
        add(client, "mail", 200)
        add(client, "bulk", BACKLOG)
        fail(client, "mail", 200, retry=False)

    page = await open_page(own_url)

    health = page.get_by_role("region", name="Health")
    await expect(health.get_by_role("listitem").first).to_have_text("mail 200 failed in the last 5 min")
    failures = page.get_by_role("table", name="Last failures")
    await expect(failures.get_by_role("row").filter(has_text="OSError: disk full")).to_have_count(8)
    await page.goto(f"{own_url}/#/queues/mail?show=failed")
    await expect(page.get_by_role("table", name="Jobs").get_by_role("rowheader")).to_have_count(25)
    await expect(page.locator(".tabs a").filter(has_text="Failed").locator(".tally")).to_have_text("200")


async def test_one_failure_is_no_outage(own_url: str, open_page: Open) -> None:
    """It is in the queue's row, and the banner says that all is well."""
    with Client(own_url) as client:
        add(client, "q", 1)
        fail(client, "q", retry=False)

    page = await open_page(own_url)

    await expect(page.get_by_role("region", name="Health")).to_contain_text("All well")
    await expect(row(page, "q").locator("[data-label=State]")).to_have_text("1 failed")


async def test_jobs_and_attempts_that_failed_are_one_reason(own_url: str, open_page: Open) -> None:
    """Their counts stand in one phrase, since the attempts include the last one of each job."""
    with Client(own_url) as client:
        add(client, "q", 6)
        fail(client, "q", 2, retry=False)
        fail(client, "q", 4, retry_delay=600)

    page = await open_page(own_url)

    health = page.get_by_role("region", name="Health")
    await expect(health.get_by_role("listitem")).to_have_text("q 2 jobs and 6 attempts failed in the last 5 min, 4 jobs to be tried again")
    await expect(row(page, "q").locator("[data-label=State]")).to_have_text("Failing")


async def test_a_paused_queue_says_so_even_when_it_fails(own_url: str, open_page: Open) -> None:
    """The word is Paused, and both reasons are there, the worse one first."""
    with Client(own_url) as client:
        add(client, "q", 5)
        fail(client, "q", 3, retry=False)
        client.pause("q")

    page = await open_page(own_url)

    health = page.get_by_role("region", name="Health")
    await expect(health.get_by_role("listitem")).to_have_text(re.compile(r"^q 3 failed in the last 5 min; paused \d+ s ago with 2 queued$"))
    await expect(row(page, "q").locator("[data-label=State] .state")).to_have_text("Paused")
    await page.get_by_role("link", name="q", exact=True).first.click()
    await expect(page.locator("main .title-line .state")).to_have_text("Paused")


async def test_jobs_that_are_retried_stand_apart_from_those_of_tomorrow(own_url: str, open_page: Open) -> None:
    """They are counted by themselves, with the number of the next attempt and when it is, before any has failed for good."""
    with Client(own_url) as client:
        client.enqueue(1, id="tomorrow", queue="q", delay=86_400)
        for number in range(2):
            client.enqueue(1, id=f"again-{number}", queue="q")
        fail(client, "q", 2, retry_delay=600)

    page = await open_page(own_url)

    await expect(page.get_by_role("region", name="Health").get_by_role("listitem")).to_have_text(
        "q 2 attempts failed in the last 5 min, 2 jobs to be tried again"
    )
    await expect(row(page, "q").locator("[data-label=Retrying]")).to_have_text("2")
    await expect(row(page, "q").locator("[data-label=Scheduled]")).to_have_text("1")
    await page.goto(f"{own_url}/#/queues/q?show=retrying")
    jobs = page.get_by_role("table", name="Jobs").get_by_role("row")
    await expect(jobs.filter(has_text="again-0")).to_contain_text("retrying")
    await expect(jobs.filter(has_text="again-0")).to_contain_text("attempt 2 in ")
    await expect(jobs.filter(has_text="again-0")).to_contain_text("OSError: disk full")
    await page.goto(f"{own_url}/#/queues/q?show=scheduled")
    await expect(jobs.filter(has_text="tomorrow")).to_contain_text("due in ")
    await expect(jobs.filter(has_text="again-0")).to_have_count(0)


async def test_of_two_thousand_queues_the_worst_five_are_named(own_url: str, open_page: Open) -> None:
    """Worst first by how many failed, the rest counted; the table is in the same order."""
    with Client(own_url) as client:
        for number in range(QUEUES):
            client.put_queue(f"q-{number:04d}")
        for number in range(7):
            add(client, f"q-{1990 + number}", number + 2)
            fail(client, f"q-{1990 + number}", number + 2, retry=False)

    page = await open_page(own_url)

    health = page.get_by_role("region", name="Health")
    await expect(health).to_contain_text("7 queues need a look")
    worst = [f"q-{1990 + number}" for number in reversed(range(7))]
    listed = [f"{name} {8 - at} failed in the last 5 min" for at, name in enumerate(worst[:5])]
    assert await items(page) == [*listed, "and 2 more"]
    names = page.get_by_role("table", name="Queues").get_by_role("rowheader")
    assert (await names.all_inner_texts())[:7] == worst


async def test_nothing_offers_to_look_further_where_there_is_nothing(own_url: str, open_page: Open) -> None:
    """Behind more jobs than the page looks at none has failed, and it knows that from the counts, which are on the tabs."""
    with Client(own_url) as client:
        add(client, "mail", 1)
        add(client, "bulk", 110_000)

    page = await open_page(own_url, "#/queues/mail?show=failed")

    await expect(page.get_by_text("No job of this queue matches.")).to_be_visible()
    await expect(page.get_by_role("button", name="Look further")).to_have_count(0)
    await expect(page.locator(".tabs a").filter(has_text="Failed").locator(".tally")).to_have_text("0")
