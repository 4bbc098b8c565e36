"""One life of the server: the real thing, from the protocol of a connection to the rows of a commit, with ears in a few places.

What is not real is handed in where a real server is handed it too: the loop, the clocks, the sockets, the randomness of ids and backoffs,
and the writer, which commits to a real SQLite file, but when the simulation says so instead of in a thread. The ears only listen: to
requests as they begin and end, to the steps of a dequeue, to the engine's events, to what the journal is given.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator, Iterator, MutableSet, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar, cast

from jobqueue.api.app import build_app
from jobqueue.backend import group_journal
from jobqueue.backend.group import Fatal, Finished, Group, NotNow
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite.file import Store
from jobqueue.backend.sqlite.open import open_journal
from jobqueue.backend.waiters import Waiter
from jobqueue.clock import ManualClock, SystemClock
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Event
from jobqueue.engine.packs import Packing
from jobqueue.http.answers import Answer
from jobqueue.http.connections import Connection
from jobqueue.http.request import Request
from jobqueue.http.server import Server
from jobqueue.ids import Ids
from jobqueue.model import Job, Want
from jobqueue.process.server import drain
from tests import ways

from .history import Ask
from .net import Link, Poll, ServerEnd

if TYPE_CHECKING:
    from .world import World

T = TypeVar("T")


class _InOrder(MutableSet[Connection]):
    """The server's set of connections, in an order that does not depend on where they lie in memory."""

    def __init__(self) -> None:
        self._all: dict[Connection, None] = {}

    def __contains__(self, connection: object) -> bool:
        return connection in self._all

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, value: Connection) -> None:
        self._all[value] = None

    def discard(self, value: Connection) -> None:
        self._all.pop(value, None)


class _Events(list[Event]):
    """The engine's events, overheard."""

    def __init__(self, life: Life) -> None:
        super().__init__()
        self._life = life

    def append(self, event: Event) -> None:
        self._life.happened(event)
        super().append(event)


class Disk:
    """Commits what the journal hands over, some virtual time later, if the world's disk lets it. A `sqlite_writer.Writer`."""

    def __init__(self, life: Life, store: Store, journal: GroupJournal) -> None:
        self._life = life
        self._store = store
        self._journal = journal
        self._order: tuple[Group, Finished, int, float] | None = None

    def write(self, group: Group, finished: Finished) -> None:
        """See Writer.write."""
        world = self._life.world
        self._order = group, finished, self._journal._handed, world.loop.time()
        world.loop.call_later(self._life.random.choice(world.plan.commits), self._commit)

    def _commit(self) -> None:
        if self._life.dead or self._order is None:
            return
        (group, finished, ticket, since), self._order = self._order, None
        state = self._life.world.disk
        if state == "full":
            finished(NotNow("the disk is full"))
            return
        if state == "broken" and self._life.random.random() < 0.5:
            finished(Fatal("the disk is broken"))
            return
        self._store.write(group)
        self._life.checker.commits(ticket, since)
        finished(Fatal("the sync failed") if state == "broken" else None)

    async def close(self, tidy: bool) -> None:
        """See Writer.close."""
        self._store.close(tidy)

    def die(self) -> None:
        """The process is killed. What it had given to the kernel may have arrived, or not."""
        if self._order is not None and self._life.random.random() < 0.5:
            group, _, ticket, since = self._order
            self._store.write(group)
            self._life.checker.commits(ticket, since)
        self._order = None
        self._store.close(tidy=False)
        self._journal._on_close()


SHARED = (0.0, 0.3, 2.0)
"""For how long changes wait for new jobs, to be committed with them: not at all, as a server does, and much longer."""

group_journal.SHARE_JOBS = 1
"""Here few jobs are enqueued at once."""


def pack(engine: Engine, seed: int) -> None:
    """Let an engine pack jobs wherever they wait in their queue, in two worlds of three; a server does so only in deep queues."""
    if seed % 3 and engine.place.count == 1:
        engine.jobs.packing = Packing(size=2, deep=seed % 2, behind=0)


