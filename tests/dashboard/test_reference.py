"""/docs: it shares the dashboard's sign-in, looks like it, and shows what the server really answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, web

from jobqueue import Client
from jobqueue.process import tokens
from jobqueue.testing import server_in_thread

from .conftest import Open, expect
from .test_access import Guarded, other_tab, signed_in
from .test_overview import row
from .test_reach import faults

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """With a job in a queue."""
    file = str(Path(tmp_path_factory.mktemp("tokens")) / "tokens")
    made = {"ops": tokens.make(file, "ops", ["admin"], [])[0]}
    with server_in_thread(token_file=file) as url, Client(url, token=made["ops"]) as client:
        client.enqueue(1, id="b-1", queue="bills")
        yield Guarded(url, made)


PATIENCE_MS = 120_000
"""For what Swagger UI draws: on a busy machine it takes long to unfold an operation."""


def operation(page: Page, method: str, path: str) -> Locator:
    """An operation's block."""
    return page.locator(".opblock", has=page.locator(f'.opblock-summary-path[data-path="{path}"]')).filter(
        has=page.locator(".opblock-summary-method", has_text=method)
    )


async def opened(page: Page, method: str, path: str) -> Locator:
    """The same, unfolded."""
    block = operation(page, method, path)
    await block.locator(".opblock-summary-control").click(timeout=PATIENCE_MS)
    await expect(block.locator(".responses-wrapper").first).to_be_visible(timeout=PATIENCE_MS)
    return block


async def tried(page: Page, path: str) -> Locator:
    """A GET that was tried out."""
    block = await opened(page, "GET", path)
    await block.get_by_role("button", name="Try it out").click(timeout=PATIENCE_MS)
    await block.get_by_role("button", name="Execute").click(timeout=PATIENCE_MS)
    await expect(block.locator(".live-responses-table .response-col_status").last).to_contain_text("200", timeout=PATIENCE_MS)
    return block


async def test_the_reference_shares_the_sign_in(guarded: Guarded, open_page: Open) -> None:
    """The dashboard leads there and it leads back; what is tried out is asked as whoever is signed in; sign-out ends both pages."""
    page = await signed_in(open_page, guarded, "ops")
    await page.get_by_role("navigation").get_by_role("link", name="API").click()
    await expect(page.locator("#who")).to_have_text("ops")
    block = await tried(page, "/queues")
    await expect(block.locator(".live-responses-table")).to_contain_text("bills")
    shown = await block.inner_text()
    assert guarded.tokens["ops"] not in shown
    assert "Jobqueue-Session" not in shown

    dashboard = await other_tab(page, guarded)
    await expect(row(dashboard, "bills")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("link", name="Sign in")).to_be_focused()
    await expect(dashboard.get_by_label("Token")).to_be_visible()
    await page.get_by_role("navigation").get_by_role("link", name="Dashboard").click()
    await expect(page.get_by_label("Token")).to_be_visible()


async def test_a_sign_in_elsewhere_reaches_the_reference(guarded: Guarded, open_page: Open) -> None:
    """Without a reload."""
    page = await open_page(guarded.url, "", path="/docs")
    await expect(page.get_by_role("link", name="Sign in")).to_be_visible()
    dashboard = await other_tab(page, guarded)
    await dashboard.get_by_label("Token").fill(guarded.tokens["ops"])
    await dashboard.get_by_role("button", name="Sign in").click()
    await expect(page.locator("#who")).to_have_text("ops")
    await expect(page.get_by_role("link", name="Sign in")).to_have_count(0)


