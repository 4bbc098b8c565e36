"""What a PostgresStore does when PostgreSQL stands still, crashes, ends a connection or refuses."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import pytest

from jobqueue.backend import loading
from jobqueue.backend.group import Fatal, NotNow, Writer
from jobqueue.backend.group_journal import RETRY_SECONDS, GroupJournal
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.store.postgres import PostgresStore
from jobqueue.backend.store.postgres_link import Link, parameters
from jobqueue.backend.store.store import Fenced
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.errors import StorageUnavailable, Unconfirmed
from jobqueue.limits import Limits
from jobqueue.model import JobSpec
from tests.backend.store.contract import group, outcome, written
from tests.postgres import PostgresServer, postgres_server, postgres_stores

WAITS = "state = 'active' AND query LIKE '%commit_1%' AND pid <> pg_backend_pid()"
WAITS_FOR_A_REPLICA = f"SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND {WAITS}"
WAITS_FOR_A_LOCK = f"SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND {WAITS}"
SHORT_SECONDS = 0.5


@pytest.fixture
def server() -> PostgresServer:
    return postgres_server()


class Owned(NamedTuple):
    """A store, opened and claimed, its writer, and what makes more stores of the same place."""

    store: PostgresStore
    epoch: int
    writer: Writer
    make: Callable[..., PostgresStore]

    async def numbers(self) -> list[int]:
        """The jobs that are there, for a new owner."""
        store = self.make()
        await store.open()
        owner = await store.claim("reader", "r:1", 60, force=True)
        return [job.number for job in (await store.rows(owner.epoch)).jobs()]


@pytest.fixture
async def owned(server: PostgresServer) -> AsyncIterator[Owned]:
    async with postgres_stores(server) as make:
        store = make(seconds=SHORT_SECONDS)
        await store.open()
        owner = await store.claim("a", "a:1", 60)
        writer = store.writer(owner.epoch, 60, lambda _sent: None)
        await written(writer, group({1: (b"s", b"p")}))
        yield Owned(store, owner.epoch, writer, make)
        await writer.close(tidy=False)


def committing(owned: Owned, *numbers: int) -> asyncio.Task[Exception | None]:
    """A commit under way."""
    return asyncio.create_task(outcome(owned.writer, group(dict.fromkeys(numbers, (b"s", b"p")))))


async def until(server: PostgresServer, query: str) -> int:
    """Which process of the server does what a query asks for, once one does."""
    while True:
        found = await asyncio.to_thread(server.sql, query)
        if found:
            pid: int = found[0][0]
            return pid


async def took(awaitable: Awaitable[object]) -> tuple[object, float]:
    """What came of it, an exception too, and the seconds it took."""
    started = time.monotonic()
    try:
        came: object = await awaitable
    except NotNow as error:
        came = error
    return came, time.monotonic() - started


async def test_a_server_that_stands_still_is_found_out(owned: Owned, server: PostgresServer) -> None:
    """Stopped, it accepts and answers nothing: a commit, a renewal and a new connection each end at their deadline, and go on after it."""
    with server.stopped():
        (error, seconds), (renewal, _), (opening, _) = await asyncio.gather(
            took(committing(owned, 2)), took(owned.store.renew(owned.epoch, 60)), took(owned.make(seconds=SHORT_SECONDS).open())
        )
        assert isinstance(error, NotNow)
        assert "no answer in 1.5 s" in str(error)
        assert seconds < 8  # psycopg alone would wait ten seconds for its own request to cancel
        assert isinstance(renewal, NotNow)
        assert isinstance(opening, NotNow)
        assert type(await outcome(owned.writer, group({2: (b"s", b"p")}))) is NotNow
    await written(owned.writer, group({2: (b"s", b"p")}))
    assert await owned.numbers() == [1, 2]


async def test_one_that_is_cancelled_lets_go_at_once(owned: Owned, server: PostgresServer) -> None:
    """Whoever no longer waits for a stopped server is not held, and the next one is not told what was meant for it."""
    with server.stopped():
        asking = asyncio.create_task(owned.store.owner())
        await asyncio.sleep(0.05)
        asking.cancel()
        started = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert time.monotonic() - started < 3
    owner = await owned.store.owner()
    assert owner is not None
    assert owner.name == "a"


async def test_a_crash_in_a_commit_is_not_now_and_may_have_been_made(owned: Owned, server: PostgresServer) -> None:
    """A commit in which the server crashes is reported once, not sent again by the link, and found or repeated without harm."""
    with server.setting("synchronous_standby_names", "missing"):
        under_way = committing(owned, 2)
        await until(server, WAITS_FOR_A_REPLICA)
        server.stop(crash=True)
        error = await under_way
        assert type(error) is NotNow
        server.forget_settings()
        server.start()
    # It was on the disk when the server crashed.
    assert server.sql(f"SELECT number FROM {owned.store.schema}.jobs ORDER BY number") == [(1,), (2,)]
    await written(owned.writer, group({2: (b"s", b"p"), 3: (b"s", b"p")}))
    assert await owned.numbers() == [1, 2, 3]


async def test_a_crash_before_a_commit_leaves_nothing_of_it(owned: Owned, server: PostgresServer) -> None:
    """A commit that waits for a lock when the server crashes is all gone, and can be repeated."""
    locked = f"BEGIN; SELECT 1 FROM {owned.store.schema}.owner FOR UPDATE"
    with contextlib.closing(server.connection()) as other:
        other.execute(locked)
        under_way = committing(owned, 2)
        await until(server, WAITS_FOR_A_LOCK)
        server.restart_immediately()
        assert type(await under_way) is NotNow
    assert server.sql(f"SELECT number FROM {owned.store.schema}.jobs") == [(1,)]
    await written(owned.writer, group({2: (b"s", b"p")}))
    assert await owned.numbers() == [1, 2]


async def test_a_connection_that_is_terminated_in_a_commit_is_not_now(owned: Owned, server: PostgresServer) -> None:
    """An administrator who ends the connection of a commit makes it fail, once; the next one has a new connection."""
    with contextlib.closing(server.connection()) as other:
        other.execute(f"BEGIN; SELECT 1 FROM {owned.store.schema}.owner FOR UPDATE")
        under_way = committing(owned, 2)
        pid = await until(server, WAITS_FOR_A_LOCK)
        other.execute(f"SELECT pg_terminate_backend({pid})")
        error = await under_way
    assert type(error) is NotNow
    assert "57P01" in str(error)
    await written(owned.writer, group({2: (b"s", b"p")}))
    assert await owned.numbers() == [1, 2]


async def test_a_restart_while_nothing_is_under_way_costs_no_failure(owned: Owned, server: PostgresServer) -> None:
    """A connection that the server has closed is found out before anything is sent on it."""
    server.restart_immediately()
    await written(owned.writer, group({2: (b"s", b"p")}))
    await owned.store.renew(owned.epoch, 60)
    assert await owned.numbers() == [1, 2]


async def test_a_commit_that_is_cancelled_without_its_replica_is_not_acknowledged(owned: Owned, server: PostgresServer) -> None:
    """PostgreSQL calls a commit a success whose wait for a replica was cancelled; we do not."""
    with server.setting("synchronous_standby_names", "missing"):
        under_way = committing(owned, 2)
        pid = await until(server, WAITS_FOR_A_REPLICA)
        server.sql(f"SELECT pg_cancel_backend({pid})")
        error = await under_way
        assert type(error) is NotNow
        assert "might not have been replicated" in str(error)
    await written(owned.writer, group({2: (b"s", b"p")}))


async def test_without_its_replica_nothing_is_acknowledged(owned: Owned, server: PostgresServer) -> None:
    """While the synchronous replica is missing, commits end at their deadline; when it need not be waited for, they go on."""
    with server.setting("synchronous_standby_names", "missing"):
        for _ in range(2):
            assert type(await committing(owned, 2)) is NotNow
    await written(owned.writer, group({2: (b"s", b"p")}))
    assert await owned.numbers() == [1, 2]


async def test_an_old_epoch_is_refused_while_the_new_owner_commits(owned: Owned) -> None:
    """Two owners that commit at the same time: the one whose epoch is old gets nothing in, however often it tries."""
    store = owned.make()
    await store.open()
    new = await store.claim("b", "b:1", 60, force=True)
    writer = store.writer(new.epoch, 60, lambda _sent: None)

    async def commits(by: Writer, numbers: range) -> list[Exception | None]:
        return [await outcome(by, group({number: (b"s", b"p")})) for number in numbers]

    old, current = await asyncio.gather(commits(owned.writer, range(1_000, 1_020)), commits(writer, range(2, 22)))
    assert {type(error) for error in old} == {Fenced}
    assert set(current) == {None}
    assert [job.number for job in (await store.rows(new.epoch)).jobs()] == list(range(1, 22))
    await writer.close(tidy=True)


async def test_a_claim_waits_for_the_commit_before_it(owned: Owned, server: PostgresServer) -> None:
    """A new owner reads what the old one's last commit has done, even one that began before the claim and ended after it."""
    store = owned.make(seconds=30.0)
    await store.open()
    with server.setting("synchronous_standby_names", "missing"):
        under_way = committing(owned, 2)
        await until(server, WAITS_FOR_A_REPLICA)
        claiming = asyncio.create_task(store.claim("b", "b:1", 60, force=True))
        assert type(await under_way) is NotNow
        assert not claiming.done()
    epoch = (await claiming).epoch
    assert [job.number for job in (await store.rows(epoch)).jobs()] == [1, 2]
    assert type(await committing(owned, 3)) is Fenced


