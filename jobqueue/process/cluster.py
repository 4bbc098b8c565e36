"""One server of several: its store, its part in owning the queue, and the port at which the others reach it (`jobqueue serve --store`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Literal

from jobqueue.backend.base import Backend
from jobqueue.backend.group import NotNow
from jobqueue.backend.loading import CannotOpen, check_whole
from jobqueue.backend.store.cluster import ClusterBackend
from jobqueue.backend.store.frames import Identity
from jobqueue.backend.store.membership import Membership
from jobqueue.backend.store.ownership import HAND_OVERS, Ownership
from jobqueue.backend.store.partitioned import PartitionedBackend
from jobqueue.backend.store.peer import PeerServer
from jobqueue.backend.store.remote import RemoteBackend
from jobqueue.backend.store.several import Several
from jobqueue.backend.store.sharing import Lending
from jobqueue.backend.store.signals import Signal
from jobqueue.backend.store.source import LinkSource
from jobqueue.backend.store.standby import AGAIN_SECONDS, Standby
from jobqueue.backend.store.stores import StoreSet
from jobqueue.backend.store.sweeping import Sweeping
from jobqueue.clock import Clock, SystemClock
from jobqueue.engine.engine import Engine
from jobqueue.partition import ALONE, Place
from jobqueue.process.certificates import PeerTls
from jobqueue.process.config import Settings
from jobqueue.process.exposure import CannotListenError

_logger = logging.getLogger("jobqueue.cluster")

LOOPBACK_SECRET = "jobqueue-on-this-machine"
"""The shared secret of servers on one machine's loopback if none is configured: anyone who can connect there can use the queue anyway."""

CHORE_SECONDS = 30.0
"""How soon to begin again what failed in the background."""

AGAIN_SECONDS_EACH, PARTITIONS_A_SECOND = 10.0, 8
"""How often a server asks to follow the owner of a partition, which another server may follow; and for how many in each second."""

_ACKNOWLEDGE: dict[str, Literal[0, 1, 2, "aof"]] = {"0": 0, "1": 1, "2": 2, "aof": "aof"}


def open_store(settings: Settings) -> StoreSet:
    """The store that the settings name, not connected yet. Raises CannotOpen."""
    assert settings.store is not None
    try:
        if settings.store.startswith("valkey"):
            from jobqueue.backend.store.valkey import ValkeyStores

            return ValkeyStores(settings.store, _ACKNOWLEDGE[settings.acknowledge])
        from jobqueue.backend.store.postgres import PostgresStores

        return PostgresStores(settings.store)
    except ImportError as error:
        extra = "store-valkey" if settings.store.startswith("valkey") else "store-postgres"
        raise CannotOpen(f"--store needs {error.name}: pip install '.[{extra}]' in a clone of the repository") from None
    except ValueError as error:
        raise CannotOpen(f"--store: {error}") from None


class _Stacks:
    """Makes this server's part in each partition: its ownership and standby, and the links to the other servers."""

    def __init__(self, settings: Settings, tls: PeerTls | None, stores: StoreSet) -> None:
        self.settings = settings
        self.limits = settings.limits
        self.clock = SystemClock()
        self.stores = stores
        secret = settings.peer_secret or (LOOPBACK_SECRET if tls is None else None)
        # Unique for each process: two processes with one name would take the queue from each other.
        self.identity = Identity(f"{socket.gethostname()[:150]}:{os.getpid()}-{secrets.token_hex(2)}", secret)
        self._context = None if tls is None else lambda: tls.client
        self._turns = asyncio.Semaphore(HAND_OVERS)

    def backend(self, place: Place, membership: Membership | None = None) -> ClusterBackend:
        """The backend of one partition, not started yet. membership: common to several."""
        store, clock, identity, limits, tls = self.stores[place.index], self.clock, self.identity, self.limits, self._context
        index = place.index

        def connect(address: str) -> RemoteBackend:
            returns = backend.return_jobs
            return RemoteBackend(lambda: address, identity, limits, clock=clock, tls=tls, return_jobs=returns, partition=index)

        def follow(address: str) -> LinkSource:
            return LinkSource(lambda: address, identity, limits, clock=clock, tls=tls, partition=index)

        again = AGAIN_SECONDS if place.count == 1 else max(AGAIN_SECONDS_EACH, place.count / PARTITIONS_A_SECOND)
        standby = Standby(store, clock, lambda: Engine(limits, place=place), follow, again_seconds=again) if self.settings.standby else None
        ownership = Ownership(
            store,
            identity.name,
            "",
            clock,
            limits,
            lease_seconds=self.settings.owner_lease_seconds,
            standby=standby,
            place=place,
            membership=membership,
            turns=self._turns,
            ready=self._whole if place.index else None,
        )
        backend = ClusterBackend(ownership, connect)
        return backend

    async def _whole(self) -> None:
        """A restore marks the first partition first, and finishes it last: the others are whole only with it. Raises CannotOpen."""
        # If it cannot answer now: it was whole when this server started, and only an empty store that no server uses is restored to.
        with contextlib.suppress(NotNow):
            check_whole(self.stores.path, await self.stores[0].counters())

    async def listen(self, peers: PeerServer, tls: PeerTls | None) -> str:
        """Listen for the other servers. Returns the address at which they reach this one. Raises CannotListenError."""
        host, port = self.settings.peer_host, self.settings.peer_port
        try:
            port = await peers.listen(host, port, None if tls is None else tls.server)
        except OSError as error:
            raise CannotListenError(f"cannot listen on {host}:{port} for other servers: {error.strerror or error}") from error
        return self.settings.peer_address or f"{f'[{host}]' if ':' in host else host}:{port}"


