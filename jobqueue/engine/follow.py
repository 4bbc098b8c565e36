"""An engine that follows another one: what has changed there is changed here, so that it can go on in the other's place at once.

It is restored once (restore.py), and from then on given the changes of the other's commits, each time the latest state of every job that
has changed, with no word of what happened to it on the way. A job that has changed leaves every place that it had and goes where its new
state belongs, by the same rule by which a restored job does. So what comes out is what restoring from the same rows would give, and what
is given twice does no harm. `Inconsistent` says that something is missing; then the engine is of no use any more.

An engine that follows forgets nothing by itself: the other one's history has other bounds, perhaps, and says what it forgets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from jobqueue.engine.engine import Engine
from jobqueue.engine.queues import QueueState
from jobqueue.engine.restore import SLICE, Inconsistent, Places, Stored, StoredQueue, add, check_totals, leave, set_queue
from jobqueue.engine.ring import Ring
from jobqueue.engine.state import Chore
from jobqueue.model import CONCLUDED, QUEUED, Job

T = TypeVar("T")


class Changes(NamedTuple):
    """What has changed. jobs: the new state of each, in any order; gone: numbers of those that are forgotten; next_number: of the whole."""

    jobs: Iterable[Stored]
    gone: Sequence[int]
    queues: Sequence[StoredQueue]
    queues_gone: Sequence[str]
    next_number: int


def begin(engine: Engine) -> None:
    """Make an empty engine one that follows. It is to be restored next."""
    engine.follows = True
    engine.history.bound(math.inf, math.inf)


def end(engine: Engine) -> None:
    """Make an engine that followed one that goes on by itself: from now on its own bounds hold."""
    limits = engine.limits
    engine.follows = False
    engine.forget(engine.history.bound(limits.history_jobs_max, limits.history_bytes_max))
    # What the other one had not come to, or had not written.
    for _ in engine.give_up_what_halts_nothing(list(engine.pinned)):
        pass


def follow(engine: Engine, changes: Changes) -> Iterator[None]:
    """Apply changes. It stops after every so many jobs, with the engine between two states, and is to be run to its end.

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
    told_again: list[Job] = []
    # First, while every job is where it was: a queue that begins to mind keys sorts those that there are.
    yield from _set_queues(engine, changes)
    yield from _take_out(engine, changes.jobs, made, changed, told_again)
    for name in changes.queues_gone:
        deleted = engine.queues.pop(name, None)
        if deleted is not None and deleted.live:
            raise Inconsistent(f"queue {name!r} was deleted with {deleted.live} jobs in it")
    made.sort(key=_number)
    if made and made[0].job.number < since:
        raise Inconsistent(f"job number {made[0].job.number} was not there before, and is not new")
    _step_aside(engine, told_again)
    for stored in made:
        add(engine, stored.job, changes.next_number, changes.next_number)
    places = Places(engine, since)
    for placed in _paused([*made, *changed]):
        if placed is None:
            yield
        else:
            places.add(placed)
    engine.jobs.next_number = changes.next_number
    yield from places.settle()
    for queue in changes.queues:
        check_totals(engine.queues[queue.name])
    # What has happened is written already, and nobody waits here: they would only pile up.
    engine.events.clear()


def _take_out(engine: Engine, jobs: Iterable[Stored], made: list[Stored], changed: list[Stored], told_again: list[Job]) -> Iterator[None]:
    """Tell jobs that are new from those that have changed and those that are as they were, and take those out that have changed."""
    for stored in _paused(jobs):
        if stored is None:
            yield
        elif (job := engine.jobs.numbered(stored.job.number)) is None:
            made.append(stored)
        elif _alike(job, stored.job):
            told_again.append(job)
        else:
            _end(engine, job)
            stored.job.payload = job.payload
            engine.jobs.exchange(job, stored.job)
            changed.append(stored)


def _step_aside(engine: Engine, told_again: list[Job]) -> None:
    """Let queued jobs that are as they were stand where those do that have come back.

    Such a job may have been taken and given back, with one behind it still away: that one comes back behind it, but ahead of all that
    never left. If one that is before it has never left, it has not either, and stays. For one at the front both places are the same.
    """
    for job in sorted((job for job in told_again if job.status is QUEUED), key=_seq):
        queue = engine.queues[job.queue]
        if Ring.peek(queue.lane(job.priority)) is job:
            # Of its lane alone: for its key it stands where it stood.
            QueueState.remove(queue, job)
            QueueState.give_back(queue, job)


def _paused(items: Iterable[T]) -> Iterator[T | None]:
    """Items, with None where there is to be a pause."""
    for count, item in enumerate(items, 1):
        yield item
        if count % SLICE == 0:
            yield None


def _set_queues(engine: Engine, changes: Changes) -> Iterator[None]:
    for stored in changes.queues:
        set_queue(engine, stored)
    # What a change of rules wants to be done in slices: nobody waits here, and there is no ticker.
    while engine.deadlines.earliest == -math.inf:
        chore = engine.deadlines.pop(-math.inf)
        if isinstance(chore, Chore):
            for _ in chore.work:
                yield


def _alike(job: Job, other: Job) -> bool:
    """Whether a job's state is what it was: one that is told again keeps its place."""
    return job.status is other.status and job.hold == other.hold and job.attempts == other.attempts and job.details == other.details


def _end(engine: Engine, job: Job) -> None:
    """Take a job out of all its places. Where it is known of a key, a stale place of it may be left (keys.py), which is to stay stale: so
    what goes on in its stead, if anything does, is another object.
    """
    leave(engine, job)
    job.status = CONCLUDED


def _seq(job: Job) -> int:
    return job.seq


def _number(stored: Stored) -> int:
    return stored.job.number
