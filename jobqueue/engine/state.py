"""All of the engine's data, and the few moves every operation is made of.

Invariants, checked after every step of the property tests (tests/engine/invariants.py): a job is in exactly one place (a lane, its queue's
scheduled set, leased, or history) and its status says which; counters equal what they count; bytes add up; every
scheduled, leased or expiring job has its due time in a heap. `move` is the only assignment to a job's status in the project.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

from msgspec.structs import replace

from jobqueue.engine import checks
from jobqueue.engine.catalogue import Catalogue
from jobqueue.engine.deadlines import Deadlines
from jobqueue.engine.events import K_CHANGED, K_CONCLUDED, K_FORGOTTEN, K_FREED, K_QUEUE_CHANGED, K_QUEUED, K_SCHEDULED, Event
from jobqueue.engine.history import History
from jobqueue.engine.lifecycle import T_EXPIRE, T_LEASE_EXPIRED, T_RELEASE, TABLE, Trigger
from jobqueue.engine.queues import QueueState
from jobqueue.engine.sizes import conclusion_bytes, job_bytes, lease_bytes, own_bytes
from jobqueue.errors import QueueFull, TooManyQueues, UnknownJob, UnknownQueue
from jobqueue.histogram import JOB_SECONDS, Histogram
from jobqueue.ids import Ids
from jobqueue.limits import Limits
from jobqueue.model import (
    CANCELLED,
    CONCLUDED,
    EXPIRED,
    FAILED,
    PLAIN,
    QUEUED,
    SCHEDULED,
    SUCCEEDED,
    Conclusion,
    Job,
    Lease,
    Outcome,
    QueuePolicy,
    Status,
)

FRONT, BACK = True, False

AttemptKey = tuple[str, str | None, str, str]
"""An attempt_id, of which worker, of which `Want.who`, on which queue."""

_TYPES_MAX = 1_000
"""Types remembered. Beyond it all are forgotten, so that a client that makes up a type for every job fills no memory."""


class Chore:
    """Something long that the ticker does in slices. work: yields how much a slice looked at; queue: whose jobs may go when it is done."""

    __slots__ = ("queue", "work")

    def __init__(self, work: Iterator[int], queue: str | None) -> None:
        self.work = work
        self.queue = queue


class State:
    """Jobs, queues, due times and history. Not thread-safe; every method is one synchronous step."""

    def __init__(self, limits: Limits | None = None, ids: Ids | None = None, random: Random | None = None) -> None:
        self.limits = limits or Limits()
        self.ids = ids or Ids()
        self.random = random or Random()
        self.jobs = Catalogue()
        self.queues: dict[str, QueueState] = {}
        self.deadlines: Deadlines[object] = Deadlines()
        """When jobs that wait are due: run_at, expires_at. And queues and keys that wait for a rate, and chores."""
        self.lease_ends: Deadlines[Job] = Deadlines()
        """When leases end. By themselves, since they may have to wait until the server has read what workers sent."""
        self.history = History(self.limits.history_jobs_max, self.limits.history_bytes_max)
        self.attempts: dict[AttemptKey, dict[Job, None]] = {}
        """The jobs leased under an attempt_id, in the order in which they were taken; dicts, so that one among many leaves at once."""
        self.types: dict[str, str] = {}
        self.live = 0
        self.live_bytes = 0
        self.pinned: dict[Job, None] = {}
        """Failed jobs that halt their keys. They are no part of history, which would forget them, and take room from live jobs."""
        self.follows = False
        """Whether another engine decides, and this one does as it is told (follow.py)."""
        self.jobs_max = self.limits.jobs_max
        self.bytes_max = self.limits.payload_total_bytes_max
        """What live jobs may be and hold: what the limits say, less what is pinned."""
        self.errors_left_out_total = 0
        self.messages_left_out_total = 0
        self.events: list[Event] = []
        self.time_in_queue = Histogram(JOB_SECONDS)
        self.time_in_progress = Histogram(JOB_SECONDS)
        self.leases_expired_total = 0
        self.default_policy = QueuePolicy(lease_seconds=self.limits.lease_seconds_default, max_attempts=self.limits.max_attempts_default)

    def take_events(self) -> list[Event]:
        """The events since the last call, in order."""
        events = self.events
        self.events = []
        return events

    def pin(self, job: Job, queue: QueueState | None, size: int) -> None:
        """Keep a failed job for as long as it halts its key; queue: None if it halts nothing, and is to be given up."""
        self.pinned[job] = None
        self.jobs_max -= 1
        self.bytes_max -= size
        if queue is not None:
            queue.halt(job)

    def unpin(self, job: Job) -> int:
        """Let a key go on that a failed job halts; the bytes of that job, which is in no place now."""
        conclusion = job.conclusion
        assert conclusion is not None
        del self.pinned[job]
        size = job_bytes(job)
        self.jobs_max += 1
        self.bytes_max += size
        job.hold = replace(conclusion, halts=False)
        queue = self.queues.get(job.queue)
        if queue is not None and queue.flow:
            queue.unhalt(job)
            self.freed(queue)
        return size

    def give_up(self, job: Job) -> None:
        """Put a failed job in history that halted its key until now."""
        size = self.unpin(job)
        self.events.append(Event(K_CHANGED, job.queue, job))
        self.remember(job, FAILED, size)

    def freed(self, queue: QueueState) -> None:
        """Jobs of a queue may go that were held back."""
        if queue.queued:
            self.events.append(Event(K_FREED, queue.name))

    def do_later(self, work: Iterator[int], queue: str | None = None) -> None:
        """Have the ticker do something long in slices; then jobs of `queue` may go."""
        self.deadlines.set(Chore(work, queue), -math.inf)

    def next_deadline(self) -> float | None:
        """When `tick` must run next; it may be early, never late. None: nothing is due ever."""
        earliest = min(self.deadlines.earliest, self.lease_ends.earliest)
        return None if earliest == math.inf else earliest

    def job(self, job_id: str) -> Job:
        """The job of this id, live or in history. Raises UnknownJob."""
        job = self.jobs.by_id.get(job_id)
        if job is None:
            raise UnknownJob(job_id)
        return job

    def numbered(self, number: int) -> Job:
        """The job of this number, live or in history. Raises UnknownJob."""
        job = self.jobs.numbered(number)
        if job is None:
            raise UnknownJob(str(number))
        return job

    def queue(self, name: str) -> QueueState:
        """The queue of this name. Raises UnknownQueue."""
        queue = self.queues.get(name)
        if queue is None:
            raise UnknownQueue(name)
        return queue

    def make_room(self, queue_name: str, size: int, key: str | None = None) -> QueueState:
        """The queue one more job of this key and of so many bytes may enter, made if need be.

        Raises QueueFull, TooManyQueues or BadRequest (name); changes nothing then.
        """
        if self.live >= self.jobs_max:
            raise QueueFull(f"the server holds {self.live} live jobs, as many as it may")
        if not self.has_room(size):
            raise QueueFull(f"the server's live jobs hold {self.live_bytes} bytes; {self.bytes_max} are allowed")
        queue = self.queues.get(queue_name)
        if queue is None:
            return self.make_queue(queue_name)
        if queue.flow:
            queue.check_room(key)
        if queue.policy.max_jobs is not None and queue.live >= queue.policy.max_jobs:
            raise QueueFull(f"queue {queue_name!r} holds {queue.live} live jobs, as many as it may")
        return queue

    def has_room(self, size: int) -> bool:
        """Whether live jobs may hold so many bytes more."""
        return self.live_bytes + size <= self.bytes_max

    def make_queue(self, name: str) -> QueueState:
        """A new queue with the default policy. Raises TooManyQueues or BadRequest."""
        checks.name("queue", name)
        if len(self.queues) >= self.limits.queues_max:
            raise TooManyQueues(f"the server has {len(self.queues)} queues, as many as it may; delete empty ones")
        queue = self.queues[name] = QueueState(name, self.default_policy)
        self.events.append(Event(K_QUEUE_CHANGED, name))
        return queue

    def lease_of(self, job: Job, token: str) -> Lease | None:
        """The job's live lease if `token` is its token, else None."""
        lease = job.lease
        return lease if lease is not None and lease.token == token else None

    def shared_type(self, name: str) -> str:
        """The one text that all jobs of a type share, as long as it is remembered."""
        if len(self.types) >= _TYPES_MAX:
            self.types.clear()
        return self.types.setdefault(name, name)

    def max_attempts(self, job: Job, queue: QueueState) -> int:
        """The job's own, else its queue's."""
        return queue.policy.max_attempts if job.max_attempts is None else job.max_attempts

    # The moves. Each takes a job out of where it was before it is called: `detach`, `let_go` or a pop.

    def move(self, job: Job, trigger: Trigger, to: Status) -> None:
        """Set a job's status, if the table says that `trigger` may lead there."""
        cell = TABLE[trigger][job.status]
        assert to in cell.to, f"{trigger} does not lead from {job.status} to {to}"
        job.status = to

    def detach(self, job: Job, queue: QueueState) -> None:
        """Take a job that waits out of its lane or schedule, and its due time out of the heap."""
        if job.status is QUEUED:
            queue.remove(job)
        else:
            del queue.scheduled[job.number]
            if queue.flow and job.details.holds:
                queue.fetched(job)
                self.freed(queue)
        self.deadlines.drop(job)

    def let_go(self, job: Job, queue: QueueState, lease: Lease) -> None:
        """Take a live job out of its lease, and its due time out of the heap."""
        queue.in_progress -= 1
        job.hold = None
        if lease.worker is not None or lease.attempt_id is not None or lease.message is not None:
            self.live_bytes -= lease_bytes(lease)
        if lease.attempt_id is not None:
            key = (lease.attempt_id, lease.worker, lease.who, job.queue)
            held = self.attempts[key]
            del held[job]
            if not held:
                del self.attempts[key]
        self.lease_ends.drop(job)
        if queue.flow:
            queue.let_go(job)
            self.freed(queue)

    def comes_back(self, job: Job, queue: QueueState) -> None:
        """A worker had this job, and it is not concluded."""
        if not job.details.holds and queue.holds(job):
            job.details = replace(job.details, holds=True)

    def to_queued(self, job: Job, queue: QueueState, now: float, trigger: Trigger, front: bool) -> None:
        """Make a detached job available, in its old place or at the back; conclude it if its time is over."""
        self.move(job, trigger, QUEUED)
        if queue.flow and (trigger is T_RELEASE or trigger is T_LEASE_EXPIRED):
            self.comes_back(job, queue)
        if front:
            queue.give_back(job)
        else:
            # From the counter of the numbers, which then skips one: so those of jobs that never joined late are their places, too.
            seq = self.jobs.next_number
            self.jobs.next_number = seq + 1
            job.details = replace(job.details, seq=seq)
            queue.append(job)
        expires_at = job.details.expires_at
        if expires_at is not None:
            if expires_at <= now:
                self.detach(job, queue)
                self.to_concluded(job, queue, T_EXPIRE, Conclusion(EXPIRED, now))
                return
            self.deadlines.set(job, expires_at)
        self.events.append(Event(K_QUEUED, queue.name, job))

    def to_scheduled(self, job: Job, queue: QueueState, run_at: float, trigger: Trigger) -> None:
        """Put a detached job away until `run_at`, or until it expires if that is sooner."""
        self.move(job, trigger, SCHEDULED)
        job.details = replace(job.details, run_at=run_at)
        if queue.flow:
            self.comes_back(job, queue)
        self.schedule(job, queue)
        self.events.append(Event(K_SCHEDULED, queue.name, job))

    def schedule(self, job: Job, queue: QueueState) -> None:
        """Put a scheduled job where it waits for its `run_at`."""
        run_at, expires_at = job.details.run_at, job.details.expires_at
        assert run_at is not None
        queue.scheduled[job.number] = job
        if queue.flow:
            queue.put_away(job)
        self.deadlines.set(job, run_at if expires_at is None else min(run_at, expires_at))

    def to_concluded(self, job: Job, queue: QueueState, trigger: Trigger, conclusion: Conclusion) -> None:
        """End a detached job and put it in history, which may forget older ones."""
        self.move(job, trigger, CONCLUDED)
        job.hold = conclusion
        size = len(job.payload) if job.details is PLAIN and job.type is None else own_bytes(job)
        self.live -= 1
        self.live_bytes -= size
        if queue.flow:
            if conclusion.halts:
                # First, or the key would be forgotten in between if it was its last job.
                queue.halt(job)
            queue.leave(job)
        outcome = conclusion.outcome
        if outcome is SUCCEEDED:
            queue.succeeded_total += 1
        elif outcome is FAILED:
            queue.failed_total += 1
        elif outcome is CANCELLED:
            queue.cancelled_total += 1
        else:
            queue.expired_total += 1
        self.events.append(Event(K_CONCLUDED, queue.name, job))
        if conclusion.result is not None or conclusion.worker is not None:
            size += conclusion_bytes(conclusion)
        if conclusion.halts:
            self.pin(job, queue, size)
        else:
            self.remember(job, outcome, size)

    def remember(self, job: Job, outcome: Outcome, size: int) -> None:
        """Put a concluded job of so many bytes in history, which may forget older ones."""
        forgotten = self.history.add(job, outcome, size)
        if forgotten is not None:
            self.forget(forgotten)

    def forget(self, jobs: list[Job]) -> None:
        """Know jobs no more that are out of history."""
        for old in jobs:
            self.jobs.remove(old)
            self.events.append(Event(K_FORGOTTEN, old.queue, old))
