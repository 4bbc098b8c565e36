"""Schedules in the native API: bodies, views, handlers and routes. What happens at a slot is in engine/schedules.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from jobqueue.api.native import views, wire
from jobqueue.api.native.headers import headers_view
from jobqueue.api.native.native import read_nothing
from jobqueue.api.native.stamps import stamp
from jobqueue.api.routes import Route, Scope, place_of
from jobqueue.api.site import Site
from jobqueue.backend.requests.schedules import (
    Backfill,
    ChangeSchedule,
    DeleteSchedule,
    GetSchedule,
    ListSchedules,
    PutSchedule,
    RunSchedule,
)
from jobqueue.engine import checks
from jobqueue.errors import BadRequest, missing
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request
from jobqueue.model import JobSpec
from jobqueue.schedule import CATCH_UP_SECONDS, UTC_NAME, Missed, Overlap, Schedule, ScheduleChange, ScheduleStats

PAGE = 100
"""The default number of schedules on a page."""


# Requests.


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A request body: unknown fields are refused."""


class ScheduledJob(wire.EnqueueBody, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False):
    """The job that each slot makes: the body of an enqueue, without id and run_at. Lists leave out payload."""

    payload: Raw | UnsetType = UNSET  # type: ignore[assignment]

    def spec(self) -> JobSpec:
        """The job as the engine takes it. Raises BadRequest."""
        if self.payload is UNSET:
            raise missing("job.payload")
        try:
            return super().spec()
        except BadRequest as error:
            raise BadRequest(f"job.{error.field}", error.reason) from None


class ScheduleBody(_Body, kw_only=True):
    """PUT /schedules/{name}: the whole schedule; missing fields have their defaults."""

    job: ScheduledJob
    cron: str | None = None
    every: float | None = None
    timezone: str = UTC_NAME
    missed: Missed = "last"
    catch_up: float = CATCH_UP_SECONDS
    overlap: Overlap = "skip"
    jitter: float = 0.0
    paused: bool = False
    starts_at: wire.Time | None = None
    ends_at: wire.Time | None = None

    def schedule(self) -> Schedule:
        """The schedule as the backend takes it. Raises BadRequest."""
        said = {name: getattr(self, name) for name in self.__struct_fields__}
        said |= {"job": self.job.spec(), "starts_at": wire.seconds(self.starts_at), "ends_at": wire.seconds(self.ends_at)}
        return Schedule(**said)


class SchedulePatch(_Body, kw_only=True):
    """PATCH /schedules/{name}: some fields of a schedule; missing fields stay as they are. A cron removes the every, and vice versa."""

    job: ScheduledJob | UnsetType = UNSET
    cron: str | UnsetType | None = UNSET
    every: float | UnsetType | None = UNSET
    timezone: str | UnsetType = UNSET
    missed: Missed | UnsetType = UNSET
    catch_up: float | UnsetType = UNSET
    overlap: Overlap | UnsetType = UNSET
    jitter: float | UnsetType = UNSET
    paused: bool | UnsetType = UNSET
    starts_at: wire.Time | UnsetType | None = UNSET
    ends_at: wire.Time | UnsetType | None = UNSET

    def change(self) -> ScheduleChange:
        """The change as the backend takes it. Raises BadRequest."""
        said = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.job is not UNSET:
            said["job"] = self.job.spec()
        for field in ("starts_at", "ends_at"):
            if said[field] is not UNSET:
                said[field] = wire.seconds(said[field])
        return ScheduleChange(**said)


class BackfillBody(_Body, kw_only=True):
    """POST /schedules/{name}/backfill."""

    start: wire.Time = msgspec.field(name="from")
    end: wire.Time = msgspec.field(name="to")


class SchedulesQuery(_Body, kw_only=True):
    """GET /schedules."""

    limit: Annotated[int, Meta(ge=-(2**62), le=2**62)] | None = None
    cursor: str | None = None


