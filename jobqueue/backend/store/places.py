"""In which partition jobs are, as far as this server has seen."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from jobqueue.model import Job
from jobqueue.partition import home_of, partition_of_number

KNOWN_MAX = 50_000
"""Ids that are remembered, and numbers: about 10 MB each when full."""

K = TypeVar("K", bound=Hashable)


class _Recent(Generic[K]):
    """The partitions of the keys that were last set; the oldest are forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: K) -> int | None:
        return self._known.get(key)

    def set(self, key: K, index: int) -> None:
        known = self._known
        if key in known:
            known[key] = index
            return
        if len(known) >= self._most:
            del known[next(iter(known))]
        known[key] = index

    def drop(self, key: K) -> None:
        self._known.pop(key, None)


class Places:
    """Where to look first for a job. What is wrong here costs a question more, and nothing else.

    Only jobs are remembered that are not where their id or number says, so that jobs whose ids the servers made cost nothing.
    """

    def __init__(self, count: int, most: int = KNOWN_MAX) -> None:
        self.count = count
        self._ids: _Recent[str] = _Recent(most)
        self._numbers: _Recent[int] = _Recent(most)

    def __len__(self) -> int:
        return len(self._ids)

    def of_id(self, job_id: str) -> int:
        """The partition to ask first for a job."""
        known = self._ids.get(job_id)
        return home_of(job_id, self.count) if known is None else known

    def known(self, job_id: str) -> bool:
        """Whether it is remembered where this job is."""
        return self._ids.get(job_id) is not None

    def of_number(self, number: int) -> int:
        """The partition to ask first for the job with this number."""
        known = self._numbers.get(number)
        return partition_of_number(number, self.count) if known is None else known

    def seen(self, job: Job, index: int) -> None:
        """A job is in this partition."""
        self.seen_id(job.id, index)
        if partition_of_number(job.number, self.count) != index:
            self._numbers.set(job.number, index)

    def seen_id(self, job_id: str, index: int) -> None:
        """A job with this id is in this partition."""
        if home_of(job_id, self.count) != index:
            self._ids.set(job_id, index)
        elif len(self._ids):
            self._ids.drop(job_id)

    def all_seen(self, jobs: Iterable[Job], index: int) -> None:
        """These jobs are in this partition."""
        for job in jobs:
            self.seen(job, index)
