"""How many servers stand behind what a test asks: the one place where tests choose.

`one`: as a server does by itself. `two`: two servers on one store, a link between them; the test asks the one that does not own the queue.
`partitioned`: the same on a store of three partitions; what a test looks into is the partition of the queue `default`.
JOBQUEUE_TEST_SERVERS chooses for a whole run, and `.ci/run all` makes one run of the API's and the clients' tests on `two`. The tests are
the same and see no difference. Those that cannot be are in ONE_ONLY, each with its reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Self, TypeVar

import msgspec

from jobqueue.api.app import App
from jobqueue.backend.base import Backend
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.store.cluster import ClusterBackend
from jobqueue.backend.store.frames import Identity, Link
from jobqueue.backend.store.front import FrontLink
from jobqueue.backend.store.membership import Membership
from jobqueue.backend.store.own import Reign
from jobqueue.backend.store.ownership import Ownership
from jobqueue.backend.store.partitioned import PartitionedBackend
from jobqueue.backend.store.peer import OwnerLink, PeerServer
from jobqueue.backend.store.remote import RemoteBackend
from jobqueue.backend.store.store import Store
from jobqueue.backend.store.stores import StoreSet
from jobqueue.clock import ManualClock, SystemClock
from jobqueue.ids import Ids
from jobqueue.limits import Limits
from jobqueue.model import DEFAULT_QUEUE
from jobqueue.partition import Place, partition_of
from jobqueue.process import cluster, server
from jobqueue.process.exposure import Exposure
from jobqueue.process.settings import Settings
from tests.backend.store.memory import MemoryStore, MemoryStores, Shared, SharedSet

VARIABLE = "JOBQUEUE_TEST_SERVERS"

current = os.environ.get(VARIABLE, "one")
"""For servers in this process."""

PARTITIONS = 3
"""How many a store has with `partitioned`."""

TURNS = 8
"""Turns of the loop within which what one server was sent has come about there."""

LEASE_SECONDS = 1e8
"""Three years: a test's time is its own, and no reign is to end by it."""

GUARD = 10.0
"""Seconds after which what does not come about gives up."""

PATIENCE_SECONDS = 3.0
"""How long a real store has for what it does in no time, before a server may ask it again."""

T = TypeVar("T")

_DEFECT = "plants a defect right beneath the edge; an owner's is a 503 at a front (tests/backend/store/test_peer.py)"

ONE_ONLY = {
    "tests/api/dialects/sqs/test_protocols.py::test_a_defect": _DEFECT,
    "tests/api/test_mounts.py::test_a_defect_answers_as_its_api": _DEFECT,
    "tests/api/test_service.py::test_a_defect_is_500_and_says_nothing_of_itself": _DEFECT,
    "tests/client/test_testing.py::test_a_server_in_a_thread_serves_tests_without_asyncio": "counts threads; an owner has read rows in one",
    "tests/dashboard/test_servers.py": "shows servers of its own making",
    "tests/api/test_stats.py": "is about a server by itself, or puts another view of the others into the one backend",
    "tests/api/test_openapi.py::test_the_examples_are_true": "the example of /stats is that of a server by itself",
    "tests/api/test_metrics_times.py::test_memory_has_no_commits": "there are commits here",
    "tests/api/test_machine.py::test_a_server_in_memory_says_so": "here there is a store",
    "tests/api/test_holds.py::test_a_job_that_was_handed_to_a_revoked_token_goes_to_the_next": "is about one turn of one loop",
}
"""Tests that are about one server alone, by file or file::function (no parameters), and why."""


_NUMBERS = "numbers go up in steps, one for each partition"
_ONE_ENGINE = "looks into one partition's engine, and uses a queue of another"
_BOUND = "a bound is divided between the partitions"
_JOINS = "joins queues of two partitions"

