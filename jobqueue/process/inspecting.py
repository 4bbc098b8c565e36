"""The work of `jobqueue check --store`: all checks that a server makes before it starts, and then all rows, read as the next owner would.

It claims nothing and changes nothing, so servers can continue to run. It holds the jobs of one partition in memory at a time, as an owner
does, and the ids of all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from jobqueue.backend.contents import Contents, Counted
from jobqueue.backend.group import Fatal, Group, NotNow
from jobqueue.backend.id_claims import decode_claim
from jobqueue.backend.loading import CannotOpen, JobRows, load
from jobqueue.backend.store.store import Member, Owner, Whole
from jobqueue.backend.store.stores import StoreSet
from jobqueue.clock import SystemClock
from jobqueue.engine.claims import CLAIM
from jobqueue.engine.engine import Engine
from jobqueue.partition import Place, home_of, partition_of
from jobqueue.process.cluster import open_store
from jobqueue.process.config import Settings
from jobqueue.process.durable import ALL, Held, progress_shown


class _Gathered:
    """The rows of one moment, assembled from groups. A Rows."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.whole = Whole(None, {}, 0)
        self._group = Group()

    async def add(self, group: Group) -> None:
        """Add what a store read, in the order in which it was read."""
        self._group.payloads.update(group.payloads)
        for number, state in group.states.items():
            if state is None:
                self._group.states.pop(number, None)
                self._group.payloads.pop(number, None)
            else:
                self._group.states[number] = state

    def counters(self) -> bytes | None:
        """See Rows.counters."""
        return self.whole.counters

    def queues(self) -> Iterable[tuple[str, bytes]]:
        """See Rows.queues."""
        return self.whole.queues.items()

    def count(self) -> int:
        """See Rows.count."""
        states, payloads = self._group.states.keys(), self._group.payloads.keys()
        if len(states) != self.whole.jobs:
            raise CannotOpen(f"{self.path}: is damaged: it should have {self.whole.jobs} jobs and has {len(states)}")
        if states != payloads:
            raise CannotOpen(f"{self.path}: is damaged: job number {min(states ^ payloads)} has no payload, or a payload no job")
        return len(states)

    def jobs(self) -> Iterator[JobRows]:
        """See Rows.jobs."""
        for number in sorted(self._group.states):
            state = self._group.states[number]
            assert state is not None
            yield JobRows(number, state, self._group.payloads[number])


class _Ids:
    """Which partition has a job of which id, compared with the claims. Partitions are read one after another while servers run, so what
    does not agree need not be wrong: an id may just have been given to another job.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._jobs: dict[str, int] = {}
        self._claims: dict[str, int] = {}
        self._twice = 0

    def add(self, path: str, index: int, rows: _Gathered, engine: Engine) -> None:
        """Add a partition. Raises CannotOpen for what belongs to another one; claims were checked when the engine was loaded."""
        for name in engine.queues:
            self._check(path, index, partition_of(name, self._count), f"queue {name!r}")
        for job in engine.jobs.all():
            self._check(path, index, partition_of(job.queue, self._count), f"job {job.id!r} of queue {job.queue!r}")
            self._twice += self._jobs.setdefault(job.id, index) != index
        for name, row in rows.queues():
            if name.startswith(CLAIM):
                job_id, claim = decode_claim(name, row)
                self._claims[job_id] = claim.partition

    @staticmethod
    def _check(path: str, index: int, expected: int, what: str) -> None:
        if index != expected:
            raise CannotOpen(f"{path}: is damaged: {what} is in partition {index}, not in {expected}")

    def __str__(self) -> str:
        away = {job_id: index for job_id, index in self._jobs.items() if home_of(job_id, self._count) != index}
        claimed = sum(self._claims.get(job_id) == index for job_id, index in away.items())
        other = sum(self._claims.get(job_id, index) != index for job_id, index in self._jobs.items())
        left = sum(job_id not in self._jobs for job_id in self._claims)
        return (
            f"{len(away)} of jobs outside of their home, {claimed} of them claimed; {left} claims of jobs that are gone; "
            f"{other} claims for another partition than the job's; {self._twice} ids in two partitions"
        )


def check_store(settings: Settings) -> str:
    """Lines that say what the store holds and which servers use it. Raises CannotOpen."""
    return asyncio.run(check(open_store(settings)))


async def check(stores: StoreSet) -> str:
    """The same of this store, which it closes."""
    try:
        await stores.inspect()
        owners, members = await stores.owners(), await stores.members()
        whole, contents, ids = Held(), Contents(), _Ids(stores.partitions)
        parts = []
        for index, store in enumerate(stores):
            rows = _Gathered(stores.path)
            rows.whole = await store.moment(rows.add)
            engine = Engine(ALL, place=Place(index, stores.partitions))
            with progress_shown(stores.path) as progress:
                load(Counted(rows, contents), engine, SystemClock(), progress)
            whole.add(engine)
            if stores.partitions > 1:
                ids.add(stores.path, index, rows, engine)
            parts.append(f"partition {index}: {Held(engine)}; owner: {_owned(owners[index])}")
    except (NotNow, Fatal) as error:
        raise CannotOpen(f"{stores.path}: {str(error).removeprefix(f'{stores.path}: ')}") from error
    finally:
        await stores.close()
    servers = f"servers: {_there(members)}"
    if stores.partitions == 1:
        return "\n".join((f"{stores.path}: whole; {whole}", f"contents: {contents}", f"owner: {_owned(owners[0])}", servers))
    divided = f"{stores.path}: whole; {whole}; in {stores.partitions} partitions"
    return "\n".join((divided, f"contents: {contents}", *parts, f"ids: {ids}", servers))


def _owned(owner: Owner | NotNow | None) -> str:
    if owner is None:
        return "nobody"
    if isinstance(owner, NotNow):
        return f"not known: {owner}"
    left = f"its lease ends in {owner.seconds:.1f} s" if owner.seconds > 0 else f"its lease ended {-owner.seconds:.1f} s ago"
    return f"{owner.name} at {owner.address}, epoch {owner.epoch}, {left}"


def _there(members: Iterable[Member]) -> str:
    return "; ".join(f"{member.name} at {member.address}, seen {member.seconds:.1f} s ago" for member in members) or "none"
