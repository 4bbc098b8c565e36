"""What an operation did, for the parts that act on it: hand out jobs, wake waiters, store, count.

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
    DEAD_LETTERED = "dead_lettered"
    """A job failed for good in this queue and moves to another, where it is then queued."""
    REDRIVEN = "redriven"
    """A dead letter leaves this queue for another, where it is then queued."""
    FORGOTTEN = "forgotten"
    QUEUE_CHANGED = "queue_changed"
    """The queue was made, or its policy was set."""
    QUEUE_PAUSED = "queue_paused"
    QUEUE_RESUMED = "queue_resumed"
    QUEUE_DELETED = "queue_deleted"
    FREED = "freed"
    """Jobs of this queue that a limit held back can go now. This is not stored, and not sent to listeners."""
    CHANGED = "changed"
    """A job changed in a way that is stored, but not sent to listeners."""
    THING_CHANGED = "thing_changed"
    """Something other than a job or a queue changed, such as a schedule; it is stored, but not sent to listeners. `queue` is its kind, a
    slash (which no queue's name has), and its name.
    """
    GROUP_CONCLUDED = "group_concluded"
    """All members of a group have ended, and no more can join. It is stored like THING_CHANGED, and whoever waits for the group is woken.
    """
    EDITED = "edited"
    """A job changed in a way that is stored, including its payload, but not sent to listeners."""


UNTOLD = frozenset({Kind.FREED, Kind.CHANGED, Kind.EDITED, Kind.THING_CHANGED, Kind.GROUP_CONCLUDED})
"""Events that are not sent to listeners."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened. job is None for events of a queue."""

    kind: Kind
    queue: str
    job: Job | None = None


# The members as module names, for hot paths; see model.py.
K_ENQUEUED: Final = Kind.ENQUEUED
K_QUEUED: Final = Kind.QUEUED
K_SCHEDULED: Final = Kind.SCHEDULED
K_DEQUEUED: Final = Kind.DEQUEUED
K_EXTENDED: Final = Kind.EXTENDED
K_CANCEL_REQUESTED: Final = Kind.CANCEL_REQUESTED
K_CONCLUDED: Final = Kind.CONCLUDED
K_DEAD_LETTERED: Final = Kind.DEAD_LETTERED
K_REDRIVEN: Final = Kind.REDRIVEN
K_FORGOTTEN: Final = Kind.FORGOTTEN
K_QUEUE_CHANGED: Final = Kind.QUEUE_CHANGED
K_QUEUE_PAUSED: Final = Kind.QUEUE_PAUSED
K_QUEUE_RESUMED: Final = Kind.QUEUE_RESUMED
K_QUEUE_DELETED: Final = Kind.QUEUE_DELETED
K_FREED: Final = Kind.FREED
K_CHANGED: Final = Kind.CHANGED
K_THING_CHANGED: Final = Kind.THING_CHANGED
K_GROUP_CONCLUDED: Final = Kind.GROUP_CONCLUDED
K_EDITED: Final = Kind.EDITED
