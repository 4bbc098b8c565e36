"""The take-home job queue: integer ids, two types, three statuses. See docs/dialects.md.

A job's integer id is its number. Every job has one, however it was enqueued; numbers start at 1 and are never reused. A consumer's id is
our worker's name. Concluding takes no lease token, since this system has none: the dialect concludes under the live lease, and refuses if
that belongs to another consumer. If the lease changes hands between the check and the conclude, its token no longer matches and the call is
refused, so there is no race.
"""

from __future__ import annotations

import itertools
import re
import time
from http import HTTPStatus

import msgspec
from msgspec import UNSET, UnsetType

from jobqueue.api.dialects.base import Dialect, Given, HeldQuery, Ignored, read, text, wait_of
from jobqueue.api.native import longpoll, wire
from jobqueue.api.problems import Problem, Shape
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.errors import BadRequest, LeaseLost, NotInProgress, UnknownJob
from jobqueue.http.answers import JSON, Answer
from jobqueue.http.request import Request
from jobqueue.model import CONCLUDED, IN_PROGRESS, SUCCEEDED, Job, JobSpec, Lease, Verdict, Want

TYPES = ("TIME_CRITICAL", "NOT_TIME_CRITICAL")
NUMBER_MAX = 2**63 - 1
CONSUMER = "QUEUE_CONSUMER"

_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_NOTHING = b"null"
"""The payload of a job that was enqueued here: such a job has only a type."""


class ClassicEnqueue(msgspec.Struct, frozen=True):
    """A job to enqueue. The key `Type` can be in any case; other keys are ignored."""

    Type: str


class ClassicEnqueued(msgspec.Struct, frozen=True):
    """The id of the enqueued job."""

    ID: int


class ClassicJob(msgspec.Struct, frozen=True):
    """A job."""

    ID: int
    Type: str
    Status: str


class ClassicStats(msgspec.Struct, frozen=True):
    """The number of jobs in each status, over all queues, and the server's uptime in milliseconds."""

    Queued: int
    InProgress: int
    Concluded: int
    UptimeMillis: int


class ClassicError(msgspec.Struct, frozen=True):
    """An error: the name of its HTTP status, and a message."""

    Error: str
    message: str


_KEYS = ["".join(letters) for letters in itertools.product("Tt", "Yy", "Pp", "Ee")]
_GivenEnqueue = msgspec.defstruct("_GivenEnqueue", [(key, msgspec.Raw | UnsetType, UNSET) for key in _KEYS], bases=(Given,), gc=False)
"""Type, in any case. If it occurs in several spellings, the capitalised one is read first."""

_decode_enqueue = wire.Decoder(_GivenEnqueue)
_encode = msgspec.json.Encoder().encode


def _failure(problem: Problem) -> bytes:
    return _encode(ClassicError(HTTPStatus(problem.status).phrase, problem.detail))


def _status(job: Job) -> str:
    return "CONCLUDED" if job.status is CONCLUDED else "IN_PROGRESS" if job.status is IN_PROGRESS else "QUEUED"


def _view(job: Job) -> bytes:
    kind = job.type if job.type in TYPES else TYPES[1]
    return _encode(ClassicJob(job.number, kind, _status(job)))


def _number(text: str) -> int:
    """An id in a path, as a number. Raises BadRequest."""
    if _NUMBER.fullmatch(text) is None or int(text) > NUMBER_MAX:
        raise BadRequest("id", f"{text[:40]!r} is not an id; they are whole numbers from 1 on")
    return int(text)


def _consumer(request: Request) -> str | None:
    """The consumer's id, used as a worker's name. Raises BadRequest."""
    given = request.head.headers.getall(CONSUMER, ())
    if not given:
        return None
    text = given[0].strip()
    if len(given) > 1 or _INTEGER.fullmatch(text) is None:
        raise BadRequest(CONSUMER, f"{', '.join(given)[:40]!r} is not one whole number")
    return str(int(text))


async def enqueue(site: Site, request: Request, _: str) -> Answer:
    """POST or PUT /jobs/enqueue."""
    given = _decode_enqueue(await read(site, request))
    raw = next((found for key in _KEYS if (found := getattr(given, key)) is not UNSET), None)
    if raw is None:
        raise BadRequest("Type", f"is missing; send {' or '.join(TYPES)}")
    kind = text("Type", bytes(raw))
    if kind not in TYPES:
        raise BadRequest("Type", f"is neither {' nor '.join(TYPES)}")
    reply = await site.backend.enqueue(JobSpec(payload=_NOTHING, type=kind))
    return Answer(200, _encode(ClassicEnqueued(reply.job.number)))


