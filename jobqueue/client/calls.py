"""Operations whose call is more than one request: ids are made for them, they wait, or one is a step of another.

No input or output here. The parameters are described at `AsyncClient`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TypeVar

import msgspec

from jobqueue.client import reading, short
from jobqueue.client.log_types import LogPage
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
    shared,
)
from jobqueue.client.types import (
    Enqueued,
    Job,
    JobInfo,
    LeasedJob,
    NewJob,
)
from jobqueue.client.worker_types import QUIET, About
from jobqueue.errors import QueueError
from jobqueue.ids import Ids
from jobqueue.model import CONCLUDED
from jobqueue.partition import slot_of

T = TypeVar("T")


def _ours(enqueued: Enqueued, job_id: str | None) -> Enqueued:
    """Nobody else knew the id that we made: if the job existed already, an earlier try of this call made it. If the answer has another id,
    that job holds the unique key.
    """
    return enqueued if enqueued.created or enqueued.id != job_id else msgspec.structs.replace(enqueued, created=True)


@lru_cache(1024)
def _slot_of(queue: str) -> str:
    return f"{0x8000 | slot_of(queue):04x}"


def _slot(queue: str) -> str:
    """The slot of a queue as an id has it, behind the variant. With it, the id's home is the queue's partition, so that servers with
    several partitions need not agree on who has the id (jobqueue/partition.py). The server refuses what is no text.
    """
    return _slot_of(queue) if isinstance(queue, str) else "8000"


def _new_ids() -> Callable[[str], str]:
    """Makes ids in ascending order, for jobs of the queues that are given. A new one for every call: if shared, it would need a lock, and a
    forked process would make the same ids again.
    """
    ids, now = Ids(), time.time()

    def new_id(queue: str) -> str:
        made = ids.job_id(now)
        return f"{made[:19]}{_slot(queue)}{made[23:]}"

    return new_id


_DRAWN_AT_ONCE = 16
"""How many ids to draw random bytes for at once; few enough that a client that makes one call does not wait for them."""

_drawn: list[tuple[str, str]] = []
"""The random digits of ids, three and twelve for each. Taken with `pop`, so that two threads get different ones; emptied in a forked
process, which would otherwise make the same ids.
"""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drawn.clear)

_begun = [(0, "")]
"""The last millisecond for which an id was made, and how its ids begin; one tuple, so that threads read what belongs together."""


def _draw() -> tuple[str, str]:
    """The random digits of one id. Bytes for several are read from the system at once, since reading takes longer than everything else
    here.
    """
    digits = os.urandom(8 * _DRAWN_AT_ONCE).hex()
    first, *others = [(digits[at : at + 3], digits[at + 3 : at + 15]) for at in range(0, len(digits), 16)]
    _drawn.extend(others)
    return first


def new_id(queue: str) -> str:
    """An id like those of `Ids`, for a single job of this queue: a UUIDv7."""
    ms = time.time_ns() // 1_000_000
    known, begin = _begun[0]
    if ms != known:
        digits = f"{ms:012x}"
        begin = f"{digits[:8]}-{digits[8:]}-7"
        _begun[0] = ms, begin
    try:
        first, node = _drawn.pop()
    except IndexError:
        first, node = _draw()
    return f"{begin}{first}-{_slot(queue)}-{node}"


def enqueue(job: NewJob, made: bool = False) -> Call[Enqueued]:
    """POST /jobs/enqueue. made: the job's id was made here, because the caller gave none."""
    job_id = job.id
    if job_id is None:
        made, job_id = True, new_id(job.queue)
        job = msgspec.structs.replace(job, id=job_id)

    def decode(body: bytes | short.Made) -> Enqueued:
        if isinstance(body, short.Made):
            return short.entered(job, body.id, body.created_at)
        found = reading.enqueued(body)
        return _ours(found, job_id) if made else found

    return shared("/jobs/enqueue", decode, encoded(job), "/batch/enqueue", ids=(job_id,))


def enqueue_batch(jobs: Iterable[NewJob]) -> Call[list[Enqueued | QueueError]]:
    """POST /batch/enqueue."""
    given = list(jobs)
    new_id = _new_ids()
    named = [msgspec.structs.replace(job, id=new_id(job.queue)) if job.id is None else job for job in given]

    read = short.enqueued_batch(named)

    def decode(body: bytes) -> list[Enqueued | QueueError]:
        results = read(body)
        return [
            _ours(result, sent.id) if job.id is None and isinstance(result, Enqueued) else result
            for job, sent, result in zip(given, named, results, strict=True)
        ]

    return once("POST", "/batch/enqueue", decode, encoded(Items(named)), ids=tuple(job.id for job in named if job.id is not None))


def _dequeue(path: str, decode: Decode[T], asked: Dequeue) -> Call[T]:

    def make(wait: float) -> Request:
        return Request("POST", path, encoded(msgspec.structs.replace(asked, wait=wait)), wait)

    return Call(None, decode, wait=check_wait(asked.wait), done=_is_answer, quiet=QUIET, make=make)


def _is_answer(taken: object) -> bool:
    return bool(taken) or taken is QUIET


def _said(about: About | None) -> tuple[str | None, int | None, str | None, datetime | None]:
    return (None, None, None, None) if about is None else (about.host, about.concurrency, about.version, about.started)


def dequeue(
    queue: str | Sequence[str],
    wait: float,
    lease_seconds: float | None,
    worker: str | None,
    attempt_id: str | None,
    about: About | None,
) -> Call[LeasedJob | None]:
    """POST /jobs/dequeue."""
    asked = Dequeue(queue, wait, attempt_id or os.urandom(16).hex(), lease_seconds, worker, None, *_said(about))
    return _dequeue("/jobs/dequeue", reading.leased, asked)


def dequeue_batch(
    queue: str | Sequence[str],
    limit: int,
    wait: float,
    lease_seconds: float | None,
    worker: str | None,
    attempt_id: str | None,
    about: About | None,
) -> Call[list[LeasedJob]]:
    """POST /batch/dequeue."""
    asked = Dequeue(queue, wait, attempt_id or os.urandom(16).hex(), lease_seconds, worker, limit, *_said(about))
    return _dequeue("/batch/dequeue", reading.leased_batch, asked)


def release(job_id: str, lease: str, delay: float) -> Call[JobInfo]:
    """POST /jobs/{id}/release."""
    asked = Release(lease, delay)
    return shared(place("jobs", job_id, "/release"), reading.job_info, encoded(asked), "/batch/release", job_id)


def is_concluded(job: Job) -> bool:
    """Whether the job has ended, so that it does not change by itself any more."""
    return job.status is CONCLUDED


def job(job_id: str, wait: float) -> Call[Job]:
    """GET /jobs/{id}."""
    path = place("jobs", job_id)

    def make(wait: float) -> Request:
        return Request("GET", query(path, wait=wait or None), None, wait)

    return Call(None, reading.job, wait=check_wait(wait), done=is_concluded, make=make)


def has_news(page: LogPage) -> bool:
    """Whether the page has lines, or no more will come."""
    return bool(page.lines) or page.ended


def log_page(job_id: str, after: int, limit: int | None, wait: float) -> Call[LogPage]:
    """GET /jobs/{id}/log."""
    path = place("jobs", job_id, "/log")

    def make(wait: float) -> Request:
        return Request("GET", query(path, after=after or None, limit=limit, wait=wait or None), None, wait)

    return Call(None, reading.log_page, wait=check_wait(wait), done=has_news, make=make)
