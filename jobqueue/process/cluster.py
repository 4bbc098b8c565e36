"""One server of several: its store, its part in owning the queue, and the port at which the others reach it (`jobqueue serve --store`)."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from typing import Literal

from jobqueue.backend.group import NotNow
from jobqueue.backend.loading import CannotOpen, check_whole
from jobqueue.backend.store.cluster import ClusterBackend
from jobqueue.backend.store.frames import Identity
from jobqueue.backend.store.ownership import Ownership
from jobqueue.backend.store.peer import PeerServer
from jobqueue.backend.store.remote import RemoteBackend
from jobqueue.backend.store.source import LinkSource
from jobqueue.backend.store.standby import Standby
from jobqueue.backend.store.stores import StoreSet
from jobqueue.clock import SystemClock
from jobqueue.engine.engine import Engine
from jobqueue.process.certificates import PeerTls
from jobqueue.process.config import Settings
from jobqueue.process.exposure import CannotListenError

_logger = logging.getLogger("jobqueue.cluster")

LOOPBACK_SECRET = "jobqueue-on-this-machine"
"""The shared secret of servers on one machine's loopback if none is configured: anyone who can connect there can use the queue anyway."""


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


@contextlib.asynccontextmanager
async def joined(settings: Settings, tls: PeerTls | None) -> AsyncIterator[ClusterBackend]:
    """This server's backend, while it is one of the servers. Raises CannotOpen, CannotListenError.

    On exit it hands over the queue, closes the links to the others, and closes the store.
    """
    stores = open_store(settings)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(stores.close)
        try:
            await stores.open(1)
            store = stores[0]
            check_whole(store.path, await store.counters())
        except NotNow as error:
            raise CannotOpen(f"{stores.path}: {error}") from None
        clock, limits = SystemClock(), settings.limits
        secret = settings.peer_secret or (LOOPBACK_SECRET if tls is None else None)
        # Unique for each process: two processes with one name would take the queue from each other.
        identity = Identity(f"{socket.gethostname()[:150]}:{os.getpid()}-{secrets.token_hex(2)}", secret)

        def connect(address: str) -> RemoteBackend:
            context = None if tls is None else lambda: tls.client
            return RemoteBackend(lambda: address, identity, limits, clock=clock, tls=context, return_jobs=backend.return_jobs)

        def follow(address: str) -> LinkSource:
            return LinkSource(lambda: address, identity, limits, clock=clock, tls=None if tls is None else lambda: tls.client)

        standby = Standby(store, clock, lambda: Engine(limits), follow) if settings.standby else None
        ownership = Ownership(store, identity.name, "", clock, limits, lease_seconds=settings.owner_lease_seconds, standby=standby)
        backend = ClusterBackend(ownership, connect)
        peers = PeerServer(backend.own, identity, limits, clock=clock, feeds=backend.feeds)
        try:
            port = await peers.listen(settings.peer_host, settings.peer_port, None if tls is None else tls.server)
        except OSError as error:
            reason = error.strerror or error
            raise CannotListenError(f"cannot listen on {settings.peer_host}:{settings.peer_port} for other servers: {reason}") from error
        host = f"[{settings.peer_host}]" if ":" in settings.peer_host else settings.peer_host
        ownership.membership.address = settings.peer_address or f"{host}:{port}"
        stack.push_async_callback(leave, backend, peers)
        # Closed only now: the others take a port that refuses connections for that of a dead server.
        ownership.start()
        _logger.info("one of the servers on %s: %s, reached by the others at %s", store.path, identity.name, ownership.address)
        yield backend


async def leave(backend: ClusterBackend, peers: PeerServer) -> None:
    """Shut down one of several servers, once its clients are gone."""
    # Called before the links close: another server is about to confirm what it delivered, and takes a port that refuses for a dead
    # server's.
    await backend.ownership.handed_over()
    await peers.close()
    await backend.close()
