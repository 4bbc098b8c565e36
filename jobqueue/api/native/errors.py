"""GET /errors: failed attempts, counted by error."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from jobqueue.api.native import views, wire
from jobqueue.api.native.policies import Int
from jobqueue.api.native.stamps import stamp
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.backend.requests.errors import ListErrors
from jobqueue.engine import checks
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request
from jobqueue.past import ErrorGroup


class ErrorsQuery(msgspec.Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """GET /errors."""

    queue: str | None = None
    limit: Int | None = None


class ErrorGroupView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Failed attempts in a queue with the same error. type and line are null if the error has none."""

    id: str
    queue: str
    type: str | None
    line: str | None
    attempts: int
    jobs: int
    first_at: str
    last_at: str
    last_job: str


class ErrorsView(msgspec.Struct, frozen=True):
    """Groups of failed attempts, most recent failure first."""

    errors: list[ErrorGroupView]


def view(group: ErrorGroup) -> ErrorGroupView:
    """See ErrorGroupView."""
    return ErrorGroupView(
        id=group.id,
        queue=group.queue,
        type=group.type or None,
        line=group.line or None,
        attempts=group.attempts,
        jobs=group.jobs,
        first_at=stamp(group.first_at),
        last_at=stamp(group.last_at),
        last_job=group.job,
    )


async def errors(site: Site, request: Request, _: str) -> Answer:
    """GET /errors."""
    asked = ErrorsQuery()
    if "?" in request.head.path:
        asked = wire.decode_query(wire.query_of(request.head.path), ErrorsQuery)
    if asked.queue is not None:
        checks.name("queue", asked.queue)
    limit = site.limits.page_jobs_default if asked.limit is None else asked.limit
    checks.number("limit", limit, 1, site.limits.page_jobs_max)
    found = await site.backend.ask(ListErrors(queue=asked.queue, limit=limit))
    return Answer(200, views.encode(ErrorsView(list(map(view, found)))))


def routes(route: Callable[..., Route]) -> list[Route]:
    """The route."""
    return [
        route(
            "GET",
            "/errors",
            errors,
            Scope.READ,
            "Count failed attempts by error",
            query=ErrorsQuery,
            answers={200: ErrorsView},
            errors=("unknown_queue",),
        )
    ]
