"""Splits what a file holds into partitions, so that a store with several can be filled from it.

Rows are passed on as they are: a job goes where its queue belongs, and keeps its id and its number. New are the claims of ids whose home is
another partition (engine/claims.py), and each partition's own counters. Everything else goes with its queue, its job or its group; which
workers are quiet, to all partitions; and of a sum over all queues, each partition has that of its own.

What would be in two partitions at once is refused before anything is written, with all that is in the way.

Pure: it reads a Source, and holds the rows of everything but jobs, and each job's number.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from jobqueue.backend.id_claims import encode_claim
from jobqueue.backend.loading import CannotOpen, JobRows, Source
from jobqueue.backend.rows import BadRow, decode_counters, decode_job, decode_queue, encode_counters
from jobqueue.backend.things import decode_group, decode_samples, decode_schedule, decode_task, encode_samples
from jobqueue.engine import logs, samples, unique
from jobqueue.engine.claims import CLAIM, FLOOR, IdClaim
from jobqueue.engine.groups import KIND as GROUP
from jobqueue.engine.groups import TALLY, StoredGroup
from jobqueue.engine.schedules import KIND as SCHEDULE
from jobqueue.engine.state import QUIET
from jobqueue.engine.tasks import KIND as TASK
from jobqueue.model import NOTHING, Job
from jobqueue.partition import Place, home_of, partition_of

FAULTS_SHOWN = 5
CHUNK = 512
"""Jobs looked up at once."""


class Spanning(CannotOpen):
    """Something would be in two partitions. str() says what, and what to do."""


class Part:
    """What one partition gets. A Source.

    named: the rows of queues and other things, by name; numbers: those of its jobs, in order.
    """

    def __init__(self, source: Source, place: Place) -> None:
        self.place = place
        self.named: dict[str, bytes] = {}
        self.numbers = array("q")
        self.row = b""
        """Its counters."""
        self._source = source

    @property
    def path(self) -> str:
        """See Rows.path."""
        return self._source.path

    def counters(self) -> bytes | None:
        """See Rows.counters."""
        return self.row

    def queues(self) -> Iterator[tuple[str, bytes]]:
        """See Rows.queues."""
        yield from self.named.items()

    def count(self) -> int:
        """See Rows.count."""
        return len(self.numbers)

    def jobs(self) -> Iterator[JobRows]:
        """See Rows.jobs."""
        for start in range(0, len(self.numbers), CHUNK):
            yield from self._source.these(self.numbers[start : start + CHUNK])

    def these(self, numbers: Sequence[int]) -> Iterable[JobRows]:
        """See Source.these."""
        mine = self.numbers
        found = ((number, bisect_left(mine, number)) for number in numbers)
        return self._source.these([number for number, at in found if at < len(mine) and mine[at] == number])


def split(source: Source, count: int) -> list[Part]:
    """What each of `count` partitions gets. Raises Spanning, and CannotOpen if a row cannot be read or there is nothing."""
    counters = source.counters()
    if counters is None:
        raise CannotOpen(f"{source.path}: holds nothing yet")
    try:
        return _Splitting(source, count).parts(counters)
    except BadRow as error:
        raise CannotOpen(f"{source.path}: is damaged: {error}") from error


class _Splitting:
    """One run of `split`."""

    def __init__(self, source: Source, count: int) -> None:
        self._source = source
        self._count = count
        self._parts = [Part(source, Place(index, count)) for index in range(count)]
        self._faults: list[str] = []
        self._groups: dict[str, StoredGroup] = {}
        self._schedules: dict[str, str] = {}
        """The queue of each schedule's jobs."""
        self._logs: defaultdict[int, list[tuple[str, bytes]]] = defaultdict(list)
        self._tallies: list[tuple[str, bytes]] = []
        self._children: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        """For each job that live jobs are after: their ids and queues."""
        self._claims: list[list[tuple[str, int]]] = [[] for _ in range(count)]
        """For each home: the ids that it does not have itself, and where they are."""

    def parts(self, counters: bytes) -> list[Part]:
        """Split everything."""
        for name, row in self._source.queues():
            self._put_named(name, row)
        for name, row in self._tallies:
            group = self._groups.get(name.removeprefix(TALLY))
            if group is not None:
                self._of(group.queue).named[name] = row
        for number, state, _ in self._source.jobs():
            self._put_job(decode_job(number, state, b"").job)
        if self._children and self._count > 1:
            self._look_for_parents()
        if self._faults:
            raise Spanning(self._refusal())
        if self._count == 1:
            self._parts[0].row = counters
        else:
            self._finish(counters)
        return self._parts

    def _at(self, queue: str) -> int:
        return partition_of(queue, self._count)

    def _of(self, queue: str) -> Part:
        return self._parts[self._at(queue)]

    def _apart(self, queue: str, other: str) -> bool:
        return self._at(queue) != self._at(other)

    # Queues and things.

    def _put_named(self, name: str, row: bytes) -> None:
        """Put a row where it belongs."""
        if "/" not in name:
            to = decode_queue(name, row).policy.dead_letter
            if to is not None and self._apart(name, to):
                self._faults.append(f"queue {name!r}: dead_letter: {to!r} is in another partition")
            self._of(name).named[name] = row
        elif name.startswith(logs.KIND):
            self._logs[int(name.removeprefix(logs.KIND).partition("/")[0])].append((name, row))
        elif name.startswith(unique.KIND):
            self._of(unique.place_of(name)[0]).named[name] = row
        elif name.startswith(TALLY):
            self._tallies.append((name, row))
        elif name.startswith(GROUP):
            self._put_group(name, row)
        elif name.startswith(SCHEDULE):
            queue = decode_schedule(name.removeprefix(SCHEDULE), row).schedule.job.queue
            self._schedules[name.removeprefix(SCHEDULE)] = queue
            self._of(queue).named[name] = row
        elif name.startswith(TASK):
            self._put_task(name, row)
        elif name.startswith(samples.KIND):
            self._put_samples(name, row)
        elif name.startswith(QUIET):
            for part in self._parts:
                part.named[name] = row
        elif not name.startswith((CLAIM, FLOOR)):
            raise BadRow(f"{name!r} is of a kind that this server does not know")

    def _put_group(self, name: str, row: bytes) -> None:
        group = decode_group(name.removeprefix(GROUP), row)
        self._groups[group.id] = group
        for field, made in (("on_concluded", group.on_concluded), ("on_succeeded", group.on_succeeded)):
            if made is not None and made.state != "made" and self._apart(group.queue, made.spec.queue):
                self._faults.append(
                    f"group {group.id!r} of queue {group.queue!r}: {field}.queue: {made.spec.queue!r} is in another partition"
                )
        self._of(group.queue).named[name] = row

    def _put_task(self, name: str, row: bytes) -> None:
        stats = decode_task(name, row).stats
        if stats.state == "running" and stats.to is not None and self._apart(stats.queue, stats.to):
            self._faults.append(f"task {stats.id!r} of queue {stats.queue!r}: to: {stats.to!r} is in another partition")
        self._of(stats.queue).named[name] = row

    def _put_samples(self, name: str, row: bytes) -> None:
        if self._count == 1:
            self._parts[0].named[name] = row
            return
        found: list[dict[str, bytes]] = [{} for _ in self._parts]
        for by_queue in decode_samples(name, row).values():
            for queue, sample in by_queue.items():
                if queue == samples.REFUSED:
                    for part in found:
                        part[queue] = sample
                elif queue != samples.WHOLE:
                    found[self._at(queue)][queue] = sample
        for at, rows in enumerate(found):
            if rows:
                self._parts[at].named[name] = encode_samples(with_sum(rows))

    # Jobs.

    def _put_job(self, job: Job) -> None:
        """Put a job where it belongs, with its log, and note what it refers to."""
        at = self._at(job.queue)
        part = self._parts[at]
        part.numbers.append(job.number)
        if self._logs:
            part.named.update(self._logs.pop(job.number, ()))
        if self._count == 1:
            return
        home = home_of(job.id, self._count)
        if home != at:
            self._claims[home].append((job.id, at))
        if job.details.extra is not NOTHING:
            self._note(job)

    def _note(self, job: Job) -> None:
        extra, live = job.details.extra, job.conclusion is None
        if extra.group is not None:
            group = self._groups.get(extra.group)
            if group is not None and job.number >= group.number and self._apart(job.queue, group.queue):
                self._faults.append(
                    f"job {job.id!r} in queue {job.queue!r}: group: {group.id!r}, of queue {group.queue!r}, is in another partition"
                )
        if live and extra.schedule is not None and job.home == job.queue:
            queue = self._schedules.get(extra.schedule, job.queue)
            if self._apart(job.queue, queue):
                self._faults.append(
                    f"job {job.id!r} in queue {job.queue!r}: schedule: {extra.schedule!r}, now of queue {queue!r}, is in another partition"
                )
        if live:
            for parent in extra.after:
                self._children[parent].append((job.id, job.queue))

    def _look_for_parents(self) -> None:
        for number, state, _ in self._source.jobs():
            parent = decode_job(number, state, b"").job
            for child, queue in self._children.get(parent.id, ()):
                if self._apart(parent.queue, queue):
                    self._faults.append(
                        f"job {child!r} in queue {queue!r}: after: {parent.id!r}, in queue {parent.queue!r}, is in another partition"
                    )

    # What is made anew.

    def _finish(self, counters: bytes) -> None:
        """Each partition's claims and counters."""
        known = decode_counters(counters)
        # Older servers took numbers and places from separate counters.
        following = max(known.next_number, known.next_seq)
        for part, claims in zip(self._parts, self._claims, strict=True):
            number = part.place.number_from(following)
            for job_id, at in claims:
                # All claims can have one number, since no enqueue is on its way under any of them.
                part.named[CLAIM + job_id] = encode_claim(IdClaim(at, number))
            following_here = number + part.place.count
            # No standby has followed it, and no reign has written it.
            part.row = encode_counters(replace(known, next_number=following_here, next_seq=following_here, reign="", group=0))

    def _refusal(self) -> str:
        shown = "; ".join(self._faults[:FAULTS_SHOWN])
        more = len(self._faults) - FAULTS_SHOWN
        return (
            f"{self._source.path}: cannot be divided into {self._count} partitions: {shown}{f'; and {more} more' if more > 0 else ''}. "
            "Queues are in one partition if their names are the same up to a colon, such as mail and mail:dead: use such names, "
            "let the jobs end (and forget them, if a group is named), or restore with another number of partitions"
        )


def with_sum(rows: Mapping[str, bytes]) -> dict[str, bytes]:
    """The samples of a step by queue, with their sum."""
    of_queues = [row for queue, row in rows.items() if queue not in (samples.WHOLE, samples.REFUSED)]
    return {**rows, samples.WHOLE: samples.summed(of_queues)} if of_queues else dict(rows)
