"""What the clients accept and return: items of batches, and the server's answers.

Times are datetimes with a time zone, UTC in answers; durations are in seconds. Payloads, results and errors in answers are kept as JSON
text and parsed only when accessed, so that code that does not use them does not pay for it. Each access parses again: keep the value.
Fields that a newer server adds are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

from jobqueue.client.header_types import HeaderValue
from jobqueue.client.log_types import LogLine
from jobqueue.client.server_types import Cluster as Cluster  # noqa: PLC0414 # all types of answers can be imported from here
from jobqueue.client.server_types import Commits as Commits  # noqa: PLC0414
from jobqueue.client.server_types import Held as Held  # noqa: PLC0414
from jobqueue.client.server_types import Lag as Lag  # noqa: PLC0414
from jobqueue.client.server_types import Member as Member  # noqa: PLC0414
from jobqueue.client.server_types import ServerName as ServerName  # noqa: PLC0414
from jobqueue.client.server_types import Stats as Stats  # noqa: PLC0414
from jobqueue.client.totals import Failures, Totals
from jobqueue.errors import BadRequest
from jobqueue.model import DEFAULT_QUEUE, AfterFailure, Outcome, Status
from jobqueue.past import Ended
from jobqueue.policy import Backoff, QueuePolicy
from jobqueue.unique import Unique

T = TypeVar("T")

Kind: TypeAlias = type[T]
"""`type`, for use within a class that has a field of that name."""

WorkOutcome = Literal["succeeded", "failed"]
"""The outcomes that a worker can report; cancelled and expired come only from the server."""

_decoder = msgspec.json.Decoder()


def _decode(raw: Raw) -> Any:
    """JSON text as plain Python objects. Raises msgspec.DecodeError, a ValueError, if it is nested too deeply for Python."""
    try:
        return _decoder.decode(raw)
    except RecursionError:
        raise msgspec.DecodeError("the JSON is nested too deeply") from None


def _decode_as(raw: Raw, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except RecursionError:
        raise msgspec.ValidationError("the JSON is nested too deeply") from None


def check_finite(asked: msgspec.Struct, *names: str) -> None:
    """Raises BadRequest for a field that is infinite or NaN: JSON has neither, and would have null, which means the default."""
    for name in names:
        value = getattr(asked, name)
        if isinstance(value, float) and not isfinite(value):
            raise BadRequest(name, f"{value} is not a finite number")


# Items of batches.


class NewJob(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job to enqueue, an item of `enqueue_batch`. The fields are those of `enqueue`; None: the queue's policy or the server decides."""

    payload: Any
    id: str | None = None
    queue: str = DEFAULT_QUEUE
    type: str | None = None
    description: str | None = None
    priority: int = 5
    delay: float | None = None
    run_at: datetime | None = None
    expires_in: float | None = None
    max_attempts: int | None = None
    backoff: Backoff | None = None
    lease_seconds: float | None = None
    traceparent: str | None = None
    key: str | None = None
    tags: Sequence[str] = ()
    unique: Unique | None = None
    after: Sequence[str] = ()
    after_failure: AfterFailure = "cancel"
    group: str | None = None
    headers: Mapping[str, HeaderValue] | None = None

    def __post_init__(self) -> None:
        """Raises BadRequest."""
        if self.delay is not None or self.expires_in is not None or self.lease_seconds is not None:
            check_finite(self, "delay", "expires_in", "lease_seconds")


