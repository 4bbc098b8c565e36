"""Keys and limits: what a job waits for, what a queue holds back, and how either is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobqueue import Client, Keep, PerKey, Rate

from .conftest import Open, expect
from .test_overview import row
from .test_queue import jobs

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]


def take(client: Client, queue: str, worker: str = "w-1") -> str:
    """Take a job; its id. A queue that begins to mind keys hands out nothing for a moment."""
    job = client.dequeue(queue, worker=worker, wait=10)
    assert job is not None
    return job.id


def key_row(page: Page, key: str) -> Locator:
    """A key's row on the queue's page."""
    return page.get_by_role("table", name="Keys").get_by_role("row").filter(has=page.get_by_role("link", name=key, exact=True))


async def test_a_job_says_what_it_waits_for(open_page: Open, url: str, client: Client) -> None:
    """One behind another of its key names that, with a link to it, and the worker that has it."""
    client.put_queue("ledger", per_key=PerKey(order="fifo"))
    for number in range(2):
        client.enqueue(1, id=f"l-{number}", queue="ledger", key="acme")
    assert take(client, "ledger") == "l-0"
    page = await open_page(url, "#/jobs/l-1")
    waits = page.get_by_role("region", name="Waits for")
    await expect(waits.get_by_role("listitem")).to_contain_text("Key acme: waits for l-0, in progress at w-1, lease until ")

    await page.get_by_role("region", name="Facts").get_by_role("link", name="acme").click()
    await expect(jobs(page)).to_have_text(["l-1", "l-0"])
    await page.go_back()
    await waits.get_by_role("link", name="l-0").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("l-0")
    await expect(page.get_by_role("region", name="Waits for")).to_have_count(0)


async def test_a_plain_job_says_who_is_ahead(open_page: Open, url: str, client: Client) -> None:
    """And that nobody takes from its queue."""
    for number in range(3):
        client.enqueue(1, id=f"line-{number}", queue="line")
    page = await open_page(url, "#/jobs/line-2")
    await expect(page.get_by_role("region", name="Waits for").get_by_role("listitem")).to_have_text(
        ["2 jobs are ahead.", "No worker waits for queue line, and none of its jobs is in progress."]
    )


async def test_a_job_names_the_limits_of_its_queue(open_page: Open, url: str, client: Client) -> None:
    """All of them at once: as many in progress as may be, the rate's next slot, and the pause."""
    client.put_queue("narrow", concurrency=1, rate=Rate(1, 3600))
    client.enqueue(1, queue="narrow")
    client.enqueue(1, id="second", queue="narrow")
    take(client, "narrow")
    client.pause("narrow")
    page = await open_page(url, "#/jobs/second")
    reasons = page.get_by_role("region", name="Waits for").get_by_role("listitem")
    await expect(reasons).to_have_count(3)
    await expect(reasons.nth(0)).to_have_text("The queue narrow is paused.")
    await expect(reasons.nth(1)).to_have_text("Limit of queue narrow: 1 of 1 in progress.")
    await expect(reasons.nth(2)).to_contain_text("Rate of queue narrow: next slot at ")


async def test_a_limited_backlog_is_no_lack_of_workers(own_url: str, open_page: Open) -> None:
    """A queue whose backlog its limits explain reads Limited and needs no look; one that is halted does."""
    with Client(own_url) as client:
        client.put_queue("slow", rate=Rate(1, 3600))
        client.put_queue("full", concurrency=1)
        client.put_queue("plain")
        for queue in ("slow", "full"):
            client.enqueue(1, queue=queue)
            client.enqueue(1, queue=queue)
        job = client.dequeue("slow", wait=0)
        assert job is not None
        client.conclude(job.id, job.lease.token, "succeeded")
        take(client, "full")
        page = await open_page(own_url)
        await expect(row(page, "slow")).to_contain_text("Limited")
        await expect(row(page, "full")).to_contain_text("Limited")
        await expect(row(page, "plain")).to_contain_text("Idle")
        await expect(page.get_by_role("region", name="Health")).to_contain_text("All well")
        await expect(page.get_by_role("region", name="Health")).to_contain_text("2 queues are held back by their limits")
        await page.get_by_role("link", name="Workers").click()
        await expect(page.get_by_role("table", name="Waiting for jobs").locator(".warn")).to_have_count(0)

        client.enqueue(1, queue="alone")
        await page.get_by_role("link", name="Overview").click()
        await expect(row(page, "alone")).to_contain_text("No workers")


