"""Why a job is not in progress, as data. engine/why.py determines it."""

from __future__ import annotations

from typing import Literal

import msgspec

from jobqueue.model import Block

Why = Literal["time", "jobs", "unique", "paused", "key", "concurrency", "rate", "line", "workers"]


class Reason(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One thing that a job waits for. Fields that the kind does not use are None.

    time: it runs at `until`. jobs: it waits for the jobs with the ids `jobs`. unique: `job` holds the unique `key`, and is with `worker`;
    `until`, if the key is held for a time. paused: the queue is paused. key: the job's key is held back by `block`; `job` is what it waits
    for, with its `worker`, and `until` when its lease ends or it runs again. concurrency: of the queue, or of `key`: `used` of `total`.
    rate: the same, with the next slot at `until`. line: about `ahead` jobs go before it. workers: no request waits for a job of this queue
    now; `used` jobs are in progress.
    """

    kind: Why
    until: float | None = None
    key: str | None = None
    block: Block | None = None
    job: str | None = None
    worker: str | None = None
    used: int | None = None
    total: int | None = None
    ahead: int | None = None
    jobs: tuple[str, ...] = ()