@contextlib.asynccontextmanager
async def joined(settings: Settings, tls: PeerTls | None) -> AsyncIterator[Backend]:
    """This server's backend, while it is one of the servers. Raises CannotOpen, CannotListenError.

    On exit it hands over what it owns, closes the links to the others, and closes the store.
    """
    stores = open_store(settings)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(stores.close)
        try:
            await stores.open(settings.partitions)
            for store in stores:
                check_whole(stores.path, await store.counters())
        except NotNow as error:
            raise CannotOpen(f"{stores.path}: {error}") from None
        stacks = _Stacks(settings, tls, stores)
        if stores.partitions == 1:
            backend: Backend = await stack.enter_async_context(_alone(stacks, tls))
        else:
            backend = await stack.enter_async_context(_several(stacks, tls))
        yield backend


@contextlib.asynccontextmanager
async def _alone(stacks: _Stacks, tls: PeerTls | None) -> AsyncIterator[ClusterBackend]:
    backend = stacks.backend(ALONE)
    peers = PeerServer(backend.own, stacks.identity, stacks.limits, clock=stacks.clock, feeds=backend.feeds)
    backend.ownership.membership.address = await stacks.listen(peers, tls)
    try:
        # Closed only at the end: the others take a port that refuses connections for that of a dead server.
        backend.ownership.start()
        _say(stacks, backend.ownership.address)
        yield backend
    finally:
        await leave(backend, peers)


@contextlib.asynccontextmanager
async def _several(stacks: _Stacks, tls: PeerTls | None) -> AsyncIterator[Backend]:
    count = stacks.stores.partitions
    membership = Membership(stacks.stores, stacks.identity.name, "", stacks.clock)
    backends = [stacks.backend(Place(index, count), membership) for index in range(count)]
    several = Several(membership, backends)
    first, *more = [(backend.own, backend.feeds) for backend in backends]
    peers = PeerServer(first[0], stacks.identity, stacks.limits, clock=stacks.clock, feeds=first[1], more=more)
    membership.address = await stacks.listen(peers, tls)
    hasty = [backend.hasty for backend in backends]
    lending = Lending(hasty, stacks.limits, partial(_epoch_of_first, several), stacks.clock)
    chores = (Sweeping(backends, several.owns, stacks.clock).run, lending.run)
    tasks = [asyncio.create_task(_lasting(chore, stacks.clock)) for chore in chores]
    try:
        several.start()
        _say(stacks, membership.address)
        yield PartitionedBackend(backends, stacks.limits, clock=stacks.clock, hasty=hasty)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # In this order for the same reasons as in `leave`.
        await several.handed_over()
        await peers.close()
        await several.close()


async def _lasting(run: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Do something as long as this server runs, whatever happens to it."""
    while True:
        try:
            await run()
        except Exception:
            # A defect. The partitions are served without it.
            _logger.exception("%s begins again in %g s", getattr(run, "__qualname__", run), CHORE_SECONDS)
        await Signal(clock).wait(clock.now() + CHORE_SECONDS)


def _epoch_of_first(several: Several) -> int | None:
    """The epoch of this server as the owner of the first partition; None if it is not."""
    reign = several.backends[0].ownership.reign
    return None if reign is None else reign.lease.epoch


def _say(stacks: _Stacks, address: str) -> None:
    _logger.info("one of the servers on %s: %s, reached by the others at %s", stacks.stores.path, stacks.identity.name, address)


async def leave(backend: ClusterBackend, peers: PeerServer) -> None:
    """Shut down one of several servers, once its clients are gone."""
    # Called before the links close: another server is about to confirm what it delivered, and takes a port that refuses for a dead
    # server's.
    await backend.ownership.handed_over()
    await peers.close()
    await backend.close()
