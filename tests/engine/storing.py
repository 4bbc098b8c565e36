"""Queues of an engine as they would be read back."""

from __future__ import annotations

from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import TOTALS, StoredQueue


def stored_queues(engine: Engine) -> list[StoredQueue]:
    """All of them, as if they had been written; but for keys that are paused."""
    return [
        StoredQueue(
            name,
            queue.policy,
            tuple(getattr(queue, f"{total}_total") for total in TOTALS),
            own=queue.own,
            created_at=queue.created_at,
            modified_at=queue.modified_at,
            pause=queue.pause,
        )
        for name, queue in engine.queues.items()
    ]