class Conclude(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt to conclude, an item of `conclude_batch`. The fields are those of `conclude`; lease is the lease's token."""

    id: str
    lease: str
    outcome: WorkOutcome
    result: Any = None
    error: Any = None
    retry: bool = True
    retry_delay: float | None = None
    log: Sequence[str | LogLine] = ()
    log_offset: int | None = None
    late: bool = False
    traceback: str | None = None

    def __post_init__(self) -> None:
        """Raises BadRequest."""
        check_finite(self, "retry_delay")


class Extend(msgspec.Struct, frozen=True, omit_defaults=True):
    """A lease to extend, an item of `extend_batch`. The fields are those of `extend`; lease is the lease's token."""

    id: str
    lease: str
    lease_seconds: float | None = None
    progress: float | None = None
    message: str | None = None
    log: Sequence[str | LogLine] = ()
    log_offset: int | None = None

    def __post_init__(self) -> None:
        """Raises BadRequest."""
        check_finite(self, "lease_seconds", "progress")


class GiveBack(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job to release, an item of `release_batch`. The fields are those of `release`; lease is the lease's token."""

    id: str
    lease: str
    delay: float = 0.0

    def __post_init__(self) -> None:
        """Raises BadRequest."""
        check_finite(self, "delay")


# Answers.


class Enqueued(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The job that an enqueue made, or the existing job that it found.

    status is the one that the job began with or, if it existed already, its current one. run_at and expires_at are None if it has none.
    created is False if a job with this id and the same content existed already, or if this is another job, which holds the unique key.
    """

    id: str
    queue: str
    type: str | None
    priority: int
    status: Status
    created_at: datetime
    run_at: datetime | None
    expires_at: datetime | None
    created: bool
    key: str | None = None
    tags: tuple[str, ...] = ()


class Lease(msgspec.Struct, frozen=True, gc=False):
    """The lease of a job, exclusive for one attempt. token proves that you hold it; expires_at is by the server's clock."""

    token: str
    expires_at: datetime


class MadeBy(msgspec.Struct, frozen=True, gc=False):
    """The name of the schedule that made a job, and the job's slot, None for a manual run."""

    name: str
    slot: datetime | None


class ParentInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job that the taken job runs after. outcome: how it ended, None if it is live or no longer known; left_out: its result did not fit
    in the answer; read it with `job`.
    """

    id: str
    outcome: Outcome | None
    raw_result: Raw = msgspec.field(name="result", default=Raw(b"null"))
    left_out: bool = False

    @property
    def result(self) -> Any:
        """Its result as plain Python objects, None if it has none."""
        return _decode(self.raw_result)


class LeasedJob(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job as a worker receives it. attempts includes this attempt; number is the job's number in order of creation, as in JobInfo.

    traceparent: the trace context that its producer set, None if none; key: its key, None if none; tags: words to find it by; limited:
    other jobs may have to wait because of this lease, so take such a job only when you can start it. schedule: the schedule that made it,
    None if none. group: its group; parents: the outcomes of the jobs that it runs after. headers: the producer's headers by name: a str, or
    a Header for another type than String. max_attempts: how many attempts it can have, None for no limit, and from an older server.
    """

    id: str
    number: int
    queue: str
    type: str | None
    description: str | None
    priority: int
    attempts: int
    created_at: datetime
    lease: Lease
    raw_error: Raw = msgspec.field(name="error", default=Raw(b"null"))
    raw_payload: Raw = msgspec.field(name="payload")
    traceparent: str | None = None
    key: str | None = None
    limited: bool = False
    tags: tuple[str, ...] = ()
    schedule: MadeBy | None = None
    group: str | None = None
    parents: tuple[ParentInfo, ...] = ()
    headers: dict[str, HeaderValue] = {}
    max_attempts: int | None = None

    @property
    def payload(self) -> Any:
        """The payload as plain Python objects: dict, list, str, int, float, bool or None."""
        return _decode(self.raw_payload)

    def payload_as(self, kind: Kind[T]) -> T:
        """The payload as a msgspec Struct, a dataclass, a TypedDict or any other type that msgspec supports.

        Raises msgspec.ValidationError, a ValueError, which names the part that has another type.
        """
        return _decode_as(self.raw_payload, kind)

    @property
    def error(self) -> Any:
        """The error of the last attempt, None before the first failure."""
        return _decode(self.raw_error)


class Reason(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One reason why a job waits. The fields that this `reason` does not use are None. The reasons:

    time: it waits until `until`. jobs: it waits for the jobs with the ids `jobs`. paused: its queue is paused. key: its key is held back,
    and `block` says why: order, halted or paused; `job` is the job that it waits for, `worker` has that job, and `until` is when that job's
    lease ends or it runs again. concurrency: `used` of `total` jobs are in progress, in the queue or of `key`. rate: the next slot is at
    `until`. line: about `ahead` jobs go before it. workers: no dequeue waits on its queue, and `used` jobs are in progress.
    """

    reason: str
    until: datetime | None = None
    key: str | None = None
    block: str | None = None
    job: str | None = None
    worker: str | None = None
    used: int | None = None
    total: int | None = None
    ahead: int | None = None
    jobs: tuple[str, ...] = ()


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where a dead letter comes from. queue, at: where and when it failed for good; reason: how its last attempt there ended; attempts: how
    many it had had by then, in all queues, 0 from a server that does not count them.
    """

    queue: str
    at: datetime
    reason: Ended
    attempts: int = 0


class UniqueInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job's unique key and its settings (see Unique). holds: it holds the key now; held_until: when the key is free at the earliest."""

    key: str
    until: str
    for_: float | None = msgspec.field(default=None, name="for")
    on_conflict: str
    max_wait: float | None = None
    holds: bool
    held_until: datetime | None = None


class JobInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job without its payload and result, as listings, release, cancel and retry return it.

    number counts jobs in order of creation, over all queues of the server. outcome is None until the job is concluded; max_attempts is None
    if the queue's policy applies; run_at is when it was or will be due, None if it never had to wait. started_at, worker, progress (0 to
    1), message, cancel_requested and lease_expires_at belong to the attempt in progress; a concluded job keeps started_at and worker.
    origin: where a dead letter comes from. unique: its unique key, if it has one. waiting_for: every reason why it is not in progress; None
    in a list unless requested. halts: it failed, and no other job of its key is handed out until it is retried, given up with `cancel`, or
    its key is resumed. schedule: the schedule that made it, None if none. after: ids of the jobs that it runs after; after_failure: what
    happens if one does not succeed; group: its group.
    """

    id: str
    number: int
    queue: str
    type: str | None
    description: str | None
    priority: int
    status: Status
    outcome: Outcome | None
    attempts: int
    max_attempts: int | None
    created_at: datetime
    run_at: datetime | None
    expires_at: datetime | None
    started_at: datetime | None
    concluded_at: datetime | None
    lease_expires_at: datetime | None
    worker: str | None
    progress: float | None
    message: str | None
    cancel_requested: bool
    raw_error: Raw = msgspec.field(name="error", default=Raw(b"null"))
    key: str | None = None
    origin: Origin | None = None
    halts: bool = False
    waiting_for: tuple[Reason, ...] | None = None
    tags: tuple[str, ...] = ()
    unique: UniqueInfo | None = None
    schedule: MadeBy | None = None
    after: tuple[str, ...] = ()
    after_failure: AfterFailure = "cancel"
    group: str | None = None

    @property
    def error(self) -> Any:
        """The error of the last failed attempt, as plain Python objects; None if none failed."""
        return _decode(self.raw_error)


class Attempt(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An attempt that failed or whose lease ran out; `ended` says which. attempt: its number, from 1; traceback: from its worker."""

    attempt: int
    worker: str | None
    started_at: datetime
    ended_at: datetime
    ended: Ended
    traceback: str | None = None
    raw_error: Raw = msgspec.field(name="error", default=Raw(b"null"))

    @property
    def error(self) -> Any:
        """The error that the worker reported, as plain Python objects; None if it reported none, or one that is longer than the server
        stores for a past attempt."""
        return _decode(self.raw_error)


class Job(JobInfo, frozen=True, gc=False, kw_only=True):
    """A whole job, as `job` returns it: JobInfo with payload, headers and result; past: its last failed attempts, oldest first."""

    past: tuple[Attempt, ...] = ()
    headers: dict[str, HeaderValue] = {}
    raw_payload: Raw = msgspec.field(name="payload")
    raw_result: Raw = msgspec.field(name="result", default=Raw(b"null"))

    @property
    def payload(self) -> Any:
        """The payload as plain Python objects."""
        return _decode(self.raw_payload)

    def payload_as(self, kind: Kind[T]) -> T:
        """The payload as `kind`: see LeasedJob.payload_as. Raises msgspec.ValidationError."""
        return _decode_as(self.raw_payload, kind)

    @property
    def result(self) -> Any:
        """The result of the successful attempt, as plain Python objects; None if there is none."""
        return _decode(self.raw_result)

    def result_as(self, kind: Kind[T]) -> T:
        """The result as `kind`: see LeasedJob.payload_as. Raises msgspec.ValidationError."""
        return _decode_as(self.raw_result, kind)


class Concluded(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job's state after a conclude: concluded, with its outcome; or scheduled, to be retried at run_at."""

    id: str
    status: Status
    outcome: Outcome | None
    attempts: int
    run_at: datetime | None


class Extended(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A lease's new end. cancel_requested: a cancel was requested, so stop; the job ends as cancelled, whatever you report."""

    id: str
    expires_at: datetime
    cancel_requested: bool


class Queue(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A queue: its policy, the number of its live jobs in each status, the dequeues that wait on it, its totals.

    oldest_queued_at: when the next job to be handed out was created, fell due or was retried, the earliest over all priorities. held: how
    many queued jobs a limit or their key holds back now; held_by: the same by reason; keys: how many keys it tracks; rate_next_at: when its
    rate allows the next job, None if one can go now. created_at: when it was created; modified_at: when its policy last changed; paused_at:
    when it was paused, None if an older server did it; paused_by: by which token, None if the server has no tokens.
    """

    name: str
    policy: QueuePolicy
    scheduled: int
    queued: int
    in_progress: int
    waiters: int
    oldest_queued_at: datetime | None
    totals: Totals
    held: int = 0
    held_by: dict[str, int] = {}
    keys: int = 0
    rate_next_at: datetime | None = None
    created_at: datetime | None = None
    modified_at: datetime | None = None
    paused_at: datetime | None = None
    paused_by: str | None = None
    failures: Failures = Failures()


class Key(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A key of a queue: the number of its live jobs in each status, and what holds the queued jobs back.

    block: order, halted, paused, concurrency or rate, None if the next job can go; holder: the id of the job that the key waits for;
    next_at: when its rate allows the next job; paused_at, paused_by: see Queue.
    """

    key: str
    queued: int
    scheduled: int
    in_progress: int
    block: str | None
    paused: bool
    holder: str | None
    next_at: datetime | None
    paused_at: datetime | None = None
    paused_by: str | None = None


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """The permissions of a token. name is None if the server requires no token; queues are patterns of names, `*` for all."""

    name: str | None
    scopes: list[str]
    queues: list[str]


class EventData(msgspec.Struct, frozen=True, kw_only=True):
    """The content of an event: all fields of JobEvent except event and event_id."""

    at: datetime | None = None
    queue: str | None = None
    id: str | None = None
    number: int | None = None
    type: str | None = None
    priority: int | None = None
    status: Status | None = None
    outcome: Outcome | None = None
    attempts: int | None = None
    run_at: datetime | None = None
    lease_expires_at: datetime | None = None
    worker: str | None = None
    progress: float | None = None
    message: str | None = None
    cancel_requested: bool | None = None
    policy: QueuePolicy | None = None
    key: str | None = None


class JobEvent(EventData, frozen=True, kw_only=True):
    """Something that happened to a job or a queue, and when (at).

    event: its name, from docs/protocol.md or from a newer server; event_id: its position, which you pass as last_event_id to continue after
    it. An event of a job has the job's state right after the event, and policy is None. An event of a queue has only at, queue and policy,
    and policy is None if the queue was deleted. `reset` means that events were missed, and has no fields.
    """

    event: str
    event_id: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs, newest first. cursor: pass it to get the next page, None at the end; a short or empty page can have one too."""

    jobs: list[JobInfo]
    cursor: int | str | None
