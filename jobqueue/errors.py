"""What can go wrong, as one tree. A class says whose fault it was, its `code` is stable and goes over the wire.

No HTTP here: `api/problems.py` maps codes to statuses, the client maps them back.

QueueError
├── CallerError        the request is wrong; repeating it as it is will fail again
│   ├── BadRequest  UnknownJob  UnknownQueue  IdConflict  TooLarge  QueueNotEmpty
│   └── Unauthorized  Forbidden
├── LostRace           the request was right once; the job has moved on
│   └── LeaseLost  NotInProgress  NotRetryable
├── Full               a bound is reached; try again later
│   └── QueueFull  TooManyQueues  TooManyWaiters  TooManyListeners  TooManyConnections  RateLimited
└── Unavailable        ours; try again elsewhere or later
    ├── Draining  StorageUnavailable
    └── Unconfirmed ── StorageUnconfirmed, which is a StorageUnavailable too
"""

from __future__ import annotations

from typing import Any, Self


class QueueError(Exception):
    """Base of all. str() is a sentence for people; `code` is for programs; `field` names the input at fault, if one is."""

    code: str = "error"
    field: str | None = None
    job_id: str | None = None
    """Of a client that waits for a job it has enqueued: which one."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @classmethod
    def told(cls, detail: str, field: str | None = None) -> Self:
        """The error as another process tells of it: its words are there already, so the constructor is passed by."""
        error = cls.__new__(cls, detail)
        error.detail = detail
        error.field = field
        return error

    def bare(self) -> Self:
        """The error without the trace of where it was raised, to be kept.

        An error in a list that a frame of its trace holds is a cycle, which keeps all that those frames hold until the collector comes.
        """
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross processes too, and pickle would call the constructor with the detail alone."""
        return _bare, (type(self), self.args), self.__dict__


def _bare(kind: type[QueueError], args: tuple[Any, ...]) -> QueueError:
    return kind.__new__(kind, *args)


class CallerError(QueueError):
    """The request itself is wrong."""


class BadRequest(CallerError):
    """A field has a value that is not allowed, or the request cannot be read."""

    code = "bad_request"

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(reason if field is None else f"{field}: {reason}")
        self.field = field

    max: float | None = None
    """Of a wait: the longest that the server holds a request."""

    @property
    def reason(self) -> str:
        """The detail without the field's name."""
        return self.detail if self.field is None else self.detail.removeprefix(f"{self.field}: ")


class UnknownJob(CallerError):
    """No job has this id: it never existed, or history has forgotten it."""

    code = "unknown_job"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job has the id {job_id!r}; it never existed or history has forgotten it")


class UnknownQueue(CallerError):
    """No queue has this name."""

    code = "unknown_queue"

    def __init__(self, name: str) -> None:
        super().__init__(f"no queue is named {name!r}")


class IdConflict(CallerError):
    """A job with this id exists and was enqueued with other content. field: what differs, None where the caller may not know the job."""

    code = "id_conflict"

    def __init__(self, job_id: str, field: str | None = None) -> None:
        if field is None:
            super().__init__(f"a different job already has the id {job_id!r}")
        else:
            super().__init__(f"a different job already has the id {job_id!r}: it differs in {field}")
        self.field = field


class TooLarge(CallerError):
    """A body or a payload exceeds its bound in bytes."""

    code = "too_large"

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(reason if field is None else f"{field}: {reason}")
        self.field = field


class QueueNotEmpty(CallerError):
    """A queue that holds live jobs is not deleted."""

    code = "queue_not_empty"

    def __init__(self, name: str, live: int) -> None:
        super().__init__(f"queue {name!r} holds {live} jobs that are not concluded; purge it first")


class Unauthorized(CallerError):
    """No token, or one the server does not know."""

    code = "unauthorized"


class Forbidden(CallerError):
    """The token is known and may not do this, or the request comes from where none may."""

    code = "forbidden"


class LostRace(QueueError):
    """Something else happened to the job first. Nothing was changed."""


class LeaseLost(LostRace):
    """The lease token is not the live one: it expired, was released, or was never this job's."""

    code = "lease_lost"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"this lease on job {job_id!r} is not live: it expired, ended or never was; nothing was changed")


class NotInProgress(LostRace):
    """The job is concluded, so it can be neither worked on nor cancelled."""

    code = "not_in_progress"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"job {job_id!r} is {state}; nothing was changed")


class NotRetryable(LostRace):
    """Only a concluded job that did not succeed can be retried."""

    code = "not_retryable"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"job {job_id!r} is {state}; only a job that failed, was cancelled or expired can be retried")


class Full(QueueError):
    """A bound is reached. retry_after: seconds after which it makes sense to try again."""

    retry_after: int = 1


class QueueFull(Full):
    """The server, this queue, or this key of it holds as many jobs or bytes as it may. field: "key" where it is the key."""

    code = "queue_full"

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class TooManyQueues(Full):
    """The server has as many queues as it may."""

    code = "too_many_queues"


class TooManyWaiters(Full):
    """As many requests are held open as may be."""

    code = "too_many_waiters"


class TooManyListeners(Full):
    """As many listen to events as may be."""

    code = "too_many_listeners"


class TooManyConnections(Full):
    """As many connections are open as may be."""

    code = "too_many_connections"


class RateLimited(Full):
    """More requests than this token, or this address, may send in the time."""

    code = "rate_limited"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(QueueError):
    """The server cannot do it now, whoever asks. retry_after: seconds after which it makes sense to try again."""

    retry_after: int = 1


class Draining(Unavailable):
    """The server is shutting down and takes no new work."""

    code = "draining"


class StorageUnavailable(Unavailable):
    """Changes cannot be stored now. Nothing was changed, unless it is Unconfirmed."""

    code = "storage_unavailable"


class Unconfirmed(Unavailable):
    """The change may have been made: it could not be stored in time, or its answer was lost.

    Repeat the request where that does no harm, as it does none where it has an id, a lease or the same end; else look first.
    ids: of the jobs that were to be enqueued, those included that a client made, under which they may be enqueued again.
    """

    code = "storage_unavailable"
    ids: tuple[str, ...] = ()


class StorageUnconfirmed(Unconfirmed, StorageUnavailable):
    """The change was not stored in time, and may be stored by now, later, or never.

    On the wire it has the code of StorageUnavailable and `"unconfirmed": true`.
    """
