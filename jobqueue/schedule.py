"""The types for schedules, which make jobs repeatedly. A *slot* is one of a schedule's times. engine/schedules.py decides what happens at a
slot.

Units: times are UTC, seconds since the Unix epoch, and follow the wall clock; durations are seconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from jobqueue.model import JobSpec
from jobqueue.policy import Pause

Missed = Literal["skip", "last", "all"]
Overlap = Literal["allow", "skip", "queue", "cancel"]

UTC_NAME = "UTC"
CATCH_UP_SECONDS = 86_400.0

SLOTS_MAX = 100
"""The most slots of one schedule that run at once after they were missed, that wait, or that one backfill runs."""

LATE_SECONDS = 60.0
"""A slot that is handled later than this counts as missed: the server was not running, or its clock was wrong."""

SLOT_SECONDS_MAX = 1_462 * 86_400.0
"""The longest time from one slot to the next: four years, including a leap day."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it was requested: with either `cron` or `every`.

    job: what each slot makes, without id and run_at. missed: which missed slots run: none, the last, or all; only those of the last
    `catch_up` seconds, and at most 100. overlap: what happens to a slot while a run of an earlier one is live: it also runs, is skipped,
    waits for the end of the run, or first cancels the run. jitter: each run is delayed by up to this time after its slot. starts_at,
    ends_at: there are no slots before and after.
    """

    job: JobSpec
    cron: str | None = None
    every: float | None = None
    timezone: str = UTC_NAME
    missed: Missed = "last"
    catch_up: float = CATCH_UP_SECONDS
    overlap: Overlap = "skip"
    jitter: float = 0.0
    paused: bool = False
    starts_at: float | None = None
    ends_at: float | None = None

    @property
    def timing(self) -> tuple[object, ...]:
        """The fields that determine the slots, except their end: if they change, the schedule starts again."""
        return self.cron, self.every, self.timezone, self.starts_at


class ScheduleChange(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a schedule; a field that is not set is left as it is."""

    job: JobSpec | msgspec.UnsetType = msgspec.UNSET
    cron: str | msgspec.UnsetType | None = msgspec.UNSET
    every: float | msgspec.UnsetType | None = msgspec.UNSET
    timezone: str | msgspec.UnsetType = msgspec.UNSET
    missed: Missed | msgspec.UnsetType = msgspec.UNSET
    catch_up: float | msgspec.UnsetType = msgspec.UNSET
    overlap: Overlap | msgspec.UnsetType = msgspec.UNSET
    jitter: float | msgspec.UnsetType = msgspec.UNSET
    paused: bool | msgspec.UnsetType = msgspec.UNSET
    starts_at: float | msgspec.UnsetType | None = msgspec.UNSET
    ends_at: float | msgspec.UnsetType | None = msgspec.UNSET

    def of(self, schedule: Schedule) -> Schedule:
        """The schedule with this change applied. Setting cron removes every, and vice versa."""
        said = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not msgspec.UNSET}
        if said.get("cron") is not None:
            said.setdefault("every", None)
        elif said.get("every") is not None:
            said.setdefault("cron", None)
        return msgspec.structs.replace(schedule, **said)


class ScheduleStats(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule and its current state.

    begun_at: from when on its slots count. next: its next slots, none while it is paused. last_at, last_job: of the last run that was made.
    running: ids of its live runs, including those that wait; waiting: slots that are to run and have not run yet. made_total: runs;
    skipped_total: slots skipped because of an earlier run, or because no job could be made. problem: why the last slot made no job. pause:
    None while it is not paused, or if an older server paused it.
    """

    name: str
    schedule: Schedule
    begun_at: float
    next: tuple[float, ...] = ()
    last_at: float | None = None
    last_job: str | None = None
    running: tuple[str, ...] = ()
    waiting: tuple[float, ...] = ()
    made_total: int = 0
    skipped_total: int = 0
    problem: str | None = None
    pause: Pause | None = None


class ScheduleTotals(msgspec.Struct, frozen=True):
    """Totals of all schedules. failing: schedules whose last slot could not make a job. Since the server started: jobs made, and slots
    skipped.
    """

    count: int = 0
    failing: int = 0
    made_total: int = 0
    skipped_total: int = 0
