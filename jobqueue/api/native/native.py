"""The native API's operations: decode, call one backend operation, encode. No queue logic here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import UNSET

from jobqueue.api.native import views, wire
from jobqueue.api.problems import describe
from jobqueue.api.routes import BETWEEN, place_of
from jobqueue.api.site import Site
from jobqueue.backend.base import Conclude, Extend
from jobqueue.engine import checks
from jobqueue.errors import BadRequest, Draining, QueueError
from jobqueue.http.answers import Answer
from jobqueue.http.body import body_at_once, check_depth
from jobqueue.http.request import Request
from jobqueue.model import FAILED, SUCCEEDED, Job, JobFilter, QueueStats, Reason, Verdict

T = TypeVar("T")
R = TypeVar("R")


async def _read_nothing(site: Site, request: Request) -> None:
    """For operations without parameters: a body may only be an empty object. Raises BadRequest."""
    body = await site.read_body(request)
    if body:
        wire.decode_nothing(body)


async def enqueue(site: Site, request: Request, _: str) -> Answer:
    """POST /jobs/enqueue."""
    body = body_at_once(request, site.limits.body_bytes_max)
    if body is None:
        body = await site.read_body(request)
    asked: wire.EnqueueBody = wire.decode_enqueue(body)
    if asked.traceparent is None:
        asked.traceparent = trace_of(request)
    reply = await site.backend.enqueue(asked.spec())
    if reply.handed_over:
        # The worker that waited wants its job more than the producer wants its answer: it goes first.
        await asyncio.sleep(0)
    job = reply.job
    place = job.id if asked.id is None else place_of(job.id)
    return Answer(
        201 if reply.created else 200,
        views.encode(views.enqueued(job, reply.created)),
        headers=f"Location: {site.native_prefix}/jobs/{place}\r\n".encode(),
    )


def trace_of(request: Request) -> str | None:
    """The trace that a request belongs to, by its header. One that cannot be read is as none (W3C Trace Context, section 3.3)."""
    given = request.head.fields.traceparent
    return given if given is not None and checks.TRACEPARENT.fullmatch(given) is not None else None


def _verdict(body: wire.ConcludeBody) -> Verdict:
    failed = body.outcome == "failed"
    if failed and body.result is not UNSET:
        raise BadRequest("result", "does not go with the outcome failed; send error")
    if not failed and body.error is not UNSET:
        raise BadRequest("error", "does not go with the outcome succeeded; send result")
    result = error = None
    if body.result is not UNSET:
        check_depth("result", result := bytes(body.result))
    if body.error is not UNSET:
        check_depth("error", error := bytes(body.error))
    return Verdict(outcome=FAILED if failed else SUCCEEDED, result=result, error=error, retry=body.retry, retry_delay=body.retry_delay)


def _whole(job: Job) -> Answer:
    return Answer(200, views.encode(views.job_view(job, whole=False)))


async def conclude(site: Site, request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/conclude."""
    body = await site.read_body(request)
    asked: wire.ConcludeBody = wire.decode_conclude(body)
    return Answer(200, views.encode(views.concluded(await site.backend.conclude(site.job_id(job_id), asked.lease, _verdict(asked)))))


def _extended(job: Job) -> views.ExtendedView:
    assert job.lease is not None
    return views.ExtendedView(job.id, views.stamp(job.lease.expires_at), job.lease.cancel_requested)