async def test_a_queue_shows_what_it_holds_back(open_page: Open, url: str, client: Client) -> None:
    """Slots as used of total, the rate, what holds for each key, and how many are held for which reason."""
    client.put_queue("shown", concurrency=4, rate=Rate(100, 60, 10), per_key=PerKey(order="halt", max_jobs=50), fair=True, weights={"a": 3})
    for number in range(2):
        client.enqueue(1, queue="shown", key="a", id=f"shown-{number}")
    client.enqueue(1, queue="shown", key="b")
    take(client, "shown")
    client.pause_key("shown", "b")
    page = await open_page(url, "#/queues/shown")
    limits = page.get_by_role("region", name="Limits")
    await expect(limits.get_by_role("meter")).to_have_attribute("aria-valuetext", "1 of 4")
    for words in ("100 in 1 min, 10 at once; a slot is free", "a failure halts the key; 50 jobs at most", "by weight, 1 key listed"):
        await expect(limits).to_contain_text(words)
    await expect(page.locator("main")).to_contain_text("2 of 2 queued are held: 1 behind a job of their key, 1 by a paused key")
    await expect(page.get_by_role("table", name="Jobs")).to_contain_text("Key a: waits for shown-0")


async def test_what_a_limit_hides_is_told_too(open_page: Open, url: str, client: Client) -> None:
    """The list tells what a job's key is held back by beside the queue's own limit, and a limit that was lowered does not read "2 of 1"."""
    client.put_queue("lowered", concurrency=2, fair=True)
    for number in range(3):
        client.enqueue(1, id=f"low-{number}", queue="lowered", key="acme")
    take(client, "lowered")
    take(client, "lowered")
    client.change_queue("lowered", concurrency=1)
    client.pause_key("lowered", "acme")
    page = await open_page(url, "#/queues/lowered")
    await expect(page.get_by_role("table", name="Jobs")).to_contain_text("The key acme is paused.")
    await expect(page.get_by_role("region", name="Limits").get_by_role("meter")).to_have_attribute("aria-valuetext", "2, 1 allowed")
    page = await open_page(url, "#/jobs/low-2")
    reasons = page.get_by_role("region", name="Waits for").get_by_role("listitem")
    await expect(reasons.nth(0)).to_have_text("Limit of queue lowered: 2 in progress, 1 allowed.")


async def test_a_queue_that_fails_says_that_keys_are_halted(open_page: Open, url: str, client: Client) -> None:
    """What one failure holds up is said before that it failed: more than one is needed for an outage."""
    client.put_queue("stopped", per_key=PerKey(order="halt"))
    for number in range(2):
        client.enqueue(1, id=f"stop-{number}", queue="stopped", key="acme")
    job = client.dequeue("stopped", wait=10)
    assert job is not None
    client.conclude(job.id, job.lease.token, "failed", error="no", retry=False)
    page = await open_page(url, "#/queues/stopped")
    await expect(page.locator("main")).to_contain_text("1 of 1 queued is held behind a failed job of their key; 1 failed in the last 5 min")


async def test_a_plain_queue_shows_no_limits(open_page: Open, url: str, client: Client) -> None:
    """Its page is what it was."""
    client.enqueue(1, queue="simple", key="acme")
    page = await open_page(url, "#/queues/simple")
    await expect(jobs(page)).to_have_count(1)
    for name in ("Limits", "Keys"):
        await expect(page.get_by_role("region", name=name)).to_have_count(0)


