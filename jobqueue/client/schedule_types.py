"""What `client.schedules` accepts and returns: types of schedules, request bodies, and the decoding of answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from jobqueue.client.types import NewJob

Missed: TypeAlias = Literal["skip", "last", "all"]
Overlap: TypeAlias = Literal["allow", "skip", "queue", "cancel"]


class ScheduledJob(NewJob, frozen=True, omit_defaults=True):
    """The job that each slot of a schedule makes: a NewJob without id and run_at. In a list its payload is UNSET."""

    payload: Any = UNSET


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule: its rules, as `put` takes them, its next slots, and its state.

    begun_at: the time from which slots count. next: its next five slots, in a list only one; empty while it is paused. last_at, last_job:
    slot and id of the last job that it made, None before the first. running: ids of its live jobs; waiting: slots that are due but cannot
    run yet. made: how many jobs it made; skipped: how many slots were left out because an earlier run was still live, or because of
    problem, a str. paused_at: when it was paused, None if an older server paused it; paused_by: the token that paused it, None if the
    server has no tokens.
    """

    name: str
    job: ScheduledJob
    cron: str | None
    every: float | None
    timezone: str
    missed: str
    catch_up: float
    overlap: str
    jitter: float
    paused: bool
    starts_at: datetime | None
    ends_at: datetime | None
    begun_at: datetime
    next: tuple[datetime, ...]
    last_at: datetime | None
    last_job: str | None
    running: tuple[str, ...]
    waiting: tuple[datetime, ...]
    made: int
    skipped: int
    problem: str | None
    paused_at: datetime | None = None
    paused_by: str | None = None


Schedules: TypeAlias = list[Schedule]
Ids: TypeAlias = list[str]
"""`list`, for use within a class that has a method of that name."""


class Put(msgspec.Struct, frozen=True, omit_defaults=True):
    """PUT /schedules/{name}."""

    job: NewJob
    cron: str | None
    every: float | None
    timezone: str
    missed: str
    catch_up: float
    overlap: str
    jitter: float
    paused: bool
    starts_at: datetime | None
    ends_at: datetime | None


class Change(msgspec.Struct, frozen=True):
    """PATCH /schedules/{name}. None is sent as null, which is a value; UNSET is not sent."""

    job: NewJob | UnsetType = UNSET
    cron: str | UnsetType = UNSET
    every: float | UnsetType = UNSET
    timezone: str | UnsetType = UNSET
    missed: str | UnsetType = UNSET
    catch_up: float | UnsetType = UNSET
    overlap: str | UnsetType = UNSET
    jitter: float | UnsetType = UNSET
    paused: bool | UnsetType = UNSET
    starts_at: datetime | UnsetType | None = UNSET
    ends_at: datetime | UnsetType | None = UNSET


class Backfill(msgspec.Struct, frozen=True):
    """POST /schedules/{name}/backfill."""

    start: datetime = msgspec.field(name="from")
    end: datetime = msgspec.field(name="to")


class _Page(msgspec.Struct):
    schedules: Schedules
    cursor: str | None


class _Backfilled(msgspec.Struct):
    jobs: Ids


schedule = msgspec.json.Decoder(Schedule).decode
_page = msgspec.json.Decoder(_Page).decode
_backfilled = msgspec.json.Decoder(_Backfilled).decode


def page(body: bytes) -> tuple[Schedules, str | None]:
    """A page of schedules, and the cursor of the next page."""
    found = _page(body)
    return found.schedules, found.cursor


def backfilled(body: bytes) -> Ids:
    """Ids of jobs."""
    return _backfilled(body).jobs
