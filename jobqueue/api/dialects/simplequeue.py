"""A queue of jobs with client-chosen ids: submit, next, complete, and a page that shows all jobs. See docs/dialects.md.

Completing takes no lease token, since this system has none: the dialect concludes under the live lease. A failure is final.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from jobqueue.api.dialects.base import Dialect, Given, HeldQuery, Ignored, read, renamed, text, wait_of
from jobqueue.api.dialects.page import PAGE, PAGE_HEADERS
from jobqueue.api.native import longpoll, wire
from jobqueue.api.native.events import send
from jobqueue.api.problems import Problem, Shape
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.errors import BadRequest, IdConflict, LeaseLost, NotInProgress, TooLarge, UnknownJob, missing
from jobqueue.http.answers import JSON, Answer
from jobqueue.http.body import check_depth
from jobqueue.http.request import ClientGone, Request
from jobqueue.model import CONCLUDED, FAILED, IN_PROGRESS, SUCCEEDED, Job, JobFilter, JobSpec, Verdict, Want

_STREAMED = b"Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
_NO_DATA = b"null"
"""The payload of a job without data."""

_NAMES = {"id": "jobId", "payload": "data"}
"""This system's names for our fields."""


class SimpleSubmit(msgspec.Struct, frozen=True):
    """A job to enqueue. The field `state` is refused; other unknown fields are ignored."""

    jobId: str
    description: str | None = None
    data: dict[str, Raw] | UnsetType = UNSET


class SimpleComplete(msgspec.Struct, frozen=True):
    """How a job ended. Other fields are ignored."""

    jobId: str
    status: Literal["failed", "succeeded"]


