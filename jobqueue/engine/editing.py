"""Editing a waiting job.

A job that gets another queue or priority joins the back there, as if it were new; any other edit leaves it where it is. A repeated enqueue
of an edited job is not compared: what was enqueued is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UNSET
from msgspec.structs import replace

from jobqueue.engine import checks
from jobqueue.engine.events import K_EDITED, Event
from jobqueue.engine.lifecycle import T_EDIT, allow
from jobqueue.engine.queues import QueueState
from jobqueue.engine.sizes import details_bytes, text_bytes
from jobqueue.engine.state import BACK, FRONT, State
from jobqueue.errors import QueueFull
from jobqueue.model import QUEUED, SCHEDULED, Details, Job, JobChange, JobSpec
from jobqueue.past import sealed

_LOOKS = 4
"""The cost of giving one job another time, counted as so many due jobs in a tick."""


class JobEditing(State):
    """`edit` and its parts."""

    __slots__ = ()

    def edit(self, now: float, job_id: str, change: JobChange, skew: float = 0.0) -> Job:
        """Change some fields of a waiting job. skew: UTC minus engine time, for `change.run_at`.

        Raises UnknownJob, InProgress, NotInProgress (it is concluded), BadRequest, TooLarge, QueueFull, TooManyQueues.
        """
        job = self.job(job_id)
        allow(job, T_EDIT)
        checks.change(change, self.limits)
        if change.payload is not UNSET and job.headers:
            checks.payload(change.payload, self.limits, job.headers)
        run_at = self._new_time(now, job, change, skew)
        details = self._edited(now, job, change)
        if job.held_back and run_at is not None:
            # Another condition still holds it back.
            details, run_at = replace(details, extra=replace(details.extra, not_before=run_at)), None
        payload = job.payload if change.payload is UNSET else change.payload
        priority = job.priority if change.priority is UNSET else change.priority
        queue = job.queue if change.queue is UNSET else change.queue
        self._remake(now, job, payload, job.type, details, queue, priority, run_at)
        return job

    def take_over(self, now: float, job: Job, spec: JobSpec, new: Details, kind: str | None) -> None:
        """Give a waiting job the content and time of a later enqueue with the same unique key. Its id, priority, key, attempts and the
        terms of its unique key stay.

        new: the details that the later job would have; kind: its type. Raises QueueFull.
        """
        was, unique = job.details, spec.unique
        run_at = new.extra.not_before if new.run_at is None else new.run_at
        if run_at is not None:
            waits = [terms.max_wait for terms in (unique, job.unique) if terms is not None and terms.max_wait is not None]
            run_at = min([run_at, *(job.created_at + wait for wait in waits)])
        if job.attempts and job.status is SCHEDULED and was.run_at is not None:
            # Not before its backoff is over.
            run_at = was.run_at if run_at is None else max(run_at, was.run_at)
        waits_on = run_at is not None and run_at > now
        extra = replace(was.extra, edited=True, tags=spec.tags, headers=new.extra.headers)
        if job.held_back:
            extra, run_at = replace(extra, not_before=run_at if waits_on else None), None
        elif not waits_on:
            run_at = None if job.status is QUEUED else now
        past = sealed(was.past)
        details = replace(
            new, run_at=was.run_at, asked=was.asked, error=was.error, past=past, seq=was.seq, key=was.key, holds=was.holds, extra=extra
        )
        self._remake(now, job, spec.payload, kind, details, job.queue, job.priority, run_at)

    def have_new_times(self, queue: QueueState, waiting: Iterator[list[Job]], delay: bool, letters: bool) -> Iterator[int]:
        """Apply a changed delay and expiry of a queue that keeps an order to the jobs that wait there; yields how much was looked at.

        This is how SQS's FIFO queues behave. delay: jobs that have no time of their own and were never handed out; letters: dead letters,
        whose age counts from when they arrived. If a crash interrupts this, it is not continued.
        """
        for jobs in waiting:
            now = self.now
            for job in jobs:
                if job.queue != queue.name or job.status not in (QUEUED, SCHEDULED):
                    continue
                details, origin = job.details, job.origin
                if origin is not None:
                    if letters and details.expires_at != (ends := queue.letter_ends(origin)):
                        job.details = replace(details, expires_at=ends)
                        self._set_expiry(job)
                        self.events.append(Event(K_EDITED, queue.name, job))
                elif delay and _has_its_queues_time(job):
                    run_at = max(now, job.created_at + (queue.policy.delay or 0.0))
                    if run_at != details.run_at if job.status is SCHEDULED else run_at > now:
                        self._put_elsewhere(now, job, details, queue, job.priority, run_at)
            yield 1 + _LOOKS * len(jobs)

    def _remake(
        self,
        now: float,
        job: Job,
        payload: bytes,
        kind: str | None,
        details: Details,
        queue_name: str,
        priority: int,
        run_at: float | None,
    ) -> None:
        """Give a waiting job its new contents. run_at: None if its time stays. Raises Full, BadRequest (queue)."""
        more = details_bytes(details) - details_bytes(job.details) + len(payload) - len(job.payload)
        if kind is not job.type:
            more += sum(sign * text_bytes(text) for sign, text in ((1, kind), (-1, job.type)) if text is not None)
        if more > 0 and not self.has_room(more):
            raise QueueFull(f"the server's live jobs hold {self.live_bytes} bytes; {self.bytes_max} are allowed")
        old = self.queues[job.queue]
        queue = old if queue_name == job.queue else self.room_for_one_of_ours(queue_name, job.key, now)
        # From here on nothing is refused.
        self.live_bytes += more
        job.payload, job.type = payload, kind
        if queue is old and priority == job.priority and run_at is None:
            job.details = details
            self._set_expiry(job)
            if job.status is SCHEDULED:
                # Behind the jobs that were changed before it, which is also its place after a restart.
                old.scheduled[job.number] = old.scheduled.pop(job.number)
            self.events.append(Event(K_EDITED, job.queue, job))
        else:
            self._put_elsewhere(now, job, details, queue, priority, run_at)

    def _new_time(self, now: float, job: Job, change: JobChange, skew: float) -> float | None:
        """The earliest time at which the job is to run now; None if it stays. Raises BadRequest."""
        if change.delay is not UNSET:
            run_at = now + change.delay
        elif change.run_at is not UNSET:
            checks.run_at(change.run_at - skew, now, self.limits)
            run_at = max(now, change.run_at - skew)
        else:
            return None
        return None if run_at <= now and job.status is QUEUED else run_at

    def _edited(self, now: float, job: Job, change: JobChange) -> Details:
        details = job.details
        extra = replace(details.extra, edited=True, tags=details.extra.tags if change.tags is UNSET else change.tags)
        expires_at = details.expires_at
        if change.expires_in is not UNSET:
            expires_at = None if change.expires_in is None else now + change.expires_in
        description = details.description if change.description is UNSET else change.description
        # A worker that had the job before this change can no longer conclude it late.
        past = details.past if change.payload is UNSET else sealed(details.past)
        return replace(details, description=description, expires_at=expires_at, past=past, extra=extra)

    def _set_expiry(self, job: Job) -> None:
        """Set the due time of a job that stays where it is to its expiry."""
        run_at, expires_at = job.details.run_at, job.details.expires_at
        if job.status is SCHEDULED and run_at is not None:
            self.deadlines.set(job, run_at if expires_at is None else min(run_at, expires_at))
        elif expires_at is not None:
            # Queued, or held back.
            self.deadlines.set(job, expires_at)
        else:
            self.deadlines.drop(job)

    def _put_elsewhere(self, now: float, job: Job, details: Details, queue: QueueState, priority: int, run_at: float | None) -> None:
        old = self.queues[job.queue]
        was = job.status
        self.detach(job, old)
        moved = queue is not old or priority != job.priority
        waits = was is SCHEDULED if run_at is None else run_at > now
        if moved or was is QUEUED:
            # It gives up its place: this is how its old entry among the jobs of its key is recognised as stale, and skipped.
            details = replace(details, seq=0)
        if run_at is not None:
            details = replace(details, run_at=run_at)
        if queue is not old:
            # It no longer holds its key in the old queue.
            extra = details.extra
            details = replace(details, holds=False, extra=replace(extra, home=None) if extra.home == queue.name else extra)
        job.details = details
        self.events.append(Event(K_EDITED, old.name, job))
        if queue is not old:
            if old.flow:
                old.leave(job)
            self.ended(job, now)
            old.moved_out_total += 1
            queue.moved_in_total += 1
            job.queue = queue.name
            if queue.flow:
                queue.enter(job)
        job.priority = priority
        if waits:
            self.move(job, T_EDIT, SCHEDULED)
            self.put_away(job, queue, now)
        else:
            self.to_queued(job, queue, now, T_EDIT, FRONT if job.seq else BACK)
        if queue is not old and job.conclusion is None:
            self.lives_again(job, now)


def _has_its_queues_time(job: Job) -> bool:
    """Whether a waiting job has its time from its queue, and was never handed out."""
    details = job.details
    own = details.extra.edited or (details.asked is not None and details.asked[:2] != (None, None))
    # A job that returned waits in its old place; a job that was only delayed has no place yet.
    came_back = job.attempts or details.holds or (job.status is SCHEDULED and details.seq != 0)
    return not (own or came_back or job.held_back)
