"""The load: producers and workers with several base URLs, in a thread of their own, who never give up and note all that they are told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from random import Random
from typing import Any

from jobqueue import AsyncClient, Retrying
from jobqueue.client.types import LeasedJob
from jobqueue.errors import IdConflict, LeaseLost, NotInProgress, QueueError, UnknownJob
from jobqueue.model import DEFAULT_QUEUE
from jobqueue.partition import partition_of

from .book import Book

PRODUCERS, WORKERS = 10, 24
TIMEOUT_SECONDS = 4.0
"""How long a client waits for an answer before it goes on at the next server."""
LEASE_SECONDS, SHORT_LEASE_SECONDS = 20.0, 2.0
BACKLOG = 500
"""Live jobs from which on producers are slower."""
REFUSALS = (LeaseLost, NotInProgress, UnknownJob)


def queues_of(partitions: int) -> list[str]:
    """A queue in each partition."""
    if partitions == 1:
        return [DEFAULT_QUEUE]
    found: dict[int, str] = {}
    for number in itertools.count():
        found.setdefault(partition_of(f"queue{number}", partitions), f"queue{number}")
        if len(found) == partitions:
            return list(found.values())
    raise AssertionError


class Load:
    """Starts with `start`; `drain` has producers stop and workers take no more risks; `end` ends all."""

    def __init__(self, urls: Sequence[str], book: Book, seed: int, partitions: int = 1) -> None:
        self.book = book
        self._queues = queues_of(partitions)
        self._urls = list(urls)
        self._luck = Random(seed)
        self._producing = self._working = True
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._failed: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def drain(self) -> None:
        """Enqueue no more; conclude all that is handed out."""
        self._producing = False

    def end(self) -> None:
        """Stop all clients and wait for them. Raises what one of them failed by."""
        self._producing = self._working = False
        self._thread.join(60.0)
        self.check()
        assert not self._thread.is_alive(), "the clients do not end"

    def check(self) -> None:
        """Raise what one of the clients failed by."""
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:  # told by `check`, in the thread that drives
            self._failed = error

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(PRODUCERS):
                group.create_task(self._client(self._produce, f"p{number}"))
            for number in range(WORKERS):
                group.create_task(self._client(self._work, f"w{number}"))

    async def _client(self, body: Callable[[AsyncClient, str, Random], Coroutine[Any, Any, None]], name: str) -> None:
        luck = Random(self._luck.random())
        retrying = Retrying(tries=1_000_000, base=0.05, cap=1.0, random=luck.random)
        async with AsyncClient(self._urls, timeout=TIMEOUT_SECONDS, retrying=retrying) as client:
            await body(client, name, luck)

    async def _produce(self, client: AsyncClient, name: str, luck: Random) -> None:
        number = 0
        while self._producing:
            number += 1
            job_id = f"{name}-{number}"
            began = self.book.submits(job_id)
            queue = luck.choice(self._queues)
            await client.enqueue(job_id, id=job_id, queue=queue, max_attempts=1_000)
            self.book.acknowledges(job_id, began)
            if len(self._queues) > 1 and luck.random() < 0.1:
                await self._enqueue_twice(client, job_id, luck.choice([name for name in self._queues if name != queue]))
            busy = len(self.book.acknowledged) - len(self.book.concluded) > BACKLOG
            await asyncio.sleep(luck.uniform(0.05, 0.15) * (5 if busy else 1))

    async def _enqueue_twice(self, client: AsyncClient, job_id: str, queue: str) -> None:
        """Use an id again, in a queue of another partition."""
        try:
            await client.enqueue(job_id, id=job_id, queue=queue, max_attempts=1_000)
        except IdConflict:
            return
        self.book.faults.append(f"{job_id} was enqueued in {queue} too")

    async def _work(self, client: AsyncClient, name: str, luck: Random) -> None:
        while self._working:
            seconds = SHORT_LEASE_SECONDS if luck.random() < 0.1 else LEASE_SECONDS
            asked_at = time.time()
            job = await client.dequeue(self._queues, wait=2.0, lease_seconds=seconds, worker=name)
            if job is not None:
                self.book.hands_out(job, asked_at, seconds)
                await self._handle(client, job, seconds, luck.random() if self._producing else 1.0, luck)

    async def _handle(self, client: AsyncClient, job: LeasedJob, seconds: float, chance: float, luck: Random) -> None:
        """What workers do: succeed at once, after a while with a heartbeat, late or never; fail; give back."""
        book, token = self.book, job.lease.token
        if seconds == SHORT_LEASE_SECONDS and chance < 0.5:
            # Dies, or is late.
            if chance < 0.25:
                return
            await asyncio.sleep(luck.uniform(1.5, 2.5))
        elif chance < 0.1:
            await asyncio.sleep(luck.uniform(0.0, 1.5))
            book.asks_for(token, seconds)
            try:
                extended = await client.extend(job.id, token, lease_seconds=seconds, progress=0.5)
            except REFUSALS as error:
                book.refused(token, "an extend", error.code)
                return
            book.was_extended(token, extended.expires_at.timestamp())
            await asyncio.sleep(luck.uniform(0.0, 1.5))
        elif chance < 0.2:
            book.gives_up(token)
            # Asked again, it is refused if the first answer was lost.
            with contextlib.suppress(*REFUSALS):
                await client.release(job.id, token, delay=luck.choice((0.0, 0.5)))
                book.released += 1
            return
        elif chance < 0.25:
            book.gives_up(token)
            with contextlib.suppress(*REFUSALS):
                await client.conclude(job.id, token, "failed", error="by chance", retry_delay=0.1)
                book.failed += 1
            return
        book.gives_up(token)
        try:
            await client.conclude(job.id, token, "succeeded")
        except REFUSALS as error:
            book.refused(token, "a conclude", error.code)
        else:
            book.succeeds(job.id)


@contextlib.contextmanager
def load_on(urls: Sequence[str], book: Book, seed: int, partitions: int = 1) -> Iterator[Load]:
    """A load that has begun. Its end is no failure of its own when something else failed."""
    load = Load(urls, book, seed, partitions)
    load.start()
    try:
        yield load
    except BaseException:
        with contextlib.suppress(QueueError, AssertionError, ExceptionGroup):
            load.end()
        raise
    load.end()
