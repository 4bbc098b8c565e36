"""Jobs and queues as rows and fields for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from jobqueue.commands.output import Column
from jobqueue.model import Status
from jobqueue.policy import Keep, Rate

if TYPE_CHECKING:
    from jobqueue.client.header_types import Header
    from jobqueue.client.totals import Failures
    from jobqueue.client.types import Job, JobInfo, LeasedJob, Queue, UniqueInfo

STATUS_STYLES = {
    "scheduled": "cyan",
    "queued": "blue",
    "in_progress": "yellow",
    "cancelling": "yellow",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "magenta",
    "expired": "magenta",
    "paused": "yellow",
    "limited": "cyan",
    "halted": "red",
    "failing": "red",
    "running": "green",
}


def status_style(text: str) -> str:
    """The colour of a status."""
    return STATUS_STYLES.get(text, "")


def span(seconds: float) -> str:
    """A time span, in its two largest units: 4s, 3m, 2h 5m, 3d 4h."""
    whole = max(0, int(seconds))
    for size, unit, smaller, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{unit}" + (f" {rest}{small}" if rest else "")
    return f"{whole}s"


def age(time: datetime, now: datetime) -> str:
    """How long ago, only in the largest unit: 4s, 3m, 2h, 3d."""
    return since(time, now).partition(" ")[0]


def counted(count: int, one: str) -> str:
    """A number of things: 1 job, 2 jobs."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def since(time: datetime | None, now: datetime) -> str:
    """How long ago, by this machine's clock."""
    return "" if time is None else span((now - time).total_seconds())


def stamp(time: datetime | None) -> str:
    """A time in this machine's zone, with its zone."""
    return "" if time is None else time.astimezone().isoformat(sep=" ", timespec="seconds")


def seconds(value: float) -> str:
    """A duration in a policy."""
    return f"{value:g}s"


def compact(value: Any) -> str:
    """A JSON value on one line; empty for null."""
    return "" if value is None else msgspec.json.encode(value).decode()


def on_one_line(raw: bytes) -> str:
    """JSON text without its line ends; empty for null."""
    return "" if raw == b"null" else msgspec.json.format(bytes(raw), indent=-1).decode()


def reason(error: Any) -> str:
    """An error for people: the message, if it has the form that workers use, otherwise the whole error."""
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        kind = error.get("type")
        return f"{kind}: {error['message']}" if isinstance(kind, str) else str(error["message"])
    return error if isinstance(error, str) else compact(error)


def state(job: JobInfo) -> str:
    """The state of a job, in one word."""
    if job.outcome is not None:
        return job.outcome.value
    if job.cancel_requested:
        return "cancelling"
    return job.status.value


def _note(job: JobInfo) -> str:
    """The most useful information about a job at the moment."""
    if job.status is Status.IN_PROGRESS and (job.progress is not None or job.message):
        return " ".join(filter(None, ("" if job.progress is None else f"{job.progress:.0%}", job.message)))
    error = reason(job.error) if job.status is not Status.CONCLUDED or job.outcome == "failed" else ""
    return error or job.description or ""


JOB_COLUMNS = (
    Column("ID"),
    Column("STATUS", style=status_style),
    Column("QUEUE", keep=7, cut=12),
    Column("TYPE", keep=6, cut=10),
    Column("AGE", keep=8, right=True),
    Column("TRIES", keep=5, right=True),
    Column("PRIO", keep=3, right=True),
    Column("NOTE", keep=4, cut=24, style="dim"),
)


def job_row(job: JobInfo, now: datetime) -> tuple[str, ...]:
    """A job in a table."""
    tries = str(job.attempts) if job.max_attempts is None else f"{job.attempts}/{job.max_attempts}"
    return (job.id, state(job), job.queue, job.type or "", age(job.created_at, now), tries, str(job.priority), _note(job))


def held(unique: UniqueInfo) -> str:
    """A job's unique key, and whether the job holds it."""
    said = [unique.key, "held by this job" if unique.holds else "not held by this job"]
    return ", ".join([*said, *([] if unique.held_until is None else [f"until {stamp(unique.held_until)} at least"])])


ORIGINS = {"failed": "failed there", "lease_expired": "its last lease there ran out"}
"""How a dead letter failed for good."""


