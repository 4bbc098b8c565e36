"""`python -m bench.worker`: how many no-op jobs one worker process handles over HTTP, side by side with one job a call.

The server has a core of its own, the worker another. The jobs are enqueued first; then the time is taken from the worker's start to its
last job's being concluded on the server. Both ways take turns on the same server:

- `Worker`: jobs are taken ahead, and concluded in batches, while handlers run;
- one job a call: as many tasks as the worker has slots, each of which dequeues a job and concludes it.

--profile PATH writes a profile of the worker's process by cProfile, which slows it down a lot; the numbers then mean little.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import uvloop

from bench import report
from bench.process import BenchError, ours, prepare
from jobqueue import AsyncClient, NewJob, RunningJob, Worker

CONCURRENCY = 16
QUEUE = "bench"
JOB = NewJob({"to": "someone@example.org", "subject": "Hello"}, type="email", queue=QUEUE)
JOBS_PER_SECOND_MIN = 5_000


async def handler(job: RunningJob) -> None:
    """Nothing at all."""


async def fill(client: AsyncClient, jobs: int) -> None:
    """Queue so many jobs."""
    for start in range(0, jobs, 1_000):
        await client.enqueue_batch([JOB] * min(1_000, jobs - start))


async def by_worker(url: str, jobs: int) -> None:
    """All jobs by a Worker."""
    worker = Worker(url, queues=[QUEUE], concurrency=CONCURRENCY)
    done = asyncio.Event()
    begun = 0

    @worker.handler("email")
    async def counted(job: RunningJob) -> None:
        nonlocal begun
        await handler(job)
        begun += 1
        if begun == jobs:
            done.set()

    await worker.start()
    await done.wait()
    await worker.stop()
    if worker.counts.succeeded != jobs:
        raise BenchError(f"{worker.counts} of {jobs} jobs")


async def one_by_one(url: str, jobs: int) -> None:
    """All jobs, one a call."""
    left = jobs

    async def work(client: AsyncClient) -> None:
        nonlocal left
        while left:
            left -= 1
            job = await client.dequeue(QUEUE, wait=0)
            if job is None:
                raise BenchError("a job is missing")
            await client.conclude(job.id, job.lease.token, "succeeded")

    async with AsyncClient(url) as client:
        await asyncio.gather(*(work(client) for _ in range(CONCURRENCY)))


async def rate(way: Callable[[str, int], Awaitable[None]], url: str, jobs: int) -> float:
    """Jobs a second."""
    async with AsyncClient(url) as client:
        await fill(client, jobs)
        started = time.perf_counter()
        await way(url, jobs)
        seconds = time.perf_counter() - started
        left = (await client.queue(QUEUE)).in_progress
    if left:
        raise BenchError(f"{left} jobs are not concluded")
    return jobs / seconds


class Measured(NamedTuple):
    """For each round: jobs a second both ways; CPU in microseconds for each of the worker's jobs, the server's and the worker's own."""

    worker: list[float]
    single: list[float]
    server_cpu: list[float]
    worker_cpu: list[float]


async def measure(rounds: int, jobs: int, singles: int) -> Measured:
    """Take turns."""
    found = Measured([], [], [], [])
    with ours() as server:
        url = f"http://127.0.0.1:{server.port}"
        for number in range(rounds + 1):
            single_rate = await rate(one_by_one, url, singles)
            server_before, own_before = server.cpu_ns(), time.process_time_ns()
            worker_rate = await rate(by_worker, url, jobs)
            server_spent, own_spent = server.cpu_ns() - server_before, time.process_time_ns() - own_before
            if number:
                found.worker.append(worker_rate)
                found.single.append(single_rate)
                found.server_cpu.append(server_spent / jobs / 1_000)
                found.worker_cpu.append(own_spent / jobs / 1_000)
    return found


def spread(values: list[float]) -> str:
    """The median, and between which values it lies."""
    return f"{statistics.median(values):>8,.0f}   ({min(values):,.0f} to {max(values):,.0f})"


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description="No-op jobs a second by one worker process over HTTP.")
    parser.add_argument("--quick", action="store_true", help="fewer jobs and rounds: shows that the measuring works")
    parser.add_argument("--profile", metavar="PATH", help="write a profile of the worker's process")
    options = parser.parse_args()
    rounds, jobs, singles = (2, 3_000, 600) if options.quick else (7, 30_000, 5_000)
    prepare()
    print(report.machine())
    profile = cProfile.Profile() if options.profile else None
    try:
        if profile is not None:
            profile.enable()
        found = uvloop.run(measure(rounds, jobs, singles))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        if profile is not None:
            profile.disable()
            profile.dump_stats(options.profile)
    ratios = [many / one for many, one in zip(found.worker, found.single, strict=True)]
    print(f"{CONCURRENCY} no-op handlers at once, jobs a second, median of {rounds} rounds:")
    print(f"  Worker           {spread(found.worker)}")
    print(f"  one job a call   {spread(found.single)}")
    print(f"  ratio            {statistics.median(ratios):>8.1f}   ({min(ratios):.1f} to {max(ratios):.1f})")
    print("  CPU for each of the worker's jobs, enqueuing included:")
    print(f"    server {statistics.median(found.server_cpu):.0f} µs, worker's process {statistics.median(found.worker_cpu):.0f} µs")
    met = statistics.median(found.worker) >= JOBS_PER_SECOND_MIN
    print(f"  at least {JOBS_PER_SECOND_MIN:,} by the worker: {'yes' if met else 'NO'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
