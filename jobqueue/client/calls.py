"""Operations of which a call is more than a request: ids are made for them, they wait, or one is a step of another.

No input or output here. What the parameters mean is told at `AsyncClient`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from jobqueue.client import reading
from jobqueue.client.sending import (
    Call,
    Decode,
    Dequeue,
    Items,
    Release,
    Request,
    check_wait,
    encoded,
    once,
    place,
    query,
)
from jobqueue.client.types import (
    Enqueued,
    Job,
    JobInfo,
    LeasedJob,
    NewJob,
)
from jobqueue.errors import QueueError
from jobqueue.ids import Ids
from jobqueue.model import CONCLUDED

T = TypeVar("T")


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


def release(job_id: str, lease: str, delay: float) -> Call[JobInfo]:
    """POST /jobs/{id}/release."""
    asked = Release(lease, delay)
    return once("POST", place("jobs", job_id, "/release"), reading.job_info, encoded(asked))


def is_concluded(job: Job) -> bool:
    """Whether nothing more will happen to it by itself."""
    return job.status is CONCLUDED


def job(job_id: str, wait: float) -> Call[Job]:
    """GET /jobs/{id}."""
    path = place("jobs", job_id)

    def make(wait: float) -> Request:
        return Request("GET", query(path, wait=wait or None), None, wait)

    return Call(make, reading.job, wait=check_wait(wait), done=is_concluded)
