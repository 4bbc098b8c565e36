"""Where a worker's jobs come from: the `Source` protocol, and the source that takes them from a backend in the same process."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from jobqueue.backend.base import Backend, Conclude, Extend
from jobqueue.client.header_types import shown
from jobqueue.errors import QueueError
from jobqueue.model import Job, Verdict, Want
from jobqueue.worker.running import Leased


class Concluded(msgspec.Struct, frozen=True, gc=False):
    """An attempt that ended."""

    id: str
    token: str
    verdict: Verdict


class Released(msgspec.Struct, frozen=True, gc=False):
    """A job to be released, after `delay` seconds."""

    id: str
    token: str
    delay: float = 0.0


class Source(Protocol):
    """A queue as a worker uses it. Every method raises only QueueErrors, whatever fails underneath.

    Results are in the order of the items, and one item that fails does not affect the others.
    """

    prefetch: int
    """How many jobs are worth taking beyond those that can run at once; 0 if a call costs nothing."""

    quiet: bool
    """Whether the last take returned no jobs because the worker is quiet."""

    async def take(self, want: Want, wait: float) -> list[Leased]:
        """Take up to `want.limit` jobs, waiting up to `wait` seconds for the first. A cancelled call takes none."""

    async def conclude(self, items: Sequence[Concluded]) -> list[QueueError | None]:
        """End attempts."""

    async def extend(self, items: Sequence[Extend]) -> list[bool | QueueError]:
        """Extend leases; returns for each whether a cancel was requested."""

    async def release(self, items: Sequence[Released]) -> list[QueueError | None]:
        """Release jobs; their attempts do not count."""

    async def close(self) -> None:
        """Close connections. No method is called afterwards."""


def _leased(job: Job) -> Leased:
    assert job.lease is not None
    return Leased(
        id=job.id,
        token=job.lease.token,
        queue=job.queue,
        payload=job.payload,
        attempts=job.attempts,
        created_at=datetime.fromtimestamp(job.created_at, UTC),
        type=job.type,
        description=job.description,
        priority=job.priority,
        error=job.error,
        traceparent=job.traceparent,
        key=job.key,
        tags=job.tags,
        headers=shown(job.headers),
        max_attempts=job.lease.attempts_max,
        limited=job.lease.limited,
        group=job.details.extra.group,
        parents=job.details.extra.parents,
        schedule=job.schedule,
    )


class BackendSource:
    """Takes jobs from a backend of this process. The owner of the backend closes it."""

    prefetch = 0

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.quiet = False

    async def take(self, want: Want, wait: float) -> list[Leased]:
        """See Source.take."""
        taking = self._backend.dequeue(want, wait)
        async with taking as jobs:
            # Nothing suspends between here and the worker's receiving the jobs, so they cannot be lost in between.
            taking.delivered()
        self.quiet = taking.quiet
        return [_leased(job) for job in jobs]

    async def conclude(self, items: Sequence[Concluded]) -> list[QueueError | None]:
        """See Source.conclude."""
        replies = await self._backend.conclude_batch([Conclude(item.id, item.token, item.verdict) for item in items])
        return [reply if isinstance(reply, QueueError) else None for reply in replies]

    async def extend(self, items: Sequence[Extend]) -> list[bool | QueueError]:
        """See Source.extend."""
        return [reply if isinstance(reply, QueueError) else _cancel_requested(reply) for reply in await self._backend.extend_batch(items)]

    async def release(self, items: Sequence[Released]) -> list[QueueError | None]:
        """See Source.release."""
        replies: list[QueueError | None] = []
        for item in items:
            try:
                await self._backend.release(item.id, item.token, item.delay)
            except QueueError as error:
                replies.append(error)
            else:
                replies.append(None)
        return replies

    async def close(self) -> None:
        """See Source.close."""


def _cancel_requested(job: Job) -> bool:
    return job.lease is not None and job.lease.cancel_requested
