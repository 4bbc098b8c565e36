"""What the checker knows of the disk: which changes are committed, and whether a server that returns has all of them and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Event, Kind

from .checker import EPSILON, Checker, Seen
from .flow import Rule
from .history import DEQUEUES, Ask


class DurableChecker(Checker):
    """A checker that can follow a server over its death.

    Every change is noted with the ticket the journal gave it. What a commit makes durable is the state that each job had then; after a
    death that is what must be there.
    """

    last_commit = 0.0
    last_ticket = 0

    def open_disk(self) -> None:
        """Begin with an empty disk."""
        self.durable = True
        self._stored: dict[str, Seen] = {}
        self._stored_paused: set[str] = set()
        self._stored_rules: dict[str, Rule] = {}
        self._unstored: list[tuple[int, dict[str, Seen | None], set[str], dict[str, Rule]]] = []

    def appended(self, ticket: int, events: Sequence[Event], ask: Ask | None) -> None:
        """The journal was given events; ask: on whose behalf."""
        changed = {}
        for event in events:
            if event.job is not None:
                seen = self.jobs.get(event.job.id)
                changed[event.job.id] = None if seen is None else replace(seen)
                if event.kind is Kind.DEQUEUED and seen is not None and seen.holder is not None:
                    seen.holder.ticket = ticket
        self._unstored.append((ticket, changed, set(self.paused), dict(self.flow.rules)))
        if ask is not None and ask.op not in DEQUEUES:
            ask.ticket = ticket
        self.last_ticket = ticket

    def commits(self, ticket: int, since: float) -> None:
        """Everything up to a ticket is on the disk, and how the clocks stood when it was handed over."""
        self.history.note("committed", ticket)
        self.committed, self.last_commit = ticket, since
        while self._unstored and self._unstored[0][0] <= ticket:
            _, changed, self._stored_paused, self._stored_rules = self._unstored.pop(0)
            for job_id, seen in changed.items():
                if seen is None:
                    self._stored.pop(job_id, None)
                else:
                    self._stored[job_id] = seen

    def died(self) -> None:
        """The process is gone, with all that waited, and in memory mode with all there was."""
        for ask in self.open.values():
            ask.done = True
        self.standing, self.watching, self.open, self.draining, self._taking = [], {}, {}, False, None
        self.jobs, self.queued, self.paused, self.flow.rules = {}, {}, set(), {}
        if not self.durable:
            return
        self.paused, self.flow.rules = set(self._stored_paused), dict(self._stored_rules)
        for job_id, stored in self._stored.items():
            seen = self.jobs[job_id] = replace(stored)
            seen.halts = seen.halts and self.flow.rule(seen.queue).keyed
            if seen.status == "queued":
                self.queued.setdefault(seen.queue, {})[job_id] = seen
        self._unstored.clear()

    def begins(self) -> None:
        """A server starts. Its journal counts tickets from the beginning."""
        self.committed = self.last_ticket = 0
        self.closed = False
        self.flow.began()
        self.stalled(-1e9)
        for seen in self.jobs.values():
            seen.prolonged = False

    def returned(self, engine: Engine, clocks_agree: bool) -> None:
        """The server is back. clocks_agree: the wall clock was not set without the file's knowing, so times must be as they were."""
        for job_id in engine.jobs.by_id:
            if job_id not in self.jobs:
                self.fault(f"{job_id} is there after the restart and was never committed")
        for seen in self.jobs.values():
            job = engine.jobs.find(seen.id)
            if job is None:
                self.fault(f"{seen.id}, which is {seen.status}, is lost after the restart")
                continue
            is_now = (job.status.value, job.attempts, job.payload, "" if job.lease is None else job.lease.token, job.outcome)
            was = (seen.status, seen.attempts, seen.payload, seen.token, seen.outcome)
            if is_now != was:
                self.fault(f"{seen.id} was {was} and is {is_now} after the restart")
            # One that came back and expired in that step says that it holds its key still, which does not matter any more.
            of_key = (job.key, seen.status != "concluded" and job.details.holds, job.conclusion is not None and job.conclusion.halts)
            if of_key != (seen.key, seen.status != "concluded" and seen.holds, seen.halts):
                self.fault(f"{seen.id} was of {(seen.key, seen.holds, seen.halts)} and is of {of_key} after the restart")
            self._times_of(seen, engine, clocks_agree)
            self._stored[seen.id] = replace(seen)
        for name, jobs in self.queued.items():
            expected = [seen.id for seen in sorted(jobs.values(), key=lambda seen: (seen.priority, seen.place))]
            found = [job.id for job in engine.queues[name].jobs()] if name in engine.queues else []
            if found != expected:
                self.fault(f"queue {name} was {expected} and is {found} after the restart")
        for name, queue in engine.queues.items():
            if queue.policy.paused != (name in self.paused):
                self.fault(f"queue {name} is {'' if queue.policy.paused else 'not '}paused after the restart")

    def _times_of(self, seen: Seen, engine: Engine, clocks_agree: bool) -> None:
        job = engine.jobs.found(seen.id)
        times = {}
        if job.lease is not None:
            times["until"] = job.lease.expires_at - self.offset
        if job.run_at is not None and seen.status == "scheduled":
            times["run_at"] = job.run_at - self.offset
        if job.expires_at is not None:
            times["expires_at"] = job.expires_at - self.offset
        for name, is_now in times.items():
            was = getattr(seen, name)
            if clocks_agree and (was is None or abs(was - is_now) > EPSILON):
                self.fault(f"{name} of {seen.id} was {was} and is {is_now} after the restart")
            setattr(seen, name, is_now)
