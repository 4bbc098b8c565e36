"""Several servers on one store in memory, on clocks that a test moves, and all that can go wrong between them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from jobqueue.backend.base import Backend
from jobqueue.backend.following import RowChanges
from jobqueue.backend.group import Group
from jobqueue.backend.store.cluster import ClusterBackend
from jobqueue.backend.store.feed import Feeds
from jobqueue.backend.store.membership import Membership
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.own import Reign
from jobqueue.backend.store.ownership import HAND_OVERS, Ownership
from jobqueue.backend.store.several import Several
from jobqueue.backend.store.source import Ear
from jobqueue.backend.store.standby import Standby
from jobqueue.clock import ManualClock, Uptime
from jobqueue.engine.engine import Engine
from jobqueue.ids import Ids
from jobqueue.limits import Limits
from jobqueue.partition import ALONE, Place

from .gate import Gate
from .memory import MemoryStore, MemoryStores, Shared, SharedSet

T = TypeVar("T")

TURNS = 25
"""Turns of the loop within which whatever follows from something has followed."""

HEARTBEATS = 3.0
"""Seconds after which a silent server's links are broken."""

STEP = 1 / 32
"""Seconds by which time is moved at once. A power of two, so that seconds add up without rounding."""


class ServerClock(ManualClock):
    """A server's own clock. It can be late, as when the server stands still, or stand still itself, as when the machine sleeps."""

    def __init__(self, start: float) -> None:
        super().__init__(start, Uptime("boot", 1_000.0))
        self._slept = 0.0
        self.boot = "boot"

    def uptime(self) -> Uptime:
        up = super().uptime()
        assert up is not None
        return Uptime(self.boot, up.seconds + self._slept)

    def stand_still(self, seconds: float) -> None:
        """Let time pass with no timer running; those that fell due run at the next `advance`, late."""
        self._now += seconds

    def suspend(self, seconds: float) -> None:
        """Let the machine sleep: its monotonic clock stands still, UTC and uptime do not."""
        self._slept += seconds
        self.step_wall_clock(seconds)


class Stack:
    """One server's part in one partition."""

    def __init__(self, server: Server, store: MemoryStore, place: Place) -> None:
        self.server = server
        self.store = store
        self.index = place.index
        cluster, alone = server.cluster, place.count == 1
        self.gates: dict[str, Gate] = {}
        self.sources: set[DirectSource] = set()
        ids = server.ids if alone else Ids(place=place)
        self.standby = (
            Standby(store, server.clock, lambda: Engine(cluster.limits, ids), self._source, aside=_here) if cluster.standbys else None
        )
        self.ownership = Ownership(
            store, server.name, server.address, server.clock, cluster.limits, probe=server.probe, aside=_here, ids=ids,
            standby=self.standby, place=place, membership=server.membership, turns=server.turns,
        )  # fmt: skip
        self.backend = ClusterBackend(self.ownership, self._connect)

    def _connect(self, address: str) -> Gate:
        name, server, cluster = address.partition(":")[0], self.server, self.server.cluster
        if name not in self.gates:
            find = partial(cluster.reached, server.name, name, self.index)
            self.gates[name] = Gate(find, server.awake, lambda: cluster.arrived(name))
        return self.gates[name]

    def _source(self, address: str) -> DirectSource:
        return DirectSource(self, address.partition(":")[0])

    def cut(self, name: str) -> None:
        """Break the links to a server; new ones can be made."""
        if name in self.gates:
            self.gates[name].cut()
            self.gates[name].open = True
        for source in list(self.sources):
            if source.name == name:
                source.cut()


