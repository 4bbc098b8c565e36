"""The queue's operations on jobs: `op(now, ...)` returns a reply and leaves its events in `events`.

An operation that raises has changed nothing. Time only moves jobs in `tick`: a lease that is past its expiry is live until
`tick` says otherwise, so of a conclude and an expiry in the same instant exactly one wins, whichever is processed first.
"""

from __future__ import annotations

import math

import msgspec

from jobqueue.engine import checks, walks
from jobqueue.engine.admin import QueueAdmin
from jobqueue.engine.events import K_CANCEL_REQUESTED, K_CHANGED, K_DEQUEUED, K_ENQUEUED, K_EXTENDED, Event
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.keys import KeyState
from jobqueue.engine.leases import LeaseOperations
from jobqueue.engine.lifecycle import T_CANCEL, T_DEQUEUE, T_DUE, T_EXPIRE, T_UNDELIVERED, allow
from jobqueue.engine.queues import QueueState
from jobqueue.engine.sizes import details_bytes, names_bytes, own_bytes, text_bytes
from jobqueue.engine.state import BACK, FRONT, Chore
from jobqueue.errors import IdConflict
from jobqueue.model import (
    CANCELLED,
    EXPIRED,
    IN_PROGRESS,
    PLAIN,
    QUEUED,
    SCHEDULED,
    Backoff,
    Conclusion,
    Details,
    Job,
    JobSpec,
    Lease,
    Want,
)

_COMPARED = ("queue", "payload", "type", "description", "priority", "max_attempts", "lease_seconds", "key")
"""What makes an enqueue of a known id the same enqueue, byte for byte, the queue first: of a job in another one nothing else is looked at.
Beside these, backoff, and delay, run_at and expires_in as sent. Not traceparent: a producer that tries again may do so in another span."""


PASSED_OVER_MAX = 500
"""Expired jobs that one dequeue passes over, ending them, before it gives up."""

_NO_TIMES = (None, None, None)


def _asked(spec: JobSpec) -> tuple[float | None, float | None, float | None] | None:
    """See Details.asked. A delay of 0 is none."""
    if spec.delay or spec.run_at is not None or spec.expires_in is not None:
        return (spec.delay or None, spec.run_at, spec.expires_in)
    return None


def _values(backoff: Backoff | None) -> tuple[float, ...] | None:
    return None if backoff is None else (backoff.base, backoff.factor, backoff.cap)


