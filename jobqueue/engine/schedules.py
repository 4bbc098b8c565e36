"""Schedules: which slots are due, and what happens to missed slots and to slots that come during a run.

A slot and its job are one step, so one commit: a crash cannot separate them. All slots up to `upto`, by the wall clock, are handled, and
each slot is handled once: so none runs twice when the clock is set back, or after a restart.

If the clock was ahead and is then corrected, the slots that were passed over as missed meanwhile must not be lost (for example on a machine
whose clock is eight hours ahead until it synchronises). So the engine remembers which times were passed over (`gap`), and which slots were
handled (`done`): if the clock is set back into a gap, the slots in it are still to come. Only the last gap is known; in case of doubt a
slot counts as done.

Slots are in the engine's `Deadlines` at their time less the skew, which the shell passes with each tick. `Schedules` itself is there too,
due every WATCH_SECONDS while there is a schedule: the clocks must be checked, since no timer fires when a clock is set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from zlib import crc32

from msgspec.structs import replace

from jobqueue.engine import checks
from jobqueue.engine.calendar import SEARCH_SECONDS, slot_text
from jobqueue.engine.events import K_THING_CHANGED, Event
from jobqueue.engine.state import State
from jobqueue.engine.timetable import Stored, Table, calendar_of, check_has_slots, checked, template_bytes
from jobqueue.errors import BadRequest, Duplicate, Full, LostRace, QueueError, QueueFull, TooManySchedules, UnknownSchedule
from jobqueue.model import Job, JobSpec
from jobqueue.policy import Pause
from jobqueue.schedule import LATE_SECONDS, SLOTS_MAX, Schedule, ScheduleChange, ScheduleStats, ScheduleTotals

KIND = "schedule/"
"""The prefix of a schedule's name in storage."""

WATCH_SECONDS = 10.0
RETRY_SECONDS = 1.0
"""When a slot for which there was no room is tried again."""

NEXT = 5
"""How many of the next slots are shown."""

_EARLY = 0.001
"""How much too early a timer can fire because of rounding in sums of floats."""

_LOOKS = 10
"""The cost of one slot, counted as so many due jobs in a tick."""

_SLICE = 20


