"""`python -m bench growth`: what size costs, as a table and plots.

Cost is server CPU, from the server's own clock: of an enqueue, of a dequeue with its conclude, and of a cancellation of any job, at 1 k to
1 M queued jobs; of an enqueue elsewhere and of a hand-out with 10 to 10 k dequeues held; and of cancelling most of a deep queue, so that
its ring is compacted again and again, while others enqueue and dequeue at its ends. --quick only prints.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import uvloop

from bench import results
from bench.crowd import QUEUE as CROWD_QUEUE
from bench.depth import FILL
from bench.held import HOLD_SECONDS, await_waiters, crowd, make_queue
from bench.load import Load, load_on
from bench.peers.plots import lines
from bench.process import BenchError, ours, prepare
from bench.report import machine
from bench.requests import DEQUEUE, ENQUEUE
from bench.wire import PAYLOAD, Blocking, request

STORM_SHARE = 0.8
"""Of the deep queue's jobs, how many are cancelled."""


class Plan(NamedTuple):
    """Sizes. repeats: of each measurement at a size, of requests each."""

    depths: Sequence[int]
    waiters: Sequence[int]
    requests: int
    repeats: int
    storm: int


FULL = Plan((1_000, 10_000, 100_000, 1_000_000), (10, 100, 1_000, 10_000), 1_000, 5, 100_000)
QUICK = Plan((1_000, 10_000), (10, 100), 200, 2, 2_000)


class Depth(NamedTuple):
    """Microseconds of server CPU at a depth."""

    jobs: int
    enqueue: float
    dequeue: float
    cancel: float


class Held(NamedTuple):
    """Microseconds of server CPU with so many waiters."""

    waiters: int
    elsewhere: float
    hand_out: float


class Storm(NamedTuple):
    """What a storm of cancellations did. Times in milliseconds, of an enqueue and a dequeue in turns; costs in microseconds."""

    jobs: int
    cancel_us: float
    quiet_p50: float
    quiet_worst: float
    p50: float
    p99: float
    worst: float


def cancels(ids: Sequence[str]) -> list[bytes]:
    """Requests."""
    return [request("POST", f"/jobs/{each}/cancel") for each in ids]


async def fill(load: Load, jobs: int) -> list[str]:
    """Enqueue so many; the ids of all."""
    ids: list[str] = []
    while jobs:
        count = min(FILL, jobs)
        bodies = await load.send([request("POST", "/batch/enqueue", {"jobs": [{"payload": PAYLOAD}] * count})], 200)
        ids += [job["id"] for job in json.loads(bodies[0])["jobs"]]
        jobs -= count
    return ids


