"""The rows of a queue's jobs hold still while somebody reads or chooses among them, and what is chosen is retried, cancelled and edited."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobqueue import Client, NewJob

from .conftest import Open, expect
from .test_queue import fail, jobs
from .test_reach import faults

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

pytestmark = pytest.mark.asyncio(loop_scope="session")


def bar(page: Page) -> Locator:
    """What says whether the list is paused, and what is done to the chosen."""
    return page.get_by_role("group", name="Chosen jobs")


def box(page: Page, job_id: str) -> Locator:
    """What chooses a job."""
    return page.get_by_role("checkbox", name=f"Choose {job_id}", exact=True)


async def shown(open_page: Open, url: str, queue: str, *ids: str, expected: tuple[str, ...] = ()) -> Page:
    """A queue's page with these jobs, without a pointer on it."""
    page = await open_page(url, f"#/queues/{queue}", expected=expected)
    await expect(jobs(page)).to_have_text(list(ids))
    return page


async def test_rows_hold_still_under_the_pointer(open_page: Open, url: str, client: Client) -> None:
    """What happens meanwhile is counted; when the pointer leaves, it is shown."""
    client.enqueue(1, id="h-1", queue="hover")
    page = await shown(open_page, url, "hover", "h-1")
    await expect(bar(page)).to_contain_text("Live")
    await jobs(page).first.hover()
    await expect(bar(page)).to_contain_text("Paused: no changes")

    client.enqueue(1, id="h-2", queue="hover")
    client.cancel("h-1")
    await expect(bar(page)).to_contain_text("Paused: 2 changes")
    await expect(jobs(page)).to_have_text(["h-1"])
    await page.mouse.move(1, 1)
    await expect(jobs(page)).to_have_text(["h-2", "h-1"])
    await expect(bar(page)).to_contain_text("Live")


async def test_rows_hold_still_while_one_of_them_is_focused(open_page: Open, url: str, client: Client) -> None:
    """By keyboard too, until the focus leaves the rows or the list is resumed."""
    client.enqueue(1, id="f-1", queue="focus")
    page = await shown(open_page, url, "focus", "f-1")
    await jobs(page).get_by_role("link").focus()
    await expect(bar(page)).to_contain_text("Paused")
    client.enqueue(1, id="f-2", queue="focus")
    await expect(bar(page)).to_contain_text("Paused: 1 change")
    await expect(jobs(page)).to_have_text(["f-1"])
    await page.get_by_placeholder("A job’s id, or a type").focus()
    await expect(jobs(page)).to_have_text(["f-2", "f-1"])


async def test_a_key_pauses_the_list_and_resumes_it(open_page: Open, url: str, client: Client) -> None:
    """P does, and a button that says so; in a field it is a letter."""
    client.enqueue(1, id="k-1", queue="keyed")
    page = await shown(open_page, url, "keyed", "k-1")
    await page.keyboard.press("p")
    await expect(bar(page)).to_contain_text("Paused: no changes")
    client.enqueue(1, id="k-2", queue="keyed")
    await expect(bar(page)).to_contain_text("Paused: 1 change")
    await expect(jobs(page)).to_have_text(["k-1"])
    await page.keyboard.press("p")
    await expect(jobs(page)).to_have_text(["k-2", "k-1"])

    field = page.get_by_placeholder("A job’s id, or a type")
    await field.focus()
    await page.keyboard.press("p")
    await expect(field).to_have_value("p")
    await expect(bar(page)).to_contain_text("Live")
    await page.get_by_role("button", name="Pause (P)").click()
    client.enqueue(1, id="k-3", queue="keyed")
    await expect(bar(page)).to_contain_text("Paused: 1 change")
    await page.get_by_role("button", name="Resume (P)").click()
    await expect(jobs(page)).to_have_text(["k-3", "k-2", "k-1"])


async def test_the_chosen_are_cancelled_and_the_result_is_one_line(open_page: Open, url: str, client: Client) -> None:
    """Those with which it went wrong are counted and named, and stay chosen."""
    client.enqueue_batch([NewJob(number, id=f"c-{number}", queue="chosen") for number in range(5)])
    page = await shown(open_page, url, "chosen", *(f"c-{number}" for number in reversed(range(5))), expected=("409",))
    await box(page, "c-4").click()
    await box(page, "c-2").click(modifiers=["Shift"])
    await expect(bar(page)).to_contain_text("3 chosen")
    client.cancel("c-3")
    await expect(bar(page)).to_contain_text("Paused: 1 change")

    await bar(page).get_by_role("button", name="Cancel…").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel 3 jobs").click()

    await expect(bar(page).locator(".result")).to_contain_text("2 jobs cancelled; 1 refused: c-3 (")
    await expect(bar(page)).to_contain_text("1 chosen")
    await expect(box(page, "c-3")).to_be_checked()
    outcomes = {job_id: client.job(job_id).status.value for job_id in ("c-0", "c-1", "c-2", "c-4")}
    assert outcomes == {"c-0": "queued", "c-1": "queued", "c-2": "concluded", "c-4": "concluded"}


