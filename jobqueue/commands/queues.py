"""The commands for queues: queues, pause, resume, purge, delete, stats."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from jobqueue.client.totals import Failures
from jobqueue.commands.exits import Exit
from jobqueue.commands.options import usage, verb
from jobqueue.commands.output import Output
from jobqueue.commands.servers import (
    MEMBER_COLUMNS,
    PARTITION_COLUMNS,
    cluster_fields,
    commit_fields,
    member_rows,
    partition_rows,
    server_fields,
    stats_of,
)
from jobqueue.commands.shapes import QUEUE_COLUMNS, counted, failed_lately, paused_since, queue_fields, queue_row, queue_state, utc_now
from jobqueue.errors import StorageUnavailable

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import Key, Queue, Stats


@verb("queues", click.argument("name", required=False))
def queues_command(client: Client, output: Output, name: str | None) -> None:
    """Show every queue, or one with its policy.

    STATE is paused; halted if jobs wait behind a failed job of their key; limited if limits or keys hold back at least half
    of the queued jobs; otherwise open. FAILING is how many attempts failed in the last 5 minutes. OLDEST is how long the next
    job has been waiting. ENQUEUED, SUCCEEDED and FAILED count since the queue was created; without --data or a store, since the
    server started. PAUSED is when the queue was paused, and by which token.

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
    output.acts = True
    for name in names:
        queue = change(name)
        if output.as_json:
            output.json(queue)
        else:
            output.line(f"{queue.name}  {queue_state(queue)}")
            if queue_state(queue) == "halted":
                output.note(f"some keys of {queue.name} stay halted by failed jobs; see `jobqueue keys {queue.name}`")


def _each_key(output: Output, names: tuple[str, ...], keys: tuple[str, ...], change: Callable[[str, str], Key]) -> None:
    if len(names) != 1:
        usage("with --key, give one queue")
    output.acts = True
    for asked in keys:
        key = change(names[0], asked)
        if output.as_json:
            output.json(key)
        else:
            output.line(f"{names[0]}  {key.key}  {'paused' if key.paused else 'open'}")


_NAMES: Any = click.argument("names", metavar="NAME...", nargs=-1, required=True)
_KEY: Any = click.option("-k", "--key", "keys", metavar="KEY", multiple=True, help="Only this key of the queue; can be repeated.")


@verb("pause", _NAMES, _KEY)
def pause_command(client: Client, output: Output, names: tuple[str, ...], keys: tuple[str, ...]) -> None:
    """Stop handing out jobs of queues, or of a key. New jobs are still accepted, and jobs in progress continue.

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

    With --key, this also lets a key continue that a failed job halted; that job stays failed. Without it, halted keys stay
    halted.

    \b
    Examples:
      jobqueue resume mail
      jobqueue resume mail --key acme
    """
    if keys:
        _each_key(output, names, keys, client.resume_key)
    else:
        _each(output, names, client.resume)


_YES: Any = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation (asked on a terminal only).")


def _sure(output: Output, yes: bool, what: Callable[[], str]) -> bool:
    """Whether to continue. Asks for confirmation on a terminal, unless --yes or --json is given."""
    return yes or output.as_json or not sys.stdin.isatty() or click.confirm(what(), err=True)


@verb("purge", click.argument("name"), click.option("--all", "every", is_flag=True, help="Cancel jobs in progress too."), _YES)
def purge_command(client: Client, output: Output, name: str, every: bool, yes: bool) -> int:
    """Cancel every job that waits in a queue. Jobs in progress continue.

    With --all they are cancelled too, and their workers learn it from the answer to their next request; also, halted keys continue, and
    unique keys that are held for a time become free.

    \b
    Examples:
      jobqueue purge mail --yes
      jobqueue purge mail --all
    """

    def what() -> str:
        queue = client.queue(name)
        count = queue.queued + queue.scheduled + (queue.in_progress if every else 0)
        return f"Cancel {counted(count, 'job')} of {name}?"

    if not _sure(output, yes, what):
        return Exit.ERROR
    count = client.purge(name, all=every)
    if output.as_json:
        output.json({"purged": count})
    else:
        output.line(f"{counted(count, 'job')} of {name} cancelled")
    return Exit.DONE


