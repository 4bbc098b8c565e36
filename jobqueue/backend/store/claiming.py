"""Enqueues to a store of several partitions: no two jobs get one id, in whatever queues they are.

A job without an id goes straight to its queue's partition, and so does one whose id has this partition as its home. Any other id is claimed
at its home first, and the job is enqueued under the claim's number. docs/decisions/0044-partitions.md has the proof, and says what is found
after each step at which a server can stop; what matters here is the order of the steps:

- A job is enqueued only under a claim that its home has confirmed.
- A claim is replaced or dropped only after its partition has said that it has no job of this id, and makes none under this claim any more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from jobqueue.backend.base import Backend, Enqueued, SentSpec, claimed
from jobqueue.backend.requests.claims import ClaimIds, Drop, DropClaims, GetClaims, VoidClaims, Wanted
from jobqueue.backend.requests.request import R, Request
from jobqueue.engine import checks
from jobqueue.errors import IdConflict, QueueError, QueueFull, StorageUnavailable, Unconfirmed
from jobqueue.limits import Limits
from jobqueue.model import JobSpec
from jobqueue.partition import ClaimVoid, home_of, partition_of

ROUNDS_MAX = 10
"""How often an enqueue goes through its steps. A second round is needed if an earlier claim was void, a third if others claim the same id
at the same moment."""

_PAUSE_SECONDS = 0.02

T = TypeVar("T")


class _Entry:
    """A job on its way. index: its queue's partition; number: of the claim that it can be enqueued under, 0 before; void: the number of a
    claim of its id that is void; above: the lowest number that its claim must be above; end: what became of it."""

    __slots__ = ("above", "end", "home", "id", "index", "number", "spec", "void")

    def __init__(self, spec: JobSpec, count: int, limits: Limits) -> None:
        self.spec = spec
        self.id = spec.id or ""
        self.index = partition_of(spec.queue, count)
        self.home = self.index if spec.id is None else home_of(spec.id, count)
        self.number = self.void = self.above = 0
        self.end: Enqueued | QueueError | None = None
        if self.claims:
            # An id is not claimed for a job that cannot be made.
            checks.spec(spec, limits)

    @property
    def claims(self) -> bool:
        """Whether the id must be claimed."""
        return self.home != self.index

    @property
    def sent(self) -> JobSpec | SentSpec:
        """What is enqueued."""
        return claimed(self.spec, self.number) if self.number else self.spec

    def conflicts(self) -> None:
        """A job of another queue has the id."""
        self.end = IdConflict(self.id, "queue")

    def replace(self, void: int, above: int = 0) -> None:
        """The claim with the number `void` is void, so claim the id again."""
        self.number, self.void, self.above = 0, void, max(self.above, above)


class Claiming:
    """Enqueues to partitions. pause: waits so many seconds, between attempts of several servers to claim the same id."""

    def __init__(self, partitions: Sequence[Backend], limits: Limits, pause: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._partitions = partitions
        self._limits = limits
        self._pause = pause

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        """See Backend.enqueue."""
        entry = _Entry(spec, len(self._partitions), self._limits)
        if spec.id is None:
            return await self._partitions[entry.index].enqueue(spec)
        error: QueueError = ClaimVoid(entry.id)
        for count in range(ROUNDS_MAX):
            await self._before(count)
            await self._claim([entry])
            if entry.end is None and (entry.number or not entry.claims):
                try:
                    return await self._partitions[entry.index].enqueue(entry.sent)
                except ClaimVoid as refused:
                    error = refused
                    await self._refused([entry])
            if isinstance(entry.end, QueueError):
                raise entry.end
        raise error

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        """See Backend.enqueue_batch. An error of one partition is that of each of its jobs; it is raised only if no job got any further."""
        entries, replies = list[_Entry](), list[Enqueued | QueueError | _Entry]()
        for spec in specs:
            try:
                replies.append(spec if isinstance(spec, QueueError) else _Entry(spec, len(self._partitions), self._limits))
            except QueueError as error:
                replies.append(error.bare())
        entries = [reply for reply in replies if isinstance(reply, _Entry)]
        failed: list[QueueError] = []
        for count in range(ROUNDS_MAX):
            going = _one_partition_per_id(entry for entry in entries if entry.end is None)
            if not going:
                break
            await self._before(count)
            await self._claim([entry for entry in going if entry.claims and not entry.number])
            ready = [entry for entry in going if entry.end is None and (entry.number or not entry.claims)]
            failed += await self._send(ready)
            await self._refused([entry for entry in ready if isinstance(entry.end, ClaimVoid)])
        if failed and all(entry.end in failed for entry in entries) and len(entries) == len(replies):
            raise failed[0]
        return [reply if not isinstance(reply, _Entry) else reply.end or ClaimVoid(reply.id) for reply in replies]

    async def _before(self, count: int) -> None:
        if count > 1:
            # Others claim the same id. Whoever waits less gets it.
            await self._pause(random.random() * _PAUSE_SECONDS * count)

    async def _send(self, entries: Sequence[_Entry]) -> list[QueueError]:
        """Enqueue what can be. Returns the errors of whole partitions."""
        failed: list[QueueError] = []

        async def one(index: int, part: Sequence[_Entry]) -> None:
            try:
                ends = await self._partitions[index].enqueue_batch([entry.sent for entry in part])
            except QueueError as error:
                failed.append(error)
                ends = [error.bare()] * len(part)
            for entry, end in zip(part, ends, strict=True):
                entry.end = end

        await _all(one(*group) for group in _grouped(entries, lambda entry: entry.index))
        return failed

    async def _ask(self, index: int, request: Request[R]) -> R:
        """Ask a partition. If it is not known whether it was carried out, no job was made all the same."""
        try:
            return await self._partitions[index].ask(request)
        except Unconfirmed as error:
            raise StorageUnavailable(f"it could not be decided which job has the id: {error.detail}") from None

    async def _claim(self, entries: Sequence[_Entry]) -> None:
        """Claim the ids of those that need it. An entry has the number of its claim then, or its end, or needs another round."""

        async def one(home: int, part: Sequence[_Entry]) -> None:
            request = ClaimIds(
                items=tuple(Wanted(entry.id, entry.index, entry.void) for entry in part), above=max(entry.above for entry in part)
            )
            rivals: list[tuple[_Entry, int, int]] = []
            standing = await self._ask(home, request)
            for entry, claim in zip(part, standing, strict=True):
                if claim is None:
                    entry.end = QueueFull("there is no room for more ids of clients' own; try again, or leave out the id")
                elif claim.number == 0:
                    entry.conflicts()
                elif claim.partition == entry.index:
                    entry.number = claim.number
                else:
                    rivals.append((entry, *claim))
            await self._void(home, rivals)

        wanting = [entry for entry in entries if entry.claims and not entry.number]
        await _all(_ended(one(*group), group[1]) for group in _grouped(wanting, lambda entry: entry.home))

    async def _void(self, home: int, rivals: Sequence[tuple[_Entry, int, int]]) -> None:
        """Other partitions have claimed these ids: the entry, which partition, and the claim's number. Those that have a job keep it."""

        async def one(partition: int, part: Sequence[tuple[_Entry, int, int]]) -> None:
            request = VoidClaims(home=home, ids=tuple(entry.id for entry, *_ in part), below=1 + max(number for *_, number in part))
            voided = await self._ask(partition, request)
            for (entry, _, number), known in zip(part, voided.known, strict=True):
                if known:
                    entry.conflicts()
                else:
                    entry.replace(number)

        await _all(_ended(one(*group), [entry for entry, *_ in group[1]]) for group in _grouped(rivals, lambda rival: rival[1]))

    async def _refused(self, entries: Sequence[_Entry]) -> None:
        """Partitions refused these with ClaimVoid: find out why, so that the next round succeeds, or there is an end."""
        for entry in entries:
            entry.end = None

        async def under_claims(home: int, index: int, part: Sequence[_Entry]) -> None:
            request = VoidClaims(home=home, ids=tuple(entry.id for entry in part), below=1 + max(entry.number for entry in part))
            voided = await self._ask(index, request)
            for entry, known in zip(part, voided.known, strict=True):
                # If another enqueue has made the job meanwhile, this one is compared with it, whatever its number.
                if not known:
                    entry.replace(entry.number, voided.below - 1)

        async def at_home(home: int, part: Sequence[_Entry]) -> None:
            stand = await self._ask(home, GetClaims(ids=tuple(entry.id for entry in part)))
            rivals = [(entry, *claim) for entry, claim in zip(part, stand, strict=True) if claim is not None and claim.number]
            await self._void(home, rivals)
            drops = tuple(Drop(entry.id, entry.void) for entry, *_ in rivals if entry.end is None)
            if drops:
                await self._ask(home, DropClaims(claims=drops))

        away = [entry for entry in entries if entry.claims]
        await _all(_ended(under_claims(*pair, part), part) for pair, part in _grouped(away, lambda entry: (entry.home, entry.index)))
        near = [entry for entry in entries if not entry.claims]
        await _all(_ended(at_home(*group), group[1]) for group in _grouped(near, lambda entry: entry.home))


Key = TypeVar("Key", bound=Hashable)


def _grouped(items: Iterable[T], key: Callable[[T], Key]) -> list[tuple[Key, list[T]]]:
    """The items by key, in order."""
    groups: dict[Key, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def _one_partition_per_id(entries: Iterable[_Entry]) -> list[_Entry]:
    """The entries without those whose id an earlier one wants for another partition: these wait until that is decided."""
    first: dict[str, int] = {}
    return [entry for entry in entries if not entry.id or first.setdefault(entry.id, entry.index) == entry.index]


async def _ended(work: Awaitable[None], entries: Sequence[_Entry]) -> None:
    """Do something for entries; an error of the whole is that of each."""
    try:
        await work
    except QueueError as error:
        error.bare()
        for entry in entries:
            if entry.end is None:
                entry.end = error


async def _all(work: Iterable[Awaitable[None]]) -> None:
    """Do all at the same time."""
    first, *others = [*work] or [_nothing()]
    if others:
        await asyncio.gather(first, *others)
    else:
        await first


async def _nothing() -> None: ...
