"""The servers on one store: who is there, who owns the queue, and what stands first when nobody does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from msgspec.structs import replace

from jobqueue import Client
from jobqueue.backend.base import ClusterStats, MemberStats
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.shell import Shell
from jobqueue.errors import StorageUnavailable
from tests.api.test_stats import FRONT, SEVERAL

from .conftest import Open, expect
from .test_reach import faults

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

Sees = Callable[[ClusterStats], None]

HEALTHY = replace(FRONT, members=[MemberStats(name, f"{name}:8081", 0.4) for name in "abc"])
NOBODY = replace(
    FRONT,
    owner=None,
    owner_address=None,
    lease_left_seconds=None,
    standby=None,
    behind=0,
    link_seconds=None,
    problem="its clock is +7.2 s off the store's; 5 s are allowed",
)


@pytest.fixture
def sees(monkeypatch: pytest.MonkeyPatch) -> Sees:
    """Says how the servers of this process see the others from now on; one that sees no owner can tell nothing of queues either."""

    async def nothing(self: Shell, *given: object) -> NoReturn:
        raise StorageUnavailable("there is no owner at the moment")

    def see(cluster: ClusterStats) -> None:
        monkeypatch.setattr(Shell, "cluster", lambda self: cluster)
        if None in cluster.owners:
            for name in ("stats", "queue_page", "jobs"):
                monkeypatch.setattr(LocalBackend, name, nothing)

    return see


def fact(page: Page, name: str) -> Any:
    """What stands under a heading of the panel."""
    return page.locator(".facts > div").filter(has=page.get_by_text(name, exact=True)).locator("dd")


async def test_a_server_by_itself_has_no_panel(own_url: str, open_page: Open) -> None:
    """Nothing of other servers."""
    with Client(own_url) as client:
        client.put_queue("quiet")
    page = await open_page(own_url)
    await expect(page.get_by_role("table", name="Queues")).to_be_visible()
    await expect(page.get_by_role("region", name="Servers")).to_have_count(0)


async def test_each_server_has_a_row_with_its_state(own_url: str, open_page: Open, sees: Sees) -> None:
    """The owner, the standby, the one that is asked; how long it takes to be stored and to be passed on."""
    with Client(own_url) as client:
        client.put_queue("quiet")
    sees(HEALTHY)
    page = await open_page(own_url)
    rows = page.get_by_role("table", name="Servers").get_by_role("row")
    await expect(rows).to_have_count(4)
    await expect(rows.nth(1)).to_contain_text("Owner")
    await expect(rows.nth(1)).to_contain_text("a:8081")
    await expect(rows.nth(2)).to_contain_text("this server")
    await expect(rows.nth(2)).to_contain_text("Front")
    await expect(rows.nth(3)).to_contain_text("Standby")
    await expect(page.get_by_role("region", name="Servers")).to_contain_text("valkey://store:6379")
    for name, said in {
        "Owner": "a",
        "Epoch": "7",
        "Standby": "2 commits behind",
        "Owner answers in": "1 ms",
        "Clock": "20 ms behind the store’s",
    }.items():
        await expect(fact(page, name)).to_have_text(said)
    await expect(page.get_by_role("region", name="Health")).to_contain_text("All well")


async def test_a_silent_server_needs_a_look(own_url: str, open_page: Open, sees: Sees) -> None:
    """Its row says for how long, and the health of the whole says that there is one."""
    with Client(own_url) as client:
        client.put_queue("quiet")
    sees(FRONT)
    page = await open_page(own_url)
    await expect(page.get_by_role("table", name="Servers").get_by_role("row").nth(3)).to_contain_text("Silent for 12 s")
    await expect(page.get_by_role("region", name="Health")).to_contain_text("A server is silent")


async def test_a_store_that_does_not_answer_makes_nobody_silent(own_url: str, open_page: Open, sees: Sees) -> None:
    """What this server heard last is old for all; the reason is told, and not blamed on the others."""
    with Client(own_url) as client:
        client.put_queue("quiet")
    sees(replace(HEALTHY, members=[MemberStats(name, f"{name}:8081", 20.0) for name in "abc"], problem="the store does not answer"))
    page = await open_page(own_url)
    await expect(page.get_by_role("region", name="Health")).to_contain_text("This server cannot become the owner")
    await expect(page.get_by_role("region", name="Servers")).not_to_contain_text("Silent")


async def test_without_an_owner_that_stands_first(own_url: str, open_page: Open, sees: Sees) -> None:
    """A page that is open keeps its numbers and says that they are old; what it means and why this server does not step in is there."""
    with Client(own_url) as client:
        client.enqueue(1, queue="mail")
    sees(HEALTHY)
    page = await open_page(own_url, expected=("503",))
    await expect(page.get_by_role("table", name="Servers")).to_be_visible()
    sees(NOBODY)
    health = page.get_by_role("region", name="Health")
    await expect(health).to_contain_text("No server owns the queue")
    await expect(health).to_contain_text("requests are answered 503 until one has claimed it")
    await expect(health).to_contain_text("its clock is +7.2 s off")
    await expect(page.locator(".lights")).to_contain_text("Old numbers")
    await expect(page.get_by_role("table", name="Queues")).to_contain_text("mail")
    await expect(fact(page, "Owner")).to_have_text("none")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 420])
async def test_a_page_that_finds_no_owner_shows_who_is_there(own_url: str, open_page: Open, sees: Sees, scheme: str, width: int) -> None:
    """The banner and the servers, with nothing that keeps people out, in both schemes, on small and large screens."""
    sees(NOBODY)
    page = await open_page(own_url, expected=("503",), width=width, color_scheme=scheme)
    await expect(page.get_by_role("region", name="Health")).to_contain_text("No server owns the queue")
    await expect(page.get_by_role("table", name="Servers")).to_be_visible()
    assert await faults(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


async def test_each_partition_has_a_row(own_url: str, sees: Sees, open_page: Open) -> None:
    """Its owner and its standby; and what stands first when one of them has no owner."""
    sees(replace(SEVERAL, members=HEALTHY.members))
    page = await open_page(f"{own_url}/#/server")
    rows = page.get_by_role("table", name="Partitions").get_by_role("row")
    await expect(rows).to_have_count(3)
    await expect(rows.nth(1)).to_contain_text("c, 2 commits behind")
    await expect(fact(page, "Partitions")).to_have_text("2")
    first, second = SEVERAL.partitions
    sees(replace(SEVERAL, members=HEALTHY.members, partitions=[replace(first, owner=None, owner_address=None), second]))
    await expect(fact(page, "Partitions")).to_have_text("1 of 2 without an owner")
    await expect(page.get_by_text("No server owns partition 0")).to_be_visible()
