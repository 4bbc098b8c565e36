"""Requests that are held open: dequeue, alone and in batches, and waiting for a result.

The body is read, capped and checked before anything waits. A taken job is delivered or put back: one `async with` spans from the
place in line to the last byte of the answer (promise 3).
"""

from __future__ import annotations

from collections.abc import Callable

from jobqueue.api.native import views, wire
from jobqueue.api.site import Site
from jobqueue.engine import checks
from jobqueue.errors import BadRequest
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request
from jobqueue.model import CONCLUDED, IN_PROGRESS, Job, Want

_NAMES_MAX = 1_000
"""Queues that one dequeue lists, doubles included, which count once in the end."""

RETRY_AFTER = b"Retry-After: 1\r\n"


def wait_seconds(site: Site, wait: float | None) -> float:
    """The wait asked for, or the default. Raises BadRequest, which names the cap."""
    if wait is None:
        return site.limits.wait_seconds_default
    try:
        checks.number("wait", wait, 0.0, site.limits.wait_seconds_max, " seconds")
    except BadRequest as error:
        # For clients, which then ask for less at a time.
        error.max = site.limits.wait_seconds_max
        raise
    return wait


async def _asked(site: Site, request: Request, batch: bool) -> tuple[Want, float]:
    body = await site.read_body(request)
    asked: wire.DequeueBody
    if body and "?" in request.head.path:
        raise BadRequest(None, "parameters go into the body or into the query, not into both")
    if body:
        wire.check_length(body, "queue", _NAMES_MAX)
        asked = (wire.decode_batch_dequeue if batch else wire.decode_dequeue)(body)
    elif "?" in request.head.path:
        kind = wire.BatchDequeueBody if batch else wire.DequeueBody
        asked = wire.decode_query(wire.query_of(request.head.path), kind, frozenset({"queue"}))
    else:
        asked = wire.BatchDequeueBody() if batch else wire.DequeueBody()
    queue = asked.queue
    want = Want(
        queues=(queue,) if isinstance(queue, str) else tuple(dict.fromkeys(queue)),
        limit=asked.limit if isinstance(asked, wire.BatchDequeueBody) else 1,
        lease_seconds=asked.lease_seconds,
        worker=asked.worker,
        attempt_id=asked.attempt_id,
        who=request.who,
    )
    return want, wait_seconds(site, asked.wait)


async def dequeue(site: Site, request: Request, _: str) -> Answer:
    """POST /jobs/dequeue: the job, or 204 when the wait passed."""
    want, wait = await _asked(site, request, batch=False)
    return await take_one(site, request, want, wait, _dequeued) or nothing(site)


def _dequeued(job: Job) -> bytes:
    return views.encode(views.dequeued(job))


async def take_one(site: Site, request: Request, want: Want, wait: float, encode: Callable[[Job], bytes]) -> Answer | None:
    """Take a job and answer 200 with it, delivered or put back; None, and nothing written, when the wait passed without one."""
    request.queues = want.queues
    taking = site.backend.dequeue(want, wait)
    async with taking as jobs:
        if not jobs:
            return None
        answer = Answer(200, encode(jobs[0]))
        answer.close = site.draining
        if await _delivered(answer, request):
            taking.delivered()
    return answer


async def _delivered(answer: Answer, request: Request) -> bool:
    """Write an answer that hands something over; False when the client will not have it whole."""
    done = answer.deliver_now(request)
    if done is None:
        request.answering = True
        done = await answer.deliver(request)
    return done


async def batch_dequeue(site: Site, request: Request, _: str) -> Answer:
    """POST /batch/dequeue: as soon as one job is there, at most `limit`; an empty list when the wait passed."""
    want, wait = await _asked(site, request, batch=True)
    request.queues = want.queues
    taking = site.backend.dequeue(want, wait)
    async with taking as jobs:
        answer = Answer(200, views.encode(views.BatchView([views.dequeued(job) for job in jobs])))
        if not jobs:
            if site.draining:
                answer.add_header(RETRY_AFTER)
            return answer
        answer.close = site.draining
        if await _delivered(answer, request):
            taking.delivered()
    return answer


def nothing(site: Site) -> Answer:
    """204; while the server drains, with Retry-After, so that a worker does not come straight back."""
    return Answer(204, content_type=b"", headers=RETRY_AFTER if site.draining else b"")


async def job(site: Site, request: Request, job_id: str) -> Answer:
    """GET /jobs/{id}: the job; with `wait`, held until it is concluded or the wait passed."""
    wait = 0.0
    if "?" in request.head.path:
        asked = wire.decode_query(wire.query_of(request.head.path), wire.WaitQuery)
        wait = wait_seconds(site, asked.wait)
    found = await waited(site, request, site.job_id(job_id), wait)
    # Nobody but the backend knows, and it knows without looking that an ended job waits for nothing.
    reasons = [] if found.status in (CONCLUDED, IN_PROGRESS) else (await site.backend.waiting_for([found.number]))[0]
    return Answer(
        200, views.encode(views.job_view(found, whole=True, reasons=reasons)), headers=RETRY_AFTER if wait and site.draining else b""
    )


async def waited(site: Site, request: Request, job_id: str, wait: float) -> Job:
    """A job, once it is concluded or the wait passed. Raises as `Backend.job` does."""
    if wait > 0 and site.secured:
        request.queues = ((await site.backend.job(job_id)).queue,)
    return await site.backend.job(job_id, wait)