async def dequeue(site: Site, request: Request, _: str) -> Answer:
    """GET or POST /jobs/dequeue."""
    await read(site, request)
    want = Want(worker=_consumer(request), who=request.who)
    answer = await longpoll.take_one(site, request, want, wait_of(site, request), _view)
    if answer is None:
        empty = ClassicError(HTTPStatus.NOT_FOUND.phrase, "no job is queued")
        answer = Answer(404, _encode(empty), headers=longpoll.RETRY_AFTER if site.draining else b"")
    return answer


async def conclude(site: Site, request: Request, text: str) -> Answer:
    """POST, PUT or PATCH /jobs/{number}/conclude and /jobs/conclude/{number}."""
    number, consumer = _number(text), _consumer(request)
    await read(site, request)
    job = await site.backend.numbered(number)
    lease = _held_by(job, consumer)
    try:
        return Answer(200, _view(await site.backend.conclude(job.id, lease.token, Verdict(outcome=SUCCEEDED, once=True))))
    except UnknownJob:
        raise UnknownJob(text) from None
    except NotInProgress:
        # Another request was faster since the check.
        raise NotInProgress(text, "CONCLUDED") from None
    except LeaseLost:
        raise NotInProgress(text, "no longer held by you") from None


def _held_by(job: Job, consumer: str | None) -> Lease:
    """The lease on a job, if `consumer` can end it. Raises NotInProgress."""
    lease = job.lease
    if lease is None:
        raise NotInProgress(str(job.number), _status(job))
    if consumer is not None and lease.worker is not None and consumer != lease.worker:
        raise NotInProgress(str(job.number), "IN_PROGRESS with another consumer")
    return lease


async def look(site: Site, request: Request, text: str) -> Answer:
    """GET /jobs/{number}."""
    return Answer(200, _view(await site.backend.numbered(_number(text))))


async def stats(site: Site, request: Request, _: str) -> Answer:
    """GET /jobs/stats."""
    queues = await site.backend.queues()
    counts = ClassicStats(
        Queued=sum(queue.queued + queue.scheduled for queue in queues),
        InProgress=sum(queue.in_progress for queue in queues),
        Concluded=sum(
            queue.succeeded_total + queue.failed_total + queue.cancelled_total + queue.expired_total - queue.retried_total
            for queue in queues
        ),
        UptimeMillis=int((time.monotonic() - site.life.started) * 1_000),
    )
    return Answer(200, _encode(counts))


def _routes(prefix: str) -> list[Route]:
    def take(method: str) -> Route:
        return Route(
            method, f"{prefix}/jobs/dequeue", dequeue, Scope.DEQUEUE, "Take a job",
            query=HeldQuery, answers={200: ClassicJob}, errors=("unknown_job", "too_many_waiters", "draining"),
        )  # fmt: skip

    def submit(method: str) -> Route:
        return Route(
            method, f"{prefix}/jobs/enqueue", enqueue, Scope.ENQUEUE, "Submit a job",
            body=ClassicEnqueue, query=Ignored, answers={200: ClassicEnqueued}, errors=("queue_full", "too_many_queues", "draining"),
        )  # fmt: skip

    def finish(method: str, path: str) -> Route:
        return Route(
            method, prefix + path, conclude, Scope.DEQUEUE, "Finish a job",
            query=Ignored, answers={200: ClassicJob}, errors=("unknown_job", "not_in_progress"),
        )  # fmt: skip

    places = ("/jobs/{number}/conclude", "/jobs/conclude/{number}")
    return [
        *(submit(method) for method in ("POST", "PUT")),
        *(take(method) for method in ("GET", "POST")),
        *(finish(method, place) for place in places for method in ("POST", "PUT", "PATCH")),
        Route("GET", f"{prefix}/jobs/stats", stats, Scope.READ, "Count jobs by status", query=Ignored, answers={200: ClassicStats}),
        Route(
            "GET", f"{prefix}/jobs/{{number}}", look, Scope.READ, "Look at a job",
            query=Ignored, answers={200: ClassicJob}, errors=("unknown_job",),
        ),
    ]  # fmt: skip


CLASSIC = Dialect("classic", _routes, Shape(_failure, JSON), ClassicError)
