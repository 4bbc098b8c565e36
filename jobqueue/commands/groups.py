"""The command group, which has subcommands: create, list, show, wait, close, cancel."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING

import click

from jobqueue.commands.exits import Exit
from jobqueue.commands.options import WAIT, usage, verb
from jobqueue.commands.output import Column, Output
from jobqueue.commands.payloads import read_payload
from jobqueue.commands.shapes import stamp, status_style
from jobqueue.model import DEFAULT_QUEUE

if TYPE_CHECKING:
    from jobqueue.client.group_types import Callback, GroupInfo
    from jobqueue.client.sync_client import Client

LOOK_SECONDS = 2.0
"""How often a wait checks the group while it shows its progress."""


@click.group("group")
def group_command() -> None:
    """Group jobs, and wait until all jobs of a group have ended.

    \b
    Examples:
      jobqueue group create map-7 --on-concluded '{"of": "map-7"}' --on-queue reduce
      jobqueue enqueue '{"part": 1}' --group map-7
      jobqueue group close map-7
      jobqueue group wait map-7
      jobqueue group cancel map-7
    """


def _state(group: GroupInfo) -> str:
    if not group.closed:
        return "open"
    return "concluded" if group.concluded else "closed"


def _callback(callback: Callback | None) -> str:
    if callback is None:
        return ""
    return f"{callback.state}  {callback.job or callback.problem or f'for queue {callback.queue}'}"


def _fields(group: GroupInfo) -> list[tuple[str, str]]:
    return [
        ("id", group.id),
        ("state", _state(group)),
        ("cancelled", "asked for" if group.cancel_requested else ""),
        ("queue", group.queue),
        ("created", stamp(group.created_at)),
        ("members", f"{group.members}, {group.ended} ended"),
        *((name, str(getattr(group, name))) for name in ("succeeded", "failed", "cancelled", "expired") if getattr(group, name)),
        ("on concluded", _callback(group.on_concluded)),
        ("on succeeded", _callback(group.on_succeeded)),
    ]


def _show(output: Output, group: GroupInfo) -> None:
    if output.as_json:
        output.json(group)
    else:
        output.fields(_fields(group))


COLUMNS = (
    Column("ID"),
    Column("STATE", keep=8, style=status_style),
    Column("MEMBERS", keep=7, right=True),
    Column("LIVE", keep=6, right=True),
    Column("SUCCEEDED", keep=5, right=True),
    Column("FAILED", keep=4, right=True),
    Column("QUEUE", keep=3, cut=12),
)


@verb(
    "create",
    click.argument("group_id", metavar="[ID]", required=False),
    click.option("-q", "--queue", default=DEFAULT_QUEUE, show_default=True, metavar="NAME", help="The queue that the group belongs to."),
    click.option("--on-concluded", metavar="PAYLOAD", help="Enqueue a job with this payload once all members have ended."),
    click.option("--on-succeeded", metavar="PAYLOAD", help="Enqueue a job with this payload once all members have succeeded."),
    click.option("--on-queue", default=DEFAULT_QUEUE, show_default=True, metavar="NAME", help="The queue of the callback jobs."),
    click.option("--on-type", metavar="NAME", help="The type of the callback jobs."),
)
def _create_command(
    client: Client, output: Output, group_id: str | None, queue: str, on_concluded: str | None, on_succeeded: str | None, on_queue: str,
    on_type: str | None,
) -> None:  # fmt: skip
    """Create a group, and print its id.

    Creating it again with the same id and options changes nothing.
    """
    if on_type is not None and on_concluded is None and on_succeeded is None:
        usage("--on-type goes with --on-concluded or --on-succeeded")
    from jobqueue.client.types import NewJob

    def job(payload: str | None) -> NewJob | None:
        return None if payload is None else NewJob(read_payload(payload, None, False), queue=on_queue, type=on_type)

    made = client.groups.create(group_id, queue=queue, on_concluded=job(on_concluded), on_succeeded=job(on_succeeded))
    if output.as_json:
        output.json(made)
    else:
        output.line(made.id)


@verb("list")
def _list_command(client: Client, output: Output) -> None:
    """List groups, by id.

    Lists the groups that are not concluded, and the most recent concluded ones.
    """
    found = client.groups.list()
    if output.as_json:
        for group in found:
            output.json(group)
    else:
        rows = [
            (group.id, _state(group), str(group.members), str(group.live), str(group.succeeded), str(group.failed), group.queue)
            for group in found
        ]
        output.table(COLUMNS, rows, "no groups; `jobqueue group create` makes one")


@verb("show", click.argument("group_id", metavar="ID"))
def _show_command(client: Client, output: Output, group_id: str) -> None:
    """Show a group: its members, how they ended, and what it enqueues."""
    _show(output, client.groups.get(group_id))


@verb(
    "wait",
    click.argument("group_id", metavar="ID"),
    click.option("--wait", type=WAIT, default=math.inf, help="How long to wait; or forever. [forever]"),
)
def _wait_command(client: Client, output: Output, group_id: str, wait: float) -> int:
    """Wait until a group has concluded.

    A group concludes when it is closed and all its members have ended. On a terminal a progress bar is shown. The exit code
    is 0 if all members succeeded, 4 if some did not, and 3 if the wait is over.
    """
    group = _watched(client, output, group_id, wait)
    _show(output, group)
    if not group.concluded:
        return Exit.NOTHING
    return Exit.DONE if group.succeeded == group.members else Exit.UNSUCCESSFUL


def _watched(client: Client, output: Output, group_id: str, wait: float) -> GroupInfo:
    if output.as_json or not sys.stderr.isatty():
        return client.groups.wait(group_id, wait)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    until = time.monotonic() + wait
    group = client.groups.get(group_id)
    with Progress(MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), console=output.errors, transient=True) as shown:
        task = shown.add_task("", total=group.members or None)
        while not group.concluded and (left := until - time.monotonic()) > 0:
            shown.update(task, completed=group.ended, total=group.members or None)
            group = client.groups.wait(group_id, min(LOOK_SECONDS, left))
    return group


@verb("close", click.argument("group_id", metavar="ID"))
def _close_command(client: Client, output: Output, group_id: str) -> None:
    """Close a group: no more jobs can join it.

    If all its members have ended, it concludes at once.
    """
    _show(output, client.groups.close(group_id))


@verb("cancel", click.argument("group_id", metavar="ID"))
def _cancel_command(client: Client, output: Output, group_id: str) -> None:
    """Close a group and cancel all its members."""
    _show(output, client.groups.cancel(group_id))


for _command in (_create_command, _list_command, _show_command, _wait_command, _close_command, _cancel_command):
    group_command.add_command(_command)
