"""The commands that show and change jobs: get, why, list, cancel, edit, forget, run, retry."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import SINCE, TIME, WAIT, WHEN, Failure, exit_code_of, usage, verb
from jobqueue.commands.output import Output
from jobqueue.commands.payloads import read_payload
from jobqueue.commands.reasons import halts, sentences
from jobqueue.commands.shapes import JOB_COLUMNS, counted, job_fields, job_row, state, utc_now
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
    click.option("--wait", type=WAIT, default="0", help="Wait this long until the job is concluded; or forever."),
)
def get_command(client: Client, output: Output, job_id: str, wait: float) -> int:
    """Show a job, or wait until it is concluded.

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
    """Everything about a job, including what it waits for if that is more than a time, and the key that it halts."""
    found = job_fields(job)
    if job.status is Status.QUEUED:
        found += [("waits for", text) for text in sentences(job, utc_now())]
    if job.halts:
        found.append(("halts", halts(job)))
    return found


@verb("why", click.argument("job_id", metavar="ID"))
def why_command(client: Client, output: Output, job_id: str) -> None:
    """Say why a job is not running, with a sentence for each reason.

    For a job in progress it says where the job runs, and for a concluded job how it ended. If its failure halts its key,
    it says how to let the key continue.

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
    click.option("-o", "--outcome", type=click.Choice([outcome.value for outcome in Outcome]), help="Only jobs with this outcome."),
    click.option("-q", "--queue", metavar="NAME", help="Only jobs of this queue."),
    click.option("-t", "--type", "job_type", metavar="NAME", help="Only jobs of this type."),
    click.option("-k", "--key", metavar="KEY", help="Only jobs of this key."),
    click.option("--tag", metavar="TAG", help="Only jobs that have this tag."),
    click.option("--worker", metavar="NAME", help="Only jobs that this worker has, or had last."),
    click.option("--error", metavar="TEXT", help="Only jobs whose last error contains this."),
    click.option("--error-group", metavar="ID", help="Only jobs whose last error is in this group of `jobqueue errors`."),
    click.option("--order", type=click.Choice(["created", "concluded"]), default="created", help="concluded: the last to end first."),
    click.option("--created-after", type=SINCE, help="Only jobs created since: 2027-01-31T08:00:00Z, or 2h for 2 hours ago."),
    click.option("--created-before", type=SINCE, help="Only jobs created before this time."),
    click.option("--retrying", is_flag=True, default=None, help="Only jobs that wait for their next attempt."),
    click.option("-n", "--limit", type=click.IntRange(1), metavar="N", help=f"List at most N jobs. [default: {_LIMITS.page_jobs_default}]"),
    click.option("--all", "every", is_flag=True, help="List all jobs."),
)
def list_command(
    client: Client, output: Output, limit: int | None, every: bool, job_type: str | None, **wanted: Any,
) -> None:  # fmt: skip
    """List jobs, newest first.

    AGE is the time since a job was enqueued, TRIES are its attempts so far, NOTE is its progress, its last error or its description.

    \b
    Examples:
      jobqueue list --queue mail --status queued
      jobqueue list --tag import --error "timed out" --created-after 1h
      jobqueue list --outcome failed --all --json | jq -r .id | xargs jobqueue retry
    """
    if every and limit is not None:
        usage("give --limit or --all, not both")
    most = None if every else limit or _LIMITS.page_jobs_default
    page = min(most or _LIMITS.page_jobs_max, _LIMITS.page_jobs_max)
    found: Iterator[JobInfo] = client.all_jobs(**wanted, type=job_type, limit=page)
    if output.as_json:
        for job in islice(found, most):
            output.json(job)
        return
    now = utc_now()
    rows = [job_row(job, now) for job in islice(found, None if most is None else most + 1)]
    more = most is not None and len(rows) > most
    output.table(JOB_COLUMNS, rows[:most], "no jobs")
    if more and output.terminal:
        output.note("there are more; use --limit N or --all")


def _each(
    output: Output, job_ids: tuple[str, ...], change: Callable[[str], JobInfo], became: Callable[[JobInfo], str] | None = None
) -> int:
    """Change each job, even if some fail. became: the text to print for a job, by default its state. If there is only one job, raises its
    error.
    """
    if len(job_ids) == 1:
        _changed(output, change(job_ids[0]), became)
        return Exit.DONE
    worst = Exit.DONE
    output.acts = True
    for job_id in job_ids:
        try:
            _changed(output, change(job_id), became)
        except QueueError as error:
            code = exit_code_of(error)
            if code is Exit.UNREACHABLE:
                raise
            Failure(error.detail, code=error.code, exit_code=code, field=error.field, output=output).show()
            worst = Exit.ERROR
    return worst


def _changed(output: Output, job: JobInfo, became: Callable[[JobInfo], str] | None = None) -> None:
    if output.as_json:
        output.json(job)
    else:
        output.line(f"{job.id}  {(became or state)(job)}")


def left_out(refused: Mapping[str, int]) -> str:
    """Why some of many jobs were not changed: each code and its count; "" if none."""
    told = sorted(refused.items())
    return "".join(f"; {count} left as {'it was' if count == 1 else 'they were'}: {code}" for code, count in told)


_IDS: Any = click.argument("job_ids", metavar="ID...", nargs=-1)


@verb("cancel", click.argument("job_ids", metavar="ID...", nargs=-1, required=True))
def cancel_command(client: Client, output: Output, job_ids: tuple[str, ...]) -> int:
    """Cancel jobs that are not concluded.

    A job that waits is concluded as cancelled at once. A job in progress is shown as cancelling until its worker has
    stopped it. A failed job that halts its key stays failed, and the key continues.

    \b
    Example:
      jobqueue cancel order-17 order-18
    """
    return _each(output, job_ids, client.cancel)


def edits(prefix: str = "") -> tuple[Any, ...]:
    """The options for changing a job, with `prefix` before their names."""
    return (
        click.option(f"--{prefix}payload", metavar="JSON", help="The new payload."),
        click.option(*([] if prefix else ["-q"]), f"--{prefix}queue", metavar="NAME", help="Move the job to the back of this queue."),
        click.option(f"--{prefix}description", metavar="TEXT", help="A text for people."),
        click.option(
            f"--{prefix}priority", type=click.IntRange(0, 9), help="0 is the most urgent. A new priority puts the job at the back."
        ),
        click.option(f"--{prefix}delay", type=TIME, help="Do not start it before this time from now; 0 for at once."),
        click.option(f"--{prefix}run-at", type=WHEN, help="Do not start it before this time, as 2027-01-31T08:00:00Z."),
        click.option(f"--{prefix}expires-in", type=TIME, help="Drop it if no worker has taken it within this time from now."),
        click.option(
            f"--{prefix}tag", f"{prefix.replace('-', '_')}tags", multiple=True, metavar="TAG", help="The new tags; can be repeated."
        ),
        click.option("--no-tags", is_flag=True, help="Remove all tags."),
    )


def change_of(given: dict[str, Any]) -> dict[str, Any]:
    """The changes that those options ask for."""
    tags, no_tags, payload = given.pop("tags"), given.pop("no_tags"), given.pop("payload")
    if given["delay"] is not None and given["run_at"] is not None:
        usage("give a delay or a start time, not both")
    if tags and no_tags:
        usage("give tags or --no-tags, not both")
    change = {name: value for name, value in given.items() if value is not None}
    if payload is not None:
        change["payload"] = read_payload(payload, None, False)
    if tags or no_tags:
        change["tags"] = tags
    return change


@verb("edit", click.argument("job_id", metavar="ID"), *edits())
def edit_command(client: Client, output: Output, job_id: str, **given: Any) -> None:
    """Change a job that waits. Options that you leave out change nothing.

    \b
    Examples:
      jobqueue edit order-17 --priority 0
      jobqueue edit order-17 --payload '{"total": 12}' --queue urgent
    """
    change = change_of(given)
    if not change:
        usage("say what to change")
    _changed(output, client.edit(job_id, **change))


@verb("forget", click.argument("job_ids", metavar="ID...", nargs=-1, required=True))
def forget_command(client: Client, output: Output, job_ids: tuple[str, ...]) -> int:
    """Remove concluded jobs from history, with payloads, results, errors and logs.

    It cannot be undone. A job that is not concluded is refused, and so is one that halts its key or that jobs which wait are after.
    `jobqueue bulk forget` does it to every job that matches.

    \b
    Examples:
      jobqueue forget order-17
      jobqueue list --tag customer-8 --status concluded --all --json | jq -r .id | xargs jobqueue forget
    """
    return _each(output, job_ids, client.forget, lambda _: "forgotten")


@verb("run", click.argument("job_ids", metavar="ID...", nargs=-1, required=True))
def run_command(client: Client, output: Output, job_ids: tuple[str, ...]) -> int:
    """Queue jobs now that wait for a later time.

    That is a delay, a start time, or the backoff after a failed attempt (the attempt still counts). If a job also waits for
    something else, such as other jobs, it continues to wait for that.

    \b
    Examples:
      jobqueue run order-17
      jobqueue list --status scheduled --queue mail --json | jq -r .id | xargs jobqueue run
    """

    def run(job_id: str) -> JobInfo:
        job = client.edit(job_id, delay=0)
        if job.status is Status.SCHEDULED:
            output.note(f"{job.id} also waits for something else; see `jobqueue why {shlex.quote(job.id)}`")
        return job

    return _each(output, job_ids, run)


@verb(
    "retry",
    _IDS,
    click.option("--failed", "queue", metavar="QUEUE", help="All failed jobs of this queue."),
    click.option("-t", "--type", "job_type", metavar="NAME", help="All failed jobs of this type."),
    click.option("--error", metavar="TEXT", help="All failed jobs whose last error contains this."),
    click.option("--error-group", metavar="ID", help="All failed jobs whose last error is in this group of `jobqueue errors`."),
)
def retry_command(
    client: Client,
    output: Output,
    job_ids: tuple[str, ...],
    queue: str | None,
    job_type: str | None,
    error: str | None,
    error_group: str | None,
) -> int:
    """Queue jobs again that failed, were cancelled or expired. They get all their attempts again.

    --failed, --type, --error and --error-group select jobs instead of ids; a job must match all of them. `jobqueue bulk retry` has more
    filters.

    \b
    Examples:
      jobqueue retry order-17
      jobqueue retry --failed mail
      jobqueue retry --failed mail --type welcome --error "timed out"
    """
    some = any(given is not None for given in (queue, job_type, error, error_group))
    if bool(job_ids) is some:
        usage("give the ids of jobs, or --failed and a queue, --type, --error or --error-group")
    if not some:
        return _each(output, job_ids, client.retry)
    refused: dict[str, int] = {}
    if queue is not None and job_type is error is error_group is None:
        count = client.retry_failed(queue)
    else:
        found = client.bulk("retry", outcome="failed", queue=queue, type=job_type, error=error, error_group=error_group)
        count, refused = found.done, found.refused
    if output.as_json:
        output.json({"retried": count, **({"refused": refused} if refused else {})})
    else:
        output.line(f"{counted(count, 'job')}{'' if queue is None else f' of {queue}'} queued again{left_out(refused)}")
    return Exit.DONE
