"""PostgresStore: what it checks before it is used, what it installs, and what it reads. Faults are in test_postgres_faults.py."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

import pytest

from jobqueue.backend.group import Fatal, Group, NotNow
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.store import postgres_opening, postgres_schema
from jobqueue.backend.store.postgres import PostgresStore, PostgresStores
from jobqueue.backend.store.postgres_link import shown
from jobqueue.backend.store.postgres_schema import MIGRATIONS, Migration
from jobqueue.backend.store.store import Store
from tests.backend.store.contract import StoreContract, group, outcome
from tests.backend.store.contract_set import MakeSet, StoreSetContract
from tests.postgres import PostgresServer, free_port, postgres_server, postgres_stores

MakeStore = Callable[..., PostgresStore]


@pytest.fixture
def server() -> PostgresServer:
    return postgres_server()


@pytest.fixture
async def make(server: PostgresServer) -> AsyncIterator[MakeStore]:
    """Makes stores of one new schema, not open yet; closes them all."""
    async with postgres_stores(server) as make_one:
        yield make_one


class TestContract(StoreContract):
    @pytest.fixture
    async def make_store(self, make: MakeStore) -> Callable[[], Awaitable[PostgresStore]]:
        async def made() -> PostgresStore:
            store = make()
            await store.open()
            return store

        return made


@pytest.fixture
async def make_set(server: PostgresServer) -> AsyncIterator[MakeSet]:
    """Makes stores of several partitions of one new schema; closes them."""
    schema = server.new_schema()
    stores: list[PostgresStores] = []

    async def make(partitions: int | Literal["unopened"] | None) -> PostgresStores:
        made = PostgresStores(server.url(), schema=schema, lossy=True)
        stores.append(made)
        if partitions != "unopened":
            await made.open(partitions)
        return made

    yield make
    for made in stores:
        await made.close()


class TestPartition(StoreContract):
    """Each partition is a store."""

    @pytest.fixture
    def make_store(self, make_set: MakeSet) -> Callable[[], Awaitable[Store]]:
        async def made() -> Store:
            return (await make_set(3))[2]

        return made


class TestStores(StoreSetContract):
    """What every store of several partitions must pass."""


def jobs(*numbers: int) -> Group:
    """New jobs to be written."""
    return group({number: (b"state %d" % number, b"payload %d" % number) for number in numbers}, queues={"default": b"queue"})


async def refused(store: PostgresStore) -> str:
    """Why a store cannot be opened."""
    with pytest.raises(CannotOpen) as caught:
        await store.open()
    return str(caught.value)


# Opening.


async def test_a_schema_is_installed_once_by_many_at_the_same_time(make: MakeStore, server: PostgresServer) -> None:
    """Servers that start together on an empty database all come up, and one of them has installed the schema."""
    stores = [make() for _ in range(5)]
    await asyncio.gather(*(store.open() for store in stores))
    assert server.sql(f"SELECT version, usable_from FROM {stores[0].schema}.format") == [(len(MIGRATIONS), MIGRATIONS[-1].usable_from)]
    assert (await stores[0].claim("a", "a:1", 5)).name == "a"


async def test_a_server_upgrades_the_schema_beside_one_that_commits(make: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer server brings the schema up to date while an older one commits, and both go on."""
    old, new = make(), make()
    await old.open()
    owner = await old.claim("old", "old:1", 5)
    writer = old.writer(owner.epoch, 5, lambda _sent: None)
    assert await outcome(writer, jobs(1)) is None
    more = Migration("ALTER TABLE {schema}.jobs ADD COLUMN note text", len(MIGRATIONS))
    monkeypatch.setattr(postgres_opening, "MIGRATIONS", (*MIGRATIONS, more))

    async def commits() -> None:
        for number in range(2, 20):
            assert await outcome(writer, jobs(number)) is None

    await asyncio.gather(commits(), new.open())
    assert await outcome(writer, jobs(20)) is None
    monkeypatch.undo()
    await make().open()
    assert (await new.rows(owner.epoch)).count() == 20
    await writer.close(tidy=True)


