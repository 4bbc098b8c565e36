"""Joins the rows of several partitions into those of one, as a file holds them.

Jobs keep their ids and numbers, which differ between partitions already. Each partition numbers the changes of its jobs itself, and the
order of changes decides which ended jobs are forgotten first: so the changes of all are numbered anew, each partition's in its own order,
and between partitions by the times that the jobs show. Claims (engine/claims.py) are left out, since one partition has all ids.

Each partition is as it was at a moment of its own. So an id can come twice, if its job was forgotten in one partition, and the id used anew
in another, between the two moments; the job that has ended is left out then.

Pure: it writes to and reads from a Target, and holds each job's id and number, and the rows of everything but jobs.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from jobqueue.backend.contents import Contents
from jobqueue.backend.group import Group
from jobqueue.backend.loading import CannotOpen, JobRows, Progress, check_whole, no_progress
from jobqueue.backend.rows import BadRow, Counters, decode_counters, decode_job, decode_queue, encode_counters, encode_job, encode_queue
from jobqueue.backend.snapshots import shifted
from jobqueue.backend.things import decode_quiet, decode_samples, encode_samples
from jobqueue.backend.windows import decode_window, encode_window
from jobqueue.engine import logs, samples, unique
from jobqueue.engine.claims import CLAIM, FLOOR
from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import set_queue
from jobqueue.engine.state import QUIET
from jobqueue.model import PLAIN, Job
from jobqueue.partition import partition_of

CHUNK = 512
"""Jobs read and written at once."""


class Target(Protocol):
    """Where the rows go. It can be read meanwhile."""

    def write(self, group: Group) -> None:
        """Write and delete these rows. Raises NotNow, Fatal."""

    def these(self, numbers: Sequence[int]) -> Iterable[JobRows]:
        """See Source.these."""


class _Partition:
    """What is known of one partition. by: what is added to its times."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.named: dict[str, bytes] = {}
        self.counters: Counters | None = None
        self.by = 0.0
        self.changes = array("q")
        """The number of the last change of each job, in the order of jobs."""
        self.ats = array("d")
        """When each job ended or, if it has not, was made."""


