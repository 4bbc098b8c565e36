"""What an operator sees first: every queue, what is wrong, totals, charts, what failed, who works."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

import jobqueue
from jobqueue import Client, NewJob

from .conftest import Open, expect

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

pytestmark = pytest.mark.asyncio(loop_scope="session")


def row(page: Page, name: str) -> Locator:
    """A queue's row on the overview."""
    return page.get_by_role("table", name="Queues").get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


async def cells(page: Page, name: str) -> dict[str, str]:
    """What a queue's row says, by column."""
    found = row(page, name).get_by_role("cell")
    return {await cell.get_attribute("data-label") or "": await cell.inner_text() for cell in await found.all()}


async def test_a_queue_is_shown_with_its_numbers(own_url: str, open_page: Open) -> None:
    """Counts by status, waiters, the oldest job's age and totals are those the API tells."""
    with Client(own_url) as client:
        for payload in range(3):
            client.enqueue(payload, queue="counts")
        client.enqueue(4, queue="counts", delay=600)
        job = client.dequeue("counts", worker="w")
        assert job is not None
        client.conclude(job.id, job.lease.token, "succeeded")
        client.dequeue("counts")

    page = await open_page(own_url)

    await expect(row(page, "counts")).to_be_visible()
    told = await cells(page, "counts")
    assert told.pop("Oldest").endswith(" s")
    assert told == {
        "State": "Well",
        "Queued": "1",
        "In progress": "1",
        "Scheduled": "1",
        "Retrying": "0",
        "Waiters": "0",
        "In/s": told["In/s"],
        "Out/s": told["Out/s"],
        "Succeeded": "1",
        "Failed": "0",
    }
    await expect(page.locator(".tile").filter(has_text="In progress").locator("dd")).to_have_text("1")


async def test_what_is_wrong_stands_first(own_url: str, open_page: Open) -> None:
    """A queue that fails, one that is paused with jobs in it, and one that nobody takes from, worst first."""
    with Client(own_url) as client:
        client.enqueue(1, queue="alone")
        client.enqueue(1, queue="stopped")
        client.pause("stopped")
        for number in range(2):
            client.enqueue(1, id=f"broken-{number}", queue="failing")
            job = client.dequeue("failing")
            assert job is not None
            client.conclude(job.id, job.lease.token, "failed", error={"type": "OSError", "message": "disk full"}, retry=False)

    page = await open_page(own_url)

    health = page.get_by_role("region", name="Health")
    await expect(health.get_by_role("listitem").filter(has_text="failing")).to_have_text("failing 2 failed in the last 5 min")
    await expect(health.get_by_role("listitem").first).to_contain_text("failing")
    stopped = health.get_by_role("listitem").filter(has_text="stopped")
    await expect(stopped).to_have_text(re.compile(r"^stopped paused \d+ s ago with 1 queued$"))
    await expect(health.get_by_role("listitem").filter(has_text="alone")).to_have_text("alone 1 queued and no worker takes them")
    await expect(row(page, "failing").locator("[data-label=State]")).to_have_text("Failing")
    failures = page.get_by_role("table", name="Last failures")
    await expect(failures.get_by_role("row").filter(has_text="broken-0")).to_contain_text("OSError: disk full")


async def test_all_well_says_so(own_url: str, open_page: Open) -> None:
    """With nothing to look at, one sentence says that."""
    with Client(own_url) as client:
        client.put_queue("quiet")
    page = await open_page(own_url)
    await expect(page.get_by_role("region", name="Health")).to_contain_text("All well")


async def test_without_queues_the_page_says_what_to_do(own_url: str, open_page: Open) -> None:
    """It shows the command line that makes one."""
    page = await open_page(own_url)
    await expect(page.get_by_text("No queues yet")).to_be_visible()
    await expect(page.locator(".command code")).to_have_text(
        f"""curl -s --json '{{"queue": "mail", "payload": {{"to": "ann"}}}}' '{own_url}/jobs/enqueue'"""
    )


