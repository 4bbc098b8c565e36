"""A store in memory, for tests of everything above it: what it is told to do wrong, it does wrong.

One Shared is the store; each server has a MemoryStore, its own way to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple

from jobqueue.backend.group import Finished, Group, NotNow, Writer
from jobqueue.backend.loading import CannotOpen, JobRows
from jobqueue.backend.store.signals import Signal
from jobqueue.backend.store.store import Fenced, Member, Owner, Standing, Whole
from jobqueue.backend.store.stores import other_number
from jobqueue.clock import Clock

DEADLINE = 1.0
"""How long every call waits for its answer."""


class _Image(NamedTuple):
    """All that the store holds at one moment."""

    commits: int
    epoch: int
    owner: tuple[str, str, float] | None
    states: dict[int, bytes]
    payloads: dict[int, bytes]
    queues: dict[str, bytes]
    counters: bytes | None


class Shared:
    """What the store holds. off: its clock less the injected one's UTC."""

    def __init__(self, clock: Clock, off: float = 0.0, members: dict[str, tuple[str, float]] | None = None) -> None:
        self.clock = clock
        self.off = off
        self.commits = 0
        self.epoch = 0
        self._owner: tuple[str, str, float] | None = None
        """Name, address, and until when, by `now`."""
        self._members = {} if members is None else members
        self.states: dict[int, bytes] = {}
        self.payloads: dict[int, bytes] = {}
        self.queues: dict[str, bytes] = {}
        self.counters: bytes | None = None

    def now(self) -> float:
        return self.clock.now() + self.off

    # What a call does once it has arrived.

    def owner(self) -> Owner | None:
        if self._owner is None:
            return None
        name, address, until = self._owner
        return Owner(name, address, self.epoch, until - self.now())

    def claim(self, name: str, address: str, seconds: float, force: bool) -> Owner:
        owner = self.owner()
        if owner is not None and owner.seconds > 0 and owner.name != name and not force:
            return owner
        self.epoch += 1
        self._owner = name, address, self.now() + seconds
        return Owner(name, address, self.epoch, seconds)

    def check(self, name: str | None, epoch: int) -> None:
        """Raise Fenced unless this server owns the queue under this epoch. The name too: a failover may lose a claim, and the next one
        gets the same epoch."""
        if self._owner is None or self.epoch != epoch or (name is not None and self._owner[0] != name):
            raise Fenced(f"epoch {epoch} is over; the last is {self.epoch}")

    def renew(self, name: str | None, epoch: int, seconds: float) -> None:
        self.check(name, epoch)
        assert self._owner is not None
        self._owner = *self._owner[:2], self.now() + seconds

    def release(self, name: str | None, epoch: int) -> None:
        self.check(name, epoch)
        self._owner = None

    def announce(self, name: str, address: str) -> list[Member]:
        self._members[name] = address, self.now()
        return self.members()

    def members(self) -> list[Member]:
        return [Member(one, where, self.now() - seen) for one, (where, seen) in self._members.items() if self.now() - seen < 60]

    def depart(self, name: str) -> None:
        self._members.pop(name, None)

    def write(self, group: Group) -> None:
        """Carry out a group, which nobody may see half of."""
        self.commits += 1
        self.payloads.update(group.payloads)
        for number, state in group.states.items():
            if state is None:
                self.states.pop(number, None)
                self.payloads.pop(number, None)
            else:
                self.states[number] = state
        for queue, row in group.queue_rows.items():
            if row is None:
                self.queues.pop(queue, None)
            else:
                self.queues[queue] = row
        self.counters = group.counters

    # A failover to a replica that is behind.

    def image(self) -> _Image:
        """What a replica has."""
        return _Image(self.commits, self.epoch, self._owner, dict(self.states), dict(self.payloads), dict(self.queues), self.counters)

    def fall_back(self, image: _Image) -> None:
        """Go on from a replica, without what came since."""
        self.commits, self.epoch, self._owner, states, payloads, queues, self.counters = image
        self.states, self.payloads, self.queues = dict(states), dict(payloads), dict(queues)


class Rows:
    path = "memory"

    def __init__(self, shared: Shared) -> None:
        self._image = shared.image()

    def counters(self) -> bytes | None:
        return self._image.counters

    def queues(self) -> Iterable[tuple[str, bytes]]:
        return self._image.queues.items()

    def count(self) -> int:
        return len(self._image.states)

    def jobs(self) -> Iterator[JobRows]:
        for number, state in sorted(self._image.states.items()):
            yield JobRows(number, state, self._image.payloads[number])


