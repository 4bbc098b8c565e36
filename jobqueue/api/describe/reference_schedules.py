"""Notes on schedules; see reference.py."""

from __future__ import annotations

from typing import Any

from jobqueue.limits import Limits
from jobqueue.schedule import CATCH_UP_SECONDS, LATE_SECONDS, SLOT_SECONDS_MAX, SLOTS_MAX

Notes = dict[str, dict[str, Any]]

_GIVEN = "RFC 3339 with an offset"
_SHOWN = "RFC 3339, UTC, milliseconds."


def notes(limits: Limits) -> Notes:
    """Fields of schedules."""
    said: Notes = {}
    for kind in ("ScheduleBody", "SchedulePatch", "ScheduleView"):
        said |= {f"{kind}.{field}": note for field, note in _rules().items()}
    return said | _job(limits) | _others(limits)


def _time(text: str, form: str = _SHOWN) -> dict[str, Any]:
    return {"description": f"{text} {form}", "format": "date-time"}


def _rules() -> Notes:
    """The rules of a schedule."""
    return {
        "job": {
            "description": "What each slot makes: the body of an enqueue, without id and run_at. Fields that have their default are not "
            "shown. The id of each job is `name@slot`."
        },
        "cron": {
            "description": "The slots as a cron expression: minute, hour, day of the month, month, day of the week, as in Debian's "
            "crontab(5); or @hourly and similar. Cannot be combined with every; null if every is used.",
            "maxLength": 200,
        },
        "every": {
            "description": "Seconds between slots, counted from starts_at, or else from the time when the schedule was created. Cannot be "
            "combined with cron; null if cron is used.",
            "minimum": 1,
            "maximum": SLOT_SECONDS_MAX,
        },
        "timezone": {"description": "The IANA time zone of cron.", "maxLength": 64},
        "missed": {
            "description": "Which slots run that fell due while the server was down: `skip`: only one that is less than "
            f"{LATE_SECONDS:.0f} s late; `last`: the last one; `all`: each, at most {SLOTS_MAX}."
        },
        "catch_up": {
            "description": f"Seconds. Slots that were missed longer ago do not run; {CATCH_UP_SECONDS:.0f} by default.",
            "minimum": 0,
            "maximum": 366 * 86_400,
        },
        "overlap": {
            "description": "What happens to a slot while a job of an earlier slot is live: `allow`: it runs at the same time; `skip`: it "
            f"is skipped; `queue`: it waits for the end of that job, and at most {SLOTS_MAX} slots wait; `cancel`: that job is cancelled "
            "first."
        },
        "jitter": {
            "description": "Seconds. Each job is delayed by up to this time after its slot; the delay is computed from the job's id.",
            "minimum": 0,
            "maximum": 86_400,
        },
        "paused": {"description": "true: no jobs are made. Slots during the pause are skipped."},
        "starts_at": _time(f"No slots before this time: {_GIVEN};", "null for none."),
        "ends_at": _time(f"No slots after this time: {_GIVEN};", "null for none."),
    }


def _job(limits: Limits) -> Notes:
    made = {"description": "The schedule that made the job, and the slot; absent for other jobs."}
    return {
        "ScheduledJob.id": {"description": "Not allowed here: the id is made of the schedule's name and the slot."},
        "ScheduledJob.run_at": {"description": "Not allowed here: the slot is the time."},
        "ScheduledJob.delay": {
            "description": "Seconds that each job is delayed after its slot.",
            "minimum": 0,
            "maximum": limits.delay_seconds_max,
        },
        "ScheduledJob.tags": {
            "description": f"Words to find the jobs by, each of 1 to {limits.tag_chars_max} characters, without repetition.",
            "maxItems": limits.tags_max,
            "default": [],
        },
        "JobView.schedule": made,
        "DequeuedView.schedule": made,
        "SlotView.name": {"description": "The schedule's name."},
        "SlotView.slot": _time("The slot; null for a job that was run by hand."),
    }


def _others(limits: Limits) -> Notes:
    return {
        "ScheduleView.begun_at": _time("The time from which its slots count: when it was created, or its times were last changed."),
        "ScheduleView.next": {
            "description": f"Its next slots: up to five, but in a list of schedules only one; none while it is paused. {_SHOWN}"
        },
        "ScheduleView.last_at": _time("The slot of the last job that it made, or the time of a run by hand; null before the first."),
        "ScheduleView.last_job": {"description": "The id of that job."},
        "ScheduleView.running": {"description": "The ids of its live jobs, including those that wait."},
        "ScheduleView.waiting": {"description": f"Slots that are due and cannot run yet. {_SHOWN}"},
        "ScheduleView.made": {"description": "How many jobs it made."},
        "ScheduleView.skipped": {
            "description": "How many slots were skipped, because an earlier job was still live, or because of `problem`."
        },
        "ScheduleView.problem": {"description": "Why the last slot made no job; null if it made one."},
        "SchedulesView.schedules": {"description": "The schedules."},
        "SchedulesView.cursor": {"description": "The cursor of the next page; null at the end."},
        "SchedulesQuery.cursor": {"description": "The `cursor` of the page before."},
        "SchedulesQuery.limit": {
            "description": "Schedules on a page; 100 if not given.",
            "minimum": 1,
            "maximum": limits.page_queues_max,
        },
        "BackfillBody.from": _time("The first slot, or a time before it:", f"{_GIVEN}."),
        "BackfillBody.to": _time(f"The last slot, or a time after it, in the past; at most {SLOTS_MAX} slots:", f"{_GIVEN}."),
        "BackfilledView.schedule": {"description": "The schedule's name."},
        "BackfilledView.jobs": {"description": "Ids of the jobs, in order of their slots."},
    }


OPERATIONS: dict[str, str] = {
    "PUT /schedules/{name}": "Putting a schedule again unchanged has no effect. A new schedule begins now, and so does one whose cron, "
    "every, timezone or starts_at changes.",
    "PATCH /schedules/{name}": "Fields that are left out stay as they are. A cron removes the every, and vice versa.",
    "DELETE /schedules/{name}": "The jobs that it made stay; waiting slots are dropped.",
    "POST /schedules/{name}/run": "Makes a job in addition to the slots, even if another job runs or the schedule is paused. Its id is "
    "`name@run-` and a number. Each request makes a job.",
    "POST /schedules/{name}/pause": "Jobs that were already made are not affected.",
    "POST /schedules/{name}/resume": "Slots during the pause are skipped.",
    "POST /schedules/{name}/backfill": "A slot whose job exists already is listed in the answer, but not run again. Each slot waits for "
    "the earlier ones, unless overlap is `allow`.",
}
