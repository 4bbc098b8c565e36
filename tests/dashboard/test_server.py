"""The page of the server, and what is nearly full on the overview: the disk, memory, whatever has a bound."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from jobqueue import Client, __version__
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.testing import server_in_thread

from .conftest import Open, expect
from .test_access import Guarded, guarded, signed_in
from .test_reach import faults

__all__ = ["guarded"]

pytestmark = pytest.mark.asyncio(loop_scope="session")

GIB = 1 << 30


class Usage(NamedTuple):
    """As shutil gives it."""

    total: int
    used: int
    free: int


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how much is free of a disk of 100 GiB."""

    def say(count: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GIB, 100 * GIB - count, count))

    return say


@pytest.fixture
def on_file(tmp_path: Path) -> Iterator[str]:
    """A server on a file, with a job. It must be asked for before `open_page`."""
    with server_in_thread(data=str(tmp_path / "jobs.db"), max_jobs=10) as url:
        with Client(url) as client:
            client.enqueue(1, queue="mail", delay=60)
        yield url


async def test_the_page_says_what_the_server_is(on_file: str, open_page: Open, free: Callable[[int], None], tmp_path: Path) -> None:
    """Its version, where it keeps jobs, the file and the disk, the last commit, what is used of each bound, and the limits."""
    free(50 * GIB)
    page = await open_page(on_file)
    await page.get_by_role("navigation", name="Views").get_by_role("link", name="Server").click()
    await expect(page.locator("main .title-line")).to_have_text("ServerWell")
    about = page.get_by_role("region", name="About")
    for said in (__version__, "in a file", str(tmp_path / "jobs.db"), "50 GiB of 100 GiB", "ago, took"):
        await expect(about).to_contain_text(said)
    uses = page.get_by_role("table", name="Usage and bounds")
    await expect(uses.get_by_role("row").filter(has_text="Jobs that are not concluded")).to_contain_text("Well1 of 10")
    await expect(page.get_by_role("region", name="Limits in force")).to_contain_text("jobs_max10")


@pytest.mark.parametrize(("count", "word"), [(2 * GIB, "Disk: nearly full"), (1 << 20, "Disk: full")])
async def test_a_full_disk_is_seen_from_the_overview(
    on_file: str, open_page: Open, free: Callable[[int], None], count: int, word: str
) -> None:
    """It stands first in the health line, with how much is free, and leads to the page of the server, where it is marked."""
    free(count)
    page = await open_page(on_file)
    health = page.get_by_role("region", name="Health")
    await expect(health.locator(".headline")).to_have_text(word)
    await expect(health.get_by_role("listitem").first).to_contain_text("of 100 GiB free")
    await health.get_by_role("link", name="Server").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("main .title-line")).to_contain_text(word)
    row = page.get_by_role("table", name="Usage and bounds").get_by_role("row").nth(1)
    await expect(row).to_contain_text("Disk")
    await expect(row.locator("span.state")).to_have_text(word.partition(": ")[2].capitalize())


async def test_a_file_that_takes_no_changes_stands_first(
    on_file: str, open_page: Open, free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason, before all else that is wrong."""
    free(2 * GIB)
    stats = GroupJournal.stats

    def failing(self: GroupJournal) -> object:
        self._failing = "database or disk is full"
        return stats(self)

    monkeypatch.setattr(GroupJournal, "stats", failing)
    page = await open_page(on_file, expected=("503",))
    health = page.get_by_role("region", name="Health")
    await expect(health.locator(".headline")).to_have_text("Changes cannot be stored")
    await expect(health.get_by_role("listitem").first).to_contain_text("database or disk is full")
    await expect(health.get_by_role("listitem").nth(1)).to_contain_text("Disk: nearly full")
    await page.goto(f"{on_file}/#/server")
    await expect(page.get_by_role("region", name="About")).to_contain_text("fails: database or disk is full")


async def test_as_many_jobs_as_may_be_need_a_look(on_file: str, open_page: Open, free: Callable[[int], None]) -> None:
    """Nine of ten are near the bound, ten are all that may be."""
    free(50 * GIB)
    with Client(on_file) as client:
        for _ in range(8):
            client.enqueue(1, queue="mail", delay=60)
        page = await open_page(on_file)
        await expect(page.get_by_role("region", name="Health")).to_contain_text("Jobs that are not concluded: nearly full")
        client.enqueue(1, queue="mail", delay=60)
        page = await open_page(on_file)
        await expect(page.get_by_role("region", name="Health")).to_contain_text("Jobs that are not concluded: full")


async def test_a_token_for_some_queues_is_shown_nothing_of_the_server(open_page: Open, guarded: Guarded) -> None:
    """There is no link, and who comes by the address is told why there is nothing."""
    page = await signed_in(open_page, guarded, "mailer")
    await expect(page.get_by_role("table", name="Queues")).to_be_visible()
    await expect(page.get_by_role("navigation", name="Views").get_by_role("link", name="Server")).to_have_count(0)
    await page.goto(f"{guarded.url}/#/server")
    await expect(page.locator("main")).to_contain_text("Your token is limited to some queues")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (390, "light"), (1200, "light"), (1200, "dark")])
async def test_the_page_is_for_everybody(on_file: str, open_page: Open, free: Callable[[int], None], width: int, scheme: str) -> None:
    """Nothing keeps people out, and nothing is wider than the screen, well or not."""
    free(1 << 20)
    page = await open_page(on_file, "#/server", width=width, color_scheme=scheme, bypass_csp=True)
    await expect(page.get_by_role("table", name="Usage and bounds")).to_be_visible()
    for view in ("#/server", "#/"):
        await page.goto(f"{on_file}/{view}")
        await expect(page.locator("main table").first).to_be_visible()
        assert await faults(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


async def test_on_a_phone_trouble_comes_first(on_file: str, open_page: Open, free: Callable[[int], None]) -> None:
    """Then the queues, a short row each of what is not nothing, then all else; no row is higher than two lines."""
    free(50 * GIB)
    with Client(on_file) as client:
        client.enqueue(1, queue="alone")
        client.enqueue(1, queue="alone")
    page = await open_page(on_file, width=390)
    alone = page.get_by_role("table", name="Queues").locator("tbody tr").filter(has_text="alone")
    await expect(alone).to_contain_text("No workers")
    places = (".verdict", "main .queues", "main .tiles", "main .charts")
    heights = [await page.locator(place).first.evaluate("(place) => place.getBoundingClientRect().top") for place in places]
    assert heights == sorted(heights)
    box = await alone.bounding_box()
    assert box is not None
    assert box["height"] < 70
    await expect(alone.locator("td.number:visible")).to_have_count(2)
