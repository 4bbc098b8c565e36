"""The command history: what all queues, or one, counted and held over the last hour or day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobqueue.commands.options import verb
from jobqueue.commands.output import Column, Output
from jobqueue.commands.servers import brief
from jobqueue.commands.shapes import span as long

if TYPE_CHECKING:
    from jobqueue.client.history_types import History
    from jobqueue.client.sync_client import Client

_COLUMNS = (
    Column("TIME"),
    Column("IN", keep=9, right=True),
    Column("OUT", keep=9, right=True),
    Column("FAILED", keep=8, right=True),
    Column("ATTEMPTS FAILED", keep=4, right=True),
    Column("QUEUED", keep=9, right=True),
    Column("IN PROGRESS", keep=7, right=True),
    Column("OLDEST", keep=6, right=True),
    Column("PICKUP P50", keep=3, right=True),
    Column("PICKUP P95", keep=5, right=True),
    Column("TOOK P50", keep=2, right=True),
    Column("TOOK P95", keep=5, right=True),
)


@verb(
    "history",
    click.argument("queue", required=False),
    click.option("--day", is_flag=True, help="The last day by 5 min instead of the last hour by 10 s."),
    click.option("-n", "--limit", type=click.IntRange(1, 360), default=30, show_default=True, help="Only so many of the last steps."),
)
def history_command(client: Client, output: Output, queue: str | None, day: bool, limit: int) -> None:
    """Show the numbers of the last hour or day, of one queue or all queues.

    \b
    Examples:
      jobqueue history
      jobqueue history mail --day
      jobqueue history mail --day --limit 288 --json

    A row for each step with when it began: jobs that came in and went out and what failed in it, and how many were there at its end.
    """
    found = client.history(queue, span="day" if day else "hour", limit=limit)
    if output.as_json:
        output.json(found)
    else:
        output.table(_COLUMNS, _rows(found), "no samples yet: the first is taken within 10 s of the server's start")


def _rows(found: History) -> list[tuple[str, ...]]:
    """A row for each step that has samples."""
    counts = (found.enqueued, found.concluded, found.failed, found.attempts_failed, found.queued, found.in_progress)
    took = (found.pickup_p50_seconds, found.pickup_p95_seconds, found.duration_p50_seconds, found.duration_p95_seconds)
    rows = []
    for at, time in enumerate(found.times):
        if found.queued[at] is not None:
            oldest = found.oldest_seconds[at]
            rows.append(
                (
                    time.astimezone().strftime("%H:%M:%S"),
                    *(str(column[at]) for column in counts),
                    "" if oldest is None else long(oldest),
                    *("" if (seconds := column[at]) is None else brief(seconds) for column in took),
                )
            )
    return rows
