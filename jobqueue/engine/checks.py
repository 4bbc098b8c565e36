"""Which values are allowed, whoever sends them: HTTP, a dialect, the pool or a test. Raises BadRequest naming field and reason.

Wire formats (JSON types, RFC 3339) are the edges' business; by the time a value comes here it has the right Python type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container

from jobqueue.errors import BadRequest, TooLarge
from jobqueue.limits import CONTROL, CONTROL_BUT_LINES, DAY, NAME, Limits
from jobqueue.model import FAILED, PRIORITIES, Backoff, JobSpec, PerKey, QueuePolicy, Rate, Verdict, Want

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""Version, trace, parent and flags (W3C Trace Context, section 3.2.2)."""


def name(field: str, value: str) -> None:
    """A queue's name."""
    if NAME.fullmatch(value) is None:
        raise BadRequest(field, f"{value[:80]!r} is not a name; use 1 to 64 characters of A-Z a-z 0-9 . _ : -")


def text(field: str, value: str, chars_max: int, chars_min: int = 0, forbidden: re.Pattern[str] = CONTROL) -> None:
    """A text without control characters: an id, a type, a worker's name. With `CONTROL_BUT_LINES` it may have several lines."""
    if not chars_min <= len(value) <= chars_max:
        raise BadRequest(field, f"has {len(value)} characters; {chars_min} to {chars_max} are allowed")
    if forbidden.search(value) is not None:
        raise BadRequest(field, "holds a control character or a lone surrogate")


def key(value: str, limits: Limits) -> None:
    """A job's key."""
    text("key", value, limits.key_chars_max, 1)


def job_id(value: str, limits: Limits) -> None:
    """A job's id."""
    text("id", value, limits.id_chars_max, 1)


def number(field: str, value: float, low: float, high: float, unit: str = "") -> None:
    """A number between two bounds, both allowed. NaN is between none."""
    if not low <= value <= high:
        # A JSON integer may be too large for a float, or even to print.
        shown = f"{value:.15g}" if abs(value) < 1e300 else "the number"
        raise BadRequest(field, f"{shown} is out of range; {low:.15g} to {high:.15g}{unit} is allowed")


def lease_seconds(value: float, limits: Limits) -> None:
    """A lease's length."""
    number("lease_seconds", value, limits.lease_seconds_min, limits.lease_seconds_max, " seconds")


def delay(value: float, limits: Limits, field: str = "delay") -> None:
    """A delay's length."""
    number(field, value, 0.0, limits.delay_seconds_max, " seconds")


def retry_delay(verdict: Verdict, limits: Limits) -> None:
    """A worker's word on when to try again: it goes with a failure that is to be tried again, and with nothing else."""
    assert verdict.retry_delay is not None
    if verdict.outcome is not FAILED or not verdict.retry:
        raise BadRequest("retry_delay", "goes only with the outcome failed, and without retry: false")
    delay(verdict.retry_delay, limits, "retry_delay")


def backoff(value: Backoff, limits: Limits, field: str = "backoff") -> None:
    """A backoff's base, factor and cap."""
    number(f"{field}.base", value.base, 0.0, limits.delay_seconds_max, " seconds")
    number(f"{field}.factor", value.factor, 1.0, 100.0)
    number(f"{field}.cap", value.cap, 0.0, limits.delay_seconds_max, " seconds")


def max_attempts(value: int, limits: Limits) -> None:
    """How many attempts a job may get."""
    number("max_attempts", value, 1, limits.max_attempts_max)


def json_size(field: str, value: bytes, limits: Limits) -> None:
    """The size of a payload, a result or an error."""
    if len(value) > limits.payload_bytes_max:
        raise TooLarge(field, f"has {len(value)} bytes; {limits.payload_bytes_max} are allowed")


def spec(value: JobSpec, limits: Limits) -> bool:
    """A whole job as it was asked for; whether it has details. The queue's and the type's names are checked where they are first seen."""
    if len(value.payload) > limits.payload_bytes_max:
        json_size("payload", value.payload, limits)
    if value.id is not None:
        job_id(value.id, limits)
    if not 0 <= value.priority < PRIORITIES:
        number("priority", value.priority, 0, PRIORITIES - 1)
    if (
        value.description is None
        and value.traceparent is None
        and value.delay is None
        and value.run_at is None
        and value.expires_in is None
        and value.max_attempts is None
        and value.backoff is None
        and value.lease_seconds is None
        and value.key is None
    ):
        return False
    _details(value, limits)
    return True