async def _depth(load: Load, jobs: int, ids: list[str], plan: Plan) -> Depth:
    enqueue, dequeue, cancel = [], [], []
    for _ in range(plan.repeats):
        cost, bodies = await load.cost([ENQUEUE] * plan.requests, 201)
        enqueue.append(cost / 1_000)
        ids += [json.loads(body)["id"] for body in bodies]
        taken, bodies = await load.cost([DEQUEUE] * plan.requests, 200)
        jobs_taken = [json.loads(body) for body in bodies]
        concludes = [
            request("POST", f"/jobs/{job['id']}/conclude", {"lease": job["lease"]["token"], "outcome": "succeeded"}) for job in jobs_taken
        ]
        gone = {job["id"] for job in jobs_taken}
        ids[:] = [each for each in ids if each not in gone]
        told, _bodies = await load.cost(concludes, 200)
        dequeue.append((taken + told) / 1_000)
        chosen = [ids.pop(random.randrange(len(ids))) for _ in range(min(plan.requests, len(ids)) // 10)]
        cost, _bodies = await load.cost(cancels(chosen), 200)
        cancel.append(cost / 1_000)
    return Depth(jobs, statistics.median(enqueue), statistics.median(dequeue), statistics.median(cancel))


async def depths(plan: Plan) -> list[Depth]:
    """One server, filled further and further."""
    found = []
    with ours("--max-jobs", str(2 * max(plan.depths))) as server:
        async with load_on(server) as load:
            ids: list[str] = []
            for jobs in plan.depths:
                ids += await fill(load, jobs - len(ids))
                found.append(await _depth(load, jobs, ids, plan))
    return found


async def held(plan: Plan) -> list[Held]:
    """A server with more and more dequeues held. Each is handed a job in the end, so every size has crowds of its own."""
    found = []
    hand_out = request("POST", "/jobs/enqueue", {"queue": CROWD_QUEUE, "payload": PAYLOAD})
    with ours() as server:
        make_queue(server)
        asking = Blocking(server.port)
        async with load_on(server) as load:
            await load.send([ENQUEUE] * plan.requests, 201)
            for waiters in plan.waiters:
                elsewhere, handed, given = [], 0.0, 0
                # Small crowds are over too soon to be measured once.
                for _ in range(max(1, 200 // waiters)):
                    with crowd(server, waiters, "/jobs/dequeue", HOLD_SECONDS):
                        await asyncio.to_thread(await_waiters, asking, waiters)
                        cost, _bodies = await load.cost([ENQUEUE] * plan.requests, 201)
                        elsewhere.append(cost / 1_000)
                        count = min(waiters, plan.requests)
                        cost, _bodies = await load.cost([hand_out] * count, 201)
                        handed += cost * count
                        given += count
                    await asyncio.to_thread(await_waiters, asking, 0)
                found.append(Held(waiters, statistics.median(elsewhere), handed / given / 1_000))
    return found


async def storm(plan: Plan) -> Storm:
    """Cancel most of a deep queue, at random, while another client enqueues and dequeues and notes how long each takes."""
    with ours("--max-jobs", str(2 * plan.storm + 10_000)) as server:
        prober = Blocking(server.port)

        def probe() -> float:
            started = time.perf_counter()
            prober.ask(ENQUEUE, 201)
            prober.ask(DEQUEUE, 200)
            return (time.perf_counter() - started) * 1_000

        async def probing(task: asyncio.Task[tuple[float, list[bytes]]] | None) -> list[float]:
            times = []
            while (not task.done()) if task is not None else len(times) < 200:
                times.append(await asyncio.to_thread(probe))
            return times

        async with load_on(server, 8) as load:
            ids = await fill(load, plan.storm)
            quiet = await probing(None)
            random.shuffle(ids)
            # The front is what the prober takes meanwhile: jobs in progress would answer a cancel with 200 too, but another cost.
            chosen = ids[: int(len(ids) * STORM_SHARE)]
            before = server.cpu_ns()
            task = asyncio.create_task(load.cost(cancels(chosen), 200))
            times = await probing(task)
            await task
            cost = (server.cpu_ns() - before) / len(chosen) / 1_000
    p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
    return Storm(plan.storm, cost, statistics.median(quiet), max(quiet), statistics.median(times), p99, max(times))


def told(by_depth: Sequence[Depth], by_held: Sequence[Held], stormed: Storm) -> str:
    """The tables."""
    parts = [
        "# What size costs",
        f"{datetime.now(UTC):%Y-%m-%d}. {machine()}. To get these: `python -m bench growth`. Server CPU, medians.",
        "| queued jobs | enqueue, µs | dequeue and conclude, µs | cancel of any job, µs |\n| --- | --- | --- | --- |\n"
        + "\n".join(f"| {row.jobs:,} | {row.enqueue:.0f} | {row.dequeue:.0f} | {row.cancel:.0f} |" for row in by_depth),
        "| dequeues held | enqueue to another queue, µs | enqueue handed to a held dequeue, both answers, µs |\n| --- | --- | --- |\n"
        + "\n".join(f"| {row.waiters:,} | {row.elsewhere:.0f} | {row.hand_out:.0f} |" for row in by_held),
        f"Cancelling {STORM_SHARE:.0%} of {stormed.jobs:,} queued jobs at random over 8 connections, while another client enqueues and "
        f"dequeues in turns: {stormed.cancel_us:.0f} µs of server CPU for each cancellation, that client's requests and the compaction of "
        f"the ring included. An enqueue and a dequeue take that client {stormed.p50:.2f} ms (p99 {stormed.p99:.2f}, worst "
        f"{stormed.worst:.2f}), and {stormed.quiet_p50:.2f} ms (worst {stormed.quiet_worst:.2f}) without the storm.",
    ]
    return "\n\n".join(parts) + "\n"


def plot(by_depth: Sequence[Depth], by_held: Sequence[Held]) -> list[str]:
    """The plots' files."""
    drawn = [
        lines(
            "growth-depth", "queued jobs", "µs of server CPU",
            {name: [(row.jobs, getattr(row, name)) for row in by_depth] for name in ("enqueue", "dequeue", "cancel")},
        ),
        lines(
            "growth-waiters", "dequeues held", "µs of server CPU",
            {
                "enqueue to another queue": [(row.waiters, row.elsewhere) for row in by_held],
                "enqueue handed to one of them": [(row.waiters, row.hand_out) for row in by_held],
            },
        ),
    ]  # fmt: skip
    return [name for name in drawn if name is not None]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench growth", description="What a deep queue and many waiters cost.")
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing written")
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else FULL
    prepare()

    async def measure() -> tuple[list[Depth], list[Held], Storm]:
        return await depths(plan), await held(plan), await storm(plan)

    try:
        found = uvloop.run(measure())
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    text = told(*found)
    if not options.quick:
        text += "".join(f"\n![{Path(name).stem}]({name})\n" for name in plot(*found[:2]))
    print(text)
    if not options.quick:
        results.write("growth", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
