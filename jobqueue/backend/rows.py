"""Encodes and decodes jobs, queues and counters: the columns of the SQLite file.

MessagePack arrays, by position: the order of the fields below is the file's format. A new field goes to the end, with a default; any other
change is a new schema version with a migration (sqlite.py). Every part of a `Job` is here except what is derived when an engine is restored
(slot), and the payload, which rarely changes and has its own table.

Times are seconds since the epoch on the time line of the first server that wrote the file. `Counters.skew` is how far UTC has been stepped
from that line since; `at`, `boot` and `up` give the position on that line at the last commit. So a step of the wall clock does not move
leases across a restart either, and no row is ever rewritten for it.
"""

from __future__ import annotations

import math
from itertools import zip_longest

import msgspec

from jobqueue.engine.queues import QueueState
from jobqueue.engine.restore import TOTALS, Stored, StoredQueue
from jobqueue.model import NOTHING, PLAIN, AfterFailure, Conclusion, Details, Extra, Header, Job, Lease, Outcome, Status
from jobqueue.past import Attempt, Ended, Origin
from jobqueue.policy import Backoff, Keep, Order, Pause, PerKey, QueuePolicy, Rate
from jobqueue.unique import Claim, Claimed, OnConflict, Unique, Until

_Backoff = tuple[float, float, float]
_Lease = tuple[str, float, float, float, str | None, str | None, float | None, str | None, bool, bool]
_Conclusion = tuple[Outcome, float, bytes | None, str | None, Outcome | None, str | None, float | None]

_Rate = tuple[int, float, int]
_PerKey = tuple[Order, int | None, _Rate | None, int | None]

_Keep = tuple[float | None, int | None]
_Pause = tuple[float, str | None]
_Claim = tuple[str, Until, float | None, OnConflict, float | None, Claimed, float | None]
_Header = tuple[str, bytes, str]


class _OriginRow(msgspec.Struct, array_like=True, gc=False):
    queue: str
    at: float
    reason: Ended
    attempts: int = 0


class _AttemptRow(msgspec.Struct, array_like=True, gc=False):
    number: int
    worker: str | None
    started_at: float
    ended_at: float
    ended: Ended
    error: bytes | None
    token: str | None = None
    traceback: str | None = None


class _ExtraRow(msgspec.Struct, array_like=True, gc=False):
    tags: tuple[str, ...] = ()
    origin: _OriginRow | None = None
    schedule: str | None = None
    home: str | None = None
    edited: bool = False
    after: tuple[str, ...] = ()
    after_failure: AfterFailure = "cancel"
    group: str | None = None
    not_before: float | None = None
    claim: _Claim | None = None
    headers: tuple[_Header, ...] = ()


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
    past: tuple[_AttemptRow, ...] = ()
    who: str = ""
    key: str | None = None
    holds: bool = False
    halts: bool = False
    extra: _ExtraRow | None = None


class _QueueRow(msgspec.Struct, array_like=True, gc=False):
    lease_seconds: float
    max_attempts: int | None
    backoff: _Backoff
    max_jobs: int | None
    paused: bool
    totals: tuple[int, ...]
    concurrency: int | None = None
    rate: _Rate | None = None
    per_key: _PerKey | None = None
    fair: bool = False
    weights: dict[str, float] = {}
    paused_keys: tuple[str, ...] = ()
    dead_letter: str | None = None
    keep_succeeded: _Keep | None = None
    keep_failed: _Keep | None = None
    # Not known for a queue that an older server stored.
    own: bool = True
    delay: float | None = None
    expires_in: float | None = None
    tags: dict[str, str] = {}
    attributes: dict[str, str] = {}
    # Not known then either.
    created_at: float | None = None
    modified_at: float | None = None
    # The last of TOTALS is stored here: older servers cannot read a row that has it among the others.
    attempts_failed: int = 0
    pause: _Pause | None = None
    # One for each of paused_keys, in the same order.
    key_pauses: tuple[_Pause | None, ...] = ()


class Counters(msgspec.Struct, array_like=True, frozen=True):
    """Values that are stored once. next_seq: the same as next_number, since both come from one counter now; older files have two.

    skew: UTC minus the time line of stored times; sync: the mode of the server that wrote it. at: the time of writing on that line; boot
    and up: the machine's uptime then. reign: of the owner that wrote it, if there are several servers; a name that no other reign has.
    group: how many groups the reign has written by then, including this one. Older files do not have these.
    """

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
"""Stored in place of the counters while a store is filled from a file, and after that was interrupted. No server starts on it; nor does an
older server that does not know this mark, since it is not a valid row of counters."""


class BadRow(Exception):
    """A row that cannot be read. str() gives the reason."""


_TOTALS_FIRST = 8
"""The first TOTALS, which every file has."""

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
            details.past and [_attempt(one) for one in details.past],
            "" if lease is None else lease.who,
            details.key,
            details.holds,
            end is not None and end.halts,
            None if details.extra is NOTHING else _extra(details.extra),
        )
    )


