"""One server's part in one partition: its client of the store, its standby, its ownership and its backend, all the real thing, with ears.

The ears know on whose behalf anything happens, over the link between servers too: a question of a front's carries the request that it is
asked for, under the connection and number by which the owner gets it.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from jobqueue.backend.group import Group
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.store.cluster import ClusterBackend
from jobqueue.backend.store.frames import Identity
from jobqueue.backend.store.membership import Membership
from jobqueue.backend.store.own import OwnTaking, Reign, ReigningBackend
from jobqueue.backend.store.ownership import Ownership, refuses
from jobqueue.backend.store.remote import RemoteBackend
from jobqueue.backend.store.source import LinkSource
from jobqueue.backend.store.standby import Standby
from jobqueue.backend.waiters import Waiter
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Event
from jobqueue.errors import QueueError
from jobqueue.ids import Ids
from jobqueue.model import Job, Want
from jobqueue.partition import Place

from .history import Ask
from .loop import passing
from .reigns import ReignChecker, view_of
from .server import pack

if TYPE_CHECKING:
    from .member import Member


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


class Inherited(Coroutine[Any, Any, Any]):
    """A task's coroutine, run on behalf of the request in which the task was made."""

    def __init__(self, member: Member, ask: Ask, work: Coroutine[Any, Any, Any]) -> None:
        self._member = member
        self._ask = ask
        self._work = work
        self.__name__, self.__qualname__ = work.__name__, work.__qualname__

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._work.__await__())

    def send(self, value: Any) -> Any:
        return self._step(self._work.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._work.throw, *error)

    def close(self) -> None:
        self._work.close()

    def _step(self, step: Callable[..., Any], *given: Any) -> Any:
        before, self._member.cause = self._member.cause, self._ask
        try:
            return step(*given)
        finally:
            self._member.cause = before


class _Events(list[Event]):
    """The engine's events, overheard."""

    checker: ReignChecker | None = None
    followed = False
    """Whether the engine was a standby's."""
    heard: Callable[[Event], None] = staticmethod(lambda event: None)

    def append(self, event: Event) -> None:
        self.heard(event)
        super().append(event)


class Common(NamedTuple):
    """What the partitions of a member have in common: see Ownership. ready: for all but the first."""

    membership: Membership
    turns: asyncio.Semaphore
    ready: Callable[[], Coroutine[Any, Any, None]]


