"""Copies a store to a file and back: complete and exact, and no server can serve a partial copy.

Rows are copied byte for byte, so that nothing is different afterwards: numbers, ids, leases, places, history, totals, and the time line.
For a server, a moved file is as if it had been restarted.

**A store is filled** under a claim, as its owner, in bounded groups. The first group has RESTORING in place of the counters, and so have
all that follow, until everything has been read back and compared with the file; the counters themselves are in the last group. Every server
reads the counters first, and only the owner writes them, in the same step as rows; a separate mark would be less reliable.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

from jobqueue.backend.group import Fatal, Group, NotNow, Writer
from jobqueue.backend.loading import PROGRESS_JOBS, CannotOpen, Progress, Rows, Source, no_progress
from jobqueue.backend.rows import RESTORING
from jobqueue.backend.store.ownership import MEMBER_SECONDS
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


class _Comparison:
    """Compares what is read back with its source, in whatever order and however often it comes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._states: set[int] = set()
        self._payloads: set[int] = set()

    async def __call__(self, group: Group) -> None:
        """Raises Fatal if a row differs from the source."""
        expected = {job.number: job for job in self._source.these(sorted({*group.states, *group.payloads}))}
        for number, state in group.states.items():
            if number not in expected or expected[number].state != state:
                raise Fatal(f"what can be read of job number {number} is not what was written")
        for number, payload in group.payloads.items():
            if number not in expected or expected[number].payload != payload:
                raise Fatal(f"what can be read of the payload of job number {number} is not what was written")
        self._states.update(group.states)
        self._payloads.update(group.payloads)

    @property
    def jobs(self) -> int:
        """The number of jobs that were read completely."""
        return len(self._states & self._payloads)


async def fill(store: Store, source: Source, progress: Progress = no_progress) -> None:
    """Fill an empty store with rows that were all checked before. Raises CannotOpen, NotNow.

    A store that has jobs, or servers, is refused and not changed. If filling is interrupted, only another `fill` makes the store usable: it
    deletes what the first one left.
    """
    counters = source.counters()
    if counters is None:
        raise CannotOpen(f"{source.path}: holds nothing yet")
    name = f"{NAME}{socket.gethostname()[:150]}:{os.getpid()}-{secrets.token_hex(2)}"
    await _check_unused(store, name)
    owner = await store.claim(name, NOWHERE, LEASE_SECONDS)
    if owner.name != name:
        raise _owned(store, owner.name, owner.seconds)
    try:
        await _check_empty(store)
        async with _held(store, owner.epoch), _writing(store, owner.epoch) as writer:
            await _clear(store, writer)
            await _fill(store, writer, source, counters, progress)
    except (NotNow, Fatal) as error:
        raise CannotOpen(f"{store.path}: the restore was interrupted; run it again: {error}") from error
    finally:
        with contextlib.suppress(NotNow, Fatal):
            await store.release(owner.epoch)


async def _check_unused(store: Store, name: str) -> None:
    """Refuse a store that servers use."""
    owner = await store.owner()
    if owner is not None and owner.seconds > 0:
        raise _owned(store, owner.name, owner.seconds)
    try:
        members = [member.name for member in await store.announce(name, NOWHERE) if member.seconds < MEMBER_SECONDS]
    finally:
        await store.depart(name)
    others = [member for member in members if member != name]
    if others:
        raise CannotOpen(f"{store.path}: servers use it: stop {', '.join(sorted(others))} first")


async def _check_empty(store: Store) -> None:
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


async def _clear(store: Store, writer: Writer) -> None:
    """Mark the store as being filled, and delete what an interrupted restore left."""
    await _commit(writer, _group(RESTORING))
    numbers: set[int] = set()

    async def note(group: Group) -> None:
        numbers.update(group.states, group.payloads)

    whole = await store.moment(note)
    left = sorted(numbers)
    for start in range(0, len(left), GROUP_ROWS):
        group = _group(RESTORING)
        for number in left[start : start + GROUP_ROWS]:
            group.forget(number)
        await _commit(writer, group)
    if whole.queues:
        await _commit(writer, _group(RESTORING, queues=dict.fromkeys(whole.queues)))


async def _fill(store: Store, writer: Writer, source: Source, counters: bytes, progress: Progress) -> None:
    total, done = source.count(), 0
    progress(0, total)
    for group in _groups(source):
        await _commit(writer, group)
        if (done + len(group.states)) // PROGRESS_JOBS > done // PROGRESS_JOBS:
            progress(done + len(group.states), total)
        done += len(group.states)
    queues = dict(source.queues())
    await _commit(writer, _group(RESTORING, queues=queues))

    found = _Comparison(source)
    whole = await store.moment(found)
    if (whole.counters, whole.queues, whole.jobs, found.jobs) != (RESTORING, queues, total, total):
        raise Fatal(f"what was written is not what can be read: {whole.jobs} of {total} jobs, {len(whole.queues)} of {len(queues)} queues")
    await _commit(writer, _group(counters))
    if await store.counters() != counters:
        raise Fatal("the counters that were written are not those that can be read")
    progress(total, total)


def _groups(source: Rows) -> Iterator[Group]:
    """Jobs in groups."""
    group = _group(RESTORING)
    for number, state, payload in source.jobs():
        group.put(number, state)
        group.put_payload(number, payload)
        if len(group.states) >= GROUP_ROWS or group.size > GROUP_BYTES:
            yield group
            group = _group(RESTORING)
    if group.states:
        yield group


def _group(counters: bytes, *, queues: Mapping[str, bytes | None] | None = None) -> Group:
    group = Group()
    group.counters = counters
    group.due = True
    group.queue_rows = dict(queues or {})
    group.queues = set(group.queue_rows)
    return group
