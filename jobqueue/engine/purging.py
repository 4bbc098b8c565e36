"""Ends everything in a queue at once: waiting jobs, jobs in progress, and what is remembered against new jobs.

A plain purge (admin.py) cancels the waiting jobs, and leaves the jobs in progress to their workers. Here their leases end too, and workers
get `not_in_progress` for their next request, as after a cancel that has taken effect. Failed jobs that halt their keys are given up, and
the times for which unique keys are held are forgotten, whichever job set them: so every later enqueue counts as new.

It covers the jobs that exist when it begins, and ends each of them in whatever state it is by then, if it is still in this queue: ending
one job lets others of its key be handed out, and these must end too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from jobqueue.engine.engine import Engine
from jobqueue.engine.lifecycle import T_PURGE
from jobqueue.engine.ring import pieces
from jobqueue.engine.unique import Window
from jobqueue.model import CANCELLED, CONCLUDED, NOTHING, Conclusion, Job


class Purge:
    """One purge of a queue, which begins now. Raises UnknownQueue."""

    def __init__(self, engine: Engine, name: str) -> None:
        engine.queue(name)
        self._engine = engine
        self._name = name
        self._upto = engine.jobs.next_number

    def windows(self, count: int) -> Iterator[Sequence[Window]]:
        """The times for which unique keys are held now, including those of other queues, at most `count` at a time."""
        return pieces(list(self._engine.uniques.windows.values()), count)

    def jobs(self, count: int) -> Iterator[Sequence[Job]]:
        """The jobs that are live in the queue now, possibly with others, and those that halt keys. Waiting jobs come first, so that few are
        handed out meanwhile.
        """
        engine = self._engine
        queue = engine.queue(self._name)
        lanes = [lane.members(count) for lane in queue.lanes if lane is not None]
        # In one step, since jobs move between these places.
        leased = list(engine.lease_ends.items()) if queue.in_progress else []
        return chain(*lanes, *(pieces(found, count) for found in (list(queue.scheduled.values()), leased, list(engine.pinned))))

    def step(self, now: float, items: Sequence[Job | Window]) -> int:
        """End the jobs and windows of a slice that belong to this queue; returns how many live jobs ended."""
        engine, ended = self._engine, 0
        for item in items:
            if item.queue != self._name:
                continue
            if isinstance(item, Window):
                engine.uniques.forget(item, now)
            elif item.number >= self._upto:
                continue
            elif item.status is not CONCLUDED:
                self._end(item, now)
                ended += 1
            elif item in engine.pinned:
                engine.give_up(item)
        return ended

    def _end(self, job: Job, now: float) -> None:
        engine = self._engine
        queue, lease = engine.queues[job.queue], job.lease
        if lease is None:
            engine.detach(job, queue)
            conclusion = Conclusion(CANCELLED, now)
        else:
            engine.let_go(job, queue, lease)
            conclusion = Conclusion(CANCELLED, now, None, lease.token, None, lease.worker, lease.started_at)
        if job.details.extra is not NOTHING:
            engine.uniques.forget_of(job, now)
        engine.to_concluded(job, queue, T_PURGE, conclusion)
