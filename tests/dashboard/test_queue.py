"""One queue: its jobs by status and type, page by page, and what may be done to it, each asked once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobqueue import Client, NewJob

from .conftest import Open, expect

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]


def jobs(page: Page) -> Locator:
    """The names of the jobs shown."""
    return page.get_by_role("table", name="Jobs").get_by_role("rowheader")


def fail(client: Client, queue: str, job_id: str) -> None:
    """A job that failed for good."""
    client.enqueue(1, id=job_id, queue=queue)
    job = client.dequeue(queue, wait=0)
    assert job is not None
    client.conclude(job.id, job.lease.token, "failed", error="no", retry=False)


async def confirm(page: Page, action: str, answer: str) -> None:
    """Press a button of the queue, and then one in the question that it asks."""
    await page.locator("main").get_by_role("button", name=action, exact=True).click()
    await page.get_by_role("dialog").get_by_role("button", name=answer, exact=True).click()


async def test_jobs_are_shown_by_status(open_page: Open, url: str, client: Client) -> None:
    """Each tab asks the server for its jobs, says which it is, and can be linked to."""
    fail(client, "tabs", "tab-failed")
    client.enqueue(1, id="tab-running", queue="tabs")
    assert client.dequeue("tabs", worker="w-9") is not None
    client.enqueue(1, id="tab-queued", queue="tabs")
    client.enqueue(1, id="tab-later", queue="tabs", delay=500)
    client.enqueue(1, id="tab-cancelled", queue="tabs")
    client.cancel("tab-cancelled")
    page = await open_page(url, "#/queues/tabs")
    await expect(jobs(page)).to_have_text(["tab-cancelled", "tab-later", "tab-queued", "tab-running", "tab-failed"])

    tabs = page.get_by_role("navigation", name="Jobs by status")
    for label, shown in {
        "Queued": ["tab-queued"],
        "In progress": ["tab-running"],
        "Scheduled": ["tab-later"],
        "Failed": ["tab-failed"],
        "Cancelled": ["tab-cancelled"],
        "Expired": [],
        "All": ["tab-cancelled", "tab-later", "tab-queued", "tab-running", "tab-failed"],
    }.items():
        await tabs.get_by_role("link", name=label).click()
        await expect(tabs.locator("[aria-current]")).to_contain_text(label)
        await expect(jobs(page)).to_have_text(shown)
        if not shown:
            await expect(page.get_by_text("No job of this queue matches.")).to_be_visible()

    linked = await open_page(url, "#/queues/tabs?show=in_progress")
    await expect(jobs(linked)).to_have_text(["tab-running"])
    await expect(linked.get_by_role("table", name="Jobs")).to_contain_text("w-9")


async def test_jobs_are_shown_a_page_at_a_time(open_page: Open, url: str, client: Client) -> None:
    """Newest first, back and forth; while one reads an older page, new jobs do not push it about."""
    client.enqueue_batch(NewJob(number, id=f"p-{number:02d}", queue="pages") for number in range(60))
    page = await open_page(url, "#/queues/pages")
    await expect(jobs(page)).to_have_count(25)
    await expect(jobs(page).first).to_have_text("p-59")
    await expect(page.get_by_role("button", name="Newer")).to_be_disabled()

    await page.get_by_role("button", name="Older").click()
    await expect(jobs(page).first).to_have_text("p-34")
    client.enqueue(1, id="p-new", queue="pages")
    await expect(page.locator(".tile").filter(has_text="Queued").first.locator("dd")).to_have_text("61")
    await expect(jobs(page).first).to_have_text("p-34")
    await page.get_by_role("button", name="Older").click()
    await expect(jobs(page)).to_have_count(10)
    await expect(page.get_by_role("button", name="Older")).to_be_disabled()
    await page.get_by_role("button", name="Newer").click()
    await page.get_by_role("button", name="Newer").click()
    await expect(jobs(page).first).to_have_text("p-new")


async def test_a_job_is_found_by_its_id_and_jobs_by_their_type(open_page: Open, url: str, client: Client) -> None:
    """What is no job's id is taken for a type; the type can be let go of again."""
    client.enqueue(1, id="find/me here", queue="find", type="pdf")
    client.enqueue(1, id="other", queue="find", type="mail")
    page = await open_page(url, "#/queues/find", expected=("404",))
    search = page.get_by_placeholder("A job’s id, or a type")

    await search.fill("pdf")
    await page.get_by_role("button", name="Find").click()
    await expect(jobs(page)).to_have_text(["find/me here"])
    await page.get_by_role("link", name="Show every type").click()
    await expect(jobs(page)).to_have_text(["other", "find/me here"])

    await search.fill("find/me here")
    await search.press("Enter")
    await expect(page.get_by_role("heading", name="find/me here")).to_be_visible()


