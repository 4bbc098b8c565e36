"""What `Client` can do with queues. Made from `async_queues.py` by `python -m tests.client.generate`: change that one."""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import UNSET, UnsetType

from jobqueue.client import calls, reading
from jobqueue.client.group_types import NewGroup
from jobqueue.client.sending import KEYS_PAGE, Policy, PolicyChange, encoded, key_place, once, place, query
from jobqueue.client.sync_bulk import SyncBulk
from jobqueue.client.sync_groups import SyncGroup, SyncGroups
from jobqueue.client.sync_schedules import SyncSchedules
from jobqueue.client.types import Key, NewJob, Queue
from jobqueue.model import DEFAULT_QUEUE
from jobqueue.policy import Backoff, Keep, PerKey, Rate


class SyncQueues(SyncBulk):
    """Operations on queues. AsyncClient describes what is common to all operations."""

    @property
    def schedules(self) -> SyncSchedules:
        """Schedules, which make jobs repeatedly: list, get, put, change, delete, run, pause, resume, backfill."""
        return SyncSchedules(self)

    @property
    def groups(self) -> SyncGroups:
        """Groups, which count the conclusions of jobs: list, get, create, wait, close, cancel."""
        return SyncGroups(self)

    def group(
        self,
        id: str | None = None,
        *,
        queue: str = DEFAULT_QUEUE,
        on_concluded: NewJob | None = None,
        on_succeeded: NewJob | None = None,
        wait: float = math.inf,
    ) -> SyncGroup:
        """A group for a `with` block: enqueue jobs with it; the end of the block waits until all its jobs have ended.

        id, queue, on_concluded, on_succeeded: as groups.create.
        wait: seconds that the end of the block waits, 0 for no wait, math.inf for ever. After that, `info` says how the jobs ended.

        Returns a context manager (AsyncClient: for `async with`). If the block raises, the group is cancelled.
        """
        return SyncGroup(self, NewGroup(calls.new_id(queue) if id is None else id, queue, on_concluded, on_succeeded), wait)

    def queues(self) -> list[Queue]:
        """Every queue, by name.

        Returns a list of Queue.
        """
        found: list[Queue] = []
        cursor: str | None = None
        while True:
            page, cursor = self._run(once("GET", query("/queues", cursor=cursor), reading.queues))
            found += page
            if cursor is None:
                return found

    def queue(self, name: str) -> Queue:
        """Return a queue: policy, counts, totals.

        Returns Queue. Raises UnknownQueue.
        """
        return self._run(once("GET", place("queues", name), reading.queue))

    def put_queue(
        self,
        name: str,
        *,
        lease_seconds: float | None = None,
        max_attempts: int | UnsetType | None = UNSET,
        backoff: Backoff | None = None,
        max_jobs: int | None = None,
        paused: bool = False,
        concurrency: int | None = None,
        rate: Rate | None = None,
        per_key: PerKey | None = None,
        fair: bool = False,
        weights: Mapping[str, float] | None = None,
        dead_letter: str | None = None,
        keep_succeeded: Keep | None = None,
        keep_failed: Keep | None = None,
        delay: float | None = None,
        expires_in: float | None = None,
        tags: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Queue:
        """Create a queue, or set its whole policy: parameters that you leave out get the server's default, not the old value.

        lease_seconds: length of a lease if neither the dequeue nor the job sets it.
        max_attempts: int, None for no bound; backoff: Backoff; both for jobs that do not set them.
        max_jobs: int, the most live jobs; None: only the server's bound.
        paused: bool, whether it hands out nothing.
        concurrency: int, the most jobs in progress at the same time; rate: Rate, how many are handed out in a period.
        per_key: PerKey, the rules for each key: order, concurrency, rate, max_jobs.
        fair: bool, whether, within a priority, the key with the fewest jobs in progress goes first; weights: a dict of floats by key, the
        share of each key, 1 by default.
        dead_letter: str, the queue that a job moves to when it has failed for good; None for history.
        keep_succeeded, keep_failed: Keep, how long and how many jobs history keeps, of those that succeeded and of all others.
        delay: the delay in seconds of new jobs without a delay or a start time; expires_in: seconds after its creation at which a job that
        still waits here expires, or up to a minute later.
        tags: a dict of str, your labels; attributes: a dict of str, data that a dialect keeps.

        Returns Queue. Raises TooManyQueues.
        """
        asked = Policy(
            lease_seconds,
            max_attempts,
            backoff,
            max_jobs,
            paused,
            concurrency,
            rate,
            per_key,
            fair,
            weights,
            dead_letter,
            keep_succeeded,
            keep_failed,
            delay,
            expires_in,
            tags,
            attributes,
        )
        return self._run(once("PUT", place("queues", name), reading.queue, encoded(asked)))

    def change_queue(
        self,
        name: str,
        *,
        lease_seconds: float | UnsetType = UNSET,
        max_attempts: int | UnsetType | None = UNSET,
        backoff: Backoff | UnsetType = UNSET,
        max_jobs: int | UnsetType | None = UNSET,
        paused: bool | UnsetType = UNSET,
        concurrency: int | UnsetType | None = UNSET,
        rate: Rate | UnsetType | None = UNSET,
        per_key: PerKey | UnsetType | None = UNSET,
        fair: bool | UnsetType = UNSET,
        weights: Mapping[str, float] | UnsetType = UNSET,
        dead_letter: str | UnsetType | None = UNSET,
        keep_succeeded: Keep | UnsetType | None = UNSET,
        keep_failed: Keep | UnsetType | None = UNSET,
        delay: float | UnsetType | None = UNSET,
        expires_in: float | UnsetType | None = UNSET,
        tags: Mapping[str, str] | UnsetType = UNSET,
        attributes: Mapping[str, str] | UnsetType = UNSET,
    ) -> Queue:
        """Change fields of a queue's policy: parameters that you leave out stay as they are, and None removes a limit.

        The parameters are those of put_queue.

        Returns Queue. Raises UnknownQueue.
        """
        asked = PolicyChange(
            lease_seconds,
            max_attempts,
            backoff,
            max_jobs,
            paused,
            concurrency,
            rate,
            per_key,
            fair,
            weights,
            dead_letter,
            keep_succeeded,
            keep_failed,
            delay,
            expires_in,
            tags,
            attributes,
        )
        return self._run(once("PATCH", place("queues", name), reading.queue, encoded(asked)))

    def delete_queue(self, name: str, *, force: bool = False) -> int:
        """Delete a queue that has no live jobs, with its policy and totals.

        force: True deletes it with its live jobs, which are cancelled as by purge with `all`. Dequeues that wait only for it end without
        a job.

        Returns how many jobs were cancelled, an int. Raises UnknownQueue (also when the first answer was lost and the queue was deleted by
        then), QueueNotEmpty.
        """
        path = query(place("queues", name), force="true" if force else None)
        return self._run(once("DELETE", path, reading.deleted, idempotent=not force))

    def pause(self, name: str) -> Queue:
        """Stop handing out jobs of this queue. New jobs are still accepted; workers wait.

        Returns Queue. Raises UnknownQueue.
        """
        return self._run(once("POST", place("queues", name, "/pause"), reading.queue))

    def resume(self, name: str) -> Queue:
        """Hand out jobs of this queue again.

        Returns Queue. Raises UnknownQueue.
        """
        return self._run(once("POST", place("queues", name, "/resume"), reading.queue))

    def keys(self, name: str, *, limit: int | None = None) -> list[Key]:
        """The keys that a queue counts: first those that hold back the most jobs, then those with the most queued jobs.

        limit: int, at most this many; without it, all.

        Returns a list of Key, empty if the queue's policy does not use keys. Raises UnknownQueue.
        """
        found: list[Key] = []
        cursor: str | None = None
        while True:
            left = None if limit is None else min(limit - len(found), KEYS_PAGE)
            page, cursor = self._run(once("GET", query(place("queues", name, "/keys"), limit=left, cursor=cursor), reading.keys))
            found += page
            if cursor is None or (limit is not None and len(found) >= limit):
                return found

    def pause_key(self, name: str, key: str) -> Key:
        """Stop handing out jobs of this key of a queue. name: the queue's; key: str; it need not have jobs yet. Returns Key. Raises
        UnknownQueue, QueueFull (the limit of paused keys is reached).
        """
        return self._run(once("POST", key_place(name, key, "/pause"), reading.key))

    def resume_key(self, name: str, key: str) -> Key:
        """Hand out jobs of this key again, also if a failed job halts it; that job stays failed. name: the queue's; key: str.

        Returns Key. Raises UnknownQueue.
        """
        return self._run(once("POST", key_place(name, key, "/resume"), reading.key))

    def purge(self, name: str, *, all: bool = False) -> int:
        """Cancel every job of this queue that is queued or scheduled. Jobs in progress continue. all: True cancels jobs in progress too,
        lets keys continue that failed jobs halt, and frees unique keys that are held for a time.

        Returns how many, an int. Raises UnknownQueue.
        """
        path = query(place("queues", name, "/purge"), all="true" if all else None)
        return self._run(once("POST", path, reading.purged, idempotent=False))

    def retry_failed(self, name: str) -> int:
        """Retry every failed job of this queue that is still in history, oldest first, until there is no more room.

        Returns how many, an int. Raises UnknownQueue.
        """
        return self._run(once("POST", place("queues", name, "/retry"), reading.retried, idempotent=False))
