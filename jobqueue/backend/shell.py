"""What turns the engine's events into deeds: hand-outs, wake-ups, journal entries, the ticker.

Every operation of the local backend is one synchronous step of the engine followed by `_act`, which hands available jobs to waiters, wakes
those who wait for a result, gives the events to the journal and re-arms the ticker. No other code runs in between, so no request ever sees
a queue that has both a job to give and a waiter standing for it. Only then may an operation wait for its commit.
"""

from __future__ import annotations

import asyncio
import math

from msgspec.structs import replace

from jobqueue.backend.base import BackendStats, ClusterStats
from jobqueue.backend.journal import Journal
from jobqueue.backend.listening import Listeners
from jobqueue.backend.waiters import Registry, Waiter
from jobqueue.clock import Clock, SystemClock, Timer
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import K_CHANGED, K_CONCLUDED, K_ENQUEUED, K_FREED, K_QUEUE_RESUMED, K_QUEUED, Event
from jobqueue.histogram import QUICK_SECONDS, Histogram
from jobqueue.limits import Limits
from jobqueue.model import PLAIN, Conclusion, Job, Lease, QueuePolicy, Want

LATE_SECONDS = 0.02
"""A ticker this late came in a long turn of the loop: what clients sent meanwhile has not been read."""

READ_TURNS = 4
"""Turns of the loop after which what had been sent by then has been read and done: a connection is accepted, read, its request begun and
gone on with."""

STALL_SECONDS = 0.25
"""A ticker this late means that the process itself stood still, and clients may have given up meanwhile and come again."""

STALL_GRACE_SECONDS_MAX = 10.0
"""The most by which leases are prolonged after a stall, so that a laptop's night does not add to them."""

SLICE = 500
"""Due jobs handled in one turn of the loop, to begin with; jobs of a purge or a redrive; entries looked at for a wait that ends."""

SLICE_MAX = 20 * SLICE
"""Due jobs handled in one turn when much is due: each turn that leaves some doubles the next one's number, while it takes no longer than
TICK_SECONDS. With a fixed number, jobs would fall due faster than they are handled once turns are long."""

SLICE_MIN = 50
"""The least that it comes down to where they take long, as when each wakes a waiter and is written to a journal."""

TICK_SECONDS = 0.008
"""What a turn's share of due jobs should take at most."""

WAKES = 200
"""Requests answered in one step: jobs handed to them, results told, waits that end, a drain. The rest follows, as many a turn."""

_AVAILABLE = frozenset({K_ENQUEUED, K_QUEUED, K_QUEUE_RESUMED, K_FREED})

_SILENT = frozenset({K_FREED, K_CHANGED})
"""What no listener is told."""


Attempt = tuple[str, str | None, str]


def attempt_of(want: Want) -> Attempt | None:
    """What makes a dequeue the same one asked again: its attempt_id, from the same worker under the same token."""
    return None if want.attempt_id is None else (want.attempt_id, want.worker, want.who)