async def test_without_a_token_set_there_is_nothing_to_sign_in_to(url: str, open_page: Open) -> None:
    """What is tried out is asked as anybody."""
    page = await open_page(url, "", path="/docs")
    await tried(page, "/queues")
    for name in ("Sign in", "Sign out"):
        await expect(page.get_by_text(name, exact=True)).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_follows_the_browser_and_anybody_can_read_it(url: str, open_page: Open, scheme: str) -> None:
    """Dark where the browser is, also when that changes; axe finds nothing serious, with an operation and its errors unfolded.

    But for how Swagger UI builds the line of an operation: a small link inside of a button.
    """
    page = await open_page(url, "", path="/docs", color_scheme=scheme, bypass_csp=True)
    await opened(page, "DELETE", "/queues/{name}")
    ground = "getComputedStyle(document.querySelector('.swagger-ui')).backgroundColor"
    assert (await page.evaluate(ground) == "rgb(15, 18, 23)") is (scheme == "dark")
    theirs = ("nested-interactive", "target-size")
    assert [fault for fault in await faults(page) if not fault.startswith(theirs)] == []
    await page.emulate_media(color_scheme="light" if scheme == "dark" else "dark")
    await page.wait_for_function("dark => document.documentElement.classList.contains('dark-mode') === dark", arg=scheme == "light")


async def test_errors_are_shown_as_they_are_answered(url: str, open_page: Open) -> None:
    """Status, code, sentence and field of the operation's own errors, and none with the status 0."""
    page = await open_page(url, "", path="/docs")
    block = await opened(page, "DELETE", "/queues/{name}")
    await expect(block.locator('.response[data-code="404"]')).to_contain_text("there is no queue named 'reports'")
    conflict = block.locator('.response[data-code="409"]')
    await expect(conflict).to_contain_text("queue 'reports' holds 2 jobs that are not concluded; purge it first")
    await expect(conflict).to_contain_text('"status": 409')
    assert '"status": 0' not in await block.inner_text()


async def test_dialects_stand_apart(url: str, open_page: Open) -> None:
    """Behind the server's own API, under a heading, folded until somebody opens one."""
    page = await open_page(url, "", path="/docs")
    await expect(page.get_by_role("heading", name="Dialects", exact=True)).to_be_visible()
    tags = await page.locator(".opblock-tag").evaluate_all("found => found.map((tag) => tag.dataset.tag)")
    own = [tag for tag in tags if not tag.startswith("dialect: ")]
    assert tags[: len(own)] == own
    assert tags[len(own) :] == ["dialect: classic", "dialect: simplequeue", "dialect: sqs", "dialect: workpool"]
    await expect(operation(page, "GET", "/simplequeue/jobs/next")).to_have_count(0)
    await page.get_by_role("button", name="Expand operation").nth(1).click()
    await expect(operation(page, "GET", "/simplequeue/jobs/next")).to_be_visible()


@asynccontextmanager
async def behind_a_prefix(url: str) -> AsyncIterator[str]:
    """A proxy that serves a server below /tools/queue, as nginx does where `proxy_pass` ends in a slash."""
    async with ClientSession() as session:

        async def passed(request: web.Request) -> web.StreamResponse:
            target = url + request.raw_path.removeprefix("/tools/queue")
            async with session.request(request.method, target, headers=request.headers, data=await request.read()) as answer:
                response = web.StreamResponse(status=answer.status, headers=answer.headers)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                return response

        app = web.Application()
        app.router.add_route("*", "/tools/queue/{rest:.*}", passed)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/tools/queue"
        await runner.cleanup()


async def test_both_pages_work_behind_a_prefix(guarded: Guarded, open_page: Open) -> None:
    """The cookie holds below the prefix, and what is tried out goes there."""
    async with behind_a_prefix(guarded.url) as url:
        page = await signed_in(open_page, Guarded(url, guarded.tokens), "ops", "#/")
        await expect(row(page, "bills")).to_be_visible()
        (cookie,) = await page.context.cookies()
        assert cookie["path"] == "/tools/queue"
        await page.get_by_role("navigation").get_by_role("link", name="API").click()
        block = await tried(page, "/queues")
        await expect(block.locator(".request-url")).to_contain_text(f"{url}/queues")
        await page.context.close()