ONE_PARTITION = {
    "tests/api/test_batches.py::test_a_batch_dequeue_takes_at_most_its_limit": _NUMBERS,
    "tests/api/test_dequeue.py::test_a_waiter_stands_in_all_its_queues": _ONE_ENGINE,
    "tests/api/test_dequeue.py::test_one_waiter_too_many_is_429": _BOUND,
    "tests/api/test_enqueue.py::test_a_full_server_is_429": _BOUND,
    "tests/api/test_enqueue.py::test_a_server_full_of_bytes_is_429": _BOUND,
    "tests/api/test_events.py::test_a_listener_that_does_not_read_is_cut": _NUMBERS,
    "tests/api/test_events.py::test_a_stream_says_what_happens": _NUMBERS,
    "tests/api/test_events.py::test_silence_is_broken_by_a_comment": "a comment has no id before the first event",
    "tests/api/test_jobs.py::test_a_forgotten_job_is_404": _BOUND,
    "tests/api/test_jobs.py::test_a_page_looks_at_a_bounded_number_of_jobs": _BOUND,
    "tests/api/test_jobs.py::test_a_retry_needs_room": _BOUND,
    "tests/api/test_queues.py::test_a_hand_out_that_is_put_back_stays_counted": _ONE_ENGINE,
    "tests/api/test_queues.py::test_a_waiter_outlives_its_queue": _ONE_ENGINE,
    "tests/api/test_queues.py::test_no_step_looks_at_every_queue": _ONE_ENGINE,
    "tests/api/test_schedules.py::test_fields_are_changed_one_by_one": _JOINS,
    "tests/api/test_schedules.py::test_it_is_run_by_hand_beside_its_slots": _NUMBERS,
    "tests/api/test_schedules.py::test_there_is_a_bound": _BOUND,
    "tests/client/test_bulk.py::test_a_dead_letter_says_where_it_comes_from_and_is_redriven": _JOINS,
    "tests/client/test_bulk.py::test_a_job_that_waits_is_edited": _JOINS,
}
"""Tests that several partitions keep differently, and why, among the files that have been looked through: CHECKED_PARTITIONED."""

CHECKED_PARTITIONED = ("test_batches", "test_bulk", "test_dequeue", "test_enqueue", "test_events", "test_flow", "test_groups", "test_jobs")
CHECKED_PARTITIONED += ("test_leases", "test_listening", "test_operations", "test_queues", "test_schedules", "test_workers")


def why_one_only(nodeid: str) -> str | None:
    """The reason not to run a test over two servers, or over their partitions."""
    path, _, name = nodeid.partition("::")
    function = name.rpartition("::")[2].partition("[")[0]
    here = f"{path}::{function}"
    several = ONE_PARTITION.get(here) if current == "partitioned" else None
    return ONE_ONLY.get(path) or ONE_ONLY.get(here) or several


class Member:
    """One of the servers: its part in owning the queue, and its side of the links."""

    def __init__(self, servers: Servers, store: Store, name: str) -> None:
        self.name = name
        self.identity = Identity(name, "correct horse battery staple")
        self.links_clock = servers.links_clock
        self.ownership = Ownership(
            store, name, f"{name}:1", servers.clock, servers.limits, lease_seconds=LEASE_SECONDS, probe=_lives, aside=_here, ids=servers.ids
        )
        self.remotes: list[RemoteBackend] = []

        def connect(address: str) -> RemoteBackend:
            made = RemoteBackend(lambda: address, self.identity, servers.limits, clock=self.links_clock, dial=servers.dial)
            self.remotes.append(made)
            return made

        self.backend = ClusterBackend(self.ownership, connect)
        self.peers = PeerServer(self.backend.own, self.identity, servers.limits, clock=self.links_clock)

    @property
    def reign(self) -> Reign | None:
        """Its reign while it owns the queue."""
        return self.ownership.reign

    def start(self) -> None:
        """Take part."""
        self.ownership.start()

    def knows(self) -> bool:
        """Whether it knows the owner."""
        return self.backend.target() is not None

    @property
    def links(self) -> list[FrontLink | OwnerLink]:
        """Every link of this server's that is up, its own side alone."""
        return [*self.peers.links, *(link for remote in self.remotes for link in remote.links if link.broken is None)]

    async def close(self) -> None:
        """As a process ends."""
        await self.peers.close()
        await self.backend.close()