async def test_a_queue_is_paused_and_resumed(open_page: Open, url: str, client: Client) -> None:
    """The question can be left with nothing done; the answer is there at once."""
    client.put_queue("pausing")
    page = await open_page(url, "#/queues/pausing")

    await confirm(page, "Pause", "Keep as it is")
    await page.locator("main").get_by_role("button", name="Pause").click()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert not client.queue("pausing").policy.paused

    await confirm(page, "Pause", "Pause")
    await expect(page.locator("main .title-line .state")).to_have_text("Paused")
    assert client.queue("pausing").policy.paused
    await confirm(page, "Resume", "Resume")
    await expect(page.locator("main").get_by_role("button", name="Pause")).to_be_visible()
    assert not client.queue("pausing").policy.paused


async def test_a_queue_is_purged(open_page: Open, url: str, client: Client) -> None:
    """Waiting jobs are cancelled, those in progress are not, and the page says how many."""
    client.enqueue(1, id="stays", queue="purging")
    assert client.dequeue("purging") is not None
    client.enqueue(1, queue="purging")
    client.enqueue(1, queue="purging", delay=60)
    page = await open_page(url, "#/queues/purging")

    await confirm(page, "Purge", "Purge")

    await expect(page.get_by_role("status")).to_contain_text("2 jobs of purging cancelled")
    assert client.job("stays").status == "in_progress"
    assert client.queue("purging").totals.cancelled == 2


async def test_a_queue_is_purged_of_what_is_in_progress_too(open_page: Open, url: str, client: Client) -> None:
    """If that is chosen; the page says how many."""
    client.enqueue(1, id="ends", queue="purging-all")
    assert client.dequeue("purging-all") is not None
    client.enqueue(1, queue="purging-all")
    page = await open_page(url, "#/queues/purging-all")

    await confirm(page, "Purge", "End those in progress too")

    await expect(page.get_by_role("status")).to_contain_text("2 jobs of purging-all cancelled")
    assert client.job("ends").outcome == "cancelled"


async def test_a_queue_is_deleted(open_page: Open, url: str, client: Client) -> None:
    """With its live jobs, of which the question tells; one that has none by itself."""
    client.enqueue(1, id="goes", queue="deleting")
    assert client.dequeue("deleting") is not None
    client.put_queue("deleting-empty")
    for name, told in (("deleting", "1 now, are cancelled"), ("deleting-empty", "History keeps its jobs")):
        page = await open_page(url, f"#/queues/{name}")
        await page.locator("main").get_by_role("button", name="Delete", exact=True).click()
        await expect(page.get_by_role("dialog")).to_contain_text(told)
        await page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
        await expect(page.get_by_role("status")).to_contain_text(f"Deleted {name}")
        await expect(page.get_by_role("heading", level=1)).not_to_have_text(name)
    assert not {"deleting", "deleting-empty"} & {queue.name for queue in client.queues()}
    assert client.job("goes").outcome == "cancelled"


