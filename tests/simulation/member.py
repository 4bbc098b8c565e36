"""One life of one server of many: HTTP edge, link to the others, and its part in each partition; all of them the real thing, with ears."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

from jobqueue.api.app import build_app
from jobqueue.backend.base import Backend
from jobqueue.backend.group import NotNow
from jobqueue.backend.loading import check_whole
from jobqueue.backend.store import balance, claiming, sweeping
from jobqueue.backend.store import ownership as ownership_module
from jobqueue.backend.store.frames import Identity
from jobqueue.backend.store.front import FrontLink
from jobqueue.backend.store.membership import Membership
from jobqueue.backend.store.ownership import HAND_OVERS
from jobqueue.backend.store.partitioned import PartitionedBackend
from jobqueue.backend.store.peer import OwnerLink, PeerServer
from jobqueue.backend.store.several import Several
from jobqueue.backend.store.sharing import Lending
from jobqueue.backend.store.sweeping import Sweeping
from jobqueue.backend.store.valkey import ValkeyStore, ValkeyStores
from jobqueue.backend.store.valkey_link import Link as StoreLink
from jobqueue.clock import SystemClock
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request
from jobqueue.ids import Ids
from jobqueue.partition import ALONE, Place
from jobqueue.process.cluster import _epoch_of_first, leave
from jobqueue.process.server import drain
from tests import ways

from .history import Ask
from .machines import Machine, here
from .net import Link, Poll
from .reigns import ReignChecker, view_of
from .server import _InOrder
from .stack import Common, Inherited, Stack, on_behalf

if TYPE_CHECKING:
    from .cluster import ClusterWorld

PEER_PORT = 8081
SECRET = "a secret that all of the servers know"
SWEPT_SECONDS = 2.0
"""How old a claim is when it is looked at whether its job is gone."""

_NOBODYS = frozenset({"ClusterBackend._revive", "ClusterBackend._follow", "ClusterBackend._return"})
"""What a server goes on with by itself once a request has begun it."""


class Clock(SystemClock):
    """A machine's. Each boots apart from the others."""

    def __init__(self, boot: str) -> None:
        super().__init__()
        self._boot = boot


