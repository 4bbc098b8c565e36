"""An engine as it was, from what was stored of it: jobs, queues, counters.

Pure, like the rest of the engine: who reads the storage hands over jobs and queues one by one. Everything that can be derived is
derived (places, counts, due times), and everything that was stored is checked against it: `Inconsistent` says what does not fit, so that
a server never starts on jobs that contradict each other.

Here, once, is where a job goes by its state (`Places`) and how it leaves there (`leave`): restoring places all jobs, following another
engine (follow.py) those that have changed. A new index of jobs is filled in `Places` and left in `leave`.

Owns: which part of its lane a job goes to. A job that is away (leased, or scheduled after it had a place) will come back ahead of every
job of the ring, so queued jobs older than the newest one that is away must stand in the heap (see lane.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec.structs import replace

from jobqueue.engine.engine import Engine
from jobqueue.engine.events import K_CHANGED, Event
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.keys import place_of
from jobqueue.engine.queues import QueueState
from jobqueue.engine.sizes import job_bytes
from jobqueue.engine.state import AttemptKey
from jobqueue.model import CONCLUDED, IN_PROGRESS, PRIORITIES, QUEUED, SCHEDULED, Job, Outcome, QueuePolicy

TOTALS = ("enqueued", "dequeued", "redelivered", "succeeded", "failed", "cancelled", "expired", "retried")
"""What a queue counts, in the order in which it is stored."""

SLICE = 200
"""Jobs that are dealt with between two pauses: a few milliseconds."""


class Inconsistent(Exception):
    """What is stored contradicts itself. str() says where."""


class StoredQueue(NamedTuple):
    """A queue as it was stored; totals in the order of TOTALS."""

    name: str
    policy: QueuePolicy
    totals: tuple[int, ...]
    paused_keys: tuple[str, ...] = ()


class Stored(NamedTuple):
    """A job as it was stored. change: grows with every change of any job, so it tells which of two jobs changed first."""

    job: Job
    change: int


def restore(engine: Engine, queues: Iterable[StoredQueue], jobs: Iterable[Stored], next_number: int, next_seq: int) -> None:
    """Fill an empty engine. jobs: in order of their numbers. Raises Inconsistent.

    History is cut to the engine's bounds, which may be narrower than they were; what is forgotten for it is left in `engine.events`.
    Bounds on live jobs are not applied: nothing acknowledged is dropped because a setting changed.
    """
    for queue in queues:
        if queue.name in engine.queues:
            raise Inconsistent(f"queue {queue.name!r} is stored twice")
        set_queue(engine, queue)
    places = Places(engine)
    number = 0
    for stored in jobs:
        job = stored.job
        require(number < job.number, job, "its number was given twice or never")
        number = job.number
        add(engine, job, next_number, next_seq)
        places.add(stored)
    # Servers before numbers and places came from one counter stored two.
    engine.jobs.next_number = max(next_number, next_seq)
    for _ in places.settle():
        pass
    for state in engine.queues.values():
        check_totals(state)


def add(engine: Engine, job: Job, next_number: int, next_seq: int) -> None:
    """Make a job known by its id and number. Raises Inconsistent."""
    require(job.number < next_number, job, "its number was given twice or never")
    require(job.id not in engine.jobs.by_id, job, "another job has its id")
    require(job.seq < next_seq, job, "its place in the queue was never given")
    engine.jobs.add(job)


def check_totals(queue: QueueState) -> None:
    """Whether what a queue counted is what it holds. Raises Inconsistent."""
    ended = queue.succeeded_total + queue.failed_total + queue.cancelled_total + queue.expired_total
    if queue.enqueued_total + queue.retried_total != queue.live + ended:
        raise Inconsistent(f"queue {queue.name!r}: what came in is neither here nor has ended")


def require(fits: bool, job: Job, fault: str) -> None:
    """Raise Inconsistent unless it fits."""
    if not fits:
        raise Inconsistent(f"job {job.id!r}, number {job.number}: {fault}")


def _check(job: Job) -> None:
    """Whether a job's own fields agree."""
    require((job.lease is not None) == (job.status is IN_PROGRESS), job, f"it is {job.status}, and its lease says otherwise")
    require((job.conclusion is not None) == (job.status is CONCLUDED), job, f"it is {job.status}, and its conclusion says otherwise")
    require(0 <= job.priority < PRIORITIES, job, f"its priority is {job.priority}")
    require(job.attempts >= (job.lease is not None), job, f"its attempts are {job.attempts}")
    require(job.status is not SCHEDULED or job.run_at is not None, job, "it is scheduled for no time")
    require(job.status not in (QUEUED, IN_PROGRESS) or job.seq > 0, job, "it has no place in its queue")


