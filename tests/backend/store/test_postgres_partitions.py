"""PostgresStores of several partitions: what is installed, by whom it can be used, and that no partition waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.store import postgres_opening, postgres_schema
from jobqueue.backend.store.postgres import CALLS_AT_ONCE, PostgresStores
from jobqueue.backend.store.postgres_opening import Opening
from jobqueue.backend.store.postgres_schema import MIGRATIONS, Migration
from tests.postgres import PostgresServer, postgres_server

from .contract import LEASE, claimed, group, kept, writer_of, written

Opened = Callable[..., Awaitable[PostgresStores]]


@pytest.fixture
def server() -> PostgresServer:
    return postgres_server()


@pytest.fixture
def schema(server: PostgresServer) -> str:
    return server.new_schema()


@pytest.fixture
async def opened(server: PostgresServer, schema: str) -> AsyncIterator[Opened]:
    """Makes and opens stores of one new schema; closes them."""
    made: list[PostgresStores] = []

    async def make(partitions: int | None, url: str = "", *, look: bool = False) -> PostgresStores:
        stores = PostgresStores(url or server.url(), schema=schema, lossy=True)
        made.append(stores)
        await (stores.inspect() if look else stores.open(partitions))
        return stores

    yield make
    for stores in made:
        await stores.close()


def installed(server: PostgresServer, schema: str) -> tuple[set[str], set[str]]:
    """All tables, and all functions."""
    tables = server.sql(f"SELECT relname::text FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r'")
    functions = server.sql(f"SELECT proname::text FROM pg_proc WHERE pronamespace = '{schema}'::regnamespace")
    return {row[0] for row in tables}, {row[0] for row in functions}


TABLES = {"counters", "format", "jobs", "members", "owner", "payloads", "queues"}
FUNCTIONS = {"announce_1", "claim_1", "commit_1", "fence_1", "release_1", "renew_1"}


def older(monkeypatch: pytest.MonkeyPatch, known: int = 4) -> None:
    """Be a server of an older version."""
    for module in (postgres_opening, postgres_schema):
        monkeypatch.setattr(module, "MIGRATIONS", MIGRATIONS[:known])


async def test_one_partition_is_as_it_always_was(
    opened: Opened, server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store of one partition has the tables and functions that an older server made, and can be used by one."""
    stores = await opened(1)
    epoch = await claimed(stores[0])
    await written(writer_of(stores[0], epoch), group({1: (b"s", b"p")}))
    assert installed(server, schema) == (TABLES, FUNCTIONS)
    older(monkeypatch)
    before = await opened(None)
    assert [job[0] for job in (await kept(before[0], epoch)).jobs] == [1]


async def test_an_older_server_is_kept_from_several_partitions(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would serve the first one as if it were all."""
    await opened(2)
    older(monkeypatch)
    with pytest.raises(CannotOpen, match="for servers that know version 5 or later; this server knows up to 4"):
        await opened(None)


async def test_each_partition_has_its_own_tables(opened: Opened, server: PostgresServer, schema: str) -> None:
    """Those of the first have the names that they have where there is no other."""
    await opened(3)
    parts = {f"{table}_{index}" for table in postgres_schema.PART_TABLES for index in (1, 2)}
    called = {f"{name}_{index}" for name in FUNCTIONS - {"announce_1"} for index in (1, 2)}
    assert installed(server, schema) == (TABLES | {"partitions"} | parts, FUNCTIONS | called)


async def test_a_making_that_was_cut_is_continued(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that died while it made a store leaves its number of partitions; the next one makes those that are lacking."""
    monkeypatch.setattr(postgres_opening, "PARTITIONS_AT_ONCE", 1)
    add, added = Opening._add, []

    async def cut(self: Opening, *more: object) -> None:
        if len(added) == 2:
            raise asyncio.CancelledError
        added.append(1)
        await add(self, *more)  # type: ignore[arg-type]

    with monkeypatch.context() as dying:
        dying.setattr(Opening, "_add", cut)
        with pytest.raises(asyncio.CancelledError):
            await opened(5)
    with pytest.raises(CannotOpen, match="was not made to the end: start a server on it"):
        await opened(None, look=True)
    with pytest.raises(CannotOpen, match="was made with --partitions 5"):
        await opened(4)
    stores = await opened(None)
    assert [await claimed(store) > 0 for store in stores] == [True] * 5
    assert (await opened(None, look=True)).partitions == 5


async def test_a_later_version_upgrades_every_partition(
    opened: Opened, server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration changes the tables of all partitions, and those that are made later have the change, too."""
    await opened(3)
    more = Migration("SELECT 1", 6, "ALTER TABLE {schema}.jobs{part} ADD COLUMN note text")
    for module in (postgres_opening, postgres_schema):
        monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, more))
    await opened(None)
    changed = server.sql(
        f"SELECT table_name::text FROM information_schema.columns WHERE table_schema = '{schema}' AND column_name = 'note'"
    )
    assert sorted(changed) == [("jobs",), ("jobs_1",), ("jobs_2",)]
    assert server.sql(f"SELECT version, usable_from FROM {schema}.format") == [(6, 6)]


async def test_rights_are_needed_for_every_partition(opened: Opened, server: PostgresServer, schema: str) -> None:
    """A role that may not change the tables of one partition is told which ones."""
    await opened(3)
    user = f"user_{schema}"
    grants = ("GRANT USAGE ON SCHEMA {0} TO {1}", "GRANT ALL ON ALL TABLES IN SCHEMA {0} TO {1}", "REVOKE UPDATE ON {0}.jobs_2 FROM {1}")
    server.sql(f"CREATE ROLE {user} LOGIN", *(grant.format(schema, user) for grant in grants))
    with pytest.raises(CannotOpen, match=f"{user} may not read and change jobs_2;"):
        await opened(None, server.url(user))
    server.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {user}")
    assert (await opened(None, server.url(user))).partitions == 3


async def test_a_partition_that_waits_for_a_lock_holds_up_no_other(opened: Opened, server: PostgresServer, schema: str) -> None:
    """While one partition's owner cannot be renewed, since a commit holds its row, the others are renewed and claimed."""
    stores = await opened(4)
    epochs = [await claimed(store) for store in stores]
    with server.connection() as other:
        other.execute(f"BEGIN; SELECT 1 FROM {schema}.owner_1 FOR UPDATE".encode())
        waiting = asyncio.ensure_future(stores[1].renew(epochs[1], LEASE))
        for index in (0, 2, 3):
            await stores[index].renew(epochs[index], LEASE)
            await claimed(stores[index])
        assert not waiting.done()
        other.execute(b"COMMIT")
        await waiting


async def test_connections_are_few(opened: Opened) -> None:
    """A server has one for each partition that it owns, and at most a few more, however many partitions ask at once."""
    stores = await opened(16)
    epochs = await asyncio.gather(*(claimed(store) for store in stores))
    writers = [writer_of(store, epoch) for store, epoch in zip(stores, epochs, strict=True)]
    for _ in range(3):
        await asyncio.gather(*(written(writer, group({1: (b"s", b"p")})) for writer in writers))
        await asyncio.gather(*(store.renew(epoch, LEASE) for store, epoch in zip(stores, epochs, strict=True)))
        await asyncio.gather(*(store.counters() for store in stores))
    assert sum(not link.closed for link in stores._links) == 16 + CALLS_AT_ONCE
