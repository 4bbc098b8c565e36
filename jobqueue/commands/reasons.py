"""Why a job is not running, and what a queue holds back, in plain sentences."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import TYPE_CHECKING

from jobqueue.commands.shapes import since, stamp, state, used_up
from jobqueue.model import Status

if TYPE_CHECKING:
    from jobqueue.client.types import JobInfo, Key, Reason

NEAR_SECONDS = 60.0
"""Times nearer than this are shown in seconds, others as a time of day."""


def clock(time: datetime | None, now: datetime) -> str:
    """A time in this machine's zone: for today as 12:03:04, for another day with date and zone."""
    if time is None:
        return "an unknown time"
    here = time.astimezone()
    return here.strftime("%H:%M:%S") if here.date() == now.astimezone().date() else stamp(time)


def soon(time: datetime | None, now: datetime) -> str:
    """When something happens: in 3.2 s, or at 12:03:04."""
    seconds = NEAR_SECONDS if time is None else (time - now).total_seconds()
    return f"in {max(0.0, seconds):.1f} s" if seconds < NEAR_SECONDS else f"at {clock(time, now)}"


def _jobs(count: int | None) -> str:
    return "1 job is" if count == 1 else f"{count or 0:,} jobs are"


def sentence(queue: str, why: Reason, now: datetime) -> str:
    """One reason why a job of a queue is not in progress."""
    of = f"queue {queue}" if why.key is None else f"key {why.key}"
    if why.reason == "time":
        return "scheduled, without a time" if why.until is None else f"scheduled: due {soon(why.until, now)}"
    if why.reason == "paused":
        return f"queue {queue} is paused"
    if why.reason == "jobs":
        more = f" and {len(why.jobs) - 3} more" if len(why.jobs) > 3 else ""
        return f"after {', '.join(why.jobs[:3])}{more}"
    if why.reason == "unique":
        return _by_unique(why, now)
    if why.reason == "key":
        return _by_key(why, now)
    if why.reason == "concurrency":
        return f"limit of {of}: {used_up(why.used or 0, why.total or 0)}"
    if why.reason == "rate":
        return f"rate of {of}: next slot {soon(why.until, now)}"
    if why.reason == "line":
        return "next in line" if not why.ahead else f"{why.ahead:,} job{'' if why.ahead == 1 else 's'} ahead"
    if why.reason == "workers":
        return f"no worker waits for jobs of queue {queue}; " + (
            f"{_jobs(why.used)} in progress" if why.used else "none of its jobs is in progress"
        )
    # A reason from a newer server.
    return why.reason


def _by_unique(why: Reason, now: datetime) -> str:
    said = f"unique key {why.key}: runs after job {why.job}"
    if why.worker is not None:
        said += f" in progress at worker {why.worker}"
    return said if why.until is None else f"{said}, not before {clock(why.until, now)}"


def _by_key(why: Reason, now: datetime) -> str:
    if why.block == "paused":
        return f"key {why.key} is paused"
    if why.block == "halted":
        return f"key {why.key}: halted because job {why.job} failed, until that job is retried or cancelled or the key is resumed"
    if why.worker is not None:
        return f"key {why.key}: waits for job {why.job} in progress at worker {why.worker}, lease until {clock(why.until, now)}"
    if why.until is not None:
        return f"key {why.key}: waits for job {why.job}, until it runs again or its lease ends, {soon(why.until, now)}"
    return f"key {why.key} waits" if why.job is None else f"key {why.key}: job {why.job} goes first"


def sentences(job: JobInfo, now: datetime) -> list[str]:
    """Why a job is not running; or that it is, or how it ended."""
    if job.halts:
        return [f"{state(job)} {since(job.concluded_at, now)} ago, and halts {halts(job)}"]
    if job.status is Status.CONCLUDED:
        again = "it does not run again" if job.outcome == "succeeded" else "it only runs again if it is retried"
        return [f"{state(job)} {since(job.concluded_at, now)} ago; {again}"]
    if job.status is Status.IN_PROGRESS:
        where = "" if job.worker is None else f" at worker {job.worker}"
        stops = "; its worker is asked to stop" if job.cancel_requested else ""
        return [f"in progress{where} since {clock(job.started_at, now)}, lease until {clock(job.lease_expires_at, now)}{stops}"]
    return [sentence(job.queue, why, now) for why in job.waiting_for or ()]


def halts(job: JobInfo) -> str:
    """Which key a failed job halts, and how to let the key continue."""
    job_id, queue, key = (shlex.quote(name or "") for name in (job.id, job.queue, job.key))
    return (
        f"key {job.key}, until `jobqueue retry {job_id}` runs it again in its old place, "
        f"or `jobqueue cancel {job_id}` or `jobqueue resume {queue} --key {key}` lets the key continue without it"
    )


def held_by(key: Key, now: datetime) -> str:
    """What holds a key's queued jobs back, in a few words; empty if the next can go."""
    if key.block is None:
        return ""
    if key.block == "rate":
        return "rate" if key.next_at is None else f"rate, next slot {soon(key.next_at, now)}"
    return key.block
