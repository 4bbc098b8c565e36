"""One life of one server of many: HTTP edge, link to the others, ownership, store client; all of them the real thing, with ears.

The ears know on whose behalf anything happens, over the link between servers too: a question of a front's carries the request that it is
asked for, under the connection and number by which the owner gets it.
"""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

from jobqueue.api.app import build_app
from jobqueue.backend.group import Group
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.store import ownership as ownership_module
from jobqueue.backend.store.cluster import ClusterBackend
from jobqueue.backend.store.frames import Identity
from jobqueue.backend.store.front import FrontLink
from jobqueue.backend.store.gift import refuses
from jobqueue.backend.store.own import OwnTaking, Reign, ReigningBackend
from jobqueue.backend.store.ownership import Ownership
from jobqueue.backend.store.peer import OwnerLink, PeerServer
from jobqueue.backend.store.remote import RemoteBackend
from jobqueue.backend.store.source import LinkSource
from jobqueue.backend.store.standby import Standby
from jobqueue.backend.store.valkey import ValkeyStore
from jobqueue.backend.store.valkey_link import Link as StoreLink
from jobqueue.backend.waiters import Waiter
from jobqueue.clock import SystemClock
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Event
from jobqueue.errors import QueueError
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request
from jobqueue.ids import Ids
from jobqueue.model import Job, Want
from jobqueue.process.cluster import leave
from jobqueue.process.server import drain
from tests import ways

from .history import Ask
from .loop import passing
from .machines import Machine, here
from .net import Link, Poll
from .reigns import ReignChecker, view_of
from .server import _InOrder
from .valkey import NODES, PORT

if TYPE_CHECKING:
    from .cluster import ClusterWorld

PEER_PORT = 8081
SECRET = "a secret that all of the servers know"


@types.coroutine
def on_behalf(member: Member, ask: Ask | None, work: Coroutine[Any, Any, Any], done: Callable[[Any], object]) -> Generator[Any, Any, Any]:
    """A coroutine, step by step, so that it is known on whose behalf anything happens. done: called at its end, with what it returned."""
    step: Any = work.send
    given: Any = None
    answer: Any = None
    try:
        while True:
            before, member.cause = member.cause, ask
            try:
                waits_for = step(given)
            except StopIteration as stop:
                answer = stop.value
                return stop.value
            finally:
                member.cause = before
            try:
                given = yield waits_for
                step = work.send
            except BaseException as error:
                step, given = work.throw, error
    finally:
        given = None
        done(answer)