class MemoryStore:
    """One server's way to the store, and what is wrong with it.

    cut: nothing arrives, nothing comes back; deaf: what is asked arrives and is done, the answer does not come back; busy: the store says
    NotNow at once; late: seconds that each call takes, half of them before it is carried out. stopped: the server stands still, so that
    whatever comes back waits for it.
    """

    path = "memory://test"

    def __init__(self, shared: Shared, name: str | None = None) -> None:
        self.shared = shared
        self.cut = self.deaf = self.busy = False
        self.late = 0.0
        self.calls: list[str] = []
        self._name = name
        self._clock = shared.clock
        self._awake = asyncio.Event()
        self._awake.set()
        self._closed = False

    def stop(self) -> None:
        self._awake.clear()

    def go_on(self) -> None:
        self._awake.set()

    async def _passing(self, seconds: float) -> None:
        # A signal of its own, so that nothing but time ends the wait.
        if seconds > 0:
            await Signal(self._clock).wait(self._clock.now() + seconds)

    async def call(self, what: str, do: Callable[[], object]) -> object:
        """Do something at the store."""
        self.calls.append(what)
        try:
            return await self._call(do)
        finally:
            await self._awake.wait()

    async def _call(self, do: Callable[[], object]) -> object:
        if self._closed:
            raise NotNow("it is closed")
        if self.busy:
            raise NotNow("the store cannot now")
        began = self._clock.now()
        await self._passing(min(self.late / 2, DEADLINE))
        if self.cut:
            await self._passing(began + DEADLINE - self._clock.now())
            raise NotNow("no answer in time")
        if self.late / 2 <= DEADLINE:
            # What is carried out after the deadline is left out: it would be the same as never.
            done = do()
        await self._passing(min(self.late / 2, began + DEADLINE - self._clock.now()))
        if self.deaf or self.cut or self.late > DEADLINE:
            await self._passing(began + DEADLINE - self._clock.now())
            raise NotNow("no answer in time")
        return done

    # The Store protocol.

    async def open(self) -> None:
        """Nothing to open."""

    async def claim(self, name: str, address: str, seconds: float, force: bool = False) -> Owner:
        return await self.call("claim", lambda: self.shared.claim(name, address, seconds, force))  # type: ignore[return-value]

    async def owner(self) -> Owner | None:
        return await self.call("owner", self.shared.owner)  # type: ignore[return-value]

    async def renew(self, epoch: int, seconds: float) -> None:
        await self.call("renew", lambda: self.shared.renew(self._name, epoch, seconds))

    async def release(self, epoch: int) -> None:
        await self.call("release", lambda: self.shared.release(self._name, epoch))

    async def rows(self, epoch: int) -> Rows:
        def read() -> Rows:
            self.shared.check(self._name, epoch)
            return Rows(self.shared)

        return await self.call("rows", read)  # type: ignore[return-value]

    async def beside(self) -> Rows:
        return await self.call("beside", lambda: Rows(self.shared))  # type: ignore[return-value]

    async def standing(self, epoch: int) -> Standing:
        def look() -> Standing:
            self.shared.check(self._name, epoch)
            return Standing(self.shared.counters, len(self.shared.states))

        return await self.call("standing", look)  # type: ignore[return-value]

    async def counters(self) -> bytes | None:
        return await self.call("counters", lambda: self.shared.counters)  # type: ignore[return-value]

    async def moment(self, apply: Callable[[Group], Awaitable[object]]) -> Whole:
        rows: Rows = await self.call("moment", lambda: Rows(self.shared))  # type: ignore[assignment]
        for job in rows.jobs():
            group = Group()
            group.put(job.number, job.state)
            group.put_payload(job.number, job.payload)
            await apply(group)
        return Whole(rows.counters(), dict(rows.queues()), rows.count())

    def writer(self, epoch: int, seconds: float, renewed: Callable[[float], object]) -> Writer:
        return MemoryWriter(self, self._name, epoch, seconds, renewed)

    async def announce(self, name: str, address: str) -> list[Member]:
        return await self.call("announce", lambda: self.shared.announce(name, address))  # type: ignore[return-value]

    async def members(self) -> list[Member]:
        return await self.call("members", self.shared.members)  # type: ignore[return-value]

    async def depart(self, name: str) -> None:
        await self.call("depart", lambda: self.shared.depart(name))

    async def now(self) -> float:
        return await self.call("now", self.shared.now)  # type: ignore[return-value]

    async def close(self) -> None:
        self._closed = True


