"""Jobs' logs: adding lines, and reading them as they arrive."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from jobqueue.api.native import views, wire
from jobqueue.api.native.lines import Line, part_of
from jobqueue.api.native.longpoll import RETRY_AFTER, wait_seconds
from jobqueue.api.native.policies import Int
from jobqueue.api.native.stamps import stamp
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.backend.requests.logs import AppendLog, LogPage, ReadLog
from jobqueue.engine import checks
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request
from jobqueue.joblog import LINES_MAX, Level
from jobqueue.model import Outcome, Status


class LogBody(msgspec.Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """POST /jobs/{id}/log."""

    lease: str
    lines: tuple[Line, ...]
    offset: Int | None = None


class LogQuery(msgspec.Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """GET /jobs/{id}/log."""

    after: Int = 0
    limit: Int | None = None
    wait: float = 0.0


class LogStateView(msgspec.Struct, frozen=True, gc=False):
    """A job's log as a whole: how many lines were written, and how many of them, the oldest, were dropped."""

    id: str
    lines: int
    dropped: int


class LineView(msgspec.Struct, frozen=True, gc=False):
    """A line of a job's log."""

    number: int
    time: str
    level: Level
    attempt: int
    text: str


class LogView(msgspec.Struct, frozen=True, gc=False):
    """Lines of a job's log, in order. ended: the job is concluded, and these are its last lines."""

    id: str
    status: Status
    outcome: Outcome | None
    lines: list[LineView]
    after: int
    dropped: int
    ended: bool


_decode = wire.Decoder(LogBody)


async def append(site: Site, request: Request, job_id: str) -> Answer:
    """POST /jobs/{id}/log."""
    body = await site.read_body(request)
    wire.check_length(body, "lines", LINES_MAX)
    asked: LogBody = _decode(body)
    job_id = site.job_id(job_id)
    state = await site.backend.ask(AppendLog(id=job_id, token=asked.lease, part=part_of(asked.lines, asked.offset)))
    return Answer(200, views.encode(LogStateView(job_id, state.lines, state.dropped)))


async def read(site: Site, request: Request, job_id: str) -> Answer:
    """GET /jobs/{id}/log. With `wait`, held until there are lines after `after`, the job is concluded or the wait has passed."""
    asked = LogQuery()
    if "?" in request.head.path:
        asked = wire.decode_query(wire.query_of(request.head.path), LogQuery)
    checks.number("after", asked.after, 0, 2**53)
    limit = LINES_MAX if asked.limit is None else asked.limit
    checks.number("limit", limit, 1, LINES_MAX)
    wait = wait_seconds(site, asked.wait)
    job_id = site.job_id(job_id)
    if wait > 0 and site.secured:
        request.queues = ((await site.backend.job(job_id)).queue,)
    page = await site.backend.ask(ReadLog(id=job_id, after=asked.after, limit=limit, wait=wait))
    return Answer(200, views.encode(_view(job_id, page)), headers=RETRY_AFTER if wait and site.draining else b"")


def _view(job_id: str, page: LogPage) -> LogView:
    lines = [LineView(line.number, stamp(line.at), line.level, line.attempt, line.text) for line in page.lines]
    return LogView(job_id, page.status, page.outcome, lines, page.after, page.dropped, page.ended)


def routes(route: Callable[..., Route]) -> list[Route]:
    """The routes for jobs' logs."""
    return [
        route(
            "POST",
            "/jobs/{id}/log",
            append,
            Scope.DEQUEUE,
            "Add lines to a job's log",
            body=LogBody,
            answers={200: LogStateView},
            errors=("unknown_job", "lease_lost", "not_in_progress", "queue_full"),
        ),
        route(
            "GET",
            "/jobs/{id}/log",
            read,
            Scope.READ,
            "Read a job's log, or wait for more of it",
            query=LogQuery,
            answers={200: LogView},
            errors=("unknown_job", "too_many_waiters", "storage_unavailable"),
        ),
    ]
