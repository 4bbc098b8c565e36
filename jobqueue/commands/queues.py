"""The verbs of queues: queues, pause, resume, purge, stats."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import usage, verb
from jobqueue.commands.output import Output
from jobqueue.commands.servers import MEMBER_COLUMNS, cluster_fields, commit_fields, member_rows, stats_of
from jobqueue.commands.shapes import QUEUE_COLUMNS, queue_fields, queue_row, queue_state, utc_now
from jobqueue.errors import StorageUnavailable

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import Key, Queue, Stats


@verb("queues", click.argument("name", required=False))
def queues_command(client: Client, output: Output, name: str | None) -> None:
    """Show every queue, or one with its policy.

    STATE is paused; halted where jobs stand behind a failed one of their key; limited where at least half of what is queued is held back
    by limits or keys; else open. OLDEST is how long the job that leaves next has been waiting. ENQUEUED, SUCCEEDED and FAILED count since
    the server started.

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
            output.line(f"{queue.name}  {queue_state(queue)}")
            if queue_state(queue) == "halted":
                output.note(f"keys of {queue.name} stay halted by failed jobs; `jobqueue keys {queue.name}` shows which")


def _each_key(output: Output, names: tuple[str, ...], keys: tuple[str, ...], change: Callable[[str, str], Key]) -> None:
    if len(names) != 1:
        usage("with --key, give one queue")
    for asked in keys:
        key = change(names[0], asked)
        if output.as_json:
            output.json(key)
        else:
            output.line(f"{names[0]}  {key.key}  {'paused' if key.paused else 'open'}")


_NAMES: Any = click.argument("names", metavar="NAME...", nargs=-1, required=True)
_KEY: Any = click.option("-k", "--key", "keys", metavar="KEY", multiple=True, help="Only this key of the queue; several may be given.")


@verb("pause", _NAMES, _KEY)
def pause_command(client: Client, output: Output, names: tuple[str, ...], keys: tuple[str, ...]) -> None:
    """Stop handing out jobs of queues, or of a key. New jobs are still accepted, and those in progress go on.

    \b
    Examples:
      jobqueue pause mail
      jobqueue pause mail --key acme
    """
    if keys:
        _each_key(output, names, keys, client.pause_key)
    else:
        _each(output, names, client.pause)


@verb("resume", _NAMES, _KEY)
def resume_command(client: Client, output: Output, names: tuple[str, ...], keys: tuple[str, ...]) -> None:
    """Hand out jobs of queues again, or of a key.

    With --key, a key that a failed job halts goes on too; that job stays failed. Without, halted keys stay halted.

    \b
    Examples:
      jobqueue resume mail
      jobqueue resume mail --key acme
    """
    if keys:
        _each_key(output, names, keys, client.resume_key)
    else:
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

    With a store, also who owns the queue, which servers are there, and what lies between them, as the server sees it that was asked.
    While no server owns the queue, that is all it can show.

    \b
    Examples:
      jobqueue stats
      jobqueue stats --json | jq .totals.failed
      jobqueue stats --url http://queue-2:8080
    """
    stats = stats_of(client)
    if stats is not None and stats.unavailable is not None:
        _show(output, None, stats)
        raise StorageUnavailable(stats.unavailable)
    _show(output, client.queues(), stats)


def _show(output: Output, found: list[Queue] | None, stats: Stats | None) -> None:
    """found: None while nobody can tell."""
    storage, cluster, unavailable = (None, None, None) if stats is None else (stats.storage, stats.cluster, stats.unavailable)
    held = None if found is None else {"queues": len(found), **{name: sum(getattr(queue, name) for queue in found) for name in _HELD}}
    totals = None if found is None else {name: sum(getattr(queue.totals, name) for queue in found) for name in _TOTALS}
    if output.as_json:
        counts = dict.fromkeys(("queues", *_HELD)) if held is None else held
        output.json({**counts, "totals": totals, "storage": storage, "cluster": cluster, "unavailable": unavailable})
        return
    pairs = {**(held or {}), **{f"{name} in all": count for name, count in (totals or {}).items()}}
    fields = [(name.replace("_", " "), f"{count:,}" if output.terminal else str(count)) for name, count in pairs.items()]
    fields += commit_fields(storage)
    output.fields(fields)
    if cluster is None:
        return
    if fields:
        output.line("")
    output.fields(cluster_fields(cluster))
    output.line("")
    output.table(MEMBER_COLUMNS, member_rows(cluster), "no server says that it is there")


_HELD = ("queued", "scheduled", "in_progress", "waiters")
_TOTALS = ("enqueued", "dequeued", "redelivered", "succeeded", "failed", "cancelled", "expired", "retried")
