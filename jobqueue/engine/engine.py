"""The queue's operations on jobs: `op(now, ...)` returns a reply and leaves its events in `events`.

An operation that raises has changed nothing. Time moves jobs only in `tick`: a lease past its expiry is live until `tick` ends it, so if a
conclude and the expiry happen at the same moment, exactly one takes effect: the one that is processed first."""

from __future__ import annotations

import math
from random import Random

import msgspec
from msgspec.structs import replace

from jobqueue.engine import checks, walks
from jobqueue.engine.admin import QueueAdmin
from jobqueue.engine.ages import Cursor
from jobqueue.engine.alike import asked, check_same, in_order
from jobqueue.engine.chore import Chore
from jobqueue.engine.claims import Claims
from jobqueue.engine.editing import JobEditing
from jobqueue.engine.events import K_CANCEL_REQUESTED, K_DEQUEUED, K_ENQUEUED, K_EXTENDED, Event
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.graph import Graph
from jobqueue.engine.groups import Group, Groups
from jobqueue.engine.keys import KeyState
from jobqueue.engine.leases import LeaseOperations
from jobqueue.engine.lifecycle import T_CANCEL, T_DEQUEUE, T_DUE, T_EXPIRE, T_UNDELIVERED, allow
from jobqueue.engine.queues import QueueState
from jobqueue.engine.retention import Shelf
from jobqueue.engine.schedules import Schedules
from jobqueue.engine.sizes import details_bytes, names_bytes, own_bytes, text_bytes
from jobqueue.engine.state import BACK, FRONT
from jobqueue.engine.timetable import Table
from jobqueue.engine.unique import Uniques, Window
from jobqueue.ids import Ids
from jobqueue.limits import Limits
from jobqueue.model import (
    CANCELLED,
    CONCLUDED,
    EXPIRED,
    IN_PROGRESS,
    NOTHING,
    PLAIN,
    QUEUED,
    SCHEDULED,
    Conclusion,
    Details,
    Extra,
    Job,
    JobSpec,
    Lease,
    Outcome,
    Want,
)
from jobqueue.partition import ALONE, Place
from jobqueue.policy import QueuePolicy

PASSED_OVER_MAX = 500
"""How many expired jobs one dequeue ends and skips before it stops."""

_TIMES_SLICE = 100
"""How many jobs are given another time in one step."""


