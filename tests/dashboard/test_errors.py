"""Errors in groups, on the overview and on a queue's page: what they say, which jobs they lead to, and that these are retried."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobqueue import Client, Outcome
from jobqueue.process import tokens
from jobqueue.testing import server_in_thread

from .conftest import Open, expect

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

pytestmark = pytest.mark.asyncio(loop_scope="session")


def fail(client: Client, queue: str, message: str, kind: str = "Timeout", **fields: object) -> str:
    """A job whose attempt fails so, for good unless there is more to say; its id."""
    job_id = client.enqueue(1, queue=queue).id
    job = client.dequeue(queue)
    assert job is not None
    client.conclude(job.id, job.lease.token, "failed", error={"type": kind, "message": message}, **(fields or {"retry": False}))  # type: ignore[arg-type]
    return job_id


def group(page: Page, text: str) -> Locator:
    """A row of the errors."""
    return page.get_by_role("table", name="Errors").get_by_role("row").filter(has_text=text)


async def test_failures_are_grouped_by_error_and_shown(open_page: Open, url: str, client: Client) -> None:
    """Numbers do not matter; `Show` lists the jobs of a group and no others, under a chip that says the error."""
    ids = [fail(client, "grouped", f"timeout after {seconds} s for user {seconds + 10}") for seconds in (31, 32, 33)]
    fail(client, "grouped", "disk full", "OSError")
    fail(client, "grouped", "timeout after 34 s for user 9", retry_delay=3_600)

    page = await open_page(url, "#/queues/grouped")

    row = group(page, "Timeout: timeout after <n> s for user <n>")
    await expect(row.get_by_role("cell").nth(1)).to_have_text("4")
    await expect(row.get_by_role("cell").nth(2)).to_have_text("3")
    await row.get_by_role("link", name="Show the jobs").click()
    jobs = page.get_by_role("table", name="Jobs")
    await expect(jobs.get_by_role("rowheader")).to_have_text(ids[::-1])
    await expect(page.locator(".search .chip")).to_contain_text("error Timeout: timeout after <n> s for user <n>")
    await page.get_by_role("link", name="Show every error").click()
    await expect(jobs.get_by_role("rowheader")).to_have_count(4)


async def test_the_jobs_of_an_error_are_retried(open_page: Open, url: str, client: Client) -> None:
    """How many is said first; only these are queued again, and nothing is done before that is confirmed."""
    ids = [fail(client, "again", f"no answer in {seconds} s") for seconds in (1, 2)]
    other = fail(client, "again", "disk full", "OSError")
    page = await open_page(url, "#/queues/again")

    await group(page, "no answer").get_by_role("button", name="Retry the jobs").click()
    await expect(page.get_by_role("dialog")).to_contain_text("Retry 2 jobs?")
    assert client.job(ids[0]).outcome is Outcome.FAILED
    await page.get_by_role("dialog").get_by_role("button", name="Retry 2 jobs").click()

    await expect(page.get_by_role("status").filter(has_text="2 jobs queued again").first).to_be_visible()
    assert [client.job(job_id).status for job_id in ids] == ["queued", "queued"]
    assert client.job(other).outcome is Outcome.FAILED


async def test_the_overview_has_the_errors_of_all_queues(own_url: str, open_page: Open) -> None:
    """With the queue of each, and dead letters where they are; what fails next is there without a reload."""
    with Client(own_url) as client:
        client.put_queue("dying", max_attempts=1, dead_letter="dead")
        fail(client, "mail", "disk full", "OSError")
        letter = fail(client, "dying", "it died 7 times", retry_delay=0)
        page = await open_page(own_url)
        await expect(group(page, "OSError: disk full")).to_contain_text("mail")
        fail(client, "mail", "no such host", "gaierror")
        await expect(group(page, "gaierror: no such host")).to_be_visible()
        await expect(group(page, "it died <n> times").get_by_role("button")).to_have_count(0)
        await group(page, "it died <n> times").get_by_role("link", name="Show the jobs").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("dead")
        await expect(page.get_by_role("table", name="Jobs").get_by_role("rowheader")).to_have_text([letter])


async def test_what_failed_last_comes_first(own_url: str, open_page: Open) -> None:
    """An old job that fails now stands before newer ones that failed earlier, in last failures and under the tab Failed."""
    with Client(own_url) as client:
        for name in ("old", "new"):
            client.enqueue(1, id=name, queue="line")
        jobs = {job.id: job for job in client.dequeue_batch("line", limit=2)}
        for name in ("new", "old"):
            client.conclude(name, jobs[name].lease.token, "failed", retry=False)
            client.enqueue(1, id=f"after {name}", queue="line")
    page = await open_page(own_url)
    await expect(page.get_by_role("table", name="Last failures").get_by_role("rowheader")).to_have_text(["old", "new"])
    await page.goto(f"{own_url}/#/queues/line?show=failed")
    await expect(page.get_by_role("table", name="Jobs").get_by_role("rowheader")).to_have_text(["old", "new"])


async def test_who_may_only_read_is_offered_no_retry(tmp_path: Path, open_page: Open) -> None:
    """The errors are shown all the same."""
    file = str(tmp_path / "tokens")
    ops, looks = (tokens.make(file, scope, [scope], [])[0] for scope in ("admin", "read"))
    with server_in_thread(token_file=file) as url, Client(url, token=ops) as client:
        fail(client, "q", "disk full", "OSError")
        page = await open_page(url)
        await page.get_by_label("Token").fill(looks)
        await page.get_by_role("button", name="Sign in").click()
        await expect(group(page, "OSError: disk full")).to_be_visible()
        await expect(group(page, "OSError: disk full").get_by_role("button")).to_have_count(0)
        await page.goto("about:blank")


async def test_an_error_is_text(open_page: Open, url: str, client: Client) -> None:
    """Whatever is in it; a line of any length fits a phone."""
    fail(client, "hostile", '<img src=x onerror="window.broken=1">' + "w" * 300, "<script>window.broken=1</script>")
    page = await open_page(url, "#/queues/hostile", width=390)
    await expect(group(page, "<script>window.broken=<n></script>").or_(group(page, "<script>window.broken=1</script>"))).to_be_visible()
    assert await page.evaluate("window.broken") is None
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
