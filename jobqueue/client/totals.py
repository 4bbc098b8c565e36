"""A queue's counters, as the server reports them."""

from __future__ import annotations

import msgspec


class Totals(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a queue did since it was made; with `--data` or `--store` the counts continue after a restart. They never decrease.

    dead_lettered: of failed, the jobs that moved to another queue; moved_in, moved_out: jobs that came from another queue, and jobs that
    went to another queue without having failed here. attempts_failed: attempts that a worker reported as failed, or whose lease ran out.
    """

    enqueued: int
    dequeued: int
    redelivered: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    retried: int
    moved_in: int = 0
    moved_out: int = 0
    dead_lettered: int = 0
    attempts_failed: int = 0


class Failures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Recent failures in one queue or in all: jobs that failed for good in the last 1, 5 and 60 minutes, and attempts that failed.

    They start at zero with the server. retrying: jobs that wait for their next attempt.
    """

    retrying: int = 0
    jobs_1m: int = 0
    jobs_5m: int = 0
    jobs_60m: int = 0
    attempts_1m: int = 0
    attempts_5m: int = 0
    attempts_60m: int = 0