def _details(value: JobSpec, limits: Limits) -> None:
    if value.description is not None:
        text("description", value.description, limits.text_chars_max, forbidden=CONTROL_BUT_LINES)
    if value.traceparent is not None and TRACEPARENT.fullmatch(value.traceparent) is None:
        raise BadRequest("traceparent", "is not one of W3C Trace Context, as 00-<32 hex digits>-<16 hex digits>-01")
    if value.delay is not None:
        delay(value.delay, limits)
        if value.run_at is not None:
            raise BadRequest("run_at", "excludes delay; send one of them")
    if value.expires_in is not None:
        number("expires_in", value.expires_in, 0.001, limits.expires_seconds_max, " seconds")
    if value.max_attempts is not None:
        max_attempts(value.max_attempts, limits)
    if value.backoff is not None:
        backoff(value.backoff, limits)
    if value.lease_seconds is not None:
        lease_seconds(value.lease_seconds, limits)
    if value.key is not None:
        key(value.key, limits)


def run_at(value: float, now: float, limits: Limits) -> None:
    """A time not before which a job runs; the past is allowed and means now."""
    if not math.isfinite(value) or value - now > limits.delay_seconds_max:
        raise BadRequest("run_at", f"is more than {limits.delay_seconds_max:.15g} seconds ahead")


def rate(value: Rate, field: str = "rate") -> None:
    """A rate's limit, time and burst."""
    number(f"{field}.limit", value.limit, 1, 1_000_000)
    number(f"{field}.per", value.per, 1.0, DAY, " seconds")
    number(f"{field}.burst", value.burst, 1, value.limit)


def per_key(value: PerKey, limits: Limits) -> None:
    """What holds for each key of a queue."""
    if value.concurrency is not None:
        number("per_key.concurrency", value.concurrency, 1, 10_000)
        if value.order != "none" and value.concurrency != 1:
            raise BadRequest("per_key.concurrency", f"must be 1, or left out, where the order is {value.order}")
    if value.rate is not None:
        rate(value.rate, "per_key.rate")
    if value.max_jobs is not None:
        number("per_key.max_jobs", value.max_jobs, 1, limits.jobs_max)


def weights(value: dict[str, float], limits: Limits) -> None:
    """What keys may have of a fair queue."""
    if len(value) > limits.weights_max:
        raise BadRequest("weights", f"names {len(value)} keys; {limits.weights_max} are allowed")
    for name, weight in value.items():
        try:
            key(name, limits)
        except BadRequest as error:
            raise BadRequest("weights", f"names a key that {error.reason}") from None
        number(f"weights.{name}", weight, 0.01, 100.0)


def policy(value: QueuePolicy, limits: Limits) -> None:
    """A queue's policy."""
    if value.concurrency is not None:
        number("concurrency", value.concurrency, 1, 1_000_000)
    if value.rate is not None:
        rate(value.rate)
    if value.per_key is not None:
        per_key(value.per_key, limits)
    if value.weights:
        weights(value.weights, limits)
    lease_seconds(value.lease_seconds, limits)
    max_attempts(value.max_attempts, limits)
    backoff(value.backoff, limits)
    if value.max_jobs is not None:
        number("max_jobs", value.max_jobs, 1, limits.jobs_max)


def want(value: Want, limits: Limits, known: Container[str] = ()) -> None:
    """What a dequeue asks for. known: names of queues there are, which need no check."""
    if not 1 <= len(value.queues) <= limits.dequeue_queues_max:
        raise BadRequest("queue", f"names {len(value.queues)} queues; 1 to {limits.dequeue_queues_max} are allowed")
    for queue in value.queues:
        if queue not in known:
            name("queue", queue)
    if value.limit != 1:
        number("limit", value.limit, 1, limits.batch_jobs_max)
    if value.lease_seconds is not None:
        lease_seconds(value.lease_seconds, limits)
    if value.worker is not None:
        text("worker", value.worker, limits.id_chars_max, 1)
    if value.attempt_id is not None:
        text("attempt_id", value.attempt_id, limits.id_chars_max, 1)
