"""What the holder of a lease can do: extend, release, conclude. And what happens when the lease ends first.

A job that has failed for good moves to its queue's dead-letter queue in the same step, if the policy names one. It stays live, so it needs
no additional room in the server, and it halts no key, since its policy already says what happens to it. If that queue has no room, the job
ends as it would without one.
"""

from __future__ import annotations

import msgspec

from jobqueue.engine import checks, logs
from jobqueue.engine.events import K_CHANGED, K_DEAD_LETTERED, K_EXTENDED, K_THING_CHANGED, Event
from jobqueue.engine.lifecycle import T_CONCLUDE, T_CONCLUDE_LATE, T_DEAD_LETTER, T_EXTEND, T_LEASE_EXPIRED, T_RELEASE, Trigger, allow
from jobqueue.engine.queues import QueueState
from jobqueue.engine.sizes import ERROR_LEFT_OUT, LEASE_EXPIRED, details_bytes, own_bytes, text_bytes
from jobqueue.engine.state import FRONT, State
from jobqueue.errors import BadRequest, Full, LeaseLost, QueueFull, Unsupported
from jobqueue.joblog import LogPart, LogState
from jobqueue.limits import CONTROL_BUT_LINES
from jobqueue.model import (
    CANCELLED,
    FAILED,
    IN_PROGRESS,
    NOTHING,
    SUCCEEDED,
    Conclusion,
    Details,
    Job,
    Lease,
    Outcome,
    Verdict,
    Want,
)
from jobqueue.past import Attempt, Ended, Origin, sealed, shortened


