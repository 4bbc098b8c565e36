"""The work of `jobqueue check --store`: all checks that a server makes before it starts, and then all rows, read as the next owner would.

It claims nothing and changes nothing, so servers can continue to run. It holds all jobs in memory, as an owner does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from jobqueue.backend.group import Fatal, Group, NotNow
from jobqueue.backend.loading import CannotOpen, JobRows, load
from jobqueue.backend.store.store import Member, Owner, Whole
from jobqueue.backend.store.stores import StoreSet
from jobqueue.clock import SystemClock
from jobqueue.engine.engine import Engine
from jobqueue.process.cluster import open_store
from jobqueue.process.config import Settings
from jobqueue.process.durable import ALL, holds, progress_shown


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


def check_store(settings: Settings) -> str:
    """Lines that say what the store holds and which servers use it. Raises CannotOpen."""
    return asyncio.run(_check(open_store(settings)))


async def _check(stores: StoreSet) -> str:
    try:
        await stores.inspect()
        store = stores[0]
        owner, members = await store.owner(), await stores.members()
        rows = _Gathered(store.path)
        rows.whole = await store.moment(rows.add)
    except (NotNow, Fatal) as error:
        raise CannotOpen(f"{stores.path}: {str(error).removeprefix(f'{stores.path}: ')}") from error
    finally:
        await stores.close()
    engine = Engine(ALL)
    with progress_shown(store.path) as progress:
        load(rows, engine, SystemClock(), progress)
    return "\n".join((f"{store.path}: whole; {holds(engine)}", f"owner: {_owned(owner)}", f"servers: {_there(members)}"))


def _owned(owner: Owner | None) -> str:
    if owner is None:
        return "nobody"
    left = f"its lease ends in {owner.seconds:.1f} s" if owner.seconds > 0 else f"its lease ended {-owner.seconds:.1f} s ago"
    return f"{owner.name} at {owner.address}, epoch {owner.epoch}, {left}"


def _there(members: Iterable[Member]) -> str:
    return "; ".join(f"{member.name} at {member.address}, seen {member.seconds:.1f} s ago" for member in members) or "none"
