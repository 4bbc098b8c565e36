"""Who paused what, and when: in the banner, in the tables, on the queue's page, and after a restart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from jobqueue import Client, NewJob
from jobqueue.process import tokens
from jobqueue.testing import server_in_thread

from .conftest import Open, expect
from .test_overview import row

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Paused(NamedTuple):
    """A server on which ann has paused a queue, a key and a schedule, and what a token is that may look."""

    url: str
    token: str


@pytest.fixture(scope="module")
def paused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paused]:
    """Paused before the server was started anew on its file."""
    folder = tmp_path_factory.mktemp("pauses")
    file, data = str(folder / "tokens"), str(folder / "jobs.db")
    ann, _ = tokens.make(file, "ann", ["admin"], [])
    with server_in_thread(token_file=file, data=data) as url, Client(url, token=ann) as client:
        client.enqueue(1, queue="mail", key="acme")
        client.pause("mail")
        client.put_queue("rest", per_key={"order": "fifo"})
        client.enqueue(1, queue="rest", key="acme")
        client.pause_key("rest", "acme")
        client.schedules.put("nightly", NewJob(1), every=86_400, paused=True)
    with server_in_thread(token_file=file, data=data) as url:
        yield Paused(url, ann)


BY_ANN = re.compile(r"by ann \d+ s ago")


async def test_who_paused_and_when_is_seen_everywhere(open_page: Open, paused: Paused) -> None:
    """In the banner of the overview, in its table, on the queue's page, beside a key, and among the schedules."""
    page = await open_page(paused.url)
    await page.get_by_label("Token").fill(paused.token)
    await page.get_by_role("button", name="Sign in").click()
    health = page.get_by_role("region", name="Health")
    await expect(health.get_by_role("listitem").filter(has_text="mail")).to_contain_text(
        re.compile(r"paused by ann \d+ s ago with 1 queued")
    )
    await expect(row(page, "mail").locator("[data-label=State]")).to_contain_text(BY_ANN)
    await page.goto(f"{paused.url}/#/queues/mail")
    await expect(page.locator("main .title-line")).to_contain_text(BY_ANN)
    await expect(page.get_by_role("region", name="Policy").locator("div").filter(has_text="Paused")).to_contain_text(BY_ANN)
    await page.goto(f"{paused.url}/#/queues/rest")
    await expect(page.get_by_role("table", name="Keys")).to_contain_text(BY_ANN)
    await page.goto(f"{paused.url}/#/schedules")
    await expect(page.get_by_role("table", name="Schedules")).to_contain_text(BY_ANN)
    await page.goto(f"{paused.url}/#/schedules/nightly")
    await expect(page.locator("main .title-line")).to_contain_text(re.compile(r"It was paused by ann \d+ s ago and makes no jobs"))