class Life:
    """A server from its start to its end."""

    def __init__(self, world: World, number: int) -> None:
        plan = world.plan
        self.world = world
        self.number = number
        self.checker = world.checker
        self.random = Random(f"{world.seed} life {number}")
        self.dead = False
        self.stopping = False
        self.disk: Disk | None = None
        self._cause: Ask | None = None
        self._links: list[Link] = []
        self._poll = Poll()
        engine = Engine(plan.limits, ids=Ids(self.random.randbytes), random=Random(self.random.random()))
        pack(engine, world.seed)
        self._listen(engine)
        clock = SystemClock()
        self.journal: GroupJournal | None = None
        self.checker.begins()
        self.checker.offset = clock.now() - world.loop.time()
        if world.path is not None:
            self.journal = open_journal(world.path, engine, clock, sync="off", writer=self._writer)
            self.journal.share_seconds = SHARED[world.seed // 2 % len(SHARED)]
            self._listen_to_journal(self.journal)
            self.checker.returned(engine, world.clocks_agree())
        self.backend = LocalBackend(plan.limits, engine=engine, clock=clock, journal=self.journal)
        self._listen_to_backend()
        self.app = build_app(self.backend, plan.limits, body_seconds=5.0)
        self.server: Server = ways.server(self.app, connections_max=plan.connections, idle_seconds=20.0, write_seconds=10.0)
        self.server.handler = cast(Any, self._serve)
        self.server.open = cast(Any, _InOrder())
        self.server.poll = cast(Any, self._poll)
        self.server.unacknowledged = self._poll.unacknowledged  # type: ignore[method-assign]
        if self.journal is not None:
            self.backend.resume()

    def _writer(self, store: Store, journal: GroupJournal) -> Disk:
        self.disk = Disk(self, store, journal)
        return self.disk

    # The ears.

    def _listen(self, engine: Engine) -> None:
        events = engine.events = _Events(self)

        def take_events() -> list[Event]:
            taken = list(events)
            events.clear()
            return taken

        def dequeue(now: float, want: Want) -> list[Job]:
            jobs = plain(now, want)
            if not self.dead:
                self.checker.handed_out(want)
            return jobs

        plain = engine.dequeue
        engine.take_events, engine.dequeue = take_events, dequeue  # type: ignore[method-assign]

    def _listen_to_journal(self, journal: GroupJournal) -> None:
        def append(events: Sequence[Event]) -> int:
            ticket = plain(events)
            if not self.dead:
                self.checker.appended(ticket, events, self._cause)
            return ticket

        plain = journal.append
        journal.append = append  # type: ignore[method-assign]

    def _listen_to_backend(self) -> None:
        backend, checker = self.backend, self.checker
        plain_replay, plain_take, plain_stand = backend.replay, backend.take, backend.stand

        def replay(want: Want) -> list[Job]:
            jobs = plain_replay(want)
            if self._cause is not None and not self.dead:
                checker.asked_again(want, self._cause, jobs)
            return jobs

        def take(want: Want) -> list[Job]:
            if self._cause is None or self.dead:
                return plain_take(want)
            checker.takes(self._cause)
            jobs = plain_take(want)
            checker.took(want, len(jobs))
            return jobs

        def stand(want: Want, wait: float) -> Waiter[list[Job]]:
            waiter = plain_stand(want, wait)
            if self._cause is not None and not self.dead:
                checker.stands(self._cause, wait)
            return waiter

        plain_give_back = backend.give_back

        async def give_back(job_id: str, token: str) -> bool:
            seen = checker.jobs.get(job_id)
            holder = None if seen is None or seen.token != token else seen.holder
            if holder is None or self.dead:
                return await plain_give_back(job_id, token)
            return await self._on_behalf(holder, plain_give_back(job_id, token))

        backend.replay, backend.take, backend.stand, backend.give_back = replay, take, stand, give_back  # type: ignore[method-assign]

    def happened(self, event: Event) -> None:
        """The engine says that something happened."""
        if not self.dead:
            self.checker.happened(event, self._cause)

    @types.coroutine
    def _serve(self, request: Request) -> Generator[Any, Any, Answer]:
        """The app's own handler, step by step, so that it is known on whose behalf anything happens."""
        ask = self.world.asks[int(request.head.headers["X-Request"])]
        self.checker.parsed(ask)
        answer: Answer | None = None
        try:
            answer = yield from self._on_behalf(ask, self.app.handle(request))
            return answer
        finally:
            if not self.dead:
                self.checker.finished(ask, answer)

    @types.coroutine
    def _on_behalf(self, ask: Ask, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        step: Any = work.send
        given: Any = None
        try:
            while True:
                before, self._cause = self._cause, ask
                try:
                    waits_for = step(given)
                except StopIteration as stop:
                    return stop.value  # type: ignore[no-any-return]
                finally:
                    self._cause = before
                try:
                    given = yield waits_for
                    step = work.send
                except BaseException as error:
                    step, given = work.throw, error
        finally:
            given = None

    # Connections.

    def accept(self, link: Link) -> None:
        """A client connects."""
        self._links.append(link)
        self._poll.ends[link.fd] = link.server
        link.server.protocol = self.server()
        link.server.protocol.connection_made(link.server)

    @property
    def ends(self) -> list[ServerEnd]:
        return [link.server for link in self._links]

    # Ends.

    def die(self) -> None:
        """kill -9."""
        self.dead = True
        if self.disk is not None:
            self.disk.die()
        self.checker.died()
        backend = self.backend
        if backend._timer is not None:
            backend._timer.cancel()
        if self.journal is not None and self.journal._retry is not None:
            self.journal._retry.cancel()
        # What unwinds from here on happens to nobody; it must set no timer in the life after.
        backend.clock = ManualClock()
        for end in self.ends:
            end.die()

    async def stop(self, seconds: float) -> None:
        """SIGTERM: answer who waits, finish what is in flight, close."""
        self.stopping = True
        self.checker.drains()
        await drain(self.app, self.server, seconds, asyncio.Event())
        self.checker.closed = True
        await self.backend.close()
        if self.journal is not None and self.checker.committed < self.checker.last_ticket and self.world.disk == "well":
            self.checker.fault("the server stopped without having stored everything")
        self.dead = True
        self.checker.died()
        for end in self.ends:
            end.die()
