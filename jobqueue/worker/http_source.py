"""Takes jobs from a server over HTTP, or from several servers on one queue: a lease is valid at each of them."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Raw

from jobqueue.backend.base import Extend
from jobqueue.client import types
from jobqueue.client.async_client import AsyncClient
from jobqueue.client.log_types import LogLine
from jobqueue.client.retrying import Retrying
from jobqueue.client.worker_types import About, Quiet
from jobqueue.errors import QueueError
from jobqueue.joblog import LogPart
from jobqueue.model import SUCCEEDED, Parent, Want
from jobqueue.worker.running import Leased
from jobqueue.worker.sources import Concluded, Released

PREFETCH = 256
"""Enough for no-op handlers at full speed, and few enough that losing a worker delays few jobs."""

RELEASES_ABREAST = 16
"""There is no batch operation for releases; this many are sent at the same time."""


def source_client(url: str | Sequence[str], token: str | None, ssl_context: ssl.SSLContext | None = None) -> AsyncClient:
    """A client that asks each of its servers once and does not retry: the worker does that, since it knows when its leases end."""
    return AsyncClient(url, token, retrying=Retrying(tries=1), ssl_context=ssl_context)


class HttpSource:
    """A server as a Source. Closing the source closes the client."""

    prefetch = PREFETCH

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._attempt_id: str | None = None
        """The attempt_id of the last request for jobs, as long as its answer is not known."""
        self.quiet = False

    async def take(self, want: Want, wait: float) -> list[Leased]:
        """See Source.take. If an answer is lost, the next call gets its jobs; if a call is cancelled, the client releases its jobs."""
        attempt_id = self._attempt_id = self._attempt_id or os.urandom(16).hex()
        jobs = await self._client.dequeue_batch(
            want.queues,
            limit=want.limit,
            wait=wait,
            lease_seconds=want.lease_seconds,
            worker=want.worker,
            attempt_id=attempt_id,
            about=_about(want),
        )
        self._attempt_id = None
        self.quiet = isinstance(jobs, Quiet)
        return [_leased(job) for job in jobs]

    async def conclude(self, items: Sequence[Concluded]) -> list[QueueError | None]:
        """See Source.conclude."""
        return _errors(await self._client.conclude_batch([_conclude(item) for item in items]))

    async def extend(self, items: Sequence[Extend]) -> list[bool | QueueError]:
        """See Source.extend."""
        replies = await self._client.extend_batch(
            [types.Extend(item.id, item.token, item.lease_seconds, item.progress, item.message, *_log(item.log)) for item in items]
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
        *_log(verdict.log),
        verdict.late,
        verdict.traceback,
    )


def _about(want: Want) -> About | None:
    about = want.about
    if about is None:
        return None
    started = None if about.started is None else datetime.fromtimestamp(about.started, UTC)
    return About(host=about.host, concurrency=about.concurrency, version=about.version, started=started)


def _log(part: LogPart | None) -> tuple[tuple[LogLine, ...], int | None]:
    """Lines for a log, in the form that a client takes, and their offset."""
    if part is None:
        return (), None
    return tuple(
        LogLine(line.text, line.level, None if line.at is None else datetime.fromtimestamp(line.at, UTC)) for line in part.lines
    ), part.offset


def _errors(replies: Sequence[object]) -> list[QueueError | None]:
    return [reply if isinstance(reply, QueueError) else None for reply in replies]


def _leased(job: types.LeasedJob) -> Leased:
    error = bytes(job.raw_error)
    return Leased(
        id=job.id,
        token=job.lease.token,
        queue=job.queue,
        # Copied, since a Raw keeps the whole answer in memory.
        payload=bytes(job.raw_payload),
        attempts=job.attempts,
        created_at=job.created_at,
        type=job.type,
        description=job.description,
        priority=job.priority,
        error=None if error == b"null" else error,
        traceparent=job.traceparent,
        key=job.key,
        tags=job.tags,
        headers=job.headers,
        max_attempts=job.max_attempts,
        limited=job.limited,
        group=job.group,
        schedule=None if job.schedule is None else job.schedule.name,
        parents=tuple(Parent(each.id, each.outcome, _result(each), each.left_out) for each in job.parents),
    )


def _result(parent: types.ParentInfo) -> bytes | None:
    result = bytes(parent.raw_result)
    return None if result == b"null" else result
