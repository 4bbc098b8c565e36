"""Stores of several partitions, filled from a file and copied to one: all partitions become whole at once, or none does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from jobqueue.backend.contents import Contents
from jobqueue.backend.group import Fatal, Group, NotNow
from jobqueue.backend.joining import Joining
from jobqueue.backend.loading import CannotOpen, Source, check_whole, load
from jobqueue.backend.rows import RESTORING
from jobqueue.backend.splitting import split
from jobqueue.backend.store import filling
from jobqueue.backend.store.filling import fill, join
from jobqueue.clock import ManualClock, SystemClock
from jobqueue.engine.engine import Engine
from jobqueue.partition import Place
from tests.engine.invariants import invariants
from tests.moving import ALL, Kept, contents, living

from .contract import claimed, group, writer_of, written
from .memory import MemoryStore, MemoryStores, Rows, SharedSet

GUARD = 30.0


class Cut(BaseException):
    """The process ends here."""


async def opened(shared: SharedSet) -> MemoryStores:
    """A way to a store that has its partitions."""
    stores = MemoryStores(shared)
    await stores.open()
    return stores


async def restored(stores: MemoryStores, source: Source) -> Contents:
    """Fill a store."""
    async with asyncio.timeout(GUARD):
        return await fill(list(stores), split(source, stores.partitions), contents(source))


async def backed_up(stores: MemoryStores) -> Kept:
    """Copy a store."""
    kept = Kept()
    joining = Joining(stores.path, kept, stores.partitions)
    async with asyncio.timeout(GUARD):
        await join(list(stores), joining)
    assert joining.contents == contents(kept)
    return kept


def served(shared: SharedSet) -> list[Engine]:
    """What the owners of all partitions make of them. Raises CannotOpen."""
    engines = []
    for index, part in enumerate(shared.parts):
        engine = Engine(ALL, place=Place(index, len(shared.parts)))
        load(Rows(part), engine, shared.clock)
        invariants(engine)
        engines.append(engine)
    return engines


def startable(shared: SharedSet) -> bool:
    """Whether a server starts on it."""
    try:
        for part in shared.parts:
            check_whole("memory", part.counters)
    except CannotOpen:
        return False
    return True


async def test_a_store_is_moved_to_other_numbers_of_partitions() -> None:
    """From one file through three, eight and one partitions: what a file holds in the end is what it held."""
    rows = await living(3, 400)
    first = contents(rows)
    for count in (3, 8, 1):
        shared = SharedSet(SystemClock(), partitions=count)
        stores = await opened(shared)
        assert await restored(stores, rows) == first
        engines = served(shared)
        assert sum(len(engine.jobs.by_id) for engine in engines) == rows.count()
        assert [owner for owner in await stores.owners() if owner] == []
        rows = await backed_up(stores)
        assert contents(rows) == first


async def cut(stores: MemoryStores, source: Source, after: int, done: bool) -> bool:
    """Fill a store by a process that ends at its n-th call, which the store carries out or not. Returns whether it came to its end."""
    calls = 0
    restoring = asyncio.ensure_future(restored(stores, source))
    for way in stores.ways:

        async def call(what: str, do: Callable[[], object], way: MemoryStore = way) -> object:
            nonlocal calls
            calls += 1
            if calls < after or (calls == after and done):
                answer = await MemoryStore.call(way, what, do)
            if calls < after:
                return answer
            restoring.cancel()
            raise NotNow("the process has ended")

        way.call = call  # type: ignore[method-assign]
    await asyncio.wait({restoring})
    return not restoring.cancelled() and restoring.exception() is None


@pytest.mark.parametrize("done", [False, True])
async def test_a_cut_at_any_point_leaves_nothing_that_is_served(done: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a restore ends, no server starts on the store, and its partitions are whole all together; another restore ends it."""
    monkeypatch.setattr(filling, "GROUP_ROWS", 25)
    rows, clock = await living(5, 120), ManualClock()
    expected = contents(rows)
    ended, after = False, 0
    while not ended:
        after += 1
        shared = SharedSet(clock, partitions=3)
        ended = await cut(await opened(shared), rows, after, done)
        if all(part.counters is None for part in shared.parts):
            assert not any(part.states for part in shared.parts)
        elif shared.parts[0].counters == RESTORING:
            assert not startable(shared)
        else:
            # The last commit came to the store.
            assert startable(shared)
            assert contents(await backed_up(await opened(shared))) == expected
            continue
        clock.advance(120.0)
        again = await opened(shared)
        assert await restored(again, rows) == expected
        assert startable(shared)
        assert contents(await backed_up(again)) == expected
        served(shared)
    assert after > 20


