"""The bounded history of concluded jobs: one ring per outcome, bounded by count and by bytes.

The outcomes are separate, so that many successes do not push out the few failures that someone may want to look at. Only concluded jobs are
put in here; live jobs are never touched.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobqueue.engine.ring import Ring
from jobqueue.engine.sizes import job_bytes
from jobqueue.model import Job, Outcome


class _Kept(Ring):
    """The concluded jobs with one outcome. bytes: their total size."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0


class History:
    """Concluded jobs, separately by outcome; the oldest are forgotten first."""

    __slots__ = ("_bytes_max", "_jobs_max", "_kept")

    def __init__(self, jobs_max: float, bytes_max: float) -> None:
        self._jobs_max = jobs_max
        self._bytes_max = bytes_max
        self._kept = {outcome: _Kept() for outcome in Outcome}

    def add(self, job: Job, outcome: Outcome, size: int) -> list[Job] | None:
        """Add a concluded job that counts `size` bytes (`job_bytes`); returns the jobs that are forgotten for it, possibly including
        itself, or None.
        """
        kept = self._kept[outcome]
        kept.append(job)
        kept.bytes += size
        if kept.live <= self._jobs_max and kept.bytes <= self._bytes_max:
            return None
        return self._cut(kept)

    def bound(self, jobs_max: float, bytes_max: float) -> list[Job]:
        """Set other bounds; returns the jobs that are forgotten for them."""
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
        """Remove a job that is retried."""
        assert job.conclusion is not None
        kept = self._kept[job.conclusion.outcome]
        kept.remove(job)
        kept.bytes -= job_bytes(job)

    def grow(self, job: Job, size: int) -> None:
        """Count so many more bytes for a job. Nothing is forgotten for this."""
        assert job.conclusion is not None
        self._kept[job.conclusion.outcome].bytes += size

    def jobs(self, outcome: Outcome) -> list[Job]:
        """The jobs with one outcome, oldest first."""
        return self._kept[outcome].jobs()

    def newest_first(self, outcome: Outcome) -> Iterator[Job]:
        """The jobs with one outcome, newest first."""
        return self._kept[outcome].newest_first()

    def span(self, outcome: Outcome) -> list[Job | None]:
        """The same with gaps, for callers that look at them in slices."""
        return self._kept[outcome].span()

    def counts(self) -> dict[Outcome, tuple[int, int]]:
        """Jobs and bytes held, by outcome."""
        return {outcome: (kept.live, kept.bytes) for outcome, kept in self._kept.items()}
