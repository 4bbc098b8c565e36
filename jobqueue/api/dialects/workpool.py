"""A job server with its own workers: a name and a body in, a status and a result out. See docs/dialects.md.

A job's name is our type and its body our payload. The jobs are run by the pool of `jobqueue serve --pool`, or by any other worker.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from jobqueue.api.dialects.base import Dialect, Given, HeldQuery, Ignored, read, renamed, text, wait_of
from jobqueue.api.native import longpoll, wire
from jobqueue.api.native.stamps import stamp
from jobqueue.api.problems import Problem, Shape
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.errors import BadRequest, TooLarge, missing
from jobqueue.http.answers import JSON, Answer
from jobqueue.http.body import check_depth
from jobqueue.http.request import Request
from jobqueue.model import CONCLUDED, FAILED, IN_PROGRESS, SUCCEEDED, Job, JobSpec

PoolStatus = Literal["queued", "in-progress", "done", "failed"]

_NAMES = {"type": "name", "payload": "body"}
"""This system's names for our fields."""


class PoolSubmit(msgspec.Struct, frozen=True):
    """A job to run. Other fields are ignored."""

    name: str
    body: Raw


class PoolJob(msgspec.Struct, frozen=True):
    """A new job."""

    id: str
    name: str
    body: Raw
    status: PoolStatus
    createdDateTime: str


class PoolCreated(msgspec.Struct, frozen=True):
    """The answer to a submit."""

    message: str
    createdJob: PoolJob


class PoolState(msgspec.Struct, frozen=True):
    """A job's status."""

    id: str
    status: PoolStatus


class PoolResult(msgspec.Struct, frozen=True):
    """How a job ended: with a result if it is done, with an error if it failed."""

    id: str
    status: PoolStatus
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class PoolError(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error, and the field that caused it, if any."""

    message: str
    field: str | None = None


class _GivenSubmit(Given):
    name: Raw | UnsetType = UNSET
    body: Raw | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode
_decode_submit = wire.Decoder(_GivenSubmit)


def _failure(problem: Problem) -> bytes:
    return _encode(PoolError(problem.detail, problem.field))


def _status(job: Job) -> PoolStatus:
    if job.status is CONCLUDED:
        return "done" if job.outcome is SUCCEEDED else "failed"
    return "in-progress" if job.status is IN_PROGRESS else "queued"


def _spec(given: _GivenSubmit) -> tuple[str, JobSpec]:
    """The job that a submit describes. Raises BadRequest."""
    if given.name is UNSET:
        raise missing("name")
    if given.body is UNSET:
        raise missing("body")
    name = text("name", bytes(given.name))
    if name is None:
        raise BadRequest("name", "is not a string")
    check_depth("body", body := bytes(given.body))
    return name, JobSpec(payload=body, type=name)


async def submit(site: Site, request: Request, _: str) -> Answer:
    """POST /job."""
    name, spec = _spec(_decode_submit(await read(site, request)))
    try:
        job = (await site.backend.enqueue(spec)).job
    except (BadRequest, TooLarge) as error:
        raise renamed(error, _NAMES) from None
    created = PoolJob(job.id, name, Raw(job.payload), _status(job), stamp(job.created_at))
    return Answer(201, _encode(PoolCreated("job created", created)))


async def status(site: Site, request: Request, job_id: str) -> Answer:
    """GET /status/{id}."""
    job = await site.backend.job(site.job_id(job_id))
    return Answer(200, _encode(PoolState(job.id, _status(job))))


async def result(site: Site, request: Request, job_id: str) -> Answer:
    """GET /result/{id}: 200 if the job is concluded, otherwise 202; with `wait`, held until it is concluded."""
    wait = wait_of(site, request)
    job = await longpoll.waited(site, request, site.job_id(job_id), wait)
    end = job.conclusion
    if end is None:
        headers = longpoll.RETRY_AFTER if wait and site.draining else b""
        return Answer(202, _encode(PoolState(job.id, _status(job))), headers=headers)
    if end.outcome is SUCCEEDED:
        return Answer(200, _encode(PoolResult(job.id, "done", result=Raw(end.result or b"null"))))
    # If no error ended the job (it was cancelled or expired, or its worker gave none), the only information is why it ended. An error that
    # it still has is that of an earlier attempt.
    error = job.error if end.outcome is FAILED and job.error is not None else b'"%b"' % end.outcome.encode()
    return Answer(200, _encode(PoolResult(job.id, "failed", error=Raw(error))))


def _routes(prefix: str) -> list[Route]:
    return [
        Route(
            "POST", f"{prefix}/job", submit, Scope.ENQUEUE, "Submit a job",
            body=PoolSubmit, query=Ignored, answers={201: PoolCreated}, errors=("too_large", "queue_full", "too_many_queues", "draining"),
        ),
        Route(
            "GET", f"{prefix}/status/{{id}}", status, Scope.READ, "Read a job's status",
            query=Ignored, answers={200: PoolState}, errors=("unknown_job",),
        ),
        Route(
            "GET", f"{prefix}/result/{{id}}", result, Scope.READ, "Read a job's result, or wait for it",
            query=HeldQuery, answers={200: PoolResult, 202: PoolState}, errors=("unknown_job", "too_many_waiters"),
        ),
    ]  # fmt: skip


WORKPOOL = Dialect("workpool", _routes, Shape(_failure, JSON), PoolError)
