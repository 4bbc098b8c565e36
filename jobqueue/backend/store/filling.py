"""Copies a store to a file and back: complete and exact, and no server can serve a partial copy.

Rows are copied byte for byte, so that nothing is different afterwards: numbers, ids, leases, places, history, totals, and the time line.
For a server, a moved file is as if it had been restarted.

**A store is filled** under a claim, as its owner, in bounded groups. The first group has RESTORING in place of the counters, and so have
all that follow, until everything has been read back and compared with the file; the counters themselves are in the last group. Every server
reads the counters first, and only the owner writes them, in the same step as rows; a separate mark would be less reliable.

With several partitions, all are marked before the first row is written, and all are compared before the first counters are. Partition 0 is
marked first, and its counters are written last: so a store is whole if and only if partition 0 is not marked. A restore that was cut is
taken up again by another one, which keeps the rows that are right.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set

from jobqueue.backend.contents import Contents
from jobqueue.backend.group import Fatal, Group, NotNow, Writer
from jobqueue.backend.joining import Joining
from jobqueue.backend.loading import PROGRESS_JOBS, CannotOpen, Progress, Rows, Source, no_progress
from jobqueue.backend.rows import RESTORING
from jobqueue.backend.store.membership import MEMBER_SECONDS
from jobqueue.backend.store.store import Store

LEASE_SECONDS = 15.0
NAME = "restore on "
"""The prefix of the owner's name while a store is filled."""

NOWHERE = "-"
"""The address of an owner that cannot be reached. It is not a valid address, so that no server takes it for one whose port refuses
connections."""

GROUP_ROWS = 2_000
GROUP_BYTES = 4 * 1024 * 1024

RETRY_SECONDS = 0.5
GIVE_UP_SECONDS = 60.0
"""How long to try again a group that the store cannot take now."""


async def copy(store: Store, write: Callable[[Group], object]) -> int:
    """Pass to `write`, in a thread, groups which, written to an empty place, give the content of the store at one moment. Returns the
    number of jobs.

    Queues and counters are in the last group.

    Raises NotNow, CannotOpen, and what `write` raises.
    """

    async def apply(group: Group) -> None:
        await asyncio.to_thread(write, group)

    whole = await store.moment(apply)
    if whole.counters is None:
        raise CannotOpen(f"{store.path}: holds nothing yet")
    await asyncio.to_thread(write, _group(whole.counters, queues=whole.queues))
    return whole.jobs


async def join(stores: Sequence[Store], joining: Joining, progress: Progress = no_progress) -> None:
    """Read all partitions of a store, each as it is at a moment of its own, and join them. Raises NotNow, CannotOpen, and what the target
    of `joining` raises.
    """
    for index, store in enumerate(stores):

        async def take(group: Group, index: int = index) -> None:
            await asyncio.to_thread(joining.take, index, group)

        whole = await store.moment(take)
        await asyncio.to_thread(joining.end, index, whole.counters, whole.queues, whole.jobs)
    await asyncio.to_thread(joining.finish, progress)


class _Comparison:
    """Compares what is read of a store with its source, in whatever order and however often it comes. wrong: the numbers of jobs that the
    source does not have, or has otherwise.
    """

    def __init__(self, source: Source, contents: Contents | None = None) -> None:
        self.wrong: set[int] = set()
        self._source = source
        self._contents = contents
        self._states: set[int] = set()
        self._payloads: set[int] = set()

    async def __call__(self, group: Group) -> None:
        """Compare a group of Store.moment."""
        expected = {job.number: job for job in self._source.these(sorted({*group.states, *group.payloads}))}
        before = self.right(expected)
        for number, state in group.states.items():
            self._note(self._states, number, number in expected and expected[number].state == state)
        for number, payload in group.payloads.items():
            self._note(self._payloads, number, number in expected and expected[number].payload == payload)
        if self._contents is not None:
            for number in self.right(expected) - before:
                self._contents.add_job(*expected[number])

    def _note(self, known: set[int], number: int, right: bool) -> None:
        (known if right else self.wrong).add(number)

    def right(self, numbers: Iterable[int]) -> set[int]:
        """Those of these jobs that were read completely, and are as in the source."""
        return {number for number in numbers if number in self._states and number in self._payloads} - self.wrong

    @property
    def all_right(self) -> set[int]:
        """All such jobs."""
        return (self._states & self._payloads) - self.wrong

    @property
    def seen(self) -> set[int]:
        """All jobs of which anything was read."""
        return self._states | self._payloads | self.wrong


