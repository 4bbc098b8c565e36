"""The bounded history of concluded jobs: one ring per outcome class, bounded by count and by bytes.

A class of its own for each outcome, so that a flood of successes never pushes out the few failures someone wants to look at.
It never touches a live job: only concluded ones are ever put in here.
"""

from __future__ import annotations

from jobqueue.engine.ring import Ring
from jobqueue.model import Job, Outcome


def job_bytes(job: Job) -> int:
    """What a concluded job counts against the byte bound: everything in it that a client chose the size of."""
    size = len(job.payload)
    if job.error is not None:
        size += len(job.error)
    if job.description is not None:
        size += len(job.description)
    for attempt in job.past:
        if attempt.error is not None:
            size += len(attempt.error)
    end = job.conclusion
    if end is not None and end.result is not None:
        size += len(end.result)
    return size


class History:
    """Concluded jobs, oldest forgotten first, each outcome by itself."""

    __slots__ = ("_bytes", "_bytes_max", "_jobs_max", "_rings")

    def __init__(self, jobs_max: int, bytes_max: int) -> None:
        self._jobs_max = jobs_max
        self._bytes_max = bytes_max
        self._rings = {outcome: Ring() for outcome in Outcome}
        self._bytes = dict.fromkeys(Outcome, 0)

    def add(self, job: Job, outcome: Outcome) -> list[Job] | None:
        """Take in a concluded job; those that are forgotten for it, which may include the job itself, or None."""
        ring = self._rings[outcome]
        ring.append(job)
        self._bytes[outcome] += job_bytes(job)
        if len(ring) <= self._jobs_max and self._bytes[outcome] <= self._bytes_max:
            return None
        forgotten = []
        while len(ring) > self._jobs_max or self._bytes[outcome] > self._bytes_max:
            oldest = ring.popleft()
            self._bytes[outcome] -= job_bytes(oldest)
            forgotten.append(oldest)
        return forgotten

    def remove(self, job: Job) -> None:
        """Take out a job that is retried."""
        assert job.conclusion is not None
        self._rings[job.conclusion.outcome].remove(job)
        self._bytes[job.conclusion.outcome] -= job_bytes(job)

    def jobs(self, outcome: Outcome) -> list[Job]:
        """The remembered jobs of one outcome, oldest first."""
        return self._rings[outcome].jobs()

    def counts(self) -> dict[Outcome, tuple[int, int]]:
        """Jobs and bytes held, by outcome."""
        return {outcome: (len(ring), self._bytes[outcome]) for outcome, ring in self._rings.items()}