class Joining:
    """One run. Call `take` with the groups of each partition, then its `end`; and after the last one `finish`."""

    def __init__(self, path: str, target: Target, count: int) -> None:
        self.contents = Contents()
        """What was joined."""
        self._path = path
        self._target = target
        self._partitions = [_Partition() for _ in range(count)]
        self._gone: dict[int, str] = {}
        """The jobs that were left out: ids by number."""
        self._parents: set[str] = set()
        """The jobs that live jobs are after."""

    @property
    def left_out(self) -> int:
        """How many jobs were left out, since their ids were used anew."""
        return len(self._gone)

    def take(self, index: int, group: Group) -> None:
        """Write jobs of a partition, as they come from Store.moment."""
        numbers = self._partitions[index].numbers
        for number, state in group.states.items():
            if state is None:
                numbers.discard(number)
            else:
                numbers.add(number)
        self._target.write(group)

    def end(self, index: int, counters: bytes | None, named: Mapping[str, bytes], jobs: int) -> None:
        """A partition's moment is over. jobs: how many it has. Raises CannotOpen."""
        check_whole(self._path, counters)
        partition = self._partitions[index]
        if len(partition.numbers) != jobs:
            raise self._damaged(f"partition {index} should have {jobs} jobs, and {len(partition.numbers)} could be read")
        others = (other for at, other in enumerate(self._partitions) if at != index)
        if twice := next((other.numbers & partition.numbers for other in others if not other.numbers.isdisjoint(partition.numbers)), None):
            raise self._damaged(f"job number {min(twice)} is in two partitions")
        try:
            partition.counters = None if counters is None else decode_counters(counters)
        except BadRow as error:
            raise self._damaged(f"partition {index}: {error}") from error
        partition.named = dict(named)

    def finish(self, progress: Progress = no_progress) -> int:
        """Write everything else. Returns the number of jobs. Raises CannotOpen, and what the target raises."""
        try:
            return self._finish(progress)
        except BadRow as error:
            raise self._damaged(str(error)) from error

    def _finish(self, progress: Progress) -> int:
        counters = self._counters()
        total = sum(len(partition.numbers) for partition in self._partitions)
        progress(0, 2 * total)
        self._read(progress, total)
        changes = self._number_anew(progress, total)
        named = self._named()
        self.contents.add_named(named.items())
        rows = list(named.items())
        for start in range(0, len(rows), CHUNK):
            self._write(Group(), named=dict(rows[start : start + CHUNK]))
        self._write(Group(), counters=encode_counters(counters))
        progress(2 * total, 2 * total)
        return changes

    def _write(self, group: Group, *, named: Mapping[str, bytes] | None = None, counters: bytes = b"") -> None:
        group.queue_rows = dict(named or {})
        group.queues = set(group.queue_rows)
        group.counters = counters
        group.due = True
        self._target.write(group)

    def _damaged(self, fault: str) -> CannotOpen:
        return CannotOpen(f"{self._path}: is damaged: {fault}")

    # Counters and the time line.

    def _counters(self) -> Counters:
        """The counters of the whole: the time line of the partition that was written last, and the next number above all."""
        known = [partition.counters for partition in self._partitions if partition.counters is not None]
        if not known:
            raise CannotOpen(f"{self._path}: holds nothing yet")
        last = max(known, key=lambda counters: counters.at + counters.skew)
        for partition in self._partitions:
            if partition.counters is not None:
                # UTC is the same on both lines: time + skew.
                partition.by = partition.counters.skew - last.skew
        following = max(max(counters.next_number, counters.next_seq) for counters in known)
        return replace(last, next_number=following, next_seq=following, reign="", group=0)

    # Jobs.

    def _read(self, progress: Progress, total: int) -> None:
        """Check every job, and note when it changed."""
        ids: dict[str, int] = {}
        done = 0
        for index, partition in enumerate(self._partitions):
            for number, state, _ in self._these(sorted(partition.numbers)):
                job, change = decode_job(number, state, b"")
                if self._at(job.queue) != index:
                    raise self._damaged(f"job {job.id!r} of queue {job.queue!r} is in partition {index}, not in {self._at(job.queue)}")
                done += 1
                if done % CHUNK == 0:
                    progress(done, 2 * total)
                partition.changes.append(change)
                partition.ats.append(partition.by + (job.created_at if job.conclusion is None else job.conclusion.concluded_at))
                if job.conclusion is None and job.details is not PLAIN:
                    self._parents.update(job.details.extra.after)
                if ids.setdefault(job.id, number) != number:
                    ids[job.id] = self._one_of(ids[job.id], number)
        for job_id in self._gone.values():
            if job_id in self._parents:
                raise self._twice(job_id, "and other jobs are after one of them")

    def _at(self, queue: str) -> int:
        return partition_of(queue, len(self._partitions))

    def _these(self, numbers: Sequence[int]) -> Iterator[JobRows]:
        for start in range(0, len(numbers), CHUNK):
            yield from list(self._target.these(numbers[start : start + CHUNK]))

    def _one_of(self, one: int, other: int) -> int:
        """Leave out one of two jobs with the same id; returns the number of the other."""
        jobs = [decode_job(number, state, b"").job for number, state, _ in self._these(sorted((one, other)))]
        # The one that ended first was forgotten first; a job that has not ended is kept in any case.
        jobs.sort(key=lambda job: (job.conclusion is None, 0.0 if job.conclusion is None else job.conclusion.concluded_at))
        gone, kept = jobs
        if gone.conclusion is None or _matters(gone):
            raise self._twice(gone.id, f"number {gone.number} in queue {gone.queue!r} and number {kept.number} in queue {kept.queue!r}")
        group = Group()
        group.forget(gone.number)
        self._write(group)
        self._gone[gone.number] = gone.id
        return kept.number

    def _twice(self, job_id: str, where: str) -> CannotOpen:
        return CannotOpen(
            f"{self._path}: two jobs have the id {job_id!r}, {where}; a file can hold only one: let one of them end, and try again when "
            "history has forgotten it"
        )

    def _number_anew(self, progress: Progress, total: int) -> int:
        """Number the changes of all jobs in one order; returns how many jobs there are."""
        by: dict[int, float] = {}
        orders = []
        for partition in self._partitions:
            orders.append(_in_order(partition))
            if partition.by:
                by.update(dict.fromkeys(partition.numbers, partition.by))
        done, part = 0, []
        for _, number in heapq.merge(*orders):
            if number not in self._gone:
                part.append(number)
            if len(part) == CHUNK:
                self._renumber(part, done, by)
                done += len(part)
                part = []
                progress(total + done, 2 * total)
        self._renumber(part, done, by)
        return done + len(part)

    def _renumber(self, numbers: list[int], done: int, by: Mapping[int, float]) -> None:
        places = {number: change for change, number in enumerate(numbers, done + 1)}
        group = Group()
        for number, state, payload in self._these(sorted(numbers)):
            job = decode_job(number, state, b"").job
            if number in by:
                shifted(job, by[number])
            row = encode_job(job, places[number])
            group.put(number, row)
            self.contents.add_job(number, row, payload)
        self._write(group)

    # Queues and things.

    def _named(self) -> dict[str, bytes]:
        """The rows of everything that has a name."""
        named: dict[str, bytes] = {}
        sampled: dict[str, list[bytes]] = {}
        for index, partition in enumerate(self._partitions):
            for name, row in partition.named.items():
                if name.startswith(samples.KIND):
                    sampled.setdefault(name, []).append(row)
                elif name.startswith(QUIET):
                    # Every partition knows them; some a little later than others.
                    named[name] = min(named.get(name, row), row, key=lambda each: decode_quiet(name, each)[1])
                elif name.startswith(logs.KIND) and int(name.removeprefix(logs.KIND).partition("/")[0]) in self._gone:
                    continue
                elif not name.startswith((CLAIM, FLOOR)):
                    if name in named:
                        raise self._both(name)
                    if "/" not in name and self._at(name) != index:
                        raise self._damaged(f"queue {name!r} is in partition {index}, not in {self._at(name)}")
                    named[name] = _moved(name, row, partition.by) if partition.by else row
        named.update((name, _together(name, rows)) for name, rows in sampled.items())
        return named

    def _both(self, name: str) -> CannotOpen:
        kind, _, own = name.partition("/")
        return CannotOpen(f"{self._path}: two partitions have a {kind} {own!r}; a file can hold only one: delete one of them first")