async def test_a_standby_is_refused_and_a_failover_is_ridden_out(owned: Owned, server: PostgresServer) -> None:
    """A server that became a standby makes no commit and no start; when it is promoted, commits go on."""
    server.restart_as_standby()
    with pytest.raises(CannotOpen, match="is a standby, which can only be read"):
        await owned.make().open()
    assert type(await committing(owned, 2)) is NotNow
    server.sql("SELECT pg_promote(true, 30)")
    await written(owned.writer, group({2: (b"s", b"p")}))
    assert await owned.numbers() == [1, 2]


async def test_two_silent_servers_do_not_lock_each_other_out(owned: Owned, server: PostgresServer) -> None:
    """Servers that come back together after a minute are both on the list again, and those that do not are off it."""
    names = [f"s{number}" for number in range(6)]
    stores = [owned.make() for _ in names[:5]]
    for name in names:
        await owned.store.announce(name, name)
    server.sql(f"UPDATE {owned.store.schema}.members SET seen = seen - interval '2 minutes'")
    await asyncio.gather(*(store.announce(name, name) for store, name in zip(stores, names, strict=False)))
    assert [member.name for member in await owned.store.announce("s0", "s0")] == names[:5]


async def test_a_commit_that_was_given_up_and_comes_late_changes_nothing(owned: Owned, server: PostgresServer) -> None:
    """What the server reads of a connection that was given up, after the group was sent again on another one, must not undo that."""
    pid = server.sql(f"SELECT pid FROM pg_stat_activity WHERE query LIKE '%{owned.store.schema}.commit_1%' AND pid <> pg_backend_pid()")[0][
        0
    ]
    with server.stopped_process(pid):
        assert type(await outcome(owned.writer, group({2: (b"old", b"p"), 3: (b"s", b"p")}))) is NotNow
        await written(owned.writer, group({2: (b"new", b"p")}, gone=(3,)))
    await asyncio.to_thread(server.wait_until_gone, pid)
    assert await owned.numbers() == [1, 2]
    assert server.sql(f"SELECT state FROM {owned.store.schema}.jobs WHERE number = 2") == [(b"new",)]


