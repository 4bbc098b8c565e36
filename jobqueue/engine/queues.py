"""One queue's state: its policy, its lanes, its counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobqueue.engine.catalogue import Catalogue
from jobqueue.engine.failing import Failing
from jobqueue.engine.lane import Lane
from jobqueue.engine.ring import Ring
from jobqueue.model import PRIORITIES, Job, QueueStats
from jobqueue.past import Failures, Origin
from jobqueue.policy import Pause, QueuePolicy

_NONE = Failures()


class QueueState:
    """A queue. `ready` has a bit for every priority whose lane holds a job, so the most urgent one is found in one operation.

    Lanes are made on first use: ten thousand queues that use one priority each have ten thousand rings, not a hundred thousand.
    """

    __slots__ = (
        "attempts_failed_total",
        "cancelled_total",
        "created_at",
        "dead_lettered_total",
        "dequeued_total",
        "enqueued_total",
        "expired_total",
        "expires_in",
        "failed_total",
        "failing",
        "in_progress",
        "lanes",
        "modified_at",
        "moved_in_total",
        "moved_out_total",
        "name",
        "own",
        "pause",
        "policy",
        "queued",
        "ready",
        "redelivered_total",
        "retried_total",
        "ruled",
        "sampled",
        "scheduled",
        "succeeded_total",
        "waited",
        "worked",
    )

    flow = False
    """Whether it can hold jobs back (flow.py). If so, it is a FlowQueue, and the engine calls it for what happens to its jobs."""

    @property
    def paused_keys(self) -> Mapping[str, Pause | None]:
        """The paused keys, in the order in which they were paused; None if an older server did not store when."""
        return {}

    def __init__(self, name: str, policy: QueuePolicy) -> None:
        self.name = name
        self.obey(policy)
        self.own = False
        """Whether its policy was set, or one of its keys paused: otherwise it exists only because it was used."""
        self.pause: Pause | None = None
        """When its policy was set to `paused`; None if it is not, or if an older server did not store it."""
        self.created_at: float | None = None
        self.modified_at: float | None = None
        self.lanes: list[Lane | None] = [None] * PRIORITIES
        self.ready = 0
        self.queued = 0
        self.in_progress = 0
        self.scheduled: dict[int, Job] = {}
        self.enqueued_total = 0
        self.dequeued_total = 0
        self.redelivered_total = 0
        self.succeeded_total = 0
        self.failed_total = 0
        self.cancelled_total = 0
        self.expired_total = 0
        self.retried_total = 0
        self.moved_in_total = 0
        self.moved_out_total = 0
        self.dead_lettered_total = 0
        self.attempts_failed_total = 0
        self.failing: Failing | None = None
        """The recent failures; None while there are none."""
        self.waited: list[int] | None = None
        """The queue's part of `State.time_in_queue`, by its buckets; None before the first value."""
        self.worked: list[int] | None = None
        """The same for `State.time_in_progress`."""
        self.sampled: Any = None
        """Its state at its last samples; only samples.py uses it."""

    def obey(self, policy: QueuePolicy) -> None:
        """Apply a policy. `ruled`: whether an enqueue must look at it, so that one check covers everything that is rare."""
        self.policy = policy
        self.expires_in = policy.expires_in
        self.ruled = self.flow or policy.max_jobs is not None or bool(policy.delay)

    def too_old(self, job: Job, now: float) -> bool:
        """Whether a job has existed for longer than the queue allows."""
        return self.expires_in is not None and self.since(job) + self.expires_in <= now

    def letter_ends(self, _: Origin) -> float | None:
        """When a dead letter of this origin expires here by a time of its own, instead of by the age of its job; None if it has none."""
        return None

    def since(self, job: Job) -> float:
        """The time from which its age counts."""
        return job.created_at

    def go_on_from(self, other: QueueState) -> None:
        """Take over everything from another queue object except its policy, and what only a FlowQueue has."""
        for slot in QueueState.__slots__:
            if slot not in ("policy", "expires_in", "ruled"):
                setattr(self, slot, getattr(other, slot))

    def attempt_failed(self, now: float, last: bool) -> None:
        """An attempt failed here; last: the job failed for good."""
        self.attempts_failed_total += 1
        if self.failing is None:
            self.failing = Failing()
        self.failing.attempt(now, last)

    def retrying(self, job: Job) -> None:
        """A job that was attempted is scheduled."""
        if self.failing is None:
            self.failing = Failing()
        self.failing.retrying.add(job.number)

    def failures(self, now: float) -> Failures:
        """The recent failures."""
        return _NONE if self.failing is None else self.failing.seen(now)

    @property
    def ordered(self) -> bool:
        """Whether the jobs of a key run one after another."""
        return False

    @property
    def live(self) -> int:
        """Jobs that are not concluded."""
        return self.queued + self.in_progress + len(self.scheduled)

    def lane(self, priority: int) -> Lane:
        """The lane of a priority."""
        lane = self.lanes[priority]
        if lane is None:
            lane = self.lanes[priority] = Lane()
        return lane

    def append(self, job: Job) -> None:
        """Put a job at the back of its priority."""
        priority = job.priority
        lane = self.lanes[priority]
        if lane is None:
            lane = self.lane(priority)
        lane.append(job)
        self.ready |= 1 << priority
        self.queued += 1

    def pack(self, priority: int, catalogue: Catalogue) -> None:
        """Pack jobs of a priority that are deep here."""
        self.lane(priority).pack(catalogue)

    def give_back(self, job: Job) -> None:
        """Put a job in its old place, ahead of all that never left."""
        self.lane(job.priority).give_back(job)
        self.ready |= 1 << job.priority
        self.queued += 1

    def pop(self) -> Job | None:
        """Take the next job to leave, the oldest of the most urgent; None if there is none. Does not check `paused`."""
        ready = self.ready
        if not ready:
            return None
        lowest = ready & -ready
        lane = self.lanes[lowest.bit_length() - 1]
        assert lane is not None
        job = lane.popleft() if lane.returned else Ring.popleft(lane)
        self.queued -= 1
        if not lane.live and not lane.returned:
            self.ready = ready ^ lowest
        return job

    def remove(self, job: Job) -> None:
        """Remove a queued job, wherever it is."""
        lane = self.lanes[job.priority]
        assert lane is not None
        lane.remove(job)
        self.queued -= 1
        if not lane:
            self.ready &= ~(1 << job.priority)

    # The calls to a FlowQueue, see there. A plain queue does nothing for them, and checking `flow` first saves the call.

    def may_go(self) -> bool:
        """Whether a queued job can be handed out now, apart from the queue's pause."""
        return self.queued > 0

    def check_room(self, key: str | None) -> None:
        """Raise QueueFull if this queue cannot have another live job of this key."""

    def enter(self, job: Job) -> None:
        """A job becomes live here, before it is queued or scheduled."""

    def leave(self, job: Job) -> None:
        """A job has ended."""

    def leased(self, job: Job, now: float) -> None:
        """A job was handed out."""

    def running(self, job: Job) -> None:
        """A stored job is in progress."""

    def let_go(self, job: Job) -> None:
        """A lease has ended."""

    def undelivered(self, job: Job, taken_at: float, now: float) -> None:
        """A hand-out was not delivered, and its lease is about to end."""

    def put_away(self, job: Job) -> None:
        """A job is scheduled."""

    def fetched(self, job: Job) -> None:
        """A job is no longer scheduled."""

    def holds(self, job: Job) -> bool:
        """Whether a job that returns from a worker keeps holding its key until it is concluded."""
        return False

    def halting(self, job: Job) -> bool:
        """Whether a job's final failure stops its key."""
        return False

    def halt(self, job: Job) -> None:
        """A job that failed for good stops its key."""

    def unhalt(self, job: Job) -> None:
        """A failed job no longer stops its key."""

    def finish(self) -> None:
        """A dequeue has ended."""

    def jobs(self) -> list[Job]:
        """The queued jobs in the order in which they leave."""
        return [job for lane in self.lanes if lane is not None for job in lane.jobs()]

    def oldest_queued_at(self) -> float | None:
        """Since when the longest-waiting job has waited, among the next jobs of the priorities; None if none is queued."""
        fronts = [job for lane in self.lanes if lane is not None and (job := lane.peek()) is not None]
        return min((max(job.run_at or 0.0, job.created_at) for job in fronts), default=None)

    def stats(self) -> QueueStats:
        """Counts and policy, without the waiters, which belong to the backend."""
        return QueueStats(
            name=self.name,
            policy=self.policy,
            scheduled=len(self.scheduled),
            queued=self.queued,
            in_progress=self.in_progress,
            oldest_queued_at=self.oldest_queued_at(),
            waiters=0,
            enqueued_total=self.enqueued_total,
            dequeued_total=self.dequeued_total,
            redelivered_total=self.redelivered_total,
            succeeded_total=self.succeeded_total,
            failed_total=self.failed_total,
            cancelled_total=self.cancelled_total,
            expired_total=self.expired_total,
            retried_total=self.retried_total,
            moved_in_total=self.moved_in_total,
            moved_out_total=self.moved_out_total,
            dead_lettered_total=self.dead_lettered_total,
            attempts_failed_total=self.attempts_failed_total,
            created_at=self.created_at,
            modified_at=self.modified_at,
            pause=self.pause,
        )
