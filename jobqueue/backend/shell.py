"""Acts on the engine's events: hand-outs, wake-ups, journal entries, the ticker.

Every operation of the local backend is one synchronous step of the engine, followed by `_act`. `_act` hands available jobs to waiters,
wakes requests that wait for a result, passes the events to the journal and sets the ticker. No other code runs in between, so no request
ever sees a queue that has both an available job and a waiter for it. Only after that can an operation wait for its commit.
"""

from __future__ import annotations

import asyncio
import logging
import math

from msgspec.structs import replace

from jobqueue.backend.base import BackendStats, ClusterStats
from jobqueue.backend.journal import Journal
from jobqueue.backend.listening import Listeners
from jobqueue.backend.sampling import Sampling
from jobqueue.backend.snapshots import copied
from jobqueue.backend.tasks import Tasks
from jobqueue.backend.waiters import Registry, Waiter
from jobqueue.backend.workers import Workers
from jobqueue.clock import Clock, SystemClock, Timer
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import (
    K_CONCLUDED,
    K_ENQUEUED,
    K_FREED,
    K_GROUP_CONCLUDED,
    K_QUEUE_RESUMED,
    K_QUEUED,
    K_THING_CHANGED,
    UNTOLD,
    Event,
)
from jobqueue.engine.logs import KIND as LOG
from jobqueue.engine.logs import log_key
from jobqueue.engine.sizes import own_bytes
from jobqueue.engine.unused import Unused
from jobqueue.histogram import QUICK_SECONDS, Histogram
from jobqueue.limits import Limits
from jobqueue.model import Job, Want
from jobqueue.policy import QueuePolicy

LATE_SECONDS = 0.02
"""If the ticker is this late, a turn of the loop took long: what clients sent meanwhile has not been read."""

READ_TURNS = 4
"""After this many turns of the loop, everything that was sent before them has been read and handled: a connection is accepted and read, its
request started and continued."""

STALL_SECONDS = 0.25
"""If the ticker is this late, the process itself was stopped, and clients may have given up and connected again."""

STALL_GRACE_SECONDS_MAX = 10.0
"""The most by which leases are prolonged after a stall, so that a laptop that slept all night does not prolong them by that night."""

SLICE = 500
"""Jobs of a purge, a redrive or a retry in one turn of the loop; entries looked at to find a wait that ends."""

SLICE_FIRST, SLICE_MIN, SLICE_MAX = 100, 50, 20 * SLICE
"""Due jobs handled in one turn. SLICE_FIRST: at first, since jobs that were not touched for a minute are in no cache and can take ten times
as long. SLICE_MIN: if jobs take long, for example if each wakes a waiter and is written to a journal. SLICE_MAX: if many jobs are due. Each
turn that leaves some doubles the number for the next turn, while it takes less than half of TICK_SECONDS. With a fixed number, jobs would
fall due faster than they are handled once turns are long."""

TICK_SECONDS = 0.008
"""The time that due jobs should take in one turn, at most."""

_logger = logging.getLogger("jobqueue.queue")

WAKES = 200
"""Requests answered in one step: jobs handed out, results announced, waits that end, a drain. The rest follows in later turns, the same
number in each."""

_AVAILABLE = frozenset({K_ENQUEUED, K_QUEUED, K_QUEUE_RESUMED, K_FREED})


Attempt = tuple[str, str | None, str]


def group_key(name: str) -> str:
    """The key under which requests wait for the group with this stored name. No job has such an id."""
    return f"\n{name}"


def attempt_of(want: Want) -> Attempt | None:
    """What identifies a repeated dequeue: its attempt_id, with the same worker and token."""
    return None if want.attempt_id is None else (want.attempt_id, want.worker, want.who)


