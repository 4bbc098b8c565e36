"""All errors, as one tree. The class of an error says what to do about it; its `code` is stable and is sent over the wire.

No HTTP here: `api/problems.py` maps codes to statuses, and the client maps them back.

QueueError
├── CallerError        the request is wrong; repeating it as it is will fail again
│   ├── BadRequest  UnknownJob  UnknownQueue  UnknownSchedule  UnknownGroup  UnknownTask  IdConflict  TooLarge  QueueNotEmpty
│   └── Unauthorized  Forbidden  Unsupported
├── LostRace           the request was valid, but the job has changed since
│   └── LeaseLost  NotInProgress  InProgress  NotRetryable  NotForgettable  Duplicate  GroupClosed
├── Full               a limit is reached; try again later
│   └── QueueFull  TooManyQueues  TooManySchedules  TooManyGroups  TooManyTasks  TooManyWaiters  TooManyListeners
│       TooManyConnections  RateLimited
└── Unavailable        the server cannot do it now; try again elsewhere or later
    ├── Draining  StorageUnavailable
    └── Unconfirmed ── StorageUnconfirmed, also a StorageUnavailable
"""

from __future__ import annotations

from typing import Any, Self


class QueueError(Exception):
    """The base class of all errors. str() is a sentence for people; `code` is for programs; `field` names the invalid input, if there is
    one.
    """

    code: str = "error"
    field: str | None = None
    job_id: str | None = None
    """In a client that waits for a job that it enqueued: the id of that job. In a Duplicate: the id of the job that has the key."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @classmethod
    def told(cls, detail: str, field: str | None = None) -> Self:
        """The error as another process reported it: the detail is the complete message, so the constructor is not called."""
        error = cls.__new__(cls, detail)
        error.detail = detail
        error.field = field
        return error

    def bare(self) -> Self:
        """The error without its traceback, so that it can be kept.

        An error in a list that a frame of its traceback holds is a cycle, which keeps everything in those frames alive until the garbage
        collector runs.
        """
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors are also passed between processes, and pickle would call the constructor with the detail alone."""
        return _bare, (type(self), self.args), self.__dict__


def _bare(kind: type[QueueError], args: tuple[Any, ...]) -> QueueError:
    return kind.__new__(kind, *args)


class CallerError(QueueError):
    """The request itself is wrong."""


class BadRequest(CallerError):
    """A field has a value that is not allowed, or the request cannot be read."""

    code = "bad_request"

    def __init__(self, field: str | None, reason: str, detail: str | None = None) -> None:
        """detail: the complete message, if it is not the field's name and the reason."""
        super().__init__(detail or (reason if field is None else f"{field}: {reason}"))
        self.field = field
        if detail is not None:
            self._reason = reason

    _reason: str | None = None

    max: float | None = None
    """For a wait: the longest time for which the server holds a request."""

    @property
    def reason(self) -> str:
        """The detail without the field's name."""
        if self._reason is not None:
            return self._reason
        return self.detail if self.field is None else self.detail.removeprefix(f"{self.field}: ")


def missing(field: str) -> BadRequest:
    """A required field is missing."""
    return BadRequest(field, "is missing", f"missing field '{field}'")


class UnknownJob(CallerError):
    """No job has this id: it never existed, or history has forgotten it."""

    code = "unknown_job"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job has the id {job_id!r}: it never existed, or history has forgotten it")


class UnknownParent(UnknownJob):
    """A job names an unknown job in `after`."""

    field = "after"


class UnknownGroup(CallerError):
    """No group has this id: it never existed, or has been forgotten."""

    code = "unknown_group"

    def __init__(self, group_id: str, field: str | None = None) -> None:
        super().__init__(f"no group has the id {group_id!r}: it never existed, or has been forgotten")
        self.field = field


class UnknownQueue(CallerError):
    """No queue has this name."""

    code = "unknown_queue"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no queue named {name!r}")


class UnknownWorker(CallerError):
    """No worker with this name is known now."""

    code = "unknown_worker"

    def __init__(self, name: str) -> None:
        super().__init__(f"no worker of the name {name!r} is known; workers are listed once a dequeue has more than their name")


class UnknownSchedule(CallerError):
    """No schedule has this name."""

    code = "unknown_schedule"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no schedule named {name!r}")


class UnknownTask(CallerError):
    """No task has this id: it never existed, ended long ago, or ended with the server that ran it."""

    code = "unknown_task"

    def __init__(self, task_id: str) -> None:
        super().__init__(f"no task has the id {task_id!r}")


class IdConflict(CallerError):
    """A job with this id exists and has different content. field: what differs, None if the caller has no access to the job."""

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
    """A queue that holds live jobs cannot be deleted."""

    code = "queue_not_empty"

    def __init__(self, name: str, live: int) -> None:
        super().__init__(f"queue {name!r} holds {live} jobs that are not concluded; purge it first")