def set_queue(engine: Engine, stored: StoredQueue) -> QueueState:
    """Make a queue, or give it the policy, the totals and the paused keys that are stored. Raises Inconsistent."""
    if min(stored.totals) < 0:
        raise Inconsistent(f"queue {stored.name!r} counts below zero")
    queue = engine.queues.get(stored.name)
    if queue is None:
        queue = engine.queues[stored.name] = _new_queue(engine, stored)
    else:
        queue = engine.shape(queue, stored.policy, stored.paused_keys)
    for name, total in zip(TOTALS, stored.totals, strict=True):
        setattr(queue, f"{name}_total", total)
    return queue


def _new_queue(engine: Engine, stored: StoredQueue) -> QueueState:
    policy, keyed = stored.policy, stored.policy.keyed or bool(stored.paused_keys)
    if not policy.limited and not keyed:
        return QueueState(stored.name, policy)
    queue = FlowQueue(stored.name, policy, engine.limits, engine.deadlines)
    queue.keyed = keyed
    queue.paused = dict.fromkeys(stored.paused_keys)
    queue.know_paused()
    return queue


def leave(engine: Engine, job: Job) -> None:
    """Take a job out of wherever its state has put it. It is still known by its id and number, and its hold is gone if it was a lease."""
    if job.conclusion is not None:
        if job in engine.pinned:
            engine.unpin(job)
        else:
            engine.history.remove(job)
        return
    queue = engine.queues[job.queue]
    if job.lease is not None:
        engine.let_go(job, queue, job.lease)
    else:
        engine.detach(job, queue)
    if queue.flow:
        queue.leave(job)
    engine.live -= 1
    engine.live_bytes -= job_bytes(job)


class Places:
    """Where jobs go, collected while they are read, since their order there is not that of their numbers.

    since: numbers and places from here on were given after all other jobs of the engine had theirs; those that are older have been in
    their queue before.
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

    def add(self, stored: Stored) -> None:
        """Note where a job belongs, and count it. Raises Inconsistent."""
        engine, job = self._engine, stored.job
        _check(job)
        if job.conclusion is not None:
            self._ended[job.conclusion.outcome].append(stored)
            return
        require(job.queue in engine.queues, job, f"its queue {job.queue!r} is not stored")
        # One text for all jobs, as for those that are enqueued.
        queue = engine.queues[job.queue]
        job.queue = queue.name
        if queue.flow:
            queue.enter(job)
        if job.type is not None:
            job.type = engine.shared_type(job.type)
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

    def settle(self) -> Iterator[None]:
        """Put every job in its place. It pauses after every so many, and is to be run to its end. Raises Inconsistent."""
        engine, count = self._engine, 0
        for (name, priority), jobs in self._queued.items():
            yield from self._line_up(engine.queues[name], jobs, self._away.get((name, priority), 0))
        for job, _ in sorted(self._scheduled, key=_change):
            engine.schedule(job, engine.queues[job.queue])
            count += 1
            if count % SLICE == 0:
                yield
        # Those of one dequeue of one queue in the order in which it took them: so they are replayed.
        for job in sorted(self._leased, key=_taken):
            self._lease(job)
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
                job.hold = replace(lease, limited=True)
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
            # Its queue minds keys no more, and the server ended before this was stored of it. It is to be now: else the key would stand
            # still for it again as soon as its queue minds keys again, and a server is started on that.
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
                yield

    def _attempt(self, key: AttemptKey, job: Job) -> None:
        held = self._engine.attempts.setdefault(key, {})
        late = not held or _taken(next(reversed(held))) <= _taken(job)
        held[job] = None
        if not late:
            # It was there before and has been extended.
            self._engine.attempts[key] = dict.fromkeys(sorted(held, key=_taken))


def _change(stored: Stored) -> int:
    return stored.change


def _ended(stored: Stored) -> tuple[bool, int]:
    # Those that halted their keys come into history last, if they do, since they change now.
    end = stored.job.conclusion
    return end is not None and end.halts, stored.change


def _taken(job: Job) -> tuple[float, int, int]:
    assert job.lease is not None
    # As its key hands them out: one that holds it goes before others, whatever its priority.
    rank, seq, _ = place_of(job)
    return job.lease.started_at, rank, seq


def _seq(job: Job) -> int:
    return job.seq
