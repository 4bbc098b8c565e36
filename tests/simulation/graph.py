"""What the checker knows of jobs that are tied to others: unique keys, jobs after others, groups. Plain lists, looked through each time.

A world with `graph` has planners (planner.py). What they ask for is read from the jobs that come of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jobqueue.engine.events import Kind
from jobqueue.model import Job

if TYPE_CHECKING:
    from .checker import Checker, Seen

CALLBACK = re.compile(r"(.*-g[0-9]+):(concluded|succeeded)(:[0-9]+)?")
"""The id of a job that a group has enqueued. The number is there when the id was taken, which it must not be here."""


class Ties:
    """What must hold of such jobs. closed: groups that somebody has asked to close, in any life; cancelled: or to cancel."""

    def __init__(self, checker: Checker) -> None:
        self.checker = checker
        self.closed: set[str] = set()
        self.cancelled: set[str] = set()

    def made_by_a_group(self, job: Job) -> bool:
        """Whether a job is a group's, made as it may be."""
        found = CALLBACK.fullmatch(job.id)
        if found is None:
            return False
        group, kind, again = found.groups()
        if again is not None:
            self.checker.fault(f"{job.id} was made, though the group had made its job before")
        if group not in self.closed:
            self.checker.fault(f"{job.id} was made, and nobody has closed the group")
        members = [seen for seen in self.checker.jobs.values() if seen.group == group]
        for seen in members:
            if seen.status != "concluded":
                self.checker.fault(f"{job.id} was made, and {seen.id} is {seen.status}")
            elif kind == "succeeded" and seen.outcome != "succeeded":
                self.checker.fault(f"{job.id} was made, and {seen.id} has {seen.outcome}")
        return True

    def begins(self, seen: Seen, job: Job) -> None:
        """A job was made."""
        extra = job.details.extra
        seen.after, seen.after_failure, seen.group = extra.after, extra.after_failure, extra.group
        seen.held = job.held_back
        claim = extra.claim
        if claim is not None and claim.unique.until == "concluded" and claim.unique.for_ is None:
            seen.unique = claim.unique.key
        self._alone(seen)
        self._let(seen)

    def goes_on(self, seen: Seen, kind: Kind) -> bool:
        """Whether a job was held back to which something happens now."""
        held = seen.held
        if held and kind is not Kind.CONCLUDED:
            seen.held = False
            self._alone(seen)
            self._let(seen)
        return held

    def _let(self, seen: Seen) -> None:
        if seen.held:
            return
        for parent in seen.after:
            known = self.checker.jobs.get(parent)
            if known is None or known.status != "concluded":
                self.checker.fault(f"{seen.id} may run, and {parent} is {'not there' if known is None else known.status}")
            elif known.outcome != "succeeded" and seen.after_failure != "run":
                self.checker.fault(f"{seen.id} may run, and {parent} has {known.outcome}")

    def _others(self, seen: Seen) -> list[Seen]:
        """Live jobs that have the unique key of this one, and do not wait for it."""
        return [
            other
            for other in self.checker.jobs.values()
            if other is not seen
            and other.unique == seen.unique
            and other.queue == seen.queue
            and other.status != "concluded"
            and not (other.held and not self._waits_for_jobs(other))
        ]

    def _alone(self, seen: Seen) -> None:
        if seen.unique is not None and not seen.held and (others := self._others(seen)):
            self.checker.fault(f"{seen.id} has the unique key {seen.unique} of {seen.queue}, which {others[0].id} has")

    def _waits_for_jobs(self, seen: Seen) -> bool:
        jobs = self.checker.jobs
        return any((known := jobs.get(parent)) is not None and not self._done(seen, known) for parent in seen.after)

    def _done(self, seen: Seen, parent: Seen) -> bool:
        return parent.status == "concluded" and (parent.outcome == "succeeded" or seen.after_failure == "run")

    def may_be_cancelled(self, seen: Seen, by_enqueue: bool) -> bool:
        """Whether a job may end, cancelled, that nobody has cancelled by its id."""
        if seen.group is not None and seen.group in self.cancelled:
            return True
        jobs = self.checker.jobs
        if seen.held and seen.after_failure == "cancel":
            ended = [known for parent in seen.after if (known := jobs.get(parent)) is not None and known.status == "concluded"]
            if any(known.outcome != "succeeded" for known in ended):
                return True
        # Superseded by one that waits for the same key.
        return seen.held and seen.unique is not None and by_enqueue

    def quiet(self) -> None:
        """Nothing is left to do at this instant: nobody is held back by nothing."""
        jobs = self.checker.jobs
        for seen in jobs.values():
            if not seen.held or seen.status == "concluded":
                continue
            if seen.after_failure == "cancel" and any(
                (known := jobs.get(parent)) is not None and known.status == "concluded" and known.outcome != "succeeded"
                for parent in seen.after
            ):
                self.checker.fault(f"{seen.id} waits for what did not succeed")
            elif not self._waits_for_jobs(seen) and (seen.unique is None or not self._others(seen)):
                self.checker.fault(f"{seen.id} is held back by nothing")