async def test_the_charts_draw_what_happens(open_page: Open, url: str, client: Client) -> None:
    """Each of the three has a canvas, and beside each line its newest value."""
    client.enqueue(1, queue="drawn")
    assert client.dequeue("drawn") is not None

    page = await open_page(url)

    await expect(page.locator("figure canvas")).to_have_count(3)
    depth = page.locator("figure").filter(has_text="Depth")
    await expect(depth.locator(".item").filter(has_text="in progress").locator("b")).to_have_text(re.compile(r"\d+"))
    latency = page.locator("figure").filter(has_text="Pickup latency")
    await expect(latency.locator(".item").filter(has_text="median").locator("b")).to_have_text(re.compile(r"\d (ms|s)"))


async def test_rates_come_from_what_was_counted(open_page: Open, url: str, client: Client) -> None:
    """Once a second sample is there, a queue that was given jobs meanwhile has a rate in."""
    client.put_queue("rated")
    page = await open_page(url)
    await expect(row(page, "rated")).to_contain_text("0.0")

    client.enqueue_batch(NewJob(number, queue="rated") for number in range(100))

    await expect(row(page, "rated").locator("[data-label='In/s']")).not_to_have_text(re.compile("^(0.0|–)$"))


async def test_queues_are_sorted_by_any_column(open_page: Open, url: str, client: Client) -> None:
    """A click sorts, another turns it around, and the column says so."""
    for name, jobs in (("sort-a", 1), ("sort-b", 3), ("sort-c", 2)):
        client.enqueue_batch(NewJob(number, queue=name) for number in range(jobs))
    page = await open_page(url)
    names = page.get_by_role("table", name="Queues").get_by_role("rowheader").filter(has_text="sort-")
    # By trouble: nobody takes their jobs, and the one that has most of them is the worst.
    await expect(names).to_have_text(["sort-b", "sort-c", "sort-a"])

    header = page.get_by_role("columnheader", name="Queued")
    await header.get_by_role("button").click()
    await expect(names).to_have_text(["sort-b", "sort-c", "sort-a"])
    await expect(header).to_have_attribute("aria-sort", "ascending")
    await header.get_by_role("button").click()
    await expect(names).to_have_text(["sort-a", "sort-c", "sort-b"])
    await expect(header).to_have_attribute("aria-sort", "descending")


async def test_many_queues_are_shown_a_page_at_a_time_and_found_by_name(own_url: str, open_page: Open) -> None:
    """Fifty rows at once, however many queues there are."""
    with Client(own_url) as client:
        for number in range(70):
            client.put_queue(f"q-{number:02d}")
        page = await open_page(own_url)
        names = page.get_by_role("table", name="Queues").get_by_role("rowheader")
        await expect(names).to_have_count(50)
        await page.get_by_role("button", name="Next").click()
        await expect(names).to_have_count(20)
        await expect(names.last).to_have_text("q-69")
        await page.get_by_role("searchbox", name="Filter queues by name").fill("q-3")
        await expect(names).to_have_count(10)
        client.put_queue("q-3-more")
        await expect(names).to_have_count(11)
        await expect(page.get_by_role("searchbox", name="Filter queues by name")).to_have_value("q-3")


async def test_workers_are_shown_with_what_they_do(open_page: Open, url: str, client: Client) -> None:
    """Those at work by name, with job, progress and lease; those that wait, by queue."""
    client.enqueue(1, id="busy-1", queue="busy", type="sums")
    client.enqueue(2, id="busy-2", queue="busy")
    one, two = client.dequeue("busy", worker="ann"), client.dequeue("busy", worker="bob")
    assert one is not None
    assert two is not None
    client.extend(one.id, one.lease.token, progress=0.25, message="adding")
    async with jobqueue.AsyncClient(url, token="") as worker:
        waiting = asyncio.create_task(worker.dequeue("held", wait=50))

        page = await open_page(url, "#/workers")

        table = page.get_by_role("table", name="At work")
        ann = table.get_by_role("row").filter(has_text="ann")
        await expect(ann).to_contain_text("busy-1")
        await expect(ann).to_contain_text("sums")
        await expect(ann).to_contain_text("adding")
        await expect(ann.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
        await expect(table.get_by_role("row").filter(has_text="bob")).to_contain_text("busy-2")
        held = page.get_by_role("table", name="Waiting for jobs").get_by_role("row").filter(has_text="held")
        # A queue is made by a job; one that is only waited on has no row until then.
        client.put_queue("held")
        await expect(held.locator("[data-label=Waiters]")).to_have_text("1")
        client.enqueue(1, queue="held")
        assert await waiting is not None