class MemoryWriter:
    """Commits to the store, and again what a failover has lost since."""

    def __init__(self, store: MemoryStore, name: str | None, epoch: int, seconds: float, renewed: Callable[[float], object]) -> None:
        self._store = store
        self._name = name
        self._epoch = epoch
        self._seconds = seconds
        self._renewed = renewed
        self._kept: list[tuple[int, Group]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def write(self, group: Group, finished: Finished) -> None:
        task = asyncio.get_running_loop().create_task(self._write(group, finished))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, group: Group, finished: Finished) -> None:
        sent = time.monotonic()
        try:
            await self._store.call("write", lambda: self._commit(group))
        except (NotNow, Fenced) as error:
            finished(error)
        else:
            self._renewed(sent)
            finished(None)

    def _commit(self, group: Group) -> None:
        shared = self._store.shared
        shared.renew(self._name, self._epoch, self._seconds)
        for number, old in self._kept:
            if number > shared.commits:
                shared.write(old)
        shared.write(group)
        self._kept.append((shared.commits, group))

    async def close(self, tidy: bool) -> None:
        for task in list(self._tasks):
            await task


class SharedSet:
    """What a store of several partitions holds: a Shared for each, once their number is known, and who uses them."""

    def __init__(self, clock: Clock, off: float = 0.0, partitions: int | None = None) -> None:
        self.clock = clock
        self.off = off
        self.parts: list[Shared] = []
        self._members: dict[str, tuple[str, float]] = {}
        self.common = Shared(clock, off, self._members)
        if partitions is not None:
            self.open(partitions)

    def open(self, partitions: int | None) -> None:
        if not self.parts:
            self.parts = [Shared(self.clock, self.off, self._members) for _ in range(partitions or 1)]
        elif partitions not in (None, len(self.parts)):
            raise other_number(MemoryStore.path, len(self.parts), partitions)


class MemoryStores:
    """One server's way to a store of several partitions: one MemoryStore for each, and one, `common`, for what is of no partition. `ways`
    are all of these; what is wrong with each is set there.
    """

    path = MemoryStore.path

    def __init__(self, shared: SharedSet, name: str | None = None) -> None:
        self.shared = shared
        self.common = MemoryStore(shared.common, name)
        self._name = name
        self._parts: list[MemoryStore] = []

    def prepare(self) -> None:
        """Open it at once, where its number of partitions is known."""
        self._parts = [MemoryStore(shared, self._name) for shared in self.shared.parts]

    @property
    def ways(self) -> list[MemoryStore]:
        return [self.common, *self._parts]

    @property
    def partitions(self) -> int:
        if not self._parts:
            raise RuntimeError("the store is not open")
        return len(self._parts)

    async def open(self, partitions: int | None = None) -> None:
        await self.common.call("open", lambda: self.shared.open(partitions))
        self._parts = self._parts or [MemoryStore(shared, self._name) for shared in self.shared.parts]

    async def inspect(self) -> None:
        if not self.shared.parts:
            raise CannotOpen(f"{self.path}: can be used, but has no jobs to check: no server has used it yet")
        await self.open()

    def __getitem__(self, index: int) -> MemoryStore:
        return self._parts[index]

    def __iter__(self) -> Iterator[MemoryStore]:
        return iter(self._parts)

    async def owners(self) -> list[Owner | NotNow | None]:
        return [await _owner(part) for part in self._parts]

    async def announce(self, name: str, address: str) -> list[Member]:
        return await self.common.announce(name, address)

    async def members(self) -> list[Member]:
        return await self.common.members()

    async def depart(self, name: str) -> None:
        await self.common.depart(name)

    async def now(self) -> float:
        return await self.common.now()

    async def close(self) -> None:
        for way in self.ways:
            await way.close()


async def _owner(part: MemoryStore) -> Owner | NotNow | None:
    try:
        return await part.owner()
    except NotNow as error:
        return error