class PartMember:
    """One of the servers on a store of several partitions: its part in each, and its side of the links."""

    def __init__(self, servers: Servers, stores: MemoryStores, name: str) -> None:
        self.name = name
        self.identity = Identity(name, "correct horse battery staple")
        self.links_clock = servers.links_clock
        self.membership = Membership(stores, name, f"{name}:1", servers.clock)
        self.remotes: list[RemoteBackend] = []
        self.backends = [self._made(servers, store, Place(index, stores.partitions)) for index, store in enumerate(stores)]
        self.ownership = self.backends[partition_of(DEFAULT_QUEUE, stores.partitions)].ownership
        self.backend = PartitionedBackend(
            self.backends, servers.limits, clock=servers.clock, hasty=[backend.hasty for backend in self.backends]
        )
        first, *more = [(backend.own, backend.feeds) for backend in self.backends]
        self.peers = PeerServer(first[0], self.identity, servers.limits, clock=self.links_clock, feeds=first[1], more=more)

    def _made(self, servers: Servers, store: Store, place: Place) -> ClusterBackend:
        address, ids = self.membership.address, servers.ids_of(place)
        given = {"lease_seconds": LEASE_SECONDS, "probe": _lives, "aside": _here, "ids": ids, "place": place, "membership": self.membership}
        ownership = Ownership(store, self.name, address, servers.clock, servers.limits, **given)  # type: ignore[arg-type]

        def connect(at: str) -> RemoteBackend:
            made = RemoteBackend(
                lambda: at, self.identity, servers.limits, clock=self.links_clock, dial=servers.dial, partition=place.index
            )
            self.remotes.append(made)
            return made

        return ClusterBackend(ownership, connect)

    def start(self) -> None:
        """Take part. Nothing moves: the first server has all."""
        self.membership.start()
        for backend in self.backends:
            backend.ownership.start()

    @property
    def reign(self) -> Reign | None:
        """Its reign over the partition of the queue `default`."""
        return self.ownership.reign

    @property
    def links(self) -> list[FrontLink | OwnerLink]:
        """See Member."""
        return [*self.peers.links, *(link for remote in self.remotes for link in remote.links if link.broken is None)]

    def knows(self) -> bool:
        """Whether it knows the owner of each partition."""
        return all(backend.target() is not None for backend in self.backends)

    async def close(self) -> None:
        """As a process ends."""
        await self.peers.close()
        await asyncio.gather(*(backend.close() for backend in self.backends))
        await self.membership.close()