class Stack:
    """Of one member. To be made on its machine. common: None where there is one partition."""

    def __init__(self, member: Member, place: Place, store: Any, ids: Ids, common: Common | None = None) -> None:
        self.member = member
        self.world = world = member.world
        self.place = place
        self.store = store
        self.ids = ids
        self.reigns: list[ReignChecker] = []
        plan, clock = world.plan, member.clock
        self._listen_to_store()
        identity = Identity(member.name, member.secret)
        self.standby: Standby | None = None
        if plan.standby:
            self.standby = Standby(
                store,
                clock,
                self._following,
                lambda at: LinkSource(lambda: at, identity, plan.limits, clock=clock, **self._about),
                aside=self._aside,
            )
        known: dict[str, Any] = {}
        if common is not None:
            known = {"place": place, "membership": common.membership, "turns": common.turns}
            known["ready"] = common.ready if place.index else None
        self.ownership = Ownership(
            store,
            member.name,
            member.address,
            clock,
            plan.limits,
            probe=self._probe,
            aside=self._aside,
            ids=ids,
            standby=self.standby,
            **known,
        )

        def connect(at: str) -> RemoteBackend:
            return RemoteBackend(lambda: at, identity, plan.limits, clock=clock, return_jobs=self.backend.return_jobs, **self._about)

        self.backend = ClusterBackend(self.ownership, connect)
        self._listen_to_backend()

    @property
    def _about(self) -> dict[str, Any]:
        return {} if self.place.count == 1 else {"partition": self.place.index}

    async def _probe(self, address: str) -> bool:
        return self.world.lied_to == (self.member.host, self.place.index) or await refuses(address)

    # The ears.

    def _listen_to_store(self) -> None:
        store, plain = self.store, self.store.writer

        def writer(epoch: int, seconds: float, renewed: Callable[[float], object]) -> Any:
            made = cast(Any, plain(epoch, seconds, renewed))
            checker = self.reigns[-1]
            write = made.write

            def heard(group: Group, finished: Callable[[Exception | None], None]) -> None:
                shadow = checker.shadow(checker.journal._handed)

                def done(error: Exception | None) -> None:
                    if error is None and not self.member.machine.dead:
                        self.world.acknowledged_commit((made._token, number), shadow, checker)
                        checker.acknowledged(shadow)
                    finished(error)

                write(group, done)
                number = made._number
                checker.shard.shadows[made._token, number] = shadow

            made.write = heard
            return made

        store.writer = writer

    def engine(self, *given: Any, **known: Any) -> Engine:
        """An engine, of a reign that begins or of one to come. Nothing is heard of it before its reign."""
        engine = Engine(*given, random=Random(self.member.random.random()), **known)
        pack(engine, self.world.seed)
        events = engine.events = _Events()
        events.heard = lambda event: None if events.checker is None else events.checker.happened(event, self.member.cause)

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

    def _following(self) -> Engine:
        engine = self.engine(self.world.plan.limits, self.ids)
        cast(_Events, engine.events).followed = True
        return engine

    async def _aside(self, work: Callable[[], Any]) -> Any:
        await passing(self.member.random.choice((0.0, 0.01, 0.5)))
        return work()

    def journal(self, engine: Engine, *given: Any, **known: Any) -> GroupJournal:
        """The journal of a reign."""
        journal = GroupJournal(engine, *given, **known)
        checker = ReignChecker(self.world, self)
        self.reigns.append(checker)
        checker.journal = journal
        checker.reads(*checker.shard.read[self.member.host, self.place.index])
        checker.loaded(engine)
        events = cast(_Events, engine.events)
        events.checker = checker
        self.world.counts["by a standby"] += events.followed
        self.world.history.note(self.name, "goes on from", "what it followed" if events.followed else "the rows")

        def append(events: Sequence[Event]) -> int:
            ticket = plain(events)
            if not checker.over:
                checker.appended(ticket, events, checker.view(self.member.cause))
                self.world.traps.appended(self.member, events)
            return ticket

        plain = journal.append
        journal.append = append  # type: ignore[method-assign]
        return journal

    @property
    def name(self) -> str:
        """In the history."""
        return self.member.name if self.place.count == 1 else f"{self.member.name} ({self.place.index})"

    def reigning(self, **known: Any) -> ReigningBackend:
        """The backend of a reign."""
        backend = ReigningBackend(**known)
        checker = self.reigns[-1]
        cast(Any, backend).checker = checker
        plain_replay, plain_take, plain_stand = backend.replay, backend.take, backend.stand

        def view(want: Want) -> Ask | None:
            ask = None if checker.over else checker.view(self.member.cause)
            if ask is not None and self.place.count > 1 and not ask.stood_at:
                # Of a request for queues of several partitions, each is asked for its own.
                ask.queues = tuple(want.queues)
            return ask

        def replay(want: Want) -> list[Job]:
            jobs = plain_replay(want)
            if (ask := view(want)) is not None:
                checker.asked_again(want, ask, jobs)
            return jobs

        def take(want: Want) -> list[Job]:
            ask = view(want)
            if ask is None:
                return plain_take(want)
            checker.takes(ask)
            jobs = plain_take(want)
            checker.took(want, len(jobs))
            return jobs

        def stand(want: Want, wait: float) -> Waiter[list[Job]]:
            waiter = plain_stand(want, wait)
            if (ask := view(want)) is not None:
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
        self.world.moves.served(self.place.index)
        self.world.history.note(self.name, "reigns, epoch", lease.epoch)
        return reign

    def listen_to_balancing(self) -> None:
        """Hear of the moves that this owner agrees to. Once the balancing is made."""
        plain = self.ownership.agrees

        def agrees(name: str) -> bool:
            agreed = plain(name)
            if agreed:
                self.world.moves.agreed(self.place.index, self.member, name)
                self.world.traps.at("owner gives", self.member)
            return agreed

        self.ownership.agrees = agrees

    def _listen_to_backend(self) -> None:
        own, member = self.backend.own, self.member
        plain_pass, plain_job, plain_dequeue, plain_return = own._pass, own.job, own.dequeue, self.backend._return

        async def told(asked: Coroutine[Any, Any, Any], op: str, reads: bool = False) -> Any:
            cause, reign = member.cause, own._reign()
            checker = None if reign is None else cast(Any, reign.local).checker
            try:
                answer = await asked
            except QueueError as error:
                if checker is not None and cause is not None and not member.machine.dead:
                    checker.refused(checker.view(cause), error)
                raise
            if checker is not None and not member.machine.dead:
                checker.answers(cause, op, reads)
            return answer

        async def passed(ask: Any) -> Any:
            cause = member.cause
            asked = told(plain_pass(ask), "a request" if cause is None else str(cause))
            if cause is None or cause.front is not None or self.place.count == 1:
                return await asked
            # A front may ask for several things at the same time. Each is a question of its own, as over a link.
            return await on_behalf(member, view_of(cause), asked, lambda _: None)

        async def job(job_id: str, wait: float = 0.0) -> Job:
            return cast(Job, await told(plain_job(job_id, wait), f"a look at {job_id}", reads=True))

        def dequeue(want: Want, wait: float) -> Any:
            taking = cast(OwnTaking, plain_dequeue(want, wait))
            enter = taking.__aenter__

            async def entered() -> list[Job]:
                cause, reign = member.cause, own._reign()
                checker = None if reign is None else cast(Any, reign.local).checker
                try:
                    jobs = await enter()
                finally:
                    if checker is not None:
                        checker.left(cause)
                if jobs and checker is not None and cause is not None and not member.machine.dead:
                    checker.hands_over(cause)
                return jobs

            return _Taking(taking, entered)

        async def given_back(jobs: Sequence[Job]) -> None:
            for job in jobs:
                if job.lease is not None:
                    self.world.returning[job.lease.token] = self.world.loop.time()
            tokens = {job.id: job.lease.token for job in jobs if job.lease is not None}
            ask = self.world.ask("release", "", "", b"", tokens=tokens)
            await on_behalf(member, ask, plain_return(jobs), lambda _: None)

        async def told_of(asked: Any, plain: Any) -> Any:
            self.world.traps.at("owner is asked", member, asked)
            answer = await plain(asked)
            self.world.traps.at("owner answers", member, asked)
            return answer

        backend: Any = self.backend
        plain_ask, plain_enqueue = own.ask, own.enqueue
        backend.own.ask, backend.own.enqueue = lambda asked: told_of(asked, plain_ask), lambda spec: told_of(spec, plain_enqueue)
        backend.own._pass, backend.own.job, backend.own.dequeue, backend._return = passed, job, dequeue, given_back


class _Taking:
    """A dequeue at the owner, overheard."""

    def __init__(self, taking: OwnTaking, enter: Callable[[], Coroutine[Any, Any, list[Job]]]) -> None:
        self._taking = taking
        self._enter = enter

    @property
    def quiet(self) -> bool:
        return self._taking.quiet

    def at_once(self) -> list[Job] | None:
        return None

    def leave(self) -> None:
        self._taking.leave()

    async def __aenter__(self) -> list[Job]:
        return await self._enter()

    async def __aexit__(self, *exc_info: object) -> None:
        await self._taking.__aexit__(*exc_info)

    def delivered(self) -> None:
        self._taking.delivered()
