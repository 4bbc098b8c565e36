"""A group's page, and what a job's page says of its parents, its children and its group."""

from __future__ import annotations

import pytest

from jobqueue import Client, NewJob

from .conftest import Open, expect

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_group_shows_its_progress_and_is_cancelled(open_page: Open, url: str, client: Client) -> None:
    """How many of its jobs have ended; its jobs as links; cancelled, it says so."""
    client.groups.create("map", on_concluded=NewJob(1, queue="reduce"))
    client.enqueue(1, id="map-1", queue="map", group="map")
    client.enqueue(2, id="map-2", queue="map", group="map", after=["map-1"])
    client.cancel("map-1")
    page = await open_page(url, "#/groups/map")
    await expect(page.get_by_text("2 of 2")).to_be_visible()
    await expect(page.get_by_role("link", name="map-2")).to_be_visible()
    await page.get_by_role("button", name="Close").click()
    await expect(page.get_by_role("link", name="map:concluded")).to_be_visible()


async def test_groups_are_listed_and_lead_to_their_pages(open_page: Open, url: str, client: Client) -> None:
    """From the top of every page to the list, and from there to one, which leads back."""
    client.groups.create("parts")
    client.enqueue(1, id="part-1", queue="map", group="parts")
    page = await open_page(url, "#/")
    await page.get_by_role("link", name="Groups").click()
    await expect(page.get_by_role("row", name="parts")).to_contain_text("0 of 1")
    await page.get_by_role("link", name="parts", exact=True).click()
    await expect(page.get_by_role("heading", name="parts")).to_be_visible()
    await expect(page.get_by_role("main").get_by_role("link", name="Groups")).to_be_visible()


async def test_a_job_links_its_parents_children_and_group(open_page: Open, url: str, client: Client) -> None:
    """And says for whom it waits."""
    client.groups.create("line")
    client.enqueue(1, id="line-1", queue="line")
    client.enqueue(2, id="line-2", queue="line", after=["line-1"], group="line")
    client.enqueue(3, id="line-3", queue="line", after=["line-2"])
    page = await open_page(url, "#/jobs/line-2")
    await expect(page.get_by_text("It runs after a job that has not ended")).to_be_visible()
    await expect(page.get_by_role("link", name="line-3")).to_be_visible()
    await page.get_by_label("Facts").get_by_role("link", name="line-1").click()
    await expect(page.get_by_role("heading", name="line-1")).to_be_visible()


async def test_a_group_that_is_not_there_is_said_to_be_missing(open_page: Open, url: str) -> None:
    """Its page says so, and the server is reached all the same."""
    page = await open_page(url, "#/groups/nobody", expected=("404",))
    await expect(page.get_by_text("There is no such group")).to_be_visible()
    await expect(page.get_by_text("Not reached")).to_have_count(0)
