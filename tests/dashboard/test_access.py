"""Who may see and do what: the token, its scopes, its queues. And where the native API stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from jobqueue import Client
from jobqueue.process import tokens
from jobqueue.testing import server_in_thread

from .conftest import Open, expect
from .test_overview import row
from .test_reach import faults

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCOPES = {"ops": ["admin"], "looker": ["read"], "producer": ["enqueue"], "shop": ["read", "enqueue"], "mailer": ["read", "admin"]}


class Guarded(NamedTuple):
    """A server that asks for a token, and tokens by name."""

    url: str
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """With two queues, a job in each."""
    file = str(Path(tmp_path_factory.mktemp("tokens")) / "tokens")
    made = {name: tokens.make(file, name, scopes, ["mail*"] if name == "mailer" else [])[0] for name, scopes in SCOPES.items()}
    with server_in_thread(token_file=file) as url, Client(url, token=made["ops"]) as client:
        client.enqueue(1, id="m-1", queue="mail")
        client.enqueue(1, id="b-1", queue="bills")
        yield Guarded(url, made)


async def signed_in(open_page: Open, guarded: Guarded, name: str, view: str = "#/", **options: object) -> Page:
    """A page where somebody has signed in."""
    page = await open_page(guarded.url, view, **options)
    await page.get_by_label("Token").fill(guarded.tokens[name])
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator(".who")).to_have_text(name)
    return page


async def test_without_a_token_nothing_is_shown(guarded: Guarded, open_page: Open) -> None:
    """The page asks for the token, with the focus where it goes, and asks the server for nothing until it has one."""
    page = await open_page(guarded.url)
    await expect(page.get_by_label("Token")).to_be_focused()
    await expect(page.get_by_role("navigation")).to_have_count(0)
    await expect(page.get_by_text("mail")).to_have_count(0)


async def test_a_wrong_token_is_told_and_forgotten(guarded: Guarded, open_page: Open) -> None:
    """The field says so, to everybody; nothing of it is kept."""
    page = await open_page(guarded.url, expected=("401",), bypass_csp=True)
    await page.get_by_label("Token").fill("wrong")
    await page.get_by_label("Token").press("Enter")
    await expect(page.get_by_text("The server does not know this token.")).to_be_visible()
    assert await page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
    assert await page.context.cookies() == []
    await expect(page.get_by_label("Token")).to_be_focused()
    assert await faults(page) == []


async def other_tab(page: Page, guarded: Guarded, view: str = "#/") -> Page:
    """Another tab of the same browser."""
    tab = await page.context.new_page()
    await tab.goto(f"{guarded.url}/{view}")
    return tab


async def test_one_sign_in_holds_for_every_tab_and_sign_out_ends_all(guarded: Guarded, open_page: Open) -> None:
    """Tabs that were open and tabs opened later are signed in, a reload too; another browser is not; sign-out in one ends all at once."""
    early = await open_page(guarded.url)
    await expect(early.get_by_label("Token")).to_be_visible()
    page = await other_tab(early, guarded)
    await page.get_by_label("Token").fill(guarded.tokens["ops"])
    await page.get_by_role("button", name="Sign in").click()
    await expect(row(page, "bills")).to_be_visible()
    await expect(row(early, "bills")).to_be_visible()
    await expect(early.locator(".who")).to_have_text("ops")
    later = await other_tab(page, guarded, "#/queues/mail")
    await expect(later.get_by_role("link", name="m-1")).to_be_visible()
    await page.reload()
    await expect(row(page, "bills")).to_be_visible()

    stranger = await open_page(guarded.url)
    await expect(stranger.get_by_label("Token")).to_be_visible()

    await later.get_by_role("button", name="Sign out").click()
    await expect(later.get_by_label("Token")).to_be_focused()
    for tab in (early, page):
        await expect(tab.get_by_label("Token")).to_be_visible()
        await expect(tab.get_by_text("bills")).to_have_count(0)
    assert await page.evaluate("localStorage.length") == 0
    assert await page.context.cookies() == []


async def test_no_script_can_read_the_token(guarded: Guarded, open_page: Open) -> None:
    """Storage, cookies, address and page hold nothing of it; half of the session is a cookie for this server's pages alone."""
    page = await signed_in(open_page, guarded, "ops")
    secret = guarded.tokens["ops"]
    seen = await page.evaluate("[document.cookie, document.documentElement.outerHTML, JSON.stringify([localStorage, sessionStorage])]")
    assert seen[0] == ""
    assert not any(secret in text for text in (*seen, page.url))
    (cookie,) = await page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"], cookie["expires"]) == (True, "Strict", "/", -1)
    assert secret not in cookie["value"]