async def test_jobs_are_shown_by_key(open_page: Open, url: str, client: Client) -> None:
    """From a key's row to its jobs, and back to those of every key."""
    client.put_queue("bykey", fair=True)
    for key in ("one", "a key/of ?any=kind"):
        client.enqueue(1, id=key, queue="bykey", key=key)
    page = await open_page(url, "#/queues/bykey")
    await key_row(page, "a key/of ?any=kind").get_by_role("link").click()
    await expect(jobs(page)).to_have_text(["a key/of ?any=kind"])
    await page.get_by_role("link", name="Show every key").click()
    await expect(jobs(page)).to_have_count(2)


@pytest.mark.parametrize("key", ["acme", "a/b ?c=d", "..", "50%"])
async def test_a_key_is_paused_and_resumed(open_page: Open, url: str, client: Client, key: str) -> None:
    """Whatever it is called; each is asked once."""
    queue = f"pk-{len(key)}"
    client.put_queue(queue, per_key=PerKey(order="fifo"))
    client.enqueue(1, queue=queue, key=key)
    page = await open_page(url, f"#/queues/{queue}")
    for verb, paused in (("Pause", True), ("Resume", False)):
        await key_row(page, key).get_by_role("button", name=verb).click()
        await page.get_by_role("dialog").get_by_role("button", name=verb, exact=True).click()
        await expect(key_row(page, key).get_by_role("button", name="Resume" if paused else "Pause")).to_be_visible()
        assert [found.paused for found in client.keys(queue)] == [paused]


async def test_a_halted_key_goes_on(open_page: Open, url: str, client: Client) -> None:
    """The failed job is named with a link; resuming the key gives it up."""
    client.put_queue("halts", per_key=PerKey(order="halt"))
    for number in range(2):
        client.enqueue(1, id=f"halt-{number}", queue="halts", key="acme")
    job = client.dequeue("halts", wait=10)
    assert job is not None
    client.conclude(job.id, job.lease.token, "failed", error="no", retry=False)
    page = await open_page(url, "#/queues/halts")
    await expect(key_row(page, "acme")).to_contain_text("halted by the failure of halt-0")

    await key_row(page, "acme").get_by_role("button", name="Resume").click()
    await expect(page.get_by_role("dialog")).to_contain_text("The job halt-0 stays failed")
    await page.get_by_role("dialog").get_by_role("button", name="Resume", exact=True).click()

    await expect(key_row(page, "acme")).not_to_contain_text("halted")
    assert take(client, "halts") == "halt-1"


async def test_a_failed_job_says_that_it_halts_its_key(open_page: Open, url: str, client: Client) -> None:
    """It offers to retry it in its old place, or to give it up, which lets the key go on and leaves it failed."""
    client.put_queue("gives", per_key=PerKey(order="halt"))
    for number in range(2):
        client.enqueue(1, id=f"give-{number}", queue="gives", key="acme")
    job = client.dequeue("gives", wait=10)
    assert job is not None
    client.conclude(job.id, job.lease.token, "failed", error="no", retry=False)
    page = await open_page(url, "#/jobs/give-0")
    halts = page.get_by_role("region", name="Halts its key")
    await expect(halts).to_contain_text("No other job of the key acme is handed out until this one is retried or given up.")

    await page.get_by_role("button", name="Retry").click()
    await expect(page.get_by_role("dialog")).to_contain_text("It goes to its old place")
    await page.get_by_role("dialog").get_by_role("button", name="Keep as it is").click()
    await page.get_by_role("button", name="Give up").click()
    await expect(page.get_by_role("dialog")).to_contain_text("It stays failed, and its key goes on")
    await page.get_by_role("dialog").get_by_role("button", name="Give up").click()

    await expect(halts).to_have_count(0)
    await expect(page.get_by_role("button", name="Give up")).to_have_count(0)
    await expect(page.get_by_role("button", name="Retry")).to_be_visible()
    assert client.job("give-0").outcome == "failed"
    assert take(client, "gives") == "give-1"


