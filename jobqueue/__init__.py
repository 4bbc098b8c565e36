"""A job queue server over HTTP with long polling: producers submit jobs, and workers wait for them.

For Python programs: `Client` for threads and `AsyncClient` for asyncio, their types, and the errors that they raise, all of them
QueueErrors. `Worker` runs functions on jobs; `handler` registers them for the pool of `jobqueue serve --pool`. `jobqueue.testing` runs a
server for your own tests. Everything is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from jobqueue import testing
    from jobqueue.client.async_client import AsyncClient
    from jobqueue.client.error_types import ErrorGroup
    from jobqueue.client.group_types import Callback, GroupInfo
    from jobqueue.client.header_types import Header
    from jobqueue.client.history_types import History
    from jobqueue.client.log_types import LoggedLine, LogLine
    from jobqueue.client.problems import AnswerLost, ConnectionFailed, JobFailed, OutcomeUnknown, UnexpectedAnswer, WaitTimeout
    from jobqueue.client.retrying import Retrying
    from jobqueue.client.schedule_types import Schedule
    from jobqueue.client.sync_client import Client
    from jobqueue.client.tasks import Bulk, Task
    from jobqueue.client.totals import Totals
    from jobqueue.client.types import (
        Attempt,
        Cluster,
        Conclude,
        Concluded,
        Enqueued,
        Extend,
        Extended,
        GiveBack,
        Job,
        JobEvent,
        JobInfo,
        Key,
        Lease,
        LeasedJob,
        MadeBy,
        Member,
        NewJob,
        Origin,
        Page,
        ParentInfo,
        Queue,
        Reason,
        Stats,
        Token,
        UniqueInfo,
    )
    from jobqueue.client.worker_types import About, Quiet, WorkerInfo
    from jobqueue.errors import (
        BadRequest,
        CallerError,
        Draining,
        Duplicate,
        Forbidden,
        Full,
        GroupClosed,
        IdConflict,
        InProgress,
        LeaseLost,
        LostRace,
        NotForgettable,
        NotInProgress,
        NotRetryable,
        QueueError,
        QueueFull,
        QueueNotEmpty,
        RateLimited,
        StorageUnavailable,
        StorageUnconfirmed,
        TooLarge,
        TooManyConnections,
        TooManyGroups,
        TooManyListeners,
        TooManyQueues,
        TooManySchedules,
        TooManyTasks,
        TooManyWaiters,
        Unauthorized,
        Unavailable,
        Unconfirmed,
        UnknownGroup,
        UnknownJob,
        UnknownParent,
        UnknownQueue,
        UnknownSchedule,
        UnknownTask,
        UnknownWorker,
        Unsupported,
    )
    from jobqueue.model import Outcome, Status
    from jobqueue.policy import Backoff, Keep, PerKey, QueuePolicy, Rate
    from jobqueue.unique import Unique
    from jobqueue.worker.endings import Discard, Release, Retry
    from jobqueue.worker.handlers import Registry, handler
    from jobqueue.worker.lines import JobLogHandler
    from jobqueue.worker.running import RunningJob
    from jobqueue.worker.worker import Worker

__all__ = [
    "About",
    "AnswerLost",
    "AsyncClient",
    "Attempt",
    "Backoff",
    "BadRequest",
    "Bulk",
    "Callback",
    "CallerError",
    "Client",
    "Cluster",
    "Conclude",
    "Concluded",
    "ConnectionFailed",
    "Discard",
    "Draining",
    "Duplicate",
    "Enqueued",
    "ErrorGroup",
    "Extend",
    "Extended",
    "Forbidden",
    "Full",
    "GiveBack",
    "GroupClosed",
    "GroupInfo",
    "Header",
    "History",
    "IdConflict",
    "InProgress",
    "Job",
    "JobEvent",
    "JobFailed",
    "JobInfo",
    "JobLogHandler",
    "Keep",
    "Key",
    "Lease",
    "LeaseLost",
    "LeasedJob",
    "LogLine",
    "LoggedLine",
    "LostRace",
    "MadeBy",
    "Member",
    "NewJob",
    "NotForgettable",
    "NotInProgress",
    "NotRetryable",
    "Origin",
    "Outcome",
    "OutcomeUnknown",
    "Page",
    "ParentInfo",
    "PerKey",
    "Queue",
    "QueueError",
    "QueueFull",
    "QueueNotEmpty",
    "QueuePolicy",
    "Quiet",
    "Rate",
    "RateLimited",
    "Reason",
    "Registry",
    "Release",
    "Retry",
    "Retrying",
    "RunningJob",
    "Schedule",
    "Stats",
    "Status",
    "StorageUnavailable",
    "StorageUnconfirmed",
    "Task",
    "Token",
    "TooLarge",
    "TooManyConnections",
    "TooManyGroups",
    "TooManyListeners",
    "TooManyQueues",
    "TooManySchedules",
    "TooManyTasks",
    "TooManyWaiters",
    "Totals",
    "Unauthorized",
    "Unavailable",
    "Unconfirmed",
    "UnexpectedAnswer",
    "Unique",
    "UniqueInfo",
    "UnknownGroup",
    "UnknownJob",
    "UnknownParent",
    "UnknownQueue",
    "UnknownSchedule",
    "UnknownTask",
    "UnknownWorker",
    "Unsupported",
    "WaitTimeout",
    "Worker",
    "WorkerInfo",
    "__version__",
    "handler",
    "testing",
]

_APART = {
    "AsyncClient": "jobqueue.client.async_client",
    "Client": "jobqueue.client.sync_client",
    "Discard": "jobqueue.worker.endings",
    "JobLogHandler": "jobqueue.worker.lines",
    "Registry": "jobqueue.worker.handlers",
    "Release": "jobqueue.worker.endings",
    "Retry": "jobqueue.worker.endings",
    "Retrying": "jobqueue.client.retrying",
    "RunningJob": "jobqueue.worker.running",
    "Worker": "jobqueue.worker.worker",
    "handler": "jobqueue.worker.handlers",
}
"""Modules that are slow to load, or that only workers use."""

_SMALL = (
    "jobqueue.errors",
    "jobqueue.client.types",
    "jobqueue.client.header_types",
    "jobqueue.client.schedule_types",
    "jobqueue.client.group_types",
    "jobqueue.client.tasks",
    "jobqueue.client.log_types",
    "jobqueue.client.worker_types",
    "jobqueue.client.history_types",
    "jobqueue.client.error_types",
    "jobqueue.client.problems",
    "jobqueue.model",
    "jobqueue.policy",
    "jobqueue.unique",
)
"""Where all other names are found; the first module that has a name counts: `Job` is the client's type, not the engine's."""


def __getattr__(name: str) -> Any:
    """Load a name when it is used: the server and the command line need no client, and a client needs no server."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "testing":
        return import_module("jobqueue.testing")
    homes = (import_module(home) for home in ([_APART[name]] if name in _APART else _SMALL))
    value = globals()[name] = next(getattr(home, name) for home in homes if hasattr(home, name))
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