class _Events(list[Event]):
    """The engine's events, overheard."""

    checker: ReignChecker | None = None
    followed = False
    """Whether the engine was a standby's."""
    heard: Callable[[Event], None] = staticmethod(lambda event: None)

    def append(self, event: Event) -> None:
        self.heard(event)
        super().append(event)


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
        self.hurt_at = world.loop.time()
        self.died_at: float | None = None
        self.reigns: list[ReignChecker] = []
        self.links: list[Link] = []
        self.open: dict[int, Ask] = {}
        self._poll = Poll()
        plan = world.plan
        self.clock = Clock(f"{host}, boot {world.boots.get(host, 0)}")
        self.ids = Ids(self.random.randbytes)
        url = "valkey://" + ",".join(f"{node}:{PORT}" for node in NODES)
        self.store = ValkeyStore(url, plan.acknowledge)
        self._listen_to_store()
        identity = Identity(self.name, SECRET)
        address = f"{host}:{PEER_PORT}"
        self.standby: Standby | None = None
        if plan.standby:
            self.standby = Standby(
                self.store,
                self.clock,
                lambda: self._following(self.engine(plan.limits, self.ids)),
                lambda at: LinkSource(lambda: at, identity, plan.limits, clock=self.clock),
                aside=self._aside,
            )
        self.ownership = Ownership(
            self.store,
            self.name,
            address,
            self.clock,
            plan.limits,
            probe=self._probe,
            aside=self._aside,
            ids=self.ids,
            standby=self.standby,
        )

        def connect(at: str) -> RemoteBackend:
            return RemoteBackend(lambda: at, identity, plan.limits, clock=self.clock, return_jobs=self.backend.return_jobs)

        self.backend = ClusterBackend(self.ownership, connect)
        self._listen_to_backend()
        self.peers = PeerServer(self.backend.own, identity, plan.limits, clock=self.clock, feeds=self.backend.feeds)
        self.peers.links = cast(Any, _InOrder())
        self.app = build_app(self.backend, plan.limits, body_seconds=5.0)
        self.server = ways.server(self.app, connections_max=plan.connections, idle_seconds=20.0, write_seconds=10.0)
        self.server.handler = cast(Any, self._serve)
        self.server.open = cast(Any, _InOrder())
        self.server.poll = cast(Any, self._poll)
        # Not told, as on systems other than Linux: nobody would know on whose behalf a job is given back then.
        self.server.unacknowledged = lambda fd: False  # type: ignore[method-assign]

    async def _probe(self, address: str) -> bool:
        return self.world.lied_to == self.host or await refuses(address)

    async def start(self) -> None:
        """Listen, and take part."""
        await self.peers.listen(self.host, PEER_PORT)
        self.ownership.start()

    # The ears.

    @property
    def reign(self) -> ReignChecker | None:
        """The last one that began to serve."""
        return self.reigns[-1] if self.reigns and self.reigns[-1].reign is not None else None

    def _listen_to_store(self) -> None:
        store, plain = self.store, self.store.writer

        def writer(epoch: int, seconds: float, renewed: Callable[[float], object]) -> Any:
            made = cast(Any, plain(epoch, seconds, renewed))
            checker = self.reigns[-1]
            write = made.write

            def heard(group: Group, finished: Callable[[Exception | None], None]) -> None:
                shadow = checker.shadow(checker.journal._handed)

                def done(error: Exception | None) -> None:
                    if error is None and not self.machine.dead:
                        self.world.acknowledged_commit((made._token, number), shadow, checker)
                        checker.acknowledged(shadow)
                    finished(error)

                write(group, done)
                number = made._number
                self.world.valkey.shadows[made._token, number] = shadow

            made.write = heard
            return made

        store.writer = writer  # type: ignore[method-assign]

    def engine(self, *given: Any) -> Engine:
        """An engine, of a reign that begins or of one to come. Nothing is heard of it before its reign."""
        engine = Engine(*given, random=Random(self.random.random()))
        events = engine.events = _Events()
        events.heard = lambda event: None if events.checker is None else events.checker.happened(event, self.cause)

        def take_events() -> list[Event]:
            taken = list(events)
            events.clear()
            return taken

        def dequeue(now: float, want: Want) -> list[Job]:
            jobs = plain(now, want)
            if events.checker is not None:
                events.checker.handed_out(want)
            return jobs

        plain = engine.dequeue
        engine.take_events, engine.dequeue = take_events, dequeue  # type: ignore[method-assign]
        return engine

    def _following(self, engine: Engine) -> Engine:
        cast(_Events, engine.events).followed = True
        return engine

    async def _aside(self, work: Callable[[], Any]) -> Any:
        await passing(self.random.choice((0.0, 0.01, 0.5)))
        return work()

    def journal(self, engine: Engine, *given: Any, **known: Any) -> GroupJournal:
        """The journal of a reign."""
        journal = GroupJournal(engine, *given, **known)
        checker = ReignChecker(self.world, self)
        self.reigns.append(checker)
        checker.journal = journal
        checker.reads(*self.world.valkey.read[self.host])
        checker.loaded(engine)
        events = cast(_Events, engine.events)
        events.checker = checker
        self.world.counts["by a standby"] += events.followed
        self.world.history.note(self.name, "goes on from", "what it followed" if events.followed else "the rows")

        def append(events: Sequence[Event]) -> int:
            ticket = plain(events)
            if not checker.over:
                checker.appended(ticket, events, checker.view(self.cause))
            return ticket

        plain = journal.append
        journal.append = append  # type: ignore[method-assign]
        return journal

    def reigning(self, **known: Any) -> ReigningBackend:
        """The backend of a reign."""
        backend = ReigningBackend(**known)
        checker = self.reigns[-1]
        cast(Any, backend).checker = checker
        plain_replay, plain_take, plain_stand = backend.replay, backend.take, backend.stand

        def view() -> Ask | None:
            return None if checker.over else checker.view(self.cause)

        def replay(want: Want) -> list[Job]:
            jobs = plain_replay(want)
            if (ask := view()) is not None:
                checker.asked_again(want, ask, jobs)
            return jobs

        def take(want: Want) -> list[Job]:
            ask = view()
            if ask is None:
                return plain_take(want)
            checker.takes(ask)
            jobs = plain_take(want)
            checker.took(want, len(jobs))
            return jobs

        def stand(want: Want, wait: float) -> Waiter[list[Job]]:
            waiter = plain_stand(want, wait)
            if (ask := view()) is not None:
                checker.stands(ask, wait)
            return waiter

        backend.replay, backend.take, backend.stand = replay, take, stand  # type: ignore[method-assign]
        return backend

    def begins(self, lease: Any, local: Any, *given: Any) -> Reign:
        """A reign."""
        reign = Reign(lease, local, *given)
        checker = local.checker
        checker.reign = reign
        self.world.reigns.append(checker)
        self.world.history.note(self.name, "reigns, epoch", lease.epoch)
        return reign

    def _listen_to_backend(self) -> None:
        own = self.backend.own
        plain_pass, plain_job, plain_dequeue, plain_return = own._pass, own.job, own.dequeue, self.backend._return

        async def told(asked: Coroutine[Any, Any, Any], op: str, reads: bool = False) -> Any:
            cause, reign = self.cause, own._reign()
            checker = None if reign is None else cast(Any, reign.local).checker
            try:
                answer = await asked
            except QueueError as error:
                if checker is not None and cause is not None and not self.machine.dead:
                    checker.refused(checker.view(cause), error)
                raise
            if checker is not None and not self.machine.dead:
                checker.answers(cause, op, reads)
            return answer

        async def passed(ask: Any) -> Any:
            return await told(plain_pass(ask), "a request" if self.cause is None else str(self.cause))

        async def job(job_id: str, wait: float = 0.0) -> Job:
            return cast(Job, await told(plain_job(job_id, wait), f"a look at {job_id}", reads=True))

        def dequeue(want: Want, wait: float) -> Any:
            taking = cast(OwnTaking, plain_dequeue(want, wait))
            enter = taking.__aenter__

            async def entered() -> list[Job]:
                cause, reign = self.cause, own._reign()
                checker = None if reign is None else cast(Any, reign.local).checker
                try:
                    jobs = await enter()
                finally:
                    if checker is not None:
                        checker.left(cause)
                if jobs and checker is not None and cause is not None and not self.machine.dead:
                    checker.hands_over(cause)
                return jobs

            return _Taking(taking, entered)

        async def given_back(jobs: Sequence[Job]) -> None:
            for job in jobs:
                if job.lease is not None:
                    self.world.returning[job.lease.token] = self.world.loop.time()
            tokens = {job.id: job.lease.token for job in jobs if job.lease is not None}
            ask = self.world.ask("release", "", "", b"", tokens=tokens)
            await on_behalf(self, ask, plain_return(jobs), lambda _: None)

        backend: Any = self.backend
        backend.own._pass, backend.own.job, backend.own.dequeue, backend._return = passed, job, dequeue, given_back

    def _serve(self, request: Request) -> Any:
        """The app's own handler, overheard."""
        ask = self.world.asks[int(request.head.headers["X-Request"])]
        self.world.history.note("parsed by", self.name, ask.number)
        self.open[ask.number] = ask
        ask.until = self.world.loop.time() + ask.wait
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
        await leave(self.backend, self.peers)
        self.gone = True
        self.machine.dead = True
        self.world.network.close(self.host)
        for link in self.links:
            link.server.die()
        for wire in self.world.network.wires:
            for end in wire.ends:
                if end.machine is self.machine:
                    end.die()