async def interrupted(shared: SharedSet, rows: Kept, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore that ends before it has compared anything."""

    async def compare(self: object, contents: object) -> None:
        raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(filling._Partition, "compare", compare)
        with pytest.raises(Cut):
            await restored(await opened(shared), rows)
    clock.advance(120.0)


async def test_a_restore_goes_on_where_another_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are there already are not written again."""
    rows, clock = await living(5, 120), ManualClock()
    shared = SharedSet(clock, partitions=3)
    await interrupted(shared, rows, clock, monkeypatch)
    number, _ = shared.parts[1].states.popitem()
    shared.parts[1].payloads.pop(number)
    written: list[int] = []
    for part in shared.parts:
        write = part.write

        def noted(group: Group, write: Callable[[Group], None] = write) -> None:
            written.extend(group.states)
            write(group)

        part.write = noted  # type: ignore[method-assign]
    assert await restored(await opened(shared), rows) == contents(rows)
    assert written == [number]


async def test_another_file_replaces_what_an_interrupted_restore_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the first file is left, although jobs of both have the same numbers."""
    rows, other, clock = await living(5, 120), await living(6, 60), ManualClock()
    shared = SharedSet(clock, partitions=3)
    await interrupted(shared, rows, clock, monkeypatch)
    assert await restored(await opened(shared), other) == contents(other)
    assert contents(await backed_up(await opened(shared))) == contents(other)


async def test_one_partition_in_use_is_enough_for_a_refusal() -> None:
    """An owner, a job or a server anywhere in the store; and every partition is let go again."""
    rows = await living(5, 20)
    shared = SharedSet(SystemClock(), partitions=3)
    stores = await opened(shared)
    epoch = await claimed(stores[2], "server-1")
    with pytest.raises(CannotOpen, match="the server server-1 is the owner: stop all servers first"):
        await restored(stores, rows)
    await written(writer_of(stores[2], epoch), group({1: (b"s", b"p")}))
    await stores[2].release(epoch)
    with pytest.raises(CannotOpen, match="has jobs already, and only an empty store can be filled"):
        await restored(stores, rows)
    await stores.announce("server-2", "b:1")
    with pytest.raises(CannotOpen, match="servers use it: stop server-2 first"):
        await restored(stores, rows)
    assert await stores.owners() == [None, None, None]
    assert [part.counters for part in shared.parts[:2]] == [None, None]


async def test_one_partition_that_keeps_something_else_keeps_all_from_being_used() -> None:
    """What cannot be read back from one partition is found before any of them counts."""
    shared = SharedSet(SystemClock(), partitions=3)
    write = shared.parts[1].write

    def forgetful(group: Group) -> None:
        write(group)
        for number in shared.parts[1].payloads:
            shared.parts[1].payloads[number] = b"another"

    shared.parts[1].write = forgetful  # type: ignore[method-assign]
    with pytest.raises(CannotOpen, match="is not what was written"):
        await restored(await opened(shared), await living(5, 60))
    assert [part.counters for part in shared.parts] == [RESTORING] * 3


async def test_what_is_no_whole_is_no_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that nobody has used, or that a restore was cut in, cannot be copied."""
    clock = ManualClock()
    shared = SharedSet(clock, partitions=3)
    with pytest.raises(CannotOpen, match="holds nothing yet"):
        await backed_up(await opened(shared))
    await interrupted(shared, await living(5, 20), clock, monkeypatch)
    with pytest.raises(CannotOpen, match="a restore into it is running, or was interrupted"):
        await backed_up(await opened(shared))


async def test_a_store_that_is_not_what_was_expected_does_not_count() -> None:
    """The last comparison is with what the file was found to hold."""
    shared = SharedSet(SystemClock(), partitions=2)
    stores, rows = await opened(shared), await living(5, 20)
    with pytest.raises(CannotOpen, match="what was written is not what was to be written") as refused:
        await fill(list(stores), split(rows, 2), contents(await living(6, 20)))
    assert isinstance(refused.value.__cause__, Fatal)
    assert not startable(shared)
