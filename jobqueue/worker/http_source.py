"""Takes jobs from a server over HTTP, or from several on one queue: a lease is good at each of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from msgspec import Raw

from jobqueue.backend.base import Extend
from jobqueue.client import types
from jobqueue.client.async_client import AsyncClient
from jobqueue.client.retrying import Retrying
from jobqueue.errors import QueueError
from jobqueue.model import SUCCEEDED, Want
from jobqueue.worker.running import Leased
from jobqueue.worker.sources import Concluded, Released

PREFETCH = 256
"""Enough for no-op handlers at full speed, and few enough that losing a worker delays few jobs."""

RELEASES_ABREAST = 16
"""There is no batch of releases: so many are sent at once."""


def source_client(url: str | Sequence[str], token: str | None) -> AsyncClient:
    """A client that goes over its servers once and does not try again by itself: the worker does, and knows when its leases end."""
    return AsyncClient(url, token, retrying=Retrying(tries=1))


class HttpSource:
    """A server as a Source. The client is closed with it."""

    prefetch = PREFETCH

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._attempt_id: str | None = None
        """Of the last request for jobs, while it is not known what it was answered."""

    async def take(self, want: Want, wait: float) -> list[Leased]:
        """See Source.take. What a lost answer held is had again by the next call; of one that is cancelled the client gives it back."""
        attempt_id = self._attempt_id = self._attempt_id or os.urandom(16).hex()
        jobs = await self._client.dequeue_batch(
            want.queues, limit=want.limit, wait=wait, lease_seconds=want.lease_seconds, worker=want.worker, attempt_id=attempt_id
        )
        self._attempt_id = None
        return [_leased(job) for job in jobs]

    async def conclude(self, items: Sequence[Concluded]) -> list[QueueError | None]:
        """See Source.conclude."""
        return _errors(await self._client.conclude_batch([_conclude(item) for item in items]))

    async def extend(self, items: Sequence[Extend]) -> list[bool | QueueError]:
        """See Source.extend."""
        replies = await self._client.extend_batch(
            [types.Extend(item.id, item.token, item.lease_seconds, item.progress, item.message) for item in items]
        )
        return [reply if isinstance(reply, QueueError) else reply.cancel_requested for reply in replies]

    async def release(self, items: Sequence[Released]) -> list[QueueError | None]:
        """See Source.release."""
        abreast = asyncio.Semaphore(RELEASES_ABREAST)

        async def one(item: Released) -> QueueError | None:
            async with abreast:
                try:
                    await self._client.release(item.id, item.token, delay=item.delay)
                except QueueError as error:
                    return error
                return None

        return await asyncio.gather(*(one(item) for item in items))

    async def close(self) -> None:
        """See Source.close."""
        await self._client.close()


def _conclude(item: Concluded) -> types.Conclude:
    verdict = item.verdict
    return types.Conclude(
        item.id,
        item.token,
        "succeeded" if verdict.outcome is SUCCEEDED else "failed",
        None if verdict.result is None else Raw(verdict.result),
        None if verdict.error is None else Raw(verdict.error),
        verdict.retry,
        verdict.retry_delay,
    )


def _errors(replies: Sequence[object]) -> list[QueueError | None]:
    return [reply if isinstance(reply, QueueError) else None for reply in replies]


def _leased(job: types.LeasedJob) -> Leased:
    error = bytes(job.raw_error)
    return Leased(
        id=job.id,
        token=job.lease.token,
        queue=job.queue,
        # Copied: a Raw keeps the whole answer it came in alive.
        payload=bytes(job.raw_payload),
        attempts=job.attempts,
        created_at=job.created_at,
        type=job.type,
        description=job.description,
        priority=job.priority,
        error=None if error == b"null" else error,
        traceparent=job.traceparent,
        key=job.key,
        limited=job.limited,
    )
