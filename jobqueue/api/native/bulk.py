"""POST /jobs/bulk, redrives, and tasks."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from jobqueue.api.native import views
from jobqueue.api.native.stamps import stamp
from jobqueue.api.native.wire import Decoder, EditBody, Time, decode_nothing, seconds
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.backend.requests.bulk import BulkJobs
from jobqueue.backend.requests.tasks import CancelTask, GetTask, ListTasks, Redrive
from jobqueue.engine.bulk import Action
from jobqueue.engine.filters import Matching
from jobqueue.engine.tasks import TaskState, TaskStats
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request
from jobqueue.model import JobChange, Outcome, Status


class LetterFilter(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """Which dead letters a redrive moves; a missing field matches all."""

    type: str | None = None
    key: str | None = None
    tag: str | None = None
    error: str | None = None
    created_after: Time | None = None
    created_before: Time | None = None
    error_group: str | None = None

    def matching(self) -> Matching:
        """The filter as the backend takes it."""
        said: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        said["created_after"], said["created_before"] = seconds(self.created_after), seconds(self.created_before)
        return Matching(**said)


class BulkFilter(LetterFilter, forbid_unknown_fields=True, kw_only=True, gc=False):
    """Which jobs to change; a missing field matches all, but at least one field is required."""

    status: Status | None = None
    outcome: Outcome | None = None
    queue: str | None = None
    worker: str | None = None
    retrying: bool | None = None


class BulkBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """POST /jobs/bulk."""

    action: Action
    filter: BulkFilter
    edit: EditBody | UnsetType = UNSET
    dry_run: bool = False
    cursor: str | None = None


class RedriveBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """POST /queues/{name}/redrive."""

    to: str | None = None
    rate: float | None = None
    filter: LetterFilter = msgspec.field(default_factory=LetterFilter)
    dry_run: bool = False
    as_new: bool = False


class BulkView(msgspec.Struct, frozen=True):
    """The result for one part of the jobs."""

    matched: int
    done: int
    refused: dict[str, int]
    cursor: str | None


class TaskView(msgspec.Struct, frozen=True):
    """A task: work that continues after the request that started it was answered."""

    id: str
    kind: str
    queue: str
    to: str | None
    rate: float | None
    state: TaskState
    total: int
    done: int
    started_at: str
    ended_at: str | None
    error: str | None


class TasksView(msgspec.Struct, frozen=True):
    """Tasks, newest first."""

    tasks: list[TaskView]


_decode_bulk = Decoder(BulkBody)
_decode_redrive = Decoder(RedriveBody)


def _task(stats: TaskStats) -> TaskView:
    return TaskView(
        stats.id,
        stats.kind,
        stats.queue,
        stats.to,
        stats.rate,
        stats.state,
        stats.total,
        stats.done,
        stamp(stats.started_at),
        None if stats.ended_at is None else stamp(stats.ended_at),
        stats.error,
    )


async def bulk(site: Site, request: Request, _: str) -> Answer:
    """POST /jobs/bulk."""
    asked: BulkBody = _decode_bulk(await site.read_body(request))
    done = await site.backend.ask(
        BulkJobs(
            action=asked.action,
            matching=asked.filter.matching(),
            change=JobChange() if asked.edit is UNSET else asked.edit.change("edit."),
            dry_run=asked.dry_run,
            cursor=asked.cursor,
        )
    )
    return Answer(200, views.encode(BulkView(done.matched, done.done, done.refused, done.cursor)))


async def redrive(site: Site, request: Request, name: str) -> Answer:
    """POST /queues/{name}/redrive. A missing body is the same as {}."""
    body = await site.read_body(request)
    asked: RedriveBody = _decode_redrive(body) if body else RedriveBody()
    stats = await site.backend.ask(
        Redrive(queue=name, to=asked.to, rate=asked.rate, matching=asked.filter.matching(), dry_run=asked.dry_run, as_new=asked.as_new)
    )
    return Answer(200 if asked.dry_run else 202, views.encode(_task(stats)))


async def tasks(site: Site, request: Request, _: str) -> Answer:
    """GET /tasks."""
    return Answer(200, views.encode(TasksView([_task(stats) for stats in await site.backend.ask(ListTasks())])))


async def task(site: Site, request: Request, task_id: str) -> Answer:
    """GET /tasks/{id}."""
    return Answer(200, views.encode(_task(await site.backend.ask(GetTask(id=task_id)))))


async def cancel_task(site: Site, request: Request, task_id: str) -> Answer:
    """DELETE /tasks/{id}."""
    body = await site.read_body(request)
    if body:
        decode_nothing(body)
    return Answer(200, views.encode(_task(await site.backend.ask(CancelTask(id=task_id)))))


def routes(route: Any) -> list[Route]:
    """The routes. route: makes a Route, with its path behind the API's prefix."""
    closed = ("draining",)
    return [
        route(
            "POST",
            "/jobs/bulk",
            bulk,
            Scope.ADMIN,
            "Do one operation on many jobs",
            body=BulkBody,
            answers={200: BulkView},
            errors=("too_large", "unsupported", *closed),
        ),
        route(
            "POST",
            "/queues/{name}/redrive",
            redrive,
            Scope.ADMIN,
            "Move dead letters back",
            body=RedriveBody,
            answers={200: TaskView, 202: TaskView},
            errors=("unknown_queue", "too_many_tasks", "unsupported", *closed),
        ),
        route("GET", "/tasks", tasks, Scope.READ, "List tasks, newest first", answers={200: TasksView}),
        route("GET", "/tasks/{id}", task, Scope.READ, "Look at a task", answers={200: TaskView}, errors=("unknown_task",)),
        route("DELETE", "/tasks/{id}", cancel_task, Scope.ADMIN, "Cancel a task", answers={200: TaskView}, errors=("unknown_task",)),
    ]