_decode_schedule = wire.Decoder(ScheduleBody)
_decode_patch = wire.Decoder(SchedulePatch)
_decode_backfill = wire.Decoder(BackfillBody)


# Answers.


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule: its settings, its next slots and its state. Lists show only one next slot, and the job without its payload."""

    name: str
    job: ScheduledJob
    cron: str | None
    every: float | None
    timezone: str
    missed: Missed
    catch_up: float
    overlap: Overlap
    jitter: float
    paused: bool
    paused_at: str | None
    paused_by: str | None
    starts_at: str | None
    ends_at: str | None
    begun_at: str
    next: list[str]
    last_at: str | None
    last_job: str | None
    running: list[str]
    waiting: list[str]
    made: int
    skipped: int
    problem: str | None


class SchedulesView(msgspec.Struct, frozen=True):
    """A page of schedules, by name. cursor is for the next page, null at the end."""

    schedules: list[ScheduleView]
    cursor: str | None


class BackfilledView(msgspec.Struct, frozen=True):
    """The ids of the jobs of the requested slots, in order, including jobs that wait for earlier ones."""

    schedule: str
    jobs: list[str]


_DEFAULTS = dict(zip(JobSpec.__struct_fields__[-len(JobSpec.__struct_defaults__) :], JobSpec.__struct_defaults__, strict=True))


def _job(spec: JobSpec, whole: bool) -> ScheduledJob:
    # Compared by value: in a schedule from another server a default is a different object, and would not be left out.
    said = {name: value for name in JobSpec.__struct_fields__ if (value := getattr(spec, name)) != _DEFAULTS.get(name, UNSET)}
    said["payload"] = Raw(spec.payload) if whole else UNSET
    if spec.headers:
        said["headers"] = headers_view(spec.headers)
    return ScheduledJob(**said)


def _optional(at: float | None) -> str | None:
    return None if at is None else stamp(at)


def schedule_view(stats: ScheduleStats, whole: bool = True) -> ScheduleView:
    """See ScheduleView; whole: with the job's payload."""
    schedule = stats.schedule
    return ScheduleView(
        name=stats.name,
        job=_job(schedule.job, whole),
        cron=schedule.cron,
        every=schedule.every,
        timezone=schedule.timezone,
        missed=schedule.missed,
        catch_up=schedule.catch_up,
        overlap=schedule.overlap,
        jitter=schedule.jitter,
        paused=schedule.paused,
        paused_at=views.paused_at(stats.pause),
        paused_by=views.paused_by(stats.pause),
        starts_at=_optional(schedule.starts_at),
        ends_at=_optional(schedule.ends_at),
        begun_at=stamp(stats.begun_at),
        next=[stamp(at) for at in stats.next],
        last_at=_optional(stats.last_at),
        last_job=stats.last_job,
        running=list(stats.running),
        waiting=[stamp(at) for at in stats.waiting],
        made=stats.made_total,
        skipped=stats.skipped_total,
        problem=stats.problem,
    )


# The operations.


def _answer(stats: ScheduleStats) -> Answer:
    return Answer(200, views.encode(schedule_view(stats)))


async def schedules(site: Site, request: Request, _: str) -> Answer:
    """GET /schedules."""
    asked = wire.decode_query(wire.query_of(request.head.path), SchedulesQuery)
    limit = PAGE if asked.limit is None else asked.limit
    checks.number("limit", limit, 1, site.limits.page_queues_max)
    found, cursor = await site.backend.ask(ListSchedules(after=asked.cursor or "", limit=limit))
    return Answer(200, views.encode(SchedulesView([schedule_view(stats, whole=False) for stats in found], cursor)))


async def schedule(site: Site, request: Request, name: str) -> Answer:
    """GET /schedules/{name}."""
    return _answer(await site.backend.ask(GetSchedule(name=name)))


