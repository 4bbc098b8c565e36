"""An engine as it was, from what was stored of it: jobs, queues, counters.

Pure, like the rest of the engine: who reads the storage hands over jobs and queues one by one. Everything that can be derived is
derived (places, counts, due times), and everything that was stored is checked against it: `Inconsistent` says what does not fit, so that
a server never starts on jobs that contradict each other.

Owns: which part of its lane a job goes to. A job that is away (leased, or scheduled after it had a place) will come back ahead of every
job of the ring, so queued jobs older than the newest one that is away must stand in the heap (see lane.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from jobqueue.engine.engine import Engine
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.queues import QueueState
from jobqueue.engine.sizes import job_bytes
from jobqueue.model import CONCLUDED, IN_PROGRESS, PRIORITIES, QUEUED, SCHEDULED, Job, Outcome, QueuePolicy

TOTALS = ("enqueued", "dequeued", "redelivered", "succeeded", "failed", "cancelled", "expired", "retried")
"""What a queue counts, in the order in which it is stored."""


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
        _add_queue(engine, queue)
    places = _Places()
    number = 0
    for stored in jobs:
        job = stored.job
        _require(number < job.number < next_number, job, "its number was given twice or never")
        _require(job.id not in engine.jobs.by_id, job, "another job has its id")
        _require(job.seq < next_seq, job, "its place in the queue was never given")
        number = job.number
        _check(job)
        places.add(engine, stored)
        engine.jobs.add(job)
    # Servers before numbers and places came from one counter stored two.
    engine.jobs.next_number = max(next_number, next_seq)
    places.settle(engine)
    for state in engine.queues.values():
        ended = state.succeeded_total + state.failed_total + state.cancelled_total + state.expired_total
        if state.enqueued_total + state.retried_total != state.live + ended:
            raise Inconsistent(f"queue {state.name!r}: what came in is neither here nor has ended")


def _require(fits: bool, job: Job, fault: str) -> None:
    if not fits:
        raise Inconsistent(f"job {job.id!r}, number {job.number}: {fault}")


def _check(job: Job) -> None:
    """Whether a job's own fields agree."""
    _require((job.lease is not None) == (job.status is IN_PROGRESS), job, f"it is {job.status}, and its lease says otherwise")
    _require((job.conclusion is not None) == (job.status is CONCLUDED), job, f"it is {job.status}, and its conclusion says otherwise")
    _require(0 <= job.priority < PRIORITIES, job, f"its priority is {job.priority}")
    _require(job.attempts >= (job.lease is not None), job, f"its attempts are {job.attempts}")
    _require(job.status is not SCHEDULED or job.run_at is not None, job, "it is scheduled for no time")
    _require(job.status not in (QUEUED, IN_PROGRESS) or job.seq > 0, job, "it has no place in its queue")


def _add_queue(engine: Engine, stored: StoredQueue) -> None:
    if stored.name in engine.queues or min(stored.totals) < 0:
        raise Inconsistent(f"queue {stored.name!r} is stored twice or counts below zero")
    queue: QueueState = QueueState(stored.name, stored.policy)
    if stored.policy.limited or stored.policy.keyed or stored.paused_keys:
        queue = flow = FlowQueue(stored.name, stored.policy, engine.limits, engine.deadlines)
        flow.keyed = stored.policy.keyed or bool(stored.paused_keys)
        flow.paused_keys = dict.fromkeys(stored.paused_keys)
    engine.queues[stored.name] = queue
    for name, total in zip(TOTALS, stored.totals, strict=True):
        setattr(queue, f"{name}_total", total)


class _Places:
    """Where jobs go, collected while they are read, since their order there is not that of their numbers."""

    def __init__(self) -> None:
        self.queued: dict[tuple[str, int], list[Job]] = {}
        self.away: dict[tuple[str, int], int] = {}
        self.scheduled: list[Stored] = []
        self.leased: list[Job] = []
        self.ended: dict[Outcome, list[Stored]] = {outcome: [] for outcome in Outcome}
        self.tokens: set[str] = set()

    def add(self, engine: Engine, stored: Stored) -> None:
        """Note where a job belongs, and count it."""
        job = stored.job
        if job.conclusion is not None:
            self.ended[job.conclusion.outcome].append(stored)
            return
        _require(job.queue in engine.queues, job, f"its queue {job.queue!r} is not stored")
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
            self.queued.setdefault(lane, []).append(job)
            return
        self.away[lane] = max(self.away.get(lane, 0), job.seq)
        if job.lease is None:
            self.scheduled.append(stored)
            return
        _require(job.lease.token not in self.tokens, job, "another job has its lease's token")
        self.tokens.add(job.lease.token)
        self.leased.append(job)

    def settle(self, engine: Engine) -> None:
        """Put every job in its place."""
        for (name, priority), jobs in self.queued.items():
            self._line_up(engine, engine.queues[name], jobs, self.away.get((name, priority), 0))
        for job, _ in sorted(self.scheduled, key=_change):
            engine.schedule(job, engine.queues[job.queue])
        # Those of one dequeue of one queue in the order in which it took them: so they are replayed.
        for job in sorted(self.leased, key=_taken):
            assert job.lease is not None
            queue = engine.queues[job.queue]
            queue.in_progress += 1
            if queue.flow:
                queue.running(job)
                if queue.policy.limited:
                    job.hold = replace(job.lease, limited=True)
            engine.lease_ends.set(job, job.lease.expires_at)
            if job.lease.attempt_id is not None:
                key = (job.lease.attempt_id, job.lease.worker, job.lease.who, job.queue)
                engine.attempts.setdefault(key, {})[job] = None
        for outcome, ended in self.ended.items():
            for job, _ in sorted(ended, key=_change):
                assert job.conclusion is not None
                if job.conclusion.halts:
                    self._halt(engine, job)
                else:
                    engine.remember(job, outcome, job_bytes(job))

    @staticmethod
    def _halt(engine: Engine, job: Job) -> None:
        queue = engine.queues.get(job.queue)
        if isinstance(queue, FlowQueue) and queue.keyed:
            engine.pin(job, queue, job_bytes(job))
            return
        # Its queue minds keys no more, and the server ended before this was stored of it.
        assert job.conclusion is not None
        job.hold = replace(job.conclusion, halts=False)
        engine.remember(job, Outcome.FAILED, job_bytes(job))

    @staticmethod
    def _line_up(engine: Engine, queue: QueueState, jobs: list[Job], away: int) -> None:
        seq = 0
        for job in sorted(jobs, key=_seq):
            _require(job.seq > seq, job, "another job has its place in the queue")
            seq = job.seq
            if seq < away:
                queue.give_back(job)
            else:
                queue.append(job)
            if job.expires_at is not None:
                engine.deadlines.set(job, job.expires_at)


def _change(stored: Stored) -> int:
    return stored.change


def _taken(job: Job) -> tuple[float, int, int]:
    assert job.lease is not None
    return job.lease.started_at, job.priority, job.seq


def _seq(job: Job) -> int:
    return job.seq
