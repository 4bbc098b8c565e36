"""Limits of a queue on its concluded jobs, by age and by count, if the server's history would keep more.

Owns: which jobs in history belong to a queue with such a rule, by outcome, in the order in which they arrived. From the first rule on,
`State.history` is a `KeptHistory`; before that nothing here runs, and afterwards a queue without a rule costs one dict lookup.

Each job enters a shelf once and leaves it once, so a rule costs O(1) per job. The ticker forgets jobs that are too old, in slices; a shelf
has one due time, that of its oldest job. A job that halts its key is not in history, and so on no shelf.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator

from jobqueue.engine.history import History
from jobqueue.engine.state import State
from jobqueue.model import SUCCEEDED, Job, Outcome
from jobqueue.policy import Keep, QueuePolicy

SLICE = 50
"""Jobs forgotten in one step of the ticker."""

_LOOKED = 500
"""Jobs looked at in one step of a walk."""


class Shelf:
    """The jobs in history of one queue and one outcome, oldest first. filling: jobs from before the rule are still being added."""

    __slots__ = ("filling", "gone", "history", "jobs", "outcome", "queue", "rule")

    def __init__(self, history: KeptHistory, queue: str, outcome: Outcome, rule: Keep) -> None:
        self.history = history
        self.queue = queue
        self.outcome = outcome
        self.rule = rule
        # Not a dict: taking the oldest item of a dict is O(n) once many were removed at its front.
        self.jobs: OrderedDict[Job, None] = OrderedDict()
        self.filling = False
        self.gone = False

    def due_at(self) -> float:
        """When the next job is too old, infinity for never; minus infinity if there are too many."""
        rule = self.rule
        if rule.count is not None and len(self.jobs) > rule.count:
            return -math.inf
        if rule.seconds is None or not self.jobs:
            return math.inf
        conclusion = next(iter(self.jobs)).conclusion
        assert conclusion is not None
        return conclusion.concluded_at + rule.seconds

    def forget(self, now: float) -> list[Job]:
        """Remove some of the jobs that are not to be kept; returns them."""
        forgotten: list[Job] = []
        if self.gone or self.filling:
            return forgotten
        while len(forgotten) < SLICE and self.due_at() <= now:
            oldest = next(iter(self.jobs))
            self.history.remove(oldest)
            forgotten.append(oldest)
        self.history.arm(self)
        return forgotten


class KeptHistory(History):
    """A history that indexes the jobs of queues with a rule. It replaces the plain one, and takes over its jobs."""

    __slots__ = ("_shelves", "_state")

    def __init__(self, state: State) -> None:
        for slot in History.__slots__:
            setattr(self, slot, getattr(state.history, slot))
        self._state = state
        self._shelves: dict[str, dict[Outcome, Shelf]] = {}

    def add(self, job: Job, outcome: Outcome, size: int) -> list[Job] | None:
        """See History. Also returns jobs that the rule of the job's queue no longer keeps, at most two: what a new rule removes is removed
        in slices.
        """
        shelf = self._shelf(job.queue, outcome)
        if shelf is None:
            return super().add(job, outcome, size)
        # This comes first: otherwise a job that is forgotten at once would stay on the shelf.
        shelf.jobs[job] = None
        forgotten = super().add(job, outcome, size)
        if self._state.follows:
            return forgotten
        forgotten = forgotten or []
        most = shelf.rule.count
        if most is not None and not shelf.filling:
            for _ in range(min(2, len(shelf.jobs) - most)):
                oldest = next(iter(shelf.jobs))
                self.remove(oldest)
                forgotten.append(oldest)
        if shelf.rule.seconds is not None and self._state.deadlines.due(shelf) is None:
            self.arm(shelf)
        return forgotten

    def remove(self, job: Job) -> None:
        """See History."""
        self._drop(job)
        super().remove(job)

    def _cut(self, kept: object) -> list[Job]:
        forgotten = super()._cut(kept)  # type: ignore[arg-type] # a class of history's own
        for job in forgotten:
            self._drop(job)
        return forgotten

    def _drop(self, job: Job) -> None:
        assert job.conclusion is not None
        shelf = self._shelf(job.queue, job.conclusion.outcome)
        if shelf is not None:
            shelf.jobs.pop(job, None)

    def _shelf(self, queue: str, outcome: Outcome) -> Shelf | None:
        shelves = self._shelves.get(queue)
        return None if shelves is None else shelves.get(outcome)

    def arm(self, shelf: Shelf) -> None:
        """Set when the ticker looks at a shelf next. A shelf that is being filled is looked at when that is done."""
        due = math.inf if shelf.filling or shelf.gone else shelf.due_at()
        if due == math.inf:
            self._state.deadlines.drop(shelf)
        else:
            self._state.deadlines.set(shelf, due)

    def arm_all(self) -> None:
        """The same for all shelves, once this engine makes its own decisions."""
        for shelf in self.shelves():
            self.arm(shelf)

    def shelves(self) -> list[Shelf]:
        """All shelves."""
        return [shelf for shelves in self._shelves.values() for shelf in shelves.values()]

    def keep(self, queue: str, outcome: Outcome, rule: Keep | None) -> None:
        """Give a queue a new rule for an outcome, None for none."""
        shelf = self._shelf(queue, outcome)
        if shelf is not None and shelf.rule == rule:
            return
        if rule is None:
            if shelf is not None:
                shelf.gone = True
                self._state.deadlines.drop(shelf)
                del self._shelves[queue][outcome]
                if not self._shelves[queue]:
                    del self._shelves[queue]
        elif shelf is None:
            shelf = Shelf(self, queue, outcome, rule)
            self._shelves.setdefault(queue, {})[outcome] = shelf
            if self._kept[outcome].live:
                shelf.filling = True
                self._state.do_later(self._fill(shelf))
        else:
            shelf.rule = rule
            self.arm(shelf)

    def _fill(self, shelf: Shelf) -> Iterator[int]:
        """Add the jobs that were in history before the shelf, from the newest down, in front of those added since."""
        left = self.span(shelf.outcome)
        while left and not shelf.gone:
            part = left[-_LOOKED:]
            del left[-_LOOKED:]
            for job in reversed(part):
                # It may have left history since, or returned to it: then it is on the shelf already.
                if job is None or job.queue != shelf.queue or job.slot == -1 or job in shelf.jobs:
                    continue
                if job.conclusion is not None and job.conclusion.outcome is shelf.outcome:
                    shelf.jobs[job] = None
                    shelf.jobs.move_to_end(job, last=False)
            yield len(part)
        shelf.filling = False
        self.arm(shelf)


def keep_by(state: State, queue: str, policy: QueuePolicy) -> None:
    """Keep a queue's concluded jobs as its policy says. One rule applies to all outcomes but success, to each separately."""
    history = state.history
    if not isinstance(history, KeptHistory):
        if policy.keep_succeeded is None and policy.keep_failed is None:
            return
        history = state.history = KeptHistory(state)
    for outcome in Outcome:
        history.keep(queue, outcome, policy.keep_succeeded if outcome is SUCCEEDED else policy.keep_failed)
