"""The interface between the local backend and durable storage: it takes events in order, and reports when they are safe.

Only a local backend has a journal; a distributed engine is a `Backend` of its own (docs/decisions/0002).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jobqueue.backend.base import StorageStats
from jobqueue.engine.events import Event


class Journal(Protocol):
    """An ordered log of what the engine did."""

    def append(self, events: Sequence[Event]) -> int:
        """Queue events for writing, without waiting. Returns the ticket of the last one. Tickets increase.

        The jobs in the events are live: whatever is to be written must be read before this returns.
        """

    def check(self, adding: bool) -> None:
        """Check whether a change can be made now; called before it is made. adding: the change is a new job, which may have to wait for a
        slow disk.

        Raises StorageUnavailable, QueueFull.
        """

    async def committed(self, ticket: int) -> None:
        """Return when everything up to `ticket` is as durable as promised. Raises Unconfirmed if this is not certain."""

    def stats(self) -> StorageStats:
        """The state of the storage, without waiting."""

    async def close(self) -> None:
        """Commit what is queued, then release the storage."""
