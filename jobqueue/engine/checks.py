"""Which values are allowed, whoever sends them: HTTP, a dialect, the pool or a test. Raises BadRequest naming field and reason.

The edges handle wire formats (JSON types, RFC 3339); values that arrive here have the right Python type.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Container

import msgspec
from msgspec import UNSET

from jobqueue.about import About
from jobqueue.engine.sizes import headers_bytes, text_bytes
from jobqueue.errors import BadRequest, TooLarge, Unsupported
from jobqueue.limits import CONTROL, CONTROL_BUT_LINES, DAY, HEADER_NAME, HEADER_TYPE, NAME, Limits
from jobqueue.model import FAILED, PRIORITIES, Header, JobChange, JobSpec, Verdict, Want
from jobqueue.partition import Place, partition_of
from jobqueue.policy import Backoff, Keep, PerKey, QueuePolicy, Rate
from jobqueue.unique import Unique

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""Version, trace, parent and flags (W3C Trace Context, section 3.2.2)."""

_decode_text = msgspec.json.Decoder(str).decode


def name(field: str, value: str) -> None:
    """A queue's name."""
    if NAME.fullmatch(value) is None:
        raise BadRequest(field, f"{value[:80]!r} is not a name; use 1 to 80 characters of A-Z a-z 0-9 . _ : -")


def queue_here(value: str, place: Place) -> None:
    """The name of a queue that is made in this partition. A store that was moved from another number of partitions can have dead letters,
    and policies for them, that name a queue which is now elsewhere: made here, nobody would find it.
    """
    name("queue", value)
    if place.count > 1 and partition_of(value, place.count) != place.index:
        raise Unsupported("queue", f"the queue {value!r} is in another partition")


def text(field: str, value: str, chars_max: int, chars_min: int = 0, forbidden: re.Pattern[str] = CONTROL) -> None:
    """Text without control characters: an id, a type, a worker's name. With `CONTROL_BUT_LINES` it can have several lines."""
    if not chars_min <= len(value) <= chars_max:
        raise BadRequest(field, f"has {len(value)} characters; {chars_min} to {chars_max} are allowed")
    if forbidden.search(value) is not None:
        raise BadRequest(field, "contains a control character or a lone surrogate")


def key(value: str, limits: Limits) -> None:
    """A job's key."""
    text("key", value, limits.key_chars_max, 1)


def job_id(value: str, limits: Limits) -> None:
    """A job's id."""
    text("id", value, limits.id_chars_max, 1)


def number(field: str, value: float, low: float, high: float, unit: str = "") -> None:
    """A number between two bounds, both included. NaN is never allowed."""
    if not low <= value <= high:
        # A JSON integer can be too large for a float, or even to print.
        shown = f"{value:.15g}" if abs(value) < 1e300 else "the number"
        raise BadRequest(field, f"{shown} is out of range; {low:.15g} to {high:.15g}{unit} is allowed")


def lease_seconds(value: float, limits: Limits) -> None:
    """A lease's length; 0 for a lease that ends at once."""
    if value != 0:
        number("lease_seconds", value, limits.lease_seconds_min, limits.lease_seconds_max, " seconds, or 0,")


def delay(value: float, limits: Limits, field: str = "delay") -> None:
    """A delay's length."""
    number(field, value, 0.0, limits.delay_seconds_max, " seconds")


def retry_delay(verdict: Verdict, limits: Limits) -> None:
    """The worker's delay of the next attempt: only allowed with a failure that is to be retried."""
    assert verdict.retry_delay is not None
    if verdict.outcome is not FAILED or not verdict.retry:
        raise BadRequest("retry_delay", "is allowed only with the outcome failed, and without retry: false")
    delay(verdict.retry_delay, limits, "retry_delay")


def backoff(value: Backoff, limits: Limits, field: str = "backoff") -> None:
    """A backoff's base, factor and cap."""
    number(f"{field}.base", value.base, 0.0, limits.delay_seconds_max, " seconds")
    number(f"{field}.factor", value.factor, 1.0, 100.0)
    number(f"{field}.cap", value.cap, 0.0, limits.delay_seconds_max, " seconds")


def max_attempts(value: int, limits: Limits) -> None:
    """A job's maximum number of attempts."""
    number("max_attempts", value, 1, limits.max_attempts_max)


def json_size(field: str, value: bytes, limits: Limits) -> None:
    """The size of a payload, a result or an error."""
    if len(value) > limits.payload_bytes_max:
        raise TooLarge(field, f"has {len(value)} bytes; {limits.payload_bytes_max} are allowed")


def payload(value: bytes, limits: Limits, headers: tuple[Header, ...] = ()) -> None:
    """The size of a payload together with its headers. A JSON string counts as the text that it encodes, however it is escaped; this is
    computed only if the JSON is too long.
    """
    beside = headers_bytes(headers) if headers else 0
    size = len(value) + beside
    if size > limits.payload_bytes_max and value.startswith(b'"'):
        with contextlib.suppress(msgspec.DecodeError, ValueError):
            # Text that cannot be decoded is not a string that could be given to a worker.
            size = len(_decode_text(value).encode()) + beside
    if size > limits.payload_bytes_max:
        if beside:
            raise TooLarge("headers", f"has {size} bytes with the payload; {limits.payload_bytes_max} are allowed")
        raise TooLarge("payload", f"has {size} bytes; {limits.payload_bytes_max} are allowed")