class _Partition:
    """One partition while it is filled."""

    def __init__(self, store: Store, writer: Writer, source: Source, counters: bytes) -> None:
        self.store = store
        self._writer = writer
        self._source = source
        self._counters = counters

    async def mark(self) -> None:
        """Mark the partition as being filled."""
        await _commit(self._writer, _group(RESTORING))

    async def write(self, progress: Callable[[int], object]) -> None:
        """Write what the partition lacks, and delete what an interrupted restore of something else has left. progress: called with the
        number of jobs that have come in addition.
        """
        found = _Comparison(self._source)
        whole = await self.store.moment(found)
        right, named = found.all_right, dict(self._source.queues())
        left = sorted(found.seen - right)
        for start in range(0, len(left), GROUP_ROWS):
            group = _group(RESTORING)
            for number in left[start : start + GROUP_ROWS]:
                group.forget(number)
            await _commit(self._writer, group)
        progress(len(right))
        for group in _groups(self._source, right):
            await _commit(self._writer, group)
            progress(len(group.states))
        changed: dict[str, bytes | None] = {name: None for name in whole.queues if name not in named}
        changed.update((name, row) for name, row in named.items() if whole.queues.get(name) != row)
        for names in _pieces(changed):
            await _commit(self._writer, _group(RESTORING, queues=names))

    async def compare(self, contents: Contents) -> None:
        """Read everything back, and add it to `contents`. Raises Fatal if it is not what the source has."""
        found = _Comparison(self._source, contents)
        whole = await self.store.moment(found)
        if found.wrong:
            raise Fatal(f"what can be read of job number {min(found.wrong)} is not what was written")
        total, named = self._source.count(), dict(self._source.queues())
        if (whole.counters, whole.queues, whole.jobs, len(found.all_right)) != (RESTORING, named, total, total):
            raise Fatal(
                f"what was written is not what can be read: {whole.jobs} of {total} jobs, {len(whole.queues)} of {len(named)} queues"
            )
        contents.add_named(whole.queues.items())

    async def complete(self) -> None:
        """Write the counters: from now on the partition is whole."""
        await _commit(self._writer, _group(self._counters))
        if await self.store.counters() != self._counters:
            raise Fatal("the counters that were written are not those that can be read")


async def fill(stores: Sequence[Store], sources: Sequence[Source], expected: Contents, progress: Progress = no_progress) -> Contents:
    """Fill the partitions of an empty store with rows that were all checked before. Returns what was read back. Raises CannotOpen, NotNow.

    stores: all partitions, in order; sources: what each gets; expected: what they are to contain together. A store that has jobs, or
    servers, is refused and not changed. If filling is interrupted, only another `fill` makes the store usable: it goes on where the first
    one ended, or begins anew if it is given something else.
    """
    rows = [_counters_of(source) for source in sources]
    name = f"{NAME}{socket.gethostname()[:150]}:{os.getpid()}-{secrets.token_hex(2)}"
    await _check_unused(stores, name)
    async with contextlib.AsyncExitStack() as stack:
        epochs = []
        for store in stores:
            owner = await store.claim(name, NOWHERE, LEASE_SECONDS)
            if owner.name != name:
                raise _owned(store, owner.name, owner.seconds)
            stack.push_async_callback(_released, store, owner.epoch)
            epochs.append(owner.epoch)
        try:
            await _check_empty(stores)
            partitions = []
            for store, epoch, source, counters in zip(stores, epochs, sources, rows, strict=True):
                await stack.enter_async_context(_held(store, epoch))
                writer = await stack.enter_async_context(_writing(store, epoch))
                partitions.append(_Partition(store, writer, source, counters))
            return await _fill(partitions, sum(source.count() for source in sources), expected, progress)
        except (NotNow, Fatal) as error:
            raise CannotOpen(f"{stores[0].path}: the restore was interrupted; run it again: {error}") from error


def _counters_of(source: Source) -> bytes:
    counters = source.counters()
    if counters is None:
        raise CannotOpen(f"{source.path}: holds nothing yet")
    return counters


async def _fill(partitions: Sequence[_Partition], total: int, expected: Contents, progress: Progress) -> Contents:
    done = 0

    def advance(jobs: int) -> None:
        nonlocal done
        if (done + jobs) // PROGRESS_JOBS > done // PROGRESS_JOBS:
            progress(done + jobs, total)
        done += jobs

    progress(0, total)
    for partition in partitions:
        await partition.mark()
    for partition in partitions:
        await partition.write(advance)
    found = Contents()
    for partition in partitions:
        await partition.compare(found)
    if found != expected:
        raise Fatal(f"what was written is not what was to be written: {found}, not {expected}")
    for partition in reversed(partitions):
        await partition.complete()
    progress(total, total)
    return found


