"""The verbs of a worker by hand: dequeue and conclude."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import TIME, WAIT, usage, verb
from jobqueue.commands.output import Output
from jobqueue.commands.payloads import given
from jobqueue.commands.shapes import leased_fields, stamp
from jobqueue.limits import Limits
from jobqueue.model import DEFAULT_QUEUE

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import LeasedJob


@verb(
    "dequeue",
    click.option("-q", "--queue", "queues", multiple=True, metavar="NAME", help="A queue; several in order of preference. [default]"),
    click.option("--wait", type=WAIT, default="0", help="How long to wait for a job; or forever. [default: not at all]"),
    click.option("--lease", type=TIME, help="How long the lease holds; else as the job or its queue says."),
    click.option("-n", "--limit", type=click.IntRange(1, Limits().batch_jobs_max), metavar="N", help="Take at most N jobs. [default: 1]"),
    click.option("--worker", metavar="NAME", help="Who takes it; shown with the job."),
)
def dequeue_command(
    client: Client, output: Output, queues: tuple[str, ...], wait: float, lease: float | None, limit: int | None, worker: str | None
) -> int:
    """Take a job, waiting for one.

    The job is yours until its lease ends: conclude it by then. The exit code is 3 when the wait passed without a job.

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


@verb(
    "conclude",
    click.argument("job_id", metavar="ID"),
    click.option("--lease", required=True, metavar="TOKEN", help="The lease's token, as dequeue told it."),
    click.option("--result", metavar="JSON", help="The job succeeded with this result."),
    click.option("--error", metavar="JSON", help="The job failed with this error."),
    click.option("--failed", is_flag=True, help="The job failed; --error implies it."),
    click.option("--text", is_flag=True, help="The result or the error is a plain string, not JSON."),
    click.option("--no-retry", is_flag=True, help="The failure is final, whatever attempts are left."),
)
def conclude_command(
    client: Client, output: Output, job_id: str, lease: str, result: str | None, error: str | None, failed: bool, text: bool, no_retry: bool
) -> int:
    """Finish a job that was taken with dequeue. Without --error or --failed it succeeded.

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
    if text and result is None and error is None:
        usage("--text goes with --result or --error")
    concluded = client.conclude(
        job_id,
        lease,
        "failed" if failed else "succeeded",
        result=None if result is None else given(result, "--result", text),
        error=None if error is None else given(error, "--error", text),
        retry=not no_retry,
    )
    if output.as_json:
        output.json(concluded)
    elif concluded.outcome is None:
        output.line(f"{concluded.id}  is tried again" + (f" at {stamp(concluded.run_at)}" if concluded.run_at else ""))
    else:
        output.line(f"{concluded.id}  {concluded.outcome.value}")
    return Exit.DONE
