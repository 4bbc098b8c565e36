"""Jobs that are after others (their parents): what happens to them when the parents end.

A job that is after others is held back (`Job.held_back`) until all of them have ended as it requires. When a job ends, the edges to its
children are processed: 500 in the same step, the rest in slices, by a chore. Processing an edge twice gives the same result, so a restart
that interrupts a chore needs no special handling: `resume` processes all edges whose parent has ended, in slices.

A child counts an edge once its parent has ended as required. When it has counted all of them, it checks each again, since a failed parent
may have been retried meanwhile; it waits again for parents that are live. So a retry costs nothing, however many children there are.

Parents that have ended are kept (`State.kept`) until their last child has ended, so no child ever waits for an unknown job. Children are
enqueued after their parents, so there are no circles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from jobqueue.engine.events import K_CHANGED, Event
from jobqueue.engine.lifecycle import T_LET_RUN
from jobqueue.engine.ring import pieces
from jobqueue.engine.sizes import details_bytes, job_bytes
from jobqueue.engine.state import State
from jobqueue.errors import QueueFull, UnknownParent
from jobqueue.model import CANCELLED, CONCLUDED, SUCCEEDED, Conclusion, Job, JobSpec, Parent

SLICE: Final = 500
"""Edges processed in one step."""

_CAUSE = b'{"after":'
"""The beginning of the error of a job that was cancelled because another one did not succeed."""

_UNKNOWN = b'{"after":null}'

Walk = tuple[str, Iterator[int]]
"""A job that has ended, and its children that have yet to process this."""


def error_of(job: Job) -> bytes:
    """The error of a job that is cancelled because its parent `job` did not succeed: it names the first job that did not."""
    error = job.details.error
    if job.outcome is CANCELLED and error is not None and error.startswith(_CAUSE):
        return error
    return msgspec.json.encode({"after": job.id, "outcome": job.outcome})


class Owner(Protocol):
    """The engine; only it knows all that can hold a job back."""

    def go_on(self, job: Job, now: float) -> None:
        """A job no longer waits for others."""


class Graph:
    """The engine's handling of `after`. owner: the engine."""

    def __init__(self, state: State, owner: Owner) -> None:
        self._owner = owner
        self.edges = state.edges
        self._state = state
        self._work: deque[Walk] | None = None
        """The work in progress; jobs that end meanwhile are added behind it."""
        self._later: deque[Walk] = deque()
        """The work of the chore, if there is one."""
        self._at, self._room = -1.0, 0
        """The time of the last step in which a parent ended, and how many edges can still be processed in it: many parents can end in one
        step.
        """

    # Enqueue.

    def check_room(self, spec: JobSpec) -> None:
        """Check that a job can be after the parents that it names. Raises UnknownParent, QueueFull; changes nothing."""
        by_id = self._state.jobs.by_id
        for parent in spec.after:
            if parent not in by_id:
                raise UnknownParent(parent)
        most = self._state.limits.edges_max
        if self.edges.count + len(spec.after) > most:
            raise QueueFull(f"live jobs are after {self.edges.count} others in total; {most} are allowed", "after")

    def enter(self, job: Job, now: float) -> None:
        """A new job is held back, though perhaps not for long."""
        after = job.details.extra.after
        self.edges.add(job.number, after)
        self.edges.held[job.number] = len(after)
        for parent in after:
            self.keep(parent)
        for parent in after:
            if self._state.jobs.found(parent).status is CONCLUDED:
                self._look(parent, job.number, now)

    def keep(self, parent: str) -> None:
        """Take a job out of history, if it is there, since another job is after it."""
        state = self._state
        job = state.jobs.find(parent)
        if job is not None and job.status is CONCLUDED and job not in state.kept and job not in state.pinned:
            state.history.remove(job)
            state.keep(job, job_bytes(job))

    # Calls from the engine.

    def concluded(self, job: Job) -> None:
        """A job has ended that may be after others, or have others after it."""
        if job.details.extra.after:
            self.left(job)
        if job.id not in self.edges.children:
            return
        walk = job.id, iter(self.edges.of(job.id))
        if self._work is not None:
            self._work.append(walk)
            return
        work = deque([walk])
        assert job.conclusion is not None
        now = job.conclusion.concluded_at
        if now != self._at:
            self._at, self._room = now, SLICE
        if self._room > 0:
            self._room -= self._slice(work, now, self._room)
        if work:
            begun = bool(self._later)
            self._later.extend(work)
            if not begun:
                self._state.do_later(self._chore(self._later))

    def left(self, job: Job) -> None:
        """A job that was after others is no longer live."""
        state = self._state
        for parent in self.edges.drop(job.number, job.details.extra.after):
            known = state.jobs.find(parent)
            if known is not None and known in state.kept:
                size = state.unkeep(known)
                # In this order, so that a restart puts them into history in the same order.
                state.events.append(Event(K_CHANGED, known.queue, known))
                assert known.conclusion is not None
                state.remember(known, known.conclusion.outcome, size)

    def retried(self, job: Job) -> None:
        """A job that may be after others was retried: it waits for none of them, and is given their outcomes."""
        after = job.details.extra.after
        if after:
            self.edges.add(job.number, after)
            for parent in after:
                self.keep(parent)

    def lives(self, job: Job) -> None:
        """A live job was restored. `resume` processes its edges."""
        after = job.details.extra.after
        if after:
            self.edges.add(job.number, after)
            if job.held_back:
                self.edges.held[job.number] = len(after)

    def resume(self) -> None:
        """Process all edges, the first at once and the rest in slices: after a restart none is counted."""
        looking = self._look_again(list(self.edges.children))
        looked = 0
        for more in looking:
            looked += more
            if looked > SLICE:
                self._state.do_later(looking)
                return

    def _look_again(self, parents: list[str]) -> Iterator[int]:
        find = self._state.jobs.find
        for part in pieces(parents, SLICE):
            ended = [parent for parent in part if (job := find(parent)) is None or job.status is CONCLUDED]
            yield len(part)
            yield from self._chore(deque((parent, iter(self.edges.of(parent))) for parent in ended))

    # Processing edges.

    def _chore(self, work: deque[Walk]) -> Iterator[int]:
        while work:
            yield self._slice(work, self._state.now)

    def _slice(self, work: deque[Walk], now: float, most: int = SLICE) -> int:
        """Process `most` edges, or as many more as the last child checks again; returns how many."""
        self._work = work
        looked = 1
        try:
            while work and looked < most:
                parent, children = work[0]
                child = next(children, None)
                if child is None:
                    work.popleft()
                else:
                    looked += self._look(parent, child, now)
        finally:
            self._work = None
        return looked

    def _look(self, parent: str, child: int, now: float) -> int:
        """Let a waiting child process the end of one of its parents; returns how many edges were processed."""
        state = self._state
        job = state.jobs.numbered(child)
        if job is None or child not in self.edges.held or self.edges.counted(parent, child):
            return 1
        known = state.jobs.find(parent)
        extra = job.details.extra
        if known is not None and known.status is not CONCLUDED:
            # The parent was retried before this child was processed.
            return 1
        if extra.after_failure == "run" or (known is not None and known.outcome is SUCCEEDED):
            return self._count(parent, job, now)
        if extra.after_failure == "cancel" or known is None:
            # A parent that is not known, which should not happen, must not be waited for.
            self._cancel(job, _UNKNOWN if known is None else error_of(known), now)
            return 1 + len(extra.after)
        return 1

    def _count(self, parent: str, job: Job, now: float) -> int:
        edges, find = self.edges, self._state.jobs.find
        edges.mark(parent, job.number, True)
        edges.held[job.number] -= 1
        if edges.held[job.number]:
            return 1
        for each in job.details.extra.after:
            other = find(each)
            if other is not None and other.status is not CONCLUDED:
                # It was retried since.
                edges.mark(each, job.number, False)
                edges.held[job.number] += 1
        if not edges.held[job.number]:
            del edges.held[job.number]
            self._owner.go_on(job, now)
        return 1 + len(job.details.extra.after)

    def _cancel(self, job: Job, error: bytes, now: float) -> None:
        state = self._state
        queue = state.queues[job.queue]
        was = details_bytes(job.details)
        job.details = replace(job.details, error=error)
        # The child ends in this step, so it needs no room.
        state.live_bytes += details_bytes(job.details) - was
        state.detach(job, queue)
        state.to_concluded(job, queue, T_LET_RUN, Conclusion(CANCELLED, now))

    # Reading.

    def waits_for(self, job: Job) -> tuple[str, ...]:
        """The ids of the parents that a held-back job waits for."""
        find = self._state.jobs.find
        return tuple(parent for parent in job.details.extra.after if not self._done(find(parent), job))

    def _done(self, parent: Job | None, job: Job) -> bool:
        if parent is None or parent.status is not CONCLUDED:
            return False
        return parent.outcome is SUCCEEDED or job.details.extra.after_failure == "run"

    def parents(self, job: Job, room: int) -> tuple[tuple[Parent, ...], int]:
        """How a job's parents ended, with their results if there is room for so many bytes; and how many bytes are left."""
        found = []
        for parent in job.details.extra.after:
            known = self._state.jobs.find(parent)
            end = None if known is None else known.conclusion
            result = None if end is None else end.result
            left_out = result is not None and len(result) > room
            if result is not None and not left_out:
                room -= len(result)
            found.append(Parent(parent, None if end is None else end.outcome, None if left_out else result, left_out))
        return tuple(found), room

    def check(self) -> None:
        """Assert that the counts are correct, while no chore is running."""
        edges, jobs = self.edges, self._state.jobs
        there: dict[tuple[str, int], Job] = {}
        for job in jobs.all():
            if job.status is not CONCLUDED:
                there.update({(parent, job.number): job for parent in job.details.extra.after})
        counted = {(parent, child) for parent in edges.children for child in edges.of(parent)}
        assert counted == there.keys(), "edges are those of live jobs"
        assert edges.count == len(counted)
        waiting = {job.number for job in there.values() if job.held_back}
        edges_of = {child: parent for parent, child in there}
        assert edges.held.keys() <= waiting, "who waits for others is held back"
        for number in edges.held:
            job = there[edges_of[number], number]
            uncounted = [parent for parent in job.details.extra.after if not edges.counted(parent, number)]
            assert len(uncounted) == edges.held[number] > 0
            for parent in uncounted:
                other = jobs.found(parent)
                assert not self._done(other, job), "what has ended has been counted"
                assert job.details.extra.after_failure != "cancel" or other.status is not CONCLUDED, "it is to be cancelled"
        ended = {parent for parent in edges.children if (known := jobs.find(parent)) is not None and known.status is CONCLUDED}
        pinned = {job.id for job in self._state.pinned}
        assert {job.id for job in self._state.kept} == ended - pinned, "parents are kept, and nothing else"
