"""What a store holds, in numbers that can be compared: how many jobs, queues, schedules and groups, and a hash of each.

A hash is a sum over all of its kind, so neither the order nor the number of partitions matters: it is the same before and after a move from
one number of partitions to another. Left out is what a move changes: in which order jobs of different queues changed, how a sum over all
queues was sampled, which workers are quiet, and the claims of ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from jobqueue.backend.loading import JobRows, Rows
from jobqueue.backend.rows import decode_job, encode_job
from jobqueue.engine import logs, unique
from jobqueue.engine.groups import KIND as GROUP
from jobqueue.engine.groups import TALLY
from jobqueue.engine.schedules import KIND as SCHEDULE
from jobqueue.engine.tasks import KIND as TASK

_BYTES = 8
_MODULUS = 1 << 8 * _BYTES

_KINDS = {SCHEDULE: "schedules", GROUP: "groups", TALLY: "tallies", logs.KIND: "logs", unique.KIND: "windows", TASK: "tasks"}

SHOWN = {
    "jobs": ("job", "jobs", ("jobs", "logs")),
    "queues": ("queue", "queues", ("queues", "windows", "tasks")),
    "schedules": ("schedule", "schedules", ("schedules",)),
    "groups": ("group", "groups", ("groups", "tallies")),
}
"""What is shown, with its singular and plural, and of what its hash is made: the logs of jobs count with the jobs, unique keys that are
held for a time, and redrives, with the queues."""


class Contents:
    """Counts and hashes. Add every job and every other row once."""

    def __init__(self) -> None:
        names = ("jobs", "queues", *_KINDS.values())
        self.counts = dict.fromkeys(names, 0)
        self._sums = dict.fromkeys(names, 0)

    def add_job(self, number: int, state: bytes, payload: bytes) -> None:
        """Add a job by its rows. Raises BadRow."""
        job = decode_job(number, state, b"").job
        # Written anew: the row of an older server has fewer fields. When a job changed last is left out.
        self._add("jobs", b"%d" % number, encode_job(job, 0), payload)

    def add_named(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Add rows of queues and other things (things.py)."""
        for name, row in rows:
            kind, slash, _ = name.partition("/")
            known = _KINDS.get(kind + slash) if slash else "queues"
            if known is not None:
                self._add(known, name.encode(), row)

    def _add(self, kind: str, *parts: bytes) -> None:
        hashed = hashlib.blake2b(digest_size=_BYTES)
        for part in parts:
            hashed.update(len(part).to_bytes(8))
            hashed.update(part)
        self.counts[kind] += 1
        self._sums[kind] = (self._sums[kind] + int.from_bytes(hashed.digest())) % _MODULUS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Contents) and (self.counts, self._sums) == (other.counts, other._sums)

    __hash__ = None  # type: ignore[assignment] # it changes

    def __str__(self) -> str:
        shown = []
        for name, (one, many, parts) in SHOWN.items():
            count, total = self.counts[name], sum(self._sums[part] for part in parts) % _MODULUS
            shown.append(f"{count} {one if count == 1 else many} {total:0{2 * _BYTES}x}")
        return ", ".join(shown)


class Counted:
    """Rows that are added to `contents` as they are read. A Rows."""

    def __init__(self, rows: Rows, contents: Contents) -> None:
        self._rows = rows
        self._contents = contents

    @property
    def path(self) -> str:
        """See Rows.path."""
        return self._rows.path

    def counters(self) -> bytes | None:
        """See Rows.counters."""
        return self._rows.counters()

    def queues(self) -> Iterator[tuple[str, bytes]]:
        """See Rows.queues."""
        for name, row in self._rows.queues():
            self._contents.add_named(((name, row),))
            yield name, row

    def count(self) -> int:
        """See Rows.count."""
        return self._rows.count()

    def jobs(self) -> Iterator[JobRows]:
        """See Rows.jobs."""
        for number, state, payload in self._rows.jobs():
            self._contents.add_job(number, state, payload)
            yield JobRows(number, state, payload)
