"""Schedules: the list, one with its next runs, what may be done to it, and how a job of one leads there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from jobqueue import Client, NewJob

from .conftest import Open, expect
from .test_reach import tab_to

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

pytestmark = pytest.mark.asyncio(loop_scope="session")


def row(page: Page, name: str) -> Locator:
    """A schedule's row."""
    return page.get_by_role("table", name="Schedules").get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


async def test_schedules_are_listed_and_lead_on(open_page: Open, url: str, client: Client) -> None:
    """State, times, queue and last run of each; a job that one made leads back to it."""
    client.schedules.put("listed", NewJob(1, queue="made"), cron="0 2 * * *", timezone="Europe/Berlin")
    client.schedules.put("resting", NewJob(1), every=90, paused=True)
    client.schedules.run("listed")
    page = await open_page(url)
    await page.get_by_role("navigation").get_by_role("link", name="Schedules").click()
    await expect(row(page, "listed").get_by_role("cell")).to_contain_text(
        ["Running", "0 2 * * * Europe/Berlin", ":", ":", "made", "1", "0"]
    )
    await expect(row(page, "resting")).to_contain_text(re.compile(r"Paused\d+ s agoevery 1 min 30 s–neverdefault00"))

    await row(page, "listed").get_by_role("cell").nth(3).get_by_role("link").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"listed@run-\d+"))
    facts = page.get_by_role("region", name="Facts")
    await expect(facts).to_contain_text("listed, run by hand")
    await facts.get_by_role("link", name="listed").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("listed")
    await expect(page.get_by_role("region", name="Next runs").get_by_role("term")).to_have_count(5)
    await expect(page.get_by_role("region", name="Runs", exact=True)).to_contain_text(re.compile(r"listed@run-\d+"))


async def test_one_is_made_and_edited(open_page: Open, url: str, client: Client) -> None:
    """What is wrong is said at its field; a payload goes as it was typed, and what is not in the form stays."""
    page = await open_page(url, "#/schedules", expected=("400", "404"))
    await page.get_by_role("button", name="New schedule").click()
    await page.get_by_label("Name").fill("typed")
    await page.get_by_role("button", name="Create schedule").click()
    await expect(page.get_by_label("Cron")).to_be_focused()
    await page.get_by_label("Cron").fill("61 * * * *")
    await page.get_by_label("Payload").fill('{"n": 12345678901234567890}')
    await page.get_by_role("button", name="Create schedule").click()
    await expect(page.locator("#note-cron.bad")).to_contain_text("minute")
    await page.get_by_label("Cron").fill("@hourly")
    await page.get_by_label("Queue").fill("typing")
    await page.get_by_role("button", name="Create schedule").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("typed")
    await expect(page.get_by_role("region", name="Payload")).to_contain_text("12345678901234567890")
    made = client.schedules.get("typed")
    assert (made.cron, made.job.queue, made.job.payload) == ("@hourly", "typing", {"n": 12345678901234567890})

    client.schedules.change("typed", job=NewJob({"n": 1}, queue="typing", key="kept"))
    await page.get_by_role("button", name="Edit").click()
    await page.get_by_label("Cron").fill("")
    await page.get_by_label("Every").fill("30")
    await page.get_by_label("Priority").fill("1")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("region", name="Rules")).to_contain_text("every 30 s")
    made = client.schedules.get("typed")
    assert (made.cron, made.every, made.job.priority, made.job.key, made.job.payload) == (None, 30.0, 1, "kept", {"n": 1})


async def test_none_is_replaced_by_a_new_one(open_page: Open, url: str, client: Client) -> None:
    """A name that is taken is refused at its field."""
    client.schedules.put("taken", NewJob(1), every=60)
    page = await open_page(url, "#/schedules")
    await page.get_by_role("button", name="New schedule").click()
    await page.get_by_label("Name").fill("taken")
    await page.get_by_label("Every").fill("5")
    await page.get_by_role("button", name="Create schedule").click()
    await expect(page.locator("#note-name.bad")).to_have_text("A schedule with this name already exists.")
    assert client.schedules.get("taken").every == 60


async def test_one_is_run_paused_and_deleted_by_keyboard(open_page: Open, url: str, client: Client) -> None:
    """Each after a question, but for what takes nothing away."""
    client.schedules.put("keyed", NewJob(1), every=3600)
    page = await open_page(url, "#/schedules/keyed", expected=("404",))

    async def press(name: str, sure: bool = True) -> None:
        await tab_to(page, page.locator("main").get_by_role("button", name=name, exact=True))
        await page.keyboard.press("Enter")
        if sure:
            await tab_to(page, page.get_by_role("dialog").get_by_role("button", name=name, exact=True))
            await page.keyboard.press("Enter")

    await press("Run now")
    await expect(page.get_by_role("region", name="Runs", exact=True)).to_contain_text("keyed@run-")
    await press("Pause")
    await expect(page.get_by_role("region", name="Next runs")).to_contain_text("None while it is paused.")
    await press("Resume", sure=False)
    await expect(page.get_by_role("region", name="Next runs").get_by_role("term")).to_have_count(5)
    await press("Delete")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Schedules")
    assert "keyed" not in [each.name for each in client.schedules.list()]


async def test_no_schedules_say_how_to_make_one(open_page: Open, own_url: str) -> None:
    """A command line; and of an address that leads nowhere, why."""
    page = await open_page(own_url, "#/schedules", expected=("404",))
    await expect(page.locator("main")).to_contain_text("curl -s -X PUT --json")
    await page.goto(f"{own_url}/#/schedules/none")
    await expect(page.locator("main")).to_contain_text("There is no such schedule")
