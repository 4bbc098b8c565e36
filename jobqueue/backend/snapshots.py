"""Copies of jobs at one moment, with their times moved to UTC or to a journal's time line; and filters moved the other way."""

from __future__ import annotations

from msgspec.structs import replace

from jobqueue.errors import BadRequest
from jobqueue.model import PLAIN, Conclusion, Job, JobFilter, Lease
from jobqueue.policy import Pause


def copied(job: Job, skew: float) -> Job:
    """A job as it is now, its times moved by `skew`."""
    copy: Job = job.__copy__()  # type: ignore[attr-defined] # msgspec has it in C, a third of copy.copy, and leaves it out of its stubs
    return shifted(copy, skew) if skew else copy


def shifted(job: Job, skew: float) -> Job:
    """Move a snapshot's times from engine time to UTC, in place."""
    job.created_at += skew
    details, hold = job.details, job.hold
    if details is not PLAIN:
        past = tuple(replace(one, started_at=one.started_at + skew, ended_at=one.ended_at + skew) for one in details.past)
        extra = details.extra
        if extra.origin is not None:
            extra = replace(extra, origin=replace(extra.origin, at=extra.origin.at + skew))
        if extra.claim is not None and extra.claim.since is not None:
            extra = replace(extra, claim=replace(extra.claim, since=extra.claim.since + skew))
        if extra.not_before is not None:
            extra = replace(extra, not_before=extra.not_before + skew)
        job.details = replace(
            details, run_at=later_at(details.run_at, skew), expires_at=later_at(details.expires_at, skew), past=past, extra=extra
        )
    if type(hold) is Lease:
        job.hold = replace(hold, expires_at=hold.expires_at + skew, started_at=hold.started_at + skew)
    elif type(hold) is Conclusion:
        job.hold = replace(hold, concluded_at=hold.concluded_at + skew, started_at=later_at(hold.started_at, skew))
    return job


def numbers_only(wanted: JobFilter) -> None:
    """Raise BadRequest for a cursor of several partitions: there is one."""
    if wanted.cursor is not None:
        raise BadRequest("cursor", "is not a cursor of this listing")


def on_line(wanted: JobFilter, skew: float) -> JobFilter:
    """A filter with its times in engine time."""
    if wanted.created_after is None and wanted.created_before is None:
        return wanted
    return replace(
        wanted,
        created_after=later_at(wanted.created_after, -skew),
        created_before=later_at(wanted.created_before, -skew),
    )


def later_at(at: float | None, seconds: float) -> float | None:
    """A time moved, if there is one."""
    return None if at is None else at + seconds


def pause_at(pause: Pause | None, seconds: float) -> Pause | None:
    """A pause with its time moved."""
    return None if pause is None else replace(pause, at=pause.at + seconds)