@verb("delete", click.argument("name"), click.option("--force", is_flag=True, help="Cancel its jobs and delete it."), _YES)
def delete_command(client: Client, output: Output, name: str, force: bool, yes: bool) -> int:
    """Delete a queue that has no live jobs, and its policy.

    With --force its jobs are cancelled first, including those in progress, as by purge --all. A job that is enqueued later
    creates a new queue.

    \b
    Examples:
      jobqueue delete mail
      jobqueue delete mail --force --yes
    """

    def what() -> str:
        queue = client.queue(name)
        return f"Cancel {counted(queue.queued + queue.scheduled + queue.in_progress, 'job')} of {name}, and delete it?"

    if force and not _sure(output, yes, what):
        return Exit.ERROR
    count = client.delete_queue(name, force=force)
    if output.as_json:
        output.json({"purged": count})
    else:
        output.line(f"{name} deleted" + (f", {counted(count, 'job')} cancelled" if force else ""))
    return Exit.DONE


@verb("stats")
def stats_command(client: Client, output: Output) -> None:
    """Show the server's jobs and totals, for all queues together.

    It also shows what failed in the last 1, 5 and 60 minutes, which queues are paused, the server's version, uptime, disk and memory,
    and what is near its bound. A restart does not reset the totals if jobs are kept with --data or in a store.

    With a store it also shows which server is the owner, the other servers, and the state of the links between them, as seen by the
    server that answers. While there is no owner, it can show only this.

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
    """found: None while the counts are not available."""
    storage, cluster, unavailable = (None, None, None) if stats is None else (stats.storage, stats.cluster, stats.unavailable)
    held = None if found is None else _held(found, stats)
    totals = None if found is None else {name: sum(getattr(queue.totals, name) for queue in found) for name in _TOTALS}
    paused = [queue for queue in found or () if queue.policy.paused]
    if output.as_json:
        counts = dict.fromkeys(("queues", *_HELD, "failures", "failed_jobs_forgotten")) if held is None else held
        names = None if found is None else [queue.name for queue in paused]
        server, bounds = (None, []) if stats is None else (stats.server, stats.bounds)
        told = {"storage": storage, "cluster": cluster, "unavailable": unavailable, "server": server, "bounds": bounds}
        output.json({**counts, "paused": names, "totals": totals, **told})
        return
    pairs = {**_shown(held or {}), **{f"{name} in all": count for name, count in (totals or {}).items()}}
    fields = [(name.replace("_", " "), f"{count:,}" if output.terminal else str(count)) for name, count in pairs.items()]
    fields += [("paused", _paused(queue)) for queue in paused[:_PAUSED_MAX]]
    if len(paused) > _PAUSED_MAX:
        fields.append(("paused", f"and {counted(len(paused) - _PAUSED_MAX, 'queue')} more"))
    fields += commit_fields(storage) + server_fields(stats)
    output.fields(fields)
    if cluster is None:
        return
    if fields:
        output.line("")
    output.fields(cluster_fields(cluster))
    output.line("")
    output.table(MEMBER_COLUMNS, member_rows(cluster), "no server says that it is there")
    if cluster.partitions:
        output.line("")
        output.table(PARTITION_COLUMNS, partition_rows(cluster), "")


def _held(found: list[Queue], stats: Stats | None) -> dict[str, Any]:
    """What is held and what failed recently, over all queues."""
    counts: dict[str, Any] = {"queues": len(found), **{name: sum(getattr(queue, name) for queue in found) for name in _HELD}}
    lately = {name: sum(getattr(queue.failures, name) for queue in found) for name in Failures.__struct_fields__}
    counts["failures"] = Failures(**lately)
    if stats is not None and stats.held is not None:
        counts["failed_jobs_forgotten"] = stats.held.failed_jobs_forgotten
    return counts


def _shown(held: dict[str, Any]) -> dict[str, int]:
    """The same, each count with its name for people."""
    found = dict(held)
    failures = found.pop("failures", None)
    return found if failures is None else {**found, **failed_lately(failures)}


def _paused(queue: Queue) -> str:
    return " ".join(filter(None, (queue.name, paused_since(queue.paused_at, queue.paused_by, utc_now()))))


_PAUSED_MAX = 5
"""The most paused queues that are listed by name."""

_HELD = ("queued", "scheduled", "in_progress", "waiters")
_TOTALS = (
    "enqueued",
    "dequeued",
    "redelivered",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
    "retried",
    "dead_lettered",
    "attempts_failed",
)