class _Taking:
    """A dequeue at the owner, overheard."""

    def __init__(self, taking: OwnTaking, enter: Callable[[], Coroutine[Any, Any, list[Job]]]) -> None:
        self._taking = taking
        self._enter = enter

    @property
    def quiet(self) -> bool:
        return self._taking.quiet

    async def __aenter__(self) -> list[Job]:
        return await self._enter()

    async def __aexit__(self, *exc_info: object) -> None:
        await self._taking.__aexit__(*exc_info)

    def delivered(self) -> None:
        self._taking.delivered()


def _there() -> Member:
    machine = here()
    assert machine is not None
    return cast(Member, machine.life)


@contextlib.contextmanager
def ears(world: ClusterWorld) -> Iterator[None]:
    """Listen to what every server of a world makes by itself: engines, journals, reigns, and questions between servers."""
    plain_ask, plain_begin, plain_views = FrontLink.ask, OwnerLink._begin, StoreLink._views

    async def ask(link: FrontLink, kind: Any, op: int, *arguments: Any) -> Any:
        member, wire = _there(), cast(Any, link.transport).wire
        if member.cause is not None:
            world.via[wire, link._newest + 1] = view_of(member.cause)
        return await plain_ask(link, kind, op, *arguments)

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
            (ownership_module, "Engine", lambda *given: _there().engine(*given)),
            (ownership_module, "GroupJournal", lambda *given, **known: _there().journal(*given, **known)),
            (ownership_module, "ReigningBackend", lambda **known: _there().reigning(**known)),
            (ownership_module, "Reign", lambda *given: _there().begins(*given)),
        ):
            stack.enter_context(mock.patch.object(target, name, new))
        yield
