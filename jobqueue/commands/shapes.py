"""Jobs and queues as rows and fields for people: what is told of one, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from jobqueue.commands.output import Column
from jobqueue.model import Rate, Status

if TYPE_CHECKING:
    from jobqueue.client.types import Job, JobInfo, LeasedJob, Queue

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
    """How long ago, in the largest unit alone: 4s, 3m, 2h, 3d."""
    return since(time, now).partition(" ")[0]


def since(time: datetime | None, now: datetime) -> str:
    """How long ago, by this machine's clock."""
    return "" if time is None else span((now - time).total_seconds())


def stamp(time: datetime | None) -> str:
    """A time in this machine's zone, with its zone."""
    return "" if time is None else time.astimezone().isoformat(sep=" ", timespec="seconds")


def seconds(value: float) -> str:
    """A duration of a policy."""
    return f"{value:g}s"


def compact(value: Any) -> str:
    """A JSON value on one line; nothing for null."""
    return "" if value is None else msgspec.json.encode(value).decode()


def on_one_line(raw: bytes) -> str:
    """JSON text without the line ends it may have been sent with; nothing for null."""
    return "" if raw == b"null" else msgspec.json.format(bytes(raw), indent=-1).decode()


def reason(error: Any) -> str:
    """What went wrong, for people: the message of an error shaped as workers write it, else the whole of it."""
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        kind = error.get("type")
        return f"{kind}: {error['message']}" if isinstance(kind, str) else str(error["message"])
    return error if isinstance(error, str) else compact(error)


def state(job: JobInfo) -> str:
    """The one word for where a job is."""
    if job.outcome is not None:
        return job.outcome.value
    if job.cancel_requested:
        return "cancelling"
    return job.status.value


def _note(job: JobInfo) -> str:
    """The most telling thing about a job at the moment."""
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


def job_fields(job: Job) -> list[tuple[str, str]]:
    """Everything about a job."""
    return [
        ("id", job.id),
        ("status", state(job)),
        ("queue", job.queue),
        ("type", job.type or ""),
        ("key", job.key or ""),
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
        ("payload", on_one_line(job.raw_payload) or "null"),
        ("result", on_one_line(job.raw_result)),
        ("error", reason(job.error)),
    ]


def leased_fields(job: LeasedJob) -> list[tuple[str, str]]:
    """What a worker by hand needs."""
    return [
        ("id", job.id),
        ("lease", job.lease.token),
        ("lease ends", stamp(job.lease.expires_at)),
        ("queue", job.queue),
        ("type", job.type or ""),
        ("description", job.description or ""),
        ("attempts", str(job.attempts)),
        ("last error", reason(job.error)),
        ("payload", on_one_line(job.raw_payload) or "null"),
    ]


QUEUE_COLUMNS = (
    Column("QUEUE", cut=16),
    Column("STATE", keep=8, style=status_style),
    Column("QUEUED", right=True),
    Column("SCHEDULED", keep=7, right=True),
    Column("IN_PROGRESS", right=True),
    Column("WAITERS", keep=6, right=True),
    Column("OLDEST", keep=5, right=True),
    Column("ENQUEUED", keep=2, right=True),
    Column("SUCCEEDED", keep=3, right=True),
    Column("FAILED", keep=4, right=True),
)


def queue_state(queue: Queue) -> str:
    """One word for how a queue is. A backlog that its limits or keys explain is limited, not one that nobody takes from."""
    if queue.policy.paused:
        return "paused"
    if queue.held_by.get("halted"):
        return "halted"
    return "limited" if queue.held and 2 * queue.held >= queue.queued else "open"


def rate(value: Rate) -> str:
    """A rate as it is written: 100/60s, and :10 where 10 may go at once."""
    return f"{value.limit}/{value.per:g}s" + (f":{value.burst}" if value.burst > 1 else "")


def used_up(used: int, total: int) -> str:
    """How much of a limit is used: more than all of it after it was lowered."""
    return f"{used:,} of {total:,} in progress" if used <= total else f"{used:,} in progress, {total:,} allowed"


def _limits(queue: Queue, now: datetime) -> list[tuple[str, str]]:
    """What holds jobs of a queue back; nothing of a plain one."""
    policy = queue.policy
    each, concurrency = policy.per_key, policy.concurrency
    slot = "" if queue.rate_next_at is None else f", next slot in {max(0.0, (queue.rate_next_at - now).total_seconds()):.1f} s"
    of_each = [] if each is None else [
        "" if each.order == "none" else f"order {each.order}",
        "" if each.concurrency is None else f"{each.concurrency} in progress",
        "" if each.rate is None else f"rate {rate(each.rate)}",
        "" if each.max_jobs is None else f"{each.max_jobs} jobs",
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
    counts = (queue.queued, queue.scheduled, queue.in_progress, queue.waiters)
    totals = (queue.totals.enqueued, queue.totals.succeeded, queue.totals.failed)
    oldest = since(queue.oldest_queued_at, now)
    return (queue.name, queue_state(queue), *map(str, counts), oldest, *map(str, totals))


def queue_fields(queue: Queue, now: datetime) -> list[tuple[str, str]]:
    """Everything about a queue."""
    policy, backoff = queue.policy, queue.policy.backoff
    return [
        ("queue", queue.name),
        ("state", queue_state(queue)),
        ("queued", str(queue.queued)),
        ("scheduled", str(queue.scheduled)),
        ("in progress", str(queue.in_progress)),
        ("waiters", str(queue.waiters)),
        ("oldest", since(queue.oldest_queued_at, now)),
        ("lease", seconds(policy.lease_seconds)),
        ("max attempts", str(policy.max_attempts)),
        ("backoff", f"random, up to {seconds(backoff.base)}, times {backoff.factor:g} each attempt, at most {seconds(backoff.cap)}"),
        ("max jobs", "no bound of its own" if policy.max_jobs is None else str(policy.max_jobs)),
        *_limits(queue, now),
        *((f"{name} in all", str(getattr(queue.totals, name))) for name in queue.totals.__struct_fields__),
    ]


def utc_now() -> datetime:
    """Now, with its zone."""
    return datetime.now(UTC)
