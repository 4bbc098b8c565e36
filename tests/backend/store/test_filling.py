"""From a file to a store and back: exact, whole, and refused where it would overwrite or be overwritten."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule

from jobqueue.backend import loading
from jobqueue.backend.group import Group, NotNow
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.rows import RESTORING, Counters, encode_counters, encode_job, encode_queue
from jobqueue.backend.sqlite import file as sqlite
from jobqueue.backend.sqlite.open import open_journal
from jobqueue.backend.store import filling
from jobqueue.backend.store.filling import copy, fill
from jobqueue.backend.store.store import Store
from jobqueue.backend.store.valkey import ValkeyStore
from jobqueue.backend.store.valkey_moment import Moment
from jobqueue.backend.store.valkey_wire import Command, Wait
from jobqueue.clock import ManualClock, SystemClock
from jobqueue.engine.engine import Engine
from jobqueue.model import JobSpec, Outcome, Verdict, Want
from jobqueue.policy import QueuePolicy
from tests.conformance.durable import MEMORY, kept
from tests.engine.test_machine import EngineMachine
from tests.moving import contents
from tests.postgres import postgres_server, postgres_stores
from tests.valkey import needs_valkey, no_servers_left, single, with_replicas

from .contract import claimed, group, outcome, writer_of, written
from .contract import kept as kept_rows
from .memory import MemoryStore, Shared

__all__ = ["no_servers_left"]

GUARD = 30.0
_names = (f"fill{number}-" for number in itertools.count())

MakeStore = Callable[[], Store]


@pytest.fixture(params=["memory", "valkey", "postgres"])
async def make_store(request: pytest.FixtureRequest) -> AsyncIterator[MakeStore]:
    """Makes stores of one empty place, of each kind that there is."""
    if request.param == "memory":
        shared = Shared(SystemClock())
        yield lambda: MemoryStore(shared)
    elif request.param == "valkey":
        needs_valkey()
        name, made = next(_names), []

        def make() -> Store:
            made.append(ValkeyStore(single().url, 0, name=name))
            return made[-1]

        yield make
        for store in made:
            await store.close()
    else:
        async with postgres_stores(postgres_server()) as stores:
            yield stores


@pytest.fixture
async def store(make_store: MakeStore) -> Store:
    """One of them, open."""
    made = make_store()
    await made.open()
    return made


async def jobs_file(path: Path, count: int = 30) -> Path:
    """A data file with something of everything: queued, scheduled, leased under an attempt id, tried again, ended, a policy, a pause."""
    clock, engine = SystemClock(), Engine()
    backend = LocalBackend(engine=engine, clock=clock, journal=open_journal(str(path), engine, clock, sync="off"))
    await backend.put_policy("mail", QueuePolicy(max_attempts=2, lease_seconds=70.0))
    await backend.enqueue(JobSpec(payload=b"1", id="p", queue="paused"))
    await backend.set_paused("paused", True)
    await backend.enqueue_batch(
        [JobSpec(payload=b"%d" % n, id=f"j{n}", queue="mail", priority=n % 3, description="ä" if n % 5 else None) for n in range(count)]
    )
    await backend.enqueue(JobSpec(payload=b"1", id="later", queue="mail", delay=3600.0, expires_in=7200.0))
    async with (taking := backend.dequeue(Want(queues=("mail",), limit=6, attempt_id="a1", worker="w"), 0.0)) as jobs:
        taking.delivered()
    verdicts = (
        Verdict(outcome=Outcome.SUCCEEDED, result=b"[1]"),
        Verdict(outcome=Outcome.FAILED, error=b'"no"'),
        Verdict(outcome=Outcome.FAILED, retry=False),
    )
    for job, verdict in zip(jobs, verdicts, strict=False):
        assert job.lease is not None
        await backend.conclude(job.id, job.lease.token, verdict)
    await backend.close()
    return path


def dump(path: Path) -> tuple[Any, ...]:
    """Every row of a data file."""
    file = sqlite.Store.read_only(str(path))
    try:
        return file.counters(), list(file.queues()), file.count(), list(file.jobs())
    finally:
        file.close(tidy=False)


def engine_of(path: Path) -> dict[str, Any]:
    """What a server would have in memory."""
    file, engine = sqlite.Store.read_only(str(path)), Engine()
    try:
        loading.load(file, engine, ManualClock())
    finally:
        file.close(tidy=False)
    return kept(engine)


async def restored(store: Store, path: Path, progress: loading.Progress = loading.no_progress) -> None:
    """Fill a store from a file."""
    file = sqlite.Store.read_only(str(path))
    try:
        async with asyncio.timeout(GUARD):
            await fill([store], [file], contents(file), progress)
    finally:
        file.close(tidy=False)


async def backed_up(store: Store, path: Path) -> Path:
    """Copy a store to a new file."""
    await asyncio.to_thread(path.touch)
    file = sqlite.Store.make(str(path))
    try:
        await copy(store, file.write)
    finally:
        file.finish()
    return path


async def test_a_file_comes_back_from_a_store_as_it_was(make_store: MakeStore, store: Store, tmp_path: Path) -> None:
    """Every row is the same afterwards, byte for byte; nobody owns the store meanwhile left behind, and whoever asks copies it."""
    first = await jobs_file(tmp_path / "a.db")
    seen: list[tuple[int, int]] = []
    await restored(store, first, lambda done, total: seen.append((done, total)))
    assert (seen[0], seen[-1]) == ((0, 32), (32, 32))
    assert await store.owner() is None
    other = make_store()
    await other.open()
    assert dump(await backed_up(other, tmp_path / "b.db")) == dump(first)
    assert [member.name for member in await store.announce("me", "me:1")] == ["me"]


async def test_what_a_server_reads_of_it_is_the_same(store: Store, tmp_path: Path) -> None:
    """An owner finds in the store what a server would find in the file: leases, places, history, attempts, totals, the next number."""
    first = await jobs_file(tmp_path / "a.db")
    await restored(store, first)
    engine = Engine()
    loading.load(await store.rows(await claimed(store)), engine, ManualClock())
    assert kept(engine) == engine_of(first)


async def test_jobs_by_the_thousand_are_moved_in_groups(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one group, and more than one answer, each way."""
    monkeypatch.setattr(filling, "GROUP_ROWS", 700)
    first = await jobs_file(tmp_path / "a.db", 5_000)
    await restored(store, first)
    assert dump(await backed_up(store, tmp_path / "b.db")) == dump(first)


