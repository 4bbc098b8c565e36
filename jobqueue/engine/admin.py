"""Operations on queues and listings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import msgspec

from jobqueue.engine import checks, walks
from jobqueue.engine.events import K_QUEUE_CHANGED, K_QUEUE_DELETED, K_QUEUE_PAUSED, K_QUEUE_RESUMED, Event
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.keys import NO_RULE
from jobqueue.engine.lifecycle import T_CANCEL, T_RETRY, Rule, allow, refuse
from jobqueue.engine.queues import QueueState
from jobqueue.engine.ring import pieces
from jobqueue.engine.sizes import details_bytes, job_bytes, own_bytes, shown_bytes
from jobqueue.engine.state import BACK, FRONT, State
from jobqueue.errors import Full, QueueFull, QueueNotEmpty
from jobqueue.model import CANCELLED, FAILED, QUEUED, SCHEDULED, SUCCEEDED, Conclusion, Job, JobFilter, PolicyChange, QueuePolicy


class QueueAdmin(State):
    """Policies, pausing, purging, redriving, listing."""

    def put_policy(self, name: str, policy: QueuePolicy) -> bool:
        """Set a queue's whole policy; True if the queue was made by it. Raises BadRequest, TooManyQueues."""
        checks.policy(policy, self.limits)
        queue = self.queues.get(name)
        made = queue is None
        if queue is None:
            queue = self.make_queue(name)
        self._set_policy(queue, policy)
        return made

    def change_policy(self, name: str, change: PolicyChange) -> None:
        """Change some fields of a queue's policy. Raises UnknownQueue, BadRequest."""
        queue = self.queue(name)
        policy = change.of(queue.policy)
        checks.policy(policy, self.limits)
        self._set_policy(queue, policy)

    def _set_policy(self, queue: QueueState, policy: QueuePolicy) -> None:
        kind = K_QUEUE_CHANGED
        if queue.policy.paused is not policy.paused:
            kind = K_QUEUE_PAUSED if policy.paused else K_QUEUE_RESUMED
        self.shape(queue, policy, queue.paused_keys)
        self.events.append(Event(kind, queue.name))

    def shape(self, queue: QueueState, policy: QueuePolicy, paused_keys: Iterable[str]) -> QueueState:
        """Give a queue a policy and keys that are paused, and what it needs to keep to them: the queue from now on.

        What touches each of its jobs or keys is done in slices, by chores.
        """
        paused_keys = dict.fromkeys(paused_keys)
        was, queue.policy = queue.policy, policy
        keyed = policy.keyed or bool(paused_keys)
        if not isinstance(queue, FlowQueue):
            if not policy.limited and not keyed:
                return queue
            queue = self.queues[queue.name] = FlowQueue.of(queue, policy, self.limits, self.deadlines)
        queue.rule = policy.per_key or NO_RULE
        for key in {*queue.paused_keys} ^ {*paused_keys}:
            queue.pause_key(key, key in paused_keys)
        if keyed and not queue.keyed and not queue.live and not self.pinned:
            # No walk over all of the server's jobs for a queue that is set up before its first job comes.
            queue.keyed = True
            queue.know_paused()
        elif keyed and not queue.keyed:
            self.do_later(walks.sort(queue, self.jobs), queue.name)
        elif keyed and (was.per_key, was.fair, was.weights) != (policy.per_key, policy.fair, policy.weights):
            self.do_later(walks.look_again(queue), queue.name)
        elif not keyed and queue.keyed:
            self.do_later(walks.forget_keys(queue))
        if not keyed and self.pinned and not self.follows:
            self.do_later(self.give_up_what_halts_nothing(list(self.pinned)))
        if not keyed and not policy.limited:
            self.deadlines.drop(queue)
            plain = self.queues[queue.name] = QueueState(queue.name, policy)
            plain.go_on_from(queue)
            self.freed(plain)
            return plain
        if was.rate != policy.rate:
            queue.reckon()
        self.freed(queue)
        return queue

    def give_up_what_halts_nothing(self, pinned: list[Job], deleted: str | None = None) -> Iterator[int]:
        """Put those failed jobs in history whose queue minds keys no more, or is gone, one a step.

        deleted: a queue that is gone, whose jobs are given up even if one of its name has been made meanwhile.
        """
        for count, job in enumerate(pinned, 1):
            queue = self.queues.get(job.queue)
            if job in self.pinned and (job.queue == deleted or not (isinstance(queue, FlowQueue) and queue.keyed)):
                self.give_up(job)
                yield 1
            elif count % walks.SLICE == 0:
                yield walks.SLICE

    def pause_key(self, queue_name: str, key: str, paused: bool) -> None:
        """Let a key of a queue hand out nothing, whatever comes, or go on; a failed job that halts it is given up then.

        Doing it twice is the same as once. Raises UnknownQueue, BadRequest (key), QueueFull (field key: too many are paused).
        """
        checks.key(key, self.limits)
        queue = self.queue(queue_name)
        keys = dict(queue.paused_keys)
        if (key in keys) is not paused:
            if not paused:
                del keys[key]
            elif len(keys) >= self.limits.paused_keys_max:
                raise QueueFull(f"{len(keys)} keys of queue {queue_name!r} are paused, as many as may be", "key")
            else:
                keys[key] = None
            queue = self.shape(queue, queue.policy, keys)
            self.events.append(Event(K_QUEUE_CHANGED, queue_name))
        if not paused and isinstance(queue, FlowQueue):
            # While its jobs are being sorted it may not know yet which of them halt a key.
            halting = queue.halted(key) if queue.upto < 0 else [job for job in self.pinned if job.queue == queue_name and job.key == key]
            for job in halting:
                self.give_up(job)

    def set_paused(self, name: str, paused: bool) -> None:
        """Pause or resume; doing it twice is the same as once. Raises UnknownQueue."""
        queue = self.queue(name)
        if queue.policy.paused != paused:
            self._set_policy(queue, msgspec.structs.replace(queue.policy, paused=paused))

    def delete_queue(self, name: str) -> None:
        """Delete a queue without live jobs; its concluded ones stay in history. Raises UnknownQueue, QueueNotEmpty."""
        queue = self.queue(name)
        if queue.live:
            raise QueueNotEmpty(name, queue.live)
        del self.queues[name]
        if isinstance(queue, FlowQueue):
            self.deadlines.drop(queue)
            self.do_later(walks.forget_keys(queue))
            if self.pinned:
                self.do_later(self.give_up_what_halts_nothing(list(self.pinned), name))
        self.events.append(Event(K_QUEUE_DELETED, name))

    def waiting(self, name: str, count: int) -> Iterator[list[Job]]:
        """A queue's queued and scheduled jobs as they are now, those that still wait when it comes to them, at most `count` at a time.

        A million are looked at while others are served, so a slice may be empty. Raises UnknownQueue.
        """
        queue = self.queue(name)
        scheduled = list(queue.scheduled.values())
        lanes = [lane.slices(count) for lane in queue.lanes if lane is not None]
        return chain(*lanes, pieces(scheduled, count))

    def purge(self, now: float, jobs: list[Job]) -> int:
        """Cancel those of `jobs` that still wait; how many. The shell slices what `waiting` returned: a million must not stall the loop."""
        purged = 0
        for job in jobs:
            if job.status in (QUEUED, SCHEDULED):
                queue = self.queues[job.queue]
                self.detach(job, queue)
                self.to_concluded(job, queue, T_CANCEL, Conclusion(CANCELLED, now))
                purged += 1
        return purged

    def retry(self, now: float, job_id: str) -> Job:
        """Put a concluded job that did not succeed at the back of its queue, attempts 0, its old expiry and its past attempts forgotten.

        Raises UnknownJob, NotRetryable, QueueFull, TooManyQueues.
        """
        job = self.job(job_id)
        allow(job, T_RETRY)
        if job.outcome is SUCCEEDED:
            refuse(job, Rule.NOT_RETRYABLE)
        assert job.conclusion is not None
        halts = job.conclusion.halts
        # It waits since now, not since it was made. If its key stands still for it, it holds that on, in its old place.
        details = msgspec.structs.replace(job.details, error=None, expires_at=None, run_at=now, past=(), holds=halts)
        size = own_bytes(job) - details_bytes(job.details) + details_bytes(details)
        queue = self.queues.get(job.queue)
        if queue is None or not halts:
            # One that halts its key has its room, and nothing else of its key moves until it does: it is not refused for jobs behind it.
            queue = self.make_room(job.queue, size, job.key)
        if queue.flow:
            queue.enter(job)
        if halts:
            self.unpin(job)
        else:
            self.history.remove(job)
        job.hold = None
        job.details = details
        job.attempts = 0
        self.live += 1
        self.live_bytes += size
        queue.retried_total += 1
        self.to_queued(job, queue, now, T_RETRY, FRONT if halts else BACK)
        return job

    def failed(self, name: str, count: int) -> Iterator[list[Job]]:
        """A queue's failed jobs in history, oldest first; slices as those of `waiting`. Raises UnknownQueue."""
        self.queue(name)
        # Those that halt their keys first: they are as old as any, and each is retried before what its key holds.
        span: list[Job | None] = [*self.pinned, *self.history.span(FAILED)]
        return ([job for job in part if job is not None and job.queue == name] for part in pieces(span, count))

    def redrive(self, now: float, jobs: list[Job]) -> int:
        """Retry those of `jobs` that are still failed, in order, until the queue is full; how many."""
        retried = 0
        for job in jobs:
            if job.outcome is not FAILED or self.jobs.by_id.get(job.id) is not job:
                continue
            try:
                self.retry(now, job.id)
            except Full:
                break
            retried += 1
        return retried

    def page(self, wanted: JobFilter) -> tuple[list[Job], int | None]:
        """Jobs that match, newest first unless `after` is given, and the cursor of the next page, None at the end.

        Looks at no more than `page_scan_max` jobs, and ends where the jobs hold more than `answer_bytes_max`, so a page may be short, or
        empty, and still have a next one.
        """
        found: list[Job] = []
        last = None
        room = self.limits.answer_bytes_max
        jobs = self.jobs.newest_first(wanted.before) if wanted.after is None else self.jobs.oldest_first(wanted.after)
        for scanned, job in enumerate(jobs):
            if len(found) >= wanted.limit or scanned >= self.limits.page_scan_max:
                return found, last
            before, last = last, job.number
            if (
                (wanted.status is None or job.status is wanted.status)
                and (wanted.outcome is None or job.outcome is wanted.outcome)
                and (wanted.queue is None or job.queue == wanted.queue)
                and (wanted.type is None or job.type == wanted.type)
                and (wanted.key is None or job.details.key == wanted.key)
                and (wanted.sees is None or wanted.sees(job.queue))
            ):
                room -= job_bytes(job) if wanted.payloads else shown_bytes(job)
                if room < 0 and found:
                    return found, before
                found.append(job)
        return found, None
