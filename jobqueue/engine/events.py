"""What an operation did, for whoever must act on it: hand out, wake, journal, count.

An operation returns a reply and leaves its events in `State.events`; the shell takes them after every operation.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from jobqueue.model import Job


class Kind(StrEnum):
    """What happened."""

    ENQUEUED = "enqueued"
    QUEUED = "queued"
    """An existing job became available again: due, released, undelivered, lease expired, retried."""
    SCHEDULED = "scheduled"
    DEQUEUED = "dequeued"
    EXTENDED = "extended"
    CANCEL_REQUESTED = "cancel_requested"
    CONCLUDED = "concluded"
    FORGOTTEN = "forgotten"
    QUEUE_CHANGED = "queue_changed"
    """It was made, or its policy was set."""
    QUEUE_PAUSED = "queue_paused"
    QUEUE_RESUMED = "queue_resumed"
    QUEUE_DELETED = "queue_deleted"
    FREED = "freed"
    """A limit lets jobs of this queue go that it held back. Nothing of it is stored, and no listener is told."""
    CHANGED = "changed"
    """Something of a job is to be stored that no listener is told."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened. job is None for events of a queue."""

    kind: Kind
    queue: str
    job: Job | None = None


# Members by themselves, for hot paths; see model.py.
K_ENQUEUED: Final = Kind.ENQUEUED
K_QUEUED: Final = Kind.QUEUED
K_SCHEDULED: Final = Kind.SCHEDULED
K_DEQUEUED: Final = Kind.DEQUEUED
K_EXTENDED: Final = Kind.EXTENDED
K_CANCEL_REQUESTED: Final = Kind.CANCEL_REQUESTED
K_CONCLUDED: Final = Kind.CONCLUDED
K_FORGOTTEN: Final = Kind.FORGOTTEN
K_QUEUE_CHANGED: Final = Kind.QUEUE_CHANGED
K_QUEUE_PAUSED: Final = Kind.QUEUE_PAUSED
K_QUEUE_RESUMED: Final = Kind.QUEUE_RESUMED
K_QUEUE_DELETED: Final = Kind.QUEUE_DELETED
K_FREED: Final = Kind.FREED
K_CHANGED: Final = Kind.CHANGED
