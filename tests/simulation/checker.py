"""Judges what the server does, while it does it.

It is told what clients ask and are answered, and, in order, what the engine says happened (its events, each with the request that was
being served at that moment, or none for the ticker). It repeats nothing of the engine: who is next is found by looking at all, order is a
number that each job gets when it first joins its line. What must hold of a single step is checked at that step; what must hold whenever
the server has nothing left to do (nobody waits beside a job, nothing is overdue) is checked before time moves on.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from jobqueue.engine.events import Event, Kind
from jobqueue.model import Job, Outcome, Want

from .flow import Flow, rule_of
from .graph import Ties
from .history import CHANGES, CONCLUDES, DEQUEUES, ENQUEUES, EXTENDS, UNFENCED, Ask, History
from .loop import VirtualLoop

EPSILON = 0.002
GRACE = 10.5
"""The longest by which a lease may be prolonged after a stall, and a little."""

GRACE_MIN = 0.2
"""The shortest, or a little less."""

NOTICED = 0.3
"""A stall that lasted longer than this after a lease ran out is one to the server too."""

LATE_MAX = 8.0
"""How long a lease that ran out may be there while the loop is busy: a score of its longest turns."""

LOOK_SECONDS = 0.2
"""How often every job is looked at, at most."""

REFUSALS = defaultdict(lambda: (404, 409), {"/sqs": (400,)})
"""The status with which a token is refused that does not live, by path."""

RETURNS = EXTENDS | {"release"}
"""What gives a job back that a worker had."""

RETRIES = frozenset({"retry", "redrive"})
ENDED_ELSEWHERE = {"cancel", "purge", "purge all"}


@dataclass
class Seen:
    """A job as its events tell of it. place: where it stands in its line; None before it ever stood. holder: who was handed the lease.
    prolonged: the server set its lease's end by itself, and its worker has not extended it since. past: the token of its last lease, if
    that ran out. ended_by: the token and the very words that concluded it.
    """

    id: str
    number: int
    queue: str
    priority: int
    payload: bytes
    status: str
    expires_at: float | None
    max_attempts: int | None
    place: int | None = None
    attempts: int = 0
    run_at: float = 0.0
    token: str = ""
    past: str = ""
    holder: Ask | None = None
    until: float = 0.0
    prolonged: bool = False
    cancel: bool = False
    outcome: str | None = None
    ended_by: tuple[str, bytes] | None = None
    key: str | None = None
    holds: bool = False
    halts: bool = False
    handed_at: float = 0.0
    held: bool = False
    after: tuple[str, ...] = ()
    after_failure: str = "cancel"
    group: str | None = None
    unique: str | None = None


class Checker:
    """One run. Faults go to the history.

    durable: what is committed outlives the server; committed: the ticket up to which it is. stalled_at: until when the process last stood
    still. closed: its timers are off, since it is about to end.
    """

    def __init__(self, loop: VirtualLoop, history: History) -> None:
        self.loop = loop
        self.history = history
        self.jobs: dict[str, Seen] = {}
        self.queued: dict[str, dict[str, Seen]] = {}
        self.paused: set[str] = set()
        self.flow = Flow(self)
        self.ties = Ties(self)
        self.forgotten: set[str] = set()
        self.made: dict[str, bytes] = {}
        """The payload of every job that ever was."""
        self.standing: list[Ask] = []
        self.watching: dict[int, Ask] = {}
        self.open: dict[int, Ask] = {}
        self.leases: dict[str, tuple[str, Ask, int]] = {}
        """Every token ever handed out: the job, to whom, at which attempt."""
        self.replayed: set[str] = set()
        self.offset = 0.0
        """The server's engine time minus ours."""
        self.stall_began = self.stalled_at = -1e9
        self.draining = False
        self.closed = False
        self.durable = False
        self.committed = 0
        self._places = 0
        self._looked_at = 0.0
        self._taking: Ask | None = None
        self.counts = {"jobs": 0, "hand-outs": 0, "redeliveries": 0, "undelivered": 0}

    @property
    def now(self) -> float:
        return self.loop.time()

    def fault(self, what: str) -> None:
        self.history.fault(what)

    # Requests, as the server meets them.

    def parsed(self, ask: Ask) -> None:
        """The server has read a request's head."""
        self.history.note("parsed", ask.number)
        self.open[ask.number] = ask
        if ask.op in ("wait", "pool result"):
            self.watching[ask.number] = ask

    def asked_again(self, want: Want, ask: Ask, replayed: list[Job]) -> None:
        """A dequeue begins. An older one of the same worker and attempt_id is answered in its favour; leases handed out under it, again."""
        for job in replayed:
            seen = self.jobs[job.id]
            if job.lease is None or seen.token != job.lease.token:
                self.fault(f"{ask} was handed {job.id} again under a lease that does not live")
            elif seen.holder is not None and (seen.holder.attempt, seen.holder.worker) != (want.attempt_id, want.worker):
                self.fault(f"{ask} was handed {job.id} again, which {seen.holder} holds")
            self.replayed.add(seen.token)
        if want.attempt_id is not None:
            for other in self.standing:
                if other is not ask and other.attempt == want.attempt_id and other.worker == want.worker:
                    other.excused = True

    def takes(self, ask: Ask) -> None:
        """A dequeue looks for what is there at once."""
        self._taking = ask

    def took(self, want: Want, found: int) -> None:
        """And this many it found."""
        ask, self._taking = self._taking, None
        if not found:
            for queue in want.queues:
                if self._available(queue):
                    self.fault(f"{ask} was turned away from {queue}, which has a job")

    def stands(self, ask: Ask, wait: float) -> None:
        """A dequeue takes its place in line."""
        self.history.note("stands", ask.number)
        ask.stood_at, ask.until = self.now, self.now + wait
        self.standing.append(ask)

    def finished(self, ask: Ask, answer: Any) -> None:
        """The server is done with a request; answer: what it wrote, None if the request was abandoned."""
        status = None if answer is None else answer.status
        self.history.note("done", ask.number, status)
        ask.done = True
        self.open.pop(ask.number, None)
        self.watching.pop(ask.number, None)
        if ask in self.standing:
            self.standing.remove(ask)
        if status == 500:
            self.fault(f"{ask} was answered 500: {answer.content[:300]!r}")
        if ask.op in DEQUEUES:
            self._dequeue_finished(ask, answer)
        elif status in REFUSALS[ask.path] and ask.tokens and "batch" not in ask.op:
            job_id, token = next(iter(ask.tokens.items()))
            seen = self.jobs.get(job_id)
            if seen is not None and seen.status == "in_progress" and seen.token == token:
                self.fault(f"{ask} was refused ({status}) though it came with the live lease of {job_id}")
            elif seen is not None and seen.ended_by == (token, ask.body):
                self.fault(f"{ask} was refused ({status}) though it repeats word for word what concluded {job_id}")
            elif seen is not None and ask.late and seen.status in ("queued", "scheduled") and seen.past == token:
                self.fault(f"{ask} was refused ({status}), late as it is: {job_id} waits since that lease ran out")
        if (
            self.durable
            and status in (200, 201)
            and ask.op in CHANGES
            and ask.ticket > self.committed
            and (ask.op not in DEQUEUES or self._has(ask))
        ):
            self.fault(f"{ask} was answered before its change was committed")

    def _has(self, ask: Ask) -> list[str]:
        """The leases a dequeue was given that live, and that no repeat of it was given too: those nobody can put back."""
        jobs = self.jobs
        return [
            token
            for token in ask.handed
            if token not in self.replayed and (seen := jobs.get(self.leases[token][0])) is not None and seen.token == token
        ]

    def _dequeue_finished(self, ask: Ask, answer: Any) -> None:
        held = self._has(ask)
        if held and (answer is None or answer.status != 200):
            self.fault(f"{ask} ended without an answer and keeps the lease of {self.leases[held[0]][0]}")
        if held and ask.link.server.wrote_to_the_gone:
            self.fault(f"{ask} keeps the lease of {self.leases[held[0]][0]}, though its client had hung up before the answer was written")
        empty = answer is not None and (
            answer.status == 204 or answer.content in (b'{"jobs":[]}', b"{}") or (ask.op[0] == "c" and answer.status == 404)
        )
        if empty and ask.wait > 0 and not (ask.excused or self.draining):
            if ask.stood_at is None:
                self.fault(f"{ask} was sent away though it would have waited")
            elif self.now < ask.until - EPSILON:
                self.fault(f"{ask} was sent away {ask.until - self.now:.3f} s before its wait had passed")

    def stalled(self, began: float) -> None:
        """The process stood still from then on until now."""
        self.stall_began, self.stalled_at = began, self.now

    def drains(self) -> None:
        """The server begins to shut down."""
        self.draining = True

    # What the engine says.

    def happened(self, event: Event, ask: Ask | None) -> None:
        """One event, and the request that brought it about; None: time did."""
        kind, job = event.kind, event.job
        self.history.note("event", kind.value, event.queue, "" if job is None else job.id, "by", 0 if ask is None else ask.number)
        if job is None:
            self._queue_changed(event, ask)
            return
        if kind is Kind.ENQUEUED:
            self._enqueued(job, ask)
            return
        seen = self.jobs.get(job.id)
        if seen is None:
            self.fault(f"{kind.value}: {job.id}, which does not exist")
            return
        if kind is Kind.DEQUEUED:
            self._dequeued(seen, job, ask)
        elif kind is Kind.EXTENDED:
            assert job.lease is not None
            until = job.lease.expires_at - self.offset
            if ask is not None:
                self._fenced(seen, ask, "extended")
            elif until < seen.until or self.now > max(self.stalled_at, self.loop.busy_at) + GRACE:
                self.fault(f"the lease of {seen.id}, until {seen.until:.3f}, was set to {until:.3f} by itself")
            elif seen.prolonged:
                self.fault(f"the lease of {seen.id} was prolonged a second time, and its worker had not said a word")
            seen.until, seen.prolonged = until, ask is None
        elif kind in (Kind.CHANGED, Kind.CANCEL_REQUESTED):
            # A failed job halts its key no more; or a lease was handed out again, which changes nothing that is looked at.
            seen.cancel, seen.halts = seen.cancel or kind is Kind.CANCEL_REQUESTED, False
        elif kind is Kind.FORGOTTEN:
            if seen.status != "concluded":
                self.fault(f"history forgot {job.id}, which is {seen.status}")
                self.queued.get(seen.queue, {}).pop(seen.id, None)
            self.forgotten.add(job.id)
            del self.jobs[job.id]
        else:
            self._moved(seen, job, kind, ask)

    def _queue_changed(self, event: Event, ask: Ask | None) -> None:
        if "/" in event.queue:
            # What became of a group, or of something else that is stored under a name.
            return
        if event.kind is Kind.QUEUE_DELETED:
            self.paused.discard(event.queue)
            self.flow.changed(event.queue, None)
            for seen in self.jobs.values():
                seen.halts = seen.halts and seen.queue != event.queue
            if self.queued.get(event.queue):
                self.fault(f"queue {event.queue} was deleted with jobs in it")
        elif ask is not None and ask.paused is not None:
            if ask.op == "policy" and event.kind is not Kind.FREED:
                self.flow.changed(event.queue, rule_of(ask.body))
            (self.paused.add if ask.paused else self.paused.discard)(event.queue)

    def _enqueued(self, job: Job, ask: Ask | None) -> None:
        if job.id in self.jobs:
            self.fault(f"{job.id} was made twice")
        if not self.ties.made_by_a_group(job) and (ask is None or ask.op not in ENQUEUES or job.payload not in ask.body):
            self.fault(f"{job.id} was made of nothing that {ask} sent")
        self.counts["jobs"] += 1
        self.made[job.id] = job.payload
        expires_at = None if job.expires_at is None else job.expires_at - self.offset
        seen = Seen(job.id, job.number, job.queue, job.priority, job.payload, job.status.value, expires_at, job.max_attempts)
        seen.key = job.key
        self.jobs[job.id] = seen
        self.ties.begins(seen, job)
        if seen.status == "scheduled":
            assert (job.run_at is None) is seen.held
            seen.run_at = math.inf if job.run_at is None else job.run_at - self.offset
        else:
            self._line_up(seen, anew=True)

    def _line_up(self, seen: Seen, anew: bool) -> None:
        if anew or seen.place is None:
            self._places += 1
            seen.place = self._places
        seen.status = "queued"
        self.queued.setdefault(seen.queue, {})[seen.id] = seen

    def _moved(self, seen: Seen, job: Job, kind: Kind, ask: Ask | None) -> None:
        """Queued again, scheduled or concluded."""
        was = seen.status
        if was == "in_progress":
            spent = seen.max_attempts is not None and seen.attempts >= seen.max_attempts
            if spent and kind is not Kind.CONCLUDED and (ask is None or ask.op in CONCLUDES | EXTENDS):
                self.fault(f"{seen.id} has had its {seen.attempts} attempts and was {kind.value} again")
            self._lease_ended(seen, ask)
        elif was == "queued":
            if kind is not Kind.CONCLUDED:
                self.fault(f"{seen.id}, which is queued, was {kind.value} by {ask}")
            self.queued[seen.queue].pop(seen.id, None)
        elif was == "concluded":
            if kind is not Kind.QUEUED or ask is None or ask.op not in RETRIES or seen.outcome == "succeeded":
                self.fault(f"{seen.id}, which has {seen.outcome}, came back: {kind.value} by {ask}")
            seen.attempts, seen.outcome, seen.expires_at, seen.cancel, seen.ended_by = 0, None, None, False, None
            seen.holds, seen.halts, was = seen.halts, False, "halting" if seen.halts else was
        elif not self.ties.goes_on(seen, kind) and kind is Kind.QUEUED and (ask is not None or self.now < seen.run_at - EPSILON):
            self.fault(f"{seen.id} was due at {seen.run_at:.3f} and was queued by {ask}")
        if kind is Kind.QUEUED:
            self._line_up(seen, anew=was == "concluded")
        elif kind is Kind.SCHEDULED:
            assert job.run_at is not None
            seen.status, seen.run_at = "scheduled", job.run_at - self.offset
        else:
            self._concluded(seen, job, was, ask)
            self.flow.ended(seen, job.conclusion is not None and job.conclusion.halts, was == "in_progress")
        if was == "in_progress" and kind is not Kind.CONCLUDED and (kind is Kind.SCHEDULED or ask is None or ask.op in RETURNS):
            self.flow.came_back(seen)

    def _concluded(self, seen: Seen, job: Job, was: str, ask: Ask | None) -> None:
        assert job.outcome is not None
        seen.status, seen.outcome = "concluded", job.outcome.value
        if ask is not None and ask.op == "conclude":
            seen.ended_by = next(iter(ask.tokens.values())), ask.body
        if job.outcome is Outcome.EXPIRED:
            if seen.expires_at is None or self.now < seen.expires_at - EPSILON:
                self.fault(f"{seen.id} expired before its time")
        elif job.outcome is Outcome.CANCELLED and was != "in_progress" and self.ties.may_be_cancelled(seen, ask is not None):
            pass
        elif was in ("queued", "scheduled") and ask is not None and ask.op in CONCLUDES:
            if not ask.late or seen.past in ("", None) or ask.tokens.get(seen.id) != seen.past:
                self.fault(f"{seen.id}, which is {was}, was concluded by {ask}, which does not have the last lease that ran out")
        elif was != "in_progress" and (ask is None or ask.op not in ENDED_ELSEWHERE):
            self.fault(f"{seen.id}, which was {was}, was concluded by {ask}")
        elif was == "in_progress" and not seen.cancel:
            if ask is not None and ask.op == "purge all" and job.outcome is Outcome.CANCELLED:
                pass
            elif job.outcome is Outcome.CANCELLED or (ask is not None and ask.op not in CONCLUDES | UNFENCED | EXTENDS):
                self.fault(f"{seen.id} was {seen.outcome} by {ask}, and nobody had cancelled it")
            elif (ask is None or ask.op in EXTENDS) and seen.max_attempts is not None and seen.attempts < seen.max_attempts:
                self.fault(f"{seen.id} failed at attempt {seen.attempts} of {seen.max_attempts}")

    def _fenced(self, seen: Seen, ask: Ask | None, what: str) -> None:
        if seen.status != "in_progress":
            self.fault(f"{seen.id}, which is {seen.status}, was {what} by {ask}")
        elif ask is None or (ask.op not in UNFENCED and ask.tokens.get(seen.id) != seen.token):
            self.fault(f"the lease of {seen.id} was {what} by {ask}, which does not have its token")

    def _lease_ended(self, seen: Seen, ask: Ask | None) -> None:
        """Whether this request, or time, may end the lease; count the attempt back where it must be."""
        given_back = False
        past, seen.past = seen.past, ""
        if ask is None:
            seen.past = seen.token
            if self.now < seen.until - EPSILON:
                self.fault(f"the lease of {seen.id} was ended {seen.until - self.now:.3f} s before its time")
            elif (
                self.stall_began < seen.until < self.stalled_at - NOTICED
                and self.now < self.stalled_at + GRACE_MIN
                and not seen.prolonged
                # One of 0 s is over at once, whoever could be heard.
                and seen.until > seen.handed_at + EPSILON
            ):
                self.fault(f"the lease of {seen.id} ran out while the server stood still, and was ended before its worker could be heard")
            elif self.now > max(seen.until, self.stalled_at + GRACE) + LATE_MAX:
                self.fault(f"the lease of {seen.id} was ended {self.now - seen.until:.3f} s after its time")
        elif ask.op in DEQUEUES:
            given_back, seen.past = True, past
            self.flow.undelivered(seen)
            self.took_back(seen)
            self.counts["undelivered"] += 1
            if ask.done and not ask.link.server.crossed:
                self.fault(f"the lease of {seen.id} was taken back from {ask}, though its answer was written and its client had it")
            if seen.holder is not ask:
                self.fault(f"the lease of {seen.id} was ended by {ask}, to whom it was not given")
        elif ask.op in CONCLUDES or ask.op in UNFENCED:
            self._fenced(seen, ask, "concluded")
        elif ask.op == "release":
            given_back = True
            self._fenced(seen, ask, "released")
            if not ask.method:
                self.took_back(seen)
        elif ask.op in EXTENDS and (b'"lease_seconds":0' in ask.body or b'"VisibilityTimeout":0' in ask.body):
            seen.past = seen.token
            self._fenced(seen, ask, "ended")
        elif ask.op != "purge all":
            self.fault(f"the lease of {seen.id} was ended by {ask}")
        seen.attempts -= given_back
        seen.token, seen.holder = "", None

    def took_back(self, seen: Seen) -> None:
        """A job was not delivered, as far as the server knows."""

    # Handing out.

    def _available(self, queue: str) -> bool:
        return bool(self.queued.get(queue)) and queue not in self.paused and bool(self.flow.may_go(queue, sure=True))

    def _first(self, queue: str) -> Seen:
        # One that may not go was handed out all the same; that is a fault of its own.
        jobs = self.flow.may_go(queue, sure=False) or self.queued[queue].values()
        return min(jobs, key=lambda seen: (seen.priority, seen.place))

    def _in_line(self, queue: str) -> list[Ask]:
        """Who waits for a queue, longest first."""
        return [ask for ask in self.standing if queue in ask.queues and not ask.excused and self.now < ask.until - EPSILON]

    def _dequeued(self, seen: Seen, job: Job, ask: Ask | None) -> None:
        lease = job.lease
        assert lease is not None
        self.counts["hand-outs"] += 1
        self.counts["redeliveries"] += job.attempts > 1
        if seen.status != "queued":
            self.fault(f"{seen.id} was handed out while it is {seen.status}")
            return
        if seen.queue in self.paused:
            self.fault(f"{seen.id} was handed out of {seen.queue}, which is paused")
        if (first := self._first(seen.queue)) is not seen:
            self.fault(f"{seen.id} was handed out before {first.id}, which stands in front of it in {seen.queue}")
        if lease.token in self.leases:
            self.fault(f"{seen.id} was leased under a token that was used before")
        self.flow.handed(seen)
        seen.handed_at = self.now
        del self.queued[seen.queue][seen.id]
        seen.status, seen.token, seen.until, seen.cancel = "in_progress", lease.token, lease.expires_at - self.offset, False
        seen.prolonged = False
        seen.attempts += 1
        if job.attempts != seen.attempts:
            self.fault(f"{seen.id} is handed out as attempt {job.attempts}; it is attempt {seen.attempts}")
            seen.attempts = job.attempts
        receiver = self._receiver(seen, lease.worker, by_time=ask is None)
        if receiver is None:
            self.fault(f"{seen.id} was handed to nobody who waits")
            return
        if receiver.lease_seconds is not None and abs(seen.until - self.now - receiver.lease_seconds) > EPSILON:
            self.fault(f"{seen.id} was leased for {seen.until - self.now} s, not {receiver.lease_seconds}")
        for queue in receiver.queues[: receiver.queues.index(seen.queue)]:
            # A waiter has a claim on a queue only while it is the first in line there.
            if self._available(queue) and next(iter(self._in_line(queue)), receiver) is receiver:
                self.fault(f"{receiver} was handed {seen.id} of {seen.queue} though it prefers {queue}, which has a job")
        seen.holder = receiver
        receiver.handed.append(lease.token)
        self.leases[lease.token] = seen.id, receiver, seen.attempts
        self.history.note("handed", seen.id, "to", receiver.number)

    def _receiver(self, seen: Seen, worker: str | None, by_time: bool) -> Ask | None:
        """To whom a job went. Faults if somebody waits longer."""
        receiver = self._taking
        if receiver is None:
            candidates = [ask for ask in self.standing if seen.queue in ask.queues and ask.worker == worker and not ask.excused]
            if by_time:
                # Waits that end in the same instant as a lease have ended before its job is handed out. Those without a worker's name
                # look alike, so it can only be told by that, and by how long they want a job for.
                seconds = seen.until - self.now
                candidates.sort(
                    key=lambda ask: (
                        worker is None and ask.lease_seconds is not None and abs(ask.lease_seconds - seconds) > EPSILON,
                        self.now >= ask.until - EPSILON,
                    )
                )
            receiver = next(iter(candidates), None)
        for ask in self.standing:
            if ask is receiver or receiver is None:
                break
            if seen.queue in ask.queues and not ask.excused and self.now < ask.until - EPSILON:
                self.fault(f"{receiver} was handed {seen.id} past {ask}, which has waited for {seen.queue} since {ask.stood_at:.3f}")
                break
        return receiver

    def handed_out(self, want: Want) -> None:
        """One hand-out is complete: whoever got something is out of line."""
        self.flow.taking.clear()
        self.standing = [ask for ask in self.standing if not ask.handed]

    # Whenever nothing is left to do at an instant.

    def quiet(self) -> None:
        """Time is about to move on."""
        self.flow.moving.clear()
        self.ties.quiet()
        for queue in self.queued:
            if self._available(queue) and (line := self._in_line(queue)):
                self.fault(f"{line[0]} waits for {queue}, which has {self._first(queue).id} to give")
        overdue = self.now - EPSILON
        for ask in self.standing:
            if self.draining:
                self.fault(f"{ask} waits for a server that shuts down")
            elif ask.until < overdue:
                self.fault(f"{ask} should have been answered at {ask.until:.3f}")
        for ask in self.watching.values():
            seen = self.jobs.get(ask.ids[0])
            if ask.wait and not self.durable and seen is not None and seen.status == "concluded" and not ask.link.server.unsent:
                self.fault(f"{ask} waits for the result of {seen.id}, which has {seen.outcome}")
        for ask in self.open.values():
            if ask.handed and not self.durable and not ask.link.server.unsent:
                self.fault(f"{ask} was handed a job and is not answered")
        if not self.closed and self.now >= self._looked_at + LOOK_SECONDS:
            self._looked_at = self.now
            self._look_at_all(overdue)

    def _look_at_all(self, overdue: float) -> None:
        """Whether any job should have moved by then."""
        for seen in self.jobs.values():
            if seen.status == "in_progress" and overdue > max(seen.until, self.stalled_at + GRACE):
                self.fault(f"the lease of {seen.id} ended at {seen.until:.3f} and is still there")
            elif seen.status == "scheduled" and overdue > seen.run_at:
                self.fault(f"{seen.id} was due at {seen.run_at:.3f} and is still scheduled")
            elif seen.status in ("queued", "scheduled") and seen.expires_at is not None and overdue > seen.expires_at:
                self.fault(f"{seen.id} expired at {seen.expires_at:.3f} and is still {seen.status}")
