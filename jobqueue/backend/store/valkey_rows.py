"""Rows of one partition in Valkey, read into memory, each checked against its checksum when it is requested."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from zlib import crc32

from jobqueue.backend.loading import CannotOpen, JobRows
from jobqueue.backend.store.valkey_moment import whole

Pairs = dict[bytes, bytes]


class ValkeyRows:
    """Rows in memory, each checked when it is requested. buckets: number, states and payloads, in order."""

    def __init__(
        self, path: str, counters: bytes | None, queues: Pairs, counts: dict[int, int], buckets: list[tuple[int, Pairs, Pairs]]
    ) -> None:
        self._path = path
        self._counters = counters
        self._queues = queues
        self._counts = counts
        self._buckets = buckets

    @property
    def path(self) -> str:
        """See Rows.path."""
        return self._path

    def counters(self) -> bytes | None:
        """See Rows.counters."""
        return None if self._counters is None else self._whole(self._counters, 0, "the row of counters")

    def queues(self) -> Iterable[tuple[str, bytes]]:
        """See Rows.queues."""
        for key, row in sorted(self._queues.items()):
            try:
                name = key.decode()
            except UnicodeDecodeError:
                raise self._damaged(f"a queue is called {key!r}") from None
            yield name, self._whole(row, crc32(key), f"queue {name!r}")

    def count(self) -> int:
        """See Rows.count."""
        for number, states, payloads in self._buckets:
            jobs = self._counts[number]
            if not len(states) == len(payloads) == jobs:
                raise self._damaged(f"bucket {number} should have {jobs} jobs and has {len(states)}, and {len(payloads)} payloads")
        return sum(self._counts.values())

    def jobs(self) -> Iterator[JobRows]:
        """See Rows.jobs."""
        for number, state, payload in self.loose_jobs():
            if payload is None:
                raise self._damaged(f"job number {number} has no payload")
            yield JobRows(number, state, payload)

    def loose_jobs(self) -> Iterator[tuple[int, bytes, bytes | None]]:
        """See LooseRows.jobs."""
        for bucket, states, payloads in self._buckets:
            try:
                numbers = sorted((int(key), key) for key in states)
            except ValueError:
                raise self._damaged(f"bucket {bucket} has a job without a number") from None
            for number, key in numbers:
                payload = payloads.get(key)
                state = self._whole(states[key], number, f"job number {number}")
                yield number, state, None if payload is None else self._whole(payload, number, f"the payload of job number {number}")

    def _whole(self, row: bytes, salt: int, what: str) -> bytes:
        return whole(self._path, row, salt, what)

    def _damaged(self, what: str) -> CannotOpen:
        return CannotOpen(f"{self._path}: is damaged: {what}")


class LooseValkeyRows:
    """Rows that were read while they changed."""

    def __init__(self, rows: ValkeyRows) -> None:
        self.path = rows.path
        self.counters = rows.counters
        self.queues = rows.queues
        self.jobs = rows.loose_jobs
