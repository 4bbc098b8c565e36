"""Judges each owner by itself: one checker for each reign, from the rows it read to its last commit.

The store keeps with every commit what the checker knew of its jobs (`valkey.Shadow`). So a new owner is held against exactly what was
committed before it, through failovers that lose some of that and owners that send it again; and nothing that a deposed owner still does in
its memory counts.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Event, Kind
from jobqueue.errors import LeaseLost, NotInProgress, QueueError, UnknownJob
from jobqueue.model import Job, Want

from .checker import Checker, Seen
from .durable import DurableChecker
from .history import CHANGES, DEQUEUES, Ask
from .valkey import Valkey
from .valkey_data import Data, Shadow

if TYPE_CHECKING:
    from .cluster import ClusterWorld
    from .stack import Stack


class ReignChecker(DurableChecker):
    """Of one reign. reign and journal: known once it serves; deposed: whether a later claim was granted, whatever the owner knows.

    committed: the ticket up to which the store has acknowledged everything.
    """

    def __init__(self, world: ClusterWorld, stack: Stack) -> None:
        super().__init__(world.loop, world.history)
        self.world = world
        self.member = stack.member
        self.stack = stack
        self.partition = stack.place.index
        self.reign: Any = None
        self.journal: Any = None
        self.open_disk()
        self.counts = world.counts
        self.leases = world.leases
        self.forgotten = world.forgotten
        self.replayed = world.replayed
        self._places = world.places
        self._marks: list[tuple[int, dict[str, Seen | None], set[str]]] = []
        self._views: dict[int, Ask] = {}
        self.began = world.loop.time()

    @property
    def over(self) -> bool:
        """Whether what happens in its memory is nobody's truth any more."""
        if self.member.machine.dead:
            return True
        return self.reign is not None and (self.reign.lease.gone is not None or self.journal._broken is not None)

    @property
    def token(self) -> str:
        """Its claim, as the store knows it."""
        return str(self.stack.store._token(self.reign.lease.epoch))

    @property
    def shard(self) -> Valkey:
        """Of the store, the part that has its rows."""
        return self.world.shard_of(self.partition)

    @property
    def stored(self) -> Data:
        """What the primary of now has of its partition."""
        return self.shard.primary.datas[self.partition]

    def view(self, ask: Ask | None) -> Ask | None:
        """What this owner knows of a request: of its own clients', one for each; another server's is one already."""
        if ask is None or ask.front is not None:
            return ask
        found = self._views.get(ask.number)
        if found is None:
            found = self._views[ask.number] = view_of(ask)
        return found

    # What it begins with, and what it stores.

    def reads(self, jobs: dict[str, Seen], paused: set[str]) -> None:
        """The rows that it was given are these."""
        self.paused = set(paused)
        for job_id, stored in jobs.items():
            seen = self.jobs[job_id] = replace(stored)
            if seen.status == "queued":
                self.queued.setdefault(seen.queue, {})[job_id] = seen

    def loaded(self, engine: Engine) -> None:
        """And this is what it made of them."""
        self.offset = self.member.clock.now() - self.loop.time()
        self.begins()
        self.stalled(self.loop.time())
        self.returned(engine, clocks_agree=False)
        for job_id in self.jobs:
            self.world.ids.made(self, job_id)

    def _times_of(self, seen: Seen, engine: Engine, clocks_agree: bool) -> None:
        was = seen.until, seen.run_at, seen.expires_at
        status = seen.status
        super()._times_of(seen, engine, clocks_agree)
        spread = self.world.spread + self.world.slept_seconds + 0.6
        for name, old, new in zip(("until", "run_at", "expires_at"), was, (seen.until, seen.run_at, seen.expires_at), strict=True):
            if (name == "until") != (status == "in_progress") and name != "expires_at":
                continue
            if (old is None) != (new is None) or (old is not None and new is not None and abs(old - new) > spread):
                self.fault(f"{name} of {seen.id} was {old} and is {new} at the new owner; clocks differ by {self.world.spread:.3f}")

    def appended(self, ticket: int, events: Sequence[Event], ask: Ask | None) -> None:
        """See DurableChecker."""
        super().appended(ticket, events, ask)
        self._marks.append(self._unstored.pop()[:3])

    def shadow(self, handed: int) -> Shadow:
        """What a commit up to a ticket tells the store: all that it has not acknowledged yet."""
        jobs: dict[str, Seen | None] = {}
        paused: set[str] | None = None
        for ticket, changed, then in self._marks:
            if ticket > handed:
                break
            jobs |= changed
            paused = then
        return Shadow(jobs, set(self.paused) if paused is None else paused, handed)

    def acknowledged(self, shadow: Shadow) -> None:
        """The store has told the owner that it has this."""
        self.history.note("committed", self.member.name, shadow.mark)
        self.committed = shadow.mark
        self._marks = [one for one in self._marks if one[0] > shadow.mark]

    # What happens.

    def happened(self, event: Event, ask: Ask | None) -> None:
        """See Checker."""
        if not self.over:
            super().happened(event, self.view(ask))
            if event.kind is Kind.ENQUEUED and event.job is not None:
                self.world.ids.made(self, event.job.id)
            if event.kind is Kind.DEQUEUED and event.job is not None and event.job.lease is not None:
                holder = self.leases[event.job.lease.token][1] if event.job.lease.token in self.leases else None
                self.world.handed(self, event.job.lease.token, ask if holder is None else holder.front)
            self.world.places = max(self._places, self.world.places)

    def stands(self, ask: Ask, wait: float) -> None:
        """See Checker."""
        super().stands(ask, wait)
        ask.front.stood_in.add(self.partition)

    def _line_up(self, seen: Seen, anew: bool) -> None:
        self._places = max(self._places, self.world.places)
        super()._line_up(seen, anew)
        self.world.places = max(self._places, self.world.places)

    def asked_again(self, want: Want, ask: Ask, replayed: list[Job]) -> None:
        """See Checker. Another server gives a request an attempt_id of its own where the client gave none."""
        ask.attempt = want.attempt_id
        super().asked_again(want, ask, replayed)

    def refused(self, ask: Ask, error: QueueError) -> None:
        """It has refused a request."""
        if not isinstance(error, LeaseLost | NotInProgress | UnknownJob) or not ask.tokens or "batch" in ask.op or self.over:
            return
        job_id, token = next(iter(ask.tokens.items()))
        seen = self.jobs.get(job_id)
        if seen is not None and seen.status == "in_progress" and seen.token == token:
            self.fault(f"{ask} was refused ({error}) though it came with the live lease of {job_id}")
        elif seen is not None and seen.ended_by == (token, ask.body):
            self.fault(f"{ask} was refused ({error}) though it repeats word for word what concluded {job_id}")

    def answers(self, ask: Ask | None, op: str, reads: bool = False) -> None:
        """It answers a question of its own clients or of another server."""
        if self.world.deposed(self):
            self.fault(f"{op} is answered by {self.member.name}, whose epoch {self.reign.lease.epoch} is over")
        view = None if reads else self.view(ask)
        if view is not None and view.op in CHANGES and view.op not in DEQUEUES and view.ticket > self.committed:
            self.fault(f"{view} was answered before its change was committed")

    def hands_over(self, ask: Ask) -> None:
        """It answers a dequeue with what it took for it."""
        view = self.view(ask)
        assert view is not None
        if view.ticket > self.committed and self._has(view):
            self.fault(f"{view} was answered before its lease was committed")

    def took_back(self, seen: Seen) -> None:
        """See Checker."""
        self.world.took_back(seen.token)

    def stalled(self, began: float) -> None:
        """See Checker. What fell due meanwhile is done in the turns that follow."""
        super().stalled(began)
        self._looked_at = self.now

    def wakes(self, slept: float) -> None:
        """Its machine goes on; so long it slept, and its monotonic clock with it."""
        self.offset -= slept
        for seen in self.jobs.values():
            seen.until += slept
            seen.run_at += slept
            if seen.expires_at is not None:
                seen.expires_at += slept
        for ask in self.standing:
            ask.until += slept

    def left(self, ask: Ask | None) -> None:
        """It is done with a request."""
        view = self.view(ask)
        if view in self.standing:
            self.standing.remove(view)

    def quiet(self) -> None:
        """See Checker."""
        if not self.over and self.member.machine.running and self.journal is not None:
            self.draining, self.closed = self.reign.local.draining, self.reign.over
            Checker.quiet(self)


def view_of(ask: Ask) -> Ask:
    """A request as one owner knows it."""
    view = copy.copy(ask)
    view.handed, view.views, view.front, view.stood_at, view.excused, view.ticket = [], [], ask, None, False, 0
    ask.views.append(view)
    return view
