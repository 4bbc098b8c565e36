"""The backend on rows in a store (jobqueue/backend/store): as its one owner runs it, taken over before every operation, by a
standby too, and through another server.

A store joins the suite with a function that makes a new, empty place in it, and one call of `store_rigs` in conftest.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self

from jobqueue.backend import loading
from jobqueue.backend.following import RowChanges, Twin
from jobqueue.backend.group import Group
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.store.feed import Feeds
from jobqueue.backend.store.store import Store
from jobqueue.engine.engine import Engine
from jobqueue.limits import Limits

from .durable import DurableRig, RestartingRig
from .front import FrontRig
from .rig import Rig

MakeStore = Callable[[], Store]
"""Makes a Store, not open yet; all that one of these makes are the same place."""

LEASE_SECONDS = 3600.0
"""The suite's time is its own clock's; the store's is real, and no lease is to pass in a test."""


class StoreRig(DurableRig):
    """An owner and its store. Two Stores, so that the next owner is not on the connections of the last."""

    def __init__(self, limits: Limits, make: MakeStore) -> None:
        super().__init__(limits)
        self.stores = [make(), make()]
        self.claims = 0

    async def opened(self) -> Self:
        for store in self.stores:
            await store.open()
        return await super().opened()

    async def open_journal(self, engine: Engine) -> GroupJournal:
        """By a new owner, which takes it from the last one without being asked to."""
        store = self.stores[self.claims % 2]
        self.claims += 1
        name = f"owner {self.claims}"
        owner = await store.claim(name, "127.0.0.1:1", LEASE_SECONDS, force=True)
        assert owner.name == name
        offset, change = loading.load(await store.rows(owner.epoch), engine, self.clock)
        journal = GroupJournal(engine, self.clock, "store", offset=offset, change=change)
        journal.use(store.writer(owner.epoch, LEASE_SECONDS, lambda _sent: None))
        return journal

    async def clean(self) -> None:
        for store in self.stores:
            await store.close()


class TakenOverRig(StoreRig, RestartingRig):
    """The same, with a new owner before every operation that nobody else is in the middle of."""

    jobs_max = 40  # each takeover opens connections, and reads rows through them


class FollowedOverRig(TakenOverRig):
    """The same, each new owner going on with an engine that followed the last one's groups, and read no row at the takeover."""

    def __init__(self, limits: Limits, make: MakeStore) -> None:
        super().__init__(limits, make)
        self.twin: Twin | None = None

    async def start(self) -> LocalBackend:
        store, other = self.stores[self.claims % 2], self.stores[1 - self.claims % 2]
        twin = self.twin
        if twin is None:
            local = await super().start()
            self.journal.reign = "reign 1"
        else:
            self.claims += 1
            owner = await store.claim(f"owner {self.claims}", "127.0.0.1:1", LEASE_SECONDS, force=True)
            standing = await store.standing(owner.epoch)
            assert twin.ready(standing.counters, standing.jobs) is None
            self.journal = GroupJournal(
                twin.engine, self.clock, "store", offset=twin.offset, change=twin.change, reign=f"reign {self.claims}"
            )
            self.journal.use(store.writer(owner.epoch, LEASE_SECONDS, lambda _sent: None))
            local = LocalBackend(engine=twin.engine, clock=self.clock, journal=self.journal)
            local.resume()
        feeds = Feeds(self.journal)
        reign, number = feeds.join(self, "standby", standby=True)
        self.twin = Twin(Engine(self.limits, self.ids), self.clock, reign, number)
        feeds.begin(self)
        rows = await other.beside()
        self.twin.begin(feeds.number, rows)()
        return local

    # A Sink.

    def handed(self, group: Group, number: int) -> None:
        """See feed.Sink."""
        assert self.twin is not None
        self.twin.handed(number, RowChanges(dict(group.states), dict(group.payloads), dict(group.queue_rows), group.counters))

    def committed(self, number: int) -> None:
        """See feed.Sink. Every other group is applied with the next."""
        assert self.twin is not None
        self.twin.committed(number)
        if number % 2:
            for _ in self.twin.steps():
                pass

    def over(self) -> None:
        """See feed.Sink."""


def store_rigs(name: str, place: Callable[[], MakeStore]) -> dict[str, Callable[[Limits], Awaitable[Rig]]]:
    """The rigs of a store, for RIGS. place: makes a new, empty place, each time it is called."""

    async def owned(limits: Limits) -> Rig:
        return await StoreRig(limits, place()).opened()

    async def taken_over(limits: Limits) -> Rig:
        return await TakenOverRig(limits, place()).opened()

    async def followed_over(limits: Limits) -> Rig:
        return await FollowedOverRig(limits, place()).opened()

    async def remote(limits: Limits) -> Rig:
        make = place()
        return await FrontRig(limits).opened([make(), make()])

    return {name: owned, f"{name}_taken_over": taken_over, f"{name}_followed_over": followed_over, f"{name}_remote": remote}
