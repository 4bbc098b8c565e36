"""The history of numbers, as the clients return it."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The history of a queue, or of all queues together (queue is None), over the last hour or day. Each list has a value for each step,
    None if the server took no sample.

    span: hour or day; step_seconds: the length of a step; begins_at: when the first step began. enqueued, concluded, failed,
    attempts_failed: counted during the step; queued, in_progress: at its end; oldest_seconds: at its end, how long the next job to be
    handed out had waited. pickup: how long jobs had waited when they were handed out for the first time; duration: how long attempts took.
    Both are in seconds, the median and the 95th percentile, and None if there were none.
    """

    queue: str | None
    span: str
    step_seconds: int
    begins_at: datetime
    enqueued: list[int | None]
    concluded: list[int | None]
    failed: list[int | None]
    attempts_failed: list[int | None]
    queued: list[int | None]
    in_progress: list[int | None]
    oldest_seconds: list[float | None]
    pickup_p50_seconds: list[float | None]
    pickup_p95_seconds: list[float | None]
    duration_p50_seconds: list[float | None]
    duration_p95_seconds: list[float | None]

    @property
    def times(self) -> list[datetime]:
        """When each step began."""
        return [self.begins_at + timedelta(seconds=at * self.step_seconds) for at in range(len(self.queued))]


history = msgspec.json.Decoder(History).decode
