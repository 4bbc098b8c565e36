"""Takes jobs from a server over HTTP, or from several servers on one queue: a lease is valid at each of them."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import Raw

from jobqueue.backend.base import Extend
from jobqueue.client import calls, reading, short, types
from jobqueue.client.async_client import AsyncClient
from jobqueue.client.log_types import LogLine
from jobqueue.client.problems import UnexpectedAnswer
from jobqueue.client.retrying import Retrying
from jobqueue.client.sending import Items, encoded, once
from jobqueue.client.worker_types import About, Quiet
from jobqueue.errors import QueueError
from jobqueue.joblog import LogPart
from jobqueue.model import SUCCEEDED, Parent, Want
from jobqueue.worker.endings import DONE
from jobqueue.worker.running import Leased
from jobqueue.worker.sources import Concluded, Released

PREFETCH = 256
"""Enough for no-op handlers at full speed, and few enough that losing a worker delays few jobs."""

RELEASES_ABREAST = 16
"""To a server without the batch operation for releases, this many are sent at the same time."""

_UNKNOWN = (404, 405)
"""Answers of a server that does not have the batch operation. An error about an item would be inside that item."""


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
        self._releases_together = True
        """Whether the server may have the batch operation for releases."""
        self.quiet = False

    async def take(self, want: Want, wait: float) -> list[Leased]:
        """See Source.take. If an answer is lost, the next call gets its jobs; if a call is cancelled, the client releases its jobs."""
        attempt_id = self._attempt_id = self._attempt_id or os.urandom(16).hex()
        # As `dequeue_batch` does, but the answer is read into fewer objects.
        call = calls.dequeue_batch(want.queues, want.limit, wait, want.lease_seconds, want.worker, attempt_id, _about(want))
        jobs = await self._client._taken(msgspec.structs.replace(call, decode=_taken))
        self._attempt_id = None
        self.quiet = isinstance(jobs, Quiet)
        return [_leased(job) for job in jobs]

    async def conclude(self, items: Sequence[Concluded]) -> list[QueueError | None]:
        """See Source.conclude."""
        # As `conclude_batch` does, but without an object for each job that was concluded as requested.
        body = encoded(Items([_conclude(item) for item in items]))
        return await self._client._run(once("POST", "/batch/conclude", short.concluded_errors(len(items)), body))

    async def extend(self, items: Sequence[Extend]) -> list[bool | QueueError]:
        """See Source.extend."""
        replies = await self._client.extend_batch(
            [types.Extend(item.id, item.token, item.lease_seconds, item.progress, item.message, *_log(item.log)) for item in items]
        )
        return [reply if isinstance(reply, QueueError) else reply.cancel_requested for reply in replies]

    async def release(self, items: Sequence[Released]) -> list[QueueError | None]:
        """See Source.release."""
        if self._releases_together:
            try:
                replies = await self._client.release_batch([types.GiveBack(item.id, item.token, item.delay) for item in items])
            except UnexpectedAnswer as error:
                if error.status not in _UNKNOWN:
                    raise
                self._releases_together = False
            else:
                return [reply if isinstance(reply, QueueError) else None for reply in replies]
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


class _Success(msgspec.Struct, frozen=True, gc=False):
    """A success without a result, which most outcomes are, in the form that the server takes."""

    id: str
    lease: str
    outcome: str = "succeeded"


def _conclude(item: Concluded) -> types.Conclude | _Success:
    verdict = item.verdict
    if verdict is DONE.verdict or verdict == DONE.verdict:
        return _Success(item.id, item.token)
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


class _Lease(msgspec.Struct, frozen=True, gc=False):
    token: str


class _Plain(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A job that has only the fields that the answer about each job has: see types.LeasedJob. Most jobs are so."""

    id: str
    number: int
    queue: str
    type: str | None
    description: str | None
    priority: int
    attempts: int
    created_at: datetime
    lease: _Lease
    error: Raw
    payload: Raw
    max_attempts: int | None


class _AllPlain(msgspec.Struct):
    jobs: list[_Plain]


_decode_all_plain = msgspec.json.Decoder(_AllPlain).decode


def _taken(body: bytes) -> list[_Plain] | list[types.LeasedJob]:
    """The jobs in the answer to a dequeue. If one of them is not plain, all are read in the general way."""
    try:
        return _decode_all_plain(body).jobs
    except msgspec.ValidationError:
        return reading.leased_batch(body)


_NULL = b"null"


def _leased(job: _Plain | types.LeasedJob) -> Leased:
    # Copied, since a Raw keeps the whole answer in memory.
    if type(job) is _Plain:
        error = bytes(job.error)
        return Leased(
            id=job.id,
            token=job.lease.token,
            queue=job.queue,
            payload=bytes(job.payload),
            attempts=job.attempts,
            created_at=job.created_at,
            type=job.type,
            description=job.description,
            priority=job.priority,
            error=None if error == _NULL else error,
            max_attempts=job.max_attempts,
        )
    assert isinstance(job, types.LeasedJob)
    error = bytes(job.raw_error)
    return Leased(
        id=job.id,
        token=job.lease.token,
        queue=job.queue,
        payload=bytes(job.raw_payload),
        attempts=job.attempts,
        created_at=job.created_at,
        type=job.type,
        description=job.description,
        priority=job.priority,
        error=None if error == _NULL else error,
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
    return None if result == _NULL else result