class Servers:
    """Servers in one loop on one store, over socket pairs. clock: of the queue; that of the links stands still, so that none is broken
    by letting the queue's time pass."""

    def __init__(self, limits: Limits, clock: ManualClock, stores: Sequence[Store | MemoryStores]) -> None:
        self.limits = limits
        self.clock = clock
        self.links_clock = ManualClock()
        # The ids of one millisecond are in order because one process makes them. The clock stands still here, so they are one process's.
        self.ids = Ids()
        self._ids: dict[int, Ids] = {}
        for store in stores:
            # A clock that is off is not what this is about; a test's own is years off.
            store.now = self._utc  # type: ignore[method-assign]
        self.members: list[Member | PartMember] = [
            PartMember(self, store, f"s{number}") if isinstance(store, MemoryStores) else Member(self, store, f"s{number}")
            for number, store in enumerate(stores, 1)
        ]

    def ids_of(self, place: Place) -> Ids:
        """One process's ids of a partition."""
        return self._ids.setdefault(place.index, Ids(place=place))

    async def _utc(self) -> float:
        return self.clock.now() + self.clock.skew()

    async def settled(self) -> None:
        """Return when nothing is on its way between them."""
        quiet = 0
        for _ in range(1_000):
            before = self.moved
            await asyncio.sleep(0)
            quiet = quiet + 1 if self.moved == before and not self.under_way else 0
            if quiet > TURNS:
                return

    async def start(self) -> None:
        """Start them one after the other, so that the first owns the queue and every other one knows it."""
        for member in self.members:
            member.start()
            for _ in range(10):
                with contextlib.suppress(TimeoutError):
                    await until(member.knows, PATIENCE_SECONDS)
                    break
                # A store that is real may not have answered in time, and is asked again when time passes.
                self.clock.advance(1.0)
            assert member.knows()

    async def dial(self, factory: Callable[[], Link], address: str) -> object:
        """Connect one to another."""
        (member,) = (each for each in self.members if each.ownership.address == address)
        loop = asyncio.get_running_loop()
        mine, theirs = socket.socketpair()
        for each in (mine, theirs):
            each.setblocking(False)
        await loop.connect_accepted_socket(member.peers, theirs)
        return await loop.create_connection(factory, sock=mine)

    @property
    def reign(self) -> Reign:
        """That of the owner."""
        (reign,) = (member.reign for member in self.members if member.reign is not None)
        return reign

    @property
    def links(self) -> list[FrontLink | OwnerLink]:
        """Every link that is up, both sides of each."""
        return [link for member in self.members for link in member.links]

    @property
    def under_way(self) -> bool:
        """Whether anything is sent that is not read yet."""
        return any(link.unwritten_bytes for link in self.links) or sum(link.bytes_out - link.bytes_in for link in self.links) != 0

    @property
    def moved(self) -> int:
        """Grows with all that is sent."""
        return sum(link.bytes_out for link in self.links)

    async def close(self) -> None:
        """End them, the owner last."""
        for member in sorted(self.members, key=lambda each: each.reign is not None):
            closing = asyncio.ensure_future(member.close())
            async with asyncio.timeout(GUARD):
                while not closing.done():
                    # What it waits for may be time; where a store is real, it is not.
                    await asyncio.wait({closing}, timeout=0.01)
                    self.clock.advance(0.1)
            await closing


async def _lives(address: str) -> bool:
    return False


async def _here(work: Callable[[], T]) -> T:
    return work()


async def until(true: Callable[[], bool], seconds: float = GUARD) -> None:
    """Let the loop turn until something holds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 # what is waited for signals nobody
            await asyncio.sleep(0)


# What tests on one server ask instead of it.

_behind_edges: list[Servers] = []


async def settled() -> None:
    """Return when what an edge has asked for has come about at the server that does it, as it has at once where there is one."""
    for each in list(_behind_edges):
        await each.settled()


async def behind(limits: Limits, clock: ManualClock) -> tuple[Backend, LocalBackend, Callable[[], Awaitable[None]]]:
    """What an edge under test serves, the backend that does the work, which is the same where there is one server, and what closes both."""
    if current == "one":
        local = LocalBackend(limits, clock=clock)
        return local, local, local.close
    stores: list[Store | MemoryStores]
    if current == "two":
        shared = Shared(clock)
        stores = [MemoryStore(shared), MemoryStore(shared)]
    else:
        several = SharedSet(clock, partitions=PARTITIONS)
        stores = [MemoryStores(several), MemoryStores(several)]
        for store in stores:
            store.prepare()  # type: ignore[union-attr]
    both = Servers(limits, clock, stores)
    await both.start()
    _behind_edges.append(both)
    front, local = both.members[1].backend, both.reign.local
    # A test that drains means the server that it asks.
    local.drain = front.drain  # type: ignore[method-assign]

    async def close() -> None:
        _behind_edges.remove(both)
        del local.drain
        await both.close()

    return front, local, close


_numbers = itertools.count()
_shared: dict[str, SharedSet] = {}
"""The stores of this process, by URL."""

_backend = server._backend
_open_store = cluster.open_store


def _open(settings: Settings) -> StoreSet:
    shared = _shared.get(settings.store or "")
    return _open_store(settings) if shared is None else MemoryStores(shared)


@contextlib.asynccontextmanager
async def _behind(settings: Settings, exposure: Exposure) -> AsyncIterator[Backend]:
    """A front of its own process's wiring, with an owner beside it."""
    if settings.store is not None or settings.data is not None:
        async with _backend(settings, exposure) as backend:
            yield backend
        return
    url = f"memory://{next(_numbers)}"
    count = PARTITIONS if current == "partitioned" else None
    both = msgspec.structs.replace(
        settings, store=url, partitions=count, peer_host="127.0.0.1", peer_port=0, owner_lease_seconds=LEASE_SECONDS
    )
    _shared[url] = SharedSet(SystemClock())
    try:
        async with _backend(both, exposure) as owner:
            await _found(owner)
            async with _backend(both, exposure) as front:
                await _found(front)
                yield front
    finally:
        del _shared[url]


