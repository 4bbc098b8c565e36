"""Concluded jobs by the time they ended, newest first: a page of a listing.

History has the jobs of each outcome in the order in which they arrived there, so nothing is sorted and live jobs are not looked at. Jobs
that halt their keys, and those that live jobs are after, are kept elsewhere and merged in.

A cursor has the millisecond at which the page ended, and how many jobs of that millisecond were already returned: so jobs that are
forgotten or retried between two pages do not shift the next page, unless they ended in that millisecond. It can distinguish 4,095 jobs of
one millisecond; any more are left out, since a cursor that does not advance would make a client request the same page for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge

from jobqueue.engine.filters import LOOKED_BYTES_MAX, fits, looked_bytes
from jobqueue.engine.sizes import shown_bytes
from jobqueue.engine.state import State
from jobqueue.errors import BadRequest
from jobqueue.model import CONCLUDED, Job, JobFilter, Outcome

_TIES_BITS = 12
"""Bits for the jobs of one millisecond. With them a cursor is below 2 to the 53, which any JSON reader can represent."""

_TIES = (1 << _TIES_BITS) - 1


def _ended_at(job: Job) -> float:
    conclusion = job.conclusion
    assert conclusion is not None
    return conclusion.concluded_at


def newest_ended(state: State, outcome: Outcome | None) -> Iterator[Job]:
    """The concluded jobs with this outcome, or with any, newest first."""
    outcomes = list(Outcome) if outcome is None else [outcome]
    elsewhere = [(job for job in reversed(kept) if outcome is None or job.outcome is outcome) for kept in (state.pinned, state.kept)]
    return merge(*(state.history.newest_first(each) for each in outcomes), *elsewhere, key=_ended_at, reverse=True)


def page_by_end(state: State, wanted: JobFilter) -> tuple[list[Job], int | None]:
    """The same as `page` in admin.py, by the time jobs ended. Raises BadRequest (field order) for live jobs."""
    if wanted.status is not None and wanted.status is not CONCLUDED:
        raise BadRequest("order", "concluded is for concluded jobs, which have no other status")
    limits = state.limits
    found: list[Job] = []
    room, looked, scanned = limits.answer_bytes_max, 0, 0
    cursor: int | None = None
    ms, ties = (None, 0) if wanted.before is None else (wanted.before >> _TIES_BITS, wanted.before & _TIES)
    at, met = -1, 0
    for job in newest_ended(state, wanted.outcome):
        now = int(_ended_at(job) * 1_000)
        if now != at:
            at, met = now, 0
        met += 1
        if met > _TIES or (ms is not None and (now > ms or (now == ms and met <= ties))):
            continue
        if len(found) >= wanted.limit or scanned >= limits.page_scan_max or looked > LOOKED_BYTES_MAX:
            return found, cursor
        scanned += 1
        looked += looked_bytes(job, wanted)
        if fits(job, wanted):
            room -= shown_bytes(job)
            if room < 0 and found:
                return found, cursor
            found.append(job)
        cursor = (now << _TIES_BITS) + met
    return found, None