async def put_schedule(site: Site, request: Request, name: str) -> Answer:
    """PUT /schedules/{name}."""
    asked: ScheduleBody = _decode_schedule(await site.read_body(request))
    return _answer(await site.backend.ask(PutSchedule(name=name, schedule=asked.schedule(), by=request.who or None)))


async def patch_schedule(site: Site, request: Request, name: str) -> Answer:
    """PATCH /schedules/{name}."""
    asked: SchedulePatch = _decode_patch(await site.read_body(request))
    return _answer(await site.backend.ask(ChangeSchedule(name=name, change=asked.change(), by=request.who or None)))


async def delete_schedule(site: Site, request: Request, name: str) -> Answer:
    """DELETE /schedules/{name}."""
    await read_nothing(site, request)
    await site.backend.ask(DeleteSchedule(name=name))
    return Answer(204, content_type=b"")


async def run(site: Site, request: Request, name: str) -> Answer:
    """POST /schedules/{name}/run."""
    await read_nothing(site, request)
    job, made = await site.backend.ask(RunSchedule(name=name))
    location = f"Location: {site.native_prefix}/jobs/{place_of(job.id)}\r\n".encode()
    return Answer(201 if made else 200, views.encode(views.enqueued(job, made)), headers=location)


async def pause(site: Site, request: Request, name: str) -> Answer:
    """POST /schedules/{name}/pause."""
    return await _set_paused(site, request, name, True)


async def resume(site: Site, request: Request, name: str) -> Answer:
    """POST /schedules/{name}/resume."""
    return await _set_paused(site, request, name, False)


async def _set_paused(site: Site, request: Request, name: str, paused: bool) -> Answer:
    await read_nothing(site, request)
    change = ScheduleChange(paused=paused)
    return _answer(await site.backend.ask(ChangeSchedule(name=name, change=change, by=request.who or None)))


async def backfill(site: Site, request: Request, name: str) -> Answer:
    """POST /schedules/{name}/backfill."""
    asked: BackfillBody = _decode_backfill(await site.read_body(request))
    ids = await site.backend.ask(Backfill(name=name, start=asked.start.timestamp(), end=asked.end.timestamp()))
    return Answer(200, views.encode(BackfilledView(name, ids)))


def routes(route: Callable[..., Route]) -> list[Route]:
    """The routes for schedules. Reading them needs the scope of reading queues; everything else requires admin, since a schedule makes jobs
    without end.
    """
    R, A = Scope.READ, Scope.ADMIN
    one, unknown, closed = "/schedules/{name}", "unknown_schedule", "draining"
    here = {"answers": {200: ScheduleView}}
    return [
        route("GET", "/schedules", schedules, R, "List schedules, by name", query=SchedulesQuery, answers={200: SchedulesView}),
        route("GET", one, schedule, R, "Look at a schedule", errors=(unknown,), **here),
        route("PUT", one, put_schedule, A, "Create or replace a schedule", body=ScheduleBody,
              errors=("too_many_schedules", "unsupported", closed), **here),
        route("PATCH", one, patch_schedule, A, "Change some fields of a schedule", body=SchedulePatch,
              errors=(unknown, "too_many_schedules", "unsupported", closed), **here),
        route("DELETE", one, delete_schedule, A, "Delete a schedule", answers={204: None}, errors=(unknown, closed)),
        route("POST", f"{one}/run", run, A, "Run a schedule's job now", answers={201: views.EnqueuedView, 200: views.EnqueuedView},
              errors=(unknown, "duplicate", "queue_full", "too_many_queues", closed)),
        route("POST", f"{one}/pause", pause, A, "Pause a schedule: make no jobs", errors=(unknown, closed), **here),
        route("POST", f"{one}/resume", resume, A, "Resume a schedule: make jobs again", errors=(unknown, closed), **here),
        route("POST", f"{one}/backfill", backfill, A, "Run past slots of a schedule", body=BackfillBody, answers={200: BackfilledView},
              errors=(unknown, "queue_full", closed)),
    ]  # fmt: skip
