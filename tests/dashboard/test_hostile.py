"""Fault 49 of docs/faults.md: whatever a job says, wherever it is shown, it is text. And the browser is told to hold the page to that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from jobqueue import BadRequest, Client
from jobqueue.testing import server_in_thread

from .conftest import Open, expect

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]


def markup(field: str) -> str:
    """A text that, taken for markup, would leave a trace in more than one way."""
    return (
        f"{field}\"'><img src=x onerror=\"window.broken='{field}'\"><script>window.broken='{field}'</script>"
        f"<svg onload=\"window.broken='{field}'\"></svg><a href=\"javascript:window.broken='{field}'\">x</a>{{{{7*7}}}}</textarea></pre>"
    )


def short(field: str) -> str:
    """The same for fields that hold 128 characters."""
    return f"{field}\"'><img src=x onerror=window.broken=1><script>window.broken=1</script>"


SHORT = ("id", "type", "worker")
MARKS = {
    field: short(field) if field in SHORT else markup(field)
    for field in ("id", "type", "description", "worker", "payload", "result", "error", "message")
}


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    """A server full of markup: jobs that are queued, scheduled, in progress, succeeded and failed, with it in every field."""
    with server_in_thread() as url, Client(url) as client:
        asked = {"queue": "hostile", "type": MARKS["type"], "description": MARKS["description"]}
        payload = {MARKS["payload"]: [MARKS["payload"]]}
        for status in ("failed", "running", "succeeded"):
            client.enqueue(payload, id=f"{status} {MARKS['id']}", **asked)
            job = client.dequeue("hostile", worker=MARKS["worker"])
            assert job is not None
            client.extend(job.id, job.lease.token, progress=0.5, message=MARKS["message"])
            if status == "succeeded":
                client.conclude(job.id, job.lease.token, "succeeded", result={MARKS["result"]: MARKS["result"]})
            elif status == "failed":
                error = {"type": MARKS["error"], "message": MARKS["error"]}
                client.conclude(job.id, job.lease.token, "failed", error=error, retry=False)
        client.enqueue(payload, id=f"queued {MARKS['id']}", **asked)
        client.enqueue(payload, id=f"later {MARKS['id']}", delay=600, **asked)
        yield url


async def untouched(page: Page) -> None:
    """Nothing of it ran, and there is no element that the page did not make itself."""
    assert await page.evaluate("window.broken") is None
    made = "main img, main script, main svg, main iframe, main [onerror], main [onload], main a:not([href^='#'])"
    assert await page.locator(made).count() == 0


@pytest.mark.parametrize("view", ["#/", "#/workers", "#/queues/hostile", "#/queues/hostile?show=failed", "#/queues/hostile?show=scheduled"])
async def test_markup_in_lists_is_text(hostile: str, open_page: Open, view: str) -> None:
    """Ids, types, workers, messages and errors in every table."""
    page = await open_page(hostile, view)
    await expect(page.locator("main a.id").first).to_be_visible()
    await expect(page.locator("main")).to_contain_text("<img src=x")
    await untouched(page)


@pytest.mark.parametrize("status", ["failed", "running", "succeeded", "queued", "later"])
async def test_markup_in_a_job_is_text(hostile: str, open_page: Open, status: str) -> None:
    """Every field of a job, each shown whole and as it is."""
    page = await open_page(hostile, "#/queues/hostile")
    await page.get_by_role("link", name=f"{status} id").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"{status} {MARKS['id']}")
    await expect(page.get_by_role("region", name="Facts")).to_contain_text(MARKS["type"])
    await expect(page.locator(".description")).to_have_text(MARKS["description"])
    await expect(page.get_by_role("region", name="Payload")).to_contain_text("<script>window.broken='payload'</script>")
    if status == "failed":
        await expect(page.locator("section.error")).to_contain_text("<script>window.broken='error'</script>")
    if status == "succeeded":
        await expect(page.get_by_role("region", name="Result")).to_contain_text("<script>window.broken='result'</script>")
    if status == "running":
        await expect(page.get_by_role("region", name="In progress")).to_contain_text(MARKS["message"])
    if status in ("failed", "running", "succeeded"):
        await expect(page.get_by_role("region", name="Timeline")).to_contain_text(MARKS["worker"])
    await untouched(page)
    # The title is made of the id too, and so are questions and messages.
    assert (await page.title()).startswith(f"Job {status} id")
    if status == "queued":
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_role("button", name="Keep as it is").click()
        await untouched(page)


@pytest.mark.parametrize("part", ["queues", "jobs"])
async def test_markup_in_an_address_is_text(hostile: str, open_page: Open, part: str) -> None:
    """A link that somebody was sent names a queue or a job that cannot be: the name is shown as text, in the command line too."""
    name = "x\"'><img src=x onerror=window.broken=1>"
    page = await open_page(hostile, "", expected=("404", "400"))
    await page.evaluate(
        "(hash) => { location.hash = hash; }",
        f"#/{part}/" + name.replace("<", "%3C").replace(">", "%3E").replace('"', "%22").replace(" ", "%20"),
    )
    await expect(page.get_by_role("heading", level=1)).to_have_text(name)
    await untouched(page)


@pytest.mark.parametrize(
    "view", ["#/queues/%", "#/jobs/%E0%A4%A", "#/nowhere/at/all", "#///", "#/queues/?show=none", "#/queues/hostile?show=none&type="]
)
async def test_an_address_that_means_nothing_shows_the_overview_or_the_queue(hostile: str, open_page: Open, view: str) -> None:
    """Nothing breaks."""
    page = await open_page(hostile, view)
    await expect(page.get_by_role("heading", level=1)).to_have_count(1)


async def test_a_queues_name_cannot_be_markup(hostile: str) -> None:
    """The server refuses such a name, so no list can have one."""
    with Client(hostile) as client, pytest.raises(BadRequest):
        client.enqueue(1, queue="<img>")


async def test_what_the_server_says_in_an_error_is_text(hostile: str, open_page: Open) -> None:
    """A problem's detail repeats what was sent."""
    page = await open_page(hostile, "#/enqueue", expected=("400",))
    await page.get_by_label("Queue", exact=True).fill("<img src=x onerror=window.broken=1>")
    await page.get_by_role("button", name="Enqueue", exact=True).click()
    await expect(page.locator("#note-queue")).to_contain_text("<img src=x")
    await untouched(page)


async def test_the_policy_would_stop_what_got_through(hostile: str, open_page: Open) -> None:
    """An inline script, a script from elsewhere and markup made of text are each refused by the browser, and the tests would notice."""
    page = await open_page(hostile, expected=("Content Security Policy", "TrustedHTML", "TrustedScript", "violates"))
    await expect(page.locator("main a.id").first).to_be_visible()
    told = await page.evaluate(
        """async () => {
            const wait = new Promise((resolve) => document.addEventListener("securitypolicyviolation", resolve));
            const script = document.createElement("script");
            try { script.textContent = "window.broken = 1"; document.body.append(script); } catch {}
            let thrown = null;
            try { document.createElement("p").innerHTML = "<b>x</b>"; } catch (error) { thrown = error.name; }
            await wait;
            const seen = window.violations.length;
            window.violations.length = 0;
            return [thrown, seen > 0, window.broken ?? null];
        }"""
    )
    assert told == ["TypeError", True, None]
    await page.close()