class Member:
    """A server from its start to its end. To be made on its machine. hurt_at: when something last befell it or its connections."""

    def __init__(self, world: ClusterWorld, host: str, number: int, machine: Machine) -> None:
        self.world = world
        self.host = host
        self.number = number
        self.name = f"{host}-{number}"
        self.machine = machine
        machine.life = self
        self.random = Random(f"{world.seed} {self.name}")
        self.cause: Ask | None = None
        self.stopping = self.gone = False
        self.stacks: list[Stack] = []
        self.hurt_at = world.loop.time()
        self.died_at: float | None = None
        self.links: list[Link] = []
        self.open: dict[int, Ask] = {}
        self._poll = Poll()
        plan = world.plan
        self.clock = Clock(f"{host}, boot {world.boots.get(host, 0)}")
        self.secret, self.address = SECRET, f"{host}:{PEER_PORT}"
        self.several: Several | None = None
        self.backend: Backend
        if plan.partitions == 1:
            store = ValkeyStore(world.url, plan.acknowledge)
            self.stacks = [Stack(self, ALONE, store, Ids(self.random.randbytes))]
            self.backend = self.stacks[0].backend
        else:
            self.backend = self._divided(plan.partitions)
        (own, feeds), *more = [(stack.backend.own, stack.backend.feeds) for stack in self.stacks]
        self.peers = PeerServer(own, Identity(self.name, SECRET), plan.limits, clock=self.clock, feeds=feeds, more=more)
        self.peers.links = cast(Any, _InOrder())
        self.app = build_app(self.backend, plan.limits, body_seconds=5.0)
        self.server = ways.server(self.app, connections_max=plan.connections, idle_seconds=20.0, write_seconds=10.0)
        self.server.handler = cast(Any, self._serve)
        self.server.open = cast(Any, _InOrder())
        self.server.poll = cast(Any, self._poll)
        # Not told, as on systems other than Linux: nobody would know on whose behalf a job is given back then.
        self.server.unacknowledged = lambda fd: False  # type: ignore[method-assign]

    def _divided(self, count: int) -> PartitionedBackend:
        plan = self.world.plan
        stores = ValkeyStores(self.world.url, plan.acknowledge)
        # As `open` does, once it has looked at everything that a running server never looks at again.
        stores._take(count)
        membership = Membership(stores, self.name, self.address, self.clock)
        turns = asyncio.Semaphore(HAND_OVERS)
        self.stacks = []
        for index in range(count):
            place = Place(index, count)
            ids = Ids(self.random.randbytes, place)
            self.stacks.append(Stack(self, place, stores[index], ids, Common(membership, turns, partial(_whole, stores))))
        backends = [stack.backend for stack in self.stacks]
        self.several = Several(membership, backends)
        for stack in self.stacks:
            stack.listen_to_balancing()
        hasty = [backend.hasty for backend in backends]
        lending = Lending(hasty, plan.limits, partial(_epoch_of_first, self.several), self.clock)
        self._chores = Sweeping(backends, self.several.owns, self.clock).run, lending.run
        return PartitionedBackend(backends, plan.limits, clock=self.clock, hasty=hasty)

    async def start(self) -> None:
        """Listen, and take part."""
        await self.peers.listen(self.host, PEER_PORT)
        if self.several is None:
            self.stacks[0].ownership.start()
        else:
            self.several.start()
            self._tasks = [self.world.loop.create_task(chore()) for chore in self._chores]

    @property
    def reigns(self) -> list[ReignChecker]:
        """All that this server has begun."""
        return [checker for stack in self.stacks for checker in stack.reigns]

    def inherits(self, work: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        """What a task is to run that is made now. What a front does at several partitions at once is done on behalf of its request."""
        cause = self.cause
        if len(self.stacks) == 1 or cause is None or getattr(work, "__qualname__", "") in _NOBODYS:
            return work

        return Inherited(self, cause, work)

    def _serve(self, request: Request) -> Any:
        """The app's own handler, overheard."""
        ask = self.world.asks[int(request.head.headers["X-Request"])]
        self.world.history.note("parsed by", self.name, ask.number)
        self.open[ask.number] = ask
        ask.until, ask.written, ask.slow = self.world.loop.time() + ask.wait, ask.link.server.written, ask.link.client.slow
        serving: Coroutine[Any, Any, Answer] = self.app.handle(request)

        def done(answer: Answer | None) -> None:
            if not self.machine.dead:
                self.open.pop(ask.number, None)
                self.world.finished(self, ask, answer)

        return on_behalf(self, ask, serving, done)

    async def machine_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something on its machine."""
        await self.machine.context.run(self.world.loop.create_task, work)

    # Connections.

    def accept(self, link: Link) -> None:
        """A client connects. On this server's machine."""
        self.links.append(link)
        self._poll.ends[link.fd] = link.server
        link.server.protocol = self.server()
        link.server.protocol.connection_made(link.server)

    # Ends.

    def die(self, off: bool = False) -> None:
        """kill -9; off: the whole machine."""
        world = self.world
        self.died_at = world.loop.time()
        self.gone = True
        self.machine.dead = True
        self.machine.stopped = False
        for ask in list(self.open.values()):
            world.finished(self, ask, None)
        if off:
            world.network.off.add(self.host)
        world.network.close(self.host)
        for link in self.links:
            if off:
                link.server.vanish()
            else:
                link.server.die()
        for wire in world.network.wires:
            for end in wire.ends:
                if end.machine is self.machine:
                    end.die()

    async def stop(self, seconds: float) -> None:
        """SIGTERM, as the process takes it. On this server's machine."""
        self.stopping = True
        await drain(self.app, self.server, seconds, asyncio.Event())
        if self.several is None:
            await leave(self.stacks[0].backend, self.peers)
        else:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.several.handed_over()
            await self.peers.close()
            await self.several.close()
        self.gone = True
        self.machine.dead = True
        self.world.network.close(self.host)
        for link in self.links:
            link.server.die()
        for wire in self.world.network.wires:
            for end in wire.ends:
                if end.machine is self.machine:
                    end.die()


async def _whole(stores: ValkeyStores) -> None:
    with contextlib.suppress(NotNow):
        check_whole(stores.path, await stores[0].counters())


def _there() -> Member:
    machine = here()
    assert machine is not None
    return cast(Member, machine.life)


def _stack(place: Place) -> Stack:
    return _there().stacks[place.index]


@contextlib.contextmanager
def ears(world: ClusterWorld) -> Iterator[None]:
    """Listen to what every server of a world makes by itself: engines, journals, reigns, and questions between servers."""
    plain_ask, plain_begin, plain_views = FrontLink.ask, OwnerLink._begin, StoreLink._views

    async def ask(link: FrontLink, kind: Any, op: int, *arguments: Any) -> Any:
        member, wire = _there(), cast(Any, link.transport).wire
        if member.cause is not None:
            world.via[wire, link._newest + 1] = view_of(member.cause)
        asked = arguments[0] if arguments else ()
        world.traps.at("front asks", member, asked)
        answer = await plain_ask(link, kind, op, *arguments)
        world.traps.at("front hears", member, asked)
        return answer

    def begin(link: OwnerLink, n: int, serving: Any, op: int, at_once: bool = True) -> None:
        member, wire = _there(), cast(Any, link.transport).wire
        plain_begin(link, n, on_behalf(member, world.via.get((wire, n)), serving, lambda _: None), op, at_once)

    async def views(link: StoreLink, places: Any) -> Any:
        # A set, whose order is another one in each process.
        return await plain_views(link, sorted(places))

    with contextlib.ExitStack() as stack:
        for target, name, new in (
            (StoreLink, "_views", views),
            (FrontLink, "ask", ask),
            (OwnerLink, "_begin", begin),
            (ownership_module, "Engine", lambda *given, **known: _stack(known["place"]).engine(*given, **known)),
            (ownership_module, "GroupJournal", lambda engine, *given, **known: _stack(engine.place).journal(engine, *given, **known)),
            (ownership_module, "ReigningBackend", lambda **known: _stack(known["engine"].place).reigning(**known)),
            (ownership_module, "Reign", lambda lease, local, *given: _stack(local.engine.place).begins(lease, local, *given)),
            # The partitions of a world have as much to do with each other in a minute as others in hours.
            (balance, "CALM_SECONDS", world.plan.calm),
            (sweeping, "AGE_SECONDS", SWEPT_SECONDS),
            (sweeping, "REST_SECONDS", SWEPT_SECONDS),
            (claiming, "random", Random(f"{world.seed} claiming")),
        ):
            stack.enter_context(mock.patch.object(target, name, new))
        yield