class Unauthorized(CallerError):
    """No token, or one the server does not know."""

    code = "unauthorized"


class Forbidden(CallerError):
    """The token does not permit this, or the origin of the request is not allowed."""

    code = "forbidden"


class Unsupported(CallerError):
    """The request joins queues that are in different partitions of the store, which only one partition could do. field: what names the
    other queue or job.
    """

    code = "unsupported"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field

    @classmethod
    def of_queues(cls, field: str, queue: str, other: str) -> Self:
        """The error for a request about `queue` that names `other` in a field."""
        return cls(
            field, f"the queue {other!r} is in another partition than {queue!r}; queues whose names begin alike, up to a colon, share one"
        )


class LostRace(QueueError):
    """Something else happened to the job first. Nothing was changed."""


class LeaseLost(LostRace):
    """The lease token is not the live one: it expired, was released, or was never this job's."""

    code = "lease_lost"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"this lease on job {job_id!r} is not live: it expired, was ended, or never existed; nothing was changed")


class NotInProgress(LostRace):
    """The job is concluded, so it can be neither worked on nor cancelled."""

    code = "not_in_progress"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"job {job_id!r} is {state}; nothing was changed")


class InProgress(LostRace):
    """A worker has the job, so it cannot be edited."""

    code = "in_progress"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id!r} is in progress; nothing was changed")


class NotRetryable(LostRace):
    """Only a concluded job that did not succeed can be retried."""

    code = "not_retryable"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"job {job_id!r} is {state}; only jobs that failed, were cancelled or expired can be retried")


class NotForgettable(LostRace):
    """Only a concluded job that nothing needs any more can be forgotten."""

    code = "not_forgettable"

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(f"job {job_id!r} {reason}; nothing was changed")


class Duplicate(LostRace):
    """Another job has this unique key in the queue: `job_id`."""

    code = "duplicate"
    field = "unique.key"

    def __init__(self, key: str, holder: str) -> None:
        super().__init__(f"job {holder!r} has the unique key {key!r}; nothing was changed")
        self.job_id = holder


class GroupClosed(LostRace):
    """No more jobs can join the group."""

    code = "group_closed"
    field = "group"

    def __init__(self, group_id: str) -> None:
        super().__init__(f"group {group_id!r} is closed, so no more jobs can join it")


class Full(QueueError):
    """A limit is reached. retry_after: seconds after which to try again."""

    retry_after: int = 1


class QueueFull(Full):
    """The server, the queue, or the key has reached its limit of jobs or bytes. field: "key" for the key, "unique.for" for the unique
    keys that are held for a time, "after" for the jobs that live jobs are after.
    """

    code = "queue_full"

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class TooManyQueues(Full):
    """The server's limit of queues is reached."""

    code = "too_many_queues"


class TooManySchedules(Full):
    """The server's limit of schedules is reached."""

    code = "too_many_schedules"


class TooManyTasks(Full):
    """The limit of running tasks is reached."""

    code = "too_many_tasks"


class TooManyGroups(Full):
    """The limit of groups that are not concluded, or whose callback is not enqueued yet, is reached."""

    code = "too_many_groups"


class TooManyWaiters(Full):
    """The limit of waiting requests is reached."""

    code = "too_many_waiters"


class TooManyListeners(Full):
    """The limit of event listeners is reached."""

    code = "too_many_listeners"


class TooManyConnections(Full):
    """The limit of open connections is reached."""

    code = "too_many_connections"


class RateLimited(Full):
    """This token or address has sent more requests than its rate limit allows."""

    code = "rate_limited"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(QueueError):
    """The server cannot do this at the moment. retry_after: seconds after which to try again."""

    retry_after: int = 1


class Draining(Unavailable):
    """The server is shutting down and accepts no new work."""

    code = "draining"


class StorageUnavailable(Unavailable):
    """Changes cannot be stored at the moment. Nothing was changed, unless the error is an Unconfirmed too
    (StorageUnconfirmed): then the change may have been made."""

    code = "storage_unavailable"


class Unconfirmed(Unavailable):
    """The change may have been made: it could not be stored in time, or its answer was lost.

    Repeat the request if that is safe, as it is with an id or a lease; otherwise check first. ids: the ids of the jobs that were to be
    enqueued, including those that the client chose; with these, they can be enqueued again.
    """

    code = "storage_unavailable"
    ids: tuple[str, ...] = ()


class StorageUnconfirmed(Unconfirmed, StorageUnavailable):
    """The change was not stored in time, and may be stored by now, later, or never.

    On the wire it has the code of StorageUnavailable and `"unconfirmed": true`.
    """
