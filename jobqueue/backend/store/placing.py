"""Enqueues on a store with several partitions, beyond who has the id (claiming.py): a job that hangs on what is in another partition is
refused, and it is remembered where jobs are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from jobqueue.backend.base import Enqueued
from jobqueue.backend.requests.groups import GetGroup
from jobqueue.backend.store.claiming import Claiming
from jobqueue.backend.store.finding import Finder
from jobqueue.errors import QueueError, UnknownGroup, UnknownJob, UnknownParent, Unsupported
from jobqueue.limits import Limits
from jobqueue.model import JobSpec
from jobqueue.partition import partition_of

Reply = TypeVar("Reply")


class Placing:
    """Enqueues to the partitions of `finder`."""

    def __init__(self, finder: Finder, limits: Limits) -> None:
        self._finder = finder
        self._claiming = Claiming(finder.backends, limits)

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        """See Backend. Also raises Unsupported."""
        try:
            made = await self._claiming.enqueue(spec)
        except (UnknownParent, UnknownGroup) as error:
            raise await self._apart(spec, error) from None
        self._seen(made)
        return made

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        """See Backend. One step in each partition."""
        replies = await self._claiming.enqueue_batch(specs)
        for at, (spec, reply) in enumerate(zip(specs, replies, strict=True)):
            if isinstance(reply, Enqueued):
                self._seen(reply)
            elif isinstance(reply, UnknownParent | UnknownGroup) and not isinstance(spec, QueueError):
                replies[at] = (await self._apart(spec, reply)).bare()
        return replies

    def _seen(self, made: Enqueued) -> None:
        self._finder.places.seen(made.job, partition_of(made.job.queue, self._finder.count))

    async def _apart(self, spec: JobSpec, error: QueueError) -> QueueError:
        """The error for a job that hangs on what is unknown in its partition: Unsupported, if another partition knows it."""
        if isinstance(error, UnknownGroup):
            assert spec.group is not None
            try:
                await self._finder.found(GetGroup(id=spec.group), UnknownGroup)
            except UnknownGroup:
                return error
            return Unsupported("group", f"the group {spec.group!r} is in another partition than the queue {spec.queue!r}")
        index = partition_of(spec.queue, self._finder.count)
        for parent in spec.after:
            try:
                place = await self._finder.where(parent)
            except UnknownJob:
                continue
            if place != index:
                return Unsupported("after", f"the job {parent!r} is in another partition than the queue {spec.queue!r}")
        return error


def in_place(
    replies: list[Reply | QueueError | None],
    parts: dict[int, list[int]],
    answers: Sequence[list[Reply | QueueError] | BaseException],
    alone: bool,
) -> None:
    """Put the answers to the parts of a batch where their items were. If no part was done, the error applies to the whole: it is raised.

    parts: by partition, the places of its items; alone: whether these are all items of the batch.
    """
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    for error in failed:
        if not isinstance(error, QueueError) or (alone and len(failed) == len(answers)):
            raise error
    for part, answer in zip(parts.values(), answers, strict=True):
        if isinstance(answer, QueueError):
            for at in part:
                replies[at] = answer.bare()
        else:
            assert not isinstance(answer, BaseException)
            for at, reply in zip(part, answer, strict=True):
                replies[at] = reply