class Schedules:
    """All schedules of an engine. enqueue, cancel: the engine's."""

    def __init__(
        self, state: State, enqueue: Callable[[float, JobSpec, float], tuple[Job, bool]], cancel: Callable[[float, str], Job]
    ) -> None:
        self.tables: dict[str, Table] = {}
        self.runs: dict[str, dict[str, None]] = {}
        """Ids of live jobs by the schedule that made them, even if the schedule was deleted."""
        self.payload_bytes = 0
        """The payload bytes of the jobs that they make."""
        self.made_total = 0
        self.skipped_total = 0
        self.now = 0.0
        self.skew = 0.0
        self._state = state
        self._enqueue = enqueue
        self._cancel = cancel

    # Calls from the engine.

    def see(self, now: float, skew: float) -> None:
        """Set the time; skew: UTC minus engine time. After a step of the clock all due times are computed again, in slices."""
        self.now = now
        if skew != self.skew:
            self.skew = skew
            self.reckon()

    def reckon(self) -> None:
        """Compute all due times again, in slices."""
        if self.tables:
            self._state.do_later(self._reckon(list(self.tables.values())))

    def _reckon(self, tables: list[Table]) -> Iterator[int]:
        for count, table in enumerate(tables, 1):
            if self.tables.get(table.name) is table:
                self._look_back(table)
                self._set(table)
            if count % _SLICE == 0:
                yield _SLICE * _LOOKS

    def lives(self, job: Job) -> None:
        """A live job that may belong to a schedule was restored or retried. A dead letter is no longer a run of its schedule."""
        name = job.details.extra.schedule
        if name is not None and job.home == job.queue:
            self.runs.setdefault(name, {})[job.id] = None

    def left(self, job: Job) -> str | None:
        """A job is no longer live; returns its schedule's name."""
        name = job.details.extra.schedule
        runs = None if name is None else self.runs.get(name)
        if name is None or runs is None:
            return None
        runs.pop(job.id, None)
        if not runs:
            del self.runs[name]
        return name

    def ended(self, job: Job) -> None:
        """A job that may belong to a schedule was concluded: the slot that waited for it runs, in the next turn of the ticker."""
        name = self.left(job)
        table = None if name is None or name in self.runs else self.tables.get(name)
        if table is not None and table.waiting and not table.schedule.paused:
            self._state.deadlines.set(table, -math.inf)

    def due(self, item: Table | Schedules) -> int:
        """A due time that was set here has come; returns how many items were looked at."""
        if isinstance(item, Schedules):
            if any(not table.schedule.paused for table in self.tables.values()):
                self._watch()
            return 1
        if self.tables.get(item.name) is not item:
            return 1
        looked = self._advance(item)
        self._go_on(item)
        self._set(item)
        return looked

    # Slots.

    def _watch(self) -> None:
        deadlines = self._state.deadlines
        if deadlines.due(self) is None:
            deadlines.set(self, self.now + WATCH_SECONDS)

    def _set(self, table: Table) -> None:
        """Set when a schedule next needs work."""
        deadlines = self._state.deadlines
        if table.schedule.paused:
            table.slot = None
            deadlines.drop(table)
            return
        if table.slot is None:
            table.slot = table.after(table.upto)
        due = math.inf if table.slot is None else table.slot - self.skew
        if table.waiting and self._free(table):
            due = min(due, self.now + RETRY_SECONDS)
        if due < math.inf:
            deadlines.set(table, due)
            self._watch()
        else:
            deadlines.drop(table)

    def _look_back(self, table: Table) -> None:
        """Handle a clock that was set back."""
        utc = self.now + self.skew
        if table.gap is None or utc >= min(table.upto, table.gap[1]) - _EARLY:
            return
        low, high = table.gap
        done = table.done or (high, table.upto)
        table.done = min(done[0], high), max(done[1], table.upto)
        table.upto, table.gap, table.slot = max(utc, low), None, None
        self._changed(table)

    def _advance(self, table: Table) -> int:
        """Handle the past slots."""
        utc = self.now + self.skew
        slot = table.slot
        if slot is None or slot > utc + _EARLY or table.schedule.paused:
            return 1
        utc = max(utc, slot)
        following = table.after(slot)
        if utc - slot <= LATE_SECONDS and (following is None or following > utc):
            slots = [slot]
        else:
            slots = table.missed(utc)
            following = None
            if not slots or slots[0] > slot:
                table.gap = table.upto, slots[0] if slots else utc
        table.upto, table.slot = utc, following
        for one in slots:
            self._come(table, one)
        self._changed(table)
        return _LOOKS * (1 + len(slots))

    def _free(self, table: Table) -> bool:
        """Whether a slot can run in addition to the current runs."""
        return table.schedule.overlap == "allow" or table.name not in self.runs

    def _come(self, table: Table, slot: float) -> None:
        """A slot is due."""
        overlap = table.schedule.overlap
        if not table.waiting and self._free(table):
            table.waiting = (slot,)
            self._go_on(table)
        elif overlap == "cancel":
            self._skip(table, len(table.waiting))
            table.waiting = (slot,)
            for job_id in list(self.runs.get(table.name, ())):
                try:
                    self._cancel(self.now, job_id)
                except LostRace:  # pragma: no cover - what is in `runs` is live
                    continue
        elif overlap == "skip" or len(table.waiting) >= SLOTS_MAX:
            self._skip(table)
        else:
            table.waiting = (*table.waiting, slot)

    def _skip(self, table: Table, slots: int = 1) -> None:
        table.skipped_total += slots
        self.skipped_total += slots

    def _go_on(self, table: Table) -> None:
        """Run waiting slots that can run."""
        while table.waiting and not table.schedule.paused and self._free(table):
            slot = table.waiting[0]
            job_id = f"{table.name}@{slot_text(slot)}"
            jitter = table.schedule.jitter * crc32(job_id.encode()) / 2**32
            was = table.problem
            try:
                job, _ = self._make(table, job_id, jitter)
            except Full as error:
                table.problem = error.detail
                if was is None:
                    self._changed(table)
                return
            except Duplicate:
                self._skip(table)
            except QueueError as error:
                # A setting, or someone else's job, prevents this slot's job, and that will not change.
                table.problem = error.detail
                self._skip(table)
            else:
                if job.id == job_id:
                    table.last_at = slot
                else:
                    # Another job holds the unique key, and is kept.
                    self._skip(table)
            table.waiting = table.waiting[1:]
            self._changed(table)

    def _make(self, table: Table, job_id: str, wait: float = 0.0) -> tuple[Job, bool]:
        """A job of a schedule, and whether it was made now: it may have existed before, or another one holds its unique key. Raises the
        errors of an enqueue.
        """
        spec = table.schedule.job
        spec = replace(spec, id=job_id, delay=(spec.delay or 0.0) + wait or None)
        job, made = self._enqueue(self.now, spec, self.skew)
        if made:
            job.details = replace(job.details, extra=replace(job.details.extra, schedule=table.name))
            self.lives(job)
            table.made_total += 1
            self.made_total += 1
        if job.id == job_id:
            table.last_job = job.id
        table.problem = None
        return job, made

    def _changed(self, table: Table) -> None:
        self._state.events.append(Event(K_THING_CHANGED, KIND + table.name))

    # Operations. The caller must have called `see` before.

    def table(self, name: str) -> Table:
        """The schedule with this name. Raises UnknownSchedule."""
        table = self.tables.get(name)
        if table is None:
            raise UnknownSchedule(name)
        return table

    def put(self, name: str, schedule: Schedule, by: str | None = None) -> bool:
        """Make or change a schedule; True if it was made. Putting the same schedule again changes nothing. Raises BadRequest,
        TooManySchedules.

        A new schedule begins now, and so does one whose times change; if only other rules change, it keeps its times. A schedule that is
        resumed skips the slots during the pause. by: the name of the caller's token, None if the server requires none.
        """
        checks.name("name", name)
        table = self.tables.get(name)
        schedule = checked(schedule, self._state.limits)
        if table is not None and table.schedule == schedule:
            return False
        utc = self.now + self.skew
        anew = table is None or table.schedule.timing != schedule.timing
        begun_at = float(math.floor(utc)) if anew or table is None else table.begun_at
        calendar = calendar_of(schedule, begun_at)
        if anew or table is None or table.schedule.ends_at != schedule.ends_at:
            check_has_slots(schedule, calendar, utc)
        self._check_room(table, schedule)
        if table is None:
            pause = Pause(utc, by) if schedule.paused else None
            self.tables[name] = table = Table(Stored(name, schedule, begun_at, utc, pause=pause))
            self.payload_bytes += table.payload_bytes
            self._set(table)
            self._changed(table)
            return True
        if anew or (table.schedule.paused and not schedule.paused):
            self._look_back(table)
            table.upto = max(table.upto, utc)
        if table.schedule.paused is not schedule.paused:
            table.pause = Pause(utc, by) if schedule.paused else None
        self.payload_bytes -= table.payload_bytes
        table.schedule, table.begun_at = schedule, begun_at
        self.payload_bytes += table.payload_bytes
        table.look_anew()
        self._set(table)
        self._changed(table)
        return False

    def _check_room(self, table: Table | None, schedule: Schedule) -> None:
        limits = self._state.limits
        if table is None and len(self.tables) >= limits.schedules_max:
            raise TooManySchedules(f"the server has reached its limit of {len(self.tables)} schedules; delete some")
        grows = template_bytes(schedule) - (0 if table is None else table.payload_bytes)
        if grows > 0 and self.payload_bytes + grows > limits.schedules_bytes_max:
            raise TooManySchedules(
                f"the payloads of {len(self.tables)} schedules have {self.payload_bytes} bytes; with this one they would have more than "
                f"{limits.schedules_bytes_max}"
            )

    def change(self, name: str, change: ScheduleChange, by: str | None = None) -> None:
        """Change some rules. by: see put. Raises UnknownSchedule, BadRequest."""
        self.put(name, change.of(self.table(name).schedule), by)

    def delete(self, name: str) -> None:
        """Delete a schedule. The jobs that it made stay, waiting slots are dropped. Raises UnknownSchedule."""
        table = self.table(name)
        self._forget(name)
        self._state.deadlines.drop(table)
        self._changed(table)

    def run(self, name: str) -> tuple[Job, bool]:
        """Make a job now, even if others run or the schedule is paused; see _make. Raises UnknownSchedule, and the errors of an enqueue."""
        table = self.table(name)
        job, made = self._make(table, f"{name}@run-{self._state.jobs.next_number}")
        if made:
            table.last_at = self.now + self.skew
            self._changed(table)
        return job, made

    def backfill(self, name: str, start: float, end: float) -> list[str]:
        """Run the past slots from `start` to `end`; returns the ids of their jobs, including jobs that already existed.

        Each waits for those before it, unless the schedule's overlap is allow. A slot whose job history has forgotten runs again. Raises
        UnknownSchedule, BadRequest, QueueFull (the limit of waiting slots is reached).
        """
        table = self.table(name)
        checks.number("from", start, 0.0, end)
        checks.number("to", end, start, self.now + self.skew)
        if end - start > SEARCH_SECONDS:
            raise BadRequest("to", f"is more than {SEARCH_SECONDS:.0f} seconds after from")
        slots: list[float] = []
        slot = table.calendar.after(math.nextafter(start, -math.inf))
        while slot is not None and slot <= end:
            if len(slots) == SLOTS_MAX:
                raise BadRequest("to", f"covers more than {SLOTS_MAX} slots; the first one too many is {slot_text(slot)}")
            slots.append(slot)
            slot = table.calendar.after(slot)
        by_id = self._state.jobs.by_id
        new = {slot for slot in slots if f"{name}@{slot_text(slot)}" not in by_id} - {*table.waiting}
        if len(table.waiting) + len(new) > SLOTS_MAX:
            raise QueueFull(f"{len(table.waiting)} slots of schedule {name!r} wait, and {len(new)} would; {SLOTS_MAX} may")
        if new:
            table.waiting = tuple(sorted((*table.waiting, *new)))
            self._go_on(table)
            self._set(table)
            self._changed(table)
        return [f"{name}@{slot_text(slot)}" for slot in slots]

    def stats(self, table: Table, count: int = NEXT) -> ScheduleStats:
        """A schedule with its next slots."""
        ahead: list[float] = []
        slot = None if table.schedule.paused else table.slot or table.after(table.upto)
        while slot is not None and len(ahead) < count:
            ahead.append(slot)
            if len(ahead) < count:
                slot = table.after(slot)
        return ScheduleStats(
            name=table.name,
            schedule=table.schedule,
            begun_at=table.begun_at,
            next=tuple(ahead),
            last_at=table.last_at,
            last_job=table.last_job,
            running=tuple(self.runs.get(table.name, ())),
            waiting=table.waiting,
            made_total=table.made_total,
            skipped_total=table.skipped_total,
            problem=table.problem,
            pause=table.pause,
        )

    def totals(self) -> ScheduleTotals:
        """The totals of all schedules."""
        failing = sum(table.problem is not None for table in self.tables.values())
        return ScheduleTotals(len(self.tables), failing, self.made_total, self.skipped_total)

    # Storage.

    def restore(self, stored: Stored) -> None:
        """Restore a stored schedule. Its due time is set when all are computed again."""
        old = self._forget(stored.name)
        if old is not None:
            self._state.deadlines.drop(old)
        self.tables[stored.name] = table = Table(stored)
        self.payload_bytes += table.payload_bytes

    def _forget(self, name: str) -> Table | None:
        table = self.tables.pop(name, None)
        if table is not None:
            self.payload_bytes -= table.payload_bytes
        return table

    def follow(self, changed: Iterable[Stored], gone: Iterable[str]) -> None:
        """Apply changes of stored schedules, and remove those that are gone."""
        for stored in changed:
            self.restore(stored)
        for name in gone:
            self._forget(name)
