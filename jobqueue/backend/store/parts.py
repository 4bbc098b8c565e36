"""Batches between servers: split into requests of limited size, and assembled again from their answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from jobqueue.backend.base import Conclude, Enqueued, Extend, Release
from jobqueue.backend.store.shapes import Item, error_of, job_of
from jobqueue.errors import QueueError, StorageUnconfirmed, Unavailable
from jobqueue.limits import MIB
from jobqueue.model import Job, JobSpec

BATCH_BYTES = MIB
"""The approximate size of a batch's part in one request; a larger batch goes in several requests, one after the other."""

BatchItem = TypeVar("BatchItem", JobSpec, Conclude, Extend, Release)
Reply = TypeVar("Reply")


def parts(items: Sequence[BatchItem], size: Callable[[BatchItem], int]) -> Iterable[list[BatchItem]]:
    """Split a batch by what one request can hold; yields one part even if the batch is empty."""
    part: list[BatchItem] = []
    held = 0
    for item in items:
        if held > BATCH_BYTES:
            yield part
            part, held = [], 0
        part.append(item)
        held += size(item)
    yield part


def in_place(
    items: Sequence[BatchItem | QueueError], replies: Iterable[Item | QueueError], read: Callable[[Item | QueueError], Reply]
) -> list[Reply | QueueError]:
    """The result of each item, including errors among the items. replies: for the items that are not errors."""
    others = iter(replies)
    return [item if isinstance(item, QueueError) else read(next(others)) for item in items]


async def one_by_one(ask: Callable[[BatchItem], Awaitable[Job]], items: Sequence[BatchItem | QueueError]) -> list[Job | QueueError]:
    """A batch that the owner does not support. As for any batch, an error applies to the whole only if nothing was sent before."""
    replies: list[Job | QueueError] = []
    for item in items:
        try:
            replies.append(item if isinstance(item, QueueError) else await ask(item))
        except QueueError as error:
            if isinstance(error, Unavailable) and not replies:
                raise
            replies.append(error.bare())
    return replies


def spec_bytes(spec: JobSpec) -> int:
    """The approximate size that a job to be enqueued adds to a request."""
    return len(spec.payload) + 300


def conclude_bytes(item: Conclude) -> int:
    """The approximate size that a conclude adds to a request."""
    return len(item.verdict.result or b"") + len(item.verdict.error or b"") + 200


def extend_bytes(item: Extend) -> int:
    """The approximate size that an extend adds to a request."""
    return len(item.message or "") + 200


def release_bytes(item: Release) -> int:
    """The approximate size that a release adds to a request."""
    return 200


def enqueued_of(reply: Item | QueueError) -> Enqueued | QueueError:
    """The result for a job to be enqueued."""
    if isinstance(reply, QueueError):
        return reply
    if reply.error is not None or reply.job is None:
        return _error(reply)
    return Enqueued(job_of(reply.job), reply.created, reply.handed_over)


def job_reply(reply: Item | QueueError) -> Job | QueueError:
    """The result for an item that is answered with its job."""
    if isinstance(reply, QueueError):
        return reply
    return _error(reply) if reply.error is not None or reply.job is None else job_of(reply.job)


def _error(reply: Item) -> QueueError:
    return StorageUnconfirmed("the owner answered nothing for it") if reply.error is None else error_of(reply.error)
