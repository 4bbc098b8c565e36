"""All of the engine's data, and the few moves from which every operation is built.

Invariants, checked after every step of the property tests (tests/engine/invariants.py): a job is in exactly one place (a lane, its queue's
scheduled set, leased, or history), and its status says which; counters equal what they count; bytes add up; every scheduled, leased or
expiring job has its due time in a heap. `move` is the only place in the project that assigns a job's status."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

from msgspec.structs import replace

from jobqueue.engine import checks, shares
from jobqueue.engine.ages import Ages
from jobqueue.engine.chore import Chore
from jobqueue.engine.deadlines import Deadlines
from jobqueue.engine.edges import Edges
from jobqueue.engine.events import (
    K_CHANGED,
    K_CONCLUDED,
    K_FORGOTTEN,
    K_FREED,
    K_QUEUE_CHANGED,
    K_QUEUED,
    K_SCHEDULED,
    K_THING_CHANGED,
    Event,
)
from jobqueue.engine.failing import FailingEverywhere
from jobqueue.engine.history import History
from jobqueue.engine.lifecycle import T_EXPIRE, T_LEASE_EXPIRED, T_LET_RUN, T_RELEASE, TABLE, Trigger
from jobqueue.engine.logs import Logs
from jobqueue.engine.queues import QueueState
from jobqueue.engine.samples import Samples
from jobqueue.engine.sizes import conclusion_bytes, job_bytes, lease_bytes, own_bytes
from jobqueue.engine.sparse import catalogue
from jobqueue.engine.tasks import Task
from jobqueue.errors import QueueFull, TooManyQueues, UnknownJob, UnknownQueue
from jobqueue.histogram import JOB_SECONDS, Histogram
from jobqueue.ids import Ids
from jobqueue.limits import Limits
from jobqueue.model import (
    CANCELLED,
    CONCLUDED,
    EXPIRED,
    FAILED,
    NOTHING,
    QUEUED,
    SCHEDULED,
    SUCCEEDED,
    Conclusion,
    Job,
    Lease,
    Outcome,
    Status,
)
from jobqueue.partition import ALONE, Place
from jobqueue.past import Origin
from jobqueue.policy import QueuePolicy

FRONT, BACK = True, False

QUIET = "quiet/"
"""The prefix of a quiet worker's name in storage."""

AttemptKey = tuple[str, str | None, str, str]
"""An attempt_id, with its worker, its `Want.who`, and the queue."""

_TYPES_MAX = 1_000
"""The most types remembered. Beyond it all are forgotten, so that a client that invents a type for every job cannot fill the memory."""