async def test_all_shown_are_retried(open_page: Open, url: str, client: Client) -> None:
    """One box chooses every row, and lets go of them again."""
    for number in range(3):
        fail(client, "again", f"r-{number}")
    page = await open_page(url, "#/queues/again?show=failed")
    every = page.get_by_role("checkbox", name="Choose all shown")
    await every.click()
    await expect(bar(page)).to_contain_text("3 chosen")
    await every.click()
    await expect(bar(page)).not_to_contain_text("chosen")
    await every.click()
    await bar(page).get_by_role("button", name="Retry…").click()
    await page.get_by_role("dialog").get_by_role("button", name="Retry 3 jobs").click()
    await expect(bar(page).locator(".result")).to_have_text("3 jobs queued again")
    await expect(page.get_by_text("No job of this queue matches.")).to_be_visible()
    assert client.queue("again").queued == 3


async def test_the_chosen_are_edited(open_page: Open, url: str, client: Client) -> None:
    """What is wrong is told in the form, with nothing changed; what cannot be changed any more is named."""
    client.enqueue_batch([NewJob(number, id=f"e-{number}", queue="edited") for number in range(3)])
    page = await shown(open_page, url, "edited", "e-2", "e-1", "e-0", expected=("400", "409"))
    for job_id in ("e-2", "e-1", "e-0"):
        await box(page, job_id).click()
    assert client.dequeue("edited") is not None
    await bar(page).get_by_role("button", name="Edit…").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Priority").fill("17")
    await dialog.get_by_role("button", name="Change 3 jobs").click()
    await expect(dialog.get_by_label("Priority")).to_have_attribute("aria-invalid", "true")
    await dialog.get_by_label("Priority").fill("1")
    await dialog.get_by_role("button", name="Change 3 jobs").click()
    await expect(bar(page).locator(".result")).to_contain_text("2 jobs changed; 1 refused: e-0 (")
    assert [client.job(f"e-{number}").priority for number in range(3)] == [5, 1, 1]


async def test_rows_are_chosen_by_keyboard(open_page: Open, url: str, client: Client) -> None:
    """Arrows go from row to row and with shift choose, space chooses one, and Escape lets go of all."""
    client.enqueue_batch([NewJob(number, id=f"b-{number}", queue="board") for number in range(4)])
    page = await shown(open_page, url, "board", "b-3", "b-2", "b-1", "b-0")
    await box(page, "b-3").focus()
    await page.keyboard.press("Space")
    await expect(bar(page)).to_contain_text("1 chosen")
    await page.keyboard.press("ArrowDown")
    await expect(box(page, "b-2")).to_be_focused()
    await page.keyboard.press("Shift+ArrowDown")
    await expect(bar(page)).to_contain_text("3 chosen")
    await expect(box(page, "b-1")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(bar(page)).not_to_contain_text("chosen")
    await page.keyboard.press("Control+a")
    await expect(bar(page)).to_contain_text("4 chosen")


@pytest.mark.parametrize("width", [390, 1200])
async def test_axe_finds_nothing_where_rows_are_chosen(open_page: Open, url: str, client: Client, width: int) -> None:
    """While the list is paused, with some chosen and a result."""
    client.enqueue_batch([NewJob(number, id=f"a-{width}-{number}", queue=f"axe-{width}") for number in range(3)])
    page = await open_page(url, f"#/queues/axe-{width}", width=width, bypass_csp=True)
    await box(page, f"a-{width}-2").click()
    await expect(bar(page)).to_contain_text("1 chosen")
    assert await faults(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


async def test_the_retrying_have_a_tab(open_page: Open, url: str, client: Client) -> None:
    """With the number of the next attempt and when it is; tomorrow's jobs are under Scheduled."""
    client.enqueue(1, id="t-tomorrow", queue="backoff", delay=86_400)
    client.enqueue(1, id="t-again", queue="backoff")
    job = client.dequeue("backoff")
    assert job is not None
    client.conclude(job.id, job.lease.token, "failed", error={"type": "OSError", "message": "disk full"}, retry_delay=600)
    page = await open_page(url, "#/queues/backoff")
    tabs = page.get_by_role("navigation", name="Jobs by status")
    await tabs.get_by_role("link", name="Retrying 1").click()
    await expect(jobs(page)).to_have_text(["t-again"])
    await expect(page.get_by_role("table", name="Jobs")).to_contain_text("attempt 2 in ")
    await page.get_by_role("group", name="All of these jobs").get_by_role("button", name="Cancel").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel 1 job").click()
    await expect(page.get_by_text("No job of this queue matches.")).to_be_visible()
    await tabs.get_by_role("link", name="Scheduled 1").click()
    await expect(jobs(page)).to_have_text(["t-tomorrow"])


async def test_no_page_is_offered_where_there_is_none(open_page: Open, url: str, client: Client) -> None:
    """A page that has just as many jobs as fit is the last one, though other queues' jobs are further back."""
    client.enqueue_batch([NewJob(number, queue="others") for number in range(50)])
    client.enqueue_batch([NewJob(number, id=f"p-{number}", queue="paged", type="x") for number in range(25)])
    for narrowed in ("", "?show=queued", "?type=x"):
        page = await open_page(url, f"#/queues/paged{narrowed}")
        await expect(jobs(page)).to_have_count(25)
        await expect(page.get_by_role("button", name="Older")).to_have_count(0)
    client.enqueue(1, id="p-25", queue="paged", type="x")
    await page.get_by_role("button", name="Older").click()
    await expect(jobs(page)).to_have_text(["p-0"])
    await expect(page.get_by_role("button", name="Older")).to_be_disabled()
