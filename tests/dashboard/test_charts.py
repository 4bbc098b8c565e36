"""Charts: full when the page opens, of all queues and of one, over five minutes, an hour or a day."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from jobqueue import Client
from jobqueue.engine import samples
from jobqueue.engine.queues import QueueState
from jobqueue.engine.samples import DAY, HOUR, Samples
from jobqueue.testing import server_in_thread

from .conftest import Open, expect

if TYPE_CHECKING:
    from playwright.async_api import Locator

pytestmark = pytest.mark.asyncio(loop_scope="session")

DRAWN = """(canvas) => {
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--blue").trim();
  probe.fillRect(0, 0, 1, 1);
  const [red, green, blue] = probe.getImageData(0, 0, 1, 1).data;
  const { width, height } = canvas;
  const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  let found = 0;
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      const at = 4 * (y * width + x);
      const near = Math.abs(pixels[at] - red) + Math.abs(pixels[at + 1] - green) + Math.abs(pixels[at + 2] - blue) < 60;
      if (near && pixels[at + 3] > 100) { found += 1; break; }
    }
  }
  return found / width;
}"""
"""How much of a chart's width its first line spans."""


WIDE = 0.6
"""The axis and what is right of now take a third of a narrow chart."""


@pytest.fixture
def up_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that begin have samples of a day already: 20 jobs a second in the queue `mail`, picked up after two seconds."""
    start = Samples.start

    def filled(self: Samples, utc: float, queues: Iterable[QueueState]) -> None:
        start(self, utc, queues)
        kept = self.queues["mail"] = samples._Kept(0.0)
        for span in (HOUR, DAY):
            last = span.ended(utc)
            for number in range(last - span.steps + 1, last + 1):
                step = samples._Step()
                step.counts = [20 * span.seconds, 10 * span.seconds, 0, 0]
                step.queued, step.in_progress = 50 + number % 10, 4
                step.waited = step.worked = [0, 0, 0, 0, 0, 10, *[0] * 8]
                row = step.row(number, utc)
                self.whole.of(span).rows += row
                kept.of(span).rows += row

    monkeypatch.setattr(Samples, "start", filled)


async def widely_drawn(figure: Locator) -> None:
    """A chart spans all of its width, but for its axis and what has just begun."""
    await expect(figure.locator("canvas")).to_have_count(1)
    for _ in range(100):
        if (share := await figure.locator("canvas").evaluate(DRAWN)) > WIDE:
            break
    assert share > WIDE


async def test_charts_are_full_when_the_page_opens(up_for_a_day: None, open_page: Open) -> None:
    """The last hour of all queues, each chart from one side to the other, at the first look."""
    with server_in_thread() as url, Client(url) as client:
        client.put_queue("mail")
        page = await open_page(url)
        charts = page.get_by_role("region", name="The last hour")
        await expect(charts.locator("figure")).to_have_count(3)
        for number in range(3):
            await widely_drawn(charts.locator("figure").nth(number))
        latency = charts.locator("figure").filter(has_text="Pickup latency")
        await expect(latency.locator(".item").filter(has_text="median").locator("b")).to_have_text("3 s")
        await page.close()


async def test_a_queue_has_charts_of_its_own(up_for_a_day: None, open_page: Open) -> None:
    """Throughput, depth, pickup and duration; those of a queue that did nothing are empty."""
    with server_in_thread() as url, Client(url) as client:
        client.put_queue("mail")
        client.put_queue("idle")
        page = await open_page(url, "#/queues/mail")
        charts = page.get_by_role("region", name="The last hour")
        await expect(charts.locator("figcaption .name")).to_have_text(["Throughputjobs/s", "Depthjobs", "Pickup latency", "Duration"])
        for number in range(4):
            await widely_drawn(charts.locator("figure").nth(number))
        await page.goto(f"{url}/#/queues/idle")
        await expect(charts.locator("figure").filter(has_text="Duration")).to_contain_text("No job was concluded in this time.")
        await page.close()


async def test_another_span_is_chosen(up_for_a_day: None, open_page: Open) -> None:
    """Five minutes or a day instead of the hour, on every page, and still after the page was loaded anew."""
    with server_in_thread() as url, Client(url) as client:
        client.put_queue("mail")
        page = await open_page(url)
        await page.get_by_role("button", name="5 min").click()
        await widely_drawn(page.get_by_role("region", name="The last five minutes").locator("figure").nth(1))
        await page.get_by_role("button", name="Day").click()
        await widely_drawn(page.get_by_role("region", name="The last day").locator("figure").first)
        await page.goto(f"{url}/#/queues/mail")
        await expect(page.get_by_role("button", name="Day")).to_have_attribute("aria-pressed", "true")
        await page.reload()
        await widely_drawn(page.get_by_role("region", name="The last day").locator("figure").first)
        await page.close()