class Server:
    """One of them. alive: whether its process is; stopped: whether it stands still; silent: for so long that the others have noticed.

    stacks: its part in each partition. Where there is one partition, what that consists of is the server's.
    """

    def __init__(self, cluster: Cluster, name: str, off: float = 0.0) -> None:
        self.cluster = cluster
        self.name = name
        self.off = off
        self.address = f"{name}:1"
        self.alive, self.stopped, self.silent = True, False, False
        self.clock = ServerClock(cluster.clock.now() + off)
        self.stopped_at = 0.0
        self.died = asyncio.Event()
        self.lied_to = False
        """Whether it is told that the owner's port refuses connections, though the owner lives."""
        self._awake = asyncio.Event()
        self._awake.set()
        self.ids = Ids()
        self.membership: Membership | None = None
        self.turns: asyncio.Semaphore | None = None
        self.several: Several | None = None
        if cluster.partitions == 1:
            store = MemoryStore(cluster.shared, name)
            self.ways = [store]
            self.stacks = [Stack(self, store, ALONE)]
        else:
            stores = MemoryStores(cluster.shared_set, name)
            stores.prepare()
            self.ways = stores.ways
            self.membership, self.turns = Membership(stores, name, self.address, self.clock), asyncio.Semaphore(HAND_OVERS)
            self.stacks = [Stack(self, each, Place(index, cluster.partitions)) for index, each in enumerate(stores)]
            self.several = Several(self.membership, [stack.backend for stack in self.stacks])
        self.store = self.stacks[0].store

    @property
    def ownership(self) -> Ownership:
        return self.stacks[0].ownership

    @property
    def backend(self) -> ClusterBackend:
        return self.stacks[0].backend

    @property
    def standby(self) -> Standby | None:
        return self.stacks[0].standby

    @property
    def gates(self) -> dict[str, Gate]:
        return self.stacks[0].gates

    def start(self) -> None:
        """Take part."""
        if self.several is None:
            self.ownership.start()
        else:
            self.several.start()

    async def close(self) -> None:
        """As a process ends."""
        if self.several is None:
            await self.backend.close()
        else:
            await self.several.close()

    async def awake(self) -> None:
        """Return when it does not stand still."""
        await self._awake.wait()

    async def without_standby(self) -> None:
        """As if it had been started with --no-standby."""
        for stack in self.stacks:
            if stack.standby is not None:
                await stack.standby.close()
                stack.standby = stack.ownership.standby = None

    async def probe(self, address: str) -> bool:
        name = address.partition(":")[0]
        server = self.cluster.servers.get(name)
        return self.lied_to or (server is not None and not server.alive and frozenset((self.name, name)) not in self.cluster.cuts)

    @property
    def reign(self) -> Reign | None:
        return self.ownership.reign

    def stop(self) -> None:
        """SIGSTOP."""
        self.stopped, self.stopped_at = True, self.cluster.clock.now()
        self._awake.clear()
        for way in self.ways:
            way.stop()
        self.cluster.clock.call_at(self.stopped_at + HEARTBEATS, self._found_out)

    def _found_out(self) -> None:
        if self.stopped:
            self.silent = True
            self.break_links()

    def break_links(self) -> None:
        """Break the others' links to it, and those on which it follows them."""
        for server in self.cluster.servers.values():
            for stack in server.stacks:
                stack.cut(self.name)
                for source in list(stack.sources):
                    if server is self:
                        source.cut()

    def go_on(self) -> None:
        """SIGCONT: its clock has gone on, its timers are late, and what came meanwhile is read."""
        self.clock.stand_still(self.cluster.clock.now() - self.stopped_at)
        self.stopped = self.silent = False
        self._awake.set()
        for way in self.ways:
            way.go_on()

    def die(self) -> None:
        """kill -9: nothing of it runs or is heard any more."""
        self.alive = False
        self.died.set()
        self.stop()
        self.break_links()
        for stack in self.stacks:
            for gate in stack.gates.values():
                gate.cut()


