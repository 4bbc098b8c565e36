"""The history of counts and times of all queues, or of one queue, over the last hour or day, in steps."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from jobqueue.api.native import views, wire
from jobqueue.api.native.policies import Int
from jobqueue.api.native.stamps import stamp
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.backend.requests.samples import GetHistory, SpanName
from jobqueue.engine import checks
from jobqueue.engine.samples import DAY, HOUR
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request

STEPS_MAX = max(HOUR.steps, DAY.steps)

Counts = list[int | None]
Seconds = list[float | None]


class HistoryQuery(msgspec.Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """GET /history and GET /queues/{name}/history."""

    span: SpanName = "hour"
    limit: Int | None = None


class HistoryView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Counts and times. Each list has one value per step, starting with the step at begins_at; null if there is no value."""

    queue: str | None
    span: SpanName
    step_seconds: int
    begins_at: str
    enqueued: Counts
    concluded: Counts
    failed: Counts
    attempts_failed: Counts
    queued: Counts
    in_progress: Counts
    oldest_seconds: Seconds
    pickup_p50_seconds: Seconds
    pickup_p95_seconds: Seconds
    duration_p50_seconds: Seconds
    duration_p95_seconds: Seconds


async def history(site: Site, request: Request, _: str) -> Answer:
    """GET /history."""
    return await _answer(site, request, None)


async def queue_history(site: Site, request: Request, name: str) -> Answer:
    """GET /queues/{name}/history."""
    return await _answer(site, request, name)


async def _answer(site: Site, request: Request, queue: str | None) -> Answer:
    asked = HistoryQuery()
    if "?" in request.head.path:
        asked = wire.decode_query(wire.query_of(request.head.path), HistoryQuery)
    if asked.limit is not None:
        checks.number("limit", asked.limit, 1, STEPS_MAX)
    found = await site.backend.ask(GetHistory(span=asked.span, queue=queue))
    steps = len(found.columns["queued"])
    first = 0 if asked.limit is None else max(0, steps - asked.limit)
    view = HistoryView(
        queue=queue,
        span=asked.span,
        step_seconds=found.step_seconds,
        begins_at=stamp(found.begins_at + first * found.step_seconds),
        **{name: column[first:] for name, column in found.columns.items()},  # type: ignore[arg-type] # ints in the columns that are counts
    )
    return Answer(200, views.encode(view))


def routes(route: Callable[..., Route]) -> list[Route]:
    """The routes for the history."""
    read, answers = Scope.READ, {200: HistoryView}
    return [
        route("GET", "/history", history, read, "Read counts and times of the last hour or day", query=HistoryQuery, answers=answers),
        route(
            "GET",
            "/queues/{name}/history",
            queue_history,
            read,
            "Read a queue's counts and times of the last hour or day",
            query=HistoryQuery,
            answers=answers,
            errors=("unknown_queue",),
        ),
    ]
