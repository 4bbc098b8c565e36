"""Workers: the list of workers, and stopping one from taking jobs for now."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from jobqueue.about import QUIET_SECONDS, About, Doing, WorkerStats
from jobqueue.api.native import views, wire
from jobqueue.api.native.policies import Int
from jobqueue.api.native.stamps import stamp
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.backend.requests.workers import ListWorkers, SetQuiet
from jobqueue.engine import checks
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request

QUIET_HEADERS = f"Jobqueue-Quiet: true\r\nRetry-After: {QUIET_SECONDS}\r\n".encode()
"""The header line of an answer without jobs to a worker that is quiet."""


class WorkersQuery(msgspec.Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """GET /workers."""

    queue: str | None = None
    limit: Int | None = None
    cursor: str | None = None


class WorkerView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A worker: what it reports about itself, and what the server knows about it."""

    name: str
    state: Doing
    quiet: bool
    leases: int
    queues: tuple[str, ...]
    host: str | None
    concurrency: int | None
    version: str | None
    started: str | None
    seen_at: str
    instances: int


class WorkersView(msgspec.Struct, frozen=True):
    """A page of workers, by name. cursor is for the next page, null at the end."""

    workers: list[WorkerView]
    cursor: str | None


def about_of(asked: wire.DequeueBody) -> About | None:
    """What a dequeue reports about its worker, None if nothing."""
    if asked.host is None and asked.concurrency is None and asked.version is None and asked.started is None:
        return None
    return About(host=asked.host, concurrency=asked.concurrency, version=asked.version, started=wire.seconds(asked.started))


def view(stats: WorkerStats) -> WorkerView:
    """See WorkerView."""
    about = stats.about
    return WorkerView(
        name=stats.name,
        state=stats.doing,
        quiet=stats.quiet,
        leases=stats.leases,
        queues=stats.queues,
        host=about.host,
        concurrency=about.concurrency,
        version=about.version,
        started=None if about.started is None else stamp(about.started),
        seen_at=stamp(stats.seen_at),
        instances=stats.instances,
    )


async def workers(site: Site, request: Request, _: str) -> Answer:
    """GET /workers."""
    asked = WorkersQuery()
    if "?" in request.head.path:
        asked = wire.decode_query(wire.query_of(request.head.path), WorkersQuery)
    if asked.queue is not None:
        checks.name("queue", asked.queue)
    limit = site.limits.page_jobs_default if asked.limit is None else asked.limit
    checks.number("limit", limit, 1, site.limits.page_jobs_max)
    found, cursor = await site.backend.ask(ListWorkers(after=asked.cursor or "", limit=limit, queue=asked.queue))
    return Answer(200, views.encode(WorkersView(list(map(view, found)), cursor)))


async def quiet(site: Site, request: Request, name: str) -> Answer:
    """POST /workers/{name}/quiet."""
    return await _set_quiet(site, request, name, True)


async def resume(site: Site, request: Request, name: str) -> Answer:
    """POST /workers/{name}/resume."""
    return await _set_quiet(site, request, name, False)


async def _set_quiet(site: Site, request: Request, name: str, quiet: bool) -> Answer:
    body = await site.read_body(request)
    if body:
        wire.decode_nothing(body)
    return Answer(200, views.encode(view(await site.backend.ask(SetQuiet(name=name, quiet=quiet)))))


def routes(route: Callable[..., Route]) -> list[Route]:
    """The routes for workers."""
    read, admin, one = Scope.READ, Scope.ADMIN, "/workers/{name}"
    errors = ("unknown_worker", "draining")
    return [
        route("GET", "/workers", workers, read, "List workers, by name", query=WorkersQuery, answers={200: WorkersView}),
        route("POST", f"{one}/quiet", quiet, admin, "Quiet a worker: give it no jobs", answers={200: WorkerView}, errors=errors),
        route("POST", f"{one}/resume", resume, admin, "Resume a worker: give it jobs again", answers={200: WorkerView}, errors=errors),
    ]
