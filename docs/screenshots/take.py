"""Takes the pictures of the dashboard that the docs show: `python docs/screenshots/take.py`.

It starts a server of its own, has a small shop work on it for less than a minute, and photographs overview, queue and job, light and
dark; and those of a server in trouble. It needs Debian's Chromium, and `pip install -e . playwright pillow`.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.async_api import Page, async_playwright

import jobqueue
from jobqueue.backend import workers
from jobqueue.process import tokens
from jobqueue.testing import server

FOLDER = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
VIEWS = {"overview": "#/", "queue": "#/queues/mail", "job": "#/jobs/order-1042-receipt"}
WIDTH, HEIGHT = 1200, 700
IN_TROUBLE = (("server", "#/server", WIDTH, HEIGHT), ("workers", "#/workers", WIDTH, HEIGHT), ("phone", "#/", 390, 900))
SECONDS = 40
"""How long the shop works before the pictures are taken."""

FAILURE = {"type": "SMTPServerDisconnected", "message": "Connection unexpectedly closed: 421 try again later"}


async def work(client: jobqueue.AsyncClient, queue: str, name: str, seconds: float, failing: float) -> None:
    """One worker of the shop."""
    while True:
        job = await client.dequeue(queue, worker=name, wait=20)
        if job is None:
            continue
        for step in range(1, 5):
            await asyncio.sleep(seconds / 4 * random.uniform(0.3, 1.7))
            await client.extend(job.id, job.lease.token, progress=step / 5, message=f"step {step} of 5")
        if random.random() < failing:
            await client.conclude(job.id, job.lease.token, "failed", error=FAILURE, retry=False)
        else:
            await client.conclude(job.id, job.lease.token, "succeeded", result={"sent": True})


async def sell(client: jobqueue.AsyncClient) -> None:
    """Orders that come in, now more, now fewer."""
    for order in range(1043, 1_000_000):
        await client.enqueue({"order": order, "to": "ann@example.com"}, queue="mail", type="receipt")
        if order % 3 == 0:
            await client.enqueue({"event": "order.paid", "order": order}, queue="webhooks", type="post")
        if order % 12 == 0:
            await client.enqueue({"month": "2026-11"}, queue="reports", type="pdf", description="Sales of the month")
        await asyncio.sleep(random.uniform(0.05, 0.2) * (1 + order // 60 % 3))


async def prepare(client: jobqueue.AsyncClient) -> None:
    """What stood in the queues before."""
    payload = {"order": 1042, "to": "ann@example.com", "items": [{"article": "tea", "count": 2}, {"article": "cup", "count": 1}]}
    await client.put_queue("mail", max_attempts=3, backoff=jobqueue.Backoff(base=0))
    await client.enqueue(payload, id="order-1042-receipt", queue="mail", type="receipt", description="Receipt of order 1042")
    for attempt in (1, 2, 3):
        job = await client.dequeue("mail", worker=f"mail-{attempt}")
        assert job is not None
        await asyncio.sleep(0.3)
        await client.conclude(job.id, job.lease.token, "failed", error=FAILURE)
    await client.enqueue_batch(jobqueue.NewJob({"image": number}, queue="thumbnails", type="resize") for number in range(340))
    await client.put_queue("billing", paused=True)
    await client.enqueue_batch(jobqueue.NewJob({"invoice": number}, queue="billing", type="invoice") for number in range(12))
    for number in range(4):
        await client.enqueue({"report": number}, queue="reports", type="pdf", delay=900 + number)


async def photograph(url: str) -> None:
    """Each view in both schemes, after the shop has worked for a while under the eyes of the page."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        pages = {}
        for scheme in ("light", "dark"):
            pages[scheme] = await browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            await pages[scheme].goto(url)
        await asyncio.sleep(SECONDS)
        for scheme, page in pages.items():
            for name, view in VIEWS.items():
                await page.evaluate("(view) => { location.hash = view; }", view)
                await page.locator("main table, main pre").first.wait_for()
                await asyncio.sleep(1.5)
                await keep(page, f"{name}-{scheme}.png")
        await browser.close()


class Usage(NamedTuple):
    """As shutil gives it."""

    total: int
    used: int
    free: int


async def trouble(folder: str) -> None:
    """A server in trouble: its disk is nearly full, a queue was paused, workers have gone silent; wide and on a phone."""
    shutil.disk_usage = lambda path: Usage(200 << 30, 199 << 30, 700 << 20)  # type: ignore[assignment]
    seen = workers.SEEN_SECONDS
    token, _ = tokens.make(f"{folder}/tokens", "ann", ["admin"], [])
    async with (
        server(data=f"{folder}/jobs.db", token_file=f"{folder}/tokens") as url,
        jobqueue.AsyncClient(url, token=token) as client,
    ):
        await prepare(client)
        await client.pause("billing")
        await client.pause("reports")
        for number in range(60):
            about = jobqueue.About(host=f"host-{number % 6}", version="4.2", concurrency=8)
            workers.SEEN_SECONDS = -1.0 if number in (17, 23) else seen
            await client.dequeue("thumbnails" if number < 40 else "mail", wait=0, worker=f"worker-{number:02d}", about=about)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            for scheme in ("light", "dark"):
                for name, view, width, height in IN_TROUBLE:
                    page = await browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                    await page.goto(f"{url}/{view}")
                    await page.get_by_label("Token").fill(token)
                    await page.get_by_role("button", name="Sign in").click()
                    await page.locator("main table").first.wait_for(timeout=90_000)
                    await asyncio.sleep(1.5)
                    await keep(page, f"{name}-{scheme}.png")
            await browser.close()
    workers.SEEN_SECONDS = seen


async def keep(page: Page, name: str) -> None:
    """A picture of a page, made small."""
    file = FOLDER / name
    await page.screenshot(path=file)
    Image.open(file).convert("RGB").save(file, optimize=True)
    sys.stdout.write(f"{file.name}: {file.stat().st_size} bytes\n")


async def photograph_reference(url: str) -> None:
    """The errors of an operation, in both schemes."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for scheme in ("light", "dark"):
            page = await browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            await page.goto(f"{url}/docs#/queues/deleteQueuesName")
            answer = page.locator('.response[data-code="400"]')
            await answer.wait_for()
            await answer.evaluate("(answer) => answer.scrollIntoView()")
            await page.mouse.wheel(0, -60)
            await asyncio.sleep(0.5)
            await keep(page, f"reference-{scheme}.png")
        await browser.close()


async def main() -> None:
    """All of it."""
    random.seed(7)
    with tempfile.TemporaryDirectory(prefix="jobqueue-") as folder:
        await trouble(folder)
    async with server() as url, jobqueue.AsyncClient(url, token="") as client:
        await prepare(client)
        hands = [work(client, "mail", f"mail-{number}", 0.5, 0.02) for number in (1, 2, 3, 4)]
        hands += [work(client, "webhooks", f"hooks-{number}", 0.1, 0) for number in (1, 2)]
        hands += [work(client, "reports", f"reports-{number}", 9, 0) for number in (1, 2)]
        tasks = [asyncio.create_task(hand) for hand in (*hands, sell(client))]
        await photograph(url)
        await photograph_reference(url)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