class LeaseOperations(State):
    """Operations that require the token of the live lease. Any other token raises LeaseLost and changes nothing."""

    __slots__ = ()

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
        log: LogPart | None = None,
    ) -> Job:
        """Set the lease's expiry to now + lease_seconds (None: its current length), and progress from 0 to 1. With 0 seconds the lease ends
        at once, as if it had run out; progress and message are not kept then.

        If there is no room for a message, it is left out and the previous one stays; the same goes for lines of the log. Raises BadRequest,
        UnknownJob, LeaseLost, NotInProgress. The lease in the reply says whether a cancel was requested; if the reply has no lease, it has
        ended.
        """
        if lease_seconds is not None:
            checks.lease_seconds(lease_seconds, self.limits)
        if progress is not None:
            checks.number("progress", progress, 0.0, 1.0)
        if message is not None:
            checks.text("message", message, self.limits.text_chars_max, forbidden=CONTROL_BUT_LINES)
        if log is not None:
            logs.check("log", log)
        job, lease = self._held(job_id, token, T_EXTEND)
        if log is not None:
            self._said(now, job, lease.token, log)
        seconds = lease.seconds if lease_seconds is None else lease_seconds
        if not seconds:
            self.expire_lease(job, self.queues[job.queue], now)
            return job
        if message is not None:
            message = self._message(lease, message)
        self.move(job, T_EXTEND, IN_PROGRESS)
        expires_at = now + seconds
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
        """The message, counted in place of the previous one; None if there is no room, since an extend is never refused because of its
        message.
        """
        grown = text_bytes(message) - (0 if lease.message is None else text_bytes(lease.message))
        if grown > 0 and not self.has_room(grown):
            self.messages_left_out_total += 1
            return None
        self.live_bytes += grown
        return message

    def append_log(self, now: float, job_id: str, token: str, part: LogPart) -> LogState:
        """Append lines to a job's log. Raises BadRequest, UnknownJob, LeaseLost, NotInProgress, QueueFull (field lines)."""
        logs.check("lines", part)
        job, lease = self._held(job_id, token, T_EXTEND)
        if not self._said(now, job, lease.token, part):
            raise QueueFull(f"the server's live jobs hold {self.live_bytes} bytes; {self.bytes_max} are allowed", "lines")
        return self.logs.state(job.number)

    def _said(self, now: float, job: Job, token: str, part: LogPart) -> bool:
        """Append checked lines to the log of a job, under the lease with this token; False if there is no room for them."""
        lines, said = self.logs.new(job.number, token, part)
        if not lines:
            return True
        most = self.logs.bound(job.number, lines, self.bytes_max - self.live_bytes)
        if most is None:
            self.logs.left_out_total += len(lines)
            return False
        lines = tuple(line if line.at is not None else msgspec.structs.replace(line, at=now) for line in lines)
        self.events += [Event(K_THING_CHANGED, name) for name in self.logs.add(job.number, token, said, job.attempts, lines, most)]
        self.weigh_again(job)
        return True

    def release(self, now: float, job_id: str, token: str, delay: float = 0.0) -> Job:
        """Return the job to its queue; the attempt does not count. Without a delay it goes to the front of its priority.

        Raises BadRequest, UnknownJob, LeaseLost, NotInProgress.
        """
        checks.delay(delay, self.limits)
        job, lease = self._held(job_id, token, T_RELEASE)
        queue = self.queues[job.queue]
        self.let_go(job, queue, lease)
        job.attempts -= 1
        if job.details.past:
            # The job had been handed out again, so the previous attempt can no longer be concluded late.
            job.details = msgspec.structs.replace(job.details, past=sealed(job.details.past))
        if lease.cancel_requested:
            self._end(job, queue, T_RELEASE, CANCELLED, lease, now)
        elif delay > 0:
            self.to_scheduled(job, queue, now + delay, T_RELEASE, now)
        else:
            self.to_queued(job, queue, now, T_RELEASE, FRONT)
        return job

    def conclude(self, now: float, job_id: str, token: str, verdict: Verdict) -> Job:
        """End the attempt. A failure is retried after a backoff if attempts are left and the verdict allows it. The error of a job that
        will be retried is left out if there is no room for it; a concluded job has its place in history.

        A repeat of the conclude that ended the job gets the same answer, unless the verdict says once. A late one ends a job that waits
        since its lease ran out. Raises BadRequest, TooLarge, UnknownJob, LeaseLost, NotInProgress (the same lease, another verdict).
        """
        failed = verdict.outcome is FAILED
        if not failed and verdict.outcome is not SUCCEEDED:
            raise BadRequest("outcome", f"{verdict.outcome} is not an outcome that a worker can report; use succeeded or failed")
        if verdict.result is not None and len(verdict.result) > self.limits.payload_bytes_max:
            checks.json_size("result", verdict.result, self.limits)
        if verdict.error is not None and len(verdict.error) > self.limits.payload_bytes_max:
            checks.json_size("error", verdict.error, self.limits)
        if verdict.retry_delay is not None:
            checks.retry_delay(verdict, self.limits)
        job = self.jobs.find(job_id)
        if job is None or type(lease := job.hold) is not Lease or lease.token != token:
            return self._conclude_anyway(now, job, job_id, token, verdict)
        if verdict.log is not None:
            logs.check("log", verdict.log)
            self._said(now, job, lease.token, verdict.log)
        queue = self.queues[job.queue]
        self.let_go(job, queue, lease)
        queue.worked = self.time_in_progress.observe_in(now - lease.started_at, queue.worked)
        if failed:
            self._failed(job, queue, lease, now, verdict)
        else:
            # The same as `_end`, which has more to check.
            outcome = CANCELLED if lease.cancel_requested else SUCCEEDED
            ended = Conclusion(outcome, now, verdict.result, token, SUCCEEDED, lease.worker, lease.started_at)
            self.to_concluded(job, queue, T_CONCLUDE, ended)
        return job

    def _failed(self, job: Job, queue: QueueState, lease: Lease, now: float, verdict: Verdict) -> None:
        """A worker reports a failed attempt; its lease has already ended."""
        again = verdict.retry and not lease.cancel_requested and job.attempts < self.max_attempts(job, queue)
        to = None if again or lease.cancel_requested else self._dead_letter_queue(job, queue, now)
        if not lease.cancel_requested:
            queue.attempt_failed(now, not again)
            self.failing.attempt(now, not again)
            self.failing.errors.add(queue.name, verdict.error, now, job.id, not again)
        trace = None if verdict.traceback is None else shortened(verdict.traceback, self.limits.past_traceback_bytes_max)
        self._keep_attempt(job, lease, now, "failed", verdict.error, verdict.error, again or to is not None, trace)
        if lease.cancel_requested:
            self._end(job, queue, T_CONCLUDE, CANCELLED, lease, now, verdict)
        elif to is not None:
            self._to_dead_letters(job, queue, to, now, "failed")
        elif again:
            delay = self._backoff(job, queue) if verdict.retry_delay is None else verdict.retry_delay
            self.to_scheduled(job, queue, now + delay, T_CONCLUDE, now)
        else:
            self._end(job, queue, T_CONCLUDE, FAILED, lease, now, verdict)

    def _conclude_anyway(self, now: float, job: Job | None, job_id: str, token: str, verdict: Verdict) -> Job:
        """The job, if this conclude already ended it, or can end it although its lease is over; otherwise raise what `_held` raises for a
        token that is not live.
        """
        if job is None or job.conclusion is None:
            past = () if job is None else job.past
            if verdict.late and verdict.outcome is SUCCEEDED and job is not None and past and past[-1].token == token:
                return self._conclude_late(now, job, past[-1], verdict)
        elif job.conclusion.token == token and self._repeats(job, job.conclusion, verdict):
            return job
        self._held(job_id, token, T_CONCLUDE)
        raise LeaseLost(job_id)

    def _conclude_late(self, now: float, job: Job, attempt: Attempt, verdict: Verdict) -> Job:
        """Conclude a waiting job by the attempt whose lease ran out last, if it was not handed out since. Raises LeaseLost."""
        allow(job, T_CONCLUDE_LATE)
        if verdict.log is not None:
            logs.check("log", verdict.log)
            assert attempt.token is not None
            self._said(now, job, attempt.token, verdict.log)
        queue = self.queues[job.queue]
        self.detach(job, queue)
        queue.worked = self.time_in_progress.observe_in(now - attempt.started_at, queue.worked)
        conclusion = Conclusion(SUCCEEDED, now, verdict.result, attempt.token, SUCCEEDED, attempt.worker, attempt.started_at)
        self.to_concluded(job, queue, T_CONCLUDE_LATE, conclusion)
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

    def _keep_attempt(
        self, job: Job, lease: Lease, now: float, ended: Ended, said: bytes | None, error: bytes | None, again: bool,
        trace: str | None = None,
    ) -> None:  # fmt: skip
        """Record an attempt that counts and did not succeed. A released attempt does not count, and is not recorded.

        said: what its worker reported; error: the job's error from now on; again: there will be another attempt, so the job stays live;
        trace: the traceback that its worker sent, which is the first to be left out if there is no room.
        """
        if said is not None and len(said) > self.limits.past_error_bytes_max:
            # A truncated error would not be valid JSON.
            said = None
        token = lease.token if again and ended == "lease_expired" else None
        attempt = Attempt(job.attempts, lease.worker, lease.started_at, now, ended, said, token, trace)
        details = self._with_attempt(job.details, attempt, error)
        was = details_bytes(job.details)
        grown = details_bytes(details) - was
        if trace is not None and again and grown > 0 and not self.has_room(grown):
            details = self._with_attempt(job.details, msgspec.structs.replace(attempt, traceback=None), error)
            grown = details_bytes(details) - was
        if again and grown > 0 and not self.has_room(grown):
            # A failure is never refused. Its error is kept if there is room.
            self.errors_left_out_total += error is not None and error is not LEASE_EXPIRED
            error = error and (error if error is LEASE_EXPIRED else ERROR_LEFT_OUT)
            details = self._with_attempt(job.details, Attempt(job.attempts, None, lease.started_at, now, ended, None, token), error)
        self.live_bytes += details_bytes(details) - was
        job.details = details

    def _with_attempt(self, details: Details, attempt: Attempt, error: bytes | None) -> Details:
        return msgspec.structs.replace(details, error=error, past=(*sealed(details.past), attempt)[-self.limits.past_attempts_max :])

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

    def _dead_letter_queue(self, job: Job, queue: QueueState, now: float) -> QueueState | None:
        """The queue to which a job that failed for good moves, made if necessary; None if there is none, or no room in it."""
        if queue.policy.dead_letter is None:
            return None
        try:
            return self.room_for_one_of_ours(queue.policy.dead_letter, job.key, now)
        except (Full, Unsupported):
            # A failure is never refused: the job goes to history, as if there were no dead-letter queue.
            self.dead_letters_refused_total += 1
            return None

    def _to_dead_letters(self, job: Job, queue: QueueState, to: QueueState, now: float, reason: Ended) -> None:
        queue.failed_total += 1
        queue.dead_lettered_total += 1
        self.events.append(Event(K_DEAD_LETTERED, queue.name, job))
        self.to_queue(job, queue, to, Origin(queue.name, now, reason, job.received), now, T_DEAD_LETTER)

    def expire_lease(self, job: Job, queue: QueueState, now: float) -> None:
        """Handle a lease that ran out, or that ends as if it had: the next attempt, or the end of the job."""
        lease = job.lease
        assert lease is not None
        self.let_go(job, queue, lease)
        again = not lease.cancel_requested and job.attempts < self.max_attempts(job, queue)
        to = None if again or lease.cancel_requested else self._dead_letter_queue(job, queue, now)
        if not lease.cancel_requested:
            queue.attempt_failed(now, not again)
            self.failing.attempt(now, not again)
            self.failing.errors.add(queue.name, LEASE_EXPIRED, now, job.id, not again)
        error = job.error if lease.cancel_requested else LEASE_EXPIRED
        self._keep_attempt(job, lease, now, "lease_expired", None, error, again or to is not None)
        if lease.cancel_requested:
            self._end(job, queue, T_LEASE_EXPIRED, CANCELLED, lease, now)
        elif to is not None:
            self._to_dead_letters(job, queue, to, now, "lease_expired")
        elif again:
            self.to_queued(job, queue, now, T_LEASE_EXPIRED, FRONT)
        else:
            self._end(job, queue, T_LEASE_EXPIRED, FAILED, lease, now)

    def replay(self, want: Want) -> list[Job]:
        """At most `want.limit` of the jobs whose leases were taken under this attempt_id and are still live, to be handed out again; [] if
        there are none.

        Only the same worker of the same `who` gets them, and only jobs of the queues that it names. Amazon SQS calls this
        ReceiveRequestAttemptId.
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
                    # This must be stored: a server that could not deliver the first answer may return the job to the next owner, which has
                    # to know of the replay.
                    self.events.append(Event(K_CHANGED, job.queue, job))
                replayed.append(job)
        return replayed

    def weigh(self, job: Job) -> None:
        """Add the bytes of its log to a job that is in no place."""
        size = self.logs.size(job.number)
        if size != job.details.extra.log:
            extra = msgspec.structs.replace(job.details.extra, log=size)
            job.details = msgspec.structs.replace(job.details, extra=NOTHING if extra == NOTHING else extra)

    def weigh_again(self, job: Job) -> None:
        """The same for a job that is in its place."""
        was = job.details.extra.log
        self.weigh(job)
        grown = job.details.extra.log - was
        if job.conclusion is None:
            self.live_bytes += grown
        elif job in self.pinned or job in self.kept:
            self.bytes_max -= grown
        else:
            self.history.grow(job, grown)
