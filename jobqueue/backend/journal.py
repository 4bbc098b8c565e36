"""What the local backend asks of durable storage: take events in order, say when they are safe.

A journal exists only beneath a local backend; a distributed engine is a `Backend` of its own (docs/decisions/0002).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jobqueue.backend.base import StorageStats
from jobqueue.engine.events import Event


class Journal(Protocol):
    """An ordered log of what the engine did."""

    def append(self, events: Sequence[Event]) -> int:
        """Queue events for writing, without waiting; the ticket of the last one. Tickets grow.

        The jobs in the events are live: what is to be written of them must be read before this returns.
        """

    def check(self, adding: bool) -> None:
        """Whether a change may be made now; asked before it is. adding: it is a new job, which may have to wait for a disk that lags.

        Raises StorageUnavailable, QueueFull.
        """

    async def committed(self, ticket: int) -> None:
        """Return when everything up to `ticket` is as durable as promised. Raises Unconfirmed when that cannot be said."""

    def stats(self) -> StorageStats:
        """How it does, at once."""

    async def close(self) -> None:
        """Commit what is queued, then let go of the storage."""
