"""`python -m bench traffic`: what an open dashboard asks of the server in 30 s, in requests and bytes.

A browser opens the page on a server of this process and is left alone. Counted are the requests from the first one on and the bytes of
their answers' bodies; not those of the page's own files, and not those of the stream of events. It needs Debian's Chromium and
`pip install playwright`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from typing import Any

from playwright.async_api import Browser, Error, Response, async_playwright

from jobqueue import AsyncClient, NewJob
from jobqueue.testing import server

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
QUEUES = 2_000
BUSY = 20
"""Queues of these in which something happens."""

BETWEEN_SECONDS = 0.1
"""Between two jobs of the busy server."""


async def work(client: AsyncClient) -> None:
    """A job every so often, in one of the busy queues after the other."""
    number = 0
    while True:
        queue = f"q-{number % BUSY:04d}"
        await client.enqueue({"number": number}, queue=queue)
        job = await client.dequeue(queue)
        if job is not None:
            await client.conclude(job.id, job.lease.token, "succeeded")
        number += 1
        await asyncio.sleep(BETWEEN_SECONDS)


@contextlib.asynccontextmanager
async def case(name: str) -> AsyncIterator[tuple[str, str]]:
    """A server that has what the case is about; its address and the view."""
    async with server() as url, AsyncClient(url) as client:
        await client.enqueue_batch([NewJob(number, id=f"j-{number}", queue="mail") for number in range(20)])
        job = await client.dequeue("mail")
        assert job is not None
        await client.conclude(job.id, job.lease.token, "succeeded", result={"sent": True})
        working: asyncio.Task[None] | None = None
        if f"{QUEUES:,}" in name:
            for number in range(QUEUES):
                await client.put_queue(f"q-{number:04d}")
        if name.startswith("busy"):
            working = asyncio.create_task(work(client))
        views = {"concluded": f"#/jobs/{job.id}", "unknown": "#/jobs/nobody"}
        yield url, next((view for word, view in views.items() if word in name), "#/")
        if working is not None:
            working.cancel()


CASES = ("idle overview", f"idle overview, {QUEUES:,} queues", f"busy overview, {QUEUES:,} queues", "a concluded job", "an unknown job")


async def measure(browser: Browser, name: str, seconds: float) -> tuple[int, int]:
    """Requests and bytes."""
    requests = 0
    sizes: list[Any] = []

    async def size(response: Response) -> int:
        with contextlib.suppress(Error):
            return int((await response.all_headers()).get("content-length", "0"))
        return 0  # the page was closed before it had it

    def note(response: Response) -> None:
        nonlocal requests
        if response.request.resource_type == "fetch":
            requests += 1
            if "/events" not in response.url:
                sizes.append(asyncio.ensure_future(size(response)))

    async with case(name) as (url, view):
        context = await browser.new_context(viewport={"width": 1200, "height": 900})
        page = await context.new_page()
        page.on("response", note)
        await page.goto(f"{url}/{view}")
        await asyncio.sleep(seconds)
        found = requests, sum(await asyncio.gather(*sizes))
        await context.close()
    return found


async def run(seconds: float) -> None:
    """Every case, as a table."""
    print(f"| in {seconds:g} s | requests | kB |\n|---|---|---|")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for name in CASES:
            requests, size = await measure(browser, name, seconds)
            print(f"| {name} | {requests:,} | {size / 1000:,.1f} |", flush=True)
        await browser.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench traffic", description="Measure what an open dashboard asks of the server.")
    parser.add_argument("--seconds", type=float, default=30)
    asyncio.run(run(parser.parse_args(arguments).seconds))
    return 0
