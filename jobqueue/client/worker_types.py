"""What a worker reports about itself, and what the server knows about workers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class About(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a worker reports about itself in a dequeue, besides its name, for the list of workers. started: when it began, with
    a time zone.
    """

    host: str | None = None
    concurrency: int | None = None
    version: str | None = None
    started: datetime | None = None


class WorkerInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A worker. state: busy while it holds leases, silent if it has sent no request for a minute, otherwise idle; quiet: whether it is kept
    from taking jobs; leases: how many it holds; queues: those of its last dequeue; host, concurrency, version, started: as it reports them,
    None if it does not; seen_at: when its last dequeue arrived or ended; instances: above 1 if several workers use the name.
    """

    name: str
    state: str
    quiet: bool
    leases: int
    queues: tuple[str, ...]
    host: str | None
    concurrency: int | None
    version: str | None
    started: datetime | None
    seen_at: datetime
    instances: int


class Quiet(list[Any]):
    """The empty answer of `dequeue_batch` for a worker that is quiet: it should ask again after some seconds."""


QUIET = Quiet()


class Workers(msgspec.Struct):
    """A page of workers."""

    workers: list[WorkerInfo]
    cursor: str | None = None


worker = msgspec.json.Decoder(WorkerInfo).decode
workers = msgspec.json.Decoder(Workers).decode
