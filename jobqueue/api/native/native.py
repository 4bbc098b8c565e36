"""The native API's operations: decode, call one backend operation, encode. No queue logic here."""

from __future__ import annotations

import asyncio

from msgspec import UNSET, Raw, UnsetType

from jobqueue.api.native import policies, templates, views, wire
from jobqueue.api.native.lines import said
from jobqueue.api.problems import NotFound
from jobqueue.api.routes import BETWEEN, path_of, place_of
from jobqueue.api.site import Site
from jobqueue.backend.base import Extend
from jobqueue.backend.requests.bulk import ForgetJob
from jobqueue.engine import checks
from jobqueue.errors import BadRequest, Draining
from jobqueue.http.answers import Answer
from jobqueue.http.body import body_at_once, check_depth
from jobqueue.http.request import Request
from jobqueue.limits import JSON_DEPTH_MAX
from jobqueue.model import FAILED, SUCCEEDED, Job, JobFilter, QueueStats, Verdict
from jobqueue.reason import Reason

_SUCCEEDED = Verdict(outcome=SUCCEEDED)
"""The most common verdict: most jobs have no result."""


async def read_nothing(site: Site, request: Request) -> None:
    """For operations without parameters: a body must be an empty object. Raises BadRequest."""
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
        # The worker that waits for this job goes first; the producer's answer is less urgent.
        await asyncio.sleep(0)
    job = reply.job
    # An id made here needs no escaping. The answer can also contain an id that a client chose.
    place = job.id if asked.id is None and reply.created else place_of(job.id)
    status = 201 if reply.created else 200
    return Answer(status, templates.enqueued(job, reply.created), headers=f"{site.location}{place}\r\n".encode())


def trace_of(request: Request) -> str | None:
    """The trace that a request belongs to, from its header. A header that cannot be parsed is ignored (W3C Trace Context, section 3.3)."""
    given = request.head.fields.traceparent
    return given if given is not None and checks.TRACEPARENT.fullmatch(given) is not None else None


def _value(field: str, raw: Raw | UnsetType) -> bytes | None:
    """A result or an error as JSON text, None if it was not sent. Raises BadRequest."""
    if raw is UNSET:
        return None
    value = bytes(raw)
    if len(value) > JSON_DEPTH_MAX:
        check_depth(field, value)
    return value


def verdict_of(body: wire.ConcludeBody) -> Verdict:
    """The verdict that a conclude reports on its attempt. Raises BadRequest."""
    failed = body.outcome == "failed"
    usual = body.error is UNSET and body.traceback is None and not body.log and body.log_offset is None
    if usual and not failed and body.retry and body.retry_delay is None and not body.late:
        # Nearly every verdict, at half the cost of what follows.
        result = _value("result", body.result)
        return _SUCCEEDED if result is None else Verdict(outcome=SUCCEEDED, result=result)
    if failed and body.result is not UNSET:
        raise BadRequest("result", "is not allowed with the outcome failed; send error")
    if not failed and body.error is not UNSET:
        raise BadRequest("error", "is not allowed with the outcome succeeded; send result")
    if not failed and body.traceback is not None:
        raise BadRequest("traceback", "is not allowed with the outcome succeeded")
    return Verdict(
        outcome=FAILED if failed else SUCCEEDED,
        result=_value("result", body.result),
        error=_value("error", body.error),
        retry=body.retry,
        retry_delay=body.retry_delay,
        log=said(body.log, body.log_offset),
        late=body.late,
        traceback=body.traceback,
    )


def _whole(job: Job) -> Answer:
    return Answer(200, views.encode(views.job_view(job, whole=False)))


