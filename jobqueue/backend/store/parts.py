"""Batches between servers: cut into requests that are not too large, and put together again from their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from jobqueue.backend.base import Conclude, Enqueued, Extend
from jobqueue.backend.store.shapes import Item, error_of, job_of
from jobqueue.errors import QueueError, StorageUnconfirmed
from jobqueue.limits import MIB
from jobqueue.model import Job, JobSpec

BATCH_BYTES = MIB
"""About what one request holds of a batch; a larger batch goes in several, one after the other."""

BatchItem = TypeVar("BatchItem", JobSpec, Conclude, Extend)


def parts(items: Sequence[BatchItem], size: Callable[[BatchItem], int]) -> Iterable[list[BatchItem]]:
    """A batch by what one request may hold; one request even where there is nothing."""
    part: list[BatchItem] = []
    held = 0
    for item in items:
        if held > BATCH_BYTES:
            yield part
            part, held = [], 0
        part.append(item)
        held += size(item)
    yield part


def spec_bytes(spec: JobSpec) -> int:
    """About what a job to be enqueued adds to a request."""
    return len(spec.payload) + 300


def conclude_bytes(item: Conclude) -> int:
    """About what a conclude adds to a request."""
    return len(item.verdict.result or b"") + len(item.verdict.error or b"") + 200


def extend_bytes(item: Extend) -> int:
    """About what an extend adds to a request."""
    return len(item.message or "") + 200


def enqueued_of(reply: Item | QueueError) -> Enqueued | QueueError:
    """What became of a job to be enqueued."""
    if isinstance(reply, QueueError):
        return reply
    if reply.error is not None or reply.job is None:
        return _error(reply)
    return Enqueued(job_of(reply.job), reply.created, reply.handed_over)


def job_reply(reply: Item | QueueError) -> Job | QueueError:
    """What became of an item that answers with its job."""
    if isinstance(reply, QueueError):
        return reply
    return _error(reply) if reply.error is not None or reply.job is None else job_of(reply.job)


def _error(reply: Item) -> QueueError:
    return StorageUnconfirmed("the owner answered nothing for it") if reply.error is None else error_of(reply.error)