async def _found(server: Backend) -> None:
    """Return when a server knows who owns the queue."""
    for each in server.backends if isinstance(server, PartitionedBackend) else [server]:
        assert isinstance(each, ClusterBackend)
        assert await each.found(each.clock.now() + GUARD)


def install() -> None:
    """Have every server of this process that keeps its jobs in memory be a front: for jobqueue.testing."""
    replaced: Any = {server: ("_backend", _behind), cluster: ("open_store", _open)}
    for module, (name, new) in replaced.items():
        setattr(module, name, new)
    # Tests may read what a server logs of what they do to it. That one is about to own the queue is nothing of that.
    for logger in ("jobqueue.cluster", "jobqueue.peer"):
        logging.getLogger(logger).setLevel(logging.ERROR)


class Pair:
    """Two whole servers of this process on one store, HTTP and links included, each of which ends and starts again as a test says."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(host="127.0.0.1", port=0, drain_seconds=2.0, peer_port=0, store=f"memory://{next(_numbers)}", **settings)
        self.ports = [0, 0]
        self._apps: dict[int, App] = {}
        self._leave: dict[int, asyncio.Event] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @property
    def urls(self) -> list[str]:
        """Where they are, up or not."""
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    @property
    def owner(self) -> int | None:
        """Which of them owns the queue."""
        return next((number for number in self._apps if self.backend(number).ownership.reign is not None), None)

    @property
    def waiters(self) -> int:
        """How many stand in line at the owner."""
        owner = self.owner
        reign = None if owner is None else self.backend(owner).ownership.reign
        return 0 if reign is None else reign.local.totals().waiters

    def backend(self, number: int) -> ClusterBackend:
        """The backend of one that is up."""
        backend = self._apps[number].site.backend
        assert isinstance(backend, ClusterBackend)
        return backend

    async def start(self, number: int) -> None:
        """Start one, where it was before; return once it serves."""
        serves = asyncio.get_running_loop().create_future()
        self._leave[number] = asyncio.Event()
        self._tasks[number] = asyncio.create_task(self._serve(number, serves))
        await asyncio.wait({serves, self._tasks[number]}, return_when=asyncio.FIRST_COMPLETED)
        if not serves.done():
            await self._tasks[number]
        await _found(self.backend(number))

    async def _serve(self, number: int, serves: asyncio.Future[None]) -> None:
        settings = msgspec.structs.replace(self.settings, port=self.ports[number])
        async with server.running(settings) as (app, port):
            self._apps[number], self.ports[number] = app, port
            serves.set_result(None)
            await self._leave[number].wait()
            del self._apps[number]

    async def stop(self, number: int) -> None:
        """Have one end as by SIGTERM; return once it has."""
        self._leave[number].set()
        await self._tasks.pop(number)

    async def __aenter__(self) -> Self:
        assert self.settings.store is not None
        _shared[self.settings.store] = SharedSet(SystemClock())
        cluster.open_store = _open
        for number in (0, 1):
            await self.start(number)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for number in list(self._tasks):
            await self.stop(number)
        assert self.settings.store is not None
        del _shared[self.settings.store]