def _headers(headers: Mapping[str, str | Header]) -> list[tuple[str, str]]:
    """A job's headers, in the format of --header."""
    told = (f"{name}={value}" if isinstance(value, str) else f"{name}:{value.type}={value.value}" for name, value in headers.items())
    return [("headers" if at == 0 else "", line) for at, line in enumerate(told)]


def job_fields(job: Job) -> list[tuple[str, str]]:
    """Everything about a job."""
    return [
        ("id", job.id),
        ("status", state(job)),
        ("queue", job.queue),
        ("schedule", "" if (made := job.schedule) is None else f"{made.name}, {stamp(made.slot) or 'run by hand'}"),
        ("origin", "" if (origin := job.origin) is None else f"{origin.queue}, {ORIGINS[origin.reason]} at {stamp(origin.at)}"),
        ("type", job.type or ""),
        ("key", job.key or ""),
        ("tags", ", ".join(job.tags)),
        ("unique", "" if job.unique is None else held(job.unique)),
        ("description", job.description or ""),
        ("priority", str(job.priority)),
        ("attempts", f"{job.attempts}" + (f" of {job.max_attempts}" if job.max_attempts else "")),
        ("created", stamp(job.created_at)),
        ("due", stamp(job.run_at)),
        ("expires", stamp(job.expires_at)),
        ("started", stamp(job.started_at)),
        ("concluded", stamp(job.concluded_at)),
        ("worker", job.worker or ""),
        ("lease ends", stamp(job.lease_expires_at)),
        ("progress", "" if job.progress is None else f"{job.progress:.0%}"),
        ("message", job.message or ""),
        *_headers(job.headers),
        ("payload", on_one_line(job.raw_payload) or "null"),
        ("result", on_one_line(job.raw_result)),
        ("error", reason(job.error)),
    ]


def leased_fields(job: LeasedJob) -> list[tuple[str, str]]:
    """What somebody needs who works on a job by hand."""
    return [
        ("id", job.id),
        ("lease", job.lease.token),
        ("lease ends", stamp(job.lease.expires_at)),
        ("queue", job.queue),
        ("type", job.type or ""),
        ("description", job.description or ""),
        ("attempts", str(job.attempts)),
        ("last error", reason(job.error)),
        *_headers(job.headers),
        ("payload", on_one_line(job.raw_payload) or "null"),
    ]


QUEUE_COLUMNS = (
    Column("QUEUE", cut=16),
    Column("STATE", keep=8, style=status_style),
    Column("QUEUED", right=True),
    Column("SCHEDULED", keep=7, right=True),
    Column("IN_PROGRESS", right=True),
    Column("WAITERS", keep=6, right=True),
    Column("FAILING", keep=6, right=True),
    Column("OLDEST", keep=5, right=True),
    Column("ENQUEUED", keep=2, right=True),
    Column("SUCCEEDED", keep=3, right=True),
    Column("FAILED", keep=4, right=True),
    Column("PAUSED", keep=5),
)


def queue_state(queue: Queue) -> str:
    """The state of a queue, in one word. limited means that limits or keys explain the backlog, and not a lack of workers."""
    if queue.policy.paused:
        return "paused"
    if queue.held_by.get("halted"):
        return "halted"
    return "limited" if queue.held and 2 * queue.held >= queue.queued else "open"


def paused_since(paused_at: datetime | None, paused_by: str | None, now: datetime) -> str:
    """How long ago something was paused, and with which token; "" if that is not known."""
    return "" if paused_at is None else f"{since(paused_at, now)} ago" + (f" by {paused_by}" if paused_by else "")


def rate(value: Rate) -> str:
    """A rate in its written form: 100/60s, with :10 if 10 can go at once."""
    return f"{value.limit}/{value.per:g}s" + (f":{value.burst}" if value.burst > 1 else "")


def used_up(used: int, total: int) -> str:
    """How much of a limit is used, which can be more than the limit after it was lowered."""
    return f"{used:,} of {total:,} in progress" if used <= total else f"{used:,} in progress, {total:,} allowed"