class Engine(LeaseOperations, QueueAdmin):
    """The whole queue. See `State` for its data, `LeaseOperations` and `QueueAdmin` for the rest of its operations."""

    def enqueue(self, now: float, spec: JobSpec, skew: float = 0.0) -> tuple[Job, bool]:
        """Take in a job; (job, True), or (the existing job, False) for a repeat of the same id and content.

        skew: UTC minus engine time, for `spec.run_at`. Raises BadRequest, TooLarge, IdConflict, QueueFull, TooManyQueues.
        """
        plain = not checks.spec(spec, self.limits)
        if spec.id is not None:
            known = self.jobs.by_id.get(spec.id)
            if known is not None:
                self._same(known, spec)
                return known, False
        kind = spec.type
        if kind is not None:
            kind = self.types.get(kind) or self._new_type(kind)
        details = PLAIN if plain else self._details(now, spec, skew)
        payload = spec.payload
        size = len(payload)
        if kind is not None:
            size += text_bytes(kind)
        if not plain:
            size += details_bytes(details)
        queue = self.make_room(spec.queue, size, spec.key)
        # By position, in the order of the fields: keywords cost half as much again, and this is the hottest line of the engine.
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
        # The first status is the only one not set by `move`: a new job has none to move from.
        if details.seq is not None:
            job.status = SCHEDULED
            self.schedule(job, queue)
        else:
            queue.append(job)
            if details.expires_at is not None:
                self.deadlines.set(job, details.expires_at)
        self.events.append(Event(K_ENQUEUED, queue.name, job))
        return job, True

    def _new_type(self, name: str) -> str:
        """A type that is not remembered: checked, so that the next job of it need not be. Raises BadRequest."""
        checks.text("type", name, self.limits.type_chars_max, 1)
        return self.shared_type(name)

    def _details(self, now: float, spec: JobSpec, skew: float) -> Details:
        """A new job's details, times in engine time; seq 0 for one that is to wait. Raises BadRequest."""
        run_at = None
        if spec.delay:
            run_at = now + spec.delay
        elif spec.run_at is not None:
            checks.run_at(spec.run_at - skew, now, self.limits)
            run_at = max(now, spec.run_at - skew)
        return Details(
            description=spec.description,
            max_attempts=spec.max_attempts,
            backoff=spec.backoff,
            lease_seconds=spec.lease_seconds,
            asked=_asked(spec),
            run_at=run_at,
            expires_at=None if spec.expires_in is None else now + spec.expires_in,
            traceparent=spec.traceparent,
            seq=0 if run_at is not None and run_at > now else None,
            key=spec.key,
        )

    def _same(self, job: Job, spec: JobSpec) -> None:
        for field in _COMPARED:
            if getattr(job, field) != getattr(spec, field):
                raise IdConflict(job.id, field)
        # By value: an edge may send a subclass of Backoff, which msgspec holds to be unequal, and a restored job has Backoff itself.
        if _values(job.backoff) != _values(spec.backoff):
            raise IdConflict(job.id, "backoff")
        for field, was, wanted in zip(
            ("delay", "run_at", "expires_in"), job.details.asked or _NO_TIMES, _asked(spec) or _NO_TIMES, strict=True
        ):
            if was != wanted:
                raise IdConflict(job.id, field)

    def dequeue(self, now: float, want: Want) -> list[Job]:
        """Take at most `want.limit` jobs, each under a new lease; [] when none is available. `want` must have passed `checks.want`.

        Fewer when they would hold more than `answer_bytes_max`, at least one. Fewer or none when it had to pass over PASSED_OVER_MAX
        expired ones: then a queue still has jobs `available`, and asking again goes on behind those.

        Earlier queues of `want.queues` are emptied first; inside each, priority, then age.
        """
        taken: list[Job] = []
        room = self.limits.answer_bytes_max
        passed = 0
        for name in want.queues:
            queue = self.queues.get(name)
            if queue is None or queue.policy.paused:
                continue
            while len(taken) < want.limit and passed < PASSED_OVER_MAX:
                job = queue.pop()
                if job is None:
                    break
                expires_at = job.details.expires_at
                if expires_at is not None:
                    self.deadlines.drop(job)
                    if expires_at <= now:
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
        """Count the names that the leases of these jobs were given. Not refused where there is no room: an enqueue is, next."""
        self.live_bytes += names_bytes(want) * len(taken)

    def _lease(self, job: Job, queue: QueueState, now: float, want: Want) -> None:
        details = job.details
        seconds = want.lease_seconds or details.lease_seconds or queue.policy.lease_seconds
        expires_at = now + seconds
        self.move(job, T_DEQUEUE, IN_PROGRESS)
        job.attempts += 1
        job.hold = lease = Lease(self.ids.token(), expires_at, seconds, now, want.worker, want.attempt_id)
        if want.attempt_id is not None:
            job.hold = msgspec.structs.replace(lease, who=want.who)
            self.attempts.setdefault((want.attempt_id, want.worker, want.who, job.queue), {})[job] = None
        queue.in_progress += 1
        queue.dequeued_total += 1
        if queue.flow:
            queue.leased(job, now)
            if queue.policy.limited:
                job.hold = msgspec.structs.replace(job.hold, limited=True)
        if job.attempts > 1:
            queue.redelivered_total += 1
        else:
            # Only of a first attempt is it known since when the job could be had.
            since = job.created_at if details.run_at is None else details.run_at
            self.time_in_queue.observe(now - since)
        self.lease_ends.set(job, expires_at)
        self.events.append(Event(K_DEQUEUED, queue.name, job))

    def available(self, name: str) -> bool:
        """Whether a dequeue of this queue might find a job now."""
        queue = self.queues.get(name)
        return queue is not None and not queue.policy.paused and (queue.may_go() if queue.flow else queue.queued > 0)

    def replay(self, want: Want) -> list[Job]:
        """At most `want.limit` of the jobs whose leases were taken under this attempt_id and still live, to be handed out again; [] when
        none is.

        Only the same worker of the same `who` is answered so, and only with jobs of the queues it asks for. Amazon SQS calls the same
        thing ReceiveRequestAttemptId.
        """
        replayed: list[Job] = []
        if want.attempt_id is None:
            return replayed
        room = self.limits.answer_bytes_max
        for queue in want.queues:
            for job in self.attempts.get((want.attempt_id, want.worker, want.who, queue), ()):
                room -= own_bytes(job)
                if len(replayed) >= want.limit or (room < 0 and replayed):
                    return replayed
                lease = job.lease
                assert lease is not None
                if not lease.replayed:
                    job.hold = msgspec.structs.replace(lease, replayed=True)
                    # To be stored: a server that could not deliver the first answer may give it back to the next owner, which has to know.
                    self.events.append(Event(K_CHANGED, job.queue, job))
                replayed.append(job)
        return replayed

    def put_back(self, now: float, job_id: str, token: str) -> bool:
        """Undo a dequeue whose answer was not delivered: the job returns to its old place and the attempt does not count.

        True if it did; False when the lease is no longer that one, or was handed out again by `replay`.
        """
        job = self.jobs.by_id.get(job_id)
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
            self.to_queued(job, queue, now, T_UNDELIVERED, FRONT)
        return True

    def cancel(self, now: float, job_id: str) -> Job:
        """Stop a job: at once if it waits, by a request its worker sees at the next extend if it is in progress. One that failed and halts
        its key is given up: it stays failed, and the key goes on.

        Raises UnknownJob, NotInProgress (it is concluded).
        """
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
        """Go on after a restore: what rates had left is not known, so they have nothing."""
        for queue in self.queues.values():
            if isinstance(queue, FlowQueue) and (until := queue.empty_buckets(now)) is not None:
                self.deadlines.set(Chore(walks.forget_restart(queue), None), until)

    def tick(
        self, now: float, limit: int = 1_000, *, heard: float = math.inf, stalled: float = -math.inf, held_until: float = -math.inf
    ) -> None:
        """Do what is due: run scheduled jobs, expire jobs, end leases. Looks at no more than `limit` due times, so that a herd of any
        kind does not stall the loop: a lease that was extended costs a look too.

        heard: up to when the server has read what clients sent; a lease that ran out later is left as it is, since its worker may have
        extended it in time. stalled, held_until: the server stood still until `stalled`, so a lease that ran out by then is held until
        `held_until`; once, until its worker extends it.
        """
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
        if lease.expires_at <= stalled and not lease.prolonged:
            job.hold = msgspec.structs.replace(lease, expires_at=max(held_until, lease.expires_at), prolonged=True)
            self.lease_ends.set(job, max(held_until, lease.expires_at))
            self.events.append(Event(K_EXTENDED, job.queue, job))
        else:
            self.expire_lease(job, self.queues[job.queue], now)

    def _flow_due(self, item: object, now: float) -> int:
        """Something that is due and is no job; how much was looked at."""
        if isinstance(item, Chore):
            looked = next(item.work, None)
            if looked is not None:
                self.deadlines.set(item, now)
                return looked
            queue = None if item.queue is None else self.queues.get(item.queue)
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
        queue = self.queues[job.queue]
        self.detach(job, queue)
        if job.expires_at is not None and job.expires_at <= now:
            self.to_concluded(job, queue, T_EXPIRE, Conclusion(EXPIRED, now))
        else:
            # Promise 6: a job that was handed out before goes to the front; one that was only delayed has no place yet.
            self.to_queued(job, queue, now, T_DUE, FRONT if job.seq else BACK)