async def test_a_database_that_lost_a_commit_ends_the_owner(owned: Owned, server: PostgresServer) -> None:
    """After a failover that lost what was acknowledged, the owner writes nothing on top; the next one begins from what is there."""
    before = server.sql(f"SELECT attempt FROM {owned.store.schema}.owner")[0][0]
    await written(owned.writer, group({2: (b"s", b"p")}))
    schema = owned.store.schema
    server.sql(
        f"DELETE FROM {schema}.jobs WHERE number = 2",
        f"DELETE FROM {schema}.payloads WHERE number = 2",
        f"UPDATE {schema}.owner SET attempt = {before}",
    )
    error = await outcome(owned.writer, group({3: (b"s", b"p")}, states={2: b"t"}))
    assert type(error) is Fatal
    assert "has lost commits that it had acknowledged" in str(error)
    assert await owned.numbers() == [1]


async def test_an_enqueue_whose_commit_broke_is_unconfirmed_and_stored_later(owned: Owned, server: PostgresServer) -> None:
    """Through the journal: its caller is told that it may have been made, later ones that nothing can be, until the group is repeated."""
    clock = ManualClock()
    engine = Engine(Limits())
    claimed = await owned.store.claim("b", "b:1", 60, force=True)
    server.sql(f"TRUNCATE {owned.store.schema}.jobs, {owned.store.schema}.payloads, {owned.store.schema}.counters")
    offset, change = loading.load(await owned.store.rows(claimed.epoch), engine, clock)
    journal = GroupJournal(engine, clock, "store", offset=offset, change=change)
    committed = asyncio.Event()
    journal.use(owned.store.writer(claimed.epoch, 60, lambda _sent: committed.set()))
    backend = LocalBackend(engine=engine, clock=clock, journal=journal)
    backend.resume()
    with contextlib.closing(server.connection()) as other:
        other.execute(f"BEGIN; SELECT 1 FROM {owned.store.schema}.owner FOR UPDATE")
        enqueue = asyncio.create_task(backend.enqueue(JobSpec(payload=b"1", id="one")))
        other.execute(f"SELECT pg_terminate_backend({await until(server, WAITS_FOR_A_LOCK)})")
        with pytest.raises(Unconfirmed):
            await enqueue
        with pytest.raises(StorageUnavailable):
            await backend.enqueue(JobSpec(payload=b"2", id="two"))
    clock.advance(RETRY_SECONDS)
    await committed.wait()
    await asyncio.sleep(0)
    assert not (await backend.enqueue(JobSpec(payload=b"1", id="one"))).created
    await backend.close()
    assert await owned.numbers() == [1]


async def test_a_transaction_does_not_go_on_over_a_new_connection(server: PostgresServer) -> None:
    """A migration, or reading the rows, whose connection broke between two statements is over; what comes after it is not."""
    link = Link(parameters(server.url()), 3.0)
    await link.run("BEGIN")
    ((pid,),) = await link.run("SELECT pg_backend_pid()")
    server.sql(f"SELECT pg_terminate_backend({pid})")
    await asyncio.to_thread(server.wait_until_gone, pid)
    with pytest.raises(NotNow, match="broke in a transaction"):
        await link.run("SELECT 1")
    assert await link.run("SELECT 1") == [(1,)]
    await link.close()