def _matters(job: Job) -> bool:
    """Whether more than history would change without this job."""
    extra = job.details.extra
    return extra.group is not None or extra.claim is not None or (job.conclusion is not None and job.conclusion.halts)


def _in_order(partition: _Partition) -> Iterator[tuple[float, int]]:
    """The jobs of a partition in the order of their last changes: the earliest time at which each can have changed, and its number."""
    numbers = sorted(partition.numbers)
    at = float("-inf")
    for position in sorted(range(len(numbers)), key=partition.changes.__getitem__):
        at = max(at, partition.ats[position])
        yield at, numbers[position]


def _moved(name: str, row: bytes, by: float) -> bytes:
    """A row with its times moved to another time line. Those of other things are UTC."""
    if name.startswith(unique.KIND):
        return encode_window(decode_window(name, row, by), 0.0)
    if "/" in name:
        return row
    return encode_queue(set_queue(Engine(), decode_queue(name, row, by)))


def _together(name: str, rows: Sequence[bytes]) -> bytes:
    """The samples of one step in all partitions."""
    found: dict[str, bytes] = {}
    whole = []
    for row in rows:
        for by_queue in decode_samples(name, row).values():
            found.update(by_queue)
            if samples.WHOLE in by_queue:
                whole.append(by_queue[samples.WHOLE])
    if whole:
        found[samples.WHOLE] = samples.summed(whole)
    return encode_samples(found)
