"""A long-polling HTTP job queue: producers submit, workers block on dequeue, jobs are pushed to them.

For Python programs: `Client` for threads and `AsyncClient` for asyncio, the types of what they take and answer, and the errors they
raise, all of them QueueErrors. `Worker` runs functions on jobs; `handler` registers them for the pool of `jobqueue serve --pool`.
`jobqueue.testing` has a server for your own tests. Everything is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from jobqueue import testing
    from jobqueue.client.async_client import AsyncClient
    from jobqueue.client.problems import AnswerLost, ConnectionFailed, JobFailed, OutcomeUnknown, UnexpectedAnswer, WaitTimeout
    from jobqueue.client.retrying import Retrying
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import (
        Attempt,
        Cluster,
        Conclude,
        Concluded,
        Enqueued,
        Extend,
        Extended,
        Job,
        JobEvent,
        JobInfo,
        Key,
        Lease,
        LeasedJob,
        Member,
        NewJob,
        Page,
        Queue,
        Reason,
        Stats,
        Token,
        Totals,
    )
    from jobqueue.errors import (
        BadRequest,
        CallerError,
        Draining,
        Forbidden,
        Full,
        IdConflict,
        LeaseLost,
        LostRace,
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
        TooManyListeners,
        TooManyQueues,
        TooManyWaiters,
        Unauthorized,
        Unavailable,
        Unconfirmed,
        UnknownJob,
        UnknownQueue,
    )
    from jobqueue.model import Backoff, Outcome, PerKey, QueuePolicy, Rate, Status
    from jobqueue.worker.endings import Discard, Release, Retry
    from jobqueue.worker.handlers import Registry, handler
    from jobqueue.worker.running import RunningJob
    from jobqueue.worker.worker import Worker

__all__ = [
    "AnswerLost",
    "AsyncClient",
    "Attempt",
    "Backoff",
    "BadRequest",
    "CallerError",
    "Client",
    "Cluster",
    "Conclude",
    "Concluded",
    "ConnectionFailed",
    "Discard",
    "Draining",
    "Enqueued",
    "Extend",
    "Extended",
    "Forbidden",
    "Full",
    "IdConflict",
    "Job",
    "JobEvent",
    "JobFailed",
    "JobInfo",
    "Key",
    "Lease",
    "LeaseLost",
    "LeasedJob",
    "LostRace",
    "Member",
    "NewJob",
    "NotInProgress",
    "NotRetryable",
    "Outcome",
    "OutcomeUnknown",
    "Page",
    "PerKey",
    "Queue",
    "QueueError",
    "QueueFull",
    "QueueNotEmpty",
    "QueuePolicy",
    "Rate",
    "RateLimited",
    "Reason",
    "Registry",
    "Release",
    "Retry",
    "Retrying",
    "RunningJob",
    "Stats",
    "Status",
    "StorageUnavailable",
    "StorageUnconfirmed",
    "Token",
    "TooLarge",
    "TooManyConnections",
    "TooManyListeners",
    "TooManyQueues",
    "TooManyWaiters",
    "Totals",
    "Unauthorized",
    "Unavailable",
    "Unconfirmed",
    "UnexpectedAnswer",
    "UnknownJob",
    "UnknownQueue",
    "WaitTimeout",
    "Worker",
    "__version__",
    "handler",
    "testing",
]

_APART = {
    "AsyncClient": "jobqueue.client.async_client",
    "Client": "jobqueue.client.sync_client",
    "Discard": "jobqueue.worker.endings",
    "Registry": "jobqueue.worker.handlers",
    "Release": "jobqueue.worker.endings",
    "Retry": "jobqueue.worker.endings",
    "Retrying": "jobqueue.client.retrying",
    "RunningJob": "jobqueue.worker.running",
    "Worker": "jobqueue.worker.worker",
    "handler": "jobqueue.worker.handlers",
}
"""What loads much, or what only workers use."""

_SMALL = ("jobqueue.errors", "jobqueue.client.types", "jobqueue.client.problems", "jobqueue.model")
"""Where all else stands, the first counts: a Job here is the one a client is shown, not the engine's."""


def __getattr__(name: str) -> Any:
    """Loads what is asked for: the server and the command line need no client, and a client no server."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "testing":
        return import_module("jobqueue.testing")
    homes = (import_module(home) for home in ([_APART[name]] if name in _APART else _SMALL))
    value = globals()[name] = next(getattr(home, name) for home in homes if hasattr(home, name))
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
