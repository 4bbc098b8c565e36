"""How long 10,000 schedules that are due in one second hold the loop up. `python -m tests.faults.due`.

A backend with a file, as the server has it, in this process: what is measured is each turn of the loop, by the clock and by what this
thread had of a processor, which is what counts on a machine that others use too. Garbage is collected as rarely
as in the server.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import time
from pathlib import Path
from typing import Any

from jobqueue.backend.requests.schedules import PutSchedule
from jobqueue.model import JobSpec
from jobqueue.process.server import GC_THRESHOLDS
from jobqueue.schedule import Schedule

from .datafile import backend_at


async def turns(done: asyncio.Event) -> tuple[list[float], list[float]]:
    """How long each turn of the loop took until it is done: by the clock, and of a processor."""
    found: list[float] = []
    worked: list[float] = []
    last, spent = time.perf_counter(), time.thread_time()
    while not done.is_set():
        await asyncio.sleep(0)
        now, used = time.perf_counter(), time.thread_time()
        found.append(now - last)
        worked.append(used - spent)
        last, spent = now, used
    return found, worked


def collections() -> list[float]:
    """How long each collection of garbage takes from now on, of a processor. The list grows."""
    found: list[float] = []
    begun = 0.0

    def note(phase: str, _: dict[str, int]) -> None:
        nonlocal begun
        if phase == "start":
            begun = time.thread_time()
        else:
            found.append(time.thread_time() - begun)

    gc.callbacks.append(note)
    return found


async def measure(count: int, cron: bool, folder: Path) -> None:
    """Make so many schedules of one slot, and look at the loop while it comes."""
    async with backend_at(folder / "jobs.db") as backend:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        begun = time.perf_counter()
        slot = float(int(time.time()) + 60)
        when: dict[str, Any] = {"cron": "* * * * *"} if cron else {"every": 86_400.0, "starts_at": slot}
        # A slot that came while others were put must not keep the next one out.
        when["overlap"] = "allow"
        for first in range(0, count, 500):
            rules = [Schedule(job=JobSpec(payload=b"null", queue=f"q{number % 100}"), **when) for number in range(first, first + 500)]
            await asyncio.gather(*(backend.ask(PutSchedule(name=f"s{first + at}", schedule=rule)) for at, rule in enumerate(rules)))
        print(f"{count} schedules put in {time.perf_counter() - begun:.1f} s")
        slot = (time.time() // 60 + 1) * 60 if cron else slot
        await asyncio.sleep(max(0.0, slot - time.time() - 0.5))
        made = backend.totals().schedules.made_total
        done = asyncio.Event()
        collected = collections()
        looking = asyncio.create_task(turns(done))
        while backend.totals().schedules.made_total - made < count:  # noqa: ASYNC110 # nothing signals it
            await asyncio.sleep(0.05)
        took = time.time() - slot
        await asyncio.sleep(1.0)
        done.set()
        for what, each in zip(("by the clock", "of a processor"), await looking, strict=True):
            print(f"longest turns {what}: {', '.join(f'{1000 * turn:.1f} ms' for turn in sorted(each)[-6:])}")
        print(f"longest collection of garbage, of a processor: {1000 * max(collected, default=0.0):.1f} ms")
        print(f"{count} jobs made within {took:.2f} s of their slot")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.due", description="Let many schedules be due at once.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--cron", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(options.count, options.cron, Path(folder)))


if __name__ == "__main__":
    main()
