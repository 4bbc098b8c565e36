"""Operations on queues and listings."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import msgspec

from jobqueue.about import QUIET_MAX
from jobqueue.engine import checks, walks
from jobqueue.engine.ended import page_by_end
from jobqueue.engine.events import (
    K_ENQUEUED,
    K_FORGOTTEN,
    K_QUEUE_CHANGED,
    K_QUEUE_DELETED,
    K_QUEUE_PAUSED,
    K_QUEUE_RESUMED,
    K_REDRIVEN,
    K_THING_CHANGED,
    Event,
)
from jobqueue.engine.filters import LOOKED_BYTES_MAX, fits, looked_bytes
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.keys import NO_RULE
from jobqueue.engine.lifecycle import T_CANCEL, T_REDRIVE, T_RETRY, Rule, allow, describe, refuse
from jobqueue.engine.queues import QueueState
from jobqueue.engine.retention import keep_by
from jobqueue.engine.ring import pieces
from jobqueue.engine.sizes import details_bytes, job_bytes, own_bytes, shown_bytes
from jobqueue.engine.state import BACK, FRONT, QUIET, State
from jobqueue.errors import BadRequest, Duplicate, Full, NotForgettable, QueueFull, QueueNotEmpty, Unsupported
from jobqueue.model import CANCELLED, CONCLUDED, FAILED, NOTHING, QUEUED, SCHEDULED, SUCCEEDED, Conclusion, Job, JobFilter
from jobqueue.policy import Pause, PolicyChange, QueuePolicy


class QueueAdmin(State):
    """Policies, pausing, purging, redriving, listing."""

    __slots__ = ()

    def put_policy(self, name: str, policy: QueuePolicy, now: float | None = None, by: str | None = None) -> bool:
        """Set a queue's whole policy; True if this made the queue. Raises BadRequest, TooManyQueues.

        now: None for the last tick; by: the name of the caller's token, None if the server requires none.
        """
        checks.policy(policy, self.limits)
        self._check_dead_letter(name, policy)
        queue = self.queues.get(name)
        made = queue is None
        if queue is None:
            queue = self.make_queue(name, now)
        self._set_policy(queue, policy, now, by)
        return made

    def change_policy(self, name: str, change: PolicyChange, now: float | None = None, by: str | None = None) -> None:
        """Change some fields of a queue's policy. now, by: see put_policy. Raises UnknownQueue, BadRequest."""
        queue = self.queue(name)
        policy = change.of(queue.policy)
        checks.policy(policy, self.limits)
        self._check_dead_letter(name, policy)
        self._set_policy(queue, policy, now, by)

    def _check_dead_letter(self, name: str, policy: QueuePolicy) -> None:
        """Raise BadRequest if a job that keeps failing for good could return to this queue through dead-letter queues."""
        to = policy.dead_letter
        passed = [name]
        while to is not None and to not in passed:
            passed.append(to)
            next_queue = self.queues.get(to)
            to = None if next_queue is None else next_queue.policy.dead_letter
        if to is not None:
            raise BadRequest("dead_letter", "is the queue itself" if len(passed) == 1 else f"forms a circle: {' → '.join([*passed, to])}")

    def _set_policy(self, queue: QueueState, policy: QueuePolicy, now: float | None, by: str | None) -> None:
        kind = K_QUEUE_CHANGED
        now = self.now if now is None else now
        if queue.policy.paused is not policy.paused:
            kind = K_QUEUE_PAUSED if policy.paused else K_QUEUE_RESUMED
            queue.pause = Pause(now, by) if policy.paused else None
        queue = self.shape(queue, policy, queue.paused_keys)
        queue.own = True
        queue.modified_at = now
        keep_by(self, queue.name, policy)
        self.ages.keep(queue, queue.modified_at)
        self.events.append(Event(kind, queue.name))

    def shape(self, queue: QueueState, policy: QueuePolicy, paused_keys: Mapping[str, Pause | None]) -> QueueState:
        """Give a queue a policy and paused keys, and the structures that they need. Returns the queue object to use from now on.

        Work that visits each of its jobs or keys is done in slices, by chores.
        """
        was = queue.policy
        queue.obey(policy)
        keyed = policy.keyed or bool(paused_keys)
        if not isinstance(queue, FlowQueue):
            if not policy.limited and not keyed:
                return queue
            queue = self.queues[queue.name] = FlowQueue.of(queue, policy, self.limits, self.deadlines)
        queue.rule = policy.per_key or NO_RULE
        queue.pause_keys(paused_keys)
        if keyed and not queue.keyed and not queue.live and not self.pinned:
            # A queue that is set up before its first job needs no walk over all jobs of the server.
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
        """Move failed jobs to history whose queue no longer uses keys, or is gone, one per step.

        deleted: a queue that was deleted; its jobs are moved even if a queue with the same name was made meanwhile.
        """
        for count, job in enumerate(pinned, 1):
            queue = self.queues.get(job.queue)
            if job in self.pinned and (job.queue == deleted or not (isinstance(queue, FlowQueue) and queue.keyed)):
                self.give_up(job)
                yield 1
            elif count % walks.SLICE == 0:
                yield walks.SLICE

    def pause_key(self, queue_name: str, key: str, paused: bool, now: float | None = None, by: str | None = None) -> None:
        """Pause a key of a queue, so that none of its jobs is handed out, or resume it; a failed job that halts the key is given up then.

        Repeating it changes nothing. now, by: see put_policy. Raises UnknownQueue, BadRequest (key), QueueFull (field key: too many keys
        are paused).
        """
        checks.key(key, self.limits)
        queue = self.queue(queue_name)
        keys = dict(queue.paused_keys)
        if (key in keys) is not paused:
            if not paused:
                del keys[key]
            elif len(keys) >= self.limits.paused_keys_max:
                raise QueueFull(f"the limit of {len(keys)} paused keys of queue {queue_name!r} is reached", "key")
            else:
                keys[key] = Pause(self.now if now is None else now, by)
            queue = self.shape(queue, queue.policy, keys)
            queue.own = True
            self.events.append(Event(K_QUEUE_CHANGED, queue_name))
        if not paused and isinstance(queue, FlowQueue):
            # While its jobs are being sorted, the queue may not know yet which of them halt a key.
            halting = queue.halted(key) if queue.upto < 0 else [job for job in self.pinned if job.queue == queue_name and job.key == key]
            for job in halting:
                self.give_up(job)

    def names_after(self, prefix: str, after: str, limit: int) -> tuple[list[str], str | None]:
        """At most `limit` names of queues that begin with `prefix`, starting after `after`; and the last of them, if there are more."""
        if self.names is None:
            self.names = sorted(self.queues)
        begin = max(bisect_right(self.names, after), bisect_left(self.names, prefix))
        found = [name for name in self.names[begin : begin + limit + 1] if name.startswith(prefix)]
        return found[:limit], found[limit - 1] if len(found) > limit else None

    def set_paused(self, name: str, paused: bool, now: float | None = None, by: str | None = None) -> None:
        """Pause or resume; repeating it changes nothing. now, by: see put_policy. Raises UnknownQueue."""
        queue = self.queue(name)
        if queue.policy.paused != paused:
            self._set_policy(queue, msgspec.structs.replace(queue.policy, paused=paused), now, by)

    def set_quiet(self, worker: str, quiet: bool, at: float) -> None:
        """Stop giving jobs to the worker with this name, or start again. Repeating it changes nothing."""
        if (worker in self.quiet) is quiet:
            return
        if not quiet:
            del self.quiet[worker]
        else:
            if len(self.quiet) >= QUIET_MAX:
                oldest = next(iter(self.quiet))
                del self.quiet[oldest]
                self.events.append(Event(K_THING_CHANGED, QUIET + oldest))
            self.quiet[worker] = at
        self.events.append(Event(K_THING_CHANGED, QUIET + worker))

    def delete_queue(self, name: str) -> None:
        """Delete a queue without live jobs; its concluded ones stay in history. Raises UnknownQueue, QueueNotEmpty."""
        queue = self.queue(name)
        if queue.live:
            raise QueueNotEmpty(name, queue.live)
        del self.queues[name]
        keep_by(self, name, self.default_policy)
        self.ages.forget(name)
        self.failing.errors.forget(name)
        self.names = None
        if isinstance(queue, FlowQueue):
            self.deadlines.drop(queue)
            self.do_later(walks.forget_keys(queue))
            if self.pinned:
                self.do_later(self.give_up_what_halts_nothing(list(self.pinned), name))
        self.events.append(Event(K_QUEUE_DELETED, name))

    def waiting(self, name: str, count: int) -> Iterator[list[Job]]:
        """The jobs that are queued and scheduled in a queue now, as far as they still wait when they are reached, at most `count` at a
        time.

        Other requests are served between slices, and a slice can be empty. Raises UnknownQueue.
        """
        queue = self.queue(name)
        scheduled = list(queue.scheduled.values())
        lanes = [lane.slices(count) for lane in queue.lanes if lane is not None]
        return chain(*lanes, pieces(scheduled, count))

    def purge(self, now: float, name: str, jobs: Sequence[Job]) -> int:
        """Cancel those of `jobs` that still wait in this queue; returns how many. The shell calls it for each slice of `waiting`: a million
        at once would stall the loop, and meanwhile a job may have become a dead letter in another queue.
        """
        purged = 0
        for job in jobs:
            if job.status in (QUEUED, SCHEDULED) and job.queue == name:
                queue = self.queues[name]
                self.detach(job, queue)
                self.to_concluded(job, queue, T_CANCEL, Conclusion(CANCELLED, now))
                purged += 1
        return purged

    def retry(self, now: float, job_id: str) -> Job:
        """Put a concluded job that did not succeed at the back of its queue, with attempts 0; its old expiry and its past attempts are
        removed.

        Raises UnknownJob, NotRetryable, Duplicate, QueueFull, TooManyQueues.
        """
        job = self.job(job_id)
        allow(job, T_RETRY)
        if job.outcome is SUCCEEDED:
            refuse(job, Rule.NOT_RETRYABLE)
        if job.details.extra is not NOTHING:
            self.check_retry(job)
        assert job.conclusion is not None
        halts = job.conclusion.halts
        # Its wait counts from now, not from its creation. If it halts its key, it continues to hold the key, in its old place.
        details = msgspec.structs.replace(job.details, error=None, expires_at=None, run_at=now, past=(), holds=halts)
        size = own_bytes(job) - details_bytes(job.details) + details_bytes(details)
        queue = self.queues.get(job.queue)
        if queue is None or not halts:
            # A job that halts its key already has its room, and no other job of the key can run before it: so it is not refused because of
            # the jobs behind it.
            queue = self.make_room(job.queue, size, job.key, now)
        if queue.flow:
            queue.enter(job)
        outcome = job.conclusion.outcome
        if halts:
            self.unpin(job)
        elif job in self.kept:
            self.unkeep(job)
        else:
            self.history.remove(job)
        job.hold = None
        job.details = details
        job.attempts = 0
        self.live += 1
        self.live_bytes += size
        queue.retried_total += 1
        if details.extra is not NOTHING:
            # This comes first, since a job that is too old for its queue ends at once.
            self.lives_again(job, now)
            self.retried(job, outcome)
        self.to_queued(job, queue, now, T_RETRY, FRONT if halts else BACK)
        return job

    def forget_one(self, job_id: str) -> Job:
        """Remove a concluded job and all its data from history. Raises UnknownJob, NotForgettable."""
        job = self.job(job_id)
        if job.status is not CONCLUDED:
            raise NotForgettable(job_id, f"is {describe(job)}, and only a concluded job can be forgotten")
        if job in self.pinned:
            raise NotForgettable(job_id, "halts its key: cancel or retry it, or resume the key, and then forget it")
        if job in self.kept:
            raise NotForgettable(job_id, "has jobs after it that are not concluded: it can be forgotten when they are")
        self.history.remove(job)
        self.forget([job])
        return job

    def failed(self, name: str, count: int) -> Iterator[list[Job]]:
        """A queue's failed jobs in history, oldest first; in slices like those of `waiting`. Raises UnknownQueue."""
        self.queue(name)
        # Jobs that halt their keys first: they are as old as any, and each is retried before the jobs that its key holds.
        span: list[Job | None] = [*self.pinned, *self.history.span(FAILED)]
        return ([job for job in part if job is not None and job.queue == name] for part in pieces(span, count))

    def dead_letters(self, name: str, to: str | None, count: int) -> Iterator[list[Job]]:
        """A queue's waiting dead letters, in the order in which they would be handed out; in slices like those of `waiting`.

        to: where `redrive` is to move them. Raises UnknownQueue, BadRequest (to).
        """
        if to is not None:
            checks.name("to", to)
            if to == name:
                raise BadRequest("to", "is the queue itself")
        return ([job for job in part if job.origin is not None] for part in self.waiting(name, count))

    def redrive(self, now: float, name: str, jobs: list[Job], to: str | None, as_new: bool = False) -> int:
        """Move those of `jobs` that are still waiting dead letters of this queue to the queue `to`, None for where each came from; returns
        how many.

        Each starts again there, as after a retry. as_new: it also becomes a new job, unless others refer to it by its id. A job for which
        there is no room stays.
        """
        moved = 0
        for job in jobs:
            origin = job.origin
            if origin is None or job.queue != name or job.status not in (QUEUED, SCHEDULED):
                continue
            try:
                target = self.room_for_one_of_ours(origin.queue if to is None else to, job.key, now)
            except (Full, Unsupported):
                continue
            queue = self.queues[name]
            self.detach(job, queue)
            self.leave(job, queue, now)
            was = details_bytes(job.details)
            job.details = msgspec.structs.replace(job.details, error=None, past=())
            if as_new and not self._known_by_id(job):
                self._renew(job, target.name, now)
                self.events.append(Event(K_ENQUEUED, target.name, job))
            self.live_bytes += details_bytes(job.details) - was
            queue.moved_out_total += 1
            self.events.append(Event(K_REDRIVEN, name, job))
            self.join(job, target, None, now, T_REDRIVE)
            moved += 1
        return moved

    def _known_by_id(self, job: Job) -> bool:
        """Whether a group, a schedule or other jobs refer to it by its id."""
        extra = job.details.extra
        return job.id in self.parents or extra.group is not None or extra.schedule is not None or bool(extra.after)

    def _renew(self, job: Job, home: str, now: float) -> None:
        """Turn a job that is in no queue into a new one with the same content: with an id and a number of its own, made now in `home`."""
        old: Job = job.__copy__()  # type: ignore[attr-defined] # see `copied` in backend/shell.py
        self.jobs.remove(job)
        self.forgotten(old)
        self.events.append(Event(K_FORGOTTEN, old.queue, old))
        self.events += [Event(K_THING_CHANGED, each) for each in self.logs.forget(old.number)]
        job.id, job.number, job.created_at = self.ids.job_id(now), self.jobs.next_number, now
        claim = job.details.extra.claim
        if claim is not None:
            # The time for which its enqueue holds the unique key stays with that enqueue.
            claim = None if claim.unique.until == "enqueued" else msgspec.structs.replace(claim, since=None)
        extra = msgspec.structs.replace(job.details.extra, claim=claim, log=0, edited=False, home=home)
        job.details = msgspec.structs.replace(job.details, asked=None, seq=None, extra=extra)
        self.jobs.add(job)

    def retry_failed(self, now: float, name: str, jobs: Sequence[Job]) -> int:
        """Retry those of `jobs` that are still failed in this queue, in order, until it is full; returns how many. A job is skipped if
        another job holds its unique key.
        """
        retried = 0
        for job in jobs:
            if job.outcome is not FAILED or job.queue != name or self.jobs.find(job.id) is not job:
                continue
            try:
                self.retry(now, job.id)
            except Duplicate:
                continue
            except Full:
                break
            retried += 1
        return retried

    def _retrying(self, name: str | None, before: int | None) -> Iterator[Job]:
        """Jobs that wait for their next attempt, of one queue or of all, newest first. They are indexed, so no other jobs are read."""
        queue = None if name is None else self.queues.get(name)
        failing = self.failing if name is None else None if queue is None else queue.failing
        for number in sorted(failing.retrying, reverse=True) if failing is not None else ():
            job = self.jobs.numbered(number) if before is None or number < before else None
            if job is not None:
                yield job

    def page(self, wanted: JobFilter) -> tuple[list[Job], int | None]:
        """Jobs that match, newest first unless `after` is given, and the cursor of the next page, None at the end. by_end: see ended.py.

        Looks at no more than `page_scan_max` jobs, and ends when the jobs hold more than `answer_bytes_max`, so a page can be short or
        empty and still have a next page. Jobs are created in the order of their numbers, so the jobs of a period are found without a walk
        over newer ones, and older ones are not looked at.
        """
        if wanted.by_end:
            return page_by_end(self, wanted)
        found: list[Job] = []
        last = None
        room = self.limits.answer_bytes_max
        looked = 0
        since, until = wanted.created_after, wanted.created_before
        if wanted.after is None:
            before = wanted.before
            if until is not None:
                before = self.jobs.not_before(until) if before is None else min(before, self.jobs.not_before(until))
            jobs = self._retrying(wanted.queue, before) if wanted.retrying else self.jobs.newest_first(before)
        else:
            jobs = self.jobs.oldest_first(wanted.after)
        for scanned, job in enumerate(jobs):
            if len(found) >= wanted.limit or scanned >= self.limits.page_scan_max or looked > LOOKED_BYTES_MAX:
                return found, last
            if since is not None and job.created_at < since and wanted.after is None:
                break
            if until is not None and job.created_at >= until and wanted.after is not None:
                break
            before, last = last, job.number
            looked += looked_bytes(job, wanted)
            if fits(job, wanted):
                room -= job_bytes(job) if wanted.payloads else shown_bytes(job)
                if room < 0 and found:
                    return found, before
                found.append(job)
        return found, None