def _attempt(one: Attempt) -> tuple[object, ...]:
    row = one.number, one.worker, one.started_at, one.ended_at, one.ended, one.error
    if one.traceback is not None:
        return (*row, one.token, one.traceback)
    return row if one.token is None else (*row, one.token)


def _extra(extra: Extra) -> tuple[object, ...]:
    origin = extra.origin
    return (
        extra.tags,
        None if origin is None else (origin.queue, origin.at, origin.reason, origin.attempts),
        extra.schedule,
        extra.home,
        extra.edited,
        extra.after,
        extra.after_failure,
        extra.group,
        extra.not_before,
        None if extra.claim is None else _claim(extra.claim),
        [(header.name, header.value, header.type) for header in extra.headers],
    )


def _attempt_of(row: _AttemptRow) -> Attempt:
    return Attempt(row.number, row.worker, row.started_at, row.ended_at, row.ended, row.error, row.token, row.traceback)


def _extra_of(row: _ExtraRow) -> Extra:
    return Extra(
        row.tags,
        None if row.origin is None else Origin(row.origin.queue, row.origin.at, row.origin.reason, row.origin.attempts),
        row.schedule,
        row.home,
        row.edited,
        row.after,
        row.after_failure,
        row.group,
        row.not_before,
        claim=None if row.claim is None else Claim(Unique(*row.claim[:5]), *row.claim[5:]),
        headers=tuple(Header(*header) for header in row.headers),
    )


def _claim(claim: Claim) -> _Claim:
    unique = claim.unique
    return (unique.key, unique.until, unique.for_, unique.on_conflict, unique.max_wait, claim.state, claim.since)


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
        tuple(_attempt_of(attempt) for attempt in row.past),
        None if row.seq == number else row.seq,
        row.key,
        row.holds,
        NOTHING if row.extra is None else _extra_of(row.extra),
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


def encode_queue(queue: QueueState, offset: float = 0.0) -> bytes:
    """A queue's policy and totals. offset: engine time minus the time line of stored times."""
    policy = queue.policy
    per_key = policy.per_key
    backoff = policy.backoff
    totals = tuple(getattr(queue, f"{name}_total") for name in TOTALS[:-1])
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
            policy.dead_letter,
            _keep(policy.keep_succeeded),
            _keep(policy.keep_failed),
            queue.own,
            policy.delay,
            policy.expires_in,
            policy.tags,
            policy.attributes,
            _moved(queue.created_at, -offset),
            _moved(queue.modified_at, -offset),
            queue.attempts_failed_total,
            _pause(queue.pause, offset),
            [_pause(pause, offset) for pause in queue.paused_keys.values()],
        )
    )


def _moved(at: float | None, offset: float) -> float | None:
    return None if at is None else at + offset


def _pause(pause: Pause | None, offset: float) -> _Pause | None:
    return None if pause is None else (pause.at - offset, pause.by)


def _pause_of(row: _Pause | None, offset: float) -> Pause | None:
    return None if row is None else Pause(row[0] + offset, row[1])


def _rate(rate: Rate | None) -> _Rate | None:
    return None if rate is None else (rate.limit, rate.per, rate.burst)


def _keep(keep: Keep | None) -> _Keep | None:
    return None if keep is None else (keep.seconds, keep.count)


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
        row.dead_letter,
        None if row.keep_succeeded is None else Keep(*row.keep_succeeded),
        None if row.keep_failed is None else Keep(*row.keep_failed),
        row.delay,
        row.expires_in,
        row.tags,
        row.attributes,
    )


def decode_queue(name: str, state: bytes, offset: float = 0.0) -> StoredQueue:
    """A queue from its row. offset: see `encode_queue`. Raises BadRow."""
    try:
        row = _decode_queue(state)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRow(f"queue {name!r}: {error}") from None
    if not _TOTALS_FIRST <= len(row.totals) < len(TOTALS):
        raise BadRow(f"queue {name!r}: it counts {len(row.totals)} things")
    # Older files have fewer counts.
    totals = (*row.totals, *[0] * (len(TOTALS) - 1 - len(row.totals)), row.attempts_failed)
    times = _moved(row.created_at, offset), _moved(row.modified_at, offset)
    pauses = [_pause_of(pause, offset) for pause in row.key_pauses]
    paused_keys = dict(zip_longest(row.paused_keys, pauses[: len(row.paused_keys)]))
    return StoredQueue(name, _policy(row), totals, paused_keys, row.own, *times, _pause_of(row.pause, offset))


def encode_counters(counters: Counters) -> bytes:
    """The counters."""
    return _encode(counters)


def decode_counters(state: bytes) -> Counters:
    """The counters from their row. Raises BadRow."""
    try:
        return _decode_counters(state)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRow(f"the counters: {error}") from None