class Shell:
    """The engine, its clock, its waiters and its journal, connected to each other."""

    def __init__(
        self, limits: Limits | None = None, *, engine: Engine | None = None, clock: Clock | None = None, journal: Journal | None = None
    ) -> None:
        self.clock = clock or SystemClock()
        self.engine = engine or Engine(limits)
        self.limits = self.engine.limits
        self.unused = Unused(self.engine)
        self.engine.failed_forgotten = self._warn_of_forgotten
        self.journal = journal
        self.ticket = 0
        self.draining = False
        self.undelivered_total = 0
        self.pickup = Histogram(QUICK_SECONDS)
        self.workers = Workers(self.engine)
        self.sampling = Sampling(self.engine, self.clock)
        self._dequeues: Registry[list[Job]] = Registry([])
        self._results: Registry[list[Job]] = Registry([])
        self.tasks = Tasks(self.engine, self.clock)
        self.listeners = Listeners(self.clock, self.limits, journal, self._policy, self.arm)
        self._attempts: dict[Attempt, Waiter[list[Job]]] = {}
        self._timer: Timer | None = None
        self._left = WAKES
        """How many more requests this step can answer."""
        self._owed: dict[str, None] = {}
        """Queues that have both jobs and waiters for them, until later turns have handed these out."""
        self._untold: dict[str, tuple[Job | None, int]] = {}
        """Jobs and groups that have ended, and how many of the requests that wait for each are still to be answered."""
        self._dismissed: list[tuple[Registry[list[Job]], Waiter[list[Job]]]] = []
        """Waiters from before the drain that are still to be answered; the first is last in the list."""
        self._going_on: Timer | None = None
        self._armed = math.inf
        self._slice = SLICE_FIRST
        self._heard = -math.inf
        """Leases that ran out before this time can be ended: everything that their workers sent in time has been read."""
        self._unread = -math.inf
        self._turns = 0
        """Turns left until everything sent before `_unread` has been read; 0: not waiting for that."""
        self._stalled = -math.inf
        self._held_until = -math.inf

    def _policy(self, name: str) -> QueuePolicy | None:
        queue = self.engine.queues.get(name)
        return None if queue is None else queue.policy

    def _warn_of_forgotten(self, job: Job) -> None:
        if not self.engine.failed_forgotten_total and self.limits.history_jobs_max:
            _logger.warning(
                "history is full of failed jobs: it forgets the oldest, %s of the queue %s, and one more with each failure; "
                "jobqueue_failed_jobs_forgotten_total counts them", job.id, job.queue,
            )  # fmt: skip

    def snapshot(self, job: Job) -> Job:
        """The job as it is now, its times in UTC."""
        return copied(job, self.clock.skew())

    def handed(self, jobs: list[Job]) -> list[Job]:
        """Jobs that are handed out, as they are now, with the outcomes of the jobs that they are after. Results that would make the answer
        too large are left out.
        """
        skew, engine = self.clock.skew(), self.engine
        copies = [copied(job, skew) for job in jobs]
        if engine.parents:
            room = self.limits.answer_bytes_max - sum(map(own_bytes, copies))
            for copy in copies:
                extra = copy.details.extra
                if extra.after:
                    parents, room = engine.graph.parents(copy, room)
                    copy.details = replace(copy.details, extra=replace(extra, parents=parents))
        return copies

    # Acting on what the engine did.

    def _act(self, now: float) -> None:
        """Hand out jobs, wake waiters, write the journal, announce results, set the timer."""
        engine, ring = self.engine, self.listeners.ring
        if self.journal is None and ring is None and not self._dequeues.lines and not self._results.lines:
            engine.events.clear()
            if engine.deadlines.earliest < self._armed or engine.lease_ends.earliest < self._armed:
                self.arm(now)
            return
        self._left = WAKES
        whole: list[Event] = []
        while engine.events:
            events = engine.take_events()
            for event in events:
                if ring is not None and event.kind not in UNTOLD:
                    # Before a hand-out changes the job.
                    self.listeners.add(event, now)
                if event.kind in _AVAILABLE:
                    self._hand_out(event.queue, now)
                elif event.kind is K_CONCLUDED:
                    self._wake_results(event)
                elif event.job is None:
                    self._wake_readers(event)
            whole = whole + events if whole else events
        if whole and self.journal is not None:
            # Once for the whole step, so that it is in one commit: a job stored without the lease that it was handed out with would be half
            # a change.
            self.ticket = self.journal.append(whole)
        if ring is not None and whole:
            self.listeners.acted(self.ticket)
        if engine.deadlines.earliest < self._armed or engine.lease_ends.earliest < self._armed:
            self.arm(now)
        if (self._owed or self._untold) and self._going_on is None:
            self._going_on = self.clock.call_at(now, self._go_on)

    def _go_on(self) -> None:
        """Continue what a step left for later turns: hand out owed jobs, announce results, answer the waiters that a drain dismisses."""
        self._going_on = None
        now, self._left = self.clock.now(), WAKES
        self._tell()
        owed, self._owed = self._owed, {}
        for queue in owed:
            # If there is no room, it is owed again.
            self._hand_out(queue, now)
        self._dismiss()
        self._act(now)

    def _hand_out(self, queue: str, now: float) -> None:
        """Assign available jobs to the oldest waiters of a queue until either runs out, or until this step has answered enough requests.

        The rest is owed, and handed out in the next turns: the queue's waiters come before any newer request (`LocalBackend.take`).
        """
        engine = self.engine
        while (waiter := self._dequeues.oldest(queue)) is not None and engine.available(queue):
            if self._left <= 0:
                self._owed[queue] = None
                return
            before = len(engine.events)
            jobs = engine.dequeue(now, self._wanted_first(waiter))
            # There is an event for each job that it took or found expired.
            self._left -= len(engine.events) - before
            if not jobs:
                if engine.available(queue):
                    self._owed[queue] = None
                return
            self._settle(waiter, self.handed(jobs))

    def _wanted_first(self, waiter: Waiter[list[Job]]) -> Want:
        """What a waiter wants, limited to the queues where no other request has waited longer.

        One step can make jobs available in several queues. A waiter does not get the jobs of a queue that it prefers while an older waiter
        is there.
        """
        want = waiter.want
        assert want is not None
        if len(want.queues) == 1:
            return want
        return replace(want, queues=tuple(name for name in want.queues if self._dequeues.oldest(name) is waiter))

    def dismiss_worker(self, name: str) -> None:
        """See Owner, in requests/request.py."""
        for waiter in {each for each in self._dequeues.everyone() if each.want is not None and each.want.worker == name}:
            if waiter.want is not None and waiter.want.about is not None:
                self._settle(waiter, [])

    def _settle(self, waiter: Waiter[list[Job]], jobs: list[Job]) -> None:
        self._forget_attempt(waiter)
        self._dequeues.settle(waiter, jobs)

    def _forget_attempt(self, waiter: Waiter[list[Job]]) -> None:
        attempt = None if waiter.want is None else attempt_of(waiter.want)
        if attempt is not None and self._attempts.get(attempt) is waiter:
            del self._attempts[attempt]

    def _wake_results(self, event: Event) -> None:
        job = event.job
        assert job is not None
        if self._results.lines:
            self._wake(job.id, job)
            self._wake(log_key(job.number), job)

    def _wake_readers(self, event: Event) -> None:
        """Wake requests that wait for more lines of the log that this event belongs to, or for a group that has concluded."""
        if not self._results.lines:
            return
        if event.kind is K_THING_CHANGED and event.queue.startswith(LOG):
            job = self.engine.jobs.numbered(int(event.queue.split("/")[1]))
            if job is not None:
                self._wake(log_key(job.number), job)
        elif event.kind is K_GROUP_CONCLUDED:
            self._wake(group_key(event.queue), None)

    def _wake(self, key: str, job: Job | None) -> None:
        count = self._results.count(key)
        if count:
            self._untold[key] = None if job is None else self.snapshot(job), count
            self._tell()

    def _tell(self) -> None:
        """Answer requests that wait for the result of a job that has ended, or for more of its log."""
        for job_id, (snapshot, standing) in list(self._untold.items()):
            count = standing
            while count and self._left > 0 and (waiter := self._results.oldest(job_id)) is not None:
                self._results.settle(waiter, [] if snapshot is None else [snapshot])
                self._left -= 1
                count -= 1
            if self._left <= 0 and count and self._results.count(job_id):
                self._untold[job_id] = snapshot, count
                return
            del self._untold[job_id]

    def _dismiss(self) -> None:
        """Answer some of the waiters that were there when the drain began."""
        for _ in range(min(WAKES, len(self._dismissed))):
            registry, waiter = self._dismissed.pop()
            if waiter.answer is None:
                self._forget_attempt(waiter)
                registry.settle(waiter, [])
        if self._dismissed and self._going_on is None:
            self._going_on = self.clock.call_at(self.clock.now(), self._go_on)

    async def commit(self, now: float) -> None:
        """Act on what the engine has just done, and return when it is stored."""
        self._act(now)
        if self.journal is not None:
            await self.journal.committed(self.ticket)

    def resume(self) -> None:
        """Continue with an engine that was restored: handle what fell due, and hold the leases that ended meanwhile a little longer.

        Their workers may have tried to extend them while no server was running; for them this was a stall.
        """
        now = self.clock.now()
        self._stalled, self._held_until = now, now + STALL_GRACE_SECONDS_MAX
        self.engine.resume(now)
        self.unused.stir(now)
        self.sample(now)
        self._act(now)

    def sample(self, now: float) -> None:
        """Start to take samples of the queues."""
        self.sampling.begin(now)
        self.arm(now)

    # The ticker: one timer, set to the earliest thing that may be due. Nothing polls.

    def arm(self, now: float) -> None:
        """Set the timer to the earliest thing that may be due."""
        due = min(self.engine.deadlines.earliest, self.engine.lease_ends.earliest)
        due = min(due, self._dequeues.deadlines.earliest)
        due = min(due, self._results.deadlines.earliest, self.listeners.waiting.deadlines.earliest)
        due = min(due, self.unused.due, self.sampling.due)
        if due >= self._armed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = max(due, now)
        self._timer = self.clock.call_at(due, self._tick)

    def _tick(self) -> None:
        now = self.clock.now()
        late = now - self._armed
        self._armed, self._timer = math.inf, None
        self._listen_first(now, late)
        engine = self.engine
        skew = self.clock.skew() if engine.schedules.tables else 0.0
        engine.tick(now, self._slice, heard=self._heard, stalled=self._stalled, held_until=self._held_until, skew=skew)
        for _ in range(WAKES):
            waiter = self._dequeues.deadlines.pop(now, SLICE)
            if waiter is None:
                break
            self._settle(waiter, [])
        self._results.expire(now, WAKES)
        self.listeners.waiting.expire(now, WAKES)
        # After the ends of waits: a request whose wait has ended no longer counts as a waiter.
        self.unused.stir(now)
        if self.unused.due <= now:
            self.unused.look(now, self._dequeues.count)
        if self.sampling.due <= now:
            self.sampling.look(now)
        self._act(now)
        if engine.deadlines.earliest > now and engine.lease_ends.earliest > min(now, self._heard):
            self._slice = SLICE_FIRST
        else:
            took = self.clock.now() - now
            if took > TICK_SECONDS:
                self._slice = max(self._slice // 2, SLICE_MIN)
            elif took < TICK_SECONDS / 2:
                self._slice = min(self._slice * 2, SLICE_MAX)
        self.arm(now)

    def _listen_first(self, now: float, late: float) -> None:
        """Before leases are ended, read what their workers may have sent in time.

        If the ticker is late, the loop was blocked. The ticker then runs in each of the next turns, and leases that have run out are
        checked only after the last of these. A loop that is merely busy prolongs each lease by only these few turns.
        """
        if late > STALL_SECONDS:
            self._stalled = now
            self._held_until = max(self._held_until, now + min(late, STALL_GRACE_SECONDS_MAX))
        if self._turns:
            self._turns -= 1
            if self._turns:
                return
            self._heard = self._unread
        if late > LATE_SECONDS:
            self._unread, self._turns = now, READ_TURNS
        else:
            self._heard = now

    # Totals, drain and close.

    @property
    def waiters(self) -> int:
        """Requests held open: dequeues, and waits for a result."""
        return len(self._dequeues) + len(self._results)

    async def stats(self) -> BackendStats:
        return self.totals()

    def cluster(self) -> ClusterStats | None:
        return None

    def totals(self) -> BackendStats:
        """What `stats` returns, without a turn of the loop: for callers in the same process."""
        engine = self.engine
        return BackendStats(
            jobs_live=engine.live,
            live_bytes=engine.live_bytes,
            queues=len(engine.queues),
            waiters=self.waiters,
            leases=sum(queue.in_progress for queue in engine.queues.values()),
            history=engine.history.counts(),
            undelivered_total=self.undelivered_total,
            draining=self.draining,
            leases_expired_total=engine.leases_expired_total,
            time_in_queue=engine.time_in_queue.timings(),
            time_in_progress=engine.time_in_progress.timings(),
            pickup=self.pickup.timings(),
            storage=None if self.journal is None else self.journal.stats(),
            listeners=self.listeners.count,
            failures=engine.failing.seen(self.clock.now()),
            errors_left_out_total=engine.errors_left_out_total,
            messages_left_out_total=engine.messages_left_out_total,
            dead_letters_refused_total=engine.dead_letters_refused_total,
            failed_forgotten_total=engine.failed_forgotten_total,
            unique_windows=len(engine.uniques.windows),
            groups=len(engine.groups.groups) - len(engine.groups.kept),
            edges=engine.edges.count,
            duplicates={**engine.uniques.became},
            logs=len(engine.logs.by_job),
            log_lines_total=engine.logs.lines_total,
            log_lines_dropped_total=engine.logs.dropped_total,
            log_lines_left_out_total=engine.logs.left_out_total,
            workers=self.workers.counts(self.clock.now()),
            schedules=engine.schedules.totals(),
        )

    def picked_up(self, jobs: list[Job]) -> None:
        """Record the time from when these jobs became available to a waiting dequeue until the end of its answer."""
        now = self.clock.now() + self.clock.skew()
        for job in jobs:
            if job.lease is not None:
                # A job is leased in the same step that makes it available to a waiter.
                self.pickup.observe(now - job.lease.started_at)

    def drain(self) -> None:
        if not self.draining:
            self.draining = True
            self.sampling.stop()
            self._attempts.clear()
            self._dismissed = [(registry, waiter) for registry in (self._results, self._dequeues) for waiter in registry.everyone()]
            # From here on there are no new waiters.
            self._dismissed.reverse()
            self._dismiss()
        self.listeners.drain()

    async def close(self) -> None:
        self.drain()
        self.tasks.close()
        while self._dismissed:
            self._dismiss()
            await asyncio.sleep(0)
        if self._going_on is not None:
            self._going_on.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self.journal is not None:
            await self.journal.close()
        self.listeners.close()