class Shell:
    """The engine, its clock, its waiters and its journal, wired together."""

    def __init__(
        self, limits: Limits | None = None, *, engine: Engine | None = None, clock: Clock | None = None, journal: Journal | None = None
    ) -> None:
        self.clock = clock or SystemClock()
        self.engine = engine or Engine(limits)
        self.limits = self.engine.limits
        self.journal = journal
        self.ticket = 0
        self.draining = False
        self.undelivered_total = 0
        self.pickup = Histogram(QUICK_SECONDS)
        self._dequeues: Registry[list[Job]] = Registry([])
        self._results: Registry[list[Job]] = Registry([])
        self.listeners = Listeners(self.clock, self.limits, journal, self._policy, self.arm)
        self._attempts: dict[Attempt, Waiter[list[Job]]] = {}
        self._timer: Timer | None = None
        self._left = WAKES
        """How much this step may still hand out and tell."""
        self._owed: dict[str, None] = {}
        """Queues that have both jobs and waiters for them, until the next turns have handed them out."""
        self._untold: dict[str, tuple[Job, int]] = {}
        """Jobs that have ended, and how many who wait for each are still to be told."""
        self._dismissed: list[tuple[Registry[list[Job]], Waiter[list[Job]]]] = []
        """Who stood when the drain began and is still to be answered, the first last."""
        self._going_on: Timer | None = None
        self._armed = math.inf
        self._slice = SLICE
        self._heard = -math.inf
        """Leases that ran out by then may be ended: all that their workers sent in time has been read."""
        self._unread = -math.inf
        self._turns = 0
        """After so many more turns it has been read up to `_unread`; 0: nobody is waited for."""
        self._stalled = -math.inf
        self._held_until = -math.inf

    def _policy(self, name: str) -> QueuePolicy | None:
        queue = self.engine.queues.get(name)
        return None if queue is None else queue.policy

    def snapshot(self, job: Job) -> Job:
        """The job as it is now, its times in UTC."""
        return copied(job, self.clock.skew())

    # Acting on what the engine did.

    def _act(self, now: float) -> None:
        """Hand out, wake, journal, tell, re-arm."""
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
                if ring is not None and event.kind not in _SILENT:
                    # Before a hand-out changes the job.
                    self.listeners.add(event, now)
                if event.kind in _AVAILABLE:
                    self._hand_out(event.queue, now)
                elif event.kind is K_CONCLUDED:
                    self._wake_results(event)
            whole = whole + events if whole else events
        if whole and self.journal is not None:
            # Once for the whole step, so that it is in one commit: a job without the lease it was handed out with would be half of it.
            self.ticket = self.journal.append(whole)
        if ring is not None and whole:
            self.listeners.acted(self.ticket)
        if engine.deadlines.earliest < self._armed or engine.lease_ends.earliest < self._armed:
            self.arm(now)
        if (self._owed or self._untold) and self._going_on is None:
            self._going_on = self.clock.call_at(now, self._go_on)

    def _go_on(self) -> None:
        """What a step left for the turns after it: hand out what is owed, tell who waits for a result, answer those a drain dismisses."""
        self._going_on = None
        now, self._left = self.clock.now(), WAKES
        self._tell()
        owed, self._owed = self._owed, {}
        for queue in owed:
            # Without room it is owed again.
            self._hand_out(queue, now)
        self._dismiss()
        self._act(now)

    def _hand_out(self, queue: str, now: float) -> None:
        """Assign available jobs to the oldest waiters of a queue until one of both runs out, or this step has done enough.

        What is left is owed: the queue's waiters come before any newcomer (`LocalBackend.take`), in the next turns.
        """
        engine = self.engine
        while (waiter := self._dequeues.oldest(queue)) is not None and engine.available(queue):
            if self._left <= 0:
                self._owed[queue] = None
                return
            before = len(engine.events)
            jobs = engine.dequeue(now, self._wanted_first(waiter))
            # An event for each job that it took or found expired.
            self._left -= len(engine.events) - before
            if not jobs:
                if engine.available(queue):
                    self._owed[queue] = None
                return
            skew = self.clock.skew()
            self._settle(waiter, [copied(job, skew) for job in jobs])

    def _wanted_first(self, waiter: Waiter[list[Job]]) -> Want:
        """What a waiter wants of the queues on which nobody has waited longer.

        One step may bring jobs to several queues. Those of a queue that the waiter prefers are not its own while an older one stands there.
        """
        want = waiter.want
        assert want is not None
        if len(want.queues) == 1:
            return want
        return replace(want, queues=tuple(name for name in want.queues if self._dequeues.oldest(name) is waiter))

    def _settle(self, waiter: Waiter[list[Job]], jobs: list[Job]) -> None:
        self._forget_attempt(waiter)
        self._dequeues.settle(waiter, jobs)

    def _forget_attempt(self, waiter: Waiter[list[Job]]) -> None:
        attempt = None if waiter.want is None else attempt_of(waiter.want)
        if attempt is not None and self._attempts.get(attempt) is waiter:
            del self._attempts[attempt]

    def _wake_results(self, event: Event) -> None:
        assert event.job is not None
        count = self._results.count(event.job.id)
        if count:
            self._untold[event.job.id] = self.snapshot(event.job), count
            self._tell()

    def _tell(self) -> None:
        """Answer those who wait for the result of a job that has ended."""
        for job_id, (snapshot, standing) in list(self._untold.items()):
            count = standing
            while count and self._left > 0 and (waiter := self._results.oldest(job_id)) is not None:
                self._results.settle(waiter, [snapshot])
                self._left -= 1
                count -= 1
            if self._left <= 0 and count and self._results.count(job_id):
                self._untold[job_id] = snapshot, count
                return
            del self._untold[job_id]

    def _dismiss(self) -> None:
        """Answer some of those who stood when the drain began."""
        for _ in range(min(WAKES, len(self._dismissed))):
            registry, waiter = self._dismissed.pop()
            if waiter.answer is None:
                registry.settle(waiter, [])
        if self._dismissed and self._going_on is None:
            self._going_on = self.clock.call_at(self.clock.now(), self._go_on)

    async def _commit(self, now: float) -> None:
        self._act(now)
        if self.journal is not None:
            await self.journal.committed(self.ticket)

    def resume(self) -> None:
        """Go on with an engine that was restored: do what fell due, and hold the leases that ended meanwhile a little longer.

        Their workers may have tried to extend them and found no server, which is a stall to them.
        """
        now = self.clock.now()
        self._stalled, self._held_until = now, now + STALL_GRACE_SECONDS_MAX
        self.engine.resume(now)
        self._act(now)

    # The ticker: one timer, set to the earliest thing that may be due. Nothing polls.

    def arm(self, now: float) -> None:
        """Set the timer to the earliest thing that may be due."""
        due = min(self.engine.deadlines.earliest, self.engine.lease_ends.earliest)
        due = min(due, self._dequeues.deadlines.earliest)
        due = min(due, self._results.deadlines.earliest, self.listeners.waiting.deadlines.earliest)
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
        engine.tick(now, self._slice, heard=self._heard, stalled=self._stalled, held_until=self._held_until)
        for _ in range(WAKES):
            waiter = self._dequeues.deadlines.pop(now, SLICE)
            if waiter is None:
                break
            self._settle(waiter, [])
        self._results.expire(now, WAKES)
        self.listeners.waiting.expire(now, WAKES)
        self._act(now)
        if engine.deadlines.earliest > now and engine.lease_ends.earliest > min(now, self._heard):
            self._slice = SLICE
        else:
            took = self.clock.now() - now
            if took > TICK_SECONDS:
                self._slice = max(self._slice // 2, SLICE_MIN)
            elif took < TICK_SECONDS / 2:
                self._slice = min(self._slice * 2, SLICE_MAX)
        self.arm(now)

    def _listen_first(self, now: float, late: float) -> None:
        """Before a lease is ended, read what its worker may have sent in time.

        The ticker is late when the loop could not turn. It then comes again in each of the next turns, and leases that ran out by now are
        looked at after the last of them. A loop that is merely busy holds each lease for these few turns and no longer.
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

    # The whole.

    @property
    def waiters(self) -> int:
        """Requests held open: dequeues and waits for a result."""
        return len(self._dequeues) + len(self._results)

    async def stats(self) -> BackendStats:
        return self.totals()

    def cluster(self) -> ClusterStats | None:
        return None

    def totals(self) -> BackendStats:
        """What `stats` tells, without a turn of the loop: for whoever has this backend in its process."""
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
            errors_left_out_total=engine.errors_left_out_total,
            messages_left_out_total=engine.messages_left_out_total,
        )

    def picked_up(self, jobs: list[Job]) -> None:
        """Note how long it took from what made these jobs available, to a waiter that stood for them, to the end of its answer."""
        now = self.clock.now() + self.clock.skew()
        for job in jobs:
            if job.lease is not None:
                # A job is leased in the very step that makes it available to whoever stands.
                self.pickup.observe(now - job.lease.started_at)

    def drain(self) -> None:
        if not self.draining:
            self.draining = True
            self._attempts.clear()
            self._dismissed = [(registry, waiter) for registry in (self._results, self._dequeues) for waiter in registry.everyone()]
            # From here on nobody comes to stand.
            self._dismissed.reverse()
            self._dismiss()
        self.listeners.drain()

    async def close(self) -> None:
        self.drain()
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


def copied(job: Job, skew: float) -> Job:
    """A job as it is now, its times moved by `skew`."""
    copy: Job = job.__copy__()  # type: ignore[attr-defined] # msgspec has it in C, a third of copy.copy, and leaves it out of its stubs
    return shifted(copy, skew) if skew else copy


def shifted(job: Job, skew: float) -> Job:
    """Move a snapshot's times from engine time to UTC, in place."""
    job.created_at += skew
    details, hold = job.details, job.hold
    if details is not PLAIN:
        past = tuple(replace(one, started_at=one.started_at + skew, ended_at=one.ended_at + skew) for one in details.past)
        job.details = replace(details, run_at=later_at(details.run_at, skew), expires_at=later_at(details.expires_at, skew), past=past)
    if type(hold) is Lease:
        job.hold = replace(hold, expires_at=hold.expires_at + skew, started_at=hold.started_at + skew)
    elif type(hold) is Conclusion:
        job.hold = replace(hold, concluded_at=hold.concluded_at + skew, started_at=later_at(hold.started_at, skew))
    return job


def later_at(at: float | None, seconds: float) -> float | None:
    """A time moved, if there is one."""
    return None if at is None else at + seconds
