"""Requests about jobs' logs. How lines are stored is in engine/logs.py.

A caller who can read a job can read its log. Only the holder of the job's lease adds lines, also with an extend and a conclude.
"""

from __future__ import annotations

import msgspec

from jobqueue.backend.requests.request import Front, Guard, Owner, Request
from jobqueue.engine.logs import log_key
from jobqueue.errors import UnknownJob
from jobqueue.joblog import LINES_MAX, LoggedLine, LogPart, LogState
from jobqueue.model import CONCLUDED, Job, Outcome, Status


class LogPage(msgspec.Struct, frozen=True, gc=False):
    """Some lines of a job's log, in order. after: the number of the last of them, to continue from; dropped: see LogState.

    ended: the job is concluded, and there are no more lines after these. status, outcome: the job's.
    """

    lines: list[LoggedLine]
    after: int
    dropped: int
    ended: bool
    status: Status
    outcome: Outcome | None


def _page(owner: Owner, job: Job, after: int, limit: int) -> LogPage:
    logs = owner.engine.logs
    log = logs.by_job.get(job.number)
    lines = [] if log is None else log.read(after, limit)
    state = logs.state(job.number)
    after = lines[-1].number if lines else after
    return LogPage(lines, after, state.dropped, job.status is CONCLUDED and after >= state.lines, job.status, job.outcome)


class AppendLog(Request[LogState], frozen=True, tag="logs.append"):
    """Add lines to a job's log. Raises BadRequest, UnknownJob, LeaseLost, NotInProgress, QueueFull (field lines)."""

    changes = True
    hands_in = True
    id: str
    token: str
    part: LogPart

    async def serve(self, owner: Owner) -> LogState:
        owner.check_storage()
        now = owner.clock.now()
        state = owner.engine.append_log(now, self.id, self.token, owner.dated(self.part))
        await owner.commit(now)
        return state

    async def guarded(self, guard: Guard) -> LogState:
        job = await guard.job(self.id)
        if not guard.sees(job.queue):
            # They can read it, since it was enqueued in a queue of theirs.
            raise UnknownJob(self.id)
        return await guard.beneath(self)

    async def spread(self, front: Front) -> LogState:
        return await front.for_job(self.id, self)


class ReadLog(Request[LogPage], frozen=True, tag="logs.read"):
    """Up to `limit` lines of a job's log after the line with the number `after`. With a wait: as soon as there are any, or the job is
    concluded.

    Raises UnknownJob, TooManyWaiters.
    """

    held = True
    id: str
    after: int = 0
    limit: int = LINES_MAX
    wait: float = 0.0

    async def serve(self, owner: Owner) -> LogPage:
        job = owner.engine.job(self.id)
        page = _page(owner, job, self.after, self.limit)
        if self.wait <= 0 or page.lines or job.status is CONCLUDED:
            return page
        await owner.told(log_key(job.number), self.wait)
        return _page(owner, owner.engine.numbered(job.number), self.after, self.limit)

    async def guarded(self, guard: Guard) -> LogPage:
        await guard.job(self.id)
        page = await guard.beneath(self)
        if self.wait > 0:
            # The job may have moved to another queue meanwhile.
            await guard.job(self.id)
        return page

    async def spread(self, front: Front) -> LogPage:
        return await front.for_job(self.id, self)


LOGS = (AppendLog, ReadLog)