async def test_a_store_that_has_jobs_is_left_as_it_is(store: Store, tmp_path: Path) -> None:
    """Jobs or queues that are there already are a refusal that says what to do."""
    first = await jobs_file(tmp_path / "a.db")
    for rows, what in ((group(queues={"q": b"row"}), "queues"), (group({1: (b"s", b"p")}), "jobs")):
        epoch = await claimed(store)
        await written(writer_of(store, epoch), rows)
        before = await kept_rows(store, epoch)
        await store.release(epoch)
        with pytest.raises(CannotOpen, match=f"has {what} already, and only an empty store can be filled"):
            await restored(store, first)
        assert await store.owner() is None
        assert await kept_rows(store, await claimed(store)) == before
        await store.release((await store.owner()).epoch)  # type: ignore[union-attr]


async def test_a_store_without_jobs_is_empty_whatever_was_in_it(store: Store, tmp_path: Path) -> None:
    """A server that ran on it and had no jobs leaves counters, which are no reason not to fill it."""
    first = await jobs_file(tmp_path / "a.db")
    epoch = await claimed(store)
    await written(writer_of(store, epoch), group(counters=encode_counters(Counters(1, 1, 0.0, "store"))))
    await store.release(epoch)
    await restored(store, first)
    assert dump(await backed_up(store, tmp_path / "b.db")) == dump(first)


