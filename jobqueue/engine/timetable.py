"""One schedule: its checked rules, its stored data, and which of its slots are to run. schedules.py runs them."""

from __future__ import annotations

import math
from typing import NamedTuple

from msgspec.structs import replace

from jobqueue.engine import checks
from jobqueue.engine.calendar import SEARCH_SECONDS, Calendar, Cron, Every, latest, slot_text, zone
from jobqueue.engine.sizes import headers_bytes
from jobqueue.errors import BadRequest, TooLarge
from jobqueue.limits import Limits
from jobqueue.policy import Backoff, Pause
from jobqueue.schedule import LATE_SECONDS, SLOTS_MAX, Schedule
from jobqueue.unique import Unique


class Stored(NamedTuple):
    """A schedule as it is stored; the fields of Table."""

    name: str
    schedule: Schedule
    begun_at: float
    upto: float
    gap: tuple[float, float] | None = None
    done: tuple[float, float] | None = None
    waiting: tuple[float, ...] = ()
    last_at: float | None = None
    last_job: str | None = None
    made_total: int = 0
    skipped_total: int = 0
    problem: str | None = None
    pause: Pause | None = None


def calendar_of(schedule: Schedule, begun_at: float) -> Calendar:
    """The calendar of its slots, without its end. Raises BadRequest."""
    if (schedule.cron is None) == (schedule.every is None):
        raise BadRequest("cron", "or every is required, but not both")
    if schedule.every is not None:
        checks.number("every", schedule.every, 1.0, SEARCH_SECONDS, " seconds")
        return Every(schedule.every, begun_at + schedule.every if schedule.starts_at is None else schedule.starts_at)
    assert schedule.cron is not None
    checks.text("cron", schedule.cron, 200, 1)
    try:
        there = zone(schedule.timezone)
    except ValueError as error:
        raise BadRequest("timezone", str(error)) from None
    try:
        return Cron(schedule.cron, there)
    except ValueError as error:
        raise BadRequest("cron", str(error)) from None


def template_bytes(schedule: Schedule) -> int:
    """The size of a schedule that counts against the limit in bytes."""
    return len(schedule.job.payload) + headers_bytes(schedule.job.headers)


class Table:
    """One schedule. upto: slots up to this time are handled; gap, done: see schedules.py; slot: the first one after `upto`, None if it is
    not known.

    waiting: slots that are to run, in order, but cannot yet or found no room.
    """

    __slots__ = (
        "_calendar",
        "begun_at",
        "done",
        "gap",
        "last_at",
        "last_job",
        "made_total",
        "name",
        "pause",
        "problem",
        "schedule",
        "skipped_total",
        "slot",
        "upto",
        "waiting",
    )

    def __init__(self, stored: Stored) -> None:
        for field, value in stored._asdict().items():
            setattr(self, field, value)
        self._calendar: Calendar | None = None
        self.slot: float | None = None

    name: str
    schedule: Schedule
    begun_at: float
    upto: float
    gap: tuple[float, float] | None
    done: tuple[float, float] | None
    waiting: tuple[float, ...]
    last_at: float | None
    last_job: str | None
    made_total: int
    skipped_total: int
    problem: str | None
    pause: Pause | None

    @property
    def stored(self) -> Stored:
        """Its data in stored form."""
        return Stored(**{field: getattr(self, field) for field in Stored._fields})

    @property
    def payload_bytes(self) -> int:
        """The payload bytes of the jobs that it makes, including headers."""
        return template_bytes(self.schedule)

    @property
    def calendar(self) -> Calendar:
        """See calendar_of. Computed when first used: for 10,000 schedules it takes a second."""
        if self._calendar is None:
            self._calendar = calendar_of(self.schedule, self.begun_at)
        return self._calendar

    def look_anew(self) -> None:
        """Clear what is derived from the rules."""
        self._calendar = self.slot = None

    def after(self, at: float) -> float | None:
        """The first slot later than `at` that is not handled."""
        schedule = self.schedule
        if schedule.starts_at is not None:
            at = max(at, math.nextafter(schedule.starts_at, -math.inf))
        slot = self.calendar.after(at)
        if slot is not None and self.done is not None and self.done[0] <= slot <= self.done[1]:
            slot = self.calendar.after(self.done[1])
        return None if slot is None or (schedule.ends_at is not None and slot > schedule.ends_at) else slot

    def missed(self, utc: float) -> list[float]:
        """The slots that are to run now, out of all past ones, in order."""
        schedule = self.schedule
        horizon = LATE_SECONDS if schedule.missed == "skip" else max(LATE_SECONDS, schedule.catch_up)
        since = max(self.upto, math.nextafter(utc - horizon, -math.inf))
        found: list[float] = []
        at = utc
        while len(found) < (SLOTS_MAX if schedule.missed == "all" else 1):
            # The distance to the previous slot is a good guess for the distance to the one before.
            slot = None
            if len(found) > 1 and (guess := at - 1.01 * (found[-2] - found[-1])) > since:
                slot = self.after(guess)
                if slot is not None and (slot > at or ((following := self.after(slot)) is not None and following <= at)):
                    slot = None
            slot = latest(self.after, at, since) if slot is None else slot
            if slot is None:
                break
            found.append(slot)
            at = math.nextafter(slot, -math.inf)
        found.reverse()
        return found


