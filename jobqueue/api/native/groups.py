"""Groups in the native API: bodies, views, handlers and routes. Counting and enqueueing are in engine/groups.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from jobqueue.api.native import views, wire
from jobqueue.api.native.longpoll import RETRY_AFTER, wait_seconds
from jobqueue.api.native.native import read_nothing
from jobqueue.api.native.stamps import stamp
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.backend.requests.groups import CancelGroup, CloseGroup, CreateGroup, GetGroup, ListGroups
from jobqueue.engine import checks
from jobqueue.errors import BadRequest
from jobqueue.group import CallbackState, CallbackStats, GroupSpec, GroupStats
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request
from jobqueue.model import DEFAULT_QUEUE, JobSpec

PAGE = 100
"""The default number of groups on a page."""


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A request body: unknown fields are refused."""


class GroupBody(_Body, kw_only=True):
    """POST /groups."""

    id: str | None = None
    queue: str = DEFAULT_QUEUE
    on_concluded: wire.EnqueueBody | None = None
    on_succeeded: wire.EnqueueBody | None = None

    def spec(self) -> GroupSpec:
        """The body as the backend takes it. Raises BadRequest."""
        return GroupSpec(
            id=self.id,
            queue=self.queue,
            on_concluded=_job("on_concluded", self.on_concluded),
            on_succeeded=_job("on_succeeded", self.on_succeeded),
        )


def _job(field: str, body: wire.EnqueueBody | None) -> JobSpec | None:
    try:
        return None if body is None else body.spec()
    except BadRequest as error:
        raise BadRequest(f"{field}.{error.field}", error.reason) from None


class GroupQuery(_Body, kw_only=True):
    """GET /groups/{id}."""

    wait: float = 0.0


class GroupsQuery(_Body, kw_only=True):
    """GET /groups."""

    limit: Annotated[int, Meta(ge=-(2**62), le=2**62)] | None = None
    cursor: str | None = None


_decode_group = wire.Decoder(GroupBody)


class CallbackView(msgspec.Struct, frozen=True):
    """A job that a group enqueues when its members have ended.

    job is null until it is enqueued; problem: why it could not be enqueued yet.
    """

    state: CallbackState
    queue: str
    job: str | None
    problem: str | None


class GroupView(msgspec.Struct, frozen=True, kw_only=True):
    """A group: its members, how many of them have ended and how, and the jobs that it enqueues then.

    concluded: it is closed, and all members have ended. cancel_requested: it was cancelled.
    """

    id: str
    queue: str
    created_at: str
    closed: bool
    concluded: bool
    cancel_requested: bool
    members: int
    live: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    on_concluded: CallbackView | None
    on_succeeded: CallbackView | None


class GroupsView(msgspec.Struct, frozen=True):
    """A page of groups, by id. cursor is for the next page, null at the end."""

    groups: list[GroupView]
    cursor: str | None


def _callback(stats: CallbackStats | None) -> CallbackView | None:
    return None if stats is None else CallbackView(stats.state, stats.queue, stats.job, stats.problem)


def group_view(stats: GroupStats) -> GroupView:
    """See GroupView."""
    return GroupView(
        id=stats.id,
        queue=stats.queue,
        created_at=stamp(stats.created_at),
        closed=stats.closed,
        concluded=stats.concluded,
        cancel_requested=stats.cancelled,
        members=stats.members,
        live=stats.live,
        succeeded=stats.succeeded,
        failed=stats.failed,
        cancelled=stats.cancelled_jobs,
        expired=stats.expired,
        on_concluded=_callback(stats.on_concluded),
        on_succeeded=_callback(stats.on_succeeded),
    )


def _answer(stats: GroupStats, status: int = 200, headers: bytes = b"") -> Answer:
    return Answer(status, views.encode(group_view(stats)), headers=headers)


async def create(site: Site, request: Request, _: str) -> Answer:
    """POST /groups. A missing body is the same as {}."""
    body = await site.read_body(request)
    asked: GroupBody = _decode_group(body) if body else GroupBody()
    stats, made = await site.backend.ask(CreateGroup(spec=asked.spec()))
    return _answer(stats, 201 if made else 200, f"Location: {site.native_prefix}/groups/{stats.id}\r\n".encode())


async def groups(site: Site, request: Request, _: str) -> Answer:
    """GET /groups."""
    asked = wire.decode_query(wire.query_of(request.head.path), GroupsQuery)
    limit = PAGE if asked.limit is None else asked.limit
    checks.number("limit", limit, 1, site.limits.page_queues_max)
    found, cursor = await site.backend.ask(ListGroups(after=asked.cursor or "", limit=limit))
    return Answer(200, views.encode(GroupsView([group_view(stats) for stats in found], cursor)))


async def group(site: Site, request: Request, group_id: str) -> Answer:
    """GET /groups/{id}: the group. With `wait`, held until it has concluded or the wait has passed."""
    wait = 0.0
    if "?" in request.head.path:
        wait = wait_seconds(site, wire.decode_query(wire.query_of(request.head.path), GroupQuery).wait)
    if wait > 0 and site.secured:
        request.queues = ((await site.backend.ask(GetGroup(id=group_id))).queue,)
    return _answer(await site.backend.ask(GetGroup(id=group_id, wait=wait)), headers=RETRY_AFTER if wait and site.draining else b"")


async def close(site: Site, request: Request, group_id: str) -> Answer:
    """POST /groups/{id}/close."""
    await read_nothing(site, request)
    return _answer(await site.backend.ask(CloseGroup(id=group_id)))


async def cancel(site: Site, request: Request, group_id: str) -> Answer:
    """POST /groups/{id}/cancel."""
    await read_nothing(site, request)
    return _answer(await site.backend.ask(CancelGroup(id=group_id)))


def routes(route: Callable[..., Route]) -> list[Route]:
    """The routes for groups. A token that can enqueue jobs can use groups."""
    E, R = Scope.ENQUEUE, Scope.READ
    unknown, closed = "unknown_group", "draining"
    return [
        route("POST", "/groups", create, E, "Create a group", body=GroupBody, answers={201: GroupView, 200: GroupView},
              errors=("id_conflict", "too_large", "too_many_groups", "queue_full", "unsupported", closed)),
        route("GET", "/groups", groups, R, "List groups, by id", query=GroupsQuery, answers={200: GroupsView}),
        route("GET", "/groups/{id}", group, R, "Look at a group, or wait for its end", query=GroupQuery, answers={200: GroupView},
              errors=(unknown, "too_many_waiters", "storage_unavailable")),
        route("POST", "/groups/{id}/close", close, E, "Close a group to new jobs", answers={200: GroupView}, errors=(unknown, closed)),
        route("POST", "/groups/{id}/cancel", cancel, E, "Cancel all jobs of a group", answers={200: GroupView}, errors=(unknown, closed)),
    ]  # fmt: skip