async def test_another_port_of_this_host_learns_nothing_of_use(guarded: Guarded, open_page: Open) -> None:
    """A server beside this one, to which browsers send cookies too, cannot sign in with what it gets, nor end the sign-in here."""
    page = await signed_in(open_page, guarded, "looker")
    with server_in_thread(token="beside") as beside:
        other = await page.context.new_page()
        await other.goto(beside)
        await other.get_by_label("Token").fill("beside")
        await other.get_by_role("button", name="Sign in").click()
        await expect(other.locator(".who")).to_have_text("--token")
        assert "looker" not in await other.evaluate("JSON.stringify(localStorage)")
        await page.reload()
        await expect(page.locator(".who")).to_have_text("looker")
        await other.get_by_role("button", name="Sign out").click()
        await expect(other.get_by_label("Token")).to_be_visible()
        await expect(row(page, "mail")).to_be_visible()
        await other.close()


@pytest.mark.parametrize(
    ("name", "of_queue", "of_job", "enqueue"),
    [("ops", 5, 1, 1), ("looker", 0, 0, 0), ("shop", 0, 1, 1)],
)
async def test_buttons_follow_the_tokens_scopes(
    guarded: Guarded, open_page: Open, name: str, of_queue: int, of_job: int, enqueue: int
) -> None:
    """What a token may not do is not offered: admin for queues, enqueue for jobs."""
    page = await signed_in(open_page, guarded, name, "#/queues/mail")
    await expect(page.get_by_role("link", name="m-1")).to_be_visible()
    await expect(page.locator(".title-line .actions button")).to_have_count(of_queue)
    await expect(page.get_by_role("navigation").get_by_role("link", name="Enqueue")).to_have_count(enqueue)
    await page.get_by_role("link", name="m-1").click()
    await expect(page.get_by_role("button", name="Copy id")).to_be_visible()
    await expect(page.get_by_role("button", name="Cancel")).to_have_count(of_job)


async def test_a_token_that_may_not_read_is_told_what_it_can(guarded: Guarded, open_page: Open) -> None:
    """Nothing is shown, and nothing is refused by the server; jobs can be enqueued."""
    page = await signed_in(open_page, guarded, "producer")
    await expect(page.get_by_text("Your token does not have the scope read")).to_be_visible()
    await page.get_by_role("main").get_by_role("link", name="Enqueue a job").click()
    await page.get_by_label("Queue", exact=True).fill("mail")
    await page.get_by_role("button", name="Enqueue", exact=True).click()
    await expect(page.locator(".made")).to_contain_text("Enqueued")


async def test_a_token_for_some_queues_sees_only_those(guarded: Guarded, open_page: Open) -> None:
    """Charts, totals and lists are of these queues, and nothing the page asks for is refused."""
    page = await signed_in(open_page, guarded, "mailer")
    await expect(row(page, "mail")).to_be_visible()
    await expect(row(page, "bills")).to_have_count(0)
    await expect(page.locator(".lights")).to_contain_text("Live")


async def test_a_sign_in_that_the_server_does_not_know_any_more_ends(guarded: Guarded, open_page: Open) -> None:
    """The next refusal leads back to signing in, and nothing is kept."""
    page = await signed_in(open_page, guarded, "looker", expected=("401",))
    await expect(row(page, "mail")).to_be_visible()
    await page.context.clear_cookies()
    with Client(guarded.url, token=guarded.tokens["ops"]) as client:
        client.enqueue(1, queue="mail")
    await expect(page.get_by_label("Token")).to_be_visible()
    assert await page.evaluate("localStorage.length") == 0


@pytest.mark.parametrize(("mounts", "path"), [({"simplequeue": "/"}, "/dashboard"), ({"classic": "/", "native": "/api/v1"}, "/")])
async def test_the_page_finds_the_native_api(tmp_path: Path, open_page: Open, mounts: dict[str, str], path: str) -> None:
    """Wherever it stands: it shows, acts and follows events there, and its command lines lead there."""
    native = mounts.get("native", "/native")
    with server_in_thread(mount=mounts) as url, Client(url + native) as client:
        client.enqueue(1, id="j", queue="moved")
        page = await open_page(url, path=path)
        await expect(row(page, "moved")).to_be_visible()
        await expect(page.locator(".lights")).to_contain_text("Live")
        await row(page, "moved").get_by_role("link").click()
        await page.get_by_role("link", name="j", exact=True).click()
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_role("button", name="Cancel the job").click()
        await expect(page.locator("main .badge")).to_have_text("cancelled")
        assert client.job("j").outcome == "cancelled"
        await page.close()