async def conclude(site: Site, request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/conclude."""
    body = body_at_once(request, site.limits.body_bytes_max)
    if body is None:
        body = await site.read_body(request)
    asked: wire.ConcludeBody = wire.decode_conclude(body)
    return Answer(200, templates.concluded(await site.backend.conclude(site.job_id(job_id), asked.lease, verdict_of(asked))))


async def extend(site: Site, request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/extend."""
    asked: wire.ExtendBody = wire.decode_extend(await site.read_body(request))
    item = Extend(site.job_id(job_id), asked.lease, asked.lease_seconds, asked.progress, asked.message, said(asked.log, asked.log_offset))
    return Answer(200, views.encode(views.extended(await site.backend.extend(item))))


async def release(site: Site, request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/release."""
    asked: wire.ReleaseBody = wire.decode_release(await site.read_body(request))
    return _whole(await site.backend.release(site.job_id(job_id), asked.lease, asked.delay))


async def cancel(site: Site, request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/cancel."""
    await read_nothing(site, request)
    return _whole(await site.backend.cancel(site.job_id(job_id)))


async def retry(site: Site, request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/retry."""
    await read_nothing(site, request)
    return _whole(await site.backend.retry(site.job_id(job_id)))


async def forget(site: Site, request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/forget."""
    await read_nothing(site, request)
    return _whole(await site.backend.ask(ForgetJob(id=site.job_id(job_id))))


async def edit(site: Site, request: Request, job_id: str) -> Answer:
    """PATCH /jobs/{id}."""
    asked: wire.EditBody = wire.decode_edit(await site.read_body(request))
    return _whole(await site.backend.edit(site.job_id(job_id), asked.change()))


# Reading.


def position(cursor: str | None) -> tuple[int | None, str | None]:
    """A cursor of `GET /jobs` as a number, or as a text: it is a number unless the store has several partitions. Raises BadRequest."""
    if cursor is None or "." in cursor:
        return None, cursor
    return wire.decode_query([("cursor", cursor)], wire.ListPlace).cursor, None


async def jobs(site: Site, request: Request, _: str) -> Answer:
    """GET /jobs."""
    asked = wire.decode_query(wire.query_of(request.head.path), wire.ListQuery)
    limit = site.limits.page_jobs_default if asked.limit is None else asked.limit
    checks.number("limit", limit, 1, site.limits.page_jobs_max)
    before, cursor = position(asked.cursor)
    wanted = JobFilter(
        status=asked.status,
        outcome=asked.outcome,
        queue=asked.queue,
        type=asked.type,
        key=asked.key,
        tag=asked.tag,
        group=asked.group,
        parent=asked.parent,
        worker=asked.worker,
        error=asked.error,
        created_after=wire.seconds(asked.created_after),
        created_before=wire.seconds(asked.created_before),
        retrying=asked.retrying,
        limit=limit,
        before=before,
        cursor=cursor,
        error_group=asked.error_group,
        by_end=asked.order == "concluded",
    )
    found, following = await site.backend.jobs(wanted)
    reasons: list[list[Reason] | None] = [None] * len(found)
    if asked.waiting_for:
        reasons = [*await site.backend.waiting_for([job.number for job in found])]
    shown = [views.job_view(job, whole=False, reasons=why) for job, why in zip(found, reasons, strict=True)]
    return Answer(200, views.encode(views.PageView(shown, following)))


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
    if asked.changed_since is not None:
        changed = await site.changes.since(site.backend, asked.changed_since, asked.cursor or "", limit)
        shown = [views.queue_view(stats) for stats in changed.queues]
        return Answer(200, views.encode(views.QueuesView(shown, changed.cursor, changed.gone, changed.whole, changed.token)))
    found, cursor = await site.backend.queue_page(asked.cursor or "", limit)
    return Answer(200, views.encode(views.QueuesView([views.queue_view(stats) for stats in found], cursor)))


async def queue(site: Site, request: Request, name: str) -> Answer:
    """GET /queues/{name}."""
    return _queue(await site.backend.queue(name))


async def put_queue(site: Site, request: Request, name: str) -> Answer:
    """PUT /queues/{name}."""
    asked: policies.PolicyBody = wire.decode_policy(await site.read_body(request))
    return _queue(await site.backend.put_policy(name, asked.policy(site.default_policy), request.who or None))


async def patch_queue(site: Site, request: Request, name: str) -> Answer:
    """PATCH /queues/{name}."""
    asked: policies.PolicyPatch = wire.decode_policy_patch(await site.read_body(request))
    return _queue(await site.backend.change_policy(name, asked.change(), request.who or None))


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
    await read_nothing(site, request)
    name, _, key = names.partition(BETWEEN)
    stats = await site.backend.set_key_paused(name, key, paused, request.who or None)
    return Answer(200, views.encode(views.key_view(stats)))


async def pause(site: Site, request: Request, name: str) -> Answer:
    """POST /queues/{name}/pause."""
    await read_nothing(site, request)
    return _queue(await site.backend.set_paused(name, True, request.who or None))


async def resume(site: Site, request: Request, name: str) -> Answer:
    """POST /queues/{name}/resume."""
    await read_nothing(site, request)
    return _queue(await site.backend.set_paused(name, False, request.who or None))


async def retry_failed(site: Site, request: Request, name: str) -> Answer:
    """POST /queues/{name}/retry."""
    await read_nothing(site, request)
    return Answer(200, views.encode(views.RetriedView(name, await site.backend.retry_failed(name))))


# The server itself.


async def nowhere(site: Site, request: Request, _: str) -> Answer:
    """Answers for a path that turned out to lead to nothing."""
    raise NotFound(f"no such path: {path_of(request.head.path)[:200]!r}")


async def healthz(site: Site, request: Request, _: str) -> Answer:
    """GET /healthz: the process is alive and its event loop runs."""
    return Answer(200, b'{"status":"ok"}')


async def readyz(site: Site, request: Request, _: str) -> Answer:
    """GET /readyz: the server accepts new work. 503 while it drains, and while its storage fails."""
    if site.draining:
        raise Draining("the server is shutting down")
    await site.backend.check()
    return Answer(200, b'{"status":"ready"}')
