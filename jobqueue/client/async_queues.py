"""What the clients can do with queues, for asyncio: each operation, what it takes, sends, answers and raises.

`sync_queues.py` is made from this file by `python -m tests.client.generate`.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET, UnsetType

from jobqueue.client import reading
from jobqueue.client.async_transport import AsyncTransport
from jobqueue.client.sending import KEYS_PAGE, Policy, PolicyChange, encoded, key_place, once, place, query
from jobqueue.client.types import Key, Queue
from jobqueue.model import Backoff, PerKey, Rate


class AsyncQueues(AsyncTransport):
    """Operations on queues. What holds for all operations is told at AsyncClient."""

    async def queues(self) -> list[Queue]:
        """Every queue, by name.

        Returns a list of Queue.
        """
        found: list[Queue] = []
        cursor: str | None = None
        while True:
            page, cursor = await self._run(once("GET", query("/queues", cursor=cursor), reading.queues))
            found += page
            if cursor is None:
                return found

    async def queue(self, name: str) -> Queue:
        """Look at a queue: policy, counts, totals.

        Returns Queue. Raises UnknownQueue.
        """
        return await self._run(once("GET", place("queues", name), reading.queue))

    async def put_queue(
        self,
        name: str,
        *,
        lease_seconds: float | None = None,
        max_attempts: int | None = None,
        backoff: Backoff | None = None,
        max_jobs: int | None = None,
        paused: bool = False,
        concurrency: int | None = None,
        rate: Rate | None = None,
        per_key: PerKey | None = None,
        fair: bool = False,
        weights: Mapping[str, float] | None = None,
    ) -> Queue:
        """Make a queue, or set its whole policy: what is left out becomes the server's default, not what it was.

        lease_seconds: how long a lease holds if neither dequeue nor job says.
        max_attempts: int; backoff: Backoff; for jobs that do not say.
        max_jobs: int, the live jobs it may hold; None: only the server's bound.
        paused: bool, whether it hands out nothing.
        concurrency: int, the jobs that may be in progress at once; rate: Rate, how many may be handed out in a time.
        per_key: PerKey, what holds for each key by itself: order, concurrency, rate, max_jobs.
        fair: bool, whether of the keys of a priority the one with the least in progress goes first; weights: a dict of floats by key, how
        much of that each may have, 1 if not named.

        Returns Queue. Raises TooManyQueues.
        """
        asked = Policy(lease_seconds, max_attempts, backoff, max_jobs, paused, concurrency, rate, per_key, fair, weights)
        return await self._run(once("PUT", place("queues", name), reading.queue, encoded(asked)))

    async def change_queue(
        self,
        name: str,
        *,
        lease_seconds: float | UnsetType = UNSET,
        max_attempts: int | UnsetType = UNSET,
        backoff: Backoff | UnsetType = UNSET,
        max_jobs: int | UnsetType | None = UNSET,
        paused: bool | UnsetType = UNSET,
        concurrency: int | UnsetType | None = UNSET,
        rate: Rate | UnsetType | None = UNSET,
        per_key: PerKey | UnsetType | None = UNSET,
        fair: bool | UnsetType = UNSET,
        weights: Mapping[str, float] | UnsetType = UNSET,
    ) -> Queue:
        """Change some of a queue's policy: what is left out stays as it is, and None takes a limit away.

        The parameters are those of put_queue.

        Returns Queue. Raises UnknownQueue.
        """
        asked = PolicyChange(lease_seconds, max_attempts, backoff, max_jobs, paused, concurrency, rate, per_key, fair, weights)
        return await self._run(once("PATCH", place("queues", name), reading.queue, encoded(asked)))

    async def delete_queue(self, name: str) -> None:
        """Delete a queue that has no live jobs, its policy and totals with it.

        Returns None. Raises UnknownQueue (also when the first answer was lost and the queue was deleted by then), QueueNotEmpty.
        """
        return await self._run(once("DELETE", place("queues", name), reading.nothing))

    async def pause(self, name: str) -> Queue:
        """Hand out nothing from this queue. Jobs are still accepted, workers wait.

        Returns Queue. Raises UnknownQueue.
        """
        return await self._run(once("POST", place("queues", name, "/pause"), reading.queue))

    async def resume(self, name: str) -> Queue:
        """Hand out from this queue again.

        Returns Queue. Raises UnknownQueue.
        """
        return await self._run(once("POST", place("queues", name, "/resume"), reading.queue))

    async def keys(self, name: str, *, limit: int | None = None) -> list[Key]:
        """The keys that a queue keeps count of, those that hold most up first, then those with most queued.

        limit: int, only so many of the first; without it all.

        Returns a list of Key, empty where the queue's policy minds no keys. Raises UnknownQueue.
        """
        found: list[Key] = []
        cursor: str | None = None
        while True:
            left = None if limit is None else min(limit - len(found), KEYS_PAGE)
            page, cursor = await self._run(once("GET", query(place("queues", name, "/keys"), limit=left, cursor=cursor), reading.keys))
            found += page
            if cursor is None or (limit is not None and len(found) >= limit):
                return found

    async def pause_key(self, name: str, key: str) -> Key:
        """Hand out no job of this key of a queue, whatever comes. name: the queue's; key: str, which may have no jobs yet.

        Returns Key. Raises UnknownQueue, QueueFull (as many keys are paused as may be).
        """
        return await self._run(once("POST", key_place(name, key, "/pause"), reading.key))

    async def resume_key(self, name: str, key: str) -> Key:
        """Hand out jobs of this key again, also where a failed job halts it, which stays failed. name: the queue's; key: str.

        Returns Key. Raises UnknownQueue.
        """
        return await self._run(once("POST", key_place(name, key, "/resume"), reading.key))

    async def purge(self, name: str) -> int:
        """Cancel every job of this queue that is queued or scheduled. Those in progress go on.

        Returns how many, an int. Raises UnknownQueue.
        """
        return await self._run(once("POST", place("queues", name, "/purge"), reading.purged, idempotent=False))

    async def retry_failed(self, name: str) -> int:
        """Retry every failed job of this queue that history still has, oldest first, until there is no more room.

        Returns how many, an int. Raises UnknownQueue.
        """
        return await self._run(once("POST", place("queues", name, "/retry"), reading.retried, idempotent=False))
