"""The command errors: failed attempts, counted by error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobqueue.commands.options import verb
from jobqueue.commands.output import Column, Output
from jobqueue.commands.shapes import span, utc_now
from jobqueue.limits import Limits

if TYPE_CHECKING:
    from datetime import datetime

    from jobqueue.client.error_types import ErrorGroup
    from jobqueue.client.sync_client import Client

_LIMITS = Limits()

_COLUMNS = (
    Column("GROUP", keep=6),
    Column("QUEUE", keep=7, cut=24),
    Column("ATTEMPTS", right=True),
    Column("JOBS", keep=8, right=True),
    Column("FIRST", keep=3, right=True),
    Column("LAST", keep=5, right=True),
    Column("ERROR", cut=60),
)


@verb(
    "errors",
    click.argument("queue", metavar="QUEUE", required=False),
    click.option("-n", "--limit", type=click.IntRange(1, _LIMITS.page_jobs_max), metavar="N", help="List at most N groups. [default: 100]"),
)
def errors_command(client: Client, output: Output, queue: str | None, limit: int | None) -> None:
    """Count failed attempts by error, in one queue or all queues.

    Attempts whose errors have the same type and first line are one group; numbers and ids in that line are ignored. The group that
    failed most recently comes first. ATTEMPTS is how many attempts failed with this error, JOBS how many jobs failed for good; FIRST and
    LAST are how long ago.

    \b
    Examples:
      jobqueue errors
      jobqueue errors mail
      jobqueue list --queue mail --error-group 9dc2ff1b84732745
      jobqueue bulk retry --queue mail --error-group 9dc2ff1b84732745
    """
    found = client.errors(queue=queue, limit=limit)
    if output.as_json:
        for group in found:
            output.json(group)
        return
    now = utc_now()
    output.table(_COLUMNS, [_row(group, now) for group in found], "no failed attempts")


def told(group: ErrorGroup) -> str:
    """The error, on one line."""
    return ": ".join(filter(None, (group.type, group.line))) or "no error given"


def _row(group: ErrorGroup, now: datetime) -> tuple[str, ...]:
    ages = [span((now - at).total_seconds()) for at in (group.first_at, group.last_at)]
    return group.id, group.queue, str(group.attempts), str(group.jobs), *ages, told(group)
