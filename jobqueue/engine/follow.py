"""An engine that follows another one: it applies the other's changes, so that it can take over at once.

It is restored once (restore.py), and then given the changes of each commit: the latest state of every changed job, without the steps in
between. A changed job leaves all its places and goes where its new state belongs, by the same rule as a restored job. So the result is the
same as restoring from the same rows, and applying changes twice does no harm. `Inconsistent` means that something is missing; then the
engine is no longer usable.

An engine that follows forgets nothing on its own: the other server's history may have other bounds, and the changes say what it forgets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from jobqueue.engine.chore import Chore
from jobqueue.engine.claims import IdClaim
from jobqueue.engine.engine import Engine
from jobqueue.engine.groups import StoredGroup, Tally
from jobqueue.engine.logs import StoredChunk
from jobqueue.engine.queues import QueueState
from jobqueue.engine.restore import SLICE, Inconsistent, Places, Stored, StoredQueue, add, check_logs, check_totals, leave, set_queue
from jobqueue.engine.retention import KeptHistory, keep_by
from jobqueue.engine.ring import Ring
from jobqueue.engine.shares import of_history
from jobqueue.engine.timetable import Stored as StoredSchedule
from jobqueue.engine.unique import Place, Window
from jobqueue.model import CONCLUDED, QUEUED, SCHEDULED, Job

T = TypeVar("T")


class Changes(NamedTuple):
    """Changes. jobs: the new state of each changed job, in any order; gone: numbers of forgotten jobs; next_number: the server's."""

    jobs: Iterable[Stored]
    gone: Sequence[int]
    queues: Sequence[StoredQueue]
    queues_gone: Sequence[str]
    next_number: int
    schedules: Sequence[StoredSchedule] = ()
    schedules_gone: Sequence[str] = ()
    logs: Sequence[StoredChunk] = ()
    logs_gone: Sequence[str] = ()
    windows: Sequence[Window] = ()
    windows_gone: Sequence[Place] = ()
    groups: Sequence[StoredGroup] = ()
    tallies: Sequence[Tally] = ()
    groups_gone: Sequence[str] = ()
    claims: Sequence[tuple[str, IdClaim]] = ()
    claims_gone: Sequence[str] = ()
    floors: Mapping[int, int] = MappingProxyType({})


def begin(engine: Engine) -> None:
    """Make an empty engine a follower. It must be restored next."""
    engine.follows = True
    engine.history.bound(math.inf, math.inf)


def end(engine: Engine) -> None:
    """Make a follower an independent engine: from now on its own bounds apply."""
    engine.follows = False
    engine.forget(engine.history.bound(*of_history(engine.limits, engine.place.count)))
    if isinstance(engine.history, KeptHistory):
        engine.history.arm_all()
    # What the other server had not done yet, or had not stored.
    for _ in engine.give_up_what_halts_nothing(list(engine.pinned)):
        pass


def follow(engine: Engine, changes: Changes) -> Iterator[None]:
    """Apply changes. The iterator pauses after every so many jobs, with the engine between two states, and must be run to its end.

    Raises Inconsistent.
    """
    since = engine.jobs.next_number
    if changes.next_number < since:
        raise Inconsistent(f"number {since - 1} was given, and the next is said to be {changes.next_number}")
    for number in _paused(changes.gone):
        if number is None:
            yield
        elif (old := engine.jobs.numbered(number)) is not None:
            _end(engine, old)
            engine.jobs.remove(old)
    made: list[Stored] = []
    changed: list[Stored] = []
    told_again: list[Stored] = []
    # This comes first, while every job is in its place: a queue that begins to use keys sorts the jobs it has.
    yield from _set_queues(engine, changes)
    yield from _take_out(engine, changes.jobs, made, changed, told_again)
    engine.schedules.follow(changes.schedules, changes.schedules_gone)
    engine.uniques.follow(changes.windows, changes.windows_gone)
    engine.groups.follow(changes.groups, changes.tallies, changes.groups_gone)
    engine.claims.follow(changes.claims, changes.claims_gone, changes.floors)
    for name in changes.queues_gone:
        deleted = engine.queues.pop(name, None)
        keep_by(engine, name, engine.default_policy)
        engine.ages.forget(name)
        engine.failing.errors.forget(name)
        engine.names = None
        if deleted is not None and deleted.live:
            raise Inconsistent(f"queue {name!r} was deleted with {deleted.live} jobs in it")
    made.sort(key=_number)
    if made and made[0].job.number < since:
        raise Inconsistent(f"job number {made[0].job.number} was not there before, and is not new")
    _step_aside(engine, told_again)
    for stored in made:
        add(engine, stored.job, changes.next_number, changes.next_number)
    places = Places(engine, since)
    _come_last(engine, told_again, places)
    for placed in _paused([*made, *changed]):
        if placed is None:
            yield
        else:
            places.add(placed)
    engine.jobs.next_number = changes.next_number
    yield from places.settle()
    _follow_logs(engine, changes)
    for queue in changes.queues:
        check_totals(engine.queues[queue.name])
    # These events are already stored, and there are no waiters here: they would only accumulate.
    engine.events.clear()