def headers(value: JobSpec, limits: Limits) -> None:
    """A job's headers."""
    if len(value.headers) > limits.headers_max:
        raise BadRequest("headers", f"has {len(value.headers)} headers; {limits.headers_max} are allowed")
    for header in value.headers:
        if HEADER_NAME.fullmatch(header.name) is None:
            raise BadRequest("headers", f"{header.name[:80]!r} is not a header name; use 1 to 256 characters of A-Z a-z 0-9 . _ -")
        field = f"headers.{header.name}"[:200]
        if HEADER_TYPE.fullmatch(header.type) is None:
            raise BadRequest(
                field, f"{header.type[:80]!r} is not a header type; use String, Number or Binary, perhaps with a dot and a label"
            )
        if not header.value:
            raise BadRequest(field, "is empty")
        if not header.type.startswith("Binary"):
            try:
                header.value.decode()
            except UnicodeDecodeError:
                raise BadRequest(field, f"is not UTF-8, as a {header.type.partition('.')[0]} is") from None
    if len({header.name for header in value.headers}) < len(value.headers):
        raise BadRequest("headers", "has a name more than once")
    payload(value.payload, limits, value.headers)


def spec(value: JobSpec, limits: Limits) -> bool:
    """A whole job as requested; returns whether it has details. The names of its queue and type are checked where they are first used."""
    if len(value.payload) > limits.payload_bytes_max:
        payload(value.payload, limits)
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
        and not value.tags
        and value.unique is None
        and not value.after
        and value.after_failure == "cancel"
        and value.group is None
        and not value.headers
    ):
        return False
    _details(value, limits)
    return True


def _details(value: JobSpec, limits: Limits) -> None:
    if value.description is not None:
        text("description", value.description, limits.text_chars_max, forbidden=CONTROL_BUT_LINES)
    if value.traceparent is not None and TRACEPARENT.fullmatch(value.traceparent) is None:
        raise BadRequest("traceparent", "is not in the format of W3C Trace Context, 00-<32 hex digits>-<16 hex digits>-01")
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
    if value.tags:
        tags(value.tags, limits)
    if value.unique is not None:
        unique(value.unique, limits)
    if value.headers:
        headers(value, limits)
    parents(value, limits)


def parents(value: JobSpec, limits: Limits) -> None:
    """A job's parents and its group."""
    if value.group is not None:
        name("group", value.group)
    if not value.after and value.after_failure != "cancel":
        raise BadRequest("after_failure", "is allowed only with after")
    if len(value.after) > limits.parents_max:
        raise BadRequest("after", f"names {len(value.after)} jobs; {limits.parents_max} are allowed")
    for parent in value.after:
        text("after", parent, limits.id_chars_max, 1)
    if len({*value.after}) < len(value.after):
        raise BadRequest("after", "has a job more than once")


def change(value: JobChange, limits: Limits) -> None:
    """A change of a job."""
    if isinstance(value.payload, bytes):
        payload(value.payload, limits)
    if isinstance(value.queue, str):
        name("queue", value.queue)
    if isinstance(value.description, str):
        text("description", value.description, limits.text_chars_max, forbidden=CONTROL_BUT_LINES)
    if isinstance(value.priority, int):
        number("priority", value.priority, 0, PRIORITIES - 1)
    if value.delay is not UNSET:
        delay(value.delay, limits)
        if value.run_at is not UNSET:
            raise BadRequest("run_at", "excludes delay; send one of them")
    if value.expires_in is not UNSET and value.expires_in is not None:
        number("expires_in", value.expires_in, 0.001, limits.expires_seconds_max, " seconds")
    if isinstance(value.tags, tuple):
        tags(value.tags, limits)


def tags(value: tuple[str, ...], limits: Limits) -> None:
    """A job's tags."""
    if len(value) > limits.tags_max:
        raise BadRequest("tags", f"has {len(value)} tags; {limits.tags_max} are allowed")
    for tag in value:
        text("tags", tag, limits.tag_chars_max, 1)
        if value.count(tag) > 1:
            raise BadRequest("tags", f"has {tag!r} more than once")


def unique(value: Unique, limits: Limits) -> None:
    """A job's unique key and its options."""
    text("unique.key", value.key, limits.key_chars_max, 1)
    if value.for_ is not None:
        number("unique.for", value.for_, 0.001, limits.unique_seconds_max, " seconds")
    elif value.until == "enqueued":
        raise BadRequest("unique.for", "is missing; with until enqueued, it is the time for which the key is held")
    if value.max_wait is not None:
        if value.on_conflict != "replace":
            raise BadRequest("unique.max_wait", "is allowed only with on_conflict replace")
        number("unique.max_wait", value.max_wait, 0.0, limits.delay_seconds_max, " seconds")


