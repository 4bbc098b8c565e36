"""Restores an engine from what was stored: jobs, queues, counters.

Pure, like the rest of the engine: the caller reads the storage and passes jobs and queues one by one. Everything that can be derived is
derived (places, counts, due times), and everything that was stored is checked against it: `Inconsistent` says what does not fit, so a
server never starts on jobs that contradict each other.

Only this file decides where a job goes by its state (`Places`) and how it leaves there (`leave`): restoring places all jobs, and following
another engine (follow.py) those that have changed. A new index of jobs is filled in `Places` and emptied in `leave`.

Owns: which part of its lane a job goes to. A job that is away (leased, or scheduled after it had a place) will return ahead of every job of
the ring, so queued jobs older than the newest one that is away must be in the heap (see lane.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from msgspec.structs import replace

from jobqueue.engine.claims import IdClaim
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import K_CHANGED, Event
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.groups import StoredGroup, Tally
from jobqueue.engine.keys import place_of
from jobqueue.engine.logs import StoredChunk
from jobqueue.engine.queues import QueueState
from jobqueue.engine.retention import keep_by
from jobqueue.engine.sizes import job_bytes
from jobqueue.engine.state import AttemptKey
from jobqueue.engine.timetable import Stored as StoredSchedule
from jobqueue.engine.unique import Window
from jobqueue.model import CONCLUDED, IN_PROGRESS, NOTHING, PRIORITIES, QUEUED, Job, Outcome
from jobqueue.policy import Pause, QueuePolicy

TOTALS = (
    "enqueued",
    "dequeued",
    "redelivered",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
    "retried",
    "moved_in",
    "moved_out",
    "dead_lettered",
    "attempts_failed",
)
"""A queue's counters, in the order in which they are stored; the last has a column of its own."""

SLICE = 200
"""Jobs processed between two pauses: a few milliseconds."""


class Inconsistent(Exception):
    """The stored data contradicts itself. str() says where."""


class StoredQueue(NamedTuple):
    """A queue as it was stored; totals in the order of TOTALS."""

    name: str
    policy: QueuePolicy
    totals: tuple[int, ...]
    paused_keys: Mapping[str, Pause | None] = MappingProxyType({})
    own: bool = True
    created_at: float | None = None
    modified_at: float | None = None
    pause: Pause | None = None


class Stored(NamedTuple):
    """A job as it was stored. change: increases with every change of any job, so it tells which of two jobs changed first."""

    job: Job
    change: int


def restore(
    engine: Engine,
    queues: Iterable[StoredQueue],
    jobs: Iterable[Stored],
    next_number: int,
    next_seq: int,
    schedules: Iterable[StoredSchedule] = (),
    logs: Iterable[StoredChunk] = (),
    windows: Iterable[Window] = (),
    groups: Iterable[StoredGroup] = (),
    tallies: Iterable[Tally] = (),
    claims: Iterable[tuple[str, IdClaim]] = (),
    floors: Mapping[int, int] = MappingProxyType({}),
) -> None:
    """Fill an empty engine. jobs: in order of their numbers. Raises Inconsistent.

    History is cut to the engine's bounds, which may be narrower than before; the jobs that are forgotten for this are left in
    `engine.events`. Bounds on live jobs are not applied: no acknowledged job is dropped because a setting changed.
    """
    for queue in queues:
        if queue.name in engine.queues:
            raise Inconsistent(f"queue {queue.name!r} is stored twice")
        set_queue(engine, queue)
    for schedule in schedules:
        engine.schedules.restore(schedule)
    engine.logs.restore(logs)
    engine.uniques.follow(windows, ())
    engine.groups.follow(groups, tallies, ())
    places = Places(engine)
    number = 0
    for stored in jobs:
        job = stored.job
        require(number < job.number, job, "its number was given twice or never")
        number = job.number
        add(engine, job, next_number, next_seq)
        places.add(stored)
    # Older servers took numbers and places from separate counters, and stored two.
    engine.jobs.go_on(max(next_number, next_seq))
    for _ in places.settle():
        pass
    engine.claims.follow(claims, (), floors)
    if (fault := engine.claims.fault()) is not None:
        raise Inconsistent(fault)
    for state in engine.queues.values():
        check_totals(state)
    check_logs(engine, engine.logs.by_job)


def add(engine: Engine, job: Job, next_number: int, next_seq: int) -> None:
    """Add a job by its id and number. Raises Inconsistent."""
    require(job.number < next_number, job, "its number was given twice or never")
    require(job.id not in engine.jobs.by_id, job, "another job has its id")
    require(job.seq < next_seq, job, "its place in the queue was never given")
    engine.jobs.add(job)
    if job.details.past:
        engine.failing.errors.learn(job)


def check_totals(queue: QueueState) -> None:
    """Check that a queue's counters equal what it holds. Raises Inconsistent."""
    ended = queue.succeeded_total + queue.failed_total + queue.cancelled_total + queue.expired_total
    if queue.enqueued_total + queue.retried_total + queue.moved_in_total != queue.live + ended + queue.moved_out_total:
        raise Inconsistent(f"queue {queue.name!r}: what came in is neither here nor has ended")


