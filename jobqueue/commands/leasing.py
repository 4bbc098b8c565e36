"""The commands for working on jobs by hand: dequeue, extend, release and conclude."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import TIME, WAIT, usage, verb
from jobqueue.commands.output import Output
from jobqueue.commands.payloads import given
from jobqueue.commands.shapes import leased_fields, stamp, state
from jobqueue.limits import Limits
from jobqueue.model import DEFAULT_QUEUE

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import LeasedJob


@verb(
    "dequeue",
    click.option("-q", "--queue", "queues", multiple=True, metavar="NAME", help="A queue; several in order of preference. [default]"),
    click.option("--wait", type=WAIT, default="0", help="How long to wait for a job; or forever. [default: not at all]"),
    click.option("--lease", type=TIME, help="Length of the lease. [as the job or its queue says]"),
    click.option("-n", "--limit", type=click.IntRange(1, Limits().batch_jobs_max), metavar="N", help="Take at most N jobs. [default: 1]"),
    click.option("--worker", metavar="NAME", help="The worker's name; shown with the job."),
)
def dequeue_command(
    client: Client, output: Output, queues: tuple[str, ...], wait: float, lease: float | None, limit: int | None, worker: str | None
) -> int:
    """Take a job, or wait for one.

    You hold the job until its lease ends: conclude it by then. The exit code is 3 if the wait is over without a job.

    \b
    Examples:
      jobqueue dequeue --queue mail --wait 30s
      job=$(jobqueue dequeue --wait forever --json) && echo "$job" | jq .payload
    """
    names = queues or (DEFAULT_QUEUE,)
    taken: list[LeasedJob] = []
    if limit is None:
        job = client.dequeue(names, wait=wait, lease_seconds=lease, worker=worker)
        taken = [] if job is None else [job]
    else:
        taken = client.dequeue_batch(names, limit=limit, wait=wait, lease_seconds=lease, worker=worker)
    for at, job in enumerate(taken):
        if output.as_json:
            output.json(job)
        else:
            if at:
                output.line("")
            output.fields(leased_fields(job))
    if not taken:
        output.note(f"no job in {', '.join(names)}")
        return Exit.NOTHING
    return Exit.DONE


_TOKEN = click.option("--lease", required=True, metavar="TOKEN", help="The lease token that dequeue printed.")


@verb(
    "extend",
    click.argument("job_id", metavar="ID"),
    _TOKEN,
    click.option("--for", "seconds", type=TIME, help="How long the lease lasts from now. [default: its original length]"),
    click.option("--progress", type=click.FloatRange(0, 1), metavar="N", help="How far the work is, from 0 to 1."),
    click.option("--message", metavar="TEXT", help="A progress message for people."),
)
def extend_command(
    client: Client, output: Output, job_id: str, lease: str, seconds: float | None, progress: float | None, message: str | None
) -> None:
    """Extend the lease of a job that was taken with dequeue.

    It prints cancelling if the job has been cancelled: then stop working on it.

    \b
    Examples:
      jobqueue extend order-17 --lease 8f2c...
      jobqueue extend order-17 --lease 8f2c... --for 10m --progress 0.5 --message 'page 2 of 4'
    """
    extended = client.extend(job_id, lease, lease_seconds=seconds, progress=progress, message=message)
    if output.as_json:
        output.json(extended)
    else:
        cancelling = "  cancelling" if extended.cancel_requested else ""
        output.line(f"{extended.id}  lease until {stamp(extended.expires_at)}{cancelling}")


@verb(
    "release",
    click.argument("job_id", metavar="ID"),
    _TOKEN,
    click.option("--delay", type=TIME, default="0", help="The job becomes available only after this time."),
)
def release_command(client: Client, output: Output, job_id: str, lease: str, delay: float) -> None:
    """Return a job that was taken with dequeue to its queue. The attempt does not count.

    It keeps its place in the queue.

    \b
    Examples:
      jobqueue release order-17 --lease 8f2c...
      jobqueue release order-17 --lease 8f2c... --delay 5m
    """
    released = client.release(job_id, lease, delay=delay)
    if output.as_json:
        output.json(released)
    else:
        output.line(f"{released.id}  {state(released)}")


@verb(
    "conclude",
    click.argument("job_id", metavar="ID"),
    _TOKEN,
    click.option("--result", metavar="JSON", help="The job succeeded with this result."),
    click.option("--error", metavar="JSON", help="The job failed with this error."),
    click.option("--failed", is_flag=True, help="The job failed; --error implies it."),
    click.option("--text", is_flag=True, help="The result or the error is a plain string, not JSON."),
    click.option("--no-retry", is_flag=True, help="The failure is final, even if attempts are left."),
    click.option("--late", is_flag=True, help="Accept the success even after the lease ran out, if no other worker got the job."),
)
def conclude_command(
    client: Client,
    output: Output,
    job_id: str,
    lease: str,
    result: str | None,
    error: str | None,
    failed: bool,
    text: bool,
    no_retry: bool,
    late: bool,
) -> int:
    """Finish a job that was taken with dequeue. Without --error or --failed, the job succeeded.

    \b
    Examples:
      jobqueue conclude order-17 --lease 8f2c... --result '{"pages": 4}'
      jobqueue conclude order-17 --lease 8f2c... --error 'no such file' --text
    """
    failed = failed or error is not None
    if failed and result is not None:
        usage("--result is for a job that succeeded, --error and --failed are for one that did not")
    if no_retry and not failed:
        usage("--no-retry goes with --error or --failed")
    if late and failed:
        usage("--late is for a job that succeeded")
    if text and result is None and error is None:
        usage("--text goes with --result or --error")
    concluded = client.conclude(
        job_id,
        lease,
        "failed" if failed else "succeeded",
        result=None if result is None else given(result, "--result", text),
        error=None if error is None else given(error, "--error", text),
        retry=not no_retry,
        late=late,
    )
    if output.as_json:
        output.json(concluded)
    elif concluded.outcome is None:
        output.line(f"{concluded.id}  will be retried" + (f" at {stamp(concluded.run_at)}" if concluded.run_at else ""))
    else:
        output.line(f"{concluded.id}  {concluded.outcome.value}")
    return Exit.DONE