def run_at(value: float, now: float, limits: Limits) -> None:
    """The time before which a job does not run; the past is allowed and means now."""
    if not math.isfinite(value) or value - now > limits.delay_seconds_max:
        raise BadRequest("run_at", f"is more than {limits.delay_seconds_max:.15g} seconds ahead")


def rate(value: Rate, field: str = "rate") -> None:
    """A rate's limit, time and burst."""
    number(f"{field}.limit", value.limit, 1, 1_000_000)
    number(f"{field}.per", value.per, 1.0, DAY, " seconds")
    number(f"{field}.burst", value.burst, 1, value.limit)


def per_key(value: PerKey, limits: Limits) -> None:
    """The limits for each key of a queue."""
    if value.concurrency is not None:
        number("per_key.concurrency", value.concurrency, 1, 10_000)
        if value.order != "none" and value.concurrency != 1:
            raise BadRequest("per_key.concurrency", f"must be 1, or left out, where the order is {value.order}")
    if value.rate is not None:
        rate(value.rate, "per_key.rate")
    if value.max_jobs is not None:
        number("per_key.max_jobs", value.max_jobs, 1, limits.jobs_max)


def weights(value: dict[str, float], limits: Limits) -> None:
    """The weights of a fair queue's keys."""
    if len(value) > limits.weights_max:
        raise BadRequest("weights", f"names {len(value)} keys; {limits.weights_max} are allowed")
    for of, weight in value.items():
        try:
            key(of, limits)
        except BadRequest as error:
            raise BadRequest("weights", f"names a key that {error.reason}") from None
        number(f"weights.{of}", weight, 0.01, 100.0)


def keep(field: str, value: Keep | None) -> None:
    """How much history keeps of a queue's concluded jobs."""
    if value is None:
        return
    if value.seconds is None and value.count is None:
        raise BadRequest(field, "has neither seconds nor count; with null the server's bounds apply")
    if value.seconds is not None:
        number(f"{field}.seconds", value.seconds, 1.0, 3_650 * DAY, " seconds")
    if value.count is not None:
        number(f"{field}.count", value.count, 0, 1_000_000_000)


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
    if value.max_attempts is not None:
        max_attempts(value.max_attempts, limits)
    backoff(value.backoff, limits)
    if value.max_jobs is not None:
        number("max_jobs", value.max_jobs, 1, limits.jobs_max)
    if value.dead_letter is not None:
        name("dead_letter", value.dead_letter)
    keep("keep_succeeded", value.keep_succeeded)
    keep("keep_failed", value.keep_failed)
    if value.delay is not None:
        delay(value.delay, limits)
    if value.expires_in is not None:
        number("expires_in", value.expires_in, 1.0, limits.expires_seconds_max, " seconds")
    if value.tags:
        queue_tags(value.tags, limits)
    if value.attributes:
        attributes(value.attributes, limits)


def queue_tags(value: dict[str, str], limits: Limits) -> None:
    """The tags that users give a queue."""
    if len(value) > limits.queue_tags_max:
        raise BadRequest("tags", f"has {len(value)} tags; {limits.queue_tags_max} are allowed")
    for tag, said in value.items():
        _named("tags", tag, 128)
        text(f"tags.{tag}", said, 256)


def attributes(value: dict[str, str], limits: Limits) -> None:
    """The attributes that a dialect stores in a queue."""
    if len(value) > limits.attributes_max:
        raise BadRequest("attributes", f"has {len(value)} attributes; {limits.attributes_max} are allowed")
    size = 0
    for attribute, said in value.items():
        _named("attributes", attribute, 64)
        text(f"attributes.{attribute}", said, limits.attributes_bytes_max, forbidden=CONTROL_BUT_LINES)
        size += text_bytes(attribute) + text_bytes(said)
    if size > limits.attributes_bytes_max:
        raise BadRequest("attributes", f"has {size} bytes; {limits.attributes_bytes_max} are allowed")


def _named(field: str, value: str, chars_max: int) -> None:
    """The name given in `field`."""
    try:
        text(field, value, chars_max, 1)
    except BadRequest as error:
        raise BadRequest(field, f"has a name that {error.reason}") from None


def want(value: Want, limits: Limits, known: Container[str] = ()) -> None:
    """A dequeue request. known: names of existing queues, which need no check."""
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
    if value.about is not None:
        about(value.about, value.worker, limits)


def about(value: About, worker: str | None, limits: Limits) -> None:
    """What a worker reports about itself."""
    if worker is None:
        raise BadRequest("worker", "is missing; it is required with the other fields about the worker")
    if value.host is not None:
        text("host", value.host, 255, 1)
    if value.concurrency is not None:
        number("concurrency", value.concurrency, 1, 1_000_000)
    if value.version is not None:
        text("version", value.version, 64, 1)
    if value.started is not None:
        number("started", value.started, 0.0, 253_402_300_799.0)
