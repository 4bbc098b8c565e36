"""The page for everybody: screen readers, keyboards, small and large screens, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobqueue import Client, NewJob, PerKey, Rate
from jobqueue.testing import server_in_thread

from .conftest import Open, expect

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

AXE = (Path(__file__).parent / "axe.min.js").read_text(encoding="utf-8")
RULES = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}"
GRAVE = ("serious", "critical")

VIEWS = {
    "#/": "main table",
    "#/queues/mail": "main table",
    "#/jobs/m-1": "main pre",
    "#/jobs/m-2": "main pre",
    "#/workers": "main table",
    "#/server": "main table",
    "#/enqueue": "main form",
    "#/queues/none": "main .empty",
    "#/queues/ledger": "main .keys",
    "#/schedules": "main table",
    "#/schedules/nightly": "main .pairs",
    "#/schedules/none": "main .empty",
    "#/jobs/l-1": "main .waiting",
}


@pytest.fixture(scope="module")
def lively() -> Iterator[str]:
    """A server with something of everything."""
    with server_in_thread() as url, Client(url) as client:
        client.enqueue({"a": 1}, id="m-1", queue="mail", type="welcome", description="To Ann.")
        job = client.dequeue("mail", worker="w-1")
        assert job is not None
        client.conclude(job.id, job.lease.token, "failed", error="no", retry=False)
        client.enqueue({"a": 1}, id="m-2", queue="mail")
        job = client.dequeue("mail", worker="w-1")
        assert job is not None
        client.extend(job.id, job.lease.token, progress=0.4, message="half")
        client.enqueue(1, queue="alone")
        client.enqueue(1, queue="stopped", delay=60)
        client.enqueue(1, queue="stopped")
        client.pause("stopped")
        client.put_queue("ledger", concurrency=1, rate=Rate(1, 3600), per_key=PerKey(order="fifo"))
        for number in range(2):
            client.enqueue(1, id=f"l-{number}", queue="ledger", key="acme")
        assert client.dequeue("ledger", worker="w-1", wait=10) is not None
        client.schedules.put("nightly", NewJob({"a": 1}, queue="alone"), cron="0 2 * * *", timezone="Europe/Berlin")
        client.schedules.put(
            "a-name-that-is-rather-long-and-goes-on-for-a-while-until-64-", NewJob(1, queue="alone"), every=86_400, paused=True
        )
        client.schedules.run("nightly")
        yield url


async def faults(page: Page) -> list[str]:
    """What axe finds of what keeps people out."""
    await page.evaluate(AXE)
    found = await page.evaluate(f"axe.run(document, {RULES})")
    assert len(found["passes"]) > 10
    return [
        f"{fault['id']}: {node['html']} {node['failureSummary']}"
        for fault in found["violations"]
        if fault["impact"] in GRAVE
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1600, "light")])
async def test_axe_finds_nothing_serious(lively: str, open_page: Open, width: int, scheme: str) -> None:
    """Names, roles, contrast, order and all else that a program can check, on every view."""
    page = await open_page(lively, width=width, color_scheme=scheme, bypass_csp=True, expected=("404",))
    for view, settled in VIEWS.items():
        await page.evaluate("(view) => { location.hash = view; }", view)
        await expect(page.locator(settled).first).to_be_visible()
        assert await faults(page) == [], view


async def test_axe_finds_nothing_serious_in_dialogs(lively: str, open_page: Open) -> None:
    """A question, and the policy editor."""
    page = await open_page(lively, "#/queues/mail", bypass_csp=True)
    for action in ("Policy", "Purge"):
        await page.locator("main").get_by_role("button", name=action).click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        assert await faults(page) == []
        await page.keyboard.press("Escape")


async def test_axe_finds_nothing_serious_in_the_schedule_editor(lively: str, open_page: Open) -> None:
    """For a new one, refused for want of a name, and for one that is there."""
    page = await open_page(lively, "#/schedules", bypass_csp=True)
    await page.get_by_role("button", name="New schedule").click()
    await page.get_by_role("button", name="Create schedule").click()
    await expect(page.get_by_label("Name")).to_be_focused()
    assert await faults(page) == []
    await page.keyboard.press("Escape")
    await page.get_by_role("table", name="Schedules").get_by_role("link", name="nightly", exact=True).click()
    await page.get_by_role("button", name="Edit").click()
    await expect(page.get_by_label("Cron")).to_have_value("0 2 * * *")
    assert await faults(page) == []


@pytest.mark.parametrize("width", [360, 768, 1024, 1600])
async def test_no_view_is_wider_than_the_screen(lively: str, open_page: Open, width: int) -> None:
    """Nothing has to be scrolled sideways to be read."""
    page = await open_page(lively, width=width, expected=("404",))
    for view, settled in VIEWS.items():
        await page.evaluate("(view) => { location.hash = view; }", view)
        await expect(page.locator(settled).first).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), view


async def test_everything_is_reached_by_keyboard(lively: str, open_page: Open) -> None:
    """From the top to a queue's question and out of it again, by Tab, Enter and Escape alone."""
    page = await open_page(lively)
    await expect(page.get_by_role("table", name="Queues")).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()

    await tab_to(page, page.get_by_role("table", name="Queues").get_by_role("link", name="mail", exact=True))
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_be_focused()
    await tab_to(page, page.get_by_role("button", name="Pause", exact=True))
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_be_visible()
    for _ in range(6):
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.closest('dialog') !== null || document.activeElement === document.body")
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(page.get_by_role("button", name="Pause", exact=True)).to_be_focused()
    await page.keyboard.press("/")
    await expect(page.get_by_placeholder("A job’s id, or a type")).to_be_focused()


async def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until the focus is there. What is still to be drawn is waited for: keys are quicker than a busy server's answers."""
    await expect(wanted).to_be_visible()
    places = await page.locator("a, button, input, select, textarea, summary, [tabindex]").count()
    for _ in range(2 * places):
        await page.keyboard.press("Tab")
        if await wanted.evaluate("(one) => one === document.activeElement"):
            return
    raise AssertionError(f"{wanted} is not reached")


async def test_a_new_view_is_told_to_who_cannot_see_it(lively: str, open_page: Open) -> None:
    """Its heading has the focus, and the title names it; going back works as everywhere."""
    page = await open_page(lively)
    await page.get_by_role("link", name="Workers").click()
    await expect(page.get_by_role("heading", level=1, name="Workers")).to_be_focused()
    await expect(page).to_have_title("Workers · jobqueue")
    await page.go_back()
    await expect(page).to_have_title("Overview · jobqueue")


async def test_numbers_line_up(lively: str, open_page: Open) -> None:
    """Digits are of one width, and a column's numbers end at one edge."""
    page = await open_page(lively)
    table = page.get_by_role("table", name="Queues")
    await expect(table).to_be_visible()
    for label in ("Queued", "Waiters", "Failed"):
        edges = await table.locator(f"[data-label='{label}'] .number").evaluate_all(
            "(all) => all.map((one) => one.getBoundingClientRect().right)"
        )
        assert len(edges) == 4
        assert max(edges) - min(edges) < 0.6
    assert await table.evaluate("(one) => getComputedStyle(one).fontVariantNumeric") == "tabular-nums"
