"""Jobs, queues and counters as bytes, and back: what stands in the columns of the SQLite file.

MessagePack arrays, by position: the order of the fields below is the file's format. A new field goes to the end, with a default; anything
else is a new schema version with a migration (sqlite.py). Every part of a `Job` is here but what is derived when an engine is restored
(slot) and the payload, which never changes and has a table of its own.

Times are seconds since the epoch on the line of the first server that wrote the file; `Counters.skew` says how far UTC has been stepped
from that line since, and `at`, `boot` and `up` where the line was at the last commit. So a step of the wall clock moves no lease over a
restart either, and no row is ever rewritten for it.
"""

from __future__ import annotations

import math

import msgspec

from jobqueue.engine.queues import QueueState
from jobqueue.engine.restore import TOTALS, Stored, StoredQueue
from jobqueue.model import (
    PLAIN,
    Attempt,
    Backoff,
    Conclusion,
    Details,
    Ended,
    Job,
    Lease,
    Order,
    Outcome,
    PerKey,
    QueuePolicy,
    Rate,
    Status,
)

_Backoff = tuple[float, float, float]
_Lease = tuple[str, float, float, float, str | None, str | None, float | None, str | None, bool, bool]
_Conclusion = tuple[Outcome, float, bytes | None, str | None, Outcome | None, str | None, float | None]

_Rate = tuple[int, float, int]
_PerKey = tuple[Order, int | None, _Rate | None, int | None]

_Attempt = tuple[int, str | None, float, float, Ended, bytes | None]


class _JobRow(msgspec.Struct, array_like=True, gc=False):
    id: str
    queue: str
    priority: int
    created_at: float
    status: Status
    type: str | None
    description: str | None
    max_attempts: int | None
    backoff: _Backoff | None
    lease_seconds: float | None
    asked: tuple[float | None, float | None, float | None] | None
    run_at: float | None
    expires_at: float | None
    attempts: int
    error: bytes | None
    lease: _Lease | None
    conclusion: _Conclusion | None
    seq: int
    change: int
    traceparent: str | None = None
    past: tuple[_Attempt, ...] = ()
    who: str = ""
    key: str | None = None
    holds: bool = False
    halts: bool = False


class _QueueRow(msgspec.Struct, array_like=True, gc=False):
    lease_seconds: float
    max_attempts: int
    backoff: _Backoff
    max_jobs: int | None
    paused: bool
    totals: tuple[int, int, int, int, int, int, int, int]
    concurrency: int | None = None
    rate: _Rate | None = None
    per_key: _PerKey | None = None
    fair: bool = False
    weights: dict[str, float] = {}
    paused_keys: tuple[str, ...] = ()


class Counters(msgspec.Struct, array_like=True, frozen=True):
    """What is stored once. next_seq: next_number again, since both come from one counter now; older files have two.

    skew: UTC minus the line that times are stored on; sync: the mode of the server that wrote it. at: where on that line it was
    written; boot and up: the machine's uptime then. reign: of the owner that wrote it, where there are many servers, a name that no other
    reign has; group: how many it has written by then, this one included. Older files do not have these."""

    next_number: int
    next_seq: int
    skew: float
    sync: str
    at: float = -math.inf
    boot: str = ""
    up: float = 0.0
    reign: str = ""
    group: int = 0


RESTORING = b"\xa9restoring"
"""What stands in place of the counters while a store is filled from a file, and after that was broken off. No server starts on it, nor
does one that does not know it, since it is no row of counters."""


class BadRow(Exception):
    """A row that cannot be read. str() says why."""


_encode = msgspec.msgpack.Encoder().encode
_decode_job = msgspec.msgpack.Decoder(_JobRow).decode
_decode_queue = msgspec.msgpack.Decoder(_QueueRow).decode
_decode_counters = msgspec.msgpack.Decoder(Counters).decode


