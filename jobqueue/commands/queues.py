"""The verbs of queues: queues, pause, resume, purge, stats."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import verb
from jobqueue.commands.output import Output
from jobqueue.commands.shapes import QUEUE_COLUMNS, queue_fields, queue_row, utc_now

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import Queue


@verb("queues", click.argument("name", required=False))
def queues_command(client: Client, output: Output, name: str | None) -> None:
    """Show every queue, or one with its policy.

    OLDEST is how long the job that leaves next has been waiting. ENQUEUED, SUCCEEDED and FAILED count since the server started.

    \b
    Examples:
      jobqueue queues
      jobqueue queues mail
    """
    now = utc_now()
    if name is not None:
        queue = client.queue(name)
        if output.as_json:
            output.json(queue)
        else:
            output.fields(queue_fields(queue, now))
        return
    found = client.queues()
    if output.as_json:
        for queue in found:
            output.json(queue)
    else:
        output.table(QUEUE_COLUMNS, [queue_row(queue, now) for queue in found], "no queues; the first job makes one")


def _each(output: Output, names: tuple[str, ...], change: Callable[[str], Queue]) -> None:
    for name in names:
        queue = change(name)
        if output.as_json:
            output.json(queue)
        else:
            output.line(f"{queue.name}  {'paused' if queue.policy.paused else 'open'}")


@verb("pause", click.argument("names", metavar="NAME...", nargs=-1, required=True))
def pause_command(client: Client, output: Output, names: tuple[str, ...]) -> None:
    """Hand out nothing from queues; jobs are still accepted. Those in progress go on.

    \b
    Example:
      jobqueue pause mail
    """
    _each(output, names, client.pause)


@verb("resume", click.argument("names", metavar="NAME...", nargs=-1, required=True))
def resume_command(client: Client, output: Output, names: tuple[str, ...]) -> None:
    """Hand out from queues again.

    \b
    Example:
      jobqueue resume mail
    """
    _each(output, names, client.resume)


@verb("purge", click.argument("name"), click.option("-y", "--yes", is_flag=True, help="Do not ask. Only a terminal is asked anyway."))
def purge_command(client: Client, output: Output, name: str, yes: bool) -> int:
    """Cancel every job that waits in a queue. Those in progress go on.

    \b
    Example:
      jobqueue purge mail --yes
    """
    if not yes and not output.as_json and sys.stdin.isatty():
        queue = client.queue(name)
        if not click.confirm(f"Cancel {queue.queued + queue.scheduled} jobs of {name}?", err=True):
            return Exit.ERROR
    count = client.purge(name)
    if output.as_json:
        output.json({"purged": count})
    else:
        output.line(f"{count} jobs of {name} cancelled")
    return Exit.DONE


@verb("stats")
def stats_command(client: Client, output: Output) -> None:
    """Show what the server holds and did, in all queues. Totals count since the server started.

    \b
    Example:
      jobqueue stats --json | jq .totals.failed
    """
    found = client.queues()
    held = {name: sum(getattr(queue, name) for queue in found) for name in ("queued", "scheduled", "in_progress", "waiters")}
    kinds = ("enqueued", "dequeued", "redelivered", "succeeded", "failed", "cancelled", "expired", "retried")
    totals = {name: sum(getattr(queue.totals, name) for queue in found) for name in kinds}
    if output.as_json:
        output.json({"queues": len(found), **held, "totals": totals})
        return
    pairs = {"queues": len(found), **held, **{f"{name} in all": count for name, count in totals.items()}}
    output.fields((name.replace("_", " "), f"{count:,}" if output.terminal else str(count)) for name, count in pairs.items())
