"""Every operation as a Call: what to send, how to read the answer, whether it may be sent again. No input or output here.

Both clients ask the same functions for the same calls, so they cannot differ in what they say. What the parameters mean is told at
`Operations`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from jobqueue.client import reading
from jobqueue.client.sending import (
    Call,
    ConcludeOne,
    Decode,
    Dequeue,
    ExtendOne,
    Items,
    Policy,
    Release,
    Request,
    check_wait,
    encoded,
    once,
    query,
    segment,
)
from jobqueue.client.types import (
    Conclude,
    Concluded,
    Enqueued,
    Extend,
    Extended,
    Job,
    JobInfo,
    LeasedJob,
    NewJob,
    Page,
    Queue,
    Token,
    WorkOutcome,
)
from jobqueue.errors import QueueError
from jobqueue.ids import Ids
from jobqueue.model import CONCLUDED, Backoff, Outcome, Status

T = TypeVar("T")


# Jobs.


def _ours(enqueued: Enqueued) -> Enqueued:
    """Nobody else knew the id we made: if the job was there, an earlier try of ours brought it in."""
    return enqueued if enqueued.created else msgspec.structs.replace(enqueued, created=True)


def _new_ids() -> Callable[[], str]:
    """Makes ids, in order. New for every call: shared, it would need a lock, and a forked process would make the same ids again."""
    ids, now = Ids(), time.time()
    return lambda: ids.job_id(now)


def _new_id() -> str:
    """An id like those of `Ids`, for a job of its own: a UUIDv7. Drawing random bytes for two hundred takes longer than all else here."""
    digits, drawn = f"{time.time_ns() // 1_000_000:012x}", os.urandom(10).hex()
    return f"{digits[:8]}-{digits[8:]}-7{drawn[:3]}-{'89ab'[int(drawn[3], 16) & 3]}{drawn[4:7]}-{drawn[7:19]}"


def enqueue(job: NewJob) -> Call[Enqueued]:
    """POST /jobs/enqueue."""
    if job.id is not None:
        return once("POST", "/jobs/enqueue", reading.enqueued, encoded(job), ids=(job.id,))
    job_id = _new_id()
    job = msgspec.structs.replace(job, id=job_id)
    return once("POST", "/jobs/enqueue", lambda body: _ours(reading.enqueued(body)), encoded(job), ids=(job_id,))


def enqueue_batch(jobs: Iterable[NewJob]) -> Call[list[Enqueued | QueueError]]:
    """POST /batch/enqueue."""
    given = list(jobs)
    new_id = _new_ids()
    named = [msgspec.structs.replace(job, id=new_id()) if job.id is None else job for job in given]

    def decode(body: bytes) -> list[Enqueued | QueueError]:
        results = reading.enqueued_batch(body)
        return [
            _ours(result) if job.id is None and isinstance(result, Enqueued) else result for job, result in zip(given, results, strict=True)
        ]

    return once("POST", "/batch/enqueue", decode, encoded(Items(named)), ids=tuple(job.id for job in named if job.id is not None))


def _dequeue(path: str, decode: Decode[T], asked: Dequeue) -> Call[T]:

    def make(wait: float) -> Request:
        return Request("POST", path, encoded(msgspec.structs.replace(asked, wait=wait)), wait)

    return Call(make, decode, wait=check_wait(asked.wait))


def dequeue(
    queue: str | Sequence[str], wait: float, lease_seconds: float | None, worker: str | None, attempt_id: str | None
) -> Call[LeasedJob | None]:
    """POST /jobs/dequeue."""
    asked = Dequeue(queue, wait, attempt_id or os.urandom(16).hex(), lease_seconds, worker)
    return _dequeue("/jobs/dequeue", reading.leased, asked)


def dequeue_batch(
    queue: str | Sequence[str], limit: int, wait: float, lease_seconds: float | None, worker: str | None, attempt_id: str | None
) -> Call[list[LeasedJob]]:
    """POST /batch/dequeue."""
    asked = Dequeue(queue, wait, attempt_id or os.urandom(16).hex(), lease_seconds, worker, limit)
    return _dequeue("/batch/dequeue", reading.leased_batch, asked)


def conclude(
    job_id: str, lease: str, outcome: WorkOutcome, result: object, error: object, retry: bool, retry_delay: float | None
) -> Call[Concluded]:
    """POST /jobs/{id}/conclude."""
    body = encoded(ConcludeOne(lease, outcome, result, error, retry, retry_delay))
    return once("POST", f"/jobs/{segment('id', job_id)}/conclude", reading.concluded, body)


def conclude_batch(items: Iterable[Conclude]) -> Call[list[Concluded | QueueError]]:
    """POST /batch/conclude."""
    return once("POST", "/batch/conclude", reading.concluded_batch, encoded(Items(list(items))))


def extend(job_id: str, lease: str, lease_seconds: float | None, progress: float | None, message: str | None) -> Call[Extended]:
    """POST /jobs/{id}/extend."""
    asked = ExtendOne(lease, lease_seconds, progress, message)
    return once("POST", f"/jobs/{segment('id', job_id)}/extend", reading.extended, encoded(asked))


def extend_batch(items: Iterable[Extend]) -> Call[list[Extended | QueueError]]:
    """POST /batch/extend."""
    return once("POST", "/batch/extend", reading.extended_batch, encoded(Items(list(items))))


def release(job_id: str, lease: str, delay: float) -> Call[JobInfo]:
    """POST /jobs/{id}/release."""
    asked = Release(lease, delay)
    return once("POST", f"/jobs/{segment('id', job_id)}/release", reading.job_info, encoded(asked))


def cancel(job_id: str) -> Call[JobInfo]:
    """POST /jobs/{id}/cancel."""
    return once("POST", f"/jobs/{segment('id', job_id)}/cancel", reading.job_info, idempotent=False)


def retry(job_id: str) -> Call[JobInfo]:
    """POST /jobs/{id}/retry."""
    return once("POST", f"/jobs/{segment('id', job_id)}/retry", reading.job_info, idempotent=False)


def is_concluded(job: Job) -> bool:
    """Whether nothing more will happen to it by itself."""
    return job.status is CONCLUDED


def job(job_id: str, wait: float) -> Call[Job]:
    """GET /jobs/{id}."""
    path = f"/jobs/{segment('id', job_id)}"

    def make(wait: float) -> Request:
        return Request("GET", query(path, wait=wait or None), None, wait)

    return Call(make, reading.job, wait=check_wait(wait), done=is_concluded)


def jobs(
    status: Status | str | None,
    outcome: Outcome | str | None,
    queue: str | None,
    type: str | None,
    limit: int | None,
    cursor: int | None,
) -> Call[Page]:
    """GET /jobs."""
    return once("GET", query("/jobs", status=status, outcome=outcome, queue=queue, type=type, limit=limit, cursor=cursor), reading.page)


# Queues.


def queues() -> Call[list[Queue]]:
    """GET /queues."""
    return once("GET", "/queues", reading.queues)


def queue(name: str) -> Call[Queue]:
    """GET /queues/{name}."""
    return once("GET", f"/queues/{segment('queue', name)}", reading.queue)


def put_queue(
    name: str, lease_seconds: float | None, max_attempts: int | None, backoff: Backoff | None, max_jobs: int | None, paused: bool
) -> Call[Queue]:
    """PUT /queues/{name}."""
    asked = Policy(lease_seconds, max_attempts, backoff, max_jobs, paused)
    return once("PUT", f"/queues/{segment('queue', name)}", reading.queue, encoded(asked))


def delete_queue(name: str) -> Call[None]:
    """DELETE /queues/{name}."""
    return once("DELETE", f"/queues/{segment('queue', name)}", reading.nothing)


def pause(name: str) -> Call[Queue]:
    """POST /queues/{name}/pause."""
    return once("POST", f"/queues/{segment('queue', name)}/pause", reading.queue)


def resume(name: str) -> Call[Queue]:
    """POST /queues/{name}/resume."""
    return once("POST", f"/queues/{segment('queue', name)}/resume", reading.queue)


def purge(name: str) -> Call[int]:
    """POST /queues/{name}/purge."""
    return once("POST", f"/queues/{segment('queue', name)}/purge", reading.purged, idempotent=False)


def retry_failed(name: str) -> Call[int]:
    """POST /queues/{name}/retry."""
    return once("POST", f"/queues/{segment('queue', name)}/retry", reading.retried, idempotent=False)


# The server.


def token() -> Call[Token]:
    """GET /token."""
    return once("GET", "/token", reading.token)


def metrics() -> Call[str]:
    """GET /metrics."""
    return once("GET", "/metrics", reading.text)


def openapi() -> Call[dict[str, Any]]:
    """GET /openapi.json."""
    return once("GET", "/openapi.json", reading.document)


def healthy() -> Call[bool]:
    """GET /healthz. Not repeated: who asks wants to know how things are now."""
    return once("GET", "/healthz", reading.yes, idempotent=False)


def ready() -> Call[bool]:
    """GET /readyz. Not repeated: see `healthy`."""
    return once("GET", "/readyz", reading.yes, idempotent=False)
