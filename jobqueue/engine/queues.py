"""One queue's state: its policy, its lanes, its counters."""

from __future__ import annotations

from collections.abc import Mapping

from jobqueue.engine.lane import Lane
from jobqueue.engine.ring import Ring
from jobqueue.model import PRIORITIES, Job, QueuePolicy, QueueStats


class QueueState:
    """A queue. `ready` has the bit of every priority whose lane holds a job, so the most urgent is one operation away.

    Lanes are made on first use: ten thousand queues that use one priority each hold ten thousand rings, not a hundred thousand.
    """

    __slots__ = (
        "cancelled_total",
        "dequeued_total",
        "enqueued_total",
        "expired_total",
        "failed_total",
        "in_progress",
        "lanes",
        "name",
        "policy",
        "queued",
        "ready",
        "redelivered_total",
        "retried_total",
        "scheduled",
        "succeeded_total",
    )

    flow = False
    """Whether it may hold jobs back (flow.py). If so, it is a FlowQueue, and is told of what becomes of them."""

    @property
    def paused_keys(self) -> Mapping[str, None]:
        """Keys that somebody has paused, in that order."""
        return {}

    def __init__(self, name: str, policy: QueuePolicy) -> None:
        self.name = name
        self.policy = policy
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

    def go_on_from(self, other: QueueState) -> None:
        """Have all that another one has but its policy, and what only a FlowQueue has."""
        for slot in QueueState.__slots__:
            if slot != "policy":
                setattr(self, slot, getattr(other, slot))

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

    def give_back(self, job: Job) -> None:
        """Put a job in its old place, ahead of all that never left."""
        self.lane(job.priority).give_back(job)
        self.ready |= 1 << job.priority
        self.queued += 1

    def pop(self) -> Job | None:
        """Take the next job to leave, the oldest of the most urgent; None when there is none. Says nothing of `paused`."""
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
        """Take a queued job out, wherever it stands."""
        lane = self.lanes[job.priority]
        assert lane is not None
        lane.remove(job)
        self.queued -= 1
        if not lane:
            self.ready &= ~(1 << job.priority)

    # What a FlowQueue is told and asked, see there. A plain queue has nothing to do for any of it, and `flow` saves the call.

    def may_go(self) -> bool:
        """Whether a queued job may be handed out now, the queue's pause aside."""
        return self.queued > 0

    def check_room(self, key: str | None) -> None:
        """Raise QueueFull if no more live jobs of this key may be here."""

    def enter(self, job: Job) -> None:
        """A job becomes live here, before it is queued or scheduled."""

    def leave(self, job: Job) -> None:
        """A job has ended."""

    def leased(self, job: Job, now: float) -> None:
        """A job was handed out."""

    def running(self, job: Job) -> None:
        """A job is in progress, as it was stored."""

    def let_go(self, job: Job) -> None:
        """A lease has ended."""

    def undelivered(self, job: Job, taken_at: float, now: float) -> None:
        """A hand-out did not take place, and its lease is about to end."""

    def put_away(self, job: Job) -> None:
        """A job is scheduled."""

    def fetched(self, job: Job) -> None:
        """A job is scheduled no more."""

    def holds(self, job: Job) -> bool:
        """Whether a job that comes back from a worker keeps its key meanwhile."""
        return False

    def halting(self, job: Job) -> bool:
        """Whether a job's final failure stops its key."""
        return False

    def halt(self, job: Job) -> None:
        """A job that failed for good stops its key."""

    def unhalt(self, job: Job) -> None:
        """It does no more."""

    def finish(self) -> None:
        """A dequeue is over."""

    def jobs(self) -> list[Job]:
        """The queued jobs in the order in which they leave."""
        return [job for lane in self.lanes if lane is not None for job in lane.jobs()]

    def stats(self) -> QueueStats:
        """Counts and policy, with no waiters: those are the backend's."""
        fronts = [job for lane in self.lanes if lane is not None and (job := lane.peek()) is not None]
        return QueueStats(
            name=self.name,
            policy=self.policy,
            scheduled=len(self.scheduled),
            queued=self.queued,
            in_progress=self.in_progress,
            oldest_queued_at=min((max(job.run_at or 0.0, job.created_at) for job in fronts), default=None),
            waiters=0,
            enqueued_total=self.enqueued_total,
            dequeued_total=self.dequeued_total,
            redelivered_total=self.redelivered_total,
            succeeded_total=self.succeeded_total,
            failed_total=self.failed_total,
            cancelled_total=self.cancelled_total,
            expired_total=self.expired_total,
            retried_total=self.retried_total,
        )
