"""`python -m bench load`: jobs through a running server as fast as this process can, and how soon an idle worker has a job."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from jobqueue import AsyncClient, Retrying
from jobqueue.client.types import Conclude, LeasedJob, NewJob
from jobqueue.errors import QueueError, QueueNotEmpty
from jobqueue.limits import Limits

WAIT_SECONDS = 5.0
"""How long a worker's request is held; a worker is cancelled when it is no longer needed."""

LEASE_SECONDS = 30.0
PICKUPS_MAX = 500

TRIES = 3
"""Times a request is sent."""

CLEARINGS = 20
"""Times the queue is emptied in the end."""

CLEARING_SECONDS = 0.1


class Measured(msgspec.Struct):
    """What was measured. Latencies in milliseconds, from the call of enqueue to having the job."""

    jobs: int
    concurrency: int
    batch: int
    seconds: float
    jobs_per_second: float
    pickups: int
    pickup_p50_ms: float
    pickup_p99_ms: float


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least such a share of all do not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]


def _count(low: int, high: int) -> Callable[[str], int]:
    """Reads a whole number within bounds."""

    def number(text: str) -> int:
        if not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text} is not in the range {low} to {high}")
        return int(text)

    return number


def main(args: list[str]) -> int:
    """The exit code: 0, 1 when the server refuses or is not there, 2 for arguments that make no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m bench load",
        description="Put load on a running server, and measure it. First all jobs go through: producers enqueue, workers dequeue and "
        "conclude, all at once. Then one job at a time is enqueued while workers wait, and the time until one has it is taken.",
        epilog="It works in a queue of its own and deletes it in the end. The jobs it concluded stay in the server's history, where they "
        "may push older ones out. The load comes from one process of Python, which may saturate first: treat the figures as a lower bound.",
    )
    parser.add_argument("--url", help="the server; JOBQUEUE_URL unless given")
    parser.add_argument("--token", help="the bearer token; JOBQUEUE_TOKEN unless given")
    parser.add_argument("-n", "--jobs", type=_count(1, 10_000_000), default=10_000, metavar="N", help="jobs in all")
    parser.add_argument("-c", "--concurrency", type=_count(1, 1_000), default=8, metavar="N", help="producers, and as many workers")
    parser.add_argument(
        "-b", "--batch", type=_count(1, Limits().batch_jobs_max), default=100, metavar="N", help="jobs in a request; 1 for one a call"
    )
    parser.add_argument("--payload-bytes", type=_count(2, 100_000), default=100, metavar="N", help="size of a payload")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args(args)
    try:
        measured = asyncio.run(_measure(options))
    except QueueError as error:
        print(f"Error: {error.code}: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        parser.error(str(error))
    if options.json:
        print(msgspec.json.encode(measured).decode())
        return 0
    print(f"jobs        {measured.jobs}, {measured.batch} in a request, {measured.concurrency} producers and as many workers")
    print(f"throughput  {measured.jobs_per_second:.0f} jobs/s, from enqueue to conclude")
    print(f"time        {measured.seconds:.2f} s")
    print(f"pickup p50  {measured.pickup_p50_ms:.2f} ms")
    print(f"pickup p99  {measured.pickup_p99_ms:.2f} ms, of {measured.pickups} jobs")
    return 0


async def _measure(options: argparse.Namespace) -> Measured:
    jobs, concurrency, batch = options.jobs, options.concurrency, options.batch
    async with AsyncClient(options.url, options.token, retrying=Retrying(tries=TRIES)) as client, _own_queue(client) as queue:
        load = _Load(client, queue, batch, "x" * (options.payload_bytes - 2))
        seconds = await load.throughput(jobs, concurrency)
        latencies = await load.pickups(min(jobs, PICKUPS_MAX), concurrency)
    p50, p99 = (percentile(latencies, share) * 1_000 for share in (0.5, 0.99))
    return Measured(jobs, concurrency, batch, seconds, jobs / seconds, len(latencies), p50, p99)


@contextlib.asynccontextmanager
async def _own_queue(client: AsyncClient) -> AsyncIterator[str]:
    """A queue that is there for this bench alone, and gone in the end, whatever it still holds."""
    name = f"bench-{os.urandom(6).hex()}"
    await client.put_queue(name, lease_seconds=LEASE_SECONDS, max_attempts=1)
    try:
        yield name
    finally:
        try:
            await _deleted(client, name)
        except QueueError as error:
            print(f"queue {name} is left behind: {error.detail}", file=sys.stderr)


async def _deleted(client: AsyncClient, name: str) -> None:
    """Delete a queue with all it holds. What was cut off may come to it a moment later: an enqueue under way, a job given back."""
    for _ in range(CLEARINGS - 1):
        await client.purge(name)
        with contextlib.suppress(QueueNotEmpty):
            return await client.delete_queue(name)
        await asyncio.sleep(CLEARING_SECONDS)
    await client.purge(name)
    return await client.delete_queue(name)


class _Load:
    """Producers and workers of one queue. Workers give back what they hold when they are cancelled, so that the queue can be deleted."""

    def __init__(self, client: AsyncClient, queue: str, batch: int, payload: str) -> None:
        self._client = client
        self._queue = queue
        self._batch = batch
        self._payload = payload

    async def throughput(self, jobs: int, concurrency: int) -> float:
        """Seconds for so many jobs from the first enqueue to the last conclude. Raises QueueError."""
        left, concluded, done = jobs, 0, asyncio.Event()

        async def produce() -> None:
            nonlocal left
            while left:
                count = min(left, self._batch)
                left -= count
                await self._enqueue(count)

        def on_concluded(count: int) -> None:
            nonlocal concluded
            concluded += count
            if concluded >= jobs:
                done.set()

        async with _Tasks() as tasks:
            started = time.perf_counter()
            for _ in range(concurrency):
                tasks.start(self._work(self._batch, on_concluded))
                tasks.start(produce())
            await tasks.until(done.wait())
            return time.perf_counter() - started

    async def pickups(self, jobs: int, concurrency: int) -> list[float]:
        """Seconds from enqueue to having the job, one job at a time. Raises QueueError."""
        latencies: list[float] = []
        concluded = asyncio.Event()

        def on_taken(at: float) -> None:
            latencies.append(at - started)

        async with _Tasks() as tasks:
            for _ in range(concurrency):
                tasks.start(self._work(1, lambda _: concluded.set(), on_taken))
            # Who waits is known to the server alone.
            while (await self._client.queue(self._queue)).waiters < concurrency:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            for _ in range(jobs):
                concluded.clear()
                started = time.perf_counter()
                await tasks.until(self._enqueue(1))
                await tasks.until(concluded.wait())
        return latencies

    async def _enqueue(self, count: int) -> None:
        if count == 1:
            await self._client.enqueue(self._payload, queue=self._queue)
            return
        for answer in await self._client.enqueue_batch([NewJob(self._payload, queue=self._queue) for _ in range(count)]):
            if isinstance(answer, QueueError):
                raise answer

    async def _take(self, batch: int, attempt_id: str, wait: float) -> list[LeasedJob]:
        if batch == 1:
            job = await self._client.dequeue(self._queue, wait=wait, attempt_id=attempt_id)
            return [] if job is None else [job]
        return await self._client.dequeue_batch(self._queue, limit=batch, wait=wait, attempt_id=attempt_id)

    async def _work(self, batch: int, on_concluded: Callable[[int], None], on_taken: Callable[[float], None] | None = None) -> None:
        """Take and conclude until cancelled; then give back what is held, and what a request that was cancelled may have been answered."""
        attempt_id = ""
        held: list[LeasedJob] = []
        try:
            while True:
                attempt_id = os.urandom(16).hex()
                held = await self._take(batch, attempt_id, WAIT_SECONDS)
                attempt_id = ""
                if on_taken is not None and held:
                    on_taken(time.perf_counter())
                await self._conclude(held)
                count, held = len(held), []
                on_concluded(count)
        finally:
            with contextlib.suppress(QueueError):
                # The same attempt_id is answered the same leases again.
                for job in held or (await self._take(batch, attempt_id, 0) if attempt_id else []):
                    await self._client.release(job.id, job.lease.token)

    async def _conclude(self, jobs: list[LeasedJob]) -> None:
        if len(jobs) == 1:
            await self._client.conclude(jobs[0].id, jobs[0].lease.token, "succeeded")
        elif jobs:
            for answer in await self._client.conclude_batch([Conclude(job.id, job.lease.token, "succeeded") for job in jobs]):
                if isinstance(answer, QueueError):
                    raise answer


class _Tasks:
    """Tasks that are all over when the context is left; the first that fails ends a wait."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> _Tasks:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, work: Any) -> None:
        """Start one."""
        self._tasks.append(asyncio.create_task(work))

    async def until(self, awaited: Any) -> None:
        """Wait for something while the tasks run. Raises what one of them raised."""
        waiting = asyncio.ensure_future(awaited)
        try:
            pending: set[Any] = {waiting, *self._tasks}
            while not waiting.done():
                over, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in over:
                    task.result()
            waiting.result()
        finally:
            waiting.cancel()