async def test_what_failed_is_retried(open_page: Open, url: str, client: Client) -> None:
    """Every failed job is queued again."""
    fail(client, "again", "f-1")
    fail(client, "again", "f-2")
    page = await open_page(url, "#/queues/again?show=failed")
    await expect(jobs(page)).to_have_count(2)

    await confirm(page, "Retry failed", "Retry failed")

    await expect(page.get_by_role("status")).to_contain_text("2 jobs of again queued again")
    await expect(jobs(page)).to_have_count(0)
    assert client.queue("again").queued == 2


async def test_a_policy_is_edited(open_page: Open, url: str, client: Client) -> None:
    """All of it is sent; what the server refuses is said at its field, and what is no number is not sent."""
    client.put_queue("edited", lease_seconds=30, max_jobs=500, paused=True)
    page = await open_page(url, "#/queues/edited", expected=("400",))
    await page.get_by_role("button", name="Policy").click()
    dialog = page.get_by_role("dialog")
    lease = dialog.get_by_label("Lease, in seconds")
    await expect(lease).to_have_value("30")

    await lease.fill("soon")
    await dialog.get_by_role("button", name="Set policy").click()
    await expect(lease).to_have_attribute("aria-invalid", "true")
    await expect(dialog).to_contain_text("Enter a number")
    await lease.fill("99999999")
    await dialog.get_by_role("button", name="Set policy").click()
    await expect(dialog).to_contain_text("lease_seconds: ")
    await expect(lease).to_be_focused()
    await lease.fill("90")
    await dialog.get_by_label("Attempts at most").fill("7")
    await dialog.get_by_label("Backoff: base").fill("0.5")
    await dialog.get_by_label("Jobs at most").fill("")
    await dialog.get_by_role("button", name="Set policy").click()

    await expect(page.get_by_role("region", name="Policy")).to_contain_text("1 min 30 s")
    policy = client.queue("edited").policy
    assert (policy.lease_seconds, policy.max_attempts, policy.backoff.base, policy.max_jobs, policy.paused) == (90, 7, 0.5, None, True)


async def test_a_refused_action_is_told(open_page: Open, url: str, client: Client) -> None:
    """The server's own sentence is shown, and nothing pretends to be done."""
    client.put_queue("vanishing")
    page = await open_page(url, "#/queues/vanishing", expected=("404",))
    await page.get_by_role("button", name="Purge").click()
    client.delete_queue("vanishing")

    await page.get_by_role("dialog").get_by_role("button", name="Purge").click()

    await expect(page.get_by_role("status")).to_contain_text("vanishing")
    await expect(page.get_by_role("status").locator(".bad")).to_have_count(1)


async def test_a_queue_that_is_none_says_what_would_make_it(open_page: Open, url: str) -> None:
    """With the command line for it."""
    page = await open_page(url, "#/queues/nowhere")
    await expect(page.get_by_text("There is no such queue")).to_be_visible()
    await expect(page.locator(".command code")).to_contain_text('"queue": "nowhere"')


async def test_jobs_are_narrowed_down_to_a_tag(open_page: Open, url: str, client: Client) -> None:
    """A tag stands beside each job that has it, and on the job's own page; it leads to those that have it."""
    client.enqueue(1, id="tagged-1", queue="tagged", tags=["night & day", "b"])
    client.enqueue(1, id="tagged-2", queue="tagged", tags=["b"])
    client.enqueue(1, id="tagged-3", queue="tagged")

    page = await open_page(url, "#/queues/tagged")
    jobs = page.get_by_role("region", name="Jobs").get_by_role("table")
    await expect(jobs.get_by_role("row")).to_have_count(4)
    await jobs.get_by_role("link", name="night & day").click()
    await expect(jobs.get_by_role("row")).to_have_count(2)
    await page.get_by_role("link", name="Show every tag").click()
    await expect(jobs.get_by_role("row")).to_have_count(4)

    page = await open_page(url, "#/jobs/tagged-1")
    await page.get_by_role("region", name="Facts").get_by_role("link", name="b", exact=True).click()
    await expect(page.get_by_role("region", name="Jobs").get_by_role("row")).to_have_count(3)
