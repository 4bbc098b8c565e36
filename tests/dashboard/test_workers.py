"""The page of the workers: idle ones too, which have gone silent, how many slots are used, and hundreds of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from jobqueue import About, Client
from jobqueue.backend import workers
from jobqueue.testing import server_in_thread

from .conftest import Open, expect
from .test_reach import faults

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

MANY = 500


def says(client: Client, name: str, *queues: str, host: str = "alpha", concurrency: int = 8) -> None:
    """A worker asks for a job, and says what it is."""
    client.dequeue(list(queues) or ["mail"], wait=0, worker=name, about=About(host=host, version="1.2", concurrency=concurrency))


@pytest.fixture(scope="module")
def crew() -> Iterator[str]:
    """A server with hundreds of workers: one is busy, one is quiet, two have gone silent, the others are idle."""
    usual = workers.SEEN_SECONDS, workers.SILENT_SECONDS
    # However slow the machine is, nobody goes silent, or is forgotten, while the tests run.
    workers.SEEN_SECONDS = workers.SILENT_SECONDS = 100_000.0
    with server_in_thread() as url, Client(url) as client:
        client.put_queue("mail", lease_seconds=10_000)
        client.enqueue(1, id="j-1", queue="mail")
        says(client, "busy-1", "mail", "bills")
        for number in range(MANY):
            says(client, f"idle-{number:03d}", "mail", host=f"host-{number % 20}")
        for name in ("told", "other"):
            says(client, name, "mail")
            client.quiet_worker(name)
        workers.SEEN_SECONDS = -1.0
        for name in ("gone-1", "gone-2"):
            says(client, name, "bills", host="lost")
        workers.SEEN_SECONDS = 100_000.0
        yield url
    workers.SEEN_SECONDS, workers.SILENT_SECONDS = usual


def known(page: Page) -> Locator:
    return page.get_by_role("table", name="Known workers")


def names(page: Page) -> Locator:
    return known(page).get_by_role("rowheader")


async def test_silent_workers_come_first(crew: str, open_page: Open) -> None:
    """Then the quiet, the busy and the idle, each with its host, its queues, its slots and when it was last seen."""
    page = await open_page(crew, "#/workers")
    await expect(names(page)).to_have_count(50)
    assert (await names(page).all_inner_texts())[:6] == ["gone-1", "gone-2", "other", "told", "busy-1", "idle-000"]
    gone = known(page).get_by_role("row").filter(has_text="gone-1")
    await expect(gone.locator("span.state")).to_have_text("silent")
    await expect(gone).to_contain_text("lost")
    await expect(gone).to_contain_text("ago")
    busy = known(page).get_by_role("row").filter(has_text="busy-1")
    await expect(busy).to_contain_text("1 of 8")
    await expect(busy.get_by_role("link", name="bills")).to_be_visible()
    await expect(page.get_by_role("region", name="Known workers")).to_contain_text("1 of 4,024 slots have a job")


async def test_five_hundred_are_paged_and_narrowed_by_keyboard(crew: str, open_page: Open) -> None:
    """By state, with their numbers, by host, and a page at a time."""
    page = await open_page(crew, "#/workers")
    states = page.get_by_role("group", name="Workers by state")
    await expect(states).to_have_text("All505Silent2Quiet2Busy1Idle500")
    await states.get_by_role("button", name="Silent").focus()
    await page.keyboard.press("Enter")
    await expect(names(page)).to_have_text(["gone-1", "gone-2"])
    await states.get_by_role("button", name="Idle").focus()
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Next").focus()
    await page.keyboard.press("Enter")
    await expect(names(page).first).to_have_text("idle-050")
    await expect(page.get_by_role("region", name="Known workers")).to_contain_text("51–100 of 500")
    await page.get_by_role("searchbox", name="Filter workers").fill("host-7")
    await expect(names(page)).to_have_count(25)
    await page.get_by_role("searchbox", name="Filter workers").fill("nobody")
    await expect(page.get_by_role("region", name="Known workers")).to_contain_text("No worker has “nobody”")


async def test_many_workers_are_not_read_each_second(crew: str, open_page: Open) -> None:
    """Looks between do not read the list; a press of Quiet or Resume does."""
    page = await open_page(crew, "#/workers", script="performance.now = () => 1000;")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/workers?" in request.url else None)
    await expect(names(page)).to_have_count(50)
    with Client(crew) as client:
        client.put_queue("another")
        client.enqueue(1, queue="another")
        await expect(page.get_by_role("table", name="Waiting for jobs")).to_contain_text("another")
        assert len(asked) <= 1
    await known(page).get_by_role("button", name="Resume told").click()
    await expect(known(page).get_by_role("button", name="Resume told")).to_have_count(0)
    with Client(crew) as client:
        client.quiet_worker("told")
    assert len(asked) >= 1


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (390, "light"), (1200, "light"), (1200, "dark")])
async def test_the_page_is_for_everybody(crew: str, open_page: Open, width: int, scheme: str) -> None:
    """Nothing keeps people out, and nothing is wider than the screen."""
    page = await open_page(crew, "#/workers", width=width, color_scheme=scheme, bypass_csp=True)
    await expect(names(page)).to_have_count(50)
    assert await faults(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