def encode_job(job: Job, change: int) -> bytes:
    """A job as it is now, without its payload."""
    details, lease, end = job.details, job.lease, job.conclusion
    backoff = details.backoff
    # A plain tuple: making a _JobRow first would cost half as much again, for every change of every job.
    return _encode(
        (
            job.id,
            job.queue,
            job.priority,
            job.created_at,
            job.status,
            job.type,
            details.description,
            details.max_attempts,
            None if backoff is None else (backoff.base, backoff.factor, backoff.cap),
            details.lease_seconds,
            details.asked,
            details.run_at,
            details.expires_at,
            job.attempts,
            details.error,
            None if lease is None else _lease(lease),
            None if end is None else (end.outcome, end.concluded_at, end.result, end.token, end.said, end.worker, end.started_at),
            job.seq,
            change,
            details.traceparent,
            details.past and [(one.number, one.worker, one.started_at, one.ended_at, one.ended, one.error) for one in details.past],
            "" if lease is None else lease.who,
            details.key,
            details.holds,
            end is not None and end.halts,
        )
    )


def _lease(lease: Lease) -> _Lease:
    return (
        lease.token,
        lease.expires_at,
        lease.seconds,
        lease.started_at,
        lease.worker,
        lease.attempt_id,
        lease.progress,
        lease.message,
        lease.cancel_requested,
        lease.replayed,
    )


def decode_job(number: int, state: bytes, payload: bytes) -> Stored:
    """A job from its rows. Raises BadRow."""
    try:
        row = _decode_job(state)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRow(f"job number {number}: {error}") from None
    details = Details(
        row.description,
        row.max_attempts,
        None if row.backoff is None else Backoff(*row.backoff),
        row.lease_seconds,
        row.asked,
        row.run_at,
        row.expires_at,
        row.error,
        row.traceparent,
        tuple(Attempt(*attempt) for attempt in row.past),
        None if row.seq == number else row.seq,
        row.key,
        row.holds,
    )
    if row.lease is not None and row.conclusion is not None:
        raise BadRow(f"job number {number}: is both leased and concluded")
    hold = None if row.lease is None else Lease(*row.lease, who=row.who)
    job = Job(
        row.id,
        number,
        row.queue,
        row.priority,
        payload,
        row.created_at,
        row.status,
        row.type,
        PLAIN if details == PLAIN else details,
        row.attempts,
        hold if row.conclusion is None else Conclusion(*row.conclusion, halts=row.halts),
    )
    return Stored(job, row.change)


def encode_queue(queue: QueueState) -> bytes:
    """A queue's policy and totals."""
    policy = queue.policy
    per_key = policy.per_key
    backoff = policy.backoff
    totals = tuple(getattr(queue, f"{name}_total") for name in TOTALS)
    return _encode(
        (
            policy.lease_seconds,
            policy.max_attempts,
            (backoff.base, backoff.factor, backoff.cap),
            policy.max_jobs,
            policy.paused,
            totals,
            policy.concurrency,
            _rate(policy.rate),
            per_key and (per_key.order, per_key.concurrency, _rate(per_key.rate), per_key.max_jobs),
            policy.fair,
            policy.weights,
            list(queue.paused_keys),
        )
    )


def _rate(rate: Rate | None) -> _Rate | None:
    return None if rate is None else (rate.limit, rate.per, rate.burst)


def _policy(row: _QueueRow) -> QueuePolicy:
    per_key = row.per_key
    return QueuePolicy(
        row.lease_seconds,
        row.max_attempts,
        Backoff(*row.backoff),
        row.max_jobs,
        row.paused,
        row.concurrency,
        None if row.rate is None else Rate(*row.rate),
        None if per_key is None else PerKey(per_key[0], per_key[1], None if per_key[2] is None else Rate(*per_key[2]), per_key[3]),
        row.fair,
        row.weights,
    )


def decode_queue(name: str, state: bytes) -> StoredQueue:
    """A queue from its row. Raises BadRow."""
    try:
        row = _decode_queue(state)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRow(f"queue {name!r}: {error}") from None
    return StoredQueue(name, _policy(row), row.totals, row.paused_keys)


def encode_counters(counters: Counters) -> bytes:
    """The counters."""
    return _encode(counters)


def decode_counters(state: bytes) -> Counters:
    """The counters from their row. Raises BadRow."""
    try:
        return _decode_counters(state)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRow(f"the counters: {error}") from None