class State:
    """Jobs, queues, due times and history. Not thread-safe; every method is one synchronous step. place: that of `ids`, if given."""

    # From 30 attributes on, CPython looks up each one in a dict, which costs a tenth of every operation. The cost of a slot does not grow.
    __slots__ = (
        "__dict__", "__weakref__", "ages", "attempts", "bytes_max", "dead_letters_refused_total", "deadlines", "default_policy", "edges",
        "errors_left_out_total", "events", "failed_forgotten", "failed_forgotten_total", "failing", "follows", "history", "ids", "jobs",
        "jobs_max", "kept", "lease_ends", "leases_expired_total", "limits", "live", "live_bytes", "logs", "messages_left_out_total",
        "names", "now", "parents", "pinned", "place", "queues", "quiet", "random", "samples", "share", "share_turn", "tasks",
        "time_in_progress", "time_in_queue", "types",
    )  # fmt: skip

    def __init__(self, limits: Limits | None = None, ids: Ids | None = None, random: Random | None = None, place: Place = ALONE) -> None:
        self.limits = limits or Limits()
        self.ids = ids or Ids(place=place)
        self.random, self.place = random or Random(), self.ids.place
        self.jobs = catalogue(self.place)
        self.queues: dict[str, QueueState] = {}
        self.deadlines: Deadlines[object] = Deadlines()
        """When waiting jobs are due: run_at, expires_at. Also queues and keys that wait for a rate, and chores."""
        self.lease_ends: Deadlines[Job] = Deadlines()
        """When leases end. Separate, since they may have to wait until the server has read what workers sent."""
        self.history = History(*shares.of_history(self.limits, self.place.count))
        self.attempts: dict[AttemptKey, dict[Job, None]] = {}
        """The jobs leased under an attempt_id, in the order in which they were taken; dicts, so that removing one of many is O(1)."""
        self.types: dict[str, str] = {}
        self.logs = Logs()
        self.quiet: dict[str, float] = {}
        """Names of quiet workers, which are given no jobs, and since when (UTC); the last that was set quiet is last."""
        self.tasks: dict[str, Task] = {}
        """By id, oldest first."""
        self.samples = Samples()
        self.live = self.live_bytes = 0
        self.pinned: dict[Job, None] = {}
        """Failed jobs that halt their keys. They are not in history, which would forget them, and take room from live jobs."""
        self.kept: dict[Job, None] = {}
        """Concluded jobs that live jobs are after, except pinned ones. They are not in history either."""
        self.ages = Ages(self.deadlines)
        self.names: list[str] | None = None
        """The queues' names in order; None until they are needed after a queue was made or deleted."""
        self.edges = Edges()
        self.parents = self.edges.children
        """The ids of the jobs that live jobs are after."""
        self.now = 0.0
        """The time of the last tick."""
        self.follows = False
        """Whether this engine follows another one and makes no decisions of its own (follow.py)."""
        self.share, self.share_turn = shares.base(self.limits, self.place.count), (0, 0)
        """The part of the server's bounds that applies here, and who has set it last (backend/requests/shares.py)."""
        self.jobs_max, self.bytes_max = self.share
        """The most live jobs and their bytes: the share, less what is pinned, kept or reserved."""
        self.failed_forgotten_total = 0
        self.failed_forgotten: Callable[[Job], object] = lambda _: None
        """Called with a failed job that history has dropped for lack of room."""
        self.errors_left_out_total = self.messages_left_out_total = 0
        self.failing = FailingEverywhere(self.limits)
        """The recent failures of all queues."""
        self.dead_letters_refused_total = 0
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
        """Keep a failed job while it halts its key; queue: None if it halts nothing any more, and is to be given up."""
        self.pinned[job] = None
        self.jobs_max -= 1
        self.bytes_max -= size
        if queue is not None:
            queue.halt(job)

    def unpin(self, job: Job) -> int:
        """Let the key continue that a failed job halts. Returns the bytes of the job, which is now in no place."""
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
        """Move a failed job that halted its key to history."""
        size = self.unpin(job)
        self.events.append(Event(K_CHANGED, job.queue, job))
        self.remember(job, FAILED, size)

    def keep(self, job: Job, size: int) -> None:
        """Keep a concluded job of so many bytes, which is in no place, for as long as live jobs are after it."""
        self.kept[job] = None
        self.jobs_max -= 1
        self.bytes_max -= size

    def unkeep(self, job: Job) -> int:
        """Stop keeping a job, which is then in no place. Returns its bytes."""
        del self.kept[job]
        size = job_bytes(job)
        self.jobs_max += 1
        self.bytes_max += size
        return size

    def reserve(self, jobs: int, size: int, asking: bool = True) -> None:
        """Reserve room for so many jobs and bytes; negative numbers release it. asking: raise QueueFull if there is no room."""
        if asking and jobs > 0 and (self.live + jobs > self.jobs_max or not self.has_room(size)):
            raise QueueFull(f"the server has no room for {jobs} more jobs of {size} bytes")
        self.jobs_max -= jobs
        self.bytes_max -= size

    def freed(self, queue: QueueState) -> None:
        """Jobs of a queue that were held back may now be available."""
        if queue.queued:
            self.events.append(Event(K_FREED, queue.name))

    def do_later(self, work: Iterator[int], queue: str | None = None) -> None:
        """Let the ticker do long work in slices; after that, jobs of `queue` may be available."""
        self.deadlines.set(Chore(work, queue), -math.inf)

    def next_deadline(self) -> float | None:
        """When `tick` must run next; it can be too early, never too late. None: nothing will be due."""
        earliest = min(self.deadlines.earliest, self.lease_ends.earliest)
        return None if earliest == math.inf else earliest

    def job(self, job_id: str) -> Job:
        """The job with this id, live or in history. Raises UnknownJob."""
        job = self.jobs.by_id.get(job_id)
        # `find` alone would do; this saves its call for every job that is not packed.
        if type(job) is not Job and (job := self.jobs.find(job_id)) is None:
            raise UnknownJob(job_id)
        return job

    def numbered(self, number: int) -> Job:
        """The job with this number, live or in history. Raises UnknownJob."""
        job = self.jobs.numbered(number)
        if job is None:
            raise UnknownJob(str(number))
        return job

    def queue(self, name: str) -> QueueState:
        """The queue with this name. Raises UnknownQueue."""
        queue = self.queues.get(name)
        if queue is None:
            raise UnknownQueue(name)
        return queue

    def make_room(self, queue_name: str, size: int, key: str | None = None, now: float | None = None, there: bool = False) -> QueueState:
        """The queue, if it has room for one more job of this key and size; made if necessary, but not if `there`. now: None for the last
        tick.

        Raises QueueFull, TooManyQueues, UnknownQueue or BadRequest (name); changes nothing then."""
        if self.live >= self.jobs_max:
            raise QueueFull(f"the server has reached its limit of {self.live} live jobs")
        if not self.has_room(size):
            raise QueueFull(f"the server's live jobs hold {self.live_bytes} bytes; {self.bytes_max} are allowed")
        queue = self.queues.get(queue_name)
        if queue is None:
            if there:
                raise UnknownQueue(queue_name)
            return self.make_queue(queue_name, now)
        if queue.ruled:
            self._check_room(queue, key)
        return queue

    def _check_room(self, queue: QueueState, key: str | None) -> None:
        if queue.flow:
            queue.check_room(key)
        if queue.policy.max_jobs is not None and queue.live >= queue.policy.max_jobs:
            raise QueueFull(f"queue {queue.name!r} has reached its limit of {queue.live} live jobs")

    def room_for_one_of_ours(self, queue_name: str, key: str | None, now: float | None = None) -> QueueState:
        """The queue to which a live job of this key can move, made if necessary. Raises the same errors as `make_room`."""
        queue = self.queues.get(queue_name)
        if queue is None:
            return self.make_queue(queue_name, now)
        self._check_room(queue, key)
        return queue

    def has_room(self, size: int) -> bool:
        """Whether there is room for so many more bytes of live jobs."""
        return self.live_bytes + size <= self.bytes_max

    def make_queue(self, name: str, now: float | None = None) -> QueueState:
        """A new queue with the default policy. now: None for the last tick. Raises TooManyQueues, BadRequest or Unsupported."""
        checks.queue_here(name, self.place)
        if len(self.queues) >= self.limits.queues_max:
            raise TooManyQueues(f"the server has reached its limit of {len(self.queues)} queues; delete empty ones")
        queue = self.queues[name] = QueueState(name, self.default_policy)
        self.names = None
        queue.created_at = queue.modified_at = self.now if now is None else now
        self.events.append(Event(K_QUEUE_CHANGED, name))
        return queue

    def lease_of(self, job: Job, token: str) -> Lease | None:
        """The job's live lease if `token` is its token, else None."""
        lease = job.lease
        return lease if lease is not None and lease.token == token else None

    def shared_type(self, name: str) -> str:
        """One string shared by all jobs of a type, as long as the type is remembered."""
        if len(self.types) >= _TYPES_MAX:
            self.types.clear()
        return self.types.setdefault(name, name)

    def max_attempts(self, job: Job, queue: QueueState) -> float:
        """The job's own limit, else its queue's; math.inf for no bound."""
        most = queue.policy.max_attempts if job.max_attempts is None else job.max_attempts
        return math.inf if most is None else most

    # The moves. Before each of them, the job must be taken out of its place: by `detach`, `let_go` or a pop.

    def move(self, job: Job, trigger: Trigger, to: Status) -> None:
        """Set a job's status, if the table allows `trigger` to lead to it."""
        cell = TABLE[trigger][job.status]
        assert to in cell.to, f"{trigger} does not lead from {job.status} to {to}"
        job.status = to

    def detach(self, job: Job, queue: QueueState) -> None:
        """Take a waiting job out of its lane or schedule, and its due time out of the heap."""
        if job.status is QUEUED:
            queue.remove(job)
        else:
            del queue.scheduled[job.number]
            if queue.failing is not None:
                queue.failing.retrying.discard(job.number)
                self.failing.retrying.discard(job.number)
            if queue.flow and job.details.holds:
                queue.fetched(job)
                self.freed(queue)
        self.deadlines.drop(job)

    def let_go(self, job: Job, queue: QueueState, lease: Lease) -> None:
        """Take a live job out of its lease, and its due time out of the heap."""
        queue.in_progress -= 1
        job.hold = None
        attempt_id = lease.attempt_id
        if attempt_id is not None or lease.worker is not None or lease.message is not None:
            self.live_bytes -= lease_bytes(lease)
        if attempt_id is not None:
            key = (attempt_id, lease.worker, lease.who, job.queue)
            held = self.attempts[key]
            del held[job]
            if not held:
                del self.attempts[key]
        self.lease_ends.drop(job)
        if queue.flow:
            queue.let_go(job)
            self.freed(queue)

    def comes_back(self, job: Job, queue: QueueState) -> None:
        """A job returns from a worker, and is not concluded."""
        if not job.details.holds and queue.holds(job):
            job.details = replace(job.details, holds=True)

    def to_queued(self, job: Job, queue: QueueState, now: float, trigger: Trigger, front: bool) -> None:
        """Make a detached job available, in its old place or at the back; conclude it if it has expired."""
        self.move(job, trigger, QUEUED)
        if queue.flow and (trigger is T_RELEASE or trigger is T_LEASE_EXPIRED):
            self.comes_back(job, queue)
        if front:
            queue.give_back(job)
        else:
            # From the counter of job numbers, which then skips one: so the number of a job that never joined late is also its place.
            seq = self.jobs.take_number()
            job.details = replace(job.details, seq=seq)
            queue.append(job)
        expires_at = job.details.expires_at
        if (expires_at is not None and expires_at <= now) or queue.too_old(job, now):
            self.detach(job, queue)
            self.to_concluded(job, queue, T_EXPIRE, Conclusion(EXPIRED, now))
            return
        if expires_at is not None:
            self.deadlines.set(job, expires_at)
        self.events.append(Event(K_QUEUED, queue.name, job))

    def to_scheduled(self, job: Job, queue: QueueState, run_at: float, trigger: Trigger, now: float) -> None:
        """Store a detached job until `run_at`, or until it expires if that is earlier; conclude it if it is too old for its queue."""
        self.move(job, trigger, SCHEDULED)
        job.details = replace(job.details, run_at=run_at)
        if queue.flow:
            self.comes_back(job, queue)
        self.put_away(job, queue, now)

    def put_away(self, job: Job, queue: QueueState, now: float) -> None:
        """Put a scheduled job where it waits; conclude it if it is too old for its queue."""
        self.schedule(job, queue)
        if queue.too_old(job, now):
            self.detach(job, queue)
            self.to_concluded(job, queue, T_EXPIRE, Conclusion(EXPIRED, now))
        else:
            self.events.append(Event(K_SCHEDULED, queue.name, job))

    def schedule(self, job: Job, queue: QueueState) -> None:
        """Put a scheduled job where it waits for its `run_at`; without one it is held back until `let_run`."""
        run_at, expires_at = job.details.run_at, job.details.expires_at
        queue.scheduled[job.number] = job
        if job.attempts:
            queue.retrying(job)
            self.failing.retrying.add(job.number)
        if queue.flow:
            queue.put_away(job)
        due = expires_at if run_at is None else run_at if expires_at is None else min(run_at, expires_at)
        if due is not None:
            self.deadlines.set(job, due)

    def let_run(self, job: Job, queue: QueueState, now: float) -> None:
        """End the wait of a job that was held back: it is queued at the back, or waits until it can run. Its wait counts from now."""
        not_before = job.details.extra.not_before
        self.detach(job, queue)
        job.details = replace(job.details, run_at=now, extra=replace(job.details.extra, not_before=None))
        if not_before is not None and not_before > now:
            self.move(job, T_LET_RUN, SCHEDULED)
            job.details = replace(job.details, run_at=not_before)
            self.schedule(job, queue)
            self.events.append(Event(K_SCHEDULED, queue.name, job))
        else:
            self.to_queued(job, queue, now, T_LET_RUN, BACK)

    def to_queue(self, job: Job, queue: QueueState, to: QueueState, origin: Origin | None, now: float, trigger: Trigger) -> None:
        """Move a detached live job to another queue: queued at the back, attempts 0, waiting since now.

        Its expiry is removed, since somebody should now look at it; a queue that keeps an order sets its own. origin: where the job comes
        from, if it becomes a dead letter."""
        self.leave(job, queue, now)
        self.join(job, to, origin, now, trigger)

    def leave(self, job: Job, queue: QueueState, now: float) -> None:
        """Take a detached live job out of its queue; `join` must follow."""
        if queue.flow:
            queue.leave(job)
        if job.details.extra is not NOTHING:
            self.ended(job, now)

    def join(self, job: Job, to: QueueState, origin: Origin | None, now: float, trigger: Trigger) -> None:
        """The second half of `to_queue`."""
        details, home = job.details, job.home
        extra = replace(details.extra, origin=origin, home=None if home == to.name else home)
        ends = None if origin is None else to.letter_ends(origin)
        job.details = replace(details, run_at=now, expires_at=ends, holds=False, extra=NOTHING if extra == NOTHING else extra)
        job.queue = to.name
        job.attempts = 0
        to.moved_in_total += 1
        if to.flow:
            to.enter(job)
        self.to_queued(job, to, now, trigger, BACK)
        if extra != NOTHING and job.conclusion is None:
            self.lives_again(job, now)

    def to_concluded(self, job: Job, queue: QueueState, trigger: Trigger, conclusion: Conclusion) -> None:
        """Conclude a detached job and put it in history, which can forget older ones."""
        self.move(job, trigger, CONCLUDED)
        job.hold = conclusion
        details = job.details
        size = own_bytes(job)
        self.live -= 1
        self.live_bytes -= size
        if queue.flow:
            if conclusion.halts:
                # This comes first: otherwise the key would be forgotten in between if this was its last job.
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
        if details.extra is not NOTHING or self.parents:
            self.ended(job, conclusion.concluded_at)

    def ended(self, job: Job, now: float) -> None:
        """A job that has something in `extra`, or that others may be after, was concluded or leaves its queue. The engine overrides it."""

    def lives_again(self, job: Job, now: float) -> None:
        """A concluded job that has something in `extra` is live again, or is in another queue. The engine overrides this."""

    def check_retry(self, job: Job) -> None:
        """Whether a concluded job that has something in `extra` can be live again. Raises Duplicate."""

    def forgotten(self, job: Job) -> None:
        """History forgot a job that has something in `extra`."""

    def retried(self, job: Job, outcome: Outcome) -> None:
        """A job that has something in `extra` and had this outcome was retried. The engine overrides this."""

    def remember(self, job: Job, outcome: Outcome, size: int) -> None:
        """Put a concluded job of so many bytes in history, which can forget older ones; or keep it apart while live jobs are after it."""
        if self.parents and job.id in self.parents:
            self.keep(job, size)
            return
        forgotten = self.history.add(job, outcome, size)
        if forgotten:
            if outcome is FAILED:
                self.failed_forgotten(forgotten[0])
                self.failed_forgotten_total += len(forgotten)
            self.forget(forgotten)

    def forget(self, jobs: list[Job]) -> None:
        """Remove jobs that have left history from the catalogue."""
        for old in jobs:
            self.jobs.remove(old)
            self.events.append(Event(K_FORGOTTEN, old.queue, old))
            if old.details.extra is not NOTHING:
                self.forgotten(old)
                if old.details.extra.log:
                    self.events += [Event(K_THING_CHANGED, name) for name in self.logs.forget(old.number)]