class SimpleJob(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job. `description` and `data` are omitted if the job has none."""

    jobId: str
    state: Literal["submitted", "running", "failed", "succeeded"]
    description: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


class SimpleError(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error, and the field that caused it, if any."""

    error: str
    field: str | None = None


class _GivenSubmit(Given):
    jobId: Raw | UnsetType = UNSET
    state: Raw | UnsetType = UNSET
    description: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode
_decode_submit = wire.Decoder(_GivenSubmit)
_decode_complete = wire.Decoder(SimpleComplete)


def _failure(problem: Problem) -> bytes:
    return _encode(SimpleError(problem.detail, problem.field))


def _state(job: Job) -> Literal["submitted", "running", "failed", "succeeded"]:
    if job.status is CONCLUDED:
        return "succeeded" if job.outcome is SUCCEEDED else "failed"
    return "running" if job.status is IN_PROGRESS else "submitted"


def _job(job: Job) -> SimpleJob:
    payload = job.payload
    data: Raw | UnsetType = UNSET
    if payload != _NO_DATA:
        # Jobs enqueued through other APIs can have any JSON; this system's clients expect an object.
        data = Raw(payload if payload.lstrip()[:1] == b"{" else b'{"payload":%b}' % payload)
    return SimpleJob(job.id, _state(job), UNSET if job.description is None else job.description, data)


def _view(job: Job) -> bytes:
    return _encode(_job(job))


def _checked(site: Site, job_id: str) -> str:
    try:
        return site.job_id(job_id)
    except BadRequest as error:
        raise renamed(error, _NAMES) from None


def _spec(site: Site, given: _GivenSubmit) -> JobSpec:
    """The job that a submit describes. Raises BadRequest."""
    if given.jobId is UNSET:
        raise missing("jobId")
    job_id = text("jobId", bytes(given.jobId))
    if job_id is None:
        raise BadRequest("jobId", "is not a string")
    _checked(site, job_id)
    if given.state is not UNSET:
        raise BadRequest("state", "is the server's to say; leave it out")
    description = None
    if given.description is not UNSET and (said := bytes(given.description)) != b"null":
        description = text("description", said)
        if description is None:
            raise BadRequest("description", "is not a string")
    data = _NO_DATA
    if given.data is not UNSET:
        data = bytes(given.data)
        if data[:1] != b"{":
            raise BadRequest("data", "is not an object")
        check_depth("data", data)
    return JobSpec(payload=data, id=job_id, description=description)


def _reads(site: Site, request: Request) -> bool:
    """Whether the request's token permits reading jobs."""
    grant = site.grant_of(request)
    return grant is None or Scope.READ in grant.scopes


async def submit(site: Site, request: Request, _: str) -> Answer:
    """POST /jobs/submit: 201 and the job; if its id is known, 200 and the existing job, whatever else was sent.

    If the existing job has other content, a token without the scope read gets only its state.
    """
    # Read now: the request's headers are released when it first has to wait.
    reads = _reads(site, request)
    spec = _spec(site, _decode_submit(await read(site, request)))
    assert spec.id is not None
    while True:
        try:
            reply = await site.backend.enqueue(spec)
            return Answer(201 if reply.created else 200, _view(reply.job))
        except IdConflict as error:
            conflict = error.bare()
        except TooLarge as error:
            raise renamed(error, _NAMES) from None
        try:
            job = await site.backend.job(spec.id)
            return Answer(200, _view(job) if reads else _encode(SimpleJob(job.id, _state(job))))
        except UnknownJob:
            if conflict.field is None:
                # The job exists, but this token has no access to it.
                raise conflict from None
            # Forgotten between the two lookups, so the id is free again.
            continue


async def _page(site: Site, place: int | str) -> tuple[bytes, int | str | None]:
    """Jobs after this place, oldest first, as the inside of a list, and the place to continue from; 0 for the beginning."""
    after, text = (place, None) if isinstance(place, int) else (0, place)
    page, cursor = await site.backend.jobs(JobFilter(limit=site.limits.page_jobs_max, after=after, cursor=text, payloads=True))
    return b",".join(map(_view, page)), cursor


async def jobs(site: Site, request: Request, _: str) -> Answer:
    """GET /jobs: every job, oldest first.

    More than one page is streamed, page by page as the client reads, so that the server never holds more. Such an answer ends with its
    connection; if it was cut short, the end of the list is missing.
    """
    page, cursor = await _page(site, 0)
    if cursor is None:
        return Answer(200, b"[%b]" % page)
    stream = Answer(200, content_type=b"", headers=_STREAMED, close=True)
    if request.head.method == "HEAD":
        return stream
    try:
        stream.write_now(request)
        await send(request, stream, b"[" + page)
        begun = bool(page)
        while cursor is not None:
            # Other tasks run between the pages.
            await asyncio.sleep(0)
            page, cursor = await _page(site, cursor)
            if page:
                await send(request, stream, b"," + page if begun else page)
                begun = True
        await send(request, stream, b"]")
    except asyncio.CancelledError:
        # Its token is no longer valid. The only possible answer is a list without its end.
        if not request.revoked:
            raise
    except ClientGone:
        # The client has gone, or was disconnected because it did not read.
        pass
    return stream


async def take(site: Site, request: Request, _: str) -> Answer:
    """GET /jobs/next: the oldest submitted job, which is then running; 204 if there is none."""
    await read(site, request)
    return await longpoll.take_one(site, request, Want(who=request.who), wait_of(site, request), _view) or longpoll.nothing(site)


async def look(site: Site, request: Request, job_id: str) -> Answer:
    """GET /jobs/{id}."""
    return Answer(200, _view(await site.backend.job(_checked(site, job_id))))


async def complete(site: Site, request: Request, _: str) -> Answer:
    """POST /jobs/complete."""
    asked: SimpleComplete = _decode_complete(await read(site, request))
    job_id = _checked(site, asked.jobId)
    job = await site.backend.job(job_id)
    if job.lease is None:
        raise NotInProgress(job_id, _state(job))
    outcome = FAILED if asked.status == "failed" else SUCCEEDED
    try:
        verdict = Verdict(outcome=outcome, retry=False, once=True)
        return Answer(200, _view(await site.backend.conclude(job_id, job.lease.token, verdict)))
    except NotInProgress:
        # Another request was faster since the check.
        raise NotInProgress(job_id, _state(await site.backend.job(job_id))) from None
    except LeaseLost:
        raise NotInProgress(job_id, "no longer running") from None


async def page(site: Site, request: Request, _: str) -> Answer:
    """GET /: a page that shows every job and refreshes each second."""
    return Answer(200, PAGE, b"text/html; charset=utf-8", PAGE_HEADERS)


async def to_page(site: Site, request: Request, _: str) -> Answer:
    """GET of the bare prefix: redirects to the page's own address, which ends with a slash, since the page's requests are relative
    to that.
    """
    return Answer(308, b"", headers=b"Location: %b/\r\n" % site.prefixes["simplequeue"].encode())


def _routes(prefix: str) -> list[Route]:
    show = Route("GET", f"{prefix}/", page, Scope.PUBLIC, "Show a page of all jobs", query=Ignored, answers={200: str})
    show.media = ("text/html",)
    every = Route(
        "GET", f"{prefix}/jobs", jobs, Scope.READ, "List all jobs, oldest first", query=Ignored, answers={200: tuple[SimpleJob, ...]}
    )
    every.held = True
    bare = Route("GET", prefix, to_page, Scope.PUBLIC, "Redirect to the page", query=Ignored, answers={308: None})
    return [
        Route(
            "POST", f"{prefix}/jobs/submit", submit, Scope.ENQUEUE, "Submit a job",
            body=SimpleSubmit, query=Ignored, answers={201: SimpleJob, 200: SimpleJob},
            errors=("id_conflict", "too_large", "queue_full", "too_many_queues", "draining"),
        ),
        every,
        Route(
            "GET", f"{prefix}/jobs/next", take, Scope.DEQUEUE, "Take the oldest submitted job",
            query=HeldQuery, answers={200: SimpleJob, 204: None}, errors=("too_many_waiters", "draining"),
        ),
        Route(
            "GET", f"{prefix}/jobs/{{id}}", look, Scope.READ, "Look at a job",
            query=Ignored, answers={200: SimpleJob}, errors=("unknown_job",),
        ),
        Route(
            "POST", f"{prefix}/jobs/complete", complete, Scope.DEQUEUE, "Finish a job",
            body=SimpleComplete, query=Ignored, answers={200: SimpleJob}, errors=("unknown_job", "not_in_progress"),
        ),
        show,
        *([bare] if prefix else []),
    ]  # fmt: skip


SIMPLEQUEUE = Dialect("simplequeue", _routes, Shape(_failure, JSON), SimpleError)