class Engine(LeaseOperations, QueueAdmin, JobEditing):
    """The whole queue. See `State` for its data, `LeaseOperations` and `QueueAdmin` for its other operations on jobs and queues, and
    `schedules` for those on schedules."""

    __slots__ = ("claims", "graph", "groups", "schedules", "uniques")

    def __init__(self, limits: Limits | None = None, ids: Ids | None = None, random: Random | None = None, place: Place = ALONE) -> None:
        super().__init__(limits, ids, random, place)
        self.claims = Claims(self)
        self.schedules = Schedules(self, self._enqueue_ours, self.cancel)
        self.uniques = Uniques(self, self)
        self.graph = Graph(self, self)
        self.groups = Groups(self, self._enqueue_ours, self.cancel)

    def ended(self, job: Job, now: float) -> None:
        """See State."""
        self.schedules.ended(job)
        self.uniques.ended(job, now)
        if job.status is CONCLUDED:
            # A dead letter has not ended: it is live in another queue.
            self.graph.concluded(job)
            self.groups.concluded(job)

    def retried(self, job: Job, outcome: Outcome) -> None:
        """See State."""
        self.graph.retried(job)
        self.groups.retried(job, outcome)

    def lives_again(self, job: Job, now: float) -> None:
        """See State."""
        self.schedules.lives(job)
        self.uniques.lives(job, now)

    def _set_policy(self, queue: QueueState, policy: QueuePolicy, now: float | None, by: str | None) -> None:
        was = queue.policy
        super()._set_policy(queue, policy, now, by)
        queue = self.queues[queue.name]
        letters = (was.expires_in, was.per_key) != (policy.expires_in, policy.per_key)
        if queue.ordered and queue.live and (letters or was.delay != policy.delay):
            waiting = self.waiting(queue.name, _TIMES_SLICE)
            self.do_later(self.have_new_times(queue, waiting, was.delay != policy.delay, letters), queue.name)

    def check_retry(self, job: Job) -> None:
        """See State."""
        self.uniques.check_retry(job)

    def forgotten(self, job: Job) -> None:
        """See State."""
        self.uniques.forgotten(job)
        self.groups.forgotten(job)

    def held_up(self, job: Job) -> bool:
        """Whether something other than its time still holds a job back."""
        return job.number in self.edges.held or self.uniques.holds_up(job)

    def go_on(self, job: Job, now: float) -> None:
        """One thing no longer holds a job back: if nothing else does, it can run at its time."""
        if job.held_back and not self.held_up(job):
            self.let_run(job, self.queues[job.queue], now)

    def enqueue(self, now: float, spec: JobSpec, skew: float = 0.0) -> tuple[Job, bool]:
        """Accept a job: (job, True), or (the existing job, False) for a repeated enqueue of the same id and content.

        If another job holds its unique key, that job can be the answer, also with False; the enqueue may have changed it.

        skew: UTC minus engine time, for `spec.run_at`. Raises BadRequest, TooLarge, IdConflict, Duplicate, QueueFull, TooManyQueues,
        UnknownQueue (`spec.there`), ClaimVoid."""
        plain = not checks.spec(spec, self.limits)
        if spec.id is not None:
            if spec.id in self.jobs.by_id:
                known = self.jobs.found(spec.id)
                check_same(known, spec)
                return known, False
            self.claims.check(spec)
        kind, payload = spec.type, spec.payload
        size = len(payload)
        if kind is not None:
            kind = self.types.get(kind) or self._new_type(kind)
            size += text_bytes(kind)
        if plain:
            details = PLAIN
        else:
            if (met := self._met(now, spec, skew, kind)) is not None:
                return met, False
            details = self._details(now, spec, skew)
            size += details_bytes(details)
        queue = self.make_room(spec.queue, size, spec.key, now, spec.there)
        if plain and queue.ruled and queue.policy.delay:
            plain, details = False, Details(run_at=now + queue.policy.delay, seq=0)
        # Positional, in the order of the fields: keyword arguments cost half as much again, and this is the hottest line of the engine.
        job = Job(
            self.ids.job_id(now) if spec.id is None else spec.id,
            self.jobs.next_number,
            queue.name,
            spec.priority,
            payload,
            now,
            QUEUED,
            kind,
            details,
        )
        self.jobs.add(job)
        self.live += 1
        self.live_bytes += size
        queue.enqueued_total += 1
        if queue.flow:
            queue.enter(job)
        # `move` does not set this first status: a new job has none to move from.
        if plain:
            queue.append(job)
            if not job.number % self.jobs.packing.size:
                queue.pack(job.priority, self.jobs)
        else:
            self._place(job, queue)
        self.events.append(Event(K_ENQUEUED, queue.name, job))
        if not plain and details.extra is not NOTHING:
            self._entered(job, now)
        return job, True

    def _enqueue_ours(self, now: float, spec: JobSpec, skew: float = 0.0) -> tuple[Job, bool]:
        return self.enqueue(now, self.claims.ours(spec), skew)

    def _entered(self, job: Job, now: float) -> None:
        """A job that has something in `extra` was made."""
        self.uniques.enter(job, now)
        self.groups.lives(job)
        if job.details.extra.after:
            self.graph.enter(job, now)

    def _place(self, job: Job, queue: QueueState) -> None:
        """Put a new job in the place that its details determine."""
        if job.details.seq is not None:
            job.status = SCHEDULED
            self.schedule(job, queue)
        else:
            queue.append(job)
            if job.details.expires_at is not None:
                self.deadlines.set(job, job.details.expires_at)

    def _met(self, now: float, spec: JobSpec, skew: float, kind: str | None) -> Job | None:
        """The job that answers an enqueue because of the unique key; None if a new one is to be made. Also raises what `_admit` does."""
        if spec.after or spec.group is not None:
            self._admit(spec)
        met = None if spec.unique is None else self.uniques.meet(spec)
        if met is None:
            return None
        if met.takes_over:
            self.take_over(now, met.job, spec, self._details(now, spec, skew), kind)
            self.uniques.became["replaced"] += 1
        return met.job

    def _admit(self, spec: JobSpec) -> None:
        """Check that a job can be after its parents, and join its group. Raises UnknownParent, QueueFull, UnknownGroup, GroupClosed."""
        self.graph.check_room(spec)
        if spec.group is not None:
            self.groups.check_open(spec.group)

    def _new_type(self, name: str) -> str:
        """A type that is not remembered: it is checked once, so that the next job with it need not be. Raises BadRequest."""
        checks.text("type", name, self.limits.type_chars_max, 1)
        return self.shared_type(name)

    def _details(self, now: float, spec: JobSpec, skew: float) -> Details:
        """A new job's details, with times in engine time; seq is 0 if the job has to wait. Raises BadRequest."""
        run_at = None
        if spec.delay:
            run_at = now + spec.delay
        elif spec.run_at is not None:
            checks.run_at(spec.run_at - skew, now, self.limits)
            run_at = max(now, spec.run_at - skew)
        elif spec.delay is None and (queue := self.queues.get(spec.queue)) is not None and queue.policy.delay:
            run_at = now + queue.policy.delay
        extra = self._extra(spec)
        waits = run_at is not None and run_at > now
        if spec.unique is not None:
            claim = self.uniques.claim(now, spec)
            extra = replace(extra, claim=claim)
            if claim.state == "waits":
                run_at, waits, extra = None, True, replace(extra, not_before=run_at)
        if spec.after:
            run_at, waits, extra = None, True, replace(extra, not_before=extra.not_before if run_at is None else run_at)
        return Details(
            description=spec.description,
            max_attempts=spec.max_attempts,
            backoff=spec.backoff,
            lease_seconds=spec.lease_seconds,
            asked=asked(spec),
            run_at=run_at,
            expires_at=None if spec.expires_in is None else now + spec.expires_in,
            traceparent=spec.traceparent,
            seq=0 if waits else None,
            key=spec.key,
            extra=extra,
        )

    def _extra(self, spec: JobSpec) -> Extra:
        if not (spec.tags or spec.after or spec.group is not None or spec.headers):
            return NOTHING
        # The id strings of the parents themselves, so that the same text is not stored twice.
        after = tuple(self.jobs.found(parent).id for parent in spec.after)
        return Extra(spec.tags, after=after, after_failure=spec.after_failure, group=spec.group, headers=in_order(spec.headers))

    def dequeue(self, now: float, want: Want) -> list[Job]:
        """Take at most `want.limit` jobs, each under a new lease; [] if none is available. `want` must have passed `checks.want`.

        Returns fewer if they would hold more than `answer_bytes_max`, but at least one. Returns fewer or none if it had to skip
        PASSED_OVER_MAX expired jobs: then a queue still has jobs `available`, and the next call continues behind those.

        Queues are emptied in the order of `want.queues`; within each, by priority, then age."""
        taken: list[Job] = []
        room = self.limits.answer_bytes_max
        passed = 0
        for name in want.queues:
            queue = self.queues.get(name)
            if queue is None or queue.policy.paused:
                continue
            expires_in = queue.expires_in
            while len(taken) < want.limit and passed < PASSED_OVER_MAX:
                job = queue.pop()
                if job is None:
                    break
                expires_at = job.details.expires_at
                if expires_at is not None or expires_in is not None:
                    self.deadlines.drop(job)
                    if (expires_at is not None and expires_at <= now) or queue.too_old(job, now):
                        self.to_concluded(job, queue, T_EXPIRE, Conclusion(EXPIRED, now))
                        passed += 1
                        continue
                if want.limit > 1:
                    room -= len(job.payload) if job.details is PLAIN and job.type is None else own_bytes(job)
                    if room < 0 and taken:
                        if expires_at is not None:
                            self.deadlines.set(job, expires_at)
                        queue.give_back(job)
                        passed = PASSED_OVER_MAX
                        break
                self._lease(job, queue, now, want)
                taken.append(job)
            if queue.flow:
                queue.finish()
            if len(taken) >= want.limit or passed >= PASSED_OVER_MAX:
                break
        if want.worker is not None or want.attempt_id is not None:
            self._named(taken, want)
        return taken

    def _named(self, taken: list[Job], want: Want) -> None:
        """Count the bytes of the names in these jobs' leases. A dequeue is not refused for lack of room; the next enqueue is."""
        self.live_bytes += names_bytes(want) * len(taken)

    def _lease(self, job: Job, queue: QueueState, now: float, want: Want) -> None:
        details = job.details
        seconds = want.lease_seconds
        if seconds is None:
            seconds = queue.policy.lease_seconds if details.lease_seconds is None else details.lease_seconds
        self.move(job, T_DEQUEUE, IN_PROGRESS)
        job.attempts += 1
        most = queue.policy.max_attempts if details.max_attempts is None else details.max_attempts
        attempt, worker, who, ends = want.attempt_id, want.worker, "" if want.attempt_id is None else want.who, now + seconds
        # By position: keyword arguments cost more than everything else here.
        job.hold = Lease(self.ids.token(), ends, seconds, now, worker, attempt, None, None, False, False, False, who, False, most)
        if attempt is not None:
            self.attempts.setdefault((attempt, worker, who, job.queue), {})[job] = None
        queue.in_progress += 1
        queue.dequeued_total += 1
        if details.extra is not NOTHING:
            self.uniques.started(job, now)
        if queue.flow:
            queue.leased(job, now)
            if queue.policy.limited:
                job.hold = msgspec.structs.replace(job.hold, limited=True)
        if job.attempts > 1:
            queue.redelivered_total += 1
        else:
            # Only for a first attempt is it known since when the job was available.
            since = job.created_at if details.run_at is None else details.run_at
            queue.waited = self.time_in_queue.observe_in(now - since, queue.waited)
        self.lease_ends.set(job, ends)
        self.events.append(Event(K_DEQUEUED, queue.name, job))

    def available(self, name: str) -> bool:
        """Whether a dequeue from this queue may find a job now."""
        queue = self.queues.get(name)
        return queue is not None and not queue.policy.paused and (queue.may_go() if queue.flow else queue.queued > 0)

    def put_back(self, now: float, job_id: str, token: str) -> bool:
        """Undo a dequeue whose answer was not delivered: the job returns to its old place and the attempt does not count.

        Returns False if that lease is no longer live, or was handed out again by `replay`."""
        job = self.jobs.find(job_id)
        if job is None:
            return False
        lease = self.lease_of(job, token)
        if lease is None or lease.replayed:
            return False
        queue = self.queues[job.queue]
        if queue.flow:
            queue.undelivered(job, lease.started_at, now)
        self.let_go(job, queue, lease)
        job.attempts -= 1
        if lease.cancel_requested:
            self.to_concluded(job, queue, T_UNDELIVERED, Conclusion(CANCELLED, now))
        else:
            if job.details.extra is not NOTHING:
                self.uniques.not_started(job)
            self.to_queued(job, queue, now, T_UNDELIVERED, FRONT)
        return True

    def cancel(self, now: float, job_id: str) -> Job:
        """Cancel a job: at once if it waits; if it is in progress, its worker sees the request at the next extend. A failed job that halts
        its key is given up: it stays failed, and the key continues.

        Raises UnknownJob, NotInProgress (it is concluded)."""
        job = self.job(job_id)
        if job.conclusion is not None and job.conclusion.halts:
            self.give_up(job)
            return job
        allow(job, T_CANCEL)
        queue = self.queues[job.queue]
        lease = job.lease
        if lease is not None:
            self.move(job, T_CANCEL, IN_PROGRESS)
            job.hold = msgspec.structs.replace(lease, cancel_requested=True)
            self.events.append(Event(K_CANCEL_REQUESTED, queue.name, job))
        else:
            self.detach(job, queue)
            self.to_concluded(job, queue, T_CANCEL, Conclusion(CANCELLED, now))
        return job

    def resume(self, now: float) -> None:
        """Continue after a restore: the levels of the rate buckets are not known, so they start empty."""
        for queue in self.queues.values():
            if isinstance(queue, FlowQueue) and (until := queue.empty_buckets(now)) is not None:
                self.deadlines.set(Chore(walks.forget_restart(queue), None), until)
        self.schedules.reckon()
        self.uniques.resume(now)
        self.now = now
        self.graph.resume()
        self.groups.resume(now)

    def tick(
        self,
        now: float,
        limit: int = 1_000,
        *,
        heard: float = math.inf,
        stalled: float = -math.inf,
        held_until: float = -math.inf,
        skew: float = 0.0,
    ) -> None:
        """Do what is due: run scheduled jobs, make the jobs of schedules, expire jobs, end leases. Looks at no more than `limit` due times,
        so that many at once do not stall the loop; the due time of an extended lease counts too.

        heard: the time up to which the server has read what clients sent; a lease that ran out later is left alone, since its worker may
        have extended it in time. stalled, held_until: the server was stalled until `stalled`, so a lease that ran out by then is held until
        `held_until`, once, until its worker extends it. skew: UTC minus engine time, for schedules."""
        self.now = now
        if self.schedules.tables:
            self.schedules.see(now, skew)
        waiting, leases = self.deadlines, self.lease_ends
        heard = min(heard, now)
        while limit > 0:
            if leases.earliest <= heard and leases.earliest <= waiting.earliest:
                job = leases.pop(min(heard, waiting.earliest), limit)
                limit -= leases.looked
                if job is not None:
                    self._lease_ends(job, now, stalled, held_until)
            elif waiting.earliest <= now:
                item = waiting.pop(min(now, leases.earliest) if leases.earliest <= heard else now, limit)
                limit -= waiting.looked
                if type(item) is Job:
                    self._due(item, now)
                elif item is not None:
                    limit -= self._flow_due(item, now)
            else:
                return

    def _lease_ends(self, job: Job, now: float, stalled: float, held_until: float) -> None:
        lease = job.lease
        assert lease is not None
        if lease.expires_at <= stalled and not lease.prolonged and lease.expires_at > lease.started_at:
            job.hold = msgspec.structs.replace(lease, expires_at=max(held_until, lease.expires_at), prolonged=True)
            self.lease_ends.set(job, max(held_until, lease.expires_at))
            self.events.append(Event(K_EXTENDED, job.queue, job))
        else:
            self.leases_expired_total += 1
            self.expire_lease(job, self.queues[job.queue], now)

    def _flow_due(self, item: object, now: float) -> int:
        """Handle a due item that is not a job. Returns how many items it looked at."""
        if isinstance(item, Chore):
            looked = next(item.work, None)
            if looked is not None:
                self.deadlines.set(item, now)
                return looked
            queue = None if item.queue is None else self.queues.get(item.queue)
        elif isinstance(item, Table | Schedules):
            return self.schedules.due(item)
        elif isinstance(item, Shelf):
            forgotten = item.forget(now)
            self.forget(forgotten)
            return len(forgotten)
        elif isinstance(item, Cursor):
            return self.ages.due(item, now, self)
        elif isinstance(item, Window):
            self.uniques.over(item, now)
            return 0
        elif isinstance(item, Group):
            return self.groups.due(item, now)
        elif isinstance(item, KeyState):
            queue = self.queues.get(item.queue)
            if isinstance(queue, FlowQueue):
                queue.key_refilled(item, now)
        else:
            assert isinstance(item, FlowQueue)
            queue = self.queues.get(item.name)
            if queue is item:
                item.refilled(now)
        if queue is not None:
            self.freed(queue)
        return 0

    def _due(self, job: Job, now: float) -> None:
        if job.expires_at is not None and job.expires_at <= now:
            self.expire(job, now)
        else:
            queue = self.queues[job.queue]
            self.detach(job, queue)
            # Promise 6: a job that was handed out before goes to the front; a job that was only delayed has no place yet.
            self.to_queued(job, queue, now, T_DUE, FRONT if job.seq else BACK)

    def expire(self, job: Job, now: float) -> None:
        """End a job that has waited too long."""
        queue = self.queues[job.queue]
        self.detach(job, queue)
        self.to_concluded(job, queue, T_EXPIRE, Conclusion(EXPIRED, now))