def _limits(queue: Queue, now: datetime) -> list[tuple[str, str]]:
    """What holds jobs of a queue back; empty for a queue without limits."""
    policy = queue.policy
    each, concurrency = policy.per_key, policy.concurrency
    slot = "" if queue.rate_next_at is None else f", next slot in {max(0.0, (queue.rate_next_at - now).total_seconds()):.1f} s"
    of_each = [] if each is None else [
        "" if each.order == "none" else f"order {each.order}",
        "" if each.concurrency is None else f"{each.concurrency} in progress",
        "" if each.rate is None else f"rate {rate(each.rate)}",
        "" if each.max_jobs is None else counted(each.max_jobs, "job"),
    ]  # fmt: skip
    held = ", ".join(f"{count} by {reason}" for reason, count in queue.held_by.items() if count)
    weights = ", ".join(f"{key}={weight:g}" for key, weight in policy.weights.items())
    return [
        ("held", f"{queue.held} of {queue.queued} queued: {held}" if queue.held else ""),
        ("concurrency", "" if concurrency is None else used_up(queue.in_progress, concurrency)),
        ("rate", "" if policy.rate is None else rate(policy.rate) + slot),
        ("per key", ", ".join(filter(None, of_each))),
        ("fair", ("yes" + (f", weights {weights}" if weights else "")) if policy.fair else ""),
        ("keys", str(queue.keys) if policy.keyed else ""),
    ]


def queue_row(queue: Queue, now: datetime) -> tuple[str, ...]:
    """A queue in a table."""
    counts = (queue.queued, queue.scheduled, queue.in_progress, queue.waiters, queue.failures.attempts_5m)
    totals = (queue.totals.enqueued, queue.totals.succeeded, queue.totals.failed)
    oldest = since(queue.oldest_queued_at, now)
    paused = paused_since(queue.paused_at, queue.paused_by, now)
    return (queue.name, queue_state(queue), *map(str, counts), oldest, *map(str, totals), paused)


def kept(keep: Keep | None) -> str:
    """What history keeps of a queue's jobs."""
    if keep is None:
        return "what the server's bounds say"
    parts = (None if keep.seconds is None else f"for {span(keep.seconds)}", None if keep.count is None else f"the last {keep.count}")
    return ", ".join(part for part in parts if part is not None)


def pairs(named: Mapping[str, str]) -> str:
    """Named values, in the format of the options."""
    return ", ".join(f"{name}={value}" for name, value in named.items())


def failed_lately(failures: Failures) -> dict[str, int]:
    """Recent failures, each count with its name for people."""
    found = {"retrying": failures.retrying}
    for what in ("jobs", "attempts"):
        found.update({f"{what} failed in {minutes} min": getattr(failures, f"{what}_{minutes}m") for minutes in (1, 5, 60)})
    return found


def queue_fields(queue: Queue, now: datetime) -> list[tuple[str, str]]:
    """Everything about a queue."""
    policy, backoff = queue.policy, queue.policy.backoff
    return [
        ("queue", queue.name),
        ("state", queue_state(queue)),
        ("paused", paused_since(queue.paused_at, queue.paused_by, now)),
        ("queued", str(queue.queued)),
        ("scheduled", str(queue.scheduled)),
        ("in progress", str(queue.in_progress)),
        ("waiters", str(queue.waiters)),
        *((name, str(count)) for name, count in failed_lately(queue.failures).items()),
        ("oldest", since(queue.oldest_queued_at, now)),
        ("lease", seconds(policy.lease_seconds)),
        ("max attempts", "no bound" if policy.max_attempts is None else str(policy.max_attempts)),
        ("dead letter", policy.dead_letter or ""),
        ("backoff", f"random, up to {seconds(backoff.base)}, times {backoff.factor:g} each attempt, at most {seconds(backoff.cap)}"),
        ("max jobs", "no bound of its own" if policy.max_jobs is None else str(policy.max_jobs)),
        ("keep succeeded", kept(policy.keep_succeeded)),
        ("keep failed", kept(policy.keep_failed)),
        ("delay", seconds(policy.delay) if policy.delay else ""),
        ("expires in", "" if policy.expires_in is None else seconds(policy.expires_in)),
        ("tags", pairs(policy.tags)),
        ("attributes", pairs(policy.attributes)),
        ("created", since(queue.created_at, now)),
        ("modified", since(queue.modified_at, now)),
        *_limits(queue, now),
        *((f"{name.replace('_', ' ')} in all", str(getattr(queue.totals, name))) for name in queue.totals.__struct_fields__),
    ]


def utc_now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(UTC)