async def test_limits_are_edited(open_page: Open, url: str, client: Client) -> None:
    """What was changed is sent and nothing else: what somebody else set meanwhile stays. What is wrong is said at its field."""
    client.put_queue("limits", per_key=PerKey(order="fifo", max_jobs=9))
    page = await open_page(url, "#/queues/limits", expected=("400",))
    await page.get_by_role("button", name="Policy").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_label("Each: live jobs")).to_have_value("9")
    client.change_queue("limits", max_attempts=7)

    await dialog.get_by_label("Rate", exact=True).fill("often")
    await dialog.get_by_role("button", name="Set policy").click()
    await expect(dialog).to_contain_text("Write jobs/seconds")
    await dialog.get_by_label("Rate", exact=True).fill("100/0")
    await dialog.get_by_role("button", name="Set policy").click()
    await expect(dialog.get_by_label("Rate", exact=True)).to_have_attribute("aria-invalid", "true")
    await dialog.get_by_label("Rate", exact=True).fill("100/60:5")
    await dialog.get_by_label("In progress at most", exact=True).fill("3")
    await dialog.get_by_label("Each: order of its jobs").select_option("halt")
    await dialog.get_by_label("Fair").check()
    await dialog.get_by_label("Succeeded: for how long").fill("0.1")
    await dialog.get_by_label("Others: how many").fill("50")
    await dialog.get_by_role("button", name="Set policy").click()
    await expect(dialog.get_by_label("Succeeded: for how long")).to_have_attribute("aria-invalid", "true")
    await dialog.get_by_label("Succeeded: for how long").fill("3600")
    await dialog.get_by_label("Weights").fill("acme = 3\na = b = 0.5\n")
    await dialog.get_by_role("button", name="Set policy").click()
    await expect(dialog).to_have_count(0)

    policy = client.queue("limits").policy
    assert (policy.max_attempts, policy.concurrency, policy.rate) == (7, 3, Rate(100, 60, 5))
    assert policy.per_key == PerKey(order="halt", max_jobs=9)
    assert (policy.keep_succeeded, policy.keep_failed) == (Keep(3_600), Keep(count=50))
    await expect(page.get_by_text("the last 50", exact=True)).to_be_visible()
    assert (policy.fair, policy.weights) == (True, {"acme": 3, "a = b": 0.5})


async def test_how_jobs_wait_is_edited(open_page: Open, url: str, client: Client) -> None:
    """And tags, a line each; what a dialect keeps is shown and stays."""
    client.put_queue("waits", tags={"team": "a=b"}, attributes={"FifoQueue": "<true>"}, delay=5)
    page = await open_page(url, "#/queues/waits", expected=("400",))
    panel = page.get_by_role("region", name="Policy")
    await expect(panel).to_contain_text("Tag: team")
    await expect(panel).to_contain_text("<true>")
    await page.get_by_role("button", name="Policy").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_label("Tags")).to_have_value("team = a=b")
    await dialog.get_by_label("Jobs expire after, in seconds").fill("0.5")
    await dialog.get_by_label("New jobs wait, in seconds").fill("")
    await dialog.get_by_label("Tags").fill("team = a=b\nempty =\n")
    await dialog.get_by_role("button", name="Set policy").click()
    await expect(dialog.get_by_label("Jobs expire after, in seconds")).to_have_attribute("aria-invalid", "true")
    await dialog.get_by_label("Jobs expire after, in seconds").fill("86400")
    await dialog.get_by_role("button", name="Set policy").click()
    await expect(dialog).to_have_count(0)

    policy = client.queue("waits").policy
    assert (policy.delay, policy.expires_in, policy.tags) == (None, 86_400, {"team": "a=b", "empty": ""})
    assert policy.attributes == {"FifoQueue": "<true>"}
    await expect(panel).to_contain_text("after their creation")
    await expect(panel).to_contain_text("Changed")
