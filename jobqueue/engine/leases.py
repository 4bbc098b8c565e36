"""What the holder of a lease may do: extend, release, conclude. And what happens when the lease ends without it."""

from __future__ import annotations

import msgspec

from jobqueue.engine import checks
from jobqueue.engine.events import K_EXTENDED, Event
from jobqueue.engine.lifecycle import T_CONCLUDE, T_EXTEND, T_LEASE_EXPIRED, T_RELEASE, Trigger, allow
from jobqueue.engine.queues import QueueState
from jobqueue.engine.sizes import ERROR_LEFT_OUT, LEASE_EXPIRED, details_bytes, text_bytes
from jobqueue.engine.state import FRONT, State
from jobqueue.errors import BadRequest, LeaseLost
from jobqueue.limits import CONTROL_BUT_LINES
from jobqueue.model import CANCELLED, FAILED, IN_PROGRESS, SUCCEEDED, Attempt, Conclusion, Details, Ended, Job, Lease, Outcome, Verdict


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

        A message that there is no room for is left out; the one before it stays. Raises BadRequest, UnknownJob, LeaseLost, NotInProgress.
        The reply's lease says whether a cancel was requested.
        """
        if lease_seconds is not None:
            checks.lease_seconds(lease_seconds, self.limits)
        if progress is not None:
            checks.number("progress", progress, 0.0, 1.0)
        if message is not None:
            checks.text("message", message, self.limits.text_chars_max, forbidden=CONTROL_BUT_LINES)
        job, lease = self._held(job_id, token, T_EXTEND)
        if message is not None:
            message = self._message(lease, message)
        self.move(job, T_EXTEND, IN_PROGRESS)
        expires_at = now + (lease.seconds if lease_seconds is None else lease_seconds)
        job.hold = msgspec.structs.replace(
            lease,
            expires_at=expires_at,
            progress=lease.progress if progress is None else progress,
            message=lease.message if message is None else message,
            prolonged=False,
        )
        self.lease_ends.set(job, expires_at)
        self.events.append(Event(K_EXTENDED, job.queue, job))
        return job

    def _message(self, lease: Lease, message: str) -> str | None:
        """The message, counted in place of the last one; None when there is no room, since an extend is not refused for what it says."""
        grown = text_bytes(message) - (0 if lease.message is None else text_bytes(lease.message))
        if grown > 0 and not self.has_room(grown):
            self.messages_left_out_total += 1
            return None
        self.live_bytes += grown
        return message

    def release(self, now: float, job_id: str, token: str, delay: float = 0.0) -> Job:
        """Give the job back; the attempt does not count. Without a delay it goes to the front of its priority.

        Raises BadRequest, UnknownJob, LeaseLost, NotInProgress.
        """
        checks.delay(delay, self.limits)
        job, lease = self._held(job_id, token, T_RELEASE)
        queue = self.queues[job.queue]
        self.let_go(job, queue, lease)
        job.attempts -= 1
        if lease.cancel_requested:
            self._end(job, queue, T_RELEASE, CANCELLED, lease, now)
        elif delay > 0:
            self.to_scheduled(job, queue, now + delay, T_RELEASE)
        else:
            self.to_queued(job, queue, now, T_RELEASE, FRONT)
        return job

    def conclude(self, now: float, job_id: str, token: str, verdict: Verdict) -> Job:
        """End the attempt. A failure is retried after a backoff while attempts are left and the verdict allows it. The error of a job
        that is to be retried is left out when there is no room for it; a concluded job has its place in history.

        A repeat of the very conclude that ended the job answers as it did, unless the verdict says once. Raises BadRequest, TooLarge,
        UnknownJob, LeaseLost, NotInProgress (the same lease, another verdict).
        """
        failed = verdict.outcome is FAILED
        if not failed and verdict.outcome is not SUCCEEDED:
            raise BadRequest("outcome", f"{verdict.outcome} is not for a worker to say; succeeded or failed is")
        if verdict.result is not None and len(verdict.result) > self.limits.payload_bytes_max:
            checks.json_size("result", verdict.result, self.limits)
        if verdict.error is not None and len(verdict.error) > self.limits.payload_bytes_max:
            checks.json_size("error", verdict.error, self.limits)
        if verdict.retry_delay is not None:
            checks.retry_delay(verdict, self.limits)
        job = self.jobs.by_id.get(job_id)
        if job is None or type(lease := job.hold) is not Lease or lease.token != token:
            return self._conclude_again(job_id, token, verdict)
        queue = self.queues[job.queue]
        self.let_go(job, queue, lease)
        self.time_in_progress.observe(now - lease.started_at)
        again = failed and verdict.retry and not lease.cancel_requested and job.attempts < self.max_attempts(job, queue)
        if failed:
            self._keep_attempt(job, lease, now, "failed", verdict.error, verdict.error, again)
        if lease.cancel_requested:
            self._end(job, queue, T_CONCLUDE, CANCELLED, lease, now, verdict)
        elif again:
            delay = self._backoff(job, queue) if verdict.retry_delay is None else verdict.retry_delay
            self.to_scheduled(job, queue, now + delay, T_CONCLUDE)
        else:
            self._end(job, queue, T_CONCLUDE, verdict.outcome, lease, now, verdict)
        return job

    def _conclude_again(self, job_id: str, token: str, verdict: Verdict) -> Job:
        """The job, if this very conclude ended it; otherwise raise what `_held` does of a token that is not the live one."""
        job = self.jobs.by_id.get(job_id)
        if job is None or job.conclusion is None or job.conclusion.token != token or not self._repeats(job, job.conclusion, verdict):
            self._held(job_id, token, T_CONCLUDE)
            raise LeaseLost(job_id)
        return job

    def _repeats(self, job: Job, conclusion: Conclusion, verdict: Verdict) -> bool:
        if verdict.once or conclusion.said is not verdict.outcome or conclusion.result != verdict.result:
            return False
        return verdict.outcome is SUCCEEDED or job.error == verdict.error

    def _backoff(self, job: Job, queue: QueueState) -> float:
        policy = queue.policy.backoff if job.backoff is None else job.backoff
        try:
            ceiling = min(policy.cap, policy.base * policy.factor ** (job.attempts - 1))
        except OverflowError:
            ceiling = policy.cap if policy.base else 0.0
        return self.random.uniform(0.0, ceiling)

    def _keep_attempt(self, job: Job, lease: Lease, now: float, ended: Ended, said: bytes | None, error: bytes | None, again: bool) -> None:
        """Note an attempt that counts and did not succeed. One that is given back counts for nothing, and is not kept.

        said: what its worker said; error: the job's from now on; again: there will be another attempt, so the job stays live.
        """
        if said is not None and len(said) > self.limits.past_error_bytes_max:
            # A part of it would be no JSON.
            said = None
        details = self._with_attempt(job.details, Attempt(job.attempts, lease.worker, lease.started_at, now, ended, said), error)
        was = details_bytes(job.details)
        grown = details_bytes(details) - was
        if again and grown > 0 and not self.has_room(grown):
            # That it failed is never refused. What was said of it is kept while there is room.
            self.errors_left_out_total += error is not None and error is not LEASE_EXPIRED
            error = error and (error if error is LEASE_EXPIRED else ERROR_LEFT_OUT)
            details = self._with_attempt(job.details, Attempt(job.attempts, None, lease.started_at, now, ended, None), error)
        self.live_bytes += details_bytes(details) - was
        job.details = details

    def _with_attempt(self, details: Details, attempt: Attempt, error: bytes | None) -> Details:
        return msgspec.structs.replace(details, error=error, past=(*details.past, attempt)[-self.limits.past_attempts_max :])

    def _end(
        self, job: Job, queue: QueueState, trigger: Trigger, outcome: Outcome, lease: Lease, now: float, verdict: Verdict | None = None
    ) -> None:
        if verdict is None:
            conclusion = Conclusion(outcome, now, None, None, None, lease.worker, lease.started_at)
        else:
            conclusion = Conclusion(outcome, now, verdict.result, lease.token, verdict.outcome, lease.worker, lease.started_at)
        if queue.flow and outcome is FAILED and queue.halting(job):
            conclusion = msgspec.structs.replace(conclusion, halts=True)
        self.to_concluded(job, queue, trigger, conclusion)

    def expire_lease(self, job: Job, queue: QueueState, now: float) -> None:
        """End a lease that ran out: the next attempt, or the end."""
        lease = job.lease
        assert lease is not None
        self.let_go(job, queue, lease)
        self.leases_expired_total += 1
        again = not lease.cancel_requested and job.attempts < self.max_attempts(job, queue)
        self._keep_attempt(job, lease, now, "lease_expired", None, job.error if lease.cancel_requested else LEASE_EXPIRED, again)
        if lease.cancel_requested:
            self._end(job, queue, T_LEASE_EXPIRED, CANCELLED, lease, now)
        elif again:
            self.to_queued(job, queue, now, T_LEASE_EXPIRED, FRONT)
        else:
            self._end(job, queue, T_LEASE_EXPIRED, FAILED, lease, now)