@pytest.mark.parametrize("known", [1, 2, 3])
async def test_servers_that_know_less_are_kept_from_rows_with_more(make: MakeStore, known: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first server that knows more brings the schema to its version, and none of before starts there, or owns it, from then on."""
    old = make()
    with monkeypatch.context() as before:
        for module in (postgres_opening, postgres_schema):
            before.setattr(module, "MIGRATIONS", MIGRATIONS[:known])
        await old.open()
        owner = await old.claim("old", "old:1", 5)
        await make().open()
    await make().open()
    for module in (postgres_opening, postgres_schema):
        monkeypatch.setattr(module, "MIGRATIONS", MIGRATIONS[:known])
    assert "has version 5, for servers that know version 4 or later" in await refused(make())
    with pytest.raises(CannotOpen, match="It was used by a newer jobqueue"):
        await old.rows(owner.epoch)


async def test_a_server_that_is_too_old_is_refused(make: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PostgreSQL below the oldest that is supported is told which one is needed."""
    monkeypatch.setattr(postgres_opening, "VERSION_MIN", 990_000)
    assert re.search(r"is PostgreSQL \d\d; 99 or later is needed", await refused(make()))


async def test_a_schema_of_a_newer_server_is_refused(make: MakeStore, server: PostgresServer) -> None:
    """A server that is too old for what is installed says so and changes nothing."""
    store = make()
    await store.open()
    server.sql(f"UPDATE {store.schema}.format SET version = 9, usable_from = 8")
    assert f"the schema {store.schema} has version 9, for servers that know version 8 or later" in await refused(make())


async def test_a_schema_that_a_newer_server_took_over_is_not_read(make: MakeStore, server: PostgresServer) -> None:
    """A server that ran before serves no rows that are not for it any more."""
    store = make()
    await store.open()
    owner = await store.claim("a", "a:1", 5)
    server.sql(f"UPDATE {store.schema}.format SET version = 9, usable_from = 8")
    with pytest.raises(CannotOpen, match="It was used by a newer jobqueue"):
        await store.rows(owner.epoch)
    with pytest.raises(CannotOpen, match="It was used by a newer jobqueue"):
        await store.standing(owner.epoch)


async def test_a_schema_of_another_program_is_refused(make: MakeStore, server: PostgresServer) -> None:
    """A schema of our name that has tables of somebody else is left alone."""
    store = make()
    server.sql(f"CREATE SCHEMA {store.schema}", f"CREATE TABLE {store.schema}.theirs ()")
    assert f"the schema {store.schema} is another program's" in await refused(store)


@pytest.mark.parametrize("name", ["synchronous_commit", "fsync", "full_page_writes"])
async def test_settings_that_lose_what_was_acknowledged_are_refused(name: str, make: MakeStore, server: PostgresServer) -> None:
    """A server that acknowledges before it is safe is refused, naming the setting, unless that is asked for."""
    others = [other for other in ("synchronous_commit", "fsync", "full_page_writes") if other != name]
    with server.setting(others[0], "on"), server.setting(others[1], "on"), server.setting(name, "off"):
        told = await refused(make(lossy=False))
        await make(lossy=True).open()
    assert f"has {name} = off" in told
    assert f"set {name} = on" in told


async def test_a_role_without_rights_is_told_what_to_grant(make: MakeStore, server: PostgresServer) -> None:
    """One that may not make the schema, use it, or change its tables is told what an administrator must say; then it works."""
    store = make()
    schema, user = store.schema, f"user_{store.schema}"
    url = server.url(user)
    server.sql(f"CREATE ROLE {user} LOGIN")
    assert f"CREATE SCHEMA {schema} AUTHORIZATION {user} in postgres" in await refused(make(url))
    await store.open()
    assert f"GRANT USAGE ON SCHEMA {schema} TO {user}" in await refused(make(url))
    server.sql(f"GRANT USAGE ON SCHEMA {schema} TO {user}", f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {user}")
    assert f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {user}" in await refused(make(url))
    server.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {user}")
    plain = make(url)
    await plain.open()
    writer = plain.writer((await plain.claim("a", "a:1", 5)).epoch, 5, lambda _sent: None)
    assert await outcome(writer, jobs(1)) is None
    assert [member.name for member in await plain.announce("a", "a:1")] == ["a"]
    await writer.close(tidy=True)


async def test_a_role_that_may_only_read_is_refused(make: MakeStore, server: PostgresServer) -> None:
    """A role whose transactions are read-only is told which setting makes them so."""
    store = make(server.url(options="?options=-cdefault_transaction_read_only%3Don"))
    assert "default_transaction_read_only = off" in await refused(store)


async def test_a_database_or_role_that_is_not_there_is_refused(make: MakeStore, server: PostgresServer) -> None:
    """What no patience cures is a refusal to start, with PostgreSQL's own words."""
    assert 'role "nobody_here" does not exist' in await refused(make(server.url("nobody_here")))
    assert 'database "nowhere" does not exist' in await refused(make(server.url().replace("/postgres", "/nowhere")))


async def test_a_server_that_is_not_there_is_tried_again(make: MakeStore, server: PostgresServer) -> None:
    """A server that does not listen may come back."""
    store = make(f"postgres://jobs:hidden@127.0.0.1:{free_port()}/postgres")
    with pytest.raises(NotNow) as caught:
        await store.open()
    assert "refused" in str(caught.value)
    assert "hidden" not in str(caught.value)


async def test_a_clock_far_from_the_stores_is_refused(make: MakeStore, caplog: pytest.LogCaptureFixture) -> None:
    """A clock more than five seconds off is refused; one half a second off is warned of."""
    assert "a clock 60.0 s from this machine's" in await refused(make(wall=lambda: time.time() - 60))
    await make(wall=lambda: time.time() + 2).open()
    assert re.search(r"the clock of postgres://jobs@\S+ is (1|2)\.\d s from this machine's", caplog.text)


# URLs.


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgres://jobs:hidden@db:5432/jobs", "postgres://jobs@db:5432/jobs"),
        ("postgres://jobs:hidden@a:1,b:2/jobs?sslmode=require", "postgres://jobs@a:1,b:2/jobs"),
        ("postgres://db/jobs?password=hidden", "postgres://db/jobs"),
        ("postgres://jobs:hid@hidden@db/jobs", "postgres://jobs@db/jobs"),
        ("postgres://jobs:hid/hidden@db/jobs", "postgres://jobs@db/jobs"),
        ("postgres://jobs:hid?hidden@db/jobs", "postgres://"),
        ("postgres://jobs:hid#hidden@db/jobs", "postgres://jobs@db/jobs"),
        ("postgres:///jobs", "postgres:///jobs"),
        ("host=db password=hidden", "postgres://"),
    ],
)
def test_no_password_is_shown(url: str, told: str) -> None:
    """What a URL is called in messages has no password, not even of a URL that is wrong."""
    assert shown(url) == told


