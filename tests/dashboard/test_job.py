"""One job, and enqueueing one by hand."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
import pytest

import jobqueue
from jobqueue import Client

from .conftest import Open, expect

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXACT = '{"large": 12345678901234567890, "twice": 1, "twice": 2, "precise": 1.10, "empty": {}, "list": [1, [], "a \\"b\\" {c}: [d], e"]}'
SHOWN = """{
  "large": 12345678901234567890,
  "twice": 1,
  "twice": 2,
  "precise": 1.10,
  "empty": {},
  "list": [
    1,
    [],
    "a \\"b\\" {c}: [d], e"
  ]
}"""


async def clipboard(page: Page) -> str:
    """What was copied."""
    return str(await page.evaluate("navigator.clipboard.readText()"))


async def test_a_payload_is_shown_as_it_was_sent(open_page: Open, url: str, client: Client) -> None:
    """Only line ends are added: no number is rounded, no repeated key is lost. The result likewise."""
    client.enqueue(msgspec.Raw(EXACT.encode()), id="exact", queue="exact")
    job = client.dequeue("exact")
    assert job is not None
    client.conclude(job.id, job.lease.token, "succeeded", result=msgspec.Raw(b'[1e400,"x"]'))

    page = await open_page(url, "#/jobs/exact")

    assert await page.get_by_role("region", name="Payload").locator("pre").inner_text() == SHOWN
    assert await page.get_by_role("region", name="Result").locator("pre").inner_text() == '[\n  1e400,\n  "x"\n]'


async def test_a_jobs_attempts_are_told(open_page: Open, url: str, client: Client) -> None:
    """Each with its worker, its duration and its error."""
    client.put_queue("tried", max_attempts=2, backoff={"base": 0})  # type: ignore[arg-type] # encoded as it is
    client.enqueue(1, id="tried", queue="tried", type="sum", description="Adds up.")
    for number in (1, 2):
        job = client.dequeue("tried", worker=f"w-{number}")
        assert job is not None
        client.conclude(job.id, job.lease.token, "failed", error={"why": f"reason {number}"})

    page = await open_page(url, "#/jobs/tried")

    timeline = page.get_by_role("region", name="Timeline").get_by_role("listitem")
    await expect(timeline).to_have_count(4)
    await expect(timeline.nth(1)).to_contain_text("Attempt 1")
    await expect(timeline.nth(1)).to_contain_text("by w-1")
    await expect(timeline.nth(1)).to_contain_text("took ")
    await expect(timeline.nth(1)).to_contain_text('{"why":"reason 1"}')
    await expect(timeline.nth(2)).to_contain_text("Attempt 2")
    await expect(timeline.nth(2)).to_contain_text("by w-2")
    await expect(timeline.nth(2)).to_contain_text("took ")
    await expect(timeline.nth(3)).to_contain_text("Failed")
    errors = page.get_by_role("region", name="Errors").get_by_role("group")
    await expect(errors).to_have_count(2)
    await expect(errors.nth(0).locator("pre")).to_contain_text("reason 2")
    await expect(errors.nth(1).locator("pre")).to_be_hidden()
    await errors.nth(1).locator("summary").click()
    await expect(errors.nth(1).locator("pre")).to_contain_text("reason 1")
    await expect(page.get_by_role("region", name="Facts")).to_contain_text("2 of 2")
    await expect(page.locator(".description")).to_have_text("Adds up.")


async def test_each_attempts_error_is_formatted_with_its_traceback(open_page: Open, url: str, client: Client) -> None:
    """Type, message and traceback, each as text, in a block that scrolls; the newest is open and stays so while the page looks again."""
    client.put_queue("traced", max_attempts=2, backoff={"base": 0})  # type: ignore[arg-type] # encoded as it is
    client.enqueue(1, id="traced", queue="traced")
    trace = (
        'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    <b onclick="x">' + "wide " * 200 + "\nValueError: no"
    )
    for _ in range(2):
        job = client.dequeue("traced")
        assert job is not None
        client.conclude(
            job.id, job.lease.token, "failed", error={"type": "ValueError", "message": "no\n  such <i>mail</i>"}, traceback=trace
        )

    page = await open_page(url, "#/jobs/traced")

    newest = page.get_by_role("region", name="Errors").get_by_role("group").first
    await expect(newest.locator("summary")).to_contain_text("Attempt 2 ValueError")
    assert await newest.locator(".said").inner_text() == "ValueError: no\n  such <i>mail</i>"
    block = newest.get_by_label("Traceback of attempt 2")
    assert await block.inner_text() == trace
    assert await block.evaluate("it => it.scrollWidth > it.clientWidth && it.childElementCount === 0")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_a_cancelled_job_has_no_error(open_page: Open, url: str, client: Client) -> None:
    """Its worker stopped since it was told to; an attempt that failed before has one."""
    client.enqueue(1, id="stopped", queue="stopped")
    job = client.dequeue("stopped")
    assert job is not None
    client.cancel("stopped")
    client.conclude(job.id, job.lease.token, "failed", error={"type": "CancelledError", "message": "cancelled on request"})

    page = await open_page(url, "#/jobs/stopped")

    await expect(page.get_by_role("region", name="Payload")).to_be_visible()
    await expect(page.locator("main .badge")).to_have_text("cancelled")
    await expect(page.locator("section.error")).to_have_count(0)


async def test_a_job_is_cancelled_and_retried(open_page: Open, url: str, client: Client) -> None:
    """Both ask once; only what is possible is offered."""
    client.enqueue(1, id="c-1", queue="cancelling")
    page = await open_page(url, "#/jobs/c-1")
    await expect(page.get_by_role("button", name="Retry")).to_have_count(0)

    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_role("button", name="Keep as it is").click()
    assert client.job("c-1").status == "queued"
    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_role("button", name="Cancel the job").click()
    await expect(page.locator("main .badge")).to_have_text("cancelled")
    assert client.job("c-1").outcome == "cancelled"

    await page.get_by_role("button", name="Retry").click()
    await page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    await expect(page.locator("main .badge")).to_have_text("queued")
    assert client.job("c-1").status == "queued"


async def test_a_jobs_id_and_its_command_line_are_copied(open_page: Open, url: str, client: Client) -> None:
    """The command line, run by a shell, enqueues the same again, byte for byte, quotes and all."""
    payload = """{"it's": "a 'quoted' $HOME `x`", "n": 12345678901234567890}"""
    client.enqueue(msgspec.Raw(payload.encode()), id="copied", queue="copy", type="o'type", priority=2, max_attempts=3)
    page = await open_page(url, "#/jobs/copied", permissions=["clipboard-read", "clipboard-write"])

    await page.get_by_role("button", name="Copy id").click()
    await expect(page.get_by_role("status")).to_contain_text("Id copied")
    assert await clipboard(page) == "copied"
    await page.get_by_role("button", name="Copy as curl").click()
    await expect(page.get_by_role("status")).to_contain_text("Command copied")
    words = shlex.split(await clipboard(page))

    assert words[:3] == ["curl", "-s", "--json"]
    assert words[4] == f"{url}/jobs/enqueue"
    assert f'"payload": {payload}' in words[3]
    fields = json.loads(words[3])
    fields.pop("payload")
    assert fields == {"queue": "copy", "type": "o'type", "priority": 2, "max_attempts": 3}


async def test_copying_works_without_the_clipboard_of_https(open_page: Open, url: str, client: Client) -> None:
    """On plain http, where navigator.clipboard does not exist, the older way is taken."""
    client.enqueue(1, id="old way", queue="copy")
    page = await open_page(url, "#/jobs/old%20way", script="Object.defineProperty(navigator, 'clipboard', {value: undefined})")

    await page.get_by_role("button", name="Copy id").click()

    await expect(page.get_by_role("status")).to_contain_text("Id copied")


@pytest.mark.parametrize("job_id", ["a/b?c#d%2F", "ü ñ 日本", "enqueue", "../queues"])
async def test_any_id_leads_to_its_job(open_page: Open, url: str, client: Client, job_id: str) -> None:
    """Whatever is in it: also from the search at the top of the page."""
    client.enqueue(1, id=job_id, queue="ids")
    page = await open_page(url)

    await page.get_by_placeholder("Job id").fill(job_id)
    await page.get_by_placeholder("Job id").press("Enter")

    await expect(page.get_by_role("heading", level=1)).to_have_text(job_id)
    await expect(page.get_by_role("region", name="Payload")).to_contain_text("1")


async def test_a_job_that_is_not_there_is_told_of(open_page: Open, url: str) -> None:
    """It does not exist."""
    page = await open_page(url, "#/jobs/nobody", expected=("404",))
    await expect(page.get_by_text("it was removed from history")).to_be_visible()


@pytest.mark.parametrize("job_id", ["..", ".", "a/b", "50%"])
async def test_a_job_whose_id_is_a_part_of_a_path_is_shown(open_page: Open, url: str, client: Client, job_id: str) -> None:
    """What a browser or a proxy would undo in a path goes into the query."""
    client.enqueue(1, id=job_id)
    page = await open_page(url, f"#/jobs/{quote(job_id, safe='')}")
    await expect(page.get_by_role("heading", level=1)).to_have_text(job_id)
    await expect(page.get_by_role("region", name="Payload")).to_contain_text("1")


# By hand.


async def test_a_job_is_enqueued_by_hand(open_page: Open, url: str, client: Client) -> None:
    """With every field; the payload goes out as it was typed."""
    page = await open_page(url, "#/enqueue")
    await page.get_by_label("Payload").fill('{"n": 12345678901234567890, "n": 1.0}')
    for label, text in {
        "Queue": "byhand",
        "Type": "sum",
        "Id": "h-1",
        "Description": "by hand",
        "Priority": "1",
        "Delay, in seconds": "600",
        "Expires in, in seconds": "900.5",
        "Attempts at most": "9",
        "Lease, in seconds": "45",
    }.items():
        await page.get_by_label(label, exact=True).fill(text)
    await page.get_by_role("button", name="Enqueue", exact=True).click()

    await page.locator(".made").get_by_role("link", name="h-1").click()
    await expect(page.get_by_role("heading", name="h-1")).to_be_visible()
    job = client.job("h-1")
    assert bytes(job.raw_payload) == b'{"n": 12345678901234567890, "n": 1.0}'
    assert (job.queue, job.type, job.description, job.priority, job.status, job.max_attempts) == (
        "byhand",
        "sum",
        "by hand",
        1,
        "scheduled",
        9,
    )
    assert job.expires_at is not None


async def test_what_is_wrong_with_a_job_is_said_at_its_field(open_page: Open, url: str, client: Client) -> None:
    """What is no JSON or no number is not sent; what the server refuses is shown where it was typed, which has the focus."""
    page = await open_page(url, "#/enqueue", expected=("400", "409"))
    send = page.get_by_role("button", name="Enqueue", exact=True)
    payload, priority = page.get_by_label("Payload"), page.get_by_label("Priority")

    await payload.fill("{")
    await send.click()
    await expect(page.locator("#note-payload")).to_contain_text("This is not JSON")
    await expect(payload).to_be_focused()
    await payload.fill("1")
    await priority.fill("12")
    await send.click()
    await expect(page.locator("#note-priority")).to_have_text("priority: 12 is out of range; 0 to 9 is allowed")
    await expect(priority).to_have_attribute("aria-invalid", "true")
    await priority.fill("")
    client.enqueue(2, id="there", queue="byhand")
    await page.get_by_label("Id", exact=True).fill("there")
    await send.click()
    await expect(page.locator("main .bad")).to_contain_text("it differs in")


async def test_a_unique_job_is_enqueued_and_told(open_page: Open, url: str, client: Client) -> None:
    """The form takes its terms, the job shows its key, and one that follows says after which it runs."""
    page = await open_page(url, "#/enqueue")
    await page.get_by_label("Queue", exact=True).fill("kinds")
    await page.get_by_label("Id", exact=True).fill("first-of-its-kind")
    await page.get_by_label("Unique key", exact=True).fill("kind")
    await page.get_by_label("Holds it for, in seconds").fill("3600")
    await page.get_by_role("button", name="Enqueue", exact=True).click()
    await page.get_by_role("link", name="first-of-its-kind").click()
    facts = page.get_by_role("region", name="Facts")
    await expect(facts).to_contain_text("kind, held by this job until")

    assert client.dequeue("kinds", worker="w-9") is not None
    client.enqueue(2, id="second-of-its-kind", queue="kinds", unique=jobqueue.Unique("kind", on_conflict="follow"))
    page = await open_page(url, "#/jobs/second-of-its-kind")
    waits = page.get_by_role("region", name="Waits for")
    await expect(waits).to_contain_text(
        "The unique key kind is held: it runs after job first-of-its-kind in progress at worker w-9, and not before"
    )
    await expect(page.get_by_role("region", name="Timeline")).to_contain_text("Held back")


async def test_a_wrong_term_is_told_at_its_field(open_page: Open, url: str, client: Client) -> None:
    """What the server refuses of a unique key stands where it was typed."""
    page = await open_page(url, "#/enqueue", expected=("400",))
    await page.get_by_label("Unique key", exact=True).fill("kind")
    await page.get_by_label("Postpone for at most, in seconds").fill("5")
    await page.get_by_role("button", name="Enqueue", exact=True).click()
    await expect(page.get_by_text("is allowed only with on_conflict replace")).to_be_visible()
    await expect(page.get_by_label("Postpone for at most, in seconds")).to_be_focused()


async def test_headers_are_shown(open_page: Open, url: str, client: Client) -> None:
    """Each with its value, and its type where it is another than String; the command has them too."""
    headers = {"tenant": "<b>acme</b>", "n": jobqueue.Header("Number", "5")}
    client.enqueue(1, id="carries", queue="carries", headers=headers)
    page = await open_page(url, "#/jobs/carries", permissions=["clipboard-read", "clipboard-write"])
    await expect(page.get_by_text("<b>acme</b>", exact=True)).to_be_visible()
    await expect(page.get_by_text("5, Number")).to_be_visible()
    await page.get_by_role("button", name="Copy as curl").click()
    await expect(page.get_by_role("status")).to_contain_text("Command copied")
    assert '"tenant":"<b>acme</b>"' in await clipboard(page)
