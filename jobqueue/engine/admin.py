"""Operations on queues and listings."""

from __future__ import annotations

import msgspec

from jobqueue.engine import checks
from jobqueue.engine.events import Event, Kind
from jobqueue.engine.lifecycle import Rule, Trigger, allow, refuse
from jobqueue.engine.state import BACK, State
from jobqueue.errors import Full, QueueNotEmpty
from jobqueue.model import Conclusion, Job, JobFilter, Outcome, QueuePolicy, Status


class QueueAdmin(State):
    """Policies, pausing, purging, redriving, listing."""

    def put_policy(self, name: str, policy: QueuePolicy) -> bool:
        """Set a queue's whole policy; True if the queue was made by it. Raises BadRequest, TooManyQueues."""
        checks.policy(policy, self.limits)
        queue = self.queues.get(name)
        made = queue is None
        if queue is None:
            queue = self.make_queue(name)
        resumed = queue.policy.paused and not policy.paused
        queue.policy = policy
        self.events.append(Event(Kind.QUEUE_RESUMED if resumed else Kind.QUEUE_CHANGED, name))
        return made

    def set_paused(self, name: str, paused: bool) -> None:
        """Pause or resume; doing it twice is the same as once. Raises UnknownQueue."""
        queue = self.queue(name)
        if queue.policy.paused != paused:
            self.put_policy(name, msgspec.structs.replace(queue.policy, paused=paused))

    def delete_queue(self, name: str) -> None:
        """Delete a queue without live jobs; its concluded ones stay in history. Raises UnknownQueue, QueueNotEmpty."""
        queue = self.queue(name)
        if queue.live:
            raise QueueNotEmpty(name, queue.live)
        del self.queues[name]
        self.events.append(Event(Kind.QUEUE_DELETED, name))

    def waiting(self, name: str) -> list[Job]:
        """A queue's queued and scheduled jobs. Raises UnknownQueue."""
        queue = self.queue(name)
        return queue.jobs() + list(queue.scheduled.values())

    def purge(self, now: float, jobs: list[Job]) -> int:
        """Cancel those of `jobs` that still wait; how many. The shell slices what `waiting` returned: a million must not stall the loop."""
        purged = 0
        for job in jobs:
            if job.status in (Status.QUEUED, Status.SCHEDULED):
                queue = self.queues[job.queue]
                self.detach(job, queue)
                self.to_concluded(job, queue, Trigger.CANCEL, Conclusion(Outcome.CANCELLED, now))
                purged += 1
        return purged

    def retry(self, now: float, job_id: str) -> Job:
        """Put a concluded job that did not succeed at the back of its queue, attempts 0, its old expiry forgotten.

        Raises UnknownJob, NotRetryable, QueueFull, TooManyQueues.
        """
        job = self.job(job_id)
        allow(job, Trigger.RETRY)
        if job.outcome is Outcome.SUCCEEDED:
            refuse(job, Rule.NOT_RETRYABLE)
        queue = self.make_room(job.queue, len(job.payload))
        self.history.remove(job)
        job.conclusion = job.error = job.run_at = job.expires_at = None
        job.attempts = 0
        self.live += 1
        self.payload_bytes += len(job.payload)
        queue.retried_total += 1
        self.to_queued(job, queue, now, Trigger.RETRY, BACK)
        return job

    def failed(self, name: str) -> list[Job]:
        """A queue's failed jobs in history, oldest first. Raises UnknownQueue."""
        self.queue(name)
        return [job for job in self.history.jobs(Outcome.FAILED) if job.queue == name]

    def redrive(self, now: float, jobs: list[Job]) -> int:
        """Retry those of `jobs` that are still failed, in order, until the queue is full; how many."""
        retried = 0
        for job in jobs:
            if job.outcome is not Outcome.FAILED or self.jobs.by_id.get(job.id) is not job:
                continue
            try:
                self.retry(now, job.id)
            except Full:
                break
            retried += 1
        return retried

    def page(self, wanted: JobFilter) -> tuple[list[Job], int | None]:
        """Jobs that match, newest first, and the cursor of the next page, None at the end.

        Looks at no more than `page_scan_max` jobs, so a page may be short, or empty, and still have a next one.
        """
        found: list[Job] = []
        last = None
        for scanned, job in enumerate(self.jobs.newest_first(wanted.before)):
            if len(found) >= wanted.limit or scanned >= self.limits.page_scan_max:
                return found, last
            last = job.number
            if (
                (wanted.status is None or job.status is wanted.status)
                and (wanted.outcome is None or job.outcome is wanted.outcome)
                and (wanted.queue is None or job.queue == wanted.queue)
                and (wanted.type is None or job.type == wanted.type)
            ):
                found.append(job)
        return found, None
