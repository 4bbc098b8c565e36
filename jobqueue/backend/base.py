"""The Backend contract: a whole queue, as the edges see it. Whatever passes `tests/conformance/` is one.

For every method: what comes back is a snapshot that nobody changes afterwards; times in it are UTC, seconds since the epoch;
an operation that raises has changed nothing; once it returns, the change is as durable as the backend promises.
Any method may raise StorageUnavailable; those that change something raise Draining once `drain` was called, except the
three a worker needs to hand in its work (extend, release, conclude).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from jobqueue.errors import QueueError
from jobqueue.model import Job, JobFilter, JobSpec, Outcome, QueuePolicy, QueueStats, Verdict, Want


class Enqueued(msgspec.Struct, frozen=True, gc=False):
    """A job as it stood right after the enqueue, before any worker was handed it; created is False for a repeat."""

    job: Job
    created: bool


class Conclude(msgspec.Struct, frozen=True, gc=False):
    """One item of a batch of concludes."""

    id: str
    token: str
    verdict: Verdict


class Extend(msgspec.Struct, frozen=True, gc=False):
    """One item of a batch of extends; None keeps what is."""

    id: str
    token: str
    lease_seconds: float | None = None
    progress: float | None = None
    message: str | None = None


class BackendStats(msgspec.Struct, frozen=True):
    """Totals over all queues, against their bounds where they have one.

    history: jobs and bytes by outcome; closed_unread: jobs put back because the answer could not be delivered.
    """

    jobs_live: int
    payload_bytes: int
    queues: int
    waiters: int
    leases: int
    history: dict[Outcome, tuple[int, int]]
    undelivered_total: int
    draining: bool


class Taking(Protocol):
    """One dequeue, from taking a place in line to the last byte of the answer. An async context manager.

    Entering waits and returns the jobs, each with its lease; [] when the wait passed or the server drains. Whatever happens before
    `delivered()` is called (an exception, a cancellation), leaving puts the jobs back in their old places, their attempts not counted,
    and the next waiter is handed them at once. Cancelling while it waits takes it out of line.
    """

    async def __aenter__(self) -> list[Job]: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    def delivered(self) -> None:
        """The answer is out: the jobs are the worker's until their leases end."""


class Backend(Protocol):
    """A whole queue."""

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        """Submit a job. The oldest waiter of its queue, if one stands, is handed it before this returns.

        Raises BadRequest, TooLarge, IdConflict, QueueFull, TooManyQueues.
        """

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        """Submit many; each item's result or error in its place, harming no other. An error among `specs` is passed through."""

    def dequeue(self, want: Want, wait: float) -> Taking:
        """Take up to `want.limit` jobs, waiting up to `wait` seconds for the first.

        Waiters are served in the order in which they came; one that comes while an older one stands for the same queue never passes it.
        With an attempt_id whose leases live, the same worker is answered those of the same jobs and leases again that are in `want.queues`.
        Its older waiter with that attempt_id, if one still stands, is answered [] in favour of the newer. Raises, on entering, BadRequest
        and TooManyWaiters.
        """

    async def conclude(self, job_id: str, token: str, verdict: Verdict) -> Job:
        """End an attempt. Raises BadRequest, TooLarge, UnknownJob, LeaseLost, NotInProgress."""

    async def conclude_batch(self, items: Sequence[Conclude | QueueError]) -> list[Job | QueueError]:
        """End many attempts; see enqueue_batch."""

    async def extend(self, item: Extend) -> Job:
        """Push a lease's expiry out. Raises BadRequest, UnknownJob, LeaseLost, NotInProgress."""

    async def extend_batch(self, items: Sequence[Extend | QueueError]) -> list[Job | QueueError]:
        """Extend many leases; see enqueue_batch."""

    async def release(self, job_id: str, token: str, delay: float) -> Job:
        """Give a job back without spending an attempt. Raises BadRequest, UnknownJob, LeaseLost, NotInProgress."""

    async def cancel(self, job_id: str) -> Job:
        """Stop a job. Raises UnknownJob, NotInProgress."""

    async def retry(self, job_id: str) -> Job:
        """Queue a concluded job that did not succeed again. Raises UnknownJob, NotRetryable, QueueFull, TooManyQueues."""

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        """A job, live or in history; with `wait`, as soon as it is concluded or when the wait passed.

        Raises UnknownJob, TooManyWaiters.
        """

    async def numbered(self, number: int) -> Job:
        """The job of a number, live or in history. Numbers are given from 1 on and never again. Raises UnknownJob."""

    async def jobs(self, wanted: JobFilter) -> tuple[list[Job], int | None]:
        """A page of jobs, newest first, and the cursor of the next. A page may be short and have a next one."""

    async def queues(self) -> list[QueueStats]:
        """Every queue, by name."""

    async def queue(self, name: str) -> QueueStats:
        """One queue. Raises UnknownQueue."""

    async def put_policy(self, name: str, policy: QueuePolicy) -> QueueStats:
        """Make a queue or set its policy. Raises BadRequest, TooManyQueues."""

    async def delete_queue(self, name: str) -> None:
        """Delete a queue that has no live jobs. Raises UnknownQueue, QueueNotEmpty."""

    async def set_paused(self, name: str, paused: bool) -> QueueStats:
        """Pause or resume a queue. Raises UnknownQueue."""

    async def purge(self, name: str) -> int:
        """Cancel every job that was queued or scheduled when this was called; how many. Raises UnknownQueue."""

    async def redrive(self, name: str) -> int:
        """Retry every failed job of a queue, oldest first, while there is room; how many. Raises UnknownQueue."""

    def stats(self) -> BackendStats:
        """Totals, at once."""

    def drain(self) -> None:
        """Take no new work and answer every waiter now. Calling it again changes nothing."""

    async def close(self) -> None:
        """Drain, then let go of timers and storage."""
