"""The data of tasks: work that continues after the request that began it was answered. backend/tasks.py runs them."""

from __future__ import annotations

from typing import Literal

import msgspec

from jobqueue.engine.filters import Matching

KIND = "task/"
"""The prefix of a task's id in storage."""

TaskState = Literal["running", "done", "cancelled", "failed"]


class TaskStats(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A snapshot of a task. id: "" if the jobs were only counted; queue: the queue of the jobs; to: where they go, None for where each came
    from; rate: jobs per second, None for no limit; total: jobs to process; done: jobs processed; error: why it failed. Times are UTC.
    """

    id: str
    kind: Literal["redrive"]
    queue: str
    to: str | None
    rate: float | None
    state: TaskState
    total: int
    done: int
    started_at: float
    ended_at: float | None = None
    error: str | None = None


class Task(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A task with the data that a server needs to continue it. number: their order; matching, as_new: see Redrive; due: when it can move
    the next job, UTC.
    """

    number: int
    stats: TaskStats
    matching: Matching = Matching()
    as_new: bool = False
    due: float = 0.0
