"""What is done to many jobs at once, a redrive as it goes on, dead letters, and a job that is edited."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobqueue import Client, NewJob

from .conftest import Open, expect
from .test_queue import jobs
from .test_reach import faults

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

pytestmark = pytest.mark.asyncio(loop_scope="session")


def group(page: Page) -> Locator:
    """What is offered for all of the jobs shown."""
    return page.get_by_role("group", name="All of these jobs")


async def press(page: Page, action: str, answer: str) -> None:
    """Choose what is to be done to all, and say yes."""
    await group(page).get_by_role("button", name=action).click()
    await page.get_by_role("dialog").get_by_role("button", name=answer, exact=True).click()


async def test_all_that_is_shown_is_cancelled_retried_and_forgotten(open_page: Open, url: str, client: Client) -> None:
    """The number is said before it is done, it is about what the filter shows, and only what is possible is offered."""
    client.enqueue_batch(NewJob(number, id=f"b-{number}", queue="bulk", tags=["x"] if number < 3 else []) for number in range(5))
    page = await open_page(url, "#/queues/bulk?tag=x&show=queued")
    await expect(group(page).get_by_role("button")).to_have_text(["Cancel…", "Edit…"])

    await press(page, "Cancel…", "Keep as it is")
    assert client.queue("bulk").queued == 5
    await press(page, "Cancel…", "Cancel 3 jobs")
    await expect(page.get_by_text("3 jobs cancelled", exact=True)).to_be_visible()
    await expect(page.get_by_text("No job of this queue matches.")).to_be_visible()
    await expect(group(page)).to_have_count(0)
    assert client.queue("bulk").queued == 2

    await page.get_by_role("link", name="Cancelled").click()
    await expect(group(page).get_by_role("button")).to_have_text(["Retry…", "Forget…"])
    await press(page, "Retry…", "Retry 3 jobs")
    await expect(page.get_by_text("3 jobs queued again", exact=True)).to_be_visible()
    assert client.queue("bulk").queued == 5

    await page.get_by_role("link", name="All", exact=True).click()
    await group(page).get_by_role("button", name="Forget…").click()
    await expect(page.get_by_text("None of these can be forgotten")).to_be_visible()


async def test_all_that_is_shown_is_edited(open_page: Open, url: str, client: Client) -> None:
    """What is left empty stays; what is wrong is told in the form, with nothing changed."""
    client.enqueue_batch(NewJob(number, id=f"e-{number}", queue="bulk-edit", priority=7) for number in range(2))
    page = await open_page(url, "#/queues/bulk-edit", expected=("400",))
    await group(page).get_by_role("button", name="Edit…").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("This changes 2 jobs that can still be edited")
    await dialog.get_by_label("Priority").fill("12")
    await dialog.get_by_role("button", name="Change 2 jobs").click()
    await expect(dialog.get_by_text("out of range")).to_be_visible()
    await dialog.get_by_label("Priority").fill("1")
    await dialog.get_by_label("Tags").fill("late, urgent")
    await dialog.get_by_role("button", name="Change 2 jobs").click()
    await expect(page.get_by_text("2 jobs changed", exact=True)).to_be_visible()
    found = [client.job(f"e-{number}") for number in range(2)]
    assert {(job.priority, tuple(job.tags), job.queue) for job in found} == {(1, ("late", "urgent"), "bulk-edit")}


async def test_a_job_that_waits_is_edited(open_page: Open, url: str, client: Client) -> None:
    """Its payload as it is typed; once a worker has it, it is not offered, and an editor that was open is told."""
    client.enqueue({"n": 1}, id="edit-me", queue="edit")
    page = await open_page(url, "#/jobs/edit-me", expected=("409",))
    await page.get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_label("Payload")).to_have_value('{"n":1}')
    await dialog.get_by_label("Payload").fill("{")
    await dialog.get_by_role("button", name="Change the job").click()
    await expect(dialog.get_by_text("This is not JSON")).to_be_visible()
    await dialog.get_by_label("Payload").fill('{"n": 12345678901234567890}')
    await dialog.get_by_label("Description").fill("by hand")
    await dialog.get_by_role("button", name="Change the job").click()
    await expect(page.get_by_text("Job changed")).to_be_visible()
    await expect(page.get_by_text("by hand")).to_be_visible()
    job = client.job("edit-me")
    assert (bytes(job.raw_payload), job.description, job.priority) == (b'{"n": 12345678901234567890}', "by hand", 5)

    await page.get_by_role("button", name="Edit").click()
    assert client.dequeue("edit", wait=0) is not None
    await dialog.get_by_label("Priority").fill("1")
    await dialog.get_by_role("button", name="Change the job").click()
    await expect(dialog.get_by_text("is in progress")).to_be_visible()
    await dialog.get_by_role("button", name="Keep as it is").click()
    await expect(page.get_by_role("button", name="Edit")).to_have_count(0)


def bury(client: Client, queue: str, *ids: str) -> None:
    """Dead letters of a queue."""
    for each in ids:
        client.enqueue(1, id=each, queue=queue)
        job = client.dequeue(queue, wait=0)
        assert job is not None
        client.conclude(job.id, job.lease.token, "failed", error="broken", retry=False)


async def test_a_dead_letter_is_told_and_redriven(open_page: Open, url: str, client: Client) -> None:
    """The policy names the queue, the job says where it failed, and Redrive moves it back; the number is said first."""
    client.put_queue("mail")
    page = await open_page(url, "#/queues/mail")
    await page.get_by_role("button", name="Policy").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Dead letters to").fill("mail-dead")
    await dialog.get_by_role("button", name="Set policy").click()
    await expect(page.get_by_role("region", name="Policy").get_by_role("link", name="mail-dead")).to_be_visible()
    assert client.queue("mail").policy.dead_letter == "mail-dead"

    bury(client, "mail", "lost-1", "lost-2")
    job = await open_page(url, "#/jobs/lost-1")
    await expect(job.get_by_role("region", name="Facts")).to_contain_text("Failed in")
    await expect(job.get_by_role("region", name="Timeline")).to_contain_text("It failed for good in mail.")

    await page.goto(f"{url}/#/queues/mail-dead")
    await page.get_by_role("button", name="Redrive").click()
    await expect(dialog).to_contain_text("This moves 2 dead letters of this queue")
    await dialog.get_by_role("button", name="Redrive", exact=True).click()
    await expect(page.get_by_text("Redrive done: 2 of 2 moved")).to_be_visible()
    assert client.job("lost-1").queue == "mail"
    await expect(jobs(page)).to_have_count(0)


async def test_dead_letters_are_redriven_as_new_jobs(open_page: Open, url: str, client: Client) -> None:
    """If that is chosen: each has another id then."""
    client.put_queue("fresh", max_attempts=1, dead_letter="fresh-dead")
    bury(client, "fresh", "old-1")
    page = await open_page(url, "#/queues/fresh-dead")
    await page.get_by_role("button", name="Redrive").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("As new jobs").check()
    await dialog.get_by_role("button", name="Redrive", exact=True).click()
    await expect(page.get_by_text("Redrive done: 1 of 1 moved")).to_be_visible()
    (moved,) = client.jobs(queue="fresh").jobs
    assert moved.id != "old-1"


async def test_a_redrive_that_goes_on_is_shown_and_stopped(open_page: Open, url: str, client: Client) -> None:
    """With how far it is; what it moved stays moved. The page keeps to the rules of accessibility meanwhile."""
    client.put_queue("slow", max_attempts=1, dead_letter="slow-dead")
    bury(client, "slow", "s-1", "s-2", "s-3")
    page = await open_page(url, "#/queues/slow-dead", expected=("400",))
    await page.get_by_role("button", name="Redrive").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Jobs a second").fill("0")
    await dialog.get_by_role("button", name="Redrive", exact=True).click()
    await expect(dialog.get_by_text("out of range")).to_be_visible()
    await dialog.get_by_label("Jobs a second").fill("0.001")
    await dialog.get_by_label("To another queue").fill("elsewhere")
    await dialog.get_by_role("button", name="Redrive", exact=True).click()
    tasks = page.get_by_role("region", name="Tasks")
    await expect(tasks).to_contain_text("Redrive: 1 of 3, 0.001 a second to elsewhere")
    assert await faults(page) == []
    await tasks.get_by_role("button", name="Stop").click()
    await expect(page.get_by_text("Redrive cancelled: 1 of 3 moved")).to_be_visible()
    await expect(tasks).to_have_count(0)
    assert (client.queue("slow-dead").queued, client.queue("elsewhere").queued) == (2, 1)