def check_logs(engine: Engine, numbers: Iterable[int]) -> None:
    """Check that there is a job for each log. Raises Inconsistent."""
    for number in numbers:
        if engine.jobs.numbered(number) is None:
            raise Inconsistent(f"there is a log of job number {number}, and no such job")


def require(fits: bool, job: Job, fault: str) -> None:
    """Raise Inconsistent unless it fits."""
    if not fits:
        raise Inconsistent(f"job {job.id!r}, number {job.number}: {fault}")


def _check(job: Job) -> None:
    """Check that a job's own fields agree."""
    require((job.lease is not None) == (job.status is IN_PROGRESS), job, f"it is {job.status}, and its lease says otherwise")
    require((job.conclusion is not None) == (job.status is CONCLUDED), job, f"it is {job.status}, and its conclusion says otherwise")
    require(0 <= job.priority < PRIORITIES, job, f"its priority is {job.priority}")
    require(job.attempts >= (job.lease is not None), job, f"its attempts are {job.attempts}")
    require(not job.held_back or job.details.extra.may_hold_back, job, "it is scheduled for no time, and nothing holds it back")
    require(job.status not in (QUEUED, IN_PROGRESS) or job.seq > 0, job, "it has no place in its queue")


def set_queue(engine: Engine, stored: StoredQueue) -> QueueState:
    """Make a queue, or update it, with the stored policy, totals and paused keys. Raises Inconsistent."""
    if min(stored.totals) < 0:
        raise Inconsistent(f"queue {stored.name!r} counts below zero")
    queue = engine.queues.get(stored.name)
    if queue is None:
        queue = engine.queues[stored.name] = _new_queue(engine, stored)
        engine.names = None
    else:
        queue = engine.shape(queue, stored.policy, stored.paused_keys)
    keep_by(engine, stored.name, stored.policy)
    engine.ages.keep(queue, engine.now)
    queue.own = stored.own
    queue.created_at, queue.modified_at, queue.pause = stored.created_at, stored.modified_at, stored.pause
    for name, total in zip(TOTALS, stored.totals, strict=True):
        setattr(queue, f"{name}_total", total)
    return queue


def _new_queue(engine: Engine, stored: StoredQueue) -> QueueState:
    policy, keyed = stored.policy, stored.policy.keyed or bool(stored.paused_keys)
    if not policy.limited and not keyed:
        return QueueState(stored.name, policy)
    queue = FlowQueue(stored.name, policy, engine.limits, engine.deadlines)
    queue.keyed = keyed
    queue.paused = dict(stored.paused_keys)
    queue.know_paused()
    return queue


def leave(engine: Engine, job: Job) -> None:
    """Take a job out of the place of its state. It is still known by its id and number; its hold is removed if it was a lease."""
    if job.details.extra is not NOTHING:
        engine.uniques.left(job)
    if job.conclusion is not None:
        if job in engine.pinned:
            engine.unpin(job)
        elif job in engine.kept:
            engine.unkeep(job)
        else:
            engine.history.remove(job)
        engine.groups.ended(job, -1)
        return
    queue = engine.queues[job.queue]
    if job.lease is not None:
        engine.let_go(job, queue, job.lease)
    else:
        engine.detach(job, queue)
    if queue.flow:
        queue.leave(job)
    if job.details.extra is not NOTHING:
        engine.schedules.left(job)
        engine.groups.lives(job, -1)
        engine.graph.left(job)
    engine.live -= 1
    engine.live_bytes -= job_bytes(job)