async def _released(store: Store, epoch: int) -> None:
    with contextlib.suppress(NotNow, Fatal):
        await store.release(epoch)


async def _check_unused(stores: Sequence[Store], name: str) -> None:
    """Refuse a store that servers use."""
    for store in stores:
        owner = await store.owner()
        if owner is not None and owner.seconds > 0:
            raise _owned(store, owner.name, owner.seconds)
    # Servers are members of the whole store.
    store = stores[0]
    try:
        members = [member.name for member in await store.announce(name, NOWHERE) if member.seconds < MEMBER_SECONDS]
    finally:
        await store.depart(name)
    others = [member for member in members if member != name]
    if others:
        raise CannotOpen(f"{store.path}: servers use it: stop {', '.join(sorted(others))} first")


async def _check_empty(stores: Sequence[Store]) -> None:
    if await stores[0].counters() == RESTORING:
        # Then nothing else in it is anybody's, whatever the other partitions hold.
        return
    for store in stores:
        counters = await store.counters()
        if counters is not None and counters != RESTORING:
            whole = await store.moment(_refuse_jobs(store))
            if whole.queues:
                raise _used(store, "queues")


def _refuse_jobs(store: Store) -> Callable[[Group], Awaitable[None]]:
    async def refuse(group: Group) -> None:
        raise _used(store, "jobs")

    return refuse


def _used(store: Store, what: str) -> CannotOpen:
    return CannotOpen(
        f"{store.path}: has {what} already, and only an empty store can be filled: use another store, or empty this one first"
    )


def _owned(store: Store, name: str, seconds: float) -> CannotOpen:
    if name.startswith(NAME):
        return CannotOpen(f"{store.path}: another restore is filling it ({name}); if that was interrupted, try again in {seconds:.0f} s")
    return CannotOpen(
        f"{store.path}: the server {name} is the owner: stop all servers first, or try again in {seconds:.0f} s if it is no longer running"
    )


@contextlib.asynccontextmanager
async def _held(store: Store, epoch: int) -> AsyncIterator[None]:
    """Renew the claim meanwhile. If another server claims nevertheless, the next commit fails."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            with contextlib.suppress(NotNow, Fatal):
                await store.renew(epoch, LEASE_SECONDS)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


@contextlib.asynccontextmanager
async def _writing(store: Store, epoch: int) -> AsyncIterator[Writer]:
    writer = store.writer(epoch, LEASE_SECONDS, lambda _sent: None)
    try:
        yield writer
    finally:
        await writer.close(tidy=True)


async def _commit(writer: Writer, group: Group) -> None:
    """Commit a group, and repeat while the store cannot. Raises NotNow, Fatal."""
    until = time.monotonic() + GIVE_UP_SECONDS
    while True:
        committed: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        writer.write(group, committed.set_result)
        error = await committed
        if error is None:
            return
        if not isinstance(error, NotNow) or time.monotonic() > until:
            raise error
        await asyncio.sleep(RETRY_SECONDS)


def _groups(source: Rows, without: Set[int]) -> Iterator[Group]:
    """Jobs in groups, without these."""
    group = _group(RESTORING)
    for number, state, payload in source.jobs():
        if number in without:
            continue
        group.put(number, state)
        group.put_payload(number, payload)
        if len(group.states) >= GROUP_ROWS or group.size > GROUP_BYTES:
            yield group
            group = _group(RESTORING)
    if group.states:
        yield group


def _pieces(rows: Mapping[str, bytes | None]) -> Iterator[dict[str, bytes | None]]:
    """Rows of queues and other things, so many at a time that a group is not much larger than one of jobs."""
    piece: dict[str, bytes | None] = {}
    size = 0
    for name, row in rows.items():
        piece[name] = row
        size += len(row or b"")
        if len(piece) >= GROUP_ROWS or size > GROUP_BYTES:
            yield piece
            piece, size = {}, 0
    if piece:
        yield piece


def _group(counters: bytes, *, queues: Mapping[str, bytes | None] | None = None) -> Group:
    group = Group()
    group.counters = counters
    group.due = True
    group.queue_rows = dict(queues or {})
    group.queues = set(group.queue_rows)
    return group
