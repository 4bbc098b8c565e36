"""The bounded history of concluded jobs: one ring per outcome class, bounded by count and by bytes.

A class of its own for each outcome, so that a flood of successes never pushes out the few failures someone wants to look at.
It never touches a live job: only concluded ones are ever put in here.
"""

from __future__ import annotations

from jobqueue.engine.ring import Ring
from jobqueue.engine.sizes import job_bytes
from jobqueue.model import Job, Outcome


class _Kept(Ring):
    """The concluded jobs of one outcome. bytes: what they count together."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0


class History:
    """Concluded jobs, oldest forgotten first, each outcome by itself."""

    __slots__ = ("_bytes_max", "_jobs_max", "_kept")

    def __init__(self, jobs_max: float, bytes_max: float) -> None:
        self._jobs_max = jobs_max
        self._bytes_max = bytes_max
        self._kept = {outcome: _Kept() for outcome in Outcome}

    def add(self, job: Job, outcome: Outcome, size: int) -> list[Job] | None:
        """Take in a concluded job that counts `size` bytes (`job_bytes`); those that are forgotten for it, perhaps itself too, or None."""
        kept = self._kept[outcome]
        kept.append(job)
        kept.bytes += size
        if kept.live <= self._jobs_max and kept.bytes <= self._bytes_max:
            return None
        return self._cut(kept)

    def bound(self, jobs_max: float, bytes_max: float) -> list[Job]:
        """Set other bounds; those that are forgotten for them."""
        self._jobs_max, self._bytes_max = jobs_max, bytes_max
        return [job for kept in self._kept.values() for job in self._cut(kept)]

    def _cut(self, kept: _Kept) -> list[Job]:
        forgotten = []
        while kept.live > self._jobs_max or kept.bytes > self._bytes_max:
            oldest = kept.popleft()
            kept.bytes -= job_bytes(oldest)
            forgotten.append(oldest)
        return forgotten

    def remove(self, job: Job) -> None:
        """Take out a job that is retried."""
        assert job.conclusion is not None
        kept = self._kept[job.conclusion.outcome]
        kept.remove(job)
        kept.bytes -= job_bytes(job)

    def jobs(self, outcome: Outcome) -> list[Job]:
        """The remembered jobs of one outcome, oldest first."""
        return self._kept[outcome].jobs()

    def span(self, outcome: Outcome) -> list[Job | None]:
        """The same with gaps, for who looks at them a slice at a time."""
        return self._kept[outcome].span()

    def counts(self) -> dict[Outcome, tuple[int, int]]:
        """Jobs and bytes held, by outcome."""
        return {outcome: (kept.live, kept.bytes) for outcome, kept in self._kept.items()}