async def test_a_store_that_servers_use_is_refused(store: Store, tmp_path: Path) -> None:
    """An owner, or a server that would become one, is named, and nothing is changed."""
    first = await jobs_file(tmp_path / "a.db")
    epoch = await claimed(store, "server-1")
    with pytest.raises(CannotOpen, match="the server server-1 is the owner: stop all servers first"):
        await restored(store, first)
    await store.release(epoch)
    await store.announce("server-2", "b:1")
    with pytest.raises(CannotOpen, match="servers use it: stop server-2 first"):
        await restored(store, first)
    assert (await store.owner(), await store.counters()) == (None, None)


async def test_half_of_a_restore_is_nobodys(store: Store, tmp_path: Path) -> None:
    """A restore that was broken off says so to whoever reads the store; another one deletes what it left, and fills it."""
    first, second = await jobs_file(tmp_path / "a.db", 50), await jobs_file(tmp_path / "b.db", 3)

    def broken(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await restored(store, first, lambda done, total: None if done == 0 else broken(done, total))
    # All was committed but for the end; the same is left at any place before.
    epoch = await claimed(store)
    await written(writer_of(store, epoch), group({9_999: (b"s", b"p")}, queues={"left": b"row"}, counters=RESTORING))
    with pytest.raises(CannotOpen, match="a restore into it is running, or was interrupted"):
        loading.load(await store.rows(epoch), Engine(), ManualClock())
    with pytest.raises(CannotOpen, match="a restore into it is running, or was interrupted"):
        loading.check_whole(store.path, await store.counters())
    await store.release(epoch)
    await restored(store, second)
    assert dump(await backed_up(store, tmp_path / "c.db")) == dump(second)


async def test_who_loses_the_store_meanwhile_says_so(make_store: MakeStore, store: Store, tmp_path: Path) -> None:
    """A claim by force ends a restore at its next commit; what is there counts for nothing."""
    first = await jobs_file(tmp_path / "a.db")
    other = make_store()
    await other.open()
    claims: list[asyncio.Task[int]] = []
    rows = writer_of

    class Taken:
        """The store, from which the queue is taken after the mark and before the jobs."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def moment(self, apply: Any) -> Any:
            whole = await store.moment(apply)
            if not claims:
                claims.append(asyncio.ensure_future(claimed(other, "b", force=True)))
                await claims[0]
            return whole

    with pytest.raises(CannotOpen, match="the restore was interrupted; run it again"):
        await restored(Taken(), first)
    assert await outcome(rows(other, await claims[0]), group(counters=b"theirs")) is None


async def test_what_cannot_be_read_back_is_no_restore(tmp_path: Path) -> None:
    """A store that keeps something else than it was given is found out before it counts."""

    class Forgetful(Shared):
        def write(self, rows: Group) -> None:
            super().write(rows)
            if 7 in self.states:
                self.states[7] = self.states[8]

    shared = Forgetful(SystemClock())
    with pytest.raises(CannotOpen, match="job number 7 is not what was written"):
        await restored(MemoryStore(shared), await jobs_file(tmp_path / "a.db"))
    assert shared.counters == RESTORING


async def test_a_restore_outlasts_a_store_that_cannot_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that the store does not take is tried again, as a server would."""
    monkeypatch.setattr(filling, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(filling, "GROUP_ROWS", 10)
    shared = Shared(SystemClock())
    tries = itertools.count()

    class Busy(MemoryStore):
        async def call(self, what: str, do: Callable[[], object]) -> object:
            if what == "write" and next(tries) % 2:
                raise NotNow("a failover")
            return await super().call(what, do)

    first = await jobs_file(tmp_path / "a.db")
    await restored(Busy(shared), first)
    assert dump(await backed_up(MemoryStore(shared), tmp_path / "b.db")) == dump(first)


async def test_nothing_is_no_backup(store: Store, tmp_path: Path) -> None:
    """A store that no server has used holds nothing that could be restored."""
    with pytest.raises(CannotOpen, match="holds nothing yet"):
        await backed_up(store, tmp_path / "b.db")


async def test_a_failover_ends_a_moment() -> None:
    """What was read of one primary and what was noted by another do not go together, whatever the other one knows."""
    needs_valkey()
    nodes = with_replicas(1)
    store = ValkeyStore(",".join([nodes[0].url, f"127.0.0.1:{nodes[1].port}"]), 0)
    try:
        await store.open()
        epoch = await claimed(store)
        await written(writer_of(store, epoch), group(dict.fromkeys(range(1, 200), (b"s", b"p"))))
        done: list[str] = []

        async def fail_over(_rows: Group) -> None:
            if not done:
                done.append("yes")
                nodes[1].tell("REPLICAOF", "NO", "ONE")
                nodes[0].tell("REPLICAOF", "127.0.0.1", nodes[1].port)

        with pytest.raises(NotNow):
            await store.moment(fail_over)
    finally:
        await store.close()
        for node in nodes:
            node.remove()


@pytest.mark.parametrize("said", ["run_id", "master_replid"])
async def test_a_moment_is_read_of_one_primary(said: str) -> None:
    """One that was started again, or was a replica in between, is another one, though it knows the reader and answers."""
    steps = itertools.count()

    async def ask(*commands: Command, seconds: float | None = None) -> list[Any]:
        if commands[0][0] == "HSCAN":
            return [[b"0", []]]
        if commands[0][1] == "jo_note" and len(commands) == 1:
            return [1]
        info = f"{said}:{next(steps)}\r\n".encode()
        return [[1, [], None, [], []] if commands[0][1] == "jo_noted" else 1, info, info]

    async def apply(_rows: Group) -> None:
        """Nothing to keep."""

    with pytest.raises(NotNow, match="there was a failover while the jobs were read"):
        await Moment(ask, "{jq0}:", "valkey://h:1", Wait(0, 1.0)).read(apply)


async def test_two_do_not_read_a_moment_at_once() -> None:
    """What changes is noted for one reader at a time; the second is told when to come again, and disturbs nobody."""
    needs_valkey()
    name = next(_names)
    one, other = ValkeyStore(single().url, 0, name=name), ValkeyStore(single().url, 0, name=name)
    try:
        await one.open()
        await written(writer_of(one, await claimed(one)), group({1: (b"s", b"p")}))

        async def both(_rows: Group) -> None:
            with pytest.raises(NotNow, match="another backup is being made"):
                await other.moment(both)

        assert (await one.moment(both)).jobs == 1
    finally:
        await one.close()
        await other.close()


class MovedMachine(EngineMachine):
    """Any state of an engine, moved from a file to a store and back at any step."""

    def rows(self) -> Group:
        """All rows of the engine."""
        rows = Group()
        for job in self.engine.jobs.all():
            rows.put(job.number, encode_job(job, job.number))
            rows.put_payload(job.number, job.payload)
        rows.queue_rows = {name: encode_queue(queue) for name, queue in self.engine.queues.items()}
        following = self.engine.jobs.next_number
        rows.counters = encode_counters(Counters(following, following, 0.0, "always", self.now, "boot", 1.0))
        return rows

    @rule()
    def moved(self) -> None:
        """File, store, file: the same rows, of which a server makes the same engine."""
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            first, second = Path(folder, "a.db"), Path(folder, "b.db")
            first.touch()
            file = sqlite.Store.make(str(first))
            file.write(self.rows())
            file.finish()

            async def there_and_back() -> None:
                store = MemoryStore(Shared(SystemClock()))
                await restored(store, first)
                await backed_up(store, second)

            asyncio.run(there_and_back())
            assert dump(second) == dump(first)
            assert engine_of(second) == engine_of(first)


TestMoved = MovedMachine.TestCase
TestMoved.settings = settings(max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
