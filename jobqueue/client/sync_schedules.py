"""What `Client` can do with schedules. Made from `async_schedules.py` by `python -m tests.client.generate`: change that one."""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET, UnsetType

from jobqueue.client import reading, schedule_types
from jobqueue.client.schedule_types import Backfill, Change, Ids, Missed, Overlap, Put, Schedule, Schedules
from jobqueue.client.sending import encoded, once, place, query
from jobqueue.client.sync_transport import SyncTransport
from jobqueue.client.types import Enqueued, NewJob


class SyncSchedules:
    """Schedules of a server, as `client.schedules`. The client describes what is common to all operations.

    A schedule makes a job at each of its slots, under the id `name@slot`. Reading needs the scope read, everything else admin.
    """

    def __init__(self, client: SyncTransport) -> None:
        self._client = client

    def get(self, name: str) -> Schedule:
        """Return a schedule: its rules, its next five slots, and its state.

        Returns Schedule. Raises UnknownSchedule.
        """
        return self._client._run(once("GET", place("schedules", name), schedule_types.schedule))

    def put(
        self,
        name: str,
        job: NewJob,
        *,
        cron: str | None = None,
        every: float | None = None,
        timezone: str = "UTC",
        missed: Missed = "last",
        catch_up: float = 86_400.0,
        overlap: Overlap = "skip",
        jitter: float = 0.0,
        paused: bool = False,
        starts_at: datetime | None = None,
        ends_at: datetime | None = None,
    ) -> Schedule:
        """Create or replace a schedule. Putting it unchanged has no effect, so you can put yours whenever your program starts.

        name: of 1 to 80 of the characters A-Z a-z 0-9 . _ : - job: NewJob, what each slot makes, without id and run_at.
        cron: str, as in Debian's crontab(5), or "@daily" and the like; every: seconds between two slots. Give one or the other.
        timezone: str, the IANA time zone of cron.
        missed: which slots run that fell due while the server was down: "skip", "last" or "all", 100 at most; catch_up: seconds, only
        missed slots within this time.
        overlap: what to do with a slot while a job of an earlier slot is live: "allow" runs both, "skip" skips the slot, "queue" lets it
        wait, "cancel" cancels the earlier job first.
        jitter: seconds, each job is delayed by up to this time after its slot.
        paused: make no jobs.
        starts_at, ends_at: datetimes with a time zone; no slots before and after.

        A new schedule begins now, and so does one whose cron, every, timezone or starts_at changes.

        Returns Schedule. Raises TooManySchedules, TooLarge.
        """
        asked = Put(job, cron, every, timezone, missed, catch_up, overlap, jitter, paused, starts_at, ends_at)
        return self._client._run(once("PUT", place("schedules", name), schedule_types.schedule, encoded(asked)))

    def change(
        self,
        name: str,
        *,
        job: NewJob | UnsetType = UNSET,
        cron: str | UnsetType = UNSET,
        every: float | UnsetType = UNSET,
        timezone: str | UnsetType = UNSET,
        missed: Missed | UnsetType = UNSET,
        catch_up: float | UnsetType = UNSET,
        overlap: Overlap | UnsetType = UNSET,
        jitter: float | UnsetType = UNSET,
        paused: bool | UnsetType = UNSET,
        starts_at: datetime | UnsetType | None = UNSET,
        ends_at: datetime | UnsetType | None = UNSET,
    ) -> Schedule:
        """Change some rules of a schedule; the others stay as they are.

        job, cron, every, timezone, missed, catch_up, overlap, jitter, paused, starts_at, ends_at: as put; None for starts_at or ends_at
        removes it. A cron removes the every, and vice versa.

        Returns Schedule. Raises UnknownSchedule, TooManySchedules, TooLarge.
        """
        asked = Change(job, cron, every, timezone, missed, catch_up, overlap, jitter, paused, starts_at, ends_at)
        return self._client._run(once("PATCH", place("schedules", name), schedule_types.schedule, encoded(asked)))

    def delete(self, name: str) -> None:
        """Delete a schedule. The jobs that it made stay.

        Returns None. Raises UnknownSchedule (also when the first answer was lost and the schedule was deleted by then).
        """
        return self._client._run(once("DELETE", place("schedules", name), reading.nothing))

    def run(self, name: str) -> Enqueued:
        """Make a job of a schedule now, in addition to its slots, also while it is paused. Not sent again if the answer is lost.

        Returns Enqueued; created is False if another job has its unique key, and that job is returned. Raises UnknownSchedule, Duplicate
        (another job has it, and on_conflict is "refuse"), QueueFull, TooManyQueues.
        """
        return self._client._run(once("POST", place("schedules", name, "/run"), reading.enqueued, idempotent=False))

    def pause(self, name: str) -> Schedule:
        """Stop making jobs. Jobs that were already made are not affected.

        Returns Schedule. Raises UnknownSchedule.
        """
        return self._client._run(once("POST", place("schedules", name, "/pause"), schedule_types.schedule))

    def resume(self, name: str) -> Schedule:
        """Make jobs again. Slots during the pause are skipped.

        Returns Schedule. Raises UnknownSchedule.
        """
        return self._client._run(once("POST", place("schedules", name, "/resume"), schedule_types.schedule))

    def backfill(self, name: str, start: datetime, end: datetime) -> Ids:
        """Run past slots, 100 at most. A slot whose job exists already is not run again.

        start, end: datetimes with a time zone, the first slot and the last, or a time before and after.

        Returns a list of the ids of their jobs, in order; those that wait for an earlier one are made later. Raises UnknownSchedule,
        QueueFull (more than 100 slots would wait).
        """
        body = encoded(Backfill(start, end))
        return self._client._run(once("POST", place("schedules", name, "/backfill"), schedule_types.backfilled, body))

    def list(self) -> Schedules:
        """Every schedule, by name. Each has one slot in next, and UNSET for the payload of its job.

        Returns a list of Schedule.
        """
        found: Schedules = []
        cursor: str | None = None
        while True:
            page, cursor = self._client._run(once("GET", query("/schedules", cursor=cursor), schedule_types.page))
            found += page
            if cursor is None:
                return found