async def extend(site: Site, request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/extend."""
    asked: wire.ExtendBody = wire.decode_extend(await site.read_body(request))
    item = Extend(site.job_id(job_id), asked.lease, asked.lease_seconds, asked.progress, asked.message)
    return Answer(200, views.encode(_extended(await site.backend.extend(item))))


async def release(site: Site, request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/release."""
    asked: wire.ReleaseBody = wire.decode_release(await site.read_body(request))
    return _whole(await site.backend.release(site.job_id(job_id), asked.lease, asked.delay))


async def cancel(site: Site, request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/cancel."""
    await _read_nothing(site, request)
    return _whole(await site.backend.cancel(site.job_id(job_id)))


async def retry(site: Site, request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/retry."""
    await _read_nothing(site, request)
    return _whole(await site.backend.retry(site.job_id(job_id)))


# Batches.


async def _items(site: Site, request: Request, at_once: wire.Decoder, item: wire.Decoder, make: Callable[[Any], T]) -> list[T | QueueError]:
    """What each item of a batch asks for, or what is wrong with it.

    Decoded at once when all is well; otherwise one by one, so that a bad item harms no other.
    """
    body = await site.read_body(request)
    wire.check_length(body, "jobs", site.limits.batch_jobs_max)
    found = at_once.tried(body)
    items: Sequence[Any] = [item.tried(raw) for raw in wire.decode_batch(body).jobs] if isinstance(found, BadRequest) else found.jobs
    return [found if isinstance(found, QueueError) else _made(make, found) for found in items]


def _made(make: Callable[[Any], T], item: Any) -> T | QueueError:
    try:
        return make(item)
    except QueueError as error:
        return error.bare()


def _batch(replies: Sequence[R | QueueError], view: Callable[[R], Any]) -> Answer:
    return Answer(
        200,
        views.encode(
            views.BatchView([views.FailedItem(describe(reply)) if isinstance(reply, QueueError) else view(reply) for reply in replies])
        ),
    )


async def batch_enqueue(site: Site, request: Request, _: str) -> Answer:
    """POST /batch/enqueue."""
    specs = await _items(site, request, wire.decode_batch_enqueue, wire.decode_enqueue, wire.EnqueueBody.spec)
    trace = trace_of(request)
    if trace is not None:
        for spec in specs:
            if not isinstance(spec, QueueError) and spec.traceparent is None:
                spec.traceparent = trace
    return _batch(await site.backend.enqueue_batch(specs), lambda reply: views.enqueued(reply.job, reply.created))


async def batch_conclude(site: Site, request: Request, _: str) -> Answer:
    """POST /batch/conclude."""

    def make(item: wire.ConcludeItem) -> Conclude:
        return Conclude(site.job_id(item.id), item.lease, _verdict(item))

    items = await _items(site, request, wire.decode_batch_conclude, wire.decode_conclude_item, make)
    return _batch(await site.backend.conclude_batch(items), views.concluded)


async def batch_extend(site: Site, request: Request, _: str) -> Answer:
    """POST /batch/extend."""

    def make(item: wire.ExtendItem) -> Extend:
        return Extend(site.job_id(item.id), item.lease, item.lease_seconds, item.progress, item.message)

    items = await _items(site, request, wire.decode_batch_extend, wire.decode_extend_item, make)
    return _batch(await site.backend.extend_batch(items), _extended)


# Reading.


async def jobs(site: Site, request: Request, _: str) -> Answer:
    """GET /jobs."""
    asked = wire.decode_query(wire.query_of(request.head.path), wire.ListQuery)
    limit = site.limits.page_jobs_default if asked.limit is None else asked.limit
    checks.number("limit", limit, 1, site.limits.page_jobs_max)
    wanted = JobFilter(
        status=asked.status, outcome=asked.outcome, queue=asked.queue, type=asked.type, key=asked.key, limit=limit, before=asked.cursor
    )
    found, cursor = await site.backend.jobs(wanted)
    reasons: list[list[Reason] | None] = [None] * len(found)
    if asked.waiting_for:
        reasons = [*await site.backend.waiting_for([job.number for job in found])]
    shown = [views.job_view(job, whole=False, reasons=why) for job, why in zip(found, reasons, strict=True)]
    return Answer(200, views.encode(views.PageView(shown, cursor)))


# Queues.


def _queue(stats: QueueStats) -> Answer:
    return Answer(200, views.encode(views.queue_view(stats)))


async def queues(site: Site, request: Request, _: str) -> Answer:
    """GET /queues."""
    asked = wire.QueuesQuery()
    if "?" in request.head.path:
        asked = wire.decode_query(wire.query_of(request.head.path), wire.QueuesQuery)
    limit = site.limits.page_queues_max if asked.limit is None else asked.limit
    checks.number("limit", limit, 1, site.limits.page_queues_max)
    found, cursor = await site.backend.queue_page(asked.cursor or "", limit)
    return Answer(200, views.encode(views.QueuesView([views.queue_view(stats) for stats in found], cursor)))


async def queue(site: Site, request: Request, name: str) -> Answer:
    """GET /queues/{name}."""
    return _queue(await site.backend.queue(name))


async def put_queue(site: Site, request: Request, name: str) -> Answer:
    """PUT /queues/{name}."""
    asked: wire.PolicyBody = wire.decode_policy(await site.read_body(request))
    return _queue(await site.backend.put_policy(name, asked.policy(site.default_policy)))


async def patch_queue(site: Site, request: Request, name: str) -> Answer:
    """PATCH /queues/{name}."""
    asked: wire.PolicyPatch = wire.decode_policy_patch(await site.read_body(request))
    return _queue(await site.backend.change_policy(name, asked.change()))


async def keys(site: Site, request: Request, name: str) -> Answer:
    """GET /queues/{name}/keys."""
    asked = wire.KeysQuery()
    if "?" in request.head.path:
        asked = wire.decode_query(wire.query_of(request.head.path), wire.KeysQuery)
    limit = site.limits.page_jobs_default if asked.limit is None else asked.limit
    checks.number("limit", limit, 1, site.limits.page_jobs_max)
    found, cursor = await site.backend.keys(name, asked.cursor or "", limit)
    return Answer(200, views.encode(views.KeysView([views.key_view(stats) for stats in found], cursor)))


async def pause_key(site: Site, request: Request, names: str) -> Answer:
    """POST /queues/{name}/keys/{key}/pause."""
    return await _set_key_paused(site, request, names, True)


async def resume_key(site: Site, request: Request, names: str) -> Answer:
    """POST /queues/{name}/keys/{key}/resume."""
    return await _set_key_paused(site, request, names, False)


async def _set_key_paused(site: Site, request: Request, names: str, paused: bool) -> Answer:
    await _read_nothing(site, request)
    name, _, key = names.partition(BETWEEN)
    return Answer(200, views.encode(views.key_view(await site.backend.set_key_paused(name, key, paused))))


async def delete_queue(site: Site, request: Request, name: str) -> Answer:
    """DELETE /queues/{name}."""
    await _read_nothing(site, request)
    await site.backend.delete_queue(name)
    return Answer(204, content_type=b"")


async def pause(site: Site, request: Request, name: str) -> Answer:
    """POST /queues/{name}/pause."""
    await _read_nothing(site, request)
    return _queue(await site.backend.set_paused(name, True))


async def resume(site: Site, request: Request, name: str) -> Answer:
    """POST /queues/{name}/resume."""
    await _read_nothing(site, request)
    return _queue(await site.backend.set_paused(name, False))


async def purge(site: Site, request: Request, name: str) -> Answer:
    """POST /queues/{name}/purge."""
    await _read_nothing(site, request)
    return Answer(200, views.encode(views.PurgedView(name, await site.backend.purge(name))))


async def redrive(site: Site, request: Request, name: str) -> Answer:
    """POST /queues/{name}/retry."""
    await _read_nothing(site, request)
    return Answer(200, views.encode(views.RetriedView(name, await site.backend.redrive(name))))


# The server itself.


async def healthz(site: Site, request: Request, _: str) -> Answer:
    """GET /healthz: the process lives and its loop turns."""
    return Answer(200, b'{"status":"ok"}')


async def readyz(site: Site, request: Request, _: str) -> Answer:
    """GET /readyz: it takes new work. 503 while it drains, and while its storage fails."""
    if site.draining:
        raise Draining("the server is shutting down")
    await site.backend.check()
    return Answer(200, b'{"status":"ready"}')
