from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from jobqueue.backend.store.postgres import PostgresStore
from jobqueue.backend.store.valkey import ValkeyStore
from jobqueue.backend.store.valkey_wire import Patience
from jobqueue.limits import Limits
from tests.postgres import postgres_server
from tests.valkey import needs_valkey, no_servers_left, single

from .durable import DurableRig, RestartingRig
from .front import in_memory
from .partitioned import partitioned
from .remote import RemoteRig
from .rig import RIGS, Rig
from .slow import SlowRig
from .stores import MakeStore, store_rigs

__all__ = ["no_servers_left"]

_places = itertools.count()


SECONDS = 20.0
"""How long a store may take for anything: it is not what the suite is about, and machines are slow."""


async def _durable(limits: Limits) -> Rig:
    return await DurableRig(limits).opened()


async def _restarting(limits: Limits) -> Rig:
    return await RestartingRig(limits).opened()


async def _slow(limits: Limits) -> Rig:
    return SlowRig(limits)


async def _remote(limits: Limits) -> Rig:
    return RemoteRig(limits)


def _postgres() -> MakeStore:
    server = postgres_server()
    schema = server.new_schema()
    return lambda: PostgresStore(server.url(), schema=schema, lossy=True, seconds=SECONDS)


def _valkey() -> MakeStore:
    needs_valkey()
    url, name = single().url, f"c{next(_places)}-"
    return lambda: ValkeyStore(url, 0, name=name, patience=Patience(connect=SECONDS, call=SECONDS, commit=SECONDS))


RIGS |= {"durable": _durable, "restarting": _restarting, "slow": _slow, "remote": _remote, "front": in_memory, "partitioned": partitioned}
RIGS |= store_rigs("postgres", _postgres)
RIGS |= store_rigs("valkey", _valkey)

LONG_BUT_FOR = {
    "postgres": ("test_groups", "test_logs", "test_queues", "test_schedules", "test_time", "test_unique"),
    "postgres_taken_over": ("test_queues", "test_time"),
    "postgres_followed_over": ("test_replay",),
    "postgres_remote": ("test_time",),
    "valkey": ("test_delivery", "test_leases", "test_time"),
    "valkey_taken_over": ("test_replay",),
    "valkey_followed_over": ("test_time",),
    "valkey_remote": ("test_delivery",),
}
"""Rigs that take so long, since each step goes to a store and back many times, that they run with the other long tests.
What they store and read is the same in every module; these few are for those who run the suite often."""

BY_HAND = {"postgres", "postgres_followed_over", "postgres_remote", "postgres_taken_over", "valkey_followed_over", "valkey_remote"}
"""Those of them that say what others say too, in other words: the link and what it does to promises are tried by `front` and `remote`, a
standby's state by tests/backend; what the next owner makes of the rows by `restarting` and `valkey_taken_over`, and that PostgreSQL gives
back the rows that it was given by its contract. CI runs the few modules above alone: of `postgres` those that keep rows of a kind of their
own."""

MakeBackend = Callable[..., Awaitable[Rig]]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is long, before it is looked at what is marked; and leave out what several partitions do not keep."""
    items[:] = [item for item in items if item.get_closest_marker("one_partition") is None or "[partitioned" not in item.name]
    for item in items:
        kind = item.callspec.params.get("make_backend") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
        if kind in LONG_BUT_FOR and item.path.stem not in LONG_BUT_FOR[kind]:
            item.add_marker(pytest.mark.by_hand if kind in BY_HAND else pytest.mark.long)


@pytest.fixture(params=sorted(RIGS))
async def make_backend(request: pytest.FixtureRequest) -> AsyncIterator[MakeBackend]:
    """Makes backends of one kind, each in its rig, with the given bounds; closes them all."""
    rigs: list[Rig] = []

    async def make(**bounds: float) -> Rig:
        rig = await RIGS[request.param](Limits(**bounds))  # type: ignore[arg-type]
        rigs.append(rig)
        return rig

    yield make
    for rig in rigs:
        await rig.close()


@pytest.fixture
async def rig(make_backend: MakeBackend) -> Rig:
    """A backend with the default bounds."""
    return await make_backend()
