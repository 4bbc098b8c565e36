"""What the holder of a lease may do: extend, release, conclude. And what happens when the lease ends without it."""

from __future__ import annotations

import msgspec

from jobqueue.engine import checks
from jobqueue.engine.events import Event, Kind
from jobqueue.engine.lifecycle import Rule, Trigger, allow, refuse
from jobqueue.engine.queues import QueueState
from jobqueue.engine.state import FRONT, State
from jobqueue.errors import LeaseLost
from jobqueue.limits import CONTROL_BUT_LINES
from jobqueue.model import Conclusion, Job, Lease, Outcome, Status, Verdict

LEASE_EXPIRED = b'"lease_expired"'
"""The error of a job whose last lease ran out."""


class LeaseOperations(State):
    """Operations that need the live lease's token. Any other token raises LeaseLost and changes nothing."""

    def _held(self, job_id: str, token: str, trigger: Trigger) -> tuple[Job, Lease]:
        """The job and its live lease. Raises UnknownJob, LeaseLost, or NotInProgress for the token that ended the job."""
        job = self.job(job_id)
        lease = self.lease_of(job, token)
        if lease is not None:
            allow(job, trigger)
            return job, lease
        if job.conclusion is not None and job.conclusion.token == token:
            allow(job, trigger)
        raise LeaseLost(job.id)

    def extend(
        self,
        now: float,
        job_id: str,
        token: str,
        lease_seconds: float | None = None,
        progress: float | None = None,
        message: str | None = None,
    ) -> Job:
        """Push the lease's expiry to now + lease_seconds (None: as long as it was given for), with progress from 0 to 1.

        Raises BadRequest, UnknownJob, LeaseLost, NotInProgress. The reply's lease says whether a cancel was requested.
        """
        if lease_seconds is not None:
            checks.lease_seconds(lease_seconds, self.limits)
        if progress is not None:
            checks.number("progress", progress, 0.0, 1.0)
        if message is not None:
            checks.text("message", message, self.limits.text_chars_max, forbidden=CONTROL_BUT_LINES)
        job, lease = self._held(job_id, token, Trigger.EXTEND)
        self.move(job, Trigger.EXTEND, Status.IN_PROGRESS)
        expires_at = now + (lease.seconds if lease_seconds is None else lease_seconds)
        job.lease = msgspec.structs.replace(
            lease,
            expires_at=expires_at,
            progress=lease.progress if progress is None else progress,
            message=lease.message if message is None else message,
        )
        self.deadlines.set(job, expires_at)
        self.events.append(Event(Kind.EXTENDED, job.queue, job))
        return job

    def release(self, now: float, job_id: str, token: str, delay: float = 0.0) -> Job:
        """Give the job back; the attempt does not count. Without a delay it goes to the front of its priority.

        Raises BadRequest, UnknownJob, LeaseLost, NotInProgress.
        """
        checks.delay(delay, self.limits)
        job, lease = self._held(job_id, token, Trigger.RELEASE)
        queue = self.queues[job.queue]
        self.detach(job, queue)
        job.attempts -= 1
        if lease.cancel_requested:
            self._end(job, queue, Trigger.RELEASE, Outcome.CANCELLED, lease, now)
        elif delay > 0:
            self.to_scheduled(job, queue, now + delay, Trigger.RELEASE)
        else:
            self.to_queued(job, queue, now, Trigger.RELEASE, FRONT)
        return job

    def conclude(self, now: float, job_id: str, token: str, verdict: Verdict) -> Job:
        """End the attempt. A failure is retried after a backoff while attempts are left and the verdict allows it.

        A repeat of the very conclude that ended the job answers as it did. Raises BadRequest, TooLarge, UnknownJob, LeaseLost,
        NotInProgress (the same lease, another verdict).
        """
        if verdict.result is not None:
            checks.json_size("result", verdict.result, self.limits)
        if verdict.error is not None:
            checks.json_size("error", verdict.error, self.limits)
        job = self.jobs.by_id.get(job_id)
        if job is not None and job.conclusion is not None and job.conclusion.token == token:
            if self._repeats(job, job.conclusion, verdict):
                return job
            refuse(job, Rule.NOT_IN_PROGRESS)
        job, lease = self._held(job_id, token, Trigger.CONCLUDE)
        queue = self.queues[job.queue]
        self.detach(job, queue)
        if verdict.outcome is Outcome.FAILED:
            job.error = verdict.error
        if lease.cancel_requested:
            self._end(job, queue, Trigger.CONCLUDE, Outcome.CANCELLED, lease, now, verdict)
        elif verdict.outcome is Outcome.FAILED and verdict.retry and job.attempts < self.max_attempts(job, queue):
            self.to_scheduled(job, queue, now + self._backoff(job, queue), Trigger.CONCLUDE)
        else:
            self._end(job, queue, Trigger.CONCLUDE, verdict.outcome, lease, now, verdict)
        return job

    def _repeats(self, job: Job, conclusion: Conclusion, verdict: Verdict) -> bool:
        if conclusion.said is not verdict.outcome or conclusion.result != verdict.result:
            return False
        return verdict.outcome is Outcome.SUCCEEDED or job.error == verdict.error

    def _backoff(self, job: Job, queue: QueueState) -> float:
        policy = queue.policy.backoff if job.backoff is None else job.backoff
        try:
            ceiling = min(policy.cap, policy.base * policy.factor ** (job.attempts - 1))
        except OverflowError:
            ceiling = policy.cap
        return self.random.uniform(0.0, ceiling)

    def _end(
        self, job: Job, queue: QueueState, trigger: Trigger, outcome: Outcome, lease: Lease, now: float, verdict: Verdict | None = None
    ) -> None:
        conclusion = Conclusion(
            outcome=outcome,
            concluded_at=now,
            result=None if verdict is None else verdict.result,
            token=None if verdict is None else lease.token,
            said=None if verdict is None else verdict.outcome,
            worker=lease.worker,
            started_at=lease.started_at,
        )
        self.to_concluded(job, queue, trigger, conclusion)

    def expire_lease(self, job: Job, queue: QueueState, now: float) -> None:
        """End a lease that ran out: the next attempt, or the end."""
        lease = job.lease
        assert lease is not None
        self.detach(job, queue)
        if lease.cancel_requested:
            self._end(job, queue, Trigger.LEASE_EXPIRED, Outcome.CANCELLED, lease, now)
            return
        job.error = LEASE_EXPIRED
        if job.attempts < self.max_attempts(job, queue):
            self.to_queued(job, queue, now, Trigger.LEASE_EXPIRED, FRONT)
        else:
            self._end(job, queue, Trigger.LEASE_EXPIRED, Outcome.FAILED, lease, now)
