"""The verbs that look at jobs and change their fate: get, why, list, cancel, retry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import WAIT, Failure, exit_code_of, usage, verb
from jobqueue.commands.output import Output
from jobqueue.commands.reasons import halts, sentences
from jobqueue.commands.shapes import JOB_COLUMNS, job_fields, job_row, state, utc_now
from jobqueue.errors import QueueError
from jobqueue.limits import Limits
from jobqueue.model import Outcome, Status

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import Job, JobInfo

_LIMITS = Limits()


@verb(
    "get",
    click.argument("job_id", metavar="ID"),
    click.option("--wait", type=WAIT, default="0", help="Wait so long until it is concluded; or forever."),
)
def get_command(client: Client, output: Output, job_id: str, wait: float) -> int:
    """Look at a job, or wait until it is concluded.

    \b
    Examples:
      jobqueue get 0190f3a4-7f0b-7cc1-a111-35b1e3a4f0c2
      jobqueue get order-17 --wait 30s
      jobqueue get order-17 --wait forever --json | jq .result

    With --wait the exit code is 4 if the job failed, was cancelled or expired, and 3 if it has not concluded by then.
    """
    job = client.job(job_id, wait=wait)
    if output.as_json:
        output.json(job)
    else:
        output.fields(_fields(job))
    if not wait or job.outcome == Outcome.SUCCEEDED:
        return Exit.DONE
    return Exit.NOTHING if job.outcome is None else Exit.UNSUCCESSFUL


def _fields(job: Job) -> list[tuple[str, str]]:
    """Everything about a job, what it waits for where that is more than its time, and the key that it halts."""
    found = job_fields(job)
    if job.status is Status.QUEUED:
        found += [("waits for", text) for text in sentences(job, utc_now())]
    if job.halts:
        found.append(("halts", halts(job)))
    return found


@verb("why", click.argument("job_id", metavar="ID"))
def why_command(client: Client, output: Output, job_id: str) -> None:
    """Say why a job is not running: each reason as a sentence.

    Of a job in progress it says where it runs, of a concluded one how it ended, and how its key goes on if its failure halts that.

    \b
    Examples:
      jobqueue why order-17
      jobqueue why order-17 --json | jq -r '.waiting_for[].reason'

    A job that is unknown is exit code 3.
    """
    job = client.job(job_id)
    if output.as_json:
        output.json({name: getattr(job, name) for name in _WHY})
        return
    for text in sentences(job, utc_now()):
        output.line(text)


_WHY = (
    "id",
    "queue",
    "key",
    "status",
    "outcome",
    "worker",
    "started_at",
    "lease_expires_at",
    "concluded_at",
    "run_at",
    "halts",
    "waiting_for",
)


@verb(
    "list",
    click.option("-s", "--status", type=click.Choice([status.value for status in Status]), help="Only jobs of this status."),
    click.option("-o", "--outcome", type=click.Choice([outcome.value for outcome in Outcome]), help="Only jobs that ended so."),
    click.option("-q", "--queue", metavar="NAME", help="Only jobs of this queue."),
    click.option("-t", "--type", "job_type", metavar="NAME", help="Only jobs of this type."),
    click.option("-k", "--key", metavar="KEY", help="Only jobs of this key."),
    click.option("-n", "--limit", type=click.IntRange(1), metavar="N", help=f"At most so many. [default: {_LIMITS.page_jobs_default}]"),
    click.option("--all", "every", is_flag=True, help="All there are."),
)
def list_command(
    client: Client, output: Output, status: str | None, outcome: str | None, queue: str | None, job_type: str | None, key: str | None,
    limit: int | None, every: bool,
) -> None:  # fmt: skip
    """List jobs, newest first.

    AGE is the time since a job was enqueued, TRIES are its attempts so far, NOTE is its progress, its last error or its description.

    \b
    Examples:
      jobqueue list --queue mail --status queued
      jobqueue list --outcome failed --all --json | jq -r .id | xargs jobqueue retry
    """
    if every and limit is not None:
        usage("give --limit or --all, not both")
    most = None if every else limit or _LIMITS.page_jobs_default
    page = min(most or _LIMITS.page_jobs_max, _LIMITS.page_jobs_max)
    found: Iterator[JobInfo] = client.all_jobs(status=status, outcome=outcome, queue=queue, type=job_type, key=key, limit=page)
    if output.as_json:
        for job in islice(found, most):
            output.json(job)
        return
    now = utc_now()
    rows = [job_row(job, now) for job in islice(found, None if most is None else most + 1)]
    more = most is not None and len(rows) > most
    output.table(JOB_COLUMNS, rows[:most], "no jobs")
    if more and output.terminal:
        output.note("and more; --limit N or --all shows them")


def _each(output: Output, job_ids: tuple[str, ...], change: Callable[[str], JobInfo]) -> int:
    """Do something to each job, whatever becomes of the others. Raises the error of one that is alone."""
    if len(job_ids) == 1:
        _changed(output, change(job_ids[0]))
        return Exit.DONE
    worst = Exit.DONE
    for job_id in job_ids:
        try:
            _changed(output, change(job_id))
        except QueueError as error:
            code = exit_code_of(error)
            if code is Exit.UNREACHABLE:
                raise
            Failure(error.detail, code=error.code, exit_code=code, field=error.field, output=output).show()
            worst = Exit.ERROR
    return worst


def _changed(output: Output, job: JobInfo) -> None:
    if output.as_json:
        output.json(job)
    else:
        output.line(f"{job.id}  {state(job)}")


_IDS: Any = click.argument("job_ids", metavar="ID...", nargs=-1)


@verb("cancel", click.argument("job_ids", metavar="ID...", nargs=-1, required=True))
def cancel_command(client: Client, output: Output, job_ids: tuple[str, ...]) -> int:
    """Stop jobs that are not concluded.

    One that waits is concluded as cancelled at once. Of one in progress the worker is told, so it says: cancelling.
    One that failed and halts its key is given up: it stays failed, and the key goes on.

    \b
    Example:
      jobqueue cancel order-17 order-18
    """
    return _each(output, job_ids, client.cancel)


@verb("retry", _IDS, click.option("--failed", "queue", metavar="QUEUE", help="Every job of this queue that failed."))
def retry_command(client: Client, output: Output, job_ids: tuple[str, ...], queue: str | None) -> int:
    """Queue jobs again that failed, were cancelled or expired. They have all their attempts again.

    \b
    Examples:
      jobqueue retry order-17
      jobqueue retry --failed mail
    """
    if bool(job_ids) is (queue is not None):
        usage("give the ids of jobs, or --failed and a queue")
    if queue is None:
        return _each(output, job_ids, client.retry)
    count = client.retry_failed(queue)
    if output.as_json:
        output.json({"retried": count})
    else:
        output.line(f"{count} jobs of {queue} queued again")
    return Exit.DONE
