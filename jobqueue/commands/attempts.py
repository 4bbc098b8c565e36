"""The command attempts: how the attempts at a job went."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from jobqueue.commands.options import verb
from jobqueue.commands.output import Column, Output
from jobqueue.commands.shapes import reason, since, stamp, state, status_style, utc_now
from jobqueue.model import Status

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import Job

COLUMNS = (
    Column("ATTEMPT", right=True),
    Column("STATE", style=status_style),
    Column("WORKER", keep=5, cut=24),
    Column("STARTED", keep=7),
    Column("TOOK", keep=6, right=True),
    Column("ERROR", keep=8, cut=40),
)


class _Attempt(NamedTuple):
    """An attempt as --json prints it. state: failed or lease_expired; the newest can also be in_progress, cancelling, succeeded or
    cancelled.
    """

    attempt: int
    state: str
    worker: str | None
    started_at: datetime | None
    ended_at: datetime | None
    error: Any
    traceback: str | None = None


@verb(
    "attempts",
    click.argument("job_id", metavar="ID"),
    click.option("--traceback", "traced", is_flag=True, help="Also print the traceback of each attempt that has one."),
)
def attempts_command(client: Client, output: Output, job_id: str, traced: bool) -> None:
    """List the attempts at a job, with the error of each failed attempt.

    The newest attempt is the one in progress, or the last one. Of the earlier attempts, the server keeps the most recent
    that failed or whose lease ran out.

    \b
    Examples:
      jobqueue attempts order-17
      jobqueue attempts order-17 --traceback
      jobqueue attempts order-17 --json | jq .error
    """
    found = _attempts(client.job(job_id))
    if output.as_json:
        for attempt in found:
            output.json(attempt._asdict())
        return
    now = utc_now()
    rows = [_row(attempt, now) for attempt in found]
    output.table(COLUMNS, rows, "no known attempts")
    if traced:
        _print_tracebacks(output, found)
    missing = found[0].attempt - 1 if found else 0
    if missing and output.terminal:
        output.note("earlier attempts are no longer known" if missing > 1 else "the earlier attempt is no longer known")


def _print_tracebacks(output: Output, found: list[_Attempt]) -> None:
    for attempt in found:
        if attempt.traceback is not None:
            output.line("")
            for line in (f"Attempt {attempt.attempt}:", *attempt.traceback.rstrip().split("\n")):
                output.line(line)


def _attempts(job: Job) -> list[_Attempt]:
    """The past attempts that the server keeps, and the newest, which is part of the job itself."""
    found = [_Attempt(one.attempt, one.ended, one.worker, one.started_at, one.ended_at, one.error, one.traceback) for one in job.past]
    newest = found[-1].attempt if found else 0
    if job.attempts > newest and job.started_at is not None and job.status in (Status.IN_PROGRESS, Status.CONCLUDED):
        found.append(_Attempt(job.attempts, state(job), job.worker, job.started_at, job.concluded_at, None))
    return found


def _row(attempt: _Attempt, now: datetime) -> tuple[str, ...]:
    return (
        str(attempt.attempt),
        attempt.state,
        attempt.worker or "",
        stamp(attempt.started_at),
        since(attempt.started_at, attempt.ended_at or now),
        reason(attempt.error),
    )