def checked(schedule: Schedule, limits: Limits) -> Schedule:
    """A schedule with its plain values checked, in the form in which it is kept. Raises BadRequest."""
    job = schedule.job
    if job.id is not None:
        raise BadRequest("job.id", "is not allowed: each job is named after its slot")
    if job.run_at is not None:
        raise BadRequest("job.run_at", "is not allowed: the slot sets the time")
    for name, given in (("after", job.after), ("group", job.group)):
        if given:
            raise BadRequest(f"job.{name}", "is not allowed in the job of a schedule")
    try:
        checks.name("queue", job.queue)
        if job.type is not None:
            checks.text("type", job.type, limits.type_chars_max, 1)
        checks.spec(job, limits)
    except BadRequest as error:
        raise BadRequest(f"job.{error.field}", error.reason) from None
    except TooLarge as error:
        raise TooLarge(f"job.{error.field}", error.detail.removeprefix(f"{error.field}: ")) from None
    checks.number("catch_up", schedule.catch_up, 0.0, 366 * 86_400.0, " seconds")
    checks.number("jitter", schedule.jitter, 0.0, 86_400.0, " seconds")
    if schedule.jitter + (job.delay or 0.0) > limits.delay_seconds_max:
        raise BadRequest("jitter", f"and the job's delay are more than {limits.delay_seconds_max:.15g} seconds")
    checks.text("timezone", schedule.timezone, 64, 1)
    for field in ("starts_at", "ends_at"):
        if (at := getattr(schedule, field)) is not None:
            checks.number(field, at, 0.0, 250_000_000_000.0)
    if job.backoff is not None:
        # An edge can use a subclass, which would not equal the stored value.
        job = replace(job, backoff=Backoff(job.backoff.base, job.backoff.factor, job.backoff.cap))
    if job.unique is not None:
        job = replace(job, unique=Unique(*(getattr(job.unique, field) for field in Unique.__struct_fields__)))
    return replace(schedule, job=job)


def check_has_slots(schedule: Schedule, calendar: Calendar, utc: float) -> None:
    """Check that a schedule that begins now has a slot at all. Raises BadRequest."""
    at = utc if schedule.starts_at is None else max(utc, math.nextafter(schedule.starts_at, -math.inf))
    slot = calendar.after(at)
    if slot is None:
        raise BadRequest("cron", "has no slot within four years")
    if schedule.ends_at is not None and slot > schedule.ends_at:
        raise BadRequest("ends_at", f"is before the first slot, {slot_text(slot)}")