class Places:
    """The places of jobs, collected while jobs are read, since their order in these places is not that of their numbers.

    since: numbers and places from here on were given after those of all other jobs of the engine; jobs with older ones were in their queue
    before.
    """

    def __init__(self, engine: Engine, since: int = 0) -> None:
        self._engine = engine
        self._since = since
        self._queued: dict[tuple[str, int], list[Job]] = {}
        self._away: dict[tuple[str, int], int] = {}
        self._scheduled: list[Stored] = []
        self._leased: list[Job] = []
        self._ended: dict[Outcome, list[Stored]] = {outcome: [] for outcome in Outcome}
        self._tokens: set[str] = set()
        self._children: list[Job] = []

    def add(self, stored: Stored) -> None:
        """Note a job's place, and count the job. Raises Inconsistent."""
        engine, job = self._engine, stored.job
        _check(job)
        if engine.logs:
            engine.weigh(job)
        if job.details.extra is not NOTHING:
            require(engine.uniques.restored(job), job, "another job has its unique key")
        if job.conclusion is not None:
            self._ended[job.conclusion.outcome].append(stored)
            engine.groups.ended(job)
            return
        require(job.queue in engine.queues, job, f"its queue {job.queue!r} is not stored")
        # One shared string for all jobs of a type, as for enqueued jobs.
        queue = engine.queues[job.queue]
        job.queue = queue.name
        if queue.flow:
            queue.enter(job)
        if job.type is not None:
            job.type = engine.shared_type(job.type)
        if job.details.extra is not NOTHING:
            engine.schedules.lives(job)
            engine.groups.lives(job)
            engine.graph.lives(job)
            self._children += [job] if job.details.extra.after else []
        engine.live += 1
        engine.live_bytes += job_bytes(job)
        lane = (job.queue, job.priority)
        if job.status is QUEUED:
            self._queued.setdefault(lane, []).append(job)
            return
        self._away[lane] = max(self._away.get(lane, 0), job.seq)
        if job.lease is None:
            self._scheduled.append(stored)
            return
        require(job.lease.token not in self._tokens, job, "another job has its lease's token")
        self._tokens.add(job.lease.token)
        self._leased.append(job)

    def come_again(self, stored: Stored) -> None:
        """Note a concluded job that is already counted, and is out of history."""
        assert stored.job.outcome is not None
        self._ended[stored.job.outcome].append(stored)

    def settle(self) -> Iterator[None]:
        """Put every job in its place. The iterator pauses after every so many jobs, and must be run to its end. Raises Inconsistent."""
        engine, count = self._engine, 0
        new = {job.number for ended in self._ended.values() for job, _ in ended}
        for (name, priority), jobs in self._queued.items():
            yield from self._line_up(engine.queues[name], jobs, self._away.get((name, priority), 0))
        for job, _ in sorted(self._scheduled, key=_change):
            engine.schedule(job, engine.queues[job.queue])
            count += 1
            if count % SLICE == 0:
                yield
        # The jobs that one dequeue took from one queue, in the order in which it took them, so that a replay has the same order.
        for job in sorted(self._leased, key=_taken):
            self._lease(job)
            count += 1
            if count % SLICE == 0:
                yield
        for job in self._children:
            for parent in job.details.extra.after:
                # A job that ended earlier, and was in history until now.
                if (known := engine.jobs.find(parent)) is not None and known.number not in new:
                    engine.graph.keep(parent)
            count += 1
            if count % SLICE == 0:
                yield
        for outcome, ended in self._ended.items():
            for job, _ in sorted(ended, key=_ended):
                self._remember(job, outcome)
                count += 1
                if count % SLICE == 0:
                    yield

    def _lease(self, job: Job) -> None:
        engine, lease = self._engine, job.lease
        assert lease is not None
        queue = engine.queues[job.queue]
        queue.in_progress += 1
        if queue.flow:
            queue.running(job)
            if queue.policy.limited:
                lease = replace(lease, limited=True)
        most = queue.policy.max_attempts if job.max_attempts is None else job.max_attempts
        job.hold = replace(lease, attempts_max=most)
        engine.lease_ends.set(job, lease.expires_at)
        if lease.attempt_id is not None:
            self._attempt((lease.attempt_id, lease.worker, lease.who, job.queue), job)

    def _remember(self, job: Job, outcome: Outcome) -> None:
        engine, end = self._engine, job.conclusion
        assert end is not None
        queue = engine.queues.get(job.queue)
        minds = isinstance(queue, FlowQueue) and queue.keyed
        if end.halts and (minds or engine.follows):
            engine.pin(job, queue if minds else None, job_bytes(job))
            return
        if end.halts:
            # The queue no longer uses keys, but the server ended before the job's change was stored. Store it now: otherwise the job would
            # stop its key again if the queue used keys again and a server was restarted with that.
            job.hold = replace(end, halts=False)
            engine.events.append(Event(K_CHANGED, job.queue, job))
        engine.remember(job, outcome, job_bytes(job))

    def _line_up(self, queue: QueueState, jobs: list[Job], away: int) -> Iterator[None]:
        engine, since = self._engine, self._since
        seq = 0
        for count, job in enumerate(sorted(jobs, key=_seq), 1):
            require(job.seq > seq, job, "another job has its place in the queue")
            seq = job.seq
            if seq < away or seq < since:
                queue.give_back(job)
            else:
                queue.append(job)
            if job.expires_at is not None:
                engine.deadlines.set(job, job.expires_at)
            if count % SLICE == 0:
                queue.pack(job.priority, engine.jobs)
                yield

    def _attempt(self, key: AttemptKey, job: Job) -> None:
        held = self._engine.attempts.setdefault(key, {})
        late = not held or _taken(next(reversed(held))) <= _taken(job)
        held[job] = None
        if not late:
            # It was already leased, and was extended.
            self._engine.attempts[key] = dict.fromkeys(sorted(held, key=_taken))


def _change(stored: Stored) -> int:
    return stored.change


def _ended(stored: Stored) -> tuple[bool, float, int]:
    # Jobs that halted their keys go to history last, if at all, since they change now. By the time of their end and not only by their last
    # change: a job can change after it has ended, for example when a purge ends its claim on a unique key.
    end = stored.job.conclusion
    assert end is not None
    return end.halts, end.concluded_at, stored.change


def _taken(job: Job) -> tuple[float, int, int]:
    assert job.lease is not None
    # In the order in which the key hands them out: a job that holds the key goes before others, whatever its priority.
    rank, seq, _ = place_of(job)
    return job.lease.started_at, rank, seq


def _seq(job: Job) -> int:
    return job.seq
