"""A job's log on its page, and the workers with their buttons."""

from __future__ import annotations

import pytest

from jobqueue import About, Client

from .conftest import Open, expect

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_log_is_shown_as_it_comes(open_page: Open, client: Client, url: str) -> None:
    """Lines that come while the page is open are shown without a reload."""
    client.enqueue(1, id="logged", queue="logged")
    job = client.dequeue("logged", wait=0)
    assert job is not None
    client.log("logged", job.lease.token, ["begins"])
    page = await open_page(url, "#/jobs/logged")
    log = page.get_by_role("region", name="Log")
    await expect(log).to_contain_text("begins")
    client.log("logged", job.lease.token, ["<b>goes on</b>"])
    await expect(log).to_contain_text("<b>goes on</b>")


async def test_a_worker_is_made_quiet_and_resumed(open_page: Open, client: Client, url: str) -> None:
    """By the buttons of its row."""
    client.dequeue("worked", wait=0, worker="w/1", about=About(host="alpha", version="1.2"))
    page = await open_page(url, "#/workers")
    known = page.get_by_role("region", name="Known workers")
    await expect(known).to_contain_text("alpha")
    await known.get_by_role("button", name="Quiet w/1").click()
    await page.get_by_role("button", name="Make quiet").click()
    await expect(known.get_by_role("button", name="Resume w/1")).to_be_visible()
    await known.get_by_role("button", name="Resume w/1").click()
    await expect(known.get_by_role("button", name="Quiet w/1")).to_be_visible()