@pytest.mark.parametrize(
    "url",
    [
        "postgres://jobs:hid/hidden@db/jobs",
        "postgres://jobs:1/hidden@db/jobs",
        "postgres://jobs:hidden@db:port/jobs",
        "postgres://a/b?hidden=1",
    ],
)
def test_a_url_that_libpq_does_not_take_is_refused_without_a_word_of_it(url: str) -> None:
    """A password that should have been encoded is not quoted back."""
    with pytest.raises(CannotOpen) as caught:
        PostgresStore(url)
    assert "percent-encoded" in str(caught.value)
    assert "hid" not in str(caught.value)


def test_a_connect_timeout_that_is_no_number_is_refused() -> None:
    """Every connection has a deadline, so its time must be one."""
    with pytest.raises(CannotOpen, match="must be whole seconds, not 'soon'"):
        PostgresStore("postgres://db?connect_timeout=soon")


async def test_libpqs_environment_counts(make: MakeStore, server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a URL leaves out comes from PGHOST, PGPORT and their like."""
    for name, value in (("PGHOST", "127.0.0.1"), ("PGPORT", str(server.port)), ("PGUSER", "jobs"), ("PGDATABASE", "postgres")):
        monkeypatch.setenv(name, value)
    store = make("postgres://")
    await store.open()
    assert await store.owner() is None


async def test_tls_that_is_required_and_not_there_is_refused(make: MakeStore, server: PostgresServer) -> None:
    """`sslmode=require` does not fall back to a connection in the clear."""
    assert "does not support SSL" in await refused(make(server.url(options="?sslmode=require")))


async def test_the_primary_is_found_among_several_hosts(make: MakeStore, server: PostgresServer) -> None:
    """Of the hosts of a URL one that does not answer is passed over."""
    store = make(f"postgres://jobs@127.0.0.1:{free_port()},127.0.0.1:{server.port}/postgres")
    await store.open()
    assert (await store.claim("a", "a:1", 5)).name == "a"


def test_a_schema_of_a_strange_name_is_refused() -> None:
    """The schema's name stands in SQL as it is, so it must be a plain one."""
    with pytest.raises(ValueError, match="plain lower-case name"):
        PostgresStore("postgres://db", schema='a"; DROP')


# Rows.


async def test_damage_is_found_by_its_checksum(make: MakeStore, server: PostgresServer) -> None:
    """A row whose content is not what was written is named, and nothing is loaded; a row in the place of another one is damage too."""
    store = make()
    await store.open()
    epoch = (await store.claim("a", "a:1", 60)).epoch
    writer = store.writer(epoch, 60, lambda _sent: None)
    assert await outcome(writer, jobs(1, 2, 3)) is None
    schema = store.schema
    harm = {
        "job number 2 does": f"UPDATE {schema}.jobs SET state = 'state 3' WHERE number = 2",
        "the payload of job number 1 does": f"UPDATE {schema}.payloads SET payload = 'payload 2' WHERE number = 1",
        "queue 'other' does": f"UPDATE {schema}.queues SET name = 'other'",
        "the counters do": f"UPDATE {schema}.counters SET state = 'x'",
        "it has 3 jobs and 2 payloads": f"DELETE FROM {schema}.payloads WHERE number = 3",
        "job number 3 has no payload": f"UPDATE {schema}.payloads SET number = 9 WHERE number = 3",
    }
    for what, statement in harm.items():
        server.sql(statement)
        with pytest.raises(CannotOpen, match=f"is damaged: .*{what.split(' do')[0]}"):
            await store.rows(epoch)
        server.sql(f"TRUNCATE {schema}.jobs, {schema}.payloads, {schema}.queues, {schema}.counters")
        assert await outcome(writer, jobs(1, 2, 3)) is None
        assert (await store.rows(epoch)).count() == 3
    await writer.close(tidy=True)


async def test_more_rows_than_come_in_one_answer_are_all_read(make: MakeStore) -> None:
    """Rows come in pieces, in order, none twice."""
    store = make()
    await store.open()
    epoch = (await store.claim("a", "a:1", 60)).epoch
    writer = store.writer(epoch, 60, lambda _sent: None)
    numbers = list(range(1, 2_502))
    assert await outcome(writer, jobs(*reversed(numbers))) is None
    assert [row.number for row in (await store.rows(epoch)).jobs()] == numbers
    await writer.close(tidy=True)


async def test_a_schema_that_is_gone_ends_the_owner(make: MakeStore, server: PostgresServer) -> None:
    """What no patience brings back is not tried again."""
    store = make()
    await store.open()
    writer = store.writer((await store.claim("a", "a:1", 60)).epoch, 60, lambda _sent: None)
    server.sql(f"DROP SCHEMA {store.schema} CASCADE")
    assert type(await outcome(writer, jobs(1))) is Fatal
    await writer.close(tidy=False)


async def test_an_epoch_is_not_given_out_twice_when_a_claim_is_lost(make: MakeStore, server: PostgresServer) -> None:
    """Epochs go on from the clock, so that a claim that was lost in a failover is not given out to another server."""
    store = make()
    await store.open()
    first = await store.claim("a", "a:1", 60)
    server.sql(f"UPDATE {store.schema}.owner SET epoch = 0, name = NULL")
    second = await store.claim("b", "b:1", 60)
    assert second.epoch > first.epoch