class DirectSource:
    """What one server hears of another that it follows, in order, and late when either of them stands still. A Source."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack = stack
        self.server = stack.server
        self.name = name
        self._ear: Ear | None = None
        self._feeds: Feeds | None = None
        self._said: deque[Callable[[Ear], object]] = deque()
        self._more, self._lost = asyncio.Event(), asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    async def _reached(self) -> Feeds:
        server, cluster = self.server, self.server.cluster
        if cluster.reached(server.name, self.name) is None:
            raise Moved("it cannot be reached")
        await cluster.arrived(self.name)
        feeds = cluster[self.name].stacks[self.stack.index].backend.feeds()
        await server.awake()
        if feeds is None:
            raise Moved("it does not own the queue")
        return feeds

    async def follow(self, ear: Ear, standby: bool) -> tuple[str, int]:
        feeds = await self._reached()
        joined = feeds.join(self, self.server.name, standby)
        self._feeds, self._ear = feeds, ear
        self.stack.sources.add(self)
        self._pump = asyncio.ensure_future(self._tell())
        feeds.begin(self)
        return joined

    async def mark(self) -> int:
        number = (await self._reached()).number
        # What was told before comes before this.
        heard = self._lost = asyncio.Event()
        self._say(lambda ear: heard.set())
        await heard.wait()
        return number

    def tell(self, behind: int, warm: bool) -> None:
        if self._feeds is not None:
            self._feeds.said(self, behind, warm)

    async def close(self) -> None:
        self.stack.sources.discard(self)
        if self._feeds is not None:
            self._feeds.leave(self)
        if self._pump is not None:
            self._pump.cancel()

    def cut(self) -> None:
        """The link breaks: what was said and not heard is lost."""
        self._said.clear()
        self._lost.set()
        if self._feeds is not None:
            self._feeds.leave(self)
        self._say(lambda ear: ear.over("the link broke"))

    # A Sink.

    def handed(self, group: Group, number: int) -> None:
        rows = RowChanges(dict(group.states), dict(group.payloads), dict(group.queue_rows), group.counters)
        self._say(lambda ear: ear.handed(number, rows))

    def committed(self, number: int) -> None:
        self._say(lambda ear: ear.committed(number))

    def over(self) -> None:
        self._say(lambda ear: ear.over("the owner says so"))

    def _say(self, what: Callable[[Ear], object]) -> None:
        self._said.append(what)
        self._more.set()

    async def _tell(self) -> None:
        assert self._ear is not None
        while True:
            await self._more.wait()
            self._more.clear()
            while self._said:
                await self.server.awake()
                if self._said:
                    self._said[0](self._ear)
                    self._said.popleft()


async def _here(work: Callable[[], T]) -> T:
    return work()


class Cluster:
    """All of them. clock: the true time, which the store's clock shows. partitions: of the store, `shared_set`; if it has one, that is
    `shared`.
    """

    def __init__(
        self,
        *names: str,
        limits: Limits | None = None,
        off: dict[str, float] | None = None,
        standbys: bool = True,
        partitions: int = 1,
    ) -> None:
        self.standbys = standbys
        self.partitions = partitions
        self.clock = ManualClock()
        self.limits = limits or Limits()
        self.shared = Shared(self.clock)
        self.shared_set = SharedSet(self.clock, partitions=partitions)
        self.cuts: set[frozenset[str]] = set()
        self.servers: dict[str, Server] = {}
        self.tasks: list[asyncio.Task[object]] = []
        for name in names:
            self.add(name, (off or {}).get(name, 0.0))

    def add(self, name: str, off: float = 0.0) -> Server:
        """One more server, not started yet."""
        self.servers[name] = Server(self, name, off)
        return self.servers[name]

    def __getitem__(self, name: str) -> Server:
        return self.servers[name]

    def reached(self, name: str, other: str, partition: int = 0) -> Backend | None:
        """What one server reaches at another's peer port."""
        server = self.servers.get(other)
        if server is None or not server.alive or server.silent or frozenset((name, other)) in self.cuts:
            return None
        return server.stacks[partition].backend.own

    async def arrived(self, name: str) -> None:
        """Return when a server reads what was sent to it."""
        await self.servers[name].awake()

    def cut(self, name: str, other: str) -> None:
        """Cut two servers off each other."""
        self.cuts.add(frozenset((name, other)))
        for one, two in ((name, other), (other, name)):
            for stack in self.servers[one].stacks:
                stack.cut(two)

    def join(self, name: str, other: str) -> None:
        self.cuts.discard(frozenset((name, other)))

    async def idle(self) -> None:
        """Let everything happen that can without time passing."""
        for _ in range(TURNS):
            self.move(0)
            await asyncio.sleep(0)

    def move(self, seconds: float) -> None:
        """Let time pass at once."""
        self.clock.advance(seconds)
        for server in self.servers.values():
            if not server.stopped:
                server.clock.advance(seconds)

    async def advance(self, seconds: float) -> None:
        """Let time pass for everybody who does not stand still."""
        for _ in range(round(seconds / STEP)):
            self.move(STEP)
            await self.idle()

    async def start(self, *names: str) -> None:
        """Start servers, one after the other, so that the first owns the queue."""
        for name in names or tuple(self.servers):
            self.servers[name].start()
            await self.advance(0.25)

    def do(self, work: Awaitable[T]) -> asyncio.Task[T]:
        """Begin something, and go on."""
        task = asyncio.ensure_future(work)
        self.tasks.append(task)
        return task

    async def done(self, work: Awaitable[T], seconds: float = 10.0) -> T:
        """Let time pass until something is done, which is to take no longer than this."""
        task = self.do(work)
        await self.idle()
        for _ in range(round(seconds / STEP)):
            if task.done():
                break
            await self.advance(STEP)
        assert task.done(), "it takes too long"
        return task.result()

    @property
    def owners(self) -> list[str]:
        """Who believes that it owns the queue, and is right to by its own clock."""
        return self.owners_of(0)

    def owners_of(self, partition: int) -> list[str]:
        """The same for one partition."""
        running = {name: server.stacks[partition] for name, server in self.servers.items() if server.alive and not server.stopped}
        reigns = {name: stack.ownership.reign for name, stack in running.items()}
        return [name for name, reign in reigns.items() if reign is not None and reign.lease.left > 0]

    async def close(self) -> None:
        for server in self.servers.values():
            for way in server.ways:
                way.cut = way.busy = way.deaf = False
                way.late = 0.0
            if server.stopped:
                server.go_on()
        self.cuts.clear()
        closing = asyncio.gather(*(server.close() for server in self.servers.values()))
        await self.done(closing, 30.0)
        await self.idle()
        for task in self.tasks:
            if not task.done():
                task.cancel()
        await self.idle()
