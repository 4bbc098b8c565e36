"""Requests that are held open: dequeue, alone and in batches, and waiting for a result.

The body is read, size-checked and validated before anything waits. A job that was taken is either delivered or put back: one `async with`
spans the time from joining the line of waiters to the last byte of the answer (promise 3).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from jobqueue.api.native import templates, views, wire
from jobqueue.api.native.workers import QUIET_HEADERS, about_of
from jobqueue.api.site import Site
from jobqueue.backend.base import Backend
from jobqueue.engine import checks
from jobqueue.errors import BadRequest, QueueError
from jobqueue.http.answers import Answer
from jobqueue.http.body import body_at_once
from jobqueue.http.request import Request
from jobqueue.model import CONCLUDED, IN_PROGRESS, Job, Lease, Want

_NAMES_MAX = 1_000
"""The most queues that one dequeue can list, including duplicates, which are merged later."""

_KNOWN_MAX = 256
_KNOWN_BYTES_MAX = 512
"""Cached dequeue bodies: how many, and the longest."""

RETRY_AFTER = b"Retry-After: 1\r\n"


def wait_seconds(site: Site, wait: float | None) -> float:
    """The requested wait, or the default. Raises BadRequest, which names the limit."""
    if wait is None:
        return site.limits.wait_seconds_default
    try:
        checks.number("wait", wait, 0.0, site.limits.wait_seconds_max, " seconds")
    except BadRequest as error:
        # Clients read the limit from the error and then ask for shorter waits.
        error.max = site.limits.wait_seconds_max
        raise
    return wait


def _wanted(asked: wire.DequeueBody, site: Site) -> tuple[Want, float]:
    """What a dequeue asks for, whichever client sends it, and how long it waits."""
    queue = asked.queue
    want = Want(
        queues=(queue,) if isinstance(queue, str) else tuple(dict.fromkeys(queue)),
        limit=asked.limit if isinstance(asked, wire.BatchDequeueBody) else 1,
        lease_seconds=asked.lease_seconds,
        worker=asked.worker,
        attempt_id=asked.attempt_id,
        about=about_of(asked),
    )
    return want, wait_seconds(site, asked.wait)


def _asked(site: Site, request: Request, body: bytes, batch: bool) -> tuple[Want, float]:
    head = request.head
    if not body:
        # The same head can have come before, with the same target.
        found = head.asked
        if found is None:
            found = head.asked = _wanted(_of_query(head.path, batch), site)
    elif "?" in head.path:
        raise BadRequest(None, "send parameters in the body or in the query, not in both")
    elif batch:
        wire.check_length(body, "queue", _NAMES_MAX)
        found = _wanted(wire.decode_batch_dequeue(body), site)
    else:
        found = site.wants.get(body) or _of_body(body, site)
    want, wait = found
    return (want if not request.who else msgspec.structs.replace(want, who=request.who)), wait


def _of_query(target: str, batch: bool) -> wire.DequeueBody:
    kind = wire.BatchDequeueBody if batch else wire.DequeueBody
    return wire.decode_query(wire.query_of(target), kind, frozenset({"queue"})) if "?" in target else kind()


def _of_body(body: bytes, site: Site) -> tuple[Want, float]:
    wire.check_length(body, "queue", _NAMES_MAX)
    found = _wanted(wire.decode_dequeue(body), site)
    # A worker repeats the same request again and again, except when it sends an attempt_id.
    if found[0].attempt_id is None and len(body) <= _KNOWN_BYTES_MAX:
        if len(site.wants) >= _KNOWN_MAX:
            site.wants.clear()
        site.wants[body] = found
    return found


async def dequeue(site: Site, request: Request, _: str) -> Answer:
    """POST /jobs/dequeue: a job, or 204 when the wait has passed."""
    body = body_at_once(request, site.limits.body_bytes_max)
    if body is None:
        body = await site.read_body(request)
    want, wait = _asked(site, request, body, batch=False)
    return await take_one(site, request, want, wait, templates.dequeued) or nothing(site)


async def take_one(site: Site, request: Request, want: Want, wait: float, encode: Callable[[Job], bytes]) -> Answer | None:
    """Take a job and answer 200 with it; it is either delivered or put back. The answer is 204 for a worker that is quiet, and None when
    the wait has passed without a job.
    """
    request.queues = want.queues
    taking = site.backend.dequeue(want, wait)
    found = taking.at_once()
    if found is not None:
        if not found:
            return None
        try:
            answer = Answer(200, encode(found[0]), close=site.life.draining)
            done = answer.deliver_now(request)
            if done or (done is None and await _delivered_later(answer, request)):
                taking.delivered()
                _watch(site, request, found)
        finally:
            taking.leave()
        return answer
    async with taking as jobs:
        if not jobs:
            return Answer(204, content_type=b"", headers=QUIET_HEADERS) if taking.quiet else None
        answer = Answer(200, encode(jobs[0]))
        answer.close = site.draining
        if await _delivered(answer, request):
            taking.delivered()
            _watch(site, request, jobs)
    return answer


async def take_many(site: Site, request: Request, want: Want, wait: float, written: Callable[[list[Job], bool], Answer]) -> Answer:
    """Take jobs and answer with them; they are either all delivered or all put back.

    written: makes the answer from the jobs and from whether the worker is quiet. The jobs are empty if it is, or when the wait has passed.
    """
    request.queues = want.queues
    taking = site.backend.dequeue(want, wait)
    async with taking as jobs:
        answer = written(jobs, taking.quiet)
        if jobs:
            answer.close = site.draining
            if await _delivered(answer, request):
                taking.delivered()
                _watch(site, request, jobs)
    return answer


async def _delivered(answer: Answer, request: Request) -> bool:
    """Write an answer that hands something over; False if the client will not receive all of it."""
    done = answer.deliver_now(request)
    return await _delivered_later(answer, request) if done is None else done


async def _delivered_later(answer: Answer, request: Request) -> bool:
    """The same for an answer that has been written in part."""
    request.answering = True
    return await answer.deliver(request)


def _watch(site: Site, request: Request, jobs: list[Job]) -> None:
    """Put jobs back later if it turns out that the client had closed before it received the answer."""
    leases = [(job.id, job.hold.token) for job in jobs if type(job.hold) is Lease]
    request.connection.handed = partial(_missed, site, leases)


def _missed(site: Site, leases: Sequence[tuple[str, str]]) -> None:
    tasks = site.life.putting_back
    task = asyncio.get_running_loop().create_task(_put_back(site.backend, leases))
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _put_back(backend: Backend, leases: Sequence[tuple[str, str]]) -> None:
    for job_id, token in leases:
        # If that is not possible, for example because nothing can be stored now, the job returns when its lease ends.
        with contextlib.suppress(QueueError):
            await backend.give_back(job_id, token)


async def batch_dequeue(site: Site, request: Request, _: str) -> Answer:
    """POST /batch/dequeue: answers with up to `limit` jobs as soon as there is one, or an empty list when the wait has passed."""
    want, wait = _asked(site, request, await site.read_body(request), batch=True)

    def written(jobs: list[Job], quiet: bool) -> Answer:
        answer = Answer(200, views.encode(views.BatchView([views.dequeued(job) for job in jobs])))
        if quiet:
            answer.add_header(QUIET_HEADERS)
        elif not jobs and site.draining:
            answer.add_header(RETRY_AFTER)
        return answer

    return await take_many(site, request, want, wait, written)


def nothing(site: Site) -> Answer:
    """204. While the server drains, with Retry-After, so that a worker does not retry at once."""
    return Answer(204, content_type=b"", headers=RETRY_AFTER if site.draining else b"")


async def job(site: Site, request: Request, job_id: str) -> Answer:
    """GET /jobs/{id}: the job. With `wait`, held until the job is concluded or the wait has passed."""
    wait = 0.0
    if "?" in request.head.path:
        asked = wire.decode_query(wire.query_of(request.head.path), wire.WaitQuery)
        wait = wait_seconds(site, asked.wait)
    found = await waited(site, request, site.job_id(job_id), wait)
    # Only the backend knows this, and for an ended job it knows without a lookup that it waits for nothing.
    reasons = [] if found.status in (CONCLUDED, IN_PROGRESS) else (await site.backend.waiting_for([found.number]))[0]
    return Answer(200, templates.whole(found, reasons), headers=RETRY_AFTER if wait and site.draining else b"")


async def waited(site: Site, request: Request, job_id: str, wait: float) -> Job:
    """A job, once it is concluded or the wait has passed. Raises as `Backend.job` does."""
    if wait > 0 and site.secured:
        request.queues = ((await site.backend.job(job_id)).queue,)
    return await site.backend.job(job_id, wait)