def _take_out(
    engine: Engine, jobs: Iterable[Stored], made: list[Stored], changed: list[Stored], told_again: list[Stored]
) -> Iterator[None]:
    """Separate new jobs from changed and unchanged ones, and take the changed ones out of their places."""
    for stored in _paused(jobs):
        if stored is None:
            yield
        elif (job := engine.jobs.numbered(stored.job.number)) is None:
            made.append(stored)
        elif _alike(job, _weighed(engine, stored.job)):
            told_again.append(Stored(job, stored.change))
        else:
            _end(engine, job)
            engine.jobs.exchange(job, stored.job)
            if stored.job.details.past:
                engine.failing.errors.learn(stored.job, job.details.past[-1].ended_at if job.details.past else None)
            changed.append(stored)


def _step_aside(engine: Engine, told_again: list[Stored]) -> None:
    """Move unchanged queued jobs to the places that they would have if they had returned.

    Such a job may have been taken and returned while one behind it is still away: that one will return behind it, but ahead of all that
    never left. If a job before it has never left, neither has this one, and it stays. For a job at the front, both places are the same.
    """
    for job in sorted((job for job, _ in told_again if job.status is QUEUED), key=_seq):
        queue = engine.queues[job.queue]
        if Ring.peek(queue.lane(job.priority)) is job:
            # Only in its lane: among the jobs of its key it is where it was.
            QueueState.remove(queue, job)
            QueueState.give_back(queue, job)


def _come_last(engine: Engine, told_again: list[Stored], places: Places) -> None:
    """Move ended jobs that are reported again to the end of history: until now they were kept for other jobs."""
    for again in told_again:
        if again.job.conclusion is not None and again.job not in engine.kept and again.job not in engine.pinned:
            engine.history.remove(again.job)
            places.come_again(again)


def _paused(items: Iterable[T]) -> Iterator[T | None]:
    """The items, with None where a pause is due."""
    for count, item in enumerate(items, 1):
        yield item
        if count % SLICE == 0:
            yield None


def _set_queues(engine: Engine, changes: Changes) -> Iterator[None]:
    for stored in changes.queues:
        set_queue(engine, stored)
    # Work that a change of rules would do in slices is done here at once: there are no waiters, and there is no ticker.
    while engine.deadlines.earliest == -math.inf:
        chore = engine.deadlines.pop(-math.inf)
        if isinstance(chore, Chore):
            for _ in chore.work:
                yield


def _follow_logs(engine: Engine, changes: Changes) -> None:
    """Apply the stored changes of logs. Every job is in its place, and counts the bytes that its log had before."""
    told = engine.logs.restore(changes.logs, changes.logs_gone)
    for number in told:
        if (job := engine.jobs.numbered(number)) is not None:
            engine.weigh_again(job)
    check_logs(engine, told & engine.logs.by_job.keys())


def _weighed(engine: Engine, job: Job) -> Job:
    if engine.logs:
        engine.weigh(job)
    return job


def _alike(job: Job, other: Job) -> bool:
    """Whether a job's state is unchanged: an unchanged job that is reported again keeps its place. This is never so for a scheduled job: it
    is behind all that changed earlier, and may have been changed without a difference, for example by an edit to the same value.
    """
    return (
        job.status is other.status
        and job.status is not SCHEDULED
        and job.queue == other.queue
        and job.hold == other.hold
        and job.attempts == other.attempts
        and job.details == other.details
        and job.priority == other.priority
        and job.payload == other.payload
        and job.type == other.type
    )


def _end(engine: Engine, job: Job) -> None:
    """Take a job out of all its places. A stale entry of it may be left among the jobs of its key (keys.py), and must stay stale: so the
    job that replaces it, if there is one, is a new object.
    """
    leave(engine, job)
    job.status = CONCLUDED


def _seq(job: Job) -> int:
    return job.seq


def _number(stored: Stored) -> int:
    return stored.job.number
