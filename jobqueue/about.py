"""The types for workers: what they report about themselves, and what the server knows about them."""

from __future__ import annotations

from typing import Literal

import msgspec

SEEN_SECONDS = 60.0
"""How long after its last dequeue ended a worker without leases counts as silent: it ended, hangs, or cannot reach the server."""

SILENT_SECONDS = 900.0
"""How long a silent worker is still listed."""

WORKERS_MAX = 10_000
"""The most workers listed; beyond it, those seen longest ago are dropped."""

QUIET_MAX = 1_000
"""The most names of quiet workers; beyond it, those that were set quiet longest ago are forgotten."""

QUIET_SECONDS = 5
"""After how long a quiet worker should ask again."""


class About(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a worker reports about itself in a dequeue, besides its name. started: when it started, UTC, seconds since the epoch."""

    host: str | None = None
    concurrency: int | None = None
    version: str | None = None
    started: float | None = None


Doing = Literal["busy", "idle", "silent"]


class WorkerStats(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A worker. seen_at: when its last dequeue came or ended; leases: how many live leases have its name; quiet: it is given no jobs.

    instances: how many different pairs of host and start were reported with this name in the last minute: more than one means that several
    workers share the name. silent: it has not sent a dequeue for a minute.
    """

    name: str
    about: About
    queues: tuple[str, ...]
    seen_at: float
    leases: int
    quiet: bool
    instances: int = 1
    silent: bool = False

    @property
    def doing(self) -> Doing:
        """Whether it has a job, waits for one, or is silent."""
        return "busy" if self.leases else "silent" if self.silent else "idle"
